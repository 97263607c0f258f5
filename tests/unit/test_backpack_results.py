from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from backpack_proto.decoding import decode_json
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.rest.results.market_data import (
    Asset,
    AssetToken,
    DepthSnapshot,
    MarkPriceRow,
    OpenInterestRow,
    SystemStatus,
    TickerRow,
    TradeRow,
)
from backpack_proto.streams.levels import Level

SAMPLES: list[tuple[bytes, Any]] = [
    (
        (
            b'{"firstPrice":"101.94","high":"103","lastPrice":"98.98","low":"97.38","priceChange":"-2.96",'
            b'"priceChangePercent":"-0.029032","quoteVolume":"1498114.9234","symbol":"SOL_USDC","trades":"6796","volume":"15089.56"}'
        ),
        TickerRow(
            symbol="SOL_USDC",
            first_price=Decimal("101.94"),
            last_price=Decimal("98.98"),
            high=Decimal(103),
            low=Decimal("97.38"),
            price_change=Decimal("-2.96"),
            price_change_fraction=Decimal("-0.029032"),
            volume=Decimal("15089.56"),
            quote_volume=Decimal("1498114.9234"),
            trade_count=6796,
        ),
    ),
    (
        b'{"id":10782547,"isBuyerMaker":true,"price":"3870.25","quantity":"0.0008","quoteQuantity":"3.0962","timestamp":1788285151083}',
        TradeRow(
            trade_id=10782547,
            price=Decimal("3870.25"),
            quantity=Decimal("0.0008"),
            quote_quantity=Decimal("3.0962"),
            timestamp_ms=1788285151083,
            buyer_is_maker=True,
        ),
    ),
    (
        b'{"id":null,"isBuyerMaker":false,"price":"1","quantity":"2","quoteQuantity":"2","timestamp":1}',
        TradeRow(price=Decimal(1), quantity=Decimal(2), quote_quantity=Decimal(2), timestamp_ms=1, buyer_is_maker=False),
    ),
    (
        (
            b'{"fundingRate":"-0.0000125","indexPrice":"98.94998504","markPrice":"98.94","nextFundingTimestamp":1788368400000,'
            b'"symbol":"SOL_USDC_PERP"}'
        ),
        MarkPriceRow(
            symbol="SOL_USDC_PERP",
            mark_price=Decimal("98.94"),
            index_price=Decimal("98.94998504"),
            funding_rate=Decimal("-0.0000125"),
            next_funding_ms=1788368400000,
        ),
    ),
    (
        b'{"fundingRate":null,"markPrice":"0.5","symbol":"X_PREDICTION"}',
        MarkPriceRow(symbol="X_PREDICTION", mark_price=Decimal("0.5")),
    ),
    (
        b'{"openInterest":"100.5","symbol":"SOL_USDC_PERP","timestamp":1788285151083}',
        OpenInterestRow(symbol="SOL_USDC_PERP", open_interest=Decimal("100.5"), timestamp_ms=1788285151083),
    ),
    (b'{"openInterest":null,"symbol":"X","timestamp":1}', OpenInterestRow(symbol="X", timestamp_ms=1)),
    (b'{"message":null,"status":"Ok"}', SystemStatus(state="Ok")),
    (b'{"message":"back at noon","status":"Maintenance"}', SystemStatus(state="Maintenance", message="back at noon")),
    (
        (
            b'{"coingeckoId":null,"displayName":"Solana","symbol":"SOL","tokens":[{"blockchain":"Solana","contractAddress":null,'
            b'"depositEnabled":true,"displayName":"SOL","maximumWithdrawal":null,"minimumDeposit":"0.01","minimumWithdrawal":"0.02",'
            b'"nativeDecimals":9,"withdrawEnabled":false,"withdrawalFee":"0.006"}]}'
        ),
        Asset(
            symbol="SOL",
            display_name="Solana",
            tokens=(
                AssetToken(
                    display_name="SOL",
                    blockchain="Solana",
                    deposit_enabled=True,
                    minimum_deposit=Decimal("0.01"),
                    withdraw_enabled=False,
                    minimum_withdrawal=Decimal("0.02"),
                    withdrawal_fee=Decimal("0.006"),
                    native_decimals=9,
                ),
            ),
        ),
    ),
]
each_sample = pytest.mark.parametrize(("body", "expected"), SAMPLES, ids=lambda value: type(value).__name__)


@each_sample
def test_a_row_reads_its_wire_form(body: bytes, expected: Any) -> None:
    assert decode_json(body, type(expected), "row") == expected


@each_sample
def test_members_nobody_knows_are_passed_over(body: bytes, expected: Any) -> None:
    assert decode_json(b'{"new":[null],' + body[1:], type(expected), "row") == expected


@each_sample
def test_a_row_without_a_required_member_is_refused(body: bytes, expected: Any) -> None:
    for member in msgspec.structs.fields(expected):
        if member.required:
            rest = msgspec.json.decode(body)
            del rest[member.encode_name]
            with pytest.raises(RemoteProtocolError, match=member.encode_name):
                decode_json(msgspec.json.encode(rest), type(expected), "row")


def test_a_side_with_fewer_levels_than_asked_for_is_known_to_be_complete() -> None:
    level = Level(1, 1)
    depth = DepthSnapshot(symbol="X", limit=5, last_update_id=1, engine_us=1, bids=(level,) * 5, asks=(level,))
    assert depth.limit is not None
    assert [len(side) < depth.limit for side in (depth.bids, depth.asks)] == [False, True]

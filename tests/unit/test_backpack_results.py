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
    SystemStatus,
)
from backpack_proto.streams.levels import Level

SAMPLES: list[tuple[bytes, Any]] = [
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

"""What callbacks are given: every channel's objects, made of recorded frames and compared as values."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from backpack_proto.account import values as holdings
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.frames import Frame, decode_frame
from backpack_proto.streams.names import parse_stream
from backpack_proto.streams.payloads import BalanceUpdate, Event, Kline, OrderFill
from backpack_runtime.cryptofeed import BalanceInfo, FillInfo, OrderInfo, PositionInfo
from backpack_runtime.cryptofeed.native import conversion
from payload_table import FRAMES

SOL = "SOL-USDC"
Make = Callable[[Any, str, dict[str, Any]], Any]


def payload(stream: str, kind: str) -> tuple[Event, dict[str, Any]]:
    """A recorded payload, decoded and as plain values."""
    (found, *_) = (line for line in FRAMES if f'"e":"{kind}"'.encode() in line and f'"stream":"{stream}"'.encode() in line)
    frame = decode_frame(found)
    assert isinstance(frame, Frame)
    assert frame.payload is not None
    return frame.payload, json.loads(found)["data"]


ORDERS = "account.orderUpdate"
POSITIONS = "account.positionUpdate"
CASES: list[tuple[str, str, Make, dict[str, Any]]] = [
    (
        "trade.SOL_USDC",
        "trade",
        conversion.trade,
        {
            "side": "sell",
            "amount": Decimal("0.35"),
            "price": Decimal("143.29"),
            "id": "41399812",
            "type": None,
            "timestamp": 1795012402.744398,
        },
    ),
    (
        "bookTicker.SOL_USDC",
        "bookTicker",
        conversion.ticker,
        {"bid": Decimal("143.29"), "ask": Decimal("143.31"), "timestamp": 1795012401.309655},
    ),
    (
        "bookTicker.SOL_USDC",
        "bookTicker",
        conversion.l1_book,
        {
            "bid_price": Decimal("143.29"),
            "bid_size": Decimal("7.50"),
            "ask_price": Decimal("143.31"),
            "ask_size": Decimal("18.25"),
            "timestamp": 1795012401.309655,
        },
    ),
    (
        "kline.1m.SOL_USDC",
        "kline",
        conversion.candle,
        {
            "start": 1795012380.0,
            "stop": 1795012440.0,
            "interval": "1m",
            "trades": 4,
            "open": Decimal("143.26"),
            "close": Decimal("143.28"),
            "high": Decimal("143.310000000"),
            "low": Decimal("143.25"),
            "volume": Decimal("27.83"),
            "closed": False,
            "timestamp": 1795012402.020731,
        },
    ),
    (
        "markPrice.SOL_USDC_PERP",
        "markPrice",
        conversion.funding,
        {
            "mark_price": Decimal("143.27"),
            "rate": Decimal("-0.0000083"),
            "next_funding_time": 1795014000.0,
            "predicted_rate": None,
            "timestamp": 1795012403.42198,
        },
    ),
    ("markPrice.SOL_USDC_PERP", "markPrice", conversion.index, {"price": Decimal("143.26114"), "timestamp": 1795012403.42198}),
    (
        "openInterest.SOL_USDC_PERP",
        "openInterest",
        conversion.open_interest,
        {"open_interest": Decimal("48211.7"), "timestamp": 1795012440.001944},
    ),
    (
        "liquidation",
        "liquidation",
        conversion.liquidation,
        {
            "side": "sell",
            "quantity": Decimal(35),
            "price": Decimal("142.1"),
            "id": None,
            "status": "filled",
            "timestamp": 1795012441.65429,
        },
    ),
    (
        ORDERS,
        "orderAccepted",
        conversion.order_info,
        {
            "timestamp": 1795012450.06299,
            "id": "61200460115",
            "side": "buy",
            "status": "open",
            "type": "limit",
            "price": Decimal("141.50"),
            "amount": Decimal(15),
            "remaining": Decimal(15),
            "client_order_id": "4294967295",
            "account": None,
        },
    ),
    (
        f"{ORDERS}.ETH_USDC",
        "orderFill",
        conversion.order_info,
        {
            "timestamp": 1795012452.174711,
            "id": "6120046020",
            "side": "buy",
            "status": "filled",
            "type": "market",
            "price": None,
            "amount": Decimal("0.0020"),
            "remaining": Decimal(0),
            "client_order_id": None,
            "account": None,
        },
    ),
    (
        f"{ORDERS}.ETH_USDC",
        "orderFill",
        conversion.fill,
        {
            "timestamp": 1795012452.174711,
            "side": "buy",
            "amount": Decimal("0.0020"),
            "price": Decimal("3104.12"),
            "fee": Decimal("0.000002"),
            "fee_currency": "ETH",
            "id": "3104477",
            "order_id": "6120046020",
            "type": "market",
            "liquidity": "taker",
            "account": None,
        },
    ),
    (
        POSITIONS,
        "positionOpened",
        conversion.position,
        {
            "timestamp": 1795012460.182042,
            "position": Decimal("0.0050"),
            "entry_price": Decimal("3098.40"),
            "side": "long",
            "unrealised_pnl": Decimal("0.02855"),
        },
    ),
    (
        POSITIONS,
        "positionClosed",
        conversion.position,
        {
            "timestamp": 1795012463.18204,
            "position": Decimal(0),
            "entry_price": Decimal("3098.40"),
            "side": None,
            "unrealised_pnl": Decimal(0),
        },
    ),
]


@pytest.mark.parametrize(("stream", "kind", "make", "expected"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_a_recorded_payload_becomes_the_object_of_its_channel(
    stream: str, kind: str, make: Make, expected: dict[str, Any]
) -> None:
    known, raw = payload(stream, kind)
    found = make(known, SOL, raw)
    assert found.to_dict() == {"exchange": "BACKPACK", "symbol": SOL} | expected
    assert found.raw == raw
    assert type(found.timestamp) is float


def test_every_conversion_of_a_payload_has_a_case() -> None:
    made = {make.__name__ for _, _, make, _ in CASES} | {"balance_update"}
    assert made == {name for name in conversion.__all__ if not name.startswith("reconciled_") and name != "balance"}


def test_every_channel_of_cryptofeed_has_its_conversion_and_every_conversion_its_channel() -> None:
    made: dict[Channel, set[str]] = {Channel.DEPTH: {"the session's book"}, Channel.BALANCE_UPDATE: {"balance_update"}}
    for stream, _, make, _ in CASES:
        made.setdefault(parse_stream(stream).channel, set()).add(make.__name__)
    wanted = {channel: len(channel.traits.cryptofeed) for channel in Channel if channel.traits.cryptofeed}
    assert {channel: len(makes) for channel, makes in made.items()} == wanted


def test_a_balance_is_filed_under_its_asset() -> None:
    known, raw = payload("account.balanceUpdate", "balanceUpdate")
    assert isinstance(known, BalanceUpdate)
    assert conversion.balance_update(known, raw) == BalanceInfo(
        exchange="BACKPACK",
        symbol="USDC",
        currency="USDC",
        balance=Decimal(250),
        reserved=Decimal(75),
        timestamp=1795012464.062993,
        raw=raw,
    )


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("orderAccepted", "open"),
        ("orderCancelled", "cancelled"),
        ("orderExpired", "expired"),
        ("orderModified", "open"),
        ("triggerPlaced", "pending"),
        ("triggerFailed", "failed"),
    ],
)
def test_states_of_orders_have_cryptofeed_s_names(kind: str, status: str) -> None:
    known, raw = payload(ORDERS, kind)
    assert conversion.order_info(known, SOL, raw).status == status  # type: ignore[arg-type]  # of that kind


@pytest.mark.parametrize(
    ("stream", "kind", "make"),
    [
        ("bookTicker.AAPL.US_USDC_PERP", "bookTicker", conversion.ticker),
        ("bookTicker.AAPL.US_USDC_PERP", "bookTicker", conversion.l1_book),
        ("kline.1month.AAPL.US_USDC_PERP", "kline", conversion.candle),
        ("markPrice.FDVEXTD1B_USDC_PREDICTION", "markPrice", conversion.funding),
        ("markPrice.FDVEXTD1B_USDC_PREDICTION", "markPrice", conversion.index),
    ],
)
def test_what_cryptofeed_has_no_way_to_say_is_no_object(stream: str, kind: str, make: Make) -> None:
    known, raw = payload(stream, kind)
    assert make(known, SOL, raw) is None


def test_a_fill_without_its_members_is_no_object() -> None:
    known, raw = payload(f"{ORDERS}.ETH_USDC", "orderFill")
    assert isinstance(known, OrderFill)
    assert conversion.fill(msgspec.structs.replace(known, fill_quantity=None), SOL, raw) is None
    assert conversion.fill(msgspec.structs.replace(known, fill_price=None), SOL, raw) is None


def test_a_fill_without_a_trade_id_or_a_side_of_the_book_is_one() -> None:
    known, raw = payload(f"{ORDERS}.ETH_USDC", "orderFill")
    assert isinstance(known, OrderFill)
    found = conversion.fill(msgspec.structs.replace(known, trade_id=None, maker=None, fee=None), SOL, raw)
    assert found is not None
    assert (found.id, found.liquidity, found.fee) == (None, None, None)


def a_candle(**changes: Any) -> Kline:
    known, _ = payload("kline.1m.SOL_USDC", "kline")
    assert isinstance(known, Kline)
    return msgspec.structs.replace(known, **changes)


def test_a_candle_has_cryptofeed_s_name_of_its_interval() -> None:
    monthly = conversion.candle(
        a_candle(interval="1month", start_us=1_793_491_200_000_000, end_us=1_796_083_200_000_000), SOL, {}
    )
    assert monthly is not None
    assert (monthly.interval, monthly.start, monthly.stop) == ("1M", 1793491200.0, 1796083200.0)


def test_what_rest_tells_is_told_alike() -> None:
    filled = holdings.Fill(
        symbol="SOL_USDC",
        trade_id=5,
        order_id="7",
        side="Ask",
        price=Decimal("99.1"),
        quantity=Decimal(2),
        fee=Decimal("0.1"),
        fee_asset="",
        maker=True,
        filled_us=1_795_012_452_174_000,
    )
    assert conversion.reconciled_fill(filled, SOL) == FillInfo(
        exchange="BACKPACK",
        symbol=SOL,
        side="sell",
        amount=Decimal(2),
        price=Decimal("99.1"),
        fee=Decimal("0.1"),
        fee_currency=None,
        id="5",
        order_id="7",
        type=None,
        liquidity="maker",
        timestamp=1795012452.174,
        raw={},
    )
    held = holdings.Position(symbol="S", net_quantity=Decimal(-2), entry_price=Decimal(9), break_even_price=Decimal(8))
    assert conversion.reconciled_position(held, SOL, 3.0) == PositionInfo(
        exchange="BACKPACK",
        symbol=SOL,
        position=Decimal(-2),
        entry_price=Decimal(9),
        side="short",
        unrealised_pnl=None,
        timestamp=3.0,
    )
    balance = holdings.Balance(asset="SOL", available=Decimal(1), locked=Decimal(2), staked=Decimal(3))
    assert conversion.balance(balance, 3.0).to_dict(numeric_type=str) == {
        "exchange": "BACKPACK",
        "symbol": "SOL",
        "timestamp": 3.0,
        "currency": "SOL",
        "balance": "1",
        "reserved": "2",
    }


AN_ORDER = OrderInfo(
    exchange="BACKPACK",
    symbol=SOL,
    id="1",
    side="buy",
    status="open",
    type=None,
    price=None,
    amount=Decimal("0.10"),
    remaining=None,
    timestamp=2.5,
    raw={"q": "0.10"},
)


def test_a_record_becomes_a_dict_as_backends_ask_for_it() -> None:
    assert AN_ORDER.to_dict()["amount"] == Decimal("0.10")
    assert AN_ORDER.to_dict(numeric_type=float) == {
        "exchange": "BACKPACK",
        "symbol": SOL,
        "timestamp": 2.5,
        "id": "1",
        "side": "buy",
        "status": "open",
        "type": None,
        "price": None,
        "amount": 0.1,
        "remaining": None,
        "client_order_id": None,
        "account": None,
    }
    nulls = AN_ORDER.to_dict(numeric_type=str, none_to="null")
    assert (nulls["price"], nulls["type"], nulls["amount"]) == ("null", "null", "0.10")
    assert AN_ORDER.to_dict(none_to=None) == AN_ORDER.to_dict()


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        AN_ORDER.status = "filled"  # type: ignore[misc]  # that is the point


@given(
    amount=st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=12),
    price=st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=12),
)
def test_any_record_is_json_for_a_backend_and_exact_as_text(amount: Decimal | None, price: Decimal | None) -> None:
    order = msgspec.structs.replace(AN_ORDER, amount=amount, price=price)
    assert json.loads(json.dumps(order.to_dict(numeric_type=float, none_to=None)))["symbol"] == SOL
    text = order.to_dict(numeric_type=str)
    assert [None if text[name] is None else Decimal(text[name]) for name in ("amount", "price")] == [amount, price]

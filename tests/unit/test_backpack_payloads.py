"""Every frame of the payload table becomes its value. And the spellings that sources disagree on."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.streams.channels import Channel
from backpack_proto.streams.frames import Drop, Frame, FrameDropped, decode_frame
from backpack_proto.streams.names import parse_stream
from backpack_proto.streams.payloads import (
    BookTicker,
    Depth,
    Kline,
    OrderAccepted,
    OrderCancelled,
    OrderFill,
    OrderModified,
    OrderUpdate,
    Payload,
    PositionAdjusted,
    PositionOpened,
    PositionSnapshot,
    PositionUpdate,
    RfqAccepted,
    RfqActive,
    RfqUpdate,
    Trade,
)
from hypothesis_profiles import examples
from payload_table import FRAMES, PAYLOADS

D = Decimal
every_row = pytest.mark.parametrize(
    ("line", "expected"), PAYLOADS, ids=[f"{type(payload).__name__}-{row}" for row, (_, payload) in enumerate(PAYLOADS)]
)


def only(data: bytes) -> Payload:
    """The one payload of a frame, whether or not it came as the first message of a position stream."""
    decoded = decode_frame(data)
    frame = decoded[0] if isinstance(decoded, tuple) else decoded
    assert isinstance(frame, Frame), decoded
    assert frame.payload is not None
    return frame.payload


def first_of(kind: type[Payload]) -> dict[str, Any]:
    """The first row of a kind, as JSON."""
    for line, payload in PAYLOADS:
        if type(payload) is kind:
            frame: dict[str, Any] = json.loads(line)
            return frame
    raise AssertionError(kind)


def changed(kind: type[Payload], **members: object) -> bytes:
    """A row with other members. `...` takes one away."""
    frame = first_of(kind)
    data = frame["data"] | members
    frame["data"] = {name: value for name, value in data.items() if value is not ...}
    return json.dumps(frame).encode()


def test_every_payload_class_and_every_channel_has_a_row() -> None:
    assert {type(payload) for _, payload in PAYLOADS} == set(Payload.__args__)
    assert {parse_stream(json.loads(line)["stream"]).channel for line in FRAMES} == set(Channel)


@every_row
def test_a_frame_becomes_its_value(line: bytes, expected: Payload) -> None:
    frame = Frame(expected, json.loads(line)["stream"])
    decoded = decode_frame(line)
    assert decoded == ((frame,) if isinstance(expected, PositionSnapshot) else frame)
    read = only(line)
    assert type(read) is type(expected)
    for name in read.__struct_fields__:
        # Equal is not enough: 1 == 1.0 == Decimal("1.00").
        one, other = getattr(read, name), getattr(expected, name)
        assert (type(one), str(one)) == (type(other), str(other)), name


@every_row
@examples(15)
@given(data=st.data())
def test_members_come_in_any_order(line: bytes, expected: Payload, data: st.DataObject) -> None:
    # Decimals stay the digits that they are.
    frame = json.loads(line, parse_float=lambda digits: f"<{digits}>")
    inner = frame["data"] = dict(data.draw(st.permutations(list(frame["data"].items()))))
    envelope = dict(data.draw(st.permutations([("data", inner), ("stream", frame["stream"])])))
    text = json.dumps(envelope).replace('"<', "").replace('>"', "")
    assert only(text.encode()) == expected


@every_row
def test_unknown_members_are_passed_over(line: bytes, expected: Payload) -> None:
    more = line.replace(b'{"data":{', b'{"new":[{}],"data":{"zz":{"deep":[1,null,"x"]},"new":1.5,')
    more = more.removesuffix(b"}") + b',"id":null}'
    assert only(more) == expected


@every_row
def test_decimals_may_come_as_numbers_and_integers_as_strings(line: bytes, expected: Payload) -> None:
    frame = json.loads(line, parse_float=str)
    decimals = {
        field.encode_name
        for field in msgspec.structs.fields(type(expected))
        if field.type in {Decimal, Decimal | None} and isinstance(frame["data"].get(field.encode_name), str | int)
    }
    integers = {
        field.encode_name
        for field in msgspec.structs.fields(type(expected))
        if field.type in {int, int | None} and isinstance(frame["data"].get(field.encode_name), str | int)
    }
    for name in decimals:
        frame["data"][name] = f"<{frame['data'][name]}>"
    for name in integers:
        frame["data"][name] = str(frame["data"][name])
    for side in ("a", "b") if isinstance(expected, Depth) else ():
        frame["data"][side] = [[f"<{number}>" for number in level] for level in frame["data"][side]]
    text = json.dumps(frame).replace('"<', "").replace('>"', "")
    assert only(text.encode()) == expected


@pytest.mark.parametrize("spelling", [61200461942, "61200461942"])
def test_ids_may_come_as_numbers_or_strings(spelling: object) -> None:
    accepted = only(changed(OrderAccepted, i=spelling, I=spelling, H=spelling))
    assert isinstance(accepted, OrderUpdate)
    assert (accepted.order_id, accepted.related_order_id, accepted.strategy_id) == ("61200461942",) * 3
    trade = only(changed(Trade, a=spelling, b=spelling))
    assert isinstance(trade, Trade)
    assert (trade.buyer_order_id, trade.seller_order_id) == ("61200461942",) * 2
    ticker = only(changed(BookTicker, u=spelling))
    assert isinstance(ticker, BookTicker)
    assert ticker.update_id == 61200461942
    position = only(changed(PositionOpened, i=spelling))
    assert isinstance(position, PositionUpdate)
    assert position.position_id == 61200461942
    rfq = only(changed(RfqAccepted, C=spelling, R=spelling, u=spelling))
    assert isinstance(rfq, RfqUpdate)
    assert (rfq.client_id, rfq.rfq_id, rfq.quote_id) == (61200461942,) * 3


def test_an_id_that_is_no_string_in_the_documents_may_be_any_text() -> None:
    accepted = only(changed(OrderAccepted, I="a-b-c", H="0x1f"))
    assert isinstance(accepted, OrderUpdate)
    assert (accepted.related_order_id, accepted.strategy_id) == ("a-b-c", "0x1f")


@pytest.mark.parametrize("value", [True, 1.5, [], {}, ["1"]])
def test_an_id_is_a_string_or_an_integer(value: object) -> None:
    dropped = decode_frame(changed(OrderAccepted, i=value))
    assert isinstance(dropped, FrameDropped)
    assert dropped.reason is Drop.MALFORMED
    assert "$.data.i" in str(dropped.error)


@pytest.mark.parametrize("kind", [OrderAccepted, OrderFill, OrderCancelled])
def test_what_is_optional_may_be_null_or_missing(kind: type[Payload]) -> None:
    optional = [
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if not field.required and field.encode_name.strip() == field.encode_name
    ]
    bare = only(changed(kind, **dict.fromkeys(optional, ...)))
    null = only(changed(kind, **dict.fromkeys(optional, None)))
    assert bare == null
    assert isinstance(bare, OrderUpdate)
    assert (bare.client_id, bare.price, bare.trade_id, bare.reduce_only, bare.related_order_id) == (None,) * 5


@pytest.mark.parametrize(
    ("kind", "members"),
    [(kind, "ofZVOqQpryt") for kind in (OrderAccepted, OrderFill, OrderCancelled)] + [(PositionAdjusted, "iMQnpPfm")],
)
def test_an_account_update_may_lack_what_the_ledger_can_do_without(kind: type[Payload], members: str) -> None:
    for member in members:
        assert isinstance(only(changed(kind, **{member: ...})), kind)
    assert isinstance(only(changed(kind, **dict.fromkeys(members, ...))), kind)


@pytest.mark.parametrize("kind", [type(payload) for _, payload in PAYLOADS if not isinstance(payload, PositionSnapshot)])
def test_what_is_required_may_not_be_missing(kind: type[Payload]) -> None:
    for field in msgspec.structs.fields(kind):
        if field.required:
            dropped = decode_frame(changed(kind, **{field.encode_name: ...}))
            assert isinstance(dropped, FrameDropped)
            assert dropped.reason is Drop.MALFORMED
            assert f"`{field.encode_name}`" in str(dropped.error)


def test_words_of_open_lists_are_taken_as_they_come() -> None:
    modified = only(changed(OrderModified, X="Exploded", o="ICEBERG", f="GTD", V="Decrement", O="MOON", R="Bored", B="Dice"))
    assert isinstance(modified, OrderUpdate)
    assert (modified.state, modified.order_type, modified.time_in_force) == ("Exploded", "ICEBERG", "GTD")
    assert (modified.self_trade_prevention, modified.origin) == ("Decrement", "MOON")
    assert (modified.expiry_reason, modified.trigger_by) == ("Bored", "Dice")
    rfq = only(changed(RfqActive, X="Paused", S="Both", o="Auto"))
    assert isinstance(rfq, RfqUpdate)
    assert (rfq.state, rfq.side, rfq.system_order_type) == ("Paused", "Both", "Auto")


@pytest.mark.parametrize("none", [{"a": None, "A": None}, {"b": None, "B": None}, {"a": None, "A": None, "b": None, "B": None}])
def test_an_empty_side_of_a_ticker_has_no_price(none: dict[str, None]) -> None:
    ticker = only(changed(BookTicker, **none))
    assert isinstance(ticker, BookTicker)
    read = {"a": ticker.ask_price, "A": ticker.ask_quantity, "b": ticker.bid_price, "B": ticker.bid_quantity}
    assert {name for name, value in read.items() if value is None} == set(none)


@pytest.mark.parametrize("number", ["NaN", "-NaN", "sNaN", "nan123", "Infinity", "-Infinity", "inf"])
@pytest.mark.parametrize("kind", [type(payload) for _, payload in PAYLOADS if not isinstance(payload, Depth)])
def test_a_number_that_is_invalid_makes_a_frame_malformed(kind: type[Payload], number: str) -> None:
    fields = [field for field in msgspec.structs.fields(kind) if field.type in {Decimal, Decimal | None}]
    assert fields
    for field in fields:
        dropped = decode_frame(changed(kind, **{field.encode_name: number}))
        assert isinstance(dropped, FrameDropped)
        assert dropped.reason is Drop.MALFORMED
        assert f"{field.name} is not a usable number" in str(dropped.error)


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize(
    "level",
    [
        ["NaN", "1"],
        ["1", "NaN"],
        ["sNaN", "1"],
        ["1", "-NaN"],
        ["Infinity", "1"],
        ["1", "Infinity"],
        ["-1", "1"],
        ["1", "-1"],
        ["0", "1"],
        ["0.00", "0"],
        ["1"],
        ["1", "2", "3"],
        [],
        ["", "1"],
        ["one", "1"],
        [None, "1"],
        ["1", None],
        "12",
        None,
        {"1": "2"},
    ],
)
def test_a_level_is_a_positive_price_and_a_quantity(side: str, level: object) -> None:
    dropped = decode_frame(changed(Depth, **{side: [["143.29", "1"], level]}))
    assert isinstance(dropped, FrameDropped)
    assert (dropped.reason, dropped.stream) == (Drop.MALFORMED, "depth.SOL_USDC")


@pytest.mark.parametrize(
    "members", [{"U": 7, "u": 6}, {"U": 1.5}, {"u": "x"}, {"U": None}, {"U": True}, {"a": None}, {"b": {}}]
)
def test_a_delta_covers_ids_in_their_order(members: dict[str, object]) -> None:
    dropped = decode_frame(changed(Depth, **members))
    assert isinstance(dropped, FrameDropped)
    assert dropped.reason is Drop.MALFORMED


def test_candles_have_times_of_text() -> None:
    # The official client types them as seconds, which is stale (docs/protocol.md 4.4).
    assert isinstance(decode_frame(changed(Kline, t=1795012380, T=1795012440)), FrameDropped)
    assert isinstance(decode_frame(changed(Kline, t="1795012380000", T="1795012440000")), FrameDropped)
    candle = only(changed(Kline, t="2026-11-18T14:33:00", T="2026-11-18T14:34:00"))
    assert isinstance(candle, Kline)
    assert (candle.start_us, candle.end_us) == (1_795_012_380_000_000, 1_795_012_440_000_000)


@pytest.mark.parametrize("text", ["", "soon", "2026-13-18T14:33:00", "x" * 10_000])
def test_a_candle_whose_time_cannot_be_read_is_malformed_and_shows_little_of_it(text: str) -> None:
    dropped = decode_frame(changed(Kline, t=text))
    assert isinstance(dropped, FrameDropped)
    assert dropped.reason is Drop.MALFORMED
    assert "$.data.t" in str(dropped.error)
    assert len(str(dropped.error)) < 120


def test_payloads_are_values() -> None:
    for line, payload in PAYLOADS:
        assert only(line) == payload
        assert hash(only(line)) == hash(payload)
        with pytest.raises(AttributeError):
            payload.emitted_us = 0  # type: ignore[misc]

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.streams.channels import KLINE_INTERVALS
from backpack_proto.streams.frames import (
    Drop,
    ErrorFrame,
    Frame,
    FrameDropped,
    decode_frame,
    dropped,
    subscribe_text,
    unsubscribe_text,
)
from backpack_proto.streams.payloads import Kline, PositionSnapshot
from hypothesis_profiles import examples
from payload_table import FRAMES

DEPTH = (
    b'{"data":{"E":1,"T":1,"U":5,"a":[["143.29","1.00"]],"b":[],"e":"depth","s":"SOL_USDC","u":5},"stream":"depth.SOL_USDC"}'
)
KLINE = (
    b'{"data":{"E":1,"e":"kline","s":"X","T":"2026-11-18T14:34:00","X":false,"c":"1","h":"1","l":"1","n":4,"o":"1",'
    b'"t":"2026-11-18T14:33:00","v":"1"},"stream":"STREAM"}'
)
POSITION = (
    b'{"B":"3098.40","E":2,"M":"3104.11","P":"0.02","Q":"0.5","T":1,"b":"3100.075","f":"0.02","i":7,"m":"0.0125",'
    b'"n":"15.5","p":"0","q":"-0.50","s":"ETH_USDC_PERP"}'
)


def decode_dropped(data: bytes) -> FrameDropped:
    decoded = decode_frame(data)
    assert isinstance(decoded, FrameDropped), decoded
    return decoded


def position_frame(data: bytes, stream: bytes = b"account.positionUpdate") -> bytes:
    return b'{"data":' + data + b',"stream":"' + stream + b'"}'


# What a client sends.


def test_a_subscription_names_its_streams() -> None:
    assert subscribe_text(["depth.SOL_USDC", "trade.AAPL.US_USDC_PERP"]) == (
        '{"method":"SUBSCRIBE","params":["depth.SOL_USDC","trade.AAPL.US_USDC_PERP"]}'
    )


def test_a_private_subscription_carries_four_strings() -> None:
    assert subscribe_text(("account.orderUpdate",), ("key", "sig=", "1795012345000", "5000")) == (
        '{"method":"SUBSCRIBE","params":["account.orderUpdate"],"signature":["key","sig=","1795012345000","5000"]}'
    )


def test_nothing_is_signed_to_unsubscribe() -> None:
    assert unsubscribe_text(["account.orderUpdate", "depth.SOL_USDC"]) == (
        '{"method":"UNSUBSCRIBE","params":["account.orderUpdate","depth.SOL_USDC"]}'
    )


# What the exchange answers.


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"id":null,"error":{"code":4006,"message":"Invalid stream"}}', ErrorFrame(4006, "Invalid stream")),
        (b'{"error":{"message":"Invalid signature","code":4003},"id":null}', ErrorFrame(4003, "Invalid signature")),
        (b'{"error":{"code":"4002","message":"Parse error","more":[]}}', ErrorFrame(4002, "Parse error")),
    ],
)
def test_an_error_frame_is_read(data: bytes, error: ErrorFrame) -> None:
    assert decode_frame(data) == error


@pytest.mark.parametrize(
    "error", ['{"code":4006}', '{"message":"Invalid stream"}', '{"code":"INVALID","message":""}', "{}", "[]", '"error"', "4006"]
)
def test_an_error_frame_of_another_shape_is_dropped(error: str) -> None:
    assert decode_dropped(f'{{"id":null,"error":{error}}}'.encode()).reason is Drop.MALFORMED


# Why a frame is dropped.


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"nope",
        b"NaN",
        b"<html>",
        b"{'data':1}",
        b"\xff\xfe",
        b"\x00",
        b"\xef\xbb\xbf" + DEPTH,
        DEPTH[:-1],
        DEPTH[:40],
        DEPTH + b"}",
        DEPTH + DEPTH,
        DEPTH.replace(b"SOL_USDC", b"SOL\xff", 1),
        DEPTH.replace(b'"SOL_USDC"', b'"\\ud800"', 1),
        DEPTH.replace(b'"SOL_USDC"', b'"\\x"', 1),
        DEPTH.replace(b'"E":1', b'"E":01'),
        DEPTH.replace(b'"E":1', b'"E":NaN'),
        DEPTH.replace(b'"E":1', b'"E":1,"zz":' + b"[" * 100_000 + b"]" * 100_000),
        DEPTH.replace(b'"E":1', b'"E":1,"zz":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        position_frame(b'{"s":"\xff"}'),
        position_frame(b'{"zz":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        position_frame(b'[{"s":"\xff"}]'),
        position_frame(b'{"\xff":1}'),
    ],
)
def test_what_is_no_json(data: bytes) -> None:
    assert decode_dropped(data).reason is Drop.NOT_JSON


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"true",
        b"{}",
        b'{"id":null}',
        b'{"id":null,"error":null}',
        b'{"result":null,"id":1}',
        b'{"data":null,"stream":"depth.SOL_USDC"}',
        b'{"stream":"depth.SOL_USDC"}',
        DEPTH.replace(b',"stream":"depth.SOL_USDC"', b""),
        DEPTH.replace(b'"stream":"depth.SOL_USDC"', b'"stream":""'),
        DEPTH.replace(b'"stream":"depth.SOL_USDC"', b'"stream":5'),
        DEPTH.replace(b'"stream":"depth.SOL_USDC"', b'"stream":null'),
        DEPTH.replace(b'"stream":"depth.SOL_USDC"', b'"Stream":"depth.SOL_USDC"'),
        b"[" + DEPTH + b"]",
    ],
)
def test_what_is_neither_data_nor_an_error(data: bytes) -> None:
    assert decode_dropped(data).reason is Drop.UNKNOWN_SHAPE


@pytest.mark.parametrize("event", ["preview", "Depth", "depth ", "", "positionSnapshot"])
def test_an_event_type_that_is_not_known(event: str) -> None:
    gone = decode_dropped(DEPTH.replace(b'"depth"', json.dumps(event).encode()))
    assert (gone.reason, gone.stream) == (Drop.UNKNOWN_EVENT, "depth.SOL_USDC")
    assert gone.excerpt.startswith('{"data":{"E":1,')


@pytest.mark.parametrize(
    "data",
    [
        DEPTH.replace(b'"e":"depth",', b""),
        DEPTH.replace(b'"depth"', b"null"),
        DEPTH.replace(b'"depth"', b"7"),
        DEPTH.replace(b'"U":5', b'"U":"five"'),
        DEPTH.replace(b'"U":5', b'"U":' + b"9" * 5_000),
        DEPTH.replace(b'"U":5', b'"U":"' + b"9" * 5_000 + b'"'),
        DEPTH.replace(b'"143.29"', b'"NaN"'),
        DEPTH.replace(b'"143.29"', b'"1e999999999999999999999"'),
        DEPTH.replace(b'"143.29"', b"1e999999999999999999999"),
        DEPTH.replace(b'"143.29"', b'"one"'),
        DEPTH.replace(b'"b":[]', b'"b":null'),
        DEPTH.replace(b'"b":[]', b'"b":' + b"[" * 100 + b"]" * 100),
        b'{"data":[],"stream":"depth.SOL_USDC"}',
        b'{"data":"depth","stream":"depth.SOL_USDC"}',
        b'{"data":7,"stream":"depth.SOL_USDC"}',
        b'{"data":{},"stream":"depth.SOL_USDC"}',
        b'{"data":{"e":"depth"},"stream":"depth.SOL_USDC"}',
    ],
)
def test_data_that_do_not_fit_their_event(data: bytes) -> None:
    gone = decode_dropped(data)
    assert (gone.reason, gone.stream) == (Drop.MALFORMED, "depth.SOL_USDC")


def test_a_dropped_frame_says_what_it_was() -> None:
    data = DEPTH.replace(b'"U":5', b'"U":9')
    assert decode_frame(data) == FrameDropped(
        reason=Drop.MALFORMED,
        error=RemoteProtocolError("the update ids are not in order, or out of range - at `$.data`"),
        stream="depth.SOL_USDC",
        excerpt=data.decode(),
    )


def test_the_excerpt_of_a_frame_is_short_and_is_text() -> None:
    event = dropped(Drop.MALFORMED, "why", data=b"\xff" + b"x" * 10_000, stream="trade.X")
    assert event == FrameDropped(
        reason=Drop.MALFORMED, error=RemoteProtocolError("why"), stream="trade.X", excerpt="\ufffd" + "x" * 199
    )


# Candles learn their interval from the stream's name.


@pytest.mark.parametrize("symbol", ["SOL_USDC", "AAPL.US_USDC_PERP", "1m.US_USDC_PERP", "0G_USDC_PERP"])
@pytest.mark.parametrize("interval", KLINE_INTERVALS)
def test_the_interval_of_a_candle(interval: str, symbol: str) -> None:
    stream = f"kline.{interval}.{symbol}"
    decoded = decode_frame(KLINE.replace(b"STREAM", stream.encode()))
    assert isinstance(decoded, Frame)
    assert isinstance(decoded.payload, Kline)
    assert (decoded.stream, decoded.payload.interval) == (stream, interval)


@pytest.mark.parametrize("stream", ["kline.SOL_USDC", "kline.1m", "kline.7m.SOL_USDC", "trade.SOL_USDC", "nonsense"])
def test_a_candle_without_an_interval_is_malformed(stream: str) -> None:
    gone = decode_dropped(KLINE.replace(b"STREAM", stream.encode()))
    assert (gone.reason, gone.stream) == (Drop.MALFORMED, stream)


def test_a_candle_cannot_bring_an_interval_of_its_own() -> None:
    decoded = decode_frame(KLINE.replace(b"STREAM", b"kline.1m.X").replace(b'"E":1', b'"E":1," interval":"5m","interval":"5m"'))
    assert isinstance(decoded, Frame)
    assert isinstance(decoded.payload, Kline)
    assert decoded.payload.interval == "1m"


# The first message of a position stream has no `e`.

SNAPSHOT = PositionSnapshot(
    emitted_us=2,
    symbol="ETH_USDC_PERP",
    engine_us=1,
    position_id=7,
    net_quantity=Decimal("-0.50"),
    entry_price=Decimal("3098.40"),
    break_even_price=Decimal("3100.075"),
    mark_price=Decimal("3104.11"),
    net_exposure_quantity=Decimal("0.5"),
    net_exposure_notional=Decimal("15.5"),
    realized_pnl=Decimal(0),
    unrealized_pnl=Decimal("0.02"),
    initial_margin_fraction=Decimal("0.02"),
    maintenance_margin_fraction=Decimal("0.0125"),
)


@pytest.mark.parametrize("stream", ["account.positionUpdate", "account.positionUpdate.ETH_USDC_PERP"])
def test_an_open_position_at_the_subscription(stream: str) -> None:
    assert decode_frame(position_frame(POSITION, stream.encode())) == (Frame(SNAPSHOT, stream),)
    assert decode_frame(position_frame(POSITION[:-1] + b',"e":null}', stream.encode())) == (Frame(SNAPSHOT, stream),)


def test_open_positions_may_be_listed() -> None:
    other = POSITION.replace(b'"i":7', b'"i":"8"').replace(b'"-0.50"', b"-0.50")
    decoded = decode_frame(position_frame(b"[" + POSITION + b"," + other + b"]"))
    assert isinstance(decoded, tuple)
    one, two = decoded
    assert one == Frame(SNAPSHOT, "account.positionUpdate")
    assert isinstance(two.payload, PositionSnapshot)
    assert (two.payload.position_id, str(two.payload.net_quantity)) == (8, "-0.50")
    assert decode_frame(position_frame(b"[]")) == ()


def test_decimals_of_an_open_position_never_pass_through_floats() -> None:
    decoded = decode_frame(position_frame(POSITION.replace(b'"3098.40"', b"3098.1234567890123456789012345")))
    assert isinstance(decoded, tuple)
    (frame,) = decoded
    assert isinstance(frame.payload, PositionSnapshot)
    assert str(frame.payload.entry_price) == "3098.1234567890123456789012345"


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[{}]",
        b"[" + POSITION + b",{}]",
        POSITION.replace(b'"3098.40"', b'"NaN"'),
        POSITION.replace(b'"3098.40"', b"1e999999999999999999999"),
        POSITION.replace(b'"3098.40"', b'"one"'),
        POSITION.replace(b'"3098.40"', b"null"),
        POSITION.replace(b'"i":7', b'"i":7.5'),
        POSITION.replace(b'"i":7', b'"i":' + b"9" * 5_000),
        POSITION[:-1] + b',"e":7}',
        POSITION[:-1] + b',"e":[]}',
        b"[" + POSITION + b",7]",
        b"[[" + POSITION + b"]]",
        b"7",
        b'"text"',
        b"[" + POSITION + b"," + POSITION[:-1] + b',"e":"positionOpened"}]',
    ],
)
def test_a_malformed_position_at_the_subscription(data: bytes) -> None:
    gone = decode_dropped(position_frame(data))
    assert (gone.reason, gone.stream) == (Drop.MALFORMED, "account.positionUpdate")


def test_without_its_event_type_only_a_position_is_understood() -> None:
    assert decode_dropped(position_frame(POSITION, b"account.orderUpdate")).reason is Drop.MALFORMED
    assert decode_dropped(position_frame(POSITION[:-1] + b',"e":"positionLost"}')).reason is Drop.UNKNOWN_EVENT


# Whatever arrives, nothing is raised.


def check_decodes(data: bytes) -> None:
    decoded = decode_frame(data)
    if isinstance(decoded, FrameDropped):
        assert isinstance(decoded.error, RemoteProtocolError)
        assert len(decoded.excerpt) <= 200
        assert decoded.reason not in {Drop.NOT_SUBSCRIBED, Drop.NOT_CONNECTED}
    elif isinstance(decoded, ErrorFrame):
        assert type(decoded.code) is int
    else:
        for frame in decoded if isinstance(decoded, tuple) else (decoded,):
            assert frame.payload is not None
            assert frame.stream
            assert frame.error is None


@given(st.binary())
def test_arbitrary_bytes(data: bytes) -> None:
    check_decodes(data)


@given(st.sampled_from(FRAMES), st.data())
def test_frames_with_bytes_changed(frame: bytes, data: st.DataObject) -> None:
    mutant = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(mutant)))
        mutant[start : start + data.draw(st.integers(0, 8))] = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"null", b"[]", b"{}", b"-", b"1e400", b"\\ud800", b'"', b"9" * 30])
        )
    check_decodes(bytes(mutant))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["NaN", "1e9", "depth", "-0", "9" * 40, "Infinity", " 1", "1_0", "\u0661"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@examples(300)
@given(st.sampled_from(FRAMES), st.data())
def test_frames_with_members_changed(line: bytes, data: st.DataObject) -> None:
    frame: dict[str, Any] = json.loads(line)
    members = frame["data"]
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from([*members, "e", "zz"]))
        if data.draw(st.booleans()):
            members[name] = data.draw(JSON)
        else:
            members.pop(name, None)
    if data.draw(st.booleans()):
        frame["data"] = [members]
    if data.draw(st.booleans()):
        frame[data.draw(st.sampled_from(["stream", "error", "data", "id"]))] = data.draw(JSON)
    check_decodes(json.dumps(frame).encode())


@given(st.sampled_from(FRAMES), st.data())
@example(FRAMES[-1], None)
def test_frames_cut_short(frame: bytes, data: st.DataObject | None) -> None:
    length = len(frame) - 1 if data is None else data.draw(st.integers(0, len(frame) - 1))
    assert decode_dropped(frame[:length]).reason is Drop.NOT_JSON

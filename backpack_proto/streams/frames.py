"""Text frames to typed values, and the frames that a client sends.

A frame that cannot be used becomes a `FrameDropped` with its reason. Nothing that the exchange sends makes `decode_frame` raise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, get_args

import msgspec
from msgspec import Struct, field

from backpack_proto.decoding import from_wire
from backpack_proto.errors import InvalidStream, RemoteProtocolError
from backpack_proto.text import printable

from .channels import Channel
from .levels import RawLevels, raw_levels
from .names import channel_of, parse_stream
from .payloads import Depth, Event, Kline, Payload, PositionSnapshot, StockPrice, StockQuotes

__all__ = [
    "COMPLETED",
    "UNDECODABLE",
    "Drop",
    "ErrorFrame",
    "Frame",
    "FrameDropped",
    "decode_data",
    "decode_frame",
    "dropped",
    "subscribe_text",
    "unsubscribe_text",
]

COMPLETED: Final = frozenset({Kline, StockPrice, StockQuotes})
"""Payloads that get a member of theirs from the name of the stream."""
EXCERPT_CHARACTERS: Final = 200


class Drop(StrEnum):
    """Why a frame was dropped."""

    NOT_JSON = "not JSON"
    UNKNOWN_SHAPE = "neither data nor an error"
    UNKNOWN_EVENT = "unknown event type"
    MALFORMED = "malformed payload"
    NOT_SUBSCRIBED = "stream is not subscribed"
    NOT_CONNECTED = "connection is not open"


class FrameDropped(Event, frozen=True, gc=False, kw_only=True):
    """A frame that could not be used. It is counted, and was not applied."""

    reason: Drop
    error: RemoteProtocolError
    stream: str | None = None
    excerpt: str = ""
    """The frame's beginning, control characters escaped."""
    count: int = 1
    """Number of frames of this kind that the event stands for: while one waits for a slow consumer, the next ones are counted in it."""


class ErrorFrame(Struct, frozen=True, gc=False):
    """The exchange's refusal of a frame that we sent. It does not name the frame (docs/protocol.md 3.2)."""

    code: int
    message: str


class Frame(Struct, frozen=True, gc=False):
    """A frame with data. Its members come in any order (docs/protocol.md 3.3)."""

    payload: Payload | None = field(name="data", default=None)
    """Set in every frame that `decode_frame` returns."""
    stream: str = ""
    error: ErrorFrame | None = None
    """Never set in a frame that `decode_frame` returns: one decoder serves both kinds of frame, so one type holds both."""


class _Tag(Struct, frozen=True, gc=False):
    event: str | None = field(name="e", default=None)


class _Loose(Struct, frozen=True, gc=False):
    data: msgspec.Raw = msgspec.Raw()
    stream: str = ""


class _NumericDepth(Struct, frozen=True, gc=False, kw_only=True):
    """A depth payload whose levels may hold numbers in place of texts. Their digits stay those that were sent."""

    emitted_us: int = field(name="E")
    symbol: str = field(name="s")
    engine_us: int = field(name="T")
    first_update_id: int = field(name="U")
    last_update_id: int = field(name="u")
    bids: RawLevels = field(name="b")
    asks: RawLevels = field(name="a")


# Lax, for the exchange's documents and its frames disagree on numbers and strings: both are accepted (docs/protocol.md 4.2, 4.11).
decode_data = msgspec.json.Decoder(Frame, strict=False, dec_hook=from_wire).decode
"""Reads nearly every frame, without a look at the levels of a `Depth`. Frames that it refuses with UNDECODABLE, and those without a payload
or a stream, are for `decode_frame`."""
_decode_loose = msgspec.json.Decoder(_Loose, strict=False).decode
_decode_tag = msgspec.json.Decoder(_Tag | list[_Tag]).decode
_decode_members = msgspec.json.Decoder(list[dict[str, msgspec.Raw]] | dict[str, msgspec.Raw]).decode
_decode_position = msgspec.json.Decoder(PositionSnapshot, strict=False, dec_hook=from_wire).decode
_decode_numeric_depth = msgspec.json.Decoder(_NumericDepth, strict=False).decode
_encode = msgspec.json.Encoder().encode
_is_integer = re.compile(rb"-?[0-9]+").fullmatch
_IDS = {"buyer_order_id", "seller_order_id", "order_id", "related_order_id", "strategy_id"}
_ID_MEMBERS = {
    str(kind.__struct_config__.tag): names
    for kind in get_args(Payload)
    if (names := [member.encode_name for member in msgspec.structs.fields(kind) if member.name in _IDS])
}
"""The members of the wire that are ids, by `e`, for payloads that have any."""
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_frame(data: bytes) -> Frame | ErrorFrame | FrameDropped | tuple[Frame, ...]:
    """Read one text frame. A tuple when it is the first message of a position stream, which may list several positions."""
    try:
        frame = decode_data(data)
    except UNDECODABLE as undecodable:
        return _second_look(data, undecodable)
    payload = frame.payload
    if type(payload) is Depth:
        try:
            payload.check()
        except ValueError as wrong:
            # The place, as the decoder tells it.
            return _second_look(data, ValueError(f"{wrong} - at `$.data`"))
    if payload is not None and frame.stream:
        return frame if type(payload) not in COMPLETED else _completed(frame.stream, payload, data)
    if frame.error is not None:
        return ErrorFrame(frame.error.code, printable(frame.error.message))
    return dropped(Drop.UNKNOWN_SHAPE, "a frame without data and stream", data=data)


def dropped(reason: Drop, detail: str, *, data: bytes, stream: str | None = None) -> FrameDropped:
    """Build the event for a frame that cannot be used."""
    return FrameDropped(
        reason=reason,
        error=RemoteProtocolError(printable(detail)),
        stream=None if stream is None else printable(stream),
        excerpt=printable(data[:EXCERPT_CHARACTERS].decode("utf-8", "replace"), EXCERPT_CHARACTERS),
    )


def subscribe_text(streams: Sequence[str], signature: Sequence[str] | None = None) -> str:
    """Write a SUBSCRIBE frame. `signature` is key, signature, timestamp and window, all as text (docs/protocol.md 3.1)."""
    message: dict[str, object] = {"method": "SUBSCRIBE", "params": list(streams)}
    if signature is not None:
        message["signature"] = list(signature)
    return _encode(message).decode()


def unsubscribe_text(streams: Sequence[str]) -> str:
    """Write an UNSUBSCRIBE frame. It is never signed, not even for private streams (docs/protocol.md 3.1)."""
    return _encode({"method": "UNSUBSCRIBE", "params": list(streams)}).decode()


def _completed(stream: str, payload: Payload, data: bytes) -> Frame | FrameDropped:
    """Put into a payload the members that only the name of its stream has."""
    try:
        parsed = parse_stream(stream)
    except InvalidStream:
        parsed = None
    if parsed is not None and isinstance(payload, Kline) and parsed.interval is not None:
        return Frame(msgspec.structs.replace(payload, interval=parsed.interval), stream)
    if parsed is not None and isinstance(payload, StockPrice | StockQuotes) and parsed.symbol is not None:
        return Frame(payload if payload.symbol else msgspec.structs.replace(payload, symbol=parsed.symbol), stream)
    kind = payload.__struct_config__.tag
    return dropped(Drop.MALFORMED, f"a {kind} on a stream that is no {kind} stream", data=data, stream=stream)


def _second_look(data: bytes, undecodable: Exception) -> Frame | tuple[Frame, ...] | FrameDropped:
    """Say why a frame was not decoded. And read the one message that comes without its `e` (docs/protocol.md 4.11)."""
    try:
        data.decode()  # RFC 8259 8.1. Which error the decoder raises for it depends on its version
    except UnicodeDecodeError as broken:
        return dropped(Drop.NOT_JSON, str(broken), data=data)
    try:
        loose = _decode_loose(data)
    except msgspec.ValidationError as invalid:
        return dropped(Drop.UNKNOWN_SHAPE, str(invalid), data=data)
    except UNDECODABLE as broken:
        return dropped(Drop.NOT_JSON, str(broken), data=data)
    try:
        tag = _decode_tag(loose.data)
    except UNDECODABLE:
        return dropped(Drop.MALFORMED, str(undecodable), data=data, stream=loose.stream or None)
    events = [part.event for part in tag] if isinstance(tag, list) else [tag.event]
    if not any(events) and channel_of(loose.stream) is Channel.POSITION_UPDATE:
        return _position_snapshot(loose, data)
    if events == [Depth.__struct_config__.tag]:
        return _numeric_depth(loose, data, undecodable)
    if len(events) == 1 and events[0] in _ID_MEMBERS:
        return _numeric_ids(loose, events[0], data, undecodable)
    reason = Drop.UNKNOWN_EVENT if None not in events and "at `$.data.e`" in str(undecodable) else Drop.MALFORMED
    return dropped(reason, str(undecodable), data=data, stream=loose.stream or None)


def _numeric_depth(loose: _Loose, data: bytes, undecodable: Exception) -> Frame | FrameDropped:
    """Read a depth payload with numbers in its levels, or return its original fault."""
    try:
        numeric = _decode_numeric_depth(loose.data)
        depth = Depth(
            emitted_us=numeric.emitted_us,
            symbol=numeric.symbol,
            engine_us=numeric.engine_us,
            first_update_id=numeric.first_update_id,
            last_update_id=numeric.last_update_id,
            bids=raw_levels(numeric.bids),
            asks=raw_levels(numeric.asks),
        )
        depth.check()
    except (*UNDECODABLE, ValueError):
        return dropped(Drop.MALFORMED, str(undecodable), data=data, stream=loose.stream or None)
    return Frame(depth, loose.stream)


def _numeric_ids(loose: _Loose, event: str, data: bytes, undecodable: Exception) -> Frame | FrameDropped:
    """Read a payload with numbers where ids are texts (docs/protocol.md 4.10), or return its other fault."""
    try:
        members = _decode_members(loose.data)
        if isinstance(members, dict):
            ids = {name: members[name] for name in _ID_MEMBERS[event] if name in members}
            members |= {name: msgspec.Raw(b'"%b"' % bytes(raw)) for name, raw in ids.items() if _is_integer(bytes(raw))}
            frame = decode_data(_encode({"data": members, "stream": loose.stream}))
            if frame.payload is not None and frame.stream:
                return frame
    except UNDECODABLE as still:
        undecodable = still
    return dropped(Drop.MALFORMED, str(undecodable), data=data, stream=loose.stream or None)


def _position_snapshot(loose: _Loose, data: bytes) -> tuple[Frame, ...] | FrameDropped:
    """Return whether the first message is one position or a list of them is not documented: both are read."""
    tag = msgspec.Raw(_encode(PositionSnapshot.__struct_config__.tag))
    try:
        members = _decode_members(loose.data)
        positions = members if isinstance(members, list) else [members]
        # The other members stay as they were sent: read as JSON numbers they would go through floats.
        return tuple(Frame(_decode_position(_encode(position | {"e": tag})), loose.stream) for position in positions)
    except UNDECODABLE as invalid:
        return dropped(Drop.MALFORMED, str(invalid), data=data, stream=loose.stream)

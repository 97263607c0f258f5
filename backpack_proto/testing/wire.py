"""Payloads and books as the exchange would send them: for tests that begin at the bytes.

A payload's members are written under the names of the wire, in the usual order: alphabetical, capitals first (docs/protocol.md 3.3).
Members that only REST has are left out: where a stream's members are letters, those are words.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec.structs import FieldInfo, fields

from backpack_proto.decoding import UnixUs, UnixUsOfText
from backpack_proto.errors import LocalProtocolError
from backpack_proto.exchange.stream.frames import data_frame
from backpack_proto.streams.channels import CHANNEL_OF, SymbolKind, SymbolRule
from backpack_proto.streams.levels import Level
from backpack_proto.streams.names import Stream, bare_ticker
from backpack_proto.streams.payloads import Payload, StreamPayload

__all__ = ["depth_answer", "encode_frame", "only_in_rest", "stream_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stream_of(payload: Payload) -> str:
    """Return the name of the stream that a payload comes on. A stream that can be had for all markets is that one."""
    channel = CHANNEL_OF[type(payload)]
    symbol = getattr(payload, "symbol", None) if channel.traits.symbol is SymbolRule.REQUIRED else None
    if symbol is not None and channel.traits.symbol_kind is SymbolKind.TICKER:
        symbol = bare_ticker(symbol)
    interval = getattr(payload, "interval", None) if channel.traits.intervals else None
    return Stream(channel=channel, symbol=symbol, interval=interval).name


def encode_frame(payload: Payload, stream: str | None = None) -> bytes:
    """Return the text frame of a payload, on the stream given, or on its own.

    Raises:
        LocalProtocolError: `payload` is not a payload of a stream.
    """
    if type(payload) not in CHANNEL_OF:
        raise LocalProtocolError(f"payload: a payload of a stream, got {type(payload).__name__}")
    hints = _hints(type(payload))
    data: dict[str, object] = {
        member.encode_name: _on_the_wire(getattr(payload, member.name), hints[member.name])
        for member in fields(payload)
        if not _is_ours(member) and not only_in_rest(type(payload), member)
        if member.required or getattr(payload, member.name) is not None
    }
    tag = str(type(payload).__struct_config__.tag)
    # The first message of a position stream comes without its type (docs/protocol.md 4.11).
    if not tag.startswith(" "):
        data["e"] = tag
    return data_frame(stream or stream_of(payload), data)


def depth_answer(bids: Iterable[Level], asks: Iterable[Level], *, last: int, engine_us: int) -> bytes:
    """Return the body of a `GET /api/v1/depth` for a book whose sides are best first (docs/protocol.md 5.1)."""
    body = {
        "asks": [[level.price_text, level.quantity_text] for level in asks],
        "bids": [[level.price_text, level.quantity_text] for level in bids][::-1],
        "lastUpdateId": str(last),
        "timestamp": engine_us,
    }
    return msgspec.json.encode(body)


def only_in_rest(kind: type[StreamPayload], member: FieldInfo) -> bool:
    """Tell whether a member is one that the stream never has."""
    letters = any(len(one.encode_name) == 1 for one in fields(kind) if one.name in {"symbol", "asset"})
    return letters and len(member.encode_name) > 1 and not _is_ours(member)


def _is_ours(member: FieldInfo) -> bool:
    """Tell whether a member is no member of the wire: those have names with a blank."""
    return " " in member.encode_name


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _on_the_wire(value: object, hint: Any) -> object:
    kinds = (hint, *get_args(hint))
    match value:
        case Level():
            return [value.price_text, value.quantity_text]
        case Decimal():
            return f"{value:f}"
        case tuple():
            return [_on_the_wire(item, None) for item in value]
        case int() if UnixUs in kinds:
            return value // 1000
        case int() if UnixUsOfText in kinds:
            return (_EPOCH + timedelta(microseconds=value)).replace(tzinfo=None).isoformat()
        case _:
            return value

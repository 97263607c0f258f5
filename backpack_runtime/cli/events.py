"""Events as JSON and as lines of text, made of the same members.

Members are those of `backpack_proto.encode_event`, which this is the short form of: without the change of a book, and with errors
as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from functools import cache

import msgspec
from msgspec import Struct

from backpack_proto.encoding import event_members
from backpack_proto.encoding import plain_digits as plain
from backpack_proto.errors import BackpackError
from backpack_proto.outputs import BookChanged, BookSynced
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Event
from backpack_proto.text import printable

__all__ = ["decimal_places", "event_name", "event_name_of", "json_lines", "members", "plain", "text_line", "time_of_day"]

_LEVELS = ("bids", "asks")
_LEFT_OUT = ("delta",)
"""A reader of JSON needs the levels of the book. The changed ones are not repeated."""
_TEXT_LEVELS = 3

_encoder = msgspec.json.Encoder()


@cache
def event_name(kind: type[Event]) -> str:
    """The name of an event type: `book_changed` for `BookChanged`."""
    return event_name_of(kind.__name__)


def event_name_of(class_name: str) -> str:
    """Return the name of an event type, by that of its class."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


def decimal_places(value: Decimal) -> int:
    """Return the number of decimals, zeros at the end aside: 2 for 0.0100, 0 for 100."""
    exponent = value.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def members(event: Event) -> dict[str, object]:
    """Return the members of a JSON object of the event: always `event`, `symbol` and `engine_us`, null if missing, and its fields.

    Data from the wire have `received_us`, when this machine read them. Every event that carries a book has `first`, `last` and `verified`: one that has just been synced follows no change, so its
    `first` is null, and is not verified yet. An error is its text.
    """
    found: dict[str, object] = {"event": event_name(type(event)), "symbol": None, "engine_us": None}
    found |= {name: member for name, member in event_members(event).items() if name not in _LEFT_OUT}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, BackpackError):
            found[name] = str(value)
        elif isinstance(value, Struct) and name not in _LEFT_OUT:
            # The change of an account is a value inside the event, and has the symbol.
            found["symbol"] = getattr(value, "symbol", None)
    if isinstance(event, BookChanged):
        found["received_us"] = event.received_us
    elif isinstance(event, BookSynced):
        found |= {"first": None, "verified": False}
    return found


def json_lines(events: Iterable[Event]) -> bytes:
    """Events as JSON, one object a line."""
    return _encoder.encode_lines([members(event) for event in events])


def text_line(event: Event) -> str:
    """One event for people: time of the engine (of the frame, where the engine's is unknown), name, symbol, and its other members."""
    found = members(event)
    when_us = found.pop("engine_us") or found.get("emitted_us")
    for name in ("emitted_us", "received_us"):
        found.pop(name, None)
    parts = [time_of_day(when_us, digits=6) if isinstance(when_us, int) else " " * 15]
    parts += [str(found.pop("event")), str(found.pop("symbol") or "-")]
    for name, value in found.items():
        if name in _LEVELS:
            parts.append(f"{name}={_levels(getattr(event, name))}")
        elif value is not None:
            parts.append(f"{name}={_text(value)}")
    return printable(" ".join(parts), None)


def time_of_day(unix_us: int, *, digits: int = 0) -> str:
    """The time of day in UTC, with that many digits of the second."""
    seconds, micros = divmod(unix_us, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    fraction = f".{micros:06}"[: digits + 1] if digits else ""
    return f"{hours % 24:02}:{minute:02}:{second:02}{fraction}"


def _levels(levels: Iterable[Level]) -> str:
    texts = [f"{level.price_text}*{level.quantity_text}" for level in levels]
    rest = len(texts) - _TEXT_LEVELS
    return "[" + " ".join(texts[:_TEXT_LEVELS]) + (f" +{rest}]" if rest > 0 else "]")


def _text(value: object) -> str:
    """A value on one line. Text in quotes where it would run into its neighbours."""
    if isinstance(value, str) and value and not any(character.isspace() or character == '"' for character in value):
        return value
    return _encoder.encode(value).decode()

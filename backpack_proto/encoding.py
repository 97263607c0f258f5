"""Events as JSON that other programs can read, and back.

`encode_event` writes one JSON object: `schema` (a number that changes when names or meanings do), `event` (the name of the class),
and the members by their Python names, those of nested values too. Decimals are text in plain digits, a price level is an array of
its two texts, bytes are base64, an error has `error`, `text` and `details`. `decode_event` makes an equal event of it.

The answer of a call is the one member whose type depends on another one: it is read as the result of its endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from .decoding import sane
from .errors import LocalProtocolError
from .outputs import CallAnswered
from .rest.endpoints.table import find_endpoint
from .rest.markets import Market, Markets
from .rest.results.market_data import Page
from .streams.levels import Level, judge
from .streams.payloads import Depth, Event

__all__ = ["SCHEMA", "decode_event", "encode_event", "event_members", "plain_digits"]

SCHEMA: Final = 1
"""Of the JSON that `encode_event` writes."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def encode_event(event: Event) -> bytes:
    """Return an event as one JSON object, without a line end.

    Raises:
        TypeError: the event holds something that is not to be encoded, such as a secret.
    """
    return _encode({"schema": SCHEMA, "event": type(event).__name__, **event_members(event)})


def decode_event(data: bytes | str) -> Event:
    """Return the event that `encode_event` wrote.

    Raises:
        LocalProtocolError: it is not the JSON of an event, or one of another schema.
    """
    try:
        members = _decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise LocalProtocolError(f"data: not the JSON of an event: {error}") from None
    schema, name = members.pop("schema", None), members.pop("event", None)
    if schema != SCHEMA:
        raise LocalProtocolError(f"data: an event of schema {SCHEMA}, got schema {schema!r}")
    kind = _event_kinds().get(name) if isinstance(name, str) else None
    if kind is None:
        raise LocalProtocolError(f"data: not a known event: {name!r}")
    try:
        if kind is CallAnswered:
            return _call_answered(members)
        event: Event = _read(kind, members)
        judge(getattr(event, "bids", ()), getattr(event, "asks", ()))
        depth = getattr(event, "delta", event)
        if isinstance(depth, Depth):
            depth.check()
    except (ValueError, TypeError, RecursionError) as error:
        raise LocalProtocolError(f"data: not a {name}: {error}") from None
    return event


def event_members(event: Event) -> dict[str, Any]:
    """Return the members of an event as values that JSON has, by their Python names."""
    return _members(event)


def plain_digits(value: Decimal) -> str:
    """A decimal without an exponent: `100000`, not `1E+5`. Absurd ones keep it, as their digits would fill the memory."""
    text = str(value)
    return f"{value:f}" if "E" in text and sane(value) else text


def _members(value: Struct) -> dict[str, Any]:
    return {name: _json_value(getattr(value, name)) for name in value.__struct_fields__}


def _json_value(value: object) -> Any:
    match value:
        case Level():
            return [value.price_text, value.quantity_text]
        case Decimal():
            return plain_digits(value)
        case Struct():
            return _members(value)
        case Enum():
            return value.value
        case str() | bytes():
            return value
        case Mapping():
            return {key: _json_value(item) for key, item in value.items()}
        case Sequence():
            return [_json_value(item) for item in value]
        case _:
            # Errors encode themselves. Msgspec encodes all others, or raises.
            to_dict = getattr(value, "to_dict", None)
            return value if to_dict is None else to_dict()


def _call_answered(members: dict[str, Any]) -> CallAnswered:
    endpoint = find_endpoint(str(members.get("endpoint")))
    result, type_ = members.get("result"), endpoint.result
    if result is None:
        read: object = None
    elif type_ is Markets:
        read = Markets(_read(dict[str, Market], result).values())
    elif endpoint.paged:
        read = _read(Page[get_args(type_)[0]], result)  # type: ignore[misc]  # known at run time
    else:
        read = _read(type_, result)
    return msgspec.structs.replace(msgspec.convert(members | {"result": None}, CallAnswered), result=read)


def _read(type_: Any, value: Any) -> Any:
    """Make a value of a type from its form in JSON with Python's names."""
    if get_origin(type_) is tuple and isinstance(value, list) and _structs(get_args(type_)[0]):
        # One after another, for msgspec knows no union of structs without tags, as the rows of a batch are.
        return tuple(_read(get_args(type_)[0], item) for item in value)
    if isinstance(value, dict) and (structs := _structs(type_)):
        type_ = next((struct for struct in structs if set(value) == set(struct.__struct_fields__)), structs[0])
    return msgspec.convert(_wire_names(type_, value), type_)


def _structs(type_: Any) -> list[type[Struct]]:
    """The structs of a union."""
    members = get_args(type_) if get_origin(type_) in (Union, UnionType) else ()
    return [member for member in members if isinstance(member, type) and issubclass(member, Struct)]


def _wire_names(type_: Any, value: Any) -> Any:
    """Put the names of msgspec's own encoding in place of Python's, inside a decoded value of a type."""
    if isinstance(value, dict):
        struct = _one_of(type_, Struct)
        if struct is not None:
            members = _fields(struct)
            unknown = set(value) - set(members)
            if unknown:
                raise ValueError(f"it has no {', '.join(sorted(map(str, unknown)))}")
            return {members[name][0]: _wire_names(members[name][1], item) for name, item in value.items()}
        mapping = _one_of(type_, Mapping)
        inner = get_args(mapping)[1] if get_args(mapping) else Any
        return {key: _wire_names(inner, item) for key, item in value.items()}
    if isinstance(value, list):
        rows = _one_of(type_, Sequence)
        inner = get_args(rows)[0] if get_args(rows) else Any
        return [_wire_names(inner, item) for item in value]
    return value


def _one_of(type_: Any, base: type) -> Any:
    """The one of a union that is a struct, a mapping or a sequence, or None without one."""
    for member in get_args(type_) if get_origin(type_) in (Union, UnionType) else (type_,):
        origin = get_origin(member) or member
        if (
            origin is not NoneType
            and isinstance(origin, type)
            and issubclass(origin, base)
            and origin not in (str, bytes, Level)
        ):
            return member
    return None


@lru_cache(maxsize=512)
def _fields(struct: Any) -> dict[str, tuple[str, Any]]:
    """By its Python name: the name of a field in msgspec's own encoding, and its type."""
    origin = get_origin(struct) or struct
    arguments: dict[Any, Any] = dict(zip(getattr(origin, "__parameters__", ()), get_args(struct), strict=False))
    hints = {name: _filled(hint, arguments) for name, hint in get_type_hints(origin).items()}
    return {field.name: (field.encode_name, hints[field.name]) for field in msgspec.structs.fields(origin)}


def _filled(hint: Any, arguments: Mapping[Any, Any]) -> Any:
    """A type, with the values of the type variables of a generic one."""
    if isinstance(hint, TypeVar):
        return arguments.get(hint, Any)
    parameters = getattr(hint, "__parameters__", ())
    return hint[tuple(arguments.get(parameter, Any) for parameter in parameters)] if parameters else hint


def _event_kinds() -> dict[str, type[Event]]:
    return {kind.__name__: kind for kind in _subclasses(Event)}


def _subclasses(kind: type[Event]) -> Iterator[type[Event]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)

"""Strategies for the members of values, from their types. Where a type says too little, the member's name says the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields

from backpack_proto.decoding import MAX_ID, Amount, UnixUs, UnixUsOfText
from backpack_proto.errors import ApiError, BackpackError, LocalProtocolError, RemoteProtocolError
from backpack_proto.exchange.market.listings import LISTINGS
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.streams.channels import KLINE_INTERVALS
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, StreamPayload
from backpack_proto.testing.wire import only_in_rest

from .fits import fitted

__all__ = ["Drawing", "levels", "of_type", "prices", "quantities", "symbols", "value_of"]

Drawing: TypeAlias = st.SearchStrategy[Any]

_MOMENT_US: Final = 1_700_000_000_000_000
"""The earliest moment that is drawn."""
_YEARS_MS: Final = 400_000_000_000
_DURATIONS: Final = {"remaining_us", "retry_us", "silent_us", "step_us"}
_SIGNED: Final = ("change", "exposure", "fee", "funding_rate", "net_", "pnl", "unrealized")
"""Beginnings and parts of the names of decimals that may be negative."""
_MOST_DIGITS: Final = 10**9


def symbols() -> st.SearchStrategy[str]:
    """Return a strategy for the symbols of markets, dots included."""
    return st.sampled_from([listing.symbol for listing in LISTINGS])


def prices() -> st.SearchStrategy[Decimal]:
    """Return a strategy for prices: positive, with up to eight places."""
    return _decimals(1)


def quantities() -> st.SearchStrategy[Decimal]:
    """Return a strategy for quantities, zero included."""
    return _decimals(0)


def levels() -> st.SearchStrategy[Level]:
    """Return a strategy for price levels. A quantity of zero says that the level is gone."""
    return st.builds(Level, prices(), quantities())


def _decimals(lowest: int) -> st.SearchStrategy[Decimal]:
    return st.builds(_decimal, st.integers(lowest, _MOST_DIGITS), st.sampled_from((0, 2, 1, 4, 8)))


def _decimal(digits: int, places: int) -> Decimal:
    return Decimal(digits).scaleb(-places)


_NO_HALVES: Final[tuple[Literal["Cs"]]] = ("Cs",)
"""Halves of surrogate pairs cannot be sent."""
_TEXTS = st.text(st.characters(exclude_categories=_NO_HALVES), max_size=12)
_MOMENTS = st.integers(0, _YEARS_MS).map(lambda ms: _MOMENT_US + ms * 1000)
_EXACT_MOMENTS = st.integers(0, _YEARS_MS * 1000).map(lambda us: _MOMENT_US + us)
_SECONDS = st.integers(0, _YEARS_MS // 1000).map(lambda second: _MOMENT_US + second * 1_000_000)
_ERRORS: Mapping[type, Drawing] = {
    RemoteProtocolError: st.builds(RemoteProtocolError, _TEXTS),
    LocalProtocolError: st.builds(LocalProtocolError, _TEXTS),
    ApiError: st.builds(
        ApiError,
        status=st.integers(400, 599),
        code=_TEXTS,
        message=_TEXTS,
        endpoint=st.sampled_from([f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS.values()]),
    ),
}
_WORDS: Mapping[str, Drawing] = {
    "asset": st.sampled_from(sorted({listing.base for listing in LISTINGS})),
    "endpoint": st.sampled_from(list(ENDPOINTS)),
    "interval": st.sampled_from(KLINE_INTERVALS),
    "side": st.sampled_from(("Bid", "Ask")),
    "stream": symbols().map("depth.{}".format),
    "suspects": symbols().map("depth.{}".format),
    "symbol": symbols(),
}
"""Texts that are not any text, by the name of the member."""


def of_type(hint: Any, name: str = "") -> Drawing:
    """Return a strategy for the values of a type. `name` is that of the member that has it.

    Raises:
        LocalProtocolError: there is no rule for values of the type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _BY_TYPE:
        return _BY_TYPE[hint](name)
    if origin in (Union, UnionType):
        # Nothing is simpler than None.
        kinds = sorted(arguments, key=lambda kind: kind is not NoneType)
        return st.one_of([of_type(kind, name) for kind in kinds])
    if origin is Literal:
        return st.sampled_from(arguments)
    kind = origin or hint
    if isinstance(kind, type):
        if issubclass(kind, BackpackError):
            return _ERRORS[kind] if kind in _ERRORS else st.one_of(*_ERRORS.values())
        if issubclass(kind, Enum):
            return st.sampled_from(list(kind))
        if issubclass(kind, Struct):
            return value_of(kind)
        if issubclass(kind, Mapping):
            return st.dictionaries(of_type(arguments[0], "symbol"), of_type(arguments[1], name), max_size=2)
        if issubclass(kind, tuple) and arguments[-1] is not Ellipsis:
            return st.tuples(*(of_type(argument, name) for argument in arguments))
        if issubclass(kind, Sequence):
            return st.lists(of_type(arguments[0], name), max_size=3).map(tuple)
    raise LocalProtocolError(f"no strategy is known for {hint}, the type of {name or 'a value'}")


@cache
def value_of(kind: type[Struct]) -> Drawing:
    """Return a strategy for the values of a type: each member by itself, and then as they fit each other."""
    hints = get_type_hints(kind)
    drawn = {field.name: of_type(hints[field.name], field.name) for field in fields(kind)}
    if issubclass(kind, StreamPayload):
        drawn |= _on_the_stream(kind, hints)
    return st.fixed_dictionaries(drawn).map(lambda members: kind(**fitted(kind, members)))


def _on_the_stream(kind: type[StreamPayload], hints: Mapping[str, Any]) -> dict[str, Drawing]:
    """The members that differ from their types: those of REST, and those that REST alone may lack."""
    given: dict[str, Drawing] = {"received_us": st.none()}
    for member in fields(kind):
        if only_in_rest(kind, member):
            given[member.name] = st.none()
        elif (member.required or member.name == "emitted_us") and kind is not BookTicker:
            given[member.name] = of_type(_without_none(hints[member.name]), member.name)
    if kind is BookTicker:
        given["emitted_us"] = of_type(int, "emitted_us")
    return given


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, UnionType):
        return hint
    return Union[tuple(kind for kind in get_args(hint) if kind is not NoneType)]  # noqa: UP007 - made at run time


def _number(name: str) -> Drawing:
    if any(part in name for part in _SIGNED):
        return st.builds(lambda size, sign: size * sign, quantities(), st.sampled_from((1, -1)))
    return prices() if "price" in name else quantities()


def _whole(name: str) -> Drawing:
    if name in _DURATIONS:
        return st.integers(0, 3_600_000_000)
    if name.endswith("_us"):
        return _EXACT_MOMENTS
    if name == "client_id":
        return st.integers(1, 2**32 - 1)
    return st.integers(1, MAX_ID)


def _text(name: str) -> Drawing:
    if name.endswith("_id"):
        return st.integers(1, MAX_ID).map(str)
    return _WORDS.get(name, _TEXTS)


_BY_TYPE: Mapping[Any, Callable[[str], Drawing]] = {
    Amount: lambda _: quantities(),
    Decimal: _number,
    Level: lambda _: levels(),
    UnixUs: lambda _: _MOMENTS,
    UnixUsOfText: lambda _: _SECONDS,
    bool: lambda _: st.booleans(),
    bytes: lambda _: st.binary(max_size=12),
    float: lambda _: st.integers(0, 1000).map(float),
    int: _whole,
    str: _text,
    NoneType: lambda _: st.none(),
    None: lambda _: st.none(),
}
"""Strategies by type, each made for the name of a member."""

"""Parameters of a request, and the words in which the exchange refuses them (docs/protocol.md 1.4)."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from backpack_proto.errors import ApiError
from backpack_proto.exchange.messages import RequestReceived

__all__ = ["Query", "symbols_of"]

_INTEGER = re.compile(r"-?[0-9]{1,18}")


class Query:
    """The query of one request. Faults are raised as the exchange would word them, in plain text.

    Every method raises `ApiError` with status 400 for a parameter that is missing or cannot be read.
    """

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._pairs = parse_qsl(text, keep_blank_values=True)

    def all(self, name: str) -> list[str]:
        """Every value of a parameter that may be repeated."""
        return [value for key, value in self._pairs if key == name]

    def optional(self, name: str) -> str | None:
        """The first value of a parameter, or None."""
        return next(iter(self.all(name)), None)

    def required(self, name: str) -> str:
        """The value of a parameter that must be there."""
        value = self.optional(name)
        if value is None:
            raise self._refusal(name, 'Type "string" expects an input value.')
        return value

    def choice(self, name: str, kind: str, allowed: Collection[str], default: str | None = None) -> str:
        """One word of an enumeration that the exchange calls `kind`. Required unless there is a default."""
        value = self.required(name) if default is None else self.optional(name)
        if value is None and default is not None:
            return default
        return self.one_of(name, kind, allowed, value or "")

    def one_of(self, name: str, kind: str, allowed: Collection[str], value: str) -> str:
        """The value, if it is a word of the enumeration."""
        if value not in allowed:
            raise self._refusal(name, f'failed to parse "{kind}": Expect a valid enumeration value.')
        return value

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        """A whole number within bounds, both included."""
        value = self.optional(name)
        return default if value is None else self._number(name, value, minimum, maximum)

    def covers(self, unix_us: int) -> bool:
        """Return whether a time in microseconds lies from `from` to `to`, which are milliseconds and may be missing. Both are included."""
        from_ms = self.integer("from", 0, minimum=0, maximum=10**15)
        return from_ms <= unix_us // 1_000 <= self.integer("to", 10**15, minimum=0, maximum=10**15)

    def second(self, name: str, default: int | None = None) -> int:
        """A time in seconds since the epoch. Required unless there is a default."""
        value = self.required(name) if default is None else self.optional(name)
        if value is None and default is not None:
            return default
        return self._number(name, value or "", -(10**17), 10**17)

    def _number(self, name: str, value: str, minimum: int, maximum: int) -> int:
        if not _INTEGER.fullmatch(value):
            raise self._refusal(name, 'failed to parse "integer_uint64": invalid digit found in string')
        number = int(value)
        if number < minimum:
            raise self._refusal(name, f"verification failed. minimum({minimum}, exclusive: false)")
        if number > maximum:
            raise self._refusal(name, f"verification failed. maximum({maximum}, exclusive: false)")
        return number

    def _refusal(self, name: str, problem: str) -> ApiError:
        message = f"failed to parse parameter `{name}`: {problem}"
        return ApiError(status=400, code="", message=message, endpoint=f"GET {self.path}")


class _Named(Struct, frozen=True, gc=False):
    symbol: str = ""


_decode_named = msgspec.json.Decoder(_Named | list[_Named]).decode


def symbols_of(given: RequestReceived) -> list[str]:
    """The markets that a request names, in its query or in its body. None where it cannot be read."""
    text = given.target.partition("?")[2]
    symbols = [value for key, value in parse_qsl(text) if key == "symbol"] if "symbol" in text else []
    if b"symbol" in given.body:
        try:
            named = _decode_named(given.body)
        except (ValueError, RecursionError):  # the routes name its fault
            return symbols
        symbols += [row.symbol for row in (named if isinstance(named, list) else [named])]
    return symbols

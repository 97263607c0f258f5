"""JSON of REST answers into typed values, with the two things that JSON libraries let through.

Decimals arrive as strings, so `"NaN"` and `"1e999999999"` would pass for numbers: the first poisons every comparison, the second
fills the memory of a program that prints it without an exponent. Neither leaves this module. Times arrive as text without a zone, and mean
UTC (docs/protocol.md section 8, trap 4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, cast

import msgspec

from .errors import RemoteProtocolError
from .text import printable

__all__ = [
    "DECIMAL_DIGITS",
    "MAX_ID",
    "Amount",
    "Rows",
    "UnixUs",
    "UnixUsOfText",
    "amount",
    "decode_json",
    "decode_rows",
    "from_wire",
    "is_unicode",
    "sane",
    "unix_us",
    "usable",
    "whole_number",
]

T = TypeVar("T")
Made = TypeVar("Made")

DECIMAL_DIGITS: Final = 100
"""Largest distance of a digit from the decimal point in a number that is written out."""
WHOLE_DIGITS: Final = 20
FRACTION_DIGITS: Final = 28
"""Digits that a number of the exchange has before and after its point, at most. Its longest ones have 28 (docs/protocol.md 6.4)."""
MAX_ID: Final = 2**63 - 1
"""The largest update id."""

_LONGEST_NUMBER = 18
"""Digits of a whole number, at most: it fits into 64 bits."""
_LATEST_MS = 253_402_300_799_999
"""The end of the year 9999."""
_ROW_IDS = ("id", "orderId", "symbol", "start", "positionId")
"""The members that rows of lists are known by, the one that says most first."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_plain_digits = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII).fullmatch
_TOO_LARGE = 10**DECIMAL_DIGITS

if TYPE_CHECKING:
    UnixUs: TypeAlias = int
    UnixUsOfText: TypeAlias = int
    Amount: TypeAlias = Decimal | str | int
else:

    class _StandIn(type):
        """A type whose values are plain ones: only a decoder of the wire's JSON sees a difference."""

        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, cls.plain) and not isinstance(value, bool)

    class UnixUs(metaclass=_StandIn):
        """Microseconds since the epoch, an `int`. REST sends milliseconds, or a time as text without a zone. `decode` converts both.

        The same member is a number in a live order and text in a history (docs/protocol.md 6.3, 6.4). Elsewhere, as in msgspec's own
        encoding of a value, it is the plain int.
        """

        plain = int

    class UnixUsOfText(metaclass=_StandIn):
        """Microseconds since the epoch, an `int`. On the wire a time as text: a number there would be of an unknown unit."""

        plain = int

    class Amount(metaclass=_StandIn):
        """A price or a quantity that a user gives: a `Decimal`, an `int` or text in plain digits. Never a float, never a bool."""

        plain = (Decimal, str, int)


def decode_json(body: bytes | msgspec.Raw, type_: type[T], what: str) -> T:
    """Read JSON as `type_`. Numbers may come as strings, unknown members are passed over.

    `type_` is anything that msgspec can decode. `what` names the document in errors.

    Raises:
        RemoteProtocolError: not JSON, not of that shape, or a decimal that is no usable number.
    """
    try:
        value = _decoder(cast("Hashable", type_)).decode(body)
    except (
        ValueError,
        RecursionError,
    ) as error:  # bytes that are no UTF-8 raise UnicodeDecodeError, deep nesting RecursionError
        raise RemoteProtocolError(printable(f"{what}: {error}")) from None
    if not _all_sane(value):
        raise RemoteProtocolError(f"{what}: a decimal is not a usable number")
    return cast("T", value)


class Rows(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """The rows of a list, and the id and the reason of each row that cannot be read."""

    rows: tuple[T, ...]
    errors: tuple[tuple[str, str], ...] = ()

    def map(self, make: Callable[[T], Made]) -> Rows[Made]:
        """Return the rows as something else."""
        return Rows(tuple(map(make, self.rows)), self.errors)


def decode_rows(body: bytes, type_: type[T], what: str) -> Rows[T]:
    """Read a JSON array of independent rows. One that cannot be read costs only itself.

    Raises:
        RemoteProtocolError: not a JSON array.
    """
    try:
        return Rows(tuple(decode_json(body, list[type_], what)))  # type: ignore[valid-type] # a type at run time
    except RemoteProtocolError:
        # One by one is slow, and hardly ever needed.
        raws = decode_json(body, list[msgspec.Raw], what)
    rows: list[T] = []
    errors: list[tuple[str, str]] = []
    for number, raw in enumerate(raws):
        try:
            rows.append(decode_json(raw, type_, f"{what}[{number}]"))
        except RemoteProtocolError as error:
            errors.append((_row_id(raw), str(error)))
    return Rows(tuple(rows), tuple(errors))


def _row_id(raw: msgspec.Raw) -> str:
    """Return the key of a row, as text, or empty without one."""
    try:
        members = decode_json(raw, dict[str, msgspec.Raw], "row")
        member = next((members[name] for name in _ROW_IDS if name in members), msgspec.Raw(b'""'))
        number = bytes(member).decode("latin-1")
        return number if whole_number(number) is not None else decode_json(member, str, "id")
    except RemoteProtocolError:
        return ""


def sane(value: Decimal) -> bool:
    """Return whether a decimal is finite and has no digit more than `DECIMAL_DIGITS` away from its point."""
    return value.is_finite() and -DECIMAL_DIGITS < value.adjusted() < DECIMAL_DIGITS


def amount(value: object) -> Decimal | None:
    """Return an amount that a user gave as an exact decimal, or None for anything else: a float, a bool, a sign, an exponent.

    It has at most `DECIMAL_DIGITS` characters when it is written out.
    """
    match value:
        case bool():  # an int in Python, and no amount
            return None
        case int() if 0 <= value < _TOO_LARGE:
            return Decimal(value)
        case str() if len(value) <= DECIMAL_DIGITS and _plain_digits(value):
            return Decimal(str.__str__(value))
        case Decimal() if sane(value) and not value.is_signed() and len(f"{value:f}") <= DECIMAL_DIGITS:
            return value
        case _:
            return None


def usable(value: Decimal) -> bool:
    """Return whether a decimal that the exchange sent is finite, and of a size that its numbers have."""
    return value.is_finite() and -FRACTION_DIGITS <= value.adjusted() < WHOLE_DIGITS


def whole_number(text: str) -> int | None:
    """Return the number that text from a peer is, or None: only ASCII digits, at most 18 of them.

    Every number that stands in a header is read by this function. `int` takes more than digits, and raises for 5,000 of them.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else None


def is_unicode(text: str) -> bool:
    """Return whether text can be sent: half of a surrogate pair cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def unix_us(text: str) -> int:
    """Return microseconds since the epoch of a time such as `2026-09-01 16:52:00` or `2026-09-23T04:00:00.094`. No zone means UTC.

    Raises:
        RemoteProtocolError: the text is no time.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise RemoteProtocolError(f"{text[:40]!r} is no time") from None


def from_wire(type_: object, value: object) -> object:
    """Make a value of one of the types above of one on the wire: a `dec_hook` of msgspec.

    Raises:
        ValueError: the value on the wire is of another type.
    """
    if type_ is UnixUs:
        return _microseconds(value)
    if type_ is UnixUsOfText:
        if isinstance(value, str) and not value.isdigit():
            return _microseconds(value)
        raise ValueError("not a time as text")
    raise NotImplementedError(f"{type_} cannot be decoded")


def _microseconds(value: object) -> int:
    if isinstance(value, str):
        number = whole_number(value)
        if number is not None:
            return _microseconds(number)
        try:
            return unix_us(value)
        except RemoteProtocolError as error:
            raise ValueError(str(error)) from None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LATEST_MS:
        return value * 1000
    raise ValueError("neither milliseconds nor a time")


@lru_cache(maxsize=256)
def _decoder(type_: Hashable) -> msgspec.json.Decoder[Any]:
    # Not strict, for `lastUpdateId` and `trades` are numbers in strings (docs/protocol.md 5.1, 6.1).
    return msgspec.json.Decoder(type_, strict=False, dec_hook=from_wire)


def _all_sane(value: object) -> bool:
    """Return whether every decimal inside a decoded value is a usable number."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, Decimal):
            if not usable(value):
                return False
        elif isinstance(value, tuple | list):
            rest.extend(value)
        elif isinstance(value, dict):
            rest.extend(value.values())
        elif isinstance(value, msgspec.Struct):
            rest.extend(getattr(value, name) for name in value.__struct_fields__)
    return True

"""Price levels: the text that the exchange sent, and exact numbers when they are read.

Theory. A busy book changes thousands of levels a second and its user reads a few of them, so a level keeps its two texts and makes
decimals on demand. The decoder makes levels without a call of ours for each. Their holder (`Depth`, a snapshot) judges all of
them with `judge` before they are used. A level that a user makes is judged at once.

Texts come again and again, prices above all, so the judgements are remembered, a bounded number of them. A good number has at most
20 digits before and 28 after its point, and no exponent. Its rank is the whole number of which it is the 10**28th part: whole numbers
compare faster than decimals, and `150.1` and `150.10` have one rank (REST strips the zeros that the websocket pads, docs/protocol.md 5.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final, SupportsIndex, TypeAlias, overload

import msgspec
from msgspec import Raw, Struct, StructMeta

from backpack_proto.decoding import sane
from backpack_proto.errors import LocalProtocolError

__all__ = ["ASK_RANKS", "BID_RANKS", "PRICES", "RESTING", "Level", "Ranks", "RawLevels", "judge", "plain_price", "raw_levels"]

RawLevels: TypeAlias = tuple[tuple[Raw, Raw], ...]
"""Levels of which each part may be a text or a number."""

REMEMBERED: Final = 8192
_PLACES: Final = 28
_decode_text = msgspec.json.Decoder(str).decode
_plain = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,28})?").fullmatch


class _Prices(dict[str, Decimal]):
    """The prices seen lately, by their text."""

    __slots__ = ()

    def __missing__(self, text: str) -> Decimal:
        if _plain(text) is None or not (price := Decimal(text)):
            raise ValueError("a level needs a positive price in plain digits")
        if len(self) >= REMEMBERED:
            self.clear()
        self[text] = price
        return price


class Ranks(dict[str, int]):
    """The ranks of the prices seen lately on one side of books, by their text: the better a price is, the higher is its rank."""

    __slots__ = ("_sign",)

    def __init__(self, sign: int) -> None:
        """`sign` is 1 where the highest price is the best, and -1 where the lowest one is."""
        self._sign = sign

    def __missing__(self, text: str) -> int:
        whole, _, part = text.partition(".")
        if _plain(text) is None or not (size := int(whole + part)):
            raise ValueError("a level needs a positive price in plain digits")
        if len(self) >= REMEMBERED:
            self.clear()
        found: int = self._sign * size * 10 ** (_PLACES - len(part))
        self[text] = found
        return found


class _Resting(dict[str, bool]):
    """Return whether a quantity, given as its text, is not zero."""

    __slots__ = ()

    def __missing__(self, text: str) -> bool:
        if _plain(text) is None:
            raise ValueError("a level needs a quantity in plain digits that is not negative")
        if len(self) >= REMEMBERED:
            self.clear()
        self[text] = resting = bool(text.strip("0."))
        return resting


BID_RANKS: Final = Ranks(1)
"""The rank of a price, by its text, or `ValueError` where that is not the text of a price."""
ASK_RANKS: Final = Ranks(-1)
"""The same for asks."""
PRICES: Final = _Prices()
"""The price of a text, or `ValueError` where that is not the text of a price."""
RESTING: Final = _Resting()
"""True for the text of a quantity above zero, False for one of zero, or `ValueError` where that is not the text of a quantity."""


class _LevelMeta(StructMeta):
    """Judges the levels that users make. The decoder does not pass here."""

    # msgspec would put the names of the fields there: `case Level(price, quantity)` shall bind the decimals.
    __match_args__ = ("price", "quantity")

    def __call__(cls, price: object, quantity: object) -> Level:  # noqa: N805 - the class is the self of a metaclass
        price_text, quantity_text = _text(price), _text(quantity)
        if price_text is None or _plain(price_text) is None or not price_text.strip("0."):
            raise LocalProtocolError(f"price: a positive Decimal, int or str in plain digits, got {_shown(price)}")
        if quantity_text is None or _plain(quantity_text) is None:
            raise LocalProtocolError(f"quantity: a Decimal, int or str in plain digits, 0 or more, got {_shown(quantity)}")
        return super().__call__(price_text, quantity_text)  # type: ignore[no-any-return]  # StructMeta has no types


class Level(Struct, metaclass=_LevelMeta, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True, eq=False):
    """One price level: a price, and the absolute quantity resting there. A quantity of zero says that the level is gone.

    A sequence of two decimals, price and quantity: it unpacks, has an index, and compares with other levels and with tuples of
    decimals by value. It is no tuple. msgspec writes and reads it as an array of its two texts.
    """

    price_text: str
    """As it was sent, zeros at the end included."""
    quantity_text: str

    if TYPE_CHECKING:
        __match_args__ = ("price", "quantity")

        def __init__(self, price: Decimal | int | str, quantity: Decimal | int | str) -> None: ...

    @property
    def price(self) -> Decimal:
        """The price, exactly."""
        return PRICES[self.price_text]

    @property
    def quantity(self) -> Decimal:
        """The quantity, exactly, in base units."""
        return Decimal(self.quantity_text)

    def to_dict(self) -> dict[str, Decimal]:
        """Return price and quantity by their names."""
        return {"price": self.price, "quantity": self.quantity}

    def index(self, value: object, start: SupportsIndex = 0, stop: SupportsIndex = 2) -> int:
        """Return where a value stands, 0 or 1."""
        return _pair(self).index(value, start, stop)

    def count(self, value: object) -> int:
        """Return how many of the two are equal to a value."""
        return _pair(self).count(value)

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Decimal]:
        return iter(_pair(self))

    def __contains__(self, value: object) -> bool:
        return value in _pair(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Decimal: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Decimal, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Decimal | tuple[Decimal, ...]:
        return _pair(self)[index]

    def __hash__(self) -> int:
        return hash(_pair(self))

    # Each of the six, for msgspec's own `__ne__` would compare the texts.
    def __eq__(self, other: object) -> bool:
        if type(other) is Level and self.price_text == other.price_text and self.quantity_text == other.quantity_text:
            return True
        pair = _comparable(other)
        return NotImplemented if pair is None else _pair(self) == pair

    def __ne__(self, other: object) -> bool:
        pair = _comparable(other)
        return NotImplemented if pair is None else _pair(self) != pair

    def __lt__(self, other: Level | tuple[Decimal, ...]) -> bool:
        pair = _comparable(other)
        return NotImplemented if pair is None else _pair(self) < pair

    def __le__(self, other: Level | tuple[Decimal, ...]) -> bool:
        pair = _comparable(other)
        return NotImplemented if pair is None else _pair(self) <= pair

    def __gt__(self, other: Level | tuple[Decimal, ...]) -> bool:
        pair = _comparable(other)
        return NotImplemented if pair is None else _pair(self) > pair

    def __ge__(self, other: Level | tuple[Decimal, ...]) -> bool:
        pair = _comparable(other)
        return NotImplemented if pair is None else _pair(self) >= pair

    def __repr__(self) -> str:
        return f"Level({self.price_text!r}, {self.quantity_text!r})"


Sequence.register(Level)


def judge(bids: Iterable[Level], asks: Iterable[Level]) -> None:
    """Look at levels that were decoded.

    Raises:
        ValueError: a price is not positive, a quantity is negative, or one of them is not in plain digits.
    """
    resting = RESTING
    if bids:
        ranks = BID_RANKS
        for level in bids:
            ranks[level.price_text]
            resting[level.quantity_text]
    if asks:
        ranks = ASK_RANKS
        for level in asks:
            ranks[level.price_text]
            resting[level.quantity_text]


def plain_price(price: Decimal) -> str | None:
    """Return the text of a price, without zeros at its end, or None where no price that the exchange can send is equal to it."""
    if not sane(price) or price <= 0:
        return None
    text = f"{price:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return None if _plain(text) is None else text


def raw_levels(pairs: RawLevels) -> tuple[Level, ...]:
    """Read levels whose parts are texts or numbers. A number's digits stay those that were sent.

    Raises:
        ValueError: a price is not positive, a quantity is negative, or one of them is not in plain digits.
    """
    try:
        return tuple(Level(_raw_text(price), _raw_text(quantity)) for price, quantity in pairs)
    except LocalProtocolError as error:
        raise ValueError(str(error)) from None


def _raw_text(raw: Raw) -> str:
    data = bytes(raw)
    return _decode_text(data) if data.startswith(b'"') else data.decode()


def _pair(level: Level) -> tuple[Decimal, Decimal]:
    return PRICES[level.price_text], Decimal(level.quantity_text)


def _comparable(other: object) -> tuple[Decimal, ...] | None:
    if type(other) is Level:
        return _pair(other)
    return other if isinstance(other, tuple) else None


def _text(value: object) -> str | None:
    match value:
        case str():
            return str.__str__(value)
        case Decimal() if sane(value):
            return f"{value:f}"
        case int() if not isinstance(value, bool) and value.bit_length() < REMEMBERED:
            return str(int(value))
        case _:
            return None


def _shown(value: object) -> str:
    text = "" if isinstance(value, int) and value.bit_length() >= REMEMBERED else repr(value)
    return f"{text[:60]} ({type(value).__name__})".lstrip()

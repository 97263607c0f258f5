"""The price levels of one market, and the distance from the best prices up to which they are known.

A snapshot is cut off at its limit, so everything beyond its last level is unknown and stays so: deltas tell of changed levels only.
`Coverage` says where that is, levels beyond it are not kept, and a side whose known part is used up is `exhausted`.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from backpack_proto.claims import Claims
from backpack_proto.streams.levels import Level, plain_price
from backpack_proto.values import Value

if TYPE_CHECKING:
    from .side import BookSide, apart, change
else:
    try:
        from ._side import BookSide, apart, change
    except ModuleNotFoundError:
        from .side import BookSide, apart, change

__all__ = ["Book", "Coverage", "change"]

ZERO = Decimal(0)


class Coverage(Value, frozen=True, gc=False):
    """The range of prices inside which every level is known. None means that the whole side is."""

    lowest_bid: Decimal | None = None
    highest_ask: Decimal | None = None


class Book:
    """The order book of one market at one update id.

    Readable at any time. `is_live` says whether it may be trusted at a moment. Only the session that owns it changes it.
    """

    __slots__ = ("_shown", "ask_side", "bid_side", "claims", "confirmed_us", "engine_us", "last", "symbol")

    def __init__(
        self,
        symbol: str,
        *,
        bids: Iterable[Level] = (),
        asks: Iterable[Level] = (),
        last: int = 0,
        engine_us: int = 0,
        limit: int | None = None,
    ) -> None:
        """Make a book of a snapshot. A side that fills `limit` goes on beyond it, unseen."""
        self.symbol = symbol
        self.last = last
        """The last update id that is in the book."""
        self.engine_us = engine_us
        """When the matching engine made that update, in microseconds since the epoch."""
        self.claims = Claims()
        """Claims that it needs to be live. Its owner replaces them."""
        self.confirmed_us: int | None = None
        """Time of the newest proof that the book is complete, on the monotonic clock, or None before the first one."""
        self._shown = 1
        self.bid_side = BookSide(bids, best_is_highest=True, limit=limit)
        """Its bids, for the owner of the book."""
        self.ask_side = BookSide(asks, best_is_highest=False, limit=limit)
        """Its asks, likewise."""

    def __repr__(self) -> str:
        state = "followed" if self.confirmed_us is not None else "stale"
        return f"<Book {self.symbol} {state} at {self.last}: {self.best_bid} / {self.best_ask}>"

    def is_live(self, mono_us: int) -> bool:
        """Return whether the book follows the exchange without a hole and fresh proof says so. One that is not live is stale."""
        confirmed_us = self.confirmed_us
        return confirmed_us is not None and self.claims.hold(confirmed_us, mono_us)

    def age_us(self, mono_us: int) -> int | None:
        """Return how old the newest proof is that this is the book of the exchange, in microseconds, or None without proof.

        It is the age of the newest data of the connection, by the time at which the exchange sent them. Where no path is watched, that of the
        newest proof of the book itself.
        """
        if self.confirmed_us is None:
            return None
        path = self.claims.path
        return path.age_us(mono_us) if path.bounded else max(mono_us - self.confirmed_us, 0)

    @property
    def coverage(self) -> Coverage:
        """Price ranges in which every level is known."""
        lowest, highest = self.bid_side.edge, self.ask_side.edge
        return Coverage(None if lowest is None else lowest.price, None if highest is None else highest.price)

    @property
    def best_bid(self) -> Level | None:
        """The highest bid that is known, or None."""
        return self.bid_side.best

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask that is known, or None."""
        return self.ask_side.best

    def show(self, levels: int) -> None:
        """Have so many levels of each side at hand, for callers of `bids` and `asks` that ask for as many."""
        self._shown = levels
        self.bid_side.show(levels)
        self.ask_side.show(levels)

    def bids(self, count: int | None = None) -> tuple[Level, ...]:
        """The best bids, best first. Fewer than asked for where the known part ends (see `coverage`)."""
        return self.bid_side.first(count)

    def asks(self, count: int | None = None) -> tuple[Level, ...]:
        """The best asks, best first. Fewer than asked for where the known part ends (see `coverage`)."""
        return self.ask_side.first(count)

    def bid_quantity(self, price: Decimal) -> Decimal | None:
        """Return the quantity bid at a price, or None where it is unknown."""
        floor = self.bid_side.edge
        return None if floor is not None and price < floor.price else _quantity(self.bid_side, price)

    def ask_quantity(self, price: Decimal) -> Decimal | None:
        """Return the quantity asked at a price, or None where it is unknown."""
        ceiling = self.ask_side.edge
        return None if ceiling is not None and price > ceiling.price else _quantity(self.ask_side, price)

    @property
    def crossed(self) -> bool:
        """The best bid is not below the best ask: such a book is wrong."""
        return bool(self.bid_side and self.ask_side) and not apart(self.bid_side, self.ask_side)

    @property
    def exhausted(self) -> bool:
        """A side's known levels are used up, so its best price is unknown."""
        return self.bid_side.exhausted or self.ask_side.exhausted

    @property
    def sound(self) -> bool:
        """Neither `crossed` nor `exhausted`."""
        return apart(self.bid_side, self.ask_side) or not (self.crossed or self.exhausted)

    def apply(self, bids: Iterable[Level], asks: Iterable[Level], *, last: int, engine_us: int) -> bool:
        """Take in changed levels, absolute quantities of which zero deletes (docs/protocol.md 5.2 step 7). Return whether it is `sound`.

        Raises:
            ValueError: one of them is no level (`Level`). The state is unchanged.
        """
        is_apart = change(self.bid_side, self.ask_side, bids, asks)
        self.last = last
        self.engine_us = engine_us
        return is_apart or self.sound

    def take_over(self, other: Book) -> None:
        """Become the other book, which must not be used any more: holders of this one go on with the right one."""
        claims, shown = self.claims, self._shown
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))
        self.claims = claims
        self.show(shown)

    def differs_from(self, other: Book) -> str | None:
        """Name the first difference of two books at the same update id, inside the coverage of both, or return None."""
        floors = [book.coverage.lowest_bid for book in (self, other) if book.coverage.lowest_bid is not None]
        ceilings = [book.coverage.highest_ask for book in (self, other) if book.coverage.highest_ask is not None]
        floor, ceiling = max(floors, default=None), min(ceilings, default=None)
        mine_bids, their_bids = (_at_least(book.bids(), floor) for book in (self, other))
        mine_asks, their_asks = (_at_most(book.asks(), ceiling) for book in (self, other))
        for name, mine, theirs in (("bid", mine_bids, their_bids), ("ask", mine_asks, their_asks)):
            if mine != theirs:
                price = next(price for price in (*mine, *theirs) if mine.get(price) != theirs.get(price))
                return f"{name} {price}: {mine.get(price, ZERO)} here, {theirs.get(price, ZERO)} there"
        return None


def _quantity(side: BookSide, price: Decimal) -> Decimal:
    text = plain_price(price)
    level = None if text is None else side.find(text)
    return ZERO if level is None else level.quantity


def _at_least(levels: Iterable[Level], floor: Decimal | None) -> dict[Decimal, Decimal]:
    return {price: quantity for price, quantity in levels if floor is None or price >= floor}


def _at_most(levels: Iterable[Level], ceiling: Decimal | None) -> dict[Decimal, Decimal]:
    return {price: quantity for price, quantity in levels if ceiling is None or price <= ceiling}

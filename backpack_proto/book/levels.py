"""The price levels of one market, and how far from the touch they are known.

Theory. Each side is a dictionary of price to level, beside a sorted list of its prices: the best price is at the end of one
list and at the start of the other, so reading the top costs nothing. A level that goes leaves its place empty
until it reaches the edge or is swept out, for most prices come back soon. Keys are `Decimal`, never text: REST strips the zeros
that the websocket pads (docs/protocol.md 5.1).

A snapshot is cut off at its limit, so what lies beyond its last level is unknown and stays so: deltas tell of changed levels only.
`Coverage` says where that is, levels beyond it are not kept, and a side whose known part is used up is `exhausted`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import TypeAlias

from backpack_proto.claims import Claims
from backpack_proto.streams.levels import PRICES, RESTING, Level
from backpack_proto.values import Value

__all__ = ["Book", "Coverage"]

ZERO = Decimal(0)
_SWEEP_SLACK = 256

_Side: TypeAlias = dict[Decimal, Level | None]
"""The levels by their prices; None where one is gone."""


class Coverage(Value, frozen=True, gc=False):
    """The range of prices inside which every level is known; None means that the whole side is."""

    lowest_bid: Decimal | None = None
    highest_ask: Decimal | None = None


class Book:
    """The order book of one market at one update id.

    Readable at any time; `is_live` says whether it may be trusted at a moment. Only the session that owns it changes it.
    """

    __slots__ = (
        "_ask_prices",
        "_asks",
        "_bid_prices",
        "_bids",
        "_sweep_at",
        "claims",
        "confirmed_us",
        "coverage",
        "engine_us",
        "last",
        "symbol",
    )

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
        """Make a book of a snapshot; a side that fills `limit` goes on beyond it, unseen."""
        self.symbol = symbol
        self.last = last
        """The last update id that is in the book."""
        self.engine_us = engine_us
        """When the matching engine made that update, in microseconds since the epoch."""
        self.claims = Claims()
        """What it rests on when it is live; its owner replaces them."""
        self.confirmed_us: int | None = None
        """When the newest proof came that the book misses nothing, on the monotonic clock; None while there is none."""
        self._bids: _Side = {level.price: level for level in bids if RESTING[level.quantity_text]}
        self._asks: _Side = {level.price: level for level in asks if RESTING[level.quantity_text]}
        self._bid_prices = sorted(self._bids)
        self._ask_prices = sorted(self._asks)
        self._sweep_at = 2 * (len(self._bids) + len(self._asks)) + _SWEEP_SLACK
        self.coverage = Coverage(
            lowest_bid=self._bid_prices[0] if limit is not None and len(self._bid_prices) >= limit else None,
            highest_ask=self._ask_prices[-1] if limit is not None and len(self._ask_prices) >= limit else None,
        )

    def __repr__(self) -> str:
        state = "followed" if self.confirmed_us is not None else "stale"
        return f"<Book {self.symbol} {state} at {self.last}: {self.best_bid} / {self.best_ask}>"

    def is_live(self, mono_us: int) -> bool:
        """Return whether the book follows the exchange without a hole and fresh proof says so; one that is not live is stale."""
        confirmed_us = self.confirmed_us
        return confirmed_us is not None and self.claims.hold(confirmed_us, mono_us)

    def age_us(self, mono_us: int) -> int | None:
        """Return how old the newest proof is that this is the book of the exchange, in microseconds; None without proof.

        It is the age of the newest data of the connection, by the time at which the exchange sent them; where no path is watched, that of the
        newest proof of the book itself.
        """
        if self.confirmed_us is None:
            return None
        path = self.claims.path
        return path.age_us(mono_us) if path.bounded else max(mono_us - self.confirmed_us, 0)

    @property
    def best_bid(self) -> Level | None:
        """The highest bid that is known, or None."""
        prices = self._bid_prices
        return self._bids[prices[-1]] if prices else None

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask that is known, or None."""
        prices = self._ask_prices
        return self._asks[prices[0]] if prices else None

    def bids(self, count: int | None = None) -> tuple[Level, ...]:
        """The best bids, best first; fewer than asked for where the known part ends (see `coverage`)."""
        if count == 1:
            best = self.best_bid
            return (best,) if best else ()
        return tuple(islice(_present(reversed(self._bid_prices), self._bids), count))

    def asks(self, count: int | None = None) -> tuple[Level, ...]:
        """The best asks, best first; fewer than asked for where the known part ends (see `coverage`)."""
        if count == 1:
            best = self.best_ask
            return (best,) if best else ()
        return tuple(islice(_present(self._ask_prices, self._asks), count))

    def bid_quantity(self, price: Decimal) -> Decimal | None:
        """What is bid at a price; zero where there is nothing, None where that is unknown."""
        floor = self.coverage.lowest_bid
        return None if floor is not None and price < floor else _quantity(self._bids.get(price))

    def ask_quantity(self, price: Decimal) -> Decimal | None:
        """What is asked at a price; zero where there is nothing, None where that is unknown."""
        ceiling = self.coverage.highest_ask
        return None if ceiling is not None and price > ceiling else _quantity(self._asks.get(price))

    @property
    def crossed(self) -> bool:
        """The best bid is not below the best ask: such a book is wrong."""
        bids, asks = self._bid_prices, self._ask_prices
        return bool(bids and asks) and bids[-1] >= asks[0]

    @property
    def exhausted(self) -> bool:
        """A side's known levels are used up, so its best price is unknown."""
        return (not self._bid_prices and self.coverage.lowest_bid is not None) or (
            not self._ask_prices and self.coverage.highest_ask is not None
        )

    @property
    def sound(self) -> bool:
        """Neither `crossed` nor `exhausted`."""
        bids, asks = self._bid_prices, self._ask_prices
        return bids[-1] < asks[0] if bids and asks else not self.exhausted

    def apply(self, bids: Iterable[Level], asks: Iterable[Level], *, last: int, engine_us: int) -> None:
        """Take in changed levels, absolute quantities of which zero deletes (docs/protocol.md 5.2 step 7)."""
        if bids:
            side, prices = self._bids, self._bid_prices
            _change(side, prices, bids, lowest=self.coverage.lowest_bid)
            while prices and side[prices[-1]] is None:
                del side[prices.pop()]
        if asks:
            side, prices = self._asks, self._ask_prices
            _change(side, prices, asks, highest=self.coverage.highest_ask)
            while prices and side[prices[0]] is None:
                del side[prices[0]]
                del prices[0]
        self.last = last
        self.engine_us = engine_us
        if len(self._bids) + len(self._asks) > self._sweep_at:
            self._sweep()

    def take_over(self, other: Book) -> None:
        """Become the other book, which must not be used any more: whoever holds this one goes on holding the right one."""
        claims = self.claims
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))
        self.claims = claims

    def differs_from(self, other: Book) -> str | None:
        """Say where two books at the same update id differ inside what both of them know; None when nowhere."""
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

    def _sweep(self) -> None:
        for side, prices in ((self._bids, self._bid_prices), (self._asks, self._ask_prices)):
            prices[:] = [price for price in prices if side[price] is not None]
            for price in [price for price, level in side.items() if level is None]:
                del side[price]
        self._sweep_at = 2 * (len(self._bids) + len(self._asks)) + _SWEEP_SLACK


def _change(
    side: _Side,
    prices: list[Decimal],
    levels: Iterable[Level],
    *,
    lowest: Decimal | None = None,
    highest: Decimal | None = None,
) -> None:
    """Put levels into a side; a new price that lies beyond the known part stays out."""
    price_of, resting = PRICES, RESTING
    size = len(side)
    for level in levels:
        price = price_of[level.price_text]
        if resting[level.quantity_text]:
            side[price] = level
            if len(side) == size:
                continue
            if (lowest is not None and price < lowest) or (highest is not None and price > highest):
                del side[price]
            else:
                insort(prices, price)
                size += 1
        elif price in side:
            side[price] = None


def _present(prices: Iterable[Decimal], side: _Side) -> Iterator[Level]:
    return (level for price in prices if (level := side[price]) is not None)


def _quantity(level: Level | None) -> Decimal:
    return ZERO if level is None else level.quantity


def _at_least(levels: Iterable[Level], floor: Decimal | None) -> dict[Decimal, Decimal]:
    return {price: quantity for price, quantity in levels if floor is None or price >= floor}


def _at_most(levels: Iterable[Level], ceiling: Decimal | None) -> dict[Decimal, Decimal]:
    return {price: quantity for price, quantity in levels if ceiling is None or price <= ceiling}

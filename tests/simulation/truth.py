"""What is true: the exchange's book at every update id, and when each change was made, in the simulation's own time.

A market's log holds every change since the beginning, with the quantity before it, so that a shadow of the book can be moved to any id,
forwards and backwards. Ids have no holes. A restart that gives them up begins a new epoch. Prices are ticks, quantities are lots.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

from backpack_proto.book.levels import Book
from backpack_proto.exchange import Exchange, Listing, OrderSide, Outcome
from backpack_proto.streams.levels import Level

__all__ = ["MarketTruth", "Truth"]

Top = tuple[tuple[int, int] | None, tuple[int, int] | None]


class _Entry(NamedTuple):
    at_us: int
    top: Top
    moves: tuple[tuple[int, int, int, int], ...]
    """Side (0 bids, 1 asks), price, lots before, lots after."""


class _Epoch:
    """The changes of one run of update ids."""

    def __init__(self, base_id: int, start_us: int, top: Top, sides: tuple[dict[int, int], dict[int, int]]) -> None:
        self.base_id = base_id
        self.start_us = start_us
        self.top = top
        self.entries: list[_Entry] = []
        self._shadow = (dict(sides[0]), dict(sides[1]))
        self._at = 0

    def holds(self, update_id: int) -> bool:
        return 0 <= update_id - self.base_id <= len(self.entries)

    def sides(self, count: int) -> tuple[dict[int, int], dict[int, int]]:
        """Return the book after the first `count` changes. To be read only, and only until the next call."""
        while self._at < count:
            for side, price, _, after in self.entries[self._at].moves:
                _put(self._shadow[side], price, after)
            self._at += 1
        while self._at > count:
            self._at -= 1
            for side, price, before, _ in reversed(self.entries[self._at].moves):
                _put(self._shadow[side], price, before)
        return self._shadow


def _put(side: dict[int, int], price: int, lots: int) -> None:
    if lots:
        side[price] = lots
    else:
        side.pop(price, None)


class MarketTruth:
    """Everything that ever happened to the book of one market."""

    def __init__(self, listing: Listing, exchange: Exchange) -> None:
        self.symbol = listing.symbol
        self.price_decimals = listing.price_decimals
        self.quantity_decimals = listing.quantity_decimals
        self.closed_us: int | None = None
        """Since when the market is closed, or None while it is open."""
        self._exchange = exchange
        self._latest: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._epochs: list[_Epoch] = []
        self.changes = 0
        self.begin(0)

    def begin(self, now_us: int) -> None:
        """Take the exchange's book as it is for the start of a new run of ids."""
        bids, asks, last = self._exchange.levels(self.symbol)
        self._latest = (self._lots(bids), self._lots(asks))
        self._epochs.append(_Epoch(last, now_us, self._exchange.best(self.symbol), self._latest))

    def record(self, outcome: Outcome, now_us: int) -> None:
        """Take in one change of the exchange's book."""
        if outcome.update_id is None:
            return
        moves = []
        for change in outcome.changes:
            side = 0 if change.side is OrderSide.BID else 1
            latest = self._latest[side]
            moves.append((side, change.price, latest.get(change.price, 0), change.lots))
            _put(latest, change.price, change.lots)
        self._epochs[-1].entries.append(_Entry(now_us, self._exchange.best(self.symbol), tuple(moves)))
        self.changes += 1

    def knows(self, update_id: int) -> bool:
        """Return whether the exchange ever had this id."""
        return any(epoch.holds(update_id) for epoch in self._epochs)

    def missing_since_us(self, update_id: int) -> int | None:
        """Return when the first change was made that a book at this id lacks, or None when it lacks nothing."""
        newest = self._epochs[-1]
        if newest.holds(update_id):
            count = update_id - newest.base_id
            return newest.entries[count].at_us if count < len(newest.entries) else None
        number = max(number for number, epoch in enumerate(self._epochs) if epoch.holds(update_id))
        epoch = self._epochs[number]
        count = update_id - epoch.base_id
        return epoch.entries[count].at_us if count < len(epoch.entries) else self._epochs[number + 1].start_us

    def top_differs(self, book: Book) -> str | None:
        """Compare the best levels of a book with the exchange's at the same id."""
        epoch = self._epoch(book.last)
        count = book.last - epoch.base_id
        bid, ask = epoch.entries[count - 1].top if count else epoch.top
        if book.exhausted:
            return None
        mine = self._pair(book.best_bid), self._pair(book.best_ask)
        return None if mine == (bid, ask) else f"best levels at {book.last}: {mine} here, {(bid, ask)} on the exchange"

    def book_differs(self, book: Book) -> str | None:
        """Compare every level of a book that is inside its coverage with the exchange's at the same id."""
        low, high = book.coverage.lowest_bid, book.coverage.highest_ask
        floor = None if low is None else int(low.scaleb(self.price_decimals))
        ceiling = None if high is None else int(high.scaleb(self.price_decimals))
        return self.levels_differ(book.last, book.bids(), book.asks(), floor, ceiling)

    def levels_differ(
        self,
        update_id: int,
        bids: tuple[Level, ...],
        asks: tuple[Level, ...],
        floor: int | None = None,
        ceiling: int | None = None,
    ) -> str | None:
        """Compare levels with the exchange's at an id, bids from `floor` and asks up to `ceiling` on."""
        epoch = self._epoch(update_id)
        true_bids, true_asks = epoch.sides(update_id - epoch.base_id)
        if floor is not None:
            true_bids = {price: lots for price, lots in true_bids.items() if price >= floor}
        if ceiling is not None:
            true_asks = {price: lots for price, lots in true_asks.items() if price <= ceiling}
        for name, mine, true in (("bids", self._lots(bids), true_bids), ("asks", self._lots(asks), true_asks)):
            if mine != true:
                wrong = sorted(price for price in {*mine, *true} if mine.get(price) != true.get(price))
                shown = ", ".join(f"{price}: {mine.get(price)} here, {true.get(price)} there" for price in wrong[:3])
                return f"{len(wrong)} {name} at {update_id} ({shown})"
        return None

    def changes_between(self, from_us: int, to_us: int) -> int:
        """Return how many changes were made in a span of time."""
        return sum(
            bisect_left(epoch.entries, to_us, key=lambda entry: entry.at_us)
            - bisect_left(epoch.entries, from_us, key=lambda entry: entry.at_us)
            for epoch in self._epochs
        )

    def _epoch(self, update_id: int) -> _Epoch:
        for epoch in reversed(self._epochs):
            if epoch.holds(update_id):
                return epoch
        raise AssertionError(f"{self.symbol} never had id {update_id}: ask `knows` first")

    def _lots(self, levels: tuple[Level, ...]) -> dict[int, int]:
        units, prices, quantities = self._of, self.price_decimals, self.quantity_decimals
        return {units(level.price_text, prices): units(level.quantity_text, quantities) for level in levels}

    def _pair(self, level: Level | None) -> tuple[int, int] | None:
        if level is None:
            return None
        return self._of(level.price_text, self.price_decimals), self._of(level.quantity_text, self.quantity_decimals)

    def _of(self, text: str, decimals: int) -> int:
        # Padded to the market's precision by the stream, stripped by REST.
        whole, _, fraction = text.partition(".")
        return int(whole + fraction.rstrip("0").ljust(decimals, "0"))


class Truth:
    """The truth about all markets of an exchange. `clock` is the simulation's own time."""

    def __init__(self, exchange: Exchange, listings: dict[str, Listing], clock: Callable[[], int]) -> None:
        self._clock = clock
        self.markets = {symbol: MarketTruth(listings[symbol], exchange) for symbol in exchange.symbols}
        exchange.on_book = self._record

    def _record(self, symbol: str, outcome: Outcome) -> None:
        self.markets[symbol].record(outcome, self._clock())

"""Proof that a live book is right: against `bookTicker`, and against a snapshot that is rolled forward.

The exchange sends no checksum. But `bookTicker.u` lives in the id space of `depth.u`, so the top of the book at that id must be the
ticker's (docs/protocol.md 4.2). And a fresh snapshot, rolled forward through the deltas that followed it, must equal the live
book wherever both know the levels (docs/protocol.md 5.4).
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from enum import Enum, auto

from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, Depth

from .kept import BACKWARDS_US
from .levels import Book

__all__ = ["SnapshotCheck", "TopCheck", "Verdict"]


class Verdict(Enum):
    """Result of a comparison."""

    EQUAL = auto()
    OPEN = auto()
    """Nothing yet: the two cannot be compared at one update id."""
    VOID = auto()
    """No result: the other one has no known levels left."""


class TopCheck:
    """Compares the top of one book with the tickers of the same update ids. Either of the two may come first."""

    TOPS_KEPT = 64
    TICKERS_KEPT = 64

    def __init__(self) -> None:
        self._tops: deque[tuple[int, Level | None, Level | None]] = deque(maxlen=self.TOPS_KEPT)
        self.remember = self._tops.append
        """Notes an update id of the book, and its best bid and best ask there."""
        self._waiting: deque[tuple[BookTicker, int]] = deque(maxlen=self.TICKERS_KEPT)
        self._unreached = 0
        """The update id of the first ticker that the book has not reached, and when it came. The ticker itself is soon dropped
        where many follow it."""
        self._unreached_us = 0

    @property
    def unreached(self) -> tuple[int, int] | None:
        """The first ticker that the book has not reached, by its update id, and when it came, or None without one."""
        return (self._unreached, self._unreached_us) if self._waiting else None

    def restart(self, book: Book) -> Verdict | str:
        """Begin again with a book that has just been synced. Tickers that it is yet to reach stay."""
        self._tops.clear()
        return self.book_changed(book)

    def keep(self, ticker: BookTicker, mono_us: int) -> None:
        """Keep a ticker for a book that is being synced."""
        if not self._waiting:
            self._unreached, self._unreached_us = ticker.update_id, mono_us
        self._waiting.append((ticker, mono_us))

    def reset(self) -> None:
        """Forget everything."""
        self._tops.clear()
        self._waiting.clear()

    def ticker_arrived(self, ticker: BookTicker, last: int, mono_us: int) -> Verdict | str:
        """Take a ticker. `last` is where the book stands. A text says how the two differ."""
        if ticker.update_id > last:
            self.keep(ticker, mono_us)
            return Verdict.OPEN
        for update_id, bid, ask in reversed(self._tops):
            if update_id <= ticker.update_id:
                return _compare(ticker, bid, ask) if update_id == ticker.update_id else Verdict.OPEN
        return Verdict.OPEN

    def book_changed(self, book: Book) -> Verdict | str:
        """Take the book's new top. A text says how a ticker that waited for it differs."""
        self.remember((book.last, book.best_bid, book.best_ask))
        return self._settle(book) if self._waiting else Verdict.OPEN

    def _settle(self, book: Book) -> Verdict | str:
        """Compare the tickers of this very update id. Those that the book has stepped over meet no state of it."""
        waiting = self._waiting
        verdict: Verdict | str = Verdict.OPEN
        while waiting and waiting[0][0].update_id <= book.last:
            ticker, _ = waiting.popleft()
            if ticker.update_id == book.last and not isinstance(verdict, str):
                verdict = _compare(ticker, book.best_bid, book.best_ask)
        if waiting and self._unreached <= book.last:
            self._unreached, self._unreached_us = waiting[0][0].update_id, waiting[0][1]
        return verdict


def _compare(ticker: BookTicker, bid: Level | None, ask: Level | None) -> Verdict | str:
    for name, here, price, quantity in (
        ("bid", bid, ticker.bid_price, ticker.bid_quantity),
        ("ask", ask, ticker.ask_price, ticker.ask_quantity),
    ):
        there = (price, quantity) if price is not None and quantity else None
        if here != there:
            return f"best {name} at {ticker.update_id}: {_show(here)} here, {_show(there)} on bookTicker"
    return Verdict.EQUAL


def _show(level: Level | tuple[Decimal, Decimal] | None) -> str:
    return "none" if level is None else f"{level[1]} at {level[0]}"


class SnapshotCheck:
    """One comparison of the live book with a snapshot. Keeps the deltas that are needed to roll the snapshot forward."""

    DELTAS_KEPT = 4096

    def __init__(self, last: int, engine_us: int) -> None:
        """Begin at the live book's update id and engine time: no snapshot from before it can be rolled forward."""
        self._from = last
        self._from_us = engine_us
        self._deltas: deque[Depth] = deque()
        self.snapshot: Book | None = None
        self.refusals = 0
        """Number of snapshots that were not usable."""

    @property
    def overfull(self) -> bool:
        """The answer took so long that keeping deltas for it makes no more sense."""
        return len(self._deltas) > self.DELTAS_KEPT

    def delta_applied(self, delta: Depth) -> None:
        """Keep a delta that the live book has taken in."""
        self._deltas.append(delta)

    def usable(self, snapshot: Book) -> bool:
        """Return whether the kept deltas reach back to this snapshot."""
        return snapshot.last >= self._from

    def outdates(self, snapshot: Book) -> bool:
        """Return whether a snapshot is older than its id, so that its levels are no evidence about the live book."""
        return self._from_us - snapshot.engine_us > BACKWARDS_US

    def compare(self, live: Book) -> Verdict | str:
        """Roll the snapshot forward to the live book and compare them. A text says where they differ.

        The snapshot may be ahead of the stream (docs/protocol.md 5.1, freshness): then it waits. One whose levels were used up
        on the way agrees with anything, so it is no evidence.
        """
        snapshot = self.snapshot
        if snapshot is None or snapshot.last > live.last:
            return Verdict.OPEN
        for delta in self._deltas:
            if delta.last_update_id > snapshot.last:
                snapshot.apply(delta.bids, delta.asks, last=delta.last_update_id, engine_us=delta.engine_us)
        self._deltas.clear()
        return live.differs_from(snapshot) or (Verdict.VOID if snapshot.exhausted else Verdict.EQUAL)

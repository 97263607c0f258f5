"""The rows of one order book: its changes, its best bid and ask, and whether it could be trusted.

Theory. A reader of `incremental_book_L2` keeps one book: the first snapshot row after other rows throws it away, an amount of zero removes
a level. The rows give such a reader the book of the session at every update id, and no book while the session has none:

* a book that is synced is a snapshot.
* the end of a book (a gap, a lost connection, a closed market) empties the reader's book, by one snapshot row whose amount is zero. Where the
  rows before are a snapshot themselves the reader would not see that another one begins, so there each level is removed by a row of its own.
* a snapshot without levels has no rows: the change that follows it is written as the snapshot.
* with files by day, each day begins with the book as it stood at midnight.

`quotes` has the best bid and ask of a live book whenever one of them changes, and a row without numbers when it is live no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from backpack_proto.book.levels import Book
from backpack_proto.outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    BookUnavailable,
    ConnectionDown,
    MarketClosed,
    MarketOpened,
)
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth
from backpack_proto.text import printable

from .tables import BOOK_STATES, BOOKS, EXCHANGE, QUOTES, Row, Table

__all__ = ["DAY_US", "BookRows"]

DAY_US: Final = 86_400_000_000
_NOTHING: Final = (None, None, None, None)


class BookRows:
    """Makes the rows of one depth stream, event by event."""

    def __init__(self, stream: str, symbol: str, *, daily: bool) -> None:
        """Nothing is known of the book yet. With `daily` each day has a snapshot of its own."""
        self.symbol = symbol
        self.stream = stream
        self.left_out = 0
        """Number of changes that could not be used, because others before them are missing."""
        self.latest_us: int | None = None
        """The newest time of any event so far, for rows of events without a time. Set by the giver of the events."""
        self._daily = daily
        self._book: Book | None = None
        """The book that a reader of the rows has, or None without one."""
        self._synced = False
        """There was a snapshot."""
        self._synced_us: int | None = None
        """When the last one came."""
        self._last: int | None = None
        """The last update id that was written, of changes without a book."""
        self._state: tuple[str, str, str] | None = None
        """State, event and reason, as they were written last."""
        self._after_snapshot = False
        """The last row was one of a snapshot."""
        self._empty_snapshot = False
        """A snapshot without levels waits for the first change."""
        self._top: tuple[str | None, ...] = _NOTHING
        self._day: int | None = None

    def synced(self, event: BookSynced, local_us: int | None) -> Iterator[tuple[Table, Row]]:
        """Return the rows of a snapshot."""
        yield from self._midnight(local_us)
        yield from self._empty(event.engine_us, local_us)
        self._book = Book(self.symbol, bids=event.bids, asks=event.asks, last=event.last, engine_us=event.engine_us)
        self._synced, self._synced_us = True, local_us
        self._empty_snapshot = not (event.bids or event.asks)
        yield from self._levels(event.bids, event.asks, event.engine_us, local_us, event.last, event.last, snapshot=True)
        yield from self._stated("live", "BookSynced", "", event.last, event.engine_us, local_us)
        yield from self._quote(event.engine_us, local_us)

    def changed(self, event: BookChanged | Depth, local_us: int | None) -> Iterator[tuple[Table, Row]]:
        """Return the rows of a change, or of the hole before one that does not join on."""
        if isinstance(event, Depth):
            delta, first, last = event, event.first_update_id, event.last_update_id
        else:
            delta, first, last = event.delta, event.first, event.last
        if local_us is not None and self._synced_us is not None:
            # Frames that came before the snapshot wait for it: this book was not known any earlier.
            local_us = max(local_us, self._synced_us)
        yield from self._midnight(local_us)
        book = self._book
        known = self._last if book is None else book.last
        if known is not None and first != known + 1:
            reason = f"changes are missing: {known + 1} was expected, {first} came"
            yield from self._ended("stale", type(event).__name__, reason, known, delta.engine_us, local_us)
            book = None
        if book is None and self._synced:
            self.left_out += 1
            return
        if book is None:
            self._last = last
        else:
            book.apply(delta.bids, delta.asks, last=last, engine_us=delta.engine_us)
        snapshot = self._empty_snapshot and bool(delta.bids or delta.asks)
        emitted_us = delta.emitted_us
        yield from self._levels(
            delta.bids, delta.asks, delta.engine_us, local_us, first, last, snapshot=snapshot, emitted_us=emitted_us
        )
        yield from self._quote(delta.engine_us, local_us)

    def told(
        self,
        event: BookDesynced | BookStale | BookConfirmed | BookUnavailable | ConnectionDown | MarketClosed | MarketOpened,
        local_us: int | None,
    ) -> Iterator[tuple[Table, Row]]:
        """Return the rows of a new state of the book."""
        yield from self._midnight(local_us)
        name, last = type(event).__name__, self._book.last if self._book is not None else self._last
        match event:
            case BookStale(last=last, reason=reason):
                yield from self._stated("stale", name, reason, last, None, local_us)
                yield from self._quote(None, local_us)
            case BookConfirmed(last=last) if self._book is not None:
                yield from self._stated("live", name, "", last, None, local_us)
                yield from self._quote(None, local_us)
            case BookDesynced(last=last, reason=reason):
                yield from self._ended("stale", name, reason, last, None, local_us)
            case BookUnavailable(reason=reason) if self._state is None:
                yield from self._ended("stale", name, reason, last, None, local_us)
            case ConnectionDown(reason=reason) if self._book is None and last is not None:
                # A book is told by `BookDesynced`. Changes without one are not.
                yield from self._ended("stale", name, reason, last, None, local_us)
            case MarketClosed():
                yield from self._ended("closed", name, "the market is closed", last, None, local_us)
            case MarketOpened():
                yield from self._ended("stale", name, "the market is open again, its snapshot is awaited", last, None, local_us)

    def _ended(
        self, state: str, event: str, reason: str, last: int | None, engine_us: int | None, local_us: int | None
    ) -> Iterator[tuple[Table, Row]]:
        """Return the rows of a book that there is no more."""
        yield from self._stated(state, event, reason, last, engine_us, local_us)
        yield from self._empty(engine_us, local_us)
        self._book = self._last = None
        self._empty_snapshot = False
        yield from self._quote(engine_us, local_us)

    def _empty(self, engine_us: int | None, local_us: int | None) -> Iterator[tuple[Table, Row]]:
        """Return the rows that take its levels from a reader."""
        book = self._book
        if book is None or not (book.best_bid or book.best_ask):
            return
        bids, asks = book.bids(), book.asks()
        snapshot = not self._after_snapshot
        if snapshot:
            bids, asks = (bids[:1], ()) if bids else ((), asks[:1])
        gone_bids, gone_asks = ([Level(level.price_text, "0") for level in side] for side in (bids, asks))
        moment_us = _first(engine_us, local_us, book.engine_us, self.latest_us)
        yield from self._levels(gone_bids, gone_asks, moment_us, local_us, None, book.last, snapshot=snapshot)

    def _levels(
        self,
        bids: Iterable[Level],
        asks: Iterable[Level],
        moment_us: int | None,
        local_us: int | None,
        first: int | None,
        last: int | None,
        *,
        snapshot: bool,
        emitted_us: int | None = None,
    ) -> Iterator[tuple[Table, Row]]:
        symbol, stream = self.symbol, self.stream
        for side, levels in (("bid", bids), ("ask", asks)):
            for level in levels:
                self._after_snapshot = snapshot
                self._empty_snapshot = False
                yield (
                    BOOKS,
                    (
                        EXCHANGE,
                        symbol,
                        moment_us,
                        local_us,
                        snapshot,
                        side,
                        level.price_text,
                        level.quantity_text,
                        emitted_us,
                        first,
                        last,
                        stream,
                    ),
                )

    def _stated(
        self, state: str, event: str, reason: str, last: int | None, engine_us: int | None, local_us: int | None
    ) -> Iterator[tuple[Table, Row]]:
        self._state = (state, event, printable(reason, None))
        moment_us = _first(engine_us, local_us, None if self._book is None else self._book.engine_us, self.latest_us)
        yield BOOK_STATES, (EXCHANGE, self.symbol, moment_us, local_us, state, event, last, self._state[2], self.stream)

    def _quote(self, engine_us: int | None, local_us: int | None, *, again: bool = False) -> Iterator[tuple[Table, Row]]:
        """Return the row of the best bid and ask, if they are others than before."""
        book = self._book
        live = book is not None and self._state is not None and self._state[0] == "live"
        bid, ask = (book.best_bid, book.best_ask) if book is not None and live else (None, None)
        top = (
            *((None, None) if ask is None else (ask.quantity_text, ask.price_text)),
            *((None, None) if bid is None else (bid.price_text, bid.quantity_text)),
        )
        if top == self._top and not again:
            return
        self._top = top
        moment_us = _first(engine_us, local_us, None if book is None else book.engine_us, self.latest_us)
        yield QUOTES, (EXCHANGE, self.symbol, moment_us, local_us, *top, None if book is None else book.last, self.stream)

    def _midnight(self, local_us: int | None) -> Iterator[tuple[Table, Row]]:
        """Return, at the first event of a day, the rows that its files begin with."""
        if not self._daily or local_us is None:
            return
        day, before = local_us // DAY_US, self._day
        # A clock that is set back over midnight begins no day again.
        self._day = day if before is None else max(day, before)
        if before is None or day <= before:
            return
        midnight_us, book, state = day * DAY_US, self._book, self._state
        if book is not None:
            last = book.last
            yield from self._levels(book.bids(), book.asks(), book.engine_us, midnight_us, last, last, snapshot=True)
            if not (book.best_bid or book.best_ask):
                self._empty_snapshot = True
            yield from self._quote(book.engine_us, midnight_us, again=True)
        if state is not None:
            yield from self._stated(*state, self._last if book is None else book.last, midnight_us, midnight_us)


def _first(*moments: int | None) -> int | None:
    """Return the first moment that is known."""
    return next((moment for moment in moments if moment is not None), None)

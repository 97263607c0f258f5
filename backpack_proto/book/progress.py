"""Progress of the start of many books.

Theory of operation. Snapshots share the request budget, so hundreds of books become live over seconds or minutes, at the start and after each
reconnect. When MANY books or more are missing, that is a start: it is reported at most once in REPORT_US, with the next book that becomes live, and once
more when all are live. Books of closed markets are not waited for. Fewer books than that are served at once, and report themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.outputs import (
    BookConfirmed,
    BookDesynced,
    BooksProgress,
    BookStale,
    BookSynced,
    MarketClosed,
    MarketOpened,
)

__all__ = ["MANY", "REPORT_US", "BookReleased", "BookStart", "BookStartInput", "BookWanted"]

MANY: Final = 20
"""As many requests leave at once. Others have to wait."""
REPORT_US: Final = 1_000_000


class BookWanted(Struct, frozen=True, gc=False):
    """The book of a depth stream is wanted."""

    stream: str
    symbol: str


class BookReleased(Struct, frozen=True, gc=False):
    """It is wanted no more."""

    stream: str


BookStartInput: TypeAlias = (
    BookWanted | BookReleased | BookSynced | BookConfirmed | BookStale | BookDesynced | MarketClosed | MarketOpened | TimerFired
)


class BookStart:
    """Counts the books that are wanted and those that have been reported live. A machine without a timer."""

    def __init__(self) -> None:
        self._books: dict[str, str] = {}
        """The market of each stream."""
        self._live: set[str] = set()
        self._closed: set[str] = set()
        """Streams of closed markets."""
        self._starting = False
        self._reported_us: int | None = None

    @property
    def deadline(self) -> int | None:
        """Never: books that become live give the occasion."""
        return None

    def handle(self, given: BookStartInput, now: Now) -> Sequence[BooksProgress]:
        """Take the new state of a book. Return a report where one is due."""
        match given:
            case BookWanted(stream, symbol):
                self._books[stream] = symbol
            case BookReleased(stream):
                self._books.pop(stream, None)
                self._live.discard(stream)
                self._closed.discard(stream)
            case BookSynced(stream=stream) | BookConfirmed(stream=stream):
                self._live.add(stream)
            case BookStale(stream=stream) | BookDesynced(stream=stream):
                self._live.discard(stream)
            case MarketClosed(symbol=symbol):
                self._closed.update(stream for stream, of in self._books.items() if of == symbol)
            case MarketOpened(symbol=symbol):
                self._closed.difference_update([stream for stream in self._closed if self._books[stream] == symbol])
            case TimerFired():
                return ()
        return self._report(now, gained=isinstance(given, BookSynced | BookConfirmed))

    def _report(self, now: Now, *, gained: bool) -> Sequence[BooksProgress]:
        wanted = len(self._books) - len(self._closed)
        live = len(self._live)
        missing = wanted - live
        if missing >= MANY and not self._starting:
            self._starting, self._reported_us = True, None
        if not self._starting or (missing > 0 and not (gained and self._is_due(now))):
            return ()
        self._starting = missing > 0
        self._reported_us = now.mono_us
        return (BooksProgress(wanted=wanted, live=live),)

    def _is_due(self, now: Now) -> bool:
        return self._reported_us is None or now.mono_us - self._reported_us >= REPORT_US

"""Evidence of other streams about a book: `bookTicker` states its best levels, and a trade always changes it.

Either may be ahead of the depth stream for a moment. One that the stream does not follow within LAG_US is counter-evidence: the stream is stuck.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from backpack_proto.backoff import Backoff
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, Trade

from .levels import Book
from .verification import TopCheck, Verdict

__all__ = ["LAG_US", "Overdue", "Witnesses"]

LAG_US = 2_000_000
"""Time that the book may stay behind a bookTicker or a trade before its stream counts as stuck."""
TRADE_SLACK_US = 100_000
"""A trade this much newer than the book is not in it. The two times of one match may differ a little."""
TRADE_DOUBTS = Backoff(base_us=60_000_000, cap_us=900_000_000)
"""Number of times that trades alone have a book begin again: not every trade need be one of the book's."""


class Overdue(NamedTuple):
    """The stream counts as stuck."""

    reason: str
    certain: bool
    """Shown by an update id. A trade need not be one of the book's."""


class Witnesses:
    """Compares the best levels of a book with `bookTicker`, and watches whether its stream follows the ones that are ahead."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._tops = TopCheck()
        self._began_us = 0
        self._trade: tuple[int, int] | None = None
        """The engine's time of a trade that the book has not reached, and when it came."""
        self._trade_doubts = 0
        self._trade_doubted_us: int | None = None
        self._deadline: int | None = None

    @property
    def deadline(self) -> int | None:
        """When the stream has to have followed, or None if it is not behind."""
        return self._deadline

    @property
    def waiting(self) -> bool:
        """True when a ticker waits for the book to reach it."""
        return self._tops.unreached is not None

    @property
    def remember(self) -> Callable[[tuple[int, Level | None, Level | None]], None]:
        """Function to call in place of `book_changed` while no ticker waits, with the book's update id, best bid and best ask."""
        return self._tops.remember

    def follows(self, trade: Trade) -> bool:
        """Return whether the book has reached a trade, or waits for another one, so that this one need not be noted."""
        return self._trade is not None or trade.engine_us <= self._book.engine_us + TRADE_SLACK_US

    def begin(self, mono_us: int) -> Verdict | str:
        """Begin with a book that has just been synced. Tickers that it is yet to reach stay. A text says how the two differ."""
        self._began_us = mono_us
        verdict = self._tops.restart(self._book)
        self._watch()
        return verdict

    def forget(self) -> None:
        """Forget everything that was said."""
        self._tops.reset()
        self._trade = self._deadline = None

    def keep(self, ticker: BookTicker, mono_us: int) -> None:
        """Keep a ticker for a book that is being synced."""
        self._tops.keep(ticker, mono_us)

    def book_changed(self) -> Verdict | str:
        """Compare the book's new best levels with a ticker that waited for them. A text says how the two differ."""
        return self._tops.book_changed(self._book)

    def ticker_arrived(self, ticker: BookTicker, mono_us: int) -> Verdict | str:
        """Compare a ticker with the book that follows. A text says how the two differ."""
        verdict = self._tops.ticker_arrived(ticker, self._book.last, mono_us)
        if ticker.update_id > self._book.last:
            self._watch()
        return verdict

    def trade_arrived(self, trade: Trade, mono_us: int) -> None:
        """Note a trade that the book has not reached."""
        if self.follows(trade):
            return
        doubted_us = self._trade_doubted_us
        if doubted_us is None or mono_us - doubted_us >= TRADE_DOUBTS.delay_us(self._trade_doubts):
            self._trade = (trade.engine_us, mono_us)
            self._watch()

    def overdue(self, mono_us: int) -> Overdue | None:
        """Return why the stream counts as stuck, once the deadline has come, or None when it has followed."""
        if self._deadline is None or mono_us < self._deadline:
            return None
        book, trade, unreached = self._book, self._trade, self._tops.unreached
        if unreached is not None and max(unreached[1], self._began_us) + LAG_US <= mono_us:
            return Overdue(f"the depth stream is stuck at {book.last}, bookTicker is at {unreached[0]}", certain=True)
        if trade is not None and trade[1] + LAG_US <= mono_us:
            self._trade = None
            if book.engine_us + TRADE_SLACK_US < trade[0]:
                self._trade_doubts += 1
                self._trade_doubted_us = mono_us
                return Overdue(f"the depth stream is stuck at {book.last}: a later trade is not in it", certain=False)
        self._watch()
        return None

    def _watch(self) -> None:
        unreached = self._tops.unreached
        since = [] if unreached is None else [max(unreached[1], self._began_us)]
        since += [] if self._trade is None else [self._trade[1]]
        self._deadline = min(since) + LAG_US if since else None

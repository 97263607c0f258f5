"""A book as a client shows it: the levels of the session's book, and whether they can be trusted at the moment of reading."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from backpack_proto.book.levels import Book, Coverage
from backpack_proto.machine import Now
from backpack_proto.streams.levels import Level

__all__ = ["BookView"]


class BookView:
    """Order book of one market, always at the latest frame.

    `live` and `age_us` are worked out when they are read, so that a program that was blocked or a machine that slept never sees an old
    book that says it is live (docs/concepts.md).
    """

    __slots__ = ("_book", "_now")

    def __init__(self, book: Book, now: Callable[[], Now]) -> None:
        """`now` reads the clock on which the session lives."""
        self._book = book
        self._now = now

    def __repr__(self) -> str:
        """Show the market, its best levels and whether they are live."""
        state = "live" if self.live else "stale"
        return f"<BookView {self.symbol} {state} at {self.last}: {self.best_bid} / {self.best_ask}>"

    def shows(self, book: Book) -> bool:
        """Return whether this is the view of a book of the session."""
        return self._book is book

    @property
    def live(self) -> bool:
        """True when the book follows the exchange without a hole, and fresh proof says so. A book that is not live is stale."""
        return self._book.is_live(self._now().mono_us)

    @property
    def age_us(self) -> int | None:
        """Age of the newest proof that this is the book of the exchange, in microseconds, or None without proof."""
        return self._book.age_us(self._now().mono_us)

    @property
    def symbol(self) -> str:
        """Id of the market."""
        return self._book.symbol

    @property
    def last(self) -> int:
        """Last update id that is in the book."""
        return self._book.last

    @property
    def engine_us(self) -> int:
        """Time at which the matching engine made that update, in microseconds since the epoch."""
        return self._book.engine_us

    @property
    def coverage(self) -> Coverage:
        """Range of prices inside which every level is known."""
        return self._book.coverage

    @property
    def best_bid(self) -> Level | None:
        """Highest bid that is known, or None."""
        return self._book.best_bid

    @property
    def best_ask(self) -> Level | None:
        """Lowest ask that is known, or None."""
        return self._book.best_ask

    def bids(self, count: int | None = None) -> tuple[Level, ...]:
        """Return the best bids, best first. Fewer than asked for where the known part ends (see `coverage`)."""
        return self._book.bids(count)

    def asks(self, count: int | None = None) -> tuple[Level, ...]:
        """Return the best asks, best first. Fewer than asked for where the known part ends (see `coverage`)."""
        return self._book.asks(count)

    def bid_quantity(self, price: Decimal) -> Decimal | None:
        """Return the quantity bid at a price, or None where it is unknown."""
        return self._book.bid_quantity(price)

    def ask_quantity(self, price: Decimal) -> Decimal | None:
        """Return the quantity asked at a price, or None where it is unknown."""
        return self._book.ask_quantity(price)

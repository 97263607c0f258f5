"""Callbacks that count, for feeds of cryptofeed."""

from __future__ import annotations

from time import time_ns
from typing import Any

from .metering import END_TRADE, MARK_TRADE, Meter, Options

__all__ = ["Callbacks"]


class Callbacks:
    """A user of a feed. `raw_time` names the member of the frame with its time, without which the objects have it."""

    def __init__(self, options: Options, *, raw_time: str | None = None) -> None:
        self._top = options.top
        self._raw_time = raw_time
        self._meter = Meter(options)
        self._symbols = {symbol.replace("_", "-"): symbol for symbol in options.symbols}
        self._books: dict[str, Any] = {}

    def all(self) -> dict[str, Any]:
        """Return the callbacks by channel."""
        return {"l2_book": self.book, "trades": self.trade, "ticker": self.ticker}

    async def book(self, book: Any, _receipt: float) -> None:
        """Take a change of a book."""
        meter = self._meter
        meter.events += 1
        if self._top:
            _ = book.book.bids.index(0), book.book.asks.index(0)
        if meter.late_us is not None:
            self._be_late(book)
        if not meter.ready and meter.warm(self._symbols[book.symbol], book.sequence_number):
            meter.report_ready()
        self._books[book.symbol] = book.book

    async def trade(self, trade: Any, _receipt: float) -> None:
        """Take a trade. The mark and the end are trades as well."""
        number = int(trade.id)
        if number == MARK_TRADE:
            self._meter.mark()
        elif number == END_TRADE:
            self._meter.end(self._tops)
        else:
            self._meter.events += 1
            if self._meter.late_us is not None:
                self._be_late(trade)

    async def ticker(self, ticker: Any, _receipt: float) -> None:
        """Take a best bid and ask."""
        self._meter.events += 1
        if self._meter.late_us is not None:
            self._be_late(ticker)

    def _tops(self) -> dict[str, tuple[object, object]]:
        return {self._symbols[name]: (book.bids.index(0)[0], book.asks.index(0)[0]) for name, book in self._books.items()}

    def _be_late(self, found: Any) -> None:
        assert self._meter.late_us is not None
        if self._raw_time is None:
            self._meter.late_us.append(time_ns() // 1000 - int(found.timestamp * 1_000_000))
        elif self._raw_time in found.raw:
            self._meter.late_us.append(time_ns() // 1000 - found.raw[self._raw_time])

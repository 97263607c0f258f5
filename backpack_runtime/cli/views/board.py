"""The live view's knowledge: books, last trades and prices, the last word of everything else, market by market, and the connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Protocol

from backpack_proto.decoding import sane
from backpack_proto.outputs import (
    BookDesynced,
    BookStale,
    BookSynced,
    BookUnavailable,
    BookVerified,
    ConnectionDown,
    ConnectionUp,
    MarketClosed,
    MarketOpened,
)
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.streams.channels import CHANNEL_OF
from backpack_proto.streams.levels import Level
from backpack_proto.streams.names import bare_ticker, parse_stream
from backpack_proto.streams.payloads import (
    BookTicker,
    Event,
    ExternalTicker,
    Kline,
    Liquidation,
    MarkPrice,
    OpenInterest,
    StockPayload,
    StreamPayload,
    Ticker,
    Trade,
)
from backpack_runtime.cli.events import decimal_places, plain

from .prices import PriceHistory

__all__ = ["DAY", "TRADES_KEPT", "Board", "Connection", "Panel", "ShownBook", "percent"]

TRADES_KEPT = 200
DAY = "24h"
"""The label of the ticker's line."""
_SAID_ELSEWHERE = ("symbol", "emitted_us", "engine_us", "received_us")


class ShownBook(Protocol):
    """Book as the view reads it: that of the client, or a copy that stands still."""

    @property
    def live(self) -> bool:
        """It can be trusted."""
        ...

    @property
    def last(self) -> int:
        """Last update id that is in it."""
        ...

    @property
    def engine_us(self) -> int:
        """Time of that update."""
        ...

    @property
    def best_bid(self) -> Level | None:
        """Highest bid."""
        ...

    @property
    def best_ask(self) -> Level | None:
        """Lowest ask."""
        ...

    def bids(self, count: int | None = None) -> tuple[Level, ...]:
        """Return the best bids, best first."""
        ...

    def asks(self, count: int | None = None) -> tuple[Level, ...]:
        """Return the best asks, best first."""
        ...


class _StillBook:
    """Copy of the upper part of a book."""

    def __init__(self, book: ShownBook, levels: int) -> None:
        self.live, self.last, self.engine_us = book.live, book.last, book.engine_us
        self._bids, self._asks = book.bids(levels), book.asks(levels)
        self.best_bid, self.best_ask = book.best_bid, book.best_ask

    def bids(self, count: int | None = None) -> tuple[Level, ...]:
        return self._bids[:count]

    def asks(self, count: int | None = None) -> tuple[Level, ...]:
        return self._asks[:count]


@dataclass(slots=True)
class Connection:
    """The connection that all markets hang on."""

    fault: str | None = "connecting"
    """Reason why it is lost, or None while it is there."""
    typed: bool = False
    """The fault comes with a type of its own, such as one of a proxy, and is in words."""
    attempt: int = 0
    """Tries that have failed since it was last there."""
    retry_at_us: int = 0
    """When the next one is made."""


@dataclass(slots=True)
class _Run:
    """State of a book beside its levels."""

    verified: bool = False
    reason: str = "no snapshot yet"
    """Why it is stale, if it is."""


@dataclass(slots=True)
class Panel:
    """One market."""

    symbol: str
    price_decimals: int = 0
    quantity_decimals: int = 0
    book: ShownBook | None = None
    """None when its book was not asked for."""
    trades: deque[Trade] | None = None
    """Latest first, or None when they were not asked for."""
    facts: dict[str, str] = field(default_factory=dict)
    """The last word of each other channel, by its name."""
    closed: bool = False
    """The exchange says that the market is closed."""
    runs: dict[str, _Run] = field(default_factory=dict)
    """By stream: a market may have several depth streams."""
    last: Decimal | None = None
    """The last price that a trade or the ticker told."""
    change: Decimal | None = None
    """Of the price within 24 hours, as a fraction, or None before the ticker has told it."""
    prices: PriceHistory = field(default_factory=PriceHistory)
    ticks: bool = False
    """The exchange tells something of it every second: silence is a fault."""
    shows_day: bool = True
    """The ticker has a line of its own, beside the last price and the change."""

    @property
    def run(self) -> _Run:
        """That of the book which is shown: the unaggregated one, if there is one."""
        return self.runs[min(self.runs, key=len)] if self.runs else _Run()

    def still(self, levels: int) -> Panel:
        """Return a copy that does not change any more, with so many levels a side."""
        return replace(
            self,
            book=None if self.book is None else _StillBook(self.book, levels),
            trades=None if self.trades is None else self.trades.copy(),
            facts=dict(self.facts),
            runs={stream: replace(run) for stream, run in self.runs.items()},
            prices=self.prices.copy(),
        )


class Board:
    """All markets of the view, in the order in which they were asked for, and the connection that they hang on."""

    def __init__(self, panels: Iterable[Panel]) -> None:
        self.panels = {panel.symbol: panel for panel in panels}
        self._of_tickers = {bare_ticker(symbol): panel for symbol, panel in self.panels.items()}
        """Data about a stock name its ticker."""
        self.connection = Connection()
        self.notice = ""
        """The last line of the log."""

    def still(self, levels: int) -> Board:
        """Return a copy that does not change any more, with so many levels a side."""
        board = Board(panel.still(levels) for panel in self.panels.values())
        board.connection = replace(self.connection)
        board.notice = self.notice
        return board

    def symbol_of(self, stream: str) -> str | None:
        """Return the market of the board that a stream is about."""
        symbol = parse_stream(stream).symbol or ""
        if symbol in self.panels:
            return symbol
        panel = self._of_tickers.get(bare_ticker(symbol))
        return None if panel is None else panel.symbol

    def take(self, event: Event, mono_us: int) -> None:
        """Keep the news of an event, at this moment. Most of them are in the counters and the books already."""
        match event:
            case ConnectionUp():
                self.connection = Connection(fault=None)
            case ConnectionDown(reason=reason, retry_us=retry_us, error=error):
                attempt = self.connection.attempt + 1
                self.connection = Connection(reason, error is not None, attempt, mono_us + retry_us)
                for each in self.panels.values():
                    each.prices.note(None, mono_us)
            case _:
                symbol = getattr(event, "symbol", None) or ""
                panel = self.panels.get(symbol)
                if panel is None and isinstance(event, StockPayload):
                    panel = self._of_tickers.get(bare_ticker(symbol))
                if panel is not None:
                    _tell(panel, event, mono_us)


def _tell(panel: Panel, event: Event, mono_us: int) -> None:
    match event:
        case Trade():
            _price(panel, event.price, mono_us)
            if panel.trades is not None:
                panel.trades.appendleft(event)
        case Ticker() if not isinstance(event, ExternalTicker):
            _price(panel, event.last_price, mono_us)
            panel.change = _ratio(event.last_price, event.first_price) - 1 if event.first_price else None
            if panel.shows_day:
                panel.facts[DAY] = _day(event)
        case BookSynced(stream=stream):
            panel.runs[stream] = _Run()
        case BookVerified(stream=stream):
            panel.runs.setdefault(stream, _Run()).verified = True
        case BookDesynced(stream=stream, reason=reason) | BookUnavailable(stream=stream, reason=reason):
            panel.runs[stream] = _Run(reason=reason)
        case MarketClosed() | MarketOpened():
            panel.closed = isinstance(event, MarketClosed)
        case MarketChanged(market=market):
            panel.price_decimals = decimal_places(market.tick_size)
            panel.quantity_decimals = decimal_places(market.step_size)
        case BookStale(stream=stream, reason=reason):
            # It goes on following its stream, and stays verified.
            panel.runs.setdefault(stream, _Run()).reason = reason
        case _:
            fact = _fact(event)
            if fact is not None:
                panel.facts[fact[0]] = fact[1]


def _price(panel: Panel, price: Decimal, mono_us: int) -> None:
    panel.last = price
    panel.prices.note(price, mono_us)


def _day(event: Ticker) -> str:
    change = percent(_ratio(event.last_price, event.first_price) - 1, ".2f")
    return f"{plain(event.last_price)} {change} low {plain(event.low)} high {plain(event.high)} vol {plain(event.volume)}"


def _fact(event: Event) -> tuple[str, str] | None:
    """Label and text of an event of which the last one is all that matters."""
    match event:
        case BookTicker():
            bid, ask = ("none" if price is None else plain(price) for price in (event.bid_price, event.ask_price))
            return "top", f"{bid} / {ask}"
        case ExternalTicker():
            return "external", _day(event)
        case MarkPrice():
            index = "" if event.index_price is None else f" index {plain(event.index_price)}"
            funding = "" if event.funding_rate is None else f" funding {percent(event.funding_rate)}"
            return "mark", f"{plain(event.mark_price)}{index}{funding}"
        case OpenInterest():
            return "open interest", "-" if event.open_interest is None else plain(event.open_interest)
        case Kline():
            prices = " ".join(
                "-" if price is None else plain(price) for price in (event.open, event.high, event.low, event.close)
            )
            return event.interval, f"{prices} vol {plain(event.volume)}"
        case Liquidation():
            return "liquidation", f"{event.side.lower()} {plain(event.quantity)} at {plain(event.price)}"
        case StreamPayload() if not CHANNEL_OF[type(event)].private:
            return CHANNEL_OF[type(event)].value, _members(event)
        case _:
            return None


def _members(event: StreamPayload) -> str:
    """Return all members of an event that has no line of its own."""
    found = {name: getattr(event, name) for name in event.__struct_fields__ if name not in _SAID_ELSEWHERE}
    texts = {
        name: plain(value) if isinstance(value, Decimal) else str(value) for name, value in found.items() if value is not None
    }
    return " ".join(f"{name} {text}" for name, text in texts.items())


def _ratio(value: Decimal, base: Decimal) -> Decimal:
    """Return a value divided by a base, or 1 where that has no answer, as with absurd numbers."""
    return value / base if base and sane(value) and sane(base) else Decimal(1)


def percent(fraction: Decimal, form: str = "f") -> str:
    """Return a fraction as a percentage with its sign."""
    return f"{(fraction * 100).normalize():+{form}} %" if sane(fraction) else "-"

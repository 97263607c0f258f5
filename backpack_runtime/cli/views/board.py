"""What the live view knows: the books, the last trades, the last word of everything else, market by market."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

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
from backpack_proto.streams.names import bare_ticker
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
from backpack_runtime.books import BookView
from backpack_runtime.cli.events import decimal_places, plain

__all__ = ["TRADES_KEPT", "Board", "Panel", "Rate"]

TRADES_KEPT = 200
RATE_US = 2_000_000
_SAID_ELSEWHERE = ("symbol", "emitted_us", "engine_us", "received_us")


@dataclass(slots=True)
class _Run:
    """What is known of a book beside its levels."""

    verified: bool = False
    reason: str = "no snapshot yet"
    """Why it is stale, if it is."""


@dataclass(slots=True)
class Panel:
    """One market."""

    symbol: str
    price_decimals: int = 0
    quantity_decimals: int = 0
    book: BookView | None = None
    """None when its book was not asked for."""
    trades: deque[Trade] | None = None
    """Latest first; None when they were not asked for."""
    facts: dict[str, str] = field(default_factory=dict)
    """The last word of each other channel, by its name."""
    closed: bool = False
    """The exchange says that the market is closed."""
    runs: dict[str, _Run] = field(default_factory=dict)
    """By stream: a market may have several depth streams."""

    @property
    def run(self) -> _Run:
        """That of the book which is shown: the unaggregated one, if there is one."""
        return self.runs[min(self.runs, key=len)] if self.runs else _Run()


class Board:
    """All markets of the view, in the order in which they were asked for, and the connection that they hang on."""

    def __init__(self, panels: Iterable[Panel]) -> None:
        self.panels = {panel.symbol: panel for panel in panels}
        self._of_tickers = {bare_ticker(symbol): panel for symbol, panel in self.panels.items()}
        """Data about a stock name its ticker."""
        self.connection_fault: str | None = "connecting"
        """Why there is no connection; None when there is one."""
        self.notice = ""
        """The last line of the log."""

    def take(self, event: Event) -> None:
        """Keep what the event says; most say nothing that the counters and the books do not."""
        match event:
            case ConnectionUp():
                self.connection_fault = None
            case ConnectionDown(reason=reason):
                self.connection_fault = reason
            case _:
                symbol = getattr(event, "symbol", None) or ""
                panel = self.panels.get(symbol)
                if panel is None and isinstance(event, StockPayload):
                    panel = self._of_tickers.get(bare_ticker(symbol))
                if panel is not None:
                    _tell(panel, event)


class Rate:
    """Messages a second, over the last two or so."""

    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque()

    def update(self, count: int, mono_us: int) -> float:
        """Take the counter at this moment, and return the rate."""
        self._counts.append((mono_us, count))
        while len(self._counts) > 2 and mono_us - self._counts[1][0] >= RATE_US:
            self._counts.popleft()
        since_us, before = self._counts[0]
        return (count - before) * 1e6 / (mono_us - since_us) if mono_us > since_us else 0.0


def _tell(panel: Panel, event: Event) -> None:
    match event:
        case Trade():
            if panel.trades is not None:
                panel.trades.appendleft(event)
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


def _fact(event: Event) -> tuple[str, str] | None:
    """Label and text of an event of which the last one is all that matters."""
    match event:
        case BookTicker():
            bid, ask = ("none" if price is None else plain(price) for price in (event.bid_price, event.ask_price))
            return "top", f"{bid} / {ask}"
        case Ticker():
            label = "external" if isinstance(event, ExternalTicker) else "24h"
            change = _percent(_ratio(event.last_price, event.first_price) - 1, ".2f")
            text = (
                f"{plain(event.last_price)} {change} low {plain(event.low)} high {plain(event.high)} vol {plain(event.volume)}"
            )
            return label, text
        case MarkPrice():
            index = "" if event.index_price is None else f" index {plain(event.index_price)}"
            funding = "" if event.funding_rate is None else f" funding {_percent(event.funding_rate)}"
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
    """What is known of an event that has no line of its own."""
    found = {name: getattr(event, name) for name in event.__struct_fields__ if name not in _SAID_ELSEWHERE}
    texts = {
        name: plain(value) if isinstance(value, Decimal) else str(value) for name, value in found.items() if value is not None
    }
    return " ".join(f"{name} {text}" for name, text in texts.items())


def _ratio(value: Decimal, base: Decimal) -> Decimal:
    """How many times the base a value is; 1 where that has no answer, as with absurd numbers."""
    return value / base if base and sane(value) and sane(base) else Decimal(1)


def _percent(fraction: Decimal, form: str = "f") -> str:
    return f"{(fraction * 100).normalize():+{form}} %" if sane(fraction) else "-"

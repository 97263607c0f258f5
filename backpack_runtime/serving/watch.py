"""Memory of a client's latest events: the state of the connection, of each market and of each stream, and a minute or two of rates.

Levels are not kept: they are read from the client's own books at the moment at which somebody looks at them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final

import anyio

from backpack_proto.errors import BackpackError, LocalProtocolError
from backpack_proto.histogram import Histogram
from backpack_proto.metrics import Status
from backpack_proto.outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    BookUnavailable,
    BookVerified,
    ConnectionDown,
    ConnectionUp,
    MarketClosed,
    MarketOpened,
    StreamLive,
    StreamSilent,
    StreamsRefused,
)
from backpack_proto.streams.payloads import Event, Ticker, Trade
from backpack_runtime.books import BookView
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import SlowConsumer
from backpack_runtime.market_selection import CLOSED
from backpack_runtime.transport import system_now

__all__ = ["SAMPLES", "TRADES_KEPT", "Connection", "Panel", "Sample", "Trust", "Watch"]

SAMPLES: Final = 120
"""Seconds of rates and latencies that are kept."""
SAMPLE_SECONDS: Final = 1.0
TRADES_KEPT: Final = 40
BUFFER: Final = 20_000
REASON_WAITING: Final = "the first snapshot has not come yet"
REASON_EXPIRED: Final = "no fresh proof has come"
KINDS: Final = (
    *(BookChanged, BookConfirmed, BookDesynced, BookStale, BookSynced, BookUnavailable, BookVerified),
    *(ConnectionDown, ConnectionUp, MarketClosed, MarketOpened, StreamLive, StreamSilent, StreamsRefused),
    *(Ticker, Trade),
)


class Trust(StrEnum):
    """State of the book of a market."""

    VERIFIED = "verified"
    """Live, and found equal to the exchange's own word since it was synced."""
    FRESH = "fresh"
    """Live, and not compared yet."""
    STALE = "stale"
    """Not live: its levels may be old."""
    CLOSED = "closed"
    """The exchange says that the market is closed."""


@dataclass(slots=True)
class Connection:
    """State of the connection, as the last event about it says."""

    up: bool
    since_us: int
    """When it became so, on the monotonic clock."""
    reason: str = ""
    """Why it is down."""
    retry_at_us: int | None = None
    """When the next attempt begins, on the monotonic clock."""


@dataclass(slots=True)
class Panel:
    """One market."""

    symbol: str
    closed: bool = False
    verified: bool = False
    reason: str = REASON_WAITING
    """Why its book is stale, if it is."""
    live: bool = False
    """As it was when it was last looked at."""
    since_us: int = 0
    """When it became live, or stale, on the monotonic clock."""
    resyncs: int = 0
    last_price: Decimal | None = None
    ticker: Ticker | None = None
    trades: deque[Trade] = field(default_factory=lambda: deque(maxlen=TRADES_KEPT))
    """Latest first."""

    def look(self, book: BookView, mono_us: int) -> Trust:
        """Return the state of its book at this moment, and note when it turned."""
        live = book.live
        if live != self.live:
            self.live, self.since_us = live, mono_us
        if live:
            return Trust.VERIFIED if self.verified else Trust.FRESH
        return Trust.CLOSED if self.closed else Trust.STALE


@dataclass(frozen=True, slots=True)
class Sample:
    """One second: messages in it, and how long they took from the matching engine to this machine."""

    number: int
    messages: int
    p50_us: int | None
    p99_us: int | None


class Watch:
    """Follower of a client's events, which keeps the part that a page shows."""

    def __init__(self, client: BackpackClient, symbols: tuple[str, ...] | None) -> None:
        """Without `symbols` every market whose book the client has is followed, those that are subscribed later included."""
        self._client = client
        self._symbols = symbols
        now_us = system_now().mono_us
        health = client.health
        down = health.status is Status.DOWN
        self.connection = Connection(up=not down, since_us=now_us, reason=health.reasons[0] if down else "")
        self.silent: set[str] = set()
        """Streams that are reported as silent."""
        self.refused: dict[str, str] = {}
        """Streams that the exchange refused, with its words."""
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self.failure: str | None = None
        """Reason why events are not followed any more."""
        self._latency = Histogram()
        self._messages = client.metrics.ws_messages
        self.panels: dict[str, Panel] = {}
        """The markets by their symbols, in the order in which they were asked for."""
        self._has_been_ready = False
        self.refresh()

    def refresh(self) -> None:
        """Take up markets whose books were subscribed since, and leave out those that are no more."""
        named = self._symbols if self._symbols is not None else self._client.markets
        wanted = [symbol for symbol in named if self._has_book(symbol)]
        if wanted != list(self.panels):
            self.panels = {symbol: self.panels.get(symbol) or self._new_panel(symbol) for symbol in wanted}

    @property
    def ready(self) -> bool:
        """True once there have been data: a live book, or only books of closed markets. Without books, any message."""
        if not self._has_been_ready:
            metrics = self._client.metrics
            books = metrics.books
            none_is_open = books.closed == books.wanted
            self._has_been_ready = books.live > 0 or (none_is_open and (books.wanted > 0 or metrics.ws_messages > 0))
        return self._has_been_ready and self.failure is None

    async def follow(self) -> None:
        """Take the events until the client is closed."""
        try:
            async with self._client.stream(*KINDS, slow_consumer=SlowConsumer.CONFLATE, buffer=BUFFER) as events:
                async for batch in events.batches():
                    for event in batch:
                        self.take(event)
            self.failure = "the client has been closed"
        except BackpackError as error:
            self.failure = f"the client has ended: {error}"

    async def sample(self) -> None:
        """Keep rate and latency of each second."""
        number = 0
        while True:
            await anyio.sleep(SAMPLE_SECONDS)
            number += 1
            self.refresh()
            now_us = system_now().mono_us
            for panel in self.panels.values():
                panel.look(self._client.book(panel.symbol), now_us)
            messages, before = self._client.metrics.ws_messages, self._messages
            latency, self._latency, self._messages = self._latency, Histogram(), messages
            self.samples.append(Sample(number, max(messages - before, 0), latency.percentile(0.5), latency.percentile(0.99)))

    def take(self, event: Event) -> None:
        """Keep the news of an event."""
        now_us = system_now().mono_us
        match event:
            case ConnectionUp():
                self.connection = Connection(up=True, since_us=now_us)
                self.refused.clear()
            case ConnectionDown(reason=reason, retry_us=retry_us):
                since_us = now_us if self.connection.up else self.connection.since_us
                self.connection = Connection(up=False, since_us=since_us, reason=reason, retry_at_us=now_us + retry_us)
                self.silent.clear()
            case StreamSilent(stream=stream):
                self.silent.add(stream)
            case StreamLive(stream=stream):
                self.silent.discard(stream)
                self.refused.pop(stream, None)
            case StreamsRefused(suspects=suspects, message=message):
                self.refused.update(dict.fromkeys(suspects, message))
            case _:
                panel = self.panels.get(getattr(event, "symbol", None) or "")
                if panel is not None:
                    self._tell(panel, event)

    def _tell(self, panel: Panel, event: Event) -> None:
        match event:
            case BookChanged(verified=verified, engine_us=engine_us, received_us=received_us):
                panel.verified = panel.verified or verified
                if received_us is not None:
                    self._latency.record(received_us - engine_us)
            case Trade(engine_us=engine_us, received_us=received_us, price=price):
                panel.trades.appendleft(event)
                panel.last_price = price
                if received_us is not None:
                    self._latency.record(received_us - engine_us)
            case Ticker(last_price=last_price):
                panel.ticker = event
                panel.last_price = last_price
            case BookVerified():
                panel.verified = True
            case BookSynced():
                panel.verified, panel.closed, panel.reason = False, False, REASON_EXPIRED
                self._has_been_ready = True
            case BookConfirmed():
                panel.reason = REASON_EXPIRED
            case BookDesynced(reason=reason):
                panel.verified, panel.reason = False, reason
                panel.resyncs += 1
            case BookUnavailable(reason=reason) | BookStale(reason=reason):
                panel.reason = reason
            case MarketClosed() | MarketOpened():
                panel.closed = isinstance(event, MarketClosed)
            case _:
                raise AssertionError(f"{type(event).__name__} was asked for, and is not kept")

    def why_not_live(self, panel: Panel) -> str:
        """Return why the book of a market is not live."""
        if panel.closed:
            return "the exchange says that the market is closed"
        return panel.reason if self.connection.up else f"the connection is down: {self.connection.reason}"

    def _has_book(self, symbol: str) -> bool:
        try:
            self._client.book(symbol)
        except LocalProtocolError:
            return False  # it is not subscribed
        return True

    def _new_panel(self, symbol: str) -> Panel:
        closed = self._client.markets[symbol].order_book_state == CLOSED
        return Panel(symbol, closed=closed, since_us=system_now().mono_us)

"""Candles as an async iterator: drives a `CandleJoin` by the stream and by REST of a client."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self, cast
from weakref import finalize

import anyio

from backpack_proto.candles import (
    CandleClock,
    CandleGap,
    CandleInput,
    CandleJoin,
    CandlesRead,
    CandlesUnread,
    FetchCandles,
)
from backpack_proto.errors import ApiError, BackpackError, ClientClosed, ConfigurationError
from backpack_proto.hints import one_of
from backpack_proto.inputs import Arguments, TimerFired
from backpack_proto.rest.results.market_data import ServerTime
from backpack_proto.streams.channels import KLINE_INTERVALS, KLINE_SECONDS
from backpack_proto.streams.payloads import Kline

from .checks import checked_count
from .delivery import EventStream
from .transport import system_now

__all__ = ["CandleSource", "Candles", "candles_of"]

FINAL: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
"""Refusals that another attempt would not change."""


class _Call(Protocol):
    async def __call__(self, endpoint: str, parameters: Arguments | None = None) -> object: ...


class CandleSource(NamedTuple):
    """Parts of a client that candles need."""

    symbol_id: Callable[[str], Awaitable[str]]
    follow: Callable[[str], EventStream]
    """Subscribes a stream of candles, and returns the events of all such streams."""
    release: Callable[[str], None]
    """Undoes that."""
    time: Callable[[], Awaitable[ServerTime]]
    call: _Call


class Candles:
    """Candles of one market: history and stream, joined without a hole. An async iterator that ends with the client.

        async with client.candles("SOL_USDC", "1m") as candles:
            async for candle in candles:
                ...

    Close it, leave its block, or let go of it, when you need it no more: then its stream is unsubscribed, unless you have that, too.
    """

    _symbol: str
    _interval: str
    _source: CandleSource
    _start_s: int | None
    _join: CandleJoin | None
    _events: EventStream | None
    _ready: deque[Kline | CandleGap]
    _asked: FetchCandles | None
    """Requests without an answer. An attempt that was given up is made again."""
    _release: Callable[[], object]
    _closed: bool

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more. An iteration ends behind the joined candles."""
        self._closed = True
        self._release()
        if self._events is not None:
            self._events.close()

    def __aiter__(self) -> Self:
        """Go on where the last iteration left off."""
        return self

    async def __anext__(self) -> Kline | CandleGap:
        """Return the next state of a candle, or a hole. One that is given up does not lose a candle.

        Raises:
            ApiError: the exchange refuses the request for good.
            UnknownSymbol: it has no such market.
            ClientClosed: the client has been closed, or has not been entered.
        """
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            if self._join is None or self._events is None:
                await self._begin()
            elif self._asked is not None:
                await self._fetch(self._asked)
            else:
                await self._wait(self._join, self._events)
        return self._ready.popleft()

    async def _begin(self) -> None:
        symbol = await self._source.symbol_id(self._symbol)
        time = await self._source.time()
        # There is no wait from here on, so that a beginning that is given up leaves no trace.
        start_us = time.server_us - KLINE_SECONDS[self._interval] * 1_000_000 + 1
        if self._start_s is not None:
            start_us = self._start_s * 1_000_000
        stream = f"kline.{self._interval}.{symbol}"
        self._events = self._source.follow(stream)
        release = finalize(self, self._source.release, stream)
        release.atexit = False
        self._release = release
        self._join = CandleJoin(symbol, self._interval, start_us)
        self._symbol = symbol
        self._give(CandleClock(exchange_us=time.server_us))

    async def _wait(self, join: CandleJoin, events: EventStream) -> None:
        """Wait for the stream, or for the moment at which REST is to be asked."""
        deadline = join.deadline
        seconds = None if deadline is None else max(deadline - system_now().mono_us, 0) / 1e6
        with anyio.move_on_after(seconds):
            event = await anext(events)
            if isinstance(event, Kline):
                self._give(event)
            return
        self._give(TimerFired())

    async def _fetch(self, asked: FetchCandles) -> None:
        parameters: Arguments = {
            "symbol": self._symbol,
            "interval": self._interval,
            "start_s": asked.start_s,
            "end_s": asked.end_s,
        }
        given: CandleInput
        try:
            given = CandlesRead(cast("tuple[Kline, ...]", await self._source.call("klines", parameters)))
        except ClientClosed:
            raise
        except BackpackError as error:
            if isinstance(error, ApiError) and error.status in FINAL:
                raise
            given = CandlesUnread(str(error))
        self._asked = None
        self._give(given)

    def _give(self, given: CandleInput) -> None:
        if self._join is None:
            raise AssertionError("there is something to join once the beginning was made")
        for output in self._join.handle(given, system_now()):
            if isinstance(output, FetchCandles):
                self._asked = output
            else:
                self._ready.append(output)


class _OfSource(Candles):
    """Make the candles of one client, without a request yet."""

    def __init__(self, source: CandleSource, symbol: str, interval: str, start_s: int | None) -> None:
        self._source = source
        self._symbol = symbol
        self._interval = interval
        self._start_s = start_s
        self._join = None
        self._events = None
        self._ready = deque()
        self._asked = None
        self._release = lambda: None
        self._closed = False


def candles_of(source: CandleSource, symbol: str, interval: str, start_s: int | None) -> Candles:
    """Return the candles of a market from a moment on.

    Raises:
        ConfigurationError: an argument cannot be used.
    """
    checked_interval(interval)
    if start_s is not None:
        checked_count("start_s", start_s, minimum=0, unit="seconds since the epoch")
    return _OfSource(source, symbol, interval, start_s)


def checked_interval(interval: object) -> str:
    """Return an interval of the exchange.

    Raises:
        ConfigurationError: it has no such interval. The text offers a close one.
    """
    if not isinstance(interval, str) or interval not in KLINE_INTERVALS:
        raise ConfigurationError(one_of("interval", interval, KLINE_INTERVALS))
    return interval

"""A cryptofeed connection whose messages are ccxt's answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from cryptofeed.connection import AsyncConnection
from cryptofeed.exceptions import UnsupportedSymbol

from backpack_proto.text import printable
from backpack_runtime.cryptofeed.errors import BackpackWebsocketError
from backpack_runtime.cryptofeed.logs import LOG

from .sources import POLLED, WATCHED, Source, Wish, signs_of_life

__all__ = ["CcxtConnection", "CcxtMessage"]

WAITING = 1000
"""Number of answers that may wait for the callbacks. Then ccxt's sources wait as well, and ccxt keeps its own part."""

CLOSE_SECONDS = 2.0
"""Time that a websocket may take to close in an orderly way."""


class CcxtMessage(NamedTuple):
    """Contents of one answer of ccxt for one channel of one market."""

    channel: str
    """In the exchange's words, as in a subscription."""
    market_id: str
    received: float
    """Seconds since the epoch."""
    news: list[Any]


class CcxtConnection(AsyncConnection):
    """One ccxt exchange object after the other, each with a task for every channel of every market.

    The end of one task ends the connection: waiting answers are still read, then the reader gets the error and cryptofeed
    connects again, after a delay that grows for as long as no connection brings data.
    """

    def __init__(
        self,
        conn_id: str,
        make_exchange: Callable[[], Any],
        subscription: Mapping[str, Iterable[str]],
        wish: Wish,
        *,
        rest_only: bool,
        timeout_seconds: float,
    ) -> None:
        """`wish` holds the settings that are the same for all sources. A ccxt that is silent for `timeout_seconds` is given up."""
        self._exchange: Any = None
        super().__init__(f"{conn_id}.ccxt.{self.conn_count}", subscription=subscription)
        self._make_exchange = make_exchange
        self._wish = wish
        self._rest_only = rest_only
        self._timeout_seconds = timeout_seconds
        self._tasks: list[asyncio.Task[None]] = []
        self._queue: asyncio.Queue[CcxtMessage | None] = asyncio.Queue()
        self._heard = asyncio.Event()
        self._heard_at = 0.0
        self._ended: BaseException | None = None
        self._closing = asyncio.Lock()
        self.last_message: float | None = None
        """When anything was heard last, in seconds since the epoch. Cryptofeed's watchdog looks at it."""

    @property
    def is_open(self) -> bool:
        """True when there is an exchange object that wants to be closed."""
        return self._exchange is not None

    async def _open(self) -> None:
        """Load the markets, start all sources and wait until one of them has brought data.

        Raises:
            BackpackWebsocketError: the exchange cannot be reached, or is silent.
            UnsupportedSymbol: ccxt does not know one of the markets.
        """
        self._queue = asyncio.Queue(WAITING)
        self._heard = asyncio.Event()
        self._heard_at = time.monotonic()
        self._ended = None
        self.last_message = None
        self._exchange = exchange = self._make_exchange()
        try:
            self._start(self._watch_silence())
            loading = self._start(exchange.load_markets())
            await asyncio.wait({loading})
            if self._ended is None:
                self._start_sources(exchange)
                await self._heard.wait()
            if self._ended is not None:
                raise self._ended
        except BaseException:
            await self.close()
            raise

    def _start_sources(self, exchange: Any) -> None:
        sources = POLLED if self._rest_only else WATCHED
        unified = {market_id: _unified(exchange, market_id) for ids in self.subscription.values() for market_id in ids}
        if unified and not self._rest_only:
            # Quiet markets are normal, and ccxt tells a lost connection only to those who wait for something.
            self._start(self._follow("", "", signs_of_life(exchange, next(iter(unified.values())))))
        for channel, ids in self.subscription.items():
            for market_id in ids:
                wish = self._wish._replace(symbol=unified[market_id])
                self._start(self._follow(channel, market_id, sources[channel](exchange, wish)))

    def _start(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            # Unless it is us, it is ccxt, which cancels its calls when it gives up a connection.
            self._end(BackpackWebsocketError("ccxt has given up its connection"))
        elif (error := task.exception()) is not None:
            self._end(_as_fault(error))

    def _end(self, error: BaseException) -> None:
        """Let the reader come to an end. The first reason counts."""
        if self._ended is None:
            self._ended = error
            self._heard.set()
            with suppress(asyncio.QueueFull):
                self._queue.put_nowait(None)

    async def _follow(self, channel: str, market_id: str, source: Source) -> None:
        async for news in source:
            self._heard_at = time.monotonic()
            self._heard.set()
            if news:
                await self._queue.put(CcxtMessage(channel, market_id, time.time(), news))
            else:
                self.last_message = time.time()

    async def _watch_silence(self) -> None:
        while True:
            left = self._heard_at + self._timeout_seconds - time.monotonic()
            if left <= 0 and self._queue.empty():
                LOG.warning("%s: ccxt has been silent for %g s, connecting again", self.id, self._timeout_seconds)
                raise BackpackWebsocketError(f"ccxt has been silent for {self._timeout_seconds:g} s")
            # With callbacks that lag behind it is not ccxt that is late.
            await asyncio.sleep(left if left > 0 else self._timeout_seconds)

    async def read(self) -> AsyncIterator[CcxtMessage]:
        """Every message, until the connection ends, which is always an error.

        Raises:
            BackpackWebsocketError: it has ended, or was given up.
            ccxt.ExchangeError: the exchange has refused something, or ccxt does not understand it.
        """
        queue = self._queue
        while True:
            if self._ended is not None and queue.empty():
                raise self._ended
            message = await queue.get()
            if message is not None:
                self.received += 1
                self.last_message = message.received
                yield message

    async def write(self, msg: str) -> None:
        """Refuse: sending is ccxt's own business."""
        raise NotImplementedError(f"{self.id}: ccxt sends by itself, not {msg!r}")

    async def close(self) -> None:
        """Stop all sources and close ccxt's sockets. Other tasks that close at the same time wait until it is done."""
        async with self._closing:
            exchange = self._exchange
            if exchange is None:
                return
            self._end(BackpackWebsocketError("the feed has closed the connection"))
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks.clear()
            try:
                await _close(exchange)
            finally:
                self._exchange = None
            LOG.info("%s: closed", self.id)


async def _close(exchange: Any) -> None:
    closing = asyncio.create_task(exchange.close())
    await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
    if not closing.done() and exchange.session is not None:
        # It waits for the other side's closing frame. One that hangs never sends it, and one that goes on talking makes it wait on.
        await exchange.session.close()
    await closing


def _unified(exchange: Any, market_id: str) -> str:
    """Ccxt's name of a market."""
    known = exchange.markets_by_id.get(market_id)
    if not known:
        raise UnsupportedSymbol(f"ccxt does not know the market {market_id}")
    return str(known[0]["symbol"])


def _as_fault(error: BaseException) -> BaseException:
    """Return network errors of ccxt as those that cryptofeed takes for that, and all others as they are."""
    from ccxt.base.errors import NetworkError  # noqa: PLC0415 - ccxt is imported only by those who use it

    if not isinstance(error, NetworkError):
        return error
    fault = BackpackWebsocketError(printable(f"{type(error).__name__}: {error}"))
    fault.__cause__ = error
    return fault

"""What a user touches: one object that speaks with the exchange, and is iterated over."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import NamedTuple, Self

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from backpack_proto.account.ledger import Account
from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.book.levels import Book
from backpack_proto.connection.connection import CONNECT_TIMEOUT_US
from backpack_proto.connection.heartbeat import PING_TIMEOUT_US, SILENCE_US
from backpack_proto.errors import BackpackError, LocalProtocolError
from backpack_proto.inputs import Arguments, Call, Close, FollowAccount, Subscribe, Unsubscribe, Verify
from backpack_proto.metrics import Health, MetricsSnapshot
from backpack_proto.outputs import CallAnswered, CallFailed
from backpack_proto.rest.codec import outcome_unknown
from backpack_proto.rest.endpoints.table import find_endpoint
from backpack_proto.rest.markets import Markets
from backpack_proto.rest.pacing import PacerState
from backpack_proto.session import ACCOUNT_STREAMS, Session
from backpack_proto.streams.names import Channel, parse_channel, parse_stream, streams_for
from backpack_proto.streams.payloads import BookTicker, Event

from .delivery import Delivery, DeliverySnapshot, SlowConsumer
from .network.addresses import REST_URL, WS_URL, Addresses, tls_version
from .network.proxy_settings import Proxies, ProxiesLike, resolve_proxies
from .pump import Pump
from .rest_methods import RestMethods
from .transport import Transport, system_now
from .transports import transport_of

__all__ = ["BackpackClient"]

EVENTS_PER_TURN = 16
DRAIN_SECONDS = 6.0
"""A little more than the session's own patience with the closing handshake."""


class _Answer:
    """Where the answer to a call is put."""

    def __init__(self) -> None:
        self.event: CallAnswered | CallFailed | None = None
        self.arrived = anyio.Event()


class _Running(NamedTuple):
    """What there is only inside the block."""

    tasks: TaskGroup
    transport: Transport
    pump: Pump
    delivery: Delivery
    finished: anyio.Event


class BackpackClient(RestMethods):
    """Backpack Exchange as an async context manager and an async iterator of typed events.

        async with BackpackClient(["SOL_USDC"], channels=["book", "trades"], sandbox=True) as client:
            async for event in client:
                ...

    Runs on asyncio and on trio, or on aiohttp. Inside the block the connection is kept up; what happens to it is among the events.
    """

    def __init__(
        self,
        symbols: Iterable[str] = (),
        *,
        channels: Iterable[str] = ("book", "trades"),
        sandbox: bool = False,
        sandbox_seed: int = 0,
        rest_url: str = REST_URL,
        ws_url: str = WS_URL,
        ca_file: str | Path | None = None,
        minimum_tls: str | ssl.TLSVersion | None = None,
        proxies: ProxiesLike = None,
        runtime: str = "anyio",
        transport: AbstractAsyncContextManager[Transport] | None = None,
        signer: Signer | None = None,
        follow_account: bool = False,
        book_levels: int = 10,
        slow_consumer: SlowConsumer | str = SlowConsumer.BLOCK,
        buffer: int = 10_000,
        compression: bool = False,
        silence_us: int = SILENCE_US,
        ping_timeout_us: int = PING_TIMEOUT_US,
    ) -> None:
        """Nothing is connected before the block is entered.

        Args:
            symbols: ids of the exchange (`SOL_USDC`) or normalised symbols (`SOL-USDC`).
            channels: what to subscribe for each of them; `book` is the order book, verified against `bookTicker`.
            sandbox: start the simulated exchange on loopback, and speak with that.
            sandbox_seed: decides what its markets do.
            rest_url: address of the REST API.
            ws_url: address of the websocket.
            ca_file: trust these authorities (PEM) instead of the system's.
            minimum_tls: `"1.3"` refuses the older `"1.2"`, which is the least that is ever spoken.
            proxies: the way out: a URL such as `socks5h://user:password@host:1080`, `{"url": ...}`, or `{"http": ..., "websocket": ...}`;
                for what is not given here the process's settings apply, but not to a `sandbox` (docs/proxies.md).
            runtime: what carries the bytes: `anyio` on asyncio or trio, or `aiohttp` on asyncio.
            transport: drive this one instead of a runtime's sockets, such as a `MockTransport`.
            signer: signs private subscriptions and calls; the sandbox has one of its own for who has none.
            follow_account: keep the ledger of the account, `account`, and tell of all that changes in it.
            book_levels: how many levels a side `BookChanged` carries, at least 1; `BookSynced` has all.
            slow_consumer: what happens to market data that are not fetched in time.
            buffer: how many events may wait before that happens.
            compression: offer permessage-deflate: a fifth of the bytes for several times the work.
            silence_us: probe a connection on which nothing was heard for so long, microseconds.
            ping_timeout_us: give it up when nothing was heard for so long after that, microseconds.

        Raises:
            LocalProtocolError: an argument is impossible.
        """
        try:
            # What holds for the process is about the way out, and the sandbox is on this machine.
            self._proxies = Proxies.of(proxies) if sandbox else resolve_proxies(proxies)
        finally:
            # For tools that print the locals of every frame of a traceback.
            del proxies
        if min(book_levels, buffer, silence_us, ping_timeout_us) < 1:
            raise LocalProtocolError("book_levels, buffer, silence_us and ping_timeout_us are at least 1")
        if slow_consumer not in list(SlowConsumer):
            raise LocalProtocolError(f"slow_consumer is one of {', '.join(SlowConsumer)}")
        if transport is not None and sandbox:
            raise LocalProtocolError("a sandbox is reached by a runtime: give no transport")
        self._transport = transport
        self._make_transport = transport_of(runtime)
        self._symbols = tuple(symbols)
        self._channels = tuple(channels)
        for channel in self._channels:
            parse_channel(channel)
        if sandbox and signer is None and (follow_account or any(_private(channel) for channel in self._channels)):
            signer = Signer(Credentials(THROWAWAY_SECRET))
        if follow_account and signer is None:
            raise LocalProtocolError("an account is followed with credentials: give a signer")
        self._follow_account = follow_account
        self._sandbox_seed = sandbox_seed
        tls_version(minimum_tls)
        self._addresses = (
            None if sandbox else Addresses(rest_url, ws_url, ca_file=ca_file, minimum_tls=minimum_tls, proxies=self._proxies)
        )
        self._compression = compression
        self._slow_consumer = SlowConsumer(slow_consumer)
        self._buffer = buffer
        self._session = Session(
            Random(),  # noqa: S311 - jitter is no secret
            signer=signer,
            book_levels=book_levels,
            measure_clock=signer is not None,
            connect_timeout_us=_connect_timeout_us(self._proxies),
            silence_us=silence_us,
            ping_timeout_us=ping_timeout_us,
        )
        self._verifying: set[str] = set()
        """Symbols whose `bookTicker` is subscribed to verify their book and for nothing else."""
        self._tickers: set[str] = set()
        """Symbols whose `bookTicker` was asked for."""
        self._answers: dict[int, _Answer] = {}
        self._last_call_id = 0
        self._fetched = 0
        self._markets = Markets(())
        self._stack = AsyncExitStack()
        self._running: _Running | None = None

    async def __aenter__(self) -> Self:
        if self._running is not None:
            raise LocalProtocolError("a client is entered once")
        try:
            await self._start()
        except BaseException:
            # The tasks are of no use to anyone any more, and their group must not wrap this error into one of its own.
            await self._stop(in_order=False)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop(in_order=exc is None)

    async def _start(self) -> None:
        tasks = await self._stack.enter_async_context(anyio.create_task_group())
        addresses = self._addresses
        if addresses is None:
            from .sandbox import serve_sandbox  # noqa: PLC0415 - only a sandbox needs the simulated exchange

            sandbox = await self._stack.enter_async_context(serve_sandbox(seed=self._sandbox_seed))
            addresses = Addresses(sandbox.rest_url, sandbox.ws_url, proxies=self._proxies)
        own = self._transport or self._make_transport(addresses, compression=self._compression)
        transport = await self._stack.enter_async_context(own)
        delivery = Delivery(self._slow_consumer, self._buffer, pause=transport.pause_reading, resume=transport.resume_reading)
        pump = Pump(self._session, transport, self._deliver)
        self._running = _Running(tasks, transport, pump, delivery, anyio.Event())
        tasks.start_soon(self._run, self._running)
        await self.load_markets()
        if self._follow_account:
            await self._running.pump.give(FollowAccount())
        await self.subscribe(self._channels, self._symbols)

    async def _run(self, running: _Running) -> None:
        try:
            await running.pump.run()
        finally:
            running.delivery.finish()
            running.finished.set()
            for answer in self._answers.values():
                answer.arrived.set()

    async def _stop(self, *, in_order: bool) -> None:
        """End all tasks; an error that one of them died of comes out here."""
        if self._running is not None:
            # As parts of the stack, for should they be cancelled, the group that cancelled them has to see it.
            self._stack.callback(self._running.tasks.cancel_scope.cancel)
            if in_order:
                self._stack.push_async_callback(self.aclose)
        try:
            await self._stack.aclose()
        except BaseException as error:
            _open_circle(error)
            raise

    async def aclose(self) -> None:
        """Close the connection in order; the iteration ends after what has come until then."""
        running = self._inside()
        with anyio.move_on_after(DRAIN_SECONDS):
            if not running.finished.is_set():
                await running.pump.give(Close())
            await running.finished.wait()

    def __aiter__(self) -> Self:
        """Every event, in order, until the client is closed; a second iteration goes on where the first one left off."""
        return self

    async def __anext__(self) -> Event:
        delivery = self._inside().delivery
        self._fetched += 1
        if self._fetched % EVENTS_PER_TURN == 0:
            # A consumer that never waits must not keep the connection from being looked after.
            await anyio.lowlevel.checkpoint()
        event = delivery.take_nowait() or await delivery.take()
        if event is None:
            raise StopAsyncIteration
        return event

    async def subscribe(self, channels: Iterable[str], symbols: Iterable[str]) -> None:
        """Subscribe every channel for every symbol, on this connection and on each that follows.

        Raises:
            UnknownSymbol: the exchange has no such market.
            InvalidStream: it has no such channel.
            LocalProtocolError: a private channel without a signer.
        """
        channels, ids = tuple(channels), self._ids(symbols)
        await self._inside().pump.give(Subscribe(self._names(channels, ids)))
        for symbol in ids:
            if Channel.BOOK_TICKER in _explicit(channels):
                self._verifying.discard(symbol)
                self._tickers.add(symbol)
            elif symbol not in self._tickers:
                self._verifying.add(symbol)

    async def unsubscribe(self, channels: Iterable[str], symbols: Iterable[str]) -> None:
        """Undo `subscribe`; what is still on its way is dropped."""
        channels, ids = tuple(channels), self._ids(symbols)
        names = self._names(channels, ids)
        explicit = Channel.BOOK_TICKER in _explicit(channels)
        if explicit:
            self._tickers.difference_update(ids)
        kept = {f"{Channel.BOOK_TICKER.value}.{symbol}" for symbol in self._tickers}
        if self._follow_account:
            kept.update(ACCOUNT_STREAMS)
        await self._inside().pump.give(Unsubscribe(tuple(name for name in names if name not in kept)))

    async def verify(self, symbol: str) -> None:
        """Have a book compared with a fresh snapshot now; `BookVerified` or `BookDesynced` tells how it went."""
        (symbol,) = self._ids([symbol])
        await self._inside().pump.give(Verify(f"{Channel.DEPTH.value}.{symbol}"))

    async def load_markets(self) -> Markets:
        """Fetch the list of markets; symbols are checked against it, and normalised symbols come from it."""
        self._markets = await self.get_markets()
        return self._markets

    @property
    def markets(self) -> Markets:
        """The markets as they were loaded last."""
        return self._markets

    async def call(self, endpoint: str, parameters: Arguments | None = None) -> object:
        """Call a REST endpoint by its name, its instruction or its method and path, within the request budget.

        The names are those of `backpack_proto.rest.codec.ENDPOINTS`; symbols are ids of the exchange.

        Raises:
            LocalProtocolError: no such endpoint, or parameters that it does not take.
            ApiError: the exchange refused.
            OutcomeUnknown: the call was to change something, and nobody can say whether it did; it is never sent twice.
            BackpackError: no answer came.
        """
        running = self._inside()
        if running.finished.is_set():
            raise LocalProtocolError("the client has been closed")
        parameters = parameters or {}
        self._last_call_id += 1
        call_id = self._last_call_id
        answer = self._answers[call_id] = _Answer()
        try:
            await running.pump.give(Call(call_id=call_id, endpoint=endpoint, parameters=parameters))
            await answer.arrived.wait()
        finally:
            del self._answers[call_id]
        if isinstance(answer.event, CallAnswered):
            return answer.event.result
        if isinstance(answer.event, CallFailed):
            raise answer.event.error
        raise _interrupted(endpoint, parameters)

    @property
    def account(self) -> Account:
        """The ledger of the account: always the same object; `live` says whether it follows the exchange.

        Raises:
            LocalProtocolError: it is not followed.
        """
        return self._session.account

    def book(self, symbol: str) -> Book:
        """The order book of a symbol: always the same object, always at the latest frame, `live` or stale.

        Raises:
            UnknownSymbol: the exchange has no such market.
            LocalProtocolError: its book is not subscribed.
        """
        (symbol,) = self._ids([symbol])
        return self._session.book(symbol)

    @property
    def health(self) -> Health:
        """Whether all is well now, and if not, why."""
        return self._session.health(system_now())

    @property
    def metrics(self) -> MetricsSnapshot:
        """All counters of the session now."""
        return self._session.metrics(system_now())

    @property
    def delivery(self) -> DeliverySnapshot:
        """What waits for the consumer now, and what was lost to its slowness."""
        return self._inside().delivery.snapshot

    @property
    def budget(self) -> PacerState:
        """What is left of the request budget now."""
        return self._session.budget(system_now())

    def _deliver(self, events: list[Event]) -> None:
        passed: list[Event] = []
        for event in events:
            if isinstance(event, BookTicker) and event.symbol in self._verifying:
                continue
            if isinstance(event, CallAnswered | CallFailed):
                answer = self._answers.get(event.call_id)
                # Whoever asked may have stopped waiting.
                if answer is not None:
                    answer.event = event
                    answer.arrived.set()
                continue
            passed.append(event)
        if passed:
            self._inside().delivery.put(passed)

    def _inside(self) -> _Running:
        if self._running is None:
            raise LocalProtocolError("the client works inside its async with block only")
        return self._running

    def _ids(self, symbols: Iterable[str]) -> tuple[str, ...]:
        return tuple(self._id(symbol) for symbol in symbols)

    def _id(self, symbol: str) -> str:
        return self._markets[symbol].symbol

    def _names(self, channels: Iterable[str], ids: Iterable[str]) -> tuple[str, ...]:
        """Stream names; a symbol that stands in the name of a channel is resolved as well."""
        streams = [parse_stream(name) for name in streams_for(channels, ids)]
        return tuple(
            stream.name if stream.symbol is None else replace(stream, symbol=self._id(stream.symbol)).name for stream in streams
        )


def _connect_timeout_us(proxies: Proxies) -> int:
    """How long a connection may take: the proxy's own time comes first, so that it is named when it is used up."""
    proxy = proxies.websocket
    return CONNECT_TIMEOUT_US + (0 if proxy is None else int(proxies.timeout_of(proxy) * 1e6))


def _explicit(channels: Iterable[str]) -> set[Channel]:
    """The channels that were asked for by name, so not the one that comes along with `book`."""
    return {parse_channel(channel)[0].channel for channel in channels}


def _private(channel: str) -> bool:
    return any(stream.private for stream in parse_channel(channel))


def _interrupted(endpoint: str, parameters: Arguments) -> BackpackError:
    """What a call that the session left behind ends with; whether it had been sent went down with the session."""
    row, reason = find_endpoint(endpoint), "the session ended before the answer came"
    if row.idempotent:
        return BackpackError(f"{row.name}: {reason}")
    return outcome_unknown(row, row.check(parameters), reason)


def _open_circle(error: BaseException) -> None:
    """End a chain of contexts that leads back into itself.

    `contextlib` ties one when an error passes through several parts of a stack, and a stack around that one follows it for ever.
    """
    passed = [error]
    while (context := passed[-1].__context__) is not None:
        if any(context is one for one in passed):
            passed[-1].__context__ = None
            return
        passed.append(context)

"""What a user touches: one object that speaks with the exchange, and is iterated over."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from http import HTTPStatus
from random import Random
from types import TracebackType
from typing import NamedTuple, Self, cast

import anyio
from anyio.abc import TaskGroup, TaskStatus
from msgspec.structs import replace

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError, ClientClosed, ConfigurationError, LocalProtocolError
from backpack_proto.inputs import Arguments, Close, FollowAccount, Resolve, Subscribe, Unsubscribe, Verify
from backpack_proto.machine import Now
from backpack_proto.metrics import Health, MetricsSnapshot
from backpack_proto.outputs import CallAnswered, CallFailed, CallUnresolved
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.rest.markets import Market, Markets
from backpack_proto.rest.pacing import PacerState
from backpack_proto.session import Session
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.names import Stream, parse_channel, streams_for
from backpack_proto.streams.payloads import Event, Kline

from .accounts import AccountView
from .books import BookView
from .calls import OpenCalls
from .candles import Candles, CandleSource, candles_of
from .checks import checked_count, checked_flag, checked_member, checked_names
from .client_arguments import (
    check_callback,
    check_calls_only,
    check_kinds,
    check_signer,
    check_symbols,
    checked_channels,
    checked_settings,
    connect_timeout_us,
)
from .delivery import PLAIN, DeliverySnapshot, EventStream, Outlets, SlowConsumer, ended_by
from .delivery.policy import BUFFER_BYTES, NOTHING_WAITS
from .event_loop import asyncio_loop
from .logs import EventLog
from .network.proxy_settings import resolve_proxies
from .owner import Hooks, Owner, alone, weakly
from .pump import Pump
from .rest_methods import RestMethods
from .settings import Settings
from .transport import Transport, system_now
from .transports import transport_of

__all__ = ["BackpackClient"]

DRAIN_SECONDS = 6.0
"""A little more than the session's own patience with the closing handshake."""


class _Running(NamedTuple):
    """What there is only inside the block."""

    tasks: TaskGroup
    transport: Transport
    pump: Pump
    outlets: Outlets
    events: EventStream | None
    """Those of the client's own iteration; None where a callback has them."""
    finished: anyio.Event


class BackpackClient(RestMethods):
    """Backpack Exchange as an async context manager and an async iterator of typed events.

        async with BackpackClient(["SOL_USDC"], channels=["book", "trades"], sandbox=True) as client:
            async for event in client:
                ...

    Where no block can be kept open, as in a notebook, `await client.start()` and later `await client.aclose()` stand for it.

    Runs on asyncio and on trio, or on aiohttp. Inside the block the connection is kept up; what happens to it is among the events.
    Before the block everything but `settings` raises `ClientClosed`. After it calls and subscriptions do, while books, ledger, markets,
    health and counters can still be read: they say what was last known, and nothing in them is live.
    """

    def __init__(
        self,
        symbols: Iterable[str] = (),
        *,
        channels: Iterable[str] | None = None,
        settings: Settings | None = None,
        sandbox: bool = False,
        sandbox_seed: int = 0,
        streams: bool = True,
        signer: Signer | None = None,
        follow_account: bool = False,
        book_levels: int = 10,
        slow_consumer: SlowConsumer | str = SlowConsumer.CONFLATE,
        buffer: int = 10_000,
        buffer_bytes: int = BUFFER_BYTES,
        on_event: Callable[[Event], object] | None = None,
        transport: AbstractAsyncContextManager[Transport] | None = None,
    ) -> None:
        """Nothing is connected before the block is entered.

        Args:
            symbols: ids of the exchange (`SOL_USDC`) or normalised symbols (`SOL-USDC`).
            channels: subscribed for each of them, `book` and `trades` unless given; `book` is the order book, verified against
                `bookTicker`. Without symbols there may be `liquidations` and the channels of the account.
            settings: addresses, TLS, proxies, runtime and timeouts of the connection; without them those of the real exchange.
            sandbox: start the simulated exchange on loopback, and speak with that.
            sandbox_seed: decides what its markets do.
            streams: keep up a connection for streams; with False there is none, nor a canary, and the client makes calls only.
            signer: signs private subscriptions and calls; the sandbox has one of its own for users without one.
            follow_account: keep the ledger of the account, `account`, and emit all that changes in it.
            book_levels: how many levels a side `BookChanged` carries, at least 1; `BookSynced` has all.
            slow_consumer: what happens to market data that are not fetched in time. `conflate` keeps books current: it merges the
                changes of each book, and drops the oldest of the rest. `drop_oldest` drops the oldest of all, `block` stops reading.
            buffer: how many events may wait before any are dropped, or before reading stops.
            buffer_bytes: how much memory they may take before that, estimated.
            on_event: called with every event where it is read, a turn of the loop before an iteration would have it. Then there is no
                iteration of the client's own; `stream` has events for others. It must be quick, for nothing else happens meanwhile. What
                it raises ends the client, and comes out of the block.
            transport: drive this one instead of a runtime's sockets, such as a `MockTransport`.

        Raises:
            ConfigurationError: an argument cannot be used.
            InvalidStream: the exchange has no such channel.
            MissingExtra: the runtime needs an extra that is not installed.
        """
        self._settings = checked_settings(settings, sandbox=checked_flag("sandbox", sandbox), transport=transport)
        # What holds for the process is about the way out, and the sandbox is on this machine.
        self._proxies = self._settings.proxies if sandbox else resolve_proxies(self._settings.proxies)
        self._symbols = checked_names("symbols", symbols)
        self._channels = checked_channels(channels, self._symbols)
        self._slow_consumer = checked_member("slow_consumer", slow_consumer, SlowConsumer)
        self._buffer = checked_count("buffer", buffer)
        self._buffer_bytes = checked_count("buffer_bytes", buffer_bytes, unit="bytes")
        self._sandbox_seed = checked_count("sandbox_seed", sandbox_seed, minimum=0)
        self._follow_account = checked_flag("follow_account", follow_account)
        self._has_streams = checked_flag("streams", streams)
        if not streams:
            check_calls_only(symbols=self._symbols, channels=self._channels, follow_account=follow_account)
        check_signer(signer)
        check_callback(on_event)
        self._on_event = on_event
        private = any(parse_channel(channel).private for channel in self._channels)
        if sandbox and signer is None and (follow_account or private or not streams):
            signer = Signer(Credentials(THROWAWAY_SECRET))
        if signer is None and (follow_account or private):
            what = "follow_account=True" if follow_account else "a channel of the account"
            raise ConfigurationError(f"{what} needs a signer: give signer=Signer(Credentials(private_key))")
        self._transport = transport
        self._make_transport = transport_of(self._settings.runtime)
        self._addresses = None if sandbox else self._settings.addresses(self._proxies)
        self._session = Session(
            Random(),  # noqa: S311 - jitter is no secret
            signer=signer,
            book_levels=checked_count("book_levels", book_levels),
            canary=self._settings.canary,
            measure_clock=signer is not None,
            streams=streams,
            connect_timeout_us=connect_timeout_us(self._settings, self._proxies),
            silence_us=self._settings.silence_us,
            ping_timeout_us=self._settings.ping_timeout_us,
            pause_ceiling_us=self._settings.pause_ceiling_us,
        )
        self._log = EventLog(logging.getLogger(__name__))
        self._calls = OpenCalls(weakly(self._put_back))
        self._books: dict[str, BookView] = {}
        self._candles: Counter[str] = Counter()
        """How many have a stream of candles subscribed, the user included."""
        self._account: AccountView | None = None
        self._markets = Markets(())
        self._found: dict[str, Market] = {}
        """Markets that were asked for one by one since: the list did not have them, or their rules have changed. Lists come from a cache."""
        self._stack = AsyncExitStack()
        self._running: _Running | None = None
        self._closed = False
        self._owner: Owner | None = None
        """The task that `start` has made."""
        self._left: anyio.Event | None = None
        """Set when `run` has come to its end."""

    @property
    def settings(self) -> Settings:
        """How the exchange is reached."""
        return self._settings

    async def __aenter__(self) -> Self:
        if self._running is not None or self._closed:
            raise ClientClosed("the client has been entered before: make a new one for every `async with`")
        try:
            await self._start()
        except BaseException as error:
            # The tasks are of no use to anyone any more.
            await self._stop(error)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop(exc)

    async def start(self) -> Self:
        """Enter the client without a block, in a task of its own, and return it: for a notebook, on asyncio.

            client = await BackpackClient(["SOL_USDC"]).start()   # in one cell
            await client.aclose()                                 # in another

        An error that ends the client is raised by whatever of it is used next, and by `aclose`.

        Raises:
            LocalProtocolError: asyncio does not run this; on trio `await nursery.start(client.run)` does the same.
            ClientClosed: the client has been entered before.
        """
        if asyncio_loop() is None:
            raise LocalProtocolError("start: a loop of asyncio is needed; on trio use `await nursery.start(client.run)`")
        self._claim()
        self._owner = Owner(self._hooks)
        await self._owner.start()
        return self

    async def run(self, *, task_status: TaskStatus[Self] = anyio.TASK_STATUS_IGNORED) -> None:
        """Enter the client, say so, and leave it when it has been closed: `await nursery.start(client.run)` of trio, or anyio's groups.

        Raises:
            ClientClosed: the client has been entered before.
        """
        self._claim()
        self._left = anyio.Event()
        try:
            async with self:
                task_status.started(self)
                await self._inside().finished.wait()
        finally:
            self._left.set()

    def _claim(self) -> None:
        if self._owner is not None or self._left is not None or self._running is not None or self._closed:
            raise ClientClosed("the client has been entered before: make a new one")

    @property
    def _hooks(self) -> Hooks:
        return Hooks(self._enter, self._leave, self._drain)

    async def _enter(self) -> anyio.Event:
        await self.__aenter__()
        return self._inside().finished

    async def _leave(self, error: BaseException | None) -> None:
        await self._stop(error)

    def __del__(self) -> None:
        """Have the owner close what was let go of."""
        owner: Owner | None = getattr(self, "_owner", None)
        if owner is not None:
            owner.abandon(self._hooks)

    async def _start(self) -> None:
        tasks = await self._stack.enter_async_context(anyio.create_task_group())
        addresses = self._addresses
        if addresses is None:
            from .sandbox import serve_sandbox  # noqa: PLC0415 - only a sandbox needs the simulated exchange

            sandbox = await self._stack.enter_async_context(serve_sandbox(seed=self._sandbox_seed))
            addresses = replace(self._settings, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url).addresses(self._proxies)
        own = self._transport or self._make_transport(addresses, compression=self._settings.compression)
        transport = await self._stack.enter_async_context(own)
        outlets = Outlets(
            pause=transport.pause_reading, resume=transport.resume_reading, tell=self._log.tell, on_event=self._on_event
        )
        events = None
        if self._on_event is None:
            events = outlets.open(self._slow_consumer, self._buffer, self._buffer_bytes)
        # Whoever lets go of a client that has an owner is to be noticed; inside a block it costs a call that nothing is gained by.
        pump = Pump(self._session, transport, self._deliver if self._owner is None else weakly(self._deliver))
        self._running = _Running(tasks, transport, pump, outlets, events, anyio.Event())
        tasks.start_soon(_run, self._running, self._calls, self._owner is not None)
        await self.load_markets()
        if self._follow_account:
            self._running.pump.give(FollowAccount())
        if self._has_streams:
            await self.subscribe(self._channels, self._symbols)

    async def _stop(self, error: BaseException | None) -> None:
        """End all tasks, without `error` in order; an error that one of them died of comes out here."""
        if self._running is not None:
            # As parts of the stack, for should they be cancelled, the group that cancelled them has to see it.
            self._stack.callback(self._running.tasks.cancel_scope.cancel)
            if error is None:
                self._stack.push_async_callback(self._drain)
        failure: BaseException | None = None
        try:
            if isinstance(error, anyio.get_cancelled_exc_class()):
                # Of two cancellations the groups let the one from outside pass, if they know of it: it may be a Ctrl-C.
                await self._stack.__aexit__(type(error), error, error.__traceback__)
            else:
                # Their group must not wrap this error into one of its own.
                await self._stack.aclose()
        except BaseException as raised:
            _open_circle(raised)
            failure = None if isinstance(raised, anyio.get_cancelled_exc_class()) else raised
            raise
        finally:
            self._closed = True
            if self._running is not None:
                # The task that would do it may have been cancelled before it began.
                self._running.outlets.finish(None if failure is None or self._owner is None else alone(failure))
            # Whatever way the block was left: no book and no ledger says any more that it is live.
            self._session.handle(Close(), system_now())

    async def aclose(self) -> None:
        """Close the connection in order; the iteration ends after what has come until then.

        A client that was started without a block has been left when this returns, and what had ended it is raised. Given up halfway, it
        goes on by itself.
        """
        self._inside()
        if self._owner is not None:
            await self._owner.close()
            return
        await self._drain()
        if self._left is not None:
            await self._left.wait()

    async def _drain(self) -> None:
        running = self._inside()
        with anyio.move_on_after(DRAIN_SECONDS):
            if not running.finished.is_set():
                self._log.expect_the_end()
                running.pump.give(Close())
            await running.finished.wait()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Every event, in order, until the client is closed; after a loop was left, the next one goes on where it stopped.

        Raises:
            LocalProtocolError: another loop runs; `stream` has events for a second consumer; or `on_event` has the events.
        """
        return aiter(self._own_events())

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            LocalProtocolError: another task waits for it, or runs a loop over the events; or `on_event` has the events.
        """
        return await anext(self._own_events())

    def batches(self) -> AsyncIterator[Sequence[Event]]:
        """Every event, in lists: those of one read of the socket together, and all that waited while you did something else.

            async for events in client.batches():
                for event in events:
                    ...

        This is the client's own iteration in another form, and the cheaper one of the two.

        Raises:
            LocalProtocolError: another loop runs; `stream` has events for a second consumer; or `on_event` has the events.
        """
        return self._own_events().batches()

    def stream(
        self,
        *kinds: type[Event],
        slow_consumer: SlowConsumer | str | None = None,
        buffer: int | None = None,
        buffer_bytes: int | None = None,
    ) -> EventStream:
        """Return a stream of events for one more consumer, which is as independent as if it were the only one.

            async with client.stream(Trade, BookTicker) as stream:
                async for event in stream:
                    ...

        It has the events from now on, of these classes and their subclasses, or all of them if none is given, and `EventsDropped` where its
        own consumer was too slow. Each stream has a queue of its own. Leave its block, or let go of it, when you need it no more.

        Args:
            kinds: classes of events, such as `Trade` or `BookChanged`.
            slow_consumer: the policy for this consumer; that of the client unless given.
            buffer: how many events may wait for it; as many as for the client unless given.
            buffer_bytes: how much memory they may take; as much as for the client unless given.

        Raises:
            ConfigurationError: an argument cannot be used.
            ClientClosed: the client is not inside its block.
        """
        check_kinds(kinds)
        policy = self._slow_consumer if slow_consumer is None else checked_member("slow_consumer", slow_consumer, SlowConsumer)
        limit = self._buffer if buffer is None else checked_count("buffer", buffer)
        limit_bytes = self._buffer_bytes if buffer_bytes is None else checked_count("buffer_bytes", buffer_bytes, unit="bytes")
        return self._open().outlets.open(policy, limit, limit_bytes, kinds)

    def candles(self, symbol: str, interval: str, *, start_s: int | None = None) -> Candles:
        """Return the candles of a market from a moment on, as an async iterator: its history, then each as it comes, without a hole.

            async for candle in client.candles("SOL_USDC", "1m", start_s=1_795_000_000):
                if isinstance(candle, Kline) and candle.closed:
                    ...

        Each that has closed comes once and in order (`closed`), the running one whenever it changes. What was missed in an outage is fetched
        before the next one. Candles that cannot be had are a `CandleGap` in their place. Its stream is subscribed meanwhile.

        Args:
            symbol: an id of the exchange, or a normalised symbol.
            interval: `1s`, `1m`, `1h`, `1d`, `1month`, or another one of the exchange.
            start_s: candles that start then or later, seconds since the epoch; the running one and those that follow unless given.

        Raises:
            ConfigurationError: an argument cannot be used.
        """
        self._open()
        source = CandleSource(self._id, self._follow_klines, self._release_klines, self.get_time, self.call)
        return candles_of(source, symbol, interval, start_s)

    def _follow_klines(self, stream: str) -> EventStream:
        """Return the events of candles, after subscribing one stream of them."""
        if self._session.shows(stream) and not self._candles[stream]:
            # The user's own, who has it when these candles are gone.
            self._candles[stream] += 1
        events = self.stream(Kline)
        self._open().pump.give(Subscribe((stream,)))
        self._candles[stream] += 1
        return events

    def _release_klines(self, stream: str) -> None:
        self._candles[stream] -= 1
        running = self._running
        if not self._candles[stream] and running is not None and not self._closed and not running.finished.is_set():
            running.pump.give(Unsubscribe((stream,)))

    async def subscribe(self, channels: Iterable[str], symbols: Iterable[str]) -> None:
        """Subscribe every channel for every symbol, on this connection and on each that follows.

        Raises:
            UnknownSymbol: the exchange has no such market.
            InvalidStream: it has no such channel.
            LocalProtocolError: a private channel without a signer.
            ConfigurationError: a channel needs symbols, or an argument is not a list of texts.
        """
        self._open()
        streams = await self._streams(channels, symbols)
        self._open().pump.give(Subscribe.of(streams))

    async def unsubscribe(self, channels: Iterable[str], symbols: Iterable[str]) -> None:
        """Undo `subscribe`; what is still on its way is dropped."""
        self._open()
        streams = await self._streams(channels, symbols)
        self._open().pump.give(Unsubscribe.of(streams))

    async def subscribe_untyped(self, streams: Iterable[str]) -> None:
        """Subscribe streams of kinds that this project has no type for, by the exchange's names, such as `stockPrice.NVDA`.

        Their data are `UntypedReceived`. A kind that the exchange does not have either is a `StreamsRefused` that names it.

        Raises:
            InvalidStream: there is a type for it, so `subscribe` is the way; or the exchange can have no such name.
            LocalProtocolError: a private stream without a signer.
            ConfigurationError: `streams` is not a list of texts.
        """
        self._open().pump.give(Subscribe(untyped=checked_names("streams", streams)))

    async def unsubscribe_untyped(self, streams: Iterable[str]) -> None:
        """Undo `subscribe_untyped`."""
        self._open().pump.give(Unsubscribe(checked_names("streams", streams)))

    async def verify(self, symbol: str) -> None:
        """Have a book compared with a fresh snapshot now; `BookVerified` or `BookDesynced` tells how it went."""
        symbol = await self._id(symbol)
        self._open().pump.give(Verify(f"{Channel.DEPTH.value}.{symbol}"))

    async def load_markets(self, *, fresh: bool = False) -> Markets:
        """Fetch the list of markets; symbols are checked against it, and normalised symbols come from it.

        The network in front of the exchange keeps the list for up to a quarter of an hour. With `fresh` the exchange itself is asked,
        for a list that is right now. Without it markets that were found since, by their symbols, stay among the others, and so does what
        a `MarketChanged` has told. That comes by itself, so a client that runs for long need not load the list again.
        """
        if checked_flag("fresh", fresh):
            # The query is a part of the cache's key, so one that was never asked for reaches the exchange (docs/protocol.md 1.2).
            self._markets = cast("Markets", await self.call("markets", {"nonce": system_now().unix_us}))
            self._found.clear()
        else:
            markets = await self.get_markets()
            # Of two that differ, the session has looked up the right one, or will.
            known = [self._session.market(symbol) for symbol in (*markets, *self._found)]
            self._markets = markets.joined_by(market for market in known if market is not None)
        return self._markets

    @property
    def markets(self) -> Markets:
        """The markets as they were loaded last, with every `MarketChanged` since."""
        self._inside()
        return self._markets

    async def call(self, endpoint: str, parameters: Arguments | None = None, *, max_wait_us: int | None = None) -> object:
        """Call a REST endpoint by its name, its instruction or its method and path, within the request budget.

        The names are those of `backpack_proto.rest.codec.ENDPOINTS`, and parameters have the exchange's names (`orderId`) or Python's
        (`order_id`); symbols are ids of the exchange. `max_wait_us` is how long the call
        may wait to be sent: 5 s for one that changes something, unless given, and without a bound for one that reads.

        A cancelled call is not sent any more. If it changes something and may have been sent already, a `CallUnresolved` is among
        the events, and the call among those `unresolved`.

        Raises:
            LocalProtocolError: no such endpoint, or parameters that it does not take.
            ApiError: the exchange refused.
            NotSent: it did not leave, in most cases because its turn did not come in time.
            OutcomeUnknown: the call was to change something, and nobody can say whether it did; it is never sent twice.
            PartlyUnreadable: rows of a list about the account cannot be read; it has the others.
            BackpackError: no answer came.
        """
        give = self._open().pump.give
        return await self._calls.call(give, endpoint, parameters or {}, max_wait_us=max_wait_us)

    @property
    def unresolved(self) -> Mapping[int, CallUnresolved]:
        """The calls that were cancelled after they may have been sent, by call id, until it is known how they ended.

        The late answer, an event, takes a call off; where none comes, `resolve` does.
        """
        self._inside()
        return self._session.unresolved

    def resolve(self, call_id: int) -> None:
        """Take a call off the `unresolved` ones: you have found out how it ended, by its client id for example.

        Raises:
            LocalProtocolError: it is not among them.
        """
        self._open().pump.give(Resolve(call_id))

    @property
    def account(self) -> AccountView:
        """The ledger of the account: always the same object; `live` says whether it follows the exchange.

        Raises:
            ConfigurationError: it is not followed.
        """
        self._inside()
        if not self._follow_account:
            raise ConfigurationError("account: it is not followed; make the client with follow_account=True and a signer")
        if self._account is None:
            self._account = AccountView(self._session.account, self._now)
        return self._account

    def book(self, symbol: str) -> BookView:
        """Return the order book of a symbol: always the same object, always at the latest frame, `live` or stale.

        Raises:
            UnknownSymbol: the exchange has no such market.
            LocalProtocolError: its book is not subscribed.
        """
        symbol = self.markets[symbol].symbol
        book = self._session.book(symbol)
        view = self._books.get(symbol)
        if view is None or not view.shows(book):
            # One that was unsubscribed and subscribed again is another book.
            view = self._books[symbol] = BookView(book, self._now)
        return view

    @property
    def health(self) -> Health:
        """Whether all is well now, and if not, why."""
        outlets = self._inside().outlets
        return self._session.health(self._now()).and_also(outlets.troubles, outlets.notes)

    @property
    def metrics(self) -> MetricsSnapshot:
        """All counters of the session now."""
        latency = self._inside().outlets.latency
        return replace(
            self._session.metrics(self._now()),
            receipt_to_delivery_p50_us=latency.percentile(0.5),
            receipt_to_delivery_p99_us=latency.percentile(0.99),
        )

    @property
    def delivery(self) -> DeliverySnapshot:
        """What waits for the client's own iteration now, and what was lost to its slowness; nothing ever where `on_event` has the events."""
        events = self._inside().events
        return NOTHING_WAITS if events is None else events.delivery

    @property
    def budget(self) -> PacerState:
        """What is left of the request budget now."""
        self._inside()
        return self._session.budget(self._now())

    def _now(self) -> Now:
        """Return this moment on the clock of the session."""
        return system_now() if self._running is None else self._running.transport.now()

    def _put_back(self, event: CallAnswered | CallFailed) -> None:
        """Let the answer to a call that was given up be among the events."""
        self._deliver([event])

    def _deliver(self, events: Sequence[Event], wire_bytes: int = 0) -> None:
        if PLAIN.issuperset(map(type, events)):
            # Nearly every batch: nothing in it is written to the log, and none of it answers a call.
            self._inside().outlets.put(events, wire_bytes)
            return
        passed: list[Event] = []
        for event in events:
            self._log.tell(event)
            if type(event) is MarketChanged:
                self._take_up(event.market)
            if not isinstance(event, CallAnswered | CallFailed) or not self._calls.take(event):
                passed.append(event)
        if passed:
            self._inside().outlets.put(passed)

    def _inside(self) -> _Running:
        """What there is inside the block, and can still be read after it."""
        if self._running is None:
            state = "could not be entered" if self._closed else "has not been entered"
            raise ClientClosed(f"the client {state}: use it inside `async with client:`")
        return self._running

    def _own_events(self) -> EventStream:
        events = self._inside().events
        if events is None:
            raise LocalProtocolError("`on_event` is called with the events: a loop has them from `client.stream(...)`")
        return events

    def _open(self) -> _Running:
        """What there is inside the block, for those who want the exchange to do something."""
        running = self._inside()
        if self._owner is not None and self._owner.failure is not None:
            raise ended_by(self._owner.failure)
        if self._closed or running.finished.is_set():
            raise ClientClosed("the client has been closed: make a new one and use it inside `async with client:`")
        return running

    def _check_open(self) -> None:
        self._open()

    async def _id(self, symbol: str) -> str:
        self._open()
        if symbol and symbol not in self._markets:
            await self._ask_for(symbol)
        return self._markets[symbol].symbol

    async def _ask_for(self, symbol: str) -> None:
        """Look for a market that has been listed since the list of markets was made: `/market` is not cached."""
        # Of a normalised name this is what the id probably is; the market that is found says whether it has that name.
        likely = symbol.replace("-", "_")
        try:
            market = cast("Market", await self.call("market", {"symbol": likely}))
        except ApiError as refused:
            if refused.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
                raise
            return
        self._take_up(market)

    def _take_up(self, market: Market) -> None:
        """Know a market as the exchange itself has just shown it."""
        self._found[market.symbol] = market
        self._markets = self._markets.joined_by([market])

    async def _streams(self, channels: Iterable[str], symbols: Iterable[str]) -> list[Stream]:
        """The streams of channels; a symbol that stands in the name of a channel is resolved as well."""
        names = checked_names("channels", channels)
        ids = tuple([await self._id(symbol) for symbol in checked_names("symbols", symbols)])
        check_symbols(names, ids)
        return [
            stream if stream.symbol is None else replace(stream, symbol=await self._id(stream.symbol))
            for stream in streams_for(names, ids)
        ]


async def _run(running: _Running, calls: OpenCalls, owned: bool) -> None:  # noqa: FBT001 - tasks take no names
    """Drive the session to its end; nothing here holds the client (`Owner`)."""
    try:
        await running.pump.run()
        running.outlets.finish()
    finally:
        if not owned:
            # With an owner the iteration ends by an error, which is not known before the client has been left.
            running.outlets.finish()
        running.finished.set()
        calls.end()


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

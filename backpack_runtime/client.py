"""The client: one object that speaks with the exchange, and is iterated over."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from decimal import Decimal
from pathlib import Path
from random import Random
from weakref import WeakMethod

import anyio
from msgspec.structs import replace

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import BackpackError, ConfigurationError, LocalProtocolError
from backpack_proto.inputs import Arguments, FollowAccount, Resolve, Subscribe, Unsubscribe, Verify
from backpack_proto.machine import Now
from backpack_proto.metrics import Health, MetricsSnapshot
from backpack_proto.outputs import CallAnswered, CallFailed, CallUnresolved
from backpack_proto.rest.endpoints.table import find_endpoint
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.rest.order_context import KnownNow
from backpack_proto.rest.pacing import PacerState
from backpack_proto.session import Session
from backpack_proto.streams.names import parse_channel
from backpack_proto.streams.payloads import Event, Kline

from .accounts import AccountView
from .books import BookView
from .calls import OpenCalls
from .candles import Candles, CandleSource, candles_of
from .checks import checked_count, checked_flag, checked_member, checked_names, checked_seconds
from .client_arguments import (
    check_callback,
    check_calls_only,
    check_kinds,
    check_signer,
    checked_channels,
    checked_faults,
    checked_orders,
    checked_settings,
    connect_timeout_us,
)
from .client_life import ClientLife
from .delivery import PLAIN, DeliverySnapshot, EventStream, SlowConsumer
from .delivery.policy import BUFFER_BYTES, NOTHING_WAITS
from .driver import Driver, Queue, Running
from .logs import EventLog
from .loop_thread import LoopThread
from .market_methods import MarketMethods
from .market_selection import Selections, Symbols, by_market, checked_symbols
from .network.proxy_settings import resolve_proxies
from .observation import Observation
from .order_checks import LOOK_UP_WAIT_US, OrderChecking, OrderChecks, PricesSeen
from .orders.journal import Durability
from .orders.leaving import CancelOnExit, Leftovers
from .orders.methods import SafeOrderMethods
from .orders.safety import OrderSafety
from .owner import weakly
from .recording.source import SessionInputs, SessionOptions, Source
from .recovery import CLOSED_MARKET, NotRecovered, RecoveryOutcome, reconnect, resync
from .settings import Settings
from .transport import Transport, system_now
from .transports import transport_of

__all__ = ["BackpackClient"]

_log = logging.getLogger(__name__)


class _OpenIds:
    """The client ids of open orders, as far as the ledger knows them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __contains__(self, client_id: object) -> bool:
        try:
            orders = self._session.account.open_orders
        except LocalProtocolError:
            return False  # no ledger is kept
        return any(order.client_id == client_id for order in orders.values())


class BackpackClient(ClientLife, SafeOrderMethods, MarketMethods):
    """Backpack Exchange as an async context manager and an async iterator of typed events.

        async with BackpackClient(["SOL_USDC"], channels=["book", "trades"], sandbox=True) as client:
            async for event in client:
                ...

    Where no block can be kept open, as in a notebook, `await client.start()` and later `await client.aclose()` stand for it.

    Runs on asyncio and on trio, or on aiohttp. Inside the block the connection is kept up. Its events are among the others.
    Before the block everything but `settings` raises `ClientClosed`. After it calls and subscriptions do, while books, ledger, markets,
    health and counters can still be read: they have the last known state, and are not live.
    """

    def __init__(
        self,
        symbols: Symbols = (),
        *,
        channels: Iterable[str] | None = None,
        settings: Settings | None = None,
        sandbox: bool = False,
        sandbox_seed: int = 0,
        sandbox_faults: str = "",
        streams: bool = True,
        signer: Signer | None = None,
        follow_account: bool = False,
        book_levels: int = 10,
        slow_consumer: SlowConsumer | str = SlowConsumer.CONFLATE,
        buffer: int = 10_000,
        buffer_bytes: int = BUFFER_BYTES,
        on_event: Callable[[Event], object] | None = None,
        journal: Path | str | None = None,
        durability: Durability | str = Durability.PROCESS,
        instance: int | None = None,
        cancel_on_exit: CancelOnExit | str | None = None,
        check_orders: OrderChecking | None = "grid",
        transport: AbstractAsyncContextManager[Transport] | None = None,
    ) -> None:
        """Make a client, which connects when its block is entered.

        Args:
            symbols: ids of the exchange (`SOL_USDC`) or normalised symbols (`SOL-USDC`). Or `"all"`, or a predicate on markets, such as
                `lambda market: market.quote == "USDC"`: then new listings are taken up within a minute, and closed markets once they open.
                Channels about stocks take any name of one (`BRK.B`).
            channels: subscribed for each of them, `book` and `trades` unless given. `book` is the order book, verified against
                `bookTicker`. Without symbols there may be `liquidations` and the channels of the account.
            settings: addresses, TLS, proxies, runtime and timeouts of the connection. Without them those of the real exchange.
            sandbox: start the simulated exchange on loopback, and speak with that.
            sandbox_seed: decides the course of its markets.
            sandbox_faults: its faults, such as `gap@5,mute@10-20`, in seconds after the start (docs/sandbox.md).
            streams: keep up a connection for streams. With False there is no connection and no canary, and the client makes calls only.
            signer: signs private subscriptions and calls. The sandbox has one of its own for users without one.
            follow_account: keep the ledger of the account, `account`, and emit all that changes in it.
            book_levels: number of levels a side that `BookChanged` carries, at least 1. `BookSynced` has all.
            slow_consumer: policy for market data that are not fetched in time. `conflate` keeps books current: it merges the
                changes of each book, and drops the oldest of the rest. `drop_oldest` drops the oldest of all, `block` stops reading.
            buffer: number of events that may wait before any are dropped, or before reading stops.
            buffer_bytes: memory that they may take before that, estimated.
            on_event: called with every event where it is read, a turn of the loop before an iteration would have it. Then there is no
                iteration of the client's own. `stream` has events for others. It must be quick, for all else waits meanwhile. An error
                in it ends the client, and comes out of the block.
            journal: a file in which each order is written down before it leaves, so that the next client with it can find the outcome of
                those that were on their way when this one was killed. In memory unless given. One client at a time has it.
            durability: `process`, and the journal survives the end of the process. `machine`, and it survives that of the machine as well,
                for which each order waits for the disk.
            instance: number of this program among all that trade with the account, 0 to 1023, the upper part of the client ids that are
                made. Without it the lowest that is free on this machine is leased. Give one where programs run on several machines.
            cancel_on_exit: cancel open orders when the block is left, by an error or Ctrl-C as well: `mine`, those of this client, or `all`
                of the account. Orders that stay open all the same are in `left`, and raised as `OrdersLeft` unless an error is on its way. They stay
                open after kill -9: the exchange has no dead man's switch.
            check_orders: orders that are refused before they are sent (docs/orders.md). `grid`: orders off the tick or the step, or outside the smallest
                and largest price and quantity. `all`: all violations that `Market.check_order` finds with the live book, the live ledger and fresh prices of
                `trades` and `mark_price`. None: no checks. The market is read again before an order is refused, for its rules may have changed.
            transport: drive this one instead of a runtime's sockets, such as a `MockTransport`.

        Raises:
            ConfigurationError: an argument cannot be used.
            InvalidStream: the exchange has no such channel.
            MissingExtra: the runtime needs an extra that is not installed.
        """
        self._settings = checked_settings(settings, sandbox=checked_flag("sandbox", sandbox), transport=transport)
        # Proxies of the process are for the way out, and the sandbox is on this machine.
        self._proxies = self._settings.proxies if sandbox else resolve_proxies(self._settings.proxies)
        self._symbols = checked_symbols("symbols", symbols)
        self._selections = Selections()
        self._channels = checked_channels(channels, self._symbols)
        self._slow_consumer = checked_member("slow_consumer", slow_consumer, SlowConsumer)
        self._buffer = checked_count("buffer", buffer)
        self._buffer_bytes = checked_count("buffer_bytes", buffer_bytes, unit="bytes")
        self._sandbox_seed = checked_count("sandbox_seed", sandbox_seed, minimum=0)
        self._sandbox_faults = checked_faults(sandbox_faults, sandbox=sandbox)
        self._follow_account = checked_flag("follow_account", follow_account)
        self._has_streams = checked_flag("streams", streams)
        if not streams:
            check_calls_only(symbols=self._symbols, channels=self._channels, follow_account=follow_account)
        check_signer(signer)
        check_callback(on_event)
        self._on_event = on_event
        private = any(parse_channel(channel).private for channel in self._channels)
        if sandbox and signer is None:
            signer = Signer(Credentials(THROWAWAY_SECRET))
        if signer is None and (follow_account or private):
            what = "follow_account=True" if follow_account else "a channel of the account"
            raise ConfigurationError(f"{what} needs a signer: give signer=Signer(Credentials(private_key))")
        chosen = checked_orders(journal, durability, instance, cancel_on_exit, signer=signer)
        self._transport = transport
        self._make_transport = transport_of(self._settings.runtime)
        self._addresses = None if sandbox else self._settings.addresses(self._proxies)
        self._random = Random()  # noqa: S311 - jitter is no secret
        self._options = SessionOptions(
            book_levels=checked_count("book_levels", book_levels),
            canary=self._settings.canary,
            measure_clock=signer is not None,
            streams=streams,
            connect_timeout_us=connect_timeout_us(self._settings, self._proxies),
            silence_us=self._settings.silence_us,
            ping_timeout_us=self._settings.ping_timeout_us,
            pause_ceiling_us=self._settings.pause_ceiling_us,
        )
        session = self._session = self._options.session(self._random, signer)
        self._inputs = SessionInputs(session)
        self._signer = signer
        self._log = EventLog(_log)
        self._calls = OpenCalls(weakly(self._put_back))
        self._orders = OrderSafety(chosen, signer, in_doubt=lambda: session.unresolved, taken=_OpenIds(session))
        self._left = Leftovers()
        self._books: dict[str, BookView] = {}
        self._candles: Counter[str] = Counter()
        """Number of subscribers of each stream of candles, the user included."""
        self._account: AccountView | None = None
        self._forget_markets()
        self._order_checks = OrderChecks(
            check_orders,
            markets=lambda: self._markets,
            known_now=self._known_now,
            look_up=lambda symbol: self._look_up(symbol, LOOK_UP_WAIT_US),
            mono_us=lambda: self._now().mono_us,
        )
        self._prices_seen = PricesSeen() if check_orders == "all" else None
        self._stack = AsyncExitStack()

    @property
    def settings(self) -> Settings:
        """Settings of the way to the exchange."""
        return self._settings

    def __recording_source__(self) -> Source:
        """Return the source for a `Recorder`."""
        symbols = self._symbols if isinstance(self._symbols, tuple) else ("(a rule)",)
        return Source(self._inputs, self._random, self._options, self._signer, symbols, self._channels)

    async def _start(self) -> None:
        tasks = await self._stack.enter_async_context(anyio.create_task_group())
        await self._orders.start()
        await tasks.start(self._driver().run)
        # Not before: a cancellation while it starts ends it by the group.
        self._inside().outside.shield = True
        await self.load_markets()
        if self._follow_account:
            self._open().pump.give(FollowAccount())
        if self._has_streams:
            await self.subscribe(self._channels, self._symbols)

    def _driver(self) -> Driver:
        owned = self._owner is not None
        return Driver(
            session=self._session,
            inputs=self._inputs,
            calls=self._calls,
            orders=self._orders,
            settings=self._settings,
            proxies=self._proxies,
            transport=self._transport,
            make_transport=self._make_transport,
            addresses=self._addresses,
            sandbox=(self._sandbox_seed, self._sandbox_faults),
            queue=Queue(self._slow_consumer, self._buffer, self._buffer_bytes),
            on_event=self._on_event,
            tell=self._log.tell,
            # Inside a block it would cost a call without a gain.
            deliver=weakly(self._deliver) if owned else self._deliver,
            connected=weakly(self._connected),
            look_for_listings=WeakMethod(self._look_for_listings),
            owned=owned,
        )

    def _another(self) -> BackpackClient | None:
        if self._transport is not None or self._addresses is None:
            return None
        return BackpackClient(settings=self._settings, signer=self._signer, streams=False)

    def _connected(self, running: Running) -> None:
        self._running = running

    def __aiter__(self) -> AsyncIterator[Event]:
        """Every event, in order, until the client is closed. After a loop was left, the next one goes on where it stopped.

        Raises:
            LocalProtocolError: another loop runs. `stream` has events for a second consumer. Or `on_event` has the events.
        """
        return aiter(self._own_events())

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            LocalProtocolError: another task waits for it, or runs a loop over the events. Or `on_event` has the events.
        """
        return await anext(self._own_events())

    def batches(self) -> AsyncIterator[Sequence[Event]]:
        """Every event, in lists: those of one read of the socket together, and all that waited while you did something else.

            async for events in client.batches():
                for event in events:
                    ...

        This is the client's own iteration in another form, and the cheaper one of the two.

        Raises:
            LocalProtocolError: another loop runs. `stream` has events for a second consumer. Or `on_event` has the events.
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

        It has the events from now on, of these classes and their subclasses, or all of them by default, and `EventsDropped` where its
        own consumer was too slow. Each stream has a queue of its own. Leave its block, or let go of it, when you need it no more.

        Args:
            kinds: classes of events, such as `Trade` or `BookChanged`.
            slow_consumer: the policy for this consumer. That of the client unless given.
            buffer: number of events that may wait for it. As many as for the client unless given.
            buffer_bytes: memory that they may take. As much as for the client unless given.

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

        Each that has closed comes once and in order (`closed`), the running one whenever it changes. Candles missed in an outage are fetched
        before the next one. Candles that cannot be had are a `CandleGap` in their place. Its stream is subscribed meanwhile.

        Args:
            symbol: an id of the exchange, or a normalised symbol.
            interval: `1s`, `1m`, `1h`, `1d`, `1month`, or another one of the exchange.
            start_s: candles that start then or later, seconds since the epoch. The running one and those that follow unless given.

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

    async def subscribe(self, channels: Iterable[str], symbols: Symbols) -> None:
        """Subscribe every channel for every symbol, on this connection and on each that follows. Symbols may be `"all"` or a predicate.

        Raises:
            UnknownSymbol: the exchange has no such market.
            InvalidStream: it has no such channel.
            LocalProtocolError: a private channel without a signer.
            ConfigurationError: a channel needs symbols, or an argument is not a list of texts.
        """
        self._open()
        rule = checked_symbols("symbols", symbols)
        if isinstance(rule, tuple):
            streams = await self._streams(channels, rule)
        else:
            each, others = by_market(checked_names("channels", channels))
            streams = await self._streams(others, ())
            self._selections.add(each, rule)
            streams += self._selections.take(self._markets)
        self._open().pump.give(Subscribe.of(streams))

    async def unsubscribe(self, channels: Iterable[str], symbols: Symbols) -> None:
        """Undo `subscribe`, by the same `"all"` or predicate if it was one. Data still on their way are dropped.

        Raises:
            ConfigurationError: there is no subscription by this rule.
        """
        self._open()
        rule = checked_symbols("symbols", symbols)
        if isinstance(rule, tuple):
            streams = await self._streams(channels, rule)
        else:
            each, others = by_market(checked_names("channels", channels))
            streams = [*await self._streams(others, ()), *self._selections.remove(each, rule)]
        self._open().pump.give(Unsubscribe.of(streams))

    async def _look_for_listings(self) -> None:
        """Take up markets that are new, where markets are chosen by a rule."""
        if not self._selections:
            return
        try:
            streams = self._selections.take(await self.load_markets(fresh=True))
        except BackpackError as error:
            _log.warning("new listings: the list of markets could not be read: %s", error)
            return
        if streams:
            _log.info("new listings: %s", ", ".join(stream.name for stream in streams))
            self._open().pump.give(Subscribe.of(streams))

    async def subscribe_untyped(self, streams: Iterable[str]) -> None:
        """Subscribe streams of kinds that this project has no type for, by the exchange's names, such as `newKind.SOL_USDC`.

        Their data are `UnknownPayload`: the whole frame as text, and its `data()` as Python values. A kind that the exchange does not
        have either is a `StreamsRefused` that names it.

        Raises:
            InvalidStream: there is a type for it, so `subscribe` is the way. Or the exchange can have no such name.
            LocalProtocolError: a private stream without a signer.
            ConfigurationError: `streams` is not a list of texts.
        """
        self._open().pump.give(Subscribe(untyped=checked_names("streams", streams)))

    async def unsubscribe_untyped(self, streams: Iterable[str]) -> None:
        """Undo `subscribe_untyped`."""
        self._open().pump.give(Unsubscribe(checked_names("streams", streams)))

    async def verify(self, symbol: str) -> None:
        """Have a book compared with a fresh snapshot now. `BookVerified` or `BookDesynced` tells how it went."""
        symbol = await self._id(symbol)
        self._open().pump.give(Verify(self._session.book_stream(symbol)))

    async def resync(self, symbol: str, *, timeout_s: float = 30.0) -> RecoveryOutcome:
        """Have a book begin again: it is stale at once, its stream is requested again, and a new snapshot fetched.

        Returns `Recovered` once it is live, or `NotRecovered` with the reason after `timeout_s`. It goes on being brought back by itself.

        Raises:
            LocalProtocolError: its book is not subscribed.
        """
        symbol = await self._id(symbol)
        stream = self._session.book_stream(symbol)
        checked_seconds("timeout_s", timeout_s)
        if self._session.is_closed(symbol):
            return NotRecovered(subject=symbol, took_us=0, reason=CLOSED_MARKET)
        return await resync(
            self.stream,
            self._open().pump.give,
            lambda: self.book(symbol).live,
            symbol=symbol,
            stream=stream,
            timeout_s=timeout_s,
        )

    async def reconnect(self, *, timeout_s: float = 30.0) -> RecoveryOutcome:
        """Drop the connection and make another one at once, without backing off.

        Returns `Recovered` once it is open, or `NotRecovered` with the reason after `timeout_s`. Attempts go on. Books are stale until they are live again.
        """
        self._open()
        checked_seconds("timeout_s", timeout_s)
        return await reconnect(self.stream, self._open().pump.give, timeout_s=timeout_s)

    async def call(self, endpoint: str, parameters: Arguments | None = None, *, max_wait_us: int | None = None) -> object:
        """Call a REST endpoint by its name, its instruction or its method and path, within the request budget.

        The names are those of `backpack_proto.rest.codec.ENDPOINTS`, and parameters have the exchange's names (`orderId`) or Python's
        (`order_id`). Symbols are ids of the exchange. `max_wait_us` is the time that the call
        may wait to be sent: 5 s for one that changes something, unless given, and without a bound for one that reads.

        A cancelled call is not sent any more. If it changes something and may have been sent already, a `CallUnresolved` is among
        the events, and the call among those `unresolved`.

        Raises:
            LocalProtocolError: no such endpoint, or parameters that it does not take.
            ApiError: the exchange refused.
            NotSent: it did not leave, in most cases because its turn did not come in time.
            OutcomeUnknown: the call was to change something, and it is not known whether it did. It is never sent twice.
            PartlyUnreadable: rows of a list about the account cannot be read. It has the others.
            BackpackError: no answer came.
        """
        self._open()
        parameters = parameters or {}
        row = find_endpoint(endpoint)
        if not row.places_orders:
            return await self._calls.call(self._open().pump.give, endpoint, parameters, max_wait_us=max_wait_us)
        desk = await self._orders.desk()
        parameters, client_ids = desk.with_ids(row, parameters)
        give = self._open().pump.give
        return await self._calls.call(give, endpoint, parameters, max_wait_us=max_wait_us, desk=desk, client_ids=client_ids)

    @property
    def unresolved(self) -> Mapping[int, CallUnresolved]:
        """The calls that were cancelled after they may have been sent, by call id, until it is known how they ended.

        The late answer, an event, takes a call off. Where none comes, `resolve` does for orders, and `dismiss` for all other calls.
        """
        self._inside()
        return self._session.unresolved

    def _dismiss_call(self, call_id: int) -> list[int]:
        call = self._session.unresolved.get(call_id)
        self._open().pump.give(Resolve(call_id))
        return [] if call is None else _client_ids(call)

    def _unresolved_calls(self, client_ids: frozenset[int]) -> list[int]:
        return [
            call_id
            for call_id, call in self._session.unresolved.items()
            if (ids := set(_client_ids(call))) and ids <= client_ids
        ]

    @property
    def account(self) -> AccountView:
        """The ledger of the account: always the same object. `live` says whether it follows the exchange.

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
        """Verdict on the whole now, with the reasons against it."""
        outlets = self._inside().outlets
        return self._session.health(self._now()).and_also([*outlets.troubles, *self._orders.troubles], outlets.notes)

    @property
    def metrics(self) -> MetricsSnapshot:
        """All counters of the session now."""
        latency = self._inside().outlets.latency
        return replace(
            self._session.metrics(self._now()),
            receipt_to_delivery_p50_us=latency.percentile(0.5),
            receipt_to_delivery_p99_us=latency.percentile(0.99),
        )

    def _observe(self) -> Observation:
        running = self._running
        observed = self._session.observe(self._now())
        if running is None:
            return Observation.before_the_start(observed)
        outlets, orders = running.outlets, self._orders
        health = observed.health.and_also([*outlets.troubles, *orders.troubles], outlets.notes)
        return Observation(
            running=not self._closed and not running.finished.is_set(),
            session=replace(observed, health=health),
            delivery=outlets.snapshot,
            receipt_to_event=outlets.receipt_to_event.durations,
            event_to_consumer=outlets.event_to_consumer.durations,
            orders_in_doubt=0 if orders.opened is None else len(orders.opened.unresolved),
        )

    def _loop_thread(self) -> LoopThread | None:
        return None if self._running is None else self._running.loop

    @property
    def delivery(self) -> DeliverySnapshot:
        """Events that wait for the client's own iteration now, and those lost to its slowness. Always empty where `on_event` has the events."""
        events = self._inside().events
        return NOTHING_WAITS if events is None else events.delivery

    @property
    def budget(self) -> PacerState:
        """Rest of the request budget now."""
        self._inside()
        return self._session.budget(self._now())

    def _now(self) -> Now:
        """Return this moment on the clock of the session."""
        return system_now() if self._running is None else self._running.transport.now()

    def _put_back(self, event: CallAnswered | CallFailed) -> None:
        """Let the answer to a call that was given up be among the events."""
        self._deliver([event])

    def _deliver(self, events: Sequence[Event], wire_bytes: int = 0) -> None:
        if self._prices_seen is not None:
            self._prices_seen.note(events, self._now().mono_us)
        if PLAIN.issuperset(map(type, events)):
            # Nearly every batch: it has no events for the log, and no answers of calls.
            self._inside().outlets.put(events, wire_bytes)
            return
        passed: list[Event] = []
        for event in events:
            self._log.tell(event)
            if type(event) is MarketChanged:
                self._take_up(event.market)
            if isinstance(event, CallAnswered | CallFailed):
                if self._orders.opened is not None:
                    self._orders.opened.settle(event)
                if self._calls.take(event):
                    continue
            passed.append(event)
        if passed:
            self._inside().outlets.put(passed)

    def _own_events(self) -> EventStream:
        events = self._inside().events
        if events is None:
            raise LocalProtocolError("`on_event` is called with the events: a loop has them from `client.stream(...)`")
        return events

    async def _check_orders(self, orders: Sequence[NewOrder], *, batch: bool) -> None:
        await self._order_checks.check(orders, batch=batch)

    def _known_now(self, order: NewOrder) -> KnownNow:
        """Return the knowledge of fresh prices, the live book and the live ledger about the market of an order."""
        now = self._now().mono_us
        known: KnownNow = {} if self._prices_seen is None else self._prices_seen.known(order.symbol, now)
        try:
            book = self._session.book(order.symbol)
        except LocalProtocolError:
            book = None  # it is not subscribed
        if book is not None and book.is_live(now):
            count = None if order.order_type == "Market" else 1
            known["bids"], known["asks"] = book.bids(count), book.asks(count)
        account = self._session.account if self._follow_account else None
        if account is not None and account.is_live(now) and f"position {order.symbol}" not in account.doubts:
            position = account.positions.get(order.symbol)
            known["position"] = Decimal(0) if position is None else position.net_quantity
        return known


def _client_ids(call: CallUnresolved) -> list[int]:
    """Return the client ids of the orders that a call was to place."""
    if not find_endpoint(call.endpoint).places_orders:
        return []
    named: list[object] = [client_id for _, client_id in call.orders] or [call.client_id]
    return [client_id for client_id in named if isinstance(client_id, int)]

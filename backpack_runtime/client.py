"""What a user touches: one object that speaks with the exchange, and is iterated over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from random import Random
from types import TracebackType
from typing import NamedTuple, Self

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from backpack_proto.account.ledger import Account
from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import BackpackError, ClientClosed, ConfigurationError
from backpack_proto.hints import shown
from backpack_proto.inputs import Arguments, Call, Close, FollowAccount, Resolve, Subscribe, Unsubscribe, Verify, Withdraw
from backpack_proto.machine import Now
from backpack_proto.metrics import Health, MetricsSnapshot
from backpack_proto.outputs import CallAnswered, CallFailed, CallUnresolved
from backpack_proto.rest.codec import outcome_unknown
from backpack_proto.rest.endpoints.table import find_endpoint
from backpack_proto.rest.markets import Markets
from backpack_proto.rest.pacing import PacerState
from backpack_proto.session import Session
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.names import Stream, parse_channel, streams_for
from backpack_proto.streams.payloads import Event

from .books import BookView
from .checks import checked_count, checked_flag, checked_member, checked_names
from .delivery import Delivery, DeliverySnapshot, SlowConsumer
from .network.addresses import REST_URL, WS_URL
from .network.proxy_settings import Proxies, resolve_proxies
from .pump import Pump
from .rest_methods import RestMethods
from .settings import Settings
from .transport import Transport, system_now
from .transports import transport_of

__all__ = ["BackpackClient"]

DEFAULT_CHANNELS = ("book", "trades")
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
        signer: Signer | None = None,
        follow_account: bool = False,
        book_levels: int = 10,
        slow_consumer: SlowConsumer | str = SlowConsumer.BLOCK,
        buffer: int = 10_000,
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
            signer: signs private subscriptions and calls; the sandbox has one of its own for users without one.
            follow_account: keep the ledger of the account, `account`, and emit all that changes in it.
            book_levels: how many levels a side `BookChanged` carries, at least 1; `BookSynced` has all.
            slow_consumer: what happens to market data that are not fetched in time: `block`, `conflate` or `drop_oldest`.
            buffer: how many events may wait before that happens.
            transport: drive this one instead of a runtime's sockets, such as a `MockTransport`.

        Raises:
            ConfigurationError: an argument cannot be used.
            InvalidStream: the exchange has no such channel.
            MissingExtra: the runtime needs an extra that is not installed.
        """
        self._settings = _checked_settings(settings, sandbox=checked_flag("sandbox", sandbox), transport=transport)
        # What holds for the process is about the way out, and the sandbox is on this machine.
        self._proxies = self._settings.proxies if sandbox else resolve_proxies(self._settings.proxies)
        self._symbols = checked_names("symbols", symbols)
        self._channels = _checked_channels(channels, self._symbols)
        self._slow_consumer = checked_member("slow_consumer", slow_consumer, SlowConsumer)
        self._buffer = checked_count("buffer", buffer)
        self._sandbox_seed = checked_count("sandbox_seed", sandbox_seed, minimum=0)
        self._follow_account = checked_flag("follow_account", follow_account)
        if signer is not None and not isinstance(signer, Signer):
            raise ConfigurationError(f"signer: a Signer, got {_kind(signer)}{_signer_hint(signer)}")
        private = any(parse_channel(channel).private for channel in self._channels)
        if sandbox and signer is None and (follow_account or private):
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
            connect_timeout_us=_connect_timeout_us(self._settings, self._proxies),
            silence_us=self._settings.silence_us,
            ping_timeout_us=self._settings.ping_timeout_us,
            pause_ceiling_us=self._settings.pause_ceiling_us,
        )
        self._answers: dict[int, _Answer] = {}
        self._books: dict[int, BookView] = {}
        self._last_call_id = 0
        self._fetched = 0
        self._markets = Markets(())
        self._stack = AsyncExitStack()
        self._running: _Running | None = None
        self._closed = False

    @property
    def settings(self) -> Settings:
        """How the exchange is reached."""
        return self._settings

    async def __aenter__(self) -> Self:
        if self._running is not None or self._closed:
            raise ClientClosed("the client has been entered before: make a new one for every `async with`")
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
            addresses = replace(self._settings, rest_url=sandbox.rest_url, ws_url=sandbox.ws_url).addresses(self._proxies)
        own = self._transport or self._make_transport(addresses, compression=self._settings.compression)
        transport = await self._stack.enter_async_context(own)
        delivery = Delivery(self._slow_consumer, self._buffer, pause=transport.pause_reading, resume=transport.resume_reading)
        pump = Pump(self._session, transport, self._deliver)
        self._running = _Running(tasks, transport, pump, delivery, anyio.Event())
        tasks.start_soon(self._run, self._running)
        await self.load_markets()
        if self._follow_account:
            self._running.pump.give(FollowAccount())
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
        finally:
            self._closed = True
            # Whatever way the block was left: no book and no ledger says any more that it is live.
            self._session.handle(Close(), system_now())

    async def aclose(self) -> None:
        """Close the connection in order; the iteration ends after what has come until then."""
        running = self._inside()
        with anyio.move_on_after(DRAIN_SECONDS):
            if not running.finished.is_set():
                running.pump.give(Close())
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
            ConfigurationError: a channel needs symbols, or an argument is not a list of texts.
        """
        self._open().pump.give(Subscribe.of(self._streams(channels, symbols)))

    async def unsubscribe(self, channels: Iterable[str], symbols: Iterable[str]) -> None:
        """Undo `subscribe`; what is still on its way is dropped."""
        self._open().pump.give(Unsubscribe.of(self._streams(channels, symbols)))

    async def verify(self, symbol: str) -> None:
        """Have a book compared with a fresh snapshot now; `BookVerified` or `BookDesynced` tells how it went."""
        running = self._open()
        (symbol,) = self._ids([symbol])
        running.pump.give(Verify(f"{Channel.DEPTH.value}.{symbol}"))

    async def load_markets(self) -> Markets:
        """Fetch the list of markets; symbols are checked against it, and normalised symbols come from it."""
        self._markets = await self.get_markets()
        return self._markets

    @property
    def markets(self) -> Markets:
        """The markets as they were loaded last."""
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
            BackpackError: no answer came.
        """
        running = self._open()
        parameters = parameters or {}
        self._last_call_id += 1
        call_id = self._last_call_id
        answer = _Answer()
        command = Call(call_id=call_id, endpoint=endpoint, parameters=parameters, max_wait_us=max_wait_us)
        self._answers[call_id] = answer
        try:
            running.pump.give(command)
            await answer.arrived.wait()
        except BaseException:
            del self._answers[call_id]
            self._withdraw(running, call_id, answer)
            raise
        del self._answers[call_id]
        if isinstance(answer.event, CallAnswered):
            return answer.event.result
        if isinstance(answer.event, CallFailed):
            raise answer.event.error
        raise _interrupted(endpoint, parameters)

    def _withdraw(self, running: _Running, call_id: int, answer: _Answer) -> None:
        """Nobody waits for a call any more: do not send it, and let what became of it be among the events."""
        if answer.event is None:
            running.pump.give(Withdraw(call_id))
        elif not find_endpoint(answer.event.endpoint).idempotent:
            # It came in the same moment in which the caller gave up.
            self._deliver([answer.event])

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
    def account(self) -> Account:
        """The ledger of the account: always the same object; `live` says whether it follows the exchange.

        Raises:
            ConfigurationError: it is not followed.
        """
        self._inside()
        if not self._follow_account:
            raise ConfigurationError("account: it is not followed; make the client with follow_account=True and a signer")
        return self._session.account

    def book(self, symbol: str) -> BookView:
        """Return the order book of a symbol: always the same object, always at the latest frame, `live` or stale.

        Raises:
            UnknownSymbol: the exchange has no such market.
            LocalProtocolError: its book is not subscribed.
        """
        book = self._session.book(self.markets[symbol].symbol)
        view = self._books.get(id(book))
        if view is None:
            # The view keeps its book, so no other one ever has its id.
            view = self._books[id(book)] = BookView(book, self._now)
        return view

    @property
    def health(self) -> Health:
        """Whether all is well now, and if not, why."""
        self._inside()
        return self._session.health(self._now())

    @property
    def metrics(self) -> MetricsSnapshot:
        """All counters of the session now."""
        self._inside()
        return self._session.metrics(self._now())

    @property
    def delivery(self) -> DeliverySnapshot:
        """What waits for the consumer now, and what was lost to its slowness."""
        return self._inside().delivery.snapshot

    @property
    def budget(self) -> PacerState:
        """What is left of the request budget now."""
        self._inside()
        return self._session.budget(self._now())

    def _now(self) -> Now:
        """Return this moment on the clock of the session."""
        return system_now() if self._running is None else self._running.transport.now()

    def _deliver(self, events: list[Event]) -> None:
        passed: list[Event] = []
        for event in events:
            if isinstance(event, CallAnswered | CallFailed):
                answer = self._answers.get(event.call_id)
                # Without one, whoever asked has stopped waiting, and the call changes something.
                if answer is not None:
                    answer.event = event
                    answer.arrived.set()
                    continue
            passed.append(event)
        if passed:
            self._inside().delivery.put(passed)

    def _inside(self) -> _Running:
        """What there is inside the block, and can still be read after it."""
        if self._running is None:
            state = "could not be entered" if self._closed else "has not been entered"
            raise ClientClosed(f"the client {state}: use it inside `async with client:`")
        return self._running

    def _open(self) -> _Running:
        """What there is inside the block, for those who want the exchange to do something."""
        running = self._inside()
        if self._closed or running.finished.is_set():
            raise ClientClosed("the client has been closed: make a new one and use it inside `async with client:`")
        return running

    def _check_open(self) -> None:
        self._open()

    def _ids(self, symbols: Iterable[str]) -> tuple[str, ...]:
        return tuple(self._id(symbol) for symbol in symbols)

    def _id(self, symbol: str) -> str:
        self._open()
        return self._markets[symbol].symbol

    def _streams(self, channels: Iterable[str], symbols: Iterable[str]) -> list[Stream]:
        """The streams of channels; a symbol that stands in the name of a channel is resolved as well."""
        names, ids = checked_names("channels", channels), self._ids(checked_names("symbols", symbols))
        _check_symbols(names, ids)
        streams = streams_for(names, ids)
        return [stream if stream.symbol is None else replace(stream, symbol=self._id(stream.symbol)) for stream in streams]


def _checked_settings(settings: object, *, sandbox: bool, transport: object) -> Settings:
    """Return the settings, which have to fit a sandbox or a transport of the user's own."""
    if settings is None:
        settings = Settings()
    if not isinstance(settings, Settings):
        raise ConfigurationError(f"settings: a Settings, got {_kind(settings)}")
    if transport is not None and sandbox:
        raise ConfigurationError(
            "transport: a sandbox is reached by a runtime of its own; leave out one of sandbox and transport"
        )
    elsewhere = [name for name, url in (("rest_url", REST_URL), ("ws_url", WS_URL)) if getattr(settings, name) != url]
    if sandbox and elsewhere:
        raise ConfigurationError(
            f"sandbox=True starts an exchange of its own: leave {' and '.join(elsewhere)} out of the settings"
        )
    return settings


def _checked_channels(channels: object, symbols: tuple[str, ...]) -> tuple[str, ...]:
    """Return the channels, each of which exists and has the symbols that it needs."""
    if channels is None:
        return DEFAULT_CHANNELS if symbols else ()
    names = checked_names("channels", channels)
    _check_symbols(names, symbols)
    return names


def _check_symbols(channels: tuple[str, ...], symbols: tuple[str, ...]) -> None:
    """Refuse channels that would subscribe nothing, without a word."""
    silent = [channel for channel in channels if not streams_for([channel], symbols)]
    if silent:
        raise ConfigurationError(
            f'channels: {", ".join(silent)} without symbols subscribes nothing; give symbols, as in ["SOL_USDC"]'
        )


def _kind(value: object) -> str:
    """Return a value for an error text, but never a text, for it may be a key."""
    return "a str" if isinstance(value, str) else shown(value)


def _signer_hint(signer: object) -> str:
    return (
        "; wrap it: Signer(credentials)" if isinstance(signer, Credentials) else "; make one: Signer(Credentials(private_key))"
    )


def _connect_timeout_us(settings: Settings, proxies: Proxies) -> int:
    """How long a connection may take: the proxy's own time comes first, so that it is named when it is used up."""
    proxy = proxies.websocket
    return settings.connect_timeout_us + (0 if proxy is None else int(proxies.timeout_of(proxy) * 1e6))


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

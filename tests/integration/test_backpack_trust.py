"""What is called live over real sockets while the exchange is mute, late, closed or refuses, or the program itself does not run or read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.claims import PATH_BOUND_US
from backpack_proto.exchange import CloseMarket, ExchangeInput, ExchangeOutput, Fault, OpenMarket, RequestReceived, Respond
from backpack_proto.machine import Now
from backpack_proto.outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    ConnectionDown,
    ConnectionUp,
    EventsDropped,
    MarketClosed,
    MarketOpened,
)
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.gate]

PATIENCE_SECONDS = 60.0
SYMBOL = "SOL_USDC"
SYMBOLS = (SYMBOL, "BTC_USDC", "SOL_USDC_PERP", "BTC_USDC_PERP")
RETRY_AFTER_SECONDS = 2
PAUSE_US = RETRY_AFTER_SECONDS * 1_000_000
BUFFER = 20
SPEED = 5.0
in_every_runtime = pytest.mark.parametrize("runtime", ["asyncio", "trio", "aiohttp"], indirect=True)


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> str:
    """What the client runs on: the anyio runtime on one of its event loops, or aiohttp."""
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "asyncio" if runtime == "aiohttp" else runtime


class Watched:
    """A client whose events are all kept."""

    def __init__(self, sandbox: Sandbox, client: BackpackClient) -> None:
        self.sandbox = sandbox
        self.client = client
        self.events: list[Event] = []
        self._woken = anyio.Event()

    async def follow(self) -> None:
        async for event in self.client:
            self.events.append(event)
            self._woken.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not reached():
                self._woken = anyio.Event()
                await self._woken.wait()

    def seen(self, kind: type[Event]) -> bool:
        return any(isinstance(event, kind) for event in self.events)

    @property
    def live(self) -> bool:
        return self.client.book(SYMBOL).live

    @property
    def doubts(self) -> str:
        return " / ".join(self.client.health.reasons)


def settings_of(sandbox: Sandbox, runtime: str) -> Settings:
    return replace(sandbox.settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio")


@asynccontextmanager
async def watched(runtime: str) -> AsyncIterator[Watched]:
    async with serve_sandbox() as sandbox:
        settings = settings_of(sandbox, runtime)
        async with BackpackClient([SYMBOL], settings=settings) as client, anyio.create_task_group() as tasks:
            one = Watched(sandbox, client)
            tasks.start_soon(one.follow)
            await one.until(lambda: one.live and client.health.healthy)
            one.events.clear()
            yield one
            tasks.cancel_scope.cancel()


@in_every_runtime
async def test_a_mute_exchange_is_noticed_within_the_bound_and_its_connection_given_up(runtime: str) -> None:
    async with watched(runtime) as one:
        one.sandbox.silent = lambda _: True
        began = time.monotonic()
        await one.until(lambda: one.seen(BookStale))
        assert time.monotonic() - began <= PATH_BOUND_US / 1e6 + 1
        assert not one.live
        assert "no data have come for" in one.doubts
        await one.until(lambda: one.seen(ConnectionDown))
        assert time.monotonic() - began <= 20
        assert not one.live
        one.sandbox.silent = lambda _: False
        await one.until(lambda: one.seen(ConnectionUp) and one.live)


@in_every_runtime
async def test_a_mute_depth_stream_beside_living_ones_is_noticed(runtime: str) -> None:
    async with watched(runtime) as one:
        one.sandbox.silent = lambda data: b'"stream":"depth.SOL_USDC"' in data
        await one.until(lambda: not one.live)
        assert f"book depth.{SYMBOL} is stale" in one.doubts
        assert any(isinstance(event, BookDesynced) and "the depth stream is stuck" in event.reason for event in one.events)
        assert not one.seen(ConnectionDown)
        one.sandbox.silent = lambda _: False
        await one.until(lambda: one.live)


@in_every_runtime
async def test_a_path_that_delivers_everything_eight_seconds_late_has_no_live_book(runtime: str) -> None:
    async with watched(runtime) as one:
        one.sandbox.late_us = 8_000_000
        await one.until(lambda: "data are 8" in one.doubts)
        for _ in range(20):
            await anyio.sleep(0.05)
            assert not one.live
        assert not one.seen(ConnectionDown), "what is late is not mute"


@in_every_runtime
async def test_a_path_that_is_four_seconds_late_is_live_and_says_how_old_it_is(runtime: str) -> None:
    async with watched(runtime) as one:
        one.sandbox.late_us = 4_000_000
        await one.until(lambda: "data are 4" in one.doubts)
        assert one.live
        age_us = one.client.book(SYMBOL).age_us
        assert age_us is not None
        assert age_us >= 4_000_000
        assert not one.client.health.healthy


@in_every_runtime
async def test_a_blocked_program_sees_no_live_book_before_it_has_read_again(runtime: str) -> None:
    async with watched(runtime) as one:
        time.sleep(8)  # noqa: ASYNC251 - that is what the user's code does
        assert not one.live
        assert not one.client.health.healthy
        # The book is live before its consumer has fetched the event that says so.
        await one.until(lambda: one.live and one.client.health.healthy and (one.seen(BookConfirmed) or one.seen(BookSynced)))
        assert not one.seen(ConnectionDown), "first what waits is read, then it is judged"


@in_every_runtime
async def test_a_market_that_closes_and_opens(runtime: str) -> None:
    async with watched(runtime) as one:
        one.sandbox._give(CloseMarket(SYMBOL))
        await one.client.verify(SYMBOL)
        await one.until(lambda: one.seen(MarketClosed))
        assert not one.live
        assert one.client.health.healthy
        assert f"market {SYMBOL} is closed" in one.client.health.notes
        one.sandbox._give(OpenMarket(SYMBOL))
        # It is looked at once a minute. Whoever asks for the list of markets is heard at once.
        await one.client.load_markets(fresh=True)
        await one.until(lambda: one.seen(MarketOpened) and one.live)


async def an_exchange_that_refuses_requests_is_asked_once_for_each_book_after_its_pause(runtime: str) -> None:
    answers: Counter[int] = Counter()
    refused_us: list[int] = []

    def count(given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        outputs = handle(given, now)
        if isinstance(given, RequestReceived):
            for status in [output.status for output in outputs if isinstance(output, Respond)]:
                if status == HTTPStatus.TOO_MANY_REQUESTS:
                    refused_us.append(now.mono_us)
                if given.target.startswith("/api/v1/depth"):
                    answers[status] += 1
        return outputs

    async with (
        serve_sandbox(speed=2.0) as sandbox,
        BackpackClient(settings=settings_of(sandbox, runtime)) as client,
        anyio.create_task_group() as tasks,
    ):
        one = Watched(sandbox, client)
        tasks.start_soon(one.follow)
        handle, sandbox.exchange.handle = sandbox.exchange.handle, count  # type: ignore[method-assign]  # a tap
        sandbox.exchange.faults.rates = {Fault.TOO_MANY_REQUESTS: 1.0}
        sandbox.exchange.faults.retry_after_s = RETRY_AFTER_SECONDS
        await client.subscribe(["book", "trades"], SYMBOLS)
        books = [client.book(symbol) for symbol in SYMBOLS]
        # Until the first request after the pause, which is a trial, has been refused as well.
        await one.until(lambda: bool(refused_us) and refused_us[-1] - refused_us[0] >= PAUSE_US)
        await one.until(lambda: "REST requests pause for" in one.doubts)
        assert answers[429] <= len(SYMBOLS) + 1, "those that had left before the first answer came, and at most one trial"
        assert client.budget.pause_us >= PAUSE_US
        assert not any(book.live for book in books)
        assert not one.seen(BookSynced)
        sandbox.exchange.faults.rates = {}
        await one.until(lambda: all(book.live for book in books))
        assert answers[200] == len(SYMBOLS)
        assert answers[429] <= len(SYMBOLS) + 2
        assert client.budget.pause_us == 0
        tasks.cancel_scope.cancel()


async def without_a_consumer_books_stay_current_and_what_waits_is_bounded_and_said(runtime: str) -> None:
    """By the default policy. Nobody waits for the events, so they are late for nobody: that is a note, and no reason against health."""
    async with (
        serve_sandbox(speed=SPEED) as sandbox,
        BackpackClient([SYMBOL], settings=settings_of(sandbox, runtime), buffer=BUFFER) as client,
    ):
        book = client.book(SYMBOL)
        await reached(lambda: book.live and client.delivery.conflated > 100 and client.delivery.dropped > 5)
        await reached(lambda: client.delivery.behind_us >= 3_000_000)
        assert book.live
        assert book.age_us is not None
        assert book.age_us < 1_000_000
        assert client.health.healthy
        (note,) = client.health.notes
        assert note == f"consumer of all events: no event has been asked for yet, {client.delivery.waiting} wait"
        assert client.delivery.waiting <= BUFFER + 10, "state events are kept beside"
        assert client.delivery.pauses == 0


async def a_consumer_that_stops_fetching_is_a_reason_against_health_while_books_stay_current(runtime: str) -> None:
    async with (
        serve_sandbox(speed=SPEED) as sandbox,
        BackpackClient([SYMBOL], settings=settings_of(sandbox, runtime), buffer=BUFFER) as client,
    ):
        book = client.book(SYMBOL)
        async for event in client:
            if not (isinstance(event, BookChanged) and client.health.healthy):
                continue
            # It is busy with this one, in its loop.
            await reached(lambda: not client.health.healthy)
            assert "consumer of all events: events are fetched" in " / ".join(client.health.reasons)
            assert book.live
            assert client.delivery.waiting <= BUFFER + 10
            break
        await reached(lambda: client.health.healthy)
        assert book.live


async def without_a_consumer_a_client_that_blocks_has_no_live_book(runtime: str) -> None:
    async with (
        serve_sandbox(speed=SPEED) as sandbox,
        BackpackClient([SYMBOL], settings=settings_of(sandbox, runtime), buffer=BUFFER, slow_consumer="block") as client,
    ):
        book = client.book(SYMBOL)
        await reached(lambda: client.delivery.pauses > 0)
        began = time.monotonic()
        await reached(lambda: not book.live)
        assert time.monotonic() - began <= PATH_BOUND_US / 1e6 + 1
        # The book may have been stale for its first snapshot, before the pause is worth a reason.
        await reached(lambda: "consumer of all events: reading has been paused for" in " / ".join(client.health.reasons))
        assert not client.health.healthy
        # Whoever comes after all gets everything, and the book is live again without a new connection.
        one = Watched(sandbox, client)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.follow)
            await one.until(lambda: one.live and client.health.healthy)
            tasks.cancel_scope.cancel()
        assert not one.seen(EventsDropped)
        assert not one.seen(ConnectionDown)
        assert client.delivery.dropped == 0


async def reached(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.01)


@in_every_runtime
async def test_requests_that_are_refused_and_consumers_that_do_not_fetch(runtime: str) -> None:
    """Each scene has an exchange and a client of its own. They wait for seconds, so they wait together."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(an_exchange_that_refuses_requests_is_asked_once_for_each_book_after_its_pause, runtime)
        tasks.start_soon(without_a_consumer_books_stay_current_and_what_waits_is_bounded_and_said, runtime)
        tasks.start_soon(a_consumer_that_stops_fetching_is_a_reason_against_health_while_books_stay_current, runtime)
        tasks.start_soon(without_a_consumer_a_client_that_blocks_has_no_live_book, runtime)

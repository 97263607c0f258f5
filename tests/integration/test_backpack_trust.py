"""What is called live over real sockets while the exchange is mute, late or closed, or the program itself does not run."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.claims import PATH_BOUND_US
from backpack_proto.exchange import CloseMarket, OpenMarket
from backpack_proto.outputs import (
    BookConfirmed,
    BookStale,
    BookSynced,
    ConnectionDown,
    ConnectionUp,
    MarketClosed,
    MarketOpened,
)
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.gate]

PATIENCE_SECONDS = 60.0
SYMBOL = "SOL_USDC"
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


@asynccontextmanager
async def watched(runtime: str) -> AsyncIterator[Watched]:
    async with serve_sandbox() as sandbox:
        settings = replace(sandbox.settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio")
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
        assert "the depth stream is stuck" in one.doubts
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
        await one.until(lambda: one.live and one.client.health.healthy)
        assert one.seen(BookConfirmed) or one.seen(BookSynced)
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
        # It is looked at once a minute; whoever asks for the list of markets is heard at once.
        await one.client.load_markets(fresh=True)
        await one.until(lambda: one.seen(MarketOpened) and one.live)

"""Programs of cryptofeed with the feed over ccxt, against the sandbox over TLS, on whichever cryptofeed is installed."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")
pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

from anyio.from_thread import BlockingPortal, start_blocking_portal
from cryptofeed import FeedHandler
from cryptofeed.defines import CANDLES, L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import EXCHANGE_MAP

from backpack_runtime import Sandbox, serve_sandbox
from backpack_runtime.cryptofeed import CcxtBackpackFeed, register

PATIENCE_SECONDS = 60
SYMBOLS = ["SOL-USDC", "BTC-USDC-PERP"]
CHANNELS = [TRADES, L2_BOOK, TICKER, CANDLES]
QUIET = {"log": {"disabled": True}}


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    """A thread for the sandbox: cryptofeed 2 blocks its own one while it loads the markets."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def sandbox(portal: BlockingPortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(EXCHANGE_MAP, "BACKPACK", CcxtBackpackFeed)
    with portal.wrap_async_context_manager(serve_sandbox(tls=True, seed=5, speed=3)) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def nothing_left_open(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task, socket or session is left to the garbage collector, which would complain."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


class Seen:
    """What the callbacks got, and a way to wait until it is enough."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self._changed = asyncio.Event()

    @property
    def callbacks(self) -> dict[str, Callable[[Any, float], Awaitable[None]]]:
        return {channel: self._callback(channel) for channel in CHANNELS}

    def _callback(self, channel: str) -> Callable[[Any, float], Awaitable[None]]:
        async def take(given: Any, receipt: float) -> None:
            # A book is one object of cryptofeed's, made again for each delivery.
            self.objects[channel, given.symbol].append((given, receipt))
            self._changed.set()

        return take

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not enough():
                self._changed.clear()
                await self._changed.wait()

    async def each(self, count: int, channels: list[str]) -> None:
        """Wait for that many more of everything."""
        wanted = {(channel, symbol): len(self.objects[channel, symbol]) + count for channel in channels for symbol in SYMBOLS}
        await self.until(lambda: all(len(self.objects[key]) >= number for key, number in wanted.items()))


def settings(sandbox: Sandbox) -> dict[str, Any]:
    return {"use_sandbox": True, "sandbox_url": sandbox.rest_url, "ca_file": str(sandbox.ca_file)}


def run(make: Callable[[Seen], FeedHandler], body: Callable[[Seen], Awaitable[None]]) -> Seen:
    """Run a program until `body` has seen enough, and stop it as its version wants to be stopped."""

    async def program() -> Seen:
        seen = Seen()
        handler = make(seen)
        if hasattr(handler, "run_async"):
            running = asyncio.create_task(handler.run_async(install_signal_handlers=False))
            try:
                await body(seen)
            finally:
                handler.request_stop()
                await running
        else:
            handler.run(start_loop=False, install_signal_handlers=False)
            try:
                await body(seen)
            finally:
                await handler.stop_async()
        return seen

    return asyncio.run(program())


def program(sandbox: Sandbox, channels: list[str] = CHANNELS, **options: Any) -> Callable[[Seen], FeedHandler]:
    """A program that names the exchange, and is configured as programs of cryptofeed are."""

    def make(seen: Seen) -> FeedHandler:
        handler = FeedHandler(config={**QUIET, "backpack": settings(sandbox)})
        handler.add_feed(
            "BACKPACK",
            symbols=SYMBOLS,
            channels=channels,
            callbacks={name: callback for name, callback in seen.callbacks.items() if name in channels},
            **{"snapshot_interval": 0.2, "candle_closed_only": False, **options},
        )
        return handler

    return make


def check(seen: Seen) -> None:
    """What was delivered is what its channel says."""
    for symbol in SYMBOLS:
        trades = [trade for trade, _ in seen.objects[TRADES, symbol]]
        ids = [int(trade.id) for trade in trades]
        assert ids == sorted(set(ids))
        assert {trade.side for trade in trades} <= {"buy", "sell"}
        for book, receipt in seen.objects[L2_BOOK, symbol]:
            assert book.book.bids.index(0)[0] < book.book.asks.index(0)[0]
            assert min(len(book.book.bids), len(book.book.asks)) > 50
            assert abs(receipt - book.timestamp) < PATIENCE_SECONDS
        numbers = [book.sequence_number for book, _ in seen.objects[L2_BOOK, symbol]]
        assert numbers == sorted(numbers)
        assert all(ticker.bid < ticker.ask for ticker, _ in seen.objects[TICKER, symbol])
        for candle, receipt in seen.objects[CANDLES, symbol]:
            assert candle.stop - candle.start == 60
            assert candle.low <= candle.open <= candle.high
            assert candle.closed or candle.start - 1 <= receipt <= candle.stop + 1


def test_a_program_with_the_name_of_the_exchange(sandbox: Sandbox) -> None:
    check(run(program(sandbox), lambda seen: seen.each(3, CHANNELS)))


def test_without_the_flag_it_is_the_registered_feed() -> None:
    assert register(native=False) is CcxtBackpackFeed
    assert EXCHANGE_MAP["BACKPACK"] is CcxtBackpackFeed


def test_a_program_with_an_instance_that_polls(sandbox: Sandbox) -> None:
    def make(seen: Seen) -> FeedHandler:
        handler = FeedHandler(config=QUIET)
        handler.add_feed(
            CcxtBackpackFeed(
                settings(sandbox),
                rest_only=True,
                snapshot_interval=0.2,
                candle_closed_only=False,
                symbols=SYMBOLS,
                channels=CHANNELS,
                callbacks=seen.callbacks,
            )
        )
        return handler

    check(run(make, lambda seen: seen.each(3, CHANNELS)))


def test_a_lost_connection_is_made_again(sandbox: Sandbox, portal: BlockingPortal) -> None:
    before: list[int] = []

    async def body(seen: Seen) -> None:
        for _ in range(2):
            await seen.each(2, [TRADES, TICKER])
            before.append(sandbox.connections)
            portal.call(sandbox.drop_connections)
        await seen.each(2, [TRADES, TICKER])

    check(run(program(sandbox, [TRADES, TICKER]), body))
    # The websocket, and what ccxt makes REST calls over.
    assert sandbox.connections - before[-1] <= 4


def test_a_silent_exchange_is_noticed_and_said(sandbox: Sandbox) -> None:
    class Warned(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "has been silent for 1.7 s" in record.getMessage():
                warned.set()

    warned = asyncio.Event()
    handler = Warned()

    async def body(seen: Seen) -> None:
        await seen.each(1, [TRADES])
        sandbox.mute = True
        async with asyncio.timeout(PATIENCE_SECONDS):
            await warned.wait()
        # It has swallowed the closing frame, and goes on talking as if nothing had been.
        sandbox.mute = False
        await seen.each(2, [TRADES])

    logger = logging.getLogger("backpack_runtime.cryptofeed")
    logger.addHandler(handler)
    try:
        check(run(program(sandbox, [TRADES], stall_seconds=1.5), body))
    finally:
        logger.removeHandler(handler)


def test_an_exchange_that_is_down_is_tried_more_and_more_slowly(sandbox: Sandbox) -> None:
    tries: list[int] = []

    async def body(seen: Seen) -> None:
        await seen.each(1, [TRADES])
        sandbox.refusing = True
        sandbox.drop_connections()
        started = sandbox.connections
        await asyncio.sleep(4)
        tries.append(sandbox.connections - started)

    run(program(sandbox, [TRADES]), body)
    # After 1 s and after 3 s, each with a few connections of ccxt's own.
    assert 2 <= tries[0] <= 8

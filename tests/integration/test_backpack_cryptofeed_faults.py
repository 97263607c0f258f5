"""What goes wrong between BackpackFeed and the exchange, on real sockets. How often it connects and asks is bounded every time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed import FeedHandler
from msgspec.structs import replace

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import THROWAWAY_SECRET, Fault, RequestReceived
from backpack_proto.http import HttpRequest
from backpack_proto.machine import Now
from backpack_proto.outputs import SendRequest
from backpack_runtime.client import BackpackClient
from backpack_runtime.cryptofeed import BackpackFeed
from backpack_runtime.cryptofeed.native import callbacks as callbacks_module
from backpack_runtime.cryptofeed.native import candles as candles_module
from backpack_runtime.cryptofeed.native import feed as feed_module
from backpack_runtime.cryptofeed.native.connection import HttpConnection
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.sandbox import serve_sandbox
from backpack_runtime.transport import system_now
from backpack_runtime.transports.aiohttp.proxies import PROGRESS
from backpack_runtime.transports.base import Progress, Withheld
from cryptofeed_sandbox import HANDLER, PERPETUAL, SPOT, Program, Programs, Running, in_a_thread, own_registries
from levels import by_price

pytestmark = pytest.mark.anyio

LOGGER = "backpack_runtime.cryptofeed"


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO, LOGGER)
    with own_registries(tmp_path, monkeypatch):
        yield


@pytest.fixture
def programs(running: Running) -> Programs:
    return Programs(running)


def lines(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    """What the feed's logger said with this in it."""
    return [record.getMessage() for record in caplog.records if record.name == LOGGER and part in record.getMessage()]


def close_frame(code: int) -> bytes:
    return b"\x88\x02" + code.to_bytes(2, "big")


@pytest.mark.parametrize("code", [1000, 1001, 1006])
async def test_a_connection_that_ends_is_replaced_by_one(
    programs: Programs, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    async with programs() as program:
        await program.until_well("l2_book", "trades")
        if code == 1006:
            program.sandbox.drop_connections()
        else:
            program.sandbox.inject(close_frame(code), raw=True)
        await program.until(lambda: "the connection is down" in program.reasons)
        await program.until(lambda: program.counters["ws_reconnects"] == 1)
        await program.until_well("l2_book", "trades")
        assert program.watch.sockets == 2
        assert program.watch.snapshots == {"SOL_USDC": 2, "AAPL.US_USDC_PERP": 2}
        assert program.snapshots == {SPOT: 2, PERPETUAL: 2}
    down = [line for line in lines(caplog, "the connection is down") if "closed by the feed" not in line]
    assert len(down) == 1
    assert f"code {code}), to be back in" in down[0]
    assert len(lines(caplog, f"resynced l2_book of {SPOT}")) == 1
    assert len(lines(caplog, "BACKPACK: connected")) == 2
    assert len(lines(caplog, f"subscribing to trades of {SPOT}, {PERPETUAL}")) == 2


async def test_an_exchange_that_closes_politely_at_once_is_not_overrun(programs: Programs) -> None:
    def slam(program: Program) -> None:
        program.watch.slams = True

    async with programs(before=slam) as program:
        await asyncio.sleep(2.5)
        assert 2 <= program.watch.sockets <= 4
        assert sum(program.watch.snapshots.values()) <= 2 * program.watch.sockets
        assert not program.feed.health().healthy
        program.watch.slams = False
        await program.until_well("l2_book", "trades")


async def test_an_exchange_that_refuses_connections_is_found_again(programs: Programs) -> None:
    async with programs() as program:
        await program.until_well("l2_book")
        before = program.sandbox.connections
        program.sandbox.refusing = True
        program.sandbox.drop_connections()
        await program.until(lambda: program.counters["ws_errors"] >= 3)
        assert 1 <= program.sandbox.connections - before <= 8
        program.sandbox.refusing = False
        await program.until_well("l2_book", "trades")
        assert program.watch.sockets == 2


@pytest.mark.parametrize("from_birth", [True, False], ids=["from birth", "later"])
async def test_a_mute_exchange_is_given_up(programs: Programs, caplog: pytest.LogCaptureFixture, *, from_birth: bool) -> None:
    def gag(program: Program) -> None:
        if from_birth:
            program.watch.when_opened = lambda: setattr(program.sandbox, "mute", True)

    async with programs(before=gag, silence_seconds=0.4, ping_timeout_seconds=0.4) as program:
        if not from_birth:
            await program.until_well("l2_book")
            program.sandbox.mute = True
        await program.until(lambda: program.counters["ws_errors"] > 0)
        assert not program.feed.health().healthy
        assert "the connection is down: nothing heard for" in program.reasons
        assert program.watch.sockets == 1
        program.watch.when_opened = bool
        program.sandbox.mute = False
        await program.until(lambda: program.counters["ws_reconnects"] == 1)
        # That it fell silent counts against it for a minute.
        await program.until(lambda: program.reasons == "the exchange fell silent")
        assert program.snapshots == dict.fromkeys((SPOT, PERPETUAL), 1 if from_birth else 2)
        assert program.watch.sockets == 2
        assert program.watch.snapshots.total() <= 4
        assert program.counters["ws_errors"] == 1
    assert len(lines(caplog, "nothing heard for")) == 2


async def test_a_wrong_key_costs_the_private_channels_and_nothing_else(
    programs: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = bytes(range(1, 33)).hex()
    async with programs(["l2_book", "trades", "order_info", "fills"], secret=wrong) as program:
        await program.until(lambda: program.counters["auth_failures"])
        await program.until(lambda: program.got["trades"] and set(program.snapshots) == {SPOT, PERPETUAL})
        await asyncio.sleep(1)
        assert program.counters["auth_failures"] == 1
        assert "account.orderUpdate was refused: Invalid signature" in program.reasons
        assert not program.feed.health().healthy
        assert program.watch.sockets == 1
        assert program.watch.snapshots.total() == 2
        assert all(count <= 3 for path, count in program.watch.asked.items()), program.watch.asked
        assert not program.got["order_info"]
    (refused,) = lines(caplog, "the exchange refused (4003")
    assert "account.orderUpdate" in refused


async def test_a_gap_costs_one_book_and_no_connection(programs: Programs, caplog: pytest.LogCaptureFixture) -> None:
    lost: list[bytes] = []

    def lose(data: bytes) -> bool:
        if lost or b'"depth.SOL_USDC"' not in data:
            return False
        lost.append(data)
        return True

    async with programs() as program:
        await program.until_well("l2_book")
        program.watch.loses = lose
        await program.until(lambda: program.snapshots[SPOT] == 2)
        await program.until_well("l2_book", "trades")
        assert program.watch.sockets == 1
        assert program.watch.snapshots == {"SOL_USDC": 2, "AAPL.US_USDC_PERP": 1}
        assert program.snapshots == {SPOT: 2, PERPETUAL: 1}
        assert program.counters["orderbook_resyncs"] == 1
        assert program.counters["book_divergences"] == 0
        assert program.counters["ws_reconnects"] == 0
    (stale,) = lines(caplog, f"l2_book of {SPOT} is stale")
    assert "gap: expected" in stale
    ids = [book.sequence_number for book in program.got["l2_book"] if book.symbol == SPOT]
    assert ids == sorted(ids)


async def test_snapshots_that_fail_are_asked_for_with_growing_pauses(
    programs: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(program: Program) -> None:
        program.sandbox.exchange.faults.only = ("GET /api/v1/depth",)
        program.sandbox.exchange.faults.rates = {Fault.ERROR_BEFORE: 0.5, Fault.LOSE_REPLY: 0.5}

    async with programs(before=fail) as program:
        await program.until(lambda: len(program.got["trades"]) >= 3 and program.watch.snapshots["SOL_USDC"] >= 2)
        assert not program.got["l2_book"]
        assert "book depth.SOL_USDC is stale" in program.reasons
        assert not program.feed.health().healthy
        program.sandbox.exchange.faults.rates = {}
        await program.until_well("l2_book", "trades")
        assert program.watch.sockets == 1
        assert max(program.watch.snapshots.values()) <= 5
        assert program.snapshots == {SPOT: 1, PERPETUAL: 1}
        assert program.counters["ws_errors"] == 0
    assert 2 <= len(lines(caplog, "no snapshot for l2_book of")) <= 5


async def test_a_late_snapshot_loses_nothing_and_a_hanging_one_holds_up_nothing(programs: Programs) -> None:
    def delay(program: Program) -> None:
        faults = program.sandbox.exchange.faults
        faults.only = ("GET /api/v1/depth",)
        faults.rates = {Fault.DELAY: 1.0}
        faults.delay_us = 1_000_000

    async with programs(before=delay) as program:
        await program.until(lambda: len(program.snapshots) == 2)
        assert program.watch.snapshots == {"SOL_USDC": 1, "AAPL.US_USDC_PERP": 1}
        books = [book for book in program.got["l2_book"] if book.symbol == SPOT]
        assert books
        # From here on no answer comes at all, and the feed has to stop in time nevertheless.
        program.sandbox.exchange.faults.delay_us = 60_000_000
        lost = iter([True])
        program.watch.loses = lambda data: b'"depth.SOL_USDC"' in data and next(lost, False)
        await program.until(lambda: program.watch.snapshots["SOL_USDC"] == 2)
        trades = len(program.got["trades"])
        await program.until(lambda: len(program.got["trades"]) > trades + 1)
        assert "depth.SOL_USDC is stale" in program.reasons
        assert program.watch.snapshots["SOL_USDC"] == 2
        assert program.watch.sockets == 1


async def test_a_market_that_disappears_leaves_the_others_alone(programs: Programs) -> None:
    async with programs() as program:
        await program.until_well("l2_book")
        routes = program.sandbox.exchange._gateway._routes
        routes._listings = {symbol: one for symbol, one in routes._listings.items() if symbol != "AAPL.US_USDC_PERP"}
        program.watch.loses = lambda data: b"AAPL.US_USDC_PERP" in data
        program.sandbox.drop_connections()
        await program.until(lambda: program.snapshots[SPOT] == 2 and program.watch.snapshots["AAPL.US_USDC_PERP"] >= 3)
        assert program.watch.sockets == 2
        assert program.watch.snapshots["AAPL.US_USDC_PERP"] <= 4
        assert program.watch.snapshots["SOL_USDC"] == 2
        assert "book depth.AAPL.US_USDC_PERP is stale" in program.reasons
        assert "SOL_USDC" not in program.reasons
        trades = len(program.got["trades"])
        await program.until(lambda: len(program.got["trades"]) > trades)


async def test_a_market_that_is_not_listed_is_named(running: Running) -> None:
    async with serve_sandbox(tls=True) as sandbox:
        settings = {"use_sandbox": True, "sandbox_url": sandbox.rest_url, "ca_file": sandbox.ca_file}

        async def program() -> None:
            feed = await in_a_thread(lambda: BackpackFeed(config=settings, symbols=["GONE-USDC"], channels=["trades"]))
            handler = FeedHandler(config=HANDLER)
            handler.add_feed(feed)
            async with running(handler):
                await asyncio.sleep(1)

        with pytest.raises(Exception, match=r"GONE-USDC|TaskGroup") as caught:
            await program()
        assert "GONE-USDC" in "".join(map(str, _leaves(caught.value)))
        assert sandbox.connections <= 2


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


GARBAGE = [
    b"not json",
    b"[]",
    b"{}",
    b"42",
    b'{"stream":"nope.SOL_USDC","data":{"e":"nope"}}',
    b'{"stream":"trade.BTC_USDC","data":{"e":"trade","s":"BTC_USDC"}}',
    b'{"stream":"trade.SOL_USDC","data":{"e":"trade","s":"SOL_USDC","p":"NaN"}}',
    b'{"stream":"depth.SOL_USDC","data":null}',
    b"[" * 50_000,
    b'{"id":1,"error":{"code":9999,"message":"a strange one"}}',
]


async def test_garbage_is_counted_and_said_a_few_times(programs: Programs, caplog: pytest.LogCaptureFixture) -> None:
    async with programs() as program:
        await program.until_well("l2_book")
        for _ in range(20):
            for data in GARBAGE:
                program.sandbox.inject(data)
        await program.until(lambda: program.counters["dropped_messages"] >= 150)
        trades, books = len(program.got["trades"]), len(program.got["l2_book"])
        await program.until(lambda: len(program.got["trades"]) > trades and len(program.got["l2_book"]) > books)
        assert program.watch.sockets == 1
        assert program.counters["ws_reconnects"] == 0
        assert program.counters["parser_errors"] > 0
        assert "frames were dropped" in program.reasons
        # A frame that cannot be read may have been a book's change, so both are compared, once for all of it.
        assert max(program.watch.snapshots.values()) <= 3
        assert program.counters["book_divergences"] == 0
    dropped = lines(caplog, "dropped payload")
    assert 1 <= len(dropped) <= 5
    assert len(lines(caplog, "")) < 60


async def lets_out_a_cancellation() -> None:
    work = asyncio.create_task(asyncio.sleep(3600))
    work.cancel()
    await work


@pytest.mark.parametrize("mistake", ["an error", "a cancellation"])
async def test_a_callback_that_raises_costs_nothing_but_its_own_call(
    programs: Programs, caplog: pytest.LogCaptureFixture, mistake: str
) -> None:
    told: list[Any] = []

    async def raises(book: Any, _receipt: float) -> None:
        told.append(book.delta)
        if mistake == "a cancellation":
            await lets_out_a_cancellation()
        raise ZeroDivisionError("a mistake of the user's")

    kind = "CancelledError" if mistake == "a cancellation" else "ZeroDivisionError: a mistake of the user's"
    async with programs(callbacks={"l2_book": raises}) as program:
        await program.until(lambda: len(told) > 30 and len(program.got["trades"]) > 3)
        assert program.watch.sockets == 1
        assert program.watch.snapshots == {"SOL_USDC": 1, "AAPL.US_USDC_PERP": 1}
        assert f"raises of l2_book raised {kind} (" in program.reasons
        assert not program.feed.health().healthy
        assert 0 <= len(told) - program.counters["callback_errors"] <= 1, "one may be under way"
        assert program.counters["ws_errors"] == program.counters["ws_reconnects"] == 0
        assert set(map(type, told)) == {type(None)}, "it never took a book, so it always gets the whole one"
    (said,) = lines(caplog, "raised")
    assert "of l2_book raised" in said


async def test_an_error_that_the_application_wants_raised_is_named_in_health(programs: Programs) -> None:
    """cryptofeed hands it on and ends the feed: version 3 raises it out of the handler, earlier ones into a task that nobody awaits."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    told, named = 0, False

    async def raises(_book: Any, _receipt: float) -> None:
        nonlocal told
        told += 1
        if told == 10:
            raise ArithmeticError("the application's own")

    with contextlib.suppress(BaseExceptionGroup):
        async with programs(callbacks={"l2_book": raises}, exceptions=[ArithmeticError]) as program:
            await program.until(lambda: told >= 10)
            reason = "the connection is down: an error in the feed: ArithmeticError: the application's own"
            await program.until(lambda: reason in program.reasons)
            assert program.counters["callback_errors"] == 0
            named = True
    assert named


async def test_a_slow_callback_is_named_until_it_is_past(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks_module, "RECENT_SECONDS", 2.0)
    slow = True

    async def blocks(_trade: Any, _receipt: float) -> None:
        nonlocal slow
        if slow:
            slow = False
            time.sleep(1.2)  # noqa: ASYNC251 - the mistake that is tried

    async with programs(callbacks={"trades": blocks}) as program:
        await program.until(lambda: not slow)
        await program.until(lambda: re.search(r"blocks of trades took 1\.[2-9] s, nothing was read meanwhile", program.reasons))
        await program.until_well("l2_book")
        assert program.watch.sockets == 1


async def test_candles_that_closed_during_an_outage_are_delivered_once_each_and_in_order(programs: Programs) -> None:
    """Candles of a second, so that an outage of three has some."""
    got: list[Any] = []

    async def takes(candle: Any, _receipt: float) -> None:
        got.append(candle)

    async with programs(
        ["candles", "trades"], [SPOT], callbacks={"candles": takes}, candle_interval="1s", speed=20.0
    ) as program:
        await program.until(lambda: len(got) >= 2)
        program.sandbox.refusing = True
        program.sandbox.drop_connections()
        await asyncio.sleep(3.5)
        before = len(got)
        program.sandbox.refusing = False
        await program.until(lambda: program.counters["candles_filled"] >= 3 and len(got) >= before + 6)
        await program.until(lambda: "candles of" not in program.reasons)
        starts = [candle.start for candle in got]
        assert starts == sorted(set(starts))
        # Where nothing was traded there is no candle. Everywhere else the exchange has the same one.
        listed = {row.start_s: row for row in tape(program).candles("1s", int(starts[0]), int(starts[-1])) if row.trades}
        assert [int(start) for start in starts] == sorted(listed)
        assert [candle.trades for candle in got] == [row.trades for _, row in sorted(listed.items())]
        assert all(candle.closed for candle in got)
        assert program.watch.asked["/api/v1/klines"] <= 2
        assert program.counters["candle_gaps"] == 0


def tape(program: Program) -> Any:
    """The exchange's own list of trades."""
    return program.sandbox.exchange._markets["SOL_USDC"].tape


async def test_candles_that_cannot_be_had_are_named(
    programs: Programs, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candles_module, "RETRY_US", 300_000)

    def fail(program: Program) -> None:
        program.sandbox.exchange.faults.only = ("GET /api/v1/klines",)
        program.sandbox.exchange.faults.rates = {Fault.ERROR_BEFORE: 1.0}

    got: list[Any] = []

    async def takes(candle: Any, _receipt: float) -> None:
        got.append(candle)

    async with programs(
        ["candles", "trades"], [SPOT], callbacks={"candles": takes}, candle_interval="1s", speed=20.0, before=fail
    ) as program:
        await program.until(lambda: len(got) >= 2)
        program.sandbox.refusing = True
        program.sandbox.drop_connections()
        await asyncio.sleep(2)
        program.sandbox.refusing = False
        await program.until(lambda: f"candles of {SPOT} wait until those that were missed are fetched" in program.reasons)
        await program.until(lambda: program.counters["candle_gaps"] == 1)
        starts = [candle.start for candle in got]
        assert starts == sorted(set(starts))
        await program.until(lambda: len(got) > len(starts))
    (said,) = lines(caplog, f"candles of {SPOT} are missing from")
    assert "503" in said or "500" in said


async def test_a_feed_refuses_a_second_run_in_words(programs: Programs, running: Running) -> None:
    async def run_again(feed: Any) -> str:
        handler = FeedHandler(config=HANDLER)
        handler.add_feed(feed)
        with pytest.raises(Exception, match=r"one run|TaskGroup") as caught:
            async with running(handler):
                await asyncio.sleep(1)
        return "".join(map(str, _leaves(caught.value)))

    async with programs() as program:
        await program.until_well("l2_book")
        assert "runs already, in this FeedHandler or in another one" in await run_again(program.feed)
        # The first run goes on.
        await program.until_well("l2_book", "trades")
        assert program.watch.sockets == 1
    said = await run_again(program.feed)
    assert said == "this feed has been stopped: a BackpackFeed is good for one run, make another one"


async def test_a_callback_that_takes_its_time_is_waited_for(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads meanwhile, so nothing is heard: that is no silence of the exchange's."""
    monkeypatch.setitem(feed_module.WEBSOCKET_OPTIONS, "max_queue", 4)
    slept: list[float] = []

    async def sleeps(_trade: Any, _receipt: float) -> None:
        if not slept:
            slept.append(2)
            await asyncio.sleep(2)

    async with programs(callbacks={"trades": sleeps}, silence_seconds=0.4, ping_timeout_seconds=0.4) as program:
        await program.until(lambda: slept)
        await asyncio.sleep(2.2)
        await program.until_well("l2_book")
        assert program.watch.sockets == 1
        assert program.counters["ws_errors"] == 0
        assert program.counters["orderbook_resyncs"] == 0


async def test_a_slow_callback_is_caught_up_with_in_bounded_memory(programs: Programs) -> None:
    most = 0
    slow = True

    async def follows(_book: Any, _receipt: float) -> None:
        nonlocal most
        most = max(most, len(program.feed._driver._events))
        if slow:
            await asyncio.sleep(0.02)

    async with programs(["l2_book"], [SPOT], callbacks={"l2_book": follows}, speed=20.0) as program:
        await program.until(lambda: program.snapshots[SPOT] or program.feed._deliveries.books)
        await asyncio.sleep(2)
        slow = False
        program.sandbox.exchange._speeds = dict.fromkeys(program.sandbox.exchange._speeds, 1e-6)
        mirror = next(iter(program.feed._deliveries.books.values()))

        def caught_up() -> bool:
            return bool(mirror.sequence_number == program.sandbox.exchange.levels("SOL_USDC")[2])

        await program.until(caught_up)
        bids, asks, _ = program.sandbox.exchange.levels("SOL_USDC")
        assert mirror.book.bids.to_dict() == by_price(bids)
        assert mirror.book.asks.to_dict() == by_price(asks)
        assert program.watch.sockets == 1
        assert program.watch.snapshots == {"SOL_USDC": 1}
        assert program.counters["orderbook_resyncs"] == 0
    # What waits, waits in the socket. A batch of the session's is what one frame or one answer brings.
    assert most < 200


async def test_a_quiet_private_feed_is_left_alone(programs: Programs) -> None:
    async with programs(
        ["order_info", "fills", "positions", "balances"],
        [],
        secret=THROWAWAY_SECRET,
        silence_seconds=0.3,
        ping_timeout_seconds=0.3,
    ) as program:
        await program.until(lambda: program.got["balances"])
        await asyncio.sleep(2)
        assert program.watch.sockets == 1
        assert program.counters["ws_errors"] == program.counters["ws_reconnects"] == 0
        sandbox = program.sandbox
        async with BackpackClient(
            (), channels=(), signer=Signer(Credentials(sandbox.secret)), settings=sandbox.settings
        ) as trader:
            await trader.place_order("SOL-USDC", "Bid", "Market", quantity="0.50")
            await program.until(lambda: program.got["order_info"] and program.got["fills"])
        assert program.watch.sockets == 2, "the feed's, and the trader's"
        await program.until(lambda: program.feed.health().healthy)


@pytest.mark.parametrize(("error_seconds", "measured"), [(4, False), (-4, False), (600, True), (-600, True)])
async def test_no_fill_is_lost_while_our_clock_is_wrong(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, *, error_seconds: int, measured: bool
) -> None:
    """Where the exchange's clock cannot be measured, by less than a signature's window."""

    def wrong() -> Now:
        now = system_now()
        return Now(now.mono_us, now.unix_us + error_seconds * 1_000_000)

    def unmeasurable(program: Program) -> None:
        if not measured:
            program.sandbox.exchange.faults.only = ("GET /api/v1/time",)
            program.sandbox.exchange.faults.rates = {Fault.ERROR_BEFORE: 1.0}

    monkeypatch.setattr("backpack_runtime.cryptofeed.native.driver.system_now", wrong)
    async with programs(["fills", "balances"], [], secret=THROWAWAY_SECRET, before=unmeasurable) as program:
        sandbox = program.sandbox
        await program.until(lambda: program.got["balances"])
        async with BackpackClient(
            (), channels=(), signer=Signer(Credentials(sandbox.secret)), settings=sandbox.settings
        ) as trader:
            await trader.place_order("SOL-USDC", "Bid", "Market", quantity="0.50")
            sandbox.drop_connections()
            await program.until(lambda: not program.feed.health().healthy)
            for _ in range(2):
                await trader.place_order("SOL-USDC", "Bid", "Market", quantity="0.50")
            filled = sorted(fill.trade_id for fill in sandbox.exchange.account.fills)
            await program.until(lambda: sorted(int(fill.id) for fill in program.got["fills"]) == filled)
        assert len(filled) >= 3


@pytest.mark.parametrize("hangs", [False, True], ids=["backing off", "connecting"])
async def test_a_feed_without_a_connection_stops_at_once(programs: Programs, *, hangs: bool) -> None:
    async with programs() as program:
        await program.until_well("l2_book")
        if hangs:
            program.sandbox.mute = True
        else:
            program.sandbox.refusing = True
        program.sandbox.drop_connections()
        before = program.sandbox.connections
        await program.until(lambda: program.counters["ws_errors"] >= (1 if hangs else 2))
        if hangs:
            await program.until(lambda: program.sandbox.connections > before)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 2.5


PROGRAM = """
import asyncio
from cryptofeed import FeedHandler
from backpack_runtime.cryptofeed import BackpackFeed

async def book(found, receipt):
    print("book", flush=True)

def main():
    handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True, "filename": "", "level": "INFO"}})
    handler.add_feed(
        BackpackFeed(
            config={"use_sandbox": True}, symbols=["SOL-USDC"], channels=["l2_book"], callbacks={"l2_book": book}
        )
    )
    handler.run()
    print("left", flush=True)

main()
"""


async def test_ctrl_c_ends_a_program_cleanly(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"book\n"
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert out.split()[-1] == b"left"
    assert set(out.split()) <= {b"book", b"left"}
    assert err == b""
    assert not [*tmp_path.glob("*.log*")]  # noqa: ASYNC240 - a folder with next to nothing in it


async def test_cryptofeeds_http_connection_sends_nothing_that_may_not_leave_any_more() -> None:
    async with serve_sandbox() as sandbox:
        asked: list[str] = []
        handle = sandbox.exchange.handle

        def note(given: Any, now: Any) -> Any:
            if isinstance(given, RequestReceived):
                asked.append(given.target)
            return handle(given, now)

        sandbox.exchange.handle = note  # type: ignore[method-assign]  # a tap
        http = HttpConnection("test", Addresses(sandbox.rest_url, sandbox.ws_url))
        request = HttpRequest(method="GET", target="/api/v1/ping")
        late = SendRequest(request_id=1, request=request, timeout_us=1_000_000, not_after_us=system_now().mono_us - 1)
        try:
            for kept in (False, True):
                PROGRESS.set(Progress(late, system_now))
                with pytest.raises(Withheld, match="waited too long"):
                    await http.read(f"{sandbox.rest_url}/api/v1/ping?kept={kept}")
                progress = Progress(replace(late, not_after_us=None), system_now)
                PROGRESS.set(progress)
                assert await http.read(f"{sandbox.rest_url}/api/v1/ping") == "pong"
                assert progress.sent
                assert not progress.withdraw(), "too late"
        finally:
            PROGRESS.set(None)
            await http.close()
        assert asked == ["/api/v1/ping", "/api/v1/ping"]

"""What the feed for cryptofeed takes for live on real sockets while the exchange is mute, late, closed or refuses, or the program itself does not run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from backpack_proto.book import openings
from backpack_proto.claims import PATH_BOUND_US
from backpack_proto.exchange import CloseMarket, Fault, OpenMarket
from backpack_proto.inputs import Verify
from backpack_runtime.transport import system_now
from cryptofeed_sandbox import SPOT, Program, Programs, Running, own_registries

pytestmark = [pytest.mark.anyio, pytest.mark.gate]

SOL = "SOL_USDC"
SYMBOLS = (SPOT, "BTC-USDC", "SOL-USDC-PERP", "BTC-USDC-PERP")
RETRY_AFTER_SECONDS = 3


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(openings, "LOOK_UP_US", 1_000_000)
    with own_registries(tmp_path, monkeypatch):
        yield


@pytest.fixture
def programs(running: Running) -> Programs:
    return Programs(running)


async def a_mute_exchange(programs: Programs) -> None:
    """It is noticed within the bound, and its connection given up."""
    async with programs(symbols=[SPOT]) as program:
        await program.until_well("l2_book", "trades")
        program.sandbox.silent = lambda _: True
        began = time.monotonic()
        await program.until(lambda: not program.live)
        assert time.monotonic() - began <= PATH_BOUND_US / 1e6 + 1
        assert "no data have come for" in program.reasons
        await program.until(lambda: "the connection is down: no data for" in program.reasons)
        assert time.monotonic() - began <= 20
        assert not program.live
        program.sandbox.silent = lambda _: False
        await program.until(lambda: program.live)
        await program.until_well("l2_book", "trades")
        assert program.watch.sockets == 2
        assert program.snapshots == {SPOT: 2}


async def a_mute_depth_stream(programs: Programs) -> None:
    """It is noticed by what the streams beside it say, and costs no connection."""
    async with programs(symbols=[SPOT]) as program:
        await program.until_well("l2_book", "trades")
        program.sandbox.silent = lambda data: b'"stream":"depth.SOL_USDC"' in data
        await program.until(lambda: not program.live)
        assert "book depth.SOL_USDC is stale" in program.reasons
        program.sandbox.silent = lambda _: False
        await program.until(lambda: program.live)
        assert program.watch.sockets == 1


async def a_path_that_is_eight_seconds_late(programs: Programs) -> None:
    """Nothing is live, and what is late is not mute."""
    async with programs(symbols=[SPOT]) as program:
        await program.until_well("l2_book", "trades")
        program.sandbox.late_us = 8_000_000
        await program.until(lambda: "data are 8" in program.reasons)
        for _ in range(20):
            await asyncio.sleep(0.05)
            assert not program.live
        assert program.watch.sockets == 1


async def a_path_that_is_four_seconds_late(programs: Programs) -> None:
    """The book is live, it says how old it is, and health says that it is late."""
    async with programs(symbols=[SPOT]) as program:
        await program.until_well("l2_book", "trades")
        program.sandbox.late_us = 4_000_000
        await program.until(lambda: "data are 4" in program.reasons)
        assert program.live == [SOL]
        (age_us,) = (book.age_us(system_now().mono_us) for book in program.books)
        assert age_us is not None
        assert age_us >= 4_000_000
        assert not program.feed.health().healthy


async def a_callback_that_does_not_return(programs: Programs) -> None:
    """Nothing is read meanwhile, as with a client that nobody iterates over under `block`."""
    go_on = asyncio.Event()
    go_on.set()

    async def waiting(_trade: Any, _receipt: float) -> None:
        await go_on.wait()

    async with programs(symbols=[SPOT], callbacks={"trades": waiting}) as program:
        await program.until_well("l2_book")
        go_on.clear()
        await program.until(lambda: not program.live)
        assert "waiting of trades has been running for" in program.reasons
        assert not program.feed.health().healthy
        go_on.set()
        await program.until(lambda: program.live)
        # That a callback was slow counts for a minute. Everything else is well again.
        await program.until(lambda: len(program.feed.health().reasons) == 1)
        assert "waiting of trades took" in program.reasons
        assert program.watch.sockets == 1
        assert program.watch.snapshots.total() <= 2


SCENES: tuple[Callable[[Programs], Awaitable[None]], ...] = (
    a_mute_exchange,
    a_mute_depth_stream,
    a_path_that_is_eight_seconds_late,
    a_path_that_is_four_seconds_late,
    a_callback_that_does_not_return,
)


async def play(scene: Callable[[Programs], Awaitable[None]], programs: Programs) -> None:
    try:
        await scene(programs)
    except BaseException as error:
        error.add_note(scene.__name__)
        raise


async def test_a_feed_has_no_live_book_without_fresh_proof(programs: Programs) -> None:
    """Each scene has an exchange and a feed of its own. They wait for seconds, so they wait together."""
    async with asyncio.TaskGroup() as tasks:
        for scene in SCENES:
            tasks.create_task(play(scene, programs))


async def test_snapshots_that_are_refused_as_too_many_are_asked_for_once_after_the_pause(programs: Programs) -> None:

    def refuse(program: Program) -> None:
        faults = program.sandbox.exchange.faults
        faults.only = ("GET /api/v1/depth",)
        faults.rates, faults.retry_after_s = {Fault.TOO_MANY_REQUESTS: 1.0}, RETRY_AFTER_SECONDS

    async with programs(symbols=SYMBOLS, before=refuse, speed=2.0) as program:
        await program.until(lambda: f"REST requests pause for {RETRY_AFTER_SECONDS}" in program.reasons)
        refused_at = time.monotonic()
        await program.until(lambda: len(program.got["trades"]) >= 3)
        assert not program.live
        assert not program.got["l2_book"]
        assert not program.feed.health().healthy
        program.sandbox.exchange.faults.rates = {}
        await program.until(lambda: len(program.live) == len(SYMBOLS))
        assert time.monotonic() - refused_at >= RETRY_AFTER_SECONDS - 1
        answers = {status: count for (path, status), count in program.watch.answers.items() if path == "/api/v1/depth"}
        assert answers[200] == len(SYMBOLS)
        assert 1 <= answers[429] <= len(SYMBOLS), "those that had left before the first answer came"
        assert program.snapshots == dict.fromkeys(SYMBOLS, 1)
        assert program.watch.sockets == 1


async def test_a_market_that_closes_and_opens(programs: Programs) -> None:
    async with programs(symbols=[SPOT, "BTC-USDC"]) as program:
        await program.until_well("l2_book", "trades")
        program.sandbox._give(CloseMarket(SOL))
        # A minute may pass until a book is compared by itself.
        await program.feed._driver.give(Verify(f"depth.{SOL}"))
        await program.until(lambda: f"market {SOL} is closed" in program.feed.health().notes)
        assert program.live == ["BTC_USDC"]
        await program.until_well("l2_book")
        program.sandbox._give(OpenMarket(SOL))
        await program.until(lambda: program.live == [SOL, "BTC_USDC"])
        assert not program.feed.health().notes
        assert program.snapshots == {SPOT: 2, "BTC-USDC": 1}
        assert program.watch.sockets == 1


async def test_a_callback_that_blocks_the_program_leaves_no_live_book_before_it_has_read_again(programs: Programs) -> None:
    found: list[tuple[list[str], bool]] = []

    async def blocks(_trade: Any, _receipt: float) -> None:
        if not found:
            time.sleep(8)  # noqa: ASYNC251 - that is what the user's code does
            found.append((program.live, program.feed.health().healthy))

    async with programs(symbols=[SPOT], callbacks={"trades": blocks}) as program:
        await program.until(lambda: found)
        assert found == [([], False)]
        await program.until(lambda: program.live)
        await program.until(lambda: len(program.feed.health().reasons) == 1)
        assert "blocks of trades took 8." in program.reasons
        assert program.watch.sockets == 1, "first what waits is read, then it is judged"

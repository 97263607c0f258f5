"""A tick that changes while the cryptofeed feed runs: its log says so, and cryptofeed's own `info` has the new one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed import FeedHandler
from cryptofeed.symbols import Symbols

from backpack_proto.exchange import ChangeMarket
from backpack_proto.inputs import Verify
from backpack_runtime.cryptofeed import BackpackConfig, BackpackFeed
from backpack_runtime.cryptofeed.markets import loading as market_loading
from backpack_runtime.sandbox import serve_sandbox

pytestmark = pytest.mark.anyio

Running = Callable[[Any], AbstractAsyncContextManager[None]]
PATIENCE_SECONDS = 30
HANDLER = {"uvloop": False, "log": {"disabled": True, "filename": "", "level": "WARNING"}}
CENT, DIME = Decimal("0.01"), Decimal("0.1")


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """cryptofeed's registries are those of the process. Its files go to where they harm nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(market_loading, "_origin", [])
    yield
    Symbols.data.pop("BACKPACK", None)


async def test_a_tick_that_becomes_finer_reaches_the_info_of_the_feed(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "backpack_runtime.cryptofeed")
    async with serve_sandbox() as sandbox, asyncio.timeout(PATIENCE_SECONDS):
        sandbox._give(ChangeMarket("SOL_USDC", DIME, DIME))
        config = BackpackConfig(use_sandbox=True, sandbox_url=sandbox.rest_url)
        seen: asyncio.Queue[Any] = asyncio.Queue()

        async def take(book: Any, _receipt: float) -> None:
            seen.put_nowait(book)

        feed = await asyncio.to_thread(
            lambda: BackpackFeed(config=config, symbols=["SOL-USDC"], channels=["l2_book"], callbacks={"l2_book": take})
        )
        handler = FeedHandler(config=HANDLER)
        handler.add_feed(feed)
        async with running(handler):
            book = await seen.get()
            assert BackpackFeed.info()["tick_size"]["SOL-USDC"] == "0.1"
            sandbox._give(ChangeMarket("SOL_USDC", CENT, CENT))
            while not any(price % DIME for price in list(book.book.bids)[:20]):
                book = await seen.get()
            # It would be compared with a snapshot within a minute by itself.
            while BackpackFeed.info()["tick_size"]["SOL-USDC"] != "0.01":
                await feed._driver.give(Verify("depth.SOL_USDC"))
                await seen.get()
            assert BackpackFeed.info()["step_size"]["SOL-USDC"] == "0.01"
            counters = feed.metrics_snapshot()
            assert 0 <= counters["delivery_p50_seconds"] <= counters["delivery_p99_seconds"] < PATIENCE_SECONDS
            assert (counters["books_wanted"], counters["books_live"], counters["books_closed"]) == (1, 1, 0)
    # Where the session read its list of markets behind the change, cryptofeed's was the older one, and nothing has changed since.
    lines = [record.getMessage() for record in caplog.records if "has changed the rules" in record.getMessage()]
    assert lines in ([], ["BACKPACK: the exchange has changed the rules of SOL-USDC: tick size 0.01, step size 0.01"])

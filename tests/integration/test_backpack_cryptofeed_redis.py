"""Everything that a callback is told arrives in Redis, through cryptofeed's own backends and ones of their kind, though Redis be slow."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")
pytest.importorskip("redis", reason="the client of Redis is not installed")

import redis
from cryptofeed import FeedHandler
from cryptofeed.backends.backend import BackendCallback
from cryptofeed.backends.redis import BookRedis, BookStream, RedisStreamCallback, TradeStream
from cryptofeed.symbols import Symbols

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import THROWAWAY_API_KEY, THROWAWAY_SECRET
from backpack_runtime.client import BackpackClient
from backpack_runtime.cryptofeed import BackpackConfig, BackpackFeed
from backpack_runtime.cryptofeed.local_sandbox import LocalSandbox
from cryptofeed_programs import running

SYMBOLS = ["SOL-USDC", "BTC-USDC-PERP"]
PATIENCE_SECONDS = 60
SERVER = shutil.which("redis-server")
QUIET = {"uvloop": False, "log": {"disabled": True, "filename": "unused.log", "level": "WARNING"}}

pytestmark = [
    pytest.mark.skipif(SERVER is None, reason="redis-server is not installed"),
    # Of the writers of cryptofeed 2.
    pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning"),
]


class OrderInfoStream(RedisStreamCallback, BackendCallback):  # type: ignore[misc]  # they have no types
    default_key = "order_info"


class FillsStream(RedisStreamCallback, BackendCallback):  # type: ignore[misc]  # they have no types
    default_key = "fills"


class PositionsStream(RedisStreamCallback, BackendCallback):  # type: ignore[misc]  # they have no types
    default_key = "positions"


class BalancesStream(RedisStreamCallback, BackendCallback):  # type: ignore[misc]  # they have no types
    default_key = "balances"


BACKENDS = {
    "trades": TradeStream,
    "l2_book": BookStream,
    "order_info": OrderInfoStream,
    "fills": FillsStream,
    "positions": PositionsStream,
    "balances": BalancesStream,
}


class Witness:
    """Callbacks that count what the backends beside them are told, under the same keys."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.channels: Counter[str] = Counter()
        self.changed = asyncio.Event()

    def of(self, channel: str) -> Callable[[Any, float], Awaitable[None]]:
        key = BACKENDS[channel].default_key

        async def take(found: Any, _receipt: float) -> None:
            # Whole books are written for other reasons as well: now and then, and after a doubt.
            self.rows[f"{key}-{found.exchange}-{found.symbol}"] += channel != "l2_book" or found.delta is not None
            self.channels[channel] += 1
            self.changed.set()

        return take

    async def until(self, reached: Callable[[Counter[str]], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not reached(self.channels):
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    served = LocalSandbox(tls=True)
    yield served
    served.close()


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server of this test's own, which keeps nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Symbols.data.pop("BACKPACK", None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    with subprocess.Popen([str(SERVER), *options], stdout=subprocess.DEVNULL) as server:
        try:
            with redis.Redis(port=port, decode_responses=True) as client:
                _wait_for(client)
                yield client
        finally:
            server.terminate()


def _wait_for(client: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


async def run_while(handler: Any, work: Callable[[], Awaitable[None]]) -> None:
    """Run a handler of either kind as long as the work takes."""
    async with running(handler, stop_seconds=PATIENCE_SECONDS):
        await work()


async def trade(sandbox: LocalSandbox, witness: Witness) -> None:
    """Place, fill and cancel orders while the feed follows the account, and have some of every channel."""
    await witness.until(lambda counts: counts["balances"] > 0 and counts["l2_book"] > 0)
    signer = Signer(Credentials(THROWAWAY_SECRET))
    async with BackpackClient((), channels=(), signer=signer, settings=sandbox.settings) as client:
        depth = await client.get_depth("SOL-USDC")
        low = (depth.bids[-1][0] * Decimal("0.95")).quantize(Decimal("0.1"))
        resting = await client.place_order("SOL-USDC", "Bid", "Limit", price=low, quantity="1.50")
        await client.place_order("SOL-USDC", "Bid", "Market", quantity="0.50")
        await client.place_order("BTC-USDC-PERP", "Bid", "Market", quantity="0.01")
        await client.cancel_order("SOL-USDC", order_id=resting.order_id)
        await client.place_order("BTC-USDC-PERP", "Ask", "Market", quantity="0.01")
    await witness.until(lambda counts: all(counts[channel] > 1 for channel in BACKENDS) and counts["l2_book"] > 200)


@pytest.mark.parametrize("pause_ms", [0, 1500], ids=["quick", "slow"])
def test_nothing_is_lost_on_the_way_into_redis(sandbox: LocalSandbox, database: Any, pause_ms: int) -> None:
    port = database.connection_pool.connection_kwargs["port"]
    witness = Witness()
    config = BackpackConfig(
        use_sandbox=True,
        sandbox_url=sandbox.rest_url,
        ca_file=sandbox.ca_file,
        enable_private_channels=True,
        auth={"api_key": THROWAWAY_API_KEY, "public_key": THROWAWAY_API_KEY, "private_key": THROWAWAY_SECRET},
    )

    async def run() -> None:
        feed = BackpackFeed(
            config,
            symbols=SYMBOLS,
            channels=list(BACKENDS),
            callbacks={channel: [witness.of(channel), backend(port=port)] for channel, backend in BACKENDS.items()},
        )
        handler = FeedHandler(config=QUIET)
        handler.add_feed(feed)

        async def work() -> None:
            await trade(sandbox, witness)
            if pause_ms:
                # It takes in what it is sent, and answers nothing until then.
                database.client_pause(pause_ms)
                before = witness.channels["l2_book"]
                await witness.until(lambda counts: counts["l2_book"] > before + 50)

        await run_while(handler, work)

    asyncio.run(run())
    rows = {key: [row for _, row in database.xrange(key)] for key in database.scan_iter("*")}
    for symbol in SYMBOLS:
        *told, last = rows[f"book-BACKPACK-{symbol}"]
        assert last["stale"] == "the connection is down: closed by the feed"
        assert last["sequence_number"] == told[-1]["sequence_number"]
        rows[f"book-BACKPACK-{symbol}"] = [row for row in told if "delta" in row and "stale" not in row]
    assert {key: len(told) for key, told in rows.items()} == dict(witness.rows)
    (bought,) = [row for _, row in database.xrange("fills-BACKPACK-SOL-USDC") if row["side"] == "buy"][:1]
    assert (bought["exchange"], bought["symbol"], bought["liquidity"]) == ("BACKPACK", "SOL-USDC", "taker")
    (accepted, *_) = [row for _, row in database.xrange("order_info-BACKPACK-SOL-USDC") if row["status"] == "open"]
    assert (accepted["type"], accepted["amount"]) == ("limit", "1.5")
    told = [row for _, row in database.xrange("book-BACKPACK-SOL-USDC") if "stale" not in row]
    snapshot, delta = told[0], next(row for row in told if "delta" in row)
    assert "book" in snapshot
    assert int(delta["sequence_number"]) > int(snapshot["sequence_number"])


def test_a_book_that_goes_stale_and_a_database_that_goes_away_are_told(sandbox: LocalSandbox, database: Any) -> None:
    port = database.connection_pool.connection_kwargs["port"]
    config = {"use_sandbox": True, "sandbox_url": sandbox.rest_url, "ca_file": sandbox.ca_file}
    witness = Witness()
    books = [BookStream(port=port, numeric_type=str), BookRedis(port=port, key="set", numeric_type=str)]
    found: dict[str, Any] = {}

    async def run() -> None:
        feed: Any = BackpackFeed(
            config, symbols=["SOL-USDC"], channels=["l2_book"], callbacks={"l2_book": [witness.of("l2_book"), *books]}
        )
        handler = FeedHandler(config=QUIET)
        handler.add_feed(feed)

        async def until(reached: Callable[[], object]) -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not reached():  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.02)

        async def work() -> None:
            await witness.until(lambda counts: counts["l2_book"] > 20)
            (conn,) = [one.conn for one in feed.connection_handlers]
            conn.drop(ConnectionResetError("dropped by a test"))
            await until(lambda: feed.health().healthy and feed.metrics_snapshot()["ws_reconnects"])
            before = witness.channels["l2_book"]
            await witness.until(lambda counts: counts["l2_book"] > before + 20)
            await until(lambda: database.xlen("book-BACKPACK-SOL-USDC") > before + 10)
            await until(lambda: database.zcard("set-BACKPACK-SOL-USDC") > before + 10)
            found["stream"] = [row for _, row in database.xrange("book-BACKPACK-SOL-USDC")]
            found["set"] = [json.loads(row) for row in database.zrange("set-BACKPACK-SOL-USDC", 0, -1)]
            assert not [reason for reason in feed.health().reasons if "backend" in reason]
            database.shutdown(nosave=True)
            await until(lambda: sum("BookStream" in reason for reason in feed.health().reasons))
            found["reasons"] = feed.health().reasons

        await run_while(handler, work)

    # A backend that failed for good ends the feed in cryptofeed 3.
    asyncio.run(run())
    for rows in (found["stream"], found["set"]):
        kinds = ["stale" if "stale" in row else "book" if "book" in row else "delta" for row in rows]
        (at,) = [index for index, row in enumerate(rows) if row.get("stale", "").startswith("the connection is down: ")]
        assert (kinds[0], kinds[at + 1]) == ("book", "book"), "what follows begins with the whole book"
        # Rows of one receipt have no order in the set.
        assert int(rows[at]["sequence_number"]) == max(int(row["sequence_number"]) for row in rows[:at])
    level = json.loads(found["stream"][0]["book"])["bid"]
    assert all(isinstance(part, str) for pair in level.items() for part in pair)
    assert any("backend BookStream of l2_book" in reason for reason in found["reasons"])
    assert any(re.search("stopped|cannot be written to", reason) for reason in found["reasons"])

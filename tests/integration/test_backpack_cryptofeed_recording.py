"""What cryptofeed records of a feed plays back to the same callbacks, and holds no secret: its recorders of both kinds, old and new."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed import FeedHandler
from cryptofeed.connection import Connection
from cryptofeed.feed import Feed
from cryptofeed.symbols import Symbols

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import (
    THROWAWAY_API_KEY,
    THROWAWAY_SECRET,
    Exchange,
    FrameReceived,
    RequestReceived,
    Respond,
    SendFrame,
    SocketOpened,
)
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.streams.frames import subscribe_text
from backpack_runtime.client import BackpackClient
from backpack_runtime.cryptofeed import BackpackConfig, BackpackFeed, register
from backpack_runtime.cryptofeed.local_sandbox import LocalSandbox
from backpack_runtime.cryptofeed.markets import loading as market_loading
from cryptofeed_programs import running

SYMBOLS = ["SOL-USDC", "BTC-USDC-PERP"]
PUBLIC = ["trades", "l2_book", "ticker", "l1_book", "candles", "funding", "index"]
PRIVATE = ["order_info", "fills", "positions", "balances"]
PATIENCE_SECONDS = 60
QUIET = {"uvloop": False, "log": {"disabled": True, "filename": "unused.log", "level": "WARNING"}}
Told = list[tuple[str, str, str]]
"""Channel, symbol, and what tells one object from the others."""


def cryptofeed_3() -> Any:
    """Its captures, where it is installed."""
    return pytest.importorskip("cryptofeed.capture", reason="cryptofeed 2 has no captures")


def cryptofeed_2() -> Any:
    """Its raw data collection, where it is installed."""
    return pytest.importorskip("cryptofeed.raw_data_collection", reason="cryptofeed 3 records captures")


class Witness:
    """Callbacks that remember what they were told."""

    def __init__(self) -> None:
        self.told: Told = []
        self.changed = asyncio.Event()

    def callbacks(self, channels: list[str]) -> dict[str, Callable[[Any, float], Awaitable[None]]]:
        def of(channel: str) -> Callable[[Any, float], Awaitable[None]]:
            async def take(found: Any, _receipt: float) -> None:
                self.told.append((channel, found.symbol, _mark(channel, found)))
                self.changed.set()

            return take

        return {channel: of(channel) for channel in channels}

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(channel for channel, *_ in self.told))

    async def until(self, reached: Callable[[dict[str, int]], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not reached(self.counts):
                self.changed.clear()
                await self.changed.wait()


def _mark(channel: str, found: Any) -> str:
    if channel == "l2_book":
        return f"{found.sequence_number} {found.book.bids.index(0)} {found.book.asks.index(0)} {found.delta}"
    if channel in PRIVATE:
        # Where REST told, the time is that of the reading.
        return str({name: value for name, value in found.to_dict().items() if name != "timestamp"})
    return str(found.to_dict())


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    """In a thread of its own: cryptofeed 2 loads the markets without waiting for anybody."""
    served = LocalSandbox(tls=True)
    yield served
    served.close()


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that cryptofeed keeps for the whole process outlives a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(market_loading, "_origin", [])
    register(native=True)
    Symbols.data.pop("BACKPACK", None)
    yield
    Connection.raw_data_callback = None


def settings(sandbox: LocalSandbox, *, trusted: bool = True) -> BackpackConfig:
    return BackpackConfig(
        use_sandbox=True,
        sandbox_url=sandbox.rest_url,
        ca_file=sandbox.ca_file if trusted else None,
        enable_private_channels=True,
        auth={"api_key": THROWAWAY_API_KEY, "public_key": THROWAWAY_API_KEY, "private_key": THROWAWAY_SECRET},
    )


async def run_while(handler: Any, work: Callable[[], Awaitable[None]]) -> None:
    """Run a handler of either kind as long as the work takes."""
    async with running(handler, stop_seconds=PATIENCE_SECONDS):
        await work()


async def trade(sandbox: LocalSandbox, witness: Witness) -> None:
    """Place, fill and cancel orders while the feed follows the account, and have some of every channel."""
    await witness.until(lambda counts: counts.get("balances", 0) > 0 and counts.get("l2_book", 0) > 0)
    signer = Signer(Credentials(THROWAWAY_SECRET))
    async with BackpackClient((), channels=(), signer=signer, settings=sandbox.settings) as client:
        depth = await client.get_depth("SOL-USDC")
        resting = await client.place_order(
            "SOL-USDC", "Bid", "Limit", price=(depth.bids[-1][0] * Decimal("0.95")).quantize(Decimal("0.1")), quantity="1.50"
        )
        await client.place_order("SOL-USDC", "Bid", "Market", quantity="0.50")
        await client.place_order("BTC-USDC-PERP", "Bid", "Market", quantity="0.01")
        await client.cancel_order("SOL-USDC", order_id=resting.order_id)
        await client.place_order("BTC-USDC-PERP", "Ask", "Market", quantity="0.01")
    await witness.until(lambda counts: all(counts.get(channel, 0) > 1 for channel in [*PUBLIC, *PRIVATE]))


def assert_no_secrets(folder: Path) -> None:
    """No file holds a key, a signature or the names that these are sent under."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        data = path.read_bytes()
        for secret in (THROWAWAY_SECRET, THROWAWAY_API_KEY, "signature", "X-Signature", "X-API-Key"):
            assert secret.encode() not in data, path.name


async def cut(sandbox: LocalSandbox, witness: Witness) -> None:
    """Cut all connections, and have some more of everything when they are back."""
    served = sandbox.sandbox
    assert served is not None
    accepted, told = served.connections, witness.counts["l2_book"]
    sandbox._loop.call_soon_threadsafe(served.drop_connections)
    await witness.until(lambda counts: served.connections > accepted and counts["l2_book"] > told + 150)


async def record(sandbox: LocalSandbox, handler: Any, *, streams: dict[str, Any], breaks: bool = False) -> Witness:
    """A live run, and what its callbacks were told."""
    witness = Witness()
    feed = BackpackFeed(
        settings(sandbox), candle_closed_only=False, callbacks=witness.callbacks([*PUBLIC, *PRIVATE]), **streams
    )
    handler.add_feed(feed)

    async def work() -> None:
        await trade(sandbox, witness)
        if breaks:
            await cut(sandbox, witness)

    await run_while(handler, work)
    assert set(witness.counts) == {*PUBLIC, *PRIVATE}
    return witness


def in_a_fresh_process(script: str, *arguments: str, folder: Path) -> Any:
    """What a script prints as JSON that may open no connection."""
    offline = """
import asyncio, json, sys
def refuse(event, arguments):
    if event == "socket.connect":
        raise PermissionError(arguments)
sys.addaudithook(refuse)
from backpack_runtime.cryptofeed import register
register(native=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", offline + script, *arguments],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "other-cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SOL = "SOL_USDC"
DEPTH_TARGET = f"/api/v1/depth?limit=1000&symbol={SOL}"
START_US = 1_790_000_000_000_000


class Tape:
    """Frames and answers of a simulated exchange, in virtual time."""

    def __init__(self) -> None:
        self.exchange = Exchange(seed=5, unix_us=START_US, speed=20.0)
        self.now = Now(START_US, START_US)
        self.frames: list[tuple[int, dict[str, Any]]] = []
        """UnixUs, and the frame."""
        self.answers: list[tuple[int, str, str]] = []
        """UnixUs, target and body."""
        self.exchange.handle(SocketOpened(1), self.now)
        streams = [f"{channel}.{SOL}" for channel in ("depth", "bookTicker", "trade")]
        self.exchange.handle(FrameReceived(1, subscribe_text(streams).encode()), self.now)

    def ask(self, target: str) -> None:
        outputs = self.exchange.handle(RequestReceived(1, "GET", target), self.now)
        (body,) = [output.body for output in outputs if isinstance(output, Respond)]
        self.answers.append((self.now.unix_us, target, body.decode()))

    def run(self, *, depths: int) -> None:
        """Go on until so many more depth frames have come."""
        wanted = len(self.of("depth")) + depths
        while len(self.of("depth")) < wanted:
            deadline = self.exchange.deadline or self.now.mono_us
            self.now = Now(deadline, deadline)
            outputs = self.exchange.handle(TimerFired(), self.now)
            self.frames += [(self.now.unix_us, json.loads(output.data)) for output in outputs if isinstance(output, SendFrame)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame["data"] for _, frame in self.frames if frame["data"]["e"] == kind]

    def capture(self, feed: BackpackFeed, channels: list[str]) -> Any:
        """What a recorder would have made of it."""
        capture = cryptofeed_3()
        asked = [(at_us * 1000, "GET", feed.rest_url + target, body, None) for at_us, target, body in self.answers]
        came = [(at_us * 1000, "in", json.dumps(frame)) for at_us, frame in self.frames]
        subscription = {feed.std_channel_to_exchange(channel): [SOL] for channel in channels}
        session = capture.WSSession("BACKPACK.ws.1", "BACKPACK", feed.ws_url, subscription, 1, 40000, START_US * 1000)
        session.messages = came
        http = capture.HTTPSession("BACKPACK.http.1", "BACKPACK", 40001, START_US * 1000)
        http.requests = asked
        return capture.Capture(ws=[session], http=[http])


class TestCapture:
    """The recorder and the player of cryptofeed 3."""

    @pytest.mark.parametrize("in_one", [True, False], ids=["symbols and channels", "subscription"])
    def test_a_live_run_plays_back_to_the_same_callbacks(self, sandbox: LocalSandbox, tmp_path: Path, *, in_one: bool) -> None:
        capture = cryptofeed_3()
        folder = tmp_path / "kept"
        path = folder / "run.pcap"
        streams: dict[str, Any] = {"symbols": SYMBOLS, "channels": [*PUBLIC, *PRIVATE]}
        if not in_one:
            streams = {"subscription": dict.fromkeys(PUBLIC, SYMBOLS) | {channel: [] for channel in PRIVATE}}
        # Without compression, so that what must not be there can be looked for.
        live = asyncio.run(
            record(sandbox, FeedHandler(config=QUIET, record=capture.PcapRecorder(str(path), compress=False)), streams=streams)
        )
        assert_no_secrets(folder)

        again = Witness()
        feed = BackpackFeed(
            settings(sandbox), candle_closed_only=False, callbacks=again.callbacks([*PUBLIC, *PRIVATE]), **streams
        )
        played = capture.playback(str(path), feed=feed, on_error="raise")
        assert played.callbacks == live.counts
        assert_same(again.told, live.told)

        script = """
from cryptofeed.capture import playback
print(json.dumps(playback(sys.argv[1], config=json.loads(sys.argv[2]), on_error="raise").callbacks))
"""
        config = {"use_sandbox": True, "sandbox_url": sandbox.rest_url, "enable_private_channels": True, "auth": other_keys()}
        assert in_a_fresh_process(script, str(path), json.dumps(config), folder=tmp_path) == live.counts

    def test_a_recording_by_path_with_a_broken_connection_plays_back(self, sandbox: LocalSandbox, tmp_path: Path) -> None:
        capture = cryptofeed_3()
        path = str(tmp_path / "run.pcap.zst")
        streams: dict[str, Any] = {"symbols": SYMBOLS, "channels": [*PUBLIC, *PRIVATE]}
        live = asyncio.run(record(sandbox, FeedHandler(config=QUIET, record=path), streams=streams, breaks=True))
        assert len(capture.read_capture([path]).ws) == 2
        again = Witness()
        feed = BackpackFeed(
            settings(sandbox), candle_closed_only=False, callbacks=again.callbacks([*PUBLIC, *PRIVATE]), **streams
        )
        assert capture.playback(path, feed=feed).callbacks == live.counts
        # Which of two readings of the account the player serves is a matter of milliseconds.
        assert_same(*([one for one in told if one[0] in PUBLIC] for told in (again.told, live.told)))

    def test_a_capture_made_in_memory_has_a_gap_and_one_resync(self) -> None:
        capture = cryptofeed_3()
        tape = Tape()
        tape.ask("/api/v1/markets")
        tape.ask(DEPTH_TARGET)
        tape.run(depths=100)
        lost = tape.of("depth")[60]
        tape.frames = [(at_us, frame) for at_us, frame in tape.frames if frame["data"] != lost]
        tape.ask(DEPTH_TARGET)
        tape.run(depths=40)
        channels = ["l2_book", "trades", "ticker"]
        witness = Witness()
        feed = BackpackFeed(symbols=["SOL-USDC"], channels=channels, callbacks=witness.callbacks(channels))
        played = capture.playback(tape.capture(feed, channels), feed=feed, on_error="raise")
        books = [int(mark.split()[0]) for channel, _, mark in witness.told if channel == "l2_book"]
        ids = [depth["u"] for depth in tape.of("depth")]
        first, second = (int(json.loads(body)["lastUpdateId"]) for _, target, body in tape.answers if target == DEPTH_TARGET)
        assert books == [first, *ids[:60], second, *(last for last in ids[60:] if last > second)]
        assert played.callbacks == {
            "l2_book": len(books),
            "trades": len(tape.of("trade")),
            "ticker": len(tape.of("bookTicker")),
        }
        assert feed.metrics_snapshot()["latency_p50_seconds"] is None
        assert feed.metrics_snapshot()["delivery_p50_seconds"] is None
        observed = feed._observe()
        assert (
            observed.session.engine_to_receipt.count == observed.receipt_to_event.count == observed.event_to_consumer.count == 0
        )
        # The session reads the list of markets, too, to choose its canaries.
        assert played.http_requests_served == len(tape.answers) + 1
        assert json.loads(feed.connection_handlers[0].conn.writes[0])["method"] == "SUBSCRIBE"


def assert_same(played: Told, live: Told) -> None:
    """Each channel told the same of each symbol in the same order."""

    def by_channel_and_symbol(told: tuple[str, str, str]) -> tuple[str, str]:
        return told[:2]

    assert sorted(played, key=by_channel_and_symbol) == sorted(live, key=by_channel_and_symbol)


def other_keys() -> dict[str, str]:
    """A recording needs keys for its private channels, and any will do."""
    secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    public = Credentials(secret).api_key
    return {"api_key": public, "public_key": public, "private_key": secret}


def test_a_frame_that_comes_late_is_no_recording() -> None:
    """What a connection had read already when it was given up is told to nobody, and does not open it again."""

    async def run() -> None:
        tape = Tape()
        tape.ask("/api/v1/markets")
        tape.run(depths=3)
        Symbols.set("BACKPACK", *BackpackFeed._parse_symbol_data(json.loads(tape.answers[0][2])))
        witness = Witness()
        feed = BackpackFeed(
            symbols=["SOL-USDC"], channels=["trades", "ticker"], callbacks=witness.callbacks(["trades", "ticker"])
        )
        if hasattr(Feed, "_setup"):
            await feed._setup()
        ((conn, subscribe, handler, *_),) = feed.connect()
        frames = [json.dumps(frame) for _, frame in tape.frames if frame["data"]["e"] == "bookTicker"]
        await subscribe(conn)
        await handler(frames[0], conn, 1.0)
        assert witness.counts == {"ticker": 1}
        await feed._driver.disconnected(1006, "lost")
        await handler(frames[-1], conn, 2.0)
        assert witness.counts == {"ticker": 1}
        assert not feed._driver.plays
        await feed.shutdown()

    asyncio.run(run())


class TestRawDataCollection:
    """The recorder and the player of cryptofeed 2."""

    def test_a_live_run_plays_back_to_the_same_callbacks(self, sandbox: LocalSandbox, tmp_path: Path) -> None:
        collection = cryptofeed_2()
        folder = tmp_path / "kept"
        folder.mkdir()
        collector = collection.AsyncFileCallback(str(folder))

        async def run() -> Witness:
            streams = {"symbols": SYMBOLS, "channels": [*PUBLIC, *PRIVATE]}
            return await record(sandbox, FeedHandler(config=QUIET, raw_data_collection=collector), streams=streams, breaks=True)

        live = asyncio.run(run())
        Connection.raw_data_callback = None
        collector.stop()
        assert_no_secrets(folder)

        files = [str(path) for path in folder.iterdir()]
        again = Witness()
        played = collection.playback(
            "BACKPACK", files, callbacks=dict(again.callbacks([*PUBLIC, *PRIVATE])), config=settings(sandbox)
        )
        assert played["callbacks"] == live.counts
        assert_same(again.told, live.told)

        script = """
from cryptofeed.raw_data_collection import playback
print(json.dumps(playback("BACKPACK", sys.argv[2:], config=json.loads(sys.argv[1]))["callbacks"]))
"""
        config = {"use_sandbox": True, "sandbox_url": sandbox.rest_url, "enable_private_channels": True, "auth": other_keys()}
        assert in_a_fresh_process(script, json.dumps(config), *files, folder=tmp_path) == live.counts

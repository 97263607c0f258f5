"""BackpackFeed under cryptofeed's own FeedHandler against a sandbox over TLS: what is asked of it, and what it delivers."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptofeed import FeedHandler
from cryptofeed.symbols import Symbols

from backpack_proto.auth.keys import Credentials
from backpack_proto.book.levels import Book
from backpack_proto.exchange import CloseConnection, RequestReceived, Respond, SendFrame, SocketOpened
from backpack_runtime.cryptofeed import BackpackFeed
from backpack_runtime.cryptofeed.markets import loading
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.transport import system_now

__all__ = ["HANDLER", "PERPETUAL", "SPOT", "Program", "Programs", "Running", "in_a_thread", "own_registries"]

Running = Callable[[Any], AbstractAsyncContextManager[None]]

PATIENCE_SECONDS = 60
SPOT = "SOL-USDC"
PERPETUAL = "AAPL.US-USDC-PERP"
HANDLER = {"uvloop": False, "log": {"disabled": True, "filename": "", "level": "WARNING"}}


@contextmanager
def own_registries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep cryptofeed's registries, which are those of the process, to the block. Its files go to where they harm nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setattr(loading, "_origin", [])
    yield
    Symbols.data.pop("BACKPACK", None)


class Watch:
    """Sees what a sandbox is asked, and meddles with what it says."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sockets = 0
        """How many websockets were ever opened."""
        self.asked: Counter[str] = Counter()
        """REST requests by path."""
        self.snapshots: Counter[str] = Counter()
        """Requests for the depth, by symbol."""
        self.answers: Counter[tuple[str, int]] = Counter()
        """Answers that left at once, by path and status."""
        self.when_opened: Callable[[], object] = bool
        self.loses: Callable[[bytes], bool] = lambda _data: False
        """True when a frame is lost on its way."""
        self.slams = False
        """Close each new websocket at once, politely."""
        self._handle = sandbox.exchange.handle
        sandbox.exchange.handle = self._watched  # type: ignore[method-assign]  # a tap

    def _watched(self, given: Any, now: Any) -> list[Any]:
        outputs: list[Any] = []
        if isinstance(given, SocketOpened):
            self.sockets += 1
            self.when_opened()
            if self.slams:
                outputs = [CloseConnection(given.connection, 1000)]
        elif isinstance(given, RequestReceived):
            path, _, query = given.target.partition("?")
            self.asked[path] += 1
            if path == "/api/v1/depth":
                self.snapshots[re.findall("symbol=([^&]*)", query)[0]] += 1
        outputs += self._handle(given, now)
        if isinstance(given, RequestReceived):
            told = [output for output in outputs if isinstance(output, Respond) and output.request_id == given.request_id]
            self.answers.update((given.target.partition("?")[0], response.status) for response in told)
        return [output for output in outputs if not (isinstance(output, SendFrame) and self.loses(output.data))]


class Program:
    """A feed that runs, what it delivered, and the exchange it speaks with."""

    def __init__(self, sandbox: Sandbox, watch: Watch) -> None:
        self.sandbox = sandbox
        self.watch = watch
        self.got: dict[str, list[Any]] = defaultdict(list)
        self.snapshots: Counter[str] = Counter()
        """Books that were delivered again, by symbol."""
        self.feed: Any = None

    def callback(self, channel: str) -> Callable[[Any, float], Any]:
        async def take(found: Any, _receipt: float) -> None:
            self.got[channel].append(found)
            if channel == "l2_book" and found.delta is None:
                self.snapshots[found.symbol] += 1

        return take

    @property
    def counters(self) -> dict[str, Any]:
        found: dict[str, Any] = self.feed.metrics_snapshot()
        return found

    @property
    def reasons(self) -> str:
        return "; ".join(self.feed.health().reasons)

    @property
    def live(self) -> list[str]:
        """The books that are live at this moment, ids of the exchange."""
        now_us = system_now().mono_us
        return [book.symbol for book in self.books if book.is_live(now_us)]

    @property
    def books(self) -> list[Book]:
        """The books of the feed's session."""
        return [self.feed._session.book(symbol) for symbol in self.feed._wanted[self.feed.websocket_channels["l2_book"]]]

    async def until(self, reached: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not reached():  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"it did not come to pass: {self.feed.health()}") from None

    async def until_well(self, *channels: str) -> None:
        """Wait until all is well, and every channel has delivered once more."""
        await self.until(lambda: self.feed.health().healthy)
        before = {channel: len(self.got[channel]) for channel in channels}
        await self.until(lambda: all(len(self.got[channel]) > count for channel, count in before.items()))


async def in_a_thread(make: Callable[[], Any]) -> Any:
    """Earlier versions of cryptofeed load the markets, and block, where a feed is made. The sandbox answers in this thread."""
    return await asyncio.to_thread(make)


class Programs:
    """Starts feeds, and exchanges for them."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._making = asyncio.Lock()
        """One feed at a time: where markets come from is the process's, and not made for threads."""

    @asynccontextmanager
    async def __call__(
        self,
        channels: Sequence[str] = ("l2_book", "trades"),
        symbols: Sequence[str] = (SPOT, PERPETUAL),
        *,
        callbacks: dict[str, Any] | None = None,
        secret: str | None = None,
        before: Callable[[Program], object] = bool,
        speed: float = 1.0,
        **options: Any,
    ) -> AsyncIterator[Program]:
        async with serve_sandbox(tls=True, speed=speed) as sandbox:
            program = Program(sandbox, Watch(sandbox))
            settings: dict[str, Any] = {"use_sandbox": True, "sandbox_url": sandbox.rest_url, "ca_file": sandbox.ca_file}
            if secret is not None:
                key = Credentials(secret).api_key
                auth = {"api_key": key, "public_key": key, "private_key": secret}
                settings |= {"enable_private_channels": True, "auth": auth}
            wanted: dict[str, Any] = {
                "symbols": list(symbols),
                "channels": list(channels),
                "callbacks": {channel: program.callback(channel) for channel in channels} | (callbacks or {}),
            }
            async with self._making:
                program.feed = await in_a_thread(lambda: BackpackFeed(config=settings, **wanted, **options))
            handler = FeedHandler(config=HANDLER)
            handler.add_feed(program.feed)
            before(program)
            async with self._running(handler):
                yield program

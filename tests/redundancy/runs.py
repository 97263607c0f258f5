"""Two publishers of one market, of which one at a time is killed with -9: what a consumer has is all that the exchange sent, each once.

The simulated exchange is served by this process, on real sockets, and every frame that it sends is noted: that is the truth. The publishers are processes,
the engine is a real server, restarted now and then. A publisher is killed only while the other one is live, for nobody else has what comes meanwhile.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import msgspec
from anyio.to_thread import run_sync

from backpack_proto.book.levels import Book
from backpack_proto.encoding import decode_event
from backpack_proto.exchange.messages import ExchangeInput, ExchangeOutput, SendFrame
from backpack_proto.machine import Now
from backpack_proto.outputs import BookSynced
from backpack_proto.rest.results.market_data import DepthSnapshot
from backpack_proto.streams.frames import Frame, decode_frame
from backpack_proto.streams.payloads import Depth, Event, Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.publishing.consumer import FeedConsumer, FromPublisher, open_consumer
from backpack_runtime.publishing.engine import FEED, open_engine
from backpack_runtime.publishing.messages import FIRST, LAST, MESSAGE_ID
from backpack_runtime.publishing.reading import Reading, first_message
from backpack_runtime.publishing.subjects import FEED_SUBJECTS
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from nats_servers import NatsServer, run_nats
from published_feeds import Failed, Seen, check

__all__ = ["run_kills"]

SYMBOL = "SOL_USDC"
PATIENCE_SECONDS = 60.0
COMMAND = (sys.executable, "-m", "backpack_runtime.cli.parser", "publish", SYMBOL, "--json")


class Truth:
    """All that the exchange has sent of one market, by its ids."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.depth: dict[int, Depth] = {}
        self.trades: dict[int, Trade] = {}
        self._sandbox = sandbox
        self._over = False
        self._handle = sandbox.exchange.handle
        sandbox.exchange.handle = self  # type: ignore[method-assign]  # a tap

    def end(self) -> None:
        """Let the exchange send nothing any more."""
        self._over = True
        self._sandbox.silent = lambda _: True

    def __call__(self, given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        outputs = self._handle(given, now)
        for output in outputs:
            if isinstance(output, SendFrame) and not self._over:
                self._note(output.data)
        return outputs

    def _note(self, data: bytes) -> None:
        match decode_frame(data):
            case Frame(payload=Depth(symbol=symbol) as depth) if symbol == SYMBOL:
                self.depth[depth.last_update_id] = depth
            case Frame(payload=Trade(symbol=symbol, trade_id=int(number)) as trade) if symbol == SYMBOL:
                self.trades[number] = trade
            case _:
                pass  # of another stream


class Publisher:
    """A publishing process that can be killed and made again."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self._name = name
        self._arguments = arguments
        self._log = folder / f"{name}.log"
        self._runs = 0
        self._live = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._runs += 1
        self._live.clear()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                (*COMMAND, "--name", f"{self._name}-{self._runs}", *self._arguments), stdout=subprocess.PIPE, stderr=log
            )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            live = SYMBOL in msgspec.json.decode(line)["live"]
            if process is self._process:
                self._live.set() if live else self._live.clear()

    async def wait_live(self) -> None:
        """Wait until its book is live."""
        if not await run_sync(self._live.wait, PATIENCE_SECONDS):
            raise Failed(f"publisher {self._name} was not live in time: {self.log}")

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        process, self._process = self._process, None
        self._live.clear()
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)

    def end(self) -> int:
        """End it as an operator does. Return its exit code."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(signal.SIGTERM)
        return process.wait(PATIENCE_SECONDS)


async def run_kills(kills: int, *, seed: int = 0, restart_every: int = 0, speed: float = 2.0) -> Seen:
    """Kill publishers so many times, and restart the engine at every so manieth kill. Return what was seen, after it was checked.

    Raises:
        Failed: what has to hold does not.
    """
    random = Random(seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="backpack-redundancy-")))
        server = stack.enter_context(run_nats())
        async with serve_sandbox(seed=seed, speed=speed) as sandbox:
            truth = Truth(sandbox)
            where = ("--rest-url", sandbox.rest_url, "--ws-url", sandbox.ws_url, "--nats", server.url)
            pair = [Publisher(name, where, folder) for name in ("one", "other")]
            for publisher in pair:
                stack.callback(publisher.kill)
                publisher.start()
            for publisher in pair:
                await publisher.wait_live()
            events: list[Event] = []
            restarts = 0
            async with open_consumer(server.url, [SYMBOL]) as consumer, anyio.create_task_group() as tasks:
                tasks.start_soon(_collect, consumer, events)
                for number in range(1, kills + 1):
                    await anyio.sleep(random.uniform(0, 1))
                    victim = random.choice(pair)
                    victim.kill()
                    if restart_every and number % restart_every == 0:
                        restarts += 1
                        await _restart(server, random)
                    await anyio.sleep(random.uniform(0, 0.5))
                    victim.start()
                    for publisher in pair:
                        await publisher.wait_live()
                async with BackpackClient(settings=sandbox.settings, streams=False) as client:
                    shown = await client.get_depth(SYMBOL, limit=1000)
                truth.end()
                await _reach(events, truth)
                codes = [await run_sync(publisher.end) for publisher in pair]
                tasks.cancel_scope.cancel()
            if codes != [128 + signal.SIGTERM] * 2:
                raise Failed(f"the publishers ended with {codes}: {[publisher.log for publisher in pair]}")
            seen = Seen(events, await _ids(server), kills, restarts)
            check(seen, truth.depth, truth.trades)
            _check_book(seen, shown)
    return seen


async def _restart(server: NatsServer, random: Random) -> None:
    await run_sync(server.stop)
    await anyio.sleep(random.uniform(0, 1))
    await run_sync(server.start)


async def _collect(consumer: FeedConsumer, events: list[Event]) -> None:
    async for event in consumer:
        match event:
            case Event():
                events.append(event)
            case FromPublisher():
                pass


async def _reach(events: Sequence[Event], truth: Truth) -> None:
    """Wait until the consumer has what the publishers had when they ended. The exchange sends nothing more by then, for nobody listens."""
    with anyio.move_on_after(PATIENCE_SECONDS):
        while True:
            last = max(truth.depth)
            if any(isinstance(event, Depth) and event.last_update_id >= last for event in reversed(events)):
                return
            await anyio.sleep(0.05)
    raise Failed(f"the consumer did not reach {max(truth.depth)}")


async def _ids(server: NatsServer) -> Counter[str]:
    """Count the messages that the engine has, by what they are about."""
    found: Counter[str] = Counter()
    done = anyio.Event()

    async def take(_: Reading, message: Any) -> None:
        decode_event(message.data)
        headers = message.headers
        # By what it is, not by the name that it has been given.
        ids = (headers[FIRST], headers[LAST]) if FIRST in headers else headers[MESSAGE_ID]
        found[f"{message.subject} {ids}"] += 1
        if message.metadata.num_pending == 0:
            done.set()

    async with open_engine(server.url, name="test") as engine, anyio.create_task_group() as tasks:
        tasks.start_soon(Reading(engine, FEED, FEED_SUBJECTS, first_message(), take).run)
        with anyio.fail_after(PATIENCE_SECONDS):
            await done.wait()
        tasks.cancel_scope.cancel()
    return found


def _check_book(seen: Seen, shown: DepthSnapshot) -> None:
    """The book of whole book and changes is the one that the exchange has shown at the same update id."""
    begin = next(event for event in seen.events if isinstance(event, BookSynced))
    book = Book(SYMBOL, bids=begin.bids, asks=begin.asks, last=begin.last, engine_us=begin.engine_us)
    for event in seen.events:
        if isinstance(event, Depth) and book.last < event.last_update_id <= shown.last_update_id:
            book.apply(event.bids, event.asks, last=event.last_update_id, engine_us=event.engine_us)
    theirs = Book(
        SYMBOL, bids=shown.bids, asks=shown.asks, last=shown.last_update_id, engine_us=shown.engine_us, limit=shown.limit
    )
    difference = book.differs_from(theirs)
    if book.last != theirs.last or difference is not None:
        raise Failed(f"{book} is not {theirs}: {difference}")

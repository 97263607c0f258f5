"""What one frame costs in cryptofeed's `message_handler`: this feed beside cryptofeed's own one for Binance.

    python tests/benchmarks/bench_cryptofeed.py [--frames 100000] [--rounds 5] [--python PATH ...]

The frames are those of the simulated exchange, `depth`, `bookTicker` and `trade` of one market as they come; Binance's handler gets
the same prices, sizes and update ids in Binance's words. All cases alternate in every round, and what is printed is the median of the
rounds and of the ratios inside the rounds. No socket, no TLS, no backend: parsing, books and callbacks. `--python` names interpreters
with other versions of cryptofeed, which then play the same frames one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import importlib.util
import json
import logging
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns, time
from typing import Any

from backpack_proto.exchange import Exchange, FrameReceived, RequestReceived, Respond, SendFrame, SocketOpened
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.streams.frames import subscribe_text

SYMBOL = "SOL_USDC"
NAME = "SOL-USDC"
BINANCE_SYMBOL = "SOLUSDC"
CHANNELS = ["l2_book", "ticker", "trades"]
STREAMS = [f"{channel}.{SYMBOL}" for channel in ("depth", "bookTicker", "trade")]
START = Now(10**9, 1_790_000_000_000_000)


def record(count: int) -> dict[str, Any]:
    """The markets, a snapshot, and the frames that follow it."""
    exchange = Exchange(seed=11, unix_us=START.unix_us, speed=20.0)
    exchange.handle(SocketOpened(1), START)

    def ask(target: str) -> str:
        outputs = exchange.handle(RequestReceived(1, "GET", target), START)
        return next(output.body for output in outputs if isinstance(output, Respond)).decode()

    tape: dict[str, Any] = {"markets": ask("/api/v1/markets"), "snapshot": ask(f"/api/v1/depth?symbol={SYMBOL}&limit=1000")}
    exchange.handle(FrameReceived(1, subscribe_text(STREAMS).encode()), START)
    frames: list[str] = []
    now = START
    while len(frames) < count:
        deadline = exchange.deadline or now.mono_us
        now = Now(deadline, START.unix_us + deadline - START.mono_us)
        frames += [output.data.decode() for output in exchange.handle(TimerFired(), now) if isinstance(output, SendFrame)]
    tape["frames"] = frames[:count]
    return tape


def in_binances_words(tape: dict[str, Any]) -> tuple[str, list[str]]:
    """The snapshot and the frames as Binance would have sent them."""
    snapshot = json.loads(tape["snapshot"])
    snapshot["lastUpdateId"] = int(snapshot["lastUpdateId"])
    frames = []
    for text in tape["frames"]:
        data = json.loads(text)["data"]
        match data.pop("e"):
            case "depth":
                stream = "depth@100ms"
                told = {"e": "depthUpdate", "E": data["T"] // 1000, **{name: data[name] for name in ("U", "u", "b", "a")}}
            case "bookTicker":
                stream = "bookTicker"
                told = {name: data[name] for name in ("u", "b", "B", "a", "A")}
            case _:
                stream = "aggTrade"
                told = {"e": "aggTrade", "E": data["T"] // 1000, "T": data["T"] // 1000, "a": data["t"]}
                told |= {name: data[name] for name in ("p", "q", "m")}
        frames.append(json.dumps({"stream": f"{BINANCE_SYMBOL.lower()}@{stream}", "data": {"s": BINANCE_SYMBOL, **told}}))
    return json.dumps(snapshot), frames


class Answers:
    """An HTTP connection that has one answer."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def read(self, _address: str, **_options: object) -> str:
        """Give the answer."""
        return self.text


class Callbacks:
    """Count everything; and look at the top of the book, if a user would."""

    def __init__(self, *, looks: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.top: Any = None
        self._looks = looks

    def all(self) -> dict[str, Callable[[Any, float], Awaitable[None]]]:
        """Callbacks by channel."""

        def of(channel: str) -> Callable[[Any, float], Awaitable[None]]:
            counts = self.counts

            async def take(_found: Any, _receipt: float) -> None:
                counts[channel] += 1

            return take

        async def look(found: Any, _receipt: float) -> None:
            self.counts["l2_book"] += 1
            book = found.book
            self.top = book.bids.index(0), book.asks.index(0)

        return {channel: of(channel) for channel in CHANNELS} | ({"l2_book": look} if self._looks else {})


async def time_backpack(tape: dict[str, Any], callbacks: Callbacks) -> float:
    """Frames per second of this feed."""
    from cryptofeed.symbols import Symbols  # noqa: PLC0415 - where it is missing, that is said

    from backpack_runtime.cryptofeed import BackpackFeed  # noqa: PLC0415 - as above

    Symbols.set("BACKPACK", *BackpackFeed._parse_symbol_data(json.loads(tape["markets"])))
    feed: Any = BackpackFeed(symbols=[NAME], channels=CHANNELS, callbacks=callbacks.all())
    await _resolve_names(feed)
    feed.http_conn = Answers(tape["snapshot"])
    conn = feed.connect()[0][0]
    await feed.subscribe(conn)
    await asyncio.sleep(0.05)
    rate = await _time(feed.message_handler, tape["frames"], conn)
    await feed._driver.aclose()
    return rate


async def time_binance(tape: dict[str, Any], callbacks: Callbacks) -> float:
    """Frames per second of cryptofeed's feed."""
    from cryptofeed.exchanges import Binance  # noqa: PLC0415 - as above
    from cryptofeed.symbols import Symbols  # noqa: PLC0415 - as above

    Symbols.set("BINANCE", {NAME: BINANCE_SYMBOL}, {"tick_size": {}, "instrument_type": {NAME: "spot"}})
    feed: Any = Binance(symbols=[NAME], channels=CHANNELS, callbacks=callbacks.all())
    await _resolve_names(feed)
    feed.http_conn = Answers(tape["binance_snapshot"])
    return await _time(feed.message_handler, tape["binance_frames"], None)


async def _resolve_names(feed: Any) -> None:
    """What cryptofeed 3 does when it runs a feed, and cryptofeed 2 in the constructor."""
    from cryptofeed.feed import Feed  # noqa: PLC0415 - as above

    if hasattr(Feed, "_setup"):
        await feed._setup()


async def _time(handler: Callable[[str, Any, float], Awaitable[None]], frames: list[str], conn: Any) -> float:
    gc.collect()
    began = perf_counter_ns()
    for frame in frames:
        await handler(frame, conn, time())
    return len(frames) * 1e9 / (perf_counter_ns() - began)


def measure(tape: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Rates of all cases, round by round; each case has to tell the same."""
    tape["binance_snapshot"], tape["binance_frames"] = in_binances_words(tape)
    rates: dict[str, list[float]] = {}
    told = set()
    for number in range(rounds + 1):
        for looks in (False, True):
            for name, timed in (("backpack", time_backpack), ("binance", time_binance)):
                callbacks = Callbacks(looks=looks)
                rate = asyncio.run(timed(tape, callbacks))
                told.add((*sorted(callbacks.counts.items()), callbacks.top if looks else None))
                if number:
                    rates.setdefault(f"{name}{', reads the top' if looks else ''}", []).append(rate)
    if len({told_here[:-1] for told_here in told}) != 1 or len(told) != 2:
        raise AssertionError(f"not the same was told: {told}")
    return rates


def show(label: str, rates: dict[str, list[float]]) -> None:
    """Rows of the table."""
    for suffix in ("", ", reads the top"):
        ours, theirs = rates[f"backpack{suffix}"], rates[f"binance{suffix}"]
        ratio = median(here / there for here, there in zip(ours, theirs, strict=True))
        print(
            f"{label:<34} {suffix.removeprefix(', ') or 'counts':<14} {median(ours):>9,.0f} {median(theirs):>9,.0f} {ratio:>6.2f}"
        )


def main() -> None:
    """Record, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", nargs="*", default=[])
    parser.add_argument("--tape", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tape:
        logging.disable()
        rates = measure(json.loads(Path(options.tape).read_text()), options.rounds)
        label = f"cryptofeed {importlib.metadata.version('cryptofeed')}, Python {platform.python_version()}"
        print(json.dumps([label, rates]))
        return
    if not options.python and importlib.util.find_spec("cryptofeed") is None:
        print('cryptofeed is not installed here: pip install ".[cryptofeed]", or name interpreters with --python')
        return
    tape = record(options.frames)
    mix = Counter(json.loads(frame)["data"]["e"] for frame in tape["frames"])
    print(
        f"{options.frames:,} frames ({', '.join(f'{count:,} {kind}' for kind, count in mix.most_common())}), frames per second:"
    )
    print(f"{'':<34} {'callback':<14} {'backpack':>9} {'binance':>9} {'ratio':>6}")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(tape, file)
        file.flush()
        for python in options.python or [sys.executable]:
            command = [python, __file__, "--rounds", str(options.rounds), "--tape", file.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            show(*json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()

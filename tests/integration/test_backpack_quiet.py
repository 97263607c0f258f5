"""Quiet markets for minutes, in every runtime and in the feed for cryptofeed: nothing is wrong, and nobody may say that something is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.outputs import BookDesynced, BookStale, ConnectionDown
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import serve_sandbox
from backpack_runtime.transport import system_now

START_SECONDS = 30.0
SAMPLE_SECONDS = 0.25
SPEED = 0.005
"""One change of a book in some minutes."""
SYMBOLS = ("SOL_USDC", "BTC_USDC", "AAPL.US_USDC_PERP")
FALSE_ALARMS = (BookStale, BookDesynced, ConnectionDown)


class Samples:
    """What one runtime said of itself, and how often it was asked."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.taken = 0
        self.alarms: Counter[str] = Counter()
        """What was said and should not have been."""
        self.events: Counter[str] = Counter()
        self.oldest_us = 0

    def __repr__(self) -> str:
        what = f"{self.taken} samples, oldest book {self.oldest_us / 1e6:.1f} s"
        return f"{self.runtime}: {what}, events {dict(self.events)}, false alarms {dict(self.alarms)}"

    def take(self, ages_us: Iterable[int | None], reasons: Iterable[str], stale: Iterable[str]) -> None:
        """Take down what is said at this moment."""
        self.taken += 1
        self.alarms.update(f"stale: {symbol}" for symbol in stale)
        self.alarms.update(reasons)
        self.oldest_us = max([self.oldest_us, *(age_us for age_us in ages_us if age_us is not None)])


Watch = Callable[[Samples, float], Awaitable[None]]


async def sample(seconds: float, well: Callable[[], bool], take: Callable[[], None]) -> None:
    """Wait until all is well for the first time, and take samples from then on."""
    with anyio.fail_after(START_SECONDS):
        while not well():  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(SAMPLE_SECONDS)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        take()
        await anyio.sleep(SAMPLE_SECONDS)


async def watch_client(samples: Samples, seconds: float) -> None:
    async with serve_sandbox(speed=SPEED) as sandbox:
        settings = replace(sandbox.settings, runtime="aiohttp" if samples.runtime == "aiohttp" else "anyio")
        signer = Signer(Credentials(sandbox.secret))
        async with (
            BackpackClient(SYMBOLS, settings=settings, signer=signer, follow_account=True) as client,
            anyio.create_task_group() as tasks,
        ):
            books = [client.book(symbol) for symbol in SYMBOLS]

            async def follow() -> None:
                async for event in client:
                    count(event)

            def count(event: Event) -> None:
                samples.events[type(event).__name__] += 1
                if samples.taken and isinstance(event, FALSE_ALARMS):
                    samples.alarms[type(event).__name__] += 1

            def take() -> None:
                stale = [book.symbol for book in books if not book.live] + ([] if client.account.live else ["the account"])
                samples.take((book.age_us for book in books), client.health.reasons, stale)

            tasks.start_soon(follow)
            await sample(seconds, lambda: client.health.healthy and all(book.live for book in books), take)
            tasks.cancel_scope.cancel()


async def watch_feed(samples: Samples, seconds: float) -> None:
    import cryptofeed_programs  # noqa: PLC0415 - cryptofeed need not be installed
    from cryptofeed_sandbox import Programs  # noqa: PLC0415

    programs = Programs(cryptofeed_programs.running)
    names = [symbol.replace("_", "-") for symbol in SYMBOLS]
    async with programs(("l2_book", "trades", "balances"), names, secret=THROWAWAY_SECRET, speed=SPEED) as program:
        feed = program.feed

        def well() -> bool:
            return bool(feed.health().healthy and len(program.live) == len(SYMBOLS))

        def take() -> None:
            now_us = system_now().mono_us
            stale = [symbol for symbol in SYMBOLS if symbol not in program.live]
            account = [] if feed._session.account.is_live(now_us) else ["the account"]
            samples.take((book.age_us(now_us) for book in program.books), feed.health().reasons, stale + account)

        await sample(seconds, well, take)
        samples.events.update({channel: len(found) for channel, found in program.got.items()})
        counters = program.counters
        alarms = {name: counters[name] for name in ("ws_errors", "ws_reconnects", "orderbook_resyncs", "book_divergences")}
        samples.alarms.update({name: count for name, count in alarms.items() if count})


def run(watch: Watch, samples: Samples, seconds: float) -> None:
    anyio.run(watch, samples, seconds, backend="trio" if samples.runtime == "trio" else "asyncio")


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(60, marks=pytest.mark.gate), pytest.param(600, marks=pytest.mark.soak)],
    ids=["a minute", "ten minutes"],
)
def test_a_quiet_market_gives_no_false_alarm(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """Each runtime has a loop, and an exchange, in a thread of its own. That a stream has sent nothing yet is a note, and no alarm."""
    runtimes: dict[str, Watch] = {"asyncio": watch_client, "trio": watch_client, "aiohttp": watch_client}
    with ExitStack() as stack:
        if find_spec("cryptofeed"):
            from cryptofeed_sandbox import own_registries  # noqa: PLC0415 - cryptofeed need not be installed

            stack.enter_context(own_registries(tmp_path, monkeypatch))
            runtimes["cryptofeed"] = watch_feed
        threads = stack.enter_context(ThreadPoolExecutor(len(runtimes)))
        found = [Samples(runtime) for runtime in runtimes]
        runs = [threads.submit(run, watch, samples, seconds) for samples, watch in zip(found, runtimes.values(), strict=True)]
        for one in runs:
            one.result()
    for samples in found:
        record_property(samples.runtime, repr(samples))
        print(samples)
    assert [samples for samples in found if samples.alarms] == []
    assert all(samples.taken >= seconds / SAMPLE_SECONDS / 2 for samples in found)

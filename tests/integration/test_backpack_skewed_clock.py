"""Programs whose wall clock is wrong by hours, and jumps while they run, against an exchange whose clock is right: by faketime, for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from backpack_runtime.sandbox import Sandbox, serve_sandbox

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.gate,
    pytest.mark.required,
    pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed"),
]

PATIENCE_SECONDS = 60.0
STOP_SECONDS = 15.0
PAUSE_SECONDS = 0.1
WATCH_SECONDS = 7.0
"""Longer than the bound of the path after a step, so that proof which does not come any more is missed."""
LARGEST_AGE_US = 5_000_000
SECONDS = {"+1h": 3_600, "-2h": -7_200}
PROGRAMS = (
    ("asyncio", "+1h", "-2h"),
    ("trio", "-2h", "+1h"),
    ("aiohttp", "-2h", "+1h"),
    ("cryptofeed", "+1h", "-2h"),
)
"""Runtime, how wrong its clock is at first, and later."""
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
def anyio_backend() -> str:
    """Of the exchange."""
    return "asyncio"


# Each program prints one line of JSON as often as it is asked for one, by a line on its standard input.
CLIENT = """
import json, sys, time
import anyio
from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_runtime import BackpackClient, Settings

async def follow(client):
    async for event in client:
        pass

async def main(rest_url, ws_url, runtime):
    settings = Settings(rest_url=rest_url, ws_url=ws_url, runtime=runtime)
    signer = Signer(Credentials(THROWAWAY_SECRET))
    async with BackpackClient(["SOL_USDC"], settings=settings, signer=signer, follow_account=True) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, client)
            book = client.book("SOL_USDC")
            async for _ in anyio.wrap_file(sys.stdin):
                said = {
                    "unix": time.time(), "live": book.live, "age_us": book.age_us, "account": client.account.live,
                    "healthy": client.health.healthy, "reasons": client.health.reasons, "reconnects": client.metrics.ws_reconnects,
                    "resyncs": client.metrics.orderbook_resyncs, "balances": len(client.account.balances),
                }
                print(json.dumps(said), flush=True)
            tasks.cancel_scope.cancel()

*addresses, runtime, _ = sys.argv[1:]
anyio.run(main, *addresses, "aiohttp" if runtime == "aiohttp" else "anyio", backend="trio" if runtime == "trio" else "asyncio")
"""

FEED = """
import asyncio, json, sys, time
from cryptofeed import FeedHandler
from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_runtime.cryptofeed import BackpackFeed
from backpack_runtime.transport import system_now

sys.path.append(sys.argv[4])
from cryptofeed_programs import running

balances, begun = {}, asyncio.Event()

async def on_balance(found, receipt):
    balances[found.currency] = found

async def on_book(found, receipt):
    begun.set()

async def main(feed):
    handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True, "filename": "", "level": "WARNING"}})
    handler.add_feed(feed)
    async with running(handler):
        loop = asyncio.get_running_loop()
        await begun.wait()
        while await loop.run_in_executor(None, sys.stdin.readline):
            now, health, counters = system_now(), feed.health(), feed.metrics_snapshot()
            book = feed._session.book("SOL_USDC")
            said = {
                "unix": time.time(), "live": book.is_live(now.mono_us), "age_us": book.age_us(now.mono_us),
                "account": feed._session.account.is_live(now.mono_us), "healthy": health.healthy, "reasons": health.reasons,
                "reconnects": counters["ws_reconnects"], "resyncs": counters["orderbook_resyncs"], "balances": len(balances),
            }
            print(json.dumps(said), flush=True)

key = Credentials(THROWAWAY_SECRET).api_key
config = {
    "use_sandbox": True, "sandbox_url": sys.argv[1], "enable_private_channels": True,
    "auth": {"api_key": key, "public_key": key, "private_key": THROWAWAY_SECRET},
}
asyncio.run(main(BackpackFeed(
    config=config, subscription={"l2_book": ["SOL-USDC"], "balances": []}, callbacks={"l2_book": on_book, "balances": on_balance},
)))
"""


class Skewed:
    """A program that runs by another clock, which can be set while it does."""

    def __init__(self, runtime: str, process: Process, clock: Path) -> None:
        assert process.stdout is not None
        self.runtime = runtime
        self.process = process
        self._clock = clock
        self._lines = TextReceiveStream(process.stdout)
        self._rest = ""

    def set_clock(self, skew: str) -> None:
        """Move its wall clock, in one step. It looks once a second."""
        set_clock(self._clock, skew)

    async def ask(self) -> dict[str, Any]:
        """Return how it is at this moment."""
        assert self.process.stdin is not None
        await self.process.stdin.send(b"\n")
        while "\n" not in self._rest:
            self._rest += await self._lines.receive()
        line, _, self._rest = self._rest.partition("\n")
        found: dict[str, Any] = json.loads(line)
        return found

    async def until_well(self, *, reconnects: int = 0) -> dict[str, Any]:
        """Wait until book, account and health are well, on the connection with that number."""
        said: dict[str, Any] = {"reconnects": -1}
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                while not (is_well(said) and said["reconnects"] == reconnects):
                    await anyio.sleep(PAUSE_SECONDS)
                    said = await self.ask()
        except TimeoutError:
            raise AssertionError(f"{self.runtime} did not become well: {said}") from None
        return said


def set_clock(file: Path, skew: str) -> None:
    following = file.with_suffix(".next")
    following.write_text(f"{skew}\n")
    following.replace(file)


def is_well(said: dict[str, Any]) -> bool:
    return bool(said["live"] and said["account"] and said["healthy"] and said["balances"]) if "live" in said else False


def skew_of(said: dict[str, Any]) -> float:
    return float(said["unix"]) - time.time()


@asynccontextmanager
async def skewed(runtime: str, sandbox: Sandbox, skew: str, folder: Path) -> AsyncIterator[Skewed]:
    clock = folder / f"{runtime}.clock"
    set_clock(clock, skew)
    found = await anyio.run_process(["faketime", "-f", "+0", "sh", "-c", 'echo "$LD_PRELOAD"'])
    settings = {
        "LD_PRELOAD": found.stdout.decode().strip(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        # What a wrong clock is: the monotonic ones, that which counts suspend among them, go on as they are.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "XDG_CACHE_HOME": str(folder / runtime),
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }
    program = FEED if runtime == "cryptofeed" else CLIENT
    arguments = [sandbox.rest_url, sandbox.ws_url, runtime, str(SUPPORT)]
    async with await anyio.open_process(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None,
        cwd=folder,
        env=os.environ | settings,
    ) as process:
        yield Skewed(runtime, process, clock)
        assert process.stdin is not None
        await process.stdin.aclose()
        with anyio.fail_after(STOP_SECONDS):
            assert await process.wait() == 0


async def play(runtime: str, first: str, then: str, folder: Path) -> None:
    async with serve_sandbox() as sandbox, skewed(runtime, sandbox, first, folder) as program:
        said = await program.until_well()
        assert abs(skew_of(said) - SECONDS[first]) < 1, "the clock is as wrong as it should be"
        assert said["age_us"] < LARGEST_AGE_US
        program.set_clock(then)
        began = time.monotonic()
        while time.monotonic() < began + WATCH_SECONDS:
            await anyio.sleep(PAUSE_SECONDS)
            said = await program.ask()
            assert is_well(said), said
            assert said["age_us"] < LARGEST_AGE_US
        assert abs(skew_of(said) - SECONDS[then]) < 1, "it was set while the program ran"
        # What is signed on a new connection has the exchange's time, too.
        sandbox.drop_connections()
        said = await program.until_well(reconnects=1)
        assert said["age_us"] < LARGEST_AGE_US


async def test_a_clock_that_is_wrong_and_jumps_changes_nothing(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        for runtime, first, then in PROGRAMS:
            if runtime != "cryptofeed" or find_spec("cryptofeed"):
                tasks.start_soon(play, runtime, first, then, tmp_path)

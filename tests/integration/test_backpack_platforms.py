"""A system without POSIX, as far as one can be had on this one: what it lacks is taken away, and everything is used without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60
PRELUDE = "import other_system, sys; other_system.pretend(); "
COMMAND = PRELUDE + "from backpack_runtime.cli.parser import main; sys.exit(main(sys.argv[1:]))"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])}

IMPORT_ALL = """
import importlib, pathlib, backpack_proto, backpack_runtime
count = 0
for package in (backpack_proto, backpack_runtime):
    root = pathlib.Path(package.__file__).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        # cryptofeed and ccxt have demands of their own.
        if not name.startswith(("backpack_runtime.cryptofeed", "backpack_runtime.cli.parity")):
            importlib.import_module(name)
            count += 1
print(count)
"""

TRADE = """
import anyio, pathlib
from backpack_proto import BookChanged, NewOrder
from backpack_runtime import BackpackClient, Settings

async def main(runtime, folder):
    journal = pathlib.Path(folder) / "orders.journal"
    for _ in range(2):  # the second time the journal is there already
        client = BackpackClient(
            ["SOL_USDC"], sandbox=True, settings=Settings(runtime=runtime), journal=journal, durability="machine", cancel_on_exit="mine"
        )
        async with client:
            await client.place(NewOrder.limit("SOL_USDC", "Bid", price="1.00", quantity="1"))
            async for event in client:
                if isinstance(event, BookChanged) and client.book("SOL_USDC").live:
                    break
    print(len(journal.read_bytes().splitlines()))

anyio.run(main, sys.argv[1], sys.argv[3], backend=sys.argv[2])
"""


def run(program: str, *arguments: str, state: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = ENVIRONMENT if state is None else {**ENVIRONMENT, "BACKPACK_STATE_DIR": str(state)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_every_module_is_loaded() -> None:
    done = run(PRELUDE + IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


@pytest.mark.parametrize(
    ("runtime", "backend"),
    [
        ("anyio", "asyncio"),
        pytest.param("anyio", "trio", marks=pytest.mark.slow),
        pytest.param("aiohttp", "asyncio", marks=pytest.mark.slow),
    ],
)
def test_a_client_trades_with_a_journal(runtime: str, backend: str, tmp_path: Path) -> None:
    done = run(PRELUDE + TRADE, runtime, backend, str(tmp_path), state=tmp_path / "state")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1


@pytest.mark.parametrize("backend", ["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
def test_watch_prints_events_and_ends_in_time(backend: str) -> None:
    done = run(COMMAND, "watch", "--sandbox", "--json", "--seconds", "1", "--backend", backend)
    assert (done.returncode, done.stderr) == (0, "")
    assert any(json.loads(line)["event"] == "book_synced" for line in done.stdout.splitlines())


def test_help_is_printed() -> None:
    done = run(COMMAND, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "watch" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)])
def test_signals_end_the_sandbox_with_their_code(number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", COMMAND, "sandbox"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["rest"].startswith("http://127.0.0.1:")
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (code, "")


def test_the_check_command_says_what_it_cannot_know() -> None:
    done = run(COMMAND, "check", "--rest-url", "http://127.0.0.1:9", "--ws-url", "ws://127.0.0.1:9", "--json")
    rows = {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["open files"]["result"] == "skipped"
    assert (done.returncode, done.stderr) == (1, "")


def test_the_pretence_takes_away_what_it_says() -> None:
    """Otherwise all of the above would show nothing."""
    done = run(
        PRELUDE + "import os, signal, select, time\n"
        "print(*[hasattr(signal, 'pthread_sigmask'), hasattr(select, 'poll'), hasattr(os, 'fork'), hasattr(time, 'CLOCK_BOOTTIME')])\n"
        "import fcntl"
    )
    assert done.stdout.split() == ["False"] * 4
    assert "No module named 'fcntl'" in done.stderr

"""`backpack-feed account` as its users run it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-W", "error", "-m", "backpack_runtime.cli.parser", "account")
ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60

both_backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@both_backends
def test_the_account_of_the_sandbox_as_json(backend: str) -> None:
    done = subprocess.run(
        (*COMMAND, "--sandbox", "--trade", "--json", "--seconds", "6", "--backend", backend),
        capture_output=True,
        cwd=ROOT,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.stderr == b""
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(list(event)[:3] == ["event", "symbol", "engine_us"] for event in events)
    kinds = {event["event"] for event in events}
    assert {"account_stale", "balance_changed", "account_synced", "order_changed", "margin_changed"} <= kinds


def test_lines_where_there_is_no_terminal() -> None:
    done = subprocess.run(
        (*COMMAND, "--sandbox", "--seconds", "4"),
        capture_output=True,
        cwd=ROOT,
        check=True,
        timeout=PATIENCE_SECONDS,
        text=True,
    )
    assert done.stderr == ""
    assert "balance  USDC 1000000 available, 0 locked (reconciliation)\n" in done.stdout
    assert "live     0 open orders" in done.stdout


def test_tables_on_a_terminal() -> None:
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    arguments = (*COMMAND, "--sandbox", "--seconds", "4")
    output = b""
    with subprocess.Popen(arguments, stdout=writing, cwd=ROOT, env=environment | {"TERM": "xterm-256color"}) as process:
        os.close(writing)
        try:
            while data := _read(reading):
                output += data
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()
            os.close(reading)
    assert output.startswith(b"\x1b[?1049h")
    assert "● stale".encode() in output
    picture = output.rpartition("● live".encode())[2]
    assert b"1000000" in picture
    assert b"buying power" in picture
    assert b"Open orders (0)" in picture
    assert b"\x1b[?1049l" in picture


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # how a terminal says that the other side is gone
        return b""

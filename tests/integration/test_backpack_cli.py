"""The command line as its users run it: processes, pipes, a terminal, signals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE_SECONDS = 60
COMMAND = (sys.executable, "-W", "error", "-m", "backpack_runtime.cli.parser")
FRAME = b'{"data":{"e":"depth","E":5,"T":4,"s":"SOL_USDC","U":1,"u":2,"b":[["1","2"]],"a":[]},"stream":"depth.SOL_USDC"}\n'

both_backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Program:
    """A running command: its output as it comes, and its end."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int, errors: Path) -> None:
        self.process = process
        self._descriptor = descriptor
        self._left = False
        self._errors = errors
        self.output = b""

    def read_until(self, reached: Callable[[bytes], bool]) -> bytes:
        """Read output until there is what is waited for. Fails when it does not come."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not reached(self.output):
            ready, _, _ = select.select([self._descriptor], [], [], max(give_up - time.monotonic(), 0))
            data = os.read(self._descriptor, 65_536) if ready else b""
            assert data, f"it did not come: {self.output[-2_000:]!r} {self.errors}"
            self.output += data
        return self.output

    def line(self) -> dict[str, Any]:
        """The first line, as JSON."""
        found: dict[str, Any] = json.loads(self.read_until(lambda output: b"\n" in output).partition(b"\n")[0])
        return found

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, if any, and wait for the end. Returns the exit code."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def leave(self) -> None:
        """Read no more."""
        if not self._left:
            self._left = True
            os.close(self._descriptor)

    @property
    def errors(self) -> str:
        """Standard error so far."""
        return self._errors.read_text()


@contextmanager
def running(*arguments: str, terminal: tuple[int, int] | None = None, prefix: tuple[str, ...] = COMMAND) -> Iterator[Program]:
    """A program whose output is a pipe, or a terminal of so many columns and rows."""
    if terminal is None:
        reading, writing = os.pipe()
    else:
        reading, writing = pty.openpty()
        fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", terminal[1], terminal[0], 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    with tempfile.NamedTemporaryFile() as errors:
        process = subprocess.Popen(
            (*prefix, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=errors,
            env=environment | {"TERM": "xterm-256color"},
        )
        os.close(writing)
        program = Program(process, reading, Path(errors.name))
        try:
            yield program
        finally:
            process.kill()
            process.wait()
            program.leave()


@contextmanager
def a_sandbox(*arguments: str) -> Iterator[tuple[Program, list[str]]]:
    """A served sandbox, and the arguments with which `watch` finds it."""
    with running("sandbox", *arguments) as program:
        where = program.line()
        found = ["--rest-url", where["rest"], "--ws-url", where["ws"]]
        yield program, found + (["--ca-file", where["ca_file"]] if "ca_file" in where else [])


@pytest.fixture(scope="module")
def exchange() -> Iterator[list[str]]:
    with a_sandbox("--seed", "1", "--speed", "3") as (_, where):
        yield where


def events_of(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith(b"\n")]


def test_the_sandbox_says_where_it_is_and_ends_with_ctrl_c() -> None:
    with running("sandbox", "--seed", "7") as program:
        where = program.line()
        assert list(where) == ["rest", "ws", "api_key", "secret", "symbols", "accounts"]
        assert where["accounts"] == [{"api_key": where["api_key"], "secret": where["secret"]}]
        assert where["rest"].replace("http://", "ws://") == where["ws"]
        assert "SOL_USDC" in where["symbols"]
        with socket.create_connection(("127.0.0.1", int(where["rest"].rpartition(":")[2])), PATIENCE_SECONDS) as client:
            client.sendall(b"GET /api/v1/markets HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert program.end(signal.SIGINT) == 130
        assert program.errors == ""


def test_the_sandbox_prints_the_keys_of_its_accounts_and_its_made_up_markets() -> None:
    with running("sandbox", "--accounts", "3", "--markets", "4", "--seed", "2") as program:
        where = program.line()
        assert [set(account) for account in where["accounts"]] == [{"api_key", "secret"}] * 3
        assert where["symbols"][-4:] == ["X001_USDC", "X001_USDC_PERP", "X002_USDC", "X002_USDC_PERP"]
    with running("sandbox", "--accounts", "3", "--seed", "2") as again:
        assert again.line()["accounts"] == where["accounts"]


def test_watch_shows_a_book_that_fails_and_comes_back() -> None:
    with running("watch", "SOL_USDC", "--sandbox", "--json", "--faults", "gap@1.5") as program:
        output = program.read_until(lambda output: output.count(b'"event":"book_synced"') == 2)
        names = [event["event"] for event in events_of(output)]
        assert names.index("book_synced") < names.index("book_desynced")
        assert program.end(signal.SIGINT) == 130


def test_watch_says_on_standard_error_what_happens_to_the_connection(exchange: list[str]) -> None:
    with running("watch", "SOL_USDC", "-vv", "--seconds", "2", *exchange) as program:
        assert program.end(None) == 0
        lines = program.errors.splitlines()
        assert "INFO backpack_runtime.client: connected attempt=1" in lines
        assert any(line.startswith("INFO backpack_runtime.client: book synced stream=depth.SOL_USDC") for line in lines)
        assert "DEBUG backpack_runtime.client: stream live stream=trade.SOL_USDC" in lines
    with running("watch", "SOL_USDC", "--seconds", "1", *exchange) as program:
        assert program.end(None) == 0
        assert program.errors == ""


@both_backends
def test_watch_as_json_until_ctrl_c(exchange: list[str], backend: str) -> None:
    channels = ["--channels", "book,trades,ticker,book_ticker"]
    with running(
        "watch", "SOL-USDC", "BTC_USDC", *exchange, *channels, "--json", "--depth", "3", "--backend", backend
    ) as program:
        wanted = (b'"ticker"', b'"trade"', b'"book_synced"', b'"book_verified"', b'"verified":true', b'"book_ticker"')
        program.read_until(lambda output: all(word in output for word in wanted) and output.count(b'"book_synced"') >= 2)
        assert program.end(signal.SIGINT) == 130
        assert program.errors == ""
    events = events_of(program.output)
    assert all(list(event)[:3] == ["event", "symbol", "engine_us"] for event in events)
    assert events[0]["event"] == "connection_up"
    last: dict[str, int] = {}
    for event in events:
        if event["event"] in {"book_synced", "book_changed"}:
            symbol = event["symbol"]
            assert len(event["bids"]) == len(event["asks"]) == 3
            assert all(isinstance(part, str) for level in event["bids"] + event["asks"] for part in level)
            assert event["first"] == (last[symbol] + 1 if event["event"] == "book_changed" else None)
            last[symbol] = event["last"]
    assert last.keys() == {"SOL_USDC", "BTC_USDC"}


@pytest.mark.parametrize(
    "way", [("--backend", "asyncio"), ("--backend", "trio"), ("--runtime", "aiohttp")], ids=lambda way: way[1]
)
def test_watch_ends_when_its_time_is_over(way: tuple[str, str]) -> None:
    with running("watch", "--sandbox", "--json", "--seconds", "0.5", *way) as program:
        assert program.end() == 0
        assert program.errors == ""
        output = program.read_until(lambda output: b'"book_synced"' in output)
    assert events_of(output)


@pytest.mark.parametrize("command", ["watch", "account"])
def test_aiohttp_does_not_run_on_trio(command: str) -> None:
    with running(command, "--sandbox", "--runtime", "aiohttp", "--backend", "trio") as program:
        assert program.end() == 2
        assert program.errors == "backpack-feed: aiohttp runs on asyncio only; on trio there is the anyio runtime\n"


@both_backends
def test_an_interrupt_while_starting(backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_SECONDS)
        port = server.getsockname()[1]
        where = ["--rest-url", f"http://127.0.0.1:{port}", "--ws-url", f"ws://127.0.0.1:{port}"]
        with running("watch", *where, "--backend", backend) as program, server.accept()[0]:
            assert program.end(signal.SIGINT) == 130
            assert program.errors == ""


@both_backends
def test_sigterm(exchange: list[str], backend: str) -> None:
    with running("watch", *exchange, "--json", "--backend", backend) as program:
        program.line()
        assert program.end(signal.SIGTERM) == 143
        assert program.errors == ""


@both_backends
def test_a_reader_that_leaves(exchange: list[str], backend: str) -> None:
    with running("watch", *exchange, "--json", "--backend", backend) as program:
        program.line()
        program.leave()
        assert program.end() == 141
        assert program.errors == ""


def test_a_plain_line_where_there_is_no_terminal(exchange: list[str]) -> None:
    with running("watch", "SOL_USDC", "HNT_USDC", *exchange) as program:
        program.read_until(lambda output: output.count(b"\n") >= 2 and b"verified" in output)
        assert program.end(signal.SIGINT) == 130
        assert program.errors == ""
    first, second = program.output.decode().splitlines()[:2]
    assert first.split()[1] == "SOL_USDC"
    assert "CLOSED" in second


@both_backends
def test_the_view_on_a_terminal_goes_stale_with_the_exchange_and_leaves_no_trace(backend: str) -> None:
    with a_sandbox() as (sandbox, where), running("watch", *where, "--backend", backend, terminal=(80, 24)) as program:
        program.read_until(lambda output: "● verified".encode() in output)
        assert program.output.startswith(b"\x1b[?1049h")
        assert b"STALE" not in program.output.rpartition("● verified".encode())[2]
        assert sandbox.end(signal.SIGTERM) == 143
        program.read_until(lambda output: b"STALE" in output.rpartition("● verified".encode())[2] and b"offline" in output)
        program.process.send_signal(signal.SIGINT)
        program.read_until(lambda output: b"\x1b[?1049l" in output)
        assert program.end() == 130
        assert b"\x1b[?25h" in program.output
        assert program.errors == ""


def test_tls_by_a_throwaway_authority() -> None:
    with a_sandbox("--tls") as (_, where):
        with running("watch", *where, "--json") as program:
            assert program.line()["event"] == "connection_up"
        with running("watch", *where[:-2]) as program:
            assert program.end() == 1
            assert program.errors.startswith(f"backpack-feed: {where[1]} cannot be used: ")
            assert program.errors.count("\n") == 1


def test_an_unknown_symbol_costs_one_line(exchange: list[str]) -> None:
    with running("watch", "SOL_USD", *exchange) as program:
        assert program.end() == 2
        assert program.errors.startswith("backpack-feed: 'SOL_USD' is not a market of the exchange; did you mean SOL_USDC")
        assert program.errors.count("\n") == 1


def test_an_exchange_that_is_not_there_costs_one_line() -> None:
    with running("watch", "--rest-url", "http://127.0.0.1:1", "--ws-url", "ws://127.0.0.1:1", "--backend", "trio") as program:
        assert program.end() == 1
        assert program.errors.startswith("backpack-feed: http://127.0.0.1:1 cannot be used: ")
        assert program.errors.count("\n") == 1


def test_trio_is_asked_for_and_not_there() -> None:
    without = "import sys; sys.modules['trio'] = None; from backpack_runtime.cli.parser import main; sys.exit(main())"
    with running("watch", "--backend", "trio", prefix=(sys.executable, "-c", without)) as program:
        assert program.end() == 2
        assert 'the backend trio needs the extra "trio"' in program.errors
        assert 'pip install ".[trio]"' in program.errors
        assert program.errors.count("\n") == 1


def test_an_address_that_is_taken_costs_one_line() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        running("sandbox", "--port", str(server.getsockname()[1])) as program,
    ):
        assert program.end() == 1
        assert program.errors.startswith("backpack-feed: ")
        assert program.errors.count("\n") == 1


def test_a_full_disk_and_no_output_at_all() -> None:
    with running(prefix=("sh", "-c", f'"{sys.executable}" -m backpack_runtime.cli.parser sandbox > /dev/full')) as program:
        assert program.end() == 1
        assert program.errors == "backpack-feed: [Errno 28] No space left on device\n"
    with running(prefix=("sh", "-c", f'"{sys.executable}" -m backpack_runtime.cli.parser sandbox >&-')) as program:
        assert program.end() == 1
        assert program.errors == "backpack-feed: there is no standard output\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_replay_of_standard_input_shows_each_event_at_once(number: signal.Signals, code: int) -> None:
    reading, writing = os.pipe()
    with subprocess.Popen((*COMMAND, "replay", "-", "--json"), stdin=reading, stdout=subprocess.PIPE) as process:
        os.close(reading)
        try:
            os.write(writing, FRAME)
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline()) for _ in range(2)]
            assert [line["event"] for line in lines] == ["stream_live", "depth"]
            assert lines[1]["bids"] == [["1", "2"]]
            process.send_signal(number)
            assert process.wait(PATIENCE_SECONDS) == code
        finally:
            process.kill()
            os.close(writing)


def test_a_replay_of_standard_input_to_its_end() -> None:
    done = subprocess.run((*COMMAND, "replay", "-"), input=FRAME * 3, capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    assert b"\n3 frames, 0 dropped\n" in done.stdout
    assert done.stderr == b""

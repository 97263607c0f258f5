"""The live view as its users have it: on a terminal of its own, with keys, sizes, a shell, and every way out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec
import pytest
from rich.cells import cell_len

pytestmark = pytest.mark.gate

PATIENCE_SECONDS = 60
ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-W", "error", "-m", "backpack_runtime.cli.parser")
ON_A_TERMINAL_OF_ITS_OWN = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""So that Ctrl-C, Ctrl-Z and sizes come from the terminal, as signals."""

both_backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Terminal:
    """A terminal with a user before it."""

    def __init__(self, process: subprocess.Popen[bytes], user: int, program: int) -> None:
        self.process = process
        self._user = user
        self._program = program
        self.output = b""
        self.modes = termios.tcgetattr(program)

    def type(self, keys: bytes) -> None:
        """Press keys. What was shown before is forgotten."""
        self.output = b""
        os.write(self._user, keys)

    def resize(self, columns: int, rows: int) -> None:
        """Have another size."""
        self.output = b""
        fcntl.ioctl(self._user, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, reached: Callable[[str], bool]) -> str:
        """Read until the picture is as wanted. Returns it."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not reached(self.picture):
            ready, _, _ = select.select([self._user], [], [], max(give_up - time.monotonic(), 0))
            try:
                data = os.read(self._user, 65_536) if ready else b""
            except OSError:
                data = b""
            assert data, f"it did not come: {self.picture}"
            self.output += data
        return self.picture

    def end(self) -> int:
        """Wait for the end, reading what still comes. Returns the exit code."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None and time.monotonic() < give_up:
            if select.select([self._user], [], [], 0.05)[0]:
                self.output += os.read(self._user, 65_536)
        while select.select([self._user], [], [], 0)[0]:
            self.output += os.read(self._user, 65_536)
        return self.process.wait(1)

    @property
    def picture(self) -> str:
        """The last picture, or what of it has come, without its colours."""
        last = self.output.rpartition(b"\x1b[H")[2].decode(errors="replace")
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last).replace("\r", "")

    @property
    def as_it_was(self) -> bool:
        """The modes are those from before the program, its screen is left, and there is a cursor."""
        shown = self.output.rpartition(b"\x1b[?25l")[2]
        return termios.tcgetattr(self._program) == self.modes and b"\x1b[?25h" in shown and b"\x1b[?1049l" in shown

    @property
    def keys_are_read(self) -> bool:
        """There is no echo."""
        return not termios.tcgetattr(self._program)[3] & termios.ECHO


@contextmanager
def terminal(*arguments: str, size: tuple[int, int] = (80, 24), **environment: str) -> Iterator[Terminal]:
    """A terminal of so many columns and rows, with a program on it."""
    user, program = pty.openpty()
    fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    around = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    with subprocess.Popen(
        (sys.executable, "-c", ON_A_TERMINAL_OF_ITS_OWN, *arguments),
        stdin=program,
        stdout=program,
        stderr=program,
        cwd=ROOT,
        env=around | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | environment,
    ) as process:
        try:
            yield Terminal(process, user, program)
        finally:
            process.kill()
            process.wait()
            os.close(user)
            os.close(program)


def watch(*arguments: str, size: tuple[int, int] = (80, 24), **environment: str) -> AbstractContextManager[Terminal]:
    return terminal(*COMMAND[1:], "watch", *arguments, size=size, **environment)


MARKETS = ("SOL_USDC", "BTC_USDC", "SOL_USDC_PERP", "BTC_USDC_PERP", "AAPL.US_USDC_PERP")


@both_backends
def test_keys_do_what_the_help_says_and_q_gives_the_terminal_back(backend: str) -> None:
    with watch(*MARKETS, "--sandbox", "--backend", backend) as shown:
        shown.until(lambda picture: "▸ SOL_USDC " in picture and picture.count("● verified") >= 3 and "? help" not in picture)
        assert shown.keys_are_read
        shown.type(b"\x1b[B\x1b")
        shown.type(b"[B")
        shown.until(lambda picture: "▸ SOL_USDC_PERP" in picture and "msg/s" in picture)
        shown.type(b"?")
        shown.until(lambda picture: "show or leave this help" in picture and "pause the picture" in picture)
        shown.type(b"\x1b")
        shown.until(lambda picture: "▸ SOL_USDC_PERP" in picture)
        shown.type(b"/btc")
        filtered = shown.until(lambda picture: "/btc▏ 2 of 5 markets" in picture)
        assert "SOL" not in filtered
        shown.type(b"\r")
        shown.until(lambda picture: "/btc: 2 of 5" in picture and "Enter keeps" not in picture)
        shown.type(b"\x1b")
        shown.until(lambda picture: "▸ SOL_USDC " in picture)
        shown.type(b"q")
        assert shown.end() == 0
        assert shown.as_it_was


@both_backends
def test_a_paused_picture_stands_still_while_events_are_taken(backend: str) -> None:
    with watch("SOL_USDC", "--sandbox", "--backend", backend) as shown:
        shown.until(lambda picture: "● verified" in picture and "id " in picture)
        shown.type(b"p")
        first = shown.until(lambda picture: "PAUSED 0" in picture and "msg/s" in picture)
        shown.output = b""
        later = shown.until(lambda picture: "PAUSED 1" in picture and "msg/s" in picture)
        assert later.splitlines()[:20] == first.splitlines()[:20]
        body = shown.output.rpartition(b"\x1b[H")[2].partition("● online".encode())[0].rpartition(b"\n")[0]
        assert not re.search(rb"\x1b\[(1;)?3[0-7]m", body), "nothing of it is bright"
        shown.type(b"p")
        shown.until(lambda picture: "PAUSED" not in picture and "● verified" in picture and "msg/s" in picture)


@both_backends
@pytest.mark.parametrize(("way", "code"), [("Ctrl-C", 130), ("SIGTERM", 143)])
def test_signals_give_the_terminal_back(backend: str, way: str, code: int) -> None:
    with watch("--sandbox", "--backend", backend) as shown:
        shown.until(lambda picture: "● verified" in picture)
        if way == "Ctrl-C":
            shown.type(b"\x03")
        else:
            shown.process.terminate()
        assert shown.end() == code
        assert shown.as_it_was


def filled(rows: int) -> Callable[[str], bool]:
    return lambda picture: picture.count("\n") == rows - 1 and "● online" in picture


def test_another_size_is_drawn_at_once_and_no_line_is_wider() -> None:
    with watch(*MARKETS, "--sandbox", size=(200, 50)) as shown:
        shown.until(lambda picture: picture.count("● verified") >= 5)
        for columns, rows in ((20, 5), (40, 17), (60, 20), (120, 30), (80, 24)) * 3:
            shown.resize(columns, rows)
        picture = shown.until(filled(24))
        assert max(map(cell_len, picture.splitlines())) <= 80
        for size in ((40, 17), (20, 5)):
            shown.resize(*size)
            picture = shown.until(filled(size[1]))
            assert max(map(cell_len, picture.splitlines())) <= size[0]
        shown.type(b"q")
        assert shown.end() == 0


@both_backends
def test_an_outage_is_counted_down_in_words_and_the_view_outlives_it(backend: str) -> None:
    with watch("--sandbox", "--faults", "drop@4,refuse@4-9", "--backend", backend) as shown:
        shown.until(lambda picture: "● verified" in picture)
        picture = shown.until(lambda picture: bool(re.search(r"next attempt in \d+ s \(attempt [2-9]\): [a-z]", picture)))
        assert "● offline" in picture
        assert "STALE" in picture
        assert "Error" not in picture
        shown.until(lambda picture: "● online" in picture and "● verified" in picture)
        shown.type(b"q")
        assert shown.end() == 0
        assert shown.as_it_was


@both_backends
def test_a_shell_suspends_the_view_and_brings_it_back(backend: str) -> None:
    command = shlex.join((*COMMAND, "watch", "--sandbox", "--backend", backend))
    shell = "import os; os.execvp('bash', ['bash', '--norc', '-i'])"
    with terminal("-c", shell, PS1="READY> ") as shown:
        shown.until(lambda picture: "READY>" in picture)
        shown.type(f"{command}\n".encode())
        shown.until(lambda picture: "● verified" in picture)
        shown.type(b"\x1a")
        shown.until(lambda picture: "Stopped" in picture and "READY>" in picture)
        assert b"\x1b[?1049l" in shown.output
        shown.type(b"bg\n")
        shown.until(lambda picture: "READY>" in picture)
        shown.type(b"echo $((40 + 2))\n")
        shown.until(lambda picture: "\n42\n" in picture and "READY>" in picture)
        assert b"\x1b[?1049h" not in shown.output, "nothing is drawn in the background"
        shown.type(b"fg\n")
        shown.until(lambda picture: "msg/s" in picture)
        shown.type(b"q")
        shown.until(lambda picture: "READY>" in picture)
        shown.type(b"echo code $?\n")
        shown.until(lambda picture: "code 0\n" in picture)


def test_stocks_have_no_ticker_and_are_shown_all_the_same() -> None:
    with watch("MU.US", "SOL_USDC", "--channels", "stock_price", "--sandbox") as shown:
        shown.until(lambda picture: "stockPrice " in picture and "● online" in picture)
        shown.type(b"q")
        assert shown.end() == 0
    with watch("MU.US", "--channels", "stock_price", "--sandbox") as shown:
        shown.until(lambda picture: "stockPrice " in picture and "● online" in picture)


def test_a_closed_market_has_no_ticker_and_that_is_no_trouble() -> None:
    with watch("SOL_USDC", "HNT_USDC", "--sandbox") as shown:
        shown.until(lambda picture: "the market is closed" in picture and "● verified" in picture)
        # The ticker is missed after 5 s.
        shown.type(b"p")
        picture = shown.until(lambda picture: "PAUSED 8." in picture and picture.count("\n") == 23)
        assert "silent" not in picture


def test_no_color_has_no_colours_and_a_dumb_terminal_has_lines() -> None:
    with watch("--sandbox", NO_COLOR="1") as shown:
        shown.until(lambda picture: "● verified" in picture and "msg/s" in picture)
        assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", shown.output)
    with watch("--sandbox", TERM="dumb") as shown:
        shown.until(lambda picture: picture.count("msg/s") >= 2)
        assert b"\x1b" not in shown.output
        assert not shown.keys_are_read


@pytest.mark.parametrize("hangup", ["SIG_DFL", "SIG_IGN"])
@pytest.mark.parametrize(("command", "shown"), [("watch", "● verified"), ("account", "USDC")])
def test_a_terminal_that_goes_ends_the_view(command: str, shown: str, hangup: str) -> None:
    user, program = pty.openpty()
    # As nohup does it, or not: the signal of the terminal is either of the two for the programs of a shell.
    before = f"import signal; signal.signal(signal.SIGHUP, signal.{hangup}); "
    with subprocess.Popen(
        (sys.executable, "-c", before + ON_A_TERMINAL_OF_ITS_OWN, *COMMAND[1:], command, "--sandbox"),
        stdin=program,
        stdout=program,
        stderr=program,
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
    ) as process:
        os.close(program)
        try:
            output = b""
            while shown.encode() not in output:
                output += os.read(user, 65_536)
            os.close(user)
            # 1, or the code of Python for output that could not be flushed, or the signal.
            assert process.wait(PATIENCE_SECONDS) != 0
        finally:
            process.kill()


# ---- refused keys


@contextmanager
def a_sandbox(port: int, *arguments: str) -> Iterator[dict[str, object]]:
    with subprocess.Popen((*COMMAND, "sandbox", "--port", str(port), *arguments), stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield msgspec.json.decode(process.stdout.readline(), type=dict[str, object])
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


@both_backends
def test_refused_keys_end_the_account_with_a_line(tmp_path: Path, backend: str) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(msgspec.json.encode({"private_key": "1" * 64}))
    keys.chmod(0o600)
    with a_sandbox(0) as where:
        done = subprocess.run(
            (
                *(*COMMAND, "account", "--key-file", str(keys), "--rest-url", str(where["rest"]), "--ws-url", str(where["ws"])),
                *("--backend", backend, "--json"),
            ),
            capture_output=True,
            cwd=ROOT,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"backpack-feed: {where['rest']} refused the API key 0EqyMnQrtKs6E2i9RhXk5tAiSrcaAWuvhSCjMsl3hzc=: "
    )
    assert done.stderr.count("\n") == 1
    assert "1" * 64 not in done.stderr


def test_keys_that_are_refused_later_end_the_account_as_well(tmp_path: Path) -> None:
    with a_sandbox(0, "--accounts", "2", "--seed", "1") as where:
        accounts = where["accounts"]
        assert isinstance(accounts, list)
        keys = tmp_path / "keys.json"
        keys.write_bytes(msgspec.json.encode({"private_key": accounts[1]["secret"]}))
        keys.chmod(0o600)
        rest, ws = str(where["rest"]), str(where["ws"])
        arguments = (*COMMAND, "account", "--key-file", str(keys), "--rest-url", rest, "--ws-url", ws)
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True)
        assert process.stdout is not None
        assert any(" live " in line for line in process.stdout)
    with a_sandbox(int(rest.rpartition(":")[2]), "--seed", "2"):
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert f"refused the API key {accounts[1]['api_key']}: " in errors
    assert errors.count("\n") == 1

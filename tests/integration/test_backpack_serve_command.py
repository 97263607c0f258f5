"""`backpack-feed serve` as its users run it: a process, its first line, its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_SECONDS = 60
COMMAND = (sys.executable, "-W", "error", "-m", "backpack_runtime.cli.parser", "serve")


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its address."""
    with subprocess.Popen(
        (*COMMAND, "--sandbox", "--port", "0", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), **environment},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert re.fullmatch(r"http://[0-9.]+:\d+/\n", line), process.communicate()
            yield process, line.strip()
        finally:
            process.kill()
            process.communicate()


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - our own
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_at_once_though_streams_are_being_read(number: signal.Signals, code: int) -> None:
    with serving("SOL_USDC") as (process, url):
        port = int(url.rstrip("/").rpartition(":")[2])
        readers = []
        for path in ("/events", "/state", "/state"):
            reader = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert b"200 OK" in reader.recv(1_000)
            readers.append(reader)
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == code
        assert time.monotonic() - begin < 5
        assert process.stderr is not None
        assert process.stderr.read() == ""
        for reader in readers:
            reader.close()


def test_without_symbols_the_sandbox_shows_some_of_its_markets_and_is_well() -> None:
    with serving() as (_, url):
        give_up = time.monotonic() + PATIENCE_SECONDS
        while status(f"{url}health") != 200:
            assert time.monotonic() < give_up
        with urllib.request.urlopen(f"{url}books", timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - our own
            states = {row["symbol"]: row["state"] for row in json.load(answer)}
        assert {"SOL_USDC", "BTC_USDC_PERP", "AAPL.US_USDC_PERP"} <= set(states)
        assert states["HNT_USDC"] == "closed"


def test_a_token_is_made_where_others_can_reach_it_and_said_once() -> None:
    with serving("SOL_USDC", "--host", "0.0.0.0") as (process, url):
        assert process.stderr is not None
        line = process.stderr.readline()
        local = url.replace("0.0.0.0", "127.0.0.1")
        token = re.fullmatch(rf"backpack-feed: .* a token is needed: {re.escape(url)}\?token=(\S+)\n", line)
        assert token is not None
        assert status(f"{local}books") == 401
        assert status(f"{local}books", Authorization=f"Bearer {token[1]}") == 200
        assert status(f"{local}?token={token[1]}") == 200


def test_a_token_comes_from_a_file_or_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-of-the-file\n", encoding="utf-8")
    with serving("SOL_USDC", "--token-file", str(file), BACKPACK_FEED_TOKEN="not-the-one-of-the-file") as (_, url):
        assert status(f"{url}books") == 401
        assert status(f"{url}books", Authorization="Bearer a-token-of-the-file") == 200
    with serving("SOL_USDC", BACKPACK_FEED_TOKEN="a-token-of-the-environment") as (_, url):
        assert status(f"{url}books") == 401
        assert status(f"{url}books", Authorization="Bearer a-token-of-the-environment") == 200


def test_what_cannot_be_done_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, code, said in (
            (
                ("--port", str(port)),
                1,
                f"port: {port} of 127.0.0.1 is in use by another program, give another one, or 0 for a free one",
            ),
            (
                ("--host", "no.such.host.invalid"),
                1,
                "host: 'no.such.host.invalid' is not an address of this machine, give one such as 127.0.0.1",
            ),
            (("--host", "192.0.2.1"), 1, "host: 192.0.2.1 is not an address of this machine, give one such as 127.0.0.1"),
            (("--token-file", "/no/such/file"), 2, "--token-file: '/no/such/file' cannot be read: No such file or directory"),
            (("SOL_USDX", "--port", "0"), 2, "'SOL_USDX' is not a market of the exchange; did you mean SOL_USDC or SOL-USDC?"),
        ):
            ended = subprocess.run(
                (*COMMAND, "--sandbox", *arguments), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
            )
            assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", f"backpack-feed: {said}\n")


def test_it_ends_by_itself_after_a_time() -> None:
    with serving("SOL_USDC", "--seconds", "0.2") as (process, _):
        assert process.wait(PATIENCE_SECONDS) == 0

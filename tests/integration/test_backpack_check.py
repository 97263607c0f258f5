"""The checkup against exchanges, proxies and servers that are well, or wrong in one way each."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from anyio.abc import ByteStream, SocketAttribute
from rich.console import Console
from rich.text import Text

import backpack_runtime.sandbox as sandbox_module
from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError, UnknownSymbol
from backpack_proto.machine import Now
from backpack_runtime.checkup import streams
from backpack_runtime.checkup.findings import Result, Row
from backpack_runtime.checkup.keys import READS
from backpack_runtime.checkup.run import check_all
from backpack_runtime.checkup.table import CHECKS
from backpack_runtime.cli.check import line_of
from backpack_runtime.cli.parser import main
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.proxy_settings import Proxies
from backpack_runtime.network.send_queue import BROKEN
from backpack_runtime.sandbox import serve_sandbox
from backpack_runtime.settings import Settings
from backpack_runtime.transport import system_now
from tls_servers import GOOD, HOST, serve_faults
from transports import SOCKETS, Runtime

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60
NAMES = [check.name for check in CHECKS]
OTHER_SECRET = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
DOCUMENT = (Path(__file__).parents[2] / "docs/check.md").read_text(encoding="utf-8")
OF_THE_WAY = [name for name in NAMES if name.startswith(("REST", "websocket "))]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def checked(
    settings: Settings,
    *,
    only: tuple[str, ...] = (),
    symbols: tuple[str, ...] = ("SOL_USDC",),
    signer: Signer | None = None,
    seconds: float = 12.0,
    backend: str = "asyncio",
) -> dict[str, Row]:
    """The rows of a checkup by name, those of `only` if it is given. Each was reported as well, in order."""
    reported: list[Row] = []

    async def report(row: Row) -> None:
        reported.append(row)

    with anyio.fail_after(PATIENCE_SECONDS):
        rows = await check_all(
            settings,
            settings.addresses(settings.proxies),
            report,
            symbols=symbols,
            signer=signer,
            backend=backend,
            seconds=seconds,
            checks=[check for check in CHECKS if not only or check.name in only],
        )
    assert rows == reported
    return {row.check: row for row in rows}


def without_numbers(text: str) -> str:
    """The words of a row. The clock may be ahead or behind."""
    return re.sub(r"-?\d[\d.,]*", "0", text).replace("ahead", "behind")


def of_result(rows: dict[str, Row], result: Result) -> list[str]:
    return [name for name, row in rows.items() if row.result is result]


@asynccontextmanager
async def listening(serve: Callable[[ByteStream], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that does what a test wants with each connection. Gives its port."""

    async def handle(stream: ByteStream) -> None:
        with suppress(*BROKEN):
            async with stream:
                await serve(stream)

    async with await anyio.create_tcp_listener(local_host=HOST) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield int(listener.extra(SocketAttribute.local_port))
        tasks.cancel_scope.cancel()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


# ---- all is well


@pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(runtime, id=name, marks=[] if name == "anyio on asyncio" else pytest.mark.slow)
        for name, runtime in SOCKETS.items()
    ],
)
def test_a_sandbox_is_well_on_every_runtime(
    runtime: Runtime, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LISTEN_SECONDS", 1.0)
    arguments = ["check", "--sandbox", "--json", "--runtime", runtime.name, "--backend", runtime.backend]
    assert main(arguments) == 0
    out, err = capfdbinary.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert err == b""
    assert [row["check"] for row in rows] == NAMES
    assert all(set(row) == {"check", "result", "text", "figures"} for row in rows)
    results = {row["check"]: row["result"] for row in rows}
    # The sandbox is not encrypted.
    assert [name for name, result in results.items() if result == "skipped"] == ["REST TLS", "websocket TLS"]
    # A machine that is busy is worth a warning, and rightly so.
    assert {name for name, result in results.items() if result == "warning"} <= {"round trip", "message age", "event loop"}
    figures = {row["check"]: row["figures"] for row in rows}
    assert (figures["versions"]["runtime"], figures["versions"]["backend"]) == (runtime.name, runtime.backend)
    assert 0 < figures["round trip"]["min_us"] <= figures["round trip"]["median_us"]
    assert abs(figures["clock"]["offset_us"]) <= figures["clock"]["error_us"]
    assert figures["books and REST"] == {"books": 1, "agreed": 1}
    assert figures["key"]["allowed"] == list(READS)
    assert THROWAWAY_SECRET not in out.decode()
    shown = DOCUMENT.partition("$ backpack-feed check --sandbox\n")[2].partition("```")[0].splitlines()
    assert [line[:17].rstrip() for line in shown] == NAMES
    of_this_run = {
        "versions",
        "open files",
        "tickers and REST",
        *(name for name, result in results.items() if result == "warning"),
    }
    assert [without_numbers(line[25:]) for line in shown if line[:17].rstrip() not in of_this_run] == [
        without_numbers(row["text"]) for row in rows if row["check"] not in of_this_run
    ]


def test_the_document_has_a_row_for_every_check() -> None:
    table = DOCUMENT.partition("| check | action")[2].partition("\n\n")[0]
    named = [name for row in table.splitlines()[2:] for name in row.split("|")[1].strip().split(", ")]
    assert sorted(named) == sorted(NAMES)


async def test_tls_is_said_with_its_certificate() -> None:
    pytest.importorskip("trustme")
    async with serve_sandbox(tls=True) as sandbox:
        rows = await checked(sandbox.settings, only=("REST TLS", "websocket TLS"))
    assert of_result(rows, Result.OK) == ["REST TLS", "websocket TLS"]
    assert rows["REST TLS"].figures["version"] == "TLSv1.3"
    assert isinstance(days := rows["REST TLS"].figures["days_left"], int)
    assert days > 14
    assert f"{days} days left" in rows["REST TLS"].text


# ---- the way is barred


def test_a_wrong_port_fails_the_connection_and_skips_what_needs_it(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    port = closed_port()
    assert main(["check", "--rest-url", f"http://{HOST}:{port}", "--ws-url", f"ws://{HOST}:{port}", "--json"]) == 1
    rows = {row["check"]: row for row in map(json.loads, capfdbinary.readouterr().out.splitlines())}
    assert list(rows) == NAMES
    assert [name for name, row in rows.items() if row["result"] == "failed"] == ["REST TCP", "websocket TCP"]
    assert rows["REST TCP"]["text"] == f"port {port}: {HOST} refuses the connection"
    assert (rows["round trip"]["result"], rows["round trip"]["text"]) == ("skipped", "REST TCP failed")
    assert (rows["books and REST"]["result"], rows["books and REST"]["text"]) == ("skipped", "REST TCP failed")


async def test_a_wrong_port_of_the_websocket_leaves_calls_checked() -> None:
    async with serve_sandbox() as sandbox:
        settings = Settings(rest_url=sandbox.rest_url, ws_url=f"ws://{HOST}:{closed_port()}")
        rows = await checked(settings, signer=Signer(Credentials(THROWAWAY_SECRET)))
    assert of_result(rows, Result.FAILED) == ["websocket TCP"]
    assert {rows[name].result for name in ("round trip", "clock", "key", "request budget")} == {Result.OK}
    assert rows["latency"].text == "websocket TCP failed"


async def test_a_name_that_does_not_exist_is_said() -> None:
    rows = await checked(Settings(rest_url="https://exchange.invalid", ws_url="wss://exchange.invalid"))
    assert of_result(rows, Result.FAILED) == ["REST name", "websocket name"]
    assert rows["REST name"].text.startswith("exchange.invalid cannot be looked up")
    assert rows["REST TLS"].text == "REST name failed"


async def test_tls_that_is_refused_says_why(tmp_path: Path) -> None:
    with serve_faults(tmp_path) as (ca_file, servers):
        words = {}
        for fault in ("unknown CA", "expired", "wrong host", "truncated handshake"):
            settings = Settings(
                rest_url=f"https://{HOST}:{servers[fault].port}", ws_url=f"wss://{HOST}:{servers[GOOD].port}", ca_file=ca_file
            )
            rows = await checked(settings, only=("REST TLS", "websocket TLS", "round trip"))
            assert of_result(rows, Result.FAILED) == ["REST TLS"]
            assert rows["round trip"].text == "REST TLS failed"
            words[fault] = rows["REST TLS"].text
    assert "not trusted" in words["unknown CA"]
    assert "expired" in words["expired"]
    assert "mismatch" in words["wrong host"]
    assert words["truncated handshake"].startswith("refused")


async def test_a_proxy_that_is_not_there_is_named_and_nothing_goes_past_it() -> None:
    async with serve_sandbox() as sandbox:
        proxy = f"socks5h://user:canary@{HOST}:{closed_port()}"
        settings = Settings(rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, proxies=Proxies.of(proxy))
        rows = await checked(settings)
        assert sandbox.connections == 0
    assert of_result(rows, Result.FAILED) == ["REST proxy", "websocket proxy"]
    assert rows["REST proxy"].text.startswith("socks5://127.0.0.1:")
    assert "canary" not in str(rows)
    assert {rows[name].result for name in OF_THE_WAY if "proxy" not in name} == {Result.SKIPPED}


async def test_a_proxy_that_refuses_is_reached_and_says_so() -> None:
    async def refuse(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

    async with listening(refuse) as port:
        settings = Settings(
            rest_url="https://exchange.invalid",
            ws_url="wss://exchange.invalid",
            proxies=Proxies.of({"http": f"http://{HOST}:{port}", "websocket": f"http://{HOST}:{port}"}),
        )
        rows = await checked(settings)
    assert of_result(rows, Result.FAILED) == ["REST TCP", "websocket TCP"]
    assert "403 Forbidden" in rows["REST TCP"].text
    assert rows["REST name"].text == f"exchange.invalid is looked up by the proxy http://{HOST}:{port}, not here"


async def test_everything_goes_through_a_proxy_that_works() -> None:
    asked: list[bytes] = []

    async def tunnel(stream: ByteStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive(1)
        target = head.split(b" ")[1].decode()
        asked.append(head.split(b"\r\n")[0])
        async with await anyio.connect_tcp(HOST, int(target.rpartition(":")[2])) as other, anyio.create_task_group() as tasks:
            await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            tasks.start_soon(pass_on, stream, other)
            await pass_on(other, stream)
            tasks.cancel_scope.cancel()

    async with serve_sandbox() as sandbox, listening(tunnel) as port:
        # Nobody can look up this name, so nothing gets there but by the proxy.
        settings = msgspec.structs.replace(
            sandbox.settings,
            rest_url=sandbox.rest_url.replace(HOST, "exchange.invalid"),
            ws_url=sandbox.ws_url.replace(HOST, "exchange.invalid"),
            proxies=Proxies.of(f"http://{HOST}:{port}"),
        )
        rows = await checked(settings, only=(*OF_THE_WAY, "round trip", "websocket", "first data"))
    assert of_result(rows, Result.FAILED) == []
    assert {rows[name].result for name in ("round trip", "websocket", "first data")} == {Result.OK}
    assert rows["REST TCP"].text.startswith(f"connected through http://{HOST}:{port} in ")
    assert {line.split(b":")[0] for line in asked} == {b"CONNECT exchange.invalid"}


async def pass_on(source: ByteStream, target: ByteStream) -> None:
    """Carry bytes until one side ends."""
    with suppress(*BROKEN):
        while True:
            await target.send(await source.receive())


# ---- the exchange is wrong


async def test_a_clock_that_is_an_hour_off_is_a_warning_with_its_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def an_hour_ahead() -> Now:
        now = system_now()
        return Now(now.mono_us, now.unix_us + 3_600_000_000)

    monkeypatch.setattr(sandbox_module, "system_now", an_hour_ahead)
    async with serve_sandbox() as sandbox:
        only = ("round trip", "clock", "websocket", "first data", "latency", "message age", "key")
        rows = await checked(sandbox.settings, only=only, signer=Signer(Credentials(THROWAWAY_SECRET)), seconds=6.0)
    assert of_result(rows, Result.WARNING) == ["clock"]
    offset_us, error_us = rows["clock"].figures["offset_us"], rows["clock"].figures["error_us"]
    assert isinstance(offset_us, int)
    assert isinstance(error_us, int)
    assert abs(offset_us - 3_600_000_000) <= error_us
    assert "NTP" in rows["clock"].text
    # Latency is told by the exchange's clock, and signatures follow it.
    assert isinstance(p50_us := rows["latency"].figures["p50_us"], int)
    assert p50_us < 1_000_000


async def test_an_exchange_that_is_mute_fails_the_first_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "DATA_SECONDS", 1.0)
    async with serve_sandbox(faults="mute@0-100") as sandbox:
        rows = await checked(sandbox.settings)
    assert of_result(rows, Result.FAILED) == ["first data"]
    assert {rows[name].result for name in ("round trip", "clock", "websocket")} == {Result.OK}
    assert {rows[name].text for name in ("latency", "message age", "books and REST", "tickers and REST")} == {
        "first data failed"
    }


async def test_a_key_that_the_exchange_does_not_know_fails_with_its_words() -> None:
    async with serve_sandbox() as sandbox:
        only = ("round trip", "websocket", "key", "private streams")
        rows = await checked(sandbox.settings, only=only, signer=Signer(Credentials(OTHER_SECRET)))
    assert of_result(rows, Result.FAILED) == ["key"]
    assert rows["key"].figures["allowed"] == []
    assert rows["key"].text.startswith("every signed call is refused: account (4")
    assert rows["private streams"].text == "key failed"
    assert OTHER_SECRET not in str(rows)


async def test_a_key_that_may_not_read_everything_is_a_warning_with_the_words_of_the_exchange(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = BackpackClient.call

    async def call(self: BackpackClient, endpoint: str, *arguments: Any, **named: Any) -> object:
        if endpoint == "withdrawals":
            raise ApiError(
                status=403, code="FORBIDDEN", message="Not for this key", endpoint="GET /wapi/v1/capital/withdrawals"
            )
        return await real(self, endpoint, *arguments, **named)

    monkeypatch.setattr(BackpackClient, "call", call)
    async with serve_sandbox() as sandbox:
        rows = await checked(sandbox.settings, only=("round trip", "key"), signer=Signer(Credentials(THROWAWAY_SECRET)))
    assert rows["key"].result is Result.WARNING
    assert "refused: withdrawals (403 FORBIDDEN: Not for this key)" in rows["key"].text
    assert rows["key"].figures["refused"] == ["withdrawals"]


async def test_without_a_key_what_needs_one_is_skipped() -> None:
    async with serve_sandbox() as sandbox:
        rows = await checked(sandbox.settings, only=("round trip", "websocket", "key", "private streams"))
    assert of_result(rows, Result.SKIPPED) == ["key", "private streams"]
    assert "no key was given" in rows["key"].text


async def test_a_symbol_that_does_not_exist_is_a_wrong_question() -> None:
    async with serve_sandbox() as sandbox:
        with pytest.raises(BaseExceptionGroup) as raised:
            await checked(sandbox.settings, symbols=("NO_SUCH",))
    assert raised.group_contains(UnknownSymbol)


async def test_no_check_is_begun_when_no_time_is_left() -> None:
    async with serve_sandbox() as sandbox:
        rows = await checked(sandbox.settings, seconds=0.0001)
    assert {row.text for row in rows.values() if row.result is Result.SKIPPED} >= {"no time was left"}
    assert rows["round trip"].result is Result.SKIPPED


# ---- the command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "--faults", "mute"], "--faults is about a simulated exchange"),
        (["check", "--sandbox", "--key-file", "k.json"], "leave out --key-file"),
        (["check", "NO_SUCH", "--sandbox"], "NO_SUCH"),
    ],
)
def test_a_wrong_question_ends_with_code_2(arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert words in capfd.readouterr().err


def test_rows_on_a_terminal_stay_within_its_width_and_in_their_columns() -> None:
    row = Row(
        check="REST TLS", result=Result.FAILED, text="refused: the certificate is not trusted, and more words", figures={}
    )
    drawn = line_of(row, Console(width=50, force_terminal=True, color_system="standard", _environ={}))
    lines = Text.from_ansi(drawn).plain.splitlines()
    assert max(map(len, lines)) <= 50
    assert lines[0].startswith("REST TLS         failed  refused: the")
    assert all(line.startswith(" " * 25) for line in lines[1:])
    assert "\x1b[1;31mfailed" in drawn
    assert line_of(row, None) == "REST TLS         failed  refused: the certificate is not trusted, and more words\n"


@pytest.mark.parametrize("backend", ["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
def test_ctrl_c_leaves_the_rows_so_far(backend: str) -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "backpack_runtime.cli.parser",
        "check",
        "--sandbox",
        "--json",
        "--backend",
        backend,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        rows: list[dict[str, Any]] = []
        while not rows or rows[-1]["check"] != "first data":
            rows.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert err == b""
    assert len(rows) + len(out.splitlines()) < len(NAMES)

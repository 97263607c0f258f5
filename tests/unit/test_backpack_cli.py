"""The command line without its processes: arguments, events as JSON and as text, recordings."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.outputs import (
    BookChanged,
    BookSynced,
    ErrorReceived,
    StreamLive,
    StreamsRefused,
)
from backpack_proto.streams.frames import Drop, FrameDropped
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import (
    BookTicker,
    Depth,
    Event,
    Ticker,
    Trade,
)
from backpack_proto.streams.unknown import UnknownPayload
from backpack_proto.text import printable
from backpack_runtime.cli import parser as cli_parser
from backpack_runtime.cli.events import event_name, json_lines, members, plain, text_line, time_of_day
from backpack_runtime.cli.output import Printer
from backpack_runtime.cli.parser import COMMANDS, Subcommand, main
from backpack_runtime.cli.views.lines import number
from backpack_runtime.recording.old_frames import RecordedFrame, Replay, frames
from backpack_runtime.transports import BUILT_IN

D = Decimal
ENGINE_US = 1_800_000_061_000_000  # 08:01:01 UTC
STREAM = "depth.SOL_USDC"


def levels(*pairs: tuple[str, str]) -> tuple[Level, ...]:
    return tuple(Level(Decimal(price), Decimal(quantity)) for price, quantity in pairs)


BIDS = levels(("99.11", "10"), ("99.10", "2.5"))
ASKS = levels(("99.12", "1E+5"), ("99.13", "1E-8"))
DELTA = Depth(
    emitted_us=ENGINE_US + 5, symbol="SOL_USDC", engine_us=ENGINE_US, first_update_id=7, last_update_id=9, bids=BIDS, asks=()
)
CHANGED = BookChanged(
    stream=STREAM, symbol="SOL_USDC", first=7, last=9, engine_us=ENGINE_US, bids=BIDS, asks=ASKS, verified=True, delta=DELTA
)
TRADE = Trade(
    emitted_us=ENGINE_US + 5,
    symbol="SOL_USDC",
    engine_us=ENGINE_US,
    trade_id=12,
    price=D("99.11"),
    quantity=D("0.50"),
    buyer_is_maker=True,
    buyer_order_id="18446744073709551617",
    seller_order_id="4",
)
TICKER = Ticker(
    emitted_us=ENGINE_US,
    symbol="SOL_USDC",
    first_price=D(100),
    last_price=D("98.5"),
    high=D("101.19"),
    low=D("97.38"),
    volume=D("15089.56"),
    quote_volume=D("1498114.9"),
    trade_count=6796,
)


# ---- JSON


def test_a_change_of_a_book_as_json() -> None:
    assert json.loads(json_lines([CHANGED])) == {
        "event": "book_changed",
        "symbol": "SOL_USDC",
        "engine_us": ENGINE_US,
        "stream": STREAM,
        "first": 7,
        "last": 9,
        "bids": [["99.11", "10"], ["99.10", "2.5"]],
        "asks": [["99.12", "100000"], ["99.13", "0.00000001"]],
        "verified": True,
        "received_us": None,
    }


def test_a_synced_book_follows_no_change_and_is_not_verified() -> None:
    synced = BookSynced(stream=STREAM, symbol="SOL_USDC", last=6, engine_us=ENGINE_US, bids=BIDS, asks=())
    assert members(synced) == {
        "event": "book_synced",
        "symbol": "SOL_USDC",
        "engine_us": ENGINE_US,
        "stream": STREAM,
        "last": 6,
        "bids": [["99.11", "10"], ["99.10", "2.5"]],
        "asks": [],
        "first": None,
        "verified": False,
    }


def test_a_trade_as_json_is_exact() -> None:
    assert json_lines([TRADE]) == (
        b'{"event":"trade","symbol":"SOL_USDC","engine_us":1800000061000000,"emitted_us":1800000061000005,"received_us":null,"trade_id":12,'
        b'"price":"99.11","quantity":"0.50","buyer_is_maker":true,"buyer_order_id":"18446744073709551617","seller_order_id":"4",'
        b'"quote_quantity":null}\n'
    )


def test_what_has_no_symbol_or_no_engine_time_says_null() -> None:
    assert members(StreamLive(stream=STREAM)) == {"event": "stream_live", "symbol": None, "engine_us": None, "stream": STREAM}
    found = members(TICKER)
    assert (found["symbol"], found["engine_us"], found["emitted_us"]) == ("SOL_USDC", None, ENGINE_US)


def test_errors_and_words_inside_events_become_text() -> None:
    error = RemoteProtocolError('it said "no"')
    refused = StreamsRefused(error=error, code=4003, message="no", suspects=("a", "b"), authentication=True)
    dropped = FrameDropped(reason=Drop.NOT_JSON, error=error, excerpt="\x1b[2J")
    first, second = (json.loads(line) for line in json_lines([refused, dropped]).splitlines())
    assert (first["error"], first["suspects"]) == ('it said "no"', ["a", "b"])
    assert (second["reason"], second["error"], second["stream"], second["excerpt"]) == (
        "not JSON",
        'it said "no"',
        None,
        "\x1b[2J",
    )


def every_event(kind: type[Event] = Event) -> Iterator[type[Event]]:
    for one in kind.__subclasses__():
        yield one
        yield from every_event(one)


def test_event_names() -> None:
    assert [event_name(kind) for kind in (BookChanged, BookTicker, Trade, StreamLive)] == [
        "book_changed",
        "book_ticker",
        "trade",
        "stream_live",
    ]
    kinds = set(every_event())
    assert len({event_name(kind) for kind in kinds}) == len(kinds) > 40


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None, min_value=-(10**60), max_value=10**60))
def test_decimals_are_written_plainly_and_exactly(value: Decimal) -> None:
    text = plain(value)
    assert D(text) == value
    assert "E" not in text or value.adjusted() <= -100


def test_an_absurd_decimal_does_not_fill_the_memory() -> None:
    assert plain(D("1E+999999999")) == "1E+999999999"
    assert number(D("1E+999999999"), 2) == "1E+999999999"


# ---- text


def test_an_event_as_a_line_of_text() -> None:
    assert text_line(TRADE) == (
        "08:01:01.000000 trade SOL_USDC trade_id=12 price=99.11 quantity=0.50 buyer_is_maker=true "
        "buyer_order_id=18446744073709551617 seller_order_id=4"
    )
    assert text_line(TICKER).startswith("08:01:01.000000 ticker SOL_USDC first_price=100 last_price=98.5 ")
    many = BookSynced(stream=STREAM, symbol="X", last=6, engine_us=0, bids=BIDS * 2, asks=())
    assert text_line(many) == (
        f"                book_synced X stream={STREAM} last=6 bids=[99.11*10 99.10*2.5 99.11*10 +1] asks=[] verified=false"
    )


def test_text_of_the_exchange_stays_on_its_line_and_moves_no_cursor() -> None:
    error = ErrorReceived(error=RemoteProtocolError("a\nb"), code=1, message="\x1b[2J\r")
    assert text_line(error) == '                error_received - error="a\\nb" code=1 message="\\u001b[2J\\r"'
    assert printable("a\nb\x1b\u2028c") == "a\\nb\\x1b\\u2028c"


@pytest.mark.parametrize(
    ("unix_us", "digits", "text"),
    [(ENGINE_US, 0, "08:01:01"), (ENGINE_US + 1_234, 3, "08:01:01.001"), (-1, 6, "23:59:59.999999"), (10**40, 0, "17:46:40")],
)
def test_time_of_day(unix_us: int, digits: int, text: str) -> None:
    assert time_of_day(unix_us, digits=digits) == text


# ---- recordings


def trade_frame(symbol: str, emitted_us: int) -> bytes:
    payload = {
        "e": "trade",
        "E": emitted_us,
        "s": symbol,
        "T": emitted_us,
        "t": 1,
        "p": "2",
        "q": "3",
        "m": True,
        "b": "1",
        "a": "2",
    }
    return json.dumps({"stream": f"trade.{symbol}", "data": payload}).encode()


def balance_frame(emitted_us: int) -> bytes:
    payload = {"e": "balanceUpdate", "E": emitted_us, "T": 1, "a": "USDC", "A": "1", "L": "0", "S": "0"}
    return json.dumps({"stream": "account.balanceUpdate", "data": payload}).encode()


DEPTH_FRAME = (
    b'{"data":{"e":"depth","E":5,"T":4,"s":"SOL_USDC","U":1,"u":2,"b":[["1","2"]],"a":[]},"stream":"depth.200ms.SOL_USDC"}'
)
ERROR_FRAME = b'{"id":null,"error":{"code":4006,"message":"Invalid stream"}}'


def names(events: list[Event]) -> list[str]:
    return [event_name(type(event)) for event in events]


def test_a_replay_gives_payloads_as_they_are() -> None:
    replay = Replay()
    depth = Depth(
        emitted_us=5, engine_us=4, symbol="SOL_USDC", first_update_id=1, last_update_id=2, bids=levels(("1", "2")), asks=()
    )
    assert replay.give(DEPTH_FRAME) == [StreamLive(stream="depth.200ms.SOL_USDC"), depth]
    assert replay.give(DEPTH_FRAME) == [depth]
    assert names(replay.give(balance_frame(6))) == ["stream_live", "balance_update"]
    assert names(replay.give(balance_frame(6))) == ["balance_update"]


def test_a_replay_shows_streams_that_no_type_is_for_as_they_came() -> None:
    frame = b'{"data":{"E":1795012345310482,"x":1.50},"stream":"newKind.SOL_USDC"}'
    (_, payload) = Replay().give(frame)
    assert payload == UnknownPayload(stream="newKind.SOL_USDC", text=frame.decode(), emitted_us=1_795_012_345_310_482)
    (dropped,) = Replay().give(b'{"data":{"x":1},"stream":"new kind"}')
    assert isinstance(dropped, FrameDropped)


def test_a_replay_shows_error_frames_and_what_cannot_be_used() -> None:
    replay = Replay()
    assert names(replay.give(ERROR_FRAME)) == ["error_received"]
    for frame, reason in (
        (b"garbage", Drop.NOT_JSON),
        (b"\xff", Drop.NOT_JSON),
        (b"[" * 100_000, Drop.UNKNOWN_SHAPE),
        (b"5", Drop.UNKNOWN_SHAPE),
        (b'{"data":{"e":"later","E":1},"stream":"trade.X"}', Drop.UNKNOWN_EVENT),
        (b'{"data":[],"stream":"trade.X"}', Drop.MALFORMED),
        (b'{"data":{"e":"trade","E":"soon"},"stream":"trade.X"}', Drop.MALFORMED),
        (trade_frame("X", 1).replace(b"trade.X", b"gos sip.X"), Drop.NOT_SUBSCRIBED),
    ):
        (event,) = replay.give(frame)
        assert isinstance(event, FrameDropped)
        assert event.reason is reason


def test_the_clock_of_a_replay_is_that_of_its_frames_and_never_goes_back() -> None:
    replay = Replay()
    for emitted_us, expected_us in ((50, 50), (40, 50), (10**12, 10**12)):
        assert "trade" in names(replay.give(trade_frame("X", emitted_us)))
        assert replay.now == (expected_us, expected_us)


def test_a_recording_may_have_empty_lines() -> None:
    assert list(frames([b"a\r\n", b"\n", b"", b"  b"])) == [RecordedFrame(b"a"), RecordedFrame(b"b")]


def test_replay_writes_lines_and_a_summary(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    recording = tmp_path / "frames.jsonl"
    recording.write_bytes(b"\n".join([DEPTH_FRAME, DEPTH_FRAME, ERROR_FRAME]) + b"\n")
    assert main(["replay", str(recording)]) == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["stream_live", "-"],
        ["00:00:00.000004", "depth"],
        ["00:00:00.000004", "depth"],
        ["error_received", "-"],
    ]
    assert lines[4:] == [
        "",
        "3 frames, 0 dropped",
        "        2  depth",
        "        1  stream_live",
        "        1  error_received",
    ]


def test_replay_as_json_says_by_its_exit_code_that_frames_were_dropped(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    recording = tmp_path / "frames.jsonl"
    recording.write_bytes(DEPTH_FRAME + b"\nnonsense")
    assert main(["replay", "--json", str(recording)]) == 1
    out, err = capfdbinary.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["stream_live", "depth", "frame_dropped"]
    assert err == b""


# ---- arguments


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "COMMAND"),
        (["gaze"], f"there is no command 'gaze'; there are {', '.join(command.name for command in COMMANDS)}"),
        (["wach", "SOL_USDC"], "there is no command 'wach'; did you mean watch?"),
        (["-v", "watch"], "-v"),
        (["watch", "--chanels", "book"], "unrecognized arguments: --chanels; did you mean --channels?"),
        (
            ["watch", "--runtime", "aiohtp"],
            f"argument --runtime: one of {', '.join(BUILT_IN)}, got 'aiohtp'; did you mean aiohttp?",
        ),
        (["account", "--backend", "tryo"], "--backend: one of asyncio, trio, got 'tryo'; did you mean trio?"),
        (["watch", "--depth", "0"], "not a positive whole number: '0'"),
        (["watch", "--depth", "-1"], "--depth"),
        (["watch", "--seconds", "nan"], "not a positive number: 'nan'"),
        (["watch", "--seconds", "soon"], "not a positive number: 'soon'"),
        (["watch", "--channels", "book,"], "names stand between commas"),
        (["watch", "--backend", "curio"], "curio"),
        (["watch", "--proxy", "socks5://user:canary@proxy.example"], "argument --proxy: the proxy URL has no port"),
        (
            ["account", "--ws-proxy", "ftp://user:canary@h:1"],
            "argument --ws-proxy: the scheme of the proxy URL is one of http",
        ),
        (["watch", "--rest-proxy", "http://user:can ary@h:1"], "argument --rest-proxy: the proxy URL holds a space"),
        (["watch", "--prox", "socks5://user:canary@h", "--poxy=http://user:canary@h:1"], "argument --prox"),
        (["watch", "--poxy=http://user:canary@h:1"], "--poxy=http://<not shown>@h:1"),
        (["watch", "--minimum-tls", "1.1"], "1.1"),
        (["sandbox", "--port", "65536"], "not a valid port: '65536'"),
        (["sandbox", "--speed", "inf"], "not a positive number: 'inf'"),
        (["replay"], "FILE"),
        (["watch", "--sandbox", "--faults", "gpa"], "one of gap, drop, restart, mute, late, refuse, 429, "),
        (["sandbox", "--faults", "muet@3"], "got 'muet'; did you mean mute?"),
        (["sandbox", "--faults", "gap@soon"], "NAME, NAME@T or NAME@T-U in seconds"),
        (["sandbox", "--accounts", "0"], "not a positive whole number: '0'"),
        (["sandbox", "--markets", "-1"], "not a whole number: '-1'"),
    ],
)
def test_impossible_arguments_cost_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("backpack-feed")
    assert err.count("\n") == 1
    assert complaint in err
    assert "canary" not in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["watch", "--sandbox", "--minimum-tls", "1.3"], "--sandbox"),
        (["watch", "--faults", "gap"], "--faults is about a simulated exchange: give --sandbox as well"),
        (["sandbox", "--accounts", "1001"], "accounts: 1 to 1000, got 1001"),
        (["sandbox", "--markets", "1001"], "markets: 0 to 1000, got 1001"),
        (["watch", "--channels", "gossip"], "'gossip' is not a channel of the exchange"),
        (["watch", "--channels", "orderbook"], "'orderbook' is not a channel of the exchange; did you mean book?"),
        (["watch", "--channels", "l2_book"], "'l2_book' is not a channel of the exchange; did you mean book?"),
        (["account", "--sandbox", "--key-file", "x"], "--sandbox starts an exchange of its own: leave out --key-file"),
        (["account", "--sandbox", "--ws-url", "ws://h"], "--sandbox starts an exchange of its own: leave out --ws-url"),
        (["account", "--trade"], "--trade is for the --sandbox only"),
        (["account", "--ws-url", "ws://h"], "belong together"),
        (["parity", "--sandbox", "--ca-file", "x"], "--sandbox starts an exchange of its own: leave out --ca-file"),
        (["watch", "--sandbox", "--rest-url", "http://localhost"], "--sandbox"),
        (["watch", "--sandbox", "--ca-file", "x"], "--sandbox"),
        (["watch", "--rest-url", "http://localhost"], "belong together"),
        (["watch", "--rest-url", "localhost", "--ws-url", "ws://localhost"], "http://"),
        (["watch", "--ca-file", "/nowhere/ca.pem"], "/nowhere/ca.pem"),
        (["replay", "/nowhere/frames"], "/nowhere/frames: No such file"),
        (["replay", "/"], "/: Is a directory"),
    ],
)
def test_what_does_not_exist_costs_one_line(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("backpack-feed: ")
    assert err.count("\n") == 1
    assert complaint in err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert [line.split(None, 1)[0] for line in out.splitlines() if line.startswith("    ") and line[4] != " "] == [
        command.name for command in COMMANDS
    ]


def test_a_command_is_a_row_a_module_and_a_line_in_the_readme() -> None:
    modules = {path.stem for path in Path(cli_parser.__file__).parent.glob("*.py") if "\ndef run(" in path.read_text()}
    assert modules == {command.module.rpartition(".")[2] for command in COMMANDS}
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    commands = readme.partition("## Commands")[2].partition("\n## ")[0]
    assert set(re.findall(r"^backpack-feed ([a-z-]+)", commands, re.MULTILINE)) == {command.name for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_itself(command: Subcommand, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command.name, "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: backpack-feed {command.name} [-h] [-v]")
    assert import_module(command.module).DESCRIPTION.split(".")[0].split(",")[0] in " ".join(out.split())


# ---- output


@pytest.mark.anyio
async def test_a_reader_who_takes_his_time_holds_up_the_writer_only() -> None:
    reading, writing = os.pipe()
    data = os.urandom(300_000)
    received = bytearray()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Printer(writing).send, data)
        await anyio.wait_all_tasks_blocked()
        while len(received) < len(data):
            await anyio.wait_readable(reading)
            received += os.read(reading, 50_000)
    os.close(reading)
    assert received == data
    with pytest.raises(BrokenPipeError):
        await Printer(writing).send(b"x")
    os.close(writing)


@pytest.mark.anyio
async def test_a_writer_can_be_cancelled() -> None:
    reading, writing = os.pipe()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Printer(writing).send, bytes(10_000_000))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    os.close(reading)
    os.close(writing)


def test_an_impossible_environment_costs_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CRYPTOFEED_PROXY_DEFAULT__HTTP__URL", "socks5://user:canary@proxy.example")
    assert main(["watch"]) == 2
    assert capsys.readouterr().err == (
        "backpack-feed: CRYPTOFEED_PROXY_*: default: http: the proxy URL has no port: a proxy URL is scheme://[user:password@]host:port\n"
    )


@pytest.mark.parametrize("command", [["watch", "SOL_USDC"], ["account"]])
def test_a_proxy_that_refuses_ends_the_command_with_its_name(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKPACK_PRIVATE_KEY", "1" * 64)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert main([*command, "--proxy", "http://127.0.0.1:1", "--rest-proxy", f"http://user:canary@127.0.0.1:{port}"]) == 1
    err = capsys.readouterr().err
    assert f"proxy http://127.0.0.1:{port} refused the connection" in err
    assert "canary" not in err

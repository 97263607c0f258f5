"""The benchmarks measure what they say: frames that make sense, statistics, and reports of what is missing. No timing is judged."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from backpack_proto.inputs import Connected, TextReceived
from backpack_proto.outputs import SendText
from backpack_proto.streams.frames import Frame, decode_frame, subscribe_text
from backpack_proto.streams.payloads import BookTicker, Depth, Trade
from backpack_runtime.framing.client import WebsocketFraming
from backpack_runtime.kernels import KERNELS
from tests.benchmarks import cases, report, runs
from tests.benchmarks.__main__ import main
from tests.benchmarks.authority import Authority
from tests.benchmarks.cases import GROUPS, Case, Group, Load, Sizes, groups, why_not
from tests.benchmarks.figures import TooFewEvents, checked, summarise
from tests.benchmarks.frames import (
    END_TRADE,
    FIRST_TRADE,
    MARK_TRADE,
    SYMBOL,
    Message,
    Tape,
    header,
    in_binances_words,
    record,
    symbols_of,
)
from tests.benchmarks.markets import list_of_markets
from tests.benchmarks.programs import kernels
from tests.benchmarks.programs.kernels import NATIVE, PURE
from tests.benchmarks.programs.metering import Options
from tests.benchmarks.runs import CouldNotRun, Failed, Found, Interpreter, Runner
from tests.benchmarks.server import Pace, Server, unix_us
from tests.benchmarks.wire import Wire

COUNT = 1000
NOW_US = 1_790_000_000_000_000
PATIENCE_SECONDS = 10.0


@pytest.fixture(scope="module")
def tape() -> Tape:
    return record(COUNT)


def data_of(message: Message, unix_us: int = NOW_US) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(message.at(unix_us))["data"]
    return data


# Frames.


def test_a_tape_is_the_same_every_time_and_another_with_another_seed(tape: Tape) -> None:
    assert record(COUNT) == tape
    assert record(COUNT, seed=1).measured != tape.measured


@pytest.mark.parametrize("symbols", [1, 7])
def test_update_ids_are_contiguous_and_lead_from_the_snapshot_to_the_final_book(symbols: int) -> None:
    tape = record(COUNT, symbols=symbols)
    assert tape.symbols == symbols_of(symbols)
    for symbol in tape.symbols:
        start = tape.snapshots[symbol]
        last, sides = start.last, {"b": dict(start.bids), "a": dict(start.asks)}
        messages = [*tape.warm[symbol], tape.proofs[symbol], *(found for found in tape.measured if found.symbol == symbol)]
        for message in messages:
            data = data_of(message)
            if message.kind == "depth":
                assert data["U"] == last + 1
                assert data["u"] - last == len(data["a"]) + len(data["b"])
                last = data["u"]
                for name, side in sides.items():
                    for price, quantity in data[name]:
                        side[price] = quantity
                        if quantity == "0.000":
                            del side[price]
            elif message.kind == "bookTicker":
                assert (data["b"], data["a"]) == (max(sides["b"], key=float), min(sides["a"], key=float))
                assert (data["B"], data["A"]) == (sides["b"][data["b"]], sides["a"][data["a"]])
                assert int(data["u"]) == last
            assert message.last == last
        assert (sides["b"], sides["a"]) == (tape.finals[symbol].bids, tape.finals[symbol].asks)
        assert max(map(float, sides["b"])) < min(map(float, sides["a"]))
        assert 600 < len(sides["b"]) + len(sides["a"]) < 1200


def test_every_frame_is_one_that_the_core_decodes_and_has_the_time_that_it_is_given(tape: Tape) -> None:
    kinds = Counter()  # type: Counter[type]
    for message in [*tape.warm[SYMBOL], tape.mark, *tape.measured, tape.end]:
        frame = decode_frame(message.at(NOW_US))
        assert isinstance(frame, Frame)
        assert isinstance(frame.payload, Depth | Trade | BookTicker)
        assert (frame.payload.emitted_us, frame.payload.engine_us) == (NOW_US, NOW_US)
        kinds[type(frame.payload)] += 1
    shares = {kind: number / sum(kinds.values()) for kind, number in kinds.items()}
    assert shares == {
        Depth: pytest.approx(0.80, abs=0.03),
        Trade: pytest.approx(0.15, abs=0.03),
        BookTicker: pytest.approx(0.05, abs=0.02),
    }


def test_mark_and_end_are_trades_that_no_other_one_is_taken_for(tape: Tape) -> None:
    assert (data_of(tape.mark)["t"], data_of(tape.end)["t"]) == (MARK_TRADE, END_TRADE)
    numbers = [data_of(message)["t"] for message in tape.measured if message.kind == "trade"]
    assert numbers == list(range(FIRST_TRADE + 1, FIRST_TRADE + 1 + len(numbers)))


def test_binance_is_told_the_same_in_its_own_words(tape: Tape) -> None:
    theirs = in_binances_words(tape)
    assert len(theirs.measured) == len(tape.measured)
    for ours, message in zip(tape.measured, theirs.measured, strict=True):
        here, there = data_of(ours), json.loads(message.at(NOW_US))
        data = there["data"]
        assert (data["s"], data["us"], data["E"]) == ("SOLUSDC", NOW_US, NOW_US // 1000)
        stream, event, same = {
            "depth": ("solusdc@depth@100ms", "depthUpdate", "UuabU"),
            "trade": ("solusdc@aggTrade", "aggTrade", "pqm"),
            "bookTicker": ("solusdc@bookTicker", None, "uabAB"),
        }[ours.kind]
        assert (there["stream"], data.get("e")) == (stream, event)
        assert [data[name] for name in same] == [here[name] for name in same]


@pytest.mark.parametrize(("length", "size"), [(125, 2), (126, 4), (65_535, 4), (65_536, 10)])
def test_the_header_of_a_frame_says_its_length(length: int, size: int) -> None:
    found = header(length)
    assert (found[0], len(found)) == (0x81, size)
    assert header(length, compressed=True)[0] == 0xC1
    assert (found[1] if size == 2 else int.from_bytes(found[2:], "big")) == length


def test_the_list_of_markets_has_every_symbol() -> None:
    assert [market["symbol"] for market in json.loads(list_of_markets(symbols_of(400)))] == list(symbols_of(400))
    assert len(set(symbols_of(400))) == 400


# Statistics.


def test_ratios_are_taken_inside_the_rounds() -> None:
    """The machine is twice as slow in the second round: the ratio does not see it."""
    mine = [{"us": 6.0}, {"us": 12.0}, {"us": 9.0}]
    base = [{"us": 2.0}, {"us": 4.0}, {"us": 3.0}]
    assert summarise(mine, base, "us") == (9.0, 6.0, 12.0, 3.0)


def test_rounds_that_failed_are_left_out() -> None:
    assert summarise([{"us": 6.0}, None, {"us": 8.0}], [None, {"us": 1.0}, {"us": 2.0}], "us") == (7.0, 6.0, 8.0, 4.0)
    assert summarise([{"us": 6.0}], [None], "us") == (6.0, 6.0, 6.0, None)
    assert summarise([None], [{"us": 6.0}], "us") is None
    assert summarise([{"other": 1.0}], [{"us": 6.0}], "us") is None


@pytest.mark.parametrize(
    ("events", "tops", "complaint"),
    [
        (99, {"A": ("1.00", "2.00"), "B": ("3", "4")}, "99 events were delivered of 100 frames"),
        (101, {"A": ("1.00", "2.00"), "B": ("3", "4")}, "101 events were delivered of 100 frames"),
        (100, {"A": ("1.00", "2.01"), "B": ("3", "4")}, "the book of A ends at 1.00 / 2.01, and not at 1 / 2"),
        (100, {"A": ("1.00", "2.00"), "B": ("3", "5")}, "the book of B ends at 3 / 5, and not at 3 / 4"),
        (100, {"A": ("1.00", "2.00")}, "the book of B ends at nothing, and not at 3 / 4"),
    ],
)
def test_a_case_that_delivers_too_few_events_or_another_book_fails(
    events: int, tops: dict[str, tuple[str, str]], complaint: str
) -> None:
    with pytest.raises(TooFewEvents, match=complaint):
        checked(events, 100, tops, {"A": ("1", "2"), "B": ("3", "4")})


def test_a_case_that_delivers_everything_passes_whether_or_not_it_keeps_a_book() -> None:
    checked(100, 100, {"A": ("1.0", "2.00"), "B": ("3", "4")}, {"A": ("1", "2"), "B": ("3", "4")})
    checked(100, 100, None, {"A": ("1", "2")})


# Cases, and what cannot be run.


def test_every_group_compares_with_one_of_its_cases_and_no_case_is_there_twice() -> None:
    found = groups(Sizes())
    assert tuple(group.name for group in found) == GROUPS
    for group in found:
        names = [case.name for case in group.cases]
        assert set(group.bases) <= set(names)
        assert len(set(names)) == len(names)
        assert {group.figure, *group.columns} <= set(report.UNITS)


def test_every_program_of_a_case_exists() -> None:
    folder = Path(cases.__file__).parent / "programs"
    programs = {case.program for group in groups(Sizes()) for case in group.cases}
    assert {name for name in programs if not (folder / f"{name}.py").is_file()} == set()
    assert {path.stem for path in folder.glob("*.py")} - programs == {
        "__init__",
        "feeds",
        "installed",
        "kernels",
        "metering",
        "typed",
    }


def test_blasts_have_every_runtime_plain_in_tls_and_compressed() -> None:
    (blast,) = (group for group in groups(Sizes()) if group.name == "blast")
    loads = {(case.name.partition(",")[0], case.load.tls, case.load.compress) for case in blast.cases if case.load is not None}
    kinds = [(False, False), (True, False), (False, True)]
    assert loads >= {(name, *kind) for name in ("asyncio", "trio", "aiohttp", "our cryptofeed feed") for kind in kinds}


def test_every_client_of_ours_is_measured_against_the_targets_with_native_kernels_and_without() -> None:
    targets = [group for group in groups(Sizes()) if group.name.startswith("targets-")]
    assert len(targets) == 5
    for group in targets:
        assert group.base == "cryptofeed's Binance feed"
        ours = {(case.name, case.native) for case in group.cases if case.program in {"ours", "cryptofeed_backpack"}}
        names = {name.rpartition(", ")[0] for name, _ in ours}
        assert ours == {(f"{name}, {how}", native) for name in names for how, native in ((PURE, False), (NATIVE, True))}


def test_a_group_of_targets_sends_all_clients_the_same_frames() -> None:
    for group in groups(Sizes()):
        if group.name.startswith("targets-"):
            loads = {replace(case.load, binance=False) for case in group.cases if case.load is not None}
            assert len(loads) == 1
            assert all(case.load is not None for case in group.cases)
            assert {case.program for case in group.cases if case.load is not None and case.load.binance} == {
                "cryptofeed_binance"
            }


@pytest.mark.parametrize("native", [False, True])
def test_a_program_that_has_other_kernels_than_it_measures_ends(monkeypatch: pytest.MonkeyPatch, *, native: bool) -> None:
    found = {False: PURE, True: NATIVE}
    monkeypatch.setattr(kernels, "kernels_in_use", lambda: found[native])
    kernels.check_kernels(Options(native=None))
    kernels.check_kernels(Options(native=native))
    with pytest.raises(RuntimeError, match=f"{found[not native]} is to be measured, and {found[native]} is in use"):
        kernels.check_kernels(Options(native=not native))


def test_a_program_that_is_run_in_pure_python_finds_no_native_kernels(tmp_path: Path) -> None:
    told = f"print(json.dumps([*sys.argv[1:], *(sys.modules.get(name, 'not hidden') for name in {KERNELS!r})]))"
    (tmp_path / "program.py").write_text(f"import json, sys\n{told}\n")
    assert runs._command(sys.executable, "ours", {}, pure=True)[:3] == [sys.executable, "-c", runs.PURE]
    command = [sys.executable, "-c", runs.PURE, "program", "its options"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(ended.stdout) == ["its options", None, None]


def test_a_library_that_is_missing_is_named() -> None:
    case = Case("x", "ours", ("trio", "ccxt"))
    assert why_not(case, {"trio": "0.30", "ccxt": "4.5.90"}, native=False) is None
    assert why_not(case, {"trio": "0.30"}, native=False) == "ccxt is not installed"
    assert why_not(case, {}, native=False) == "trio and ccxt are not installed"


def test_a_case_with_native_kernels_is_not_run_where_there_are_none() -> None:
    assert why_not(Case("x", "ours", native=True), {}, native=False) == "there are no native kernels"
    assert why_not(Case("x", "ours", native=True), {}, native=True) is None
    assert why_not(Case("x", "ours", native=False), {}, native=True) is None


@pytest.mark.parametrize(
    ("ccxt", "aiohttp", "hangs"),
    [("4.5.64", "3.14.4", True), ("4.5.64", "3.14.3", False), ("4.5.90", "3.14.5", False), ("4.5.89", "3.15.0", True)],
)
def test_a_ccxt_that_hangs_with_this_aiohttp_is_not_run(ccxt: str, aiohttp: str, *, hangs: bool) -> None:
    reason = why_not(Case("x", "ccxt_pro", ("ccxt",)), {"ccxt": ccxt, "aiohttp": aiohttp}, native=False)
    assert (reason is not None and "hangs" in reason) == hangs


class Scripted(Runner):
    """A runner whose programs are a script: what each case comes to, time after time."""

    def __init__(self, script: dict[str, list[Any]]) -> None:
        self.interpreters = [Interpreter("one", "3.x", {}), Interpreter("two", "3.y", {"there": "1"})]
        self.order: list[str] = []
        self._script = script

    def measure(self, case: Case) -> dict[str, float]:
        self.order.append(case.name)
        found = self._script[case.name].pop(0)
        if isinstance(found, Exception):
            raise found
        return {"us_a_frame": found}


def group(*names: str, needs: tuple[str, ...] = ()) -> Group:
    made = (*(Case(name, "ours") for name in names), *(Case(name, "ours", (name,)) for name in needs))
    return Group("blast", "A title", "base", "us_a_frame", (), made)


def run(script: dict[str, list[Any]], *, rounds: int, needs: tuple[str, ...] = ()) -> tuple[Scripted, Found, list[Any]]:
    runner = Scripted(script)
    told: list[Any] = []
    found = runner.run(group(*script, needs=needs), rounds, lambda *heard: told.append(heard))
    return runner, found, told


def test_all_cases_run_in_every_round_in_another_order_each_time() -> None:
    runner, found, told = run({"base": [1.0, 2.0, 3.0], "b": [2.0, 2.0, 3.0], "c": [4.0, 8.0, 9.0]}, rounds=3)
    assert runner.order == ["base", "b", "c", "b", "c", "base", "c", "base", "b"]
    assert [heard[:2] for heard in told] == [(number, at) for number in range(3) for at in range(3)]
    assert report.summary(found, "c", "us_a_frame") == (8.0, 4.0, 9.0, 4.0)


def test_a_group_can_be_compared_with_several_of_its_cases_in_each_of_its_figures() -> None:
    rounds: dict[str, list[Any]] = {
        "base": [{"us_a_frame": 4.0, "peak_mb": 10.0}],
        "floor: least": [{"us_a_frame": 2.0, "peak_mb": 5.0}],
        "mine": [{"us_a_frame": 3.0, "peak_mb": 20.0}],
    }
    made = tuple(Case(name, "ours") for name in rounds)
    found = Found(Group("x", "A title", "base", "us_a_frame", ("peak_mb",), made, beside=("floor: least",)), rounds)
    _, heads, *_, row = report.table(found)
    assert heads.split("  ")[-1].strip() == "x floor"
    assert row.split() == ["mine", "3.00", "3.00", "3.00", "0.75", "1.50", "20", "2.00", "4.00"]
    (told,) = report.as_json([found], [], rounds=1, notes=[])["groups"]
    assert told["cases"][2]["ratios"] == {
        "base": {"us_a_frame": 0.75, "peak_mb": 2.0},
        "floor: least": {"us_a_frame": 1.5, "peak_mb": 4.0},
    }


def test_what_could_not_run_and_what_failed_is_reported_in_the_table_and_in_the_json() -> None:
    few = TooFewEvents("3 events were delivered of 5 frames")
    script: dict[str, list[Any]] = {
        "base": [1.0, 2.0],
        "few": [few, 4.0],
        "plain": [CouldNotRun("it offers nothing")],
        "mute": [Failed("no"), Failed("no")],
    }
    runner, found, _ = run(script, rounds=2, needs=("absent",))
    lines = list(report.table(found))
    assert "could not run: absent, because absent is not installed" in lines
    assert "could not run: plain, because it offers nothing" in lines
    assert "failed: few: 3 events were delivered of 5 frames" in lines
    assert "failed: mute: no" in lines
    assert "plain" not in runner.order[4:], "what could not run is not tried again"
    (row,) = (line for line in lines if line.startswith("few "))
    assert row.endswith("(failed in a round)")
    content = report.as_json([found], runner.interpreters, rounds=2, notes=["matplotlib is not installed"])
    assert json.loads(json.dumps(content)) == content
    assert {(row["case"], row["reason"]) for row in content["could_not_run"]} == {
        ("absent", "absent is not installed"),
        ("plain", "it offers nothing"),
        ("chart", "matplotlib is not installed"),
    }
    assert [row["case"] for row in content["failed"]] == ["few", "mute"]
    (told,) = content["groups"]
    by_name = {case["name"]: case for case in told["cases"]}
    assert by_name["few"]["rounds"] == [None, {"us_a_frame": 4.0}]
    assert by_name["few"]["summary"] == {"median": 4.0, "minimum": 4.0, "maximum": 4.0, "ratio": 2.0}
    assert by_name["mute"]["summary"] is None


def test_a_case_takes_the_first_interpreter_that_has_its_libraries() -> None:
    runner, found, _ = run({"base": [1.0]}, rounds=1)
    assert [runner._path(Case("x", "ours", needs)) for needs in ((), ("there",))] == ["one", "two"]
    assert found.could_not_run == {}


def test_a_group_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["blasts"])
    assert "no such group: blasts; there are targets-blast, targets-top" in capsys.readouterr().err


# The server, and one real case.


def test_the_server_serves_markets_time_and_the_snapshot(tape: Tape) -> None:
    with Server(tape) as server, socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as sock:
        reader = sock.makefile("rb")

        def get(target: str) -> Any:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
            fields = dict(line.rstrip().split(b": ") for line in iter(reader.readline, b"\r\n"))
            return json.loads(reader.read(int(fields[b"Content-Length"])))

        assert [market["symbol"] for market in get("/api/v1/markets")] == [SYMBOL]
        assert get("/api/v1/time") > NOW_US // 1000 // 2
        snapshot = get(f"/api/v1/depth?symbol={SYMBOL}&limit=1000")
        assert (snapshot["lastUpdateId"], dict(snapshot["bids"])) == (
            str(tape.snapshots[SYMBOL].last),
            tape.snapshots[SYMBOL].bids,
        )
        assert get("/api/v3/depth?symbol=SOLUSDC&limit=1000")["lastUpdateId"] == tape.snapshots[SYMBOL].last
        reader.close()


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("pace", [None, Pace(100_000, 50)], ids=["blast", "paced"])
def test_the_server_plays_the_tape_between_the_two_marks_with_times_that_are_fresh(
    tape: Tape, pace: Pace | None, *, compression: bool
) -> None:
    framing = WebsocketFraming("h", compression=compression)
    found: list[dict[str, Any]] = []
    with (
        Server(tape, compress=compression) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as sock,
    ):
        began_us = unix_us()
        sock.sendall(framing.open())

        def read_until(is_it: Callable[[dict[str, Any]], bool]) -> None:
            while not (found and is_it(found[-1])):
                found.extend(
                    json.loads(fact.data)["data"] for fact in framing.receive(sock.recv(4096)) if isinstance(fact, TextReceived)
                )

        while not any(isinstance(fact, Connected) for fact in framing.receive(sock.recv(4096))):
            pass
        sock.sendall(framing.send(SendText(subscribe_text([f"{kind}.{SYMBOL}" for kind in ("depth", "trade", "bookTicker")]))))
        read_until(lambda data: data["e"] == "bookTicker")
        warm = [data["u"] for data in found if data["e"] == "depth"]
        assert warm == [message.last for message in tape.warm[SYMBOL]]
        player = Thread(target=server.play, args=(pace,))
        player.start()
        read_until(lambda data: data.get("t") == END_TRADE)
        player.join(PATIENCE_SECONDS)
        assert server.compressing == compression
    start = next(number for number, data in enumerate(found) if data.get("t") == MARK_TRADE)
    played = found[start + 1 : -1]
    expected = [data_of(message, 0) for message in tape.measured]
    assert [{**data, "E": 0, "T": 0} for data in played] == expected
    assert all(began_us <= data["E"] == data["T"] <= unix_us() for data in played)


def test_a_request_that_comes_with_the_end_of_the_tls_handshake_is_read() -> None:
    pytest.importorskip("trustme", reason="trustme is not installed")
    authority = Authority()
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(PATIENCE_SECONDS)
        there.settimeout(PATIENCE_SECONDS)
        wire = Wire(there, authority.context)
        heard: list[bytes] = []

        def serve() -> None:
            wire.shake_hands()
            heard.append(wire.receive())

        server = Thread(target=serve)
        server.start()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ssl.create_default_context(cafile=str(authority.ca_file)).wrap_bio(
            incoming, outgoing, server_hostname="127.0.0.1"
        )
        done = False
        while not done:
            try:
                client.do_handshake()
                done = True
                client.write(b"GET")
            except ssl.SSLWantReadError:
                here.sendall(outgoing.read())
                incoming.write(here.recv(65536))
        here.sendall(outgoing.read())
        server.join(PATIENCE_SECONDS)
    authority.close()
    assert heard == [b"GET"]


@pytest.mark.gate
def test_a_blast_of_two_cases_delivers_every_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    state = main(["layers", "--rounds", "1", "--frames", "2000", "--case", "batches", "--json", str(path)])
    (told,) = json.loads(path.read_text())["groups"]
    assert state == 0, capsys.readouterr().out
    assert {case["name"]: case["rounds"][0]["events"] for case in told["cases"]} == {
        "asyncio": 2000,
        "asyncio, by batches": 2000,
    }
    assert told["cases"][0]["summary"]["ratio"] == 1.0


@pytest.mark.gate
def test_cryptofeeds_own_feed_delivers_every_frame_in_tls_and_of_more_streams_than_it_asks_of_one_socket() -> None:
    frames, symbols = 2000, 70
    assert symbols * 3 > 200
    runner = Runner([sys.executable])
    case = cases._client(*cases.BINANCE, Load(frames, symbols, tls=True))
    (interpreter,) = runner.interpreters
    if reason := why_not(case, interpreter.versions, native=interpreter.native):
        pytest.skip(reason)
    assert runner.measure(case)["events"] == frames


def test_a_client_that_ends_too_early_fails_and_so_does_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "python"
    broken.write_text(
        '#!/bin/sh\ncase "$*" in *installed*) echo \'{"python": "3.x", "versions": {}, "native": false}\';; *) echo broken >&2;; esac\n'
    )
    broken.chmod(0o755)
    assert main(["core", "--rounds", "1", "--python", str(broken), "--case", "book"]) == 1
    assert "failed: book alone: the program ended: broken" in capsys.readouterr().out

"""`backpack-feed recording export` as its users run it: a recording of the sandbox, a pipe, signals, a missing extra."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import pytest

from backpack_proto import BookTicker, Kline, Trade
from backpack_runtime import open_recording
from backpack_runtime.cli.parser import main
from exported import TardisBook, csv_rows, plain_rows

pq = pytest.importorskip("pyarrow.parquet")

PATIENCE_SECONDS = 60
Run: TypeAlias = Callable[..., tuple[int, bytes, bytes]]

COMMAND = (sys.executable, "-W", "error", "-m", "backpack_runtime.cli.parser")
TRADE = (
    b'{"data":{"e":"trade","E":1796385600000009,"T":1796385600000001,"s":"SOL_USDC","p":"150.10","q":"0.50","b":"1","a":"2","t":7,"m":true},'
    b'"stream":"trade.SOL_USDC"}\n'
)


def export(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run it as a program."""
    return subprocess.run(
        (*COMMAND, "recording", "export", *arguments),
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        cwd=Path.cwd(),
    )


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run it in this process, in a folder of its own. Gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, bytes, bytes]:
        code = main(["recording", "export", *arguments])
        return (code, *capfdbinary.readouterr())

    return run


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of two markets of the sandbox, recorded by the command, with a lost connection in them."""
    path = tmp_path_factory.mktemp("recorded") / "my session.jsonl"
    channels = ("--channels", "book,trades,book_ticker,klines.1m", "--seconds", "3", "--faults", "drop@1")
    subprocess.run(
        (*COMMAND, "record", str(path), "SOL_USDC", "AAPL.US_USDC_PERP", *channels, "--sandbox"),
        check=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    return path


def test_a_recording_of_the_sandbox_is_exported_to_both_formats(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_recording(recording) as opened:
        events = [event for _, event in opened.events()]
        last = {symbol: opened.book(symbol) for symbol in ("SOL_USDC", "AAPL.US_USDC_PERP")}
    counts = Counter(type(event) for event in events)
    text = export(str(recording), "--to", "csv", "--compress", "gzip", "--out", "csv")
    arrow = export(str(recording), "--to", "parquet")
    assert (text.returncode, text.stderr, arrow.returncode, arrow.stderr) == (0, b"", 0, b"")
    assert text.stdout.endswith(f"rows of {len(events)} events, in {len(list((tmp_path / 'csv').iterdir()))} files\n".encode())
    assert {path.suffix for path in (tmp_path / "csv").iterdir()} == {".gz"}
    for table, kind in (("trades", Trade), ("book_ticker", BookTicker)):
        rows = pq.read_table(tmp_path / "my session-parquet" / f"{table}.parquet").num_rows
        assert rows == len(list(plain_rows(tmp_path / "csv", table))) == counts[kind] > 0
    assert counts[Kline] > 0
    for symbol, book in last.items():
        reader = TardisBook()
        *rows, end = chain(*map(csv_rows, sorted((tmp_path / "csv").glob(f"*incremental_book_L2*_{symbol}.csv.gz"))))
        reader.read(rows)
        best_bid, best_ask = book.best_bid, book.best_ask
        assert best_bid is not None
        assert best_ask is not None
        assert (max(reader.bids.items()), min(reader.asks.items())) == (tuple(best_bid), tuple(best_ask))
        # The session was closed, so there is no book any more.
        assert (end["is_snapshot"], end["amount"]) == ("true", "0")
    states = [row["event"] for row in plain_rows(tmp_path / "csv", "book_states")]
    assert Counter(states) == {"BookSynced": 4, "BookDesynced": 4}


def test_what_is_there_already_or_was_not_recorded_costs_one_line_and_2(recording: Path, inside: Run) -> None:
    chosen = (str(recording), "--to", "csv", "--only", "trades", "--out", "made")
    assert inside(*chosen, "--symbols", "SOL-USDC")[0] == 0
    [made] = Path("made").iterdir()
    before = made.read_bytes()
    for arguments, complaint in (
        ((), b"is there already; give another folder, or replace it with force=True (--force)"),
        (("--symbols", "SOL_USDX"), b"symbols: no event is of 'SOL_USDX'; did you mean SOL_USDC?"),
        (("--only", "trade"), b"only: one of trades, tops, books, candles, got 'trade'; did you mean trades?"),
    ):
        code, output, errors = inside(*chosen, *arguments)
        [line] = errors.splitlines()
        assert (code, output) == (2, b"")
        assert complaint in line
    assert [(path, path.read_bytes()) for path in Path("made").iterdir()] == [(made, before)]
    assert inside(*chosen, "--force")[0] == 0


def test_frames_alone_are_exported_without_a_local_time(inside: Run) -> None:
    Path("frames.jsonl").write_bytes(TRADE * 2)
    code, output, errors = inside("frames.jsonl", "--to", "csv")
    assert (code, errors) == (0, b"")
    assert output.splitlines()[-1].split() == b"2 rows of 3 events, in 1 file".split()
    [path] = Path("frames-csv").iterdir()
    assert path.name == "backpack_trades_2026-12-04_SOL_USDC.csv"
    assert path.read_text().splitlines()[1:] == ["backpack,SOL_USDC,1796385600000001,,7,sell,150.10,0.50"] * 2


def test_nothing_to_write_is_said_by_the_exit_code(inside: Run) -> None:
    Path("frames.jsonl").write_bytes(TRADE)
    told = b"backpack-feed: frames.jsonl: 2 events, none of which has a row in candles, books\n"
    assert inside("frames.jsonl", "--to", "csv", "--only", "candles,books") == (1, b"", told)
    assert [path.name for path in Path().iterdir()] == ["frames.jsonl"]


def test_a_recording_without_an_end_is_exported_with_a_warning(recording: Path, inside: Run) -> None:
    Path("torn.jsonl").write_bytes(recording.read_bytes()[:-200])
    code, _, errors = inside("torn.jsonl", "--to", "csv", "--only", "books")
    assert code == 0
    assert errors == b"backpack-feed: warning: the last line of the recording is cut off; what came before it was exported\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_file(number: signal.Signals, code: int, tmp_path: Path) -> None:
    # It waits for more input, so it is in the middle when the signal comes.
    with subprocess.Popen(
        (*COMMAND, "recording", "export", "-", "--to", "csv", "--out", str(tmp_path / "made")), stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(TRADE * 1_000)
        process.stdin.flush()
        try:
            wait_for(tmp_path / "made")
            process.send_signal(number)
            assert process.wait(PATIENCE_SECONDS) == code
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == []


def wait_for(folder: Path) -> None:
    """Wait until an export has begun in a folder."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not (folder.exists() and any(folder.iterdir())):
        assert time.monotonic() < give_up, "it did not begin"
        select.select([], [], [], 0.01)


def test_parquet_without_its_extra_costs_one_line_and_2(recording: Path, tmp_path: Path) -> None:
    program = "import sys; sys.modules['pyarrow'] = None; from backpack_runtime.cli.parser import main; sys.exit(main())"
    arguments = ("recording", "export", str(recording), "--to", "parquet", "--out", "made")
    ended = subprocess.run(
        (sys.executable, "-c", program, *arguments), capture_output=True, check=False, timeout=PATIENCE_SECONDS, cwd=tmp_path
    )
    assert (ended.returncode, ended.stdout) == (2, b"")
    [line] = ended.stderr.splitlines()
    assert b'an export to Parquet needs the extra "parquet" (' in line
    assert list(tmp_path.iterdir()) == []

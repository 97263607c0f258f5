"""The exported rows of a book, read by somebody who knows the layout only, give the book of the session at every update id."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from msgspec.structs import replace

from backpack_proto import Depth, Event, Level, Now, RemoteProtocolError, Session
from backpack_proto.book.levels import Coverage
from backpack_proto.inputs import Connected, Open, ResponseReceived, Subscribe, TextReceived, TimerFired
from backpack_proto.outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    BookUnavailable,
    ConnectionDown,
    MarketClosed,
    MarketOpened,
    SendRequest,
)
from backpack_proto.testing import BookHistory, Episode, Simulation
from backpack_proto.testing.strategies import book_histories
from backpack_runtime import export_events
from exported import TardisBook, csv_rows, plain_rows
from hypothesis_profiles import examples
from levels import by_price

pq = pytest.importorskip("pyarrow.parquet")

Side: TypeAlias = dict[Decimal, Decimal]

STREAM, SYMBOL = "depth.SOL_USDC", "SOL_USDC"
NOON_US = 1_796_385_600_000_000
"""2026-12-04 12:00 UTC."""
DAY_US = 86_400_000_000


def synced(last: int, bids: str = "", asks: str = "", *, stream: str = STREAM) -> BookSynced:
    return BookSynced(stream=stream, symbol=SYMBOL, last=last, engine_us=NOON_US + last, bids=levels(bids), asks=levels(asks))


def depth(first: int, last: int, bids: str = "", asks: str = "") -> Depth:
    return Depth(
        emitted_us=NOON_US + last,
        symbol=SYMBOL,
        engine_us=NOON_US + last,
        first_update_id=first,
        last_update_id=last,
        bids=levels(bids),
        asks=levels(asks),
    )


def changed(first: int, last: int, bids: str = "", asks: str = "", *, stream: str = STREAM) -> BookChanged:
    delta = depth(first, last, bids, asks)
    return BookChanged(
        stream=stream,
        symbol=SYMBOL,
        first=first,
        last=last,
        engine_us=delta.engine_us,
        bids=(),
        asks=(),
        verified=False,
        delta=delta,
    )


def desynced(last: int) -> BookDesynced:
    return BookDesynced(stream=STREAM, symbol=SYMBOL, last=last, reason="gap", diverged=False, error=RemoteProtocolError("gap"))


def levels(text: str) -> tuple[Level, ...]:
    """`150:2 149:0` as levels."""
    return tuple(Level(*pair.split(":")) for pair in text.split())


def timed(*events: Event, start_us: int = NOON_US, step_us: int = 1_000) -> list[tuple[Now, Event]]:
    return [(Now(place, start_us + place * step_us), event) for place, event in enumerate(events)]


def rows_of(events: Sequence[Any], folder: Path, table: str = "incremental_book_L2") -> list[dict[str, Any]]:
    export_events(events, folder, to="parquet", only=["books", "tops"], force=True)
    path = folder / f"{table}.parquet"
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.exists() else []
    return rows


def book_of(rows: Sequence[Any]) -> str:
    book = TardisBook()
    book.read(rows)
    bids, asks = (
        " ".join(f"{price.normalize():f}:{side[price].normalize():f}" for price in prices)
        for side, prices in ((book.bids, sorted(book.bids, reverse=True)), (book.asks, sorted(book.asks)))
    )
    return f"{bids} | {asks}"


# Against the session.


class Witness:
    """The books that a session had, as they were when it had them: all, or each of so many."""

    def __init__(self, each: int = 1) -> None:
        self.each = each
        self.books: dict[tuple[str, int], tuple[Coverage, Side, Side]] = {}
        self.events: list[tuple[Now, Event]] = []

    def see(self, now: Now, event: Event, session: Session) -> None:
        self.events.append((now, event))
        if isinstance(event, BookSynced) or (isinstance(event, BookChanged) and len(self.events) % self.each == 0):
            book = session.book(event.stream)
            if book.last == event.last:
                self.books[event.stream, event.last] = (book.coverage, by_price(book.bids()), by_price(book.asks()))

    def check(self, folder: Path) -> int:
        """Read the export, and compare each book that can be compared. Returns how many these were."""
        compared = 0
        readers: dict[str, TardisBook] = {}
        rows = rows_of(self.events, folder)
        for (stream, last), group in groupby(rows, key=lambda row: (row["stream"], row["last_update_id"])):
            reader = readers.setdefault(stream, TardisBook())
            for ended, part in groupby(group, key=lambda row: row["first_update_id"] is None):
                reader.read(part)
                if ended:
                    assert (reader.bids, reader.asks) == ({}, {})
                elif (stream, last) in self.books:
                    coverage, bids, asks = self.books[stream, last]
                    floor, ceiling = coverage.lowest_bid, coverage.highest_ask
                    assert bids == {price: held for price, held in reader.bids.items() if floor is None or price >= floor}
                    assert asks == {price: held for price, held in reader.asks.items() if ceiling is None or price <= ceiling}
                    compared += 1
        export_events(self.events, folder / "csv", to="csv", only=["books"], force=True)
        texts = [tuple(row.values()) for row in plain_rows(folder / "csv", "incremental_book_L2")]
        assert sorted(map(numbers, texts)) == sorted(numbers(as_csv(row)) for row in rows)
        return compared


def as_csv(row: dict[str, Any]) -> tuple[str, ...]:
    moments = (str(int(row[name].timestamp()) * 1_000_000 + row[name].microsecond) for name in ("timestamp", "local_timestamp"))
    flag = "true" if row["is_snapshot"] else "false"
    return ("backpack", row["symbol"], *moments, flag, row["side"], str(row["price"]), str(row["amount"]))


def numbers(row: Sequence[str]) -> tuple[Any, ...]:
    return (*row[:6], Decimal(row[6]), Decimal(row[7]))


@pytest.mark.parametrize(
    "faults",
    [
        (),
        (
            Episode(fault="drop", start_ms=12_000),
            Episode(fault="drop", start_ms=14_000),
            Episode(fault="drop", start_ms=22_000),
        ),
        (Episode(fault="gap", start_ms=9_000, duration_ms=12_000, every=7),),
        (Episode(fault="reorder", start_ms=9_000, duration_ms=10_000, every=5), Episode(fault="drop", start_ms=20_000)),
        (Episode(fault="mute", start_ms=8_000, duration_ms=15_000),),
        (
            Episode(fault="lost", start_ms=8_000, duration_ms=6_000),
            Episode(fault="gap", start_ms=8_000, duration_ms=3_000, every=2),
        ),
    ],
    ids=lambda faults: "-".join(episode.fault for episode in faults) or "calm",
)
def test_the_rows_of_a_run_with_faults_give_the_books_of_its_session(faults: tuple[Episode, ...], tmp_path: Path) -> None:
    simulation = Simulation.of_streams(STREAM, "bookTicker.SOL_USDC", "depth.200ms.SOL_USDC", seed=5, faults=faults)
    witness = Witness(each=12)
    simulation.on_event = lambda event: witness.see(simulation.now, event, simulation.session)
    simulation.run(25_000_000)
    assert witness.check(tmp_path) > 40
    kinds = {type(event) for _, event in witness.events}
    assert bool(faults) == bool(kinds & {BookDesynced, BookStale})


@examples(80)
@given(book_histories())
def test_any_history_gives_the_book_of_the_session_at_every_update_id(history: BookHistory) -> None:
    session = Session(Random(1), canary=False, audit_books=False)
    witness = Witness()
    now = Now(1_000_000, NOON_US)
    sent = 0

    def give(given: Any) -> None:
        pending: list[Any] = [given]
        while pending:
            for output in session.handle_all([pending.pop(0)], now):
                if isinstance(output, SendRequest):
                    pending.append(ResponseReceived(request_id=output.request_id, status=200, body=history.snapshot(sent)))
                elif isinstance(output, Event):
                    witness.see(now, output, session)

    for command in (Open(), Connected(), Subscribe((STREAM,))):
        give(command)
    for frame in history.frames:
        sent = min(sent + 1, len(history.deltas))
        now = Now(now.mono_us + 5_000_000, now.unix_us + 5_000_000)
        give(TextReceived(frame))
        give(TimerFired())
    with TemporaryDirectory() as folder:
        witness.check(Path(folder))


# By hand: what a reader sees.


def test_a_removed_level_is_an_amount_of_zero(tmp_path: Path) -> None:
    rows = rows_of(timed(synced(1, "150:2 149:1", "151:3"), changed(2, 3, "149:0", "151:4 152:1")), tmp_path)
    assert [(row["is_snapshot"], row["side"], str(row["price"].normalize()), int(row["amount"])) for row in rows[3:]] == [
        (False, "bid", "149", 0),
        (False, "ask", "151", 4),
        (False, "ask", "152", 1),
    ]
    assert book_of(rows) == "150:2 | 151:4 152:1"


@pytest.mark.parametrize(
    "between",
    [[], [changed(2, 2, "148:1")], [changed(2, 2, "150:0 149:0", "151:0")]],
    ids=["at once", "after a change", "empty"],
)
@pytest.mark.parametrize(
    "end",
    [
        desynced(2),
        MarketClosed(symbol=SYMBOL),
        changed(9, 9, "149.5:7"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_book_that_ends_is_taken_from_its_reader_until_the_next_snapshot(
    between: list[Event], end: Event, tmp_path: Path
) -> None:
    begun = [synced(1, "150:2 149:1", "151:3"), *between]
    assert book_of(rows_of(timed(*begun, end), tmp_path)) == " | "
    assert book_of(rows_of(timed(*begun, end, synced(20, "147:5")), tmp_path)) == "147:5 | "
    assert book_of(rows_of(timed(*begun, end, synced(20), changed(21, 21, "", "155:1")), tmp_path)) == " | 155:1"
    states = rows_of(timed(*begun, end, synced(20)), tmp_path, "book_states")
    assert [row["state"] for row in states] == ["live", "closed" if isinstance(end, MarketClosed) else "stale", "live"]
    assert states[1]["event"] == type(end).__name__


def test_the_first_change_of_an_empty_snapshot_is_the_snapshot(tmp_path: Path) -> None:
    rows = rows_of(timed(synced(1), changed(2, 3), changed(4, 4, "150:1", "151:2"), changed(5, 5, "149:1")), tmp_path)
    assert [row["is_snapshot"] for row in rows] == [True, True, False]
    assert book_of(rows) == "150:1 149:1 | 151:2"


def test_a_snapshot_that_follows_a_snapshot_replaces_it(tmp_path: Path) -> None:
    assert book_of(rows_of(timed(synced(1, "150:2 149:1", "151:3"), synced(5, "149:4")), tmp_path)) == "149:4 | "


def test_changes_that_are_missing_are_named_and_those_behind_them_left_out(tmp_path: Path) -> None:
    events = timed(
        synced(1, "150:2"), changed(2, 2, "149:1"), changed(5, 6, "148:1"), changed(7, 7, "147:1"), synced(9, "140:1")
    )
    made = export_events(events, tmp_path / "csv", to="csv")
    assert made.left_out == 2
    stale = rows_of(events, tmp_path, "book_states")[1]
    assert (stale["state"], stale["update_id"], stale["reason"]) == ("stale", 2, "changes are missing: 3 was expected, 5 came")
    assert book_of(rows_of(events[:-1], tmp_path)) == " | "
    assert book_of(rows_of(events, tmp_path)) == "140:1 | "


def test_changes_without_a_snapshot_are_rows_that_a_reader_skips(tmp_path: Path) -> None:
    rows = rows_of([depth(1, 2, "150:1"), depth(3, 3, "149:1"), depth(7, 7, "148:1")], tmp_path)
    assert [(row["is_snapshot"], row["last_update_id"], row["local_timestamp"]) for row in rows] == [
        (False, 2, None),
        (False, 3, None),
        (False, 7, None),
    ]
    assert book_of(rows) == " | "
    [state] = rows_of([depth(1, 2, "150:1"), depth(3, 3, "149:1"), depth(7, 7, "148:1")], tmp_path, "book_states")
    assert (state["state"], state["event"], state["reason"]) == (
        "stale",
        "Depth",
        "changes are missing: 4 was expected, 7 came",
    )


def test_a_lost_connection_is_named_once(tmp_path: Path) -> None:
    down = ConnectionDown(reason="reset", code=None, retry_us=1)
    states = rows_of(timed(synced(1, "150:2"), down, desynced(1), down), tmp_path, "book_states")
    assert [row["event"] for row in states] == ["BookSynced", "BookDesynced"]
    states = rows_of([depth(1, 2, "150:1"), down, down, depth(9, 9, "149:1")], tmp_path, "book_states")
    assert [(row["event"], row["reason"]) for row in states] == [("ConnectionDown", "reset")]


def test_a_change_that_waited_for_its_snapshot_is_not_older_than_it(tmp_path: Path) -> None:
    delta = depth(2, 2, "149:1")
    early = BookChanged(
        stream=STREAM,
        symbol=SYMBOL,
        first=2,
        last=2,
        engine_us=1,
        bids=(),
        asks=(),
        verified=False,
        delta=received(delta, NOON_US - 5),
    )
    rows = rows_of(timed(synced(1, "150:2"), early), tmp_path)
    assert rows[0]["local_timestamp"] == rows[1]["local_timestamp"]


def received(delta: Depth, moment_us: int) -> Depth:
    return replace(delta, received_us=moment_us)


def test_the_quotes_are_those_of_a_live_book_whenever_they_change(tmp_path: Path) -> None:
    stale = BookStale(stream=STREAM, symbol=SYMBOL, last=3, reason="no proof")
    events = timed(
        synced(1, "150:2 149:1", "151:3"),
        changed(2, 2, "148:1"),
        changed(3, 3, "150:1"),
        stale,
        changed(4, 4, "150:0"),
        BookConfirmed(stream=STREAM, symbol=SYMBOL, last=4),
        desynced(4),
    )
    quotes = rows_of(events, tmp_path, "quotes")
    assert [(row["bid_price"], row["bid_amount"], row["ask_price"], row["update_id"]) for row in quotes] == [
        (150, 2, 151, 1),
        (150, 1, 151, 3),
        (None, None, None, 3),
        (149, 1, 151, 4),
        (None, None, None, None),
    ]
    assert [row["state"] for row in rows_of(events, tmp_path, "book_states")] == ["live", "stale", "live", "stale"]


def test_what_has_no_time_of_its_own_has_that_of_the_event_before_it(tmp_path: Path) -> None:
    unavailable = BookUnavailable(stream=STREAM, symbol=SYMBOL, reason="503", retry_us=1)
    other = replace(depth(1, 5), symbol="BTC_USDC")
    made = export_events([other, unavailable, synced(9), desynced(9)], tmp_path, to="csv", only=["books"])
    assert [file.path.name for file in made.files] == ["backpack_book_states_2026-12-04_SOL_USDC.csv"]
    times = [(row["timestamp"], row["local_timestamp"]) for row in csv_rows(made.files[0].path)]
    assert times == [(str(NOON_US + 5), ""), (str(NOON_US + 9), ""), (str(NOON_US + 9), "")]


def test_a_market_that_is_closed_or_has_no_snapshot_is_named(tmp_path: Path) -> None:
    events = timed(
        MarketClosed(symbol="MU.US_USDC"),
        MarketOpened(symbol="MU.US_USDC"),
        BookUnavailable(stream=STREAM, symbol=SYMBOL, reason="503", retry_us=1),
        BookUnavailable(stream=STREAM, symbol=SYMBOL, reason="503", retry_us=1),
    )
    states = rows_of(events, tmp_path, "book_states")
    assert [(row["symbol"], row["state"], row["event"]) for row in states] == [
        ("MU.US_USDC", "closed", "MarketClosed"),
        ("MU.US_USDC", "stale", "MarketOpened"),
        (SYMBOL, "stale", "BookUnavailable"),
    ]


def test_each_day_begins_with_the_book_as_it_stood_at_midnight(tmp_path: Path) -> None:
    events = [
        *timed(synced(1, "150:2 149:1", "151:3"), changed(2, 2, "149:0"), start_us=NOON_US),
        *timed(changed(3, 3, "148:6"), changed(4, 4, "150:0"), start_us=NOON_US + DAY_US),
        *timed(BookStale(stream=STREAM, symbol=SYMBOL, last=4, reason="no proof"), start_us=NOON_US + 2 * DAY_US),
        *timed(changed(5, 5, "", "151:0"), start_us=NOON_US + 4 * DAY_US),
    ]
    export_events(events, tmp_path, to="csv", only=["books", "tops"])
    days = ["2026-12-04", "2026-12-05", "2026-12-06", "2026-12-08"]
    files = sorted(tmp_path.glob("*incremental*"))
    assert [path.name.split("_")[4] for path in files] == days
    read = [csv_rows(path) for path in files]
    assert [book_of(rows) for rows in read] == ["150:2 | 151:3", "148:6 | 151:3", "148:6 | 151:3", "148:6 | "]
    assert book_of([row for rows in read for row in rows]) == "148:6 | "
    midnights = [int(rows[0]["local_timestamp"]) for rows in read[1:]]
    assert all(not moment % DAY_US for moment in midnights)
    assert [row["is_snapshot"] for row in read[1]] == ["true", "true", "false", "false"]
    states = [[(row["state"], row["event"]) for row in csv_rows(path)] for path in sorted(tmp_path.glob("*book_states*"))]
    assert states == [
        [("live", "BookSynced")],
        [("live", "BookSynced")],
        [("live", "BookSynced"), ("stale", "BookStale")],
        [("stale", "BookStale")],
    ]
    quotes = [[row["bid_price"] for row in csv_rows(path)] for path in sorted(tmp_path.glob("*quotes*"))]
    assert quotes == [["150"], ["150", "148"], ["148", ""], [""]]


def test_a_book_that_is_empty_at_midnight_begins_the_day_with_its_first_change(tmp_path: Path) -> None:
    events = [*timed(synced(1, "150:2"), changed(2, 2, "150:0")), *timed(changed(3, 3, "148:6"), start_us=NOON_US + DAY_US)]
    export_events(events, tmp_path, to="csv", only=["books"])
    [_, day] = [csv_rows(path) for path in sorted(tmp_path.glob("*incremental*"))]
    assert book_of(day) == "148:6 | "


def test_a_clock_that_is_set_back_over_midnight_begins_no_day_again(tmp_path: Path) -> None:
    midnight_us = NOON_US + DAY_US // 2
    events = [
        (Now(1, midnight_us - 10), synced(1, "150:2")),
        (Now(2, midnight_us + 10), changed(2, 2, "149:1")),
        (Now(3, midnight_us - 5), changed(3, 3, "148:1")),
        (Now(4, midnight_us + 20), changed(4, 4, "147:1")),
    ]
    export_events(events, tmp_path, to="csv", only=["books"])
    rows = [csv_rows(path) for path in sorted(tmp_path.glob("*incremental*"))]
    assert [[row["is_snapshot"] for row in day] for day in rows] == [["true", "false"], ["true", "false", "false"]]


def test_an_aggregated_stream_has_a_file_of_its_own(tmp_path: Path) -> None:
    other = "depth.200ms.SOL_USDC"
    events = timed(synced(1, "150:2"), synced(1, "150:2", stream=other), changed(2, 3, "149:1", stream=other))
    made = export_events(events, tmp_path, to="csv", only=["books"])
    assert [(file.path.name, file.rows) for file in made.files if file.table == "incremental_book_L2"] == [
        ("backpack_incremental_book_L2_2026-12-04_200ms.SOL_USDC.csv", 2),
        ("backpack_incremental_book_L2_2026-12-04_SOL_USDC.csv", 1),
    ]

"""What is exported is read back equal: by the csv module, by pyarrow and by pandas, as exact numbers."""

from __future__ import annotations

import gzip
import hashlib
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import backpack_proto
from backpack_proto import BookTicker, ConfigurationError, Depth, Event, Kline, Level, Now, Trade
from backpack_proto.outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    BookUnavailable,
    ConnectionDown,
    EventsDropped,
    MarketClosed,
    MarketOpened,
)
from backpack_proto.testing import Simulation
from backpack_proto.testing.strategies import events, payloads
from backpack_runtime import Exported, ExportFailed, MissingExtra, export_events
from exported import csv_rows, plain_rows
from hypothesis_profiles import examples

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

D = Decimal
NOON_US = 1_796_385_600_000_000
"""2026-12-04 12:00 UTC."""
LAYOUTS = {
    "trades": "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
    "book_ticker": "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
    "quotes": "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
    "incremental_book_L2": "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
    "book_states": "exchange,symbol,timestamp,local_timestamp,state,event,update_id,reason,stream",
    "candles": "exchange,symbol,timestamp,local_timestamp,interval,start_timestamp,end_timestamp,open,high,low,close,volume,"
    "trade_count,closed",
}
"""The layouts of tardis, as its documents of data types have them. The last two are ours."""


def trade(**members: Any) -> Trade:
    whole: dict[str, Any] = {
        "emitted_us": NOON_US + 2,
        "symbol": "SOL_USDC",
        "engine_us": NOON_US,
        "trade_id": 7,
        "price": D("150.10"),
        "quantity": D("0.5"),
        "buyer_is_maker": True,
        "received_us": NOON_US + 9,
    }
    return Trade(**whole | members)


def candle(**members: Any) -> Kline:
    whole: dict[str, Any] = {
        "emitted_us": NOON_US + 60_000_000,
        "symbol": "SOL_USDC",
        "start_us": NOON_US,
        "end_us": NOON_US + 60_000_000,
        "closed": True,
        "trade_count": 3,
        "volume": D("12.50"),
        "open": D(150),
        "high": D(151),
        "low": D("149.99"),
        "close": D("150.5"),
        "interval": "1m",
        "received_us": NOON_US + 60_000_100,
    }
    return Kline(**whole | members)


def ticker(**members: Any) -> BookTicker:
    whole: dict[str, Any] = {
        "emitted_us": NOON_US + 2,
        "symbol": "SOL_USDC",
        "engine_us": NOON_US,
        "update_id": 12,
        "bid_price": D(150),
        "bid_quantity": D("3.0"),
        "ask_price": None,
        "ask_quantity": None,
    }
    return BookTicker(**whole | members)


def table_of(folder: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def micros(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp()) * 1_000_000 + moment.microsecond


def number(text: str) -> Decimal | None:
    return D(text) if text else None


def whole(text: str) -> int | None:
    return int(text) if text else None


@pytest.fixture(scope="module")
def recorded() -> list[tuple[Now, Event]]:
    """Some seconds of a market, with a lost connection in them."""
    simulation = Simulation.of_streams(
        "depth.SOL_USDC", "bookTicker.SOL_USDC", "trade.SOL_USDC", "kline.1m.SOL_USDC", "depth.BTC_USDC", seed=3
    )
    seen: list[tuple[Now, Event]] = []
    simulation.on_event = lambda event: seen.append((simulation.now, event))
    simulation.run(4_000_000)
    simulation.cut()
    simulation.run(6_000_000)
    return seen


# Equal, in both formats.


def test_every_layout_is_the_one_of_the_documents(recorded: list[tuple[Now, Event]], tmp_path: Path) -> None:
    export_events(recorded, tmp_path, to="csv", symbols=["SOL_USDC"], unclosed=True)
    headers = {path.name.split("_2023-")[0]: path.read_text().splitlines()[0] for path in tmp_path.iterdir()}
    assert headers == {f"backpack_{name}": layout for name, layout in LAYOUTS.items()}


@examples(40)
@given(st.lists(payloads(Trade, BookTicker, Kline), max_size=6))
def test_payloads_are_read_back_equal_from_csv_and_from_parquet(drawn: list[Any]) -> None:
    events = [replace(event, received_us=None if place % 2 else NOON_US + place) for place, event in enumerate(drawn)]
    with TemporaryDirectory() as name:
        folder = Path(name)
        export_events(events, folder / "csv", to="csv", unclosed=True)
        export_events(events, folder / "parquet", to="parquet", unclosed=True)
        for kind, table, read_text, read_arrow in (
            (Trade, "trades", trade_of_text, trade_of_arrow),
            (BookTicker, "book_ticker", ticker_of_text, ticker_of_arrow),
            (Kline, "candles", candle_of_text, candle_of_arrow),
        ):
            sent = [event for event in events if isinstance(event, kind)]
            assert sorted(map(read_text, plain_rows(folder / "csv", table)), key=repr) == sorted(
                (seen_in_csv(event) for event in sent), key=repr
            )
            if sent:
                assert [read_arrow(row) for row in table_of(folder / "parquet", table)] == [seen(event) for event in sent]
            else:
                assert not (folder / "parquet" / f"{table}.parquet").exists()


KINDS: tuple[type[Event], ...] = (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    BookTicker,
    BookUnavailable,
    ConnectionDown,
    Depth,
    EventsDropped,
    Kline,
    MarketClosed,
    MarketOpened,
    Trade,
)


@examples(40)
@given(st.lists(st.tuples(st.integers(0, 3 * 86_400) | st.none(), events(*KINDS)), max_size=20))
def test_any_events_in_any_order_are_exported_to_both_formats(drawn: list[tuple[int | None, Event]]) -> None:
    given_events: list[Any] = [
        event if second is None else (Now(second, NOON_US + second * 1_000_000), event) for second, event in drawn
    ]
    with TemporaryDirectory() as name:
        folder = Path(name)
        text = export_events(given_events, folder / "csv", to="csv", unclosed=True)
        arrow = export_events(given_events, folder / "parquet", to="parquet", unclosed=True)
        assert text.events == arrow.events == len(drawn)
        assert text.left_out == arrow.left_out
        for file in arrow.files:
            assert pq.read_metadata(file.path).num_rows == file.rows
            # Each day of CSV begins with rows of its own.
            assert sum(one.rows for one in text.files if one.table == file.table) >= file.rows
        for file in text.files:
            assert len(csv_rows(file.path)) == file.rows


def seen(event: Any) -> tuple[Any, ...]:
    """What the tables have of an event."""
    match event:
        case Trade():
            orders = (event.emitted_us, event.buyer_order_id, event.seller_order_id)
            side = "sell" if event.buyer_is_maker else "buy"
            return (
                event.symbol,
                event.engine_us,
                event.received_us,
                event.trade_id,
                side,
                event.price,
                event.quantity,
                *orders,
            )
        case BookTicker():
            asks, bids = (event.ask_quantity, event.ask_price), (event.bid_price, event.bid_quantity)
            return (event.symbol, event.engine_us, event.received_us, *asks, *bids, event.emitted_us, event.update_id)
        case _:
            prices = (event.open, event.high, event.low, event.close, event.volume)
            times = (event.emitted_us, event.received_us, event.interval, event.start_us, event.end_us)
            return (event.symbol, *times, *prices, event.trade_count, event.closed)


def seen_in_csv(event: Any) -> tuple[Any, ...]:
    """What CSV has of it: exactly the columns of tardis, and nothing more."""
    return seen(event)[: None if isinstance(event, Kline) else 7]


def trade_of_text(row: dict[str, str]) -> tuple[Any, ...]:
    times = (whole(row["timestamp"]), whole(row["local_timestamp"]))
    return (row["symbol"], *times, whole(row["id"]), row["side"], number(row["price"]), number(row["amount"]))


def ticker_of_text(row: dict[str, str]) -> tuple[Any, ...]:
    times = (whole(row["timestamp"]), whole(row["local_timestamp"]))
    return (row["symbol"], *times, *(number(row[name]) for name in ("ask_amount", "ask_price", "bid_price", "bid_amount")))


def candle_of_text(row: dict[str, str]) -> tuple[Any, ...]:
    times = (whole(row["timestamp"]), whole(row["local_timestamp"]))
    span = (row["interval"], whole(row["start_timestamp"]), whole(row["end_timestamp"]))
    prices = (number(row[name]) for name in ("open", "high", "low", "close", "volume"))
    return (
        row["symbol"],
        *times,
        *span,
        *prices,
        whole(row["trade_count"]),
        {"true": True, "false": False, "": None}[row["closed"]],
    )


def trade_of_arrow(row: dict[str, Any]) -> tuple[Any, ...]:
    times = (micros(row["timestamp"]), micros(row["local_timestamp"]))
    orders = (micros(row["emitted_timestamp"]), row["buyer_order_id"], row["seller_order_id"])
    return (row["symbol"], *times, row["id"], row["side"], row["price"], row["amount"], *orders)


def ticker_of_arrow(row: dict[str, Any]) -> tuple[Any, ...]:
    times = (micros(row["timestamp"]), micros(row["local_timestamp"]))
    top = (row[name] for name in ("ask_amount", "ask_price", "bid_price", "bid_amount"))
    return (row["symbol"], *times, *top, micros(row["emitted_timestamp"]), row["update_id"])


def candle_of_arrow(row: dict[str, Any]) -> tuple[Any, ...]:
    times = (micros(row["timestamp"]), micros(row["local_timestamp"]))
    span = (row["interval"], micros(row["start_timestamp"]), micros(row["end_timestamp"]))
    prices = (row[name] for name in ("open", "high", "low", "close", "volume"))
    return (row["symbol"], *times, *span, *prices, row["trade_count"], row["closed"])


def test_a_number_is_written_in_csv_with_the_digits_that_were_sent(tmp_path: Path) -> None:
    events = [trade(price=D("150.10"), quantity=D("1E+3")), trade(price=D("0.0000000100"), quantity=D("1E-7"))]
    export_events(events, tmp_path, to="csv")
    rows = plain_rows(tmp_path, "trades")
    assert [(row["price"], row["amount"]) for row in rows] == [("150.10", "1000"), ("0.0000000100", "0.0000001")]


def test_the_side_of_a_trade_is_that_of_the_taker(tmp_path: Path) -> None:
    export_events([trade(buyer_is_maker=True), trade(buyer_is_maker=False)], tmp_path, to="csv")
    assert [row["side"] for row in plain_rows(tmp_path, "trades")] == ["sell", "buy"]


def test_pandas_reads_both_formats(recorded: list[tuple[Now, Event]], tmp_path: Path) -> None:
    export_events(recorded, tmp_path / "csv", to="csv", only=["trades"], compress="gzip")
    export_events(recorded, tmp_path / "parquet", to="parquet", only=["trades"])
    [path] = (tmp_path / "csv").iterdir()
    from_csv = pd.read_csv(path, converters={"price": D, "amount": D})
    from_parquet = pd.read_parquet(tmp_path / "parquet" / "trades.parquet")
    assert list(from_csv["price"]) == list(from_parquet["price"])
    assert list(from_csv["amount"]) == list(from_parquet["amount"])
    assert list(from_csv["timestamp"]) == [
        moment.value // 1000 for moment in from_parquet["timestamp"].astype("datetime64[ns, UTC]")
    ]
    assert all(isinstance(price, D) for price in from_parquet["price"])
    assert str(from_parquet["timestamp"].dtype) == "datetime64[us, UTC]"


# Parquet.


def test_the_columns_of_parquet_have_types(tmp_path: Path) -> None:
    extremes = [D("99999999999999999999.9999999999"), D("0.0000000001")]
    export_events([trade(price=price) for price in extremes], tmp_path, to="parquet")
    table = pq.read_table(tmp_path / "trades.parquet")
    assert table.schema.field("price").type == pa.decimal128(30, 10)
    assert table.schema.field("id").type == pa.int64()
    assert table.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert table.column("price").to_pylist() == extremes


@pytest.mark.parametrize(
    ("longest", "kind"),
    [
        ([D("99999999999999999999." + "9" * 18), D("1E-18")], pa.decimal128(38, 18)),
        ([D("99999999999999999999." + "9" * 28), D("1E-28")], pa.decimal256(76, 56)),
        ([D("1E-11"), D("3.10"), D("1.5" + "0" * 53 + "1")], pa.decimal256(76, 56)),
    ],
)
def test_a_number_with_more_digits_widens_its_file_and_nothing_is_rounded(
    longest: list[Decimal], kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backpack_runtime.exports.parquet_files._GROUP", 2)
    prices = [*(D(place) / 8 for place in range(1, 6)), *longest, D(3)]
    made = export_events([trade(price=price) for price in prices], tmp_path, to="parquet")
    with pq.ParquetFile(tmp_path / "trades.parquet") as file:
        assert file.schema_arrow.field("price").type == kind
        assert file.schema_arrow.metadata[b"backpack_feed.table"] == b"trades"
        assert file.num_row_groups == (len(prices) + 1) // 2
    assert [row["price"] for row in table_of(tmp_path, "trades")] == prices
    assert [file.rows for file in made.files] == [len(prices)]


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_events(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backpack_runtime.exports.csv_files._WAITING", 500)
    monkeypatch.setattr("backpack_runtime.exports.parquet_files._GROUP", 500)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            export_events((trade(trade_id=place) for place in range(count)), tmp_path / str(count), to=to)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(600)  # loads what is loaded once
    assert peak(6_000) < 1.5 * peak(1_500)


def test_what_fits_into_no_column_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    too_long = trade(price=D("1." + "0" * 60 + "1"))
    with pytest.raises(ExportFailed, match=r"trades: price 1\.0+1 does not fit into decimal256\(76, 56\)"):
        export_events([trade(), too_long], tmp_path / "made", to="parquet")
    with pytest.raises(ExportFailed, match=r"trades: id 9223372036854775808 does not fit into int64"):
        export_events([trade(trade_id=2**63)], tmp_path / "made", to="parquet")
    with pytest.raises(ExportFailed, match="which is not in the calendar"):
        export_events([trade(received_us=2**62)], tmp_path / "made", to="csv")
    assert list(tmp_path.iterdir()) == []


def test_a_parquet_file_says_what_it_is(tmp_path: Path) -> None:
    export_events([trade()], tmp_path, to="parquet", source="sol.jsonl")
    metadata = {key: text for key, text in pq.read_schema(tmp_path / "trades.parquet").metadata.items() if b"backpack" in key}
    assert metadata == {
        b"backpack_feed.schema_version": b"1",
        b"backpack_feed.version": backpack_proto.__version__.encode(),
        b"backpack_feed.table": b"trades",
        b"backpack_feed.source": b"sol.jsonl",
    }


def test_parquet_without_its_extra_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "backpack_runtime.exports.parquet_files", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match='needs the extra "parquet"'):
        export_events([trade()], tmp_path / "made", to="parquet")
    assert not (tmp_path / "made").exists()
    assert len(export_events([trade()], tmp_path / "made", to="csv").files) == 1


# Files.


def test_a_file_has_one_table_one_symbol_and_one_day_by_the_local_clock(tmp_path: Path) -> None:
    midnight_us = NOON_US + 12 * 3_600_000_000
    events = [
        trade(engine_us=midnight_us - 5, received_us=midnight_us - 1),
        trade(engine_us=midnight_us - 4, received_us=midnight_us),
        trade(engine_us=midnight_us - 3, received_us=None),
        trade(symbol="BTC_USDC_PERP"),
    ]
    made = export_events(events, tmp_path, to="csv")
    assert [(file.path.name, file.rows) for file in made.files] == [
        ("backpack_trades_2026-12-04_BTC_USDC_PERP.csv", 1),
        ("backpack_trades_2026-12-04_SOL_USDC.csv", 2),
        ("backpack_trades_2026-12-05_SOL_USDC.csv", 1),
    ]


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("AAPL.US_USDC_PERP", "AAPL.US_USDC_PERP"),
        ("kPEPE_USDC_PERP", "kPEPE_USDC_PERP"),
        ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd"),
        ("a\\b:c*?\x00 \n", "a%5Cb%3Ac%2A%3F%00%20%0A"),
        ("A" * 500, "A" * 80 + "~" + hashlib.sha256(b"A" * 500).hexdigest()[:12]),
    ],
)
def test_an_odd_symbol_makes_a_safe_file_name(symbol: str, name: str, tmp_path: Path) -> None:
    export_events([trade(symbol=symbol)], tmp_path / "made", to="csv")
    assert [path.name for path in (tmp_path / "made").iterdir()] == [f"backpack_trades_2026-12-04_{name}.csv"]
    [row] = plain_rows(tmp_path / "made", "trades")
    assert row["symbol"] == symbol
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


@pytest.mark.parametrize("symbol", ['a,"b"', "a\rb", "a\nb", "=1+1", " a "])
def test_hostile_text_is_quoted(symbol: str, tmp_path: Path) -> None:
    export_events([trade(symbol=symbol), trade(symbol=symbol)], tmp_path, to="csv")
    assert [(row["symbol"], row["price"]) for row in plain_rows(tmp_path, "trades")] == [(symbol, "150.10")] * 2


def test_gzip_is_one_stream_whose_bytes_depend_on_the_rows_alone(
    recorded: list[tuple[Now, Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_events(recorded, tmp_path / "plain", to="csv")
    monkeypatch.setattr("backpack_runtime.exports.csv_files._WAITING", 100)
    export_events(recorded, tmp_path / "packed", to="csv", compress="gzip")
    packed = sorted((tmp_path / "packed").iterdir())
    assert [path.name.removesuffix(".gz") for path in packed] == sorted(path.name for path in (tmp_path / "plain").iterdir())
    for path in packed:
        data = path.read_bytes()
        assert data.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 1  # no name, no time, no second member
        assert gzip.decompress(data) == (tmp_path / "plain" / path.name.removesuffix(".gz")).read_bytes()


SYNCED = BookSynced(
    stream="depth.SOL_USDC",
    symbol="SOL_USDC",
    last=11,
    engine_us=NOON_US,
    bids=(Level("150.00", "3"),),
    asks=(Level("150.20", "2.50"),),
)
CHANGED = BookChanged(
    stream="depth.SOL_USDC",
    symbol="SOL_USDC",
    first=12,
    last=13,
    engine_us=NOON_US + 1_000,
    bids=(Level("150.00", "3"),),
    asks=(),
    verified=False,
    delta=Depth(
        emitted_us=NOON_US + 1_200,
        received_us=NOON_US + 4_000,
        symbol="SOL_USDC",
        engine_us=NOON_US + 1_000,
        first_update_id=12,
        last_update_id=13,
        bids=(Level("149.90", "1"),),
        asks=(Level("150.20", "0.00"),),
    ),
)
STALE = BookStale(stream="depth.SOL_USDC", symbol="SOL_USDC", last=13, reason="no proof for 120 s")
TIMED: list[tuple[Now, Event]] = [
    (Now(1, NOON_US + 3_000), SYNCED),
    (Now(2, NOON_US + 4_001), CHANGED),
    (Now(3, NOON_US + 4_002), trade()),
    (Now(4, NOON_US + 4_003), ticker()),
    (Now(5, NOON_US + 60_000_101), candle()),
    (Now(6, NOON_US + 70_000_000), STALE),
]
FILES = {
    "book_states": [
        "backpack,SOL_USDC,1796385600000000,1796385600003000,live,BookSynced,11,,depth.SOL_USDC",
        "backpack,SOL_USDC,1796385670000000,1796385670000000,stale,BookStale,13,no proof for 120 s,depth.SOL_USDC",
    ],
    "book_ticker": ["backpack,SOL_USDC,1796385600000000,1796385600004003,,,150,3.0"],
    "candles": [
        "backpack,SOL_USDC,1796385660000000,1796385660000100,1m,1796385600000000,1796385660000000,150,151,149.99,150.5,12.50,3,true"
    ],
    "incremental_book_L2": [
        "backpack,SOL_USDC,1796385600000000,1796385600003000,true,bid,150.00,3",
        "backpack,SOL_USDC,1796385600000000,1796385600003000,true,ask,150.20,2.50",
        "backpack,SOL_USDC,1796385600001000,1796385600004000,false,bid,149.90,1",
        "backpack,SOL_USDC,1796385600001000,1796385600004000,false,ask,150.20,0.00",
    ],
    "quotes": [
        "backpack,SOL_USDC,1796385600000000,1796385600003000,2.50,150.20,150.00,3",
        "backpack,SOL_USDC,1796385600001000,1796385600004000,,,150.00,3",
        "backpack,SOL_USDC,1796385670000000,1796385670000000,,,,",
    ],
    "trades": ["backpack,SOL_USDC,1796385600000000,1796385600000009,7,sell,150.10,0.5"],
}


def test_the_same_events_give_the_same_bytes_on_every_interpreter(tmp_path: Path) -> None:
    export_events(TIMED, tmp_path, to="csv")
    written = {path.name: path.read_bytes().decode() for path in tmp_path.iterdir()}
    assert written == {
        f"backpack_{table}_2026-12-04_SOL_USDC.csv": "".join(f"{line}\n" for line in (LAYOUTS[table], *lines))
        for table, lines in FILES.items()
    }


def test_the_columns_of_parquet_begin_with_those_of_csv(tmp_path: Path) -> None:
    export_events(TIMED, tmp_path, to="parquet")
    for table, layout in LAYOUTS.items():
        names = layout.split(",")
        assert pq.read_schema(tmp_path / f"{table}.parquet").names[: len(names)] == names
    assert {row["first_update_id"]: row["last_update_id"] for row in table_of(tmp_path, "incremental_book_L2")} == {
        11: 11,
        12: 13,
    }
    assert [row["bid_price"] for row in table_of(tmp_path, "quotes")] == [D(150), D(150), None]


def test_a_file_that_is_there_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    export_events([trade()], tmp_path, to="parquet")
    before = (tmp_path / "trades.parquet").read_bytes()
    with pytest.raises(ConfigurationError, match=r"folder: .*trades\.parquet is there already; .*force=True"):
        export_events([ticker(), trade(price=D(1))], tmp_path, to="parquet")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"trades.parquet": before}
    export_events([ticker(), trade(price=D(1))], tmp_path, to="parquet", force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"trades.parquet", "book_ticker.parquet"}
    assert [row["price"] for row in table_of(tmp_path, "trades")] == [D(1)]


@pytest.mark.parametrize("to", ["csv", "parquet"])
@pytest.mark.parametrize("ending", [KeyboardInterrupt, OSError, SystemExit])
def test_an_export_that_is_interrupted_leaves_nothing(
    to: str, ending: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backpack_runtime.exports.csv_files._WAITING", 100)
    monkeypatch.setattr("backpack_runtime.exports.parquet_files._GROUP", 100)
    there: list[list[str]] = []

    def events() -> Iterator[Event]:
        for _ in range(500):
            yield trade()
        there.append([path.name for path in (tmp_path / "made").iterdir() if not path.name.startswith(".")])
        raise ending

    with pytest.raises(ending):
        export_events(events(), tmp_path / "made", to=to)
    assert there == [[]]
    assert list(tmp_path.iterdir()) == []


def test_many_markets_need_few_open_files_and_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="there are no limits here")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr("backpack_runtime.exports.csv_files._WAITING", 1_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 128), hard))
    try:
        made = export_events((trade(symbol=f"S{place % 300}_USDC") for place in range(3_000)), tmp_path, to="csv")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [file.rows for file in made.files] == [10] * 300


# What is chosen.


def test_only_what_was_chosen_is_written(recorded: list[tuple[Now, Event]], tmp_path: Path) -> None:
    def tables(only: Iterable[str] | None, name: str) -> set[tuple[str, str]]:
        made = export_events(recorded, tmp_path / name, to="csv", only=only, symbols=["SOL-USDC"], unclosed=True)
        return {(file.table, file.path.name.split("2023-11-14_")[1]) for file in made.files}

    assert tables(["trades"], "a") == {("trades", "SOL_USDC.csv")}
    assert tables(["tops"], "b") == {("book_ticker", "SOL_USDC.csv"), ("quotes", "SOL_USDC.csv")}
    assert tables(["books"], "c") == {("incremental_book_L2", "SOL_USDC.csv"), ("book_states", "SOL_USDC.csv")}
    assert tables(None, "d") == {(table, "SOL_USDC.csv") for table in LAYOUTS}


def test_candles_that_still_run_are_left_out_unless_wanted(tmp_path: Path) -> None:
    events = [candle(closed=False, close=D(1)), candle()]
    export_events(events, tmp_path / "closed", to="csv")
    export_events(events, tmp_path / "all", to="csv", unclosed=True)
    assert [(row["close"], row["closed"]) for row in plain_rows(tmp_path / "closed", "candles")] == [("150.5", "true")]
    assert [row["closed"] for row in plain_rows(tmp_path / "all", "candles")] == ["false", "true"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"to": "json"}, "to: one of parquet, csv, got 'json'"),
        ({"only": ["trade"]}, "only: one of trades, tops, books, candles, got 'trade'; did you mean trades?"),
        ({"only": ["quotes"]}, "got 'quotes'; did you mean tops?"),
        ({"only": "trades"}, "only: a list of trades, tops, books, candles, got 'trades'"),
        ({"only": []}, "only: at least one of trades, tops, books, candles, got an empty list"),
        ({"symbols": "SOL_USDC"}, "symbols: a list of symbols, got 'SOL_USDC'"),
        ({"symbols": []}, "symbols: at least one symbol, got an empty list"),
        (
            {"symbols": ["SOL_USDC", "SOL_USDX"]},
            "symbols: no event is of 'SOL_USDX'; did you mean SOL_USDC?; events are of SOL_USDC",
        ),
        ({"compress": "zip"}, "compress: one of gzip, got 'zip'"),
        ({"to": "parquet", "compress": "gzip"}, "compress: it is for CSV; Parquet files are always compressed"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as told:
        export_events([trade()], tmp_path / "made", **{"to": "csv"} | arguments)
    assert text in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_without_rows_there_are_no_files(tmp_path: Path) -> None:
    assert export_events([], tmp_path / "made", to="parquet") == Exported(files=(), events=0, dropped=0, left_out=0)
    assert list(tmp_path.iterdir()) == []


def test_losses_before_the_export_are_counted(tmp_path: Path) -> None:
    lost = [EventsDropped(count=3, private=False), EventsDropped(count=4, private=True)]
    made = export_events([trade(), *lost, trade()], tmp_path, to="csv")
    assert (made.events, made.dropped) == (4, 3)


def test_foreign_words_do_not_break_a_line(tmp_path: Path) -> None:
    level = Level("150", "1")
    synced = BookSynced(stream="depth.SOL_USDC", symbol="SOL_USDC", last=1, engine_us=NOON_US, bids=(level,), asks=())
    stale = BookStale(stream="depth.SOL_USDC", symbol="SOL_USDC", last=1, reason='gone\r\n"really"')
    export_events([(Now(1, NOON_US), synced), (Now(2, NOON_US + 1), stale)], tmp_path, to="csv", only=["books"])
    rows = csv_rows(tmp_path / "backpack_book_states_2026-12-04_SOL_USDC.csv")
    assert [(row["state"], row["event"], row["reason"]) for row in rows] == [
        ("live", "BookSynced", ""),
        ("stale", "BookStale", 'gone\\r\\n"really"'),
    ]

"""Events to files: trades, best bids and asks, incremental books, states of books and candles.

An export reads its events once, keeps a bounded number of rows in memory, and shows its files only when all of them are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import did_you_mean, one_of, shown
from backpack_proto.machine import Now
from backpack_proto.outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    BookUnavailable,
    ConnectionDown,
    Event,
    EventsDropped,
    MarketClosed,
    MarketOpened,
)
from backpack_proto.streams.payloads import BookTicker, Depth, Kline, StreamPayload, Trade
from backpack_proto.text import printable

from .books import BookRows
from .csv_files import CsvFiles
from .errors import ExportFailed
from .folder import Staging
from .tables import BOOK_TICKER, CANDLES, TOPICS, TRADES, Row, Table, candle_row, ticker_row, trade_row

__all__ = ["FORMATS", "ExportFailed", "Exported", "ExportedFile", "export_events"]

FORMATS: Final = ("parquet", "csv")
COMPRESSIONS: Final = ("gzip",)
_DEPTH: Final = "depth."
_NAMED: Final = 10
"""So many symbols are named in an error."""
_OTHER_WORDS: Final = {
    "quotes": "tops",
    "book_ticker": "tops",
    "incremental_book_l2": "books",
    "book_states": "books",
    "klines": "candles",
}
"""Names of tables and other libraries, for hints."""


class ExportedFile(NamedTuple):
    """One file that an export has written."""

    path: Path
    table: str
    """`trades`, `book_ticker`, `quotes`, `incremental_book_L2`, `book_states` or `candles`."""
    rows: int


class Exported(NamedTuple):
    """Files of an export, and holes in its events."""

    files: tuple[ExportedFile, ...]
    """In the order of their names. A table without rows has no file."""
    events: int
    """Number of events that were read."""
    dropped: int
    """Number of market data events that were lost before, by `EventsDropped`."""
    left_out: int
    """Number of changes of books without rows, because others before them are missing. `book_states` has the places."""


class _Files(Protocol):
    """Writer of rows: a context, whose end closes open files."""

    daily: bool
    """A file ends with its day, so that each day has to begin with a whole book."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *ending: object) -> None: ...

    def add(self, table: Table, part: str, row: Row, /) -> None: ...

    def finish(self) -> dict[str, tuple[str, int]]: ...


def export_events(  # noqa: PLR0913 - the user's choices are keyword-only, and have defaults
    events: Iterable[Event | tuple[Now, Event]],
    folder: str | Path,
    *,
    to: str,
    only: Iterable[str] | None = None,
    symbols: Iterable[str] | None = None,
    compress: str | None = None,
    unclosed: bool = False,
    force: bool = False,
    source: str = "",
) -> Exported:
    """Write events as tables into a folder, and return the files (docs/export.md).

    Args:
        events: in their order, as a client emits them, or each with the moment at which it came: (`Now`, event).
        folder: where the files are written. It is made if need be.
        to: `parquet` or `csv`.
        only: some of `trades`, `tops`, `books`, `candles`. All of them by default.
        symbols: ids of the exchange or normalised names. All by default.
        compress: `gzip`, for CSV. Parquet is always compressed.
        unclosed: take candles that still run, too.
        force: replace files that are there.
        source: where the events are from. Parquet files carry it.

    Raises:
        ConfigurationError: an argument cannot be used, a file is there already, or no event has a symbol.
        MissingExtra: Parquet needs the extra `parquet`.
        ExportFailed: a value does not fit into its column.
        OSError: a file cannot be written.
    """
    topics = _topics(only)
    tables = _Tables(topics, _symbols(symbols), unclosed=unclosed)
    make = _maker(to, compress, source)
    with Staging(Path(folder), force=force) as staging, make(staging) as files:
        for given in events:
            event, now = (given[1], given[0]) if isinstance(given, tuple) else (given, None)
            for table, part, row in tables.rows(event, now, daily=files.daily):
                files.add(table, part, row)
        tables.check_symbols()
        written = files.finish()
        places = staging.publish()
    return Exported(
        files=tuple(ExportedFile(path=path, table=written[path.name][0], rows=written[path.name][1]) for path in places),
        events=tables.events,
        dropped=tables.dropped,
        left_out=tables.left_out,
    )


def _maker(to: str, compress: str | None, source: str) -> Callable[[Staging], _Files]:
    """Return the maker of the files, once its inputs are known."""
    if to not in FORMATS:
        raise ConfigurationError(one_of("to", to, FORMATS))
    if compress not in (None, *COMPRESSIONS):
        raise ConfigurationError(one_of("compress", compress, COMPRESSIONS))
    if to == "csv":
        return lambda staging: CsvFiles(staging, compress=compress is not None)
    if compress is not None:
        raise ConfigurationError("compress: it is for CSV; Parquet files are always compressed, leave it out")
    from .parquet_files import ParquetFiles  # noqa: PLC0415 - it needs an extra

    return lambda staging: ParquetFiles(staging, source=source)


def _topics(only: Iterable[str] | None) -> frozenset[str]:
    if isinstance(only, str):
        raise ConfigurationError(f"only: a list of {', '.join(TOPICS)}, got {shown(only)}")
    topics = TOPICS if only is None else tuple(only)
    for topic in topics:
        if topic not in TOPICS:
            raise ConfigurationError(one_of("only", topic, TOPICS, _OTHER_WORDS))
    if not topics:
        raise ConfigurationError(f"only: at least one of {', '.join(TOPICS)}, got an empty list")
    return frozenset(topics)


def _symbols(symbols: Iterable[str] | None) -> dict[str, str] | None:
    """Return the symbols as they were given, by the ids that they may mean."""
    if symbols is None:
        return None
    if isinstance(symbols, str):
        raise ConfigurationError(f"symbols: a list of symbols, got {shown(symbols)}")
    given = tuple(symbols)
    if not given:
        raise ConfigurationError("symbols: at least one symbol, got an empty list; leave it out for all")
    return {name: symbol for symbol in given for name in (symbol, symbol.replace("-", "_"))}


class _Tables:
    """Makes rows of events: it knows which event gives rows to which tables."""

    def __init__(self, topics: frozenset[str], wanted: dict[str, str] | None, *, unclosed: bool) -> None:
        self.events = 0
        self.dropped = 0
        self._topics = topics
        self._wanted = wanted
        self._unclosed = unclosed
        self._seen: set[str] = set()
        self._books: dict[str, BookRows] = {}
        self._latest_us: int | None = None
        self._with_books = bool(topics & {"tops", "books"})

    @property
    def left_out(self) -> int:
        """Number of changes of books without rows."""
        return sum(book.left_out for book in self._books.values())

    def rows(self, event: Event, now: Now | None, *, daily: bool) -> Iterator[tuple[Table, str, Row]]:
        """Return the rows of an event, each with its table and the part of its file's name for the symbol."""
        self.events += 1
        symbol = getattr(event, "symbol", None)
        if symbol is not None:
            self._seen.add(symbol)
            if self._wanted is not None and symbol not in self._wanted:
                return
        moment_us = None if now is None else now.unix_us
        self._latest_us = moment_us or getattr(event, "engine_us", None) or self._latest_us
        match event:
            case Trade() if "trades" in self._topics:
                yield TRADES, event.symbol, trade_row(event, _received(event, moment_us))
            case BookTicker() if "tops" in self._topics:
                yield BOOK_TICKER, event.symbol, ticker_row(event, _received(event, moment_us))
            case Kline() if "candles" in self._topics and (event.closed or self._unclosed):
                yield CANDLES, event.symbol, candle_row(event, _received(event, moment_us))
            case EventsDropped(count=count, private=False):
                self.dropped += count
            case _ if self._with_books:
                yield from self._of_books(event, moment_us, daily=daily)
            case _:
                pass

    def check_symbols(self) -> None:
        """Refuse symbols that no event had.

        Raises:
            ConfigurationError: there are such symbols.
        """
        for symbol in dict.fromkeys((self._wanted or {}).values()):
            if self._seen.isdisjoint((symbol, symbol.replace("-", "_"))):
                known = sorted(self._seen)
                there = ", ".join(printable(name, 40) for name in known[:_NAMED]) or "of no market"
                more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
                hint = did_you_mean(symbol, known)
                raise ConfigurationError(f"symbols: no event is of {shown(symbol)}{hint}; events are of {there}{more}")

    def _of_books(self, event: Event, moment_us: int | None, *, daily: bool) -> Iterator[tuple[Table, str, Row]]:
        match event:
            case BookSynced():
                book = self._book(event.stream, event.symbol, daily=daily)
                yield from self._named(book, book.synced(event, moment_us))
            case BookChanged():
                book = self._book(event.stream, event.symbol, daily=daily)
                yield from self._named(book, book.changed(event, _received(event.delta, moment_us)))
            case Depth():
                book = self._book(f"{_DEPTH}{event.symbol}", event.symbol, daily=daily)
                yield from self._named(book, book.changed(event, _received(event, moment_us)))
            case BookDesynced() | BookStale() | BookConfirmed() | BookUnavailable():
                book = self._book(event.stream, event.symbol, daily=daily)
                yield from self._named(book, book.told(event, moment_us))
            case MarketClosed() | MarketOpened():
                streams = [stream for stream, book in self._books.items() if book.symbol == event.symbol]
                for stream in streams or [f"{_DEPTH}{event.symbol}"]:
                    book = self._book(stream, event.symbol, daily=daily)
                    yield from self._named(book, book.told(event, moment_us))
            case ConnectionDown():
                for stream, known in self._books.items():
                    book = self._book(stream, known.symbol, daily=daily)
                    yield from self._named(book, book.told(event, moment_us))
            case _:
                pass

    def _book(self, stream: str, symbol: str, *, daily: bool) -> BookRows:
        book = self._books.get(stream)
        if book is None:
            book = self._books[stream] = BookRows(stream, symbol, daily=daily)
        book.latest_us = self._latest_us
        return book

    def _named(self, book: BookRows, rows: Iterator[tuple[Table, Row]]) -> Iterator[tuple[Table, str, Row]]:
        # Aggregated streams of a market have files of their own: a file has one book.
        part = book.stream.removeprefix(_DEPTH)
        return ((table, part, row) for table, row in rows if table.topic in self._topics)


def _received(payload: StreamPayload, moment_us: int | None) -> int | None:
    """Return when a payload was received, by the local clock, or None where it is not known."""
    return moment_us if payload.received_us is None else payload.received_us

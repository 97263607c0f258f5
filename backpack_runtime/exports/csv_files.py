"""CSV files in the layout of tardis: one for each table, day and symbol.

Theory. A recording of all markets makes thousands of files, more than a process may have open. Rows wait in memory, a bounded number of
them, and are appended to all of their files at once. A file is open only meanwhile. Compression comes at the end, file by file, so that
each is one gzip stream, which every reader takes. The same rows give the same bytes everywhere: no time and no name is in the gzip header.
"""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, Self

from .books import DAY_US
from .errors import ExportFailed
from .folder import Staging, file_part
from .tables import EXCHANGE, LOCAL, MOMENT, SYMBOL, Kind, Row, Table

__all__ = ["CsvFiles"]

_WAITING: Final = 50_000
"""Rows in memory, at most, but for those of one event."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _File:
    """One file that grows, and its rows that wait to be written."""

    __slots__ = ("count", "name", "table", "waiting")

    def __init__(self, table: Table, name: str) -> None:
        self.table = table
        self.name = name
        self.waiting: list[Row] = []
        self.count = 0


class CsvFiles:
    """Collects rows and writes them to the files of their tables, days and symbols."""

    daily = True

    def __init__(self, staging: Staging, *, compress: bool) -> None:
        self._staging = staging
        self._compress = compress
        self._files: dict[tuple[str, int, str], _File] = {}
        self._waiting = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_ending: object) -> None:
        """Have no effect: no file is open between two calls."""

    def add(self, table: Table, part: str, row: Row) -> None:
        """Take a row. `part` is the part of its file's name for the symbol.

        Raises:
            ConfigurationError: the file is there already.
            ExportFailed: the time of the row is not one.
            OSError: a file cannot be written.
        """
        moment_us = row[MOMENT] if row[LOCAL] is None else row[LOCAL]
        key = (table.name, int(moment_us or 0) // DAY_US, part)
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = self._begin(table, *key[1:])
        file.waiting.append(row)
        self._waiting += 1
        if self._waiting >= _WAITING:
            self._write()

    def finish(self) -> dict[str, tuple[str, int]]:
        """Complete the files and return table and number of rows of each, by its name.

        Raises:
            OSError: a file cannot be written.
        """
        self._write()
        if self._compress:
            for file in self._files.values():
                self._pack(file.name)
        return {file.name: (file.table.name, file.count) for file in self._files.values()}

    def _begin(self, table: Table, day: int, part: str) -> _File:
        name = f"{EXCHANGE}_{table.name}_{_date(day)}_{file_part(part)}.csv{'.gz' if self._compress else ''}"
        self._staging.claim(name)
        header = [column.name for column in table.columns[: table.csv_columns]]
        # Where capitals make no difference, two symbols could have one file: better no export than such a file.
        with self._growing(name).open("xb") as file:
            file.write(_text([header], quoting=csv.QUOTE_MINIMAL))
        return _File(table, name)

    def _write(self) -> None:
        for file in self._files.values():
            if file.waiting:
                with self._growing(file.name).open("ab") as growing:
                    growing.write(_rows_text(file.table, file.waiting))
                file.count += len(file.waiting)
                file.waiting = []
        self._waiting = 0

    def _growing(self, name: str) -> Path:
        return self._staging.spare(name) if self._compress else self._staging.path(name)

    def _pack(self, name: str) -> None:
        spare = self._staging.spare(name)
        with (
            spare.open("rb") as plain,
            self._staging.path(name).open("wb") as target,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=target, mtime=0) as packed,
        ):
            shutil.copyfileobj(plain, packed, 1 << 20)
        spare.unlink()


def _rows_text(table: Table, rows: list[Row]) -> bytes:
    count = table.csv_columns
    cells: list[Sequence[object]] = [row[:count] for row in rows]
    kinds = [column.kind for column in table.columns[:count]]
    if Kind.FLAG in kinds:
        flag = kinds.index(Kind.FLAG)
        cells = [(*row[:flag], _word(row[flag]), *row[flag + 1 :]) for row in cells]
    # Python 3.13 quotes a bare carriage return, earlier ones do not, and no reader would take it then.
    odd = any("\r" in str(row[SYMBOL]) for row in rows[:1])
    return _text(cells, quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL)


def _word(flag: object) -> str:
    return "" if flag is None else "true" if flag else "false"


def _text(rows: Iterable[Sequence[object]], *, quoting: Literal[0, 1]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows(rows)
    return text.getvalue().encode()


def _date(day: int) -> str:
    try:
        return f"{_EPOCH + timedelta(days=day):%Y-%m-%d}"
    except OverflowError:
        raise ExportFailed(
            f"a row is of day {day} since 1970, which is not in the calendar: its time cannot be right"
        ) from None

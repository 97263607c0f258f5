"""Parquet files, one for each table, written in row groups.

Theory. Numbers have 20 digits before the point, as many as the exchange has at most, and 10 after it: `decimal128(30, 10)`, which pandas, polars
and DuckDB read exactly, and with room to multiply. Arrow refuses to round, so a number with more digits shows itself: then the file is written
again with the next type of `_NUMBERS`, and goes on so. The copy has a row group in memory at a time. The widest one is not used where it need not
be, for DuckDB and polars cannot read it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, Self

from backpack_proto import __version__
from backpack_runtime.extras import MissingExtra

from .errors import ExportFailed
from .folder import Staging
from .tables import SCHEMA_VERSION, Kind, Row, Table

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as missing:
    raise MissingExtra("an export to Parquet", "parquet", missing) from missing

__all__ = ["ParquetFiles"]

_GROUP: Final = 50_000
"""Rows of a row group: the part of each table that is in memory."""
_NUMBERS: Final = (pa.decimal128(30, 10), pa.decimal128(38, 18), pa.decimal256(76, 56))
_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.TIME: pa.timestamp("us", tz="UTC"),
    Kind.ID: pa.int64(),
    Kind.FLAG: pa.bool_(),
}


class ParquetFiles:
    """Collects rows and writes them to the files of their tables."""

    daily = False

    def __init__(self, staging: Staging, *, source: str) -> None:
        """`source` says in the files where the rows are from."""
        self._staging = staging
        self._source = source
        self._files: dict[str, _ParquetFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_ending: object) -> None:
        """Close open files, complete or not."""
        for file in self._files.values():
            file.close()

    def add(self, table: Table, _part: str, row: Row) -> None:
        """Take a row.

        Raises:
            ConfigurationError: the file is there already.
            ExportFailed: a value does not fit into its column.
            OSError: a file cannot be written.
        """
        file = self._files.get(table.name)
        if file is None:
            file = self._files[table.name] = _ParquetFile(table, self._staging, self._source)
        file.add(row)

    def finish(self) -> dict[str, tuple[str, int]]:
        """Complete the files and return table and number of rows of each, by its name.

        Raises:
            ExportFailed: a value does not fit into its column.
            OSError: a file cannot be written.
        """
        return {file.name: (table, file.finish()) for table, file in self._files.items()}


class _ParquetFile:
    """One table on its way to one file."""

    def __init__(self, table: Table, staging: Staging, source: str) -> None:
        self.name = f"{table.name}.parquet"
        self._table = table
        staging.claim(self.name)
        self._path = staging.path(self.name)
        self._spare = staging.spare(self.name)
        self._metadata = {
            "backpack_feed.schema_version": str(SCHEMA_VERSION),
            "backpack_feed.version": __version__,
            "backpack_feed.table": table.name,
            "backpack_feed.source": source,
        }
        self._rows: list[Row] = []
        self._count = 0
        self._wider = list(_NUMBERS)
        self._schema = self._next_schema()
        self._writer = self._open()

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= _GROUP:
            self._write()

    def finish(self) -> int:
        self._write()
        self._writer.close()
        return self._count

    def close(self) -> None:
        self._writer.close()

    def _next_schema(self) -> pa.Schema:
        number = self._wider.pop(0)
        fields = [pa.field(column.name, _TYPES.get(column.kind, number)) for column in self._table.columns]
        return pa.schema(fields, metadata=self._metadata)

    def _open(self) -> pq.ParquetWriter:
        return pq.ParquetWriter(self._path, self._schema, compression="zstd")

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        while (batch := self._batch(columns)) is None:
            if not self._wider:
                raise ExportFailed(self._misfit(columns))
            self._widen()
        self._writer.write_batch(batch, row_group_size=_GROUP)
        self._count += len(rows)

    def _batch(self, columns: Sequence[Sequence[Any]]) -> pa.RecordBatch | None:
        """Return the columns as Arrow has them, or None where a value does not fit."""
        try:
            arrays = [
                _array(column.kind, values, field.type)
                for column, values, field in zip(self._table.columns, columns, self._schema, strict=True)
            ]
        except (pa.ArrowException, OverflowError):
            return None
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _widen(self) -> None:
        """Write the file again with numbers of more digits."""
        self._writer.close()
        self._path.replace(self._spare)
        self._schema = self._next_schema()
        self._writer = self._open()
        with pq.ParquetFile(self._spare) as narrow:
            for group in range(narrow.num_row_groups):
                self._writer.write_table(narrow.read_row_group(group).cast(self._schema), row_group_size=_GROUP)
        self._spare.unlink()

    def _misfit(self, columns: Sequence[Sequence[Any]]) -> str:
        """Say which value it is that does not fit."""
        for column, values, field in zip(self._table.columns, columns, self._schema, strict=True):
            for value in values:
                try:
                    _array(column.kind, [value], field.type)
                except (pa.ArrowException, OverflowError):
                    shown = str(value)[:100]
                    return f"{self._table.name}: {column.name} {shown} does not fit into {field.type}; leave this table out, or export to CSV"
        return f"{self._table.name}: a value does not fit into its column"


def _array(kind: Kind, values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    if kind is Kind.NUMBER:
        values = [None if text is None else Decimal(text) for text in values]
    return pa.array(values, type_)

"""Readers of exports, for tests: rows of CSV files, and the book that a reader of the layout of tardis keeps."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

__all__ = ["TardisBook", "csv_rows", "plain_rows"]


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by the names of their columns."""
    with (
        gzip.open(path, "rt", encoding="utf-8", newline="")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8", newline="") as file
    ):
        return list(csv.DictReader(file))


def plain_rows(folder: Path, table: str) -> Iterator[dict[str, str]]:
    """The rows of all files of a table, in the order of the names of the files."""
    for path in sorted(folder.glob(f"backpack_{table}_20*")):
        yield from csv_rows(path)


class TardisBook:
    """The book of a reader who knows the layout, and nothing of what wrote it.

    Reading begins at the first row of a snapshot. The first row of a snapshot after other rows throws the book away. An amount of zero
    removes a level.
    """

    def __init__(self) -> None:
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self._begun = False
        self._in_snapshot = False

    def read(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows, whose numbers are text or decimals."""
        for row in rows:
            snapshot = row["is_snapshot"] in (True, "true")
            if snapshot and not self._in_snapshot:
                self.bids.clear()
                self.asks.clear()
            self._begun = self._begun or snapshot
            self._in_snapshot = snapshot
            if not self._begun:
                continue
            side = {"bid": self.bids, "ask": self.asks}[row["side"]]
            price, amount = Decimal(row["price"]), Decimal(row["amount"])
            if amount:
                side[price] = amount
            else:
                side.pop(price, None)

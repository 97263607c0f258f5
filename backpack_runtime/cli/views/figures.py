"""Numbers for people, and tables that leave columns out where they do not fit: a number is shown whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from backpack_proto.decoding import sane
from backpack_proto.text import printable
from backpack_runtime.cli.events import decimal_places, plain

__all__ = ["SIGNIFICANT_DIGITS", "Column", "rounded", "table"]

SIGNIFICANT_DIGITS: Final = 8
GAP: Final = 2
"""Blanks between two columns."""
_LONG: Final = Context(prec=200, rounding=ROUND_HALF_EVEN, traps=[])


class Column(NamedTuple):
    """A column of a table."""

    name: str
    rank: int = 0
    """Where the table is too wide, columns of the highest rank go first. Those of rank 0 stay."""
    left: bool = False


def rounded(value: Decimal | None, tick: Decimal | None = None) -> str:
    """Return a number as people read it: with the decimals of the tick, or else with eight significant digits at most.

    Whole digits are never cut off, and a short number stays as it came. One below half a tick keeps its digits, for
    it is not zero.
    """
    if value is None:
        return "-"
    if not sane(value):
        return plain(value)
    if tick is not None and (not value or abs(value) * 2 >= tick):
        return plain(_LONG.quantize(value, Decimal(1).scaleb(-decimal_places(tick))))
    digits, exponent = value.as_tuple().digits, int(value.as_tuple().exponent)
    if len(digits) <= SIGNIFICANT_DIGITS or exponent >= 0:
        return plain(value)
    most = -min(SIGNIFICANT_DIGITS - len(digits) - exponent, -exponent)
    shorter = _LONG.quantize(value, Decimal(1).scaleb(min(most, 0)))
    return plain(shorter).rstrip("0").rstrip(".") if "." in plain(shorter) else plain(shorter)


def table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int) -> Table:
    """Return a table of at most this width, without the columns that have no room."""
    kept = list(range(len(columns)))
    texts = [[printable(cell) for cell in row] for row in rows]
    widths = [max([cell_len(column.name), *(cell_len(row[at]) for row in texts)]) for at, column in enumerate(columns)]
    while sum(widths[at] for at in kept) + GAP * (len(kept) - 1) > width:
        last = max(kept, key=lambda at: (columns[at].rank, at))
        if not columns[last].rank:
            break
        kept.remove(last)
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for at in kept:
        made.add_column(columns[at].name, justify="left" if columns[at].left else "right", no_wrap=True)
    for row in texts:
        made.add_row(*(Text(row[at]) for at in kept))
    return made

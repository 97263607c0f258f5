"""Many markets as a list, a line each. The least important columns go where the terminal is narrow, and numbers are shown whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.text import Text

from backpack_proto.text import printable

from .cell import ShownMarket, change_of, mark_of
from .lines import GAP, duration, number
from .prices import sparkline

__all__ = ["listing"]

MARKER: Final = 2
"""Cells before each line, for the mark of the chosen one."""
LONGEST_SYMBOL: Final = 20
SPARK: Final = 8
WIDE_SPARK: Final = 40
WORDY: Final = 80
"""Where there is room, the signs have their words beside them."""


class _Column(NamedTuple):
    name: str
    rank: int
    """Those of the highest rank go first, and the market itself stays."""
    width: int
    """Cells that it takes at least, so that columns stay where they are while numbers change."""
    left: bool = False


COLUMNS: Final = (
    _Column("market", 0, 12, left=True),
    _Column("book", 1, 6, left=True),
    _Column("last", 2, 10),
    _Column("24 h", 3, 9),
    _Column("5 s each", 4, SPARK),
    _Column("bid", 7, 10),
    _Column("ask", 7, 10),
    _Column("msg/s", 5, 5),
    _Column("age", 6, 6),
)
_SPARKLINE: Final = 4


def listing(markets: Sequence[ShownMarket], chosen: int, width: int, *, heading: bool) -> list[Text]:
    """Return a line for each market, the chosen one marked, and a heading above them."""
    rows = [_cells(market, short=width < WORDY) for market in markets]
    widths = [
        max([column.width, *(row[at].cell_len for row in rows)]) if at != _SPARKLINE else SPARK
        for at, column in enumerate(COLUMNS)
    ]
    kept = list(range(len(COLUMNS)))
    room = max(width - MARKER, 1)
    while sum(widths[at] for at in kept) + GAP * (len(kept) - 1) > room and len(kept) > 1:
        kept.remove(max(kept, key=lambda at: (COLUMNS[at].rank, at)))
    spare = room - sum(widths[at] for at in kept) - GAP * (len(kept) - 1)
    widths[_SPARKLINE] += min(max(spare, 0), WIDE_SPARK - SPARK)
    lines = [_line([Text(COLUMNS[at].name, "dim") for at in kept], kept, widths, "  ")] if heading else []
    for at, (market, row) in enumerate(zip(markets, rows, strict=True)):
        prices = market.panel.prices.latest(widths[_SPARKLINE], market.mono_us)
        row[_SPARKLINE] = Text(sparkline(prices), "cyan" if market.trusted else "dim")
        lines.append(_line([row[column] for column in kept], kept, widths, "▸ " if at == chosen else "  "))
    return lines


def _cells(market: ShownMarket, *, short: bool) -> list[Text]:
    panel, traffic = market.panel, market.traffic
    style = "" if market.trusted else "dim"
    symbol = Text(printable(panel.symbol), style)
    symbol.truncate(LONGEST_SYMBOL, overflow="ellipsis")
    tops = (None, None) if panel.book is None else (panel.book.best_bid, panel.book.best_ask)
    prices = (panel.last, *(None if level is None else level[0] for level in tops))
    last, bid, ask = (
        Text("-", "dim") if price is None else Text(number(price, panel.price_decimals), style) for price in prices
    )
    rate = Text("-" if traffic is None else f"{traffic.rate:,.0f}", "dim")
    age = Text("-" if traffic is None else duration(traffic.age_us), "dim")
    return [symbol, mark_of(panel, short=short), last, change_of(market), Text(), bid, ask, rate, age]


def _line(cells: Sequence[Text], kept: Sequence[int], widths: Sequence[int], marker: str) -> Text:
    line = Text.assemble((marker, "bold"))
    for position, (at, text) in enumerate(zip(kept, cells, strict=True)):
        blanks = " " * max(widths[at] - text.cell_len, 0)
        line.append(" " * GAP if position else "")
        for part in (text, Text(blanks)) if COLUMNS[at].left else (Text(blanks), text):
            line.append_text(part)
    return line

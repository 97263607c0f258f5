"""The keys and the signs of the live view, explained in it."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

from rich.text import Text

from .prices import COLUMN_SECONDS

__all__ = ["KEYS", "SIGNS", "help_lines"]

KEYS: Final = (
    ("q", "quit"),
    ("?", "show or leave this help"),
    ("↑ ↓ k j", "choose a market of the list"),
    ("← →", "a page of the list; PgUp PgDn Home End"),
    ("/", "filter markets: type a part of the name; Enter keeps it, Esc shows all"),
    ("p", "pause the picture; data go on being taken"),
)
SIGNS: Final = (
    ("● verified", "the book agreed with the exchange's best prices"),
    ("○ live", "it follows the exchange, not compared yet"),
    ("STALE", "it cannot be trusted now; the line below says why"),
    ("dim", "nothing dim can be trusted: stale, paused, connection lost"),
    ("▂▄▇", f"the last price, {COLUMN_SECONDS} s a block"),
    ("12/s  0.3 s", "messages a second of the market, and the age of the last one"),
    ("p50, p99", "from the exchange's engine to here: half, and 99 %, took no longer"),
)
_LABEL: Final = 12


def help_lines(width: int, room: int, *, keys: bool) -> list[Text]:
    """Return the help: keys first, where they are read, for the end is cut off where there is no room."""
    parts = [("Keys", KEYS), ("Signs", SIGNS)] if keys else [("Signs", SIGNS)]
    lines: list[Text] = []
    for heading, rows in parts:
        lines += [Text(heading, "bold"), *(line for row in rows for line in _lines(*row, width))]
    return lines[:room]


def _lines(label: str, text: str, width: int) -> list[Text]:
    """Return one line, or several where the terminal is narrow."""
    one = Text.assemble((f"{label:<{_LABEL}} ", "cyan"), text)
    if one.cell_len <= width:
        return [one]
    first, *rest = wrap(f"{label} {text}", max(width, 8), subsequent_indent="  ")
    return [Text.assemble((first[: len(label)], "cyan"), first[len(label) :]), *(Text(line) for line in rest)]

"""The keys and the signs of the live view, explained in it."""

from __future__ import annotations

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
    """Return the help: keys first, where they are read, for what has no room is cut off."""
    lines = [] if not keys else [Text("Keys", "bold"), *(_line(*row) for row in KEYS)]
    lines += [Text("Signs", "bold"), *(_line(*row) for row in SIGNS)]
    if len(lines) + 1 <= room and keys:
        lines.insert(1 + len(KEYS), Text())
    if len(lines) > room:
        lines = lines[:room]
    return [line if line.cell_len <= width else _narrow(line) for line in lines]


def _line(label: str, text: str) -> Text:
    return Text.assemble((f"{label:<{_LABEL}} ", "cyan"), text)


def _narrow(line: Text) -> Text:
    """A line without the blanks between its parts."""
    label, text = line.plain[:_LABEL].rstrip(), line.plain[_LABEL + 1 :]
    return Text.assemble((label, "cyan"), " ", text)

"""Lines of an exact width: numbers for people, and parts of which the least important ones go where there is no room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from rich.text import Text

from backpack_proto.decoding import sane
from backpack_runtime.cli.events import decimal_places

__all__ = ["GAP", "SEPARATOR", "Part", "duration", "fit", "fitting", "number", "side_by_side"]

SEPARATOR: Final = " │ "
GAP: Final = 2
"""Blanks between two parts."""


class Part(NamedTuple):
    """A part of a line."""

    text: Text
    rank: int = 0
    """Where the line is too long, parts of the highest rank go first, and that of rank 0 stays."""


def fitting(parts: Sequence[Part], width: int) -> Text:
    """Return the parts that have room side by side, in their order. Each is shown whole, but for the last that is left."""
    kept = list(range(len(parts)))
    while sum(parts[at].text.cell_len for at in kept) + GAP * (len(kept) - 1) > width:
        last = max(kept, key=lambda at: (parts[at].rank, at))
        if not parts[last].rank:
            break
        kept.remove(last)
    return Text(" " * GAP).join(parts[at].text for at in kept)


def side_by_side(parts: Iterable[Text], separator: str = SEPARATOR) -> Text:
    """Return one line out of several."""
    # As a part with a style, for the style of the whole separator would become that of the whole line.
    return Text.assemble((separator, "dim")).join(parts)


def fit(text: Text, width: int) -> Text:
    """Return a copy of a line, exactly so wide."""
    line = text.copy()
    line.truncate(max(width, 0), overflow="ellipsis", pad=True)
    return line


def number(value: Decimal, decimals: int) -> str:
    """Return a decimal for people: at least so many decimals, and thousands apart."""
    if not sane(value):
        return str(value)
    return f"{value:,.{max(decimals, decimal_places(value))}f}"


def duration(microseconds: int) -> str:
    """Return an age in the largest unit that says it: `0.3 s`, `12 s`, `4 min`, `3 h`."""
    seconds = max(microseconds, 0) / 1e6
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:,.0f} h"

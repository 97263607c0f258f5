"""Statistics of rounds: medians, extremes, and the median of the ratios inside the rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

__all__ = ["Figures", "Summary", "TooFewEvents", "checked", "summarise"]

Figures = Mapping[str, float]
"""Figures of one run of a case."""


class TooFewEvents(Exception):
    """A case delivered fewer events than there were frames, or other ones: its time means nothing."""


class Summary(NamedTuple):
    """What the rounds of a case come to."""

    median: float
    minimum: float
    maximum: float
    ratio: float | None
    """To the base, the median of the rounds, or None without a round that both have."""


def summarise(rounds: Sequence[Figures | None], base: Sequence[Figures | None], figure: str) -> Summary | None:
    """Return the summary of one figure, or None if no round has it. A round of which nothing came is None.

    A machine changes its speed from minute to minute: two medians say little of each other, two values of one round a lot.
    """
    values = [found[figure] for found in rounds if found is not None and figure in found]
    if not values:
        return None
    ratios = [
        mine[figure] / other[figure]
        for mine, other in zip(rounds, base, strict=False)
        if mine is not None and other is not None and figure in mine and other.get(figure)
    ]
    return Summary(median(values), min(values), max(values), median(ratios) if ratios else None)


def checked(events: int, frames: int, tops: Mapping[str, Sequence[str]] | None, expected: Mapping[str, Sequence[str]]) -> None:
    """Check that a client delivered one event for each frame, and ended with the right books, or None if it keeps no book.

    Raises:
        TooFewEvents: it did not.
    """
    if events != frames:
        raise TooFewEvents(f"{events:,} events were delivered of {frames:,} frames")
    if tops is None:
        return
    for symbol, prices in expected.items():
        found = tops.get(symbol, ())
        if [float(price) for price in found] != [float(price) for price in prices]:
            raise TooFewEvents(
                f"the book of {symbol} ends at {' / '.join(found) or 'nothing'}, and not at {' / '.join(prices)}"
            )

"""Counts of durations, from which percentiles are read with a bounded error.

Theory. A bucket is as wide as a sixteenth of what it counts: a duration is filed under its highest five bits. So there is one table of
fixed size from a microsecond to centuries, filing is one addition, and a percentile is at most 6.25 % too high and never too low.

Single durations are kept as they are until there are many: sorted, those of one bucket stand together, and are filed in one go.

Beside it stand a few coarse buckets with round bounds, and the sum: those are exact, as somebody who compares two moments needs them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate, islice
from typing import Final

from .values import Value

__all__ = ["BOUNDS_US", "Durations", "Histogram"]

_FINE_BITS: Final = 4
_EXACT: Final = 2 << _FINE_BITS
"""Shorter durations have a bucket each."""
_LARGEST_BITS: Final = 56
"""Longer durations, thousands of years, count as this."""
_UNFILED: Final = 1024
"""So many durations are kept as they are, at the most."""
BOUNDS_US: Final = (
    *(10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
    *(1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000),
)
"""The longest durations of the coarse buckets; what is longer than the last one is in a bucket without a bound."""


class Durations(Value, frozen=True, gc=False, kw_only=True):
    """All durations of a histogram at one moment; no figure of a later moment is smaller."""

    at_most: tuple[int, ...]
    """How many durations are no longer than each of `BOUNDS_US`."""
    count: int
    """How many there are in all."""
    sum_us: int
    """Their sum, in microseconds."""


class Histogram:
    """How often durations of each length happened."""

    __slots__ = ("_coarse", "_counts", "_sum_us", "_unfiled")

    def __init__(self) -> None:
        self._counts = [0] * ((_LARGEST_BITS - _FINE_BITS + 1) << _FINE_BITS)
        self._coarse = [0] * (len(BOUNDS_US) + 1)
        self._sum_us = 0
        self._unfiled: list[int] = []

    def record(self, duration_us: int, count: int = 1) -> None:
        """Count a duration, or several that are alike; a negative one, which two clocks can give, counts as none."""
        if count == 1:
            self._unfiled.append(duration_us)
            if len(self._unfiled) >= _UNFILED:
                self._file()
        else:
            self._count(duration_us, count)
            self._coarse[bisect_left(BOUNDS_US, duration_us)] += count
            if duration_us > 0:
                self._sum_us += duration_us * count

    def _count(self, duration_us: int, count: int) -> None:
        if duration_us < _EXACT:
            self._counts[duration_us if duration_us > 0 else 0] += count  # noqa: FURB136 - see above
            return
        shift = duration_us.bit_length() - _FINE_BITS - 1
        bucket = (shift << _FINE_BITS) + (duration_us >> shift)
        self._counts[bucket if bucket < len(self._counts) else -1] += count

    def record_all(self, durations_us: Iterable[int]) -> None:
        """Count durations as `record` does each."""
        self._unfiled += durations_us
        if len(self._unfiled) >= _UNFILED:
            self._file()

    def _file(self) -> None:
        durations = self._unfiled
        if not durations:
            return
        durations.sort()
        self._file_coarsely(durations)
        begin = 0
        while begin < len(durations):
            end = bisect_right(durations, _longest_beside(durations[begin]), begin)
            self._count(durations[begin], end - begin)
            begin = end
        durations.clear()

    def _file_coarsely(self, durations: list[int]) -> None:
        """Count durations, which are sorted, in the coarse buckets."""
        begin = 0
        longest_us = durations[-1]
        for number, bound_us in enumerate(BOUNDS_US):
            end = bisect_right(durations, bound_us, begin)
            self._coarse[number] += end - begin
            begin = end
            if longest_us <= bound_us:
                break
        self._coarse[-1] += len(durations) - begin
        negative = bisect_left(durations, 0)
        self._sum_us += sum(islice(durations, negative, None))

    @property
    def durations(self) -> Durations:
        """All that was recorded until now, exactly; a negative duration counts as none."""
        self._file()
        counts = tuple(accumulate(self._coarse))
        return Durations(at_most=counts[:-1], count=counts[-1], sum_us=self._sum_us)

    def percentile(self, share: float) -> int | None:
        """Return the duration that this share of all durations, at least one of them, does not exceed; None without any."""
        self._file()
        total = sum(self._counts)
        if not total:
            return None
        wanted, seen = max(total * share, 1), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return _largest(bucket)
        raise AssertionError("the buckets hold as many durations as were recorded")


def _longest_beside(duration_us: int) -> int:
    """The longest of the durations that are filed in one bucket with this one."""
    if duration_us < _EXACT:
        return max(duration_us, 0)
    return duration_us | ((1 << (duration_us.bit_length() - _FINE_BITS - 1)) - 1)


def _largest(bucket: int) -> int:
    """The longest duration that is filed in a bucket."""
    shift = max((bucket >> _FINE_BITS) - 1, 0)
    return bucket if not shift else ((bucket - (shift << _FINE_BITS) + 1) << shift) - 1

"""Counts of durations, from which percentiles are read with a bounded error.

Theory. A bucket is as wide as a sixteenth of what it counts: a duration is filed under its highest five bits. So there is one table of
fixed size from a microsecond to centuries, filing is one addition, and a percentile is at most 6.25 % too high and never too low.

Single durations are kept as they are until there are many: sorted, those of one bucket stand together, and are filed in one go.

Beside it stand a few buckets with round bounds, and the sum: those are exact, as somebody who compares two moments needs them. Where nobody
asks for a percentile they are enough by themselves.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate, islice
from typing import Final

from .values import Value

__all__ = ["BOUNDS_US", "Buckets", "Durations", "Histogram"]

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
"""The longest durations of the buckets with round bounds; what is longer than the last one is in a bucket without a bound."""


class Durations(Value, frozen=True, gc=False, kw_only=True):
    """All durations of a histogram at one moment; no figure of a later moment is smaller."""

    at_most: tuple[int, ...]
    """How many durations are no longer than each of `BOUNDS_US`."""
    count: int
    """How many there are in all."""
    sum_us: int
    """Their sum, in microseconds."""


class Buckets:
    """How often durations up to each bound happened, and their sum; a negative one, which two clocks can give, counts as none."""

    __slots__ = ("_counts", "_sum_us")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_US) + 1)
        self._sum_us = 0

    def record(self, duration_us: int, count: int = 1) -> None:
        """Count a duration, or several that are alike."""
        self._counts[bisect_left(BOUNDS_US, duration_us)] += count
        if duration_us > 0:
            self._sum_us += duration_us * count

    def record_sorted(self, durations_us: list[int]) -> None:
        """Count durations, the shortest first."""
        begin = 0
        for number, bound_us in enumerate(BOUNDS_US):
            if begin == len(durations_us):
                break
            end = bisect_right(durations_us, bound_us, begin)
            self._counts[number] += end - begin
            begin = end
        self._counts[-1] += len(durations_us) - begin
        self._sum_us += sum(islice(durations_us, bisect_left(durations_us, 0), None))

    @property
    def durations(self) -> Durations:
        """All that was recorded until now."""
        counts = tuple(accumulate(self._counts))
        return Durations(at_most=counts[:-1], count=counts[-1], sum_us=self._sum_us)


class Histogram:
    """How often durations of each length happened."""

    __slots__ = ("_buckets", "_counts", "_unfiled")

    def __init__(self) -> None:
        self._counts = [0] * ((_LARGEST_BITS - _FINE_BITS + 1) << _FINE_BITS)
        self._buckets = Buckets()
        self._unfiled: list[int] = []

    def record(self, duration_us: int, count: int = 1) -> None:
        """Count a duration, or several that are alike; a negative one, which two clocks can give, counts as none."""
        if count == 1:
            self._unfiled.append(duration_us)
            if len(self._unfiled) >= _UNFILED:
                self._file()
        else:
            self._count(duration_us, count)
            self._buckets.record(duration_us, count)

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
        durations.sort()
        self._buckets.record_sorted(durations)
        begin = 0
        while begin < len(durations):
            end = bisect_right(durations, _longest_beside(durations[begin]), begin)
            self._count(durations[begin], end - begin)
            begin = end
        durations.clear()

    @property
    def durations(self) -> Durations:
        """All that was recorded until now, exactly; a negative duration counts as none."""
        self._file()
        return self._buckets.durations

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

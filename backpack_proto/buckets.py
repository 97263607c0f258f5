"""Counts of durations up to round bounds, and their sum: exact, for comparing two moments."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, islice
from typing import Final

from .values import Value

__all__ = ["BOUNDS_US", "Buckets", "Durations"]

BOUNDS_US: Final = (
    *(10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
    *(1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000),
)
"""Longest durations of the buckets. One more bucket, without a bound, has all longer ones."""


class Durations(Value, frozen=True, gc=False, kw_only=True):
    """All durations that were recorded until a moment. No figure of a later moment is smaller."""

    at_most: tuple[int, ...]
    """Number of durations that are no longer than each of `BOUNDS_US`."""
    count: int
    """Number of all durations."""
    sum_us: int
    """Their sum, in microseconds."""


class Buckets:
    """Numbers of durations up to each bound, and their sum. A negative duration, which two clocks can give, counts as 0."""

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

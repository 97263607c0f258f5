"""Counts of durations, from which percentiles are read with a bounded error.

Theory. A bucket is as wide as a sixteenth of its durations: a duration is filed under its highest five bits. So there is one table of
fixed size from a microsecond to centuries, filing is one addition, and a percentile is at most 6.25 % too high and never too low.

Single durations are kept as they are until there are many: sorted, those of one bucket stand together, and are filed in one go.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from .buckets import Buckets, Durations

__all__ = ["Histogram"]

_FINE_BITS: Final = 4
_EXACT: Final = 2 << _FINE_BITS
"""Shorter durations have a bucket each."""
_LARGEST_BITS: Final = 56
"""Longer durations, thousands of years, count as this."""
_UNFILED: Final = 1024
"""So many durations are kept as they are, at most."""


class Histogram:
    """Number of durations of each length."""

    __slots__ = ("_buckets", "_counts", "_unfiled")

    def __init__(self) -> None:
        self._counts = [0] * ((_LARGEST_BITS - _FINE_BITS + 1) << _FINE_BITS)
        self._unfiled: list[int] = []
        self._buckets = Buckets()

    def record(self, duration_us: int, count: int = 1) -> None:
        """Count a duration, or several that are alike. A negative one, which two clocks can give, counts as zero."""
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
        """All that was recorded until now, counted exactly."""
        self._file()
        return self._buckets.durations

    def percentile(self, share: float) -> int | None:
        """Return the duration that this share of all durations, at least one of them, does not exceed, or None without any."""
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

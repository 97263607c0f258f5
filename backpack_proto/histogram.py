"""Counts of durations, from which percentiles are read with a bounded error.

Theory. A bucket is as wide as a sixteenth of what it counts: a duration is filed under its highest five bits. So there is one table of
fixed size from a microsecond to centuries, recording is one addition, and a percentile is at most 6.25 % too high and never too low.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Histogram"]

_FINE_BITS: Final = 4
_LARGEST_BITS: Final = 56
"""Longer durations, thousands of years, count as this."""


class Histogram:
    """How often durations of each length happened."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * ((_LARGEST_BITS - _FINE_BITS) << _FINE_BITS)
        self._total = 0

    def record(self, duration_us: int) -> None:
        """Count a duration; a negative one, which two clocks can give, counts as none."""
        duration_us = max(duration_us, 0)
        shift = duration_us.bit_length() - _FINE_BITS - 1
        bucket = duration_us if shift <= 0 else (shift << _FINE_BITS) + (duration_us >> shift)
        self._counts[min(bucket, len(self._counts) - 1)] += 1
        self._total += 1

    def percentile(self, share: float) -> int | None:
        """Return the duration that this share of all durations, at least one of them, does not exceed; None without any."""
        if not self._total:
            return None
        wanted, seen = max(self._total * share, 1), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return _largest(bucket)
        raise AssertionError("the buckets hold as many durations as were recorded")


def _largest(bucket: int) -> int:
    """The longest duration that is filed in a bucket."""
    shift = max((bucket >> _FINE_BITS) - 1, 0)
    return bucket if not shift else ((bucket - (shift << _FINE_BITS) + 1) << shift) - 1

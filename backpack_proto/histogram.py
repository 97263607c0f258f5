"""Counts of durations, from which percentiles are read with a bounded error.

Theory. A bucket is as wide as a sixteenth of what it counts: a duration is filed under its highest five bits. So there is one table of
fixed size from a microsecond to centuries, recording is one addition, and a percentile is at most 6.25 % too high and never too low.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Histogram", "bucket_of"]

_FINE_BITS: Final = 4
_EXACT: Final = 2 << _FINE_BITS
"""Shorter durations have a bucket each."""
_LARGEST_BITS: Final = 56
"""Longer durations, thousands of years, count as this."""


class Histogram:
    """How often durations of each length happened."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * ((_LARGEST_BITS - _FINE_BITS + 1) << _FINE_BITS)

    def record(self, duration_us: int, count: int = 1) -> None:
        """Count a duration, or several that are alike; a negative one, which two clocks can give, counts as none."""
        # One call for every frame: no function is called that can be done without.
        if duration_us < _EXACT:
            self._counts[duration_us if duration_us > 0 else 0] += count  # noqa: FURB136 - see above
            return
        shift = duration_us.bit_length() - _FINE_BITS - 1
        bucket = (shift << _FINE_BITS) + (duration_us >> shift)
        self._counts[bucket if bucket < len(self._counts) else -1] += count

    def percentile(self, share: float) -> int | None:
        """Return the duration that this share of all durations, at least one of them, does not exceed; None without any."""
        total = sum(self._counts)
        if not total:
            return None
        wanted, seen = max(total * share, 1), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return _largest(bucket)
        raise AssertionError("the buckets hold as many durations as were recorded")


def bucket_of(duration_us: int) -> tuple[int, int]:
    """Return the shortest and the longest of the durations that are counted in one place with this one."""
    if duration_us < _EXACT:
        return (duration_us, duration_us) if duration_us > 0 else (-(1 << _LARGEST_BITS), 0)
    width = 1 << (duration_us.bit_length() - _FINE_BITS - 1)
    shortest = duration_us & -width
    return shortest, shortest + width - 1


def _largest(bucket: int) -> int:
    """The longest duration that is filed in a bucket."""
    shift = max((bucket >> _FINE_BITS) - 1, 0)
    return bucket if not shift else ((bucket - (shift << _FINE_BITS) + 1) << shift) - 1

"""Waits after failures in a row: the one rule of every retry.

The longest wait doubles with each failure and stops at a cap. `delay_us` is that wait. `jittered_us` draws from all of it, down to
almost zero ("full jitter"), so that clients that were cut off together do not come back together. Only the connection draws:
all other retries follow a connection that came back at a moment of its own.
"""

from __future__ import annotations

from random import Random
from typing import Final

from msgspec import Struct

__all__ = ["Backoff"]

_MOST_DOUBLINGS: Final = 32
"""For the sake of speed alone: every cap has long taken over by then."""


class Backoff(Struct, frozen=True, gc=False, kw_only=True):
    """Waits between a first one and a longest one, in microseconds."""

    base_us: int
    """After the first failure."""
    cap_us: int
    """Never longer than this."""

    def delay_us(self, failures: int) -> int:
        """Return the wait after so many failures in a row, at least one."""
        return min(self.cap_us, self.base_us << min(max(failures - 1, 0), _MOST_DOUBLINGS))

    def jittered_us(self, failures: int, rng: Random) -> int:
        """Draw a wait between a microsecond and the whole delay."""
        # Not 0: a timer that sets the next one must set it in the future.
        return rng.randint(1, self.delay_us(failures))

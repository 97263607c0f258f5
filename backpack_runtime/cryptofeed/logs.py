"""The one logger of the feed, and warnings that cannot flood it."""

from __future__ import annotations

import logging
import time

__all__ = ["LOG", "RateLimited"]

LOG = logging.getLogger("backpack_runtime.cryptofeed")


class RateLimited:
    """Warns at most `burst` times in `seconds`, and says with the next warning how many it kept to itself."""

    def __init__(self, *, burst: int = 5, seconds: float = 60.0) -> None:
        self._burst = burst
        self._seconds = seconds
        self._since = 0.0
        self._said = 0
        self._kept = 0

    def warning(self, text: str, *values: object) -> None:
        """Log a warning, or count it."""
        now = time.monotonic()
        if now - self._since >= self._seconds:
            self._since, self._said = now, 0
        if self._said >= self._burst:
            self._kept += 1
            return
        self._said += 1
        if self._kept:
            LOG.warning("BACKPACK: %d warnings of this kind were left out", self._kept)
            self._kept = 0
        LOG.warning(text, *values)

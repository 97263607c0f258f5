"""Repairs of a stream that is mute while its subject moves, more and more seldom."""

from __future__ import annotations

from .backoff import Backoff
from .machine import Now

__all__ = ["MuteStream"]

ABANDON = Backoff(base_us=60_000_000, cap_us=900_000_000)
"""Number of times that one mute stream has the connection given up."""


class MuteStream:
    """Has a stream requested again first, and the connection given up after that, less and less often."""

    def __init__(self) -> None:
        self._told = False
        """It was requested again because it was mute, and is silent since."""
        self._abandons = 0
        self._abandoned_us: int | None = None

    def abandons(self, now: Now) -> bool | None:
        """Take note that the stream is mute. Return whether the connection is to be given up for it, None when it is too early for either."""
        if not self._told:
            self._told = True
            return False
        if self._abandoned_us is not None and now.mono_us - self._abandoned_us < ABANDON.delay_us(self._abandons):
            return None
        self._abandons += 1
        self._abandoned_us = now.mono_us
        return True

    def ended(self) -> None:
        """Take note that it is not requested any more: on the next connection, too, it is requested again before that is given up."""
        self._told = False

    def spoke(self) -> None:
        """Take note that the stream has sent frames."""
        self._told, self._abandons = False, 0

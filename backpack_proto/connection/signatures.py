"""Signatures of subscriptions: made at the moment of sending, and made again when they may have been wrong.

A refusal does not name its request, and the clock that was signed by may have been wrong, more than once. So refused private streams are
signed again when the exchange's clock is found to be another one, and much later without that, less and less often. Not at once: each frame
is refused by an error of its own, and one that came behind the new request would be blamed on that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from backpack_proto.backoff import Backoff
from backpack_proto.machine import Now

__all__ = ["ERRORS_US", "SIGN_AGAIN", "SIGN_ANYWAY", "WRONG_CLOCK_US", "Sign", "Signature", "Signatures"]


class Signature(NamedTuple):
    """Proof of who subscribes."""

    parts: tuple[str, str, str, str]
    """Key, signature, timestamp and window, as text (docs/protocol.md 3.1)."""
    unix_us: int
    """The exchange's time that was signed, microseconds since the epoch."""


Sign: TypeAlias = Callable[[Now], Signature]
"""Signs a SUBSCRIBE at the moment of sending."""

WRONG_CLOCK_US = 500_000
"""A signature that was this far off in time is worth another try: the exchange grants a window of seconds (docs/protocol.md 2.2)."""

ERRORS_US = 500_000
"""The errors of all frames that were signed together have come within this time."""

SIGN_AGAIN = Backoff(base_us=1_000_000, cap_us=60_000_000)
"""Number of times that refused private streams are signed again on one connection."""

SIGN_ANYWAY = Backoff(base_us=30_000_000, cap_us=600_000_000)
"""The same, though the clock was right."""


class Signatures:
    """Signs, and keeps by which clock and how often. A signature itself is never kept, for it is good for seconds."""

    def __init__(self, sign: Sign | None) -> None:
        """None means that there are no credentials."""
        self._sign = sign
        self._zero_us = 0
        """The exchange's time when our monotonic clock stood at zero, as it was known at the last signing."""
        self._signed_us = 0
        """When that was."""
        self._again = 0
        """Number of those on this connection."""
        self._not_before_us = 0
        self._clock_zero_us: int | None = None
        """The exchange's time when our monotonic clock stood at zero, as it is known now."""
        self.again_us: int | None = None
        """Time at which to decide whether refused streams are signed again."""

    @property
    def possible(self) -> bool:
        """True when there are credentials."""
        return self._sign is not None

    def make(self, now: Now) -> tuple[str, str, str, str]:
        """Return a signature of this moment."""
        assert self._sign is not None, "private streams without credentials are refused by Subscribe"  # noqa: S101
        signature = self._sign(now)
        self._zero_us = signature.unix_us - now.mono_us
        self._signed_us = now.mono_us
        return signature.parts

    def refused(self, now: Now) -> None:
        """Take note of an error about a signature. Others may be on their way, but a flood of them causes no delay."""
        if self.again_us is not None:
            return
        self._not_before_us = max(self._not_before_us, now.mono_us + ERRORS_US)
        self.again_us = self._not_before_us

    def know_clock(self, zero_us: int) -> None:
        """Take note of the exchange's time when our monotonic clock stood at zero."""
        self._clock_zero_us = zero_us

    def worth_another(self, now: Now) -> bool:
        """Return whether refused streams are to be signed again, by the exchange's clock as far as it is known."""
        if now.mono_us < self._not_before_us or self._clock_zero_us is None:
            return False
        wrong_clock = abs(self._clock_zero_us - self._zero_us) >= WRONG_CLOCK_US
        return wrong_clock or now.mono_us >= self._signed_us + SIGN_ANYWAY.delay_us(self._again + 1)

    def made_again(self, now: Now) -> None:
        """Take note that refused streams have been signed again."""
        self._again += 1
        self._not_before_us = now.mono_us + SIGN_AGAIN.delay_us(self._again)

    def start_over(self) -> None:
        """Forget how often it was: the connection is gone."""
        self._again, self._not_before_us, self.again_us = 0, 0, None

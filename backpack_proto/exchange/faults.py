"""Faults between a client and the exchange, for tests, and the request budget (docs/protocol.md 1.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from random import Random

__all__ = ["Fault", "Faults", "RateLimits"]

_MINUTE_US = 60_000_000
_HISTORICAL = ("/api/v1/klines", "/api/v1/trades/history")


class Fault(StrEnum):
    """Fault of one request."""

    LOSE_REPLY = "it is executed, and its connection dropped in place of the answer"
    ERROR_BEFORE = "503 without executing it"
    ERROR_AFTER = "502 after executing it"
    TOO_MANY_REQUESTS = "429 without executing it"
    EXPIRED = "its signature has expired, it is not executed"
    DELAY = "it is executed at once, and answered late"


class Faults:
    """Which requests go wrong, and how. Tests set its attributes, and everything is drawn from one seed."""

    def __init__(self, rng: Random) -> None:
        self.rates: dict[Fault, float] = {}
        """Probability of each fault, 0 to 1. Together at most 1."""
        self.only: tuple[str, ...] = ()
        """Beginnings of `METHOD /path`: other requests are spared, or empty for all."""
        self.delay_us = 2_000_000
        """Time that a delayed answer takes."""
        self.retry_after_s: int | None = None
        """Time that a 429 asks to wait, in its Retry-After header. Without one it does not say."""
        self.always: Fault | None = None
        """The fate of every request, while it is set. It goes before everything else."""
        self._rng = rng
        self._planned: deque[Fault | None] = deque()

    def plan(self, *faults: Fault | None) -> None:
        """Decide the fate of the next requests, one each, None for no fault. These go before the rates."""
        self._planned.extend(faults)

    def draw(self, method: str, path: str) -> Fault | None:
        """The fate of a request."""
        if self.always is not None:
            return self.always
        if self.only and not f"{method} {path}".startswith(self.only):
            return None
        if self._planned:
            return self._planned.popleft()
        if not self.rates:
            return None
        chance = self._rng.random()
        for fault, rate in self.rates.items():
            if chance < rate:
                return fault
            chance -= rate
        return None


class RateLimits:
    """Requests per minute. Further ones are refused and do not count."""

    def __init__(self) -> None:
        self.per_minute = 2_000
        self.historical_per_minute = 30
        """Of those for historical market data, which count against both."""
        self.public = False
        """True when requests without a signature count, as if they were the account's."""
        self._taken: dict[bool, deque[int]] = {False: deque(), True: deque()}
        """When the requests of the last minute came: historical ones, and all."""

    def admit(self, path: str, engine_us: int, *, signed: bool) -> bool:
        """Return whether one more request may be served at that time, in microseconds. If so, it counts."""
        if not signed and not self.public:
            return True
        historical = path in _HISTORICAL
        budgets: Iterable[tuple[deque[int], int]] = [(self._taken[False], self.per_minute)]
        if historical:
            budgets = [*budgets, (self._taken[True], self.historical_per_minute)]
        for taken, limit in budgets:
            while taken and taken[0] <= engine_us - _MINUTE_US:
                taken.popleft()
            if len(taken) >= limit:
                return False
        for taken, _ in budgets:
            taken.append(engine_us)
        return True

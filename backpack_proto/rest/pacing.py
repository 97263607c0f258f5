"""Request budgets: when a REST request may leave, and which one goes first.

Theory of operation. The exchange allows 2,000 requests a minute, and 30 a minute on the routes of historical market data, which
count against both budgets (docs/protocol.md 1.3). Each budget is a token bucket. A bucket of `burst` tokens that refills at
`per_minute - burst` a minute gives out at most `per_minute` tokens in any minute, wherever that minute begins.

The 2,000 are divided. A tenth is the RESERVE of cancels, the rest is STANDARD. `Enqueue` puts a request into line, `Granted` lets it
leave. Both are bare ids. Requests leave in the order of their `Importance`, and in that of arrival within a class, except that a
request that waits for the historical budget does not hold up those that do not need it. These are the rules of a class:

* A cancel takes a STANDARD token, and one of the RESERVE when there is none. Only cancels touch the RESERVE, so a cancel leaves at once
  before all that waits, unless all requests pause or the RESERVE is used up. Then cancels are the first to leave, at the rate of the budget.
* An audit needs a token of AUDITS besides, a quarter of the budget, and leaves only while more than half of the STANDARD burst is left:
  an order that comes right behind it finds a token.
* All others take a STANDARD token.

A refusal (HTTP 429) pauses everything by `PAUSE`, longer at each refusal in a row, or for as long
as the exchange asked if that is longer. No refusal pauses for longer than the ceiling: one header must not keep cancels from leaving
for years. A request that succeeds ends the row. Answers during a pause concern requests that
had left before it: a refusal can prolong the pause but does not double it, and a success does not end the row.

An exchange that asked for a longer pause than the ceiling refuses later requests again. So the first request after a pause is a
trial: the others, cancels and orders excepted, wait until it is answered, `TRIAL_US` at most. There are no other states, and so no table of them:
every input is possible at any time.

All arithmetic is in whole units of 1/60,000,000 token, of which `refill` trickle in per microsecond, without rounding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import product
from typing import Final, TypeAlias

from msgspec import Struct

from backpack_proto.backoff import Backoff
from backpack_proto.errors import LocalProtocolError
from backpack_proto.importance import Importance
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, earliest
from backpack_proto.values import Value

__all__ = ["PAUSE_CEILING_US", "Budget", "Cancel", "Enqueue", "Granted", "Pacer", "PacerState", "Refused", "Succeeded"]

PAUSE: Final = Backoff(base_us=1_000_000, cap_us=30_000_000)
"""Pauses after refusals in a row."""
PAUSE_CEILING_US: Final = 60_000_000
"""Longest pause after a refusal, even if the exchange asks for more."""
TRIAL_US: Final = 2_000_000
"""The longest time for which the first request after a pause holds up the others."""
_TOKEN = 60_000_000
_LONG_AGO = -(2**63)


class Budget(Struct, frozen=True, gc=False, kw_only=True):
    """Budget of requests: at most `per_minute` in any minute, and at most `burst` at once.

    Raises:
        LocalProtocolError: the burst is not between 1 and `per_minute - 1`.
    """

    per_minute: int
    burst: int

    def __post_init__(self) -> None:
        """Refuse a bucket that could never be filled or never be refilled."""
        if not 1 <= self.burst < self.per_minute:
            raise LocalProtocolError("a burst is at least 1 and less than what a minute allows")


STANDARD: Final = Budget(per_minute=1_800, burst=20)
"""Shared by all requests."""
RESERVE: Final = Budget(per_minute=200, burst=100)
"""Kept for cancels: a market maker takes a hundred quotes off the market at once."""
AUDITS: Final = Budget(per_minute=500, burst=10)
"""The share of the standard budget that audits may use."""
HISTORICAL: Final = Budget(per_minute=30, burst=5)


class Enqueue(Struct, frozen=True, gc=False, kw_only=True):
    """A request wants to leave."""

    request_id: int
    importance: Importance
    historical: bool = False
    """It is on a route of historical market data."""


class Cancel(Struct, frozen=True, gc=False):
    """A request need not leave any more. Nothing happens if it has left, and no other one leaves because of it."""

    request_id: int


class Refused(Struct, frozen=True, gc=False):
    """The exchange answered 429. `retry_after_us` is how long it asks to wait, None if it does not say."""

    retry_after_us: int | None = None


class Succeeded(Struct, frozen=True, gc=False):
    """The exchange answered anything but 429."""


class Granted(Struct, frozen=True, gc=False):
    """A request may leave now."""

    request_id: int


class PacerState(Value, frozen=True, gc=False, kw_only=True):
    """Rest of the budgets at one moment."""

    standard_available: int
    """Requests that could leave at once."""
    reserve_available: int
    """Cancels that could leave at once besides."""
    historical_available: int
    queued: int
    paused_until_us: int | None
    """On the monotonic clock, or None when not paused."""
    pause_us: int = 0
    """Time that the pause lasts in all, or 0 when not paused."""
    asked_us: int | None = None
    """Time that the exchange asked to wait, which may be longer than the pause, or None when not paused, or when it did not say."""
    snapshots_queued: int = 0
    """Those in line that are for books which are not live."""
    remaining_us: int = 0
    """Time until all in line have left, audits aside, if no others come."""


PacerInput: TypeAlias = Enqueue | Cancel | Refused | Succeeded | TimerFired


class Pacer:
    """Lets requests leave within the budgets: takes `PacerInput`, gives `Granted`."""

    def __init__(
        self,
        *,
        standard: Budget = STANDARD,
        reserve: Budget = RESERVE,
        audits: Budget = AUDITS,
        historical: Budget = HISTORICAL,
        pause_ceiling_us: int = PAUSE_CEILING_US,
    ) -> None:
        """Make a pacer with an empty line and without a pause.

        Args:
            standard: the budget that all requests share.
            reserve: the further budget that only cancels may use.
            audits: the part of the standard budget for audits.
            historical: the part of the standard budget for historical market data.
            pause_ceiling_us: longest pause after a refusal.

        Raises:
            LocalProtocolError: the ceiling is not positive.
        """
        if pause_ceiling_us < 1:
            raise LocalProtocolError(f"pause_ceiling_us: at least 1 microsecond, got {pause_ceiling_us}")
        self._standard = _Bucket(standard)
        self._reserve = _Bucket(reserve)
        self._audits = _Bucket(audits)
        self._historical = _Bucket(historical)
        self._left_by_audits = standard.burst // 2
        # A line maps the id of a request to the number of its arrival. The most important come first.
        self._lines: dict[tuple[Importance, bool], OrderedDict[int, int]] = {
            kind: OrderedDict() for kind in product(Importance, (False, True))
        }
        self._line_of: dict[int, OrderedDict[int, int]] = {}
        self._arrived = 0
        self._ceiling_us = pause_ceiling_us
        self._paused_since = _LONG_AGO
        self._paused_until = _LONG_AGO
        self._asked_us: int | None = None
        self._refusals = 0
        self._trial_due = False
        """The next request is the first after a pause."""
        self._trial_until = _LONG_AGO

    @property
    def deadline(self) -> int | None:
        """When the next request in line can be granted, or None when no one waits."""
        if not self._line_of:
            return None
        return earliest(*(max(ready, self._paused_until) for _, _, ready in self._ready()))

    def state(self, now: Now) -> PacerState:
        """Return the rest of the budgets."""
        paused = now.mono_us < self._paused_until
        return PacerState(
            standard_available=self._standard.available(now.mono_us),
            reserve_available=self._reserve.available(now.mono_us),
            historical_available=self._historical.available(now.mono_us),
            queued=len(self._line_of),
            paused_until_us=self._paused_until if paused else None,
            pause_us=self._paused_until - self._paused_since if paused else 0,
            asked_us=self._asked_us if paused else None,
            snapshots_queued=sum(
                len(line) for (importance, _), line in self._lines.items() if importance is Importance.SNAPSHOT
            ),
            remaining_us=self._remaining_us(now.mono_us),
        )

    def _remaining_us(self, mono_us: int) -> int:
        """Estimate how long until all in line have left but audits, which yield to everything."""
        waiting = sum(len(line) for (importance, _), line in self._lines.items() if importance is not Importance.AUDIT)
        begins_us = max(mono_us, self._paused_until)
        return begins_us - mono_us + self._standard.short_us(waiting, begins_us) if waiting else 0

    def handle(self, given: PacerInput, now: Now) -> list[Granted]:
        """Take one input and return every request that may leave at that moment, in order.

        Raises:
            LocalProtocolError: a request with that id is in line already, or an input of another kind.
        """
        paused = now.mono_us < self._paused_until
        match given:
            case Enqueue(request_id=request_id):
                if request_id in self._line_of:
                    raise LocalProtocolError(f"request {request_id} is in line already")
                line = self._lines[given.importance, given.historical]
                self._line_of[request_id] = line
                self._arrived += 1
                line[request_id] = self._arrived
            case Cancel(request_id=request_id):
                if request_id in self._line_of:
                    del self._line_of.pop(request_id)[request_id]
                return []
            case Refused(retry_after_us=retry_after_us):
                pause_us = retry_after_us or 0
                if not paused:
                    self._refusals += 1
                    pause_us = max(pause_us, PAUSE.delay_us(self._refusals))
                    self._paused_since = now.mono_us
                    self._asked_us = None
                self._trial_due, self._trial_until = True, _LONG_AGO
                self._paused_until = max(self._paused_until, now.mono_us + min(pause_us, self._ceiling_us))
                if retry_after_us is not None:
                    self._asked_us = max(self._asked_us or 0, retry_after_us)
            case Succeeded():
                if not paused:
                    self._refusals = 0
                    self._trial_until = _LONG_AGO
            case TimerFired():
                pass
            case _:
                raise LocalProtocolError(f"{type(given).__name__} is no input of a pacer")
        return self._grant(now.mono_us)

    def _grant(self, mono_us: int) -> list[Granted]:
        granted: list[Granted] = []
        if mono_us < self._paused_until:
            return granted
        while (line := self._next_line(mono_us)) is not None:
            request_id, _ = line.popitem(last=False)
            del self._line_of[request_id]
            granted.append(Granted(request_id))
            if self._trial_due:
                self._trial_due, self._trial_until = False, mono_us + TRIAL_US
        return granted

    def _next_line(self, mono_us: int) -> OrderedDict[int, int] | None:
        """Take the tokens for the request to be served next, and return the line that it heads, or None if no request can leave."""
        if not self._line_of:
            return None
        ready = [(importance, historical) for importance, historical, ready_us in self._ready() if ready_us <= mono_us]
        if not ready:
            return None
        importance, historical = min(ready, key=lambda kind: (kind[0], _head(self._lines[kind])))
        spare = importance is Importance.CANCEL and mono_us < self._standard.ready_us()
        (self._reserve if spare else self._standard).take(mono_us)
        if importance is Importance.AUDIT:
            self._audits.take(mono_us)
        if historical:
            self._historical.take(mono_us)
        return self._lines[importance, historical]

    def _ready(self) -> Iterator[tuple[Importance, bool, int]]:
        """Say of each class with a request in line when its budgets let the first one leave."""
        standard = self._standard.ready_us()
        for (importance, historical), line in self._lines.items():
            if not line:
                continue
            if importance is Importance.CANCEL:
                ready = min(standard, self._reserve.ready_us())
            elif importance is Importance.AUDIT:
                ready = max(self._standard.ready_us(self._left_by_audits + 1), self._audits.ready_us(), self._trial_until)
            else:
                ready = standard if importance is Importance.ORDER else max(standard, self._trial_until)
            yield importance, historical, max(ready, self._historical.ready_us()) if historical else ready


class _Bucket:
    """One token bucket, full at first."""

    def __init__(self, budget: Budget) -> None:
        self._capacity = budget.burst * _TOKEN
        self._refill = budget.per_minute - budget.burst
        self._level = self._capacity
        self._counted_us = _LONG_AGO

    def ready_us(self, tokens: int = 1) -> int:
        """Return the moment at which there are so many tokens, on the monotonic clock."""
        return self._counted_us - min(0, (self._level - tokens * _TOKEN) // self._refill)

    def short_us(self, tokens: int, mono_us: int) -> int:
        """Return how long from a moment on it takes until so many tokens, perhaps more than it holds, have come and gone."""
        return -min(0, (self._level_at(mono_us) - tokens * _TOKEN) // self._refill)

    def available(self, mono_us: int) -> int:
        """Number of whole tokens."""
        return self._level_at(mono_us) // _TOKEN

    def take(self, mono_us: int) -> None:
        """Take one of the tokens that are there."""
        self._level = self._level_at(mono_us) - _TOKEN
        self._counted_us = mono_us

    def _level_at(self, mono_us: int) -> int:
        return min(self._capacity, self._level + self._refill * (mono_us - self._counted_us))


def _head(line: OrderedDict[int, int]) -> int:
    """The number of arrival of the first in line."""
    return next(iter(line.values()))

"""Audits: a book that follows its stream is compared with a fresh snapshot from time to time, and whenever it is doubted.

Theory of operation. RESTING, the next audit is due after the interval of `AuditPace`. ASKED, a snapshot is on its way, and the deltas that
the book takes in are kept, so that the snapshot can be rolled forward to the book. It may be ahead of the stream: then the audit is AHEAD
until the book has reached it. A stream that does not within LAG_US is stuck. OFF, the book does not follow, so there is no audit.

An audit has three outcomes. `Agreed` is evidence, as old as the sending of the request. `Differed` is counter-evidence. `Unmade` is no evidence:
the claim of the book ages, and the audit is tried again sooner. A snapshot that ends before the audit began, or whose levels
were used up on the way, is no evidence either. It is asked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import TypeAlias

from msgspec import Struct

from backpack_proto.backoff import Backoff
from backpack_proto.claims import AUDIT_US, AUDITS_PER_MINUTE
from backpack_proto.inputs import TimerFired, Verify
from backpack_proto.machine import Now, Timers, Transitions, due
from backpack_proto.streams.payloads import Depth

from .levels import Book
from .signals import Ask, FrameLost, SnapshotArrived, SnapshotFailed, SnapshotRequested
from .verification import SnapshotCheck, Verdict

__all__ = [
    "TRANSITIONS",
    "Agreed",
    "Audit",
    "AuditInput",
    "AuditOutput",
    "AuditState",
    "AuditTimer",
    "Differed",
    "Follow",
    "Stop",
    "Unmade",
]

ANSWER_US = 15_000_000
"""Time that a snapshot may take once it is requested."""
FIRST_AUDIT_US = 10_000_000
LAG_US = 5_000_000
"""Time that the stream may need to reach a snapshot that is ahead of it."""
AGAIN = Backoff(base_us=200_000, cap_us=30_000_000)
"""When a snapshot that was of no use is asked for again."""
RETRY = Backoff(base_us=5_000_000, cap_us=30_000_000)
"""When an audit that could not be made is tried again."""
SUSPICION = Backoff(base_us=5_000_000, cap_us=60_000_000)
"""Number of audits that unreadable frames may cause, while the audits agree."""


class Follow(Struct, frozen=True, gc=False):
    """The book follows its stream from here on."""


class Stop(Struct, frozen=True, gc=False):
    """It does not any more."""


class Agreed(Struct, frozen=True, gc=False):
    """Output: the book is equal to a snapshot."""

    sent_us: int
    """When the snapshot was requested."""
    snapshot: Book
    """Rolled forward to the book."""


class Differed(Struct, frozen=True, gc=False):
    """Output: the book is wrong, or, not `diverged`, its stream is stuck."""

    reason: str
    diverged: bool


class Unmade(Struct, frozen=True, gc=False):
    """Output: the audit could not be made."""

    reason: str
    retry_us: int
    final: bool
    """The exchange has refused the snapshot."""


class AuditState(Enum):
    """Progress of the current audit."""

    OFF = auto()
    RESTING = auto()
    ASKED = auto()
    AHEAD = auto()


class AuditTimer(Enum):
    """The meanings of the deadline."""

    DUE = auto()
    ANSWER = auto()
    REACH = auto()
    """The stream has not reached the snapshot."""


AuditInput: TypeAlias = (
    Follow | Stop | Verify | FrameLost | Depth | SnapshotRequested | SnapshotArrived | SnapshotFailed | TimerFired
)
AuditOutput: TypeAlias = Ask | Agreed | Differed | Unmade

S = AuditState
TRANSITIONS = Transitions(
    [
        (S.OFF, Follow, S.RESTING),
        *((state, Stop, S.OFF) for state in AuditState),
        (S.RESTING, Verify, S.ASKED),
        (S.RESTING, FrameLost, S.RESTING),
        (S.RESTING, FrameLost, S.ASKED),
        (S.RESTING, TimerFired, S.ASKED),
        *((state, given, state) for state in (S.ASKED, S.AHEAD) for given in (Verify, FrameLost, Depth)),
        (S.ASKED, SnapshotRequested, S.ASKED),
        (S.ASKED, SnapshotArrived, S.AHEAD),
        (S.ASKED, SnapshotArrived, S.RESTING),
        (S.ASKED, SnapshotFailed, S.RESTING),
        (S.ASKED, TimerFired, S.RESTING),
        (S.ASKED, Depth, S.RESTING),
        (S.AHEAD, Depth, S.RESTING),
        (S.AHEAD, TimerFired, S.RESTING),
    ]
)


class Audit:
    """Audits one book. A machine."""

    def __init__(self, book: Book) -> None:
        """The interval is that of the book's claims. Without audits it answers `Verify` and suspicion alone."""
        self._book = book
        self._state = AuditState.OFF
        self._timers: Timers[AuditTimer] = Timers()
        self._check: SnapshotCheck | None = None
        """While ASKED and AHEAD."""
        self._sent_us = 0
        self._useless = 0
        """Snapshots in a row that were of no use."""
        self._failures = 0
        self._demanded = False
        """The audit was asked for, and is made though there are no regular ones."""
        self._suspicions = 0
        self._suspected_us: int | None = None
        self._doubted = False
        """A frame was lost since the last audit began."""

    @property
    def state(self) -> AuditState:
        """Progress of the current audit."""
        return self._state

    @property
    def running(self) -> bool:
        """True when deltas that the book takes in have to be given."""
        return self._check is not None

    @property
    def deadline(self) -> int | None:
        """The first of the timers."""
        return self._timers.earliest

    def handle(self, given: AuditInput, now: Now) -> Sequence[AuditOutput]:
        """Take one input and return its outputs. A delta is given after the book has taken it in, and only to a running audit.

        Raises:
            LocalProtocolError: the input is impossible in this state (`TRANSITIONS`). The state is unchanged.
        """
        if isinstance(given, TimerFired) and not due(self.deadline, now):
            return []
        TRANSITIONS.check(self._state, given)
        match given:
            case Depth():
                return self._follow(given, now)
            case TimerFired():
                return self._fire(given, now)
            case Verify():
                return self._ask(given) if self._check is None else []
            case FrameLost():
                return self._suspect(given, now)
            case SnapshotRequested():
                self._sent_us = now.mono_us
                self._timers.set(AuditTimer.ANSWER, now.mono_us + ANSWER_US)
                return []
            case SnapshotArrived():
                return self._arrive(given, now)
            case SnapshotFailed(reason=reason, final=final):
                return self._unmade(given, reason, now, final=final)
            case Follow():
                self._enter(AuditState.RESTING, given)
                self._useless = self._failures = 0
                self._demanded = False
                pace = self._book.claims.pace
                # Books that began together are not audited together.
                self._rest(now.mono_us + min(FIRST_AUDIT_US + pace.books * AUDIT_US // AUDITS_PER_MINUTE, pace.interval_us))
                return []
            case Stop():
                self._enter(AuditState.OFF, given)
                self._check = None
                self._doubted = False
                self._timers.clear()
                return []

    def _rest(self, due_us: int) -> None:
        self._check = None
        self._timers.clear()
        if self._demanded or self._book.claims.pace.audits:
            self._timers.set(AuditTimer.DUE, due_us)

    def _ask(self, given: Verify | FrameLost | TimerFired) -> Sequence[AuditOutput]:
        self._enter(AuditState.ASKED, given)
        self._timers.clear()
        self._check = SnapshotCheck(self._book.last, self._book.engine_us)
        self._demanded = self._demanded or self._doubted or not isinstance(given, TimerFired)
        self._doubted = False
        return [Ask()]

    def _suspect(self, given: FrameLost, now: Now) -> Sequence[AuditOutput]:
        """Audit a book of which a frame may have been lost: in a quiet market no next frame would show the gap."""
        if self._check is not None:
            return []
        suspected_us = self._suspected_us
        if suspected_us is not None:
            passed_us = now.mono_us - suspected_us
            wait_us = SUSPICION.delay_us(self._suspicions)
            if passed_us < wait_us:
                # Later, but before the next regular one: the frame may have been a change.
                due_us = self._timers.get(AuditTimer.DUE)
                again_us = suspected_us + wait_us
                self._timers.set(AuditTimer.DUE, again_us if due_us is None else min(due_us, again_us))
                self._doubted = True
                return []
            if passed_us >= 2 * SUSPICION.cap_us:
                self._suspicions = 0
        self._suspicions += 1
        self._suspected_us = now.mono_us
        return self._ask(given)

    def _fire(self, given: TimerFired, now: Now) -> Sequence[AuditOutput]:
        if self._state is AuditState.RESTING:
            if self._doubted:
                self._suspicions += 1
                self._suspected_us = now.mono_us
            return self._ask(given)
        if self._state is AuditState.ASKED:
            return self._unmade(given, "no answer in time", now, final=False)
        snapshot = self._check.snapshot if self._check is not None else None
        self._enter(AuditState.RESTING, given)
        self._rest(now.mono_us + RETRY.base_us)
        last = 0 if snapshot is None else snapshot.last
        return [Differed(f"the stream did not reach {last}, where the snapshot is", diverged=False)]

    def _arrive(self, given: SnapshotArrived, now: Now) -> Sequence[AuditOutput]:
        check = self._check
        if check is None:
            raise AssertionError("an audit that is asked for has a check")
        snapshot = given.book(self._book.symbol)
        if snapshot.crossed:
            return self._unmade(given, "the snapshot is crossed", now, final=False)
        if not check.usable(snapshot):
            return self._ask_later(given, now, f"the snapshot ends at {snapshot.last}, before the audit began")
        if check.outdates(snapshot):
            return self._unmade(
                given, f"the snapshot ends at {snapshot.last}, and is older than the book at that id", now, final=False
            )
        check.snapshot = snapshot
        outputs = self._compare(given, now)
        if self._check is not None:
            self._enter(AuditState.AHEAD, given)
            self._timers.clear()
            self._timers.set(AuditTimer.REACH, now.mono_us + LAG_US)
        return outputs

    def _follow(self, delta: Depth, now: Now) -> Sequence[AuditOutput]:
        check = self._check
        if check is None:
            return []
        check.delta_applied(delta)
        if check.overfull and check.snapshot is None:
            return self._unmade(delta, "more deltas than an audit keeps", now, final=False)
        return self._compare(delta, now)

    def _compare(self, given: SnapshotArrived | Depth, now: Now) -> Sequence[AuditOutput]:
        check = self._check
        if check is None or check.snapshot is None:
            return []
        verdict = check.compare(self._book)
        if verdict is Verdict.OPEN:
            return []
        if verdict is Verdict.VOID:
            return self._ask_later(given, now, "the snapshot's levels are used up")
        snapshot = check.snapshot
        self._enter(AuditState.RESTING, given)
        self._useless = self._failures = 0
        self._demanded = False
        self._rest(now.mono_us + self._book.claims.pace.interval_us)
        return [Differed(verdict, diverged=True)] if isinstance(verdict, str) else [Agreed(self._sent_us, snapshot)]

    def _ask_later(self, given: SnapshotArrived | Depth, now: Now, reason: str) -> Sequence[AuditOutput]:
        """Try again soon with a fresh check, for a while in silence: a snapshot lags the stream by a few dozen ids at most."""
        self._useless += 1
        retry_us = AGAIN.delay_us(self._useless)
        if retry_us >= RETRY.base_us:
            return self._unmade(given, reason, now, final=False)
        self._enter(AuditState.RESTING, given)
        self._rest(now.mono_us + retry_us)
        return []

    def _unmade(
        self, given: SnapshotArrived | SnapshotFailed | Depth | TimerFired, reason: str, now: Now, *, final: bool
    ) -> Sequence[AuditOutput]:
        self._failures += 1
        retry_us = RETRY.delay_us(self._failures)
        self._enter(AuditState.RESTING, given)
        self._rest(now.mono_us + retry_us)
        return [Unmade(reason, retry_us, final)]

    def _enter(self, state: AuditState, given: AuditInput) -> None:
        self._state = TRANSITIONS.step(self._state, given, state)

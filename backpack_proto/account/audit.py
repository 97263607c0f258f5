"""The auditing machine: the proof that a live ledger is right is renewed again and again, or expires.

Theory of operation. The claim of a live ledger is a reading that agreed, at most CLAIM_US old, and a reading is as old as the sending of its
first request. So every AUDIT_US, and sooner while a part is doubted, all is READING again. Then the check waits for GRACE_US, for
updates that were on their way, and compares all parts that have not moved since it began.

A check has three ends. It agreed: the claim is renewed. It differed: the ledger is read again. A part that differs a second time, though it was read
again in between, is taken as the exchange lists it, and one that differs even then is doubted by itself (`Ledger.unmended`): no repair is
repeated in silence. If the streams that should have reported it are silent since the ledger is live, they are mute, even though the
connection is open (`UpdatesMute`). It could not be made: that is reported the first time, tried again with a growing wait, and the claim ages. Where
the exchange refuses the signature, it ends at once.

No stream reports the margin. So when the account moves between two checks, the margin alone is READING, MARGIN_AFTER_US later, so that
updates that belong together cause one reading, at most one in MARGIN_EVERY_US. That is not a check: it compares no parts and renews no claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import ClassVar, Final, TypeAlias

from msgspec import Struct

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, Timers, Transitions
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.payloads import BalanceUpdate, Event, OrderUpdate, PositionUpdate
from backpack_proto.text import printable

from .ledger import Ledger, Update, subject_of
from .readings import ANSWERS, LAST, CollateralRead, ReadAccount, ReadFailed, Reading, ReadingRequested, answers
from .rounds import Attempts, Round
from .signals import ANSWER_US, RETRY, UPDATES, Agreed, ReadAgain, UpdatesMute, stream_of
from .subjects import Kind, Subject
from .values import AccountConfirmed, AccountDiverged, AccountUnconfirmed

__all__ = [
    "AUDIT_US",
    "CLAIM_US",
    "GRACE_US",
    "MARGIN_AFTER_US",
    "MARGIN_EVERY_US",
    "TRANSITIONS",
    "Audit",
    "AuditInput",
    "AuditState",
    "StartAudits",
    "StopAudits",
]

AUDIT_US: Final = 60_000_000
CLAIM_US: Final = 120_000_000
"""Largest age of the last reading that agreed."""
GRACE_US: Final = 2_000_000
"""Time that a check waits for updates that were on their way when it read."""
MARGIN_AFTER_US: Final = 1_000_000
"""Time between an update and the reading of the margin."""
MARGIN_EVERY_US: Final = 5_000_000
"""Shortest time between two such readings: 24 requests a minute."""


class StartAudits(Struct, frozen=True, gc=False):
    """The ledger is live, by readings of which the first was requested at this moment."""

    requested_us: int


class StopAudits(Struct, frozen=True, gc=False):
    """The ledger is not live any more."""


class AuditState(Enum):
    """State of the machine."""

    OFF = auto()
    WAITING = auto()
    READING = auto()
    COMPARING = auto()
    """All is read. Updates may be on their way."""


class Timer(Enum):
    """Why the machine wants to be woken."""

    NEXT = auto()
    ANSWER = auto()
    GRACE = auto()
    CLAIM = auto()
    MARGIN = auto()


class _Off(Struct):
    state: ClassVar[AuditState] = AuditState.OFF


class _Waiting(Struct):
    state: ClassVar[AuditState] = AuditState.WAITING


class _Reading(Struct):
    state: ClassVar[AuditState] = AuditState.READING
    round: Round
    moved: set[Subject]
    """Subjects that the streams have reported since the round began."""
    requested_us: int
    sent: bool = False
    """The first reading was sent at that time. Otherwise it was asked for then."""
    next_us: int | None = None
    """When the next check is due, if this reads the margin alone."""


class _Comparing(Struct):
    state: ClassVar[AuditState] = AuditState.COMPARING
    round: Round
    moved: set[Subject]
    requested_us: int


_State: TypeAlias = _Off | _Waiting | _Reading | _Comparing
AuditInput: TypeAlias = StartAudits | StopAudits | Update | ReadingRequested | Reading | ReadFailed | TimerFired
AuditOutput: TypeAlias = Event | ReadAccount | ReadAgain | Agreed | UpdatesMute

_S = AuditState
_ON = (_S.WAITING, _S.READING, _S.COMPARING)
TRANSITIONS: Final = Transitions(
    [
        (_S.OFF, StartAudits, _S.WAITING),
        *((state, StopAudits, _S.OFF) for state in _ON),
        *((state, update, state) for state in _ON for update in UPDATES),
        *((state, TimerFired, state) for state in (_S.OFF, _S.WAITING)),
        *((_S.READING, reading, _S.READING) for reading in ANSWERS.values()),
        *((_S.READING, reading, _S.COMPARING) for reading in LAST),
        (_S.WAITING, TimerFired, _S.READING),
        (_S.READING, ReadingRequested, _S.READING),
        *((_S.READING, given, _S.WAITING) for given in (ReadFailed, TimerFired)),
        (_S.READING, ReadFailed, _S.OFF),
        (_S.READING, CollateralRead, _S.WAITING),
        (_S.COMPARING, TimerFired, _S.WAITING),
        # A check that differs ends the claim of the ledger, and so does its age.
        *((state, TimerFired, _S.OFF) for state in _ON),
    ]
)


class Audit:
    """Checks a live ledger. A machine."""

    def __init__(self, ledger: Ledger, attempts: Attempts) -> None:
        self._ledger = ledger
        self._attempts = attempts
        self._now: _State = _Off()
        self._timers: Timers[Timer] = Timers()
        self._asked: ReadAccount | None = None
        self._confirmed_us: int | None = None
        self._failures = 0
        """Checks in a row that could not be made."""
        self._margin_us: int | None = None
        """When the margin alone was read last."""
        self._doubted = 0
        """Checks in a row that left something doubted."""
        self._spoken: set[str] = set()
        """The streams that have sent something since the ledger is live."""
        self._differed: dict[Subject, int] = {}
        """Number of times in a row that each subject has differed, repairs in between included."""

    @property
    def deadline(self) -> int | None:
        """The earliest of the timers."""
        return self._timers.earliest

    @property
    def state(self) -> AuditState:
        """State of the machine."""
        return self._now.state

    @property
    def asked(self) -> ReadAccount | None:
        """The reading whose answer is awaited."""
        return self._asked

    @property
    def confirmed_us(self) -> int | None:
        """As of when the ledger is proved right, on the monotonic clock, or None unless it is live."""
        return self._confirmed_us

    def handle(self, given: AuditInput, now: Now) -> Sequence[AuditOutput]:
        """Take one input. Return lists to read, and results.

        Raises:
            LocalProtocolError: the input is impossible in this state.
        """
        if not answers(self._asked, given):
            return ()
        TRANSITIONS.check(self.state, given)
        match given:
            case StartAudits(requested_us):
                self._enter(_Waiting(), given)
                self._spoken.clear()
                self._confirm(requested_us)
                self._wait(now)
                return ()
            case StopAudits():
                self._stop(given)
                return ()
            case ReadingRequested():
                self._timers.set(Timer.ANSWER, now.mono_us + ANSWER_US)
                if isinstance(self._now, _Reading):
                    self._leave(self._now, now)
                return ()
            case ReadFailed(reason=reason, refused=refused):
                return self._failed(given, reason, now, refused=refused)
            case TimerFired():
                return self._timer_fired(given, now)
            case OrderUpdate() | PositionUpdate() | BalanceUpdate():
                self._spoken.add(stream_of(given))
                if isinstance(self._now, _Reading | _Comparing):
                    self._now.moved.add(subject_of(given))
                elif self._timers.get(Timer.MARGIN) is None:
                    self._want_margin(now)
                return ()
        return self._read(given, now)

    def _enter(self, state: _State, given: AuditInput) -> None:
        TRANSITIONS.step(self.state, given, state.state)
        self._now = state
        self._asked = None
        self._timers.cancel(Timer.NEXT, Timer.ANSWER, Timer.GRACE, Timer.MARGIN)

    def _stop(self, given: AuditInput) -> None:
        self._enter(_Off(), given)
        self._confirmed_us = None
        self._timers.set(Timer.CLAIM, None)

    def _confirm(self, requested_us: int) -> None:
        self._confirmed_us = requested_us
        self._failures = 0
        self._timers.set(Timer.CLAIM, requested_us + CLAIM_US)

    def _wait(self, now: Now) -> None:
        """Set the timer of the next check: soon where something is doubted, less and less so while it remains."""
        self._doubted = self._doubted + 1 if self._ledger.doubts else 0
        failures = self._failures or self._doubted
        self._timers.set(Timer.NEXT, now.mono_us + (RETRY.delay_us(failures) if failures else AUDIT_US))
        if self._ledger.standing.moved:
            self._want_margin(now)

    def _want_margin(self, now: Now) -> None:
        """Set the timer of a reading of the margin, unless a check that is due no later has one."""
        again_us = now.mono_us if self._margin_us is None else self._margin_us + MARGIN_EVERY_US
        wanted_us = max(now.mono_us + MARGIN_AFTER_US, again_us)
        if wanted_us < (self._timers.get(Timer.NEXT) or wanted_us):
            self._timers.set(Timer.MARGIN, wanted_us)

    def _leave(self, state: _Reading, now: Now) -> None:
        """Take note that the reading that is asked for is sent."""
        if self._asked is not None:
            state.round.leave(self._asked, now)
        if not state.sent:
            state.sent = True
            state.requested_us = now.mono_us

    def _timer_fired(self, given: TimerFired, now: Now) -> Sequence[AuditOutput]:
        due = self._timers.take(now.mono_us)
        state = self._now
        if Timer.CLAIM in due:
            self._stop(given)
            return [ReadAgain(f"its last proof is {CLAIM_US // 1_000_000} s old")]
        if Timer.ANSWER in due:
            return self._failed(given, "no answer in time", now, refused=False)
        if Timer.NEXT in due:
            self._enter(_Reading(self._ledger.round(audit=True), set(), now.mono_us), given)
            return self._ask_on(now)
        if Timer.MARGIN in due:
            next_us = self._timers.get(Timer.NEXT)
            self._margin_us = now.mono_us
            self._enter(_Reading(self._ledger.margin_round(), set(), now.mono_us, next_us=next_us), given)
            return self._ask_on(now)
        if Timer.GRACE in due and isinstance(state, _Comparing):
            return self._compare(state, given, now)
        return ()

    def _ask_on(self, now: Now) -> list[AuditOutput]:
        """Ask for the next reading of the round."""
        asked = self._asked = self._now.round.next(self._attempts) if isinstance(self._now, _Reading) else None
        if asked is None or not isinstance(self._now, _Reading):
            return []
        self._now.round.leave(asked, now)
        return [asked]

    def _failed(self, given: ReadFailed | TimerFired, reason: str, now: Now, *, refused: bool) -> list[AuditOutput]:
        if refused:
            self._stop(given)
            return [ReadAgain(reason, refused=True)]
        next_us = self._now.next_us if isinstance(self._now, _Reading) else None
        self._enter(_Waiting(), given)
        if next_us is not None:
            # No check has failed, and the account has moved still.
            self._timers.set(Timer.NEXT, next_us)
            self._want_margin(now)
            return []
        self._failures += 1
        self._wait(now)
        return [AccountUnconfirmed(reason=reason)] if self._failures == 1 else []

    def _read(self, given: Reading, now: Now) -> Sequence[AuditOutput]:
        asked, state = self._asked, self._now
        if asked is None or not isinstance(state, _Reading):
            raise AssertionError(f"{type(given).__name__} was not asked for")
        self._timers.set(Timer.ANSWER, None)
        listed = state.round.listed
        state.round.take(asked, given)
        if state.round.listed and not listed:
            moved = {subject.key for subject in state.moved if subject.kind is Kind.ORDER}
            state.round.look_up(self._ledger.look_ups(state.round, moved, live=True))
        following = self._ask_on(now)
        if not following and state.next_us is not None:
            self._enter(_Waiting(), given)
            self._timers.set(Timer.NEXT, state.next_us)
            events: list[AuditOutput] = [*self._ledger.take_margin(state.round, state.moved)]
            if self._ledger.standing.moved:
                self._want_margin(now)
            return events
        if not following:
            self._enter(_Comparing(state.round, state.moved, state.requested_us), given)
            self._timers.set(Timer.GRACE, now.mono_us + GRACE_US)
        return following

    def _compare(self, state: _Comparing, given: TimerFired, now: Now) -> list[AuditOutput]:
        """Compare the live ledger with the reading, except for parts that have moved since."""
        changes: list[AuditOutput] = [*self._ledger.settle(state.round, state.moved)]
        differences = dict(self._ledger.differences(state.round, state.moved))
        self._differed = {subject: self._differed.get(subject, 0) + 1 for subject in differences}
        unmended = {subject: text for subject, text in differences.items() if self._differed[subject] > 2}
        self._ledger.unmended = unmended
        wrong = [subject for subject in differences if subject not in unmended]
        if wrong:
            insisted = frozenset(subject for subject in wrong if self._differed[subject] > 1)
            what = differences[wrong[0]] if len(wrong) == 1 else f"{differences[wrong[0]]}, and {len(wrong) - 1} more"
            self._stop(given)
            what = printable(what)
            diverged = AccountDiverged(what=what, error=RemoteProtocolError(what), escalated=bool(insisted))
            return [*changes, diverged, ReadAgain(what, insisted), *self._mute(wrong, what)]
        self._enter(_Waiting(), given)
        changes += self._ledger.agree(state.round, state.moved)
        changes += [AccountConfirmed()] if self._failures else []
        self._confirm(state.requested_us)
        self._wait(now)
        return [*changes, Agreed()]

    def _mute(self, wrong: Sequence[Subject], reason: str) -> list[AuditOutput]:
        """Name the streams that are mute, if one of them should have reported the difference."""
        silent = [stream for stream in _TOLD_BY.values() if stream not in self._spoken]
        told = {_TOLD_BY[subject.kind] for subject in wrong}
        proved = tuple(stream for stream in silent if stream in told)
        return [UpdatesMute(proved=proved, streams=tuple(silent), reason=reason)] if proved else []


_TOLD_BY: Final = {
    Kind.ORDER: Channel.ORDER_UPDATE.value,
    Kind.POSITION: Channel.POSITION_UPDATE.value,
    Kind.BALANCE: Channel.BALANCE_UPDATE.value,
}

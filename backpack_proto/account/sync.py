"""The synchronising machine: from a subscription to a ledger that follows the streams.

Theory of operation. The private streams report changes and, but for positions, never a beginning (docs/protocol.md 4.10 to 4.12). So
whenever they are requested the ledger is SETTLING: readings begin after IN_FORCE_US, for a subscription is never
acknowledged. But the ledger's beginning is asked for at once, if it is not known. Then a round is READING, while the updates that come are
kept. When it is complete it is merged, the kept updates are put on top, and the ledger is LIVE: it follows the streams.

A reading that failed, or has had no answer, is RETRYING, with a growing wait. A frame that could not be read, a contradiction, and more
kept updates than KEPT_UPDATES make the ledger read again, at once the first time, and with the same growing wait until a check has agreed:
a fault of every frame must not cost a round of readings for each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum, auto
from typing import ClassVar, Final, TypeAlias

from msgspec import Struct

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, Timers, Transitions
from backpack_proto.streams.channels import IN_FORCE_US
from backpack_proto.streams.payloads import BalanceUpdate, Event, OrderUpdate, PositionUpdate
from backpack_proto.text import printable

from .ledger import Ledger, Update, subject_of
from .readings import (
    ANSWERS,
    LAST,
    AccountEnded,
    AccountRequested,
    FillsRead,
    PastOrdersRead,
    ReadAccount,
    ReadFailed,
    Reading,
    ReadingRequested,
    UpdateLost,
    answers,
)
from .rounds import Attempts, Beginning, Round
from .signals import ANSWER_US, ORDER_UPDATES, RETRY, UPDATES, Agreed, ReadAgain
from .subjects import Kind, Subject
from .values import AccountDiverged, AccountStale, AccountSynced

__all__ = ["KEPT_UPDATES", "TRANSITIONS", "AccountState", "Sync", "SyncInput"]

KEPT_UPDATES: Final = 10_000
"""Number of updates that are kept for a round of readings."""


class AccountState(Enum):
    """Trust in the ledger."""

    IDLE = auto()
    """The streams are not there."""
    SETTLING = auto()
    """The streams are requested, and not in force yet, or the ledger's beginning is not known."""
    READING = auto()
    """A round is being read."""
    RETRYING = auto()
    """The next round waits."""
    LIVE = auto()
    """The ledger follows the streams."""


CALM_US: Final = 30_000_000
"""A ledger that was live for so long is read again at once when it is wrong."""


class Timer(Enum):
    """Why the machine wants to be woken."""

    IN_FORCE = auto()
    ANSWER = auto()
    RETRY = auto()


class _Idle(Struct):
    state: ClassVar[AccountState] = AccountState.IDLE


class _Settling(Struct):
    state: ClassVar[AccountState] = AccountState.SETTLING
    kept: list[Update]
    until_us: int


class _Reading(Struct):
    state: ClassVar[AccountState] = AccountState.READING
    kept: list[Update]
    round: Round
    insisted: frozenset[Subject]
    requested_us: int
    """When the first reading was requested: the round is no proof of later changes."""
    sent: bool = False
    """That is when it was sent. Otherwise when it was asked for."""


class _Retrying(Struct):
    state: ClassVar[AccountState] = AccountState.RETRYING
    kept: list[Update]
    insisted: frozenset[Subject]


class _Live(Struct):
    state: ClassVar[AccountState] = AccountState.LIVE
    requested_us: int


_State: TypeAlias = _Idle | _Settling | _Reading | _Retrying | _Live
SyncInput: TypeAlias = (
    AccountRequested
    | AccountEnded
    | Update
    | UpdateLost
    | ReadAgain
    | Agreed
    | ReadingRequested
    | Reading
    | ReadFailed
    | TimerFired
)
SyncOutput: TypeAlias = Event | ReadAccount

_S = AccountState
_FOLLOWING = (_S.SETTLING, _S.READING, _S.RETRYING, _S.LIVE)
TRANSITIONS: Final = Transitions(
    [
        *((state, AccountRequested, _S.SETTLING) for state in AccountState),
        *((state, AccountEnded, _S.IDLE) for state in AccountState),
        *((state, update, state) for state in _FOLLOWING for update in UPDATES),
        *((_S.LIVE, given, to) for given in (*ORDER_UPDATES, UpdateLost, ReadAgain) for to in (_S.READING, _S.RETRYING)),
        (_S.LIVE, Agreed, _S.LIVE),
        *((state, TimerFired, state) for state in (_S.IDLE, _S.LIVE)),
        # Before a round no reading can lack a lost frame.
        *((state, UpdateLost, state) for state in (_S.SETTLING, _S.RETRYING)),
        *((_S.READING, given, to) for given in (*UPDATES, UpdateLost) for to in (_S.READING, _S.RETRYING)),
        *((state, given, state) for state in (_S.SETTLING, _S.READING) for given in (ReadingRequested, ReadFailed)),
        *((_S.SETTLING, given, _S.SETTLING) for given in (PastOrdersRead, FillsRead, TimerFired)),
        (_S.SETTLING, TimerFired, _S.READING),
        *((_S.READING, reading, _S.READING) for reading in ANSWERS.values()),
        *((_S.READING, reading, _S.LIVE) for reading in LAST),
        (_S.READING, ReadFailed, _S.RETRYING),
        (_S.READING, TimerFired, _S.RETRYING),
        (_S.RETRYING, TimerFired, _S.READING),
    ]
)


class Sync:
    """Brings a ledger up to the exchange and keeps it there. A machine."""

    def __init__(self, ledger: Ledger, attempts: Attempts) -> None:
        self._ledger = ledger
        self._attempts = attempts
        self._now: _State = _Idle()
        self._timers: Timers[Timer] = Timers()
        self._beginning = Beginning()
        self._heard_ms: int | None = None
        """When the first thing happened that the order stream reported, by the exchange's clock."""
        self._asked: ReadAccount | None = None
        self._failures = 0
        """Readings that failed, in a row."""
        self._again = 0
        """Rounds in a row that no agreed check has followed, beside those for a connection."""
        self._synced_us: int | None = None

    @property
    def deadline(self) -> int | None:
        """The earliest of the timers."""
        return self._timers.earliest

    @property
    def state(self) -> AccountState:
        """Progress of the machine."""
        return self._now.state

    @property
    def asked(self) -> ReadAccount | None:
        """The reading whose answer is awaited."""
        return self._asked

    @property
    def requested_us(self) -> int:
        """When the first reading of the last complete round was requested, or 0 unless the ledger is live."""
        return self._now.requested_us if isinstance(self._now, _Live) else 0

    def handle(self, given: SyncInput, now: Now) -> Sequence[SyncOutput]:
        """Take one input. Return changes, and lists to read.

        Raises:
            LocalProtocolError: the input is impossible in this state.
        """
        if not answers(self._asked, given):
            return ()
        TRANSITIONS.check(self.state, given)
        match given:
            case OrderUpdate() | PositionUpdate() | BalanceUpdate():
                return self._update(given, now)
            case AccountRequested():
                return self._request(given, now)
            case AccountEnded(reason):
                outputs = [AccountStale(reason=reason)] if isinstance(self._now, _Live) else []
                self._enter(_Idle(), given)
                return outputs
            case UpdateLost(reason):
                return self._lost(given, f"a private frame could not be read: {reason}", now)
            case ReadAgain(reason=reason):
                return self._read_again(given, reason, now, insisted=given.insisted, refused=given.refused)
            case Agreed():
                self._again = 0
                return ()
            case ReadingRequested():
                self._timers.set(Timer.ANSWER, now.mono_us + ANSWER_US)
                if isinstance(self._now, _Reading):
                    self._leave(self._now, now)
                return ()
            case ReadFailed(reason=reason):
                return self._failed(given, reason, now)
            case TimerFired():
                return self._timer_fired(given, now)
        return self._read(given, now)

    def _enter(self, state: _State, given: SyncInput) -> None:
        TRANSITIONS.step(self.state, given, state.state)
        self._now = state
        self._asked = None
        self._timers.clear()

    def _ask(self, asked: ReadAccount, now: Now) -> list[SyncOutput]:
        self._asked = asked
        if isinstance(self._now, _Reading):
            self._now.round.leave(asked, now)
        return [asked]

    def _leave(self, state: _Reading, now: Now) -> None:
        """Take note that the reading that is asked for is sent."""
        if self._asked is not None:
            state.round.leave(self._asked, now)
        if not state.sent:
            state.sent = True
            state.requested_us = now.mono_us

    def _request(self, given: AccountRequested, now: Now) -> list[SyncOutput]:
        self._failures = self._again = 0
        until_us = now.mono_us + IN_FORCE_US
        self._enter(_Settling([], until_us), given)
        outputs: list[SyncOutput] = [AccountStale(reason="it is being read")]
        if not self._beginning.complete:
            # Pages of the beginning that a lost connection left stay: the earlier it is, the less is taken to be from before.
            return outputs + self._ask(self._beginning.next(self._attempts), now)
        self._timers.set(Timer.IN_FORCE, until_us)
        return outputs

    def _timer_fired(self, given: TimerFired, now: Now) -> Sequence[SyncOutput]:
        due = self._timers.take(now.mono_us)
        if not due:
            return ()
        state = self._now
        if Timer.ANSWER in due:
            return self._failed(given, "no answer in time", now)
        if isinstance(state, _Settling) and not self._beginning.complete:
            return self._ask(self._beginning.next(self._attempts), now)
        if isinstance(state, _Settling | _Retrying):
            insisted = state.insisted if isinstance(state, _Retrying) else frozenset[Subject]()
            return self._begin(given, state.kept, insisted, now)
        raise AssertionError(f"no timer of {self.state.name} is due")

    def _begin(self, given: SyncInput, kept: list[Update], insisted: frozenset[Subject], now: Now) -> list[SyncOutput]:
        """Start a round of readings."""
        read = self._ledger.round(audit=False)
        self._enter(_Reading(kept, read, insisted, now.mono_us), given)
        asked = read.next(self._attempts)
        return [] if asked is None else self._ask(asked, now)

    def _failed(self, given: ReadFailed | TimerFired, reason: str, now: Now) -> list[SyncOutput]:
        self._failures += 1
        retry_us = RETRY.delay_us(self._failures)
        if isinstance(self._now, _Reading):
            self._enter(_Retrying(self._now.kept, self._now.insisted), given)
        self._asked = None
        self._timers.set(Timer.ANSWER, None)
        self._timers.set(Timer.RETRY, now.mono_us + retry_us)
        return [AccountStale(reason=f"{reason}; read again in {retry_us / 1_000_000:g} s")]

    def _read(self, given: Reading, now: Now) -> Sequence[SyncOutput]:
        asked, self._asked = self._asked, None
        self._timers.set(Timer.ANSWER, None)
        state = self._now
        if isinstance(state, _Settling) and isinstance(given, PastOrdersRead | FillsRead):
            return self._read_beginning(state, given, now)
        if asked is None or not isinstance(state, _Reading):
            raise AssertionError(f"{type(given).__name__} was not asked for")
        listed = state.round.listed
        state.round.take(asked, given)
        if state.round.listed and not listed:
            state.round.look_up(self._ledger.look_ups(state.round, _orders_of(state.kept), live=False))
        following = state.round.next(self._attempts)
        if following is not None:
            return self._ask(following, now)
        changes, fills = self._ledger.merge(state.round, state.kept, state.insisted)
        self._failures = 0
        self._enter(_Live(state.requested_us), given)
        self._synced_us = now.mono_us
        return [*changes, AccountSynced(orders=len(self._ledger.orders.open), fills=fills)]

    def _read_beginning(self, state: _Settling, given: PastOrdersRead | FillsRead, now: Now) -> Sequence[SyncOutput]:
        beginning = self._beginning
        beginning.take(given)
        if not beginning.complete:
            return self._ask(beginning.next(self._attempts), now)
        self._ledger.orders.past.begin(beginning, self._heard_ms)
        self._ledger.fills.begin(beginning.fills, beginning.fills_newest_ms or 0, self._heard_ms)
        self._failures = 0
        self._timers.set(Timer.IN_FORCE, max(state.until_us, now.mono_us))
        return ()

    def _update(self, update: Update, now: Now) -> Sequence[SyncOutput]:
        state = self._now
        if isinstance(state, _Live):
            fault = self._ledger.contradiction(update)
            changes = self._ledger.apply(update)
            return changes if fault is None else [*changes, *self._contradicted(update, fault, now)]
        if isinstance(state, _Idle):
            raise AssertionError("the table refuses updates without streams")  # noqa: TRY004 - not an argument of anybody's
        if not self._beginning.complete and self._heard_ms is None and isinstance(update, OrderUpdate):
            self._heard_ms = update.engine_us // 1000
        state.kept.append(update)
        # A fill is certain by itself. Kept alone, it would be lost with the connection while the beginning is not known.
        outputs: list[SyncOutput] = [*self._ledger.hear_fill(update)]
        if len(state.kept) <= KEPT_UPDATES:
            return outputs
        return [*outputs, *self._lost(update, f"more than {KEPT_UPDATES} updates came while it was read", now)]

    def _lost(self, given: Update | UpdateLost, reason: str, now: Now) -> Sequence[SyncOutput]:
        """Discard kept updates: a round that has begun may lack the lost ones, and one that begins later has them."""
        state = self._now
        if isinstance(state, _Settling | _Retrying):
            state.kept.clear()
            return ()
        insisted = state.insisted if isinstance(state, _Reading) else frozenset[Subject]()
        return self._read_again(given, reason, now, insisted=insisted)

    def _contradicted(self, update: Update, fault: str, now: Now) -> list[SyncOutput]:
        fault = printable(fault)
        diverged = AccountDiverged(what=fault, error=RemoteProtocolError(fault))
        return [diverged, *self._read_again(update, fault, now)]

    def _read_again(
        self,
        given: Update | UpdateLost | ReadAgain,
        reason: str,
        now: Now,
        *,
        insisted: frozenset[Subject] = frozenset(),
        refused: bool = False,
    ) -> list[SyncOutput]:
        if self._synced_us is not None and now.mono_us - self._synced_us >= CALM_US:
            # It was right for so long that this is not part of a series.
            self._again = 0
        self._again += 1
        if refused:
            self._failures += 1
        if self._again == 1 and not refused:
            return [AccountStale(reason=reason), *self._begin(given, [], insisted, now)]
        wait_us = RETRY.delay_us(max(self._again - 1, self._failures))
        self._enter(_Retrying([], insisted), given)
        self._timers.set(Timer.RETRY, now.mono_us + wait_us)
        return [AccountStale(reason=f"{reason}; read again in {wait_us / 1_000_000:g} s")]


def _orders_of(updates: Sequence[Update]) -> Collection[str]:
    return {key for update in updates for kind, key in [subject_of(update)] if kind is Kind.ORDER}

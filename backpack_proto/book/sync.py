"""From a subscription to a book: frames that are kept, snapshots, and the proof that they join.

Theory of operation. The steps are those of docs/protocol.md 5.2. A stream is IDLE until it is requested. FETCHING, frames are kept while a
snapshot is asked for, at once, for a quiet market may send no frame for half a minute. A snapshot alone does not prove the stream:
it is HELD until one of these shows that the stream is complete since:

* a frame that joins: a kept one that ends exactly where the snapshot does, or that begins at or before the next id.
* a `bookTicker` at exactly the snapshot's id.
* a second snapshot with the same id, sent APART_US or more after the first, and after the subscription took effect.

Then the book FOLLOWS its stream, until a `Resync`. A snapshot that ends before the kept frames begin is too old, and one that moves by more
than ID_LEAP is doubted, until a second one confirms it. When held snapshots move on and the stream does not say a word, it is mute
(`Mute`): the book does not live on snapshots. SUSPENDED, the market is closed, and no snapshot is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import TypeAlias

from msgspec import Struct

from backpack_proto.backoff import Backoff
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, Timers, Transitions, due
from backpack_proto.streams.payloads import BookTicker, Depth

from .kept import BACKWARDS_US, ID_LEAP, Join, Keep, KeptFrames
from .levels import Book
from .signals import (
    Ask,
    Begin,
    BookInForce,
    Mute,
    Resync,
    SnapshotArrived,
    SnapshotFailed,
    SnapshotRequested,
    StartedOver,
    StreamEnded,
    StreamRequested,
    StreamSuspended,
    Unavailable,
    Unfit,
)

__all__ = ["TRANSITIONS", "Sync", "SyncInput", "SyncOutput", "SyncState", "SyncTimer"]

ANSWER_US = 15_000_000
"""Time that a snapshot may take once it is requested. Waiting for the request budget does not count."""
RETRY = Backoff(base_us=1_000_000, cap_us=30_000_000)
"""When a snapshot is asked for again."""
TOO_OLD_RETRY = Backoff(base_us=200_000, cap_us=RETRY.cap_us)
"""The same, of one that was too old: a snapshot lags the stream by a few dozen ids at most, so the next one joins on."""
DOUBTED_RETRY_US = 1_000_000
"""When a snapshot that was doubted is asked for again."""
APART_US = 5_000_000
"""Two snapshots with the same id prove a quiet market when they lie this far apart."""
TAKEN_US = 10_000_000
"""A subscription is taken to be in force after this time where no stream shows it."""
CALM_US = 10_000_000
"""A book that lived this long is not part of a series of failures."""
MUTE_MOVES = 2
"""Number of times that held snapshots move on, without a frame, before the stream counts as mute."""


class SyncState(Enum):
    """Progress of a stream towards a book that follows."""

    IDLE = auto()
    FETCHING = auto()
    HELD = auto()
    FOLLOWING = auto()
    SUSPENDED = auto()


class SyncTimer(Enum):
    """The meanings of the deadline."""

    ANSWER = auto()
    """A requested snapshot has not come."""
    RETRY = auto()
    SECOND = auto()
    """The second snapshot of a quiet market."""


SyncInput: TypeAlias = (
    StreamRequested
    | BookInForce
    | StreamEnded
    | StreamSuspended
    | Depth
    | BookTicker
    | SnapshotRequested
    | SnapshotArrived
    | SnapshotFailed
    | Resync
    | Unfit
    | TimerFired
)
SyncOutput: TypeAlias = Ask | Begin | Unavailable | StartedOver | Mute

S = SyncState
_WAITING = (S.FETCHING, S.HELD)
TRANSITIONS = Transitions(
    [
        *((state, StreamRequested, S.FETCHING) for state in SyncState),
        *((state, StreamEnded, S.IDLE) for state in SyncState),
        *((state, StreamSuspended, S.SUSPENDED) for state in SyncState),
        *((state, BookInForce, state) for state in SyncState if state is not S.IDLE),
        *((state, given, state) for state in _WAITING for given in (Depth, BookTicker, SnapshotRequested, TimerFired)),
        *((state, SnapshotFailed, state) for state in _WAITING),
        (S.FETCHING, SnapshotArrived, S.FETCHING),
        (S.FETCHING, SnapshotArrived, S.HELD),
        (S.HELD, SnapshotArrived, S.HELD),
        (S.HELD, SnapshotArrived, S.FETCHING),
        (S.HELD, SnapshotArrived, S.FOLLOWING),
        (S.HELD, Depth, S.FOLLOWING),
        (S.HELD, Depth, S.FETCHING),
        (S.HELD, BookTicker, S.FOLLOWING),
        (S.HELD, BookTicker, S.FETCHING),
        (S.FOLLOWING, Resync, S.FETCHING),
        (S.FOLLOWING, Unfit, S.FETCHING),
    ]
)
"""A book becomes live by an edge into FOLLOWING, and by no other."""


class _Held(Struct, gc=False):
    """A snapshot that waits for its proof."""

    book: Book
    sent_us: int
    """When its request was sent."""
    moves: int = 0
    """Number of times that it was replaced by a newer one without a frame."""


class Sync:
    """Finds the beginning of a book. A machine."""

    def __init__(self, book: Book) -> None:
        """`book` is the one that is shown: it is read here, and changed by the receiver of `Begin`."""
        self._book = book
        self._state = SyncState.IDLE
        self._timers: Timers[SyncTimer] = Timers()
        self._asked = False
        """A snapshot is awaited."""
        self._sent_us = 0
        """When its request was sent."""
        self._kept = KeptFrames(book)
        self._held: _Held | None = None
        self._in_force_us = 0
        self._doubted: tuple[int, int] | None = None
        """The id of a snapshot that moved too far, and when it came."""
        self._failures = 0

    @property
    def state(self) -> SyncState:
        """Progress of the stream."""
        return self._state

    @property
    def following(self) -> bool:
        """True when a beginning was found, without a fault since."""
        return self._state is SyncState.FOLLOWING

    @property
    def deadline(self) -> int | None:
        """The first of the timers."""
        return self._timers.earliest

    def handle(self, given: SyncInput, now: Now) -> Sequence[SyncOutput]:
        """Take one input and return its outputs.

        Raises:
            LocalProtocolError: the input is impossible in this state (`TRANSITIONS`). The state is unchanged.
        """
        if isinstance(given, TimerFired) and not due(self.deadline, now):
            return []
        TRANSITIONS.check(self._state, given)
        match given:
            case Depth():
                return self._keep(given, now)
            case BookTicker():
                self._kept.note_ticker(given)
                return self._try(given, now)
            case SnapshotRequested():
                self._sent_us = now.mono_us
                self._timers.set(SyncTimer.ANSWER, now.mono_us + ANSWER_US)
                return []
            case SnapshotArrived():
                return self._arrive(given, now) if self._answered() else []
            case SnapshotFailed(reason=reason):
                return self._fail(reason, now, doubted=True) if self._answered() else []
            case TimerFired():
                return self._fire(now)
            case BookInForce():
                self._in_force_us = min(self._in_force_us, now.mono_us)
                self._plan_second()
                return []
            case StreamRequested():
                self._forget()
                self._enter(SyncState.FETCHING, given)
                self._in_force_us = now.mono_us + TAKEN_US
                return self._ask()
            case StreamEnded() | StreamSuspended():
                self._forget()
                self._enter(SyncState.IDLE if isinstance(given, StreamEnded) else SyncState.SUSPENDED, given)
                return []
            case Resync():
                return self._resync(given, now)
            case Unfit(last):
                self._kept.spend(last)
                self._enter(SyncState.FETCHING, given)
                return self._fail("the snapshot does not fit the stream: the book is crossed or used up", now)

    def _ask(self) -> Sequence[SyncOutput]:
        self._timers.cancel(SyncTimer.RETRY, SyncTimer.SECOND)
        self._asked = True
        return [Ask()]

    def _answered(self) -> bool:
        asked, self._asked = self._asked, False
        self._timers.cancel(SyncTimer.ANSWER)
        return asked

    def _fire(self, now: Now) -> Sequence[SyncOutput]:
        if SyncTimer.ANSWER in self._timers.take(now.mono_us):
            self._asked = False
            return self._fail("no answer in time", now, doubted=True)
        return [] if self._asked else self._ask()

    def _fail(
        self, reason: str, now: Now, *, backoff: Backoff = RETRY, retry_us: int | None = None, doubted: bool = False
    ) -> Sequence[SyncOutput]:
        self._failures += 1
        if retry_us is None:
            retry_us = backoff.delay_us(self._failures)
        self._timers.set(SyncTimer.RETRY, now.mono_us + retry_us)
        return [Unavailable(reason, retry_us, doubted)]

    # Step 1: frames are kept for the snapshot to come, or join the one that is held.

    def _keep(self, delta: Depth, now: Now) -> Sequence[SyncOutput]:
        kept = self._kept.add(delta)
        if kept is Keep.IGNORED:
            return []
        outputs: list[SyncOutput] = [StartedOver()] if kept is Keep.STARTED_OVER else []
        held = self._held
        if held is None:
            return outputs
        held.moves = 0
        if self._timers.get(SyncTimer.SECOND) is not None:
            # The stream speaks, so it will reach the snapshot. Another one would only be further ahead of it.
            self._timers.set(SyncTimer.SECOND, now.mono_us + APART_US)
        return [*outputs, *self._try(delta, now)]

    def _drop(self, given: SnapshotArrived | Depth | BookTicker, reason: str, now: Now) -> Sequence[SyncOutput]:
        """Hold a snapshot no more that can never join, and have another one."""
        self._held = None
        if self._state is SyncState.HELD:
            self._enter(SyncState.FETCHING, given)
        self._timers.cancel(SyncTimer.SECOND)
        return [] if self._asked else self._fail(reason, now, backoff=TOO_OLD_RETRY)

    # Steps 2 to 5: a snapshot, and the proof that it joins.

    def _arrive(self, given: SnapshotArrived, now: Now) -> Sequence[SyncOutput]:
        snapshot = given.book(self._book.symbol)
        if snapshot.crossed:
            return self._fail("the snapshot is crossed", now)
        if self._kept.outdates(snapshot):
            return self._fail(_outdated(snapshot), now, backoff=TOO_OLD_RETRY)
        leap = self._leap(snapshot, now)
        if leap is not None:
            return self._fail(leap, now, retry_us=DOUBTED_RETRY_US)
        held = self._held
        if held is not None:
            apart = self._sent_us - held.sent_us >= APART_US and self._sent_us >= self._in_force_us
            if snapshot.last == held.book.last:
                if apart and not self._kept:
                    return [self._begin(given, snapshot)]
                self._plan_second()
                return []
            if snapshot.last < held.book.last and snapshot.engine_us - held.book.engine_us <= BACKWARDS_US:
                reason = f"the snapshot is too old: it ends at {snapshot.last}, the one before it at {held.book.last}"
                return self._fail(reason, now, backoff=TOO_OLD_RETRY)
            moves = held.moves + (self._sent_us >= self._in_force_us)
            self._held = _Held(snapshot, self._sent_us, moves)
        else:
            self._held = _Held(snapshot, self._sent_us)
            self._enter(SyncState.HELD, given)
        outputs = self._try(given, now)
        if outputs or self._held is None:
            return outputs
        self._plan_second()
        if self._held.moves < MUTE_MOVES or self._kept:
            return []
        self._held.moves = 0
        return [Mute(f"the market has moved to {snapshot.last}, and its depth stream sends nothing")]

    def _leap(self, snapshot: Book, now: Now) -> str | None:
        """Say why a snapshot is doubted: it is too far from the known ids, and no other one has confirmed it."""
        # A snapshot that is held has been settled already, and the book before it does not matter.
        known = self._kept.known if self._held is None else self._held.book.last
        if not known or abs(snapshot.last - known) <= ID_LEAP:
            self._doubted = None
            return None
        doubted = self._doubted
        if doubted is not None and snapshot.last >= doubted[0] and now.mono_us - doubted[1] >= DOUBTED_RETRY_US:
            self._doubted, self._held = None, None
            self._kept.clear()
            if self._state is SyncState.HELD:
                self._held = _Held(snapshot, self._sent_us)
            return None
        self._doubted = (snapshot.last, now.mono_us)
        return f"the snapshot ends at {snapshot.last}, far from {known}: it is doubted until another one shows the same"

    def _try(self, given: SnapshotArrived | Depth | BookTicker, now: Now) -> Sequence[SyncOutput]:
        """Compare the snapshot with the ids of the streams."""
        held = self._held
        if held is None:
            return []
        if self._kept.outdates(held.book):
            return self._drop(given, _outdated(held.book), now)
        match self._kept.joins(held.book):
            case Join.PROVED:
                return [self._begin(given, held.book)]
            case Join.TOO_OLD:
                reason = f"the snapshot is too old: it ends at {held.book.last}, the stream needs {self._kept.needed}"
                return self._drop(given, reason, now)
            case Join.OPEN:
                return []

    def _begin(self, given: SnapshotArrived | Depth | BookTicker, snapshot: Book) -> Begin:
        frames = self._kept.take()
        # An empty buffer leaves open where the next frame begins: on aggregated streams it may straddle the snapshot's id.
        may_straddle = not frames and not self._kept.ends_at(snapshot)
        self._held = None
        self._asked = False
        self._timers.clear()
        self._enter(SyncState.FOLLOWING, given)
        return Begin(snapshot=snapshot, frames=frames, may_straddle=may_straddle)

    def _plan_second(self) -> None:
        """Set the timer of the snapshot that shows whether a quiet market stands still."""
        held = self._held
        if held is None or self._asked:
            return
        apart_us = max(APART_US, RETRY.delay_us(held.moves) if held.moves else 0)
        self._timers.set(SyncTimer.SECOND, max(held.sent_us + apart_us, self._in_force_us))

    def _resync(self, given: Resync, now: Now) -> Sequence[SyncOutput]:
        """Fetch this one book again: at once, unless it has just failed before."""
        self._kept.begin_at(given.floor, given.reached, given.kept)
        if given.lived_us >= CALM_US:
            self._failures = 0
        self._enter(SyncState.FETCHING, given)
        failures, self._failures = self._failures, self._failures + 1
        if not failures:
            return self._ask()
        self._timers.set(SyncTimer.RETRY, now.mono_us + RETRY.delay_us(failures))
        return []

    def _forget(self) -> None:
        """Step 8: frames of one subscription are of no use to the next."""
        self._kept.clear()
        self._timers.clear()
        self._held = None
        self._asked = False
        self._doubted = None
        self._failures = 0

    def _enter(self, state: SyncState, given: SyncInput) -> None:
        self._state = TRANSITIONS.step(self._state, given, state)


def _outdated(snapshot: Book) -> str:
    return f"the snapshot ends at {snapshot.last}, and is older than what is known at that id"

"""The order of one depth stream: buffer, snapshot, the chain of update ids, gaps, and the proof that the book is right.

Theory of operation; the steps are those of docs/protocol.md 5.2. A stream is IDLE until it is requested. Then it is SYNCING:
frames are kept while a snapshot is fetched, which is asked for at once, for a quiet market may send no frame for half a minute.
The snapshot is the book's beginning, and every kept frame must join on to it; it and each of them is told, as if they had come
in order.

No frame yet says nothing about the subscription: it is never acknowledged, so a change may have fallen between the snapshot and
the subscription's start. Such a snapshot is held, SETTLING, until the first frame joins on to it, or until one that was asked
for after IN_FORCE_US stands unopposed. LIVE, each frame must begin where the last one ended; anything else costs a new snapshot of
this one stream, while the old book stays readable, marked stale.

LIVE, the book is compared with bookTicker at every id that both have, and now and then with a fresh snapshot; a difference is
treated like a gap, and told apart from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import TypeAlias

from msgspec import Struct

from backpack_proto.backoff import Backoff
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import TimerFired, Verify
from backpack_proto.machine import Now, Transitions
from backpack_proto.outputs import BookChanged, BookDesynced, BookSynced, BookUnavailable, BookVerified
from backpack_proto.streams.channels import IN_FORCE_US
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, Depth, Event

from .levels import Book
from .verification import SnapshotCheck, TopCheck, Verdict

__all__ = [
    "BookSequencer",
    "FetchSnapshot",
    "FrameLost",
    "SnapshotArrived",
    "SnapshotFailed",
    "SnapshotRequested",
    "StreamEnded",
    "StreamRequested",
    "TopMatched",
]

ANSWER_US = 15_000_000
"""How long a snapshot may take once it is requested; waiting for the request budget does not count."""
RETRY = Backoff(base_us=1_000_000, cap_us=30_000_000)
"""When a snapshot is asked for again."""
TOO_OLD_RETRY = Backoff(base_us=200_000, cap_us=RETRY.cap_us)
"""The same, of one that was too old: a snapshot lags the stream by a few dozen ids at the most, so the next one joins on."""
CALM_US = 10_000_000
"""A book that lived this long is not part of a series of failures."""
LAG_US = 5_000_000
"""How long the book may stay behind a bookTicker before the depth stream counts as stuck."""
BACKWARDS_US = 1_000_000
"""An old update id with an engine time this much later is no duplicate: the ids have started over."""
FIRST_AUDIT_US = 10_000_000
AUDIT_US = 60_000_000
SUSPICION_US = 5_000_000
"""How often, at most, frames that name no stream have the book checked."""
BUFFERED_FRAMES = 20_000


class StreamRequested(Struct, frozen=True, gc=False):
    """The subscription of the depth stream has just been sent."""


class StreamEnded(Struct, frozen=True, gc=False):
    """The connection is gone, or the stream is not wanted any more."""

    reason: str


class SnapshotRequested(Struct, frozen=True, gc=False):
    """The request of a `FetchSnapshot` has just been sent: it waited for the request budget until now."""

    attempt: int


class SnapshotArrived(Struct, frozen=True, gc=False, kw_only=True):
    """A REST snapshot, levels in any order, cut off at `limit` levels a side."""

    attempt: int
    last_update_id: int
    engine_us: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    limit: int


class SnapshotFailed(Struct, frozen=True, gc=False, kw_only=True):
    """A snapshot could not be had."""

    attempt: int
    reason: str


class FetchSnapshot(Struct, frozen=True, gc=False, kw_only=True):
    """Ask REST for the depth; answer with `SnapshotArrived` or `SnapshotFailed` of the same attempt."""

    stream: str
    symbol: str
    attempt: int
    urgent: bool
    """The book is not live; otherwise it is only to be checked."""


class TopMatched(Struct, frozen=True, gc=False, kw_only=True):
    """The top of the book was the one that bookTicker gave for the same update id."""

    stream: str


class FrameLost(Struct, frozen=True, gc=False):
    """A frame came that cannot be read, and that may have been a change of this book."""

    named: bool
    """It named this stream; otherwise it may have been of any."""


SequencerInput: TypeAlias = (
    StreamRequested
    | StreamEnded
    | Depth
    | BookTicker
    | SnapshotRequested
    | SnapshotArrived
    | SnapshotFailed
    | FrameLost
    | Verify
    | TimerFired
)
SequencerOutput: TypeAlias = Event | FetchSnapshot | TopMatched


class SyncState(Enum):
    """Where a stream stands on its way to a live book."""

    IDLE = auto()
    SYNCING = auto()
    SETTLING = auto()
    LIVE = auto()


S = SyncState
TRANSITIONS = Transitions(
    [
        *((state, StreamRequested, S.SYNCING) for state in SyncState),
        *((state, StreamEnded, S.IDLE) for state in SyncState),
        *((state, given, state) for state in SyncState for given in (Depth, BookTicker, FrameLost, Verify, TimerFired)),
        *((state, given, state) for state in SyncState for given in (SnapshotRequested, SnapshotArrived, SnapshotFailed)),
        (S.SYNCING, SnapshotArrived, S.SETTLING),
        (S.SYNCING, SnapshotArrived, S.LIVE),
        (S.SETTLING, SnapshotArrived, S.SYNCING),
        (S.SETTLING, SnapshotArrived, S.LIVE),
        (S.SETTLING, Depth, S.LIVE),
        (S.SETTLING, Depth, S.SYNCING),
        (S.LIVE, Depth, S.SYNCING),
        (S.LIVE, BookTicker, S.SYNCING),
        (S.LIVE, SnapshotArrived, S.SYNCING),
        (S.LIVE, TimerFired, S.SYNCING),
    ]
)


class BookSequencer:
    """Keeps the book of one depth stream right, or says that it is not; a machine."""

    def __init__(self, stream: str, symbol: str, *, levels: int = 1, limit: int = 1000, audit: bool = True) -> None:
        """`levels` are handed out with each change, `limit` is the snapshots' (docs/protocol.md 5.1)."""
        self.stream = stream
        self.symbol = symbol
        self.state = SyncState.IDLE
        self.book = Book(symbol)
        self.verified = False
        """Whether this run of the book was found equal to the exchange's word."""
        self._levels = levels
        self._limit = limit
        self._audits = audit
        self._buffer: deque[Depth] = deque(maxlen=BUFFERED_FRAMES)
        self._heard = False
        self._requested_us = 0
        self._attempt = 0
        self._asked_us: int | None = None
        self._timer_us: int | None = None
        self._failures = 0
        self._held: Book | None = None
        self._floor = 0
        """What the stream has shown already: an older snapshot would leave a hole."""
        self._may_straddle = False
        self._live_since_us = 0
        self._suspected_us: int | None = None
        """When a frame that named no stream last had the book checked."""
        self._tops = TopCheck()
        self._check: SnapshotCheck | None = None

    @property
    def deadline(self) -> int | None:
        """Of the snapshot that is requested or to be retried, of settling, or of the next check."""
        return self._timer_us

    @property
    def awaited(self) -> int | None:
        """The attempt whose snapshot is awaited; that of any other one can be withdrawn."""
        return None if self._asked_us is None else self._attempt

    def handle(self, given: SequencerInput, now: Now) -> Sequence[SequencerOutput]:
        """Take a frame, a snapshot or a timer; return what became of the book, and snapshots to fetch."""
        if isinstance(given, Depth):
            return self._follow(given, now) if self.state is SyncState.LIVE else self._keep(given, now)
        if isinstance(given, BookTicker):
            return self._compare_top(given, now)
        TRANSITIONS.check(self.state, given)
        match given:
            case TimerFired():
                return self._timer_fired(given, now)
            case SnapshotRequested(attempt):
                if attempt == self.awaited:
                    self._asked_us = now.mono_us
                    self._timer_us = now.mono_us + ANSWER_US
                return []
            case SnapshotArrived(attempt=attempt) | SnapshotFailed(attempt=attempt):
                if self._asked_us is None or attempt != self._attempt:
                    return []
                asked_us, self._asked_us = self._asked_us, None
                if isinstance(given, SnapshotFailed):
                    return self._without_snapshot(given.reason, now)
                return self._with_snapshot(given, asked_us, now)
            case StreamRequested():
                outputs = self._mark_stale("requested anew")
                self._forget()
                self.state = TRANSITIONS.step(self.state, given, SyncState.SYNCING)
                self._requested_us = now.mono_us
                return [*outputs, self._fetch(now)]
            case StreamEnded(reason):
                outputs = self._mark_stale(reason)
                self._forget()
                self.state = TRANSITIONS.step(self.state, given, SyncState.IDLE)
                return outputs
            case FrameLost(named):
                return self._suspect(now, named=named)
            case _:  # Verify: the table knows no other input
                return self._start_check(now)

    def _follow(self, delta: Depth, now: Now) -> Sequence[SequencerOutput]:
        """Steps 6 and 7: a live book takes what joins on, and nothing else."""
        book = self.book
        last = book.last
        if delta.first_update_id != last + 1:
            if delta.last_update_id <= last:
                if delta.engine_us - book.engine_us <= BACKWARDS_US:
                    return []
                self._tops.reset()
                return self._resync(delta, f"update ids went back to {delta.last_update_id}", now)
            if delta.first_update_id > last + 1:
                return self._resync(delta, f"gap: expected {last + 1}, got {delta.first_update_id}", now)
            if not self._may_straddle:
                return self._resync(delta, f"overlap: expected {last + 1}, got {delta.first_update_id}", now)
        self._may_straddle = False
        book.apply(delta.bids, delta.asks, last=delta.last_update_id, engine_us=delta.engine_us)
        if not book.sound:
            fault = "crossed" if book.crossed else "a side's known levels are used up"
            return self._resync(delta, f"{fault} at {book.last}", now)
        verdict = self._tops.book_changed(book)
        if self._check is not None:
            self._check.delta_applied(delta)
        if verdict is Verdict.OPEN and self._check is None:
            return (self._changed(book, delta, last + 1),)
        confirmed = self._judge(delta, verdict, now)
        if self.state is not SyncState.LIVE:
            return confirmed
        return [self._changed(book, delta, last + 1), *confirmed, *self._finish_check(delta, now)]

    def _changed(self, book: Book, delta: Depth, first: int) -> BookChanged:
        return BookChanged(
            stream=self.stream,
            symbol=self.symbol,
            first=first,
            last=book.last,
            engine_us=book.engine_us,
            bids=book.bids(self._levels),
            asks=book.asks(self._levels),
            verified=self.verified,
            delta=delta,
        )

    def _keep(self, delta: Depth, now: Now) -> Sequence[SequencerOutput]:
        """Steps 1 and 5: keep frames for the snapshot to come, or join them on to the one that is held."""
        if self.state is SyncState.IDLE:
            return []
        self._heard = True
        buffer = self._buffer
        newest, newest_us = (buffer[-1].last_update_id, buffer[-1].engine_us) if buffer else (self._floor, self.book.engine_us)
        if delta.last_update_id <= newest:
            if delta.engine_us - newest_us <= BACKWARDS_US:
                return []
            self._floor = 0
            self._tops.reset()
        if buffer and delta.first_update_id != newest + 1:
            # What lies before a hole could only serve a snapshot that contains it already.
            buffer.clear()
        buffer.append(delta)
        return self._join(self._held, delta, now) if self._held is not None else []

    def _with_snapshot(self, given: SnapshotArrived, asked_us: int, now: Now) -> Sequence[SequencerOutput]:
        """Steps 2 to 5."""
        snapshot = Book(
            self.symbol,
            bids=given.bids,
            asks=given.asks,
            last=given.last_update_id,
            engine_us=given.engine_us,
            limit=given.limit,
        )
        if snapshot.crossed:
            return self._without_snapshot("the snapshot is crossed", now)
        if self._check is not None:
            return self._with_check_snapshot(self._check, snapshot, given, now)
        held = self._held
        if held is not None and snapshot.last < held.last and snapshot.engine_us - held.engine_us <= BACKWARDS_US:
            reason = f"the snapshot is too old: it ends at {snapshot.last}, the one before it at {held.last}"
            return self._without_snapshot(reason, now, backoff=TOO_OLD_RETRY)
        if self._heard or asked_us >= self._requested_us + IN_FORCE_US:
            return self._join(snapshot, given, now)
        self._held = snapshot
        self.state = TRANSITIONS.step(self.state, given, SyncState.SETTLING)
        self._timer_us = self._requested_us + IN_FORCE_US
        return [self._fetch(now)] if self._timer_us <= now.mono_us else []

    def _join(self, snapshot: Book, given: SnapshotArrived | Depth, now: Now) -> Sequence[SequencerOutput]:
        """Steps 3 to 5: drop what the snapshot contains, and roll it forward through the rest."""
        buffer = self._buffer
        while buffer and buffer[0].last_update_id <= snapshot.last:
            buffer.popleft()
        needed = buffer[0].first_update_id - 1 if buffer else self._floor
        if snapshot.last < needed:
            self._held = None
            self.state = TRANSITIONS.step(self.state, given, SyncState.SYNCING)
            if self._asked_us is not None:
                return []
            reason = f"the snapshot is too old: it ends at {snapshot.last}, the stream needs {needed}"
            return self._without_snapshot(reason, now, backoff=TOO_OLD_RETRY)
        self._may_straddle = not buffer
        told: list[SequencerOutput] = [self._synced(snapshot)]
        sound = snapshot.sound
        for delta in buffer:
            first = snapshot.last + 1
            snapshot.apply(delta.bids, delta.asks, last=delta.last_update_id, engine_us=delta.engine_us)
            sound = sound and snapshot.sound
            told.append(self._changed(snapshot, delta, first))
        buffer.clear()
        self._held = None
        if not sound:
            # Those frames are spent, so only a snapshot that contains them can be a beginning.
            self._floor = snapshot.last
            self.state = TRANSITIONS.step(self.state, given, SyncState.SYNCING)
            return self._without_snapshot("the snapshot does not fit the stream: the book is crossed or used up", now)
        return [*told, *self._go_live(snapshot, given, now)]

    def _synced(self, snapshot: Book) -> BookSynced:
        return BookSynced(
            stream=self.stream,
            symbol=self.symbol,
            last=snapshot.last,
            engine_us=snapshot.engine_us,
            bids=snapshot.bids(),
            asks=snapshot.asks(),
        )

    def _go_live(self, snapshot: Book, given: SnapshotArrived | Depth, now: Now) -> Sequence[SequencerOutput]:
        self.book.take_over(snapshot)
        book = self.book
        book.live = True
        self.state = TRANSITIONS.step(self.state, given, SyncState.LIVE)
        self._asked_us = None
        self._live_since_us = now.mono_us
        self._timer_us = now.mono_us + FIRST_AUDIT_US if self._audits else None
        return self._judge(given, self._tops.restart(book), now)

    def _without_snapshot(self, reason: str, now: Now, *, backoff: Backoff = RETRY) -> Sequence[SequencerOutput]:
        if self._check is not None:
            self._check = None
            self._timer_us = self._next_check_us(now)
            return []
        self._failures += 1
        retry_us = backoff.delay_us(self._failures)
        self._timer_us = now.mono_us + retry_us
        return [BookUnavailable(stream=self.stream, symbol=self.symbol, reason=reason, retry_us=retry_us)]

    def _timer_fired(self, given: TimerFired, now: Now) -> Sequence[SequencerOutput]:
        if self._timer_us is None or now.mono_us < self._timer_us:
            return []
        if self.state is SyncState.LIVE:
            check = self._check
            if check is None or (check.snapshot is None and self._asked_us is None):
                return self._start_check(now)
            if check.snapshot is not None:
                return self._resync(given, f"the stream did not reach {check.snapshot.last}, where the snapshot is", now)
        if self._asked_us is not None:
            self._asked_us = None
            return self._without_snapshot("no answer in time", now)
        return [self._fetch(now)]

    def _fetch(self, now: Now) -> FetchSnapshot:
        self._attempt += 1
        self._asked_us = now.mono_us
        self._timer_us = None
        urgent = self.state is not SyncState.LIVE
        return FetchSnapshot(stream=self.stream, symbol=self.symbol, attempt=self._attempt, urgent=urgent)

    def _compare_top(self, ticker: BookTicker, now: Now) -> Sequence[SequencerOutput]:
        if self.state is SyncState.IDLE:
            return []
        if self.state is not SyncState.LIVE:
            self._tops.keep(ticker, now.mono_us)
            return []
        verdict = self._tops.ticker_arrived(ticker, self.book.last, now.mono_us)
        since_us = self._tops.outrun_since_us
        if since_us is not None and now.mono_us - max(since_us, self._live_since_us) >= LAG_US:
            # Whatever they were, the book that follows is not to be called stuck on account of the same tickers.
            self._tops.reset()
            reason = f"the depth stream is stuck at {self.book.last}, bookTicker is at {ticker.update_id}"
            return self._resync(ticker, reason, now)
        return self._judge(ticker, verdict, now)

    def _judge(self, given: SequencerInput, verdict: Verdict | str, now: Now) -> Sequence[SequencerOutput]:
        if verdict is Verdict.OPEN:
            return []
        if isinstance(verdict, str):
            return self._resync(given, verdict, now, diverged=True)
        last = given.update_id if isinstance(given, BookTicker) else self.book.last
        return [TopMatched(stream=self.stream), *self._confirm("bookTicker", last)]

    def _confirm(self, against: str, last: int) -> list[SequencerOutput]:
        if self.verified and against == "bookTicker":
            return []
        self.verified = True
        return [BookVerified(stream=self.stream, symbol=self.symbol, last=last, against=against)]

    def _start_check(self, now: Now) -> Sequence[SequencerOutput]:
        """Ask for a snapshot to compare the live book with; one that reached back too far is asked for again."""
        if self.state is not SyncState.LIVE or self._asked_us is not None:
            return []
        if self._check is None:
            self._check = SnapshotCheck(self.book.last)
        elif self._check.snapshot is not None:
            return []
        return [self._fetch(now)]

    def _suspect(self, now: Now, *, named: bool) -> Sequence[SequencerOutput]:
        """Check a live book: in a quiet market no next frame would show the gap."""
        if self.state is not SyncState.LIVE:
            return []
        if not named:
            if self._suspected_us is not None and now.mono_us < self._suspected_us + SUSPICION_US:
                return []
            self._suspected_us = now.mono_us
        return self._start_check(now)

    def _with_check_snapshot(
        self, check: SnapshotCheck, snapshot: Book, given: SnapshotArrived, now: Now
    ) -> Sequence[SequencerOutput]:
        if not check.usable(snapshot):
            check.refusals += 1
            self._timer_us = now.mono_us + TOO_OLD_RETRY.delay_us(check.refusals)
            return []
        check.snapshot = snapshot
        self._timer_us = now.mono_us + LAG_US
        return self._finish_check(given, now)

    def _finish_check(self, given: SequencerInput, now: Now) -> Sequence[SequencerOutput]:
        check = self._check
        if check is None or check.snapshot is None:
            if check is not None and check.overfull:
                self._asked_us = None
                return self._without_snapshot("more deltas than a check keeps", now)
            return []
        verdict = check.compare(self.book)
        if verdict is Verdict.OPEN:
            return []
        if verdict is Verdict.VOID:
            return self._without_snapshot("the snapshot's levels are used up", now)
        if isinstance(verdict, str):
            return self._resync(given, verdict, now, diverged=True)
        self._check = None
        self._timer_us = self._next_check_us(now)
        # The equal one was cut off around the touch of today, so it knows more of what is near.
        self.book.take_over(check.snapshot)
        self.book.live = True
        return self._confirm("snapshot", self.book.last)

    def _next_check_us(self, now: Now) -> int | None:
        return now.mono_us + AUDIT_US if self._audits else None

    def _mark_stale(self, reason: str, *, diverged: bool = False) -> list[SequencerOutput]:
        if self.state is not SyncState.LIVE:
            return []
        self.book.live = False
        self.verified = False
        error = RemoteProtocolError(reason)
        return [
            BookDesynced(
                stream=self.stream,
                symbol=self.symbol,
                last=self.book.last,
                reason=reason,
                diverged=diverged,
                error=error,
            )
        ]

    def _forget(self) -> None:
        """Step 8: nothing of one subscription is of use to the next."""
        self._buffer.clear()
        self._heard = False
        self._asked_us = None
        self._timer_us = None
        self._held = None
        self._floor = 0
        self._failures = 0
        self._tops.reset()
        self._check = None

    def _resync(self, given: SequencerInput, reason: str, now: Now, *, diverged: bool = False) -> Sequence[SequencerOutput]:
        """Fetch this one book anew: at once, unless it has just failed before."""
        outputs = self._mark_stale(reason, diverged=diverged)
        self._check = None
        self._asked_us = None
        self._floor = self.book.last
        if isinstance(given, Depth):
            self._buffer.append(given)
            self._floor = min(self._floor, given.last_update_id)
        if now.mono_us - self._live_since_us >= CALM_US:
            self._failures = 0
        self.state = TRANSITIONS.step(self.state, given, SyncState.SYNCING)
        if self._failures:
            self._timer_us = now.mono_us + RETRY.delay_us(self._failures)
        else:
            outputs.append(self._fetch(now))
        self._failures += 1
        return outputs

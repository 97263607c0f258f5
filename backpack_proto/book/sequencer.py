"""The book of one depth stream: joins synchronising, auditing and the levels, and reports the state of the book.

        frames, snapshots ──> Sync ──Begin──> Book <──compares── Audit
                               ^                │
                               └────Resync──────┘  gap, crossed, wrong, stuck

Theory of operation. A stream finds its beginning (`sync`). Then each frame must begin where the last one ended. Anything else costs a
new snapshot of this one stream, while the old book stays readable. The book is compared with `bookTicker` at every id that both have, and with a fresh
snapshot from time to time (`audit`). A difference is treated like a gap, and told apart from it.

A book that follows is live while its claims hold (`claims`). The chain is proved by a frame that joins, by a `bookTicker` at or below the
book's id, and by an audit that agrees. The path is proved by the data of the connection. A claim that expires makes the book stale
(`BookStale`), and one proof makes it live again (`BookConfirmed`). Counter-evidence is more: a `bookTicker` or a trade that the stream does not
follow within LAG_US, a snapshot that it does not reach. Then the book begins again. A stream that stays mute is requested again, and after that
the connection is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from backpack_proto.claims import Claims
from backpack_proto.decoding import MAX_ID
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import TimerFired, Verify
from backpack_proto.machine import Now, due, earliest
from backpack_proto.mute import MuteStream
from backpack_proto.outputs import (
    BookChanged,
    BookCheckFailed,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    BookUnavailable,
    BookVerified,
)
from backpack_proto.streams.payloads import BookTicker, Depth, Event, Trade

from .audit import Agreed, Audit, AuditInput, Differed, Follow, Stop, Unmade
from .kept import BACKWARDS_US, ID_LEAP, leaps
from .levels import Book, change
from .signals import (
    Ask,
    Begin,
    BookInForce,
    FetchSnapshot,
    FrameLost,
    MarketDoubted,
    Mute,
    PathChanged,
    Resync,
    SnapshotArrived,
    SnapshotFailed,
    SnapshotRequested,
    StartedOver,
    StreamEnded,
    StreamMute,
    StreamRequested,
    StreamSuspended,
    TopMatched,
    Unavailable,
    Unfit,
)
from .sync import Sync, SyncInput, SyncState
from .verification import Verdict
from .witnesses import Witnesses

__all__ = ["BookSequencer", "SequencerInput", "SequencerOutput"]

SequencerInput: TypeAlias = (
    StreamRequested
    | BookInForce
    | StreamEnded
    | StreamSuspended
    | PathChanged
    | Depth
    | BookTicker
    | Trade
    | SnapshotRequested
    | SnapshotArrived
    | SnapshotFailed
    | FrameLost
    | Verify
    | TimerFired
)
SequencerOutput: TypeAlias = Event | FetchSnapshot | TopMatched | StreamMute | MarketDoubted


class _Asked(NamedTuple):
    """Who waits for a snapshot."""

    attempt: int
    audit: bool


class BookSequencer:
    """Keeps the book of one depth stream right, or says that it is not. A machine."""

    def __init__(self, stream: str, symbol: str, *, levels: int = 1, claims: Claims | None = None) -> None:
        """`levels` are handed out with each change. `claims` are those that the book needs beside its own evidence."""
        self.stream = stream
        self.symbol = symbol
        self.book = Book(symbol)
        self.book.show(levels)
        self._claims = self.book.claims = Claims() if claims is None else claims
        self._levels = levels
        self._sync = Sync(self.book)
        self._audit = Audit(self.book)
        self._witnesses = Witnesses(self.book)
        self._remember = self._witnesses.remember
        self._chain_us: int | None = None
        """When the proof of the chain may have expired."""
        self._asked: _Asked | None = None
        self._attempt = 0
        self._began_us = 0
        self._framed = False
        """The id of the book is one at which a frame ended. Until then, one frame may straddle it."""
        self._agreed: int | None = None
        """The last update id of this run at which the book was found equal."""
        self._mute_stream = MuteStream()
        self._reported_stale = False
        self._path_doubt: str | None = None
        self._quiet = False
        """It is known that the book follows, from the end of a frame on, and that neither an audit nor a ticker waits for its next frame."""
        self._unchecked: str | None = None
        """Why the last audit could not be made."""
        self._why: str | None = None
        """Why it does not follow, or None before it was requested."""

    @property
    def state(self) -> SyncState:
        """Progress of the stream towards a book that follows."""
        return self._sync.state

    @property
    def deadline(self) -> int | None:
        """The first timer of synchronising, auditing, and the book's own."""
        return earliest(self._sync.deadline, self._audit.deadline, self._witnesses.deadline, self._chain_us)

    @property
    def awaited(self) -> int | None:
        """The attempt whose snapshot is awaited. That of any other one can be withdrawn."""
        return None if self._asked is None else self._asked.attempt

    def doubt(self, mono_us: int) -> str | None:
        """Return why the book is not live at this moment, or could not be checked lately, or None if all is well, or its market is closed."""
        state = self._sync.state
        if state is SyncState.SUSPENDED or self._why is None:
            return None
        if state is SyncState.FOLLOWING and self.book.is_live(mono_us):
            return None if self._unchecked is None else f"could not be checked: {self._unchecked}"
        if state is SyncState.FOLLOWING and not self._claims.path.holds(mono_us):
            return "is stale, as the path of its connection is in doubt"
        return f"is stale: {self._stale_because(mono_us)}"

    def handle(self, given: SequencerInput, now: Now) -> Sequence[SequencerOutput]:
        """Take a frame, a snapshot or a timer. Return changes of the book, and snapshots to fetch."""
        self._quiet = False
        if isinstance(given, Depth):
            if self._sync.state is SyncState.FOLLOWING:
                return self._follow(given, now)
            return self._keep(given, now)
        match given:
            case BookTicker():
                return self._compare_top(given, now)
            case Trade():
                if self._sync.following:
                    self._witnesses.trade_arrived(given, now.mono_us)
                return []
            case TimerFired():
                return self._fire(given, now)
            case SnapshotRequested(attempt):
                return self._to_asker(given, attempt, now, answer=False)
            case SnapshotArrived(attempt=attempt) | SnapshotFailed(attempt=attempt):
                return self._to_asker(given, attempt, now, answer=True)
            case PathChanged(doubt):
                self._path_doubt = doubt
                return self._report(now)
            case Verify() | FrameLost():
                return self._audited(given, now) if self._sync.following else []
            case BookInForce():
                return self._synchronise(given, now) if self._sync.state is not SyncState.IDLE else []
            case StreamRequested():
                outputs = self._end("it is requested again")
                self._why = "its snapshot is awaited"
                return [*outputs, *self._synchronise(given, now)]
            case StreamEnded(reason):
                outputs = self._end(reason)
                self._mute_stream.ended()
                self._path_doubt = None
                self._synchronise(given, now)
                return outputs
            case StreamSuspended():
                outputs = self._end("the market is closed")
                self._synchronise(given, now)
                return outputs
        raise TypeError(f"not an input of a book: {type(given).__name__}")

    # The common case of frames, without the steps that a live book does not need.

    def follow(self, delta: Depth, now: Now) -> BookChanged | Sequence[SequencerOutput] | None:
        """Handle a delta that joins a live book, as `handle` does, which need not be `check`ed. A change alone is returned as it is.

        None: it does not join, or the book is not live. The state is unchanged then, and `handle` is to be called.
        """
        book = self.book
        first = book.last + 1
        last = delta.last_update_id
        if delta.first_update_id != first or not first <= last <= MAX_ID or last - first > ID_LEAP:
            return None
        if not self._quiet:
            self._quiet = (
                self._sync.following
                and self._framed
                and not self._audit.running
                and not self._reported_stale
                and not self._witnesses.waiting
            )
            if not self._quiet:
                return None
        bid_side, ask_side = book.bid_side, book.ask_side
        try:
            sound = change(bid_side, ask_side, delta.bids, delta.asks) or book.sound
        except ValueError:
            return None
        book.last = last
        book.engine_us = engine_us = delta.engine_us
        if not sound:
            return self._unsound(delta, now)
        book.confirmed_us = now.mono_us
        self._remember((last, bid_side.best, ask_side.best))
        return BookChanged(
            stream=self.stream,
            symbol=self.symbol,
            first=first,
            last=last,
            engine_us=engine_us,
            bids=bid_side.top,
            asks=ask_side.top,
            verified=False,
            delta=delta,
        )

    def witness(self, data: BookTicker | Trade, now: Now) -> Sequence[SequencerOutput] | None:
        """Handle a ticker or a trade that a live book has reached, as `handle` does. None as in `follow`."""
        if not self._sync.following:
            return None
        if isinstance(data, Trade):
            return () if self._witnesses.follows(data) else None
        if data.update_id > self.book.last:
            return None
        return self._compare_top(data, now)

    # Steps 6 and 7: a book that follows takes only frames that join.

    def _follow(self, delta: Depth, now: Now) -> Sequence[SequencerOutput]:
        book = self.book
        last = book.last
        first = delta.first_update_id
        if first != last + 1:
            if leaps(delta, last):
                return self._resync(f"the frame {first} to {delta.last_update_id} is too far from {last}", now)
            if delta.last_update_id <= last:
                if delta.engine_us - book.engine_us <= BACKWARDS_US:
                    return []
                return self._resync(f"update ids went back to {delta.last_update_id}", now, kept=delta, floor=0)
            if first > last + 1:
                return self._resync(f"gap: expected {last + 1}, got {first}", now, kept=delta)
            if self._framed:
                return self._resync(f"overlap: expected {last + 1}, got {first}", now, kept=delta)
        elif leaps(delta, last):
            return self._resync(f"the frame {first} to {delta.last_update_id} spans too many ids", now)
        if not book.apply(delta.bids, delta.asks, last=delta.last_update_id, engine_us=delta.engine_us):
            return self._unsound(delta, now)
        book.confirmed_us = now.mono_us
        self._framed = True
        verdict = self._witnesses.book_changed()
        if verdict is Verdict.OPEN and not self._audit.running and not self._reported_stale:
            return (self._changed(book, delta, last + 1, verified=False),)
        if isinstance(verdict, str):
            return self._resync(verdict, now, kept=delta, diverged=True, differed=book.last)
        outputs = self._matched(book.last) if verdict is Verdict.EQUAL else []
        changed = self._changed(book, delta, last + 1, verified=verdict is Verdict.EQUAL)
        # The audit may find the book wrong, which is told behind the change.
        audited = self._audited(delta, now) if self._audit.running else []
        return [changed, *outputs, *self._report(now), *audited]

    def _unsound(self, delta: Depth, now: Now) -> list[SequencerOutput]:
        fault = "crossed" if self.book.crossed else "a side's known levels are used up"
        return self._resync(f"{fault} at {self.book.last}", now, kept=delta)

    def _changed(self, book: Book, delta: Depth, first: int, *, verified: bool) -> BookChanged:
        return BookChanged(
            stream=self.stream,
            symbol=self.symbol,
            first=first,
            last=book.last,
            engine_us=book.engine_us,
            bids=book.bids(self._levels),
            asks=book.asks(self._levels),
            verified=verified,
            delta=delta,
        )

    # Synchronising.

    def _keep(self, delta: Depth, now: Now) -> list[SequencerOutput]:
        match self._sync.state:
            case SyncState.IDLE:
                return []
            case SyncState.SUSPENDED:
                # A closed market is silent, so perhaps it has opened.
                return [MarketDoubted(symbol=self.symbol)]
        return self._synchronise(delta, now)

    def _synchronise(self, given: SyncInput, now: Now) -> list[SequencerOutput]:
        outputs: list[SequencerOutput] = []
        for output in self._sync.handle(given, now):
            match output:
                case Ask():
                    outputs.append(self._fetch(audit=False))
                case Begin():
                    outputs += self._begin(output, now)
                case Unavailable(reason, retry_us, doubted):
                    self._asked = None
                    self._why = reason
                    outputs.append(BookUnavailable(stream=self.stream, symbol=self.symbol, reason=reason, retry_us=retry_us))
                    if doubted:
                        outputs.append(MarketDoubted(symbol=self.symbol))
                case StartedOver():
                    self._witnesses.forget()
                case Mute(reason):
                    self._why = reason
                    outputs += self._mute(reason, now)
        return outputs

    def _fetch(self, *, audit: bool) -> FetchSnapshot:
        self._attempt += 1
        self._asked = _Asked(self._attempt, audit)
        return FetchSnapshot(stream=self.stream, symbol=self.symbol, attempt=self._attempt, urgent=not audit)

    def _to_asker(
        self, given: SnapshotRequested | SnapshotArrived | SnapshotFailed, attempt: int, now: Now, *, answer: bool
    ) -> list[SequencerOutput]:
        """Give an answer to who waits for it. Nobody waits for that of an earlier attempt."""
        asked = self._asked
        if asked is None or attempt != asked.attempt:
            return []
        if answer:
            self._asked = None
        return self._audited(given, now) if asked.audit else self._synchronise(given, now)

    def _begin(self, begin: Begin, now: Now) -> list[SequencerOutput]:
        """Take over the snapshot and roll it forward: each frame is reported as if it had come in order."""
        snapshot = begin.snapshot
        outputs: list[SequencerOutput] = [
            BookSynced(
                stream=self.stream,
                symbol=self.symbol,
                last=snapshot.last,
                engine_us=snapshot.engine_us,
                bids=snapshot.bids(),
                asks=snapshot.asks(),
            )
        ]
        sound = snapshot.sound
        for delta in begin.frames:
            first = snapshot.last + 1
            sound &= snapshot.apply(delta.bids, delta.asks, last=delta.last_update_id, engine_us=delta.engine_us)
            outputs.append(self._changed(snapshot, delta, first, verified=False))
        if not sound:
            return self._synchronise(Unfit(snapshot.last), now)
        self._asked = None
        self.book.take_over(snapshot)
        self.book.confirmed_us = now.mono_us
        self._framed = not begin.may_straddle
        self._began_us = now.mono_us
        self._agreed = self._unchecked = None
        self._reported_stale = False
        self._watch_chain(now)
        self._audit.handle(Follow(), now)
        verdict = self._witnesses.begin(now.mono_us)
        kept = begin.frames[-1] if begin.frames else None
        return [*outputs, *self._report(now), *self._judge(verdict, self.book.last, now, kept=kept)]

    def _mute(self, reason: str, now: Now) -> list[SequencerOutput]:
        """Report a stream that is silent while its market moves, and have it repaired."""
        mute = self._escalation(reason, now)
        unavailable = BookUnavailable(stream=self.stream, symbol=self.symbol, reason=reason, retry_us=0)
        return [] if mute is None else [unavailable, mute]

    def _escalation(self, reason: str, now: Now) -> StreamMute | None:
        """Have something done about a mute stream. None: not yet again."""
        abandon = self._mute_stream.abandons(now)
        return None if abandon is None else StreamMute(stream=self.stream, reason=reason, abandon=abandon)

    def _stuck(self, reason: str, now: Now) -> list[SequencerOutput]:
        """End the run of a stream that is behind other streams of the exchange: its subscription may not be in force any more."""
        if self._framed:
            self._mute_stream.spoke()
        mute = self._escalation(reason, now)
        if mute is None:
            return self._resync(reason, now)
        outputs = self._end(reason)
        # It is requested again, or the connection is given up. Either begins again.
        self._synchronise(StreamEnded(reason), now)
        return [*outputs, mute]

    # Evidence of bookTicker and trades.

    def _compare_top(self, ticker: BookTicker, now: Now) -> Sequence[SequencerOutput]:
        match self._sync.state:
            case SyncState.IDLE | SyncState.SUSPENDED:
                return []
            case SyncState.FETCHING | SyncState.HELD:
                self._witnesses.keep(ticker, now.mono_us)
                return self._synchronise(ticker, now)
        book = self.book
        verdict = self._witnesses.ticker_arrived(ticker, now.mono_us)
        if ticker.update_id > book.last:
            return []
        if not isinstance(verdict, str):
            book.confirmed_us = now.mono_us
        judged = self._judge(verdict, ticker.update_id, now)
        return [*judged, *self._report(now)] if self._reported_stale else judged

    def _judge(self, verdict: Verdict | str, at: int, now: Now, *, kept: Depth | None = None) -> list[SequencerOutput]:
        if isinstance(verdict, str):
            return self._resync(verdict, now, kept=kept, diverged=True, differed=at)
        return self._matched(at) if verdict is Verdict.EQUAL else []

    def _matched(self, last: int) -> list[SequencerOutput]:
        """Note that the top was equal. Only the first time of a run is worth an event."""
        agreed, self._agreed = self._agreed, last
        matched = TopMatched(stream=self.stream)
        return [matched] if agreed is not None else [matched, self._verified("bookTicker", last)]

    def _verified(self, against: str, last: int) -> BookVerified:
        return BookVerified(stream=self.stream, symbol=self.symbol, last=last, against=against)

    # Auditing.

    def _audited(self, given: AuditInput, now: Now) -> list[SequencerOutput]:
        outputs: list[SequencerOutput] = []
        for output in self._audit.handle(given, now):
            match output:
                case Ask():
                    outputs.append(self._fetch(audit=True))
                case Agreed(sent_us, snapshot):
                    outputs += self._agree(sent_us, snapshot, now)
                case Differed(reason, diverged):
                    kept = given if isinstance(given, Depth) else None
                    if diverged:
                        outputs += self._resync(reason, now, kept=kept, diverged=True, differed=self.book.last)
                    else:
                        outputs += self._stuck(reason, now)
                case Unmade(reason, retry_us, final):
                    outputs += self._unmade(reason, retry_us, now, final=final)
        return outputs

    def _agree(self, sent_us: int, snapshot: Book, now: Now) -> list[SequencerOutput]:
        book = self.book
        confirmed_us = sent_us if book.confirmed_us is None else max(book.confirmed_us, sent_us)
        # The equal one was cut off around today's best prices, so it knows more levels near them.
        book.take_over(snapshot)
        book.confirmed_us = confirmed_us
        self._agreed = book.last
        self._unchecked = None
        return [self._verified("snapshot", book.last), *self._report(now)]

    def _unmade(self, reason: str, retry_us: int, now: Now, *, final: bool) -> list[SequencerOutput]:
        """Say at the first time that there is no evidence. Where the exchange refuses it for good, the claim ends at once."""
        self._asked = None
        first = self._unchecked is None
        self._unchecked = reason
        outputs: list[SequencerOutput] = [MarketDoubted(symbol=self.symbol)]
        if first:
            outputs.append(BookCheckFailed(stream=self.stream, symbol=self.symbol, reason=reason, retry_us=retry_us))
        if final:
            self.book.confirmed_us = None
            outputs += self._report(now)
        return outputs

    # Claims.

    def _stale_because(self, mono_us: int) -> str:
        """Say why the book is not live."""
        if not self._sync.following:
            return self._why or "it was never requested"
        if not self._claims.path.holds(mono_us):
            return self._path_doubt or "no data have proved the path of the connection yet"
        confirmed_us = self.book.confirmed_us
        if confirmed_us is None:
            return f"the exchange refuses to show it: {self._unchecked}"
        return f"nothing has confirmed it for {(mono_us - confirmed_us) / 1e6:.0f} s"

    def _watch_chain(self, now: Now) -> None:
        """Set the timer at which the newest proof expires. After that it is off."""
        confirmed_us = self.book.confirmed_us
        until_us = None if confirmed_us is None else self._claims.chain_until_us(confirmed_us)
        self._chain_us = until_us if until_us is not None and until_us > now.mono_us else None

    def _report(self, now: Now) -> list[SequencerOutput]:
        """Say when a book that follows becomes stale because a claim has expired, and when it is live again."""
        if not self._sync.following:
            return []
        book = self.book
        live = book.is_live(now.mono_us)
        if live is not self._reported_stale:
            return []
        self._reported_stale = not live
        if live:
            self._watch_chain(now)
            return [BookConfirmed(stream=self.stream, symbol=self.symbol, last=book.last)]
        reason = self._stale_because(now.mono_us)
        return [BookStale(stream=self.stream, symbol=self.symbol, last=book.last, reason=reason)]

    def _fire(self, given: TimerFired, now: Now) -> list[SequencerOutput]:
        """Only those whose moment has come are told."""
        outputs: list[SequencerOutput] = []
        if due(self._chain_us, now):
            # Proof may have moved on since the timer was set.
            self._watch_chain(now)
            outputs += self._report(now)
        stuck = self._witnesses.overdue(now.mono_us)
        if stuck is not None:
            outputs += self._stuck(stuck.reason, now) if stuck.certain else self._resync(stuck.reason, now)
        if self._sync.state in (SyncState.FETCHING, SyncState.HELD):
            outputs += self._synchronise(given, now)
        if self._sync.following:
            outputs += self._audited(given, now)
        return outputs

    # Ends of a run.

    def _end(self, reason: str, *, diverged: bool = False, differed: int | None = None) -> list[SequencerOutput]:
        """Stop calling the book live."""
        self._quiet = False
        followed = self._sync.following
        agreed, self._agreed = self._agreed, None
        self._why = reason
        self._asked = None
        self._chain_us = self._unchecked = None
        self._witnesses.forget()
        self._audit.handle(Stop(), _NEVER)
        self.book.confirmed_us = None
        if not followed:
            return []
        return [
            BookDesynced(
                stream=self.stream,
                symbol=self.symbol,
                last=self.book.last,
                reason=reason,
                diverged=diverged,
                error=RemoteProtocolError(reason),
                agreed=agreed,
                differed=differed,
            )
        ]

    def _resync(
        self,
        reason: str,
        now: Now,
        *,
        kept: Depth | None = None,
        floor: int | None = None,
        diverged: bool = False,
        differed: int | None = None,
    ) -> list[SequencerOutput]:
        """End the run on counter-evidence, and begin again."""
        floor = self.book.last if floor is None else floor
        if kept is not None:
            floor = min(floor, kept.last_update_id)
        resync = Resync(
            floor=floor,
            reached=self.book.last if self._framed else None,
            kept=kept,
            lived_us=now.mono_us - self._began_us,
        )
        if self._framed:
            self._mute_stream.spoke()
        outputs = self._end(reason, diverged=diverged, differed=differed)
        return [*outputs, *self._synchronise(resync, now)]


_NEVER = Now(0, 0)
"""`Stop` asks for no time."""

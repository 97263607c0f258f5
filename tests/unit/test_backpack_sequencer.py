"""The steps are those of docs/protocol.md 5.2, the comparisons those of 10.2."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from decimal import Decimal

import msgspec
import pytest

from backpack_proto.book.audit import FIRST_AUDIT_US, SUSPICION
from backpack_proto.book.audit import LAG_US as AHEAD_US
from backpack_proto.book.kept import BACKWARDS_US, BUFFERED_FRAMES, STILL_US
from backpack_proto.book.sequencer import BookSequencer, SequencerInput, SequencerOutput
from backpack_proto.book.signals import (
    BookInForce,
    FetchSnapshot,
    FrameLost,
    MarketDoubted,
    PathChanged,
    SnapshotArrived,
    SnapshotFailed,
    SnapshotRequested,
    StreamEnded,
    StreamMute,
    StreamRequested,
    StreamSuspended,
    TopMatched,
)
from backpack_proto.book.sync import (
    ANSWER_US,
    APART_US,
    CALM_US,
    RETRY,
    TAKEN_US,
    TOO_OLD_RETRY,
)
from backpack_proto.book.verification import SnapshotCheck
from backpack_proto.book.witnesses import LAG_US
from backpack_proto.claims import AUDIT_US, PATH_BOUND_US, AuditPace, Claims, PathClaim
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import Open, TimerFired, Verify
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
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, Depth, Trade
from backpack_proto.testing.laws import FakeClock

D = Decimal
STREAM, SYMBOL = "depth.SOL_USDC", "SOL_USDC"
MS, SECOND = 1_000, 1_000_000
RETRY_US, RETRY_CEILING_US, TOO_OLD_RETRY_US = RETRY.base_us, RETRY.cap_us, TOO_OLD_RETRY.base_us
ENGINE_US = 1_795_012_345_000_000
BIDS: tuple[Level, ...] = (Level(98, 1), Level(99, 2))
ASKS: tuple[Level, ...] = (Level(101, 3), Level(102, 4))
TOP = (Level(99, 2), Level(98, 1))
TEN = Level(10, 10)
MATCHED = TopMatched(stream=STREAM)


def delta(first: int, last: int = 0, *, bids: Iterable[Level] = (), asks: Iterable[Level] = (), engine_us: int = 0) -> Depth:
    """A frame. The engine's time is that of its last id, one microsecond each, unless it is said."""
    last = last or first
    return Depth(
        emitted_us=0,
        symbol=SYMBOL,
        engine_us=engine_us or ENGINE_US + last,
        first_update_id=first,
        last_update_id=last,
        bids=tuple(bids),
        asks=tuple(asks),
    )


def snapshot(
    attempt: int,
    last: int,
    *,
    bids: Iterable[Level] = BIDS,
    asks: Iterable[Level] = ASKS,
    limit: int = 1000,
    engine_us: int = 0,
) -> SnapshotArrived:
    return SnapshotArrived(
        attempt=attempt,
        last_update_id=last,
        engine_us=engine_us or ENGINE_US + last,
        bids=tuple(bids),
        asks=tuple(asks),
        limit=limit,
    )


def ticker(update_id: int, bid: Level | None = BIDS[-1], ask: Level | None = ASKS[0]) -> BookTicker:
    return BookTicker(
        emitted_us=0,
        symbol=SYMBOL,
        engine_us=0,
        update_id=update_id,
        bid_price=bid.price if bid else None,
        bid_quantity=bid.quantity if bid else None,
        ask_price=ask.price if ask else None,
        ask_quantity=ask.quantity if ask else None,
    )


def fetch(attempt: int, *, urgent: bool = True) -> FetchSnapshot:
    return FetchSnapshot(stream=STREAM, symbol=SYMBOL, attempt=attempt, urgent=urgent)


def synced(last: int, *, bids: tuple[Level, ...] = TOP, asks: tuple[Level, ...] = ASKS, engine_us: int = 0) -> BookSynced:
    return BookSynced(stream=STREAM, symbol=SYMBOL, last=last, engine_us=engine_us or ENGINE_US + last, bids=bids, asks=asks)


def changed(
    given: Depth, *, first: int = 0, bids: tuple[Level, ...] = TOP, asks: tuple[Level, ...] = ASKS, verified: bool = False
) -> BookChanged:
    return BookChanged(
        stream=STREAM,
        symbol=SYMBOL,
        first=first or given.first_update_id,
        last=given.last_update_id,
        engine_us=given.engine_us,
        bids=bids,
        asks=asks,
        verified=verified,
        delta=given,
    )


def desynced(last: int, reason: str, *, agreed: int | None = None, differed: int | None = None) -> BookDesynced:
    """The end of a run. What differed somewhere has diverged."""
    return BookDesynced(
        stream=STREAM,
        symbol=SYMBOL,
        last=last,
        reason=reason,
        diverged=differed is not None,
        error=RemoteProtocolError(reason),
        agreed=agreed,
        differed=differed,
    )


def stale(last: int, reason: str) -> BookStale:
    return BookStale(stream=STREAM, symbol=SYMBOL, last=last, reason=reason)


def stuck(last: int, reason: str) -> list[SequencerOutput]:
    """The end of a run whose stream is requested again."""
    return [desynced(last, reason), StreamMute(stream=STREAM, reason=reason, abandon=False)]


def check_failed(reason: str) -> BookCheckFailed:
    return BookCheckFailed(stream=STREAM, symbol=SYMBOL, reason=reason, retry_us=5 * SECOND)


def unavailable(reason: str, retry_us: int) -> BookUnavailable:
    return BookUnavailable(stream=STREAM, symbol=SYMBOL, reason=reason, retry_us=retry_us)


def verified(last: int, against: str) -> BookVerified:
    return BookVerified(stream=STREAM, symbol=SYMBOL, last=last, against=against)


class Bench:
    """A sequencer and a clock, and a request budget that is free unless it is `paused`."""

    def __init__(self, *, levels: int = 2, audit: bool = True, path: PathClaim | None = None) -> None:
        self.clock = FakeClock()
        self.paused = False
        self.doubted = 0
        """How often it was asked whether the market is closed."""
        pace = AuditPace(audits=audit)
        self.sequencer = BookSequencer(STREAM, SYMBOL, levels=levels, claims=Claims(path, pace))
        self.book = self.sequencer.book

    def give(self, *inputs: SequencerInput) -> list[SequencerOutput]:
        outputs: list[SequencerOutput] = []
        for given in inputs:
            said = self.sequencer.handle(given, self.clock.now)
            outputs += [output for output in said if not isinstance(output, MarketDoubted)]
            self.doubted += sum(isinstance(output, MarketDoubted) for output in said)
            for output in said:
                if isinstance(output, FetchSnapshot) and not self.paused:
                    assert self.sequencer.handle(SnapshotRequested(output.attempt), self.clock.now) == []
        return outputs

    def fire(self) -> list[SequencerOutput]:
        """Wait for the deadline."""
        self.clock.advance_to(self.sequencer.deadline)
        return self.give(TimerFired())

    @property
    def wait_us(self) -> int | None:
        """Time that until the deadline."""
        deadline = self.sequencer.deadline
        return None if deadline is None else deadline - self.clock.mono_us

    def status(self) -> tuple[bool, int, tuple[Level, ...], tuple[Level, ...]]:
        return self.book.is_live(self.clock.mono_us), self.book.last, self.book.bids(), self.book.asks()


def live(last: int = 10, *, audit: bool = True, limit: int = 1000) -> Bench:
    """A bench with a live book, whose next attempt is the second."""
    bench = Bench(audit=audit)
    assert bench.give(StreamRequested(), delta(last)) == [fetch(1)]
    assert bench.give(snapshot(1, last, limit=limit)) == [synced(last)]
    return bench


# Idle.


@pytest.mark.parametrize(
    "given",
    [delta(1), ticker(1), snapshot(0, 1), snapshot(1, 1), SnapshotFailed(attempt=1, reason="x"), Verify(STREAM), TimerFired()],
)
def test_an_idle_stream_wants_nothing(given: SequencerInput) -> None:
    bench = Bench()
    assert bench.give(given) == []
    assert bench.sequencer.deadline is None
    assert bench.status() == (False, 0, (), ())


def test_ending_what_has_not_begun() -> None:
    assert Bench().give(StreamEnded("unsubscribed")) == []


def test_what_is_no_input_of_a_sequencer_is_refused() -> None:
    with pytest.raises(TypeError, match="not an input of a book: Open"):
        Bench().sequencer.handle(Open(), FakeClock().now)  # type: ignore[arg-type]


# Steps 1 and 2: frames are kept, and a snapshot is asked for at once.


def test_a_snapshot_is_asked_for_at_once() -> None:
    bench = Bench()
    assert bench.give(StreamRequested()) == [fetch(1)]
    assert bench.wait_us == ANSWER_US
    assert bench.give(delta(5), delta(6), ticker(6)) == []
    assert bench.status() == (False, 0, (), ())


def test_an_early_timer_is_nothing() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    bench.clock.advance(ANSWER_US - 1)
    assert bench.give(TimerFired()) == []
    assert bench.wait_us == 1


# Step 3: what the snapshot holds already is dropped.


def test_frames_that_the_snapshot_holds_are_dropped() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5, bids=[TEN]), delta(6, bids=[TEN]))
    assert bench.give(snapshot(1, 6)) == [synced(6)]
    assert bench.status() == (True, 6, TOP, ASKS)


def test_frames_behind_the_snapshot_are_applied() -> None:
    bench = Bench()
    sixth, seventh = delta(6, bids=[Level(98, 0)]), delta(7, asks=[Level(100, 5)])
    bench.give(StreamRequested(), delta(5, bids=[TEN]), sixth, seventh)
    bids, asks = (Level(99, 2),), (Level(100, 5), *ASKS)
    assert bench.give(snapshot(1, 5)) == [
        synced(5),
        changed(sixth, bids=bids),
        changed(seventh, bids=bids, asks=asks[:2]),
    ]
    assert bench.status() == (True, 7, bids, asks)


def test_a_ticker_that_a_kept_frame_reaches_verifies_the_book_behind_it() -> None:
    bench = Bench()
    bench.give(StreamRequested(), ticker(7), kept := delta(6), last := delta(7))
    assert bench.give(snapshot(1, 5)) == [synced(5), changed(kept), changed(last), MATCHED, verified(7, "bookTicker")]


def test_a_book_that_is_synced_again_is_not_verified_by_what_was_before() -> None:
    bench = live(10)
    bench.give(ticker(10), delta(12), delta(13))
    assert bench.give(snapshot(2, 11)) == [synced(11), changed(delta(12)), changed(delta(13))]


@pytest.mark.parametrize("order", [1, -1])
def test_levels_of_a_snapshot_come_in_any_order(order: int) -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5))
    assert bench.give(snapshot(1, 5, bids=BIDS[::order], asks=ASKS[::order])) == [synced(5)]


def test_a_book_tells_all_levels_once_and_then_hands_out_as_many_as_asked_for() -> None:
    bench = Bench(levels=1)
    bench.give(StreamRequested(), kept := delta(6))
    assert bench.give(snapshot(1, 5)) == [synced(5), changed(kept, bids=TOP[:1], asks=ASKS[:1])]
    assert bench.give(given := delta(7)) == [changed(given, bids=TOP[:1], asks=ASKS[:1])]


# Step 4: a snapshot that ends before the frames begin.


def test_a_snapshot_that_is_too_old_is_asked_for_again() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(7))
    reason = "the snapshot is too old: it ends at 5, the stream needs 6"
    assert bench.give(snapshot(1, 5)) == [unavailable(reason, TOO_OLD_RETRY_US)]
    assert bench.wait_us == TOO_OLD_RETRY_US
    assert bench.give(delta(8)) == []
    assert bench.fire() == [fetch(2)]
    assert bench.give(snapshot(2, 6)) == [synced(6), changed(delta(7)), changed(delta(8))]


def test_snapshots_that_stay_too_old_are_asked_for_less_and_less() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(7))
    waits = []
    for attempt in range(1, 12):
        reason = "the snapshot is too old: it ends at 5, the stream needs 6"
        waits.append((bench.give(snapshot(attempt, 5)), bench.wait_us))
        assert waits[-1][0] == [unavailable(reason, waits[-1][1] or 0)]
        assert bench.fire() == [fetch(attempt + 1)]
    assert [wait for _, wait in waits] == [TOO_OLD_RETRY_US << n for n in range(8)] + [RETRY_CEILING_US] * 3


def test_a_hole_among_the_kept_frames_counts_as_their_beginning() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5), delta(6), delta(9), delta(10))
    reason = "the snapshot is too old: it ends at 5, the stream needs 8"
    assert bench.give(snapshot(1, 5)) == [unavailable(reason, TOO_OLD_RETRY_US)]
    bench.fire()
    assert bench.give(snapshot(2, 8)) == [synced(8), changed(delta(9)), changed(delta(10))]


def test_duplicates_among_the_kept_frames_are_passed_over() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5), delta(6), delta(6), delta(5), delta(7))
    assert bench.give(snapshot(1, 4)) == [synced(4), changed(delta(5)), changed(delta(6)), changed(delta(7))]


def test_of_too_many_frames_the_newest_are_kept() -> None:
    bench = Bench()
    bench.give(StreamRequested(), *(delta(last) for last in range(1, BUFFERED_FRAMES + 2)))
    reason = "the snapshot is too old: it ends at 0, the stream needs 1"
    assert bench.give(snapshot(1, 0)) == [unavailable(reason, TOO_OLD_RETRY_US)]
    bench.fire()
    assert bench.give(snapshot(2, 1)) == [synced(1), *(changed(delta(last)) for last in range(2, BUFFERED_FRAMES + 2))]


# Step 5: the first frame that joins on.


def test_a_kept_frame_may_straddle_the_snapshot() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(3, 4), kept := delta(5, 9, bids=[Level(98, 7)]))
    assert bench.give(snapshot(1, 7)) == [synced(7), changed(kept, first=8, bids=(Level(99, 2), Level(98, 7)))]


@pytest.mark.parametrize(("last", "joins"), [(4, False), (5, True), (8, True), (9, True)])
def test_where_a_snapshot_may_end_for_a_frame_to_join_on(last: int, *, joins: bool) -> None:
    bench = Bench()
    bench.give(StreamRequested(), kept := delta(6, 9))
    outputs = bench.give(snapshot(1, last))
    if joins:
        assert outputs == [synced(last), *([changed(kept, first=last + 1)] if last < 9 else [])]
    else:
        assert [type(output) for output in outputs] == [BookUnavailable]
    assert bench.book.last == (max(last, 9) if joins else 0)


def test_a_snapshot_ahead_of_the_stream_waits_for_the_frame_that_joins_on() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5))
    assert bench.give(snapshot(1, 8)) == []
    assert bench.give(delta(6, bids=[TEN]), delta(7, bids=[TEN])) == []
    assert bench.status() == (False, 0, (), ())
    assert bench.give(delta(8, bids=[TEN])) == [synced(8)]
    assert bench.give(given := delta(9)) == [changed(given)]


def test_the_first_frame_may_straddle_a_snapshot_that_was_ahead() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5))
    bench.give(snapshot(1, 8))
    assert bench.give(delta(6, 7)) == []
    assert bench.give(given := delta(8, 11)) == [synced(8), changed(given, first=9)]
    assert bench.give(given := delta(12, 13)) == [changed(given)]


def test_a_stream_that_speaks_is_waited_for_and_not_outrun_by_another_snapshot() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5))
    bench.give(snapshot(1, 80))
    for last in range(6, 80):
        bench.clock.advance(APART_US - 1)
        assert bench.give(TimerFired(), delta(last)) == []
    assert bench.give(delta(80)) == [synced(80)]


def test_only_the_first_frame_may_straddle() -> None:
    bench = live(10)
    bench.give(delta(11))
    assert bench.give(delta(11, 12)) == [desynced(11, "overlap: expected 12, got 11"), fetch(2)]
    bench = Bench()
    bench.give(StreamRequested(), delta(10), delta(11))
    bench.give(snapshot(1, 10))
    assert bench.give(delta(11, 12)) == [desynced(11, "overlap: expected 12, got 11"), fetch(2)]


def test_a_hole_behind_a_snapshot_that_was_ahead_costs_another_one() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5))
    bench.give(snapshot(1, 8))
    reason = "the snapshot is too old: it ends at 8, the stream needs 9"
    assert bench.give(delta(10)) == [unavailable(reason, TOO_OLD_RETRY_US)]
    assert bench.fire() == [fetch(2)]


# A snapshot alone proves nothing.


def test_a_quiet_market_is_live_after_two_equal_snapshots() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    bench.clock.advance(100 * MS)
    assert bench.give(snapshot(1, 5), BookInForce()) == []
    assert (bench.status(), bench.wait_us) == ((False, 0, (), ()), APART_US - 100 * MS)
    assert bench.fire() == [fetch(2)]
    assert bench.give(snapshot(2, 5)) == [synced(5)]
    assert bench.give(given := delta(6)) == [changed(given)]


def test_the_second_snapshot_is_asked_for_when_the_subscription_is_in_force() -> None:
    bench = Bench()
    bench.give(StreamRequested(), snapshot(1, 5))
    assert bench.wait_us == TAKEN_US
    bench.clock.advance(7 * SECOND)
    assert bench.give(BookInForce(), TimerFired()) == [fetch(2)]
    assert bench.give(snapshot(2, 5)) == [synced(5)]


def test_two_snapshots_that_were_asked_for_before_the_subscription_was_in_force_prove_nothing() -> None:
    bench = Bench()
    bench.give(StreamRequested(), snapshot(1, 5), BookInForce())
    bench.fire()
    bench.give(StreamRequested())
    bench.paused = True
    assert bench.give(snapshot(3, 5)) == []
    assert not bench.book.is_live(bench.clock.mono_us)


def test_a_second_snapshot_that_has_moved_is_held_in_place_of_the_first() -> None:
    bench = Bench()
    bench.give(StreamRequested(), snapshot(1, 5), BookInForce())
    bench.fire()
    assert bench.give(snapshot(2, 7)) == []
    assert bench.fire() == [fetch(3)]
    assert bench.give(snapshot(3, 7)) == [synced(7)]


def test_a_ticker_at_the_id_of_the_snapshot_proves_it() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    assert bench.give(ticker(4), snapshot(1, 5)) == []
    assert bench.give(ticker(5)) == [synced(5), MATCHED, verified(5, "bookTicker")]


def test_a_stream_that_stays_mute_is_requested_again_and_then_given_up() -> None:
    bench = Bench()
    mute = "the market has moved to 7, and its depth stream sends nothing"
    for number, abandon in enumerate((False, True)):
        attempt = 3 * number + 1
        assert bench.give(StreamRequested())[-1] == fetch(attempt)
        bench.give(BookInForce())
        for last in (5, 6):
            assert bench.give(snapshot(attempt, last)) == []
            assert bench.fire() == [fetch(attempt := attempt + 1)]
        assert bench.give(snapshot(attempt, 7)) == [
            unavailable(mute, 0),
            StreamMute(stream=STREAM, reason=mute, abandon=abandon),
        ]
        assert not bench.book.is_live(bench.clock.mono_us)


@pytest.mark.parametrize("first", [4, 5, 6])
def test_the_first_frame_joins_on_to_the_snapshot_that_is_held(first: int) -> None:
    bench = Bench()
    bench.give(StreamRequested())
    assert bench.give(snapshot(1, 5)) == []
    assert bench.give(given := delta(first, 6)) == [synced(5), changed(given, first=6)]


def test_a_first_frame_from_before_the_held_snapshot_proves_nothing_yet() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    bench.give(snapshot(1, 5))
    assert bench.give(delta(4)) == []
    assert bench.give(delta(5)) == [synced(5)]
    assert bench.wait_us == FIRST_AUDIT_US


def test_a_first_frame_that_does_not_join_on_costs_another_snapshot() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    bench.give(snapshot(1, 5))
    reason = "the snapshot is too old: it ends at 5, the stream needs 6"
    assert bench.give(delta(7)) == [unavailable(reason, TOO_OLD_RETRY_US)]
    assert bench.give(delta(8)) == []
    assert bench.fire() == [fetch(2)]
    assert bench.give(snapshot(2, 6)) == [synced(6), changed(delta(7)), changed(delta(8))]


def test_a_first_frame_that_does_not_join_on_while_another_snapshot_is_on_its_way() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    bench.give(snapshot(1, 5))
    assert bench.fire() == [fetch(2)]
    assert bench.give(delta(7)) == []
    assert bench.give(snapshot(2, 6)) == [synced(6), changed(delta(7))]


def test_the_first_frame_joins_on_while_another_snapshot_is_on_its_way() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    bench.give(snapshot(1, 5))
    bench.fire()
    assert bench.give(delta(6)) == [synced(5), changed(delta(6))]
    assert bench.give(snapshot(2, 6)) == []


def test_when_the_second_snapshot_fails_the_held_one_still_waits_for_a_frame() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    bench.give(snapshot(1, 5))
    bench.fire()
    assert bench.give(SnapshotFailed(attempt=2, reason="503")) == [unavailable("503", RETRY_US)]
    assert bench.give(delta(6)) == [synced(5), changed(delta(6))]
    assert bench.wait_us == FIRST_AUDIT_US


def test_a_second_snapshot_that_is_older_than_the_first_proves_nothing() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    bench.give(snapshot(1, 5))
    bench.fire()
    reason = "the snapshot is too old: it ends at 4, the one before it at 5"
    assert bench.give(snapshot(2, 4)) == [unavailable(reason, TOO_OLD_RETRY_US)]
    assert bench.fire() == [fetch(3)]
    assert bench.give(snapshot(3, 5)) == [synced(5)]


def test_a_second_snapshot_may_be_of_ids_that_have_started_over() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    bench.give(snapshot(1, 1000))
    bench.fire()
    later = ENGINE_US + 3 * BACKWARDS_US
    assert bench.give(snapshot(2, 4, engine_us=later)) == []
    assert bench.give(delta(4, engine_us=later)) == [synced(4, engine_us=later)]


# Step 6: the chain.


def test_a_frame_that_joins_on_is_applied() -> None:
    bench = live(10)
    given = delta(11, bids=[Level(99, 0), Level(97, "2.50")], asks=[Level("101.0", "0.00")])
    assert bench.give(given) == [changed(given, bids=(Level(98, 1), Level(97, "2.50")), asks=ASKS[1:])]
    assert bench.give(given := delta(12, 15)) == [changed(given, bids=(Level(98, 1), Level(97, "2.50")), asks=ASKS[1:])]


@pytest.mark.parametrize("old", [delta(11), delta(10), delta(3, 11), delta(1)])
def test_old_frames_and_duplicates_are_ignored(old: Depth) -> None:
    bench = live(10)
    bench.give(delta(11))
    before = bench.status()
    assert bench.give(old) == []
    assert bench.status() == before
    assert bench.give(given := delta(12)) == [changed(given)]


@pytest.mark.parametrize("given", [delta(12), delta(12, 14), delta(1000)])
def test_a_gap_costs_a_snapshot(given: Depth) -> None:
    bench = live(10)
    assert bench.give(given) == [desynced(10, f"gap: expected 11, got {given.first_update_id}"), fetch(2)]
    assert bench.status() == (False, 10, TOP, ASKS)
    assert bench.wait_us == ANSWER_US
    assert bench.give(snapshot(2, given.first_update_id - 1)) == [synced(given.first_update_id - 1), changed(given)]
    assert bench.sequencer.book is bench.book


def test_the_old_book_stays_readable_until_its_successor_stands() -> None:
    bench = live(10)
    bench.give(delta(12))
    assert bench.give(delta(13, bids=[TEN])) == []
    assert bench.status() == (False, 10, TOP, ASKS)
    assert bench.give(SnapshotFailed(attempt=2, reason="503")) == [unavailable("503", 2 * RETRY_US)]
    assert bench.status() == (False, 10, TOP, ASKS)


def test_a_snapshot_from_before_what_the_stream_has_shown_is_too_old() -> None:
    """The frames up to 10 were applied and are not kept: a snapshot of 9 has a hole behind it even when no frame says so."""
    bench = live(10)
    diverged = "best bid at 10: 2 at 99 here, 5 at 99 on bookTicker"
    assert bench.give(ticker(10, Level(99, 5))) == [desynced(10, diverged, differed=10), fetch(2)]
    reason = "the snapshot is too old: it ends at 9, the stream needs 10"
    assert bench.give(snapshot(2, 9)) == [unavailable(reason, 2 * TOO_OLD_RETRY_US)]
    bench.fire()
    assert bench.give(snapshot(3, 10)) == [synced(10)]


def test_an_old_frame_while_a_snapshot_is_fetched_again_is_ignored() -> None:
    bench = live(10)
    bench.give(ticker(10, None))
    assert bench.give(delta(9), delta(10)) == []
    assert bench.give(delta(11)) == []
    assert bench.give(snapshot(2, 10)) == [synced(10), changed(delta(11))]


# Step 6 when the ids start over.


def test_ids_that_go_back_at_once_are_old_frames() -> None:
    bench = live(1000)
    assert bench.give(delta(5, engine_us=ENGINE_US + 1000 + BACKWARDS_US)) == []


def test_ids_that_go_back_later_have_started_over() -> None:
    bench = live(1000)
    later = ENGINE_US + 1001 + BACKWARDS_US
    given = delta(5, engine_us=later)
    assert bench.give(given) == [desynced(1000, "update ids went back to 5"), fetch(2)]
    assert bench.give(snapshot(2, 4, engine_us=later)) == [synced(4, engine_us=later), changed(given)]


def test_a_snapshot_of_the_old_ids_is_refused() -> None:
    bench = live(1000)
    later = ENGINE_US + 1001 + BACKWARDS_US
    bench.give(delta(5, engine_us=later))
    reason = "the snapshot ends at 1000, and is older than what is known at that id"
    assert bench.give(snapshot(2, 1000)) == [unavailable(reason, 2 * TOO_OLD_RETRY_US)]


def test_a_held_snapshot_of_the_old_ids_does_not_outlive_the_next_frame() -> None:
    bench = Bench()
    bench.give(StreamRequested(), snapshot(1, 1000))
    reason = "the snapshot ends at 1000, and is older than what is known at that id"
    assert bench.give(delta(6, engine_us=ENGINE_US + 1001 + BACKWARDS_US)) == [unavailable(reason, TOO_OLD_RETRY_US)]
    assert bench.fire() == [fetch(2)]


def test_an_empty_snapshot_with_an_old_time_is_refused() -> None:
    bench = live(10)
    bench.give(delta(12, engine_us=ENGINE_US + 2 * BACKWARDS_US))
    (event,) = bench.give(snapshot(2, 12, bids=(), asks=(), engine_us=ENGINE_US))
    assert isinstance(event, BookUnavailable)


OF_OLD_US = 1_600_000_000_000_000
OUTDATED = "the snapshot ends at 12, and is older than what is known at that id"


def test_an_old_time_is_refused_though_newer_frames_are_kept() -> None:
    """What the book, a frame or a ticker has shown up to the snapshot's id is known, and frames behind it say nothing of it."""
    bench = live(10)
    bench.give(delta(11), delta(14))
    assert bench.give(snapshot(2, 12, bids=(), asks=(), engine_us=OF_OLD_US)) == [unavailable(OUTDATED, 2 * TOO_OLD_RETRY_US)]


def test_an_old_time_is_refused_where_a_frame_of_the_same_id_waits() -> None:
    bench = Bench()
    bench.give(
        StreamRequested(), delta(12, engine_us=OF_OLD_US + 2 * BACKWARDS_US), delta(13, engine_us=OF_OLD_US + 3 * BACKWARDS_US)
    )
    assert bench.give(snapshot(1, 12, engine_us=OF_OLD_US)) == [unavailable(OUTDATED, TOO_OLD_RETRY_US)]


def test_an_old_time_is_refused_where_a_ticker_has_shown_the_id() -> None:
    bench = Bench()
    shown = msgspec.structs.replace(ticker(12), engine_us=ENGINE_US)
    assert bench.give(StreamRequested(), shown, snapshot(1, 12, bids=(), asks=(), engine_us=OF_OLD_US)) == [
        fetch(1),
        unavailable(OUTDATED, TOO_OLD_RETRY_US),
    ]
    assert bench.fire() == [fetch(2)]
    assert bench.give(snapshot(2, 12, engine_us=OF_OLD_US)) == [unavailable(OUTDATED, 2 * TOO_OLD_RETRY_US)]
    bench = Bench()
    bench.give(StreamRequested(), snapshot(1, 12, bids=(), asks=(), engine_us=OF_OLD_US))
    assert bench.give(shown) == [unavailable(OUTDATED, TOO_OLD_RETRY_US)], "the ticker comes later"


def test_a_market_may_have_stood_still_for_a_day_but_not_for_years() -> None:
    bench = Bench()
    assert bench.give(StreamRequested(), delta(13), snapshot(1, 12, engine_us=OF_OLD_US)) == [
        fetch(1),
        unavailable(OUTDATED, TOO_OLD_RETRY_US),
    ]
    assert bench.fire() == [fetch(2)]
    yesterday = ENGINE_US + 13 - STILL_US
    assert bench.give(snapshot(2, 12, engine_us=yesterday)) == [synced(12, engine_us=yesterday), changed(delta(13))]


def test_a_book_whose_exchange_set_its_clock_back_is_not_refused_for_ever() -> None:
    bench = live(10)
    earlier = ENGINE_US - 10 * BACKWARDS_US
    bench.give(delta(12, engine_us=earlier), delta(13, engine_us=earlier))
    assert bench.give(snapshot(2, 11, engine_us=earlier))[0] == synced(11, engine_us=earlier)


def test_ids_may_start_over_while_a_snapshot_is_fetched() -> None:
    bench = Bench()
    later = ENGINE_US + 1001 + BACKWARDS_US
    kept = [delta(4, engine_us=later), delta(5, engine_us=later)]
    bench.give(StreamRequested(), delta(1000), *kept)
    assert bench.give(snapshot(1, 3, engine_us=later)) == [synced(3, engine_us=later), *map(changed, kept)]


def test_ids_that_go_back_at_once_while_a_snapshot_is_fetched_are_old_frames() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(1000), delta(5, engine_us=ENGINE_US + 1000 + BACKWARDS_US))
    assert bench.give(snapshot(1, 999)) == [synced(999), changed(delta(1000))]


def test_tickers_of_the_old_ids_are_forgotten_while_a_snapshot_is_fetched() -> None:
    bench = Bench()
    later = ENGINE_US + 1000 + BACKWARDS_US
    bench.give(StreamRequested(), delta(6), ticker(7, TEN), delta(4, engine_us=later))
    bench.give(snapshot(1, 3, engine_us=later))
    for last in (5, 6, 7):
        assert bench.give(given := delta(last, engine_us=later)) == [changed(given)]


def test_ids_may_start_over_while_a_book_is_fetched_again() -> None:
    """Otherwise every snapshot of the new ids that holds all frames so far would look too old, for ever."""
    bench = live(1000)
    bench.give(ticker(1000, None))
    later = ENGINE_US + 1001 + BACKWARDS_US
    assert bench.give(delta(5, engine_us=later)) == []
    assert bench.give(snapshot(2, 6, engine_us=later)) == []
    assert bench.give(delta(6, engine_us=later)) == [synced(6, engine_us=later)]


def test_tickers_of_the_old_ids_are_no_word_on_the_new_ones() -> None:
    bench = live(1000)
    for update_id in (1005, 1006, 1007):
        assert bench.give(ticker(update_id, Level(50, 1))) == []
    later = ENGINE_US + 1001 + BACKWARDS_US
    bench.give(delta(4, engine_us=later))
    bench.give(snapshot(2, 4, engine_us=later))
    bench.clock.advance(LAG_US + SECOND)
    assert bench.give(ticker(4)) == [MATCHED, verified(4, "bookTicker")]
    assert bench.give(given := delta(5, 1005, engine_us=later)) == [changed(given)]


# Step 7: levels.


def test_an_empty_delta_moves_on() -> None:
    bench = live(10)
    assert bench.give(given := delta(11)) == [changed(given)]
    assert bench.status() == (True, 11, TOP, ASKS)


def test_deleting_a_level_that_is_not_there_is_normal() -> None:
    bench = live(10)
    assert bench.give(given := delta(11, bids=[Level(100, 0)], asks=[Level(103, 0)])) == [changed(given)]


@pytest.mark.parametrize("bid", [D(101), D("101.50")])
def test_a_crossed_or_locked_book_is_never_handed_out(bid: Decimal) -> None:
    bench = live(10)
    assert bench.give(delta(11, bids=[Level(bid, 1)])) == [desynced(11, "crossed at 11"), fetch(2)]
    assert not bench.book.is_live(bench.clock.mono_us)
    # The snapshot may end before the delta, and may hold it.
    assert bench.give(snapshot(2, 11, bids=[*BIDS, Level(bid, 1)], asks=ASKS[1:])) == [
        synced(11, bids=(Level(bid, 1), *TOP), asks=ASKS[1:])
    ]


def test_a_book_that_was_crossed_on_the_short_way_takes_nothing_more_on_it() -> None:
    """Whatever its snapshot waits for: nothing is handled between the two frames."""
    bench = live()
    follow, now = bench.sequencer.follow, bench.clock.now
    assert follow(delta(11), now) == changed(delta(11))
    assert follow(delta(12, bids=[Level(101, 1)]), now) == [desynced(12, "crossed at 12"), fetch(2)]
    assert follow(delta(13, bids=[Level(101, 0)]), now) is None


def test_a_book_that_was_found_wrong_on_the_short_way_takes_nothing_more_on_it() -> None:
    bench = live()
    follow, now = bench.sequencer.follow, bench.clock.now
    assert follow(delta(11), now) == changed(delta(11))
    reason = "best bid at 11: 2 at 99 here, 5 at 98 on bookTicker"
    assert bench.sequencer.witness(ticker(11, Level(98, 5)), now) == [desynced(11, reason, differed=11), fetch(2)]
    assert follow(delta(12), now) is None


def test_a_book_for_whose_next_frame_something_waits_is_not_for_the_short_way() -> None:
    bench = live()
    follow, now = bench.sequencer.follow, bench.clock.now
    assert follow(delta(11), now) == changed(delta(11))
    assert bench.give(ticker(12)) == []
    assert follow(delta(12), now) is None
    assert bench.give(delta(12))[0] == changed(delta(12), verified=True)
    assert follow(delta(13), now) == changed(delta(13))
    assert bench.give(StreamEnded("x")) == [desynced(13, "x", agreed=12)]
    assert follow(delta(14), now) is None


def test_an_empty_side_is_no_fault_where_all_of_it_is_known() -> None:
    """On the short way as on the long one."""
    gone = [Level(price, 0) for price, _ in ASKS]
    for limit, said in ((1000, []), (2, [desynced(12, "a side's known levels are used up at 12"), fetch(2)])):
        short, long = live(limit=limit), live(limit=limit)
        for bench in (short, long):
            bench.give(delta(11))
        found = short.sequencer.follow(delta(12, asks=gone), short.clock.now)
        assert (found if limit == 2 else [found]) == (said or [changed(delta(12, asks=gone), asks=())])
        assert long.give(delta(12, asks=gone)) == (said or [changed(delta(12, asks=gone), asks=())])


def test_the_first_frame_behind_a_snapshot_is_not_for_the_short_way_unless_one_has_proved_where_frames_end() -> None:
    """Only the first frame may straddle the snapshot: whoever takes it has to know that it was the first."""
    bench = Bench()
    bench.give(StreamRequested(), ticker(10))
    assert bench.give(snapshot(1, 10))[0] == synced(10)
    follow, now = bench.sequencer.follow, bench.clock.now
    assert follow(delta(11), now) is None
    assert changed(delta(11)) in bench.give(delta(11))
    assert follow(delta(12), now) == changed(delta(12))
    assert bench.give(delta(12, 13)) == [desynced(12, "overlap: expected 13, got 12", agreed=10), fetch(2)]


def test_a_delta_that_crossed_the_book_is_applied_to_the_snapshot_before_it() -> None:
    bench = live(10)
    bench.give(given := delta(11, bids=[Level("101.5", 1)]))
    assert bench.give(snapshot(2, 10, asks=ASKS[1:])) == [
        synced(10, asks=ASKS[1:]),
        changed(given, bids=(Level("101.5", 1), TOP[0]), asks=ASKS[1:]),
    ]


def test_a_crossed_snapshot_is_refused() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5))
    assert bench.give(snapshot(1, 5, bids=[Level(101, 1)])) == [unavailable("the snapshot is crossed", RETRY_US)]
    assert bench.fire() == [fetch(2)]
    assert bench.give(snapshot(2, 5)) == [synced(5)]


def test_a_snapshot_that_frames_cross_is_refused() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(6, bids=[Level(101, 1)]))
    reason = "the snapshot does not fit the stream: the book is crossed or used up"
    assert bench.give(snapshot(1, 5)) == [unavailable(reason, RETRY_US)]
    assert not bench.book.is_live(bench.clock.mono_us)
    bench.fire()
    assert bench.give(snapshot(2, 6)) == [synced(6)]


def test_a_book_whose_known_levels_are_used_up_is_fetched_again() -> None:
    bench = live(10, limit=2)
    assert bench.give(given := delta(11, bids=[Level(97, 5), Level(99, 0)])) == [changed(given, bids=TOP[1:])]
    assert bench.give(delta(12, bids=[Level(98, 0)])) == [desynced(12, "a side's known levels are used up at 12"), fetch(2)]
    assert bench.give(snapshot(2, 12, bids=[Level(97, 5)], limit=2)) == [synced(12, bids=(Level(97, 5),))]


def test_a_snapshot_whose_known_levels_the_frames_use_up_is_refused() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(6, asks=[Level(101, 0), Level(102, 0)]))
    reason = "the snapshot does not fit the stream: the book is crossed or used up"
    assert bench.give(snapshot(1, 5, limit=2)) == [unavailable(reason, RETRY_US)]


def test_a_market_without_orders_has_a_live_book() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5))
    assert bench.give(snapshot(1, 5, bids=(), asks=())) == [synced(5, bids=(), asks=())]
    assert bench.give(ticker(5, None, None)) == [MATCHED, verified(5, "bookTicker")]


@pytest.mark.parametrize(
    ("sixth", "seventh"),
    [
        (delta(6, bids=[Level(101, 1)]), delta(7, bids=[Level(101, 0)])),
        (delta(6, asks=[Level(99, 1)]), delta(7, asks=[Level(99, 0)])),
        (delta(6, asks=[Level(101, 0), Level(102, 0)]), delta(7, asks=[Level(102, 1)])),
    ],
)
def test_a_snapshot_that_frames_cross_or_use_up_on_the_way_is_refused(sixth: Depth, seventh: Depth) -> None:
    """Each of them would be told, so it is not enough that the last one is sound."""
    bench = Bench()
    bench.give(StreamRequested(), sixth, seventh)
    reason = "the snapshot does not fit the stream: the book is crossed or used up"
    assert bench.give(snapshot(1, 5, limit=2)) == [unavailable(reason, RETRY_US)]
    assert bench.status() == (False, 0, (), ())
    bench.fire()
    assert bench.give(snapshot(2, 7)) == [synced(7)]


def test_frames_that_were_spent_on_a_bad_snapshot_must_be_in_the_next_one() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(6, bids=[Level(101, 1)]), delta(7))
    bench.give(snapshot(1, 5))
    bench.fire()
    reason = "the snapshot is too old: it ends at 6, the stream needs 7"
    (refused,) = bench.give(snapshot(2, 6))
    assert isinstance(refused, BookUnavailable)
    assert refused.reason == reason
    bench.fire()
    assert bench.give(snapshot(3, 7)) == [synced(7)]


# Step 8: everything begins again.


def test_the_end_of_the_stream_leaves_a_stale_book() -> None:
    bench = live(10)
    assert bench.give(StreamEnded("the connection is down")) == [desynced(10, "the connection is down")]
    assert (bench.status(), bench.sequencer.deadline) == ((False, 10, TOP, ASKS), None)
    assert bench.give(delta(11), ticker(11), snapshot(2, 11), TimerFired(), StreamEnded("again")) == []


def test_nothing_of_one_subscription_is_of_use_to_the_next() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5), delta(6), ticker(9, Level(50, 1)))
    assert bench.give(StreamEnded("the connection is down"), StreamRequested()) == [fetch(2)]
    assert bench.give(snapshot(1, 6)) == []
    assert bench.give(delta(9)) == []
    assert bench.give(snapshot(2, 8)) == [synced(8), changed(delta(9))]


def test_ids_may_start_over_with_the_connection() -> None:
    bench = live(1000)
    bench.give(StreamEnded("the connection is down"))
    assert bench.give(StreamRequested(), delta(3)) == [fetch(2)]
    assert bench.give(snapshot(2, 2)) == [synced(2), changed(delta(3))]


def test_ids_may_start_over_with_the_connection_before_there_was_a_book() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(1000), StreamEnded("the connection is down"))
    assert bench.give(StreamRequested(), delta(3)) == [fetch(2)]
    assert bench.give(snapshot(2, 2)) == [synced(2), changed(delta(3))]


def test_ids_may_start_over_with_the_connection_while_a_book_is_fetched_again() -> None:
    bench = live(1000)
    bench.give(ticker(1000, None))
    assert bench.give(StreamEnded("the connection is down"), StreamRequested()) == [fetch(3)]
    later = ENGINE_US + 1001 + BACKWARDS_US
    assert bench.give(snapshot(3, 5, engine_us=later)) == []
    assert bench.give(delta(5, engine_us=later)) == [synced(5, engine_us=later)]


def test_a_held_snapshot_is_of_no_use_to_the_next_subscription() -> None:
    bench = Bench()
    bench.give(StreamRequested(), snapshot(1, 5))
    assert bench.give(StreamEnded("the connection is down"), StreamRequested()) == [fetch(2)]
    assert bench.give(delta(6)) == []
    assert bench.give(snapshot(2, 6)) == [synced(6)]


def test_a_check_ends_with_its_subscription() -> None:
    bench = live(10)
    bench.fire()
    assert bench.give(StreamRequested()) == [desynced(10, "it is requested again"), fetch(3)]
    assert bench.give(delta(12)) == []
    assert bench.give(snapshot(3, 11)) == [synced(11), changed(delta(12))]


def test_a_stream_that_is_requested_again_begins_again() -> None:
    bench = live(10)
    assert bench.give(StreamRequested()) == [desynced(10, "it is requested again"), fetch(2)]
    assert bench.give(snapshot(2, 11)) == []
    assert bench.give(delta(11)) == [synced(11)]


# Snapshots that do not come.


def test_failures_in_a_row_wait_longer_and_longer() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5))
    waits = []
    for attempt in range(1, 9):
        (event,) = bench.give(SnapshotFailed(attempt=attempt, reason="503"))
        assert isinstance(event, BookUnavailable)
        assert (event.reason, event.retry_us) == ("503", bench.wait_us)
        waits.append(event.retry_us)
        assert bench.fire() == [fetch(attempt + 1)]
    assert waits == [min(RETRY_US << n, RETRY_CEILING_US) for n in range(8)]


def test_an_answer_that_does_not_come_is_a_failure() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(5))
    assert bench.fire() == [unavailable("no answer in time", RETRY_US)]
    assert bench.give(snapshot(1, 5)) == []
    assert bench.fire() == [fetch(2)]
    assert bench.give(snapshot(1, 5)) == []
    assert bench.give(SnapshotFailed(attempt=1, reason="late")) == []
    assert bench.give(snapshot(2, 5)) == [synced(5)]
    assert bench.give(snapshot(2, 7)) == []


def test_a_snapshot_that_waits_for_the_budget_is_not_late() -> None:
    bench = Bench()
    bench.paused = True
    assert bench.give(StreamRequested(), delta(5)) == [fetch(1)]
    assert (bench.sequencer.deadline, bench.sequencer.awaited) == (None, 1)
    bench.clock.advance(60 * SECOND)
    assert bench.give(TimerFired(), SnapshotRequested(0), SnapshotRequested(1)) == []
    assert bench.wait_us == 15 * SECOND
    assert bench.fire() == [unavailable("no answer in time", SECOND)]
    assert bench.sequencer.awaited is None
    assert bench.give(SnapshotRequested(1)) == []
    assert bench.wait_us == SECOND


@pytest.mark.parametrize("given", [StreamEnded("unsubscribed"), delta(20), StreamRequested()])
def test_a_snapshot_is_not_awaited_once_it_is_of_no_use(given: SequencerInput) -> None:
    bench = live(10)
    bench.give(Verify(STREAM))
    assert bench.sequencer.awaited == 2
    bench.give(given)
    assert bench.sequencer.awaited != 2


def test_a_book_that_fails_again_at_once_is_given_time() -> None:
    bench = live(10)
    assert bench.give(delta(12)) == [desynced(10, "gap: expected 11, got 12"), fetch(2)]
    waits: list[int | None] = []
    last = 12
    for attempt in range(2, 5):
        assert [type(output) for output in bench.give(snapshot(attempt, last))] == [BookSynced]
        reason = f"gap: expected {last + 1}, got {last + 2}"
        assert bench.give(delta(last + 2)) == [desynced(last, reason)]
        waits.append(bench.wait_us)
        assert bench.fire() == [fetch(attempt + 1)]
        last += 2
    assert waits == [RETRY_US, 2 * RETRY_US, 4 * RETRY_US]


@pytest.mark.parametrize(("lived_us", "calm"), [(CALM_US - 1, False), (CALM_US, True)])
def test_a_book_that_has_lived_a_while_is_fetched_at_once(lived_us: int, *, calm: bool) -> None:
    bench = live(10, audit=False)
    bench.give(delta(12))
    bench.give(snapshot(2, 12))
    bench.clock.advance(lived_us)
    assert bench.give(delta(14)) == [desynced(12, "gap: expected 13, got 14"), *([fetch(3)] if calm else [])]


# bookTicker.


def test_a_ticker_behind_the_frame_verifies_the_book_once() -> None:
    bench = live(10)
    assert bench.give(ticker(10)) == [MATCHED, verified(10, "bookTicker")]
    assert bench.give(given := delta(11)) == [changed(given)]
    assert bench.give(ticker(11)) == [MATCHED]


def test_a_verified_book_says_at_which_id_it_was_compared() -> None:
    bench = live(10)
    bench.give(delta(11), delta(12, bids=[Level(99, 5)]))
    assert bench.give(ticker(11)) == [MATCHED, verified(11, "bookTicker")]


def test_a_ticker_ahead_of_the_frame_verifies_the_book_with_it() -> None:
    bench = live(10)
    assert bench.give(ticker(11)) == []
    assert bench.give(given := delta(11)) == [changed(given, verified=True), MATCHED, verified(11, "bookTicker")]
    bench.give(ticker(12))
    assert bench.give(given := delta(12)) == [changed(given, verified=True), MATCHED]


def test_a_ticker_that_came_before_the_snapshot_verifies_it() -> None:
    bench = Bench()
    bench.give(StreamRequested(), ticker(4), ticker(5), delta(5))
    assert bench.give(snapshot(1, 5)) == [synced(5), MATCHED, verified(5, "bookTicker")]


def test_a_ticker_of_an_id_that_the_book_never_has_says_nothing() -> None:
    bench = live(10)
    assert bench.give(ticker(12, Level(50, 1))) == []
    assert bench.give(given := delta(11, 14)) == [changed(given)]
    assert bench.give(ticker(13, Level(50, 1)), ticker(9, Level(50, 1))) == []


def test_a_ticker_that_differs_costs_a_snapshot() -> None:
    bench = live(10)
    bench.give(ticker(10))
    reason = "best bid at 11: 5 at 99 here, 2 at 99 on bookTicker"
    assert bench.give(given := delta(11, bids=[Level(99, 5)])) == [changed(given, bids=(Level(99, 5), Level(98, 1)))]
    assert bench.give(ticker(11)) == [desynced(11, reason, agreed=10, differed=11), fetch(2)]
    assert bench.give(snapshot(2, 11)) == [synced(11)]
    assert bench.give(ticker(11)) == [MATCHED, verified(11, "bookTicker")]


def test_a_book_that_differs_from_a_waiting_ticker_is_not_handed_out() -> None:
    bench = live(10)
    bench.give(ticker(11))
    reason = "best bid at 11: 5 at 99 here, 2 at 99 on bookTicker"
    assert bench.give(delta(11, bids=[Level(99, 5)])) == [desynced(11, reason, differed=11), fetch(2)]


def test_a_snapshot_that_differs_from_a_waiting_ticker_is_given_up() -> None:
    bench = Bench()
    bench.give(StreamRequested(), ticker(5, Level(99, 7)), delta(5))
    reason = "best bid at 5: 2 at 99 here, 7 at 99 on bookTicker"
    assert bench.give(snapshot(1, 5)) == [synced(5), desynced(5, reason, differed=5), fetch(2)]
    assert bench.give(snapshot(2, 5, bids=[Level(99, 7)])) == [synced(5, bids=(Level(99, 7),))]


def test_a_first_frame_whose_book_differs_from_a_waiting_ticker_is_kept() -> None:
    bench = Bench()
    bench.give(StreamRequested(), ticker(6, Level(99, 7)))
    bench.give(snapshot(1, 5))
    reason = "best bid at 6: 2 at 99 here, 7 at 99 on bookTicker"
    assert bench.give(delta(6)) == [synced(5), changed(delta(6)), desynced(6, reason, differed=6), fetch(2)]
    bids = (Level(99, 7),)
    assert bench.give(snapshot(2, 5, bids=bids)) == [synced(5, bids=bids), changed(delta(6), bids=bids)]


def test_tickers_of_one_run_are_no_word_on_the_next() -> None:
    bench = live(10)
    bench.give(delta(12))
    bench.give(snapshot(2, 12))
    assert bench.give(ticker(10, Level(50, 1))) == []


# A depth stream that is stuck.


def test_a_book_that_a_ticker_has_outrun_is_stuck() -> None:
    bench = live(10)
    assert bench.give(ticker(12)) == []
    bench.clock.advance(LAG_US - 1)
    assert bench.give(TimerFired(), ticker(15)) == []
    bench.clock.advance(1)
    assert bench.give(TimerFired()) == stuck(10, "the depth stream is stuck at 10, bookTicker is at 12")
    assert bench.give(StreamRequested(), snapshot(2, 16)) == [fetch(2)]
    assert bench.give(delta(11, 16)) == [synced(16)]


def test_a_stream_that_is_stuck_though_it_was_requested_again_costs_the_connection_but_not_every_time() -> None:
    bench = live(10)
    for attempt, abandon in ((2, False), (3, True)):
        bench.give(ticker(11))
        mute = bench.fire()[-1]
        assert isinstance(mute, StreamMute)
        assert mute.abandon is abandon
        assert bench.give(StreamRequested(), ticker(10)) == [fetch(attempt)]
        assert bench.give(snapshot(attempt, 10))[0] == synced(10)
    bench.give(ticker(11))
    assert not any(isinstance(output, StreamMute) for output in bench.fire())
    assert not bench.book.is_live(bench.clock.mono_us)


def test_a_new_connection_is_not_given_up_before_the_stream_was_requested_again_on_it() -> None:
    bench = live(10)
    for attempt in (2, 3):
        bench.give(ticker(11))
        mute = bench.fire()[-1]
        assert isinstance(mute, StreamMute)
        assert mute.abandon is False
        bench.give(StreamEnded("the connection is down"))
        assert bench.give(StreamRequested(), ticker(10))[-1] == fetch(attempt)
        assert bench.give(snapshot(attempt, 10))[0] == synced(10)


def test_tickers_that_the_stream_never_reaches_cost_one_snapshot() -> None:
    bench = live(10, audit=False)
    bench.give(ticker(1012), ticker(1013), ticker(1014))
    assert bench.fire() == stuck(10, "the depth stream is stuck at 10, bookTicker is at 1012")
    assert bench.give(StreamRequested(), ticker(10)) == [fetch(2)]
    assert bench.give(snapshot(2, 10))[0] == synced(10)
    for last in range(11, 40):
        bench.clock.advance(SECOND)
        assert bench.give(TimerFired(), given := delta(last)) == [changed(given)]
        assert MATCHED in bench.give(ticker(last))


def test_a_busy_ticker_does_not_hide_that_the_depth_stream_is_stuck() -> None:
    bench = live(10)
    for number in range(1, 20):
        bench.clock.advance(100 * MS)
        assert bench.give(*(ticker(10 + 20 * number + n) for n in range(20)), TimerFired()) == []
    bench.clock.advance(200 * MS)
    assert bench.give(TimerFired()) == stuck(10, "the depth stream is stuck at 10, bookTicker is at 30")


def test_a_depth_stream_that_lags_but_moves_is_not_stuck() -> None:
    bench = live(10, audit=False)
    for number in range(11, 200):
        bench.clock.advance(100 * MS)
        assert bench.give(*(ticker(200 * number + n) for n in range(200)), TimerFired()) == []
        given = delta(bench.book.last + 1, 200 * number + 5)
        outputs = bench.give(given)
        assert outputs[0] == changed(given, verified=MATCHED in outputs)


def test_the_time_before_the_book_was_live_does_not_count() -> None:
    bench = Bench()
    bench.give(StreamRequested(), delta(10), ticker(12), ticker(13), ticker(14))
    bench.clock.advance(2 * LAG_US)
    bench.give(snapshot(1, 10))
    assert bench.wait_us == LAG_US
    assert bench.fire() == stuck(10, "the depth stream is stuck at 10, bookTicker is at 12")


def trade(engine_us: int) -> Trade:
    return Trade(
        emitted_us=0,
        symbol=SYMBOL,
        engine_us=engine_us,
        price=D(100),
        quantity=D(1),
        buyer_order_id="1",
        seller_order_id="2",
        trade_id=1,
        buyer_is_maker=True,
    )


def test_a_trade_that_the_depth_stream_does_not_follow_shows_that_it_is_stuck() -> None:
    bench = live(10)
    later = ENGINE_US + 10 + SECOND
    assert bench.give(trade(later)) == []
    assert bench.wait_us == LAG_US
    reason = "the depth stream is stuck at 10: a later trade is not in it"
    assert bench.fire() == [desynced(10, reason), fetch(2)]


def test_a_trade_that_the_depth_stream_follows_is_forgotten() -> None:
    bench = live(10, audit=False)
    later = ENGINE_US + 10 + SECOND
    bench.give(trade(later), delta(11, engine_us=later))
    assert bench.fire() == []
    assert bench.sequencer.deadline is None


def test_trades_alone_do_not_have_a_right_book_fetched_again_and_again() -> None:
    bench = live(10, audit=False)
    later = ENGINE_US + 10 + SECOND
    bench.give(trade(later))
    bench.fire()
    assert bench.give(snapshot(2, 10)) == [synced(10)]
    for number in range(1, 29):
        bench.clock.advance(2 * SECOND)
        assert bench.give(trade(later + 2 * number * SECOND), TimerFired()) == []


# Checks against a snapshot.


def checking(last: int = 10) -> Bench:
    """A bench whose live book has just asked for a snapshot to be compared with."""
    bench = live(last)
    assert bench.wait_us == FIRST_AUDIT_US
    assert bench.fire() == [fetch(2, urgent=False)]
    assert bench.wait_us == ANSWER_US
    return bench


def test_a_check_that_finds_no_difference() -> None:
    bench = checking()
    assert bench.give(snapshot(2, 10)) == [verified(10, "snapshot")]
    assert bench.wait_us == AUDIT_US
    assert bench.give(given := delta(11)) == [changed(given)]
    assert bench.fire() == [fetch(3, urgent=False)]
    assert bench.give(snapshot(3, 11)) == [verified(11, "snapshot")]


def test_a_check_rolls_the_snapshot_forward() -> None:
    bench = checking()
    assert bench.give(given := delta(11, bids=[Level(97, 1)])) == [changed(given)]
    assert bench.give(given := delta(12, bids=[Level(97, 0)], asks=[Level(101, 8)])) == [
        changed(given, asks=(Level(101, 8), ASKS[1]))
    ]
    assert bench.give(snapshot(2, 11, bids=[Level(97, 1), *BIDS])) == [verified(12, "snapshot")]
    assert bench.give(given := delta(13)) == [changed(given, asks=(Level(101, 8), ASKS[1]))]
    assert bench.sequencer.book is bench.book


def test_a_check_gives_the_book_the_coverage_of_the_newer_snapshot() -> None:
    bench = live(10, limit=2)
    bench.give(delta(11, bids=[Level(97, 1), Level(100, 1)]))
    assert bench.book.bid_quantity(D(97)) is None
    bench.fire()
    assert bench.give(snapshot(2, 11, bids=[Level(97, 1), *BIDS, Level(100, 1)])) == [verified(11, "snapshot")]
    assert bench.book.bid_quantity(D(97)) == 1
    assert bench.book.is_live(bench.clock.mono_us)


def test_a_check_that_finds_a_difference() -> None:
    bench = checking()
    reason = "bid 98: 1 here, 7 there"
    assert bench.give(snapshot(2, 10, bids=[Level(98, 7), BIDS[1]])) == [desynced(10, reason, differed=10), fetch(3)]
    assert bench.status() == (False, 10, TOP, ASKS)
    assert bench.give(snapshot(3, 10, bids=[Level(98, 7), BIDS[1]])) == [synced(10, bids=(TOP[0], Level(98, 7)))]


def test_a_check_whose_snapshot_is_ahead_waits_for_the_book() -> None:
    bench = checking()
    assert bench.give(snapshot(2, 12)) == []
    assert bench.wait_us == AHEAD_US
    assert bench.give(given := delta(11)) == [changed(given)]
    assert bench.give(given := delta(12, 13)) == [changed(given), verified(13, "snapshot")]


def test_a_check_whose_snapshot_is_ahead_may_find_a_difference() -> None:
    bench = checking()
    bench.give(snapshot(2, 11, bids=[BIDS[1]]))
    assert bench.give(given := delta(11)) == [
        changed(given),
        desynced(11, "bid 98: 1 here, 0 there", differed=11),
        fetch(3),
    ]
    assert bench.give(snapshot(3, 10)) == [synced(10), changed(delta(11))]


def test_a_snapshot_that_the_stream_does_not_reach_tells_that_it_is_stuck() -> None:
    bench = checking()
    bench.give(snapshot(2, 12))
    assert bench.fire() == stuck(10, "the stream did not reach 12, where the snapshot is")


def test_a_check_whose_snapshot_is_too_old_is_asked_for_again_ever_more_slowly() -> None:
    bench = checking()
    waits = []
    for attempt in range(2, 7):
        assert bench.give(snapshot(attempt, 9)) == []
        waits.append(bench.wait_us)
        assert bench.fire() == [fetch(attempt + 1, urgent=False)]
    assert waits == [TOO_OLD_RETRY_US << n for n in range(5)]
    assert bench.give(snapshot(7, 9)) == [check_failed("the snapshot ends at 9, before the audit began")]
    bench.fire()
    assert bench.give(snapshot(8, 10)) == [verified(10, "snapshot")]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (SnapshotFailed(attempt=2, reason="503"), "503"),
        (snapshot(2, 10, bids=[Level(105, 1)]), "the snapshot is crossed"),
        (TimerFired(), "no answer in time"),
    ],
)
def test_a_check_that_could_not_be_made_is_reported_once_and_tried_again(answer: SequencerInput, reason: str) -> None:
    bench = checking()
    if isinstance(answer, TimerFired):
        bench.clock.advance_to(bench.sequencer.deadline)
    assert bench.sequencer.doubt(bench.clock.mono_us) is None
    assert bench.give(answer) == [check_failed(reason)]
    assert (bench.book.is_live(bench.clock.mono_us), bench.doubted, bench.wait_us) == (True, 1, 5 * SECOND)
    assert bench.sequencer.doubt(bench.clock.mono_us) == f"could not be checked: {reason}"
    assert bench.give(snapshot(2, 10)) == []
    assert bench.give(given := delta(11)) == [changed(given)]
    assert bench.fire() == [fetch(3, urgent=False)]
    assert bench.give(SnapshotFailed(attempt=3, reason="503")) == []
    assert (bench.doubted, bench.wait_us) == (2, 10 * SECOND)
    bench.fire()
    assert bench.give(snapshot(4, 11)) == [verified(11, "snapshot")]
    assert bench.sequencer.doubt(bench.clock.mono_us) is None


def test_a_book_that_cannot_be_checked_becomes_stale_when_its_claim_has_expired() -> None:
    bench = live(10)
    events: list[SequencerOutput] = []
    attempt = 1
    while bench.book.is_live(bench.clock.mono_us):
        for output in bench.fire():
            events.append(output)
            if isinstance(output, FetchSnapshot):
                attempt += 1
                events += bench.give(SnapshotFailed(attempt=attempt, reason="503"))
    lived_us = bench.clock.mono_us - FakeClock().mono_us
    assert lived_us == 2 * AUDIT_US - PATH_BOUND_US
    assert [event for event in events if not isinstance(event, FetchSnapshot)] == [
        check_failed("503"),
        stale(10, "nothing has confirmed it for 115 s"),
    ]
    assert bench.give(given := delta(11)) == [changed(given), BookConfirmed(stream=STREAM, symbol=SYMBOL, last=11)]
    assert bench.book.is_live(bench.clock.mono_us)


@pytest.mark.parametrize("proof", [delta(11), ticker(10), "audit"])
def test_one_proof_renews_a_claim_that_has_expired(proof: Depth | BookTicker | str) -> None:
    bench = live(10)
    bench.clock.advance(2 * AUDIT_US)
    outputs = bench.give(TimerFired())
    assert stale(10, "nothing has confirmed it for 120 s") in outputs
    assert not bench.book.is_live(bench.clock.mono_us)
    assert fetch(2, urgent=False) in outputs
    outputs = bench.give(snapshot(2, 10) if isinstance(proof, str) else proof)
    assert any(isinstance(output, BookConfirmed) for output in outputs)
    assert bench.book.is_live(bench.clock.mono_us)


def test_an_audit_that_agrees_is_as_old_as_its_request() -> None:
    bench = checking()
    sent_us = bench.clock.mono_us
    bench.clock.advance(14 * SECOND)
    bench.give(snapshot(2, 10))
    assert bench.book.confirmed_us == sent_us


def test_an_audit_that_the_exchange_refuses_ends_the_claim_at_once() -> None:
    bench = checking()
    refused = SnapshotFailed(attempt=2, reason="404", final=True)
    assert bench.give(refused) == [check_failed("404"), stale(10, "the exchange refuses to show it: 404")]
    assert bench.sequencer.doubt(bench.clock.mono_us) == "is stale: the exchange refuses to show it: 404"
    assert bench.give(given := delta(11)) == [changed(given), BookConfirmed(stream=STREAM, symbol=SYMBOL, last=11)]


def test_a_path_in_doubt_makes_the_book_stale_until_it_is_proved() -> None:
    path = PathClaim()
    path.proved_us, path.offset_us = 0, FakeClock().mono_us
    bench = Bench(audit=False, path=path)
    bench.give(StreamRequested(), delta(10), snapshot(1, 10))
    bench.clock.advance(PATH_BOUND_US)
    assert not bench.book.is_live(bench.clock.mono_us)
    assert bench.give(PathChanged("no data")) == [stale(10, "no data")]
    assert bench.give(given := delta(11)) == [changed(given)]
    path.proved_us = PATH_BOUND_US
    assert bench.give(PathChanged(None)) == [BookConfirmed(stream=STREAM, symbol=SYMBOL, last=11)]


def test_a_book_that_begins_while_the_path_is_in_doubt_is_stale_at_once() -> None:
    bench = Bench(audit=False, path=PathClaim())
    bench.give(PathChanged("data are 8 s late"), StreamRequested(), delta(10))
    assert bench.give(snapshot(1, 10)) == [synced(10), stale(10, "data are 8 s late")]


def test_the_book_of_a_closed_market_wants_nothing() -> None:
    bench = live(10)
    assert bench.give(StreamSuspended()) == [desynced(10, "the market is closed")]
    assert (bench.sequencer.deadline, bench.sequencer.doubt(bench.clock.mono_us)) == (None, None)
    assert not bench.book.is_live(bench.clock.mono_us)
    assert bench.give(delta(11), snapshot(1, 11), ticker(11), Verify(STREAM), TimerFired()) == []
    assert bench.doubted == 1, "a frame of a closed market may mean that it has opened"
    assert bench.give(StreamRequested()) == [fetch(2)]


@pytest.mark.parametrize(("given", "last"), [(delta(11, 20_000_000), 10), (delta(20_000_000), 10), (delta(11, 2**62), 10)])
def test_a_frame_that_moves_by_more_ids_than_any_is_not_applied(given: Depth, last: int) -> None:
    bench = live(10)
    assert bench.give(given)[-1] == fetch(2)
    assert bench.status() == (False, last, TOP, ASKS)
    assert bench.give(snapshot(2, 10)) == [synced(10)]


def test_a_snapshot_that_moves_by_more_ids_than_any_needs_another_one_that_says_the_same() -> None:
    bench = live(10)
    far = 50_000_000
    bench.give(delta(far))
    reason = f"the snapshot ends at {far}, far from 10: it is doubted until another one shows the same"
    assert bench.give(snapshot(2, far)) == [unavailable(reason, SECOND)]
    assert bench.fire() == [fetch(3)]
    assert bench.give(snapshot(3, far + 5)) == []
    assert bench.give(delta(far + 1, far + 5)) == [synced(far + 5)]


def test_a_check_whose_levels_are_used_up_on_the_way_proves_nothing() -> None:
    bench = checking()
    bench.give(delta(11, bids=[Level(99, 0)]))
    assert bench.give(snapshot(2, 10, bids=BIDS[1:], limit=1)) == []
    assert bench.status() == (True, 11, TOP[1:], ASKS)
    assert bench.wait_us == TOO_OLD_RETRY_US


def test_a_check_that_takes_too_many_deltas_proves_nothing() -> None:
    bench = checking()
    for last in range(11, 11 + SnapshotCheck.DELTAS_KEPT):
        bench.give(delta(last))
    assert bench.wait_us == ANSWER_US
    last = 11 + SnapshotCheck.DELTAS_KEPT
    assert bench.give(delta(last))[1:] == [check_failed("more deltas than an audit keeps")]
    assert bench.give(snapshot(2, 10)) == []
    assert bench.book.is_live(bench.clock.mono_us)
    assert bench.fire() == [fetch(3, urgent=False)], "the next check begins from the start"
    assert bench.give(given := delta(last + 1)) == [changed(given)]
    assert bench.give(snapshot(3, last + 1)) == [verified(last + 1, "snapshot")]


def test_a_gap_ends_a_check() -> None:
    bench = checking()
    assert bench.give(delta(12)) == [desynced(10, "gap: expected 11, got 12"), fetch(3)]
    assert bench.give(snapshot(2, 12)) == []
    assert bench.give(snapshot(3, 12)) == [synced(12)]


def test_the_end_of_the_stream_ends_a_check() -> None:
    bench = checking()
    bench.give(snapshot(2, 12))
    assert bench.give(StreamEnded("the connection is down")) == [desynced(10, "the connection is down")]
    assert bench.sequencer.deadline is None


def test_an_audit_is_not_made_with_a_snapshot_that_is_older_than_its_id() -> None:
    """It is no proof against a right book: the book stays, and the audit is made again."""
    bench = live(10)
    bench.give(Verify(STREAM))
    reason = "the snapshot ends at 10, and is older than the book at that id"
    assert bench.give(snapshot(2, 10, bids=(), asks=(), engine_us=OF_OLD_US)) == [check_failed(reason)]
    assert bench.fire() == [fetch(3, urgent=False)]
    (verified,) = bench.give(snapshot(3, 10))
    assert isinstance(verified, BookVerified)


def test_without_audits_a_book_is_checked_only_when_told_to() -> None:
    bench = live(10, audit=False)
    assert bench.sequencer.deadline is None
    assert bench.give(Verify(STREAM)) == [fetch(2, urgent=False)]
    assert bench.give(snapshot(2, 10)) == [verified(10, "snapshot")]
    assert bench.sequencer.deadline is None


def test_one_check_at_a_time() -> None:
    bench = live(10)
    assert bench.give(Verify(STREAM), Verify(STREAM)) == [fetch(2, urgent=False)]
    assert bench.give(snapshot(2, 11)) == []
    assert bench.give(Verify(STREAM)) == []
    assert bench.wait_us == AHEAD_US
    assert bench.give(given := delta(11)) == [changed(given), verified(11, "snapshot")]
    assert bench.give(Verify(STREAM)) == [fetch(3, urgent=False)]


def test_lost_frames_have_the_book_checked_less_and_less_often() -> None:
    bench = live(10, audit=False)
    asked_us: list[int] = []
    attempt = 1
    for _ in range(3000):
        bench.clock.advance(100 * MS)
        if FetchSnapshot in map(type, bench.give(FrameLost())):
            attempt += 1
            asked_us.append(bench.clock.mono_us)
            assert bench.give(snapshot(attempt, 10)) == [verified(10, "snapshot")]
    waits = [after - before for before, after in itertools.pairwise(asked_us)]
    assert waits == [SUSPICION.delay_us(number) for number in range(1, len(asked_us))]
    bench.clock.advance(10 * 60 * SECOND)
    assert bench.give(FrameLost()) == [fetch(attempt + 1, urgent=False)]
    assert bench.give(snapshot(attempt + 1, 10)) == [verified(10, "snapshot")]
    bench.clock.advance(SUSPICION.delay_us(1))
    assert bench.give(FrameLost()) == [fetch(attempt + 2, urgent=False)], "after a calm it begins anew"


def test_a_book_that_is_not_live_is_not_checked() -> None:
    bench = Bench()
    bench.give(StreamRequested())
    assert bench.give(Verify(STREAM), FrameLost(), FrameLost()) == []
    bench.give(snapshot(1, 5))
    assert bench.give(Verify(STREAM), FrameLost(), FrameLost()) == []


def test_every_check_that_finds_no_difference_is_told() -> None:
    bench = live(10)
    bench.give(ticker(10))
    for attempt in (2, 3):
        bench.give(Verify(STREAM))
        assert bench.give(snapshot(attempt, 10)) == [verified(10, "snapshot")]

"""A book against a model of its market, over a connection that drops, repeats and delays, with snapshots that are late, stale or missing.

Every state that the market ever had is kept under its engine time, which no two updates share. So whatever the sequencer calls live
can be held against the very state that it claims to be, wherever the market has gone since. So can what a user has who applies the events
and never looks at the book.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import starmap
from typing import TypeAlias

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from backpack_proto.book.kept import BACKWARDS_US
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
from backpack_proto.book.sync import RETRY, SyncState
from backpack_proto.claims import AUDIT_US, AuditPace, Claims
from backpack_proto.inputs import TimerFired, Verify
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
from backpack_proto.streams.payloads import BookTicker, Depth
from backpack_proto.testing.laws import FakeClock, check_machine
from hypothesis_profiles import examples
from levels import by_price

STREAM, SYMBOL = "depth.SOL_USDC", "SOL_USDC"
MS, SECOND = 1_000, 1_000_000
ENGINE_US = 1_795_012_345_000_000
LEVELS = 3
IN_FORCE_US = SECOND
"""Time that the exchange takes to begin with a subscription at most."""
START_OVER_US = 3 * BACKWARDS_US
"""An exchange that starts its ids over is away for longer than a second."""
RECOVERY_US = RETRY.cap_us + AUDIT_US + 20 * SECOND
"""From the last fault to a right book: a backoff of half a minute, then an audit within a minute, and what it finds out."""
RECOVERY_FETCHES = 6
FETCHES_PER_MINUTE = 30

Change: TypeAlias = tuple[str, Decimal, Decimal]
"""Side, price, new quantity."""
Side: TypeAlias = dict[Decimal, Decimal]


class Market:
    """The true book, its update ids, and the frames that its changes become."""

    def __init__(self) -> None:
        self.last = 10_000
        self.engine_us = ENGINE_US
        five = Decimal(5)
        self.sides: dict[str, Side] = {
            "bid": {Decimal(price): five for price in (10, 11, 12, 13)},
            "ask": {Decimal(price): five for price in (15, 16, 17, 18)},
        }
        self.states: dict[int, tuple[int, Side, Side]] = {}
        self.epoch_us = self.engine_us
        """The first engine time since the ids started over."""
        self.started_over = False
        self.first = 0
        """Of the next frame, or 0 while it holds no event."""
        self.touched: dict[tuple[str, Decimal], None] = {}
        self._record()

    def _record(self) -> None:
        self.states[self.engine_us] = (self.last, dict(self.sides["bid"]), dict(self.sides["ask"]))

    @property
    def top(self) -> tuple[Level | None, Level | None]:
        bids, asks = self.sides["bid"], self.sides["ask"]
        return max(starmap(Level, bids.items()), default=None), min(starmap(Level, asks.items()), default=None)

    def happen(self, changes: Sequence[Change], mono_us: int) -> BookTicker | None:
        """One book event. An order takes what stands in its way, so the true book is never crossed."""
        before = self.top
        self.last += 1
        self.engine_us = max(self.engine_us + 1, ENGINE_US + mono_us)
        self.first = self.first or self.last
        for side, price, quantity in changes:
            other = "ask" if side == "bid" else "bid"
            if quantity:
                for at in [at for at in self.sides[other] if (at <= price if side == "bid" else at >= price)]:
                    del self.sides[other][at]
                    self.touched[other, at] = None
                self.sides[side][price] = quantity
            else:
                self.sides[side].pop(price, None)
            self.touched[side, price] = None
        self._record()
        if self.top == before:
            return None
        (bid, bid_quantity), (ask, ask_quantity) = (level or (None, None) for level in self.top)
        return BookTicker(
            emitted_us=self.engine_us,
            symbol=SYMBOL,
            engine_us=self.engine_us,
            update_id=self.last,
            bid_price=bid,
            bid_quantity=bid_quantity,
            ask_price=ask,
            ask_quantity=ask_quantity,
        )

    def flush(self) -> Depth | None:
        """The frame of all events since the last one."""
        if not self.first:
            return None
        levels: dict[str, list[Level]] = {"bid": [], "ask": []}
        for side, price in self.touched:
            levels[side].append(Level(price, self.sides[side].get(price, 0)))
        delta = Depth(
            emitted_us=self.engine_us,
            symbol=SYMBOL,
            engine_us=self.engine_us,
            first_update_id=self.first,
            last_update_id=self.last,
            bids=tuple(levels["bid"]),
            asks=tuple(levels["ask"]),
        )
        self.forget()
        return delta

    def forget(self) -> None:
        """What happened so far is in no frame."""
        self.first = 0
        self.touched = {}

    def start_over(self, mono_us: int) -> None:
        """Once: the ids of the first time are never reached again."""
        self.forget()
        self.started_over = True
        self.last -= 5_000
        self.engine_us = max(self.engine_us + 1, ENGINE_US + mono_us)
        self.epoch_us = self.engine_us
        self._record()

    def snapshot(self, attempt: int, stale: int, limit: int) -> SnapshotArrived:
        """What REST says, so many updates late."""
        moments = [engine_us for engine_us in self.states if engine_us >= self.epoch_us]
        engine_us = moments[max(0, len(moments) - 1 - stale)]
        last, bids, asks = self.states[engine_us]
        return SnapshotArrived(
            attempt=attempt,
            last_update_id=last,
            engine_us=engine_us,
            bids=[Level(*level) for level in sorted(bids.items())[-limit:]],
            asks=[Level(*level) for level in sorted(asks.items())[:limit]],
            limit=limit,
        )


PRICES = st.integers(8, 20).map(Decimal)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["bid", "ask"]), PRICES, st.sampled_from([0, 0, 1, 2, 5]).map(Decimal)), max_size=3
)


def _words(reason: str) -> str:
    return "".join(character for character in reason if not character.isdigit())[:24]


def _other(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    return tuple(Level(price, quantity + 3) for price, quantity in levels)


DELAYS_US = st.sampled_from([0, 1, 300 * MS, IN_FORCE_US])


class Mirror:
    """The book of a user who has `BookSynced` and the deltas of `BookChanged`, and nothing else."""

    def __init__(self, synced: BookSynced, limit: int) -> None:
        self.bids, self.asks = by_price(synced.bids), by_price(synced.asks)
        self.floor = synced.bids[-1][0] if len(synced.bids) >= limit else None
        self.ceiling = synced.asks[-1][0] if len(synced.asks) >= limit else None
        """Beyond a snapshot that is cut off there are levels that nobody told of."""

    def apply(self, delta: Depth) -> None:
        for side, levels in ((self.bids, delta.bids), (self.asks, delta.asks)):
            for price, quantity in levels:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)

    def known(self, bids: Side, asks: Side) -> tuple[Side, Side]:
        """What of a book lies where this one can know it."""
        return (
            {price: quantity for price, quantity in bids.items() if self.floor is None or price >= self.floor},
            {price: quantity for price, quantity in asks.items() if self.ceiling is None or price <= self.ceiling},
        )

    def shows(self, bids: Side, asks: Side) -> bool:
        """Return whether it is this book, as far as it can know it."""
        return self.known(self.bids, self.asks) == self.known(bids, asks)


class BookMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.sequencer = BookSequencer(STREAM, SYMBOL, levels=LEVELS, claims=Claims(pace=AuditPace()))
        self.book = self.sequencer.book
        self.market = Market()
        self.aggregated = False
        self.limit = 1000
        self.in_force_us: int | None = None
        """When the subscription takes effect, or None without a connection."""
        self.deltas: deque[Depth] = deque()
        """On their way."""
        self.tickers: deque[BookTicker] = deque()
        self.delivered: deque[Depth] = deque(maxlen=5)
        self.asked: deque[FetchSnapshot] = deque()
        """Without an answer so far."""
        self.wrong_us: int | None = None
        """Engine time of the newest wrong delta that the book may hold, or None when it can hold none."""
        self.mirror: Mirror | None = None
        self.mirror_wrong_us: int | None = None
        """As `wrong_us`, of the mirror. Only a new run makes it right, for a check says nothing of levels that the book has not."""
        self.kept: list[Depth] = []
        """What has come since the book was last live or requested, which may be told once it is."""
        self.snapshot_us = 0
        """Engine time of the newest snapshot that was delivered."""
        self.tickers_seen: set[int] = set()
        self.check_last: int | None = None
        """The update id of a snapshot that the live book is to be compared with."""
        self.run_last: int | None = None
        """How far the events of a live book have come, or None without one."""
        self.reached = 0
        """How far the book has come since its stream was requested."""
        self.run_verified = False
        self.desyncs: list[BookDesynced] = []
        self.mute: list[StreamMute] = []
        self.proved_in_force = False
        self.fetches_us: deque[int] = deque()
        self.excused_us: deque[int] = deque()
        """When something happened that may cost a snapshot at once: a subscription or a command."""

    @property
    def follows(self) -> bool:
        return self.sequencer.state is SyncState.FOLLOWING

    @property
    def live(self) -> bool:
        return self.book.is_live(self.clock.mono_us)

    # What the sequencer is given, and what it says.

    def give(self, fed: SequencerInput) -> None:
        match fed:
            case SnapshotArrived(attempt=attempt, last_update_id=last, engine_us=engine_us):
                self.snapshot_us = engine_us
                self.check_last = last if any(ask.attempt == attempt and not ask.urgent for ask in self.asked) else None
            case BookTicker(update_id=update_id):
                self.tickers_seen.add(update_id)
            case StreamRequested():
                self.reached = 0
                self.kept.clear()
            case Depth():
                self.kept.append(fed)
        outputs = self.sequencer.handle(fed, self.clock.now)
        joined = any(isinstance(output, BookSynced) for output in outputs)
        told = [output.last for output in outputs if isinstance(output, BookSynced | BookChanged)]
        # A snapshot may lie behind what was told before. What makes up for it is told along with it.
        assert not told or told[-1] >= self.reached or self.market.started_over
        matched = any(isinstance(output, TopMatched) for output in outputs)
        for output in outputs:
            if isinstance(output, BookChanged):
                assert output.delta in self.kept if joined else output.delta == fed
                assert output.verified == (not joined and matched)
                self.check_changed(output)
            elif isinstance(output, TopMatched):
                event("top matched")
                assert (fed.update_id if isinstance(fed, BookTicker) else self.run_last) in self.tickers_seen
            else:
                self.check(output)
        self.send_requests(output for output in outputs if isinstance(output, FetchSnapshot))
        if self.follows:
            self.kept.clear()
        if self.mute:
            self.mute.clear()
            self.excused_us.append(self.clock.mono_us)
            self.give(StreamRequested())

    def check(self, output: SequencerOutput) -> None:
        match output:
            case FetchSnapshot(urgent=urgent):
                assert urgent == (not self.follows)
                self.asked.append(output)
                self.fetches_us.append(self.clock.mono_us)
            case BookUnavailable(retry_us=retry_us, reason=reason):
                event(f"unavailable: {_words(reason)}")
                assert not self.live
                assert not retry_us or self.sequencer.deadline == self.clock.mono_us + retry_us
            case BookDesynced(last=last, diverged=diverged, reason=reason):
                event(f"desynced: {_words(reason)}")
                assert self.run_last is not None
                assert last >= self.run_last
                assert not diverged or self.wrong_us is not None, "a right book was called wrong"
                assert "overlap" not in reason
                assert "went back" not in reason or self.market.started_over
                self.run_last, self.run_verified, self.mirror = None, False, None
                self.desyncs.append(output)
            case BookSynced():
                self.check_synced(output)
            case BookVerified():
                self.check_verified(output)
            case BookStale():
                event("stale by its age")
                assert not self.live
                assert self.follows
            case BookConfirmed():
                assert self.live
            case BookCheckFailed():
                assert self.follows
            case MarketDoubted():
                assert not self.follows or self.sequencer.doubt(self.clock.mono_us) is not None
            case StreamMute(abandon=abandon):
                event(f"mute: {abandon}")
                self.mute.append(output)
            case _:
                raise AssertionError(output)

    def send_requests(self, asked: Iterable[FetchSnapshot]) -> None:
        """Requests leave at once: the time for their answers runs from here on."""
        for ask in asked:
            assert self.sequencer.handle(SnapshotRequested(ask.attempt), self.clock.now) == []

    def check_verified(self, output: BookVerified) -> None:
        """There was something to compare with."""
        event(f"verified against {output.against}")
        assert self.run_last is not None
        if output.against == "snapshot":
            assert output.last == self.run_last
            assert self.check_last is not None
            assert output.last >= self.check_last
            self.check_last = None
            self.heal()
        else:
            assert output.last <= self.run_last
            assert output.last in self.tickers_seen
            assert not self.run_verified
        self.run_verified = True

    def heal(self) -> None:
        """What began with a snapshot of that time or later holds nothing of the wrong delta."""
        if self.wrong_us is not None and self.snapshot_us >= self.wrong_us:
            self.wrong_us = None

    def check_synced(self, output: BookSynced) -> None:
        """It is the snapshot, all of it, and a snapshot is never wrong here."""
        assert self.run_last is None
        self.run_last, self.check_last = output.last, None
        self.mirror = Mirror(output, self.limit)
        self.heal()
        if self.mirror_wrong_us is not None and output.engine_us >= self.mirror_wrong_us:
            self.mirror_wrong_us = None
        last, bids, asks = self.market.states[output.engine_us]
        assert output.last == last
        assert output.bids == tuple(sorted(bids.items(), reverse=True)[: self.limit])
        assert output.asks == tuple(sorted(asks.items())[: self.limit])

    def check_changed(self, output: BookChanged) -> None:
        """It follows what was told before, and whoever applies it has the true book, as the one who only looks at the best levels."""
        assert self.run_last is not None
        assert self.mirror is not None
        assert output.first == self.run_last + 1
        assert output.first <= output.last == output.delta.last_update_id
        self.run_last = output.last
        self.mirror.apply(output.delta)
        if self.mirror_wrong_us is None:
            _, bids, asks = self.market.states[output.engine_us]
            assert self.mirror.shows(bids, asks)
        assert len(output.bids) <= LEVELS
        assert len(output.asks) <= LEVELS
        assert not (output.bids and output.asks) or output.bids[0][0] < output.asks[0][0]
        if self.wrong_us is None:
            last, bids, asks = self.market.states[output.engine_us]
            assert last == output.last
            assert output.bids == tuple(sorted(bids.items(), reverse=True)[: len(output.bids)])
            assert output.asks == tuple(sorted(asks.items())[: len(output.asks)])

    # The market and its frames.

    @initialize(aggregated=st.booleans(), limit=st.sampled_from([2, 4, 6, 1000]), live=st.booleans(), delay_us=DELAYS_US)
    def begin(self, *, aggregated: bool, limit: int, live: bool, delay_us: int) -> None:
        self.aggregated, self.limit = aggregated, limit
        self.subscribe(delay_us)
        if live:
            self.wait(IN_FORCE_US)
            self.prove_in_force()
            self.recover([], busy=True, tickers_first=False)

    @property
    def in_force(self) -> bool:
        return self.in_force_us is not None and self.in_force_us <= self.clock.mono_us

    @rule(
        events=st.lists(CHANGES, min_size=1, max_size=4),
        then=st.sampled_from(["nothing", "deltas", "deltas, tickers", "tickers, deltas", "deltas but one", "wrong deltas"]),
        at=st.integers(0, 3),
    )
    def trade(self, events: list[list[Change]], then: str, at: int) -> None:
        """Some book events, and what becomes of their frames at once."""
        for changes in events:
            ticker = self.market.happen(changes, self.clock.mono_us)
            if not self.in_force:
                self.market.forget()
                continue
            if ticker is not None:
                self.tickers.append(ticker)
            if not self.aggregated:
                self.flush()
        if then == "nothing":
            return
        self.flush()
        if then == "deltas but one" and self.deltas:
            del self.deltas[at % len(self.deltas)]
        if then == "tickers, deltas":
            self.deliver_tickers(len(self.tickers))
        self.deliver_deltas(len(self.deltas), wrong=at if then == "wrong deltas" else None)
        if then == "deltas, tickers":
            self.deliver_tickers(len(self.tickers))

    def flush(self) -> None:
        delta = self.market.flush()
        if delta is not None:
            self.deltas.append(delta)

    @rule(count=st.integers(1, 5), wrong=st.none() | st.integers(0, 4))
    def deliver_deltas(self, count: int, wrong: int | None) -> None:
        """One of them may say another quantity than the market."""
        for number in range(min(count, len(self.deltas))):
            delta = self.deltas.popleft()
            if number == wrong and (delta.bids or delta.asks):
                self.wrong_us = max(self.wrong_us or 0, delta.engine_us)
                self.mirror_wrong_us = max(self.mirror_wrong_us or 0, delta.engine_us)
                delta = replace(delta, bids=_other(delta.bids), asks=_other(delta.asks))
            else:
                self.delivered.append(delta)
            self.give(delta)

    @rule(count=st.integers(1, 5))
    def deliver_tickers(self, count: int) -> None:
        for _ in range(min(count, len(self.tickers))):
            self.give(self.tickers.popleft())

    @precondition(lambda self: not self.market.started_over)
    @rule()
    def start_over(self) -> None:
        self.wait(START_OVER_US)
        self.market.start_over(self.clock.mono_us)
        self.delivered.clear()

    # The connection.

    def subscribe(self, delay_us: int) -> None:
        self.in_force_us = self.clock.mono_us + delay_us
        self.market.forget()
        self.excused_us.append(self.clock.mono_us)
        self.proved_in_force = False
        self.give(StreamRequested())

    @precondition(lambda self: self.in_force and not self.proved_in_force)
    @rule()
    def prove_in_force(self) -> None:
        """A stream that was requested later speaks."""
        self.proved_in_force = True
        self.give(BookInForce())

    @rule(down_us=st.sampled_from([0, SECOND, 20 * SECOND]), delay_us=DELAYS_US, again=st.booleans())
    def lose_connection(self, down_us: int, delay_us: int, *, again: bool) -> None:
        """Or only ask for the same stream again, which changes nothing for the exchange."""
        if again:
            self.excused_us.append(self.clock.mono_us)
            self.proved_in_force = False
            self.give(StreamRequested())
            return
        self.in_force_us = None
        self.deltas.clear()
        self.tickers.clear()
        self.delivered.clear()
        self.market.forget()
        self.give(StreamEnded("the connection is down"))
        self.wait(down_us)
        self.subscribe(delay_us)

    # Faults.

    @precondition(lambda self: self.deltas)
    @rule(index=st.integers(0, 3))
    def drop_delta(self, index: int) -> None:
        del self.deltas[index % len(self.deltas)]

    @precondition(lambda self: self.tickers)
    @rule(index=st.integers(0, 3))
    def drop_ticker(self, index: int) -> None:
        del self.tickers[index % len(self.tickers)]

    @precondition(lambda self: self.delivered)
    @rule(index=st.integers(0, 4))
    def repeat_delta(self, index: int) -> None:
        self.give(self.delivered[index % len(self.delivered)])

    # Snapshots.

    @precondition(lambda self: self.asked)
    @rule(stale=st.integers(0, 4), newest=st.booleans())
    def answer(self, stale: int, *, newest: bool) -> None:
        """With the book as it is, which the frames on their way have yet to reach, or as it was."""
        index = len(self.asked) - 1 if newest else 0
        self.give(self.market.snapshot(self.asked[index].attempt, stale, self.limit))
        del self.asked[index]

    @precondition(lambda self: self.asked)
    @rule(how=st.sampled_from(["told", "silent", "crossed"]))
    def fail(self, how: str) -> None:
        attempt = self.asked[0].attempt
        if how == "told":
            self.give(SnapshotFailed(attempt=attempt, reason="503"))
        elif how == "crossed":
            crossed = self.market.snapshot(attempt, 0, self.limit)
            self.give(replace(crossed, asks=[*crossed.asks, Level(1, 1)], bids=[*crossed.bids, Level(2, 1)]))
        self.asked.popleft()

    @rule(how=st.sampled_from(["told", "crossed", "stale", "gaps"]))
    def have_a_bad_minute(self, how: str) -> None:
        """Every answer is wrong in the same way and comes at once, or every frame that follows a right one is lost."""
        end_us = self.clock.mono_us + 60 * SECOND
        while self.clock.mono_us < end_us:
            self.trade([[], []], "deltas but one" if how == "gaps" else "deltas", 0)
            while self.asked and len(self.fetches_us) <= 2 * FETCHES_PER_MINUTE:
                if how == "gaps":
                    self.answer(0, newest=False)
                elif how == "stale":
                    self.answer(9, newest=False)
                else:
                    self.fail(how)
            self.wait(SECOND)

    @rule()
    def verify(self) -> None:
        self.excused_us.append(self.clock.mono_us)
        self.give(Verify(STREAM))

    # Time.

    @rule(us=st.sampled_from([1, 100 * MS, IN_FORCE_US, 5 * SECOND, 20 * SECOND]) | st.integers(0, 70 * SECOND))
    def wait(self, us: int) -> None:
        end_us = self.clock.mono_us + us
        while self.sequencer.deadline is not None and self.sequencer.deadline <= end_us:
            self.fire()
        self.clock.advance_to(end_us)

    @precondition(lambda self: self.sequencer.deadline is not None)
    @rule()
    def fire(self) -> None:
        before = self.sequencer.deadline
        self.clock.advance_to(before)
        self.give(TimerFired())
        after = self.sequencer.deadline
        assert after is None or after > self.clock.mono_us

    @rule(changes=CHANGES, busy=st.booleans(), tickers_first=st.booleans())
    def recover(self, changes: list[Change], *, busy: bool, tickers_first: bool) -> None:
        """No more faults: the book is right again before long, and without asking much."""
        begin_us, fetches = self.clock.mono_us, len(self.fetches_us)
        while not self.is_right():
            assert self.clock.mono_us - begin_us <= RECOVERY_US
            if busy or self.market.started_over:
                # That the ids have started over is told by a frame, and by nothing else.
                self.trade([changes], "nothing", 0)
            self.flush()
            if tickers_first:
                self.deliver_tickers(len(self.tickers))
            self.deliver_deltas(len(self.deltas), wrong=None)
            self.deliver_tickers(len(self.tickers))
            while self.asked and len(self.fetches_us) - fetches <= RECOVERY_FETCHES:
                self.answer(0, newest=False)
            if not self.is_right():
                self.wait(SECOND)
        spent = len(self.fetches_us) - fetches
        assert spent <= RECOVERY_FETCHES
        event(f"recovery: {(self.clock.mono_us - begin_us) // (10 * SECOND)}0 s, {spent} snapshots")

    def is_right(self) -> bool:
        """The book is the true one, and nothing is on its way that could change it."""
        return self.live and self.book.engine_us == self.market.engine_us and self.shows(self.book.engine_us)

    def shows(self, engine_us: int) -> bool:
        """Return whether the book is the true one of that time, as far as it claims to know."""
        last, bids, asks = self.market.states[engine_us]
        floor, ceiling = self.book.coverage.lowest_bid, self.book.coverage.highest_ask
        known_bids = {price: quantity for price, quantity in bids.items() if floor is None or price >= floor}
        known_asks = {price: quantity for price, quantity in asks.items() if ceiling is None or price <= ceiling}
        return (self.book.last, by_price(self.book.bids()), by_price(self.book.asks())) == (last, known_bids, known_asks)

    # What always holds.

    @invariant()
    def a_live_book_is_the_true_one_of_its_id(self) -> None:
        assert not self.follows or self.wrong_us is not None or self.shows(self.book.engine_us)

    @invariant()
    def a_live_book_is_never_crossed_or_used_up(self) -> None:
        assert not self.follows or not (self.book.crossed or self.book.exhausted)

    @invariant()
    def the_events_tell_the_whole_story(self) -> None:
        assert self.follows == (self.run_last is not None)
        assert not self.follows or self.book.last == self.run_last
        assert self.follows or not self.live

    @invariant()
    def the_events_alone_make_the_book(self) -> None:
        if self.mirror is None:
            assert not self.follows
        elif self.mirror_wrong_us is None and self.wrong_us is None:
            bids, asks = by_price(self.book.bids()), by_price(self.book.asks())
            floor, ceiling = self.book.coverage.lowest_bid, self.book.coverage.highest_ask
            known_bids, known_asks = self.mirror.known(self.mirror.bids, self.mirror.asks)
            mine_bids, mine_asks = self.mirror.known(bids, asks)
            assert mine_bids == {price: quantity for price, quantity in known_bids.items() if floor is None or price >= floor}
            assert mine_asks == {
                price: quantity for price, quantity in known_asks.items() if ceiling is None or price <= ceiling
            }

    @invariant()
    def a_book_never_goes_back(self) -> None:
        if self.run_last is not None:
            assert self.run_last >= self.reached or self.market.started_over
            self.reached = self.run_last

    @invariant()
    def something_is_always_under_way(self) -> None:
        """With a connection there is a timer: no book is ever forgotten."""
        assert (self.sequencer.deadline is not None) == (self.in_force_us is not None)

    @invariant()
    def snapshots_are_asked_for_now_and_then(self) -> None:
        since_us = self.clock.mono_us - 60 * SECOND
        for moments in (self.fetches_us, self.excused_us):
            while moments and moments[0] <= since_us:
                moments.popleft()
        assert len(self.fetches_us) <= FETCHES_PER_MINUTE + 4 * len(self.excused_us)


TestBook = pytest.mark.gate(BookMachine.TestCase)
TestBook.settings = examples(300, steps=50)


@pytest.mark.soak
def test_book_for_long() -> None:
    run_state_machine_as_test(BookMachine, settings=examples(20_000, steps=100))


# A delta that says another quantity than the market, in a book that was right until then.


def wronged(side: str, price: Decimal, quantity: Decimal, *, aggregated: bool) -> BookMachine:
    """One event is on its way into a live book, and the next frame is wrong."""
    machine = BookMachine()
    machine.begin(aggregated=aggregated, limit=1000, live=True, delay_us=0)
    machine.trade([[(side, price, quantity)]], "nothing", 0)
    machine.flush()
    assert machine.live
    return machine


QUANTITIES = st.sampled_from([0, 1, 2, 9]).map(Decimal)


@given(
    level=st.sampled_from([("bid", Decimal(13)), ("bid", Decimal(14)), ("ask", Decimal(14)), ("ask", Decimal(15))]),
    quantity=QUANTITIES.filter(bool),
    aggregated=st.booleans(),
    ticker_first=st.booleans(),
)
def test_a_wrong_level_at_the_top_is_found_by_the_next_ticker(
    level: tuple[str, Decimal], quantity: Decimal, *, aggregated: bool, ticker_first: bool
) -> None:
    machine = wronged(*level, quantity, aggregated=aggregated)
    if ticker_first:
        machine.deliver_tickers(1)
    machine.deliver_deltas(1, wrong=0)
    machine.deliver_tickers(1)
    assert [(desync.diverged, desync.reason[:4]) for desync in machine.desyncs] == [(True, "best")]
    machine.recover([], busy=False, tickers_first=False)


@given(
    level=st.tuples(st.just("bid"), st.integers(8, 14).map(Decimal))
    | st.tuples(st.just("ask"), st.integers(14, 20).map(Decimal)),
    quantity=QUANTITIES,
    aggregated=st.booleans(),
    busy=st.booleans(),
)
def test_a_wrong_level_anywhere_is_found_by_a_snapshot(
    level: tuple[str, Decimal], quantity: Decimal, *, aggregated: bool, busy: bool
) -> None:
    machine = wronged(*level, quantity, aggregated=aggregated)
    machine.tickers.clear()
    machine.deliver_deltas(1, wrong=0)
    machine.recover([], busy=busy, tickers_first=False)
    assert [(desync.diverged, desync.reason[:4]) for desync in machine.desyncs] == [(True, f"{level[0]} ")]
    assert machine.live


@given(st.lists(CHANGES, max_size=30), st.booleans())
def test_a_right_book_is_never_called_wrong(events: list[list[Change]], aggregated: bool) -> None:  # noqa: FBT001 - drawn
    """With tickers and a check a second, and no fault."""
    machine = BookMachine()
    machine.begin(aggregated=aggregated, limit=1000, live=True, delay_us=0)
    for changes in events:
        machine.verify()
        machine.trade([changes], "deltas, tickers", 0)
        machine.answer(0, newest=True)
        machine.wait(SECOND)
    assert machine.desyncs == []
    assert machine.run_verified == bool(events)


# The machine laws, on inputs of no market.

LEVEL_LISTS = st.lists(st.builds(Level, PRICES, QUANTITIES), max_size=3).map(tuple)
IDS = st.integers(0, 12)
INPUTS: st.SearchStrategy[SequencerInput] = st.one_of(
    st.just(StreamRequested()),
    st.just(StreamRequested()),
    st.builds(StreamEnded, st.sampled_from(["the connection is down", "unsubscribed"])),
    st.just(Verify(STREAM)),
    st.builds(
        lambda first, more, bids, asks, late_us: Depth(
            emitted_us=0,
            symbol=SYMBOL,
            engine_us=ENGINE_US + first + more + late_us,
            first_update_id=first,
            last_update_id=first + more,
            bids=bids,
            asks=asks,
        ),
        IDS,
        st.sampled_from([0, 0, 0, 2]),
        LEVEL_LISTS,
        LEVEL_LISTS,
        st.sampled_from([0, 0, 0, 2 * SECOND]),
    ),
    st.builds(
        lambda update_id, price, quantity: BookTicker(
            emitted_us=0,
            symbol=SYMBOL,
            engine_us=0,
            update_id=update_id,
            bid_price=price,
            bid_quantity=None if price is None else quantity,
            ask_price=None,
            ask_quantity=None,
        ),
        IDS,
        st.none() | PRICES,
        QUANTITIES,
    ),
    st.builds(
        SnapshotArrived,
        attempt=st.integers(1, 6),
        last_update_id=IDS,
        engine_us=IDS.map(ENGINE_US.__add__),
        bids=LEVEL_LISTS,
        asks=LEVEL_LISTS | st.just(()),
        limit=st.sampled_from([2, 1000]),
    ),
    st.builds(SnapshotFailed, attempt=st.integers(1, 6), reason=st.just("503"), final=st.booleans()),
    st.just(BookInForce()),
    st.just(FrameLost()),
    st.just(StreamSuspended()),
    st.builds(PathChanged, st.sampled_from([None, "data are late"])),
)


@pytest.mark.hypothesis
@pytest.mark.parametrize("audit", [True, False])
def test_the_sequencer_keeps_the_machine_laws(*, audit: bool) -> None:
    check_machine(
        lambda: BookSequencer(STREAM, SYMBOL, claims=Claims(pace=AuditPace(audits=audit))),
        INPUTS,
        max_gap_us=20 * SECOND,
        max_examples=examples(200).max_examples,
    )

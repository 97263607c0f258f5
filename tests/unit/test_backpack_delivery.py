"""A bounded buffer whose losses follow the policy, and only touch market data."""

from __future__ import annotations

import sys
from decimal import Decimal

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.errors import LocalProtocolError, RemoteProtocolError
from backpack_proto.histogram import Histogram
from backpack_proto.outputs import BookChanged, BookDesynced, BookSynced, ConnectionDown, EventsDropped
from backpack_proto.streams.frames import Drop, FrameDropped
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth, Event, OpenInterest
from backpack_runtime.delivery import Delivery, SlowConsumer
from backpack_runtime.delivery.policy import BEHIND_US, BUFFER_BYTES, DOUBTED_US, KEPT_EVENTS, RECENT_US
from hypothesis_profiles import examples
from levels import by_price

SOL = "depth.SOL_USDC"
BTC = "depth.BTC_USDC"


def level(price: str, quantity: str) -> Level:
    return Level(price, quantity)


def change(last: int, *bids: Level, stream: str = SOL, first: int | None = None) -> BookChanged:
    symbol = stream.removeprefix("depth.")
    first = last if first is None else first
    delta = Depth(
        emitted_us=last, engine_us=last, symbol=symbol, first_update_id=first, last_update_id=last, bids=bids, asks=()
    )
    return BookChanged(
        stream=stream, symbol=symbol, first=first, last=last, engine_us=last, bids=bids, asks=(), verified=False, delta=delta
    )


def interest(number: int) -> OpenInterest:
    return OpenInterest(emitted_us=number, symbol="SOL_USDC_PERP", open_interest=Decimal(number))


DOWN = ConnectionDown(reason="reset", code=1006, retry_us=1)
DESYNCED = BookDesynced(stream=SOL, symbol="SOL_USDC", last=3, reason="gap", diverged=False, error=RemoteProtocolError("gap"))
SYNCED = BookSynced(stream=SOL, symbol="SOL_USDC", last=9, engine_us=9, bids=(), asks=())


class Reading:
    """What the buffer told the reader to do."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def pause(self) -> None:
        self.said.append("pause")

    def resume(self) -> None:
        self.said.append("resume")


class Clock:
    """The time that passes while events wait."""

    def __init__(self) -> None:
        self.us = 0

    def ns(self) -> int:
        return self.us * 1000


def make(
    policy: SlowConsumer, limit: int, *, limit_bytes: int = BUFFER_BYTES, clock: Clock | None = None
) -> tuple[Delivery, Reading]:
    reading = Reading()
    delivery = Delivery(
        policy, limit, limit_bytes=limit_bytes, pause=reading.pause, resume=reading.resume, clock_ns=(clock or Clock()).ns
    )
    return delivery, reading


def unusable(reason: Drop = Drop.NOT_JSON, *, stream: str | None = None, excerpt: str = "") -> FrameDropped:
    return FrameDropped(reason=reason, error=RemoteProtocolError("no"), stream=stream, excerpt=excerpt)


def drain(delivery: Delivery) -> list[Event]:
    events = []
    while (event := delivery.take()) is not None:
        events.append(event)
    return events


def test_block_loses_nothing_and_pauses_the_reader_until_half_is_fetched() -> None:
    delivery, reading = make(SlowConsumer.BLOCK, 4)
    events: list[Event] = [change(1), change(2), DOWN, change(3), change(4), change(5)]
    delivery.put(events[:3])
    assert reading.said == []
    delivery.put(events[3:])
    assert reading.said == ["pause"]
    delivery.put([])
    assert [delivery.take() for _ in range(3)] == events[:3]
    assert reading.said == ["pause"]
    assert delivery.take() == events[3]
    assert reading.said == ["pause", "resume"]
    assert drain(delivery) == events[4:]
    assert delivery.snapshot.pauses == 1
    assert delivery.snapshot.dropped == delivery.snapshot.conflated == 0


def test_conflate_merges_the_changes_of_one_book_in_place() -> None:
    delivery, _ = make(SlowConsumer.CONFLATE, 2)
    delivery.put([change(1, level("9", "1"), level("8", "1")), change(1, stream=BTC)])
    delivery.put([change(2, level("9", "0")), change(2, stream=BTC), change(3, level("7", "5"))])
    merged, other = drain(delivery)
    assert isinstance(merged, BookChanged)
    assert (merged.first, merged.last) == (1, 3)
    assert merged.bids == (level("7", "5"),), "the levels handed out are those after the last change"
    assert by_price(merged.delta.bids) == {Decimal(9): Decimal(0), Decimal(8): Decimal(1), Decimal(7): Decimal(5)}
    assert (merged.delta.first_update_id, merged.delta.last_update_id, merged.delta.engine_us) == (1, 3, 3)
    assert isinstance(other, BookChanged)
    assert (other.stream, other.first, other.last) == (BTC, 1, 2)
    assert delivery.snapshot.conflated == 3
    assert delivery.snapshot.dropped == 0


def test_conflate_never_merges_across_the_end_of_a_run() -> None:
    delivery, _ = make(SlowConsumer.CONFLATE, 1)
    delivery.put([change(1), change(2), DESYNCED, SYNCED, change(10), change(11)])
    spans = [(event.first, event.last) if isinstance(event, BookChanged) else type(event) for event in drain(delivery)]
    assert spans == [(1, 2), BookDesynced, BookSynced, (10, 11)]


def test_conflate_drops_the_oldest_of_the_rest_and_no_book() -> None:
    delivery, _ = make(SlowConsumer.CONFLATE, 3)
    delivery.put([change(1), interest(1), interest(2)])
    delivery.put([interest(3), DOWN, change(2)])
    merged, *rest = drain(delivery)
    assert isinstance(merged, BookChanged)
    assert (merged.first, merged.last) == (1, 2)
    assert rest == [EventsDropped(count=2, private=False), interest(3), DOWN]
    assert (delivery.snapshot.conflated, delivery.snapshot.dropped) == (1, 2)


def test_drop_oldest_keeps_the_newest_and_everything_that_is_no_market_data() -> None:
    delivery, reading = make(SlowConsumer.DROP_OLDEST, 3)
    delivery.put([DOWN, DESYNCED, change(1)])
    delivery.put([change(2), change(3), SYNCED])
    assert drain(delivery) == [DOWN, DESYNCED, SYNCED, EventsDropped(count=3, private=False)]
    assert delivery.snapshot.dropped == 3
    assert reading.said == []


def test_what_cannot_be_dropped_is_kept_beyond_the_limit() -> None:
    delivery, _ = make(SlowConsumer.DROP_OLDEST, 1)
    delivery.put([DOWN, DOWN, DESYNCED])
    assert drain(delivery) == [DOWN, DOWN, DESYNCED]


def test_changes_are_merged_as_soon_as_the_consumer_is_behind() -> None:
    clock = Clock()
    delivery, _ = make(SlowConsumer.CONFLATE, 1000, clock=clock)
    delivery.put([change(1), change(2)])
    clock.us = BEHIND_US - 1
    delivery.put([change(3), interest(1)])
    assert delivery.snapshot.waiting == 4, "nobody is behind yet"
    clock.us = BEHIND_US
    delivery.put([change(4), interest(2), change(5)])
    spans = [(event.first, event.last) for event in drain(delivery) if isinstance(event, BookChanged)]
    assert spans == [(1, 1), (2, 2), (3, 5)]
    assert delivery.snapshot.conflated == 2
    delivery.put([change(6), change(7)])
    assert delivery.snapshot.waiting == 2, "whoever has caught up gets every change"


def test_one_price_that_is_written_in_two_ways_is_one_level_of_the_merged_change() -> None:
    delivery, _ = make(SlowConsumer.CONFLATE, 1)
    delivery.put([change(1, level("9.0", "1")), change(2, level("9.00", "0")), change(3, level("9.0", "7"))])
    (merged,) = drain(delivery)
    assert isinstance(merged, BookChanged)
    assert merged.delta.bids == (level("9", "7"),)


def test_repeated_garbage_is_counted_and_not_queued() -> None:
    for policy in SlowConsumer:
        delivery, _ = make(policy, 10)
        delivery.put([unusable(), unusable(Drop.MALFORMED, stream=SOL)])
        delivery.put([unusable(excerpt="later")] * 5_999)
        assert delivery.snapshot.waiting == 2
        assert delivery.snapshot.repeated == 5_999
        first, second = drain(delivery)
        assert isinstance(first, FrameDropped)
        assert isinstance(second, FrameDropped)
        assert (first.count, first.excerpt, second.count) == (6_000, "", 1)
        delivery.put([unusable(), unusable()])
        (again,) = drain(delivery)
        assert again == msgspec.structs.replace(unusable(), count=2)


@pytest.mark.parametrize("policy", [SlowConsumer.CONFLATE, SlowConsumer.DROP_OLDEST])
def test_garbage_of_many_kinds_is_bounded_like_market_data(policy: SlowConsumer) -> None:
    delivery, _ = make(policy, 10)
    delivery.put([unusable(stream=str(number)) for number in range(6_000)])
    assert delivery.snapshot.waiting == 10
    told, *rest = drain(delivery)
    assert told == EventsDropped(count=5_990, private=False)
    assert [event.stream for event in rest if isinstance(event, FrameDropped)] == [
        str(number) for number in range(5_990, 6_000)
    ]


def test_a_run_of_losses_is_told_once_where_it_happened() -> None:
    delivery, _ = make(SlowConsumer.DROP_OLDEST, 16)
    delivery.put([DOWN, *map(interest, range(100))])
    told = drain(delivery)
    assert told == [DOWN, EventsDropped(count=85, private=False), *map(interest, range(85, 100))]


def test_losses_that_never_end_are_told_without_doubling_the_work() -> None:
    delivery, _ = make(SlowConsumer.DROP_OLDEST, 80)
    delivery.put(list(map(interest, range(80))))
    seen: list[Event] = []
    for number in range(80, 480):
        delivery.put([interest(2 * number), interest(2 * number + 1)])
        event = delivery.take()
        assert event is not None
        seen.append(event)
    seen += drain(delivery)
    told = [event for event in seen if isinstance(event, EventsDropped)]
    assert sum(event.count for event in told) == delivery.snapshot.dropped
    assert len(seen) - len(told) + delivery.snapshot.dropped == 880
    assert len(told) <= 400 // 10 + 2


def test_private_and_state_events_are_kept_up_to_their_own_bound() -> None:
    for policy in SlowConsumer:
        delivery, _ = make(policy, 5)
        delivery.put([DOWN] * KEPT_EVENTS)
        assert delivery.snapshot.dropped_private == 0
        assert delivery.troubles(alone=True) == []
        delivery.put([DESYNCED, DESYNCED])
        assert delivery.snapshot.dropped_private == 2
        (trouble,) = delivery.troubles(alone=True)
        assert trouble == "2 private or state events were dropped, for they were not fetched"
        assert delivery.troubles(alone=False) == [], "nobody ever asked for them, and others are there"
        first, *rest = drain(delivery)
        assert first == EventsDropped(count=2, private=True)
        assert rest[-2:] == [DESYNCED, DESYNCED]
        assert len([event for event in rest if event == DOWN]) == KEPT_EVENTS - 2


def test_a_loss_of_private_events_is_a_reason_for_a_minute() -> None:
    clock = Clock()
    delivery, _ = make(SlowConsumer.CONFLATE, 5, clock=clock)
    delivery.put([DOWN] * (KEPT_EVENTS + 1))
    clock.us = RECENT_US - 1
    assert delivery.troubles(alone=True)
    clock.us = RECENT_US
    assert delivery.troubles(alone=True) == []


def test_memory_is_bounded_as_the_number_is() -> None:
    many = tuple(level(str(price), "1") for price in range(1, 1_001))
    delivery, reading = make(SlowConsumer.DROP_OLDEST, 10_000, limit_bytes=1_000_000)
    delivery.put([change(number, *many) for number in range(1, 101)])
    assert delivery.snapshot.waiting_bytes <= 1_000_000
    assert 5 <= delivery.snapshot.waiting <= 10
    assert delivery.snapshot.dropped == 100 - delivery.snapshot.waiting
    drain(delivery)
    assert delivery.snapshot.waiting_bytes == 0
    blocking, reading = make(SlowConsumer.BLOCK, 10_000, limit_bytes=1_000_000)
    blocking.put([change(number, *many) for number in range(1, 11)])
    assert reading.said == ["pause"]


def test_what_merging_adds_is_weighed() -> None:
    delivery, _ = make(SlowConsumer.CONFLATE, 1)
    delivery.put([change(1, level("1", "1"))])
    before = delivery.snapshot.waiting_bytes
    delivery.put([change(number, level(str(number), "1")) for number in range(2, 1_002)])
    assert delivery.snapshot.waiting == 1
    assert delivery.snapshot.waiting_bytes > before + 100_000
    drain(delivery)
    assert delivery.snapshot.waiting_bytes == 0


def test_a_late_consumer_and_a_pause_are_reasons_against_health() -> None:
    clock = Clock()
    delivery, _ = make(SlowConsumer.CONFLATE, 100, clock=clock)
    delivery.put([DOWN, DOWN])
    assert delivery.note() is None
    clock.us = DOUBTED_US
    assert delivery.troubles(alone=True) == [], "nobody has asked for events yet, and books are current"
    assert delivery.note() == "no event has been asked for yet, 2 wait"
    delivery.take()
    assert delivery.note() is None, "from here on it is a reason"
    assert delivery.troubles(alone=True) == ["events are fetched 2.0 s late, 1 of them wait"]
    assert delivery.snapshot.behind_us == DOUBTED_US
    delivery.put([])
    clock.us += RECENT_US
    delivery.put([])
    assert delivery.troubles(alone=True) == [], "whoever asked for single events has stopped asking"
    blocking, _ = make(SlowConsumer.BLOCK, 2, clock=clock)
    blocking.put([DOWN, DOWN])
    clock.us += DOUBTED_US
    assert blocking.troubles(alone=False) == ["reading has been paused for 2.0 s, until 2 waiting events are fetched"]
    assert blocking.note() is None, "it is a reason already"


@pytest.mark.parametrize("policy", [SlowConsumer.CONFLATE, SlowConsumer.DROP_OLDEST])
def test_an_event_costs_the_same_however_many_wait(policy: SlowConsumer) -> None:
    """Steps of the interpreter are counted instead of time. Half of the events are kept, so that none of them is in the way."""
    steps: dict[int, int] = {}
    for limit in (100, 6_000):
        delivery, _ = make(policy, limit)
        delivery.put([DOWN if number % 2 else interest(number) for number in range(2 * limit)])
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        batch = [change(1), unusable(), interest(1), DOWN]
        sys.setprofile(count)
        delivery.put(batch)
        sys.setprofile(None)
        steps[limit] = counted
    assert steps[6_000] <= steps[100] + 8


@given(
    policy=st.sampled_from(SlowConsumer),
    limit=st.integers(1, 12),
    steps=st.lists(
        st.one_of(
            st.lists(st.sampled_from(["sol", "btc", "interest", "down", "desynced", "unusable"]), min_size=1, max_size=6),
            st.integers(1, 9),
            st.sampled_from([BEHIND_US // 2, BEHIND_US]).map(float),
        ),
        max_size=40,
    ),
)
@examples(300)
def test_what_waits_straight_is_told_from_what_waits_in_lanes_by_nothing(
    policy: SlowConsumer, limit: int, steps: list[list[str] | int | float]
) -> None:
    """The same events, fetches and time for two queues, one of which never lets a batch wait straight."""
    clock = Clock()
    (straight, reading), (laned, other) = make(policy, limit, clock=clock), make(policy, limit, clock=clock)
    laned._goes_straight = lambda *_, **__: False  # type: ignore[method-assign]  # the reference
    number = 0
    for step in steps:
        if isinstance(step, list):
            batch: list[Event] = []
            for name in step:
                number += 1
                batch.append(
                    {
                        "sol": change(number, level("1", str(number))),
                        "btc": change(number, level("2", str(number)), stream=BTC),
                        "interest": interest(number),
                        "down": DOWN,
                        "desynced": DESYNCED,
                        "unusable": unusable(stream=str(number % 2)),
                    }[name]
                )
            straight.put(batch)
            laned.put(batch)
        elif isinstance(step, int):
            assert [straight.take() for _ in range(step)] == [laned.take() for _ in range(step)]
        else:
            clock.us += int(step)
        # A batch weighs what it weighed until the last of it is fetched.
        assert msgspec.structs.replace(straight.snapshot, waiting_bytes=0) == msgspec.structs.replace(
            laned.snapshot, waiting_bytes=0
        )
        assert straight.troubles(alone=True) == laned.troubles(alone=True)
    assert drain(straight) == drain(laned)
    assert reading.said == other.said


@pytest.mark.parametrize(("sizes", "limit_bytes"), [((300, 200), BUFFER_BYTES), ((60, 70, 50), 150_000), ((9,) * 50, 300_000)])
def test_reading_goes_on_with_the_very_event_that_makes_it_half(sizes: tuple[int, ...], limit_bytes: int) -> None:
    """Though most events are fetched unseen, by number as by memory."""
    limit = 400
    unseen, reading = make(SlowConsumer.BLOCK, limit, limit_bytes=limit_bytes)
    looked, other = make(SlowConsumer.BLOCK, limit, limit_bytes=limit_bytes)
    taken = 0
    for size in sizes:
        for delivery in (unseen, looked):
            delivery.put([interest(number) for number in range(size)], 100 * size)
        for _ in range(8 if taken < 24 else 0):
            taken += next(unseen.unseen, None) is not None or unseen.take() is not None
            assert looked.take() is not None
    assert reading.said == other.said == ["pause"]
    looks = 0
    while looked.take() is not None:
        if next(unseen.unseen, None) is None:
            assert unseen.take() is not None
            looks += 1
        assert reading.said == other.said
    assert reading.said == ["pause", "resume"]
    assert looks < sum(sizes) // 3


def test_a_pause_holds_for_events_that_could_be_fetched_unseen_before_it() -> None:
    delivery, reading = make(SlowConsumer.BLOCK, 100)

    def fetch() -> None:
        if next(delivery.unseen, None) is None:
            assert delivery.take() is not None

    for _ in range(3):
        delivery.put([interest(number) for number in range(90)])
        for _ in range(90):
            fetch()
    delivery.put([interest(number) for number in range(90)])
    fetch()
    delivery.put([interest(number) for number in range(11)])
    assert reading.said == ["pause"]
    for _ in range(49):
        fetch()
    assert reading.said == ["pause"]
    fetch()
    assert reading.said == ["pause", "resume"]


@pytest.mark.parametrize("policy", SlowConsumer)
def test_an_event_of_state_among_data_that_wait_costs_the_others_nothing(policy: SlowConsumer) -> None:
    """A consumer that is never quite done goes on fetching them unseen."""
    delivery, _ = make(policy, 1_000)
    order = [interest(1), DOWN, interest(2), SYNCED, DESYNCED]
    delivery.put([interest(0)] * 300)
    delivery.put(order)
    delivery.put([interest(3)] * 300)
    fetched, looks = list[Event](), 0
    while (event := next(delivery.unseen, None) or delivery.take()) is not None:
        fetched.append(event)
    assert fetched == [*[interest(0)] * 300, *order, *[interest(3)] * 300]
    delivery.put([interest(0)] * 300)
    delivery.put(order)
    while delivery.snapshot.waiting:
        if next(delivery.unseen, None) is None:
            delivery.take()
            looks += 1
    assert looks < 30


def test_events_that_are_fetched_unseen_are_counted_with_the_next_that_is_looked_at() -> None:
    """A consumer that is quick is asked for the time once in 64 events, a slow one at each."""
    clock, counts = Clock(), list[int]()

    class Counting(Histogram):
        def record(self, duration_us: int, count: int = 1) -> None:
            assert duration_us > 0
            counts.append(count)

    delivery = Delivery(
        SlowConsumer.BLOCK, 1_000, pause=lambda: None, resume=lambda: None, latency=Counting(), clock_ns=clock.ns
    )
    delivery.put([msgspec.structs.replace(interest(number), received_us=1) for number in range(300)])

    def fetch(count: int) -> None:
        """As a loop over the events does it."""
        for _ in range(count):
            if next(delivery.unseen, None) is None:
                assert delivery.take() is not None

    fetch(127)
    assert counts == [1, 2, 4, 8, 16, 32, 64]
    fetch(64)
    assert counts[7:] == [64]
    clock.us += 1_000_000
    fetch(63)
    clock.us += 1_000_000
    fetch(1)
    clock.us += 1_000_000
    fetch(1)
    assert counts[8:] == [64, 1]
    delivery.put([msgspec.structs.replace(interest(number), received_us=1) for number in range(200, 300)])
    fetch(143)
    delivery.look_at_next()
    fetch(1)
    assert sum(counts) == 400, "none is counted twice, or never, where a batch ends"
    assert len(counts) < 40
    delivery.put([msgspec.structs.replace(interest(number), received_us=1) for number in range(400, 440)])
    fetch(3)
    delivery.put([unusable()])
    while delivery.take() is not None:
        pass
    assert sum(counts) == 440, "nor where those that wait go another way"


@pytest.mark.anyio
async def test_two_tasks_cannot_wait_for_one_event() -> None:
    delivery, _ = make(SlowConsumer.BLOCK, 9)
    got: list[Event | None] = []

    async def wait() -> None:
        await delivery.arrival()
        got.append(delivery.take())

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(LocalProtocolError, match="another task waits"):
                await delivery.arrival()
            delivery.finish()
    assert got == [None]


@pytest.mark.anyio
async def test_taking_waits_for_events_and_ends_with_the_last_one() -> None:
    delivery, _ = make(SlowConsumer.BLOCK, 9)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delivery.arrival)
        await anyio.wait_all_tasks_blocked()
        delivery.put([DOWN])
    assert delivery.take() == DOWN
    delivery.put([SYNCED])
    delivery.finish()
    assert delivery.take() == SYNCED
    assert delivery.take() is None
    assert delivery.finished

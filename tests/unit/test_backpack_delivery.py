"""A bounded buffer whose losses follow the policy, and only touch market data."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.outputs import BookChanged, BookDesynced, BookSynced, ConnectionDown
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth, Event, OpenInterest
from backpack_runtime.delivery import Delivery, SlowConsumer
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


def make(policy: SlowConsumer, limit: int) -> tuple[Delivery, Reading]:
    reading = Reading()
    return Delivery(policy, limit, pause=reading.pause, resume=reading.resume), reading


def drain(delivery: Delivery) -> list[Event]:
    events = []
    while (event := delivery.take_nowait()) is not None:
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
    assert [delivery.take_nowait() for _ in range(3)] == events[:3]
    assert reading.said == ["pause"]
    assert delivery.take_nowait() == events[3]
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
    assert rest == [interest(3), DOWN]
    assert (delivery.snapshot.conflated, delivery.snapshot.dropped) == (1, 2)


def test_drop_oldest_keeps_the_newest_and_everything_that_is_no_market_data() -> None:
    delivery, reading = make(SlowConsumer.DROP_OLDEST, 3)
    delivery.put([DOWN, DESYNCED, change(1)])
    delivery.put([change(2), change(3), SYNCED])
    assert drain(delivery) == [DOWN, DESYNCED, SYNCED]
    assert delivery.snapshot.dropped == 3
    assert reading.said == []


def test_what_cannot_be_dropped_is_kept_beyond_the_limit() -> None:
    delivery, _ = make(SlowConsumer.DROP_OLDEST, 1)
    delivery.put([DOWN, DOWN, DESYNCED])
    assert drain(delivery) == [DOWN, DOWN, DESYNCED]


@pytest.mark.anyio
async def test_taking_waits_for_events_and_ends_with_the_last_one() -> None:
    delivery, _ = make(SlowConsumer.BLOCK, 9)
    delivery.put([DOWN])
    assert await delivery.take() == DOWN
    delivery.put([SYNCED])
    delivery.finish()
    assert await delivery.take() == SYNCED
    assert await delivery.take() is None

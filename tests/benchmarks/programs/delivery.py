"""A queue of events: passing them on, merging them, dropping them. The variant says which.

The events are changes of a book and trades. A consumer that keeps up fetches each batch, one that is absent fetches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from time import process_time_ns

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.outputs import BookChanged
from backpack_proto.streams.frames import Drop, FrameDropped
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth, Event, Trade
from backpack_runtime.delivery import Delivery, SlowConsumer

from .metering import load_options, report

BATCH = 4
LIMIT = 10_000
SYMBOL = "SOL_USDC"


def change(number: int) -> BookChanged:
    """Return a change of four levels, as a busy market has them."""
    bids = tuple(Level(f"{90 + (number + step) % 40}.{step:02}", "1.5") for step in range(2))
    asks = tuple(Level(f"{140 + (number + step) % 40}.{step:02}", "0.25") for step in range(2))
    delta = Depth(
        emitted_us=number, engine_us=number, symbol=SYMBOL, first_update_id=number, last_update_id=number, bids=bids, asks=asks
    )
    return BookChanged(
        stream=f"depth.{SYMBOL}",
        symbol=SYMBOL,
        first=number,
        last=number,
        engine_us=number,
        bids=bids,
        asks=asks,
        verified=True,
        delta=delta,
    )


def trade(number: int) -> Trade:
    return Trade(
        emitted_us=number,
        symbol=SYMBOL,
        engine_us=number,
        trade_id=number,
        price=Decimal("99.5"),
        quantity=Decimal(1),
        buyer_is_maker=False,
    )


def unusable(number: int) -> FrameDropped:
    return FrameDropped(reason=Drop.MALFORMED, error=RemoteProtocolError("no"), stream=str(number))


def queue(policy: SlowConsumer, *, full: bool) -> Delivery:
    """Return a queue, as it is or full of trades behind a change."""
    delivery = Delivery(policy, LIMIT, pause=lambda: None, resume=lambda: None)
    if full:
        delivery.put([change(0), *map(trade, range(LIMIT))])
    return delivery


def run(delivery: Delivery, events: Sequence[Event], *, absent: bool) -> int:
    """Put events in small batches. Return how many were fetched or, where the consumer is absent, put."""
    count = 0
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        delivery.put(batch)
        if absent:
            count += len(batch)
        else:
            while delivery.take() is not None:
                count += 1
    return count


VARIANTS: dict[str, tuple[Callable[[int], Event], SlowConsumer, bool]] = {
    "passing changes": (change, SlowConsumer.CONFLATE, False),
    "merging changes": (change, SlowConsumer.CONFLATE, True),
    "passing trades": (trade, SlowConsumer.CONFLATE, False),
    "dropping trades": (trade, SlowConsumer.CONFLATE, True),
    "dropping garbage of many kinds": (unusable, SlowConsumer.DROP_OLDEST, True),
}


def main() -> None:
    options = load_options()
    make, policy, absent = VARIANTS[options.variant]
    events = [make(number) for number in range(1, options.frames + 1)]
    delivery = queue(policy, full=absent)
    began = process_time_ns()
    count = run(delivery, events, absent=absent)
    spent = process_time_ns() - began
    report(done=True, events=count, us_a_frame=spent / 1000 / options.frames)


if __name__ == "__main__":
    main()

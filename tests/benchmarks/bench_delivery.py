"""What a queue of events costs a frame: passing it on, merging it, dropping it.

    python tests/benchmarks/bench_delivery.py [events]

The events are changes of a book and trades, a consumer that keeps up fetches each batch, one that is absent fetches nothing. All cases
alternate in every round; what is printed is the median of the rounds, and the median of the ratios to passing inside the rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from statistics import median
from time import process_time_ns

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.outputs import BookChanged
from backpack_proto.streams.frames import Drop, FrameDropped
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth, Event, Trade
from backpack_runtime.delivery import Delivery, SlowConsumer

ROUNDS = 7
BATCH = 4
LIMIT = 10_000
SYMBOL = "SOL_USDC"


def change(number: int) -> BookChanged:
    """A change of four levels, as a busy market has them."""
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


def run(events: Sequence[Event], policy: SlowConsumer, *, fetch: bool, full: bool) -> Callable[[], None]:
    """Put events in small batches; `full` fills the queue before."""

    def once() -> None:
        delivery = Delivery(policy, LIMIT, pause=lambda: None, resume=lambda: None)
        if full:
            delivery.put([events[0], *map(trade, range(LIMIT))])
        for start in range(0, len(events), BATCH):
            delivery.put(events[start : start + BATCH])
            while fetch and delivery.take() is not None:
                pass

    return once


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    changes = [change(number) for number in range(1, count + 1)]
    trades = [trade(number) for number in range(count)]
    garbage = [unusable(number) for number in range(count)]
    cases: dict[str, Callable[[], None]] = {
        "passing changes": run(changes, SlowConsumer.CONFLATE, fetch=True, full=False),
        "merging changes": run(changes, SlowConsumer.CONFLATE, fetch=False, full=True),
        "passing trades": run(trades, SlowConsumer.CONFLATE, fetch=True, full=False),
        "dropping trades": run(trades, SlowConsumer.CONFLATE, fetch=False, full=True),
        "dropping garbage of many kinds": run(garbage, SlowConsumer.DROP_OLDEST, fetch=False, full=True),
    }
    timings: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(ROUNDS):
        for name in sorted(cases, key=lambda name: (list(cases).index(name) + number) % len(cases)):
            began = process_time_ns()
            cases[name]()
            timings[name].append((process_time_ns() - began) / 1000 / count)
    print(f"{count} events in batches of {BATCH}, a queue of {LIMIT}, {ROUNDS} rounds, CPU time")
    for name, spent in timings.items():
        ratio = median(one / other for one, other in zip(spent, timings["passing changes"], strict=True))
        print(f"{name:32} {median(spent):8.2f} us an event   {ratio:6.1f} x passing changes")


if __name__ == "__main__":
    main()

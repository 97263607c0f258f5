"""Two laws over random sequences of commands, with any queue and any fault.

Health is well after any subscribe and unsubscribe pair once things are calm. A cancel leaves within 100 ms, unless the exchange has asked
for a pause, or more cancels wait than the budget holds.
"""

from __future__ import annotations

from random import Random

import pytest

from backpack_proto.inputs import Call, Subscribe, Unsubscribe
from backpack_proto.streams.names import streams_for
from tests.simulation import opinion
from tests.simulation.faults import FAULTS
from tests.simulation.network import Pending
from tests.simulation.schedule import Episode, Plan
from tests.simulation.world import World

SECOND = 1_000_000
CHANNELS = ("book", "book.200ms", "trades", "ticker", "book_ticker", "mark_price", "candles.1m")
SYMBOLS = ("SOL_USDC_PERP", "BTC_USDC_PERP", "S1_USDC")
BOOKS = {"S1_USDC": 0.05}
CALM_FAULTS = tuple(kind for kind in FAULTS if kind not in {"abandoned_calls", "outage_orders", "second_client"})
CANCEL_US = 100_000
SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.gate) for seed in range(3, 40))]


def stormy(world: World) -> None:
    """Keep a world from being calm: what is said of a book that was unsubscribed is no false alarm."""
    world.lasts_us(10**12)


def strike(world: World, kind: str, seed: int, duration_ms: int) -> None:
    world._strike(Episode(kind=kind, start_ms=world.at_ms, duration_ms=duration_ms, seed=seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_health_is_well_after_any_pair_of_subscribe_and_unsubscribe(seed: int) -> None:
    rng = Random(seed)
    world = World(Plan(seed=seed, duration_ms=10**9, books=BOOKS, account=rng.random() < 0.5))
    stormy(world)
    world.run(10_000)
    wanted: list[tuple[str, ...]] = []
    for _ in range(rng.randrange(2, 8)):
        kind = rng.random()
        if kind < 0.4:
            streams = streams_for(rng.sample(CHANNELS, rng.randrange(1, 4)), rng.sample(SYMBOLS, rng.randrange(1, 3)))
            world.network.give(Subscribe.of(streams))
            wanted.append(tuple(stream.name for stream in streams))
        elif kind < 0.7 and wanted:
            names = wanted.pop(rng.randrange(len(wanted)))
            still = {name for others in wanted for name in others} | {world.stream_of("S1_USDC")}
            world.network.give(Unsubscribe(tuple(name for name in names if name not in still)))
        elif kind < 0.85:
            strike(world, rng.choice(CALM_FAULTS), rng.getrandbits(32), rng.randrange(1_000, 30_000))
        world.run(world.at_ms + rng.randrange(1, 20_000))
    world.run(world.at_ms + 200_000)
    keep = {world.stream_of("S1_USDC")}
    world.network.give(Unsubscribe(tuple(dict.fromkeys(name for names in wanted for name in names if name not in keep))))
    world.run(world.at_ms + 240_000)
    said = opinion.health(world.session, world.network.now)
    assert opinion.is_well(said), said.reasons
    assert opinion.is_live(world.session.book(world.stream_of("S1_USDC")), world.network.now)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cancel_leaves_within_100_ms(seed: int) -> None:
    rng = Random(seed)
    books = {f"S{number}_USDC": 0.01 for number in range(rng.choice((1, 5, 30)))}
    world = World(Plan(seed=seed, duration_ms=10**9, books=books))
    stormy(world)
    asked: list[int] = []
    waited: list[int] = []

    def note(pending: Pending) -> None:
        if pending.action.request.method == "DELETE":
            waited.append(world.network.now_us - asked.pop(0))

    seen = world.network.on_request

    def asks(pending: Pending) -> None:
        seen(pending)
        note(pending)

    # Only this test cancels.
    world.trader.act = lambda _: None  # type: ignore[assignment,method-assign]
    world.run(15_000)
    world.network.on_request = asks
    for number in range(rng.randrange(3, 15)):
        kind = rng.random()
        if kind < 0.3:
            world.network.reset()
        elif kind < 0.5:
            for read in range(rng.randrange(1, 60)):
                world.network.give(Call(call_id=100_000 + 100 * number + read, endpoint="balances"))
        elif kind < 0.6:
            strike(world, rng.choice(("snapshot_late", "snapshot_lost", "frames_dropped", "late_constant")), number, 5_000)
        asked.append(world.network.now_us)
        parameters = {"symbol": rng.choice(world.symbols), "orderId": str(number + 1)}
        world.network.give(Call(call_id=number + 1, endpoint="cancel_order", parameters=parameters))
        world.run(world.at_ms + rng.randrange(1, 2_000))
    world.run(world.at_ms + 10_000)
    assert asked == []
    assert max(waited) <= CANCEL_US

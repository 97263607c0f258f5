"""Two publishers of one market, of which one at a time is killed with -9: ten times here, fifty by `python -m tests.redundancy --kills 50`."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from backpack_proto.published import FeedGap
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth, Event, Trade
from nats_servers import NATS_SERVER
from published_feeds import Failed, Seen, check

ROOT = Path(__file__).parents[2]


@pytest.mark.gate
@pytest.mark.required
@pytest.mark.skipif(NATS_SERVER is None, reason="nats-server is not installed")
def test_publishers_killed_ten_times_lose_nothing_and_double_nothing() -> None:
    program = [sys.executable, "-m", "tests.redundancy", "--kills", "10", "--restart-every", "4"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert done.stdout.startswith("10 publishers killed and 2 restarts of the engine in ")


DEPTH = {
    number: Depth(
        emitted_us=number,
        symbol="SOL_USDC",
        engine_us=number,
        first_update_id=number,
        last_update_id=number,
        bids=(Level("99.10", f"{number}"),),
        asks=(),
    )
    for number in range(1, 7)
}
PRICE = Level("99.10", "1").price
TRADES = {
    number: Trade(
        emitted_us=number,
        symbol="SOL_USDC",
        engine_us=number,
        trade_id=number,
        price=PRICE,
        quantity=PRICE,
        buyer_is_maker=True,
    )
    for number in range(1, 7)
}
GAP = FeedGap(symbol="SOL_USDC", channel="depth", first=1, last=1, reason="lost")
ALL: list[Event] = [*DEPTH.values(), *TRADES.values()]


def without(kind: type[Event], number: int) -> list[Event]:
    return [event for event in ALL if not (isinstance(event, kind) and getattr(event, "engine_us", 0) == number)]


def test_what_is_whole_passes_the_check() -> None:
    check(Seen(ALL, Counter(["a", "b"])), DEPTH, TRADES)


@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (lambda: Seen(without(Depth, 3), Counter()), "depth: 2 is followed by 4"),
        (lambda: Seen(without(Depth, 6), Counter()), "depth: it ends at 5, before 6"),
        (lambda: Seen(without(Trade, 3), Counter()), "trade: 2 is followed by 4"),
        (lambda: Seen([DEPTH[1], *ALL], Counter()), "depth: 1 is followed by 1"),
        (lambda: Seen([*ALL, GAP], Counter()), "missing: "),
        (lambda: Seen(ALL, Counter(["a", "a"])), "more than once: {'a': 2}"),
        (lambda: Seen([replace(DEPTH[1], bids=()), *ALL[1:]], Counter()), "is not what the exchange sent"),
        (lambda: Seen([*ALL[:-1], replace(TRADES[6], quantity=PRICE * 2)], Counter()), "is not what the exchange sent"),
        (lambda: Seen([], Counter()), "nothing came"),
    ],
)
def test_a_planted_fault_fails_the_check(plant: Callable[[], Seen], complaint: str) -> None:
    with pytest.raises(Failed, match=complaint):
        check(plant(), DEPTH, TRADES)

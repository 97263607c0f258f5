"""Markets shared out among processes: who has a place keeps it, and the load is even."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.streams.payloads import Ticker
from backpack_runtime.publishing.shards import QUIET_WEIGHT, loads_of, share_out, weights_of
from hypothesis_profiles import examples

# Many quiet markets and a few busy ones, as exchanges have them.
LIKELY = {f"M{number:03}": QUIET_WEIGHT + 2_000_000 // number**2 for number in range(1, 161)}

symbols = st.text(alphabet="ABCDEFGH", min_size=1, max_size=3)
markets = st.dictionaries(symbols, st.integers(1, 1_000_000), min_size=1, max_size=40)
parts = st.integers(1, 9)


@given(markets, parts)
def test_every_market_has_one_place(weights: dict[str, int], parts: int) -> None:
    plan = share_out(weights, parts)
    assert plan.keys() == weights.keys()
    assert all(0 <= part < parts for part in plan.values())


@given(markets, parts, st.randoms(use_true_random=False))
def test_the_order_of_markets_decides_nothing(weights: dict[str, int], parts: int, random: object) -> None:
    shuffled = list(weights.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert share_out(dict(shuffled), parts) == share_out(weights, parts)


@given(markets, markets, parts)
def test_a_new_market_and_other_weights_move_nobody(weights: dict[str, int], more: dict[str, int], parts: int) -> None:
    before = share_out(weights, parts)
    after = share_out(weights | more, parts, before, parts)
    assert {symbol: after[symbol] for symbol in before} == before
    assert after.keys() == weights.keys() | more.keys()


@given(markets, parts, st.data())
def test_a_market_that_goes_moves_nobody_and_comes_back_to_its_place(
    weights: dict[str, int], parts: int, data: st.DataObject
) -> None:
    before = share_out(weights, parts)
    gone = data.draw(st.sampled_from(sorted(weights)))
    rest = {symbol: weight for symbol, weight in weights.items() if symbol != gone}
    assert share_out(rest, parts, before, parts) == before


@given(markets, parts)
@examples(200)
def test_no_part_is_heavier_than_the_mean_and_the_heaviest_market(weights: dict[str, int], parts: int) -> None:
    loads = loads_of(share_out(weights, parts), weights, parts)
    assert max(loads) <= sum(loads) / parts + max(weights.values())


@given(markets, parts, st.integers(1, 4))
@examples(200)
def test_more_parts_take_their_share_and_move_nobody_else(weights: dict[str, int], parts: int, more: int) -> None:
    before = share_out(weights, parts)
    after = share_out(weights, parts + more, before, parts)
    moved = {symbol for symbol in weights if after[symbol] != before[symbol]}
    assert all(after[symbol] >= parts for symbol in moved)
    loads = loads_of(after, weights, parts + more)
    assert all(load <= sum(loads) / (parts + more) for load in loads[parts:])


@given(markets, st.integers(2, 9))
def test_one_part_less_moves_only_what_it_had(weights: dict[str, int], parts: int) -> None:
    before = share_out(weights, parts)
    after = share_out(weights, parts - 1, before, parts)
    assert all(after[symbol] == part for symbol, part in before.items() if part < parts - 1)
    assert after.keys() == before.keys()


def test_likely_markets_are_shared_out_evenly() -> None:
    heaviest = max(LIKELY.values())
    for number in (2, 4, 8):
        loads = loads_of(share_out(LIKELY, number), LIKELY, number)
        assert max(loads) <= max(sum(loads) / number * 1.05, heaviest)


def test_one_part_more_moves_about_its_share() -> None:
    quiet = {f"M{number:03}": QUIET_WEIGHT + number for number in range(160)}
    before = share_out(quiet, 4)
    after = share_out(quiet, 5, before, 4)
    moved = sum(after[symbol] != before[symbol] for symbol in quiet)
    assert 160 / 5 - 4 <= moved <= 160 / 5


def test_a_market_weighs_by_its_trades() -> None:
    one = Decimal(1)
    ticker = Ticker(
        emitted_us=None,
        symbol="SOL_USDC",
        first_price=one,
        last_price=one,
        high=one,
        low=one,
        volume=one,
        quote_volume=one,
        trade_count=500,
    )
    assert weights_of(["SOL_USDC", "NEW_USDC"], [ticker]) == {"SOL_USDC": QUIET_WEIGHT + 500, "NEW_USDC": QUIET_WEIGHT}


def test_every_process_makes_the_same_plan() -> None:
    program = (
        "from backpack_runtime.publishing.shards import share_out\nprint(share_out({f'M{n}': n % 7 + 1 for n in range(60)}, 5))"
    )
    plans = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(plans) == 1

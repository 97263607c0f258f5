"""The deterministic simulation: seeds with every kind of fault, a sweep that must be complete, and the harness that runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import tests.simulation
import tests.simulation.world as simulated
from backpack_proto.inputs import Given, TextReceived
from backpack_proto.machine import Now
from backpack_proto.outputs import Output
from backpack_proto.session import Session
from backpack_runtime.kernels import KERNELS, kernels_in_use
from tests.simulation.faults import FAULTS, FRAME_FAULTS
from tests.simulation.run import KINDS, plan_for, processes, run_plan, shrink, sweep, sweep_seeds
from tests.simulation.schedule import CALM_MS, Episode, Plan
from tests.simulation.world import CALM_US, Violation, World

GATE_SEEDS = range(1, 29)
GATE_HOURS = 1.8
"""Of each seed."""
QUIET_PLAN = Plan(seed=6, duration_ms=150_000, books={"S1_USDC": 0.05, "SOL_USDC": 0.03})


class Forgetful(Session):
    """A session that loses a frame now and then, and does not mind: what a missing rule about gaps would do."""

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        (given,) = batch
        if isinstance(given, TextReceived) and b'"e":"depth"' in given.data and b'E":179000007' in given.data:
            given = TextReceived(given.data.replace(b'"a":[["', b'"a":[["9', 1))
        return super().handle_all([given], now, ends)


def test_without_faults_everything_is_well() -> None:
    report = run_plan(QUIET_PLAN)
    assert report.data_frames > 500
    assert report.faults == {}


def test_a_session_that_lies_is_found_out_and_its_schedule_is_shrunk_to_nothing() -> None:
    episodes = plan_for(2, 0.5).episodes[:6]
    plan = Plan(seed=6, duration_ms=150_000, books={"S1_USDC": 0.05}, account=False, episodes=episodes)
    with pytest.raises(Violation) as caught:
        run_plan(plan, Forgetful)
    smallest = shrink(plan, caught.value, Forgetful)
    assert smallest.episodes == ()
    assert smallest.duration_ms <= plan.duration_ms
    with pytest.raises(Violation) as again:
        run_plan(smallest, Forgetful)
    assert again.value.check == caught.value.check


@pytest.mark.gate
def test_native_kernels_change_nothing() -> None:
    """Everything that a session says in hours of faults is the same without them, to the last byte."""
    if kernels_in_use() == "pure Python":
        pytest.skip("this environment has no native kernels (docs/kernels.md)")
    plans = [plan_for(seed, 0.4) for seed in (31, 32, 33)]
    with processes() as native, processes(without=KERNELS) as pure:
        assert (native.submit(kernels_in_use).result(), pure.submit(_halted).result()) == ("native kernels", list(KERNELS))
        with_kernels, without = ([report.digest for report in pool.map(run_plan, plans)] for pool in (native, pure))
    assert with_kernels == without
    assert len(set(without)) == len(plans)


def _halted() -> list[str]:
    """The kernels that cannot be imported, for one that is looked for and not found leaves no module."""
    return [kernel for kernel in KERNELS if sys.modules.get(kernel, kernel) is None]


@pytest.mark.gate
@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_does_its_harm_and_is_taken_back(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks are off: whether the session bears it is the sweep's to say."""
    for table in ("BOOK_CHECKS", "SAMPLE_CHECKS", "ASK_CHECKS", "LEAVE_CHECKS", "_CHECKS_OF"):
        monkeypatch.setattr(simulated, table, {})
    episodes = tuple(
        Episode(kind=kind, start_ms=start_ms, duration_ms=min(KINDS[kind][1], 20_000), seed=start_ms)
        for start_ms in (20_000, 50_000, 80_000)
    )
    world = World(Plan(seed=8, duration_ms=270_000, books={"S1_USDC": 0.1}, episodes=episodes))
    for at_ms in range(26_000, 120_000, 10_000):
        # Who connects again asks for everything, so that the faults of REST have something to do.
        world.run(at_ms)
        if not world.network.frozen_until_us:
            world.network.reset()
    world.run()
    assert world.faults[kind], f"{kind} did nothing"
    conditions = world.network.conditions
    assert not any((conditions.refusing, conditions.mute, conditions.mute_births, conditions.mute_streams, conditions.drips))
    assert not any((conditions.delays, conditions.rest_delays, conditions.tampers, conditions.intercepts, conditions.answers))
    assert not world.network.paused
    assert set(world.exchange.symbols) == set(world.listings)


def test_a_plan_can_be_printed_and_read() -> None:
    plan = plan_for(5, 2.0)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("seed", range(1, 9))
def test_storms_alternate_with_calms_that_are_long_enough(seed: int) -> None:
    plan = plan_for(seed, 4.0)
    moments = sorted((episode.start_ms, episode.start_ms + episode.duration_ms) for episode in plan.episodes)
    storms = 1
    end_ms = moments[0][1]
    for start_ms, stop_ms in moments:
        if start_ms >= end_ms + CALM_MS:
            storms += 1
        else:
            assert start_ms <= end_ms + 200_000
        end_ms = max(end_ms, stop_ms)
    assert storms > 20
    assert end_ms + CALM_MS <= plan.duration_ms
    assert CALM_MS * 1_000 > CALM_US
    assert {episode.kind for episode in plan.episodes} < set(KINDS), "a seed draws a subset"


def test_a_seed_gives_the_same_events_under_any_hash_seed() -> None:
    """The program is run twice, as its user runs it, without what today's session does not keep yet."""
    faults = "frames_dropped,frames_repeated,second_client,snapshot_lost,http_429,clock_step,abandoned_calls"
    command = [sys.executable, "-m", "tests.simulation", "--hours", "0.15", "--seed", "4", "--books", "3", "--faults", faults]
    root = Path(tests.simulation.__path__[0]).parents[1]
    digests = set()
    for hash_seed in ("0", "4711"):
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        digests.add(done.stdout.split(" s, ")[-1].split("\n")[0] if done.returncode == 0 else done.stdout + done.stderr)
    assert len(digests) == 1
    assert "sha256" in digests.pop()


def test_short_runs_of_seeds() -> None:
    report, wrong = sweep_seeds([1, 2], 0.25)
    assert wrong == [], "\n".join(wrong)
    assert report.hours == 0.5


@pytest.mark.gate
def test_the_sweep_holds_and_leaves_nothing_out() -> None:
    """Every fault has done harm and every check was made, and the figures are those that the gate promises."""
    report, wrong = sweep_seeds(GATE_SEEDS, GATE_HOURS, most_runs=8)
    assert wrong == [], "\n".join(wrong)
    assert report.missing() == []
    assert report.hours >= 50
    assert report.busy_hours >= report.hours / 2
    assert report.episodes >= 5_000
    assert report.frame_faults >= 100_000
    assert report.data_frames >= 1_000_000


def test_the_gate_is_as_large_as_it_must_be() -> None:
    """Of the plans alone: hours, episodes, and hours with five busy books. Frames and frame faults are counted as they run."""
    plans = [plan_for(seed, GATE_HOURS) for seed in GATE_SEEDS]
    assert sum(plan.duration_ms for plan in plans) >= 50 * 3_600_000
    assert sum(len(plan.episodes) for plan in plans) >= 5_000
    assert {episode.kind for plan in plans for episode in plan.episodes} == set(FAULTS)
    busy = [plan for plan in plans if sum(speed >= 0.02 for speed in plan.books.values()) >= 5]
    assert len(busy) >= len(plans) / 2


def test_a_sweep_that_leaves_something_out_says_so() -> None:
    report, wrong = sweep([QUIET_PLAN])
    assert wrong == []
    missing = report.missing()
    assert f"fault {FRAME_FAULTS[0]} never fired" in missing
    assert "check 'pauses hold' was never made" in missing
    assert not any("best levels" in line for line in missing)

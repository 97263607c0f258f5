"""A session joined with the exchange: what each fault of a schedule does, and that a schedule is replayed to the same events."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from backpack_proto import Event, LocalProtocolError
from backpack_proto.testing import FAULTS, Episode, FaultName, Simulation
from backpack_proto.testing.faults import MOMENTARY, Weather

QUIET = {"BookChanged", "Trade"}


def run(*faults: Episode, seconds: int = 40) -> tuple[Simulation, Counter[str]]:
    simulation = Simulation.of_streams("depth.SOL_USDC", seed=1, speed=0.1, faults=faults)
    simulation.run(seconds * 1_000_000)
    return simulation, Counter(type(event).__name__ for event in simulation.events)


def episode(fault: FaultName) -> Episode:
    return Episode(fault=fault, start_ms=5_000, duration_ms=0 if fault in MOMENTARY else 8_000)


def test_a_simulation_without_faults_is_well() -> None:
    simulation, events = run(seconds=10)
    assert simulation.elapsed_us == 10_000_000
    assert simulation.session.book("SOL_USDC").is_live(simulation.now.mono_us)
    assert {name for name in events if name not in QUIET} == {"ConnectionUp", "StreamLive", "BookSynced"}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("drop", {"ConnectionDown": 1, "ConnectionUp": 2}),
        ("restart", {"ConnectionDown": 1, "ConnectionUp": 2}),
        ("mute", {"BookStale": 1}),
        ("late", {"BookStale": 1}),
        ("gap", {"BookStale": 1}),
        ("repeat", {"BookDesynced": 0, "BookSynced": 1}),
    ],
)
def test_each_fault_does_its_harm_and_is_over(fault: FaultName, told: dict[str, int]) -> None:
    simulation, events = run(episode(fault))
    assert {name: events[name] for name in told} == told
    assert simulation.session.book("SOL_USDC").is_live(simulation.now.mono_us)


@pytest.mark.parametrize(("fault", "told"), [("reorder", "BookDesynced"), ("tear", "FrameDropped")])
def test_frames_that_come_wrong_are_noticed(fault: FaultName, told: str) -> None:
    simulation, events = run(episode(fault))
    assert events[told] > 0
    assert simulation.session.book("SOL_USDC").is_live(simulation.now.mono_us)


def test_answers_of_rest_can_be_lost() -> None:
    simulation, events = run(Episode(fault="lost", duration_ms=4_000), seconds=3)
    assert events["BookUnavailable"] > 0
    assert not simulation.session.book("SOL_USDC").is_live(simulation.now.mono_us)
    assert simulation.run(120_000_000, until=lambda: simulation.session.book("SOL_USDC").is_live(simulation.now.mono_us))


def test_connections_can_be_refused() -> None:
    simulation, events = run(episode("refuse"))
    assert events["ConnectionDown"] > 1
    assert events["ConnectionUp"] == 2
    assert simulation.session.book("SOL_USDC").is_live(simulation.now.mono_us)


def test_the_document_names_every_fault() -> None:
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text().partition("## With faults")[2].partition("```")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(FAULTS)


def test_every_fault_has_a_test_here() -> None:
    tried = {"drop", "restart", "refuse", "mute", "late", "gap", "repeat", "reorder", "tear", "lost"}
    assert tried == set(FAULTS) == set(get_args(FaultName))


def test_the_same_schedule_gives_the_same_events() -> None:
    schedule = (episode("gap"), Episode(fault="drop", start_ms=9_000), episode("late"))

    def events() -> list[Event]:
        return run(*schedule, seconds=15)[0].events

    assert events() == events()


def test_what_comes_late_comes_in_order() -> None:
    simulation, _ = run(episode("late"))
    firsts = [(event.first, event.last) for event in simulation.events if type(event).__name__ == "BookChanged"]  # type: ignore[attr-defined]
    assert firsts == sorted(firsts)


def test_a_frame_fault_is_done_to_each_frame_of_its_number() -> None:
    weather = Weather([Episode(fault="gap", duration_ms=1, every=3)], start_us=0)
    assert weather.begin(0) == ["gap"]
    frames = [bytes([number]) for number in range(1, 8)]
    assert [arrived for frame in frames for arrived in weather.carry(frame, 0)] == [bytes([n]) for n in (1, 2, 4, 5, 7)]
    assert [arrived for frame in frames for arrived in weather.carry(frame, 1_000)] == frames


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"fault": "mute", "start_ms": -1}, "start_ms: from 0 to .*got -1"),
        ({"fault": "mute", "duration_ms": -1}, "duration_ms: from 0 to .*got -1"),
        ({"fault": "drop", "duration_ms": 5}, "duration_ms: 0, for 'drop' happens at one moment, got 5"),
        ({"fault": "gap", "every": 0}, "every: 1 or more, got 0"),
    ],
)
def test_an_episode_that_cannot_happen_is_refused(members: dict[str, object], complaint: str) -> None:
    with pytest.raises(LocalProtocolError, match=complaint):
        Episode(**members)  # type: ignore[arg-type]  # that is the point

from __future__ import annotations

from enum import Enum, auto
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import backpack_proto
from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import Close, Open, TimerFired
from backpack_proto.machine import Now, Timers, Transitions, due, earliest
from hypothesis_profiles import examples


class Light(Enum):
    OFF = auto()
    ON = auto()


LIGHT = Transitions([(Light.OFF, Open, Light.ON), (Light.ON, Close, Light.OFF), (Light.ON, TimerFired, Light.ON)])


def test_a_moment_is_on_two_clocks() -> None:
    now = Now(1, 2)
    assert (now.mono_us, now.unix_us) == (1, 2)


@given(st.lists(st.none() | st.integers()))
def test_the_earliest_of_some_deadlines(deadlines: list[int | None]) -> None:
    wanted = [deadline for deadline in deadlines if deadline is not None]
    assert earliest(*deadlines) == (min(wanted) if wanted else None)


def test_a_step_of_the_table_is_taken() -> None:
    LIGHT.check(Light.OFF, Open())
    assert LIGHT.step(Light.OFF, Open(), Light.ON) is Light.ON
    assert LIGHT.step(Light.ON, TimerFired(), Light.ON) is Light.ON


def test_a_refused_step_names_the_state_and_the_input() -> None:
    with pytest.raises(LocalProtocolError, match=r"^Close is impossible in Light\.OFF$"):
        LIGHT.check(Light.OFF, Close())
    with pytest.raises(LocalProtocolError, match=r"^int is impossible in Light\.ON$"):
        LIGHT.check(Light.ON, 7)


def test_a_step_that_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="no edge ON --Close--> ON"):
        LIGHT.step(Light.ON, Close(), Light.ON)
    with pytest.raises(AssertionError, match="no edge OFF --Close--> OFF"):
        LIGHT.step(Light.OFF, Close(), Light.OFF)


# The tables of the core.

TO_BE_MENDED = {
    "rest.exchange_clock": "its answers are tied to probes outside of its table",
}
"""Modules whose tables allow every input in every state, and say nothing by that."""


def tables() -> dict[str, list[Transitions[Any]]]:
    """Every table of the core, by module."""
    found: dict[str, list[Transitions[Any]]] = {}
    for module in walk_packages(backpack_proto.__path__, f"{backpack_proto.__name__}."):
        values = vars(import_module(module.name)).values()
        found[module.name.partition(".")[2]] = [value for value in values if isinstance(value, Transitions)]
    return {module: there for module, there in found.items() if there}


def allows_everything(table: Transitions[Any]) -> bool:
    """Return whether a table refuses no input in any state."""
    (states,) = {type(state) for state, _, _ in table.edges}
    assert issubclass(states, Enum)
    given = {kind for _, kind, _ in table.edges}
    return len({(state, kind) for state, kind, _ in table.edges}) == len(states) * len(given)


def test_a_table_that_allows_everything_is_seen() -> None:
    assert not allows_everything(LIGHT)
    assert allows_everything(Transitions([(light, kind, Light.ON) for light in Light for kind in (Open, Close)]))


def test_no_table_allows_every_input_in_every_state() -> None:
    found = tables()
    assert {"account.audit", "account.sync", "connection.connection"} <= found.keys()
    assert {module for module, there in found.items() if any(map(allows_everything, there))} <= TO_BE_MENDED.keys()


# Timers.


def test_no_timers_at_first() -> None:
    timers: Timers[str] = Timers()
    assert (timers.earliest, timers.due(10**18)) == (None, [])
    timers.set("a", None)
    assert (timers.earliest, timers.due(10**18)) == (None, [])


def test_what_is_due_comes_in_its_order_and_stays() -> None:
    timers: Timers[str] = Timers()
    for key, deadline in (("b", 20), ("a", 10), ("c", 30), ("d", 20)):
        timers.set(key, deadline)
    assert timers.earliest == 10
    assert timers.due(9) == []
    assert timers.due(10) == ["a"]
    assert timers.due(20) == ["a", "b", "d"]
    assert timers.due(20) == ["a", "b", "d"]
    assert timers.due(99) == ["a", "b", "d", "c"]


def test_a_deadline_moves_and_is_taken_off() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 10)
    timers.set("b", 20)
    timers.set("a", 30)
    assert (timers.earliest, timers.due(30)) == (20, ["b", "a"])
    timers.set("b", None)
    assert (timers.earliest, timers.due(30)) == (30, ["a"])
    timers.set("a", 10)
    assert (timers.earliest, timers.due(30)) == (10, ["a"])
    timers.set("a", None)
    assert (timers.earliest, timers.due(30)) == (None, [])


def test_a_deadline_is_due_from_its_moment_on() -> None:
    assert [due(deadline, Now(10, 0)) for deadline in (None, 11, 10, 9)] == [False, False, True, True]


def test_what_came_to_its_deadline_last_is_due_last() -> None:
    timers: Timers[str] = Timers()
    for key, deadline in (("c", 0), ("a", 10), ("b", 10), ("a", 20), ("a", 10)):
        timers.set(key, deadline)
    assert timers.due(10) == ["c", "b", "a"]


def test_keys_are_never_compared() -> None:
    timers: Timers[object] = Timers()
    one, other = object(), object()
    timers.set(one, 10)
    timers.set(other, 10)
    assert timers.due(10) == [one, other]


def test_a_deadline_that_goes_back_and_forth_costs_no_memory() -> None:
    timers: Timers[str] = Timers()
    timers.set("first", 1)
    for _ in range(10_000):
        timers.set("a", 10)
        timers.set("a", 20)
        assert len(timers._heap) <= 64 + 4 * 2
    assert timers.due(99) == ["first", "a"]


class TimersMachine(RuleBasedStateMachine):
    """Against a dictionary that is walked."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: Timers[str] = Timers()
        self.model: dict[str, tuple[int, int]] = {}
        self.number = 0

    @rule(key=st.sampled_from("abcd"), deadline=st.none() | st.integers(0, 4))
    def set(self, key: str, deadline: int | None) -> None:
        self.timers.set(key, deadline)
        self.number += 1
        if deadline is None:
            self.model.pop(key, None)
        elif self.model.get(key, (None, 0))[0] != deadline:
            self.model[key] = (deadline, self.number)

    @rule(count=st.integers(1, 200))
    def churn(self, count: int) -> None:
        for deadline in range(count):
            self.set("a", 100 + deadline % 3)

    @rule(mono_us=st.integers(0, 120))
    def due(self, mono_us: int) -> None:
        assert self.timers.due(mono_us) == self._due(mono_us)

    def _due(self, mono_us: int) -> list[str]:
        due = sorted((*value, key) for key, value in self.model.items() if value[0] <= mono_us)
        return [key for _, _, key in due]

    @rule(mono_us=st.integers(0, 120))
    def take(self, mono_us: int) -> None:
        assert self.timers.take(mono_us) == self._due(mono_us)
        self.model = {key: value for key, value in self.model.items() if value[0] > mono_us}

    @rule(keys=st.lists(st.sampled_from("abcd")))
    def cancel(self, keys: list[str]) -> None:
        self.timers.cancel(*keys)
        self.model = {key: value for key, value in self.model.items() if key not in keys}

    @rule()
    def clear(self) -> None:
        self.timers.clear()
        self.model.clear()

    @invariant()
    def each_is_as_it_was_set(self) -> None:
        assert {key: self.timers.get(key) for key in "abcd"} == {key: self.model.get(key, (None, 0))[0] for key in "abcd"}

    @invariant()
    def the_earliest_is_at_hand(self) -> None:
        assert self.timers.earliest == min((deadline for deadline, _ in self.model.values()), default=None)
        assert len(self.timers._heap) <= 64 + 4 * max(len(self.model), 1) + 4


TestTimers = TimersMachine.TestCase
TestTimers.settings = examples(60, steps=30)

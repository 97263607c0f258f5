"""The law suite must catch every offender: one broken machine per law, and one that keeps them all."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from msgspec import Struct

from backpack_proto.errors import LocalProtocolError, RemoteProtocolError
from backpack_proto.inputs import Close, Connected, Open, TimerFired
from backpack_proto.machine import Now
from backpack_proto.testing.laws import FakeClock, Law, LawBroken, check_machine, freeze

INPUTS = st.sampled_from([Open(), Close(), Connected()])


class Lawful:
    """Opens for ten seconds. `Connected` is allowed only while open."""

    def __init__(self) -> None:
        self.opened = 0
        self.until_us: int | None = None

    @property
    def deadline(self) -> int | None:
        return self.until_us

    def handle(self, given: object, now: Now) -> list[str]:
        if isinstance(given, TimerFired):
            if self.until_us is None or now.mono_us < self.until_us:
                return []
            return self.fire(now)
        return self.take(given, now)

    def fire(self, now: Now) -> list[str]:
        del now
        self.until_us = None
        return ["over"]

    def take(self, given: object, now: Now) -> list[str]:
        if isinstance(given, Connected) and self.until_us is None:
            raise LocalProtocolError("Connected is impossible before Open")
        if isinstance(given, Open):
            self.opened += 1
            self.until_us = now.mono_us + 10_000_000
        return [f"opened {self.opened}"]


class CountsReads(Lawful):
    reads = 0

    @property
    def deadline(self) -> int | None:
        self.reads += 1
        return self.until_us


class ReadsTwoDeadlines(Lawful):
    def __init__(self) -> None:
        super().__init__()
        # What an opaque object holds is not seen by `freeze`. The deadlines that differ are.
        self.next = (number for number in itertools.count()).__next__

    @property
    def deadline(self) -> int | None:
        return self.next()


class AnswersEveryTimer(Lawful):
    def handle(self, given: object, now: Now) -> list[str]:
        return ["early"] if isinstance(given, TimerFired) and self.until_us is None else super().handle(given, now)


class CountsSpuriousTimers(Lawful):
    spurious = 0

    def handle(self, given: object, now: Now) -> list[str]:
        if isinstance(given, TimerFired) and self.until_us is None:
            self.spurious += 1
            return []
        return super().handle(given, now)


class RefusesSpuriousTimers(Lawful):
    def handle(self, given: object, now: Now) -> list[str]:
        if isinstance(given, TimerFired) and self.until_us is None:
            raise LocalProtocolError("TimerFired is impossible here")
        return super().handle(given, now)


class KeepsItsDeadline(Lawful):
    def fire(self, now: Now) -> list[str]:
        del now
        return ["over"]


class LagsBehind(Lawful):
    """Its timer moves on from the old deadline, so a late one fires again and again."""

    def fire(self, now: Now) -> list[str]:
        del now
        assert self.until_us is not None
        self.until_us += 1
        return ["over"]


class RefusesItsTimer(Lawful):
    def fire(self, now: Now) -> list[str]:
        raise LocalProtocolError(f"TimerFired is impossible at {now.mono_us}")


class ChangesBeforeItChecks(Lawful):
    def take(self, given: object, now: Now) -> list[str]:
        self.opened += 1
        return super().take(given, now)


class RemembersDeepDown(Lawful):
    """The trace of the refusal is two levels below the machine."""

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[str, list[object]] = {"given": []}

    def take(self, given: object, now: Now) -> list[str]:
        self.log["given"].append(given)
        return super().take(given, now)


class RollsDice(Lawful):
    dice = Random()

    def take(self, given: object, now: Now) -> list[str]:
        return [*super().take(given, now), str(self.dice.random())]


class ReadsTheWallClock(Lawful):
    def take(self, given: object, now: Now) -> list[str]:
        result = super().take(given, now)
        if isinstance(given, Open):
            self.until_us = now.unix_us + 10_000_000
        return result


@pytest.mark.parametrize(
    ("make", "law"),
    [
        (CountsReads, Law.PURE_DEADLINE),
        (ReadsTwoDeadlines, Law.PURE_DEADLINE),
        (AnswersEveryTimer, Law.SPURIOUS_TIMER),
        (CountsSpuriousTimers, Law.SPURIOUS_TIMER),
        (RefusesSpuriousTimers, Law.SPURIOUS_TIMER),
        (KeepsItsDeadline, Law.TIMER_MOVES_ON),
        (LagsBehind, Law.TIMER_MOVES_ON),
        (RefusesItsTimer, Law.TIMER_MOVES_ON),
        (ChangesBeforeItChecks, Law.REFUSAL),
        (RemembersDeepDown, Law.REFUSAL),
        (RollsDice, Law.REPLAY),
        (ReadsTheWallClock, Law.CLOCKS),
    ],
)
@pytest.mark.hypothesis
def test_each_law_catches_its_offender(make: Callable[[], Lawful], law: Law) -> None:
    with pytest.raises(LawBroken) as caught:
        check_machine(make, INPUTS)
    assert caught.value.law is law
    text = str(caught.value)
    assert text.startswith(f"{law}: ")
    assert "\ntrace:\n" in text
    assert text.splitlines()[-1].startswith("to keep the law: ")


@pytest.mark.hypothesis
def test_a_lawful_machine_passes() -> None:
    check_machine(Lawful, INPUTS)


@pytest.mark.parametrize(
    ("make", "inputs", "complaint"),
    [
        (object, INPUTS, "make: returns a machine, with `deadline` and `handle`, got object"),
        (itertools.repeat(Lawful()).__next__, INPUTS, "make: returns a new machine at each call, got the same one twice"),
        (Lawful, [Open()], "inputs: a strategy of hypothesis, such as .*, got list"),
    ],
)
def test_what_cannot_be_checked_is_refused(make: Callable[[], Any], inputs: Any, complaint: str) -> None:
    with pytest.raises(LocalProtocolError, match=complaint):
        check_machine(make, inputs)


@pytest.mark.hypothesis
def test_timers_among_the_inputs_are_judged_like_those_of_the_suite() -> None:
    check_machine(Lawful, INPUTS | st.just(TimerFired()))
    with pytest.raises(LawBroken) as caught:
        check_machine(LagsBehind, INPUTS | st.just(TimerFired()))
    assert caught.value.law is Law.TIMER_MOVES_ON


@pytest.mark.hypothesis
def test_the_report_holds_the_shortest_trace_and_what_changed() -> None:
    with pytest.raises(LawBroken) as caught:
        check_machine(ChangesBeforeItChecks, INPUTS)
    assert [given for given, _ in caught.value.trace] == [Connected()]
    assert "changed: opened" in str(caught.value)
    assert "Connected()" in str(caught.value)


@pytest.mark.hypothesis
def test_a_machine_that_is_a_container_is_seen_to_change_too() -> None:
    with pytest.raises(LawBroken, match="changed: its contents"):
        check_machine(Grows, INPUTS)


@pytest.mark.hypothesis
def test_the_early_timers_of_the_suite_stay_out_of_the_trace() -> None:
    with pytest.raises(LawBroken) as caught:
        check_machine(KeepsItsDeadline, INPUTS)
    assert [given for given, _ in caught.value.trace] == [Open(), TimerFired()]
    assert caught.value.trace[1][1].mono_us - caught.value.trace[0][1].mono_us == 10_000_000


@pytest.mark.hypothesis
def test_any_other_exception_passes_through_with_the_trace() -> None:
    class Crashes(Lawful):
        def take(self, given: object, now: Now) -> list[str]:
            if isinstance(given, Close):
                raise ZeroDivisionError
            return super().take(given, now)

    with pytest.raises(ZeroDivisionError) as caught:
        check_machine(Crashes, INPUTS)
    assert any("trace:" in note and "Close()" in note for note in caught.value.__notes__)


class Point(Struct, gc=False):
    x: object


class Slotted:
    __slots__ = ("__hidden", "shown", "unset")

    def __init__(self, shown: object, hidden: object) -> None:
        self.shown = shown
        self.__hidden = hidden


class OneSlot:
    __slots__ = "only"  # noqa: PLC0205 - the form under test

    def __init__(self, only: object) -> None:
        self.only = only


class TaggedDict(dict[str, int]):
    tag = ""


class Grows(Lawful, list[int]):
    """A machine may be a container as well."""

    def take(self, given: object, now: Now) -> list[str]:
        self.append(1)
        return super().take(given, now)


class Cyclic:
    def __init__(self) -> None:
        self.me = self


def tagged(tag: str) -> TaggedDict:
    made = TaggedDict()
    made.tag = tag
    return made


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        ("a", "b"),
        ([1, [2]], [1, [3]]),
        ([1], (1,)),
        (deque([1]), deque([2])),
        ({"a": {1}}, {"a": {2}}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Decimal("1.0"), Decimal("1.00")),
        (Point(1), Point(2)),
        (Slotted(1, 1), Slotted(2, 1)),
        (Slotted(1, 1), Slotted(1, 2)),
        (OneSlot(1), OneSlot(2)),
        (tagged("a"), tagged("b")),
        (Random(1), Random(2)),
        (RemoteProtocolError("a"), RemoteProtocolError("b")),
        (itertools.count(1), itertools.count(2)),
        (len, print),
    ],
)
def test_freeze_tells_states_apart(one: object, other: object) -> None:
    assert freeze(one) != freeze(other)
    assert freeze(one) == freeze(one)


def test_freeze_is_not_reached_by_later_changes() -> None:
    held: dict[str, Any] = {"list": [1], "point": Point([1]), "random": Random(1)}
    before = freeze(held)
    assert freeze(held) == before
    held["point"].x.append(2)
    assert freeze(held) != before


def test_freeze_ends_on_a_cycle() -> None:
    assert freeze(Cyclic()) == freeze(Cyclic())


def test_the_fake_clock_moves_both_clocks_by_hand() -> None:
    clock = FakeClock(mono_us=5, unix_us=1_000)
    assert clock.now == Now(5, 1_000)
    assert clock.advance(10) == clock.now == Now(15, 1_010)
    assert clock.advance_to(20) == Now(20, 1_015)
    assert clock.advance_to(3) == Now(20, 1_015)
    clock.unix_us = 7
    assert clock.advance(1) == Now(21, 8)


def test_the_fake_clock_does_not_go_back_and_waits_for_something() -> None:
    clock = FakeClock()
    with pytest.raises(LocalProtocolError, match="does not go back by 1 us"):
        clock.advance(-1)
    with pytest.raises(LocalProtocolError, match="no deadline"):
        clock.advance_to(None)


def test_the_clocks_of_the_fake_clock_lie_far_apart() -> None:
    now = FakeClock().now
    assert abs(now.unix_us - now.mono_us) > 10**15

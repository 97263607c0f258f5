"""Messages that came by several ways: in order, each once, and open about what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.ordering import KEPT, WAIT_US, Base, Missed, Ordering, OrderingInput, OrderingOutput, Piece
from backpack_proto.testing.laws import check_machine
from hypothesis_profiles import examples

SECOND = 1_000_000


def piece(first: int, last: int | None = None, *, engine_us: int | None = None) -> Piece:
    """One message. Its engine time follows its id unless given."""
    return Piece(first=first, last=first if last is None else last, engine_us=first * 1_000 if engine_us is None else engine_us)


def base(last: int) -> Base:
    return Base(last=last)


class Chain:
    """An ordering, and the clock that it is driven by."""

    def __init__(self, *, needs_base: bool = True, kept: int = KEPT) -> None:
        self.machine = Ordering(needs_base=needs_base, kept=kept)
        self.mono_us = 5 * SECOND

    def give(self, *given: OrderingInput) -> list[OrderingOutput]:
        return [output for one in given for output in self.machine.handle(one, Now(self.mono_us, 0))]

    def advance(self, us: int) -> list[OrderingOutput]:
        """Let time pass, and every timer fire in it."""
        until = self.mono_us + us
        outputs: list[OrderingOutput] = []
        while self.machine.deadline is not None and self.machine.deadline <= until:
            self.mono_us = self.machine.deadline
            outputs += self.give(TimerFired())
        self.mono_us = until
        return outputs


def gap(first: int, last: int) -> Missed:
    return Missed(first=first, last=last, reason="did not come within 2 s")


def test_changes_wait_for_the_base_that_they_go_on_from() -> None:
    chain = Chain()
    assert chain.give(piece(9), piece(10), piece(11)) == []
    assert chain.advance(60 * SECOND) == []
    assert not chain.machine.following
    assert chain.give(base(9)) == [base(9), piece(10), piece(11)]
    assert chain.machine.complete


def test_a_change_that_straddles_the_base_is_handed_on() -> None:
    chain = Chain()
    assert chain.give(base(10), piece(8, 12), piece(13)) == [base(10), piece(8, 12), piece(13)]


def test_things_of_their_own_begin_with_the_first() -> None:
    chain = Chain(needs_base=False)
    assert chain.give(piece(7), piece(8), piece(6)) == [piece(7), piece(8)]


def test_what_comes_twice_is_handed_on_once() -> None:
    chain = Chain()
    assert chain.give(base(1), piece(2), piece(2), piece(4), piece(4), piece(3), piece(4), base(1)) == [
        base(1),
        piece(2),
        piece(3),
        piece(4),
    ]


def test_a_hole_that_is_filled_in_time_is_not_told() -> None:
    chain = Chain()
    chain.give(base(1))
    assert chain.give(piece(3), piece(5)) == []
    assert chain.advance(WAIT_US - 1) == []
    assert chain.give(piece(4), piece(2)) == [piece(2), piece(3), piece(4), piece(5)]
    assert chain.machine.deadline is None


def test_changes_go_on_from_the_next_base_behind_a_hole() -> None:
    chain = Chain()
    chain.give(base(1), piece(3))
    assert chain.advance(WAIT_US) == [gap(2, 2)]
    assert not chain.machine.following
    assert chain.give(piece(2), piece(4)) == []
    assert chain.give(base(3), piece(5)) == [base(3), piece(4), piece(5)]


def test_a_base_that_came_meanwhile_ends_the_hole_at_its_deadline() -> None:
    chain = Chain()
    chain.give(base(1), piece(4), piece(6))
    assert chain.give(base(5)) == []
    assert not chain.machine.complete
    assert chain.advance(WAIT_US) == [gap(2, 3), base(5), piece(6)]


def test_a_base_ahead_shows_that_changes_are_missing() -> None:
    chain = Chain()
    chain.give(base(1))
    assert chain.give(base(3)) == []
    assert chain.advance(WAIT_US) == [gap(2, 3), base(3)]


def test_a_base_ahead_is_nothing_to_a_chain_that_reaches_it() -> None:
    chain = Chain()
    assert chain.give(base(1), base(3), piece(2), piece(3)) == [base(1), piece(2), piece(3)]
    assert chain.advance(60 * SECOND) == []


def test_trades_go_on_behind_a_hole_by_themselves() -> None:
    chain = Chain(needs_base=False)
    chain.give(piece(1), piece(3))
    chain.advance(SECOND)
    chain.give(piece(5))
    assert chain.advance(SECOND) == [gap(2, 2), piece(3)]
    assert chain.advance(SECOND - 1) == []
    assert chain.advance(1) == [gap(4, 4), piece(5)]


def test_no_message_waits_longer_than_two_seconds_however_many_holes_are_before_it() -> None:
    chain = Chain(needs_base=False)
    chain.give(piece(1), piece(3), piece(5), piece(7))
    assert chain.advance(WAIT_US) == [gap(2, 2), piece(3), gap(4, 4), piece(5), gap(6, 6), piece(7)]


def test_too_many_messages_end_the_wait() -> None:
    chain = Chain(needs_base=False, kept=2)
    assert chain.give(piece(1), piece(3), piece(4)) == [piece(1)]
    assert chain.give(piece(5)) == [gap(2, 2), piece(3), piece(4), piece(5)]


def test_ids_that_start_over_begin_a_new_chain() -> None:
    chain = Chain()
    chain.give(base(100), piece(101))
    over = piece(5, engine_us=101_000 + 2 * SECOND)
    [told] = chain.give(over)
    assert isinstance(told, Missed)
    assert told.reason == "the ids have started over at 5"
    assert chain.give(base(4)) == [base(4), over]


def test_an_old_id_of_an_old_time_is_a_repetition() -> None:
    chain = Chain()
    assert chain.give(base(100), piece(101), piece(50), piece(99, engine_us=101_000 + SECOND)) == [base(100), piece(101)]


IDS = st.integers(0, 12)
INPUTS = st.one_of(
    st.builds(lambda first, more: piece(first, first + more), IDS, st.integers(0, 2)),
    st.builds(lambda first: piece(first, engine_us=10 * SECOND), IDS),
    st.builds(base, IDS),
)


@pytest.mark.parametrize("needs_base", [True, False])
def test_it_keeps_the_laws_of_machines(*, needs_base: bool) -> None:
    check_machine(lambda: Ordering(needs_base=needs_base, kept=4), INPUTS, max_gap_us=5 * SECOND)


def check_order(outputs: Sequence[OrderingOutput], *, needs_base: bool) -> None:
    """Each id once, in order, and nothing left out without being told."""
    following: int | None = None
    lost = False
    for output in outputs:
        match output:
            case Missed():
                assert following is None or output.first >= following
                assert output.last >= output.first
                lost = True
            case Base():
                assert needs_base
                assert following is None or (lost and output.last >= following)
                following, lost = output.last + 1, False
            case Piece():
                if needs_base:
                    assert following is not None
                    assert not lost
                if following is not None and not lost:
                    assert output.first <= following <= output.last
                assert following is None or output.last >= following
                following, lost = output.last + 1, False


@given(seed=st.integers(0, 2**32), needs_base=st.booleans())
@examples(200)
def test_two_ways_that_lose_repeat_and_delay_make_one_chain(seed: int, *, needs_base: bool) -> None:
    """Two publishers of the same messages: what at least one of them brings within the time is handed on once, in order."""
    random = Random(seed)
    chain = Chain(needs_base=needs_base)
    arrivals: list[tuple[int, OrderingInput]] = [(0, base(0))] if needs_base else []
    brought: dict[int, int] = {}
    at_us = 0
    for number in range(1, 120):
        at_us += random.randrange(0, 60_000)
        for _ in range(2):
            if random.random() < 0.2:
                continue
            arrival = at_us + random.choice([0, random.randrange(300_000), random.randrange(4 * SECOND)])
            brought[number] = min(arrival, brought.get(number, arrival))
            arrivals += [(arrival, piece(number))] * random.choice([1, 1, 2])
        if needs_base and random.random() < 0.05:
            arrivals.append((at_us + random.randrange(SECOND), base(number)))
    arrivals.sort(key=lambda arrival: arrival[0])
    outputs: list[OrderingOutput] = []
    began = chain.mono_us
    for moment, given_ in arrivals:
        outputs += chain.advance(began + moment - chain.mono_us)
        outputs += chain.give(given_)
    outputs += chain.advance(10 * SECOND)
    check_order(outputs, needs_base=needs_base)
    if not any(isinstance(output, Missed) for output in outputs):
        handed = [output.first for output in outputs if isinstance(output, Piece)]
        assert handed == list(range(handed[0], handed[-1] + 1))
        assert needs_base or set(handed) >= {number for number in brought if number >= handed[0]}


@given(seed=st.integers(0, 2**32))
@examples(50)
def test_nothing_is_missed_where_everything_comes_in_time(seed: int) -> None:
    random = Random(seed)
    chain = Chain()
    chain.give(base(0))
    arrivals = sorted(
        (number * 10_000 + random.randrange(WAIT_US), number) for number in range(1, 300) for _ in range(random.choice([1, 2]))
    )
    outputs: list[OrderingOutput] = []
    began = chain.mono_us
    for moment, number in arrivals:
        outputs += chain.advance(began + moment - chain.mono_us)
        outputs += chain.give(piece(number))
    assert outputs == [piece(number) for number in range(1, 300)]

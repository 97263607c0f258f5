from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.rest.pacing import (
    HISTORICAL,
    PAUSE,
    PAUSE_CEILING_US,
    STANDARD,
    Budget,
    Cancel,
    Enqueue,
    Granted,
    Pacer,
    PacerState,
    Refused,
    Succeeded,
)
from backpack_proto.testing.laws import check_machine, freeze
from hypothesis_profiles import examples

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
START_US = 5_000


def at(mono_us: int) -> Now:
    return Now(mono_us, 0)


def drain(pacer: Pacer) -> list[tuple[int, int]]:
    """Fire the timer at every deadline until no one waits: (moment, id) of every grant."""
    grants = []
    while (deadline := pacer.deadline) is not None:
        out = pacer.handle(TimerFired(), at(deadline))
        assert out, "a timer at the deadline must grant something"
        assert pacer.deadline is None or pacer.deadline > deadline
        grants += [(deadline, granted.request_id) for granted in out]
    return grants


def exhausted(*, historical: bool = False) -> Pacer:
    """A pacer without tokens."""
    pacer = Pacer()
    for number in range((HISTORICAL if historical else STANDARD).burst):
        request = Enqueue(request_id=-1 - number, historical=historical)
        assert pacer.handle(request, at(START_US)) == [Granted(-1 - number)]
    return pacer


def test_the_first_requests_leave_at_once() -> None:
    pacer = Pacer()
    assert pacer.deadline is None
    assert pacer.handle(Enqueue(request_id=1), at(START_US)) == [Granted(1)]
    assert pacer.deadline is None


def test_it_works_on_a_monotonic_clock_that_starts_below_zero() -> None:
    assert Pacer().handle(Enqueue(request_id=1), at(-(10**9))) == [Granted(1)]


def test_a_hundred_snapshots_at_the_start_are_spread() -> None:
    pacer = Pacer()
    at_once = [granted for number in range(100) for granted in pacer.handle(Enqueue(request_id=number), at(START_US))]
    assert at_once == [Granted(number) for number in range(20)]
    later = drain(pacer)
    assert [number for _, number in later] == list(range(20, 100))
    # 80 requests at 1980 a minute.
    assert later[-1][0] - START_US == -(-80 * MINUTE_US // 1980)


def test_refill_is_exact_over_a_year() -> None:
    pacer = exhausted()
    year_us = 365 * 24 * 3600 * SECOND_US
    pacer.handle(Enqueue(request_id=0), at(START_US))
    assert pacer.deadline == START_US + -(-MINUTE_US // 1980)
    assert drain(pacer)
    state = pacer.state(at(START_US + year_us))
    assert state == PacerState(standard_available=20, historical_available=5, queued=0, paused_until_us=None)


def test_ten_thousand_grants_do_not_drift() -> None:
    pacer = exhausted()
    for number in range(9_900):
        pacer.handle(Enqueue(request_id=number), at(START_US))
    last_us, number = drain(pacer)[-1]
    assert (last_us - START_US, number) == (5 * MINUTE_US, 9_899)


def test_historical_requests_count_against_both_budgets() -> None:
    pacer = exhausted(historical=True)
    assert pacer.state(at(START_US)) == PacerState(
        standard_available=15, historical_available=0, queued=0, paused_until_us=None
    )
    assert pacer.handle(Enqueue(request_id=1, historical=True, urgent=True), at(START_US)) == []
    assert pacer.handle(Enqueue(request_id=2), at(START_US)) == [Granted(2)]
    assert pacer.deadline == START_US + MINUTE_US // 25
    assert drain(pacer) == [(START_US + MINUTE_US // 25, 1)]


def test_a_historical_request_waits_for_the_standard_budget_too() -> None:
    pacer = exhausted()
    assert pacer.handle(Enqueue(request_id=1, historical=True), at(START_US)) == []
    assert pacer.deadline == START_US + -(-MINUTE_US // 1980)


@pytest.mark.parametrize("urgent", [True, False])
def test_the_deadline_is_that_of_the_request_that_can_leave_first(urgent: bool) -> None:  # noqa: FBT001 - a table
    pacer = exhausted(historical=True)
    for number in range(15):
        pacer.handle(Enqueue(request_id=number), at(START_US))
    pacer.handle(Enqueue(request_id=20, historical=True, urgent=not urgent), at(START_US))
    assert pacer.deadline == START_US + MINUTE_US // 25
    pacer.handle(Enqueue(request_id=21, urgent=urgent), at(START_US))
    assert pacer.deadline == START_US + -(-MINUTE_US // 1980)
    assert [number for _, number in drain(pacer)] == [21, 20]


def test_urgent_goes_before_background_and_arrival_decides_within_a_class() -> None:
    pacer = exhausted()
    for number, (historical, urgent) in enumerate(
        [(False, False), (True, False), (True, True), (False, True), (True, True), (False, False)]
    ):
        assert pacer.handle(Enqueue(request_id=number, historical=historical, urgent=urgent), at(START_US)) == []
    assert [number for _, number in drain(pacer)] == [2, 3, 4, 0, 1, 5]


def test_a_cancelled_request_never_leaves() -> None:
    pacer = exhausted()
    for number in range(3):
        pacer.handle(Enqueue(request_id=number), at(START_US))
    assert pacer.state(at(START_US)).queued == 3
    assert pacer.handle(Cancel(1), at(START_US)) == []
    assert [number for _, number in drain(pacer)] == [0, 2]
    assert pacer.handle(Cancel(0), at(START_US)) == []
    assert pacer.handle(Cancel(99), at(START_US)) == []


def test_an_id_cannot_be_in_line_twice_but_can_come_again() -> None:
    pacer = exhausted()
    pacer.handle(Enqueue(request_id=1), at(START_US))
    before = freeze(pacer)
    with pytest.raises(LocalProtocolError, match="request 1 is in line already"):
        pacer.handle(Enqueue(request_id=1, urgent=True), at(START_US))
    assert freeze(pacer) == before
    pacer.handle(Cancel(1), at(START_US))
    pacer.handle(Enqueue(request_id=1), at(START_US))
    assert [number for _, number in drain(pacer)] == [1]


def test_a_refusal_stops_everything() -> None:
    pacer = Pacer()
    assert pacer.handle(Refused(), at(START_US)) == []
    assert [pacer.deadline] == [None]
    assert pacer.handle(Enqueue(request_id=1, urgent=True), at(START_US + 1)) == []
    assert pacer.deadline == START_US + PAUSE.base_us
    assert pacer.state(at(START_US + 1)).paused_until_us == START_US + PAUSE.base_us
    assert pacer.handle(TimerFired(), at(START_US + PAUSE.base_us - 1)) == []
    assert pacer.handle(TimerFired(), at(START_US + PAUSE.base_us)) == [Granted(1)]
    assert pacer.state(at(START_US + PAUSE.base_us)).paused_until_us is None


def pause_after(pacer: Pacer, refused: Refused, mono_us: int) -> int:
    pacer.handle(refused, at(mono_us))
    until = pacer.state(at(mono_us)).paused_until_us
    assert until is not None
    return until - mono_us


def test_refusals_in_a_row_double_the_pause_until_one_succeeds() -> None:
    pacer = Pacer()
    now = START_US
    pauses = []
    for _ in range(7):
        pauses.append(pause_after(pacer, Refused(), now))
        now += pauses[-1]
    assert pauses == [SECOND_US * seconds for seconds in (1, 2, 4, 8, 16, 30, 30)]
    assert pauses[-1] == PAUSE.cap_us
    pacer.handle(Succeeded(), at(now))
    assert pause_after(pacer, Refused(), now) == PAUSE.base_us


def test_during_a_pause_nothing_that_is_heard_counts_as_news() -> None:
    pacer = Pacer()
    assert pause_after(pacer, Refused(), START_US) == PAUSE.base_us
    for _ in range(20):
        assert pause_after(pacer, Refused(), START_US + 1) == PAUSE.base_us - 1
    pacer.handle(Succeeded(), at(START_US + 2))
    assert pause_after(pacer, Refused(), START_US + PAUSE.base_us) == 2 * PAUSE.base_us


def test_the_exchanges_own_wish_counts_if_it_is_longer() -> None:
    pacer = Pacer(pause_ceiling_us=120 * SECOND_US)
    assert pause_after(pacer, Refused(retry_after_us=5 * SECOND_US), START_US) == 5 * SECOND_US
    assert pause_after(pacer, Refused(retry_after_us=90 * SECOND_US), START_US) == 90 * SECOND_US
    now = START_US + 90 * SECOND_US
    assert pause_after(pacer, Refused(retry_after_us=1), now) == 2 * SECOND_US
    assert pause_after(Pacer(), Refused(retry_after_us=-5), now) == PAUSE.base_us


@pytest.mark.parametrize("asked_us", [90 * SECOND_US, 10**15, 10**18])
def test_no_wish_of_the_exchange_pauses_for_longer_than_the_ceiling(asked_us: int) -> None:
    assert pause_after(Pacer(), Refused(retry_after_us=asked_us), START_US) == PAUSE_CEILING_US == 60 * SECOND_US
    pacer = Pacer(pause_ceiling_us=3 * SECOND_US)
    now = START_US
    for _ in range(5):
        assert pause_after(pacer, Refused(retry_after_us=asked_us), now) == 3 * SECOND_US
        now += 3 * SECOND_US
    assert pause_after(pacer, Refused(), now) == 3 * SECOND_US


def test_a_ceiling_is_positive() -> None:
    with pytest.raises(LocalProtocolError, match=r"pause_ceiling_us: at least 1 microsecond, got 0"):
        Pacer(pause_ceiling_us=0)


def test_a_pause_says_how_long_it_is_and_what_was_asked_for() -> None:
    pacer = Pacer()
    assert (pacer.state(at(START_US)).pause_us, pacer.state(at(START_US)).asked_us) == (0, None)
    pacer.handle(Refused(retry_after_us=10**15), at(START_US))
    pacer.handle(Refused(retry_after_us=1), at(START_US + SECOND_US))
    state = pacer.state(at(START_US + 2 * SECOND_US))
    assert (state.paused_until_us, state.pause_us, state.asked_us) == (START_US + 60 * SECOND_US, 60 * SECOND_US, 10**15)
    over = pacer.state(at(START_US + 60 * SECOND_US))
    assert (over.paused_until_us, over.pause_us, over.asked_us) == (None, 0, None)
    pacer.handle(Refused(), at(START_US + 60 * SECOND_US))
    assert pacer.state(at(START_US + 60 * SECOND_US)).asked_us is None


def test_what_is_cancelled_never_leaves_and_lets_nothing_else_leave_by_itself() -> None:
    pacer = Pacer()
    pacer.handle(Refused(), at(START_US))
    for request_id in (1, 2, 3):
        assert pacer.handle(Enqueue(request_id=request_id), at(START_US)) == []
    later = START_US + PAUSE.base_us
    assert pacer.handle(Cancel(1), at(later)) == []
    assert pacer.handle(Cancel(3), at(later)) == []
    assert pacer.handle(TimerFired(), at(later)) == [Granted(2)]


def test_an_early_timer_changes_nothing() -> None:
    pacer = exhausted()
    pacer.handle(Enqueue(request_id=1), at(START_US))
    before = freeze(pacer)
    assert pacer.deadline is not None
    for mono_us in (START_US, pacer.deadline - 1):
        assert pacer.handle(TimerFired(), at(mono_us)) == []
        assert freeze(pacer) == before


@pytest.mark.parametrize(("per_minute", "burst"), [(30, 0), (30, 30), (1, 1), (0, -1)])
def test_a_budget_must_leave_something_to_refill(per_minute: int, burst: int) -> None:
    with pytest.raises(LocalProtocolError, match="burst"):
        Budget(per_minute=per_minute, burst=burst)


def test_another_input_is_refused() -> None:
    given_: Any = Granted(1)
    with pytest.raises(LocalProtocolError, match="Granted is no input of a pacer"):
        Pacer().handle(given_, at(0))


@pytest.mark.hypothesis
def test_it_keeps_the_machine_laws() -> None:
    inputs = st.one_of(
        st.builds(Enqueue, request_id=st.integers(0, 9), historical=st.booleans(), urgent=st.booleans()),
        st.builds(Cancel, st.integers(0, 9)),
        st.builds(Refused, st.none() | st.integers(0, 40_000_000)),
        st.just(Succeeded()),
    )
    small = Budget(per_minute=4, burst=2)
    check_machine(lambda: Pacer(standard=small, historical=small), inputs, max_gap_us=40_000_000)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), st.booleans(), st.booleans(), st.integers(1, 30)),
        st.tuples(st.just("wait"), st.integers(0, 3_000_000)),
        st.tuples(st.just("deadline")),
        st.tuples(st.just("cancel"), st.integers(0, 200)),
        st.tuples(st.just("refused"), st.none() | st.integers(0, 40_000_000)),
        st.tuples(st.just("succeeded")),
    ),
    max_size=40,
)
budgets = st.integers(2, 200).flatmap(
    lambda per_minute: st.builds(Budget, per_minute=st.just(per_minute), burst=st.integers(1, per_minute - 1))
)


def check_windows(moments: list[int], budget: Budget) -> None:
    """No stretch of time may see more than its budget; it is enough to look at stretches that begin and end with a grant."""
    for first, start in enumerate(moments):
        for last in range(first, len(moments)):
            length_us = moments[last] - start
            count = last - first + 1
            assert (count - budget.burst) * MINUTE_US <= (budget.per_minute - budget.burst) * length_us
            if length_us <= MINUTE_US:
                assert count <= budget.per_minute


@examples(150)
@given(operations, budgets, budgets)
def test_budgets_order_and_completeness(operations: list[tuple[Any, ...]], standard: Budget, historical: Budget) -> None:
    pacer = Pacer(standard=standard, historical=historical)
    now = START_US
    waiting: dict[int, tuple[bool, bool]] = {}
    kinds: dict[int, tuple[bool, bool]] = {}
    grants: list[tuple[int, int]] = []
    paused_until = 0

    def take(out: list[Granted]) -> None:
        for granted in out:
            assert now >= paused_until
            kind = waiting[granted.request_id]
            ahead = [number for number, other in waiting.items() if other == kind]
            assert ahead[0] == granted.request_id, "first come, first served within a class"
            if not kind[0]:
                # Background leaves only if no urgent request could have used the token.
                assert all(other == (True, True) for other in waiting.values() if other[0])
            del waiting[granted.request_id]
            grants.append((now, granted.request_id))

    for what, *arguments in operations:
        if what == "enqueue":
            is_historical, urgent, count = arguments
            for _ in range(count):
                number = len(kinds)
                kinds[number] = waiting[number] = (urgent, is_historical)
                take(pacer.handle(Enqueue(request_id=number, historical=is_historical, urgent=urgent), at(now)))
        elif what == "wait":
            now += arguments[0]
            take(pacer.handle(TimerFired(), at(now)))
        elif what == "deadline" and pacer.deadline is not None:
            now = max(now, pacer.deadline)
            before = len(grants)
            take(pacer.handle(TimerFired(), at(now)))
            assert len(grants) > before
        elif what == "cancel":
            waiting.pop(arguments[0], None)
            take(pacer.handle(Cancel(arguments[0]), at(now)))
        elif what == "refused":
            take(pacer.handle(Refused(arguments[0]), at(now)))
            paused_until = pacer.state(at(now)).paused_until_us or 0
            assert paused_until > now
        elif what == "succeeded":
            take(pacer.handle(Succeeded(), at(now)))
        state = pacer.state(at(now))
        assert state.queued == len(waiting)
        assert 0 <= state.standard_available <= standard.burst
        assert 0 <= state.historical_available <= historical.burst
        assert (pacer.deadline is None) == (not waiting)
        assert pacer.deadline is None or pacer.deadline > now
    while pacer.deadline is not None:
        now = pacer.deadline
        take(pacer.handle(TimerFired(), at(now)))
    assert not waiting
    check_windows([moment for moment, _ in grants], standard)
    check_windows([moment for moment, number in grants if kinds[number][1]], historical)

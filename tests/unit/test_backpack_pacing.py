from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.errors import LocalProtocolError
from backpack_proto.importance import Importance
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.rest.pacing import (
    AUDITS,
    HISTORICAL,
    PAUSE,
    PAUSE_CEILING_US,
    RESERVE,
    STANDARD,
    TRIAL_US,
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
TOKEN_US = -(-MINUTE_US // (STANDARD.per_minute - STANDARD.burst))
"""Time that the standard budget takes to make up for one request."""
EVERYTHING_ELSE = [importance for importance in Importance if importance is not Importance.CANCEL]


def at(mono_us: int) -> Now:
    return Now(mono_us, 0)


def enqueue(request_id: int, importance: Importance = Importance.READ, *, historical: bool = False) -> Enqueue:
    return Enqueue(request_id=request_id, importance=importance, historical=historical)


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
        request = enqueue(-1 - number, historical=historical)
        assert pacer.handle(request, at(START_US)) == [Granted(-1 - number)]
    return pacer


def test_the_first_requests_leave_at_once() -> None:
    pacer = Pacer()
    assert pacer.deadline is None
    assert pacer.handle(enqueue(1), at(START_US)) == [Granted(1)]
    assert pacer.deadline is None


def test_it_works_on_a_monotonic_clock_that_starts_below_zero() -> None:
    assert Pacer().handle(enqueue(1), at(-(10**9))) == [Granted(1)]


def test_a_hundred_snapshots_at_the_start_are_spread() -> None:
    pacer = Pacer()
    at_once = [granted for number in range(100) for granted in pacer.handle(enqueue(number), at(START_US))]
    assert at_once == [Granted(number) for number in range(20)]
    later = drain(pacer)
    assert [number for _, number in later] == list(range(20, 100))
    # 80 requests at 1780 a minute.
    assert later[-1][0] - START_US == -(-80 * MINUTE_US // 1780)


@pytest.mark.parametrize("pause_us", [0, 30 * SECOND_US])
def test_how_long_those_in_line_have_to_wait_is_told_in_advance(pause_us: int) -> None:
    pacer = exhausted()
    if pause_us:
        pacer.handle(Refused(pause_us), at(START_US))
    for number in range(600):
        pacer.handle(enqueue(number, Importance.SNAPSHOT), at(START_US))
    pacer.handle(enqueue(700, Importance.AUDIT), at(START_US))
    state = pacer.state(at(START_US))
    assert state.snapshots_queued == 600
    last_us = next(moment for moment, number in drain(pacer) if number == 599)
    assert abs(last_us - START_US - state.remaining_us) <= 2 * SECOND_US
    assert pacer.state(at(last_us)).remaining_us == 0


def test_refill_is_exact_over_a_year() -> None:
    pacer = exhausted()
    year_us = 365 * 24 * 3600 * SECOND_US
    pacer.handle(enqueue(0), at(START_US))
    assert pacer.deadline == START_US + TOKEN_US
    assert drain(pacer)
    state = pacer.state(at(START_US + year_us))
    assert state == PacerState(
        standard_available=20, reserve_available=100, historical_available=5, queued=0, paused_until_us=None
    )


def test_ten_thousand_grants_do_not_drift() -> None:
    pacer = exhausted()
    for number in range(8_900):
        pacer.handle(enqueue(number), at(START_US))
    last_us, number = drain(pacer)[-1]
    assert (last_us - START_US, number) == (5 * MINUTE_US, 8_899)


def test_historical_requests_count_against_both_budgets() -> None:
    pacer = exhausted(historical=True)
    assert pacer.state(at(START_US)) == PacerState(
        standard_available=15, reserve_available=100, historical_available=0, queued=0, paused_until_us=None
    )
    assert pacer.handle(enqueue(1, Importance.ORDER, historical=True), at(START_US)) == []
    assert pacer.handle(enqueue(2), at(START_US)) == [Granted(2)]
    assert pacer.deadline == START_US + MINUTE_US // 25
    assert drain(pacer) == [(START_US + MINUTE_US // 25, 1)]


def test_a_historical_request_waits_for_the_standard_budget_too() -> None:
    pacer = exhausted()
    assert pacer.handle(enqueue(1, historical=True), at(START_US)) == []
    assert pacer.deadline == START_US + TOKEN_US


@pytest.mark.parametrize(
    ("first", "second"), [(Importance.ORDER, Importance.READ), (Importance.READ, Importance.ORDER)], ids=["less", "more"]
)
def test_the_deadline_is_that_of_the_request_that_can_leave_first(first: Importance, second: Importance) -> None:
    pacer = exhausted(historical=True)
    for number in range(15):
        pacer.handle(enqueue(number), at(START_US))
    pacer.handle(enqueue(20, first, historical=True), at(START_US))
    assert pacer.deadline == START_US + MINUTE_US // 25
    pacer.handle(enqueue(21, second), at(START_US))
    assert pacer.deadline == START_US + TOKEN_US
    assert [number for _, number in drain(pacer)] == [21, 20]


def test_requests_leave_in_the_order_of_their_importance_and_arrival_decides_within_a_class() -> None:
    pacer = exhausted()
    for number, importance in enumerate([*reversed(EVERYTHING_ELSE), *EVERYTHING_ELSE]):
        historical = importance is Importance.READ and number < len(EVERYTHING_ELSE)
        assert pacer.handle(enqueue(number, importance, historical=historical), at(START_US)) == []
    assert [number for _, number in drain(pacer)] == [4, 5, 3, 6, 2, 7, 1, 8, 0, 9]


def test_a_cancel_leaves_at_once_whatever_else_waits() -> None:
    pacer = exhausted()
    for importance in EVERYTHING_ELSE:
        for number in range(100):
            pacer.handle(enqueue(1_000 * importance + number, importance), at(START_US))
    for number in range(RESERVE.burst):
        assert pacer.handle(enqueue(number, Importance.CANCEL), at(START_US)) == [Granted(number)]
    assert pacer.state(at(START_US)).reserve_available == 0


def test_more_cancels_than_the_budget_holds_go_first_at_its_rate() -> None:
    pacer = exhausted()
    for number in range(RESERVE.burst + 10):
        pacer.handle(enqueue(number, Importance.CANCEL), at(START_US))
    pacer.handle(enqueue(1_000, Importance.ORDER), at(START_US))
    left = drain(pacer)
    assert [number for _, number in left] == [*range(RESERVE.burst, RESERVE.burst + 10), 1_000]
    assert left[-1][0] - START_US <= 11 * TOKEN_US


def test_while_there_is_a_standard_token_a_cancel_leaves_the_reserve_alone() -> None:
    pacer = Pacer()
    for number in range(STANDARD.burst):
        pacer.handle(enqueue(number, Importance.CANCEL), at(START_US))
    state = pacer.state(at(START_US))
    assert (state.standard_available, state.reserve_available) == (0, RESERVE.burst)


def test_audits_use_a_quarter_of_the_budget_at_most() -> None:
    pacer = Pacer()
    for number in range(2_000):
        pacer.handle(enqueue(number, Importance.AUDIT), at(START_US))
    minutes = [(moment - START_US) // MINUTE_US for moment, _ in drain(pacer)]
    assert max(map(minutes.count, set(minutes))) <= AUDITS.per_minute == (STANDARD.per_minute + RESERVE.per_minute) // 4
    assert minutes[-1] == 4


def test_an_order_behind_any_number_of_audits_leaves_at_once() -> None:
    pacer, now = Pacer(), START_US
    for number in range(1_000):
        pacer.handle(enqueue(number, Importance.AUDIT), at(now))
    for number in range(1_000, 1_100):
        now += 40_000
        pacer.handle(TimerFired(), at(now))
        assert Granted(number) in pacer.handle(enqueue(number, Importance.ORDER), at(now))


def test_an_audit_leaves_half_of_the_burst_to_others() -> None:
    pacer = exhausted()
    assert pacer.handle(enqueue(1, Importance.AUDIT), at(START_US)) == []
    assert drain(pacer) == [(START_US + -(-11 * MINUTE_US // 1780), 1)]


def test_a_cancelled_request_never_leaves() -> None:
    pacer = exhausted()
    for number in range(3):
        pacer.handle(enqueue(number), at(START_US))
    assert pacer.state(at(START_US)).queued == 3
    assert pacer.handle(Cancel(1), at(START_US)) == []
    assert [number for _, number in drain(pacer)] == [0, 2]
    assert pacer.handle(Cancel(0), at(START_US)) == []
    assert pacer.handle(Cancel(99), at(START_US)) == []


def test_an_id_cannot_be_in_line_twice_but_can_come_again() -> None:
    pacer = exhausted()
    pacer.handle(enqueue(1), at(START_US))
    before = freeze(pacer)
    with pytest.raises(LocalProtocolError, match="request 1 is in line already"):
        pacer.handle(enqueue(1, Importance.ORDER), at(START_US))
    assert freeze(pacer) == before
    pacer.handle(Cancel(1), at(START_US))
    pacer.handle(enqueue(1), at(START_US))
    assert [number for _, number in drain(pacer)] == [1]


def test_a_refusal_stops_everything() -> None:
    pacer = Pacer()
    assert pacer.handle(Refused(), at(START_US)) == []
    assert [pacer.deadline] == [None]
    assert pacer.handle(enqueue(1, Importance.ORDER), at(START_US + 1)) == []
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


def after_a_pause(*importances: Importance) -> tuple[Pacer, list[Granted]]:
    """A pacer that has just let the first of some requests leave behind a pause."""
    pacer = Pacer()
    pacer.handle(Refused(), at(START_US))
    for number, importance in enumerate(importances):
        assert pacer.handle(enqueue(number, importance), at(START_US)) == []
    return pacer, pacer.handle(TimerFired(), at(START_US + PAUSE.base_us))


READS = [Importance.READ] * 3


def test_behind_a_pause_one_request_tries_and_the_others_follow_its_answer() -> None:
    pacer, granted = after_a_pause(*READS)
    assert granted == [Granted(0)]
    now = START_US + PAUSE.base_us
    assert pacer.deadline == now + TRIAL_US
    assert pacer.handle(Succeeded(), at(now + 1)) == [Granted(1), Granted(2)]


def test_a_trial_that_is_refused_pauses_again_and_costs_one_request() -> None:
    pacer, _ = after_a_pause(*READS)
    now = START_US + PAUSE.base_us + 1
    assert pacer.handle(Refused(), at(now)) == []
    assert pacer.deadline == now + 2 * PAUSE.base_us
    assert pacer.handle(TimerFired(), at(now + 2 * PAUSE.base_us)) == [Granted(1)]


def test_a_trial_without_an_answer_holds_nobody_up_for_long() -> None:
    pacer, _ = after_a_pause(*READS)
    until = START_US + PAUSE.base_us + TRIAL_US
    assert pacer.handle(TimerFired(), at(until - 1)) == []
    assert pacer.handle(TimerFired(), at(until)) == [Granted(1), Granted(2)]


def test_cancels_and_orders_wait_for_no_trial() -> None:
    pacer, granted = after_a_pause(Importance.LEDGER, Importance.CANCEL, Importance.ORDER, Importance.CANCEL)
    assert granted == [Granted(1), Granted(3), Granted(2)]
    assert pacer.handle(enqueue(4, Importance.ORDER), at(START_US + PAUSE.base_us)) == [Granted(4)]


def test_what_is_cancelled_never_leaves_and_lets_nothing_else_leave_by_itself() -> None:
    pacer = Pacer()
    pacer.handle(Refused(), at(START_US))
    for request_id in (1, 2, 3):
        assert pacer.handle(enqueue(request_id), at(START_US)) == []
    later = START_US + PAUSE.base_us
    assert pacer.handle(Cancel(1), at(later)) == []
    assert pacer.handle(Cancel(3), at(later)) == []
    assert pacer.handle(TimerFired(), at(later)) == [Granted(2)]


def test_an_early_timer_changes_nothing() -> None:
    pacer = exhausted()
    pacer.handle(enqueue(1), at(START_US))
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


importances = st.sampled_from(Importance)


@pytest.mark.hypothesis
def test_it_keeps_the_machine_laws() -> None:
    inputs = st.one_of(
        st.builds(Enqueue, request_id=st.integers(0, 9), importance=importances, historical=st.booleans()),
        st.builds(Cancel, st.integers(0, 9)),
        st.builds(Refused, st.none() | st.integers(0, 40_000_000)),
        st.just(Succeeded()),
    )
    small = Budget(per_minute=4, burst=2)
    check_machine(lambda: Pacer(standard=small, reserve=small, audits=small, historical=small), inputs, max_gap_us=40_000_000)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), importances, st.booleans(), st.integers(1, 30)),
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


def check_windows(moments: list[int], *budgets: Budget) -> None:
    """No stretch of time may see more than its budgets. It is enough to look at stretches that begin and end with a grant."""
    burst, per_minute = sum(budget.burst for budget in budgets), sum(budget.per_minute for budget in budgets)
    for first, start in enumerate(moments):
        for last in range(first, len(moments)):
            length_us = moments[last] - start
            count = last - first + 1
            assert (count - burst) * MINUTE_US <= (per_minute - burst) * length_us
            if length_us <= MINUTE_US:
                assert count <= per_minute


@examples(150)
@given(operations, budgets, budgets, budgets, budgets)
def test_budgets_order_and_completeness(
    operations: list[tuple[Any, ...]], standard: Budget, reserve: Budget, audits: Budget, historical: Budget
) -> None:
    pacer = Pacer(standard=standard, reserve=reserve, audits=audits, historical=historical)
    now = START_US
    waiting: dict[int, tuple[Importance, bool]] = {}
    kinds: dict[int, tuple[Importance, bool]] = {}
    grants: list[tuple[int, int]] = []
    paused_until = 0

    def take(out: list[Granted]) -> int:
        for granted in out:
            assert now >= paused_until
            kind = waiting[granted.request_id]
            ahead = [number for number, other in waiting.items() if other == kind]
            assert ahead[0] == granted.request_id, "first come, first served within a class"
            # Nothing leaves while something more important could have used the token, unless that lacks one of another budget.
            assert all(other[1] for other in waiting.values() if other[0] < kind[0])
            del waiting[granted.request_id]
            grants.append((now, granted.request_id))
        return len(out)

    for what, *arguments in operations:
        if what == "enqueue":
            importance, is_historical, count = arguments
            for _ in range(count):
                number = len(kinds)
                kinds[number] = waiting[number] = (importance, is_historical)
                take(pacer.handle(enqueue(number, importance, historical=is_historical), at(now)))
        elif what == "wait":
            now += arguments[0]
            take(pacer.handle(TimerFired(), at(now)))
        elif what == "deadline" and pacer.deadline is not None:
            now = max(now, pacer.deadline)
            assert take(pacer.handle(TimerFired(), at(now)))
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
        assert 0 <= state.reserve_available <= reserve.burst
        assert 0 <= state.historical_available <= historical.burst
        assert (pacer.deadline is None) == (not waiting)
        assert pacer.deadline is None or pacer.deadline > now
    while pacer.deadline is not None:
        now = pacer.deadline
        take(pacer.handle(TimerFired(), at(now)))
    assert not waiting

    def moments(*classes: Importance) -> list[int]:
        return [moment for moment, number in grants if kinds[number][0] in classes]

    check_windows(moments(*Importance), standard, reserve)
    check_windows(moments(*EVERYTHING_ELSE), standard)
    check_windows(moments(Importance.AUDIT), audits)
    check_windows([moment for moment, number in grants if kinds[number][1]], historical)


@examples(150)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("enqueue"), st.sampled_from(EVERYTHING_ELSE), st.integers(1, 400)),
            st.tuples(st.just("enqueue"), st.just(Importance.CANCEL), st.integers(1, 40)),
            st.tuples(st.just("pass"), st.integers(0, 20_000_000)),
            st.tuples(st.just("refused"), st.none() | st.integers(0, 90_000_000)),
            st.tuples(st.just("succeeded")),
        ),
        max_size=30,
    )
)
def test_a_cancel_leaves_within_100_ms_unless_the_exchange_asked_for_a_pause_or_more_wait_than_the_budget_holds(
    steps: list[tuple[Any, ...]],
) -> None:
    pacer, now, requests = Pacer(), START_US, 0
    due: dict[int, int] = {}
    """When each waiting cancel has to have left."""
    cancels: set[int] = set()

    def take(out: list[Granted]) -> None:
        for granted in out:
            assert due.pop(granted.request_id, now) >= now
            cancels.discard(granted.request_id)

    def let_pass(until_us: int) -> None:
        nonlocal now
        while (deadline := pacer.deadline) is not None and deadline <= until_us:
            now = max(now, deadline)
            take(pacer.handle(TimerFired(), at(now)))
        now = until_us

    for what, *arguments in steps:
        if what == "enqueue":
            importance, count = arguments
            state = pacer.state(at(now))
            held = state.standard_available + state.reserve_available
            for number in range(requests, requests + count):
                if importance is Importance.CANCEL:
                    # 100 ms bring in two tokens for certain, and a cancel is ahead of everything but other cancels.
                    if state.paused_until_us is None and len(cancels) + 1 + number - requests <= held + 2:
                        due[number] = now + 100_000
                    cancels.add(number)
            for number in range(requests, requests + count):
                take(pacer.handle(enqueue(number, importance), at(now)))
            requests += count
        elif what == "pass":
            let_pass(now + arguments[0])
        elif what == "refused":
            take(pacer.handle(Refused(*arguments), at(now)))
            due.clear()
        else:
            take(pacer.handle(Succeeded(), at(now)))
    let_pass(now + 100_001)
    assert not due

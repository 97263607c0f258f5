from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.rest.exchange_clock import (
    DRIFT_PPM,
    KEPT,
    PROBE_AGAIN_US,
    REFRESH_US,
    STEP_US,
    TRANSITIONS,
    WATCH_US,
    ClockInput,
    ClockProbeFailed,
    ClockSampled,
    ClockStepped,
    ExchangeClock,
    MeasureClock,
    StartMeasuring,
    State,
    StopMeasuring,
)
from backpack_proto.testing.laws import check_machine, freeze
from hypothesis_profiles import examples

EPOCH_US = 1_788_285_151_083_000
SECOND_US = 1_000_000


def at(mono_us: int, *, set_us: int = 0) -> Now:
    """A moment. `set_us` is how far the wall clock has been set since the start."""
    return Now(mono_us, EPOCH_US + mono_us + set_us)


def started() -> ExchangeClock:
    clock = ExchangeClock()
    assert clock.handle(StartMeasuring(), at(0)) == [MeasureClock()]
    return clock


def measured(round_trip_us: int = 40_000, offset_us: int = 7_000_000) -> ExchangeClock:
    """A clock that has measured the exchange to be ahead by `offset_us`, at the moment `round_trip_us`."""
    clock = started()
    server_us = EPOCH_US + round_trip_us // 2 + offset_us
    assert server_us % 1000 == 0
    assert clock.handle(ClockSampled(sent=at(0), server_ms=server_us // 1000), at(round_trip_us)) == []
    return clock


def test_it_is_idle_until_told_to_start() -> None:
    clock = ExchangeClock()
    assert (clock.state, clock.deadline) == (State.IDLE, None)
    assert clock.handle(TimerFired(), at(10**9)) == []
    assert clock.offset_us is None
    assert clock.error_us(at(5)) is None
    assert clock.exchange_unix_us(at(5)) == EPOCH_US + 5


def test_half_the_round_trip_and_a_millisecond_bound_the_error() -> None:
    clock = measured(round_trip_us=40_000, offset_us=7_000_000)
    assert clock.state is State.RESTING
    assert clock.offset_us == 7_000_000
    # Drift counts from the moment of sending: 100 ppm of 40 ms.
    assert clock.error_us(at(40_000)) == 20_000 + 1_000 + 4
    assert clock.exchange_unix_us(at(50_000)) == EPOCH_US + 50_000 + 7_000_000


def test_an_odd_round_trip_rounds_the_bound_up() -> None:
    clock = started()
    clock.handle(ClockSampled(sent=at(0), server_ms=EPOCH_US // 1000), at(1))
    assert clock.offset_us == -1
    assert clock.error_us(at(1)) == 1 + 1_000 + 1


def test_the_bound_ages_by_a_hundred_parts_in_a_million() -> None:
    clock = measured(round_trip_us=0)
    assert DRIFT_PPM == 100
    assert clock.error_us(at(0)) == 1_000
    assert clock.error_us(at(600 * SECOND_US)) == 1_000 + 60_000


def test_it_measures_again_after_the_refresh_interval() -> None:
    clock = measured(round_trip_us=0)
    now = 0
    fired: list[Any] = []
    while not fired:
        assert clock.deadline is not None
        assert clock.deadline > now
        now = clock.deadline
        fired = clock.handle(TimerFired(), at(now))
    assert fired == [MeasureClock()]
    assert now == REFRESH_US
    assert clock.state is State.MEASURING


def test_a_failure_is_retried_sooner() -> None:
    clock = started()
    assert clock.handle(ClockProbeFailed(), at(500)) == []
    outputs = {now: clock.handle(TimerFired(), at(now)) for now in range(WATCH_US, PROBE_AGAIN_US + WATCH_US, WATCH_US // 10)}
    assert [now for now, out in outputs.items() if out == [MeasureClock()]] == [PROBE_AGAIN_US + WATCH_US // 10]


def test_a_failure_keeps_what_was_known() -> None:
    clock = measured()
    clock.handle(StartMeasuring(), at(SECOND_US))
    clock.handle(ClockProbeFailed(), at(2 * SECOND_US))
    assert clock.offset_us == 7_000_000


def test_while_it_measures_only_the_wall_clock_is_watched() -> None:
    clock = started()
    clock.handle(ClockProbeFailed(), at(1))
    now = 0
    while clock.state is State.RESTING:
        assert clock.deadline is not None
        now = clock.deadline
        clock.handle(TimerFired(), at(now))
    assert now == PROBE_AGAIN_US + 1
    assert clock.deadline == now + WATCH_US


def test_the_intervals_are_those_of_the_documentation() -> None:
    assert (REFRESH_US, PROBE_AGAIN_US, WATCH_US, STEP_US) == (600 * SECOND_US, 30 * SECOND_US, 10 * SECOND_US, SECOND_US // 2)


def test_start_measures_at_once_but_never_twice_at_a_time() -> None:
    clock = started()
    assert clock.handle(StartMeasuring(), at(1)) == []
    clock.handle(ClockProbeFailed(), at(2))
    assert clock.handle(StartMeasuring(), at(3)) == [MeasureClock()]


@pytest.mark.parametrize("earlier", [[], [ClockProbeFailed()]])
def test_stopped_it_wants_nothing_and_can_start_again(earlier: list[Any]) -> None:
    clock = started()
    for given_ in earlier:
        clock.handle(given_, at(1))
    assert clock.handle(StopMeasuring(), at(2)) == []
    assert (clock.state, clock.deadline) == (State.IDLE, None)
    assert clock.handle(StopMeasuring(), at(3)) == []
    assert clock.handle(StartMeasuring(), at(5)) == [MeasureClock()]


@pytest.mark.parametrize("answer", [ClockProbeFailed(), ClockSampled(sent=at(0), server_ms=EPOCH_US // 1000)])
def test_an_answer_that_nobody_waits_for_is_the_callers_error_and_leaves_no_trace(answer: ClockInput) -> None:
    idle, resting = ExchangeClock(), measured()
    for clock in (idle, resting):
        before = freeze(clock)
        with pytest.raises(LocalProtocolError, match=f"{type(answer).__name__} is impossible in State"):
            clock.handle(answer, at(50_000))
        assert freeze(clock) == before


def test_the_table_is_honest() -> None:
    pairs = {(state, given_) for state, given_, _ in TRANSITIONS.edges}
    assert len(pairs) == 10 < len(State) * 5
    assert {after for _, _, after in TRANSITIONS.edges} == set(State)


def again(clock: ExchangeClock, sample: ClockSampled, now: Now) -> None:
    """One more measurement."""
    assert clock.handle(StartMeasuring(), sample.sent) == [MeasureClock()]
    assert clock.handle(sample, now) == []


def test_the_narrowest_of_the_recent_samples_counts() -> None:
    clock = measured(round_trip_us=20_000, offset_us=1_000_000)
    for count in range(1, KEPT + 1):
        now = count * SECOND_US
        worse = ClockSampled(sent=at(now), server_ms=(EPOCH_US + now) // 1000 + 2_000)
        again(clock, worse, at(now + 500_000))
        expected = 1_000_000 if count < KEPT else 1_750_000
        assert clock.offset_us == expected


def test_of_equal_samples_the_latest_counts_for_it_has_drifted_least() -> None:
    clock = measured(round_trip_us=0, offset_us=1_000_000)
    again(clock, ClockSampled(sent=at(SECOND_US), server_ms=(EPOCH_US + SECOND_US) // 1000 + 1_001), at(SECOND_US))
    assert clock.offset_us == 1_001_000


@pytest.mark.parametrize("step_us", [STEP_US, -STEP_US, 3600 * SECOND_US])
def test_a_jump_of_the_wall_clock_is_told_and_measured(step_us: int) -> None:
    clock = measured(round_trip_us=0)
    assert clock.deadline == WATCH_US
    assert clock.handle(TimerFired(), at(WATCH_US, set_us=step_us)) == [ClockStepped(step_us=step_us), MeasureClock()]
    # Told once. And the step counts as error until a new measurement.
    now = at(WATCH_US + 5, set_us=step_us)
    error = clock.error_us(now)
    assert error is not None
    assert error >= abs(step_us)
    assert clock.handle(TimerFired(), at(2 * WATCH_US, set_us=step_us)) == []
    fresh = ClockSampled(sent=now, server_ms=EPOCH_US // 1000)
    assert clock.handle(fresh, now) == []
    assert clock.offset_us == -(WATCH_US + 5 + step_us)
    assert clock.error_us(now) == 1_000


def test_a_jump_is_told_even_if_a_measurement_was_asked_for_in_between() -> None:
    clock = measured(round_trip_us=0)
    assert clock.handle(StartMeasuring(), at(WATCH_US - 1, set_us=STEP_US)) == [MeasureClock()]
    assert clock.handle(TimerFired(), at(WATCH_US, set_us=STEP_US)) == [ClockStepped(step_us=STEP_US)]


def test_a_stop_forgets_the_wall_clock_that_was_watched() -> None:
    clock = measured(round_trip_us=0)
    clock.handle(StopMeasuring(), at(1))
    clock.handle(StartMeasuring(), at(SECOND_US, set_us=STEP_US))
    assert clock.handle(TimerFired(), at(SECOND_US + WATCH_US, set_us=STEP_US)) == []


def test_a_small_step_is_not_told_but_widens_the_bound() -> None:
    clock = measured(round_trip_us=0)
    assert clock.handle(TimerFired(), at(WATCH_US, set_us=STEP_US - 1)) == []
    assert clock.error_us(at(WATCH_US, set_us=STEP_US - 1)) == 1_000 + 1_000 + STEP_US - 1


def test_a_jump_during_a_measurement_is_told_and_asks_for_no_second_one() -> None:
    clock = started()
    assert clock.handle(TimerFired(), at(WATCH_US, set_us=STEP_US)) == [ClockStepped(step_us=STEP_US)]
    assert clock.state is State.MEASURING


def test_a_sample_from_the_future_is_the_callers_error_and_leaves_no_trace() -> None:
    clock = started()
    before = freeze(clock)
    with pytest.raises(LocalProtocolError, match="before it was sent"):
        clock.handle(ClockSampled(sent=at(SECOND_US), server_ms=1), at(SECOND_US - 1))
    assert freeze(clock) == before


def test_another_input_is_refused_with_state_and_name() -> None:
    given_: Any = MeasureClock()
    with pytest.raises(LocalProtocolError, match=r"MeasureClock is impossible in State\.IDLE"):
        ExchangeClock().handle(given_, at(0))


@pytest.mark.hypothesis
def test_it_keeps_the_machine_laws() -> None:
    inputs = st.one_of(
        st.sampled_from([StartMeasuring(), StopMeasuring(), ClockProbeFailed(), MeasureClock()]),
        st.builds(ClockSampled, sent=st.builds(at, st.integers(0, 10**12)), server_ms=st.integers(0, 10**13)),
    )
    check_machine(ExchangeClock, inputs)


@examples(100)
@given(
    st.integers(-(10**9), 10**9),
    st.integers(-DRIFT_PPM, DRIFT_PPM),
    st.lists(
        st.tuples(
            st.sampled_from(["sample", "sample", "timer", "deadline", "fail", "start", "stop", "set"]),
            st.integers(0, 400_000_000),
            st.integers(0, 3_000_000),
            st.integers(0, 3_000_000),
            st.integers(-2_000_000, 2_000_000),
        ),
        max_size=25,
    ),
)
def test_the_truth_is_always_inside_the_bound(
    offset_us: int, drift_ppm: int, steps: list[tuple[str, int, int, int, int]]
) -> None:
    """The exchange's clock is off, drifts, and answers with unequal ways there and back. Our wall clock is set now and then."""
    clock = ExchangeClock()
    mono_us = set_us = 0

    def truth(mono: int) -> int:
        return EPOCH_US + mono + offset_us + mono * drift_ppm // 1_000_000

    for what, wait_us, there_us, back_us, jump_us in steps:
        mono_us += wait_us
        if what == "sample":
            sent = at(mono_us, set_us=set_us)
            server_ms = truth(mono_us + there_us) // 1000
            mono_us += there_us + back_us
            clock.handle(StartMeasuring(), sent)
            clock.handle(ClockSampled(sent=sent, server_ms=server_ms), at(mono_us, set_us=set_us))
        elif what == "set":
            set_us += jump_us
        elif what == "deadline" and clock.deadline is not None:
            mono_us = max(mono_us, clock.deadline)
            clock.handle(TimerFired(), at(mono_us, set_us=set_us))
            assert clock.deadline is not None
            assert clock.deadline > mono_us
        elif what == "timer":
            before = freeze(clock)
            early = clock.deadline is None or clock.deadline > mono_us
            out = clock.handle(TimerFired(), at(mono_us, set_us=set_us))
            if early:
                assert out == []
                assert freeze(clock) == before
        elif what in ("fail", "start", "stop"):
            inputs: dict[str, Any] = {"fail": ClockProbeFailed(), "start": StartMeasuring(), "stop": StopMeasuring()}
            if what != "fail" or clock.state is State.MEASURING:
                clock.handle(inputs[what], at(mono_us, set_us=set_us))
        now = at(mono_us, set_us=set_us)
        error_us = clock.error_us(now)
        if error_us is not None:
            assert abs(clock.exchange_unix_us(now) - truth(mono_us)) <= error_us + 1  # the test's own drift is rounded

"""How late data are is judged by the exchange's clock and our monotonic one."""

from __future__ import annotations

from backpack_proto.connection.lateness import LEAP_US, SLOTS, WINDOW_US, Lateness, WindowMinimum

SECOND = 1_000_000
MINUTE = 60 * SECOND
A, B = "depth.SOL_USDC", "markPrice.SOL_USDC_PERP"


def test_a_minimum_forgets_what_is_older_than_its_window() -> None:
    minimum = WindowMinimum()
    values = [minimum.value]
    for value, mono_us in ((5, 0), (9, MINUTE), (8, WINDOW_US), (9, 3 * WINDOW_US)):
        minimum.add(value, mono_us)
        values.append(minimum.value)
    assert values == [None, 5, 5, 8, 9]


def test_an_empty_window_keeps_the_last_minimum() -> None:
    minimum = WindowMinimum()
    minimum.add(5, 0)
    minimum.add(7, 10 * WINDOW_US)
    assert minimum.value == 7
    minimum.add(6, 10 * WINDOW_US + 1)
    assert minimum.value == 6


def test_a_minimum_over_all_slots_is_that_of_the_values_in_them() -> None:
    minimum = WindowMinimum()
    values = [(number * 7919) % 101 for number in range(60)]
    for number, value in enumerate(values):
        minimum.add(value, number * MINUTE)
        assert minimum.value == min(values[max(0, number - SLOTS) : number + 1][-SLOTS:])


def known(*, round_trip_us: int = 0) -> Lateness:
    """Two streams have come without delay, on clocks that show the same."""
    lateness = Lateness()
    lateness.answer(round_trip_us, 0)
    lateness.frame(A, 100, 100)
    lateness.frame(B, 100, 100)
    assert lateness.offset_us == -round_trip_us
    return lateness


def test_the_first_frame_counts_once_a_second_stream_agrees() -> None:
    lateness = Lateness()
    assert not lateness.frame(A, 5 * SECOND, 7 * SECOND)
    assert not lateness.frame(A, 6 * SECOND, 8 * SECOND)
    assert lateness.offset_us is None
    assert lateness.frame(B, 6 * SECOND, 8 * SECOND)
    assert lateness.offset_us == 2 * SECOND


def test_the_first_frame_counts_once_the_exchange_has_told_its_time() -> None:
    lateness = Lateness()
    lateness.answer(300, 10 * SECOND, server_us=4 * SECOND)
    assert lateness.offset_us == 6 * SECOND - 300
    assert lateness.frame(A, 5 * SECOND, 11 * SECOND)


def test_the_shortest_round_trip_counts_against_us() -> None:
    lateness = known(round_trip_us=400)
    lateness.answer(300, 200)
    assert lateness.offset_us == -300
    lateness.answer(900, 300)
    assert lateness.offset_us == -300


def test_a_frame_from_the_future_proves_nothing_until_a_second_stream_shows_it() -> None:
    lateness = known()
    future = 100 + 2 * LEAP_US
    assert not lateness.frame(A, future, 100)
    assert not lateness.frame(A, future, 100), "the same stream is no second witness"
    assert lateness.offset_us == 0
    assert lateness.frame(A, 200, 200), "others go on counting"
    assert lateness.frame(B, future, 100)
    assert lateness.offset_us == -2 * LEAP_US


def test_two_streams_that_disagree_about_the_future_are_no_witnesses() -> None:
    lateness = known()
    assert not lateness.frame(A, 100 + 2 * LEAP_US, 100)
    assert not lateness.frame(B, 100 + 5 * LEAP_US, 100)
    assert lateness.offset_us == 0


def test_a_small_step_counts_at_once() -> None:
    lateness = known()
    assert lateness.frame(A, 100 + LEAP_US, 100)
    assert lateness.offset_us == -LEAP_US


def test_a_path_that_was_late_from_the_beginning_is_found_out_by_the_exchange_s_time() -> None:
    lateness = Lateness()
    lateness.frame(A, 0, 8 * SECOND)
    lateness.frame(B, 0, 8 * SECOND)
    assert lateness.offset_us == 8 * SECOND
    lateness.answer(2_000, 9 * SECOND, server_us=9 * SECOND - 1_000)
    assert lateness.offset_us == 1_000 - 2_000

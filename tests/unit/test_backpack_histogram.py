"""Percentiles that are never too low, and at most 6.25 % too high."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.histogram import Histogram

LONGEST_US = 2**54
"""More than five hundred years."""


@given(st.lists(st.integers(0, LONGEST_US), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_near_the_duration_that_it_stands_for(durations: list[int], share: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    # The first duration, in order, of which there are as many that are not longer.
    rank = max(-int(-len(durations) * share // 1), 1)
    exact = sorted(durations)[rank - 1]
    found = histogram.percentile(share)
    assert found is not None
    assert exact <= found <= exact * 1.0625


@given(
    durations=st.lists(st.one_of(st.integers(-9, 99), st.integers(-(2**40), 2**60), st.integers(1_000, 9_000))),
    runs=st.lists(
        st.lists(st.one_of(st.integers(-9, 99), st.integers(1_000, 9_000)), max_size=9).map(lambda few: few * 50), max_size=9
    ),
)
def test_durations_that_are_recorded_together_count_as_each_alone(durations: list[int], runs: list[list[int]]) -> None:
    """However many there are at once, and whatever was recorded and asked for in between."""
    together, alone = Histogram(), Histogram()
    for run in (*runs, durations):
        together.record_all(run)
        for duration in run:
            alone.record(duration)
        together.record(7)
        alone.record(7)
        if len(run) % 2:
            assert together.percentile(0.9) == alone.percentile(0.9)
    shares = [share / 200 for share in range(201)]
    assert [together.percentile(share) for share in shares] == [alone.percentile(share) for share in shares]


def test_nothing_recorded_has_no_percentile() -> None:
    assert Histogram().percentile(0.5) is None


@pytest.mark.parametrize(("duration_us", "told"), [(-5, 0), (0, 0), (1, 1), (31, 31), (32, 33), (2**200, 2**56 - 1)])
def test_durations_at_the_edges(duration_us: int, told: int) -> None:
    histogram = Histogram()
    histogram.record(duration_us)
    assert histogram.percentile(0.99) == told


def test_half_and_nearly_all_of_what_was_recorded() -> None:
    histogram = Histogram()
    for duration in [900] * 97 + [70_000] * 3:
        histogram.record(duration)
    assert histogram.percentile(0.5) == 927
    assert histogram.percentile(0.99) == 73_727


def test_reading_the_counts_changes_no_percentile() -> None:
    histogram = Histogram()
    histogram.record_all(range(3_000))
    histogram.record(70_000)
    before = histogram.percentile(0.5)
    assert histogram.durations == histogram.durations
    assert histogram.percentile(0.5) == before

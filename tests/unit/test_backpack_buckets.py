"""Numbers of durations up to round bounds, and their sum, which are exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.buckets import BOUNDS_US, Buckets, Durations
from backpack_proto.histogram import Histogram


@given(
    st.lists(
        st.one_of(
            st.lists(st.one_of(st.integers(-9, 2**60), st.integers(-50, 99), st.sampled_from(BOUNDS_US)), max_size=30),
            st.tuples(st.one_of(st.integers(-9, 2**40), st.sampled_from(BOUNDS_US)), st.integers(1, 3_000)),
        ),
        max_size=9,
    )
)
def test_counts_up_to_a_bound_and_the_sum_are_exact_and_never_become_smaller(steps: list[list[int] | tuple[int, int]]) -> None:
    histogram, buckets = Histogram(), Buckets()
    recorded: list[int] = []
    earlier = histogram.durations
    assert earlier == Durations(at_most=(0,) * len(BOUNDS_US), count=0, sum_us=0)
    for step in steps:
        if isinstance(step, tuple):
            histogram.record(*step)
            buckets.record(*step)
            recorded += [step[0]] * step[1]
        else:
            histogram.record_all(step)
            buckets.record_sorted(sorted(step))
            recorded += step
        later = histogram.durations
        assert buckets.durations == later
        assert later.at_most == tuple(sum(duration <= bound for duration in recorded) for bound in BOUNDS_US)
        assert (later.count, later.sum_us) == (len(recorded), sum(max(duration, 0) for duration in recorded))
        assert all(before <= after for before, after in zip(earlier.at_most, later.at_most, strict=True))
        earlier = later


def test_a_duration_at_a_bound_is_within_it() -> None:
    buckets = Buckets()
    buckets.record(1_000)
    buckets.record(1_001, 2)
    found = buckets.durations
    at = BOUNDS_US.index(1_000)
    assert (found.at_most[at - 1], found.at_most[at], found.at_most[at + 1]) == (0, 1, 3)
    assert (found.count, found.sum_us) == (3, 3_002)

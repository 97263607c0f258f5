"""Strategies for schedules of faults."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st

from backpack_proto.errors import LocalProtocolError
from backpack_proto.hints import one_of
from backpack_proto.testing.faults import FAULTS, FRAME_FAULTS, MOMENTARY, Episode, FaultName

__all__ = ["fault_schedules"]


def fault_schedules(
    *faults: FaultName, duration_ms: int = 60_000, max_episodes: int = 4
) -> st.SearchStrategy[tuple[Episode, ...]]:
    """Return a strategy for schedules of these kinds of faults, or of all by default. The simplest schedule is the empty one.

    All episodes lie in the first `duration_ms` of a simulation. `Simulation(..., faults=schedule)` plays one.

    Raises:
        LocalProtocolError: there is no such fault.
    """
    for fault in faults:
        if fault not in FAULTS:
            raise LocalProtocolError(one_of("faults", fault, tuple(FAULTS)))
    kinds = st.one_of([_episode(fault, duration_ms) for fault in faults or FAULTS])
    return st.lists(kinds, max_size=max_episodes).map(_in_order)


def _episode(fault: FaultName, duration_ms: int) -> st.SearchStrategy[Episode]:
    every = st.integers(1, 8) if fault in FRAME_FAULTS else st.just(1)
    start_ms = st.integers(0, duration_ms)
    if fault in MOMENTARY:
        return st.builds(Episode, fault=st.just(fault), start_ms=start_ms)
    span = partial(_span, fault, latest_ms=duration_ms)
    return st.builds(span, start_ms, st.integers(0, duration_ms), every)


def _span(fault: FaultName, start_ms: int, duration_ms: int, every: int, *, latest_ms: int) -> Episode:
    """Make an episode that ends in time, so that no draw depends on another one."""
    return Episode(fault=fault, start_ms=start_ms, duration_ms=min(duration_ms, latest_ms - start_ms), every=every)


def _in_order(episodes: list[Episode]) -> tuple[Episode, ...]:
    return tuple(sorted(episodes, key=lambda episode: episode.start_ms))

"""The path is proved by recent data alone. See docs/concepts.md for its bounds."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from backpack_proto.claims import PATH_BOUND_US, PathClaim
from backpack_proto.connection.path import (
    FIRST_DATA_US,
    GRACE_US,
    LATE_TIMER_US,
    SILENCE_US,
    Path,
    PathInput,
    PathOutput,
    PathState,
)
from backpack_proto.connection.signals import (
    CanaryRequested,
    ConnectionLost,
    DataReceived,
    GiveUp,
    PathExpired,
    PathProved,
    RoundTripMeasured,
)
from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import Connected, ReadingPaused, ReadingResumed, TimerFired
from backpack_proto.testing.laws import FakeClock, check_machine
from hypothesis_profiles import examples

SECOND = 1_000_000
STREAM, OTHER = "depth.SOL_USDC", "markPrice.SOL_USDC_PERP"


class Driven:
    """A path, its clock, and an exchange whose clock shows something else."""

    def __init__(self, *, bounded: bool = True) -> None:
        self.clock = FakeClock()
        self.claim = PathClaim(bounded=bounded)
        self.path = Path(self.claim)
        self.ahead_us = 1_700_000_000 * SECOND - self.clock.mono_us

    def give(self, *inputs: PathInput) -> list[PathOutput]:
        return [output for given in inputs for output in self.path.handle(given, self.clock.now)]

    def data(self, *, late_us: int = 0, stream: str = STREAM) -> list[PathOutput]:
        return self.give(DataReceived(stream, self.clock.mono_us + self.ahead_us - late_us))

    def time(self, round_trip_us: int = 0) -> list[PathOutput]:
        """The exchange tells its time. The answer takes half of the round trip."""
        return self.give(RoundTripMeasured(round_trip_us, self.clock.mono_us + self.ahead_us - round_trip_us // 2))

    def fire(self) -> list[PathOutput]:
        self.clock.advance_to(self.path.deadline)
        return self.give(TimerFired())


def connected(*, canary: bool = True, proved: bool = True) -> Driven:
    driven = Driven()
    driven.give(Connected())
    if canary:
        driven.give(CanaryRequested())
    if proved:
        driven.time()
        assert driven.data() == [PathProved()]
        assert driven.path.doubt(driven.clock.now) is None
    return driven


def test_a_connection_is_not_proved_by_being_there() -> None:
    driven = connected(proved=False)
    assert not driven.claim.holds(driven.clock.mono_us)
    assert driven.path.doubt(driven.clock.now) == "no data have proved the path of the connection yet"


def test_recent_data_prove_it_and_their_age_ends_the_proof() -> None:
    driven = connected()
    driven.clock.advance(SECOND)
    assert driven.data() == []
    assert driven.path.deadline == driven.clock.mono_us + PATH_BOUND_US
    assert driven.fire() == [PathExpired("no data have come for 5.0 s")]
    assert driven.path.state is PathState.EXPIRED
    assert driven.data() == [PathProved()]


def test_data_that_do_not_say_when_they_were_sent_prove_nothing() -> None:
    driven = connected(proved=False)
    assert driven.give(DataReceived(STREAM, None)) == []
    assert driven.path.state is PathState.UNPROVED


@pytest.mark.parametrize(("late_s", "live", "well"), [(1, True, True), (3, True, False), (4, True, False), (8, False, False)])
def test_data_are_as_old_as_the_exchange_says(late_s: int, *, live: bool, well: bool) -> None:
    driven = connected()
    for _ in range(100):
        driven.clock.advance(SECOND // 10)
        driven.data(late_us=late_s * SECOND)
        driven.give(TimerFired())
    assert driven.claim.holds(driven.clock.mono_us) is live
    assert driven.claim.age_us(driven.clock.mono_us) == late_s * SECOND
    assert driven.path.doubt(driven.clock.now) == (None if well else f"data are {late_s}.0 s late")


def test_late_from_the_beginning_is_late() -> None:
    driven = connected(proved=False)
    driven.data(late_us=8 * SECOND)
    assert driven.data(late_us=8 * SECOND, stream=OTHER) == [PathProved()], "nothing says that they are late"
    assert driven.time() == [PathExpired("data are 8.0 s late")]


def test_behind_a_path_that_is_slow_both_ways_nothing_is_live() -> None:
    """Clocks cannot tell a slow path from one that is far away, so it counts against us."""
    driven = Driven()
    driven.give(Connected(), CanaryRequested())
    driven.clock.advance(12 * SECOND)
    driven.time(round_trip_us=12 * SECOND)
    for _ in range(100):
        driven.clock.advance(SECOND)
        assert driven.data(late_us=6 * SECOND) == []
    assert driven.path.doubt(driven.clock.now) == "data are 12.0 s late"


def test_an_exchange_whose_clock_was_ahead_for_a_while_is_not_trusted_for_as_long_as_it_was_ahead() -> None:
    """Its newest time lies in the future when ten minutes later the clocks are known again: that is no proof of anything."""
    driven = connected()
    hour_us = 3_600 * SECOND
    driven.data(late_us=-hour_us)
    driven.data(late_us=-hour_us, stream=OTHER)
    for _ in range(11 * 60):
        driven.clock.advance(SECOND)
        driven.data()
        driven.give(TimerFired())
    assert driven.claim.holds(driven.clock.mono_us), "ten minutes later all is as it was"
    for _ in range(20):
        driven.clock.advance(SECOND)
        driven.data(late_us=8 * SECOND)
        driven.give(TimerFired())
    assert not driven.claim.holds(driven.clock.mono_us)
    assert driven.claim.age_us(driven.clock.mono_us) == 8 * SECOND


def test_a_mute_connection_is_given_up_when_it_has_never_spoken() -> None:
    driven = connected(proved=False)
    began_us = driven.clock.mono_us
    assert driven.fire() == [GiveUp("no data for 10.0 s, though the exchange has streams that come every second")]
    assert driven.clock.mono_us - began_us == FIRST_DATA_US
    assert driven.path.deadline is None


def test_a_connection_that_falls_mute_is_given_up_later() -> None:
    driven = connected()
    began_us = driven.clock.mono_us
    assert [type(output) for output in driven.fire()] == [PathExpired]
    assert [type(output) for output in driven.fire()] == [GiveUp]
    assert driven.clock.mono_us - began_us == SILENCE_US


def test_without_a_canary_silence_is_nobodys_fault() -> None:
    driven = connected(canary=False)
    driven.fire()
    assert driven.path.deadline is None


def test_a_connection_that_delivers_late_is_not_given_up() -> None:
    driven = connected()
    for _ in range(60):
        driven.clock.advance(SECOND)
        outputs = driven.data(late_us=20 * SECOND) + driven.give(TimerFired())
        assert not any(isinstance(output, GiveUp) for output in outputs)


def test_while_nothing_is_read_the_proof_expires_and_the_connection_stays() -> None:
    driven = connected()
    driven.give(ReadingPaused())
    assert [type(output) for output in driven.fire()] == [PathExpired]
    paused_us = driven.path.deadline
    driven.clock.advance(100 * SECOND)
    driven.give(ReadingResumed())
    assert (paused_us, driven.path.deadline) == (None, driven.clock.mono_us + GRACE_US)
    driven.data()
    assert driven.path.state is PathState.PROVED


def test_a_program_that_did_not_run_reads_first_and_judges_then() -> None:
    driven = connected()
    driven.clock.advance_to(driven.path.deadline)
    driven.clock.advance(LATE_TIMER_US + 20 * SECOND)
    assert not driven.claim.holds(driven.clock.mono_us)
    (output,) = driven.give(TimerFired())
    assert isinstance(output, PathExpired)
    assert driven.path.deadline == driven.clock.mono_us + GRACE_US
    assert driven.data() == [PathProved()]


def test_the_end_of_the_connection_ends_its_proof() -> None:
    driven = connected()
    driven.give(ConnectionLost())
    assert (driven.claim.proved_us, driven.path.deadline, driven.path.doubt(driven.clock.now)) == (None, None, None)
    driven.give(Connected())
    assert driven.data() == [PathProved()], "what is known of the clocks stays"


def test_a_path_that_is_not_watched_is_never_doubted() -> None:
    driven = Driven(bounded=False)
    driven.give(Connected())
    driven.clock.advance(10**12)
    assert (driven.path.deadline, driven.path.doubt(driven.clock.now)) == (None, None)


def test_a_canary_without_a_connection_is_impossible() -> None:
    with pytest.raises(LocalProtocolError, match=r"CanaryRequested is impossible in PathState\.DOWN"):
        Driven().give(CanaryRequested())


EMITTED = st.none() | st.integers(0, 60 * SECOND).map(lambda us: us + 271_828 * SECOND)
INPUTS: st.SearchStrategy[PathInput] = st.one_of(
    st.just(Connected()),
    st.just(ConnectionLost()),
    st.just(CanaryRequested()),
    st.builds(DataReceived, st.sampled_from([STREAM, OTHER]), EMITTED),
    st.builds(RoundTripMeasured, st.integers(0, SECOND), EMITTED),
    st.just(ReadingPaused()),
    st.just(ReadingResumed()),
)


@pytest.mark.hypothesis
@pytest.mark.parametrize("bounded", [True, False])
def test_the_path_keeps_the_machine_laws(*, bounded: bool) -> None:
    check_machine(
        lambda: Path(PathClaim(bounded=bounded)), INPUTS, max_gap_us=20 * SECOND, max_examples=examples(200).max_examples
    )

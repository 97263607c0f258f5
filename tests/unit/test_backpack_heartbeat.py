from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from backpack_proto.connection.heartbeat import (
    PAUSED_PONG_US,
    PING_TIMEOUT_US,
    SILENCE_US,
    TRANSITIONS,
    Heartbeat,
    HeartbeatInput,
    HeartbeatState,
)
from backpack_proto.connection.signals import ConnectionLost, DataHeard, GiveUp
from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import Connected, PingReceived, PongReceived, ReadingPaused, ReadingResumed, TimerFired
from backpack_proto.outputs import Output, PeerSilent, SendPing, SendPong
from backpack_proto.testing.laws import FakeClock, check_machine, freeze

SECOND = 1_000_000

ONE_OF_EACH: list[HeartbeatInput] = [
    Connected(),
    ConnectionLost(),
    DataHeard(),
    PingReceived(b"1"),
    PongReceived(b"1"),
    ReadingPaused(),
    ReadingResumed(),
]
INPUTS = st.sampled_from(ONE_OF_EACH)


class Driven:
    """A heartbeat and its clock. What changes is read by methods, for mypy takes a property to stay as it was."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.heartbeat = Heartbeat()

    def give(self, given: HeartbeatInput, after_us: int = 0) -> list[Output | GiveUp]:
        return self.heartbeat.handle(given, self.clock.advance(after_us))

    def fire(self, late_us: int = 0) -> list[Output | GiveUp]:
        self.clock.advance_to(self.heartbeat.deadline)
        return self.heartbeat.handle(TimerFired(), self.clock.advance(late_us))

    def wait_us(self) -> int | None:
        deadline = self.heartbeat.deadline
        return None if deadline is None else deadline - self.clock.mono_us

    def round_trip_us(self) -> int | None:
        return self.heartbeat.round_trip_us

    def state(self) -> HeartbeatState:
        return self.heartbeat.state


def idle() -> Driven:
    return Driven()


def watching() -> Driven:
    driven = idle()
    driven.give(Connected())
    return driven


def probing() -> Driven:
    driven = watching()
    driven.fire()
    return driven


def paused() -> Driven:
    driven = watching()
    driven.give(ReadingPaused())
    return driven


IN_STATE: dict[HeartbeatState, Callable[[], Driven]] = {
    HeartbeatState.IDLE: idle,
    HeartbeatState.WATCHING: watching,
    HeartbeatState.PROBING: probing,
    HeartbeatState.PAUSED: paused,
}


@pytest.mark.hypothesis
def test_laws() -> None:
    check_machine(Heartbeat, INPUTS, max_gap_us=2 * (SILENCE_US + PING_TIMEOUT_US))


def test_every_state_can_be_reached() -> None:
    assert {state: make().state() for state, make in IN_STATE.items()} == {state: state for state in HeartbeatState}


@pytest.mark.parametrize("state", HeartbeatState)
@pytest.mark.parametrize("given", ONE_OF_EACH, ids=lambda given: type(given).__name__)
def test_every_step_is_in_the_table_or_refused(state: HeartbeatState, given: HeartbeatInput) -> None:
    driven = IN_STATE[state]()
    allowed = {after for before, kind, after in TRANSITIONS.edges if (before, kind) == (state, type(given))}
    if allowed:
        driven.give(given)
        assert driven.state() in allowed
    else:
        before = freeze(driven.heartbeat)
        with pytest.raises(LocalProtocolError, match=f"{type(given).__name__} is impossible in HeartbeatState.{state.name}"):
            driven.give(given)
        assert freeze(driven.heartbeat) == before


def test_without_a_connection_there_is_no_timer() -> None:
    driven = idle()
    assert driven.wait_us() is None
    assert driven.give(Connected()) == []
    assert driven.wait_us() == SILENCE_US
    assert driven.give(ConnectionLost()) == []
    assert driven.wait_us() is None


def test_silence_is_probed_and_then_given_up() -> None:
    driven = watching()
    assert driven.fire() == [SendPing(b"1")]
    assert driven.wait_us() == PING_TIMEOUT_US
    assert driven.fire() == [
        PeerSilent(silent_us=SILENCE_US + PING_TIMEOUT_US),
        GiveUp(f"nothing heard for {(SILENCE_US + PING_TIMEOUT_US) / SECOND} s, not even an answer to a ping"),
    ]
    assert driven.wait_us() is None
    assert driven.give(ConnectionLost()) == []
    assert driven.give(Connected()) == []
    assert driven.fire() == [SendPing(b"2")]


@pytest.mark.parametrize("given", [DataHeard(), PingReceived(b""), PongReceived(b"none of ours")])
def test_anything_heard_moves_the_silence_but_the_timer_only_when_it_fires(given: HeartbeatInput) -> None:
    driven = watching()
    driven.give(given, after_us=4 * SECOND)
    assert driven.wait_us() == SILENCE_US - 4 * SECOND
    assert driven.fire() == []
    assert driven.wait_us() == 4 * SECOND
    assert driven.fire() == [SendPing(b"1")]


@pytest.mark.parametrize("given", [DataHeard(), PingReceived(b""), PongReceived(b"1"), PongReceived(b"none of ours")])
def test_anything_heard_after_the_ping_proves_the_connection(given: HeartbeatInput) -> None:
    driven = probing()
    driven.give(given, after_us=3 * SECOND)
    assert driven.fire() == []
    assert driven.state() is HeartbeatState.WATCHING
    assert driven.wait_us() == SILENCE_US - (PING_TIMEOUT_US - 3 * SECOND)


def test_what_was_heard_before_the_ping_does_not() -> None:
    driven = watching()
    driven.give(DataHeard(), after_us=1)
    assert driven.fire() == []
    assert driven.fire() == [SendPing(b"1")]
    assert [type(out) for out in driven.fire()] == [PeerSilent, GiveUp]


def test_what_was_heard_in_the_moment_of_the_ping_does() -> None:
    driven = probing()
    driven.give(DataHeard())
    assert driven.fire() == []
    assert driven.state() is HeartbeatState.WATCHING


def test_a_late_timer_judges_by_what_was_heard_since() -> None:
    driven = watching()
    driven.give(DataHeard(), after_us=SILENCE_US - 5 * SECOND)
    assert driven.fire(late_us=SILENCE_US + 5 * SECOND) == [SendPing(b"1")]
    driven.give(DataHeard(), after_us=1 * SECOND)
    assert driven.fire(late_us=SILENCE_US + 5 * SECOND) == [SendPing(b"2")]
    assert driven.wait_us() == PING_TIMEOUT_US


def test_a_ping_of_the_exchange_is_answered_with_its_payload() -> None:
    for make in (watching, probing, paused):
        assert make().give(PingReceived(b"\x00abc")) == [SendPong(b"\x00abc")]


def test_the_round_trip_of_a_ping_is_measured() -> None:
    driven = probing()
    assert driven.round_trip_us() is None
    assert driven.give(PongReceived(b"1"), after_us=120_000) == []
    assert driven.round_trip_us() == 120_000
    driven.fire()
    assert driven.fire() == [SendPing(b"2")]
    driven.give(PongReceived(b"2"), after_us=80_000)
    assert driven.round_trip_us() == 80_000


def test_only_the_first_answer_to_the_latest_ping_measures() -> None:
    driven = probing()
    driven.give(PongReceived(b""), after_us=1)
    assert driven.round_trip_us() is None
    driven.give(PongReceived(b"1"), after_us=1)
    driven.give(PongReceived(b"1"), after_us=5)
    assert driven.round_trip_us() == 2
    driven.fire()
    assert driven.fire() == [SendPing(b"2")]
    driven.give(PongReceived(b"1"), after_us=1)
    assert driven.round_trip_us() == 2


def test_a_new_connection_has_no_round_trip_and_takes_no_answer_to_an_old_ping() -> None:
    driven = probing()
    driven.give(PongReceived(b"1"), after_us=5)
    driven.give(ConnectionLost())
    assert driven.round_trip_us() == 5
    driven.give(Connected())
    assert driven.round_trip_us() is None
    driven.fire()
    driven.give(ConnectionLost())
    driven.give(Connected())
    driven.give(PongReceived(b"2"), after_us=5)
    assert driven.round_trip_us() is None


def test_while_nothing_is_read_pongs_keep_the_connection() -> None:
    driven = watching()
    assert driven.give(ReadingPaused(), after_us=7 * SECOND) == []
    for _ in range(4):
        assert driven.wait_us() == PAUSED_PONG_US
        assert driven.fire() == [SendPong(b"")]


def test_on_resume_the_silence_clock_starts_again() -> None:
    driven = paused()
    assert driven.give(ReadingResumed(), after_us=PAUSED_PONG_US - SECOND) == []
    assert driven.wait_us() == SILENCE_US
    assert driven.fire() == [SendPing(b"1")]
    assert driven.fire()[0] == PeerSilent(silent_us=SILENCE_US + PING_TIMEOUT_US)


def test_pausing_calls_off_a_probe_and_its_round_trip() -> None:
    driven = probing()
    assert driven.give(ReadingPaused(), after_us=PING_TIMEOUT_US - SECOND) == []
    assert driven.wait_us() == PAUSED_PONG_US
    driven.give(ReadingResumed(), after_us=20 * SECOND)
    driven.give(PongReceived(b"1"), after_us=1)
    assert driven.round_trip_us() is None
    assert driven.state() is HeartbeatState.WATCHING


@pytest.mark.parametrize(
    ("make", "given"),
    [(paused, ReadingPaused()), (watching, ReadingResumed()), (probing, ReadingResumed()), (idle, ReadingResumed())],
)
def test_pausing_or_resuming_twice_changes_nothing(make: Callable[[], Driven], given: HeartbeatInput) -> None:
    driven = make()
    before = freeze(driven.heartbeat)
    assert driven.give(given, after_us=SECOND) == []
    assert freeze(driven.heartbeat) == before


def test_a_connection_that_opens_while_nothing_is_read_starts_paused() -> None:
    driven = paused()
    driven.give(ConnectionLost())
    driven.give(Connected())
    assert driven.state() is HeartbeatState.PAUSED
    assert driven.wait_us() == PAUSED_PONG_US
    driven.give(ConnectionLost())
    driven.give(ReadingResumed())
    assert driven.wait_us() is None
    driven.give(Connected())
    assert driven.state() is HeartbeatState.WATCHING
    driven.give(ConnectionLost())
    driven.give(ReadingPaused())
    driven.give(Connected())
    assert driven.state() is HeartbeatState.PAUSED


def test_all_durations_can_be_chosen() -> None:
    clock = FakeClock()
    heartbeat = Heartbeat(silence_us=3, ping_timeout_us=5, paused_pong_us=7)
    heartbeat.handle(Connected(), clock.now)
    assert heartbeat.handle(TimerFired(), clock.advance(3)) == [SendPing(b"1")]
    assert heartbeat.deadline == clock.mono_us + 5
    heartbeat.handle(ReadingPaused(), clock.now)
    assert heartbeat.deadline == clock.mono_us + 7

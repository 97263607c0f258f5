from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

import pytest
from hypothesis import strategies as st

from backpack_proto.backoff import Backoff
from backpack_proto.connection.connection import (
    BACKOFF,
    CONNECT_TIMEOUT_US,
    DRAIN_TIMEOUT_US,
    PROBATION_US,
    RETRY_AFTER_CEILING_US,
    TRANSITIONS,
    Connection,
    ConnectionInput,
    ConnectionState,
)
from backpack_proto.connection.signals import DataHeard, GiveUp
from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import Close, Connected, ConnectFailed, Disconnected, Open, Reconnect, TimerFired
from backpack_proto.outputs import Closed, CloseSocket, ConnectionDown, ConnectionUp, DropSocket, OpenSocket, Output
from backpack_proto.testing.laws import FakeClock, check_machine, freeze

SECOND = 1_000_000

ONE_OF_EACH: list[ConnectionInput] = [
    Open(),
    Close(),
    Reconnect(),
    Connected(),
    ConnectFailed("refused"),
    Disconnected(1006, "reset"),
    GiveUp("silent"),
    DataHeard(),
]
INPUTS = st.sampled_from(ONE_OF_EACH)


class Longest(Random):
    """Draws the ceiling itself, so delays are known."""

    def randint(self, a: int, b: int) -> int:
        assert a == 1
        return b


class Driven:
    """A connection and its clock. What changes is read by methods, for mypy takes a property to stay as it was."""

    def __init__(self, random: Random | None = None, *, dials: bool = True) -> None:
        self.clock = FakeClock()
        self.connection = Connection(random or Longest(), dials=dials)

    def give(self, given: ConnectionInput, after_us: int = 0) -> list[Output]:
        return self.connection.handle(given, self.clock.advance(after_us))

    def fire(self) -> list[Output]:
        return self.connection.handle(TimerFired(), self.clock.advance_to(self.connection.deadline))

    def wait_us(self) -> int | None:
        deadline = self.connection.deadline
        return None if deadline is None else deadline - self.clock.mono_us

    def is_open(self) -> bool:
        return self.connection.is_open

    def on_probation(self) -> bool:
        return self.connection.on_probation

    def state(self) -> ConnectionState:
        return self.connection.state


def idle(*, dials: bool = True) -> Driven:
    return Driven(dials=dials)


def connecting(*, dials: bool = True) -> Driven:
    driven = idle(dials=dials)
    driven.give(Open())
    return driven


def opened(*, dials: bool = True) -> Driven:
    driven = connecting(dials=dials)
    driven.give(Connected())
    return driven


def backing_off(*, dials: bool = True) -> Driven:
    driven = opened(dials=dials)
    driven.give(Disconnected(1006, ""))
    return driven


def draining(*, dials: bool = True) -> Driven:
    driven = opened(dials=dials)
    driven.give(Close())
    return driven


def closed(*, dials: bool = True) -> Driven:
    driven = draining(dials=dials)
    driven.give(Disconnected(1000, ""))
    return driven


class Make(Protocol):
    """Makes a connection in some state."""

    def __call__(self, *, dials: bool = True) -> Driven: ...


IN_STATE: dict[ConnectionState, Make] = {
    ConnectionState.IDLE: idle,
    ConnectionState.CONNECTING: connecting,
    ConnectionState.OPEN: opened,
    ConnectionState.BACKING_OFF: backing_off,
    ConnectionState.DRAINING: draining,
    ConnectionState.CLOSED: closed,
}


@pytest.mark.hypothesis
@pytest.mark.parametrize("dials", [True, False])
def test_laws(*, dials: bool) -> None:
    check_machine(lambda: Connection(Random(7), dials=dials), INPUTS, max_gap_us=2 * CONNECT_TIMEOUT_US)


def test_every_state_can_be_reached() -> None:
    assert {state: make().state() for state, make in IN_STATE.items()} == {state: state for state in ConnectionState}


@pytest.mark.parametrize(
    ("state", "dials"),
    [
        (state, dials)
        for state in ConnectionState
        for dials in (True, False)
        if dials or state is not ConnectionState.BACKING_OFF
    ],
)
@pytest.mark.parametrize("given", ONE_OF_EACH, ids=lambda given: type(given).__name__)
def test_every_step_is_in_the_table_or_refused(state: ConnectionState, given: ConnectionInput, *, dials: bool) -> None:
    driven = IN_STATE[state](dials=dials)
    allowed = {after for before, kind, after in TRANSITIONS.edges if (before, kind) == (state, type(given))}
    if len(allowed) > 1:
        # What follows a failure is all that depends on who makes the connections.
        assert allowed == {ConnectionState.BACKING_OFF, ConnectionState.CONNECTING}
        allowed = {ConnectionState.BACKING_OFF if dials else ConnectionState.CONNECTING}
    if allowed:
        driven.give(given)
        assert {driven.state()} == allowed
    else:
        before = freeze(driven.connection)
        with pytest.raises(LocalProtocolError, match=f"{type(given).__name__} is impossible in ConnectionState.{state.name}"):
            driven.give(given)
        assert freeze(driven.connection) == before


def test_open_connects() -> None:
    driven = idle()
    assert driven.wait_us() is None
    assert driven.give(Open()) == [OpenSocket()]
    assert driven.wait_us() == CONNECT_TIMEOUT_US
    assert not driven.is_open()
    assert driven.give(Connected()) == [ConnectionUp(attempt=1)]
    assert driven.is_open()
    assert driven.wait_us() is None


@pytest.mark.parametrize("make", [connecting, opened, backing_off])
def test_open_again_changes_nothing(make: Callable[[], Driven]) -> None:
    driven = make()
    before = freeze(driven.connection)
    assert driven.give(Open(), after_us=SECOND) == []
    assert freeze(driven.connection) == before


def test_a_failed_attempt_is_repeated_after_the_backoff() -> None:
    driven = connecting()
    assert driven.give(ConnectFailed("TLS: expired")) == [
        ConnectionDown(reason="TLS: expired", code=None, retry_us=BACKOFF.base_us)
    ]
    assert driven.wait_us() == BACKOFF.base_us
    assert driven.fire() == [OpenSocket()]
    assert driven.give(Connected()) == [ConnectionUp(attempt=2)]


def test_an_attempt_that_takes_too_long_is_dropped() -> None:
    driven = connecting()
    assert driven.fire() == [
        DropSocket(),
        ConnectionDown(reason=f"no connection within {CONNECT_TIMEOUT_US // SECOND} s", code=None, retry_us=BACKOFF.base_us),
    ]
    assert driven.state() is ConnectionState.BACKING_OFF


def test_a_lost_connection_is_opened_again() -> None:
    driven = opened()
    assert driven.give(Disconnected(1012, "restart")) == [ConnectionDown(reason="restart", code=1012, retry_us=BACKOFF.base_us)]
    assert not driven.is_open()
    assert driven.fire() == [OpenSocket()]


def test_a_connection_that_is_given_up_is_dropped_without_waiting_for_its_end() -> None:
    driven = opened()
    assert driven.give(GiveUp("silent")) == [DropSocket(), ConnectionDown(reason="silent", code=1006, retry_us=BACKOFF.base_us)]
    assert driven.fire() == [OpenSocket()]


def test_the_application_reconnects_without_backing_off() -> None:
    driven = opened()
    down = ConnectionDown(reason="the application asked to reconnect", code=1006, retry_us=0)
    assert driven.give(Reconnect()) == [DropSocket(), down, OpenSocket()]
    assert driven.wait_us() == CONNECT_TIMEOUT_US
    assert driven.give(Reconnect()) == [], "it is being connected"
    waiting = backing_off()
    assert waiting.give(Reconnect()) == [OpenSocket()]
    waiting.give(ConnectFailed("refused"))
    assert waiting.wait_us() == 2 * BACKOFF.base_us, "the attempts are counted on"


def test_a_connection_that_somebody_else_made_is_dropped_where_the_application_asks_to_reconnect() -> None:
    driven = opened(dials=False)
    down = ConnectionDown(reason="the application asked to reconnect", code=1006, retry_us=0)
    assert driven.give(Reconnect()) == [DropSocket(), down]
    assert driven.state() is ConnectionState.CONNECTING
    assert driven.give(Reconnect()) == []


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    driven = connecting()
    ceilings: list[int | None] = []
    for _ in range(8):
        driven.give(ConnectFailed(""))
        ceilings.append(driven.wait_us())
        driven.fire()
    assert ceilings == [min(BACKOFF.base_us << n, BACKOFF.cap_us) for n in range(8)]


def test_hours_of_failure_stay_at_the_cap() -> None:
    driven = connecting()
    for _ in range(2_000):
        driven.give(ConnectFailed(""))
        driven.fire()
    driven.give(ConnectFailed(""))
    assert driven.wait_us() == BACKOFF.cap_us


def test_delays_are_drawn_from_the_whole_range() -> None:
    driven = Driven(Random(1))
    driven.give(Open())
    delays = []
    for _ in range(300):
        driven.give(ConnectFailed(""))
        delays.append(driven.wait_us() or 0)
        driven.fire()
    late = delays[5:]
    assert min(delays) >= 1
    assert max(late) <= BACKOFF.cap_us
    assert min(late) < BACKOFF.cap_us // 30
    assert max(late) > BACKOFF.cap_us - BACKOFF.cap_us // 30


def test_the_same_seed_gives_the_same_delays() -> None:
    def delays(seed: int) -> list[int | None]:
        driven = Driven(Random(seed))
        driven.give(Open())
        found = []
        for _ in range(10):
            driven.give(ConnectFailed(""))
            found.append(driven.wait_us())
            driven.fire()
        return found

    assert delays(3) == delays(3) != delays(4)


@pytest.mark.parametrize(
    ("asked_us", "waited_us"),
    [(None, 1_000_000), (0, 1_000_000), (-5, 1_000_000), (20_000_000, 20_000_000), (10**15, RETRY_AFTER_CEILING_US)],
)
def test_a_refused_handshake_is_tried_again_no_earlier_than_it_asked_for(asked_us: int | None, waited_us: int) -> None:
    driven = Driven(Longest())
    driven.give(Open())
    (down,) = driven.give(ConnectFailed("429", retry_after_us=asked_us))
    assert isinstance(down, ConnectionDown)
    assert down.retry_us == driven.wait_us() == waited_us


def test_how_long_it_can_ask_for_can_be_chosen() -> None:
    connection = Connection(Longest(), retry_after_ceiling_us=3_000_000)
    clock = FakeClock()
    connection.handle(Open(), clock.now)
    (down,) = connection.handle(ConnectFailed("429", retry_after_us=10**12), clock.now)
    assert isinstance(down, ConnectionDown)
    assert down.retry_us == 3_000_000


def flap(driven: Driven, *, heard_after_us: int | None) -> tuple[list[Output], int | None]:
    """From CONNECTING: open, perhaps hear something, break. Gives the outputs of opening and the ceiling behind the break."""
    up = driven.give(Connected())
    if heard_after_us is not None:
        driven.give(DataHeard(), heard_after_us)
    driven.give(Disconnected(1006, ""))
    ceiling = driven.wait_us()
    driven.fire()
    return up, ceiling


@pytest.mark.parametrize("heard_after_us", [None, 0, PROBATION_US - 1])
def test_a_connection_that_opens_and_breaks_is_backed_off_from(heard_after_us: int | None) -> None:
    driven = connecting()
    assert [flap(driven, heard_after_us=heard_after_us) for _ in range(3)] == [
        ([ConnectionUp(attempt=1)], BACKOFF.base_us),
        ([ConnectionUp(attempt=2)], 2 * BACKOFF.base_us),
        ([ConnectionUp(attempt=3)], 4 * BACKOFF.base_us),
    ]


def test_age_alone_does_not_prove_a_connection() -> None:
    driven = connecting()
    driven.give(ConnectFailed(""))
    driven.fire()
    driven.give(Connected())
    driven.give(Disconnected(1006, ""), after_us=3600 * SECOND)
    assert driven.wait_us() == 2 * BACKOFF.base_us


def test_data_ten_seconds_after_opening_prove_the_connection() -> None:
    driven = connecting()
    for _ in range(4):
        flap(driven, heard_after_us=None)
    assert flap(driven, heard_after_us=PROBATION_US) == ([ConnectionUp(attempt=5)], BACKOFF.base_us)
    assert flap(driven, heard_after_us=None) == ([ConnectionUp(attempt=1)], BACKOFF.base_us)
    assert flap(driven, heard_after_us=None) == ([ConnectionUp(attempt=2)], 2 * BACKOFF.base_us)


def test_probation_ends_with_proof_and_begins_with_each_connection() -> None:
    driven = connecting()
    assert not driven.on_probation()
    driven.give(Connected())
    assert driven.on_probation()
    driven.give(DataHeard(), PROBATION_US - 1)
    assert driven.on_probation()
    assert driven.give(DataHeard(), 1) == []
    assert not driven.on_probation()
    driven.give(Disconnected(1006, ""))
    assert not driven.on_probation()
    driven.fire()
    driven.give(Connected())
    assert driven.on_probation()


def test_close_drains_and_waits_for_the_exchange() -> None:
    driven = opened()
    assert driven.give(Close()) == [CloseSocket(1000, "")]
    assert not driven.is_open()
    assert driven.wait_us() == DRAIN_TIMEOUT_US
    assert driven.give(DataHeard()) == []
    assert driven.give(Disconnected(1000, "")) == [Closed()]
    assert driven.wait_us() is None


def test_draining_ends_by_itself() -> None:
    driven = draining()
    assert driven.fire() == [DropSocket(), Closed()]
    assert driven.state() is ConnectionState.CLOSED


def test_a_connection_that_dies_while_draining_is_closed() -> None:
    assert draining().give(GiveUp("silent")) == [DropSocket(), Closed()]


def test_close_ends_an_attempt_at_once() -> None:
    driven = connecting()
    assert driven.give(Close()) == [DropSocket(), Closed()]
    assert driven.wait_us() is None


@pytest.mark.parametrize("make", [idle, backing_off])
def test_close_without_a_socket_drops_none(make: Callable[[], Driven]) -> None:
    driven = make()
    assert driven.give(Close()) == [Closed()]
    assert driven.wait_us() is None


@pytest.mark.parametrize("make", [draining, closed])
def test_close_again_changes_nothing(make: Callable[[], Driven]) -> None:
    driven = make()
    before = freeze(driven.connection)
    assert driven.give(Close(), after_us=SECOND) == []
    assert freeze(driven.connection) == before


def test_open_after_closed_starts_again() -> None:
    driven = connecting()
    for _ in range(3):
        flap(driven, heard_after_us=None)
    driven.give(Close())
    assert driven.give(Open()) == [OpenSocket()]
    assert driven.give(Connected()) == [ConnectionUp(attempt=1)]
    driven.give(Disconnected(1006, ""))
    assert driven.wait_us() == BACKOFF.base_us


# Somebody else makes the connections.


@pytest.mark.parametrize("make", [connecting, opened, backing_off, draining, closed])
def test_somebody_else_is_never_told_to_connect(make: Make) -> None:
    driven = make(dials=False)
    outputs = [output for given in ONE_OF_EACH for output in take(driven, given)]
    outputs += [output for given in ONE_OF_EACH for output in take(driven, given)]
    assert not any(isinstance(output, OpenSocket) for output in outputs)
    assert driven.state() is not ConnectionState.BACKING_OFF


def take(driven: Driven, given: ConnectionInput) -> list[Output]:
    """What follows, which is nothing where it is refused."""
    try:
        return driven.give(given)
    except LocalProtocolError:
        return []


def test_a_connection_that_somebody_else_makes_is_waited_for_without_a_timer() -> None:
    driven = idle(dials=False)
    assert driven.give(Open()) == []
    assert (driven.state(), driven.wait_us()) == (ConnectionState.CONNECTING, None)
    assert driven.give(TimerFired(), after_us=3600 * SECOND) == []
    assert driven.give(Connected()) == [ConnectionUp(attempt=1)]
    assert (driven.state(), driven.wait_us()) == (ConnectionState.OPEN, None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Disconnected(1012, "restart"), [ConnectionDown(reason="restart", code=1012, retry_us=BACKOFF.base_us)]),
        (GiveUp("silent"), [DropSocket(), ConnectionDown(reason="silent", code=1006, retry_us=BACKOFF.base_us)]),
    ],
)
def test_a_connection_that_somebody_else_made_and_that_is_gone_is_waited_for_again(
    given: ConnectionInput, told: list[Output]
) -> None:
    driven = opened(dials=False)
    assert driven.give(given) == told
    assert (driven.state(), driven.wait_us()) == (ConnectionState.CONNECTING, None)
    assert not driven.is_open()
    # The advice is no rule: it may come back sooner or later.
    assert driven.give(Connected()) == [ConnectionUp(attempt=2)]


def test_somebody_else_is_advised_to_wait_longer_and_longer() -> None:
    driven = connecting(dials=False)
    downs = [output for _ in range(8) for output in driven.give(ConnectFailed("refused"))]
    assert downs == [
        ConnectionDown(reason="refused", code=None, retry_us=min(BACKOFF.base_us << n, BACKOFF.cap_us)) for n in range(8)
    ]
    assert driven.wait_us() is None
    assert driven.give(Connected()) == [ConnectionUp(attempt=9)]


def test_the_advice_is_drawn_from_the_whole_range() -> None:
    driven = Driven(Random(1), dials=False)
    driven.give(Open())
    downs = [output for _ in range(300) for output in driven.give(ConnectFailed(""))]
    advice = [down.retry_us for down in downs if isinstance(down, ConnectionDown)]
    assert len(advice) == 300
    assert min(advice) >= 1
    assert max(advice) <= BACKOFF.cap_us
    assert min(advice[5:]) < BACKOFF.cap_us // 30
    assert max(advice[5:]) > BACKOFF.cap_us - BACKOFF.cap_us // 30


def test_the_advice_is_what_a_connection_that_dials_would_wait() -> None:
    dialling, advising = Driven(Random(5)), Driven(Random(5), dials=False)
    for driven in (dialling, advising):
        driven.give(Open())
    for given in (ConnectFailed(""), Connected(), Disconnected(1006, ""), Connected(), GiveUp(""), ConnectFailed("")):
        if dialling.state() is ConnectionState.BACKING_OFF:
            dialling.fire()
        assert advising.give(given) == dialling.give(given)


@pytest.mark.parametrize(
    ("heard_after_us", "again_us"), [(PROBATION_US - 1, 4 * BACKOFF.base_us), (PROBATION_US, BACKOFF.base_us)]
)
def test_a_connection_that_somebody_else_made_proves_itself_as_any_other(heard_after_us: int, again_us: int) -> None:
    driven = connecting(dials=False)
    driven.give(ConnectFailed(""))
    driven.give(ConnectFailed(""))
    driven.give(Connected())
    driven.give(DataHeard(), after_us=heard_after_us)
    assert driven.give(Disconnected(1006, "")) == [ConnectionDown(reason="", code=1006, retry_us=again_us)]


def test_closing_a_connection_that_somebody_else_made() -> None:
    driven = opened(dials=False)
    assert driven.give(Close()) == [CloseSocket(1000, "")]
    assert driven.wait_us() == DRAIN_TIMEOUT_US
    assert driven.give(Disconnected(1000, "")) == [Closed()]
    assert connecting(dials=False).give(Close()) == [DropSocket(), Closed()]
    assert driven.give(Open()) == []
    assert driven.give(Connected()) == [ConnectionUp(attempt=1)]


def test_all_durations_can_be_chosen() -> None:
    clock = FakeClock()
    connection = Connection(
        Longest(), backoff=Backoff(base_us=3, cap_us=5), connect_timeout_us=7, probation_us=11, drain_timeout_us=13
    )
    start = clock.mono_us

    def deadline_after(given: ConnectionInput) -> int:
        connection.handle(given, clock.now)
        assert connection.deadline is not None
        return connection.deadline - start

    assert deadline_after(Open()) == 7
    assert deadline_after(ConnectFailed("")) == 3
    connection.handle(TimerFired(), clock.advance(3))
    assert deadline_after(ConnectFailed("")) == 3 + 5
    connection.handle(TimerFired(), clock.advance(5))
    connection.handle(Connected(), clock.now)
    connection.handle(DataHeard(), clock.advance(11))
    assert not connection.on_probation
    assert deadline_after(Close()) == 19 + 13

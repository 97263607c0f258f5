"""The connection against a model of the runtime: one socket at a time, and an exchange that refuses, accepts, drops and stalls."""

from __future__ import annotations

from enum import Enum, auto
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backpack_proto.connection.connection import (
    BACKOFF,
    CONNECT_TIMEOUT_US,
    DRAIN_TIMEOUT_US,
    PROBATION_US,
    Connection,
    ConnectionInput,
)
from backpack_proto.connection.signals import DataHeard, GiveUp
from backpack_proto.inputs import Close, Connected, ConnectFailed, Disconnected, Open, TimerFired
from backpack_proto.outputs import Closed, CloseSocket, ConnectionDown, ConnectionUp, DropSocket, OpenSocket
from backpack_proto.testing.laws import FakeClock
from hypothesis_profiles import examples

SECOND = 1_000_000


class Socket(Enum):
    """What the runtime has."""

    NONE = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()


class BackoffMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32), dials=st.booleans())
    def start(self, seed: int, *, dials: bool) -> None:
        self.clock = FakeClock()
        self.dials = dials
        """Otherwise somebody else makes the connections, when it likes."""
        self.connection = Connection(Random(seed), dials=dials)
        self.socket = Socket.NONE
        self.running = False
        """Between `Open` and `Closed`."""
        self.closing = False
        self.attempts = 0
        """Sockets opened since the connection last proved itself. Where somebody else opens them, the one that is awaited counts."""
        self.opened_us = 0
        self.proven = False
        self.next_attempt_us: int | None = None
        self.socket_since_us = 0
        self.open()

    def give(self, given: ConnectionInput) -> None:
        now_us = self.clock.mono_us
        for out in self.connection.handle(given, self.clock.now):
            match out:
                case OpenSocket():
                    assert self.dials
                    assert self.socket is Socket.NONE, "one socket at a time"
                    assert self.running
                    assert not self.closing
                    assert self.next_attempt_us in (None, now_us), "neither early nor late"
                    self.next_attempt_us = None
                    self.socket, self.socket_since_us = Socket.OPENING, now_us
                    self.attempts += 1
                case CloseSocket(code):
                    assert code == 1000
                    assert self.socket is Socket.OPEN
                    self.socket, self.socket_since_us = Socket.CLOSING, now_us
                case DropSocket():
                    assert self.socket is not Socket.NONE or (not self.dials and self.closing)
                    self.socket = Socket.NONE
                case ConnectionUp(attempt=attempt):
                    assert attempt == self.attempts
                case ConnectionDown(retry_us=retry_us):
                    assert self.socket is Socket.NONE
                    ceiling_us = min(BACKOFF.cap_us, BACKOFF.base_us * 2 ** max(self.attempts - 1, 0))
                    assert 0 < retry_us <= ceiling_us
                    if self.dials:
                        self.next_attempt_us = now_us + retry_us
                    else:
                        self.attempts += 1
                case Closed():
                    assert self.running
                    assert self.closing
                    assert self.socket is Socket.NONE
                    self.running, self.next_attempt_us = False, None
                case _:
                    raise AssertionError(out)

    @precondition(lambda self: not self.running)
    @rule()
    def open(self) -> None:
        self.running, self.closing, self.attempts = True, False, 0 if self.dials else 1
        self.give(Open())

    @precondition(lambda self: not self.dials and self.running and not self.closing and self.socket is Socket.NONE)
    @rule()
    def somebody_dials(self) -> None:
        self.socket, self.socket_since_us = Socket.OPENING, self.clock.mono_us

    @precondition(lambda self: self.running and not self.closing)
    @rule(times=st.sampled_from([0] * 18 + [1, 2]))
    def close(self, times: int) -> None:
        self.closing = times > 0
        for _ in range(times):
            self.give(Close())

    @precondition(lambda self: self.socket is Socket.OPENING)
    @rule(refused=st.sampled_from([False, False, True]), after_us=st.integers(0, 20 * SECOND))
    def exchange_answers(self, *, refused: bool, after_us: int) -> None:
        self.wait(after_us)
        if self.socket is not Socket.OPENING:
            return
        if refused:
            self.socket = Socket.NONE
            self.give(ConnectFailed("refused"))
        else:
            self.socket, self.opened_us, self.proven = Socket.OPEN, self.clock.mono_us, False
            self.give(Connected())

    @precondition(lambda self: self.socket is Socket.OPEN)
    @rule(after_us=st.sampled_from([0, SECOND, PROBATION_US - 1, PROBATION_US, 3600 * SECOND]))
    def exchange_sends(self, after_us: int) -> None:
        self.clock.advance(after_us)
        if not self.proven and self.clock.mono_us - self.opened_us >= PROBATION_US:
            assert self.connection.on_probation
            self.proven, self.attempts = True, 0
        self.give(DataHeard())

    @precondition(lambda self: self.socket in (Socket.OPEN, Socket.CLOSING))
    @rule(noticed=st.booleans())
    def connection_ends(self, *, noticed: bool) -> None:
        if noticed:
            self.socket = Socket.NONE
            self.give(Disconnected(1006, ""))
        else:
            self.give(GiveUp("silent"))

    @rule(us=st.integers(0, 40 * SECOND) | st.sampled_from([1, 5 * SECOND, PROBATION_US - 1, PROBATION_US]))
    def time_passes(self, us: int) -> None:
        self.wait(us)

    def wait(self, us: int) -> None:
        end_us = self.clock.mono_us + us
        while self.connection.deadline is not None and self.connection.deadline <= end_us:
            self.clock.advance_to(self.connection.deadline)
            self.give(TimerFired())
        self.clock.advance_to(end_us)

    @invariant()
    def the_properties_tell_the_truth(self) -> None:
        assert self.connection.is_open == (self.socket is Socket.OPEN)
        assert self.connection.on_probation == (self.socket is Socket.OPEN and not self.proven)

    @invariant()
    def something_always_goes_on_until_closed(self) -> None:
        """A connection that is wanted is open, being opened, or waited for."""
        if self.running and not self.closing and self.dials:
            assert (self.socket is not Socket.NONE) != (self.next_attempt_us is not None)
        if not self.dials:
            assert (self.connection.deadline is not None) == (self.socket is Socket.CLOSING)
        if not self.running:
            assert self.socket is Socket.NONE
            assert self.connection.deadline is None

    @invariant()
    def no_attempt_and_no_closing_lasts_for_ever(self) -> None:
        age_us = self.clock.mono_us - self.socket_since_us
        if self.socket is Socket.OPENING and self.dials:
            assert age_us < CONNECT_TIMEOUT_US
        if self.socket is Socket.CLOSING:
            assert age_us < DRAIN_TIMEOUT_US


TestBackoff = BackoffMachine.TestCase
TestBackoff.settings = examples(150, steps=40)

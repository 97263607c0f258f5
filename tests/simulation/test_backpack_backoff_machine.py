"""The connection against a model of the runtime: one socket at a time, and an exchange that refuses, accepts, drops and stalls."""

from __future__ import annotations

from enum import Enum, auto
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backpack_proto.connection import Connection, ConnectionInput, ConnectionState, GiveUp, Heard
from backpack_proto.inputs import Close, Connected, ConnectFailed, Disconnected, Open, TimerFired
from backpack_proto.outputs import Closed, CloseSocket, DropSocket, LinkDown, LinkUp, OpenSocket
from backpack_proto.testing import FakeClock

SECOND = 1_000_000
PROBATION_US = 10 * SECOND


class Socket(Enum):
    """What the runtime has."""

    NONE = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()


class BackoffMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.clock = FakeClock()
        self.connection = Connection(Random(seed))
        self.socket = Socket.NONE
        self.running = False
        """Between `Open` and `Closed`."""
        self.closing = False
        self.attempts = 0
        """Sockets opened since the link last proved itself."""
        self.opened_us = 0
        self.proven = False
        self.next_attempt_us: int | None = None
        self.socket_since_us = 0

    def give(self, given: ConnectionInput) -> None:
        now_us = self.clock.mono_us
        for out in self.connection.handle(given, self.clock.now):
            match out:
                case OpenSocket():
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
                    assert self.socket is not Socket.NONE
                    self.socket = Socket.NONE
                case LinkUp(attempt=attempt):
                    assert attempt == self.attempts
                case LinkDown(retry_us=retry_us):
                    assert self.socket is Socket.NONE
                    ceiling_us = min(30 * SECOND, SECOND * 2 ** max(self.attempts - 1, 0))
                    assert 0 < retry_us <= ceiling_us
                    self.next_attempt_us = now_us + retry_us
                case Closed():
                    assert self.running
                    assert self.closing
                    assert self.socket is Socket.NONE
                    self.running, self.next_attempt_us = False, None
                case _:
                    raise AssertionError(out)

    @precondition(lambda self: not self.closing or not self.running)
    @rule()
    def open(self) -> None:
        if not self.running:
            self.running, self.closing, self.attempts = True, False, 0
        self.give(Open())

    @rule()
    def close(self) -> None:
        if self.connection.state is ConnectionState.IDLE:
            self.running = True
        self.closing = True
        self.give(Close())

    @precondition(lambda self: self.socket is Socket.OPENING)
    @rule()
    def exchange_accepts(self) -> None:
        self.socket, self.opened_us, self.proven = Socket.OPEN, self.clock.mono_us, False
        self.give(Connected())

    @precondition(lambda self: self.socket is Socket.OPENING)
    @rule()
    def exchange_refuses(self) -> None:
        self.socket = Socket.NONE
        self.give(ConnectFailed("refused"))

    @precondition(lambda self: self.socket in (Socket.OPEN, Socket.CLOSING))
    @rule()
    def exchange_disconnects(self) -> None:
        self.socket = Socket.NONE
        self.give(Disconnected(1006, ""))

    @precondition(lambda self: self.socket in (Socket.OPEN, Socket.CLOSING))
    @rule()
    def exchange_dies(self) -> None:
        self.give(GiveUp("silent"))

    @precondition(lambda self: self.socket in (Socket.OPEN, Socket.CLOSING))
    @rule()
    def exchange_sends(self) -> None:
        if self.socket is Socket.OPEN and not self.proven and self.clock.mono_us - self.opened_us >= PROBATION_US:
            assert self.connection.on_probation
            self.proven, self.attempts = True, 0
        self.give(Heard())

    @rule(us=st.integers(0, 40 * SECOND) | st.sampled_from([1, 5 * SECOND, PROBATION_US - 1, PROBATION_US]))
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
        """A link that is wanted is open, being opened, or waited for."""
        if self.running and not self.closing:
            assert (self.socket is not Socket.NONE) != (self.next_attempt_us is not None)
        if not self.running:
            assert self.socket is Socket.NONE
            assert self.connection.deadline is None

    @invariant()
    def no_attempt_and_no_closing_lasts_for_ever(self) -> None:
        age_us = self.clock.mono_us - self.socket_since_us
        if self.socket is Socket.OPENING:
            assert age_us < 15 * SECOND
        if self.socket is Socket.CLOSING:
            assert age_us < 5 * SECOND


TestBackoff = BackoffMachine.TestCase
TestBackoff.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)

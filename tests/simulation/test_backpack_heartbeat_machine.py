"""The heartbeat against a model of the exchange, which pings, answers pings, and may fall silent or go deaf to nothing but pongs."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backpack_proto.connection.heartbeat import PAUSED_PONG_US, PING_TIMEOUT_US, SILENCE_US, Heartbeat, HeartbeatInput
from backpack_proto.connection.signals import ConnectionLost, DataHeard, GiveUp
from backpack_proto.inputs import Connected, PingReceived, PongReceived, ReadingPaused, ReadingResumed, TimerFired
from backpack_proto.outputs import PeerSilent, SendPing, SendPong
from backpack_proto.testing.laws import FakeClock
from hypothesis_profiles import examples

SECOND = 1_000_000
EXCHANGE_PING_US = 60 * SECOND


class HeartbeatMachine(RuleBasedStateMachine):
    """Timers fire on time. What the exchange sends is heard at once, or, while nothing is read, when reading resumes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.heartbeat = Heartbeat()
        self.connected = False
        self.reading = True
        self.alive = True
        """The exchange: it answers pings within its latency and sends its own. Else nothing ever comes again."""
        self.latency_us = 0
        self.pongs_due: list[tuple[int, bytes]] = []
        self.unread: list[HeartbeatInput] = []
        self.exchange_ping_us = 0
        self.pongs_since_ping = 1
        self.heard_us = 0
        """When something was last heard, or the silence clock started."""
        self.ponged_us = 0
        """When the last pong went out while nothing is read, or the pause began."""
        self.payloads: list[int] = [0]

    def give(self, given: HeartbeatInput) -> None:
        for out in self.heartbeat.handle(given, self.clock.now):
            match out:
                case SendPing(payload):
                    assert isinstance(given, TimerFired)
                    assert self.connected
                    assert self.reading
                    assert self.clock.mono_us - self.heard_us >= SILENCE_US
                    self.payloads.append(int(payload))
                    if self.alive:
                        self.pongs_due.append((self.clock.mono_us + self.latency_us, payload))
                case SendPong(payload):
                    assert self.connected
                    self.pongs_since_ping += 1
                    if isinstance(given, PingReceived):
                        assert payload == given.payload
                    else:
                        assert not self.reading
                        assert payload == b""
                        assert self.clock.mono_us - self.ponged_us == PAUSED_PONG_US
                        self.ponged_us = self.clock.mono_us
                case PeerSilent(silent_us=silent_us):
                    assert isinstance(given, TimerFired)
                    assert self.reading
                    assert not self.alive, "an exchange that answers is not given up"
                    assert silent_us == self.clock.mono_us - self.heard_us
                    assert silent_us >= SILENCE_US + PING_TIMEOUT_US
                case GiveUp():
                    self.end()
                case _:
                    raise AssertionError(out)

    def end(self) -> None:
        self.connected = False
        self.pongs_due.clear()
        self.unread.clear()

    def arrive(self, given: HeartbeatInput) -> None:
        if not self.reading:
            self.unread.append(given)
            return
        self.heard_us = self.clock.mono_us
        self.give(given)

    @initialize(latency_us=st.integers(0, PING_TIMEOUT_US - 1))
    def start(self, latency_us: int) -> None:
        self.connect(latency_us)

    @precondition(lambda self: not self.connected)
    @rule(latency_us=st.integers(0, PING_TIMEOUT_US - 1))
    def connect(self, latency_us: int) -> None:
        self.connected = self.alive = True
        self.latency_us = latency_us
        self.heard_us = self.ponged_us = self.clock.mono_us
        self.exchange_ping_us = self.clock.mono_us + EXCHANGE_PING_US
        self.pongs_since_ping = 1
        self.give(Connected())
        assert self.heartbeat.round_trip_us is None

    @precondition(lambda self: self.connected)
    @rule(how=st.sampled_from(["not at all", "not at all", "loudly", "silently"]))
    def connection_ends(self, how: str) -> None:
        if how == "loudly":
            self.end()
            self.give(ConnectionLost())
        elif how == "silently":
            self.alive = False
            self.pongs_due.clear()

    @precondition(lambda self: self.connected and self.alive)
    @rule(gaps_us=st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=5))
    def exchange_sends(self, gaps_us: list[int]) -> None:
        for gap_us in gaps_us:
            self.wait(gap_us)
            self.arrive(DataHeard())

    @precondition(lambda self: self.reading)
    @rule(for_us=st.integers(0, 100 * SECOND), on=st.booleans())
    def reading_pauses(self, for_us: int, *, on: bool) -> None:
        self.reading = False
        self.ponged_us = self.clock.mono_us
        self.give(ReadingPaused())
        self.wait(for_us)
        if on:
            self.reading_resumes()

    @precondition(lambda self: not self.reading)
    @rule()
    def reading_resumes(self) -> None:
        self.reading = True
        self.heard_us = self.clock.mono_us
        self.give(ReadingResumed())
        unread, self.unread = self.unread, []
        for given in unread:
            self.give(given)

    @rule(us=st.integers(0, 200 * SECOND) | st.sampled_from([0, SECOND, SILENCE_US, PING_TIMEOUT_US, PAUSED_PONG_US]))
    def time_passes(self, us: int) -> None:
        self.wait(us)

    def wait(self, us: int) -> None:
        end_us = self.clock.mono_us + us
        while True:
            moments = [at for at, _ in self.pongs_due]
            if self.connected and self.alive:
                moments.append(self.exchange_ping_us)
            if self.heartbeat.deadline is not None:
                moments.append(self.heartbeat.deadline)
            if not moments or min(moments) > end_us:
                break
            self.clock.advance_to(min(moments))
            self.happen()
        self.clock.advance_to(end_us)

    def happen(self) -> None:
        now_us = self.clock.mono_us
        if self.pongs_due and self.pongs_due[0][0] <= now_us:
            at_us, payload = self.pongs_due.pop(0)
            assert at_us == now_us
            paused = not self.reading
            before = self.heartbeat.round_trip_us
            self.arrive(PongReceived(payload))
            assert self.heartbeat.round_trip_us in ({before} if paused else {before, self.latency_us})
        elif self.connected and self.alive and self.exchange_ping_us <= now_us:
            assert self.pongs_since_ping, "the exchange would drop us: its ping went unanswered"
            self.pongs_since_ping = 0
            self.exchange_ping_us += EXCHANGE_PING_US
            self.arrive(PingReceived(b"exchange"))
        else:
            self.give(TimerFired())

    @invariant()
    def a_dead_connection_is_given_up_in_time(self) -> None:
        if self.connected and self.reading:
            assert self.clock.mono_us - self.heard_us < SILENCE_US + PING_TIMEOUT_US

    @invariant()
    def pongs_go_out_while_nothing_is_read(self) -> None:
        if self.connected and not self.reading:
            assert self.clock.mono_us - self.ponged_us < PAUSED_PONG_US

    @invariant()
    def pings_are_told_apart(self) -> None:
        assert self.payloads == sorted(set(self.payloads))

    @invariant()
    def there_is_a_timer_exactly_while_there_is_a_connection(self) -> None:
        assert (self.heartbeat.deadline is not None) == self.connected


TestHeartbeat = HeartbeatMachine.TestCase
TestHeartbeat.settings = examples(80, steps=40)

"""Proof that the connection is alive: pings, pongs, and the silence of the exchange.

Theory of operation. Any received data prove the connection. `DataHeard` says so, and is so cheap that it may be given per read. After
SILENCE_US without anything the machine sends a ping, PROBING. After PING_TIMEOUT_US more it gives the connection up with `GiveUp` and is
IDLE again. `DataHeard` only notes the time: the timer finds out when it fires that the silence is not that old, and moves on. The
exchange answers our pings, and pings us every 60 s itself (docs/protocol.md 3.4).

While the runtime does not read, PAUSED, silence is no evidence about the exchange. But a ping of the exchange's then waits unread,
and it drops a client that does not answer, so every PAUSED_PONG_US an unsolicited pong goes out, which RFC 6455 section 5.5.3
allows. Whether the runtime reads is remembered across connections: a connection that opens meanwhile starts PAUSED.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias

from backpack_proto.inputs import Connected, PingReceived, PongReceived, ReadingPaused, ReadingResumed, TimerFired
from backpack_proto.machine import Now, Transitions, due
from backpack_proto.outputs import Output, PeerSilent, SendPing, SendPong

from .signals import ConnectionLost, DataHeard, GiveUp

__all__ = ["TRANSITIONS", "Heartbeat", "HeartbeatInput", "HeartbeatState"]

SILENCE_US = 15_000_000
"""A connection that was silent for so long is probed by a ping."""

PING_TIMEOUT_US = 10_000_000
"""Time after the ping within which data have to come."""

PAUSED_PONG_US = 30_000_000
"""Interval of pongs while the runtime does not read: two for each ping of the exchange."""


class HeartbeatState(Enum):
    """Meaning of silence at the moment."""

    IDLE = auto()
    """There is no connection, or it has been given up."""
    WATCHING = auto()
    PROBING = auto()
    """A ping was sent because of silence."""
    PAUSED = auto()
    """The runtime does not read."""


HeartbeatInput: TypeAlias = (
    Connected | ConnectionLost | DataHeard | PingReceived | PongReceived | ReadingPaused | ReadingResumed | TimerFired
)

_S = HeartbeatState

TRANSITIONS = Transitions(
    [
        (_S.IDLE, Connected, _S.WATCHING),
        (_S.IDLE, Connected, _S.PAUSED),
        (_S.IDLE, ConnectionLost, _S.IDLE),
        (_S.IDLE, ReadingPaused, _S.IDLE),
        (_S.IDLE, ReadingResumed, _S.IDLE),
        (_S.WATCHING, DataHeard, _S.WATCHING),
        (_S.WATCHING, PingReceived, _S.WATCHING),
        (_S.WATCHING, PongReceived, _S.WATCHING),
        (_S.WATCHING, ReadingPaused, _S.PAUSED),
        (_S.WATCHING, ReadingResumed, _S.WATCHING),
        (_S.WATCHING, TimerFired, _S.WATCHING),
        (_S.WATCHING, TimerFired, _S.PROBING),
        (_S.WATCHING, ConnectionLost, _S.IDLE),
        (_S.PROBING, DataHeard, _S.PROBING),
        (_S.PROBING, PingReceived, _S.PROBING),
        (_S.PROBING, PongReceived, _S.PROBING),
        (_S.PROBING, ReadingPaused, _S.PAUSED),
        (_S.PROBING, ReadingResumed, _S.PROBING),
        (_S.PROBING, TimerFired, _S.WATCHING),
        (_S.PROBING, TimerFired, _S.PROBING),
        (_S.PROBING, TimerFired, _S.IDLE),
        (_S.PROBING, ConnectionLost, _S.IDLE),
        (_S.PAUSED, DataHeard, _S.PAUSED),
        (_S.PAUSED, PingReceived, _S.PAUSED),
        (_S.PAUSED, PongReceived, _S.PAUSED),
        (_S.PAUSED, ReadingPaused, _S.PAUSED),
        (_S.PAUSED, ReadingResumed, _S.WATCHING),
        (_S.PAUSED, TimerFired, _S.PAUSED),
        (_S.PAUSED, ConnectionLost, _S.IDLE),
    ]
)


class Heartbeat:
    """Watches one connection after the other. All durations are in microseconds."""

    def __init__(
        self, *, silence_us: int = SILENCE_US, ping_timeout_us: int = PING_TIMEOUT_US, paused_pong_us: int = PAUSED_PONG_US
    ) -> None:
        self._silence_us = silence_us
        self._ping_timeout_us = ping_timeout_us
        self._paused_pong_us = paused_pong_us
        self._state = HeartbeatState.IDLE
        self._deadline: int | None = None
        self._reading = True
        self._heard_us = 0
        self._pings = 0
        self._pinged_us = 0
        self._pong_awaited = False
        self._round_trip_us: int | None = None

    @property
    def deadline(self) -> int | None:
        """When silence is to be looked at, or a pong is due, on `Now.mono_us`, or None without a connection."""
        return self._deadline

    @property
    def state(self) -> HeartbeatState:
        """Meaning of silence at the moment."""
        return self._state

    @property
    def round_trip_us(self) -> int | None:
        """Time that the last answered ping of this connection took, in microseconds, or None before the first answer."""
        return self._round_trip_us

    def handle(self, given: HeartbeatInput, now: Now) -> list[Output | GiveUp]:
        """Take one input and return its outputs: `SendPing`, `SendPong`, or `PeerSilent` together with `GiveUp`.

        Raises:
            LocalProtocolError: the input is impossible in this state (`TRANSITIONS`). The state is unchanged.
        """
        if isinstance(given, TimerFired) and not due(self._deadline, now):
            return []
        TRANSITIONS.check(self._state, given)
        match given:
            case DataHeard():
                self.hear(now)
                return []
            case PingReceived(payload):
                self._heard_us = now.mono_us
                return [SendPong(payload)]
            case PongReceived(payload):
                self._heard_us = now.mono_us
                self._measure(payload, now)
                return []
            case TimerFired():
                return self._fire(given, now)
            case Connected():
                self._round_trip_us = None
                self._watch(given, now)
                return []
            case ConnectionLost():
                self._enter(HeartbeatState.IDLE, given, None)
                return []
            case ReadingPaused() | ReadingResumed():
                self._read(given, now)
                return []

    def hear(self, now: Now) -> None:
        """Take data: the fast twin of `handle(DataHeard(), now)`, without a check of the state."""
        self._heard_us = now.mono_us

    def _measure(self, payload: bytes, now: Now) -> None:
        """An answer to an older ping, or no answer at all, is no measurement."""
        if self._pong_awaited and payload == self._payload:
            self._round_trip_us, self._pong_awaited = now.mono_us - self._pinged_us, False

    def _read(self, given: ReadingPaused | ReadingResumed, now: Now) -> None:
        reading = isinstance(given, ReadingResumed)
        if reading is self._reading:
            return
        self._reading = reading
        if self._state is not HeartbeatState.IDLE:
            self._watch(given, now)

    def _watch(self, given: HeartbeatInput, now: Now) -> None:
        """Start the silence clock, or, while reading is paused, the clock of the pongs."""
        self._heard_us = now.mono_us
        # A round trip across a pause would measure the pause.
        self._pong_awaited = False
        if self._reading:
            self._enter(HeartbeatState.WATCHING, given, now.mono_us + self._silence_us)
        else:
            self._enter(HeartbeatState.PAUSED, given, now.mono_us + self._paused_pong_us)

    def _fire(self, given: TimerFired, now: Now) -> list[Output | GiveUp]:
        if self._state is HeartbeatState.PAUSED:
            self._enter(HeartbeatState.PAUSED, given, now.mono_us + self._paused_pong_us)
            return [SendPong(b"")]
        silent_us = now.mono_us - self._heard_us
        if self._state is HeartbeatState.PROBING and self._heard_us < self._pinged_us:
            self._enter(HeartbeatState.IDLE, given, None)
            seconds = f"{silent_us / 1_000_000:.1f} s"
            return [PeerSilent(silent_us=silent_us), GiveUp(f"nothing heard for {seconds}, not even an answer to a ping")]
        if silent_us < self._silence_us:
            self._enter(HeartbeatState.WATCHING, given, self._heard_us + self._silence_us)
            return []
        self._pings += 1
        self._pinged_us, self._pong_awaited = now.mono_us, True
        self._enter(HeartbeatState.PROBING, given, now.mono_us + self._ping_timeout_us)
        return [SendPing(self._payload)]

    @property
    def _payload(self) -> bytes:
        """Counts up across connections, so that no answer is taken for that to another ping."""
        return str(self._pings).encode()

    def _enter(self, state: HeartbeatState, given: HeartbeatInput, deadline: int | None) -> None:
        self._state = TRANSITIONS.step(self._state, given, state)
        self._deadline = deadline

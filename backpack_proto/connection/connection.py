"""The websocket's life: connect, stay connected, back off, close in order.

Theory of operation. `Open` says that a connection is wanted. From then on the machine opens sockets until `Close`. An attempt that fails
or times out, and a connection that breaks or is given up, lead to BACKING_OFF. Its timer leads to the next attempt. `Close` ends an open
connection by the closing handshake, DRAINING, and anything else at once. `Closed` reports the end. `Open` starts again. `Reconnect` does not back off, since the caller asks for it, and the attempts go on
being counted.

Two numbers decide how long to back off. Full jitter: each delay is drawn from the whole range up to the ceiling, so that clients
that were cut off together do not come back together. A handshake that was refused with a Retry-After is not tried again before that,
within a bound of its own: no header keeps a client away for years. And the ceiling falls back only when the connection has proven itself by data at
least PROBATION_US after it opened: an exchange that accepts and then drops is backed off from like one that refuses.

After `DropSocket` that socket is silent, so a late `Connected` or `Disconnected` is an error of the runtime and is
refused. `Open` while a connection is wanted and `Close` while it is not are harmless. `Open` while DRAINING is refused, for it would have
to overtake `Closed`.

Where another program makes the connections, `dials=False`, the machine opens no sockets and sets no timer for one: it stays CONNECTING
until it hears how an attempt went, and each `ConnectionDown` says how long that program should wait.
"""

from __future__ import annotations

from enum import Enum, auto
from random import Random
from typing import TypeAlias

from backpack_proto.backoff import Backoff
from backpack_proto.errors import BackpackError
from backpack_proto.inputs import Close, Connected, ConnectFailed, Disconnected, Open, Reconnect, TimerFired
from backpack_proto.machine import Now, Transitions, due
from backpack_proto.outputs import Closed, CloseSocket, ConnectionDown, ConnectionUp, DropSocket, OpenSocket, Output
from backpack_proto.text import printable

from .signals import DataHeard, GiveUp

__all__ = ["TRANSITIONS", "Connection", "ConnectionInput", "ConnectionState"]

BACKOFF = Backoff(base_us=1_000_000, cap_us=30_000_000)
"""Each delay is drawn from the whole range up to it."""

CONNECT_TIMEOUT_US = 15_000_000
"""Time that name, TCP, TLS, proxy and handshake may take together."""

PROBATION_US = 10_000_000
"""Data heard this long after the connection opened prove it."""

DRAIN_TIMEOUT_US = 5_000_000
"""Time that the exchange may take to answer our Close frame. It grants itself 30 s of grace (docs/protocol.md 3.4)."""

RETRY_AFTER_CEILING_US = 60_000_000
"""The longest wait that a refused handshake can ask for."""

_NORMAL_CLOSURE = 1000
_ABNORMAL_CLOSURE = 1006


class ConnectionState(Enum):
    """Where the connection is."""

    IDLE = auto()
    """Never opened."""
    CONNECTING = auto()
    OPEN = auto()
    BACKING_OFF = auto()
    """Waiting for the next attempt."""
    DRAINING = auto()
    """Our Close frame is sent, the exchange's is awaited."""
    CLOSED = auto()


ConnectionInput: TypeAlias = (
    Open | Close | Reconnect | Connected | ConnectFailed | Disconnected | GiveUp | DataHeard | TimerFired
)

_S = ConnectionState

TRANSITIONS = Transitions(
    [
        (_S.IDLE, Open, _S.CONNECTING),
        (_S.IDLE, Close, _S.CLOSED),
        (_S.CONNECTING, Open, _S.CONNECTING),
        (_S.CONNECTING, Close, _S.CLOSED),
        (_S.CONNECTING, Reconnect, _S.CONNECTING),
        (_S.CONNECTING, Connected, _S.OPEN),
        (_S.CONNECTING, ConnectFailed, _S.BACKING_OFF),
        (_S.CONNECTING, ConnectFailed, _S.CONNECTING),
        (_S.CONNECTING, TimerFired, _S.BACKING_OFF),
        (_S.OPEN, Open, _S.OPEN),
        (_S.OPEN, Close, _S.DRAINING),
        (_S.OPEN, Reconnect, _S.CONNECTING),
        (_S.OPEN, Disconnected, _S.BACKING_OFF),
        (_S.OPEN, Disconnected, _S.CONNECTING),
        (_S.OPEN, GiveUp, _S.BACKING_OFF),
        (_S.OPEN, GiveUp, _S.CONNECTING),
        (_S.OPEN, DataHeard, _S.OPEN),
        (_S.BACKING_OFF, Open, _S.BACKING_OFF),
        (_S.BACKING_OFF, Close, _S.CLOSED),
        (_S.BACKING_OFF, Reconnect, _S.CONNECTING),
        (_S.BACKING_OFF, TimerFired, _S.CONNECTING),
        (_S.DRAINING, Close, _S.DRAINING),
        (_S.DRAINING, Disconnected, _S.CLOSED),
        (_S.DRAINING, GiveUp, _S.CLOSED),
        (_S.DRAINING, DataHeard, _S.DRAINING),
        (_S.DRAINING, TimerFired, _S.CLOSED),
        (_S.CLOSED, Open, _S.CONNECTING),
        (_S.CLOSED, Close, _S.CLOSED),
    ]
)


class Connection:
    """Keeps one websocket open from `Open` to `Close`.

    `random` draws only the backoff delays. Seeded alike, two connections act alike. `dials` is false where another program
    makes the connections. All durations are in microseconds.
    """

    def __init__(
        self,
        random: Random,
        *,
        dials: bool = True,
        backoff: Backoff = BACKOFF,
        connect_timeout_us: int = CONNECT_TIMEOUT_US,
        probation_us: int = PROBATION_US,
        drain_timeout_us: int = DRAIN_TIMEOUT_US,
        retry_after_ceiling_us: int = RETRY_AFTER_CEILING_US,
    ) -> None:
        self._random = random
        self._dials = dials
        self._backoff = backoff
        self._connect_timeout_us = connect_timeout_us
        self._probation_us = probation_us
        self._drain_timeout_us = drain_timeout_us
        self._retry_after_ceiling_us = retry_after_ceiling_us
        self._state = ConnectionState.IDLE
        self._deadline: int | None = None
        self._attempts = 0
        self._opened_us = 0
        self._proven = False

    @property
    def deadline(self) -> int | None:
        """When the attempt, the backoff or the draining ends, on `Now.mono_us`. None in the other states."""
        return self._deadline

    @property
    def state(self) -> ConnectionState:
        """Where the connection is."""
        return self._state

    @property
    def wanted(self) -> bool:
        """True when a connection is there or on its way."""
        return self._state in (ConnectionState.CONNECTING, ConnectionState.OPEN, ConnectionState.BACKING_OFF)

    @property
    def is_open(self) -> bool:
        """True when frames can be sent."""
        return self._state is ConnectionState.OPEN

    @property
    def on_probation(self) -> bool:
        """True when the connection is open and has not proven itself yet."""
        return self._state is ConnectionState.OPEN and not self._proven

    def handle(self, given: ConnectionInput, now: Now) -> list[Output]:
        """Take one input and return its outputs: `OpenSocket`, `CloseSocket`, `DropSocket`, `ConnectionUp`, `ConnectionDown`, `Closed`.

        Raises:
            LocalProtocolError: the input is impossible in this state (`TRANSITIONS`). The state is unchanged.
        """
        if isinstance(given, TimerFired) and not due(self._deadline, now):
            return []
        TRANSITIONS.check(self._state, given)
        match given:
            case Open():
                return self._open(given, now)
            case Close():
                return self._close(given, now)
            case Reconnect():
                return self._reconnect(given, now)
            case Connected():
                self._enter(ConnectionState.OPEN, given)
                self._opened_us, self._proven = now.mono_us, False
                return [ConnectionUp(attempt=self._attempts)]
            case ConnectFailed(reason=reason, error=error):
                asked_us = min(given.retry_after_us or 0, self._retry_after_ceiling_us)
                return [self._back_off(given, now, reason, None, error, asked_us=asked_us)]
            case Disconnected(code, reason):
                if self._state is ConnectionState.DRAINING:
                    return [self._end(given)]
                return [self._back_off(given, now, reason, code)]
            case GiveUp(reason):
                if self._state is ConnectionState.DRAINING:
                    return [DropSocket(), self._end(given)]
                return [DropSocket(), self._back_off(given, now, reason, _ABNORMAL_CLOSURE)]
            case DataHeard():
                self.hear(now)
                return []
            case TimerFired():
                return self._fire(given, now)

    def hear(self, now: Now) -> bool:
        """Take data: the fast twin of `handle(DataHeard(), now)`. Return whether there is a connection that they can have come by."""
        if self._state is not ConnectionState.OPEN:
            return False
        if not self._proven and now.mono_us - self._opened_us >= self._probation_us:
            self._proven, self._attempts = True, 0
        return True

    def _open(self, given: Open, now: Now) -> list[Output]:
        if self._state not in (ConnectionState.IDLE, ConnectionState.CLOSED):
            return []
        self._attempts = 0
        return self._connect(given, now)

    def _close(self, given: Close, now: Now) -> list[Output]:
        match self._state:
            case ConnectionState.OPEN:
                self._enter(ConnectionState.DRAINING, given, now.mono_us + self._drain_timeout_us)
                return [CloseSocket(_NORMAL_CLOSURE, "")]
            case ConnectionState.CONNECTING:
                return [DropSocket(), self._end(given)]
            case ConnectionState.IDLE | ConnectionState.BACKING_OFF:
                return [self._end(given)]
            case ConnectionState.DRAINING | ConnectionState.CLOSED:
                return []

    def _reconnect(self, given: Reconnect, now: Now) -> list[Output]:
        if self._state is ConnectionState.CONNECTING or not (self._dials or self._state is ConnectionState.OPEN):
            return []
        dropped: list[Output] = []
        if self._state is ConnectionState.OPEN:
            down = ConnectionDown(reason="the application asked to reconnect", code=_ABNORMAL_CLOSURE, retry_us=0)
            dropped = [DropSocket(), down]
        return [*dropped, *self._connect(given, now)]

    def _fire(self, given: TimerFired, now: Now) -> list[Output]:
        if self._state is ConnectionState.BACKING_OFF:
            return self._connect(given, now)
        if self._state is ConnectionState.DRAINING:
            return [DropSocket(), self._end(given)]
        reason = f"no connection within {self._connect_timeout_us / 1_000_000:g} s"
        return [DropSocket(), self._back_off(given, now, reason, None)]

    def _connect(self, given: ConnectionInput, now: Now) -> list[Output]:
        self._attempts += 1
        self._enter(ConnectionState.CONNECTING, given, now.mono_us + self._connect_timeout_us if self._dials else None)
        return [OpenSocket()] if self._dials else []

    def _back_off(
        self,
        given: ConnectionInput,
        now: Now,
        reason: str,
        code: int | None,
        error: BackpackError | None = None,
        *,
        asked_us: int = 0,
    ) -> ConnectionDown:
        retry_us = max(self._backoff.jittered_us(self._attempts, self._random), asked_us)
        if self._dials:
            self._enter(ConnectionState.BACKING_OFF, given, now.mono_us + retry_us)
        else:
            self._connect(given, now)
        return ConnectionDown(reason=printable(reason), code=code, retry_us=retry_us, error=error)

    def _end(self, given: ConnectionInput) -> Closed:
        self._enter(ConnectionState.CLOSED, given)
        return Closed()

    def _enter(self, state: ConnectionState, given: ConnectionInput, deadline: int | None = None) -> None:
        self._state = TRANSITIONS.step(self._state, given, state)
        self._deadline = deadline

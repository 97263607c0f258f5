"""The path of data from the exchange: proof that it is open the lateness of its data, and the consequences of missing proof.

Theory of operation. Pings prove that a peer is there, not that it sends data, and an arrived frame does not prove that it is recent. So the
path of a connection is PROVED by frames alone, by the times at which the exchange emitted them (`PathClaim`, `Lateness`). The proof expires
when the newest of these times is PATH_BOUND_US old: EXPIRED, for all books of the connection at once, until a recent frame renews it.
A connection starts UNPROVED.

Silence. Once a stream that comes every second has been requested (`CanaryRequested`), a connection without any data frame for
FIRST_DATA_US, later for SILENCE_US, is given up (`GiveUp`): the peer is mute, even if it answers pings.

Our own pauses. While the runtime does not read, and until GRACE_US after it reads again or after a timer that fired more than LATE_TIMER_US
late, silence may be our own: proof expires as always, but the connection is not given up. Waiting data are read first, then the path is judged.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias

from backpack_proto.claims import PATH_BOUND_US, PathClaim
from backpack_proto.inputs import Connected, ReadingPaused, ReadingResumed, TimerFired
from backpack_proto.machine import Now, Transitions, due, earliest

from .lateness import LEAP_US, Lateness
from .signals import CanaryRequested, ConnectionLost, DataReceived, GiveUp, PathExpired, PathProved, RoundTripMeasured

__all__ = ["TRANSITIONS", "Path", "PathInput", "PathOutput", "PathState", "PathTimer"]

FIRST_DATA_US = 10_000_000
"""Time that a connection may be without its first data frame."""
SILENCE_US = 15_000_000
"""Time that it may be without another one."""
LATE_US = 2_000_000
"""Data that are later than this are reported."""
LATE_TIMER_US = 1_000_000
"""A timer that fires this late shows that the program did not run."""
GRACE_US = 5_000_000
"""Time after a pause of our own in which no connection is given up."""


class PathState(Enum):
    """State of the path, as far as it is known."""

    DOWN = auto()
    """No connection."""
    UNPROVED = auto()
    """Nothing recent has come on this connection."""
    PROVED = auto()
    EXPIRED = auto()
    """The newest proof is too old."""


class PathTimer(Enum):
    """The meanings of the deadline."""

    EXPIRY = auto()
    SILENCE = auto()


PathInput: TypeAlias = (
    Connected
    | ConnectionLost
    | CanaryRequested
    | DataReceived
    | RoundTripMeasured
    | ReadingPaused
    | ReadingResumed
    | TimerFired
)
PathOutput: TypeAlias = PathProved | PathExpired | GiveUp

_S = PathState
_CONNECTED = (_S.UNPROVED, _S.PROVED, _S.EXPIRED)

TRANSITIONS = Transitions(
    [
        (_S.DOWN, Connected, _S.UNPROVED),
        *((state, ConnectionLost, _S.DOWN) for state in PathState),
        *((state, given, state) for state in PathState for given in (RoundTripMeasured, ReadingPaused, ReadingResumed)),
        *((state, CanaryRequested, state) for state in _CONNECTED),
        (_S.UNPROVED, DataReceived, _S.UNPROVED),
        (_S.UNPROVED, DataReceived, _S.PROVED),
        (_S.UNPROVED, RoundTripMeasured, _S.PROVED),
        (_S.PROVED, DataReceived, _S.PROVED),
        (_S.PROVED, DataReceived, _S.EXPIRED),
        (_S.EXPIRED, DataReceived, _S.EXPIRED),
        (_S.EXPIRED, DataReceived, _S.PROVED),
        (_S.PROVED, RoundTripMeasured, _S.EXPIRED),
        (_S.EXPIRED, RoundTripMeasured, _S.PROVED),
        (_S.PROVED, TimerFired, _S.EXPIRED),
        *((state, TimerFired, state) for state in _CONNECTED),
        *((state, TimerFired, _S.DOWN) for state in _CONNECTED),
    ]
)


class Path:
    """Keeps the claim of one connection after the other. A machine. All durations are in microseconds."""

    def __init__(self, claim: PathClaim) -> None:
        """`claim` is written here and read by everything that depends on it. One without a bound never expires."""
        self._claim = claim
        self._lateness = Lateness()
        self._state = PathState.DOWN
        self._reading = True
        self._connected_us = 0
        self._watched = False
        """A stream that comes every second is requested on this connection."""
        self._data_us: int | None = None
        """When the newest data frame came."""
        self._arrived_late_us = 0
        """The newest frame's arrival less the time at which it was emitted, by our clock and the exchange's."""
        self._grace_until_us = 0

    @property
    def state(self) -> PathState:
        """State of the path, as far as it is known."""
        return self._state

    @property
    def deadline(self) -> int | None:
        """The first of the timers."""
        return earliest(*self._timers().values())

    def _timers(self) -> dict[PathTimer, int]:
        timers: dict[PathTimer, int] = {}
        claim = self._claim
        if self._state is PathState.PROVED and claim.bounded and claim.proved_us is not None:
            timers[PathTimer.EXPIRY] = claim.proved_us + claim.offset_us + PATH_BOUND_US
        if self._state is not PathState.DOWN and self._watched and self._reading:
            silent_from_us = self._connected_us + FIRST_DATA_US if self._data_us is None else self._data_us + SILENCE_US
            timers[PathTimer.SILENCE] = max(silent_from_us, self._grace_until_us)
        return timers

    def handle(self, given: PathInput, now: Now) -> list[PathOutput]:
        """Take one input and return its outputs: `PathProved`, `PathExpired`, `GiveUp`.

        Raises:
            LocalProtocolError: the input is impossible in this state (`TRANSITIONS`). The state is unchanged.
        """
        if isinstance(given, TimerFired) and not due(self.deadline, now):
            return []
        TRANSITIONS.check(self._state, given)
        match given:
            case DataReceived(stream, emitted_us):
                return self.see(stream, emitted_us, now)
            case TimerFired():
                return self._fire(given, now)
            case Connected():
                self._enter(PathState.UNPROVED, given)
                self._connected_us = now.mono_us
                return []
            case ConnectionLost():
                self._enter(PathState.DOWN, given)
                self._forget()
                return []
            case CanaryRequested():
                if not self._watched:
                    self._watched = True
                    self._connected_us = now.mono_us
                return []
            case RoundTripMeasured(round_trip_us, server_us):
                self._lateness.answer(round_trip_us, now.mono_us, server_us=server_us)
                return self._judge(given, now)
            case ReadingPaused():
                self._reading = False
                return []
            case ReadingResumed():
                if not self._reading:
                    self._reading = True
                    self._grace_until_us = now.mono_us + GRACE_US
                return []

    def on_our_clock(self, emitted_us: int | None) -> int | None:
        """Return when the exchange did something, on our monotonic clock and as early as it can have been, or None where that is unknown."""
        offset_us = self._lateness.offset_us
        return None if emitted_us is None or offset_us is None else emitted_us + offset_us

    def doubt(self, now: Now) -> str | None:
        """Return why the path is not well at this moment, or None when it is, or when there is no connection."""
        claim = self._claim
        if self._state is PathState.DOWN or not claim.bounded:
            return None
        silent_us = now.mono_us - (self._connected_us if self._data_us is None else self._data_us)
        late_us = 0 if self._data_us is None else self._arrived_late_us - claim.offset_us
        if late_us > LATE_US:
            return f"data are {late_us / 1e6:.1f} s late"
        if claim.holds(now.mono_us):
            return None
        if silent_us > LATE_US:
            return f"no data have come for {silent_us / 1e6:.1f} s"
        return "no data have proved the path of the connection yet"

    def see(self, stream: str, emitted_us: int | None, now: Now) -> list[PathOutput]:
        """Take a data frame: the fast twin of `handle(DataReceived(stream, emitted_us), now)`, without a check of the state."""
        self._data_us = now.mono_us
        if emitted_us is None or not self._lateness.frame(stream, emitted_us, now.mono_us):
            return []
        claim = self._claim
        claim.offset_us = self._lateness.offset_us or 0
        self._arrived_late_us = now.mono_us - emitted_us
        proved_us = claim.proved_us
        if proved_us is None or emitted_us > proved_us or proved_us + claim.offset_us > now.mono_us:
            # The newest time, unless it lies in the future: then the exchange's clock was ahead for a while, and is no more.
            claim.proved_us = emitted_us
            if proved_us is not None and emitted_us < proved_us:
                return self._judge(DataReceived(stream, emitted_us), now)
        return [] if self._state is PathState.PROVED else self._judge(DataReceived(stream, emitted_us), now)

    def latest_us(self, mono_us: int) -> int | None:
        """Return up to which time of emission frames only renew the proof (`renew`), or None when each has to be seen for itself."""
        claim, smallest_us = self._claim, self._lateness.smallest_us
        if self._state is not PathState.PROVED or claim.proved_us is None or smallest_us is None:
            return None
        if not 0 <= mono_us - claim.proved_us - claim.offset_us < PATH_BOUND_US:
            return None
        return mono_us - smallest_us + LEAP_US

    def renew(self, newest_us: int, last_us: int, now: Now) -> None:
        """Take the newest and the last time of a run of frames, all of them up to `latest_us`, as `see` would for each of them."""
        self._data_us = now.mono_us
        self._lateness.frame("", newest_us, now.mono_us)
        claim = self._claim
        claim.offset_us = self._lateness.offset_us or 0
        self._arrived_late_us = now.mono_us - last_us
        claim.proved_us = newest_us if claim.proved_us is None else max(newest_us, claim.proved_us)

    def _judge(self, given: DataReceived | RoundTripMeasured, now: Now) -> list[PathOutput]:
        """Compare the proof with the present knowledge of the clocks."""
        claim = self._claim
        claim.offset_us = self._lateness.offset_us or 0
        if self._state is PathState.DOWN or claim.proved_us is None:
            return []
        holds = claim.holds(now.mono_us)
        if holds and self._state is not PathState.PROVED:
            self._enter(PathState.PROVED, given)
            return [PathProved()]
        if not holds and self._state is PathState.PROVED:
            return [self._expire(given, now)]
        return []

    def _expire(self, given: DataReceived | RoundTripMeasured | TimerFired, now: Now) -> PathExpired:
        self._enter(PathState.EXPIRED, given)
        return PathExpired(self.doubt(now) or "the path is not proved")

    def _fire(self, given: TimerFired, now: Now) -> list[PathOutput]:
        timers = self._timers()
        fired = {timer for timer, at_us in timers.items() if at_us <= now.mono_us}
        if now.mono_us - min(timers.values()) > LATE_TIMER_US:
            self._grace_until_us = now.mono_us + GRACE_US
            fired.discard(PathTimer.SILENCE)
        outputs: list[PathOutput] = [self._expire(given, now)] if PathTimer.EXPIRY in fired else []
        if PathTimer.SILENCE in fired:
            silent_us = now.mono_us - (self._connected_us if self._data_us is None else self._data_us)
            self._enter(PathState.DOWN, given)
            self._forget()
            outputs.append(
                GiveUp(f"no data for {silent_us / 1e6:.1f} s, though the exchange has streams that come every second")
            )
        return outputs

    def _forget(self) -> None:
        self._claim.proved_us = None
        self._data_us = None
        self._watched = False

    def _enter(self, state: PathState, given: PathInput) -> None:
        self._state = TRANSITIONS.step(self._state, given, state)

"""The offset of the exchange's clock from ours, with a bound on its error.

Theory of operation. A signed request is good until its timestamp plus its window, on the exchange's clock (docs/protocol.md 2.1), so
a wall clock that is off by seconds makes every signature expire. This machine asks for `GET /time` (`MeasureClock`) and is given the
answer. The answer holds for some moment between sending and receiving: half the round trip is the error, and a millisecond more
for the answer's resolution.

A measurement ages: two clocks may drift apart by `DRIFT_PPM`, and our wall clock may be set. The monotonic clock tells how far it
was set, as long as it ran all the while (it need not while a machine sleeps), so that is not corrected, but it widens the bound.
Of the last `KEPT` measurements the one with the narrowest bound is used.

IDLE wants no timer. `StartMeasuring` asks for a measurement at once. Afterwards the machine is MEASURING until the answer or the
failure is reported, then RESTING until the next one is due: `REFRESH_US` after an answer, `PROBE_AGAIN_US` after a failure. Every
`WATCH_US` it looks whether the wall clock was set: a jump of `STEP_US` or more is reported (`ClockStepped`) and measured again.

Each `MeasureClock` is answered once, so an answer without a measurement under way is a fault of the caller and is refused. After
`StopMeasuring` the one that was under way is not to be answered any more.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, Timers, Transitions, due
from backpack_proto.streams.payloads import Event

__all__ = [
    "ClockProbeFailed",
    "ClockSampled",
    "ClockStepped",
    "ExchangeClock",
    "MeasureClock",
    "StartMeasuring",
    "StopMeasuring",
]

REFRESH_US: Final = 600_000_000
PROBE_AGAIN_US: Final = 30_000_000
WATCH_US: Final = 10_000_000
STEP_US: Final = 500_000
DRIFT_PPM: Final = 100
KEPT: Final = 8
_RESOLUTION_US = 1_000


class StartMeasuring(Struct, frozen=True, gc=False):
    """Measure now, and regularly from here on."""


class StopMeasuring(Struct, frozen=True, gc=False):
    """Want no timer and no measurement any more. The known offset stays."""


class ClockSampled(Struct, frozen=True, gc=False, kw_only=True):
    """The exchange answered `/time`."""

    sent: Now
    """When the request was sent."""
    server_ms: int
    """The answer, milliseconds since the epoch."""


class ClockProbeFailed(Struct, frozen=True, gc=False):
    """No usable answer came."""


class MeasureClock(Struct, frozen=True, gc=False):
    """Request `/time` and report the answer as `ClockSampled` or `ClockProbeFailed`."""


class ClockStepped(Event, frozen=True, gc=False, kw_only=True):
    """The wall clock of this machine jumped: it was set, or the machine slept. Signatures may be refused until it is measured."""

    step_us: int
    """Size of the step, forwards or (negative) backwards."""


ClockInput: TypeAlias = StartMeasuring | StopMeasuring | ClockSampled | ClockProbeFailed | TimerFired
ClockOutput: TypeAlias = MeasureClock | ClockStepped


class State(Enum):
    """State of the measurements."""

    IDLE = "idle"
    MEASURING = "measuring"
    RESTING = "resting"


TRANSITIONS: Final = Transitions(
    [
        (State.IDLE, StartMeasuring, State.MEASURING),
        (State.IDLE, StopMeasuring, State.IDLE),
        (State.MEASURING, StartMeasuring, State.MEASURING),
        (State.MEASURING, StopMeasuring, State.IDLE),
        (State.MEASURING, ClockSampled, State.RESTING),
        (State.MEASURING, ClockProbeFailed, State.RESTING),
        (State.MEASURING, TimerFired, State.MEASURING),
        (State.RESTING, StartMeasuring, State.MEASURING),
        (State.RESTING, StopMeasuring, State.IDLE),
        (State.RESTING, TimerFired, State.RESTING),
        (State.RESTING, TimerFired, State.MEASURING),
    ]
)


class Timer(Enum):
    """Reasons for the clock to be woken."""

    MEASURE = "measure"
    """The next measurement is due, RESTING only."""
    WATCH = "watch"
    """The wall clock is looked at, in every state but IDLE."""


class _Sample(NamedTuple):
    offset_us: int
    error_us: int
    sent_us: int
    """On the monotonic clock. Drift counts from here."""
    taken: Now

    def bound_us(self, now: Now) -> int:
        """Return the largest error of the offset at another moment."""
        drift_us = -(-abs(now.mono_us - self.sent_us) * DRIFT_PPM // 1_000_000)
        return self.error_us + drift_us + abs(_between(self.taken, now))


class ExchangeClock:
    """Measures the exchange's clock: takes `ClockInput`, gives `ClockOutput`. Starts when told to."""

    def __init__(self) -> None:
        self._state = State.IDLE
        self._timers: Timers[Timer] = Timers()
        self._watched: Now | None = None
        """When the wall clock was looked at last."""
        self._samples: deque[_Sample] = deque(maxlen=KEPT)
        self._best: _Sample | None = None

    @property
    def deadline(self) -> int | None:
        """When to measure again, or to look at the wall clock, or None while idle."""
        return self._timers.earliest

    @property
    def state(self) -> State:
        """True when a measurement is wanted, under way, or due later."""
        return self._state

    @property
    def offset_us(self) -> int | None:
        """The exchange's clock minus our wall clock, in microseconds, or None before the first measurement."""
        return None if self._best is None else self._best.offset_us

    def error_us(self, now: Now) -> int | None:
        """Largest error of `exchange_unix_us`, in microseconds, or None before the first measurement."""
        return None if self._best is None else self._best.bound_us(now)

    def exchange_unix_us(self, now: Now) -> int:
        """Return the exchange's time in microseconds since the epoch. Our own before the first measurement."""
        return now.unix_us + (self.offset_us or 0)

    def handle(self, given: ClockInput, now: Now) -> list[ClockOutput]:
        """Take one input. A `TimerFired` that is early has no effect.

        Raises:
            LocalProtocolError: the input is impossible in this state (`TRANSITIONS`), or a sample was sent after it came back. The state
                is unchanged.
        """
        if isinstance(given, TimerFired) and not due(self.deadline, now):
            return []
        TRANSITIONS.check(self._state, given)
        match given:
            case StartMeasuring():
                if self._watched is None:
                    self._watch(now)
                return self._measure(given)
            case StopMeasuring():
                self._state = TRANSITIONS.step(self._state, given, State.IDLE)
                self._watched = None
                self._timers.clear()
            case ClockSampled():
                self._take(given, now)
                self._rest(given, now.mono_us + REFRESH_US)
            case ClockProbeFailed():
                self._rest(given, now.mono_us + PROBE_AGAIN_US)
            case TimerFired():
                return self._on_timer(given, now)
        return []

    def _on_timer(self, given: TimerFired, now: Now) -> list[ClockOutput]:
        step_us = _between(self._watched or now, now)
        measures = Timer.MEASURE in self._timers.due(now.mono_us)
        self._watch(now)
        if abs(step_us) >= STEP_US:
            return [ClockStepped(step_us=step_us), *self._measure(given)]
        return self._measure(given) if measures else []

    def _watch(self, now: Now) -> None:
        self._watched = now
        self._timers.set(Timer.WATCH, now.mono_us + WATCH_US)

    def _measure(self, given: StartMeasuring | TimerFired) -> list[ClockOutput]:
        if self._state is State.MEASURING:
            return []
        self._state = TRANSITIONS.step(self._state, given, State.MEASURING)
        self._timers.set(Timer.MEASURE, None)
        return [MeasureClock()]

    def _rest(self, given: ClockSampled | ClockProbeFailed, until: int) -> None:
        self._state = TRANSITIONS.step(self._state, given, State.RESTING)
        self._timers.set(Timer.MEASURE, until)

    def _take(self, given: ClockSampled, now: Now) -> None:
        round_trip_us = now.mono_us - given.sent.mono_us
        if round_trip_us < 0:
            raise LocalProtocolError("a clock sample came back before it was sent")
        # Our wall clock in the middle of the round trip. The way there and the way back need not have taken equally long.
        middle_us = now.unix_us - round_trip_us // 2
        error_us = (round_trip_us + 1) // 2 + _RESOLUTION_US
        self._samples.append(_Sample(given.server_ms * 1000 - middle_us, error_us, given.sent.mono_us, now))
        # Bounds widen at the same pace, so one choice is good until the next sample. Of equals, the latest.
        self._best = min(reversed(self._samples), key=lambda sample: sample.bound_us(now))


def _between(before: Now, now: Now) -> int:
    """Return the step of the wall clock between two moments, judged by the monotonic clock."""
    return (now.unix_us - now.mono_us) - (before.unix_us - before.mono_us)

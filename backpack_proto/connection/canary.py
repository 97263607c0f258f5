"""The canaries: streams that come every second, independent of the user's, so that silence means something.

Theory of operation. While anything is subscribed (`StreamsWanted`), up to COUNT open perpetuals are watched by their `markPrice`, which comes
every second (docs/protocol.md 3.4). Not those of stocks and other real-world assets, which have hours of trading. They are chosen from the
list of markets, which is asked for when it is not known yet (`ReadMarkets`). A canary that is silent for SILENCE_US is replaced by the next market of
the list, and the list is read again, for its state may have changed. As long as other canaries speak, that is no reason against the connection.
One that has no successor is requested again: a stream subscribed while its market was closed may never speak.

The turn. SUBSCRIBE is never acknowledged (docs/protocol.md 3.2), but the exchange takes frames in order. So after each request the other one of
`markPrice` and `ticker` of the first canary is requested (`CanariesChosen`), and once it speaks everything before it is in force. Then the first one
is undone. One turn serves all requests that were made before it was begun. Requests made meanwhile have the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import TypeAlias

from msgspec import Struct

from backpack_proto.backoff import Backoff
from backpack_proto.inputs import Connected, TimerFired
from backpack_proto.machine import Now, Transitions, due, earliest
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.names import Stream

from .signals import CanariesChosen, ConnectionLost, DataSeen, Requested, Resubscribe

__all__ = [
    "TRANSITIONS",
    "Canary",
    "CanaryInput",
    "CanaryOutput",
    "CanaryState",
    "MarketsKnown",
    "MarketsUnknown",
    "ReadMarkets",
    "StreamsWanted",
]

COUNT = 3
SILENCE_US = 10_000_000
"""A canary that has not spoken for so long is replaced."""
RETRY = Backoff(base_us=1_000_000, cap_us=60_000_000)
"""When the list of markets is asked for again."""
LOOK_UP_US = 60_000_000
"""Shortest time between two requests of the list of markets because a canary is silent."""
TURN = (Channel.MARK_PRICE, Channel.TICKER)


class StreamsWanted(Struct, frozen=True, gc=False):
    """Streams are wanted, or no longer."""

    wanted: bool


class MarketsKnown(Struct, frozen=True, gc=False):
    """The open perpetuals of the exchange, without those of real-world assets, in the order of its list."""

    perpetuals: tuple[str, ...]


class MarketsUnknown(Struct, frozen=True, gc=False):
    """The list of markets could not be had."""


class ReadMarkets(Struct, frozen=True, gc=False):
    """Output: ask for the list of markets. Answer with `MarketsKnown` or `MarketsUnknown`."""


class CanaryState(Enum):
    """Progress of the canaries."""

    OFF = auto()
    """Nothing is subscribed."""
    LOOKING = auto()
    """The list of markets is awaited, or asked for again later."""
    WATCHING = auto()


class CanaryTimer(Enum):
    """The meanings of the deadline."""

    RETRY = auto()
    SILENCE = auto()


CanaryInput: TypeAlias = (
    StreamsWanted | MarketsKnown | MarketsUnknown | Connected | ConnectionLost | Requested | DataSeen | TimerFired
)
CanaryOutput: TypeAlias = ReadMarkets | CanariesChosen | Resubscribe

_S = CanaryState
TRANSITIONS = Transitions(
    [
        (_S.OFF, StreamsWanted, _S.OFF),
        (_S.OFF, StreamsWanted, _S.LOOKING),
        (_S.OFF, StreamsWanted, _S.WATCHING),
        (_S.LOOKING, StreamsWanted, _S.LOOKING),
        (_S.LOOKING, StreamsWanted, _S.OFF),
        (_S.WATCHING, StreamsWanted, _S.WATCHING),
        (_S.WATCHING, StreamsWanted, _S.OFF),
        (_S.OFF, MarketsKnown, _S.OFF),
        (_S.LOOKING, MarketsKnown, _S.WATCHING),
        (_S.LOOKING, MarketsKnown, _S.LOOKING),
        (_S.WATCHING, MarketsKnown, _S.WATCHING),
        *((state, MarketsUnknown, state) for state in CanaryState),
        *((state, given, state) for state in CanaryState for given in (Connected, ConnectionLost)),
        *((state, given, state) for state in (_S.OFF, _S.WATCHING) for given in (Requested, DataSeen)),
        (_S.LOOKING, Requested, _S.LOOKING),
        (_S.LOOKING, TimerFired, _S.LOOKING),
        (_S.WATCHING, TimerFired, _S.WATCHING),
    ]
)


class Canary:
    """Chooses the canaries and replaces them. A machine."""

    def __init__(self) -> None:
        self._state = CanaryState.OFF
        self._markets: tuple[str, ...] = ()
        self._replaced: dict[str, None] = {}
        """Markets that were silent, the longest ago first."""
        self._heard_us: dict[str, int] = {}
        """When each canary, by its market, was heard last or chosen."""
        self._streams: tuple[str, ...] = ()
        self._connected = False
        self._retry_us: int | None = None
        self._looked_up_us: int | None = None
        self._failures = 0
        self._turn = 0
        """Which of TURN the first canary has."""
        self._turning = False
        """Both of TURN are requested, and the newer one has not spoken."""
        self._turn_again = False
        self._turned_us = 0
        """When the turn began."""

    @property
    def state(self) -> CanaryState:
        """Progress of the canaries."""
        return self._state

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams of the canaries."""
        return self._streams

    @property
    def replaced(self) -> tuple[str, ...]:
        """The markets whose canaries fell silent while they were open, until the list of markets is known again."""
        return tuple(self._replaced)

    @property
    def deadline(self) -> int | None:
        """The first of the timers."""
        return earliest(*self._timers().values())

    def _timers(self) -> dict[CanaryTimer, int]:
        timers: dict[CanaryTimer, int] = {}
        if self._retry_us is not None:
            timers[CanaryTimer.RETRY] = self._retry_us
        if self._state is CanaryState.WATCHING and self._connected and self._heard_us:
            timers[CanaryTimer.SILENCE] = min(self._heard_us.values()) + SILENCE_US
        return timers

    def handle(self, given: CanaryInput, now: Now) -> Sequence[CanaryOutput]:
        """Take one input and return its outputs: `ReadMarkets`, `CanariesChosen`, `Resubscribe`.

        Raises:
            LocalProtocolError: the input is impossible in this state (`TRANSITIONS`). The state is unchanged.
        """
        if isinstance(given, TimerFired) and not due(self.deadline, now):
            return []
        TRANSITIONS.check(self._state, given)
        match given:
            case DataSeen(stream, emitted_us):
                return self._hear(stream, emitted_us, now)
            case Requested():
                return self._request(now)
            case StreamsWanted(wanted):
                return self._want(given, now, wanted=wanted)
            case MarketsKnown(perpetuals):
                self._markets = perpetuals
                self._replaced.clear()
                return self._choose(given, now) if self._state is not CanaryState.OFF else []
            case MarketsUnknown():
                return self._try_later(now)
            case Connected() | ConnectionLost():
                self._connected = isinstance(given, Connected)
                self._turning = self._turn_again = False
                self._heard_us = dict.fromkeys(self._heard_us, now.mono_us)
                return self._chosen()
            case TimerFired():
                return self._fire(given, now)

    def _want(self, given: StreamsWanted, now: Now, *, wanted: bool) -> Sequence[CanaryOutput]:
        if wanted is (self._state is not CanaryState.OFF):
            return []
        if not wanted:
            self._enter(CanaryState.OFF, given)
            self._heard_us.clear()
            self._retry_us = None
            return self._chosen()
        if self._markets:
            return self._choose(given, now)
        self._enter(CanaryState.LOOKING, given)
        return [ReadMarkets()]

    def _choose(self, given: CanaryInput, now: Now) -> Sequence[CanaryOutput]:
        """Keep the canaries that can stay, and fill up from the list: first those that were never silent."""
        kept = [market for market in self._heard_us if market in self._markets and market not in self._replaced]
        fresh = [market for market in self._markets if market not in kept and market not in self._replaced]
        silent = [market for market in self._replaced if market in self._markets]
        chosen = [*kept, *fresh, *silent][:COUNT]
        self._heard_us = {market: self._heard_us.get(market, now.mono_us) for market in chosen}
        for market in silent:
            if market in chosen:
                self._heard_us[market] = now.mono_us
        if not chosen:
            if self._state is not CanaryState.LOOKING:
                self._enter(CanaryState.LOOKING, given)
            return self._try_later(now)
        self._retry_us, self._failures = None, 0
        self._enter(CanaryState.WATCHING, given)
        return self._chosen()

    def _try_later(self, now: Now) -> Sequence[CanaryOutput]:
        if self._state is CanaryState.LOOKING or self._replaced:
            self._failures += 1
            self._retry_us = now.mono_us + RETRY.delay_us(self._failures)
        return []

    def _request(self, now: Now) -> Sequence[CanaryOutput]:
        """Begin a turn after a request. One that is under way serves only requests made before it."""
        if self._state is not CanaryState.WATCHING or not self._connected:
            return []
        if self._turning:
            self._turn_again = True
            return []
        self._turning = True
        self._turned_us = now.mono_us
        return self._chosen()

    def _hear(self, stream: str, emitted_us: int | None, now: Now) -> Sequence[CanaryOutput]:
        market = next((market for market in self._heard_us if stream in _streams_of(market)), None)
        if market is None:
            return []
        self._heard_us[market] = now.mono_us
        self._replaced.pop(market, None)
        if not self._turning or stream != _stream(self._first, self._turn + 1):
            return []
        if emitted_us is not None and emitted_us < self._turned_us:
            # From before this turn: it was on its way when the stream was undone.
            return []
        self._turn += 1
        self._turning, self._turn_again = self._turn_again, False
        self._turned_us = now.mono_us
        return self._chosen()

    @property
    def _first(self) -> str:
        return next(iter(self._heard_us))

    def _chosen(self) -> Sequence[CanaryOutput]:
        streams: list[str] = []
        for number, market in enumerate(self._heard_us):
            streams.append(_stream(market, self._turn if number == 0 else 0))
            if number == 0 and self._turning:
                streams.append(_stream(market, self._turn + 1))
        if tuple(streams) == self._streams:
            return []
        self._streams = tuple(streams)
        return [CanariesChosen(self._streams)]

    def _fire(self, given: TimerFired, now: Now) -> Sequence[CanaryOutput]:
        outputs: list[CanaryOutput] = []
        if due(self._retry_us, now):
            self._retry_us = None
            self._looked_up_us = now.mono_us
            outputs.append(ReadMarkets())
        silent = [market for market, heard_us in self._heard_us.items() if now.mono_us >= heard_us + SILENCE_US]
        if silent and self._connected:
            for market in silent:
                self._replaced.pop(market, None)
                self._replaced[market] = None
            self._turning = self._turn_again = False
            requested = self._streams
            outputs += self._choose(given, now)
            again = [one for market in silent for one in _streams_of(market) if one in requested and one in self._streams]
            if again:
                outputs.append(Resubscribe(tuple(again)))
            # Their states may have changed since the list was read. The list says so of all at once, but not more often than it changes.
            if self._looked_up_us is None or now.mono_us - self._looked_up_us >= LOOK_UP_US:
                self._looked_up_us = now.mono_us
                outputs.append(ReadMarkets())
            elif self._retry_us is None:
                self._retry_us = self._looked_up_us + LOOK_UP_US
        return outputs

    def _enter(self, state: CanaryState, given: CanaryInput) -> None:
        self._state = TRANSITIONS.step(self._state, given, state)


def _stream(market: str, turn: int) -> str:
    return Stream(channel=TURN[turn % len(TURN)], symbol=market).name


def _streams_of(market: str) -> tuple[str, ...]:
    return tuple(_stream(market, turn) for turn in range(len(TURN)))

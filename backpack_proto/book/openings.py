"""Which markets are closed, and when they open.

Theory of operation. A subscription to a closed market is accepted, and stays silent (docs/protocol.md 6.2). So a market that is watched and whose
snapshots cannot be had (`MarketDoubted`) is looked up (`ReadMarket`), at most once in LOOK_UP_US, and so is one that is closed until it opens.
Only `Closed` counts: books of markets that take some kinds of orders only are open. Lists of markets that are read for other reasons count as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, Timers
from backpack_proto.outputs import MarketClosed, MarketOpened

from .signals import MarketDoubted

__all__ = [
    "LOOK_UP_US",
    "MarketUnread",
    "MarketWatched",
    "MarketsRead",
    "Openings",
    "OpeningsInput",
    "OpeningsOutput",
    "ReadMarket",
]

CLOSED: Final = "Closed"
LOOK_UP_US = 60_000_000
"""Shortest time between two look-ups of one market, and the interval for a closed one."""


class MarketWatched(Struct, frozen=True, gc=False):
    """A book of this market is wanted, or no longer."""

    symbol: str
    watched: bool


class MarketsRead(Struct, frozen=True, gc=False):
    """States of some markets, from the exchange."""

    states: Mapping[str, str]


class MarketUnread(Struct, frozen=True, gc=False):
    """A market could not be looked up."""

    symbol: str


class ReadMarket(Struct, frozen=True, gc=False):
    """Output: look a market up. Answer with `MarketsRead` or `MarketUnread`."""

    symbol: str


OpeningsInput: TypeAlias = MarketWatched | MarketDoubted | MarketsRead | MarketUnread | TimerFired
OpeningsOutput: TypeAlias = ReadMarket | MarketClosed | MarketOpened


class Openings:
    """Watches the markets of all books. A machine without states of its own, for each market is open or closed."""

    def __init__(self) -> None:
        self._watched: dict[str, None] = {}
        self._closed: dict[str, None] = {}
        """Those of all markets that were closed when they were last heard of."""
        self._looked_up_us: dict[str, int] = {}
        self._timers: Timers[str] = Timers()

    @property
    def deadline(self) -> int | None:
        """When the next closed market is looked up."""
        return self._timers.earliest

    @property
    def closed(self) -> tuple[str, ...]:
        """The watched markets that are closed."""
        return tuple(symbol for symbol in self._watched if symbol in self._closed)

    def is_closed(self, symbol: str) -> bool:
        """Return whether a market was closed when it was last heard of."""
        return symbol in self._closed

    def handle(self, given: OpeningsInput, now: Now) -> Sequence[OpeningsOutput]:
        """Take one input and return its outputs: `ReadMarket`, `MarketClosed`, `MarketOpened`."""
        match given:
            case MarketWatched(symbol, watched):
                return self._watch(symbol, now, watched=watched)
            case MarketDoubted(symbol=symbol):
                looked_up_us = self._looked_up_us.get(symbol)
                if symbol not in self._watched or (looked_up_us is not None and now.mono_us - looked_up_us < LOOK_UP_US):
                    return []
                return [self._look_up(symbol, now)]
            case MarketsRead(states):
                return [output for symbol, state in states.items() for output in self._learn(symbol, state, now)]
            case MarketUnread():
                # The timer of a closed one runs. An open one is looked up again when it is doubted again.
                return []
            case TimerFired():
                return [self._look_up(symbol, now) for symbol in self._timers.due(now.mono_us)]

    def _watch(self, symbol: str, now: Now, *, watched: bool) -> Sequence[OpeningsOutput]:
        if not watched:
            self._watched.pop(symbol, None)
            self._looked_up_us.pop(symbol, None)
            self._timers.set(symbol, None)
            return []
        if symbol in self._watched:
            return []
        self._watched[symbol] = None
        if symbol not in self._closed:
            return []
        # The last answer about it may be old: it is looked up at once.
        return [MarketClosed(symbol=symbol), self._look_up(symbol, now)]

    def _look_up(self, symbol: str, now: Now) -> ReadMarket:
        self._looked_up_us[symbol] = now.mono_us
        if symbol in self._closed:
            self._timers.set(symbol, now.mono_us + LOOK_UP_US)
        return ReadMarket(symbol)

    def _learn(self, symbol: str, state: str, now: Now) -> Sequence[OpeningsOutput]:
        closed = state == CLOSED
        if closed is (symbol in self._closed):
            return []
        watched = symbol in self._watched
        if closed:
            self._closed[symbol] = None
            if watched:
                self._timers.set(symbol, now.mono_us + LOOK_UP_US)
            return [MarketClosed(symbol=symbol)] if watched else []
        del self._closed[symbol]
        self._timers.set(symbol, None)
        return [MarketOpened(symbol=symbol)] if watched else []

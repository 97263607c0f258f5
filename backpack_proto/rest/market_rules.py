"""The rules of each market, tick and step above all, and that they have changed while the program runs.

Theory of operation. The exchange does not announce a new tick. So the known rules are compared with its data: levels of a snapshot that do not lie
on tick and step, a list of markets with other rules, an order that was refused for its price or quantity. Each is a doubt and no more, for
lists come from a cache that may be a quarter of an hour old (docs/protocol.md 1.2) and an order may just be wrong. The answer to a doubt
is `/market?symbol=`, which is not cached: that, and that alone, replaces the known rules. One market is doubted at most once in DOUBT_US, and
levels that the answer did not explain, such as old orders that rest beside a new tick, are no doubt again for UNEXPLAINED_US.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Event

from .markets import Market, Markets

__all__ = [
    "DOUBT_US",
    "UNEXPLAINED_US",
    "LevelsSeen",
    "MarketChanged",
    "MarketRules",
    "MarketRulesInput",
    "RulesDoubted",
    "RulesRefused",
]

DOUBT_US: Final = 60_000_000
UNEXPLAINED_US: Final = 900_000_000
LEVELS_LOOKED_AT: Final = 50
"""A side. The market moves near the best price, so that is where a new tick is seen first."""


class MarketChanged(Event, frozen=True, gc=False, kw_only=True):
    """The exchange has changed the rules of a market, such as its tick or step: orders have to keep the new ones from now on."""

    symbol: str
    market: Market
    """As it is now."""
    previous: Market
    """As it was known before."""


class LevelsSeen(Struct, frozen=True, gc=False):
    """A snapshot shows these levels, best first."""

    symbol: str
    bids: Sequence[Level]
    asks: Sequence[Level]


class RulesRefused(Struct, frozen=True, gc=False):
    """An order was refused for its price or quantity."""

    symbol: str


class RulesDoubted(Struct, frozen=True, gc=False):
    """Output: the known rules of a market may be old. Answer with the `Market` that the exchange shows now."""

    symbol: str


MarketRulesInput: TypeAlias = Markets | Market | LevelsSeen | RulesRefused | TimerFired
MarketRulesOutput: TypeAlias = RulesDoubted | MarketChanged


class MarketRules:
    """Known rules of all markets. A machine without states and without a timer."""

    def __init__(self) -> None:
        self._known: dict[str, Market] = {}
        self._doubted_us: dict[str, int] = {}
        self._off_grid: set[str] = set()
        """Markets that are doubted for their levels."""
        self._unexplained_us: dict[str, int] = {}
        """Until when the levels of a market are no doubt."""

    @property
    def deadline(self) -> int | None:
        """Never: only inputs raise a doubt."""
        return None

    def known(self, symbol: str) -> Market | None:
        """Return a market with its rules as they are known, or None before a list of markets was read."""
        return self._known.get(symbol)

    def handle(self, given: MarketRulesInput, now: Now) -> Sequence[MarketRulesOutput]:
        """Take one input and return its outputs: `RulesDoubted`, `MarketChanged`."""
        match given:
            case LevelsSeen(symbol):
                return self._see(symbol, given, now)
            case RulesRefused(symbol):
                return self._doubt(symbol, now)
            case Market():
                return self._take_up(given, now)
            case Markets():
                differing = [market.symbol for market in given.values() if not self._agrees(market)]
                return [output for symbol in differing for output in self._doubt(symbol, now)]
            case TimerFired():
                return ()

    def _agrees(self, market: Market) -> bool:
        """Return whether a row of a list has the known rules. If so, or if it is new, it holds from now on."""
        agrees = self._known.get(market.symbol, market).filters == market.filters
        if agrees:
            self._known[market.symbol] = market
        return agrees

    def _see(self, symbol: str, seen: LevelsSeen, now: Now) -> Sequence[MarketRulesOutput]:
        market = self._known.get(symbol)
        if market is None or now.mono_us < self._unexplained_us.get(symbol, now.mono_us):
            return ()
        if _on_grid(market, seen.bids[:LEVELS_LOOKED_AT]) and _on_grid(market, seen.asks[:LEVELS_LOOKED_AT]):
            return ()
        self._off_grid.add(symbol)
        return self._doubt(symbol, now)

    def _doubt(self, symbol: str, now: Now) -> Sequence[MarketRulesOutput]:
        doubted_us = self._doubted_us.get(symbol)
        if symbol not in self._known or (doubted_us is not None and now.mono_us - doubted_us < DOUBT_US):
            return ()
        self._doubted_us[symbol] = now.mono_us
        return (RulesDoubted(symbol),)

    def _take_up(self, market: Market, now: Now) -> Sequence[MarketRulesOutput]:
        symbol = market.symbol
        previous, self._known[symbol] = self._known.get(symbol, market), market
        off_grid = symbol in self._off_grid
        self._off_grid.discard(symbol)
        if previous.filters != market.filters:
            self._unexplained_us.pop(symbol, None)
            return (MarketChanged(symbol=symbol, market=market, previous=previous),)
        if off_grid:
            self._unexplained_us[symbol] = now.mono_us + UNEXPLAINED_US
        return ()


def _on_grid(market: Market, levels: Iterable[Level]) -> bool:
    """Return whether all levels lie on tick and step. A market without a usable one has no grid."""
    prices, quantities = market.filters.price.grid, market.filters.quantity.grid
    return all(prices.holds(level.price) and quantities.holds(level.quantity) for level in levels)

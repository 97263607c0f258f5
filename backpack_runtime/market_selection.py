"""Symbols by a rule in place of a list: all markets, or those that a predicate picks, new listings included while a client runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypeAlias, cast

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import shown
from backpack_proto.rest.markets import Market
from backpack_proto.streams.channels import Channel, SymbolKind
from backpack_proto.streams.names import Stream, parse_channel, streams_for

from .checks import checked_names

__all__ = ["ALL", "CLOSED", "MarketRule", "Selections", "Symbols", "by_market", "checked_symbols"]

ALL: Final = "all"
MarketRule: TypeAlias = Callable[[Market], bool]
Symbols: TypeAlias = Iterable[str] | Literal["all"] | MarketRule
"""Ids or normalised symbols. Or `all`. Or a predicate on markets."""

CLOSED: Final = "Closed"
_PERPETUAL: Final = "PERP"
_STOCK: Final = "STOCK"
_ANY: Final = "ANY_ANY"


def checked_symbols(name: str, value: object) -> tuple[str, ...] | MarketRule:
    """Return symbols as a tuple, or the rule that they are chosen by.

    Raises:
        ConfigurationError: it is neither.
    """
    if value == ALL:
        return _every_market
    if callable(value):
        return cast("MarketRule", value)
    if isinstance(value, str):
        raise ConfigurationError(
            f"{name}: a list of texts, 'all' or a predicate on markets, got the text {shown(value)}; write [{shown(value)}]"
        )
    return checked_names(name, value)


class Selections:
    """Channels of markets that rules pick, and the markets that they have picked so far."""

    def __init__(self) -> None:
        self._all: list[_Selection] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, channels: Iterable[str], rule: MarketRule) -> None:
        """Have channels of the markets that a rule picks, from the next `take` on."""
        self._all.append(_Selection(tuple(channels), rule))

    def take(self, markets: Mapping[str, Market]) -> list[Stream]:
        """Return the streams of markets that were not picked before. A closed market is picked once it is open.

        Raises:
            ConfigurationError: a rule does not answer True or False.
        """
        return [stream for selection in self._all for stream in selection.take(markets)]

    def remove(self, channels: Iterable[str], rule: MarketRule) -> list[Stream]:
        """Undo channels of the markets that a rule picks. Return their streams.

        Raises:
            ConfigurationError: there is no such rule with one of the channels.
        """
        names = tuple(channels)
        known = {name for selection in self._all if selection.rule == rule for name in selection.channels}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigurationError(f"symbols: nothing of {', '.join(unknown)} was subscribed by this rule")
        streams: list[Stream] = []
        for selection in self._all:
            if selection.rule == rule:
                streams += selection.streams_of(name for name in selection.channels if name in names)
                selection.channels = tuple(name for name in selection.channels if name not in names)
        self._all = [selection for selection in self._all if selection.channels]
        return streams


class _Selection:
    def __init__(self, channels: tuple[str, ...], rule: MarketRule) -> None:
        self.channels = channels
        self.rule = rule
        self._picked: dict[str, Market] = {}

    def take(self, markets: Mapping[str, Market]) -> list[Stream]:
        fresh = [market for market in markets.values() if market.symbol not in self._picked and self._picks(market)]
        self._picked.update((market.symbol, market) for market in fresh)
        return [stream for market in fresh for stream in _streams(self.channels, market)]

    def streams_of(self, channels: Iterable[str]) -> list[Stream]:
        names = tuple(channels)
        return [stream for market in self._picked.values() for stream in _streams(names, market)]

    def _picks(self, market: Market) -> bool:
        if market.order_book_state == CLOSED:
            return False
        picked = self.rule(market)
        if not isinstance(picked, bool):
            raise ConfigurationError(f"symbols: the predicate answers True or False, got {shown(picked)} for {market.symbol}")
        return picked


def by_market(channels: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the channels that are subscribed for each market, and those that are one stream for all markets."""
    names = list(channels)
    each = [name for name in names if any(stream.symbol == _ANY for stream in streams_for([name], [_ANY]))]
    return each, [name for name in names if name not in each]


def _streams(channels: Iterable[str], market: Market) -> list[Stream]:
    """Return the streams of one market: without those of perpetuals where it is not one, and without those of stocks."""
    return list(
        streams_for([channel for channel in channels if _fits(parse_channel(channel).channel, market)], [market.symbol])
    )


def _fits(channel: Channel, market: Market) -> bool:
    if channel.traits.symbol_kind is SymbolKind.TICKER:
        return market.rwa_market_type == _STOCK
    return market.market_type == _PERPETUAL or not channel.traits.perpetual_only


def _every_market(_: Market) -> bool:
    return True

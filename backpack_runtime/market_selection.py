"""Symbols by a rule in place of a list: all markets, or those that a predicate picks, new listings included while a client runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypeAlias

from backpack_proto.errors import ConfigurationError
from backpack_proto.hints import shown
from backpack_proto.rest.markets import Market
from backpack_proto.streams.names import Stream, parse_channel, streams_for

from .checks import checked_names

__all__ = ["ALL", "MarketRule", "Selection", "Symbols", "checked_symbols"]

ALL: Final = "all"
MarketRule: TypeAlias = Callable[[Market], bool]
Symbols: TypeAlias = Iterable[str] | Literal["all"] | MarketRule
"""Ids or normalised symbols; or `all`; or a predicate on markets."""

CLOSED: Final = "Closed"
_PERPETUAL: Final = "PERP"


def checked_symbols(name: str, value: object) -> tuple[str, ...] | MarketRule:
    """Return symbols as a tuple, or the rule that they are chosen by.

    Raises:
        ConfigurationError: it is neither.
    """
    if value == ALL:
        return _every_market
    if callable(value):
        return value
    if isinstance(value, str):
        raise ConfigurationError(f"{name}: a list of texts, 'all' or a predicate on markets, got the text {shown(value)}")
    return checked_names(name, value)


class Selection:
    """Streams of some channels for the markets that a rule picks."""

    def __init__(self, channels: Iterable[str], rule: MarketRule) -> None:
        self.channels = tuple(channels)
        self.rule = rule
        self._chosen: dict[str, None] = {}

    def take(self, markets: Mapping[str, Market]) -> list[Stream]:
        """Return the streams of markets that were not chosen before; a closed market is chosen once it is open.

        Raises:
            ConfigurationError: the rule does not answer True or False.
        """
        fresh = [market for market in markets.values() if market.symbol not in self._chosen and self._picks(market)]
        self._chosen.update(dict.fromkeys(market.symbol for market in fresh))
        return [stream for market in fresh for stream in _streams(self.channels, market)]

    def leave(self, markets: Mapping[str, Market]) -> list[Stream]:
        """Return the streams of all markets that were chosen."""
        chosen = [market for market in markets.values() if market.symbol in self._chosen]
        return [stream for market in chosen for stream in _streams(self.channels, market)]

    def _picks(self, market: Market) -> bool:
        if market.order_book_state == CLOSED:
            return False
        picked = self.rule(market)
        if not isinstance(picked, bool):
            raise ConfigurationError(f"symbols: the predicate answers True or False, got {shown(picked)} for {market.symbol}")
        return picked


def _streams(channels: Iterable[str], market: Market) -> list[Stream]:
    """Return the streams of one market; a spot market has none of the channels that are of perpetuals only."""
    perpetual = market.market_type == _PERPETUAL
    fitting = [channel for channel in channels if perpetual or not parse_channel(channel).channel.traits.perpetual_only]
    return [stream for stream in streams_for(fitting, [market.symbol]) if stream.symbol is not None]


def _every_market(_: Market) -> bool:
    return True

"""The markets as a client knows them: the list, those that were found or changed since, and the meaning of symbols and channels by them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from http import HTTPStatus
from typing import cast

from msgspec.structs import replace

from backpack_proto.errors import ApiError
from backpack_proto.rest.markets import Market, Markets
from backpack_proto.session import Session
from backpack_proto.streams.channels import SymbolKind
from backpack_proto.streams.names import Stream, parse_channel, streams_for

from .checks import checked_flag, checked_names
from .client_arguments import check_symbols
from .rest_methods import RestMethods
from .transport import system_now

__all__ = ["MarketMethods"]


class MarketMethods(RestMethods):
    """Knowledge of a client about the markets."""

    _session: Session

    @abstractmethod
    def _check_inside(self) -> None:
        """Refuse before the block is entered."""

    def _forget_markets(self) -> None:
        self._markets = Markets(())
        self._found: dict[str, Market] = {}
        """Markets that were asked for one by one since: the list did not have them, or their rules have changed. Lists come from a cache."""

    async def load_markets(self, *, fresh: bool = False) -> Markets:
        """Fetch the list of markets. Symbols are checked against it, and normalised symbols come from it.

        The network in front of the exchange keeps the list for up to a quarter of an hour. With `fresh` the exchange itself is asked,
        for the list at this moment. Without it markets that were found since, by their symbols, stay among the others, and so do rules of
        a `MarketChanged`. That comes by itself, so a client that runs for long need not load the list again.
        """
        if checked_flag("fresh", fresh):
            # The query is a part of the cache's key, so one that was never asked for reaches the exchange (docs/protocol.md 1.2).
            self._markets = cast("Markets", await self.call("markets", {"nonce": system_now().unix_us}))
            self._found.clear()
        else:
            markets = await self.get_markets()
            # Of two that differ, the session has looked up the right one, or will.
            known = [self._session.market(symbol) for symbol in (*markets, *self._found)]
            self._markets = markets.joined_by(market for market in known if market is not None)
        return self._markets

    @property
    def markets(self) -> Markets:
        """The markets as they were loaded last, with every `MarketChanged` since."""
        self._check_inside()
        return self._markets

    async def _id(self, symbol: str) -> str:
        self._check_open()
        if symbol and symbol not in self._markets:
            await self._ask_for(symbol)
        return self._markets[symbol].symbol

    async def _ask_for(self, symbol: str) -> None:
        """Look for a market that has been listed since the list of markets was made: `/market` is not cached."""
        # Of a normalised name this is the probable id. The market that is found says whether it has that name.
        likely = symbol.replace("-", "_")
        try:
            await self._look_up(likely)
        except ApiError as refused:
            if refused.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
                raise

    async def _look_up(self, symbol: str, max_wait_us: int | None = None) -> None:
        """Know a market as the exchange itself shows it now."""
        self._take_up(cast("Market", await self.call("market", {"symbol": symbol}, max_wait_us=max_wait_us)))

    def _take_up(self, market: Market) -> None:
        """Know a market as the exchange itself has just shown it."""
        self._found[market.symbol] = market
        self._markets = self._markets.joined_by([market])

    async def _streams(self, channels: Iterable[str], symbols: Iterable[str]) -> list[Stream]:
        """The streams of channels. A symbol that stands in the name of a channel is resolved as well."""
        names, given = checked_names("channels", channels), checked_names("symbols", symbols)
        check_symbols(names, given)
        # Subjects of some channels are in no list of markets.
        resolved = {SymbolKind.MARKET: self._id, SymbolKind.RFQ: self._rfq_id}
        kinds: dict[SymbolKind, list[str]] = {}
        for name in names:
            kinds.setdefault(parse_channel(name).channel.traits.symbol_kind, []).append(name)
        streams: list[Stream] = []
        for kind, of_kind in kinds.items():
            resolve = resolved.get(kind)
            if resolve is None:
                streams += streams_for(of_kind, map(self._id_if_listed, given))
                continue
            ids = [await resolve(symbol) for symbol in given]
            streams += [
                stream if stream.symbol is None else replace(stream, symbol=await resolve(stream.symbol))
                for stream in streams_for(of_kind, ids)
            ]
        return streams

    def _id_if_listed(self, symbol: str) -> str:
        """Return the exchange's spelling of a symbol if the list of markets has it, and else the symbol itself."""
        market = self._markets.get(symbol)
        return symbol if market is None else market.symbol

"""Public REST methods: markets, prices, trades, candles."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, cast

from backpack_proto.inputs import Arguments
from backpack_proto.rest.markets import Market, Markets
from backpack_proto.rest.results.market_data import Asset, DepthSnapshot, FundingRate, ServerTime, SystemStatus
from backpack_proto.rest.results.reference import PredictionEvent, PredictionTag, Wallet
from backpack_proto.streams.payloads import Kline, MarkPrice, OpenInterest, Ticker, Trade

from .caller import Caller
from .pages import PAGE, Pages

__all__ = ["MarketDataMethods"]


class MarketDataMethods(Caller):
    """Calls about markets. None of them is signed."""

    async def get_markets(self, *, market_type: str | None = None) -> Markets:
        """Every market, or those of one type such as `SPOT` and `PERP`."""
        return cast("Markets", await self.call("markets", {"market_type": market_type}))

    async def get_market(self, symbol: str) -> Market:
        """Return one market with the rules that it has now: this answer comes from no cache."""
        return cast("Market", await self.call("market", {"symbol": await self._id(symbol)}))

    async def get_depth(self, symbol: str, *, limit: int = 1000) -> DepthSnapshot:
        """The book, best prices first. `limit` levels a side: 5, 10, 20, 50, 100, 500 or 1000."""
        return cast("DepthSnapshot", await self.call("depth", {"symbol": await self._id(symbol), "limit": limit}))

    async def get_klines(
        self,
        symbol: str,
        interval: str,
        *,
        start_s: int,
        end_s: int | None = None,
        price_type: str | None = None,
        source: Literal["External"] | None = None,
    ) -> tuple[Kline, ...]:
        """Candles, oldest first, from and to in seconds since the epoch. Prices are `Last`, `Index` or `Mark`.

        `source="External"` are those of a stock outside the exchange. They have `Last` prices only.
        """
        parameters: Arguments = {
            "symbol": await self._sourced_id(symbol, source),
            "interval": interval,
            "start_s": start_s,
            "end_s": end_s,
            "price_type": price_type,
            "source": source,
        }
        return cast("tuple[Kline, ...]", await self.call("klines", parameters))

    async def get_trades(self, symbol: str, *, limit: int | None = None) -> tuple[Trade, ...]:
        """The last public trades, up to 1000."""
        return cast("tuple[Trade, ...]", await self.call("trades", {"symbol": await self._id(symbol), "limit": limit}))

    async def get_trades_history(
        self, symbol: str, *, limit: int | None = None, offset: int | None = None
    ) -> tuple[Trade, ...]:
        """Return older public trades, up to 1000 at a time, newest first. The exchange allows few of these calls a minute."""
        parameters: Arguments = {"symbol": await self._id(symbol), "limit": limit, "offset": offset}
        return cast("tuple[Trade, ...]", await self.call("trades_history", parameters))

    async def get_ticker(
        self, symbol: str, *, interval: Literal["1d", "1w"] | None = None, source: Literal["External"] | None = None
    ) -> Ticker:
        """A day or a week of one market. `source="External"` is a day of a stock outside the exchange.

        Raises:
            NothingTraded: there was no trade in that time, as in a market that has just been listed.
        """
        parameters: Arguments = {"symbol": await self._sourced_id(symbol, source), "interval": interval, "source": source}
        return cast("Ticker", await self.call("ticker", parameters))

    async def get_tickers(
        self, *, interval: Literal["1d", "1w"] | None = None, source: Literal["External"] | None = None
    ) -> tuple[Ticker, ...]:
        """A day or a week of every market. `source="External"` is a day of every stock outside the exchange."""
        return cast("tuple[Ticker, ...]", await self.call("tickers", {"interval": interval, "source": source}))

    async def get_mark_prices(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[MarkPrice, ...]:
        """Mark prices, index prices and funding of one market or all."""
        parameters: Arguments = {"symbol": await self._any_id(symbol), "market_type": market_type}
        return cast("tuple[MarkPrice, ...]", await self.call("mark_prices", parameters))

    async def get_open_interest(self, symbol: str | None = None) -> tuple[OpenInterest, ...]:
        """Open contracts of one market or all, in base units."""
        return cast("tuple[OpenInterest, ...]", await self.call("open_interest", {"symbol": await self._any_id(symbol)}))

    async def get_funding_rates(
        self, symbol: str, *, limit: int | None = None, offset: int | None = None
    ) -> tuple[FundingRate, ...]:
        """Funding rates, newest first, up to 10,000. Fractions per interval."""
        parameters: Arguments = {"symbol": await self._id(symbol), "limit": limit, "offset": offset}
        return cast("tuple[FundingRate, ...]", await self.call("funding_rates", parameters))

    async def get_time(self) -> ServerTime:
        """The exchange's clock, in microseconds since the epoch."""
        return cast("ServerTime", await self.call("time"))

    async def get_status(self) -> SystemStatus:
        """Return whether the exchange works, and its message about it."""
        return cast("SystemStatus", await self.call("status"))

    async def get_ping(self) -> str:
        """Return `pong`."""
        return cast("str", await self.call("ping"))

    async def get_assets(self, *, country: str | None = None) -> tuple[Asset, ...]:
        """Return the assets, and the blockchains that each is on."""
        return cast("tuple[Asset, ...]", await self.call("assets", {"country": country}))

    async def get_wallets(self) -> tuple[Wallet, ...]:
        """Return the wallets of the exchange."""
        return cast("tuple[Wallet, ...]", await self.call("wallets"))

    async def get_prediction_tags(self) -> tuple[PredictionTag, ...]:
        """Return the subjects of predictions."""
        return cast("tuple[PredictionTag, ...]", await self.call("prediction_tags"))

    def prediction_events(
        self,
        symbol: str | None = None,
        *,
        tag_slug: str | None = None,
        event_slug: str | None = None,
        series_slug: str | None = None,
        resolved: bool | None = None,
        page_size: int = PAGE,
    ) -> Pages[PredictionEvent]:
        """Return the events that there are predictions on, with their markets, as an async iterator."""
        parameters: Arguments = {
            "tag_slug": tag_slug,
            "event_slug": event_slug,
            "series_slug": series_slug,
            "resolved": resolved,
        }
        return self._pages("prediction_events", symbol, parameters, _event_key, oldest_first=None, page_size=page_size)


def _event_key(event: PredictionEvent) -> Hashable:
    return event.slug

"""Public REST methods: markets, prices, trades, candles."""

from __future__ import annotations

from typing import Literal, cast

from backpack_proto.inputs import Arguments
from backpack_proto.rest.markets import Markets
from backpack_proto.rest.results.market_data import DepthSnapshot, FundingRate, ServerTime
from backpack_proto.streams.payloads import Kline, MarkPrice, OpenInterest, Ticker, Trade

from .caller import Caller

__all__ = ["MarketDataMethods"]


class MarketDataMethods(Caller):
    """Calls about markets; none of them is signed."""

    async def get_markets(self, *, market_type: str | None = None) -> Markets:
        """Every market, or those of one type such as `SPOT` and `PERP`."""
        return cast("Markets", await self.call("markets", {"market_type": market_type}))

    async def get_depth(self, symbol: str, *, limit: int = 1000) -> DepthSnapshot:
        """The book, best prices first; `limit` levels a side: 5, 10, 20, 50, 100, 500 or 1000."""
        return cast("DepthSnapshot", await self.call("depth", {"symbol": await self._id(symbol), "limit": limit}))

    async def get_klines(
        self, symbol: str, interval: str, *, start_s: int, end_s: int | None = None, price_type: str | None = None
    ) -> tuple[Kline, ...]:
        """Candles, oldest first, from and to in seconds since the epoch; prices are `Last`, `Index` or `Mark`."""
        parameters: Arguments = {
            "symbol": await self._id(symbol),
            "interval": interval,
            "start_s": start_s,
            "end_s": end_s,
            "price_type": price_type,
        }
        return cast("tuple[Kline, ...]", await self.call("klines", parameters))

    async def get_trades(self, symbol: str, *, limit: int | None = None) -> tuple[Trade, ...]:
        """The last public trades, up to 1000."""
        return cast("tuple[Trade, ...]", await self.call("trades", {"symbol": await self._id(symbol), "limit": limit}))

    async def get_ticker(self, symbol: str, *, interval: Literal["1d", "1w"] | None = None) -> Ticker:
        """A day or a week of one market.

        Raises:
            NothingTraded: there was no trade in that time, as in a market that has just been listed.
        """
        return cast("Ticker", await self.call("ticker", {"symbol": await self._id(symbol), "interval": interval}))

    async def get_tickers(self, *, interval: Literal["1d", "1w"] | None = None) -> tuple[Ticker, ...]:
        """A day or a week of every market."""
        return cast("tuple[Ticker, ...]", await self.call("tickers", {"interval": interval}))

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
        """Funding rates, newest first; fractions per interval."""
        parameters: Arguments = {"symbol": await self._id(symbol), "limit": limit, "offset": offset}
        return cast("tuple[FundingRate, ...]", await self.call("funding_rates", parameters))

    async def get_time(self) -> ServerTime:
        """The exchange's clock, in microseconds since the epoch."""
        return cast("ServerTime", await self.call("time"))

"""What can be asked for by a request for quote, and at which price somebody quotes it now (docs/protocol.md 4.13)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from msgspec import Struct

from backpack_proto.exchange.market.listings import Listing
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.market.stocks import Security, SessionLimits, StockCalendar

from .accounts import SETTLEMENT_ASSET, mark_ticks
from .order_request import refusal

__all__ = ["RfqMarket", "RfqMarkets"]

STOCK_DECIMALS = 2
_SUFFIX = f"_{SETTLEMENT_ASSET}_RFQ"


class RfqMarket(Struct, frozen=True, gc=False, kw_only=True):
    """One symbol of requests for quote; prices are ticks and quantities lots of `listing`."""

    listing: Listing
    """Its names and its precision; it has no book."""
    security: Security | None = None
    """The stock, whose quotes are the broker's and settle later; None for other assets."""

    @property
    def symbol(self) -> str:
        """Its name."""
        return self.listing.symbol


class RfqMarkets:
    """Every symbol that can be asked for: `<asset>_USDC_RFQ` of each security, and of each asset with a spot market."""

    def __init__(
        self,
        listings: Iterable[Listing],
        markets: Mapping[str, SimulatedMarket],
        securities: Iterable[Security],
        calendar: StockCalendar,
        rng: Random,
    ) -> None:
        self._markets = markets
        self._calendar = calendar
        self._rng = rng
        found = [
            RfqMarket(
                listing=Listing(
                    symbol=f"{listing.base}{_SUFFIX}",
                    base=listing.base,
                    price_decimals=listing.price_decimals,
                    quantity_decimals=listing.quantity_decimals,
                    opening_ticks=listing.opening_ticks,
                )
            )
            for listing in listings
            if not listing.perpetual and listing.open and listing.asset_class is None
        ]
        found += [
            RfqMarket(
                listing=Listing(
                    symbol=security.symbol,
                    base=security.asset,
                    price_decimals=STOCK_DECIMALS,
                    quantity_decimals=STOCK_DECIMALS,
                    opening_ticks=security.opening_ticks,
                    asset_class="STOCK",
                ),
                security=security,
            )
            for security in securities
        ]
        self._by_symbol = {market.symbol: market for market in found}

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols."""
        return tuple(self._by_symbol)

    def listing(self, symbol: str) -> Listing | None:
        """Return the names and the precision of a symbol."""
        market = self._by_symbol.get(symbol)
        return None if market is None else market.listing

    def find(self, symbol: str, engine_us: int) -> tuple[RfqMarket, SessionLimits | None]:
        """Return a market, and the limits of the session in which its stock trades now.

        Raises:
            ApiError: there is no such market, or no session of its stock is open.
        """
        market = self._by_symbol.get(symbol)
        if market is None:
            raise refusal("INVALID_MARKET", "Invalid market")
        if market.security is None:
            return market, None
        session = self._calendar.session_at(engine_us)
        limits = next((limits for limits in market.security.limits if limits.session == session), None)
        if limits is None:
            raise refusal("TRADING_PAUSED", "Trading is paused")
        return market, limits

    def quote(self, market: RfqMarket, spread_bps: int) -> tuple[int, int]:
        """Return the bid and the ask of somebody who quotes a market now, in ticks."""
        middle = self._middle(market) * (1.0 + self._rng.gauss(0.0, 2e-5))
        half = middle * spread_bps / 20_000
        return max(1, int(middle - half)), int(middle + half) + 1

    def _middle(self, market: RfqMarket) -> int:
        base = market.listing.base
        spot, perpetual = (self._markets.get(f"{base}_{SETTLEMENT_ASSET}{kind}") for kind in ("", "_PERP"))
        if spot is not None and spot.listing.price_decimals == market.listing.price_decimals:
            bid, ask = spot.best()
            if bid is not None and ask is not None:
                return (bid[0] + ask[0]) // 2
        if perpetual is not None and perpetual.listing.price_decimals == market.listing.price_decimals:
            return mark_ticks(perpetual)
        return market.listing.opening_ticks

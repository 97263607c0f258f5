"""Markets of requests for quote, and their prices now (docs/protocol.md 4.13)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from msgspec import Struct

from backpack_proto.exchange.market.listings import Listing
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.market.stocks import REGULAR, StockSecurity, price_cents, session_at

from .accounts import SETTLEMENT_ASSET
from .order_request import refusal

__all__ = ["Limits", "RfqMarket", "RfqMarkets"]

STOCK_DECIMALS = 2
"""Of prices and quantities of stocks: their prices are in cents."""
_SUFFIX = f"_{SETTLEMENT_ASSET}_RFQ"


class Limits(Struct, frozen=True, gc=False, kw_only=True):
    """Number of lots that may be asked for."""

    minimum: int
    maximum: int
    step: int


class RfqMarket(Struct, frozen=True, gc=False, kw_only=True):
    """One symbol of requests for quote. Prices are ticks and quantities lots of `listing`."""

    listing: Listing
    """Its names and its precision. It has no book."""
    security: StockSecurity | None = None
    """The stock, whose quotes are the broker's and settle later, or None for other assets."""

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
        securities: Iterable[StockSecurity],
    ) -> None:
        self.always_open = False
        """True when stocks trade at any time, for programs that must not depend on when they run."""
        self._markets = markets
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
                    symbol=f"{security.asset}{_SUFFIX}",
                    base=security.asset,
                    price_decimals=STOCK_DECIMALS,
                    quantity_decimals=STOCK_DECIMALS,
                    opening_ticks=security.cents,
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

    def find(self, symbol: str, engine_us: int) -> tuple[RfqMarket, Limits | None]:
        """Return a market, and the limits of the session in which its stock trades now.

        Raises:
            ApiError: there is no such market, or no session of its stock is open.
        """
        market = self._by_symbol.get(symbol)
        if market is None:
            raise refusal("INVALID_MARKET", "Invalid market")
        if market.security is None:
            return market, None
        security = market.security
        session = REGULAR if self.always_open else session_at(security, engine_us)
        if session is None:
            raise refusal("TRADING_PAUSED", "Trading is paused")
        minimum, maximum, step = map(_lots, (security.min_quantity, security.max_quantities[session], security.step_size))
        return market, Limits(minimum=minimum, maximum=maximum, step=step)

    def quote(self, market: RfqMarket, away_bps: int, engine_us: int) -> tuple[int, int]:
        """Return a bid and an ask so far away from the market's price now, in ticks."""
        middle = self._middle(market, engine_us)
        bid, ask = (round(middle * (10_000 + sign * away_bps) / 10_000) for sign in (-1, 1))
        return max(1, bid), ask

    def _middle(self, market: RfqMarket, engine_us: int) -> int:
        if market.security is not None:
            return price_cents(market.security, engine_us // 1_000_000)
        base = market.listing.base
        spot = self._markets.get(f"{base}_{SETTLEMENT_ASSET}")
        bid, ask = (None, None) if spot is None else spot.best()
        return market.listing.opening_ticks if bid is None or ask is None else (bid[0] + ask[0]) // 2


def _lots(quantity: str) -> int:
    return int(Decimal(quantity).scaleb(STOCK_DECIMALS))

"""REST methods of tokenised stocks: the list, sessions, and prices (docs/protocol.md 6.5)."""

from __future__ import annotations

from typing import cast

from backpack_proto.inputs import Arguments
from backpack_proto.rest.new_order import Amount, Side
from backpack_proto.rest.results.reference import Security, StockHoliday, StockIndicativeQuote, StockSession

from .caller import Caller

__all__ = ["StockMethods"]


class StockMethods(Caller):
    """Calls about stocks. None of them is signed."""

    async def get_securities(self) -> tuple[Security, ...]:
        """Return the stocks that can be traded, with their sessions and the quantity rules of each.

        The market for requests for quotes of a security is `<asset>_USDC_RFQ`, which no list of markets has.
        """
        return cast("tuple[Security, ...]", await self.call("securities"))

    async def get_stock_sessions(self) -> tuple[StockSession, ...]:
        """Return the trading hours of stocks."""
        return cast("tuple[StockSession, ...]", await self.call("stock_sessions"))

    async def get_stock_holidays(self) -> tuple[StockHoliday, ...]:
        """Return the days on which stocks do not trade, or not as long."""
        return cast("tuple[StockHoliday, ...]", await self.call("stock_holidays"))

    async def get_stock_indicative_quote(
        self, asset: str, side: Side, *, quantity: Amount | None = None, quote_quantity: Amount | None = None
    ) -> StockIndicativeQuote:
        """Return the price at which a request for quotes would be quoted now, or the reason why not.

        `asset` is a security such as `NVDA.US`. Give exactly one of `quantity` and `quote_quantity`.
        """
        parameters: Arguments = {"symbol": asset, "side": side, "quantity": quantity, "quote_quantity": quote_quantity}
        return cast("StockIndicativeQuote", await self.call("stock_indicative_quote", parameters))

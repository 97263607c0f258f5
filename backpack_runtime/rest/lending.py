"""REST methods of lending: pools, rates, collateral, and the account's own loans.

Assets are codes such as `SOL`, and no markets (docs/protocol.md 7).
"""

from __future__ import annotations

from typing import Literal, cast

from backpack_proto.inputs import Arguments
from backpack_proto.rest.new_order import Amount
from backpack_proto.rest.results.account import BorrowLendPosition
from backpack_proto.rest.results.reference import (
    ApyRates,
    BorrowLendMarket,
    BorrowLendMarketRow,
    CollateralParameters,
    LiquidationEstimate,
)

from .caller import Caller, Period

__all__ = ["LendingMethods"]


class LendingMethods(Caller):
    """Calls about borrowing and lending."""

    async def get_collateral_parameters(self) -> tuple[CollateralParameters, ...]:
        """Return how much each asset is worth as collateral."""
        return cast("tuple[CollateralParameters, ...]", await self.call("collateral_parameters"))

    async def get_borrow_lend_markets(self) -> tuple[BorrowLendMarket, ...]:
        """Return the lending pool of each asset."""
        return cast("tuple[BorrowLendMarket, ...]", await self.call("borrow_lend_markets"))

    async def get_borrow_lend_markets_history(
        self, interval: Period, *, asset: str | None = None
    ) -> tuple[BorrowLendMarketRow, ...]:
        """Return the past of the lending pools, or of one of them, over an interval until now."""
        parameters: Arguments = {"interval": interval, "symbol": asset}
        return cast("tuple[BorrowLendMarketRow, ...]", await self.call("borrow_lend_markets_history", parameters))

    async def get_borrow_lend_apy(self, *, tier_id: int | None = None) -> ApyRates:
        """Return the yearly rates of borrowing, lending and staking."""
        return cast("ApyRates", await self.call("borrow_lend_apy", {"tier_id": tier_id}))

    async def get_borrow_lend_liquidation_price(self, borrow: str, *, subaccount_id: int | None = None) -> LiquidationEstimate:
        """Return where a loan would be liquidated. `borrow` is the loan as JSON, in base64.

        The exchange is known to answer 401 to API keys here (docs/protocol.md 6.1).
        """
        parameters: Arguments = {"borrow": borrow, "subaccount_id": subaccount_id}
        return cast("LiquidationEstimate", await self.call("borrow_lend_liquidation_price", parameters))

    async def get_borrow_lend_positions(self) -> tuple[BorrowLendPosition, ...]:
        """Return the loans of the account, taken and given."""
        return cast("tuple[BorrowLendPosition, ...]", await self.call("borrow_lend_positions"))

    async def borrow_lend(
        self, asset: str, side: Literal["Borrow", "Lend"], *, quantity: Amount, max_wait_us: int | None = None
    ) -> None:
        """Borrow or lend a quantity of an asset.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been done. `borrow_lend_history` finds out.
        """
        parameters: Arguments = {"symbol": asset, "side": side, "quantity": quantity}
        await self.call("borrow_lend", parameters, max_wait_us=max_wait_us)

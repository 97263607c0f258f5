"""REST methods of the account: what it holds."""

from __future__ import annotations

from typing import cast

from backpack_proto.account.values import Balance, Position
from backpack_proto.inputs import Arguments

from .caller import Caller

__all__ = ["AccountMethods"]


class AccountMethods(Caller):
    """Calls about the account."""

    async def get_balances(self) -> dict[str, Balance]:
        """What the account holds, by asset."""
        return cast("dict[str, Balance]", await self.call("balances"))

    async def get_positions(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[Position, ...]:
        """The open positions."""
        parameters: Arguments = {"symbol": await self._any_id(symbol), "market_type": market_type}
        return cast("tuple[Position, ...]", await self.call("positions", parameters))

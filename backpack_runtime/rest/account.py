"""REST methods of the account: settings, limits, holdings, deposits and withdrawals."""

from __future__ import annotations

from typing import cast

from backpack_proto.account.values import Balance, Position
from backpack_proto.inputs import Arguments
from backpack_proto.rest.new_order import Amount, Side
from backpack_proto.rest.results.account import (
    AccountSettings,
    Collateral,
    Deposit,
    DepositAddress,
    MaxBorrowQuantity,
    MaxOrderQuantity,
    MaxWithdrawalQuantity,
    Withdrawal,
)

from .caller import Caller

__all__ = ["AccountMethods"]


class AccountMethods(Caller):
    """Calls about the account."""

    async def get_account(self) -> AccountSettings:
        """Return settings, fees and limits of the account."""
        return cast("AccountSettings", await self.call("account"))

    async def update_account(
        self,
        *,
        auto_borrow_settlements: bool | None = None,
        auto_lend: bool | None = None,
        auto_repay_borrows: bool | None = None,
        leverage_limit: Amount | None = None,
        max_wait_us: int | None = None,
    ) -> None:
        """Change the settings that are given.

        Raises:
            ApiError: the exchange refused.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: they may have been changed. `get_account` finds out.
        """
        parameters: Arguments = {
            "auto_borrow_settlements": auto_borrow_settlements,
            "auto_lend": auto_lend,
            "auto_repay_borrows": auto_repay_borrows,
            "leverage_limit": leverage_limit,
        }
        await self.call("update_account", parameters, max_wait_us=max_wait_us)

    async def convert_dust(self, asset: str | None = None, *, max_wait_us: int | None = None) -> None:
        """Convert balances that are too small to be traded into USDC: of one asset, or of all.

        Raises:
            ApiError: the exchange refused.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been done. `dust_history` finds out.
        """
        await self.call("convert_dust", {"symbol": asset}, max_wait_us=max_wait_us)

    async def get_max_order_quantity(
        self,
        symbol: str,
        side: Side,
        *,
        price: Amount | None = None,
        reduce_only: bool | None = None,
        auto_borrow: bool | None = None,
        auto_borrow_repay: bool | None = None,
        auto_lend_redeem: bool | None = None,
    ) -> MaxOrderQuantity:
        """Return how much an order of the account can be at most."""
        parameters: Arguments = {
            "symbol": await self._id(symbol),
            "side": side,
            "price": price,
            "reduce_only": reduce_only,
            "auto_borrow": auto_borrow,
            "auto_borrow_repay": auto_borrow_repay,
            "auto_lend_redeem": auto_lend_redeem,
        }
        return cast("MaxOrderQuantity", await self.call("max_order_quantity", parameters))

    async def get_max_borrow_quantity(self, asset: str) -> MaxBorrowQuantity:
        """Return how much of an asset the account can borrow at most."""
        return cast("MaxBorrowQuantity", await self.call("max_borrow_quantity", {"symbol": asset}))

    async def get_max_withdrawal_quantity(
        self, asset: str, *, auto_borrow: bool | None = None, auto_lend_redeem: bool | None = None
    ) -> MaxWithdrawalQuantity:
        """Return how much of an asset the account can withdraw at most."""
        parameters: Arguments = {"symbol": asset, "auto_borrow": auto_borrow, "auto_lend_redeem": auto_lend_redeem}
        return cast("MaxWithdrawalQuantity", await self.call("max_withdrawal_quantity", parameters))

    async def get_collateral(self, *, subaccount_id: int | None = None) -> Collateral:
        """Return equity, margin and collateral. `net_equity_available` is the equity for new orders."""
        return cast("Collateral", await self.call("collateral", {"subaccount_id": subaccount_id}))

    async def get_balances(self) -> dict[str, Balance]:
        """Return the balances of the account, by asset."""
        return cast("dict[str, Balance]", await self.call("balances"))

    async def get_positions(self, symbol: str | None = None, *, market_type: str | None = None) -> tuple[Position, ...]:
        """The open positions."""
        parameters: Arguments = {"symbol": await self._any_id(symbol), "market_type": market_type}
        return cast("tuple[Position, ...]", await self.call("positions", parameters))

    async def get_deposits(
        self,
        *,
        from_ms: int | None = None,
        to_ms: int | None = None,
        limit: int | None = None,
        offset: int | None = None,
        exclude_platform: bool | None = None,
    ) -> tuple[Deposit, ...]:
        """Return deposits, from and to in milliseconds since the epoch."""
        parameters: Arguments = {
            "from_ms": from_ms,
            "to_ms": to_ms,
            "limit": limit,
            "offset": offset,
            "exclude_platform": exclude_platform,
        }
        return cast("tuple[Deposit, ...]", await self.call("deposits", parameters))

    async def get_deposit_address(self, blockchain: str) -> DepositAddress:
        """Return where to deposit on a blockchain such as `Solana`."""
        return cast("DepositAddress", await self.call("deposit_address", {"blockchain": blockchain}))

    async def get_withdrawals(
        self,
        *,
        withdrawal_id: int | None = None,
        client_id: str | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> tuple[Withdrawal, ...]:
        """Return withdrawals, pending ones included, from and to in milliseconds since the epoch."""
        parameters: Arguments = {
            "id": withdrawal_id,
            "client_id": client_id,
            "from_ms": from_ms,
            "to_ms": to_ms,
            "limit": limit,
            "offset": offset,
        }
        return cast("tuple[Withdrawal, ...]", await self.call("withdrawals", parameters))

    async def withdraw(
        self,
        asset: str,
        *,
        address: str,
        blockchain: str,
        quantity: Amount,
        client_id: str | None = None,
        two_factor_token: str | None = None,
        auto_borrow: bool | None = None,
        auto_lend_redeem: bool | None = None,
        max_wait_us: int | None = None,
    ) -> Withdrawal:
        """Withdraw a quantity of an asset to an address.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may be on its way. `get_withdrawals` finds out, by `client_id` if one was given.
        """
        parameters: Arguments = {
            "symbol": asset,
            "address": address,
            "blockchain": blockchain,
            "quantity": quantity,
            "client_id": client_id,
            "two_factor_token": two_factor_token,
            "auto_borrow": auto_borrow,
            "auto_lend_redeem": auto_lend_redeem,
        }
        return cast("Withdrawal", await self.call("withdraw", parameters, max_wait_us=max_wait_us))

"""REST methods of vaults."""

from __future__ import annotations

from typing import cast

from backpack_proto.inputs import Arguments
from backpack_proto.rest.new_order import Amount
from backpack_proto.rest.results.account import VaultNav, VaultRedeem
from backpack_proto.rest.results.reference import Vault, VaultHistoryRow

from .caller import Caller, Period

__all__ = ["VaultMethods"]


class VaultMethods(Caller):
    """Calls about vaults."""

    async def get_vaults(self) -> tuple[Vault, ...]:
        """Return the vaults, and their terms."""
        return cast("tuple[Vault, ...]", await self.call("vaults"))

    async def get_vaults_history(self, interval: Period, *, vault_id: int | None = None) -> tuple[VaultHistoryRow, ...]:
        """Return the past of all vaults, or of one, over an interval until now."""
        parameters: Arguments = {"interval": interval, "vault_id": vault_id}
        return cast("tuple[VaultHistoryRow, ...]", await self.call("vaults_history", parameters))

    async def get_vault_nav(self) -> VaultNav:
        """Return the net asset value of a vault that the account manages."""
        return cast("VaultNav", await self.call("vault_nav"))

    async def get_pending_vault_redeems(self, vault_id: int) -> tuple[VaultRedeem, ...]:
        """Return the redemptions that wait."""
        return cast("tuple[VaultRedeem, ...]", await self.call("pending_vault_redeems", {"vault_id": vault_id}))

    async def mint_vault_tokens(
        self,
        vault_id: int,
        asset: str,
        *,
        quantity: Amount,
        auto_borrow: bool | None = None,
        auto_lend_redeem: bool | None = None,
        max_wait_us: int | None = None,
    ) -> None:
        """Pay a quantity of an asset into a vault.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been done.
        """
        parameters: Arguments = {
            "vault_id": vault_id,
            "symbol": asset,
            "quantity": quantity,
            "auto_borrow": auto_borrow,
            "auto_lend_redeem": auto_lend_redeem,
        }
        await self.call("mint_vault_tokens", parameters, max_wait_us=max_wait_us)

    async def redeem_vault_tokens(
        self, vault_id: int, *, vault_token_quantity: Amount | None = None, max_wait_us: int | None = None
    ) -> None:
        """Redeem tokens of a vault, all of them where no quantity is given.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been asked for. `get_pending_vault_redeems` finds out.
        """
        parameters: Arguments = {"vault_id": vault_id, "vault_token_quantity": vault_token_quantity}
        await self.call("redeem_vault_tokens", parameters, max_wait_us=max_wait_us)

    async def cancel_vault_redeem(self, vault_id: int, *, max_wait_us: int | None = None) -> None:
        """Cancel the redemption that waits.

        Raises:
            ApiError: the exchange refused it.
            NotSent: it did not leave within `max_wait_us`, 5 s unless given.
            OutcomeUnknown: it may have been cancelled.
        """
        await self.call("cancel_vault_redeem", {"vault_id": vault_id}, max_wait_us=max_wait_us)

"""The vault: its tokens are worth 1 USDC, are minted at once, and are paid out a minute after they were given back."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from backpack_proto.exchange.account.accounts import PLACES
from backpack_proto.exchange.account.order_request import Members, refusal
from backpack_proto.exchange.market.listings import stripped

from .answers import Answer
from .plain_routes import VAULT_ASSET, VAULT_ID, VAULT_TOKEN
from .purse import EMPTY, Purse, read_amount
from .query import Query

__all__ = ["SimulatedVault"]

REDEEM_US: Final = 60_000_000


class _Redemption(Struct, gc=False, kw_only=True):
    number: int
    units: int
    created_us: int
    state: str = "Requested"


class SimulatedVault:
    """The vault, as one account sees it."""

    def __init__(self, purse: Purse) -> None:
        self._purse = purse
        self._redemptions: list[_Redemption] = []

    def settle(self, engine_us: int) -> bool:
        """Pay the redemptions whose time has come, and return whether there were any."""
        due = [item for item in self._redemptions if item.state == "Requested" and item.created_us + REDEEM_US <= engine_us]
        for redemption in due:
            redemption.state = "Redeemed"
            self._purse.account.credit(VAULT_ASSET, redemption.units)
        return bool(due)

    def mint(self, _query: Query, members: Members, _us: int) -> Answer:
        """Turn USDC into tokens."""
        self._check_vault(members)
        if members.get("symbol") != VAULT_ASSET:
            raise refusal("INVALID_ASSET", f"The vault takes {VAULT_ASSET}")
        units = read_amount(members.get("quantity"), "quantity")
        self._purse.spend(VAULT_ASSET, units)
        self._purse.account.credit(VAULT_TOKEN, units)
        return EMPTY

    def redeem(self, _query: Query, members: Members, us: int) -> Answer:
        """Give tokens back."""
        self._check_vault(members)
        asked = members.get("vaultTokenQuantity")
        units = self._purse.account.available(VAULT_TOKEN) if asked is None else read_amount(asked, "vaultTokenQuantity")
        if not units:
            raise refusal("INSUFFICIENT_FUNDS", "Insufficient funds")
        self._purse.spend(VAULT_TOKEN, units)
        self._redemptions.append(_Redemption(number=len(self._redemptions) + 1, units=units, created_us=us))
        return EMPTY

    def cancel_redeem(self, _query: Query, members: Members, _us: int) -> Answer:
        """Redeem vault tokens."""
        self._check_vault(members)
        waiting = [redemption for redemption in self._redemptions if redemption.state == "Requested"]
        if not waiting:
            raise refusal("RESOURCE_NOT_FOUND", "Not Found", 404)
        for redemption in waiting:
            redemption.state = "Cancelled"
            self._purse.account.credit(VAULT_TOKEN, redemption.units)
        return EMPTY

    def pending_redeems(self, query: Query, _members: Members, _us: int) -> Answer:
        """Show pending redemptions."""
        if query.required("vaultId") != str(VAULT_ID):
            return []
        return [
            {
                "id": str(redemption.number),
                "nav": None,
                "quantity": None,
                "reason": None,
                "status": redemption.state,
                "symbol": VAULT_ASSET,
                "timestamp": redemption.created_us // 1_000,
                "vaultId": VAULT_ID,
                "vaultToken": VAULT_TOKEN,
                "vaultTokenQuantity": stripped(redemption.units, PLACES),
            }
            for redemption in self._redemptions
            if redemption.state == "Requested"
        ]

    def nav(self, _query: Query, _members: Members, us: int) -> Answer:
        """Show the worth of the vault and its tokens."""
        ones = dict.fromkeys(("mintNav", "nav", "redeemNav", "twapNav"), "1")
        worth = dict.fromkeys(("netEquity", "tokenCirculatingSupply", "vaultEquity"), "1000000")
        return {"lastCrankTimestamp": us // 1_000, **ones, **worth}

    @staticmethod
    def _check_vault(members: Members) -> None:
        if members.get("vaultId") != str(VAULT_ID):
            raise refusal("INVALID_CLIENT_REQUEST", f"There is one vault, {VAULT_ID}")

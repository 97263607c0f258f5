"""The rows of the endpoint table about the account: settings, capital, lending, vaults (docs/protocol.md 2.4).

A withdrawal's `recipientInformation` is not offered: it is the one nested object of the interface, and how it would be signed is not
documented.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Raw, Struct

from backpack_proto.account.values import Balance, Position
from backpack_proto.decoding import Rows, decode_json
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.importance import Importance
from backpack_proto.rest.results.account import (
    AccountSettings,
    BorrowLendPosition,
    Collateral,
    Deposit,
    DepositAddress,
    MaxBorrowQuantity,
    MaxOrderQuantity,
    MaxWithdrawalQuantity,
    VaultNav,
    VaultRedeem,
    Withdrawal,
)

from .parameters import (
    ANY_SYMBOL,
    AUTO_BORROW,
    AUTO_BORROW_REPAY,
    AUTO_LEND,
    AUTO_LEND_REDEEM,
    FROM,
    MARKET_TYPE,
    OFFSET,
    PAGE_LIMIT,
    REDUCE_ONLY,
    SIDE,
    SUBACCOUNT,
    SYMBOL,
    TO,
    UINT32,
    decimal,
    flag,
    text,
    uint,
    word,
)
from .rules import Checked, Endpoint

__all__ = ["ACCOUNT_ENDPOINTS"]


class _BalanceBody(Struct, frozen=True, gc=False):
    available: Decimal
    locked: Decimal
    staked: Decimal


def _read_balances(body: bytes, _: Checked) -> dict[str, Balance] | Rows[Balance]:
    raws = decode_json(body, dict[str, Raw], "balances")
    held: dict[str, Balance] = {}
    errors: list[tuple[str, str]] = []
    for asset, raw in raws.items():
        try:
            row = decode_json(raw, _BalanceBody, f"balances[{asset}]")
        except RemoteProtocolError as error:
            errors.append((asset, str(error)))
        else:
            held[asset] = Balance(asset=asset, available=row.available, locked=row.locked, staked=row.staked)
    return Rows(tuple(held.values()), tuple(errors)) if errors else held


_VAULT = uint("vaultId", UINT32, required=True)
_BLOCKCHAIN = word("blockchain", "Arbitrum", "Base", "Bitcoin", "Ethereum", "Polygon", "Solana", required=True, grows=True)

ACCOUNT_ENDPOINTS: Final = (
    Endpoint(name="account", path="/api/v1/account", instruction="accountQuery", result=AccountSettings),
    Endpoint(
        name="update_account",
        method="PATCH",
        importance=Importance.ORDER,
        path="/api/v1/account",
        instruction="accountUpdate",
        parameters=(flag("autoBorrowSettlements"), AUTO_LEND, flag("autoRepayBorrows"), decimal("leverageLimit")),
        result=None,
    ),
    Endpoint(
        name="convert_dust",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/account/convertDust",
        instruction="convertDust",
        parameters=(ANY_SYMBOL,),
        result=None,
    ),
    Endpoint(
        name="max_borrow_quantity",
        path="/api/v1/account/limits/borrow",
        instruction="maxBorrowQuantity",
        parameters=(SYMBOL,),
        result=MaxBorrowQuantity,
    ),
    Endpoint(
        name="max_order_quantity",
        path="/api/v1/account/limits/order",
        instruction="maxOrderQuantity",
        parameters=(SYMBOL, SIDE, decimal("price"), REDUCE_ONLY, AUTO_BORROW, AUTO_BORROW_REPAY, AUTO_LEND_REDEEM),
        result=MaxOrderQuantity,
    ),
    Endpoint(
        name="max_withdrawal_quantity",
        path="/api/v1/account/limits/withdrawal",
        instruction="maxWithdrawalQuantity",
        parameters=(SYMBOL, AUTO_BORROW, AUTO_LEND_REDEEM),
        result=MaxWithdrawalQuantity,
    ),
    Endpoint(
        name="balances",
        path="/api/v1/capital",
        instruction="balanceQuery",
        result=dict[str, Balance],
        read=_read_balances,
    ),
    Endpoint(
        name="collateral",
        path="/api/v1/capital/collateral",
        instruction="collateralQuery",
        parameters=(SUBACCOUNT,),
        result=Collateral,
    ),
    Endpoint(
        name="positions",
        path="/api/v1/position",
        instruction="positionQuery",
        parameters=(ANY_SYMBOL, MARKET_TYPE),
        result=tuple[Position, ...],
    ),
    Endpoint(
        name="deposits",
        path="/wapi/v1/capital/deposits",
        instruction="depositQueryAll",
        parameters=(FROM, TO, PAGE_LIMIT, OFFSET, flag("excludePlatform")),
        result=tuple[Deposit, ...],
    ),
    Endpoint(
        name="deposit_address",
        path="/wapi/v1/capital/deposit/address",
        instruction="depositAddressQuery",
        parameters=(_BLOCKCHAIN,),
        result=DepositAddress,
    ),
    Endpoint(
        name="withdrawals",
        path="/wapi/v1/capital/withdrawals",
        instruction="withdrawalQueryAll",
        parameters=(uint("id", 2**31 - 1), text("clientId"), FROM, TO, PAGE_LIMIT, OFFSET),
        result=tuple[Withdrawal, ...],
    ),
    Endpoint(
        name="withdraw",
        method="POST",
        importance=Importance.ORDER,
        path="/wapi/v1/capital/withdrawals",
        instruction="withdraw",
        parameters=(
            text("address", required=True),
            _BLOCKCHAIN,
            decimal("quantity", required=True),
            SYMBOL,
            text("clientId"),
            text("twoFactorToken", secret=True),
            AUTO_BORROW,
            AUTO_LEND_REDEEM,
        ),
        result=Withdrawal,
    ),
    Endpoint(
        name="borrow_lend_positions",
        path="/api/v1/borrowLend/positions",
        instruction="borrowLendPositionQuery",
        result=tuple[BorrowLendPosition, ...],
    ),
    Endpoint(
        name="borrow_lend",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/borrowLend",
        instruction="borrowLendExecute",
        parameters=(decimal("quantity", required=True), word("side", "Borrow", "Lend", required=True), SYMBOL),
        result=None,
    ),
    Endpoint(
        name="mint_vault_tokens",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/vault/mint",
        instruction="vaultMint",
        parameters=(_VAULT, SYMBOL, decimal("quantity", required=True), AUTO_BORROW, AUTO_LEND_REDEEM),
        result=None,
    ),
    Endpoint(
        name="redeem_vault_tokens",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/vault/redeem",
        instruction="vaultRedeemRequest",
        parameters=(_VAULT, decimal("vaultTokenQuantity")),
        result=None,
    ),
    Endpoint(
        name="cancel_vault_redeem",
        method="DELETE",
        importance=Importance.ORDER,
        path="/api/v1/vault/redeem",
        instruction="vaultRedeemCancel",
        parameters=(_VAULT,),
        result=None,
    ),
    Endpoint(
        name="pending_vault_redeems",
        path="/api/v1/vault/redeems/pending",
        instruction="vaultPendingRedeemsQuery",
        parameters=(_VAULT,),
        result=tuple[VaultRedeem, ...],
    ),
    Endpoint(name="vault_nav", path="/api/v1/vault/nav", instruction="vaultNavQuery", result=VaultNav),
)

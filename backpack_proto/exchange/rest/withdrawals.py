"""Withdrawals of an account, and where it deposits: the balance goes down, and no address gets anything."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from backpack_proto.exchange.account.accounts import PLACES
from backpack_proto.exchange.account.order_request import Members, refusal
from backpack_proto.exchange.market.listings import stripped
from backpack_proto.exchange.stream.frames import iso_time_ms

from .answers import Answer
from .plain_routes import ADDRESSES
from .purse import Purse, read_amount, read_flag
from .query import Query

__all__ = ["Withdrawals"]

WITHDRAWAL_US: Final = 30_000_000
"""Time that a withdrawal is pending."""
FEE: Final = 10**16
"""Fee of a withdrawal, in units, as in `/assets`."""
LEAST: Final = 2 * 10**16
NATIVE_DECIMALS: Final = 9


class _Withdrawal(Struct, frozen=True, gc=False, kw_only=True):
    number: int
    asset: str
    units: int
    blockchain: str
    address: str
    client_id: str | None
    created_us: int


class Withdrawals:
    """The withdrawals of one account. Each is confirmed when its time has come."""

    def __init__(self, purse: Purse) -> None:
        self._purse = purse
        self._withdrawals: list[_Withdrawal] = []

    def most_withdrawn(self, query: Query, _members: Members, _us: int) -> Answer:
        """Show how much could be withdrawn."""
        asset = self._purse.asset(query.required("symbol"))
        most = max(0, self._purse.account.available(asset) - FEE)
        return {
            "autoBorrow": read_flag(query, "autoBorrow"),
            "autoLendRedeem": read_flag(query, "autoLendRedeem"),
            "maxWithdrawalQuantity": stripped(most, PLACES),
            "symbol": asset,
        }

    def deposit_address(self, query: Query, _members: Members, _us: int) -> Answer:
        """Show where to deposit."""
        return {"address": ADDRESSES[query.choice("blockchain", "Blockchain", ADDRESSES)]}

    def list_withdrawals(self, query: Query, _members: Members, us: int) -> Answer:
        """Show the withdrawals, oldest first."""
        number, client_id = query.optional("id"), query.optional("clientId")
        return [
            _withdrawal_row(withdrawal, us)
            for withdrawal in self._withdrawals
            if number in {None, str(withdrawal.number)}
            and client_id in {None, withdrawal.client_id}
            and query.covers(withdrawal.created_us)
        ]

    def withdraw(self, _query: Query, members: Members, us: int) -> Answer:
        """Withdraw something."""
        asset, address = self._purse.asset(members.get("symbol")), members.get("address")
        blockchain, client_id = members.get("blockchain"), members.get("clientId")
        if not isinstance(address, str) or not isinstance(blockchain, str) or blockchain not in ADDRESSES:
            raise refusal(
                "INVALID_CLIENT_REQUEST", f"A withdrawal needs an address, and a blockchain of {', '.join(ADDRESSES)}"
            )
        units = read_amount(members.get("quantity"), "quantity")
        if units < LEAST or units % 10 ** (PLACES - NATIVE_DECIMALS):
            raise refusal("INVALID_QUANTITY", "Invalid quantity")
        self._purse.spend(asset, units + FEE)
        withdrawal = _Withdrawal(
            number=len(self._withdrawals) + 1,
            asset=asset,
            units=units,
            blockchain=blockchain,
            address=address,
            client_id=client_id if isinstance(client_id, str) else None,
            created_us=us,
        )
        self._withdrawals.append(withdrawal)
        return _withdrawal_row(withdrawal, us)


def _withdrawal_row(withdrawal: _Withdrawal, us: int) -> dict[str, object]:
    confirmed = us >= withdrawal.created_us + WITHDRAWAL_US
    nothing = dict.fromkeys(
        ("accountIdentifier", "bankIdentifier", "bankName", "fiatFee", "fiatState", "fiatSymbol", "identifier", "providerId")
    )
    return {
        **nothing,
        "blockchain": withdrawal.blockchain,
        "clientId": withdrawal.client_id,
        "createdAt": iso_time_ms(withdrawal.created_us // 1_000),
        "fee": stripped(FEE, PLACES),
        "id": withdrawal.number,
        "isInternal": False,
        "quantity": stripped(withdrawal.units, PLACES),
        "status": "confirmed" if confirmed else "pending",
        "subaccountId": None,
        "symbol": withdrawal.asset,
        "toAddress": withdrawal.address,
        "transactionHash": f"sandbox-{withdrawal.number}" if confirmed else None,
        "triggerAt": None,
    }

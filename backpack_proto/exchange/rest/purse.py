"""Money of an account that goes elsewhere: its amount, and the reading of amounts and assets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from backpack_proto.exchange.account.accounts import PLACES, SETTLEMENT_ASSET, SimulatedAccount
from backpack_proto.exchange.account.order_request import refusal
from backpack_proto.exchange.market.listings import Listing
from backpack_proto.exchange.messages import Respond

from .plain_routes import VAULT_TOKEN
from .query import Query

__all__ = ["EMPTY", "Purse", "read_amount", "read_flag"]

EMPTY: Final = Respond(0, 200, "", b"")
"""The empty answer of a call that is done."""
_DECIMAL = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,18}))?")


class Purse:
    """Amount that an account can spend, by asset, in units of 10^-`PLACES`."""

    def __init__(self, account: SimulatedAccount, listings: Mapping[str, Listing]) -> None:
        self.account = account
        self._listings = listings

    def asset(self, name: object) -> str:
        """Return the name of an existing asset.

        Raises:
            ApiError: it does not exist.
        """
        known = {listing.base for listing in self._listings.values() if not listing.perpetual}
        if not isinstance(name, str) or name not in {*known, SETTLEMENT_ASSET, VAULT_TOKEN}:
            raise refusal("INVALID_SYMBOL", "Invalid symbol")
        return name

    def spend(self, asset: str, units: int) -> None:
        """Take something out.

        Raises:
            ApiError: there is not so much.
        """
        if units > self.account.available(asset):
            raise refusal("INSUFFICIENT_FUNDS", "Insufficient funds")
        self.account.credit(asset, -units)


def read_flag(query: Query, name: str) -> bool | None:
    """Return a parameter that is true or false, None where it is missing."""
    text = query.optional(name)
    return None if text is None else query.one_of(name, "bool", ("true", "false"), text) == "true"


def read_amount(value: object, name: str) -> int:
    """Return a decimal text as units.

    Raises:
        ApiError: it is not an amount, or zero.
    """
    read = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    units = 0 if read is None else int(read[1]) * 10**PLACES + int((read[2] or "").ljust(PLACES, "0"))
    if units <= 0:
        raise refusal("INVALID_QUANTITY" if name != "price" else "INVALID_PRICE", f"Invalid {name}")
    return units

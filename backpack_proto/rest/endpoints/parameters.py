"""The parameters that many endpoints share (docs/protocol.md 2.4, 6.1, 6.3).

Lists of words that the exchange adds to are open: the words are those that are known, and another one is sent as it is.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from .rules import ParameterRule

__all__ = [
    "ANY_SIDE",
    "ANY_SYMBOL",
    "AUTO_BORROW",
    "AUTO_BORROW_REPAY",
    "AUTO_LEND",
    "AUTO_LEND_REDEEM",
    "CLIENT_ID",
    "FROM",
    "MARKET_TYPE",
    "OFFSET",
    "ORDER_ID",
    "PAGE_LIMIT",
    "REDUCE_ONLY",
    "SIDE",
    "SORT_DIRECTION",
    "SUBACCOUNT",
    "SYMBOL",
    "TO",
    "UINT16",
    "UINT32",
    "UINT64",
    "decimal",
    "flag",
    "identifier",
    "limit",
    "text",
    "uint",
    "word",
]

UINT16: Final = 2**16 - 1
UINT32: Final = 2**32 - 1
UINT64: Final = 2**64 - 1


def text(name: str, *, required: bool = False, secret: bool = False) -> ParameterRule:
    """Any text but the empty one."""
    return ParameterRule(name=name, required=required, secret=secret)


def word(name: str, *choices: str, required: bool = False, grows: bool = False) -> ParameterRule:
    """One of some words. Where the list grows, these or another one."""
    return ParameterRule(name=name, required=required, choices=choices, grows=grows)


def decimal(name: str, *, required: bool = False, percent: bool = False) -> ParameterRule:
    """A number with all its digits, as `Decimal` or text."""
    return ParameterRule(name=name, kind=Decimal, required=required, percent=percent)


def flag(name: str) -> ParameterRule:
    """True or false."""
    return ParameterRule(name=name, kind=bool)


def uint(name: str, maximum: int, *, required: bool = False, unit: str = "", python: str = "") -> ParameterRule:
    """A whole number from zero on."""
    return ParameterRule(name=name, python=python, kind=int, required=required, maximum=maximum, unit=unit)


def identifier(name: str, *, required: bool = False) -> ParameterRule:
    """An id that the exchange prints as text, and takes as a number too (docs/protocol.md 2.3)."""
    return ParameterRule(name=name, required=required, numeric=True, maximum=UINT64)


def limit(maximum: int) -> ParameterRule:
    """Largest number of rows."""
    return ParameterRule(name="limit", kind=int, minimum=1, maximum=maximum)


def _milliseconds(name: str) -> ParameterRule:
    # Microseconds, which the streams have, are out of range: 10^14 ms are the year 5138.
    return uint(name, 99_999_999_999_999, unit="milliseconds since the epoch", python=f"{name}_ms")


SYMBOL: Final = text("symbol", required=True)
ANY_SYMBOL: Final = text("symbol")
MARKET_TYPE: Final = word("marketType", "SPOT", "PERP", "IPERP", "DATED", "PREDICTION", "RFQ", grows=True)
"""One value: how several are signed is not settled (docs/protocol.md 2.2)."""
OFFSET: Final = uint("offset", 2**63 - 1)
PAGE_LIMIT: Final = limit(1000)
FROM: Final = _milliseconds("from")
"""Inclusive."""
TO: Final = _milliseconds("to")
"""Exclusive (docs/protocol.md 6.4)."""
SORT_DIRECTION: Final = word("sortDirection", "Asc", "Desc")
SUBACCOUNT: Final = uint("subaccountId", UINT16)
SIDE: Final = word("side", "Bid", "Ask", required=True)
ANY_SIDE: Final = word("side", "Bid", "Ask")
CLIENT_ID: Final = uint("clientId", UINT32)
ORDER_ID: Final = identifier("orderId")
REDUCE_ONLY: Final = flag("reduceOnly")
AUTO_LEND: Final = flag("autoLend")
AUTO_LEND_REDEEM: Final = flag("autoLendRedeem")
AUTO_BORROW: Final = flag("autoBorrow")
AUTO_BORROW_REPAY: Final = flag("autoBorrowRepay")

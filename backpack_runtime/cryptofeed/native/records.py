"""Values of private channels: orders, fills, positions and balances, for every version of cryptofeed.

They have the field names of cryptofeed 2, which later versions dropped, and hold the members that every backend needs: `exchange`, `symbol`,
`timestamp` (seconds since the epoch) and `to_dict`. A member that the exchange does not tell is None, and stays so.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from msgspec import Struct

__all__ = ["BalanceInfo", "FillInfo", "OrderInfo", "PositionInfo"]


class _Record(Struct, frozen=True, kw_only=True):
    """One object for a callback."""

    exchange: str
    symbol: str
    timestamp: float
    """When the exchange did it, in seconds since the epoch."""
    raw: dict[str, Any] | None = None
    """The frame's payload as it came, or None where REST told."""

    def to_dict(
        self,
        numeric_type: Callable[[Decimal], Any] | None = None,
        none_to: object = False,  # noqa: FBT002 - cryptofeed's signature
    ) -> dict[str, Any]:
        """All members but `raw`, as cryptofeed's backends ask for them.

        Args:
            numeric_type: the type that decimals are converted to. None leaves them as they are.
            none_to: the value in the place of None. False leaves it None.
        """
        found: dict[str, Any] = {}
        for name in self.__struct_fields__:
            if name == "raw":
                continue
            value = getattr(self, name)
            if value is None:
                value = None if none_to is False else none_to
            elif numeric_type is not None and isinstance(value, Decimal):
                value = numeric_type(value)
            found[name] = value
        return found


class OrderInfo(_Record, frozen=True, kw_only=True):
    """An order came to be, traded, or ended."""

    id: str
    side: str
    """`buy` or `sell`."""
    status: str
    """`open`, `partial`, `filled`, `cancelled`, `expired`, `pending` (a trigger waits), `failed`, or the exchange's own word."""
    type: str | None
    """`limit`, `market` or the exchange's own word, or None where neither stream nor REST told."""
    price: Decimal | None
    """Limit price."""
    amount: Decimal | None
    """Base units, or None for an order that is sized in quote units."""
    remaining: Decimal | None
    """Quantity that is not executed yet, base units."""
    client_order_id: str | None = None
    account: str | None = None


class FillInfo(_Record, frozen=True, kw_only=True):
    """One trade of an order. Each comes once, whether the stream or REST told it first."""

    side: str
    amount: Decimal
    price: Decimal
    fee: Decimal | None
    fee_currency: str | None
    id: str | None
    """None for a settlement and the like, which REST lists among the fills."""
    order_id: str
    type: str | None
    liquidity: str | None
    """`maker` or `taker`, or None where the exchange did not say."""
    account: str | None = None


class PositionInfo(_Record, frozen=True, kw_only=True):
    """A perpetual position is another one than before."""

    position: Decimal
    """Net quantity in base units: negative is short, zero is closed."""
    entry_price: Decimal
    side: str | None
    """`long`, `short`, or None once it is closed."""
    unrealised_pnl: Decimal | None
    """Zero once it is closed. Where a source lacks it, the last known value of the same position. None before the first one."""


class BalanceInfo(_Record, frozen=True, kw_only=True):
    """Balance of one asset. `symbol` is the asset, for backends file by symbol."""

    currency: str
    balance: Decimal
    """Available."""
    reserved: Decimal
    """Locked in orders."""

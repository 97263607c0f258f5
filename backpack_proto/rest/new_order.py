"""Orders that are to be placed, and the words that they are written in."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import fields

from backpack_proto.inputs import Argument

__all__ = ["Amount", "NewOrder", "OrderType", "Side", "TimeInForce"]

Amount: TypeAlias = Decimal | str
"""A price or a quantity: text in plain digits, or a Decimal; never a float."""
Side: TypeAlias = Literal["Bid", "Ask"]
OrderType: TypeAlias = Literal["Limit", "Market"]
TimeInForce: TypeAlias = Literal["GTC", "IOC", "FOK"]


class NewOrder(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An order that is to be placed; what is None is left to the exchange (docs/protocol.md 6.3)."""

    symbol: str
    side: Side
    order_type: OrderType
    quantity: Amount | None = None
    """In base units."""
    quote_quantity: Amount | None = None
    """What a market order is to spend or receive, in place of `quantity`."""
    price: Amount | None = None
    """Limit price."""
    client_id: int | None = None
    """The user's own id, 32 bits: what an order whose outcome is unknown can be found by."""
    time_in_force: TimeInForce | None = None
    post_only: bool | None = None
    reduce_only: bool | None = None
    self_trade_prevention: str | None = None
    trigger_price: Amount | None = None
    trigger_quantity: Amount | None = None
    """In base units, or a percentage of the position such as `80%`."""
    trigger_by: str | None = None
    """`LastPrice`, `MarkPrice` or `IndexPrice`."""
    take_profit_trigger_price: Amount | None = None
    take_profit_limit_price: Amount | None = None
    take_profit_trigger_by: str | None = None
    stop_loss_trigger_price: Amount | None = None
    stop_loss_limit_price: Amount | None = None
    stop_loss_trigger_by: str | None = None
    auto_borrow: bool | None = None
    auto_borrow_repay: bool | None = None
    auto_lend: bool | None = None
    auto_lend_redeem: bool | None = None
    slippage_tolerance: Amount | None = None
    slippage_tolerance_type: str | None = None
    broker_id: int | None = None

    def arguments(self) -> Mapping[str, Argument]:
        """The parameters of the call that places it."""
        return {field.encode_name: getattr(self, field.name) for field in fields(self)}

"""Orders that are to be placed, and the words that they are written in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self, TypeAlias, get_args

from msgspec.structs import fields, force_setattr

from backpack_proto.decoding import Amount, amount
from backpack_proto.http import Argument
from backpack_proto.values import Value

__all__ = ["Amount", "NewOrder", "OrderType", "Side", "TimeInForce"]

Side: TypeAlias = Literal["Bid", "Ask"]
OrderType: TypeAlias = Literal["Limit", "Market"]
TimeInForce: TypeAlias = Literal["GTC", "IOC", "FOK"]


class NewOrder(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An order that is to be placed. Members that are None are left to the exchange (docs/protocol.md 6.3).

    Amounts are given as `Decimal`, as `int` or as text in plain digits. They are decimals from then on.
    """

    symbol: str
    side: Side
    order_type: OrderType
    quantity: Amount | None = None
    """In base units."""
    quote_quantity: Amount | None = None
    """Amount that a market order is to spend or receive, in place of `quantity`."""
    price: Amount | None = None
    """Limit price."""
    client_id: int | None = None
    """The user's own id, 32 bits, by which an order whose outcome is unknown can be found."""
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

    def __post_init__(self) -> None:
        # One number has one form, so that orders compare, and are the same when they were encoded on the way.
        for name in _AMOUNTS:
            exact = amount(getattr(self, name))
            if exact is not None:
                force_setattr(self, name, exact)

    @classmethod
    def limit(
        cls,
        symbol: str,
        side: Side,
        *,
        price: Amount,
        quantity: Amount,
        client_id: int | None = None,
        time_in_force: TimeInForce | None = None,
        post_only: bool | None = None,
        reduce_only: bool | None = None,
    ) -> Self:
        """Make an order at a price or better. `post_only` has it refused rather than trade at once."""
        return cls(
            symbol=symbol,
            side=side,
            order_type="Limit",
            price=price,
            quantity=quantity,
            client_id=client_id,
            time_in_force=time_in_force,
            post_only=post_only,
            reduce_only=reduce_only,
        )

    @classmethod
    def market(
        cls,
        symbol: str,
        side: Side,
        *,
        quantity: Amount | None = None,
        quote_quantity: Amount | None = None,
        client_id: int | None = None,
        reduce_only: bool | None = None,
    ) -> Self:
        """Make an order at the price of the book, for a `quantity` in base units or for a `quote_quantity` to spend or receive."""
        return cls(
            symbol=symbol,
            side=side,
            order_type="Market",
            quantity=quantity,
            quote_quantity=quote_quantity,
            client_id=client_id,
            reduce_only=reduce_only,
        )

    @classmethod
    def trigger(
        cls,
        symbol: str,
        side: Side,
        *,
        trigger_price: Amount,
        trigger_quantity: Amount,
        price: Amount | None = None,
        trigger_by: str | None = None,
        client_id: int | None = None,
        reduce_only: bool | None = None,
    ) -> Self:
        """Make an order that waits for a price: a limit order with a `price`, a market order without one."""
        return cls(
            symbol=symbol,
            side=side,
            order_type="Market" if price is None else "Limit",
            price=price,
            trigger_price=trigger_price,
            trigger_quantity=trigger_quantity,
            trigger_by=trigger_by,
            client_id=client_id,
            reduce_only=reduce_only,
        )

    def arguments(self) -> Mapping[str, Argument]:
        """The parameters of the call that places it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_AMOUNTS = tuple(field.name for field in fields(NewOrder) if Amount in get_args(field.type))

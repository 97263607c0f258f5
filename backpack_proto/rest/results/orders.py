"""What REST calls about orders return, typed: orders, fills, requests for quote, strategies (docs/protocol.md 6.3, 6.4).

One type serves a thing while it lives and in history, where the exchange writes other members and other forms of time: what only one
of the two has is None in the other. Times are milliseconds since the epoch; words from open lists are plain strings.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import field

from backpack_proto.decoding import UnixMs
from backpack_proto.values import Value

__all__ = [
    "Fill",
    "Order",
    "OrderRefused",
    "Quote",
    "QuoteFill",
    "Rfq",
    "RfqFill",
    "RfqWithQuotes",
    "Strategy",
]


class Order(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An order, open or of the past."""

    order_id: str = field(name="id")
    client_id: int | None = None
    symbol: str
    side: str
    """`Bid` or `Ask`."""
    order_type: str
    """`Limit` or `Market`."""
    status: str
    """`New`, `PartiallyFilled`, `Filled`, `Cancelled`, `Expired`, `TriggerPending`, `TriggerFailed`, ..."""
    time_in_force: str
    self_trade_prevention: str
    created_ms: UnixMs = field(name="createdAt")
    price: Decimal | None = None
    """The limit; None for market orders."""
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    """What a market order is to spend or receive; in history, limit orders have one too."""
    executed_quantity: Decimal | None = None
    """Of all fills together; an open order always has one."""
    executed_quote_quantity: Decimal | None = None
    post_only: bool | None = None
    reduce_only: bool | None = None
    trigger_price: Decimal | None = None
    trigger_by: str | None = None
    """`LastPrice`, `MarkPrice` or `IndexPrice`."""
    trigger_quantity: str | None = None
    """A quantity, or a percentage such as `80%`: therefore text."""
    triggered_ms: UnixMs | None = field(name="triggeredAt", default=None)
    take_profit_trigger_price: Decimal | None = None
    take_profit_limit_price: Decimal | None = None
    take_profit_trigger_by: str | None = None
    stop_loss_trigger_price: Decimal | None = None
    stop_loss_limit_price: Decimal | None = None
    stop_loss_trigger_by: str | None = None
    related_order_id: str | None = None
    strategy_id: str | None = None
    slippage_tolerance: Decimal | None = None
    slippage_tolerance_type: str | None = None
    """`TickSize` or `Percent`."""
    expiry_reason: str | None = None
    """In history."""
    system_order_type: str | None = None
    """In history: why the exchange itself made the order, such as `LiquidatePositionOnBook`."""


class OrderRefused(Value, frozen=True, gc=False, kw_only=True):
    """An order of a batch that was refused, while others may stand."""

    code: str
    message: str | None = None


class Fill(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One execution of an order of the account."""

    trade_id: int | None = None
    order_id: str
    client_id: int | None = None
    symbol: str
    side: str
    """`Bid` or `Ask`."""
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str = field(name="feeSymbol")
    maker: bool = field(name="isMaker")
    filled_ms: UnixMs = field(name="timestamp")
    system_order_type: str | None = None
    """Why the exchange itself made the order; None for those of the user."""


class Rfq(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A request for quotes."""

    rfq_id: str
    client_id: int | None = None
    symbol: str
    side: str
    status: str
    execution_mode: str
    """`AwaitAccept` or `Immediate`."""
    price: Decimal | None = None
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    created_ms: UnixMs = field(name="createdAt")
    submission_ms: UnixMs = field(name="submissionTime")
    """Until when quotes are taken."""
    expiry_ms: UnixMs = field(name="expiryTime")
    system_order_type: str | None = None
    deferred_settlement_quote_id: str | None = None
    """In history."""


class Quote(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A quote for a request."""

    rfq_id: str
    quote_id: str
    client_id: int | None = None
    bid_price: Decimal
    ask_price: Decimal
    status: str
    created_ms: UnixMs = field(name="createdAt")
    deferred_settlement: bool | None = None
    """In history."""


class RfqWithQuotes(Value, frozen=True, gc=False, kw_only=True):
    """An open request of the account and the quotes that it has had."""

    rfq: Rfq
    quotes: tuple[Quote, ...]


class RfqFill(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A request of the account that was filled."""

    rfq_id: str
    quote_id: str
    client_id: int | None = None
    symbol: str
    side: str
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    fill_price: Decimal
    created_ms: UnixMs = field(name="createdAt")
    filled_ms: UnixMs = field(name="filledAt")
    system_order_type: str | None = None


class QuoteFill(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A quote of the account that was filled."""

    rfq_id: str
    quote_id: str
    client_id: int | None = None
    symbol: str
    side: str
    quantity: Decimal
    fill_price: Decimal
    fee: Decimal
    fee_asset: str = field(name="feeSymbol")
    created_ms: UnixMs = field(name="createdAt")
    filled_ms: UnixMs = field(name="filledAt")


class Strategy(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Orders that the exchange makes one after the other."""

    strategy_id: str = field(name="id")
    client_strategy_id: int | None = None
    strategy_type: str
    """`Scheduled`, ..."""
    symbol: str
    side: str
    status: str
    """`Running`, `Completed`, `Cancelled`, `Terminated`, ..."""
    time_in_force: str
    self_trade_prevention: str
    created_ms: UnixMs = field(name="createdAt")
    quantity: Decimal | None = None
    executed_quantity: Decimal | None = None
    executed_quote_quantity: Decimal | None = None
    duration_ms: int = field(name="duration")
    interval_ms: int = field(name="interval")
    randomized_interval_quantity: bool | None = None
    reduce_only: bool | None = None
    slippage_tolerance: Decimal | None = None
    slippage_tolerance_type: str | None = None
    cancel_reason: str | None = None
    """In history."""

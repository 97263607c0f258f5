"""Typed answers of REST calls about orders beside orders and fills: requests for quote, strategies (docs/protocol.md 6.3, 6.4).

One type serves a thing while it lives and in history, where the exchange writes other members and other forms of time: members of only one
of the two are None in the other. Times are microseconds since the epoch. Words from open lists are plain strings.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import field

from backpack_proto.decoding import UnixUs
from backpack_proto.values import Value

__all__ = [
    "OrderRefused",
    "Quote",
    "QuoteFill",
    "Rfq",
    "RfqFill",
    "RfqWithQuotes",
    "Strategy",
]


class OrderRefused(Value, frozen=True, gc=False, kw_only=True):
    """An order of a batch that was refused, while others may stand."""

    code: str
    message: str | None = None


class Rfq(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A request for quotes."""

    rfq_id: str
    client_id: int | None = None
    symbol: str
    side: str
    state: str = field(name="status")
    """`New`, `Cancelled`, `Expired`, `Filled`, ..."""
    execution_mode: str
    """`AwaitAccept` or `Immediate`."""
    price: Decimal | None = None
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    created_us: UnixUs = field(name="createdAt")
    submitted_us: UnixUs = field(name="submissionTime")
    """Until when quotes are taken."""
    expires_us: UnixUs = field(name="expiryTime")
    """When the request expires, unless a quote was accepted before."""
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
    state: str = field(name="status")
    created_us: UnixUs = field(name="createdAt")
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
    created_us: UnixUs = field(name="createdAt")
    filled_us: UnixUs = field(name="filledAt")
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
    created_us: UnixUs = field(name="createdAt")
    filled_us: UnixUs = field(name="filledAt")


class Strategy(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Orders that the exchange makes one after the other."""

    strategy_id: str = field(name="id")
    client_strategy_id: int | None = None
    strategy_type: str
    """`Scheduled`, ..."""
    symbol: str
    side: str
    state: str = field(name="status")
    """`Running`, `Completed`, `Cancelled`, `Terminated`, ..."""
    time_in_force: str
    self_trade_prevention: str
    created_us: UnixUs = field(name="createdAt")
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

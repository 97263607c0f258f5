"""Orders of an account: the requests, and their state. Prices are ticks and quantities lots."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct, field

from backpack_proto.exchange.market.listings import Listing, to_decimal
from backpack_proto.exchange.market.orders import OrderSide, OrderTimeInForce, SelfTrade

__all__ = ["AccountOrder", "Attached", "OrderRequest", "OrderState", "SimulatedOrder"]


class OrderState(StrEnum):
    """State of an order, in the exchange's words (docs/protocol.md 4.10)."""

    NEW = "New"
    PARTIALLY_FILLED = "PartiallyFilled"
    FILLED = "Filled"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"
    TRIGGER_PENDING = "TriggerPending"
    TRIGGER_FAILED = "TriggerFailed"


class Attached(Struct, frozen=True, gc=False, kw_only=True):
    """A take profit or a stop loss that comes with an order."""

    trigger_price: int
    limit_price: int | None
    """None for a market order."""
    trigger_by: str


class OrderRequest(Struct, frozen=True, gc=False, kw_only=True):
    """An order as somebody wants it, checked against the market's precision (docs/protocol.md 6.3)."""

    listing: Listing
    side: OrderSide
    price: int | None
    """Limit, or None for a market order."""
    lots: int | None
    tick_lots: int | None = None
    """Amount that a market order may spend or bring, in place of a quantity: ticks times lots."""
    time_in_force: OrderTimeInForce = OrderTimeInForce.GTC
    post_only: bool | None = None
    reduce_only: bool | None = None
    client_id: int | None = None
    self_trade: SelfTrade = SelfTrade.REJECT_TAKER
    trigger_price: int | None = None
    trigger_by: str = "LastPrice"
    trigger_quantity: str | None = None
    """A number of base units, or a percentage such as `50%`."""
    slippage: Decimal | None = None
    """Slippage that a market order allows from the best price. A fraction of the price, or ticks."""
    slippage_in_ticks: bool = False
    take_profit: Attached | None = None
    stop_loss: Attached | None = None


class SimulatedOrder(Struct, frozen=True, gc=False, kw_only=True):
    """One order as a plain value."""

    order_id: int
    client_id: int | None
    symbol: str
    side: OrderSide
    price: Decimal | None
    quantity: Decimal
    """0 while a trigger waits."""
    executed_quantity: Decimal
    executed_quote_quantity: Decimal
    state: OrderState


class AccountOrder(Struct, gc=False, kw_only=True):
    """An order from the moment it was accepted."""

    order_id: int
    request: OrderRequest
    created_us: int
    lots: int = 0
    state: OrderState = OrderState.NEW
    executed: int = 0
    """Lots that traded."""
    paid: int = 0
    """Ticks times lots that traded."""
    reserved: int = 0
    """Units that it still has locked, of the asset that it spends."""
    rising: bool = False
    """True when its trigger waits for a higher price."""
    triggered_us: int | None = None
    expiry_reason: str | None = None
    charged: int = 0
    """Units of the base asset that a spot order paid in fees."""
    related_order_id: int | None = None
    """The order that a take profit or a stop loss came with."""
    shields: dict[bool, tuple[AccountOrder, int]] = field(default_factory=dict)
    """Its take profit (True) and stop loss (False) that were placed last, and for how many of its lots earlier ones were."""

    @property
    def symbol(self) -> str:
        """Its market."""
        return self.request.listing.symbol

    @property
    def key(self) -> tuple[str, int]:
        """Under which the account has it: ids are unique per market only."""
        return self.request.listing.symbol, self.order_id

    @property
    def remaining(self) -> int:
        """Lots that did not trade."""
        return self.lots - self.executed

    @property
    def spends(self) -> str:
        """The asset that a spot order spends."""
        return "USDC" if self.request.side is OrderSide.BID else self.request.listing.base

    @property
    def shown(self) -> SimulatedOrder:
        """The order as a plain value."""
        request = self.request
        listing = request.listing
        price_decimals, quantity_decimals = listing.price_decimals, listing.quantity_decimals
        return SimulatedOrder(
            order_id=self.order_id,
            client_id=request.client_id,
            symbol=listing.symbol,
            side=request.side,
            price=None if request.price is None else to_decimal(request.price, price_decimals),
            quantity=to_decimal(self.lots, quantity_decimals),
            executed_quantity=to_decimal(self.executed, quantity_decimals),
            executed_quote_quantity=to_decimal(self.paid, price_decimals + quantity_decimals),
            state=self.state,
        )

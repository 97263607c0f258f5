"""What an account holds and has done, as values: orders, fills, positions, balances, and the events that tell of their changes.

Both sources of the ledger, private streams and REST, are brought into these shapes, so that they can be merged and compared.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.streams.payloads import BalanceUpdate, Event, OrderFill, OrderUpdate, PositionClosed, PositionUpdate
from backpack_proto.values import Value

__all__ = [
    "AccountDiverged",
    "AccountStale",
    "AccountSynced",
    "Balance",
    "BalanceChanged",
    "Fill",
    "Filled",
    "Order",
    "OrderChanged",
    "Origin",
    "Position",
    "PositionChanged",
]

ZERO = Decimal(0)
OPEN_STATES = frozenset({"New", "PartiallyFilled", "TriggerPending", "Triggered"})


class Origin(StrEnum):
    """How we know."""

    STREAM = "stream"
    RECONCILIATION = "reconciliation"
    """From REST, after a reconnect or in a check."""


class Order(Value, frozen=True, gc=False, kw_only=True):
    """An order as far as it is known; quantities in base units."""

    order_id: str
    symbol: str
    side: str
    """`Bid` or `Ask`."""
    state: str
    """The exchange's word: `New`, `PartiallyFilled`, `Filled`, `Cancelled`, `Expired`, `TriggerPending`, ..."""
    executed_quantity: Decimal
    """All fills together; never goes backwards."""
    executed_quote_quantity: Decimal
    quantity: Decimal | None = None
    price: Decimal | None = None
    """Limit price."""
    client_id: int | None = None

    @property
    def open(self) -> bool:
        """Whether it can still trade or be triggered."""
        return self.state in OPEN_STATES

    @classmethod
    def of(cls, update: OrderUpdate) -> Order:
        """From a stream; `z` is cumulative (docs/protocol.md 4.10)."""
        return cls(
            order_id=str(update.order_id),
            symbol=update.symbol,
            side=update.side,
            state=update.state,
            executed_quantity=update.executed_quantity,
            executed_quote_quantity=update.executed_quote_quantity,
            quantity=update.quantity,
            price=update.price,
            client_id=update.client_id,
        )


class Fill(Value, frozen=True, gc=False, kw_only=True):
    """One trade of an order."""

    symbol: str
    trade_id: int
    order_id: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    maker: bool
    unix_ms: int
    """When, by the exchange's clock."""

    @property
    def key(self) -> tuple[str, int, str]:
        """Trade ids are counted per symbol, and a trade with oneself belongs to two orders."""
        return (self.symbol, self.trade_id, self.order_id)

    @classmethod
    def of(cls, update: OrderFill) -> Fill | None:
        """From a stream; None when a member that makes it a fill is missing."""
        if update.trade_id is None or update.fill_quantity is None or update.fill_price is None:
            return None
        return cls(
            symbol=update.symbol,
            trade_id=update.trade_id,
            order_id=str(update.order_id),
            side=update.side,
            price=update.fill_price,
            quantity=update.fill_quantity,
            fee=update.fee or ZERO,
            fee_asset=update.fee_asset or "",
            maker=bool(update.maker),
            unix_ms=update.engine_us // 1000,
        )


class Position(Value, frozen=True, gc=False, kw_only=True):
    """A perpetual position; a quantity of zero says that it is closed."""

    symbol: str
    net_quantity: Decimal
    """Signed: negative is short."""
    entry_price: Decimal
    break_even_price: Decimal

    @classmethod
    def of(cls, update: PositionUpdate) -> Position:
        """From a stream, where `B` is entry and `b` break-even (docs/protocol.md 4.11)."""
        closed = isinstance(update, PositionClosed)
        return cls(
            symbol=update.symbol,
            net_quantity=ZERO if closed else update.net_quantity,
            entry_price=update.entry_price,
            break_even_price=update.break_even_price,
        )


class Balance(Value, frozen=True, gc=False, kw_only=True):
    """What there is of one asset."""

    asset: str
    available: Decimal
    locked: Decimal
    staked: Decimal

    @classmethod
    def of(cls, update: BalanceUpdate) -> Balance:
        """From a stream: absolute values (docs/protocol.md 4.12)."""
        return cls(asset=update.asset, available=update.available, locked=update.locked, staked=update.staked)


class OrderChanged(Event, frozen=True, gc=False, kw_only=True):
    """An order came to be, traded, or ended."""

    order: Order
    origin: Origin


class Filled(Event, frozen=True, gc=False, kw_only=True):
    """A fill; each is told once."""

    fill: Fill
    origin: Origin


class PositionChanged(Event, frozen=True, gc=False, kw_only=True):
    """A position is another one than before."""

    position: Position
    origin: Origin


class BalanceChanged(Event, frozen=True, gc=False, kw_only=True):
    """A balance is another one than before."""

    balance: Balance
    origin: Origin


class AccountSynced(Event, frozen=True, gc=False, kw_only=True):
    """The ledger is what the exchange says, and follows the streams from here on."""

    orders: int
    """Open orders."""
    fills: int
    """Fills that only REST told of, because the streams were away."""


class AccountStale(Event, frozen=True, gc=False, kw_only=True):
    """The ledger may have missed something; it is being read anew, or will be when the connection is back."""

    reason: str


class AccountDiverged(Event, frozen=True, gc=False, kw_only=True):
    """The two sources contradict each other; everything is read anew."""

    what: str
    error: RemoteProtocolError

"""Values of an account: orders, fills, positions, balances, and the events that report their changes.

There is one class for each, from either source: answers of REST are decoded as these classes, payloads of the private streams are
turned into them by `of`, and the ledger merges and compares them. Times are microseconds since the epoch. Words from open lists are
plain strings, the same ones from both sources.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from msgspec import field

from backpack_proto.decoding import UnixUs
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.streams.payloads import BalanceUpdate, Event, OrderFill, OrderUpdate, PositionClosed, PositionUpdate
from backpack_proto.values import Value

__all__ = [
    "AccountConfirmed",
    "AccountDiverged",
    "AccountDoubted",
    "AccountStale",
    "AccountSynced",
    "AccountUnconfirmed",
    "Balance",
    "BalanceChanged",
    "Fill",
    "Filled",
    "MarginFunction",
    "Order",
    "OrderChanged",
    "Origin",
    "Position",
    "PositionChanged",
]

ZERO = Decimal(0)
ENDED_STATES = frozenset({"Filled", "Cancelled", "Expired", "TriggerFailed"})
"""Every other word is of an open order: the exchange adds to its list, and an order is open until something final is seen of it."""
FillKey: TypeAlias = tuple[str, int | None, str, Decimal]
FillProfile: TypeAlias = tuple[str, str, Decimal, Decimal, int]
_ORDER_TYPES = {"LIMIT": "Limit", "MARKET": "Market"}
"""The stream's words and those of REST (docs/protocol.md 4.10, 6.3)."""


class Origin(StrEnum):
    """Source of the fill."""

    STREAM = "stream"
    RECONCILIATION = "reconciliation"
    """From REST, after a reconnect or in a check."""


class Order(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An order, open or of the past, as far as it is known: a member that its source does not tell is None.

    The private stream does not say when the order was created or triggered. REST leaves other members out for an open order than in
    history. Quantities are in base units unless the name says quote.
    """

    order_id: str = field(name="id")
    client_id: int | None = None
    symbol: str
    side: str
    """`Bid` or `Ask`."""
    order_type: str | None = None
    """`Limit` or `Market`."""
    state: str = field(name="status")
    """The exchange's word: `New`, `PartiallyFilled`, `Filled`, `Cancelled`, `Expired`, `TriggerPending`, `TriggerFailed`, ..."""
    time_in_force: str | None = None
    """`GTC`, `IOC` or `FOK`."""
    self_trade_prevention: str | None = None
    """`RejectTaker`, `RejectMaker` or `RejectBoth`."""
    created_us: UnixUs | None = field(name="createdAt", default=None)
    price: Decimal | None = None
    """Limit price, or None for market orders."""
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    """Amount that a market order is to spend or receive. In history, limit orders have one too."""
    executed_quantity: Decimal | None = None
    """All fills together. An open order always has one, and so have all orders of the ledger, where it never goes backwards."""
    executed_quote_quantity: Decimal | None = None
    post_only: bool | None = None
    reduce_only: bool | None = None
    trigger_price: Decimal | None = None
    trigger_by: str | None = None
    """`LastPrice`, `MarkPrice` or `IndexPrice`."""
    trigger_quantity: str | None = None
    """A quantity, or a percentage such as `80%`: therefore text."""
    triggered_us: UnixUs | None = field(name="triggeredAt", default=None)
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
    system_order_type: str | None = None
    """In history: why the exchange itself made the order: `CollateralConversion`, `FutureExpiry`, `LiquidatePositionOnAdl`,
    `LiquidatePositionOnBook`, `LiquidatePositionOnBackstop`, `OrderBookClosed`, ..."""

    @property
    def open(self) -> bool:
        """True when it can still trade or be triggered."""
        return self.state not in ENDED_STATES

    @classmethod
    def of(cls, update: OrderUpdate) -> Order:
        """Return the order that a stream tells of. `z` is cumulative (docs/protocol.md 4.10)."""
        return cls(
            order_id=str(update.order_id),
            client_id=update.client_id,
            symbol=update.symbol,
            side=update.side,
            order_type=None if update.order_type is None else _ORDER_TYPES.get(update.order_type, update.order_type),
            state=update.state,
            time_in_force=update.time_in_force,
            self_trade_prevention=update.self_trade_prevention,
            price=update.price,
            quantity=update.quantity,
            quote_quantity=update.quote_quantity,
            executed_quantity=update.executed_quantity,
            executed_quote_quantity=update.executed_quote_quantity,
            post_only=update.post_only,
            reduce_only=update.reduce_only,
            trigger_price=update.trigger_price,
            trigger_by=update.trigger_by,
            trigger_quantity=update.trigger_quantity,
            take_profit_trigger_price=update.take_profit_trigger_price,
            take_profit_limit_price=update.take_profit_limit_price,
            take_profit_trigger_by=update.take_profit_trigger_by,
            stop_loss_trigger_price=update.stop_loss_trigger_price,
            stop_loss_limit_price=update.stop_loss_limit_price,
            stop_loss_trigger_by=update.stop_loss_trigger_by,
            related_order_id=None if update.related_order_id is None else str(update.related_order_id),
            strategy_id=None if update.strategy_id is None else str(update.strategy_id),
            expiry_reason=update.expiry_reason,
        )


class Fill(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One trade of an order of the account."""

    symbol: str
    trade_id: int | None = None
    """None for a settlement and the like, which REST lists among the fills."""
    order_id: str
    client_id: int | None = None
    side: str
    """`Bid` or `Ask`."""
    price: Decimal
    quantity: Decimal
    fee: Decimal | None = None
    fee_asset: str | None = field(name="feeSymbol", default=None)
    maker: bool | None = field(name="isMaker", default=None)
    filled_us: UnixUs = field(name="timestamp")
    """When, by the exchange's clock. REST lists no more than milliseconds."""
    system_order_type: str | None = None
    """Why the exchange itself made the order, or None for those of the user, and for orders from a stream."""

    @property
    def key(self) -> FillKey:
        """Return the key of a fill: trade ids are counted per symbol, and a trade with oneself belongs to two orders.

        The quantity is part of it, for rows that differ there are two fills, even if their ids are equal. Rows without an id are told apart
        by `profile`, and there may be several of one.
        """
        return (self.symbol, self.trade_id, self.order_id, self.quantity)

    @property
    def listed_ms(self) -> int:
        """When, in the grain that REST lists it in, so that the times of both sources compare."""
        return self.filled_us // 1000

    @property
    def profile(self) -> FillProfile:
        """Return the key of a fill without a trade id."""
        return (self.symbol, self.order_id, self.price, self.quantity, self.listed_ms)

    @classmethod
    def of(cls, update: OrderFill) -> Fill | None:
        """Return the fill that a stream tells of, or None when a member that makes it a fill is missing."""
        if update.fill_quantity is None or update.fill_price is None:
            return None
        return cls(
            symbol=update.symbol,
            trade_id=update.trade_id,
            order_id=str(update.order_id),
            client_id=update.client_id,
            side=update.side,
            price=update.fill_price,
            quantity=update.fill_quantity,
            fee=update.fee,
            fee_asset=update.fee_asset,
            maker=update.maker,
            filled_us=update.engine_us,
        )


class MarginFunction(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Growth of the margin fraction with the size of a position. Members depend on the kind, `sqrt` has these two."""

    kind: str = field(name="type")
    base: Decimal | None = None
    factor: Decimal | None = None


class Position(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A perpetual position. A quantity of zero says that it is closed. A member that its source does not tell is None."""

    symbol: str
    position_id: str | None = None
    net_quantity: Decimal
    """Signed: negative is short."""
    entry_price: Decimal
    break_even_price: Decimal
    mark_price: Decimal | None = None
    estimated_liquidation_price: Decimal | None = field(name="estLiquidationPrice", default=None)
    """Of REST alone, as the net cost, the cumulative amounts and all that follows the margin fractions."""
    net_cost: Decimal | None = None
    net_exposure_quantity: Decimal | None = None
    """With open orders."""
    net_exposure_notional: Decimal | None = None
    realized_pnl: Decimal | None = field(name="pnlRealized", default=None)
    unrealized_pnl: Decimal | None = field(name="pnlUnrealized", default=None)
    cumulative_funding_payment: Decimal | None = None
    cumulative_interest: Decimal | None = None
    initial_margin_fraction: Decimal | None = field(name="imf", default=None)
    maintenance_margin_fraction: Decimal | None = field(name="mmf", default=None)
    imf_function: MarginFunction | None = None
    mmf_function: MarginFunction | None = None
    subaccount_id: int | None = None
    user_id: int | None = None

    @classmethod
    def of(cls, update: PositionUpdate) -> Position:
        """Return the position that a stream tells of, where `B` is entry and `b` break-even (docs/protocol.md 4.11)."""
        closed = isinstance(update, PositionClosed)
        return cls(
            symbol=update.symbol,
            position_id=None if update.position_id is None else str(update.position_id),
            net_quantity=ZERO if closed else update.net_quantity,
            entry_price=update.entry_price,
            break_even_price=update.break_even_price,
            mark_price=update.mark_price,
            net_exposure_quantity=update.net_exposure_quantity,
            net_exposure_notional=update.net_exposure_notional,
            realized_pnl=update.realized_pnl,
            unrealized_pnl=update.unrealized_pnl,
            initial_margin_fraction=update.initial_margin_fraction,
            maintenance_margin_fraction=update.maintenance_margin_fraction,
        )


class Balance(Value, frozen=True, gc=False, kw_only=True):
    """Balance of one asset. Amounts that are lent stand in the collateral."""

    asset: str
    available: Decimal
    locked: Decimal
    """In open orders."""
    staked: Decimal

    @classmethod
    def of(cls, update: BalanceUpdate) -> Balance:
        """Return the balance that a stream tells of: absolute values (docs/protocol.md 4.12)."""
        return cls(asset=update.asset, available=update.available, locked=update.locked, staked=update.staked)


class OrderChanged(Event, frozen=True, gc=False, kw_only=True):
    """An order came to be, traded, or ended."""

    order: Order
    origin: Origin


class Filled(Event, frozen=True, gc=False, kw_only=True):
    """A fill. Each is told once."""

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
    """The ledger agrees with the exchange, and follows the streams from here on.

    It is live, unless an `AccountStale` follows at once, because the path of the connection is in doubt.
    """

    orders: int
    """Open orders."""
    fills: int
    """Fills that only REST reported, because the streams were away."""


class AccountDoubted(Event, frozen=True, gc=False, kw_only=True):
    """The parts of a live ledger that are not proved changed. Without any, all of it is."""

    doubts: tuple[str, ...]
    """Each names an order, a position or a balance and says why, such as `order 5: REST does not list it as open, nor how it ended`."""


class AccountConfirmed(Event, frozen=True, gc=False, kw_only=True):
    """Fresh proof has come: a ledger that could not be checked, or was stale because of the path of its connection, is live and proved."""


class AccountUnconfirmed(Event, frozen=True, gc=False, kw_only=True):
    """A live ledger could not be checked: its last proof grows old. Reported once, until a check succeeds again."""

    reason: str


class AccountStale(Event, frozen=True, gc=False, kw_only=True):
    """The ledger may have missed something: it is not live.

    It is being read again, or will be when the connection is back, and `AccountSynced` ends that. Where only the path of the connection is in
    doubt, it goes on following the streams, and `AccountConfirmed` says that it is live again.
    """

    reason: str


class AccountDiverged(Event, frozen=True, gc=False, kw_only=True):
    """The two sources contradict each other. Everything is read again."""

    what: str
    error: RemoteProtocolError
    escalated: bool = False
    """The same contradiction was there before, and another reading did not mend it: now the exchange's list replaces the known state."""

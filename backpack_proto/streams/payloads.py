"""Typed payloads of the streams: each decoded payload is the event that the user gets.

Names are the field's own, units are in names. The member of the wire stands beside each field. `emitted_us` is when the
exchange's websocket server sent the frame, `engine_us` when the matching engine acted, both in microseconds since the
epoch. The latter can be the later one by a microsecond. Prices and quantities are `Decimal`, quantities in base units unless the
name says quote. Words from an open list (order types, states, reasons) are plain strings: the exchange adds to them.
Source of every field: docs/protocol.md section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import TypeAlias, get_args

from msgspec import field
from msgspec.structs import fields

from backpack_proto.decoding import MAX_ID, UnixUs, UnixUsOfText, usable
from backpack_proto.values import Value

from .levels import Level, judge

__all__ = [
    "BalanceUpdate",
    "BookTicker",
    "CheckedPayload",
    "Depth",
    "Event",
    "ExternalTicker",
    "Kline",
    "Liquidation",
    "MarkPrice",
    "OpenInterest",
    "OrderAccepted",
    "OrderCancelled",
    "OrderExpired",
    "OrderFill",
    "OrderModified",
    "OrderUpdate",
    "Payload",
    "PositionAdjusted",
    "PositionClosed",
    "PositionOpened",
    "PositionSnapshot",
    "PositionUpdate",
    "PositionUpdated",
    "QuoteAccepted",
    "QuoteCancelled",
    "RfqAccepted",
    "RfqAcceptedBinding",
    "RfqActive",
    "RfqCancelled",
    "RfqCandidate",
    "RfqFilled",
    "RfqRefreshed",
    "RfqUpdate",
    "StockPayload",
    "StockPrice",
    "StockQuotes",
    "StreamPayload",
    "Ticker",
    "Trade",
    "TriggerFailed",
    "TriggerPlaced",
]


class Event(Value, frozen=True, gc=False, kw_only=True):
    """Something that happened and that the user may want to know."""


class StreamPayload(Event, frozen=True, gc=False, kw_only=True, tag_field="e"):
    """Base of all stream data, and of the values that REST returns in the same shape."""

    emitted_us: int | None = field(name="E")
    """None on a value that REST returned."""
    received_us: int | None = field(name=" receivedUs", default=None)
    """When this machine read the frame from the socket, by its own clock, in microseconds since the epoch. None on a value that REST
    returned, and before a session has taken the frame (no member of the wire has a name with a blank)."""


class CheckedPayload(StreamPayload, frozen=True, gc=False, kw_only=True):
    """A payload whose decimals are all usable: `Decimal` would read the texts NaN and 1E+1000000 without a word."""

    def __post_init__(self) -> None:
        for value in _numbers_of(type(self))(self):
            if type(value) is Decimal and not usable(value):
                name = next(name for name in self.__struct_fields__ if getattr(self, name) is value)
                raise ValueError(f"{name} is not a usable number")


@cache
def _numbers_of(kind: type[CheckedPayload]) -> Callable[[CheckedPayload], tuple[object, ...]]:
    """Return the reader of all members that may be decimals."""
    names = [field.name for field in fields(kind) if field.type is Decimal or Decimal in get_args(field.type)]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda payload: tuple(getattr(payload, name) for name in names)


class BookTicker(CheckedPayload, frozen=True, gc=False, kw_only=True, tag="bookTicker"):
    """Best bid and ask, sent when one of them changes. A side without orders has None for price and quantity."""

    symbol: str = field(name="s")
    engine_us: int = field(name="T")
    update_id: int = field(name="u")
    """In the id space of `Depth`. Skips ids, and may arrive before or after the depth frame of the same id."""
    bid_price: Decimal | None = field(name="b")
    bid_quantity: Decimal | None = field(name="B")
    ask_price: Decimal | None = field(name="a")
    ask_quantity: Decimal | None = field(name="A")


class Depth(StreamPayload, frozen=True, gc=False, kw_only=True, tag="depth"):
    """Changed price levels between two update ids. Unordered within a side, and possibly empty.

    Its decoder leaves texts and ids as they were sent, for a book looks at them in any case: others have it `check`ed first.
    """

    symbol: str = field(name="s")
    engine_us: int = field(name="T")
    first_update_id: int = field(name="U")
    last_update_id: int = field(name="u")
    bids: tuple[Level, ...] = field(name="b")
    asks: tuple[Level, ...] = field(name="a")

    def check(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: the ids are not in order or out of range, or a level is invalid (`Level`).
        """
        if not 0 <= self.first_update_id <= self.last_update_id <= MAX_ID:
            raise ValueError("the update ids are not in order, or out of range")
        judge(self.bids, self.asks)


class Kline(CheckedPayload, frozen=True, gc=False, kw_only=True, tag="kline"):
    """One candle. On the stream the running one is sent again and again, with `closed` at the end."""

    symbol: str = field(name="s")
    start_us: UnixUsOfText = field(name="t")
    end_us: UnixUsOfText = field(name="T")
    """The start of the next one."""
    closed: bool | None = field(name="X")
    """None from REST, which does not say."""
    trade_count: int = field(name="n")
    volume: Decimal = field(name="v")
    """Traded quantity in base units."""
    open: Decimal | None = field(name="o", default=None)
    """None, like high, low and close, before the first trade."""
    high: Decimal | None = field(name="h", default=None)
    low: Decimal | None = field(name="l", default=None)
    close: Decimal | None = field(name="c", default=None)
    quote_volume: Decimal | None = field(name="quoteVolume", default=None)
    """None from the stream."""
    interval: str = field(name=" interval", default="")
    """One of `KLINE_INTERVALS`. Taken from the stream's name, for the payload lacks it (no member has a name with a blank)."""


class Trade(CheckedPayload, frozen=True, gc=False, kw_only=True, tag="trade"):
    """One public trade. Frames are not sure to come in the order of time."""

    symbol: str = field(name="s")
    engine_us: int = field(name="T")
    trade_id: int | None = field(name="t")
    """Sequential per symbol. REST can lack it."""
    price: Decimal = field(name="p")
    quantity: Decimal = field(name="q")
    buyer_is_maker: bool = field(name="m")
    """True: the seller was the aggressor."""
    buyer_order_id: str | None = field(name="b", default=None)
    """None from REST, like the seller's."""
    seller_order_id: str | None = field(name="a", default=None)
    quote_quantity: Decimal | None = field(name="quoteQuantity", default=None)
    """None from the stream."""


class Ticker(CheckedPayload, frozen=True, gc=False, kw_only=True, tag="ticker"):
    """Rolling 24 hours, sent every second. From REST a day or a week, which may be half a minute old (docs/protocol.md 1.2)."""

    symbol: str = field(name="s")
    first_price: Decimal = field(name="o")
    last_price: Decimal = field(name="c")
    high: Decimal = field(name="h")
    low: Decimal = field(name="l")
    volume: Decimal = field(name="v")
    """Base units."""
    quote_volume: Decimal = field(name="V")
    trade_count: int = field(name="n")
    price_change: Decimal | None = field(name="priceChange", default=None)
    """None from the stream, like the fraction."""
    price_change_fraction: Decimal | None = field(name="priceChangePercent", default=None)
    """A fraction, in spite of its name on the wire: -0.029 is -2.9 %."""


class ExternalTicker(Ticker, frozen=True, gc=False, kw_only=True, tag="externalTicker"):
    """The same members as `Ticker`, from a market outside the exchange."""


class MarkPrice(CheckedPayload, frozen=True, gc=False, kw_only=True, tag="markPrice"):
    """Mark price of a perpetual, sent every second even when unchanged."""

    symbol: str = field(name="s")
    engine_us: int | None = field(name="T")
    """None from REST."""
    mark_price: Decimal = field(name="p")
    index_price: Decimal | None = field(name="i", default=None)
    """None, like the funding fields, for prediction markets."""
    funding_rate: Decimal | None = field(name="f", default=None)
    """Estimate for the running interval, a fraction (0.0001 is one basis point). May be negative."""
    next_funding_us: UnixUs | None = field(name="n", default=None)
    """When the running interval ends."""


class OpenInterest(CheckedPayload, frozen=True, gc=False, kw_only=True, tag="openInterest"):
    """Open contracts, every 60 seconds."""

    symbol: str = field(name="s")
    open_interest: Decimal | None = field(name="o")
    """Contracts, which are base units. REST can lack it."""
    engine_us: int | None = field(name="timestamp", default=None)
    """None from the stream."""


class Liquidation(CheckedPayload, frozen=True, gc=False, kw_only=True, tag="liquidation"):
    """A forced order."""

    symbol: str = field(name="s")
    engine_us: int = field(name="T")
    price: Decimal = field(name="p")
    quantity: Decimal = field(name="q")
    side: str = field(name="S")
    """`Bid` or `Ask`."""


class StockPayload(CheckedPayload, frozen=True, gc=False, kw_only=True):
    """Base of the data about one stock. No frame was observed, so any member may be missing (docs/protocol.md 4.14)."""

    emitted_us: int | None = field(name="E", default=None)
    symbol: str = ""
    """The bare ticker, such as `BRK.B`. Taken from the stream's name where the frame does not say."""
    bid: Decimal | None = None
    ask: Decimal | None = None
    source_us: UnixUs | None = field(name="timestamp", default=None)
    """When the provider of the price had it."""
    session: str | None = None
    """The session that is open, such as `US_EQUITIES_PRE_MARKET`."""


class StockPrice(StockPayload, frozen=True, gc=False, kw_only=True, tag="stockPrice"):
    """Price of a stock outside the exchange, as a provider quotes it."""

    mid: Decimal | None = None


class StockQuotes(StockPayload, frozen=True, gc=False, kw_only=True, tag="stockIndicativeQuote"):
    """Both prices at which a request for quotes would be quoted now, once a second. None: it would not be.

    `bid` is for sellers, `ask` for buyers. They are limit prices: a request settles there, or better.
    """

    estimated_bid: Decimal | None = field(name="estimatedBid", default=None)
    """Where it settles if the quoter hedges at the market of this moment. Never worse than the limit price."""
    estimated_ask: Decimal | None = field(name="estimatedAsk", default=None)


class OrderUpdate(CheckedPayload, frozen=True, gc=False, kw_only=True):
    """Event of an order of the account. The subclass says which event it was.

    Members that the ledger needs are required. Other members may be missing: a capture of 2024 has no `O` (docs/protocol.md 4.10).
    """

    symbol: str = field(name="s")
    engine_us: int = field(name="T")
    order_id: str = field(name="i")
    side: str = field(name="S")
    """`Bid` or `Ask`."""
    order_type: str | None = field(name="o", default=None)
    """`LIMIT` or `MARKET`, in capitals on this stream."""
    time_in_force: str | None = field(name="f", default=None)
    """`GTC`, `IOC` or `FOK`."""
    state: str = field(name="X")
    """`New`, `PartiallyFilled`, `Filled`, `Cancelled`, `Expired`, `TriggerPending`, `TriggerFailed`, ..."""
    executed_quantity: Decimal = field(name="z")
    """Executed so far, all fills together. The size of one fill is `fill_quantity`."""
    executed_quote_quantity: Decimal | None = field(name="Z", default=None)
    self_trade_prevention: str | None = field(name="V", default=None)
    origin: str | None = field(name="O", default=None)
    """`USER`, or who else created the order: `LIQUIDATION_AUTOCLOSE`, `ADL_AUTOCLOSE`, ..."""
    client_id: int | None = field(name="c", default=None)
    quantity: Decimal | None = field(name="q", default=None)
    """Zero on trigger orders whose size is a percentage."""
    quote_quantity: Decimal | None = field(name="Q", default=None)
    price: Decimal | None = field(name="p", default=None)
    """Limit price."""
    reduce_only: bool | None = field(name="r", default=None)
    post_only: bool | None = field(name="y", default=None)
    trigger_price: Decimal | None = field(name="P", default=None)
    trigger_by: str | None = field(name="B", default=None)
    """`LastPrice`, `MarkPrice` or `IndexPrice`."""
    trigger_quantity: str | None = field(name="Y", default=None)
    """A quantity, or a percentage such as `80%`: therefore text."""
    take_profit_trigger_price: Decimal | None = field(name="a", default=None)
    stop_loss_trigger_price: Decimal | None = field(name="b", default=None)
    take_profit_limit_price: Decimal | None = field(name="j", default=None)
    stop_loss_limit_price: Decimal | None = field(name="k", default=None)
    take_profit_trigger_by: str | None = field(name="d", default=None)
    stop_loss_trigger_by: str | None = field(name="g", default=None)
    expiry_reason: str | None = field(name="R", default=None)
    trade_id: int | None = field(name="t", default=None)
    """On fills. Null on every other event."""
    fill_quantity: Decimal | None = field(name="l", default=None)
    fill_price: Decimal | None = field(name="L", default=None)
    maker: bool | None = field(name="m", default=None)
    """On fills: whether this order was the resting one."""
    fee: Decimal | None = field(name="n", default=None)
    fee_asset: str | None = field(name="N", default=None)
    related_order_id: str | None = field(name="I", default=None)
    strategy_id: str | None = field(name="H", default=None)


class OrderAccepted(OrderUpdate, frozen=True, gc=False, kw_only=True, tag="orderAccepted"):
    """The order rests in the book, or is about to be matched."""


class OrderCancelled(OrderUpdate, frozen=True, gc=False, kw_only=True, tag="orderCancelled"):
    """The order was cancelled."""


class OrderExpired(OrderUpdate, frozen=True, gc=False, kw_only=True, tag="orderExpired"):
    """The exchange took the order away. `expiry_reason` says why."""


class OrderFill(OrderUpdate, frozen=True, gc=False, kw_only=True, tag="orderFill"):
    """The order traded: `fill_quantity` at `fill_price` is this fill, `executed_quantity` all fills together."""


class OrderModified(OrderUpdate, frozen=True, gc=False, kw_only=True, tag="orderModified"):
    """A reduce-only order shrank with its position."""


class TriggerPlaced(OrderUpdate, frozen=True, gc=False, kw_only=True, tag="triggerPlaced"):
    """A conditional order waits for its trigger."""


class TriggerFailed(OrderUpdate, frozen=True, gc=False, kw_only=True, tag="triggerFailed"):
    """A conditional order was triggered and then refused."""


class PositionUpdate(CheckedPayload, frozen=True, gc=False, kw_only=True):
    """A perpetual position of the account. Decimals come as strings or numbers. Members that the ledger needs are required."""

    symbol: str = field(name="s")
    engine_us: int = field(name="T")
    position_id: int | None = field(name="i", default=None)
    net_quantity: Decimal = field(name="q")
    """Signed: negative is short."""
    entry_price: Decimal = field(name="B")
    break_even_price: Decimal = field(name="b")
    mark_price: Decimal | None = field(name="M", default=None)
    net_exposure_quantity: Decimal | None = field(name="Q", default=None)
    """With open orders."""
    net_exposure_notional: Decimal | None = field(name="n", default=None)
    realized_pnl: Decimal | None = field(name="p", default=None)
    unrealized_pnl: Decimal | None = field(name="P", default=None)
    initial_margin_fraction: Decimal | None = field(name="f", default=None)
    maintenance_margin_fraction: Decimal | None = field(name="m", default=None)


class PositionOpened(PositionUpdate, frozen=True, gc=False, kw_only=True, tag="positionOpened"):
    """A position came to be."""


class PositionAdjusted(PositionUpdate, frozen=True, gc=False, kw_only=True, tag="positionAdjusted"):
    """A position changed."""


class PositionUpdated(PositionUpdate, frozen=True, gc=False, kw_only=True, tag="positionUpdated"):
    """A position changed, under the name that some clients know."""


class PositionClosed(PositionUpdate, frozen=True, gc=False, kw_only=True, tag="positionClosed"):
    """A position is gone."""


class PositionSnapshot(PositionUpdate, frozen=True, gc=False, kw_only=True, tag=" positionSnapshot"):
    """An open position as it stood at the subscription: the message that comes without `e` (docs/protocol.md 4.11)."""


class BalanceUpdate(CheckedPayload, frozen=True, gc=False, kw_only=True, tag="balanceUpdate"):
    """New absolute balances of one asset. Only changes come, never a snapshot."""

    asset: str = field(name="a")
    engine_us: int = field(name="T")
    available: Decimal = field(name="A")
    locked: Decimal = field(name="L")
    staked: Decimal = field(name="S")


class RfqUpdate(CheckedPayload, frozen=True, gc=False, kw_only=True):
    """Event of a request for quote or of a quote. The subclass says which event it was."""

    symbol: str = field(name="s")
    engine_us: int = field(name="T")
    rfq_id: int = field(name="R")
    """Above 2^53: never a float."""
    state: str | None = field(name="X", default=None)
    """`New`, `Cancelled`, `Expired`, `Filled`, ..."""
    quote_id: int | None = field(name="u", default=None)
    client_id: int | None = field(name="C", default=None)
    side: str | None = field(name="S", default=None)
    quantity: Decimal | None = field(name="q", default=None)
    """Base units. Either this or `quote_quantity` is set."""
    quote_quantity: Decimal | None = field(name="Q", default=None)
    price: Decimal | None = field(name="p", default=None)
    submitted_us: UnixUs | None = field(name="w", default=None)
    """Until when quotes are taken."""
    expires_us: UnixUs | None = field(name="W", default=None)
    """When the request expires, unless a quote was accepted before."""
    system_order_type: str | None = field(name="o", default=None)


class RfqActive(RfqUpdate, frozen=True, gc=False, kw_only=True, tag="rfqActive"):
    """A request is open. Broadcast to makers."""


class RfqAccepted(RfqUpdate, frozen=True, gc=False, kw_only=True, tag="rfqAccepted"):
    """The exchange took the request."""


class RfqAcceptedBinding(RfqUpdate, frozen=True, gc=False, kw_only=True, tag="rfqAcceptedBinding"):
    """A quote with deferred settlement was accepted: it binds, and the funds are locked until `RfqFilled` or `RfqCancelled`."""


class RfqRefreshed(RfqUpdate, frozen=True, gc=False, kw_only=True, tag="rfqRefreshed"):
    """The request's times begin again, and the quotes for it were cancelled."""


class RfqCancelled(RfqUpdate, frozen=True, gc=False, kw_only=True, tag="rfqCancelled"):
    """The request was cancelled, by its owner or by the exchange, or has expired."""


class RfqCandidate(RfqUpdate, frozen=True, gc=False, kw_only=True, tag="rfqCandidate"):
    """There is a new best quote for the request, the only one that can be accepted. `price` has the fee in it."""


class RfqFilled(RfqUpdate, frozen=True, gc=False, kw_only=True, tag="rfqFilled"):
    """The request was filled, at the quoted price or a better one."""


class QuoteAccepted(RfqUpdate, frozen=True, gc=False, kw_only=True, tag="quoteAccepted"):
    """The exchange took the quote."""


class QuoteCancelled(RfqUpdate, frozen=True, gc=False, kw_only=True, tag="quoteCancelled"):
    """The quote was replaced, or the request was filled, refreshed, cancelled, or has expired."""


Payload: TypeAlias = (
    Depth
    | BookTicker
    | Trade
    | Kline
    | Ticker
    | ExternalTicker
    | MarkPrice
    | OpenInterest
    | Liquidation
    | StockPrice
    | StockQuotes
    | OrderAccepted
    | OrderCancelled
    | OrderExpired
    | OrderFill
    | OrderModified
    | TriggerPlaced
    | TriggerFailed
    | PositionOpened
    | PositionAdjusted
    | PositionUpdated
    | PositionClosed
    | PositionSnapshot
    | BalanceUpdate
    | RfqActive
    | RfqAccepted
    | RfqAcceptedBinding
    | RfqRefreshed
    | RfqCancelled
    | RfqCandidate
    | RfqFilled
    | QuoteAccepted
    | QuoteCancelled
)
"""Everything that a stream can carry."""

"""From the core's events to the objects that cryptofeed's callbacks get.

Times are seconds since the epoch as floats, ids are strings, decimals are handed on as they are. Values that cryptofeed's type cannot
hold, such as a ticker without a bid, have no object: None.
"""

from __future__ import annotations

from decimal import Decimal

from backpack_proto.account import values as holdings
from backpack_proto.streams import payloads
from backpack_runtime.cryptofeed.channels import CANDLE_INTERVALS

from .objects import (
    CandleObject,
    FundingObject,
    IndexObject,
    L1BookObject,
    LiquidationObject,
    OpenInterestObject,
    Raw,
    TickerObject,
    TradeObject,
)
from .records import BalanceInfo, FillInfo, OrderInfo, PositionInfo

__all__ = [
    "balance",
    "balance_update",
    "candle",
    "fill",
    "funding",
    "index",
    "l1_book",
    "liquidation",
    "open_interest",
    "order_info",
    "position",
    "reconciled_fill",
    "reconciled_order",
    "reconciled_position",
    "ticker",
    "trade",
]

EXCHANGE = "BACKPACK"
_SIDES = {"Bid": "buy", "Ask": "sell"}
_STATUSES = {
    "New": "open",
    "Triggered": "open",
    "PartiallyFilled": "partial",
    "Filled": "filled",
    "Cancelled": "cancelled",
    "Expired": "expired",
    "TriggerPending": "pending",
    "TriggerFailed": "failed",
}


def trade(given: payloads.Trade, symbol: str, raw: Raw) -> TradeObject:
    """A trade. `side` is the aggressor's."""
    return TradeObject(
        EXCHANGE,
        symbol,
        "sell" if given.buyer_is_maker else "buy",
        given.quantity,
        given.price,
        given.engine_us / 1e6,
        id=str(given.trade_id),
        raw=raw,
    )


def ticker(given: payloads.BookTicker, symbol: str, raw: Raw) -> TickerObject | None:
    """Best bid and ask, or None when a side has no orders."""
    if given.bid_price is None or given.ask_price is None:
        return None
    return TickerObject(EXCHANGE, symbol, given.bid_price, given.ask_price, given.engine_us / 1e6, raw=raw)


def l1_book(given: payloads.BookTicker, symbol: str, raw: Raw) -> L1BookObject | None:
    """Best bid and ask with their quantities, or None when a side has no orders."""
    if given.bid_price is None or given.ask_price is None:
        return None
    return L1BookObject(
        EXCHANGE,
        symbol,
        given.bid_price,
        given.bid_quantity,
        given.ask_price,
        given.ask_quantity,
        given.engine_us / 1e6,
        raw=raw,
    )


def candle(given: payloads.Kline, symbol: str, raw: Raw) -> CandleObject | None:
    """A candle, its `stop` is the next one's `start`, or None without trades, for then it has no prices."""
    if given.open is None or given.close is None or given.high is None or given.low is None:
        return None
    return CandleObject(
        EXCHANGE,
        symbol,
        given.start_us / 1e6,
        given.end_us / 1e6,
        CANDLE_INTERVALS.get(given.interval, given.interval),
        given.trade_count,
        given.open,
        given.close,
        given.high,
        given.low,
        given.volume,
        given.closed,
        _seconds(given.emitted_us),
        raw=raw,
    )


def funding(given: payloads.MarkPrice, symbol: str, raw: Raw) -> FundingObject | None:
    """Mark price and the estimated rate of the running interval, or None for markets without funding."""
    if given.funding_rate is None or given.next_funding_us is None:
        return None
    return FundingObject(
        EXCHANGE,
        symbol,
        given.mark_price,
        given.funding_rate,
        given.next_funding_us / 1e6,
        _seconds(given.engine_us),
        raw=raw,
    )


def index(given: payloads.MarkPrice, symbol: str, raw: Raw) -> IndexObject | None:
    """The index price, or None for markets without one."""
    return (
        None
        if given.index_price is None
        else IndexObject(EXCHANGE, symbol, given.index_price, _seconds(given.engine_us), raw=raw)
    )


def open_interest(given: payloads.OpenInterest, symbol: str, raw: Raw) -> OpenInterestObject | None:
    """Open contracts, base units, or None where the exchange does not say."""
    if given.open_interest is None:
        return None
    return OpenInterestObject(EXCHANGE, symbol, given.open_interest, _seconds(given.emitted_us), raw=raw)


def liquidation(given: payloads.Liquidation, symbol: str, raw: Raw) -> LiquidationObject:
    """A forced order, which the exchange tells once it has traded."""
    return LiquidationObject(
        EXCHANGE,
        symbol,
        _SIDES.get(given.side, given.side),
        given.quantity,
        given.price,
        None,
        "filled",
        given.engine_us / 1e6,
        raw=raw,
    )


def order_info(given: payloads.OrderUpdate, symbol: str, raw: Raw, account: str | None = None) -> OrderInfo:
    """Convert an order of a stream."""
    return OrderInfo(
        exchange=EXCHANGE,
        symbol=symbol,
        id=str(given.order_id),
        side=_SIDES.get(given.side, given.side),
        status=_STATUSES.get(given.state, given.state),
        type=(given.order_type or "").lower() or None,
        price=given.price,
        amount=given.quantity,
        remaining=None if given.quantity is None else given.quantity - given.executed_quantity,
        timestamp=given.engine_us / 1e6,
        client_order_id=None if given.client_id is None else str(given.client_id),
        account=account,
        raw=raw,
    )


def reconciled_order(given: holdings.Order, symbol: str, timestamp: float, account: str | None = None) -> OrderInfo:
    """Convert an order of REST. It has no time of its own, `timestamp` is when it was read."""
    return OrderInfo(
        exchange=EXCHANGE,
        symbol=symbol,
        id=given.order_id,
        side=_SIDES.get(given.side, given.side),
        status=_STATUSES.get(given.state, given.state),
        type=(given.order_type or "").lower() or None,
        price=given.price,
        amount=given.quantity,
        remaining=None if given.quantity is None else given.quantity - (given.executed_quantity or 0),
        timestamp=timestamp,
        client_order_id=None if given.client_id is None else str(given.client_id),
        account=account,
    )


def fill(given: payloads.OrderFill, symbol: str, raw: Raw, account: str | None = None) -> FillInfo | None:
    """Convert a fill of a stream, or return None when a required member is missing."""
    known = holdings.Fill.of(given)
    return None if known is None else _fill(known, symbol, (given.order_type or "").lower() or None, raw, account)


def reconciled_fill(given: holdings.Fill, symbol: str, account: str | None = None) -> FillInfo:
    """Convert a fill of REST."""
    return _fill(given, symbol, None, {}, account)


def _fill(given: holdings.Fill, symbol: str, order_type: str | None, raw: Raw, account: str | None) -> FillInfo:
    return FillInfo(
        exchange=EXCHANGE,
        symbol=symbol,
        side=_SIDES.get(given.side, given.side),
        amount=given.quantity,
        price=given.price,
        fee=given.fee,
        fee_currency=given.fee_asset or None,
        id=None if given.trade_id is None else str(given.trade_id),
        order_id=given.order_id,
        type=order_type,
        liquidity=None if given.maker is None else "maker" if given.maker else "taker",
        timestamp=given.filled_us / 1e6,
        account=account,
        raw=raw,
    )


def position(given: payloads.PositionUpdate, symbol: str, raw: Raw) -> PositionInfo:
    """Convert a position of a stream."""
    held = holdings.Position.of(given)
    return PositionInfo(
        exchange=EXCHANGE,
        symbol=symbol,
        position=held.net_quantity,
        entry_price=held.entry_price,
        side=_direction(held),
        unrealised_pnl=_profit(held),
        timestamp=given.engine_us / 1e6,
        raw=raw,
    )


def reconciled_position(given: holdings.Position, symbol: str, timestamp: float) -> PositionInfo:
    """Convert a position of REST. `timestamp` is when it was read."""
    return PositionInfo(
        exchange=EXCHANGE,
        symbol=symbol,
        position=given.net_quantity,
        entry_price=given.entry_price,
        side=_direction(given),
        unrealised_pnl=_profit(given),
        timestamp=timestamp,
    )


def balance(given: holdings.Balance, timestamp: float, raw: Raw | None = None) -> BalanceInfo:
    """Convert a balance of REST."""
    return BalanceInfo(
        exchange=EXCHANGE,
        symbol=given.asset,
        currency=given.asset,
        balance=given.available,
        reserved=given.locked,
        timestamp=timestamp,
        raw=raw,
    )


def balance_update(given: payloads.BalanceUpdate, raw: Raw) -> BalanceInfo:
    """Convert a balance of a stream."""
    return balance(holdings.Balance.of(given), given.engine_us / 1e6, raw)


def _profit(held: holdings.Position) -> Decimal | None:
    """Return the unrealised profit of a position: zero, once it is closed."""
    return held.unrealized_pnl if held.net_quantity else Decimal(0)


def _direction(held: holdings.Position) -> str | None:
    if not held.net_quantity:
        return None
    return "long" if held.net_quantity > 0 else "short"


def _seconds(unix_us: int | None) -> float | None:
    return None if unix_us is None else unix_us / 1e6

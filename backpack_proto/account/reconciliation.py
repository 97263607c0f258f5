"""What the ledger asks of REST, and what it makes of the answers."""

from __future__ import annotations

from decimal import Decimal

from backpack_proto.errors import BackpackError
from backpack_proto.inputs import Arguments
from backpack_proto.rest.results.account import Balance as BalanceRow
from backpack_proto.rest.results.account import Position as PositionRow
from backpack_proto.rest.results.market_data import Page
from backpack_proto.rest.results.orders import Fill as FillRow
from backpack_proto.rest.results.orders import Order as OrderRow

from .readings import (
    PAGE,
    BalancesRead,
    FillsRead,
    OpenOrdersRead,
    OrderRead,
    PositionsRead,
    Read,
    ReadAccount,
    ReadFailed,
    Reading,
)
from .values import Balance, Fill, Order, Position

__all__ = ["arguments_of", "endpoint_of", "reading_of"]

_ENDPOINTS = {
    Read.OPEN_ORDERS: "open_orders",
    Read.POSITIONS: "positions",
    Read.BALANCES: "balances",
    Read.FILLS: "fill_history",
    Read.ORDER: "order_history",
}


def endpoint_of(read: ReadAccount) -> str:
    """The endpoint that answers."""
    return _ENDPOINTS[read.what]


def arguments_of(read: ReadAccount) -> Arguments:
    """Its parameters."""
    if read.what is Read.FILLS:
        # Newest first is the default too (docs/protocol.md 6.4), but the ledger's beginning depends on it.
        return {"from": read.since_ms, "limit": PAGE, "offset": read.offset, "sortDirection": "Desc"}
    if read.what is Read.ORDER:
        return {"orderId": read.order_id, "symbol": read.symbol}
    return {}


def reading_of(read: ReadAccount, result: object) -> Reading | ReadFailed:
    """The answer in the ledger's terms; an error, or an answer that is none, is a failure."""
    if isinstance(result, BackpackError):
        return ReadFailed(read.attempt, str(result))
    rows: tuple[object, ...] = ()
    if isinstance(result, tuple | Page):
        rows = tuple(result)
    match read.what:
        case Read.OPEN_ORDERS:
            return OpenOrdersRead(read.attempt, tuple(_order(row) for row in rows if isinstance(row, OrderRow)))
        case Read.POSITIONS:
            return PositionsRead(read.attempt, tuple(_position(row) for row in rows if isinstance(row, PositionRow)))
        case Read.BALANCES:
            held = result if isinstance(result, dict) else {}
            return BalancesRead(read.attempt, tuple(_balance(asset, row) for asset, row in held.items()))
        case Read.FILLS:
            return FillsRead(read.attempt, tuple(_fill(row) for row in rows if isinstance(row, FillRow)))
        case Read.ORDER:
            orders = [_order(row) for row in rows if isinstance(row, OrderRow) and row.order_id == read.order_id]
            return OrderRead(read.attempt, orders[0] if orders else None)


def _order(row: OrderRow) -> Order:
    return Order(
        order_id=row.order_id,
        symbol=row.symbol,
        side=row.side,
        state=row.status,
        executed_quantity=row.executed_quantity or Decimal(0),
        executed_quote_quantity=row.executed_quote_quantity or Decimal(0),
        quantity=row.quantity,
        price=row.price,
        client_id=row.client_id,
    )


def _position(row: PositionRow) -> Position:
    return Position(
        symbol=row.symbol,
        net_quantity=row.net_quantity,
        entry_price=row.entry_price,
        break_even_price=row.break_even_price,
    )


def _balance(asset: str, row: BalanceRow) -> Balance:
    return Balance(asset=asset, available=row.available, locked=row.locked, staked=row.staked)


def _fill(row: FillRow) -> Fill:
    return Fill(
        symbol=row.symbol,
        # Rows without a trade are settlements and the like; together they count as one that was always known.
        trade_id=-1 if row.trade_id is None else row.trade_id,
        order_id=row.order_id,
        side=row.side,
        price=row.price,
        quantity=row.quantity,
        fee=row.fee,
        fee_asset=row.fee_asset,
        maker=row.maker,
        unix_ms=row.filled_ms,
    )

"""What the ledger asks of REST, and what it makes of the answers."""

from __future__ import annotations

from backpack_proto.errors import BackpackError
from backpack_proto.inputs import Arguments
from backpack_proto.rest.results.market_data import Page

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
    """Return the answer in the ledger's terms; an error is a failure."""
    if isinstance(result, BackpackError):
        return ReadFailed(read.attempt, str(result))
    rows: tuple[object, ...] = ()
    if isinstance(result, tuple | Page):
        rows = tuple(result)
    elif isinstance(result, dict):
        rows = tuple(result.values())
    match read.what:
        case Read.OPEN_ORDERS:
            return OpenOrdersRead(read.attempt, tuple(row for row in rows if isinstance(row, Order)))
        case Read.POSITIONS:
            return PositionsRead(read.attempt, tuple(row for row in rows if isinstance(row, Position)))
        case Read.BALANCES:
            return BalancesRead(read.attempt, tuple(row for row in rows if isinstance(row, Balance)))
        case Read.FILLS:
            return FillsRead(read.attempt, tuple(row for row in rows if isinstance(row, Fill)))
        case Read.ORDER:
            orders = [row for row in rows if isinstance(row, Order) and row.order_id == read.order_id]
            return OrderRead(read.attempt, orders[0] if orders else None)

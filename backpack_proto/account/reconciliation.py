"""Requests of the ledger to REST, and the readings that it makes of the answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from backpack_proto.errors import ApiError, BackpackError, PartlyUnreadable
from backpack_proto.inputs import Arguments
from backpack_proto.rest.codec import refused_authentication
from backpack_proto.rest.results.account import BorrowLendPosition, Collateral, FundingPayment
from backpack_proto.rest.results.market_data import Page

from .readings import (
    PAGE,
    BalancesRead,
    CollateralRead,
    FillsRead,
    FundingRead,
    LoansRead,
    OpenOrdersRead,
    OrderFillsRead,
    OrderRead,
    PastOrdersRead,
    PositionsRead,
    Read,
    ReadAccount,
    ReadFailed,
    Reading,
)
from .rounds import funding_page, orders_page
from .values import Balance, Fill, Order, Position

__all__ = ["arguments_of", "endpoint_of", "reading_of"]

Row = TypeVar("Row")

_ENDPOINTS = {
    Read.OPEN_ORDERS: "open_orders",
    Read.POSITIONS: "positions",
    Read.COLLATERAL: "collateral",
    Read.BALANCES: "balances",
    Read.LOANS: "borrow_lend_positions",
    Read.FUNDING: "funding_history",
    Read.FILLS: "fill_history",
    Read.PAST_ORDERS: "order_history",
    Read.ORDER: "order_history",
    Read.ORDER_FILLS: "fill_history",
}
_NOT_NEEDED = frozenset({Read.COLLATERAL, Read.LOANS, Read.FUNDING})
"""Readings without which orders, positions and balances are known all the same: where one fails, that part alone is doubted."""


def endpoint_of(read: ReadAccount) -> str:
    """Return the endpoint that answers."""
    return _ENDPOINTS[read.what]


def arguments_of(read: ReadAccount) -> Arguments:
    """Return its parameters."""
    # Newest first is the default too (docs/protocol.md 6.4), but the ledger's beginning depends on it.
    match read.what:
        case Read.FILLS:
            return {"from": read.since_ms, "limit": PAGE, "offset": read.offset, "sortDirection": "Desc"}
        case Read.FUNDING:
            return {"limit": funding_page(read.offset), "offset": read.offset, "sortDirection": "Desc"}
        case Read.PAST_ORDERS:
            return {"limit": orders_page(read.offset), "offset": read.offset, "sortDirection": "Desc"}
        case Read.ORDER:
            return {"orderId": read.order_id, "symbol": read.symbol}
        case Read.ORDER_FILLS:
            return {"orderId": read.order_id, "symbol": read.symbol, "limit": PAGE, "sortDirection": "Desc"}
    return {}


def reading_of(read: ReadAccount, result: object) -> Reading | ReadFailed:
    """Return the answer in the ledger's terms. An error is a failure, but for rows that alone cannot be read."""
    unreadable: tuple[str, ...] = ()
    if isinstance(result, PartlyUnreadable):
        unreadable = tuple(key for key, _ in result.errors)
        result = result.rows
    if isinstance(result, BackpackError):
        if read.what in _NOT_NEEDED:
            return _without(read, str(result))
        # 401, 404 and the like: another try would fail the same way.
        refused = isinstance(result, ApiError) and (result.retry_after_us is None or refused_authentication(result))
        return ReadFailed(read.attempt, str(result), refused=refused)
    rows: tuple[object, ...] = ()
    if isinstance(result, tuple | Page):
        rows = tuple(result)
    elif isinstance(result, dict):
        rows = tuple(result.values())
    match read.what:
        case Read.OPEN_ORDERS:
            return OpenOrdersRead(read.attempt, _only(Order, rows), unreadable)
        case Read.POSITIONS:
            return PositionsRead(read.attempt, _only(Position, rows), unreadable)
        case Read.COLLATERAL:
            return CollateralRead(read.attempt, result if isinstance(result, Collateral) else None)
        case Read.LOANS:
            return LoansRead(read.attempt, _only(BorrowLendPosition, rows), unreadable)
        case Read.FUNDING:
            return FundingRead(read.attempt, _only(FundingPayment, rows), unreadable)
        case Read.BALANCES:
            return BalancesRead(read.attempt, _only(Balance, rows), unreadable)
        case Read.FILLS:
            return FillsRead(read.attempt, _only(Fill, rows), unreadable)
        case Read.PAST_ORDERS:
            return PastOrdersRead(read.attempt, _only(Order, rows), unreadable)
        case Read.ORDER_FILLS:
            return OrderFillsRead(read.attempt, _of_order(_only(Fill, rows), read.order_id), unreadable)
        case Read.ORDER:
            orders = _of_order(_only(Order, rows), read.order_id)
            return OrderRead(read.attempt, orders[0] if orders else None)


def _without(read: ReadAccount, problem: str) -> Reading:
    """Return the empty answer, with its reason."""
    match read.what:
        case Read.COLLATERAL:
            return CollateralRead(read.attempt, None, problem)
        case Read.LOANS:
            return LoansRead(read.attempt, (), (), problem)
    return FundingRead(read.attempt, (), (), problem)


def _only(kind: type[Row], rows: Iterable[object]) -> tuple[Row, ...]:
    return tuple(row for row in rows if isinstance(row, kind))


OfOrder = TypeVar("OfOrder", Order, Fill)


def _of_order(rows: Sequence[OfOrder], order_id: str | None) -> tuple[OfOrder, ...]:
    return tuple(row for row in rows if row.order_id == order_id)

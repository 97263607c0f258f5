"""Which past orders are news: those that were created since the ledger began, each once.

As with fills, the bounds are times that the exchange itself listed. The history of orders has no filter of time (docs/protocol.md 6.4),
so it is read from the last created order backwards to the cursor, which lies OVERLAP_MS before the newest of the last complete round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .fills import OVERLAP_MS
from .rounds import Beginning, created_ms
from .values import Order

__all__ = ["PastOrders"]

REMEMBERED_ORDERS = 20_000
"""More only of those that are open or can be listed again."""


class PastOrders:
    """The cursor of the order history, and the orders from before the ledger."""

    def __init__(self) -> None:
        self.since_ms: int | None = None
        """The cursor, or None while the exchange has listed no order at all."""
        self._from_ms = 0
        """Orders that were created before this are from before the ledger, or were reported and forgotten."""
        self._before: frozenset[str] = frozenset()
        self._seen_ms: dict[str, int] = {}
        """When each known order was created, or something of it was reported first, which is later."""

    def begin(self, beginning: Beginning, heard_ms: int | None) -> None:
        """Take the ledger's beginning, and when the first thing happened that the order stream reported."""
        start_ms = max((beginning.orders_newest_ms or 0) - OVERLAP_MS, 0)
        self._before = frozenset(
            order_id for order_id, order in beginning.orders.items() if heard_ms is None or created_ms(order) < heard_ms
        )
        if beginning.orders:
            self._from_ms = self.since_ms = start_ms if heard_ms is None else min(start_ms, heard_ms)

    def is_since(self, order: Order) -> bool:
        """Return whether an order was created since the ledger began, and may be new."""
        return order.created_us is not None and created_ms(order) >= self._from_ms and order.order_id not in self._before

    def hear(self, order_id: str, engine_ms: int) -> None:
        """Take note of something that a stream reported of an order."""
        self._seen_ms.setdefault(order_id, engine_ms)

    def see(self, order: Order) -> None:
        """Take note of an order."""
        self._seen_ms.setdefault(order.order_id, created_ms(order))

    def move_cursor(self, listed: Iterable[Order], unknown: Iterable[Order]) -> None:
        """Take note of a complete round, which leaves `unknown` for the next one."""
        newest_ms = min(map(created_ms, unknown), default=max(map(created_ms, listed), default=0))
        if newest_ms:
            self.since_ms = max(self.since_ms or 0, newest_ms - OVERLAP_MS)

    def forgotten(self, orders: Mapping[str, Order]) -> list[str]:
        """Return the orders to forget, where there are too many: the oldest that have ended and cannot be listed again."""
        if len(orders) <= REMEMBERED_ORDERS:
            return []
        since_ms = self.since_ms or 0
        passed = [
            order_id for order_id, order in orders.items() if not order.open and self._seen_ms.get(order_id, 0) < since_ms
        ]
        for order_id in passed[: REMEMBERED_ORDERS // 2]:
            self._from_ms = max(self._from_ms, self._seen_ms.pop(order_id, 0) + 1)
        return passed[: REMEMBERED_ORDERS // 2]

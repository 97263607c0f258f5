"""REST methods of the past: histories that are read page by page as they are iterated over."""

from __future__ import annotations

from collections.abc import Hashable

from backpack_proto.account.values import Fill, Order
from backpack_proto.inputs import Arguments

from .caller import Caller
from .pages import PAGE, Pages

__all__ = ["HistoryMethods"]


class HistoryMethods(Caller):
    """Histories of the account."""

    def order_history(
        self,
        symbol: str | None = None,
        *,
        order_id: str | int | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[Order]:
        """Every order of the past, open ones among them, as an async iterator."""
        parameters: Arguments = {"order_id": order_id, "market_type": market_type}
        return self._pages("order_history", symbol, parameters, _order_key, oldest_first=oldest_first, page_size=page_size)

    def fills(
        self,
        symbol: str | None = None,
        *,
        order_id: str | int | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        fill_type: str | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[Fill]:
        """Every fill, from and to in milliseconds since the epoch, as an async iterator."""
        parameters: Arguments = {
            "order_id": order_id,
            "from_ms": from_ms,
            "to_ms": to_ms,
            "fill_type": fill_type,
            "market_type": market_type,
        }
        return self._pages("fill_history", symbol, parameters, _fill_key, oldest_first=oldest_first, page_size=page_size)


def _order_key(order: Order) -> Hashable:
    return order.order_id


def _fill_key(fill: Fill) -> Hashable:
    # Fills that the exchange itself made may have no trade id.
    return fill if fill.trade_id is None else fill.key

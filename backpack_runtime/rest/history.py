"""REST methods of the past: histories that are read page by page as they are iterated over."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

from backpack_proto.account.values import Fill, Order
from backpack_proto.inputs import Arguments
from backpack_proto.rest.results.account import (
    BorrowLendMovement,
    DustConversion,
    FundingPayment,
    HistoricalBorrowLendPosition,
    HistoricalPosition,
    InterestPayment,
    Settlement,
)
from backpack_proto.rest.results.orders import Strategy

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
        strategy_id: str | int | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[Order]:
        """Every order of the past, open ones among them, as an async iterator."""
        parameters: Arguments = {"order_id": order_id, "strategy_id": strategy_id, "market_type": market_type}
        return self._pages("order_history", symbol, parameters, _order_key, oldest_first=oldest_first, page_size=page_size)

    def fills(
        self,
        symbol: str | None = None,
        *,
        order_id: str | int | None = None,
        strategy_id: str | int | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        fill_type: str | None = None,
        market_type: str | None = None,
        asset_class: Literal["CRYPTO", "STOCK"] | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[Fill]:
        """Every fill, as an async iterator. `from_ms`, inclusive, and `to_ms`, exclusive, are milliseconds since the epoch."""
        parameters: Arguments = {
            "order_id": order_id,
            "strategy_id": strategy_id,
            "from_ms": from_ms,
            "to_ms": to_ms,
            "fill_type": fill_type,
            "market_type": market_type,
            "asset_class": asset_class,
        }
        return self._pages("fill_history", symbol, parameters, _fill_key, oldest_first=oldest_first, page_size=page_size)

    def position_history(
        self,
        symbol: str | None = None,
        *,
        state: Literal["Open", "Closed"] | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[HistoricalPosition]:
        """Return every position of the past, as an async iterator."""
        parameters: Arguments = {"state": state, "market_type": market_type}
        return self._pages("position_history", symbol, parameters, _row, oldest_first=oldest_first, page_size=page_size)

    def funding_history(
        self,
        symbol: str | None = None,
        *,
        subaccount_id: int | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[FundingPayment]:
        """Return every funding payment, as an async iterator."""
        parameters: Arguments = {"subaccount_id": subaccount_id}
        return self._pages("funding_history", symbol, parameters, _row, oldest_first=oldest_first, page_size=page_size)

    def settlement_history(
        self, *, source: str | None = None, oldest_first: bool = False, page_size: int = PAGE
    ) -> Pages[Settlement]:
        """Return everything that was settled, as an async iterator. `source` is a word such as `TradingFees`."""
        parameters: Arguments = {"source": source}
        return self._pages("settlement_history", None, parameters, _row, oldest_first=oldest_first, page_size=page_size)

    def interest_history(
        self,
        symbol: str | None = None,
        *,
        asset: str | None = None,
        position_id: str | int | None = None,
        source: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[InterestPayment]:
        """Return all interest, paid or received, as an async iterator. `source` is `UnrealizedPnl` or `BorrowLend`."""
        parameters: Arguments = {"asset": asset, "position_id": position_id, "source": source}
        return self._pages("interest_history", symbol, parameters, _row, oldest_first=oldest_first, page_size=page_size)

    def borrow_lend_history(
        self,
        asset: str | None = None,
        *,
        movement_type: str | None = None,
        sources: str | None = None,
        position_id: str | int | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[BorrowLendMovement]:
        """Return everything that was borrowed, lent, repaid or redeemed, as an async iterator."""
        parameters: Arguments = {"symbol": asset, "type": movement_type, "sources": sources, "position_id": position_id}
        return self._pages("borrow_lend_history", None, parameters, _row, oldest_first=oldest_first, page_size=page_size)

    def borrow_lend_position_history(
        self,
        asset: str | None = None,
        *,
        side: Literal["Borrow", "Lend"] | None = None,
        state: Literal["Open", "Closed"] | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[HistoricalBorrowLendPosition]:
        """Return every loan of the past, as an async iterator."""
        parameters: Arguments = {"symbol": asset, "side": side, "state": state}
        return self._pages(
            "borrow_lend_position_history", None, parameters, _row, oldest_first=oldest_first, page_size=page_size
        )

    def dust_history(
        self,
        asset: str | None = None,
        *,
        conversion_id: int | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[DustConversion]:
        """Return every conversion of dust, as an async iterator."""
        parameters: Arguments = {"symbol": asset, "id": conversion_id}
        return self._pages("dust_history", None, parameters, _row, oldest_first=oldest_first, page_size=page_size)

    def strategy_history(
        self,
        symbol: str | None = None,
        *,
        strategy_id: str | int | None = None,
        market_type: str | None = None,
        oldest_first: bool = False,
        page_size: int = PAGE,
    ) -> Pages[Strategy]:
        """Return every strategy of the past, as an async iterator."""
        parameters: Arguments = {"strategy_id": strategy_id, "market_type": market_type}
        return self._pages("strategy_history", symbol, parameters, _row, oldest_first=oldest_first, page_size=page_size)


def _order_key(order: Order) -> Hashable:
    return order.order_id


def _fill_key(fill: Fill) -> Hashable:
    # Fills that the exchange itself made may have no trade id.
    return fill if fill.trade_id is None else fill.key


def _row(row: Hashable) -> Hashable:
    # Rows that are equal in all members: pages count how many of them each has.
    return row

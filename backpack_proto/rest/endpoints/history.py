"""The rows of the endpoint table about the past of the account. Each answers with a `Page` (docs/protocol.md 2.4, 6.4)."""

from __future__ import annotations

from typing import Any, Final

from backpack_proto.account.values import Fill, Order
from backpack_proto.rest.results.account import (
    BorrowLendMovement,
    DustConversion,
    FundingPayment,
    HistoricalBorrowLendPosition,
    HistoricalPosition,
    InterestPayment,
    Settlement,
)
from backpack_proto.rest.results.orders import Quote, QuoteFill, Rfq, RfqFill, Strategy

from .parameters import (
    ANY_SIDE,
    ANY_SYMBOL,
    FROM,
    MARKET_TYPE,
    OFFSET,
    ORDER_ID,
    PAGE_LIMIT,
    SORT_DIRECTION,
    SUBACCOUNT,
    TO,
    flag,
    identifier,
    text,
    uint,
    word,
)
from .rules import Endpoint, ParameterRule

__all__ = ["HISTORY_ENDPOINTS"]

_POSITION_ID = identifier("positionId")
_QUOTE_ID = identifier("quoteId")
_STRATEGY_ID = identifier("strategyId")
_STATE = word("state", "Open", "Closed")
_DEFERRED = flag("deferredSettlement")
_STATUS = word(
    "status", "Cancelled", "Expired", "Filled", "New", "PartiallyFilled", "TriggerPending", "TriggerFailed", grows=True
)
_FILL_TYPE = word(
    "fillType",
    *("User", "BookLiquidation", "Adl", "Backstop", "Liquidation", "AllLiquidation"),
    *("CollateralConversion", "CollateralConversionAndSpotLiquidation"),
    grows=True,
)


def _history(name: str, path: str, instruction: str, row: Any, *parameters: ParameterRule) -> Endpoint:
    return Endpoint(
        name=name,
        path=f"/wapi/v1/history/{path}",
        instruction=instruction,
        parameters=(*parameters, PAGE_LIMIT, OFFSET, SORT_DIRECTION),
        paged=True,
        result=tuple[row, ...],
    )


HISTORY_ENDPOINTS: Final = (
    _history(
        "borrow_lend_history",
        "borrowLend",
        "borrowHistoryQueryAll",
        BorrowLendMovement,
        word("type", "Borrow", "BorrowRepay", "Lend", "LendRedeem", grows=True),
        text("sources"),
        _POSITION_ID,
        ANY_SYMBOL,
    ),
    _history(
        "borrow_lend_position_history",
        "borrowLend/positions",
        "borrowPositionHistoryQueryAll",
        HistoricalBorrowLendPosition,
        ANY_SYMBOL,
        word("side", "Borrow", "Lend"),
        _STATE,
    ),
    _history(
        "interest_history",
        "interest",
        "interestHistoryQueryAll",
        InterestPayment,
        text("asset"),
        ANY_SYMBOL,
        _POSITION_ID,
        word("source", "UnrealizedPnl", "BorrowLend", grows=True),
    ),
    _history("dust_history", "dust", "dustHistoryQueryAll", DustConversion, uint("id", 2**63 - 1), ANY_SYMBOL),
    _history(
        "fill_history",
        "fills",
        "fillHistoryQueryAll",
        Fill,
        ORDER_ID,
        _STRATEGY_ID,
        FROM,
        TO,
        ANY_SYMBOL,
        _FILL_TYPE,
        MARKET_TYPE,
        word("assetClass", "CRYPTO", "STOCK", grows=True),
    ),
    _history("funding_history", "funding", "fundingHistoryQueryAll", FundingPayment, SUBACCOUNT, ANY_SYMBOL),
    _history(
        "order_history",
        "orders",
        "orderHistoryQueryAll",
        Order,
        ORDER_ID,
        _STRATEGY_ID,
        ANY_SYMBOL,
        MARKET_TYPE,
    ),
    _history("position_history", "position", "positionHistoryQueryAll", HistoricalPosition, ANY_SYMBOL, _STATE, MARKET_TYPE),
    _history("rfq_history", "rfq", "rfqHistoryQueryAll", Rfq, identifier("rfqId"), ANY_SYMBOL, _STATUS, ANY_SIDE, _DEFERRED),
    _history("quote_history", "quote", "quoteHistoryQueryAll", Quote, _QUOTE_ID, ANY_SYMBOL, _STATUS, _DEFERRED),
    _history(
        "rfq_fill_history",
        "rfq/fill",
        "rfqFillHistoryQueryAll",
        RfqFill,
        _QUOTE_ID,
        ANY_SYMBOL,
        ANY_SIDE,
        word("fillType", "User", "CollateralConversion", grows=True),
        _DEFERRED,
    ),
    _history("quote_fill_history", "quote/fill", "quoteFillHistoryQueryAll", QuoteFill, _QUOTE_ID, ANY_SYMBOL, ANY_SIDE),
    _history(
        "settlement_history",
        "settlement",
        "settlementHistoryQueryAll",
        Settlement,
        word("source", "FundingPayment", "RealizePnl", "TradingFees", grows=True),
    ),
    _history("strategy_history", "strategies", "strategyHistoryQueryAll", Strategy, _STRATEGY_ID, ANY_SYMBOL, MARKET_TYPE),
)

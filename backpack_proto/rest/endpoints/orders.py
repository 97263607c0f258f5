"""The rows of the endpoint table about orders: single ones, batches, requests for quote, strategies (docs/protocol.md 2.4, 6.3)."""

from __future__ import annotations

from typing import Final, TypeAlias

from msgspec import Raw, Struct

from backpack_proto.account.values import Order
from backpack_proto.decoding import decode_json
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.importance import Importance
from backpack_proto.rest.results.orders import OrderRefused, Quote, Rfq, RfqWithQuotes, Strategy

from .parameters import (
    ANY_SYMBOL,
    AUTO_BORROW,
    AUTO_BORROW_REPAY,
    AUTO_LEND,
    AUTO_LEND_REDEEM,
    CLIENT_ID,
    MARKET_TYPE,
    ORDER_ID,
    REDUCE_ONLY,
    SIDE,
    SUBACCOUNT,
    SYMBOL,
    UINT16,
    UINT32,
    UINT64,
    decimal,
    flag,
    identifier,
    uint,
    word,
)
from .rules import (
    BATCH,
    Checked,
    Endpoint,
    Group,
    ParameterRule,
    both_or_neither,
    exactly_one,
    needs_one,
    no_more_than_one,
)

__all__ = ["ORDER_ENDPOINTS"]


class _Operation(Struct, frozen=True, gc=False):
    operation: str


BatchItem: TypeAlias = Order | OrderRefused


def _read_batch(body: bytes, parameters: Checked) -> tuple[BatchItem, ...]:
    """One result per order, in the order in which they were given: the place is all that joins them."""
    rows = decode_json(body, list[Raw], "place_orders")
    orders = parameters[BATCH]
    if isinstance(orders, str | int) or len(rows) != len(orders):
        raise RemoteProtocolError(f"place_orders: {len(rows)} results")
    items: list[BatchItem] = []
    for number, row in enumerate(rows):
        what = f"place_orders[{number}]"
        operation = decode_json(row, _Operation, what).operation
        if operation not in ("Ok", "Err"):
            raise RemoteProtocolError(f"{what}: neither Ok nor Err")
        items.append(decode_json(row, Order, what) if operation == "Ok" else decode_json(row, OrderRefused, what))
    return tuple(items)


_SELF_TRADE_PREVENTION = word("selfTradePrevention", "RejectTaker", "RejectMaker", "RejectBoth", grows=True)
_TIME_IN_FORCE = word("timeInForce", "GTC", "IOC", "FOK")
_ORDER_OR_CLIENT_ID = exactly_one("orderId", "clientId")
_RFQ_ID = identifier("rfqId")
_QUOTE_ID = identifier("quoteId", required=True)
_STRATEGY_TYPES = ("Scheduled",)
_STRATEGY = (SYMBOL, identifier("strategyId"), uint("clientStrategyId", UINT32))
_STRATEGY_OR_CLIENT_ID = exactly_one("strategyId", "clientStrategyId")
_AUTO = (AUTO_LEND, AUTO_LEND_REDEEM, AUTO_BORROW, AUTO_BORROW_REPAY)
_SLIPPAGE = (decimal("slippageTolerance"), word("slippageToleranceType", "TickSize", "Percent", grows=True))


def _trigger_by(name: str) -> ParameterRule:
    return word(name, "LastPrice", "MarkPrice", "IndexPrice", grows=True)


_ORDER = (
    SYMBOL,
    SIDE,
    word("orderType", "Limit", "Market", required=True),
    decimal("price"),
    decimal("quantity"),
    decimal("quoteQuantity"),
    _TIME_IN_FORCE,
    flag("postOnly"),
    REDUCE_ONLY,
    CLIENT_ID,
    _SELF_TRADE_PREVENTION,
    *_AUTO,
    uint("brokerId", UINT16),
    decimal("triggerPrice"),
    decimal("triggerQuantity", percent=True),
    _trigger_by("triggerBy"),
    decimal("takeProfitTriggerPrice"),
    decimal("takeProfitLimitPrice"),
    _trigger_by("takeProfitTriggerBy"),
    decimal("stopLossTriggerPrice"),
    decimal("stopLossLimitPrice"),
    _trigger_by("stopLossTriggerBy"),
    *_SLIPPAGE,
)
_ORDER_GROUPS = (
    no_more_than_one("quantity", "quoteQuantity"),
    # A conditional order says how much by its trigger quantity alone.
    needs_one("quantity", "quoteQuantity", "triggerQuantity"),
    both_or_neither("triggerPrice", "triggerQuantity"),
    exactly_one("price", when=("orderType", "Limit")),
    Group(names=("quoteQuantity",), counts=(0,), when=("orderType", "Limit")),
)

ORDER_ENDPOINTS: Final = (
    Endpoint(
        name="order",
        path="/api/v1/order",
        instruction="orderQuery",
        parameters=(SYMBOL, ORDER_ID, CLIENT_ID),
        groups=(_ORDER_OR_CLIENT_ID,),
        result=Order,
    ),
    Endpoint(
        name="place_order",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/order",
        instruction="orderExecute",
        parameters=_ORDER,
        groups=_ORDER_GROUPS,
        result=Order,
    ),
    Endpoint(
        name="cancel_order",
        method="DELETE",
        importance=Importance.CANCEL,
        path="/api/v1/order",
        instruction="orderCancel",
        parameters=(SYMBOL, ORDER_ID, CLIENT_ID),
        groups=(_ORDER_OR_CLIENT_ID,),
        result=Order,
    ),
    Endpoint(
        name="open_orders",
        path="/api/v1/orders",
        instruction="orderQueryAll",
        parameters=(MARKET_TYPE, ANY_SYMBOL),
        result=tuple[Order, ...],
    ),
    Endpoint(
        name="place_orders",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/orders",
        instruction="orderExecute",
        parameters=_ORDER,
        groups=_ORDER_GROUPS,
        batch=True,
        result=tuple[BatchItem, ...],
        read=_read_batch,
    ),
    Endpoint(
        name="cancel_all_orders",
        method="DELETE",
        importance=Importance.CANCEL,
        path="/api/v1/orders",
        instruction="orderCancelAll",
        parameters=(SYMBOL, word("orderType", "RestingLimitOrder", "ConditionalOrder", grows=True)),
        result=tuple[Order, ...],
    ),
    Endpoint(
        name="submit_rfq",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/rfq",
        instruction="rfqSubmit",
        parameters=(
            SYMBOL,
            SIDE,
            decimal("quantity"),
            decimal("quoteQuantity"),
            decimal("price"),
            word("executionMode", "AwaitAccept", "Immediate"),
            CLIENT_ID,
            *_AUTO,
        ),
        groups=(exactly_one("quantity", "quoteQuantity"), exactly_one("price", when=("executionMode", "Immediate"))),
        result=Rfq,
    ),
    Endpoint(
        name="submit_quote",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/rfq/quote",
        instruction="quoteSubmit",
        parameters=(
            identifier("rfqId", required=True),
            CLIENT_ID,
            decimal("bidPrice", required=True),
            decimal("askPrice", required=True),
            *_AUTO,
        ),
        result=Quote,
    ),
    Endpoint(
        name="accept_quote",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/rfq/accept",
        instruction="quoteAccept",
        parameters=(_QUOTE_ID, _RFQ_ID, CLIENT_ID),
        groups=(exactly_one("rfqId", "clientId"),),
        result=Rfq,
    ),
    Endpoint(
        name="refresh_rfq",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/rfq/refresh",
        instruction="rfqRefresh",
        parameters=(identifier("rfqId", required=True),),
        result=Rfq,
    ),
    Endpoint(
        name="cancel_rfq",
        method="POST",
        importance=Importance.CANCEL,
        path="/api/v1/rfq/cancel",
        instruction="rfqCancel",
        parameters=(_RFQ_ID, CLIENT_ID),
        groups=(exactly_one("rfqId", "clientId"),),
        result=Rfq,
    ),
    Endpoint(
        name="open_rfqs",
        path="/api/v1/rfqs",
        instruction="rfqQuery",
        parameters=(ANY_SYMBOL, uint("rfqId", UINT64), flag("deferredSettlement"), SUBACCOUNT),
        result=tuple[RfqWithQuotes, ...],
    ),
    Endpoint(
        name="strategy",
        path="/api/v1/strategy",
        instruction="strategyQuery",
        parameters=_STRATEGY,
        groups=(_STRATEGY_OR_CLIENT_ID,),
        result=Strategy,
    ),
    Endpoint(
        name="create_strategy",
        method="POST",
        importance=Importance.ORDER,
        path="/api/v1/strategy",
        instruction="strategyCreate",
        parameters=(
            SYMBOL,
            SIDE,
            word("strategyType", *_STRATEGY_TYPES, required=True, grows=True),
            decimal("quantity"),
            decimal("price"),
            _TIME_IN_FORCE,
            flag("postOnly"),
            REDUCE_ONLY,
            uint("clientStrategyId", UINT32),
            _SELF_TRADE_PREVENTION,
            *_AUTO,
            uint("brokerId", UINT16),
            uint("duration", UINT64, unit="milliseconds"),
            uint("interval", UINT64, unit="milliseconds"),
            flag("randomizedIntervalQuantity"),
            *_SLIPPAGE,
        ),
        result=Strategy,
    ),
    Endpoint(
        name="cancel_strategy",
        method="DELETE",
        importance=Importance.CANCEL,
        path="/api/v1/strategy",
        instruction="strategyCancel",
        parameters=_STRATEGY,
        groups=(_STRATEGY_OR_CLIENT_ID,),
        result=Strategy,
    ),
    Endpoint(
        name="open_strategies",
        path="/api/v1/strategies",
        instruction="strategyQueryAll",
        parameters=(MARKET_TYPE, word("strategyType", *_STRATEGY_TYPES, grows=True), ANY_SYMBOL),
        result=tuple[Strategy, ...],
    ),
    Endpoint(
        name="cancel_all_strategies",
        method="DELETE",
        importance=Importance.CANCEL,
        path="/api/v1/strategies",
        instruction="strategyCancelAll",
        parameters=(SYMBOL, word("strategyType", *_STRATEGY_TYPES, grows=True)),
        result=tuple[Strategy, ...],
    ),
)

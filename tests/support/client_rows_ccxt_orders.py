"""What ccxt does by its own methods: orders of every kind, and conversions of stocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from client_driver import Client, equal
from client_rows import PERPETUAL, SPOT, Row, gone
from client_rows_ccxt_reads import FUTURE, SOL, order_of, seen

__all__ = ["conversions", "orders"]

COST_AS_QUANTITY = "passes the cost on as the quantity of the base asset"
Holds = Callable[[Client, Any, list[Any]], bool]


def _as_held(client: Client, returned: Any, _truths: list[Any]) -> bool:
    """Hold where a resting order is as the account has it."""
    return order_of(client, returned)


def _filled(client: Client, returned: Any, _truths: list[Any]) -> bool:
    return bool(returned["status"] == "closed" and order_of(client, returned, filled=True))


def _bought(quantity: str) -> Holds:
    return lambda client, returned, truths: _filled(client, returned, truths) and equal(returned["filled"], quantity)


def orders() -> Iterator[Row]:
    limit = [SOL, "limit", "buy", 1.5, 79.25]
    post = {"postOnly": True}
    yield Row("createOrder", positional=[*limit, post], holds=_as_held, keep="order")
    yield Row("fetchOpenOrder", positional=lambda client: [client.notes["order"]["id"], SOL], holds=_as_held)
    yield Row("fetchOrder", positional=lambda client: [client.notes["order"]["id"], SOL], holds=_as_held)
    yield Row(
        "fetchOpenOrders",
        positional=[SOL],
        holds=lambda client, returned, _truths: (
            {row["id"] for row in returned} == _open_ids(client, SPOT) and all(order_of(client, row) for row in returned)
        ),
        note="every open order",
    )
    yield Row(
        "fetchOrders",
        positional=[SOL],
        holds=lambda client, returned, _truths: (
            {row["id"] for row in returned} == _all_ids(client, SPOT)
            and all(order_of(client, row, filled=True) for row in returned)
        ),
        note="every order there ever was",
    )
    yield Row(
        "editOrder",
        positional=lambda client: [client.notes["order"]["id"], SOL, "limit", "buy", 1.25, 79.5, post],
        holds=lambda client, returned, truths: (
            _as_held(client, returned, truths) and client.notes["order"]["id"] not in _open_ids(client, SPOT)
        ),
        keep="order",
        note="it cancels, and places another one",
    )
    yield Row(
        "cancelOrder",
        positional=lambda client: [client.notes["order"]["id"], SOL],
        holds=lambda client, returned, truths: gone(client, returned["info"], truths) and returned["status"] == "canceled",
    )
    yield Row("createLimitOrder", positional=[SOL, "buy", 1.5, 79.25], holds=_as_held)
    yield Row("createLimitBuyOrder", positional=[SOL, 1.75, 79], holds=_as_held)
    yield Row("createLimitSellOrder", positional=[SOL, 1.25, 130.5], holds=_as_held)
    yield Row(
        "createPostOnlyOrder",
        positional=limit,
        holds=lambda client, returned, _t: order_of(client, returned) and returned["postOnly"],
    )
    yield Row(
        "createOrders",
        positional=[
            [
                {"symbol": SOL, "type": "limit", "side": "buy", "amount": 1.5, "price": price, "params": post}
                for price in (78.5, 78.75)
            ]
        ],
        holds=lambda client, returned, _truths: len(returned) == 2 and all(order_of(client, row) for row in returned),
    )
    yield Row("createMarketOrder", positional=[SOL, "buy", 0.5], holds=_bought("0.5"))
    yield Row("createMarketBuyOrder", positional=[SOL, 0.25], holds=_bought("0.25"))
    yield Row("createMarketSellOrder", positional=[SOL, 0.75], holds=_bought("0.75"))
    yield Row("createMarketOrderWithCost", positional=[SOL, "buy", 12], holds=_bought("12"), fault=COST_AS_QUANTITY)
    for call, option in (
        ("createMarketBuyOrderWithCost", "createMarketBuyOrderRequiresPrice"),
        ("createMarketSellOrderWithCost", "createMarketSellOrderRequiresPrice"),
    ):
        missing = f"looks for the option `{option}`, which its Backpack class does not have"
        yield Row(call, positional=[SOL, 12], fault=missing, refused=f"KeyError: '{option}'")
    yield Row(
        "createOrder",
        positional=[SOL, "market", "buy", 0, None, {"cost": "50"}],
        variant="with a cost",
        holds=lambda client, returned, truths: _filled(client, returned, truths) and 0 < returned["cost"] <= 50,
    )
    yield Row(
        "createReduceOnlyOrder",
        positional=[FUTURE, "limit", "sell", 1, 120],
        holds=lambda client, returned, _truths: order_of(client, returned) and returned["reduceOnly"],
    )
    yield Row(
        "createTriggerOrder",
        positional=[FUTURE, "market", "sell", 1, None, 60],
        holds=lambda client, returned, _truths: (
            equal(
                [
                    [row["side"], row["triggerPrice"], row["triggerQuantity"]]
                    for row in client.served.ask("open_orders", {"symbol": PERPETUAL})
                    if row["id"] == returned["id"]
                ],
                [["Ask", "60", "1"]],
            )
            and equal(returned["triggerPrice"], 60)
        ),
    )
    yield Row(
        "createOrderWithTakeProfitAndStopLoss",
        positional=[FUTURE, "limit", "buy", 1, 79, 140, 60],
        holds=lambda client, returned, _truths: (
            order_of(client, returned) and equal([returned["takeProfitPrice"], returned["stopLossPrice"]], [140, 60])
        ),
    )
    yield Row(
        "cancelAllOrders",
        positional=[SOL],
        holds=lambda client, returned, truths: (
            gone(client, [row["info"] for row in returned], truths) and not _open_ids(client, SPOT)
        ),
    )


def _open_ids(client: Client, symbol: str) -> set[str]:
    return {str(number) for number, order in client.served.exchange.account.open_orders.items() if order.symbol == symbol}


def _all_ids(client: Client, symbol: str) -> set[str]:
    return {str(order.order_id) for order in client.served.exchange.account.history if order.symbol == symbol}


def conversions() -> Iterator[Row]:
    quote = {"symbol": "AAPL.US", "side": "Ask", "quantity": "2"}
    yield seen(
        "fetchConvertQuote",
        "stock_indicative_quote",
        quote,
        lambda found: [found["price"], found["toAmount"], found["fromAmount"]],
        lambda truth: [truth["price"], truth["quoteQuantity"], 2],
        positional=["AAPL.US", "USDC", 2],
        note="price and amounts",
    )
    yield Row(
        "createConvertTrade",
        positional=["4711", "USDC", "AAPL.US", 2_000, {"price": 400}],
        holds=lambda client, returned, _truths: any(
            str(row["rfqId"]) == str(returned["id"])
            and equal([row["symbol"], row["quantity"], row["clientId"]], ["AAPL.US_USDC_RFQ", 5, 4711])
            for row in client.served.ask("rfq_history")
        ),
        note="the request for quote",
    )

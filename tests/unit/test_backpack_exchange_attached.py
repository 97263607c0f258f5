"""Take profit and stop loss that come with an order of the simulated exchange, from the fill to their end."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from backpack_proto.exchange import OrderSide, OrderState
from backpack_proto.exchange.account.triggers import Triggers
from backpack_proto.exchange.market.tape import TapedTrade
from exchange_trader import Trader

PERP = "SOL_USDC_PERP"


def states(trader: Trader) -> list[str]:
    return [order.state.value for order in trader.account.history]


def test_a_take_profit_and_a_stop_loss_are_placed_when_the_order_trades() -> None:
    trader = Trader()
    trader.subscribe("account.orderUpdate")
    parent = trader.placed(
        PERP,
        "Bid",
        "2",
        takeProfitTriggerPrice="120",
        takeProfitLimitPrice="119.5",
        stopLossTriggerPrice="80",
        stopLossTriggerBy="MarkPrice",
    )
    assert parent["status"] == "Filled"
    assert {name: parent[name] for name in parent if name.startswith(("take", "stop"))} == {
        "takeProfitTriggerPrice": "120",
        "takeProfitLimitPrice": "119.5",
        "takeProfitTriggerBy": "LastPrice",
        "stopLossTriggerPrice": "80",
        "stopLossLimitPrice": None,
        "stopLossTriggerBy": "MarkPrice",
    }
    profit, loss = trader.get("/api/v1/orders")
    assert {row["relatedOrderId"] for row in (profit, loss)} == {parent["id"]}
    assert {row["status"] for row in (profit, loss)} == {"TriggerPending"}
    names = ("side", "orderType", "triggerPrice", "triggerBy", "triggerQuantity", "reduceOnly")
    assert [profit[name] for name in names] == ["Ask", "Limit", "120", "LastPrice", "2", True]
    assert [loss[name] for name in names] == ["Ask", "Market", "80", "MarkPrice", "2", True]
    accepted, *_, one, other = trader.told()
    assert {name: accepted.get(name) for name in "ajdbkg"} == {
        "a": "120.00",
        "j": "119.50",
        "d": "LastPrice",
        "b": "80.00",
        "k": None,
        "g": "MarkPrice",
    }
    assert [(data["e"], data["X"], data["I"], data["Y"]) for data in (one, other)] == [
        ("triggerPlaced", "TriggerPending", parent["id"], "2")
    ] * 2
    status, gone = trader.call("DELETE", "/api/v1/orders", {"symbol": PERP, "orderType": "ConditionalOrder"})
    assert (status, len(gone), trader.account.orders) == (200, 2, {})


@pytest.mark.parametrize(("side", "profit", "loss"), [("Bid", "80", "70"), ("Ask", "120", "130")])
def test_a_take_profit_whose_price_is_reached_closes_the_position_and_the_stop_loss_goes(
    side: str, profit: str, loss: str
) -> None:
    trader = Trader()
    trader.subscribe("account.orderUpdate")
    order = trader.placed(PERP, side, "1", takeProfitTriggerPrice=profit, stopLossTriggerPrice=loss)
    # Nothing else happens in this market: the take profit is met by the last price at once.
    assert trader.account.positions == {}
    assert states(trader) == ["Filled", "Filled", "Expired"]
    assert trader.account.history[2].expiry_reason == "StopWithoutPosition"
    events = [(data["e"], data.get("R")) for data in trader.told() if data.get("I") == order["id"]]
    assert events[0] == events[1] == ("triggerPlaced", None)
    assert events[-1] == ("orderExpired", "StopWithoutPosition")


def test_a_stop_loss_fires_where_the_price_is_as_bad_or_worse() -> None:
    trader = Trader()
    trader.placed(PERP, "Bid", "1", takeProfitTriggerPrice="120", stopLossTriggerPrice="99.50")
    stop = trader.account.history[2]
    assert stop.state is OrderState.FILLED, "it was below at once"
    assert trader.account.positions == {}


def meet(trader: Trader, lots: int) -> None:
    """Let somebody else sell to the account's best bid."""
    market = trader.exchange._markets[PERP]
    trader.outputs += trader.exchange._tell(market, market.engine.submit(OrderSide.ASK, lots, None))


def test_what_is_attached_grows_with_the_fills_of_its_order() -> None:
    trader = Trader()
    trader.subscribe("account.orderUpdate")
    bid, ask = trader.best(PERP)
    assert ask - bid > Decimal("0.01")
    price = str(ask - Decimal("0.01"))
    trader.placed(PERP, "Bid", "9", price, postOnly=True, takeProfitTriggerPrice="150", stopLossTriggerPrice="40")
    assert len(trader.account.orders) == 1
    for lots, size in ((100, "1"), (250, "3.5"), (550, "9")):
        meet(trader, lots)
        assert [order.request.trigger_quantity for order in trader.account.history[1:]] == [size, size]
    told = [(data["i"], data["Y"]) for data in trader.told() if data["e"] == "triggerPlaced"]
    one, other = (str(order.order_id) for order in trader.account.history[1:])
    assert told == [(number, size) for size in ("1", "3.5", "9") for number in (one, other)]


def test_a_spot_take_profit_sells_no_more_than_was_bought_less_the_fee() -> None:
    trader = Trader(deposits={"USDC": Decimal(10_000)})
    trader.placed("SOL_USDC", "Bid", "10", takeProfitTriggerPrice="120", stopLossTriggerPrice="80")
    held = trader.account.balances["SOL"].available
    profit, loss = trader.get("/api/v1/orders")
    assert (profit["triggerQuantity"], profit["reduceOnly"], loss["triggerQuantity"]) == ("9.99", None, "9.99")
    assert Decimal("9.99") <= held < 10


def test_an_order_that_is_cancelled_before_it_trades_leaves_nothing() -> None:
    trader = Trader()
    trader.placed(PERP, "Bid", "1", "80", takeProfitTriggerPrice="120", postOnly=True)
    trader.call("DELETE", "/api/v1/orders", {"symbol": PERP})
    assert states(trader) == ["Cancelled"]


def test_a_further_one_is_placed_for_fills_after_the_first_has_left() -> None:
    trader = Trader()
    _, asks, _ = trader.exchange.levels(PERP)
    price, quantity = asks[0]
    trader.placed(PERP, "Bid", str(quantity + 1), str(price), takeProfitTriggerPrice="150")
    first = trader.account.history[1]
    trader.call("DELETE", "/api/v1/order", {"symbol": PERP, "orderId": str(first.order_id)})
    meet(trader, 100)
    first, second = trader.account.history[1:]
    assert (first.state, second.state) == (OrderState.CANCELLED, OrderState.TRIGGER_PENDING)
    assert second.request.trigger_quantity == "1"


def test_the_fifty_first_trigger_fails_when_it_is_placed_by_an_order() -> None:
    trader = Trader()
    for _ in range(50):
        trader.placed(PERP, "Ask", None, triggerPrice="150", triggerQuantity="1")
    assert trader.refused(PERP, "Ask", None, triggerPrice="150", triggerQuantity="1")[0] == "ORDER_LIMIT"
    trader.placed(PERP, "Bid", "1", takeProfitTriggerPrice="120")
    last = trader.account.history[-1]
    assert (last.state, last.expiry_reason) == (OrderState.TRIGGER_FAILED, "MaxStopOrdersPerPosition")
    assert len(trader.account.orders) == 50


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"takeProfitLimitPrice": "120"}, "INVALID_ORDER"),
        ({"stopLossTriggerBy": "MarkPrice"}, "INVALID_ORDER"),
        ({"stopLossTriggerPrice": "0"}, "INVALID_PRICE"),
        ({"takeProfitTriggerPrice": "120", "takeProfitLimitPrice": "-1"}, "INVALID_PRICE"),
        ({"takeProfitTriggerPrice": "120.001"}, "INVALID_CLIENT_REQUEST"),
        ({"takeProfitTriggerPrice": "120", "takeProfitTriggerBy": "Last"}, ""),
    ],
)
def test_what_makes_no_sense_is_refused(members: dict[str, Any], code: str) -> None:
    assert Trader().refused(PERP, "Bid", "1", **members)[0] == code


@pytest.mark.parametrize("by", ["MarkPrice", "IndexPrice", "LastPrice"])
def test_a_trigger_looks_at_the_price_that_it_was_told(by: str) -> None:
    trader = Trader()
    trader.placed(PERP, "Bid", "1")
    trader.placed(PERP, "Ask", None, triggerPrice="110", triggerQuantity="100%", triggerBy=by, reduceOnly=True)
    market = trader.exchange._markets[PERP]
    reference = market.reference
    assert reference is not None
    assert trader.account.history[1].rising
    triggers = Triggers()
    triggers.add(trader.account.history[1])
    for name in ("MarkPrice", "IndexPrice", "LastPrice"):
        reference.mark = 11_100 if name == "MarkPrice" else 9_900
        reference.index = (11_100 if name == "IndexPrice" else 9_900) * 10**6
        last = 11_100 if name == "LastPrice" else 9_900
        market.tape.record(TapedTrade(1, last, 1, buyer_is_maker=True, engine_us=trader.clock.unix_us))
        assert len(list(triggers.due(market))) == (name == by)

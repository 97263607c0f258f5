"""The speed bump of the simulated exchange: who waits, who overtakes, and what becomes of orders that wait."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from backpack_proto.errors import LocalProtocolError
from backpack_proto.exchange import (
    AbandonRequest,
    ChangeMarket,
    CloseMarket,
    Exchange,
    ExchangeOutput,
    Respond,
    Restart,
)
from backpack_proto.exchange.account.command_stream import SPEED_BUMP_US
from exchange_trader import Trader

ORDER = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "50", "quantity": "1"}
CANCEL = {"symbol": "SOL_USDC", "clientId": 7}


def answers(outputs: list[ExchangeOutput]) -> list[int]:
    return [output.status for output in outputs if isinstance(output, Respond)]


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"timeInForce": "IOC"},
        {"postOnly": False},
        {"orderType": "Market", "price": None},
        {"quantity": None, "triggerPrice": "40", "triggerQuantity": "1"},
    ],
)
def test_an_order_that_is_not_post_only_reaches_the_book_100_ms_later(members: dict[str, Any]) -> None:
    trader = Trader()
    order = {name: value for name, value in (ORDER | members).items() if value is not None}
    sent_us = trader.clock.unix_us
    assert trader.request("POST", "/api/v1/order", order) == []
    assert answers(trader.run(99_999)) == []
    assert trader.exchange.deadline == trader.clock.mono_us + 1
    assert trader.account.history == []
    assert trader.get("/api/v1/orders") == []
    assert answers(trader.run(1)) == [200]
    (placed,) = trader.account.history
    assert placed.created_us == sent_us + 100_000


def test_post_only_orders_and_cancels_do_not_wait() -> None:
    trader = Trader()
    assert answers(trader.request("POST", "/api/v1/order", ORDER | {"postOnly": True, "clientId": 7})) == [200]
    assert answers(trader.request("DELETE", "/api/v1/order", CANCEL)) == [200]
    assert answers(trader.request("DELETE", "/api/v1/orders", {"symbol": "SOL_USDC"})) == [200]


@pytest.mark.parametrize("path", ["/api/v1/order", "/api/v1/orders"])
def test_a_cancel_overtakes_an_order_that_waits_and_the_order_is_placed_behind_it(path: str) -> None:
    trader = Trader()
    trader.request("POST", "/api/v1/order", ORDER | {"clientId": 7})
    trader.run(50_000)
    if path.endswith("s"):
        assert trader.call("DELETE", path, {"symbol": "SOL_USDC"}) == (200, [])
    else:
        assert trader.call("DELETE", path, CANCEL) == (400, {"code": "INVALID_ORDER", "message": "Order not found"})
    assert answers(trader.run(50_000)) == [200]
    assert [order.client_id for order in trader.account.open_orders.values()] == [7]
    assert trader.call("DELETE", "/api/v1/order", CANCEL)[0] == 200


def test_the_book_moves_while_an_order_waits() -> None:
    trader = Trader()
    bid, _ = trader.best("BTC_USDC")
    price = str(bid + Decimal("0.1"))
    taker = {"symbol": "BTC_USDC", "side": "Ask", "orderType": "Limit", "price": price, "quantity": "1", "timeInForce": "IOC"}
    trader.request("POST", "/api/v1/order", taker)
    assert trader.placed("BTC_USDC", "Bid", "1", price, postOnly=True, selfTradePrevention="RejectMaker")["status"] == "New"
    trader.run(SPEED_BUMP_US)
    row = trader.get("/wapi/v1/history/orders", symbol="BTC_USDC")[0]
    assert (row["side"], row["status"], row["expiryReason"]) == ("Ask", "Expired", "SelfTradePrevention")


def test_waiting_orders_reach_the_book_in_the_order_in_which_they_came() -> None:
    trader = Trader()
    for number in (3, 1, 2):
        trader.request("POST", "/api/v1/order", ORDER | {"clientId": number})
    trader.run(SPEED_BUMP_US)
    assert [order.request.client_id for order in trader.account.history] == [3, 1, 2]


def test_a_duplicate_is_noticed_where_the_order_reaches_the_book() -> None:
    trader = Trader()
    trader.request("POST", "/api/v1/order", ORDER | {"clientId": 7})
    trader.placed("SOL_USDC", "Bid", "1", "50", clientId=7, postOnly=True)
    (answer,) = (output for output in trader.run(SPEED_BUMP_US) if isinstance(output, Respond))
    assert (answer.status, b"Duplicate client order ID" in answer.body) == (400, True)


def test_an_order_that_cannot_be_read_is_refused_at_once() -> None:
    trader = Trader()
    assert answers(trader.request("POST", "/api/v1/order", ORDER | {"price": "50.001"})) == [400]
    assert answers(trader.request("POST", "/api/v1/order", ORDER | {"symbol": "NOPE"})) == [400]
    assert trader.exchange.deadline is not None
    assert answers(trader.run(SPEED_BUMP_US)) == []


def test_a_batch_is_answered_when_the_last_of_its_orders_has_reached_the_book() -> None:
    trader = Trader()
    orders: list[dict[str, Any]] = [
        ORDER | {"clientId": 1},
        ORDER | {"clientId": 2, "postOnly": True},
        ORDER | {"price": "50.001"},
    ]
    assert trader.request("POST", "/api/v1/orders", orders) == []
    assert [order.client_id for order in trader.account.open_orders.values()] == [2]
    outputs = trader.run(SPEED_BUMP_US)
    assert answers(outputs) == [200]
    assert [order.client_id for order in trader.account.open_orders.values()] == [2, 1]
    status, rows = trader.call("POST", "/api/v1/orders", orders[1:2] + orders[2:])
    assert (status, [row["operation"] for row in rows]) == (200, ["Err", "Err"])


def test_a_market_that_closes_or_changes_while_an_order_waits_refuses_it() -> None:
    trader = Trader()
    trader.request("POST", "/api/v1/order", ORDER)
    trader.exchange.handle(CloseMarket("SOL_USDC"), trader.clock.now)
    assert [o.body for o in trader.run(SPEED_BUMP_US) if isinstance(o, Respond)] == [
        b'{"code":"TRADING_PAUSED","message":"Trading is paused"}'
    ]
    trader.request("POST", "/api/v1/order", ORDER | {"symbol": "BTC_USDC", "price": "60000.5", "quantity": "0.1"})
    trader.exchange.handle(ChangeMarket("BTC_USDC", Decimal(1), Decimal("0.1")), trader.clock.now)
    assert answers(trader.run(SPEED_BUMP_US)) == [400]
    assert trader.account.history == []


def test_an_order_that_waits_when_the_exchange_restarts_is_placed_and_never_answered() -> None:
    trader = Trader()
    trader.request("POST", "/api/v1/order", ORDER)
    assert AbandonRequest(9) in trader.exchange.handle(Restart(), trader.clock.now)
    assert answers(trader.run(SPEED_BUMP_US)) == []
    assert len(trader.account.open_orders) == 1


def test_the_speed_bump_can_be_changed_and_switched_off() -> None:
    trader = Trader(speed_bump_us=0)
    assert answers(trader.request("POST", "/api/v1/order", ORDER)) == [200]
    trader = Trader(speed_bump_us=3_000)
    trader.request("POST", "/api/v1/order", ORDER)
    assert answers(trader.run(3_000)) == [200]
    for wrong in (-1, 60_000_001):
        with pytest.raises(LocalProtocolError, match=f"speed_bump_us: 0 to 60000000, got {wrong}"):
            Exchange(seed=1, unix_us=1, speed_bump_us=wrong)

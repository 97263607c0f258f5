"""The account of the simulated exchange: signed requests, orders, money, private streams, faults."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.auth.signing import Signer, json_body, request_text, signing_string
from backpack_proto.errors import LocalProtocolError
from backpack_proto.exchange import (
    AbandonRequest,
    Fault,
    Fees,
    FrameReceived,
    OrderState,
    RequestReceived,
    Respond,
    SendFrame,
    SimulatedBalance,
    SocketOpened,
)
from backpack_proto.exchange.account.accounts import HeldPosition
from backpack_proto.exchange.account.command_stream import SPEED_BUMP_US
from backpack_proto.streams.frames import Frame, decode_frame
from backpack_proto.streams.payloads import (
    BalanceUpdate,
    OrderFill,
    OrderUpdate,
    PositionClosed,
    PositionUpdate,
)
from exchange_trader import CREDENTIALS, INSTRUCTIONS, Parameters, Trader
from hypothesis_profiles import examples


def sums(trader: Trader) -> dict[str, Decimal]:
    return {asset: held.available + held.locked for asset, held in trader.account.balances.items()}


# Signatures


@pytest.mark.parametrize("unit", ["instruction", "request"])
@pytest.mark.parametrize(
    ("late_ms", "window_ms", "message"),
    [
        (0, 5_000, None),
        (5_000, 5_000, None),
        (5_001, 5_000, "Request has expired"),
        (-5_001, 5_000, "Request has expired"),
        (59_000, 60_000, None),
    ],
)
def test_both_schemes_are_accepted_while_their_window_lasts(
    unit: str, late_ms: int, window_ms: int, message: str | None
) -> None:
    trader = Trader()
    unix_us = trader.clock.unix_us - late_ms * 1000
    target = "/api/v1/orders?symbol=SOL_USDC&marketType=SPOT"
    if unit == "request":
        headers = trader.sign(request_text("GET", target, b"", timestamp_us=unix_us), unix_us, window_ms)
    else:
        parameters = {"symbol": "SOL_USDC", "marketType": "SPOT"}
        text = signing_string("orderQueryAll", parameters, timestamp_ms=unix_us // 1000, window_ms=window_ms)
        headers = trader.sign(text, unix_us // 1000, window_ms)
    (answer,) = trader.send("GET", target, b"", headers)
    assert isinstance(answer, Respond)
    if message is None:
        assert (answer.status, answer.body) == (200, b"[]")
    else:
        assert (answer.status, json.loads(answer.body)) == (400, {"code": "INVALID_CLIENT_REQUEST", "message": message})


def test_the_request_scheme_covers_the_body() -> None:
    trader = Trader()
    order: Parameters = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "50.00", "quantity": "1"}
    body = json_body({**order, "postOnly": True})
    stamp = trader.clock.unix_us
    headers = trader.sign(request_text("POST", "/api/v1/order", body, timestamp_us=stamp), stamp)
    good, bad = (trader.send("POST", "/api/v1/order", sent, headers)[-1] for sent in (body, body.replace(b'"1"', b'"2"')))
    assert isinstance(good, Respond)
    assert isinstance(bad, Respond)
    assert (good.status, bad.status) == (200, 400)
    assert bad.body == b'{"code":"INVALID_CLIENT_REQUEST","message":"Invalid signature"}'


@pytest.mark.parametrize(
    ("header", "value", "status", "message"),
    [
        ("X-API-Key", None, 400, "Invalid X-API-Key header"),
        ("X-API-Key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 401, "Unauthorized"),
        ("X-Signature", None, 400, "Invalid X-Signature header"),
        ("X-Signature", "hello", 400, "Invalid X-Signature header"),
        ("X-Signature", "A" * 86 + "==", 400, "Invalid signature"),
        ("X-Timestamp", None, 400, "Invalid X-Timestamp header"),
        ("X-Timestamp", "soon", 400, "Invalid X-Timestamp header"),
        ("X-Timestamp", "1", 400, "Invalid signature"),
        ("X-Window", "60001", 400, "Invalid X-Window header"),
        ("X-Window", "0", 400, "Invalid X-Window header"),
        ("X-Window", "6000", 400, "Invalid signature"),
        ("X-Window", None, 200, ""),
    ],
)
def test_what_is_wrong_with_a_signature_is_said(header: str, value: str | None, status: int, message: str) -> None:
    trader = Trader()
    stamp = trader.clock.unix_us // 1000
    text = signing_string("balanceQuery", {}, timestamp_ms=stamp, window_ms=5_000)
    headers = dict(trader.sign(text, stamp))
    headers |= {header: value} if value is not None else {}
    kept = [(name.lower(), text) for name, text in headers.items() if value is not None or name != header]
    (answer,) = trader.send("GET", "/api/v1/capital", b"", kept)
    assert isinstance(answer, Respond)
    assert answer.status == status
    assert json.loads(answer.body).get("message", "") == message


def test_raw_values_are_signed_and_json_numbers_by_their_digits() -> None:
    trader = Trader()
    trader.placed("SOL_USDC", "Bid", None, triggerQuantity="50%", triggerPrice="141.20", clientId=4294967295, reduceOnly=False)
    stamp = trader.clock.unix_us // 1000
    body = b'{"postOnly" : true,"clientId":007,"x":1.50e2,"n":null}'
    assert trader.send("POST", "/api/v1/order", body, ())[-1] == Respond(
        9,
        400,
        "text/plain; charset=utf-8",
        b'parse request payload error: failed to parse "JSON": expected value',
    )
    body = b'{"postOnly" : true,"clientId":7,"x":1.50e2,"n":null,"symbol":"SOL_USDC"}'
    text = f"instruction=orderExecute&clientId=7&n=null&postOnly=true&symbol=SOL_USDC&x=1.50e2&timestamp={stamp}&window=5000"
    answer = trader.send("POST", "/api/v1/order", body, trader.sign(text, stamp))[-1]
    assert isinstance(answer, Respond)
    assert b"`side` and `orderType` are required" in answer.body


# Orders


def test_a_limit_order_rests_locks_and_gives_back() -> None:
    trader = Trader()
    trader.subscribe()
    order = trader.placed("SOL_USDC", "Bid", "2.50", "98.10", clientId=7, postOnly=True)
    assert order == {
        "clientId": 7,
        "createdAt": trader.clock.unix_us // 1000,
        "executedQuantity": "0",
        "executedQuoteQuantity": "0",
        "id": order["id"],
        "orderType": "Limit",
        "postOnly": True,
        "price": "98.1",
        "quantity": "2.5",
        "reduceOnly": None,
        "relatedOrderId": None,
        "selfTradePrevention": "RejectTaker",
        "side": "Bid",
        "status": "New",
        "stopLossLimitPrice": None,
        "stopLossTriggerBy": None,
        "stopLossTriggerPrice": None,
        "strategyId": None,
        "symbol": "SOL_USDC",
        "takeProfitLimitPrice": None,
        "takeProfitTriggerBy": None,
        "takeProfitTriggerPrice": None,
        "timeInForce": "GTC",
        "triggerBy": None,
        "triggerPrice": None,
        "triggerQuantity": None,
        "triggeredAt": None,
    }
    assert trader.account.balances["USDC"] == SimulatedBalance(Decimal("999754.75"), Decimal("245.25"))
    accepted, balance = trader.told()
    engine_us = accepted.pop("T")
    assert 100 <= accepted.pop("E") - engine_us <= 300
    assert accepted == {
        "O": "USER",
        "Q": "245.2500",
        "S": "Bid",
        "V": "RejectTaker",
        "X": "New",
        "Z": "0",
        "c": 7,
        "e": "orderAccepted",
        "f": "GTC",
        "i": order["id"],
        "o": "LIMIT",
        "p": "98.10",
        "q": "2.50",
        "r": False,
        "s": "SOL_USDC",
        "t": None,
        "y": True,
        "z": "0",
    }
    assert {k: v for k, v in balance.items() if k not in "ET"} == {
        "A": "999754.75",
        "L": "245.25",
        "S": "0",
        "a": "USDC",
        "e": "balanceUpdate",
    }
    assert trader.get("/api/v1/order", symbol="SOL_USDC", clientId=7) == order
    assert trader.get("/api/v1/orders", marketType="SPOT") == [order]
    assert trader.get("/api/v1/orders", marketType="PERP") == []
    assert trader.get("/api/v1/capital")["USDC"] == {"available": "999754.75", "locked": "245.25", "staked": "0"}
    status, cancelled = trader.call("DELETE", "/api/v1/order", {"symbol": "SOL_USDC", "orderId": order["id"]})
    assert (status, cancelled) == (200, order | {"status": "Cancelled"})
    assert [data["e"] for data in trader.told()] == ["orderCancelled", "balanceUpdate"]
    assert trader.account.balances["USDC"] == SimulatedBalance(Decimal(1_000_000), Decimal(0))
    unknown = (400, {"code": "INVALID_ORDER", "message": "Order not found"})
    for ids in ({"orderId": order["id"]}, {"clientId": 7}, {"orderId": "x"}):
        assert trader.call("DELETE", "/api/v1/order", {"symbol": "SOL_USDC", **ids}) == unknown


def test_a_market_order_takes_and_pays_its_fee_from_what_it_gets() -> None:
    trader = Trader()
    trader.subscribe()
    _, ask = trader.best("SOL_USDC")
    order = trader.placed("SOL_USDC", "Bid", "0.10")
    cost = ask / 10
    assert (order["status"], order["executedQuantity"], Decimal(order["executedQuoteQuantity"])) == ("Filled", "0.1", cost)
    assert "price" not in order
    assert sums(trader) == {
        "USDC": 1_000_000 - cost,
        "SOL": Decimal("1000.09995"),
        "BTC": Decimal(10),
        "USDT": Decimal(100_000),
    }
    accepted, fill, *balances = trader.told()
    assert (accepted["e"], accepted["o"], accepted["t"], "p" in accepted) == ("orderAccepted", "MARKET", None, False)
    assert {k: fill[k] for k in "XlLnNmzZe"} == {
        "X": "Filled",
        "l": "0.10",
        "L": f"{ask:.2f}",
        "n": "0.00005",
        "N": "SOL",
        "m": False,
        "z": "0.10",
        "Z": f"{cost:.4f}",
        "e": "orderFill",
    }
    assert {data["a"] for data in balances} == {"USDC", "SOL"}
    (row,) = trader.get("/wapi/v1/history/fills")
    assert row == {
        "clientId": None,
        "fee": "0.00005",
        "feeSymbol": "SOL",
        "isMaker": False,
        "orderId": order["id"],
        "price": f"{ask.normalize():f}",
        "quantity": "0.1",
        "side": "Bid",
        "symbol": "SOL_USDC",
        "systemOrderType": None,
        "timestamp": "2026-09-02T16:43:50.100",
        "tradeId": fill["t"],
    }


def test_an_order_for_quote_comes_as_close_as_the_book_lets_it() -> None:
    trader = Trader()
    order = trader.placed("SOL_USDC", "Ask", None, quoteQuantity="1000")
    assert order["quantity"] is None
    assert order["quoteQuantity"] == "1000"
    assert Decimal(980) < Decimal(order["executedQuoteQuantity"]) <= 1_000
    assert trader.placed("SOL_USDC", "Bid", None, quoteQuantity="99.99")["status"] == "Filled"


@pytest.mark.parametrize(
    ("time_in_force", "size", "status", "reason"),
    [
        ("IOC", 2, "Expired", "ImmediateOrCancel"),
        ("FOK", 2, "Expired", "FillOrKill"),
        ("FOK", 1, "Filled", None),
        ("GTC", 2, "PartiallyFilled", None),
    ],
)
def test_time_in_force(time_in_force: str, size: int, status: str, reason: str | None) -> None:
    trader = Trader()
    trader.subscribe()
    _, asks, _ = trader.exchange.levels("SOL_USDC")
    price, quantity = asks[0]
    order = trader.placed("SOL_USDC", "Bid", str(quantity * size), str(price), timeInForce=time_in_force)
    assert order["status"] == status
    executed = Decimal(0) if reason == "FillOrKill" else quantity
    assert Decimal(order["executedQuantity"]) == executed
    last = [data for data in trader.told() if data["e"].startswith("order")][-1]
    assert last.get("R") == reason
    assert (last["e"] == "orderExpired") is (reason is not None)
    row = trader.get("/wapi/v1/history/orders", orderId=order["id"])[0]
    assert (row["expiryReason"], row["createdAt"][10]) == (reason, "T")
    locked = trader.account.balances["USDC"].locked
    assert locked == (quantity * price if status == "PartiallyFilled" else 0)


@pytest.mark.parametrize(
    ("side", "members"), [("Bid", {}), ("Ask", {}), ("Bid", {"tolerance": "5"}), ("Ask", {"tolerance": "20"})]
)
def test_a_market_order_goes_no_further_through_the_book_than_it_may(side: str, members: dict[str, str]) -> None:
    trader = Trader(deposits={"USDC": Decimal(10**9), "SOL": Decimal(10**7)})
    best = trader.best("SOL_USDC")[side == "Bid"]
    more = {"slippageTolerance": members["tolerance"], "slippageToleranceType": "TickSize"} if members else {}
    order = trader.placed("SOL_USDC", side, "100000", **more)
    away = Decimal(members["tolerance"]) / 100 if members else best / 100
    fills = [fill.price for fill in trader.account.fills]
    worst = max(fills) if side == "Bid" else min(fills)
    assert away - Decimal("0.03") < abs(worst - best) <= away
    row = trader.get("/wapi/v1/history/orders", orderId=order["id"])[0]
    assert (row["status"], row["expiryReason"]) == ("Expired", "SlippageToleranceExceeded" if members else "PriceImpact")
    assert trader.account.balances["USDC"].locked == 0


@pytest.mark.parametrize(
    ("mode", "statuses"),
    [("RejectTaker", ("New", "Expired")), ("RejectMaker", ("Expired", "New")), ("RejectBoth", ("Expired", "Expired"))],
)
def test_self_trade_prevention(mode: str, statuses: tuple[str, str]) -> None:
    trader = Trader()
    bid, ask = trader.best("BTC_USDC")
    assert ask - bid > Decimal("0.2")
    price = str(bid + Decimal("0.1"))
    trader.placed("BTC_USDC", "Ask", "1", price)
    trader.placed("BTC_USDC", "Bid", "1", price, selfTradePrevention=mode)
    rows = trader.get("/wapi/v1/history/orders", sortDirection="Asc")
    assert tuple(row["status"] for row in rows) == statuses
    assert {row["expiryReason"] for row in rows if row["status"] == "Expired"} == {"SelfTradePrevention"}
    assert trader.account.fills == []


def test_refusals_in_the_exchanges_words() -> None:
    trader = Trader()
    bid, ask = map(str, trader.best("SOL_USDC"))
    sol = "SOL_USDC"
    assert trader.refused("NOPE", "Bid", "1", bid) == ("INVALID_MARKET", "Invalid market")
    assert trader.refused("HNT_USDC", "Bid", "1", "2") == ("TRADING_PAUSED", "Trading is paused")
    assert trader.refused(sol, "Bid", "1", "98.001") == ("INVALID_CLIENT_REQUEST", "Price decimal too long")
    assert trader.refused(sol, "Bid", "1.001", bid) == ("INVALID_CLIENT_REQUEST", "Quantity decimal too long")
    assert trader.refused(sol, "Bid", "0", bid) == ("INVALID_QUANTITY", "Invalid quantity")
    assert trader.refused(sol, "Bid", "1", "-5") == ("INVALID_PRICE", "Invalid price")
    assert trader.refused(sol, "Bid", "1", "400") == ("INVALID_PRICE", "Price is too far from the last active price")
    assert trader.refused(sol, "Bid", "100000", bid) == ("INSUFFICIENT_FUNDS", "Insufficient funds")
    assert trader.refused(sol, "Ask", "1000.01", ask) == ("INSUFFICIENT_FUNDS", "Insufficient funds")
    assert trader.refused(sol, "Ask", "1000.01") == ("INSUFFICIENT_FUNDS", "Insufficient funds")
    assert trader.refused("SOL_USDC_PERP", "Ask", "200000", ask) == ("INSUFFICIENT_MARGIN", "Insufficient margin")
    assert trader.refused(sol, "Bid", "1", ask, postOnly=True) == (
        "INVALID_ORDER",
        "Order would immediately match and take",
    )
    for members in ({"quoteQuantity": "5"}, {"postOnly": True, "timeInForce": "IOC"}, {"reduceOnly": True}):
        assert trader.refused(sol, "Bid", "1", bid, **members) == ("INVALID_ORDER", "Invalid order")
    assert trader.refused(sol, "Bid", None, bid) == ("INVALID_ORDER", "Invalid order")
    assert trader.refused(sol, "Bid", "1", bid, triggerPrice="90") == (
        "INVALID_CLIENT_REQUEST",
        "Must specify both `triggerPrice` and `triggerQuantity` or neither",
    )
    assert trader.refused("SOL_USDC_PERP", "Bid", "1", bid, reduceOnly=True)[0] == "INVALID_ORDER"
    trader.placed(sol, "Bid", "1", "50", clientId=0)
    assert trader.refused(sol, "Bid", "1", "50", clientId=0) == ("INVALID_ORDER", "Duplicate client order ID")


@pytest.mark.parametrize(
    "members",
    [
        {"clientId": 2**32},
        {"clientId": "7"},
        {"price": "1e2"},
        {"price": "NaN"},
        {"quantity": 1},
        {"postOnly": "true"},
        {"side": "Buy"},
        {"timeInForce": "GTX"},
        {"symbol": None},
    ],
)
def test_what_cannot_be_read_is_refused_in_plain_text(members: dict[str, Any]) -> None:
    trader = Trader()
    order = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "50", "quantity": "1"} | members
    status, text = trader.call("POST", "/api/v1/order", order)
    assert (status, type(text)) == (400, str)
    assert text.startswith("parse request payload error: ")
    assert trader.account.history == []
    # One such order in a batch, and none of it is executed.
    good = order | {"symbol": "SOL_USDC", "side": "Bid", "price": "50", "quantity": "1"}
    for name in set(members) - {"symbol", "side", "price", "quantity"}:
        del good[name]
    assert trader.call("POST", "/api/v1/orders", [good, order])[0] == 400
    assert trader.account.history == []


def test_an_order_is_asked_for_by_one_of_its_ids() -> None:
    trader = Trader()
    for method in ("GET", "DELETE"):
        assert trader.call(method, "/api/v1/order", {"symbol": "SOL_USDC"}) == (
            400,
            {"code": "INVALID_CLIENT_REQUEST", "message": "Must specify exactly one of `orderId` or `clientId`"},
        )
        # The exchange reads the order id alone, so that both of them were signed does not fit.
        assert trader.call(method, "/api/v1/order", {"symbol": "SOL_USDC", "orderId": "1", "clientId": 1}) == (
            400,
            {"code": "INVALID_CLIENT_REQUEST", "message": "Invalid signature"},
        )
    assert trader.call("GET", "/api/v1/order", {"symbol": "SOL_USDC", "orderId": "x"})[0] == 404


def test_a_batch_answers_for_each_order_and_cancel_all_for_each_cancelled() -> None:
    trader = Trader()
    order = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "50", "quantity": "1"}
    status, answers = trader.call("POST", "/api/v1/orders", [order, order | {"price": "50.001"}, order | {"clientId": 5}])
    assert status == 200
    assert [answer["operation"] for answer in answers] == ["Ok", "Err", "Ok"]
    assert answers[1] == {"operation": "Err", "code": "INVALID_CLIENT_REQUEST", "message": "Price decimal too long"}
    assert trader.call("POST", "/api/v1/orders", [order] * 21)[0] == 400
    trader.placed("SOL_USDC", "Bid", None, triggerPrice="60", triggerQuantity="1")
    update_id = trader.exchange.levels("SOL_USDC")[2]
    status, gone = trader.call("DELETE", "/api/v1/orders", {"symbol": "SOL_USDC", "orderType": "RestingLimitOrder"})
    assert [row["id"] for row in gone] == [answers[0]["id"], answers[2]["id"]]
    assert trader.exchange.levels("SOL_USDC")[2] == update_id + 1
    assert len(trader.call("DELETE", "/api/v1/orders", {"symbol": "SOL_USDC"})[1]) == 1
    assert trader.call("DELETE", "/api/v1/orders", {"symbol": "SOL_USDC"}) == (200, [])
    assert trader.account.balances["USDC"].locked == 0


def test_histories_are_paged_newest_first() -> None:
    trader = Trader()
    for number in range(5):
        trader.placed("SOL_USDC", "Bid", "0.01", clientId=number)
        trader.clock.advance(1_000_000)
    assert [row["clientId"] for row in trader.get("/wapi/v1/history/fills")] == ["4", "3", "2", "1", "0"]
    answer = trader.request("GET", "/wapi/v1/history/fills", {"limit": 2, "offset": 2})[-1]
    assert isinstance(answer, Respond)
    assert [row["clientId"] for row in json.loads(answer.body)] == ["2", "1"]
    assert dict(answer.headers) == {"X-Total": "5", "X-Page-Count": "3", "X-Current-Page": "2", "X-Page-Size": "2"}
    middle_ms, next_ms = (trader.account.fills[number].engine_us // 1000 for number in (2, 3))
    for to_ms, expected in ((next_ms, ["2"]), (next_ms + 1, ["2", "3"])):
        rows = trader.get("/wapi/v1/history/fills", from_=middle_ms, to=to_ms, sortDirection="Asc")
        assert [row["clientId"] for row in rows] == expected, "the beginning belongs to it, the end does not"
    assert trader.get("/wapi/v1/history/fills", symbol="BTC_USDC") == []
    assert len(trader.get("/wapi/v1/capital/deposits")) == 4
    assert trader.get("/wapi/v1/history/dust") == []
    assert trader.call("GET", "/wapi/v1/history/fills", {"limit": 1_001})[0] == 400


# Positions


def test_a_position_from_its_opening_to_its_end() -> None:
    trader = Trader()
    trader.subscribe("account.positionUpdate", "account.positionUpdate.SOL_USDC_PERP")
    _, ask = trader.best("SOL_USDC_PERP")
    trader.placed("SOL_USDC_PERP", "Bid", "1")
    opened, again = trader.told()
    assert opened == again
    assert (opened["e"], opened["q"], opened["p"], Decimal(opened["B"])) == ("positionOpened", "1.00", "0", ask)
    assert Decimal(opened["b"]) == ask * Decimal("1.0005")
    assert Decimal(opened["P"]) == Decimal(opened["M"]) - ask
    assert type(opened["i"]) is int
    assert trader.subscribe("account.positionUpdate") == []
    trader.exchange.handle(SocketOpened(2), trader.clock.now)
    signature = Signer(CREDENTIALS).subscribe_signature(trader.clock.unix_us)
    frame = json.dumps({"method": "SUBSCRIBE", "params": ["account.positionUpdate"], "signature": signature}).encode()
    (greeting,) = trader.exchange.handle(FrameReceived(2, frame), trader.clock.now)
    assert isinstance(greeting, SendFrame)
    data = json.loads(greeting.data)["data"]
    assert "e" not in data
    assert data["i"] == opened["i"]
    (row,) = trader.get("/api/v1/position")
    assert (row["positionId"], row["netQuantity"], row["entryPrice"]) == (str(opened["i"]), "1", f"{ask.normalize():f}")
    trader.placed("SOL_USDC_PERP", "Ask", "0.40", reduceOnly=True)
    bid, _ = trader.best("SOL_USDC_PERP")
    trader.placed("SOL_USDC_PERP", "Ask", "5", reduceOnly=True)
    closed = trader.told()[-1]
    assert (closed["e"], closed["q"]) == ("positionClosed", "0")
    assert trader.account.positions == {}
    bought, *sold = trader.account.fills
    assert sum(fill.quantity for fill in sold) == 1
    earned = sum(fill.price * fill.quantity for fill in sold) - bought.price
    assert Decimal(closed["p"]) == earned
    assert bid <= sold[0].price
    fees = sum(fill.fee for fill in trader.account.fills)
    assert sums(trader)["USDC"] == 1_000_000 + earned - fees
    assert trader.call("GET", "/api/v1/position", {"symbol": "SOL_USDC_PERP"})[0] == 404


TRADES = st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(1, 10**6)), max_size=30)


@given(TRADES)
def test_cost_and_profit_of_a_position_add_up_to_what_was_paid(trades: list[tuple[int, int]]) -> None:
    position = HeldPosition(1)
    for lots, price in trades:
        position.trade(lots, lots * price)
    assert position.lots == sum(lots for lots, _ in trades)
    assert position.cost - position.realized == sum(lots * price for lots, price in trades)
    assert bool(position.cost) <= bool(position.lots)


def test_resting_reduce_only_orders_shrink_with_the_position() -> None:
    trader = Trader()
    trader.subscribe("account.orderUpdate")
    trader.placed("SOL_USDC_PERP", "Bid", "3")
    one, other = (trader.placed("SOL_USDC_PERP", "Ask", size, "110", reduceOnly=True) for size in ("2", "5"))
    assert (one["quantity"], other["quantity"]) == ("2", "1")
    trader.told()
    trader.placed("SOL_USDC_PERP", "Ask", "1.50")
    events = [(data["e"], data["i"], data["q"]) for data in trader.told() if data["e"] != "orderFill"]
    assert events[1:] == [("orderModified", one["id"], "1.50"), ("orderExpired", other["id"], "1.00")]
    trader.placed("SOL_USDC_PERP", "Ask", "1.50")
    assert trader.account.orders == {}
    assert trader.account.history[1].expiry_reason == "ReduceOnlyNotReduced"


def test_funding_is_paid_when_the_hour_ends() -> None:
    trader = Trader()
    trader.subscribe("account.positionUpdate", "account.balanceUpdate")
    trader.placed("BTC_USDC_PERP", "Ask", "1")
    trader.told()
    before = sums(trader)["USDC"]
    trader.clock.advance(3_600_000_000 - trader.clock.unix_us % 3_600_000_000 - 1_000_000)
    trader.run(3_000_000)
    (row,) = trader.get("/wapi/v1/history/funding")
    rate = trader.exchange.handle(RequestReceived(1, "GET", "/api/v1/fundingRates?symbol=BTC_USDC_PERP"), trader.clock.now)[-1]
    assert isinstance(rate, Respond)
    published = {entry["intervalEndTimestamp"]: entry["fundingRate"] for entry in json.loads(rate.body)}
    assert published[row["intervalEndTimestamp"]] == row["fundingRate"]
    assert sums(trader)["USDC"] - before == Decimal(row["quantity"])
    assert [data["e"] for data in trader.told()] == ["positionAdjusted", "balanceUpdate"]


# Triggers


def test_a_trigger_waits_and_fires_on_the_last_price() -> None:
    trader = Trader()
    trader.subscribe("account.orderUpdate")
    _, ask = trader.best("SOL_USDC")
    trader.placed("SOL_USDC", "Bid", "0.01")
    stop = trader.placed("SOL_USDC", "Ask", None, triggerPrice=str(ask + Decimal("0.01")), triggerQuantity="50%")
    assert (stop["status"], stop["triggerQuantity"], stop["quantity"]) == ("TriggerPending", "50%", "0")
    placed = trader.told()[-1]
    assert {k: placed[k] for k in "eXPBYqQ"} == {
        "e": "triggerPlaced",
        "X": "TriggerPending",
        "P": f"{ask + Decimal('0.01'):.2f}",
        "B": "LastPrice",
        "Y": "50%",
        "q": "0",
        "Q": "0",
    }
    depth = sum(quantity for price, quantity in trader.exchange.levels("SOL_USDC")[1] if price <= ask)
    trader.placed("SOL_USDC", "Bid", str(depth))
    assert len(trader.account.orders) == 1
    trader.told()
    trader.placed("SOL_USDC", "Bid", str(trader.exchange.levels("SOL_USDC")[1][0][1] + 500))
    fired = [data for data in trader.told() if data["i"] == stop["id"]]
    assert fired[0]["e"] == "orderAccepted"
    assert (fired[-1]["e"], fired[-1]["X"]) == ("orderFill", "Filled")
    assert trader.account.orders == {}
    assert trader.account.history[1].triggered_us is not None


def test_a_trigger_that_cannot_be_placed_when_it_fires_fails() -> None:
    trader = Trader()
    trader.subscribe("account.orderUpdate")
    mark = trader.best("SOL_USDC_PERP")[0]
    trader.placed(
        "SOL_USDC_PERP", "Ask", None, triggerPrice=str(mark * 2), triggerQuantity="1", triggerBy="MarkPrice", reduceOnly=True
    )
    trader.placed("SOL_USDC_PERP", "Ask", None, triggerPrice=str(mark), triggerQuantity="50%", reduceOnly=True)
    trader.told()
    trader.placed("SOL_USDC_PERP", "Ask", "0.01")
    trader.run(2_000_000)
    failed = trader.told()[-1]
    assert (failed["e"], failed["X"]) == ("triggerFailed", "TriggerFailed")
    assert [order.state for order in trader.account.orders.values()] == [OrderState.TRIGGER_PENDING]


# The crowd, faults, limits


def test_orders_at_the_touch_are_filled_by_the_crowd() -> None:
    trader = Trader(speed=1.0, seed=3)
    trader.run(1_000)
    for symbol in trader.exchange.symbols:
        quantity = "100" if symbol.startswith(("kPEPE", "USDT")) else "0.05"
        for side, price in zip(("Bid", "Ask"), trader.best(symbol), strict=True):
            trader.placed(symbol, side, quantity, str(price))
    trader.run(20_000_000)
    assert len(trader.account.orders) <= 2
    assert all(fill.maker for fill in trader.account.fills)


@pytest.mark.parametrize(
    ("fault", "status", "executed"),
    [
        (Fault.LOSE_REPLY, None, True),
        (Fault.ERROR_BEFORE, 503, False),
        (Fault.ERROR_AFTER, 502, True),
        (Fault.TOO_MANY_REQUESTS, 429, False),
        (Fault.EXPIRED, 400, False),
        (Fault.DELAY, None, True),
        (None, 200, True),
    ],
)
def test_faults(fault: Fault | None, status: int | None, executed: int) -> None:
    trader = Trader()
    trader.exchange.faults.only = ("POST /api/v1/order",)
    trader.exchange.faults.plan(fault)
    order = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "50", "quantity": "1"}
    trader.get("/api/v1/capital")
    outputs = trader.request("POST", "/api/v1/order", order) + trader.run(SPEED_BUMP_US)
    assert [output.status for output in outputs if isinstance(output, Respond)] == ([] if status is None else [status])
    assert (AbandonRequest(9) in outputs) is (fault is Fault.LOSE_REPLY)
    assert len(trader.account.orders) == executed
    trader.outputs = []
    trader.run(2_000_000)
    late = [output.status for output in trader.outputs if isinstance(output, Respond)]
    assert late == ([200] if fault is Fault.DELAY else [])
    assert trader.order("SOL_USDC", "Bid", "1", "50")[0] == 200


def test_faults_are_drawn_from_the_seed() -> None:
    def statuses(seed: int) -> list[int]:
        trader = Trader(seed=seed)
        trader.exchange.faults.rates = {Fault.ERROR_BEFORE: 0.2, Fault.ERROR_AFTER: 0.3}
        return [trader.call("GET", "/api/v1/capital")[0] for _ in range(300)]

    drawn = statuses(1)
    assert drawn == statuses(1) != statuses(2)
    assert 30 < drawn.count(503) < 90
    assert 60 < drawn.count(502) < 120


def test_the_request_budget() -> None:
    trader = Trader()
    trader.exchange.limits.per_minute = 3
    for _ in range(3):
        trader.get("/api/v1/capital")
    refused = (429, {"code": "TOO_MANY_REQUESTS", "message": "Too many requests"})
    assert trader.call("GET", "/api/v1/capital") == refused
    kline = RequestReceived(1, "GET", "/api/v1/klines?symbol=SOL_USDC&interval=1m&startTime=1788367000")
    answer = trader.exchange.handle(kline, trader.clock.now)[-1]
    assert isinstance(answer, Respond)
    assert answer.status == 200
    trader.clock.advance(60_000_000)
    trader.exchange.limits.public = True
    trader.exchange.limits.per_minute = 2_000
    answers = [trader.exchange.handle(kline, trader.clock.now)[-1] for _ in range(31)]
    assert [a.status for a in answers if isinstance(a, Respond)] == [200] * 30 + [429]
    trader.get("/api/v1/capital")


@pytest.mark.parametrize("options", [{"deposits": {"USDC": Decimal(-1)}}, {"fees": Fees(maker_bps=Decimal("0.001"))}])
def test_impossible_accounts(options: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        Trader(**options)


@pytest.mark.parametrize(("method", "path"), [key for key in INSTRUCTIONS if key[0] == "GET"])
def test_every_reading_has_an_answer(method: str, path: str) -> None:
    trader = Trader()
    trader.placed("SOL_USDC_PERP", "Bid", "1")
    ids = {"symbol": "SOL_USDC", "orderId": "1"} if path.endswith("/order") else {}
    assert trader.call(method, path, ids)[0] in {200, 404}
    assert trader.send("PUT", path, b"", ())[-1].status == 405  # type: ignore[union-attr]


# Any orders at all

SYMBOLS = ("SOL_USDC", "BTC_USDC_PERP", "SOL_USDC_PERP")
ORDER = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(SYMBOLS),
        "side": st.sampled_from(["Bid", "Ask"]),
        "away": st.none() | st.integers(-30, 30),
        "lots": st.integers(1, 30_000),
    },
    optional={
        "timeInForce": st.sampled_from(["GTC", "IOC", "FOK"]),
        "postOnly": st.booleans(),
        "reduceOnly": st.booleans(),
        "clientId": st.integers(0, 3),
        "selfTradePrevention": st.sampled_from(["RejectTaker", "RejectMaker", "RejectBoth"]),
        "trigger": st.integers(-20, 20),
    },
)
STEPS = st.lists(ORDER | st.integers(0, 3_000_000) | st.sampled_from(["cancel", "cancel all"]), min_size=1, max_size=25)
DECIMALS = {"SOL_USDC": (2, 2), "SOL_USDC_PERP": (2, 2), "BTC_USDC_PERP": (1, 5)}


def play(trader: Trader, step: Any) -> None:
    """One step: an order near the touch, a cancel, or time."""
    if isinstance(step, int):
        trader.run(step)
    elif step == "cancel" and trader.account.orders:
        symbol, order_id = next(iter(trader.account.orders))
        assert trader.call("DELETE", "/api/v1/order", {"symbol": symbol, "orderId": str(order_id)})[0] == 200
    elif isinstance(step, dict):
        order = dict(step)
        price_decimals, quantity_decimals = DECIMALS[order["symbol"]]
        best = trader.best(order["symbol"])[order["side"] == "Ask"]
        quantity = f"{Decimal(order.pop('lots')).scaleb(-quantity_decimals):f}"
        away, trigger = order.pop("away"), order.pop("trigger", None)
        order |= {"orderType": "Market" if away is None else "Limit", "quantity": quantity}
        if away is not None:
            order["price"] = f"{best + Decimal(away).scaleb(-price_decimals):f}"
        if trigger is not None:
            order["triggerPrice"] = f"{best + Decimal(trigger).scaleb(-price_decimals):f}"
            order["triggerQuantity"] = order.pop("quantity")
        assert trader.call("POST", "/api/v1/order", order)[0] in {200, 400}
    elif step == "cancel all":
        for symbol in SYMBOLS:
            trader.call("DELETE", "/api/v1/orders", {"symbol": symbol})


def expected_totals(trader: Trader) -> dict[str, Decimal]:
    """What the fills make of the deposits."""
    totals = dict(trader.account.deposits)
    for fill in trader.account.fills:
        paid = fill.price * fill.quantity * (1 if fill.side == "Ask" else -1)
        base = fill.symbol.partition("_")[0]
        totals["USDC"] += paid
        if not fill.symbol.endswith("_PERP"):
            totals[base] += fill.quantity * (-1 if fill.side == "Ask" else 1)
        totals[fill.fee_asset] -= fill.fee
    # What open positions cost has left nobody's pocket yet.
    totals["USDC"] += sum(position.net_cost for position in trader.account.positions.values())
    return totals


@pytest.mark.gate
@examples(40)
@given(STEPS, st.integers(0, 3))
def test_balances_are_what_the_deposits_and_the_fills_make_them(steps: list[Any], seed: int) -> None:
    trader = Trader(seed=seed, speed=3.0)
    for step in steps:
        play(trader, step)
        assert sums(trader) == expected_totals(trader)
        locked = dict.fromkeys(trader.account.balances, Decimal(0))
        for order in trader.account.open_orders.values():
            if order.symbol == "SOL_USDC" and order.price is not None:
                remaining = order.quantity - order.executed_quantity
                bid = order.side == "Bid"
                locked["USDC" if bid else "SOL"] += remaining * (order.price if bid else 1)
        assert locked == {asset: held.locked for asset, held in trader.account.balances.items()}
        for held in trader.account.balances.values():
            assert held.available >= 0
        engine_orders = {
            order.order_id: order.remaining
            for market in trader.exchange._markets.values()
            for order in market.engine.orders.values()
            if order.owner == 2
        }
        resting = {o.order_id: o.remaining for o in trader.account.orders.values() if o.state != OrderState.TRIGGER_PENDING}
        assert engine_orders == resting


class Replica:
    """What a client knows: a first reading, and every frame after it."""

    def __init__(self, trader: Trader) -> None:
        capital = trader.get("/api/v1/capital")
        self.balances = {a: (Decimal(b["available"]), Decimal(b["locked"])) for a, b in capital.items()}
        self.orders = {
            int(o["id"]): (o["status"], Decimal(o["quantity"]), Decimal(o["executedQuantity"]))
            for o in trader.get("/api/v1/orders")
        }
        self.positions: dict[str, tuple[Decimal, Decimal, Decimal]] = {}
        self.fills = {int(row["tradeId"]) for row in trader.get("/wapi/v1/history/fills", limit=1000)}

    def take(self, event: object) -> None:
        match event:
            case OrderUpdate() as update:
                if isinstance(update, OrderFill):
                    assert update.trade_id not in self.fills
                    self.fills.add(update.trade_id or 0)
                if update.state in {"Filled", "Cancelled", "Expired", "TriggerFailed"}:
                    self.orders.pop(int(update.order_id), None)
                else:
                    self.orders[int(update.order_id)] = (update.state, update.quantity or Decimal(0), update.executed_quantity)
            case PositionClosed() as update:
                del self.positions[update.symbol]
            case PositionUpdate() as update:
                self.positions[update.symbol] = (update.net_quantity, update.entry_price, update.realized_pnl or Decimal(0))
            case BalanceUpdate() as update:
                self.balances[update.asset] = (update.available, update.locked)


@pytest.mark.gate
@examples(40)
@given(STEPS, STEPS, st.integers(0, 3))
def test_streams_on_top_of_a_first_reading_equal_the_account(before: list[Any], after: list[Any], seed: int) -> None:
    trader = Trader(seed=seed, speed=3.0)
    for step in before:
        play(trader, step)
    replica = Replica(trader)
    trader.outputs = []
    trader.subscribe()
    for step in after:
        play(trader, step)
    for output in trader.outputs:
        if isinstance(output, SendFrame):
            frames = decode_frame(output.data)
            for frame in frames if isinstance(frames, tuple) else (frames,):
                assert isinstance(frame, Frame)
                replica.take(frame.payload)
    account = trader.account
    assert replica.balances == {a: (held.available, held.locked) for a, held in account.balances.items()}
    assert replica.orders == {n: (o.state, o.quantity, o.executed_quantity) for n, o in account.open_orders.items()}
    assert replica.positions == {
        symbol: (position.net_quantity, position.entry_price, position.realized_pnl)
        for symbol, position in account.positions.items()
    }
    assert replica.fills == {fill.trade_id for fill in account.fills}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.binary(max_size=40) | st.dictionaries(
    st.sampled_from(
        ["symbol", "side", "orderType", "price", "quantity", "clientId", "triggerQuantity", "orderId", "slippageTolerance"]
    ),
    st.sampled_from(["SOL_USDC", "Bid", "Limit", "Market", "1", "-1", "50%", "0%", "9" * 31, "x", 1, -1, 2**70, None, True])
    | JSON_VALUES,
).map(lambda members: json.dumps(members).encode())


@pytest.mark.gate
@examples(200)
@given(st.sampled_from(sorted(INSTRUCTIONS)), BODIES, st.text(max_size=20), st.sampled_from(["signed", "unsigned"]))
def test_nothing_that_a_client_sends_raises(route: tuple[str, str], body: bytes, query: str, signed: str) -> None:
    trader = ANYTHING
    method, path = route
    target = f"{path}?{query}"
    stamp = trader.clock.unix_us
    headers = (
        trader.sign(request_text(method, target, body, timestamp_us=stamp), stamp) if signed == "signed" else ((query, query),)
    )
    answer = trader.send(method, target, body, headers)[-1]
    assert isinstance(answer, Respond)
    assert answer.status in {200, 400, 404}
    trader.outputs = []


ANYTHING = Trader()
ANYTHING.exchange.limits.per_minute = 10**9

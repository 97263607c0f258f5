"""The operator of the simulated exchange: markets busier or quieter, closed and opened, the exchange restarted, and its witness."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from msgspec.structs import replace

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import json_body, signed_headers, signing_string
from backpack_proto.errors import LocalProtocolError, UnknownSymbol
from backpack_proto.exchange import (
    LISTINGS,
    THROWAWAY_SECRET,
    AbandonRequest,
    BookState,
    ChangeMarket,
    CloseConnection,
    CloseMarket,
    Exchange,
    ExchangeOutput,
    Fault,
    FrameReceived,
    Listing,
    OpenMarket,
    Outcome,
    PaceMarket,
    RequestReceived,
    Respond,
    Restart,
    RestrictMarket,
    SendFrame,
    SocketOpened,
)
from backpack_proto.http import Parameter
from backpack_proto.inputs import TimerFired
from backpack_proto.testing.laws import FakeClock
from exchange_trader import Trader

SOL = "SOL_USDC"
SECOND = 1_000_000


class Operated:
    """An exchange with one listener, driven through virtual time."""

    def __init__(self, *streams: str, speed: float = 1.0) -> None:
        self.clock = FakeClock()
        listings = [listing for listing in LISTINGS if listing.symbol in {SOL, "BTC_USDC"}]
        self.exchange = Exchange(seed=3, unix_us=self.clock.unix_us, speed=speed, listings=listings)
        self.changes: list[tuple[str, Outcome]] = []
        self.exchange.on_book = lambda symbol, outcome: self.changes.append((symbol, outcome))
        self.exchange.handle(SocketOpened(1), self.clock.now)
        self.listen(1, *streams)

    def listen(self, connection: int, *streams: str) -> None:
        text = json.dumps({"method": "SUBSCRIBE", "params": streams}).encode()
        self.exchange.handle(FrameReceived(connection, text), self.clock.now)

    def run(self, seconds: float) -> list[ExchangeOutput]:
        end_us = self.clock.now.mono_us + int(seconds * SECOND)
        outputs: list[ExchangeOutput] = []
        while (deadline := self.exchange.deadline) is not None and deadline <= end_us:
            self.clock.advance(deadline - self.clock.now.mono_us)
            outputs += self.exchange.handle(TimerFired(), self.clock.now)
        self.clock.advance(end_us - self.clock.now.mono_us)
        return outputs

    def get(self, target: str) -> Respond:
        outputs = self.exchange.handle(RequestReceived(9, "GET", target), self.clock.now)
        (answer,) = [output for output in outputs if isinstance(output, Respond)]
        return answer


def frames(outputs: list[ExchangeOutput], stream: str) -> list[dict[str, object]]:
    decoded = [json.loads(output.data) for output in outputs if isinstance(output, SendFrame)]
    return [frame["data"] for frame in decoded if frame.get("stream") == stream]


def test_a_market_is_as_busy_as_the_operator_wants() -> None:
    operated = Operated(f"depth.{SOL}", "depth.BTC_USDC")
    exchange = operated.exchange
    usual = len(frames(operated.run(30), f"depth.{SOL}"))
    exchange.handle(PaceMarket(SOL, 0.1), operated.clock.now)
    outputs = operated.run(30)
    assert 0 < len(frames(outputs, f"depth.{SOL}")) < usual / 3
    assert len(frames(outputs, "depth.BTC_USDC")) > usual / 3
    exchange.handle(PaceMarket(SOL, 0.0), operated.clock.now)
    assert frames(operated.run(30), f"depth.{SOL}") == []
    exchange.handle(PaceMarket(SOL, 1.0), operated.clock.now)
    assert len(frames(operated.run(30), f"depth.{SOL}")) > usual / 3


def test_a_closed_market_is_silent_has_no_depth_and_is_listed_as_closed() -> None:
    operated = Operated(f"depth.{SOL}", f"ticker.{SOL}")
    operated.run(5)
    before = operated.exchange.levels(SOL)
    operated.exchange.handle(CloseMarket(SOL), operated.clock.now)
    assert not any(isinstance(output, SendFrame) for output in operated.run(60))
    answer = operated.get(f"/api/v1/depth?symbol={SOL}")
    assert (answer.status, json.loads(answer.body)["code"]) == (404, "RESOURCE_NOT_FOUND")
    assert json.loads(operated.get(f"/api/v1/market?symbol={SOL}").body)["orderBookState"] == "Closed"
    assert operated.exchange.symbols == ("BTC_USDC",)
    with pytest.raises(UnknownSymbol):
        operated.exchange.levels(SOL)
    operated.exchange.handle(OpenMarket(SOL), operated.clock.now)
    assert operated.exchange.levels(SOL) == before
    assert json.loads(operated.get(f"/api/v1/market?symbol={SOL}").body)["orderBookState"] == "Open"
    told = frames(operated.run(10), f"depth.{SOL}")
    assert told[0]["U"] == before[2] + 1


def test_a_subscription_to_a_closed_market_stays_silent_when_it_opens() -> None:
    operated = Operated(f"depth.{SOL}")
    operated.exchange.handle(CloseMarket(SOL), operated.clock.now)
    operated.exchange.handle(SocketOpened(2), operated.clock.now)
    operated.listen(2, f"depth.{SOL}")
    operated.exchange.handle(OpenMarket(SOL), operated.clock.now)
    connections = {output.connection for output in operated.run(5) if isinstance(output, SendFrame)}
    assert connections == {1}


def place(operated: Operated, price: str) -> Respond:
    order: dict[str, Parameter] = {
        "symbol": SOL,
        "side": "Bid",
        "orderType": "Limit",
        "price": price,
        "quantity": "1",
        "postOnly": True,
    }
    stamp = operated.clock.now.unix_us // 1000
    text = signing_string("orderExecute", order, timestamp_ms=stamp, window_ms=5_000)
    headers = signed_headers(Credentials(THROWAWAY_SECRET), text, timestamp=stamp, window_ms=5_000)
    given = RequestReceived(5, "POST", "/api/v1/order", tuple(headers), json_body(order))
    (answer,) = [output for output in operated.exchange.handle(given, operated.clock.now) if isinstance(output, Respond)]
    return answer


def test_the_orders_of_the_account_expire_when_their_market_closes() -> None:
    operated = Operated("account.orderUpdate", speed=0.0)
    place(operated, "80.00")
    account = operated.exchange.account
    assert len(account.open_orders) == 1
    locked = account.balances["USDC"].locked
    operated.exchange.handle(CloseMarket(SOL), operated.clock.now)
    assert account.open_orders == {}
    assert account.balances["USDC"].locked == 0 < locked
    assert (account.history[0].state.value, account.history[0].expiry_reason) == ("Expired", "OrderBookClosed")


def test_a_restart_ends_every_connection_and_leaves_late_answers_unsent() -> None:
    operated = Operated(f"depth.{SOL}", f"depth.1000ms.{SOL}")
    exchange = operated.exchange
    operated.run(5)
    last = exchange.levels(SOL)[2]
    exchange.faults.plan(Fault.DELAY)
    exchange.handle(RequestReceived(7, "GET", "/api/v1/time"), operated.clock.now)
    outputs = exchange.handle(Restart(), operated.clock.now)
    assert [output for output in outputs if isinstance(output, CloseConnection)] == [CloseConnection(1, 1001)]
    assert [output for output in outputs if isinstance(output, AbandonRequest)] == [AbandonRequest(7)]
    assert operated.run(5) == []
    assert last < exchange.levels(SOL)[2] < last + 2_000
    exchange.handle(SocketOpened(2), operated.clock.now)
    operated.listen(2, f"depth.{SOL}")
    assert frames(operated.run(5), f"depth.{SOL}")


def test_a_restart_may_begin_the_update_ids_somewhere_else() -> None:
    operated = Operated()
    operated.run(1)
    bids, asks, last = operated.exchange.levels(SOL)
    operated.exchange.handle(Restart(keep_ids=False), operated.clock.now)
    after = operated.exchange.levels(SOL)
    assert after[:2] == (bids, asks)
    assert abs(after[2] - last) > 10_000


def test_the_witness_sees_every_change_of_a_book() -> None:
    operated = Operated(f"depth.{SOL}")
    told = [data["u"] for data in frames(operated.run(5), f"depth.{SOL}")]
    seen = [outcome.update_id for symbol, outcome in operated.changes if symbol == SOL and outcome.update_id is not None]
    assert told == seen[len(seen) - len(told) :]


def test_windows_of_aggregated_depth_stay_on_their_grid() -> None:
    """The turns of a market are looked at only while something is gathered, and fall on the same moments all the same."""
    operated = Operated(f"depth.1000ms.{SOL}", f"depth.200ms.{SOL}", speed=0.05)
    moments: dict[str, set[int]] = {"200ms": set(), "1000ms": set()}
    for _ in range(4_000):
        for output in operated.run(0.05):
            if isinstance(output, SendFrame):
                data = json.loads(output.data)
                moments[data["stream"].split(".")[1]].add(data["data"]["E"])
    for window, period_us in (("200ms", 200_000), ("1000ms", 1_000_000)):
        phases = {emitted_us % period_us // 1_000 for emitted_us in moments[window]}
        assert len(moments[window]) > 10
        assert len(phases) <= 2, window


@pytest.mark.parametrize(
    "command",
    [
        *(PaceMarket("NOPE", 1.0), PaceMarket(SOL, -1.0), CloseMarket("NOPE"), OpenMarket(SOL)),
        ChangeMarket("NOPE", Decimal(1), Decimal(1)),
        *(ChangeMarket(SOL, Decimal(size), Decimal(1)) for size in ("0", "-1", "0.001", "0.015")),
        ChangeMarket(SOL, Decimal(1), Decimal("0.001")),
    ],
)
def test_a_command_that_makes_no_sense_leaves_no_trace(command: PaceMarket | CloseMarket | OpenMarket | ChangeMarket) -> None:
    operated, other = Operated(f"depth.{SOL}"), Operated(f"depth.{SOL}")
    operated.run(2)
    other.run(2)
    with pytest.raises(LocalProtocolError):
        operated.exchange.handle(command, operated.clock.now)
    assert operated.run(5) == other.run(5)


def test_markets_without_a_crowd_of_their_own_can_be_listed_by_the_hundred() -> None:
    clock = FakeClock()
    listings = [
        Listing(symbol=f"T{number}_USDC", base=f"T{number}", price_decimals=2, quantity_decimals=2, opening_ticks=5_000)
        for number in range(100)
    ]
    exchange = Exchange(seed=1, unix_us=clock.unix_us, speed=0.0, listings=listings)
    bids, asks, _ = exchange.levels("T99_USDC")
    assert 20 < len(bids) < 80
    assert 20 < len(asks) < 80


def rules_of(operated: Operated) -> tuple[str, str]:
    filters = json.loads(operated.get(f"/api/v1/market?symbol={SOL}").body)["filters"]
    return filters["price"]["tickSize"], filters["quantity"]["stepSize"]


def keeps(operated: Operated, tick: str, step: str) -> bool:
    bids, asks, _ = operated.exchange.levels(SOL)
    return not any(price % Decimal(tick) or quantity % Decimal(step) for price, quantity in (*bids, *asks))


def test_a_market_gets_another_tick_and_step_and_the_crowd_keeps_them() -> None:
    operated = Operated(f"depth.{SOL}")
    operated.run(5)
    assert rules_of(operated) == ("0.01", "0.01")
    outputs = operated.exchange.handle(ChangeMarket(SOL, Decimal("0.05"), Decimal("0.1")), operated.clock.now)
    assert rules_of(operated) == ("0.05", "0.1")
    assert frames(outputs, f"depth.{SOL}"), "what the crowd cancels is published"
    assert keeps(operated, "0.05", "0.1")
    operated.run(120)
    assert keeps(operated, "0.05", "0.1")
    bids, asks, _ = operated.exchange.levels(SOL)
    assert min(len(bids), len(asks)) > 20
    operated.exchange.handle(CloseMarket(SOL), operated.clock.now)
    operated.exchange.handle(ChangeMarket(SOL, Decimal("0.01"), Decimal("0.01")), operated.clock.now)
    operated.exchange.handle(OpenMarket(SOL), operated.clock.now)
    assert rules_of(operated) == ("0.01", "0.01")
    operated.run(60)
    assert not keeps(operated, "0.05", "0.1")


@pytest.mark.parametrize(
    ("tick", "price", "message"),
    [
        ("0.1", "50.12", "Price decimal too long"),
        ("0.05", "50.12", "Invalid price"),
        ("0.1", "50.1", ""),
    ],
)
def test_an_order_beside_the_new_tick_is_refused(tick: str, price: str, message: str) -> None:
    operated = Operated()
    operated.run(1)
    operated.exchange.handle(ChangeMarket(SOL, Decimal(tick), Decimal("0.01")), operated.clock.now)
    answer = json.loads(place(operated, price).body)
    assert answer.get("message", "") == message


def test_a_market_that_is_listed_with_a_coarse_grid_begins_on_it() -> None:
    clock = FakeClock()
    listing = replace(LISTINGS[0], ticks_per_price=10, lots_per_quantity=100)
    exchange = Exchange(seed=1, unix_us=clock.unix_us, speed=0.0, listings=[listing])
    bids, asks, _ = exchange.levels(SOL)
    assert len(bids) > 20
    assert not any(price % Decimal("0.1") or quantity % 1 for price, quantity in (*bids, *asks))


@pytest.mark.parametrize(
    ("state", "taking", "resting", "market"),
    [
        ("CancelOnly", "TRADING_PAUSED", "TRADING_PAUSED", "TRADING_PAUSED"),
        ("LimitOnly", "Filled", "New", "TRADING_PAUSED"),
        ("PostOnly", "Expired", "New", "Expired"),
        (None, "Filled", "New", "Filled"),
    ],
)
def test_a_book_takes_the_orders_of_its_state(state: str | None, taking: str, resting: str, market: str) -> None:
    trader = Trader()
    order = trader.placed(SOL, "Bid", "1", "60")
    trader.exchange.handle(RestrictMarket(SOL, None if state is None else BookState(state)), trader.clock.now)
    listed = trader.exchange.handle(RequestReceived(1, "GET", f"/api/v1/market?symbol={SOL}"), trader.clock.now)[-1]
    assert isinstance(listed, Respond)
    assert json.loads(listed.body)["orderBookState"] == state or state is None
    ask = str(trader.best(SOL)[1])
    for price, expected in ((ask, taking), ("61", resting), (None, market)):
        status, answer = trader.order(SOL, "Bid", "0.01", price)
        assert (answer["status"] if status == 200 else answer["code"]) == expected
    if state == "PostOnly":
        expired = [order for order in trader.account.history if order.state.value == "Expired"]
        assert {order.expiry_reason for order in expired} == {"PostOnlyMode"}
    assert trader.call("DELETE", "/api/v1/order", {"symbol": SOL, "orderId": order["id"]})[0] == 200
    assert trader.account.balances["USDC"].locked == (Decimal("0.61") if resting == "New" else 0)

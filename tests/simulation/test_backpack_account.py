"""The ledger against the account of the simulated exchange: whatever is cut and lost, it ends up the same, each fill told once."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backpack_proto.account.signals import RETRY
from backpack_proto.account.values import (
    AccountDiverged,
    AccountStale,
    AccountSynced,
    Filled,
    FillKey,
    OrderChanged,
    Origin,
    PositionChanged,
)
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import LISTINGS, THROWAWAY_SECRET, Exchange
from backpack_proto.exchange.faults import Fault
from backpack_proto.http import Argument
from backpack_proto.inputs import Call, FollowAccount, Open
from backpack_proto.machine import Now
from backpack_proto.outputs import CallAnswered, CallFailed, ConnectionUp, StreamsRefused
from backpack_proto.rest.codec import build_request
from backpack_proto.rest.endpoints.table import find_endpoint
from backpack_proto.session import Session
from backpack_proto.streams.payloads import Event
from backpack_proto.testing.simulation import Simulation
from hypothesis_profiles import examples

START = Now(mono_us=9_000_000, unix_us=1_790_000_000_000_000)
SECOND = 1_000_000
STEPS = 30
SYMBOLS = ("SOL_USDC", "SOL_USDC_PERP")


class Trader:
    """A session that follows its account while it trades, on a connection that breaks."""

    def __init__(
        self, seed: int, *, secret: str = THROWAWAY_SECRET, clock_error_us: int = 0, measure_clock: bool = True
    ) -> None:
        listings = [listing for listing in LISTINGS if listing.symbol in SYMBOLS]
        self.exchange = Exchange(seed=seed, unix_us=START.unix_us, listings=listings)
        self.session = Session(Random(seed), signer=Signer(Credentials(secret)), measure_clock=measure_clock)
        self.simulation = Simulation(self.session, self.exchange, START)
        self.simulation.clock_error_us = clock_error_us
        self.measures = measure_clock
        self.simulation.on_event = self._count
        self.random = Random(seed)
        self.settles_within_us = 180 * SECOND
        self.calls = 0
        self.elsewhere = 0
        self.told: Counter[FillKey] = Counter()
        self.ended: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.disconnects = 0
        self.simulation.give(Open(), FollowAccount())

    def _count(self, event: Event) -> None:
        self.kinds[type(event).__name__] += 1
        if isinstance(event, Filled):
            self.told[event.fill.key] += 1
        if isinstance(event, OrderChanged) and not event.order.open:
            self.ended[event.order.order_id] += 1

    def events(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self.simulation.events if isinstance(event, kinds)]

    def call(self, endpoint: str, **parameters: Argument) -> None:
        self.calls += 1
        self.simulation.give(Call(call_id=self.calls, endpoint=endpoint, parameters=parameters))

    def act(self) -> None:
        """One random order, or a cancel, or nothing."""
        symbol = self.random.choice(SYMBOLS)
        orders = list(self.exchange.account.orders.values())
        kind = self.random.random()
        if kind < 0.25 and orders:
            order = self.random.choice(orders)
            self.call("cancel_order", symbol=order.symbol, orderId=str(order.order_id))
        elif kind < 0.3:
            self.call("cancel_all_orders", symbol=symbol)
        else:
            bids, asks, _ = self.exchange.levels(symbol)
            side = self.random.choice(("Bid", "Ask"))
            touch = bids[0][0] if side == "Bid" else asks[0][0]
            away = Decimal(self.random.randrange(-2, 6)) / 100
            price = touch - away if side == "Bid" else touch + away
            quantity = Decimal(self.random.randrange(1, 400)) / 100
            self.call(
                "place_order",
                symbol=symbol,
                side=side,
                orderType="Limit",
                price=format(price, "f"),
                quantity=format(quantity, "f"),
                timeInForce=self.random.choice(("GTC", "GTC", "GTC", "IOC")),
            )

    def buy_elsewhere(self) -> None:
        """Another program of the same account, whose clock is right, buys at the market."""
        endpoint = find_endpoint("place_order")
        request = build_request(
            endpoint,
            endpoint.check({"symbol": "SOL_USDC", "side": "Bid", "orderType": "Market", "quantity": "0.50"}),
            signer=Signer(Credentials(THROWAWAY_SECRET)),
            unix_us=self.simulation.now.unix_us,
        )
        self.simulation.request_elsewhere(request)

    def place_batch(self, count: int) -> None:
        """Limit orders on one market, some of which trade at once, most of which rest."""
        symbol = self.random.choice(SYMBOLS)
        bids, asks, _ = self.exchange.levels(symbol)
        orders: list[dict[str, Argument]] = []
        for _ in range(count):
            side = self.random.choice(("Bid", "Ask"))
            touch = bids[0][0] if side == "Bid" else asks[0][0]
            away = Decimal(self.random.randrange(-1, 300)) / 100
            orders.append(
                {
                    "symbol": symbol,
                    "side": side,
                    "orderType": "Limit",
                    "price": touch - away if side == "Bid" else touch + away,
                    "quantity": Decimal(self.random.randrange(1, 100)) / 100,
                }
            )
        self.calls += 1
        self.simulation.give(Call(call_id=self.calls, endpoint="place_orders", parameters={"orders": orders}))

    def trade(self, actions: int, *, cut_every: int) -> None:
        for number in range(actions):
            self.act()
            self.simulation.run(self.random.randrange(5_000, 120_000))
            if cut_every and number % cut_every == cut_every - 1:
                self.disconnects += 1
                self.simulation.cut()
                self.simulation.run(self.random.randrange(0, 3 * SECOND))
            self.simulation.events.clear()

    def settle(self) -> None:
        assert self.simulation.run(self.settles_within_us, until=lambda: self.session.account.live)

    def differences(self) -> list[str]:
        account, ledger = self.exchange.account, self.session.account
        found = []
        if {str(order_id) for order_id in account.open_orders} != set(ledger.open_orders):
            found.append(f"orders {sorted(account.open_orders)} and {sorted(ledger.open_orders)}")
        held = {asset: (one.available, one.locked) for asset, one in account.balances.items() if one.available or one.locked}
        kept = {asset: (one.available, one.locked) for asset, one in ledger.balances.items() if one.available or one.locked}
        if held != kept:
            found.append(f"balances {held} and {kept}")
        nets = {symbol: position.net_quantity for symbol, position in account.positions.items() if position.net_quantity}
        if nets != {symbol: position.net_quantity for symbol, position in ledger.positions.items()}:
            found.append(f"positions {nets} and {ledger.positions}")
        filled = {(fill.symbol, fill.trade_id, str(fill.order_id), fill.quantity) for fill in account.fills}
        if filled != set(self.told):
            found.append(f"fills lost {filled - set(self.told)}, made up {set(self.told) - filled}")
        ended = {str(order.order_id) for order in account.history} - {str(order_id) for order_id in account.open_orders}
        if ended != set(self.ended):
            found.append(f"ends lost {ended - set(self.ended)}, made up {set(self.ended) - ended}")
        if ledger.doubts:
            found.append(f"doubts {ledger.doubts}")
        return found

    def assert_the_same(self) -> None:
        """Updates take a millisecond to arrive, so the two are compared until they stand at the same moment."""
        self.settle()
        assert self.simulation.run(10 * SECOND, until=lambda: self.session.account.live and not self.differences()), (
            self.differences()
        )
        assert not [key for key, times in self.told.items() if times > 1], "a fill was told twice"
        assert not [order_id for order_id, times in self.ended.items() if times > 1], "an end was told twice"


@pytest.mark.parametrize("seed", range(3))
def test_the_ledger_is_the_account_though_the_connection_breaks_again_and_again(seed: int) -> None:
    trader = Trader(seed)
    trader.settle()
    for _ in range(6):
        trader.trade(30, cut_every=10)
        trader.assert_the_same()
    assert len(trader.exchange.account.fills) > 20
    assert trader.disconnects == 18
    assert trader.kinds["AccountDiverged"] == 0
    assert trader.kinds["AccountSynced"] > 6


def test_fills_that_happened_while_the_connection_was_down_are_told_once_it_is_back() -> None:
    trader = Trader(7)
    trader.settle()
    bids, _, _ = trader.exchange.levels("SOL_USDC")
    price = format(bids[0][0], "f")
    trader.call("place_order", symbol="SOL_USDC", side="Bid", orderType="Limit", price=price, quantity="5000")
    trader.simulation.run(SECOND // 10)
    trader.simulation.refusing = True
    trader.simulation.cut()
    before = len(trader.told)
    trader.simulation.run(30 * SECOND)
    assert len(trader.told) == before
    trader.simulation.refusing = False
    trader.assert_the_same()
    origins = {event.origin for event in trader.events(Filled) if isinstance(event, Filled)}
    assert Origin.RECONCILIATION in origins


def test_orders_that_lived_and_died_while_the_connection_was_down_are_told_once_it_is_back() -> None:
    trader = Trader(7)
    trader.settle()
    trader.simulation.refusing = True
    trader.simulation.cut()
    trader.buy_elsewhere()
    trader.buy_elsewhere()
    trader.simulation.run(30 * SECOND)
    assert not trader.ended
    trader.simulation.refusing = False
    trader.assert_the_same()
    told = [event for event in trader.events(OrderChanged) if isinstance(event, OrderChanged)]
    assert [(event.order.state, event.origin) for event in told] == [("Filled", Origin.RECONCILIATION)] * 2
    assert trader.kinds["AccountDiverged"] == 0


@pytest.mark.parametrize("clock_error_us", [4 * SECOND, -4 * SECOND], ids=["ahead", "behind"])
def test_no_fill_is_lost_by_a_clock_that_is_wrong_and_was_not_measured(clock_error_us: int) -> None:
    trader = Trader(7, clock_error_us=clock_error_us, measure_clock=False)
    trader.settle()
    for number in range(3):
        trader.buy_elsewhere()
        if number:
            trader.simulation.cut()
        trader.simulation.run(SECOND)
    trader.assert_the_same()
    assert len(trader.told) >= 3
    assert trader.session.health(trader.simulation.now).healthy


@pytest.mark.parametrize("clock_error_us", [600 * SECOND, -600 * SECOND], ids=["ahead", "behind"])
def test_a_clock_that_is_wrong_from_the_start_costs_a_refusal_and_no_fill(clock_error_us: int) -> None:
    trader = Trader(7, clock_error_us=clock_error_us)
    trader.settle()
    assert len(trader.events(StreamsRefused)) == 1
    assert trader.simulation.now.mono_us - START.mono_us < 2 * SECOND
    trader.buy_elsewhere()
    # The order waits for the speed bump.
    trader.simulation.run(SECOND)
    trader.assert_the_same()
    assert trader.told
    assert trader.session.health(trader.simulation.now).healthy


@pytest.mark.parametrize("step_us", [600 * SECOND, -600 * SECOND])
def test_a_clock_that_is_set_costs_no_fill(step_us: int) -> None:
    trader = Trader(7)
    trader.settle()
    for number in range(4):
        # There and back again, and the connection breaks before it is noticed, or after.
        trader.simulation.clock_error_us += step_us if number % 2 else -step_us
        trader.simulation.run(20 * SECOND if number > 1 else 0)
        trader.buy_elsewhere()
        trader.simulation.cut()
        trader.simulation.run(SECOND // 2)
        trader.buy_elsewhere()
        trader.settle()
    trader.assert_the_same()
    assert len(trader.told) >= 8
    assert trader.kinds["AccountDiverged"] == 0


def test_lost_replies_and_errors_leave_the_ledger_right() -> None:
    trader = Trader(11)
    trader.settle()
    trader.exchange.faults.rates = {Fault.LOSE_REPLY: 0.1, Fault.ERROR_AFTER: 0.05, Fault.ERROR_BEFORE: 0.05, Fault.DELAY: 0.05}
    trader.trade(80, cut_every=25)
    trader.exchange.faults.rates = {}
    trader.assert_the_same()
    assert trader.kinds["CallFailed"] > 0
    assert trader.kinds["AccountDiverged"] == 0


def test_an_order_whose_reply_is_lost_is_not_called_failed() -> None:
    trader = Trader(3)
    trader.settle()
    trader.exchange.faults.only = ("POST /api/v1/order",)
    trader.exchange.faults.plan(Fault.LOSE_REPLY)
    trader.call("place_order", symbol="SOL_USDC", side="Bid", orderType="Limit", price="50", quantity="1", clientId=77)
    trader.simulation.run(SECOND)
    (failed,) = (event for event in trader.events(CallFailed) if isinstance(event, CallFailed))
    assert type(failed.error).__name__ == "OutcomeUnknown"
    assert "77" in str(failed.error)
    assert [order.client_id for order in trader.session.account.open_orders.values()] == [77], "the ledger found out"


def test_positions_and_orders_from_before_are_there_at_once() -> None:
    trader = Trader(5)
    trader.settle()
    trader.call("place_order", symbol="SOL_USDC_PERP", side="Bid", orderType="Market", quantity="2")
    trader.call("place_order", symbol="SOL_USDC_PERP", side="Ask", orderType="Limit", price="500", quantity="1")
    trader.simulation.run(SECOND)
    second = Session(Random(1), signer=Signer(Credentials(THROWAWAY_SECRET)))
    simulation = Simulation(second, trader.exchange, trader.simulation.now)
    simulation.connections = 100  # the exchange has seen the other session's
    simulation.give(Open(), FollowAccount())
    assert simulation.run(10 * SECOND, until=lambda: second.account.live)
    assert [order.price for order in second.account.open_orders.values()] == [Decimal(500)]
    assert second.account.positions["SOL_USDC_PERP"].net_quantity == 2
    assert not [event for event in simulation.events if isinstance(event, Filled)], "they were filled before"
    assert [event for event in simulation.events if isinstance(event, PositionChanged | OrderChanged)]


def test_a_wrong_key_is_refused_aloud_and_the_ledger_is_never_live() -> None:
    trader = Trader(1, secret="42" * 32)
    trader.simulation.run(30 * SECOND)
    assert not trader.session.account.live
    (refused, *_) = (event for event in trader.events(StreamsRefused) if isinstance(event, StreamsRefused))
    assert refused.authentication
    assert trader.session.metrics(trader.simulation.now).auth_failures >= 1
    assert not trader.events(AccountSynced)
    assert any("refused" in reason for reason in trader.session.health(trader.simulation.now).reasons)


@pytest.mark.parametrize(("clock_error_us", "refusals"), [(0, 1), (600 * SECOND, 2)], ids=["right", "ahead"])
def test_a_wrong_key_is_tried_once_more_at_most(clock_error_us: int, refusals: int) -> None:
    trader = Trader(1, secret="42" * 32, clock_error_us=clock_error_us)
    trader.simulation.run(60 * SECOND)
    assert len(trader.events(StreamsRefused)) == refusals
    assert any("refused" in reason for reason in trader.session.health(trader.simulation.now).reasons)


def test_a_quiet_account_stays_live_through_its_checks() -> None:
    trader = Trader(2)
    trader.settle()
    trader.simulation.run(300 * SECOND)
    assert trader.session.account.live
    assert trader.events(AccountDiverged) == []
    assert len(trader.events(AccountSynced)) == 1
    assert len(trader.events(ConnectionUp)) == 1
    assert all(event.reason == "it is being read" for event in trader.events(AccountStale) if isinstance(event, AccountStale))


def test_calls_are_answered_with_typed_results() -> None:
    trader = Trader(4)
    trader.settle()
    trader.call("balances")
    trader.call("open_orders")
    trader.call("orderQueryAll")
    trader.call("GET /api/v1/capital")
    trader.simulation.run(SECOND)
    answers = [event.result for event in trader.events(CallAnswered) if isinstance(event, CallAnswered)]
    assert isinstance(answers[0], dict)
    assert answers[0]["USDC"].available > 0
    assert answers[1] == answers[2] == ()
    assert answers[3] == answers[0]


class AccountMachine(RuleBasedStateMachine):
    """Orders, fills and cancels on the simulated exchange, while the connection breaks at arbitrary points."""

    @initialize(seed=st.integers(0, 1_000), error_ms=st.integers(-4_000, 4_000), measured=st.booleans())
    def begin(self, seed: int, error_ms: int, *, measured: bool) -> None:
        self.trader = Trader(seed, clock_error_us=error_ms * 1_000, measure_clock=measured)
        # Each step may have planned a fault, and each costs the ledger half a minute once it has failed often.
        self.trader.settles_within_us = (STEPS + 1) * RETRY.cap_us
        self.trader.settle()

    @rule(error_ms=st.integers(-4_000, 4_000) | st.sampled_from([-600_000, 600_000]))
    def set_clock(self, error_ms: int) -> None:
        """A clock that is never measured can be wrong by no more than a signature's window, or else nothing is accepted."""
        if abs(error_ms) <= 4_000 or self.trader.measures:
            self.trader.simulation.clock_error_us = error_ms * 1_000

    @rule()
    def buy_elsewhere(self) -> None:
        self.trader.buy_elsewhere()

    @rule(count=st.integers(1, 20))
    def place(self, count: int) -> None:
        self.trader.place_batch(count)

    @rule()
    def act(self) -> None:
        self.trader.act()

    @rule(symbol=st.sampled_from(SYMBOLS))
    def cancel_all(self, symbol: str) -> None:
        self.trader.call("cancel_all_orders", symbol=symbol)

    @rule(milliseconds=st.integers(0, 3_000))
    def wait(self, milliseconds: int) -> None:
        self.trader.simulation.run(milliseconds * 1_000)

    @rule()
    def cut(self) -> None:
        self.trader.simulation.cut()

    @rule(refusing=st.booleans())
    def refuse(self, *, refusing: bool) -> None:
        self.trader.simulation.refusing = refusing

    @rule()
    def fall_silent(self) -> None:
        self.trader.simulation.mute = True

    @rule()
    def calm_down(self) -> None:
        self._calm_down()

    @rule(fault=st.sampled_from([*Fault, None]))
    def fail_the_next_request(self, fault: Fault | None) -> None:
        self.trader.exchange.faults.plan(fault)

    @rule()
    def reconcile(self) -> None:
        self._calm_down()
        self.trader.assert_the_same()

    @invariant()
    def no_fill_is_told_twice(self) -> None:
        assert all(times == 1 for times in self.trader.told.values())

    def teardown(self) -> None:
        if hasattr(self, "trader"):
            self._calm_down()
            self.trader.assert_the_same()
            assert self.trader.kinds["AccountDiverged"] == 0

    def _calm_down(self) -> None:
        self.trader.simulation.refusing = False
        if self.trader.simulation.mute:
            # What was swallowed while the exchange was mute is lost, and the connection that lost it has to go.
            self.trader.simulation.mute = False
            self.trader.simulation.cut()


TestAccount = pytest.mark.gate(AccountMachine.TestCase)
TestAccount.settings = examples(25, steps=STEPS)


def run_for_long(order_events: int, disconnects: int) -> None:
    """Batches of orders near the touch and away from it, cancelled again, on a connection that breaks all the time."""
    trader = Trader(99)
    trader.settle()
    random = trader.random
    while trader.kinds["OrderChanged"] < order_events or trader.disconnects < disconnects:
        for _ in range(4):
            trader.place_batch(20)
            trader.simulation.run(random.randrange(5_000, 40_000))
        trader.call("cancel_all_orders", symbol=random.choice(SYMBOLS))
        # No faster than the request budget, or else the calls would queue up for ever.
        trader.simulation.run(60 * SECOND, until=lambda: not trader.session.budget(trader.simulation.now).queued)
        trader.simulation.run(random.randrange(0, 10_000))
        if trader.disconnects * order_events < disconnects * trader.kinds["OrderChanged"]:
            trader.disconnects += 1
            trader.simulation.cut()
            trader.simulation.run(random.randrange(0, 500_000))
            if trader.disconnects % 2 == 0:
                trader.settle()
            if trader.disconnects % 25 == 0:
                trader.assert_the_same()
        trader.simulation.events.clear()
        trader.simulation.requests.clear()
    trader.assert_the_same()
    assert trader.kinds["AccountDiverged"] == 0
    print(  # what a long run is for: how much it has seen
        f"{trader.kinds['OrderChanged']} order events, {len(trader.told)} fills, {trader.disconnects} disconnects,"
        f" {trader.kinds['AccountSynced']} reconciliations, fills lost 0, doubled 0"
    )


@pytest.mark.gate
def test_twenty_thousand_order_events_and_two_hundred_disconnects() -> None:
    run_for_long(20_000, 200)


@pytest.mark.soak
def test_a_hundred_thousand_order_events_and_a_thousand_disconnects() -> None:
    run_for_long(100_000, 1_000)


@pytest.mark.soak
def test_a_million_order_events_and_ten_thousand_disconnects() -> None:
    run_for_long(1_000_000, 10_000)

"""The matching engine against a naive model of price-time priority."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.errors import LocalProtocolError
from backpack_proto.exchange import (
    Change,
    Match,
    MatchingEngine,
    OrderSide,
    OrderTimeInForce,
    Outcome,
    Refusal,
    RestingOrder,
    SelfTrade,
)
from hypothesis_profiles import examples

BID, ASK = OrderSide.BID, OrderSide.ASK


def new_engine() -> MatchingEngine:
    return MatchingEngine(update_id=2**32, next_order_id=1, next_trade_id=100)


def test_a_limit_order_rests_and_is_one_event() -> None:
    engine = new_engine()
    assert engine.submit(BID, 5, 10) == Outcome(
        update_id=2**32 + 1, order_id=1, changes=(Change(BID, 10, 5),), resting=5, given_up=0
    )
    assert engine.best(BID) == (10, 5)
    assert engine.best(ASK) is None


def test_the_oldest_order_at_the_best_price_trades_first_at_its_own_price() -> None:
    engine = new_engine()
    for price in (11, 10, 10):
        engine.submit(ASK, 3, price)
    outcome = engine.submit(BID, 8, 12)
    assert [(fill.maker_id, fill.price, fill.lots, fill.maker_remaining) for fill in outcome.fills] == [
        (2, 10, 3, 0),
        (3, 10, 3, 0),
        (1, 11, 2, 1),
    ]
    assert [fill.trade_id for fill in outcome.fills] == [100, 101, 102]
    assert outcome.changes == (Change(ASK, 10, 0), Change(ASK, 11, 1))
    assert outcome.resting == 0


def test_what_is_left_of_a_limit_order_rests_and_both_sides_are_one_event() -> None:
    engine = new_engine()
    engine.submit(ASK, 3, 10)
    outcome = engine.submit(BID, 5, 10)
    assert outcome.update_id == 2**32 + 2
    assert outcome.changes == (Change(ASK, 10, 0), Change(BID, 10, 2))
    assert (engine.best(BID), engine.best(ASK)) == ((10, 2), None)


@pytest.mark.parametrize(
    ("price", "time_in_force"), [(10, OrderTimeInForce.IOC), (None, OrderTimeInForce.GTC), (None, OrderTimeInForce.IOC)]
)
def test_what_is_left_of_an_order_that_may_not_rest_is_given_up(price: int | None, time_in_force: OrderTimeInForce) -> None:
    engine = new_engine()
    engine.submit(ASK, 3, 10)
    outcome = engine.submit(BID, 5, price, time_in_force=time_in_force)
    assert (len(outcome.fills), outcome.resting, outcome.given_up) == (1, 0, 2)
    assert engine.orders == {}


def test_a_market_order_against_nothing_is_no_event() -> None:
    assert new_engine().submit(BID, 5, None) == Outcome(update_id=None, order_id=1, given_up=5)


def test_fill_or_kill_is_filled_whole_or_leaves_no_trace() -> None:
    engine = new_engine()
    engine.submit(ASK, 3, 10)
    engine.submit(ASK, 3, 11)
    refused = engine.submit(BID, 7, 11, time_in_force=OrderTimeInForce.FOK)
    assert refused == Outcome(update_id=None, order_id=3, given_up=7, refusal=Refusal.CANNOT_FILL)
    assert engine.submit(BID, 6, 10, time_in_force=OrderTimeInForce.FOK).refusal is Refusal.CANNOT_FILL
    assert engine.levels(ASK) == [(10, 3), (11, 3)]
    assert engine.submit(BID, 6, 11, time_in_force=OrderTimeInForce.FOK).given_up == 0
    assert engine.levels(ASK) == []


def test_post_only_never_takes() -> None:
    engine = new_engine()
    engine.submit(ASK, 3, 10)
    assert engine.submit(BID, 1, 10, post_only=True).refusal is Refusal.WOULD_TAKE
    assert engine.submit(BID, 1, 9, post_only=True).resting == 1


@pytest.mark.parametrize(
    ("self_trade", "fills", "removed", "resting", "given_up"),
    [
        (SelfTrade.REJECT_TAKER, 1, [], 0, 5),
        (SelfTrade.REJECT_MAKER, 2, [2], 2, 0),
        (SelfTrade.REJECT_BOTH, 1, [2], 0, 5),
    ],
)
def test_an_owner_does_not_trade_with_itself(
    self_trade: SelfTrade, fills: int, removed: list[int], resting: int, given_up: int
) -> None:
    engine = new_engine()
    engine.submit(ASK, 2, 10)
    engine.submit(ASK, 4, 10, owner=7)
    engine.submit(ASK, 3, 11)
    outcome = engine.submit(BID, 7, 11, owner=7, self_trade=self_trade)
    assert len(outcome.fills) == fills
    assert [order.order_id for order in outcome.removed] == removed
    assert all(order.remaining == 4 for order in outcome.removed)
    assert (outcome.resting, outcome.given_up) == (resting, given_up)


def test_fill_or_kill_counts_on_nothing_that_is_its_own() -> None:
    engine = new_engine()
    engine.submit(ASK, 4, 10, owner=7)
    engine.submit(ASK, 3, 11)
    for self_trade, refused in ((SelfTrade.REJECT_TAKER, True), (SelfTrade.REJECT_MAKER, False)):
        outcome = engine.submit(BID, 3, 11, owner=7, self_trade=self_trade, time_in_force=OrderTimeInForce.FOK)
        assert (outcome.refusal is Refusal.CANNOT_FILL) is refused


def test_several_orders_are_cancelled_in_one_event() -> None:
    engine = new_engine()
    engine.submit(BID, 1, 9)
    engine.submit(BID, 2, 8)
    outcome = engine.cancel(1, 2)
    assert outcome.update_id == 2**32 + 3
    assert outcome.changes == (Change(BID, 9, 0), Change(BID, 8, 0))
    assert outcome.removed == (RestingOrder(1, 0, BID, 9, 1), RestingOrder(2, 0, BID, 8, 2))


def test_a_reduced_order_keeps_its_turn() -> None:
    engine = new_engine()
    engine.submit(ASK, 5, 10)
    engine.submit(ASK, 5, 10)
    assert engine.reduce(1, 2).changes == (Change(ASK, 10, 7),)
    assert [fill.maker_id for fill in engine.submit(BID, 3, None).fills] == [1, 2]


def test_an_event_without_a_change_takes_an_id() -> None:
    assert new_engine().pass_by() == Outcome(update_id=2**32 + 1)


def test_impossible_calls_are_refused_and_leave_no_trace() -> None:
    engine = new_engine()
    engine.submit(BID, 5, 10)
    calls: tuple[Callable[[], Outcome], ...] = (
        lambda: engine.submit(BID, 0, 10),
        lambda: engine.submit(BID, 1, 0),
        lambda: engine.submit(BID, 1, None, post_only=True),
        lambda: engine.submit(BID, 1, 1, post_only=True, time_in_force=OrderTimeInForce.IOC),
        lambda: engine.cancel(1, 2),
        lambda: engine.cancel(1, 1),
        lambda: engine.reduce(1, 5),
        lambda: engine.reduce(1, 0),
        lambda: engine.reduce(2, 1),
    )
    for call in calls:
        with pytest.raises(LocalProtocolError):
            call()
    assert (engine.update_id, engine.levels(BID)) == (2**32 + 1, [(10, 5)])
    assert engine.submit(BID, 1, 9).order_id == 2


@dataclass
class Naive:
    """Price-time priority as one would explain it: a list that is sorted again for every order."""

    resting: list[RestingOrder] = field(default_factory=list)

    def candidates(self, side: OrderSide, price: int | None) -> list[RestingOrder]:
        sign = 1 if side is BID else -1
        found = [
            order for order in self.resting if order.side is not side and (price is None or sign * order.price <= sign * price)
        ]
        return sorted(found, key=lambda order: (sign * order.price, order.order_id))

    def submit(self, order_id: int, call: Call) -> tuple[list[tuple[int, int, int]], int, list[int], bool]:
        """Fills as (maker, price, lots), lots that rest, makers that yielded, whether it was refused."""
        candidates = self.candidates(call.side, call.price)
        if call.post_only and candidates:
            return [], 0, [], True
        before = [replace_order(order) for order in self.resting]
        left = call.lots
        fills: list[tuple[int, int, int]] = []
        yielded: list[int] = []
        stopped = False
        for maker in candidates:
            if not left or stopped:
                break
            if maker.owner == call.owner != 0:
                stopped = call.self_trade is not SelfTrade.REJECT_MAKER
                if call.self_trade is not SelfTrade.REJECT_TAKER:
                    yielded.append(maker.order_id)
                    self.resting.remove(maker)
                continue
            taken = min(left, maker.remaining)
            fills.append((maker.order_id, maker.price, taken))
            left -= taken
            maker.remaining -= taken
            if not maker.remaining:
                self.resting.remove(maker)
        if call.time_in_force is OrderTimeInForce.FOK and left:
            self.resting = before
            return [], 0, [], True
        rests = left if call.time_in_force is OrderTimeInForce.GTC and call.price is not None and not stopped else 0
        if rests and call.price is not None:
            self.resting.append(RestingOrder(order_id, call.owner, call.side, call.price, rests))
        return fills, rests, yielded, False

    def levels(self, side: OrderSide) -> dict[int, int]:
        totals: dict[int, int] = {}
        for order in self.resting:
            if order.side is side:
                totals[order.price] = totals.get(order.price, 0) + order.remaining
        return totals


def replace_order(order: RestingOrder) -> RestingOrder:
    return RestingOrder(order.order_id, order.owner, order.side, order.price, order.remaining)


@dataclass(frozen=True)
class Call:
    side: OrderSide
    lots: int
    price: int | None
    time_in_force: OrderTimeInForce
    post_only: bool
    owner: int
    self_trade: SelfTrade


@dataclass(frozen=True)
class Withdraw:
    pick: int
    cut: int


CALLS = st.builds(
    Call,
    st.sampled_from(OrderSide),
    st.integers(1, 9),
    st.integers(95, 105) | st.none(),
    st.sampled_from(OrderTimeInForce),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from(SelfTrade),
).map(
    lambda call: replace(
        call, post_only=call.post_only and call.price is not None and call.time_in_force is OrderTimeInForce.GTC
    )
)
STEPS = st.lists(CALLS | CALLS | CALLS | st.builds(Withdraw, st.integers(0, 50), st.integers(0, 3)), max_size=60)


@examples(300)
@given(STEPS)
def test_the_engine_is_the_naive_model(steps: list[Call | Withdraw]) -> None:
    engine, model = new_engine(), Naive()
    told: dict[OrderSide, dict[int, int]] = {BID: {}, ASK: {}}
    last_id = engine.update_id
    next_id = 1
    for step in steps:
        before = sum(order.remaining for order in model.resting)
        if isinstance(step, Withdraw):
            if not model.resting:
                continue
            order = model.resting[step.pick % len(model.resting)]
            if step.cut and order.remaining > step.cut:
                order.remaining -= step.cut
                outcome = engine.reduce(order.order_id, order.remaining)
            else:
                model.resting.remove(order)
                outcome = engine.cancel(order.order_id)
                assert outcome.removed == (order,)
        else:
            fills, rests, yielded, refused = model.submit(next_id, step)
            outcome = engine.submit(
                step.side,
                step.lots,
                step.price,
                time_in_force=step.time_in_force,
                post_only=step.post_only,
                owner=step.owner,
                self_trade=step.self_trade,
            )
            assert outcome.order_id == next_id
            next_id += 1
            assert [(fill.maker_id, fill.price, fill.lots) for fill in outcome.fills] == fills
            assert (outcome.resting, [order.order_id for order in outcome.removed]) == (rests, yielded)
            assert (outcome.refusal is not None) is refused
            traded = sum(fill.lots for fill in outcome.fills)
            # Nothing is lost and nothing is made up: what came in traded, rests or was given up.
            assert step.lots == traded + outcome.resting + outcome.given_up
            withdrawn = sum(order.remaining for order in outcome.removed)
            assert sum(order.remaining for order in engine.orders.values()) == before - traded - withdrawn + outcome.resting
        for change in outcome.changes:
            if change.lots:
                told[change.side][change.price] = change.lots
            else:
                assert told[change.side].pop(change.price)
        if outcome.update_id is None:
            assert not outcome.changes
        else:
            last_id += 1
            assert outcome.update_id == engine.update_id == last_id
        for side in OrderSide:
            levels = engine.levels(side)
            # Whoever follows the changes holds the same book.
            assert dict(levels) == model.levels(side) == told[side]
            prices = [price for price, _ in levels]
            assert prices == sorted(prices, reverse=side is BID) == list(engine.prices(side))[:: -1 if side is BID else 1]
        bid, ask = engine.best(BID), engine.best(ASK)
        assert bid is None or ask is None or bid[0] < ask[0]


def test_a_fill_names_both_orders_and_owners() -> None:
    engine = new_engine()
    engine.submit(ASK, 4, 10, owner=5)
    assert engine.submit(BID, 1, None, owner=6).fills == (
        Match(
            trade_id=100,
            price=10,
            lots=1,
            taker_side=BID,
            taker_id=2,
            taker_owner=6,
            maker_id=1,
            maker_owner=5,
            maker_remaining=3,
        ),
    )

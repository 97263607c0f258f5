"""A new tick or step is noticed where it shows, looked up where no cache answers, and taken up once."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest
from hypothesis import strategies as st

from backpack_proto.askers import Caller, order_markets, rules_refused
from backpack_proto.decoding import decode_json
from backpack_proto.errors import ApiError
from backpack_proto.exchange.market.listings import LISTINGS, Listing, market_object
from backpack_proto.inputs import Arguments
from backpack_proto.rest.market_rules import (
    DOUBT_US,
    UNEXPLAINED_US,
    LevelsSeen,
    MarketChanged,
    MarketRules,
    MarketRulesInput,
    MarketRulesOutput,
    RulesDoubted,
    RulesRefused,
)
from backpack_proto.rest.markets import Market, Markets
from backpack_proto.rest.results.orders import OrderRefused
from backpack_proto.streams.levels import Level
from backpack_proto.testing.laws import FakeClock, check_machine
from hypothesis_profiles import examples

SYMBOL = "SOL_USDC"


def market(*, ticks: int = 1, lots: int = 1, symbol: str = SYMBOL) -> Market:
    listing: Listing = msgspec.structs.replace(LISTINGS[0], symbol=symbol, ticks_per_price=ticks, lots_per_quantity=lots)
    return decode_json(msgspec.json.encode(market_object(listing)), Market, "market")


FINE, COARSE = market(), market(ticks=10)


def seen(price: str, quantity: str = "1", *, levels: int = 3) -> LevelsSeen:
    """A snapshot whose last ask is the one that is looked for."""
    plain = [Level(str(number), "1") for number in range(1, levels)]
    return LevelsSeen(SYMBOL, plain, [*plain, Level(price, quantity)])


class Driven:
    def __init__(self, *known: Market) -> None:
        self.clock = FakeClock()
        self.rules = MarketRules()
        assert self.give(Markets(known)) == []

    def give(self, *inputs: MarketRulesInput) -> list[MarketRulesOutput]:
        return [output for given in inputs for output in self.rules.handle(given, self.clock.now)]


def changed(previous: Market, now: Market) -> MarketChanged:
    return MarketChanged(symbol=SYMBOL, market=now, previous=previous)


@pytest.mark.parametrize("level", [seen("99.12"), seen("99.1", "0.001"), seen("0.0000000001"), seen("9" * 20 + "." + "9" * 28)])
def test_a_level_beside_the_grid_is_a_doubt_and_the_market_that_is_looked_up_is_taken_up(level: LevelsSeen) -> None:
    driven = Driven(COARSE)
    assert driven.give(seen("99.1")) == []
    assert driven.give(level) == [RulesDoubted(SYMBOL)]
    assert driven.give(FINE) == [changed(COARSE, FINE)]
    assert driven.give(FINE, seen("99.12"), Markets([FINE])) == []


def test_a_market_is_doubted_once_a_minute_at_most() -> None:
    driven = Driven(COARSE)
    assert driven.give(seen("99.12"), seen("99.12"), RulesRefused(SYMBOL)) == [RulesDoubted(SYMBOL)]
    driven.clock.advance(DOUBT_US - 1)
    assert driven.give(seen("99.12")) == []
    driven.clock.advance(1)
    assert driven.give(seen("99.12")) == [RulesDoubted(SYMBOL)]


def test_old_orders_beside_a_new_grid_are_not_asked_about_again_and_again() -> None:
    driven = Driven(COARSE)
    assert driven.give(seen("99.12"), COARSE) == [RulesDoubted(SYMBOL)]
    driven.clock.advance(UNEXPLAINED_US - 1)
    assert driven.give(seen("99.12")) == []
    assert driven.give(RulesRefused(SYMBOL)) == [RulesDoubted(SYMBOL)], "an order that is refused is another matter"
    driven.clock.advance(DOUBT_US)
    assert driven.give(seen("99.12")) == [RulesDoubted(SYMBOL)]


def test_a_look_up_that_nobody_asked_for_because_of_levels_says_nothing_of_them() -> None:
    driven = Driven(COARSE)
    assert driven.give(COARSE, seen("99.12")) == [RulesDoubted(SYMBOL)]


def test_a_list_is_a_doubt_only_for_it_may_come_from_a_cache() -> None:
    driven = Driven(COARSE)
    assert driven.give(Markets([FINE])) == [RulesDoubted(SYMBOL)]
    assert driven.give(FINE) == [changed(COARSE, FINE)]
    driven.clock.advance(DOUBT_US)
    assert driven.give(Markets([COARSE])) == [RulesDoubted(SYMBOL)], "the list is older than the answer"
    assert driven.give(FINE) == [], "and did not count"


def test_a_list_that_agrees_is_what_is_known_and_one_that_differs_is_not() -> None:
    driven = Driven(COARSE)
    closed = msgspec.structs.replace(COARSE, order_book_state="Closed")
    driven.give(Markets([closed]))
    assert driven.rules.known(SYMBOL) == closed
    driven.give(Markets([FINE]))
    assert driven.rules.known(SYMBOL) == closed
    assert driven.rules.known("ETH_USDC") is None


def test_each_rule_counts_and_the_state_of_the_market_does_not() -> None:
    driven = Driven(COARSE)
    other = msgspec.structs.replace(COARSE, order_book_state="PostOnly")
    assert driven.give(other) == []
    filters = msgspec.structs.replace(COARSE.filters.quantity, min_quantity=Decimal(5))
    larger = msgspec.structs.replace(COARSE, filters=msgspec.structs.replace(COARSE.filters, quantity=filters))
    assert driven.give(larger) == [changed(other, larger)]


def test_markets_that_are_not_known_are_learned_in_silence() -> None:
    driven = Driven()
    assert driven.give(seen("99.12"), RulesRefused(SYMBOL), FINE) == []
    assert driven.give(seen("99.123")) == [RulesDoubted(SYMBOL)]


@pytest.mark.parametrize("size", ["0", "-1"])
def test_a_market_without_a_usable_tick_has_no_grid(size: str) -> None:
    price = msgspec.structs.replace(FINE.filters.price, tick_size=Decimal(size))
    odd = msgspec.structs.replace(FINE, filters=msgspec.structs.replace(FINE.filters, price=price))
    assert Driven(odd).give(seen("99.123")) == []


def refused(code: str, message: str = "") -> ApiError:
    return ApiError(status=400, code=code, message=message, endpoint="POST /api/v1/order")


ORDER: Arguments = {"symbol": SYMBOL, "price": "1"}
BATCH: Arguments = {"orders": [{"symbol": "A"}, {"symbol": "B"}, {"symbol": "B"}, {"symbol": "C"}]}


@pytest.mark.parametrize(
    ("parameters", "result", "doubted"),
    [
        (ORDER, refused("INVALID_PRICE"), [SYMBOL]),
        (ORDER, refused("INVALID_QUANTITY"), [SYMBOL]),
        (ORDER, refused("INVALID_CLIENT_REQUEST", "Price decimal too long"), [SYMBOL]),
        (ORDER, refused("INVALID_CLIENT_REQUEST", "Request has expired"), []),
        (ORDER, refused("INSUFFICIENT_FUNDS"), []),
        (ORDER, object(), []),
        ({}, refused("INVALID_PRICE"), [""]),
        (BATCH, (1, *(OrderRefused(code="INVALID_PRICE"),) * 2, OrderRefused(code="NO")), ["B"]),
        (BATCH, refused("NO"), []),
    ],
)
def test_orders_that_are_refused_for_price_or_quantity_say_which_market_is_in_doubt(
    parameters: Arguments, result: object, doubted: Sequence[str]
) -> None:
    caller = Caller(1, "place_order", order_markets(parameters))
    assert rules_refused(caller, result) == [RulesRefused(symbol) for symbol in doubted]


INPUTS: st.SearchStrategy[MarketRulesInput] = st.one_of(
    st.builds(market, ticks=st.sampled_from([1, 10]), symbol=st.sampled_from("AB")),
    st.builds(lambda one: Markets([one]), st.builds(market, ticks=st.sampled_from([1, 10]), symbol=st.sampled_from("AB"))),
    st.builds(RulesRefused, st.sampled_from("AB")),
    st.builds(LevelsSeen, st.sampled_from("AB"), st.just([Level("1.01", "1")]), st.just([])),
)


@pytest.mark.hypothesis
def test_market_rules_keep_the_machine_laws() -> None:
    check_machine(MarketRules, INPUTS, max_gap_us=2 * DOUBT_US, max_examples=examples(100).max_examples)

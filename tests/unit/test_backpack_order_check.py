"""Every rule of an order against the table of accepted and refused orders, which the simulated exchange has to agree with too."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backpack_proto.errors import ConfigurationError, LocalProtocolError, OrderDoesNotFit
from backpack_proto.rest.markets import Market
from backpack_proto.rest.new_order import NewOrder, Side
from backpack_proto.rest.violations import Violation
from backpack_proto.streams.levels import Level
from hypothesis_profiles import examples
from order_table import EXPIRED, MARKETS, ROWS, Desk, known_of, members_of, order_of

D = Decimal
SPOT, PERPETUAL = MARKETS["SOL_USDC"], MARKETS["SOL_USDC_PERP"]
LISTED = {"SOL_USDC", "SOL_USDC_PERP", "USDT_USDC", "HNT_USDC"}
"""The markets of the table that the simulated exchange lists."""


def named(row: dict[str, Any]) -> str:
    return str(row["name"])


def asked_of_the_exchange() -> list[Any]:
    rows = []
    for row in ROWS:
        if row["market"] in LISTED:
            reason = row.get("sandbox", "")
            marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
            rows.append(pytest.param(row, id=row["name"], marks=marks))
    return rows


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_the_check_accepts_and_refuses_what_the_table_says(row: dict[str, Any]) -> None:
    violations = MARKETS[row["market"]].check_order(order_of(row), **known_of(row))
    assert not violations if row["accepted"] else violations
    assert sorted({one.parameter for one in violations}) == row.get("wrong", [])
    for parameter, valid in row.get("valid", {}).items():
        (found,) = [one for one in violations if one.parameter == parameter]
        assert [str(value) for value in found.valid] == valid
        assert valid[-1] in found.reason


@pytest.mark.parametrize("row", asked_of_the_exchange())
def test_the_simulated_exchange_accepts_and_refuses_what_the_table_says(row: dict[str, Any]) -> None:
    symbol = row["market"]
    desk = Desk(symbol)
    desk.hold(symbol, D(row.get("known", {}).get("position", 0)))
    last_price = desk.last_price(symbol) if "last_price" in row.get("known", {}) else None
    refused = desk.place(symbol, members_of(row, last_price))
    assert not refused if row["accepted"] else refused


@pytest.mark.parametrize("symbol", sorted(LISTED))
def test_the_table_has_the_rules_that_the_simulated_exchange_shows(symbol: str) -> None:
    listed, known = Desk(symbol).market(symbol), MARKETS[symbol]
    assert (listed.order_book_state, listed.market_type) == (known.order_book_state, known.market_type)
    assert listed.filters.price.grid == known.filters.price.grid
    assert listed.filters.quantity == known.filters.quantity
    for member in ("min_multiplier", "max_multiplier", "mean_mark_price_band", "mean_premium_band", "discovery_bound_band"):
        assert getattr(listed.filters.price, member) == getattr(known.filters.price, member)


def test_every_row_has_a_source_and_a_name_of_its_own() -> None:
    assert all(row["source"] for row in ROWS)
    assert len({row["name"] for row in ROWS}) == len(ROWS) > 100
    assert {row["market"] for row in ROWS} == set(MARKETS)


def test_the_document_names_every_rule() -> None:
    document = (Path(__file__).parents[2] / "docs/orders.md").read_text()
    broken = {one.rule for row in ROWS for one in MARKETS[row["market"]].check_order(order_of(row), **known_of(row))}
    assert len(broken) > 15
    assert [rule for rule in sorted(broken) if f"`{rule}`" not in document] == []


# Words.


def test_one_error_names_all_that_is_wrong_with_the_next_valid_values() -> None:
    order = NewOrder.limit("SOL-USDC", "Bid", price="98.505", quantity="0.001", reduce_only=True)
    with pytest.raises(OrderDoesNotFit) as caught:
        SPOT.checked_order(order, position=0)
    assert str(caught.value) == (
        "does not fit the rules of SOL_USDC: "
        "(1) reduce_only: True on SOL_USDC, a spot market, which has no positions; "
        "(2) price: 98.505 is not on the tick 0.01; the next valid prices are 98.50 and 98.51; "
        "(3) quantity: 0.001 is below the minimum 0.01; the next valid quantity is 0.01"
    )
    assert [parameter for parameter, _ in caught.value.violations] == ["reduce_only", "price", "quantity"]
    assert isinstance(caught.value, ConfigurationError)
    assert isinstance(caught.value, LocalProtocolError)


def test_an_order_that_fits_is_returned() -> None:
    order = NewOrder.limit("SOL-USDC-PERP", "Ask", price=100, quantity="1.5")
    assert PERPETUAL.checked_order(order, best_bid="99", last_price=D("99.08"), position=0) is order
    assert PERPETUAL.check_order(order) == ()


def test_an_order_for_another_market_is_not_held_to_these_rules_in_silence() -> None:
    (violation,) = SPOT.check_order(NewOrder.market("BTC_USDC", "Bid", quantity=1))
    assert str(violation) == "symbol: 'BTC_USDC' is checked against the rules of SOL_USDC"


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        ({"best_bid": 99.5}, "best_bid: a Decimal, an int or text in plain digits, got 99.5 (float); a float is not exact"),
        ({"mark_price": True}, "mark_price: a Decimal, an int or text in plain digits, got True (bool)"),
        ({"position": 1.5}, "position: the net quantity, a Decimal or an int, negative where it is short, got 1.5 (float)"),
        ({"position": True}, "position: the net quantity"),
        ({"asks": [(D(1), D(2))]}, "asks: levels, best first, such as client.book(symbol).asks(), got a list"),
        ({"best": "1"}, "check_order takes: one of best_bid, best_ask, last_price"),
    ],
)
def test_a_fact_that_cannot_be_used_is_refused(known: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SPOT.check_order(NewOrder.market("SOL_USDC", "Bid", quantity=1), **known)
    assert str(caught.value).startswith(problem)


def test_what_is_no_order_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^order: a NewOrder, such as NewOrder.limit\(...\), got a dict$"):
        SPOT.check_order({"symbol": "SOL_USDC"})  # type: ignore[arg-type]  # the point


def test_what_is_unknown_is_not_held_against_an_order() -> None:
    reducing = NewOrder.market("SOL_USDC_PERP", "Ask", quantity=1, reduce_only=True)
    resting = NewOrder.limit("SOL_USDC_PERP", "Bid", price=1000, quantity=1, post_only=True)
    assert PERPETUAL.check_order(reducing, position=None) == PERPETUAL.check_order(resting, best_ask=None) == ()
    deep = NewOrder.market("SOL_USDC_PERP", "Bid", quantity=100)
    assert PERPETUAL.check_order(deep, asks=[Level("100", "1")]) == (), "nobody knows what lies behind the last level"


def test_a_trigger_is_not_held_to_what_moves_until_it_fires() -> None:
    order = NewOrder.trigger(
        "SOL_USDC_PERP", "Bid", trigger_price=200, trigger_quantity="100%", price=300, reduce_only=True, client_id=1
    )
    known: dict[str, Any] = {"last_price": 99, "mark_price": 99, "best_ask": 99, "position": 0}
    assert PERPETUAL.check_order(order, **known) == ()


def test_a_violation_travels() -> None:
    (violation,) = SPOT.check_order(NewOrder.limit("SOL_USDC", "Bid", price="0.001", quantity=1))
    assert msgspec.json.decode(msgspec.json.encode(violation), type=Violation) == violation
    assert (violation.rule, violation.valid) == ("min_price", (D("0.01"),))


# Random orders.

prices = st.decimals(min_value=0, max_value=400, places=4, allow_nan=False, allow_infinity=False).map(abs)
quantities = st.decimals(min_value=0, max_value=20, places=4, allow_nan=False, allow_infinity=False).map(abs)
sides = st.sampled_from(["Bid", "Ask"])
markets = st.sampled_from([SPOT, PERPETUAL, MARKETS["USDT_USDC"], MARKETS["CAPPED"]])


@given(market=markets, side=sides, price=prices, quantity=quantities)
def test_every_rounded_order_fits(market: Market, side: Side, price: Decimal, quantity: Decimal) -> None:
    try:
        rounded = market.round_price(price, side=side), market.round_quantity(quantity)
    except OrderDoesNotFit:  # too small or too large to be rounded
        assert market.check_order(NewOrder.limit(market.symbol, side, price=price, quantity=quantity))
        return
    order = NewOrder.limit(market.symbol, side, price=rounded[0], quantity=rounded[1])
    assert market.check_order(order) == ()


@given(market=markets, side=sides, price=prices, quantity=quantities)
def test_an_order_with_the_valid_values_of_its_violations_fits(
    market: Market, side: Side, price: Decimal, quantity: Decimal
) -> None:
    order = NewOrder.limit(market.symbol, side, price=price, quantity=quantity)
    for pick in (0, -1):
        mended = {one.parameter: one.valid[pick] for one in market.check_order(order)}
        assert market.check_order(msgspec.structs.replace(order, **mended)) == ()


AGREED = ("SOL_USDC", "SOL_USDC_PERP", "USDT_USDC")
DESK = Desk(*AGREED)
LAST_PRICES = {symbol: DESK.last_price(symbol) for symbol in AGREED}


@examples(200)
@given(
    market=st.sampled_from(AGREED).map(MARKETS.__getitem__),
    side=sides,
    # Around the bounds of the multipliers, and mostly near the grid.
    price=st.one_of(prices, st.integers(0, 30_000).map(lambda ticks: D(ticks) / 100)),
    quantity=st.one_of(quantities, st.integers(0, 500).map(lambda lots: D(lots) / 100)),
    post_only=st.sampled_from([None, False, True]),
    time_in_force=st.sampled_from([None, "GTC", "IOC"]),
    reduce_only=st.sampled_from([None, False]),
    near=st.one_of(st.none(), st.integers(-2, 2)),
)
def test_check_and_simulated_exchange_agree_on_random_orders(
    market: Market, side: Side, price: Decimal, quantity: Decimal, near: int | None, **more: Any
) -> None:
    """An order whose book is as it was: one that would trade is left out, for what it did would be known to the next one."""
    bids, asks, _ = DESK.exchange.levels(market.symbol)
    best_bid, best_ask = bids[0][0], asks[0][0]
    if near is not None:  # so many ticks from the best price of the other side
        price = (best_ask if side == "Bid" else best_bid) + near * market.tick_size
    crosses = price >= best_ask if side == "Bid" else price <= best_bid
    assume(not crosses or more["post_only"])
    order = {"side": side, "order_type": "Limit", "price": f"{price:f}", "quantity": f"{quantity:f}", **more}
    order = {name: value for name, value in order.items() if value is not None}
    # Nothing has traded since.
    known: dict[str, Any] = {"best_bid": best_bid, "best_ask": best_ask, "last_price": LAST_PRICES[market.symbol]}
    violations = market.check_order(NewOrder(symbol=market.symbol, **order), **known)
    refused = DESK.place(market.symbol, order)
    assume("INSUFFICIENT" not in refused)  # that is about the account
    assert bool(refused.replace(EXPIRED, "")) == bool(violations), (refused, violations)

"""Rounding to tick and step: exact, on the grid, never worse than asked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backpack_proto.errors import ConfigurationError, OrderDoesNotFit
from backpack_proto.rest.grid import Grid, written
from backpack_proto.rest.markets import Market
from order_table import MARKETS

D = Decimal
MARKET = MARKETS["SOL_USDC"]
CAPPED = MARKETS["CAPPED"]


def market_of(tick: str, step: str) -> Market:
    """A market of a grid without bounds of its own."""
    price = replace(MARKET.filters.price, tick_size=D(tick), min_price=D(0))
    quantity = replace(MARKET.filters.quantity, step_size=D(step), min_quantity=D(0))
    return replace(MARKET, filters=replace(MARKET.filters, price=price, quantity=quantity))


@pytest.mark.parametrize(
    ("tick", "price", "bid", "ask", "nearest"),
    [
        ("0.01", "98.505", "98.50", "98.51", "98.50"),
        ("0.01", "98.506", "98.50", "98.51", "98.51"),
        ("0.01", "98.5", "98.50", "98.50", "98.50"),
        ("0.01", 98, "98.00", "98.00", "98.00"),
        ("0.01", D("98.500000"), "98.50", "98.50", "98.50"),
        ("0.5", "98.6", "98.5", "99.0", "98.5"),
        ("0.25", "98.3", "98.25", "98.50", "98.25"),
        ("25", "99", "75", "100", "100"),
        ("10", "98.5", "90", "100", "100"),
        ("1E+1", "98.5", "90", "100", "100"),
        ("0.0000001", "0.00000015", "0.0000001", "0.0000002", "0.0000001"),
        ("0.010", "98.505", "98.500", "98.510", "98.500"),
    ],
)
def test_a_price_is_rounded_to_the_tick_and_its_decimals(tick: str, price: Any, bid: str, ask: str, nearest: str) -> None:
    market = market_of(tick, "1")
    rounded = [market.round_price(price, side="Bid"), market.round_price(price, side="Ask")]
    assert [f"{one:f}" for one in rounded] == [bid, ask]
    assert f"{market.round_price(price, side='Bid', rounding='nearest'):f}" == nearest
    assert market.round_price(price, side="Bid", rounding="up") == rounded[1]
    assert market.round_price(price, side="Ask", rounding="down") == rounded[0]


def test_the_middle_between_two_ticks_goes_to_the_safe_side() -> None:
    assert MARKET.round_price("98.505", side="Bid", rounding="nearest") == D("98.50")
    assert MARKET.round_price("98.505", side="Ask", rounding="nearest") == D("98.51")
    assert MARKET.round_quantity("1.005", rounding="nearest") == D("1.00")


def test_a_quantity_is_rounded_down_unless_asked_otherwise() -> None:
    assert str(MARKET.round_quantity("1.239")) == "1.23"
    assert str(MARKET.round_quantity(2)) == "2.00"
    assert str(MARKET.round_quantity(D("1.231"), rounding="up")) == "1.24"


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (1.5, "1.5 (float); a float is not exact: give text, as in '0.1'"),
        (True, "True (bool)"),
        ("1e2", "'1e2'"),
        ("-1", "'-1'"),
        (-1, "-1 (int)"),
        (D("NaN"), "NaN (Decimal)"),
        (D(-1), "-1 (Decimal)"),
        (D("1E+200"), "1E+200 (Decimal)"),
        pytest.param(10**5000, "a long number (int)", id="a number that Python does not write out"),
        ("9" * 200, "text of 200 characters"),
        (None, "None"),
    ],
)
def test_what_is_no_exact_amount_is_refused(value: Any, got: str) -> None:
    shape = f"a Decimal, an int or text in plain digits, got {got}"
    with pytest.raises(ConfigurationError) as caught:
        MARKET.round_price(value, side="Bid")
    assert str(caught.value) == f"price: {shape}"
    with pytest.raises(ConfigurationError) as caught:
        MARKET.round_quantity(value)
    assert str(caught.value) == f"quantity: {shape}"


def test_other_words_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^side: one of Bid, Ask, got 'buy'; did you mean Bid\?$"):
        MARKET.round_price(1, side="buy")  # type: ignore[arg-type]  # the point
    with pytest.raises(ConfigurationError, match=r"^rounding: one of down, up, nearest, got 'floor'$"):
        MARKET.round_price(1, side="Bid", rounding="floor")  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize(
    ("market", "price", "side", "problem"),
    [
        (MARKET, "0.004", "Bid", "0.004 becomes 0.00, which is below the minimum 0.01; the next valid price is 0.01"),
        (MARKET, 0, "Ask", "0 becomes 0.00, which is below the minimum 0.01; the next valid price is 0.01"),
        (CAPPED, "110.001", "Ask", "110.001 becomes 110.01, which is above the maximum 110; the next valid price is 110.00"),
        (CAPPED, "89.999", "Bid", "89.999 becomes 89.99, which is below the minimum 90; the next valid price is 90.00"),
        (market_of("0.01", "1"), "0.004", "Bid", "0.004 becomes 0.00, which is not above zero; the next valid price is 0.01"),
    ],
)
def test_a_price_that_leaves_the_range_is_refused_with_the_next_valid_one(
    market: Market, price: Any, side: Any, problem: str
) -> None:
    with pytest.raises(OrderDoesNotFit) as caught:
        market.round_price(price, side=side)
    assert caught.value.violations == (("price", problem),)


def test_a_quantity_that_leaves_the_range_is_refused() -> None:
    with pytest.raises(OrderDoesNotFit, match=r"quantity: 50.01 becomes 50.01, which is above the maximum 50; the next valid"):
        CAPPED.round_quantity("50.01")
    with pytest.raises(OrderDoesNotFit, match=r"quantity: 0.009 becomes 0.00, which is below the minimum 0.01"):
        MARKET.round_quantity("0.009")


def test_a_market_without_a_usable_tick_has_no_grid() -> None:
    market = market_of("0", "0")
    assert market.round_price("98.123456789", side="Bid") == D("98.123456789")
    assert market.filters.price.grid.holds(D("98.123456789"))


def test_a_range_without_a_valid_amount_offers_none() -> None:
    assert Grid(D(10), D(11), D(19)).around(D(15)) == ()


def test_a_long_amount_is_not_written_out() -> None:
    assert written(D("1E-90")) == "a number of 92 characters"


amounts = st.decimals(min_value=0, max_value=10**20, allow_nan=False, allow_infinity=False).filter(lambda d: not d.is_signed())
increments = st.tuples(st.integers(1, 10**6), st.integers(-28, 3)).map(lambda pair: D(pair[0]).scaleb(pair[1]))


@given(value=amounts, increment=increments)
def test_rounding_is_on_the_grid_never_beyond_and_idempotent(value: Decimal, increment: Decimal) -> None:
    grid = Grid(increment, D(0))
    down, up = grid.down(value), grid.up(value)
    assert grid.holds(down)
    assert grid.holds(up)
    assert down <= value <= up
    assert grid.holds(value) == (down == value == up)
    nearest = grid.nearest(value, from_the_middle_up=True)
    assert nearest in (down, up)
    for one in (down, up):
        assert grid.down(one) == grid.up(one) == grid.nearest(one, from_the_middle_up=False) == one
    exponent = increment.as_tuple().exponent
    assert isinstance(exponent, int)
    assert down.as_tuple().exponent == up.as_tuple().exponent == min(0, exponent)


@given(low=amounts, high=amounts, increment=increments)
def test_rounding_keeps_the_order(low: Decimal, high: Decimal, increment: Decimal) -> None:
    grid = Grid(increment, D(0))
    low, high = sorted((low, high))
    assert grid.down(low) <= grid.down(high)
    assert grid.up(low) <= grid.up(high)
    assert grid.nearest(low, from_the_middle_up=False) <= grid.nearest(high, from_the_middle_up=False)


@given(value=amounts, increment=increments, minimum=amounts, maximum=amounts)
def test_the_amounts_around_a_value_are_allowed(value: Decimal, increment: Decimal, minimum: Decimal, maximum: Decimal) -> None:
    grid = Grid(increment, minimum, maximum)
    around = grid.around(value)
    assert all(grid.holds(one) and not grid.outside(one) for one in around)
    assert list(around) == sorted(set(around))
    if grid.holds(value) and not grid.outside(value):
        assert around == (value,)

"""The margin of an account of the simulated exchange: the figures of its answers add up, and are what the formulas say."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.exchange import CloseMarket
from backpack_proto.exchange.account.margin import initial_fraction, maintenance_fraction
from backpack_proto.exchange.market.listings import LISTINGS, market_object
from exchange_trader import Trader
from hypothesis_profiles import examples

SOL, BTC = "SOL_USDC_PERP", "BTC_USDC_PERP"
ONE = 10**18


def figures(trader: Trader) -> tuple[dict[str, Decimal | None], list[dict[str, Any]], list[dict[str, Any]]]:
    row = trader.get("/api/v1/capital/collateral")
    collateral = row.pop("collateral")
    sums = {name: None if value is None else Decimal(value) for name, value in row.items()}
    return sums, collateral, trader.get("/api/v1/position")


def check(trader: Trader) -> None:
    """Compare the answers with one another, by the formulas of the module's docstring."""
    row = trader.get("/api/v1/capital/collateral")
    positions = {position["symbol"]: position for position in trader.get("/api/v1/position")}
    money = {name: Decimal(value) for name, value in row.items() if isinstance(value, str)}
    with localcontext() as context:
        context.prec = 60
        values = [Decimal(asset["collateralValue"]) for asset in row["collateral"]]
        assert money["assetsValue"] == sum(values)
        for asset in row["collateral"]:
            notional = Decimal(asset["totalQuantity"]) * Decimal(asset["assetMarkPrice"])
            assert abs(Decimal(asset["balanceNotional"]) - notional) < Decimal("1e-17")
            value = Decimal(asset["balanceNotional"]) * Decimal(asset["collateralWeight"])
            assert abs(Decimal(asset["collateralValue"]) - value) < Decimal("1e-17")
            parts = (asset["availableQuantity"], asset["openOrderQuantity"], asset["lendQuantity"])
            assert Decimal(asset["totalQuantity"]) == sum(map(Decimal, parts))
        pnl = sum((Decimal(position["pnlUnrealized"]) for position in positions.values()), Decimal(0))
        assert money["pnlUnrealized"] == pnl
        assert money["netEquity"] == money["assetsValue"] - money["liabilitiesValue"] + pnl + money["unsettledEquity"]
        assert money["netEquityAvailable"] == max(0, money["netEquity"] - money["netEquityLocked"])
        exposure = money["netExposureFutures"]
        assert exposure >= sum(Decimal(position["netExposureNotional"]) for position in positions.values())
        if exposure:
            assert abs(Decimal(row["marginFraction"]) * exposure - money["netEquity"]) < exposure / 10**17
        else:
            assert row["marginFraction"] is None
        for position in positions.values():
            check_position(position, list(positions.values()), money["netEquity"])


def check_position(position: dict[str, Any], positions: list[dict[str, Any]], equity: Decimal) -> None:
    quantity, mark = Decimal(position["netQuantity"]), Decimal(position["markPrice"])
    assert abs(quantity * mark - Decimal(position["netCost"]) - Decimal(position["pnlUnrealized"])) < Decimal("1e-6")
    assert Decimal(position["netExposureNotional"]) == Decimal(position["netExposureQuantity"]) * mark
    price = Decimal(position["estLiquidationPrice"])
    at_mark = {row["symbol"]: Decimal(row["markPrice"]) for row in positions}
    at_price = at_mark | {position["symbol"]: price}

    def maintenance(marks: dict[str, Decimal]) -> Decimal:
        return sum(
            (abs(Decimal(row["netQuantity"])) * marks[row["symbol"]] * Decimal(row["mmf"]) for row in positions), Decimal(0)
        )

    left = equity + quantity * (price - mark) - maintenance(at_price)
    if price:
        assert abs(left) < Decimal("1e-9"), "there the equity is just what has to be kept"
    else:
        assert left >= 0, "no price is low enough"


ORDERS = st.lists(
    st.tuples(
        st.sampled_from([SOL, BTC, "SOL_USDC"]), st.sampled_from(["Bid", "Ask"]), st.integers(1, 40_000), st.integers(-20, 200)
    ),
    min_size=1,
    max_size=8,
)
DECIMALS = {SOL: (2, 2), BTC: (1, 5), "SOL_USDC": (2, 2)}


@examples(25)
@given(ORDERS, st.integers(0, 2))
def test_the_figures_of_an_account_add_up(orders: list[tuple[str, str, int, int]], seed: int) -> None:
    trader = Trader(seed=seed, speed=1.0)
    for symbol, side, lots, away in orders:
        prices, quantities = DECIMALS[symbol]
        best = trader.best(symbol)[side == "Ask"]
        price = best + Decimal(away * (1 if side == "Ask" else -1)).scaleb(-prices)
        trader.order(symbol, side, f"{Decimal(lots).scaleb(-quantities):f}", f"{price:f}")
        trader.run(700_000)
        check(trader)


def test_a_position_and_an_order_take_their_margin_from_the_buying_power() -> None:
    trader = Trader(deposits={"USDC": Decimal(10_000)})
    trader.placed(SOL, "Bid", "100")
    trader.run(1_000_000)
    check(trader)
    (position,) = trader.get("/api/v1/position")
    money, _, _ = figures(trader)
    notional = 100 * Decimal(position["markPrice"])
    assert (money["netExposureFutures"], position["imf"], position["mmf"]) == (notional, "0.1", "0.0125")
    assert money["netEquityLocked"] == notional / 10
    # Worth 11 times the equity in all: 100 times the price more is covered, not 1,000 times.
    assert trader.refused(SOL, "Bid", "1000", "99") == ("INSUFFICIENT_MARGIN", "Insufficient margin")
    trader.placed(SOL, "Bid", "100", "90")
    more, _, (row,) = figures(trader)
    assert (row["netExposureQuantity"], more["netExposureFutures"]) == ("200", notional * 2)
    assert money["netEquityAvailable"] - more["netEquityAvailable"] == notional / 10  # type: ignore[operator]
    # An order that can only make the position smaller needs no margin.
    trader.placed(SOL, "Ask", "100", "120")
    assert figures(trader)[0]["netEquityAvailable"] == more["netEquityAvailable"]


def test_the_fractions_grow_with_the_root_of_the_exposure() -> None:
    rules = next(market_object(listing) for listing in LISTINGS if listing.perpetual)
    for fraction, function in ((initial_fraction, rules["imfFunction"]), (maintenance_fraction, rules["mmfFunction"])):
        assert isinstance(function, dict)
        base, factor = Decimal(function["base"]), Decimal(function["factor"])
        for notional in (0, 39_999, 4 * 10**6, 9 * 10**8):
            floor = Decimal("0.1") if fraction is initial_fraction else base
            expected = max(floor, base, factor * Decimal(notional).sqrt())
            assert abs(Decimal(fraction(notional * ONE)) / ONE - expected) < Decimal("1e-15")


def test_a_short_is_liquidated_above_its_mark_and_a_long_below() -> None:
    for side, above in (("Ask", True), ("Bid", False)):
        trader = Trader(deposits={"USDC": Decimal(1_500)})
        trader.placed(SOL, side, "100")
        (row,) = trader.get("/api/v1/position")
        assert (Decimal(row["estLiquidationPrice"]) > Decimal(row["markPrice"])) is above
    trader = Trader()
    trader.placed(SOL, "Bid", "1")
    assert trader.get("/api/v1/position")[0]["estLiquidationPrice"] == "0"


def test_a_spot_order_takes_the_haircut_of_what_it_buys_from_the_buying_power() -> None:
    trader = Trader(deposits={"USDC": Decimal(1_000)})
    trader.placed("SOL_USDC", "Bid", "5", "50", postOnly=True)
    money, _, _ = figures(trader)
    assert (money["netEquity"], money["netEquityLocked"], money["netEquityAvailable"]) == tuple(map(Decimal, (1_000, 25, 975)))
    trader.placed(SOL, "Bid", "97", "90", postOnly=True)
    assert trader.refused("SOL_USDC", "Bid", "9", "80") == ("INSUFFICIENT_MARGIN", "Insufficient margin")


@pytest.mark.parametrize("symbol", [SOL])
def test_a_position_of_a_market_that_has_closed_still_needs_its_margin(symbol: str) -> None:
    trader = Trader()
    trader.placed(symbol, "Bid", "100")
    before = figures(trader)[0]
    trader.exchange.handle(CloseMarket(symbol), trader.clock.now)
    assert figures(trader)[0] == before


def test_stock_that_was_bought_counts_as_collateral() -> None:
    trader = Trader(deposits={"AAPL.US": Decimal(10), "NVDA.US": Decimal(1), "ZZZ": Decimal(1)})
    rows = {asset["symbol"]: asset for asset in trader.get("/api/v1/capital/collateral")["collateral"]}
    assert Decimal(300) < Decimal(rows["AAPL.US"]["assetMarkPrice"]) < Decimal(400)
    assert Decimal(rows["NVDA.US"]["collateralValue"]) > 100
    assert rows["ZZZ"]["collateralValue"] == "0"


def test_with_auto_lend_nothing_is_available_once_a_position_is_open_and_the_buying_power_stays() -> None:
    trader = Trader(deposits={"USDC": Decimal(10_000)})
    trader.account.auto_lend = True
    trader.subscribe("account.balanceUpdate")
    trader.placed("SOL_USDC", "Bid", "1", "50", postOnly=True)
    assert trader.get("/api/v1/capital")["USDC"]["available"] == "9950"
    trader.placed(SOL, "Bid", "10")
    check(trader)
    assert trader.told()[-1]["A"] == "0"
    assert trader.get("/api/v1/capital")["USDC"] == {"available": "0", "locked": "50", "staked": "0"}
    money, (usdc,), _ = figures(trader)
    assert (usdc["availableQuantity"], usdc["lendQuantity"]) == ("0", str(trader.account.balances["USDC"].lent))
    assert money["netEquityAvailable"] is not None
    assert money["netEquityAvailable"] > 9_800
    # A spot order takes back what it needs, and so does a loss.
    trader.placed("SOL_USDC", "Bid", "10")
    check(trader)
    assert trader.get("/api/v1/capital")["SOL"]["available"] == "9.995"
    before = trader.account.balances["USDC"]
    trader.placed(SOL, "Ask", "10", reduceOnly=True)
    check(trader)
    after = trader.account.balances["USDC"]
    assert (before.available, after.lent, after.available > 8_000) == (0, 0, True)

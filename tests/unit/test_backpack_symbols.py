from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.account.values import MarginFunction
from backpack_proto.errors import RemoteProtocolError, UnknownSymbol
from backpack_proto.rest.markets import Band, Market, Markets, PremiumBand, parse_markets


def row(symbol: str, base: str, quote: str = "USDC", market_type: str = "SPOT", **more: Any) -> dict[str, Any]:
    """One element of `/markets`, with the explicit nulls of the wire."""
    price = {"tickSize": "0.01", "minPrice": "0.01", "maxPrice": None, "meanMarkPriceBand": None, "meanPremiumBand": None}
    quantity = {"minQuantity": "0.01", "stepSize": "0.02", "maxQuantity": None}
    return {
        "symbol": symbol,
        "baseSymbol": base,
        "quoteSymbol": quote,
        "marketType": market_type,
        "orderBookState": "Open",
        "createdAt": "2025-01-21T06:34:54.691858",
        "visible": True,
        "filters": {"price": price, "quantity": quantity},
        "fundingInterval": None,
        "imfFunction": None,
        **more,
    }


def markets(*rows: dict[str, Any]) -> Markets:
    return parse_markets(json.dumps(rows).encode())


USUAL = (
    row("SOL_USDC", "SOL"),
    row("SOL_USDC_PERP", "SOL", market_type="PERP"),
    row("kPEPE_USDC_PERP", "kPEPE", market_type="PERP"),
    row("AAPL.US_USDC_PERP", "AAPL.US", market_type="PERP"),
    row("FDVEXTD1B_USDC_PREDICTION", "FDVEXTD1B", market_type="PREDICTION"),
    row("SOL_USDC_RFQ", "SOL", market_type="RFQ"),
)
USUAL_NAMES = ["SOL-USDC", "SOL-USDC-PERP", "kPEPE-USDC-PERP", "AAPL.US-USDC-PERP", "FDVEXTD1B-USDC-PREDICTION", "SOL-USDC-RFQ"]

RECORDED = b"""[{"baseSymbol":"SOL","createdAt":"2025-01-21T06:34:54.691858","filters":{"price":{
"borrowEntryFeeMaxMultiplier":"1.01","borrowEntryFeeMinMultiplier":"0.99","discoveryBoundBand":{"maxMultiplier":"1.10","minMultiplier":"0.90"},"maxImpactMultiplier":"1.02",
"maxMultiplier":"2","maxPrice":null,"maxPriceUpdateMultiplier":"1.0025","meanMarkPriceBand":{"maxMultiplier":"1.03",
"minMultiplier":"0.97"},"meanPremiumBand":{"tolerancePct":"0.05"},"minImpactMultiplier":"0.98","minMultiplier":"0.25",
"minPrice":"0.01","minPriceUpdateMultiplier":"0.9975","tickSize":"0.010"},"quantity":{"maxQuantity":"500","minQuantity":"0.1",
"stepSize":"0.02"}},"fundingInterval":3600000,"fundingRateLowerBound":"-150","fundingRateUpperBound":"150","imfFunction":{
"base":"0.02","factor":"0.0001275","type":"sqrt"},"marketType":"PERP","mmfFunction":{"type":"cubic","spice":"3"},
"openInterestLimit":"4000000","orderBookState":"PostOnly","positionLimitWeight":null,"quoteSymbol":"USDC","rwaMarketType":"STOCK",
"symbol":"SOL_USDC_PERP","visible":false}]"""


def test_a_market_has_every_member_of_the_wire_under_a_name_with_its_unit() -> None:
    market = parse_markets(RECORDED)["SOL_USDC_PERP"]
    assert (market.base, market.quote, market.market_type, market.order_book_state) == ("SOL", "USDC", "PERP", "PostOnly")
    assert (market.visible, market.created_us) == (False, 1_737_441_294_691_858)
    assert (market.tick_size, market.step_size) == (Decimal("0.01"), Decimal("0.02"))
    assert (market.min_quantity, market.max_quantity) == (Decimal("0.1"), Decimal(500))
    assert str(market.tick_size) == "0.010"
    assert market.funding_interval_ms == 3_600_000
    assert market.funding_rate_lower_bound_basis_points == -150
    assert market.funding_rate_upper_bound_basis_points == 150
    assert market.imf_function == MarginFunction(kind="sqrt", base=Decimal("0.02"), factor=Decimal("0.0001275"))
    assert market.mmf_function == MarginFunction(kind="cubic")
    assert (market.open_interest_limit, market.position_limit_weight) == (Decimal(4_000_000), None)
    assert market.rwa_market_type == "STOCK"
    price = market.filters.price
    assert (price.min_price, price.max_price, price.min_multiplier, price.max_multiplier) == (
        Decimal("0.01"),
        None,
        Decimal("0.25"),
        Decimal(2),
    )
    assert (price.min_impact_multiplier, price.max_impact_multiplier) == (Decimal("0.98"), Decimal("1.02"))
    assert price.mean_mark_price_band == Band(min_multiplier=Decimal("0.97"), max_multiplier=Decimal("1.03"))
    assert price.mean_premium_band == PremiumBand(tolerance_fraction=Decimal("0.05"))
    assert price.discovery_bound_band == Band(min_multiplier=Decimal("0.90"), max_multiplier=Decimal("1.10"))
    assert (price.borrow_entry_fee_min_multiplier, price.borrow_entry_fee_max_multiplier) == (Decimal("0.99"), Decimal("1.01"))
    assert (price.min_price_update_multiplier, price.max_price_update_multiplier) == (Decimal("0.9975"), Decimal("1.0025"))


def test_both_spellings_lead_to_the_market() -> None:
    known = markets(*USUAL)
    for element, name in zip(USUAL, USUAL_NAMES, strict=True):
        symbol = element["symbol"]
        assert known[symbol] is known[name]
        assert known[symbol].symbol == symbol
        assert known.get(name) is known[symbol]
        assert symbol in known
        assert name in known
        assert known.normalised(symbol) == known.normalised(name) == name
    assert list(known) == [element["symbol"] for element in USUAL]
    assert len(known) == len(USUAL)
    assert "sol-usdc" not in known
    assert known.get("sol-usdc") is None
    assert known == dict(known)
    assert repr(known) == "Markets(6 markets, 0 unreadable)"


def test_names_come_from_the_metadata_not_from_the_id() -> None:
    known = markets(row("X1", "SOL", "EUR", "IPERP"))
    assert known.normalised("X1") == "SOL-EUR-IPERP"
    with pytest.raises(UnknownSymbol):
        known["X1-EUR-IPERP"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SOL_USDT", "SOL_USDC"),
        ("sol_usdc", "SOL_USDC"),
        ("sol-usdc-perp", "SOL-USDC-PERP"),
        ("KPEPE_USDC_PERP", "kPEPE_USDC_PERP"),
    ],
)
def test_an_unknown_symbol_comes_with_close_ones(name: str, hint: str) -> None:
    known = markets(*USUAL)
    with pytest.raises(UnknownSymbol, match=rf"^'{name}' is not a market of the exchange; did you mean {hint}"):
        known[name]


def test_nothing_is_close_to_nonsense() -> None:
    for ask in (markets(*USUAL).__getitem__, markets(*USUAL).normalised, markets().__getitem__):
        with pytest.raises(UnknownSymbol, match=r"^'###' is not a market of the exchange$"):
            ask("###")


def test_of_markets_with_one_name_the_oldest_has_it() -> None:
    rows = [
        row("BTC_USDC_DATED_B", "BTC", market_type="DATED", createdAt="2025-03-01T00:00:00"),
        row("BTC_USDC_DATED_Z", "BTC", market_type="DATED", createdAt="2025-01-01T00:00:00"),
        row("BTC_USDC_DATED_A", "BTC", market_type="DATED", createdAt="2025-03-01T00:00:00"),
    ]
    for seed in range(6):
        Random(seed).shuffle(rows)
        known = markets(*rows)
        assert known["BTC-USDC-DATED"].symbol == "BTC_USDC_DATED_Z"
        assert {symbol: known.normalised(symbol) for symbol in known} == {
            "BTC_USDC_DATED_A": "BTC_USDC_DATED_A",
            "BTC_USDC_DATED_B": "BTC_USDC_DATED_B",
            "BTC_USDC_DATED_Z": "BTC-USDC-DATED",
        }


def test_an_id_that_looks_like_another_markets_name_has_precedence() -> None:
    known = markets(row("SOL_USDC", "SOL"), row("SOL-USDC", "WSOL"))
    assert known["SOL-USDC"].base == "WSOL"
    assert known.normalised("SOL_USDC") == "SOL_USDC"
    assert known.normalised("SOL-USDC") == "WSOL-USDC"


def test_an_id_may_be_its_own_name() -> None:
    assert markets(row("SOL-USDC", "SOL")).normalised("SOL-USDC") == "SOL-USDC"


words = st.text("ABk.1-_", min_size=1, max_size=4)


@given(
    st.lists(st.tuples(words, words, st.sampled_from(["USDC", "U-S"]), st.sampled_from(["SPOT", "PERP", "DATED"])), max_size=8)
)
def test_every_market_can_be_found_by_its_id_and_by_its_name(rows: list[tuple[str, str, str, str]]) -> None:
    known = markets(*(row(*arguments) for arguments in rows))
    names = [known.normalised(symbol) for symbol in known]
    assert len(set(names)) == len(known) == len({symbol for symbol, *_ in rows})
    for symbol, name in zip(known, names, strict=True):
        assert known[symbol].symbol == symbol
        assert known[name].symbol == symbol
    again = markets(*(row(*arguments) for arguments in rows[::-1]))
    if len(known) == len(rows):
        assert {symbol: again.normalised(symbol) for symbol in known} == dict(zip(known, names, strict=True))


def test_a_row_that_cannot_be_read_does_not_take_the_others_with_it() -> None:
    broken = row("NEW_USDC", "NEW")
    broken["filters"]["price"]["tickSize"] = "NaN"
    known = markets(*USUAL, broken, {"symbol": "X"})
    assert list(known) == [element["symbol"] for element in USUAL]
    first, second = known.unreadable
    assert str(first) == "markets[6]: a decimal is not a usable number"
    assert str(second).startswith("markets[7]: ")


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[{}]", b'[{"symbol":"X"},3]', b"404 not found"])
def test_a_list_of_which_nothing_can_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="markets"):
        parse_markets(body)


def test_there_may_be_no_markets_at_all() -> None:
    assert dict(parse_markets(b"[]")) == {}


def test_markets_can_be_made_by_hand() -> None:
    made = list(markets(*USUAL).values())
    assert all(isinstance(market, Market) for market in made)
    assert Markets(made) == markets(*USUAL)
    assert Markets(made).unreadable == ()

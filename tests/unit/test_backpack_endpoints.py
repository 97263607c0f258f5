from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.endpoints import DEPTH_LIMITS, ENDPOINTS, Endpoint, ParameterRule
from backpack_proto.errors import LocalProtocolError, RemoteProtocolError
from backpack_proto.inputs import Parameter
from backpack_proto.results import DepthSnapshot, FundingRateRow, KlineRow, ServerTime
from backpack_proto.symbols import Markets


def read(name: str, body: bytes, parameters: Mapping[str, Parameter]) -> Any:
    reader = ENDPOINTS[name].read
    assert reader is not None
    return reader(body, parameters)


PUBLIC = {
    "markets": "/api/v1/markets",
    "market": "/api/v1/market",
    "ticker": "/api/v1/ticker",
    "tickers": "/api/v1/tickers",
    "depth": "/api/v1/depth",
    "klines": "/api/v1/klines",
    "trades": "/api/v1/trades",
    "trades_history": "/api/v1/trades/history",
    "mark_prices": "/api/v1/markPrices",
    "open_interest": "/api/v1/openInterest",
    "funding_rates": "/api/v1/fundingRates",
    "status": "/api/v1/status",
    "ping": "/api/v1/ping",
    "time": "/api/v1/time",
    "assets": "/api/v1/assets",
}


def test_every_public_call_is_in_the_table_under_its_name() -> None:
    assert {name: endpoint.path for name, endpoint in ENDPOINTS.items() if endpoint.instruction is None} == PUBLIC
    assert all(name == endpoint.name for name, endpoint in ENDPOINTS.items())
    assert len({(endpoint.method, endpoint.path) for endpoint in ENDPOINTS.values()}) == len(ENDPOINTS)


def test_public_calls_are_gets_and_two_of_them_are_historical() -> None:
    assert {ENDPOINTS[name].method for name in PUBLIC} == {"GET"}
    assert {name for name in PUBLIC if ENDPOINTS[name].historical} == {"klines", "trades_history"}


def test_the_table_cannot_be_changed() -> None:
    table: Any = ENDPOINTS
    with pytest.raises(TypeError):
        table["depth"] = None


RULES = {(endpoint.name, rule.name): rule for endpoint in ENDPOINTS.values() for rule in endpoint.parameters}


def test_what_must_be_given() -> None:
    assert {key for key, rule in RULES.items() if rule.required} == {
        ("market", "symbol"),
        ("ticker", "symbol"),
        ("depth", "symbol"),
        ("klines", "symbol"),
        ("klines", "interval"),
        ("klines", "startTime"),
        ("trades", "symbol"),
        ("trades_history", "symbol"),
        ("funding_rates", "symbol"),
    }


@pytest.mark.parametrize(
    ("endpoint", "parameter", "good", "bad"),
    [
        ("depth", "symbol", ["SOL_USDC", "AAPL.US_USDC_PERP"], ["", 7, True, None, b"SOL", ["SOL"]]),
        ("depth", "limit", list(DEPTH_LIMITS), [0, 1, 25, 5000, "100", 100.0, True, None]),
        ("klines", "interval", ["1s", "1m", "1month"], ["2m", "1M", "", 1]),
        ("klines", "startTime", [0, 1788281520], [1788281520000, -1, "1788281520", 1.5, False]),
        ("klines", "endTime", [1788281520], [1788281520000]),
        ("klines", "priceType", ["Last", "Index", "Mark"], ["last", ""]),
        ("ticker", "interval", ["1d", "1w"], ["1h"]),
        ("trades", "limit", [1, 1000], [0, 1001, "5"]),
        ("trades_history", "limit", [1, 1000], [0, 1001]),
        ("trades_history", "offset", [0, 10**9], [-1, 2**63]),
        ("funding_rates", "limit", [1, 10_000], [10_001]),
        ("markets", "marketType", ["SPOT", "SOMETHING_NEW"], ["", 1]),
        ("assets", "country", ["DE"], [1]),
    ],
)
def test_values_are_held_to_the_shape_of_the_parameter(endpoint: str, parameter: str, good: list[Any], bad: list[Any]) -> None:
    rule = RULES[endpoint, parameter]
    for value in good:
        rule.check(value)
    for value in bad:
        with pytest.raises(LocalProtocolError) as caught:
            rule.check(value)
        assert str(caught.value) == f"{parameter} is {rule.shape}"


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (ParameterRule(name="a"), "text"),
        (ParameterRule(name="a", kind=bool), "true or false"),
        (ParameterRule(name="a", kind=int, minimum=1, maximum=9), "a whole number, from 1 to 9"),
        (RULES["klines", "startTime"], "seconds since the epoch, from 0 to 99999999999"),
        (RULES["depth", "limit"], "one of 5, 10, 20, 50, 100, 500, 1000"),
    ],
)
def test_a_shape_is_said_in_words(rule: ParameterRule, shape: str) -> None:
    assert rule.shape == shape


def test_booleans_are_booleans_only() -> None:
    rule = ParameterRule(name="postOnly", kind=bool)
    rule.check(value=True)
    rule.check(value=False)
    for value in (0, 1, "true", None):
        with pytest.raises(LocalProtocolError):
            rule.check(value)


def test_a_row_of_the_table_can_describe_a_private_call() -> None:
    endpoint = Endpoint(name="capital", path="/api/v1/capital", instruction="balanceQuery", result=dict[str, Decimal])
    assert (endpoint.method, endpoint.parameters, endpoint.historical, endpoint.read) == ("GET", (), False, None)


def test_a_depth_snapshot_has_the_best_price_first_on_both_sides() -> None:
    body = b"""{"asks":[["100.7","65.5"],["100.66","240.6"]],"bids":[["100.19","5.52"],["9.5","1"],["100.64","67.95"]],
    "lastUpdateId":"4324522523","timestamp":1788285151254895}"""
    expected = DepthSnapshot(
        symbol="SOL_USDC",
        limit=20,
        last_update_id=4324522523,
        engine_us=1788285151254895,
        bids=((Decimal("100.64"), Decimal("67.95")), (Decimal("100.19"), Decimal("5.52")), (Decimal("9.5"), Decimal(1))),
        asks=((Decimal("100.66"), Decimal("240.6")), (Decimal("100.7"), Decimal("65.5"))),
    )
    assert read("depth", body, {"symbol": "SOL_USDC", "limit": 20}) == expected
    as_number = body.replace(b'"4324522523"', b"4324522523")
    assert read("depth", as_number, {"symbol": "SOL_USDC", "limit": 20}) == expected
    assert read("depth", body, {"symbol": "SOL_USDC"}).limit is None


prices = st.integers(1, 10**6).map(lambda tick: Decimal(tick) / 100)
sides = st.lists(st.tuples(prices, st.integers(1, 10**6).map(Decimal)), max_size=30, unique_by=lambda level: level[0])


@given(sides, sides)
def test_levels_may_come_in_any_order(bids: list[tuple[Decimal, Decimal]], asks: list[tuple[Decimal, Decimal]]) -> None:
    wire = {
        "asks": [[str(price), str(quantity)] for price, quantity in asks],
        "bids": [[str(price), str(quantity)] for price, quantity in bids],
        "lastUpdateId": "1",
        "timestamp": 1,
    }
    snapshot = read("depth", json.dumps(wire).encode(), {"symbol": "X"})
    assert list(snapshot.bids) == sorted(bids, reverse=True)
    assert list(snapshot.asks) == sorted(asks)


def test_candles_count_in_seconds() -> None:
    body = b"""[{"close":"98.98","end":"2026-09-01 16:53:00","high":"99","low":"98","open":"98.5","quoteVolume":"508.7",
    "start":"2026-09-01 16:52:00","trades":"7","volume":"5.14"},
    {"close":null,"end":"2026-09-01T16:54:00","high":null,"low":null,"open":null,"quoteVolume":"0",
    "start":"2026-09-01T16:53:00","trades":"0","volume":"0"}]"""
    first = KlineRow(
        start_s=1788281520,
        end_s=1788281580,
        open=Decimal("98.5"),
        high=Decimal(99),
        low=Decimal(98),
        close=Decimal("98.98"),
        volume=Decimal("5.14"),
        quote_volume=Decimal("508.7"),
        trade_count=7,
    )
    empty = KlineRow(
        start_s=1788281580,
        end_s=1788281640,
        open=None,
        high=None,
        low=None,
        close=None,
        volume=Decimal(0),
        quote_volume=Decimal(0),
        trade_count=0,
    )
    assert read("klines", body, {}) == (first, empty)


def test_funding_intervals_end_at_a_millisecond() -> None:
    body = b'[{"fundingRate":"-0.000012500","intervalEndTimestamp":"2026-09-23T04:00:00","symbol":"SOL_USDC_PERP"}]'
    row = FundingRateRow(symbol="SOL_USDC_PERP", funding_rate=Decimal("-0.0000125"), interval_end_ms=1790136000000)
    assert read("funding_rates", body, {}) == (row,)


def test_time_and_ping_are_plain_text() -> None:
    assert read("time", b"1788285151083", {}) == ServerTime(server_ms=1788285151083)
    assert read("time", b" 1\n", {}) == ServerTime(server_ms=1)
    assert read("ping", b"pong\n", {}) == "pong"


def test_markets_become_markets() -> None:
    assert read("markets", b"[]", {}) == Markets([])


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("time", b""),
        ("time", b"-5"),
        ("time", b"1_000"),
        ("time", "\u0661".encode()),
        ("time", b"9" * 5000),
        ("time", b'{"time":1}'),
        ("ping", b"<html>"),
        ("depth", b"null"),
        ("depth", b'{"asks":[["1"]],"bids":[],"lastUpdateId":"1","timestamp":1}'),
        ("depth", b'{"asks":[["NaN","1"]],"bids":[],"lastUpdateId":"1","timestamp":1}'),
        ("depth", b'{"asks":[["1","Infinity"]],"bids":[],"lastUpdateId":"1","timestamp":1}'),
        ("depth", b'{"asks":[],"bids":[],"lastUpdateId":"one","timestamp":1}'),
        ("klines", b'[{"start":"now","end":"2026-09-01 16:53:00","quoteVolume":"0","trades":"0","volume":"0"}]'),
        ("funding_rates", b'[{"fundingRate":"0","intervalEndTimestamp":"soon","symbol":"X"}]'),
        ("markets", b"{}"),
    ],
)
def test_what_cannot_be_read_is_the_exchanges_error(name: str, body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(name, body, {"symbol": "X"})

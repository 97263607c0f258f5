from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.auth.signing import json_body
from backpack_proto.decoding import decode_json
from backpack_proto.errors import LocalProtocolError, RemoteProtocolError
from backpack_proto.http import Parameter
from backpack_proto.importance import Importance
from backpack_proto.rest.codec import parse_response
from backpack_proto.rest.endpoints.table import (
    BATCH_LIMIT,
    DEPTH_LIMITS,
    ENDPOINTS,
    Endpoint,
    Group,
    ParameterRule,
    find_endpoint,
)
from backpack_proto.rest.markets import Markets
from backpack_proto.rest.results.market_data import DepthSnapshot, FundingRate, ServerTime
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Kline, MarkPrice, OpenInterest, Ticker, Trade


def read(name: str, body: bytes, parameters: Mapping[str, Parameter]) -> Any:
    return parse_response(ENDPOINTS[name], parameters, status=200, body=body)


PUBLIC = {name for name, endpoint in ENDPOINTS.items() if endpoint.instruction is None}
DOCUMENTED = re.compile(r"\| (GET|POST|PATCH|DELETE) \| (/\S+) \| (\w+)[^|]* \| (?:req|opt|nd) \| ([^|]*) \|")


def documented() -> list[tuple[str | Any, ...]]:
    """Method, path, instruction and input of each row of docs/protocol.md 2.4."""
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    section = text[text.index("### 2.4") : text.index("\n## 3.")]
    return [row.group(1, 2, 3, 4) for row in map(DOCUMENTED.match, section.splitlines()) if row]


def test_every_private_call_is_that_of_the_documents() -> None:
    rows = documented()
    assert len(rows) == 51
    table = {(endpoint.method, endpoint.path): endpoint for endpoint in ENDPOINTS.values() if endpoint.instruction}
    assert {(method, path): instruction for method, path, instruction, _ in rows} == {
        key: endpoint.instruction for key, endpoint in table.items()
    }
    for method, path, _, taken in rows:
        names = re.sub(r"\([^)]*\)|`|\[\]", "", taken.removeprefix("body: "))
        if names.strip() in ("\u2013", "body", "an array of orders"):
            continue
        words = re.split(r", | xor | or ", names.strip())
        rules = {rule.name: rule.required for rule in table[method, path].parameters}
        assert {word.strip().removesuffix("*"): "*" in word for word in words} == rules, path
        both = [word.split(mark) for word in names.split(",") for mark in (" xor ", " or ") if mark in word]
        assert [group.names for group in table[method, path].groups] == [tuple(map(str.strip, pair)) for pair in both]


def test_every_public_call_is_that_of_the_documents_and_needs_what_they_say() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    section = text[text.index("### 6.1") : text.index("### 6.2")]
    rows = [row.split("|")[1:3] for row in section.splitlines() if row.startswith("| `/")]
    documented = {
        path: set(re.findall(r"(\w+)\*(?!\*)", taken)) for paths, taken in rows for path in re.findall(r"`(/\S+)`", paths)
    }
    table = [ENDPOINTS[name] for name in PUBLIC]
    assert {one.path: {rule.name for rule in one.parameters if rule.required} for one in table} == documented
    assert len(documented) > 20


def test_names_and_routes_stand_for_one_call() -> None:
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
        ("klines", "source", ["External", "SomethingNew"], ["", 1]),
        ("stock_indicative_quote", "side", ["Bid", "Ask"], ["Buy"]),
        ("fill_history", "assetClass", ["CRYPTO", "STOCK", "ART"], ["", True]),
        ("place_order", "side", ["Bid", "Ask"], ["BUY", "bid", ""]),
        ("place_order", "timeInForce", ["GTC", "IOC", "FOK"], ["GTX"]),
        ("place_order", "selfTradePrevention", ["RejectTaker", "Allow"], ["", 1]),
        ("place_order", "clientId", [0, 2**32 - 1], [-1, 2**32, "7", True, 7.0]),
        ("place_order", "brokerId", [0, 2**16 - 1], [2**16]),
        ("place_order", "postOnly", [True, False], [0, 1, "true", None]),
        ("place_order", "price", ["141.20", "0", "100", Decimal("141.20")], [141.2, 141, "", "1e5", "-1", "+1", ".5", "5."]),
        ("place_order", "price", [Decimal("1E-7")], [Decimal("NaN"), Decimal("Infinity"), Decimal(-1), Decimal("1E+999999")]),
        (
            "place_order",
            "quantity",
            ["1" * 100],
            ["1" * 101, "1_000", "1,5", "\u0661", "0x1", "NaN", "Infinity", " 1", "1\n", True],
        ),
        ("place_order", "quantity", ["1"], ["80%"]),
        ("place_order", "triggerQuantity", ["80%", "12.5", Decimal(3)], ["%", "80%%", "% 80", 80]),
        ("order", "orderId", ["59669287267", 28], ["", -1, True, 1.0]),
        ("open_rfqs", "rfqId", [2**64 - 1], [2**64, "1"]),
        ("fill_history", "from", [0, 1795012345310], [1795012345310999, "1795012345310"]),
        ("fill_history", "sortDirection", ["Asc", "Desc"], ["asc"]),
        ("fill_history", "limit", [1, 1000], [0, 1001]),
        ("withdraw", "clientId", ["payout-17"], [17, ""]),
        ("withdraw", "blockchain", ["Solana", "AChainOfTomorrow"], [""]),
    ],
)
def test_values_are_held_to_the_shape_of_the_parameter(endpoint: str, parameter: str, good: list[Any], bad: list[Any]) -> None:
    rule = RULES[endpoint, parameter]
    for value in good:
        rule.check(value)
    for value in bad:
        with pytest.raises(LocalProtocolError) as caught:
            rule.check(value)
        assert str(caught.value).startswith(f"{parameter}: {rule.shape}, got ")


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (ParameterRule(name="a"), "text"),
        (ParameterRule(name="a", kind=bool), "true or false"),
        (ParameterRule(name="a", kind=int, minimum=1, maximum=9), "a whole number, from 1 to 9"),
        (RULES["klines", "startTime"], "seconds since the epoch, from 0 to 99999999999"),
        (RULES["depth", "limit"], "one of 5, 10, 20, 50, 100, 500, 1000"),
        (ParameterRule(name="a", kind=Decimal), "a Decimal or text in plain digits"),
        (ParameterRule(name="a", kind=Decimal, percent=True), "a Decimal or text in plain digits, or a percentage"),
        (ParameterRule(name="a", choices=("b", "c"), grows=True), "text such as b, c"),
        (ParameterRule(name="a", numeric=True), "text or a whole number"),
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
        bids=(Level("100.64", "67.95"), Level("100.19", "5.52"), Level("9.5", 1)),
        asks=(Level("100.66", "240.6"), Level("100.7", "65.5")),
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


def test_candles_are_those_of_the_stream() -> None:
    body = b"""[{"close":"98.98","end":"2026-09-01 16:53:00","high":"99","low":"98","open":"98.5","quoteVolume":"508.7",
    "start":"2026-09-01 16:52:00","trades":"7","volume":"5.14"},
    {"close":null,"end":"2026-09-01T16:54:00","high":null,"low":null,"open":null,"quoteVolume":"0",
    "start":"2026-09-01T16:53:00","trades":"0","volume":"0"}]"""
    shared: dict[str, Any] = {"emitted_us": None, "symbol": "SOL_USDC", "interval": "1m", "closed": None}
    first = Kline(
        **shared,
        start_us=1788281520000000,
        end_us=1788281580000000,
        open=Decimal("98.5"),
        high=Decimal(99),
        low=Decimal(98),
        close=Decimal("98.98"),
        volume=Decimal("5.14"),
        quote_volume=Decimal("508.7"),
        trade_count=7,
    )
    empty = Kline(
        **shared,
        start_us=1788281580000000,
        end_us=1788281640000000,
        open=None,
        high=None,
        low=None,
        close=None,
        volume=Decimal(0),
        quote_volume=Decimal(0),
        trade_count=0,
    )
    assert read("klines", body, {"symbol": "SOL_USDC", "interval": "1m"}) == (first, empty)


MARKET_VALUES: list[tuple[str, bytes, Any]] = [
    (
        "ticker",
        (
            b'{"firstPrice":"101.94","high":"103","lastPrice":"98.98","low":"97.38","priceChange":"-2.96",'
            b'"priceChangePercent":"-0.029032","quoteVolume":"1498114.9234","symbol":"SOL_USDC","trades":"6796","volume":"15089.56"}'
        ),
        Ticker(
            emitted_us=None,
            symbol="SOL_USDC",
            first_price=Decimal("101.94"),
            last_price=Decimal("98.98"),
            high=Decimal(103),
            low=Decimal("97.38"),
            price_change=Decimal("-2.96"),
            price_change_fraction=Decimal("-0.029032"),
            volume=Decimal("15089.56"),
            quote_volume=Decimal("1498114.9234"),
            trade_count=6796,
        ),
    ),
    (
        "trades",
        b'{"id":10782547,"isBuyerMaker":true,"price":"3870.25","quantity":"0.0008","quoteQuantity":"3.0962","timestamp":1788285151083}',
        Trade(
            emitted_us=None,
            symbol="SOL_USDC",
            trade_id=10782547,
            price=Decimal("3870.25"),
            quantity=Decimal("0.0008"),
            quote_quantity=Decimal("3.0962"),
            engine_us=1788285151083000,
            buyer_is_maker=True,
        ),
    ),
    (
        "trades_history",
        b'{"id":null,"isBuyerMaker":false,"price":"1","quantity":"2","quoteQuantity":"2","timestamp":1}',
        Trade(
            emitted_us=None,
            symbol="SOL_USDC",
            trade_id=None,
            price=Decimal(1),
            quantity=Decimal(2),
            quote_quantity=Decimal(2),
            engine_us=1000,
            buyer_is_maker=False,
        ),
    ),
    (
        "mark_prices",
        (
            b'{"fundingRate":"-0.0000125","indexPrice":"98.94998504","markPrice":"98.94","nextFundingTimestamp":1788368400000,'
            b'"symbol":"SOL_USDC_PERP"}'
        ),
        MarkPrice(
            emitted_us=None,
            engine_us=None,
            symbol="SOL_USDC_PERP",
            mark_price=Decimal("98.94"),
            index_price=Decimal("98.94998504"),
            funding_rate=Decimal("-0.0000125"),
            next_funding_us=1788368400000000,
        ),
    ),
    (
        "mark_prices",
        b'{"fundingRate":null,"markPrice":"0.5","symbol":"X_PREDICTION"}',
        MarkPrice(emitted_us=None, engine_us=None, symbol="X_PREDICTION", mark_price=Decimal("0.5")),
    ),
    (
        "open_interest",
        b'{"openInterest":"100.5","symbol":"SOL_USDC_PERP","timestamp":1788285151083}',
        OpenInterest(emitted_us=None, symbol="SOL_USDC_PERP", open_interest=Decimal("100.5"), engine_us=1788285151083000),
    ),
    (
        "open_interest",
        b'{"openInterest":null,"symbol":"X","timestamp":1}',
        OpenInterest(emitted_us=None, symbol="X", open_interest=None, engine_us=1000),
    ),
]


@pytest.mark.parametrize(("name", "row", "expected"), MARKET_VALUES, ids=[name for name, _, _ in MARKET_VALUES])
def test_what_rest_says_of_a_market_is_the_value_that_a_stream_has(name: str, row: bytes, expected: Any) -> None:
    for sent in (row, b'{"new":[null],' + row[1:]):
        body = sent if name == "ticker" else b"[" + sent + b"]"
        found = read(name, body, {"symbol": "SOL_USDC"})
        assert found == (expected if name == "ticker" else (expected,))
    required = set(json.loads(row)) - {name for name, value in json.loads(row).items() if value is None}
    for member in required - {"id", "indexPrice", "fundingRate", "nextFundingTimestamp", "openInterest"}:
        rest = {name: value for name, value in json.loads(row).items() if name != member}
        with pytest.raises(RemoteProtocolError, match=member):
            read(name, json.dumps(rest if name == "ticker" else [rest]).encode(), {"symbol": "SOL_USDC"})


def test_funding_intervals_end_at_a_millisecond() -> None:
    body = b'[{"fundingRate":"-0.000012500","intervalEndTimestamp":"2026-09-23T04:00:00","symbol":"SOL_USDC_PERP"}]'
    row = FundingRate(symbol="SOL_USDC_PERP", funding_rate=Decimal("-0.0000125"), interval_end_us=1790136000000000)
    assert decode_json(body, ENDPOINTS["funding_rates"].result, "funding_rates") == (row,)
    with pytest.raises(RemoteProtocolError):
        decode_json(body.replace(b"2026-09-23T04:00:00", b"soon"), ENDPOINTS["funding_rates"].result, "funding_rates")


def test_time_and_ping_are_plain_text() -> None:
    assert read("time", b"1788285151083", {}) == ServerTime(server_us=1788285151083000)
    assert read("time", b" 1\n", {}) == ServerTime(server_us=1000)
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
        ("markets", b"{}"),
    ],
)
def test_what_cannot_be_read_is_the_exchanges_error(name: str, body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(name, body, {"symbol": "X", "interval": "1m"})


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("depth", "depth"),
        ("GET /api/v1/depth", "depth"),
        ("balanceQuery", "balances"),
        ("DELETE /api/v1/orders", "cancel_all_orders"),
        ("fillHistoryQueryAll", "fill_history"),
        ("POST /api/v1/orders", "place_orders"),
        ("withdraw", "withdraw"),
        ("market_sessions", "stock_sessions"),
        ("GET /api/v1/market-sessions", "stock_sessions"),
        ("GET /api/v1/market-holidays", "stock_holidays"),
    ],
)
def test_an_endpoint_has_three_names(given_name: str, name: str) -> None:
    assert find_endpoint(given_name) is ENDPOINTS[name]


def test_every_endpoint_is_found_by_its_route_and_by_its_instruction_if_that_is_its_own() -> None:
    for endpoint in ENDPOINTS.values():
        assert find_endpoint(endpoint.route) is endpoint
        if endpoint.instruction not in (None, "orderExecute"):
            assert find_endpoint(str(endpoint.instruction)) is endpoint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("orderExecute", "orderExecute is the instruction of place_order, place_orders: say which"),
        ("open_order", "there is no endpoint 'open_order'; did you mean open_orders"),
        ("/api/v1/nothing", "there is no endpoint '/api/v1/nothing'"),
        ("", "there is no endpoint ''; there are markets, market, "),
    ],
)
def test_a_name_that_means_nothing_or_too_much_is_refused(name: str, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        find_endpoint(name)
    assert str(caught.value).startswith(message)


def test_reads_are_idempotent_and_nothing_else() -> None:
    assert all(endpoint.idempotent == (endpoint.method == "GET") for endpoint in ENDPOINTS.values())


LIMIT = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit"}
MARKET = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Market"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("place_order", {**LIMIT, "price": "1", "quantity": "1"}),
        ("place_order", {**MARKET, "quantity": "1"}),
        ("place_order", {**MARKET, "quoteQuantity": "1", "quantity": None}),
        ("place_order", {**MARKET, "triggerPrice": "1", "triggerQuantity": "80%"}),
        ("place_order", {**LIMIT, "price": "1", "quantity": "1", "triggerPrice": "1", "triggerQuantity": "1"}),
        ("order", {"symbol": "SOL_USDC", "orderId": "1"}),
        ("cancel_order", {"symbol": "SOL_USDC", "clientId": 0}),
        ("submit_rfq", {"symbol": "SOL_USDC_RFQ", "side": "Bid", "quoteQuantity": "1"}),
    ],
)
def test_parameters_that_go_together(name: str, parameters: Any) -> None:
    assert ENDPOINTS[name].check(parameters) == {key: value for key, value in parameters.items() if value is not None}


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("order", {"symbol": "S"}, "order takes exactly one of orderId, clientId; given: none"),
        (
            "cancel_order",
            {"symbol": "S", "orderId": "1", "clientId": 1},
            "cancel_order takes exactly one of orderId, clientId; given: orderId, clientId",
        ),
        (
            "place_order",
            {**MARKET, "quantity": "1", "quoteQuantity": "1"},
            "place_order takes no more than 1 of quantity, quoteQuantity; given: quantity, quoteQuantity",
        ),
        (
            "place_order",
            {**LIMIT, "price": "1"},
            "place_order needs at least 1 of quantity, quoteQuantity, triggerQuantity; given: none",
        ),
        (
            "place_order",
            {**MARKET, "quantity": "1", "triggerPrice": "1"},
            "place_order takes triggerPrice, triggerQuantity all together or not at all; given: triggerPrice",
        ),
        ("place_order", {**LIMIT, "quantity": "1"}, "place_order needs price where orderType is Limit; given: none"),
        (
            "place_order",
            {**LIMIT, "price": "1", "quoteQuantity": "1"},
            "place_order takes no quoteQuantity where orderType is Limit; given: quoteQuantity",
        ),
        (
            "submit_rfq",
            {"symbol": "S", "side": "Bid", "quantity": "1", "executionMode": "Immediate"},
            "submit_rfq needs price where executionMode is Immediate; given: none",
        ),
        ("strategy", {"symbol": "S"}, "strategy takes exactly one of strategyId, clientStrategyId; given: none"),
        ("accept_quote", {"quoteId": "1"}, "accept_quote takes exactly one of rfqId, clientId; given: none"),
        (
            "place_order",
            {**LIMIT, "price": 1.5, "quantity": "1"},
            "place_order: price: a Decimal or text in plain digits, got 1.5 (float)",
        ),
        (
            "cancel_order",
            {"symbol": "S", "clientId": 2**32},
            "cancel_order: clientId: a whole number, from 0 to 4294967295, got 4294967296 (int)",
        ),
        ("cancel_order", {"clientId": 1}, "cancel_order needs symbol: text"),
    ],
)
def test_parameters_that_do_not(name: str, parameters: Any, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        ENDPOINTS[name].check(parameters)
    assert str(caught.value) == message


def test_a_refusal_shows_no_value_that_may_be_a_secret() -> None:
    rest: Any = {"address": "a", "blockchain": "Solana", "symbol": "SOL"}
    values: tuple[Any, ...] = ("hunter2" * 5, b"hunter2", ["hunter2"], "hunter2@host")
    for value in values:
        with pytest.raises(LocalProtocolError) as caught:
            ENDPOINTS["withdraw"].check({**rest, "quantity": value, "twoFactorToken": "hunter2"})
        assert "hunter2" not in str(caught.value)
    with pytest.raises(LocalProtocolError) as caught:
        ENDPOINTS["withdraw"].check({**rest, "quantity": "1", "twoFactorToken": 123456})
    assert str(caught.value) == "withdraw: twoFactorToken: text, got a value that is not shown"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        (
            "place_order",
            {"symbol": "S", "side": "Bid", "order_type": "limit"},
            "place_order: order_type: one of Limit, Market, got 'limit'; did you mean Limit?",
        ),
        (
            "place_order",
            {"symbol": "S", "side": "buy", "orderType": "Limit"},
            "place_order: side: one of Bid, Ask, got 'buy'; did you mean Bid?",
        ),
        (
            "place_order",
            {"symbol": "S", "side": "Ask", "order_type": "Limit", "quantity": "1"},
            "place_order needs price where order_type is Limit; given: none",
        ),
        (
            "cancel_order",
            {"symbol": "S", "order_id": None, "client_id": None},
            "cancel_order takes exactly one of order_id, client_id; given: none",
        ),
        (
            "klines",
            {"symbol": "S", "interval": "1m", "end_s": 5},
            "klines needs start_s: seconds since the epoch, from 0 to 99999999999",
        ),
        ("cancel_order", {"symbol": "S", "order": "1"}, "cancel_order has no parameter 'order'; did you mean orderId?"),
        (
            "cancel_order",
            {"symbol": "S", "client_id": 1, "ordr_id": "1"},
            "cancel_order has no parameter 'ordr_id'; did you mean order_id?",
        ),
        ("time", {"tz": "UTC"}, "time has no parameter 'tz'; it has none"),
        (
            "order",
            {"symbol": "S", "orderId": "1", "order_id": "2"},
            "order: order_id and orderId are two names of one parameter: give one",
        ),
    ],
)
def test_a_refusal_spells_parameters_as_the_call_does(name: str, parameters: Any, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        ENDPOINTS[name].check(parameters)
    assert str(caught.value) == message


def test_parameters_have_python_names_that_are_put_on_the_wire_in_its_own() -> None:
    given: Any = {"symbol": "S", "order_id": "1", "from_ms": 5, "to_ms": None, "sort_direction": "Asc"}
    assert ENDPOINTS["fill_history"].check(given) == {"symbol": "S", "orderId": "1", "from": 5, "sortDirection": "Asc"}
    for endpoint in ENDPOINTS.values():
        names = [rule.python_name for rule in endpoint.parameters]
        assert len(set(names)) == len(names)
        assert all(name.isidentifier() and name.islower() for name in names)
        assert not set(names) & {rule.name for rule in endpoint.parameters if rule.name != rule.python_name}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "place_orders takes orders, a sequence of orders, and nothing else"),
        ({"orders": "Bid"}, "place_orders takes orders, a sequence of orders, and nothing else"),
        ({"orders": {"symbol": "S"}}, "place_orders takes orders, a sequence of orders, and nothing else"),
        ({"orders": [], "symbol": "S"}, "place_orders takes orders, a sequence of orders, and nothing else"),
        ({"orders": []}, "place_orders takes 1 to 20 orders; given: 0"),
        ({"orders": [MARKET] * 21}, "place_orders takes 1 to 20 orders; given: 21"),
        ({"orders": ["S"]}, "place_orders: orders[0]: a mapping of parameters, got 'S'"),
        (
            {"orders": [{**MARKET, "quantity": "1"}, {**MARKET, "quantity": 1.0}]},
            "place_orders: orders[1]: quantity: a Decimal or text in plain digits, got 1.0 (float)",
        ),
        (
            {"orders": [MARKET]},
            "place_orders: orders[0] needs at least 1 of quantity, quoteQuantity, triggerQuantity; given: none",
        ),
    ],
)
def test_each_order_of_a_batch_is_checked(parameters: Any, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        ENDPOINTS["place_orders"].check(parameters)
    assert str(caught.value) == message


def test_a_batch_holds_as_many_as_is_safe() -> None:
    orders = [{**MARKET, "quantity": Decimal(number + 1), "clientId": None} for number in range(BATCH_LIMIT)]
    checked = ENDPOINTS["place_orders"].check({"orders": orders})
    assert checked == {"orders": tuple({**MARKET, "quantity": str(number + 1)} for number in range(BATCH_LIMIT))}
    assert ENDPOINTS["place_orders"].check(checked) == checked


class Side(str, Enum):  # noqa: UP042 - its str() is not its value, and that is the point
    BID = "Bid"


def test_an_enumeration_is_sent_by_its_value() -> None:
    checked = ENDPOINTS["place_order"].check({**MARKET, "side": Side.BID, "quantity": "1"})
    assert json.loads(json_body(checked))["side"] == "Bid"  # type: ignore[arg-type]
    assert type(checked["side"]) is str


@given(st.decimals(min_value=0, allow_nan=False, allow_infinity=False, places=None).filter(lambda d: not d.is_signed()))
def test_a_decimal_is_sent_with_all_its_digits_and_no_exponent(value: Decimal) -> None:
    rule = RULES["place_order", "price"]
    try:
        wire = rule.check(value)
    except LocalProtocolError:
        assert not -100 < value.adjusted() < 100
        return
    assert isinstance(wire, str)
    assert Decimal(wire) == value
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)?", wire)
    if len(wire) <= 100:
        assert rule.check(wire) == wire


def test_a_group_says_its_rule() -> None:
    assert Group(names=("a",), counts=(0,)).shape() == "takes no a"
    assert Group(names=("a", "b"), counts=(0, 1)).shape() == "takes no more than 1 of a, b"


def test_what_a_call_changes_decides_how_important_it_is() -> None:
    cancels = {name for name, endpoint in ENDPOINTS.items() if endpoint.importance is Importance.CANCEL}
    assert cancels == {"cancel_order", "cancel_all_orders", "cancel_rfq", "cancel_strategy", "cancel_all_strategies"}
    assert all((endpoint.importance is Importance.READ) == endpoint.idempotent for endpoint in ENDPOINTS.values())


@pytest.mark.parametrize(("method", "importance"), [("GET", Importance.CANCEL), ("POST", Importance.READ)])
def test_a_row_cannot_forget_how_important_it_is(method: str, importance: Importance) -> None:
    with pytest.raises(LocalProtocolError, match=f"^importance: {method} /x is {importance.name}"):
        Endpoint(name="x", method=method, path="/x", result=None, importance=importance)

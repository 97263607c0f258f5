"""The REST routes of the simulated exchange."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.exchange import LISTINGS, Exchange, RequestReceived, Respond
from backpack_proto.inputs import TimerFired
from backpack_proto.streams.channels import KLINE_INTERVALS
from backpack_proto.testing.laws import FakeClock
from hypothesis_profiles import examples

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
CLOCK = FakeClock()
"""Never moved, so the one exchange of this module stands still."""


def warmed_up() -> Exchange:
    """An exchange that has run for three seconds."""
    exchange = Exchange(seed=8, unix_us=CLOCK.unix_us)
    ask(exchange, "/api/v1/ping")
    for _ in range(1_000):
        exchange.handle(TimerFired(), CLOCK.advance_to(exchange.deadline))
    return exchange


def ask(exchange: Exchange, target: str, method: str = "GET") -> Respond:
    answer = exchange.handle(RequestReceived(77, method, target), CLOCK.now)[-1]
    assert isinstance(answer, Respond)
    assert answer.request_id == 77
    return answer


def get(target: str) -> Any:
    answer = ask(EXCHANGE, f"/api/v1{target}")
    assert (answer.status, answer.content_type) == (200, JSON)
    return json.loads(answer.body)


EXCHANGE = warmed_up()
NOW_S = CLOCK.unix_us // 1_000_000


def test_markets_have_the_recorded_shape() -> None:
    markets = {market["symbol"]: market for market in get("/markets")}
    assert list(markets) == [listing.symbol for listing in LISTINGS]
    assert json.dumps(markets["SOL_USDC"], separators=(",", ":")) == (
        '{"baseSymbol":"SOL","createdAt":"2025-01-21T06:34:54.691858","filters":{"price":{"borrowEntryFeeMaxMultiplier":"1.01",'
        '"borrowEntryFeeMinMultiplier":"0.99","discoveryBoundBand":null,"maxImpactMultiplier":"1.01","maxMultiplier":"2",'
        '"maxPrice":null,"maxPriceUpdateMultiplier":"1.0025","meanMarkPriceBand":{"maxMultiplier":"1.03","minMultiplier":"0.97"},'
        '"meanPremiumBand":null,"minImpactMultiplier":"0.99","minMultiplier":"0.25","minPrice":"0.01",'
        '"minPriceUpdateMultiplier":"0.9975","tickSize":"0.01"},"quantity":{"maxQuantity":null,"minQuantity":"0.01",'
        '"stepSize":"0.01"}},"fundingInterval":null,"fundingRateLowerBound":null,"fundingRateUpperBound":null,"imfFunction":null,'
        '"marketType":"SPOT","mmfFunction":null,"openInterestLimit":"0","orderBookState":"Open","positionLimitWeight":null,'
        '"quoteSymbol":"USDC","rwaMarketType":null,"symbol":"SOL_USDC","visible":true}'
    )
    perpetual = markets["AAPL.US_USDC_PERP"]
    assert perpetual["fundingInterval"] == 3_600_000
    assert perpetual["rwaMarketType"] == "STOCK"
    assert set(perpetual["imfFunction"]) == {"type", "base", "factor"}
    closed = markets["HNT_USDC"]
    assert (closed["orderBookState"], closed["visible"]) == ("Closed", True)
    assert [market["symbol"] for market in get("/markets?marketType=PERP")] == [s for s in markets if s.endswith("_PERP")]
    assert len(get("/markets?marketType=PERP&marketType=SPOT")) == len(markets)
    assert get("/market?symbol=HNT_USDC") == closed


def test_tick_sizes_are_the_precision_of_the_books() -> None:
    for market in get("/markets"):
        if market["orderBookState"] != "Open":
            continue
        tick, step = (
            Decimal(market["filters"][kind][name]) for kind, name in (("price", "tickSize"), ("quantity", "stepSize"))
        )
        bids, asks, _ = EXCHANGE.levels(market["symbol"])
        assert all(price % tick == 0 and quantity % step == 0 for price, quantity in bids + asks)


@pytest.mark.parametrize("limit", [5, 10, 20, 50, 100, 500, 1000, None])
@pytest.mark.parametrize("symbol", ["BTC_USDC", "kPEPE_USDC_PERP"])
def test_depth_is_ascending_on_both_sides_and_holds_the_best_levels(symbol: str, limit: int | None) -> None:
    body = get(f"/depth?symbol={symbol}" + (f"&limit={limit}" if limit else ""))
    assert list(body) == ["asks", "bids", "lastUpdateId", "timestamp"]
    bids, asks, last = EXCHANGE.levels(symbol)
    assert [(Decimal(p), Decimal(q)) for p, q in reversed(body["bids"])] == list(bids[:limit])
    assert [(Decimal(p), Decimal(q)) for p, q in body["asks"]] == list(asks[:limit])
    assert body["lastUpdateId"] == str(last)
    assert body["timestamp"] == CLOCK.unix_us
    texts = [text for level in body["asks"] + body["bids"] for text in level]
    assert not any("." in text and text.endswith(("0", ".")) for text in texts)


@pytest.mark.parametrize(
    ("target", "status", "content_type", "body"),
    [
        ("/api/v1/ping", 200, TEXT, "pong"),
        ("/api/v1/time", 200, TEXT, str(CLOCK.unix_us // 1000)),
        ("/api/v1/status", 200, JSON, '{"message":null,"status":"Ok"}'),
        ("/api/v1/depth?symbol=NOPE", 400, JSON, '{"code":"INVALID_CLIENT_REQUEST","message":"Invalid market symbol"}'),
        ("/api/v1/market?symbol=sol_usdc", 400, JSON, '{"code":"INVALID_CLIENT_REQUEST","message":"Invalid market symbol"}'),
        ("/api/v1/depth?symbol=HNT_USDC", 404, JSON, '{"code":"RESOURCE_NOT_FOUND","message":"Not Found"}'),
        ("/api/v1/markPrices?symbol=SOL_USDC", 400, JSON, '{"code":"INVALID_CLIENT_REQUEST","message":"Symbol not found"}'),
        ("/api/v1/openInterest?symbol=NOPE", 400, JSON, '{"code":"INVALID_CLIENT_REQUEST","message":"Symbol not found"}'),
        (
            "/api/v1/depth?symbol=SOL_USDC&limit=7",
            400,
            TEXT,
            'failed to parse parameter `limit`: failed to parse "DepthLimit": Expect a valid enumeration value.',
        ),
        ("/api/v1/depth", 400, TEXT, 'failed to parse parameter `symbol`: Type "string" expects an input value.'),
        (
            "/api/v1/trades?symbol=SOL_USDC&limit=1001",
            400,
            TEXT,
            "failed to parse parameter `limit`: verification failed. maximum(1000, exclusive: false)",
        ),
        (
            "/api/v1/klines?symbol=SOL_USDC&interval=7m&startTime=1",
            400,
            TEXT,
            'failed to parse parameter `interval`: failed to parse "KlineInterval": Expect a valid enumeration value.',
        ),
        (
            "/api/v1/klines?symbol=SOL_USDC&interval=1m&startTime=soon",
            400,
            TEXT,
            'failed to parse parameter `startTime`: failed to parse "integer_uint64": invalid digit found in string',
        ),
        ("/api/v1/nope", 404, TEXT, "404 not found"),
        ("/", 404, TEXT, "404 not found"),
        ("", 404, TEXT, "404 not found"),
        ("/api/v1/ticker?symbol=HNT_USDC", 204, "", ""),
        ("/api/v1/klines?symbol=HNT_USDC&interval=1m&startTime=1", 200, JSON, "[]"),
        ("/api/v1/trades?symbol=HNT_USDC", 200, JSON, "[]"),
        ("/api/v1/fundingRates?symbol=SOL_USDC", 200, JSON, "[]"),
        ("/api/v1/markPrices?marketType=SPOT", 200, JSON, "[]"),
    ],
)
def test_answers_that_are_known_to_the_letter(target: str, status: int, content_type: str, body: str) -> None:
    assert ask(EXCHANGE, target) == Respond(77, status, content_type, body.encode())


def test_only_get_is_served() -> None:
    assert ask(EXCHANGE, "/api/v1/depth?symbol=SOL_USDC", "POST").status == 405
    assert ask(EXCHANGE, "/api/v1/nope", "POST").status == 404


def test_tickers_are_strings_and_the_change_is_a_fraction() -> None:
    rows = get("/tickers")
    assert [row["symbol"] for row in rows] == list(EXCHANGE.symbols)
    for row in rows:
        assert list(row) == (
            [
                "firstPrice",
                "high",
                "lastPrice",
                "low",
                "priceChange",
                "priceChangePercent",
                "quoteVolume",
                "symbol",
                "trades",
                "volume",
            ]
        )
        assert all(type(value) is str for value in row.values())
        number = {name: Decimal(value) for name, value in row.items() if name != "symbol"}
        assert number["low"] <= min(number["firstPrice"], number["lastPrice"])
        assert number["high"] >= max(number["firstPrice"], number["lastPrice"])
        assert number["priceChange"] == number["lastPrice"] - number["firstPrice"]
        fraction = number["priceChange"] / number["firstPrice"]
        assert abs(number["priceChangePercent"] - fraction) <= Decimal("0.0000005")
        assert number["low"] <= number["quoteVolume"] / number["volume"] <= number["high"]
        assert int(row["trades"]) > 10_000
    assert get("/ticker?symbol=BTC_USDC") == rows[1]
    assert int(get("/ticker?symbol=BTC_USDC&interval=1w")["trades"]) >= int(rows[1]["trades"])


@pytest.mark.parametrize("interval", KLINE_INTERVALS)
def test_klines_are_ascending_with_naive_utc_times(interval: str) -> None:
    rows = get(f"/klines?symbol=SOL_USDC&interval={interval}&startTime={NOW_S - 86_400 * (interval != '1s')}")
    for row in rows:
        assert list(row) == ["close", "end", "high", "low", "open", "quoteVolume", "start", "trades", "volume"]
        assert row["start"][4] == "-"
        assert row["start"][10] == " "
        assert len(row["start"]) == 19
        assert (row["open"] is None) == (row["trades"] == "0")
    assert [row["end"] for row in rows[:-1]] == [row["start"] for row in rows[1:]]
    if interval == "1h":
        assert len(rows) == 24
        assert all(int(row["trades"]) > 0 for row in rows)


def test_klines_start_and_end_where_they_are_asked_to() -> None:
    start = NOW_S - NOW_S % 60 - 600
    rows = get(f"/klines?symbol=SOL_USDC&interval=1m&startTime={start}&endTime={start + 180}")
    assert len(rows) == 4
    assert len(get(f"/klines?symbol=SOL_USDC&interval=1m&startTime={start + 1}&endTime={start + 180}")) == 3


def test_trades_are_newest_first() -> None:
    rows = get("/trades?symbol=SOL_USDC_PERP")
    assert len(rows) == 100
    assert list(rows[0]) == ["id", "isBuyerMaker", "price", "quantity", "quoteQuantity", "timestamp"]
    ids = [row["id"] for row in rows]
    assert ids == list(range(ids[0], ids[0] - 100, -1))
    times = [row["timestamp"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert 0 <= CLOCK.unix_us // 1000 - times[0] < 10_000
    assert all(Decimal(row["price"]) * Decimal(row["quantity"]) == Decimal(row["quoteQuantity"]) for row in rows)
    assert get("/trades?symbol=SOL_USDC_PERP&limit=3&offset=5") == rows[:3]
    assert get("/trades/history?symbol=SOL_USDC_PERP&limit=3&offset=5") == rows[5:8]


def test_mark_prices_open_interest_and_funding_of_perpetuals() -> None:
    perpetuals = [symbol for symbol in EXCHANGE.symbols if symbol.endswith("_PERP")]
    marks = get("/markPrices")
    assert [row["symbol"] for row in marks] == perpetuals
    for row in marks:
        bids, asks, _ = EXCHANGE.levels(row["symbol"])
        assert abs(Decimal(row["markPrice"]) / ((bids[0][0] + asks[0][0]) / 2) - 1) < Decimal("0.005")
        assert abs(Decimal(row["indexPrice"]) / Decimal(row["markPrice"]) - 1) < Decimal("0.005")
        assert 0 < row["nextFundingTimestamp"] - CLOCK.unix_us // 1000 <= 3_600_000
    assert get("/markPrices?symbol=BTC_USDC_PERP") == [marks[1]]
    interest = get("/openInterest")
    assert [row["symbol"] for row in interest] == perpetuals
    assert all(row["timestamp"] == CLOCK.unix_us // 1000 and Decimal(row["openInterest"]) > 0 for row in interest)
    rates = get("/fundingRates?symbol=BTC_USDC_PERP")
    assert len(rates) == 100
    assert rates[0]["fundingRate"] == marks[1]["fundingRate"]
    times = [row["intervalEndTimestamp"] for row in rates]
    assert times == sorted(times, reverse=True)
    assert all(time.endswith(":00:00") and time[10] == "T" for time in times)
    assert get("/fundingRates?symbol=BTC_USDC_PERP&limit=5&offset=3") == rates[3:8]
    assert get("/fundingRates?symbol=BTC_USDC_PERP&offset=1000000") == []


def test_assets_are_those_of_the_spot_markets_and_the_stocks_which_are_on_no_blockchain() -> None:
    tokens = {asset["symbol"]: len(asset["tokens"]) for asset in get("/assets")}
    stocks = [security["asset"] for security in get("/securities")]
    assert list(tokens) == ["SOL", "BTC", "USDT", "HNT", "USDC", *stocks]
    assert [symbol for symbol, count in tokens.items() if not count] == stocks


PATHS = st.sampled_from(
    [
        f"/api/v1/{name}"
        for name in (
            [
                "markets",
                "market",
                "depth",
                "ticker",
                "tickers",
                "klines",
                "trades",
                "trades/history",
                "markPrices",
                "openInterest",
                "fundingRates",
                "assets",
            ]
        )
    ]
)
VALUES = (
    st.sampled_from(
        ["SOL_USDC", "SOL_USDC_PERP", "HNT_USDC", "1m", "1s", "1month", "5", "-1", "99999999999999999", "0", "PERP", "1w"]
    )
    | st.integers(-(10**19), 10**19).map(str)
    | st.text()
)
NAMES = st.sampled_from(["symbol", "limit", "offset", "interval", "startTime", "endTime", "marketType", "priceType"]) | st.text(
    max_size=5
)
QUERIES = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))


@examples(400)
@given(st.tuples(PATHS, QUERIES).map("?".join) | st.text(), st.sampled_from(["GET", "POST", "", "get"]), st.binary())
def test_any_request_is_answered(target: str, method: str, body: bytes) -> None:
    answers = EXCHANGE.handle(RequestReceived(1, method, target, (("x", "y"),), body), CLOCK.now)
    assert len(answers) == 1
    answer = answers[0]
    assert isinstance(answer, Respond)
    assert answer.status in {200, 204, 400, 404, 405}
    assert answer.content_type in {JSON, TEXT, ""}
    if answer.content_type == JSON:
        json.loads(answer.body)

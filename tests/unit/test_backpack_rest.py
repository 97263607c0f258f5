from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.auth.keys import Credentials, verify_signature
from backpack_proto.auth.signing import MAX_WINDOW_MS, Signer, request_text
from backpack_proto.errors import (
    ApiError,
    LocalProtocolError,
    NothingTraded,
    OutcomeUnknown,
    PartlyUnreadable,
    RemoteProtocolError,
)
from backpack_proto.http import HttpRequest
from backpack_proto.importance import Importance
from backpack_proto.inputs import Arguments
from backpack_proto.rest.codec import (
    UNSAID_RETRY_US,
    DepthSnapshot,
    build_request,
    find_endpoint,
    outcome_unknown,
    parse_response,
    refused_authentication,
    retry_after_us,
)
from backpack_proto.rest.endpoints.table import ENDPOINTS, Endpoint, ParameterRule
from backpack_proto.rest.results.market_data import Page, SystemStatus
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Ticker

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "backpack" / "signing_vectors.json").read_text()
)
SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
DEPTH = ENDPOINTS["depth"]
ORDER = Endpoint(
    name="order",
    method="POST",
    path="/api/v1/order",
    importance=Importance.ORDER,
    instruction="orderExecute",
    parameters=(ParameterRule(name="symbol", required=True), ParameterRule(name="postOnly", kind=bool)),
    result=dict[str, str],
)


def built(endpoint: Endpoint, parameters: Arguments | None = None, **signing: Any) -> HttpRequest:
    return build_request(endpoint, endpoint.check(parameters or {}), **signing)


def test_a_request_without_parameters_is_a_path() -> None:
    assert built(ENDPOINTS["time"]) == HttpRequest(method="GET", target="/api/v1/time")


def test_parameters_of_a_get_stand_sorted_in_the_query() -> None:
    request = built(DEPTH, {"symbol": "SOL_USDC", "limit": 1000})
    assert request == HttpRequest(method="GET", target="/api/v1/depth?limit=1000&symbol=SOL_USDC")


def test_none_is_left_out() -> None:
    assert built(DEPTH, {"symbol": "X", "limit": None}).target == "/api/v1/depth?symbol=X"
    assert built(ENDPOINTS["tickers"], {"interval": None}).target == "/api/v1/tickers"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_query_carries_any_text(symbol: str) -> None:
    target = built(ENDPOINTS["market"], {"symbol": symbol}).target
    assert target.isascii()
    parts = urlsplit(target)
    assert (parts.path, parts.fragment) == ("/api/v1/market", "")
    assert parse_qsl(parts.query) == [("symbol", symbol)]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("depth", {}, "depth needs symbol: text"),
        ("depth", {"symbol": None}, "depth needs symbol: text"),
        ("depth", {"symbol": "X", "limit": 25}, "depth: limit: one of 5, 10, 20, 50, 100, 500, 1000, got 25 (int)"),
        ("depth", {"symbol": "X", "levels": 5}, "depth has no parameter 'levels'; it has symbol, limit"),
        ("time", {"symbol": "X"}, "time has no parameter 'symbol'; it has none"),
        ("ticker", {"symbol": 1.5}, "ticker: symbol: text, got 1.5 (float)"),
        ("klines", {"symbol": "X", "interval": "1m"}, "klines needs startTime: seconds since the epoch, from 0 to 99999999999"),
        ("market", {"symbol": "\ud800"}, "market: symbol: text, got '\\ud800'"),
    ],
)
def test_impossible_parameters_are_refused_before_anything_is_sent(name: str, parameters: Any, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        built(ENDPOINTS[name], parameters)
    assert str(caught.value) == message


def test_public_requests_are_never_signed() -> None:
    signer = Signer(Credentials(SECRET))
    assert built(ENDPOINTS["time"], signer=signer, unix_us=1) == built(ENDPOINTS["time"])


def test_private_requests_need_a_signer_and_the_time() -> None:
    signer = Signer(Credentials(SECRET))
    for signing in ({}, {"signer": signer}, {"unix_us": 1}):
        arguments: dict[str, Any] = signing
        with pytest.raises(LocalProtocolError, match="order is private"):
            built(ORDER, {"symbol": "X"}, **arguments)


REST_VECTORS = [vector for vector in VECTORS if vector["method"] != "WS"]


@pytest.mark.parametrize("vector", REST_VECTORS, ids=[vector["name"] for vector in REST_VECTORS])
def test_the_request_of_a_call_is_that_of_the_vector(vector: dict[str, Any]) -> None:
    endpoint = find_endpoint(f"{vector['method']} {vector['path']}")
    assert endpoint.instruction == vector["instruction"]
    parameters = {"orders": vector["orders"]} if "orders" in vector else vector["params"]
    # No signer of ours uses the longest window of the exchange. What such a vector signs is tested with the signatures.
    window_ms = min(vector["window_ms"], MAX_WINDOW_MS)
    signer = Signer(Credentials(vector["seed_b64"]), window_ms=window_ms)
    request = built(endpoint, parameters, signer=signer, unix_us=vector["timestamp_ms"] * 1000)
    assert request.method == vector["method"]
    assert request.target == vector["path"] + ("?" + vector["query_string"] if "query_string" in vector else "")
    assert request.body.decode() == vector.get("body_json", "")
    headers = dict(request.headers)
    assert set(headers) == set(vector["headers"])
    string = vector["signing_string"].replace(f"window={vector['window_ms']}", f"window={window_ms}")
    assert verify_signature(vector["api_key_b64"], headers["X-Signature"], string)
    if window_ms == vector["window_ms"]:
        assert headers == vector["headers"]


def test_fourteen_vectors_name_an_endpoint() -> None:
    assert len(REST_VECTORS) == 14


def test_the_request_scheme_covers_target_and_body() -> None:
    signer = Signer(Credentials(SECRET, passphrase="open sesame"), scheme="request")
    request = built(ORDER, {"symbol": "X", "postOnly": True}, signer=signer, unix_us=1_788_285_151_083_777)
    headers = dict(request.headers)
    assert request.body == b'{"symbol":"X","postOnly":true}'
    assert headers["X-Timestamp"] == "1788285151083777"
    assert headers["X-Passphrase"] == "open sesame"
    text = request_text("POST", request.target, request.body, timestamp_us=1788285151083777)
    assert verify_signature(headers["X-API-Key"], headers["X-Signature"], text)
    assert "open sesame" not in repr(request)


def test_an_answer_is_typed_by_the_table() -> None:
    assert parse_response(ENDPOINTS["status"], {}, status=200, body=b'{"message":null,"status":"Ok"}') == SystemStatus(
        state="Ok"
    )
    tickers = parse_response(ENDPOINTS["tickers"], {}, status=200, body=b"[]")
    assert tickers == ()


def test_a_snapshot_repeats_what_was_asked_for() -> None:
    body = b'{"asks":[],"bids":[["1","2"]],"lastUpdateId":"5","timestamp":6}'
    assert parse_response(DEPTH, {"symbol": "X", "limit": 5}, status=200, body=body) == DepthSnapshot(
        symbol="X", limit=5, last_update_id=5, engine_us=6, bids=(Level(1, 2),), asks=()
    )
    snapshot = parse_response(DEPTH, {"symbol": "X", "limit": None}, status=200, body=body)
    assert isinstance(snapshot, DepthSnapshot)
    assert snapshot.limit is None


@pytest.mark.parametrize("body", [b"", b"\n"])
def test_a_ticker_without_content_says_that_nothing_was_traded(body: bytes) -> None:
    with pytest.raises(NothingTraded, match=r"^GET /api/v1/ticker: nothing was traded yet in NEW_USDC$") as caught:
        parse_response(ENDPOINTS["ticker"], {"symbol": "NEW_USDC"}, status=204, body=body)
    assert caught.value.symbol == "NEW_USDC"


@pytest.mark.parametrize("status", [202, 204])
@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=lambda endpoint: endpoint.name)
def test_no_typed_call_is_answered_with_none(endpoint: Endpoint, status: int) -> None:
    if endpoint.result is None:
        assert parse_response(endpoint, {}, status=status, body=b"") is None
        return
    parameters: Arguments = {"orders": [{"symbol": "X", "clientId": 7}]} if endpoint.batch else {"symbol": "X", "clientId": 7}
    expected = RemoteProtocolError if endpoint.idempotent else OutcomeUnknown
    with pytest.raises((expected, NothingTraded)) as caught:
        parse_response(endpoint, parameters, status=status, body=b"")
    assert isinstance(caught.value, NothingTraded) == (endpoint.name == "ticker" and status == 204)
    if isinstance(caught.value, OutcomeUnknown):
        assert "7" in str(caught.value), "it can be looked up"


def test_content_is_read_whatever_the_good_status() -> None:
    assert parse_response(ENDPOINTS["status"], {}, status=202, body=b'{"status":"Ok"}') == SystemStatus(state="Ok")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"symbol":"X"}', b"\xff"])
def test_an_accepted_call_with_an_unreadable_answer_is_a_remote_error(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^ticker: "):
        parse_response(ENDPOINTS["ticker"], {"symbol": "X"}, status=200, body=body)


def test_numbers_that_are_none_are_refused() -> None:
    ticker = dict.fromkeys(
        ["firstPrice", "lastPrice", "high", "low", "priceChange", "priceChangePercent", "volume", "quoteVolume", "trades"], "1"
    )
    body = json.dumps({"symbol": "X", **ticker}).encode()
    assert isinstance(parse_response(ENDPOINTS["ticker"], {"symbol": "X"}, status=200, body=body), Ticker)
    for name in ticker:
        broken = json.dumps({"symbol": "X", **ticker, name: "NaN"}).encode()
        with pytest.raises(RemoteProtocolError):
            parse_response(ENDPOINTS["tickers"], {}, status=200, body=b"[" + broken + b"]")


def refusal(status: int, body: bytes, *, endpoint: Endpoint = DEPTH, retry_after_us: int | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_response(endpoint, {"symbol": "X"}, status=status, body=body, retry_after_us=retry_after_us)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (
            400,
            b'{"code":"INVALID_CLIENT_REQUEST","message":"Invalid market symbol"}',
            "INVALID_CLIENT_REQUEST",
            "Invalid market symbol",
        ),
        (404, b'{"code":"RESOURCE_NOT_FOUND","message":"Not Found"}', "RESOURCE_NOT_FOUND", "Not Found"),
        (400, b'{"code":"SOMETHING_NEW","message":null,"more":1}', "SOMETHING_NEW", ""),
        (400, b'{"code":4006,"message":"Invalid stream"}', "4006", "Invalid stream"),
        (404, b"404 not found", "", "404 not found"),
        (400, b"failed to parse parameter `limit`: failed to parse", "", "failed to parse parameter `limit`: failed to parse"),
        (502, b"<html>\xff</html>\n", "", "<html>\ufffd</html>"),
        (500, b"", "", ""),
        (403, b'["code"]', "", '["code"]'),
        (301, b"moved", "", "a redirect to another path, which is not followed"),
    ],
)
def test_a_refusal_says_what_the_exchange_said(status: int, body: bytes, code: str, message: str) -> None:
    error = refusal(status, body)
    assert (error.status, error.code, error.message, error.endpoint) == (status, code, message, "GET /api/v1/depth")


def test_a_long_text_is_cut() -> None:
    assert refusal(500, "é".encode() * 5000).message == "é" * 200


@pytest.mark.parametrize(
    ("status", "method", "given_us", "expected"),
    [
        (400, "GET", None, None),
        (404, "GET", None, None),
        (429, "GET", None, UNSAID_RETRY_US),
        (429, "POST", None, UNSAID_RETRY_US),
        (400, "POST", None, None),
        (503, "GET", None, UNSAID_RETRY_US),
        (500, "GET", None, UNSAID_RETRY_US),
        (502, "GET", None, UNSAID_RETRY_US),
        (429, "GET", 7_000_000, 7_000_000),
        (429, "GET", -1, 0),
        (400, "GET", 7_000_000, 7_000_000),
    ],
)
def test_a_refusal_says_whether_another_try_makes_sense(
    status: int, method: str, given_us: int | None, expected: int | None
) -> None:
    importance = Importance.READ if method == "GET" else Importance.ORDER
    endpoint = Endpoint(name="x", method=method, path="/x", result=None, importance=importance)
    assert refusal(status, b"", endpoint=endpoint, retry_after_us=given_us).retry_after_us == expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, b"", True),
        (400, b'{"code":"INVALID_CLIENT_REQUEST","message":"Invalid X-Signature header"}', True),
        (400, b'{"code":"INVALID_CLIENT_REQUEST","message":"Invalid signature"}', True),
        (400, b'{"code":"INVALID_CLIENT_REQUEST","message":"Request has expired"}', True),
        (400, b'{"code":"INVALID_SIGNATURE","message":"no"}', True),
        (400, b'{"code":"INVALID_CLIENT_REQUEST","message":"Invalid market symbol"}', False),
        (403, b'{"code":"FORBIDDEN","message":"no"}', False),
    ],
)
def test_refused_signatures_are_told_from_other_refusals(status: int, body: bytes, expected: bool) -> None:  # noqa: FBT001 - a table
    assert refused_authentication(refusal(status, body)) is expected


PLACED: dict[str, Any] = {
    "symbol": "SOL_USDC",
    "side": "Bid",
    "orderType": "Limit",
    "price": "1",
    "quantity": "2",
    "clientId": 7,
}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"", "answered 500"),
        (502, b"<html>bad gateway</html>", "answered 502  <html>bad gateway</html>"),
        (503, b'{"code":"MAINTENANCE","message":"back at noon"}', "answered 503 MAINTENANCE back at noon"),
        (504, b"", "answered 504"),
        (408, b"", "answered 408"),
        (400, b'{"code":"TIMEOUT","message":"took too long"}', "answered 400 TIMEOUT took too long"),
    ],
)
def test_a_broken_answer_to_an_order_leaves_its_outcome_unknown(status: int, body: bytes, reason: str) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        parse_response(ENDPOINTS["place_order"], PLACED, status=status, body=body)
    assert caught.value == OutcomeUnknown(endpoint="POST /api/v1/order", reason=reason, symbol="SOL_USDC", client_id=7)
    assert not isinstance(caught.value, ApiError)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"id":1}'])
def test_an_order_that_was_accepted_in_words_nobody_understands_is_unknown(body: bytes) -> None:
    with pytest.raises(OutcomeUnknown, match="accepted, but the answer cannot be read"):
        parse_response(ENDPOINTS["place_order"], PLACED, status=200, body=body)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("place_order", {**PLACED, "clientId": None}, {"symbol": "SOL_USDC"}),
        ("cancel_order", {"symbol": "SOL_USDC", "orderId": "59669287267"}, {"symbol": "SOL_USDC", "order_id": "59669287267"}),
        ("cancel_all_orders", {"symbol": "SOL_USDC"}, {"symbol": "SOL_USDC"}),
        ("cancel_strategy", {"symbol": "SOL_USDC", "clientStrategyId": 41}, {"symbol": "SOL_USDC", "client_id": 41}),
        ("accept_quote", {"quoteId": "5", "rfqId": "6"}, {"order_id": "5"}),
        ("update_account", {"autoLend": True}, {}),
        (
            "withdraw",
            {
                "address": "a",
                "blockchain": "b",
                "quantity": "1",
                "symbol": "SOL",
                "clientId": "p-1",
                "twoFactorToken": "hunter2",
            },
            {"symbol": "SOL", "client_id": "p-1"},
        ),
        (
            "place_orders",
            {"orders": [PLACED, {**PLACED, "clientId": None}]},
            {"orders": (("SOL_USDC", 7), ("SOL_USDC", None))},
        ),
    ],
)
def test_an_unknown_outcome_says_what_to_look_for(name: str, parameters: Any, expected: Any) -> None:
    endpoint = ENDPOINTS[name]
    error = outcome_unknown(endpoint, endpoint.check(parameters), "lost")
    assert error == OutcomeUnknown(endpoint=endpoint.route, reason="lost", **expected)
    assert "hunter2" not in repr(error) + str(error)
    assert hash(error) == hash(outcome_unknown(endpoint, endpoint.check(parameters), "lost"))


def test_an_unknown_outcome_is_said_in_words() -> None:
    one = OutcomeUnknown(endpoint="POST /api/v1/order", reason="lost", symbol="SOL_USDC", client_id=7)
    assert str(one) == "POST /api/v1/order (symbol SOL_USDC, client id 7): the outcome is unknown: lost"
    many = OutcomeUnknown(endpoint="POST /api/v1/orders", reason="lost", orders=(("A", 1), ("B", None)))
    assert str(many) == "POST /api/v1/orders (A client id 1, B client id None): the outcome is unknown: lost"
    assert str(OutcomeUnknown(endpoint="X", reason="lost")) == "X: the outcome is unknown: lost"


@given(st.sampled_from(sorted(ENDPOINTS)), st.integers(100, 599), st.binary(max_size=60))
def test_any_response_is_an_answer_or_one_of_three_errors(name: str, status: int, body: bytes) -> None:
    endpoint = ENDPOINTS[name]
    parameters: Any = {"orders": [PLACED]} if endpoint.batch else {"symbol": "X"}
    try:
        parse_response(endpoint, parameters, status=status, body=body)
    except ApiError:
        assert not 200 <= status < 300
        assert endpoint.idempotent or status < 500
    except RemoteProtocolError:
        assert endpoint.idempotent
        assert 200 <= status < 300
    except OutcomeUnknown:
        assert not endpoint.idempotent
        assert not 300 <= status < 400
    else:
        assert 200 <= status < 300


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("https://elsewhere.example/api/v1/ping?x=1", "https://elsewhere.example,"),
        ("http://user:hunter2@elsewhere.example:8080/", "http://elsewhere.example:8080,"),
        ("/api/v2/ping", "another path,"),
        ("", "another path,"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_whatever_it_leads_to(status: int, location: str, where: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_response(find_endpoint("ping"), {}, status=status, body=b"moved", headers=(("location", location),))
    assert refused.value.message == f"a redirect to {where} which is not followed"
    assert refused.value.retry_after_us is None
    assert "hunter2" not in str(refused.value)


def test_a_redirected_order_was_refused() -> None:
    order = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Market", "quantity": "1"}
    with pytest.raises(ApiError, match="not followed"):
        parse_response(find_endpoint("POST /api/v1/order"), order, status=307, body=b"")


@pytest.mark.parametrize(
    ("headers", "wait_us"),
    [
        ((), None),
        ((("Retry-After", "7"),), 7_000_000),
        ((("Date", "7"), ("retry-after", "0")), 0),
        ((("retry-after", "1000000000"),), 10**15),
        ((("retry-after", "9" * 18),), 10**18),
        ((("retry-after", "9" * 19),), None),
        ((("retry-after", "9" * 5_000),), None),
        ((("retry-after", "Sun, 22 Nov 2026 19:00:00 GMT"),), None),
        ((("retry-after", "-1"),), None),
        ((("retry-after", "1_0"),), None),
        ((("retry-after", "\u0663"),), None),
        ((("retry-after", "\u00b2"),), None),
    ],
)
def test_how_long_to_wait_is_digits_or_nothing(headers: tuple[tuple[str, str], ...], wait_us: int | None) -> None:
    assert retry_after_us(headers) == wait_us


@given(st.text() | st.text("0123456789", max_size=6_000))
def test_no_header_is_too_much_for_the_reader_of_numbers(value: str) -> None:
    wait_us = retry_after_us((("Retry-After", value),))
    assert wait_us is None or 0 <= wait_us <= 10**18
    names = ("x-total", "x-page-count", "x-current-page", "x-page-size", "x-request-id")
    page = parse_response(
        find_endpoint("fill_history"), {}, status=200, body=b"[]", headers=tuple((name, value) for name in names)
    )
    assert isinstance(page, Page)
    assert page.total == (int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None)


@given(st.sampled_from(sorted(ENDPOINTS)), st.data())
def test_whatever_passes_the_check_can_be_signed_and_sent(name: str, data: st.DataObject) -> None:
    endpoint = ENDPOINTS[name]
    values = st.text(max_size=4) | st.integers(-2, 2**65) | st.booleans() | st.decimals() | st.sampled_from(["1.50", "Bid"])
    words = [word for rule in endpoint.parameters for word in rule.choices]
    drawn = {rule.name: data.draw(values | st.sampled_from(words) if words else values) for rule in endpoint.parameters}
    parameters: Any = {"orders": [drawn]} if endpoint.batch else drawn
    try:
        checked = endpoint.check(parameters)
    except LocalProtocolError:
        return
    for scheme in ("instruction", "request"):
        build_request(endpoint, checked, signer=Signer(Credentials(SECRET), scheme=scheme), unix_us=1_788_285_151_083_777)


# Rows that cannot be read.

ORDER_ROW = {"id": "5", "symbol": "SOL_USDC", "side": "Bid", "status": "New", "orderType": "Limit", "executedQuantity": "0"}
FILL_ROW = {"orderId": "5", "symbol": "S", "side": "Bid", "price": "1", "quantity": "2", "timestamp": "2026-09-01T17:54:04.094"}
POSITION_ROW = {"symbol": "S", "positionId": "9", "netQuantity": "1", "entryPrice": "1", "breakEvenPrice": "1"}
CANDLE_ROW = {"start": "2026-09-01 16:52:00", "end": "2026-09-01 16:53:00", "quoteVolume": "0", "trades": "0", "volume": "0"}


def rows_of(name: str, *rows: object) -> object:
    parameters: Any = {"symbol": "S", "interval": "1m"}
    return parse_response(ENDPOINTS[name], parameters, status=200, body=json.dumps(rows).encode())


@pytest.mark.parametrize(
    ("name", "row", "member", "row_id"),
    [
        ("open_orders", ORDER_ROW, "status", "5"),
        ("order_history", ORDER_ROW, "symbol", "5"),
        ("fill_history", FILL_ROW, "quantity", "5"),
        ("positions", POSITION_ROW, "netQuantity", "S"),
        ("klines", CANDLE_ROW, "end", "2026-09-01 16:52:00"),
    ],
)
def test_one_odd_row_costs_itself_and_is_named(name: str, row: dict[str, str], member: str, row_id: str) -> None:
    odd = {key: value for key, value in row.items() if key != member}
    with pytest.raises(PartlyUnreadable) as caught:
        rows_of(name, row, odd, None, row)
    error = caught.value
    (good, _) = error.rows
    assert error.rows == (good, good)
    assert [key for key, _ in error.errors] == [row_id, ""]
    assert member in error.errors[0][1]
    assert f"{ENDPOINTS[name].route}: 2 of 4 rows cannot be read: {row_id} (" in str(error)
    assert pickle.loads(pickle.dumps(error)) == error  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("name", "row", "members"),
    [
        ("open_orders", ORDER_ROW, ("timeInForce", "selfTradePrevention", "createdAt", "orderType")),
        ("fill_history", FILL_ROW, ("fee", "feeSymbol", "isMaker", "tradeId")),
    ],
)
def test_members_that_do_not_matter_may_be_missing_or_null(name: str, row: dict[str, str], members: tuple[str, ...]) -> None:
    for member in members:
        without = rows_of(name, {key: value for key, value in row.items() if key != member})
        assert rows_of(name, {**row, member: None}) == without


def test_a_balance_that_cannot_be_read_is_named() -> None:
    body = {"SOL": {"available": "1", "locked": "0", "staked": "0"}, "USDC": {"available": "1", "locked": None, "staked": "0"}}
    with pytest.raises(PartlyUnreadable) as caught:
        parse_response(ENDPOINTS["balances"], {}, status=200, body=json.dumps(body).encode())
    assert [balance.asset for balance in caught.value.rows] == ["SOL"]
    assert [key for key, _ in caught.value.errors] == ["USDC"]


def test_an_id_that_is_a_number_is_known_as_its_text() -> None:
    with pytest.raises(PartlyUnreadable) as caught:
        rows_of("open_orders", {"id": 7}, {"id": -7}, {"id": 7.5}, {"id": None})
    assert [key for key, _ in caught.value.errors] == ["7", "", "", ""]


def test_many_errors_are_summed_up() -> None:
    with pytest.raises(PartlyUnreadable, match=r"9 of 9 rows .* and 6 more; `rows` has the others$") as caught:
        rows_of("open_orders", *range(9))
    assert caught.value.rows == ()


def test_a_depth_answer_is_all_or_nothing() -> None:
    body = b'{"asks":[["9","1"],["10","x"]],"bids":[["8","1"]],"lastUpdateId":"5","timestamp":1}'
    with pytest.raises(RemoteProtocolError) as caught:
        parse_response(DEPTH, {"symbol": "X", "limit": 5}, status=200, body=body)
    assert not isinstance(caught.value, PartlyUnreadable)


def test_a_list_of_cancelled_orders_that_cannot_be_read_has_an_unknown_outcome() -> None:
    with pytest.raises(OutcomeUnknown):
        parse_response(ENDPOINTS["cancel_all_orders"], {"symbol": "S"}, status=200, body=b'[{"id":"5"}]')

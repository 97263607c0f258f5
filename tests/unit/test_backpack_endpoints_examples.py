"""Every endpoint has an example: a call, and an answer in the documented shape. Both go through the whole of `rest`."""

from __future__ import annotations

import json
import pickle
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import quote

import msgspec
import pytest

from backpack_proto.account.values import Balance, Fill, Order, Position
from backpack_proto.auth.keys import Credentials, verify_signature
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import OutcomeUnknown, RemoteProtocolError
from backpack_proto.rest.codec import build_request, parse_response
from backpack_proto.rest.endpoints.table import ENDPOINTS, Endpoint
from backpack_proto.rest.markets import Markets
from backpack_proto.rest.results.market_data import DepthSnapshot, Page, ServerTime
from backpack_proto.rest.results.orders import OrderRefused
from backpack_proto.streams.payloads import Kline, MarkPrice, OpenInterest, Ticker, Trade

FIXTURES = Path(__file__).parent.parent / "fixtures" / "backpack"
EXAMPLES: dict[str, dict[str, Any]] = json.loads((FIXTURES / "rest.json").read_text())
SIGNER = Signer(Credentials("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
UNIX_US = 1_795_012_345_310_999

each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)

# These have another form than their JSON. What it becomes is tested where it is made.
REFORMED = {"markets": Markets, "depth": DepthSnapshot, "time": ServerTime, "ping": str, "balances": Balance}

# These are the values of the streams, whose own encoding has the letters of the streams: REST's members and the fields.
REST_NAMES: dict[type[Any], dict[str, str]] = {
    Kline: {
        "start": "start_us",
        "end": "end_us",
        "open": "open",
        "high": "high",
        "low": "low",
        "close": "close",
        "volume": "volume",
        "quoteVolume": "quote_volume",
        "trades": "trade_count",
    },
    Trade: {
        "id": "trade_id",
        "isBuyerMaker": "buyer_is_maker",
        "price": "price",
        "quantity": "quantity",
        "quoteQuantity": "quote_quantity",
        "timestamp": "engine_us",
    },
    Ticker: {
        "symbol": "symbol",
        "firstPrice": "first_price",
        "lastPrice": "last_price",
        "high": "high",
        "low": "low",
        "priceChange": "price_change",
        "priceChangePercent": "price_change_fraction",
        "volume": "volume",
        "quoteVolume": "quote_volume",
        "trades": "trade_count",
    },
    MarkPrice: {
        "symbol": "symbol",
        "markPrice": "mark_price",
        "indexPrice": "index_price",
        "fundingRate": "funding_rate",
        "nextFundingTimestamp": "next_funding_us",
    },
    OpenInterest: {"symbol": "symbol", "openInterest": "open_interest", "timestamp": "engine_us"},
}
MAY_BE_ABSENT = {"id", "open", "high", "low", "close", "indexPrice", "fundingRate", "nextFundingTimestamp", "openInterest"}
FROM_THE_CALL = {"symbol", "interval"}


def body_of(example: dict[str, Any]) -> bytes:
    return example["text"].encode() if "text" in example else json.dumps(example["body"]).encode()


def answer_to(endpoint: Endpoint) -> Any:
    example = EXAMPLES[endpoint.name]
    headers = tuple(example.get("headers", {}).items())
    return parse_response(endpoint, example["parameters"], status=200, body=body_of(example), headers=headers)


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_every_endpoint_has_an_example_and_every_example_an_endpoint() -> None:
    assert set(EXAMPLES) == set(ENDPOINTS)


@each_endpoint
def test_an_example_uses_every_parameter_that_a_call_can_have(endpoint: Endpoint) -> None:
    parameters = EXAMPLES[endpoint.name]["parameters"]
    used = set(parameters) if not endpoint.batch else {name for order in parameters["orders"] for name in order}
    exclusive = {name for group in endpoint.groups for name in group.names}
    if not endpoint.batch and endpoint.name != "create_strategy":
        assert {rule.name for rule in endpoint.parameters} - used <= exclusive | {"triggerBy"}


@each_endpoint
def test_a_call_becomes_the_request_that_is_documented(endpoint: Endpoint) -> None:
    parameters = EXAMPLES[endpoint.name]["parameters"]
    request = build_request(endpoint, endpoint.check(parameters), signer=SIGNER, unix_us=UNIX_US)
    assert request.method == endpoint.method
    if endpoint.method == "GET":
        query = "&".join(f"{name}={quote(as_text(value), safe='')}" for name, value in sorted(parameters.items()))
        assert request.target == endpoint.path + (f"?{query}" if query else "")
        assert request.body == b""
    else:
        assert request.target == endpoint.path
        assert json.loads(request.body) == (parameters["orders"] if endpoint.batch else parameters)
        assert dict(request.headers)["Content-Type"] == "application/json; charset=utf-8"


@each_endpoint
def test_what_is_signed_is_the_documented_string(endpoint: Endpoint) -> None:
    parameters = EXAMPLES[endpoint.name]["parameters"]
    headers = dict(build_request(endpoint, endpoint.check(parameters), signer=SIGNER, unix_us=UNIX_US).headers)
    if endpoint.instruction is None:
        assert "X-Signature" not in headers
        return
    parts = []
    for group in parameters["orders"] if endpoint.batch else [parameters]:
        parts.append(f"instruction={endpoint.instruction}")
        parts += [f"{name}={as_text(value)}" for name, value in sorted(group.items())]
    string = "&".join([*parts, "timestamp=1795012345310", "window=5000"])
    assert (headers["X-Timestamp"], headers["X-Window"]) == ("1795012345310", "5000")
    assert len(b64decode(headers["X-Signature"])) == 64
    assert verify_signature(SIGNER.api_key, headers["X-Signature"], string)
    assert not verify_signature(SIGNER.api_key, headers["X-Signature"], string + "0")


def wire_us(wire: str | int) -> int:
    """The microseconds of a time on the wire: milliseconds, or text in UTC."""
    if isinstance(wire, int) or wire.isdigit():
        return int(wire) * 1000
    moment = datetime.fromisoformat(wire)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def assert_carries(value: Any, wire: Any, *, where: str) -> None:
    """Nothing of the JSON is lost or changed: each member is in the value, in its type."""
    match value:
        case msgspec.Struct():
            own = {field.encode_name: field.name for field in msgspec.structs.fields(value)}
            fields = REST_NAMES.get(type(value), own)
            unknown = set(wire) - set(fields) - {"operation"}
            assert not unknown, f"{where}: {unknown}"
            for member, content in wire.items():
                if content is not None and fields.get(member, "").endswith("_us"):
                    assert getattr(value, fields[member]) == wire_us(content), f"{where}.{member}"
                elif member in fields:
                    assert_carries(getattr(value, fields[member]), content, where=f"{where}.{member}")
            given = {fields[member] for member in wire if member in fields} | (FROM_THE_CALL if fields is not own else set())
            for absent in set(own.values()) - given:
                assert getattr(value, absent) is None, f"{where}.{absent}"
        case Mapping():
            assert set(value) == set(wire)
            for key, content in wire.items():
                assert_carries(value[key], content, where=f"{where}.{key}")
        case tuple():
            assert len(value) == len(wire)
            for number, (one, content) in enumerate(zip(value, wire, strict=True)):
                assert_carries(one, content, where=f"{where}[{number}]")
        case Decimal():
            assert value == Decimal(str(wire)), where
            assert isinstance(wire, float) or str(value) == str(Decimal(wire)), where
        case bool() | None:
            assert value is wire, where
        case int():
            assert value == int(wire), where
        case _:
            assert value == wire, where
            assert type(value) is str, where


@each_endpoint
def test_an_answer_becomes_its_type_and_nothing_is_lost(endpoint: Endpoint) -> None:
    example = EXAMPLES[endpoint.name]
    answer = answer_to(endpoint)
    if endpoint.result is None:
        assert answer is None
        return
    if endpoint.paged:
        assert isinstance(answer, Page)
        assert (answer.total, answer.page_count, answer.page_number, answer.page_size) == (237, 3, 1, 100)
        answer = answer.rows
    assert isinstance(answer, get_origin(endpoint.result) or endpoint.result)
    if get_origin(endpoint.result) is tuple:
        assert answer
        row = get_args(endpoint.result)[0]
        assert all(isinstance(one, row) for one in answer)
    if endpoint.name in REFORMED:
        return
    assert_carries(answer, example["body"], where=endpoint.name)


def test_a_batch_says_which_order_became_what() -> None:
    first, second, third = answer_to(ENDPOINTS["place_orders"])
    assert isinstance(first, Order)
    assert (first.order_id, first.order_type, first.executed_quantity) == ("7120045518", "Limit", Decimal("4.20"))
    assert second == OrderRefused(code="INSUFFICIENT_FUNDS", message="Insufficient funds")
    assert isinstance(third, Order)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:2],
        lambda rows: [*rows, rows[0]],
        lambda rows: [{**rows[0], "operation": "Perhaps"}, *rows[1:]],
        lambda rows: [{name: value for name, value in rows[0].items() if name != "operation"}, *rows[1:]],
        lambda rows: [{**rows[0], "id": None}, *rows[1:]],
    ],
)
def test_a_batch_that_does_not_answer_its_orders_leaves_them_unknown(change: Any) -> None:
    endpoint, example = ENDPOINTS["place_orders"], EXAMPLES["place_orders"]
    with pytest.raises(OutcomeUnknown) as caught:
        parse_response(endpoint, example["parameters"], status=200, body=json.dumps(change(example["body"])).encode())
    assert caught.value.orders == (("SOL_USDC_PERP", 7001), ("SOL_USDC", None), ("SOL_USDC_PERP", None))


def test_an_order_has_one_time_whether_open_or_of_the_past() -> None:
    open_order, old_order = answer_to(ENDPOINTS["open_orders"])[0], answer_to(ENDPOINTS["order_history"])[0]
    assert isinstance(open_order, Order)
    assert isinstance(old_order, Order)
    assert open_order.created_us == 1_795_012_345_310_000
    assert old_order.created_us == 1_795_012_345_310_000
    assert type(old_order.created_us) is type(open_order.created_us) is int


def test_a_balance_knows_its_asset() -> None:
    assert answer_to(ENDPOINTS["balances"]) == {
        "SOL": Balance(asset="SOL", available=Decimal("12.50"), locked=Decimal("4.20"), staked=Decimal(0)),
        "USDC": Balance(asset="USDC", available=Decimal("1791.00"), locked=Decimal(0), staked=Decimal(0)),
    }


@pytest.mark.parametrize("change", [{"SOL": {"available": "1", "locked": "0"}}, {"SOL": None}, [], {"SOL": {"available": "x"}}])
def test_balances_that_lack_something_are_not_taken(change: Any) -> None:
    with pytest.raises(RemoteProtocolError, match=r"1 of 1 rows cannot be read: SOL \(|^balances: "):
        parse_response(ENDPOINTS["balances"], {}, status=200, body=json.dumps(change).encode())


@pytest.mark.parametrize("name", ["order", "order_history", "fill_history", "positions", "balances"])
def test_answers_about_an_account_are_values_that_travel(name: str) -> None:
    answer = answer_to(ENDPOINTS[name])
    rows = [answer] if isinstance(answer, Order) else list(answer.values() if isinstance(answer, dict) else answer)
    for row in rows:
        assert type(row) in {Order, Fill, Position, Balance}
        assert msgspec.json.decode(msgspec.json.encode(row), type=type(row)) == row
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=type(row)) == row
        assert pickle.loads(pickle.dumps(row)) == row  # noqa: S301 - our own bytes


def test_the_client_id_of_a_fill_is_a_number_although_it_is_sent_as_text() -> None:
    mine, theirs = answer_to(ENDPOINTS["fill_history"])
    assert (mine.client_id, mine.trade_id, mine.filled_us) == (7001, 402117356, 1_795_012_345_092_000)
    assert (theirs.client_id, theirs.trade_id, theirs.system_order_type) == (None, None, "LiquidatePositionOnBook")


def test_long_decimals_keep_all_their_digits() -> None:
    assert answer_to(ENDPOINTS["positions"])[1].entry_price == Decimal("91204.1234567890123456789012")


@each_endpoint
def test_an_answer_without_a_member_that_must_be_there_is_not_taken(endpoint: Endpoint) -> None:
    """Of one struct, taken from the middle of each answer."""
    body: Any = EXAMPLES[endpoint.name].get("body")
    row_type = get_args(endpoint.result)[0] if get_origin(endpoint.result) is tuple else endpoint.result
    if not (isinstance(row_type, type) and issubclass(row_type, msgspec.Struct)) or endpoint.name in REFORMED:
        return
    row = body[0] if isinstance(body, list) else body
    required = {member.encode_name for member in msgspec.structs.fields(row_type) if member.required}
    if row_type in REST_NAMES:
        required = set(REST_NAMES[row_type]) - MAY_BE_ABSENT
    for member in sorted(required):
        broken = {name: value for name, value in row.items() if name != member}
        sent = json.dumps([broken] if isinstance(body, list) else broken).encode()
        with pytest.raises((RemoteProtocolError, OutcomeUnknown)):
            parse_response(endpoint, EXAMPLES[endpoint.name]["parameters"], status=200, body=sent)


def test_a_history_is_a_page_with_or_without_counts() -> None:
    endpoint = ENDPOINTS["fill_history"]
    body = body_of(EXAMPLES["fill_history"])
    page = parse_response(endpoint, {}, status=200, body=body)
    assert isinstance(page, Page)
    assert (page.total, page.page_count, page.page_number, page.page_size) == (None, None, None, None)
    assert len(page) == 2
    assert list(page) == [page[0], page[1]]
    odd = parse_response(endpoint, {}, status=200, body=body, headers=(("x-total", "many"), ("X-PAGE-COUNT", "4")))
    assert isinstance(odd, Page)
    assert (odd.total, odd.page_count) == (None, 4)


def test_examples_hold_no_row_twice_by_mistake() -> None:
    for example in EXAMPLES.values():
        rows = example.get("body")
        if isinstance(rows, Sequence):
            assert all(rows[:number].count(row) == 0 for number, row in enumerate(rows))

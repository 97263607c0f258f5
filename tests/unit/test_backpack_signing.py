from __future__ import annotations

import json
from base64 import b64encode
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.auth.keys import Credentials, verify_signature
from backpack_proto.auth.signing import (
    DEFAULT_WINDOW_MS,
    MAX_EXCHANGE_WINDOW_MS,
    MAX_WINDOW_MS,
    Scheme,
    Signer,
    encode_value,
    json_body,
    query_string,
    request_text,
    signed_headers,
    signing_string,
)
from backpack_proto.decoding import sane
from backpack_proto.errors import LocalProtocolError
from backpack_proto.http import HttpRequest
from hypothesis_profiles import examples

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "fixtures" / "backpack" / "signing_vectors.json").read_text()
)
SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CREDENTIALS = Credentials(SECRET)
NOW_US = 1_750_793_021_519_876

each_vector = pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = (
    texts
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.decimals(allow_nan=False, allow_infinity=False).filter(sane)
    | st.none()
)
parameter_sets = st.dictionaries(texts, values, max_size=6)


def given_parameters(vector: dict[str, Any]) -> Any:
    return vector["orders"] if "orders" in vector else vector["params"]


def test_there_are_sixteen_vectors() -> None:
    assert len(VECTORS) == 16


@each_vector
def test_string_and_signature_are_byte_for_byte_those_of_the_vector(vector: dict[str, Any]) -> None:
    credentials = Credentials(vector["seed_b64"], api_key=vector["api_key_b64"])
    string = signing_string(
        vector["instruction"],
        given_parameters(vector),
        timestamp_ms=vector["timestamp_ms"],
        window_ms=vector["window_ms"],
    )
    assert string == vector["signing_string"]
    assert credentials.sign(string) == vector["signature_b64"]
    assert verify_signature(vector["api_key_b64"], vector["signature_b64"], string)


@each_vector
def test_headers_body_query_and_frame_are_those_of_the_vector(vector: dict[str, Any]) -> None:
    credentials = Credentials(vector["seed_b64"])
    headers = signed_headers(
        credentials, vector["signing_string"], timestamp=vector["timestamp_ms"], window_ms=vector["window_ms"]
    )
    expected = {name: text for name, text in vector["headers"].items() if name != "Content-Type"}
    if vector["method"] != "WS":
        assert dict(headers) == expected
    assert ("body_json" in vector) == ("Content-Type" in vector["headers"])
    if "body_json" in vector:
        assert json_body(given_parameters(vector)).decode() == vector["body_json"]
    if "query_string" in vector:
        assert query_string(vector["params"]) == vector["query_string"]
    if "ws_frame" in vector:
        signature = dict(headers)
        assert vector["ws_frame"]["signature"] == [
            signature[name] for name in ("X-API-Key", "X-Signature", "X-Timestamp", "X-Window")
        ]


@each_vector
def test_a_signer_gives_the_headers_of_each_vector_whose_window_it_allows(vector: dict[str, Any]) -> None:
    if vector["window_ms"] > MAX_WINDOW_MS:
        with pytest.raises(LocalProtocolError):
            Signer(Credentials(vector["seed_b64"]), window_ms=vector["window_ms"])
        return
    signer = Signer(Credentials(vector["seed_b64"]), window_ms=vector["window_ms"])
    unix_us = vector["timestamp_ms"] * 1000 + 999
    if vector["method"] == "WS":
        assert list(signer.subscribe_signature(unix_us)) == vector["ws_frame"]["signature"]
        return
    request = HttpRequest(method=vector["method"], target=vector["path"])
    headers = signer.headers(request, instruction=vector["instruction"], parameters=given_parameters(vector), unix_us=unix_us)
    assert dict(headers) == {name: text for name, text in vector["headers"].items() if name != "Content-Type"}


def test_the_request_scheme_signs_microseconds_method_target_and_body() -> None:
    signer = Signer(Credentials(SECRET, passphrase="open sesame"), scheme="request", window_ms=1)
    request = HttpRequest(method="post", target="/api/v1/order?a=%20b", body='{"text":"é"}'.encode())
    headers = signer.headers(request, instruction="orderExecute", parameters={"x": "y"}, unix_us=NOW_US)
    text = '1750793021519876POST/api/v1/order?a=%20b{"text":"é"}'
    assert request_text("post", request.target, request.body, timestamp_us=NOW_US) == text.encode()
    assert headers == (
        ("X-Timestamp", "1750793021519876"),
        ("X-Window", "1"),
        ("X-API-Key", CREDENTIALS.api_key),
        ("X-Signature", CREDENTIALS.sign(text)),
        ("X-Passphrase", "open sesame"),
    )


def test_an_api_key_of_another_name_is_for_requests_of_the_request_scheme_only() -> None:
    request = HttpRequest(method="GET", target="/api/v1/capital")
    for scheme, api_key in (("request", "my-api-key"), ("instruction", CREDENTIALS.api_key)):
        signer = Signer(CREDENTIALS, scheme=scheme, api_key="my-api-key")
        headers = dict(signer.headers(request, instruction="balanceQuery", parameters={}, unix_us=NOW_US))
        assert headers["X-API-Key"] == api_key
        assert signer.api_key == signer.subscribe_signature(NOW_US)[0] == CREDENTIALS.api_key


def test_the_instruction_scheme_sends_no_passphrase() -> None:
    signer = Signer(Credentials(SECRET, passphrase="open sesame"))
    request = HttpRequest(method="GET", target="/api/v1/capital")
    headers = signer.headers(request, instruction="balanceQuery", parameters={}, unix_us=NOW_US)
    assert [name for name, _ in headers] == ["X-Timestamp", "X-Window", "X-API-Key", "X-Signature"]


def test_the_websocket_has_one_scheme_only() -> None:
    for scheme in Scheme:
        signature = Signer(CREDENTIALS, scheme=scheme).subscribe_signature(NOW_US)
        assert signature == (
            CREDENTIALS.api_key,
            CREDENTIALS.sign("instruction=subscribe&timestamp=1750793021519&window=5000"),
            "1750793021519",
            "5000",
        )


@pytest.mark.parametrize("window_ms", [0, -1, MAX_WINDOW_MS + 1, True, 5000.0, "5000", None])
def test_a_signer_checks_its_window(window_ms: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^window_ms: a whole number of milliseconds, from 1 to 10000, got "):
        Signer(CREDENTIALS, window_ms=window_ms)


@pytest.mark.parametrize("window_ms", [0, MAX_EXCHANGE_WINDOW_MS + 1, True])
def test_a_string_takes_every_window_of_the_exchange(window_ms: int) -> None:
    with pytest.raises(LocalProtocolError, match="from 1 to 60000"):
        signing_string("x", {}, timestamp_ms=0, window_ms=window_ms)
    assert signing_string("x", {}, timestamp_ms=0, window_ms=60_000).endswith("&window=60000")


def test_a_signer_shows_only_what_is_public() -> None:
    signer = Signer(CREDENTIALS, scheme="request", window_ms=MAX_WINDOW_MS)
    assert (signer.api_key, signer.scheme, signer.window_ms) == (CREDENTIALS.api_key, Scheme.REQUEST, 10_000)
    assert repr(signer) == "Signer(Credentials(A6EHv/PO...), scheme='request', window_ms=10000)"
    assert Signer(CREDENTIALS).window_ms == DEFAULT_WINDOW_MS
    with pytest.raises(LocalProtocolError, match=r"^scheme: one of instruction, request, got "):
        Signer(CREDENTIALS, scheme="hmac")


class Side(str, Enum):  # noqa: UP042 - its str() is not its value, and that is the point
    BID = "Bid"


class Number(IntEnum):
    SEVEN = 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (4294967295, "4294967295"),
        (-5, "-5"),
        (-(2**63), "-9223372036854775808"),
        (2**64 - 1, "18446744073709551615"),
        (Number.SEVEN, "7"),
        ("141.20", "141.20"),
        ("80%", "80%"),
        ("abc+/=", "abc+/="),
        ("", ""),
        (Side.BID, "Bid"),
        (Decimal("141.20"), "141.20"),
        (Decimal("1E+5"), "100000"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("-0.0"), "-0.0"),
    ],
)
def test_values_are_encoded_as_the_exchange_reads_them(value: Any, text: str) -> None:
    assert encode_value("price", value) == text


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_a_float_is_refused_by_name(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^price is a float; money is a Decimal or a string"):
        encode_value("price", value)


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("Infinity"), Decimal("1E+999999999"), 2**64, -(2**63) - 1, "\ud800", None, b"1", ["1"]]
)
def test_what_has_no_exact_text_is_refused_by_name(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^price cannot be signed: "):
        encode_value("price", value)


def test_refusals_do_not_repeat_the_value() -> None:
    secret: Any = b"hunter2"
    with pytest.raises(LocalProtocolError) as caught:
        signing_string("withdraw", {"twoFactorToken": secret}, timestamp_ms=0, window_ms=1)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [0.1, Decimal("NaN")])
def test_query_and_body_refuse_what_signing_refuses(value: Any) -> None:
    for encode in (query_string, json_body):
        with pytest.raises(LocalProtocolError, match=r"^price "):
            encode({"price": value})


def test_a_batch_needs_an_order() -> None:
    with pytest.raises(LocalProtocolError, match="at least one order"):
        signing_string("orderExecute", [], timestamp_ms=0, window_ms=1)


@given(parameter_sets)
def test_what_is_signed_is_what_is_sent(parameters: dict[str, Any]) -> None:
    present = {name: encode_value(name, value) for name, value in parameters.items() if value is not None}
    string = signing_string("x", parameters, timestamp_ms=1, window_ms=2)
    middle = [f"{name}={present[name]}" for name in sorted(present)]
    assert string == "&".join(["instruction=x", *middle, "timestamp=1", "window=2"])
    query = query_string(parameters)
    assert query.isascii()
    assert dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))) == present
    body = json.loads(json_body(parameters), parse_float=lambda text: pytest.fail(f"a float: {text}"))
    assert list(body) == [name for name, value in parameters.items() if value is not None]
    assert {name: encode_value(name, value) for name, value in body.items()} == present


@given(st.lists(parameter_sets, min_size=1, max_size=4))
def test_a_batch_is_its_orders_one_after_the_other(orders: list[dict[str, Any]]) -> None:
    tail = "&timestamp=1&window=2"
    alone = [signing_string("x", order, timestamp_ms=1, window_ms=2).removesuffix(tail) for order in orders]
    assert signing_string("x", orders, timestamp_ms=1, window_ms=2) == "&".join(alone) + tail
    assert json.loads(json_body(orders)) == [json.loads(json_body(order)) for order in orders]


@examples(25)
@given(parameter_sets, st.integers(1, MAX_WINDOW_MS), st.sampled_from(Scheme), st.binary(max_size=9))
def test_every_signature_verifies_and_none_verifies_other_text(
    parameters: dict[str, Any], window_ms: int, scheme: Scheme, body: bytes
) -> None:
    signer = Signer(CREDENTIALS, scheme=scheme, window_ms=window_ms)
    request = HttpRequest(method="POST", target="/api/v1/order", body=body)
    headers = dict(signer.headers(request, instruction="orderExecute", parameters=parameters, unix_us=NOW_US))
    text = {
        Scheme.REQUEST: request_text("POST", "/api/v1/order", body, timestamp_us=int(headers["X-Timestamp"])),
        Scheme.INSTRUCTION: signing_string(
            "orderExecute", parameters, timestamp_ms=NOW_US // 1000, window_ms=int(headers["X-Window"])
        ).encode(),
    }
    assert verify_signature(headers["X-API-Key"], headers["X-Signature"], text[scheme])
    assert not verify_signature(headers["X-API-Key"], headers["X-Signature"], text[scheme] + b" ")
    assert not verify_signature(b64encode(bytes(32)).decode(), headers["X-Signature"], text[scheme])

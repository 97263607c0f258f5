from __future__ import annotations

import json
import pickle
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from nacl.signing import SigningKey, VerifyKey

from backpack_proto.auth.keys import verify_signature
from backpack_proto.auth.signing import MAX_WINDOW_MS, request_text
from backpack_proto.errors import BackpackError
from backpack_proto.rest.codec import build_request
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_runtime.cryptofeed.auth import BackpackAuthHelper
from backpack_runtime.cryptofeed.config.model import BackpackConfig
from backpack_runtime.cryptofeed.errors import BackpackAuthError, BackpackRestError, BackpackWebsocketError

FIXTURES = Path(__file__).parent.parent / "fixtures" / "backpack"
VECTORS: list[dict[str, Any]] = json.loads((FIXTURES / "signing_vectors.json").read_text())
EXAMPLES: dict[str, dict[str, Any]] = json.loads((FIXTURES / "rest.json").read_text())
USABLE = [vector for vector in VECTORS if vector["method"] != "WS" and vector["window_ms"] <= MAX_WINDOW_MS]
SEED = bytes(range(32))
PRIVATE_KEY = b64encode(SEED).decode()
PUBLIC_KEY = b64encode(SigningKey(SEED).verify_key.encode()).decode()
AUTH = {"api_key": PUBLIC_KEY, "public_key": PUBLIC_KEY, "private_key": PRIVATE_KEY}
NOW_US = 1_750_793_021_519_876


def helper(**fields: Any) -> BackpackAuthHelper:
    return BackpackAuthHelper(BackpackConfig(**{"auth": AUTH, **fields}))


def refusal(**request: Any) -> str:
    with pytest.raises(BackpackAuthError) as raised:
        helper().build_headers(**request)
    assert raised.value.__context__ is None or raised.value.__suppress_context__
    return str(raised.value)


def test_the_vectors_are_used() -> None:
    assert len(USABLE) == 13


@pytest.mark.parametrize("vector", USABLE, ids=[vector["name"] for vector in USABLE])
def test_headers_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    query = vector.get("query_string")
    headers = helper(window_ms=vector["window_ms"]).build_headers(
        method=vector["method"],
        path=vector["path"] + (f"?{query}" if query else ""),
        body=vector.get("body_json", ""),
        timestamp_us=vector["timestamp_ms"] * 1000 + 999,
    )
    assert headers == {name: text for name, text in vector["headers"].items() if name != "Content-Type"}


def test_order_of_query_and_body_does_not_matter() -> None:
    vector = next(vector for vector in VECTORS if vector["name"] == "order_query_get_with_query")
    headers = helper().build_headers(
        method="get",
        path=vector["path"] + "?" + "&".join(reversed(vector["query_string"].split("&"))),
        timestamp_us=vector["timestamp_ms"] * 1000,
    )
    assert headers["X-Signature"] == vector["signature_b64"]


def test_a_body_may_be_spaced_and_bytes() -> None:
    vector = next(vector for vector in VECTORS if vector["name"] == "order_execute_post_booleans")
    body = json.dumps(json.loads(vector["body_json"]), indent=2).encode()
    headers = helper().build_headers(method="POST", path=vector["path"], body=body, timestamp_us=vector["timestamp_ms"] * 1000)
    assert headers["X-Signature"] == vector["signature_b64"]


def test_numbers_are_signed_with_the_digits_that_they_have() -> None:
    def sign(price: str) -> str:
        body = '{"symbol":"SOL_USDC","price":' + price + "}"
        return helper().build_headers(method="POST", path="/api/v1/order", body=body, timestamp_us=NOW_US)["X-Signature"]

    assert sign("141.20") == sign('"141.20"')
    assert sign("141.20") != sign("141.2")
    assert sign("9007199254740993") == sign('"9007199254740993"')


@pytest.mark.parametrize("name", [name for name, endpoint in ENDPOINTS.items() if endpoint.instruction is not None])
@pytest.mark.parametrize("signing", ["instruction", "request"])
def test_headers_are_those_that_the_client_itself_would_send(name: str, signing: str) -> None:
    """For every private call, found out from its finished request alone."""
    signer = BackpackConfig(auth=AUTH, signing=signing).signer()
    request = build_request(ENDPOINTS[name], ENDPOINTS[name].check(EXAMPLES[name]["parameters"]), signer=signer, unix_us=NOW_US)
    headers = helper(signing=signing).build_headers(
        method=request.method, path=request.target, body=request.body, timestamp_us=NOW_US
    )
    assert headers == {name: text for name, text in request.headers if name != "Content-Type"}


@pytest.mark.parametrize("form", ["text", "bytes"])
def test_the_request_scheme_signs_everything(form: str) -> None:
    body = '{"symbol":"SOL_USDC","side":"Bid","price":"1e5","note":"ü"}'
    headers = helper(signing="request", window_ms=10_000).build_headers(
        method="post",
        path="/api/v1/anything?a=b",
        body=body if form == "text" else body.encode(),
        timestamp_us=NOW_US,
    )
    signature = headers.pop("X-Signature")
    assert headers == {"X-Timestamp": str(NOW_US), "X-Window": "10000", "X-API-Key": PUBLIC_KEY}
    assert verify_signature(
        PUBLIC_KEY, signature, request_text("POST", "/api/v1/anything?a=b", body.encode(), timestamp_us=NOW_US)
    )
    signed = f"{NOW_US}POST/api/v1/anything?a=b{body}".encode()
    VerifyKey(b64decode(PUBLIC_KEY)).verify(signed, b64decode(signature))


def test_api_key_and_passphrase_belong_to_the_request_scheme() -> None:
    auth = {**AUTH, "api_key": "my-api-key", "passphrase": "open sesame"}
    request: dict[str, Any] = {"method": "GET", "path": "/api/v1/capital", "timestamp_us": NOW_US}
    headers = helper(auth=auth, signing="request").build_headers(**request)
    assert headers["X-API-Key"] == "my-api-key"
    assert headers["X-Passphrase"] == "open sesame"
    headers = helper(auth={**AUTH, "api_key": "my-api-key"}).build_headers(**request)
    assert headers["X-API-Key"] == PUBLIC_KEY, "the exchange knows an account by its public key"
    assert "X-Passphrase" not in headers


@pytest.mark.parametrize(("signing", "per_second"), [("instruction", 1_000), ("request", 1_000_000)])
def test_the_time_is_that_of_this_machine_unless_given(signing: str, per_second: int) -> None:
    before = time.time()
    headers = helper(signing=signing).build_headers(method="GET", path="/api/v1/capital")
    assert int(before * per_second) - 1 <= int(headers["X-Timestamp"]) <= int(time.time() * per_second) + 1


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            {"method": "GET", "path": "/api/v1/captial"},
            "there is no endpoint 'GET /api/v1/captial'; did you mean GET /api/v1/capital",
        ),
        ({"method": "GET", "path": "https://api.backpack.exchange/api/v1/capital"}, "there is no endpoint"),
        ({"method": "PUT", "path": "/api/v1/order"}, "there is no endpoint"),
        ({"method": "GET", "path": "/api/v1/depth?symbol=SOL_USDC"}, "GET /api/v1/depth is public: it is not signed"),
        ({"method": "POST", "path": "/api/v1/order?symbol=SOL_USDC"}, "stand in its body, not in a query"),
        ({"method": "GET", "path": "/api/v1/order", "body": "{}"}, "stand in its query, not in a body"),
        ({"method": "GET", "path": "/api/v1/orders?symbol=A&symbol=B"}, "a parameter stands there twice"),
        ({"method": "POST", "path": "/api/v1/order", "body": '{"a":1,"a":2}'}, "a parameter stands there twice"),
        ({"method": "POST", "path": "/api/v1/order", "body": '{"a":null}'}, "a is null; leave it out"),
        ({"method": "POST", "path": "/api/v1/order", "body": '{"a":1e5}'}, "plain digits, not as 1e5"),
        ({"method": "POST", "path": "/api/v1/order", "body": '{"a":NaN}'}, "plain digits, not as NaN"),
        ({"method": "POST", "path": "/api/v1/order", "body": '{"a":{"b":1}}'}, "a cannot be signed"),
        ({"method": "POST", "path": "/api/v1/order", "body": '{"a":1'}, "the body is not JSON"),
        ({"method": "POST", "path": "/api/v1/order", "body": b"\xff{}"}, "the body is not JSON"),
        ({"method": "POST", "path": "/api/v1/order", "body": "[" * 100_000}, "the body is not JSON"),
        ({"method": "POST", "path": "/api/v1/order", "body": '"a"'}, "a JSON object, or an array"),
        ({"method": "POST", "path": "/api/v1/orders", "body": "[1]"}, "a JSON object, or an array"),
        ({"method": "POST", "path": "/api/v1/orders", "body": "[]"}, "a batch needs at least one order"),
        ({"method": "POST", "path": "/api/v1/order", "body": {"symbol": "SOL_USDC"}}, "body is text or bytes"),
        ({"method": "POST", "path": "/api/v1/order", "body": "\ud800"}, "method, path and body are Unicode text"),
        ({"method": None, "path": "/api/v1/order"}, "method and path are text"),
        ({"method": "GET", "path": "/api/v1/capital", "timestamp_us": 1.5}, "timestamp_us is a whole number"),
    ],
)
def test_what_the_exchange_would_not_understand_is_not_signed(request_: dict[str, Any], said: str) -> None:
    assert said in refusal(**request_)


def test_any_message_can_be_signed() -> None:
    signature = helper().sign_message("a message, ü")
    assert signature == helper().sign_message("a message, ü".encode())
    assert verify_signature(PUBLIC_KEY, signature, "a message, ü")
    for message in (5, None, "\ud800"):
        with pytest.raises(BackpackAuthError, match="Unicode text, or bytes"):
            helper().sign_message(message)  # type: ignore[arg-type]


def test_a_mapping_makes_a_helper_too() -> None:
    assert BackpackAuthHelper({"auth": AUTH}).sign_message("a") == helper().sign_message("a")


@pytest.mark.parametrize("config", [BackpackConfig(), {}, {"use_sandbox": True}])
def test_without_keys_there_is_nothing_to_sign_with(config: Any) -> None:
    with pytest.raises(BackpackAuthError, match="requires auth credentials"):
        BackpackAuthHelper(config)


def test_no_key_is_shown_and_none_is_pickled() -> None:
    signs = helper(auth={**AUTH, "passphrase": "open sesame"}, signing="request")
    shown = f"{signs!r} {signs} {vars(signs)!r}"
    assert not any(secret in shown for secret in (PRIVATE_KEY, SEED.hex(), "open sesame", repr(SEED)[2:-1]))
    with pytest.raises(TypeError):
        pickle.dumps(signs)


def test_errors_are_of_one_family_and_lost_connections_are_connection_errors() -> None:
    for error in (BackpackAuthError, BackpackRestError, BackpackWebsocketError):
        assert issubclass(error, BackpackError)
    lost = BackpackWebsocketError("no pong within 10 s")
    assert isinstance(lost, ConnectionResetError)
    assert str(lost) == "no pong within 10 s"
    assert lost == BackpackWebsocketError("no pong within 10 s") != BackpackWebsocketError("another")
    assert pickle.loads(pickle.dumps(lost)) == lost  # noqa: S301 - made here

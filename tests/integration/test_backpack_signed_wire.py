"""What really leaves for the exchange, byte for byte, against the signing vectors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import TypedAttributeProvider
from anyio.abc import ByteStream, SocketAttribute

from backpack_proto.auth.keys import Credentials, verify_signature
from backpack_proto.auth.signing import MAX_WINDOW_MS, Signer
from backpack_proto.inputs import ResponseReceived
from backpack_proto.machine import Now
from backpack_proto.outputs import SendRequest
from backpack_proto.rest.asks import Ask
from backpack_proto.rest.requests import Requests
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.transport import system_now
from backpack_runtime.transports.anyio import AnyioTransport

pytestmark = pytest.mark.anyio

VECTORS: list[dict[str, Any]] = [
    vector
    for vector in json.loads((Path(__file__).parent.parent / "fixtures" / "backpack" / "signing_vectors.json").read_text())
    if vector["method"] != "WS"
]
PATIENCE_SECONDS = 60


class Captured:
    """One request as it came out of the socket."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode("ascii").split("\r\n")
        self.method, self.target, self.version = line.split(" ")
        self.headers: dict[str, list[str]] = {}
        for field in fields:
            name, _, value = field.partition(":")
            self.headers.setdefault(name.lower(), []).append(value.strip())

    @property
    def complete(self) -> bool:
        return len(self.body) >= int(self.headers.get("content-length", ["0"])[0])

    def header(self, name: str) -> str:
        (value,) = self.headers[name.lower()]
        return value


class Recorder:
    """A server that keeps what it is sent, and says yes to everything."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[Captured] = []

    async def serve(self, stream: ByteStream) -> None:
        async with stream:
            raw = b""
            while b"\r\n\r\n" not in raw or not Captured(raw).complete:
                raw += await stream.receive()
            self.requests.append(Captured(raw))
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")


@asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        assert isinstance(listener, TypedAttributeProvider)
        recording = Recorder(int(listener.extra(SocketAttribute.local_port)))
        # `serve` of the listener wants a function, and gives it a stream of its own.
        tasks.start_soon(listener.serve, recording.serve)
        yield recording
        tasks.cancel_scope.cancel()


async def capture(vector: dict[str, Any], signer: Signer) -> Captured:
    """What goes out when a session is asked for the call of a vector, at the vector's time."""
    now = Now(mono_us=system_now().mono_us, unix_us=vector["timestamp_ms"] * 1000)
    parameters = {"orders": vector["orders"]} if "orders" in vector else vector["params"]
    ask = Ask(asker=None, endpoint=f"{vector['method']} {vector['path']}", parameters=parameters)
    (action,) = (output for output in Requests(signer).handle(ask, now) if isinstance(output, SendRequest))
    with anyio.fail_after(PATIENCE_SECONDS):
        async with (
            recorder() as recording,
            AnyioTransport(Addresses(f"http://127.0.0.1:{recording.port}", f"ws://127.0.0.1:{recording.port}")) as transport,
        ):
            transport.perform(action)
            facts = await transport.next(None)
    assert [type(fact) for fact in facts] == [ResponseReceived]
    (captured,) = recording.requests
    return captured


def assert_target_and_body(captured: Captured, vector: dict[str, Any]) -> None:
    query = vector.get("query_string")
    assert captured.method == vector["method"]
    assert captured.target == (f"{vector['path']}?{query}" if query else vector["path"])
    assert captured.body == vector.get("body_json", "").encode()
    assert captured.version == "HTTP/1.1"


def test_the_vectors_cover_queries_bodies_and_batches() -> None:
    assert {(vector["method"], vector["params_in"], "orders" in vector) for vector in VECTORS} == {
        ("GET", "none", False),
        ("GET", "query", False),
        ("POST", "body", False),
        ("POST", "body", True),
        ("DELETE", "body", False),
    }


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_a_vector_leaves_byte_for_byte(vector: dict[str, Any]) -> None:
    window_ms = min(vector["window_ms"], MAX_WINDOW_MS)
    captured = await capture(vector, Signer(Credentials(vector["seed_b64"]), window_ms=window_ms))
    assert_target_and_body(captured, vector)
    if window_ms == vector["window_ms"]:
        assert {name: captured.header(name) for name in vector["headers"]} == vector["headers"]
        return
    # A signer has no windows as long as this one's. All else is the vector's.
    string = vector["signing_string"].replace(f"window={vector['window_ms']}", f"window={window_ms}")
    assert verify_signature(captured.header("X-API-Key"), captured.header("X-Signature"), string)
    assert captured.header("X-Timestamp") == vector["headers"]["X-Timestamp"]
    assert captured.header("X-Window") == str(window_ms)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if vector["name"] in ("order_execute_post_booleans", "max_order_quantity_get_booleans")],
)
async def test_the_other_scheme_signs_what_leaves(vector: dict[str, Any]) -> None:
    credentials = Credentials(vector["seed_b64"], passphrase="open sesame")
    captured = await capture(vector, Signer(credentials, scheme="request", window_ms=vector["window_ms"]))
    assert_target_and_body(captured, vector)
    timestamp = captured.header("X-Timestamp")
    assert timestamp == str(vector["timestamp_ms"] * 1000)
    assert captured.header("X-Window") == str(vector["window_ms"])
    assert captured.header("X-API-Key") == vector["api_key_b64"]
    assert captured.header("X-Passphrase") == "open sesame"
    signed = f"{timestamp}{captured.method}{captured.target}".encode() + captured.body
    assert verify_signature(vector["api_key_b64"], captured.header("X-Signature"), signed)

"""What the suites of the transports share: every runtime, servers that do what a test wants, and the bytes of frames."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import anyio
from anyio import TypedAttributeProvider
from anyio.abc import ByteStream, SocketAttribute

from backpack_proto.http import HttpRequest
from backpack_proto.inputs import Fact, Given, TextReceived
from backpack_proto.outputs import Action, CloseSocket, DropSocket, OpenSocket, SendRequest, SendText
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.send_queue import BROKEN
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.transport import Transport
from backpack_runtime.transports import BUILT_IN, MakeTransport, transport_of
from backpack_runtime.transports.mock import MockTransport, oblige, respond

PATIENCE_SECONDS = 60
MARKETS = b"""[{"baseSymbol":"SOL","quoteSymbol":"USDC","symbol":"SOL_USDC","marketType":"SPOT","orderBookState":"Open","visible":true,
"createdAt":"2025-01-21T06:34:54.691858","fundingInterval":null,"filters":{"price":{"minPrice":"0.01","maxPrice":null,"tickSize":"0.01"},
"quantity":{"minQuantity":"0.01","maxQuantity":null,"stepSize":"0.01"}}}]"""
"""A list of markets with one in it."""
PING = HttpRequest(method="GET", target="/api/v1/ping")


def request(number: int, http: HttpRequest = PING, timeout_us: int = 10_000_000) -> SendRequest:
    return SendRequest(request_id=number, request=http, timeout_us=timeout_us)


def one_market(action: Action) -> Iterator[Fact]:
    """The script of an exchange with one market, which does nothing by itself."""
    match action:
        case SendRequest(request=HttpRequest(target="/api/v1/markets")):
            yield respond(action, MARKETS)
        case _:
            yield from oblige(action)


def trade_frame(number: int) -> TextReceived:
    """A trade of that market."""
    text = (
        f'{{"data":{{"E":1,"T":1,"a":"4","b":"3","e":"trade","m":true,"p":"18.68","q":"0.12","s":"SOL_USDC","t":{number}}},'
        '"stream":"trade.SOL_USDC"}'
    )
    return TextReceived(text.encode())


class Runtime(NamedTuple):
    """What carries the contract, and the event loop that it does so on."""

    name: str
    backend: str

    @property
    def transport(self) -> MakeTransport:
        return transport_of(self.name)


SOCKETS = {
    f"{name} on {backend}" if len(runtime.backends) > 1 else name: Runtime(name, backend)
    for name, runtime in BUILT_IN.items()
    for backend in runtime.backends
}
"""Every runtime on each of its event loops: all of them have to keep the contract."""
MOCKS = ("mock on asyncio", "mock on trio")


class ToExchange(NamedTuple):
    """The way to an exchange that serves order books and answers pings."""

    backend: str
    runtime: Runtime | None

    @asynccontextmanager
    async def connect(self, *, tls: bool = False, speed: float = 1.0) -> AsyncIterator[Transport]:
        if self.runtime is None:
            async with MockTransport(ScriptedExchange()) as transport:
                yield transport
        else:
            async with serve_sandbox(tls=tls, speed=speed) as sandbox, to_sandbox(self.runtime, sandbox) as transport:
                yield transport


class ScriptedExchange:
    """An exchange for the mock: the market moves with every request."""

    def __init__(self) -> None:
        self._subscribed = False

    def __call__(self, action: Action) -> Iterator[Fact]:
        match action:
            case SendRequest():
                if self._subscribed:
                    yield TextReceived(b'{"data":{}}')
                yield respond(action, b"pong")
                return
            case SendText():
                self._subscribed = True
                yield TextReceived(b'{"data":{}}')
            case OpenSocket() | DropSocket() | CloseSocket():
                self._subscribed = False
        yield from oblige(action)


@asynccontextmanager
async def to_sandbox(runtime: Runtime, sandbox: Sandbox, *, compression: bool = False) -> AsyncIterator[Transport]:
    addresses = Addresses(sandbox.rest_url, sandbox.ws_url, ca_file=sandbox.ca_file)
    async with runtime.transport(addresses, compression=compression) as transport:
        yield transport


@asynccontextmanager
async def to_server(
    runtime: Runtime, serve: Callable[[ByteStream], Awaitable[None]], *, compression: bool = False, encrypted: bool = False
) -> AsyncIterator[Transport]:
    """A transport, and a server that does what a test wants. With `encrypted` that includes the handshake of TLS."""

    async def handle(stream: ByteStream) -> None:
        with suppress(*BROKEN):
            async with stream:
                await serve(stream)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        assert isinstance(listener, TypedAttributeProvider)
        port = int(listener.extra(SocketAttribute.local_port))
        tasks.start_soon(listener.serve, handle)
        tls = "s" if encrypted else ""
        addresses = Addresses(f"http{tls}://127.0.0.1:{port}", f"ws{tls}://127.0.0.1:{port}")
        async with runtime.transport(addresses, compression=compression) as transport:
            yield transport
        tasks.cancel_scope.cancel()


async def facts_until(transport: Transport, kind: type[Given]) -> list[Given]:
    facts: list[Given] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while not any(isinstance(fact, kind) for fact in facts):
            facts += await transport.next(None)
    return facts


async def read_head(stream: ByteStream) -> bytes:
    """A request without a body, or the head of one whose body came along."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive()
    return head


async def upgrade(stream: ByteStream, *, head: bytes = b"", extension: str = "", along: bytes = b"") -> bytes:
    """Answer an upgrade request, read before or now, with the first bytes of the websocket in the same breath. Returns the request."""
    head = head or await read_head(stream)
    found = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
    assert found is not None
    accept = base64.b64encode(hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()  # noqa: S324 - RFC 6455
    agreed = f"Sec-WebSocket-Extensions: {extension}\r\n" if extension else ""
    answer = (
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
    )
    await stream.send(f"{answer}{agreed}\r\n".encode() + along)
    return head


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, compressed: bool = False) -> bytes:
    """The bytes of one frame of a server (RFC 6455 section 5.2)."""
    first = opcode | (0x80 if final else 0) | (0x40 if compressed else 0)
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 65_536:
        return bytes([first, 126]) + struct.pack("!H", len(payload)) + payload
    return bytes([first, 127]) + struct.pack("!Q", len(payload)) + payload


async def read_frame(stream: ByteStream) -> tuple[int, bytes]:
    """First byte and payload of the next frame of a client, which has to be a short one."""

    async def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += await stream.receive(size - len(data))
        return data

    first, length = await exactly(2)
    assert length & 0x80, "the frames of a client are masked"
    length &= 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", await exactly(2))
    key = await exactly(4)
    payload = await exactly(length)
    return first, bytes(byte ^ key[number % 4] for number, byte in enumerate(payload))

"""The contract of every transport, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import anyio
import pytest
from anyio import TypedAttributeProvider
from anyio.abc import ByteStream, SocketAttribute

from backpack_proto.inputs import (
    Connected,
    ConnectFailed,
    Disconnected,
    Given,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    ResponseReceived,
    TextReceived,
    TimerFired,
)
from backpack_proto.outputs import (
    CloseSocket,
    DropSocket,
    HttpRequest,
    LinkUp,
    OpenSocket,
    SendPing,
    SendRequest,
    SendText,
)
from backpack_proto.wire import subscribe_text
from backpack_runtime.addresses import Addresses
from backpack_runtime.outgoing import BROKEN
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.transport import Transport
from backpack_runtime.transports.aiohttp import AiohttpTransport
from backpack_runtime.transports.anyio import AnyioTransport

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 15
PING = HttpRequest(method="GET", target="/api/v1/ping")


def request(number: int, http: HttpRequest = PING, timeout_us: int = 10_000_000) -> SendRequest:
    return SendRequest(request_id=number, request=http, timeout_us=timeout_us)


class Runtime(NamedTuple):
    """What carries the contract, and the event loop that it does so on."""

    backend: str
    transport: type[AnyioTransport | AiohttpTransport]


RUNTIMES = {
    "asyncio": Runtime("asyncio", AnyioTransport),
    "trio": Runtime("trio", AnyioTransport),
    "aiohttp": Runtime("asyncio", AiohttpTransport),
}


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return RUNTIMES[str(request.param)]


@pytest.fixture
def anyio_backend(runtime: Runtime) -> str:
    return runtime.backend


@asynccontextmanager
async def to_sandbox(runtime: Runtime, sandbox: Sandbox, *, compression: bool = False) -> AsyncIterator[Transport]:
    addresses = Addresses(sandbox.rest_url, sandbox.ws_url, ca_file=sandbox.ca_file)
    async with runtime.transport(addresses, compression=compression) as transport:
        yield transport


@asynccontextmanager
async def to_server(runtime: Runtime, serve: Callable[[ByteStream], object]) -> AsyncIterator[Transport]:
    """A transport, and a server that does what a test wants."""

    async def handle(stream: ByteStream) -> None:
        with suppress(*BROKEN):
            async with stream:
                await serve(stream)  # type: ignore[misc]  # a coroutine function

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        assert isinstance(listener, TypedAttributeProvider)
        port = int(listener.extra(SocketAttribute.local_port))
        tasks.start_soon(listener.serve, handle)
        async with runtime.transport(Addresses(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}")) as transport:
            yield transport
        tasks.cancel_scope.cancel()


async def facts_until(transport: Transport, kind: type[Given]) -> list[Given]:
    facts: list[Given] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while not any(isinstance(fact, kind) for fact in facts):
            facts += await transport.next(None)
    return facts


@pytest.mark.parametrize("tls", [False, True])
async def test_a_websocket_from_its_opening_to_its_closing(runtime: Runtime, *, tls: bool) -> None:
    async with serve_sandbox(tls=tls) as sandbox, to_sandbox(runtime, sandbox) as transport:
        await transport.perform(OpenSocket())
        assert (await facts_until(transport, Connected))[0] == Connected()
        await transport.perform(SendPing(b"life"))
        assert PongReceived(b"life") in await facts_until(transport, PongReceived)
        await transport.perform(SendText(subscribe_text(["depth.SOL_USDC"])))
        texts = [fact for fact in await facts_until(transport, TextReceived) if isinstance(fact, TextReceived)]
        assert texts[0].data.startswith(b'{"data":')
        await transport.perform(CloseSocket(1000, "done"))
        facts = await facts_until(transport, Disconnected)
        assert [fact for fact in facts if isinstance(fact, Disconnected)] == [facts[-1]]
        assert isinstance(facts[-1], Disconnected)
        assert facts[-1].code == 1000


async def test_nothing_is_heard_of_a_dropped_socket(runtime: Runtime) -> None:
    async with serve_sandbox(speed=20.0) as sandbox, to_sandbox(runtime, sandbox) as transport:
        await transport.perform(OpenSocket())
        await facts_until(transport, Connected)
        await transport.perform(SendText(subscribe_text(["depth.SOL_USDC"])))
        await facts_until(transport, TextReceived)
        await transport.perform(DropSocket())
        # What had been read before it was dropped may still be fetched; nothing may follow.
        transport.wake()
        await transport.next(None)
        await transport.perform(request(1))
        assert [type(fact) for fact in await facts_until(transport, ResponseReceived)] == [ResponseReceived]


async def test_opening_again_ends_the_socket_before(runtime: Runtime) -> None:
    async with serve_sandbox() as sandbox, to_sandbox(runtime, sandbox) as transport:
        await transport.perform(OpenSocket())
        await transport.perform(OpenSocket())
        facts = await facts_until(transport, Connected)
        assert facts == [Connected()]


async def test_a_refused_connection_says_so_once(runtime: Runtime) -> None:
    async def vanish(stream: ByteStream) -> None:
        await stream.receive()

    async with to_server(runtime, vanish) as transport:
        await transport.perform(OpenSocket())
        (fact,) = await facts_until(transport, ConnectFailed)
        assert isinstance(fact, ConnectFailed)
        assert "handshake" in fact.reason


async def test_a_deadline_fires_and_a_wake_up_does_not(runtime: Runtime) -> None:
    async with serve_sandbox() as sandbox, to_sandbox(runtime, sandbox) as transport:
        with anyio.fail_after(PATIENCE_SECONDS):
            until = transport.now().mono_us + 20_000
            fired: list[Given] = []
            while not fired:
                fired = await transport.next(until)
            assert fired == [TimerFired()]
            assert transport.now().mono_us >= until
            transport.wake()
            assert await transport.next(None) == []


async def test_a_timer_is_not_starved_by_a_busy_stream(runtime: Runtime) -> None:
    async with serve_sandbox(speed=50.0) as sandbox, to_sandbox(runtime, sandbox) as transport:
        await transport.perform(OpenSocket())
        await facts_until(transport, Connected)
        await transport.perform(SendText(subscribe_text([f"depth.{symbol}" for symbol in sandbox.exchange.symbols])))
        await facts_until(transport, TextReceived)
        until = transport.now().mono_us + 100_000
        with anyio.fail_after(PATIENCE_SECONDS):
            while TimerFired() not in await transport.next(until):
                pass


async def test_pausing_stops_the_reading_and_resuming_goes_on(runtime: Runtime) -> None:
    async with serve_sandbox(speed=50.0) as sandbox, to_sandbox(runtime, sandbox) as transport:
        await transport.perform(OpenSocket())
        await facts_until(transport, Connected)
        await transport.perform(SendText(subscribe_text(["depth.SOL_USDC"])))
        await facts_until(transport, TextReceived)
        transport.pause_reading()
        transport.pause_reading()
        facts = await facts_until(transport, ReadingPaused)
        assert facts.count(ReadingPaused()) == 1
        read: list[int] = []
        for number in range(1, 7):
            await transport.perform(request(number))
            read.append(sum(isinstance(fact, TextReceived) for fact in await facts_until(transport, ResponseReceived)))
        assert read[3:] == [0, 0, 0], "the read that was under way may complete, no other may begin"
        transport.resume_reading()
        await facts_until(transport, ReadingResumed)
        await facts_until(transport, TextReceived)


async def test_requests_share_kept_connections(runtime: Runtime) -> None:
    async with serve_sandbox() as sandbox, to_sandbox(runtime, sandbox) as transport:
        for number in range(1, 4):
            await transport.perform(request(number))
            (fact,) = await facts_until(transport, ResponseReceived)
            assert isinstance(fact, ResponseReceived)
            assert (fact.request_id, fact.status, fact.body) == (number, 200, b"pong")
            assert dict(fact.headers)["content-length"] == "4"
        assert sandbox.connections == 1


async def test_a_kept_connection_that_the_server_closed_costs_a_second_try(runtime: Runtime) -> None:
    served: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        """Keep the connection once, and close it under the second request."""
        served.append(await stream.receive())
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong")
        if len(served) == 1:
            served.append(await stream.receive())

    async with to_server(runtime, serve) as transport:
        await transport.perform(request(1))
        await facts_until(transport, ResponseReceived)
        await transport.perform(request(2))
        (fact,) = await facts_until(transport, ResponseReceived)
        assert isinstance(fact, ResponseReceived)
        assert (fact.request_id, fact.status, fact.body) == (2, 200, b"pong")
        assert len(served) == 3


async def test_what_is_not_idempotent_is_never_sent_twice(runtime: Runtime) -> None:
    served: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        served.append(await stream.receive())
        if len(served) == 1:
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong")
            served.append(await stream.receive())

    async with to_server(runtime, serve) as transport:
        await transport.perform(request(1))
        await facts_until(transport, ResponseReceived)
        await transport.perform(request(2, HttpRequest(method="POST", target="/api/v1/order", body=b"{}")))
        (fact,) = await facts_until(transport, RequestFailed)
        assert isinstance(fact, RequestFailed)
        assert fact.sent
        assert len(served) == 2


@pytest.mark.parametrize("tls", [False, True])
async def test_what_changes_something_is_not_lost_to_a_connection_that_the_server_has_closed(
    runtime: Runtime, *, tls: bool
) -> None:
    post = HttpRequest(method="POST", target="/api/v1/order", body=b"{}")
    async with serve_sandbox(tls=tls) as sandbox, to_sandbox(runtime, sandbox) as transport:
        await transport.perform(request(1, post))
        await facts_until(transport, ResponseReceived)
        await transport.perform(request(2, post))
        await facts_until(transport, ResponseReceived)
        assert sandbox.connections == 1
        sandbox.drop_connections()
        await anyio.sleep(0.05)
        await transport.perform(request(3, post))
        await facts_until(transport, ResponseReceived)
        assert sandbox.connections == 2


async def test_what_changes_something_takes_no_connection_that_was_idle_for_long(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("anyio", "aiohttp_sessions"):
        monkeypatch.setattr(f"backpack_runtime.transports.{module}.FRESH_SECONDS", 0.0)
    async with serve_sandbox() as sandbox, to_sandbox(runtime, sandbox) as transport:
        for number in (1, 2):
            await transport.perform(request(number))
            await facts_until(transport, ResponseReceived)
        before = sandbox.connections
        await transport.perform(request(3, HttpRequest(method="POST", target="/api/v1/order", body=b"{}")))
        await facts_until(transport, ResponseReceived)
        assert sandbox.connections == before + 1


async def test_a_silent_server_costs_the_timeout_and_no_more(runtime: Runtime) -> None:
    async def listen(stream: ByteStream) -> None:
        while True:
            await stream.receive()

    async with to_server(runtime, listen) as transport:
        await transport.perform(request(1, timeout_us=50_000))
        (fact,) = await facts_until(transport, RequestFailed)
        assert fact == RequestFailed(request_id=1, reason="no answer within 0.05 s", sent=True)


async def test_a_server_that_is_not_there_was_sent_nothing(runtime: Runtime) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    assert isinstance(listener, TypedAttributeProvider)
    port = int(listener.extra(SocketAttribute.local_port))
    await listener.aclose()
    async with runtime.transport(Addresses(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}")) as transport:
        await transport.perform(request(1))
        (fact,) = await facts_until(transport, RequestFailed)
        assert isinstance(fact, RequestFailed)
        assert not fact.sent
        await transport.perform(OpenSocket())
        assert isinstance((await facts_until(transport, ConnectFailed))[0], ConnectFailed)


async def test_an_action_that_is_none_is_a_bug(runtime: Runtime) -> None:
    async with serve_sandbox() as sandbox, to_sandbox(runtime, sandbox) as transport:
        with pytest.raises(TypeError, match="LinkUp"):
            await transport.perform(LinkUp(attempt=1))  # type: ignore[arg-type]  # that is the point

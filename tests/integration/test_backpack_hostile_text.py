"""Peers whose words hold control characters, on real sockets: none of those reaches an event, an error or the log as it is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio import TypedAttributeProvider
from anyio.abc import ByteStream, SocketAttribute

from backpack_proto.errors import ApiError
from backpack_proto.outputs import ConnectionDown, ErrorReceived
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.settings import Settings
from transports import MARKETS, frame, read_head, upgrade

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("runtime", ["asyncio", "trio", "aiohttp"], indirect=True),
]

PATIENCE_SECONDS = 60
EVIL = "\x1b[2J\nINFO all is well"
SHOWN = r"\x1b[2J\nINFO all is well"


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "asyncio" if runtime == "aiohttp" else runtime


async def answer(stream: ByteStream, status: str, body: bytes) -> None:
    await stream.send(f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


async def first(client: BackpackClient, kind: type[Event]) -> Event:
    async for event in client:
        if isinstance(event, kind):
            return event
    raise AssertionError("the events ended")


async def with_client(
    runtime: str, serve: Callable[[ByteStream], Awaitable[None]], use: Callable[[BackpackClient], Awaitable[None]]
) -> None:
    """Use a client of a server that answers requests for markets, and leaves everything else to `serve`."""

    async def handle(stream: ByteStream) -> None:
        async with stream:
            try:
                await serve(stream)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    with anyio.fail_after(PATIENCE_SECONDS):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handle)
            assert isinstance(listener, TypedAttributeProvider)
            port = int(listener.extra(SocketAttribute.local_port))
            settings = Settings(
                rest_url=f"http://127.0.0.1:{port}",
                ws_url=f"ws://127.0.0.1:{port}",
                runtime="aiohttp" if runtime == "aiohttp" else "anyio",
            )
            async with BackpackClient(settings=settings) as client:
                await use(client)
            tasks.cancel_scope.cancel()


def check_log(caplog: pytest.LogCaptureFixture, *expected: str) -> None:
    messages = [record.getMessage() for record in caplog.records if record.name == "backpack_runtime.client"]
    assert all(message.isprintable() for message in messages)
    for part in expected:
        assert any(part in message for message in messages), messages


async def test_a_refused_handshake_and_a_refused_call(runtime: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "backpack_runtime.client")

    async def serve(stream: ByteStream) -> None:
        request = await stream.receive()
        if b"/api/v1/markets" in request:
            await answer(stream, "200 OK", MARKETS)
        elif b"pgrade" in request:
            await answer(stream, "403 Forbidden", EVIL.encode())
        else:
            body = '{"code":"BAD","message":"\\u001b[2J\\nINFO all is well"}'
            await answer(stream, "400 Bad Request", body.encode())

    async def use(client: BackpackClient) -> None:
        down = await first(client, ConnectionDown)
        assert isinstance(down, ConnectionDown)
        assert "403" in down.reason
        assert down.reason.isprintable()
        assert all(reason.isprintable() for reason in client.health.reasons)
        with pytest.raises(ApiError) as refused:
            await client.get_ticker("SOL_USDC")
        assert refused.value.message == SHOWN
        assert str(refused.value).isprintable()

    await with_client(runtime, serve, use)
    check_log(caplog, "connection down reason=", "403")


async def test_frames_and_a_close_frame(runtime: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "backpack_runtime.client")
    error = b'{"id":null,"error":{"code":4000,"message":"\\u001b[2J\\nINFO all is well"}}'

    async def serve(stream: ByteStream) -> None:
        head = await read_head(stream)
        if b"pgrade" not in head:
            await answer(stream, "200 OK", MARKETS)
            return
        await upgrade(stream, head=head)
        await stream.send(frame(1, EVIL.encode()) + frame(1, error) + frame(8, b"\x03\xe8" + EVIL.encode()))
        await stream.receive()

    async def use(client: BackpackClient) -> None:
        dropped = await first(client, FrameDropped)
        assert isinstance(dropped, FrameDropped)
        assert dropped.excerpt == SHOWN
        received = await first(client, ErrorReceived)
        assert isinstance(received, ErrorReceived)
        assert received.message == SHOWN
        assert str(received.error).endswith(SHOWN)
        down = await first(client, ConnectionDown)
        assert isinstance(down, ConnectionDown)
        assert down.reason == SHOWN

    await with_client(runtime, serve, use)
    check_log(
        caplog,
        f'frame dropped reason="not JSON" excerpt="{SHOWN}"',
        f'code=4000 message="{SHOWN}"',
        f'reason="{SHOWN}" code=1000',
    )

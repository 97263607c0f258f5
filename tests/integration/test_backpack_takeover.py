"""Connections of aiohttp's connector that are ended, or spoken on, before their transport is taken over, and their end afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import TypedAttributeProvider
from anyio.abc import ByteStream, SocketAttribute

from transports import PATIENCE_SECONDS

pytest.importorskip("aiohttp_socks")

import aiohttp
from aiohttp.connector import Connection

from backpack_runtime.network.addresses import Addresses
from backpack_runtime.transports.aiohttp.proxies import Connector
from backpack_runtime.transports.aiohttp.sessions import close, exact_url, make_connector
from backpack_runtime.transports.aiohttp.takeover import connect, take_over

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The one loop of aiohttp."""
    return "asyncio"


@asynccontextmanager
async def serving(serve: Callable[[ByteStream], Awaitable[None]]) -> AsyncIterator[tuple[Connector, Addresses]]:
    async def handle(stream: ByteStream) -> None:
        async with stream:
            await serve(stream)

    with anyio.fail_after(PATIENCE_SECONDS):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
            assert isinstance(listener, TypedAttributeProvider)
            tasks.start_soon(listener.serve, handle)
            addresses = Addresses(ws_url=f"ws://127.0.0.1:{listener.extra(SocketAttribute.local_port)}")
            connector = make_connector(addresses, None, "websocket", force_close=True)
            yield connector, addresses
            await close(connector)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def connected_once(
    connector: Connector, addresses: Addresses, ready: Callable[[Connection], bool]
) -> AsyncIterator[Connection]:
    """A connection as aiohttp makes it, once it is in a certain state."""
    request = aiohttp.ClientRequest("GET", exact_url("ws", addresses.ws, "/"), loop=asyncio.get_running_loop())
    connection = await connector.connect(request, [], aiohttp.ClientTimeout())
    try:
        while not ready(connection):
            await anyio.lowlevel.checkpoint()
        yield connection
    finally:
        connection.close()


async def test_what_has_ended_is_not_taken_over() -> None:
    async def vanish(_: ByteStream) -> None:
        pass

    async with (
        serving(vanish) as (connector, addresses),
        connected_once(connector, addresses, lambda connection: connection.transport is None) as connection,
    ):
        with pytest.raises(anyio.EndOfStream):
            take_over(connection)


async def test_what_was_said_before_nobody_loses_unnoticed() -> None:
    async def greet(stream: ByteStream) -> None:
        await stream.send(b"220 mail.example ready\r\n")
        await anyio.sleep_forever()

    def greeted(connection: Connection) -> bool:
        assert connection.protocol is not None
        return connection.protocol.should_close

    async with (
        serving(greet) as (connector, addresses),
        connected_once(connector, addresses, greeted) as connection,
    ):
        with pytest.raises(ConnectionError, match="spoke before the websocket handshake"):
            take_over(connection)


async def test_aiohttp_learns_of_an_end_that_it_does_not_see_itself() -> None:
    async def vanish(stream: ByteStream) -> None:
        await stream.receive()

    async with (
        serving(vanish) as (connector, addresses),
        connected_once(connector, addresses, lambda _: True) as connection,
    ):
        assert connection.protocol is not None
        closed = connection.protocol.closed
        assert closed is not None
        taken = take_over(connection)
        await taken.send(b"bye")
        with pytest.raises(anyio.EndOfStream):
            await taken.give(lambda _: True)
        await closed
        with pytest.raises(anyio.BrokenResourceError):
            await taken.send(b"too late")


async def test_the_end_of_the_block_ends_the_connection_though_the_peer_reads_nothing() -> None:
    gone = anyio.Event()

    async def ignore(stream: ByteStream) -> None:
        await unread.wait()
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            while True:
                await stream.receive()
        gone.set()

    unread = anyio.Event()
    async with serving(ignore) as (connector, addresses):
        async with connect(connector, addresses.ws) as taken:
            with anyio.move_on_after(0.05) as scope:
                while True:
                    await taken.send(bytes(100_000))
            assert scope.cancelled_caught
        unread.set()
        await gone.wait()

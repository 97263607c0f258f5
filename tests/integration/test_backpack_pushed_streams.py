"""Connections of asyncio that hand over what they read, on real sockets, plain and encrypted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
import trustme

from backpack_proto.account.values import AccountSynced
from backpack_proto.outputs import BookSynced
from backpack_proto.streams.payloads import Event
from backpack_runtime import BackpackClient
from backpack_runtime.network.pushed import MOST_UNFETCHED_BYTES, PUSHED_STREAMS, PushedStream
from transports import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

HOST = "127.0.0.1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["plain", "encrypted"])
def encrypted(request: pytest.FixtureRequest) -> bool:
    return str(request.param) == "encrypted"


class Peer:
    """The other side of one connection."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.reader = asyncio.StreamReader()
        self.writer: asyncio.StreamWriter | None = None
        self.done = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.connected.set()
        await self.done.wait()
        writer.transport.abort()

    def write(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)

    def leave(self) -> None:
        """End the connection in order, behind what was written."""
        assert self.writer is not None
        self.writer.close()


@asynccontextmanager
async def connected(*, encrypted: bool) -> AsyncGenerator[tuple[PushedStream, Peer]]:
    peer = Peer()
    server_tls = client_tls = None
    if encrypted:
        authority = trustme.CA()
        server_tls, client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert(HOST).configure_cert(server_tls)
        authority.configure_trust(client_tls)
    server = await asyncio.start_server(peer.serve, HOST, 0, ssl=server_tls)
    with anyio.fail_after(PATIENCE_SECONDS):
        stream = await PUSHED_STREAMS.connect(HOST, server.sockets[0].getsockname()[1])
        if client_tls is not None:
            stream = await PUSHED_STREAMS.encrypt(stream, client_tls, HOST)
        await peer.connected.wait()
        try:
            yield stream, peer
        finally:
            peer.done.set()
            await stream.aclose()
            server.close()


def collect(wanted: int, into: bytearray) -> Callable[[bytes], bool]:
    def take(data: bytes) -> bool:
        into.extend(data)
        return len(into) < wanted

    return take


async def test_bytes_are_fetched_first_and_handed_over_then(*, encrypted: bool) -> None:
    async with connected(encrypted=encrypted) as (stream, peer):
        peer.write(b"one")
        fetched = b""
        while len(fetched) < 3:
            fetched += await stream.receive(2)
        assert fetched == b"one"
        await stream.send(b"go on")
        assert await peer.reader.readexactly(5) == b"go on"
        seen = bytearray()
        peer.write(b"x" * 1_000_000)
        await stream.push(collect(1_000_000, seen))
        assert seen == b"x" * 1_000_000


async def test_what_arrived_before_is_handed_over_as_well_however_much_it_is(*, encrypted: bool) -> None:
    """Nobody fetches for a while, so that reading has to stop in between."""
    size = 4 * MOST_UNFETCHED_BYTES
    async with connected(encrypted=encrypted) as (stream, peer):
        peer.write(b"y" * size)
        first = await stream.receive(1)
        await anyio.wait_all_tasks_blocked()
        seen = bytearray(first)
        stream.resume_reading()
        await stream.push(collect(size, seen))
        assert seen == b"y" * size


async def test_an_error_of_who_takes_comes_out_of_push(*, encrypted: bool) -> None:
    """The loop would log it and go on, as an error of the connection."""

    def take(_: bytes) -> bool:
        raise KeyError("a bug of ours")

    async with connected(encrypted=encrypted) as (stream, peer):
        peer.write(b"z")
        with pytest.raises(KeyError, match="a bug of ours"):
            await stream.push(take)


async def test_the_end_of_a_connection_is_told_behind_its_last_bytes(*, encrypted: bool) -> None:
    async with connected(encrypted=encrypted) as (stream, peer):
        seen = bytearray()
        peer.write(b"the last")
        peer.leave()
        with pytest.raises(anyio.EndOfStream):
            await stream.push(collect(1_000, seen))
        assert seen == b"the last"


async def test_a_broken_connection_is_not_its_end() -> None:
    async with connected(encrypted=False) as (stream, peer):
        assert peer.writer is not None
        peer.write(b"unread")
        sock = peer.writer.get_extra_info("socket")
        # An end without a farewell: RST in place of FIN.
        sock.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        stream.write(b"something that the peer has not read")
        peer.writer.transport.abort()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.push(lambda _: True)
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"too late")


async def test_a_pause_holds_the_other_side_back_and_loses_nothing(*, encrypted: bool) -> None:
    size = 8_000_000
    async with connected(encrypted=encrypted) as (stream, peer):
        seen = bytearray()
        paused = asyncio.Event()

        def take(data: bytes) -> bool:
            seen.extend(data)
            if not paused.is_set():
                stream.pause_reading()
                paused.set()
            return len(seen) < size

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.push, take)
            peer.write(b"p" * size)
            await paused.wait()
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
            assert len(seen) < size
            stream.resume_reading()
        assert len(seen) == size


async def test_a_cancelled_push_hands_over_nothing_more(*, encrypted: bool) -> None:
    async with connected(encrypted=encrypted) as (stream, peer):
        seen: list[bytes] = []

        def take(data: bytes) -> bool:
            seen.append(data)
            scope.cancel()
            return True

        with anyio.CancelScope() as scope:
            peer.write(b"1")
            await stream.push(take)
        assert seen == [b"1"]
        peer.write(b"2")
        assert await stream.receive() == b"2"
        assert seen == [b"1"]


def test_a_client_runs_under_asyncio_alone() -> None:
    """What is read is handled outside of any task, and what follows from it is begun inside of one, whoever runs the loop."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with BackpackClient(["SOL_USDC"], sandbox=True, follow_account=True) as client:
                seen: set[type[Event]] = set()
                async for event in client:
                    seen.add(type(event))
                    if seen >= {BookSynced, AccountSynced}:
                        break
                assert await client.get_open_orders() == ()

    asyncio.run(main())

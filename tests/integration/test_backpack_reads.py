"""The reads of real connections, plain, encrypted, and encrypted once more as through a proxy, in every runtime."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import trustme
from anyio import TypedAttributeProvider
from anyio.abc import ByteSendStream, ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream

from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.reads import READ_BYTES, Reads, reads_of
from backpack_runtime.network.tls import TlsStream
from backpack_runtime.transports.aiohttp import takeover
from backpack_runtime.transports.aiohttp.sessions import close, make_connector
from transports import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

HOST = "127.0.0.1"
LAYERS = {"anyio on asyncio": 2, "anyio on trio": 2, "aiohttp": 1}
"""How often a connection of a runtime can be encrypted here. Aiohttp's second layer would take a proxy."""
in_every_runtime = pytest.mark.parametrize("runtime", LAYERS)
encrypted_or_not = pytest.mark.parametrize(
    ("runtime", "encrypted"), [(runtime, layers) for runtime, most in LAYERS.items() for layers in range(most + 1)]
)
encrypted_only = pytest.mark.parametrize(
    ("runtime", "encrypted"), [(runtime, layers) for runtime, most in LAYERS.items() for layers in range(1, most + 1)]
)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "trio" if runtime == "anyio on trio" else "asyncio"


class Connection:
    """Both ends: ours with its reads, and the other side's stream."""

    def __init__(self, stream: ByteSendStream, peer: ByteStream, reads: Reads) -> None:
        self.stream = stream
        self.peer = peer
        self.reads = reads

    def reset(self) -> None:
        """Have the other side end without a farewell."""
        raw = self.peer.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def connect_by_anyio(port: int, encrypted: int, context: ssl.SSLContext) -> AsyncIterator[tuple[ByteSendStream, Reads]]:
    stream: ByteStream = await anyio.connect_tcp(HOST, port)
    for _ in range(encrypted):
        stream = await TlsStream.connect(stream, context, HOST)
    with reads_of(stream) as reads:
        yield stream, reads
    await anyio.aclose_forcefully(stream)


@asynccontextmanager
async def connect_by_aiohttp(port: int, encrypted: int, context: ssl.SSLContext) -> AsyncIterator[tuple[ByteSendStream, Reads]]:
    addresses = Addresses(ws_url=f"ws{'s' if encrypted else ''}://{HOST}:{port}")
    addresses.ssl_context = context
    connector = make_connector(addresses, None, "websocket", force_close=True)
    async with takeover.connect(connector, addresses.ws) as taken:
        yield taken, taken
    await close(connector)


@asynccontextmanager
async def connected(runtime: str, encrypted: int = 0) -> AsyncIterator[Connection]:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.post_handshake_auth = theirs.post_handshake_auth = True
    theirs.verify_mode = ssl.CERT_OPTIONAL
    for context in (ours, theirs):
        authority.configure_trust(context)
        authority.issue_cert(HOST).configure_cert(context)
    accepted: list[ByteStream] = []
    is_accepted, is_over = anyio.Event(), anyio.Event()

    async def serve(stream: ByteStream) -> None:
        for _ in range(encrypted):
            stream = await TLSStream.wrap(stream, server_side=True, ssl_context=theirs)
        accepted.append(stream)
        is_accepted.set()
        await is_over.wait()
        await anyio.aclose_forcefully(stream)

    with anyio.fail_after(PATIENCE_SECONDS):
        async with await anyio.create_tcp_listener(local_host=HOST) as listener, anyio.create_task_group() as tasks:
            assert isinstance(listener, TypedAttributeProvider)
            tasks.start_soon(listener.serve, serve)
            connect = connect_by_aiohttp if runtime == "aiohttp" else connect_by_anyio
            async with connect(listener.extra(SocketAttribute.local_port), encrypted, ours) as (stream, reads):
                await is_accepted.wait()
                yield Connection(stream, accepted[0], reads)
            is_over.set()
            tasks.cancel_scope.cancel()


def collect(wanted: int, into: bytearray) -> Callable[[bytes], bool]:
    def take(data: bytes) -> bool:
        into.extend(data)
        return len(into) < wanted

    return take


@encrypted_or_not
async def test_every_byte_is_given_in_order(runtime: str, encrypted: int) -> None:
    sent = bytes(number % 251 for number in range(10 * READ_BYTES))
    async with connected(runtime, encrypted) as connection, anyio.create_task_group() as tasks:
        tasks.start_soon(connection.peer.send, sent)
        seen = bytearray()
        await connection.reads.give(collect(len(sent), seen))
        assert seen == sent


@encrypted_or_not
async def test_who_has_enough_goes_on_later_where_he_stopped(runtime: str, encrypted: int) -> None:
    async with connected(runtime, encrypted) as connection:
        seen = bytearray()
        await connection.peer.send(b"one")
        await connection.reads.give(collect(3, seen))
        await connection.stream.send(b"go on")
        assert await connection.peer.receive() == b"go on"
        await connection.peer.send(b"two")
        await connection.reads.give(collect(6, seen))
        assert seen == b"onetwo"


@encrypted_or_not
async def test_the_end_of_a_connection_is_told_behind_its_last_bytes(runtime: str, encrypted: int) -> None:
    async with connected(runtime, encrypted) as connection, anyio.create_task_group() as tasks:
        await connection.peer.send(b"the last")
        # With a closing alert, for whose answer the other side waits. With a FIN where nothing is encrypted.
        tasks.start_soon(connection.peer.aclose)
        seen = bytearray()
        with pytest.raises(anyio.EndOfStream):
            await connection.reads.give(collect(1_000, seen))
        assert seen == b"the last"
        await anyio.aclose_forcefully(connection.stream)
        tasks.cancel_scope.cancel()


@encrypted_or_not
async def test_an_end_without_a_farewell_is_a_break(runtime: str, encrypted: int) -> None:
    async with connected(runtime, encrypted) as connection:
        connection.reset()
        await anyio.aclose_forcefully(connection.peer)
        with pytest.raises(anyio.BrokenResourceError) as broken:
            await connection.reads.give(lambda _: True)
        assert isinstance(broken.value.__cause__, ConnectionResetError)


@encrypted_only
async def test_what_is_no_tls_is_an_error_of_tls(runtime: str, encrypted: int) -> None:
    async with connected(runtime, encrypted) as connection:
        peer: object = connection.peer
        while isinstance(peer, TLSStream):
            peer = peer.transport_stream
        assert isinstance(peer, SocketStream)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises((ssl.SSLError, anyio.BrokenResourceError)) as broken:
            await connection.reads.give(lambda _: True)
        assert isinstance(broken.value, ssl.SSLError) or isinstance(broken.value.__cause__, ssl.SSLError)


@in_every_runtime
async def test_what_tls_itself_has_to_answer_leaves_though_nothing_is_sent(runtime: str) -> None:
    """A server that asks for a certificate later: new keys take the same way, but no server of Python's can ask for those."""
    async with connected(runtime, 1) as connection, anyio.create_task_group() as tasks:
        session = connection.peer.extra(TLSAttribute.ssl_object)
        session.verify_client_post_handshake()
        await connection.peer.send(b"1")
        tasks.start_soon(connection.peer.receive)
        tasks.start_soon(connection.reads.give, lambda _: True)
        while not session.getpeercert():
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


@encrypted_or_not
async def test_an_error_of_who_takes_comes_out_and_ends_it(runtime: str, encrypted: int) -> None:
    """A loop of asyncio would log it and read on."""
    seen: list[bytes] = []

    def take(data: bytes) -> bool:
        seen.append(data)
        raise KeyError("a bug of ours")

    async with connected(runtime, encrypted) as connection:
        await connection.peer.send(b"1")
        with pytest.raises(KeyError, match="a bug of ours"):
            await connection.reads.give(take)
        await connection.peer.send(b"2")
        await anyio.wait_all_tasks_blocked()
        assert seen == [b"1"]


@encrypted_or_not
async def test_a_pause_holds_the_other_side_back_and_loses_nothing(runtime: str, encrypted: int) -> None:
    size = 80 * READ_BYTES
    seen = bytearray()
    async with connected(runtime, encrypted) as connection:
        paused = anyio.Event()

        def take(data: bytes) -> bool:
            if not paused.is_set():
                connection.reads.pause()
                paused.set()
            seen.extend(data)
            return len(seen) < size

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection.reads.give, take)
            tasks.start_soon(connection.peer.send, bytes(size))
            await paused.wait()
            at_first = len(seen)
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            # A task may have begun one read more.
            assert len(seen) <= at_first + 2 * READ_BYTES
            connection.reads.resume()
        assert len(seen) == size


@in_every_runtime
async def test_nothing_is_read_while_it_is_paused_from_the_start(runtime: str) -> None:
    seen = bytearray()
    async with connected(runtime) as connection:
        connection.reads.pause()
        await connection.peer.send(b"1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection.reads.give, collect(1, seen))
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            assert not seen
            connection.reads.resume()
        assert seen == b"1"


@encrypted_or_not
async def test_whoever_is_cancelled_is_given_nothing_more(runtime: str, encrypted: int) -> None:
    seen = bytearray()
    async with connected(runtime, encrypted) as connection:
        with anyio.CancelScope() as scope:

            def take(data: bytes) -> bool:
                seen.extend(data)
                scope.cancel()
                return True

            await connection.peer.send(b"1")
            await connection.reads.give(take)
        assert scope.cancelled_caught
        await connection.peer.send(b"2")
        await anyio.wait_all_tasks_blocked()
        assert seen == b"1"


@in_every_runtime
async def test_no_socket_is_left(runtime: str) -> None:
    def sockets() -> int:
        # A resolver of aiohttp has pipes of its own, which it closes in a thread of its own.
        return sum(handle.is_socket() for handle in Path("/proc/self/fd").iterdir())

    if sys.platform != "linux":
        pytest.skip("this system does not list the open handles of a process")
    before = sockets()
    async with connected(runtime) as connection:
        await connection.peer.send(b"1")
        assert sockets() > before
        await connection.reads.give(lambda _: False)
    await anyio.wait_all_tasks_blocked()
    assert sockets() == before

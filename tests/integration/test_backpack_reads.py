"""The reads of real connections, plain, encrypted, and encrypted once more as through a proxy, on both event loops."""

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
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSStream

from backpack_runtime.network.reads import READ_BYTES, Reads, reads_of
from backpack_runtime.network.tls import TlsStream
from transports import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

HOST = "127.0.0.1"
ENCRYPTED = pytest.mark.parametrize("encrypted", [0, 1, 2])
"""How many times."""


class Connection:
    """Both ends: ours with its reads, and the other side's stream."""

    def __init__(self, stream: ByteStream, peer: ByteStream, reads: Reads) -> None:
        self.stream = stream
        self.peer = peer
        self.reads = reads

    def reset(self) -> None:
        """Have the other side end without a farewell."""
        raw = self.peer.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def connected(encrypted: int = 0) -> AsyncIterator[Connection]:
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
            stream: ByteStream = await anyio.connect_tcp(HOST, listener.extra(SocketAttribute.local_port))
            for _ in range(encrypted):
                stream = await TlsStream.connect(stream, ours, HOST)
            await is_accepted.wait()
            with reads_of(stream) as reads:
                yield Connection(stream, accepted[0], reads)
            await anyio.aclose_forcefully(stream)
            is_over.set()
            tasks.cancel_scope.cancel()


def collect(wanted: int, into: bytearray) -> Callable[[bytes], bool]:
    def take(data: bytes) -> bool:
        into.extend(data)
        return len(into) < wanted

    return take


@ENCRYPTED
async def test_every_byte_is_given_in_order(encrypted: int) -> None:
    sent = bytes(number % 251 for number in range(10 * READ_BYTES))
    async with connected(encrypted) as connection, anyio.create_task_group() as tasks:
        tasks.start_soon(connection.peer.send, sent)
        seen = bytearray()
        await connection.reads.give(collect(len(sent), seen))
        assert seen == sent


@ENCRYPTED
async def test_who_has_enough_goes_on_later_where_he_stopped(encrypted: int) -> None:
    async with connected(encrypted) as connection:
        seen = bytearray()
        await connection.peer.send(b"one")
        await connection.reads.give(collect(3, seen))
        await connection.stream.send(b"go on")
        assert await connection.peer.receive() == b"go on"
        await connection.peer.send(b"two")
        await connection.reads.give(collect(6, seen))
        assert seen == b"onetwo"


@ENCRYPTED
async def test_the_end_of_a_connection_is_told_behind_its_last_bytes(encrypted: int) -> None:
    async with connected(encrypted) as connection, anyio.create_task_group() as tasks:
        await connection.peer.send(b"the last")
        # With a closing alert, for whose answer the other side waits; with a FIN where nothing is encrypted.
        tasks.start_soon(connection.peer.aclose)
        seen = bytearray()
        with pytest.raises(anyio.EndOfStream):
            await connection.reads.give(collect(1_000, seen))
        assert seen == b"the last"
        await anyio.aclose_forcefully(connection.stream)
        tasks.cancel_scope.cancel()


@ENCRYPTED
async def test_an_end_without_a_farewell_is_a_break(encrypted: int) -> None:
    async with connected(encrypted) as connection:
        connection.reset()
        await anyio.aclose_forcefully(connection.peer)
        with pytest.raises(anyio.BrokenResourceError) as broken:
            await connection.reads.give(lambda _: True)
        assert isinstance(broken.value.__cause__, ConnectionResetError)


@pytest.mark.parametrize("encrypted", [1, 2])
async def test_what_is_no_tls_is_an_error_of_tls(encrypted: int) -> None:
    async with connected(encrypted) as connection:
        peer: object = connection.peer
        while isinstance(peer, TLSStream):
            peer = peer.transport_stream
        assert isinstance(peer, SocketStream)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await connection.reads.give(lambda _: True)


async def test_what_tls_itself_has_to_answer_leaves_though_nothing_is_sent() -> None:
    """A server that asks for a certificate later: new keys take the same way, but no server of Python's can ask for those."""
    async with connected(1) as connection, anyio.create_task_group() as tasks:
        session = connection.peer.extra(TLSAttribute.ssl_object)
        session.verify_client_post_handshake()
        await connection.peer.send(b"1")
        tasks.start_soon(connection.peer.receive)
        tasks.start_soon(connection.reads.give, lambda _: True)
        while not session.getpeercert():
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


@ENCRYPTED
async def test_an_error_of_who_takes_comes_out_and_ends_it(encrypted: int) -> None:
    """A loop of asyncio would log it and read on."""
    seen: list[bytes] = []

    def take(data: bytes) -> bool:
        seen.append(data)
        raise KeyError("a bug of ours")

    async with connected(encrypted) as connection:
        await connection.peer.send(b"1")
        with pytest.raises(KeyError, match="a bug of ours"):
            await connection.reads.give(take)
        await connection.peer.send(b"2")
        await anyio.wait_all_tasks_blocked()
        assert seen == [b"1"]


@ENCRYPTED
async def test_a_pause_holds_the_other_side_back_and_loses_nothing(encrypted: int) -> None:
    size = 80 * READ_BYTES
    seen = bytearray()
    async with connected(encrypted) as connection:
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


async def test_nothing_is_read_while_it_is_paused_from_the_start() -> None:
    seen = bytearray()
    async with connected() as connection:
        connection.reads.pause()
        await connection.peer.send(b"1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection.reads.give, collect(1, seen))
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            assert not seen
            connection.reads.resume()
        assert seen == b"1"


@ENCRYPTED
async def test_whoever_is_cancelled_is_given_nothing_more(encrypted: int) -> None:
    seen = bytearray()
    async with connected(encrypted) as connection:
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


async def test_no_handle_is_left(anyio_backend: str) -> None:
    def handles() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    if sys.platform != "linux":
        pytest.skip("this system does not list the open handles of a process")
    before = handles()
    async with connected() as connection:
        await connection.peer.send(b"1")
        await connection.reads.give(lambda _: False)
    await anyio.wait_all_tasks_blocked()
    # What a loop opens for itself when it is first asked.
    assert handles() <= before + (2 if anyio_backend == "trio" else 0)

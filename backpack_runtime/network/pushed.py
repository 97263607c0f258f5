"""Connections of asyncio whose bytes are handed over where they arrive.

Who waits in a task for the next read pays for it with turns of the loop: the read is noticed in one, the task runs in the next, and reading is
stopped and started again in between. Here the loop reads into one buffer and calls, so that a frame is with the session at once.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import NoReturn, Self, cast

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream, SocketAttribute
from python_socks import ProxyType
from python_socks.async_.asyncio.v2 import Proxy as SocksDialer

from .dialing import Streams
from .proxy import Proxy
from .tls import TlsStream

__all__ = ["PUSHED_STREAMS", "PushedStream", "PushedTcp", "PushedTls"]

READ_BYTES = 128 * 1024
"""Of a larger read the first events grow cold before they are fetched."""
MOST_UNFETCHED_BYTES = 64 * 1024
"""Reading stops while more than this waits for `receive`."""


class PushedStream(ByteStream):
    """A byte stream whose bytes are fetched by `receive`, or from some point on handed over by `push`."""

    @abstractmethod
    async def push(self, take: Callable[[bytes], bool]) -> None:
        """Give each read to `take`, in the loop's own callback, until that returns False; what it raises comes out here.

        Raises:
            anyio.EndOfStream: the other side ended the connection.
            anyio.BrokenResourceError, ssl.SSLError: it broke.
        """

    @abstractmethod
    def pause_reading(self) -> None:
        """Read no more, so that TCP holds the other side back."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read on."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Have bytes sent, without waiting."""

    async def send_eof(self) -> NoReturn:
        """Refuse: neither TLS nor a websocket ends one direction alone."""
        raise NotImplementedError("neither TLS nor a websocket ends one direction alone")


class PushedTcp(asyncio.BufferedProtocol, PushedStream):
    """One TCP connection."""

    def __init__(self) -> None:
        """Not connected yet: the loop does that."""
        self._kept: object = None
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._unfetched: deque[bytes] = deque()
        self._unfetched_bytes = 0
        self._take: Callable[[bytes], bool] | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        """Something waits for `receive`, or the connection has ended."""
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        """Connect to a host.

        Raises:
            OSError: it cannot be reached.
        """
        # anyio tries all addresses as RFC 8305 asks, and leaves nothing open when it is cancelled; asyncio's own way may, and uvloop has none.
        dialed = await anyio.connect_tcp(host, port)
        raw = dialed.extra(SocketAttribute.raw_socket)
        # Nothing has been read of it yet. A second handle keeps the connection when the first one is closed.
        own = socket.fromfd(raw.fileno(), raw.family, raw.type)
        try:
            own.setblocking(False)  # noqa: FBT003 - the socket's own signature
            await anyio.aclose_forcefully(dialed)
            return (await asyncio.get_running_loop().create_connection(cls, sock=own))[1]
        except BaseException:
            own.close()
            raise

    @classmethod
    def over(cls, writer: asyncio.StreamWriter) -> Self:
        """Take over a connection, of which nothing may have been read that was not asked for."""
        stream = cls()
        # A writer that is collected closes its connection.
        stream._kept = writer
        transport = writer.transport
        transport.set_protocol(stream)
        stream.connection_made(transport)
        return stream

    async def receive(self, max_bytes: int = READ_BYTES) -> bytes:
        """Return what has arrived, at least one byte.

        Raises:
            anyio.EndOfStream: the other side ended the connection.
            anyio.BrokenResourceError: it broke.
        """
        while not self._unfetched:
            self._raise_if_ended()
            self._changed.clear()
            await self._changed.wait()
        data = self._unfetched.popleft()
        if len(data) > max_bytes:
            self._unfetched.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        self._unfetched_bytes -= len(data)
        if self._unfetched_bytes <= MOST_UNFETCHED_BYTES and not self._ended:
            self._connected.resume_reading()
        return data

    async def push(self, take: Callable[[bytes], bool]) -> None:
        """Give each read to `take`."""
        self._take = take
        try:
            while self._unfetched and self._pushing:
                self._hand_over(self._unfetched.popleft())
            while self._pushing:
                self._raise_if_ended()
                self._changed.clear()
                await self._changed.wait()
            if self._error is not None:
                raise self._error
        finally:
            self._take = None

    def pause_reading(self) -> None:
        """Read no more, so that TCP holds the other side back."""
        if not self._ended:
            self._connected.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._ended:
            self._connected.resume_reading()

    def write(self, data: bytes) -> None:
        """Have bytes sent, without waiting."""
        if not self._ended:
            self._connected.write(data)

    async def send(self, item: bytes) -> None:
        """Send everything, and wait while the other side does not read.

        Raises:
            anyio.BrokenResourceError: the connection has ended or broke.
        """
        self.write(item)
        await self._writable.wait()
        if self._ended:
            raise anyio.BrokenResourceError from self._error

    async def aclose(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        # That takes effect in the next round of the loop, which may be its last.
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        # Any byte that the socket did not take stops the next `send`.
        self._transport.set_write_buffer_limits(0)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's own word for it
        """Return where to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over what was read."""
        data = bytes(self._buffer[:nbytes])
        if self._take is not None:
            self._hand_over(data)
            return
        self._unfetched.append(data)
        self._unfetched_bytes += nbytes
        if self._unfetched_bytes > MOST_UNFETCHED_BYTES:
            self._connected.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool:
        """Have the connection closed: there is nothing to send to who has left."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._ended = True
        self._error = self._error or exc
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Let `send` wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let it go on."""
        self._writable.set()

    @property
    def _connected(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("the stream has not been connected")
        return self._transport

    @property
    def _pushing(self) -> bool:
        return self._take is not None

    def _hand_over(self, data: bytes) -> None:
        take = self._take
        if take is None:
            return
        try:
            more = take(data)
        except BaseException as error:  # noqa: BLE001 - it is raised by `push`; the loop would take it for an error of the connection
            self._error = error
            more = False
        if not more:
            self._take = None
            self._changed.set()

    def _raise_if_ended(self) -> None:
        if self._ended:
            if self._error is None:
                raise anyio.EndOfStream
            raise anyio.BrokenResourceError from self._error


class PushedTls(TlsStream, PushedStream):
    """TLS over such a stream."""

    def __init__(self, stream: PushedStream, context: ssl.SSLContext, host: str) -> None:
        """Like every `TlsStream`; `connect` makes one."""
        super().__init__(stream, context, host)
        self._pushed = stream

    async def push(self, take: Callable[[bytes], bool]) -> None:
        """Give to `take` what each read completes."""

        def decrypt(data: bytes) -> bool:
            self._incoming.write(data)
            while plain := self._decrypted(READ_BYTES):
                if not take(plain):
                    return False
            if self._outgoing.pending:
                self._pushed.write(self._outgoing.read())
            return True

        if decrypt(b""):
            await self._pushed.push(decrypt)

    def pause_reading(self) -> None:
        """Read no more."""
        self._pushed.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._pushed.resume_reading()

    def write(self, data: bytes) -> None:
        """Encrypt and send, without waiting."""
        self._tls.write(data)
        self._pushed.write(self._outgoing.read())


class _PushedStreams(Streams[PushedStream]):
    async def connect(self, host: str, port: int) -> PushedStream:
        return await PushedTcp.connect(host, port)

    async def encrypt(self, stream: PushedStream, context: ssl.SSLContext, host: str) -> PushedStream:
        return await PushedTls.connect(stream, context, host)

    async def connect_by_socks(
        self, proxy: Proxy, kind: ProxyType, target: tuple[str, int], timeout_seconds: float
    ) -> PushedStream:
        dialer = SocksDialer(kind, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True)
        connected = await dialer.connect(*target, timeout=timeout_seconds)
        return PushedTcp.over(connected.writer)


PUSHED_STREAMS = _PushedStreams()

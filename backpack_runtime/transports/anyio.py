"""Sockets and TLS on anyio, which is asyncio and trio."""

from __future__ import annotations

import select
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream, SocketAttribute

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import Connected, ConnectFailed, Disconnected, Fact, RequestFailed
from backpack_proto.outputs import HttpRequest, SendRequest
from backpack_runtime.addresses import Address, Addresses
from backpack_runtime.framing import HttpFraming, HttpResponse, Sendable, WebsocketFraming
from backpack_runtime.outgoing import BROKEN, Outgoing
from backpack_runtime.tls import TlsStream

from .base import ABNORMAL_CLOSURE, FLUSH_SECONDS, FRESH_SECONDS, Progress, Socket, SocketTransport, answered

__all__ = ["AnyioTransport"]

READ_BYTES = 256 * 1024


class _Socket(Socket):
    def __init__(self) -> None:
        super().__init__()
        self.framing: WebsocketFraming | None = None
        self.ended = False
        self.outgoing = Outgoing()

    def send(self, action: Sendable) -> None:
        # The link may have ended meanwhile; the fact that says so is on its way.
        if self.framing is not None:
            self.outgoing.write(self.framing.send(action))


class _HttpConnection:
    """A connection for one request at a time."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.framing = HttpFraming()
        self._used_at = anyio.current_time()

    @property
    def fresh(self) -> bool:
        """Whether it was used a moment ago, and has not been closed by the server since.

        While no answer is due there is nothing to be read but the end, so a socket with something to read is as good as closed.
        """
        descriptor = int(self.stream.extra(SocketAttribute.raw_socket).fileno())
        if descriptor < 0 or anyio.current_time() - self._used_at > FRESH_SECONDS:
            return False
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return not poll.poll(0)

    async def exchange(self, request: HttpRequest, host: str) -> HttpResponse:
        """Send one request and read its answer."""
        await self.stream.send(self.framing.request(request, host))
        while True:
            try:
                data = await self.stream.receive(READ_BYTES)
            except anyio.EndOfStream:
                data = b""
            response = self.framing.receive(data)
            if response is not None:
                self._used_at = anyio.current_time()
                return response


class AnyioTransport(SocketTransport[_Socket]):
    """The contract of `Transport` on anyio."""

    def __init__(self, addresses: Addresses, *, compression: bool = False) -> None:
        """Nothing is connected yet; `compression` offers permessage-deflate (docs/protocol.md 3.5)."""
        super().__init__(addresses, compression=compression)
        self._idle: list[_HttpConnection] = []

    def _new_socket(self) -> _Socket:
        return _Socket()

    async def _close_idle(self) -> None:
        # Shielded, or else a cancellation would end the loop with the first of them.
        with anyio.CancelScope(shield=True):
            while self._idle:
                await anyio.aclose_forcefully(self._idle.pop().stream)

    async def _close_stale(self) -> None:
        stale = [connection for connection in self._idle if not connection.fresh]
        self._idle = [connection for connection in self._idle if connection not in stale]
        with anyio.CancelScope(shield=True):
            for connection in stale:
                await anyio.aclose_forcefully(connection.stream)

    async def _run_socket(self, socket: _Socket) -> None:
        address = self._addresses.ws
        with socket.scope:
            try:
                async with _connect(address, self._addresses.ssl_context) as stream:
                    socket.framing = WebsocketFraming(address.authority, address.target, compression=self._compression)
                    await stream.send(socket.framing.open())
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(socket.outgoing.send_all, stream)
                        facts = await self._read(stream, socket, socket.framing)
                        socket.outgoing.finish()
                        tasks.cancel_scope.deadline = anyio.current_time() + FLUSH_SECONDS
            except BROKEN as broken:
                facts = [ConnectFailed(_describe(broken))]
            if not socket.ended:
                self._report(socket, facts)

    async def _read(self, stream: ByteStream, socket: _Socket, framing: WebsocketFraming) -> list[Fact]:
        """Read until the websocket ends; returns the end, should no fact have told it yet."""
        connected = False
        while True:
            await self._readable.wait()
            try:
                data = await stream.receive(READ_BYTES)
            except anyio.EndOfStream:
                data = b""
            except BROKEN as broken:
                reason = _describe(broken)
                return [Disconnected(ABNORMAL_CLOSURE, reason) if connected else ConnectFailed(reason)]
            facts = framing.receive(data)
            connected = connected or any(isinstance(fact, Connected) for fact in facts)
            socket.outgoing.write(framing.to_send())
            socket.ended = framing.closed
            self._report(socket, facts)
            if socket.ended:
                return []

    async def _request(self, action: SendRequest, progress: Progress) -> Fact:
        request = action.request
        reading = request.method == "GET"
        if not reading:
            # What changes something is sent once, so it must not be lost to a connection that the server has given up.
            await self._close_stale()
        while True:
            reused = bool(self._idle)
            try:
                async with self._http_connection() as connection:
                    progress.sent = True
                    response = await connection.exchange(request, self._addresses.rest.authority)
            except (*BROKEN, RemoteProtocolError) as broken:
                if reused and reading:
                    # The server may close a kept connection under a request (docs/protocol.md 1.1): once more, on a fresh one.
                    await self._close_idle()
                    continue
                return RequestFailed(request_id=action.request_id, reason=_describe(broken), sent=progress.sent)
            return answered(action.request_id, response)

    @asynccontextmanager
    async def _http_connection(self) -> AsyncGenerator[_HttpConnection]:
        """A kept connection or a fresh one, kept again if it can be; closed if anything went wrong."""
        rest = self._addresses.rest
        connection = self._idle.pop() if self._idle else _HttpConnection(await _open(rest, self._addresses.ssl_context))
        try:
            yield connection
        finally:
            if connection.framing.reusable:
                self._idle.append(connection)
            else:
                await anyio.aclose_forcefully(connection.stream)


@asynccontextmanager
async def _connect(address: Address, ssl_context: ssl.SSLContext | None) -> AsyncGenerator[ByteStream]:
    stream = await _open(address, ssl_context)
    try:
        yield stream
    finally:
        await anyio.aclose_forcefully(stream)


async def _open(address: Address, ssl_context: ssl.SSLContext | None) -> ByteStream:
    stream = await anyio.connect_tcp(address.host, address.port)
    if not address.encrypted:
        return stream
    if ssl_context is None:
        raise RuntimeError("an encrypted address without a TLS context")
    try:
        return await TlsStream.connect(stream, ssl_context, address.host)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise


def _describe(broken: BaseException) -> str:
    """Say in one line what broke; anyio wraps the error of the system into its own."""
    cause = broken.__cause__
    if isinstance(broken, anyio.EndOfStream):
        return "the connection was closed by the other side"
    if isinstance(broken, anyio.BrokenResourceError) and cause is not None:
        return _describe(cause)
    return f"{type(broken).__name__}: {broken}" if str(broken) else type(broken).__name__

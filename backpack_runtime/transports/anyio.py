"""Sockets and TLS on anyio, which is asyncio and trio."""

from __future__ import annotations

import select
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
from anyio.abc import ByteStream, SocketAttribute

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.http import HttpRequest
from backpack_proto.inputs import Connected, ConnectFailed, Disconnected, Fact, RequestFailed, TextReceived
from backpack_proto.outputs import SendPong, SendRequest
from backpack_runtime.framing.client import HttpFraming, HttpResponse, Sendable, WebsocketFraming
from backpack_runtime.network.addresses import Address, Addresses
from backpack_runtime.network.dialing import ANYIO_STREAMS, describe, dial
from backpack_runtime.network.proxy import Proxy, ProxyError
from backpack_runtime.network.proxy_settings import log_proxy_use
from backpack_runtime.network.reads import READ_BYTES, Reads, reads_of
from backpack_runtime.network.send_queue import BROKEN, Outgoing
from backpack_runtime.network.tls import TlsStream

from .base import (
    ABNORMAL_CLOSURE,
    FLUSH_SECONDS,
    FRESH_SECONDS,
    REFUSAL_SECONDS,
    UNREAD,
    Progress,
    Socket,
    SocketTransport,
    answered,
    not_sent,
)

__all__ = ["AnyioTransport"]


class _Socket(Socket):
    def __init__(self) -> None:
        super().__init__()
        self.framing: WebsocketFraming | None = None
        self.ended = False
        self.outgoing = Outgoing()
        self.reads: Reads | None = None
        """Of its connection, while that is open."""

    def pause_reading(self) -> None:
        if self.reads is not None:
            self.reads.pause()

    def resume_reading(self) -> None:
        if self.reads is not None:
            self.reads.resume()

    def send(self, action: Sendable) -> None:
        # The connection may have ended meanwhile; the fact that says so is on its way.
        if self.framing is None:
            return
        data = self.framing.send(action)
        if isinstance(action, SendPong):
            self.outgoing.write_pong(data)
        else:
            self.outgoing.write(data)
        if self.outgoing.overfull:
            self.reading.cancel()


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

    async def exchange(self, request: HttpRequest, host: str, progress: Progress) -> HttpResponse:
        """Send one request, if it may still leave, and read its answer."""
        progress.leave()
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
        facts: list[Fact]
        with socket.scope:
            try:
                async with self._connect_websocket() as stream:
                    with self._reads(socket, stream) as reads:
                        socket.framing = WebsocketFraming(address.authority, address.target, compression=self._compression)
                        await stream.send(socket.framing.open())
                        async with anyio.create_task_group() as tasks:
                            tasks.start_soon(socket.outgoing.send_all, stream)
                            facts = await self._read(reads, socket, socket.framing)
                            socket.outgoing.finish()
                            tasks.cancel_scope.deadline = anyio.current_time() + FLUSH_SECONDS
            except ProxyError as failure:
                facts = [ConnectFailed(str(failure), proxy=failure.proxy, error=failure.with_traceback(None))]
            except BROKEN as broken:
                facts = [ConnectFailed(describe(broken))]
            if not socket.ended:
                self._report(socket, facts)

    @contextmanager
    def _reads(self, socket: _Socket, stream: ByteStream) -> Iterator[Reads]:
        with reads_of(stream) as reads:
            socket.reads = reads
            if not self._readable.is_set():
                reads.pause()
            try:
                yield reads
            finally:
                socket.reads = None

    async def _read(self, reads: Reads, socket: _Socket, framing: WebsocketFraming) -> list[Fact]:
        """Read until the websocket ends; returns the end, should no fact have told it yet."""
        with socket.reading:
            return await self._read_on(reads, socket, framing)
        if not framing.refused:
            return [Disconnected(ABNORMAL_CLOSURE, UNREAD)]
        self._take(b"", socket, framing)
        return []

    async def _read_on(self, reads: Reads, socket: _Socket, framing: WebsocketFraming) -> list[Fact]:
        connected = patient = False

        def take(data: bytes) -> bool:
            nonlocal connected
            facts = self._take(data, socket, framing)
            if connected:
                return not socket.ended
            connected = any(isinstance(fact, Connected) for fact in facts)
            return not socket.ended and (patient or not framing.refused)

        try:
            await reads.give(take)
            if framing.refused:
                socket.reading.deadline = anyio.current_time() + REFUSAL_SECONDS
                patient = True
                await reads.give(take)
        except anyio.EndOfStream:
            take(b"")
        except BROKEN as broken:
            reason = describe(broken)
            return [Disconnected(ABNORMAL_CLOSURE, reason) if connected else ConnectFailed(reason)]
        return []

    def _take(self, data: bytes, socket: _Socket, framing: WebsocketFraming) -> list[Fact]:
        """Report what was read."""
        facts = framing.receive(data, time.time_ns() // 1000)
        if not facts or type(facts[-1]) is not TextReceived:
            # A message is neither the end nor to be answered here.
            socket.outgoing.write(framing.to_send())
            socket.ended = framing.closed
        self._report(socket, facts)
        return facts

    async def _request(self, action: SendRequest, progress: Progress) -> Fact:
        request = action.request
        reading = request.method == "GET"
        if not reading:
            # What changes something is sent once, so it must not be lost to a connection that the server has given up.
            await self._close_stale()
        while True:
            progress.reused = bool(self._idle)
            try:
                async with self._http_connection(progress) as connection:
                    response = await connection.exchange(request, self._addresses.rest.authority, progress)
            except ProxyError as failure:
                return not_sent(action.request_id, failure)
            except (*BROKEN, RemoteProtocolError) as broken:
                if progress.reused and reading:
                    # The server may close a kept connection under a request (docs/protocol.md 1.1): once more, on a fresh one.
                    await self._close_idle()
                    continue
                return RequestFailed(request_id=action.request_id, reason=describe(broken), sent=progress.sent)
            return answered(action.request_id, response)

    @asynccontextmanager
    async def _http_connection(self, progress: Progress) -> AsyncGenerator[_HttpConnection]:
        """A kept connection or a fresh one, kept again if it can be; closed if anything went wrong."""
        if self._idle:
            connection = self._idle.pop()
        else:
            progress.dialing = self._addresses.proxies.rest
            stream = await self._dial(self._addresses.rest, progress.dialing, "http")
            progress.dialing = None
            connection = _HttpConnection(await self._encrypt(stream, self._addresses.rest))
        try:
            yield connection
        finally:
            if connection.framing.reusable:
                self._idle.append(connection)
            else:
                await anyio.aclose_forcefully(connection.stream)

    @asynccontextmanager
    async def _connect_websocket(self) -> AsyncGenerator[ByteStream]:
        address = self._addresses.ws
        stream = await self._encrypt(await self._dial(address, self._addresses.proxies.websocket, "websocket"), address)
        try:
            yield stream
        finally:
            await anyio.aclose_forcefully(stream)

    async def _dial(self, address: Address, proxy: Proxy | None, kind: str) -> ByteStream:
        if proxy is None:
            return await anyio.connect_tcp(address.host, address.port)
        log_proxy_use(kind, proxy)
        patience = self._addresses.proxies.timeout_of(proxy)
        return await dial(
            address.host, address.port, proxy, patience, proxy_tls=self._addresses.ssl_context, streams=ANYIO_STREAMS
        )

    async def _encrypt(self, stream: ByteStream, address: Address) -> ByteStream:
        """TLS with the exchange itself, whoever carries it."""
        if not address.encrypted:
            return stream
        if self._addresses.ssl_context is None:
            raise RuntimeError("an encrypted address without a TLS context")
        try:
            return await TlsStream.connect(stream, self._addresses.ssl_context, address.host)
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise

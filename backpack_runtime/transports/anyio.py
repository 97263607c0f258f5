"""Sockets and TLS on anyio, which is asyncio and trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream, SocketAttribute

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.http import HttpRequest
from backpack_proto.inputs import Fact, RequestFailed
from backpack_proto.outputs import SendRequest
from backpack_runtime.framing.client import HttpFraming, HttpResponse
from backpack_runtime.network.addresses import Address, Addresses
from backpack_runtime.network.dialing import ANYIO_STREAMS, describe, dial
from backpack_runtime.network.proxy import Proxy, ProxyError
from backpack_runtime.network.proxy_settings import log_proxy_use
from backpack_runtime.network.reads import READ_BYTES, reads_of
from backpack_runtime.network.send_queue import BROKEN
from backpack_runtime.network.tls import TlsStream
from backpack_runtime.platforms import is_readable_now

from .base import FRESH_SECONDS, Progress, SocketTransport, answered, not_sent
from .websocket import Connection

__all__ = ["AnyioTransport"]


class _HttpConnection:
    """A connection for one request at a time."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.framing = HttpFraming()
        self._used_at = anyio.current_time()

    @property
    def fresh(self) -> bool:
        """True when it was used a moment ago, and has not been closed by the server since.

        While no answer is due only the end can be read, so a socket with data to read is as good as closed.
        """
        descriptor = int(self.stream.extra(SocketAttribute.raw_socket).fileno())
        if descriptor < 0 or anyio.current_time() - self._used_at > FRESH_SECONDS:
            return False
        return not is_readable_now(descriptor)

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


class AnyioTransport(SocketTransport):
    """The contract of `Transport` on anyio."""

    def __init__(self, addresses: Addresses, *, compression: bool = False) -> None:
        """Nothing is connected yet. `compression` offers permessage-deflate (docs/protocol.md 3.5)."""
        super().__init__(addresses, compression=compression)
        self._idle: list[_HttpConnection] = []

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

    async def _request(self, action: SendRequest, progress: Progress) -> Fact:
        request = action.request
        reading = request.method == "GET"
        if not reading:
            # A request that changes something is sent once, so it must not be lost to a connection that the server has given up.
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
        """A kept connection or a fresh one, kept again if it can be. Closed if anything went wrong."""
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
    async def _connect_websocket(self) -> AsyncGenerator[Connection]:
        address = self._addresses.ws
        stream = await self._encrypt(await self._dial(address, self._addresses.proxies.websocket, "websocket"), address)
        try:
            with reads_of(stream) as reads:
                yield Connection(stream, reads)
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
        """Start TLS with the exchange itself, over any carrier."""
        if not address.encrypted:
            return stream
        if self._addresses.ssl_context is None:
            raise RuntimeError("an encrypted address without a TLS context")
        try:
            return await TlsStream.connect(stream, self._addresses.ssl_context, address.host)
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise

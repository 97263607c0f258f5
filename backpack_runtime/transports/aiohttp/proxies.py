"""Connections of aiohttp, directly and through proxies: aiohttp-socks' connector, which fails like the dialer of the other runtimes."""

from __future__ import annotations

import asyncio
import ssl
from contextvars import ContextVar
from typing import Any, NoReturn, TypeAlias, cast
from weakref import WeakSet

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream
from python_socks import ProxyType
from python_socks.async_.asyncio.v2 import Proxy as SocksDialer

from backpack_runtime.extras import MissingExtra
from backpack_runtime.network.dialing import Streams, dial
from backpack_runtime.network.proxy import Proxy
from backpack_runtime.network.proxy_settings import log_proxy_use
from backpack_runtime.transports.base import Progress

try:
    from aiohttp import TCPConnector
    from aiohttp.client_proto import ResponseHandler
    from aiohttp_socks import ProxyConnector
except ImportError as missing:
    raise MissingExtra("the aiohttp runtime", "aiohttp", missing) from missing

__all__ = ["ASYNCIO_STREAMS", "PROGRESS", "AsyncioStream", "Connector", "DirectConnector", "ProxiedConnector"]

READ_BYTES = 64 * 1024

PROGRESS: ContextVar[Progress | None] = ContextVar("PROGRESS", default=None)
"""Of the request for which a connection is made, in whose task that happens."""


class AsyncioStream(ByteStream):
    """A reader and a writer of asyncio as one stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def receive(self, max_bytes: int = READ_BYTES) -> bytes:
        """All that is there, at least one byte.

        Raises:
            anyio.EndOfStream: the other side ended the connection.
        """
        data = await self._reader.read(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Send everything."""
        self.writer.write(item)
        await self.writer.drain()

    async def send_eof(self) -> NoReturn:
        """Refuse: TLS cannot close one direction alone."""
        raise NotImplementedError("nobody asks a proxy with half a connection")

    async def aclose(self) -> None:
        """Close the connection at once."""
        self.writer.transport.abort()


class _AsyncioStreams(Streams[AsyncioStream]):
    async def connect(self, host: str, port: int) -> AsyncioStream:
        return AsyncioStream(*await asyncio.open_connection(host, port))

    async def encrypt(self, stream: AsyncioStream, context: ssl.SSLContext, host: str) -> AsyncioStream:
        await stream.writer.start_tls(context, server_hostname=host)
        return stream

    async def connect_by_socks(
        self, proxy: Proxy, kind: ProxyType, target: tuple[str, int], timeout_seconds: float
    ) -> AsyncioStream:
        dialer = SocksDialer(kind, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True)
        connected = await dialer.connect(*target, timeout=timeout_seconds)
        return AsyncioStream(connected.reader, connected.writer)


ASYNCIO_STREAMS = _AsyncioStreams()


class _ResponseHandler(ResponseHandler):
    """Keeps the writer, which would close the connection when it is collected."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(asyncio.get_running_loop())
        self._writer = writer


class Opened:
    """The connections that a connector has opened, without their TLS: aiohttp forgets those that it gives up half made."""

    def __init__(self) -> None:
        self._transports: WeakSet[asyncio.Transport] = WeakSet()

    def add(self, transport: asyncio.Transport) -> None:
        """Remember one for as long as it lives."""
        self._transports.add(transport)

    async def abort(self) -> None:
        """End those that are still there, at once."""
        for transport in list(self._transports):
            transport.abort()
        # That takes effect in the next round of the loop, which may be its last.
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()


class DirectConnector(TCPConnector):
    """Encrypts a connection once it is made: asyncio leaves one open for good that is given up while it does both at a time."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.opened = Opened()

    async def _wrap_create_connection(self, *args: Any, **options: Any) -> tuple[asyncio.Transport, ResponseHandler]:
        context, host = options.pop("ssl", None), options.pop("server_hostname", None)
        transport, handler = await super()._wrap_create_connection(*args, **options)
        self.opened.add(transport)
        if not context:
            return transport, handler
        try:
            encrypted = await self._loop.start_tls(transport, handler, context, server_hostname=host)
        except BaseException:
            transport.abort()
            raise
        if encrypted is None:
            raise ConnectionResetError("the connection was closed during the handshake")
        handler.connection_made(encrypted)
        return encrypted, handler


class ProxiedConnector(ProxyConnector):
    """Connects through `proxy`, which has `timeout_seconds`. `kind` is for the log.

    Errors at the proxy are a `ProxyError`, and errors behind it are the same as without a proxy.
    """

    def __init__(
        self, proxy: Proxy, kind: str, *, timeout_seconds: float, ssl_context: ssl.SSLContext | None, **options: Any
    ) -> None:
        super().__init__(proxy.host, proxy.port, **options)
        self._proxy = proxy
        self._kind = kind
        self._timeout_seconds = timeout_seconds
        self._tls = ssl_context
        self.opened = Opened()

    async def _connect_via_proxy(
        self,
        host: str,
        port: int,
        ssl: ssl.SSLContext | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - aiohttp-socks calls it so. The proxy has its own patience
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        log_proxy_use(self._kind, self._proxy)
        progress = PROGRESS.get()
        if progress is not None:
            progress.dialing = self._proxy
        stream = await dial(host, port, self._proxy, self._timeout_seconds, streams=ASYNCIO_STREAMS, proxy_tls=self._tls)
        if progress is not None:
            progress.dialing = None
        self.opened.add(cast("asyncio.Transport", stream.writer.transport))
        if ssl is not None:
            try:
                await ASYNCIO_STREAMS.encrypt(stream, ssl, host)
            except BaseException:
                await stream.aclose()
                raise
        transport = cast("asyncio.Transport", stream.writer.transport)
        handler = _ResponseHandler(stream.writer)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        return transport, handler


Connector: TypeAlias = DirectConnector | ProxiedConnector

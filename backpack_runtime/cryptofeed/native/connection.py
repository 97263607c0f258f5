"""cryptofeed's connections with backoff that is jittered and capped, ends that are reported, TLS and proxies of our own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
from cryptofeed.connection import HTTPAsyncConn, WSAsyncConn
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, WebSocketException

from backpack_proto.inputs import TextReceived
from backpack_proto.text import printable
from backpack_runtime.cryptofeed.errors import BackpackWebsocketError
from backpack_runtime.cryptofeed.logs import LOG
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.proxy import ProxyError
from backpack_runtime.transports.aiohttp.proxies import Connector
from backpack_runtime.transports.aiohttp.sessions import follow_progress, make_connector

from .driver import ABNORMAL_CLOSURE, CLOSED_BY_FEED, SessionDriver
from .receiving import ReceivingConnection
from .tunnel import Tunnel

__all__ = ["HttpConnection", "WebsocketConnection"]

NORMAL_CLOSURE = 1000
REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})


class WebsocketConnection(WSAsyncConn):
    """One websocket after the other, for one session.

    cryptofeed reconnects at once after a clean close, doubles its delay without end after others, and watches only connections that
    have spoken. Here every attempt waits as long as the session says, and every end is an error that cryptofeed logs in one line.
    """

    def __init__(
        self, address: str, conn_id: str, driver: SessionDriver, addresses: Addresses, *, attempts: int, **options: Any
    ) -> None:
        """`attempts` may fail in a row, -1 for any number. `addresses` tell the way, which may be through a proxy."""
        super().__init__(address, conn_id, **options)
        if not addresses.ws.encrypted:
            # A sandbox without TLS, which cryptofeed's own class refuses.
            self.address = "ws" + address.removeprefix("wss")
        self._driver = driver
        self._addresses = addresses
        self._options: dict[str, Any] = self.ws_kwargs
        self._tunnel: Tunnel | None = None
        self._closing = asyncio.Lock()
        self._attempts = attempts
        self._failed = 0
        self._dropped: Exception | None = None
        self._opening: asyncio.Timeout | None = None
        """Ends the attempts to connect when the feed is stopped."""
        self._stopped = False

    def drop(self, error: Exception) -> None:
        """End the connection at once. Its reader gets this error."""
        self._dropped = error
        if self.conn is not None:
            self.conn.transport.abort()

    def stop_recording(self) -> None:
        """Hide later messages from recorders of cryptofeed 2."""
        if self.raw_data_callback is not None:
            self.raw_data_callback: Any = _forget

    async def _open(self) -> None:
        self._stopped = False
        self._dropped = None
        try:
            async with asyncio.timeout(None) as self._opening:
                await self._connect()
        except TimeoutError:
            if not self._stopped:
                raise
        finally:
            self._opening = None
        if self._stopped:
            await super().close()
            raise ConnectionAbortedError("the feed was stopped")

    async def _connect(self) -> None:
        while True:
            await asyncio.sleep(self._driver.retry_seconds)
            try:
                self.ws_kwargs = self._options | await self._way() | {"create_connection": ReceivingConnection}
                await super()._open()
            except (OSError, WebSocketException, TimeoutError, ProxyError) as error:
                await self._close_tunnel()
                await self._driver.connect_failed(error)
                self._failed += 1
                if 0 <= self._attempts < self._failed:
                    raise
                LOG.warning(
                    "%s: attempt %d to connect failed (%s), next in %.1f s",
                    self.id,
                    self._failed,
                    printable(str(error)),
                    self._driver.retry_seconds,
                )
            else:
                self._failed = 0
                return

    async def _way(self) -> dict[str, Any]:
        """Return how the websockets library connects: it follows no redirect to another host when it is told where to connect.

        Raises:
            ProxyError: there is no way through the proxy.
        """
        proxy = self._addresses.proxies.websocket
        if proxy is None:
            return {"host": self._addresses.ws.host, "port": self._addresses.ws.port, "proxy": None}
        self._tunnel = await Tunnel.open(self._addresses, proxy)
        return {"sock": self._tunnel.socket, "proxy": None}

    async def _close_tunnel(self) -> None:
        if self._tunnel is not None:
            tunnel, self._tunnel = self._tunnel, None
            await tunnel.close()

    async def read(self) -> AsyncIterator[str | bytes | Sequence[TextReceived]]:
        """All messages of a read, or each by itself where a recorder is to see it. The end is an error, unless it is we who closed.

        Raises:
            BackpackWebsocketError: it has ended, or was given up.
            Exception: the error that it was dropped with.
        """
        socket = self.conn
        try:
            if self.is_open and self.raw_data_callback is None and isinstance(socket, ReceivingConnection):
                async for messages in self._read_all(socket):
                    yield messages
            else:
                async for message in super().read():
                    yield message
        except ConnectionClosed as closed:
            raise await self._ended(socket) from closed
        if self.conn is not None:
            raise await self._ended(socket)

    async def _read_all(self, socket: ReceivingConnection) -> AsyncIterator[str | bytes | Sequence[TextReceived]]:
        while True:
            try:
                messages = await socket.receive()
            except ConnectionClosedOK:
                return
            self.received += 1 if isinstance(messages, str | bytes) else len(messages)
            self.last_message = time.time()
            yield messages

    async def _ended(self, socket: Any) -> Exception:
        code = socket.close_code or ABNORMAL_CLOSURE
        why = printable(socket.close_reason or "the connection was lost")
        proxy = self._addresses.proxies.websocket
        if proxy is not None and code == ABNORMAL_CLOSURE:
            why = f"{why} (through proxy {proxy.endpoint})"
        await self._driver.disconnected(code, why)
        return self._dropped or BackpackWebsocketError(f"the exchange closed the connection: {code} {why}")

    async def close(self) -> None:
        """Close, or end an attempt to connect and the wait for one."""
        self._stopped = True
        if self._opening is not None and not self._opening.expired():
            self._opening.reschedule(asyncio.get_running_loop().time())
        # The stopper and the reader of the feed both close, and both wait: the loop may end with the one that stops it.
        async with self._closing:
            await super().close()
            await self._close_tunnel()
        await self._driver.disconnected(NORMAL_CLOSURE, CLOSED_BY_FEED)


async def _forget(*_values: Any, **_options: Any) -> None:
    pass


class HttpConnection(HTTPAsyncConn):
    """cryptofeed's HTTP connection with the trust store and the proxy of `addresses`. It follows no redirects."""

    def __init__(self, conn_id: str, addresses: Addresses) -> None:
        super().__init__(conn_id)
        self._addresses = addresses
        self._connector: Connector | None = None

    async def _open(self) -> None:
        await super()._open()
        bare: aiohttp.ClientSession = self.conn
        self._connector = make_connector(self._addresses, self._addresses.proxies.rest, "http")
        self.conn: aiohttp.ClientSession = aiohttp.ClientSession(
            connector=self._connector, middlewares=(_stay,), trace_configs=[follow_progress()]
        )
        await bare.close()

    async def close(self) -> None:
        """Close, with the steps that aiohttp would leave to the loop, which may be about to end."""
        await super().close()
        if self._connector is not None:
            await self._connector.opened.abort()


async def _stay(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Go where a request was meant to go, and nowhere else: its headers may hold a signature."""
    response = await handler(request)
    if response.status in REDIRECTS:
        where = response.headers.get("Location", "")
        response.close()
        message = f"a redirect to {where[:200]!r} is not followed"
        raise aiohttp.TooManyRedirects(response.request_info, (response,), status=response.status, message=message)
    return response

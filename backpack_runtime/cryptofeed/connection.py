"""cryptofeed's connections with what they lack: backoff that is jittered and capped, ends that are told, TLS and proxies of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from cryptofeed.connection import HTTPAsyncConn, WSAsyncConn
from websockets.exceptions import ConnectionClosed, WebSocketException

from .driver import CLOSED_BY_FEED, SessionDriver
from .errors import BackpackWebsocketError
from .logs import LOG

__all__ = ["HttpConnection", "WebsocketConnection"]

ABNORMAL_CLOSURE = 1006
NORMAL_CLOSURE = 1000


class WebsocketConnection(WSAsyncConn):
    """One websocket after the other, for one session.

    cryptofeed reconnects at once after a clean close, doubles its delay without end after others, and watches only connections that
    have spoken. Here every attempt waits as long as the session says, and every end is an error that cryptofeed logs in one line.
    """

    def __init__(
        self, address: str, conn_id: str, driver: SessionDriver, *, attempts: int, plain: bool, **options: Any
    ) -> None:
        """`attempts` may fail in a row, -1 for any number; `plain` is for a sandbox without TLS, which cryptofeed's own class refuses."""
        super().__init__(address, conn_id, **options)
        if plain:
            self.address = "ws" + address.removeprefix("wss")
        self._driver = driver
        self._attempts = attempts
        self._failed = 0
        self._dropped: Exception | None = None
        self._opening: asyncio.Timeout | None = None
        """Ends the attempts to connect when the feed is stopped."""
        self._stopped = False

    def drop(self, error: Exception) -> None:
        """End the connection at once; whoever reads gets this error."""
        self._dropped = error
        if self.conn is not None:
            self.conn.transport.abort()

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
                await super()._open()
            except (OSError, WebSocketException, TimeoutError) as error:
                await self._driver.connect_failed(f"{type(error).__name__}: {error}")
                self._failed += 1
                if 0 <= self._attempts < self._failed:
                    raise
                LOG.warning(
                    "%s: attempt %d to connect failed (%s), next in %.1f s",
                    self.id,
                    self._failed,
                    error,
                    self._driver.retry_seconds,
                )
            else:
                self._failed = 0
                return

    async def read(self) -> AsyncIterator[str | bytes]:
        """Every message; the end of the connection is an error, unless it is we who closed it.

        Raises:
            BackpackWebsocketError: it has ended, or was given up.
            Exception: what it was dropped with.
        """
        socket = self.conn
        try:
            async for message in super().read():
                yield message
        except ConnectionClosed as closed:
            raise await self._ended(socket) from closed
        if self.conn is not None:
            raise await self._ended(socket)

    async def _ended(self, socket: Any) -> Exception:
        code = socket.close_code or ABNORMAL_CLOSURE
        why = socket.close_reason or "the connection was lost"
        await self._driver.disconnected(code, why)
        return self._dropped or BackpackWebsocketError(f"the exchange closed the connection: {code} {why}")

    async def close(self) -> None:
        """Close, or end an attempt to connect and the wait for one."""
        self._stopped = True
        if self._opening is not None and not self._opening.expired():
            self._opening.reschedule(asyncio.get_running_loop().time())
        await super().close()
        await self._driver.disconnected(NORMAL_CLOSURE, CLOSED_BY_FEED)


class HttpConnection(HTTPAsyncConn):
    """cryptofeed's HTTP connection over a connector of ours: with another trust store, or through a proxy that is no HTTP proxy."""

    def __init__(self, conn_id: str, make_connector: Any, proxy: str | None = None) -> None:
        super().__init__(conn_id, proxy)
        self._make_connector = make_connector

    async def _open(self) -> None:
        await super()._open()
        bare: aiohttp.ClientSession = self.conn
        self.conn: aiohttp.ClientSession = aiohttp.ClientSession(connector=self._make_connector())
        await bare.close()

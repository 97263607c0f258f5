"""aiohttp's connections on asyncio: all of its HTTP client for requests, its connector for websockets.

Every websocket has a connector of its own, whose end is its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self

import anyio

from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import Fact, RequestFailed
from backpack_proto.outputs import SendRequest
from backpack_runtime.extras import MissingExtra
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.proxy import ProxyError
from backpack_runtime.transports.base import Progress, SocketTransport, answered, not_sent
from backpack_runtime.transports.websocket import Connection

from .sessions import Failed, close, exchange, make_connector, rest_session
from .takeover import connect

try:
    import aiohttp
except ImportError as missing:
    raise MissingExtra("the aiohttp runtime", "aiohttp", missing) from missing

__all__ = ["AiohttpTransport"]


class AiohttpTransport(SocketTransport):
    """The contract of `Transport` on aiohttp.

    Raises:
        LocalProtocolError: on entering it, when the event loop is not asyncio's.
    """

    def __init__(self, addresses: Addresses, *, compression: bool = False) -> None:
        """Nothing is connected yet. `compression` offers permessage-deflate (docs/protocol.md 3.5)."""
        super().__init__(addresses, compression=compression)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise LocalProtocolError("aiohttp runs on asyncio only; on trio there is the anyio runtime") from None
        return await super().__aenter__()

    async def _close_idle(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await close(session)

    @asynccontextmanager
    async def _connect_websocket(self) -> AsyncGenerator[Connection]:
        connector = make_connector(self._addresses, self._addresses.proxies.websocket, "websocket", force_close=True)
        try:
            async with connect(connector, self._addresses.ws) as taken:
                yield Connection(taken, taken)
        finally:
            await close(connector)

    async def _request(self, action: SendRequest, progress: Progress) -> Fact:
        reading = action.request.method == "GET"
        if not reading:
            # Let the loop see which of the kept connections the server has closed: this is sent once.
            await anyio.lowlevel.checkpoint()
        if self._session is None:
            self._session = rest_session(self._addresses)
        while True:
            try:
                response = await exchange(self._session, self._addresses.rest, action.request, progress)
            except ProxyError as failure:
                return not_sent(action.request_id, failure)
            except Failed as failed:
                if progress.reused and reading:
                    # The server may close a kept connection under a request (docs/protocol.md 1.1): once more.
                    continue
                return RequestFailed(request_id=action.request_id, reason=str(failed), sent=progress.sent)
            return answered(action.request_id, response)

"""A way through a proxy as a plain socket, for a library that makes its connections itself but takes one that is there."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Self

from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.dialing import dial
from backpack_runtime.network.proxy import Proxy
from backpack_runtime.network.proxy_settings import log_proxy_use
from backpack_runtime.network.send_queue import BROKEN
from backpack_runtime.transports.aiohttp.proxies import ASYNCIO_STREAMS, AsyncioStream

__all__ = ["Tunnel"]


class Tunnel:
    """Data written to `socket` come out at the websocket's address, and the other way round. One end closes the other."""

    def __init__(self, near: AsyncioStream, far: AsyncioStream, end: socket.socket) -> None:
        self.socket = end
        self._near = near
        self._far = far
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(_copy(near, far)), loop.create_task(_copy(far, near))]

    @classmethod
    async def open(cls, addresses: Addresses, proxy: Proxy) -> Self:
        """Connect to the websocket's address through the proxy.

        Raises:
            ProxyError: it failed there.
        """
        log_proxy_use("websocket", proxy)
        target = addresses.ws
        patience = addresses.proxies.timeout_of(proxy)
        far = await dial(target.host, target.port, proxy, patience, streams=ASYNCIO_STREAMS, proxy_tls=addresses.ssl_context)
        ours, theirs = socket.socketpair()
        near = AsyncioStream(*await asyncio.open_connection(sock=ours))
        return cls(near, far, theirs)

    async def close(self) -> None:
        """End it: the holder of `socket` reads its end, and closes it. Harmless when it has ended."""
        for task in self._tasks:
            task.cancel()
        for stream in (self._near, self._far):
            await stream.aclose()


async def _copy(source: AsyncioStream, sink: AsyncioStream) -> None:
    with suppress(*BROKEN):
        while True:
            await sink.send(await source.receive())
    # The reader of the other end sees that this one has ended.
    await sink.aclose()

"""The base of a runtime of one's own: a function that opens a byte stream makes a transport.

The contract of a transport is kept here and in `SocketTransport`: framing, pauses, time limits, withdrawals. Each request has a
connection of its own, and no proxy is used.
"""

from __future__ import annotations

import ssl
from abc import abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream

from backpack_proto.errors import ConfigurationError, RemoteProtocolError
from backpack_proto.inputs import Fact, RequestFailed
from backpack_proto.outputs import SendRequest
from backpack_runtime.framing.client import HttpFraming
from backpack_runtime.network.addresses import Address, Addresses
from backpack_runtime.network.dialing import describe
from backpack_runtime.network.reads import READ_BYTES, reads_of
from backpack_runtime.network.send_queue import BROKEN

from .base import Progress, SocketTransport, answered
from .websocket import Connection

__all__ = ["StreamTransport"]


class StreamTransport(SocketTransport):
    """The contract of `Transport` on streams that a subclass opens.

    Raises:
        ConfigurationError: a proxy is asked for, which would be bypassed.
    """

    def __init__(self, addresses: Addresses, *, compression: bool = False) -> None:
        """Nothing is connected yet. `compression` offers permessage-deflate (docs/protocol.md 3.5)."""
        if addresses.proxies.rest is not None or addresses.proxies.websocket is not None:
            raise ConfigurationError(
                f"proxies: {type(self).__name__} connects directly; leave them out, or take another runtime"
            )
        super().__init__(addresses, compression=compression)

    @abstractmethod
    async def connect(self, address: Address, tls: ssl.SSLContext | None) -> ByteStream:
        """Open a stream to `address.host` and `address.port`, encrypted with `tls` unless that is None.

        Failures are raised as `OSError` or one of the errors of anyio's streams.
        """

    async def _open(self, address: Address) -> ByteStream:
        return await self.connect(address, self._addresses.ssl_context if address.encrypted else None)

    @asynccontextmanager
    async def _connect_websocket(self) -> AsyncGenerator[Connection]:
        stream = await self._open(self._addresses.ws)
        try:
            with reads_of(stream) as reads:
                yield Connection(stream, reads)
        finally:
            await anyio.aclose_forcefully(stream)

    async def _request(self, action: SendRequest, progress: Progress) -> Fact:
        framing = HttpFraming()
        try:
            stream = await self._open(self._addresses.rest)
            try:
                progress.leave()
                await stream.send(framing.request(action.request, self._addresses.rest.authority))
                while True:
                    try:
                        data = await stream.receive(READ_BYTES)
                    except anyio.EndOfStream:
                        data = b""
                    response = framing.receive(data)
                    if response is not None:
                        return answered(action.request_id, response)
            finally:
                await anyio.aclose_forcefully(stream)
        except (*BROKEN, RemoteProtocolError) as broken:
            return RequestFailed(request_id=action.request_id, reason=describe(broken), sent=progress.sent)

    async def _close_idle(self) -> None:
        """Nothing is kept for the next request."""

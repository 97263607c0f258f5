"""Connections that aiohttp makes, for websockets that it does not speak.

Theory. aiohttp's own websocket parses frames into a queue for a task that takes them one by one, which costs more than our framing does for
all else. So of aiohttp a websocket has the connector: names looked up, addresses raced, TLS, proxies. Once a connection is made, and before
anything is sent, its transport is given another protocol: `asyncio.Transport.set_protocol` is asyncio's documented way to do that. From then
on every read is used in the call that the loop makes of it, TLS or not, and the handshake is judged by `WebsocketFraming` like any other.

`BaseConnector.connect` and `Connection.transport` are public and documented, the further arguments of `connect`, what a `ClientRequest` is
made from, and `Connection.protocol` are public only. So the dependency on aiohttp has an upper bound, and tests look at each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteSendStream

from backpack_runtime.extras import MissingExtra
from backpack_runtime.network.addresses import Address
from backpack_runtime.network.reads import READ_BYTES, Reads, Take

from .proxies import Connector
from .sessions import exact_url, root_cause

try:
    import aiohttp
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
except ImportError as missing:
    raise MissingExtra("the aiohttp runtime", "aiohttp", missing) from missing

__all__ = ["TakenOver", "connect", "take_over"]


@asynccontextmanager
async def connect(connector: Connector, address: Address) -> AsyncGenerator[TakenOver]:
    """Connect, and close the connection at once at the end.

    Raises:
        ProxyError: it failed at the proxy.
        OSError, anyio.EndOfStream, anyio.BrokenResourceError: it failed elsewhere.
    """
    request = aiohttp.ClientRequest("GET", exact_url("ws", address, address.target), loop=asyncio.get_running_loop())
    try:
        connection = await connector.connect(request, [], aiohttp.ClientTimeout())
    except aiohttp.ClientError as error:
        raise anyio.BrokenResourceError from root_cause(error)
    try:
        yield take_over(connection)
    finally:
        if connection.transport is not None:
            connection.transport.abort()
        connection.close()


def take_over(connection: Connection) -> TakenOver:
    """Give the transport of a connection another protocol.

    Raises:
        anyio.EndOfStream: the connection has ended.
        ConnectionError: there are bytes that came too early.
    """
    transport, handler = connection.transport, connection.protocol
    if transport is None or handler is None or transport.is_closing():
        raise anyio.EndOfStream
    if handler.should_close:
        # It keeps bytes that it did not ask for, and only it can tell which.
        raise ConnectionError("the other side spoke before the websocket handshake")
    return TakenOver(transport, handler)


class TakenOver(Reads, ByteSendStream, asyncio.BufferedProtocol):
    """A connection's stream and reads, in place of the protocol that it had."""

    def __init__(self, transport: asyncio.Transport, handler: ResponseHandler) -> None:
        self._transport = transport
        self._handler = handler
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._take: Take | None = None
        self._paused = False
        self._stopped = asyncio.Event()
        """`give` need not wait any more."""
        self._error: Exception | None = None
        """Why reading has ended."""
        self._writable = asyncio.Event()
        """Nothing waits to be sent."""
        self._writable.set()
        # Not while it reads: loops choose between the two kinds of protocols when they begin to.
        transport.pause_reading()
        transport.set_protocol(self)
        # Waiting bytes are to be in one place, where they are counted and pongs are replaced (`Outgoing`). One byte and not none, for an
        # encrypted connection of asyncio calls a buffer full that has reached its limit, and so an empty one with a limit of zero.
        transport.set_write_buffer_limits(high=1, low=0)

    async def give(self, take: Take) -> None:
        """Give each read to `take`, where the loop makes it."""
        self._take = take
        self._stopped.clear()
        try:
            if self._error is None:
                self._read_on()
                await self._stopped.wait()
            if self._error is not None:
                raise self._error
        finally:
            self._stop()

    def pause(self) -> None:
        """Read no more, so that TCP holds the other side back."""
        self._paused = True
        self._hold()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._read_on()

    async def send(self, item: bytes) -> None:
        """Send everything.

        Raises:
            anyio.BrokenResourceError: the connection has ended.
        """
        if self._transport.is_closing():
            raise anyio.BrokenResourceError from self._error
        self._transport.write(item)
        await self._writable.wait()

    async def aclose(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next read goes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Use a read."""
        take = self._take
        try:
            if take is not None and not take(bytes(self._buffer[:nbytes])):
                self._stop()
        except Exception as error:  # noqa: BLE001 - `give` raises it. The loop would log it and abort the connection
            self._end(error)

    def eof_received(self) -> None:
        """Note that the other side has ended the connection. Asyncio sends waiting bytes, and closes it."""
        self._end(anyio.EndOfStream())

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, for aiohttp as well."""
        broken = anyio.EndOfStream() if exc is None else anyio.BrokenResourceError()
        broken.__cause__ = exc
        self._end(broken)
        self._writable.set()
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """Note that something waits to be sent."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that all is sent."""
        self._writable.set()

    def _end(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._stop()

    def _stop(self) -> None:
        self._take = None
        self._hold()
        self._stopped.set()

    def _read_on(self) -> None:
        if self._take is not None and not self._paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def _hold(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

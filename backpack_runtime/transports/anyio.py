"""Sockets and TLS on anyio, which is asyncio and trio."""

from __future__ import annotations

import select
import ssl
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import ByteStream, SocketAttribute, TaskGroup

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import (
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    Given,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    ResponseReceived,
)
from backpack_proto.machine import Now
from backpack_proto.outputs import (
    Action,
    CloseSocket,
    DropSocket,
    HttpRequest,
    OpenSocket,
    SendPing,
    SendPong,
    SendRequest,
    SendText,
)
from backpack_runtime.addresses import Address, Addresses
from backpack_runtime.framing import HttpFraming, HttpResponse, WebsocketFraming
from backpack_runtime.outgoing import BROKEN, Outgoing
from backpack_runtime.tls import TlsStream
from backpack_runtime.transport import Inbox, system_now

__all__ = ["AnyioTransport"]

READ_BYTES = 256 * 1024
HTTP_CONNECTIONS = 8
"""How many REST requests are under way at the same time."""
FRESH_SECONDS = 5.0
"""A connection that was idle for longer carries reads only: should it have been closed, they can be sent again."""
FLUSH_SECONDS = 1.0
"""How long a last Close frame may take to leave."""
ABNORMAL_CLOSURE = 1006


class _Socket:
    """One websocket, from the attempt to connect to its end."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.framing: WebsocketFraming | None = None
        self.ended = False
        self.outgoing = Outgoing()


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


class _Progress:
    """How far a request has come, for whoever has to tell what became of it."""

    def __init__(self) -> None:
        self.sent = False


class AnyioTransport:
    """The contract of `Transport` on anyio; an async context manager, for its tasks live inside it."""

    def __init__(self, addresses: Addresses, *, compression: bool = False) -> None:
        """Nothing is connected yet; `compression` offers permessage-deflate (docs/protocol.md 3.5)."""
        self._addresses = addresses
        self._compression = compression
        self._inbox = Inbox()
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._socket: _Socket | None = None
        self._readable = anyio.Event()
        self._readable.set()
        self._idle: list[_HttpConnection] = []
        self._http_slots = anyio.Semaphore(HTTP_CONNECTIONS)

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._close_idle)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._drop()
        return bool(await self._stack.__aexit__(exc_type, exc, traceback))

    def now(self) -> Now:
        """This moment on both clocks of the machine."""
        return system_now()

    async def next(self, until: int | None) -> list[Given]:
        """Wait for facts, or for the deadline."""
        return await self._inbox.take(until, self.now())

    def wake(self) -> None:
        """Let `next` return."""
        self._inbox.wake()

    def pause_reading(self) -> None:
        """Stop reading the websocket after the read that is under way."""
        if self._readable.is_set():
            self._readable = anyio.Event()
            self._inbox.put([ReadingPaused()])

    def resume_reading(self) -> None:
        """Read on."""
        if not self._readable.is_set():
            self._readable.set()
            self._inbox.put([ReadingResumed()])

    async def aclose(self) -> None:
        """Drop everything at once."""
        self._drop()
        await self._close_idle()

    async def perform(self, action: Action) -> None:
        """Begin an action."""
        if self._tasks is None:
            raise RuntimeError("the transport has not been entered")
        match action:
            case OpenSocket():
                self._drop_socket()
                self._socket = _Socket()
                self._tasks.start_soon(self._run_socket, self._socket)
            case DropSocket():
                self._drop_socket()
            case SendText() | SendPing() | SendPong() | CloseSocket():
                # The link may have ended meanwhile; the fact that says so is on its way.
                if self._socket is not None and self._socket.framing is not None:
                    self._socket.outgoing.write(self._socket.framing.send(action))
            case SendRequest():
                self._tasks.start_soon(self._run_request, action)
            case _:
                raise TypeError(f"not an action of a transport: {type(action).__name__}")

    def _drop(self) -> None:
        self._drop_socket()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.scope.cancel()
            self._socket = None

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

    def _report(self, socket: _Socket, facts: Iterable[Fact]) -> None:
        # Cancellation takes effect at the next wait only, so a dropped socket may still have something to say.
        if socket is self._socket:
            self._inbox.put(facts)

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

    async def _run_request(self, action: SendRequest) -> None:
        progress = _Progress()
        fact: Fact | None = None
        with anyio.move_on_after(action.timeout_us / 1e6):
            async with self._http_slots:
                fact = await self._request(action, progress)
        if fact is None:
            reason = f"no answer within {action.timeout_us / 1e6:g} s"
            fact = RequestFailed(request_id=action.request_id, reason=reason, sent=progress.sent)
        self._inbox.put([fact])

    async def _request(self, action: SendRequest, progress: _Progress) -> Fact:
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
            return ResponseReceived(
                request_id=action.request_id,
                status=response.status,
                body=response.body,
                retry_after_us=_retry_after_us(response),
                headers=response.headers,
            )

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


def _retry_after_us(response: HttpResponse) -> int | None:
    """Retry-After in seconds; none was ever seen from the exchange (docs/protocol.md 1.3), a date is not read."""
    for name, value in response.headers:
        if name == "retry-after" and value.isascii() and value.isdigit():
            return int(value) * 1_000_000
    return None

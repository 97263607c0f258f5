"""Sockets, TLS and framing of aiohttp, on asyncio.

Every websocket has a session and a connector of its own, whose end is its end. Pings and Close frames come as messages, for the core
answers the ones and this module the others. Messages are taken one by one, but `receive` waits only when aiohttp has none left, so
all that one read of the socket brought reaches the pump in one batch. aiohttp tells of no bytes that do not complete a message, so there
is no `BytesReceived`: of a message that takes longer than the connection may be silent, nothing is heard.
"""

from __future__ import annotations

import asyncio
import socket as sockets
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self, TypeAlias

import anyio

from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import (
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    PingReceived,
    PongReceived,
    RequestFailed,
    TextReceived,
)
from backpack_proto.outputs import CloseSocket, SendPing, SendPong, SendRequest, SendText
from backpack_runtime.extras import MissingExtra
from backpack_runtime.framing.client import USER_AGENT, Sendable
from backpack_runtime.framing.cutting import is_utf8
from backpack_runtime.framing.frames import MAX_MESSAGE_BYTES, is_close_code
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.proxy import ProxyError
from backpack_runtime.network.send_queue import MOST_UNSENT_BYTES
from backpack_runtime.transports.base import (
    ABNORMAL_CLOSURE,
    FLUSH_SECONDS,
    UNREAD,
    Progress,
    Socket,
    SocketTransport,
    answered,
    not_sent,
)

from .sessions import (
    Failed,
    Refused,
    close,
    describe_handshake,
    exact_url,
    exchange,
    rest_session,
    websocket_session,
)
from .steps import tell_before_waiting

try:
    import aiohttp
    from aiohttp import WSMsgType
except ImportError as missing:
    raise MissingExtra("the aiohttp runtime", "aiohttp", missing) from missing

__all__ = ["AiohttpTransport"]

_Websocket: TypeAlias = "aiohttp.ClientWebSocketResponse[bool]"

LARGEST_WINDOW = 15
"""What permessage-deflate is offered with, as a power of two (RFC 7692 section 7.1.2)."""
MAX_CONTROL_BYTES = 125
NO_STATUS = 1005
INVALID_PAYLOAD = 1007


@dataclass(slots=True)
class _Frame:
    """A frame that waits to be sent."""

    kind: WSMsgType
    payload: bytes


class _Socket(Socket):
    def __init__(self) -> None:
        super().__init__()
        self.connected = False
        self.closing = False
        self.ended = False
        self._frames: asyncio.Queue[_Frame | None] = asyncio.Queue()
        self._pong: _Frame | None = None
        """The pong that waits."""
        self._waiting_bytes = 0

    def pause_reading(self) -> None:
        """Do nothing: its task asks `_readable` before each read."""

    def resume_reading(self) -> None:
        """Do nothing: its task waits for `_readable`."""

    def send(self, action: Sendable) -> None:
        if self.ended:
            return
        if not self.connected:
            raise LocalProtocolError(f"{type(action).__name__} before the websocket is open")
        if self.closing:
            if isinstance(action, SendText):
                raise LocalProtocolError("SendText after CloseSocket")
            return
        frame = _frame(action)
        if self._pong is not None and isinstance(action, SendPong):
            # As in the queue of the other runtimes, only the last pong is kept (RFC 6455 section 5.5.3).
            self._waiting_bytes += len(frame.payload) - len(self._pong.payload)
            self._pong.payload = frame.payload
            return
        if self._waiting_bytes > MOST_UNSENT_BYTES:
            self.reading.cancel()
            return
        if isinstance(action, SendPong):
            self._pong = frame
        self._put(frame)
        self.closing = isinstance(action, CloseSocket)

    def end(self, code: int | None) -> None:
        """Let nothing more be written, but for a Close frame, should one have to be answered."""
        self.ended = True
        if code is not None and not self.closing:
            self._put(_Frame(WSMsgType.CLOSE, b"" if code == NO_STATUS else struct.pack("!H", code)))
        self._frames.put_nowait(None)

    async def send_all(self, websocket: _Websocket) -> None:
        """Send whatever is written, until the end, or until the connection breaks, which its reader sees as well."""
        with suppress(aiohttp.ClientError, OSError):
            while (frame := await self._frames.get()) is not None:
                if frame is self._pong:
                    self._pong = None
                await websocket.send_frame(frame.payload, frame.kind)
                self._waiting_bytes -= len(frame.payload)

    def _put(self, frame: _Frame) -> None:
        self._waiting_bytes += len(frame.payload)
        self._frames.put_nowait(frame)


class AiohttpTransport(SocketTransport[_Socket]):
    """The contract of `Transport` on aiohttp.

    Raises:
        LocalProtocolError: on entering it, when the event loop is not asyncio's.
    """

    def __init__(self, addresses: Addresses, *, compression: bool = False) -> None:
        """Nothing is connected yet; `compression` offers permessage-deflate (docs/protocol.md 3.5)."""
        super().__init__(addresses, compression=compression)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise LocalProtocolError("aiohttp runs on asyncio only; on trio there is the anyio runtime") from None
        return await super().__aenter__()

    def _new_socket(self) -> _Socket:
        return _Socket()

    async def _close_idle(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await close(session)

    async def _run_socket(self, socket: _Socket) -> None:
        with socket.scope:
            session = websocket_session(self._addresses)
            try:
                await self._connect(session, socket)
            finally:
                await close(session)

    async def _connect(self, session: aiohttp.ClientSession, socket: _Socket) -> None:
        try:
            websocket = await session.ws_connect(
                exact_url("ws", self._addresses.ws, self._addresses.ws.target),
                headers={"User-Agent": USER_AGENT},
                autoping=False,
                autoclose=False,
                compress=LARGEST_WINDOW if self._compression else 0,
                max_msg_size=MAX_MESSAGE_BYTES + 1,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=FLUSH_SECONDS),
            )
        except ProxyError as failure:
            socket.ended = True
            self._report(socket, [ConnectFailed(str(failure), proxy=failure.proxy, error=failure.with_traceback(None))])
            return
        except Refused as refused:
            socket.ended = True
            self._report(socket, [refused.fact])
            return
        except (Failed, aiohttp.ClientError) as failed:
            socket.ended = True
            self._report(socket, [ConnectFailed(describe_handshake(failed))])
            return
        connection = websocket.get_extra_info("socket")
        try:
            await self._serve(websocket, socket)
        finally:
            await _end(websocket, connection, session)

    async def _serve(self, websocket: _Websocket, socket: _Socket) -> None:
        socket.connected = True
        self._report(socket, [Connected()])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(socket.send_all, websocket)
            end = await self._read(websocket, socket)
            self._report(socket, [end])
            tasks.cancel_scope.deadline = anyio.current_time() + FLUSH_SECONDS

    async def _read(self, websocket: _Websocket, socket: _Socket) -> Disconnected:
        """Read until the websocket ends; returns its end."""
        with socket.reading:
            return await self._read_on(websocket, socket)
        socket.end(None)
        return Disconnected(ABNORMAL_CLOSURE, UNREAD)

    async def _read_on(self, websocket: _Websocket, socket: _Socket) -> Disconnected:
        facts: list[Fact] = []

        def report() -> None:
            if facts:
                batch = facts.copy()
                facts.clear()
                self._report(socket, batch)

        try:
            return await self._collect(websocket, socket, facts, report)
        finally:
            report()

    async def _collect(
        self, websocket: _Websocket, socket: _Socket, facts: list[Fact], report: Callable[[], None]
    ) -> Disconnected:
        """Add what is read to `facts`, and `report` whenever there is nothing more at the moment; returns the end."""
        while True:
            if not self._readable.is_set():
                report()
                await self._readable.wait()
            kind, data, extra = await tell_before_waiting(websocket.receive(), report)
            if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
                if not data.isascii() and kind is WSMsgType.TEXT and not is_utf8(data):
                    socket.end(INVALID_PAYLOAD)
                    return Disconnected(INVALID_PAYLOAD, "payload is not valid UTF-8, or not valid deflate data")
                # aiohttp has read it by now, and before only if reading was paused.
                facts.append(TextReceived(data, time.time_ns() // 1000))
            elif kind is WSMsgType.PING:
                facts.append(PingReceived(bytes(data)))
            elif kind is WSMsgType.PONG:
                facts.append(PongReceived(bytes(data)))
            elif kind is WSMsgType.CLOSE:
                code = int(data) or NO_STATUS
                socket.end(code)
                return Disconnected(code, extra or "")
            else:
                # Either nothing more comes, or aiohttp has answered what it could not read with a Close frame.
                socket.end(None)
                return _abnormal(data)

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


async def _end(websocket: _Websocket, connection: sockets.socket | None, session: aiohttp.ClientSession) -> None:
    """End the TCP connection at once: closing it alone would wait until a peer that reads nothing takes what was written."""
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(sockets.SHUT_RDWR)
    await close(session)
    with anyio.CancelScope(shield=True):
        # There is nobody left to send to: this lets go of the connection.
        await websocket.close()


def _frame(action: Sendable) -> _Frame:
    """Return the frame that an action becomes.

    Raises:
        LocalProtocolError: it cannot be encoded.
    """
    name = type(action).__name__
    if isinstance(action, SendText):
        try:
            return _Frame(WSMsgType.TEXT, action.text.encode())
        except UnicodeEncodeError:
            raise LocalProtocolError(f"{name} cannot be encoded as a frame: it holds half a surrogate pair") from None
    if isinstance(action, CloseSocket):
        if not is_close_code(action.code):
            raise LocalProtocolError(f"close code {action.code} is none that can be sent (RFC 6455 section 7.4)")
        reason = action.reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore")
        return _Frame(WSMsgType.CLOSE, struct.pack("!H", action.code) + reason.encode())
    if len(action.payload) > MAX_CONTROL_BYTES:
        raise LocalProtocolError(f"{name} cannot be encoded as a frame: its payload is longer than {MAX_CONTROL_BYTES} bytes")
    return _Frame(WSMsgType.PING if isinstance(action, SendPing) else WSMsgType.PONG, action.payload)


def _abnormal(error: object) -> Disconnected:
    """The end of a websocket without a Close frame of the peer's."""
    if isinstance(error, aiohttp.WebSocketError):
        return Disconnected(int(error.code), str(error))
    if isinstance(error, Exception):
        return Disconnected(INVALID_PAYLOAD, "payload is not valid UTF-8, or not valid deflate data")
    return Disconnected(ABNORMAL_CLOSURE, "connection lost without a Close frame")

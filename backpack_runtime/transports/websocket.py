"""One websocket of a transport, the same on every kind of connection: the handshake, reads, writes, and the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, TypeAlias

import anyio
from anyio.abc import ByteSendStream

from backpack_proto.inputs import Connected, ConnectFailed, Disconnected, Fact, TextReceived
from backpack_proto.outputs import SendPong
from backpack_runtime.framing.client import Sendable, WebsocketFraming
from backpack_runtime.network.dialing import describe
from backpack_runtime.network.proxy import ProxyError
from backpack_runtime.network.reads import Reads
from backpack_runtime.network.send_queue import BROKEN, MOST_UNSENT_BYTES, Outgoing

__all__ = ["ABNORMAL_CLOSURE", "FLUSH_SECONDS", "UNREAD", "Connecting", "Connection", "Websocket"]

FLUSH_SECONDS = 1.0
"""Time that a last Close frame may take to leave."""
REFUSAL_SECONDS = 1.0
"""The longest wait for the reason of a refused handshake, its body."""
UNREAD = f"the exchange has not read the last {MOST_UNSENT_BYTES} bytes that were to be sent"
"""Why a connection is given up whose peer does not read."""
ABNORMAL_CLOSURE = 1006


class Connection(NamedTuple):
    """A connection to the exchange, encrypted if need be, before its first byte."""

    stream: ByteSendStream
    reads: Reads


Connecting: TypeAlias = AbstractAsyncContextManager[Connection]
"""Connects when it is entered, and closes the connection at once when it is left.

Raises:
    ProxyError: it failed at the proxy.
    OSError, ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError: it failed elsewhere.
"""


class Websocket:
    """One websocket, from the attempt to connect to its end. Its facts are given to `report`."""

    def __init__(self, report: Callable[[Websocket, Sequence[Fact]], None], *, paused: bool) -> None:
        self.scope = anyio.CancelScope()
        """Around everything that is done for it."""
        self.outgoing = Outgoing()
        self._report = report
        self._paused = paused
        self._reading = anyio.CancelScope()
        """Around its reading, which ends when that is pointless: the reason of a refusal is late, or the other end does not read."""
        self._framing: WebsocketFraming | None = None
        """None while it connects."""
        self._reads: Reads | None = None
        """Of its connection, while that is open."""
        self._connected = False
        self._ended = False

    def pause_reading(self) -> None:
        """Read no more from now on."""
        self._paused = True
        if self._reads is not None:
            self._reads.pause()

    def resume_reading(self) -> None:
        """Read on."""
        self._paused = False
        if self._reads is not None:
            self._reads.resume()

    def send(self, action: Sendable) -> None:
        """Have something sent, without waiting. Nothing happens before there is a connection, and once the websocket is ending.

        Raises:
            LocalProtocolError: the handshake is not done, text follows a `CloseSocket`, or the action cannot be encoded.
        """
        # The connection may have ended meanwhile. The fact that says so is on its way.
        if self._framing is None:
            return
        data = self._framing.send(action)
        if isinstance(action, SendPong):
            self.outgoing.write_pong(data)
        else:
            self.outgoing.write(data)
        if self.outgoing.overfull:
            self._reading.cancel()

    async def run(self, connecting: Connecting, framing: WebsocketFraming) -> None:
        """Connect, shake hands, read until the end, and report it, unless it is cancelled."""
        facts: list[Fact]
        with self.scope:
            try:
                async with connecting as connection:
                    facts = await self._speak(connection, framing)
            except ProxyError as failure:
                facts = [ConnectFailed(str(failure), proxy=failure.proxy, error=failure.with_traceback(None))]
            except BROKEN as broken:
                facts = [ConnectFailed(describe(broken))]
            if not self._ended:
                self._report(self, facts)

    async def _speak(self, connection: Connection, framing: WebsocketFraming) -> list[Fact]:
        self._framing = framing
        self._reads = connection.reads
        try:
            if self._paused:
                connection.reads.pause()
            await connection.stream.send(framing.open())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.outgoing.send_all, connection.stream)
                facts = await self._read(connection.reads, framing)
                self.outgoing.finish()
                tasks.cancel_scope.deadline = anyio.current_time() + FLUSH_SECONDS
        finally:
            self._reads = None
        return facts

    async def _read(self, reads: Reads, framing: WebsocketFraming) -> list[Fact]:
        """Read until the websocket ends. Returns the end, should no fact have told it yet."""
        with self._reading:
            return await self._read_on(reads, framing)
        if not framing.refused:
            return [Disconnected(ABNORMAL_CLOSURE, UNREAD)]
        self._take(b"", framing)
        return []

    async def _read_on(self, reads: Reads, framing: WebsocketFraming) -> list[Fact]:
        patient = False

        def take(data: bytes) -> bool:
            self._take(data, framing)
            return not self._ended and (self._connected or patient or not framing.refused)

        try:
            await reads.give(take)
            if framing.refused:
                self._reading.deadline = anyio.current_time() + REFUSAL_SECONDS
                patient = True
                await reads.give(take)
        except anyio.EndOfStream:
            self._take(b"", framing)
        except BROKEN as broken:
            reason = describe(broken)
            return [Disconnected(ABNORMAL_CLOSURE, reason) if self._connected else ConnectFailed(reason)]
        return []

    def _take(self, data: bytes, framing: WebsocketFraming) -> None:
        """Report one read."""
        facts = framing.receive(data, time.time_ns() // 1000)
        if not facts or type(facts[-1]) is not TextReceived:
            # A message is neither the end nor to be answered here, and only the end comes behind one.
            self.outgoing.write(framing.to_send())
            self._ended = framing.closed
        if not self._connected:
            self._connected = any(isinstance(fact, Connected) for fact in facts)
        self._report(self, facts)

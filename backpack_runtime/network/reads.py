"""The reads of a connection, each given to a function where it is made.

Theory. A task that waits for the next read costs turns of the loop: the read is noticed in one, the task runs in the next, and reading
is stopped and started again in between. Loops of asyncio call back when a socket can be read, so there a read is made and used in that
call. On trio a task waits until the socket can be read, and then reads it itself: the streams of both libraries try to read first, and
wait a turn even when they have succeeded. Bytes still leave by the stream that was dialed. Connections without a socket, or on a loop that
cannot tell when one can be read, are read as a stream.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from backpack_runtime.event_loop import Interrupted, asyncio_loop

from .tls import TlsStream

__all__ = ["READ_BYTES", "Reads", "Take", "reads_of"]

READ_BYTES: Final = 64 * 1024
"""Of a larger read the first events grow cold before they are fetched, and a consumer has not time for all of them in its turn (`TURN_NS`): then
more and more wait."""

Take: TypeAlias = Callable[[bytes], bool]
"""Uses a read. Whether there is more to read."""


class Reads(ABC):
    """Reads of one connection."""

    @abstractmethod
    async def give(self, take: Take) -> None:
        """Give each read to `take` until that returns False. It may be called outside of any task. Its errors come out here.

        Raises:
            anyio.EndOfStream: the other side ended the connection.
            anyio.BrokenResourceError, ssl.SSLError: it broke.
        """

    @abstractmethod
    def pause(self) -> None:
        """Read no more, so that TCP holds the other side back."""

    @abstractmethod
    def resume(self) -> None:
        """Read on."""


@contextmanager
def reads_of(stream: ByteStream) -> Iterator[Reads]:
    """Read a connection in the way that is best on this event loop. Its stream must not be read otherwise any more.

    The other side is not to have spoken yet: data that the stream has read for a handshake of TLS, and not used, come with the next read.
    """
    loop = asyncio_loop()
    layers: list[TlsStream] = []
    bottom = stream
    while isinstance(bottom, TlsStream):
        layers.insert(0, bottom)
        bottom = bottom.beneath
    if not isinstance(bottom, SocketStream):
        yield _StreamReads(stream)
        return
    raw = bottom.extra(SocketAttribute.raw_socket)
    # A handle of our own: the loop has its own plans with the one of the stream.
    with socket.fromfd(raw.fileno(), raw.family, raw.type) as own:
        own.setblocking(False)  # noqa: FBT003 - the socket's own signature
        if loop is None:
            yield _TaskReads(own, layers)
            return
        try:
            loop.remove_reader(own)
        except NotImplementedError:
            # Windows: its usual loop cannot tell when a socket can be read.
            yield _StreamReads(stream)
        else:
            yield _LoopReads(own, layers, loop)


class _StreamReads(Reads):
    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._readable = anyio.Event()
        self._readable.set()

    async def give(self, take: Take) -> None:
        more = True
        while more:
            if not self._readable.is_set():
                # Only then, for waiting for data that are there already gives up a turn.
                await self._readable.wait()
            more = take(await self._stream.receive(READ_BYTES))

    def pause(self) -> None:
        if self._readable.is_set():
            self._readable = anyio.Event()

    def resume(self) -> None:
        self._readable.set()


class _SocketReads(Reads):
    """Reads a socket that can be read, through layers of TLS."""

    def __init__(self, own: socket.socket, layers: list[TlsStream]) -> None:
        self._socket = own
        self._layers = layers
        """Those of TLS, from the socket upwards: that with the exchange lies in that with a proxy."""
        self._receive = own.recv_into
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._take: Take | None = None
        self._error: Exception | None = None
        """Error that `give` is to raise."""

    @property
    def _giving(self) -> bool:
        return self._take is not None

    def _stop(self, error: Exception | None = None) -> None:
        self._take = None
        self._error = error

    def _answer(self) -> None:
        """A layer has something to send."""

    def _read(self) -> None:
        try:
            size = self._receive(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            broken = anyio.BrokenResourceError()
            broken.__cause__ = error
            self._stop(broken)
            return
        if size:
            self._use(bytes(self._buffer[:size]))
        else:
            self._stop(anyio.EndOfStream())

    def _use(self, data: bytes) -> None:
        """Decrypt a read and give it away."""
        take = self._take
        ended = False
        try:
            for layer in self._layers:
                data = layer.decrypt(data)
                ended = ended or layer.ended
                if layer.unsent:
                    self._answer()
            if data and take is not None and not take(data):
                self._stop()
        except Exception as error:  # noqa: BLE001 - `give` raises it. The loop would log it and read on
            self._stop(error)
        except BaseException as error:
            # A Ctrl-C, between two cells of a notebook for example: this read is lost, so the connection is of no use any more.
            self._stop(Interrupted(f"a read was interrupted by {type(error).__name__}"))
            raise
        else:
            if ended and self._giving:
                self._stop(anyio.EndOfStream())


class _TaskReads(_SocketReads):
    def __init__(self, own: socket.socket, layers: list[TlsStream]) -> None:
        super().__init__(own, layers)
        self._resumed = anyio.Event()
        self._resumed.set()

    async def give(self, take: Take) -> None:
        self._take = take
        try:
            while self._giving:
                if not self._resumed.is_set():
                    # Only then, for waiting for data that are there already gives up a turn.
                    await self._resumed.wait()
                await anyio.wait_readable(self._socket)
                if self._resumed.is_set():
                    self._read()
                    for layer in self._layers:
                        await layer.flush()
            if self._error is not None:
                raise self._error
        finally:
            self._take = None

    def pause(self) -> None:
        if self._resumed.is_set():
            self._resumed = anyio.Event()

    def resume(self) -> None:
        self._resumed.set()


class _LoopReads(_SocketReads):
    def __init__(self, own: socket.socket, layers: list[TlsStream], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(own, layers)
        self._loop = loop
        self._paused = False
        self._changed = asyncio.Event()
        """Nothing more is to be read, or a layer has something to send."""

    async def give(self, take: Take) -> None:
        self._take = take
        try:
            self._watch()
            while self._giving or self._changed.is_set():
                await self._changed.wait()
                self._changed.clear()
                for layer in self._layers:
                    await layer.flush()
            if self._error is not None:
                raise self._error
        finally:
            self._stop()

    def pause(self) -> None:
        self._paused = True
        self._loop.remove_reader(self._socket)

    def resume(self) -> None:
        self._paused = False
        self._watch()

    def _watch(self) -> None:
        if self._giving and not self._paused:
            self._loop.add_reader(self._socket, self._read)

    def _stop(self, error: Exception | None = None) -> None:
        super()._stop(error)
        self._loop.remove_reader(self._socket)
        self._changed.set()

    def _answer(self) -> None:
        self._changed.set()

"""A connection of the websockets library that cuts the frames of market data itself, all of a read at once.

Theory. The library takes a frame as five objects and a turn of its parser, more than the session does with its payload. Nearly every
frame of the exchange is a short, whole, uncompressed text, so runs of those are cut here (`slice_texts`, as in our own framing), and
all else goes to the library as it came: the handshake, control frames, long and fragmented messages, invalid data. So TLS,
proxies, pings, the closing handshake, the limits and the words of every error stay the library's. It is at a frame boundary whenever
a run is cut, because each frame that it is given is followed to its end by its header.

A message of the library's has its place in the order: there the reader asks the library. Once the websocket is closing, the library
gets everything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedOK
from websockets.protocol import State

from backpack_proto.inputs import Fact, TextReceived
from backpack_runtime.framing.cutting import TEXT_FRAME
from backpack_runtime.framing.frames import LONGEST_SHORT_FRAME, slice_texts

__all__ = ["MOST_WAITING", "ReceivingConnection"]

MOST_WAITING: Final = 1024
"""Messages that wait for the reader before no more is read, which slows down the exchange."""
END_OF_HEAD = b"\r\n\r\n"
FINAL_BIT = 0x80
CONTROL_BIT = 0x08
OPCODE_BITS = 0x0F
MASK_BIT = 0x80
LENGTH_BYTES = {126: 2, 127: 8}


class ReceivingConnection(ClientConnection):
    """The library's connection. `receive` gives the messages that have come, and one task at a time may call it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take the arguments that the library gives its own connections."""
        super().__init__(*arguments, **options)
        self._head: bytearray | None = bytearray()
        """Of the answer to the handshake. None once it is complete."""
        self._cuts = True
        """True when frames are cut here. Otherwise the library gets all that comes."""
        self._pending = b""
        """The beginning of a short text, or of a header."""
        self._left = 0
        """Missing part of a frame that the library is being given."""
        self._fragmented = False
        """True when a message goes on in the next frame that is no control frame."""
        self._waiting: list[Fact | None] = []
        """Messages that have come and were not received, in order, or None for a message that the library has."""
        self._held = False
        """True when reading is paused until waiting messages are received."""
        self._reader: asyncio.Future[None] | None = None

    async def receive(self) -> Sequence[TextReceived] | str | bytes:
        """Wait for messages, and return all that are there, at least one. A message that the library had comes by itself, as it gives it.

        Raises:
            ConnectionClosed: the connection has ended, and all messages were received.
        """
        while not self._waiting:
            if not self._cuts:
                return await self.recv()  # type: ignore[no-any-return]  # the library's types are not read
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        found = self._waiting
        if None not in found:
            self._waiting = []
        else:
            until = found.index(None)
            if not until:
                del found[0]
                return await self.recv()  # type: ignore[no-any-return]  # the library's types are not read
            found, self._waiting = found[:until], found[until:]
        if self._held:
            self._held = False
            self.transport.resume_reading()
        return found  # type: ignore[return-value]  # cut frames are text, and the library's messages are gone from it

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Give each message as the library would."""
        try:
            while True:
                found = await self.receive()
                if isinstance(found, str | bytes):
                    yield found
                else:
                    for message in found:
                        yield message.data.decode()
        except ConnectionClosedOK:
            return

    def data_received(self, data: bytes) -> None:
        """Take a read."""
        if self._head is not None:
            data = self._after_head(self._head, data)
        if self._cuts and self._head is None:
            if self.state is State.OPEN:
                self._cut(data)
            else:
                self._leave_all(data)
        elif data:
            super().data_received(data)
        self._wake()

    def eof_received(self) -> None:
        """Take the end of the stream."""
        self._leave_all(b"")
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self._leave_all(b"")
        super().connection_lost(exc)
        self._wake()

    def _after_head(self, head: bytearray, data: bytes) -> bytes:
        """Give the library the answer to the handshake, and return the rest of the data: that may be frames already."""
        seen = len(head)
        head += data
        found = head.find(END_OF_HEAD, max(0, seen - len(END_OF_HEAD) + 1))
        if found < 0:
            super().data_received(data)
            return b""
        stop = found + len(END_OF_HEAD) - seen
        self._head = None
        super().data_received(data[:stop])
        return data[stop:]

    def _leave_all(self, data: bytes) -> None:
        """Leave everything from here on to the library."""
        self._cuts = False
        rest, self._pending = self._pending + data, b""
        if rest:
            super().data_received(rest)

    def _cut(self, data: bytes) -> None:
        """Take the frames of a read, as far as they are complete."""
        received_us = time.time_ns() // 1000
        if self._pending:
            data, self._pending = self._pending + data, b""
        pos, end = 0, len(data)
        while True:
            if not self._left and not self._fragmented:
                pos = slice_texts(data, pos, LONGEST_SHORT_FRAME, received_us, self._waiting)  # type: ignore[arg-type]  # it adds facts
            if pos == end:
                break
            if not self._left:
                self._left = self._begin_frame(data, pos)
                if not self._left:
                    self._pending = data[pos:]
                    break
            stop = min(pos + self._left, end)
            self._left -= stop - pos
            super().data_received(data[pos:stop])
            pos = stop
            if self.state is not State.OPEN:
                self._leave_all(data[pos:])
                break
        if len(self._waiting) > MOST_WAITING and not self._held:
            self._held = True
            self.transport.pause_reading()

    def _begin_frame(self, data: bytes, pos: int) -> int:
        """Return the size of the frame at `pos`, which is the library's, or 0 if it is not to be had yet."""
        have = len(data) - pos
        if have < 2:
            return 0
        first, length = data[pos], data[pos + 1] & ~MASK_BIT
        header = 2 + LENGTH_BYTES.get(length, 0)
        if have < header:
            return 0
        if header > 2:
            length = int.from_bytes(data[pos + 2 : pos + header], "big")
        # The library refuses masked frames by their header, as others that are wrong: their size is of no interest.
        masked = data[pos + 1] & MASK_BIT
        short = first == TEXT_FRAME and not masked and not self._fragmented and length <= LONGEST_SHORT_FRAME
        if short and have < header + length:
            return 0
        if not first & CONTROL_BIT:
            if not self._fragmented:
                self._waiting.append(None)
            self._fragmented = not first & FINAL_BIT
        return header + length

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done() and (self._waiting or not self._cuts):
            self._reader.set_result(None)

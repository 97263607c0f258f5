"""Bytes on their way out of a socket: written by any task, sent by one that alone waits for the network.

A peer that does not read must not fill our memory. Of the pongs that wait only the last is kept, as RFC 6455 section 5.5.3 allows. Of
all others there may be `MOST_UNSENT_BYTES`. A connection that would need more is of no use any more.
"""

from __future__ import annotations

import ssl

import anyio
from anyio.abc import ByteSendStream

__all__ = ["BROKEN", "MOST_UNSENT_BYTES", "Outgoing"]

BROKEN = (OSError, ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""All that a stream raises when the network or the other side is at fault."""

MOST_UNSENT_BYTES = 1024 * 1024
"""Far more than the requests for ten thousand streams."""


class Outgoing:
    """A queue of bytes, and the task that sends them."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        """Bytes that were written and not sent."""
        self._chunks: list[bytes] = []
        self._pong: int | None = None
        """Which chunk is a pong."""
        self._changed = anyio.Event()
        self._finished = False

    @property
    def overfull(self) -> bool:
        """True if the peer has left more unread than is kept for it."""
        return self.waiting_bytes > MOST_UNSENT_BYTES

    def write(self, data: bytes) -> None:
        """Have bytes sent, without waiting. Bytes beyond a full queue are lost with its connection."""
        if data and not self.overfull:
            self._chunks.append(data)
            self.waiting_bytes += len(data)
            self._changed.set()

    def write_pong(self, data: bytes) -> None:
        """Have a pong sent, in place of one that still waits."""
        if self._pong is None:
            self.write(data)
            self._pong = len(self._chunks) - 1 if data and not self.overfull else None
        elif data:
            self.waiting_bytes += len(data) - len(self._chunks[self._pong])
            self._chunks[self._pong] = data

    def finish(self) -> None:
        """Nothing more will be written: `send_all` returns once the rest is sent."""
        self._finished = True
        self._changed.set()

    async def send_all(self, stream: ByteSendStream) -> None:
        """Send written bytes, until `finish`, or until the connection breaks, which its reader sees as well."""
        try:
            while self._chunks or not self._finished:
                if not self._chunks:
                    self._changed = anyio.Event()
                    await self._changed.wait()
                data = b"".join(self._chunks)
                self._chunks.clear()
                self._pong = None
                if data:
                    await stream.send(data)
                self.waiting_bytes -= len(data)
        except BROKEN:
            return

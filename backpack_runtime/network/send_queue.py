"""Bytes on their way out of a socket: written by whoever has some, sent by one task that alone waits for the network."""

from __future__ import annotations

import ssl

import anyio
from anyio.abc import ByteStream

__all__ = ["BROKEN", "Outgoing"]

BROKEN = (OSError, ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
"""All that a stream raises when the network or the other side is at fault."""


class Outgoing:
    """A queue of bytes, and the task that sends them."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        """What has been written and not been sent."""
        self._chunks: list[bytes] = []
        self._changed = anyio.Event()
        self._finished = False

    def write(self, data: bytes) -> None:
        """Have bytes sent; does not wait."""
        if data:
            self._chunks.append(data)
            self.waiting_bytes += len(data)
            self._changed.set()

    def finish(self) -> None:
        """Nothing more will be written: `send_all` returns once the rest is sent."""
        self._finished = True
        self._changed.set()

    async def send_all(self, stream: ByteStream) -> None:
        """Send whatever is written, until `finish`, or until the connection breaks, which its reader sees as well."""
        try:
            while self._chunks or not self._finished:
                if not self._chunks:
                    self._changed = anyio.Event()
                    await self._changed.wait()
                data = b"".join(self._chunks)
                self._chunks.clear()
                if data:
                    await stream.send(data)
                self.waiting_bytes -= len(data)
        except BROKEN:
            return

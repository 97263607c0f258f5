"""Standard output that can be waited for, so that a reader who is slow holds up the events and not the connection."""

from __future__ import annotations

import os
import select

import anyio

__all__ = ["Printer"]


class Printer:
    """Writes to a file descriptor past all buffers, so a reader sees each line at once and nothing is left to flush at the end.

    Raises:
        BrokenPipeError: the reader is gone.
        OSError: there is no standard output, or its disk is full.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """Write everything, however long it takes."""
        rest = memoryview(data)
        while rest:
            # Somebody else may have made it non-blocking: it is shared with other processes.
            select.select([], [self._descriptor], [])
            rest = self._write_some(rest)

    async def send(self, data: bytes) -> None:
        """Write everything, and let other tasks run while the reader takes his time."""
        rest = memoryview(data)
        while rest:
            if not select.select([], [self._descriptor], [], 0)[1]:
                await anyio.wait_writable(self._descriptor)
            rest = self._write_some(rest)

    def _write_some(self, data: memoryview) -> memoryview:
        # A descriptor that is ready takes so much without blocking.
        return data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]

"""Standard output that can be waited for, so that a reader who is slow holds up the events and not the connection."""

from __future__ import annotations

import anyio
from anyio.to_thread import run_sync

from backpack_runtime.platforms import is_waited_for, write_chunk

__all__ = ["Printer"]


class Printer:
    """Writes to a file descriptor past all buffers, so a reader sees each line at once, without a flush at the end.

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
            is_waited_for(self._descriptor, None)
            rest = rest[write_chunk(self._descriptor, rest) :]

    async def send(self, data: bytes) -> None:
        """Write everything, and let other tasks run while the reader takes his time."""
        rest = memoryview(data)
        while rest:
            ready = is_waited_for(self._descriptor, 0)
            if ready is None:
                rest = rest[await run_sync(write_chunk, self._descriptor, rest) :]
                continue
            if not ready:
                await anyio.wait_writable(self._descriptor)
            rest = rest[write_chunk(self._descriptor, rest) :]

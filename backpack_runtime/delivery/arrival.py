"""The wake-up of the one task that waits for events.

Theory. A consumer that keeps up waits once for every read, so what waiting costs is paid by each frame of a quiet market. A future of
asyncio is what `anyio.Event` comes down to there, behind two objects and four calls; elsewhere it is that event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import anyio

from backpack_runtime.event_loop import asyncio_loop

if TYPE_CHECKING:
    import asyncio

__all__ = ["Arrival", "arrivals"]


class Arrival(Protocol):
    """Something that happens once."""

    def set(self) -> None:
        """Let it happen; it may have happened already."""
        ...

    def wait(self) -> Awaitable[object]:
        """Wait until it happens; for one task."""
        ...


class _Future:
    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Awaitable[object]:
        return self._future


def arrivals() -> Callable[[], Arrival]:
    """Return what makes them for the tasks of the loop that runs this one."""
    loop = asyncio_loop()
    return anyio.Event if loop is None else lambda: _Future(loop)

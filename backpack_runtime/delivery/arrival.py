"""The wake-up of the one task that waits for events.

Theory. A consumer that keeps up waits once for every read, so each frame of a quiet market pays for one wait. `anyio.Event` is
a future of asyncio there, behind two objects and four calls. Elsewhere it is that event.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

import anyio

from backpack_runtime.event_loop import asyncio_loop

if TYPE_CHECKING:
    import asyncio

__all__ = ["Arrival", "arrival_here"]


class Arrival(Protocol):
    """Something that happens again and again, and that one task at a time waits for."""

    def set(self) -> None:
        """Let it happen: the task that waits wakes up."""
        ...

    def next(self) -> Awaitable[object]:
        """Wait until it happens."""
        ...


class _Future:
    __slots__ = ("_create", "_future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._create = loop.create_future
        self._future = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def next(self) -> Awaitable[object]:
        self._future = self._create()
        return self._future


class _Event:
    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    def next(self) -> Awaitable[object]:
        self._event = anyio.Event()
        return self._event.wait()


def arrival_here() -> Arrival:
    """Make one for the tasks of the loop that runs this one."""
    loop = asyncio_loop()
    return _Event() if loop is None else _Future(loop)

"""The event loop of this task, for places where asyncio has a shorter way than the common interface."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from backpack_proto.errors import BackpackError

if TYPE_CHECKING:
    import asyncio

__all__ = ["Interrupted", "asyncio_loop", "running_library"]


class Interrupted(BackpackError):
    """Something that cannot be done by halves was interrupted, so the client has to end."""


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop of asyncio that runs this task, or None when another library runs it, perhaps as a guest of such a loop."""
    # Programs on another library need not load it.
    if "asyncio" not in sys.modules:
        return None
    import asyncio  # noqa: PLC0415 - see above

    try:
        return asyncio.get_running_loop() if asyncio.current_task() is not None else None
    except RuntimeError:
        return None


def running_library() -> str | None:
    """Return the name of the library whose event loop runs in this thread, or None without one."""
    if "trio" in sys.modules:
        import trio  # noqa: PLC0415 - programs on another library need not load it

        if trio.lowlevel.in_trio_run():
            return "trio"
    if "asyncio" in sys.modules:
        import asyncio  # noqa: PLC0415 - as above

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return None
        return "asyncio"
    return None

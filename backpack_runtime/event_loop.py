"""Which event loop runs this task, where the loop of asyncio has a shorter way than what all libraries have in common."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["asyncio_loop"]


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop of asyncio that runs this task; None when another library runs it, perhaps as a guest of such a loop."""
    # Whoever runs on another library need not load it.
    if "asyncio" not in sys.modules:
        return None
    import asyncio  # noqa: PLC0415 - see above

    try:
        return asyncio.get_running_loop() if asyncio.current_task() is not None else None
    except RuntimeError:
        return None

"""The end of a feed without loss, where cryptofeed 2 would lose what its backends have not written yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from .logs import LOG

__all__ = ["flush_backends"]

FLUSH_SECONDS = 10.0


async def flush_backends(callbacks: Iterable[Iterable[Any]]) -> None:
    """Wait until the backends of cryptofeed 2 have written what they hold, which it does not; those of cryptofeed 3 do so when stopped."""
    for callback in {id(callback): callback for group in callbacks for callback in group}.values():
        queue = getattr(callback, "queue", None)
        if getattr(callback, "multiprocess", True) or not isinstance(queue, asyncio.Queue):
            continue
        if callback.worker.done():
            # Nobody takes from the queue any more.
            LOG.warning("BACKPACK: %s has stopped; objects that it did not write: %d", type(callback).__name__, queue.qsize())
            continue
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await queue.join()
        except TimeoutError:
            LOG.warning("BACKPACK: %s did not write %d objects in time", type(callback).__name__, queue.qsize())

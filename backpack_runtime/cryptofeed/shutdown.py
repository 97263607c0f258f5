"""The end of a feed without loss and without leftovers.

cryptofeed 2 would lose the rows that its backends have not written yet, and it keeps no hold of the tasks that it starts: those that write, that
connect, and that watch a connection. Where the loop ends with the feed, Python says "Task was destroyed but it is pending" of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from .logs import LOG

__all__ = ["end_tasks", "flush_backends"]

FLUSH_SECONDS = 10.0
END_SECONDS = 2.0
"""Time that tasks may take to end by themselves, once their connection is closed."""


async def flush_backends(callbacks: Iterable[Iterable[Any]]) -> None:
    """Wait until the backends of cryptofeed 2 have written their rows, which it does not. Those of cryptofeed 3 do so when stopped."""
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


async def end_tasks(started: Iterable[asyncio.Task[Any]], handlers: Iterable[Any]) -> None:
    """End the tasks that cryptofeed 2 has started for a feed, and those that watch the connections of `handlers`."""
    handlers = list(handlers)
    watching = {task for task in asyncio.all_tasks() if _watched(task) in handlers}
    for task in watching:
        # It sleeps for half a minute, and then finds no connection to watch.
        task.cancel()
    # The feed may be stopped by a callback, which runs in one of them.
    left = {task for task in (*started, *watching) if not task.done() and task is not asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=END_SECONDS)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=END_SECONDS)


def _watched(task: asyncio.Task[Any]) -> Any:
    """The handler whose connection a task watches, or None if it is another one."""
    work: Any = task.get_coro()
    if getattr(work, "__qualname__", "") != "ConnectionHandler._watcher" or work.cr_frame is None:
        return None
    return work.cr_frame.f_locals.get("self")

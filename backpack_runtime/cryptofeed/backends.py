"""Supervision of cryptofeed's backends, which do not report that they cannot write.

In cryptofeed 2 the task that writes ends with the first error, and all later rows wait for ever. In cryptofeed 3 it tries a few
times and drops rows that it could not write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from time import monotonic
from typing import Any

from cryptofeed.backends.backend import BackendBookCallback
from msgspec import Struct

from .errors import described
from .logs import LOG

__all__ = ["BackendWatch", "backends_of", "takes_stale_books"]

MOST_WAITING = 1_000
"""More rows than that say that a backend is slower than the data."""
STUCK_SECONDS = 30.0
"""Time that rows may wait without one being written."""
RECENT_SECONDS = 60.0
"""Time that rows that were dropped are a reason against health."""


class _Seen(Struct):
    """Result of a look at a backend."""

    waiting: int
    since: float
    """When rows had gone, or the queue was empty."""
    dropped: int = 0
    dropped_at: float = -RECENT_SECONDS


def backends_of(callbacks: Mapping[str, Iterable[Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the backends that have been started, each once, with a name: that of its class and its channel."""
    seen: set[int] = set()
    for channel, group in callbacks.items():
        for callback in group:
            # cryptofeed's Throttle and its kind hand on to a backend of their own.
            backend = getattr(callback, "handler", callback)
            if getattr(backend, "worker", None) is not None and id(backend) not in seen:
                seen.add(id(backend))
                yield f"backend {type(backend).__name__} of {channel}", backend


def takes_stale_books(callback: Any) -> bool:
    """Return whether a callback is a backend of cryptofeed that writes books as rows."""
    found: bool = getattr(type(callback), "__call__", None) is BackendBookCallback.__call__  # noqa: B004 - compared, not called
    return found


class BackendWatch:
    """Looks at the backends of one feed."""

    def __init__(self, callbacks: Mapping[str, Iterable[Any]], clock: Callable[[], float] = monotonic) -> None:
        self._callbacks = callbacks
        self._clock = clock
        self._seen: dict[int, _Seen] = {}

    def report_ends(self) -> None:
        """Log the error that ends a task that writes, which cryptofeed 2 does not report."""
        for name, backend in backends_of(self._callbacks):
            if isinstance(backend.worker, asyncio.Task):
                backend.worker.add_done_callback(partial(_log_end, name))

    def reasons(self) -> list[str]:
        """Return why not all that the backends were given is written, at this moment."""
        now = self._clock()
        return [
            f"{name} {problem}" for name, backend in backends_of(self._callbacks) for problem in self._problems(backend, now)
        ]

    def _problems(self, backend: Any, now: float) -> Iterator[str]:
        waiting = _waiting(backend)
        seen = self._seen.setdefault(id(backend), _Seen(waiting, now))
        if waiting == 0 or waiting < seen.waiting:
            seen.since = now
        seen.waiting = waiting
        stats = getattr(backend, "stats", None)
        dropped = 0 if stats is None else stats.dropped_failed + stats.dropped_overflow
        if dropped > seen.dropped:
            seen.dropped, seen.dropped_at = dropped, now
        if (end := _end(backend.worker)) is not None:
            yield f"has stopped and writes nothing any more ({end}); rows that wait: {waiting}"
        elif getattr(backend, "_failing", False):
            yield f"cannot be written to ({getattr(stats, 'last_error', None)}); rows that wait: {waiting}"
        elif waiting >= MOST_WAITING or now - seen.since >= STUCK_SECONDS:
            yield f"does not keep up; rows that wait: {waiting}"
        if now - seen.dropped_at < RECENT_SECONDS:
            yield f"has dropped rows, {dropped} in all"


def _waiting(backend: Any) -> int:
    """Return the number of rows that wait, or 0 where they wait in another process."""
    queue = getattr(backend, "queue", None)
    return queue.qsize() if isinstance(queue, asyncio.Queue) else 0


def _end(worker: Any) -> str | None:
    """Return why the writer has ended, or None while it has not, or when the feed has ended it."""
    if not isinstance(worker, asyncio.Task):
        ended = getattr(worker, "exitcode", None)
        return None if ended in (None, 0) else f"its process ended with {ended}"
    if not worker.done() or worker.cancelled():
        return None
    error = worker.exception()
    return None if error is None else described(error)


def _log_end(name: str, task: asyncio.Task[Any]) -> None:
    if (end := _end(task)) is not None:
        LOG.error("BACKPACK: %s has stopped and writes nothing any more (%s)", name, end)

"""Locks on files, which end with the process that holds them, also by a signal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["locked"]


def locked(path: Path) -> BaseFileLock | None:
    """Take the lock on a file and return it, or None when another program, or another part of this one, has it.

    Raises:
        OSError: the file cannot be made.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - it is large, and only orders need it

    # Not bound to a thread: it is taken in a worker, and released by the loop.
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock

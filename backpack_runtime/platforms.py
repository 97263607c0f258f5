"""Differences between operating systems, in one place. It loads no library.

A name of Python that only some systems have is used here and nowhere else (docs/platforms.md). It is looked for when it is needed, so that each
fallback can be tried on any system.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

__all__ = [
    "APPEND",
    "BINARY",
    "BROKEN_PIPE",
    "after_fork",
    "deliver_signals",
    "hold_signals",
    "is_readable_now",
    "is_waited_for",
    "monotonic_ns",
    "open_files_limit",
    "others_may_read",
    "received_signals",
    "sync_data",
    "sync_folder",
    "write_chunk",
]

BROKEN_PIPE: Final = int(getattr(signal, "SIGPIPE", 13))
"""Number of the signal for a reader who has gone. On systems without it, the number of POSIX."""
BINARY: Final = int(getattr(os, "O_BINARY", 0))
"""Flag of files without translated line ends, on systems that translate them."""
APPEND: Final = os.O_WRONLY | os.O_APPEND | BINARY
"""Flags that open a file for appending. Without the last one Windows would translate the ends of lines."""
_PIPE_BYTES: Final = int(getattr(select, "PIPE_BUF", 512))
"""So much goes into a pipe that is ready, without blocking."""
monotonic_ns: Final[Callable[[], int]] = (
    partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns
)
"""The monotonic clock in nanoseconds. A machine that sleeps makes proof older, so it is the one that counts the sleep where there is one.
That of macOS counts it, too."""

_waiting: list[int] = []
"""Signals that came while they were held back, where the system cannot do that."""


def hold_signals(numbers: Sequence[signal.Signals]) -> Callable[[], None]:
    """Hold signals back until `deliver_signals`, and return a function that undoes it."""
    if hasattr(signal, "pthread_sigmask"):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

        def unmask() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

        return unmask
    handlers = {number: signal.signal(number, _remember) for number in numbers}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    return restore


def deliver_signals(numbers: Sequence[signal.Signals]) -> None:
    """Let signals come, those that were held back at once. Their handlers have been set by now."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        return
    came, _waiting[:] = _waiting[:], []
    for number in came:
        signal.raise_signal(signal.Signals(number))


@contextmanager
def received_signals(*numbers: signal.Signals) -> Iterator[AsyncIterator[int]]:
    """Receive signals inside the block as an async iterator, on the event loop that runs."""
    import anyio  # noqa: PLC0415 - see the module's docstring

    with ExitStack() as stack:
        try:
            received: AsyncIterator[int] = stack.enter_context(anyio.open_signal_receiver(*numbers))
        except NotImplementedError:
            # asyncio on Windows has no handlers of its own.
            received = stack.enter_context(_by_handlers(numbers))
        yield received


@contextmanager
def _by_handlers(numbers: Sequence[signal.Signals]) -> Iterator[AsyncIterator[int]]:
    import asyncio  # noqa: PLC0415 - see the module's docstring

    import anyio  # noqa: PLC0415 - see the module's docstring

    loop = asyncio.get_running_loop()
    sender, receiver = anyio.create_memory_object_stream[int](float("inf"))

    def take(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(sender.send_nowait, number)

    before = {number: signal.signal(number, take) for number in numbers}
    try:
        yield receiver
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sender.close()
        receiver.close()


def _remember(number: int, _frame: FrameType | None) -> None:
    _waiting.append(number)


def is_readable_now(descriptor: int) -> bool:
    """Return whether a socket has something to read, the end of the connection included."""
    if hasattr(select, "poll"):
        # Any number of descriptors, where `select` takes those below 1,024.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])


def is_waited_for(descriptor: int, seconds: float | None) -> bool | None:
    """Wait until a file, pipe or terminal takes bytes. Return None where the system waits for sockets only, and a write just blocks."""
    try:
        return bool(select.select([], [descriptor], [], seconds)[1])
    except OSError as error:
        if error.errno != errno.ENOTSOCK:
            raise
        return None


def write_chunk(descriptor: int, data: memoryview) -> int:
    """Write as much as a descriptor that is ready takes without blocking, and return that number of bytes."""
    return os.write(descriptor, data[:_PIPE_BYTES])


def after_fork(function: Callable[[], None]) -> None:
    """Have a function called in each process that is forked from this one, where there is such a thing."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def open_files_limit() -> int | None:
    """Return how many files this process may have open at once, -1 for any number. None where the system does not say."""
    try:
        import resource  # noqa: PLC0415 - some systems lack it
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return -1 if soft == resource.RLIM_INFINITY else soft


def others_may_read(status: os.stat_result) -> bool:
    """Return whether the mode of a file lets other users read it. On other systems than POSIX the mode does not say."""
    return os.name == "posix" and bool(status.st_mode & (stat.S_IRGRP | stat.S_IROTH))


def sync_data(descriptor: int) -> None:
    """Bring written bytes to the disk, without the times of the file where the system can leave them out."""
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(descriptor)


def sync_folder(folder: Path) -> None:
    """Have a new name in a folder on the disk. Where a folder cannot be opened, the system sees to it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

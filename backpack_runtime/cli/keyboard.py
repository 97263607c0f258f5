"""The keys of a terminal, one by one and without their echo, for as long as a block lasts.

Where standard input is no terminal, or the program runs in the background of one, there are no keys. Modules that only POSIX has are
loaded where they are used. On Windows the console is asked ten times a second.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from typing import Any, Final, Self

import anyio

from .views.keys import KeyPress, KeyReader

__all__ = ["Keyboard", "in_foreground"]

READ_BYTES: Final = 1024
BACKGROUND_SECONDS: Final = 0.2
ESCAPE_SECONDS: Final = 0.05
"""Bytes that follow Escape within this time make a sequence with it."""


class Keyboard:
    """Keys of standard input, and a context manager that gives the terminal back as it was.

    with Keyboard() as keyboard:
        while (keys := await keyboard.read()) is not None:
            ...
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._reader = KeyReader()
        self._before: list[Any] | None = None
        self.available = sys.stdin is not None and os.isatty(descriptor) and in_foreground(descriptor)
        """There are keys to be read."""

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def take(self) -> None:
        """Have the terminal hand over each key as it is pressed. Ctrl-C and Ctrl-Z stay signals."""
        if not self.available or sys.platform == "win32":
            return
        import termios  # noqa: PLC0415 - POSIX only

        try:
            mode = termios.tcgetattr(self._descriptor)
            self._before = [*mode[:6], [*mode[6]]]
            # Ctrl-S would hold up the writer, and with it everything.
            mode[0] &= ~termios.IXON
            mode[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self._descriptor, termios.TCSANOW, mode)
        except termios.error:
            # The terminal has gone since it was looked at.
            self.available = False

    def give_back(self) -> None:
        """Set the terminal as it was before `take`."""
        before, self._before = self._before, None
        if before is None or sys.platform == "win32":
            return
        import termios  # noqa: PLC0415 - POSIX only

        try:
            # At once, for the reader of output that still waits may be gone.
            termios.tcsetattr(self._descriptor, termios.TCSANOW, before)
        except termios.error:
            # The terminal has gone, and with it its modes.
            self.available = False

    async def read(self) -> Sequence[KeyPress] | None:
        """Wait for keys and return them, or None when there are no more of them."""
        if not self.available:
            return None
        if sys.platform == "win32":
            from .console_keys import pressed  # noqa: PLC0415 - Windows only

            return await pressed()
        with anyio.move_on_after(ESCAPE_SECONDS if self._reader.unsure else None) as waiting:
            await anyio.wait_readable(self._descriptor)
        if waiting.cancelled_caught:
            return self._reader.settle()
        if self._before is None or not in_foreground(self._descriptor):
            # They are the shell's, and a program that reads them all the same is stopped, or waits for a whole line.
            await anyio.sleep(BACKGROUND_SECONDS)
            return []
        if not select.select([self._descriptor], [], [], 0)[0]:
            # Somebody else who shares the terminal was faster.
            return []
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except OSError:
            # How a terminal says that it is gone.
            data = b""
        return self._reader.feed(data) if data else None


def in_foreground(descriptor: int) -> bool:
    """Return whether this program may read from its terminal. One in the background would be stopped for it."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        # It is no controlling terminal of ours, and has no foreground.
        return True

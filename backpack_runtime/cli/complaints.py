"""One line on standard error for everything that goes wrong, and signals that end a program without a word. Loads no library."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from backpack_runtime.platforms import deliver_signals, hold_signals

__all__ = ["FAILED", "SIGNALLED", "STOPS", "USAGE", "complain", "ended_by_signals"]

FAILED = 1
USAGE = 2
SIGNALLED = 128
"""Plus the number of the signal."""
STOPS = (signal.SIGINT, signal.SIGTERM)


def complain(error: object, code: int) -> int:
    """Write an error on standard error, in one line, and return the exit code."""
    from backpack_proto.text import printable  # noqa: PLC0415 - see the module's docstring

    # Some of it may be the exchange's own words, which must not move the cursor.
    print("backpack-feed:", printable(str(error), None), file=sys.stderr)
    return code


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let signals end the program inside the block, at once. After it they are held back as before."""
    before = {number: signal.signal(number, _exit_on_signal) for number in STOPS}
    deliver_signals(STOPS)
    try:
        yield
    finally:
        hold_signals(STOPS)
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(SIGNALLED + number)

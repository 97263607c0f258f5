"""A progress bar of a recording that is read, on standard error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack

from backpack_runtime.recording.reader import Recording

__all__ = ["reading_bar"]

BAR_SECONDS = 0.2


def reading_bar(stack: ExitStack, recording: Recording, doing: str) -> Callable[[], None]:
    """Return a function that moves a progress bar, which ends with the stack.

    There is no bar where standard error is not a terminal, or the size is not known.
    """
    if recording.total_bytes is None or not os.isatty(2):
        return lambda: None
    # Only a terminal needs them, and they take their time to load.
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(doing), BarColumn(), DownloadColumn(), TimeRemainingColumn(), TextColumn("{task.fields[events]}"))
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = progress.add_task("", total=recording.total_bytes, events="")
    moved = 0.0

    def move() -> None:
        nonlocal moved
        if (now := time.monotonic()) - moved >= BAR_SECONDS:
            moved = now
            progress.update(task, completed=recording.read_bytes, events=f"{recording.event_count} events")

    return move

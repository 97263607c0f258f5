"""`backpack-feed replay`: a recording, read back."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from backpack_proto.errors import LocalProtocolError
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import Event
from backpack_runtime.recording import Replay, frames

from .events import event_name, json_lines, text_line
from .output import Printer

__all__ = ["replay"]

DROPPED = 1
"""Exit code when there was a frame that could not be used."""


def replay(file: str, *, as_json: bool) -> int:
    """Write the events of a recording (`-` is standard input) to standard output; returns the exit code.

    Raises:
        LocalProtocolError: the file cannot be opened.
        OSError: it cannot be read to its end, or the output cannot be written.
    """
    output = Printer()
    session = Replay()
    count = 0
    kinds: Counter[type[Event]] = Counter()
    with ExitStack() as stack:
        try:
            lines = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise LocalProtocolError(f"{file}: {error.strerror}") from None
        for frame in frames(lines):
            events = session.give(frame)
            count += 1
            kinds.update(map(type, events))
            output.write(json_lines(events) if as_json else "".join(f"{text_line(event)}\n" for event in events).encode())
    if not as_json:
        output.write(_summary(count, kinds).encode())
    return DROPPED if kinds[FrameDropped] else 0


def _summary(count: int, kinds: Counter[type[Event]]) -> str:
    rows = [f"{times:>9}  {event_name(kind)}\n" for kind, times in kinds.most_common()]
    return f"\n{count} frames, {kinds[FrameDropped]} dropped\n" + "".join(rows)

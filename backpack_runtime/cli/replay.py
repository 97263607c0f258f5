"""`backpack-feed replay`: a recording, read back."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from backpack_proto.errors import ConfigurationError
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import Event
from backpack_runtime.recording import Replay, frames

from .complaints import ended_by_signals
from .events import event_name, json_lines, text_line
from .output import Printer

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DESCRIPTION = "Read recorded websocket frames, one a line, offline. The exit code is 1 when one of them could not be used."

DROPPED = 1
"""Exit code when there was a frame that could not be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", help="the recording; - is standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object an event and line")


def run(parsed: argparse.Namespace) -> int:
    """Write the events of a recording to standard output until its end or a signal; returns the exit code.

    Raises:
        ConfigurationError: the file cannot be opened.
        OSError: it cannot be read to its end, or the output cannot be written.
    """
    with ended_by_signals():
        return _replay(parsed.file, as_json=parsed.json)


def _replay(file: str, *, as_json: bool) -> int:
    output = Printer()
    session = Replay()
    count = 0
    kinds: Counter[type[Event]] = Counter()
    with ExitStack() as stack:
        try:
            lines = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise ConfigurationError(f"{file}: {error.strerror}") from None
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

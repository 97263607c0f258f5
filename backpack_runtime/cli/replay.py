"""`backpack-feed replay`: a recording, read back."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import Event
from backpack_runtime.recording.reader import Recording, open_recording

from .complaints import complain, ended_by_signals
from .events import event_name, json_lines, text_line
from .options import positive
from .output import Printer
from .reading_bar import reading_bar

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DESCRIPTION = (
    "Drive a session by a recording, offline: the events are those that were recorded, books included. Frames alone, one a line, are read as"
    " well. The exit code is 1 when a frame could not be used, or the replay differs."
)

DROPPED = 1
"""Exit code when there was a frame that could not be used."""
CHUNK_BYTES = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", help="the recording, compressed or not; - is standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object an event and line")
    parser.add_argument(
        "--speed", type=_speed, default=None, metavar="X|max", help="1 is as fast as it was, 2 twice as fast (default: max)"
    )
    parser.add_argument("--verify", action="store_true", help="end at the first event that differs from the recorded one")


def run(parsed: argparse.Namespace) -> int:
    """Write the events of a recording to standard output until its end or a signal, and return the exit code.

    Raises:
        ConfigurationError: the file cannot be opened.
        RecordingUnreadable: it is a recording that cannot be read to its end.
        ReplayDiffers: the replay gives other events.
        OSError: the file cannot be read, or the output cannot be written.
    """
    with ended_by_signals(), open_recording(parsed.file, verify=parsed.verify) as recording:
        return _replay(recording, speed=parsed.speed, as_json=parsed.json)


def _speed(text: str) -> float | None:
    return None if text == "max" else positive(text)


def _replay(recording: Recording, *, speed: float | None, as_json: bool) -> int:
    output = _Output(as_json=as_json, at_once=speed is not None or recording.path is None)
    kinds: Counter[type[Event]] = Counter()
    pace = _Pace(speed)
    with ExitStack() as stack:
        # Where the events come on the same terminal they show the progress.
        show = _show_nothing if os.isatty(1) else reading_bar(stack, recording, "replay")
        for step in recording.steps():
            pace.wait(step.now.mono_us, before=output.flush)
            kinds.update(map(type, step.events))
            output.take(step.events)
            show()
        output.flush()
    if recording.torn:
        complain("warning: the last line of the recording is cut off; what came before it was replayed", 0)
    if not as_json:
        output.write(_summary(recording, kinds).encode())
    return DROPPED if kinds[FrameDropped] else 0


class _Output:
    """Events on standard output: at once, or many by one write."""

    def __init__(self, *, as_json: bool, at_once: bool) -> None:
        self._printer = Printer()
        self._as_json = as_json
        self._at_once = at_once
        self._waiting: list[bytes] = []
        self._size = 0

    def take(self, events: list[Event]) -> None:
        if not events:
            return
        data = json_lines(events) if self._as_json else "".join(f"{text_line(event)}\n" for event in events).encode()
        self._waiting.append(data)
        self._size += len(data)
        if self._at_once or self._size >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._printer.write(b"".join(self._waiting))
            self._waiting, self._size = [], 0

    def write(self, data: bytes) -> None:
        self._printer.write(data)


class _Pace:
    """Waits between steps, by the monotonic clock that was recorded."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._first_us: int | None = None
        self._begun = time.monotonic()

    def wait(self, mono_us: int, *, before: Callable[[], None]) -> None:
        if self._speed is None:
            return
        if not self._first_us:
            # The clock of frames alone begins with the first one that has a time.
            self._first_us, self._begun = mono_us, time.monotonic()
        left = (mono_us - self._first_us) / 1e6 / self._speed - (time.monotonic() - self._begun)
        if left > 0:
            before()
            time.sleep(left)


def _show_nothing() -> None:
    """Show no progress."""


def _summary(recording: Recording, kinds: Counter[type[Event]]) -> str:
    rows = [f"{times:>9}  {event_name(kind)}\n" for kind, times in kinds.most_common()]
    if recording.header is None:
        head = f"{recording.frames} frames, {kinds[FrameDropped]} dropped"
    else:
        end = recording.end or "the recorder was killed"
        head = f"{recording.batches} reads, {recording.event_count} events, end: {end}, digest {recording.digest}"
    return f"\n{head}\n" + "".join(rows)

"""Recordings read back: the same session, driven by the recorded inputs, to the same events.

with open_recording("session.jsonl") as recording:
    for now, event in recording.events():
        ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from backpack_proto.book.levels import Book
from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.machine import Now
from backpack_proto.metrics import MetricsSnapshot
from backpack_proto.session import Session
from backpack_proto.streams.payloads import Event

from .batches import Batch, Batches, begins_recording
from .digest import SHORT, EventDigest
from .errors import RecordingUnreadable, ReplayDiffers
from .format import Header
from .old_frames import Replay, frames
from .parts import finished_parts
from .streams import chunks_of, lines_of, plain_chunks

__all__ = ["Recording", "Step", "open_recording"]


class Step(NamedTuple):
    """Moment and events of one batch of inputs, which one read of the socket brought."""

    now: Now
    """The moment at which it was handled, on both clocks."""
    events: list[Event]


class Recording:
    """A recording that is read once, from its beginning on, by `steps` or by `events`."""

    def __init__(self, path: Path | None, *, verify: bool | None) -> None:
        self.path = path
        """None for standard input."""
        self.header: Header | None = None
        """None for frames alone, one a line, as other programs record them."""
        self.parts: tuple[Path, ...] = ()
        self.torn = False
        """The last line is cut off, as after kill -9. Known at the end of reading."""
        self.end: str | None = None
        """Its end: `closed`, `stopped` before the client, or None where the recorder was killed. Known at the end of reading."""
        self.batches = 0
        """So many were read."""
        self.event_count = 0
        """So many events there were."""
        self.frames = 0
        """So many frames were read, of a recording without a header."""
        self.timed_frames = 0
        """So many of them say when they were received."""
        self.refused = 0
        """So many commands were recorded that the session had refused. They are not replayed."""
        self.read_bytes = 0
        """So much was read, of files that may be compressed."""
        self.total_bytes: int | None = None
        """The size of all files. None for standard input."""
        self._verify = verify
        self._digest = EventDigest()
        self._session: Session | None = None
        self._frames = Replay()
        self._stack = ExitStack()
        self._lines: Iterator[bytes] = iter(())
        self._read: Batches | None = None
        self._now = Now(0, 0)
        self._is_used = False

    @property
    def digest(self) -> str:
        """The SHA-256 over all events so far, in hexadecimal digits, of a recording with a header."""
        return self._digest.whole

    @property
    def now(self) -> Now:
        """The moment of the last step."""
        return self._now

    @property
    def metrics(self) -> MetricsSnapshot:
        """All counters of the session at the last step."""
        return self._driven.metrics(self._now)

    def book(self, symbol: str) -> Book:
        """Return the order book of a symbol, as the session had it at the last step.

        Raises:
            LocalProtocolError: its book was not subscribed.
        """
        return self._driven.book(symbol)

    def __enter__(self) -> Self:
        """Open the files.

        Raises:
            ConfigurationError: there is no such file, or it cannot be opened.
            RecordingUnreadable: it is a recording whose beginning cannot be read.
        """
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def events(self) -> Iterator[tuple[Now, Event]]:
        """Return each event with the moment at which it was made.

        Raises:
            RecordingUnreadable: the rest cannot be read.
            ReplayDiffers: with `verify`, where an event is another one than was recorded.
        """
        for step in self.steps():
            for event in step.events:
                yield step.now, event

    __iter__ = events

    def steps(self) -> Iterator[Step]:
        """Return the events in lists, one for each batch of inputs. A batch without events has an empty one."""
        session = self._driven
        if self._is_used:
            raise LocalProtocolError("recording: it has been read: open it again")
        self._is_used = True
        return self._of_frames() if self._read is None else self._of_batches(self._read, session)

    @property
    def _driven(self) -> Session:
        if self._session is None:
            raise LocalProtocolError("recording: use it inside `with open_recording(path) as recording:`")
        return self._session

    def _of_frames(self) -> Iterator[Step]:
        replay = self._frames
        for frame in frames(self._lines):
            events = replay.give(frame.data, frame.received_us)
            self.frames += 1
            self.timed_frames += replay.received_us is not None
            self.event_count += len(events)
            self._now = replay.now
            yield Step(replay.now, events)

    def _of_batches(self, read: Batches, session: Session) -> Iterator[Step]:
        for batch in read:
            self._now = batch.now
            try:
                outputs = session.handle_all(batch.inputs, batch.now)
            except LocalProtocolError as error:
                if self._verify is not False:
                    raise ReplayDiffers(f"{batch.place}: the session refuses an input that it took: {error}") from None
                raise RecordingUnreadable(f"{batch.place}: not inputs that this version takes: {error}") from None
            events = [output for output in outputs if isinstance(output, Event)]
            if events:
                self._digest.update(events)
            if self._verify is not False:
                self._compare(batch, events)
            self.batches += 1
            self.event_count += len(events)
            yield Step(batch.now, events)
        self.torn = self.torn or read.torn
        self.end, self.refused = read.end, read.refused
        if self._verify is not False and read.end is not None and read.end_digest != self._digest.whole:
            raise ReplayDiffers(f"the end: the digest of all events is {read.end_digest}, the replay has {self._digest.whole}")

    def _compare(self, batch: Batch, events: list[Event]) -> None:
        replayed = self._digest.short if events else None
        if batch.digest == replayed:
            return
        names = ", ".join(type(event).__name__ for event in events) or "no events"
        recorded = "no events" if batch.digest is None else f"digest {batch.digest}"
        by = "" if self.header is None else f" (recorded by version {self.header.product} on Python {self.header.python})"
        raise ReplayDiffers(
            f"{batch.place}, batch {self.batches + 1} at {batch.now.unix_us} us: the replay differs here for the first time:"
            f" {recorded} recorded, {names} replayed, digest {self._digest.whole[:SHORT]}{by}"
        )

    def _open(self) -> None:
        if self.path is None:
            self._lines = lines_of(plain_chunks(chunks_of(sys.stdin.buffer, self._count), self._tear))
        else:
            self._open_parts(self.path)
        first = next(self._lines, b"")
        if not begins_recording(first):
            self._session = self._frames.session
            self._lines = _and_then(first, self._lines)
            if self._verify:  # not None
                raise ConfigurationError("verify: frames alone have no digest: leave it out")
            return
        read = Batches(first, self._part_lines())
        self.header = read.header
        self._read = read
        self._session = read.session()

    def _open_parts(self, path: Path) -> None:
        finished = finished_parts(path)
        numbers = list(finished)
        if numbers and numbers != list(range(1, len(numbers) + 1)):
            missing = next(number for number in range(1, len(numbers) + 2) if number not in finished)
            raise RecordingUnreadable(f"{path}: part {missing} is missing: {path.name}.{missing:06}.zst")
        tail = [path] if path.exists() or not finished else []
        self.parts = (*finished.values(), *tail)
        try:
            self.total_bytes = sum(part.stat().st_size for part in self.parts)
            self._lines = self._lines_of_part(self.parts[0])
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from None

    def _part_lines(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Return the lines of each part, by its name. Those of the first one go on behind its header."""
        if not self.parts:
            yield "standard input", self._lines
            return
        yield self.parts[0].name, self._lines
        for part in self.parts[1:]:
            try:
                lines = self._lines_of_part(part)
            except OSError as error:
                raise RecordingUnreadable(f"{part.name}: {error.strerror}") from None
            yield part.name, lines

    def _lines_of_part(self, part: Path) -> Iterator[bytes]:
        file: BinaryIO = self._stack.enter_context(part.open("rb"))
        return lines_of(plain_chunks(chunks_of(file, self._count), self._tear))

    def _count(self, size: int) -> None:
        self.read_bytes += size

    def _tear(self) -> None:
        self.torn = True


def _and_then(first: bytes, following: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from following


def open_recording(path: Path | str, *, verify: bool | None = False) -> Recording:
    """Return a recording, to be used in a `with` block: the file of a `Recorder` with all its parts, or frames alone, one a line.

    Args:
        path: the file that was recorded to, or `-` for standard input. It may be compressed by gzip or zstandard, under any name.
        verify: raise `ReplayDiffers` where the replay gives other events than were recorded. None verifies recordings that have a digest.

    Raises:
        ConfigurationError: an argument cannot be used.
    """
    if not isinstance(path, str | Path):
        raise ConfigurationError(f"path: the path of a file, got {type(path).__name__}")
    return Recording(None if str(path) == "-" else Path(path), verify=verify)

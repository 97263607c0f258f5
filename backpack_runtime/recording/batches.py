"""The batches of a recording, line by line and part by part, as far as they can be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from backpack_proto.inputs import Given
from backpack_proto.machine import Now
from backpack_proto.session import Session

from .errors import RecordingUnreadable
from .format import FORMAT, VERSION, Header, PartHeader, Row, decode_input, read_row

__all__ = ["Batch", "Batches", "begins_recording"]

_BEGINNING: Final = b'{"format":"' + FORMAT.encode()[:8]
_read_header = msgspec.json.Decoder(Header).decode
_read_part_header = msgspec.json.Decoder(PartHeader).decode


class _Form(Struct, frozen=True):
    format: str
    version: int
    part: int


_read_form = msgspec.json.Decoder(_Form).decode


class Batch(NamedTuple):
    """One batch of inputs, which came at one moment."""

    now: Now
    inputs: list[Given]
    digest: str | None
    """Beginning of the digest of all events so far. None where no events followed."""
    place: str
    """Part and line, for an error text."""


def begins_recording(line: bytes) -> bool:
    """Return whether this is the first line of a recording, of its first part or of another one, even if it is cut off."""
    return line.startswith(_BEGINNING)


class Batches:
    """Reads one batch after the other. A last line that is cut off is the end, and `torn` says so."""

    def __init__(self, first: bytes, parts: Iterable[tuple[str, Iterator[bytes]]]) -> None:
        """Take the first line, and the lines of all parts by their names, those of the first one without that line.

        Raises:
            RecordingUnreadable: the first line is not the header of a first part, or that of a later version.
        """
        self.header = _header(first)
        self._parts = iter(parts)
        self.torn = False
        self.end: str | None = None
        self.end_digest: str | None = None
        self.refused = 0
        self._count = 0

    def session(self) -> Session:
        """Make a session equal to the one that was recorded, at its beginning."""
        header = self.header
        signer = None if header.signer is None else header.signer.signer()
        return header.session.session(header.random.random(), signer)

    def __iter__(self) -> Iterator[Batch]:
        for part, (name, lines) in enumerate(self._parts, 1):
            if part > 1 and not self._take_header(next(lines, b""), part, name, lines):
                return
            for number, line in enumerate(lines, 2):
                place = f"{name}, line {number}"
                row = self._row(line, lines, place)
                if row is None:
                    return
                if row.end is not None:
                    self.end, self.end_digest = row.end, row.digest
                elif row.inputs is None:
                    self.refused += 1
                else:
                    try:
                        inputs = [decode_input(members) for members in row.inputs]
                    except (ValueError, KeyError, AttributeError, TypeError) as wrong:
                        raise RecordingUnreadable(f"{place}: {wrong}") from None
                    self._count += 1
                    yield Batch(Now(row.mono_us, row.unix_us), inputs, row.digest, place)

    def _row(self, line: bytes, lines: Iterator[bytes], place: str) -> Row | None:
        """Return a row. A last line that is cut off is None."""
        if self.end is not None:
            raise RecordingUnreadable(f"{place}: it goes on behind its end")
        try:
            return read_row(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._tear(lines, f"{place}: not a line of a recording: {error}")
            return None

    def _tear(self, lines: Iterator[bytes], otherwise: str) -> None:
        """Take a line that cannot be read for the last one, which was being written when the recorder was killed.

        Raises:
            RecordingUnreadable: it is not the last one.
        """
        if next(lines, None) is not None or next(self._parts, None) is not None:
            raise RecordingUnreadable(otherwise)
        self.torn = True

    def _take_header(self, line: bytes, part: int, name: str, lines: Iterator[bytes]) -> bool:
        """Compare the header of a later part with the parts before. Return False where it is cut off."""
        if not line:
            self._tear(lines, f"{name}: it is empty")
            return False
        try:
            header = _read_part_header(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._tear(lines, f"{name}: not the header of a part: {error}")
            return False
        if header.part != part or header.batches != self._count:
            raise RecordingUnreadable(
                f"{name}: part {part} behind {self._count} batches was expected, this is part {header.part}"
                f" behind {header.batches}: a part is missing, or of another recording"
            )
        return True


def _header(line: bytes) -> Header:
    try:
        form = _read_form(line)
        if form.format != FORMAT or form.version != VERSION:
            raise RecordingUnreadable(
                f"a recording of version {form.version}, and this program reads version {VERSION}: use the one that recorded it"
            )
        if form.part != 1:
            raise RecordingUnreadable(f"part {form.part} of a recording: give the file without the number of a part")
        return _read_header(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordingUnreadable(f"the header of the recording cannot be read: {error}") from None

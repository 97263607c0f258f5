"""Recorded frames, read back through a session: no socket, no clock, no timer.

Such a recording has one frame a line, each as the websocket delivered it. A frame may have been given one more member at its top,
`received_us`, the local time of the read that delivered it: then its events have that. It holds no commands, so the streams that were
wanted are those that speak in it, and no REST answers, so the changes of books come out as they are, not as books.

Recordings of other programs are read as well: a JSON array of frames, a time before each frame, `< ` before received frames, and `> `
before sent ones, which are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from random import Random
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import replace

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import InvalidStream
from backpack_proto.inputs import Connected, Open, Subscribe, TextReceived
from backpack_proto.machine import Now
from backpack_proto.session import Session
from backpack_proto.streams.names import channel_of, check_untyped, parse_stream
from backpack_proto.streams.payloads import Event, StreamPayload
from backpack_proto.streams.unknown import UnknownPayload

__all__ = ["RecordedFrame", "Replay", "frames"]

_NUMBER: Final = r"\d{9,19}(?:\.\d{1,9})?"
_DATE: Final = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
_TIME: Final = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_BEFORE: Final = re.compile(
    rf"(?P<way>[<>]\s+)?(?:[\[(\"]?(?:(?P<number>{_NUMBER})|(?P<date>{_DATE})|{_TIME})[\])\"]?[\s,;:|]*)?(?P<later>[<>]\s+)?(?=[{{\[])".encode(),
    re.ASCII,
)
"""Prefix of a frame: a direction, a time, or both in either order."""
_UP_TO_SECONDS: Final = len("2026-09-02T16:45:00")
_SECONDS_BELOW: Final = 10**11
_MILLIS_BELOW: Final = 10**14
_MICROS_BELOW: Final = 10**17


class RecordedFrame(NamedTuple):
    """One frame, and the time at which it was received where its line has it, in microseconds since the epoch."""

    data: bytes
    received_us: int | None = None


class _Envelope(Struct, frozen=True, gc=False):
    stream: str = ""
    data: Raw = Raw(b"null")
    received_us: int | None = None


class _Moment(Struct, frozen=True, gc=False):
    emitted_us: int | None = field(name="E", default=None)


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_moments = msgspec.json.Decoder(_Moment | list[_Moment] | None).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def frames(lines: Iterable[bytes]) -> Iterator[RecordedFrame]:
    """Return the frames of a recording, without empty lines and sent frames."""
    following = iter(lines)
    for line in following:
        if not line.strip():
            continue
        if line.lstrip().startswith(b"["):
            # Perhaps an array, which is known by its end: it is read as a whole.
            yield from _of_array([line, *following])
        else:
            yield from _of_lines(chain([line], following))
        return


def _of_array(lines: list[bytes]) -> Iterator[RecordedFrame]:
    try:
        elements = _decode_array(b"".join(lines))
        found = [RecordedFrame(_element(bytes(element))) for element in elements]
    except _UNREADABLE:
        return _of_lines(lines)
    return iter(found)


def _element(element: bytes) -> bytes:
    """Return a frame of an array, in which it may be an object or its text."""
    return _decode_text(element).encode() if element.startswith(b'"') else element


def _of_lines(lines: Iterable[bytes]) -> Iterator[RecordedFrame]:
    for line in lines:
        frame = line.strip()
        if not frame:
            continue
        if frame.startswith(b"{"):
            yield RecordedFrame(frame)
            continue
        before = _BEFORE.match(frame)
        if before is None or not before.end():
            if not frame.startswith(b"> "):
                yield RecordedFrame(frame)
            continue
        way = (before["way"] or before["later"] or b"<").strip()
        if way == b"<":
            yield RecordedFrame(frame[before.end() :], _moment(before))


def _moment(before: re.Match[bytes]) -> int | None:
    """Return the time before a frame, where it has a date."""
    if (number := before["number"]) is not None:
        value = Decimal(number.decode())
        for below, micros in ((_SECONDS_BELOW, Decimal(10**6)), (_MILLIS_BELOW, Decimal(1000)), (_MICROS_BELOW, Decimal(1))):
            if value < below:
                return int(value * micros)
        return int(value / 1000)
    if (date := before["date"]) is None:
        return None
    text = date.decode().replace(",", ".").replace("UTC", "Z")
    text = text[:_UP_TO_SECONDS] + text[_UP_TO_SECONDS:].replace(" ", "")
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    read = read.replace(tzinfo=UTC) if read.tzinfo is None else read
    since = read - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


class Replay:
    """A session that has recorded frames in place of the exchange.

    It subscribes to a stream when the first frame of it comes. Its clocks show when the exchange sent the frame, which is all
    that such a recording knows of time, and never go back.
    """

    def __init__(self) -> None:
        # Private streams need a signature, which is never checked.
        signer = Signer(Credentials(THROWAWAY_SECRET))
        self.session = Session(Random(0), signer=signer, manage_books=False, canary=False)  # noqa: S311 - for delays that never come
        self.now = Now(0, 0)
        self.received_us: int | None = None
        """When the last frame was received, where that is known."""
        self._streams: set[str] = set()
        self.session.handle(Open(), self.now)
        self.session.handle(Connected(), self.now)

    def give(self, frame: bytes, received_us: int | None = None) -> list[Event]:
        """Return the events that follow from one frame. A frame that cannot be used is among them as `FrameDropped`.

        `received_us` is the local time of the read, for a frame that does not have it itself.
        """
        stream, emitted_us, own_us = _look_at(frame)
        received_us = self.received_us = received_us if own_us is None else own_us
        if emitted_us is not None and emitted_us > self.now.unix_us:
            self.now = Now(emitted_us, emitted_us)
        if stream not in self._streams and (subscribe := _subscribing(stream)) is not None:
            self._streams.add(stream)
            self.session.handle(subscribe, self.now)
        outputs = self.session.handle(TextReceived(frame, received_us), self.now)
        events = [output for output in outputs if isinstance(output, Event)]
        if received_us is None:
            # The clocks of a replay are no answer to the question when it was received.
            return [
                replace(event, received_us=None) if isinstance(event, StreamPayload | UnknownPayload) else event
                for event in events
            ]
        return events


def _look_at(frame: bytes) -> tuple[str, int | None, int | None]:
    """Stream of a frame, when it was sent and when received, as far as they can be read. The session judges everything else."""
    try:
        envelope = _decode_envelope(frame)
    except _UNREADABLE:
        return "", None, None
    try:
        moments = _decode_moments(envelope.data)
    except _UNREADABLE:
        moments = None
    if isinstance(moments, list):
        moments = moments[0] if moments else None
    return envelope.stream, None if moments is None else moments.emitted_us, envelope.received_us


def _subscribing(stream: str) -> Subscribe | None:
    """Return the command that subscribes a stream, of a kind that has a type or not. None for an invalid name."""
    try:
        if channel_of(stream) is None:
            check_untyped(stream)
            return Subscribe(untyped=(stream,))
        parse_stream(stream)
    except InvalidStream:
        return None
    return Subscribe((stream,))

"""Recorded frames, read back through a session: no socket, no clock, no timer.

A recording is a file with one frame a line, each as the websocket delivered it. A frame may have been given one more member at its top,
`received_us`, the local time of the read that delivered it: then its events have that. It holds no commands, so the streams that were
wanted are those that speak in it, and no REST answers, so the changes of books come out as they are, not as books.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

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

__all__ = ["Replay", "frames"]


class _Envelope(Struct, frozen=True, gc=False):
    stream: str = ""
    data: Raw = Raw(b"null")
    received_us: int | None = None


class _Moment(Struct, frozen=True, gc=False):
    emitted_us: int | None = field(name="E", default=None)


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_moments = msgspec.json.Decoder(_Moment | list[_Moment] | None).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def frames(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The frames of a recording, without line ends and empty lines."""
    return (frame for line in lines if (frame := line.strip()))


class Replay:
    """A session that has a recording in place of the exchange.

    It subscribes to a stream when the first frame of it comes. Its clocks show when the exchange sent the frame, which is all
    that a recording knows of time, and never go back.
    """

    def __init__(self) -> None:
        # Private streams need a signature, which nobody will ever check.
        signer = Signer(Credentials(THROWAWAY_SECRET))
        self._session = Session(Random(0), signer=signer, manage_books=False, canary=False)  # noqa: S311 - for delays that never come
        self._now = Now(0, 0)
        self._streams: set[str] = set()
        self._session.handle(Open(), self._now)
        self._session.handle(Connected(), self._now)

    def give(self, frame: bytes) -> list[Event]:
        """The events that follow from one frame; a frame that cannot be used is among them as `FrameDropped`."""
        stream, emitted_us, received_us = _look_at(frame)
        if emitted_us is not None and emitted_us > self._now.unix_us:
            self._now = Now(emitted_us, emitted_us)
        if stream not in self._streams and (subscribe := _subscribing(stream)) is not None:
            self._streams.add(stream)
            self._session.handle(subscribe, self._now)
        outputs = self._session.handle(TextReceived(frame, received_us), self._now)
        events = [output for output in outputs if isinstance(output, Event)]
        if received_us is None:
            # The clocks of a replay are no answer to the question when it was received.
            return [
                replace(event, received_us=None) if isinstance(event, StreamPayload | UnknownPayload) else event
                for event in events
            ]
        return events


def _look_at(frame: bytes) -> tuple[str, int | None, int | None]:
    """Stream of a frame, when it was sent and when received, as far as they can be read; the session judges everything else."""
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
    """Return what subscribes a stream, of a kind that has a type or not; None for a name that is none."""
    try:
        if channel_of(stream) is None:
            check_untyped(stream)
            return Subscribe(untyped=(stream,))
        parse_stream(stream)
    except InvalidStream:
        return None
    return Subscribe((stream,))

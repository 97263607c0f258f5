"""Figures of a recording: messages, rates, latency and faults."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from msgspec import Struct

from backpack_proto.outputs import BookDesynced, ConnectionDown, ConnectionUp, ErrorReceived, StreamsRefused
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import Event

from .errors import ReplayDiffers
from .reader import Recording

__all__ = ["Part", "StreamFigures", "Summary", "summarize"]


_GAP = "gap"
"""So begins the reason of a `BookDesynced` for it."""


class Part(NamedTuple):
    """One file of a recording."""

    name: str
    bytes: int


class StreamFigures(Struct, frozen=True, kw_only=True):
    """Messages of one stream."""

    messages: int
    per_second: float


class Summary(Struct, frozen=True, kw_only=True):
    """Figures of a recording."""

    has_header: bool
    """False for frames alone, one a line, as other programs record them."""
    product: str | None
    """The version that recorded."""
    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    start_us: int
    """The first moment, microseconds since the epoch, of frames alone by the exchange's clock."""
    end_us: int
    seconds: float
    """Between the two, by the monotonic clock."""
    parts: tuple[Part, ...]
    batches: int
    events: int
    event_counts: dict[str, int]
    streams: dict[str, StreamFigures]
    connections: int
    connections_lost: int
    gaps: int
    """Times that a book missed a change."""
    resyncs: int
    divergences: int
    """Books that were wrong without a gap."""
    dropped_frames: int
    errors: int
    """Error frames of the exchange."""
    engine_to_receipt_p50_us: int | None
    engine_to_receipt_p99_us: int | None
    torn: bool
    """The last line is cut off."""
    end: str | None
    """`closed` or `stopped`. None where the recorder was killed, and of frames alone."""
    verified: bool | None
    """The replay gave the recorded events. None for frames alone, which have no digest."""
    differs: str | None
    """Where it did not."""


class _Tally:
    """Counts while a recording is read."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: tuple[int, int] | None = None
        self.gaps = 0
        self.dropped = 0

    def take(self, event: Event) -> None:
        self.counts[type(event).__name__] += 1
        if isinstance(event, BookDesynced):
            self.gaps += event.reason.startswith(_GAP)
        elif isinstance(event, FrameDropped):
            self.dropped += event.count


def summarize(recording: Recording) -> Summary:
    """Read a recording that was opened to be verified where it can be, and return its figures.

    Raises:
        RecordingUnreadable: it cannot be read to its end.
    """
    tally = _Tally()
    differs: str | None = None
    try:
        for step in recording.steps():
            if tally.first is None and step.now.unix_us:
                tally.first = step.now
            for event in step.events:
                tally.take(event)
    except ReplayDiffers as error:
        differs = str(error)
    metrics, last = recording.metrics, recording.now
    first = tally.first or last
    seconds = (last.mono_us - first[0]) / 1e6
    header = recording.header
    timed = header is not None or recording.timed_frames > 0
    counts = tally.counts
    return Summary(
        has_header=header is not None,
        product=None if header is None else header.product,
        symbols=() if header is None else header.symbols,
        channels=() if header is None else header.channels,
        start_us=first[1],
        end_us=last.unix_us,
        seconds=seconds,
        parts=tuple(Part(part.name, part.stat().st_size) for part in recording.parts if part.exists()),
        batches=recording.batches or recording.frames,
        events=counts.total(),
        event_counts=dict(counts.most_common()),
        streams={
            stream: StreamFigures(messages=of.messages, per_second=of.messages / seconds if seconds else 0.0)
            for stream, of in metrics.streams.items()
        },
        connections=counts[ConnectionUp.__name__],
        connections_lost=counts[ConnectionDown.__name__],
        gaps=tally.gaps,
        resyncs=metrics.orderbook_resyncs,
        divergences=metrics.book_divergences,
        dropped_frames=tally.dropped,
        errors=counts[ErrorReceived.__name__] + counts[StreamsRefused.__name__],
        engine_to_receipt_p50_us=metrics.engine_to_receipt_p50_us if timed else None,
        engine_to_receipt_p99_us=metrics.engine_to_receipt_p99_us if timed else None,
        torn=recording.torn,
        end=recording.end,
        verified=None if header is None else differs is None,
        differs=differs,
    )

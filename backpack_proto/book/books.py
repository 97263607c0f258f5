"""The books of a session: one sequencer for each depth stream, found by stream and by symbol, with the earliest timer at hand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from backpack_proto.claims import AuditPace, Claims, PathClaim
from backpack_proto.errors import LocalProtocolError
from backpack_proto.machine import Now, Timers

from .levels import Book
from .sequencer import BookSequencer

__all__ = ["Books"]

_SHOWN = 3
"""So many books with one reason are named."""


class Books:
    """All books of a session. They share the path of its connection and the pace of the audits."""

    def __init__(self, path: PathClaim, *, levels: int, audits: bool) -> None:
        """`levels` are handed out with each change. Without `audits` the chain of a book has no bound."""
        self._levels = levels
        self._pace = AuditPace(audits=audits)
        self._claims = Claims(path, self._pace)
        self._by_stream: dict[str, BookSequencer] = {}
        self._by_symbol: dict[str, list[BookSequencer]] = {}
        self._timers: Timers[str] = Timers()

    @property
    def deadline(self) -> int | None:
        """The earliest of all books."""
        return self._timers.earliest

    @property
    def all(self) -> Collection[BookSequencer]:
        """In the order of subscription."""
        return self._by_stream.values()

    def __getitem__(self, stream: str) -> BookSequencer:
        return self._by_stream[stream]

    def of_stream(self, stream: str) -> BookSequencer | None:
        """Return the book of a stream, or None without one."""
        return self._by_stream.get(stream)

    def of_streams(self, streams: Iterable[str]) -> Sequence[BookSequencer]:
        """Return the books of those streams that have one."""
        return [self._by_stream[stream] for stream in streams if stream in self._by_stream]

    def of_symbol(self, symbol: str) -> Sequence[BookSequencer]:
        """Return the books of a market, one for each aggregation."""
        return self._by_symbol.get(symbol, ())

    def due(self, now: Now) -> Sequence[BookSequencer]:
        """Return the books whose deadline has come."""
        return [self._by_stream[stream] for stream in self._timers.due(now.mono_us)]

    def book(self, name: str) -> Book:
        """Return the book that `sequencer` keeps."""
        return self.sequencer(name).book

    def sequencer(self, name: str) -> BookSequencer:
        """Return the sequencer of a depth stream, or of a symbol, whose unaggregated stream comes first.

        Raises:
            LocalProtocolError: no such stream is subscribed.
        """
        sequencers = [self._by_stream[name]] if name in self._by_stream else self.of_symbol(name)
        if not sequencers:
            raise LocalProtocolError(f"no depth stream of {name!r} is subscribed")
        return min(sequencers, key=lambda sequencer: len(sequencer.stream))

    def add(self, stream: str, symbol: str) -> None:
        """Keep the book of one more stream."""
        sequencer = BookSequencer(stream, symbol, levels=self._levels, claims=self._claims)
        self._by_stream[stream] = sequencer
        self._by_symbol.setdefault(symbol, []).append(sequencer)
        self._pace.books = len(self._by_stream)

    def remove(self, sequencer: BookSequencer) -> None:
        """Keep a book no more."""
        del self._by_stream[sequencer.stream]
        self._timers.cancel(sequencer.stream)
        siblings = self._by_symbol[sequencer.symbol]
        siblings.remove(sequencer)
        if not siblings:
            del self._by_symbol[sequencer.symbol]
        self._pace.books = len(self._by_stream)

    def changed(self, sequencer: BookSequencer) -> None:
        """Note the timer of a book that was given something."""
        self._timers.set(sequencer.stream, sequencer.deadline)

    def doubts(self, now: Now) -> list[str]:
        """Return the faults of all books at this moment."""
        return _summary({stream: sequencer.doubt(now.mono_us) for stream, sequencer in self._by_stream.items()})


def _summary(doubts: Mapping[str, str | None]) -> list[str]:
    """Name the faults of books. Many books with one fault are one reason against health."""
    streams_of: dict[str, list[str]] = {}
    for stream, doubt in doubts.items():
        if doubt is not None:
            streams_of.setdefault(doubt, []).append(stream)
    reasons: list[str] = []
    for doubt, streams in streams_of.items():
        if len(streams) > _SHOWN:
            reasons.append(f"{len(streams)} books, {', '.join(streams[:_SHOWN])}, ...: each {doubt}")
        else:
            reasons += [f"book {stream} {doubt}" for stream in streams]
    return reasons

"""The frames of a stream that wait for a snapshot, and their verdict on one."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from backpack_proto.streams.payloads import BookTicker, Depth

from .levels import Book

__all__ = ["BACKWARDS_US", "BUFFERED_FRAMES", "ID_LEAP", "STILL_US", "Join", "Keep", "KeptFrames", "leaps"]

BACKWARDS_US = 1_000_000
"""An old update id with an engine time this much later is no duplicate: the ids have started over."""
ID_LEAP = 10_000_000
"""A frame or a snapshot that moves by more ids is doubted."""
STILL_US = 86_400_000_000
"""Time that a snapshot may be older than the next frame: a market may stand still for so long."""
BUFFERED_FRAMES = 20_000
TICKERS_KEPT = 64


class Keep(Enum):
    """Outcome of a frame."""

    KEPT = auto()
    STARTED_OVER = auto()
    """It was kept, and the ids have started over with it."""
    IGNORED = auto()


class Join(Enum):
    """Verdict of the frames on a snapshot."""

    PROVED = auto()
    OPEN = auto()
    TOO_OLD = auto()


class KeptFrames:
    """Frames in the order of their ids without a hole, and the ids that `bookTicker` has shown."""

    def __init__(self, book: Book) -> None:
        """`book` is the one that is shown: all ids up to its own are known."""
        self._book = book
        self._frames: deque[Depth] = deque(maxlen=BUFFERED_FRAMES)
        self._tickers: deque[BookTicker] = deque(maxlen=TICKERS_KEPT)
        self._floor = 0
        self._newest: int | None = None
        """The update id at which the newest frame of this subscription ended."""
        self._newest_us = 0
        """When the matching engine made it."""

    def __len__(self) -> int:
        """Return how many frames wait."""
        return len(self._frames)

    @property
    def needed(self) -> int:
        """The update id that a snapshot has to reach."""
        return self._frames[0].first_update_id - 1 if self._frames else self._floor

    @property
    def known(self) -> int:
        """The highest update id that streams or the book have shown, or 0."""
        return max(self._floor, self._newest or 0, self._book.last)

    def clear(self) -> None:
        """Forget everything, as the ids of one subscription do not bind the next."""
        self._frames.clear()
        self._tickers.clear()
        self._floor, self._newest, self._newest_us = 0, None, 0

    def begin_at(self, floor: int, reached: int | None, frame: Depth | None) -> None:
        """Begin again behind a book that followed until `reached`. `floor` is the highest id of its stream."""
        self.clear()
        self._floor, self._newest, self._newest_us = floor, reached, self._book.engine_us
        if frame is not None:
            self._frames.append(frame)
            self._newest, self._newest_us = frame.last_update_id, frame.engine_us

    def spend(self, last: int) -> None:
        """Drop all frames up to an id: only a snapshot that contains them can be a beginning."""
        self._frames.clear()
        self._floor = last

    def take(self) -> tuple[Depth, ...]:
        """Return all frames and forget them."""
        frames = tuple(self._frames)
        self._frames.clear()
        return frames

    def note_ticker(self, ticker: BookTicker) -> None:
        """Note the id and the time of a `bookTicker`."""
        self._tickers.append(ticker)

    def add(self, delta: Depth) -> Keep:
        """Keep a frame that joins the newest one. Frames before a hole serve no snapshot that could come."""
        newest = max(self._floor, self._newest or 0)
        newest_us = self._book.engine_us if self._newest is None else self._newest_us
        kept = Keep.KEPT
        if leaps(delta, newest):
            return Keep.IGNORED
        if delta.last_update_id <= newest:
            if delta.engine_us - newest_us <= BACKWARDS_US:
                return Keep.IGNORED
            self._floor = 0
            self._tickers.clear()
            kept = Keep.STARTED_OVER
        if self._frames and delta.first_update_id != newest + 1:
            self._frames.clear()
        self._frames.append(delta)
        self._newest, self._newest_us = delta.last_update_id, delta.engine_us
        return kept

    def joins(self, snapshot: Book) -> Join:
        """Drop the frames that the snapshot contains, and return the verdict of the rest (docs/protocol.md 5.2, steps 3 to 5)."""
        frames = self._frames
        while frames and frames[0].last_update_id <= snapshot.last:
            frames.popleft()
        if snapshot.last < self.needed:
            return Join.TOO_OLD
        if frames or self.ends_at(snapshot) or any(ticker.update_id == snapshot.last for ticker in self._tickers):
            return Join.PROVED
        return Join.OPEN

    def ends_at(self, snapshot: Book) -> bool:
        """Return whether the newest frame ends exactly where the snapshot does."""
        return self._newest == snapshot.last

    def outdates(self, snapshot: Book) -> bool:
        """Return whether a snapshot is older than its id: the ids have started over, or it is wrong.

        Everything with an id up to the snapshot's happened before it, and the next frame within a day.
        """
        known = [(ticker.update_id, ticker.engine_us) for ticker in self._tickers]
        if self._newest is not None:
            known.append((self._newest, self._newest_us))
        if self._newest is None or self._newest_us >= self._book.engine_us - BACKWARDS_US:
            # Otherwise the exchange's clock was set back, and the book's time cannot be compared with today's.
            known.append((self._book.last, self._book.engine_us))
        for frame in self._frames:
            if frame.last_update_id > snapshot.last:
                if frame.engine_us - snapshot.engine_us > STILL_US:
                    return True
                break
            known.append((frame.last_update_id, frame.engine_us))
        return any(last <= snapshot.last and engine_us - snapshot.engine_us > BACKWARDS_US for last, engine_us in known)


def leaps(delta: Depth, newest: int) -> bool:
    """Return whether a frame moves further than any frame does, so that it is not applied. A snapshot tells whether it was right."""
    first = delta.first_update_id
    return delta.last_update_id - first > ID_LEAP or bool(newest and first - newest > ID_LEAP)

"""The inputs and outputs of the machines of a book. None of them is seen from outside the session."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth

from .levels import Book

__all__ = [
    "Ask",
    "Begin",
    "BookInForce",
    "FetchSnapshot",
    "FrameLost",
    "MarketDoubted",
    "Mute",
    "PathChanged",
    "Resync",
    "SnapshotArrived",
    "SnapshotFailed",
    "SnapshotRequested",
    "StartedOver",
    "StreamEnded",
    "StreamMute",
    "StreamRequested",
    "StreamSuspended",
    "TopMatched",
    "Unavailable",
    "Unfit",
]


class StreamRequested(Struct, frozen=True, gc=False):
    """The subscription of the depth stream has just been sent."""


class BookInForce(Struct, frozen=True, gc=False):
    """The subscription has taken effect."""


class StreamEnded(Struct, frozen=True, gc=False):
    """The connection is gone, or the stream is not wanted any more."""

    reason: str


class StreamSuspended(Struct, frozen=True, gc=False):
    """The market is closed. The stream is requested again when it opens."""


class SnapshotRequested(Struct, frozen=True, gc=False):
    """The request of a `FetchSnapshot` has just been sent: it waited for the request budget until now."""

    attempt: int


class SnapshotArrived(Struct, frozen=True, gc=False, kw_only=True):
    """A REST snapshot, levels in any order, cut off at `limit` levels a side."""

    attempt: int
    last_update_id: int
    engine_us: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    limit: int

    def book(self, symbol: str) -> Book:
        """Return a book of its levels."""
        return Book(
            symbol, bids=self.bids, asks=self.asks, last=self.last_update_id, engine_us=self.engine_us, limit=self.limit
        )


class SnapshotFailed(Struct, frozen=True, gc=False, kw_only=True):
    """A snapshot could not be had."""

    attempt: int
    reason: str
    final: bool = False
    """The exchange has refused it (401, 404): asking again at once would not help."""


class FetchSnapshot(Struct, frozen=True, gc=False, kw_only=True):
    """Output: ask REST for the depth. Answer with `SnapshotArrived` or `SnapshotFailed` of the same attempt."""

    stream: str
    symbol: str
    attempt: int
    urgent: bool
    """The book does not follow. Otherwise it is only to be checked."""


class TopMatched(Struct, frozen=True, gc=False, kw_only=True):
    """Output: the top of the book was the one that bookTicker gave for the same update id."""

    stream: str


class FrameLost(Struct, frozen=True, gc=False):
    """A frame came that cannot be read, and that may have been a change of this book."""


class PathChanged(Struct, frozen=True, gc=False):
    """The path of the connection is proved again, or its proof has expired."""

    doubt: str | None
    """Why it is in doubt. None: it is proved."""


class StreamMute(Struct, frozen=True, gc=False, kw_only=True):
    """Output: the market moves and the stream is silent: request it again, or give the connection up."""

    stream: str
    reason: str
    abandon: bool
    """It was requested again before, in vain."""


class MarketDoubted(Struct, frozen=True, gc=False, kw_only=True):
    """Output: snapshots cannot be had, so the market may be closed."""

    symbol: str


class Resync(Struct, frozen=True, gc=False, kw_only=True):
    """The book that followed cannot be trusted: it needs another snapshot."""

    floor: int
    """The update id that the stream has shown: an older snapshot would leave a hole."""
    reached: int | None
    """The update id at which the newest frame ended, or None without one."""
    kept: Depth | None = None
    """The frame that showed it, which the next snapshot may join."""
    lived_us: int = 0
    """Time that the book had lived."""


class Unfit(Struct, frozen=True, gc=False):
    """The beginning that was found does not make a sound book. Its frames are spent up to this update id."""

    last: int


class Ask(Struct, frozen=True, gc=False):
    """Output: ask for a snapshot."""


class Begin(Struct, frozen=True, gc=False, kw_only=True):
    """Output: a book begins with this snapshot and these frames."""

    snapshot: Book
    frames: tuple[Depth, ...]
    may_straddle: bool
    """The next frame may begin before the book's next id."""


class Unavailable(Struct, frozen=True, gc=False):
    """Output: no usable snapshot. It is asked for again after `retry_us`."""

    reason: str
    retry_us: int
    doubted: bool = False
    """It could not be had at all, so the market may be closed."""


class StartedOver(Struct, frozen=True, gc=False):
    """Output: the update ids have started over, so evidence about the old ones is void."""


class Mute(Struct, frozen=True, gc=False):
    """Output: the market moves, and no frame comes."""

    reason: str

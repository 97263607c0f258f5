"""Events that wait one by one, because some of them may have to be merged or lost.

Theory. There are three lanes, first come first served in each: those that are kept, the changes of books that can be merged, and those that
may be dropped. A running number says which lane has the oldest event, so that fetching, dropping and merging cost the same however many
events wait. The kept lane has private and state events, and has a bound of its own.

Losses are told where they happened: an `EventsDropped` precedes the first event that was not lost. While losses and fetches alternate
it would double the work of a consumer that is too slow already, so losses that lie less than an eighth of the buffer apart are one run.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from backpack_proto.outputs import BookChanged, BookDesynced, BookSynced, EventsDropped
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.frames import Drop, FrameDropped
from backpack_proto.streams.payloads import Event
from backpack_proto.streams.unknown import UnknownPayload

from .policy import KEPT_BYTES, KEPT_EVENTS, SlowConsumer
from .waiting import Changes, Repeats, Waiting, weight_of

__all__ = ["DROPPABLE", "Lanes"]

DROPPABLE: Final = frozenset(
    {
        FrameDropped,
        BookChanged,
        UnknownPayload,
        *(kind for channel in Channel if channel.traits.droppable for kind in channel.traits.payloads),
    }
)
"""Market data, and the news of unusable frames: a consumer that is slow may lose some of them."""


class Lanes:
    """A bounded number of waiting events, and their losses."""

    def __init__(self, policy: SlowConsumer, limit: int, limit_bytes: int) -> None:
        """Begin empty. Under `block` only private events beyond their own bound are ever lost."""
        self._policy = policy
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._kept: deque[Waiting] = deque()
        self._books: deque[Waiting] = deque()
        self._market: deque[Waiting] = deque()
        self._number = 0
        self.waiting = 0
        """Number of events that wait."""
        self.bytes = 0
        """The memory that they take, estimated."""
        self._kept_bytes = 0
        self._mergeable: dict[str, Changes] = {}
        """The waiting change of each book into which the next one can be merged."""
        self._unusable: dict[tuple[Drop, str | None], Repeats] = {}
        """The waiting news of unusable frames, by kind."""
        self._lost = 0
        self._lost_private = 0
        """Losses that no `EventsDropped` has told yet."""
        self.telling = False
        """True when losses are still to be told."""
        self.since_told = limit
        """Events that were fetched since the last `EventsDropped`, those that did not wait here included."""
        self.taken_us = 0
        """Time at which the event came that was fetched last."""
        self.lost_private_us: int | None = None
        """When private events were lost last."""
        self.conflated = self.repeated = self.dropped = self.dropped_private = 0

    @property
    def oldest_us(self) -> int | None:
        """When the oldest event came, or None."""
        lane = self._oldest()
        return None if lane is None else lane[0].arrived_us

    def add(self, event: Event, now_us: int, *, behind: bool) -> None:
        """Add an event, and drop others that are too much with it. `behind` says that changes of books are to be merged."""
        kind = type(event)
        if kind not in DROPPABLE:
            self._keep(event, now_us)
        elif kind is BookChanged and self._policy is SlowConsumer.CONFLATE:
            self._add_change(event, now_us, behind=behind)  # type: ignore[arg-type]  # `kind` says so
        elif kind is FrameDropped:
            self._add_unusable(event, now_us)  # type: ignore[arg-type]  # `kind` says so
        else:
            weight = weight_of(event)
            self._make_room(weight)
            self._append(self._market, Waiting(self._number, event, weight, now_us))

    def take(self) -> Event | None:
        """Return the oldest event, or None."""
        if self.telling:
            told = self._tell_losses()
            if told is not None:
                return told
        lane = self._oldest()
        if lane is None:
            return None
        self.since_told += 1
        taken = self._remove(lane)
        self.taken_us = taken.arrived_us
        return taken.result()

    @property
    def _full(self) -> bool:
        return self.waiting >= self._limit or self.bytes >= self._limit_bytes

    def _keep(self, event: Event, now_us: int) -> None:
        if isinstance(event, BookDesynced | BookSynced):
            # A change is merged with changes of its own run only.
            self._mergeable.pop(event.stream, None)
        weight = weight_of(event)
        self._make_room(weight)
        while self._kept and (
            len(self._kept) >= max(KEPT_EVENTS, 2 * self._limit)
            or self._kept_bytes + weight > max(KEPT_BYTES, 2 * self._limit_bytes)
        ):
            self._remove(self._kept)
            self.dropped_private += 1
            self._lost_private += 1
            self.telling = True
            self.lost_private_us = now_us
        self._kept_bytes += weight
        self._append(self._kept, Waiting(self._number, event, weight, now_us))

    def _add_change(self, event: BookChanged, now_us: int, *, behind: bool) -> None:
        earlier = self._mergeable.get(event.stream)
        if earlier is not None and (behind or self._full):
            self.bytes -= earlier.weight
            earlier.add(event)
            self.bytes += earlier.weight
            self.conflated += 1
            return
        weight = weight_of(event)
        self._make_room(weight)
        # There is one for each run of each book, which is bounded by the number of books unless they fail again and again.
        while self._books and len(self._books) >= max(KEPT_EVENTS, self._limit):
            self._lose(self._books)
        changes = self._mergeable[event.stream] = Changes(self._number, event, weight, now_us)
        self._append(self._books, changes)

    def _add_unusable(self, event: FrameDropped, now_us: int) -> None:
        kind = (event.reason, event.stream)
        earlier = self._unusable.get(kind)
        if earlier is not None:
            earlier.add(event)
            self.repeated += 1
            return
        weight = weight_of(event)
        self._make_room(weight)
        repeats = self._unusable[kind] = Repeats(self._number, event, weight, now_us)
        self._append(self._market, repeats)

    def _append(self, lane: deque[Waiting], waiting: Waiting) -> None:
        lane.append(waiting)
        self._number += 1
        self.waiting += 1
        self.bytes += waiting.weight

    def _make_room(self, weight: int) -> None:
        """Drop the oldest, should one more event of this weight be too much."""
        if self._policy is SlowConsumer.BLOCK:
            return
        if self.waiting >= self._limit and self._market:
            self._lose(self._market)
        while self.bytes + weight > self._limit_bytes and self._market:
            self._lose(self._market)

    def _lose(self, lane: deque[Waiting]) -> None:
        self._remove(lane)
        self.dropped += 1
        self._lost += 1
        self.telling = True

    def _oldest(self) -> deque[Waiting] | None:
        """The lane of the event that came first."""
        oldest = self._kept or None
        for lane in (self._books, self._market):
            if lane and (oldest is None or lane[0].number < oldest[0].number):
                oldest = lane
        return oldest

    def _remove(self, lane: deque[Waiting]) -> Waiting:
        waiting = lane.popleft()
        self.waiting -= 1
        self.bytes -= waiting.weight
        if lane is self._kept:
            self._kept_bytes -= waiting.weight
        elif isinstance(waiting, Changes):
            if self._mergeable.get(waiting.event.stream) is waiting:
                del self._mergeable[waiting.event.stream]
        elif isinstance(waiting, Repeats):
            del self._unusable[waiting.event.reason, waiting.event.stream]
        return waiting

    def _tell_losses(self) -> EventsDropped | None:
        """The event for losses that are due to be told: private ones at once, others where they happened."""
        if self._lost_private:
            told = EventsDropped(count=self._lost_private, private=True)
            self._lost_private = 0
            self.telling = self._lost > 0
            return told
        lane = self._oldest()
        if lane is None or (lane is self._market and self.since_told >= self._limit // 8):
            told = EventsDropped(count=self._lost, private=False)
            self._lost = self.since_told = 0
            self.telling = False
            return told
        return None

"""Events on their way to one consumer that may be slow: bounded in number and memory, and open about what is lost.

Theory. Events wait in three lanes, first come first served in each: those that are kept, the changes of books that can be merged, and
those that may be dropped. A running number says which lane has the oldest event, so that fetching, dropping and merging cost the same
however many events wait. The kept lane has private and state events, and has a bound of its own.

Losses are told where they happened: an `EventsDropped` precedes the first event that was not lost. While losses and fetches alternate
it would double the work of a consumer that is too slow already, so losses that lie less than an eighth of the buffer apart are one run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import anyio

from backpack_proto.errors import LocalProtocolError
from backpack_proto.histogram import Histogram
from backpack_proto.outputs import BookChanged, BookDesynced, BookSynced, EventsDropped, UntypedReceived
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.frames import Drop, FrameDropped
from backpack_proto.streams.payloads import Event

from .policy import (
    BEHIND_US,
    BUFFER_BYTES,
    DOUBTED_US,
    KEPT_BYTES,
    KEPT_EVENTS,
    RECENT_US,
    DeliverySnapshot,
    SlowConsumer,
)
from .waiting import Changes, Repeats, Waiting, weight_of

__all__ = ["Delivery"]

_DROPPABLE: Final = frozenset(
    {
        FrameDropped,
        BookChanged,
        UntypedReceived,
        *(kind for channel in Channel if channel.traits.droppable for kind in channel.traits.payloads),
    }
)
"""Market data, and the news of unusable frames: a consumer that is slow may lose some of them."""


class Delivery:
    """A bounded queue of events; one task fills it, one consumer drains it."""

    def __init__(
        self,
        policy: SlowConsumer,
        limit: int,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        limit_bytes: int = BUFFER_BYTES,
        latency: Histogram | None = None,
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        """Nothing waits yet.

        Args:
            policy: what happens when the consumer is slow.
            limit: how many events may wait before that happens.
            pause: called when reading has to stop, under `block`.
            resume: called when it may go on.
            limit_bytes: how much memory they may take before that happens.
            latency: counts the microseconds from receipt to delivery of events that came from the wire.
            clock_us: the clock that says how long an event has waited.
        """
        self._policy = policy
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._pause = pause
        self._resume = resume
        self._latency = Histogram() if latency is None else latency
        self._clock_us = clock_us
        self._kept: deque[Waiting] = deque()
        self._books: deque[Waiting] = deque()
        self._market: deque[Waiting] = deque()
        self._number = 0
        self._waiting = 0
        self._bytes = 0
        self._kept_bytes = 0
        self._mergeable: dict[str, Changes] = {}
        """The waiting change of each book into which the next one can be merged."""
        self._unusable: dict[tuple[Drop, str | None], Repeats] = {}
        """The waiting news of unusable frames, by kind."""
        self._lost = 0
        self._lost_private = 0
        """Losses that no `EventsDropped` has told yet."""
        self._since_told = limit
        """Events that were fetched since the last `EventsDropped`."""
        self._paused_us: int | None = None
        """Since when reading is paused."""
        self._lost_private_us: int | None = None
        """When private events were lost last."""
        self.begun = False
        """Whether an event has ever been asked for."""
        self.loop: Callable[[], object | None] | None = None
        """Gives the loop that fetches, None once that is left; there is nothing to call while nobody has begun one."""
        self._fetched = False
        """Whether an event was asked for since the last batch."""
        self._fetched_us = 0
        """The last batch before which one was."""
        self._finished = False
        self.awaited = False
        """Whether a task waits for the next event."""
        self._arrived = anyio.Event()
        self._conflated = self._repeated = self._dropped = self._dropped_private = self._pauses = 0

    @property
    def snapshot(self) -> DeliverySnapshot:
        """The queue at this moment."""
        return DeliverySnapshot(
            waiting=self._waiting,
            waiting_bytes=self._bytes,
            behind_us=self._behind_us(self._clock_us()),
            conflated=self._conflated,
            repeated=self._repeated,
            dropped=self._dropped,
            dropped_private=self._dropped_private,
            pauses=self._pauses,
        )

    def troubles(self, *, alone: bool) -> list[str]:
        """Return the reasons against health that lie in this queue.

        Events that nobody ever asks for are late and lost to nobody, unless the queue is `alone`: then its consumer is awaited.
        """
        now_us = self._clock_us()
        found = []
        if self._paused_us is not None and (paused_us := now_us - self._paused_us) >= DOUBTED_US:
            found.append(
                f"reading has been paused for {paused_us / 1e6:.1f} s, until {self._waiting} waiting events are fetched"
            )
        elif self._attended(now_us) and (behind_us := self._behind_us(now_us)) >= DOUBTED_US:
            found.append(f"events are fetched {behind_us / 1e6:.1f} s late, {self._waiting} of them wait")
        lost_us = self._lost_private_us
        if lost_us is not None and now_us - lost_us < RECENT_US and (self.begun or alone):
            found.append(f"{self._dropped_private} private or state events were dropped, for they were not fetched")
        return found

    def note(self) -> str | None:
        """Return what is worth knowing of this queue and is no reason against health: events wait, and nobody has asked for one yet."""
        if self.begun or self._paused_us is not None or self._behind_us(self._clock_us()) < DOUBTED_US:
            return None
        return f"no event has been asked for yet, {self._waiting} wait"

    def put(self, events: Iterable[Event]) -> None:
        """Add a batch; what is too much is dealt with at once, and reading is paused after the fact."""
        now_us = self._clock_us()
        behind = self._behind_us(now_us) >= BEHIND_US
        if self._fetched:
            self._fetched, self._fetched_us = False, now_us
        for event in events:
            self._add(event, now_us, behind=behind)
        if self._policy is SlowConsumer.BLOCK and self._paused_us is None and self._full:
            self._paused_us = now_us
            self._pauses += 1
            self._pause()
        self._arrived.set()

    def finish(self) -> None:
        """Take no more events: whoever waits for one is told so."""
        self._finished = True
        self._let_read()
        self._arrived.set()

    async def take(self) -> Event | None:
        """Wait for the next event; None when nothing more will come.

        Raises:
            LocalProtocolError: another task waits for it already.
        """
        if self.awaited:
            raise LocalProtocolError(
                "another task waits for the next event: one consumer iterates, others use `client.stream(...)`"
            )
        self.awaited = True
        try:
            while (event := self.take_nowait()) is None and not self._finished:
                self._arrived = anyio.Event()
                await self._arrived.wait()
        finally:
            self.awaited = False
        return event

    def take_nowait(self) -> Event | None:
        """Return the next event, or None when none waits."""
        self.begun = self._fetched = True
        if self._lost or self._lost_private:
            told = self._tell_losses()
            if told is not None:
                return told
        lane = self._oldest()
        if lane is None:
            return None
        waiting = self._remove(lane)
        if self._paused_us is not None and self._waiting <= self._limit // 2 and self._bytes <= self._limit_bytes // 2:
            self._let_read()
        self._since_told += 1
        event = waiting.result()
        received_us = getattr(event, "received_us", None)
        if received_us is not None:
            self._latency.record(time.time_ns() // 1000 - received_us)
        return event

    @property
    def _full(self) -> bool:
        return self._waiting >= self._limit or self._bytes >= self._limit_bytes

    def _attended(self, now_us: int) -> bool:
        """Whether somebody is at it: events that nobody wants any more are not late."""
        if self.loop is not None:
            return self.loop() is not None
        return self.begun and (self._fetched or now_us - self._fetched_us < RECENT_US)

    def _behind_us(self, now_us: int) -> int:
        lane = self._oldest()
        return 0 if lane is None else now_us - lane[0].arrived_us

    def _add(self, event: Event, now_us: int, *, behind: bool) -> None:
        kind = type(event)
        if kind not in _DROPPABLE:
            self._keep(event, now_us)
        elif kind is BookChanged and self._policy is SlowConsumer.CONFLATE:
            self._add_change(event, now_us, behind=behind)  # type: ignore[arg-type]  # `kind` says so
        elif kind is FrameDropped:
            self._add_unusable(event, now_us)  # type: ignore[arg-type]  # `kind` says so
        else:
            weight = weight_of(event)
            self._make_room(weight)
            self._append(self._market, Waiting(self._number, event, weight, now_us))

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
            self._dropped_private += 1
            self._lost_private += 1
            self._lost_private_us = now_us
        self._kept_bytes += weight
        self._append(self._kept, Waiting(self._number, event, weight, now_us))

    def _add_change(self, event: BookChanged, now_us: int, *, behind: bool) -> None:
        earlier = self._mergeable.get(event.stream)
        if earlier is not None and (behind or self._full):
            self._bytes -= earlier.weight
            earlier.add(event)
            self._bytes += earlier.weight
            self._conflated += 1
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
            self._repeated += 1
            return
        weight = weight_of(event)
        self._make_room(weight)
        repeats = self._unusable[kind] = Repeats(self._number, event, weight, now_us)
        self._append(self._market, repeats)

    def _append(self, lane: deque[Waiting], waiting: Waiting) -> None:
        lane.append(waiting)
        self._number += 1
        self._waiting += 1
        self._bytes += waiting.weight

    def _make_room(self, weight: int) -> None:
        """Drop the oldest, should one more event of this weight be too much."""
        if self._policy is SlowConsumer.BLOCK:
            return
        if self._waiting >= self._limit and self._market:
            self._lose(self._market)
        while self._bytes + weight > self._limit_bytes and self._market:
            self._lose(self._market)

    def _lose(self, lane: deque[Waiting]) -> None:
        self._remove(lane)
        self._dropped += 1
        self._lost += 1

    def _oldest(self) -> deque[Waiting] | None:
        """The lane of the event that came first."""
        oldest = self._kept or None
        for lane in (self._books, self._market):
            if lane and (oldest is None or lane[0].number < oldest[0].number):
                oldest = lane
        return oldest

    def _remove(self, lane: deque[Waiting]) -> Waiting:
        waiting = lane.popleft()
        self._waiting -= 1
        self._bytes -= waiting.weight
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
            return told
        lane = self._oldest()
        if lane is None or (lane is self._market and self._since_told >= self._limit // 8):
            told = EventsDropped(count=self._lost, private=False)
            self._lost = self._since_told = 0
            return told
        return None

    def _let_read(self) -> None:
        if self._paused_us is not None:
            self._paused_us = None
            self._resume()

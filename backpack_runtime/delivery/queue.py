"""Events on their way to one consumer that may be slow: bounded in number and memory, with reported losses.

Theory. Until events have to be merged or lost, they wait straight: in the batches in which they came, which are cheap to add and to
fetch. Once some may have to be, all waiting events go into `Lanes`, until those are empty again.

Of every few events that are fetched one is looked at: it says for all of them how late they are. The longer the consumer takes for an
event, the fewer they are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import length_hint
from typing import Final

from msgspec import Struct

from backpack_proto.buckets import Buckets
from backpack_proto.errors import LocalProtocolError
from backpack_proto.histogram import Histogram
from backpack_proto.outputs import EventsDropped
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import Event
from backpack_proto.streams.unknown import UnknownPayload

from .arrival import Arrival, arrival_here
from .lanes import DROPPABLE, Lanes
from .policy import BEHIND_US, BUFFER_BYTES, DOUBTED_US, RECENT_US, DeliverySnapshot, SlowConsumer
from .waiting import EVENT_BYTES, weight_of

__all__ = ["PLAIN", "Delivery"]

PLAIN: Final = DROPPABLE - {FrameDropped, UnknownPayload}
"""Market data as they come, which are of no concern to anybody but their consumer."""
_BYTES_OF_WIRE: Final = 8
"""The memory for the values of a byte of a frame: of a price level, 20 bytes, two texts and a pair of them."""
_LOOK_US: Final = 250
"""A consumer that takes longer for the events between two looks has fewer of them unseen."""
_MOST_UNSEEN: Final = 64
"""One event of so many is looked at, at the least."""


class _Batch(Struct, frozen=True, gc=False):
    """Events that wait straight."""

    events: Sequence[Event]
    weight: int
    arrived_us: int


_NO_BATCH: Final = _Batch((), 0, 0)


class Delivery:
    """A bounded queue of events. One task fills it, one consumer drains it."""

    def __init__(
        self,
        policy: SlowConsumer,
        limit: int,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        tell: Callable[[EventsDropped], None] = lambda _: None,
        limit_bytes: int = BUFFER_BYTES,
        latency: Histogram | None = None,
        clock_ns: Callable[[], int] | None = None,
    ) -> None:
        """Begin empty.

        Args:
            policy: for a slow consumer.
            limit: number of events that may wait before it applies.
            pause: called when reading has to stop, under `block`.
            resume: called when it may go on.
            tell: hears of losses when they are fetched.
            limit_bytes: memory that they may take before it applies.
            latency: counts the microseconds from receipt to delivery of events that came from the wire.
            clock_ns: the clock that says how long an event has waited. The machine's monotonic one unless given.
        """
        self._policy = policy
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._pause = pause
        self._resume = resume
        self._tell = tell
        self._latency = Histogram() if latency is None else latency
        self.waits = Buckets()
        """Microseconds that events from the wire have waited here until they were fetched."""
        self._clock_ns = time.monotonic_ns if clock_ns is None else clock_ns
        self.unseen: Iterator[Event] = iter(())
        """Gives the events that may be fetched without a look."""
        self._stride = 1
        """One event of so many is looked at, where they come straight."""
        self._looked_us = 0
        self._unlooked = 0
        """Number of events in `_straight` at the last look, and of those in batches that were begun, or fetched from lanes, since."""
        self._straight: Iterator[Event] = iter(())
        self._batch = _NO_BATCH
        """The one that `_straight` goes through."""
        self._batches: deque[_Batch] = deque()
        """Those behind it."""
        self._behind_batch = 0
        """Number of their events."""
        self._behind_batch_bytes = 0
        self._lanes = Lanes(policy, limit, limit_bytes)
        self._paused_us: int | None = None
        """Since when reading is paused."""
        self.begun = False
        """True when an event has ever been asked for."""
        self.loop: Callable[[], object | None] | None = None
        """Gives the loop that fetches, None once that is left. It is None before the first one."""
        self._fetched = False
        """True when an event was asked for since the last batch."""
        self._fetched_us = 0
        """The last batch before which one was."""
        self.finished = False
        """True when it takes no more events."""
        self.failure: BaseException | None = None
        """The error that ended it, if it was not reported elsewhere."""
        self.awaited = False
        """True when a task waits for the next event."""
        self._arrival: Arrival | None = None
        self._pauses = 0

    @property
    def snapshot(self) -> DeliverySnapshot:
        """The queue at this moment."""
        lanes = self._lanes
        return DeliverySnapshot(
            waiting=self._waiting,
            waiting_bytes=self._bytes,
            behind_us=self._behind_us(self._clock_ns() // 1000),
            conflated=lanes.conflated,
            repeated=lanes.repeated,
            dropped=lanes.dropped,
            dropped_private=lanes.dropped_private,
            pauses=self._pauses,
        )

    @property
    def reads_wait(self) -> bool:
        """True when whole reads wait behind the one that is being fetched."""
        return bool(self._batches)

    def troubles(self, *, alone: bool) -> list[str]:
        """Return the reasons against health that lie in this queue.

        Without a consumer, events are neither late nor lost, unless the queue is `alone`: then its consumer is awaited.
        """
        now_us = self._clock_ns() // 1000
        found = []
        if self._paused_us is not None and (paused_us := now_us - self._paused_us) >= DOUBTED_US:
            found.append(
                f"reading has been paused for {paused_us / 1e6:.1f} s, until {self._waiting} waiting events are fetched"
            )
        elif self._attended(now_us) and (behind_us := self._behind_us(now_us)) >= DOUBTED_US:
            found.append(f"events are fetched {behind_us / 1e6:.1f} s late, {self._waiting} of them wait")
        lost_us = self._lanes.lost_private_us
        if lost_us is not None and now_us - lost_us < RECENT_US and (self.begun or alone):
            lost = self._lanes.dropped_private
            found.append(f"{lost} private or state events were dropped, for they were not fetched")
        return found

    def note(self) -> str | None:
        """Return notes about this queue that are not reasons against health: events wait, and the consumer has not begun."""
        if self.begun or self._paused_us is not None or self._behind_us(self._clock_ns() // 1000) < DOUBTED_US:
            return None
        return f"no event has been asked for yet, {self._waiting} wait"

    def put(self, events: Sequence[Event], wire_bytes: int | None = None) -> None:
        """Add a batch, which stays as it is. An excess is dealt with at once, and reading is paused after the fact.

        `wire_bytes` is the size of the frames of the batch, to estimate the memory of market data by. Other events are weighed.
        """
        now_us = self._clock_ns() // 1000
        if self._fetched:
            self._fetched, self._fetched_us = False, now_us
        if not events:
            return
        count = len(events)
        plain = PLAIN.issuperset(map(type, events))
        estimate = None if wire_bytes is None or not plain else EVENT_BYTES * count + _BYTES_OF_WIRE * wire_bytes
        weight = sum(map(weight_of, events)) if estimate is None else estimate
        lanes = self._lanes
        waited = length_hint(self._straight) + self._behind_batch + lanes.waiting
        # Nothing waits for a consumer that keeps up.
        behind = waited > 0 and self._behind_us(now_us) >= BEHIND_US
        total_bytes = self._bytes + weight if waited else weight
        waiting = waited + count
        full = waiting >= self._limit or total_bytes >= self._limit_bytes
        fits = not behind and waiting <= self._limit and total_bytes <= self._limit_bytes
        if self._goes_straight(events, plain=plain, fits=fits):
            batch = _Batch(events, weight, now_us)
            if waited:
                self._batches.append(batch)
                self._behind_batch += count
                self._behind_batch_bytes += weight
            else:
                self._begin(batch)
        else:
            self._leave_straight()
            for event in events:
                lanes.add(event, now_us, behind=behind)
            full = self._waiting >= self._limit or self._bytes >= self._limit_bytes
        if full and self._policy is SlowConsumer.BLOCK and self._paused_us is None:
            self._paused_us = now_us
            self._pauses += 1
            # Any of those that might be fetched unseen may be the one that lets reading go on.
            self.look_at_next()
            self._pause()
        if self._arrival is not None:
            self._arrival.set()

    def finish(self, failure: BaseException | None = None) -> None:
        """Take no more events: a waiting consumer is told so, and of `failure` behind the last event."""
        self.finished = True
        self.failure = self.failure or failure
        self._let_read()
        if self._arrival is not None:
            self._arrival.set()

    async def arrival(self) -> None:
        """Wait for events that can be taken. At the end there are none afterwards.

        Raises:
            LocalProtocolError: another task waits already.
        """
        if self.awaited:
            raise LocalProtocolError(
                "another task waits for the next event: one consumer iterates, others use `client.stream(...)`"
            )
        self.awaited = True
        if self._arrival is None:
            self._arrival = arrival_here()
        try:
            await self._arrival.next()
        finally:
            self.awaited = False

    def take(self) -> Event | None:
        """Return the next event, or None."""
        self.begun = self._fetched = True
        event = next(self._straight, None)
        if event is None and (self._batches or self._lanes.waiting or self._lanes.telling):
            event = self._next_event()
        if event is None:
            return None
        if self._paused_us is not None:
            self._let_read_if_half_is_fetched()
        self._look(event)
        return event

    def take_batch(self) -> Sequence[Event] | None:
        """Return the events of one read, or all that a slow consumer has left waiting, or None."""
        self.begun = self._fetched = True
        first = next(self._straight, None) or self._next_event()
        if first is None:
            return None
        events = [first, *self._straight]
        if self._lanes.waiting:
            events += iter(self._next_of_lanes, None)
        if self._paused_us is not None:
            self._let_read_if_half_is_fetched()
        self._look(events[-1])
        return events

    def _let_read_if_half_is_fetched(self) -> None:
        if self._waiting <= self._limit // 2 and self._bytes <= self._limit_bytes // 2:
            self._let_read()

    @property
    def _idle_fetches(self) -> int:
        """Number of events that can be fetched without letting reading go on."""
        # The memory of waiting events becomes less with the last event of a batch.
        of_bytes = length_hint(self._straight) if self._bytes > self._limit_bytes // 2 else 0
        return max(self._waiting - self._limit // 2, of_bytes, 1) - 1

    def look_at_next(self) -> None:
        """Let no event be fetched unseen before the next one is looked at."""
        self._stride = 1
        self.unseen = iter(())

    def _next_event(self) -> Event | None:
        """Return the first event of the next batch, or one of the lanes."""
        if not self._batches:
            self._batch = _NO_BATCH
            return self._next_of_lanes()
        batch = self._batches.popleft()
        self._behind_batch -= len(batch.events)
        self._behind_batch_bytes -= batch.weight
        self._begin(batch)
        return next(self._straight, None)

    def _begin(self, batch: _Batch) -> None:
        """Let the events of a batch be fetched next: those of the one before are."""
        count = len(batch.events)
        self._batch = batch
        self._straight = iter(batch.events)
        self._unlooked += count
        self._lanes.since_told += count

    def _next_of_lanes(self) -> Event | None:
        if not self._lanes.waiting and not self._lanes.telling:
            return None
        event = self._lanes.take()
        self._unlooked += event is not None
        if type(event) is EventsDropped:
            self._tell(event)
        return event

    def _look(self, event: Event) -> None:
        """Count how late an event is, for itself and for those before it that were fetched unseen."""
        left = length_hint(self._straight)
        count = self._unlooked - left
        self._unlooked = left
        now_us = self._clock_ns() // 1000
        received_us = getattr(event, "received_us", None)
        if received_us is not None:
            self._latency.record(time.time_ns() // 1000 - received_us, count)
            self.waits.record(now_us - (self._lanes.taken_us if self._batch is _NO_BATCH else self._batch.arrived_us), count)
        if now_us - self._looked_us < _LOOK_US:
            self._stride = min(2 * self._stride, _MOST_UNSEEN)
            unseen = self._stride - 1
            self.unseen = islice(self._straight, unseen if self._paused_us is None else min(unseen, self._idle_fetches))
        else:
            self.look_at_next()
        self._looked_us = now_us

    @property
    def _waiting(self) -> int:
        """Number of events that wait."""
        return length_hint(self._straight) + self._behind_batch + self._lanes.waiting

    @property
    def _bytes(self) -> int:
        """The memory of all that waits. A batch counts until the last of its events is fetched."""
        current = self._batch.weight if length_hint(self._straight) else 0
        return current + self._behind_batch_bytes + self._lanes.bytes

    def _attended(self, now_us: int) -> bool:
        """Return whether it has a consumer: events that are not wanted any more are not late."""
        if self.loop is not None:
            return self.loop() is not None
        return self.begun and (self._fetched or now_us - self._fetched_us < RECENT_US)

    def _behind_us(self, now_us: int) -> int:
        """Return the time that the oldest event has waited."""
        if length_hint(self._straight):
            return now_us - self._batch.arrived_us
        if self._batches:
            return now_us - self._batches[0].arrived_us
        oldest_us = self._lanes.oldest_us
        return 0 if oldest_us is None else now_us - oldest_us

    def _goes_straight(self, events: Sequence[Event], *, plain: bool, fits: bool) -> bool:
        """Return whether a batch can wait as it is: without merging or losses, one that is late or too much (not `fits`) included."""
        if self._lanes.waiting or self._lanes.telling:
            return False
        if plain:
            return fits or self._policy is SlowConsumer.BLOCK
        # News of unusable frames are merged at any time, and private events have a bound of their own.
        return fits and FrameDropped not in map(type, events)

    def _leave_straight(self) -> None:
        """Put all that waits straight into the lanes."""
        current = tuple(self._straight)
        self._unlooked -= len(current)
        self._lanes.since_told -= len(current)
        batches = [_Batch(current, 0, self._batch.arrived_us), *self._batches]
        self._batch = _NO_BATCH
        self._batches.clear()
        self._behind_batch = self._behind_batch_bytes = 0
        for batch in batches:
            for event in batch.events:
                self._lanes.add(event, batch.arrived_us, behind=False)

    def _let_read(self) -> None:
        if self._paused_us is not None:
            self._paused_us = None
            self._resume()

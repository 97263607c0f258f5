"""The consumers' side: iterators of events, one queue for each, and the one place that hands every event to all of them.

Theory. An event belongs to the loop that fetches it, so two loops over one queue would each get a part of the events, and one of two waiting
tasks would never wake up. Therefore one loop runs at a time: it holds an iterator of its own, which ends when the loop is left, and until
then a second loop is refused. Each further consumer has a stream of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar
from weakref import finalize, ref

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from backpack_proto.buckets import Buckets
from backpack_proto.errors import ClientClosed, LocalProtocolError
from backpack_proto.histogram import Histogram
from backpack_proto.outputs import EventsDropped
from backpack_proto.streams.payloads import Event

from .policy import NOTHING_WAITS, DeliverySnapshot, SlowConsumer
from .queue import Delivery
from .totals import together

__all__ = ["TURN_NS", "EventStream", "Outlets", "ended_by"]

Fetched = TypeVar("Fetched")
LoopT = TypeVar("LoopT", bound="_Loop[Any]")

TURN_NS: Final = 2_000_000
"""A consumer that never waits lets the other tasks run after so many nanoseconds: they are not to notice it, and a turn of the loop
costs as much as ten events."""
LONG_TURN_NS: Final = 10_000_000
"""The same while more than one read waits: another one would be made meanwhile, so that ever more wait, and events grow cold in memory."""


class EventStream:
    """Events of a client for one consumer, with a queue and a policy of their own.

        async with client.stream(Trade, BookTicker) as stream:
            async for event in stream:
                ...

    An async iterator that ends when it or the client is closed, behind the events that waited then. It has the events that happen from
    its making on. `EventsDropped` is among them, for any kinds.
    """

    _delivery: Delivery
    _close: Callable[[], object]
    _turn_ns = 0
    """Since when this consumer has not let anybody else run."""

    @property
    def delivery(self) -> DeliverySnapshot:
        """Events that wait for the consumer now, and those lost to its slowness."""
        return self._delivery.snapshot

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more events. An iteration ends behind those that wait."""
        self._close()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Every event, in order, until the end. After a loop was left, the next one goes on where it stopped.

        Raises:
            LocalProtocolError: another loop runs.
        """
        return self._begin(_OneByOne(self._fetch, self._delivery, self._leave))

    def _begin(self, loop: LoopT) -> LoopT:
        if self._running is not None:
            raise LocalProtocolError(
                "the events are being iterated over already: one loop at a time, others use `client.stream(...)`"
            )
        self._delivery.loop = ref(loop)
        # Whose loop it is shows with its first event.
        self._delivery.look_at_next()
        return loop

    def batches(self) -> AsyncIterator[Sequence[Event]]:
        """Every event, in lists: those of one read of the socket together, and all that waited for a consumer that was slow.

        Raises:
            LocalProtocolError: a loop over the events runs.
        """
        return self._begin(_Loop[Sequence[Event]](self._fetch, self._delivery.take_batch, self._leave))

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            LocalProtocolError: another task waits for it, or runs a loop over the events.
        """
        loop = self._running
        if loop is not None and loop.task_id not in {None, anyio.get_current_task().id}:
            raise LocalProtocolError(
                "another task iterates over the events: one consumer iterates, others use `client.stream(...)`"
            )
        if loop is None:
            self._delivery.loop = None
        return await self._fetch(self._delivery.take)

    @property
    def _running(self) -> _Loop[Any] | None:
        """The loop that has not been left."""
        loop = None if self._delivery.loop is None else self._delivery.loop()
        return loop if isinstance(loop, _Loop) else None

    def _leave(self, loop: _Loop[Any]) -> None:
        """Let another loop begin."""
        if self._running is loop:
            self._delivery.loop = _no_loop

    async def _give_way(self) -> None:
        """Let others run: a consumer that never waits must not keep the connection from being looked after.

        Not while another task waits for an event: a second one is refused, whichever of the two would run first.
        """
        if not self._delivery.awaited:
            await anyio.lowlevel.checkpoint()
            self._turn_ns = time.monotonic_ns()

    async def _fetch(self, take: Callable[[], Fetched | None]) -> Fetched:
        """Return the result of `take` for the rightful consumer, and wait for it if need be."""
        delivery = self._delivery
        turn_ns = time.monotonic_ns() - self._turn_ns
        if turn_ns > TURN_NS and (turn_ns > LONG_TURN_NS or not delivery.reads_wait):
            await self._give_way()
        # An event belongs to the task that waits for it, though it may not have been woken yet. `arrival` refuses everybody else.
        fetched = None if delivery.awaited else take()
        while fetched is None and (delivery.awaited or not delivery.finished):
            await delivery.arrival()
            self._turn_ns = time.monotonic_ns()
            fetched = take()
        if fetched is None and delivery.failure is not None:
            raise ended_by(delivery.failure)
        if fetched is None:
            raise StopAsyncIteration
        return fetched


class _OfQueue(EventStream):
    """The events that are put into one queue. `close` is called once, when the consumer has closed its stream or let go of it."""

    def __init__(self, delivery: Delivery, close: Callable[[], None]) -> None:
        self._delivery = delivery
        self._close = finalize(self, close)
        self._close.atexit = False


class _Loop(Generic[Fetched]):
    """One `async for`."""

    __slots__ = ("__weakref__", "_fetch", "_leave", "_take", "task_id")

    def __init__(
        self,
        fetch: Callable[[Callable[[], Fetched | None]], Awaitable[Fetched]],
        take: Callable[[], Fetched | None],
        leave: Callable[[_Loop[Any]], None],
    ) -> None:
        self._fetch = fetch
        self._take = take
        self._leave = leave
        self.task_id: int | None = None
        """The task that runs it, once it has begun."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Fetched:
        if self.task_id is None:
            self.task_id = anyio.get_current_task().id
        try:
            return await self._fetch(self._take)
        except BaseException:
            # The end, or a cancellation: the loop is left, though the traceback may keep its iterator for a while.
            self._leave(self)
            raise


class _OneByOne(_Loop[Event]):
    """A loop over events, which fetches most of them without a look."""

    __slots__ = ("_delivery",)

    def __init__(
        self,
        fetch: Callable[[Callable[[], Event | None]], Awaitable[Event]],
        delivery: Delivery,
        leave: Callable[[_Loop[Any]], None],
    ) -> None:
        super().__init__(fetch, delivery.take, leave)
        self._delivery = delivery

    async def __anext__(self) -> Event:
        event = next(self._delivery.unseen, None)
        return await super().__anext__() if event is None else event


class Outlets:
    """All queues of one client, and its callback. Reading pauses while one of the queues asks for it."""

    def __init__(
        self,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        tell: Callable[[Event], None] = lambda _: None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        """There is no queue yet.

        Args:
            pause: stops reading.
            resume: continues it.
            tell: hears of losses when they are fetched.
            on_event: is called with every event at once.
        """
        self._tell = tell
        self._on_event = on_event
        self._uncalled: deque[tuple[Sequence[Event], int, bool]] = deque()
        """Events that came while the callback was running, which may have caused them."""
        self._calling = False
        self.receipt_to_event = Buckets()
        """Microseconds from receipt to the moment at which all events of a read are put here. It counts events."""
        self.event_to_consumer = Buckets()
        """Microseconds from that moment to delivery, in all queues."""
        self.latency = Histogram()
        """Microseconds from receipt to delivery, in all queues."""
        self._pause = pause
        self._resume = resume
        self._paused = 0
        self._all: list[tuple[Delivery, tuple[type[Event], ...]]] = []
        self._finished = False
        self._closed = NOTHING_WAITS
        """Counters of the queues that were closed."""

    @property
    def snapshot(self) -> DeliverySnapshot:
        """All queues together, with the losses of those that were closed."""
        found = self._closed
        for delivery, _ in self._all:
            found = together(found, delivery.snapshot)
        return found

    @property
    def troubles(self) -> list[str]:
        """The reasons against health that lie in the consumers."""
        alone = not any(delivery.begun for delivery, _ in self._all)
        return [f"{_name(kinds)}: {trouble}" for delivery, kinds in self._all for trouble in delivery.troubles(alone=alone)]

    @property
    def notes(self) -> list[str]:
        """Name each queue whose events have no consumer."""
        return [f"{_name(kinds)}: {note}" for delivery, kinds in self._all if (note := delivery.note()) is not None]

    def open(self, policy: SlowConsumer, limit: int, limit_bytes: int, kinds: tuple[type[Event], ...] = ()) -> EventStream:
        """Make a queue of the events of some kinds, or of all, and return its consumer's side."""
        delivery = Delivery(
            policy,
            limit,
            limit_bytes=limit_bytes,
            pause=self._stop_reading,
            resume=self._read_on,
            tell=self._tell,
            latency=self.latency,
        )
        delivery.waits = self.event_to_consumer
        wanted: tuple[type[Event], ...] = (*kinds, EventsDropped) if kinds else (Event,)
        outlet = (delivery, wanted)
        if self._finished:
            delivery.finish()
        self._all.append(outlet)

        def close() -> None:
            if outlet in self._all:
                self._closed = replace(together(self._closed, delivery.snapshot), waiting=0, waiting_bytes=0, behind_us=0)
                self._all.remove(outlet)
            # A queue without a consumer must not stop the others.
            delivery.finish()

        return _OfQueue(delivery, close)

    def put(self, events: Sequence[Event], wire_bytes: int | None = None) -> None:
        """Hand a batch to the callback and to every queue, and with it the size of its frames, if that is known."""
        if self._on_event is not None:
            self._uncalled.append((events, time.time_ns() // 1000, wire_bytes is not None))
            if not self._calling:
                self._call(self._on_event)
        else:
            self._measure(events, time.time_ns() // 1000, plain=wire_bytes is not None)
        # A copy, for a consumer that is collected just now takes its queue off.
        for delivery, kinds in tuple(self._all):
            if kinds[0] is Event:
                delivery.put(events, wire_bytes)
            elif wanted := [event for event in events if isinstance(event, kinds)]:
                delivery.put(wanted)

    def finish(self, failure: BaseException | None = None) -> None:
        """Nothing more will come: every iteration ends behind the events that wait, by an error where there was a `failure`."""
        self._finished = True
        for delivery, _ in tuple(self._all):
            delivery.finish(failure)

    def _call(self, on_event: Callable[[Event], object]) -> None:
        """Call back with each event, in order. An error in it ends the client."""
        self._calling = True
        waits_us: list[int] = []
        try:
            while self._uncalled:
                events, put_us, plain = self._uncalled.popleft()
                self._measure(events, put_us, plain=plain)
                for event in events:
                    received_us = getattr(event, "received_us", None)
                    if received_us is not None:
                        called_us = time.time_ns() // 1000
                        self.latency.record(called_us - received_us)
                        waits_us.append(called_us - put_us)
                    on_event(event)
        finally:
            self.event_to_consumer.record_sorted(sorted(waits_us))
            self._calling = False
            self._uncalled.clear()

    def _measure(self, events: Sequence[Event], put_us: int, *, plain: bool) -> None:
        """Count the time from receipt of the events of one read. All of them came from the wire when they are `plain` market data."""
        received_us = getattr(events[-1], "received_us", None)
        if received_us is not None:
            count = len(events) if plain else sum(getattr(event, "received_us", None) is not None for event in events)
            self.receipt_to_event.record(put_us - received_us, count)

    def _stop_reading(self) -> None:
        self._paused += 1
        if self._paused == 1:
            self._pause()

    def _read_on(self) -> None:
        self._paused -= 1
        if self._paused == 0:
            self._resume()


def ended_by(failure: BaseException) -> ClientClosed:
    """Return the error for the next use of a client that an error has ended, before it was reported."""
    error = ClientClosed(f"the client was ended by an error, {type(failure).__name__}: {failure}")
    error.__cause__ = failure
    return error


def _no_loop() -> None:
    """Stand for a loop that was left."""


def _name(kinds: tuple[type[Event], ...]) -> str:
    """Say whose queue it is."""
    names = [kind.__name__ for kind in kinds if kind is not EventsDropped]
    return "consumer of all events" if names == [Event.__name__] else f"consumer of {', '.join(names)}"

"""Delivers the session's events one after the other, whichever task brought them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

from backpack_proto.buckets import Buckets
from backpack_proto.histogram import Histogram
from backpack_proto.inputs import Command, TextReceived
from backpack_proto.streams.payloads import Event
from backpack_runtime.cryptofeed.logs import LOG

__all__ = ["Deliver", "EventQueue"]

CLOSING_SECONDS = 2.0
"""Time that the stopper of the feed waits for a callback that is running."""

_TURN: ContextVar[object] = ContextVar("_TURN", default=None)
"""The delivery in which the code that runs was called, by a callback or by a task that a callback has started."""

Deliver: TypeAlias = Callable[[Event, bytes | None, float], Awaitable[Sequence[Command]]]
"""Takes an event, the frame that it was read from, if it was, and when that was received, in seconds since the epoch. Returns
commands for the session."""


class EventQueue:
    """Events that have not been delivered."""

    def __init__(self, deliver: Deliver, command: Callable[[Command, float], Awaitable[None]]) -> None:
        """`command` gives the session a command. The events that follow are put behind the others."""
        self._deliver = deliver
        self._command = command
        self._events: deque[tuple[Event, bytes | None, float, int]] = deque()
        self._delivering = asyncio.Lock()
        self._turn: object = None
        """The delivery that was begun last."""
        self._closing = False
        self.receipt_to_event = Buckets()
        """Microseconds from the read until the events are put here."""
        self.event_to_consumer = Buckets()
        """Microseconds from that moment to the end of the callbacks."""
        self.latency = Histogram()
        """Microseconds from the read (`received_us`) to the end of the callbacks, by the local clock: the last callback
        has returned by then, so a slow callback counts for its own event and for those that wait behind it."""

    def __len__(self) -> int:
        """Number of events that wait."""
        return len(self._events)

    def put(self, event: Event, data: bytes | None, receipt: float) -> None:
        """Put an event behind the others."""
        self._events.append((event, data, receipt, self._put_us([event])))

    def put_all(self, events: Sequence[Any], frames: Sequence[TextReceived], ends: Iterable[int], receipt: float) -> None:
        """Put the events of some frames behind the others. `ends` says how many there are after each frame."""
        put = self._events.append
        start = 0
        put_us = self._put_us(events)
        for frame, end in zip(frames, ends, strict=True):
            while start < end:
                put((events[start], frame.data, receipt, put_us))
                start += 1

    def _put_us(self, events: Sequence[Any]) -> int:
        """Return this moment, after counting the time that events of one read took to get here."""
        now_us = time.time_ns() // 1000
        received_us = getattr(events[-1], "received_us", None) if events else None
        if received_us is not None:
            self.receipt_to_event.record(now_us - received_us, len(events))
        return now_us

    async def deliver(self, *, waits: bool = True) -> None:
        """Deliver all events. The task that brought events waits for it, so a slow callback slows down the reading.

        With `waits=False` a task that delivers already is left to do it.

        Raises:
            Exception: one was raised. It does not affect the other events, and is raised behind the last.
        """
        if not self._events or (not waits and self._delivering.locked()):
            return
        failures: list[Exception] = []
        latencies_us: list[int] = []
        waits_us: list[int] = []
        async with self._delivering:
            self._turn = turn = object()
            _TURN.set(turn)
            while self._events:
                event, data, receipt, put_us = self._events.popleft()
                try:
                    commands = await self._deliver(event, data, receipt)
                    received_us = getattr(event, "received_us", None)
                    if received_us is not None:
                        ended_us = time.time_ns() // 1000
                        latencies_us.append(ended_us - received_us)
                        waits_us.append(ended_us - put_us)
                    for command in () if self._closing else commands:
                        await self._command(command, receipt)
                except Exception as error:  # noqa: BLE001 - any error of a callback
                    failures.append(error)
        self.latency.record_all(latencies_us)
        self.event_to_consumer.record_sorted(sorted(waits_us))
        if failures:
            if failures[1:]:
                failures[0].add_note(f"{len(failures) - 1} more of the events that came together failed")
            raise failures[0]

    def close(self) -> None:
        """Stop the session: it is about to end."""
        self._closing = True

    async def finish(self) -> None:
        """Wait for the callbacks, but not for ever, and not for one that waits for this: a callback may stop the feed."""
        if self._delivering.locked() and _TURN.get() is self._turn:
            return
        try:
            async with asyncio.timeout(CLOSING_SECONDS), self._delivering:
                return
        except TimeoutError:
            LOG.warning("BACKPACK: stopped while a callback was running; events that are not delivered: %d", len(self._events))
            self._events.clear()

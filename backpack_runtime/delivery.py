"""What waits between the session and a consumer that may be slow: bounded, and open about what is lost.

What the consumer does not fetch in time is dealt with by the policy that the user chose. Only market data are ever merged or dropped;
what tells of the connection, of the books' state or of the account is always delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import anyio
import msgspec

from backpack_proto.outputs import BookChanged, BookDesynced, BookSynced, UntypedReceived
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.payloads import Event
from backpack_proto.values import Value

__all__ = ["Delivery", "DeliverySnapshot", "SlowConsumer"]

_MARKET_DATA: tuple[type[Event], ...] = (
    UntypedReceived,
    *(payload for channel in Channel if channel.traits.droppable for payload in channel.traits.payloads),
)


class SlowConsumer(StrEnum):
    """What happens to market data when the consumer does not keep up."""

    BLOCK = "block"
    """Read no more of the socket until it does; nothing is lost, everything is late, and TCP holds the exchange back."""
    CONFLATE = "conflate"
    """Merge the changes of a book into one; drop the oldest of the rest."""
    DROP_OLDEST = "drop_oldest"
    """Drop the oldest."""


class DeliverySnapshot(Value, frozen=True, gc=False, kw_only=True):
    """The buffer at one moment."""

    waiting: int
    """Events that the consumer has not fetched."""
    conflated: int
    """Changes of books that were merged into another one."""
    dropped: int
    """Events that the consumer will never see."""
    pauses: int
    """How often reading was paused."""


class Delivery:
    """A bounded buffer of events; one task fills it, one consumer drains it."""

    def __init__(self, policy: SlowConsumer, limit: int, *, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._policy = policy
        self._limit = limit
        self._pause = pause
        self._resume = resume
        self._events: dict[int, Event | _Merging] = {}
        """By a running number, in order: an event in the middle can be replaced or taken out."""
        self._number = 0
        self._books: dict[str, int] = {}
        """The waiting change of each book into which the next one can be merged."""
        self._paused = False
        self._finished = False
        self._arrived = anyio.Event()
        self._conflated = 0
        self._dropped = 0
        self._pauses = 0

    @property
    def snapshot(self) -> DeliverySnapshot:
        """The buffer at this moment."""
        return DeliverySnapshot(
            waiting=len(self._events), conflated=self._conflated, dropped=self._dropped, pauses=self._pauses
        )

    def put(self, events: list[Event]) -> None:
        """Add a batch; what is too much for the buffer is dealt with at once, reading is paused after the fact."""
        for event in events:
            self._add(event)
        if self._policy is SlowConsumer.BLOCK and len(self._events) >= self._limit and not self._paused:
            self._paused = True
            self._pauses += 1
            self._pause()
        self._arrived.set()

    def finish(self) -> None:
        """Nothing more will come."""
        self._finished = True
        self._arrived.set()

    async def take(self) -> Event | None:
        """Wait for the next event; None when nothing more will come."""
        while not self._events:
            if self._finished:
                return None
            self._arrived = anyio.Event()
            await self._arrived.wait()
        event = self.take_nowait()
        if event is None:
            raise AssertionError("the buffer is not empty")
        return event

    def take_nowait(self) -> Event | None:
        """The next event, or None when none waits."""
        if not self._events:
            return None
        number = next(iter(self._events))
        event = self._remove(number)
        if self._paused and len(self._events) <= self._limit // 2:
            self._paused = False
            self._resume()
        return event.merged() if isinstance(event, _Merging) else event

    def _add(self, event: Event) -> None:
        if self._policy is not SlowConsumer.BLOCK and len(self._events) >= self._limit:
            if self._policy is SlowConsumer.CONFLATE and isinstance(event, BookChanged):
                if event.stream in self._books:
                    self._merge(self._books[event.stream], event)
                    return
            else:
                self._drop_oldest()
        self._number += 1
        self._events[self._number] = event
        if isinstance(event, BookChanged):
            self._books[event.stream] = self._number
        elif isinstance(event, BookDesynced | BookSynced):
            # A change is merged with changes of its own run only.
            self._books.pop(event.stream, None)

    def _merge(self, number: int, event: BookChanged) -> None:
        waiting = self._events[number]
        if isinstance(waiting, BookChanged):
            waiting = self._events[number] = _Merging(waiting)
        if not isinstance(waiting, _Merging):
            raise TypeError("only changes of books are noted")
        waiting.add(event)
        self._conflated += 1

    def _drop_oldest(self) -> None:
        # The change of a book is never dropped where it can be merged: what it says would be missing in the next one.
        droppable: tuple[type[Event], ...] = (
            _MARKET_DATA if self._policy is SlowConsumer.CONFLATE else (BookChanged, *_MARKET_DATA)
        )
        number = next((number for number, event in self._events.items() if isinstance(event, droppable)), None)
        if number is not None:
            self._remove(number)
            self._dropped += 1

    def _remove(self, number: int) -> Event | _Merging:
        event = self._events.pop(number)
        if isinstance(event, BookChanged | _Merging) and self._books.get(event.stream) == number:
            del self._books[event.stream]
        return event


class _Merging:
    """Changes of one run of one book, on their way to being one change; adding costs what the new change holds, no more."""

    def __init__(self, first: BookChanged) -> None:
        self.stream = first.stream
        self._first = first
        self._last = first
        self._bids = {level.price: level for level in first.delta.bids}
        self._asks = {level.price: level for level in first.delta.asks}

    def add(self, later: BookChanged) -> None:
        self._last = later
        self._bids.update((level.price, level) for level in later.delta.bids)
        self._asks.update((level.price, level) for level in later.delta.asks)

    def merged(self) -> BookChanged:
        """One change from before the first to after the last one."""
        delta = msgspec.structs.replace(
            self._last.delta,
            first_update_id=self._first.delta.first_update_id,
            bids=tuple(self._bids.values()),
            asks=tuple(self._asks.values()),
        )
        return msgspec.structs.replace(self._last, first=self._first.first, delta=delta)

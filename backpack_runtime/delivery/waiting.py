"""Events while they wait: each knows its place and its weight, and two kinds take up later events of their kind."""

from __future__ import annotations

from collections.abc import Sized
from decimal import Decimal
from functools import cache
from typing import Any, Final, get_args, get_type_hints

import msgspec

from backpack_proto.outputs import BookChanged, BookSynced, CallAnswered
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Event

__all__ = ["EVENT_BYTES", "Changes", "Repeats", "Waiting", "weight_of"]

EVENT_BYTES: Final = 512
"""About the memory of an event with a dozen members."""
LEVEL_BYTES: Final = 144
"""A price level with its two texts."""
POINTER_BYTES: Final = 8
"""A level that the book of the session holds as well."""


# Structs, and no members of a cycle: the garbage collector need not look at waiting events.
class Waiting(msgspec.Struct, gc=False):
    """An event that waits."""

    number: int
    """Tells who came first."""
    event: Any
    weight: int
    arrived_us: int

    def result(self) -> Event:
        """Return the event to deliver."""
        event: Event = self.event
        return event


class Changes(Waiting, gc=False):
    """Changes of one run of one book, on their way to being one change."""

    first: BookChanged | None = None
    """Set once there is more than one."""
    bids: dict[Decimal, Level] = {}
    asks: dict[Decimal, Level] = {}

    def add(self, later: BookChanged) -> None:
        """Take up the next change. This costs as much as that change has levels."""
        if self.first is None:
            self.first = self.event
            # By the number and not its text: one price may be written in more than one way.
            self.bids = {level.price: level for level in self.event.delta.bids}
            self.asks = {level.price: level for level in self.event.delta.asks}
        self.event = later
        self.bids.update((level.price, level) for level in later.delta.bids)
        self.asks.update((level.price, level) for level in later.delta.asks)
        self.weight = weight_of(later) + LEVEL_BYTES * (len(self.bids) + len(self.asks))

    def result(self) -> Event:
        """Return one change from before the first to after the last one."""
        last: BookChanged = self.event
        first = self.first
        if first is None:
            return last
        delta = msgspec.structs.replace(
            last.delta,
            first_update_id=first.delta.first_update_id,
            bids=tuple(self.bids.values()),
            asks=tuple(self.asks.values()),
        )
        return msgspec.structs.replace(last, first=first.first, delta=delta)


class Repeats(Waiting, gc=False):
    """Frames that could not be used, of one kind: the first of them, and how many came after it."""

    more: int = 0

    def add(self, later: FrameDropped) -> None:
        """Count one more."""
        self.more += later.count

    def result(self) -> Event:
        """Return the first of them, with the count of all."""
        first: FrameDropped = self.event
        return msgspec.structs.replace(first, count=first.count + self.more) if self.more else first


def weight_of(event: Event) -> int:
    """Estimate the memory that an event takes, in bytes."""
    kind = type(event)
    if kind is BookChanged:
        delta, shared = event.delta, len(event.bids) + len(event.asks)  # type: ignore[attr-defined]  # `kind` says so
        return EVENT_BYTES + LEVEL_BYTES * (len(delta.bids) + len(delta.asks)) + POINTER_BYTES * shared
    if kind is BookSynced:
        return EVENT_BYTES + POINTER_BYTES * (len(event.bids) + len(event.asks))  # type: ignore[attr-defined]  # `kind` says so
    if kind is CallAnswered:
        result = event.result  # type: ignore[attr-defined]  # `kind` says so
        return EVENT_BYTES * (1 + (len(result) if isinstance(result, Sized) else 1))
    weight = EVENT_BYTES
    for name in _texts(kind):
        value = getattr(event, name)
        if isinstance(value, str):
            weight += len(value)
    return weight


@cache
def _texts(kind: type[Event]) -> tuple[str, ...]:
    """The members of an event that are texts, or may be: the others are of a bounded size."""
    return tuple(name for name, hint in get_type_hints(kind).items() if hint is str or str in get_args(hint))

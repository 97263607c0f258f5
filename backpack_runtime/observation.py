"""All counters and measures of a client or a feed at one moment, from which metrics of any system are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

from backpack_proto.buckets import Buckets, Durations
from backpack_proto.observation import SessionObservation
from backpack_proto.values import Value

from .delivery import DeliverySnapshot
from .delivery.policy import NOTHING_WAITS
from .loop_thread import LoopThread

__all__ = ["Observable", "Observation"]


class Observation(Value, frozen=True, gc=False, kw_only=True):
    """A client or a feed at one moment."""

    running: bool
    """True between the start and the end. Otherwise the rest is history."""
    session: SessionObservation
    delivery: DeliverySnapshot
    """All queues together, with the losses of those that were closed."""
    receipt_to_event: Durations
    """Time of events from the read of the socket until they are out of the session."""
    event_to_consumer: Durations
    """Time from there until a consumer fetches them or its callback is called, in a feed until its callbacks have ended."""
    orders_in_doubt: int = 0
    """Placed orders without a known outcome."""
    feed: Mapping[str, int] | None = None
    """Counters of the feed for cryptofeed alone. None for a client."""

    @classmethod
    def before_the_start(cls, session: SessionObservation) -> Self:
        """Return the observation of a client that has not begun."""
        empty = Buckets().durations
        return cls(running=False, session=session, delivery=NOTHING_WAITS, receipt_to_event=empty, event_to_consumer=empty)


class Observable(Protocol):
    """A client or a feed."""

    def _observe(self) -> Observation:
        """Return all counters and measures now, also before the start and after the end."""
        ...

    def _loop_thread(self) -> LoopThread | None:
        """Return the thread that it lives in, or None before the start."""
        ...

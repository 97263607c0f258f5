"""All that metrics of any system are made of, read at one moment, from a client or a feed alike."""

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
    """It has been entered and has not ended: otherwise nothing of it is live, whatever was known last."""
    session: SessionObservation
    delivery: DeliverySnapshot
    """All queues together, those that are there no more included."""
    receipt_to_event: Durations
    """How long events took from the read of the socket until they were out of the session."""
    event_to_consumer: Durations
    """How long they took from there until a consumer fetched them or its callback was called; in a feed, until its callbacks had ended."""
    orders_in_doubt: int = 0
    """Orders that were placed and have no outcome."""
    feed: Mapping[str, int] | None = None
    """The counters that only a feed for cryptofeed has; None for a client."""

    @classmethod
    def before_the_start(cls, session: SessionObservation) -> Self:
        """Return what there is to say of something that has not begun."""
        none = Buckets().durations
        return cls(running=False, session=session, delivery=NOTHING_WAITS, receipt_to_event=none, event_to_consumer=none)


class Observable(Protocol):
    """A client or a feed."""

    def _observe(self) -> Observation:
        """Return everything that can be counted and measured now; also before it has begun and after its end."""
        ...

    def _loop_thread(self) -> LoopThread | None:
        """Return where it lives; None before it has begun."""
        ...

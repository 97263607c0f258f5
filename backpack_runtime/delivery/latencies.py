"""How long events take on their way from the socket to a consumer, in its two stages and in all.

Theory. All events of a read come out of the session at one moment, so the first stage is measured once for each read. The second one is
measured where a consumer's queue looks at an event, for all that were fetched since its last look (`queue`).
"""

from __future__ import annotations

from backpack_proto.histogram import Buckets, Histogram

__all__ = ["Latencies"]


class Latencies:
    """Microseconds, of events that came from the wire; counts are of events."""

    __slots__ = ("event_to_consumer", "receipt_to_delivery", "receipt_to_event")

    def __init__(self) -> None:
        self.receipt_to_event = Buckets()
        """From the read of the socket until the events of that read are there; by the wall clock."""
        self.event_to_consumer = Buckets()
        """From there until a consumer fetches them or a callback is called, once for each of several consumers."""
        self.receipt_to_delivery = Histogram()
        """Both together."""

"""The bounds of a queue of events, and the policies that keep it inside them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from backpack_proto.values import Value

__all__ = [
    "BEHIND_US",
    "BUFFER_BYTES",
    "DOUBTED_US",
    "KEPT_BYTES",
    "KEPT_EVENTS",
    "NOTHING_WAITS",
    "RECENT_US",
    "DeliverySnapshot",
    "SlowConsumer",
]

BUFFER_BYTES: Final = 16_000_000
"""How much memory the events that wait may take, unless the user says otherwise."""
KEPT_EVENTS: Final = 10_000
KEPT_BYTES: Final = 16_000_000
"""Private and state events are never dropped while no more than so many, of so much memory, wait."""
BEHIND_US: Final = 100_000
"""A consumer whose oldest event has waited for so long is behind: from then on the changes of a book are merged."""
DOUBTED_US: Final = 2_000_000
"""Events that have waited for so long, or a pause of reading as long, are a reason against health."""
RECENT_US: Final = 60_000_000
"""How long a loss of private events counts against health."""


class SlowConsumer(StrEnum):
    """Policy for market data when the consumer does not keep up. Private and state events are kept under each of them."""

    BLOCK = "block"
    """Stop reading the socket until the consumer has caught up; nothing is lost, everything is late, and TCP holds the exchange back."""
    CONFLATE = "conflate"
    """Keep books current: merge the waiting changes of each book into one, and drop the oldest of all other market data."""
    DROP_OLDEST = "drop_oldest"
    """Drop the oldest market data, changes of books included."""


class DeliverySnapshot(Value, frozen=True, gc=False, kw_only=True):
    """A queue of events at one moment."""

    waiting: int
    """Events that the consumer has not fetched."""
    waiting_bytes: int
    """The memory that they take, estimated."""
    behind_us: int
    """How long the oldest of them has waited."""
    conflated: int
    """Changes of books that were merged into another one."""
    repeated: int
    """Unusable frames that were counted in the event of an earlier one of the same kind."""
    dropped: int
    """Market data that the consumer will never see."""
    dropped_private: int
    """Private and state events that the consumer will never see."""
    pauses: int
    """How often reading was paused."""


NOTHING_WAITS: Final = DeliverySnapshot(
    waiting=0, waiting_bytes=0, behind_us=0, conflated=0, repeated=0, dropped=0, dropped_private=0, pauses=0
)
"""A queue that nobody fills."""

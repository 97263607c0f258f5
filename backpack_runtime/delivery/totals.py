"""Several queues of events as one."""

from __future__ import annotations

from .policy import DeliverySnapshot

__all__ = ["together"]


def together(one: DeliverySnapshot, other: DeliverySnapshot) -> DeliverySnapshot:
    """Return two queues as if they were one."""
    return DeliverySnapshot(
        waiting=one.waiting + other.waiting,
        waiting_bytes=one.waiting_bytes + other.waiting_bytes,
        behind_us=max(one.behind_us, other.behind_us),
        conflated=one.conflated + other.conflated,
        repeated=one.repeated + other.repeated,
        dropped=one.dropped + other.dropped,
        dropped_private=one.dropped_private + other.dropped_private,
        pauses=one.pauses + other.pauses,
    )

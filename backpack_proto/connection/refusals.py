"""Which streams an error frame may be about, for it does not name its request (docs/protocol.md 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from backpack_proto.machine import Now

from .wanted_stream import StreamState, WantedStream

__all__ = ["BLAME_US", "RefusalCode", "suspects_of"]

BLAME_US = 10_000_000
"""An error frame is not blamed on a request that is this old."""


class RefusalCode(IntEnum):
    """Error codes that say which kind of request was refused."""

    INVALID_SIGNATURE = 4003
    INVALID_STREAM = 4006
    INVALID_DEPTH_WINDOW = 4008


_UNANSWERED = frozenset({StreamState.REQUESTED, StreamState.REFUSED})


def suspects_of(
    code: int, subscriptions: Mapping[str, WantedStream], in_flight: str | None, now: Now
) -> dict[str, WantedStream]:
    """Return the streams that a code can mean. `in_flight` is the untyped one that was requested last."""
    pending = {
        name: subscription
        for name, subscription in subscriptions.items()
        if subscription.state in _UNANSWERED and now.mono_us - subscription.since_us < BLAME_US
    }
    match code:
        case RefusalCode.INVALID_SIGNATURE:
            return {name: one for name, one in pending.items() if one.private}
        case RefusalCode.INVALID_STREAM if in_flight is not None:
            # The exchange has all kinds of our table.
            return {in_flight: subscriptions[in_flight]}
        case RefusalCode.INVALID_STREAM:
            return {name: one for name, one in pending.items() if not one.private} or pending
        case RefusalCode.INVALID_DEPTH_WINDOW:
            return {name: one for name, one in pending.items() if one.stream is not None and one.stream.window_ms}
        case _:
            return pending

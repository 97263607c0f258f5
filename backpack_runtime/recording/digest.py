"""A running SHA-256 over the events of a session, which is the same for the same events on every interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from backpack_proto.outputs import CallAnswered, CallFailed
from backpack_proto.streams.payloads import Event

from .redaction import redacted_value

__all__ = ["SHORT", "EventDigest"]

SHORT: Final = 16
"""So many of its digits stand in each line."""

_encode = msgspec.msgpack.Encoder().encode


class EventDigest:
    """The digest of all events so far, and their number.

    Each event is its name and its members in MessagePack. Answers of calls are without their secrets, as a recording has them.
    """

    def __init__(self) -> None:
        self._hash = sha256()
        self.events = 0

    def update(self, events: Sequence[Event]) -> None:
        """Add events."""
        parts: list[object] = []
        for event in events:
            parts.append(type(event).__name__)
            parts.append(redacted_value(event) if isinstance(event, CallAnswered | CallFailed) else event)
        self._hash.update(_encode(parts))
        self.events += len(events)

    @property
    def short(self) -> str:
        """The beginning of it, as each line has it."""
        return self._hash.hexdigest()[:SHORT]

    @property
    def whole(self) -> str:
        """All of it, in hexadecimal digits."""
        return self._hash.hexdigest()

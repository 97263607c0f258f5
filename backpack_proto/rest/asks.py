"""Inputs of `Requests`, and its outputs for the askers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from msgspec import Struct

from backpack_proto.errors import OutcomeUnknown
from backpack_proto.importance import Importance
from backpack_proto.inputs import Arguments

__all__ = [
    "MAX_WAIT_US",
    "Abandon",
    "Ask",
    "Forget",
    "MeasureTime",
    "Sending",
    "Settled",
    "TimeAnswered",
    "Unresolved",
    "WithdrawAsk",
]

MAX_WAIT_US: Final = 5_000_000
"""Time that a call that changes something waits to be sent, unless it says otherwise: a price is of its moment."""


class Ask(Struct, frozen=True, gc=False, kw_only=True):
    """Somebody wants an endpoint called."""

    asker: Hashable
    """Comes back with the answer. No other open `Ask` has an equal one."""
    endpoint: str
    """An endpoint, as `find_endpoint` takes it."""
    parameters: Arguments
    importance: Importance | None = None
    """Its place among requests that wait. None is that of the endpoint."""
    max_wait_us: int | None = None
    """Time that it may wait to be sent. None is `MAX_WAIT_US` for calls that change something, and no bound for reads."""

    def __repr__(self) -> str:
        # Values stay out of logs, for some of them are secret.
        return f"Ask({self.endpoint}, {', '.join(self.parameters) or 'no parameters'}, importance={self.importance})"


class WithdrawAsk(Struct, frozen=True, gc=False):
    """Who asked does not want it any more. Nothing happens if it has been settled."""

    asker: Hashable


class Forget(Struct, frozen=True, gc=False):
    """The end of an unresolved `Ask` was found out otherwise."""

    asker: Hashable


class Abandon(Struct, frozen=True, gc=False):
    """Nobody waits for any answer any more. Each asker is told so."""

    reason: str


class MeasureTime(Struct, frozen=True, gc=False):
    """Measure the exchange's clock, now and from time to time."""


class Settled(Struct, frozen=True, gc=False):
    """Output: the end of an `Ask`. The result is a `BackpackError` where it failed."""

    asker: Hashable
    result: object


class Sending(Struct, frozen=True, gc=False):
    """Output: an `Ask` has waited for its turn and is being sent now. Time-outs of its asker begin here."""

    asker: Hashable


class Unresolved(Struct, frozen=True, gc=False):
    """Output: an `Ask` that was withdrawn had been sent. A `Settled` follows should its answer come."""

    asker: Hashable
    error: OutcomeUnknown


class TimeAnswered(Struct, frozen=True, gc=False):
    """Output: the exchange has told its time in the answer that was just given."""

    server_us: int

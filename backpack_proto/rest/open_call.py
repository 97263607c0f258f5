"""One call on its way: how far it has come, and how it may end."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from typing import Final

from msgspec import Struct

from backpack_proto.errors import ApiError, BackpackError, LocalProtocolError, NotSent
from backpack_proto.importance import Importance
from backpack_proto.inputs import RequestFailed, RequestLeft
from backpack_proto.machine import Now, Transitions
from backpack_proto.text import printable

from .asks import WithdrawAsk
from .codec import outcome_unknown, refused_as_expired
from .endpoints.table import Checked, Endpoint
from .exchange_clock import ClockSampled
from .pacing import Granted

__all__ = ["CALL_TRANSITIONS", "WITH_TRANSPORT", "CallState", "OpenCall", "Probe"]


class Probe(Struct, frozen=True, gc=False):
    """Asks for the exchange's time."""

    sent: Now


class CallState(Enum):
    """Progress of a call."""

    QUEUED = "queued"
    SENT = "sent"
    STALE = "stale"
    WITHDRAWN = "withdrawn"
    UNRESOLVED = "unresolved"


CALL_TRANSITIONS: Final = Transitions(
    [
        (CallState.QUEUED, Granted, CallState.SENT),
        (CallState.SENT, ApiError, CallState.STALE),
        (CallState.STALE, ClockSampled, CallState.QUEUED),
        (CallState.SENT, WithdrawAsk, CallState.WITHDRAWN),
        (CallState.WITHDRAWN, RequestLeft, CallState.UNRESOLVED),
    ]
)
"""Of one call. Each of the states may be its last."""


WITH_TRANSPORT: Final = frozenset({CallState.SENT, CallState.WITHDRAWN, CallState.UNRESOLVED})
"""The transport has been given it, and has not said how it ended."""


class OpenCall(Struct, frozen=True, gc=False, kw_only=True):
    """A call that has not been settled."""

    asker: Hashable
    endpoint: Endpoint
    parameters: Checked
    importance: Importance
    max_wait_us: int | None = None
    not_after_us: int | None = None
    """When it may leave no more."""
    state: CallState = CallState.QUEUED
    stale: ApiError | None = None
    """Why its first signature was refused, if it was."""

    def may_be_signed_again(self, error: ApiError) -> bool:
        """Return whether it is worth another try with a clock that has been measured."""
        signed = self.endpoint.instruction is not None
        return signed and self.endpoint.idempotent and self.stale is None and refused_as_expired(error)

    def failure(self, failed: RequestFailed) -> BackpackError:
        """Return the error that it settles with when the transport has no answer."""
        if failed.sent and not self.endpoint.idempotent:
            return outcome_unknown(self.endpoint, self.parameters, printable(failed.reason))
        if failed.error is not None:
            return failed.error
        if not failed.sent:
            return NotSent(endpoint=self.endpoint.route, reason=printable(failed.reason))
        return BackpackError(f"{self.endpoint.name}: {printable(failed.reason)}")

    def abandoned(self, reason: str) -> BackpackError:
        """Return the error that it settles with when answers are not awaited any more."""
        if self.endpoint.idempotent:
            return LocalProtocolError(f"{self.endpoint.name}: {reason} before the answer came")
        if self.state in WITH_TRANSPORT:
            return outcome_unknown(self.endpoint, self.parameters, f"{reason} before the answer came")
        return NotSent(endpoint=self.endpoint.route, reason=reason)

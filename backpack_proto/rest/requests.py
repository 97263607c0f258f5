"""The REST side of a session: one budget for all who ask, signatures made at the moment of sending, answers to whoever asked.

Theory of operation. It is made of the pacer and the exchange's clock. An `Ask` is checked at once, and its parameters are kept as
they were then. It is QUEUED until the pacer grants it, built and signed when it leaves, and SENT until the answer is in. It comes back
as `Settled`, once, with its typed result or with the error in its place.

A read whose signature has expired says that a clock is wrong (docs/protocol.md 1.4): it is STALE until the exchange's clock has been
measured, and then goes back into the queue, once; if the clock cannot be measured, or the second signature expires as well, the
refusal is what it settles with. A call that changes something is never sent twice. When nobody can say whether it had its effect, it
settles with `OutcomeUnknown`; when it is certain that it never left, with a plain `BackpackError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from http import HTTPStatus
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError, BackpackError, LocalProtocolError, OutcomeUnknown, RemoteProtocolError
from backpack_proto.inputs import Arguments, RequestFailed, ResponseReceived, TimerFired
from backpack_proto.machine import Now, Transitions, earliest
from backpack_proto.outputs import Event, SendRequest

from .codec import ServerTime, build_request, outcome_unknown, parse_response, refused_as_expired
from .endpoints.table import Checked, Endpoint, find_endpoint
from .exchange_clock import ClockProbeFailed, ClockSampled, ExchangeClock, MeasureClock, StartMeasuring, StopMeasuring
from .pacing import Cancel, Enqueue, Granted, Pacer, PacerState, Refused, Succeeded

__all__ = ["Abandon", "Ask", "MeasureTime", "Requests", "Settled"]

REQUEST_TIMEOUT_US = 10_000_000


class Ask(Struct, frozen=True, gc=False, kw_only=True):
    """Somebody wants an endpoint called."""

    asker: object
    """Comes back with the answer."""
    endpoint: str
    """Whatever `find_endpoint` knows."""
    parameters: Arguments
    urgent: bool

    def __repr__(self) -> str:
        # Values stay out of logs, for some of them are secret.
        return f"Ask({self.endpoint}, {', '.join(self.parameters) or 'no parameters'}, urgent={self.urgent})"


class Abandon(Struct, frozen=True, gc=False):
    """Nobody waits for any answer any more; each asker is told so."""

    reason: str


class MeasureTime(Struct, frozen=True, gc=False):
    """Measure the exchange's clock, now and from time to time."""


class Settled(Struct, frozen=True, gc=False):
    """Output: the end of an `Ask`; the result is a `BackpackError` when there is none."""

    asker: object
    result: object


class _Probe(Struct, frozen=True, gc=False):
    """Asks for the exchange's time."""

    sent: Now


class State(Enum):
    """How far a call has come."""

    QUEUED = "queued"
    SENT = "sent"
    STALE = "stale"


TRANSITIONS: Final = Transitions(
    [
        (State.QUEUED, Granted, State.SENT),
        (State.SENT, ApiError, State.STALE),
        (State.STALE, ClockSampled, State.QUEUED),
    ]
)
"""Of one call; each of the states may be its last."""


class _Open(Struct, frozen=True, gc=False, kw_only=True):
    """A call that has not been settled."""

    asker: object
    endpoint: Endpoint
    parameters: Checked
    urgent: bool
    state: State = State.QUEUED
    stale: ApiError | None = None
    """Why its first signature was refused, if it was."""


RequestsInput: TypeAlias = Ask | Abandon | MeasureTime | ResponseReceived | RequestFailed | TimerFired
RequestsOutput: TypeAlias = SendRequest | Settled | Event


class Requests:
    """Sends what is asked for when the budget allows, and settles every `Ask` once; a machine."""

    def __init__(self, signer: Signer | None) -> None:
        self._signer = signer
        self._pacer = Pacer()
        self._clock = ExchangeClock()
        self._open: dict[int, _Open] = {}
        self._last_request_id = 0

    @property
    def deadline(self) -> int | None:
        """When the next request may leave, or the clock wants to be looked at."""
        return earliest(self._pacer.deadline, self._clock.deadline)

    def budget(self, now: Now) -> PacerState:
        """What is left of the request budget at this moment."""
        return self._pacer.state(now)

    def exchange_unix_us(self, now: Now) -> int:
        """The exchange's time as well as it is known, in microseconds since the epoch."""
        return self._clock.exchange_unix_us(now)

    def handle(self, given: RequestsInput, now: Now) -> list[RequestsOutput]:
        """Take one input; return requests to send, and what became of those sent.

        Raises:
            LocalProtocolError: an `Ask` for an endpoint that does not exist, or with parameters that it does not take.
        """
        match given:
            case Ask():
                return self._asked(given, now)
            case Abandon(reason):
                return self._abandon(reason, now)
            case MeasureTime():
                return self._clocked(self._clock.handle(StartMeasuring(), now), now)
            case ResponseReceived():
                return self._answered(given, now)
            case RequestFailed(request_id=request_id):
                call = self._open.get(request_id)
                if call is None or call.state is not State.SENT:
                    return []
                del self._open[request_id]
                return self._settle(call, _failure(call, given), now)
            case TimerFired():
                outputs = self._clocked(self._clock.handle(given, now), now)
                return [*outputs, *self._granted(self._pacer.handle(given, now), now)]
        raise TypeError(f"not an input of Requests: {type(given).__name__}")

    def _asked(self, ask: Ask, now: Now) -> list[RequestsOutput]:
        """What is wrong with it is found out before it waits in line."""
        endpoint = find_endpoint(ask.endpoint)
        call = _Open(asker=ask.asker, endpoint=endpoint, parameters=endpoint.check(ask.parameters), urgent=ask.urgent)
        self._build(call, now, 0)
        return self._enqueue(call, now)

    def _enqueue(self, call: _Open, now: Now) -> list[RequestsOutput]:
        self._last_request_id += 1
        self._open[self._last_request_id] = call
        enqueue = Enqueue(request_id=self._last_request_id, urgent=call.urgent, historical=call.endpoint.historical)
        return self._granted(self._pacer.handle(enqueue, now), now)

    def _granted(self, grants: Sequence[Granted], now: Now) -> list[RequestsOutput]:
        """Build each request when it leaves, and not before: what it measures or signs is this moment."""
        outputs: list[RequestsOutput] = []
        for grant in grants:
            call = self._open[grant.request_id]
            asker = _Probe(now) if isinstance(call.asker, _Probe) else call.asker
            call = replace(call, asker=asker, state=TRANSITIONS.step(call.state, grant, State.SENT))
            self._open[grant.request_id] = call
            outputs.append(self._build(call, now, grant.request_id))
        return outputs

    def _build(self, call: _Open, now: Now, request_id: int) -> SendRequest:
        unix_us = self.exchange_unix_us(now)
        request = build_request(call.endpoint, call.parameters, signer=self._signer, unix_us=unix_us)
        return SendRequest(request_id=request_id, request=request, timeout_us=REQUEST_TIMEOUT_US)

    def _answered(self, given: ResponseReceived, now: Now) -> list[RequestsOutput]:
        limited = given.status == HTTPStatus.TOO_MANY_REQUESTS
        paced = self._pacer.handle(Refused(given.retry_after_us) if limited else Succeeded(), now)
        outputs = self._granted(paced, now)
        call = self._open.get(given.request_id)
        if call is None or call.state is not State.SENT:
            return outputs
        result: object
        try:
            result = parse_response(
                call.endpoint,
                call.parameters,
                status=given.status,
                body=given.body,
                retry_after_us=given.retry_after_us,
                headers=given.headers,
            )
        except (ApiError, OutcomeUnknown, RemoteProtocolError) as error:
            result = error
        if isinstance(result, ApiError) and _may_be_signed_again(call, result):
            state = TRANSITIONS.step(call.state, result, State.STALE)
            self._open[given.request_id] = replace(call, state=state, stale=result)
            return [*outputs, *self._clocked(self._clock.handle(StartMeasuring(), now), now)]
        del self._open[given.request_id]
        return [*outputs, *self._settle(call, result, now)]

    def _settle(self, call: _Open, result: object, now: Now) -> list[RequestsOutput]:
        if not isinstance(call.asker, _Probe):
            return [Settled(call.asker, result)]
        if isinstance(result, ServerTime):
            sample = ClockSampled(sent=call.asker.sent, server_ms=result.server_us // 1000)
            return [*self._clocked(self._clock.handle(sample, now), now), *self._sign_again(sample, now)]
        outputs = self._clocked(self._clock.handle(ClockProbeFailed(), now), now)
        return [*outputs, *(Settled(stale.asker, stale.stale) for stale in self._take_stale())]

    def _sign_again(self, sample: ClockSampled, now: Now) -> list[RequestsOutput]:
        outputs: list[RequestsOutput] = []
        for call in self._take_stale():
            outputs += self._enqueue(replace(call, state=TRANSITIONS.step(call.state, sample, State.QUEUED)), now)
        return outputs

    def _take_stale(self) -> list[_Open]:
        stale = [request_id for request_id, call in self._open.items() if call.state is State.STALE]
        return [self._open.pop(request_id) for request_id in stale]

    def _clocked(self, outputs: Sequence[Event | MeasureClock], now: Now) -> list[RequestsOutput]:
        passed: list[RequestsOutput] = []
        for output in outputs:
            if isinstance(output, MeasureClock):
                passed += self._enqueue(_time_probe(now), now)
            else:
                passed.append(output)
        return passed

    def _abandon(self, reason: str, now: Now) -> list[RequestsOutput]:
        self._clock.handle(StopMeasuring(), now)
        calls, self._open = self._open, {}
        for request_id in calls:
            self._pacer.handle(Cancel(request_id), now)
        outputs: list[RequestsOutput] = []
        for call in calls.values():
            outputs += self._settle(call, _abandoned(call, reason), now)
        return outputs


def _may_be_signed_again(call: _Open, error: ApiError) -> bool:
    signed = call.endpoint.instruction is not None
    return signed and call.endpoint.idempotent and call.stale is None and refused_as_expired(error)


def _failure(call: _Open, failed: RequestFailed) -> BackpackError:
    if failed.sent and not call.endpoint.idempotent:
        return outcome_unknown(call.endpoint, call.parameters, failed.reason)
    if failed.error is not None:
        return failed.error
    missing = "" if call.endpoint.idempotent else " was not sent"
    return BackpackError(f"{call.endpoint.name}{missing}: {failed.reason}")


def _abandoned(call: _Open, reason: str) -> BackpackError:
    if call.endpoint.idempotent:
        return LocalProtocolError(f"{call.endpoint.name}: {reason} before the answer came")
    if call.state is State.SENT:
        return outcome_unknown(call.endpoint, call.parameters, f"{reason} before the answer came")
    return LocalProtocolError(f"{call.endpoint.name} was not sent: {reason}")


def _time_probe(now: Now) -> _Open:
    return _Open(asker=_Probe(now), endpoint=find_endpoint("time"), parameters={}, urgent=True)

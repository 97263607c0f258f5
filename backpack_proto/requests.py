"""The REST side of a session: one budget for all who ask, signatures made at the moment of sending, answers to whoever asked.

It is made of the pacer and the exchange's clock, and has no rules of its own: an `Ask` waits for its grant, is built and signed
when it may leave, and comes back as `Settled`, once, with its typed result or with the error in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TypeAlias

from msgspec import Struct

from .clock import ClockProbeFailed, ClockSampled, ExchangeClock, MeasureClock, StartMeasuring, StopMeasuring
from .errors import ApiError, BackpackError, LocalProtocolError, RemoteProtocolError
from .inputs import Parameter, RequestFailed, ResponseReceived, TimerFired
from .machine import Now, earliest
from .outputs import Event, SendRequest
from .pacing import Cancel, Enqueue, Granted, Pacer, PacerState, Refused, Succeeded
from .rest import ENDPOINTS, ServerTime, build_request, parse_response
from .signing import Signer

__all__ = ["Abandon", "Ask", "MeasureTime", "Requests", "Settled"]

REQUEST_TIMEOUT_US = 10_000_000


class Ask(Struct, frozen=True, gc=False, kw_only=True):
    """Somebody wants an endpoint called."""

    asker: object
    """Comes back with the answer."""
    endpoint: str
    parameters: Mapping[str, Parameter]
    urgent: bool


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


RequestsInput: TypeAlias = Ask | Abandon | MeasureTime | ResponseReceived | RequestFailed | TimerFired
RequestsOutput: TypeAlias = SendRequest | Settled | Event


class Requests:
    """Sends what is asked for when the budget allows, and settles every `Ask` once; a machine."""

    def __init__(self, signer: Signer | None) -> None:
        self._signer = signer
        self._pacer = Pacer()
        self._clock = ExchangeClock()
        self._asks: dict[int, Ask] = {}
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
                # What is wrong with it is found out before it waits in line.
                self._build(given, now)
                return self._enqueue(given, now)
            case Abandon(reason):
                return self._abandon(reason, now)
            case MeasureTime():
                return self._clocked(self._clock.handle(StartMeasuring(), now), now)
            case ResponseReceived():
                return self._answered(given, now)
            case RequestFailed(request_id=request_id, reason=reason):
                ask = self._asks.pop(request_id, None)
                return [] if ask is None else self._settle(ask, BackpackError(f"{ask.endpoint}: {reason}"), now)
            case TimerFired():
                outputs = self._clocked(self._clock.handle(given, now), now)
                return [*outputs, *self._granted(self._pacer.handle(given, now), now)]
        raise TypeError(f"not an input of Requests: {type(given).__name__}")

    def _enqueue(self, ask: Ask, now: Now) -> list[RequestsOutput]:
        self._last_request_id += 1
        self._asks[self._last_request_id] = ask
        historical = ENDPOINTS[ask.endpoint].historical
        enqueue = Enqueue(request_id=self._last_request_id, urgent=ask.urgent, historical=historical)
        return self._granted(self._pacer.handle(enqueue, now), now)

    def _granted(self, grants: Sequence[Granted], now: Now) -> list[RequestsOutput]:
        """Build each request when it leaves, and not before: what it measures or signs is this moment."""
        outputs: list[RequestsOutput] = []
        for grant in grants:
            ask = self._asks[grant.request_id]
            if isinstance(ask.asker, _Probe):
                ask = self._asks[grant.request_id] = _time_probe(now)
            outputs.append(self._build(ask, now, grant.request_id))
        return outputs

    def _build(self, ask: Ask, now: Now, request_id: int = 0) -> SendRequest:
        unix_us = self.exchange_unix_us(now)
        endpoint = ENDPOINTS.get(ask.endpoint)
        if endpoint is None:
            raise LocalProtocolError(f"there is no endpoint {ask.endpoint!r}; there are {', '.join(ENDPOINTS)}")
        request = build_request(endpoint, ask.parameters, signer=self._signer, unix_us=unix_us)
        return SendRequest(request_id=request_id, request=request, timeout_us=REQUEST_TIMEOUT_US)

    def _answered(self, given: ResponseReceived, now: Now) -> list[RequestsOutput]:
        limited = given.status == HTTPStatus.TOO_MANY_REQUESTS
        paced = self._pacer.handle(Refused(given.retry_after_us) if limited else Succeeded(), now)
        outputs = self._granted(paced, now)
        ask = self._asks.pop(given.request_id, None)
        if ask is None:
            return outputs
        result: object
        try:
            result = parse_response(
                ENDPOINTS[ask.endpoint],
                status=given.status,
                body=given.body,
                retry_after_us=given.retry_after_us,
                parameters=ask.parameters,
            )
        except (ApiError, RemoteProtocolError) as error:
            result = error
        return [*outputs, *self._settle(ask, result, now)]

    def _settle(self, ask: Ask, result: object, now: Now) -> list[RequestsOutput]:
        if not isinstance(ask.asker, _Probe):
            return [Settled(ask.asker, result)]
        if isinstance(result, ServerTime):
            sampled: ClockSampled | ClockProbeFailed = ClockSampled(sent=ask.asker.sent, server_ms=result.server_ms)
        else:
            sampled = ClockProbeFailed()
        return self._clocked(self._clock.handle(sampled, now), now)

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
        asks, self._asks = self._asks, {}
        for request_id in asks:
            self._pacer.handle(Cancel(request_id), now)
        outputs: list[RequestsOutput] = []
        for ask in asks.values():
            outputs += self._settle(ask, LocalProtocolError(f"{ask.endpoint}: {reason} before the answer came"), now)
        return outputs


def _time_probe(now: Now) -> Ask:
    return Ask(asker=_Probe(now), endpoint="time", parameters={}, urgent=True)

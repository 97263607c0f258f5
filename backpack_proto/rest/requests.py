"""The REST side of a session: one budget for all askers, signatures made at the moment of sending, answers to each asker.

Theory of operation. It is made of the pacer and the exchange's clock. An `Ask` is checked at once, and its parameters are kept as
they were then. It is QUEUED until the pacer grants it, built and signed when it leaves, and SENT until the answer is in. It comes back
as `Settled`, once, with its typed result or with the error in its place.

Abandoned requests are not done later. The asker may withdraw one (`WithdrawAsk`): a QUEUED one leaves the line and is never sent. A request
that changes something has a bound on waiting, and settles as `NotSent` when that has passed. The transport holds to the same bound. One that
was handed to the transport is withdrawn there. If it changes something it is WITHDRAWN, for it may have left. Once the transport says
that it has it is UNRESOLVED, and stays among `unresolved` until its answer says how it ended, or a `Forget` does.

A read whose signature has expired says that a clock is wrong (docs/protocol.md 1.4): it is STALE until the exchange's clock has been
measured, and then goes back into the queue, once. If the clock cannot be measured, or the second signature expires as well, it settles with the
refusal. A call that changes something is never sent twice. When it is not known whether it had its effect, it
settles with `OutcomeUnknown`. When it is certain that it never left, with a plain `BackpackError`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, TypeAlias

from msgspec.structs import replace

from backpack_proto.auth.signing import Signer
from backpack_proto.errors import (
    ApiError,
    LocalProtocolError,
    NothingTraded,
    NotSent,
    OutcomeUnknown,
    PartlyUnreadable,
    RemoteProtocolError,
)
from backpack_proto.importance import Importance
from backpack_proto.inputs import RequestFailed, RequestLeft, ResponseReceived, TimerFired
from backpack_proto.machine import Now, Timers, earliest
from backpack_proto.orders.intents import intents_of
from backpack_proto.outputs import Event, RowsSkipped, SendRequest, WithdrawRequest

from .asks import MAX_WAIT_US, Abandon, Ask, Forget, MeasureTime, Sending, Settled, TimeAnswered, Unresolved, WithdrawAsk
from .codec import ServerTime, build_request, outcome_unknown, parse_response
from .endpoints.table import find_endpoint
from .exchange_clock import ClockProbeFailed, ClockSampled, ExchangeClock, MeasureClock, StartMeasuring, StopMeasuring
from .open_call import CALL_TRANSITIONS, WITH_TRANSPORT, CallState, OpenCall, Probe
from .pacing import PAUSE_CEILING_US, Cancel, Enqueue, Granted, Pacer, PacerState, Refused, Succeeded

__all__ = ["Requests", "RequestsInput", "RequestsOutput"]

REQUEST_TIMEOUT_US: Final = 10_000_000

RequestsInput: TypeAlias = (
    Ask | WithdrawAsk | Forget | Abandon | MeasureTime | ResponseReceived | RequestFailed | RequestLeft | TimerFired
)
RequestsOutput: TypeAlias = SendRequest | WithdrawRequest | Sending | Settled | TimeAnswered | Unresolved | Event


class Requests:
    """Sends requests when the budget allows, and settles every `Ask` once. A machine."""

    def __init__(self, signer: Signer | None, *, pause_ceiling_us: int = PAUSE_CEILING_US) -> None:
        """`pause_ceiling_us` is how long the exchange can have all requests pause."""
        self._signer = signer
        self._pacer = Pacer(pause_ceiling_us=pause_ceiling_us)
        self._clock = ExchangeClock()
        self._open: dict[int, OpenCall] = {}
        self._ids: dict[Hashable, int] = {}
        """The open request of each asker."""
        self._waits: Timers[int] = Timers()
        """When the wait of each queued request that has a bound is over."""
        self._unresolved: dict[Hashable, OutcomeUnknown] = {}
        self._last_request_id = 0

    @property
    def deadline(self) -> int | None:
        """When the next request may leave or has waited too long, or the clock wants to be looked at."""
        return earliest(self._pacer.deadline, self._waits.earliest, self._clock.deadline)

    @property
    def unresolved(self) -> Mapping[Hashable, OutcomeUnknown]:
        """Requests that were withdrawn after they may have been sent and have no answer since, by asker."""
        return MappingProxyType(self._unresolved)

    def budget(self, now: Now) -> PacerState:
        """Return the rest of the request budget at this moment."""
        return self._pacer.state(now)

    def troubles(self, now: Now) -> list[str]:
        """Why not all is well with REST at this moment."""
        pacing = self._pacer.state(now)
        if pacing.paused_until_us is None:
            return []
        left_s = -(-(pacing.paused_until_us - now.mono_us) // 1_000_000)
        asked_us = pacing.asked_us or 0
        asked = f" and asked for {asked_us // 1_000_000} s" if asked_us > pacing.pause_us else ""
        pause_s = pacing.pause_us / 1e6
        return [f"REST requests pause for {pause_s:g} s, {left_s} s of them are left: the exchange answered 429{asked}"]

    def exchange_unix_us(self, now: Now) -> int:
        """The exchange's time as well as it is known, in microseconds since the epoch."""
        return self._clock.exchange_unix_us(now)

    def handle(self, given: RequestsInput, now: Now) -> list[RequestsOutput]:
        """Take one input. Return requests to send, and the outcomes of those sent.

        Raises:
            LocalProtocolError: an `Ask` for an endpoint that does not exist, with parameters that it does not take, or that cannot
                be signed. A `Forget` of a request that is not unresolved.
        """
        match given:
            case Ask():
                call = self._checked(given, now)
                return [*self._expire(now), *self._enqueue(call, now)]
            case Forget(asker):
                if asker not in self._unresolved:
                    raise LocalProtocolError(f"{asker!r} is not unresolved")
                del self._unresolved[asker]
                return []
        # An input may let the next in line leave, and the timer may be late: requests that have waited too long must not be among them.
        return [*self._expire(now), *self._take(given, now)]

    def _take(self, given: RequestsInput, now: Now) -> list[RequestsOutput]:
        match given:
            case WithdrawAsk(asker):
                return self._withdraw(given, asker, now)
            case Abandon(reason):
                return self._abandon(reason, now)
            case MeasureTime():
                return self._clocked(self._clock.handle(StartMeasuring(), now), now)
            case ResponseReceived():
                return self._answered(given, now)
            case RequestFailed(request_id=request_id):
                call = self._open.get(request_id)
                if call is None or call.state not in WITH_TRANSPORT:
                    return []
                self._close(request_id)
                if call.state is CallState.WITHDRAWN and not given.sent:
                    # In time: it was not sent, and is not awaited.
                    self._unresolved.pop(call.asker, None)
                    return []
                return self._settle(call, call.failure(given), now)
            case RequestLeft(request_id):
                return self._left(given, request_id)
            case TimerFired():
                outputs = self._clocked(self._clock.handle(given, now), now)
                return [*outputs, *self._granted(self._pacer.handle(given, now), now)]
        raise TypeError(f"not an input of Requests: {type(given).__name__}")

    def _checked(self, ask: Ask, now: Now) -> OpenCall:
        """Faults of an `Ask` are found before it waits in line, and only then."""
        endpoint = find_endpoint(ask.endpoint)
        if endpoint.instruction is not None and self._signer is None:
            raise LocalProtocolError(f"{endpoint.name} is private: it needs credentials to be signed with")
        if ask.asker in self._ids or ask.asker in self._unresolved:
            raise LocalProtocolError(f"{ask.asker!r} is in use by a call that has not ended")
        max_wait_us = ask.max_wait_us
        if max_wait_us is None:
            max_wait_us = None if endpoint.idempotent else MAX_WAIT_US
        elif max_wait_us < 1:
            raise LocalProtocolError(f"max_wait_us: at least 1 microsecond, got {max_wait_us}")
        return OpenCall(
            asker=ask.asker,
            endpoint=endpoint,
            parameters=endpoint.check(ask.parameters),
            importance=endpoint.importance if ask.importance is None else ask.importance,
            max_wait_us=max_wait_us,
            not_after_us=None if max_wait_us is None else now.mono_us + max_wait_us,
        )

    def _enqueue(self, call: OpenCall, now: Now) -> list[RequestsOutput]:
        self._last_request_id += 1
        request_id = self._last_request_id
        self._open[request_id] = call
        if not isinstance(call.asker, Probe):
            self._ids[call.asker] = request_id
        self._waits.set(request_id, call.not_after_us)
        enqueue = Enqueue(request_id=request_id, importance=call.importance, historical=call.endpoint.historical)
        return self._granted(self._pacer.handle(enqueue, now), now)

    def _close(self, request_id: int) -> OpenCall:
        """Take a request off the open ones, wherever it waits."""
        call = self._open.pop(request_id)
        self._ids.pop(call.asker, None)
        self._waits.set(request_id, None)
        return call

    def _expire(self, now: Now) -> list[RequestsOutput]:
        """Settle requests that have waited too long in line."""
        outputs: list[RequestsOutput] = []
        for request_id in self._waits.due(now.mono_us):
            self._pacer.handle(Cancel(request_id), now)
            call = self._close(request_id)
            reason = f"its turn did not come within {(call.max_wait_us or 0) / 1e6:g} s"
            outputs.append(Settled(call.asker, NotSent(endpoint=call.endpoint.route, reason=reason)))
        return outputs

    def _withdraw(self, given: WithdrawAsk, asker: Hashable, now: Now) -> list[RequestsOutput]:
        request_id = self._ids.get(asker)
        if request_id is None:
            return []
        call = self._open[request_id]
        if call.state is CallState.SENT and not call.endpoint.idempotent:
            self._open[request_id] = replace(call, state=CALL_TRANSITIONS.step(call.state, given, CallState.WITHDRAWN))
            # In doubt until the transport has answered, and a request in doubt may have left.
            reason = "it was given up by its caller, and may have been sent"
            self._unresolved[call.asker] = outcome_unknown(call.endpoint, call.parameters, reason)
        elif call.state in (CallState.WITHDRAWN, CallState.UNRESOLVED):
            return []
        else:
            self._close(request_id)
        if call.state is CallState.SENT:
            return [WithdrawRequest(request_id)]
        self._pacer.handle(Cancel(request_id), now)
        return []

    def _left(self, given: RequestLeft, request_id: int) -> list[RequestsOutput]:
        call = self._open.get(request_id)
        if call is None or call.state is not CallState.WITHDRAWN:
            return []
        self._open[request_id] = replace(call, state=CALL_TRANSITIONS.step(call.state, given, CallState.UNRESOLVED))
        error = outcome_unknown(call.endpoint, call.parameters, "it was given up by its caller after it had been sent")
        return self._still_unresolved(call.asker, error)

    def _still_unresolved(self, asker: Hashable, error: OutcomeUnknown) -> list[RequestsOutput]:
        if asker in self._unresolved:
            self._unresolved[asker] = error
        return [Unresolved(asker, error)]

    def _granted(self, grants: Sequence[Granted], now: Now) -> list[RequestsOutput]:
        """Build each request when it leaves, and not before: it measures or signs this moment."""
        outputs: list[RequestsOutput] = []
        for grant in grants:
            call = self._open[grant.request_id]
            asker = Probe(now) if isinstance(call.asker, Probe) else call.asker
            call = replace(call, asker=asker, state=CALL_TRANSITIONS.step(call.state, grant, CallState.SENT))
            self._open[grant.request_id] = call
            self._waits.set(grant.request_id, None)
            if not isinstance(asker, Probe):
                outputs.append(Sending(asker))
            outputs.append(self._build(call, now, grant.request_id))
        return outputs

    def _build(self, call: OpenCall, now: Now, request_id: int) -> SendRequest:
        unix_us = self.exchange_unix_us(now)
        request = build_request(call.endpoint, call.parameters, signer=self._signer, unix_us=unix_us)
        window_ms = 0 if self._signer is None else self._signer.window_ms
        return SendRequest(
            request_id=request_id,
            request=request,
            timeout_us=REQUEST_TIMEOUT_US,
            not_after_us=call.not_after_us,
            importance=call.importance,
            intents=intents_of(
                call.endpoint.orders_of(call.parameters),
                unix_us=unix_us,
                window_ms=window_ms,
                error_us=self._clock.error_us(now),
            ),
        )

    def _answered(self, given: ResponseReceived, now: Now) -> list[RequestsOutput]:
        limited = given.status == HTTPStatus.TOO_MANY_REQUESTS
        paced = self._pacer.handle(Refused(given.retry_after_us) if limited else Succeeded(), now)
        outputs = self._granted(paced, now)
        call = self._open.get(given.request_id)
        if call is None or call.state not in WITH_TRANSPORT:
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
        except (ApiError, NothingTraded, OutcomeUnknown, RemoteProtocolError) as error:
            result = error
        if isinstance(result, PartlyUnreadable) and result.rows and call.endpoint.instruction is None:
            # Rows about the market are independent. A missing row of an account would look like missing money.
            outputs.append(RowsSkipped(endpoint=call.endpoint.route, errors=result.errors))
            result = result.rows
        if isinstance(result, ApiError) and call.may_be_signed_again(result):
            state = CALL_TRANSITIONS.step(call.state, result, CallState.STALE)
            self._open[given.request_id] = replace(call, state=state, stale=result)
            return [*outputs, *self._clocked(self._clock.handle(StartMeasuring(), now), now)]
        self._close(given.request_id)
        return [*outputs, *self._settle(call, result, now)]

    def _settle(self, call: OpenCall, result: object, now: Now) -> list[RequestsOutput]:
        if call.state in (CallState.WITHDRAWN, CallState.UNRESOLVED):
            return self._settle_late(call, result)
        if not isinstance(call.asker, Probe):
            return [Settled(call.asker, result)]
        if isinstance(result, ServerTime):
            sample = ClockSampled(sent=call.asker.sent, server_ms=result.server_us // 1000)
            clocked = self._clocked(self._clock.handle(sample, now), now)
            return [TimeAnswered(result.server_us), *clocked, *self._sign_again(sample, now)]
        outputs = self._clocked(self._clock.handle(ClockProbeFailed(), now), now)
        return [*outputs, *(Settled(stale.asker, stale.stale) for stale in self._take_stale())]

    def _settle_late(self, call: OpenCall, result: object) -> list[RequestsOutput]:
        """Say how a call ended whose caller has gone."""
        if isinstance(result, OutcomeUnknown):
            unresolved = self._still_unresolved(call.asker, result)
            return unresolved if call.state is CallState.WITHDRAWN else [Settled(call.asker, result)]
        self._unresolved.pop(call.asker, None)
        return [Settled(call.asker, result)]

    def _sign_again(self, sample: ClockSampled, now: Now) -> list[RequestsOutput]:
        outputs: list[RequestsOutput] = []
        for call in self._take_stale():
            # It was sent in time once, so its bound on waiting has been kept.
            queued = replace(call, not_after_us=None, state=CALL_TRANSITIONS.step(call.state, sample, CallState.QUEUED))
            outputs += self._enqueue(queued, now)
        return outputs

    def _take_stale(self) -> list[OpenCall]:
        stale = [request_id for request_id, call in self._open.items() if call.state is CallState.STALE]
        return [self._close(request_id) for request_id in stale]

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
        calls = {request_id: self._close(request_id) for request_id in list(self._open)}
        outputs: list[RequestsOutput] = []
        for request_id, call in calls.items():
            self._pacer.handle(Cancel(request_id), now)
            if call.state is CallState.SENT:
                outputs.append(WithdrawRequest(request_id))
            if not isinstance(call.asker, Probe):
                outputs += self._settle(call, call.abandoned(reason), now)
        return outputs


def _time_probe(now: Now) -> OpenCall:
    return OpenCall(asker=Probe(now), endpoint=find_endpoint("time"), parameters={}, importance=Importance.ORDER)

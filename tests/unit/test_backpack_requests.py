"""Every question is settled once, within one budget, and built at the moment it leaves."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from backpack_proto.clock import ClockStepped
from backpack_proto.errors import ApiError, BackpackError, LocalProtocolError, RemoteProtocolError
from backpack_proto.inputs import RequestFailed, ResponseReceived, TimerFired
from backpack_proto.metrics import Metrics
from backpack_proto.outputs import LinkDown, LinkUp, SendRequest
from backpack_proto.requests import Abandon, Ask, MeasureTime, Requests, RequestsOutput, Settled
from backpack_proto.results import ServerTime
from backpack_proto.testing import FakeClock, check_machine


def ask(asker: object, endpoint: str = "ping", *, urgent: bool = True, **parameters: str | int) -> Ask:
    return Ask(asker=asker, endpoint=endpoint, parameters=parameters, urgent=urgent)


def sent(outputs: list[RequestsOutput]) -> list[SendRequest]:
    return [output for output in outputs if isinstance(output, SendRequest)]


def answered(request: SendRequest, body: bytes = b"pong", status: int = 200) -> ResponseReceived:
    return ResponseReceived(request_id=request.request_id, status=status, body=body)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_question_is_sent_and_settled_once(clock: FakeClock) -> None:
    requests = Requests(None)
    (request,) = sent(requests.handle(ask("me"), clock.now))
    assert request.request.target == "/api/v1/ping"
    assert requests.handle(answered(request), clock.now) == [Settled("me", "pong")]
    assert requests.handle(answered(request), clock.now) == []
    assert requests.handle(RequestFailed(request_id=request.request_id, reason="late"), clock.now) == []


def test_a_refusal_a_bad_answer_and_no_answer_are_settled_as_errors(clock: FakeClock) -> None:
    requests = Requests(None)
    (one,) = sent(requests.handle(ask(1, "market", symbol="NOPE"), clock.now))
    (two,) = sent(requests.handle(ask(2, "time"), clock.now))
    (three,) = sent(requests.handle(ask(3, "time"), clock.now))
    refusal = b'{"code":"INVALID_CLIENT_REQUEST","message":"Invalid market symbol"}'
    (settled,) = requests.handle(answered(one, refusal, 400), clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, ApiError)
    assert settled.result.code == "INVALID_CLIENT_REQUEST"
    (settled,) = requests.handle(answered(two, b"soon"), clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, RemoteProtocolError)
    failed = RequestFailed(request_id=three.request_id, reason="connection reset")
    assert requests.handle(failed, clock.now) == [Settled(3, BackpackError("time: connection reset"))]


@pytest.mark.parametrize(
    ("endpoint", "parameters", "said"),
    [("nonsense", {}, "no endpoint 'nonsense'"), ("depth", {}, "symbol"), ("depth", {"symbol": "S", "limit": 7}, "limit")],
)
def test_an_impossible_question_is_refused_and_costs_nothing(
    clock: FakeClock, endpoint: str, parameters: dict[str, str | int], said: str
) -> None:
    requests = Requests(None)
    before = requests.budget(clock.now)
    with pytest.raises(LocalProtocolError, match=said):
        requests.handle(Ask(asker="me", endpoint=endpoint, parameters=parameters, urgent=True), clock.now)
    assert requests.budget(clock.now) == before
    assert requests.deadline is None


def test_a_burst_is_spread_and_the_urgent_go_first(clock: FakeClock) -> None:
    requests = Requests(None)
    burst = requests.budget(clock.now).standard_available
    for number in range(burst):
        assert sent(requests.handle(ask(number), clock.now))
    assert requests.handle(ask("audit", urgent=False), clock.now) == []
    assert requests.handle(ask("user", "time"), clock.now) == []
    assert requests.budget(clock.now).queued == 2
    (first,) = sent(requests.handle(TimerFired(), clock.advance_to(requests.deadline)))
    assert first.request.target == "/api/v1/time"
    (second,) = sent(requests.handle(TimerFired(), clock.advance_to(requests.deadline)))
    assert second.request.target == "/api/v1/ping"
    assert requests.deadline is None


def test_too_many_requests_stop_everything_for_a_while(clock: FakeClock) -> None:
    requests = Requests(None)
    (request,) = sent(requests.handle(ask(1), clock.now))
    refused = ResponseReceived(request_id=request.request_id, status=429, body=b"", retry_after_us=7_000_000)
    (settled,) = requests.handle(refused, clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, ApiError)
    assert requests.handle(ask(2), clock.now) == []
    assert requests.deadline == clock.now.mono_us + 7_000_000
    assert sent(requests.handle(TimerFired(), clock.advance_to(requests.deadline)))


def test_abandoning_settles_what_was_sent_and_what_was_not(clock: FakeClock) -> None:
    requests = Requests(None)
    burst = requests.budget(clock.now).standard_available
    for number in range(burst + 1):
        requests.handle(ask(number), clock.now)
    outputs = requests.handle(Abandon("closed"), clock.now)
    assert [output.asker for output in outputs if isinstance(output, Settled)] == list(range(burst + 1))
    assert all(isinstance(output, Settled) and isinstance(output.result, BackpackError) for output in outputs)
    assert requests.deadline is None
    assert requests.handle(ResponseReceived(request_id=1, status=200, body=b"pong"), clock.now) == []


def test_abandoning_ends_the_measuring_of_the_clock(clock: FakeClock) -> None:
    requests = Requests(None)
    requests.handle(MeasureTime(), clock.now)
    assert requests.deadline is not None
    assert requests.handle(Abandon("closed"), clock.now) == []
    assert requests.deadline is None


def test_the_exchange_s_clock_is_measured_on_demand(clock: FakeClock) -> None:
    requests = Requests(None)
    assert requests.exchange_unix_us(clock.now) == clock.now.unix_us
    (request,) = sent(requests.handle(MeasureTime(), clock.now))
    ahead_ms = clock.now.unix_us // 1000 + 90_000
    clock.advance(20_000)
    assert requests.handle(answered(request, str(ahead_ms).encode()), clock.now) == []
    offset_us = requests.exchange_unix_us(clock.now) - clock.now.unix_us
    assert abs(offset_us - 90_000_000) < 21_000
    assert requests.deadline is not None


def test_a_step_of_the_wall_clock_is_told_and_measured_anew(clock: FakeClock) -> None:
    requests = Requests(None)
    (request,) = sent(requests.handle(MeasureTime(), clock.now))
    requests.handle(answered(request, str(clock.now.unix_us // 1000).encode()), clock.now)
    clock.unix_us += 3_600_000_000
    outputs = requests.handle(TimerFired(), clock.advance_to(requests.deadline))
    assert [output for output in outputs if isinstance(output, ClockStepped)]
    assert len(sent(outputs)) == 1


def test_a_time_that_the_user_asks_for_is_his_own(clock: FakeClock) -> None:
    requests = Requests(None)
    (request,) = sent(requests.handle(ask("me", "time"), clock.now))
    assert requests.handle(answered(request, b"1700000000000"), clock.now) == [
        Settled("me", ServerTime(server_ms=1_700_000_000_000))
    ]
    assert requests.exchange_unix_us(clock.now) == clock.now.unix_us


questions = st.builds(ask, st.integers(0, 3), st.sampled_from(["ping", "time", "nonsense"]), urgent=st.booleans())
answers = st.builds(
    lambda number, status, body: ResponseReceived(request_id=number, status=status, body=body),
    st.integers(1, 8),
    st.sampled_from([200, 429, 500]),
    st.sampled_from([b"pong", b"1700000000000", b"{"]),
)
failures = st.builds(lambda number: RequestFailed(request_id=number, reason="reset"), st.integers(1, 8))
others = st.sampled_from([TimerFired(), MeasureTime(), Abandon("closed")])


def test_requests_keep_the_laws_of_machines() -> None:
    check_machine(lambda: Requests(None), questions | answers | failures | others)


def test_metrics_keep_the_laws_of_machines() -> None:
    events = st.sampled_from([LinkUp(attempt=1), LinkDown(reason="reset", code=None, retry_us=1), TimerFired()])
    check_machine(Metrics, events | answers)

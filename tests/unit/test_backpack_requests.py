"""Every question is settled once, within one budget, and built at the moment it leaves."""

from __future__ import annotations

from collections.abc import Hashable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.auth.keys import Credentials, verify_signature
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import (
    ApiError,
    BackpackError,
    LocalProtocolError,
    NothingTraded,
    NotSent,
    OutcomeUnknown,
    RemoteProtocolError,
)
from backpack_proto.importance import Importance
from backpack_proto.inputs import RequestFailed, RequestLeft, ResponseReceived, TimerFired
from backpack_proto.metrics import Metrics
from backpack_proto.outputs import ConnectionDown, ConnectionUp, SendRequest, WithdrawRequest
from backpack_proto.rest.asks import (
    MAX_WAIT_US,
    Abandon,
    Ask,
    Forget,
    MeasureTime,
    Sending,
    Settled,
    TimeAnswered,
    Unresolved,
    WithdrawAsk,
)
from backpack_proto.rest.exchange_clock import ClockStepped
from backpack_proto.rest.requests import Requests, RequestsInput, RequestsOutput
from backpack_proto.rest.results.market_data import Page, ServerTime
from backpack_proto.testing.laws import FakeClock, check_machine


def ask(asker: Hashable, endpoint: str = "ping", *, importance: Importance | None = None, **parameters: str | int) -> Ask:
    return Ask(asker=asker, endpoint=endpoint, parameters=parameters, importance=importance)


def sent(outputs: list[RequestsOutput]) -> list[SendRequest]:
    return [output for output in outputs if isinstance(output, SendRequest)]


def exhaust(requests: Requests, clock: FakeClock) -> None:
    """Use up what the budget allows at once, with reads that are on their way from then on."""
    for number in range(requests.budget(clock.now).standard_available):
        requests.handle(ask(f"read {number}"), clock.now)


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


def test_a_market_without_trades_and_an_order_that_was_accepted_are_typed_ends(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (ticker,) = sent(requests.handle(ask("ticker", "ticker", symbol="NEW_USDC"), clock.now))
    untraded = NothingTraded(endpoint="GET /api/v1/ticker", symbol="NEW_USDC")
    assert requests.handle(answered(ticker, b"", 204), clock.now) == [Settled("ticker", untraded)]
    (cancel,) = sent(requests.handle(ask("cancel", "cancel_order", symbol="SOL_USDC", orderId="1"), clock.now))
    (settled,) = requests.handle(answered(cancel, b"", 202), clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, OutcomeUnknown)
    assert (settled.result.symbol, settled.result.order_id) == ("SOL_USDC", "1")


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
        requests.handle(Ask(asker="me", endpoint=endpoint, parameters=parameters), clock.now)
    assert requests.budget(clock.now) == before
    assert requests.deadline is None


def test_a_burst_is_spread_and_the_more_important_go_first(clock: FakeClock) -> None:
    requests = Requests(None)
    burst = requests.budget(clock.now).standard_available
    for number in range(burst):
        assert sent(requests.handle(ask(number), clock.now))
    assert requests.handle(ask("audit", importance=Importance.AUDIT), clock.now) == []
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
    assert all(isinstance(output.result, BackpackError) for output in outputs if isinstance(output, Settled))
    withdrawn = [output.request_id for output in outputs if isinstance(output, WithdrawRequest)]
    assert withdrawn == list(range(1, burst + 1)), "what has not left by now never will"
    assert requests.deadline is None
    assert requests.handle(ResponseReceived(request_id=1, status=200, body=b"pong"), clock.now) == []


def test_abandoning_ends_the_measuring_of_the_clock(clock: FakeClock) -> None:
    requests = Requests(None)
    requests.handle(MeasureTime(), clock.now)
    assert requests.deadline is not None
    assert requests.handle(Abandon("closed"), clock.now) == [WithdrawRequest(1)]
    assert requests.deadline is None


def test_the_exchange_s_clock_is_measured_on_demand(clock: FakeClock) -> None:
    requests = Requests(None)
    assert requests.exchange_unix_us(clock.now) == clock.now.unix_us
    (request,) = sent(requests.handle(MeasureTime(), clock.now))
    ahead_ms = clock.now.unix_us // 1000 + 90_000
    clock.advance(20_000)
    assert requests.handle(answered(request, str(ahead_ms).encode()), clock.now) == [TimeAnswered(ahead_ms * 1000)]
    offset_us = requests.exchange_unix_us(clock.now) - clock.now.unix_us
    assert abs(offset_us - 90_000_000) < 21_000
    assert requests.deadline is not None


def test_a_step_of_the_wall_clock_is_told_and_measured_again(clock: FakeClock) -> None:
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
        Settled("me", ServerTime(server_us=1_700_000_000_000_000))
    ]
    assert requests.exchange_unix_us(clock.now) == clock.now.unix_us


SIGNER = Signer(Credentials("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
EXPIRED = b'{"code":"INVALID_CLIENT_REQUEST","message":"Request has expired"}'
ORDER: dict[str, Any] = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": Decimal("1.50"), "quantity": "2"}
PLACED = ORDER | {"clientId": 7}
UNKNOWN: dict[str, Any] = {"endpoint": "POST /api/v1/order", "symbol": "SOL_USDC", "client_id": 7}


def place(asker: Hashable, **more: Any) -> Ask:
    return Ask(asker=asker, endpoint="place_order", parameters=PLACED | more)


def failed(request: SendRequest, *, was_sent: bool) -> RequestFailed:
    return RequestFailed(request_id=request.request_id, reason="connection reset", sent=was_sent)


def timestamp_ms(request: SendRequest) -> int:
    return int(dict(request.request.headers)["X-Timestamp"])


def test_an_order_that_went_out_and_had_no_answer_is_unknown(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (request,) = sent(requests.handle(place("me"), clock.now))
    outputs = requests.handle(failed(request, was_sent=True), clock.now)
    assert outputs == [Settled("me", OutcomeUnknown(reason="connection reset", **UNKNOWN))]
    assert requests.deadline is None


def test_an_order_that_never_went_out_has_failed(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (request,) = sent(requests.handle(place("me"), clock.now))
    outputs = requests.handle(failed(request, was_sent=False), clock.now)
    assert outputs == [Settled("me", NotSent(endpoint="POST /api/v1/order", reason="connection reset"))]


@pytest.mark.parametrize(("status", "body"), [(500, b""), (502, b"<html>"), (504, b""), (200, b"<html>"), (200, b"")])
def test_an_order_with_a_broken_answer_is_unknown(clock: FakeClock, status: int, body: bytes) -> None:
    requests = Requests(SIGNER)
    (request,) = sent(requests.handle(place("me"), clock.now))
    (settled,) = requests.handle(answered(request, body, status), clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, OutcomeUnknown)
    assert settled.result.client_id == 7


def test_an_order_that_was_refused_is_refused(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (request,) = sent(requests.handle(place("me"), clock.now))
    refusal = b'{"code":"INSUFFICIENT_FUNDS","message":"Insufficient funds"}'
    (settled,) = requests.handle(answered(request, refusal, 400), clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, ApiError)


def test_when_the_session_closes_only_orders_on_their_way_are_unknown(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    requests.handle(place("on its way"), clock.now)
    exhaust(requests, clock)
    requests.handle(place("in line"), clock.now)
    outputs = requests.handle(Abandon("closed"), clock.now)
    results = {output.asker: output.result for output in outputs if isinstance(output, Settled)}
    assert results["on its way"] == OutcomeUnknown(reason="closed before the answer came", **UNKNOWN)
    assert results["read 0"] == LocalProtocolError("ping: closed before the answer came")
    assert results["in line"] == NotSent(endpoint="POST /api/v1/order", reason="closed")


def test_a_batch_on_its_way_is_unknown_order_by_order(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    batch = Ask(asker="me", endpoint="POST /api/v1/orders", parameters={"orders": [PLACED, ORDER]})
    (request,) = sent(requests.handle(batch, clock.now))
    (settled,) = requests.handle(failed(request, was_sent=True), clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, OutcomeUnknown)
    assert settled.result.orders == (("SOL_USDC", 7), ("SOL_USDC", None))


def test_what_is_in_line_has_no_answer_yet(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    exhaust(requests, clock)
    assert requests.handle(place("me"), clock.now) == []
    in_line = max(requests._open)
    assert requests.handle(RequestFailed(request_id=in_line, reason="stray"), clock.now) == []
    assert requests.handle(ResponseReceived(request_id=in_line, status=200, body=b"{}"), clock.now) == []
    (request,) = sent(requests.handle(TimerFired(), clock.advance_to(requests.deadline)))
    assert (request.request_id, request.request.method) == (in_line, "POST")


def test_a_read_that_expired_is_signed_again_when_the_clock_is_known(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (first,) = sent(requests.handle(ask("me", "balanceQuery"), clock.now))
    ahead_ms = clock.now.unix_us // 1000 + 90_000
    (probe,) = sent(requests.handle(answered(first, EXPIRED, 400), clock.advance(1_000)))
    assert probe.request.target == "/api/v1/time"
    assert requests.handle(TimerFired(), clock.advance(1_000)) == []
    outputs = requests.handle(answered(probe, str(ahead_ms).encode()), clock.advance(1_000))
    (again,) = sent(outputs)
    assert outputs == [TimeAnswered(ahead_ms * 1000), Sending("me"), again]
    assert again.request.target == first.request.target
    assert again.request_id not in (first.request_id, probe.request_id)
    assert abs(timestamp_ms(again) - timestamp_ms(first) - 90_000) < 10
    string = f"instruction=balanceQuery&timestamp={timestamp_ms(again)}&window=5000"
    assert verify_signature(SIGNER.api_key, dict(again.request.headers)["X-Signature"], string)
    assert requests.handle(answered(again, b"{}"), clock.now) == [Settled("me", {})]
    assert requests.handle(answered(first, b"{}"), clock.now) == []


def test_it_is_signed_again_once_only(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (first,) = sent(requests.handle(ask("me", "balances"), clock.now))
    (probe,) = sent(requests.handle(answered(first, EXPIRED, 400), clock.now))
    (again,) = sent(requests.handle(answered(probe, str(clock.now.unix_us // 1000).encode()), clock.now))
    (settled,) = requests.handle(answered(again, EXPIRED, 400), clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, ApiError)
    assert settled.result.message == "Request has expired"


@pytest.mark.parametrize("how", ["no answer", "refused", "unreadable", "abandoned"])
def test_without_a_measured_clock_the_refusal_stands(clock: FakeClock, how: str) -> None:
    requests = Requests(SIGNER)
    (first,) = sent(requests.handle(ask("me", "balances"), clock.now))
    (probe,) = sent(requests.handle(answered(first, EXPIRED, 400), clock.now))
    facts: dict[str, RequestsInput] = {
        "no answer": failed(probe, was_sent=True),
        "refused": answered(probe, b"", 500),
        "unreadable": answered(probe, b"noon"),
        "abandoned": Abandon("closed"),
    }
    outputs = requests.handle(facts[how], clock.now)
    (settled,) = [output for output in outputs if isinstance(output, Settled)]
    assert outputs in ([settled], [settled, WithdrawRequest(probe.request_id)])
    assert settled.asker == "me"
    assert isinstance(settled.result, LocalProtocolError if how == "abandoned" else ApiError)


def test_several_that_expired_share_one_measurement(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (one,) = sent(requests.handle(ask(1, "balances"), clock.now))
    (two,) = sent(requests.handle(ask(2, "open_orders"), clock.now))
    (probe,) = sent(requests.handle(answered(one, EXPIRED, 400), clock.now))
    assert requests.handle(answered(two, EXPIRED, 400), clock.now) == []
    again = sent(requests.handle(answered(probe, str(clock.now.unix_us // 1000).encode()), clock.now))
    assert [request.request.target for request in again] == ["/api/v1/capital", "/api/v1/orders"]


@pytest.mark.parametrize(
    ("endpoint", "parameters"),
    [("place_order", PLACED), ("cancel_order", {"symbol": "S", "clientId": 1}), ("update_account", {"autoLend": True})],
)
def test_what_changes_something_is_never_sent_twice(clock: FakeClock, endpoint: str, parameters: dict[str, Any]) -> None:
    requests = Requests(SIGNER)
    (request,) = sent(requests.handle(Ask(asker="me", endpoint=endpoint, parameters=parameters), clock.now))
    (settled,) = requests.handle(answered(request, EXPIRED, 400), clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, ApiError)


def test_a_public_read_has_no_signature_to_expire(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (request,) = sent(requests.handle(ask("me"), clock.now))
    (settled,) = requests.handle(answered(request, EXPIRED, 400), clock.now)
    assert isinstance(settled, Settled)


def test_parameters_are_those_at_the_time_of_asking(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    exhaust(requests, clock)
    parameters = dict(PLACED)
    assert requests.handle(Ask(asker="me", endpoint="place_order", parameters=parameters), clock.now) == []
    parameters["price"] = 1.5
    (request,) = sent(requests.handle(TimerFired(), clock.advance_to(requests.deadline)))
    assert b'"price":"1.50"' in request.request.body


def test_page_counts_come_with_the_headers(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (request,) = sent(requests.handle(ask("me", "fill_history"), clock.now))
    answer = ResponseReceived(request_id=request.request_id, status=200, body=b"[]", headers=(("X-Total", "0"),))
    assert requests.handle(answer, clock.now) == [Settled("me", Page(rows=(), total=0))]


def test_a_question_shows_no_values() -> None:
    shown = repr(place("me", twoFactorToken="hunter2"))
    assert shown.startswith("Ask(place_order, symbol, ")
    assert "hunter2" not in shown


# Nothing abandoned is done later.


def pause(requests: Requests, clock: FakeClock, seconds: int) -> None:
    """The exchange answers 429."""
    (request,) = sent(requests.handle(ask("refused"), clock.now))
    refused = ResponseReceived(request_id=request.request_id, status=429, body=b"", retry_after_us=seconds * 1_000_000)
    requests.handle(refused, clock.now)


def everything(requests: Requests, clock: FakeClock) -> list[RequestsOutput]:
    """All that comes by the passing of time alone."""
    outputs: list[RequestsOutput] = []
    while requests.deadline is not None:
        outputs += requests.handle(TimerFired(), clock.advance_to(requests.deadline))
    return outputs


@pytest.mark.parametrize("question", [place("me"), ask("me"), ask("me", "balances")])
def test_what_is_withdrawn_in_line_is_never_sent_and_never_settled(clock: FakeClock, question: Ask) -> None:
    requests = Requests(SIGNER)
    pause(requests, clock, 4)
    assert requests.handle(question, clock.now) == []
    assert requests.handle(place("another"), clock.now) == []
    assert requests.handle(WithdrawAsk("me"), clock.advance(2_000_000)) == []
    assert requests.budget(clock.now).queued == 1
    outputs = everything(requests, clock)
    assert [output for output in outputs if isinstance(output, Sending)] == [Sending("another")]
    assert len(sent(outputs)) == 1
    assert requests.unresolved == {}
    assert requests.handle(WithdrawAsk("me"), clock.now) == []


def test_a_read_that_waits_for_the_clock_is_not_signed_again_once_it_is_withdrawn(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (first,) = sent(requests.handle(ask("me", "balances"), clock.now))
    (probe,) = sent(requests.handle(answered(first, EXPIRED, 400), clock.now))
    assert requests.handle(WithdrawAsk("me"), clock.now) == []
    time_ms = clock.now.unix_us // 1000
    assert requests.handle(answered(probe, str(time_ms).encode()), clock.now) == [TimeAnswered(time_ms * 1000)]


def test_a_read_that_was_sent_is_withdrawn_and_its_answer_is_nobodys(clock: FakeClock) -> None:
    requests = Requests(None)
    (request,) = sent(requests.handle(ask("me"), clock.now))
    assert requests.handle(WithdrawAsk("me"), clock.now) == [WithdrawRequest(request.request_id)]
    assert requests.handle(RequestLeft(request.request_id), clock.now) == []
    assert requests.handle(answered(request), clock.now) == []
    assert sent(requests.handle(ask("me"), clock.now)), "who asked may ask again"


LEFT = OutcomeUnknown(reason="it was given up by its caller after it had been sent", **UNKNOWN)
IN_DOUBT = OutcomeUnknown(reason="it was given up by its caller, and may have been sent", **UNKNOWN)


def withdrawn(requests: Requests, clock: FakeClock) -> SendRequest:
    (request,) = sent(requests.handle(place("me"), clock.now))
    assert requests.handle(WithdrawAsk("me"), clock.now) == [WithdrawRequest(request.request_id)]
    assert requests.unresolved == {"me": IN_DOUBT}
    assert requests.handle(WithdrawAsk("me"), clock.now) == []
    return request


def test_an_order_that_the_transport_withdrew_in_time_has_not_happened(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    request = withdrawn(requests, clock)
    assert requests.handle(failed(request, was_sent=False), clock.now) == []
    assert requests.unresolved == {}
    assert requests.deadline is None


def test_an_order_that_had_left_is_unresolved_until_its_answer_comes(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    request = withdrawn(requests, clock)
    assert requests.handle(RequestLeft(request.request_id), clock.now) == [Unresolved("me", LEFT)]
    assert requests.handle(RequestLeft(request.request_id), clock.now) == []
    assert requests.unresolved == {"me": LEFT}
    with pytest.raises(LocalProtocolError, match="'me' is in use by a call that has not ended"):
        requests.handle(place("me"), clock.now)
    (settled,) = requests.handle(answered(request, b'{"code":"INSUFFICIENT_FUNDS"}', 400), clock.now)
    assert isinstance(settled, Settled)
    assert isinstance(settled.result, ApiError)
    assert requests.unresolved == {}


def test_an_order_whose_answer_crossed_its_withdrawal_is_settled_and_never_unresolved(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    request = withdrawn(requests, clock)
    (settled,) = requests.handle(answered(request, b'{"code":"INSUFFICIENT_FUNDS"}', 400), clock.now)
    assert isinstance(settled, Settled)
    assert requests.unresolved == {}


def test_an_order_whose_answer_never_comes_stays_unresolved_until_it_is_forgotten(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    request = withdrawn(requests, clock)
    requests.handle(RequestLeft(request.request_id), clock.now)
    lost = OutcomeUnknown(reason="connection reset", **UNKNOWN)
    assert requests.handle(failed(request, was_sent=True), clock.now) == [Settled("me", lost)]
    assert requests.unresolved == {"me": lost}
    assert requests.handle(Forget("me"), clock.now) == []
    assert requests.unresolved == {}
    with pytest.raises(LocalProtocolError, match="'me' is not unresolved"):
        requests.handle(Forget("me"), clock.now)
    assert sent(requests.handle(place("me"), clock.now))


@pytest.mark.parametrize("how", ["no answer", "closed"])
def test_an_order_that_is_in_doubt_when_all_ends_is_unresolved(clock: FakeClock, how: str) -> None:
    requests = Requests(SIGNER)
    request = withdrawn(requests, clock)
    ends: dict[str, RequestsInput] = {"no answer": failed(request, was_sent=True), "closed": Abandon("closed")}
    (unresolved,) = requests.handle(ends[how], clock.now)
    assert isinstance(unresolved, Unresolved)
    assert requests.unresolved == {"me": unresolved.error}


def test_what_changes_something_waits_for_five_seconds_and_is_not_sent_then(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    pause(requests, clock, 60)
    assert requests.handle(place("me"), clock.now) == []
    assert requests.handle(ask("reader"), clock.now) == []
    assert requests.deadline == clock.now.mono_us + MAX_WAIT_US == clock.now.mono_us + 5_000_000
    outputs = requests.handle(TimerFired(), clock.advance_to(requests.deadline))
    error = NotSent(endpoint="POST /api/v1/order", reason="its turn did not come within 5 s")
    assert outputs == [Settled("me", error)]
    assert str(error) == "POST /api/v1/order was not sent: its turn did not come within 5 s"
    assert [request.request.method for request in sent(everything(requests, clock))] == ["GET"], "a read has no bound"


def test_a_bound_on_waiting_can_be_given_and_reaches_the_transport(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    bounded = Ask(asker="me", endpoint="time", parameters={}, max_wait_us=250_000)
    (request,) = sent(requests.handle(bounded, clock.now))
    assert request.not_after_us == clock.now.mono_us + 250_000
    (order,) = sent(requests.handle(place("order"), clock.now))
    assert order.not_after_us == clock.now.mono_us + MAX_WAIT_US
    (unbounded,) = sent(requests.handle(ask("reader"), clock.now))
    assert unbounded.not_after_us is None
    with pytest.raises(LocalProtocolError, match="max_wait_us: at least 1 microsecond, got 0"):
        requests.handle(Ask(asker="x", endpoint="time", parameters={}, max_wait_us=0), clock.now)


def test_a_late_timer_does_not_let_an_order_out_whose_time_has_passed(clock: FakeClock) -> None:
    requests = Requests(SIGNER)
    (read,) = sent(requests.handle(ask("reader"), clock.now))
    pause(requests, clock, 1)
    requests.handle(place("me"), clock.now)
    outputs = requests.handle(answered(read), clock.advance(MAX_WAIT_US))
    assert not sent(outputs)
    assert [type(output.result) for output in outputs if isinstance(output, Settled)] == [NotSent, str]


def test_what_is_wrong_with_a_question_is_said_at_once_and_a_request_is_signed_once(clock: FakeClock) -> None:
    with pytest.raises(LocalProtocolError, match="place_order is private: it needs credentials"):
        Requests(None).handle(place("me"), clock.now)
    signed: list[int] = []

    class Counting:
        window_ms = 5_000

        def headers(self, *_args: object, unix_us: int, **_options: object) -> tuple[tuple[str, str], ...]:
            signed.append(unix_us)
            return ()

    requests = Requests(Counting())  # type: ignore[arg-type]  # all that is used of a signer
    pause(requests, clock, 4)
    requests.handle(place("me"), clock.now)
    assert signed == []
    everything(requests, clock)
    assert signed == [clock.now.unix_us], "at the moment of sending"


def test_a_pause_is_against_health_for_as_long_as_it_lasts(clock: FakeClock) -> None:
    requests = Requests(None)
    assert requests.troubles(clock.now) == []
    pause(requests, clock, 1_000_000_000)
    said = "REST requests pause for 60 s, 42 s of them are left: the exchange answered 429 and asked for 1000000000 s"
    assert requests.troubles(clock.advance(18_000_000)) == [said]
    assert requests.troubles(clock.advance(42_000_000)) == []
    pause(requests, clock, 3)
    assert requests.troubles(clock.now) == ["REST requests pause for 3 s, 3 s of them are left: the exchange answered 429"]


questions = st.builds(
    ask,
    st.integers(0, 3),
    st.sampled_from(["ping", "time", "nonsense", "balances", "orderQueryAll"]),
    importance=st.none() | st.sampled_from(Importance),
)
orders = st.builds(place, st.integers(4, 7))
answers = st.builds(
    lambda number, status, body: ResponseReceived(request_id=number, status=status, body=body),
    st.integers(1, 8),
    st.sampled_from([200, 400, 429, 500]),
    st.sampled_from([b"pong", b"1700000000000", b"{", b"{}", EXPIRED]),
)
failures = st.builds(
    lambda number, was_sent: RequestFailed(request_id=number, reason="reset", sent=was_sent), st.integers(1, 8), st.booleans()
)
others = st.sampled_from([TimerFired(), MeasureTime(), Abandon("closed")]) | st.builds(RequestLeft, st.integers(1, 8))
given_up = st.builds(WithdrawAsk, st.integers(0, 7)) | st.builds(Forget, st.integers(0, 7))


@pytest.mark.hypothesis
def test_requests_keep_the_laws_of_machines() -> None:
    check_machine(lambda: Requests(SIGNER), questions | orders | answers | failures | others | given_up)


@given(st.lists(st.tuples(questions | orders | answers | failures | others, st.integers(0, 2_000_000)), max_size=40))
def test_every_question_is_settled_once_and_no_order_is_sent_twice(steps: list[tuple[Any, int]]) -> None:
    clock, requests = FakeClock(), Requests(SIGNER)
    asked: list[object] = []
    outputs: list[RequestsOutput] = []
    for number, (step, wait_us) in enumerate(steps):
        current = step
        if isinstance(step, Ask):
            current = Ask(asker=number, endpoint=step.endpoint, parameters=step.parameters, importance=step.importance)
        try:
            outputs += requests.handle(current, clock.advance(wait_us))
        except LocalProtocolError:
            continue
        if isinstance(step, Ask):
            asked.append(number)
    outputs += requests.handle(Abandon("closed"), clock.now)
    assert sorted(output.asker for output in outputs if isinstance(output, Settled)) == asked  # type: ignore[type-var]
    placed = [step for number, (step, _) in enumerate(steps) if number in asked and step.endpoint == "place_order"]
    assert len([one for one in sent(outputs) if one.request.method == "POST"]) <= len(placed)


@given(st.lists(st.tuples(questions | orders | answers | failures | others | given_up, st.integers(0, 3_000_000)), max_size=40))
def test_nothing_that_was_given_up_in_line_is_sent_and_each_question_is_settled_at_most_once(
    steps: list[tuple[Any, int]],
) -> None:
    clock, requests = FakeClock(), Requests(SIGNER)
    asked_us: dict[Hashable, int] = {}
    bounds_us: dict[Hashable, int] = {}
    waiting: set[Hashable] = set()
    gone: set[Hashable] = set()
    settled: list[Hashable] = []
    for number, (step, wait_us) in enumerate(steps):
        given = step
        now = clock.advance(wait_us)
        if isinstance(step, Ask):
            bound_us = None if number % 3 else 400_000
            given = Ask(
                asker=number,
                endpoint=step.endpoint,
                parameters=step.parameters,
                importance=step.importance,
                max_wait_us=bound_us,
            )
        elif isinstance(step, WithdrawAsk | Forget):
            given = type(step)(max(asked_us, default=0) - step.asker)  # type: ignore[operator, type-var]  # numbers here
        try:
            outputs = requests.handle(given, now)
        except LocalProtocolError:
            assert requests.budget(now).queued >= 0
            continue
        if isinstance(given, Ask):
            asked_us[given.asker] = now.mono_us
            waiting.add(given.asker)
            reading = step.endpoint != "place_order"
            if given.max_wait_us is not None or not reading:
                bounds_us[given.asker] = given.max_wait_us or MAX_WAIT_US
        for output in outputs:
            if isinstance(output, Sending):
                assert output.asker not in gone, "it was given up in line"
                if output.asker in waiting and output.asker in bounds_us:
                    assert now.mono_us <= asked_us[output.asker] + bounds_us[output.asker]
                waiting.discard(output.asker)
            elif isinstance(output, Settled):
                assert output.asker not in gone
                settled.append(output.asker)
                waiting.discard(output.asker)
        if isinstance(given, WithdrawAsk) and given.asker in waiting:
            gone.add(given.asker)
            waiting.discard(given.asker)
    assert len(settled) == len(set(settled))


@pytest.mark.hypothesis
def test_metrics_keep_the_laws_of_machines() -> None:
    events = st.sampled_from([ConnectionUp(attempt=1), ConnectionDown(reason="reset", code=None, retry_us=1), TimerFired()])
    check_machine(Metrics, events | answers)

"""Who is given what: the session routes commands, facts and what its machines say to each other."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from backpack_proto.account.values import AccountConfirmed, AccountDoubted, AccountStale, AccountUnconfirmed
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.book.audit import SUSPICION
from backpack_proto.connection.heartbeat import PING_TIMEOUT_US, SILENCE_US
from backpack_proto.connection.signatures import ERRORS_US
from backpack_proto.connection.subscriptions import ACCOUNT_STREAMS
from backpack_proto.errors import ApiError, InvalidStream, LocalProtocolError, PartlyUnreadable
from backpack_proto.inputs import (
    BytesReceived,
    Call,
    Close,
    Connected,
    Disconnected,
    Fact,
    FollowAccount,
    Given,
    Open,
    PingReceived,
    PongReceived,
    ReadingPaused,
    RequestFailed,
    RequestLeft,
    Resolve,
    ResponseReceived,
    Subscribe,
    TextReceived,
    TimerFired,
    Unsubscribe,
    Verify,
    Withdraw,
)
from backpack_proto.metrics import BooksSnapshot, Status
from backpack_proto.outputs import (
    BookChanged,
    BookDesynced,
    BooksProgress,
    BookSynced,
    BookVerified,
    CallAnswered,
    CallFailed,
    CallUnresolved,
    ConnectionDown,
    ConnectionUp,
    DropSocket,
    OpenSocket,
    Output,
    PeerSilent,
    RowsSkipped,
    SendPing,
    SendPong,
    SendRequest,
    SendText,
    StreamLive,
    StreamsRefused,
    WithdrawRequest,
)
from backpack_proto.session import Session
from backpack_proto.streams.channels import IN_FORCE_US
from backpack_proto.streams.frames import Drop, FrameDropped
from backpack_proto.streams.payloads import BookTicker, Depth, Event, OrderUpdate, Trade
from backpack_proto.streams.unknown import UnknownPayload
from backpack_proto.testing.laws import FakeClock, freeze

SECOND = 1_000_000
DEPTH, BOOK_TICKER, TRADE = "depth.SOL_USDC", "bookTicker.SOL_USDC", "trade.SOL_USDC"
ORDERS, POSITIONS, BALANCES = ACCOUNT_STREAMS


def delta(update_id: int, stream: str = DEPTH, symbol: str = "SOL_USDC") -> TextReceived:
    data = {"E": 1, "T": 1, "U": update_id, "a": [["9", "2"]], "b": [], "e": "depth", "s": symbol, "u": update_id}
    return text(stream, data)


def ticker(update_id: int, ask_quantity: str = "2") -> TextReceived:
    data = {"A": ask_quantity, "B": "1", "E": 1, "T": 1, "a": "9", "b": "8", "e": "bookTicker", "s": "SOL_USDC", "u": update_id}
    return text(BOOK_TICKER, data)


def trade() -> TextReceived:
    data = {"E": 1, "T": 1, "a": "1", "b": "2", "e": "trade", "m": True, "p": "9", "q": "1", "s": "SOL_USDC", "t": 7}
    return text(TRADE, data)


def order(stream: str = ORDERS) -> TextReceived:
    data = {"E": 1, "T": 1, "S": "Bid", "X": "New", "V": "RejectTaker", "Z": "0", "e": "orderAccepted", "f": "GTC", "i": "11"}
    return text(
        stream, data | {"O": "USER", "o": "LIMIT", "p": "8", "q": "1", "r": False, "s": "SOL_USDC", "t": None, "z": "0"}
    )


def text(stream: str, data: object) -> TextReceived:
    return TextReceived(json.dumps({"data": data, "stream": stream}).encode())


GARBAGE = TextReceived(b"{nonsense")
SNAPSHOT = b'{"asks":[["9","1"]],"bids":[["8","1"]],"lastUpdateId":"5","timestamp":1}'


class Driven:
    """A session and its clock."""

    def __init__(self, *, signed: bool = False, **options: Any) -> None:
        self.clock = FakeClock()
        signer = Signer(Credentials(private_key="22" * 32)) if signed else None
        self.session = Session(Random(5), signer=signer, **{"canary": False, **options})

    def give(self, *inputs: Given) -> list[Output]:
        return [output for given in inputs for output in self.session.handle(given, self.clock.now)]

    def events(self, *inputs: Given) -> list[type[Event]]:
        return [type(output) for output in self.give(*inputs) if isinstance(output, Event)]

    def answer(self, outputs: list[Output], body: bytes = SNAPSHOT) -> list[Output]:
        """Answer the one request among these."""
        return self.give(ResponseReceived(request_id=request_in(outputs).request_id, status=200, body=body))


def request_in(outputs: list[Output]) -> SendRequest:
    (request,) = (output for output in outputs if isinstance(output, SendRequest))
    return request


def params(outputs: list[Output], method: str) -> list[str]:
    frames = [json.loads(output.text) for output in outputs if isinstance(output, SendText)]
    return [name for frame in frames if frame["method"] == method for name in frame["params"]]


def up(*wanted: Given, signed: bool = False, **options: Any) -> Driven:
    driven = Driven(signed=signed, **options)
    driven.give(Open(), Connected(), *wanted)
    return driven


def live(given: Subscribe) -> Driven:
    """A session with a live book of `depth.SOL_USDC`, at update id 6."""
    driven = up()
    outputs = driven.give(given)
    driven.give(delta(6))
    driven.answer(outputs)
    assert driven.session.book("SOL_USDC").is_live(driven.clock.mono_us)
    return driven


# Connection


def test_opening_and_connecting_request_what_is_wanted_and_its_snapshot() -> None:
    driven = Driven()
    assert driven.give(Subscribe((TRADE,), (DEPTH,))) == []
    assert driven.give(Open()) == [OpenSocket()]
    outputs = driven.give(Connected())
    assert [type(output) for output in outputs] == [ConnectionUp, *[SendText] * 3, SendRequest]
    assert params(outputs, "SUBSCRIBE") == [DEPTH, TRADE, BOOK_TICKER]
    assert request_in(outputs).request.target == "/api/v1/depth?limit=1000&symbol=SOL_USDC"


def test_data_of_a_kind_that_has_no_type_are_handed_on_as_they_came() -> None:
    driven = up(Subscribe(untyped=("preview.NVDA", "whale.SOL_USDC")))
    frame = text("preview.NVDA", {"e": "preview", "symbol": "NVDA", "bid": "1"})
    outputs = driven.give(frame)
    assert outputs[0] == StreamLive(stream="preview.NVDA")
    assert params(outputs, "SUBSCRIBE") == ["whale.SOL_USDC"], "its data end its turn"
    assert outputs[-1] == UnknownPayload(stream="preview.NVDA", text=frame.data.decode(), received_us=driven.clock.now.unix_us)
    assert driven.give(frame) == [outputs[-1]]
    metrics = driven.session.metrics(driven.clock.now)
    assert (metrics.streams["preview.NVDA"].messages, metrics.dropped_messages) == (2, 0)
    driven.give(Unsubscribe(("preview.NVDA",)))
    assert driven.events(frame) == [FrameDropped], "and nothing is made of what nobody wants"


@pytest.mark.parametrize("managed", [True, False])
def test_untyped_streams_are_subscribed_whoever_makes_the_books(*, managed: bool) -> None:
    driven = Driven(manage_books=managed)
    driven.give(Open(), Subscribe((TRADE,), (DEPTH,), untyped=("preview.NVDA",)))
    assert "preview.NVDA" in params(driven.give(Connected()), "SUBSCRIBE")


def test_a_lost_connection_is_told_to_books_and_ledger() -> None:
    driven = live(Subscribe(books=(DEPTH,)))
    assert driven.events(Disconnected(1006, "reset")) == [ConnectionDown, BookDesynced]
    assert driven.give(PingReceived(b"late")) == []
    driven = up(FollowAccount(), signed=True)
    down = [output for output in driven.give(Disconnected(1006, "reset")) if isinstance(output, Event)]
    assert [type(event) for event in down] == [ConnectionDown]
    assert not driven.session.account.live


def test_a_silent_connection_is_given_up() -> None:
    driven = live(Subscribe(books=(DEPTH,)))
    driven.clock.advance(SILENCE_US)
    assert [output for output in driven.give(TimerFired()) if isinstance(output, SendPing)]
    driven.clock.advance(PING_TIMEOUT_US)
    outputs = driven.give(TimerFired())
    # The book was being checked: that request, too, has lost its owner.
    assert [type(output) for output in outputs] == [PeerSilent, DropSocket, ConnectionDown, WithdrawRequest, BookDesynced]


@pytest.mark.parametrize("sign_of_life", [BytesReceived(3), PongReceived(b"none of ours"), trade(), GARBAGE])
def test_whatever_is_received_proves_the_connection(sign_of_life: Fact) -> None:
    driven = up(Subscribe((TRADE,)))
    driven.clock.advance(SILENCE_US - 1)
    driven.give(sign_of_life)
    driven.clock.advance(SILENCE_US - 1)
    assert not [output for output in driven.give(TimerFired()) if isinstance(output, SendPing)]
    driven.clock.advance(1)
    assert [output for output in driven.give(TimerFired()) if isinstance(output, SendPing)]


def test_a_ping_is_answered_and_reading_that_is_paused_sends_pongs() -> None:
    driven = up()
    assert driven.give(PingReceived(b"x")) == [SendPong(b"x")]
    assert driven.give(ReadingPaused()) == []
    driven.clock.advance(30 * SECOND)
    assert driven.give(TimerFired()) == [SendPong(b"")]


def test_frames_without_a_connection_are_dropped_and_after_closing_not_even_that() -> None:
    driven = up(Subscribe((TRADE,)))
    driven.give(Close())
    assert driven.give(trade()) == []
    (drop,) = Driven().give(trade())
    assert isinstance(drop, FrameDropped)
    assert drop.reason is Drop.NOT_CONNECTED


def test_closing_ends_books_and_calls() -> None:
    driven = live(Subscribe(books=(DEPTH,)))
    driven.give(Call(call_id=7, endpoint="ping"))
    assert driven.events(Close()) == [BookDesynced, CallFailed]


def test_what_is_no_input_is_refused() -> None:
    with pytest.raises(TypeError, match="not an input: OpenSocket"):
        Driven().session.handle(OpenSocket(), FakeClock().now)  # type: ignore[arg-type]  # that is the point


# Frames


def test_data_are_events_and_the_first_of_a_stream_say_that_it_is_live() -> None:
    driven = up(Subscribe((TRADE,)))
    assert driven.events(trade(), trade()) == [StreamLive, Trade, Trade]


def test_a_delta_becomes_a_change_of_its_book() -> None:
    driven = live(Subscribe((DEPTH,)))
    assert driven.events(delta(7)) == [BookChanged]


def test_a_delta_of_another_symbol_is_dropped_and_has_the_book_checked() -> None:
    driven = live(Subscribe((DEPTH,)))
    outputs = driven.give(delta(7, symbol="BTC_USDC"))
    assert [type(output) for output in outputs] == [FrameDropped, SendRequest]
    assert request_in(outputs).request.target == "/api/v1/depth?limit=1000&symbol=SOL_USDC"


def test_a_frame_that_names_no_stream_has_every_book_checked_but_not_every_time() -> None:
    driven = live(Subscribe((DEPTH,)))
    outputs = driven.give(GARBAGE)
    assert [type(output) for output in outputs] == [FrameDropped, SendRequest]
    assert BookVerified in [
        type(output) for output in driven.answer(outputs, SNAPSHOT.replace(b'"5"', b'"6"').replace(b'["9","1"]', b'["9","2"]'))
    ]
    driven.clock.advance(SUSPICION.base_us - 1)
    assert driven.events(*[GARBAGE] * 100) == [FrameDropped] * 100
    assert not [output for output in driven.give(GARBAGE) if isinstance(output, SendRequest)]
    driven.clock.advance(1)
    assert [type(output) for output in driven.give(GARBAGE)] == [FrameDropped, SendRequest]


def test_data_that_nobody_wants_are_dropped() -> None:
    (drop,) = up().give(trade())
    assert isinstance(drop, FrameDropped)
    assert drop.reason is Drop.NOT_SUBSCRIBED


def test_what_is_on_its_way_after_unsubscribing_is_no_event() -> None:
    driven = live(Subscribe((TRADE,), (DEPTH,)))
    outputs = driven.give(Unsubscribe((TRADE, DEPTH)))
    assert params(outputs, "UNSUBSCRIBE") == [TRADE, DEPTH, BOOK_TICKER]
    assert driven.give(trade(), delta(7), ticker(7)) == []
    assert driven.session.health(driven.clock.now).reasons == ()
    with pytest.raises(LocalProtocolError, match="no depth stream"):
        driven.session.book("SOL_USDC")


def test_deltas_are_events_where_no_books_are_kept() -> None:
    driven = up(manage_books=False)
    outputs = driven.give(Subscribe(books=(DEPTH,)))
    assert params(outputs, "SUBSCRIBE") == [DEPTH]
    assert driven.events(delta(7)) == [StreamLive, Depth]


# Who sees a bookTicker


def test_a_book_is_verified_by_a_book_ticker_that_nobody_sees() -> None:
    driven = live(Subscribe(books=(DEPTH,)))
    assert driven.events(ticker(6)) == [StreamLive, BookVerified]
    assert driven.events(delta(7), ticker(7)) == [BookChanged]
    assert driven.events(delta(8), ticker(8, "77")) == [BookChanged, BookDesynced]


def test_a_book_ticker_that_was_asked_for_is_an_event_and_verifies_all_the_same() -> None:
    driven = live(Subscribe((BOOK_TICKER, DEPTH)))
    assert driven.events(ticker(6)) == [StreamLive, BookTicker, BookVerified]


def test_a_plain_depth_stream_has_no_book_ticker() -> None:
    assert params(up().give(Subscribe((DEPTH,))), "SUBSCRIBE") == [DEPTH]


def test_asking_for_a_hidden_book_ticker_shows_it_and_undoing_that_hides_it() -> None:
    driven = live(Subscribe(books=(DEPTH,)))
    driven.give(ticker(6))
    assert driven.give(Subscribe((BOOK_TICKER,))) == []
    assert driven.events(delta(7), ticker(7)) == [BookChanged, BookTicker]
    assert driven.give(Unsubscribe((BOOK_TICKER,))) == []
    assert driven.events(delta(8), ticker(8)) == [BookChanged]


def test_a_book_that_is_undone_leaves_the_book_ticker_to_the_user() -> None:
    driven = live(Subscribe((BOOK_TICKER,), (DEPTH,)))
    driven.give(ticker(6))
    assert params(driven.give(Unsubscribe((DEPTH,))), "UNSUBSCRIBE") == [DEPTH]
    assert driven.events(ticker(7)) == [BookTicker]


def test_a_command_that_is_refused_leaves_no_trace() -> None:
    driven = up(Subscribe(books=(DEPTH,)))
    before = freeze(driven.session)
    for given in (Subscribe((TRADE, "nope")), Subscribe((TRADE,), (BOOK_TICKER,)), Subscribe((ORDERS,)), FollowAccount()):
        with pytest.raises((InvalidStream, LocalProtocolError)):
            driven.give(given)
    with pytest.raises(LocalProtocolError, match="no depth stream"):
        driven.give(Verify(TRADE))
    assert freeze(driven.session) == before


# Requests


def test_a_call_is_answered_to_who_called() -> None:
    driven = up()
    outputs = driven.give(Call(call_id=7, endpoint="ping"))
    assert driven.answer(outputs, b"pong") == [CallAnswered(call_id=7, endpoint="ping", result="pong")]
    outputs = driven.give(Call(call_id=8, endpoint="ping"))
    refusal = ResponseReceived(request_id=request_in(outputs).request_id, status=404, body=b'{"code":"X","message":"no"}')
    (failed,) = driven.give(refusal)
    assert isinstance(failed, CallFailed)
    assert (failed.call_id, type(failed.error)) == (8, ApiError)


def test_a_snapshot_whose_book_has_gone_is_withdrawn_and_of_no_use_should_it_come() -> None:
    driven = up()
    outputs = driven.give(Subscribe((DEPTH,)))
    assert WithdrawRequest(request_in(outputs).request_id) in driven.give(Unsubscribe((DEPTH,)))
    assert driven.answer(outputs) == []


def test_a_call_is_withdrawn_and_resolved_by_its_number() -> None:
    driven = up(signed=True)
    outputs = driven.give(Call(call_id=7, endpoint="cancel_order", parameters={"symbol": "SOL_USDC", "orderId": "1"}))
    assert driven.give(Withdraw(7)) == [WithdrawRequest(request_in(outputs).request_id)]
    (unresolved,) = driven.give(RequestLeft(request_in(outputs).request_id))
    assert isinstance(unresolved, CallUnresolved)
    assert list(driven.session.unresolved) == [7]
    assert driven.give(Resolve(7)) == []
    assert driven.session.unresolved == {}


def test_a_snapshot_makes_a_book_live() -> None:
    driven = up()
    outputs = driven.give(Subscribe((DEPTH,)))
    driven.give(delta(6))
    assert [type(output) for output in driven.answer(outputs)] == [BookSynced, BookChanged]


def test_a_book_is_verified_on_demand() -> None:
    driven = live(Subscribe((DEPTH,)))
    assert request_in(driven.give(Verify(DEPTH))).request.target == "/api/v1/depth?limit=1000&symbol=SOL_USDC"


def test_the_exchange_s_clock_is_measured_from_opening_on() -> None:
    assert request_in(Driven(measure_clock=True).give(Open())).request.target == "/api/v1/time"


# The account


def test_following_the_account_requests_its_streams_and_then_reads_it() -> None:
    driven = up(signed=True)
    outputs = driven.give(FollowAccount())
    assert params(outputs, "SUBSCRIBE") == [*ACCOUNT_STREAMS]
    assert [type(output) for output in outputs] == [*[SendText] * 3, AccountStale, SendRequest]
    assert request_in(outputs).request.target.startswith("/wapi/v1/history/orders")
    outputs = driven.answer(outputs, b"[]")
    assert request_in(outputs).request.target.startswith("/wapi/v1/history/fills")
    assert driven.answer(outputs, b"[]") == []
    driven.clock.advance(IN_FORCE_US)
    assert request_in(driven.give(TimerFired())).request.target == "/api/v1/orders"


def test_an_account_whose_streams_were_there_before_is_read_as_well() -> None:
    driven = up(Subscribe(ACCOUNT_STREAMS), signed=True)
    outputs = driven.give(FollowAccount())
    assert [type(output) for output in outputs] == [AccountStale, SendRequest]
    assert request_in(outputs).request.target.startswith("/wapi/v1/history/orders")
    assert driven.give(FollowAccount()) == []


def test_updates_of_the_account_are_events_while_somebody_follows_them() -> None:
    driven = up(FollowAccount(), signed=True)
    driven.give(Subscribe((ORDERS,)))
    assert driven.give(Unsubscribe(ACCOUNT_STREAMS)) == []
    live_, update = driven.give(order())
    assert isinstance(live_, StreamLive)
    assert isinstance(update, OrderUpdate)


def test_a_refused_subscription_of_the_account_makes_the_ledger_stale() -> None:
    driven = up(FollowAccount(), signed=True)
    refusal = TextReceived(b'{"id":null,"error":{"code":4003,"message":"Invalid signature"}}')
    assert driven.events(refusal) == [StreamsRefused]
    driven.clock.advance(60 * SECOND)
    assert not [output for output in driven.give(TimerFired()) if isinstance(output, SendRequest)]


def test_private_streams_that_a_wrong_clock_signed_are_signed_again_when_the_clock_is_known() -> None:
    driven = up(signed=True, measure_clock=True)
    driven.give(Subscribe((ORDERS,)))
    refusal = TextReceived(b'{"id":null,"error":{"code":4003,"message":"Invalid signature"}}')
    outputs = driven.give(refusal)
    assert isinstance(outputs[0], StreamsRefused)
    answers = [output for output in outputs if isinstance(output, SendRequest)]
    number = answers[0].request_id if answers else 1
    time = str(driven.clock.now.unix_us // 1000 + 60_000).encode()
    assert params(driven.give(ResponseReceived(request_id=number, status=200, body=time)), "SUBSCRIBE") == []
    driven.clock.advance(ERRORS_US)
    assert params(driven.give(TimerFired()), "SUBSCRIBE") == [ORDERS]
    assert params(driven.give(refusal), "SUBSCRIBE") == [], "once on each connection"


def test_an_account_is_there_once_it_is_followed() -> None:
    with pytest.raises(LocalProtocolError, match="not followed"):
        _ = Driven().session.account


def test_a_reading_that_fails_is_told_to_the_ledger() -> None:
    driven = up(signed=True)
    request = request_in(driven.give(FollowAccount()))
    assert driven.events(RequestFailed(request_id=request.request_id, reason="reset")) == [AccountStale]


ANSWERS = {
    "/api/v1/capital": b"{}",
    "/api/v1/capital/collateral": (
        b'{"assetsValue":"0","borrowLiability":"0","collateral":[],"imf":"0.02","mmf":"0.01","marginFraction":null,"netEquity":"0",'
        b'"netEquityAvailable":"0","netEquityLocked":"0","netExposureFutures":"0","pnlUnrealized":"0","liabilitiesValue":"0",'
        b'"unsettledEquity":"0"}'
    ),
}
"""What there is of nothing. All else is a list."""


def settle(driven: Driven, request: SendRequest) -> list[Output]:
    """Answer a reading with nothing, and those that it leads to. Return what came of the last one."""
    outputs: list[Output] = [request]
    while requests := [output for output in outputs if isinstance(output, SendRequest)]:
        body = ANSWERS.get(requests[0].request.target, b"[]")
        outputs = driven.give(ResponseReceived(request_id=requests[0].request_id, status=200, body=body))
    return outputs


def a_followed_account() -> Driven:
    driven = up(signed=True)
    settle(driven, request_in(driven.give(FollowAccount())))
    driven.clock.advance(IN_FORCE_US)
    settle(driven, request_in(driven.give(TimerFired())))
    assert driven.session.account.live
    return driven


@pytest.mark.parametrize(
    "frame",
    [
        text(ORDERS, {"e": "orderTeleported", "E": 1, "T": 1, "i": "5"}),
        text(ORDERS, {"e": "orderFill", "E": 1, "T": 1, "i": "5", "s": "SOL_USDC", "S": "Bid", "X": "Filled", "z": ""}),
        text("account.balanceUpdate", {"e": "balanceUpdate", "E": 1, "T": 1, "a": "SOL"}),
        text("account.positionUpdate", {"e": "positionClosed", "E": 1, "T": 1, "s": "SOL_USDC_PERP"}),
        GARBAGE,
    ],
)
def test_a_private_frame_that_cannot_be_read_makes_the_ledger_stale_and_read_again_at_once(frame: TextReceived) -> None:
    driven = a_followed_account()
    outputs = driven.give(frame)
    assert [type(output) for output in outputs] == [FrameDropped, AccountStale, SendRequest]
    assert not driven.session.account.live
    assert any("could not be read" in reason for reason in driven.session.health(driven.clock.now).reasons)
    assert request_in(outputs).request.target == "/api/v1/orders"


def test_a_public_frame_that_cannot_be_read_is_no_concern_of_the_ledger() -> None:
    driven = a_followed_account()
    driven.give(Subscribe((TRADE,)))
    driven.give(text(TRADE, {"e": "nothing"}), text("account.rfqUpdate", {"e": "nothing"}))
    assert driven.session.account.live


def test_a_quiet_account_that_was_read_is_healthy_though_no_data_have_come() -> None:
    driven = a_followed_account()
    health = driven.session.health(driven.clock.now)
    assert (health.status, health.reasons) == (Status.HEALTHY, ())


def audit_requested(driven: Driven) -> SendRequest:
    deadline = driven.session.account.deadline
    assert deadline is not None
    driven.clock.advance_to(deadline)
    return request_in(driven.give(TimerFired()))


def test_signed_reads_that_are_refused_make_the_ledger_stale_at_once_and_health_says_why() -> None:
    driven = a_followed_account()
    request = audit_requested(driven)
    body = b'{"code":"UNAUTHORIZED","message":"no"}'
    driven.give(ResponseReceived(request_id=request.request_id, status=401, body=body))
    assert not driven.session.account.live
    (reason,) = driven.session.health(driven.clock.now).reasons
    assert "401 UNAUTHORIZED" in reason
    assert reason.endswith("read again in 1 s")


def test_a_check_that_could_not_be_made_is_an_event_and_a_reason_until_one_could() -> None:
    driven = a_followed_account()
    request = audit_requested(driven)
    assert driven.events(ResponseReceived(request_id=request.request_id, status=503, body=b"")) == [AccountUnconfirmed]
    assert driven.session.account.live
    (reason,) = driven.session.health(driven.clock.now).reasons
    assert reason.startswith("the account could not be checked: ")
    settle(driven, audit_requested(driven))
    deadline = driven.session.account.deadline
    assert deadline is not None
    driven.clock.advance_to(deadline)
    assert AccountConfirmed in driven.events(TimerFired())
    assert driven.session.health(driven.clock.now).healthy


def test_an_odd_row_of_the_account_is_doubted_and_its_call_fails() -> None:
    driven = a_followed_account()
    request = audit_requested(driven)
    outputs = driven.give(ResponseReceived(request_id=request.request_id, status=200, body=b'[{"id":"5"}]'))
    settle(driven, request_in(outputs))
    deadline = driven.session.account.deadline
    assert deadline is not None
    driven.clock.advance_to(deadline)
    assert driven.events(TimerFired()) == [AccountDoubted]
    assert driven.session.account.doubts == {"order 5": "its row cannot be read"}
    assert driven.session.health(driven.clock.now).reasons == ("the account is in doubt: order 5: its row cannot be read",)
    call = request_in(driven.give(Call(call_id=1, endpoint="open_orders", parameters={})))
    (failed,) = driven.give(ResponseReceived(request_id=call.request_id, status=200, body=b'[{"id":"5"}]'))
    assert isinstance(failed, CallFailed)
    assert isinstance(failed.error, PartlyUnreadable)


def test_an_odd_row_of_the_market_is_passed_over_and_named() -> None:
    driven = up()
    call = request_in(driven.give(Call(call_id=1, endpoint="mark_prices", parameters={})))
    body = b'[{"symbol":"A","markPrice":"1"},{"symbol":"B"}]'
    skipped, answered = driven.give(ResponseReceived(request_id=call.request_id, status=200, body=body))
    assert isinstance(skipped, RowsSkipped)
    assert [key for key, _ in skipped.errors] == ["B"]
    assert isinstance(answered, CallAnswered)
    assert isinstance(answered.result, tuple)
    assert [row.symbol for row in answered.result] == ["A"]
    call = request_in(driven.give(Call(call_id=2, endpoint="mark_prices", parameters={})))
    (failed,) = driven.give(ResponseReceived(request_id=call.request_id, status=200, body=b'[{"symbol":"B"}]'))
    assert isinstance(failed, CallFailed), "nothing could be read"


# Frames that cannot be read, and two books

STREAMS = ("depth.SOL_USDC", "depth.BTC_USDC")


def frame(symbol: str, update_id: int, engine_us: int = 1) -> TextReceived:
    text = (
        f'{{"data":{{"E":1,"T":{engine_us},"U":{update_id},"a":[["9","2"]],"b":[],"e":"depth","s":"{symbol}","u":{update_id}}},'
        f'"stream":"depth.{symbol}"}}'
    )
    return TextReceived(text.encode())


class Books:
    """A session with two live books, and the answers of an exchange that stands still."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.session = Session(Random(5), audit_books=False, canary=False)
        self.give(Open(), Subscribe(STREAMS), Connected())
        self.give(frame("SOL_USDC", 5), frame("BTC_USDC", 5))
        assert [self.session.book(stream).is_live(self.clock.mono_us) for stream in STREAMS] == [True, True]

    def give(self, *inputs: Given) -> list[Output]:
        """Give inputs now, and answer each request for a snapshot. Returns what came out."""
        outputs: list[Output] = []
        waiting = list(inputs)
        while waiting:
            for output in self.session.handle(waiting.pop(0), self.clock.now):
                outputs.append(output)
                if isinstance(output, SendRequest):
                    body = b'{"asks":[["9","2"]],"bids":[["8","1"]],"lastUpdateId":"5","timestamp":1}'
                    waiting.append(ResponseReceived(request_id=output.request_id, status=200, body=body))
        return outputs


def checked(outputs: list[Output]) -> list[str]:
    return [output.stream for output in outputs if isinstance(output, BookVerified)]


def drops(outputs: list[Output]) -> list[Drop]:
    return [output.reason for output in outputs if isinstance(output, FrameDropped)]


def test_a_frame_that_cannot_be_read_has_every_book_checked_now_and_then() -> None:
    books = Books()
    garbage = TextReceived(b"garbage")
    first = books.give(garbage)
    assert drops(first) == [Drop.NOT_JSON]
    assert checked(first) == list(STREAMS)
    for _ in range(100):
        again = books.give(garbage)
        assert drops(again) == [Drop.NOT_JSON], "each is told, and none costs a request"
        assert not [output for output in again if isinstance(output, SendRequest)]
    books.clock.advance(SUSPICION.base_us - 1)
    assert checked(books.give(garbage)) == []
    books.clock.advance(1)
    assert checked(books.give(garbage, TimerFired())) == list(STREAMS)
    assert checked(books.give(garbage)) == []


def test_a_bad_frame_that_names_its_stream_has_that_book_checked_at_once() -> None:
    books = Books()
    malformed = TextReceived(b'{"data":{"e":"depth","s":"SOL_USDC"},"stream":"depth.SOL_USDC"}')
    outputs = books.give(malformed)
    assert drops(outputs) == [Drop.MALFORMED]
    assert checked(outputs) == ["depth.SOL_USDC"]
    assert checked(books.give(malformed, malformed)) == []
    assert books.session.deadline is not None, "the last of them is looked into as well, later"
    books.clock.advance_to(books.session.deadline)
    assert checked(books.give(TimerFired())) == ["depth.SOL_USDC"]


def test_a_delta_of_another_symbol_is_dropped_and_the_book_checked() -> None:
    books = Books()
    data = frame("BTC_USDC", 6).data.replace(b'"stream":"depth.BTC_USDC"', b'"stream":"depth.SOL_USDC"')
    outputs = books.give(TextReceived(data))
    assert drops(outputs) == [Drop.MALFORMED]
    assert checked(outputs) == ["depth.SOL_USDC"]
    assert [books.session.book(stream).last for stream in STREAMS] == [5, 5]


def test_a_frame_without_a_connection_is_dropped_and_checks_no_book() -> None:
    books = Books()
    books.give(Disconnected(1006, "reset"))
    outputs = books.give(TextReceived(b"garbage"))
    assert drops(outputs) == [Drop.NOT_CONNECTED]
    assert len(outputs) == 1


def test_the_start_of_many_books_can_be_watched() -> None:
    symbols = [f"S{number}_USDC" for number in range(60)]
    driven = up()
    outputs = driven.give(Subscribe(books=tuple(f"depth.{symbol}" for symbol in symbols)))
    books = driven.session.metrics(driven.clock.now).books
    assert books == BooksSnapshot(wanted=60, live=0, fetching=60, queued=40, remaining_us=books.remaining_us)
    assert 1 * SECOND < books.remaining_us < 2 * SECOND
    reports: list[BooksProgress] = []
    requests = [output for output in outputs if isinstance(output, SendRequest)]
    for symbol in symbols:
        reports += [output for output in driven.give(delta(6, f"depth.{symbol}", symbol)) if isinstance(output, BooksProgress)]
    while requests:
        body = SNAPSHOT
        outputs = driven.give(ResponseReceived(request_id=requests.pop(0).request_id, status=200, body=body))
        reports += [output for output in outputs if isinstance(output, BooksProgress)]
        if not requests:
            driven.clock.advance(SECOND)
            outputs = [*outputs, *driven.give(TimerFired())]
        requests += [output for output in outputs if isinstance(output, SendRequest)]
    assert [(report.live, report.wanted) for report in reports][:: len(reports) - 1] == [(1, 60), (60, 60)]
    assert 3 <= len(reports) <= 4
    assert reports[0].queued == 40
    assert driven.session.metrics(driven.clock.now).books == BooksSnapshot(wanted=60, live=60)

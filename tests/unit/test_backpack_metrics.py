"""Counters and health: each cause has its reason, and the reason goes when the cause has passed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backpack_proto.account.values import (
    AccountConfirmed,
    AccountDoubted,
    AccountStale,
    AccountSynced,
    AccountUnconfirmed,
)
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import ConnectFailed, RequestFailed, ResponseReceived
from backpack_proto.metrics import (
    RECENT_US,
    CanarySeen,
    Counted,
    Metrics,
    Status,
    StreamMetrics,
    StreamsRequested,
    TopVerified,
    Unwatched,
)
from backpack_proto.outputs import (
    BookDesynced,
    BookSynced,
    BookVerified,
    Closed,
    ConnectionDown,
    ConnectionUp,
    ErrorReceived,
    PeerSilent,
    RowsSkipped,
    StreamLive,
    StreamSilent,
    StreamsRefused,
)
from backpack_proto.streams.frames import Drop, Frame, FrameDropped
from backpack_proto.streams.payloads import Event, OpenInterest, Trade
from backpack_proto.testing.laws import FakeClock

SOL, TICKER = "depth.SOL_USDC", "ticker.SOL_USDC"
ERROR = RemoteProtocolError("whatever")
UP = ConnectionUp(attempt=1)
DOWN = ConnectionDown(reason="reset", code=1006, retry_us=1)
SYNCED = BookSynced(stream=SOL, symbol="SOL_USDC", last=1, engine_us=1, bids=(), asks=())


def desynced(*, diverged: bool = False) -> BookDesynced:
    return BookDesynced(stream=SOL, symbol="SOL_USDC", last=1, reason="gap", diverged=diverged, error=ERROR)


def trade(engine_us: int, stream: str = "trade.SOL_USDC") -> Frame:
    return Frame(
        Trade(
            emitted_us=engine_us,
            engine_us=engine_us,
            symbol="SOL_USDC",
            trade_id=1,
            price=Decimal(1),
            quantity=Decimal(1),
            buyer_is_maker=True,
            buyer_order_id="1",
            seller_order_id="2",
        ),
        stream,
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def metrics(clock: FakeClock) -> Metrics:
    """Healthy: the connection is up and data have come."""
    metrics = Metrics()
    metrics.handle(UP, clock.now)
    metrics.handle(trade(clock.now.unix_us), clock.now)
    assert metrics.health(clock.now).healthy
    return metrics


def test_a_session_that_never_got_data_is_not_healthy(clock: FakeClock) -> None:
    metrics = Metrics()
    assert metrics.health(clock.now).status is Status.DOWN
    assert metrics.health(clock.now).reasons == ("the connection was never up",)
    metrics.handle(UP, clock.now)
    assert metrics.health(clock.now).status is Status.DEGRADED
    assert metrics.health(clock.now).reasons == ("no data has come yet",)


def test_a_book_of_a_market_that_never_speaks_is_data(clock: FakeClock) -> None:
    metrics = Metrics()
    metrics.handle(UP, clock.now)
    metrics.handle(BookSynced(stream=SOL, symbol="SOL_USDC", last=1, engine_us=1, bids=(), asks=()), clock.now)
    assert metrics.health(clock.now).healthy


PASSING = [
    (FrameDropped(reason=Drop.NOT_JSON, error=ERROR), "frames were dropped: not JSON"),
    (desynced(diverged=True), f"book {SOL} had diverged"),
    (ErrorReceived(error=ERROR, code=4002, message="Parse error"), "the exchange answered: Parse error"),
    (PeerSilent(silent_us=1), "the exchange fell silent"),
    (ResponseReceived(request_id=1, status=429, body=b""), "REST requests were refused as too many"),
]


@pytest.mark.parametrize(("given", "reason"), PASSING, ids=lambda value: type(value).__name__)
def test_what_passes_at_once_counts_for_a_while(metrics: Metrics, clock: FakeClock, given: Counted, reason: str) -> None:
    metrics.handle(given, clock.now)
    metrics.handle(SYNCED, clock.now)
    assert metrics.health(clock.now).reasons == (reason,)
    assert metrics.health(clock.advance(RECENT_US - 1)).status is Status.DEGRADED
    assert metrics.health(clock.advance(1)).healthy


REFUSED = StreamsRefused(
    error=ERROR, code=4003, message="Invalid signature", suspects=("account.orderUpdate",), authentication=True
)
LASTING: list[tuple[Counted, Counted, str]] = [
    (DOWN, UP, "the connection is down: reset"),
    (Closed(), UP, "the session is closed"),
    (StreamSilent(stream=TICKER, silent_us=9), StreamLive(stream=TICKER), f"stream {TICKER} is silent"),
    (StreamSilent(stream=TICKER, silent_us=9), Unwatched((TICKER,)), f"stream {TICKER} is silent"),
    (REFUSED, StreamLive(stream="account.orderUpdate"), "stream account.orderUpdate was refused: Invalid signature"),
    (REFUSED, UP, "stream account.orderUpdate was refused: Invalid signature"),
    (
        REFUSED,
        StreamsRequested(("account.orderUpdate",)),
        "stream account.orderUpdate was refused: Invalid signature",
    ),
    (REFUSED, Unwatched(("account.orderUpdate",)), "stream account.orderUpdate was refused: Invalid signature"),
]


@pytest.mark.parametrize(("cause", "cure", "reason"), LASTING)
def test_what_lasts_counts_until_it_is_cured(
    metrics: Metrics, clock: FakeClock, cause: Counted, cure: Counted, reason: str
) -> None:
    metrics.handle(cause, clock.now)
    assert metrics.health(clock.advance(10 * RECENT_US)).reasons == (reason,)
    metrics.handle(cure, clock.now)
    assert metrics.health(clock.now).healthy


def test_a_stream_that_may_be_quiet_is_a_note_and_no_reason(metrics: Metrics, clock: FakeClock) -> None:
    metrics.handle(StreamSilent(stream=SOL, silent_us=9), clock.now)
    health = metrics.health(clock.now, notes=["market X is closed"])
    assert (health.healthy, health.notes) == (True, ("market X is closed", f"stream {SOL} has sent nothing yet"))
    metrics.handle(StreamLive(stream=SOL), clock.now)
    assert metrics.health(clock.now).notes == ()
    noted = health.and_also([], ["events wait"])
    assert (noted.status, noted.notes) == (Status.HEALTHY, (*health.notes, "events wait"))
    doubted = health.and_also(["a consumer is slow"])
    assert (doubted.status, doubted.reasons, doubted.notes) == (Status.DEGRADED, ("a consumer is slow",), health.notes)


def test_frames_of_canaries_are_counted_apart(metrics: Metrics, clock: FakeClock) -> None:
    before = metrics.snapshot(clock.now)
    metrics.handle(CanarySeen(), clock.now)
    after = metrics.snapshot(clock.now)
    assert (after.canary_messages, after.ws_messages, after.streams) == (1, before.ws_messages, before.streams)


def test_a_stream_that_was_silent_on_a_lost_connection_is_not_silent_on_the_next(metrics: Metrics, clock: FakeClock) -> None:
    metrics.handle(StreamSilent(stream=TICKER, silent_us=9), clock.now)
    metrics.handle(DOWN, clock.now)
    assert metrics.health(clock.now).reasons == ("the connection is down: reset",)
    metrics.handle(UP, clock.now)
    assert metrics.health(clock.now).healthy


def test_every_counter_counts_its_own(clock: FakeClock) -> None:
    metrics = Metrics()
    now = clock.now
    crossed: list[Counted] = [
        UP,
        trade(now.unix_us),
        trade(now.unix_us),
        trade(now.unix_us, "trade.BTC_USDC"),
        DOWN,
        UP,
        UP,
        REFUSED,
        ErrorReceived(error=ERROR, code=4002, message="Parse error"),
        FrameDropped(reason=Drop.MALFORMED, error=ERROR),
        FrameDropped(reason=Drop.NOT_SUBSCRIBED, error=ERROR),
        desynced(),
        desynced(diverged=True),
        TopVerified(),
        BookVerified(stream=SOL, symbol="SOL_USDC", last=1, against="snapshot"),
        BookVerified(stream=SOL, symbol="SOL_USDC", last=1, against="bookTicker"),
        ResponseReceived(request_id=1, status=429, body=b""),
        ResponseReceived(request_id=2, status=200, body=b""),
    ]
    for given in crossed:
        assert metrics.handle(given, now) == ()
    later = clock.advance(5)
    snapshot = metrics.snapshot(later)
    assert snapshot.streams == {
        "trade.SOL_USDC": StreamMetrics(messages=2, age_us=5),
        "trade.BTC_USDC": StreamMetrics(messages=1, age_us=5),
    }
    assert snapshot.ws_messages == 7
    assert snapshot.ws_reconnects == 2
    assert snapshot.ws_errors == 3
    assert snapshot.auth_failures == 1
    assert snapshot.dropped_messages == 2
    assert snapshot.parser_errors == 1
    assert snapshot.orderbook_resyncs == 2
    assert snapshot.book_divergences == 1
    assert snapshot.book_verifications == 2, (
        "the first match of a run is told as TopVerified and BookVerified, and counted once"
    )
    assert snapshot.rate_limited == 1


def test_latency_is_measured_from_engine_to_receipt_and_never_negative(clock: FakeClock) -> None:
    metrics = Metrics()
    assert metrics.snapshot(clock.now).engine_to_receipt_p50_us is None
    for latency_us in [-1_000] * 2 + [900] * 96 + [70_000] * 2:
        metrics.handle(trade(clock.now.unix_us - latency_us), clock.now)
    metrics.handle(Frame(OpenInterest(emitted_us=0, symbol="S", open_interest=Decimal(1)), "openInterest.S"), clock.now)
    snapshot = metrics.snapshot(clock.now)
    assert snapshot.engine_to_receipt_p50_us is not None
    assert snapshot.engine_to_receipt_p99_us is not None
    assert 900 <= snapshot.engine_to_receipt_p50_us <= 956
    assert 70_000 <= snapshot.engine_to_receipt_p99_us <= 74_375


@pytest.mark.parametrize(
    ("given", "reason", "cure"),
    [
        (AccountUnconfirmed(reason="503"), "the account could not be checked: 503", AccountConfirmed()),
        (AccountStale(reason="no data"), "the account is stale: no data", AccountConfirmed()),
        (AccountUnconfirmed(reason="503"), "the account could not be checked: 503", AccountSynced(orders=0, fills=0)),
        (AccountDoubted(doubts=("order 5: why",)), "the account is in doubt: order 5: why", AccountDoubted(doubts=())),
        (AccountStale(reason="down"), "the account is stale: down", AccountSynced(orders=0, fills=0)),
    ],
)
def test_what_is_not_proved_of_the_account_counts_until_it_is(clock: FakeClock, given: Event, reason: str, cure: Event) -> None:
    metrics = Metrics()
    for event in (UP, AccountSynced(orders=0, fills=0)):
        metrics.handle(event, clock.now)
    assert metrics.health(clock.now).healthy, "a synced account is data"
    metrics.handle(given, clock.now)
    assert metrics.health(clock.now).reasons == (reason,)
    metrics.handle(cure, clock.now)
    assert metrics.health(clock.now).healthy


def test_a_thousand_doubts_are_few_reasons(metrics: Metrics, clock: FakeClock) -> None:
    metrics.handle(AccountDoubted(doubts=tuple(f"order {number}: why" for number in range(1_000))), clock.now)
    reasons = [reason for reason in metrics.health(clock.now).reasons if "doubt" in reason]
    assert len(reasons) == 4
    assert reasons[-1] == "the account is in doubt: 997 parts more"


def test_rows_that_were_skipped_are_named_for_a_while(metrics: Metrics, clock: FakeClock) -> None:
    errors = (("SOL_USDC", "why"), ("", "why"), ("A", "b"), ("C", "d"))
    metrics.handle(RowsSkipped(endpoint="GET /api/v1/tickers", errors=errors), clock.now)
    reason = "GET /api/v1/tickers has rows that cannot be read: SOL_USDC, one without an id, A"
    assert reason in metrics.health(clock.now).reasons
    clock.advance(RECENT_US)
    assert reason not in metrics.health(clock.now).reasons


def test_metrics_want_no_timer() -> None:
    assert Metrics().deadline is None


def test_what_fails_at_a_proxy_is_counted_and_against_health(metrics: Metrics, clock: FakeClock) -> None:
    metrics.handle(ConnectFailed("refused"), clock.now)
    metrics.handle(RequestFailed(request_id=1, reason="no answer"), clock.now)
    assert metrics.snapshot(clock.now).proxy_failures == 0
    metrics.handle(ConnectFailed("refused", proxy="socks5://h:1"), clock.now)
    metrics.handle(RequestFailed(request_id=2, reason="refused", sent=False, proxy="socks5://h:1"), clock.now)
    assert metrics.snapshot(clock.now).proxy_failures == 2
    assert "the way through proxy socks5://h:1 failed" in metrics.health(clock.now).reasons

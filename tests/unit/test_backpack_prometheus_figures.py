"""Each figure of an observation under the name of its own metric."""

from __future__ import annotations

import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from msgspec.structs import replace

from backpack_proto import __version__
from backpack_proto.buckets import BOUNDS_US, Durations
from backpack_proto.metrics import BooksSnapshot, Health, MetricsSnapshot, Status
from backpack_proto.observation import BookSeen, ChannelSeen, SessionObservation
from backpack_proto.rest.pacing import PacerState
from backpack_runtime.delivery import DeliverySnapshot
from backpack_runtime.kernels import kernels_in_use
from backpack_runtime.loop_thread import LoopThread
from backpack_runtime.observation import Observation
from backpack_runtime.prometheus import BackpackCollector
from scrapes import Figures, registry_of, scrape

METRICS = MetricsSnapshot(
    ws_messages=101,
    ws_reconnects=102,
    ws_errors=103,
    auth_failures=104,
    canary_messages=105,
    dropped_messages=106,
    parser_errors=107,
    orderbook_resyncs=108,
    book_verifications=109,
    book_divergences=110,
    account_divergences=111,
    rate_limited=112,
    proxy_failures=113,
    books=BooksSnapshot(wanted=121, live=122, fetching=123, closed=124, queued=125, remaining_us=126),
    streams={},
    engine_to_receipt_p50_us=None,
    engine_to_receipt_p99_us=None,
)
BUDGET = PacerState(standard_available=131, reserve_available=132, historical_available=133, queued=134, paused_until_us=9)
SESSION = SessionObservation(
    metrics=METRICS,
    health=Health(status=Status.DEGRADED, reasons=("a", "b", "c")),
    connected=True,
    channels={"depth": ChannelSeen(frames=141, wanted=142, newest_age_us=143_000, oldest_age_us=144_000_000)},
    books=(
        BookSeen(symbol="A_USDC", live=True, closed=False, age_us=1_000_000),
        BookSeen(symbol="B_USDC", live=False, closed=False, age_us=4_000_000),
        BookSeen(symbol="C_USDC", live=False, closed=True, age_us=90_000_000),
        BookSeen(symbol="A_USDC", live=False, closed=False, age_us=2_000_000),
        BookSeen(symbol="D_USDC", live=False, closed=False, age_us=None),
    ),
    resyncs={"B_USDC": 151, "E_USDC": 152},
    budget=BUDGET,
    paused_us=1_500_000,
    unresolved=161,
    account_live=True,
    account_doubts=162,
    engine_to_receipt=Durations(at_most=tuple(range(len(BOUNDS_US))), count=171, sum_us=2_500_000),
)
DELIVERY = DeliverySnapshot(
    waiting=201,
    waiting_bytes=202,
    behind_us=2_030_000,
    conflated=204,
    repeated=205,
    dropped=206,
    dropped_private=207,
    pauses=208,
)
SEEN = Observation(
    running=True,
    session=SESSION,
    delivery=DELIVERY,
    receipt_to_event=Durations(at_most=(0,) * len(BOUNDS_US), count=211, sum_us=212),
    event_to_consumer=Durations(at_most=(0,) * len(BOUNDS_US), count=221, sum_us=222),
    orders_in_doubt=231,
    feed={"callback_errors": 241, "candles_filled": 242, "candle_gaps": 243},
)
EXPECTED = {
    f'build_info{{kernels="{kernels_in_use()}",version="{__version__}"}}': 1,
    "responding": 1,
    "running": 1,
    'health_status{status="healthy"}': 0,
    'health_status{status="degraded"}': 1,
    'health_status{status="down"}': 0,
    "health_reasons": 3,
    "connection_up": 1,
    'frames_total{channel="depth"}': 141,
    "canary_frames_total": 105,
    'streams{channel="depth"}': 142,
    'stream_age_seconds{channel="depth",which="newest"}': 0.143,
    'stream_age_seconds{channel="depth",which="oldest"}': 144,
    "reconnects_total": 102,
    "websocket_errors_total": 103,
    "auth_failures_total": 104,
    "dropped_frames_total": 106,
    "parser_errors_total": 107,
    "proxy_failures_total": 113,
    "books_wanted": 121,
    "books_live": 122,
    "books_fetching": 123,
    "books_closed": 124,
    "books_queued": 125,
    'book_age_seconds{which="newest"}': 1,
    'book_age_seconds{which="median"}': 2,
    'book_age_seconds{which="oldest"}': 4,
    "book_resyncs_total": 108,
    "book_verifications_total": 109,
    "book_divergences_total": 110,
    'symbol_book_live{symbol="A_USDC"}': 1,
    'symbol_book_live{symbol="B_USDC"}': 0,
    'symbol_book_live{symbol="C_USDC"}': 0,
    'symbol_book_live{symbol="D_USDC"}': 0,
    'symbol_book_closed{symbol="A_USDC"}': 0,
    'symbol_book_closed{symbol="B_USDC"}': 0,
    'symbol_book_closed{symbol="C_USDC"}': 1,
    'symbol_book_closed{symbol="D_USDC"}': 0,
    'symbol_book_age_seconds{symbol="A_USDC"}': 1,
    'symbol_book_age_seconds{symbol="B_USDC"}': 4,
    'symbol_book_age_seconds{symbol="C_USDC"}': 90,
    'symbol_book_resyncs_total{symbol="A_USDC"}': 0,
    'symbol_book_resyncs_total{symbol="B_USDC"}': 151,
    'symbol_book_resyncs_total{symbol="C_USDC"}': 0,
    'symbol_book_resyncs_total{symbol="D_USDC"}': 0,
    'symbol_book_resyncs_total{symbol="E_USDC"}': 152,
    "exchange_to_socket_seconds_count": 171,
    "exchange_to_socket_seconds_sum": 2.5,
    'exchange_to_socket_seconds_bucket{le="+Inf"}': 171,
    **{f'exchange_to_socket_seconds_bucket{{le="{bound_us / 1e6!r}"}}': number for number, bound_us in enumerate(BOUNDS_US)},
    "socket_to_event_seconds_count": 211,
    "event_to_consumer_seconds_count": 221,
    "delivery_waiting_events": 201,
    "delivery_waiting_bytes": 202,
    "delivery_behind_seconds": 2.03,
    'delivery_dropped_events_total{kind="market"}': 206,
    'delivery_dropped_events_total{kind="private"}': 207,
    "delivery_merged_changes_total": 204,
    "delivery_pauses_total": 208,
    'requests_available{budget="standard"}': 131,
    'requests_available{budget="reserve"}': 132,
    'requests_available{budget="historical"}': 133,
    "requests_queued": 134,
    "requests_paused_seconds": 1.5,
    "rate_limited_total": 112,
    "calls_unresolved": 161,
    "account_live": 1,
    "account_doubts": 162,
    "account_divergences_total": 111,
    "orders_in_doubt": 231,
    "feed_callback_errors_total": 241,
    "feed_candles_filled_total": 242,
    "feed_candle_gaps_total": 243,
}


class Source:
    """Something that is always in this state."""

    def __init__(self, seen: Observation) -> None:
        self.seen = seen

    def _observe(self) -> Observation:
        return self.seen

    async def loop_thread(self) -> None:
        self.thread = LoopThread()

    def _loop_thread(self) -> LoopThread:
        return self.thread


async def figures_of(seen: Observation, *, symbols: bool = True) -> Figures:
    source = Source(seen)
    await source.loop_thread()
    found = scrape(registry_of(BackpackCollector(source, symbols=symbols)))
    return {series.removeprefix("backpack_"): value for series, value in found.items()}


@pytest.mark.anyio
async def test_each_figure_is_under_its_own_name_and_in_its_unit() -> None:
    found = await figures_of(SEEN)
    left_out = ("scrape_wait_seconds", "socket_to_event_seconds_", "event_to_consumer_seconds_")
    assert {series: found.get(series) for series in EXPECTED} == EXPECTED
    assert [series for series in found.keys() - EXPECTED.keys() if not series.startswith(left_out)] == []


@pytest.mark.anyio
async def test_without_symbols_and_without_a_feed_there_are_no_metrics_of_them() -> None:
    found = await figures_of(replace(SEEN, feed=None, session=replace(SESSION, account_live=None)), symbols=False)
    gone = ("symbol_", "feed_", "account_live", "account_doubts")
    assert {series for series in EXPECTED if not series.startswith(gone)} <= found.keys()
    assert [series for series in found if series.startswith(gone)] == []

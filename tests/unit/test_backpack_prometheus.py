"""The collector for Prometheus over a scripted transport: what is counted, from which thread, and before, in and after the client's life."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from prometheus_client.registry import CollectorRegistry

from backpack_proto.buckets import BOUNDS_US
from backpack_proto.errors import ConfigurationError
from backpack_proto.inputs import TextReceived
from backpack_proto.outputs import ConnectionUp
from backpack_proto.streams.payloads import Event, Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.prometheus import BackpackCollector, CollectorGroup
from backpack_runtime.prometheus.families import METRICS, Kind
from backpack_runtime.sync_client import BackpackSync
from backpack_runtime.transports.mock import MockTransport
from scrapes import Figures, registry_of, scrape
from transports import one_market, trade_frame

PATIENCE_SECONDS = 20
TRADES = 'backpack_frames_total{channel="trade"}'
UNKNOWN = 'backpack_frames_total{channel="unknown"}'
DOWN = 'backpack_health_status{status="down"}'


@asynccontextmanager
async def a_client(**options: object) -> AsyncIterator[tuple[BackpackClient, MockTransport]]:
    """A client of trades whose connection is up. Its collector is made before it is entered."""
    transport = MockTransport(one_market)
    client = BackpackClient(["SOL_USDC"], channels=["trades"], transport=transport, **options)  # type: ignore[arg-type]  # of many types
    with anyio.fail_after(PATIENCE_SECONDS):
        async with client:
            if "on_event" not in options:
                while not isinstance(await anext(client), ConnectionUp):
                    pass
            yield client, transport


async def arrive(client: BackpackClient, transport: MockTransport, *frames: TextReceived) -> None:
    before = client.metrics.ws_messages
    transport.feed(*frames)
    while client.metrics.ws_messages < before + len(frames):
        await anyio.lowlevel.checkpoint()


async def fetch(client: BackpackClient, count: int) -> None:
    """Fetch so many trades."""
    while count:
        count -= isinstance(await anext(client), Trade)


async def from_a_thread(registry: CollectorRegistry) -> Figures:
    """Scrape as the server of prometheus_client does: in another thread."""
    return await anyio.to_thread.run_sync(scrape, registry)


def counters(found: Figures) -> Figures:
    """Those figures of a scrape that never become smaller."""
    suffixes = ("_total", "_bucket", "_count", "_sum")
    return {series: value for series, value in found.items() if series.partition("{")[0].endswith(suffixes)}


@pytest.mark.anyio
async def test_a_scrape_follows_a_client_through_its_life() -> None:
    transport = MockTransport(one_market)
    client = BackpackClient(["SOL_USDC"], channels=["trades"], transport=transport)
    registry = registry_of(BackpackCollector(client))
    before = scrape(registry)
    assert (before["backpack_running"], before[DOWN], before[TRADES], before["backpack_connection_up"]) == (0, 1, 0, 0)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with client:
            await arrive(client, transport, *map(trade_frame, range(3)))
            await fetch(client, 3)
            inside = await from_a_thread(registry)
        after = scrape(registry)
    assert (inside["backpack_running"], inside[DOWN], inside[TRADES], inside["backpack_connection_up"]) == (1, 0, 3, 1)
    assert inside['backpack_streams{channel="trade"}'] == 1
    assert inside['backpack_stream_age_seconds{channel="trade",which="oldest"}'] < PATIENCE_SECONDS
    assert (after["backpack_running"], after[DOWN], after[TRADES], after["backpack_connection_up"]) == (0, 1, 3, 0)
    assert counters(before).keys() == counters(inside).keys() == counters(after).keys()
    assert all(value <= counters(after)[series] for series, value in counters(inside).items())


@pytest.mark.anyio
async def test_a_scrape_in_the_thread_of_the_loop_does_not_wait_for_itself() -> None:
    async with a_client() as (client, transport):
        registry = registry_of(BackpackCollector(client))
        await arrive(client, transport, trade_frame(1))
        found = scrape(registry)
    assert (found["backpack_responding"], found[TRADES]) == (1, 1)


@pytest.mark.anyio
async def test_scrapes_of_another_thread_never_meet_a_change_halfway() -> None:
    """Streams are added all the time while it scrapes. Read in that thread, a dictionary would change its size in the middle."""
    seen: list[Figures] = []
    enough = threading.Event()

    def scrape_on(registry: CollectorRegistry) -> None:
        while len(seen) < 15:
            seen.append(scrape(registry))
        enough.set()

    async with a_client(slow_consumer="drop_oldest", buffer=100) as (client, transport):
        registry = registry_of(BackpackCollector(client))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, scrape_on, registry)
            number = 0
            while not enough.is_set():
                streams = [f"kind{number}.{symbol}" for symbol in range(20)]
                await client.subscribe_untyped(streams)
                transport.feed(*(TextReceived(f'{{"data":{{}},"stream":"{stream}"}}'.encode()) for stream in streams))
                transport.feed(*map(trade_frame, range(20)))
                number += 1
                await anyio.lowlevel.checkpoint()
    assert all(found["backpack_responding"] for found in seen)
    assert seen[-1][UNKNOWN] > seen[0][UNKNOWN]
    for earlier, later in pairwise(seen):
        assert all(value <= later[series] for series, value in counters(earlier).items())


@pytest.mark.anyio
async def test_a_loop_that_is_blocked_promises_nothing_and_loses_no_count() -> None:
    async with a_client() as (client, transport):
        registry = registry_of(BackpackCollector(client, timeout_s=0.01))
        never_asked = registry_of(BackpackCollector(client, timeout_s=0.01))
        await arrive(client, transport, *map(trade_frame, range(3)))
        before = scrape(registry)
        found: list[Figures] = []
        thread = threading.Thread(target=lambda: found.extend([scrape(registry), scrape(never_asked)]))
        thread.start()
        thread.join()  # which blocks the loop
        blocked, unknown = found
        again = await from_a_thread(registry_of(BackpackCollector(client)))
    assert blocked["backpack_responding"] == 0
    assert blocked["backpack_scrape_wait_seconds"] >= 0.01
    assert (blocked["backpack_running"], blocked[DOWN], blocked["backpack_connection_up"]) == (0, 1, 0)
    assert counters(blocked) == counters(before)
    assert "backpack_requests_queued" not in blocked, "nobody knows"
    assert (unknown["backpack_responding"], unknown[DOWN]) == (0, 1)
    assert counters(unknown) == {}
    assert (again["backpack_responding"], again[DOWN], again[TRADES]) == (1, 0, 3)


@pytest.mark.anyio
async def test_streams_that_are_unsubscribed_keep_their_counts_and_have_no_age() -> None:
    async with a_client() as (client, transport):
        registry = registry_of(BackpackCollector(client))
        await arrive(client, transport, *map(trade_frame, range(3)))
        await client.unsubscribe(["trades"], ["SOL_USDC"])
        found = scrape(registry)
    assert found[TRADES] == 3
    assert found['backpack_streams{channel="trade"}'] == 0
    assert not any(series.startswith('backpack_stream_age_seconds{channel="trade"') for series in found)


@pytest.mark.anyio
async def test_frames_of_no_known_channel_are_counted_as_such_and_in_the_sum() -> None:
    async with a_client() as (client, transport):
        registry = registry_of(BackpackCollector(client))
        await client.subscribe_untyped(["kind.SOL_USDC"])
        untyped = TextReceived(b'{"data":{"e":"kind"},"stream":"kind.SOL_USDC"}')
        await arrive(client, transport, trade_frame(1), untyped, TextReceived(b"{"))
        found, metrics = scrape(registry), client.metrics
    assert (found[TRADES], found[UNKNOWN]) == (1, 2)
    frames = sum(value for series, value in found.items() if series.startswith("backpack_frames_total"))
    assert frames == metrics.ws_messages == 3
    assert (found["backpack_dropped_frames_total"], found["backpack_parser_errors_total"]) == (1, 1)


@pytest.mark.anyio
async def test_each_stage_of_the_latency_is_a_histogram_of_all_events() -> None:
    async with a_client() as (client, transport):
        registry = registry_of(BackpackCollector(client))
        for start in range(0, 200, 20):
            await arrive(client, transport, *map(trade_frame, range(start, start + 20)))
        before = scrape(registry)
        await fetch(client, 200)
        found = scrape(registry)
    for stage, fetched in (("exchange_to_socket", True), ("socket_to_event", True), ("event_to_consumer", False)):
        name = f"backpack_{stage}_seconds"
        assert before[f"{name}_count"] == (200 if fetched else 0)
        assert found[f"{name}_count"] == found[f'{name}_bucket{{le="+Inf"}}'] == 200
        buckets = [found[f'{name}_bucket{{le="{bound_us / 1e6!r}"}}'] for bound_us in BOUNDS_US]
        assert buckets == sorted(buckets)
        assert found[f"{name}_sum"] > 0
    assert found['backpack_exchange_to_socket_seconds_bucket{le="30.0"}'] == 0, "they are of 1970"
    assert found['backpack_socket_to_event_seconds_bucket{le="30.0"}'] == 200


@pytest.mark.anyio
async def test_a_callback_is_a_consumer_and_what_it_waits_for_is_those_before_it() -> None:
    called: list[Event] = []
    found: list[Figures] = []

    def on_event(event: Event) -> None:
        called.append(event)
        if isinstance(event, Trade) and event.trade_id == 5:
            found.append(scrape(registry))

    async with a_client(on_event=on_event) as (client, transport):
        registry = registry_of(BackpackCollector(client))
        await arrive(client, transport, *map(trade_frame, range(5)))
        await arrive(client, transport, *map(trade_frame, range(5, 9)))
        found.append(scrape(registry))
    assert [figures["backpack_event_to_consumer_seconds_count"] for figures in found] == [5, 9]
    assert [figures["backpack_socket_to_event_seconds_count"] for figures in found] == [9, 9]


@pytest.mark.anyio
async def test_what_a_queue_has_lost_is_counted_when_the_queue_is_closed_as_well() -> None:
    lost = 'backpack_delivery_dropped_events_total{kind="market"}'
    async with a_client() as (client, transport):
        registry = registry_of(BackpackCollector(client))
        stream = client.stream(Trade, buffer=10, slow_consumer="drop_oldest")
        await arrive(client, transport, *map(trade_frame, range(50)))
        inside = scrape(registry)
        stream.close()
        closed = scrape(registry)
        stream.close()
        assert scrape(registry)[lost] == 40, "closed twice, it is counted once"
    assert inside[lost] == closed[lost] == 40
    assert inside["backpack_delivery_waiting_events"] == closed["backpack_delivery_waiting_events"] + 10


@pytest.mark.anyio
async def test_a_client_of_calls_only_runs_without_a_connection() -> None:
    transport = MockTransport(one_market)
    client = BackpackClient(transport=transport, streams=False)
    registry = registry_of(BackpackCollector(client))
    assert scrape(registry)[DOWN] == 1
    async with client:
        found = await from_a_thread(registry)
    assert (found["backpack_running"], found['backpack_health_status{status="healthy"}']) == (1, 1)
    assert "backpack_connection_up" not in found, "an alert would fire for ever"
    assert scrape(registry)[DOWN] == 1


def test_the_synchronous_client_is_a_source_as_well() -> None:
    transport = MockTransport(one_market)
    client = BackpackSync(["SOL_USDC"], channels=["trades"], transport=transport)
    registry = registry_of(BackpackCollector(client))
    assert scrape(registry)["backpack_running"] == 0
    with client:
        found = scrape(registry)
    after = scrape(registry)
    assert (found["backpack_running"], found["backpack_responding"], found["backpack_connection_up"]) == (1, 1, 1)
    assert (after["backpack_running"], after["backpack_responding"]) == (0, 1)


@pytest.mark.anyio
async def test_labels_of_the_user_are_on_every_series_and_tell_clients_of_one_process_apart() -> None:
    async with a_client() as (one, transport), a_client() as (other, _):
        first = BackpackCollector(one, const_labels={"client": "one"})
        second = BackpackCollector(other, const_labels={"client": "other"})
        registry = registry_of(CollectorGroup(first, second))
        await arrive(one, transport, trade_frame(1))
        found = await from_a_thread(registry)
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry_of(first, second)
        with pytest.raises(ConfigurationError, match="two of them have the same const_labels"):
            CollectorGroup(first, first)
        with pytest.raises(ConfigurationError, match="the same names in const_labels"):
            CollectorGroup(first, BackpackCollector(other))
        with pytest.raises(ConfigurationError, match="one or more"):
            CollectorGroup()
    assert all('client="one"' in series or 'client="other"' in series for series in found)
    assert found['backpack_frames_total{channel="trade",client="one"}'] == 1
    assert found['backpack_frames_total{channel="trade",client="other"}'] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"symbols": "SOL_USDC"}, r"^symbols: a list of texts, got the text 'SOL_USDC'"),
        ({"symbols": ["SOL-USDC"]}, r"^symbols: metrics name markets by their ids, such as SOL_USDC, got 'SOL-USDC'"),
        ({"const_labels": ["a"]}, r"^const_labels: a mapping of names to texts, got a list"),
        ({"const_labels": {"a b": "c"}}, r"^const_labels: 'a b' cannot be the name of a label"),
        ({"const_labels": {"__a": "c"}}, r"^const_labels: '__a' cannot be the name of a label"),
        ({"const_labels": {"le": "c"}}, r"^const_labels: 'le' is a label of the metrics themselves"),
        ({"const_labels": {"channel": "c"}}, r"^const_labels: 'channel' is a label of the metrics themselves"),
        ({"const_labels": {"a": 1}}, r"^const_labels\['a'\]: text, got 1"),
        ({"timeout_s": 0}, r"^timeout_s: seconds, more than 0, got 0"),
    ],
)
def test_impossible_arguments_are_refused(options: dict[str, object], said: str) -> None:
    client = BackpackClient(transport=MockTransport(one_market))
    with pytest.raises(ConfigurationError, match=said):
        BackpackCollector(client, **options)  # type: ignore[arg-type]  # that is the point


def test_something_else_than_a_client_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^source: a BackpackClient, BackpackSync or BackpackFeed, got str"):
        BackpackCollector("client")  # type: ignore[arg-type]  # that is the point


def test_names_follow_the_conventions_of_prometheus() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("backpack_")
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds")
        assert metric.help.endswith(".")
        assert metric.help[0].isupper() or metric.help[0] == "1"


def test_without_prometheus_client_it_says_which_extra_is_missing() -> None:
    program = "import sys; sys.modules['prometheus_client'] = None; import backpack_runtime.prometheus"
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert 'MissingExtra: metrics for Prometheus needs the extra "metrics"' in ended.stderr

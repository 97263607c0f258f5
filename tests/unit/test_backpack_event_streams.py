"""Consumers of one client over a scripted transport: one loop at a time, and a queue for each of the others."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from backpack_proto.errors import ClientClosed, ConfigurationError, LocalProtocolError
from backpack_proto.outputs import ConnectionUp, EventsDropped
from backpack_proto.streams.payloads import BookTicker, Event, StreamPayload, Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import EventStream
from backpack_runtime.transports.mock import MockTransport
from transports import one_market, trade_frame

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 20


@asynccontextmanager
async def a_client(**options: object) -> AsyncIterator[tuple[BackpackClient, MockTransport]]:
    """A client whose connection is up, and whose first events were fetched."""
    transport = MockTransport(one_market)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with BackpackClient(["SOL_USDC"], channels=["trades"], transport=transport, **options) as client:  # type: ignore[arg-type]  # options of many types
            while not isinstance(await anext(client), ConnectionUp):
                pass
            yield client, transport


async def collect(events: AsyncIterator[Event] | EventStream | BackpackClient, into: list[Event]) -> None:
    into.extend([event async for event in events])


def ids(events: list[Event]) -> list[int | None]:
    return [event.trade_id for event in events if isinstance(event, Trade)]


async def arrive(client: BackpackClient, transport: MockTransport, *numbers: int) -> None:
    """Let trades arrive, and the session handle them."""
    before = client.metrics.ws_messages
    transport.feed(*map(trade_frame, numbers))
    while client.metrics.ws_messages < before + len(numbers):
        await anyio.lowlevel.checkpoint()


async def test_a_second_loop_is_an_error_in_words_and_the_first_goes_on() -> None:
    first: list[Event] = []
    async with a_client() as (client, transport), anyio.create_task_group() as tasks:
        tasks.start_soon(collect, client, first)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(LocalProtocolError, match=r"one loop at a time, others use `client\.stream\(\.\.\.\)`"):
            async for _ in client:
                pass
        with pytest.raises(LocalProtocolError, match=r"another task iterates over the events"):
            await anext(client)
        await arrive(client, transport, 1, 2)
        await client.aclose()
    assert ids(first) == [1, 2]


async def test_a_task_that_waits_for_one_event_is_not_robbed_of_it() -> None:
    got: list[Event] = []

    async with a_client() as (client, transport), anyio.create_task_group() as tasks:

        async def one() -> None:
            while not ids(got):
                got.append(await anext(client))

        tasks.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(LocalProtocolError, match="another task waits for the next event"):
            await anext(client)
        await arrive(client, transport, 1)
        if not ids(got):
            # It is there, and the task that waits for it has not been woken yet.
            with pytest.raises(LocalProtocolError, match="another task waits for the next event"):
                await anext(client)
    assert ids(got) == [1]


async def test_a_loop_that_was_left_is_no_obstacle_to_the_next_one() -> None:
    seen: list[Event] = []
    async with a_client() as (client, transport):
        await arrive(client, transport, 1, 2, 3, 4)
        async for event in client:
            seen.append(event)
            if ids(seen) == [1]:
                break
        with anyio.move_on_after(0):
            async for event in client:
                seen.append(event)  # noqa: PERF401 - a comprehension that is cancelled would have fetched them for nobody
        await arrive(client, transport, 5, 6)
        with pytest.raises(ZeroDivisionError):
            async for event in client:
                seen.append(event)
                raise ZeroDivisionError
        async for event in client:
            seen.append(event)
            if ids(seen)[-1:] == [6]:
                break
    assert ids(seen) == [1, 2, 3, 4, 5, 6]


async def test_a_loop_belongs_to_its_task_from_its_first_event_on_though_a_batch_waits() -> None:
    """Many events wait, so that most of them are fetched without a further look at whose they are."""
    async with a_client() as (client, transport):
        seen: list[Event] = []
        await arrive(client, transport, 0)
        while not ids(seen):
            seen.append(await anext(client))
        await arrive(client, transport, *range(1, 100))
        async for event in client:
            seen.append(event)
            if len(ids(seen)) == 9:
                break
        loop = aiter(client)
        seen.append(await anext(loop))
        refused: list[LocalProtocolError] = []

        async def rob() -> None:
            with pytest.raises(LocalProtocolError, match="another task iterates over the events") as caught:
                await anext(client)
            refused.append(caught.value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rob)
        assert len(refused) == 1
        while len(ids(seen)) < 100:
            seen.append(await anext(loop))
    assert ids(seen) == list(range(100))


async def test_batches_are_the_same_events_and_end_with_the_client() -> None:
    single: list[Event] = []
    batches: list[Sequence[Event]] = []
    async with a_client() as (client, transport), anyio.create_task_group() as tasks:
        tasks.start_soon(collect, client.stream(), single)

        async def collect_batches() -> None:
            batches.extend([events async for events in client.batches()])

        tasks.start_soon(collect_batches)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(LocalProtocolError, match="one loop at a time"):
            client.batches()
        with pytest.raises(LocalProtocolError, match="another task iterates over the events"):
            await anext(client)
        for start in range(0, 90, 30):
            await arrive(client, transport, *range(start, start + 30))
        await client.aclose()
    assert [event for events in batches for event in events] == single
    assert ids(single) == list(range(90))
    assert all(batches), "no batch is empty"
    assert max(map(len, batches)) >= 30, "what one read brought is together"


async def test_batches_of_a_slow_consumer_have_all_that_waits_and_what_was_lost() -> None:
    async with a_client(buffer=10, slow_consumer="drop_oldest") as (client, transport):
        await arrive(client, transport, *range(100))
        found: list[Event] = []
        async for events in client.batches():
            found += events
            break
        lost = sum(event.count for event in found if isinstance(event, EventsDropped))
        assert lost >= 90
        assert ids(found) == list(range(lost, 100))
        await arrive(client, transport, 100)
        assert ids([await anext(client)]) == [100], "after batches single events may be fetched"


async def test_streams_have_every_event_of_their_kinds_whatever_the_others_do() -> None:
    trades: list[Event] = []
    payloads: list[Event] = []
    everything: list[Event] = []
    async with a_client() as (client, transport):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, client.stream(Trade, BookTicker), trades)
            tasks.start_soon(collect, client.stream(StreamPayload), payloads)
            tasks.start_soon(collect, client.stream(), everything)
            await arrive(client, transport, *range(100))
            await client.aclose()
        assert ids(trades) == ids(payloads) == ids(everything) == list(range(100))
        assert len(trades) == 100
        assert len(everything) > 100, "how the connection closed is among them"
        assert len(ids([event async for event in client])) == 100, "the client's own iteration has them as well"
        assert all(event.received_us is not None for event in trades if isinstance(event, Trade))


async def test_every_waiting_iterator_ends_with_the_client() -> None:
    """Whatever way the block is left: in order, or by an error."""
    for fault in (None, ZeroDivisionError):
        ended: list[str] = []

        async def wait(events: AsyncIterator[Event] | EventStream | BackpackClient, name: str, ended: list[str]) -> None:
            await collect(events, [])
            ended.append(name)

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                try:
                    async with a_client() as (client, _):
                        tasks.start_soon(wait, client, "client", ended)
                        tasks.start_soon(wait, client.stream(), "stream", ended)
                        tasks.start_soon(wait, client.stream(BookTicker), "tickers", ended)
                        await anyio.wait_all_tasks_blocked()
                        if fault is not None:
                            raise fault
                except ZeroDivisionError:
                    pass
        assert sorted(ended) == ["client", "stream", "tickers"]


async def test_a_stream_that_is_left_takes_no_more_events_and_ends_its_waiter() -> None:
    got: list[Event] = []
    async with a_client() as (client, transport), anyio.create_task_group() as tasks:
        async with client.stream(Trade) as stream:
            tasks.start_soon(collect, stream, got)
            await anyio.wait_all_tasks_blocked()
            await arrive(client, transport, 1)
        await arrive(client, transport, 2)
    assert ids(got) == [1]


async def test_a_slow_stream_loses_events_and_nobody_else_does() -> None:
    async with a_client() as (client, transport):
        async with client.stream(Trade, buffer=10) as slow, client.stream(Trade) as other:
            await arrive(client, transport, *range(50))
            assert (slow.delivery.waiting, slow.delivery.dropped, other.delivery.dropped) == (10, 40, 0)
            assert await anext(slow) == EventsDropped(count=40, private=False)
            assert ids([await anext(slow)]) == [40]
            assert ids([await anext(other)]) == [0]
        assert client.delivery.dropped == 0


async def test_a_stream_that_blocks_pauses_reading_until_it_is_fetched_left_or_let_go_of() -> None:
    def paused(transport: MockTransport) -> bool:
        return transport._paused

    async with a_client() as (client, transport):
        stream = client.stream(Trade, slow_consumer="block", buffer=2)
        other = client.stream(Trade, slow_consumer="block", buffer=2)
        await arrive(client, transport, 1, 2)
        assert paused(transport)
        await anext(stream)
        assert paused(transport), "the other one is still full"
        other.close()
        assert not paused(transport)
        await arrive(client, transport, 3, 4)
        assert paused(transport)
        del stream
        gc.collect()
        assert not paused(transport)


async def test_latency_reaches_to_delivery() -> None:
    async with a_client() as (client, transport):
        assert client.metrics.receipt_to_delivery_p50_us is None
        await arrive(client, transport, 1)
        assert client.metrics.receipt_to_delivery_p50_us is None, "nobody has fetched it"
        while not ids([await anext(client)]):
            pass
        metrics = client.metrics
        assert metrics.receipt_to_delivery_p50_us is not None
        assert metrics.receipt_to_delivery_p99_us is not None
        assert 0 <= metrics.receipt_to_delivery_p50_us <= metrics.receipt_to_delivery_p99_us < PATIENCE_SECONDS * 1e6


async def test_a_loop_that_is_late_is_a_reason_against_health_until_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now_us = 0
    monkeypatch.setattr("backpack_runtime.delivery.queue.time.monotonic_ns", lambda: now_us * 1000)

    def late(client: BackpackClient) -> list[str]:
        return [reason for reason in client.health.reasons if reason.startswith("consumer of Trade")]

    async with a_client() as (client, transport), client.stream(Trade) as stream:
        await arrive(client, transport, 1, 2)
        now_us = 7_700_000
        assert late(client) == [], "nobody asked the stream for anything"
        async for _ in stream:
            assert late(client) == ["consumer of Trade: events are fetched 7.7 s late, 1 of them wait"]
            break
        assert late(client) == []


async def test_impossible_streams_are_refused() -> None:
    async with a_client() as (client, _):
        with pytest.raises(ConfigurationError, match=r"^kinds: classes of events, such as Trade, got 'trades'$"):
            client.stream("trades")  # type: ignore[arg-type]  # that is the point
        with pytest.raises(ConfigurationError, match=r"^slow_consumer: one of block, conflate, drop_oldest, got 'blok'"):
            client.stream(Trade, slow_consumer="blok")
        with pytest.raises(ConfigurationError, match=r"^buffer: a whole number, at least 1, got 0"):
            client.stream(Trade, buffer=0)
        with pytest.raises(ConfigurationError, match=r"^buffer_bytes: a whole number of bytes, at least 1, got 0"):
            client.stream(Trade, buffer_bytes=0)
    with pytest.raises(ClientClosed):
        client.stream(Trade)

"""Consumers of a client on real sockets, in every runtime: how many there may be, and what a slow one gets."""

from __future__ import annotations

import time
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from backpack_proto.encoding import decode_event, encode_event
from backpack_proto.errors import LocalProtocolError
from backpack_proto.outputs import BookChanged, BookSynced, Closed, EventsDropped
from backpack_proto.streams.payloads import BookTicker, Event, StreamPayload, Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import EventStream
from backpack_runtime.sandbox import serve_sandbox
from backpack_runtime.settings import Settings

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("runtime", ["asyncio", "trio", "aiohttp"], indirect=True),
]

PATIENCE_SECONDS = 60


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "asyncio" if runtime == "aiohttp" else runtime


def settings_of(settings: Settings, runtime: str) -> Settings:
    return replace(settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio")


async def count_to(events: EventStream | BackpackClient, kind: type[Event], number: int, into: list[Event]) -> None:
    """Iterate until so many events of a kind have come."""
    async for event in events:
        into.append(event)
        if sum(isinstance(event, kind) for event in into) >= number:
            return


async def wait_for_the_end(events: EventStream | BackpackClient, ended: list[object]) -> None:
    async for _ in events:
        pass
    ended.append(events)


async def test_two_tasks_that_iterate_one_client_are_told_and_streams_are_independent(runtime: str) -> None:
    mine: list[Event] = []
    trades: list[Event] = []
    books: list[Event] = []
    ended: list[object] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        async with (
            serve_sandbox(speed=5.0) as sandbox,
            anyio.create_task_group() as waiting,
            BackpackClient(["SOL_USDC"], settings=settings_of(sandbox.settings, runtime)) as client,
        ):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(count_to, client, Trade, 3, mine)
                tasks.start_soon(count_to, client.stream(Trade), Trade, 3, trades)
                tasks.start_soon(count_to, client.stream(BookSynced, BookChanged), BookChanged, 10, books)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                with pytest.raises(LocalProtocolError, match="one loop at a time"):
                    async for _ in client:
                        pass
            assert {type(event) for event in trades} == {Trade}
            assert {type(event) for event in books} == {BookSynced, BookChanged}
            assert [event for event in mine if isinstance(event, Trade)] == trades
            # All of them wait when the block is left, and every one ends.
            for events in (client, client.stream(), client.stream(BookTicker)):
                waiting.start_soon(wait_for_the_end, events, ended)
            await anyio.lowlevel.checkpoint()
    assert len(ended) == 3


async def test_what_came_from_the_wire_says_when_it_was_read(runtime: str) -> None:
    seen: list[Event] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        before_us = time.time_ns() // 1000
        async with (
            serve_sandbox(speed=5.0) as sandbox,
            BackpackClient(
                ["SOL_USDC"],
                channels=["book", "trades", "book_ticker"],
                settings=settings_of(sandbox.settings, runtime),
                slow_consumer="block",
            ) as client,
        ):
            await count_to(client, BookChanged, 1, seen)
            await count_to(client, Trade, 3, seen)
            metrics = client.metrics
        after_us = time.time_ns() // 1000
    payloads = [event for event in seen if isinstance(event, StreamPayload)]
    changes = [event for event in seen if isinstance(event, BookChanged)]
    assert len({type(event) for event in payloads}) >= 2
    assert changes
    received = [event.received_us for event in seen if isinstance(event, StreamPayload | BookChanged)]
    assert all(received_us is not None and before_us <= received_us <= after_us for received_us in received)
    assert all(decode_event(encode_event(event)) == event for event in [*payloads, *changes])
    assert metrics.receipt_to_delivery_p50_us is not None
    assert metrics.receipt_to_delivery_p50_us < after_us - before_us


async def test_a_consumer_that_does_nothing_for_a_while_finds_current_books_and_is_told_of_its_losses(runtime: str) -> None:
    """By the default policy: nothing is paused, so the book that is read beside the events is current as well."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async with (
            serve_sandbox(speed=20.0) as sandbox,
            BackpackClient(["SOL_USDC"], settings=settings_of(sandbox.settings, runtime), buffer=50) as client,
        ):
            # On a machine that is busy with other things, some are lost already here.
            seen: list[Event] = []
            await count_to(client, BookSynced, 1, seen)
            while client.delivery.dropped < 5 or client.delivery.conflated < 50 or not client.book("SOL_USDC").live:
                await anyio.lowlevel.checkpoint()
            assert client.delivery.pauses == 0
            assert client.delivery.waiting <= 60
            before = len(seen)
            await count_to(client, EventsDropped, 1, seen)
            last = 0
            while last < client.book("SOL_USDC").last:
                event = await anext(client)
                seen.append(event)
                last = event.last if isinstance(event, BookChanged) else last
            books = [event for event in seen[before:] if isinstance(event, BookSynced | BookChanged)]
            joins = [pair for pair in pairwise(books) if all(isinstance(event, BookChanged) for event in pair)]
            assert any(isinstance(event, BookChanged) for event in books)
            assert all(later.first == earlier.last + 1 for earlier, later in joins if isinstance(later, BookChanged))
            lost = sum(event.count for event in seen if isinstance(event, EventsDropped))
            assert 5 <= lost <= client.delivery.dropped


async def test_a_pause_of_reading_is_a_reason_against_health_that_names_the_consumer(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backpack_runtime.delivery.queue.DOUBTED_US", 0)

    def paused(client: BackpackClient) -> list[str]:
        return [reason for reason in client.health.reasons if "reading has been paused" in reason]

    with anyio.fail_after(PATIENCE_SECONDS):
        async with (
            serve_sandbox(speed=20.0) as sandbox,
            BackpackClient(["SOL_USDC"], settings=settings_of(sandbox.settings, runtime)) as client,
        ):
            await count_to(client, BookSynced, 1, [])
            stream = client.stream(Trade, slow_consumer="block", buffer=3)
            while not stream.delivery.pauses:
                await anyio.lowlevel.checkpoint()
            assert len(paused(client)) == 1, client.health
            (reason,) = paused(client)
            assert reason.startswith("consumer of Trade: reading has been paused for ")
            assert not client.health.healthy
            trades: list[Event] = []
            await count_to(stream, Trade, 10, trades)
            assert [type(event) for event in trades] == [Trade] * 10, "nothing was lost"
            stream.close()
            assert paused(client) == []


async def test_a_callback_is_given_every_event_where_it_is_read(runtime: str) -> None:
    seen: list[Event] = []
    streamed: list[Event] = []
    done = anyio.Event()

    def on_event(event: Event) -> None:
        seen.append(event)
        if sum(isinstance(event, Trade) for event in seen) >= 5 and any(isinstance(event, BookChanged) for event in seen):
            done.set()

    with anyio.fail_after(PATIENCE_SECONDS):
        async with (
            serve_sandbox(speed=5.0) as sandbox,
            BackpackClient(["SOL_USDC"], settings=settings_of(sandbox.settings, runtime), on_event=on_event) as client,
        ):
            async with client.stream(Trade) as stream:
                await count_to(stream, Trade, 3, streamed)
            for loop in (lambda: aiter(client), client.batches):
                with pytest.raises(LocalProtocolError, match="`on_event` is called with the events"):
                    loop()
            with pytest.raises(LocalProtocolError, match=r"client\.stream"):
                await anext(client)
            await done.wait()
            delivery, metrics, health = client.delivery, client.metrics, client.health
    trades = [event for event in seen if isinstance(event, Trade)]
    first = trades.index(streamed[0])  # type: ignore[arg-type]  # the stream has nothing else
    assert trades[first : first + 3] == streamed
    books = [event for event in seen if isinstance(event, BookSynced | BookChanged)]
    assert isinstance(books[0], BookSynced)
    assert all(later.first == earlier.last + 1 for earlier, later in pairwise(books[1:]) if isinstance(later, BookChanged))
    assert isinstance(seen[-1], Closed)
    assert (delivery.waiting, delivery.dropped) == (0, 0)
    assert not any("asked for" in note for note in health.notes)
    assert metrics.receipt_to_delivery_p50_us is not None


async def test_what_a_callback_raises_ends_the_client_and_comes_out_of_its_block(runtime: str) -> None:
    calls: list[Event] = []

    def on_event(event: Event) -> None:
        calls.append(event)
        if isinstance(event, Trade):
            raise KeyError("a bug of the user's")

    with anyio.fail_after(PATIENCE_SECONDS):
        async with serve_sandbox(speed=5.0) as sandbox:
            client = BackpackClient(["SOL_USDC"], settings=settings_of(sandbox.settings, runtime), on_event=on_event)
            with pytest.raises(ExceptionGroup) as raised:
                async with client:
                    await anyio.sleep_forever()
            errors, others = raised.value.split(KeyError)
            assert others is None
            assert "a bug of the user's" in repr(errors)
            # Nothing was given to it after that, and no state says that it is live.
            assert sum(isinstance(event, Trade) for event in calls) == 1
            assert not client.book("SOL_USDC").live


async def test_a_callback_may_ask_for_something(runtime: str) -> None:
    """On a loop of asyncio it runs in no task at all."""
    asked: list[int] = []
    answered = anyio.Event()

    def on_event(event: Event) -> None:
        if isinstance(event, Trade) and not asked:
            asked.append(1)
            with pytest.raises(LocalProtocolError, match="unresolved"):
                client.dismiss(call_id=77)
            tasks.start_soon(ask)

    async def ask() -> None:
        assert await client.get_trades("SOL_USDC")
        answered.set()

    with anyio.fail_after(PATIENCE_SECONDS):
        async with serve_sandbox(speed=5.0) as sandbox, anyio.create_task_group() as tasks:
            client = BackpackClient(["SOL_USDC"], settings=settings_of(sandbox.settings, runtime), on_event=on_event)
            async with client:
                await answered.wait()
    assert asked == [1]

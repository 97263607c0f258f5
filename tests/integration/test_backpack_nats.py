"""Publishing through a real NATS server, and reading it back: order, repetition, late values, a server that stops, starts or refuses."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from msgspec.structs import replace
from nats.js.api import StreamConfig

from backpack_proto.encoding import decode_event
from backpack_proto.errors import ConfigurationError
from backpack_proto.outputs import BookSynced, ConnectionDown
from backpack_proto.published import FeedGap, PublisherEnded, PublisherReport, PublisherStarted
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, Depth, Event, Trade
from backpack_runtime import (
    BackpackClient,
    EngineFailed,
    FeedConsumer,
    FromPublisher,
    SlowConsumer,
    open_consumer,
    serve_sandbox,
)
from backpack_runtime.publishing import plan, window
from backpack_runtime.publishing.engine import FEED, LAST, Engine, open_engine
from backpack_runtime.publishing.latest import LatestWriter
from backpack_runtime.publishing.messages import MESSAGE_ID, Message, Messages
from backpack_runtime.publishing.plan import Plan, follow_plan, read_plan, write_plan
from backpack_runtime.publishing.publisher import Publisher, open_publisher
from backpack_runtime.publishing.reading import Reading, first_message
from backpack_runtime.publishing.subjects import FEED_SUBJECTS, subject_of
from backpack_runtime.publishing.window import Window
from backpack_runtime.sandbox import Sandbox
from backpack_runtime.transport import system_now
from nats_servers import NATS_SERVER, NatsServer, run_nats

pytestmark = [
    pytest.mark.required,
    pytest.mark.skipif(NATS_SERVER is None, reason="nats-server is not installed"),
]

PATIENCE_SECONDS = 60.0
SYMBOL = "SOL_USDC"
COMMAND = (sys.executable, "-W", "error", "-m", "backpack_runtime.cli.parser")
Main = Callable[[], Awaitable[None]]


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with run_nats() as server:
        yield server


def run(main: Main) -> None:
    """Run on asyncio, with a bound on all waits."""

    async def bounded() -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            await main()

    anyio.run(bounded)


def depth(number: int, *, price: str = "99.10", made_us: int = 0) -> Depth:
    return Depth(
        emitted_us=number * 1_000,
        received_us=made_us or system_now().unix_us,
        symbol=SYMBOL,
        engine_us=number * 1_000,
        first_update_id=number,
        last_update_id=number,
        bids=(Level(price, "2.0"),),
        asks=(),
    )


def book(last: int) -> BookSynced:
    return BookSynced(
        stream="depth.SOL_USDC",
        symbol=SYMBOL,
        last=last,
        engine_us=last * 1_000,
        bids=(Level("99.00", "1.0"),),
        asks=(Level("99.90", "1.0"),),
    )


def ticker(number: int) -> BookTicker:
    one = Level("1", "1").price
    return BookTicker(
        emitted_us=number,
        symbol=SYMBOL,
        engine_us=number,
        update_id=number,
        bid_price=one,
        bid_quantity=one,
        ask_price=one,
        ask_quantity=one,
    )


def message_of(event: Event, publisher: str = "test") -> Message:
    message = Messages(publisher, run=1).of(event, system_now().unix_us)
    assert message is not None
    return message


async def stored(engine: Engine, stream: str = FEED, subject: str = FEED_SUBJECTS) -> list[Any]:
    """All messages that a stream has."""
    found: list[Any] = []
    info = await engine.stream.stream_info(stream)
    done = anyio.Event()

    async def take(_: Reading, message: Any) -> None:
        found.append(message)
        if message.metadata.num_pending == 0:
            done.set()

    if info.state.messages:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Reading(engine, stream, subject, first_message(), take).run)
            await done.wait()
            tasks.cancel_scope.cancel()
    return found


@asynccontextmanager
async def a_window(url: str, **options: Any) -> AsyncIterator[tuple[Engine, Window]]:
    """A window into streams that are there."""
    async with open_engine(url, name="test") as engine, anyio.create_task_group() as tasks:
        await engine.check_streams(create=True)
        opened = Window(engine, **options)
        await tasks.start(opened.run)
        yield engine, opened
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def publishing(sandbox: Sandbox, url: str, name: str, **options: Any) -> AsyncIterator[tuple[BackpackClient, Publisher]]:
    """A publisher in this process."""
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(open_publisher(url, name=name))
        client = BackpackClient(
            [SYMBOL],
            channels=["book", "trades", "book_ticker"],
            settings=sandbox.settings,
            slow_consumer=SlowConsumer.BLOCK,
            **options,
        )
        await stack.enter_async_context(client)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(publisher.run, client)
        yield client, publisher
        tasks.cancel_scope.cancel()


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds that no event tells of."""
    while not holds():  # noqa: ASYNC110 - as said
        await anyio.sleep(0.01)


async def next_of(consumer: FeedConsumer, *kinds: type[Any]) -> Any:
    """The next event of some kinds, also of those that publishers say."""
    async for event in consumer:
        said = event.event if isinstance(event, FromPublisher) else event
        if isinstance(said, kinds):
            return said
    raise AssertionError("it ended")


async def collect(consumer: FeedConsumer, count: int) -> list[Event]:
    """So many changes of the book, and all that comes between."""
    found: list[Event] = []
    changes = 0
    async for event in consumer:
        if not isinstance(event, FromPublisher):
            found.append(event)
            changes += isinstance(event, Depth)
        if changes == count:
            return found
    raise AssertionError("it ended")


def chain_of(events: list[Event]) -> list[int]:
    return [event.last_update_id for event in events if isinstance(event, Depth)]


def assert_whole(events: list[Event]) -> None:
    """A whole book comes first, and every change behind it, once and in order."""
    begin = next(event for event in events if isinstance(event, (BookSynced, Depth)))
    assert isinstance(begin, BookSynced)
    ids = chain_of(events)
    assert ids == list(range(begin.last + 1, begin.last + 1 + len(ids)))
    assert not any(isinstance(event, FeedGap) for event in events)


def test_two_publishers_make_one_stream_and_a_consumer_has_a_live_book(server: NatsServer) -> None:
    async def main() -> None:
        async with (
            serve_sandbox(seed=1, speed=3) as sandbox,
            publishing(sandbox, server.url, "one") as (_, one),
            publishing(sandbox, server.url, "other") as (client, other),
        ):
            async with open_consumer(server.url, [SYMBOL]) as consumer:
                events = await collect(consumer, 80)
                assert_whole(events)
                assert {Trade, BookTicker} <= set(map(type, events))
                view = consumer.book(SYMBOL)
                while not view.live:
                    await anext(consumer)
                assert {"one", "other"} >= set(consumer.publishers) != set()
                assert view.best_bid is not None
                assert view.age_us is not None
                assert view.last >= chain_of(events)[-1]
                assert consumer.unreadable == 0
            assert one.window.duplicates + other.window.duplicates > 40
            assert client.book(SYMBOL).live
            found = Counter(message.headers[MESSAGE_ID] for message in await stored(one.engine))
        assert found
        assert set(found.values()) == {1}

    run(main)


def test_a_consumer_of_all_markets_has_what_was_published_before_it_came(server: NatsServer) -> None:
    async def main() -> None:
        async with a_window(server.url) as (_, opened):
            for event in (book(10), depth(12), depth(11)):
                await opened.publish(message_of(event))
            await opened.drain()
            async with open_consumer(server.url) as consumer:
                events = await collect(consumer, 2)
                assert events == [book(10), *events[1:]]
                assert chain_of(events) == [11, 12]
                assert consumer.book(SYMBOL).last == 12
                assert not consumer.book(SYMBOL).live, "nobody has said that it is"

    run(main)


def test_a_change_that_nobody_brings_is_told_and_the_book_goes_on_from_the_next_whole_one(server: NatsServer) -> None:
    async def main() -> None:
        async with a_window(server.url) as (_, opened), AsyncExitStack() as stack:
            await opened.publish(message_of(book(10)))
            consumer = await stack.enter_async_context(open_consumer(server.url, [SYMBOL], latest=False))
            for event in (depth(11), depth(13), depth(14)):
                await opened.publish(message_of(event))
            assert await next_of(consumer, BookSynced) == book(10)
            assert chain_of(await collect(consumer, 1)) == [11]
            gap = await next_of(consumer, FeedGap, Depth)
            assert gap == FeedGap(symbol=SYMBOL, channel="depth", first=12, last=12, reason="did not come within 2 s")
            await opened.publish(message_of(book(13)))
            assert await next_of(consumer, BookSynced) == book(13)
            assert chain_of(await collect(consumer, 1)) == [14]

    run(main)


def test_what_has_no_acknowledgement_is_published_again_and_is_there_once(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "ACK_SECONDS", 0.2)

    async def main() -> None:
        async with a_window(server.url) as (engine, opened):
            take = opened._acknowledge
            lost: list[Any] = []

            async def lose_some(reply: Any) -> None:
                if len(lost) < 5:
                    lost.append(reply)
                else:
                    await take(reply)

            opened._acknowledge = lose_some  # type: ignore[method-assign]  # acknowledgements that do not come
            await engine.connection.subscribe(f"{opened._reply}.*", cb=lose_some)
            for number in range(1, 11):
                await opened.publish(message_of(depth(number)))
            await opened.drain()
            found = [message.headers[MESSAGE_ID] for message in await stored(engine)]
            assert found == [f"depth.SOL_USDC:{number}-{number}" for number in range(1, 11)]

    run(main)


def test_a_message_that_was_lost_on_the_way_is_published_again(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "ACK_SECONDS", 0.2)

    async def main() -> None:
        async with a_window(server.url) as (engine, opened):
            write = opened._write
            dropped: list[int] = []

            async def lose_the_second(number: int, message: Message) -> None:
                if number == 2 and not dropped:
                    dropped.append(number)
                else:
                    await write(number, message)

            opened._write = lose_the_second  # type: ignore[method-assign]  # what is lost on the way
            for number in range(1, 5):
                await opened.publish(message_of(depth(number)))
            await opened.drain()
            assert dropped
            found = Counter(message.headers[MESSAGE_ID] for message in await stored(engine))
            assert found == {f"depth.SOL_USDC:{number}-{number}": 1 for number in range(1, 5)}

    run(main)


def test_a_late_message_is_left_out_where_another_publisher_was_there(server: NatsServer) -> None:
    """The engine remembers ids for two minutes only."""

    async def main() -> None:
        long_ago = system_now().unix_us - window.LATE_US - 1
        async with a_window(server.url) as (engine, opened):
            config = (await engine.stream.stream_info(FEED)).config
            config.duplicate_window = 0.1
            await engine.stream.update_stream(config)
            for number in (1, 2):
                await opened.publish(message_of(depth(number)))
            await opened.drain()
            await anyio.sleep(0.3)
            for number in (1, 2, 3):
                await opened.publish(message_of(depth(number, made_us=long_ago)))
            await opened.drain()
            assert opened.left_out == 2
            found = [message.headers[MESSAGE_ID] for message in await stored(engine)]
            assert found == [f"depth.SOL_USDC:{number}-{number}" for number in (1, 2, 3)]

    run(main)


def test_an_older_value_never_replaces_a_newer_one(server: NatsServer) -> None:
    async def main() -> None:
        async with a_window(server.url) as (engine, _), anyio.create_task_group() as tasks:
            ahead, behind = LatestWriter(engine, tasks), LatestWriter(engine, tasks)

            async def settle() -> None:
                await until(lambda: not (ahead.waiting or behind.waiting))

            for number in range(0, 100, 10):
                behind.offer(message_of(ticker(number + 1)))
                await settle()
                ahead.offer(message_of(ticker(number + 10)))
                await settle()
                # It has written the last one that it knows of itself.
                behind.offer(message_of(ticker(number + 5)))
                await settle()
                [last] = await stored(engine, LAST, subject_of("bookTicker", SYMBOL))
                assert decode_event(last.data) == ticker(number + 10)
            assert behind.older == 10
            tasks.cancel_scope.cancel()

    run(main)


def test_of_the_latest_values_only_the_newest_waits(server: NatsServer) -> None:
    async def main() -> None:
        async with a_window(server.url) as (engine, _), anyio.create_task_group() as tasks:
            writer = LatestWriter(engine, tasks)
            for number in range(1, 1_001):
                writer.offer(message_of(ticker(number)))
            assert writer.waiting == 1
            assert writer.replaced >= 998
            await until(lambda: not writer.waiting)
            [last] = await stored(engine, LAST, subject_of("bookTicker", SYMBOL))
            assert decode_event(last.data) == ticker(1_000)
            tasks.cancel_scope.cancel()

    run(main)


def test_a_consumer_drops_what_is_older_than_the_latest(server: NatsServer) -> None:
    async def main() -> None:
        async with a_window(server.url) as (engine, _), AsyncExitStack() as stack:
            consumer = await stack.enter_async_context(open_consumer(server.url, [SYMBOL]))
            for number, shown in ((5, 5), (3, None), (6, 6)):
                message = message_of(ticker(number))
                await engine.stream.publish(message.subject, message.payload, headers=message.headers)
                if shown is None:
                    # It is in the way of the consumer before the next one takes its place.
                    with anyio.move_on_after(0.3):
                        await next_of(consumer, BookTicker)
                        pytest.fail("an older one was shown")
                else:
                    assert await next_of(consumer, BookTicker) == ticker(shown)

    run(main)


async def publish_all(opened: Window, numbers: range) -> None:
    for number in numbers:
        await opened.publish(message_of(depth(number)))


def test_a_server_that_stands_still_lets_so_many_messages_wait_and_loses_none(server: NatsServer) -> None:
    async def main() -> None:
        async with a_window(server.url, messages=10) as (engine, opened), anyio.create_task_group() as tasks:
            await publish_all(opened, range(1, 21))
            await opened.drain()
            server.signal(signal.SIGSTOP)
            tasks.start_soon(publish_all, opened, range(21, 101))
            await until(lambda: opened.waiting == 10)
            server.signal(signal.SIGCONT)
            await until(lambda: opened.acknowledged == 100)
            found = [message.headers[MESSAGE_ID] for message in await stored(engine)]
            assert found == [f"depth.SOL_USDC:{number}-{number}" for number in range(1, 101)]

    run(main)


def test_messages_that_wait_stop_the_reading_of_the_exchange(server: NatsServer) -> None:
    async def main() -> None:
        async with serve_sandbox(seed=2, speed=3) as sandbox, AsyncExitStack() as stack:
            client, publisher = await stack.enter_async_context(publishing(sandbox, server.url, "one", buffer=5))
            publisher.window._limit = 3
            await until(lambda: publisher.window.acknowledged > 10)
            server.signal(signal.SIGSTOP)
            await until(lambda: client.delivery.pauses)
            assert client.delivery.waiting <= 50, "a read is whole"
            server.signal(signal.SIGCONT)
            acknowledged = publisher.window.acknowledged
            await until(lambda: publisher.window.acknowledged > acknowledged + 20)
            assert client.delivery.dropped == client.delivery.conflated == 0

    run(main)


def test_a_server_that_is_restarted_loses_nothing_and_both_sides_go_on(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with a_window(server.url) as (engine, opened), AsyncExitStack() as stack:
            await opened.publish(message_of(book(0)))
            consumer = await stack.enter_async_context(open_consumer(server.url, [SYMBOL]))
            tasks = await stack.enter_async_context(anyio.create_task_group())
            publisher = Publisher(engine, opened, LatestWriter(engine, tasks), "one")
            await publish_all(opened, range(1, 21))
            events = await collect(consumer, 20)
            await anyio.to_thread.run_sync(server.stop)
            await until(lambda: publisher.troubles)
            assert "has been gone for" in publisher.troubles[0]
            tasks.start_soon(publish_all, opened, range(21, 61))
            await anyio.to_thread.run_sync(server.start)
            events += await collect(consumer, 40)
            assert_whole(events)
            assert chain_of(events)[-1] == 60
            await until(lambda: not publisher.troubles)

    run(main)
    gone = [record.message for record in caplog.records if "is gone" in record.message]
    assert len(gone) == 2, "one line for the publisher and one for the consumer"


def test_a_slow_consumer_gets_everything_later(server: NatsServer) -> None:
    async def main() -> None:
        async with a_window(server.url) as (_, opened), AsyncExitStack() as stack:
            await opened.publish(message_of(book(0)))
            consumer = await stack.enter_async_context(open_consumer(server.url, [SYMBOL], buffer=5))
            for number in range(1, 3_001):
                await opened.publish(message_of(depth(number)))
            await opened.drain()
            events = await collect(consumer, 3_000)
            assert_whole(events)
            assert chain_of(events)[-1] == 3_000

    run(main)


def test_a_stream_with_other_settings_is_refused(server: NatsServer) -> None:
    async def main() -> None:
        async with open_engine(server.url, name="test") as engine:
            await engine.stream.add_stream(
                StreamConfig(name=FEED, subjects=["backpack.1.feed.*.*", "mine"], duplicate_window=10, max_msgs_per_subject=5)
            )
            with pytest.raises(ConfigurationError) as refused:
                await engine.check_streams(create=True)
        text = str(refused.value)
        for part in (
            "the stream BACKPACK_FEED",
            "subjects backpack.1.feed.*.*, mine instead of backpack.1.feed.*.*",
            "duplicate_window 10 s, less than 120 s",
            "max_msgs_per_subject 5 instead of -1",
            "allow_direct False instead of True",
        ):
            assert part in text

    run(main)


def test_a_stream_whose_limits_an_operator_has_changed_is_taken(server: NatsServer) -> None:
    async def main() -> None:
        async with open_engine(server.url, name="test") as engine:
            await engine.check_streams(create=True)
            config = (await engine.stream.stream_info(FEED)).config
            config.max_age, config.max_bytes = 3_600.0, 1_000_000
            await engine.stream.update_stream(config)
            await engine.check_streams(create=True)

    run(main)


def test_a_server_without_jetstream_is_refused() -> None:
    async def main(url: str) -> None:
        with pytest.raises(EngineFailed, match=r"JetStream of NATS at .* cannot be used"):
            async with open_publisher(url):
                raise AssertionError

    with run_nats(jetstream=False) as server:
        run(lambda: main(server.url))


def test_a_consumer_where_nobody_has_published_is_told_so(server: NatsServer) -> None:
    async def main() -> None:
        with pytest.raises(EngineFailed, match="has no stream BACKPACK_FEED: nobody has published yet"):
            async with open_consumer(server.url):
                raise AssertionError

    run(main)


def test_a_message_that_is_no_event_is_left_out_and_counted(server: NatsServer) -> None:
    async def main() -> None:
        async with a_window(server.url) as (engine, opened), AsyncExitStack() as stack:
            await opened.publish(message_of(book(10)))
            consumer = await stack.enter_async_context(open_consumer(server.url, [SYMBOL]))
            await engine.stream.publish(subject_of("depth", SYMBOL), b"{}")
            await opened.publish(message_of(depth(11)))
            assert chain_of(await collect(consumer, 1)) == [11]
            assert consumer.unreadable == 1

    run(main)


def test_an_error_leaves_a_block_as_it_is(server: NatsServer) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with open_publisher(server.url):
                raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError):
            async with open_consumer(server.url):
                raise ZeroDivisionError

    run(main)


def test_a_server_that_refuses_for_good_ends_a_publisher(server: NatsServer) -> None:
    async def main() -> None:
        async with serve_sandbox(seed=4, speed=3) as sandbox, open_publisher(server.url) as publisher:
            client = BackpackClient([SYMBOL], settings=sandbox.settings, slow_consumer=SlowConsumer.BLOCK)
            async with client, anyio.create_task_group() as tasks:
                tasks.start_soon(refused, publisher, client)
                await until(lambda: publisher.window.acknowledged)
                # As nats-py does when the server says that the user has no right any more.
                await publisher.engine.connection.close()

    async def refused(publisher: Publisher, client: BackpackClient) -> None:
        with pytest.raises(EngineFailed, match="has refused the connection"):
            await publisher.run(client)

    run(main)


# Shards.


def test_the_plan_is_made_once_and_nothing_moves_when_a_market_comes(server: NatsServer) -> None:
    async def main() -> None:
        async with a_window(server.url) as (engine, _):
            made: list[Plan] = []

            async def write(weights: dict[str, int]) -> None:
                made.append(await write_plan(engine, weights, 3))

            weights = {f"M{number}": number for number in range(1, 20)}
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(write, weights)
            assert made[0] == made[1] == made[2] == await read_plan(engine)
            more = await write_plan(engine, weights | {"NEW": 5}, 3)
            assert more.markets.items() > made[0].markets.items()
            with pytest.raises(ConfigurationError, match="the plan in NATS is for 3 parts, not 4"):
                await write_plan(engine, weights, 4)
            four = await write_plan(engine, weights, 4, repartition=True)
            assert four.parts == 4
            assert all(four.markets[symbol] in {part, 3} for symbol, part in more.markets.items())

    run(main)


def test_every_market_has_one_publisher_and_a_new_listing_gets_one(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "LOOK_SECONDS", 0.05)

    async def main() -> None:
        async with serve_sandbox(seed=1) as sandbox, a_window(server.url) as (engine, _), AsyncExitStack() as stack:
            client = await stack.enter_async_context(BackpackClient(settings=sandbox.settings, streams=False))
            tasks = await stack.enter_async_context(anyio.create_task_group())
            followed = [await tasks.start(follow_plan, engine, client, 2) for _ in range(2)]
            markets = list(client.markets.values())
            parts = [[one.part(number) for number in range(2)] for one in followed]
            open_ones = [market for market in markets if market.order_book_state != "Closed"]
            for market in open_ones:
                assert [sum(picks(market) for picks in of_one) for of_one in parts] == [1, 1]
                assert parts[0][0](market) == parts[1][0](market)
            # A listing that was not there: it is closed in the plan's eyes until somebody writes it down.
            fresh = replace(open_ones[0], symbol="NEW_USDC")
            assert not any(picks(fresh) for picks in parts[0])
            monkeypatch.setattr(plan, "open_weights", lambda _: known())

            async def known() -> dict[str, int]:
                return {market.symbol: 1 for market in [*open_ones, fresh]}

            await until(lambda: any(picks(fresh) for picks in parts[1]))
            tasks.cancel_scope.cancel()

    run(main)


# The programs.


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*COMMAND, *arguments), capture_output=True, text=True, timeout=60, env=os.environ | environment, check=False
    )


def test_publish_says_how_it_goes_and_says_good_bye(server: NatsServer) -> None:
    ended = command("publish", SYMBOL, "--sandbox", "--json", "--name", "mine", "--seconds", "5", BACKPACK_NATS_URL=server.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    reports = [decode_event(line) for line in ended.stdout.splitlines()]
    assert all(isinstance(report, PublisherReport) and report.publisher == "mine" for report in reports)
    assert any(isinstance(report, PublisherReport) and report.live == (SYMBOL,) for report in reports)

    async def main() -> None:
        async with open_engine(server.url, name="test") as engine:
            said = [decode_event(message.data) for message in await stored(engine, subject=subject_of("state", "mine"))]
        assert isinstance(said[0], PublisherStarted)
        assert said[-1] == PublisherEnded(publisher="mine")
        assert not any(isinstance(event, ConnectionDown) for event in said)

    run(main)


def test_publish_ends_with_a_signal_and_leaves_nothing_behind(server: NatsServer) -> None:
    with subprocess.Popen(
        (*COMMAND, "publish", "--shard", "1/1", "--sandbox", "--nats", server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"live=0" not in line:
                break
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, b"")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["publish"], "--nats: the URL of a NATS server"),
        (["publish", "--nats", "nats://127.0.0.1:1", "--backend", "trio", "--sandbox"], "nats-py runs on asyncio alone"),
        (["publish", SYMBOL, "--shard", "1/2", "--nats", "nats://127.0.0.1:1"], "--shard has markets of its own"),
        (["publish", "--nats", "nats://127.0.0.1:1", "--channels", "book.200ms"], "is aggregated; publish book"),
        (["shards", "2", "--write", "--sandbox"], "--write puts a plan into NATS"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: list[str], complaint: str) -> None:
    ended = command(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert complaint in line


def test_a_server_that_is_not_there_ends_the_program_with_one_line() -> None:
    ended = command("publish", "--nats", "nats://user:geheim@127.0.0.1:1", "--sandbox")
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert "NATS at nats://127.0.0.1:1 cannot be reached" in line


def test_shards_shows_the_plan_and_puts_it_into_force(server: NatsServer) -> None:
    fresh = command("shards", "2", "--sandbox", "--json")
    assert (fresh.returncode, fresh.stderr) == (0, "")
    parts = [msgspec.json.decode(line) for line in fresh.stdout.splitlines()]
    assert [part["shard"] for part in parts] == ["1/2", "2/2"]
    assert SYMBOL in parts[0]["markets"] + parts[1]["markets"]
    assert abs(sum(part["share"] for part in parts) - 1) < 0.001
    written = command("shards", "2", "--sandbox", "--nats", server.url, "--write")
    assert written.returncode == 0
    assert "1/2" in written.stdout
    three = command("shards", "3", "--sandbox", "--nats", server.url, "--json")
    moved = [msgspec.json.decode(line) for line in three.stdout.splitlines()]
    assert set(moved[0]["markets"]) <= set(parts[0]["markets"])
    refused = command("publish", "--shard", "1/3", "--sandbox", "--nats", server.url)
    assert refused.returncode == 2
    assert "the plan in NATS is for 2 parts, not 3" in refused.stderr


def test_the_program_of_the_document_prints_a_live_book(server: NatsServer) -> None:
    document = (Path(__file__).parents[2] / "docs" / "scale-out.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```py\n(.*?)```", document, re.DOTALL)
    publish = (*COMMAND, "publish", SYMBOL, "--sandbox", "--nats", server.url)
    with subprocess.Popen(publish, stdout=subprocess.PIPE) as publisher:
        assert publisher.stdout is not None
        next(line for line in publisher.stdout if b"live=1" in line)
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env=os.environ | {"BACKPACK_NATS_URL": server.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        publisher.kill()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"{SYMBOL} is live at ")


def test_the_settings_of_the_runbook_let_a_consumer_read_and_not_publish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runbook = (Path(__file__).parents[2] / "docs" / "runbooks" / "scale_out.md").read_text(encoding="utf-8")
    settings = re.findall(r"```text\n(listen: .*?)```", runbook, re.DOTALL)[0]
    settings = settings.replace("listen: 10.0.0.5:4222", "").replace("/var/lib/nats", str(tmp_path / "store"))
    (tmp_path / "nats.conf").write_text(settings, encoding="utf-8")
    monkeypatch.setenv("PUBLISHER_PASSWORD", "p1")
    monkeypatch.setenv("CONSUMER_PASSWORD", "c1")

    async def main(url: str) -> None:
        publisher, reader = (url.replace("nats://", f"nats://{user}@") for user in ("publisher:p1", "consumer:c1"))
        async with a_window(publisher) as (_, opened), AsyncExitStack() as stack:
            await opened.publish(message_of(book(10)))
            consumer = await stack.enter_async_context(open_consumer(reader, [SYMBOL]))
            await publish_all(opened, range(11, 1_001))
            assert_whole(await collect(consumer, 990))
            async with open_consumer(reader) as everything:
                assert_whole(await collect(everything, 990))
            async with open_engine(reader, name="test") as engine:
                with pytest.raises(TimeoutError):
                    await engine.stream.publish(subject_of("depth", SYMBOL), b"{}", timeout=0.5)
        with pytest.raises(EngineFailed, match="cannot be reached"):
            async with open_consumer(url):
                raise AssertionError

    with run_nats("-c", str(tmp_path / "nats.conf"), jetstream=False) as server:
        run(lambda: main(server.url))

"""The client against the served simulated exchange: real sockets, on asyncio and on trio, with everything that goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import TypedAttributeProvider
from anyio.abc import ByteStream, SocketAttribute
from msgspec.structs import replace

from backpack_proto.account.values import AccountSynced
from backpack_proto.errors import ApiError, BackpackError, ConfigurationError, InvalidStream, LocalProtocolError, UnknownSymbol
from backpack_proto.exchange import LISTINGS
from backpack_proto.metrics import Status
from backpack_proto.outputs import (
    BookChanged,
    BookDesynced,
    BookSynced,
    BookVerified,
    ConnectionDown,
    ConnectionUp,
    PeerSilent,
    StreamsRefused,
)
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import BookTicker, Event, ExternalTicker, Kline, StockPrice, StockQuotes, Ticker, Trade
from backpack_proto.streams.unknown import UnknownPayload
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.settings import Settings

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60

in_every_runtime = pytest.mark.parametrize("runtime", ["asyncio", "trio", "aiohttp"], indirect=True)


@pytest.fixture(params=["asyncio", "trio"])
def runtime(request: pytest.FixtureRequest) -> str:
    """What the client runs on: the anyio runtime on one of its event loops, or aiohttp."""
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "asyncio" if runtime == "aiohttp" else runtime


def runtime_of(test: str) -> str:
    return "aiohttp" if test == "aiohttp" else "anyio"


DOTTED = "AAPL.US_USDC_PERP"


@asynccontextmanager
async def a_client(
    sandbox: Sandbox, *symbols: str, settings: Settings | None = None, **options: Any
) -> AsyncIterator[BackpackClient]:
    async with BackpackClient(symbols, settings=settings or sandbox.settings, **options) as client:
        yield client


async def until(client: BackpackClient, reached: Callable[[Event], bool]) -> list[Event]:
    """All events up to the first that is wanted. Fails when it does not come."""
    seen: list[Event] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        async for event in client:
            seen.append(event)
            if reached(event):
                return seen
    raise AssertionError("the events ended")


def status_of(client: BackpackClient) -> Status:
    return client.health.status


def port_of(listener: object) -> int:
    assert isinstance(listener, TypedAttributeProvider)
    return int(listener.extra(SocketAttribute.local_port))


def a(kind: type[Event]) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind)


def assert_in_sequence(events: list[Event]) -> int:
    """Every change joins on to the one before it, and no book is crossed. Says how many there were."""
    last: dict[str, int] = {}
    changes = 0
    for event in events:
        if isinstance(event, BookSynced):
            last[event.stream] = event.last
        elif isinstance(event, BookDesynced):
            del last[event.stream]
        elif isinstance(event, BookChanged):
            assert event.first == last[event.stream] + 1
            assert event.bids[0][0] < event.asks[0][0]
            last[event.stream] = event.last
            changes += 1
    return changes


@in_every_runtime
@pytest.mark.parametrize("tls", [False, True])
async def test_books_and_trades_arrive_in_order_and_verified(runtime: str, *, tls: bool) -> None:
    async with (
        serve_sandbox(tls=tls) as sandbox,
        a_client(
            sandbox, "SOL_USDC", "BTC-USDC-PERP", DOTTED, settings=replace(sandbox.settings, runtime=runtime_of(runtime))
        ) as client,
    ):
        verified: set[str] = set()

        def enough(event: Event) -> bool:
            if isinstance(event, BookVerified):
                verified.add(event.symbol)
            return isinstance(event, BookChanged) and len(verified) == 3

        events = await until(client, enough)
        events += await until(client, a(Trade))
        assert assert_in_sequence(events) > 10
        assert status_of(client) is Status.HEALTHY, client.health
        book = client.book("SOL-USDC")
        assert book is client.book("SOL_USDC")
        assert book.live
        assert not any(isinstance(event, BookTicker) for event in events), "bookTicker was only subscribed to verify"


async def test_a_delivered_book_is_the_exchange_s_own() -> None:
    async with serve_sandbox(seed=3) as sandbox, a_client(sandbox, DOTTED) as client:
        await until(client, a(BookChanged))
        for _ in range(50):
            await until(client, a(BookChanged))
            book = client.book(DOTTED)
            bids, asks, update_id = sandbox.exchange.levels(DOTTED)
            if book.last == update_id:
                assert (book.bids(), book.asks()) == (bids, asks)
                return
        raise AssertionError("the book was never up to date")


@in_every_runtime
@pytest.mark.parametrize("compression", [False, True])
async def test_a_killed_server_is_found_again(runtime: str, *, compression: bool) -> None:
    async with (
        serve_sandbox() as sandbox,
        a_client(
            sandbox, "SOL_USDC", settings=replace(sandbox.settings, compression=compression, runtime=runtime_of(runtime))
        ) as client,
    ):
        await until(client, a(BookChanged))
        sandbox.drop_connections()
        events = await until(client, a(ConnectionDown))
        assert any(isinstance(event, BookDesynced) for event in events) or not client.book("SOL_USDC").live
        assert status_of(client) is Status.DOWN
        await until(client, a(BookSynced))
        after = await until(client, a(BookVerified))
        assert_in_sequence([event for event in after if not isinstance(event, BookChanged)])
        assert client.metrics.ws_reconnects == 1
        assert status_of(client) is Status.HEALTHY, client.health


@pytest.mark.slow
async def test_a_server_that_accepts_and_closes_at_once_is_not_hammered() -> None:
    async with serve_sandbox() as sandbox, a_client(sandbox, "SOL_USDC") as client:
        await until(client, a(BookChanged))
        before = sandbox.connections
        sandbox.refusing = True
        sandbox.drop_connections()
        downs = 0
        with anyio.move_on_after(3):
            async for event in client:
                downs += isinstance(event, ConnectionDown)
        assert 1 <= downs <= 12
        assert sandbox.connections - before <= 40
        sandbox.refusing = False
        await until(client, a(BookSynced))


@in_every_runtime
async def test_a_mute_server_is_given_up_and_found_again(runtime: str) -> None:
    async with (
        serve_sandbox() as sandbox,
        a_client(
            sandbox,
            "SOL_USDC",
            settings=replace(sandbox.settings, silence_us=300_000, ping_timeout_us=300_000, runtime=runtime_of(runtime)),
        ) as client,
    ):
        await until(client, a(BookChanged))
        sandbox.mute = True
        events = await until(client, a(ConnectionDown))
        assert any(isinstance(event, PeerSilent) for event in events)
        assert not client.book("SOL_USDC").live
        sandbox.mute = False
        await until(client, a(BookVerified))
        assert client.book("SOL_USDC").live


async def test_garbage_is_reported_and_the_book_stays_right() -> None:
    async with serve_sandbox() as sandbox, a_client(sandbox, "SOL_USDC") as client:
        await until(client, a(BookChanged))
        sandbox.inject(b"{garbage")
        events = await until(client, a(FrameDropped))
        dropped = events[-1]
        assert isinstance(dropped, FrameDropped)
        assert dropped.excerpt == "{garbage"
        await until(client, a(BookChanged))
        assert client.book("SOL_USDC").live
        assert client.metrics.parser_errors == 1


@in_every_runtime
async def test_a_broken_websocket_frame_costs_the_connection_only(runtime: str) -> None:
    async with (
        serve_sandbox() as sandbox,
        a_client(sandbox, "SOL_USDC", settings=replace(sandbox.settings, runtime=runtime_of(runtime))) as client,
    ):
        await until(client, a(BookChanged))
        sandbox.inject(b"\xff\xff\xff\xff\xff\xff", raw=True)
        down = (await until(client, a(ConnectionDown)))[-1]
        assert isinstance(down, ConnectionDown)
        assert down.code == 1002
        await until(client, a(BookSynced))


@in_every_runtime
async def test_closing_in_order_ends_the_iteration(runtime: str) -> None:
    async with (
        serve_sandbox() as sandbox,
        a_client(sandbox, "SOL_USDC", settings=replace(sandbox.settings, runtime=runtime_of(runtime))) as client,
    ):
        await until(client, a(BookChanged))
        with anyio.fail_after(PATIENCE_SECONDS):
            await client.aclose()
            rest = [event async for event in client]
        assert type(rest[-1]).__name__ == "Closed"
        assert not client.book("SOL_USDC").live


async def test_what_is_wrong_is_said_before_anything_is_subscribed() -> None:
    async with serve_sandbox() as sandbox:
        with pytest.raises(UnknownSymbol, match="SOL_USDX"):
            async with a_client(sandbox, "SOL_USDX"):
                pass
        with pytest.raises(InvalidStream, match="depth windows"):
            BackpackClient(["SOL_USDC"], channels=["book.100ms"])
        with pytest.raises(ConfigurationError, match=r"^a channel of the account needs a signer: "):
            BackpackClient(["SOL_USDC"], channels=["account.orderUpdate"], settings=sandbox.settings)
        async with a_client(sandbox) as client:
            with pytest.raises(LocalProtocolError, match="credentials"):
                await client.subscribe(["account.orderUpdate"], ["SOL_USDC"])
            with pytest.raises(ApiError, match="Invalid market symbol"):
                await client.call("market", {"symbol": "NOPE_USDC"})
            with pytest.raises(LocalProtocolError, match="no endpoint"):
                await client.call("nonsense")


@in_every_runtime
async def test_an_exchange_that_cannot_be_reached_is_an_error(runtime: str) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = port_of(listener)
    await listener.aclose()
    with pytest.raises(BackpackError, match="markets"):
        async with BackpackClient(
            ["SOL_USDC"],
            settings=Settings(
                rest_url=f"http://127.0.0.1:{port}", ws_url=f"ws://127.0.0.1:{port}", runtime=runtime_of(runtime)
            ),
        ):
            pass


@in_every_runtime
async def test_an_untrusted_certificate_is_refused(runtime: str) -> None:
    async with serve_sandbox(tls=True) as sandbox:
        with pytest.raises(BackpackError, match="certificate verify failed"):
            async with a_client(
                sandbox, "SOL_USDC", settings=replace(sandbox.settings, ca_file=None, runtime=runtime_of(runtime))
            ):
                pass


@in_every_runtime
async def test_an_error_of_the_user_s_own_comes_out_as_it_is(runtime: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with BackpackClient(["SOL_USDC"], sandbox=True, settings=Settings(runtime=runtime_of(runtime))) as client:
            async for _ in client:
                raise ZeroDivisionError


async def test_a_bug_of_ours_is_not_taken_for_network_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_sandbox() as sandbox:
        with pytest.raises(ExceptionGroup) as caught:
            async with a_client(sandbox, "SOL_USDC") as client:
                await until(client, a(BookChanged))

                def bug(*_: object) -> None:
                    raise ZeroDivisionError

                monkeypatch.setattr("backpack_proto.session.decode_frame", bug)
                async for _ in client:
                    pass
        assert caught.group_contains(ZeroDivisionError)


@in_every_runtime
async def test_an_unknown_kind_of_stream_is_refused_by_name_and_no_other_is_blamed(runtime: str) -> None:
    async with (
        serve_sandbox() as sandbox,
        a_client(sandbox, settings=replace(sandbox.settings, runtime=runtime_of(runtime))) as client,
    ):
        await until(client, a(ConnectionUp))
        await client.subscribe_untyped(["nope.SOL_USDC", "preview.NVDA", "whale.SOL_USDC"])
        suspects: list[tuple[str, ...]] = []
        while len(suspects) < 2:
            refused = (await until(client, a(StreamsRefused)))[-1]
            assert isinstance(refused, StreamsRefused)
            suspects.append(refused.suspects)
        assert suspects == [("nope.SOL_USDC",), ("whale.SOL_USDC",)]


@in_every_runtime
async def test_a_stream_of_a_kind_that_no_client_knows_is_read_as_it_comes(runtime: str) -> None:
    async with (
        serve_sandbox() as sandbox,
        a_client(sandbox, settings=replace(sandbox.settings, runtime=runtime_of(runtime))) as client,
    ):
        await client.subscribe_untyped(["preview.SOL_USDC"])
        payload = (await until(client, a(UnknownPayload)))[-1]
        assert isinstance(payload, UnknownPayload)
        assert payload.data()["s"] == "SOL_USDC"
        assert isinstance(payload.data()["bid"], Decimal | int)
        assert client.metrics.dropped_messages == 0


async def test_stocks_are_subscribed_by_any_of_their_names_and_need_no_market() -> None:
    async with serve_sandbox() as sandbox, a_client(sandbox) as client:
        await client.subscribe(["stock_price", "stock_indicative_quote"], ["AAPL.US"])
        await client.subscribe(["external_ticker"], ["AAPL.US_USDC"])
        for kind in (StockPrice, StockQuotes, ExternalTicker):
            await until(client, a(kind))
        await client.unsubscribe(["stock_price", "stock_indicative_quote"], ["AAPL.US-USDC-PERP"])
        with pytest.raises(UnknownSymbol):
            await client.subscribe(["trades"], ["AAPL.US"])


@in_every_runtime
async def test_subscribing_more_and_less_on_a_living_connection(runtime: str) -> None:
    async with (
        serve_sandbox() as sandbox,
        a_client(
            sandbox, "SOL_USDC", channels=["book"], settings=replace(sandbox.settings, runtime=runtime_of(runtime))
        ) as client,
    ):
        await until(client, a(BookVerified))
        await client.subscribe(["ticker", "klines.1m", "book_ticker"], ["SOL-USDC", DOTTED])
        for kind in (Ticker, Kline, BookTicker):
            await until(client, a(kind))
        await client.unsubscribe(["book_ticker", "ticker", "klines.1m"], ["SOL_USDC", DOTTED])
        await client.verify("SOL_USDC")
        await until(client, lambda event: isinstance(event, BookVerified) and event.against == "snapshot")
        assert client.metrics.dropped_messages == 0


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["block", "conflate", "drop_oldest"])
async def test_a_consumer_that_sleeps_loses_what_it_chose_and_no_book(policy: str) -> None:
    async with (
        serve_sandbox(speed=8.0) as sandbox,
        a_client(sandbox, "SOL_USDC", "BTC_USDC", slow_consumer=policy, buffer=50) as client,
    ):
        await until(client, a(BookSynced))
        with anyio.fail_after(PATIENCE_SECONDS):
            # The consumer does nothing until the policy has had to act.
            while not (client.delivery.pauses or client.delivery.conflated or client.delivery.dropped):
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
        state = client.delivery
        assert (state.pauses > 0, state.conflated > 0, state.dropped > 0) in {
            "block": {(True, False, False)},
            "conflate": {(False, True, False), (False, True, True), (False, False, True)},
            "drop_oldest": {(False, False, True)},
        }[policy]
        assert state.waiting < 5_000
        for symbol in ("SOL_USDC", "BTC_USDC"):
            while not client.book(symbol).live:
                await until(client, a(BookChanged))
        assert client.book("SOL_USDC").live
        # Under `block` reading may be paused still, of which health is the judge.
        while status_of(client) is not Status.HEALTHY:
            await until(client, a(BookChanged))


async def test_the_client_s_own_sandbox_needs_nothing_else() -> None:
    async with BackpackClient(["SOL_USDC"], channels=["book", "trades"], sandbox=True) as client:
        await until(client, a(Trade))
        assert len(client.markets) == len(LISTINGS)


@in_every_runtime
async def test_redirects_of_the_handshake_are_a_failure_with_the_status(runtime: str) -> None:
    async def redirect(stream: ByteStream) -> None:
        async with stream:
            request = await stream.receive()
            if b"Upgrade" in request or b"upgrade" in request:
                await stream.send(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n")
            else:
                body = b"[]"
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                await stream.send(head.encode() + body)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        port = port_of(listener)
        tasks.start_soon(listener.serve, redirect)
        async with BackpackClient(
            settings=Settings(rest_url=f"http://127.0.0.1:{port}", ws_url=f"ws://127.0.0.1:{port}", runtime=runtime_of(runtime))
        ) as client:
            down = (await until(client, a(ConnectionDown)))[-1]
            assert isinstance(down, ConnectionDown)
            assert "302" in down.reason
            assert down.code is None
        tasks.cancel_scope.cancel()


def test_a_client_runs_under_asyncio_alone() -> None:
    """Whoever runs the loop: `anyio.run` is not needed."""

    async def main() -> None:
        async with asyncio.timeout(60):
            async with BackpackClient(["SOL_USDC"], sandbox=True, follow_account=True) as client:
                seen: set[type[Event]] = set()
                async for event in client:
                    seen.add(type(event))
                    if seen >= {BookSynced, AccountSynced}:
                        break
                assert await client.get_open_orders() == ()

    asyncio.run(main())


@pytest.mark.parametrize("runtime", ["asyncio", "aiohttp"], indirect=True)
async def test_a_cancellation_from_outside_of_anyio_comes_out_of_every_group(runtime: str) -> None:
    """Ctrl-C is one: who loses it goes on for ever."""
    reading = asyncio.Event()

    async def program() -> None:
        async with anyio.create_task_group():
            async with serve_sandbox() as sandbox:
                settings = replace(sandbox.settings, runtime=runtime_of(runtime))
                async with BackpackClient(["SOL_USDC"], channels=["book"], settings=settings) as client:
                    async for event in client:
                        if isinstance(event, BookSynced):
                            reading.set()
            pytest.fail("it went on behind the client")

    for _ in range(3):
        reading.clear()
        task = asyncio.ensure_future(program())
        with anyio.fail_after(30):
            await reading.wait()
        task.cancel()
        with anyio.fail_after(30), pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

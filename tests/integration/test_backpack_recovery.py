"""Recovery in the user's hand, and markets that a rule picks, over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.exchange import CloseMarket, OpenMarket
from backpack_proto.exchange.messages import OperatorCommand
from backpack_proto.outputs import BookDesynced, BookSynced, ConnectionDown, MarketClosed, StreamLive
from backpack_proto.rest.markets import Market
from backpack_proto.streams.payloads import Event
from backpack_runtime import NotRecovered, Recovered, driver
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.transport import system_now
from transports import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

SYMBOL = "SOL_USDC"
CLOSED = "HNT_USDC"
"""A market of the sandbox that is always closed."""


@pytest.fixture(params=["asyncio", "trio", "aiohttp"])
def runtime(request: pytest.FixtureRequest) -> str:
    """A test runs in every runtime."""
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "trio" if runtime == "trio" else "asyncio"


def client_of(sandbox: Sandbox, runtime: str, symbols: Any = (SYMBOL,), **arguments: Any) -> BackpackClient:
    settings = replace(sandbox.settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio")
    return BackpackClient(symbols, settings=settings, **arguments)


async def until(client: BackpackClient, reached: Callable[[Event], bool]) -> Event:
    with anyio.fail_after(PATIENCE_SECONDS):
        async for event in client:
            if reached(event):
                return event
    raise AssertionError("the events ended")


async def until_live(client: BackpackClient, symbol: str = SYMBOL) -> None:
    while not client.book(symbol).live:
        await until(client, lambda _: True)


def order(sandbox: Sandbox, command: OperatorCommand) -> None:
    sandbox.exchange.handle(command, system_now())


@pytest.mark.parametrize("channel", ["book", "depth.200ms"])
async def test_a_book_that_the_user_distrusts_begins_again(runtime: str, channel: str) -> None:
    async with serve_sandbox() as sandbox, client_of(sandbox, runtime, channels=[channel]) as client:
        await until_live(client)
        outcome = await client.resync("SOL-USDC")
        assert isinstance(outcome, Recovered)
        assert outcome.subject == SYMBOL
        assert outcome.took_us > 0
        assert client.book(SYMBOL).live
        desynced = await until(client, lambda event: isinstance(event, BookDesynced))
        assert isinstance(desynced, BookDesynced)
        assert (desynced.reason, desynced.diverged) == ("it is requested again", False)
        await until(client, lambda event: isinstance(event, BookSynced))


async def test_why_a_book_is_not_live_again_is_said(runtime: str) -> None:
    async with serve_sandbox() as sandbox, client_of(sandbox, runtime) as client:
        await until_live(client)
        with pytest.raises(LocalProtocolError, match="no depth stream of 'BTC_USDC' is subscribed"):
            await client.resync("BTC_USDC")
        sandbox.refusing = True
        sandbox.drop_connections()
        await until(client, lambda event: isinstance(event, ConnectionDown))
        outcome = await client.resync(SYMBOL, timeout_s=0.2)
        assert isinstance(outcome, NotRecovered)
        assert outcome.reason.startswith("not live within 0.2 s: ")
        sandbox.refusing = False
        assert isinstance(await client.resync(SYMBOL), Recovered)
        await client.subscribe(["book"], [CLOSED])
        await until(client, lambda event: isinstance(event, MarketClosed))
        outcome = await client.resync(CLOSED, timeout_s=PATIENCE_SECONDS)
        assert isinstance(outcome, NotRecovered)
        assert outcome.reason == "the market is closed"


async def test_a_connection_is_made_again_at_once(runtime: str) -> None:
    async with serve_sandbox() as sandbox, client_of(sandbox, runtime) as client:
        await until_live(client)
        assert isinstance(await client.reconnect(), Recovered)
        down = await until(client, lambda event: isinstance(event, ConnectionDown))
        assert isinstance(down, ConnectionDown)
        assert (down.reason, down.retry_us) == ("the application asked to reconnect", 0)
        await until(client, lambda event: isinstance(event, BookSynced))
        await until_live(client)


async def test_a_connection_that_cannot_be_made_is_said_and_goes_on_being_tried(runtime: str) -> None:
    async with serve_sandbox() as sandbox, client_of(sandbox, runtime) as client:
        await until_live(client)
        sandbox.refusing = True
        outcome = await client.reconnect(timeout_s=0.3)
        assert isinstance(outcome, NotRecovered)
        assert outcome.reason.startswith("not open within 0.3 s: ")
        sandbox.refusing = False
        assert isinstance(await client.reconnect(), Recovered)


@pytest.mark.parametrize("call", ["resync", "reconnect"])
async def test_a_recovery_is_waited_for_a_time_that_is_one(runtime: str, call: str) -> None:
    async with serve_sandbox() as sandbox, client_of(sandbox, runtime) as client:
        with pytest.raises(ConfigurationError, match="timeout_s: seconds, more than 0, got 0"):
            await (client.resync(SYMBOL, timeout_s=0) if call == "resync" else client.reconnect(timeout_s=0))


def live_streams(events: list[Event]) -> set[str]:
    return {event.stream for event in events if isinstance(event, StreamLive)}


async def test_all_markets_are_followed_but_closed_ones_until_they_open(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LISTINGS_SECONDS", 0.1)
    async with serve_sandbox() as sandbox:
        order(sandbox, CloseMarket(SYMBOL))
        async with client_of(sandbox, runtime, "all", channels=["bookTicker", "mark_price"]) as client:
            wanted = {
                f"{channel}.{market.symbol}"
                for market in client.markets.values()
                for channel in ("bookTicker", "markPrice")
                if market.order_book_state != "Closed" and (channel == "bookTicker" or market.market_type == "PERP")
            }
            seen: set[str] = set()

            def live(event: Event) -> bool:
                seen.update(live_streams([event]))
                return wanted <= seen

            await until(client, live)
            assert seen == wanted
            order(sandbox, OpenMarket(SYMBOL))
            await until(client, lambda event: live_streams([event]) == {f"bookTicker.{SYMBOL}"})
            await client.unsubscribe(["bookTicker"], "all")
            with pytest.raises(ConfigurationError, match="nothing of bookTicker was subscribed by this rule"):
                await client.unsubscribe(["bookTicker"], "all")


async def test_a_predicate_picks_markets(runtime: str) -> None:
    def perpetual(market: Market) -> bool:
        return market.market_type == "PERP"

    async with serve_sandbox() as sandbox, client_of(sandbox, runtime) as client:
        await client.subscribe(["ticker"], perpetual)
        perpetuals = {
            market.symbol for market in client.markets.values() if perpetual(market) and market.order_book_state == "Open"
        }
        seen: set[str] = set()

        def live(event: Event) -> bool:
            seen.update(name for name in live_streams([event]) if name.startswith("ticker."))
            return len(seen) == len(perpetuals)

        await until(client, live)
        assert seen == {f"ticker.{symbol}" for symbol in perpetuals}
        await client.unsubscribe(["ticker"], perpetual)


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ("SOL_USDC", "symbols: a list of texts, 'all' or a predicate on markets, got the text 'SOL_USDC'"),
        (5, "symbols: a list of texts, got 5"),
    ],
)
def test_symbols_that_are_neither_a_list_nor_a_rule_are_refused(symbols: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BackpackClient(symbols)


async def test_a_predicate_that_does_not_answer_is_refused(runtime: str) -> None:
    async with serve_sandbox() as sandbox, client_of(sandbox, runtime) as client:
        with pytest.raises(ConfigurationError, match="the predicate answers True or False, got 'SOL_USDC'"):
            await client.subscribe(["ticker"], lambda market: market.symbol)  # type: ignore[arg-type,return-value]

"""A market whose tick or step changes while clients run, over real sockets: nothing announces it, and everybody knows it soon."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError
from backpack_proto.exchange import ChangeMarket
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30.0
SYMBOL = "SOL_USDC"
CENT, DIME = Decimal("0.01"), Decimal("0.1")


@pytest.fixture(params=["asyncio", "trio", "aiohttp"])
def runtime(request: pytest.FixtureRequest) -> str:
    """What the client runs on: the anyio runtime on one of its event loops, or aiohttp."""
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "asyncio" if runtime == "aiohttp" else runtime


def client_of(sandbox: Sandbox, runtime: str, channels: tuple[str, ...] = ()) -> BackpackClient:
    return BackpackClient(
        [SYMBOL] if channels else [],
        channels=channels,
        signer=Signer(Credentials(sandbox.secret)),
        settings=replace(sandbox.settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio"),
    )


async def until(client: BackpackClient, reached: Callable[[Event], bool]) -> Event:
    with anyio.fail_after(PATIENCE_SECONDS):
        async for event in client:
            if reached(event):
                return event
    raise AssertionError("the events ended")


def assert_told(event: Event, client: BackpackClient, before: Decimal, now: Decimal) -> None:
    assert isinstance(event, MarketChanged)
    assert (event.symbol, event.previous.tick_size, event.market.tick_size) == (SYMBOL, before, now)
    assert client.markets[SYMBOL].tick_size == client.markets["SOL-USDC"].tick_size == now


async def test_levels_beside_the_tick_that_is_known_have_the_market_looked_up(runtime: str) -> None:
    async with serve_sandbox() as sandbox:
        sandbox._give(ChangeMarket(SYMBOL, DIME, DIME))
        async with client_of(sandbox, runtime, ("book",)) as client:
            book = client.book(SYMBOL)
            await until(client, lambda _: book.live)
            assert client.markets[SYMBOL].tick_size == DIME
            sandbox._give(ChangeMarket(SYMBOL, CENT, CENT))
            await until(client, lambda _: any(level.price % DIME for level in book.bids(20)))
            # It would be compared with a snapshot within a minute by itself.
            await client.verify(SYMBOL)
            event = await until(client, lambda event: isinstance(event, MarketChanged))
            assert_told(event, client, DIME, CENT)
            assert book.live
            assert (await client.load_markets())[SYMBOL].tick_size == CENT


async def test_an_order_that_is_refused_for_its_price_has_the_market_looked_up(runtime: str) -> None:
    async with serve_sandbox(speed=0.2) as sandbox, client_of(sandbox, runtime) as client:
        sandbox._give(ChangeMarket(SYMBOL, DIME, CENT))
        with pytest.raises(ApiError, match="Price decimal too long"):
            await client.place_order("SOL-USDC", "Bid", "Limit", price="50.12", quantity="1")
        event = await until(client, lambda event: isinstance(event, MarketChanged))
        assert_told(event, client, CENT, DIME)
        price = Decimal("50.12") // client.markets[SYMBOL].tick_size * client.markets[SYMBOL].tick_size
        await client.place_order("SOL-USDC", "Bid", "Limit", price=price, quantity="1")


async def test_a_fresh_list_with_other_rules_has_the_market_looked_up(runtime: str) -> None:
    async with serve_sandbox(speed=0.2) as sandbox, client_of(sandbox, runtime) as client:
        sandbox._give(ChangeMarket(SYMBOL, DIME, CENT))
        assert (await client.load_markets(fresh=True))[SYMBOL].tick_size == DIME
        event = await until(client, lambda event: isinstance(event, MarketChanged))
        assert_told(event, client, CENT, DIME)

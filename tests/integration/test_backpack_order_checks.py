"""Orders that do not fit do not leave the client, over real sockets."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from backpack_proto.account.values import AccountSynced, Order
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError, OrderDoesNotFit
from backpack_proto.exchange import ChangeMarket
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.streams.payloads import Event, MarkPrice
from backpack_runtime.client import BackpackClient
from backpack_runtime.order_checks import OrderChecking
from backpack_runtime.sandbox import Sandbox, serve_sandbox

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30.0
SYMBOL = "SOL_USDC"
CENT, DIME = Decimal("0.01"), Decimal("0.1")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def client_of(
    sandbox: Sandbox,
    *symbols: str,
    check_orders: OrderChecking | None = "grid",
    channels: tuple[str, ...] = (),
    follow_account: bool = False,
) -> BackpackClient:
    return BackpackClient(
        symbols,
        channels=channels,
        follow_account=follow_account,
        check_orders=check_orders,
        signer=Signer(Credentials(sandbox.secret)),
        settings=sandbox.settings,
    )


async def until(client: BackpackClient, *kinds: type[Event]) -> None:
    """Wait until each kind of event has come."""
    wanted = set(kinds)
    with anyio.fail_after(PATIENCE_SECONDS):
        async for event in client:
            wanted.discard(type(event))
            if not wanted:
                return


async def test_an_order_off_the_grid_is_not_sent_and_names_the_next_valid_values() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, client_of(sandbox) as client:
        with pytest.raises(OrderDoesNotFit) as caught:
            await client.place_order("SOL-USDC", "Bid", "Limit", price="50.125", quantity="0.005")
        assert caught.value.violations == (
            ("price", "50.125 is not on the tick 0.01; the next valid prices are 50.12 and 50.13"),
            ("quantity", "0.005 is below the minimum 0.01; the next valid quantity is 0.01"),
        )
        good = NewOrder.limit(SYMBOL, "Bid", price=50, quantity=1)
        bad = NewOrder.limit(SYMBOL, "Bid", price="50.125", quantity=1)
        with pytest.raises(OrderDoesNotFit, match=r"orders\[1\]\.price: 50\.125 is not on the tick"):
            await client.place_orders([good, bad])
        assert sandbox.exchange.account.open_orders == {}
        assert [order async for order in client.order_history()] == []
        market = client.markets[SYMBOL]
        price, quantity = market.round_price("50.125", side="Bid"), market.round_quantity("1.005")
        placed = await client.place_order(SYMBOL, "Bid", "Limit", price=price, quantity=quantity)
        (batched,) = await client.place_orders([good])
        assert isinstance(batched, Order)
        assert (placed.price, placed.quantity, batched.price) == (Decimal("50.12"), Decimal(1), Decimal(50))


async def test_a_rule_that_has_changed_refuses_nothing() -> None:
    async with serve_sandbox(speed=0.2) as sandbox:
        sandbox._give(ChangeMarket(SYMBOL, DIME, DIME))
        async with client_of(sandbox) as client:
            assert client.markets[SYMBOL].tick_size == DIME
            sandbox._give(ChangeMarket(SYMBOL, CENT, CENT))
            placed = await client.place_order(SYMBOL, "Bid", "Limit", price="50.12", quantity="1.01")
            assert placed.price == Decimal("50.12")
            assert client.markets[SYMBOL].tick_size == CENT
            await until(client, MarketChanged)


async def test_without_checks_the_exchange_refuses() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, client_of(sandbox, check_orders=None) as client:
        with pytest.raises(ApiError, match="Price decimal too long"):
            await client.place_order(SYMBOL, "Bid", "Limit", price="50.125", quantity="1")


async def test_all_checks_against_the_live_book_and_the_live_ledger() -> None:
    async with (
        serve_sandbox(speed=0.2) as sandbox,
        client_of(sandbox, "SOL_USDC_PERP", check_orders="all", channels=("book", "mark_price"), follow_account=True) as client,
    ):
        with anyio.fail_after(PATIENCE_SECONDS):
            if not client.account.live:
                await until(client, AccountSynced)
            book = client.book("SOL_USDC_PERP")
            while not (book.live and client.account.live):
                await anext(client)
        market = client.markets["SOL_USDC_PERP"]
        assert book.best_ask is not None
        through = market.round_price(book.best_ask.price * Decimal("1.1"), side="Bid")
        with pytest.raises(OrderDoesNotFit, match="would trade with the best ask"):
            await client.place_order("SOL_USDC_PERP", "Bid", "Limit", price=through, quantity=1, post_only=True)
        await until(client, MarkPrice)
        with pytest.raises(OrderDoesNotFit, match=r"1\.03 times the mark price"):
            await client.place_order("SOL_USDC_PERP", "Bid", "Limit", price=through, quantity=1)
        with pytest.raises(OrderDoesNotFit, match="reduce_only: True, and an Ask has no position to reduce"):
            await client.place_order("SOL_USDC_PERP", "Ask", "Market", quantity=1, reduce_only=True)
        with pytest.raises(OrderDoesNotFit, match="time_in_force='IOC', which never rests"):
            await client.place_order("SOL_USDC_PERP", "Bid", "Limit", price=50, quantity=1, post_only=True, time_in_force="IOC")
        with pytest.raises(OrderDoesNotFit, match=r"is more than the .* that the book has up to"):
            await client.place_order("SOL_USDC_PERP", "Bid", "Market", quantity=10**9)
        await client.place_order("SOL_USDC_PERP", "Bid", "Market", quantity=1)
        while not client.account.positions:
            with anyio.fail_after(PATIENCE_SECONDS):
                await anext(client)
        await client.place_order("SOL_USDC_PERP", "Ask", "Market", quantity=1, reduce_only=True)

"""The private side over real sockets: orders, the ledger, and calls whose outcome nobody knows, on asyncio and on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from backpack_proto.account.values import (
    AccountStale,
    AccountSynced,
    BalanceChanged,
    Filled,
    Order,
    OrderChanged,
    Origin,
    PositionChanged,
)
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError, BackpackError, ConfigurationError, LocalProtocolError, OutcomeUnknown, UnknownSymbol
from backpack_proto.exchange import Fault
from backpack_proto.inputs import Arguments
from backpack_proto.outputs import StreamsRefused
from backpack_proto.rest.codec import parse_response
from backpack_proto.rest.endpoints.table import Endpoint
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.rest.results.orders import OrderRefused
from backpack_proto.streams.payloads import Event, OrderUpdate, PositionUpdate
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60
ACCOUNT = ["order.*", "position.*", "balance.*"]
LOW = Decimal("0.95")
"""Of the best bid: far enough away not to trade, near enough to be allowed."""


@asynccontextmanager
async def a_trader(
    sandbox: Sandbox, *symbols: str, secret: str | None = None, **options: object
) -> AsyncIterator[BackpackClient]:
    arguments: dict[str, object] = {
        "settings": sandbox.settings,
        "channels": (),
        "signer": Signer(Credentials(secret or sandbox.secret)),
    }
    async with BackpackClient(symbols, **arguments | options) as client:  # type: ignore[arg-type]  # options of many types
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


def a(kind: type[Event]) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind)


def a_price(sandbox: Sandbox, symbol: str) -> Decimal:
    """Of a bid that rests."""
    bids, _, _ = sandbox.exchange.levels(symbol)
    return (bids[0][0] * LOW).quantize(Decimal("0.1"))


def assert_same(client: BackpackClient, sandbox: Sandbox) -> None:
    """The ledger is what the exchange has."""
    ledger, account = client.account, sandbox.exchange.account
    assert ledger.live
    assert {int(order_id) for order_id in ledger.open_orders} == set(account.open_orders)
    assert {symbol: position.net_quantity for symbol, position in ledger.positions.items()} == {
        symbol: position.net_quantity for symbol, position in account.positions.items() if position.net_quantity
    }
    assert {
        asset: (held.available, held.locked) for asset, held in ledger.balances.items() if held.available or held.locked
    } == {asset: (held.available, held.locked) for asset, held in account.balances.items() if held.available or held.locked}


@pytest.mark.parametrize("tls", [False, True])
async def test_an_order_is_placed_and_cancelled_and_the_ledger_follows(*, tls: bool) -> None:
    async with serve_sandbox(tls=tls, speed=0.2) as sandbox, a_trader(sandbox, follow_account=True) as client:
        await until(client, a(AccountSynced))
        price = a_price(sandbox, "SOL_USDC")
        placed = await client.place_order("SOL-USDC", "Bid", "Limit", price=price, quantity="1.50", client_id=7, post_only=True)
        assert (placed.symbol, placed.client_id, placed.price, placed.state) == ("SOL_USDC", 7, price, "New")
        changed = (await until(client, a(OrderChanged)))[-1]
        assert isinstance(changed, OrderChanged)
        assert (changed.order.order_id, changed.order.client_id, changed.origin) == (placed.order_id, 7, Origin.STREAM)
        assert client.account.open_orders == {placed.order_id: changed.order}
        assert [order.order_id for order in await client.get_open_orders("SOL-USDC")] == [placed.order_id]
        assert (await client.get_order("SOL_USDC", client_id=7)).quantity == Decimal("1.5")
        await client.cancel_order("SOL_USDC", client_id=7)
        cancelled = (await until(client, a(OrderChanged)))[-1]
        assert isinstance(cancelled, OrderChanged)
        assert cancelled.order.state == "Cancelled"
        assert client.account.open_orders == {}
        assert [order.order_id async for order in client.order_history("SOL_USDC")] == [placed.order_id]


async def test_a_market_order_fills_and_moves_balances_and_a_position() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox, follow_account=True) as client:
        await until(client, a(AccountSynced))
        before = (await client.get_balances())["SOL"].available
        spot = await client.place_order("SOL_USDC", "Bid", "Market", quantity=Decimal("0.50"))
        assert spot.state == "Filled"
        filled = [event for event in await until(client, a(Filled)) if isinstance(event, Filled)]
        await until(client, lambda event: isinstance(event, BalanceChanged) and event.balance.asset == "SOL")
        assert filled[0].fill.order_id == spot.order_id
        assert before < client.account.balances["SOL"].available <= before + Decimal("0.5")
        await client.place_order("SOL-USDC-PERP", "Ask", "Market", quantity="2")
        await until(client, a(PositionChanged))
        (position,) = await client.get_positions()
        assert (position.symbol, position.net_quantity) == ("SOL_USDC_PERP", Decimal(-2))
        await client.place_order("SOL_USDC_PERP", "Bid", "Market", quantity="5", reduce_only=True)
        await until(client, lambda event: isinstance(event, PositionChanged) and not event.position.net_quantity)
        assert client.account.positions == {}


async def test_a_batch_answers_for_each_order_and_all_are_cancelled_at_once() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox) as client:
        price = a_price(sandbox, "SOL_USDC")
        good = NewOrder(symbol="SOL-USDC", side="Bid", order_type="Limit", price=price, quantity="1", client_id=1)
        bad = NewOrder(symbol="SOL_USDC", side="Bid", order_type="Limit", price=price, quantity="9999999")
        first, refused, last = await client.place_orders([good, bad, replace(good, client_id=2)])
        assert isinstance(first, Order)
        assert isinstance(refused, OrderRefused)
        assert isinstance(last, Order)
        assert refused.code
        assert (first.client_id, last.client_id) == (1, 2)
        await client.cancel_all_orders("SOL-USDC")
        assert await client.get_open_orders() == ()


async def test_a_refused_order_is_an_error_with_the_exchange_s_words() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox) as client:
        with pytest.raises(ApiError) as caught:
            await client.place_order("SOL_USDC", "Bid", "Limit", price=a_price(sandbox, "SOL_USDC"), quantity="9999999")
        assert (caught.value.status, caught.value.code) == (400, "INSUFFICIENT_FUNDS")
        assert caught.value.message == "Insufficient funds"
        assert caught.value.endpoint == "POST /api/v1/order"
        with pytest.raises(UnknownSymbol):
            await client.place_order("SOL_USDX", "Bid", "Market", quantity="1")
        with pytest.raises(LocalProtocolError, match="say which"):
            await client.call("orderExecute", {"symbol": "SOL_USDC"})
        assert await client.call("GET /api/v1/orders") == await client.call("orderQueryAll") == ()


async def test_the_ledger_comes_through_a_cut_connection_without_a_hole() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox, follow_account=True) as client:
        await until(client, a(AccountSynced))
        seen: list[Event] = []
        for number in range(3):
            await client.place_order("SOL_USDC", "Bid", "Limit", price=a_price(sandbox, "SOL_USDC"), quantity="1")
            sandbox.drop_connections()
            seen += await until(client, a(AccountStale))
            assert not client.account.live
            await client.place_order("SOL_USDC", "Bid", "Market", quantity="0.30")
            await client.place_order("SOL_USDC_PERP", "Ask" if number % 2 else "Bid", "Market", quantity="1")
            seen += await until(client, a(AccountSynced))
        await client.cancel_all_orders("SOL_USDC")
        seen += await until(client, lambda event: not client.account.open_orders and isinstance(event, BalanceChanged))
        told = [event.fill.key for event in seen if isinstance(event, Filled)]
        assert len(set(told)) == len(told)
        assert {trade_id for _, trade_id, _, _ in told} == {fill.trade_id for fill in sandbox.exchange.account.fills}
        assert_same(client, sandbox)
        assert client.metrics.ws_reconnects == 3


async def test_an_order_whose_answer_was_lost_is_unknown_and_never_sent_twice() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox) as client:
        exchange = sandbox.exchange
        exchange.faults.only = ("POST /api/v1/order", "DELETE /api/v1/order")
        exchange.faults.plan(Fault.LOSE_REPLY)
        price = a_price(sandbox, "SOL_USDC")
        with pytest.raises(OutcomeUnknown) as caught:
            await client.place_order("SOL_USDC", "Bid", "Limit", price=price, quantity="1", client_id=4_000_000_000)
        assert (caught.value.symbol, caught.value.client_id) == ("SOL_USDC", 4_000_000_000)
        assert len(exchange.account.history) == 1
        found = await client.get_order("SOL_USDC", client_id=4_000_000_000)
        assert found.price == price

        exchange.faults.plan(Fault.LOSE_REPLY)
        with pytest.raises(OutcomeUnknown):
            await client.place_order("SOL_USDC", "Bid", "Limit", price=price, quantity="1")
        assert len(exchange.account.history) == 2, "without a client id, each sending is an order of its own"

        exchange.faults.plan(Fault.ERROR_AFTER)
        order = NewOrder(symbol="SOL_USDC", side="Bid", order_type="Limit", price=price, quantity="1")
        with pytest.raises(OutcomeUnknown) as caught:
            await client.place_orders([replace(order, client_id=number) for number in (1, 2)])
        assert caught.value.orders == (("SOL_USDC", 1), ("SOL_USDC", 2))
        assert len(exchange.account.history) == 4

        exchange.faults.plan(Fault.LOSE_REPLY)
        with pytest.raises(OutcomeUnknown) as caught:
            await client.cancel_order("SOL_USDC", order_id=found.order_id)
        assert caught.value.order_id == found.order_id
        assert len(await client.get_open_orders()) == 3


async def test_a_read_whose_answer_was_lost_is_an_error_like_any_other() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox) as client:
        sandbox.exchange.faults.rates = {Fault.LOSE_REPLY: 1.0}
        with pytest.raises(BackpackError) as caught:
            await client.get_balances()
        assert not isinstance(caught.value, OutcomeUnknown)


async def test_what_is_under_way_when_the_client_closes_is_unknown_if_it_changes_something() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox) as client:
        sandbox.exchange.faults.only = ("POST /api/v1/order", "GET /api/v1/capital")
        sandbox.exchange.faults.rates = {Fault.DELAY: 1.0}
        errors: dict[str, BackpackError] = {}

        async def place() -> None:
            try:
                await client.place_order("SOL_USDC", "Bid", "Market", quantity="0.10", client_id=9)
            except BackpackError as error:
                errors["place"] = error

        async def read() -> None:
            try:
                await client.get_balances()
            except BackpackError as error:
                errors["read"] = error

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(place)
                tasks.start_soon(read)
                while not sandbox.exchange.account.history:  # noqa: ASYNC110 - nothing tells of it before the answer
                    await anyio.sleep(0.01)
                await client.aclose()
        assert isinstance(errors["place"], OutcomeUnknown)
        assert errors["place"].client_id == 9
        assert not isinstance(errors["read"], OutcomeUnknown)
        with pytest.raises(LocalProtocolError, match="closed"):
            await client.place_order("SOL_USDC", "Bid", "Market", quantity="0.10")
        assert len(sandbox.exchange.account.history) == 1


async def test_a_call_that_a_bug_leaves_behind_is_unknown_if_it_changes_something(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[BackpackError] = []

    async def place(client: BackpackClient) -> None:
        try:
            await client.place_order("SOL_USDC", "Bid", "Market", quantity="0.10", client_id=9)
        except BackpackError as error:
            errors.append(error)

    def bug(endpoint: Endpoint, parameters: Arguments, **answer: Any) -> object:
        if not endpoint.idempotent:
            raise ZeroDivisionError
        return parse_response(endpoint, parameters, **answer)

    with pytest.raises(ExceptionGroup) as caught:
        async with serve_sandbox(speed=0.2) as sandbox, anyio.create_task_group() as tasks, a_trader(sandbox) as client:
            monkeypatch.setattr("backpack_proto.rest.requests.parse_response", bug)
            tasks.start_soon(place, client)
            async for _ in client:
                pass
            while not errors:
                await anyio.lowlevel.checkpoint()
    assert caught.group_contains(ZeroDivisionError)
    (error,) = errors
    assert isinstance(error, OutcomeUnknown)
    assert (error.symbol, error.client_id) == ("SOL_USDC", 9)


async def test_the_wrong_key_is_refused_and_counted() -> None:
    wrong = bytes(range(1, 33)).hex()
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox, secret=wrong, channels=ACCOUNT) as client:
        refused = (await until(client, a(StreamsRefused)))[-1]
        assert isinstance(refused, StreamsRefused)
        assert (refused.code, refused.authentication) == (4003, True)
        assert "account.orderUpdate" in refused.suspects
        assert client.metrics.auth_failures == 1
        with pytest.raises(ApiError) as caught:
            await client.get_balances()
        assert caught.value.status in (400, 401)


async def test_fills_are_read_page_by_page() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox) as client:
        for _ in range(7):
            await client.place_order("SOL_USDC", "Bid", "Market", quantity="0.10")
        done = [fill.trade_id for fill in sandbox.exchange.account.fills]
        assert len(done) >= 7
        assert sorted([fill.trade_id async for fill in client.fills(page_size=3)], key=str) == sorted(done, key=str)
        assert [fill.trade_id async for fill in client.fills("SOL-USDC", oldest_first=True, page_size=2)] == done
        fills = client.fills(page_size=2)
        seen = [(await anext(fills)).trade_id]
        # A newer fill pushes all others one place further.
        await client.place_order("SOL_USDC", "Bid", "Market", quantity="0.01")
        seen += [fill.trade_id async for fill in fills]
        assert sorted(seen, key=str) == sorted(done, key=str)
        assert [fill.trade_id async for fill in client.fills("BTC_USDC")] == []


async def test_private_channels_have_short_names_and_either_spelling() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox) as client:
        with pytest.raises(UnknownSymbol):
            await client.subscribe(["order.SOL_USDX"], [])
        await client.place_order("SOL_USDC_PERP", "Bid", "Market", quantity="1")
        await client.subscribe(["order.SOL-USDC", "position.*"], [])
        # The position that there is already is told at once, which shows that the subscription is in force.
        await until(client, a(PositionUpdate))
        await client.place_order("BTC_USDC", "Bid", "Limit", price=a_price(sandbox, "BTC_USDC"), quantity="0.001")
        await client.place_order("SOL_USDC", "Bid", "Limit", price=a_price(sandbox, "SOL_USDC"), quantity="1")
        events = await until(client, a(OrderUpdate))
        assert [event.symbol for event in events if isinstance(event, OrderUpdate)] == ["SOL_USDC"]


async def test_the_ledger_keeps_its_streams() -> None:
    async with serve_sandbox(speed=0.2) as sandbox, a_trader(sandbox, follow_account=True) as client:
        await until(client, a(AccountSynced))
        await client.unsubscribe(ACCOUNT, [])
        await client.place_order("SOL_USDC", "Bid", "Limit", price=a_price(sandbox, "SOL_USDC"), quantity="1")
        await until(client, a(OrderChanged))


async def test_the_sandbox_s_account_needs_no_credentials_and_the_exchange_s_does() -> None:
    async with BackpackClient(sandbox=True, channels=(), follow_account=True) as client:
        synced = (await until(client, a(AccountSynced)))[-1]
        assert synced == AccountSynced(orders=0, fills=0)
        assert client.account.balances["USDC"].available > 0
    async with BackpackClient(sandbox=True, channels=["order.*"]) as client:
        assert await client.get_open_orders() == ()
        with pytest.raises(LocalProtocolError, match="not followed"):
            _ = client.account
    with pytest.raises(ConfigurationError, match=r"^follow_account=True needs a signer"):
        BackpackClient(follow_account=True)
    async with serve_sandbox() as sandbox, BackpackClient(settings=sandbox.settings, channels=()) as client:
        with pytest.raises(LocalProtocolError, match="credentials"):
            await client.get_balances()


async def test_reads_of_every_day() -> None:
    async with serve_sandbox() as sandbox, a_trader(sandbox) as client:
        assert len(await client.get_markets()) == len(client.markets)
        depth = await client.get_depth("SOL-USDC", limit=5)
        assert depth.bids[0][0] < depth.asks[0][0]
        now_s = (await client.get_time()).server_us // 1_000_000
        assert len(await client.get_klines("SOL_USDC", "1m", start_s=now_s - 600)) >= 1
        assert await client.get_trades("SOL_USDC", limit=3)
        assert (await client.get_ticker("SOL-USDC")).symbol == "SOL_USDC"
        assert len(await client.get_tickers()) > 1
        assert [row.symbol for row in await client.get_mark_prices("SOL-USDC-PERP")] == ["SOL_USDC_PERP"]
        assert [row.symbol for row in await client.get_open_interest("SOL_USDC_PERP")] == ["SOL_USDC_PERP"]
        assert len(await client.get_funding_rates("SOL_USDC_PERP", limit=2)) <= 2

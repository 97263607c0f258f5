"""Margin of the ledger over real sockets: what the client shows is what REST says."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import anyio
import pytest

from backpack_proto.account.margin import FundingPaid, MarginChanged
from backpack_proto.account.values import AccountSynced
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import LocalProtocolError
from backpack_proto.exchange.account.accounts import SimulatedFundingPayment
from backpack_proto.rest.results.account import Collateral
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60


def a_trader(sandbox: Sandbox) -> BackpackClient:
    return BackpackClient(settings=sandbox.settings, signer=Signer(Credentials(sandbox.secret)), follow_account=True)


async def until(client: BackpackClient, reached: Callable[[Event], bool]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        async for event in client:
            if reached(event):
                return
    raise AssertionError("the events ended")


async def listed(client: BackpackClient) -> Collateral:
    found = await client.call("collateral")
    assert isinstance(found, Collateral)
    return found


async def test_the_margin_is_that_of_rest_soon_after_each_trade() -> None:
    async with serve_sandbox(speed=0.0) as sandbox, a_trader(sandbox) as client:
        account = client.account
        assert [account.margin, account.buying_power] == [None, None]
        await until(client, lambda event: isinstance(event, AccountSynced))
        assert account.margin is not None
        assert account.margin.collateral == await listed(client)
        before = account.buying_power
        assert before == account.margin.net_equity_available
        with pytest.raises(LocalProtocolError, match="no open position in symbol='SOL_USDC_PERP'; positions: none"):
            account.liquidation_price("SOL_USDC_PERP")
        await client.place_order("SOL_USDC_PERP", "Ask", "Market", quantity="20")
        await until(client, lambda event: isinstance(event, MarginChanged))
        assert account.margin.collateral == await listed(client)
        (row,) = await client.get_positions()
        found = account.liquidation_price("SOL_USDC_PERP")
        assert found is not None
        assert (found.price, found.moved) == (row.estimated_liquidation_price, False)
        position = account.positions["SOL_USDC_PERP"]
        assert position.mark_price == row.mark_price
        assert position.unrealized_pnl == row.unrealized_pnl == account.unrealized_pnl
        assert account.equity == account.margin.net_equity
        assert account.buying_power is not None
        assert account.buying_power < before - Decimal(100), "the position needs margin, which balances do not show"
        assert account.margin_age_us is not None
        assert account.margin_age_us < PATIENCE_SECONDS * 1_000_000
        assert (account.lent, account.borrowed, account.funding) == ({}, {}, ())


async def test_profit_follows_the_mark_price_of_a_stream() -> None:
    async with serve_sandbox(speed=1.0) as sandbox, a_trader(sandbox) as client:
        await until(client, lambda event: isinstance(event, AccountSynced))
        await client.subscribe(["mark_price"], ["SOL_USDC_PERP"])
        await client.place_order("SOL_USDC_PERP", "Bid", "Market", quantity="20")
        await until(client, lambda event: isinstance(event, MarginChanged))
        account = client.account

        def estimated(_: Event) -> bool:
            return account.margin is not None and account.margin.estimated and not account.margin.moved

        await until(client, estimated)
        margin, position = account.margin, account.positions["SOL_USDC_PERP"]
        assert margin is not None
        assert margin.unrealized_pnl == position.unrealized_pnl != margin.collateral.unrealized_pnl
        won = margin.unrealized_pnl - margin.collateral.unrealized_pnl
        assert margin.net_equity == margin.collateral.net_equity + won
        assert margin.net_equity_available == margin.collateral.net_equity_available + won


def paid(amount: int, hour: int) -> SimulatedFundingPayment:
    return SimulatedFundingPayment(
        symbol="SOL_USDC_PERP", amount=Decimal(amount), rate=Decimal("0.0001"), interval_end_s=1_800_000_000 + hour * 3_600
    )


async def test_funding_that_was_paid_while_the_connection_was_down_is_told_once() -> None:
    async with serve_sandbox(speed=0.0) as sandbox, a_trader(sandbox) as client:
        told: list[Decimal] = []

        def synced(event: Event) -> bool:
            if isinstance(event, FundingPaid):
                told.append(event.payment.quantity)
            return isinstance(event, AccountSynced)

        sandbox.exchange.account.funding.append(paid(1, 0))
        await until(client, synced)
        sandbox.exchange.account.funding += [paid(2, 1), paid(-3, 2)]
        for _ in range(2):
            sandbox.drop_connections()
            await until(client, synced)
        assert told == [Decimal(2), Decimal(-3)]
        funding = client.account.funding
        assert funding is not None
        assert [payment.quantity for payment in funding] == [Decimal(1), Decimal(2), Decimal(-3)]


async def test_buying_power_is_there_where_nothing_is_available() -> None:
    async with serve_sandbox(speed=0.0) as sandbox, a_trader(sandbox) as client:
        sandbox.exchange.account.auto_lend = True
        account = client.account
        await until(client, lambda event: isinstance(event, AccountSynced))
        await client.place_order("SOL_USDC_PERP", "Ask", "Market", quantity="20")
        await until(client, lambda event: isinstance(event, MarginChanged))
        assert account.balances["USDC"].available == 0
        assert account.lent is not None
        assert account.lent["USDC"] > 0
        assert account.margin is not None
        assert account.buying_power == (await listed(client)).net_equity_available > 0

"""The ledger over real sockets while our wall clock is wrong, in every runtime: each fill is told once all the same."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest

from backpack_proto.account.values import AccountStale, AccountSynced, Filled
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import Fault
from backpack_proto.machine import Now
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from backpack_runtime.transport import system_now
from backpack_runtime.transports import transport_of

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("runtime", ["asyncio", "trio", "aiohttp"], indirect=True)]

PATIENCE_SECONDS = 30
SECOND = 1_000_000


class WallClock:
    """The wall clock of the client that follows the account. The sandbox, and who trades, have the right one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error_us = 0
        self._monkeypatch = monkeypatch

    def now(self) -> Now:
        now = system_now()
        return Now(now.mono_us, now.unix_us + self.error_us)

    def follower(self, sandbox: Sandbox, runtime: str) -> BackpackClient:
        kind = transport_of("aiohttp" if runtime == "aiohttp" else "anyio")
        transport = kind(Addresses(sandbox.rest_url, sandbox.ws_url))
        self._monkeypatch.setattr(transport, "now", self.now)
        return a_client(sandbox, transport=transport, follow_account=True)


def a_client(sandbox: Sandbox, **options: Any) -> BackpackClient:
    signer = Signer(Credentials(sandbox.secret))
    return BackpackClient(channels=(), signer=signer, settings=sandbox.settings, **options)


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "asyncio" if runtime == "aiohttp" else runtime


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


async def until(client: BackpackClient, reached: Callable[[Event], bool]) -> list[Event]:
    """All events up to the first that is wanted. Fails when it does not come."""
    seen: list[Event] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        async for event in client:
            seen.append(event)
            if reached(event):
                return seen
    raise AssertionError("the events ended")


async def buy(client: BackpackClient, lots: int) -> None:
    for _ in range(lots):
        await client.place_order("SOL_USDC", "Bid", "Market", quantity=Decimal("0.10"))


def told(events: list[Event]) -> list[int]:
    return sorted(event.fill.trade_id or 0 for event in events if isinstance(event, Filled))


def filled(sandbox: Sandbox) -> list[int]:
    return sorted(fill.trade_id for fill in sandbox.exchange.account.fills)


def live(event: Event) -> bool:
    return isinstance(event, AccountSynced)


def stale(event: Event) -> bool:
    return isinstance(event, AccountStale)


async def trade_over_a_break(client: BackpackClient, trader: BackpackClient, sandbox: Sandbox) -> list[Event]:
    """Trade while the ledger is live, and while it is not. All events until it is live again."""
    await buy(trader, 1)
    sandbox.drop_connections()
    seen = await until(client, stale)
    await buy(trader, 2)
    return [*seen, *await until(client, live)]


async def test_no_fill_is_lost_while_our_clock_is_wrong_and_the_exchange_s_cannot_be_measured(
    runtime: str, wall: WallClock
) -> None:
    # Less than a signature's window: with more nothing signed would be accepted at all.
    wall.error_us = 4 * SECOND
    async with serve_sandbox(speed=0.2) as sandbox, a_client(sandbox) as trader:
        sandbox.exchange.faults.only = ("GET /api/v1/time",)
        sandbox.exchange.faults.rates = {Fault.ERROR_BEFORE: 1.0}
        async with wall.follower(sandbox, runtime) as client:
            seen = await until(client, live)
            seen += await trade_over_a_break(client, trader, sandbox)
            assert len(filled(sandbox)) >= 3
            assert told(seen) == filled(sandbox)


async def test_fills_from_before_the_client_are_not_told(runtime: str, wall: WallClock) -> None:
    wall.error_us = -4 * SECOND
    async with serve_sandbox(speed=0.2) as sandbox, a_client(sandbox) as trader:
        await buy(trader, 2)
        before = filled(sandbox)
        async with wall.follower(sandbox, runtime) as client:
            seen = await until(client, live)
            seen += await trade_over_a_break(client, trader, sandbox)
            assert told(seen) == [trade_id for trade_id in filled(sandbox) if trade_id not in before]


@pytest.mark.parametrize("step_seconds", [600, -600])
async def test_no_fill_is_lost_when_our_clock_is_set(runtime: str, wall: WallClock, step_seconds: int) -> None:
    """Nothing has measured it when the connection is made again, so its subscription is refused at first."""
    async with serve_sandbox(speed=0.2) as sandbox, a_client(sandbox) as trader, wall.follower(sandbox, runtime) as client:
        seen = await until(client, live)
        for _ in range(2):
            wall.error_us += step_seconds * SECOND
            seen += await trade_over_a_break(client, trader, sandbox)
        assert len(filled(sandbox)) >= 6
        assert told(seen) == filled(sandbox)
        assert client.metrics.auth_failures == 2
        assert not [reason for reason in client.health.reasons if "refused" in reason]

"""Calls that their caller gave up, and an exchange that asks to wait: on real sockets, in every runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from backpack_proto.account.values import Order
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError, LocalProtocolError, NotSent
from backpack_proto.exchange import Fault, RequestReceived, Respond
from backpack_proto.exchange.messages import ExchangeInput, ExchangeOutput
from backpack_proto.machine import Now
from backpack_proto.metrics import Status
from backpack_proto.outputs import CallAnswered, CallUnresolved
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from transports import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

ORDER: dict[str, Any] = {"side": "Bid", "order_type": "Limit", "quantity": "1", "client_id": 7}
PAUSE_US = 1_000_000
"""What the first 429 costs."""


@pytest.fixture(params=["asyncio", "trio", "aiohttp"])
def runtime(request: pytest.FixtureRequest) -> str:
    """A test runs in every runtime."""
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "trio" if runtime == "trio" else "asyncio"


class Wire:
    """What reaches a sandbox, and headers that it adds to its answers."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.requests: list[RequestReceived] = []
        self.headers: dict[str, str] = {}
        self._handle: Callable[[ExchangeInput, Now], Sequence[ExchangeOutput]] = sandbox.exchange.handle
        sandbox.exchange.handle = self  # type: ignore[method-assign]  # a tap

    def __call__(self, given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        if isinstance(given, RequestReceived):
            self.requests.append(given)
        added = tuple(self.headers.items())
        return [
            replace(output, headers=(*output.headers, *added)) if isinstance(output, Respond) else output
            for output in self._handle(given, now)
        ]

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]


@asynccontextmanager
async def trading(runtime: str, **changed: Any) -> AsyncIterator[tuple[BackpackClient, Sandbox, Wire]]:
    async with serve_sandbox(speed=0.2) as sandbox:
        wire = Wire(sandbox)
        async with BackpackClient(
            channels=(),
            signer=Signer(Credentials(sandbox.secret)),
            settings=replace(sandbox.settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio", **changed),
        ) as client:
            with anyio.fail_after(PATIENCE_SECONDS):
                yield client, sandbox, wire


async def refused(client: BackpackClient, sandbox: Sandbox) -> None:
    """Be answered with 429 once, which pauses all requests."""
    sandbox.exchange.faults.only = ("GET /api/v1/ping",)
    sandbox.exchange.faults.plan(Fault.TOO_MANY_REQUESTS)
    with pytest.raises(ApiError) as caught:
        await client.call("ping")
    assert caught.value.status == 429


def a_price(sandbox: Sandbox) -> Decimal:
    """Of a bid that rests."""
    bids, _, _ = sandbox.exchange.levels("SOL_USDC")
    return (bids[0][0] * Decimal("0.95")).quantize(Decimal("0.1"))


async def given_up(client: BackpackClient, sandbox: Sandbox, until: Callable[[], bool]) -> None:
    """Cancel an order while it is on its way, once something has come to pass. The cancellation is all that it raises."""
    raised: list[BaseException] = []

    async def place() -> None:
        try:
            await client.place_order("SOL_USDC", price=a_price(sandbox), **ORDER)
        except BaseException as error:
            raised.append(error)
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(place)
        while not until():
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert [type(error) for error in raised] == [anyio.get_cancelled_exc_class()]


async def next_of(client: BackpackClient, kind: type[Event]) -> Event:
    async for event in client:
        if isinstance(event, kind):
            return event
    raise AssertionError("the events ended")


async def test_an_order_that_was_given_up_during_a_pause_is_never_placed(runtime: str) -> None:
    async with trading(runtime) as (client, sandbox, wire):
        await refused(client, sandbox)
        await given_up(client, sandbox, lambda: client.budget.queued == 1)
        assert client.budget.queued == 0
        assert client.budget.paused_until_us is not None
        # A read leaves as soon as the pause is over, and would leave behind the order.
        await client.get_time()
        await client.get_time()
        assert "POST" not in wire.methods
        assert await client.get_open_orders() == ()
        assert not sandbox.exchange.account.history
        assert not sandbox.exchange.account.open_orders
        assert client.unresolved == {}


async def test_an_order_whose_turn_does_not_come_in_time_is_not_sent(runtime: str) -> None:
    async with trading(runtime) as (client, sandbox, wire):
        await refused(client, sandbox)
        with pytest.raises(NotSent) as caught:
            await client.place_order("SOL_USDC", price=a_price(sandbox), **ORDER, max_wait_us=50_000)
        assert str(caught.value) == "POST /api/v1/order was not sent: its turn did not come within 0.05 s"
        with pytest.raises(NotSent):
            await client.call("balances", max_wait_us=50_000)
        await client.get_time()
        assert set(wire.methods) == {"GET"}
        placed = await client.place_order("SOL_USDC", price=a_price(sandbox), **ORDER)
        assert placed.client_id == 7


async def test_an_order_that_had_left_is_unresolved_until_its_answer_comes(runtime: str) -> None:
    async with trading(runtime) as (client, sandbox, wire):
        sandbox.exchange.faults.only = ("POST /api/v1/order",)
        sandbox.exchange.faults.delay_us = 300_000
        sandbox.exchange.faults.plan(Fault.DELAY)
        await given_up(client, sandbox, lambda: "POST" in wire.methods)
        assert [(call.symbol, call.client_id) for call in client.unresolved.values()] == [("SOL_USDC", 7)]
        event = await next_of(client, CallUnresolved)
        assert isinstance(event, CallUnresolved)
        assert client.unresolved == {event.call_id: event}
        assert (event.endpoint, event.symbol, event.client_id) == ("place_order", "SOL_USDC", 7)
        answered = await next_of(client, CallAnswered)
        assert isinstance(answered, CallAnswered)
        assert answered.call_id == event.call_id
        assert isinstance(answered.result, Order)
        assert answered.result.client_id == 7
        assert client.unresolved == {}
        assert wire.methods.count("POST") == 1
        with pytest.raises(LocalProtocolError, match=f"call_id {event.call_id} is not unresolved"):
            client.dismiss(call_id=event.call_id)


async def test_an_order_whose_answer_is_lost_stays_unresolved_until_the_user_resolves_it(runtime: str) -> None:
    async with trading(runtime) as (client, sandbox, wire):
        sandbox.exchange.faults.only = ("POST /api/v1/order",)
        sandbox.exchange.faults.delay_us = 600_000_000
        sandbox.exchange.faults.plan(Fault.DELAY)
        await given_up(client, sandbox, lambda: "POST" in wire.methods)
        event = await next_of(client, CallUnresolved)
        assert isinstance(event, CallUnresolved)
        while not sandbox.exchange.account.open_orders:  # the order waits for the speed bump
            await anyio.lowlevel.checkpoint()
        found = await client.get_order("SOL_USDC", client_id=7)
        assert found.state == "New"
        assert list(client.unresolved) == [event.call_id]
        client.dismiss(call_id=event.call_id)
        assert client.unresolved == {}


async def test_a_wish_for_thirty_one_years_is_granted_up_to_the_ceiling_and_is_seen(runtime: str) -> None:
    async with trading(runtime, pause_ceiling_us=PAUSE_US) as (client, sandbox, wire):
        wire.headers["Retry-After"] = "1000000000"
        await refused(client, sandbox)
        budget = client.budget
        assert (budget.pause_us, budget.asked_us) == (PAUSE_US, 1_000_000_000 * 1_000_000)
        assert client.health.status is not Status.HEALTHY
        (said,) = [reason for reason in client.health.reasons if "pause" in reason]
        assert said.startswith("REST requests pause for 1 s, 1 s of them are left: ")
        assert said.endswith("the exchange answered 429 and asked for 1000000000 s")
        await client.cancel_all_orders("SOL_USDC")
        assert client.budget.paused_until_us is None
        assert not [reason for reason in client.health.reasons if "pause" in reason]


async def test_no_number_in_a_header_ends_the_client(runtime: str) -> None:
    async with trading(runtime) as (client, sandbox, wire):
        digits = "9" * 5_000
        wire.headers = {"Retry-After": digits, "X-Total": digits, "X-Page-Count": digits}
        await refused(client, sandbox)
        assert client.budget.asked_us is None
        assert [fill async for fill in client.fills()] == []
        wire.headers = {"X-Request-Id": digits}
        assert [order async for order in client.order_history()] == []
        assert (await client.get_time()).server_us > 0

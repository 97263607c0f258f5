"""The client over a scripted transport: what its user sees where no socket is needed."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from backpack_proto.streams.payloads import Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery.streams import EVENTS_PER_TURN
from backpack_runtime.transports.mock import MockTransport
from transports import one_market, trade_frame

pytestmark = pytest.mark.anyio

TRADES = 20 * EVENTS_PER_TURN


async def test_a_consumer_that_never_waits_lets_other_tasks_run() -> None:
    transport = MockTransport(one_market)
    turns = 0
    fetched: list[int] = []
    longest = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(60):
        async with BackpackClient(["SOL_USDC"], channels=["trades"], transport=transport) as client:
            while client.delivery.waiting:
                await anext(client)
            transport.feed(*map(trade_frame, range(TRADES)))
            while client.delivery.waiting < TRADES:
                await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(neighbour)
                since, last_turn = 0, turns
                while len(fetched) < TRADES:
                    event = await anext(client)
                    if isinstance(event, Trade) and event.trade_id is not None:
                        fetched.append(event.trade_id)
                    since = since + 1 if turns == last_turn else 1
                    last_turn = turns
                    longest = max(longest, since)
                tasks.cancel_scope.cancel()
    assert fetched == list(range(TRADES))
    assert longest <= 2 * EVENTS_PER_TURN, "trio may give two turns in a row, for it shuffles each round of tasks"

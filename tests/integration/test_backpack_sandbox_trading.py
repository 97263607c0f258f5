"""Trading on the sandbox over real sockets: the speed bump, what is attached to an order, and a round of a request for quote."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar, cast

import anyio
import anyio.lowlevel
import pytest

from backpack_proto import (
    ApiError,
    Credentials,
    Event,
    Page,
    Rfq,
    RfqAcceptedBinding,
    RfqCandidate,
    RfqFill,
    RfqFilled,
    Signer,
    TriggerPlaced,
)
from backpack_runtime import BackpackClient
from backpack_runtime.sandbox import serve_sandbox

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60
Found = TypeVar("Found", bound=Event)


async def next_of(client: BackpackClient, kind: type[Found]) -> Found:
    async for event in client:
        if isinstance(event, kind):
            return event
    raise AssertionError("the events ended")


async def test_a_cancel_overtakes_an_order_in_the_speed_bump_and_a_post_only_order_does_not_wait() -> None:
    async with BackpackClient(sandbox=True, follow_account=True) as client:
        with anyio.fail_after(PATIENCE_SECONDS):
            placed_s: list[float] = []

            async def place() -> None:
                await client.place_order("SOL_USDC", side="Bid", order_type="Limit", price="60", quantity="1", client_id=7)
                placed_s.append(anyio.current_time())

            async with anyio.create_task_group() as tasks:
                asked_s = anyio.current_time()
                tasks.start_soon(place)
                with pytest.raises(ApiError) as caught:
                    await client.cancel_order("SOL_USDC", client_id=7)
                assert (caught.value.status, caught.value.code) == (400, "INVALID_ORDER")
                assert placed_s == [], "the order is answered after the cancel, which was sent later"
            assert placed_s[0] - asked_s >= 0.1
            assert [order.client_id for order in await client.get_open_orders()] == [7]
            cancelled = await client.cancel_order("SOL_USDC", client_id=7)
            assert cancelled is not None
            assert cancelled.state == "Cancelled"


async def test_a_take_profit_and_a_stop_loss_come_with_an_order() -> None:
    async with BackpackClient(channels=["account.orderUpdate"], sandbox=True) as client:
        with anyio.fail_after(PATIENCE_SECONDS):
            order = await client.place_order(
                "SOL_USDC_PERP",
                side="Bid",
                order_type="Market",
                quantity="1",
                take_profit_trigger_price="150",
                stop_loss_trigger_price="50",
                stop_loss_trigger_by="MarkPrice",
            )
            assert order.state == "Filled"
            updates = [await next_of(client, TriggerPlaced) for _ in range(2)]
            assert {update.related_order_id for update in updates} == {order.order_id}
            attached = await client.get_open_orders()
            assert [(one.side, one.trigger_price, one.trigger_by, one.reduce_only) for one in attached] == [
                ("Ask", Decimal(150), "LastPrice", True),
                ("Ask", Decimal(50), "MarkPrice", True),
            ]
            gone = cast("tuple[object, ...]", await client.cancel_all_orders("SOL_USDC_PERP", order_type="ConditionalOrder"))
            assert len(gone) == 2


async def test_a_request_for_quote_from_the_submission_to_the_fill() -> None:
    async with serve_sandbox() as sandbox:
        # Whatever the time is in New York.
        sandbox.exchange.rfqs.markets.always_open = True
        signer = Signer(Credentials(sandbox.secret))
        async with BackpackClient(channels=["account.rfqUpdate"], settings=sandbox.settings, signer=signer) as client:
            with anyio.fail_after(PATIENCE_SECONDS):
                # An answer tells that the subscription, which was sent before, is in force.
                await client.get_balances()
                rfq = await client.call("submit_rfq", {"symbol": "AAPL.US_USDC_RFQ", "side": "Bid", "quantity": "2"})
                assert isinstance(rfq, Rfq)
                candidate = await next_of(client, RfqCandidate)
                accepted = await client.call("accept_quote", {"rfq_id": rfq.rfq_id, "quote_id": str(candidate.quote_id)})
                assert isinstance(accepted, Rfq)
                bound = await next_of(client, RfqAcceptedBinding)
                filled = await next_of(client, RfqFilled)
                assert bound.price == candidate.price
                assert bound.price is not None
                assert filled.price is not None
                assert filled.price <= bound.price
                assert (await client.get_balances())["AAPL.US"].available == 2
                fills = await client.call("rfq_fill_history", {"symbol": "AAPL.US_USDC_RFQ"})
                assert isinstance(fills, Page)
                (fill,) = fills.rows
                assert isinstance(fill, RfqFill)
                assert (fill.rfq_id, fill.fill_price) == (rfq.rfq_id, filled.price)

"""Orders that are safe to send: the journal, what became of an order, and none left behind, on real sockets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.account.values import Order
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import (
    ApiError,
    ClientClosed,
    ConfigurationError,
    LocalProtocolError,
    NotSent,
    OrderNotFound,
    OrdersLeft,
    OrderStillOpen,
    OutcomeUnknown,
    UnknownSymbol,
)
from backpack_proto.exchange import Fault
from backpack_proto.metrics import Status
from backpack_proto.orders import resolution
from backpack_proto.orders.intents import IntentEnded, IntentOutcome, OrderIntent, read_rows
from backpack_proto.orders.resolution import OrderFound, OrderNeverHappened, OrderUnresolved
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.rest.results.orders import OrderRefused
from backpack_runtime.client import BackpackClient
from backpack_runtime.orders import journal as journal_module
from backpack_runtime.orders import leaving
from backpack_runtime.sandbox import Sandbox, serve_sandbox
from transports import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

WINDOW_MS = 300
PLACE = ("POST /api/v1/order",)


@pytest.fixture(params=["asyncio", "trio", "aiohttp"])
def runtime(request: pytest.FixtureRequest) -> str:
    """A test runs in every runtime."""
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "trio" if runtime == "trio" else "asyncio"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds of the real exchange are a matter of seconds. The sandbox needs no such room."""
    monkeypatch.setattr(resolution, "SETTLED_MS", 300)
    monkeypatch.setattr(leaving, "CANCEL_SECONDS", 1.0)


@asynccontextmanager
async def served() -> AsyncIterator[Sandbox]:
    async with serve_sandbox(speed=0.2) as sandbox:
        with anyio.fail_after(PATIENCE_SECONDS):
            yield sandbox


def client_of(sandbox: Sandbox, runtime: str = "asyncio", **arguments: Any) -> BackpackClient:
    return BackpackClient(
        **{
            "channels": (),
            "check_orders": None,
            "signer": Signer(Credentials(sandbox.secret), window_ms=WINDOW_MS),
            "settings": replace(sandbox.settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio"),
            **arguments,
        }
    )


def resting(sandbox: Sandbox, **more: Any) -> NewOrder:
    """A bid that stays on the book."""
    bids, _, _ = sandbox.exchange.levels("SOL_USDC")
    price = (bids[0][0] * Decimal("0.95")).quantize(Decimal("0.1"))
    return NewOrder.limit("SOL_USDC", "Bid", price=price, quantity="1", post_only=True, **more)


def faulty(sandbox: Sandbox, *faults: Fault, only: tuple[str, ...] = PLACE) -> None:
    sandbox.exchange.faults.only = only
    sandbox.exchange.faults.plan(*faults)


async def listed(client: BackpackClient) -> list[int | None]:
    return [order.client_id for order in await client.get_open_orders()]


async def until_listed(client: BackpackClient, count: int) -> tuple[Order, ...]:
    """Wait until so many orders are open."""
    while len(orders := await client.get_open_orders()) < count:
        pass
    return orders


async def test_every_order_has_a_client_id_and_is_written_down_before_it_leaves(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.journal"
    async with served() as sandbox, client_of(sandbox, runtime, journal=path) as client:
        one = await client.place(resting(sandbox))
        two = await client.place(resting(sandbox, client_id=7))
        (three, refused) = await client.place_orders([resting(sandbox), replace(resting(sandbox), quantity="0.001")])
        raw = await client.call("place_order", resting(sandbox).arguments())
        assert isinstance(three, Order)
        assert isinstance(raw, Order)
        assert isinstance(refused, OrderRefused)
        assert client.journal is not None
        assert client.journal.unresolved == ()
        rows = read_rows(path.read_bytes())
    assert two.client_id == 7
    intents = [row.client_id for row in rows if isinstance(row, OrderIntent)]
    first = intents[0]
    assert intents == [first, 7, first + 1, first + 2, first + 3]
    assert first >> 22 == 0, "the lowest instance that is free"
    assert [one.client_id, three.client_id, raw.client_id] == [first, first + 1, first + 3]
    ends = [(row.client_id, row.outcome, row.order_id) for row in rows if isinstance(row, IntentEnded)]
    assert ends == [
        (first, IntentOutcome.PLACED, one.order_id),
        (7, IntentOutcome.PLACED, two.order_id),
        (first + 1, IntentOutcome.PLACED, three.order_id),
        (first + 2, IntentOutcome.REFUSED, None),
        (first + 3, IntentOutcome.PLACED, raw.order_id),
    ]


async def test_two_clients_on_one_machine_never_give_the_same_id() -> None:
    async with served() as sandbox, client_of(sandbox) as one, client_of(sandbox) as two:
        first, second = await one.place(resting(sandbox)), await two.place(resting(sandbox))
        assert first.client_id is not None
        assert second.client_id is not None
        assert first.client_id >> 22 != second.client_id >> 22
        assert one.journal is not None
        with pytest.raises(ConfigurationError, match=f"instance: {one.journal.instance} is in use"):
            async with client_of(sandbox, instance=one.journal.instance):
                pass


@pytest.mark.parametrize(
    ("fault", "happened"), [(Fault.LOSE_REPLY, True), (Fault.ERROR_AFTER, True), (Fault.ERROR_BEFORE, False)]
)
async def test_what_became_of_an_order_without_an_answer_is_found_out(runtime: str, fault: Fault, *, happened: bool) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as client:
        faulty(sandbox, fault)
        with pytest.raises(OutcomeUnknown) as caught:
            await client.place(resting(sandbox))
        assert client.journal is not None
        (intent,) = client.journal.unresolved
        client_id = intent.client_id
        assert caught.value.client_id == client_id
        assert client.health.status is not Status.HEALTHY
        assert any("1 orders have no outcome" in reason for reason in client.health.reasons)
        with pytest.raises(LocalProtocolError, match=f"client_id: {client_id} is that of an order whose outcome is not known"):
            await client.place(resting(sandbox, client_id=client_id))
        if not happened:
            (early,) = await client.resolve()
            assert isinstance(early, OrderUnresolved), "its signature still holds"
        (outcome,) = await client.resolve(wait=True)
        assert isinstance(outcome, OrderFound if happened else OrderNeverHappened)
        assert await listed(client) == ([client_id] if happened else [])
        assert client.journal.unresolved == ()
        assert await client.resolve() == ()


async def test_an_order_that_was_filled_without_an_answer_is_found_in_history(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as client:
        faulty(sandbox, Fault.LOSE_REPLY)
        with pytest.raises(OutcomeUnknown):
            await client.place(NewOrder.market("SOL_USDC", "Bid", quantity="1"))
        (outcome,) = await client.resolve(wait=True)
        assert isinstance(outcome, OrderFound)
        assert outcome.order is not None
        assert outcome.order.state == "Filled"


async def test_lists_that_cannot_be_read_prove_nothing(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as client:
        faulty(sandbox, Fault.ERROR_BEFORE, Fault.ERROR_BEFORE, only=(*PLACE, "GET /wapi/v1/history/fills"))
        with pytest.raises(OutcomeUnknown):
            await client.place(resting(sandbox))
        await anyio.sleep(WINDOW_MS / 1_000 + 0.4)
        (outcome,) = await client.resolve()
        assert isinstance(outcome, OrderUnresolved)
        assert "GET /wapi/v1/history/fills answered 503" in outcome.reason
        (again,) = await client.resolve()
        assert isinstance(again, OrderNeverHappened)


async def test_the_next_client_finds_out_what_became_of_the_orders_of_the_last_one(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.journal"
    async with served() as sandbox:
        # A busy machine may take longer than the short window, and the order would not be placed.
        signer = Signer(Credentials(sandbox.secret))
        async with client_of(sandbox, runtime, journal=path, signer=signer) as client:
            faulty(sandbox, Fault.LOSE_REPLY)
            with pytest.raises(OutcomeUnknown):
                await client.place(resting(sandbox))
        async with client_of(sandbox, runtime, journal=path) as client:
            assert client.journal is not None
            assert len(client.journal.unresolved) == 1, "before any order of its own"
            (outcome,) = await client.resolve()
            assert isinstance(outcome, OrderFound)
        async with client_of(sandbox, runtime, journal=path) as client:
            assert await client.resolve() == ()


async def test_an_order_that_cannot_be_written_down_is_not_sent(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served() as sandbox, client_of(sandbox, runtime, journal=tmp_path / "orders.journal") as client:
        real = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:9] if b"intended" in data else data))
        with pytest.raises(NotSent, match="is the disk full"):
            await client.place(resting(sandbox))
        monkeypatch.undo()
        assert await listed(client) == []
        placed = await client.place(resting(sandbox))
        assert await listed(client) == [placed.client_id]


async def test_with_durability_machine_an_order_waits_for_the_disk_and_can_be_withdrawn_there(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "orders.journal"
    waiting, go_on = anyio.Event(), anyio.Event()

    async def settle(_: journal_module.Journal) -> None:
        waiting.set()
        await go_on.wait()

    async with served() as sandbox, client_of(sandbox, runtime, journal=path, durability="machine") as client:
        await client.place(resting(sandbox))
        with monkeypatch.context() as patch:
            patch.setattr(journal_module.Journal, "settle", settle)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.place, resting(sandbox))
                await waiting.wait()
                assert len(await listed(client)) == 1, "the second has not left"
                tasks.cancel_scope.cancel()
            go_on.set()
        assert len(await listed(client)) == 1
        assert client.journal is not None
        assert client.journal.unresolved == ()
    rows = read_rows(path.read_bytes())
    assert [row.outcome for row in rows if isinstance(row, IntentEnded)] == [IntentOutcome.PLACED, IntentOutcome.NOT_SENT]


async def test_an_order_is_looked_up_by_either_id_wherever_it_is_listed(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as client:
        rests = await client.place(resting(sandbox))
        filled = await client.place_and_wait(NewOrder.market("SOL_USDC", "Bid", quantity="1"))
        assert filled.state == "Filled"
        for order in (rests, filled):
            for found in (
                await client.order("SOL_USDC", client_id=order.client_id),
                await client.order("SOL-USDC", order_id=order.order_id),
            ):
                assert (found.order_id, found.client_id, found.state) == (order.order_id, order.client_id, order.state)
        with pytest.raises(OrderNotFound, match="SOL_USDC: no order with client_id 5 among"):
            await client.order("SOL_USDC", client_id=5)
        with pytest.raises(ConfigurationError, match="exactly one of client_id and order_id"):
            await client.order("SOL_USDC")


async def test_an_order_is_placed_and_waited_for_until_its_end(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as client:
        faulty(sandbox, Fault.LOSE_REPLY)
        order = await client.place_and_wait(NewOrder.market("SOL_USDC", "Bid", quantity="1"))
        assert order.state == "Filled", "also without an answer"
        faulty(sandbox, Fault.ERROR_BEFORE)
        with pytest.raises(NotSent, match="the exchange lists no such order"):
            await client.place_and_wait(resting(sandbox))
        with pytest.raises(OrderStillOpen) as caught:
            await client.place_and_wait(resting(sandbox), timeout_s=0.3)
        assert caught.value.client_id in await listed(client)
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                orders = await until_listed(client, 2)
                await client.cancel_order("SOL_USDC", order_id=max(orders, key=lambda one: int(one.order_id)).order_id)

            tasks.start_soon(cancel)
            assert (await client.place_and_wait(resting(sandbox))).state == "Cancelled"


@pytest.mark.parametrize("way", ["block", "error", "cancelled"])
async def test_the_orders_of_a_client_are_off_the_book_when_its_block_is_left(runtime: str, way: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as other:
        foreign = await other.place(resting(sandbox))
        client = client_of(sandbox, runtime, cancel_on_exit="mine")
        with anyio.CancelScope() as scope:
            try:
                async with client:
                    await client.place(resting(sandbox))
                    faulty(sandbox, Fault.LOSE_REPLY)
                    with pytest.raises(OutcomeUnknown):
                        await client.place(resting(sandbox))
                    if way == "error":
                        raise KeyError("of the user")
                    if way == "cancelled":
                        scope.cancel()
                        await anyio.sleep_forever()
            except KeyError:
                assert way == "error"
        assert not client.left
        assert await listed(other) == [foreign.client_id]


async def test_orders_are_off_the_book_where_an_error_in_a_callback_has_ended_the_client(runtime: str) -> None:
    placed = False

    def on_event(_: object) -> None:
        if placed:
            raise KeyError("of the user")

    async with served() as sandbox, client_of(sandbox, runtime) as other:
        client = client_of(
            sandbox, runtime, cancel_on_exit="mine", symbols=["SOL_USDC"], channels=["bookTicker"], on_event=on_event
        )
        with pytest.raises(ExceptionGroup) as caught:
            async with client:
                await client.place(resting(sandbox))
                placed = True
                await anyio.sleep_forever()
        assert caught.group_contains(KeyError)
        assert not client.left
        assert await listed(other) == []


async def test_all_orders_of_the_account_are_cancelled_where_that_was_asked_for(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as other:
        await other.place(resting(sandbox))
        async with client_of(sandbox, runtime, cancel_on_exit="all"):
            pass
        assert await listed(other) == []


async def test_a_block_that_could_not_be_entered_cancels_nothing(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as other:
        placed = await other.place(resting(sandbox))
        with pytest.raises(UnknownSymbol):
            async with client_of(sandbox, runtime, cancel_on_exit="all", symbols=["SOL_USDX"], channels=["trades"]):
                raise AssertionError("it has been entered")
        assert await listed(other) == [placed.client_id]


async def test_a_state_folder_that_cannot_be_used_is_said_by_who_needs_it(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BACKPACK_STATE_DIR", str(tmp_path / "file"))
    async with served() as sandbox:
        async with client_of(sandbox, runtime, cancel_on_exit="mine") as client:
            with pytest.raises(ConfigurationError, match="set BACKPACK_STATE_DIR to a folder that can"):
                await client.place(resting(sandbox))
        with pytest.raises(OrdersLeft, match="the open orders could not be read; instance: "):
            async with client_of(sandbox, runtime, cancel_on_exit="all"):
                pass


async def test_orders_that_are_on_their_way_are_waited_for_and_no_new_ones_are_taken(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as other:
        client = client_of(sandbox, runtime, cancel_on_exit="mine")
        async with anyio.create_task_group() as tasks:
            async with client:
                sandbox.exchange.faults.delay_us = 300_000
                faulty(sandbox, Fault.DELAY)
                refused = anyio.Event()

                async def late() -> None:
                    with pytest.raises(ClientClosed, match="the client is being left, and takes no new orders"):
                        while True:
                            await client.place(resting(sandbox))
                    refused.set()

                tasks.start_soon(late)
                await until_listed(other, 1)
            await refused.wait()
        assert not client.left
        assert await listed(other) == []


async def test_what_is_left_on_the_book_is_raised_when_the_block_is_left(
    runtime: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as other:
        client = client_of(sandbox, runtime, cancel_on_exit="mine")
        with pytest.raises(
            OrdersLeft, match=r"SOL_USDC order \d+ is still open; DELETE /api/v1/order .* the outcome is unknown"
        ):
            async with client:
                placed = await client.place(resting(sandbox))
                sandbox.exchange.faults.only = ("DELETE",)
                sandbox.exchange.faults.rates = {Fault.ERROR_BEFORE: 1.0}
        assert [order.order_id for order in client.left.open_orders] == [placed.order_id]
        assert await listed(other) == [placed.client_id]
    assert "cancel_on_exit: SOL_USDC order" in caplog.text


async def test_a_client_that_placed_nothing_asks_nothing_on_its_way_out(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime, cancel_on_exit="mine"):
        sandbox.exchange.faults.only = ("GET /api/v1/orders",)
        sandbox.exchange.faults.rates = {Fault.ERROR_BEFORE: 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"journal": 5}, "journal: the path of a file, got 5"),
        ({"durability": "disk"}, "durability: "),
        ({"durability": "machine"}, "durability: 'machine' needs a file; give journal=PATH"),
        ({"instance": 1024}, "instance: a whole number, from 0 to 1023, got 1024"),
        ({"cancel_on_exit": "none"}, "cancel_on_exit: "),
        ({"cancel_on_exit": "mine", "signer": None}, "cancel_on_exit is about orders, which need a signer"),
    ],
)
def test_an_argument_about_orders_that_cannot_be_used_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BackpackClient(**{"signer": Signer(Credentials("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")), **arguments})


async def test_an_order_without_a_signer_is_refused(runtime: str) -> None:
    async with served() as sandbox:
        settings = replace(sandbox.settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio")
        async with BackpackClient(settings=settings) as client:
            with pytest.raises(ConfigurationError, match="orders need a signer"):
                await client.place(resting(sandbox))


async def test_a_refused_order_has_an_outcome(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as client:
        with pytest.raises(ApiError):
            await client.place(replace(resting(sandbox), quantity="0.001"))
        assert client.journal is not None
        assert client.journal.unresolved == ()


async def test_an_order_is_dismissed_by_who_has_found_out_otherwise(runtime: str) -> None:
    async with served() as sandbox, client_of(sandbox, runtime) as client:
        faulty(sandbox, Fault.LOSE_REPLY)
        with pytest.raises(OutcomeUnknown):
            await client.place(resting(sandbox))
        assert client.journal is not None
        (intent,) = client.journal.unresolved
        client_id = intent.client_id
        client.dismiss(client_id=client_id)
        assert client.journal.unresolved == ()
        with pytest.raises(LocalProtocolError, match=f"client_id: {client_id} is not that of an order without an outcome"):
            client.dismiss(client_id=client_id)

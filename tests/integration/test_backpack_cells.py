"""A client without a block: each cell of a notebook is a task of its own, on one loop, and may be interrupted."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar
from weakref import ref

import anyio
import pytest

from backpack_proto.errors import ClientClosed, LocalProtocolError, UnknownSymbol
from backpack_proto.outputs import BookChanged, ConnectionUp
from backpack_proto.streams.payloads import Event, Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.event_loop import Interrupted

PATIENCE_SECONDS = 20
T = TypeVar("T")
Cell = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop as a notebook has it: it is run for each cell, and at its end nothing is left running."""
    made = asyncio.new_event_loop()
    yield made
    left = asyncio.all_tasks(made)
    for task in left:
        task.cancel()
    if left:
        made.run_until_complete(asyncio.wait(left))
    made.run_until_complete(made.shutdown_asyncgens())
    made.close()


@pytest.fixture
def cell(loop: asyncio.AbstractEventLoop) -> Cell:
    """Runs one cell: a task of its own."""

    async def bounded(work: Coroutine[Any, Any, T]) -> T:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await work

    def run(work: Coroutine[Any, Any, T]) -> T:
        return loop.run_until_complete(bounded(work))

    return run


async def first(client: BackpackClient, kind: type[Event]) -> Event:
    async for event in client:
        if isinstance(event, kind):
            return event
    raise AssertionError("the events ended")


async def events_until_the_end(client: BackpackClient) -> list[Event]:
    return [event async for event in client]


async def others_of(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks(loop) - {task for task in [asyncio.current_task()] if task is not None}


def tasks_left(loop: asyncio.AbstractEventLoop) -> int:
    return len(loop.run_until_complete(others_of(loop)))


def test_cells_share_a_client(loop: asyncio.AbstractEventLoop, cell: Cell) -> None:
    client = BackpackClient(["SOL_USDC"], channels=["book", "trades"], sandbox=True)
    assert cell(client.start()) is client
    assert isinstance(cell(first(client, BookChanged)), BookChanged)
    assert client.markets["SOL-USDC"].symbol == "SOL_USDC"
    cell(client.subscribe(["trades"], ["BTC_USDC"]))
    assert isinstance(cell(first(client, Trade)), Trade)
    assert cell(client.get_time()) is not None
    cell(client.aclose())
    assert tasks_left(loop) == 0
    cell(client.aclose())
    assert not client.book("SOL_USDC").live
    cell(events_until_the_end(client))
    for again in (client.get_time, client.start, client.__aenter__, client.run):
        with pytest.raises(ClientClosed):
            cell(again())


def test_what_cannot_be_entered_says_so_in_its_cell_and_leaves_nothing(loop: asyncio.AbstractEventLoop, cell: Cell) -> None:
    client = BackpackClient(["SOL_USDX"], sandbox=True)
    with pytest.raises(UnknownSymbol, match="did you mean SOL_USDC"):
        cell(client.start())
    assert tasks_left(loop) == 0
    with pytest.raises(ClientClosed):
        cell(client.get_time())


def test_a_cell_that_is_interrupted_while_it_starts_leaves_a_closed_client(loop: asyncio.AbstractEventLoop) -> None:
    interrupts = 0
    # Also in the last moment, in which it has started and nobody knows yet.
    for turns in range(40):
        client = BackpackClient(["SOL_USDC"], sandbox=True)

        async def interrupted(client: BackpackClient = client, turns: int = turns) -> None:
            task = asyncio.ensure_future(client.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await task
            await client.aclose()

        try:
            loop.run_until_complete(interrupted())
        except asyncio.CancelledError:
            interrupts += 1
        assert tasks_left(loop) == 0
        with pytest.raises(ClientClosed):
            loop.run_until_complete(client.get_time())
    assert interrupts >= 12


def test_a_cell_that_is_interrupted_while_it_waits_leaves_a_usable_client(loop: asyncio.AbstractEventLoop, cell: Cell) -> None:
    client = cell(BackpackClient(["SOL_USDC"], sandbox=True).start())
    for work in (client.get_time, lambda: events_until_the_end(client)):
        loop.call_soon(signal.raise_signal, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(work())
    assert cell(client.get_time()) is not None
    assert client.health is not None

    async def given_up() -> None:
        task = asyncio.ensure_future(client.aclose())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(given_up())
    cell(client.aclose())
    assert tasks_left(loop) == 0


@pytest.mark.parametrize("where", ["on_event", "handle_all"])
def test_an_interrupt_in_the_middle_of_an_input_ends_the_client(
    loop: asyncio.AbstractEventLoop, cell: Cell, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an input is worse than the end: bytes would be lost, or a book be half changed."""
    armed = False

    def on_event(_: Event) -> None:
        if armed and where == "on_event":
            raise KeyboardInterrupt

    client = cell(BackpackClient(["SOL_USDC"], sandbox=True, on_event=on_event).start())
    handle_all = client._session.handle_all

    def interrupted(*given: Any) -> Any:
        if armed:
            raise KeyboardInterrupt
        return handle_all(*given)

    if where == "handle_all":
        monkeypatch.setattr(client._inputs, "handle_all", interrupted)
    armed = True
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    armed = False
    with pytest.raises(Interrupted):
        cell(client.aclose())
    with pytest.raises(ClientClosed, match="was ended by an error, Interrupted"):
        cell(client.get_time())
    assert tasks_left(loop) == 0


def test_an_error_that_ends_the_client_reaches_whoever_uses_it(loop: asyncio.AbstractEventLoop, cell: Cell) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Trade):
            raise ZeroDivisionError("of the user")

    client = cell(BackpackClient(["SOL_USDC"], sandbox=True, on_event=on_event).start())
    stream = client.stream(ConnectionUp)

    async def wait() -> None:
        async for _ in stream:
            pass

    with pytest.raises(ClientClosed, match="ended by an error, ZeroDivisionError: of the user") as caught:
        cell(wait())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ClientClosed, match="ended by an error, ZeroDivisionError") as caught:
        cell(client.get_time())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        cell(client.aclose())
    assert tasks_left(loop) == 0


def test_a_client_that_is_let_go_of_is_closed_with_a_line_in_the_log(
    loop: asyncio.AbstractEventLoop, cell: Cell, caplog: pytest.LogCaptureFixture
) -> None:
    client = cell(BackpackClient(["SOL_USDC"], sandbox=True).start())
    cell(first(client, BookChanged))
    known = ref(client)
    caplog.clear()
    del client
    gc.collect()

    async def nothing_is_left() -> None:
        left = await others_of(loop)
        if left:
            await asyncio.wait(left)

    cell(nothing_is_left())
    gc.collect()
    assert known() is None
    assert "the client was not closed" in caplog.text


# The loop ends before the sandbox, which runs in it as well, has closed its side.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_end_of_the_loop_ends_a_client_that_was_not_closed(caplog: pytest.LogCaptureFixture) -> None:
    kept = []

    async def main() -> None:
        kept.append(await BackpackClient(["SOL_USDC"], sandbox=True).start())

    asyncio.run(asyncio.wait_for(main(), PATIENCE_SECONDS))
    assert "the client was not closed" in caplog.text
    with pytest.raises(ClientClosed):
        asyncio.run(kept[0].get_time())
    kept.clear()
    gc.collect()


@pytest.mark.anyio
async def test_a_group_of_tasks_can_own_a_client(anyio_backend_name: str) -> None:
    client = BackpackClient(["SOL_USDC"], sandbox=True)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            assert await tasks.start(client.run) is client
            assert isinstance(await first(client, BookChanged), BookChanged)
            with pytest.raises(ClientClosed, match="entered before"):
                await client.run()
            await client.aclose()
    with pytest.raises(ClientClosed):
        await client.get_time()
    if anyio_backend_name == "trio":
        with pytest.raises(LocalProtocolError, match=r"nursery\.start\(client\.run\)"):
            await BackpackClient(sandbox=True).start()


def test_a_nursery_of_trio_can_own_a_client() -> None:
    trio = pytest.importorskip("trio")

    async def main() -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                client = await nursery.start(BackpackClient(["SOL_USDC"], sandbox=True).run)
                await first(client, BookChanged)
                await client.aclose()

    trio.run(main)


@pytest.mark.anyio
async def test_an_error_in_a_client_of_a_group_comes_out_of_the_group() -> None:
    def on_event(_: Event) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(BackpackClient(["SOL_USDC"], sandbox=True, on_event=on_event).run)
            await anyio.sleep_forever()

    with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(BaseExceptionGroup) as caught:
        await main()
    assert caught.value.split(ZeroDivisionError)[1] is None


@pytest.mark.anyio
async def test_a_client_that_is_entered_by_a_block_is_not_started_too() -> None:
    async with BackpackClient(sandbox=True) as client:
        entrances: list[Callable[[], Awaitable[object]]] = [client.start, client.run]
        for enter in entrances:
            with pytest.raises(LocalProtocolError):
                await enter()

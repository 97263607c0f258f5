"""The client for programs without an event loop: real sockets, several threads, Ctrl-C, forks."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import pairwise

import pytest

from backpack_proto.errors import ApiError, ClientClosed, LocalProtocolError, UnknownSymbol
from backpack_proto.outputs import BookChanged, BookSynced
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.streams.payloads import Event, Kline, Trade
from backpack_runtime.sync_client import BackpackSync

PATIENCE_SECONDS = 30


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "Backpack event loop"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "Backpack event loop":
            thread.join(PATIENCE_SECONDS)
    assert threads() == []


@pytest.fixture
def client() -> Iterator[BackpackSync]:
    with BackpackSync(["SOL_USDC"], channels=["book", "trades"], sandbox=True, follow_account=True) as made:
        yield made


def test_events_books_calls_and_the_account(client: BackpackSync) -> None:
    kinds = set()
    for event in client:
        kinds.add(type(event))
        if kinds >= {BookSynced, BookChanged, Trade} and client.account.live:
            break
    book = client.book("SOL-USDC")
    assert book is client.book("SOL_USDC"), "always the same object"
    assert book.live
    assert book.bids(1)[0].price < book.asks(1)[0].price
    assert "SOL_USDC live" in repr(book)
    assert client.markets["SOL-USDC"].symbol == "SOL_USDC"
    placed = client.place(NewOrder.limit("SOL_USDC", "Bid", price="1.00", quantity="0.10"))
    assert placed.price == Decimal("1.00")
    assert [order.order_id for order in client.order_history("SOL_USDC")] == [placed.order_id]
    assert client.account.balances["USDC"].available
    assert client.health.reasons == ()
    assert client.metrics.ws_messages
    with pytest.raises(UnknownSymbol):
        client.get_depth("SOL_USDX")
    with pytest.raises(ApiError):
        client.get_order("SOL_USDC", order_id="1")
    with client.stream(Trade) as trades:
        assert isinstance(next(iter(trades)), Trade)
    with client.candles("SOL_USDC", "1d") as candles:
        assert isinstance(next(candles), Kline)


def test_a_loop_that_was_left_goes_on_where_it_stopped(client: BackpackSync) -> None:
    changes = [event for event, _ in zip(updates(client), range(40), strict=False)]
    changes += [event for event, _ in zip(updates(client), range(40), strict=False)]
    ids = [(event.delta.first_update_id, event.delta.last_update_id) for event in changes]
    assert all(before[1] < after[0] for before, after in pairwise(ids))


def ctrl_c_soon() -> None:
    """Interrupt the main thread, as a terminal does, once it waits."""
    threading.Timer(0.3, signal.pthread_kill, [threading.get_ident(), signal.SIGINT]).start()


def updates(client: BackpackSync) -> Iterator[BookChanged]:
    for event in client:
        if isinstance(event, BookChanged):
            yield event


def test_before_and_after_its_block_it_says_so() -> None:
    client = BackpackSync(["SOL_USDC"], sandbox=True)
    assert client.settings is not None
    for use in (client.get_time, client.close, lambda: next(client), lambda: client.health):
        with pytest.raises(ClientClosed, match="has not been entered: use it inside `with client:`"):
            use()
    with client:
        book = client.book("SOL_USDC")
        for event in client:
            if isinstance(event, BookSynced):
                break
        client.close()
        client.close()
    assert not book.live
    assert book.bids(1)
    assert client.markets["SOL_USDC"].symbol == "SOL_USDC"
    for again in (client.get_time, client.start):
        with pytest.raises(ClientClosed):
            again()


def test_what_cannot_be_entered_leaves_no_thread() -> None:
    client = BackpackSync(["SOL_USDX"], sandbox=True)
    with pytest.raises(UnknownSymbol, match="did you mean SOL_USDC"):
        client.start()
    assert threads() == []


def test_several_threads_call_at_once(client: BackpackSync) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get_depth("SOL_USDC", limit=5), range(40)))
        live = list(pool.map(lambda _: client.book("SOL_USDC").best_bid, range(40)))
    assert len(answers) == len(live) == 40
    assert all(len(answer.bids) == 5 for answer in answers)


def test_another_thread_closes_while_one_waits() -> None:
    client = BackpackSync(sandbox=True, streams=False).start()
    ended: list[object] = []

    def wait() -> None:
        ended.extend(client)
        ended.append(None)

    waiting = threading.Thread(target=wait)
    waiting.start()
    client.close()
    waiting.join(PATIENCE_SECONDS)
    assert not waiting.is_alive()
    assert ended[-1:] == [None], "its loop has ended in order"


def test_ctrl_c_withdraws_a_call_and_leaves_a_usable_client() -> None:
    with BackpackSync(streams=False, sandbox=True) as client:
        # The budget is used up, so the call waits for its turn.
        background = client._inside()

        async def queue_many() -> None:
            for _ in range(3000):
                task = asyncio.ensure_future(client._client.get_time())
                kept.add(task)
            await asyncio.sleep(0)

        kept: set[asyncio.Task[object]] = set()
        background.call(queue_many)
        ctrl_c_soon()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.get_trades("SOL_USDC")
        assert time.monotonic() - began < PATIENCE_SECONDS

        async def give_up() -> None:
            for task in kept:
                task.cancel()
            await asyncio.wait(kept)

        background.call(give_up)
        assert client._read(lambda: client._client._calls._answers) == {}, "the call was withdrawn"
        assert client.get_markets()


def test_ctrl_c_ends_a_loop_over_events_and_then_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), BackpackSync(streams=False, sandbox=True) as client:
        ctrl_c_soon()
        for _ in client:
            pass


def test_it_is_refused_where_an_event_loop_runs(client: BackpackSync) -> None:
    async def main() -> None:
        with pytest.raises(
            LocalProtocolError, match=r"this thread runs an event loop \(asyncio\).*use BackpackClient and await it"
        ):
            client.get_time()
        with pytest.raises(LocalProtocolError, match="runs an event loop"):
            BackpackSync(sandbox=True).start()
        await asyncio.to_thread(client.get_time)

    asyncio.run(main())
    trio = pytest.importorskip("trio")

    async def on_trio() -> None:
        with pytest.raises(LocalProtocolError, match="trio"):
            client.get_time()

    trio.run(on_trio)


def test_a_callback_may_not_call_the_client() -> None:
    refused: list[Exception] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Trade) and not refused:
            try:
                client.get_time()
            except LocalProtocolError as error:
                refused.append(error)
                done.set()

    done = threading.Event()
    with BackpackSync(["SOL_USDC"], sandbox=True, on_event=on_event) as client:
        assert done.wait(PATIENCE_SECONDS)
    assert len(refused) == 1


def test_an_error_that_ends_the_client_reaches_the_thread_that_waits() -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Trade):
            raise ZeroDivisionError("of the user")

    client = BackpackSync(["SOL_USDC"], sandbox=True, on_event=on_event).start()
    with pytest.raises(ClientClosed, match="ended by an error, ZeroDivisionError: of the user"), client.stream(Kline) as stream:
        next(stream)
    with pytest.raises(ZeroDivisionError):
        client.close()


def test_a_client_that_is_let_go_of_ends_its_thread_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    client = BackpackSync(["SOL_USDC"], sandbox=True).start()
    client.get_time()
    assert len(threads()) == 1
    del client
    gc.collect()
    assert "the client was not closed" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_process_is_warned_and_refused(client: BackpackSync) -> None:
    read, write = os.pipe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda text, *_, **__: os.write(write, str(text).encode() + b"\n"))
        child = os.fork()
        if child == 0:
            try:
                client.get_time()
            except ClientClosed as refused:
                os.write(write, str(refused).encode())
            finally:
                os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    assert "forked with an open BackpackSync" in said
    assert "which this one was forked from: make a new one here" in said
    assert client.get_time()  # type: ignore[truthy-bool]  # it goes on here


PROGRAM = """
from backpack_runtime import BackpackSync
client = BackpackSync(["SOL_USDC"], sandbox=True).start()
print(client.get_time().server_us > 0, flush=True)
"""


def test_a_program_that_forgets_to_close_ends_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "Traceback" not in done.stderr

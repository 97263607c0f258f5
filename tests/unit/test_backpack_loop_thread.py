"""Reading what lives in the thread of an event loop from another thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread
import pytest
import trio

from backpack_proto.errors import LocalProtocolError
from backpack_runtime.loop_thread import LoopThread, NoTurn


def in_a_thread(function: Callable[[], object]) -> list[object]:
    """What a function returns, or the error that it raises, in a thread that this one waits for."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(function())
        except Exception as error:  # noqa: BLE001 - it is what was asked for
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


@pytest.mark.anyio
async def test_it_is_read_where_the_loop_runs() -> None:
    loop = LoopThread()
    here = threading.get_ident()
    assert loop.read(threading.get_ident, 1) == here
    assert await anyio.to_thread.run_sync(loop.read, threading.get_ident, 20) == here


@pytest.mark.anyio
async def test_what_the_reading_raises_is_raised_for_the_reader() -> None:
    loop = LoopThread()

    def fail(error: type[Exception]) -> None:
        raise error("of the reading itself")

    for error in (KeyError, TimeoutError, RuntimeError):
        with pytest.raises(error, match="of the reading itself"):
            await anyio.to_thread.run_sync(loop.read, partial(fail, error), 20)


@pytest.mark.anyio
async def test_a_loop_that_is_blocked_is_waited_for_within_a_bound_and_reads_nothing_later() -> None:
    loop = LoopThread()
    read: list[int] = []
    [error] = in_a_thread(lambda: loop.read(lambda: read.append(1), 0.01))
    assert isinstance(error, NoTurn)
    assert str(error) == "the event loop has not come to it within 0.01 s"
    await anyio.to_thread.run_sync(loop.read, lambda: read.append(2), 20)
    assert read == [2], "what was given up is not done"


async def _make() -> LoopThread:
    return LoopThread()


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_behind_the_end_of_the_loop_it_is_read_by_whoever_asks(run: Callable[..., LoopThread]) -> None:
    loop = run(_make) if run is trio.run else run(_make())
    assert in_a_thread(lambda: loop.read(threading.get_ident, 0.01)) != [threading.get_ident()]
    assert loop.read(lambda: 7, 0.01) == 7


def test_a_loop_that_is_closed_before_it_comes_to_it_does_not_matter() -> None:
    own = asyncio.new_event_loop()
    loop = own.run_until_complete(_make())
    [error] = in_a_thread(lambda: loop.read(lambda: 7, 0.01))
    assert isinstance(error, NoTurn), "it may run again"
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(loop.read(lambda: 7, 0.2)))
    thread.start()
    own.close()
    thread.join()
    assert found == [7]


def test_without_a_loop_there_is_no_way_into_one() -> None:
    with pytest.raises(LocalProtocolError, match="no event loop of asyncio or trio runs in this thread"):
        LoopThread()

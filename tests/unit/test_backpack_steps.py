"""What is told before a coroutine waits."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine

import anyio
import pytest

pytest.importorskip("aiohttp")

from backpack_runtime.transports.aiohttp.steps import tell_before_waiting

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The one loop of aiohttp."""
    return "asyncio"


class Work:
    """A coroutine that waits for its events, one after the other."""

    def __init__(self, waits: int) -> None:
        self.events = [anyio.Event() for _ in range(waits)]
        self.told = 0
        self.ended_by: BaseException | None = None

    def tell(self) -> None:
        self.told += 1

    async def __call__(self) -> int:
        try:
            for event in self.events:
                await event.wait()
        except BaseException as error:
            self.ended_by = error
            raise
        return self.told


async def test_nothing_is_told_of_what_does_not_wait() -> None:
    assert await tell_before_waiting(Work(0)(), Work(0).tell) == 0


@pytest.mark.parametrize("waits", [1, 2, 3])
async def test_it_is_told_once_before_the_first_wait(waits: int) -> None:
    work = Work(waits)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            results: list[int] = []

            async def run() -> None:
                results.append(await tell_before_waiting(work(), work.tell))

            tasks.start_soon(run)
            for event in work.events:
                await anyio.wait_all_tasks_blocked()
                assert work.told == 1
                event.set()
    assert results == [1]


async def test_a_cancellation_reaches_the_work() -> None:
    work = Work(1)

    async def run() -> None:
        await tell_before_waiting(work(), work.tell)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert isinstance(work.ended_by, anyio.get_cancelled_exc_class())


async def test_an_error_of_the_work_comes_out_before_and_after_a_wait() -> None:
    async def fail(*, waits: bool) -> None:
        if waits:
            await anyio.lowlevel.checkpoint()
        raise ValueError("no")

    for waits in (False, True):
        with pytest.raises(ValueError, match="no"):
            await tell_before_waiting(fail(waits=waits), lambda: None)


async def test_an_error_of_the_teller_ends_the_work() -> None:
    work = Work(1)
    coroutine: Coroutine[object, object, int] = work()

    def tell() -> None:
        raise ValueError("no")

    with anyio.fail_after(20), pytest.raises(ValueError, match="no"):
        await tell_before_waiting(coroutine, tell)
    assert isinstance(work.ended_by, GeneratorExit)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

"""A task that owns a client, for programs that cannot keep a block open: in a notebook each cell is a task of its own.

Theory of operation. The parts of a client are entered and left in one task (anyio's rule for groups of tasks). So `start` makes a task
that enters the client, reports so, and waits until the client has ended. `close` closes the connection in order, waits for that task, and
raises its error. Only that task is ever cancelled halfway. An interrupt while a caller waits for it leaves it alone.

Only the user holds a client that was started like this: its tasks know it by weak references. A client that is let go of without
having been closed is closed all the same, and a line of the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple, ParamSpec
from weakref import WeakMethod

import anyio

from .event_loop import Interrupted

if TYPE_CHECKING:
    import asyncio

__all__ = ["Hooks", "Owner", "alone", "weakly"]

LOG: Final = logging.getLogger("backpack_runtime.client")
NOT_CLOSED: Final = "the client was not closed: `await client.aclose()` before it is let go of, or before the loop ends"

_OWNERS: Final[set[Owner]] = set()
"""Those whose tasks run: a loop knows its tasks by weak references only."""

P = ParamSpec("P")


class Hooks(NamedTuple):
    """Methods of a client."""

    enter: Callable[[], Awaitable[anyio.Event]]
    """Enters it. The returned event is set once its session has ended."""
    leave: Callable[[BaseException | None], Awaitable[None]]
    """Leaves it, because of an error or in order. Raises the error that has ended it."""
    drain: Callable[[], Awaitable[None]]
    """Closes the connection in order, within a bound."""


class Owner:
    """Enters a client, and leaves it once it has ended, in a task of the loop of asyncio that runs this."""

    def __init__(self, hooks: Hooks) -> None:
        import asyncio  # noqa: PLC0415 - programs on another library need not load it

        self._hooks = tuple(WeakMethod(hook) for hook in hooks)
        self._orphan: Hooks | None = None
        """Those of a client that is not held otherwise any more. They keep it until it has been closed."""
        self._loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        """The error that has ended the client, if one has."""

    async def start(self) -> None:
        """Have the client entered. When that fails, or is given up, it leaves no trace.

        Raises:
            BaseException: any error of entering it.
        """
        import asyncio  # noqa: PLC0415 - programs on another library need not load it

        task = self._task = self._loop.create_task(self._run(), name="a Backpack client")
        _OWNERS.add(self)
        task.add_done_callback(lambda _: _OWNERS.discard(self))
        try:
            await asyncio.wait([task, self._entered], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self._cancel(task)
            raise
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        """Close the client in order and wait for its task.

        Raises:
            BaseException: the error that has ended the client before.
        """
        import asyncio  # noqa: PLC0415 - programs on another library need not load it

        task = self._task
        if task is not None and not task.done():
            self._closing = True
            hooks = self._held
            if hooks is not None and self._entered.done():
                await hooks.drain()
            done, _ = await asyncio.wait([task], timeout=1)
            if not done:
                await self._cancel(task)
        if self.failure is not None:
            raise self.failure

    def abandon(self, hooks: Hooks) -> None:
        """Take over a client that is being collected, in any thread: its task has to close it."""
        if self._task is None or self._task.done():
            return
        self._orphan = hooks
        LOG.warning(NOT_CLOSED)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close_orphan)

    def _close_orphan(self) -> None:
        if self._task is not None and not self._task.done():
            self._closing = True
            self._task.cancel()

    async def _cancel(self, task: asyncio.Task[None]) -> None:
        import asyncio  # noqa: PLC0415 - programs on another library need not load it

        self._closing = True
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])

    @property
    def _held(self) -> Hooks | None:
        """The methods of the client, or None when it has been collected."""
        if self._orphan is not None:
            return self._orphan
        found = [hook() for hook in self._hooks]
        return None if None in found else Hooks(*found)  # type: ignore[arg-type]  # they are as they were given

    async def _run(self) -> None:
        import asyncio  # noqa: PLC0415 - programs on another library need not load it

        try:
            await self._own()
        except asyncio.CancelledError:
            if not self._closing:
                # The loop is being closed, as at the end of `asyncio.run`.
                LOG.warning(NOT_CLOSED)
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised where the client is used, which is in other tasks
            self.failure = alone(error)
        finally:
            if not self._entered.done():
                self._entered.cancel()

    async def _own(self) -> None:
        hooks = self._held
        if hooks is None:
            return
        finished = await hooks.enter()
        self._entered.set_result(None)
        # Not to be held while it runs.
        del hooks
        ended: BaseException | None = None
        try:
            await finished.wait()
        except BaseException as error:  # noqa: BLE001 - raised again, once the client has been left
            ended = error
        hooks = self._held
        if hooks is None:
            raise AssertionError("a client is collected after its owner was told")
        await hooks.leave(ended)
        if ended is not None:
            raise ended


def weakly(method: Callable[P, None]) -> Callable[P, None]:
    """Return a function that calls a method of an object without keeping that object. It has no effect once that is gone."""
    found = WeakMethod(method)

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        alive = found()
        if alive is not None:
            alive(*args, **kwargs)

    return call


def alone(error: BaseException) -> Exception:
    """Return the one error in a group of one, for its receiver has not made the group. An interrupt is reported, and not repeated."""
    plain = error.split(Exception)[1] if isinstance(error, BaseExceptionGroup) else error
    if plain is not None and not isinstance(plain, Exception):
        while isinstance(plain, BaseExceptionGroup):
            plain = plain.exceptions[0]
        interrupted = Interrupted(f"the client was interrupted by {type(plain).__name__}, and has ended")
        interrupted.__cause__ = error
        return interrupted
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, Exception):
        raise AssertionError("an interrupt was told apart above")  # noqa: TRY004 - no argument of anybody's
    return error

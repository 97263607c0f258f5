"""The life of a client: entered and left, in a block or without one, and the steps on the way out."""

from __future__ import annotations

import logging
from abc import abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskStatus

from backpack_proto.errors import BackpackError, ClientClosed, LocalProtocolError, OrdersLeft
from backpack_proto.inputs import Close
from backpack_proto.session import Session

from .delivery import ended_by
from .driver import Running
from .event_loop import asyncio_loop
from .logs import EventLog
from .orders.desk import OrderDesk
from .orders.leaving import LEAVING_SECONDS, CancelOnExit, Leftovers, cancel_orders, left_unread
from .orders.methods import SafeOrderMethods
from .owner import Hooks, Owner, alone
from .recording.source import SessionInputs
from .transport import system_now

__all__ = ["ClientLife"]

_log = logging.getLogger("backpack_runtime.client")

DRAIN_SECONDS = 6.0
"""A little more than the session's own patience with the closing handshake."""


class ClientLife(SafeOrderMethods):
    """Entering and leaving of a client. Its parts are up to its subclass."""

    _session: Session
    _inputs: SessionInputs
    _log: EventLog
    _left: Leftovers
    _stack: AsyncExitStack
    _running: Running | None = None
    _closed = False
    _has_entered = False
    _has_cancelled = False
    """The cancels of `cancel_on_exit` have been made, or tried."""
    _owner: Owner | None = None
    """The task that `start` has made."""
    _run_ended: anyio.Event | None = None
    """Set when `run` has come to its end."""

    @abstractmethod
    async def _start(self) -> None:
        """Have everything run, and make the first subscriptions."""

    @abstractmethod
    def _another(self) -> ClientLife | None:
        """Make a client for the same account that only makes calls, or None where the exchange ends with this one."""

    async def __aenter__(self) -> Self:
        if self._running is not None or self._closed:
            raise ClientClosed("the client has been entered before: make a new one for every `async with`")
        try:
            await self._start()
        except BaseException as error:
            # The tasks are of no use to anyone any more.
            await self._stop(error)
            raise
        self._has_entered = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop(exc)

    async def start(self) -> Self:
        """Enter the client without a block, in a task of its own, and return it: for a notebook, on asyncio.

            client = await BackpackClient(["SOL_USDC"]).start()   # in one cell
            await client.aclose()                                 # in another

        An error that ends the client is raised by its next use, and by `aclose`.

        Raises:
            LocalProtocolError: asyncio does not run this. On trio `await nursery.start(client.run)` does the same.
            ClientClosed: the client has been entered before.
        """
        if asyncio_loop() is None:
            raise LocalProtocolError("start: a loop of asyncio is needed; on trio use `await nursery.start(client.run)`")
        self._claim()
        self._owner = Owner(self._hooks)
        await self._owner.start()
        return self

    async def run(self, *, task_status: TaskStatus[Self] = anyio.TASK_STATUS_IGNORED) -> None:
        """Enter the client, say so, and leave it when it has been closed: `await nursery.start(client.run)` of trio, or anyio's groups.

        Raises:
            ClientClosed: the client has been entered before.
        """
        self._claim()
        self._run_ended = anyio.Event()
        try:
            async with self:
                task_status.started(self)
                await self._inside().finished.wait()
        finally:
            self._run_ended.set()

    def _claim(self) -> None:
        if self._owner is not None or self._run_ended is not None or self._running is not None or self._closed:
            raise ClientClosed("the client has been entered before: make a new one")

    @property
    def _hooks(self) -> Hooks:
        return Hooks(self._enter, self._leave, self._drain)

    async def _enter(self) -> anyio.Event:
        await self.__aenter__()
        return self._inside().finished

    async def _leave(self, error: BaseException | None) -> None:
        await self._stop(error)

    def __del__(self) -> None:
        """Have the owner close a client that was let go of."""
        owner: Owner | None = getattr(self, "_owner", None)
        if owner is not None:
            owner.abandon(self._hooks)

    async def _stop(self, error: BaseException | None) -> None:
        """End all tasks, without `error` in order. An error that one of them died of comes out here."""
        if self._running is not None:
            await self._leave_no_orders()
            # As parts of the stack, for should they be cancelled, the group that cancelled them has to see it.
            self._stack.callback(self._running.scope.cancel)
            if error is None:
                self._stack.push_async_callback(self._drain)
        failure: BaseException | None = None
        try:
            if isinstance(error, anyio.get_cancelled_exc_class()):
                # Of two cancellations the groups let the one from outside pass, if they know of it: it may be a Ctrl-C.
                await self._stack.__aexit__(type(error), error, error.__traceback__)
            else:
                # Their group must not wrap this error into one of its own.
                await self._stack.aclose()
        except BaseException as raised:
            _open_circle(raised)
            failure = None if isinstance(raised, anyio.get_cancelled_exc_class()) else raised
            raise
        finally:
            self._closed = True
            if self._running is not None:
                # The task that would do it may have been cancelled before it began.
                self._running.outlets.finish(None if failure is None or self._owner is None else alone(failure))
            # In any way out of the block: no book and no ledger says any more that it is live.
            self._inputs.handle_all([Close()], system_now())
            self._orders.release()
        if self._left and error is None:
            raise OrdersLeft(str(self._left))

    async def _leave_no_orders(self) -> None:
        """Take orders off the book, if that was asked for. A cancellation does not stop it, its own bounds do."""
        which, running, desk = self._orders.settings.cancel_on_exit, self._inside(), self._orders.opened
        if which is None or not self._has_entered or self._has_cancelled:
            return
        self._has_cancelled = True
        if desk is None and which is CancelOnExit.MINE:
            return  # no order was placed
        with anyio.CancelScope(shield=True):
            try:
                desk = desk or await self._orders.desk()
            except BackpackError as error:
                self._left = Leftovers(reasons=(str(error),), read=False)
            else:
                by_this = not running.finished.is_set()
                self._left = await (cancel_orders(self, desk, which) if by_this else self._cancel_by_another(desk, which))
        if self._left:
            _log.error("cancel_on_exit: %s", self._left)

    async def _cancel_by_another(self, desk: OrderDesk, which: CancelOnExit) -> Leftovers:
        """Cancel by another client, for an error has ended the session of this one."""
        another = self._another()
        if another is None:
            return left_unread(desk, "the client has ended, and its exchange with it")
        try:
            with anyio.fail_after(LEAVING_SECONDS):
                async with another:
                    return await cancel_orders(another, desk, which)
        except (BackpackError, TimeoutError) as error:
            return left_unread(desk, str(error) or "no time was left")

    @property
    def left(self) -> Leftovers:
        """Outcome of the orders that `cancel_on_exit` was to cancel, or empty before the block is left, and where all went well."""
        self._inside()
        return self._left

    async def aclose(self) -> None:
        """Close the connection in order. The iteration ends after the events that have come until then.

        A client that was started without a block has been left when this returns, and the error that had ended it is raised. Given up halfway, it
        goes on by itself.
        """
        self._inside()
        if self._owner is not None:
            await self._owner.close()
            return
        await self._drain()
        if self._run_ended is not None:
            await self._run_ended.wait()

    async def _drain(self) -> None:
        running = self._inside()
        await self._leave_no_orders()
        with anyio.move_on_after(DRAIN_SECONDS):
            if not running.finished.is_set():
                self._log.expect_the_end()
                running.pump.give(Close())
            await running.finished.wait()

    def _inside(self) -> Running:
        """Return the parts inside the block, which can still be read after it."""
        if self._running is None:
            state = "could not be entered" if self._closed else "has not been entered"
            raise ClientClosed(f"the client {state}: use it inside `async with client:`")
        return self._running

    def _open(self) -> Running:
        """Return the parts inside the block, for calls to the exchange."""
        running = self._inside()
        if self._owner is not None and self._owner.failure is not None:
            raise ended_by(self._owner.failure)
        if self._closed or running.finished.is_set():
            raise ClientClosed("the client has been closed: make a new one and use it inside `async with client:`")
        return running

    def _check_open(self) -> None:
        self._open()

    def _check_inside(self) -> None:
        self._inside()


def _open_circle(error: BaseException) -> None:
    """End a chain of contexts that leads back into itself.

    `contextlib` ties one when an error passes through several parts of a stack, and a stack around that one follows it for ever.
    """
    passed = [error]
    while (context := passed[-1].__context__) is not None:
        if any(context is one for one in passed):
            passed[-1].__context__ = None
            return
        passed.append(context)

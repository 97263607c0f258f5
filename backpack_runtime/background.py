"""An event loop in a thread of its own, for programs without one: calls from any thread wait for their results there.

Theory of operation. Everything of a client happens in that thread, reads of its state included, so no other thread ever sees a half
changed book. A caller waits on a future. When it is interrupted (Ctrl-C), the task behind it is cancelled, as if an `await` had been, and
it waits until that has ended. A caller whose own thread runs an event loop is refused, for it would stop the loop. So is a forked process, which
has no such thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar, cast

from backpack_proto.errors import ClientClosed, LocalProtocolError

from .event_loop import running_library

__all__ = ["Background", "InBackground", "SyncIterator", "iterator_of"]

LET_GO_SECONDS: Final = 5.0
"""Time that an interrupted caller waits for the end of its task."""

P = ParamSpec("P")
T = TypeVar("T")


class Background:
    """A loop of asyncio in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._stopping = threading.Lock()
        self.ending = False
        """True when it has been told to stop."""
        self._thread = threading.Thread(target=self._run, name="Backpack event loop", daemon=True)
        self._thread.start()

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have an async function run in the loop, and return its result.

        Raises:
            LocalProtocolError: this thread runs an event loop.
            ClientClosed: the loop has been stopped, or is that of another process.
            BaseException: any error of the function.
        """
        self.check()
        let_go = threading.Event()

        async def run() -> T:
            try:
                return await function(*args, **kwargs)
            finally:
                let_go.set()

        work = run()
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise ClientClosed("the client has been closed: make a new one") from None
        try:
            return future.result()
        except CancelledError:
            raise ClientClosed("the client was closed meanwhile") from None
        except BaseException:
            if not future.done():
                # It is this thread that was interrupted.
                future.cancel()
                let_go.wait(LET_GO_SECONDS)
            raise

    def read(self, function: Callable[[], T]) -> T:
        """Have a plain function run in the loop, and return its result.

        Raises:
            LocalProtocolError: this thread runs an event loop.
            ClientClosed: the loop has been stopped, or is that of another process.
            BaseException: any error of the function.
        """
        if self.stopped:
            # The loop has ended, so the object does not change any more.
            return function()

        async def run() -> T:
            return function()

        return self.call(run)

    @property
    def stopped(self) -> bool:
        """True when the loop has come to its end."""
        return self._loop.is_closed()

    def end_with(self, last: Callable[[], Awaitable[object]]) -> None:
        """Have a function called in the loop and then stop it, from any thread, without waiting."""

        async def run() -> None:
            try:
                await last()
            finally:
                self._loop.stop()

        if os.getpid() == self._process and not self.stopped:
            asyncio.run_coroutine_threadsafe(run(), self._loop)

    def stop(self) -> None:
        """Stop the loop and wait for its thread. Again, or from several threads at once, does no harm."""
        with self._stopping:
            if os.getpid() != self._process or threading.current_thread() is self._thread:
                return
            self.ending = True
            if self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()

    def check(self) -> None:
        """Refuse who must not wait here.

        Raises:
            LocalProtocolError: this thread runs an event loop.
            ClientClosed: the loop is that of another process.
        """
        if os.getpid() != self._process:
            raise ClientClosed(
                f"the client belongs to process {self._process}, which this one was forked from: make a new one here"
            )
        library = running_library()
        if library is not None:
            raise LocalProtocolError(
                f"this thread runs an event loop ({library}), which waiting here would stop: use BackpackClient and await it"
            )

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


class SyncIterator(Generic[T]):
    """An async iterator of the loop in the background, as an iterator. Several threads may take from it, and each item goes to one."""

    _background: Background
    _items: AsyncIterator[T]
    _turn: threading.Lock

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._turn:
            try:
                found = self._background.call(self._next)
            except ClientClosed as closed:
                if closed.__cause__ is None and self._background.ending:
                    # Another thread has closed the client, which is the end of every iteration.
                    raise StopIteration from None
                raise
        if found is _END:
            raise StopIteration
        return cast("T", found)

    async def _next(self) -> object:
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            return _END

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release it: an iteration ends, and its subscriptions are undone."""
        close: Callable[[], object] | None = getattr(self._items, "close", None)
        if close is not None:
            self._background.read(close)


class _OfBackground(SyncIterator[T]):
    def __init__(self, background: Background, items: AsyncIterator[T]) -> None:
        self._background = background
        self._items = items
        self._turn = threading.Lock()


def iterator_of(background: Background, items: AsyncIterator[T]) -> SyncIterator[T]:
    """Return an async iterator of the loop in the background as an iterator."""
    return _OfBackground(background, items)


_END: Final = object()


def _kept(value: Any) -> Any:
    """Return a value that does not change: a mapping may be a view of one."""
    return dict(value) if isinstance(value, Mapping) else value


class InBackground:
    """An object of the loop in the background, such as a book: its members are read and called there."""

    __slots__ = ("__weakref__", "_background", "_object")

    def __init__(self, background: Background, of: object) -> None:
        self._background = background
        self._object = of

    def __getattr__(self, name: str) -> Any:
        found = self._background.read(lambda: _kept(getattr(self._object, name)))
        if not callable(found):
            return found
        return lambda *args, **kwargs: self._background.read(lambda: found(*args, **kwargs))

    def __repr__(self) -> str:
        return self._background.read(lambda: repr(self._object))

"""Base of the generated methods of `BackpackSync`: beginning and end, and the way into the background."""

from __future__ import annotations

import atexit
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar, cast
from weakref import WeakSet, WeakValueDictionary

from backpack_proto.errors import ClientClosed
from backpack_proto.streams.payloads import Event

from .background import Background, InBackground, SyncIterator, iterator_of
from .client import BackpackClient
from .loop_thread import LoopThread
from .observation import Observation
from .platforms import after_fork

__all__ = ["SyncBase"]

LOG: Final = logging.getLogger("backpack_runtime.client")
P = ParamSpec("P")
T = TypeVar("T")

_OPEN: Final[WeakSet[SyncBase]] = WeakSet()


class SyncBase:
    """A `BackpackClient` in a loop in the background."""

    def __init__(self, client: BackpackClient) -> None:
        """Nothing is connected, and no thread made, before the block is entered."""
        self._client = client
        self._background: Background | None = None
        self._waiting: Iterator[Event] = iter(())
        """Events that were fetched with others, and not asked for yet."""
        self._batches: SyncIterator[Sequence[Event]] | None = None
        self._views: WeakValueDictionary[int, InBackground] = WeakValueDictionary()
        """Views of objects in the background, by their identity: always the same view."""

    def start(self) -> Self:
        """Enter the client without a block, and return it. `close` ends it.

        Raises:
            ClientClosed: it has been entered before.
            LocalProtocolError: this thread runs an event loop.
        """
        if self._background is not None:
            raise ClientClosed("the client has been entered before: make a new one for every `with`")
        background = Background()
        try:
            background.call(self._client.start)
        except BaseException:
            background.stop()
            raise
        self._background = background
        _OPEN.add(self)
        # Once more, behind the functions that entering has registered, such as for the folder of a sandbox: the last one is called first.
        atexit.unregister(_close_all)
        atexit.register(_close_all)
        return self

    def close(self) -> None:
        """Close the connection in order and end the thread, from any thread. Calls of other threads end by `ClientClosed`.

        Raises:
            BaseException: an error that had ended the client.
        """
        background = self._inside()
        background.check()
        _OPEN.discard(self)
        if background.stopped:
            return
        try:
            background.call(self._client.aclose)
        finally:
            background.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """End a client that was let go of, without waiting: the collector may run in the loop's own thread."""
        background: Background | None = getattr(self, "_background", None)
        if background is not None and not background.stopped and self in _OPEN:
            LOG.warning("the client was not closed: `client.close()` before it is let go of")
            background.end_with(self._client.aclose)

    def __iter__(self) -> Self:
        """Every event, in order, until the client is closed. Several threads may take from it, and each event goes to one.

        Raises:
            LocalProtocolError: `batches` runs. `stream` has events for a second consumer. Or `on_event` has the events.
        """
        self._inside()
        return self

    def __next__(self) -> Event:
        """Return the next event."""
        event = next(self._waiting, None)
        while event is None:
            if self._batches is None:
                self._batches = self._iterate(self._client.batches)
            self._waiting = iter(next(self._batches))
            event = next(self._waiting, None)
        return event

    def _inside(self) -> Background:
        if self._background is None:
            raise ClientClosed("the client has not been entered: use it inside `with client:`, or call `start()`")
        return self._background

    def _observe(self) -> Observation:
        return self._client._observe()  # noqa: SLF001 - it is the client in another form

    def _loop_thread(self) -> LoopThread | None:
        return self._client._loop_thread()  # noqa: SLF001 - as above

    def _call(self, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an async method, and wait for its result."""
        return self._inside().call(method, *args, **kwargs)

    def _read(self, read: Callable[[], T]) -> T:
        """Call a plain method, or read a property, where the client lives."""
        return self._inside().read(read)

    def _iterate(self, make: Callable[[], AsyncIterator[T]]) -> SyncIterator[T]:
        """Make an iterator of an async one."""
        background = self._inside()
        return iterator_of(background, background.read(make))

    def _view(self, read: Callable[[], T]) -> T:
        """Show an object that lives, and changes, in the background."""
        background = self._inside()
        found = background.read(read)
        view = self._views.get(id(found))
        if view is None:
            # It holds its object, so the identity is good for as long as the view is there.
            view = self._views[id(found)] = InBackground(background, found)
        return cast("T", view)


def _close_all() -> None:
    """Close in order a client that is still open when the program ends: its thread would be cut off."""
    for client in list(_OPEN):
        client.close()


def _warn_of_fork() -> None:
    if _OPEN:
        warnings.warn(
            "this process was forked with an open BackpackSync, which cannot be used here", RuntimeWarning, stacklevel=2
        )


after_fork(_warn_of_fork)

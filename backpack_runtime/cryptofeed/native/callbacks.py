"""Calls the user's callbacks, one after the other: one that raises does not affect the others, and a slow one is named.

cryptofeed by itself closes the connection when a callback raises, so one mistake in one callback costs all others their data, and a
`CancelledError`, such as that of a task the callback had awaited, ends the feed for good. Here the rest is delivered, and `reasons` and
one warning name the callback and its error. Errors that the application wants raised, cryptofeed's `exceptions`, still are.

Callbacks are called inline: while one runs, reading stops. So a slow one makes all data late, and is named as well.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple

from cryptofeed.types import OrderBook
from msgspec import Struct

from backpack_runtime.cryptofeed.arguments import callback_name
from backpack_runtime.cryptofeed.errors import described
from backpack_runtime.cryptofeed.logs import LOG

from .books import as_whole

__all__ = ["Callbacks"]

RECENT_SECONDS = 60.0
"""Time that a failure, or a slow call, is a reason against health."""
SLOW_SECONDS = 1.0
"""A call that takes longer is slow by itself."""
WINDOW_SECONDS = 10.0
BUSY_SHARE = 0.8
"""Callbacks that take more of a window than this leave too little time for reading, however short each call is."""
MOST_FAILURES = 100
"""Kinds of failures that are kept."""


class _SlowCall(NamedTuple):
    """A call that took long."""

    name: str
    seconds: float
    ended: float


class _Share(Struct):
    """The time that one callback has taken."""

    channel: str
    callback: Any
    seconds: float


class _Busy(NamedTuple):
    """A window that callbacks left too little of."""

    share: float
    name: str
    """Of the callback that took most of it."""
    ended: float


class _Failure(Struct):
    """Errors of one type that one callback raised."""

    text: str
    count: int
    last: float


class Callbacks:
    """All calls of callbacks of one feed. They never overlap: the driver delivers one event after the other."""

    def __init__(
        self,
        callbacks_of: Callable[[str], Iterable[Any]],
        raises: Iterable[type[BaseException]] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Begin without a call.

        Args:
            callbacks_of: the callbacks of a channel.
            raises: exceptions that are passed on instead of named.
            clock: seconds, which never go back.
        """
        self.errors = 0
        """Number of calls that have raised."""
        self._callbacks_of = callbacks_of
        self._raises = tuple(raises)
        self._clock = clock
        self._running: tuple[str, Any, float] | None = None
        """Channel and callback of the call that is being made, and when it began."""
        self._failures: dict[tuple[str, int, type[BaseException]], _Failure] = {}
        self._owed: set[tuple[int, str]] = set()
        """Callbacks that raised when they were given a book, and the symbol of that book."""
        self._slow: deque[_SlowCall] = deque()
        """Recent slow calls, the slowest first: one that a slower one has followed does not count any more."""
        self._window_began = clock()
        self._window: dict[tuple[str, int], _Share] = {}
        """Time that each callback has taken since."""
        self._busy: _Busy | None = None

    async def call(self, channel: str, found: Any, receipt: float, which: Callable[[Any], bool] | None = None) -> None:
        """Hand an object to each callback of a channel, or to those that `which` chooses.

        Raises:
            Exception: a callback raised an error that is to be passed on.
        """
        began = self._clock()
        for callback in self._callbacks_of(channel):
            if which is not None and not which(callback):
                continue
            self._running = (channel, callback, began)
            try:
                if self._owed and isinstance(found, OrderBook):
                    await self._call_with_whole_book(callback, found, receipt)
                else:
                    await callback(found, receipt)
            except (Exception, asyncio.CancelledError) as error:
                if self._passes(error):
                    raise
                self._failed(channel, callback, found, error)
            finally:
                self._running = None
                ended = self._clock()
                share = self._window.get((channel, id(callback)))
                if share is None or ended - began >= SLOW_SECONDS or ended - self._window_began >= WINDOW_SECONDS:
                    self._took(channel, callback, began, ended)
                else:
                    share.seconds += ended - began
                began = ended

    def reasons(self) -> list[str]:
        """Return why not all is well with the callbacks at this moment."""
        now, found = self._clock(), []
        if (running := self._running) is not None and now - running[2] >= SLOW_SECONDS:
            name = _name(running[0], running[1])
            found.append(f"{name} has been running for {now - running[2]:.1f} s, nothing is read meanwhile")
        while self._slow and now - self._slow[0].ended >= RECENT_SECONDS:
            self._slow.popleft()
        if self._slow:
            found.append(f"{self._slow[0].name} took {self._slow[0].seconds:.1f} s, nothing was read meanwhile")
        elif self._busy is not None and now - self._busy.ended < 2 * WINDOW_SECONDS:
            found.append(f"callbacks take {self._busy.share:.0%} of the time, most of it {self._busy.name}: data wait for them")
        self._forget(now)
        return found + [f"{failure.text}{_times(failure.count)}" for failure in self._failures.values()]

    async def _call_with_whole_book(self, callback: Any, book: Any, receipt: float) -> None:
        """Give a callback that has missed a change the whole book instead of the next one, as after a resync."""
        owed = (id(callback), book.symbol)
        if owed not in self._owed:
            await callback(book, receipt)
            return
        with as_whole(book):
            await callback(book, receipt)
            self._owed.discard(owed)

    def _passes(self, error: BaseException) -> bool:
        """Return whether an error is not the callback's, or the application wants it raised."""
        if isinstance(error, asyncio.CancelledError):
            # The task of the feed is being cancelled, or else the callback let out the cancellation of something else.
            task = asyncio.current_task()
            return task is None or task.cancelling() > 0
        return isinstance(error, self._raises)

    def _failed(self, channel: str, callback: Any, found: Any, error: BaseException) -> None:
        self.errors += 1
        if isinstance(found, OrderBook):
            self._owed.add((id(callback), found.symbol))
        now, key = self._clock(), (channel, id(callback), type(error))
        self._forget(now)
        failure = self._failures.get(key)
        if failure is None:
            text = f"{_name(channel, callback)} raised {described(error)}"
            LOG.warning("BACKPACK: %s; everything else is delivered", text, exc_info=error)
            self._failures[key] = _Failure(text, 1, now)
            if len(self._failures) > MOST_FAILURES:
                del self._failures[next(iter(self._failures))]
        else:
            failure.count += 1
            failure.last = now

    def _forget(self, now: float) -> None:
        for key in [key for key, failure in self._failures.items() if now - failure.last >= RECENT_SECONDS]:
            del self._failures[key]

    def _took(self, channel: str, callback: Any, began: float, ended: float) -> None:
        seconds = ended - began
        if seconds >= SLOW_SECONDS:
            while self._slow and self._slow[-1].seconds <= seconds:
                self._slow.pop()
            self._slow.append(_SlowCall(_name(channel, callback), seconds, ended))
        key = (channel, id(callback))
        share = self._window.get(key)
        if share is None:
            self._window[key] = _Share(channel, callback, seconds)
        else:
            share.seconds += seconds
        passed = ended - self._window_began
        if passed < WINDOW_SECONDS:
            return
        taken = sum(share.seconds for share in self._window.values()) / passed
        most = max(self._window.values(), key=lambda share: share.seconds)
        self._busy = _Busy(taken, _name(most.channel, most.callback), ended) if taken >= BUSY_SHARE else None
        self._window_began = ended
        self._window.clear()


def _times(count: int) -> str:
    return f" ({count} times)" if count > 1 else ""


def _name(channel: str, callback: Any) -> str:
    return f"callback {callback_name(callback)} of {channel}"

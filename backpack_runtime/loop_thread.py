"""Reads in the thread of an event loop, for other threads.

The state of a client or a feed is changed by its loop alone, so it is read there as well. A read from another thread would meet it half
changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from backpack_proto.errors import LocalProtocolError

from .event_loop import running_library

if TYPE_CHECKING:
    import asyncio

__all__ = ["LoopThread", "NoTurn"]

T = TypeVar("T")


class NoTurn(Exception):
    """The loop did not answer in time: its thread is blocked, or it does not run at present."""


class LoopThread:
    """The thread of the event loop that runs where this is made."""

    def __init__(self) -> None:
        """Remember the loop that runs this.

        Raises:
            LocalProtocolError: no event loop of asyncio or trio runs in this thread.
        """
        self._thread = threading.get_ident()
        self._asyncio: asyncio.AbstractEventLoop | None = None
        library = running_library()
        if library == "trio":
            import trio  # noqa: PLC0415 - programs on asyncio need not load it

            self._soon: Callable[[Callable[[], object]], object] = trio.lowlevel.current_trio_token().run_sync_soon
        elif library == "asyncio":
            import asyncio  # noqa: PLC0415 - programs on trio need not load it

            self._asyncio = asyncio.get_running_loop()
            self._soon = self._asyncio.call_soon_threadsafe
        else:
            raise LocalProtocolError("no event loop of asyncio or trio runs in this thread")

    def read(self, function: Callable[[], T], timeout_s: float) -> T:
        """Call a plain function in the thread of the loop, from any thread, and return its result.

        When the loop has ended, the function is called here, because its state does not change any more.

        Raises:
            NoTurn: the loop has not begun to call it within `timeout_s`.
            BaseException: the function raised it.
        """
        if threading.get_ident() == self._thread:
            return function()
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - raised by `read`
                future.set_exception(error)

        try:
            self._soon(call)
        except RuntimeError:
            # `Event loop is closed`, or `RunFinishedError` of trio.
            return function()
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if not future.cancel():
                # It has begun, or has itself raised this.
                return future.result()
            if self._asyncio is not None and self._asyncio.is_closed():
                return function()
            raise NoTurn(f"the event loop has not come to it within {timeout_s:g} s") from None

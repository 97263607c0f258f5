"""What a coroutine does before it waits for the first time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

__all__ = ["tell_before_waiting"]

T = TypeVar("T")


@coroutine
def tell_before_waiting(work: Coroutine[Any, Any, T], tell: Callable[[], None]) -> Generator[Any, Any, T]:
    """Await `work`, and call `tell` first should it have to wait; by the protocol of coroutines (PEP 492)."""
    try:
        step = work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # what a coroutine returns leaves by an exception without a type
    try:
        tell()
        while True:
            try:
                sent = yield step
            except BaseException as error:  # noqa: BLE001 - a cancellation is for `work`, as everything is
                step = work.throw(error)
            else:
                step = work.send(sent)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # as above
    finally:
        # Nothing happens to one that has ended.
        work.close()

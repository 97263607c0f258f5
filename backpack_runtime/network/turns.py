"""Connections for requests: how many are open at the same time, and who gets the next one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import anyio

from backpack_proto.importance import Importance

__all__ = ["Turns"]


class _Waiter(NamedTuple):
    """Somebody in line. Compared by importance, then by arrival."""

    importance: Importance
    number: int
    called: anyio.Event


class Turns:
    """Limits how many requests are under way. The most important one that waits is the next.

    Those that hold a turn may be slow to be answered. So cancels have turns of their own: all others together take `shared` at most,
    and `reserved` more are there for cancels alone.
    """

    def __init__(self, shared: int, reserved: int) -> None:
        """Nobody has a turn."""
        self._shared = shared
        self._reserved = reserved
        self._taken = 0
        self._waiters: list[_Waiter] = []
        self._arrived = 0

    @asynccontextmanager
    async def take(self, importance: Importance) -> AsyncIterator[None]:
        """Wait for a turn, and keep it inside the block."""
        if self._free(importance):
            self._taken += 1
        else:
            await self._wait(importance)
        try:
            yield
        finally:
            self._give_back()

    async def _wait(self, importance: Importance) -> None:
        self._arrived += 1
        waiter = _Waiter(importance, self._arrived, anyio.Event())
        heappush(self._waiters, waiter)
        try:
            await waiter.called.wait()
        except BaseException:
            if waiter.called.is_set():
                self._give_back()
            else:
                self._waiters.remove(waiter)
                heapify(self._waiters)
            raise

    def _give_back(self) -> None:
        self._taken -= 1
        while self._waiters and self._free(self._waiters[0].importance):
            self._taken += 1
            heappop(self._waiters).called.set()

    def _free(self, importance: Importance) -> bool:
        reserved = self._reserved if importance is Importance.CANCEL else 0
        return self._taken < self._shared + reserved

"""Histories as async iterators, read page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Self, TypeVar

from backpack_proto.rest.results.market_data import Page

__all__ = ["PAGE", "Pages"]

Row = TypeVar("Row")

PAGE = 1000
"""Rows on a page of a history at most (docs/protocol.md 6.4)."""


class Pages(Generic[Row]):
    """All rows of a history, newest first unless asked for otherwise. An async iterator that reads a page when it needs one.

    Newer rows that push older ones on to the next page do not make them come twice.
    """

    def __init__(
        self, read: Callable[[int], Awaitable[Page[Row]]], key: Callable[[Row], Hashable], *, page_size: int = PAGE
    ) -> None:
        """`read` fetches the page that begins at an offset, `key` tells rows apart."""
        self._read = read
        self._key = key
        self._page_size = page_size
        self._offset = 0
        self._rows: list[Row] = []
        """Those still to be given out, the next one last."""
        self._seen: Counter[Hashable] = Counter()
        """Largest number of equal rows of one page: the same one may be on two pages, and two on one page are two."""
        self._ended = False

    def __aiter__(self) -> Self:
        """Go on where the last iteration left off."""
        return self

    async def __anext__(self) -> Row:
        while not self._rows:
            if self._ended:
                raise StopAsyncIteration
            await self._turn()
        return self._rows.pop()

    async def _turn(self) -> None:
        page = await self._read(self._offset)
        self._offset += len(page)
        self._ended = len(page) < self._page_size if page.total is None else not len(page) or self._offset >= page.total
        fresh: list[Row] = []
        here: Counter[Hashable] = Counter()
        for row in page:
            key = self._key(row)
            here[key] += 1
            if here[key] > self._seen[key]:
                fresh.append(row)
        self._seen |= here
        self._rows = fresh[::-1]

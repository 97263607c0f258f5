"""Base of the REST methods: one call, symbols in both spellings, and histories in pages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from backpack_proto.inputs import Arguments
from backpack_proto.rest.results.market_data import Page
from backpack_runtime.checks import checked_count

from .pages import PAGE, Pages

__all__ = ["Caller"]

Row = TypeVar("Row")


class Caller(ABC):
    """What each group of methods builds on."""

    @abstractmethod
    async def call(self, endpoint: str, parameters: Arguments | None = None, *, max_wait_us: int | None = None) -> object:
        """Call an endpoint."""

    @abstractmethod
    async def _id(self, symbol: str) -> str:
        """Return the exchange's spelling of a symbol; one that is not in the list of markets is asked for."""

    @abstractmethod
    def _check_open(self) -> None:
        """Refuse to promise what no call can keep any more."""

    async def _any_id(self, symbol: str | None) -> str | None:
        return None if symbol is None else await self._id(symbol)

    def _pages(
        self,
        endpoint: str,
        symbol: str | None,
        parameters: Arguments,
        key: Callable[[Row], Hashable],
        *,
        oldest_first: bool,
        page_size: int,
    ) -> Pages[Row]:
        self._check_open()
        checked_count("page_size", page_size, maximum=PAGE)
        direction = "Asc" if oldest_first else "Desc"

        async def read(offset: int) -> Page[Row]:
            paging: Arguments = {"limit": page_size, "offset": offset, "sort_direction": direction}
            page = await self.call(endpoint, {"symbol": await self._any_id(symbol), **parameters, **paging})
            return cast("Page[Row]", page)

        return Pages(read, key, page_size=page_size)

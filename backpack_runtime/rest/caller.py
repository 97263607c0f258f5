"""Base of the REST methods: one call, symbols in both spellings, and histories in pages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable
from typing import Literal, TypeAlias, TypeVar, cast

from backpack_proto.errors import UnknownSymbol
from backpack_proto.inputs import Arguments
from backpack_proto.rest.results.market_data import Page
from backpack_runtime.checks import checked_count

from .pages import PAGE, Pages

__all__ = ["Caller", "Period"]

Row = TypeVar("Row")
Period: TypeAlias = Literal["1d", "1w", "1month", "1year"]


class Caller(ABC):
    """Base of each group of methods."""

    @abstractmethod
    async def call(self, endpoint: str, parameters: Arguments | None = None, *, max_wait_us: int | None = None) -> object:
        """Call an endpoint."""

    @abstractmethod
    async def _id(self, symbol: str) -> str:
        """Return the exchange's spelling of a symbol. One that is not in the list of markets is asked for."""

    @abstractmethod
    def _check_open(self) -> None:
        """Refuse calls of a closed client."""

    async def _any_id(self, symbol: str | None) -> str | None:
        return None if symbol is None else await self._id(symbol)

    async def _sourced_id(self, symbol: str, source: str | None) -> str:
        """Return the symbol of figures that may come from outside the exchange, and then of a stock that no list of markets has."""
        try:
            return await self._id(symbol)
        except UnknownSymbol:
            if source is None:
                raise
            return symbol

    def _pages(
        self,
        endpoint: str,
        symbol: str | None,
        parameters: Arguments,
        key: Callable[[Row], Hashable],
        *,
        oldest_first: bool | None,
        page_size: int,
        resolve: Callable[[str], Awaitable[str]] | None = None,
    ) -> Pages[Row]:
        """Make the pages of a history. `oldest_first` is None where it has one order only, `resolve` finds symbols that no list has."""
        self._check_open()
        checked_count("page_size", page_size, maximum=PAGE)
        direction = None if oldest_first is None else "Asc" if oldest_first else "Desc"
        resolve = self._id if resolve is None else resolve

        async def read(offset: int) -> Page[Row]:
            paging: Arguments = {"limit": page_size, "offset": offset, "sort_direction": direction}
            named: Arguments = {} if symbol is None else {"symbol": await resolve(symbol)}
            page = await self.call(endpoint, {**named, **parameters, **paging})
            return cast("Page[Row]", page)

        return Pages(read, key, page_size=page_size)

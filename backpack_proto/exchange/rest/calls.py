"""A signed request as its handler sees it, and the two forms of an answer that are more than JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from backpack_proto.exchange.account.order_request import Members, unreadable

from .answers import Answer
from .private_views import page
from .query import Query

__all__ = ["Handler", "RowsPage", "SignedCall", "Waits", "paged"]


class SignedCall(Struct, frozen=True, gc=False):
    """A request whose signature is good."""

    query: Query
    body: list[Members] | Members
    engine_us: int
    mono_us: int

    @property
    def members(self) -> Members:
        """The one object of the body."""
        if isinstance(self.body, list):
            raise unreadable("expected an object")
        return self.body


class Waits(Struct, frozen=True, gc=False):
    """A command that waits for the speed bump: how it is executed then, at a time of the engine."""

    execute: Callable[[int], Answer]


class RowsPage(Struct, frozen=True, gc=False):
    """Rows of a history, and the headers that say where they lie."""

    rows: list[dict[str, object]]
    headers: tuple[tuple[str, str], ...]


Handler: TypeAlias = Callable[[SignedCall], Answer]


def paged(call: SignedCall, rows: list[dict[str, object]]) -> RowsPage:
    """Return the page of a history that is asked for. `rows` are oldest first."""
    return RowsPage(*page(call.query, rows))

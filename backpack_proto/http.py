"""HTTP requests as values, below everything that signs, builds or sends them."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

__all__ = ["Headers", "HttpRequest", "Parameter"]

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, in order."""

Parameter: TypeAlias = str | int | bool
"""A parameter of a REST call as the exchange signs it: decimals are strings, floats do not exist."""


class HttpRequest(Struct, frozen=True, gc=False, kw_only=True):
    """One HTTP request, complete but for the address of the exchange."""

    method: str
    target: str
    """Path and query."""
    headers: Headers = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.target.partition('?')[0]})"

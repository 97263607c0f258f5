"""HTTP requests as values, below everything that signs, builds or sends them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeAlias

from msgspec.structs import force_setattr

from .values import REDACTED, SecretText, Value

__all__ = ["Argument", "Headers", "HttpRequest", "Parameter"]

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, in order."""

Parameter: TypeAlias = str | int | bool
"""A parameter of a REST call as the exchange signs it: decimals are strings, floats do not exist."""

Argument: TypeAlias = Parameter | Decimal | None
"""A parameter as a caller gives it: a `Decimal` is sent with all its digits, None is left out."""


SECRET_HEADERS = frozenset({"x-signature", "x-passphrase"})


class HttpRequest(Value, frozen=True, gc=False, kw_only=True):
    """One HTTP request, complete but for the address of the exchange."""

    method: str
    target: str
    """Path and query."""
    headers: Headers = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        # A signed request can only be sent: its signature keeps all of it from being pickled and encoded.
        if any(name.casefold() in SECRET_HEADERS for name, _ in self.headers):
            force_setattr(self, "headers", tuple(map(_sealed, self.headers)))

    def to_dict(self) -> dict[str, Any]:
        """Return the members by their names. Without the body, which may hold secrets, where the request is signed."""
        signed = any(isinstance(value, SecretText) for _, value in self.headers)
        return super().to_dict() | ({"body": REDACTED} if signed else {})

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.target.partition('?')[0]})"


def _sealed(header: tuple[str, str]) -> tuple[str, str]:
    name, value = header
    return (name, SecretText(value)) if name.casefold() in SECRET_HEADERS else header

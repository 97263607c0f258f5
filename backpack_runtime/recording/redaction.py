"""Secrets, which are never written into a recording: one table of names, for parameters of calls and for answers.

Signatures and keys do not reach a session as inputs, so they need no rule. Two-factor tokens and addresses of withdrawals do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from backpack_proto.errors import BackpackError
from backpack_proto.values import REDACTED

__all__ = ["KEPT_HEADERS", "SECRET_NAMES", "redacted_body", "redacted_value"]

SECRET_NAMES: Final = (
    "accountIdentifier",
    "address",
    "apiKey",
    "apiSecret",
    "bankIdentifier",
    "fromAddress",
    "institutionBic",
    "passphrase",
    "password",
    "platformMemo",
    "privateKey",
    "secret",
    "secretKey",
    "signature",
    "toAddress",
    "twoFactorToken",
)
"""Members whose text is replaced, in the exchange's spelling. Python's spelling is included."""

KEPT_HEADERS: Final = ("x-total", "x-page-count", "x-current-page", "x-page-size")
"""The headers of an answer that a session reads. No other is written."""


def _folded(name: str) -> str:
    return name.replace("_", "").casefold()


_SECRET: Final = frozenset(map(_folded, SECRET_NAMES))
_TEXT: Final = rb'"(?:[^"\\]|\\.)*"'
_MEMBER: Final = re.compile(rb'(?P<head>"(?P<name>(?:[^"\\]|\\.)*)"\s*:\s*)(?P<value>' + _TEXT + rb"|-?\d[\d.eE+-]*)")
_REPLACEMENT: Final = b'"' + REDACTED.encode() + b'"'


def redacted_body(body: bytes) -> bytes:
    """Return the body of an answer without the secrets in it. Everything else stays as it came."""
    return _MEMBER.sub(_without_secret, body)


def _without_secret(found: re.Match[bytes]) -> bytes:
    name = found["name"]
    # The exchange has no name with escaped characters: better one too many than a secret.
    secret = b"\\" in name or _folded(name.decode(errors="replace")) in _SECRET
    return found["head"] + _REPLACEMENT if secret else found[0]


def redacted_value(value: object) -> Any:
    """Return parameters, or the answer of a call, as plain values without the secrets in them."""
    match value:
        case Mapping():
            return {
                key: REDACTED if item is not None and _folded(str(key)) in _SECRET else redacted_value(item)
                for key, item in value.items()
            }
        case Struct():
            return redacted_value({name: getattr(value, name) for name in value.__struct_fields__})
        case BackpackError():
            return redacted_value(value.to_dict())
        case Decimal():
            return f"{value:f}"
        case str() | bytes():
            return value
        case Sequence():
            return [redacted_value(item) for item in value]
        case _:
            return value

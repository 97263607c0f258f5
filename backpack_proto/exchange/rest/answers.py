"""Answers of the simulated exchange to requests: JSON, plain text, or no content."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from backpack_proto.errors import ApiError
from backpack_proto.exchange.messages import Respond

__all__ = ["JSON", "TEXT", "Answer", "refuse", "respond"]

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

Answer: TypeAlias = object
"""Value that becomes JSON. Bytes are sent as plain text, None is 204."""


def respond(request_id: int, answer: Answer, headers: tuple[tuple[str, str], ...] = ()) -> Respond:
    """An answer as it leaves: bytes are plain text, None is 204, everything else becomes JSON."""
    if answer is None:
        return Respond(request_id, 204, "", b"")
    if isinstance(answer, bytes):
        return Respond(request_id, 200, TEXT, answer)
    return Respond(request_id, 200, JSON, msgspec.json.encode(answer), headers)


def refuse(request_id: int, error: ApiError, headers: tuple[tuple[str, str], ...] = ()) -> Respond:
    """An error as it leaves: plain text when it has no code (docs/protocol.md 1.4)."""
    if not error.code:
        return Respond(request_id, error.status, TEXT, error.message.encode(), headers)
    body = msgspec.json.encode({"code": error.code, "message": error.message})
    return Respond(request_id, error.status, JSON, body, headers)

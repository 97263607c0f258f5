"""Who erred, as a type.

`LocalProtocolError` is raised: the caller asked for something impossible, and nothing has changed.
`RemoteProtocolError` is never raised out of the core: what the exchange does wrong travels inside an event.
"""

from __future__ import annotations

__all__ = [
    "ApiError",
    "BackpackError",
    "InvalidKey",
    "InvalidStream",
    "LocalProtocolError",
    "RemoteProtocolError",
    "UnknownSymbol",
]


class BackpackError(Exception):
    """Base of every error of this project; equal when type and arguments are equal, so events that carry one compare."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.args == getattr(other, "args", None)

    def __hash__(self) -> int:
        return hash((type(self), self.args))


class LocalProtocolError(BackpackError):
    """The caller asked for something that is impossible here; the refused step has left no trace."""


class InvalidStream(LocalProtocolError):
    """A stream or channel name that the exchange does not have (docs/protocol.md 4.1)."""


class InvalidKey(LocalProtocolError):
    """Key material of the wrong form, or two keys that do not belong together; the text never holds the material."""


class UnknownSymbol(LocalProtocolError):
    """A symbol that the exchange's market list does not hold."""


class RemoteProtocolError(BackpackError):
    """The exchange sent something that its protocol does not allow; carried by events, not raised."""


class ApiError(BackpackError):
    """The exchange refused a REST call.

    `status` is the HTTP status, `code` the exchange's own word for it (open list, docs/protocol.md 1.4; empty when the
    body was not JSON), `message` its text, `endpoint` the method and path that were called, and `retry_after_us` how long
    to wait before another try makes sense (None: another try would fail the same way).
    """

    def __init__(self, *, status: int, code: str, message: str, endpoint: str, retry_after_us: int | None = None) -> None:
        super().__init__(status, code, message, endpoint, retry_after_us)
        self.status = status
        self.code = code
        self.message = message
        self.endpoint = endpoint
        self.retry_after_us = retry_after_us

    def __str__(self) -> str:
        return f"{self.endpoint} answered {self.status} {self.code or '(no code)'}: {self.message}"

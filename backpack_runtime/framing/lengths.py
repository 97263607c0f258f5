"""The check that h11 leaves out: a message says in one way how long it is."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["says_two_lengths"]


def says_two_lengths(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a message has both Content-Length and Transfer-Encoding.

    A program on the way may have believed the one and h11 believes the other, so its end is doubtful (RFC 9112 section 6.3).
    """
    return {name for name, _ in headers} >= {b"content-length", b"transfer-encoding"}

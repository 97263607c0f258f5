"""Text of the exchange, of a proxy or of any other peer, before it reaches a log, an error or a terminal."""

from __future__ import annotations

from typing import Final

__all__ = ["LONGEST_TEXT", "printable"]

LONGEST_TEXT: Final = 500
"""Characters of a foreign text that are shown by default: its beginning identifies it."""


def printable(text: str, limit: int | None = LONGEST_TEXT) -> str:
    """Return foreign text on one line: control characters escaped as Python writes them, and at most `limit` characters of it.

    Raw, an ESC moves the cursor, and a newline makes a second line.
    """
    shown = text if limit is None else text[: limit + 1]
    if not shown.isprintable():
        shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in shown)
    return shown if limit is None or len(shown) <= limit else f"{shown[: limit - 1]}…"

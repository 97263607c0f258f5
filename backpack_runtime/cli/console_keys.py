"""The keys of a Windows console, which cannot be waited for. Loaded on Windows only."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import anyio

from .views.keys import Key, KeyPress, KeyReader

__all__ = ["pressed"]

POLL_SECONDS: Final = 0.1
_AFTER_A_PREFIX: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "H": Key.UP,
        "P": Key.DOWN,
        "K": Key.LEFT,
        "M": Key.RIGHT,
        "G": Key.HOME,
        "O": Key.END,
        "I": Key.PAGE_UP,
        "Q": Key.PAGE_DOWN,
    }
)


async def pressed() -> Sequence[KeyPress]:
    """Return the keys that have been pressed within a moment, if any."""
    await anyio.sleep(POLL_SECONDS)
    keys: list[KeyPress] = []
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - a module of Windows

        while msvcrt.kbhit():
            character = msvcrt.getwch()
            if character in "\x00\xe0":
                key = _AFTER_A_PREFIX.get(msvcrt.getwch())
                keys += [] if key is None else [key]
            else:
                reader = KeyReader()
                keys += [*reader.feed(character.encode("utf-8", "replace")), *reader.settle()]
    return keys

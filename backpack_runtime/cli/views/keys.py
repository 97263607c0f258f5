"""Keys out of the bytes that a terminal sends: a machine without a terminal, fed as the bytes come."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

__all__ = ["Key", "KeyPress", "KeyReader"]

ESCAPE: Final = "\x1b"
LONGEST_SEQUENCE: Final = 32
"""A sequence that is longer is of no terminal that we know, and is thrown away."""


class Key(Enum):
    """A key that types no character."""

    UP = auto()
    DOWN = auto()
    LEFT = auto()
    RIGHT = auto()
    HOME = auto()
    END = auto()
    PAGE_UP = auto()
    PAGE_DOWN = auto()
    ENTER = auto()
    ESCAPE = auto()
    BACKSPACE = auto()
    CLEAR = auto()
    """Ctrl-U: all that was typed."""


KeyPress = Key | str
"""A key, or the character that it types."""

_CONTROLS: Final[Mapping[str, Key]] = MappingProxyType(
    {"\r": Key.ENTER, "\n": Key.ENTER, "\x7f": Key.BACKSPACE, "\x08": Key.BACKSPACE, "\x15": Key.CLEAR}
)
_BY_LETTER: Final[Mapping[str, Key]] = MappingProxyType(
    {"A": Key.UP, "B": Key.DOWN, "C": Key.RIGHT, "D": Key.LEFT, "H": Key.HOME, "F": Key.END}
)
"""The last character of a sequence, with and without the keypad's application mode."""
_BY_NUMBER: Final[Mapping[str, Key]] = MappingProxyType(
    {"1": Key.HOME, "7": Key.HOME, "4": Key.END, "8": Key.END, "5": Key.PAGE_UP, "6": Key.PAGE_DOWN}
)


class KeyReader:
    """Turns bytes into keys, whichever way a sequence was cut in pieces."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._sequence = ""

    @property
    def unsure(self) -> bool:
        """A sequence has begun. If the rest does not follow soon, it was the key Escape: call `settle`."""
        return bool(self._sequence)

    def feed(self, data: bytes) -> list[KeyPress]:
        """Take bytes, and return the keys that they complete."""
        keys: list[KeyPress] = []
        for character in self._text.decode(data):
            keys += self._take(character)
        return keys

    def settle(self) -> list[KeyPress]:
        """Return the keys of an unfinished sequence: Escape when it is that alone."""
        alone, self._sequence = self._sequence == ESCAPE, ""
        return [Key.ESCAPE] if alone else []

    def _take(self, character: str) -> list[KeyPress]:
        if not self._sequence:
            if character == ESCAPE:
                self._sequence = ESCAPE
                return []
            return _plain(character)
        if character == ESCAPE:
            # Escape, and then another key.
            found, self._sequence = self.settle(), ESCAPE
            return found
        self._sequence += character
        if len(self._sequence) == 2:
            if character in "[O":
                return []
            self._sequence = ""
            return [Key.ESCAPE, *_plain(character)]
        if self._sequence[1] == "[" and not "@" <= character <= "~":
            if len(self._sequence) > LONGEST_SEQUENCE:
                self._sequence = ""
            return []
        sequence, self._sequence = self._sequence, ""
        return _key_of(sequence)


def _plain(character: str) -> list[KeyPress]:
    if character in _CONTROLS:
        return [_CONTROLS[character]]
    return [character] if character.isprintable() else []


def _key_of(sequence: str) -> list[KeyPress]:
    """Return the key of a whole sequence. Held modifiers are the second number, and are ignored."""
    number, last = sequence[2:-1].partition(";")[0], sequence[-1]
    key = _BY_NUMBER.get(number) if last == "~" else _BY_LETTER.get(last)
    return [] if key is None else [key]

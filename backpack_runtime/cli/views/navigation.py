"""Which part of the board is shown: values that keys turn into other values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .keys import Key, KeyPress

__all__ = ["ShownPage", "View", "matching"]

LONGEST_FILTER: Final = 40


class ShownPage(Struct, frozen=True, gc=False):
    """Room that the last picture had for markets, which is how far a page moves."""

    markets: int = 1
    """Markets that the filter lets through."""
    rows: int = 1
    """Markets that are shown at once."""


class View(Struct, frozen=True, gc=False):
    """Part of the board that is looked at."""

    selected: int = 0
    """Among the markets that the filter lets through."""
    filter: str = ""
    typing: bool = False
    """The keys go into the filter."""
    help: bool = False
    paused: bool = False
    keys: bool = False
    """Keys are read at all."""
    done: bool = False

    def handle(self, key: KeyPress, page: ShownPage) -> View:
        """Return the view after a key, where `page` is shown now."""
        moved = self._moved(key, page)
        if moved is not None:
            return moved
        return self._typed(key) if self.typing else self._told(key, page)

    def _moved(self, key: KeyPress, page: ShownPage) -> View | None:
        last = max(page.markets - 1, 0)
        # The filter may let through fewer than a moment ago.
        at = min(self.selected, last)
        match key:
            case Key.UP:
                at -= 1
            case Key.DOWN:
                at += 1
            case Key.LEFT | Key.PAGE_UP:
                at -= page.rows
            case Key.RIGHT | Key.PAGE_DOWN:
                at += page.rows
            case Key.HOME:
                at = 0
            case Key.END:
                at = last
            case _:
                return None
        return replace(self, selected=min(max(at, 0), last), help=False)

    def _typed(self, key: KeyPress) -> View:
        match key:
            case Key.ENTER:
                return replace(self, typing=False)
            case Key.ESCAPE:
                return replace(self, typing=False, filter="", selected=0)
            case Key.CLEAR:
                return replace(self, filter="", selected=0)
            case Key.BACKSPACE:
                return replace(self, filter=self.filter[:-1], selected=0)
            case str():
                return replace(self, filter=(self.filter + key)[:LONGEST_FILTER], selected=0)
            case _:
                return self

    def _told(self, key: KeyPress, page: ShownPage) -> View:
        match key:
            case "q" | "Q":
                return replace(self, done=True)
            case "?" | "h":
                return replace(self, help=not self.help)
            case "p" | " ":
                return replace(self, paused=not self.paused, help=False)
            case "/":
                return replace(self, typing=True, help=False)
            case "j":
                return self.handle(Key.DOWN, page)
            case "k":
                return self.handle(Key.UP, page)
            case Key.ESCAPE if not self.help:
                return replace(self, filter="", selected=0)
            case _:
                return replace(self, help=False)


def matching(symbols: Sequence[str], text: str) -> list[str]:
    """Return the symbols that a filter lets through: those that contain it, in either case, with `-` for `_`."""
    wanted = text.strip().casefold().replace("-", "_")
    return [symbol for symbol in symbols if wanted in symbol.casefold().replace("-", "_")]

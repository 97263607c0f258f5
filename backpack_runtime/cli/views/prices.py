"""The last price over time, as a line of blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from backpack_proto.decoding import sane

__all__ = ["COLUMN_SECONDS", "PriceHistory", "sparkline"]

COLUMN_SECONDS: Final = 5
"""Time that one block stands for."""
COLUMNS_KEPT: Final = 60
BLOCKS: Final = "▁▂▃▄▅▆▇█"


class PriceHistory:
    """Price at the end of each few seconds."""

    __slots__ = ("_columns",)

    def __init__(self) -> None:
        self._columns: deque[tuple[int, Decimal | None]] = deque(maxlen=COLUMNS_KEPT)

    def note(self, price: Decimal | None, mono_us: int) -> None:
        """Take a price, or None when from now on it is not known."""
        column = mono_us // (COLUMN_SECONDS * 1_000_000)
        if self._columns and self._columns[-1][0] == column:
            self._columns.pop()
        self._columns.append((column, price))

    def latest(self, count: int, mono_us: int) -> list[Decimal | None]:
        """Return the price in so many columns, the last of which is now. A price holds until another one is told."""
        now = mono_us // (COLUMN_SECONDS * 1_000_000)
        shown: list[Decimal | None] = []
        until = now + 1
        for column, price in reversed(self._columns):
            shown += [price] * max(until - max(column, now - count + 1), 0)
            until = min(until, column)
            if column <= now - count + 1:
                break
        shown += [None] * (count - len(shown))
        return shown[::-1]

    def copy(self) -> PriceHistory:
        """Return another one that holds the same."""
        other = PriceHistory()
        other._columns = self._columns.copy()
        return other


def sparkline(prices: Sequence[Decimal | None]) -> str:
    """Return a block for each price, from the lowest to the highest of them, and a blank for one that is not known."""
    known = [price for price in prices if price is not None and sane(price)]
    if not known:
        return " " * len(prices)
    low, high = min(known), max(known)
    return "".join(_block(price, low, high) for price in prices)


def _block(price: Decimal | None, low: Decimal, high: Decimal) -> str:
    if price is None or not sane(price):
        return " "
    if low == high:
        return BLOCKS[3]
    return BLOCKS[round(float((price - low) / (high - low)) * (len(BLOCKS) - 1))]

"""One side of a book: its levels in the order of their prices, and the best of them at hand.

Theory. Ranks (`streams.levels`) and levels stand in two lists of one order, the best at the end of both: to find a price is a binary
search over whole numbers, to put one in or take one out moves what is better, which is little where books change. The best levels
are kept as the tuple that is handed out, and made anew only when a change falls among them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from decimal import Decimal
from itertools import islice
from typing import ClassVar

from backpack_proto.streams.levels import ASK_RANKS, BID_RANKS, RESTING, Level, Ranks

__all__ = ["Asks", "Bids", "BookSide"]

ZERO = Decimal(0)


class BookSide:
    """The levels of one side; beyond its edge nothing is known, and nothing is kept."""

    __slots__ = ("_edge", "_levels", "_shown", "best", "edge", "ranks", "top")
    _rank_of: ClassVar[Ranks]

    def __init__(self, levels: Iterable[Level] = (), *, limit: int | None = None) -> None:
        """Make a side of levels in any order; one that fills `limit` goes on beyond its last one, unseen."""
        rank_of = self._rank_of
        resting = {rank_of[level.price_text]: level for level in levels if RESTING[level.quantity_text]}
        self.ranks = sorted(resting)
        self._levels = [resting[rank] for rank in self.ranks]
        cut_off = limit is not None and 0 < limit <= len(self.ranks)
        self._edge = self.ranks[0] if cut_off else None
        self.edge = self._levels[0].price if cut_off else None
        """The price of the last level that is known; None when the whole side is."""
        self.show(1)

    @property
    def exhausted(self) -> bool:
        """All that was known is used up."""
        return not self.ranks and self._edge is not None

    def show(self, count: int) -> None:
        """Have so many levels at hand in `top`."""
        self._shown = count
        self._look()

    def first(self, count: int | None) -> tuple[Level, ...]:
        """Return the best levels, best first; fewer than asked for where the known part ends."""
        return self.top if count == self._shown else tuple(islice(reversed(self._levels), count))

    def quantity(self, price: Decimal) -> Decimal:
        """Return what is known to rest at a price; zero where there is nothing."""
        rank = self._rank_of.of(price)
        if rank is None:
            return ZERO
        at = bisect_left(self.ranks, rank)
        return self._levels[at].quantity if at < len(self.ranks) and self.ranks[at] == rank else ZERO

    def apply(self, changes: Iterable[tuple[int, bool, Level]]) -> None:
        """Take in changed levels with their ranks and whether anything rests there; a new price beyond the edge stays out."""
        ranks, levels, shown = self.ranks, self._levels, self._shown
        touched = False
        for rank, rests, level in changes:
            at = bisect_left(ranks, rank)
            behind = len(ranks) - at
            if behind and ranks[at] == rank:
                if rests:
                    levels[at] = level
                else:
                    del ranks[at], levels[at]
            elif rests and (self._edge is None or rank >= self._edge):
                ranks.insert(at, rank)
                levels.insert(at, level)
            else:
                continue
            if behind <= shown:
                touched = True
        if touched:
            self._look()

    def _look(self) -> None:
        levels = self._levels
        best: Level | None = levels[-1] if levels else None
        self.best = best
        if self._shown == 1 and best is not None:
            self.top: tuple[Level, ...] = (best,)
            """The best levels, best first."""
        else:
            self.top = tuple(levels[: -self._shown - 1 : -1])


class Bids(BookSide):
    """The bids, of which the highest is the best."""

    __slots__ = ()
    _rank_of = BID_RANKS


class Asks(BookSide):
    """The asks, of which the lowest is the best."""

    __slots__ = ()
    _rank_of = ASK_RANKS

"""One side of a book: its levels in the order of their prices, and the best of them at hand.

Theory. Ranks (`streams.levels`) and levels stand in two lists of one order, the best at the end of both: to find a price is a binary
search over whole numbers, to put one in or take one out moves the better ones, which are few where books change. The best levels
are kept as the tuple that is handed out, and made again only when a change falls among them.

`_side` is the same in C, where there is a compiler to build it (docs/kernels.md): this module is the reference, and runs everywhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import islice

from backpack_proto.streams.levels import ASK_RANKS, BID_RANKS, RESTING, Level

__all__ = ["BookSide", "apart", "change"]


class BookSide:
    """The levels of one side. Levels beyond its edge are unknown, and not kept."""

    __slots__ = ("_edge_rank", "_levels", "_rank_of", "_ranks", "_shown", "best", "edge", "top")

    def __init__(self, levels: Iterable[Level], *, best_is_highest: bool, limit: int | None = None) -> None:
        """Make a side of levels in any order. One that fills `limit` goes on beyond its last one, unseen.

        Raises:
            ValueError: one of them is no level (`Level`).
        """
        rank_of = self._rank_of = BID_RANKS if best_is_highest else ASK_RANKS
        judged = [(rank_of[level.price_text], RESTING[level.quantity_text], level) for level in levels]
        resting = {rank: level for rank, rests, level in judged if rests}
        self._ranks = sorted(resting)
        self._levels = [resting[rank] for rank in self._ranks]
        cut_off = limit is not None and 0 < limit <= len(resting)
        self._edge_rank = self._ranks[0] if cut_off else None
        self.edge = self._levels[0] if cut_off else None
        """The last level that is known, or None when the whole side is."""
        self.show(1)

    def __len__(self) -> int:
        """Return how many levels are known."""
        return len(self._levels)

    @property
    def exhausted(self) -> bool:
        """All that was known is used up."""
        return not self._ranks and self.edge is not None

    def show(self, count: int) -> None:
        """Have so many levels at hand in `top`."""
        self._shown = max(count, 0)
        self._look()

    def first(self, count: int | None) -> tuple[Level, ...]:
        """Return the best levels, best first, or all of them. Fewer than asked for where the known part ends.

        Raises:
            ValueError: a negative count.
        """
        if count is not None and count < 0:
            raise ValueError(f"count: 0 or more, got {count}")
        return self.top if count == self._shown else tuple(islice(reversed(self._levels), count))

    def find(self, price_text: str) -> Level | None:
        """Return the level at a price, or None without one.

        Raises:
            ValueError: this is the text of no price.
        """
        rank = self._rank_of[price_text]
        at = bisect_left(self._ranks, rank)
        return self._levels[at] if at < len(self._ranks) and self._ranks[at] == rank else None

    def _take_in(self, changes: Iterable[tuple[int, bool, Level]]) -> None:
        """Take in changed levels with their ranks and whether anything rests there. A new price beyond the edge stays out."""
        ranks, levels, shown = self._ranks, self._levels, self._shown or 1
        touched = False
        for rank, rests, level in changes:
            at = bisect_left(ranks, rank)
            behind = len(ranks) - at
            if behind and ranks[at] == rank:
                if rests:
                    levels[at] = level
                else:
                    del ranks[at], levels[at]
            elif rests and (self._edge_rank is None or rank >= self._edge_rank):
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
        """The best level, or None."""
        if self._shown == 1 and best is not None:
            self.top: tuple[Level, ...] = (best,)
            """The best levels, best first."""
        else:
            self.top = tuple(levels[: -self._shown - 1 : -1])


def change(bids: BookSide, asks: BookSide, changed_bids: Iterable[Level], changed_asks: Iterable[Level]) -> bool:
    """Take in changed levels of both sides, of which a quantity of zero deletes. Return whether the sides are `apart` then.

    Raises:
        ValueError: one of them is no level (`Level`). The state is unchanged.
    """
    rests = RESTING
    # All of them are looked up, which judges them, before the first one is taken in.
    rank_of = BID_RANKS
    judged_bids = (
        [(rank_of[level.price_text], rests[level.quantity_text], level) for level in changed_bids] if changed_bids else None
    )
    if changed_asks:
        rank_of = ASK_RANKS
        asks._take_in([(rank_of[level.price_text], rests[level.quantity_text], level) for level in changed_asks])  # noqa: SLF001 - its own module
    if judged_bids:
        bids._take_in(judged_bids)  # noqa: SLF001 - its own module
    bid_ranks, ask_ranks = bids._ranks, asks._ranks  # noqa: SLF001 - its own module
    # The rank of an ask is negative, so that the best one is the highest on both sides.
    return bid_ranks[-1] + ask_ranks[-1] < 0 if bid_ranks and ask_ranks else False


def apart(bids: BookSide, asks: BookSide) -> bool:
    """Return whether both sides have levels, and the best bid is below the best ask."""
    bid_ranks, ask_ranks = bids._ranks, asks._ranks  # noqa: SLF001 - its own module
    return bool(bid_ranks and ask_ranks) and bid_ranks[-1] + ask_ranks[-1] < 0

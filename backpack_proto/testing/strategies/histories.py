"""Strategies for the history of a book."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from hypothesis import strategies as st

from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth
from backpack_proto.testing.histories import FRAME_FAULT_KINDS, BookHistory, FrameFault

__all__ = ["book_histories"]

_MOMENT_US: Final = 1_700_000_000_000_000
_MOST_TICKS: Final = 20
_MOST_FAULTS: Final = 3


@st.composite
def book_histories(draw: st.DrawFn, *, symbol: str = "SOL_USDC", max_frames: int = 12, faults: bool = True) -> BookHistory:
    """Return a strategy for histories of the book of `symbol`, of at most `max_frames` frames.

    The book is never crossed, and may be empty on one side. With `faults` some frames are lost, come twice, in a wrong order, or torn.
    """
    bids, asks = _opening(draw)
    first = draw(st.integers(0, 3) | st.integers(0, 2**53))
    history_bids, history_asks = _side(bids)[::-1], _side(asks)
    deltas: list[Depth] = []
    last = first
    for number in range(draw(st.integers(0, max_frames))):
        changed = draw(st.lists(_change(), min_size=1, max_size=3))
        delta = _delta(symbol, bids, asks, changed, last, ids=draw(st.integers(1, 3)), moment_us=_MOMENT_US + number * 1_000)
        last = delta.last_update_id
        deltas.append(delta)
    wrong = draw(st.lists(_fault(len(deltas)), max_size=_MOST_FAULTS)) if faults and deltas else []
    return BookHistory(
        symbol=symbol, last=first, bids=history_bids, asks=history_asks, deltas=tuple(deltas), faults=tuple(wrong)
    )


def _opening(draw: st.DrawFn) -> tuple[dict[int, int], dict[int, int]]:
    """Both sides of a book as lots by ticks: bids below a tick, asks above it."""
    middle = draw(st.integers(2, _MOST_TICKS))
    bids = draw(st.dictionaries(st.integers(1, middle - 1), st.integers(1, 100), max_size=3))
    asks = draw(st.dictionaries(st.integers(middle, _MOST_TICKS + 1), st.integers(1, 100), max_size=3))
    return bids, asks


def _change() -> st.SearchStrategy[tuple[bool, int, int]]:
    """Whether it is a bid, the ticks, and the lots that rest there from now on."""
    return st.tuples(st.booleans(), st.integers(1, _MOST_TICKS + 1), st.integers(0, 100))


def _fault(frames: int) -> st.SearchStrategy[FrameFault]:
    return st.builds(FrameFault, st.sampled_from(FRAME_FAULT_KINDS), st.integers(0, frames - 1))


def _delta(
    symbol: str,
    bids: dict[int, int],
    asks: dict[int, int],
    changed: list[tuple[bool, int, int]],
    last: int,
    *,
    ids: int,
    moment_us: int,
) -> Depth:
    """Make the changes to a book, and the frame that says so; what would cross the other side takes that away, as an order does."""
    told: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for is_bid, ticks, lots in changed:
        mine, theirs = (bids, asks) if is_bid else (asks, bids)
        told_mine, told_theirs = told if is_bid else told[::-1]
        if lots:
            for taken in [other for other in theirs if (other <= ticks if is_bid else other >= ticks)]:
                del theirs[taken]
                told_theirs[taken] = 0
            mine[ticks] = lots
        else:
            mine.pop(ticks, None)
        told_mine[ticks] = lots
    return Depth(
        symbol=symbol,
        emitted_us=moment_us,
        engine_us=moment_us,
        first_update_id=last + 1,
        last_update_id=last + ids,
        bids=_side(told[0]),
        asks=_side(told[1]),
    )


def _side(side: dict[int, int]) -> tuple[Level, ...]:
    return tuple(Level(Decimal(ticks), Decimal(lots)) for ticks, lots in sorted(side.items()))

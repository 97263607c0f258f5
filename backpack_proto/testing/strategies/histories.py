"""Strategies for the history of a book."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from hypothesis import strategies as st

from backpack_proto.errors import LocalProtocolError
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth
from backpack_proto.testing.histories import FRAME_FAULT_KINDS, BookHistory, FrameFault

__all__ = ["book_histories"]

_MOMENT_US: Final = 1_700_000_000_000_000
_MOST_TICKS: Final = 20
_MOST_FAULTS: Final = 3


def book_histories(*, symbol: str = "SOL_USDC", max_frames: int = 12, faults: bool = True) -> st.SearchStrategy[BookHistory]:
    """Return a strategy for histories of the book of `symbol`, of at most `max_frames` frames.

    The book is never crossed, and may be empty on one side. With `faults` some frames are lost, come twice, in a wrong order, or torn.

    Raises:
        LocalProtocolError: `max_frames` is negative.
    """
    if max_frames < 0:
        raise LocalProtocolError(f"max_frames: 0 or more, got {max_frames}")
    fault = st.builds(FrameFault, st.sampled_from(FRAME_FAULT_KINDS), st.integers(0, max(max_frames - 1, 0)))
    return st.builds(
        _history,
        st.just(symbol),
        st.integers(0, 3) | st.integers(0, 2**53),
        _OPENINGS,
        st.integers(1, _MOST_TICKS),
        st.lists(st.tuples(_CHANGES, st.integers(1, 3)), max_size=max_frames),
        st.lists(fault, max_size=_MOST_FAULTS if faults else 0),
    )


_TICKS = st.integers(1, _MOST_TICKS)
_OPENINGS = st.dictionaries(_TICKS, st.integers(1, 100), max_size=6)
"""Lots by ticks, of both sides."""
_CHANGES = st.lists(st.tuples(st.booleans(), _TICKS, st.integers(0, 100)), min_size=1, max_size=3)
"""True when each is a bid, the ticks, and the lots that rest there from now on."""


def _history(
    symbol: str,
    first: int,
    opening: dict[int, int],
    middle: int,
    steps: list[tuple[list[tuple[bool, int, int]], int]],
    faults: list[FrameFault],
) -> BookHistory:
    """Put a history together. Faults of frames that do not exist fall away."""
    bids = {ticks: lots for ticks, lots in opening.items() if ticks < middle}
    asks = {ticks: lots for ticks, lots in opening.items() if ticks >= middle}
    history_bids, history_asks = _side(bids)[::-1], _side(asks)
    deltas: list[Depth] = []
    last = first
    for number, (changed, ids) in enumerate(steps):
        deltas.append(_delta(symbol, bids, asks, changed, last, ids=ids, moment_us=_MOMENT_US + number * 1_000))
        last += ids
    return BookHistory(
        symbol=symbol,
        last=first,
        bids=history_bids,
        asks=history_asks,
        deltas=tuple(deltas),
        faults=tuple(fault for fault in faults if fault.frame < len(deltas)),
    )


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
    """Make the changes to a book, and the frame that says so. A level that would cross the other side takes that away, as an order does."""
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

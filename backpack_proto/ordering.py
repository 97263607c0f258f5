"""Restores the order of numbered messages that came by several ways, each perhaps late, twice, or missing. A pure machine.

Theory of operation. A chain is the messages of one kind of one market: each says which ids it covers, and the next one begins one id
later. Messages come in any order. A message that continues the chain is handed on at once. Messages behind a hole are kept until the hole
is filled, WAIT_US at most. Then the hole is told (`Missed`), and the chain goes on:

* A chain of changes goes on from the next base, which is a whole state at one id (a snapshot of a book). Changes up to its id are in it.
* A chain of independent things (trades) goes on with the first message that was kept.

A base ahead of the chain is a hole too: the messages that lead to it have not come. A chain of changes begins with a base, the other kind
with its first message. Older messages have been handed on already, or come from before the beginning, and are dropped: so each id is
handed on once, however often it came. Ids that fall while the engine's time goes on by more than BACKWARDS_US have started over.

        WAITING (for a base) --base--> FOLLOWING --hole older than WAIT_US--> WAITING or FOLLOWING
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from .inputs import TimerFired
from .machine import Now, due

__all__ = ["BACKWARDS_US", "KEPT", "WAIT_US", "Base", "Missed", "Ordering", "OrderingInput", "OrderingOutput", "Piece"]

WAIT_US: Final = 2_000_000
"""Time that a message waits for those before it."""
BACKWARDS_US: Final = 1_000_000
"""An old id with an engine time this much later is no repetition: the ids have started over."""
KEPT: Final = 20_000
"""So many messages wait at most. One more ends the wait."""


class Piece(Struct, frozen=True, gc=False, kw_only=True):
    """One message, and the ids that it covers."""

    first: int
    last: int
    engine_us: int
    value: object = None


class Base(Struct, frozen=True, gc=False, kw_only=True):
    """Whole state at one id, from which changes go on."""

    last: int
    value: object = None


class Missed(Struct, frozen=True, gc=False, kw_only=True):
    """Messages that will not be handed on. The chain goes on behind them."""

    first: int
    last: int
    reason: str


OrderingInput: TypeAlias = Piece | Base | TimerFired
OrderingOutput: TypeAlias = Piece | Base | Missed


class _Kept(Struct, frozen=True, gc=False):
    piece: Piece
    arrived_us: int


class Ordering:
    """Machine that puts the messages of one chain in order."""

    def __init__(self, *, needs_base: bool, wait_us: int = WAIT_US, kept: int = KEPT) -> None:
        """Nothing has come yet.

        Args:
            needs_base: messages are changes, which need a base before them.
            wait_us: how long a message waits for those before it.
            kept: how many messages wait at most.
        """
        self._needs_base = needs_base
        self._wait_us = wait_us
        self._limit = kept
        self._next: int | None = None
        """The id that continues the chain; None while it has no beginning."""
        self._engine_us = 0
        """When the last message that was handed on was made."""
        self._kept: list[_Kept] = []
        """Messages behind a hole, by their ids."""
        self._base: Base | None = None
        """The newest base that is ahead of the chain."""
        self._since_us = 0
        """Since when the hole is known, while there is one."""

    @property
    def following(self) -> bool:
        """True while the chain has a beginning and no hole that was told, so that the next message continues the last one."""
        return self._next is not None

    @property
    def complete(self) -> bool:
        """True while no message is known to be missing."""
        return self.following and not self._has_hole

    @property
    def deadline(self) -> int | None:
        """When the hole is given up."""
        return self._since_us + self._wait_us if self._has_hole else None

    def handle(self, given: OrderingInput, now: Now) -> Sequence[OrderingOutput]:
        """Take a message, and return the messages that are next in order."""
        match given:
            case Piece():
                return self._take(given, now.mono_us)
            case Base():
                return self._take_base(given, now.mono_us)
            case _:
                return self._give_up(now.mono_us) if due(self.deadline, now) else []

    @property
    def _has_hole(self) -> bool:
        return self._next is not None and (bool(self._kept) or self._base is not None)

    def _take(self, piece: Piece, mono_us: int) -> list[OrderingOutput]:
        following = self._next
        if following is None:
            if self._needs_base:
                self._keep(piece, mono_us)
                del self._kept[: -self._limit]
                return []
            following = self._next = piece.first
        if piece.last < following:
            return self._start_over(piece, mono_us) if piece.engine_us - self._engine_us > BACKWARDS_US else []
        if piece.first > following:
            if not self._has_hole:
                self._since_us = mono_us
            self._keep(piece, mono_us)
            return self._give_up(mono_us) if len(self._kept) > self._limit else []
        return [*self._hand_on(piece), *self._follow(mono_us)]

    def _take_base(self, base: Base, mono_us: int) -> list[OrderingOutput]:
        if self._next is None:
            return self._join(base, mono_us)
        if self._needs_base and base.last >= self._next and (self._base is None or base.last > self._base.last):
            if not self._has_hole:
                self._since_us = mono_us
            self._base = base
        return []

    def _keep(self, piece: Piece, mono_us: int) -> None:
        """Keep a message where its ids belong, once."""
        at = bisect_left(self._kept, (piece.first, piece.last), key=lambda kept: (kept.piece.first, kept.piece.last))
        if at < len(self._kept) and (self._kept[at].piece.first, self._kept[at].piece.last) == (piece.first, piece.last):
            return
        self._kept.insert(at, _Kept(piece, mono_us))

    def _hand_on(self, piece: Piece) -> list[OrderingOutput]:
        self._next = piece.last + 1
        self._engine_us = piece.engine_us
        return [piece]

    def _follow(self, mono_us: int) -> list[OrderingOutput]:
        """Hand on the kept messages that are next, and drop older ones."""
        outputs: list[OrderingOutput] = []
        taken = 0
        for kept in self._kept:
            if self._next is not None and kept.piece.first > self._next:
                break
            taken += 1
            if self._next is not None and kept.piece.last >= self._next:
                outputs += self._hand_on(kept.piece)
        del self._kept[:taken]
        if self._base is not None and self._next is not None and self._base.last < self._next:
            self._base = None
        # The hole that is left has been known since the first message behind it came.
        self._since_us = min((kept.arrived_us for kept in self._kept), default=mono_us)
        return outputs

    def _join(self, base: Base, mono_us: int) -> list[OrderingOutput]:
        """Begin at a base."""
        self._base = None
        self._next = base.last + 1
        self._engine_us = max((kept.piece.engine_us for kept in self._kept if kept.piece.last <= base.last), default=0)
        outputs = [base, *self._follow(mono_us)]
        # Late messages have their time from now on, for the base may have overtaken them.
        self._since_us = mono_us
        return outputs

    def _give_up(self, mono_us: int) -> list[OrderingOutput]:
        """Tell which messages have not come in time, and go on."""
        outputs: list[OrderingOutput] = []
        full = len(self._kept) > self._limit
        while self._has_hole and self._next is not None and (full or self._since_us + self._wait_us <= mono_us):
            full = False
            first, base = self._next, self._base
            behind = self._kept[0].piece.first - 1 if self._kept else None
            if base is not None and (behind is None or base.last >= behind):
                outputs.append(self._missed(first, base.last if behind is None else behind))
                outputs += self._join(base, mono_us)
                continue
            assert behind is not None  # noqa: S101 - a hole without a base ahead has messages behind it
            outputs.append(self._missed(first, behind))
            if self._needs_base:
                self._next = self._base = None
            else:
                self._next = self._kept[0].piece.first
                outputs += self._follow(mono_us)
        return outputs

    def _missed(self, first: int, last: int) -> Missed:
        return Missed(first=first, last=last, reason=f"did not come within {self._wait_us / 1e6:g} s")

    def _start_over(self, piece: Piece, mono_us: int) -> list[OrderingOutput]:
        """Begin again, as the ids have."""
        first = self._next or 0
        self._kept.clear()
        self._base = None
        self._next = None
        told = Missed(first=first, last=first, reason=f"the ids have started over at {piece.first}")
        return [told, *self._take(piece, mono_us)]

"""The history of one book: the frames that were sent, those that arrived, and the truth at every update id.

To test a book of your own, give it `snapshot` and `frames`, and compare it with `levels_at`: a book that says that it is right
must be equal to that, whichever frames were lost on the way.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal, TypeAlias, get_args

from backpack_proto.errors import LocalProtocolError
from backpack_proto.hints import one_of
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth
from backpack_proto.values import Value

from .wire import depth_answer, encode_frame

__all__ = ["FRAME_FAULT_KINDS", "BookHistory", "FrameFault", "Sides"]

Sides: TypeAlias = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]
"""Bids and asks: the quantity at each price."""
Kind: TypeAlias = Literal["gap", "repeat", "reorder", "tear"]
FRAME_FAULT_KINDS: Final[tuple[str, ...]] = get_args(Kind)


class FrameFault(Value, frozen=True, gc=False):
    """Fate of one frame: it was lost, came twice, came behind the next one, or only its first half came.

    Raises:
        LocalProtocolError: `kind` is not one of these.
    """

    kind: Kind
    frame: int
    """Its place among those that were sent, 0 for the first."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        if self.kind not in FRAME_FAULT_KINDS:
            raise LocalProtocolError(one_of("kind", self.kind, FRAME_FAULT_KINDS))


class BookHistory(Value, frozen=True, gc=False, kw_only=True):
    """A book at its beginning, every change of it, and the faults on the way."""

    symbol: str
    last: int
    """The update id at the beginning."""
    bids: tuple[Level, ...]
    """At the beginning, best first."""
    asks: tuple[Level, ...]
    deltas: tuple[Depth, ...]
    """Every change, in the order sent. Each begins one id behind the end of the one before."""
    faults: tuple[FrameFault, ...] = ()

    @property
    def sent(self) -> tuple[bytes, ...]:
        """The frames as the exchange sent them."""
        return tuple(map(encode_frame, self.deltas))

    @property
    def frames(self) -> tuple[bytes, ...]:
        """The frames as they arrive."""
        arriving = [[frame] for frame in self.sent]
        for fault in self.faults:
            if not 0 <= fault.frame < len(arriving):
                continue
            here = arriving[fault.frame]
            match fault.kind:
                case "gap":
                    here.clear()
                case "repeat":
                    here.extend(here[:1])
                case "tear":
                    here[:] = [frame[: len(frame) // 2] for frame in here]
                case "reorder" if fault.frame + 1 < len(arriving):
                    arriving[fault.frame], arriving[fault.frame + 1] = arriving[fault.frame + 1], here
        return tuple(frame for frames in arriving for frame in frames)

    def snapshot(self, deltas: int = 0) -> bytes:
        """Return the answer to a `GET /api/v1/depth` that was made when so many changes had happened.

        Raises:
            LocalProtocolError: there were not so many changes.
        """
        if not 0 <= deltas <= len(self.deltas):
            raise LocalProtocolError(f"deltas: from 0 to {len(self.deltas)}, got {deltas}")
        last = self.deltas[deltas - 1].last_update_id if deltas else self.last
        bids, asks = (tuple(Level(*level) for level in side.items()) for side in self.levels_at(last))
        engine_us = self.deltas[deltas - 1].engine_us if deltas else 0
        return depth_answer(sorted(bids, reverse=True), sorted(asks), last=last, engine_us=engine_us)

    def levels_at(self, update_id: int) -> Sides:
        """Return the quantity at each price of both sides, as the exchange had them at an update id.

        Raises:
            LocalProtocolError: no frame ends at that id, so the exchange never showed the book at it.
        """
        bids = {price: quantity for price, quantity in self.bids}  # noqa: C416 - a level is no tuple for the type checker
        asks = {price: quantity for price, quantity in self.asks}  # noqa: C416 - as above
        last = self.last
        for delta in self.deltas:
            if last >= update_id:
                break
            _apply(bids, delta.bids)
            _apply(asks, delta.asks)
            last = delta.last_update_id
        if last != update_id:
            raise LocalProtocolError(f"update_id: no frame of this history ends at {update_id}")
        return bids, asks


def _apply(side: dict[Decimal, Decimal], changed: tuple[Level, ...]) -> None:
    for price, quantity in changed:
        if quantity:
            side[price] = quantity
        else:
            side.pop(price, None)

"""The vocabulary of the matching engine: orders, fills, and the effects of one event on a book.

Prices are ticks and quantities lots, both whole numbers.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

__all__ = ["CROWD", "Change", "Match", "OrderSide", "OrderTimeInForce", "Outcome", "Refusal", "RestingOrder", "SelfTrade"]

CROWD = 0
"""Owner of the orders of the crowd."""


class OrderSide(StrEnum):
    """Side of an order, in the exchange's words."""

    BID = "Bid"
    ASK = "Ask"

    @property
    def other(self) -> OrderSide:
        """The side that it trades with."""
        return OrderSide.ASK if self is OrderSide.BID else OrderSide.BID


class OrderTimeInForce(StrEnum):
    """Fate of the part that cannot be filled at once: it rests, or it is given up. `FOK` wants all or no fill."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class SelfTrade(StrEnum):
    """Which order yields when two of one owner meet."""

    REJECT_TAKER = "RejectTaker"
    REJECT_MAKER = "RejectMaker"
    REJECT_BOTH = "RejectBoth"


class Refusal(StrEnum):
    """Why an order had no effect at all."""

    WOULD_TAKE = "a post-only order would have taken"
    CANNOT_FILL = "a fill-or-kill order could not be filled"


class RestingOrder(Struct, gc=False):
    """An order in the book."""

    order_id: int
    owner: int
    side: OrderSide
    price: int
    remaining: int


class Match(Struct, frozen=True, gc=False):
    """One trade between a resting order (maker) and an arriving one (taker)."""

    trade_id: int
    price: int
    lots: int
    taker_side: OrderSide
    taker_id: int
    taker_owner: int
    maker_id: int
    maker_owner: int
    maker_remaining: int


class Change(Struct, frozen=True, gc=False):
    """The new absolute quantity of one price level. Zero says that it is gone."""

    side: OrderSide
    price: int
    lots: int


class Outcome(Struct, frozen=True, gc=False, kw_only=True):
    """Effects of one call on the book."""

    update_id: int | None
    """The event's id, or None when the book did not change."""
    order_id: int | None = None
    """The id that the submitted order got."""
    fills: tuple[Match, ...] = ()
    changes: tuple[Change, ...] = ()
    """Each level once, in the order in which they were touched."""
    resting: int = 0
    """Lots of the submitted order that now rest."""
    given_up: int = 0
    """Lots of the submitted order that neither traded nor rest."""
    removed: tuple[RestingOrder, ...] = ()
    """Resting orders that left without being filled: cancelled, or yielding to an order of their own owner."""
    refusal: Refusal | None = None

"""Orders that wait for a price, and the take profit and stop loss that come with another order (docs/protocol.md 6.3).

Theory of operation. A trigger waits outside the book, does not lock funds, and is looked at after each event of a book is published. One that
is asked for by itself fires when its price is reached from the side on which the reference stood when it was placed.

A take profit or a stop loss is placed when the order that it came with trades: for as much as that has traded, on the other side,
reduce-only on a perpetual, with the order's id as its related one. While it waits it grows with the order. On a spot market it sells at
most the bought amount less the fee. A take profit fires where the price is as good as wanted or better, a stop loss where it is as bad or
worse, even at once. Neither cancels the other: no text of the exchange says so. But without a position that they could reduce, both end as
`StopWithoutPosition`, which is a reason in the exchange's list. So where one closes the position the other goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from backpack_proto.exchange.market.listings import stripped
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.market.orders import OrderSide

from .accounts import base_units
from .order_rules import reference_ticks
from .orders import AccountOrder, Attached, OrderRequest, OrderState

__all__ = ["MOST_TRIGGERS", "Triggers", "attached_request", "is_rising", "shielded_lots"]

MOST_TRIGGERS: Final = 50
"""Triggers that may wait at a time."""


class Triggers:
    """The triggers of one account that wait, by market, oldest first."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[AccountOrder]] = {}
        self._moved: dict[str, None] = {}
        """Markets with triggers whose prices may have moved."""

    @property
    def full(self) -> bool:
        """True when no further one may wait."""
        return sum(map(len, self._waiting.values())) >= MOST_TRIGGERS

    def add(self, order: AccountOrder) -> None:
        """Let an order wait."""
        order.state = OrderState.TRIGGER_PENDING
        self._waiting.setdefault(order.symbol, []).append(order)

    def remove(self, order: AccountOrder) -> None:
        """Let an order wait no more."""
        waiting = self._waiting[order.symbol]
        waiting.remove(order)
        if not waiting:
            del self._waiting[order.symbol]

    def touch(self, symbol: str) -> None:
        """Note that prices of a market may have moved."""
        if symbol in self._waiting:
            self._moved[symbol] = None

    def moved(self) -> Iterator[str]:
        """Return the markets to be looked at, until all are done. Those that are noted meanwhile are included."""
        while self._moved:
            symbol = next(iter(self._moved))
            del self._moved[symbol]
            yield symbol

    def due(self, market: SimulatedMarket) -> Iterator[AccountOrder]:
        """Return the triggers whose price has come. Each is judged when its turn has come."""
        for order in tuple(self._waiting.get(market.symbol, ())):
            price, reference = order.request.trigger_price or 0, reference_ticks(market, order.request.trigger_by)
            if order.state is OrderState.TRIGGER_PENDING and (reference >= price if order.rising else reference <= price):
                yield order

    def orphans(self, symbol: str, lots: int) -> list[AccountOrder]:
        """Return the attached ones that could not reduce a position of signed lots."""
        return [
            order
            for order in self._waiting.get(symbol, ())
            if order.related_order_id is not None
            and order.request.reduce_only
            and (lots <= 0 if order.request.side is OrderSide.ASK else lots >= 0)
        ]


def attached_request(order: AccountOrder, attached: Attached, lots: int) -> OrderRequest:
    """Return the take profit or stop loss of an order, for so many lots of it."""
    request = order.request
    return OrderRequest(
        listing=request.listing,
        side=request.side.other,
        price=attached.limit_price,
        lots=None,
        reduce_only=True if request.listing.perpetual else None,
        self_trade=request.self_trade,
        trigger_price=attached.trigger_price,
        trigger_by=attached.trigger_by,
        trigger_quantity=stripped(lots, request.listing.quantity_decimals),
    )


def is_rising(order: AccountOrder, *, profits: bool) -> bool:
    """Tell whether the take profit of an order, or else its stop loss, waits for a higher price."""
    return (order.request.side is OrderSide.BID) is profits


def shielded_lots(order: AccountOrder) -> int:
    """Return how much of an order its take profit and stop loss are for."""
    listing = order.request.listing
    if listing.perpetual or order.request.side is OrderSide.ASK:
        return order.executed
    lots = (base_units(listing, order.executed) - order.charged) // base_units(listing, 1)
    return int(lots - lots % listing.lots_per_quantity)

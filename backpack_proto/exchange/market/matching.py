"""The matching engine of one market: price-time priority, exact.

Theory of operation. A side is a sorted list of prices and, for each, a queue of orders in the order of their arrival. A new
order first takes from the other side, best price first and oldest order first, at the resting order's price. The rest of
it rests, or is given up, as its time in force says. Everything is decided before the book is touched: an order that is refused
(post-only that would take, fill-or-kill that cannot be filled) leaves no trace.

Prices are ticks, quantities are lots, both whole numbers. Everything that one call does to the book is one event with one
update id, for any number of levels. Ids have no holes (docs/protocol.md 5.3). The engine knows owners only to keep an
owner from trading with itself. The crowd, owner 0, may.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from msgspec import Struct

from backpack_proto.errors import LocalProtocolError

from .orders import CROWD, Change, Match, OrderSide, OrderTimeInForce, Outcome, Refusal, RestingOrder, SelfTrade

__all__ = ["MatchingEngine"]


class _Level(Struct, gc=False):
    price: int
    lots: int
    orders: dict[int, RestingOrder]
    """By id, oldest first: a dict keeps the order of insertion."""


class _Half:
    """One side of the book."""

    def __init__(self, side: OrderSide) -> None:
        self.side = side
        self.prices: list[int] = []
        """Ascending, on both sides."""
        self.levels: dict[int, _Level] = {}

    def best(self) -> _Level | None:
        if not self.prices:
            return None
        return self.levels[self.prices[-1] if self.side is OrderSide.BID else self.prices[0]]

    def best_first(self) -> Iterator[_Level]:
        for price in reversed(self.prices) if self.side is OrderSide.BID else self.prices:
            yield self.levels[price]

    def add(self, order: RestingOrder) -> None:
        level = self.levels.get(order.price)
        if level is None:
            level = self.levels[order.price] = _Level(order.price, 0, {})
            insort(self.prices, order.price)
        level.orders[order.order_id] = order
        level.lots += order.remaining

    def take(self, level: _Level, order: RestingOrder, lots: int) -> None:
        """Take lots off an order, and remove an empty order and level."""
        order.remaining -= lots
        level.lots -= lots
        if order.remaining:
            return
        del level.orders[order.order_id]
        if not level.orders:
            del self.levels[level.price]
            del self.prices[bisect_left(self.prices, level.price)]


class MatchingEngine:
    """The order book of one market with the orders in it. Ids go on from those given."""

    def __init__(self, *, update_id: int, next_order_id: int, next_trade_id: int) -> None:
        self.update_id = update_id
        """Id of the last event."""
        self.orders: dict[int, RestingOrder] = {}
        """Every resting order by its id."""
        self._next_order_id = next_order_id
        self._next_trade_id = next_trade_id
        self._halves = {OrderSide.BID: _Half(OrderSide.BID), OrderSide.ASK: _Half(OrderSide.ASK)}

    def best(self, side: OrderSide) -> tuple[int, int] | None:
        """Price and quantity of the best level of a side, or None when the side is empty."""
        level = self._halves[side].best()
        return None if level is None else (level.price, level.lots)

    def prices(self, side: OrderSide) -> list[int]:
        """The prices of a side, ascending. The engine's own list, to be read only."""
        return self._halves[side].prices

    def lots_at(self, side: OrderSide, price: int) -> int:
        """The quantity resting at a price."""
        level = self._halves[side].levels.get(price)
        return 0 if level is None else level.lots

    def orders_at(self, side: OrderSide, price: int) -> Iterable[RestingOrder]:
        """The orders resting at a price, oldest first."""
        level = self._halves[side].levels.get(price)
        return () if level is None else level.orders.values()

    def levels(self, side: OrderSide) -> list[tuple[int, int]]:
        """Every level of a side as (price, lots), best first."""
        return [(level.price, level.lots) for level in self._halves[side].best_first()]

    def take_order_id(self) -> int:
        """An id for an order that will be submitted later, or never."""
        self._next_order_id += 1
        return self._next_order_id - 1

    def submit(
        self,
        side: OrderSide,
        lots: int,
        price: int | None,
        *,
        time_in_force: OrderTimeInForce = OrderTimeInForce.GTC,
        post_only: bool = False,
        owner: int = CROWD,
        self_trade: SelfTrade = SelfTrade.REJECT_TAKER,
        order_id: int | None = None,
    ) -> Outcome:
        """Take a limit order, or a market order when `price` is None. A market order never rests.

        `order_id` is one that `take_order_id` gave. Without it the order gets the next.

        Raises:
            LocalProtocolError: quantity or price is not positive, or a post-only order has no price or may not rest.
        """
        if lots < 1 or (price is not None and price < 1):
            raise LocalProtocolError(f"an order of {lots} lots at {price} ticks is no order")
        if post_only and (price is None or time_in_force is not OrderTimeInForce.GTC):
            raise LocalProtocolError("a post-only order is a limit order that rests")
        if order_id is None:
            order_id = self.take_order_id()
        against = self._halves[side.other]
        if post_only and _reaches(side, price, against.best()):
            return Outcome(update_id=None, order_id=order_id, given_up=lots, refusal=Refusal.WOULD_TAKE)
        if time_in_force is OrderTimeInForce.FOK and self._fillable(side, lots, price, owner, self_trade) < lots:
            return Outcome(update_id=None, order_id=order_id, given_up=lots, refusal=Refusal.CANNOT_FILL)

        left = lots
        fills: list[Match] = []
        removed: list[RestingOrder] = []
        touched: dict[tuple[OrderSide, int], None] = {}
        yielded = False
        while left and not yielded:
            level = against.best()
            if level is None or not _reaches(side, price, level):
                break
            maker = next(iter(level.orders.values()))
            if maker.owner == owner != CROWD:
                yielded = self_trade is not SelfTrade.REJECT_MAKER
                if self_trade is not SelfTrade.REJECT_TAKER:
                    touched[against.side, level.price] = None
                    removed.append(self._remove(maker))
                continue
            taken = min(left, maker.remaining)
            left -= taken
            touched[against.side, level.price] = None
            against.take(level, maker, taken)
            if not maker.remaining:
                del self.orders[maker.order_id]
            fills.append(
                Match(
                    trade_id=self._next_trade_id,
                    price=level.price,
                    lots=taken,
                    taker_side=side,
                    taker_id=order_id,
                    taker_owner=owner,
                    maker_id=maker.order_id,
                    maker_owner=maker.owner,
                    maker_remaining=maker.remaining,
                )
            )
            self._next_trade_id += 1

        resting = 0
        if left and not yielded and price is not None and time_in_force is OrderTimeInForce.GTC:
            resting = left
            order = RestingOrder(order_id, owner, side, price, left)
            self.orders[order_id] = order
            self._halves[side].add(order)
            touched[side, price] = None
        return Outcome(
            update_id=self._event() if touched else None,
            order_id=order_id,
            fills=tuple(fills),
            changes=self._changes(touched),
            resting=resting,
            given_up=left - resting,
            removed=tuple(removed),
        )

    def cancel(self, *order_ids: int) -> Outcome:
        """Take resting orders out, all in one event.

        Raises:
            LocalProtocolError: one of them does not rest, or is named twice. Nothing was taken out.
        """
        if len(set(order_ids)) != len(order_ids) or any(order_id not in self.orders for order_id in order_ids):
            raise LocalProtocolError(f"not every order of {order_ids} rests")
        touched: dict[tuple[OrderSide, int], None] = {}
        removed: list[RestingOrder] = []
        for order_id in order_ids:
            order = self.orders[order_id]
            touched[order.side, order.price] = None
            removed.append(self._remove(order))
        return Outcome(update_id=self._event() if touched else None, changes=self._changes(touched), removed=tuple(removed))

    def reduce(self, order_id: int, remaining: int) -> Outcome:
        """Shrink a resting order in place. It keeps its turn.

        Raises:
            LocalProtocolError: the order does not rest, or would not shrink to something positive.
        """
        order = self.orders.get(order_id)
        if order is None or not 0 < remaining < order.remaining:
            raise LocalProtocolError(f"order {order_id} cannot shrink to {remaining} lots")
        half = self._halves[order.side]
        half.take(half.levels[order.price], order, order.remaining - remaining)
        return Outcome(update_id=self._event(), changes=self._changes([(order.side, order.price)]))

    def pass_by(self) -> Outcome:
        """An event without a changed level: the id advances all the same (docs/protocol.md 4.3)."""
        return Outcome(update_id=self._event())

    def _event(self) -> int:
        self.update_id += 1
        return self.update_id

    def _changes(self, touched: Iterable[tuple[OrderSide, int]]) -> tuple[Change, ...]:
        return tuple([Change(side, price, self.lots_at(side, price)) for side, price in touched])

    def _remove(self, order: RestingOrder) -> RestingOrder:
        """Take one order out. Returns it as it was."""
        removed = RestingOrder(order.order_id, order.owner, order.side, order.price, order.remaining)
        half = self._halves[order.side]
        half.take(half.levels[order.price], order, order.remaining)
        del self.orders[order.order_id]
        return removed

    def _fillable(self, side: OrderSide, lots: int, price: int | None, owner: int, self_trade: SelfTrade) -> int:
        """Return the lots of an order that would trade at once."""
        found = 0
        for level in self._halves[side.other].best_first():
            if not _reaches(side, price, level) or found >= lots:
                break
            for order in level.orders.values():
                if order.owner != owner or owner == CROWD:
                    found += order.remaining
                elif self_trade is not SelfTrade.REJECT_MAKER:
                    return found
        return found


def _reaches(side: OrderSide, price: int | None, level: _Level | None) -> bool:
    """Return whether an order of this side and limit would trade with a level of the other side."""
    if level is None:
        return False
    return price is None or (level.price <= price if side is OrderSide.BID else level.price >= price)

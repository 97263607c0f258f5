"""The orders of an account: a pure fold over both sources.

Theory of operation. The executed quantity of an order only grows and its end is final, so rows that are behind have no effect. But what the
exchange lists as open is open: a row that is behind the known state is a claim, and a claim that the next round repeats is taken.

The cumulative executed quantity decides how much is missing. For every order that was followed from its birth, executed = quantity
executed before the ledger + its reported fills. `unbalanced` returns the orders for which that fails.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal

from msgspec.structs import asdict, replace

from backpack_proto.streams.payloads import OrderFill, OrderUpdate

from .fills import EXACT, ReportedFills
from .pasts import PastOrders
from .values import ZERO, Fill, Order, OrderChanged, Origin

__all__ = ["Orders", "executed"]

ORDER_MOVES = (
    "symbol",
    "side",
    "state",
    "executed_quantity",
    "executed_quote_quantity",
    "quantity",
    "price",
    "client_id",
)
"""The members of an order whose changes are reported. Others are taken over in silence, for only one source may know them."""


class Orders:
    """The known orders: open ones, and those that have ended as far as they may be listed again."""

    def __init__(self, fills: ReportedFills) -> None:
        self.past = PastOrders()
        self._fills = fills
        self._known: dict[str, Order] = {}
        self._bases: dict[str, Decimal] = {}
        """Executed quantity before the ledger, of each order that was followed from its birth."""
        self._unsettled: dict[str, None] = {}
        """Those of them that are open, or that something was reported of since they were found to be balanced."""
        self._ahead: set[str] = set()
        """Orders whose executed quantity is that of a reading: updates that it contained may still come."""
        self._claims: dict[str, tuple[str, Decimal]] = {}
        """State and executed quantity of rows that were behind the known state."""

    def __getitem__(self, order_id: str) -> Order:
        return self._known[order_id]

    def __contains__(self, order_id: object) -> bool:
        return order_id in self._known

    @property
    def open(self) -> dict[str, Order]:
        """By order id."""
        return {order_id: order for order_id, order in self._known.items() if order.open}

    @property
    def claimed(self) -> Iterable[str]:
        """The orders of which a reading said less than was known."""
        return self._claims

    def executed(self, order_id: str) -> Decimal:
        """Return the executed quantity of an order, 0 of one that is not known."""
        return executed(self._known[order_id]) if order_id in self._known else ZERO

    def accounted(self, order_id: str) -> Decimal | None:
        """Return the sum of an order's reported fills and of its executions before the ledger, or None unless followed from its birth."""
        base = self._bases.get(order_id)
        return None if base is None else EXACT.add(base, self._fills.quantity(order_id))

    def unbalanced(self) -> Iterator[tuple[str, Decimal, Decimal]]:
        """Return the orders whose fills do not add up to their executed quantity: id, executed, and the sum of the fills."""
        for order_id in self._unsettled:
            total = self.accounted(order_id)
            if total is not None and order_id in self._known and executed(self._known[order_id]) != total:
                yield order_id, executed(self._known[order_id]), total

    def touch(self, order_id: str) -> None:
        """Take note that something was reported of an order or of its fills."""
        if order_id in self._bases:
            self._unsettled[order_id] = None

    def contradiction(self, update: OrderUpdate) -> str | None:
        """Return the contradiction between an update and the known state."""
        order_id = str(update.order_id)
        expected = known = self.executed(order_id)
        if isinstance(update, OrderFill):
            fill = Fill.of(update)
            if fill is None:
                return f"a fill of order {order_id} without quantity or price"
            # Whether one without an id is new, only the sum can say.
            new = update.executed_quantity > known if fill.trade_id is None else not self._fills.knows(fill)
            expected = EXACT.add(known, fill.quantity) if new else known
        if update.executed_quantity == expected or (update.executed_quantity < expected and order_id in self._ahead):
            return None
        return f"order {order_id} executed {update.executed_quantity}, its fills make {expected}"

    def contains(self, update: OrderUpdate) -> bool:
        """Return whether the reported fills make up all that is known to be executed, that of the update included."""
        order_id = str(update.order_id)
        total = self.accounted(order_id)
        return total is not None and update.executed_quantity <= self.executed(order_id) <= total

    def hear(self, update: OrderUpdate) -> None:
        """Take note of an update before its fill is reported: an order without executions is followed from its birth."""
        order_id = str(update.order_id)
        self._claims.pop(order_id, None)
        self.past.hear(order_id, update.engine_us // 1000)
        own = update.fill_quantity if isinstance(update, OrderFill) else None
        if order_id not in self._known and update.executed_quantity == (own or ZERO):
            self._bases.setdefault(order_id, ZERO)
        self.touch(order_id)

    def apply(self, update: OrderUpdate) -> list[OrderChanged]:
        """Take the order of an update."""
        order_id = str(update.order_id)
        changes = self._put(Order.of(update), Origin.STREAM)
        if update.executed_quantity >= self.executed(order_id):
            self._ahead.discard(order_id)
        return changes

    def see_birth(self, order: Order) -> None:
        """Follow a listed order from its birth if all of its fills were reported or listed at the ledger's beginning."""
        if order.order_id in self._known or not self._fills.from_ms or order.created_us is None:
            return
        if order.created_us // 1000 >= self._fills.from_ms:
            self._bases.setdefault(order.order_id, self._fills.quantity_before(order.order_id))
            self.touch(order.order_id)

    def is_news(self, order: Order) -> bool:
        """Return whether the end of an order may be new: the order is known, or was created since the ledger began."""
        return order.order_id in self._known or self.past.is_since(order)

    def take_row(self, order: Order, *, insist: bool = False) -> list[OrderChanged]:
        """Take a row of a reading. The second time that it is behind the known state, or if it is insisted on, it counts."""
        if self.is_behind(order) and not insist:
            return []
        repeated = self._claims.pop(order.order_id, None) is not None
        insist = insist or repeated
        if insist or executed(order) >= self.executed(order.order_id):
            self._ahead.add(order.order_id)
        return self._put(order, Origin.RECONCILIATION, insist=insist)

    def is_behind(self, order: Order) -> bool:
        """Return whether a row is behind the known state and did not say the same the last time. It is remembered until then."""
        known = self._known.get(order.order_id)
        if known is None or not _is_behind(order, known):
            self._claims.pop(order.order_id, None)
            return False
        claim = (order.state, executed(order))
        if self._claims.get(order.order_id) == claim:
            return False
        self._claims[order.order_id] = claim
        return True

    def close_round(self, open_ids: Collection[str], listed: Iterable[Order], ended: Iterable[Order]) -> None:
        """Take note of a complete round: the open orders, the past ones as they were listed, and those that have ended."""
        for order_id in self._claims.keys() - open_ids:
            del self._claims[order_id]
        unbalanced = {order_id for order_id, _, _ in self.unbalanced()}
        self._unsettled = {
            order_id: None
            for order_id in self._unsettled
            if order_id in unbalanced or order_id not in self._known or self._known[order_id].open
        }
        unknown = [order for order in ended if order.order_id not in self._known and self.past.is_since(order)]
        self.past.move_cursor(listed, unknown)
        for order_id in self.past.forgotten(self._known):
            del self._known[order_id]
            self._bases.pop(order_id, None)
            self._unsettled.pop(order_id, None)
            self._ahead.discard(order_id)
            self._fills.forget_order(order_id)

    def _put(self, order: Order, origin: Origin, *, insist: bool = False) -> list[OrderChanged]:
        known = self._known.get(order.order_id)
        if known is not None and not insist and _is_behind(order, known):
            # An end is final, and so are executions: the other source is behind.
            return []
        self.past.see(order)
        self.touch(order.order_id)
        order = _completed(order, known, insist=insist)
        if known is not None and not any(getattr(order, name) != getattr(known, name) for name in ORDER_MOVES):
            # With the digits in which they were reported first.
            self._known[order.order_id] = replace(order, **{name: getattr(known, name) for name in ORDER_MOVES})
            return []
        self._known[order.order_id] = order
        return [OrderChanged(order=order, origin=origin)]


def executed(order: Order) -> Decimal:
    """Return the executed quantity. History leaves it out where it is zero."""
    return order.executed_quantity or ZERO


def _is_behind(order: Order, known: Order) -> bool:
    return order.open and (not known.open or executed(order) < executed(known))


def _completed(order: Order, known: Order | None, *, insist: bool) -> Order:
    """Return an order with the members that its source leaves out and the other one has reported."""
    merged = {} if known is None else {name: value for name, value in asdict(known).items() if getattr(order, name) is None}
    known = None if insist else known
    merged["executed_quantity"] = max(executed(of) for of in (order, known) if of is not None)
    merged["executed_quote_quantity"] = max(of.executed_quote_quantity or ZERO for of in (order, known) if of is not None)
    return replace(order, **merged)

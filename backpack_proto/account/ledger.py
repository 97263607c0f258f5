"""What is known of an account: a pure fold over updates of the streams and rounds of readings, without clocks.

Theory of operation. Balances and positions are absolute. The executed quantity of an order only grows and the end of an order is final,
whichever source reports them, so what is behind changes nothing. An update that a reading already contained changes nothing or is
followed by the one that the reading was ahead by.

What the exchange lists as open is open: a row that is behind what is known is a claim, and a claim that the next round repeats is taken.
An open order that is not listed any more has ended if history says how. Until then it is open and doubted, and is looked up again.

The cumulative executed quantity decides how much is missing, rows of fills add only price and fee. For every order that was followed from
its birth, executed = what it executed before the ledger + its reported fills. `unbalanced` tells the orders for which that fails.

What cannot be proved is doubted by itself (`doubts`): rows that cannot be read, orders whose end or fills are not known, and whatever
reading again did not mend. The rest of the ledger is live.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias, TypeVar

from msgspec.structs import asdict, replace

from backpack_proto.streams.payloads import BalanceUpdate, Event, OrderFill, OrderUpdate, PositionUpdate

from .fills import EXACT, ReportedFills
from .pasts import PastOrders
from .readings import Read
from .rounds import LookUp, Round
from .subjects import Kind, Subject
from .values import (
    ZERO,
    AccountDoubted,
    Balance,
    BalanceChanged,
    Fill,
    Filled,
    Order,
    OrderChanged,
    Origin,
    Position,
    PositionChanged,
)

__all__ = ["Ledger", "Update", "subject_of"]

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
"""The members of an order whose changes are reported; others are taken over in silence, for only one source may know them."""
POSITION_MOVES = ("net_quantity", "entry_price", "break_even_price")
"""Likewise of a position, whose mark price and profit move all the time."""

Changing = TypeVar("Changing", Order, Position)
Update: TypeAlias = OrderUpdate | PositionUpdate | BalanceUpdate


class Ledger:
    """Orders, positions, balances and reported fills."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        """Open ones, and those that have ended as far as they may be listed again."""
        self.positions: dict[str, Position] = {}
        """By symbol, with closed ones."""
        self.balances: dict[str, Balance] = {}
        self.fills = ReportedFills()
        self.past = PastOrders()
        self.doubts: dict[Subject, str] = {}
        self.unmended: dict[Subject, str] = {}
        """What stayed different though it was read again, and was taken as the exchange lists it."""
        self._bases: dict[str, Decimal] = {}
        """Of each order that was followed from its birth: what it had executed before the ledger."""
        self._ahead: set[str] = set()
        """Orders whose executed quantity is that of a reading: updates that it contained may still come."""
        self._claims: dict[str, tuple[str, Decimal]] = {}
        """State and executed quantity of rows that were behind what is known."""
        self._unreadable_fills: dict[str, None] = {}
        self._shown_doubts: tuple[str, ...] = ()

    @property
    def open_orders(self) -> dict[str, Order]:
        """By order id."""
        return {order_id: order for order_id, order in self.orders.items() if order.open}

    @property
    def open_positions(self) -> dict[str, Position]:
        """By symbol."""
        return {symbol: position for symbol, position in self.positions.items() if position.net_quantity}

    # Updates of the streams.

    def contradiction(self, update: Update) -> str | None:
        """Return what an update says that cannot follow from what is known."""
        if not isinstance(update, OrderUpdate):
            return None
        order_id = str(update.order_id)
        known = self.orders.get(order_id)
        executed = ZERO if known is None else _executed(known)
        if isinstance(update, OrderFill):
            fill = Fill.of(update)
            if fill is None:
                return f"a fill of order {order_id} without quantity or price"
            # Whether one without an id is new, only the sum can say.
            new = update.executed_quantity > executed if fill.trade_id is None else not self.fills.knows(fill)
            executed = EXACT.add(executed, fill.quantity) if new else executed
        if update.executed_quantity == executed or (update.executed_quantity < executed and order_id in self._ahead):
            return None
        return f"order {order_id} executed {update.executed_quantity}, its fills make {executed}"

    def apply(self, update: Update, *, fill_heard: bool = False) -> list[Event]:
        """Take an update; return what it changed. `fill_heard`: its fill has been taken already."""
        match update:
            case PositionUpdate():
                return self._put_position(Position.of(update), Origin.STREAM)
            case BalanceUpdate():
                return self._put_balance(Balance.of(update), Origin.STREAM)
        order_id = str(update.order_id)
        self._claims.pop(order_id, None)
        self.past.hear(order_id, update.engine_us // 1000)
        if order_id not in self.orders:
            own = (update.fill_quantity or ZERO) if isinstance(update, OrderFill) else ZERO
            if update.executed_quantity == own:
                self._bases.setdefault(order_id, ZERO)
        fills = [] if fill_heard else self.hear_fill(update)
        changes = self._put_order(Order.of(update), Origin.STREAM)
        if update.executed_quantity >= _executed(self.orders[order_id]):
            self._ahead.discard(order_id)
        return [*fills, *changes]

    def hear_fill(self, update: Update) -> list[Event]:
        """Take the fill of an update, if it is one, and nothing else: it happened, whatever is known besides."""
        if not isinstance(update, OrderFill) or (fill := Fill.of(update)) is None:
            return []
        known = self.orders.get(fill.order_id)
        base = self._bases.get(fill.order_id)
        # What a reading contained has been reported if nothing is missing of it.
        contained = (
            known is not None
            and base is not None
            and update.executed_quantity <= _executed(known)
            and EXACT.add(base, self.fills.quantity(fill.order_id)) >= _executed(known)
        )
        return [self._report(fill, Origin.STREAM)] if self.fills.hear(fill, contained=contained) else []

    # Rounds of readings.

    def round(self) -> Round:
        """Return a new round that reads from the cursors on."""
        return Round(self.fills.read_from_ms(), self.past.since_ms)

    def look_ups(self, read: Round, mentioned: Collection[str], *, live: bool) -> list[LookUp]:
        """Return the orders to look up when all lists of a round are read.

        `mentioned` are the ids of orders of which the streams have reported something meanwhile. A live ledger has only doubted orders
        looked up: for the others an absence is a contradiction.
        """
        found: list[LookUp] = []
        for order_id, order in self.open_orders.items():
            doubted = Subject(Kind.ORDER, order_id) in self.doubts
            if not self._listed(read, order_id) and order_id not in mentioned and (doubted or not live):
                past = read.past_orders.get(order_id)
                if past is None or past.open:
                    found.append(LookUp(Read.ORDER, order_id, order.symbol))
        for order_id in self.unbalanced():
            doubted = Subject(Kind.ORDER, order_id) in self.doubts
            found += [LookUp(Read.ORDER_FILLS, order_id, self.orders[order_id].symbol)] * (
                doubted and order_id not in mentioned
            )
        return found

    def merge(self, read: Round, kept: Sequence[Update], insisted: Collection[Subject] = ()) -> tuple[list[Event], int]:
        """Take a whole round over, and put on top the updates that came meanwhile; return the changes and the number of new fills.

        What is `insisted` on is taken as the exchange lists it, though it is behind what is known.
        """
        ended = [order for order in read.ended_orders() if self._is_news(order)]
        for order in (*read.orders.values(), *ended):
            self._see_birth(order)
        untold = self._new_fills(read, [*read.orders.values(), *ended])
        events: list[Event] = [self._report(fill, Origin.RECONCILIATION) for fill in sorted(untold, key=_in_order)]
        for order in (*read.orders.values(), *ended):
            insist = Subject(Kind.ORDER, order.order_id) in insisted
            events += self._put_listed(order, insist=insist)
        for symbol in sorted(self.positions.keys() - read.positions.keys()):
            if Subject(Kind.POSITION, symbol) not in read.unreadable:
                events += self._put_position(_closed(self.positions[symbol]), Origin.RECONCILIATION)
        for position in read.positions.values():
            events += self._put_position(position, Origin.RECONCILIATION)
        for asset in sorted(self.balances.keys() - read.balances.keys()):
            if Subject(Kind.BALANCE, asset) not in read.unreadable:
                events += self._put_balance(_nothing(asset), Origin.RECONCILIATION)
        for balance in read.balances.values():
            events += self._put_balance(balance, Origin.RECONCILIATION)
        for update in kept:
            events += self.apply(update, fill_heard=True)
        mentioned = {key for update in kept for kind, key in [subject_of(update)] if kind is Kind.ORDER}
        self._close_round(read)
        return [*events, *self._doubt(read, mentioned, settled=False)], len(untold)

    def settle(self, read: Round, moved: Collection[Subject]) -> list[Event]:
        """Take from a round what concerns doubted orders, but for those that have moved since; return the changes."""
        doubted = {subject.key for subject in self.doubts if subject.kind is Kind.ORDER and subject not in moved}
        rows = [order for order in (*read.orders.values(), *read.ended_orders()) if order.order_id in doubted]
        fills = [fill for fill in self._new_fills(read, rows) if fill.order_id in doubted]
        events: list[Event] = [self._report(fill, Origin.RECONCILIATION) for fill in sorted(fills, key=_in_order)]
        for order in rows:
            events += self._put_listed(order, insist=False)
        return events

    def agree(self, read: Round, moved: Collection[Subject]) -> list[Event]:
        """Take note of a round that was compared with the ledger; return the change of what is doubted."""
        self._close_round(read)
        return self._doubt(read, {subject.key for subject in moved if subject.kind is Kind.ORDER}, settled=True)

    def differences(self, read: Round, moved: Collection[Subject]) -> Iterator[tuple[Subject, str]]:
        """Hold the ledger against a round, but for what has moved since and what is doubted already."""
        left_out = {*moved, *read.unreadable, *self.doubts.keys() - self.unmended.keys()}
        yield from self._order_differences(read, left_out)
        held, said = self.open_positions, read.positions
        for symbol in sorted({*held, *said}):
            subject = Subject(Kind.POSITION, symbol)
            here = held[symbol].net_quantity if symbol in held else ZERO
            there = said[symbol].net_quantity if symbol in said else ZERO
            if here != there and subject not in left_out:
                yield subject, f"position {symbol}: {here} here, {there} by REST"
        for asset in sorted({*self.balances, *read.balances}):
            subject = Subject(Kind.BALANCE, asset)
            ours, theirs = (balances.get(asset, _nothing(asset)) for balances in (self.balances, read.balances))
            if ours != theirs and subject not in left_out:
                yield subject, f"balance of {asset}: {_shown(ours)} here, {_shown(theirs)} by REST"

    def _order_differences(self, read: Round, left_out: Collection[Subject]) -> Iterator[tuple[Subject, str]]:
        mine, theirs = self.open_orders, read.orders
        for order_id in sorted({*mine, *theirs}):
            subject = Subject(Kind.ORDER, order_id)
            here = _executed(mine[order_id]) if order_id in mine else None
            there = _executed(theirs[order_id]) if order_id in theirs else None
            if here != there and subject not in left_out:
                if order_id in theirs:
                    self._is_behind(theirs[order_id])
                yield subject, f"open order {order_id}: executed {here} here, {there} by REST"
        for order in read.ended_orders():
            subject = Subject(Kind.ORDER, order.order_id)
            if order.order_id not in self.orders and self._is_news(order) and subject not in left_out:
                yield subject, f"order {order.order_id} was {order.state}, and no stream reported it"
        for fill in self._new_fills(read, ()):
            subject = Subject(Kind.ORDER, fill.order_id)
            if subject not in left_out:
                trade = "a trade without id" if fill.trade_id is None else f"trade {fill.trade_id}"
                yield subject, f"{trade} of order {fill.order_id} was never reported by the stream"

    def unbalanced(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Return the orders followed from their birth whose fills do not make what they executed: executed, and the sum of the fills."""
        found: dict[str, tuple[Decimal, Decimal]] = {}
        for order_id, base in self._bases.items():
            order = self.orders.get(order_id)
            total = EXACT.add(base, self.fills.quantity(order_id))
            if order is not None and _executed(order) != total:
                found[order_id] = (_executed(order), total)
        return found

    def _doubt(self, read: Round, mentioned: Collection[str], *, settled: bool) -> list[Event]:
        """Work out what is doubted after a round; an event if that has changed.

        Right after readings were merged an order may lag behind its fills, for it was read before them; once `settled` it may not.
        """
        doubts = dict.fromkeys(sorted(read.unreadable), "its row cannot be read")
        for order_id, order in self.open_orders.items():
            if not self._listed(read, order_id) and order_id not in mentioned:
                past = read.looked_up.get(order_id) or read.past_orders.get(order_id)
                said = "nor how it ended" if past is None else f"history says {past.state}"
                doubts[Subject(Kind.ORDER, order.order_id)] = f"REST does not list it as open, {said}"
        for order_id in self._claims:
            doubts.setdefault(Subject(Kind.ORDER, order_id), "REST lists less than was reported of it")
        for order_id, (executed, total) in self.unbalanced().items():
            if order_id not in mentioned and (settled or executed > total):
                doubts.setdefault(Subject(Kind.ORDER, order_id), f"it executed {executed}, its fills make {total}")
        for order_id in self._unreadable_fills:
            doubts.setdefault(Subject(Kind.ORDER, order_id), "a fill of it cannot be read")
        self.doubts = doubts | self.unmended
        return self._doubts_changed(doubts | self.unmended)

    def _doubts_changed(self, doubts: Mapping[Subject, str]) -> list[Event]:
        shown = tuple(f"{subject}: {reason}" for subject, reason in doubts.items())
        changed, self._shown_doubts = shown != self._shown_doubts, shown
        return [AccountDoubted(doubts=shown)] if changed else []

    def _listed(self, read: Round, order_id: str) -> bool:
        return order_id in read.orders or Subject(Kind.ORDER, order_id) in read.unreadable

    def _is_news(self, order: Order) -> bool:
        """Whether the end of an order may be new: the order is known, or was created since the ledger began."""
        return order.order_id in self.orders or self.past.is_since(order)

    def _see_birth(self, order: Order) -> None:
        """Follow an order from its birth if all of its fills were reported or listed at the ledger's beginning."""
        if order.order_id in self.orders or order.order_id in self._bases or not self.fills.from_ms:
            return
        if order.created_us is not None and order.created_us // 1000 >= self.fills.from_ms:
            self._bases[order.order_id] = self.fills.quantity_before(order.order_id)

    def _new_fills(self, read: Round, rows: Sequence[Order]) -> list[Fill]:
        """Return the fills of a round that were not reported; `rows` are the orders as the round has them."""
        executed = {order.order_id: _executed(order) for order in rows}
        new: list[Fill] = []
        totals: dict[str, Decimal] = {}
        for fill in self.fills.unreported(read.all_fills()):
            order_id, base = fill.order_id, self._bases.get(fill.order_id)
            if base is not None:
                so_far = totals.get(order_id, EXACT.add(base, self.fills.quantity(order_id)))
                totals[order_id] = EXACT.add(so_far, fill.quantity)
                known = self.orders.get(order_id)
                most = max(executed.get(order_id, ZERO), ZERO if known is None else _executed(known))
                if fill.trade_id is None and totals[order_id] > most:
                    # The sum is what counts: nothing is missing that this row could be.
                    totals[order_id] = so_far
                    continue
            new.append(fill)
        return new

    def _close_round(self, read: Round) -> None:
        self.fills.move_cursor(read.fills)
        self._unreadable_fills.update(dict.fromkeys(sorted(read.unreadable_fills)))
        balanced = self._bases.keys() - self.unbalanced().keys()
        self._unreadable_fills = {order_id: None for order_id in self._unreadable_fills if order_id not in balanced}
        unknown = [order for order in read.ended_orders() if order.order_id not in self.orders and self.past.is_since(order)]
        self.past.move_cursor(read.past_orders.values(), unknown)
        for order_id in self.past.forgotten(self.orders):
            del self.orders[order_id]
            self._bases.pop(order_id, None)
            self._ahead.discard(order_id)
            self._unreadable_fills.pop(order_id, None)
            self.fills.forget_order(order_id)

    # Single values.

    def _report(self, fill: Fill, origin: Origin) -> Filled:
        self.fills.report(fill)
        return Filled(fill=fill, origin=origin)

    def _put_listed(self, order: Order, *, insist: bool) -> list[Event]:
        """Take a row of a reading; the second time that it is behind what is known, it is what counts."""
        known = self.orders.get(order.order_id)
        if self._is_behind(order) and known is not None and not insist:
            return []
        insist = insist or (known is not None and order.order_id in self._claims)
        self._claims.pop(order.order_id, None)
        if known is None or _executed(order) >= _executed(known) or insist:
            self._ahead.add(order.order_id)
        return self._put_order(order, Origin.RECONCILIATION, insist=insist)

    def _is_behind(self, order: Order) -> bool:
        """Whether a row is behind what is known, and was not so the last time; it is remembered until then."""
        known = self.orders.get(order.order_id)
        claim = (order.state, _executed(order))
        if known is None or not (order.open and (not known.open or _executed(order) < _executed(known))):
            self._claims.pop(order.order_id, None)
            return False
        if self._claims.get(order.order_id) == claim:
            return False
        self._claims[order.order_id] = claim
        return True

    def _put_order(self, order: Order, origin: Origin, *, insist: bool = False) -> list[Event]:
        known = self.orders.get(order.order_id)
        if known is not None and not insist and order.open and (not known.open or _executed(order) < _executed(known)):
            # What has ended stays so, and what was executed stays executed: the other source is behind.
            return []
        self.past.see(order)
        order = _completed(order, known, insist=insist)
        if known is not None and not _moved(order, known, ORDER_MOVES):
            self.orders[order.order_id] = _resting(order, known, ORDER_MOVES)
            return []
        self.orders[order.order_id] = order
        return [OrderChanged(order=order, origin=origin)]

    def _put_position(self, position: Position, origin: Origin) -> list[Event]:
        known = self.positions.get(position.symbol)
        if known is None and not position.net_quantity:
            return []
        if known is not None and not _moved(position, known, POSITION_MOVES):
            self.positions[position.symbol] = _resting(position, known, POSITION_MOVES)
            return []
        self.positions[position.symbol] = position
        return [PositionChanged(position=position, origin=origin)]

    def _put_balance(self, balance: Balance, origin: Origin) -> list[Event]:
        if balance == self.balances.get(balance.asset):
            return []
        self.balances[balance.asset] = balance
        return [BalanceChanged(balance=balance, origin=origin)]


def subject_of(update: Update) -> Subject:
    """Return what an update is about."""
    match update:
        case OrderUpdate():
            return Subject(Kind.ORDER, str(update.order_id))
        case PositionUpdate():
            return Subject(Kind.POSITION, update.symbol)
        case BalanceUpdate():
            return Subject(Kind.BALANCE, update.asset)
    raise TypeError(f"not an update: {type(update).__name__}")


def _completed(order: Order, known: Order | None, *, insist: bool) -> Order:
    """Return an order with what its source leaves out and the other one has reported."""
    merged = {} if known is None else {name: value for name, value in asdict(known).items() if getattr(order, name) is None}
    known = None if insist else known
    merged["executed_quantity"] = max(_executed(of) for of in (order, known) if of is not None)
    merged["executed_quote_quantity"] = max(of.executed_quote_quantity or ZERO for of in (order, known) if of is not None)
    return replace(order, **merged)


def _executed(order: Order) -> Decimal:
    """Return the executed quantity; history leaves it out where it is zero."""
    return order.executed_quantity or ZERO


def _closed(position: Position) -> Position:
    """Return what is known of a position that REST does not list any more."""
    return Position(
        symbol=position.symbol,
        position_id=position.position_id,
        net_quantity=ZERO,
        entry_price=position.entry_price,
        break_even_price=position.break_even_price,
    )


def _nothing(asset: str) -> Balance:
    return Balance(asset=asset, available=ZERO, locked=ZERO, staked=ZERO)


def _shown(balance: Balance) -> str:
    return f"{balance.available:f} available, {balance.locked:f} locked, {balance.staked:f} staked"


def _moved(new: Changing, known: Changing, members: Sequence[str]) -> bool:
    return any(getattr(new, name) != getattr(known, name) for name in members)


def _resting(new: Changing, known: Changing, members: Sequence[str]) -> Changing:
    """Return a value whose members that count are equal to the known ones, with the digits in which they were reported first."""
    return replace(new, **{name: getattr(known, name) for name in members})


def _in_order(fill: Fill) -> tuple[int, bool, int]:
    """Return the key that sorts fills: by time, then by trade id, settlements first."""
    return (fill.listed_ms, fill.trade_id is not None, fill.trade_id or 0)

"""The known state of an account: a pure fold over updates of the streams and rounds of readings, without clocks.

Theory of operation. Balances and positions are absolute. Orders and fills have rules of their own (`orders`, `fills`). An update that a
reading already contained has no effect or is followed by the one that the reading was ahead by.

Margin and funding payments are those that REST lists (`standing`, `funding`). No stream reports them.

An open order that is not listed any more has ended if history says how. Until then it is open and doubted, and is looked up again. So are
all parts that cannot be proved (`doubts`): rows that cannot be read, orders that lack fills, and differences that remained after another reading. The
rest of the ledger is live.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal

from msgspec.structs import replace

from backpack_proto.streams.payloads import BalanceUpdate, Event, OrderFill, OrderUpdate, PositionUpdate

from .fills import EXACT, ReportedFills
from .funding import FundingPayments
from .margin import FundingPaid
from .orders import Orders, executed
from .readings import Read
from .rounds import MARGIN, LookUp, Round
from .standing import Standing, Update
from .subjects import Kind, Subject
from .values import (
    ZERO,
    AccountDoubted,
    Balance,
    BalanceChanged,
    Fill,
    Filled,
    Order,
    Origin,
    Position,
    PositionChanged,
)

__all__ = ["Ledger", "Update", "subject_of"]

POSITION_MOVES = ("net_quantity", "entry_price", "break_even_price")
"""The members of a position whose changes are reported. Its mark price and profit move all the time."""


class Ledger:
    """Orders, positions, balances, margin, reported fills and funding."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.funding = FundingPayments()
        self.fills = ReportedFills()
        self.orders = Orders(self.fills)
        self.positions: dict[str, Position] = {}
        """By symbol, with closed ones."""
        self.balances: dict[str, Balance] = {}
        self.doubts: dict[Subject, str] = {}
        self.unmended: dict[Subject, str] = {}
        """Subjects that stayed different though they were read again, and were taken as the exchange lists them."""
        self._unreadable_fills: dict[str, None] = {}
        """Orders of which a fill could not be read."""
        self._shown_doubts: tuple[str, ...] = ()

    @property
    def open_positions(self) -> dict[str, Position]:
        """By symbol."""
        return {symbol: position for symbol, position in self.positions.items() if position.net_quantity}

    # Updates of the streams.

    def contradiction(self, update: Update) -> str | None:
        """Return the contradiction between an update and the known state."""
        return self.orders.contradiction(update) if isinstance(update, OrderUpdate) else None

    def apply(self, update: Update) -> list[Event]:
        """Take an update. Return the changes."""
        match update:
            case PositionUpdate():
                return self._put_position(Position.of(update), Origin.STREAM)
            case BalanceUpdate():
                return self._put_balance(Balance.of(update), Origin.STREAM)
        self.orders.hear(update)
        return [*self.hear_fill(update), *self.orders.apply(update)]

    def hear_fill(self, update: Update) -> list[Event]:
        """Take only the fill of an update, if it is one: it happened, even if the rest is not known."""
        if not isinstance(update, OrderFill) or (fill := Fill.of(update)) is None:
            return []
        return [self._report(fill, Origin.STREAM)] if self.fills.hear(fill, contained=self.orders.contains(update)) else []

    def _apply_kept(self, update: Update) -> list[Event]:
        """Take an update whose fill was taken when it came."""
        if not isinstance(update, OrderUpdate):
            return self.apply(update)
        self.orders.hear(update)
        return [*self.orders.apply(update)]

    # Rounds of readings.

    def round(self, *, audit: bool) -> Round:
        """Return a new round that reads from the cursors on."""
        funding_from_us = self.funding.since_us
        if funding_from_us is None and self.funding.begun:
            # There was no state before, so all of this is news.
            funding_from_us = 0
        return Round(self.fills.read_from_ms(), self.orders.past.since_ms, audit=audit, funding_from_us=funding_from_us)

    def margin_round(self) -> Round:
        """Return a new round that reads the margin alone."""
        return Round(None, None, audit=True, plan=MARGIN)

    def look_ups(self, read: Round, mentioned: Collection[str], *, live: bool) -> list[LookUp]:
        """Return the orders to look up when all lists of a round are read.

        `mentioned` are the ids of orders of which the streams have reported something meanwhile. A live ledger has only doubted orders
        looked up: for the others an absence is a contradiction.
        """
        found: list[LookUp] = []
        for order_id, order in self.orders.open.items():
            doubted = Subject(Kind.ORDER, order_id) in self.doubts
            if order_id in mentioned or _is_listed(read, order_id) or (live and not doubted):
                continue
            past = read.past_orders.get(order_id)
            if past is None or past.open:
                found.append(LookUp(Read.ORDER, order_id, order.symbol))
        for order_id, _, _ in self.orders.unbalanced():
            if order_id not in mentioned and Subject(Kind.ORDER, order_id) in self.doubts:
                found.append(LookUp(Read.ORDER_FILLS, order_id, self.orders[order_id].symbol))
        return found

    def merge(self, read: Round, kept: Sequence[Update], insisted: Collection[Subject] = ()) -> tuple[list[Event], int]:
        """Take a whole round over, and put on top the updates that came meanwhile. Return the changes and the number of new fills.

        Subjects that are `insisted` on are taken as the exchange lists them, even where they are behind the known state.
        """
        rows = [*read.orders.values(), *(order for order in read.ended_orders() if self.orders.is_news(order))]
        for order in rows:
            self.orders.see_birth(order)
        fills = self._new_fills(read, rows)
        events: list[Event] = self._report_all(fills)
        for order in rows:
            events += self.orders.take_row(order, insist=Subject(Kind.ORDER, order.order_id) in insisted)
        for symbol in sorted(self.positions.keys() - read.positions.keys()):
            if not read.hides(Subject(Kind.POSITION, symbol)):
                events += self._put_position(_closed(self.positions[symbol]), Origin.RECONCILIATION)
        for position in read.positions.values():
            events += self._put_position(position, Origin.RECONCILIATION)
        for asset in sorted(self.balances.keys() - read.balances.keys()):
            if not read.hides(Subject(Kind.BALANCE, asset)):
                events += self._put_balance(_nothing(asset), Origin.RECONCILIATION)
        for balance in read.balances.values():
            events += self._put_balance(balance, Origin.RECONCILIATION)
        events += self._take_funding(read)
        events += self.standing.take(read)
        for update in kept:
            events += self._apply_kept(update)
        self._close_round(read)
        return [*events, *self._doubt(read, {subject_of(update) for update in kept}, settled=False)], len(fills)

    def settle(self, read: Round, moved: Collection[Subject]) -> list[Event]:
        """Take from a round the rows of doubted orders, except for those that have moved since. Return the changes."""
        doubted = {subject.key for subject in self.doubts if subject.kind is Kind.ORDER and subject not in moved}
        rows = [order for order in (*read.orders.values(), *read.ended_orders()) if order.order_id in doubted]
        events = self._report_all([fill for fill in self._new_fills(read, rows) if fill.order_id in doubted])
        for order in rows:
            events += self.orders.take_row(order)
        return events

    def agree(self, read: Round, moved: Collection[Subject]) -> list[Event]:
        """Take note of a round that was compared with the ledger. Return its news, and the change of the doubts."""
        events = [*self.take_margin(read, moved), *self._take_funding(read)]
        self._close_round(read)
        return [*events, *self._doubt(read, moved, settled=True)]

    def take_margin(self, read: Round, moved: Collection[Subject]) -> list[Event]:
        """Take from a round the parts that only REST reports: the margin, and details of positions that are still the same ones."""
        events: list[Event] = []
        for symbol, position in read.positions.items():
            known = self.positions.get(symbol)
            same = known is not None and known.net_quantity == position.net_quantity
            if same and Subject(Kind.POSITION, symbol) not in moved:
                events += self._put_position(position, Origin.RECONCILIATION)
        return [*events, *self.standing.take(read)]

    def _take_funding(self, read: Round) -> list[Event]:
        if Subject(Kind.FUNDING, "") in read.problems:
            return []
        payments = self.funding.take(read.funding)
        return [FundingPaid(payment=payment, origin=Origin.RECONCILIATION) for payment in payments]

    def differences(self, read: Round, moved: Collection[Subject]) -> Iterator[tuple[Subject, str]]:
        """Compare the ledger with a round, except for parts that have moved since or are doubted already."""
        left_out = {*moved, *read.unreadable, *self.doubts.keys() - self.unmended.keys()}
        yield from self._order_differences(read, left_out)
        held, said = self.open_positions, read.positions
        for symbol in sorted({*held, *said}):
            subject = Subject(Kind.POSITION, symbol)
            here = held[symbol].net_quantity if symbol in held else ZERO
            there = said[symbol].net_quantity if symbol in said else ZERO
            if here != there and subject not in left_out and (symbol in said or not read.hides(subject)):
                yield subject, f"position {symbol}: {here} here, {there} by REST"
        for asset in sorted({*self.balances, *read.balances}):
            subject = Subject(Kind.BALANCE, asset)
            ours, theirs = (balances.get(asset, _nothing(asset)) for balances in (self.balances, read.balances))
            if ours != theirs and subject not in left_out and (asset in read.balances or not read.hides(subject)):
                yield subject, f"balance of {asset}: {_shown(ours)} here, {_shown(theirs)} by REST"

    def _order_differences(self, read: Round, left_out: Collection[Subject]) -> Iterator[tuple[Subject, str]]:
        mine, theirs = self.orders.open, read.orders
        for order_id in sorted({*mine, *theirs}):
            subject = Subject(Kind.ORDER, order_id)
            here = executed(mine[order_id]) if order_id in mine else None
            there = executed(theirs[order_id]) if order_id in theirs else None
            if here != there and subject not in left_out and (order_id in theirs or not read.hides(subject)):
                if order_id in theirs:
                    # The next round may repeat it, and then it counts.
                    self.orders.is_behind(theirs[order_id])
                yield subject, f"open order {order_id}: executed {here} here, {there} by REST"
        for order in read.ended_orders():
            subject = Subject(Kind.ORDER, order.order_id)
            if order.order_id not in self.orders and self.orders.is_news(order) and subject not in left_out:
                yield subject, f"order {order.order_id} was {order.state}, and no stream reported it"
        for fill in self._new_fills(read, ()):
            subject = Subject(Kind.ORDER, fill.order_id)
            if subject not in left_out:
                trade = "a trade without id" if fill.trade_id is None else f"trade {fill.trade_id}"
                yield subject, f"{trade} of order {fill.order_id} was never reported by the stream"

    def _doubt(self, read: Round, moved: Collection[Subject], *, settled: bool) -> list[Event]:
        """Work out the doubts after a round. Return an event if they have changed.

        Right after readings were merged an order may lag behind its fills, for it was read before them. Once `settled` it may not.
        """
        doubts = dict.fromkeys(sorted(read.unreadable), "its row cannot be read") | read.problems
        for order_id in self.orders.open:
            subject = Subject(Kind.ORDER, order_id)
            if not _is_listed(read, order_id) and subject not in moved:
                past = read.looked_up.get(order_id) or read.past_orders.get(order_id)
                said = "nor how it ended" if past is None else f"history says {past.state}"
                doubts[subject] = f"REST does not list it as open, {said}"
        for order_id in self.orders.claimed:
            doubts.setdefault(Subject(Kind.ORDER, order_id), "REST lists less than was reported of it")
        for order_id, done, total in self.orders.unbalanced():
            subject = Subject(Kind.ORDER, order_id)
            if subject not in moved and (settled or done > total):
                doubts.setdefault(subject, f"it executed {done}, its fills make {total}")
        for order_id in self._unreadable_fills:
            doubts.setdefault(Subject(Kind.ORDER, order_id), "a fill of it cannot be read")
        self.doubts = doubts | self.unmended
        shown = tuple(f"{subject}: {reason}" for subject, reason in self.doubts.items())
        changed, self._shown_doubts = shown != self._shown_doubts, shown
        return [AccountDoubted(doubts=shown)] if changed else []

    def _new_fills(self, read: Round, rows: Sequence[Order]) -> list[Fill]:
        """Return the fills of a round that were not reported. `rows` are the orders as the round has them."""
        listed = {order.order_id: executed(order) for order in rows}
        new: list[Fill] = []
        totals: dict[str, Decimal] = {}
        for fill in self.fills.unreported(read.all_fills()):
            order_id = fill.order_id
            so_far = totals.get(order_id, self.orders.accounted(order_id))
            if so_far is not None:
                total = EXACT.add(so_far, fill.quantity)
                if fill.trade_id is None and total > max(listed.get(order_id, ZERO), self.orders.executed(order_id)):
                    # The sum counts: no fill is missing that this row could be.
                    continue
                totals[order_id] = total
            new.append(fill)
        return new

    def _close_round(self, read: Round) -> None:
        self.fills.move_cursor(read.fills)
        self._unreadable_fills.update(dict.fromkeys(sorted(read.unreadable_fills)))
        for order_id in [*self._unreadable_fills]:
            # Where the sum is right, no fill is missing.
            if self.orders.accounted(order_id) == self.orders.executed(order_id):
                del self._unreadable_fills[order_id]
        self.orders.close_round(read.orders.keys(), read.past_orders.values(), read.ended_orders())

    # Single values.

    def _report_all(self, fills: Sequence[Fill]) -> list[Event]:
        return [self._report(fill, Origin.RECONCILIATION) for fill in sorted(fills, key=_in_order)]

    def _report(self, fill: Fill, origin: Origin) -> Filled:
        self.fills.report(fill)
        self.orders.touch(fill.order_id)
        return Filled(fill=fill, origin=origin)

    def _put_position(self, position: Position, origin: Origin) -> list[Event]:
        known = self.positions.get(position.symbol)
        if known is None and not position.net_quantity:
            return []
        if known is not None and not any(getattr(position, name) != getattr(known, name) for name in POSITION_MOVES):
            # With the digits in which they were reported first.
            self.positions[position.symbol] = replace(position, **{name: getattr(known, name) for name in POSITION_MOVES})
            return []
        self.positions[position.symbol] = position
        return [PositionChanged(position=position, origin=origin)]

    def _put_balance(self, balance: Balance, origin: Origin) -> list[Event]:
        if balance == self.balances.get(balance.asset):
            return []
        self.balances[balance.asset] = balance
        return [BalanceChanged(balance=balance, origin=origin)]


def subject_of(update: Update) -> Subject:
    """Return the subject of an update."""
    match update:
        case OrderUpdate():
            return Subject(Kind.ORDER, str(update.order_id))
        case PositionUpdate():
            return Subject(Kind.POSITION, update.symbol)
        case BalanceUpdate():
            return Subject(Kind.BALANCE, update.asset)
    raise TypeError(f"not an update: {type(update).__name__}")


def _is_listed(read: Round, order_id: str) -> bool:
    return order_id in read.orders or read.hides(Subject(Kind.ORDER, order_id))


def _closed(position: Position) -> Position:
    """Return the last known state of a position that REST does not list any more."""
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
    return f"{balance.available} available, {balance.locked} locked, {balance.staked} staked"


def _in_order(fill: Fill) -> tuple[int, bool, int]:
    """Return the key that sorts fills: by time, then by trade id, settlements first."""
    return (fill.listed_ms, fill.trade_id is not None, fill.trade_id or 0)

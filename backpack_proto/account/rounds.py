"""One round of readings: its next request, and its answers so far.

A round reads all lists, in the order of `ALL`, for a later reading must not be older than an earlier one. Then it
looks up, one by one, the orders whose end is not known and those that lack fills. A round of `MARGIN` reads just the inputs of the margin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from backpack_proto.machine import Now
from backpack_proto.rest.results.account import BorrowLendPosition, Collateral, FundingPayment

from .fills import OVERLAP_MS, ListedKey, numbered
from .readings import (
    FUNDING_PAGE,
    ORDERS_PAGE,
    PAGE,
    BalancesRead,
    CollateralRead,
    FillsRead,
    FundingRead,
    LoansRead,
    OpenOrdersRead,
    OrderFillsRead,
    OrderRead,
    PastOrdersRead,
    PositionsRead,
    Read,
    ReadAccount,
    Reading,
)
from .subjects import Kind, Subject
from .values import Balance, Fill, Order, Position

__all__ = ["ALL", "MARGIN", "Attempts", "Beginning", "LookUp", "Round", "created_ms", "funding_page", "orders_page"]

ALL: Final = (
    Read.OPEN_ORDERS,
    Read.POSITIONS,
    Read.COLLATERAL,
    Read.BALANCES,
    Read.LOANS,
    Read.FUNDING,
    Read.FILLS,
    Read.PAST_ORDERS,
)
MARGIN: Final = (Read.POSITIONS, Read.COLLATERAL)


class Attempts:
    """Numbers of readings. One for each that is asked for."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Return a number that no other reading has."""
        self._last += 1
        return self._last


class LookUp(NamedTuple):
    """An order that is looked up by itself."""

    what: Read
    """Its end or its fills."""
    order_id: str
    symbol: str


class Round:
    """The answers of one round of readings."""

    def __init__(
        self,
        fills_from_ms: int | None,
        orders_from_ms: int | None,
        *,
        audit: bool,
        funding_from_us: int | None = None,
        plan: Sequence[Read] = ALL,
    ) -> None:
        """Make a round that reads fills, past orders and funding from these times on. `audit` says that it checks a live ledger."""
        self.orders: dict[str, Order] = {}
        """The open ones."""
        self.positions: dict[str, Position] = {}
        self.collateral: Collateral | None = None
        self.balances: dict[str, Balance] = {}
        self.loans: tuple[BorrowLendPosition, ...] | None = None
        self.funding: list[FundingPayment] = []
        """The newest first. A page may repeat some."""
        self.problems: dict[Subject, str] = {}
        """The parts that the exchange does not tell, and why."""
        self.sent: dict[Read, Now] = {}
        """When the first reading of each kind was asked for, or sent: its rows are not older."""
        self.fills: dict[ListedKey, Fill] = {}
        self.past_orders: dict[str, Order] = {}
        """From history, the last created first."""
        self.looked_up: dict[str, Order | None] = {}
        """The orders that were looked up, None where history does not have them."""
        self.order_fills: dict[str, dict[ListedKey, Fill]] = {}
        self.unreadable: set[Subject] = set()
        self.unreadable_fills: set[str] = set()
        """Ids of orders that have fills whose rows cannot be read."""
        self.listed = False
        """All lists are read. Single orders remain."""
        self._audit = audit
        self._fills_from_ms = fills_from_ms
        self._orders_from_ms = orders_from_ms
        self._funding_from_us = funding_from_us
        self._lists = deque(plan)
        self._offset = 0
        self._look_ups: deque[LookUp] = deque()

    def look_up(self, orders: Iterable[LookUp]) -> None:
        """Read these orders too."""
        self._look_ups.extend(orders)

    def next(self, attempts: Attempts) -> ReadAccount | None:
        """Return the next reading to ask for, or None at the end."""
        order_id, symbol, since_ms = None, None, None
        if self._lists:
            what = self._lists[0]
            since_ms = self._fills_from_ms if what is Read.FILLS else None
        elif self._look_ups:
            what, order_id, symbol = self._look_ups.popleft()
        else:
            return None
        return ReadAccount(
            attempt=attempts.next(),
            what=what,
            since_ms=since_ms,
            offset=self._offset,
            order_id=order_id,
            symbol=symbol,
            audit=self._audit,
        )

    def leave(self, asked: ReadAccount, now: Now) -> None:
        """Take note that something is asked for, or has just been sent."""
        if not asked.offset:
            self.sent[asked.what] = now

    def take(self, asked: ReadAccount, given: Reading) -> None:
        """Take the answer to the last request."""
        match given:
            case CollateralRead(collateral=collateral):
                self.collateral = collateral
                self._lack(Kind.MARGIN, given.problem)
                self._lists.popleft()
            case LoansRead(loans=loans):
                self.loans = None if given.problem else loans
                self._refuse(Kind.LOANS, given.unreadable)
                self._lack(Kind.LOANS, given.problem)
                self._lists.popleft()
            case FundingRead(payments=payments):
                self.funding += payments
                self._refuse(Kind.FUNDING, given.unreadable)
                self._lack(Kind.FUNDING, given.problem)
                self._turn(given.rows, funding_page(self._offset), more=_pays_on(payments, self._funding_from_us))
            case OpenOrdersRead(orders=orders):
                self.orders = {order.order_id: order for order in orders}
                self._refuse(Kind.ORDER, given.unreadable)
                self._lists.popleft()
            case PositionsRead(positions=positions):
                self.positions = {position.symbol: position for position in positions}
                self._refuse(Kind.POSITION, given.unreadable)
                self._lists.popleft()
            case BalancesRead(balances=balances):
                self.balances = {balance.asset: balance for balance in balances}
                self._refuse(Kind.BALANCE, given.unreadable)
                self._lists.popleft()
            case FillsRead(fills=fills):
                self.fills |= numbered(fills)
                self.unreadable_fills.update(given.unreadable)
                self._turn(given.rows, PAGE, more=True)
            case PastOrdersRead(orders=orders):
                self.past_orders |= {order.order_id: order for order in orders if order.order_id not in self.past_orders}
                # An order whose end cannot be read has no known end. The lookup by its id comes to the same row.
                self._refuse(Kind.ORDER, (order_id for order_id in given.unreadable if order_id not in self.orders))
                self._turn(given.rows, orders_page(self._offset), more=_reaches_on(orders, self._orders_from_ms))
                self.listed = not self._lists
            case OrderRead(order=order):
                self.looked_up[asked.order_id or ""] = order
            case OrderFillsRead(fills=fills):
                self.order_fills[asked.order_id or ""] = numbered(fills)
                self.unreadable_fills.update(given.unreadable)

    def ended_orders(self) -> Iterator[Order]:
        """Return the orders that history says have ended, the first created first."""
        looked_up = {order_id: order for order_id, order in self.looked_up.items() if order is not None}
        rows = {**dict(reversed(self.past_orders.items())), **looked_up}
        return (order for order in rows.values() if not order.open)

    def hides(self, subject: Subject) -> bool:
        """Return whether a row that cannot be read is, or may be, that of this subject: it is then not absent."""
        return subject in self.unreadable or Subject(subject.kind, "") in self.unreadable

    def all_fills(self) -> dict[ListedKey, Fill]:
        """Return the listed fills and those of the orders that were looked up."""
        rows = dict(self.fills)
        for fills in self.order_fills.values():
            rows |= fills
        return rows

    def _refuse(self, kind: Kind, keys: Iterable[str]) -> None:
        self.unreadable.update(Subject(kind, key) for key in keys)

    def _lack(self, kind: Kind, problem: str | None) -> None:
        if problem is not None:
            self.problems[Subject(kind, "")] = problem

    def _turn(self, rows: int, page: int, *, more: bool) -> None:
        """Go on to the next page if this one is full and there may be more that is wanted."""
        if rows >= page and more:
            self._offset += rows
        else:
            self._offset = 0
            self._lists.popleft()


class Beginning:
    """Lists of the exchange when the ledger begins: past orders first, so that no fill is from before whose order is not."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.fills: dict[ListedKey, Fill] = {}
        self.orders_newest_ms: int | None = None
        """Of the first page."""
        self.fills_newest_ms: int | None = None
        self.complete = False
        self._what = Read.PAST_ORDERS
        self._offset = 0

    def next(self, attempts: Attempts) -> ReadAccount:
        """Return the next reading to ask for."""
        return ReadAccount(attempt=attempts.next(), what=self._what, offset=self._offset)

    def take(self, given: PastOrdersRead | FillsRead) -> None:
        """Take a page. Rows that came since the first page was read, and moved the others on, are not from before."""
        if isinstance(given, PastOrdersRead):
            times = [created_ms(order) for order in given.orders]
            newest_ms = self.orders_newest_ms = (
                max(times, default=0) if self.orders_newest_ms is None else self.orders_newest_ms
            )
            self.orders |= {order.order_id: order for order in given.orders if created_ms(order) <= newest_ms}
            self._turn(given.rows, orders_page(self._offset), times, newest_ms)
            return
        times = [fill.listed_ms for fill in given.fills]
        newest_ms = self.fills_newest_ms = max(times, default=0) if self.fills_newest_ms is None else self.fills_newest_ms
        self.fills |= numbered(fill for fill in given.fills if fill.listed_ms <= newest_ms)
        self._turn(given.rows, PAGE, times, newest_ms)

    def _turn(self, rows: int, page: int, times: list[int], newest_ms: int) -> None:
        if rows >= page and min(times, default=-1) >= max(newest_ms - OVERLAP_MS, 0):
            self._offset += rows
        elif self._what is Read.PAST_ORDERS:
            self._what = Read.FILLS
            self._offset = 0
        else:
            self.complete = True


def orders_page(offset: int) -> int:
    """Return how many past orders are asked for at once: few at first, and many where these were not all."""
    return PAGE if offset else ORDERS_PAGE


def funding_page(offset: int) -> int:
    """Return how many funding payments are asked for at once."""
    return PAGE if offset else FUNDING_PAGE


def created_ms(order: Order) -> int:
    """When an order was created, in the grain that REST lists it in, or 0 where that is not known."""
    return (order.created_us or 0) // 1000


def _reaches_on(orders: tuple[Order, ...], from_ms: int | None) -> bool:
    """Return whether the next page can hold orders that are wanted."""
    return min(map(created_ms, orders), default=-1) >= (from_ms or 0)


def _pays_on(payments: tuple[FundingPayment, ...], from_us: int | None) -> bool:
    """Return whether the next page can hold payments that are wanted. Without a time to go back to, the newest are enough."""
    return from_us is not None and min((payment.interval_end_us for payment in payments), default=-1) >= from_us

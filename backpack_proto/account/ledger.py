"""The ledger of an account: open orders, fills, positions and balances that survive reconnects without a hole.

Theory of operation. The private streams tell changes and, but for positions, never a beginning (docs/protocol.md 4.10 to 4.12). So
whenever they are requested the ledger is SYNCING: updates are kept while open orders, positions, balances and the fills since the
last known one are read by REST, in that order, for what a later reading tells must not be older than what an earlier one did.
But for the beginning (below) nothing is read before IN_FORCE_US have passed, for a subscription is never acknowledged. The readings
are merged, the kept updates are applied on top, and the ledger is LIVE.

Which fills are told. Our clock has no say: the bounds are times that the exchange itself listed. The ledger's beginning is the
answer to its first reading, of the newest fills, asked for together with the first subscription: what it lists back to OVERLAP_MS
before its newest is from before the ledger, as is all that is older still. What the order stream tells is never from before, for
it tells nothing but what happens; neither is what happened after the first thing that it told. Everything else is told once, by
whoever knows it first: a stream's fill at once, the others when a round of readings is complete. The cursor, from which fills are
read, follows the newest fill of each complete round, OVERLAP_MS behind it, and nothing else moves it: a fill of the stream does not
prove that those before it came.

Why the result is right: fills are a set by trade id, executed quantities and ends of orders only ever grow, and balances and positions
are absolute. An update that a reading already contained changes nothing or is followed by the one that the reading was ahead by.
An open order that a reading lacks, and no kept update mentions, ended while nobody listened: how, its history says.

LIVE, every AUDIT_US all is read again and compared, leaving out what moved meanwhile. A contradiction, there or within the streams,
is told as `AccountDiverged`, and everything is read anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum, auto
from typing import TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import asdict, replace

from backpack_proto.backoff import Backoff
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, Transitions
from backpack_proto.streams.channels import IN_FORCE_US
from backpack_proto.streams.payloads import BalanceUpdate, Event, OrderFill, OrderUpdate, PositionUpdate
from backpack_proto.text import printable

from .readings import (
    PAGE,
    AccountEnded,
    AccountRequested,
    BalancesRead,
    FillsRead,
    OpenOrdersRead,
    OrderRead,
    PositionsRead,
    Read,
    ReadAccount,
    ReadFailed,
    Reading,
    ReadingRequested,
)
from .values import (
    ZERO,
    AccountDiverged,
    AccountStale,
    AccountSynced,
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

__all__ = ["Account", "AccountInput", "AccountOutput", "AccountState"]

RETRY = Backoff(base_us=1_000_000, cap_us=30_000_000)
"""When the account is read again after a reading that failed."""
AUDIT_US = 60_000_000
OVERLAP_MS = 60_000
"""How far before the newest listed fill the fills are read again: they may become visible late, and out of order."""
GRAIN_MS = 600_000
"""Fills are read from a whole multiple of this on: a little more, so that the same ten minutes give the same request, which is what
finds the answer in a recording."""
REMEMBERED_FILLS = 100_000
"""More only of those that can be listed again: none within the overlap is ever forgotten."""
REMEMBERED_ORDERS = 20_000
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
"""The members of an order of which a change is told; others are taken over in silence, for only one source may know them."""
POSITION_MOVES = ("net_quantity", "entry_price", "break_even_price")
"""Likewise of a position, whose mark price and profit move all the time."""
ANSWER_US = 30_000_000
"""How long one reading may take once it is requested; waiting for the request budget does not count."""
FillKey: TypeAlias = tuple[str, int | None, str]
Value = TypeVar("Value", Order, Position)
Update: TypeAlias = OrderUpdate | PositionUpdate | BalanceUpdate
AccountInput: TypeAlias = AccountRequested | AccountEnded | Update | ReadingRequested | Reading | ReadFailed | TimerFired
AccountOutput: TypeAlias = Event | ReadAccount

GRACE_US = 2_000_000
"""How long a check waits for updates that were on their way when it read."""


class AccountState(Enum):
    """How far the ledger is to be trusted."""

    IDLE = auto()
    """The streams are not there."""
    SETTLING = auto()
    """The streams are requested; of REST the ledger's beginning is asked for, if it is not known."""
    READING = auto()
    LIVE = auto()


class _Contradiction(Struct, frozen=True, gc=False):
    """The two sources do not agree, whichever input showed it."""


_S = AccountState
_UPDATES = (OrderUpdate, PositionUpdate, BalanceUpdate)
_ANSWERS: Mapping[Read, type[Reading]] = {
    Read.OPEN_ORDERS: OpenOrdersRead,
    Read.POSITIONS: PositionsRead,
    Read.BALANCES: BalancesRead,
    Read.FILLS: FillsRead,
    Read.ORDER: OrderRead,
}
_READINGS = (*_ANSWERS.values(),)
TRANSITIONS = Transitions(
    [
        *((state, AccountRequested, _S.SETTLING) for state in AccountState),
        *((state, AccountEnded, _S.IDLE) for state in AccountState),
        *((state, reading, state) for state in AccountState for reading in (*_READINGS, ReadFailed, ReadingRequested)),
        (_S.SETTLING, TimerFired, _S.READING),
        (_S.READING, TimerFired, _S.READING),
        (_S.LIVE, TimerFired, _S.LIVE),
        (_S.IDLE, TimerFired, _S.IDLE),
        *((_S.READING, reading, _S.LIVE) for reading in _READINGS),
        (_S.LIVE, _Contradiction, _S.READING),
    ]
)


class _Readings:
    """What one round of reading has brought so far."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.positions: dict[str, Position] = {}
        self.balances: dict[str, Balance] = {}
        self.fills: dict[FillKey, Fill] = {}
        self.fills_offset = 0
        self.newest_ms: int | None = None
        """Of the first page."""
        self.vanished: list[Order] = []
        self.complete = False


class Account:
    """One account's ledger; a machine. Takes `AccountInput`, gives events and `ReadAccount`."""

    def __init__(self) -> None:
        self.state = AccountState.IDLE
        self._orders: dict[str, Order] = {}
        self._positions: dict[str, Position] = {}
        self._balances: dict[str, Balance] = {}
        self._fills: dict[FillKey, int] = {}
        """Those that were told, and when they were, by the exchange's clock."""
        self._before: frozenset[FillKey] | None = None
        """Those from before this ledger that may be listed again; None until its beginning is known."""
        self._told_from_ms = 0
        """What REST lists from before this is from before the ledger, or was told and forgotten."""
        self._since_ms: int | None = None
        """The cursor; None while the exchange has listed no fill at all."""
        self._heard_ms: int | None = None
        """When the first thing happened that the order stream told, by the exchange's clock."""
        self._settled_us = 0
        self._synced_us = 0
        self._kept: list[Update] = []
        self._readings = _Readings()
        self._touched: set[str] = set()
        """What the streams told of while a check was reading."""
        self._attempt = 0
        self._asked: ReadAccount | None = None
        """What an answer is waited for."""
        self._timer_us: int | None = None
        self._failures = 0

    @property
    def deadline(self) -> int | None:
        """Of settling, of a reading, of the next try or the next check."""
        return self._timer_us

    @property
    def awaited(self) -> int | None:
        """The attempt whose reading is awaited; that of any other one can be withdrawn."""
        return None if self._asked is None else self._asked.attempt

    @property
    def live(self) -> bool:
        """Whether the ledger follows the exchange; otherwise it is what was known last."""
        return self.state is AccountState.LIVE

    @property
    def open_orders(self) -> Mapping[str, Order]:
        """By order id."""
        return {order_id: order for order_id, order in self._orders.items() if order.open}

    @property
    def positions(self) -> Mapping[str, Position]:
        """By symbol; those that are open."""
        return {symbol: position for symbol, position in self._positions.items() if position.net_quantity}

    @property
    def balances(self) -> Mapping[str, Balance]:
        """By asset."""
        return dict(self._balances)

    def handle(self, given: AccountInput, now: Now) -> Sequence[AccountOutput]:
        """Take an update, a reading or a timer; return what changed, and what to read.

        Raises:
            LocalProtocolError: an input of another kind.
        """
        if isinstance(given, _UPDATES):
            return self._update(given, now)
        TRANSITIONS.check(self.state, given)
        match given:
            case AccountRequested():
                return self._request(given, now)
            case AccountEnded(reason):
                outputs = self._stale(reason)
                self._enter(AccountState.IDLE, given, None)
                return outputs
            case TimerFired():
                return self._timer_fired(given, now)
            case ReadingRequested(attempt):
                if attempt == self.awaited:
                    self._timer_us = now.mono_us + ANSWER_US
                return []
            case ReadFailed(reason=reason):
                return self._read_failed(reason, now) if self._expected(given) else []
            case OpenOrdersRead() | PositionsRead() | BalancesRead() | FillsRead() | OrderRead():
                return self._read(given, now) if self._expected(given) else []
        raise TypeError(f"not an input of an account: {type(given).__name__}")

    def _request(self, given: AccountRequested, now: Now) -> list[AccountOutput]:
        outputs: list[AccountOutput] = [AccountStale(reason="it is being read")]
        self._kept.clear()
        self._failures = 0
        self._settled_us = now.mono_us + IN_FORCE_US
        self._enter(AccountState.SETTLING, given, self._settled_us)
        # Pages of the beginning that a lost connection left stay: the earlier it is, the less is taken for being from before.
        return outputs if self._before is not None else [*outputs, self._ask(Read.FILLS)]

    def _stale(self, reason: str) -> list[AccountOutput]:
        return [AccountStale(reason=reason)] if self.live else []

    def _enter(self, state: AccountState, given: AccountInput | _Contradiction, timer_us: int | None) -> None:
        self.state = TRANSITIONS.step(self.state, given, state)
        self._asked = None
        self._timer_us = timer_us

    def _expected(self, given: Reading | ReadFailed) -> bool:
        """Whether this answers what was asked last; late answers of rounds that were given up do not."""
        asked = self._asked
        if asked is None or given.attempt != asked.attempt:
            return False
        if not isinstance(given, (ReadFailed, _ANSWERS[asked.what])):
            return False
        if isinstance(given, OrderRead) and given.order is not None and given.order.order_id != asked.order_id:
            return False
        self._asked = None
        return True

    def _timer_fired(self, given: TimerFired, now: Now) -> Sequence[AccountOutput]:
        if self._timer_us is None or now.mono_us < self._timer_us:
            return []
        if self._asked is not None:
            self._asked = None
            return self._read_failed("no answer in time", now)
        if self._before is None:
            return [self._ask(Read.FILLS)]
        if self.state is not AccountState.LIVE:
            self._enter(AccountState.READING, given, None)
        elif self._readings.complete:
            return self._compare(now)
        return self._begin()

    def _begin(self) -> list[AccountOutput]:
        """Start a round of readings."""
        self._readings = _Readings()
        self._touched.clear()
        return [self._ask(Read.OPEN_ORDERS)]

    def _ask(self, what: Read, order: Order | None = None) -> ReadAccount:
        self._attempt += 1
        self._timer_us = None
        if what is Read.FILLS:
            since_ms = None if self._since_ms is None else max(self._since_ms // GRAIN_MS * GRAIN_MS, 0)
            asked = ReadAccount(attempt=self._attempt, what=what, since_ms=since_ms, offset=self._readings.fills_offset)
        elif order is not None:
            asked = ReadAccount(attempt=self._attempt, what=what, order_id=order.order_id, symbol=order.symbol)
        else:
            asked = ReadAccount(attempt=self._attempt, what=what)
        self._asked = asked
        return asked

    def _read_failed(self, reason: str, now: Now) -> list[AccountOutput]:
        if self.live:
            self._readings = _Readings()
            self._timer_us = now.mono_us + AUDIT_US
            return []
        self._failures += 1
        retry_us = RETRY.delay_us(self._failures)
        self._timer_us = now.mono_us + retry_us
        return [AccountStale(reason=f"{reason}; read again in {retry_us / 1_000_000:g} s")]

    def _read(self, given: Reading, now: Now) -> Sequence[AccountOutput]:
        readings = self._readings
        match given:
            case FillsRead(fills=fills) if self._before is None:
                return self._read_beginning(fills, now)
            case OpenOrdersRead(orders=orders):
                readings.orders = {order.order_id: order for order in orders}
                return [self._ask(Read.POSITIONS)]
            case PositionsRead(positions=positions):
                readings.positions = {position.symbol: position for position in positions}
                return [self._ask(Read.BALANCES)]
            case BalancesRead(balances=balances):
                readings.balances = {balance.asset: balance for balance in balances}
                return [self._ask(Read.FILLS)]
            case FillsRead(fills=fills):
                # A fill that comes meanwhile moves the others to later pages, so a page may repeat some and misses none.
                readings.fills |= {fill.key: fill for fill in fills}
                if len(fills) >= PAGE:
                    readings.fills_offset += len(fills)
                    return [self._ask(Read.FILLS)]
                readings.vanished = [] if self.live else self._vanished()
            case OrderRead(order=order):
                gone = readings.vanished.pop(0)
                readings.orders[gone.order_id] = order or replace(gone, state="Unknown")
        if readings.vanished:
            return [self._ask(Read.ORDER, readings.vanished[0])]
        readings.complete = True
        if self.live:
            self._timer_us = now.mono_us + GRACE_US
            return []
        return self._merge(given, now)

    def _read_beginning(self, fills: Sequence[Fill], now: Now) -> Sequence[AccountOutput]:
        """Take a page of the ledger's beginning: what it lists is from before, but for what happened after something heard."""
        readings = self._readings
        if readings.newest_ms is None:
            readings.newest_ms = max(map(_listed_ms, fills), default=0)
        # What happened since the first page was read, and moved the others on, is not from before.
        readings.fills |= {fill.key: fill for fill in fills if _listed_ms(fill) <= readings.newest_ms}
        start_ms = max(readings.newest_ms - OVERLAP_MS, 0)
        if len(fills) >= PAGE and min(map(_listed_ms, fills)) >= start_ms:
            readings.fills_offset += len(fills)
            return [self._ask(Read.FILLS)]
        listed, heard_ms = readings.fills.values(), self._heard_ms
        self._before = frozenset(
            fill.key for fill in listed if _listed_ms(fill) >= start_ms and (heard_ms is None or _listed_ms(fill) < heard_ms)
        )
        if listed:
            self._told_from_ms = self._since_ms = start_ms if heard_ms is None else min(start_ms, heard_ms)
        self._readings = _Readings()
        self._failures = 0
        self._timer_us = max(self._settled_us, now.mono_us)
        return []

    def _vanished(self) -> list[Order]:
        mentioned = {str(update.order_id) for update in self._kept if isinstance(update, OrderUpdate)}
        return [
            order
            for order_id, order in self._orders.items()
            if order.open and order_id not in self._readings.orders and order_id not in mentioned
        ]

    def _merge(self, given: Reading, now: Now) -> list[AccountOutput]:
        """Take the readings over, and put on top what the streams told meanwhile."""
        readings = self._readings
        outputs: list[AccountOutput] = []
        untold = filter(self._untold, readings.fills.values())
        outputs += [self._tell(fill, Origin.RECONCILIATION) for fill in sorted(untold, key=_in_order)]
        fills = len(outputs)
        for order in readings.orders.values():
            outputs += self._put_order(order, Origin.RECONCILIATION)
        for symbol in sorted(self._positions.keys() - readings.positions.keys()):
            outputs += self._put_position(_closed(self._positions[symbol]), Origin.RECONCILIATION)
        for position in readings.positions.values():
            outputs += self._put_position(position, Origin.RECONCILIATION)
        for asset in sorted(self._balances.keys() - readings.balances.keys()):
            outputs += self._put_balance(Balance(asset=asset, available=ZERO, locked=ZERO, staked=ZERO), Origin.RECONCILIATION)
        for balance in readings.balances.values():
            outputs += self._put_balance(balance, Origin.RECONCILIATION)
        kept, self._kept = self._kept, []
        for update in kept:
            outputs += self._apply(update)
        self._move_cursor()
        self._readings = _Readings()
        self._failures = 0
        self._synced_us = now.mono_us
        self._enter(AccountState.LIVE, given, now.mono_us + AUDIT_US)
        return [*outputs, AccountSynced(orders=len(self.open_orders), fills=fills)]

    def _update(self, update: Update, now: Now) -> Sequence[AccountOutput]:
        if self.state is AccountState.IDLE:
            return []
        if not self.live:
            self._kept.append(update)
            if self._before is None and self._heard_ms is None and isinstance(update, OrderUpdate):
                self._heard_ms = update.engine_us // 1000
            # A fill is one whatever else is known; kept alone, it would be lost with the connection while the beginning is not known.
            return self._put_stream_fill(update)
        self._touched.update(_touches(update))
        fault = self._contradiction(update, now)
        outputs = self._apply(update)
        return outputs if fault is None else [*outputs, *self._diverge(fault)]

    def _contradiction(self, update: Update, now: Now) -> str | None:
        """What an update says that cannot follow from what is known."""
        if not isinstance(update, OrderUpdate):
            return None
        known = self._orders.get(str(update.order_id))
        executed = ZERO if known is None else _executed(known)
        if isinstance(update, OrderFill):
            fill = Fill.of(update)
            if fill is None:
                return f"a fill of order {update.order_id} without trade id, quantity or price"
            if fill.key in self._fills or fill.key in (self._before or ()):
                return None
            executed += fill.quantity
        behind = update.executed_quantity < executed and now.mono_us < self._synced_us + GRACE_US
        # Right after a reading an update may still be on its way that the reading had contained.
        if update.executed_quantity != executed and not behind:
            return f"order {update.order_id} executed {update.executed_quantity}, its fills make {executed}"
        return None

    def _apply(self, update: Update) -> list[AccountOutput]:
        match update:
            case PositionUpdate():
                return self._put_position(Position.of(update), Origin.STREAM)
            case BalanceUpdate():
                return self._put_balance(Balance.of(update), Origin.STREAM)
        return [*self._put_stream_fill(update), *self._put_order(Order.of(update), Origin.STREAM)]

    def _put_stream_fill(self, update: Update) -> list[AccountOutput]:
        fill = Fill.of(update) if isinstance(update, OrderFill) else None
        return [] if fill is None or fill.key in self._fills else [self._tell(fill, Origin.STREAM)]

    def _tell(self, fill: Fill, origin: Origin) -> Filled:
        self._fills[fill.key] = _listed_ms(fill)
        return Filled(fill=fill, origin=origin)

    def _untold(self, fill: Fill) -> bool:
        """Whether a fill that REST lists is one that is still to be told."""
        known = fill.key in self._fills or fill.key in (self._before or ())
        return not known and _listed_ms(fill) >= self._told_from_ms

    def _move_cursor(self) -> None:
        """A round is complete: what the exchange listed is known, and what it lists late lies within the overlap."""
        fills = self._readings.fills.values()
        untold = [_listed_ms(fill) for fill in fills if self._untold(fill)]
        # A check leaves out what the streams have just told of, so there the round may have had one that is not told yet.
        newest_ms = min(untold, default=max(map(_listed_ms, fills), default=0))
        if newest_ms:
            self._since_ms = max(self._since_ms or 0, newest_ms - OVERLAP_MS)
        self._forget_fills()

    def _forget_fills(self) -> None:
        if len(self._fills) <= REMEMBERED_FILLS:
            return
        passed = [key for key, listed_ms in self._fills.items() if listed_ms < (self._since_ms or 0)]
        for key in passed[: REMEMBERED_FILLS // 2]:
            self._told_from_ms = max(self._told_from_ms, self._fills.pop(key) + 1)

    def _put_order(self, order: Order, origin: Origin) -> list[AccountOutput]:
        known = self._orders.get(order.order_id)
        # What has ended stays so, and what was executed stays executed: the other source is behind.
        if known is not None and ((order.open and not known.open) or _executed(order) < _executed(known)):
            return []
        order = _completed(order, known)
        if known is not None and not _moved(order, known, ORDER_MOVES):
            self._orders[order.order_id] = _resting(order, known, ORDER_MOVES)
            return []
        self._orders[order.order_id] = order
        self._forget_orders()
        return [OrderChanged(order=order, origin=origin)]

    def _forget_orders(self) -> None:
        if len(self._orders) <= REMEMBERED_ORDERS:
            return
        ended = [order_id for order_id, order in self._orders.items() if not order.open]
        for order_id in ended[: REMEMBERED_ORDERS // 2]:
            del self._orders[order_id]

    def _put_position(self, position: Position, origin: Origin) -> list[AccountOutput]:
        known = self._positions.get(position.symbol)
        if known is None and not position.net_quantity:
            return []
        if known is not None and not _moved(position, known, POSITION_MOVES):
            self._positions[position.symbol] = _resting(position, known, POSITION_MOVES)
            return []
        self._positions[position.symbol] = position
        return [PositionChanged(position=position, origin=origin)]

    def _put_balance(self, balance: Balance, origin: Origin) -> list[AccountOutput]:
        if balance == self._balances.get(balance.asset):
            return []
        self._balances[balance.asset] = balance
        return [BalanceChanged(balance=balance, origin=origin)]

    def _compare(self, now: Now) -> list[AccountOutput]:
        """Hold a live ledger against what was read, but for what moved since."""
        difference = next(self._differences(), None)
        if difference is None:
            self._move_cursor()
        self._readings = _Readings()
        self._timer_us = now.mono_us + AUDIT_US
        return [] if difference is None else self._diverge(difference)

    def _differences(self) -> Iterator[str]:
        readings, touched = self._readings, self._touched
        mine, theirs = self.open_orders, readings.orders
        for order_id in sorted({*mine, *theirs} - touched):
            here = _executed(mine[order_id]) if order_id in mine else None
            there = _executed(theirs[order_id]) if order_id in theirs else None
            if here != there:
                yield f"open order {order_id}: executed {here} here, {there} by REST"
        for symbol in sorted({*self.positions, *readings.positions} - touched):
            held = self.positions[symbol].net_quantity if symbol in self.positions else ZERO
            said = readings.positions[symbol].net_quantity if symbol in readings.positions else ZERO
            if held != said:
                yield f"position {symbol}: {held} here, {said} by REST"
        for asset in sorted({*self._balances, *readings.balances} - touched):
            nothing = Balance(asset=asset, available=ZERO, locked=ZERO, staked=ZERO)
            if self._balances.get(asset, nothing) != readings.balances.get(asset, nothing):
                yield f"balance of {asset}: {self._balances.get(asset)} here, {readings.balances.get(asset)} by REST"
        for fill in readings.fills.values():
            if self._untold(fill) and fill.order_id not in touched:
                trade = "a trade without id" if fill.trade_id is None else f"trade {fill.trade_id}"
                yield f"{trade} of order {fill.order_id} was never told by the stream"

    def _diverge(self, what: str) -> list[AccountOutput]:
        self._kept.clear()
        self._enter(AccountState.READING, _Contradiction(), None)
        what = printable(what)
        event = AccountDiverged(what=what, error=RemoteProtocolError(what))
        return [event, AccountStale(reason=what), *self._begin()]


def _touches(update: Update) -> tuple[str, ...]:
    match update:
        case OrderUpdate():
            return (str(update.order_id),)
        case PositionUpdate():
            return (update.symbol,)
        case BalanceUpdate():
            return (update.asset,)
    raise TypeError(f"not an update: {type(update).__name__}")


def _completed(order: Order, known: Order | None) -> Order:
    """Return an order with what its source leaves out and the other one has told."""
    told = {} if known is None else {name: value for name, value in asdict(known).items() if getattr(order, name) is None}
    quote_quantities = [of.executed_quote_quantity for of in (order, known) if of is not None]
    told["executed_quantity"] = _executed(order)
    told["executed_quote_quantity"] = max(quantity or ZERO for quantity in quote_quantities)
    return replace(order, **told)


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


def _moved(new: Struct, known: Struct, members: Sequence[str]) -> bool:
    return any(getattr(new, name) != getattr(known, name) for name in members)


def _resting(new: Value, known: Value, members: Sequence[str]) -> Value:
    """Return a value whose members that count are equal to the known ones, with the digits in which they were told first."""
    return replace(new, **{name: getattr(known, name) for name in members})


def _listed_ms(fill: Fill) -> int:
    """Return the time of a fill in the grain that REST lists it in, so that both sources' times compare."""
    return fill.filled_us // 1000


def _in_order(fill: Fill) -> tuple[int, bool, int]:
    """Return the key that sorts fills: by time, then by trade id, settlements first."""
    return (_listed_ms(fill), fill.trade_id is not None, fill.trade_id or 0)

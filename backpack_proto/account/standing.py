"""The standing of an account: its margin as REST listed it last, moved by later profit: a pure fold.

Theory of operation. The margin comes from REST. No stream reports it. Between two readings it follows profit, which is certain. A position's
unrealised profit is (mark - entry) x net quantity, cut off behind six decimals (docs/protocol.md 4.11), at the newest mark that is known, of a
`markPrice` stream or of a `positionUpdate`. Profit that is realised leaves it and stays in the equity. So since the reading

* unrealised profit has moved by the sum of its moves in each position,
* net equity by that and by realised profit, and the equity that is available by the same.

Other changes of them, by fees, loans, prices of spot assets and the margin of orders, are in the next reading alone. The account `moved`
when a stream has reported an order, a position or a balance since the reading was sent. Then it is soon read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from backpack_proto.machine import Now
from backpack_proto.rest.results.account import BorrowLendPosition, Collateral
from backpack_proto.streams.payloads import BalanceUpdate, Event, OrderUpdate, PositionUpdate

from .fills import EXACT
from .margin import LiquidationPrice, Margin, MarginChanged
from .readings import Read
from .rounds import Round
from .subjects import Kind
from .values import ZERO, Position

__all__ = ["Standing", "Update"]

_EXACT_PNL = Decimal(1).scaleb(-18)
_SHOWN_PNL = Decimal(1).scaleb(-6)

Update: TypeAlias = OrderUpdate | PositionUpdate | BalanceUpdate


class _Mark(Struct, frozen=True, gc=False):
    price: Decimal
    heard_us: int


class _Reading(Struct, frozen=True, gc=False):
    """A reading of the margin, and the positions that belong to it."""

    collateral: Collateral
    sent: Now
    positions: Mapping[str, Position] | None
    """None: some cannot be read, so part of the profit is not known."""


class Standing:
    """Margin, loans, liquidation prices, and the marks that are newer than the positions."""

    def __init__(self) -> None:
        self._reading: _Reading | None = None
        self._loans: tuple[BorrowLendPosition, ...] | None = None
        self._liquidations: dict[str, tuple[Decimal | None, Now]] = {}
        self._marks: dict[str, _Mark] = {}
        self._moved_us: int | None = None
        self._positions_moved_us: dict[str, int] = {}
        """When a stream told of each position last."""

    @property
    def as_of(self) -> Now | None:
        """When the reading was sent, or None before there is one."""
        return None if self._reading is None else self._reading.sent

    @property
    def moved(self) -> bool:
        """True when something has moved since the reading was sent."""
        return self._reading is not None and self._moved_since(self._reading.sent)

    # Values of the streams.

    def hear_mark(self, symbol: str, price: Decimal, now: Now) -> None:
        """Take a mark price."""
        self._marks[symbol] = _Mark(price, now.mono_us)

    def move(self, update: Update, now: Now) -> None:
        """Take note that the account has moved."""
        self._moved_us = now.mono_us
        if isinstance(update, PositionUpdate):
            # It has its own mark.
            self._marks.pop(update.symbol, None)
            self._positions_moved_us[update.symbol] = now.mono_us

    def at_mark(self, position: Position) -> Position:
        """Return a position at the newest mark that is known."""
        mark = self._marks.get(position.symbol)
        if mark is None:
            return position
        return replace(position, mark_price=mark.price, unrealized_pnl=_profit(position, mark.price))

    # Values of readings.

    def take(self, read: Round) -> list[Event]:
        """Take a complete round of readings. An event if its margin or its loans differ from those before."""
        before = None if self._reading is None else (self._reading.collateral, self._loans)
        self._take_positions(read)
        if Read.LOANS in read.sent:
            self._loans = read.loans
        if read.collateral is not None:
            hidden = any(subject.kind is Kind.POSITION for subject in read.unreadable)
            positions = None if hidden else dict(read.positions)
            self._reading = _Reading(read.collateral, read.sent[Read.COLLATERAL], positions)
        if self._reading is None or before == (self._reading.collateral, self._loans):
            return []
        margin = self._shown(self._reading, ZERO, ZERO, moved=self.moved)
        return [MarginChanged(margin=margin)]

    def _take_positions(self, read: Round) -> None:
        sent = read.sent.get(Read.POSITIONS)
        if sent is None:
            return
        self._marks = {symbol: mark for symbol, mark in self._marks.items() if mark.heard_us > sent.mono_us}
        self._liquidations = {
            symbol: (position.estimated_liquidation_price, sent) for symbol, position in read.positions.items()
        }

    # Values derived from both.

    def margin(self, held: Iterable[Position], *, followed: bool) -> Margin | None:
        """Return the margin as it is known now. `held` are the positions that are followed, closed ones too. None before there is one."""
        reading = self._reading
        if reading is None:
            return None
        unrealized, realized = ZERO, ZERO
        if reading.positions is not None:
            for position in held:
                then = reading.positions.get(position.symbol)
                if then is None and self._positions_moved_us.get(position.symbol, -1) < reading.sent.mono_us:
                    # REST does not list it, and no stream has told of it since: its profit is in the equity.
                    continue
                unrealized = EXACT.add(unrealized, EXACT.subtract(_profit_of(self.at_mark(position)), _profit_of(then)))
                realized = EXACT.add(realized, _realized_since(then, position))
        moved = self.moved or not followed
        return self._shown(reading, unrealized, realized, moved=moved)

    def liquidation_price(self, symbol: str, *, followed: bool) -> LiquidationPrice | None:
        """Return the price at which a position would be liquidated, or None where REST has not told it yet."""
        found = self._liquidations.get(symbol)
        if found is None:
            return None
        price, sent = found
        moved = self._moved_since(sent) or not followed
        return LiquidationPrice(symbol=symbol, price=price or None, as_of_us=sent.unix_us, moved=moved)

    def _moved_since(self, sent: Now) -> bool:
        return self._moved_us is not None and self._moved_us >= sent.mono_us

    def _shown(self, reading: _Reading, unrealized: Decimal, realized: Decimal, *, moved: bool) -> Margin:
        """Return a reading after these changes of profit."""
        listed, profit = reading.collateral, EXACT.add(unrealized, realized)
        return Margin(
            as_of_us=reading.sent.unix_us,
            collateral=listed,
            loans=self._loans,
            unrealized_pnl=EXACT.add(listed.unrealized_pnl, unrealized),
            net_equity=EXACT.add(listed.net_equity, profit),
            net_equity_available=_available(listed, profit) if profit else listed.net_equity_available,
            estimated=bool(unrealized or realized),
            moved=moved,
        )


def _available(listed: Collateral, profit: Decimal) -> Decimal:
    """Return the equity that is available after a profit: never below zero, as REST has it."""
    available = listed.net_equity_available
    if not available:
        # REST does not show a deficit, but its causes.
        available = min(ZERO, EXACT.subtract(listed.net_equity, listed.net_equity_locked))
    return max(ZERO, EXACT.add(available, profit))


def _profit_of(position: Position | None) -> Decimal:
    if position is None or not position.net_quantity:
        return ZERO
    if position.unrealized_pnl is not None:
        return position.unrealized_pnl
    return ZERO if position.mark_price is None else _profit(position, position.mark_price)


def _profit(position: Position, mark: Decimal) -> Decimal:
    """Return the unrealised profit at a mark. An entry price is rounded itself, so that is undone before digits are cut off."""
    exact = EXACT.multiply(EXACT.subtract(mark, position.entry_price), position.net_quantity)
    rounded = exact.quantize(_EXACT_PNL, ROUND_HALF_EVEN, EXACT)
    shown = rounded.quantize(_SHOWN_PNL, ROUND_DOWN, EXACT).normalize(EXACT)
    return shown if int(shown.as_tuple().exponent) <= 0 else shown.quantize(Decimal(1), context=EXACT)


def _realized_since(then: Position | None, now: Position) -> Decimal:
    """Return the realised profit of a position since the reading. It counts from its opening."""
    if now.realized_pnl is None:
        return ZERO
    if then is None:
        # One that is closed, and was not listed, had closed before the reading, or lived in between.
        return now.realized_pnl if now.net_quantity else ZERO
    if then.position_id != now.position_id or then.realized_pnl is None:
        return ZERO
    return EXACT.subtract(now.realized_pnl, then.realized_pnl)

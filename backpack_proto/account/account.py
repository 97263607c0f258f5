"""The ledger of an account: open orders, fills, positions, balances and margin that survive reconnects without a hole.

`Account` joins the parts: the ledger (a pure fold), the synchronising machine, which brings it up to the exchange, and the auditing
machine, which proves again and again that it is right. The one rule of its own: a ledger that follows is stale while the path of its
connection is in doubt (`AccountStale`), and live again, without being read again, once it is proved (`AccountConfirmed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from msgspec.structs import replace

from backpack_proto.claims import PathClaim
from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now, due, earliest
from backpack_proto.mute import MuteStream
from backpack_proto.rest.results.account import FundingPayment
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.payloads import BalanceUpdate, Event, MarkPrice, OrderUpdate, PositionUpdate

from .audit import CLAIM_US, Audit, AuditInput, AuditState, StartAudits, StopAudits
from .ledger import Ledger, Update
from .margin import LiquidationPrice, Margin
from .readings import (
    AccountEnded,
    AccountPathChanged,
    AccountRequested,
    ReadAccount,
    ReadFailed,
    Reading,
    ReadingRequested,
    UpdateLost,
)
from .rounds import Attempts
from .signals import Agreed, ReadAgain, UpdatesMute, stream_of
from .sync import AccountState, Sync, SyncInput
from .values import AccountConfirmed, AccountStale, AccountSynced, AccountUnconfirmed, Balance, Order, Position

__all__ = ["Account", "AccountInput", "AccountOutput"]

AccountInput: TypeAlias = (
    AccountRequested
    | AccountEnded
    | AccountPathChanged
    | Update
    | UpdateLost
    | MarkPrice
    | ReadingRequested
    | Reading
    | ReadFailed
    | TimerFired
)
AccountOutput: TypeAlias = Event | ReadAccount | UpdatesMute

_UNPROVED: Final = "no data have proved the path of the connection yet"


class Account:
    """One account's ledger. A machine. Takes `AccountInput`, gives events and `ReadAccount`."""

    def __init__(self) -> None:
        attempts = Attempts()
        self._ledger = Ledger()
        self._sync = Sync(self._ledger, attempts)
        self._audit = Audit(self._ledger, attempts)
        self.path = PathClaim(bounded=False)
        """The path of its streams, which a live ledger rests on. Its owner replaces it, and says when it changes."""
        self._mute: dict[str, MuteStream] = {}
        """Repairs of each stream so far."""
        self._path_stale = False
        """The ledger follows, and was reported stale because of the path."""
        self._unconfirmed: str | None = None
        """Why the last check of a ledger that follows could not be made."""

    @property
    def deadline(self) -> int | None:
        """The earliest of the two machines."""
        return earliest(self._sync.deadline, self._audit.deadline)

    @property
    def awaited(self) -> int | None:
        """The attempt whose reading is awaited. That of any other one can be withdrawn."""
        asked = self._sync.asked or self._audit.asked
        return None if asked is None else asked.attempt

    @property
    def state(self) -> AccountState:
        """Progress of the ledger."""
        return self._sync.state

    @property
    def live(self) -> bool:
        """True when the ledger follows the exchange. Otherwise it is the last known state. `doubts` names the exceptions."""
        return self.state is AccountState.LIVE

    def is_live(self, mono_us: int) -> bool:
        """Return whether the ledger follows the exchange, by a reading that is recent enough and over a path that is proved."""
        confirmed_us = self.confirmed_us
        return self.live and confirmed_us is not None and mono_us - confirmed_us < CLAIM_US and self.path.holds(mono_us)

    @property
    def confirmed_us(self) -> int | None:
        """As of when a reading has proved the ledger right, on the monotonic clock, or None unless it is live."""
        return self._audit.confirmed_us

    @property
    def doubts(self) -> Mapping[str, str]:
        """The parts that a live ledger is not live for, such as `order 5`, `position SOL_USDC_PERP` or `balance SOL`, and why."""
        return {str(subject): reason for subject, reason in self._ledger.doubts.items()}

    @property
    def open_orders(self) -> Mapping[str, Order]:
        """By order id."""
        return self._ledger.orders.open

    @property
    def positions(self) -> Mapping[str, Position]:
        """By symbol. Those that are open, at the newest mark prices that are known."""
        at_mark = self._ledger.standing.at_mark
        return {symbol: at_mark(position) for symbol, position in self._ledger.open_positions.items()}

    @property
    def balances(self) -> Mapping[str, Balance]:
        """By asset."""
        return dict(self._ledger.balances)

    @property
    def margin(self) -> Margin | None:
        """Margin as REST listed it last, moved by mark prices since, or None before it is known."""
        return self._ledger.standing.margin(self._ledger.positions.values(), followed=self.live)

    @property
    def margin_sent(self) -> Now | None:
        """When the reading of the margin was sent."""
        return self._ledger.standing.as_of

    @property
    def funding(self) -> tuple[FundingPayment, ...] | None:
        """Funding payments that are known, the oldest first, or None before the first reading."""
        return self._ledger.funding.payments if self._ledger.funding.begun else None

    def liquidation_price(self, symbol: str) -> LiquidationPrice | None:
        """Return where an open position would be liquidated, as REST estimated it last, or None before that is known.

        Raises:
            LocalProtocolError: no such position is open.
        """
        if symbol not in self._ledger.open_positions:
            held = ", ".join(sorted(self._ledger.open_positions)) or "none"
            raise LocalProtocolError(f"there is no open position in symbol={symbol!r}; positions: {held}")
        return self._ledger.standing.liquidation_price(symbol, followed=self.live)

    def handle(self, given: AccountInput, now: Now) -> Sequence[AccountOutput]:
        """Take an update, a reading or a timer. Return changes, and lists to read."""
        if isinstance(given, MarkPrice):
            self._ledger.standing.hear_mark(given.symbol, given.mark_price, now)
            return ()
        if isinstance(given, AccountPathChanged):
            return self._follow_path([], given.doubt, now)
        outputs = self._route(given, now)
        synced = any(isinstance(output, AccountSynced) for output in outputs)
        return self._follow_path(outputs, _UNPROVED if synced else None, now)

    def _follow_path(self, outputs: Sequence[AccountOutput], doubt: str | None, now: Now) -> Sequence[AccountOutput]:
        """Report the effect of the path on a ledger that follows. `doubt` is a new reason why it may be stale."""
        if not self.live:
            self._path_stale, self._unconfirmed = False, None
            return outputs
        for output in outputs:
            if isinstance(output, AccountUnconfirmed | AccountConfirmed):
                self._unconfirmed = output.reason if isinstance(output, AccountUnconfirmed) else None
        if self._path_stale:
            # REST alone does not make parts live that the streams do not reach.
            outputs = [output for output in outputs if not isinstance(output, AccountConfirmed)]
        holds = self.path.holds(now.mono_us)
        if self._path_stale and holds:
            self._path_stale = False
            again = [] if self._unconfirmed is None else [AccountUnconfirmed(reason=self._unconfirmed)]
            return [*outputs, AccountConfirmed(), *again]
        if not self._path_stale and not holds and doubt is not None:
            self._path_stale = True
            return [*outputs, AccountStale(reason=doubt)]
        return outputs

    def _route(self, given: AccountInput, now: Now) -> Sequence[AccountOutput]:
        match given:
            case OrderUpdate() | PositionUpdate() | BalanceUpdate():
                if self.state is AccountState.IDLE:
                    return []
                self._ledger.standing.move(given, now)
                if self._mute:
                    self._mute.pop(stream_of(given), None)
                if self._audit.state is not AuditState.OFF:
                    self._audit.handle(given, now)
                return self._to_sync(given, now)
            case AccountRequested():
                return self._to_sync(given, now)
            case AccountEnded():
                for mute in self._mute.values():
                    mute.ended()
                return self._to_sync(given, now)
            case UpdateLost():
                return [] if self.state is AccountState.IDLE else self._to_sync(given, now)
            case TimerFired():
                outputs: list[AccountOutput] = []
                if due(self._sync.deadline, now):
                    outputs += self._to_sync(given, now)
                if due(self._audit.deadline, now):
                    outputs += self._to_audit(given, now)
                return outputs
        if not isinstance(given, ReadingRequested | ReadFailed | Reading):
            raise TypeError(f"not an input of an account: {type(given).__name__}")
        return self._to_sync(given, now) if self._sync.asked is not None else self._to_audit(given, now)

    def _to_sync(self, given: SyncInput, now: Now) -> list[AccountOutput]:
        outputs: list[AccountOutput] = [*self._sync.handle(given, now)]
        if self.live and self._audit.state is AuditState.OFF:
            self._audit.handle(StartAudits(self._sync.requested_us), now)
        elif not self.live and self._audit.state is not AuditState.OFF:
            self._audit.handle(StopAudits(), now)
        return outputs

    def _to_audit(self, given: AuditInput, now: Now) -> list[AccountOutput]:
        outputs: list[AccountOutput] = []
        for output in self._audit.handle(given, now):
            if isinstance(output, ReadAgain | Agreed):
                outputs += self._to_sync(output, now)
            elif isinstance(output, UpdatesMute):
                outputs += self._escalate(output, now)
            else:
                outputs.append(output)
        return outputs

    def _escalate(self, mute: UpdatesMute, now: Now) -> list[AccountOutput]:
        """Have mute streams requested again first, and the connection given up after that, less and less often."""
        steps = {stream: self._mute.setdefault(stream, MuteStream()).abandons(now) for stream in mute.proved}
        # Interest and the like may change a balance without a word, so its stream alone never costs the connection.
        if any(step for stream, step in steps.items() if stream != Channel.BALANCE_UPDATE.value):
            return [replace(mute, abandon=True)]
        return [mute] if False in steps.values() else []

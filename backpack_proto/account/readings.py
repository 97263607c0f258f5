"""The vocabulary of the ledger: what it is told besides the updates of the streams, and what it asks to be read."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from .values import Balance, Fill, Order, Position

__all__ = [
    "PAGE",
    "AccountEnded",
    "AccountRequested",
    "BalancesRead",
    "FillsRead",
    "OpenOrdersRead",
    "OrderRead",
    "PositionsRead",
    "Read",
    "ReadAccount",
    "ReadFailed",
    "Reading",
    "ReadingRequested",
]

PAGE = 1000
"""Fills in one reading at the most (docs/protocol.md 6.4)."""


class Read(StrEnum):
    """What is read, in this order."""

    OPEN_ORDERS = "open orders"
    POSITIONS = "positions"
    BALANCES = "balances"
    FILLS = "fills"
    ORDER = "an order's end"


class AccountRequested(Struct, frozen=True, gc=False):
    """The subscriptions of the private streams have just been sent."""


class AccountEnded(Struct, frozen=True, gc=False):
    """The connection is gone, or the streams are not wanted any more."""

    reason: str


class ReadingRequested(Struct, frozen=True, gc=False):
    """The request of a `ReadAccount` has just been sent: it waited for the request budget until now."""

    attempt: int


class OpenOrdersRead(Struct, frozen=True, gc=False):
    """All open orders."""

    attempt: int
    orders: tuple[Order, ...]


class PositionsRead(Struct, frozen=True, gc=False):
    """All open positions."""

    attempt: int
    positions: tuple[Position, ...]


class BalancesRead(Struct, frozen=True, gc=False):
    """All balances that are not zero."""

    attempt: int
    balances: tuple[Balance, ...]


class FillsRead(Struct, frozen=True, gc=False):
    """One page of fills, newest first."""

    attempt: int
    fills: tuple[Fill, ...]


class OrderRead(Struct, frozen=True, gc=False):
    """How an order ended; None when the exchange does not know it."""

    attempt: int
    order: Order | None


class ReadFailed(Struct, frozen=True, gc=False):
    """A reading could not be had."""

    attempt: int
    reason: str


class ReadAccount(Struct, frozen=True, gc=False, kw_only=True):
    """Output: read something by REST; answer with the input of the same attempt, of the kind that belongs to `what`."""

    attempt: int
    what: Read
    since_ms: int | None = None
    """Of fills: from when on, by the exchange's clock; None: all there are, the newest first."""
    offset: int = 0
    """Of fills: how many newer ones to pass over."""
    order_id: str | None = None
    symbol: str | None = None


Reading: TypeAlias = OpenOrdersRead | PositionsRead | BalancesRead | FillsRead | OrderRead
"""What a `ReadAccount` is answered with."""

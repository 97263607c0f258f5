"""The vocabulary of the ledger: its inputs besides the updates of the streams, and the readings that it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from msgspec import Struct

from backpack_proto.rest.results.account import BorrowLendPosition, Collateral, FundingPayment

from .values import Balance, Fill, Order, Position

__all__ = [
    "ANSWERS",
    "FUNDING_PAGE",
    "LAST",
    "ORDERS_PAGE",
    "PAGE",
    "AccountEnded",
    "AccountPathChanged",
    "AccountRequested",
    "BalancesRead",
    "CollateralRead",
    "FillsRead",
    "FundingRead",
    "LoansRead",
    "OpenOrdersRead",
    "OrderFillsRead",
    "OrderRead",
    "PastOrdersRead",
    "PositionsRead",
    "Read",
    "ReadAccount",
    "ReadFailed",
    "Reading",
    "ReadingRequested",
    "UpdateLost",
    "answers",
]

PAGE = 1000
"""Fills in one reading, at most (docs/protocol.md 6.4)."""
ORDERS_PAGE = 100
"""Past orders in the first reading of a round. As a rule no more are needed: those that were created since the last round."""

FUNDING_PAGE = 100
"""Funding payments in the first reading of a round: those of the last hour, as a rule."""


class Read(StrEnum):
    """The kinds of readings, in their order: no later one may be older than an earlier one."""

    OPEN_ORDERS = "open orders"
    POSITIONS = "positions"
    COLLATERAL = "collateral"
    """Next to the positions, for both tell of the same profit."""
    BALANCES = "balances"
    LOANS = "loans"
    FUNDING = "funding payments"
    FILLS = "fills"
    PAST_ORDERS = "past orders"
    ORDER = "an order's end"
    ORDER_FILLS = "an order's fills"


class AccountRequested(Struct, frozen=True, gc=False):
    """The subscriptions of the private streams have just been sent."""


class AccountEnded(Struct, frozen=True, gc=False):
    """The connection is gone, or the streams are not wanted any more."""

    reason: str


class AccountPathChanged(Struct, frozen=True, gc=False):
    """The path of the connection is proved again, or its proof has expired."""

    doubt: str | None
    """Why it is in doubt. None: it is proved."""


class UpdateLost(Struct, frozen=True, gc=False):
    """A frame of a private stream came and could not be read."""

    reason: str


class ReadingRequested(Struct, frozen=True, gc=False):
    """The request of a `ReadAccount` has just been sent: it waited for the request budget until now."""

    attempt: int


class OpenOrdersRead(Struct, frozen=True, gc=False):
    """All open orders."""

    attempt: int
    orders: tuple[Order, ...]
    unreadable: tuple[str, ...] = ()
    """Ids of orders whose rows cannot be read. They are not absent."""


class PositionsRead(Struct, frozen=True, gc=False):
    """All open positions."""

    attempt: int
    positions: tuple[Position, ...]
    unreadable: tuple[str, ...] = ()
    """Symbols."""


class BalancesRead(Struct, frozen=True, gc=False):
    """All balances that are not zero."""

    attempt: int
    balances: tuple[Balance, ...]
    unreadable: tuple[str, ...] = ()
    """Assets."""


class CollateralRead(Struct, frozen=True, gc=False):
    """The margin of the account, or None where the exchange does not tell it."""

    attempt: int
    collateral: Collateral | None
    problem: str | None = None
    """Why it is missing: the reading failed. Orders and balances do not depend on it."""


class LoansRead(Struct, frozen=True, gc=False):
    """All open loans, given and taken."""

    attempt: int
    loans: tuple[BorrowLendPosition, ...]
    unreadable: tuple[str, ...] = ()
    """Ids of the loans whose rows cannot be read."""
    problem: str | None = None
    """Why they are missing."""


class FundingRead(Struct, frozen=True, gc=False):
    """One page of funding payments, newest first."""

    attempt: int
    payments: tuple[FundingPayment, ...]
    unreadable: tuple[str, ...] = ()
    """Symbols, one for each row."""
    problem: str | None = None
    """Why they are missing."""

    @property
    def rows(self) -> int:
        """Number of rows of the page."""
        return len(self.payments) + len(self.unreadable)


class FillsRead(Struct, frozen=True, gc=False):
    """One page of fills, newest first."""

    attempt: int
    fills: tuple[Fill, ...]
    unreadable: tuple[str, ...] = ()
    """Ids of the orders that they belong to, one for each row."""

    @property
    def rows(self) -> int:
        """Number of rows of the page."""
        return len(self.fills) + len(self.unreadable)


class PastOrdersRead(Struct, frozen=True, gc=False):
    """One page of the order history, the last created first. Open orders may be among them."""

    attempt: int
    orders: tuple[Order, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows of the page."""
        return len(self.orders) + len(self.unreadable)


class OrderRead(Struct, frozen=True, gc=False):
    """One order as history has it, or None when history does not have it."""

    attempt: int
    order: Order | None


class OrderFillsRead(Struct, frozen=True, gc=False):
    """The fills of one order."""

    attempt: int
    fills: tuple[Fill, ...]
    unreadable: tuple[str, ...] = ()


class ReadFailed(Struct, frozen=True, gc=False):
    """A reading could not be had."""

    attempt: int
    reason: str
    refused: bool = False
    """The answer is final, such as 401 and 404: no reading will be had before something is mended."""


class ReadAccount(Struct, frozen=True, gc=False, kw_only=True):
    """Output: read something by REST. Answer with the input of the same attempt, of the kind that belongs to `what`."""

    attempt: int
    what: Read
    since_ms: int | None = None
    """Of fills: from when on, by the exchange's clock. None: all there are, the newest first."""
    offset: int = 0
    """Of fills, past orders and funding payments: how many newer ones to pass over."""
    order_id: str | None = None
    symbol: str | None = None
    audit: bool = False
    """The ledger is live, and is only checked: this is less urgent than everything else."""


Reading: TypeAlias = (
    OpenOrdersRead
    | PositionsRead
    | CollateralRead
    | BalancesRead
    | LoansRead
    | FundingRead
    | FillsRead
    | PastOrdersRead
    | OrderRead
    | OrderFillsRead
)
"""Answers to a `ReadAccount`."""
ANSWERS: Final[Mapping[Read, type[Reading]]] = {
    Read.OPEN_ORDERS: OpenOrdersRead,
    Read.POSITIONS: PositionsRead,
    Read.COLLATERAL: CollateralRead,
    Read.BALANCES: BalancesRead,
    Read.LOANS: LoansRead,
    Read.FUNDING: FundingRead,
    Read.FILLS: FillsRead,
    Read.PAST_ORDERS: PastOrdersRead,
    Read.ORDER: OrderRead,
    Read.ORDER_FILLS: OrderFillsRead,
}
"""The kind of answer that belongs to each kind of reading."""
LAST: Final = (PastOrdersRead, OrderRead, OrderFillsRead)
"""The kinds of answers that can be the last of a round."""


def answers(asked: ReadAccount | None, given: object) -> bool:
    """Return whether an input belongs to the last request. Late answers of rounds that were given up do not.

    An answer to another question does not: neither one of another kind, nor an order that was not asked for. Every input that is not
    about a reading belongs.
    """
    if not isinstance(given, ReadingRequested | ReadFailed | Reading):
        return True
    if asked is None or given.attempt != asked.attempt:
        return False
    if isinstance(given, ReadingRequested | ReadFailed):
        return True
    order = given.order if isinstance(given, OrderRead) else None
    return type(given) is ANSWERS[asked.what] and (order is None or order.order_id == asked.order_id)

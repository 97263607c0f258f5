"""Values of margin and funding."""

from __future__ import annotations

from decimal import Decimal

from backpack_proto.rest.results.account import BorrowLendPosition, Collateral, FundingPayment
from backpack_proto.streams.payloads import Event
from backpack_proto.values import Value

from .values import ZERO, Origin

__all__ = ["FundingPaid", "LiquidationPrice", "Margin", "MarginChanged"]


class Margin(Value, frozen=True, gc=False, kw_only=True):
    """Margin of the account, in USDC: as REST listed it at `as_of_us`, moved by mark prices since.

    Exact, as of the reading: `collateral`, with the locked equity, the fractions and the liabilities, and `loans`. The three figures of the
    value itself follow mark prices where `estimated` says so. Changes by orders and fills are in the next reading only: `moved`.
    """

    as_of_us: int
    """When the reading was sent, by the clock of this machine, in microseconds since the epoch."""
    collateral: Collateral
    """As REST listed it."""
    loans: tuple[BorrowLendPosition, ...] | None
    """Open loans, given and taken, as REST listed them, or None where it does not tell them."""
    unrealized_pnl: Decimal
    net_equity: Decimal
    net_equity_available: Decimal
    """The buying power: the margin of positions and of open orders is deducted."""
    estimated: bool
    """These three are not those of the reading: they follow the mark prices and the realised profits that streams have told since."""
    moved: bool
    """Orders, positions or balances have moved since the reading, or may have: the margin is read again."""

    @property
    def lent(self) -> dict[str, Decimal]:
        """Amount lent, by asset, as the collateral has it. It counts as collateral, and balances do not have it."""
        return {row.symbol: row.lend_quantity for row in self.collateral.collateral if row.lend_quantity}

    @property
    def borrowed(self) -> dict[str, Decimal] | None:
        """Amount borrowed, by asset, or None where REST has only the sum (`collateral.borrow_liability`)."""
        if self.loans is None:
            return None
        return {loan.symbol: abs(loan.net_quantity) for loan in self.loans if loan.net_quantity < ZERO}


class LiquidationPrice(Value, frozen=True, gc=False, kw_only=True):
    """The mark price at which a position would be liquidated, as REST estimated it at `as_of_us`. No stream tells it."""

    symbol: str
    price: Decimal | None
    """None: no price is low enough, or high enough."""
    as_of_us: int
    """When the reading was sent, by the clock of this machine, in microseconds since the epoch."""
    moved: bool
    """The account has moved since, or may have: the price is read again."""


class MarginChanged(Event, frozen=True, gc=False, kw_only=True):
    """A reading has told another margin than the one before."""

    margin: Margin


class FundingPaid(Event, frozen=True, gc=False, kw_only=True):
    """Funding of one position for one interval. Each is told once. Only REST tells of it, so it comes with the next reading."""

    payment: FundingPayment
    origin: Origin

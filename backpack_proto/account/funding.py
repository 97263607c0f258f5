"""The funding payments of an account, each known once: a pure fold, without clocks.

Theory of operation. No stream reports funding, so its history is read with each round, the newest first (docs/protocol.md 6.4). A payment is
known by the end of its interval, its market and its subaccount. Payments in the first reading are from before the ledger: they are known, and not
reported. The history has no filter of time, so later readings go back to the cursor, OVERLAP_US before the newest payment that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from backpack_proto.rest.results.account import FundingPayment

from .readings import FUNDING_PAGE

__all__ = ["OVERLAP_US", "REMEMBERED_PAYMENTS", "FundingKey", "FundingPayments", "key_of"]

OVERLAP_US: Final = 3_600_000_000
"""Time before the newest payment from which the history is read again: the payments of an interval may become listed one by one."""
REMEMBERED_PAYMENTS: Final = 10_000
"""More only of those that can be listed again."""

FundingKey: TypeAlias = tuple[int, str, int | None]


class FundingPayments:
    """The payments that are known, and the cursor."""

    def __init__(self) -> None:
        self.since_us: int | None = None
        """The cursor, or None before the first reading, and while the exchange has not listed any."""
        self._begun = False
        self._after_us = -1
        """Payments of intervals that ended then, or before, are from before the ledger, or were forgotten."""
        self._known: dict[FundingKey, FundingPayment] = {}

    @property
    def begun(self) -> bool:
        """True when the history was read."""
        return self._begun

    @property
    def payments(self) -> tuple[FundingPayment, ...]:
        """Those that are known, the oldest first."""
        return tuple(self._known[key] for key in sorted(self._known, key=_in_order))

    def take(self, listed: Sequence[FundingPayment]) -> list[FundingPayment]:
        """Take the rows of a complete reading. Return those that are news, the oldest first."""
        new = {key_of(row): row for row in listed if row.interval_end_us > self._after_us}
        new = {key: new[key] for key in sorted(new.keys() - self._known.keys(), key=_in_order)}
        self._known |= new
        news = list(new.values()) if self._begun else []
        if not self._begun and len(listed) >= FUNDING_PAGE:
            # There are older ones, which a later reading may reach.
            self._after_us = min(row.interval_end_us for row in listed)
        self._begun = True
        if self._known:
            self.since_us = max(end_us for end_us, _, _ in self._known) - OVERLAP_US
        self._forget()
        return news

    def _forget(self) -> None:
        if len(self._known) <= REMEMBERED_PAYMENTS:
            return
        passed = [key for key in sorted(self._known, key=_in_order) if key[0] < (self.since_us or 0)]
        for key in passed[: REMEMBERED_PAYMENTS // 2]:
            del self._known[key]
            self._after_us = max(self._after_us, key[0])


def key_of(payment: FundingPayment) -> FundingKey:
    """Return the key of a payment."""
    return (payment.interval_end_us, payment.symbol, payment.subaccount_id)


def _in_order(key: FundingKey) -> tuple[int, str, int]:
    end_us, symbol, subaccount_id = key
    return (end_us, symbol, -1 if subaccount_id is None else subaccount_id)

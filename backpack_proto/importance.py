"""The order in which requests leave when not all of them can at once: the one table of it."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Importance"]


class Importance(IntEnum):
    """Class of a request: of two that wait, the one with the smaller number leaves first.

    A call that changes something has its class in its row of the endpoint table. A read has the class of its asker.
    """

    CANCEL = 0
    """Takes risk off the market: it has a reserve of the budget that is for these only."""
    ORDER = 1
    """Changes something else. So does the measurement of the exchange's clock, on which signatures depend."""
    LEDGER = 2
    """Read by the ledger: until it is done the holdings of the account are not known."""
    READ = 3
    """Read by the user."""
    SNAPSHOT = 4
    """Snapshot of a book that is not live."""
    AUDIT = 5
    """Comparison of a live book: it has a share of the budget that it cannot exceed, and leaves only while plenty is left."""

"""The parts of a ledger that can be doubted one by one."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["Kind", "Subject"]


class Kind(StrEnum):
    """The kinds of parts."""

    ORDER = "order"
    POSITION = "position"
    BALANCE = "balance"
    MARGIN = "margin"
    LOANS = "loans"
    FUNDING = "funding payments"


_WHOLE = frozenset({Kind.MARGIN, Kind.LOANS, Kind.FUNDING})
"""Kinds whose parts are known, or not, all together."""


class Subject(NamedTuple):
    """One order by its id, one position by its symbol, or one balance by its asset. Without a key, one that is not known.

    Margin, loans and funding payments are one part each, without a key. A loan or a payment whose row cannot be read has one.
    """

    kind: Kind
    key: str

    def __str__(self) -> str:
        if not self.key and self.kind in _WHOLE:
            return self.kind.value
        return f"{self.kind.value} {self.key}" if self.key else f"{self.kind.value} without an id"

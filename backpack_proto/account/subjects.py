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


class Subject(NamedTuple):
    """One order by its id, one position by its symbol, or one balance by its asset; without a key, one that is not known."""

    kind: Kind
    key: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.key}" if self.key else f"{self.kind.value} without an id"

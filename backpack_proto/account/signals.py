"""The vocabulary that the two machines of the account share."""

from __future__ import annotations

from typing import Final, get_args

from msgspec import Struct

from backpack_proto.backoff import Backoff
from backpack_proto.streams.payloads import BalanceUpdate, OrderUpdate, Payload, PositionUpdate

from .subjects import Subject

__all__ = ["ANSWER_US", "ORDER_UPDATES", "RETRY", "UPDATES", "Agreed", "ReadAgain"]

RETRY: Final = Backoff(base_us=1_000_000, cap_us=30_000_000)
"""When the account is read again after a reading that failed."""
ANSWER_US: Final = 30_000_000
"""How long one reading may take once it is requested; waiting for the request budget does not count."""
UPDATES: Final = tuple(kind for kind in get_args(Payload) if issubclass(kind, OrderUpdate | PositionUpdate | BalanceUpdate))
"""The kinds of updates that a ledger follows."""
ORDER_UPDATES: Final = tuple(kind for kind in UPDATES if issubclass(kind, OrderUpdate))
"""Those of them that can contradict what is known."""


class ReadAgain(Struct, frozen=True, gc=False):
    """The ledger is in doubt: read the account again. What is insisted on is taken as the exchange lists it."""

    reason: str
    insisted: frozenset[Subject] = frozenset()
    refused: bool = False
    """The exchange refuses to answer, so nothing can be read for now."""


class Agreed(Struct, frozen=True, gc=False):
    """A check of the live ledger found nothing wrong."""

"""The vocabulary that the two machines of the account share."""

from __future__ import annotations

from typing import Final, get_args

from msgspec import Struct

from backpack_proto.backoff import Backoff
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.payloads import BalanceUpdate, OrderUpdate, Payload, PositionUpdate

from .subjects import Subject

__all__ = ["ANSWER_US", "ORDER_UPDATES", "RETRY", "UPDATES", "Agreed", "ReadAgain", "UpdatesMute", "stream_of"]

RETRY: Final = Backoff(base_us=1_000_000, cap_us=30_000_000)
"""When the account is read again after a reading that failed."""
ANSWER_US: Final = 30_000_000
"""Time that one reading may take once it is requested. Waiting for the request budget does not count."""
UPDATES: Final = tuple(kind for kind in get_args(Payload) if issubclass(kind, OrderUpdate | PositionUpdate | BalanceUpdate))
"""The kinds of updates that a ledger follows."""
ORDER_UPDATES: Final = tuple(kind for kind in UPDATES if issubclass(kind, OrderUpdate))
"""Those of them that can contradict the known state."""


class ReadAgain(Struct, frozen=True, gc=False):
    """The ledger is in doubt: read the account again. Subjects that are insisted on are taken as the exchange lists them."""

    reason: str
    insisted: frozenset[Subject] = frozenset()
    refused: bool = False
    """The exchange refuses to answer, so readings are impossible for now."""


class Agreed(Struct, frozen=True, gc=False):
    """A check of the live ledger agreed."""


class UpdatesMute(Struct, frozen=True, gc=False, kw_only=True):
    """Output: the account moves and these streams are silent: request them again, or give the connection up."""

    proved: tuple[str, ...]
    """These should have reported the differences."""
    streams: tuple[str, ...]
    """All that are silent."""
    reason: str
    abandon: bool = False
    """They were requested again before, in vain."""


def stream_of(update: OrderUpdate | PositionUpdate | BalanceUpdate) -> str:
    """Return the stream that brings such an update."""
    if isinstance(update, OrderUpdate):
        return Channel.ORDER_UPDATE.value
    return Channel.POSITION_UPDATE.value if isinstance(update, PositionUpdate) else Channel.BALANCE_UPDATE.value

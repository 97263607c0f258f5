"""What the session passes between the machines of a connection; none of it is seen from outside."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["ClockRead", "ConnectionLost", "DataHeard", "DataSeen", "GiveUp", "Released", "Requested"]


class ClockRead(Struct, frozen=True, gc=False):
    """The exchange's clock may be known better than before."""

    zero_us: int
    """The exchange's time when our monotonic clock stood at zero, microseconds since the epoch."""


class ConnectionLost(Struct, frozen=True, gc=False):
    """The connection is gone, and with it every subscription."""


class DataHeard(Struct, frozen=True, gc=False):
    """Bytes were received, whatever they are."""


class GiveUp(Struct, frozen=True, gc=False):
    """Give the connection up: it is dead, though no end of it was heard."""

    reason: str


class DataSeen(Struct, frozen=True, gc=False):
    """Data came on a stream; needed only if the stream is in `Subscriptions.awaited`."""

    stream: str


class Requested(Struct, frozen=True, gc=False):
    """These streams have just been requested, so snapshots may be asked for."""

    streams: tuple[str, ...]


class Released(Struct, frozen=True, gc=False):
    """Nobody wants these streams any more."""

    streams: tuple[str, ...]

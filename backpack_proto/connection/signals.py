"""Messages that the session passes between the machines of a connection. They are not seen from outside."""

from __future__ import annotations

from msgspec import Struct

__all__ = [
    "CanariesChosen",
    "CanaryRequested",
    "ClockRead",
    "ConnectionLost",
    "DataHeard",
    "DataReceived",
    "DataSeen",
    "GiveUp",
    "InForce",
    "PathExpired",
    "PathProved",
    "Released",
    "Requested",
    "Resubscribe",
    "RoundTripMeasured",
]


class ClockRead(Struct, frozen=True, gc=False):
    """The exchange's clock may be known better than before."""

    zero_us: int
    """The exchange's time when our monotonic clock stood at zero, microseconds since the epoch."""


class ConnectionLost(Struct, frozen=True, gc=False):
    """The connection is gone, and with it every subscription."""


class DataHeard(Struct, frozen=True, gc=False):
    """Bytes of any kind were received."""


class GiveUp(Struct, frozen=True, gc=False):
    """Give the connection up: it is dead, though no end of it was heard."""

    reason: str


class DataSeen(Struct, frozen=True, gc=False):
    """Data came on a stream. Needed only if the stream is in `Subscriptions.awaited`."""

    stream: str
    emitted_us: int | None = None
    """When the exchange emitted them, on our monotonic clock and as early as it can have been, or None where that is not known."""


class Requested(Struct, frozen=True, gc=False):
    """These streams have just been requested, so snapshots may be asked for."""

    streams: tuple[str, ...]


class Released(Struct, frozen=True, gc=False):
    """Nobody wants these streams any more."""

    streams: tuple[str, ...]


class InForce(Struct, frozen=True, gc=False):
    """Subscriptions have taken effect: a stream that was requested with them or after them has spoken."""

    streams: tuple[str, ...]


class CanaryRequested(Struct, frozen=True, gc=False):
    """A stream that comes every second has just been requested."""


class DataReceived(Struct, frozen=True, gc=False):
    """A data frame of any content came."""

    stream: str
    emitted_us: int | None
    """When the exchange emitted it, microseconds since the epoch, by the exchange's clock, or None where it does not say."""


class RoundTripMeasured(Struct, frozen=True, gc=False):
    """A request was answered."""

    round_trip_us: int
    server_us: int | None = None
    """Time of the exchange's clock, where the answer has it."""


class PathProved(Struct, frozen=True, gc=False):
    """Recent data have come through the connection, which was in doubt."""


class PathExpired(Struct, frozen=True, gc=False):
    """The newest proof of the connection's path is too old."""

    reason: str


class CanariesChosen(Struct, frozen=True, gc=False):
    """These are the streams of the canaries from here on, and no others."""

    streams: tuple[str, ...]


class Resubscribe(Struct, frozen=True, gc=False):
    """Undo these streams and request them again, if they are wanted."""

    streams: tuple[str, ...]

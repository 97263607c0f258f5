"""One stream that somebody wants: how far it has come, who needs it, and which frame its request goes into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from backpack_proto.inputs import Connected, FollowAccount, Subscribe, TimerFired, Unsubscribe
from backpack_proto.machine import Transitions
from backpack_proto.streams.frames import ErrorFrame
from backpack_proto.streams.names import Stream

from .signals import CanariesChosen, ClockRead, ConnectionLost, DataSeen, Resubscribe

__all__ = ["SHOWN", "STREAM_TRANSITIONS", "Need", "StreamState", "WantedStream", "frames_of"]

STREAMS_PER_FRAME = 50
"""More names go into further frames. No limit is published, and 91 names in one frame were taken (docs/protocol.md 1.3)."""

UNTYPED_SILENCE_US = 60_000_000
"""An untyped stream without data for so long is reported, like most others."""


class Need(Enum):
    """Who needs a stream. The other needs are those of verified books, by the names of their depth streams."""

    USER = auto()
    LEDGER = auto()
    CANARY = auto()
    """Nobody sees its data. They prove the path."""


SHOWN = (Need.USER, Need.LEDGER)
"""The needs that make a stream's data events."""


class StreamState(Enum):
    """Progress of a wanted stream on the current connection."""

    WANTED = auto()
    """There is no connection to request it on, or its turn to be requested has not come."""
    REQUESTED = auto()
    LIVE = auto()
    """It has sent data."""
    REFUSED = auto()
    """It is a suspect of an error frame and silent."""


_S = StreamState

STREAM_TRANSITIONS = Transitions(
    [
        (_S.WANTED, Subscribe, _S.REQUESTED),
        (_S.WANTED, FollowAccount, _S.REQUESTED),
        (_S.WANTED, CanariesChosen, _S.REQUESTED),
        (_S.WANTED, Connected, _S.REQUESTED),
        *(
            (_S.WANTED, ended, _S.REQUESTED) for ended in (DataSeen, ErrorFrame, Unsubscribe, TimerFired)
        ),  # of the one in flight
        (_S.WANTED, ConnectionLost, _S.WANTED),
        (_S.REQUESTED, DataSeen, _S.LIVE),
        (_S.REQUESTED, ErrorFrame, _S.REFUSED),
        (_S.REQUESTED, ConnectionLost, _S.WANTED),
        (_S.LIVE, DataSeen, _S.LIVE),
        (_S.LIVE, ConnectionLost, _S.WANTED),
        (_S.REFUSED, DataSeen, _S.LIVE),
        (_S.REFUSED, ErrorFrame, _S.REFUSED),
        *((_S.REFUSED, given, _S.REQUESTED) for given in (ClockRead, TimerFired)),
        *((state, Resubscribe, _S.REQUESTED) for state in (_S.REQUESTED, _S.LIVE, _S.REFUSED)),
        (_S.REFUSED, ConnectionLost, _S.WANTED),
    ]
)


@dataclass(slots=True)
class WantedStream:
    """One wanted stream."""

    name: str
    stream: Stream | None
    """None of an untyped one."""
    state: StreamState = StreamState.WANTED
    since_us: int = 0
    """When it was requested, or, of a live canary, last heard."""
    requested_us: int = 0
    """When it was requested."""
    needs: dict[Need | str, None] = field(default_factory=dict)
    """Who needs it. Never empty."""
    silent: bool = False
    """A `StreamSilent` was reported, without data since."""
    turn: int = 0
    """Of its request among those of this connection, or 0 while it has not been requested."""
    in_force: bool = False
    """Data have shown that the exchange has taken its request."""

    @property
    def reported(self) -> bool:
        """True if its coming and going is of interest to anybody but the canaries."""
        return any(need is not Need.CANARY for need in self.needs)

    @property
    def private(self) -> bool:
        """True if a request of it is signed."""
        return self.name.startswith("account.") if self.stream is None else self.stream.private

    @property
    def canary(self) -> bool:
        """True if its silence is a fault."""
        return self.stream is not None and self.stream.channel.traits.every_second

    @property
    def first_data_us(self) -> int | None:
        """Time within which its first data are expected, or None if it has no bound."""
        return UNTYPED_SILENCE_US if self.stream is None else self.stream.channel.traits.first_data_us

    def become(self, state: StreamState, given: object) -> None:
        """Take one of the steps of the table."""
        self.state = STREAM_TRANSITIONS.step(self.state, given, state)


def frames_of(subscriptions: Mapping[str, WantedStream]) -> Iterator[tuple[bool, Sequence[str]]]:
    """The names of each frame, all of one kind, and whether they are private, behind those that are not."""
    kinds: dict[str, list[str]] = {}
    for name, subscription in subscriptions.items():
        kinds.setdefault(name if subscription.stream is None else subscription.stream.channel, []).append(name)
    for names in sorted(kinds.values(), key=lambda names: subscriptions[names[0]].private):
        for start in range(0, len(names), STREAMS_PER_FRAME):
            yield subscriptions[names[0]].private, names[start : start + STREAMS_PER_FRAME]

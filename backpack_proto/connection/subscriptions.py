"""What is wanted, what was asked for, and what really comes, stream by stream.

Theory of operation. A stream is wanted while somebody needs it, over any number of connections: the user, from `Subscribe` to
`Unsubscribe`; the ledger, from `FollowAccount` on; a book that is to be verified needs the `bookTicker` of its symbol for as long as its depth
stream is wanted. Each need is counted, whoever comes first; a stream ends with the last of them. SHOWN are the streams whose data are
events: those that the user or the ledger needs.

While there is no connection a wanted stream is WANTED; when there is one it has been REQUESTED on it, by a frame signed at the moment of sending
if it is private. The exchange never acknowledges (docs/protocol.md 3.2), so only data make it LIVE. The end of the connection makes everything
WANTED again. Data of a stream that was just unsubscribed may still be on their way: it is LEAVING until the connection ends.

Silence. A REQUESTED stream that sends nothing within its channel's timeout gives one `StreamSilent`, a notice: an unknown market
looks like a quiet one. Some channels come every second whatever happens (docs/protocol.md 3.4); these canaries are
watched for as long as they live. Data after a silence give `StreamLive` again.

Refusals. An error frame does not name its request, so the suspects are the streams that were requested less than BLAME_US ago
and have sent nothing. Which of them the code can mean: 4003 private ones, 4008 depth streams with a window, 4006 public ones unless
only private ones are pending, any other code all of them. Suspects become REFUSED. That is suspicion, not proof: data make such a
stream LIVE like any other, its timeout runs on, and the next connection requests it again; private ones are requested again on this connection
too, newly signed, when it is found that the clock that they were signed by was wrong (`ClockRead`), once on each connection.

`DataSeen` is needed only for the names in `awaited`, so data of all other streams cost this machine nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import Final, NamedTuple, TypeAlias

from backpack_proto.errors import LocalProtocolError, RemoteProtocolError
from backpack_proto.inputs import Connected, FollowAccount, Subscribe, TimerFired, Unsubscribe
from backpack_proto.machine import Now, Timers, Transitions
from backpack_proto.outputs import ErrorReceived, Output, SendText, StreamLive, StreamSilent, StreamsRefused
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.frames import ErrorFrame, subscribe_text, unsubscribe_text
from backpack_proto.streams.names import Stream, parse_stream

from .signals import (
    CanariesChosen,
    CanaryRequested,
    ClockRead,
    ConnectionLost,
    DataSeen,
    InForce,
    Released,
    Requested,
    Resubscribe,
)

__all__ = [
    "ACCOUNT_STREAMS",
    "CONNECTIVITY_TRANSITIONS",
    "STREAM_TRANSITIONS",
    "Connectivity",
    "Need",
    "Sign",
    "Signature",
    "StreamState",
    "Subscriptions",
    "SubscriptionsInput",
    "SubscriptionsOutput",
]


class Signature(NamedTuple):
    """Proof of who subscribes."""

    parts: tuple[str, str, str, str]
    """Key, signature, timestamp and window, as text (docs/protocol.md 3.1)."""
    unix_us: int
    """The exchange's time that was signed, microseconds since the epoch."""


Sign: TypeAlias = Callable[[Now], Signature]
"""Signs a SUBSCRIBE at the moment of sending."""

STREAMS_PER_FRAME = 50
"""More names go into further frames. No limit is published, and 91 names in one frame were taken (docs/protocol.md 1.3)."""

WRONG_CLOCK_US = 500_000
"""A signature that was this far off in time is worth another try: the exchange grants a window of seconds (docs/protocol.md 2.2)."""

BLAME_US = 10_000_000
"""An error frame is not blamed on a request that is this old."""

CANARY_SILENCE_US = 10_000_000
"""A stream that comes every second and has not come for so long is silent."""

ACCOUNT_STREAMS: Final = (Channel.ORDER_UPDATE.value, Channel.POSITION_UPDATE.value, Channel.BALANCE_UPDATE.value)
"""The streams that a ledger follows."""


class Need(Enum):
    """Who needs a stream; the other needs are those of verified books, by the names of their depth streams."""

    USER = auto()
    LEDGER = auto()
    CANARY = auto()
    """Nobody sees its data; they prove the path."""


SHOWN = (Need.USER, Need.LEDGER)
"""The needs that make a stream's data events."""


class _Code(IntEnum):
    """Error codes that say which kind of request was refused (docs/protocol.md 3.2)."""

    INVALID_SIGNATURE = 4003
    INVALID_STREAM = 4006
    INVALID_DEPTH_WINDOW = 4008


class StreamState(Enum):
    """How far a wanted stream has come on the current connection."""

    WANTED = auto()
    """There is no connection to request it on."""
    REQUESTED = auto()
    LIVE = auto()
    """It has sent data."""
    REFUSED = auto()
    """It is a suspect of an error frame and has sent nothing."""


class Connectivity(Enum):
    """Whether frames can be sent."""

    DOWN = auto()
    UP = auto()


SubscriptionsInput: TypeAlias = (
    Subscribe
    | Unsubscribe
    | FollowAccount
    | CanariesChosen
    | Resubscribe
    | ClockRead
    | Connected
    | ConnectionLost
    | DataSeen
    | ErrorFrame
    | TimerFired
)
SubscriptionsOutput: TypeAlias = Output | CanaryRequested | Requested | Released | InForce

_C = Connectivity

CONNECTIVITY_TRANSITIONS = Transitions(
    [
        (_C.DOWN, Subscribe, _C.DOWN),
        (_C.DOWN, Unsubscribe, _C.DOWN),
        (_C.DOWN, FollowAccount, _C.DOWN),
        (_C.DOWN, CanariesChosen, _C.DOWN),
        (_C.DOWN, Connected, _C.UP),
        (_C.DOWN, ConnectionLost, _C.DOWN),
        (_C.UP, Subscribe, _C.UP),
        (_C.UP, Unsubscribe, _C.UP),
        (_C.UP, FollowAccount, _C.UP),
        (_C.UP, CanariesChosen, _C.UP),
        (_C.UP, Resubscribe, _C.UP),
        (_C.UP, ClockRead, _C.UP),
        (_C.UP, DataSeen, _C.UP),
        (_C.UP, ErrorFrame, _C.UP),
        (_C.UP, TimerFired, _C.UP),
        (_C.UP, ConnectionLost, _C.DOWN),
    ]
)

_S = StreamState

STREAM_TRANSITIONS = Transitions(
    [
        (_S.WANTED, Subscribe, _S.REQUESTED),
        (_S.WANTED, FollowAccount, _S.REQUESTED),
        (_S.WANTED, CanariesChosen, _S.REQUESTED),
        (_S.WANTED, Connected, _S.REQUESTED),
        (_S.WANTED, ConnectionLost, _S.WANTED),
        (_S.REQUESTED, DataSeen, _S.LIVE),
        (_S.REQUESTED, ErrorFrame, _S.REFUSED),
        (_S.REQUESTED, ConnectionLost, _S.WANTED),
        (_S.LIVE, DataSeen, _S.LIVE),
        (_S.LIVE, ConnectionLost, _S.WANTED),
        (_S.REFUSED, DataSeen, _S.LIVE),
        (_S.REFUSED, ErrorFrame, _S.REFUSED),
        (_S.REFUSED, ClockRead, _S.REQUESTED),
        *((state, Resubscribe, _S.REQUESTED) for state in (_S.REQUESTED, _S.LIVE, _S.REFUSED)),
        (_S.REFUSED, ConnectionLost, _S.WANTED),
    ]
)


@dataclass(slots=True)
class _Subscription:
    """One wanted stream."""

    stream: Stream
    state: StreamState = StreamState.WANTED
    since_us: int = 0
    """When it was requested, or, of a live canary, last heard."""
    needs: dict[Need | str, None] = field(default_factory=dict)
    """Who needs it; never empty."""
    silent: bool = False
    """A `StreamSilent` was told, and nothing has come since."""
    turn: int = 0
    """Of its request among those of this connection; 0 while it has not been requested."""
    in_force: bool = False
    """Data have shown that the exchange has taken its request."""

    @property
    def reported(self) -> bool:
        """Whether its coming and going is of interest to anybody but the canaries."""
        return any(need is not Need.CANARY for need in self.needs)

    def become(self, state: StreamState, given: SubscriptionsInput) -> None:
        self.state = STREAM_TRANSITIONS.step(self.state, given, state)


class Subscriptions:
    """Turns wanted streams into requests, connection after connection, and says which of them live.

    `sign` is called at each signing, with the moment of sending; None means that there are no credentials, so that private
    streams are impossible.
    """

    def __init__(self, sign: Sign | None) -> None:
        self._sign = sign
        self._connectivity = Connectivity.DOWN
        self._subscriptions: dict[str, _Subscription] = {}
        self._shown: dict[str, None] = {}
        self._leaving: dict[str, None] = {}
        self._awaited: dict[str, None] = {}
        self._timers: Timers[str] = Timers()
        self._signed_zero_us = 0
        """The exchange's time when our monotonic clock stood at zero, as it was known when private streams were signed last."""
        self._signed_again = False
        """On this connection."""
        self._turns = 0
        """Counts requests."""

    @property
    def deadline(self) -> int | None:
        """When the first stream is to be looked at, on `Now.mono_us`; None when none is."""
        return self._timers.earliest

    @property
    def wanted(self) -> KeysView[str]:
        """The wanted streams in the order they were wanted; a live view, for membership tests as well."""
        return self._subscriptions.keys()

    @property
    def shown(self) -> KeysView[str]:
        """The wanted streams whose data are events; a live view."""
        return self._shown.keys()

    @property
    def needed(self) -> bool:
        """Whether anybody but the canaries needs a stream."""
        return any(subscription.reported for subscription in self._subscriptions.values())

    def of_symbol(self, symbol: str) -> tuple[str, ...]:
        """Return the wanted streams of one market."""
        return tuple(name for name, one in self._subscriptions.items() if one.stream.symbol == symbol)

    @property
    def leaving(self) -> KeysView[str]:
        """The streams that were unsubscribed on this connection, whose last data may still be on their way; a live view."""
        return self._leaving.keys()

    @property
    def states(self) -> Mapping[str, StreamState]:
        """The state of each wanted stream, in the order they were wanted; a copy."""
        return {name: subscription.state for name, subscription in self._subscriptions.items()}

    @property
    def silent(self) -> tuple[str, ...]:
        """The streams that a `StreamSilent` was told of on this connection and that have sent nothing since, in the order wanted."""
        return tuple(name for name, one in self._subscriptions.items() if one.silent and one.reported)

    @property
    def awaited(self) -> KeysView[str]:
        """The streams whose data have to be told by `DataSeen`: those not live yet, and the canaries; a live view."""
        return self._awaited.keys()

    def handle(self, given: SubscriptionsInput, now: Now) -> list[SubscriptionsOutput]:
        """Take one input and return what follows.

        That is `SendText` and, behind them, `Requested` or `Released`; `StreamLive`, `StreamSilent`, `StreamsRefused`, `ErrorReceived`.

        Raises:
            InvalidStream: a name is no stream of the exchange; nothing has changed.
            LocalProtocolError: a private stream without credentials, or an input that is impossible in this state
                (`CONNECTIVITY_TRANSITIONS`); nothing has changed.
        """
        if isinstance(given, TimerFired):
            return self._fire(now)
        CONNECTIVITY_TRANSITIONS.check(self._connectivity, given)
        match given:
            case DataSeen(name):
                return self._see(name, given, now)
            case Subscribe():
                return self._subscribe(given, now)
            case FollowAccount():
                return self._want([(name, Need.LEDGER) for name in ACCOUNT_STREAMS], given, now)
            case Unsubscribe(names):
                return self._unsubscribe(names)
            case CanariesChosen(names):
                return self._watch(names, given, now)
            case Resubscribe(names):
                return self._resubscribe(names, given, now)
            case ClockRead():
                return self._sign_again(given, now)
            case Connected():
                outputs = self._request(self._subscriptions, given, now)
                self._connectivity = CONNECTIVITY_TRANSITIONS.step(self._connectivity, given, Connectivity.UP)
                watched = any(Need.CANARY in one.needs for one in self._subscriptions.values())
                return [*outputs, CanaryRequested()] if watched else outputs
            case ConnectionLost():
                self._lose(given)
                return []
            case ErrorFrame():
                return self._refuse(given, now)

    def _subscribe(self, given: Subscribe, now: Now) -> list[SubscriptionsOutput]:
        needs: list[tuple[str, Need | str]] = [(name, Need.USER) for name in (*given.books, *given.streams)]
        for name in given.books:
            stream = parse_stream(name)
            if stream.channel is not Channel.DEPTH:
                raise LocalProtocolError(f"books: not a depth stream: {name!r}")
            needs.append((_verifier_of(stream), name))
        return self._want(needs, given, now)

    def _want(
        self, needs: Sequence[tuple[str, Need | str]], given: Subscribe | FollowAccount | CanariesChosen, now: Now
    ) -> list[SubscriptionsOutput]:
        streams = {name: parse_stream(name) for name, _ in needs}
        if self._sign is None and any(stream.private for stream in streams.values()):
            private = [name for name, stream in streams.items() if stream.private]
            raise LocalProtocolError(f"{', '.join(private)}: private streams need credentials")
        fresh = {name: _Subscription(stream) for name, stream in streams.items() if name not in self._subscriptions}
        outputs = self._request(fresh, given, now) if self._connectivity is Connectivity.UP else []
        self._subscriptions.update(fresh)
        for name, need in needs:
            subscription = self._subscriptions[name]
            reported = subscription.reported or not subscription.needs
            subscription.needs[need] = None
            if subscription.reported and not reported and subscription.state is StreamState.LIVE:
                outputs.append(StreamLive(stream=name))
            self._leaving.pop(name, None)
            if need in SHOWN:
                self._shown[name] = None
        return outputs

    def _watch(self, names: tuple[str, ...], given: CanariesChosen, now: Now) -> list[SubscriptionsOutput]:
        """Have these canaries and no others; the new ones are requested before the old ones are undone."""
        outputs = self._want([(name, Need.CANARY) for name in names], given, now)
        old = [name for name, one in self._subscriptions.items() if Need.CANARY in one.needs and name not in names]
        outputs += self._give_up(old, Need.CANARY)
        return [*outputs, CanaryRequested()] if names and self._connectivity is Connectivity.UP else outputs

    def _resubscribe(self, names: tuple[str, ...], given: Resubscribe, now: Now) -> list[SubscriptionsOutput]:
        wanted = {name: self._subscriptions[name] for name in names if name in self._subscriptions}
        public, private = _by_privacy({name: subscription.stream for name, subscription in wanted.items()})
        undone = [SendText(unsubscribe_text(frame)) for frame in (*_frames(public), *_frames(private))]
        return [*undone, *self._request(wanted, given, now)]

    def _unsubscribe(self, names: Iterable[str]) -> list[SubscriptionsOutput]:
        return self._give_up({name: parse_stream(name) for name in names}, Need.USER)

    def _give_up(self, names: Iterable[str], need: Need) -> list[SubscriptionsOutput]:
        released: dict[str, Stream] = {}
        for name in names:
            self._release(name, need, released)
        if not released:
            return []
        outputs: list[SubscriptionsOutput] = []
        if self._connectivity is Connectivity.UP:
            self._leaving.update(dict.fromkeys(released))
            public, private = _by_privacy(released)
            outputs += [SendText(unsubscribe_text(frame)) for frame in (*_frames(public), *_frames(private))]
        return [*outputs, Released((*released,))]

    def _release(self, name: str, need: Need | str, released: dict[str, Stream]) -> None:
        """Take one need off a stream; with the last one it goes, and with a book what that needed."""
        subscription = self._subscriptions.get(name)
        if subscription is None or need not in subscription.needs:
            return
        needs = subscription.needs
        del needs[need]
        if not any(other in SHOWN for other in needs):
            self._shown.pop(name, None)
        if needs:
            return
        released[name] = subscription.stream
        del self._subscriptions[name]
        self._awaited.pop(name, None)
        self._timers.set(name, None)
        if subscription.stream.channel is Channel.DEPTH:
            self._release(_verifier_of(subscription.stream), name, released)

    def _request(
        self,
        subscriptions: Mapping[str, _Subscription],
        given: Subscribe | FollowAccount | CanariesChosen | Resubscribe | ClockRead | Connected,
        now: Now,
    ) -> list[SubscriptionsOutput]:
        if not subscriptions:
            return []
        public, private = _by_privacy({name: subscription.stream for name, subscription in subscriptions.items()})
        outputs: list[SubscriptionsOutput] = [SendText(subscribe_text(frame)) for frame in _frames(public)]
        # Signed here and never kept: a signature is good for its window, seconds, and a connection may come hours later.
        outputs += [SendText(subscribe_text(frame, self._signature(now)), signed=True) for frame in _frames(private)]
        # Signing runs foreign code that may raise, so only from here on does anything change.
        self._turns += 1
        for name, subscription in subscriptions.items():
            subscription.become(StreamState.REQUESTED, given)
            subscription.since_us = now.mono_us
            subscription.turn, subscription.in_force = self._turns, False
            self._awaited[name] = None
            timeout_us = subscription.stream.channel.traits.first_data_us
            self._timers.set(name, None if timeout_us is None else now.mono_us + timeout_us)
        return [*outputs, Requested((*subscriptions,))]

    def _refused_private(self) -> dict[str, _Subscription]:
        refused = {name: one for name, one in self._subscriptions.items() if one.state is StreamState.REFUSED}
        return {name: one for name, one in refused.items() if one.stream.private}

    def _sign_again(self, given: ClockRead, now: Now) -> list[SubscriptionsOutput]:
        """Request refused private streams again, once on each connection, when they were signed by a clock that was wrong."""
        refused = self._refused_private()
        if not refused or self._signed_again or abs(given.zero_us - self._signed_zero_us) < WRONG_CLOCK_US:
            return []
        outputs = self._request(refused, given, now)
        self._signed_again = True
        return outputs

    def _signature(self, now: Now) -> tuple[str, str, str, str]:
        assert self._sign is not None, "private streams without credentials are refused by Subscribe"  # noqa: S101
        signature = self._sign(now)
        self._signed_zero_us = signature.unix_us - now.mono_us
        return signature.parts

    def _see(self, name: str, given: DataSeen, now: Now) -> list[SubscriptionsOutput]:
        if name not in self._awaited:
            return []
        subscription = self._subscriptions[name]
        canary = subscription.stream.channel.traits.every_second
        news = subscription.silent or subscription.state is not StreamState.LIVE
        in_force = self._in_force(subscription.turn) if not subscription.in_force else []
        subscription.become(StreamState.LIVE, given)
        subscription.since_us, subscription.silent = now.mono_us, False
        if not canary:
            del self._awaited[name]
        if not news:
            # The timer stays where it is; when it fires it finds out that there were data, and moves on.
            return in_force
        self._timers.set(name, now.mono_us + CANARY_SILENCE_US if canary else None)
        return [StreamLive(stream=name), *in_force] if subscription.reported else in_force

    def _in_force(self, turn: int) -> list[SubscriptionsOutput]:
        """The exchange takes frames in order, so data of a stream prove all requests up to its own."""
        proved = {name: one for name, one in self._subscriptions.items() if not one.in_force and 0 < one.turn <= turn}
        for one in proved.values():
            one.in_force = True
        # Only books wait for it.
        depth = tuple(name for name, one in proved.items() if one.stream.channel is Channel.DEPTH)
        return [InForce(depth)] if depth else []

    def _fire(self, now: Now) -> list[SubscriptionsOutput]:
        outputs: list[SubscriptionsOutput] = []
        for name in self._timers.due(now.mono_us):
            subscription = self._subscriptions[name]
            silent_us = now.mono_us - subscription.since_us
            if subscription.state is StreamState.LIVE and silent_us < CANARY_SILENCE_US:
                self._timers.set(name, subscription.since_us + CANARY_SILENCE_US)
                continue
            subscription.silent = True
            self._timers.set(name, None)
            if subscription.reported:
                outputs.append(StreamSilent(stream=name, silent_us=silent_us))
        return outputs

    def _refuse(self, given: ErrorFrame, now: Now) -> list[SubscriptionsOutput]:
        error = RemoteProtocolError(f"the exchange answered with error {given.code}: {given.message}")
        suspects = self._suspects(given.code, now)
        if not suspects:
            return [ErrorReceived(error=error, code=given.code, message=given.message)]
        for subscription in suspects.values():
            subscription.become(StreamState.REFUSED, given)
        return [
            StreamsRefused(
                error=error,
                code=given.code,
                message=given.message,
                suspects=(*suspects,),
                authentication=given.code == _Code.INVALID_SIGNATURE,
            )
        ]

    def _suspects(self, code: int, now: Now) -> dict[str, _Subscription]:
        pending = {
            name: subscription
            for name, subscription in self._subscriptions.items()
            if subscription.state is not StreamState.LIVE and now.mono_us - subscription.since_us < BLAME_US
        }
        match code:
            case _Code.INVALID_SIGNATURE:
                return {name: one for name, one in pending.items() if one.stream.private}
            case _Code.INVALID_STREAM:
                return {name: one for name, one in pending.items() if not one.stream.private} or pending
            case _Code.INVALID_DEPTH_WINDOW:
                return {name: one for name, one in pending.items() if one.stream.window_ms is not None}
            case _:
                return pending

    def _lose(self, given: ConnectionLost) -> None:
        self._connectivity = CONNECTIVITY_TRANSITIONS.step(self._connectivity, given, Connectivity.DOWN)
        for subscription in self._subscriptions.values():
            subscription.become(StreamState.WANTED, given)
            subscription.silent = False
            subscription.turn, subscription.in_force = 0, False
        self._awaited.clear()
        self._leaving.clear()
        self._signed_again = False
        self._timers = Timers()


def _verifier_of(depth: Stream) -> str:
    """The stream that tells the best levels of the same book, at the same update ids."""
    return Stream(channel=Channel.BOOK_TICKER, symbol=depth.symbol).name


def _by_privacy(streams: Mapping[str, Stream]) -> tuple[list[str], list[str]]:
    """Names of public and of private streams, each in order."""
    public = [name for name, stream in streams.items() if not stream.private]
    private = [name for name, stream in streams.items() if stream.private]
    return public, private


def _frames(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), STREAMS_PER_FRAME):
        yield names[start : start + STREAMS_PER_FRAME]

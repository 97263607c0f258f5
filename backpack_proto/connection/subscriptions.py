"""Streams that are wanted, requested, and live.

Theory of operation. A stream is wanted while it is needed, over any number of connections: the user, from `Subscribe` to
`Unsubscribe`. The ledger, from `FollowAccount` on. A book that is to be verified needs the `bookTicker` of its symbol for as long as its depth
stream is wanted. Each need is counted. A stream ends with the last of them. SHOWN are the streams whose data are
events: those that the user or the ledger needs.

While there is no connection a wanted stream is WANTED. When there is one it has been REQUESTED on it, by a frame signed at the moment of sending
if it is private. The exchange never acknowledges (docs/protocol.md 3.2), so only data make it LIVE. The end of the connection makes everything
WANTED again. Data of a stream that was just unsubscribed may still be on their way: it is LEAVING until the connection ends.

Frames. Each names streams of one kind, so that an error frame is about one kind. A kind that is not in our table of channels may not
exist, so each of its names, UNTYPED, has a frame of its own, and only one of these is in flight: until its first data, an error, or
until it must be in force, `IN_FORCE_US` after the request. An error 4006 meanwhile is about that name, and the others go out behind it.

Silence. A REQUESTED stream that is silent for its channel's timeout gives one `StreamSilent`, a notice: an unknown market
looks like a quiet one. Some channels come every second in any market (docs/protocol.md 3.4). These canaries are
watched for as long as they live. Data after a silence give `StreamLive` again.

Refusals. An error frame does not name its request, so the suspects are the streams that were requested less than BLAME_US ago
and are still silent. A bad signature is refused once for each frame that has it, and reported once. Which of them the code can mean: 4003 private ones, 4008 depth streams with a window, 4006 public ones unless
only private ones are pending, any other code all of them. Suspects become REFUSED. That is suspicion, not proof: data make such a
stream LIVE like any other, its timeout runs on, and the next connection requests it again. Private ones are requested again on this connection
too, newly signed, when it is found that the clock that they were signed by was wrong (`ClockRead`), less and less often.

`DataSeen` is needed only for the names in `awaited`, so data of all other streams do not reach this machine.
"""

from __future__ import annotations

from collections.abc import Iterable, KeysView, Mapping, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple, TypeAlias

from backpack_proto.errors import LocalProtocolError, RemoteProtocolError
from backpack_proto.inputs import Connected, FollowAccount, Subscribe, TimerFired, Unsubscribe
from backpack_proto.machine import Now, Timers, Transitions, due, earliest
from backpack_proto.outputs import ErrorReceived, Output, SendText, StreamLive, StreamSilent, StreamsRefused
from backpack_proto.streams.channels import IN_FORCE_US, Channel
from backpack_proto.streams.frames import ErrorFrame, subscribe_text, unsubscribe_text
from backpack_proto.streams.names import Stream, channel_of, check_untyped, parse_stream

from .refusals import RefusalCode, suspects_of
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
from .signatures import Sign, Signatures
from .wanted_stream import SHOWN, Need, StreamState, WantedStream, frames_of

__all__ = [
    "ACCOUNT_STREAMS",
    "CONNECTIVITY_TRANSITIONS",
    "Connectivity",
    "Subscriptions",
    "SubscriptionsInput",
    "SubscriptionsOutput",
]


CANARY_SILENCE_US = 10_000_000
"""A stream that comes every second and has not come for so long is silent."""

ACCOUNT_STREAMS: Final = (Channel.ORDER_UPDATE.value, Channel.POSITION_UPDATE.value, Channel.BALANCE_UPDATE.value)
"""The streams that a ledger follows."""


class Connectivity(Enum):
    """True when frames can be sent."""

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

_Requester: TypeAlias = (
    Subscribe
    | Unsubscribe
    | FollowAccount
    | CanariesChosen
    | Resubscribe
    | ClockRead
    | Connected
    | DataSeen
    | ErrorFrame
    | TimerFired
)
"""Inputs that have streams requested."""


class _Flight(NamedTuple):
    """The untyped stream that was requested last, as long as an error may be about it."""

    name: str
    in_force_us: int


class Subscriptions:
    """Turns wanted streams into requests, connection after connection, and says which of them live.

    `sign` is called at each signing, with the moment of sending. None means that there are no credentials, so that private
    streams are impossible.
    """

    def __init__(self, sign: Sign | None) -> None:
        self._signatures = Signatures(sign)
        self._connectivity = Connectivity.DOWN
        self._subscriptions: dict[str, WantedStream] = {}
        self._shown: dict[str, None] = {}
        self._leaving: dict[str, None] = {}
        self._awaited: dict[str, None] = {}
        self._untyped: dict[str, None] = {}
        self._line: dict[str, None] = {}
        """The untyped streams that wait for the one in flight."""
        self._flight: _Flight | None = None
        self._timers: Timers[str] = Timers()
        self._turns = 0
        """Counts requests."""

    @property
    def deadline(self) -> int | None:
        """When the first stream is to be looked at, on `Now.mono_us`, or None."""
        in_force_us = None if self._flight is None else self._flight.in_force_us
        return earliest(self._timers.earliest, in_force_us, self._signatures.again_us)

    @property
    def wanted(self) -> KeysView[str]:
        """The wanted streams in the order they were wanted. A live view, for membership tests as well."""
        return self._subscriptions.keys()

    @property
    def shown(self) -> KeysView[str]:
        """The wanted streams whose data are events. A live view."""
        return self._shown.keys()

    @property
    def needed(self) -> bool:
        """True when anybody but the canaries needs a stream."""
        return any(subscription.reported for subscription in self._subscriptions.values())

    def of_symbol(self, symbol: str) -> tuple[str, ...]:
        """Return the wanted streams of one market."""
        return tuple(
            name for name, one in self._subscriptions.items() if one.stream is not None and one.stream.symbol == symbol
        )

    @property
    def untyped(self) -> KeysView[str]:
        """The wanted streams of kinds that are not in our table. A live view."""
        return self._untyped.keys()

    @property
    def leaving(self) -> KeysView[str]:
        """The streams that were unsubscribed on this connection, whose last data may still be on their way. A live view."""
        return self._leaving.keys()

    @property
    def states(self) -> Mapping[str, StreamState]:
        """The state of each wanted stream, in the order they were wanted. A copy."""
        return {name: subscription.state for name, subscription in self._subscriptions.items()}

    @property
    def silent(self) -> tuple[str, ...]:
        """The streams that were reported by `StreamSilent` on this connection and are still silent, in the order wanted."""
        return tuple(name for name, one in self._subscriptions.items() if one.silent and one.reported)

    @property
    def awaited(self) -> KeysView[str]:
        """The streams whose data have to be told by `DataSeen`: those not live yet, and the canaries. A live view."""
        return self._awaited.keys()

    def handle(self, given: SubscriptionsInput, now: Now) -> list[SubscriptionsOutput]:
        """Take one input and return its outputs.

        That is `SendText` and, behind them, `Requested` or `Released`. `StreamLive`, `StreamSilent`, `StreamsRefused`, `ErrorReceived`.

        Raises:
            InvalidStream: a name is not a stream of the exchange. The state is unchanged.
            LocalProtocolError: a private stream without credentials, or an input that is impossible in this state
                (`CONNECTIVITY_TRANSITIONS`). The state is unchanged.
        """
        if isinstance(given, TimerFired):
            return self._fire(given, now)
        CONNECTIVITY_TRANSITIONS.check(self._connectivity, given)
        match given:
            case DataSeen(name):
                return self._see(name, given, now)
            case Subscribe():
                return self._subscribe(given, now)
            case FollowAccount():
                return self._want([(name, Need.LEDGER) for name in ACCOUNT_STREAMS], given, now)
            case Unsubscribe(names):
                return self._unsubscribe(names, given, now)
            case CanariesChosen(names):
                return self._watch(names, given, now)
            case Resubscribe(names):
                return self._resubscribe(names, given, now)
            case ClockRead(zero_us):
                self._signatures.know_clock(zero_us)
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
        for name in given.untyped:
            check_untyped(name)
            needs.append((name, Need.USER))
        return self._want(needs, given, now)

    def _want(
        self, needs: Sequence[tuple[str, Need | str]], given: Subscribe | FollowAccount | CanariesChosen, now: Now
    ) -> list[SubscriptionsOutput]:
        untyped = given.untyped if isinstance(given, Subscribe) else ()
        wanted = {name: WantedStream(name, None if name in untyped else parse_stream(name)) for name, _ in needs}
        private = [name for name, subscription in wanted.items() if subscription.private]
        if private and not self._signatures.possible:
            raise LocalProtocolError(f"{', '.join(private)}: private streams need credentials")
        fresh = {name: subscription for name, subscription in wanted.items() if name not in self._subscriptions}
        outputs = self._request(fresh, given, now) if self._connectivity is Connectivity.UP else []
        self._subscriptions.update(fresh)
        self._untyped.update(dict.fromkeys(untyped))
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
        """Have these canaries and no others. The new ones are requested before the old ones are undone."""
        outputs = self._want([(name, Need.CANARY) for name in names], given, now)
        old = [name for name, one in self._subscriptions.items() if Need.CANARY in one.needs and name not in names]
        outputs += self._give_up(old, Need.CANARY, given, now)
        return [*outputs, CanaryRequested()] if names and self._connectivity is Connectivity.UP else outputs

    def _resubscribe(self, names: tuple[str, ...], given: Resubscribe, now: Now) -> list[SubscriptionsOutput]:
        """Undo streams and request them again. Untyped ones have no place in line to come back to, and stay as they are."""
        wanted = {name: self._subscriptions[name] for name in names if name in self._subscriptions}
        wanted = {name: one for name, one in wanted.items() if one.stream is not None}
        undone = [SendText(unsubscribe_text(frame)) for _, frame in frames_of(wanted)]
        return [*undone, *self._request(wanted, given, now)]

    def _unsubscribe(self, names: Iterable[str], given: Unsubscribe, now: Now) -> list[SubscriptionsOutput]:
        names = tuple(dict.fromkeys(names))
        for name in names:
            if channel_of(name) is not None:
                parse_stream(name)
            elif name not in self._untyped:
                check_untyped(name)
        return self._give_up(names, Need.USER, given, now)

    def _give_up(
        self, names: Iterable[str], need: Need, given: Unsubscribe | CanariesChosen, now: Now
    ) -> list[SubscriptionsOutput]:
        released: dict[str, WantedStream] = {}
        for name in names:
            self._release(name, need, released)
        if not released:
            return []
        outputs: list[SubscriptionsOutput] = []
        if self._connectivity is Connectivity.UP:
            requested = {name: one for name, one in released.items() if one.state is not StreamState.WANTED}
            self._leaving.update(dict.fromkeys(requested))
            outputs += [SendText(unsubscribe_text(frame)) for _, frame in frames_of(requested)]
        outputs.append(Released((*released,)))
        if self._flight is not None and self._flight.name in released:
            outputs += self._land(given, now)
        return outputs

    def _release(self, name: str, need: Need | str, released: dict[str, WantedStream]) -> None:
        """Take one need off a stream. With the last one it goes, and with a book the streams that only the book needed."""
        subscription = self._subscriptions.get(name)
        if subscription is None or need not in subscription.needs:
            return
        needs = subscription.needs
        del needs[need]
        if not any(other in SHOWN for other in needs):
            self._shown.pop(name, None)
        if needs:
            return
        released[name] = subscription
        del self._subscriptions[name]
        for names in (self._awaited, self._untyped, self._line):
            names.pop(name, None)
        self._timers.set(name, None)
        if subscription.stream is not None and subscription.stream.channel is Channel.DEPTH:
            self._release(_verifier_of(subscription.stream), name, released)

    def _request(self, subscriptions: Mapping[str, WantedStream], given: _Requester, now: Now) -> list[SubscriptionsOutput]:
        """Request the streams that can be requested now, and put the rest of the untyped streams into line."""
        leaving = {name: one for name, one in subscriptions.items() if one.stream is not None}
        line = self._line | {name: None for name, one in subscriptions.items() if one.stream is None}
        flight = self._flight
        if line and flight is None:
            first = next(iter(line))
            del line[first]
            leaving[first] = subscriptions.get(first) or self._subscriptions[first]
            flight = _Flight(first, now.mono_us + IN_FORCE_US)
        outputs = self._send(leaving, given, now)
        self._line, self._flight = line, flight
        return outputs

    def _land(self, given: _Requester, now: Now) -> list[SubscriptionsOutput]:
        """Request the next in line: the one in flight is understood or refused by now."""
        self._flight = None
        return self._request({}, given, now)

    def _send(self, subscriptions: Mapping[str, WantedStream], given: _Requester, now: Now) -> list[SubscriptionsOutput]:
        if not subscriptions:
            return []
        outputs: list[SubscriptionsOutput] = []
        for private, frame in frames_of(subscriptions):
            # Signed here and never kept: a signature is good for its window, seconds, and a connection may come hours later.
            signature = self._signatures.make(now) if private else None
            outputs.append(SendText(subscribe_text(frame, signature), signed=private))
        # Signing runs foreign code that may raise, so only from here on does anything change.
        self._turns += 1
        for name, subscription in subscriptions.items():
            subscription.become(StreamState.REQUESTED, given)
            subscription.since_us = subscription.requested_us = now.mono_us
            subscription.turn, subscription.in_force = self._turns, False
            self._awaited[name] = None
            timeout_us = subscription.first_data_us
            self._timers.set(name, None if timeout_us is None else now.mono_us + timeout_us)
        return [*outputs, Requested((*subscriptions,))]

    def _refused_private(self) -> dict[str, WantedStream]:
        refused = {name: one for name, one in self._subscriptions.items() if one.state is StreamState.REFUSED}
        return {name: one for name, one in refused.items() if one.private and one.stream is not None}

    def _sign_again(self, given: ClockRead | TimerFired, now: Now) -> list[SubscriptionsOutput]:
        """Request refused private streams again, newly signed, when that is worth a try."""
        refused = self._refused_private()
        if not refused or not self._signatures.worth_another(now):
            return []
        outputs = self._request(refused, given, now)
        self._signatures.made_again(now)
        return outputs

    def _see(self, name: str, given: DataSeen, now: Now) -> list[SubscriptionsOutput]:
        if name not in self._awaited:
            return []
        subscription = self._subscriptions[name]
        canary = subscription.canary
        news = subscription.silent or subscription.state is not StreamState.LIVE
        # Data that were on their way before the request, from an earlier one of the same stream, are no evidence about it.
        later = given.emitted_us is None or given.emitted_us >= subscription.requested_us
        in_force = self._in_force(subscription.turn, given, now) if later and not subscription.in_force else []
        subscription.become(StreamState.LIVE, given)
        subscription.since_us, subscription.silent = now.mono_us, False
        if not canary:
            del self._awaited[name]
        if not news:
            # The timer stays where it is. When it fires it finds out that there were data, and moves on.
            return in_force
        self._timers.set(name, now.mono_us + CANARY_SILENCE_US if canary else None)
        return [StreamLive(stream=name), *in_force] if subscription.reported else in_force

    def _in_force(self, turn: int, given: DataSeen, now: Now) -> list[SubscriptionsOutput]:
        """The exchange takes frames in order, so data of a stream prove all requests up to its own."""
        proved = {name: one for name, one in self._subscriptions.items() if not one.in_force and 0 < one.turn <= turn}
        for one in proved.values():
            one.in_force = True
        # Only books wait for it.
        depth = tuple(name for name, one in proved.items() if one.stream is not None and one.stream.channel is Channel.DEPTH)
        outputs: list[SubscriptionsOutput] = [InForce(depth)] if depth else []
        return [*outputs, *self._land(given, now)] if self._flight is not None and self._flight.name in proved else outputs

    def _fire(self, given: TimerFired, now: Now) -> list[SubscriptionsOutput]:
        outputs: list[SubscriptionsOutput] = []
        if self._flight is not None and now.mono_us >= self._flight.in_force_us:
            outputs += self._land(given, now)
        if due(self._signatures.again_us, now):
            self._signatures.again_us = None
            outputs += self._sign_again(given, now)
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
        in_flight = None if self._flight is None else self._flight.name
        suspects = suspects_of(given.code, self._subscriptions, in_flight, now)
        if not suspects:
            return [ErrorReceived(error=error, code=given.code, message=given.message)]
        signature = given.code == RefusalCode.INVALID_SIGNATURE
        if signature:
            self._signatures.refused(now)
        if signature and all(subscription.state is StreamState.REFUSED for subscription in suspects.values()):
            # Another frame with the signature of which all have been reported as refused.
            return []
        for subscription in suspects.values():
            subscription.become(StreamState.REFUSED, given)
        landed = in_flight is not None and in_flight in suspects
        return [
            StreamsRefused(
                error=error,
                code=given.code,
                message=given.message,
                suspects=(*suspects,),
                authentication=signature,
            ),
            *(self._land(given, now) if landed else ()),
        ]

    def _lose(self, given: ConnectionLost) -> None:
        self._connectivity = CONNECTIVITY_TRANSITIONS.step(self._connectivity, given, Connectivity.DOWN)
        for subscription in self._subscriptions.values():
            subscription.become(StreamState.WANTED, given)
            subscription.silent = False
            subscription.turn, subscription.in_force = 0, False
        self._awaited.clear()
        self._leaving.clear()
        self._line.clear()
        self._flight = None
        self._signatures.start_over()
        self._timers.clear()


def _verifier_of(depth: Stream) -> str:
    """The stream that tells the best levels of the same book, at the same update ids."""
    return Stream(channel=Channel.BOOK_TICKER, symbol=depth.symbol).name

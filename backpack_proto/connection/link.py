"""The connection to the exchange: joins its socket, its heartbeat, its path, the canaries and the subscriptions.

        Command, Fact ──> Link ──> Output, and the signals that are for books, the ledger and requests

It routes, and has no rules of its own. Data frames, the hot path, come by `hear`, `see` and `data_seen`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

from backpack_proto.claims import PathClaim
from backpack_proto.inputs import (
    BytesReceived,
    Close,
    Connected,
    ConnectFailed,
    Disconnected,
    FollowAccount,
    Open,
    PingReceived,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    Reconnect,
    Subscribe,
    TimerFired,
    Unsubscribe,
)
from backpack_proto.machine import Now, earliest
from backpack_proto.outputs import ConnectionDown, Output
from backpack_proto.streams.frames import ErrorFrame

from .canary import Canary, CanaryInput, CanaryState, MarketsKnown, MarketsUnknown, ReadMarkets, StreamsWanted
from .connection import Connection, ConnectionState
from .heartbeat import Heartbeat
from .path import Path
from .signals import (
    CanariesChosen,
    CanaryRequested,
    ClockRead,
    ConnectionLost,
    DataSeen,
    GiveUp,
    InForce,
    PathExpired,
    PathProved,
    Released,
    Requested,
    Resubscribe,
    RoundTripMeasured,
)
from .signatures import Sign
from .subscriptions import Subscriptions

__all__ = ["Link", "LinkInput", "LinkOutput"]

LinkInput: TypeAlias = (
    Open
    | Close
    | Reconnect
    | Connected
    | ConnectFailed
    | Disconnected
    | GiveUp
    | ConnectionLost
    | BytesReceived
    | PingReceived
    | PongReceived
    | ReadingPaused
    | ReadingResumed
    | RoundTripMeasured
    | ErrorFrame
    | Subscribe
    | Unsubscribe
    | FollowAccount
    | Resubscribe
    | Requested
    | ClockRead
    | MarketsKnown
    | MarketsUnknown
    | TimerFired
)
LinkOutput: TypeAlias = Output | Requested | Released | InForce | PathProved | PathExpired | ReadMarkets


class Link:
    """One connection and the streams on it. A machine made of machines. Takes `LinkInput`, gives `LinkOutput`."""

    def __init__(
        self, connection: Connection, heartbeat: Heartbeat, claim: PathClaim, sign: Sign | None, *, canary: bool = True
    ) -> None:
        """`claim` is written by the path. Without a `canary` no market is watched beside those of the user."""
        self._connection = connection
        self._heartbeat = heartbeat
        self._claim = claim
        self._path = Path(claim)
        # The path's own, for a call costs a tenth of what a frame may.
        self.latest_us = self._path.latest_us
        self.renew = self._path.renew
        self._canary = Canary()
        self._subscriptions = Subscriptions(sign)
        self._shown = self._subscriptions.shown
        self._awaited = self._subscriptions.awaited
        self._canary_streams: frozenset[str] = frozenset()
        self.watches_path = canary
        """True when there are canaries."""
        self.wanted = self._subscriptions.wanted
        """The streams that somebody needs. This view and the next three are live."""
        self.shown = self._shown
        """Those of them whose data are events."""
        self.untyped = self._subscriptions.untyped
        """Those of them whose kinds are not in our table."""
        self.leaving = self._subscriptions.leaving
        """The streams that were unsubscribed, whose last data may still be on their way."""

    @property
    def is_open(self) -> bool:
        """True when frames can be sent."""
        return self._connection.is_open

    @property
    def is_wanted(self) -> bool:
        """True when a connection is there or on its way."""
        return self._connection.wanted

    @property
    def is_draining(self) -> bool:
        """True when the application has closed it, and the exchange has not confirmed that."""
        return self._connection.state is ConnectionState.DRAINING

    @property
    def deadline(self) -> int | None:
        """The earliest of its machines."""
        return earliest(
            self._connection.deadline,
            self._heartbeat.deadline,
            self._path.deadline,
            self._canary.deadline if self._connection.wanted else None,
            self._subscriptions.deadline,
        )

    def of_symbol(self, symbol: str) -> tuple[str, ...]:
        """Return the wanted streams of one market."""
        return self._subscriptions.of_symbol(symbol)

    def is_only_canary(self, stream: str) -> bool:
        """Return whether a stream is a canary that the user and the ledger do not need."""
        return stream in self._canary_streams and stream not in self._shown

    def doubts(self, now: Now) -> list[str]:
        """Return the faults of the path and the canaries at this moment."""
        path_doubt = self._path.doubt(now)
        doubts = [] if path_doubt is None else [path_doubt]
        doubts += [f"the canary of {market} is silent, though other data come" for market in self._canary.replaced]
        if self._canary.state is CanaryState.LOOKING and self._connection.is_open:
            doubts.append("there is no canary yet: the list of markets has not been read, or has no open perpetual")
        return doubts

    def handle(self, given: LinkInput, now: Now) -> list[LinkOutput]:
        """Take one input and return its outputs.

        Raises:
            LocalProtocolError: the input is impossible in this state. The state is unchanged.
        """
        return self._INPUTS[type(given)](self, given, now)

    def want_canary(self, now: Now) -> list[LinkOutput]:
        """Have canaries while a connection is wanted and has something to say."""
        return self._to_canary(StreamsWanted(self._connection.wanted and self._subscriptions.needed), now)

    # The hot path.

    def hear(self, now: Now) -> bool:
        """Take note that a frame was received. Return whether there is a connection that it can have come by."""
        if not self._connection.hear(now):
            return False
        self._heartbeat.hear(now)
        return True

    def see(self, stream: str, emitted_us: int | None, now: Now) -> list[LinkOutput]:
        """Take a data frame, wanted or not, as a proof of the path."""
        outputs = self._path.see(stream, emitted_us, now)
        return self._pass_on(outputs, now) if outputs else []

    def see_unknown(self, stream: str, emitted_us: int | None, now: Now) -> list[LinkOutput]:
        """Take a frame of a kind that is not in our table as a proof of the path.

        The meaning of its time is not known, but the frame is no older than that. A time before the newest proof is no evidence, and may be
        any time of the past. So it is ignored, and data are not late for it.
        """
        proved_us = self._claim.proved_us
        proves = emitted_us is not None and (proved_us is None or emitted_us > proved_us)
        return self.see(stream, emitted_us if proves else None, now)

    def is_plain(self, stream: str) -> bool:
        """Return whether a frame of a stream is of interest for its data alone: it is wanted, and no machine waits for it as a sign of life."""
        return stream in self.wanted and stream not in self._awaited and stream not in self._canary_streams

    def data_seen(self, stream: str, emitted_us: int | None, now: Now) -> list[LinkOutput]:
        """Tell the machines that wait for data of a wanted stream. Their outputs are to be handled before the data are used."""
        awaited, canary = stream in self._awaited, stream in self._canary_streams
        if not awaited and not canary:
            return []
        seen = DataSeen(stream, self._path.on_our_clock(emitted_us))
        outputs = self._pass_on(self._canary.handle(seen, now), now) if canary else []
        # The canary may have undone this very stream.
        return [*outputs, *self._pass_on(self._subscriptions.handle(seen, now), now)] if awaited else outputs

    # Inputs.

    def _to_connection(
        self, given: Open | Close | Reconnect | ConnectFailed | Disconnected | GiveUp, now: Now
    ) -> list[LinkOutput]:
        return self._pass_on(self._connection.handle(given, now), now)

    def _to_subscriptions(
        self, given: Subscribe | Unsubscribe | FollowAccount | Resubscribe | ErrorFrame, now: Now
    ) -> list[LinkOutput]:
        return self._pass_on(self._subscriptions.handle(given, now), now)

    def _to_path(self, given: RoundTripMeasured | CanaryRequested, now: Now) -> list[LinkOutput]:
        return self._pass_on(self._path.handle(given, now), now)

    def _to_canary(self, given: CanaryInput, now: Now) -> list[LinkOutput]:
        return self._pass_on(self._canary.handle(given, now), now) if self.watches_path else []

    def _connected(self, given: Connected, now: Now) -> list[LinkOutput]:
        outputs = self._pass_on(self._connection.handle(given, now), now)
        self._heartbeat.handle(given, now)
        self._path.handle(given, now)
        outputs += self._to_canary(given, now)
        return [*outputs, *self._pass_on(self._subscriptions.handle(given, now), now)]

    def _lose(self, given: ConnectionLost, now: Now) -> list[LinkOutput]:
        """The connection ends for all but the connection."""
        self._heartbeat.handle(given, now)
        self._path.handle(given, now)
        self._subscriptions.handle(given, now)
        return self._to_canary(given, now)

    def _bytes_received(self, _: BytesReceived, now: Now) -> list[LinkOutput]:
        if self._connection.is_open:
            self._heartbeat.hear(now)
        return []

    def _ping_or_pong_received(self, given: PingReceived | PongReceived, now: Now) -> list[LinkOutput]:
        return self._pass_on(self._heartbeat.handle(given, now), now) if self._connection.is_open else []

    def _read_or_not(self, given: ReadingPaused | ReadingResumed, now: Now) -> list[LinkOutput]:
        outputs = self._pass_on(self._heartbeat.handle(given, now), now)
        return [*outputs, *self._pass_on(self._path.handle(given, now), now)]

    def _requested(self, given: Requested, now: Now) -> list[LinkOutput]:
        """Requests of the canaries themselves need no turn."""
        return [] if self._canary_streams.issuperset(given.streams) else self._to_canary(given, now)

    def _clock_read(self, given: ClockRead, now: Now) -> list[LinkOutput]:
        return self._pass_on(self._subscriptions.handle(given, now), now) if self._connection.is_open else []

    def _timer_fired(self, given: TimerFired, now: Now) -> list[LinkOutput]:
        """Only those whose moment has come are told. The others would ignore it."""
        outputs = self._pass_on(self._connection.handle(given, now), now)
        outputs += self._pass_on(self._heartbeat.handle(given, now), now)
        outputs += self._pass_on(self._path.handle(given, now), now)
        if self._connection.wanted:
            outputs += self._to_canary(given, now)
        return [*outputs, *self._pass_on(self._subscriptions.handle(given, now), now)]

    # A message of one of its machines to another.

    def _pass_on(self, outputs: Iterable[object], now: Now) -> list[LinkOutput]:
        passed: list[Any] = []
        for output in outputs:
            match output:
                case GiveUp():
                    passed += self._to_connection(output, now)
                case ConnectionDown():
                    passed += [output, *self._lose(ConnectionLost(), now)]
                case CanariesChosen():
                    self._canary_streams = frozenset(output.streams)
                    passed += self._pass_on(self._subscriptions.handle(output, now), now)
                case Resubscribe():
                    passed += self._to_subscriptions(output, now)
                case CanaryRequested():
                    passed += self._to_path(output, now)
                case _:
                    passed.append(output)
        return passed

    _INPUTS: ClassVar[Mapping[type, Callable[[Link, Any, Now], list[LinkOutput]]]] = {
        BytesReceived: _bytes_received,
        ClockRead: _clock_read,
        Close: _to_connection,
        ConnectFailed: _to_connection,
        Connected: _connected,
        ConnectionLost: _lose,
        Disconnected: _to_connection,
        ErrorFrame: _to_subscriptions,
        FollowAccount: _to_subscriptions,
        GiveUp: _to_connection,
        MarketsKnown: _to_canary,
        MarketsUnknown: _to_canary,
        Open: _to_connection,
        PingReceived: _ping_or_pong_received,
        PongReceived: _ping_or_pong_received,
        ReadingPaused: _read_or_not,
        ReadingResumed: _read_or_not,
        Reconnect: _to_connection,
        Requested: _requested,
        Resubscribe: _to_subscriptions,
        RoundTripMeasured: _to_path,
        Subscribe: _to_subscriptions,
        TimerFired: _timer_fired,
        Unsubscribe: _to_subscriptions,
    }

"""One session with the exchange: all machines behind one `handle`. It routes, and has no rules of the protocol of its own.

        Command, Fact ──> Session ──> Event (for the user), Action (for the runtime)

Connection, heartbeat and subscriptions share the connection; each depth stream has a sequencer of its own; REST requests, whether for
snapshots, the clock or the user's calls, share one budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from msgspec import Struct

from .account.ledger import Account, AccountInput
from .account.readings import AccountEnded, AccountRequested, ReadAccount, ReadingRequested
from .account.reconciliation import arguments_of, endpoint_of, reading_of
from .auth.signing import Signer
from .book.levels import Book
from .book.sequencer import (
    BookSequencer,
    FetchSnapshot,
    SequencerInput,
    SnapshotArrived,
    SnapshotFailed,
    SnapshotRequested,
    StreamEnded,
    StreamRequested,
)
from .connection.connection import CONNECT_TIMEOUT_US, Connection, ConnectionState, GiveUp
from .connection.connection import Heard as LinkHeard
from .connection.heartbeat import PING_TIMEOUT_US, SILENCE_US, Heard, Heartbeat, LinkDead
from .connection.heartbeat import LinkLost as HeartbeatLost
from .connection.subscriptions import DataSeen, Requested, SignAgain, Subscriptions
from .connection.subscriptions import LinkLost as SubscriptionsLost
from .errors import BackpackError, LocalProtocolError, OutcomeUnknown
from .inputs import (
    BytesReceived,
    Call,
    Close,
    Connected,
    ConnectFailed,
    Disconnected,
    FollowAccount,
    Given,
    Open,
    PingReceived,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    RequestLeft,
    Resolve,
    ResponseReceived,
    Subscribe,
    TextReceived,
    TimerFired,
    Unsubscribe,
    Verify,
    Withdraw,
)
from .machine import Now, Timers, earliest
from .metrics import COUNTED_EVENTS, BookAwaited, Health, Metrics, MetricsSnapshot, StreamsRequested, TopVerified, Unwatched
from .outputs import CallAnswered, CallFailed, CallUnresolved, ConnectionDown, Event, Output, StreamsRefused
from .rest.codec import DepthSnapshot
from .rest.pacing import PAUSE_CEILING_US, PacerState
from .rest.requests import Abandon, Ask, Forget, MeasureTime, Requests, Sending, Settled, Unresolved, WithdrawAsk
from .streams.frames import Drop, ErrorFrame, Frame, decode, dropped
from .streams.names import Channel, parse_stream
from .streams.payloads import BalanceUpdate, BookTicker, Depth, OrderUpdate, PositionUpdate

__all__ = ["Session"]

SNAPSHOT_LIMIT = 1000
"""Levels a side that are asked for, always in so many words, for the sources disagree on the default (docs/protocol.md 5.1)."""
SUSPICION_US = 5_000_000
"""How often, at the most, unreadable frames have all books checked."""

WRONG_CLOCK_US = 500_000
"""A signature that was this far off, as it turns out, may have been refused for that."""

ACCOUNT_STREAMS = tuple(channel.value for channel in (Channel.ORDER_UPDATE, Channel.POSITION_UPDATE, Channel.BALANCE_UPDATE))
"""The streams that a ledger follows."""


class _Snapshot(Struct, frozen=True, gc=False):
    """Who asked for a snapshot."""

    stream: str
    attempt: int


class _Caller(Struct, frozen=True, gc=False):
    """Who made a `Call`; the id alone tells callers apart."""

    call_id: int
    endpoint: str = ""
    """As the caller wrote it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Caller) and self.call_id == other.call_id

    def __hash__(self) -> int:
        return hash(self.call_id)

    def __repr__(self) -> str:
        return f"call_id {self.call_id}"


_HEARD = Heard()
_LINK_HEARD = LinkHeard()
_TIMER_FIRED = TimerFired()


class Session:
    """Speaks with the exchange: public and private streams, order books, REST.

    Give it commands and facts, do the actions that come back, hand on the events.
    """

    def __init__(
        self,
        random: Random,
        *,
        signer: Signer | None = None,
        book_levels: int = 1,
        manage_books: bool = True,
        audit_books: bool = True,
        measure_clock: bool = False,
        dials: bool = True,
        connect_timeout_us: int = CONNECT_TIMEOUT_US,
        silence_us: int = SILENCE_US,
        ping_timeout_us: int = PING_TIMEOUT_US,
        pause_ceiling_us: int = PAUSE_CEILING_US,
    ) -> None:
        """Make a session that wants nothing yet.

        Args:
            random: draws the backoff delays.
            signer: signs private subscriptions and calls; without one they are refused.
            book_levels: how many levels a side `BookChanged` carries.
            manage_books: turn `depth` streams into books; otherwise their deltas are events as they come.
            audit_books: compare live books with fresh REST snapshots from time to time.
            measure_clock: measure the exchange's clock, so that signatures are right when ours is not.
            dials: open the connections; otherwise somebody else does, and `ConnectionDown.retry_us` tells it how long to wait.
            connect_timeout_us: how long a connection may take to open.
            silence_us: probe a connection on which nothing was heard for so long.
            ping_timeout_us: give it up when nothing was heard for so long after that.
            pause_ceiling_us: how long a 429 of the exchange stops all requests at most, whatever it asks for.
        """
        self._signer = signer
        self._book_levels = book_levels
        self._manage_books = manage_books
        self._audit_books = audit_books
        self._measure_clock = measure_clock
        self._connection = Connection(random, dials=dials, connect_timeout_us=connect_timeout_us)
        self._heartbeat = Heartbeat(silence_us=silence_us, ping_timeout_us=ping_timeout_us)
        self._subscriptions = Subscriptions(self._sign_subscription if signer is not None else None)
        self._wanted = self._subscriptions.wanted
        self._awaited = self._subscriptions.awaited
        self._heard_us = -1
        self._suspected_us = -SUSPICION_US
        self._requests = Requests(signer, pause_ceiling_us=pause_ceiling_us)
        self._asked: dict[str, _Snapshot] = {}
        """The snapshot of each stream that Requests has been asked for and has not settled."""
        self._reading: ReadAccount | None = None
        """The reading of the ledger that Requests has been asked for and has not settled."""
        self._signed_us = 0
        """When the monotonic clock stood at zero, by the exchange's clock as it was known when private streams were signed last."""
        self._refused = False
        """It was refused, on this connection."""
        self._signed_again = False
        self._metrics = Metrics()
        self._account: Account | None = None
        self._sequencers: dict[str, BookSequencer] = {}
        self._by_symbol: dict[str, list[BookSequencer]] = {}
        self._book_timers: Timers[str] = Timers()
        self._left: set[str] = set()
        """Streams that were unsubscribed on this connection; what is still on its way is dropped without a word."""

    @property
    def deadline(self) -> int | None:
        """The earliest deadline of all machines."""
        return earliest(
            self._connection.deadline,
            self._heartbeat.deadline,
            self._subscriptions.deadline,
            self._requests.deadline,
            self._book_timers.earliest,
            self._account.deadline if self._account is not None else None,
        )

    @property
    def account(self) -> Account:
        """The ledger of the account; `live` says whether it follows the exchange.

        Raises:
            LocalProtocolError: it is not followed.
        """
        if self._account is None:
            raise LocalProtocolError("the account is not followed")
        return self._account

    def budget(self, now: Now) -> PacerState:
        """What is left of the request budget at this moment."""
        return self._requests.budget(now)

    def book(self, name: str) -> Book:
        """The book of a depth stream, or of a symbol, whose unaggregated stream comes first; always the same object.

        Raises:
            LocalProtocolError: no such stream is subscribed.
        """
        sequencers = [self._sequencers[name]] if name in self._sequencers else self._by_symbol.get(name, [])
        if not sequencers:
            raise LocalProtocolError(f"no depth stream of {name!r} is subscribed")
        return min(sequencers, key=lambda sequencer: len(sequencer.stream)).book

    def metrics(self, now: Now) -> MetricsSnapshot:
        """All counters at this moment."""
        return self._metrics.snapshot(now)

    def health(self, now: Now) -> Health:
        """Whether all is well at this moment, and if not, why."""
        return self._metrics.health(now, self._requests.troubles(now))

    @property
    def unresolved(self) -> Mapping[int, CallUnresolved]:
        """The calls that were given up after they may have been sent, by call id, until it is known how they ended.

        A call that has just been withdrawn is among them until the transport has said whether it left.
        """
        return {
            caller.call_id: _unresolved(caller, error)
            for caller, error in self._requests.unresolved.items()
            if isinstance(caller, _Caller)
        }

    def handle(self, given: Given, now: Now) -> Sequence[Output]:
        """Take one command or fact.

        Raises:
            LocalProtocolError: the input is impossible in this state; nothing has changed.
        """
        if isinstance(given, TextReceived):
            outputs = self._text_received(given.data, now)
        else:
            outputs = self._route(given, now)
            self._metrics.handle(given, now)
        for output in outputs:
            if type(output) in COUNTED_EVENTS and isinstance(output, Event):
                self._metrics.handle(output, now)
        return outputs

    def _text_received(self, data: bytes, now: Now) -> Sequence[Output]:
        if not self._connection.is_open:
            # What is still on its way when the application has closed the session is of no interest to it.
            if self._connection.state is ConnectionState.DRAINING:
                return ()
            return (dropped(Drop.NOT_CONNECTED, "a frame without a connection", data=data),)
        if now.mono_us != self._heard_us:
            # All frames of one read share its moment, and one of them proves the connection as well as all.
            self._heard_us = now.mono_us
            self._heartbeat.handle(_HEARD, now)
            if self._connection.on_probation:
                self._connection.handle(_LINK_HEARD, now)
        decoded = decode(data)
        if isinstance(decoded, Frame):
            return self._frame_received(decoded, data, now)
        if isinstance(decoded, tuple):
            return [output for frame in decoded for output in self._frame_received(frame, data, now)]
        if isinstance(decoded, ErrorFrame):
            return self._subscribed(self._subscriptions.handle(decoded, now), now)
        return [decoded, *self._suspect_books(decoded.stream, now)]

    def _suspect_books(self, stream: str | None, now: Now) -> list[Output]:
        """A frame that cannot be read may have been any book's change: in a quiet market no next one would show the gap."""
        if stream is None:
            if now.mono_us < self._suspected_us + SUSPICION_US:
                return []
            self._suspected_us = now.mono_us
        suspects = [sequencer for sequencer in self._sequencers.values() if stream in (None, sequencer.stream)]
        return [output for sequencer in suspects for output in self._sequence(sequencer, Verify(sequencer.stream), now)]

    def _frame_received(self, frame: Frame, data: bytes, now: Now) -> Sequence[Output]:
        stream, payload = frame.stream, frame.payload
        if payload is None:
            raise AssertionError("decode returns no frame without a payload")
        if stream not in self._wanted:
            if stream in self._left:
                return ()
            return (dropped(Drop.NOT_SUBSCRIBED, f"{stream} is not subscribed", data=data, stream=stream),)
        if isinstance(payload, Depth) and self._manage_books:
            sequencer = self._sequencers.get(stream)
            if sequencer is None or sequencer.symbol != payload.symbol:
                drop = dropped(Drop.MALFORMED, f"a delta of {payload.symbol}", data=data, stream=stream)
                return [drop, *self._suspect_books(stream, now)]
            outputs = self._sequence(sequencer, payload, now)
        else:
            outputs = [payload]
            if isinstance(payload, BookTicker):
                for sequencer in self._by_symbol.get(payload.symbol, ()):
                    outputs += self._sequence(sequencer, payload, now)
            elif isinstance(payload, OrderUpdate | PositionUpdate | BalanceUpdate) and stream in ACCOUNT_STREAMS:
                outputs += self._keep_account(payload, now)
        self._metrics.handle(frame, now)
        if stream in self._awaited:
            outputs = [*self._subscribed(self._subscriptions.handle(DataSeen(stream), now), now), *outputs]
        return outputs

    def _sequence(self, sequencer: BookSequencer, given: SequencerInput, now: Now) -> list[Output]:
        """Give a book something, and pass on what it says."""
        produced = sequencer.handle(given, now)
        outputs = self._withdraw_snapshot(sequencer, now) if self._asked else []
        for output in produced:
            if isinstance(output, Event):
                outputs.append(output)
            elif isinstance(output, FetchSnapshot):
                asker = self._asked[output.stream] = _Snapshot(output.stream, output.attempt)
                ask = Ask(
                    asker=asker,
                    endpoint="depth",
                    parameters={"symbol": output.symbol, "limit": SNAPSHOT_LIMIT},
                    urgent=output.urgent,
                )
                outputs += self._settled(self._requests.handle(ask, now), now)
            else:
                self._metrics.handle(TopVerified(output.stream), now)
        self._book_timers.set(sequencer.stream, sequencer.deadline)
        return outputs

    def _withdraw_snapshot(self, sequencer: BookSequencer, now: Now) -> list[Output]:
        """Take back the request of a snapshot that is awaited no more."""
        asked = self._asked.get(sequencer.stream)
        if asked is None or asked.attempt == sequencer.awaited:
            return []
        del self._asked[sequencer.stream]
        return self._settled(self._requests.handle(WithdrawAsk(asked), now), now)

    def _route(self, given: Given, now: Now) -> Sequence[Output]:
        match given:
            case TimerFired():
                return self._timer_fired(now)
            case BytesReceived():
                if self._connection.is_open:
                    self._heartbeat.handle(_HEARD, now)
                return ()
            case PingReceived() | PongReceived():
                return self._watched(self._heartbeat.handle(given, now), now) if self._connection.is_open else ()
            case ReadingPaused() | ReadingResumed():
                return self._watched(self._heartbeat.handle(given, now), now)
            case ResponseReceived() | RequestFailed() | RequestLeft():
                return [*self._settled(self._requests.handle(given, now), now), *self._sign_again(now)]
            case Connected():
                return self._connected(given, now)
            case ConnectFailed() | Disconnected():
                return self._linked(self._connection.handle(given, now), now)
            case Open():
                return self._open(given, now)
            case Close():
                return self._close(given, now)
            case Subscribe():
                return self._subscribe(given, now)
            case FollowAccount():
                return self._follow_account(now)
            case Unsubscribe(streams):
                return self._unsubscribe(given, streams, now)
            case Verify(stream):
                sequencer = self._sequencers.get(stream)
                if sequencer is None:
                    raise LocalProtocolError(f"no depth stream {stream!r} is subscribed")
                return self._sequence(sequencer, given, now)
            case Call(call_id=call_id, endpoint=endpoint, parameters=parameters, max_wait_us=max_wait_us):
                caller = _Caller(call_id, endpoint)
                ask = Ask(asker=caller, endpoint=endpoint, parameters=parameters, urgent=True, max_wait_us=max_wait_us)
                return self._settled(self._requests.handle(ask, now), now)
            case Withdraw(call_id) | Resolve(call_id):
                ending = WithdrawAsk if isinstance(given, Withdraw) else Forget
                return self._settled(self._requests.handle(ending(_Caller(call_id)), now), now)
        raise TypeError(f"not an input: {type(given).__name__}")

    def _timer_fired(self, now: Now) -> list[Output]:
        """Only those whose moment has come are told; to the others it would say nothing."""
        outputs: list[Output] = []
        outputs += self._linked(self._connection.handle(_TIMER_FIRED, now), now)
        outputs += self._watched(self._heartbeat.handle(_TIMER_FIRED, now), now)
        outputs += self._subscribed(self._subscriptions.handle(_TIMER_FIRED, now), now)
        for stream in self._book_timers.due(now.mono_us):
            outputs += self._sequence(self._sequencers[stream], _TIMER_FIRED, now)
        outputs += self._keep_account(_TIMER_FIRED, now)
        outputs += self._settled(self._requests.handle(_TIMER_FIRED, now), now)
        return outputs

    def _open(self, given: Open, now: Now) -> list[Output]:
        outputs: list[Output] = [*self._connection.handle(given, now)]
        if self._measure_clock:
            outputs += self._settled(self._requests.handle(MeasureTime(), now), now)
        return outputs

    def _close(self, given: Close, now: Now) -> list[Output]:
        """The connection ends for all but the connection, which sees it closed in order."""
        outputs = self._lose_link("closed by the application", now) if self._connection.is_open else []
        outputs += self._settled(self._requests.handle(Abandon("the session was closed"), now), now)
        return [*outputs, *self._connection.handle(given, now)]

    def _connected(self, given: Connected, now: Now) -> list[Output]:
        outputs: list[Output] = [*self._connection.handle(given, now)]
        self._heartbeat.handle(given, now)
        return [*outputs, *self._subscribed(self._subscriptions.handle(given, now), now)]

    def _linked(self, outputs: Sequence[Output], now: Now) -> list[Output]:
        """Tell everybody when the connection says that the connection is gone."""
        down = next((output for output in outputs if isinstance(output, ConnectionDown)), None)
        return [*outputs, *(self._lose_link(f"the connection is down: {down.reason}", now) if down is not None else ())]

    def _lose_link(self, reason: str, now: Now) -> list[Output]:
        self._heartbeat.handle(HeartbeatLost(), now)
        self._subscriptions.handle(SubscriptionsLost(), now)
        self._left.clear()
        self._refused = self._signed_again = False
        outputs: list[Output] = []
        for sequencer in self._sequencers.values():
            outputs += self._sequence(sequencer, StreamEnded(reason), now)
        return [*outputs, *self._keep_account(AccountEnded(reason), now)]

    def _watched(self, outputs: Sequence[Output | LinkDead], now: Now) -> list[Output]:
        passed: list[Output] = []
        for output in outputs:
            if isinstance(output, LinkDead):
                passed += self._linked(self._connection.handle(GiveUp(output.reason), now), now)
            else:
                passed.append(output)
        return passed

    def _subscribe(self, given: Subscribe, now: Now) -> list[Output]:
        outputs = self._subscriptions.handle(given, now)
        for name in given.streams:
            self._left.discard(name)
            stream = parse_stream(name)
            if self._manage_books and stream.channel is Channel.DEPTH and name not in self._sequencers:
                symbol = stream.symbol or ""
                sequencer = BookSequencer(name, symbol, levels=self._book_levels, limit=SNAPSHOT_LIMIT, audit=self._audit_books)
                self._sequencers[name] = sequencer
                self._by_symbol.setdefault(symbol, []).append(sequencer)
        return self._subscribed(outputs, now)

    def _unsubscribe(self, given: Unsubscribe, streams: Sequence[str], now: Now) -> list[Output]:
        known = [name for name in streams if name in self._wanted]
        outputs = self._subscribed(self._subscriptions.handle(given, now), now)
        self._left.update(known)
        for name in known:
            sequencer = self._sequencers.pop(name, None)
            if sequencer is not None:
                outputs += [
                    output for output in sequencer.handle(StreamEnded("unsubscribed"), now) if isinstance(output, Event)
                ]
                outputs += self._withdraw_snapshot(sequencer, now)
                self._by_symbol[sequencer.symbol].remove(sequencer)
                self._book_timers.set(name, None)
        self._metrics.handle(Unwatched(tuple(known)), now)
        return outputs

    def _follow_account(self, now: Now) -> list[Output]:
        outputs = self._subscriptions.handle(Subscribe(ACCOUNT_STREAMS), now)
        self._account = self._account or Account()
        return self._subscribed(outputs, now)

    def _keep_account(self, given: AccountInput, now: Now) -> list[Output]:
        """Give the ledger something, and pass on what it says."""
        if self._account is None:
            return []
        outputs: list[Output] = []
        produced = self._account.handle(given, now)
        if self._reading is not None and self._reading.attempt != self._account.awaited:
            withdrawn, self._reading = WithdrawAsk(self._reading), None
            outputs += self._settled(self._requests.handle(withdrawn, now), now)
        for output in produced:
            if isinstance(output, ReadAccount):
                self._reading = output
                ask = Ask(asker=output, endpoint=endpoint_of(output), parameters=arguments_of(output), urgent=True)
                outputs += self._settled(self._requests.handle(ask, now), now)
            else:
                outputs.append(output)
        return outputs

    def _subscribed(self, outputs: Sequence[Output | Requested], now: Now) -> list[Output]:
        """Ask for a snapshot as soon as the stream is requested: a quiet market may send nothing for long."""
        passed: list[Output] = []
        for output in outputs:
            if isinstance(output, Requested):
                self._metrics.handle(StreamsRequested(output.streams), now)
                for stream in output.streams:
                    if stream in self._sequencers:
                        self._metrics.handle(BookAwaited(stream), now)
                        passed += self._sequence(self._sequencers[stream], StreamRequested(), now)
                if not set(ACCOUNT_STREAMS).isdisjoint(output.streams):
                    passed += self._keep_account(AccountRequested(), now)
            else:
                passed.append(output)
                if isinstance(output, StreamsRefused):
                    passed += self._streams_refused(output, now)
        return passed

    def _streams_refused(self, refused: StreamsRefused, now: Now) -> list[Output]:
        outputs: list[Output] = []
        if not set(ACCOUNT_STREAMS).isdisjoint(refused.suspects):
            outputs += self._keep_account(AccountEnded(f"the exchange refused it: {refused.message}"), now)
        if refused.authentication and self._measure_clock:
            self._refused = True
            outputs += self._settled(self._requests.handle(MeasureTime(), now), now)
        return outputs

    def _sign_again(self, now: Now) -> list[Output]:
        """Once on each connection, request what was refused anew if it turns out that it was signed by a clock that was wrong."""
        if not self._refused or self._signed_again:
            return []
        if abs(self._exchange_zero_us(now) - self._signed_us) < WRONG_CLOCK_US:
            return []
        self._refused, self._signed_again = False, True
        return self._subscribed(self._subscriptions.handle(SignAgain(), now), now)

    def _exchange_zero_us(self, now: Now) -> int:
        """The exchange's time when our monotonic clock stood at zero, as well as it is known."""
        return self._requests.exchange_unix_us(now) - now.mono_us

    def _sign_subscription(self, now: Now) -> tuple[str, str, str, str]:
        if self._signer is None:
            raise AssertionError("without a signer private streams are refused")
        self._signed_us = self._exchange_zero_us(now)
        return self._signer.subscribe_signature(self._requests.exchange_unix_us(now))

    def _settled(self, outputs: Sequence[Output | Sending | Settled | Unresolved], now: Now) -> list[Output]:
        """Tell whoever asked that the request leaves, or what came of it."""
        passed: list[Output] = []
        for output in outputs:
            match output:
                case Sending(_Snapshot(stream, attempt)):
                    passed += self._sequence(self._sequencers[stream], SnapshotRequested(attempt), now)
                case Sending(ReadAccount(attempt=attempt)):
                    passed += self._keep_account(ReadingRequested(attempt), now)
                case Sending():
                    pass
                case Unresolved(_Caller() as caller, error):
                    passed.append(_unresolved(caller, error))
                case Unresolved():
                    raise AssertionError("only calls change something")
                case Settled(asker, result):
                    passed += self._answer(asker, result, now)
                case _:
                    passed.append(output)
        return passed

    def _answer(self, asker: object, result: object, now: Now) -> Sequence[Output]:
        """Give an answer, or the error in its place, to whoever asked."""
        match asker:
            case _Snapshot(stream):
                del self._asked[stream]
                return self._sequence(self._sequencers[stream], _snapshot(asker, result), now)
            case ReadAccount():
                self._reading = None
                return self._keep_account(reading_of(asker, result), now)
            case _Caller(call_id, endpoint):
                if isinstance(result, BackpackError):
                    return [CallFailed(call_id=call_id, endpoint=endpoint, error=result)]
                return [CallAnswered(call_id=call_id, endpoint=endpoint, result=result)]
        raise TypeError(f"nobody who asks: {type(asker).__name__}")


def _unresolved(caller: _Caller, error: OutcomeUnknown) -> CallUnresolved:
    return CallUnresolved(
        call_id=caller.call_id,
        endpoint=caller.endpoint,
        reason=error.reason,
        symbol=error.symbol,
        client_id=error.client_id,
        order_id=error.order_id,
        orders=error.orders,
    )


def _snapshot(asker: _Snapshot, result: object) -> SnapshotArrived | SnapshotFailed:
    if not isinstance(result, DepthSnapshot):
        return SnapshotFailed(attempt=asker.attempt, reason=str(result))
    return SnapshotArrived(
        attempt=asker.attempt,
        last_update_id=result.last_update_id,
        engine_us=result.engine_us,
        bids=result.bids,
        asks=result.asks,
        limit=SNAPSHOT_LIMIT,
    )

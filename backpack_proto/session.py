"""One session with the exchange: all machines behind one `handle`. It routes, and has no rules of the protocol of its own.

        Command, Fact ──> Session ──> Event (for the user), Action (for the runtime)

Connection, heartbeat and subscriptions share the connection; each depth stream has a sequencer of its own; REST requests, whether for
snapshots, the clock or the user's calls, share one budget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, ClassVar

from msgspec.structs import force_setattr, replace

from .account.account import Account, AccountInput
from .account.readings import AccountEnded, AccountPathChanged, AccountRequested, ReadAccount, ReadingRequested, UpdateLost
from .account.reconciliation import arguments_of, endpoint_of, reading_of
from .account.sync import AccountState
from .askers import (
    SNAPSHOT_LIMIT,
    Caller,
    MarketAsker,
    MarketListAsker,
    SnapshotAsker,
    may_be_canary,
    order_markets,
    rules_refused,
    snapshot_of,
    unresolved_of,
)
from .auth.signing import Signer
from .book.levels import Book
from .book.openings import MarketsRead, MarketUnread, MarketWatched, Openings, OpeningsInput, ReadMarket
from .book.progress import BookReleased, BookStart, BookStartInput, BookWanted
from .book.sequencer import BookSequencer, SequencerInput
from .book.signals import (
    BookInForce,
    FetchSnapshot,
    FrameLost,
    MarketDoubted,
    PathChanged,
    SnapshotRequested,
    StreamEnded,
    StreamMute,
    StreamRequested,
    StreamSuspended,
    TopMatched,
)
from .book.sync import SyncState
from .claims import AuditPace, Claims, PathClaim
from .connection.canary import Canary, CanaryInput, CanaryState, MarketsKnown, MarketsUnknown, ReadMarkets, StreamsWanted
from .connection.connection import CONNECT_TIMEOUT_US, Connection, ConnectionState
from .connection.heartbeat import PING_TIMEOUT_US, SILENCE_US, Heartbeat
from .connection.path import Path, PathInput
from .connection.signals import (
    CanariesChosen,
    CanaryRequested,
    ClockRead,
    ConnectionLost,
    DataHeard,
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
from .connection.subscriptions import ACCOUNT_STREAMS, Signature, Subscriptions
from .errors import BackpackError, LocalProtocolError
from .importance import Importance
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
from .metrics import (
    COUNTED_EVENTS,
    BooksSnapshot,
    CanarySeen,
    Health,
    Metrics,
    MetricsSnapshot,
    StreamsRequested,
    TopVerified,
    Unwatched,
)
from .outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    CallAnswered,
    CallFailed,
    CallUnresolved,
    ConnectionDown,
    Event,
    MarketClosed,
    MarketOpened,
    Output,
    SendRequest,
    StreamsRefused,
    UntypedReceived,
)
from .rest.asks import Abandon, Ask, Forget, MeasureTime, Sending, Settled, TimeAnswered, Unresolved, WithdrawAsk
from .rest.codec import DepthSnapshot
from .rest.market_rules import LevelsSeen, MarketRules, MarketRulesInput, RulesDoubted
from .rest.markets import Market, Markets
from .rest.pacing import PAUSE_CEILING_US, PacerState
from .rest.requests import Requests
from .streams.channels import Channel
from .streams.frames import Drop, ErrorFrame, Frame, FrameDropped, decode_frame, dropped
from .streams.names import parse_stream
from .streams.payloads import BalanceUpdate, BookTicker, Depth, OrderUpdate, Payload, PositionUpdate, Trade

__all__ = ["Session"]

_ACCOUNT_STREAMS = frozenset(ACCOUNT_STREAMS)
_SHOWN_BOOKS = 3
"""So many books with one reason are named in health."""


_DATA_HEARD = DataHeard()


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
        canary: bool = True,
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
            audit_books: compare live books with fresh REST snapshots from time to time; without it the chain of a book has no bound.
            canary: subscribe to a stream that comes every second, so that a mute or late exchange is noticed; without it the path of the
                connection has no bound.
            measure_clock: measure the exchange's clock, so that signatures are right when ours is not.
            dials: open the connections; otherwise somebody else does, and `ConnectionDown.retry_us` tells it how long to wait.
            connect_timeout_us: how long a connection may take to open.
            silence_us: probe a connection on which nothing was heard for so long.
            ping_timeout_us: give it up when nothing was heard for so long after that.
            pause_ceiling_us: how long a 429 of the exchange stops all requests, or the next attempt to connect, at most, whatever it
                asks for.
        """
        self._signer = signer
        self._book_levels = book_levels
        self._manage_books = manage_books
        self._measure_clock = measure_clock
        self._connection = Connection(
            random, dials=dials, connect_timeout_us=connect_timeout_us, retry_after_ceiling_us=pause_ceiling_us
        )
        self._heartbeat = Heartbeat(silence_us=silence_us, ping_timeout_us=ping_timeout_us)
        self._subscriptions = Subscriptions(self._sign_subscription if signer is not None else None)
        self._wanted = self._subscriptions.wanted
        self._shown = self._subscriptions.shown
        self._untyped = self._subscriptions.untyped
        self._awaited = self._subscriptions.awaited
        self._heard_us = -1
        self._requests = Requests(signer, pause_ceiling_us=pause_ceiling_us)
        self._asked: dict[str, SnapshotAsker] = {}
        """The snapshot of each stream that Requests has been asked for and has not settled."""
        self._reading: ReadAccount | None = None
        """The reading of the ledger that Requests has been asked for and has not settled."""
        self._metrics = Metrics()
        self._account: Account | None = None
        self._watches_path = canary
        path_claim = PathClaim(bounded=canary)
        self._path = Path(path_claim)
        self._canary = Canary()
        self._canary_streams: frozenset[str] = frozenset()
        self._openings = Openings()
        self._market_rules = MarketRules()
        self._progress = BookStart()
        self._pace = AuditPace(audits=audit_books)
        self._claims = Claims(path_claim, self._pace)
        self._sent_us: dict[int, int] = {}
        """When each open request was sent."""
        self._round_trip_us = 0
        """Of the answer that is being handled."""
        self._markets_asked = False
        self._states_asked: set[str] = set()
        """Markets whose states Requests has been asked for."""
        self._sequencers: dict[str, BookSequencer] = {}
        self._by_symbol: dict[str, list[BookSequencer]] = {}
        self._book_timers: Timers[str] = Timers()
        self._unwatched: tuple[str, ...] = ()
        """What the input that is being handled has released."""

    @property
    def deadline(self) -> int | None:
        """The earliest deadline of all machines."""
        return earliest(
            self._connection.deadline,
            self._heartbeat.deadline,
            self._path.deadline,
            *((self._canary.deadline, self._openings.deadline) if self._connection.wanted else ()),
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

    def market(self, symbol: str) -> Market | None:
        """The market with this id, with its rules as they are known now; None while no list of markets has been read."""
        return self._market_rules.known(symbol)

    def metrics(self, now: Now) -> MetricsSnapshot:
        """All counters at this moment."""
        return replace(self._metrics.snapshot(now), books=self._count_books(now))

    def _count_books(self, now: Now) -> BooksSnapshot:
        states = Counter(sequencer.state for sequencer in self._sequencers.values())
        budget = self.budget(now)
        return BooksSnapshot(
            wanted=len(self._sequencers),
            live=sum(sequencer.book.is_live(now.mono_us) for sequencer in self._sequencers.values()),
            fetching=states[SyncState.FETCHING],
            closed=states[SyncState.SUSPENDED],
            queued=budget.snapshots_queued,
            remaining_us=budget.remaining_us if budget.snapshots_queued else 0,
        )

    def health(self, now: Now) -> Health:
        """Whether all is well at this moment, and if not, why."""
        path_doubt = self._path.doubt(now)
        troubles = [] if path_doubt is None else [path_doubt]
        troubles += [f"the canary of {market} is silent, though other data come" for market in self._canary.replaced]
        if self._canary.state is CanaryState.LOOKING and self._connection.is_open:
            troubles.append("there is no canary yet: the list of markets has not been read, or has no open perpetual")
        troubles += _summary({stream: sequencer.doubt(now.mono_us) for stream, sequencer in self._sequencers.items()})
        notes = [f"market {symbol} is closed" for symbol in self._openings.closed]
        if not self._watches_path:
            notes.append("there is no canary: a connection that falls silent is not noticed")
        return self._metrics.health(now, [*troubles, *self._requests.troubles(now)], notes)

    @property
    def unresolved(self) -> Mapping[int, CallUnresolved]:
        """The calls that were given up after they may have been sent, by call id, until it is known how they ended.

        A call that has just been withdrawn is among them until the transport has said whether it left.
        """
        return {
            caller.call_id: unresolved_of(caller, error)
            for caller, error in self._requests.unresolved.items()
            if isinstance(caller, Caller)
        }

    def handle(self, given: Given, now: Now) -> Sequence[Output]:
        """Take one command or fact.

        Raises:
            LocalProtocolError: the input is impossible in this state; nothing has changed.
        """
        if isinstance(given, TextReceived):
            outputs = self._text_received(given, now)
        else:
            handler = self._INPUTS.get(type(given))
            if handler is None:
                raise TypeError(f"not an input: {type(given).__name__}")
            outputs = handler(self, given, now)
            self._metrics.handle(given, now)
        for output in outputs:
            if type(output) in COUNTED_EVENTS and isinstance(output, Event):
                self._metrics.handle(output, now)
        if self._unwatched:
            # Behind the events: the end of a book that is not wanted any more is no reason against health.
            self._metrics.handle(Unwatched(self._unwatched), now)
            self._unwatched = ()
        return outputs

    def _pass_on(self, outputs: Iterable[object], now: Now) -> list[Output]:
        """Give each signal of a machine to whom it is for, and hand on everything else."""
        passed: list[Any] = []
        for output in outputs:
            handler = self._SIGNALS.get(type(output))
            if handler is None:
                passed.append(output)
            else:
                passed += handler(self, output, now)
        return passed

    # What was received on the websocket.

    def _text_received(self, given: TextReceived, now: Now) -> Sequence[Output]:
        data = given.data
        if not self._connection.is_open:
            # What is still on its way when the application has closed the session is of no interest to it.
            if self._connection.state is ConnectionState.DRAINING:
                return ()
            return (dropped(Drop.NOT_CONNECTED, "a frame without a connection", data=data),)
        if now.mono_us != self._heard_us:
            # All frames of one read share its moment, and one of them proves the connection as well as all.
            self._heard_us = now.mono_us
            self._heartbeat.handle(_DATA_HEARD, now)
            if self._connection.on_probation:
                self._connection.handle(_DATA_HEARD, now)
        decoded = decode_frame(data)
        if isinstance(decoded, Frame):
            return self._frame_received(decoded, given, now)
        if isinstance(decoded, tuple):
            return [output for frame in decoded for output in self._frame_received(frame, given, now)]
        if isinstance(decoded, ErrorFrame):
            return self._pass_on(self._subscriptions.handle(decoded, now), now)
        if decoded.stream in self._untyped:
            return self._untyped_received(decoded.stream, data, now)
        return [decoded, *self._frame_lost(decoded.stream, now), *self._update_lost(decoded, now)]

    def _untyped_received(self, stream: str, data: bytes, now: Now) -> Sequence[Output]:
        """Hand on what only the user can read."""
        self._metrics.handle(Frame(stream=stream), now)
        outputs: list[Output] = [UntypedReceived(stream=stream, text=data.decode())]
        if stream in self._awaited:
            outputs = [*self._pass_on(self._subscriptions.handle(DataSeen(stream), now), now), *outputs]
        return outputs

    def _frame_received(self, frame: Frame, given: TextReceived, now: Now) -> Sequence[Output]:
        stream, payload = frame.stream, frame.payload
        if payload is None:
            raise AssertionError("decode_frame returns no frame without a payload")
        # The decoded payload is the event, and nobody has seen it yet: this is cheaper than a copy.
        force_setattr(payload, "received_us", now.unix_us if given.received_us is None else given.received_us)
        path = self._path.see(stream, payload.emitted_us, now)
        if path:
            return [*self._pass_on(path, now), *self._data_frame(frame, payload, given.data, now)]
        return self._data_frame(frame, payload, given.data, now)

    def _data_frame(self, frame: Frame, payload: Payload, data: bytes, now: Now) -> Sequence[Output]:
        stream = frame.stream
        if stream not in self._wanted:
            if stream in self._subscriptions.leaving:
                return ()
            return (dropped(Drop.NOT_SUBSCRIBED, f"{stream} is not subscribed", data=data, stream=stream),)
        outputs: Sequence[Output]
        if type(payload) is Depth and self._manage_books:
            sequencer = self._sequencers.get(stream)
            if sequencer is None or sequencer.symbol != payload.symbol:
                drop = dropped(Drop.MALFORMED, f"a delta of {payload.symbol}", data=data, stream=stream)
                return [drop, *self._frame_lost(stream, now)]
            seen = self._data_seen(stream, payload, now)
            outputs = self._sequence(sequencer, payload, now)
        else:
            seen = self._data_seen(stream, payload, now)
            outputs = self._data_received(stream, payload, now)
        if stream in self._canary_streams and stream not in self._shown:
            self._metrics.handle(CanarySeen(), now)
        else:
            self._metrics.handle(frame, now)
        return [*seen, *outputs] if seen else outputs

    def _data_seen(self, stream: str, payload: Payload, now: Now) -> list[Output]:
        """Tell whoever waits for data of a stream; what follows from it is done before the data are used."""
        awaited, canary = stream in self._awaited, stream in self._canary_streams
        if not awaited and not canary:
            return []
        seen = DataSeen(stream, self._path.on_our_clock(payload.emitted_us))
        outputs = self._pass_on(self._canary.handle(seen, now), now) if canary else []
        # The canary may have undone this very stream.
        return [*outputs, *self._pass_on(self._subscriptions.handle(seen, now), now)] if awaited else outputs

    def _data_received(self, stream: str, payload: Payload, now: Now) -> list[Output]:
        """Data are events for who wanted them; some a machine wants, too."""
        outputs: list[Output] = [payload] if stream in self._shown else []
        if isinstance(payload, BookTicker | Trade):
            for sequencer in self._by_symbol.get(payload.symbol, ()):
                outputs += self._sequence(sequencer, payload, now)
        elif stream in _ACCOUNT_STREAMS and isinstance(payload, OrderUpdate | PositionUpdate | BalanceUpdate):
            outputs += self._keep_account(payload, now)
        return outputs

    def _frame_lost(self, stream: str | None, now: Now) -> list[Output]:
        lost = FrameLost()
        suspects = [sequencer for sequencer in self._sequencers.values() if stream in (None, sequencer.stream)]
        return [output for sequencer in suspects for output in self._sequence(sequencer, lost, now)]

    def _update_lost(self, lost: FrameDropped, now: Now) -> list[Output]:
        """Tell the ledger of a frame of its streams that cannot be read, or of one that may have been of its streams."""
        if lost.stream is not None and lost.stream not in _ACCOUNT_STREAMS:
            return []
        return self._keep_account(UpdateLost(lost.reason.value), now)

    def _bytes_received(self, _: BytesReceived, now: Now) -> Sequence[Output]:
        if self._connection.is_open:
            self._heartbeat.handle(_DATA_HEARD, now)
        return ()

    def _ping_or_pong_received(self, given: PingReceived | PongReceived, now: Now) -> Sequence[Output]:
        return self._pass_on(self._heartbeat.handle(given, now), now) if self._connection.is_open else ()

    # Inputs that one machine is given as they came.

    def _read_or_not(self, given: ReadingPaused | ReadingResumed, now: Now) -> list[Output]:
        return [*self._pass_on(self._heartbeat.handle(given, now), now), *self._to_path(given, now)]

    def _to_requests(self, given: Ask | WithdrawAsk | Forget | MeasureTime, now: Now) -> list[Output]:
        return self._pass_on(self._requests.handle(given, now), now)

    def _to_connection(self, given: ConnectFailed | Disconnected | GiveUp, now: Now) -> list[Output]:
        return self._pass_on(self._connection.handle(given, now), now)

    def _to_subscriptions(self, given: CanariesChosen, now: Now) -> list[Output]:
        self._canary_streams = frozenset(given.streams)
        return self._pass_on(self._subscriptions.handle(given, now), now)

    def _unsubscribe(self, given: Unsubscribe, now: Now) -> list[Output]:
        outputs = self._pass_on(self._subscriptions.handle(given, now), now)
        return [*outputs, *self._want_canary(now)]

    # Inputs that several machines have to do with.

    def _to_path(self, given: PathInput, now: Now) -> list[Output]:
        return self._pass_on(self._path.handle(given, now), now)

    def _to_canary(self, given: CanaryInput, now: Now) -> list[Output]:
        return self._pass_on(self._canary.handle(given, now), now) if self._watches_path else []

    def _want_canary(self, now: Now) -> list[Output]:
        """Have canaries while a connection is wanted and has something to say."""
        return self._to_canary(StreamsWanted(self._connection.wanted and self._subscriptions.needed), now)

    def _to_openings(self, given: OpeningsInput | MarketDoubted, now: Now) -> list[Output]:
        return self._pass_on(self._openings.handle(given, now), now)

    def _to_market_rules(self, given: MarketRulesInput, now: Now) -> list[Output]:
        return self._pass_on(self._market_rules.handle(given, now), now)

    def _answered(self, given: ResponseReceived | RequestFailed | RequestLeft, now: Now) -> list[Output]:
        outputs: list[Output] = []
        if not isinstance(given, RequestLeft):
            sent_us = self._sent_us.pop(given.request_id, None)
            if sent_us is not None and isinstance(given, ResponseReceived):
                self._round_trip_us = now.mono_us - sent_us
                outputs += self._to_path(RoundTripMeasured(self._round_trip_us), now)
        outputs += self._pass_on(self._requests.handle(given, now), now)
        if self._connection.is_open:
            clock = ClockRead(self._requests.exchange_unix_us(now) - now.mono_us)
            outputs += self._pass_on(self._subscriptions.handle(clock, now), now)
        return outputs

    def _timer_fired(self, given: TimerFired, now: Now) -> list[Output]:
        """Only those whose moment has come are told; to the others it would say nothing."""
        outputs = self._pass_on(self._connection.handle(given, now), now)
        outputs += self._pass_on(self._heartbeat.handle(given, now), now)
        outputs += self._to_path(given, now)
        if self._connection.wanted:
            outputs += self._to_canary(given, now)
            outputs += self._to_openings(given, now)
        outputs += self._pass_on(self._subscriptions.handle(given, now), now)
        for stream in self._book_timers.due(now.mono_us):
            outputs += self._sequence(self._sequencers[stream], given, now)
        outputs += self._keep_account(given, now)
        outputs += self._pass_on(self._requests.handle(given, now), now)
        return outputs

    def _open(self, given: Open, now: Now) -> list[Output]:
        outputs = self._pass_on(self._connection.handle(given, now), now)
        if self._measure_clock:
            outputs += self._to_requests(MeasureTime(), now)
        return [*outputs, *self._want_canary(now)]

    def _close(self, given: Close, now: Now) -> list[Output]:
        """The connection ends for all but the connection, which sees it closed in order."""
        outputs = self._lose_connection("closed by the application", now) if self._connection.is_open else []
        outputs += self._pass_on(self._requests.handle(Abandon("the session was closed"), now), now)
        outputs += self._pass_on(self._connection.handle(given, now), now)
        return [*outputs, *self._want_canary(now)]

    def _connected(self, given: Connected, now: Now) -> list[Output]:
        outputs = self._pass_on(self._connection.handle(given, now), now)
        self._heartbeat.handle(given, now)
        self._path.handle(given, now)
        outputs += self._to_canary(given, now)
        outputs += self._pass_on(self._subscriptions.handle(given, now), now)
        if self._watches_path:
            # The exchange's time is what says how late data are.
            outputs += self._to_requests(MeasureTime(), now)
        return outputs

    def _subscribe(self, given: Subscribe, now: Now) -> list[Output]:
        if not self._manage_books:
            # Where there is no book there is nothing to verify.
            given = Subscribe((*given.books, *given.streams), untyped=given.untyped)
        outputs: list[Any] = [*self._subscriptions.handle(given, now)]
        for name in (*given.books, *given.streams) if self._manage_books else ():
            stream = parse_stream(name)
            if stream.channel is Channel.DEPTH and name not in self._sequencers:
                symbol = stream.symbol or ""
                sequencer = BookSequencer(name, symbol, levels=self._book_levels, claims=self._claims)
                self._sequencers[name] = sequencer
                self._by_symbol.setdefault(symbol, []).append(sequencer)
                self._progress.handle(BookWanted(name, symbol), now)
                outputs += self._openings.handle(MarketWatched(symbol, watched=True), now)
        self._pace.books = len(self._sequencers)
        return [*self._pass_on(outputs, now), *self._want_canary(now)]

    def _follow_account(self, given: FollowAccount, now: Now) -> list[Output]:
        outputs = self._subscriptions.handle(given, now)
        begins = self._account is None
        account = self._account = self._account or Account()
        account.path = self._claims.path
        passed = self._pass_on(outputs, now)
        if begins and self._connection.is_open and account.state is AccountState.IDLE:
            # The user had subscribed all of its streams before.
            passed += self._request_account(now)
        return [*passed, *self._want_canary(now)]

    def _verify(self, given: Verify, now: Now) -> list[Output]:
        sequencer = self._sequencers.get(given.stream)
        if sequencer is None:
            raise LocalProtocolError(f"no depth stream {given.stream!r} is subscribed")
        return [*self._sequence(sequencer, given, now)]

    def _call(self, given: Call, now: Now) -> list[Output]:
        ask = Ask(
            asker=Caller(given.call_id, given.endpoint, order_markets(given.parameters)),
            endpoint=given.endpoint,
            parameters=given.parameters,
            max_wait_us=given.max_wait_us,
        )
        return self._to_requests(ask, now)

    def _withdraw(self, given: Withdraw, now: Now) -> list[Output]:
        return self._to_requests(WithdrawAsk(Caller(given.call_id)), now)

    def _resolve(self, given: Resolve, now: Now) -> list[Output]:
        return self._to_requests(Forget(Caller(given.call_id)), now)

    # Signals: what one machine says to another.

    def _went_down(self, given: ConnectionDown, now: Now) -> list[Output]:
        return [given, *self._lose_connection(f"the connection is down: {given.reason}", now)]

    def _lose_connection(self, reason: str, now: Now) -> list[Output]:
        self._heartbeat.handle(ConnectionLost(), now)
        self._path.handle(ConnectionLost(), now)
        self._subscriptions.handle(ConnectionLost(), now)
        outputs: list[Output] = self._to_canary(ConnectionLost(), now)
        for sequencer in self._sequencers.values():
            outputs += self._sequence(sequencer, StreamEnded(reason), now)
        return outputs + self._keep_account(AccountEnded(reason), now)

    def _requested(self, given: Requested, now: Now) -> list[Output]:
        """Ask for a snapshot as soon as the stream is requested: a quiet market may send nothing for long."""
        self._metrics.handle(StreamsRequested(given.streams), now)
        outputs: list[Output] = []
        for stream in given.streams:
            sequencer = self._sequencers.get(stream)
            if sequencer is not None:
                closed = self._openings.is_closed(sequencer.symbol)
                outputs += self._sequence(sequencer, StreamSuspended() if closed else StreamRequested(), now)
        if not self._canary_streams.issuperset(given.streams):
            outputs += self._to_canary(given, now)
        return outputs if _ACCOUNT_STREAMS.isdisjoint(given.streams) else outputs + self._request_account(now)

    def _released(self, given: Released, now: Now) -> list[Output]:
        outputs: list[Output] = []
        for stream in given.streams:
            sequencer = self._sequencers.pop(stream, None)
            if sequencer is not None:
                outputs += self._sequence(sequencer, StreamEnded("unsubscribed"), now)
                outputs += self._to_progress(BookReleased(stream), now)
                self._by_symbol[sequencer.symbol].remove(sequencer)
                self._book_timers.set(stream, None)
                if not self._by_symbol[sequencer.symbol]:
                    del self._by_symbol[sequencer.symbol]
                    self._openings.handle(MarketWatched(sequencer.symbol, watched=False), now)
        self._pace.books = len(self._sequencers)
        self._unwatched = given.streams
        return outputs

    def _streams_refused(self, given: StreamsRefused, now: Now) -> list[Output]:
        outputs: list[Output] = [given]
        if not _ACCOUNT_STREAMS.isdisjoint(given.suspects):
            outputs += self._keep_account(AccountEnded(f"the exchange refused it: {given.message}"), now)
        if given.authentication and self._measure_clock:
            outputs += self._to_requests(MeasureTime(), now)
        return outputs

    def _fetch_snapshot(self, given: FetchSnapshot, now: Now) -> list[Output]:
        asker = self._asked[given.stream] = SnapshotAsker(given.stream, given.attempt)
        ask = Ask(
            asker=asker,
            endpoint="depth",
            parameters={"symbol": given.symbol, "limit": SNAPSHOT_LIMIT},
            importance=Importance.SNAPSHOT if given.urgent else Importance.AUDIT,
        )
        return self._to_requests(ask, now)

    def _in_force(self, given: InForce, now: Now) -> list[Output]:
        outputs: list[Output] = []
        for stream in given.streams:
            if stream in self._sequencers:
                outputs += self._sequence(self._sequencers[stream], BookInForce(), now)
        return outputs

    def _path_changed(self, given: PathProved | PathExpired, now: Now) -> list[Output]:
        """The path is that of all books at once, and of the ledger."""
        doubt = given.reason if isinstance(given, PathExpired) else None
        changed = PathChanged(doubt)
        outputs = [output for sequencer in self._sequencers.values() for output in self._sequence(sequencer, changed, now)]
        return [*outputs, *self._keep_account(AccountPathChanged(doubt), now)]

    def _stream_mute(self, given: StreamMute, now: Now) -> list[Output]:
        if given.abandon:
            return self._to_connection(GiveUp(f"{given.stream}: {given.reason}"), now)
        return self._pass_on(self._subscriptions.handle(Resubscribe((given.stream,)), now), now)

    def _book_told(self, given: BookSynced | BookConfirmed | BookStale | BookDesynced, now: Now) -> list[Output]:
        return [given, *self._to_progress(given, now)]

    def _to_progress(self, given: BookStartInput, now: Now) -> list[Output]:
        budget = self.budget
        return [
            replace(output, queued=budget(now).snapshots_queued, remaining_us=budget(now).remaining_us)
            for output in self._progress.handle(given, now)
        ]

    def _market_closed(self, given: MarketClosed, now: Now) -> list[Output]:
        outputs: list[Output] = [given, *self._to_progress(given, now)]
        for sequencer in self._by_symbol.get(given.symbol, ()):
            outputs += self._sequence(sequencer, StreamSuspended(), now)
        return outputs

    def _market_opened(self, given: MarketOpened, now: Now) -> list[Output]:
        """What was subscribed while the market was closed may never speak, so it is requested again."""
        told = [given, *self._to_progress(given, now)]
        if not self._connection.is_open:
            return told
        streams = self._subscriptions.of_symbol(given.symbol)
        return [*told, *self._pass_on(self._subscriptions.handle(Resubscribe(streams), now), now)]

    def _read_markets(self, _: ReadMarkets, now: Now) -> list[Output]:
        if self._markets_asked:
            return []
        self._markets_asked = True
        # Without a canary no book is live, so this one request goes before the snapshots of all of them.
        return self._to_requests(
            Ask(asker=MarketListAsker(), endpoint="markets", parameters={}, importance=Importance.READ), now
        )

    def _read_market(self, given: ReadMarket, now: Now) -> list[Output]:
        if given.symbol in self._states_asked:
            # It waits for the end of a pause.
            return []
        self._states_asked.add(given.symbol)
        ask = Ask(
            asker=MarketAsker(given.symbol),
            endpoint="market",
            parameters={"symbol": given.symbol},
            importance=Importance.SNAPSHOT,
        )
        return self._to_requests(ask, now)

    def _markets_read(self, result: object, now: Now) -> list[Output]:
        """Learn from a list of markets, or from one, whoever asked for it."""
        if isinstance(result, Markets):
            markets = result.values()
            outputs = self._to_market_rules(result, now)
            outputs += self._to_openings(MarketsRead({market.symbol: market.order_book_state for market in markets}), now)
            perpetuals = tuple(market.symbol for market in markets if may_be_canary(market))
            return [*outputs, *self._to_canary(MarketsKnown(perpetuals), now)]
        if not isinstance(result, Market):
            return []
        outputs = self._to_market_rules(result, now)
        return outputs + self._to_openings(MarketsRead({result.symbol: result.order_book_state}), now)

    def _rules_doubted(self, given: RulesDoubted, now: Now) -> list[Output]:
        return self._read_market(ReadMarket(given.symbol), now)

    def _levels_seen(self, result: object, now: Now) -> list[Output]:
        """Hold the levels of a snapshot, whoever asked for it, against the rules of the market."""
        if not isinstance(result, DepthSnapshot):
            return []
        return self._to_market_rules(LevelsSeen(result.symbol, result.bids, result.asks), now)

    def _request_sent(self, given: SendRequest, now: Now) -> list[Output]:
        self._sent_us[given.request_id] = now.mono_us
        return [given]

    def _time_answered(self, given: TimeAnswered, now: Now) -> list[Output]:
        return self._to_path(RoundTripMeasured(self._round_trip_us, given.server_us), now)

    def _top_matched(self, given: TopMatched, now: Now) -> list[Output]:
        self._metrics.handle(TopVerified(given.stream), now)
        return []

    def _read_account(self, given: ReadAccount, now: Now) -> list[Output]:
        self._reading = given
        ask = Ask(
            asker=given,
            endpoint=endpoint_of(given),
            parameters=arguments_of(given),
            importance=Importance.LEDGER,
        )
        return self._to_requests(ask, now)

    def _settled(self, given: Settled, now: Now) -> Sequence[Output]:
        """Give an answer, or the error in its place, to whoever asked."""
        result = given.result
        match given.asker:
            case SnapshotAsker(stream) as asker:
                del self._asked[stream]
                outputs = self._levels_seen(result, now)
                return [*outputs, *self._sequence(self._sequencers[stream], snapshot_of(asker, result), now)]
            case ReadAccount() as asker:
                self._reading = None
                return self._keep_account(reading_of(asker, result), now)
            case MarketListAsker():
                self._markets_asked = False
                failed = isinstance(result, BackpackError)
                return self._to_canary(MarketsUnknown(), now) if failed else self._markets_read(result, now)
            case MarketAsker(symbol):
                self._states_asked.discard(symbol)
                failed = isinstance(result, BackpackError)
                return self._to_openings(MarketUnread(symbol), now) if failed else self._markets_read(result, now)
            case Caller(call_id, endpoint) as asker:
                refused = [output for given in rules_refused(asker, result) for output in self._to_market_rules(given, now)]
                if isinstance(result, BackpackError):
                    return [CallFailed(call_id=call_id, endpoint=endpoint, error=result), *refused]
                answered = CallAnswered(call_id=call_id, endpoint=endpoint, result=result)
                return [answered, *self._markets_read(result, now), *self._levels_seen(result, now), *refused]
        raise TypeError(f"nobody asks like this: {type(given.asker).__name__}")

    def _sending(self, given: Sending, now: Now) -> Sequence[Output]:
        """Tell whoever asked that the request leaves: from here on an answer is waited for."""
        match given.asker:
            case SnapshotAsker(stream, attempt):
                return self._sequence(self._sequencers[stream], SnapshotRequested(attempt), now)
            case ReadAccount(attempt=attempt):
                return self._keep_account(ReadingRequested(attempt), now)
        return ()

    def _call_unresolved(self, given: Unresolved, _: Now) -> Sequence[Output]:
        if not isinstance(given.asker, Caller):
            raise AssertionError("only calls change something")  # noqa: TRY004 - not an argument of anybody's
        return (unresolved_of(given.asker, given.error),)

    # The ways to a book, to the ledger and to the signer.

    def _sequence(self, sequencer: BookSequencer, given: SequencerInput, now: Now) -> Sequence[Output]:
        """Give a book something, and pass on what it says."""
        outputs = sequencer.handle(given, now)
        self._book_timers.set(sequencer.stream, sequencer.deadline)
        if self._asked:
            return [*self._withdraw_snapshot(sequencer, now), *self._pass_on(outputs, now)]
        if len(outputs) == 1 and isinstance(outputs[0], BookChanged):
            # Nearly every frame of a busy market: one event, for the user.
            return (outputs[0],)
        return self._pass_on(outputs, now)

    def _withdraw_snapshot(self, sequencer: BookSequencer, now: Now) -> list[Output]:
        """Take back the request of a snapshot that is awaited no more."""
        asked = self._asked.get(sequencer.stream)
        if asked is None or asked.attempt == sequencer.awaited:
            return []
        del self._asked[sequencer.stream]
        return self._to_requests(WithdrawAsk(asked), now)

    def _request_account(self, now: Now) -> list[Output]:
        return self._keep_account(AccountRequested(), now)

    def _keep_account(self, given: AccountInput, now: Now) -> list[Output]:
        if self._account is None:
            return []
        produced = self._account.handle(given, now)
        outputs: list[Output] = []
        if self._reading is not None and self._reading.attempt != self._account.awaited:
            withdrawn, self._reading = WithdrawAsk(self._reading), None
            outputs += self._to_requests(withdrawn, now)
        return outputs + self._pass_on(produced, now)

    def _sign_subscription(self, now: Now) -> Signature:
        if self._signer is None:
            raise AssertionError("without a signer private streams are refused")
        unix_us = self._requests.exchange_unix_us(now)
        return Signature(self._signer.subscribe_signature(unix_us), unix_us)

    _INPUTS: ClassVar[Mapping[type, Callable[[Session, Any, Now], Sequence[Output]]]] = {
        BytesReceived: _bytes_received,
        Call: _call,
        Close: _close,
        ConnectFailed: _to_connection,
        Connected: _connected,
        Disconnected: _to_connection,
        FollowAccount: _follow_account,
        Open: _open,
        PingReceived: _ping_or_pong_received,
        PongReceived: _ping_or_pong_received,
        ReadingPaused: _read_or_not,
        ReadingResumed: _read_or_not,
        RequestFailed: _answered,
        RequestLeft: _answered,
        Resolve: _resolve,
        ResponseReceived: _answered,
        Subscribe: _subscribe,
        TimerFired: _timer_fired,
        Unsubscribe: _unsubscribe,
        Verify: _verify,
        Withdraw: _withdraw,
    }
    """Who takes which command or fact; text frames, the hot path, are taken before."""

    _SIGNALS: ClassVar[Mapping[type, Callable[[Session, Any, Now], Sequence[Output]]]] = {
        BookConfirmed: _book_told,
        BookDesynced: _book_told,
        BookStale: _book_told,
        BookSynced: _book_told,
        CanariesChosen: _to_subscriptions,
        CanaryRequested: _to_path,
        ConnectionDown: _went_down,
        FetchSnapshot: _fetch_snapshot,
        GiveUp: _to_connection,
        InForce: _in_force,
        MarketClosed: _market_closed,
        MarketDoubted: _to_openings,
        MarketOpened: _market_opened,
        PathExpired: _path_changed,
        PathProved: _path_changed,
        ReadAccount: _read_account,
        ReadMarket: _read_market,
        ReadMarkets: _read_markets,
        Released: _released,
        Requested: _requested,
        RulesDoubted: _rules_doubted,
        SendRequest: _request_sent,
        Sending: _sending,
        Settled: _settled,
        StreamMute: _stream_mute,
        StreamsRefused: _streams_refused,
        TimeAnswered: _time_answered,
        TopMatched: _top_matched,
        Unresolved: _call_unresolved,
    }
    """Who takes what one machine says to another; all other outputs leave the session."""


def _summary(doubts: Mapping[str, str | None]) -> list[str]:
    """Say what is wrong with which books; many with one reason are one reason against health."""
    streams_of: dict[str, list[str]] = {}
    for stream, doubt in doubts.items():
        if doubt is not None:
            streams_of.setdefault(doubt, []).append(stream)
    reasons: list[str] = []
    for doubt, streams in streams_of.items():
        if len(streams) > _SHOWN_BOOKS:
            reasons.append(f"{len(streams)} books, {', '.join(streams[:_SHOWN_BOOKS])}, ...: each {doubt}")
        else:
            reasons += [f"book {stream} {doubt}" for stream in streams]
    return reasons

"""One session with the exchange: all machines behind one `handle`. It routes, and has no rules of the protocol of its own.

        Command, Fact ──> Session ──> Event (for the user), Action (for the runtime)

Connection, heartbeat and subscriptions share the connection. Each depth stream has a sequencer of its own. REST requests, whether for
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
from .account.reconciliation import reading_of
from .account.signals import UpdatesMute
from .account.sync import AccountState
from .askers import (
    Asked,
    Asking,
    Caller,
    MarketAsker,
    MarketListAsker,
    SnapshotAsker,
    may_be_canary,
    rules_refused,
    snapshot_of,
    unresolved_of,
)
from .auth.signing import Signer
from .book.books import Books
from .book.levels import Book
from .book.openings import MarketsRead, MarketUnread, MarketWatched, Openings, OpeningsInput, ReadMarket
from .book.progress import BookReleased, BookStart, BookStartInput, BookWanted
from .book.sequencer import BookSequencer, SequencerInput, SequencerOutput
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
from .claims import PathClaim
from .connection.canary import MarketsKnown, MarketsUnknown, ReadMarkets
from .connection.connection import CONNECT_TIMEOUT_US, Connection
from .connection.heartbeat import PING_TIMEOUT_US, SILENCE_US, Heartbeat
from .connection.link import Link, LinkInput
from .connection.signals import (
    ClockRead,
    ConnectionLost,
    GiveUp,
    InForce,
    PathExpired,
    PathProved,
    Released,
    Requested,
    Resubscribe,
    RoundTripMeasured,
)
from .connection.signatures import Signature
from .connection.subscriptions import ACCOUNT_STREAMS
from .errors import BackpackError, LocalProtocolError
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
    Reconnect,
    RefreshBook,
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
from .machine import Now, earliest
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
from .observation import SessionObservation, books_seen, channels_seen
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
)
from .rest.asks import Abandon, Ask, Forget, MeasureTime, Sending, Settled, TimeAnswered, Unresolved, WithdrawAsk
from .rest.codec import DepthSnapshot
from .rest.market_rules import LevelsSeen, MarketRules, MarketRulesInput, RulesDoubted
from .rest.markets import Market, Markets
from .rest.pacing import PAUSE_CEILING_US, PacerState
from .rest.requests import Requests
from .routes import Routes
from .streams.channels import Channel
from .streams.frames import Drop, ErrorFrame, Frame, FrameDropped, decode_frame, dropped
from .streams.names import parse_stream
from .streams.payloads import BalanceUpdate, BookTicker, Depth, MarkPrice, OrderUpdate, Payload, PositionUpdate, Trade
from .streams.unknown import UnknownPayload, emission_of

__all__ = ["Session"]

_ACCOUNT_STREAMS = frozenset(ACCOUNT_STREAMS)


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
        streams: bool = True,
        connect_timeout_us: int = CONNECT_TIMEOUT_US,
        silence_us: int = SILENCE_US,
        ping_timeout_us: int = PING_TIMEOUT_US,
        pause_ceiling_us: int = PAUSE_CEILING_US,
    ) -> None:
        """Make a session without subscriptions.

        Args:
            random: draws the backoff delays.
            signer: signs private subscriptions and calls. Without one they are refused.
            book_levels: number of levels a side that `BookChanged` carries.
            manage_books: turn `depth` streams into books. Otherwise their deltas are events as they come.
            audit_books: compare live books with fresh REST snapshots from time to time. Without it the chain of a book has no bound.
            canary: subscribe to a stream that comes every second, so that a mute or late exchange is noticed. Without it the path of the
                connection has no bound.
            measure_clock: measure the exchange's clock, so that signatures are right when ours is not.
            dials: open the connections. Otherwise another program does, and `ConnectionDown.retry_us` tells it how long to wait.
            streams: have a connection for streams. Without it there are calls only, and no subscriptions.
            connect_timeout_us: how long a connection may take to open.
            silence_us: probe a connection that was silent for so long.
            ping_timeout_us: give it up when it stays silent for so long after that.
            pause_ceiling_us: how long a 429 of the exchange stops all requests, or the next attempt to connect, at most, even if it
                asks for more.
        """
        self._signer = signer
        self._manage_books = manage_books
        self._measure_clock = measure_clock
        self._calls_only = not streams
        self._path_claim = PathClaim(bounded=canary)
        self._link = Link(
            Connection(random, dials=dials, connect_timeout_us=connect_timeout_us, retry_after_ceiling_us=pause_ceiling_us),
            Heartbeat(silence_us=silence_us, ping_timeout_us=ping_timeout_us),
            self._path_claim,
            self._sign_subscription if signer is not None else None,
            canary=canary,
        )
        self._requests = Requests(signer, pause_ceiling_us=pause_ceiling_us)
        self._asked = Asked()
        self._metrics = Metrics()
        self._account: Account | None = None
        self._openings = Openings()
        self._market_rules = MarketRules()
        self._progress = BookStart()
        self._books = Books(self._path_claim, levels=book_levels, audits=audit_books)
        self._routes = Routes(self._link, self._books, self._metrics, self._book_said, manage_books=manage_books)
        self._sent_us: dict[int, int] = {}
        """When each open request was sent."""
        self._round_trip_us = 0
        """Of the answer that is being handled."""
        self._unwatched: tuple[str, ...] = ()
        """Streams that the input being handled has released."""
        self.plain = False
        """True when the last `handle_all` met plain frames alone, which bring no deadline nearer."""

    @property
    def deadline(self) -> int | None:
        """The earliest deadline of all machines."""
        return earliest(
            self._link.deadline,
            self._openings.deadline if self._link.is_wanted else None,
            self._requests.deadline,
            self._books.deadline,
            self._account.deadline if self._account is not None else None,
        )

    @property
    def account(self) -> Account:
        """The ledger of the account. `live` says whether it follows the exchange.

        Raises:
            LocalProtocolError: it is not followed.
        """
        if self._account is None:
            raise LocalProtocolError("the account is not followed")
        return self._account

    def budget(self, now: Now) -> PacerState:
        """Return the rest of the request budget at this moment."""
        return self._requests.budget(now)

    def book(self, name: str) -> Book:
        """The book of a depth stream, or of a symbol, whose unaggregated stream comes first. Always the same object.

        Raises:
            LocalProtocolError: no such stream is subscribed.
        """
        return self._books.book(name)

    def book_stream(self, name: str) -> str:
        """Return the depth stream of the book that `book` returns.

        Raises:
            LocalProtocolError: no such stream is subscribed.
        """
        return self._books.sequencer(name).stream

    def is_closed(self, symbol: str) -> bool:
        """Return whether a market whose book is wanted was closed when it was last heard of."""
        return self._openings.is_closed(symbol)

    def shows(self, stream: str) -> bool:
        """Return whether the user has subscribed a stream, so that its data are events."""
        return stream in self._link.shown

    def market(self, symbol: str) -> Market | None:
        """The market with this id, with its rules as they are known now, or None while no list of markets has been read."""
        return self._market_rules.known(symbol)

    def metrics(self, now: Now) -> MetricsSnapshot:
        """All counters at this moment."""
        return replace(self._metrics.snapshot(now), books=self._count_books(now))

    def _count_books(self, now: Now) -> BooksSnapshot:
        states = Counter(sequencer.state for sequencer in self._books.all)
        budget = self.budget(now)
        return BooksSnapshot(
            wanted=len(self._books.all),
            live=sum(sequencer.book.is_live(now.mono_us) for sequencer in self._books.all),
            fetching=states[SyncState.FETCHING],
            closed=states[SyncState.SUSPENDED],
            queued=budget.snapshots_queued,
            remaining_us=budget.remaining_us if budget.snapshots_queued else 0,
        )

    def health(self, now: Now) -> Health:
        """Return whether all is well at this moment, and if not, why."""
        troubles = [*self._link.doubts(now), *self._books.doubts(now), *self._requests.troubles(now)]
        if self._calls_only:
            return Health.of_calls(self._requests.troubles(now))
        notes = [f"market {symbol} is closed" for symbol in self._openings.closed]
        if not self._link.watches_path:
            notes.append("there is no canary: a connection that falls silent is not noticed")
        return self._metrics.health(now, troubles, notes)

    def observe(self, now: Now) -> SessionObservation:
        """Return all that can be counted and measured at this moment."""
        metrics, budget = self.metrics(now), self.budget(now)
        return SessionObservation(
            metrics=metrics,
            health=self.health(now),
            connected=None if self._calls_only else self._link.is_open,
            channels=channels_seen(metrics, self._link.wanted),
            books=books_seen(self._books.all, now),
            resyncs=dict(self._metrics.resyncs),
            budget=budget,
            paused_us=0 if budget.paused_until_us is None else max(budget.paused_until_us - now.mono_us, 0),
            unresolved=len(self.unresolved),
            account_live=None if self._account is None else self._account.is_live(now.mono_us),
            account_doubts=0 if self._account is None else len(self._account.doubts),
            engine_to_receipt=self._metrics.engine_to_receipt.durations,
        )

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
            LocalProtocolError: the input is impossible in this state. The state is unchanged.
        """
        self._routes.forget()
        if isinstance(given, TextReceived):
            outputs = self._text_received(given, now)
        else:
            handler = self._INPUTS.get(type(given))
            if handler is None:
                raise TypeError(f"not an input: {type(given).__name__}")
            outputs = handler(self, given, now)
            self._metrics.handle(given, now)
        return self._counted(outputs, now)

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        """Take all inputs of one moment: the same as `handle` for each, and quicker for plain data frames (`Routes`).

        `ends` is given the number of outputs after each input, which tells them apart.
        """
        outputs: list[Output] = []
        at = self._routes.take(batch, 0, now, outputs, ends) if batch else 0
        self.plain = at == len(batch) and self._routes.known
        while at < len(batch):
            outputs += self.handle(batch[at], now)
            if ends is not None:
                ends.append(len(outputs))
            at += 1
            if at < len(batch):
                at = self._routes.take(batch, at, now, outputs, ends)
        return outputs

    def _counted(self, outputs: Sequence[Output], now: Now) -> Sequence[Output]:
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

    # Received on the websocket.

    def _text_received(self, given: TextReceived, now: Now) -> Sequence[Output]:
        data = given.data
        if not self._link.hear(now):
            # Data that are still on their way when the application has closed the session do not interest it.
            if self._link.is_draining:
                return ()
            return (dropped(Drop.NOT_CONNECTED, "a frame without a connection", data=data),)
        decoded = decode_frame(data)
        if isinstance(decoded, ErrorFrame):
            return self._to_link(decoded, now)
        if isinstance(decoded, tuple):
            return [output for frame in decoded for output in self._frame_received(frame, given, now)]
        if decoded.stream in self._link.untyped:
            # Also where it looks like a known one: its meaning there is not known.
            return self._unknown_received(decoded.stream, given, now)
        if isinstance(decoded, Frame):
            return self._frame_received(decoded, given, now)
        return [decoded, *self._frame_lost(decoded.stream, now), *self._update_lost(decoded, now)]

    def _unknown_received(self, stream: str, given: TextReceived, now: Now) -> Sequence[Output]:
        """Hand on a payload that only the user can read."""
        self._metrics.handle(Frame(stream=stream), now)
        emitted_us = emission_of(given.data)
        path = self._link.see_unknown(stream, emitted_us, now)
        received_us = now.unix_us if given.received_us is None else given.received_us
        payload = UnknownPayload(stream=stream, text=given.data.decode(), emitted_us=emitted_us, received_us=received_us)
        return [*self._pass_on(path, now), *self._data_seen(stream, None, now), payload]

    def _frame_received(self, frame: Frame, given: TextReceived, now: Now) -> Sequence[Output]:
        stream, payload = frame.stream, frame.payload
        if payload is None:
            raise AssertionError("decode_frame returns no frame without a payload")
        # The decoded payload is the event, and is not shared yet: this is cheaper than a copy.
        force_setattr(payload, "received_us", now.unix_us if given.received_us is None else given.received_us)
        path = self._link.see(stream, payload.emitted_us, now)
        if path:
            return [*self._pass_on(path, now), *self._data_frame(frame, payload, given.data, now)]
        return self._data_frame(frame, payload, given.data, now)

    def _data_frame(self, frame: Frame, payload: Payload, data: bytes, now: Now) -> Sequence[Output]:
        stream = frame.stream
        if stream not in self._link.wanted:
            if stream in self._link.leaving:
                return ()
            return (dropped(Drop.NOT_SUBSCRIBED, f"{stream} is not subscribed", data=data, stream=stream),)
        outputs: Sequence[Output]
        if type(payload) is Depth and self._manage_books:
            sequencer = self._books.of_stream(stream)
            if sequencer is None or sequencer.symbol != payload.symbol:
                drop = dropped(Drop.MALFORMED, f"a delta of {payload.symbol}", data=data, stream=stream)
                return [drop, *self._frame_lost(stream, now)]
            seen = self._data_seen(stream, payload.emitted_us, now)
            outputs = self._sequence(sequencer, payload, now)
        else:
            seen = self._data_seen(stream, payload.emitted_us, now)
            outputs = self._data_received(stream, payload, now)
        if self._link.is_only_canary(stream):
            self._metrics.handle(CanarySeen(), now)
        else:
            self._metrics.handle(frame, now)
        return [*seen, *outputs] if seen else outputs

    def _data_seen(self, stream: str, emitted_us: int | None, now: Now) -> Sequence[Output]:
        seen = self._link.data_seen(stream, emitted_us, now)
        return self._pass_on(seen, now) if seen else ()

    def _data_received(self, stream: str, payload: Payload, now: Now) -> list[Output]:
        """Data are events for users that wanted them. Machines want some, too."""
        outputs: list[Output] = [payload] if stream in self._link.shown else []
        if isinstance(payload, BookTicker | Trade):
            outputs += self._to_books(self._books.of_symbol(payload.symbol), payload, now)
        elif isinstance(payload, MarkPrice) or (
            stream in _ACCOUNT_STREAMS and isinstance(payload, OrderUpdate | PositionUpdate | BalanceUpdate)
        ):
            outputs += self._keep_account(payload, now)
        return outputs

    def _frame_lost(self, stream: str | None, now: Now) -> list[Output]:
        suspects = [sequencer for sequencer in self._books.all if stream in (None, sequencer.stream)]
        return self._to_books(suspects, FrameLost(), now)

    def _update_lost(self, lost: FrameDropped, now: Now) -> list[Output]:
        """Tell the ledger of a frame of its streams that cannot be read, or of one that may have been of its streams."""
        if lost.stream is not None and lost.stream not in _ACCOUNT_STREAMS:
            return []
        return self._keep_account(UpdateLost(lost.reason.value), now)

    # Inputs that one machine is given as they came.

    def _to_link(self, given: LinkInput, now: Now) -> list[Output]:
        return self._pass_on(self._link.handle(given, now), now)

    def _to_requests(self, given: Ask | WithdrawAsk | Forget | MeasureTime, now: Now) -> list[Output]:
        return self._pass_on(self._requests.handle(given, now), now)

    def _unsubscribe(self, given: Unsubscribe, now: Now) -> list[Output]:
        self._check_streams()
        return [*self._to_link(given, now), *self._want_canary(now)]

    # Inputs that several machines have to do with.

    def _check_streams(self) -> None:
        if self._calls_only:
            raise LocalProtocolError("there are no streams here: this was made with streams=False, for calls only")

    def _want_canary(self, now: Now) -> list[Output]:
        return self._pass_on(self._link.want_canary(now), now)

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
                outputs += self._to_link(RoundTripMeasured(self._round_trip_us), now)
        outputs += self._pass_on(self._requests.handle(given, now), now)
        return [*outputs, *self._to_link(ClockRead(self._requests.exchange_unix_us(now) - now.mono_us), now)]

    def _timer_fired(self, given: TimerFired, now: Now) -> list[Output]:
        """Only those whose moment has come are told. The others would ignore it."""
        outputs = self._to_link(given, now)
        if self._link.is_wanted:
            outputs += self._to_openings(given, now)
        outputs += self._to_books(self._books.due(now), given, now)
        outputs += self._keep_account(given, now)
        outputs += self._pass_on(self._requests.handle(given, now), now)
        return outputs

    def _open(self, given: Open, now: Now) -> list[Output]:
        outputs = [] if self._calls_only else self._to_link(given, now)
        if self._measure_clock:
            outputs += self._to_requests(MeasureTime(), now)
        return [*outputs, *self._want_canary(now)]

    def _close(self, given: Close, now: Now) -> list[Output]:
        """The connection ends for all but the connection, which sees it closed in order."""
        outputs: list[Output] = []
        if self._link.is_open:
            outputs += self._to_link(ConnectionLost(), now)
            outputs += self._end_streams("closed by the application", now)
        outputs += self._pass_on(self._requests.handle(Abandon("the session was closed"), now), now)
        outputs += self._to_link(given, now)
        return [*outputs, *self._want_canary(now)]

    def _connected(self, given: Connected, now: Now) -> list[Output]:
        outputs = self._to_link(given, now)
        if self._link.watches_path:
            # The exchange's time shows how late data are.
            outputs += self._to_requests(MeasureTime(), now)
        return outputs

    def _subscribe(self, given: Subscribe, now: Now) -> list[Output]:
        self._check_streams()
        if not self._manage_books:
            # Without a book there is no verification.
            given = Subscribe((*given.books, *given.streams), untyped=given.untyped)
        outputs: list[Any] = [*self._link.handle(given, now)]
        for name in (*given.books, *given.streams) if self._manage_books else ():
            stream = parse_stream(name)
            if stream.channel is Channel.DEPTH and self._books.of_stream(name) is None:
                symbol = stream.symbol or ""
                self._books.add(name, symbol)
                self._progress.handle(BookWanted(name, symbol), now)
                outputs += self._openings.handle(MarketWatched(symbol, watched=True), now)
        return [*self._pass_on(outputs, now), *self._want_canary(now)]

    def _follow_account(self, given: FollowAccount, now: Now) -> list[Output]:
        self._check_streams()
        outputs = self._link.handle(given, now)
        begins = self._account is None
        account = self._account = self._account or Account()
        account.path = self._path_claim
        passed = self._pass_on(outputs, now)
        if begins and self._link.is_open and account.state is AccountState.IDLE:
            # The user had subscribed all of its streams before.
            passed += self._request_account(now)
        return [*passed, *self._want_canary(now)]

    def _verify(self, given: Verify, now: Now) -> list[Output]:
        sequencer = self._books.of_stream(given.stream)
        if sequencer is None:
            raise LocalProtocolError(f"no depth stream {given.stream!r} is subscribed")
        return [*self._sequence(sequencer, given, now)]

    def _refresh_book(self, given: RefreshBook, now: Now) -> list[Output]:
        if self._books.of_stream(given.stream) is None:
            raise LocalProtocolError(f"no depth stream {given.stream!r} is subscribed")
        # Without a connection it is stale already, and is requested when there is one.
        return self._to_link(Resubscribe((given.stream,)), now) if self._link.is_open else []

    def _ask(self, given: Asking, now: Now) -> list[Output]:
        ask = self._asked.ask(given)
        return [] if ask is None else self._to_requests(ask, now)

    def _withdraw(self, given: Withdraw, now: Now) -> list[Output]:
        return self._to_requests(WithdrawAsk(Caller(given.call_id)), now)

    def _resolve(self, given: Resolve, now: Now) -> list[Output]:
        return self._to_requests(Forget(Caller(given.call_id)), now)

    # Signals: messages of one machine to another.

    def _went_down(self, given: ConnectionDown, now: Now) -> list[Output]:
        return [given, *self._end_streams(f"the connection is down: {given.reason}", now)]

    def _end_streams(self, reason: str, now: Now) -> list[Output]:
        outputs = self._to_books(self._books.all, StreamEnded(reason), now)
        return outputs + self._keep_account(AccountEnded(reason), now)

    def _requested(self, given: Requested, now: Now) -> list[Output]:
        """Ask for a snapshot as soon as the stream is requested: a quiet market may be silent for long."""
        self._metrics.handle(StreamsRequested(given.streams), now)
        outputs: list[Output] = []
        for sequencer in self._books.of_streams(given.streams):
            closed = self._openings.is_closed(sequencer.symbol)
            outputs += self._sequence(sequencer, StreamSuspended() if closed else StreamRequested(), now)
        outputs += self._to_link(given, now)
        return outputs if _ACCOUNT_STREAMS.isdisjoint(given.streams) else outputs + self._request_account(now)

    def _released(self, given: Released, now: Now) -> list[Output]:
        outputs: list[Output] = []
        for sequencer in self._books.of_streams(given.streams):
            outputs += self._sequence(sequencer, StreamEnded("unsubscribed"), now)
            outputs += self._to_progress(BookReleased(sequencer.stream), now)
            self._books.remove(sequencer)
            if not self._books.of_symbol(sequencer.symbol):
                self._openings.handle(MarketWatched(sequencer.symbol, watched=False), now)
        self._unwatched = given.streams
        return outputs

    def _streams_refused(self, given: StreamsRefused, now: Now) -> list[Output]:
        outputs: list[Output] = [given]
        if not _ACCOUNT_STREAMS.isdisjoint(given.suspects):
            outputs += self._keep_account(AccountEnded(f"the exchange refused it: {given.message}"), now)
        if given.authentication and self._measure_clock:
            outputs += self._to_requests(MeasureTime(), now)
        return outputs

    def _in_force(self, given: InForce, now: Now) -> list[Output]:
        return self._to_books(self._books.of_streams(given.streams), BookInForce(), now)

    def _path_changed(self, given: PathProved | PathExpired, now: Now) -> list[Output]:
        """The path is that of all books at once, and of the ledger."""
        doubt = given.reason if isinstance(given, PathExpired) else None
        outputs = self._to_books(self._books.all, PathChanged(doubt), now)
        return [*outputs, *self._keep_account(AccountPathChanged(doubt), now)]

    def _stream_mute(self, given: StreamMute, now: Now) -> list[Output]:
        if given.abandon:
            return self._to_link(GiveUp(f"{given.stream}: {given.reason}"), now)
        return self._to_link(Resubscribe((given.stream,)), now)

    def _updates_mute(self, given: UpdatesMute, now: Now) -> list[Output]:
        if given.abandon:
            return self._to_link(GiveUp(f"{', '.join(given.proved)}: {given.reason}"), now)
        return self._to_link(Resubscribe(given.streams), now)

    def _book_told(self, given: BookSynced | BookConfirmed | BookStale | BookDesynced, now: Now) -> list[Output]:
        return [given, *self._to_progress(given, now)]

    def _to_progress(self, given: BookStartInput, now: Now) -> list[Output]:
        budget = self.budget
        return [
            replace(output, queued=budget(now).snapshots_queued, remaining_us=budget(now).remaining_us)
            for output in self._progress.handle(given, now)
        ]

    def _market_closed(self, given: MarketClosed, now: Now) -> list[Output]:
        told = [given, *self._to_progress(given, now)]
        return [*told, *self._to_books(self._books.of_symbol(given.symbol), StreamSuspended(), now)]

    def _market_opened(self, given: MarketOpened, now: Now) -> list[Output]:
        """Streams subscribed while the market was closed may never speak, so they are requested again."""
        told = [given, *self._to_progress(given, now)]
        if not self._link.is_open:
            return told
        return [*told, *self._to_link(Resubscribe(self._link.of_symbol(given.symbol)), now)]

    def _markets_read(self, result: object, now: Now) -> list[Output]:
        """Learn from a list of markets, or from one, for any asker."""
        if isinstance(result, Markets):
            markets = result.values()
            outputs = self._to_market_rules(result, now)
            outputs += self._to_openings(MarketsRead({market.symbol: market.order_book_state for market in markets}), now)
            perpetuals = tuple(market.symbol for market in markets if may_be_canary(market))
            return [*outputs, *self._to_link(MarketsKnown(perpetuals), now)]
        if not isinstance(result, Market):
            return []
        outputs = self._to_market_rules(result, now)
        return outputs + self._to_openings(MarketsRead({result.symbol: result.order_book_state}), now)

    def _rules_doubted(self, given: RulesDoubted, now: Now) -> list[Output]:
        return self._ask(ReadMarket(given.symbol), now)

    def _levels_seen(self, result: object, now: Now) -> list[Output]:
        """Compare the levels of any snapshot with the rules of the market."""
        if not isinstance(result, DepthSnapshot):
            return []
        return self._to_market_rules(LevelsSeen(result.symbol, result.bids, result.asks), now)

    def _request_sent(self, given: SendRequest, now: Now) -> list[Output]:
        self._sent_us[given.request_id] = now.mono_us
        return [given]

    def _time_answered(self, given: TimeAnswered, now: Now) -> list[Output]:
        return self._to_link(RoundTripMeasured(self._round_trip_us, given.server_us), now)

    def _top_matched(self, _: TopMatched, now: Now) -> list[Output]:
        self._metrics.handle(TopVerified(), now)
        return []

    def _settled(self, given: Settled, now: Now) -> Sequence[Output]:
        """Give an answer, or the error in its place, to its asker."""
        result = given.result
        self._asked.settle(given.asker)
        match given.asker:
            case SnapshotAsker(stream) as asker:
                outputs = self._levels_seen(result, now)
                return [*outputs, *self._sequence(self._books[stream], snapshot_of(asker, result), now)]
            case ReadAccount() as asker:
                return self._keep_account(reading_of(asker, result), now)
            case MarketListAsker():
                failed = isinstance(result, BackpackError)
                return self._to_link(MarketsUnknown(), now) if failed else self._markets_read(result, now)
            case MarketAsker(symbol):
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
        """Tell the asker that the request leaves: from here on an answer is waited for."""
        match given.asker:
            case SnapshotAsker(stream, attempt):
                return self._sequence(self._books[stream], SnapshotRequested(attempt), now)
            case ReadAccount(attempt=attempt):
                return self._keep_account(ReadingRequested(attempt), now)
        return ()

    def _call_unresolved(self, given: Unresolved, _: Now) -> Sequence[Output]:
        if not isinstance(given.asker, Caller):
            raise AssertionError("only calls change something")  # noqa: TRY004 - not an argument of anybody's
        return (unresolved_of(given.asker, given.error),)

    # The ways to a book, to the ledger and to the signer.

    def _to_books(self, sequencers: Iterable[BookSequencer], given: SequencerInput, now: Now) -> list[Output]:
        return [output for sequencer in sequencers for output in self._sequence(sequencer, given, now)]

    def _sequence(self, sequencer: BookSequencer, given: SequencerInput, now: Now) -> Sequence[Output]:
        """Give a book an input, and pass on its outputs."""
        return self._sequenced(sequencer, sequencer.handle(given, now), now)

    def _sequenced(self, sequencer: BookSequencer, outputs: Sequence[SequencerOutput], now: Now) -> Sequence[Output]:
        self._books.changed(sequencer)
        if self._asked.snapshots:
            unwanted = self._asked.unwanted_snapshot(sequencer.stream, sequencer.awaited)
            return [*self._withdraw_asks(unwanted, now), *self._pass_on(outputs, now)]
        if len(outputs) == 1 and isinstance(outputs[0], BookChanged):
            # Nearly every frame of a busy market: one event, for the user.
            return (outputs[0],)
        return self._pass_on(outputs, now)

    def _book_said(self, sequencer: BookSequencer, outputs: Sequence[SequencerOutput], now: Now) -> Sequence[Output]:
        return self._counted(self._sequenced(sequencer, outputs, now), now)

    def _withdraw_asks(self, unwanted: Iterable[WithdrawAsk], now: Now) -> list[Output]:
        return [output for withdrawn in unwanted for output in self._to_requests(withdrawn, now)]

    def _request_account(self, now: Now) -> list[Output]:
        return self._keep_account(AccountRequested(), now)

    def _keep_account(self, given: AccountInput, now: Now) -> list[Output]:
        if self._account is None:
            return []
        produced = self._account.handle(given, now)
        unwanted = self._asked.unwanted_reading(self._account.awaited)
        return [*self._withdraw_asks(unwanted, now), *self._pass_on(produced, now)]

    def _sign_subscription(self, now: Now) -> Signature:
        if self._signer is None:
            raise AssertionError("without a signer private streams are refused")
        unix_us = self._requests.exchange_unix_us(now)
        return Signature(self._signer.subscribe_signature(unix_us), unix_us)

    _INPUTS: ClassVar[Mapping[type, Callable[[Session, Any, Now], Sequence[Output]]]] = {
        BytesReceived: _to_link,
        Call: _ask,
        Close: _close,
        ConnectFailed: _to_link,
        Connected: _connected,
        Disconnected: _to_link,
        FollowAccount: _follow_account,
        Open: _open,
        PingReceived: _to_link,
        PongReceived: _to_link,
        ReadingPaused: _to_link,
        ReadingResumed: _to_link,
        Reconnect: _to_link,
        RefreshBook: _refresh_book,
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
    """Who takes which command or fact. Text frames, the hot path, are taken before."""

    _SIGNALS: ClassVar[Mapping[type, Callable[[Session, Any, Now], Sequence[Output]]]] = {
        BookConfirmed: _book_told,
        BookDesynced: _book_told,
        BookStale: _book_told,
        BookSynced: _book_told,
        ConnectionDown: _went_down,
        FetchSnapshot: _ask,
        InForce: _in_force,
        MarketClosed: _market_closed,
        MarketDoubted: _to_openings,
        MarketOpened: _market_opened,
        PathExpired: _path_changed,
        PathProved: _path_changed,
        ReadAccount: _ask,
        ReadMarket: _ask,
        ReadMarkets: _ask,
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
        UpdatesMute: _updates_mute,
    }
    """Receivers of the messages between machines. All other outputs leave the session."""

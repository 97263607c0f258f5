"""Outputs of the core: events for the user, actions for the runtime."""

from __future__ import annotations

from typing import TypeAlias

from msgspec.structs import force_setattr

from .errors import BackpackError, RemoteProtocolError
from .http import HttpRequest
from .importance import Importance
from .orders.intents import OrderIntent
from .streams.levels import Level
from .streams.payloads import Depth, Event
from .values import SecretText, Value

__all__ = [
    "Action",
    "BookChanged",
    "BookCheckFailed",
    "BookConfirmed",
    "BookDesynced",
    "BookStale",
    "BookSynced",
    "BookUnavailable",
    "BookVerified",
    "BooksProgress",
    "CallAnswered",
    "CallFailed",
    "CallUnresolved",
    "CloseSocket",
    "Closed",
    "ConnectionDown",
    "ConnectionUp",
    "DropSocket",
    "ErrorReceived",
    "Event",
    "EventsDropped",
    "MarketClosed",
    "MarketOpened",
    "OpenSocket",
    "Output",
    "PeerSilent",
    "RowsSkipped",
    "SendPing",
    "SendPong",
    "SendRequest",
    "SendText",
    "StreamLive",
    "StreamSilent",
    "StreamsRefused",
    "WithdrawRequest",
]


class Action(Value, frozen=True, gc=False):
    """A task of the runtime, to be done in the order given."""


class OpenSocket(Action, frozen=True, gc=False):
    """Connect the websocket. Answer with `Connected` or `ConnectFailed`, and after that, once, with `Disconnected`."""


class CloseSocket(Action, frozen=True, gc=False):
    """Send a Close frame, and go on reading until the exchange closes. Answer with `Disconnected`."""

    code: int
    reason: str


class DropSocket(Action, frozen=True, gc=False):
    """End the connection, or the attempt at one, at once. Nothing of it is to be heard of afterwards, not even an end."""


class SendText(Action, frozen=True, gc=False):
    """Send one text message."""

    text: str
    signed: bool = False
    """It holds a signature: the text is then a secret, which is sent and not pickled, encoded or logged."""

    def __post_init__(self) -> None:
        if self.signed and not isinstance(self.text, SecretText):
            force_setattr(self, "text", SecretText(self.text))

    def __repr__(self) -> str:
        return f"SendText({'<signed>' if self.signed else self.text!r})"


class SendPing(Action, frozen=True, gc=False):
    """Send a protocol ping."""

    payload: bytes


class SendPong(Action, frozen=True, gc=False):
    """Send a protocol pong."""

    payload: bytes


class SendRequest(Action, frozen=True, gc=False, kw_only=True):
    """Send a REST request. Answer with `ResponseReceived` or `RequestFailed`.

    Whether it may leave is looked at immediately before its first byte does, after a connection has been made: neither a request
    that was withdrawn nor one whose time has passed is ever sent.
    """

    request_id: int
    request: HttpRequest
    timeout_us: int
    """Time that the answer may take, counted from sending. Making a connection may take as long once more."""
    not_after_us: int | None = None
    """When it may leave no more, on `Now.mono_us`."""
    importance: Importance = Importance.READ
    """Of two that wait for a connection, the more important one gets it."""
    intents: tuple[OrderIntent, ...] = ()
    """The orders that it places: to be written down before its first byte leaves."""


class WithdrawRequest(Action, frozen=True, gc=False):
    """Do not send a `SendRequest` any more.

    Answer at once, with a `RequestFailed` that says `sent=False`, or with `RequestLeft` where it is too late. The latter's answer comes
    as usual. Nothing is to be said of a request that has been answered.
    """

    request_id: int


class ConnectionUp(Event, frozen=True, gc=False, kw_only=True):
    """The websocket is open. Streams are being requested."""

    attempt: int
    """1 for the first try since the connection last proved itself."""


class ConnectionDown(Event, frozen=True, gc=False, kw_only=True):
    """The websocket is gone or could not be opened. Every book is stale until it is back."""

    reason: str
    code: int | None
    """Close code of RFC 6455, None when there never was a connection."""
    retry_us: int
    """Time until the next try. Where another program makes the connections, the time that it should wait."""
    error: BackpackError | None = None
    """The reason as a type, where the runtime has one of its own: a proxy that failed, above all."""


class Closed(Event, frozen=True, gc=False, kw_only=True):
    """The session has ended because it was told to."""


class PeerSilent(Event, frozen=True, gc=False, kw_only=True):
    """Nothing was heard, not even an answer to a ping. The connection is given up."""

    silent_us: int


class StreamLive(Event, frozen=True, gc=False, kw_only=True):
    """First data of a stream since it was requested, or since it fell silent."""

    stream: str


class StreamSilent(Event, frozen=True, gc=False, kw_only=True):
    """A requested stream is silent for longer than is usual. A closed or unknown market looks just like this."""

    stream: str
    silent_us: int


class StreamsRefused(Event, frozen=True, gc=False, kw_only=True):
    """The exchange refused a request. Its error frame does not say which, so these are the suspects."""

    error: RemoteProtocolError
    code: int
    message: str
    suspects: tuple[str, ...]
    authentication: bool
    """The signature was refused (code 4003)."""


class ErrorReceived(Event, frozen=True, gc=False, kw_only=True):
    """An error frame that no pending request explains."""

    error: RemoteProtocolError
    code: int
    message: str


class EventsDropped(Event, frozen=True, gc=False, kw_only=True):
    """Events were lost here, between the one before and the one after, because their consumer was too slow.

    Each consumer's queue tells its own losses, a run of them in one event. The session itself does not lose any.
    """

    count: int
    """Number of events that the consumer will never see."""
    private: bool
    """They were private events or told of the state of connection, books and account. Otherwise they were market data."""


class BookSynced(Event, frozen=True, gc=False, kw_only=True):
    """A book follows its stream: snapshot and stream join without a hole.

    It is live from here on, unless a `BookStale` follows at once, because the path of the connection is in doubt.

    It is the book of the snapshot. Later changes of the stream follow as `BookChanged`, so that a program that applies the deltas
    of those has the book at every update id, as far as the levels of the snapshot reach (docs/protocol.md 5.1).
    """

    stream: str
    symbol: str
    last: int
    """The update id of the snapshot, which may lie behind the last one of the run before."""
    engine_us: int
    bids: tuple[Level, ...]
    """Every level that is known, best first."""
    asks: tuple[Level, ...]


class BookChanged(Event, frozen=True, gc=False, kw_only=True):
    """A live book moved from one update id to another. `first` is always one more than the `last` before it."""

    stream: str
    symbol: str
    first: int
    last: int
    engine_us: int
    bids: tuple[Level, ...]
    """The best levels after the change, best first, as many as the session was asked to hand out."""
    asks: tuple[Level, ...]
    verified: bool
    """True when the best levels at exactly this update id were compared with the exchange's own word, and were equal."""
    delta: Depth
    """The changed levels."""

    @property
    def received_us(self) -> int | None:
        """When the last frame of the change was received, by the local clock."""
        return self.delta.received_us


class BookVerified(Event, frozen=True, gc=False, kw_only=True):
    """The live book equals the exchange's: the first time of a run, and at every check against a snapshot."""

    stream: str
    symbol: str
    last: int
    """The update id at which the two were compared."""
    against: str
    """`bookTicker` or `snapshot`."""


class BookDesynced(Event, frozen=True, gc=False, kw_only=True):
    """A live book can no longer be trusted. It is stale from here on and is being fetched again."""

    stream: str
    symbol: str
    last: int
    """The last update id that was applied."""
    reason: str
    diverged: bool
    """A verification failed: the book was wrong without a gap."""
    error: RemoteProtocolError
    agreed: int | None = None
    """The last update id of this run at which the book was found equal to the exchange's word, or None when it never was."""
    differed: int | None = None
    """The update id at which it was found different, where it was."""


class BookStale(Event, frozen=True, gc=False, kw_only=True):
    """A claim that the book is live has expired, though without counter-evidence: it still follows its stream, and `BookChanged` goes on."""

    stream: str
    symbol: str
    last: int
    reason: str


class BookConfirmed(Event, frozen=True, gc=False, kw_only=True):
    """Fresh proof has come: a book that was called stale is live again, at `last`, without a new snapshot."""

    stream: str
    symbol: str
    last: int


class BookCheckFailed(Event, frozen=True, gc=False, kw_only=True):
    """A book could not be compared with a snapshot, for the first time since the last comparison. It is tried again."""

    stream: str
    symbol: str
    reason: str
    retry_us: int


class BooksProgress(Event, frozen=True, gc=False, kw_only=True):
    """Many books are becoming live, at the start or after a reconnect: so many are. Told once a second at most, and at the end."""

    wanted: int
    """Books that are subscribed, those of closed markets aside."""
    live: int
    """Those that have been reported live. `client.metrics.books` counts the books that are live at the moment of reading."""
    queued: int = 0
    """Snapshots that wait for the request budget."""
    remaining_us: int = 0
    """Time that they wait, by that budget. A book in a quiet market takes a second snapshot, 5 s later."""


class MarketClosed(Event, frozen=True, gc=False, kw_only=True):
    """A market is closed: its books are not live until it opens, when their streams are requested again."""

    symbol: str


class MarketOpened(Event, frozen=True, gc=False, kw_only=True):
    """A market that was closed is open again."""

    symbol: str


class BookUnavailable(Event, frozen=True, gc=False, kw_only=True):
    """A snapshot could not be had. It is asked for again after `retry_us`."""

    stream: str
    symbol: str
    reason: str
    retry_us: int


class RowsSkipped(Event, frozen=True, gc=False, kw_only=True):
    """A list about the market had rows that cannot be read. The others are the answer.

    Lists about the account have no such event: their calls fail with `PartlyUnreadable`.
    """

    endpoint: str
    """Method and path."""
    errors: tuple[tuple[str, str], ...]
    """The id of each row, empty where even that cannot be read, and the reason."""


class CallAnswered(Event, frozen=True, gc=False, kw_only=True):
    """The typed answer to a `Call`."""

    call_id: int
    endpoint: str
    result: object


class CallFailed(Event, frozen=True, gc=False, kw_only=True):
    """A `Call` without an answer, or refused."""

    call_id: int
    endpoint: str
    error: BackpackError


class CallUnresolved(Event, frozen=True, gc=False, kw_only=True):
    """A `Call` that changes something was given up by its caller after it may have been sent: it must not be repeated blindly.

    Should its answer still come, it is a `CallAnswered` or `CallFailed` with the same `call_id`, and the call is resolved, unless
    that error is an `OutcomeUnknown`: then no answer will come, and the call stays unresolved until a `Resolve`.
    """

    call_id: int
    endpoint: str
    reason: str
    symbol: str | None = None
    client_id: int | str | None = None
    """The user's own id, or None if not given."""
    order_id: int | str | None = None
    """The exchange's id of the order or quote to be cancelled, accepted or changed."""
    orders: tuple[tuple[str, int | None], ...] = ()
    """Symbol and client id of each order of a batch."""


Output: TypeAlias = Event | Action

"""Counters, latency and health, folded from the inputs and outputs of the session. It counts and never acts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus

from msgspec import Struct

from .account.values import (
    AccountConfirmed,
    AccountDiverged,
    AccountDoubted,
    AccountStale,
    AccountSynced,
    AccountUnconfirmed,
)
from .histogram import Histogram
from .inputs import ConnectFailed, Given, RequestFailed, ResponseReceived
from .machine import Now
from .outputs import (
    BookDesynced,
    BookSynced,
    BookVerified,
    Closed,
    ConnectionDown,
    ConnectionUp,
    ErrorReceived,
    PeerSilent,
    RowsSkipped,
    StreamLive,
    StreamSilent,
    StreamsRefused,
)
from .streams.frames import Drop, Frame, FrameDropped
from .streams.names import parse_stream
from .streams.payloads import Event
from .values import Value

__all__ = [
    "COUNTED_EVENTS",
    "BooksSnapshot",
    "CanarySeen",
    "Counted",
    "Health",
    "Metrics",
    "MetricsSnapshot",
    "Status",
    "StreamMetrics",
    "StreamsRequested",
    "TopVerified",
    "Unwatched",
]

COUNTED_EVENTS = frozenset(
    {
        AccountConfirmed,
        AccountDiverged,
        AccountDoubted,
        AccountStale,
        AccountSynced,
        AccountUnconfirmed,
        BookDesynced,
        BookSynced,
        Closed,
        ErrorReceived,
        FrameDropped,
        ConnectionDown,
        ConnectionUp,
        PeerSilent,
        RowsSkipped,
        StreamLive,
        StreamSilent,
        StreamsRefused,
        BookVerified,
    }
)
"""The events that `Metrics` counts. It need not be given any other."""

RECENT_US = 60_000_000
"""Time that a momentary fault, such as a dropped frame, counts against health."""
_SHOWN_DOUBTS = 3


class CanarySeen(Struct, frozen=True, gc=False):
    """A canary has spoken, on a stream that only canaries need."""


class StreamsRequested(Struct, frozen=True, gc=False):
    """Streams were requested, perhaps not for the first time: that they had been refused is past."""

    streams: tuple[str, ...]


class TopVerified(Struct, frozen=True, gc=False):
    """Books agreed with their bookTickers once more, so often."""

    count: int = 1


class Unwatched(Struct, frozen=True, gc=False):
    """Streams that are not wanted any more: their last state does not concern health."""

    streams: tuple[str, ...]


Counted = Frame | Event | Given | CanarySeen | StreamsRequested | TopVerified | Unwatched


class Status(StrEnum):
    """The overall state in one word."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"


class Health(Value, frozen=True, gc=False, kw_only=True):
    """Verdict on the whole, with each reason against it. A reason goes when its cause has passed."""

    status: Status
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Facts worth knowing that are not reasons against health, such as a closed market."""

    @property
    def healthy(self) -> bool:
        """No reason against it."""
        return self.status is Status.HEALTHY

    @classmethod
    def of_calls(cls, reasons: Sequence[str]) -> Health:
        """Return the health of who has no connection for streams, and makes calls only."""
        return cls(
            status=Status.DEGRADED if reasons else Status.HEALTHY,
            reasons=tuple(reasons),
            notes=("there is no connection for streams: calls only",),
        )

    def and_also(self, reasons: Sequence[str], notes: Sequence[str] = ()) -> Health:
        """Return this health with the reasons and notes that somebody else knows of."""
        if not (reasons or notes):
            return self
        status = Status.DEGRADED if self.healthy and reasons else self.status
        return Health(status=status, reasons=(*self.reasons, *reasons), notes=(*self.notes, *notes))


class StreamMetrics(Value, frozen=True, gc=False, kw_only=True):
    """One stream's messages, and how long ago the last one came."""

    messages: int
    age_us: int


class BooksSnapshot(Value, frozen=True, gc=False, kw_only=True):
    """Number of books and their progress, at one moment."""

    wanted: int = 0
    """Books that are subscribed."""
    live: int = 0
    fetching: int = 0
    """Those whose snapshot has been asked for, and has not come or was of no use."""
    closed: int = 0
    """Those of closed markets, which are not live and need not be."""
    queued: int = 0
    """Snapshots that wait for the request budget."""
    remaining_us: int = 0
    """Time that they wait, by that budget. A book in a quiet market takes a second snapshot, 5 s later."""


class MetricsSnapshot(Value, frozen=True, gc=False, kw_only=True):
    """All counters since the session began, at one moment."""

    ws_messages: int
    """Text frames of any content."""
    ws_reconnects: int
    """Connections after the first one."""
    ws_errors: int
    """Lost or failed connections, silent peers and error frames."""
    auth_failures: int
    canary_messages: int
    """Frames that only canaries need. The other counters do not have them."""
    dropped_messages: int
    """Frames that could not be used, `parser_errors` among them."""
    parser_errors: int
    orderbook_resyncs: int
    book_verifications: int
    book_divergences: int
    account_divergences: int
    rate_limited: int
    """REST answers with status 429."""
    proxy_failures: int
    """Connections of either kind that failed at their proxy."""
    books: BooksSnapshot = BooksSnapshot()
    """The one member that does not count from the beginning."""
    streams: Mapping[str, StreamMetrics]
    engine_to_receipt_p50_us: int | None
    """From the matching engine's time to receipt, by the local clock. At most 6.25 % too high, never too low. None without data."""
    engine_to_receipt_p99_us: int | None
    receipt_to_delivery_p50_us: int | None = None
    """From receipt to the moment at which a consumer of the client fetched the event, in the cryptofeed feed to the end of the callbacks.

    None where it is not measured.
    """
    receipt_to_delivery_p99_us: int | None = None


class Metrics:
    """The fold. A machine without timer and outputs."""

    def __init__(self) -> None:
        self._counters: Counter[str] = Counter()
        self._streams: dict[str, list[int]] = {}
        self.engine_to_receipt = Histogram()
        """Time that the data of frames took. Who takes frames in runs records it."""
        self._connections = 0
        self._connection_fault: str | None = "the connection was never up"
        self._stale_account: str | None = None
        self._synced = False
        """A book or the account was read once."""
        self._account_unconfirmed: str | None = None
        self._account_doubts: tuple[str, ...] = ()
        self._silent: dict[str, None] = {}
        self._refused: dict[str, str] = {}
        self._recent: dict[str, int] = {}
        self.resyncs: Counter[str] = Counter()
        """Number of times that books of each market were desynced."""

    @property
    def deadline(self) -> int | None:
        """Never: counting needs no timer."""
        return None

    def handle(self, given: Counted, now: Now) -> Sequence[Event]:
        """Count one input or output."""
        if isinstance(given, Frame):
            self._count_frame(given, now)
        elif isinstance(given, Event):
            self._count_event(given, now)
        elif isinstance(given, CanarySeen):
            self._counters["canary_messages"] += 1
        elif isinstance(given, TopVerified):
            self._counters["book_verifications"] += given.count
        elif isinstance(given, StreamsRequested):
            for stream in given.streams:
                self._refused.pop(stream, None)
        elif isinstance(given, Unwatched):
            for stream in given.streams:
                self._silent.pop(stream, None)
                self._refused.pop(stream, None)
        elif isinstance(given, ResponseReceived) and given.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._counters["rate_limited"] += 1
            self._recent["REST requests were refused as too many"] = now.mono_us
        elif isinstance(given, ConnectFailed | RequestFailed) and given.proxy is not None:
            self._counters["proxy_failures"] += 1
            self._recent[f"the way through proxy {given.proxy} failed"] = now.mono_us
        return ()

    def tally(self, stream: str) -> list[int] | None:
        """Return the count of a stream's frames and the moment of its last one, for callers that count them in runs, or None before its first frame."""
        return self._streams.get(stream)

    def snapshot(self, now: Now) -> MetricsSnapshot:
        """All counters at this moment."""
        count = self._counters
        return MetricsSnapshot(
            ws_messages=sum(entry[0] for entry in self._streams.values()) + count["frames_without_stream"],
            ws_reconnects=max(self._connections - 1, 0),
            ws_errors=count["ws_errors"],
            auth_failures=count["auth_failures"],
            canary_messages=count["canary_messages"],
            dropped_messages=count["dropped_messages"],
            parser_errors=count["parser_errors"],
            orderbook_resyncs=count["orderbook_resyncs"],
            book_verifications=count["book_verifications"],
            book_divergences=count["book_divergences"],
            account_divergences=count["account_divergences"],
            rate_limited=count["rate_limited"],
            proxy_failures=count["proxy_failures"],
            streams={
                stream: StreamMetrics(messages=messages, age_us=now.mono_us - last_us)
                for stream, (messages, last_us) in self._streams.items()
            },
            engine_to_receipt_p50_us=self.engine_to_receipt.percentile(0.5),
            engine_to_receipt_p99_us=self.engine_to_receipt.percentile(0.99),
        )

    def health(self, now: Now, troubles: Sequence[str] = (), notes: Sequence[str] = ()) -> Health:
        """Say whether all is well at this moment, and if not, why. `troubles` and `notes` come from other parts."""
        reasons: list[str] = []
        if self._stale_account is not None:
            reasons.append(f"the account is stale: {self._stale_account}")
        if self._account_unconfirmed is not None:
            reasons.append(f"the account could not be checked: {self._account_unconfirmed}")
        reasons += _summary("the account is in doubt", self._account_doubts)
        # Data that need not come are no reason: an unknown market looks like a quiet one.
        quiet = [stream for stream in self._silent if not parse_stream(stream).channel.traits.every_second]
        reasons += [f"stream {stream} is silent" for stream in self._silent if stream not in quiet]
        said = (*notes, *(f"stream {stream} has sent nothing yet" for stream in quiet))
        reasons += [f"stream {stream} was refused: {why}" for stream, why in self._refused.items()]
        reasons += troubles
        reasons += [reason for reason, when_us in self._recent.items() if now.mono_us - when_us < RECENT_US]
        if self._connection_fault is not None:
            return Health(status=Status.DOWN, reasons=(self._connection_fault, *reasons), notes=said)
        if not self._streams and not self._synced:
            # An account or a market may be quiet for hours, and one that was read is data.
            return Health(status=Status.DEGRADED, reasons=("no data has come yet", *reasons), notes=said)
        return Health(status=Status.DEGRADED if reasons else Status.HEALTHY, reasons=tuple(reasons), notes=said)

    def _count_frame(self, frame: Frame, now: Now) -> None:
        entry = self._streams.get(frame.stream)
        if entry is None:
            self._streams[frame.stream] = [1, now.mono_us]
        else:
            entry[0] += 1
            entry[1] = now.mono_us
        payload = frame.payload
        engine_us = getattr(payload, "engine_us", None)
        if payload is not None and engine_us is not None:
            # An engine clock that is ahead of ours gives a negative latency, which counts as zero.
            self.engine_to_receipt.record((payload.received_us or now.unix_us) - engine_us)

    def _count_event(self, event: Event, now: Now) -> None:
        count = self._counters
        match event:
            case ConnectionUp():
                self._connections += 1
                self._connection_fault = None
                self._refused.clear()
            case ConnectionDown(reason=reason):
                count["ws_errors"] += 1
                self._connection_fault = f"the connection is down: {reason}"
                self._silent.clear()
            case Closed():
                self._connection_fault = "the session is closed"
            case PeerSilent():
                self._recent["the exchange fell silent"] = now.mono_us
            case BookSynced():
                self._synced = True
            case BookDesynced(stream=stream, symbol=symbol, diverged=diverged):
                count["orderbook_resyncs"] += 1
                self.resyncs[symbol] += 1
                count["book_divergences"] += diverged
                if diverged:
                    self._recent[f"book {stream} had diverged"] = now.mono_us
            case BookVerified(against="snapshot"):
                count["book_verifications"] += 1
            case StreamSilent(stream=stream):
                self._silent[stream] = None
            case StreamLive(stream=stream):
                self._silent.pop(stream, None)
                self._refused.pop(stream, None)
            case StreamsRefused(suspects=suspects, message=message, authentication=authentication):
                count["frames_without_stream"] += 1
                count["ws_errors"] += 1
                count["auth_failures"] += authentication
                self._refused.update(dict.fromkeys(suspects, message))
            case ErrorReceived(message=message):
                count["frames_without_stream"] += 1
                count["ws_errors"] += 1
                self._recent[f"the exchange answered: {message}"] = now.mono_us
            case FrameDropped(reason=reason):
                self._count_drop(reason, now)
            case _:
                self._count_account_event(event, now)

    def _count_account_event(self, event: Event, now: Now) -> None:
        match event:
            case AccountSynced():
                self._stale_account = None
                self._synced = True
                self._account_unconfirmed = None
            case AccountStale(reason=reason):
                self._stale_account = reason
                self._account_unconfirmed = None
            case AccountUnconfirmed(reason=reason):
                self._account_unconfirmed = reason
            case AccountConfirmed():
                self._stale_account = self._account_unconfirmed = None
            case AccountDoubted(doubts=doubts):
                self._account_doubts = doubts
            case RowsSkipped(endpoint=endpoint, errors=errors):
                named = ", ".join(key or "one without an id" for key, _ in errors[:_SHOWN_DOUBTS])
                self._recent[f"{endpoint} has rows that cannot be read: {named}"] = now.mono_us
            case AccountDiverged():
                self._counters["account_divergences"] += 1
                self._recent["the account had diverged"] = now.mono_us
            case _:
                pass

    def _count_drop(self, reason: Drop, now: Now) -> None:
        count = self._counters
        count["dropped_messages"] += 1
        count["frames_without_stream"] += 1
        if reason not in (Drop.NOT_SUBSCRIBED, Drop.NOT_CONNECTED):
            count["parser_errors"] += 1
        if reason is not Drop.NOT_CONNECTED:
            self._recent[f"frames were dropped: {reason.value}"] = now.mono_us


def _summary(what: str, parts: Sequence[str]) -> list[str]:
    """Return the first of many parts as reasons, and how many more there are."""
    more = [f"{what}: {len(parts) - _SHOWN_DOUBTS} parts more"] if len(parts) > _SHOWN_DOUBTS else []
    return [*(f"{what}: {part}" for part in parts[:_SHOWN_DOUBTS]), *more]

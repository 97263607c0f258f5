"""Log lines about the events of a connection: one line an event, with fields, and never a flood.

Theory. Lines of one kind share a budget, so that a thousand unusable frames cannot hide the one refused signature. Lines that were left
out are counted, and the next line of their kind has the number. Text that may be a peer's own passes `printable` here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from backpack_proto.account.values import (
    AccountConfirmed,
    AccountDiverged,
    AccountDoubted,
    AccountStale,
    AccountSynced,
    AccountUnconfirmed,
)
from backpack_proto.encoding import plain_digits
from backpack_proto.outputs import (
    BookConfirmed,
    BookDesynced,
    BooksProgress,
    BookStale,
    BookSynced,
    BookUnavailable,
    CallUnresolved,
    Closed,
    ConnectionDown,
    ConnectionUp,
    ErrorReceived,
    EventsDropped,
    PeerSilent,
    StreamLive,
    StreamSilent,
    StreamsRefused,
)
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import Event
from backpack_proto.text import printable

__all__ = ["EventLog", "LimitedLog"]

LINES: Final = 5
"""Number of lines of one kind that are written in `WINDOW_SECONDS`."""
WINDOW_SECONDS: Final = 60.0


class LimitedLog:
    """A logger with a budget for each kind of line."""

    def __init__(self, logger: logging.Logger, *, clock: Callable[[], float] | None = None) -> None:
        """Write to `logger`. `clock` gives seconds, those of the machine unless given."""
        self._logger = logger
        self._clock = clock or time.monotonic
        self._budgets: dict[str, _Budget] = {}

    def write(self, level: int, kind: str, text: str, *values: object) -> None:
        """Log a text with its values, or count it."""
        left_out = self._left_out(level, kind)
        if left_out is None:
            return
        if left_out:
            text += " (%d of these lines were left out)"
            values = (*values, left_out)
        self._logger.log(level, text, *map(_safe, values))

    def line(self, level: int, kind: str, **fields: object) -> None:
        """Log a kind of happening and its fields, as text and, for programs, as `event` and `fields` of the record. Or count it."""
        left_out = self._left_out(level, kind)
        if left_out is None:
            return
        if left_out:
            fields["left_out"] = left_out
        told = {name: _safe(value) for name, value in fields.items() if value is not None}
        text = " ".join([kind, *(f"{name}={_quoted(value)}" for name, value in told.items())])
        self._logger.log(level, "%s", text, extra={"event": kind, "fields": told})

    def _left_out(self, level: int, kind: str) -> int | None:
        """Return the number of lines of a kind that were left out before this one, or None when this one is, too."""
        if not self._logger.isEnabledFor(level):
            return None
        return self._budgets.setdefault(kind, _Budget()).spend(self._clock())


class _Budget:
    """The lines of one kind."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._written = 0
        self._left_out = 0

    def spend(self, now: float) -> int | None:
        if self._since is None or now - self._since >= WINDOW_SECONDS:
            self._since, self._written = now, 0
        if self._written >= LINES:
            self._left_out += 1
            return None
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class EventLog:
    """Writes a line for each event that tells of connection, books, streams or account. Data are no news."""

    def __init__(self, logger: logging.Logger) -> None:
        """Write to `logger`."""
        self._log = LimitedLog(logger)
        self._connected = False
        self._closing = False

    def expect_the_end(self) -> None:
        """Take it for no trouble that books and account end: the application closes the connection."""
        self._closing = True

    def tell(self, event: Event) -> None:
        """Write the line of an event, if it has one."""
        row = _ROWS.get(type(event))
        if row is None:
            return
        level, kind, fields_of = row
        match event:
            case ConnectionUp() | ConnectionDown():
                self._connected = isinstance(event, ConnectionUp)
            case BookDesynced():
                if not self._connected or self._closing:
                    # A lost connection is said once, for all books.
                    return
                kind = "book diverged" if event.diverged else kind
            case AccountDoubted(doubts=()):
                level, kind = logging.INFO, "account doubted no more"
            case AccountStale():
                if self._closing:
                    return
        self._log.line(level, kind, **fields_of(event))


def _safe(value: object) -> object:
    return printable(str(value)) if isinstance(value, str | BaseException) else value


def _quoted(value: object) -> str:
    """A value as it stands behind a `=`: in quotes where it would run into its neighbours."""
    text = str(value)
    return '"' + text.replace('"', "'") + '"' if not text or " " in text or '"' in text else text


def _seconds(us: int) -> float:
    return round(us / 1e6, 3)


_ROWS: Final[Mapping[type, tuple[int, str, Callable[[Any], dict[str, object]]]]] = {
    AccountConfirmed: (logging.INFO, "account confirmed", lambda _: {}),
    AccountDoubted: (
        logging.WARNING,
        "account doubted",
        lambda event: {"doubts": "; ".join(event.doubts[:3]), "count": len(event.doubts)},
    ),
    AccountUnconfirmed: (logging.WARNING, "account unconfirmed", lambda event: {"reason": event.reason}),
    AccountDiverged: (logging.WARNING, "account diverged", lambda event: {"what": event.what}),
    AccountStale: (logging.WARNING, "account stale", lambda event: {"reason": event.reason}),
    AccountSynced: (logging.INFO, "account synced", lambda event: {"orders": event.orders, "fills": event.fills}),
    BookConfirmed: (
        logging.INFO,
        "book confirmed",
        lambda event: {"stream": event.stream, "symbol": event.symbol, "last": event.last},
    ),
    BookStale: (
        logging.WARNING,
        "book in doubt",
        lambda event: {"stream": event.stream, "symbol": event.symbol, "last": event.last, "reason": event.reason},
    ),
    BookDesynced: (
        logging.WARNING,
        "book stale",
        lambda event: {"stream": event.stream, "symbol": event.symbol, "last": event.last, "reason": event.reason},
    ),
    BookSynced: (
        logging.INFO,
        "book synced",
        lambda event: {"stream": event.stream, "symbol": event.symbol, "last": event.last},
    ),
    BookUnavailable: (
        logging.WARNING,
        "book unavailable",
        lambda event: {
            "stream": event.stream,
            "symbol": event.symbol,
            "reason": event.reason,
            "retry_s": _seconds(event.retry_us),
        },
    ),
    BooksProgress: (
        logging.INFO,
        "books live",
        lambda event: {
            "live": event.live,
            "wanted": event.wanted,
            "queued": event.queued,
            "remaining_s": _seconds(event.remaining_us),
        },
    ),
    CallUnresolved: (
        logging.WARNING,
        "call unresolved",
        lambda event: {
            "call_id": event.call_id,
            "endpoint": event.endpoint,
            "symbol": event.symbol,
            "client_id": event.client_id,
            "reason": event.reason,
        },
    ),
    Closed: (logging.INFO, "closed", lambda _: {}),
    ConnectionDown: (
        logging.WARNING,
        "connection down",
        lambda event: {"reason": event.reason, "code": event.code, "retry_s": _seconds(event.retry_us)},
    ),
    ConnectionUp: (logging.INFO, "connected", lambda event: {"attempt": event.attempt}),
    EventsDropped: (logging.WARNING, "events dropped", lambda event: {"count": event.count, "private": event.private}),
    ErrorReceived: (logging.WARNING, "error received", lambda event: {"code": event.code, "message": event.message}),
    FrameDropped: (
        logging.WARNING,
        "frame dropped",
        lambda event: {"reason": event.reason.value, "stream": event.stream, "excerpt": event.excerpt},
    ),
    MarketChanged: (
        logging.WARNING,
        "market changed",
        lambda event: {
            "symbol": event.symbol,
            "tick_size": plain_digits(event.market.tick_size),
            "step_size": plain_digits(event.market.step_size),
            "previous_tick_size": plain_digits(event.previous.tick_size),
            "previous_step_size": plain_digits(event.previous.step_size),
        },
    ),
    PeerSilent: (logging.WARNING, "peer silent", lambda event: {"silent_s": _seconds(event.silent_us)}),
    StreamLive: (logging.DEBUG, "stream live", lambda event: {"stream": event.stream}),
    StreamSilent: (
        logging.WARNING,
        "stream silent",
        lambda event: {"stream": event.stream, "silent_s": _seconds(event.silent_us)},
    ),
    StreamsRefused: (
        logging.ERROR,
        "streams refused",
        lambda event: {
            "code": event.code,
            "message": event.message,
            "suspects": ",".join(event.suspects),
            "authentication": event.authentication,
        },
    ),
}
"""Level, kind and fields of the line of each event that has one."""

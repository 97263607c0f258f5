"""Lines of the log about events other than data."""

from __future__ import annotations

import logging
from collections.abc import Callable

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
    BookUnavailable,
    ConnectionDown,
    ConnectionUp,
    ErrorReceived,
    PeerSilent,
    RowsSkipped,
    StreamLive,
    StreamSilent,
    StreamsRefused,
)
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.streams.frames import FrameDropped
from backpack_proto.streams.payloads import Event
from backpack_runtime.cryptofeed.logs import LOG
from backpack_runtime.logs import LimitedLog

from .driver import CLOSED_BY_FEED

__all__ = ["Reports"]


class Reports:
    """The lines of one feed, no more of each kind than the budget of the log allows."""

    def __init__(self, symbol_of: Callable[[str], str]) -> None:
        """`symbol_of` normalises an id of the exchange."""
        self._symbol_of = symbol_of
        self.write = LimitedLog(LOG).write
        self._connected = False

    def report(self, event: Event) -> None:
        """Log one event."""
        write = self.write
        match event:
            case ConnectionUp():
                self._connected = True
                write(logging.INFO, "connected", "BACKPACK: connected")
            case ConnectionDown(reason=reason, code=code, retry_us=retry_us):
                self._connected = False
                level = logging.INFO if reason == CLOSED_BY_FEED else logging.WARNING
                text = "BACKPACK: the connection is down (%s, code %s), to be back in %.1f s"
                write(level, "connection down", text, reason, code, retry_us / 1e6)
            case PeerSilent(silent_us=silent_us):
                text = "BACKPACK: nothing heard for %.0f s, not even an answer to a ping"
                write(logging.WARNING, "peer silent", text, silent_us / 1e6)
            case FrameDropped(reason=reason, stream=stream, excerpt=excerpt):
                text = "BACKPACK: dropped payload (%s, stream %s): %s"
                write(logging.WARNING, "frame dropped", text, reason.value, stream, excerpt)
            case StreamsRefused(code=code, message=message, suspects=suspects):
                text = "BACKPACK: the exchange refused (%d %s), one or all of: %s"
                write(logging.ERROR, "streams refused", text, code, message, ", ".join(suspects))
            case ErrorReceived(code=code, message=message):
                write(logging.WARNING, "error received", "BACKPACK: the exchange answered %d %s", code, message)
            case StreamLive(stream=stream):
                LOG.debug("BACKPACK: %s is live", stream)
            case StreamSilent(stream=stream, silent_us=silent_us):
                write(logging.WARNING, "stream silent", "BACKPACK: %s has sent nothing for %.0f s", stream, silent_us / 1e6)
            case MarketChanged(symbol=symbol, market=market):
                text = "BACKPACK: the exchange has changed the rules of %s: tick size %s, step size %s"
                sizes = plain_digits(market.tick_size), plain_digits(market.step_size)
                write(logging.WARNING, "market changed", text, self._symbol_of(symbol), *sizes)
            case RowsSkipped(endpoint=endpoint, errors=errors):
                named = ", ".join(f"{key or 'a row without an id'} ({reason})" for key, reason in errors[:3])
                write(
                    logging.WARNING,
                    "rows skipped",
                    "BACKPACK: %s has %d rows that cannot be read: %s",
                    endpoint,
                    len(errors),
                    named,
                )
            case _:
                self._report_book(event)

    def _report_book(self, event: Event) -> None:
        write = self.write
        match event:
            case BookDesynced(symbol=symbol, reason=reason, diverged=diverged):
                if self._connected:
                    # Otherwise it has been said already, once for all books.
                    kind = "book diverged" if diverged else "book stale"
                    text = "BACKPACK: l2_book of %s is stale: %s; it is fetched anew"
                    write(logging.WARNING, kind, text, self._symbol_of(symbol), reason)
            case BookStale(symbol=symbol, reason=reason):
                text = "BACKPACK: l2_book of %s is stale: %s; it goes on following its stream"
                write(logging.WARNING, "book in doubt", text, self._symbol_of(symbol), reason)
            case BookConfirmed(symbol=symbol, last=last):
                write(
                    logging.INFO, "book confirmed", "BACKPACK: l2_book of %s is live again at %d", self._symbol_of(symbol), last
                )
            case BooksProgress(wanted=wanted, live=live, remaining_us=remaining_us):
                text = "BACKPACK: %d of %d books are live, the others wait for %.0f s more"
                write(logging.INFO, "books live", text, live, wanted, remaining_us / 1e6)
            case BookUnavailable(symbol=symbol, reason=reason, retry_us=retry_us):
                text = "BACKPACK: no snapshot for l2_book of %s: %s; asked for again after %.1f s"
                write(logging.WARNING, "book unavailable", text, self._symbol_of(symbol), reason, retry_us / 1e6)
            case _:
                self._report_account(event)

    def _report_account(self, event: Event) -> None:
        write = self.write
        match event:
            case AccountSynced(orders=orders, fills=fills):
                text = "BACKPACK: account synced, %d open orders, %d fills were missed and are told now"
                write(logging.INFO, "account synced", text, orders, fills)
            case AccountStale(reason=reason):
                write(logging.WARNING, "account stale", "BACKPACK: the account is stale: %s", reason)
            case AccountDiverged(what=what, escalated=escalated):
                again = (
                    "; reading it again did not help, so what REST lists is taken"
                    if escalated
                    else "; the account is read again"
                )
                write(
                    logging.WARNING, "account diverged", "BACKPACK: streams and REST contradict each other: %s%s", what, again
                )
            case AccountDoubted(doubts=doubts):
                if doubts:
                    more = f", and {len(doubts) - 3} more" if len(doubts) > 3 else ""
                    write(
                        logging.WARNING,
                        "account doubted",
                        "BACKPACK: the account is in doubt: %s%s",
                        ", ".join(doubts[:3]),
                        more,
                    )
                else:
                    write(logging.INFO, "account doubted", "BACKPACK: the account is in doubt no more")
            case AccountConfirmed():
                write(logging.INFO, "account confirmed", "BACKPACK: the account is live, and proved again")
            case AccountUnconfirmed(reason=reason):
                write(logging.WARNING, "account unconfirmed", "BACKPACK: the account could not be checked: %s", reason)
            case _:
                LOG.debug("BACKPACK: %s", type(event).__name__)

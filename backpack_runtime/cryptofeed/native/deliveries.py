"""Which event becomes which callback: the session's events on one side, cryptofeed's channels on the other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from backpack_proto.account.values import (
    AccountConfirmed,
    AccountDiverged,
    AccountDoubted,
    AccountStale,
    AccountSynced,
    AccountUnconfirmed,
    BalanceChanged,
    Filled,
    OrderChanged,
    Origin,
    PositionChanged,
)
from backpack_proto.book.levels import Book
from backpack_proto.encoding import plain_digits
from backpack_proto.inputs import Command
from backpack_proto.outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BooksProgress,
    BookStale,
    BookSynced,
    BookUnavailable,
    BookVerified,
    CallAnswered,
    CallFailed,
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
from backpack_proto.streams.payloads import (
    BalanceUpdate,
    BookTicker,
    Event,
    Kline,
    Liquidation,
    MarkPrice,
    OpenInterest,
    OrderFill,
    OrderUpdate,
    PositionUpdate,
    Trade,
)
from backpack_runtime.cryptofeed.channels import BALANCES, FILLS, ORDER_INFO, POSITIONS
from backpack_runtime.cryptofeed.logs import LOG
from backpack_runtime.logs import LimitedLog

from . import conversion
from .books import BookMirror
from .candle_deliveries import CandleDeliveries
from .driver import CLOSED_BY_FEED
from .market_data import OBJECTS, MarketData
from .objects import RawOnDemand, raw_of
from .records import FillInfo
from .tallies import Tallies

__all__ = ["Deliveries"]

REMEMBERED_FILLS = 100_000
Callback = Callable[[str, Any, float], Awaitable[None]]
HandBook = Callable[[BookMirror, float], Awaitable[None]]


class Deliveries:
    """Makes objects of events and hands them to the callbacks of the channels that were subscribed."""

    def __init__(
        self,
        *,
        callback: Callback,
        hand_book: HandBook,
        symbol_of: Callable[[str], str],
        book_of: Callable[[str], Book],
        max_depth: int,
        candle_closed_only: bool,
        take_up: Callable[[str], None],
    ) -> None:
        """Begin without a connection.

        Args:
            callback: is given the objects of a channel.
            hand_book: is given books.
            symbol_of: normalises an id of the exchange.
            book_of: gives the session's book of a stream.
            max_depth: how many levels a side books have; 0: all.
            candle_closed_only: whether candles are handed on only when they have ended.
            take_up: has cryptofeed know the rules of a market as the session knows them: what cryptofeed has read may be older.
        """
        self._callback = callback
        self._hand_book = hand_book
        self._symbol_of = symbol_of
        self._book_of = book_of
        self._max_depth = max_depth
        self._candle_closed_only = candle_closed_only
        self._take_up = take_up
        self._wanted: dict[str, frozenset[str] | None] = {}
        self._fills: dict[tuple[str, str | None, str, Decimal], None] = {}
        self._log = LimitedLog(LOG)
        self._connected = False
        self.tallies = Tallies()
        self.books: dict[str, BookMirror] = {}
        """By stream; those that are live."""
        self._behind: set[str] = set()
        """Those whose check has found more levels than they were given."""
        self.candles = CandleDeliveries(self._hand_objects, symbol_of, self.tallies)

    def want(self, channels: Mapping[str, frozenset[str] | None]) -> None:
        """Deliver these channels, each for these ids of the exchange; None: for all."""
        self._wanted = dict(channels)

    def _wants(self, channel: str, symbol: str) -> bool:
        if channel not in self._wanted:
            return False
        symbols = self._wanted[channel]
        return symbols is None or symbol in symbols

    def deliver(self, event: Event, data: bytes | None, receipt: float) -> Awaitable[Sequence[Command]]:
        """Hand on one event; `data` is the frame that it was read from, `receipt` when that came.

        Returns commands for the session.
        """
        # Nearly every event; a coroutine more is a tenth of what it costs.
        if type(event) is BookChanged:
            return self._book_changed(event, data, receipt)
        return self._deliver_other(event, data, receipt)

    async def _deliver_other(self, event: Event, data: bytes | None, receipt: float) -> Sequence[Command]:
        match event:
            case BookTicker() | Trade() | Kline() | MarkPrice() | OpenInterest() | Liquidation():
                return await self._market_data(event, data, receipt)
            case OrderUpdate() | PositionUpdate() | BalanceUpdate():
                await self._private_data(event, data, receipt)
            case OrderChanged() | Filled() | PositionChanged() | BalanceChanged():
                await self._reconciled(event, receipt)
            case BookSynced():
                await self._book_synced(event, receipt)
            case BookVerified():
                await self._book_verified(event, receipt)
            case CallAnswered() | CallFailed():
                return await self.candles.answered(event, receipt)
            case MarketChanged():
                self._take_up(event.symbol)
                self._report(event)
            case _:
                self._report(event)
                return self.candles.doubt(event)
        return ()

    async def _market_data(self, event: MarketData, data: bytes | None, receipt: float) -> Sequence[Command]:
        tallies = self.tallies
        tallies.last_message = receipt
        match event:
            case Trade():
                tallies.last_trade = receipt
            case BookTicker():
                tallies.last_ticker = receipt
            case Kline():
                tallies.candle_updates += 1
                return await self.candles.received(event, data, receipt)
        await self._hand_objects(event, data, receipt)
        return await self.candles.heard(event, receipt) if self.candles.wanted else ()

    async def _hand_objects(self, event: MarketData, data: bytes | None, receipt: float) -> None:
        if self._candle_closed_only and type(event) is Kline and not event.closed:
            return
        for channel, make in OBJECTS[type(event)]:
            if self._wants(channel, event.symbol):
                await self._hand(channel, _with_frame(make(event, self._symbol_of(event.symbol), {}), data), receipt)

    async def _hand(self, channel: str, found: Any, receipt: float) -> None:
        if LOG.isEnabledFor(logging.DEBUG):
            LOG.debug("BACKPACK: %s %s", channel, found)
        if found is not None:
            await self._callback(channel, found, receipt)

    async def _private_data(self, event: Event, data: bytes | None, receipt: float) -> None:
        self.tallies.last_message = receipt
        match event:
            case OrderUpdate(symbol=symbol):
                self.tallies.order_updates += 1
                if self._wants(ORDER_INFO, symbol):
                    await self._hand(ORDER_INFO, conversion.order_info(event, self._symbol_of(symbol), raw_of(data)), receipt)
                if isinstance(event, OrderFill) and event.trade_id is not None and self._wants(FILLS, symbol):
                    await self._hand_fill(conversion.fill(event, self._symbol_of(symbol), raw_of(data)), receipt)
            case PositionUpdate(symbol=symbol):
                self.tallies.position_updates += 1
                if self._wants(POSITIONS, symbol):
                    await self._hand(POSITIONS, conversion.position(event, self._symbol_of(symbol), raw_of(data)), receipt)
            case BalanceUpdate():
                if BALANCES in self._wanted:
                    await self._hand(BALANCES, conversion.balance_update(event, raw_of(data)), receipt)
            case _:
                raise TypeError(f"no private data: {type(event).__name__}")

    async def _hand_fill(self, found: FillInfo | None, receipt: float) -> None:
        """Hand on each fill once: streams and REST report the same ones."""
        if found is None:
            return
        key = (found.symbol, found.id, found.order_id, found.amount)
        if key in self._fills:
            return
        if found.id is not None:
            # Those without an id come from the ledger alone, which counts them: two may be equal in every member.
            self._fills[key] = None
        if len(self._fills) > REMEMBERED_FILLS:
            del self._fills[next(iter(self._fills))]
        await self._hand(FILLS, found, receipt)

    async def _reconciled(self, event: Event, receipt: float) -> None:
        """What REST told and no stream did; what the ledger made of the streams has been handed on as it came."""
        match event:
            case Filled(fill=fill, origin=origin) if origin is Origin.RECONCILIATION or fill.trade_id is None:
                if self._wants(FILLS, fill.symbol):
                    await self._hand_fill(conversion.reconciled_fill(fill, self._symbol_of(fill.symbol)), receipt)
            case OrderChanged(order=order, origin=Origin.RECONCILIATION):
                self.tallies.order_updates += 1
                if self._wants(ORDER_INFO, order.symbol):
                    found = conversion.reconciled_order(order, self._symbol_of(order.symbol), receipt)
                    await self._hand(ORDER_INFO, found, receipt)
            case PositionChanged(position=position, origin=Origin.RECONCILIATION):
                self.tallies.position_updates += 1
                if self._wants(POSITIONS, position.symbol):
                    held = conversion.reconciled_position(position, self._symbol_of(position.symbol), receipt)
                    await self._hand(POSITIONS, held, receipt)
            case BalanceChanged(balance=balance, origin=Origin.RECONCILIATION):
                if BALANCES in self._wanted:
                    await self._hand(BALANCES, conversion.balance(balance, receipt), receipt)
            case _:
                pass

    async def _book_synced(self, event: BookSynced, receipt: float) -> None:
        symbol = self._symbol_of(event.symbol)
        self._take_up(event.symbol)
        if event.stream in self.tallies.snapshots:
            self._log.write(logging.INFO, "resynced", "BACKPACK: resynced l2_book of %s at %d", symbol, event.last)
        mirror = BookMirror(conversion.EXCHANGE, symbol, event, max_depth=self._max_depth)
        self.books[event.stream] = mirror
        self._behind.discard(event.stream)
        tallies = self.tallies
        tallies.last_snapshot = tallies.snapshots[event.stream] = receipt
        tallies.last_sequence = event.last
        await self._hand_book(mirror, receipt)

    async def _book_changed(self, event: BookChanged, data: bytes | None, receipt: float) -> Sequence[Command]:
        tallies = self.tallies
        tallies.last_message = receipt
        tallies.last_sequence = event.last
        mirror = self.books[event.stream]
        mirror.change(event, data)
        if LOG.isEnabledFor(logging.DEBUG):
            LOG.debug("BACKPACK: l2_book %s %d..%d", mirror.symbol, event.first, event.last)
        await self._hand_book(mirror, receipt)
        if self._behind:
            await self._renew(event.stream, receipt)
        return ()

    async def _book_verified(self, event: BookVerified, receipt: float) -> None:
        """A book whose snapshots do not reach its end is handed on anew: what lies around the touch of today is known better now."""
        if event.against != "snapshot":
            return
        self._take_up(event.symbol)
        self.tallies.snapshots[event.stream] = self.tallies.last_snapshot = receipt
        if not self.books[event.stream].complete:
            self._behind.add(event.stream)
            await self._renew(event.stream, receipt)

    async def _renew(self, stream: str, receipt: float) -> None:
        """Hand on anew a book that is behind its check, where the session's stands at the change that was delivered last."""
        mirror, book = self.books.get(stream), self._book_of(stream)
        if stream not in self._behind or mirror is None or book.last != mirror.sequence_number:
            return
        synced = BookSynced(
            stream=stream,
            symbol=book.symbol,
            last=book.last,
            engine_us=book.engine_us,
            bids=book.bids(),
            asks=book.asks(),
        )
        await self._book_synced(synced, receipt)

    def _report(self, event: Event) -> None:
        """What is no data is logged."""
        write = self._log.write
        match event:
            case ConnectionUp():
                self._connected = True
                write(logging.INFO, "connected", "BACKPACK: connected")
            case ConnectionDown(reason=reason, code=code, retry_us=retry_us):
                self._connected = False
                self.books.clear()
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
        write = self._log.write
        match event:
            case BookDesynced(stream=stream, symbol=symbol, reason=reason, diverged=diverged):
                self.books.pop(stream, None)
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
        write = self._log.write
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


def _with_frame(found: RawOnDemand | None, frame: bytes | None) -> RawOnDemand | None:
    if found is not None:
        found.frame = frame
    return found

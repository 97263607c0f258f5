"""Which event becomes which callback: the session's events on one side, cryptofeed's channels on the other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from cryptofeed.defines import L2_BOOK

from backpack_proto.account.values import BalanceChanged, Filled, OrderChanged, PositionChanged
from backpack_proto.book.levels import Book
from backpack_proto.inputs import Command
from backpack_proto.outputs import (
    BookChanged,
    BookConfirmed,
    BookDesynced,
    BookStale,
    BookSynced,
    BookVerified,
    CallAnswered,
    CallFailed,
    ConnectionDown,
)
from backpack_proto.rest.market_rules import MarketChanged
from backpack_proto.streams.payloads import (
    BalanceUpdate,
    BookTicker,
    Event,
    Kline,
    Liquidation,
    MarkPrice,
    OpenInterest,
    OrderUpdate,
    PositionUpdate,
    Trade,
)
from backpack_proto.text import printable
from backpack_runtime.cryptofeed.backends import takes_stale_books
from backpack_runtime.cryptofeed.logs import LOG

from . import conversion
from .account_deliveries import AccountDeliveries
from .books import BookMirror, StaleBook, as_whole
from .candle_deliveries import CandleDeliveries
from .market_data import OBJECTS, MarketData
from .objects import RawOnDemand
from .reports import Reports
from .tallies import Tallies

__all__ = ["Deliveries"]

Callback = Callable[..., Awaitable[None]]
"""Takes a channel, an object, when that was received, and perhaps `which` of the channel's callbacks it is for."""
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
        account: str | None = None,
    ) -> None:
        """Begin without a connection.

        Args:
            callback: is given the objects of a channel.
            hand_book: is given books.
            symbol_of: normalises an id of the exchange.
            book_of: gives the session's book of a stream.
            max_depth: number of levels a side of books. 0: all.
            candle_closed_only: whether candles are handed on only when they have ended.
            take_up: has cryptofeed know the rules of a market as the session knows them: cryptofeed's own reading may be older.
            account: the name of the account.
        """
        self._callback = callback
        self._hand_book = hand_book
        self._symbol_of = symbol_of
        self._book_of = book_of
        self._max_depth = max_depth
        self._candle_closed_only = candle_closed_only
        self._take_up = take_up
        self._wanted: dict[str, frozenset[str] | None] = {}
        self._reports = Reports(symbol_of)
        self.tallies = Tallies()
        self.books: dict[str, BookMirror] = {}
        """By stream. Those that are live."""
        self._behind: set[str] = set()
        """Those whose check has found more levels than they were given."""
        self.candles = CandleDeliveries(self._hand_objects, symbol_of, self.tallies)
        self._account = AccountDeliveries(self._hand, self._wants, symbol_of, self.tallies, account)

    def want(self, channels: Mapping[str, frozenset[str] | None]) -> None:
        """Deliver these channels, each for these ids of the exchange. None: for all."""
        self._wanted = dict(channels)

    def _wants(self, channel: str, symbol: str | None) -> bool:
        if channel not in self._wanted:
            return False
        symbols = self._wanted[channel]
        return symbols is None or symbol is None or symbol in symbols

    def deliver(self, event: Event, data: bytes | None, receipt: float) -> Awaitable[Sequence[Command]]:
        """Hand on one event. `data` is the frame that it was read from, `receipt` when that came.

        Returns commands for the session.
        """
        # Nearly every event. A coroutine more is a tenth of its cost.
        if type(event) is BookChanged:
            return self._book_changed(event, data, receipt)
        return self._deliver_other(event, data, receipt)

    async def _deliver_other(self, event: Event, data: bytes | None, receipt: float) -> Sequence[Command]:
        match event:
            case BookTicker() | Trade() | Kline() | MarkPrice() | OpenInterest() | Liquidation():
                return await self._market_data(event, data, receipt)
            case OrderUpdate() | PositionUpdate() | BalanceUpdate():
                await self._account.streamed(event, data, receipt)
            case OrderChanged() | Filled() | PositionChanged() | BalanceChanged():
                await self._account.reconciled(event, receipt)
            case BookSynced():
                await self._book_synced(event, receipt)
            case BookVerified():
                await self._book_verified(event, receipt)
            case CallAnswered() | CallFailed():
                return await self.candles.answered(event, receipt)
            case MarketChanged():
                self._take_up(event.symbol)
                self._reports.report(event)
            case _:
                self._reports.report(event)
                await self._books_ended(event, receipt)
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

    async def _book_synced(self, event: BookSynced, receipt: float) -> None:
        symbol = self._symbol_of(event.symbol)
        self._take_up(event.symbol)
        if event.stream in self.tallies.snapshots:
            self._reports.write(logging.INFO, "resynced", "BACKPACK: resynced l2_book of %s at %d", symbol, event.last)
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
        """A book whose snapshots do not reach its end is handed on again: levels around today's best prices are known better now."""
        if event.against != "snapshot":
            return
        self._take_up(event.symbol)
        self.tallies.snapshots[event.stream] = self.tallies.last_snapshot = receipt
        if not self.books[event.stream].complete:
            self._behind.add(event.stream)
            await self._renew(event.stream, receipt)

    async def _renew(self, stream: str, receipt: float) -> None:
        """Hand on again a book that is behind its check, where the session's stands at the change that was delivered last."""
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

    async def _books_ended(self, event: Event, receipt: float) -> None:
        """Tell backends of each book that has become stale, or live again. Earlier rows stand in their tables."""
        match event:
            case ConnectionDown(reason=reason):
                for stream in list(self.books):
                    await self._book_stale(stream, f"the connection is down: {reason}", receipt)
                self.books.clear()
            case BookDesynced(stream=stream, reason=reason):
                await self._book_stale(stream, reason, receipt)
                self.books.pop(stream, None)
            case BookStale(stream=stream, reason=reason):
                await self._book_stale(stream, reason, receipt)
            case BookConfirmed(stream=stream):
                if (mirror := self.books.get(stream)) is not None:
                    with as_whole(mirror):
                        await self._tell_backends(mirror, receipt)

    async def _tell_backends(self, found: BookMirror | StaleBook, receipt: float) -> None:
        await self._callback(L2_BOOK, found, receipt, which=takes_stale_books)

    async def _book_stale(self, stream: str, reason: str, receipt: float) -> None:
        mirror = self.books.get(stream)
        if mirror is not None:
            await self._tell_backends(StaleBook(mirror, printable(reason), receipt), receipt)


def _with_frame(found: RawOnDemand | None, frame: bytes | None) -> RawOnDemand | None:
    if found is not None:
        found.frame = frame
    return found

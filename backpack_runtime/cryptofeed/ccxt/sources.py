"""Calls to ccxt, and the news in its answers: one endless source for each channel of each market.

A source waits for ccxt and yields news, as plain values that ccxt does not change behind its reader's back. Times are
milliseconds and numbers are floats, as ccxt has them. An empty list says that ccxt has answered without news.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, NamedTuple

from backpack_proto.streams.channels import Channel

__all__ = ["INTERVALS", "POLLED", "WATCHED", "BookTaken", "CandleSeen", "QuoteTaken", "Source", "Wish", "signs_of_life"]

INTERVALS: Final[Mapping[str, int]] = {
    "1m": 60_000,
    "3m": 180_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "2h": 7_200_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
    "3d": 259_200_000,
    "1w": 604_800_000,
}
"""The candle intervals and their milliseconds. Not the month: ccxt looks up its own answer by another name than it stores it by."""

POLLED_TRADES = 500
"""Number of the latest trades that are read at once. Further ones between two polls are lost."""
POLLED_CANDLES = 3
TOP_LEVELS = 5
"""The smallest book that REST gives."""

Row = list[Any]
"""A price and a quantity. Or a candle: milliseconds, open, high, low, close, volume."""


class Wish(NamedTuple):
    """Subject of a source."""

    symbol: str
    """The market, as ccxt names it."""
    every_seconds: float
    """Time to wait after each book. After each answer when polling."""
    interval: str
    """Of candles."""
    depth: int
    """Levels a side, 0 for all."""


class BookTaken(NamedTuple):
    """A whole book as it was at one moment."""

    bids: list[Row]
    asks: list[Row]
    unix_ms: int | None
    nonce: int | None


class QuoteTaken(NamedTuple):
    """Best bid and ask, or None where a side has no orders."""

    bid: float | None
    ask: float | None
    unix_ms: int | None
    raw: Any


class CandleSeen(NamedTuple):
    """A candle so far. It has no prices before the first trade."""

    start_ms: int
    prices: tuple[float | None, float | None, float | None, float | None]
    """Open, high, low, close."""
    volume: float | None


Source = AsyncIterator[list[Any]]


async def signs_of_life(exchange: Any, symbol: str) -> Source:
    """Something from the exchange every second, however quiet the market is (docs/protocol.md 4.1). It is for no callback."""
    while True:
        await exchange.watch_ticker(symbol)
        yield []


async def _watched_trades(exchange: Any, wish: Wish) -> Source:
    while True:
        yield list(await exchange.watch_trades(wish.symbol))


async def _watched_books(exchange: Any, wish: Wish) -> Source:
    while True:
        yield [_book(await exchange.watch_order_book(wish.symbol), wish.depth)]
        await asyncio.sleep(wish.every_seconds)


async def _watched_quotes(exchange: Any, wish: Wish) -> Source:
    while True:
        found = (await exchange.watch_bids_asks([wish.symbol]))[wish.symbol]
        yield [QuoteTaken(found["bid"], found["ask"], found["timestamp"], found["info"])]


async def _watched_candles(exchange: Any, wish: Wish) -> Source:
    length = INTERVALS[wish.interval]
    while True:
        # Of a candle that is watched ccxt tells the end, of one that is fetched the beginning.
        yield [_candle(row, row[0] - length) for row in await exchange.watch_ohlcv(wish.symbol, wish.interval)]


async def _polled_trades(exchange: Any, wish: Wish) -> Source:
    known: set[str] | None = None
    while True:
        found = await exchange.fetch_trades(wish.symbol, limit=POLLED_TRADES)
        yield [] if known is None else [trade for trade in found if trade["id"] not in known]
        known = {trade["id"] for trade in found}
        await asyncio.sleep(wish.every_seconds)


async def _polled_books(exchange: Any, wish: Wish) -> Source:
    while True:
        yield [_book(await exchange.fetch_order_book(wish.symbol, wish.depth or None), wish.depth)]
        await asyncio.sleep(wish.every_seconds)


async def _polled_quotes(exchange: Any, wish: Wish) -> Source:
    """The top of a small book, for the exchange's tickers have no bid and no ask."""
    while True:
        book = await exchange.fetch_order_book(wish.symbol, TOP_LEVELS)
        bid, ask = (side[0][0] if side else None for side in (book["bids"], book["asks"]))
        yield [QuoteTaken(bid, ask, book["timestamp"], None)]
        await asyncio.sleep(wish.every_seconds)


async def _polled_candles(exchange: Any, wish: Wish) -> Source:
    latest = 1
    while True:
        rows = await exchange.fetch_ohlcv(wish.symbol, wish.interval, limit=POLLED_CANDLES)
        yield [_candle(row, row[0]) for row in rows[-latest:]]
        # Those that are over when the first answer comes are history.
        latest = POLLED_CANDLES
        await asyncio.sleep(wish.every_seconds)


def _book(book: Any, depth: int) -> BookTaken:
    bids, asks = ([level[:2] for level in book[side][: depth or None]] for side in ("bids", "asks"))
    return BookTaken(bids, asks, book["timestamp"], book["nonce"])


def _candle(row: Row, start_ms: int) -> CandleSeen:
    _, opened, high, low, close, volume = row
    return CandleSeen(start_ms, (opened, high, low, close), volume)


WATCHED: Final[Mapping[str, Callable[[Any, Wish], Source]]] = {
    Channel.TRADE.value: _watched_trades,
    Channel.DEPTH.value: _watched_books,
    Channel.BOOK_TICKER.value: _watched_quotes,
    Channel.KLINE.value: _watched_candles,
}
"""The sources over ccxt's websocket half, by the exchange's name of the channel."""

POLLED: Final[Mapping[str, Callable[[Any, Wish], Source]]] = {
    Channel.TRADE.value: _polled_trades,
    Channel.DEPTH.value: _polled_books,
    Channel.BOOK_TICKER.value: _polled_quotes,
    Channel.KLINE.value: _polled_candles,
}
"""The same over REST."""

"""Stream names of the exchange: parse, format, and the channel names that people use for them.

Symbols hold dots (`AAPL.US_USDC_PERP`), so a name is never split at its dots: the known prefix is cut off, then for `depth`
the optional window, for `kline` exactly one interval. The rest is the symbol (docs/protocol.md 4.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from msgspec.structs import replace

from backpack_proto.errors import InvalidStream
from backpack_proto.hints import did_you_mean, shown
from backpack_proto.values import Value

from .channels import Channel, SymbolKind, SymbolRule

__all__ = ["Stream", "bare_ticker", "channel_of", "check_untyped", "parse_channel", "parse_stream", "streams_for"]


class Stream(Value, frozen=True, gc=False, kw_only=True):
    """One stream: its channel, its symbol (None: all markets or the whole account), its window or interval."""

    channel: Channel
    symbol: str | None = None
    window_ms: int | None = None
    """Aggregation window, `depth` only."""
    interval: str | None = None
    """Candle length, `kline` only, one of `KLINE_INTERVALS`."""
    verified: bool = False
    """Its book is to be compared with `bookTicker`, `depth` only. A wish of ours, and no part of the name."""

    @property
    def private(self) -> bool:
        """True when a subscription needs a signature."""
        return self.channel.private

    @property
    def name(self) -> str:
        """The name as the exchange spells it."""
        parts: list[str] = [self.channel.value]
        if self.window_ms is not None:
            parts.append(f"{self.window_ms}ms")
        if self.interval is not None:
            parts.append(self.interval)
        if self.symbol is not None:
            parts.append(self.symbol)
        return ".".join(parts)


@lru_cache(maxsize=4096)
def parse_stream(name: str) -> Stream:
    """Read a stream name.

    Raises:
        InvalidStream: the exchange has no stream of that name's form.
    """
    stream = _parse_form(name, name)
    if stream.symbol is None and stream.channel.traits.symbol is SymbolRule.REQUIRED:
        raise InvalidStream(f"stream {name!r} names no symbol")
    return stream


def channel_of(name: str) -> Channel | None:
    """Return the channel of a stream by its name, or None for one of a kind that is not in the table."""
    return next((channel for channel in Channel if name == channel or name.startswith(f"{channel}.")), None)


def bare_ticker(symbol: str) -> str:
    """Return the ticker of a stock by any of its names: `BRK.B` for itself, `BRK.B.US` and `BRK.B.US_USDC_RFQ`."""
    match = _OF_A_COUNTRY.fullmatch(symbol)
    return symbol if match is None else match[1]


def check_untyped(name: str) -> None:
    """Check the name of a stream whose kind is not in the table. Only the exchange knows whether there is such a kind.

    Raises:
        InvalidStream: the name is of a kind that is in the table, or cannot be one at all.
    """
    channel = channel_of(name)
    if channel is not None:
        raise InvalidStream(f"untyped: {shown(name)} is a {channel} stream, which has a type; subscribe it like any other")
    if not all(name.split(".")) or _has_odd_characters(name):
        raise InvalidStream(f"untyped: {shown(name)} is not the name of a stream, such as 'kind.SYMBOL'")


@lru_cache(maxsize=256)
def parse_channel(name: str) -> Stream:
    """Read a channel name, the exchange's own or one of the common ones, as a stream that still lacks its symbol.

    `book` is `depth` with its book verified against `bookTicker`. `book.200ms`, `trades`, `klines.1m` (or `candles.1m`),
    `mark_price`, `open_interest`, `liquidations`, `book_ticker`, `external_ticker` are read as well.

    Channels of the account may say which symbol they are for: `order.SOL_USDC`, `position.SOL_USDC_PERP`, and `order.*`,
    `position.*`, `balance.*` for all of them.

    Raises:
        InvalidStream: no such channel.
    """
    head, dot, tail = name.partition(".")
    channel = _COMMON_NAMES.get(head)
    if channel is not None and channel.private:
        return _parse_form(channel if tail == _ALL else channel + dot + tail, name)
    stream = _parse_form((channel or head) + dot + tail, name)
    if stream.symbol is not None:
        raise InvalidStream(f"channel {shown(name)} ends in {shown(stream.symbol)}: give symbols apart from channels")
    return replace(stream, verified=True) if head == _VERIFIED else stream


def streams_for(channels: Iterable[str], symbols: Iterable[str]) -> tuple[Stream, ...]:
    """The streams for every channel on every symbol (ids of the exchange), without repeats, in the order given.

    Without symbols, a channel that can do without means all markets, or the whole account. A channel that names a symbol itself, or
    `*`, is one stream for any symbols. A channel about tickers takes any name of a stock.

    Raises:
        InvalidStream: a channel does not exist.
    """
    symbols = tuple(symbols)
    found: dict[str, Stream] = {}
    for channel in channels:
        form = parse_channel(channel)
        rule = form.channel.traits.symbol
        complete = form.symbol is not None or channel.endswith(f".{_ALL}") or rule is SymbolRule.NEVER
        if complete or (not symbols and rule is SymbolRule.OPTIONAL):
            found[form.name] = form
            continue
        takes_tickers = form.channel.traits.symbol_kind is SymbolKind.TICKER
        for symbol in symbols:
            stream = replace(form, symbol=bare_ticker(symbol) if takes_tickers else symbol)
            if stream.verified or stream.name not in found:
                found[stream.name] = stream
    return tuple(found.values())


_COMMON_NAMES = {common: channel for channel in Channel for common in channel.traits.common}
_VERIFIED = "book"
_OF_A_COUNTRY = re.compile(r"(.+)\.(?:US|HK)(?:[_-].*)?")
"""A security, or a market of one: the ticker, the country of its exchange, and the rest (docs/protocol.md 7)."""
_ALL = "*"


_OTHER_WORDS = {
    "orderbook": "book",
    "order_book": "book",
    "l2_book": "book",
    "l2": "book",
    "l1_book": "book_ticker",
    "bbo": "book_ticker",
    "quotes": "book_ticker",
    "ohlc": "klines.1m",
    "ohlcv": "klines.1m",
    "funding": "mark_price",
    "index": "mark_price",
    "orders": "order.*",
    "order_info": "order.*",
    "fills": "order.*",
    "positions": "position.*",
    "balances": "balance.*",
}
"""Words of other libraries, for hints."""


def _parse_form(name: str, given: str) -> Stream:
    """Read a stream whose symbol may be missing, which is a channel. Errors show it as it was `given`."""
    if name.endswith("."):
        raise InvalidStream(f"stream {shown(given)} ends in a dot")
    channel = channel_of(name)
    if channel is None:
        raise InvalidStream(f"{shown(given)} is not a channel of the exchange{_hint(given)}")
    rest = name[len(channel) + 1 :]
    traits = channel.traits
    window_ms: int | None = None
    interval: str | None = None
    if traits.windows_ms:
        windows = {f"{window}ms": window for window in traits.windows_ms}
        head, _, tail = rest.partition(".")
        if head in windows:
            window_ms, rest = windows[head], tail
        elif head[:1].isdigit() and head.endswith("ms"):
            raise InvalidStream(f"{shown(given)}: the {channel} windows are {', '.join(windows)}")
    if traits.intervals:
        interval, _, rest = rest.partition(".")
        if interval not in traits.intervals:
            raise InvalidStream(f"{shown(given)}: the {channel} intervals are {', '.join(traits.intervals)}")
    if rest and traits.symbol is SymbolRule.NEVER:
        raise InvalidStream(f"{shown(given)}: {channel} has no symbol")
    if traits.symbol_kind is SymbolKind.TICKER and (ticker := bare_ticker(rest)) != rest:
        raise InvalidStream(f"{shown(given)}: {channel} takes the bare ticker, {shown(ticker)}")
    if _has_odd_characters(rest):
        raise InvalidStream(f"{shown(given)}: a symbol holds no white space, no quotes and only printable characters")
    return Stream(channel=channel, symbol=rest or None, window_ms=window_ms, interval=interval)


def _has_odd_characters(text: str) -> bool:
    return not text.isprintable() or any(character in ' "\\' for character in text)


def _hint(given: str) -> str:
    """Return the channel that was probably meant, as the end of an error text."""
    known = (*_COMMON_NAMES, *Channel)
    return did_you_mean(given, known, _OTHER_WORDS) or did_you_mean(given.partition(".")[0], known, _OTHER_WORDS)

"""Stream names of the exchange: parse, format, and the channel names that people use for them.

Symbols hold dots (`AAPL.US_USDC_PERP`), so a name is never split at its dots: the known prefix is cut off, then for `depth`
the optional window, for `kline` exactly one interval; what is left is the symbol (docs/protocol.md 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

from backpack_proto.errors import InvalidStream
from backpack_proto.values import Value

__all__ = ["DEPTH_WINDOWS_MS", "KLINE_INTERVALS", "Channel", "Stream", "parse_channel", "parse_stream", "streams_for"]

KLINE_INTERVALS = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1month")
"""Every kline interval of the exchange, shortest first."""

DEPTH_WINDOWS_MS = (200, 600, 1000)
"""Aggregation windows of `depth`; without a window every book event is a frame of its own."""


class Channel(StrEnum):
    """The exchange's stream types, by the first part of their names."""

    BOOK_TICKER = "bookTicker"
    DEPTH = "depth"
    KLINE = "kline"
    TRADE = "trade"
    TICKER = "ticker"
    MARK_PRICE = "markPrice"
    OPEN_INTEREST = "openInterest"
    LIQUIDATION = "liquidation"
    EXTERNAL_TICKER = "externalTicker"
    ORDER_UPDATE = "account.orderUpdate"
    POSITION_UPDATE = "account.positionUpdate"
    BALANCE_UPDATE = "account.balanceUpdate"
    RFQ_UPDATE = "account.rfqUpdate"

    @property
    def private(self) -> bool:
        """Whether a subscription needs a signature."""
        return self.value.startswith("account.")


_WITHOUT_SYMBOL = frozenset(
    {Channel.LIQUIDATION, Channel.ORDER_UPDATE, Channel.POSITION_UPDATE, Channel.BALANCE_UPDATE, Channel.RFQ_UPDATE}
)
_NEVER_WITH_SYMBOL = frozenset({Channel.BALANCE_UPDATE})


class Stream(Value, frozen=True, gc=False, kw_only=True):
    """One stream: its channel, its symbol (None: all markets or the whole account), its window or interval."""

    channel: Channel
    symbol: str | None = None
    window_ms: int | None = None
    """Aggregation window, `depth` only."""
    interval: str | None = None
    """Candle length, `kline` only, one of `KLINE_INTERVALS`."""

    @property
    def private(self) -> bool:
        """Whether a subscription needs a signature."""
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
    stream = _parse_form(name)
    if stream.symbol is None and stream.channel not in _WITHOUT_SYMBOL:
        raise InvalidStream(f"stream {name!r} names no symbol")
    return stream


@lru_cache(maxsize=256)
def parse_channel(name: str) -> tuple[Stream, ...]:
    """Read a channel name, the exchange's own or one of the common ones, as streams that still lack their symbol.

    `book` is `depth` together with the `bookTicker` that verifies it; `book.200ms`, `trades`, `klines.1m` (or `candles.1m`),
    `mark_price`, `open_interest`, `liquidations`, `book_ticker`, `external_ticker` are read as well.

    Channels of the account may say which symbol they are for: `order.SOL_USDC`, `position.SOL_USDC_PERP`, and `order.*`,
    `position.*`, `balance.*` for all of them.

    Raises:
        InvalidStream: no such channel.
    """
    head, dot, tail = name.partition(".")
    if head in _ACCOUNT_NAMES:
        channel = _ACCOUNT_NAMES[head].value
        return (_parse_form(channel if tail == _ALL else channel + dot + tail),)
    stream = _parse_form(_COMMON_NAMES.get(head, head) + dot + tail)
    if stream.symbol is not None:
        raise InvalidStream(f"channel {name!r} is no channel of the exchange")
    return (stream, Stream(channel=Channel.BOOK_TICKER)) if head == "book" else (stream,)


def streams_for(channels: Iterable[str], symbols: Iterable[str]) -> tuple[str, ...]:
    """The stream names for every channel on every symbol (ids of the exchange), without repeats, in the order given.

    Without symbols, a channel that can do without means all markets, or the whole account. A channel that names a symbol itself, or
    `*`, is one stream whatever the symbols are.

    Raises:
        InvalidStream: a channel does not exist.
    """
    symbols = tuple(symbols)
    names: dict[str, None] = {}
    for channel in channels:
        for form in parse_channel(channel):
            complete = form.symbol is not None or channel.endswith(f".{_ALL}") or form.channel in _NEVER_WITH_SYMBOL
            if complete or (not symbols and form.channel in _WITHOUT_SYMBOL):
                names[form.name] = None
                continue
            for symbol in symbols:
                names[f"{form.name}.{symbol}"] = None
    return tuple(names)


_COMMON_NAMES = {
    "book": "depth",
    "book_ticker": "bookTicker",
    "trades": "trade",
    "klines": "kline",
    "candles": "kline",
    "mark_price": "markPrice",
    "open_interest": "openInterest",
    "liquidations": "liquidation",
    "external_ticker": "externalTicker",
}
_ACCOUNT_NAMES = {"order": Channel.ORDER_UPDATE, "position": Channel.POSITION_UPDATE, "balance": Channel.BALANCE_UPDATE}
_ALL = "*"
_WINDOWS = {f"{window}ms": window for window in DEPTH_WINDOWS_MS}


def _parse_form(name: str) -> Stream:
    """A stream whose symbol may be missing: a channel."""
    if name.endswith("."):
        raise InvalidStream(f"stream {name!r} ends in a dot")
    for channel in Channel:
        prefix = channel.value
        if name == prefix:
            rest = ""
        elif name.startswith(prefix + "."):
            rest = name[len(prefix) + 1 :]
        else:
            continue
        window_ms: int | None = None
        interval: str | None = None
        if channel is Channel.DEPTH:
            head, _, tail = rest.partition(".")
            if head in _WINDOWS:
                window_ms, rest = _WINDOWS[head], tail
            elif head[:1].isdigit() and head.endswith("ms"):
                raise InvalidStream(f"stream {name!r}: the depth windows are {', '.join(_WINDOWS)}")
        elif channel is Channel.KLINE:
            interval, _, rest = rest.partition(".")
            if interval not in KLINE_INTERVALS:
                raise InvalidStream(f"stream {name!r}: the kline intervals are {', '.join(KLINE_INTERVALS)}")
        if rest and channel in _NEVER_WITH_SYMBOL:
            raise InvalidStream(f"stream {name!r}: {channel.value} has no symbol")
        if not rest.isprintable() or any(character in ' "\\' for character in rest):
            raise InvalidStream(f"stream {name!r}: a symbol holds no white space, no quotes and nothing that cannot be printed")
        return Stream(channel=channel, symbol=rest or None, window_ms=window_ms, interval=interval)
    raise InvalidStream(f"{name!r} is no stream of the exchange")

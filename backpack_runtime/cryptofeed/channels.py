"""cryptofeed's channels and the exchange's streams.

Several channels of cryptofeed are read from one stream; what stands behind the stream's name keeps their subscriptions apart. Private
channels have the names of cryptofeed 2, as text, for later versions know none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cryptofeed.defines import (
    CANDLES,
    FUNDING,
    INDEX,
    L1_BOOK,
    L2_BOOK,
    LIQUIDATIONS,
    OPEN_INTEREST,
    TICKER,
    TRADES,
)

from backpack_proto.streams.names import KLINE_INTERVALS, Channel

__all__ = [
    "BALANCES",
    "CANDLE_INTERVALS",
    "FILLS",
    "ORDER_INFO",
    "OTHER_CHANNELS",
    "PERPETUAL_STREAMS",
    "POSITIONS",
    "PRIVATE_CHANNELS",
    "WEBSOCKET_CHANNELS",
    "standard_channel",
    "streams_of",
]

ORDER_INFO: Final = "order_info"
FILLS: Final = "fills"
POSITIONS: Final = "positions"
BALANCES: Final = "balances"
PRIVATE_CHANNELS: Final = frozenset({ORDER_INFO, FILLS, POSITIONS, BALANCES})

WEBSOCKET_CHANNELS: Final = {
    TRADES: "trade",
    L2_BOOK: "depth",
    L1_BOOK: "bookTicker",
    TICKER: "bookTicker>ticker",
    CANDLES: "kline",
    FUNDING: "markPrice",
    INDEX: "markPrice>index",
    OPEN_INTEREST: "openInterest",
    LIQUIDATIONS: "liquidation",
    ORDER_INFO: "account.orderUpdate",
    FILLS: "account.orderUpdate>fills",
    POSITIONS: "account.positionUpdate",
    BALANCES: "account.balanceUpdate",
}

PERPETUAL_STREAMS: Final = frozenset(WEBSOCKET_CHANNELS[channel] for channel in (FUNDING, INDEX, OPEN_INTEREST, LIQUIDATIONS))
"""Those that a spot market does not have; asked for, they would be silent for ever."""

CANDLE_INTERVALS: Final = {interval: "1M" if interval == "1month" else interval for interval in KLINE_INTERVALS}
"""The exchange's name of each interval, and cryptofeed's."""

OTHER_CHANNELS: Final = {
    "book": L2_BOOK,
    "orderbook": L2_BOOK,
    "order_book": L2_BOOK,
    "depth": L2_BOOK,
    "bbo": L1_BOOK,
    "book_ticker": L1_BOOK,
    "klines": CANDLES,
    "ohlcv": CANDLES,
    "mark_price": FUNDING,
    "orders": ORDER_INFO,
}
"""Other words for channels, for hints."""

_ACCOUNT_CHANNELS: Final = {"order": ORDER_INFO, "fill": FILLS, "position": POSITIONS, "balance": BALANCES}


def standard_channel(name: str) -> str:
    """Return cryptofeed's name of a channel: `order.*`, `fill.*`, `position.*` and `balance.*` are private ones."""
    head, _, tail = name.partition(".")
    return _ACCOUNT_CHANNELS.get(head, name) if tail == "*" else name


def streams_of(subscription: Mapping[str, Iterable[Any]], candle_interval: str) -> tuple[str, ...]:
    """The public streams of a subscription in the exchange's words, without repeats; a book brings the stream that verifies it."""
    names: dict[str, None] = {}
    for channel, symbols in subscription.items():
        stream = channel.partition(">")[0]
        if stream.startswith("account."):
            continue
        for symbol in symbols:
            if stream == Channel.KLINE.value:
                names[f"{stream}.{candle_interval}.{symbol}"] = None
            else:
                names[f"{stream}.{symbol}"] = None
            if stream == Channel.DEPTH.value:
                names[f"{Channel.BOOK_TICKER.value}.{symbol}"] = None
    return tuple(names)

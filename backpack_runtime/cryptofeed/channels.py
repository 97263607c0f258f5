"""cryptofeed's channels and the exchange's streams, from the core's table of channels.

Several channels of cryptofeed are read from one stream. A suffix of the stream's name keeps their subscriptions apart. Private
channels have the names of cryptofeed 2, as text, for later versions do not have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from backpack_proto.inputs import Subscribe
from backpack_proto.streams.channels import KLINE_INTERVALS, Channel
from backpack_proto.streams.names import Stream

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
    "market_data",
    "standard_channel",
]

ORDER_INFO: Final = "order_info"
FILLS: Final = "fills"
POSITIONS: Final = "positions"
BALANCES: Final = "balances"

WEBSOCKET_CHANNELS: Final = {
    name: channel.value if name == channel.traits.cryptofeed[0] else f"{channel.value}>{name}"
    for channel in Channel
    for name in channel.traits.cryptofeed
}
"""cryptofeed's channels, and the stream that each of them is read from."""

PRIVATE_CHANNELS: Final = frozenset(name for channel in Channel if channel.private for name in channel.traits.cryptofeed)

PERPETUAL_STREAMS: Final = frozenset(
    WEBSOCKET_CHANNELS[name] for channel in Channel if channel.traits.perpetual_only for name in channel.traits.cryptofeed
)
"""Those that a spot market does not have. Asked for, they would be silent for ever."""

CANDLE_INTERVALS: Final = {interval: "1M" if interval == "1month" else interval for interval in KLINE_INTERVALS}
"""The exchange's name of each interval, and cryptofeed's."""

OTHER_CHANNELS: Final = {
    "book": "l2_book",
    "orderbook": "l2_book",
    "order_book": "l2_book",
    "depth": "l2_book",
    "bbo": "l1_book",
    "book_ticker": "l1_book",
    "klines": "candles",
    "ohlcv": "candles",
    "mark_price": "funding",
    "orders": ORDER_INFO,
}
"""Other words for channels, for hints."""

_ACCOUNT_CHANNELS: Final = {"order": ORDER_INFO, "fill": FILLS, "position": POSITIONS, "balance": BALANCES}


def standard_channel(name: str) -> str:
    """Return cryptofeed's name of a channel: `order.*`, `fill.*`, `position.*` and `balance.*` are private ones."""
    head, _, tail = name.partition(".")
    return _ACCOUNT_CHANNELS.get(head, name) if tail == "*" else name


def market_data(subscription: Mapping[str, Iterable[Any]], candle_interval: str) -> Subscribe:
    """The public streams of a subscription, each once. Books are verified."""
    streams: dict[str, Stream] = {}
    for name, symbols in subscription.items():
        channel = Channel(name.partition(">")[0])
        if channel.private:
            continue
        interval = candle_interval if channel.traits.intervals else None
        for symbol in symbols:
            stream = Stream(channel=channel, symbol=symbol, interval=interval, verified=channel is Channel.DEPTH)
            streams[stream.name] = stream
    return Subscribe.of(streams.values())

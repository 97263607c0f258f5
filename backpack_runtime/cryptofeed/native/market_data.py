"""Which market data become which objects, on which channels of cryptofeed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from cryptofeed.defines import CANDLES, FUNDING, INDEX, L1_BOOK, LIQUIDATIONS, OPEN_INTEREST, TICKER, TRADES

from backpack_proto.streams.payloads import BookTicker, Kline, Liquidation, MarkPrice, OpenInterest, Trade

from . import conversion

__all__ = ["OBJECTS", "MarketData"]

MarketData: TypeAlias = BookTicker | Trade | Kline | MarkPrice | OpenInterest | Liquidation

OBJECTS: Final[Mapping[type, tuple[tuple[str, Callable[..., Any]], ...]]] = {
    BookTicker: ((TICKER, conversion.ticker), (L1_BOOK, conversion.l1_book)),
    Trade: ((TRADES, conversion.trade),),
    Kline: ((CANDLES, conversion.candle),),
    MarkPrice: ((FUNDING, conversion.funding), (INDEX, conversion.index)),
    OpenInterest: ((OPEN_INTEREST, conversion.open_interest),),
    Liquidation: ((LIQUIDATIONS, conversion.liquidation),),
}
"""By the type of the payload: each channel, and the maker of its object, which is None where cryptofeed's type cannot say it."""

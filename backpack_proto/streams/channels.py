"""The exchange's stream types: one table of their properties, which all other modules read.

A new stream is a row here, its payload in `payloads`, and its frames in the simulated exchange. Tests compare the three, and the
tables of the runtime, with each other. Source of the facts: docs/protocol.md sections 3.4 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from types import MappingProxyType
from typing import Final, Self

from msgspec import Struct

from .payloads import (
    BalanceUpdate,
    BookTicker,
    Depth,
    ExternalTicker,
    Kline,
    Liquidation,
    MarkPrice,
    OpenInterest,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFill,
    OrderModified,
    PositionAdjusted,
    PositionClosed,
    PositionOpened,
    PositionSnapshot,
    PositionUpdated,
    QuoteAccepted,
    QuoteCancelled,
    RfqAccepted,
    RfqAcceptedBinding,
    RfqActive,
    RfqCancelled,
    RfqCandidate,
    RfqFilled,
    RfqRefreshed,
    StockPrice,
    StockQuotes,
    StreamPayload,
    Ticker,
    Trade,
    TriggerFailed,
    TriggerPlaced,
)

__all__ = [
    "CHANNEL_OF",
    "DEPTH_WINDOWS_MS",
    "IN_FORCE_US",
    "KLINE_INTERVALS",
    "KLINE_SECONDS",
    "Channel",
    "SymbolKind",
    "SymbolRule",
    "Traits",
]

KLINE_INTERVALS: Final = (
    *("1s", "1m", "3m", "5m", "15m", "30m"),
    *("1h", "2h", "4h", "6h", "8h", "12h"),
    *("1d", "3d", "1w", "1month"),
)
"""Every kline interval of the exchange, shortest first."""

_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}

KLINE_SECONDS: Final = {
    interval: 31 * 86_400 if interval == "1month" else int(interval[:-1]) * _UNIT_SECONDS[interval[-1]]
    for interval in KLINE_INTERVALS
}
"""Time that a candle of each interval lasts. Of a month, the longest."""

DEPTH_WINDOWS_MS: Final = (200, 600, 1000)
"""Aggregation windows of `depth`. Without a window every book event is a frame of its own."""


IN_FORCE_US: Final = 1_000_000
"""Time after a request from which the subscription counts as in force: it is never acknowledged (docs/protocol.md 3.2)."""


class SymbolRule(Enum):
    """True when the name of a stream ends in a symbol."""

    REQUIRED = auto()
    OPTIONAL = auto()
    """Without one it is all markets, or the whole account."""
    NEVER = auto()


class SymbolKind(Enum):
    """The symbols that a channel is about."""

    MARKET = auto()
    """A market of the exchange's list. Another one would be silent for ever."""
    RFQ = auto()
    """A market for requests for quotes: of the exchange's list, or of a security."""
    ANY = auto()
    """Also symbols that no list of markets has."""
    TICKER = auto()
    """The bare ticker of a stock, such as `BRK.B`, which no list of markets has."""


class Traits(Struct, frozen=True, gc=False, kw_only=True):
    """The facts about one channel. A new one has to say all that have no default."""

    payloads: tuple[type[StreamPayload], ...]
    """The types of its data."""
    symbol: SymbolRule
    first_data_us: int | None
    """A requested stream without data for so long is reported as silent. None: it may be quiet for ever."""
    droppable: bool
    """A slow consumer may lose some of its data. Otherwise they are always delivered."""
    cryptofeed: tuple[str, ...]
    """The channels of cryptofeed that are made of it, or empty."""
    symbol_kind: SymbolKind = SymbolKind.MARKET
    """Kind of its symbols."""
    common: tuple[str, ...] = ()
    """Other names that people use for it."""
    every_second: bool = False
    """Data come every second, changed or not, so that silence is a fault."""
    perpetual_only: bool = False
    """Spot markets do not have it. Asked for, it would be silent for ever."""
    windows_ms: tuple[int, ...] = ()
    """One of them may stand behind the channel's name."""
    intervals: tuple[str, ...] = ()
    """One of them has to stand behind the channel's name."""


class Channel(StrEnum):
    """The exchange's stream types, by the first part of their names."""

    traits: Traits

    def __new__(cls, name: str, traits: Traits | None = None) -> Self:
        """Make a member that is its name and knows its row. The name alone finds a member that exists."""
        if traits is None:
            raise TypeError(f"channel {name!r} has no traits")
        channel = str.__new__(cls, name)
        channel._value_ = name
        channel.traits = traits
        return channel

    BOOK_TICKER = (
        "bookTicker",
        Traits(
            common=("book_ticker",),
            payloads=(BookTicker,),
            symbol=SymbolRule.REQUIRED,
            first_data_us=60_000_000,
            droppable=True,
            cryptofeed=("l1_book", "ticker"),
        ),
    )
    DEPTH = (
        "depth",
        Traits(
            common=("book",),
            payloads=(Depth,),
            symbol=SymbolRule.REQUIRED,
            windows_ms=DEPTH_WINDOWS_MS,
            first_data_us=60_000_000,
            droppable=True,
            cryptofeed=("l2_book",),
        ),
    )
    KLINE = (
        "kline",
        Traits(
            common=("klines", "candles"),
            payloads=(Kline,),
            symbol=SymbolRule.REQUIRED,
            intervals=KLINE_INTERVALS,
            first_data_us=60_000_000,
            droppable=True,
            cryptofeed=("candles",),
        ),
    )
    TRADE = (
        "trade",
        Traits(
            common=("trades",),
            payloads=(Trade,),
            symbol=SymbolRule.REQUIRED,
            first_data_us=60_000_000,
            droppable=True,
            cryptofeed=("trades",),
        ),
    )
    TICKER = (
        "ticker",
        Traits(
            payloads=(Ticker,),
            symbol=SymbolRule.REQUIRED,
            first_data_us=5_000_000,
            every_second=True,
            droppable=True,
            cryptofeed=(),
        ),
    )
    MARK_PRICE = (
        "markPrice",
        Traits(
            common=("mark_price",),
            payloads=(MarkPrice,),
            symbol=SymbolRule.REQUIRED,
            perpetual_only=True,
            first_data_us=5_000_000,
            every_second=True,
            droppable=True,
            cryptofeed=("funding", "index"),
        ),
    )
    OPEN_INTEREST = (
        "openInterest",
        Traits(
            common=("open_interest",),
            payloads=(OpenInterest,),
            symbol=SymbolRule.REQUIRED,
            perpetual_only=True,
            first_data_us=130_000_000,
            droppable=True,
            cryptofeed=("open_interest",),
        ),
    )
    LIQUIDATION = (
        "liquidation",
        Traits(
            common=("liquidations",),
            payloads=(Liquidation,),
            symbol=SymbolRule.OPTIONAL,
            perpetual_only=True,
            first_data_us=None,
            droppable=True,
            cryptofeed=("liquidations",),
        ),
    )
    EXTERNAL_TICKER = (
        "externalTicker",
        Traits(
            common=("external_ticker",),
            payloads=(ExternalTicker,),
            symbol=SymbolRule.REQUIRED,
            symbol_kind=SymbolKind.ANY,
            first_data_us=60_000_000,
            droppable=True,
            cryptofeed=(),
        ),
    )
    STOCK_PRICE = (
        "stockPrice",
        Traits(
            common=("stock_price",),
            payloads=(StockPrice,),
            symbol=SymbolRule.REQUIRED,
            symbol_kind=SymbolKind.TICKER,
            first_data_us=60_000_000,
            droppable=True,
            cryptofeed=(),
        ),
    )
    STOCK_INDICATIVE_QUOTE = (
        "stockIndicativeQuote",
        Traits(
            common=("stock_indicative_quote",),
            payloads=(StockQuotes,),
            symbol=SymbolRule.REQUIRED,
            symbol_kind=SymbolKind.TICKER,
            first_data_us=60_000_000,
            droppable=True,
            cryptofeed=(),
        ),
    )
    ORDER_UPDATE = (
        "account.orderUpdate",
        Traits(
            common=("order",),
            payloads=(OrderAccepted, OrderCancelled, OrderExpired, OrderFill, OrderModified, TriggerPlaced, TriggerFailed),
            symbol=SymbolRule.OPTIONAL,
            first_data_us=None,
            droppable=False,
            cryptofeed=("order_info", "fills"),
        ),
    )
    POSITION_UPDATE = (
        "account.positionUpdate",
        Traits(
            common=("position",),
            payloads=(PositionOpened, PositionAdjusted, PositionUpdated, PositionClosed, PositionSnapshot),
            symbol=SymbolRule.OPTIONAL,
            first_data_us=None,
            droppable=False,
            cryptofeed=("positions",),
        ),
    )
    BALANCE_UPDATE = (
        "account.balanceUpdate",
        Traits(
            common=("balance",),
            payloads=(BalanceUpdate,),
            symbol=SymbolRule.NEVER,
            first_data_us=None,
            droppable=False,
            cryptofeed=("balances",),
        ),
    )
    RFQ_UPDATE = (
        "account.rfqUpdate",
        Traits(
            payloads=(
                RfqActive,
                RfqAccepted,
                RfqAcceptedBinding,
                RfqRefreshed,
                RfqCancelled,
                RfqCandidate,
                RfqFilled,
                QuoteAccepted,
                QuoteCancelled,
            ),
            symbol=SymbolRule.OPTIONAL,
            symbol_kind=SymbolKind.RFQ,
            first_data_us=None,
            droppable=False,
            cryptofeed=(),
        ),
    )

    @property
    def private(self) -> bool:
        """True when a subscription needs a signature."""
        return self.value.startswith("account.")


CHANNEL_OF: Final[Mapping[type[StreamPayload], Channel]] = MappingProxyType(
    {payload: channel for channel in Channel for payload in channel.traits.payloads}
)
"""The channel that each type of data comes on."""

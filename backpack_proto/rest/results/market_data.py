"""What REST calls about markets return, typed. Source of every field: docs/protocol.md sections 5.1 and 6.1.

The other results are in `results_reference` (what the exchange lists), `results_account` and `results_orders`. Names are the field's own, units are in names. Prices and quantities are `Decimal`, quantities in base units unless the name says
quote. Rows share their subject with a stream payload, but not its members: `TickerRow` is a row of `/ticker`, `Ticker` a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Generic, TypeVar

from msgspec import Struct, field

from backpack_proto.decoding import UnixUs
from backpack_proto.streams.levels import Level

__all__ = [
    "Asset",
    "AssetToken",
    "DepthSnapshot",
    "FundingRateRow",
    "KlineRow",
    "MarkPriceRow",
    "OpenInterestRow",
    "Page",
    "ServerTime",
    "SystemStatus",
    "TickerRow",
    "TradeRow",
]

Row = TypeVar("Row")


class Page(Struct, Generic[Row], frozen=True, gc=False, kw_only=True):
    """Some rows of a history, newest first unless asked for otherwise; iterating, `len` and an index are those of the rows.

    The counts are None where the exchange did not say (docs/protocol.md 6.4).
    """

    rows: tuple[Row, ...]
    total: int | None = None
    """How many rows there are on all pages."""
    page_count: int | None = None
    page_number: int | None = None
    page_size: int | None = None
    """How many rows a full page has."""

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows of this page."""
        return iter(self.rows)

    def __len__(self) -> int:
        """How many rows this page has."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        """The row at an index."""
        return self.rows[index]


class DepthSnapshot(Struct, frozen=True, gc=False, kw_only=True):
    """The book at one update id; on both sides the best price is first, whatever the order on the wire."""

    symbol: str
    limit: int | None
    """How many levels a side were asked for: a side with fewer is complete, one with as many may go on. None: as the exchange
    likes."""
    last_update_id: int
    """In the id space of the `depth` stream."""
    engine_us: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class TickerRow(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A day or a week of one market; it has no time of its own and may be half a minute old (docs/protocol.md 1.2)."""

    symbol: str
    first_price: Decimal
    last_price: Decimal
    high: Decimal
    low: Decimal
    price_change: Decimal
    price_change_fraction: Decimal = field(name="priceChangePercent")
    """A fraction, in spite of its name on the wire: -0.029 is -2.9 %."""
    volume: Decimal
    quote_volume: Decimal
    trade_count: int = field(name="trades")


class KlineRow(Struct, frozen=True, gc=False, kw_only=True):
    """One candle. The prices are None when nothing was traded."""

    start_s: int
    """Seconds since the epoch, the unit in which candles are asked for."""
    end_s: int
    """The start of the next one."""
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal
    quote_volume: Decimal
    trade_count: int


class TradeRow(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One public trade."""

    trade_id: int | None = field(name="id", default=None)
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    timestamp_ms: int = field(name="timestamp")
    buyer_is_maker: bool = field(name="isBuyerMaker")
    """True: the seller was the aggressor."""


class MarkPriceRow(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Mark price of one market; index price and funding are None for markets that have none."""

    symbol: str
    mark_price: Decimal
    index_price: Decimal | None = None
    funding_rate: Decimal | None = None
    """A fraction per funding interval, may be negative."""
    next_funding_ms: int | None = field(name="nextFundingTimestamp", default=None)


class OpenInterestRow(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Open contracts of one market, which are base units."""

    symbol: str
    open_interest: Decimal | None = None
    timestamp_ms: int = field(name="timestamp")


class FundingRateRow(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The funding rate of one interval; the first row can be that of the interval that has not ended."""

    symbol: str
    funding_rate: Decimal
    """A fraction."""
    interval_end_us: UnixUs = field(name="intervalEndTimestamp")


class SystemStatus(Struct, frozen=True, gc=False, kw_only=True):
    """`Ok` or `Maintenance`, and what the exchange has to say about it."""

    state: str = field(name="status")
    message: str | None = None


class ServerTime(Struct, frozen=True, gc=False, kw_only=True):
    """The exchange's clock."""

    server_ms: int
    """Milliseconds since the epoch."""


class AssetToken(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An asset on one blockchain."""

    display_name: str
    blockchain: str
    contract_address: str | None = None
    deposit_enabled: bool
    minimum_deposit: Decimal
    withdraw_enabled: bool
    minimum_withdrawal: Decimal
    maximum_withdrawal: Decimal | None = None
    withdrawal_fee: Decimal
    native_decimals: int | None = None


class Asset(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An asset that the exchange holds for its users."""

    symbol: str
    display_name: str
    coingecko_id: str | None = None
    tokens: tuple[AssetToken, ...]

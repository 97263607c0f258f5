"""Typed results of REST calls about markets. Source of every field: docs/protocol.md sections 5.1 and 6.1.

Names are the field's own, units are in names. Prices and quantities are `Decimal`, quantities in base units unless the name says
quote. Candles, trades, tickers, mark prices and open interest are the values of the streams (`streams.payloads`).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Generic, TypeVar

from msgspec import field

from backpack_proto.decoding import UnixUs
from backpack_proto.streams.levels import Level
from backpack_proto.values import Value

__all__ = [
    "Asset",
    "AssetToken",
    "DepthSnapshot",
    "FundingRate",
    "Page",
    "ServerTime",
    "SystemStatus",
]

Row = TypeVar("Row")


class Page(Value, Generic[Row], frozen=True, gc=False, kw_only=True):
    """Some rows of a history, newest first unless asked for otherwise. Iterating, `len` and an index are those of the rows.

    The counts are None where the exchange did not say (docs/protocol.md 6.4).
    """

    rows: tuple[Row, ...]
    total: int | None = None
    """Number of rows on all pages."""
    page_count: int | None = None
    page_number: int | None = None
    page_size: int | None = None
    """Number of rows of a full page."""

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows of this page."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Number of rows of this page."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        """The row at an index."""
        return self.rows[index]


class DepthSnapshot(Value, frozen=True, gc=False, kw_only=True):
    """The book at one update id. On both sides the best price is first, in spite of the order on the wire."""

    symbol: str
    limit: int | None
    """Requested number of levels a side: a side with fewer is complete, one with as many may go on. None: as the exchange
    likes."""
    last_update_id: int
    """In the id space of the `depth` stream."""
    engine_us: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class FundingRate(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The funding rate of one interval. The first row can be that of the interval that has not ended."""

    symbol: str
    funding_rate: Decimal
    """A fraction."""
    interval_end_us: UnixUs = field(name="intervalEndTimestamp")


class SystemStatus(Value, frozen=True, gc=False, kw_only=True):
    """`Ok` or `Maintenance`, and the exchange's message about it."""

    state: str = field(name="status")
    message: str | None = None


class ServerTime(Value, frozen=True, gc=False, kw_only=True):
    """The exchange's clock, microseconds since the epoch. It shows whole milliseconds."""

    server_us: int


class AssetToken(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
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


class Asset(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An asset that the exchange holds for its users."""

    symbol: str
    display_name: str
    coingecko_id: str | None = None
    tokens: tuple[AssetToken, ...]

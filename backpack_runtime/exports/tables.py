"""The tables of an export: their columns, and the rows of trades, tickers and candles.

Theory. A row is a tuple of all columns of its table. The CSV layout is the first `csv_columns` of them, which for the tables of tardis are
exactly those of tardis. Parquet has them all. Numbers stay text in plain digits until they are written, so they cannot be rounded.
Every table begins with exchange, symbol, exchange time and local time.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum, auto
from typing import Final, NamedTuple, TypeAlias

from backpack_proto.encoding import plain_digits
from backpack_proto.streams.payloads import BookTicker, Kline, Trade

__all__ = [
    "BOOKS",
    "BOOK_STATES",
    "BOOK_TICKER",
    "CANDLES",
    "EXCHANGE",
    "LOCAL",
    "MOMENT",
    "QUOTES",
    "SCHEMA_VERSION",
    "SYMBOL",
    "TABLES",
    "TOPICS",
    "TRADES",
    "Column",
    "Kind",
    "Row",
    "Table",
    "candle_row",
    "ticker_row",
    "trade_row",
]

SCHEMA_VERSION: Final = 1
"""Grows when a column changes its name, type or meaning."""
EXCHANGE: Final = "backpack"

Row: TypeAlias = tuple[str | int | bool | None, ...]


class Kind(Enum):
    """Kind of the values of a column."""

    TEXT = auto()
    TIME = auto()
    """Microseconds since the epoch."""
    NUMBER = auto()
    """An exact decimal, as text in plain digits."""
    ID = auto()
    FLAG = auto()


class Column(NamedTuple):
    """One column: its name and its kind."""

    name: str
    kind: Kind


class Table(NamedTuple):
    """One table: the name in the names of its files, the word that selects it, and its columns."""

    name: str
    topic: str
    columns: tuple[Column, ...]
    csv_columns: int
    """So many of them are in the CSV. The others are in Parquet only."""


def _columns(text: str) -> tuple[Column, ...]:
    pairs = (part.partition(":") for part in text.split())
    return tuple(Column(name, Kind[kind.upper()]) for name, _, kind in pairs)


def _table(name: str, topic: str, layout: str, further: str = "") -> Table:
    columns = _columns(f"exchange:text symbol:text timestamp:time local_timestamp:time {layout}")
    return Table(name, topic, (*columns, *_columns(further)), len(columns))


SYMBOL, MOMENT, LOCAL = 1, 2, 3
"""Where these columns are, in every table."""

_TOP = "ask_amount:number ask_price:number bid_price:number bid_amount:number"

TRADES: Final = _table(
    "trades",
    "trades",
    "id:id side:text price:number amount:number",
    "emitted_timestamp:time buyer_order_id:text seller_order_id:text",
)
BOOK_TICKER: Final = _table("book_ticker", "tops", _TOP, "emitted_timestamp:time update_id:id")
QUOTES: Final = _table("quotes", "tops", _TOP, "update_id:id stream:text")
BOOKS: Final = _table(
    "incremental_book_L2",
    "books",
    "is_snapshot:flag side:text price:number amount:number",
    "emitted_timestamp:time first_update_id:id last_update_id:id stream:text",
)
BOOK_STATES: Final = _table("book_states", "books", "state:text event:text update_id:id reason:text stream:text")
CANDLES: Final = _table(
    "candles",
    "candles",
    "interval:text start_timestamp:time end_timestamp:time open:number high:number low:number close:number volume:number"
    " trade_count:id closed:flag",
)

TABLES: Final = (TRADES, BOOK_TICKER, QUOTES, BOOKS, BOOK_STATES, CANDLES)
TOPICS: Final = tuple(dict.fromkeys(table.topic for table in TABLES))
"""The words that select tables."""


def _digits(value: Decimal | None) -> str | None:
    """Return a number in plain digits, zeros at its end included."""
    return None if value is None else plain_digits(value)


def trade_row(trade: Trade, local_us: int | None) -> Row:
    """Return the row of a trade. Its side is that of the taker."""
    return (
        EXCHANGE,
        trade.symbol,
        trade.engine_us,
        local_us,
        trade.trade_id,
        "sell" if trade.buyer_is_maker else "buy",
        _digits(trade.price),
        _digits(trade.quantity),
        trade.emitted_us,
        trade.buyer_order_id,
        trade.seller_order_id,
    )


def ticker_row(ticker: BookTicker, local_us: int | None) -> Row:
    """Return the row of a best bid and ask as the exchange sent them."""
    return (
        EXCHANGE,
        ticker.symbol,
        ticker.engine_us,
        local_us,
        _digits(ticker.ask_quantity),
        _digits(ticker.ask_price),
        _digits(ticker.bid_price),
        _digits(ticker.bid_quantity),
        ticker.emitted_us,
        ticker.update_id,
    )


def candle_row(candle: Kline, local_us: int | None) -> Row:
    """Return the row of a candle."""
    return (
        EXCHANGE,
        candle.symbol,
        candle.emitted_us,
        local_us,
        candle.interval,
        candle.start_us,
        candle.end_us,
        _digits(candle.open),
        _digits(candle.high),
        _digits(candle.low),
        _digits(candle.close),
        _digits(candle.volume),
        candle.trade_count,
        candle.closed,
    )

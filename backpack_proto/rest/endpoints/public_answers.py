"""Bodies of public answers that have another form than their results, and how those are made (docs/protocol.md 5.1, 6.1)."""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter

from msgspec import Struct, field

from backpack_proto.decoding import MAX_ID, Rows, UnixUs, UnixUsOfText, decode_json, decode_rows, whole_number
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.rest.markets import Markets, parse_markets
from backpack_proto.rest.results.market_data import DepthSnapshot, ServerTime
from backpack_proto.streams.levels import RESTING, RawLevels, raw_levels
from backpack_proto.streams.payloads import Kline, MarkPrice, OpenInterest, Ticker, Trade

from .rules import Checked

__all__ = [
    "read_depth",
    "read_klines",
    "read_mark_prices",
    "read_markets",
    "read_open_interest",
    "read_ping",
    "read_ticker",
    "read_tickers",
    "read_time",
    "read_trades",
]


class _DepthBody(Struct, frozen=True, gc=False, kw_only=True):
    asks: RawLevels
    bids: RawLevels
    last_update_id: int = field(name="lastUpdateId")
    timestamp: int


class _KlineBody(Struct, frozen=True, gc=False, kw_only=True):
    start: UnixUsOfText
    end: UnixUsOfText
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    close: Decimal | None = None
    volume: Decimal
    quote_volume: Decimal = field(name="quoteVolume")
    trades: int


def read_depth(body: bytes, parameters: Checked) -> DepthSnapshot:
    """Read a snapshot of a book."""
    depth = decode_json(body, _DepthBody, "depth")
    try:
        bids, asks = raw_levels(depth.bids), raw_levels(depth.asks)
    except ValueError as error:
        raise RemoteProtocolError(f"depth: {error}") from None
    if not 0 <= depth.last_update_id <= MAX_ID:
        raise RemoteProtocolError(f"depth: an update id that is out of range: {str(depth.last_update_id)[:40]}")
    for side in (bids, asks):
        # A level that is gone has no place in a snapshot: the whole of it is in doubt then.
        if not all(RESTING[level.quantity_text] for level in side) or len({level.price for level in side}) < len(side):
            raise RemoteProtocolError("depth: a level without a quantity, or two of one price")
    limit = parameters.get("limit")
    # The wire has bids ascending, the best one last. Sorting makes do with any order.
    return DepthSnapshot(
        symbol=str(parameters["symbol"]),
        limit=limit if isinstance(limit, int) else None,
        last_update_id=depth.last_update_id,
        engine_us=depth.timestamp,
        bids=tuple(sorted(bids, key=attrgetter("price"), reverse=True)),
        asks=tuple(sorted(asks, key=attrgetter("price"))),
    )


class _TradeBody(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    id: int | None = None
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    timestamp: UnixUs
    is_buyer_maker: bool


class _TickerBody(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    symbol: str
    first_price: Decimal
    last_price: Decimal
    high: Decimal
    low: Decimal
    price_change: Decimal
    price_change_percent: Decimal
    volume: Decimal
    quote_volume: Decimal
    trades: int


class _MarkPriceBody(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    symbol: str
    mark_price: Decimal
    index_price: Decimal | None = None
    funding_rate: Decimal | None = None
    next_funding_timestamp: UnixUs | None = None


class _OpenInterestBody(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    symbol: str
    open_interest: Decimal | None = None
    timestamp: UnixUs


def read_klines(body: bytes, parameters: Checked) -> Rows[Kline]:
    """Read candles."""
    symbol, interval = str(parameters["symbol"]), str(parameters["interval"])
    return decode_rows(body, _KlineBody, "klines").map(
        lambda row: Kline(
            emitted_us=None,
            symbol=symbol,
            interval=interval,
            start_us=row.start,
            end_us=row.end,
            closed=None,
            open=row.open,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=row.volume,
            quote_volume=row.quote_volume,
            trade_count=row.trades,
        )
    )


def read_trades(body: bytes, parameters: Checked) -> Rows[Trade]:
    """Read public trades."""
    symbol = str(parameters["symbol"])
    return decode_rows(body, _TradeBody, "trades").map(
        lambda row: Trade(
            emitted_us=None,
            symbol=symbol,
            engine_us=row.timestamp,
            trade_id=row.id,
            price=row.price,
            quantity=row.quantity,
            quote_quantity=row.quote_quantity,
            buyer_is_maker=row.is_buyer_maker,
        )
    )


def _ticker(row: _TickerBody) -> Ticker:
    return Ticker(
        emitted_us=None,
        symbol=row.symbol,
        first_price=row.first_price,
        last_price=row.last_price,
        high=row.high,
        low=row.low,
        volume=row.volume,
        quote_volume=row.quote_volume,
        trade_count=row.trades,
        price_change=row.price_change,
        price_change_fraction=row.price_change_percent,
    )


def read_ticker(body: bytes, _: Checked) -> Ticker:
    """Read a ticker."""
    return _ticker(decode_json(body, _TickerBody, "ticker"))


def read_tickers(body: bytes, _: Checked) -> Rows[Ticker]:
    """Read tickers."""
    return decode_rows(body, _TickerBody, "tickers").map(_ticker)


def read_mark_prices(body: bytes, _: Checked) -> Rows[MarkPrice]:
    """Read mark prices."""
    return decode_rows(body, _MarkPriceBody, "mark_prices").map(
        lambda row: MarkPrice(
            emitted_us=None,
            symbol=row.symbol,
            engine_us=None,
            mark_price=row.mark_price,
            index_price=row.index_price,
            funding_rate=row.funding_rate,
            next_funding_us=row.next_funding_timestamp,
        )
    )


def read_open_interest(body: bytes, _: Checked) -> Rows[OpenInterest]:
    """Read open interest."""
    return decode_rows(body, _OpenInterestBody, "open_interest").map(
        lambda row: OpenInterest(emitted_us=None, symbol=row.symbol, open_interest=row.open_interest, engine_us=row.timestamp)
    )


def read_time(body: bytes, _: Checked) -> ServerTime:
    """Read the exchange's clock."""
    # A number without a sign, and no time as text, which `UnixUs` would be as well.
    if whole_number(body.strip().decode("latin-1")) is None:
        raise RemoteProtocolError("time: not a number of milliseconds")
    return ServerTime(server_us=decode_json(body, UnixUs, "time"))


def read_ping(body: bytes, _: Checked) -> str:
    """Read `pong`."""
    if body.strip() != b"pong":
        raise RemoteProtocolError("ping: not pong")
    return "pong"


def read_markets(body: bytes, _: Checked) -> Markets:
    """Read the list of markets."""
    return parse_markets(body)

"""The public rows of the endpoint table, which are not signed (docs/protocol.md 6.1)."""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter
from typing import Final

from msgspec import Struct, field

from backpack_proto.decoding import MAX_ID, Rows, UnixUs, UnixUsOfText, decode_json, decode_rows, whole_number
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.rest.markets import Market, Markets, parse_markets
from backpack_proto.rest.results.market_data import (
    Asset,
    DepthSnapshot,
    FundingRate,
    ServerTime,
    SystemStatus,
)
from backpack_proto.rest.results.reference import (
    ApyRates,
    BorrowLendMarket,
    BorrowLendMarketRow,
    CollateralParameters,
    LiquidationEstimate,
    PredictionEvent,
    PredictionTag,
    Security,
    StockHoliday,
    StockIndicativeQuote,
    StockSession,
    Vault,
    VaultHistoryRow,
    Wallet,
)
from backpack_proto.streams.channels import KLINE_INTERVALS
from backpack_proto.streams.levels import RESTING, RawLevels, raw_levels
from backpack_proto.streams.payloads import Kline, MarkPrice, OpenInterest, Ticker, Trade

from .parameters import (
    ANY_SYMBOL,
    MARKET_TYPE,
    OFFSET,
    PAGE_LIMIT,
    SIDE,
    SUBACCOUNT,
    SYMBOL,
    UINT64,
    decimal,
    flag,
    limit,
    text,
    uint,
    word,
)
from .rules import Checked, Endpoint, ParameterRule, exactly_one

__all__ = ["DEPTH_LIMITS", "PUBLIC_ENDPOINTS"]

DEPTH_LIMITS: Final = (5, 10, 20, 50, 100, 500, 1000)
"""The only limits that `/depth` knows (docs/protocol.md 5.1)."""


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


def _read_depth(body: bytes, parameters: Checked) -> DepthSnapshot:
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
    # The wire has bids ascending, the best one last; sorting makes do with any order.
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


def _read_klines(body: bytes, parameters: Checked) -> Rows[Kline]:
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


def _read_trades(body: bytes, parameters: Checked) -> Rows[Trade]:
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


def _read_ticker(body: bytes, _: Checked) -> Ticker:
    return _ticker(decode_json(body, _TickerBody, "ticker"))


def _read_tickers(body: bytes, _: Checked) -> Rows[Ticker]:
    return decode_rows(body, _TickerBody, "tickers").map(_ticker)


def _read_mark_prices(body: bytes, _: Checked) -> Rows[MarkPrice]:
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


def _read_open_interest(body: bytes, _: Checked) -> Rows[OpenInterest]:
    return decode_rows(body, _OpenInterestBody, "open_interest").map(
        lambda row: OpenInterest(emitted_us=None, symbol=row.symbol, open_interest=row.open_interest, engine_us=row.timestamp)
    )


def _read_time(body: bytes, _: Checked) -> ServerTime:
    # A number without a sign, and no time as text, which `UnixUs` would be as well.
    if whole_number(body.strip().decode("latin-1")) is None:
        raise RemoteProtocolError("time: not a number of milliseconds")
    return ServerTime(server_us=decode_json(body, UnixUs, "time"))


def _read_ping(body: bytes, _: Checked) -> str:
    if body.strip() != b"pong":
        raise RemoteProtocolError("ping: not pong")
    return "pong"


def _read_markets(body: bytes, _: Checked) -> Markets:
    return parse_markets(body)


def _seconds(name: str, *, required: bool = False) -> ParameterRule:
    # Milliseconds, the usual mistake, are out of range: 10^11 seconds are the year 5138.
    python = f"{name.removesuffix('Time')}_s"
    return uint(name, 99_999_999_999, required=required, unit="seconds since the epoch", python=python)


_TICKER_INTERVAL = word("interval", "1d", "1w")
_SOURCE = word("source", "External", grows=True)
"""Where the figures of a stock come from; the exchange's own market where it is left out (docs/protocol.md 6.5)."""
_POOL_INTERVAL = word("interval", "1d", "1w", "1month", "1year", required=True)

PUBLIC_ENDPOINTS: Final = (
    Endpoint(
        name="markets",
        path="/api/v1/markets",
        # The nonce means nothing to the exchange. One that was never used goes past the cache in front of it (docs/protocol.md 1.2).
        parameters=(MARKET_TYPE, uint("nonce", UINT64)),
        result=Markets,
        read=_read_markets,
    ),
    Endpoint(name="market", path="/api/v1/market", parameters=(SYMBOL,), result=Market),
    Endpoint(
        name="ticker",
        path="/api/v1/ticker",
        parameters=(SYMBOL, _TICKER_INTERVAL, _SOURCE),
        may_be_empty=True,
        result=Ticker,
        read=_read_ticker,
    ),
    Endpoint(
        name="tickers",
        path="/api/v1/tickers",
        parameters=(_TICKER_INTERVAL, _SOURCE),
        result=tuple[Ticker, ...],
        read=_read_tickers,
    ),
    Endpoint(
        name="depth",
        path="/api/v1/depth",
        parameters=(SYMBOL, ParameterRule(name="limit", kind=int, choices=DEPTH_LIMITS)),
        result=DepthSnapshot,
        read=_read_depth,
    ),
    Endpoint(
        name="klines",
        path="/api/v1/klines",
        parameters=(
            SYMBOL,
            word("interval", *KLINE_INTERVALS, required=True),
            _seconds("startTime", required=True),
            _seconds("endTime"),
            word("priceType", "Last", "Index", "Mark"),
            _SOURCE,
        ),
        historical=True,
        result=tuple[Kline, ...],
        read=_read_klines,
    ),
    Endpoint(
        name="trades",
        path="/api/v1/trades",
        parameters=(SYMBOL, PAGE_LIMIT),
        result=tuple[Trade, ...],
        read=_read_trades,
    ),
    Endpoint(
        name="trades_history",
        path="/api/v1/trades/history",
        parameters=(SYMBOL, PAGE_LIMIT, OFFSET),
        historical=True,
        result=tuple[Trade, ...],
        read=_read_trades,
    ),
    Endpoint(
        name="mark_prices",
        path="/api/v1/markPrices",
        parameters=(ANY_SYMBOL, MARKET_TYPE),
        result=tuple[MarkPrice, ...],
        read=_read_mark_prices,
    ),
    Endpoint(
        name="open_interest",
        path="/api/v1/openInterest",
        parameters=(ANY_SYMBOL,),
        result=tuple[OpenInterest, ...],
        read=_read_open_interest,
    ),
    Endpoint(
        name="funding_rates",
        path="/api/v1/fundingRates",
        parameters=(SYMBOL, limit(10_000), OFFSET),
        result=tuple[FundingRate, ...],
    ),
    Endpoint(name="status", path="/api/v1/status", result=SystemStatus),
    Endpoint(name="ping", path="/api/v1/ping", result=str, read=_read_ping),
    Endpoint(name="time", path="/api/v1/time", result=ServerTime, read=_read_time),
    Endpoint(name="assets", path="/api/v1/assets", parameters=(text("country"),), result=tuple[Asset, ...]),
    Endpoint(name="collateral_parameters", path="/api/v1/collateral", result=tuple[CollateralParameters, ...]),
    Endpoint(name="borrow_lend_markets", path="/api/v1/borrowLend/markets", result=tuple[BorrowLendMarket, ...]),
    Endpoint(
        name="borrow_lend_markets_history",
        path="/api/v1/borrowLend/markets/history",
        parameters=(_POOL_INTERVAL, ANY_SYMBOL),
        result=tuple[BorrowLendMarketRow, ...],
    ),
    Endpoint(
        name="borrow_lend_apy",
        path="/api/v1/borrowLend/apy",
        parameters=(uint("tierId", 2**31 - 1),),
        result=ApyRates,
    ),
    Endpoint(
        name="borrow_lend_liquidation_price",
        path="/api/v1/borrowLend/position/liquidationPrice",
        # What the loan would be: the body of a POST to /api/v1/borrowLend as JSON, in base64.
        parameters=(SUBACCOUNT, text("borrow", required=True)),
        result=LiquidationEstimate,
    ),
    Endpoint(
        name="prediction_events",
        path="/api/v1/prediction",
        parameters=(
            ANY_SYMBOL,
            text("tagSlug"),
            text("eventSlug"),
            text("seriesSlug"),
            flag("resolved"),
            PAGE_LIMIT,
            OFFSET,
        ),
        paged=True,
        result=tuple[PredictionEvent, ...],
    ),
    Endpoint(name="prediction_tags", path="/api/v1/prediction/tags", result=tuple[PredictionTag, ...]),
    Endpoint(name="securities", path="/api/v1/securities", result=tuple[Security, ...]),
    Endpoint(
        name="stock_sessions",
        path="/api/v1/stockSessions",
        former=("market_sessions", "GET /api/v1/market-sessions"),
        result=tuple[StockSession, ...],
    ),
    Endpoint(
        name="stock_holidays",
        path="/api/v1/stockHolidays",
        former=("market_holidays", "GET /api/v1/market-holidays"),
        result=tuple[StockHoliday, ...],
    ),
    Endpoint(
        name="stock_indicative_quote",
        path="/api/v1/stockIndicativeQuote",
        parameters=(SYMBOL, SIDE, decimal("quantity"), decimal("quoteQuantity")),
        groups=(exactly_one("quantity", "quoteQuantity"),),
        result=StockIndicativeQuote,
    ),
    Endpoint(name="vaults", path="/api/v1/vaults", result=tuple[Vault, ...]),
    Endpoint(
        name="vaults_history",
        path="/api/v1/vaults/history",
        parameters=(_POOL_INTERVAL, uint("vaultId", 2**32 - 1)),
        result=tuple[VaultHistoryRow, ...],
    ),
    Endpoint(name="wallets", path="/api/v1/wallets", result=tuple[Wallet, ...]),
)

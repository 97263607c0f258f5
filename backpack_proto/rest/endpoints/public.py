"""The public rows of the endpoint table, which are not signed (docs/protocol.md 6.1)."""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter
from typing import Final

from msgspec import Struct, field

from backpack_proto.decoding import decode_json, unix_us, whole_number
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.rest.markets import Market, Markets, parse_markets
from backpack_proto.rest.results.market_data import (
    Asset,
    DepthSnapshot,
    FundingRateRow,
    KlineRow,
    MarkPriceRow,
    OpenInterestRow,
    ServerTime,
    SystemStatus,
    TickerRow,
    TradeRow,
)
from backpack_proto.rest.results.reference import (
    ApyRates,
    BorrowLendMarket,
    BorrowLendMarketRow,
    CollateralParameters,
    LiquidationEstimate,
    MarketSession,
    PredictionEvent,
    PredictionTag,
    Security,
    Vault,
    VaultHistoryRow,
    Wallet,
)
from backpack_proto.streams.channels import KLINE_INTERVALS
from backpack_proto.streams.levels import RawLevels, raw_levels

from .parameters import ANY_SYMBOL, MARKET_TYPE, OFFSET, PAGE_LIMIT, SUBACCOUNT, SYMBOL, flag, limit, text, uint, word
from .rules import Checked, Endpoint, ParameterRule

__all__ = ["DEPTH_LIMITS", "PUBLIC_ENDPOINTS"]

DEPTH_LIMITS: Final = (5, 10, 20, 50, 100, 500, 1000)
"""The only limits that `/depth` knows (docs/protocol.md 5.1)."""


class _DepthBody(Struct, frozen=True, gc=False, kw_only=True):
    asks: RawLevels
    bids: RawLevels
    last_update_id: int = field(name="lastUpdateId")
    timestamp: int


class _KlineBody(Struct, frozen=True, gc=False, kw_only=True):
    start: str
    end: str
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


def _read_klines(body: bytes, _: Checked) -> tuple[KlineRow, ...]:
    return tuple(
        KlineRow(
            start_s=unix_us(row.start) // 1_000_000,
            end_s=unix_us(row.end) // 1_000_000,
            open=row.open,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=row.volume,
            quote_volume=row.quote_volume,
            trade_count=row.trades,
        )
        for row in decode_json(body, list[_KlineBody], "klines")
    )


def _read_time(body: bytes, _: Checked) -> ServerTime:
    server_ms = whole_number(body.strip().decode("latin-1"))
    if server_ms is None:
        raise RemoteProtocolError("time: not a number of milliseconds")
    return ServerTime(server_ms=server_ms)


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
_POOL_INTERVAL = word("interval", "1d", "1w", "1month", "1year", required=True)

PUBLIC_ENDPOINTS: Final = (
    Endpoint(name="markets", path="/api/v1/markets", parameters=(MARKET_TYPE,), result=Markets, read=_read_markets),
    Endpoint(name="market", path="/api/v1/market", parameters=(SYMBOL,), result=Market),
    Endpoint(name="ticker", path="/api/v1/ticker", parameters=(SYMBOL, _TICKER_INTERVAL), result=TickerRow),
    Endpoint(name="tickers", path="/api/v1/tickers", parameters=(_TICKER_INTERVAL,), result=tuple[TickerRow, ...]),
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
        ),
        historical=True,
        result=tuple[KlineRow, ...],
        read=_read_klines,
    ),
    Endpoint(name="trades", path="/api/v1/trades", parameters=(SYMBOL, PAGE_LIMIT), result=tuple[TradeRow, ...]),
    Endpoint(
        name="trades_history",
        path="/api/v1/trades/history",
        parameters=(SYMBOL, PAGE_LIMIT, OFFSET),
        historical=True,
        result=tuple[TradeRow, ...],
    ),
    Endpoint(
        name="mark_prices",
        path="/api/v1/markPrices",
        parameters=(ANY_SYMBOL, MARKET_TYPE),
        result=tuple[MarkPriceRow, ...],
    ),
    Endpoint(
        name="open_interest",
        path="/api/v1/openInterest",
        parameters=(ANY_SYMBOL,),
        result=tuple[OpenInterestRow, ...],
    ),
    Endpoint(
        name="funding_rates",
        path="/api/v1/fundingRates",
        parameters=(SYMBOL, limit(10_000), OFFSET),
        result=tuple[FundingRateRow, ...],
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
    Endpoint(name="market_sessions", path="/api/v1/market-sessions", result=tuple[MarketSession, ...]),
    Endpoint(name="securities", path="/api/v1/securities", result=tuple[Security, ...]),
    Endpoint(name="vaults", path="/api/v1/vaults", result=tuple[Vault, ...]),
    Endpoint(
        name="vaults_history",
        path="/api/v1/vaults/history",
        parameters=(_POOL_INTERVAL, uint("vaultId", 2**32 - 1)),
        result=tuple[VaultHistoryRow, ...],
    ),
    Endpoint(name="wallets", path="/api/v1/wallets", result=tuple[Wallet, ...]),
)

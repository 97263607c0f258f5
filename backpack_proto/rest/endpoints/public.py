"""The public rows of the endpoint table, which are not signed (docs/protocol.md 6.1)."""

from __future__ import annotations

from typing import Final

from backpack_proto.rest.markets import Market, Markets
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
from .public_answers import (
    read_depth,
    read_klines,
    read_mark_prices,
    read_markets,
    read_open_interest,
    read_ping,
    read_ticker,
    read_tickers,
    read_time,
    read_trades,
)
from .rules import Endpoint, ParameterRule, exactly_one

__all__ = ["DEPTH_LIMITS", "PUBLIC_ENDPOINTS"]

DEPTH_LIMITS: Final = (5, 10, 20, 50, 100, 500, 1000)
"""The only limits that `/depth` knows (docs/protocol.md 5.1)."""


def _seconds(name: str, *, required: bool = False) -> ParameterRule:
    # Milliseconds, the usual mistake, are out of range: 10^11 seconds are the year 5138.
    python = f"{name.removesuffix('Time')}_s"
    return uint(name, 99_999_999_999, required=required, unit="seconds since the epoch", python=python)


_TICKER_INTERVAL = word("interval", "1d", "1w")
_SOURCE = word("source", "External", grows=True)
"""Where the figures of a stock come from. The exchange's own market where it is left out (docs/protocol.md 6.5)."""
_POOL_INTERVAL = word("interval", "1d", "1w", "1month", "1year", required=True)

PUBLIC_ENDPOINTS: Final = (
    Endpoint(
        name="markets",
        path="/api/v1/markets",
        # The exchange ignores the nonce. One that was never used goes past the cache in front of it (docs/protocol.md 1.2).
        parameters=(MARKET_TYPE, uint("nonce", UINT64)),
        result=Markets,
        read=read_markets,
    ),
    Endpoint(name="market", path="/api/v1/market", parameters=(SYMBOL,), result=Market),
    Endpoint(
        name="ticker",
        path="/api/v1/ticker",
        parameters=(SYMBOL, _TICKER_INTERVAL, _SOURCE),
        may_be_empty=True,
        result=Ticker,
        read=read_ticker,
    ),
    Endpoint(
        name="tickers",
        path="/api/v1/tickers",
        parameters=(_TICKER_INTERVAL, _SOURCE),
        result=tuple[Ticker, ...],
        read=read_tickers,
    ),
    Endpoint(
        name="depth",
        path="/api/v1/depth",
        parameters=(SYMBOL, ParameterRule(name="limit", kind=int, choices=DEPTH_LIMITS)),
        result=DepthSnapshot,
        read=read_depth,
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
        read=read_klines,
    ),
    Endpoint(
        name="trades",
        path="/api/v1/trades",
        parameters=(SYMBOL, PAGE_LIMIT),
        result=tuple[Trade, ...],
        read=read_trades,
    ),
    Endpoint(
        name="trades_history",
        path="/api/v1/trades/history",
        parameters=(SYMBOL, PAGE_LIMIT, OFFSET),
        historical=True,
        result=tuple[Trade, ...],
        read=read_trades,
    ),
    Endpoint(
        name="mark_prices",
        path="/api/v1/markPrices",
        parameters=(ANY_SYMBOL, MARKET_TYPE),
        result=tuple[MarkPrice, ...],
        read=read_mark_prices,
    ),
    Endpoint(
        name="open_interest",
        path="/api/v1/openInterest",
        parameters=(ANY_SYMBOL,),
        result=tuple[OpenInterest, ...],
        read=read_open_interest,
    ),
    Endpoint(
        name="funding_rates",
        path="/api/v1/fundingRates",
        parameters=(SYMBOL, limit(10_000), OFFSET),
        result=tuple[FundingRate, ...],
    ),
    Endpoint(name="status", path="/api/v1/status", result=SystemStatus),
    Endpoint(name="ping", path="/api/v1/ping", result=str, read=read_ping),
    Endpoint(name="time", path="/api/v1/time", result=ServerTime, read=read_time),
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
        # Terms of the loan: the body of a POST to /api/v1/borrowLend as JSON, in base64.
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

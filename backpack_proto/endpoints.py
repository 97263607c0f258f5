"""The endpoint table: which REST calls exist, what they take, and what they return (docs/protocol.md 6.1).

A row is all that there is to know about a call: `rest` builds requests and reads answers by it. An endpoint with an instruction is
private, so its requests are signed; the parameters of a GET stand in the query, those of all other methods in a JSON body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from msgspec import Struct, field

from .decoding import decode, unix_ms
from .errors import LocalProtocolError, RemoteProtocolError
from .inputs import Parameter
from .payloads import Level
from .results import (
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
from .streams import KLINE_INTERVALS
from .symbols import Market, Markets, parse_markets

__all__ = ["DEPTH_LIMITS", "ENDPOINTS", "Endpoint", "ParameterRule"]

DEPTH_LIMITS: Final = (5, 10, 20, 50, 100, 500, 1000)
"""The only limits that `/depth` knows (docs/protocol.md 5.1)."""

CallParameters: TypeAlias = Mapping[str, Parameter]


class ParameterRule(Struct, frozen=True, gc=False, kw_only=True):
    """What one parameter of an endpoint may be."""

    name: str
    kind: type[str | int | bool] = str
    required: bool = False
    choices: tuple[Parameter, ...] = ()
    """All allowed values; empty where the list is open."""
    minimum: int = 0
    """Of a whole number."""
    maximum: int = 2**63 - 1
    unit: str = ""

    @property
    def shape(self) -> str:
        """The rule in words."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.kind is int:
            return f"{self.unit or 'a whole number'}, from {self.minimum} to {self.maximum}"
        return "true or false" if self.kind is bool else "text"

    def check(self, value: object) -> None:
        """Hold a value to the rule.

        Raises:
            LocalProtocolError: naming the parameter and its shape.
        """
        match value:
            case bool():  # an int in Python, but not on the wire
                fits = self.kind is bool
            case int():
                fits = self.kind is int and self.minimum <= value <= self.maximum
            case str():
                fits = self.kind is str and value != ""
            case _:
                fits = False
        if not fits or (self.choices and value not in self.choices):
            raise LocalProtocolError(f"{self.name} is {self.shape}")


class Endpoint(Struct, frozen=True, gc=False, kw_only=True):
    """One REST call."""

    name: str
    method: str = "GET"
    path: str
    instruction: str | None = None
    """What a signature of it names; None for public calls, which are not signed (docs/protocol.md 2.4)."""
    parameters: tuple[ParameterRule, ...] = ()
    historical: bool = False
    """It counts against the small budget of historical market data (docs/protocol.md 1.3)."""
    result: Any
    """The type of the answer."""
    read: Callable[[bytes, CallParameters], object] | None = None
    """Makes a `result` of a body and of the parameters of the call, where its JSON is not that of `result` already."""


class _DepthBody(Struct, frozen=True, gc=False, kw_only=True):
    asks: list[Level]
    bids: list[Level]
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


class _FundingRateBody(Struct, frozen=True, gc=False, kw_only=True):
    symbol: str
    funding_rate: Decimal = field(name="fundingRate")
    interval_end: str = field(name="intervalEndTimestamp")


def _read_depth(body: bytes, parameters: CallParameters) -> DepthSnapshot:
    depth = decode(body, _DepthBody, "depth")
    limit = parameters.get("limit")
    # The wire has bids ascending, the best one last; sorting makes do with any order.
    return DepthSnapshot(
        symbol=str(parameters["symbol"]),
        limit=limit if isinstance(limit, int) else None,
        last_update_id=depth.last_update_id,
        engine_us=depth.timestamp,
        bids=tuple(sorted(depth.bids, key=itemgetter(0), reverse=True)),
        asks=tuple(sorted(depth.asks, key=itemgetter(0))),
    )


def _read_klines(body: bytes, _: CallParameters) -> tuple[KlineRow, ...]:
    return tuple(
        KlineRow(
            start_s=unix_ms(row.start) // 1000,
            end_s=unix_ms(row.end) // 1000,
            open=row.open,
            high=row.high,
            low=row.low,
            close=row.close,
            volume=row.volume,
            quote_volume=row.quote_volume,
            trade_count=row.trades,
        )
        for row in decode(body, list[_KlineBody], "klines")
    )


def _read_funding_rates(body: bytes, _: CallParameters) -> tuple[FundingRateRow, ...]:
    return tuple(
        FundingRateRow(symbol=row.symbol, funding_rate=row.funding_rate, interval_end_ms=unix_ms(row.interval_end))
        for row in decode(body, list[_FundingRateBody], "funding_rates")
    )


def _read_time(body: bytes, _: CallParameters) -> ServerTime:
    if not re.fullmatch(rb"\s*[0-9]{1,18}\s*", body):
        raise RemoteProtocolError("time: not a number of milliseconds")
    return ServerTime(server_ms=int(body))


def _read_ping(body: bytes, _: CallParameters) -> str:
    if body.strip() != b"pong":
        raise RemoteProtocolError("ping: not pong")
    return "pong"


def _read_markets(body: bytes, _: CallParameters) -> Markets:
    return parse_markets(body)


_SYMBOL = ParameterRule(name="symbol", required=True)
_ANY_SYMBOL = ParameterRule(name="symbol")
_MARKET_TYPE = ParameterRule(name="marketType")
_OFFSET = ParameterRule(name="offset", kind=int)
_TICKER_INTERVAL = ParameterRule(name="interval", choices=("1d", "1w"))


def _limit(maximum: int) -> ParameterRule:
    return ParameterRule(name="limit", kind=int, minimum=1, maximum=maximum)


def _seconds(name: str, *, required: bool = False) -> ParameterRule:
    # Milliseconds, the usual mistake, are out of range: 10^11 seconds are the year 5138.
    unit = "seconds since the epoch"
    return ParameterRule(name=name, kind=int, required=required, maximum=99_999_999_999, unit=unit)


ENDPOINTS: Final[Mapping[str, Endpoint]] = MappingProxyType(
    {
        endpoint.name: endpoint
        for endpoint in (
            Endpoint(name="markets", path="/api/v1/markets", parameters=(_MARKET_TYPE,), result=Markets, read=_read_markets),
            Endpoint(name="market", path="/api/v1/market", parameters=(_SYMBOL,), result=Market),
            Endpoint(name="ticker", path="/api/v1/ticker", parameters=(_SYMBOL, _TICKER_INTERVAL), result=TickerRow),
            Endpoint(name="tickers", path="/api/v1/tickers", parameters=(_TICKER_INTERVAL,), result=tuple[TickerRow, ...]),
            Endpoint(
                name="depth",
                path="/api/v1/depth",
                parameters=(_SYMBOL, ParameterRule(name="limit", kind=int, choices=DEPTH_LIMITS)),
                result=DepthSnapshot,
                read=_read_depth,
            ),
            Endpoint(
                name="klines",
                path="/api/v1/klines",
                parameters=(
                    _SYMBOL,
                    ParameterRule(name="interval", required=True, choices=KLINE_INTERVALS),
                    _seconds("startTime", required=True),
                    _seconds("endTime"),
                    ParameterRule(name="priceType", choices=("Last", "Index", "Mark")),
                ),
                historical=True,
                result=tuple[KlineRow, ...],
                read=_read_klines,
            ),
            Endpoint(name="trades", path="/api/v1/trades", parameters=(_SYMBOL, _limit(1000)), result=tuple[TradeRow, ...]),
            Endpoint(
                name="trades_history",
                path="/api/v1/trades/history",
                parameters=(_SYMBOL, _limit(1000), _OFFSET),
                historical=True,
                result=tuple[TradeRow, ...],
            ),
            Endpoint(
                name="mark_prices",
                path="/api/v1/markPrices",
                parameters=(_ANY_SYMBOL, _MARKET_TYPE),
                result=tuple[MarkPriceRow, ...],
            ),
            Endpoint(
                name="open_interest",
                path="/api/v1/openInterest",
                parameters=(_ANY_SYMBOL,),
                result=tuple[OpenInterestRow, ...],
            ),
            Endpoint(
                name="funding_rates",
                path="/api/v1/fundingRates",
                parameters=(_SYMBOL, _limit(10_000), _OFFSET),
                result=tuple[FundingRateRow, ...],
                read=_read_funding_rates,
            ),
            Endpoint(name="status", path="/api/v1/status", result=SystemStatus),
            Endpoint(name="ping", path="/api/v1/ping", result=str, read=_read_ping),
            Endpoint(name="time", path="/api/v1/time", result=ServerTime, read=_read_time),
            Endpoint(
                name="assets",
                path="/api/v1/assets",
                parameters=(ParameterRule(name="country"),),
                result=tuple[Asset, ...],
            ),
        )
    }
)
"""Every call, by its name."""

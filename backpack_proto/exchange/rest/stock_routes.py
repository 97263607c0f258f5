"""The public REST routes about stocks: the list, sessions, indicative prices, and figures from elsewhere.

Source of the shapes: docs/protocol.md 6.5. All figures are made of the closing price of a moment elsewhere, so candles of one
time are the same in every answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import ROUND_DOWN, Context, Decimal
from random import Random

from backpack_proto.errors import ApiError
from backpack_proto.exchange.market.listings import Listing, stripped
from backpack_proto.exchange.market.stocks import (
    HOLIDAYS,
    SECURITIES,
    SESSIONS,
    TIMEZONE,
    StockSecurity,
    price_cents,
    session_at,
)
from backpack_proto.exchange.market.tape import DAY_S, candle_end, candle_start
from backpack_proto.exchange.stream.frames import iso_time

from .answers import Answer
from .query import Query

__all__ = ["STOCK_ROUTES", "external_candles", "external_ticker", "security_of"]

NO_PRICE = "priceUnavailable"
"""Why there is no quote: the one reason that is documented."""
_LIMIT_BPS = 30
"""Slippage against the market that a quote allows."""
_SPREAD_BPS = 5
_MOST_CANDLES = 5_000
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
_SHORT = Context(prec=28, rounding=ROUND_DOWN)


def security_of(listing: Listing) -> StockSecurity | None:
    """Return the stock that a market is about, None for everything else."""
    return SECURITIES.get(listing.base)


def external_ticker(listing: Listing, security: StockSecurity, now_s: int) -> dict[str, str]:
    """Return the day up to now elsewhere, in the shape of a ticker."""
    prices = [price_cents(security, second) for second in range(now_s - DAY_S, now_s + 1, 900)]
    first, last = prices[0], prices[-1]
    change = last - first
    shares = sum(_shares(security, second, 3_600) for second in range(now_s - DAY_S, now_s, 3_600))
    return {
        "firstPrice": stripped(first, 2),
        "high": stripped(max(prices), 2),
        "lastPrice": stripped(last, 2),
        "low": stripped(min(prices), 2),
        "priceChange": stripped(change, 2),
        "priceChangePercent": stripped((2 * change * 10**6 + first) // (2 * first), 6),
        "quoteVolume": stripped(shares * (first + last) // 2, 2),
        "symbol": listing.symbol,
        "trades": str(shares // 40),
        "volume": str(shares),
    }


def external_candles(security: StockSecurity, interval: str, from_s: int, to_s: int) -> list[dict[str, str | None]]:
    """Return candles from elsewhere that start between two seconds, both included, in the shape of candles."""
    return [_candle(security, start_s, end_s) for start_s, end_s in _spans(interval, from_s, to_s)]


def _spans(interval: str, from_s: int, to_s: int) -> Iterator[tuple[int, int]]:
    start_s = candle_start(interval, max(from_s, 0))
    if start_s < from_s:
        start_s = candle_end(interval, start_s)
    for _ in range(_MOST_CANDLES):
        if start_s > to_s:
            return
        end_s = candle_end(interval, start_s)
        yield start_s, end_s
        start_s = end_s


def _candle(security: StockSecurity, start_s: int, end_s: int) -> dict[str, str | None]:
    step_s = max(1, (end_s - start_s) // 8)
    prices = [price_cents(security, second) for second in range(start_s, end_s + 1, step_s)]
    shares = _shares(security, start_s, end_s - start_s)
    return {
        "close": stripped(prices[-1], 2),
        "end": iso_time(end_s, " "),
        "high": stripped(max(prices), 2),
        "low": stripped(min(prices), 2),
        "open": stripped(prices[0], 2),
        "quoteVolume": stripped(shares * (prices[0] + prices[-1]) // 2, 2),
        "start": iso_time(start_s, " "),
        "trades": str(shares // 40),
        "volume": str(shares),
    }


def _shares(security: StockSecurity, start_s: int, length_s: int) -> int:
    return Random(f"{security.asset}:shares:{start_s}:{length_s}").randrange(50, 150) * length_s


def _securities(_query: Query, _engine_us: int) -> Answer:
    return [
        {
            "asset": security.asset,
            "cusip": security.cusip,
            "name": security.name,
            "sessions": [
                {"maxQuantity": most, "minQuantity": security.min_quantity, "name": name, "stepSize": security.step_size}
                for name, most in security.max_quantities.items()
            ],
        }
        for security in SECURITIES.values()
    ]


def _sessions(_query: Query, _engine_us: int) -> Answer:
    return [
        {
            "description": session.description,
            "endTime": session.end.isoformat(),
            "endWeekday": 5,
            "name": session.name,
            "startTime": session.start.isoformat(),
            "startWeekday": 1,
            "timezone": TIMEZONE,
        }
        for session in SESSIONS
    ]


def _holidays(_query: Query, _engine_us: int) -> Answer:
    return [
        {
            "date": day.isoformat(),
            "endTime": SESSIONS[-1].end.isoformat(),
            "name": name,
            "startTime": (SESSIONS[0].start if early is None else early).isoformat(),
            "timezone": TIMEZONE,
        }
        for day, (name, early) in HOLIDAYS.items()
    ]


def _indicative_quote(query: Query, engine_us: int) -> Answer:
    symbol = query.required("symbol")
    side = query.choice("side", "Side", ("Bid", "Ask"))
    security = SECURITIES.get(symbol)
    if security is None:
        raise _invalid(query, "Invalid symbol")
    quantity, quote_quantity = _amount(query, "quantity"), _amount(query, "quoteQuantity")
    if (quantity is None) is (quote_quantity is None):
        raise _invalid(query, "Exactly one of quantity and quoteQuantity must be given")
    row: dict[str, object] = {
        "available": False,
        "estimatedPrice": None,
        "price": None,
        "publishedAt": engine_us // 1_000,
        "quantityFilter": None,
        "quoteQuantity": None if quote_quantity is None else f"{quote_quantity:f}",
        "reason": NO_PRICE,
        "session": None,
        "side": side,
        "symbol": symbol,
    }
    session = session_at(security, engine_us)
    if session is not None:
        cents = price_cents(security, engine_us // 1_000_000)
        sign = 1 if side == "Bid" else -1
        price = stripped(round(cents * (10_000 + sign * _LIMIT_BPS) / 10_000), 2)
        if quantity is None and quote_quantity is not None:
            quantity = _SHORT.divide(quote_quantity, Decimal(price)).quantize(Decimal(security.step_size), ROUND_DOWN)
        if quantity is not None and not Decimal(security.min_quantity) <= quantity <= Decimal(security.max_quantities[session]):
            raise _invalid(query, "Quantity is outside of the limits of the session")
        row |= {
            "available": True,
            "estimatedPrice": stripped(round(cents * (10_000 + sign * _SPREAD_BPS) / 10_000), 2),
            "price": price,
            "quantityFilter": {
                "maxQuantity": security.max_quantities[session],
                "minQuantity": security.min_quantity,
                "stepSize": security.step_size,
            },
            "reason": None,
            "session": session,
        }
        if quote_quantity is None and quantity is not None:
            row["quoteQuantity"] = f"{_SHORT.multiply(quantity, Decimal(price)).normalize(_SHORT):f}"
    return row


def _amount(query: Query, name: str) -> Decimal | None:
    text = query.optional(name)
    if text is None:
        return None
    if not _DECIMAL.fullmatch(text) or not Decimal(text):
        raise _invalid(query, f"Invalid {name}")
    return Decimal(text)


def _invalid(query: Query, message: str) -> ApiError:
    return ApiError(status=400, code="INVALID_CLIENT_REQUEST", message=message, endpoint=f"GET {query.path}")


STOCK_ROUTES: dict[str, Callable[[Query, int], Answer]] = {
    "/api/v1/securities": _securities,
    "/api/v1/stockSessions": _sessions,
    "/api/v1/stockHolidays": _holidays,
    # The names of these two until October 2026, which still work.
    "/api/v1/market-sessions": _sessions,
    "/api/v1/market-holidays": _holidays,
    "/api/v1/stockIndicativeQuote": _indicative_quote,
}
"""Functions that answer each path."""

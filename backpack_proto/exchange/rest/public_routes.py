"""The public REST routes of the simulated exchange, shape for shape (docs/protocol.md 5.1 and section 6).

Numbers are strings without trailing zeros, bids ascend so that the best one is the last, and missing members are null. Times are
microseconds in `/depth`, milliseconds elsewhere, and text without a zone for candles and funding. Errors are JSON when they are
the exchange's own words, plain text when a parameter could not be read or the path does not exist (docs/protocol.md 1.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backpack_proto.errors import ApiError
from backpack_proto.exchange.market.listings import Listing, market_object, stripped
from backpack_proto.exchange.market.market import FUNDING_INTERVAL_US, INDEX_DECIMALS, RATE_DECIMALS, Reference, SimulatedMarket
from backpack_proto.exchange.market.orders import OrderSide
from backpack_proto.exchange.market.stocks import SECURITIES
from backpack_proto.exchange.market.tape import DAY_S, TapedCandle, TapedTrade
from backpack_proto.exchange.messages import RequestReceived, Respond
from backpack_proto.exchange.stream.frames import iso_time
from backpack_proto.exchange.stream.publication import next_funding_ms
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.streams.channels import KLINE_INTERVALS

from .answers import TEXT, Answer, refuse, respond
from .plain_routes import PLAIN_ROUTES
from .query import Query
from .stock_routes import STOCK_ROUTES, external_candles, external_ticker, security_of

__all__ = ["Routes"]

DEPTH_LIMITS = ("5", "10", "20", "50", "100", "500", "1000")
MOST_LEVELS = 5_000
"""Levels per side when no limit is given."""

_MARKET_TYPES = ("SPOT", "PERP", "IPERP", "DATED", "PREDICTION", "RFQ")
_FUNDING_ROWS = 90 * 24
_ASSET_NAMES = {"SOL": "Solana", "BTC": "Bitcoin", "USDT": "Tether", "USDC": "USD Coin", "HNT": "Helium"}

_SOURCES = ("External",)
_KNOWN = frozenset(endpoint.route for endpoint in ENDPOINTS.values())
"""Calls that the exchange has, whether they are simulated or not."""
_OF_THE_WEB_SESSION = frozenset(f"{method} /wapi/v1/capital/withdrawals/delay" for method in ("GET", "PATCH", "POST"))
"""Calls of the web site, without an instruction to sign them with (docs/protocol.md 2.4)."""


class Routes:
    """Answers requests from the state of the markets, by symbol. `markets` are those that are open."""

    def __init__(self, listings: Mapping[str, Listing], markets: Mapping[str, SimulatedMarket]) -> None:
        self._listings = listings
        self._markets = markets
        self._routes: dict[str, Callable[[Query, int], Answer]] = {
            "/api/v1/markets": self._list_markets,
            "/api/v1/market": self._market_of,
            "/api/v1/depth": self._depth,
            "/api/v1/ticker": self._ticker,
            "/api/v1/tickers": self._tickers,
            "/api/v1/klines": self._klines,
            "/api/v1/trades": self._trades,
            "/api/v1/trades/history": self._trades,
            "/api/v1/markPrices": self._mark_prices,
            "/api/v1/openInterest": self._open_interest,
            "/api/v1/fundingRates": self._funding_rates,
            "/api/v1/status": lambda _query, _us: {"message": None, "status": "Ok"},
            "/api/v1/ping": lambda _query, _us: b"pong",
            "/api/v1/time": lambda _query, us: str(us // 1000).encode(),
            "/api/v1/assets": self._assets,
            **STOCK_ROUTES,
            **PLAIN_ROUTES,
        }

    def respond(self, given: RequestReceived, engine_us: int) -> Respond:
        """Answer any request. `engine_us` is the engine's time."""
        path, _, text = given.target.partition("?")
        route = self._routes.get(path)
        if route is None:
            return _unserved(given, path)
        if given.method.upper() != "GET":
            return Respond(given.request_id, 405, TEXT, b"method not allowed")
        try:
            answer = route(Query(path, text), engine_us)
        except ApiError as error:
            return refuse(given.request_id, error)
        return respond(given.request_id, answer)

    def _list_markets(self, query: Query, _engine_us: int) -> Answer:
        kinds = [query.one_of("marketType", "MarketType", _MARKET_TYPES, kind) for kind in query.all("marketType")]
        objects = (market_object(listing) for listing in self._listings.values())
        return [shown for shown in objects if not kinds or shown["marketType"] in kinds]

    def _market_of(self, query: Query, _engine_us: int) -> Answer:
        return market_object(self._listing(query))

    def _depth(self, query: Query, engine_us: int) -> Answer:
        limit = int(query.choice("limit", "DepthLimit", DEPTH_LIMITS, default=str(MOST_LEVELS)))
        market = self._market(query)
        if market is None:
            raise ApiError(status=404, code="RESOURCE_NOT_FOUND", message="Not Found", endpoint=f"GET {query.path}")
        listing = market.listing
        sides = {
            side: [
                (stripped(price, listing.price_decimals), stripped(lots, listing.quantity_decimals))
                for price, lots in market.engine.levels(side)[:limit]
            ]
            for side in OrderSide
        }
        sides[OrderSide.BID].reverse()
        return {
            "asks": sides[OrderSide.ASK],
            "bids": sides[OrderSide.BID],
            "lastUpdateId": str(market.engine.update_id),
            "timestamp": engine_us,
        }

    def _ticker(self, query: Query, engine_us: int) -> Answer:
        length_s = _ticker_length(query)
        if _is_external(query):
            return self._external_ticker(self._listing(query), engine_us)
        market = self._market(query)
        return None if market is None else _ticker_row(market, engine_us, length_s)

    def _tickers(self, query: Query, engine_us: int) -> Answer:
        length_s = _ticker_length(query)
        if _is_external(query):
            found = [self._external_ticker(listing, engine_us) for listing in self._listings.values()]
            return [row for row in found if row is not None]
        rows = [_ticker_row(market, engine_us, length_s) for market in self._markets.values()]
        return [row for row in rows if row is not None]

    def _klines(self, query: Query, engine_us: int) -> Answer:
        interval = query.choice("interval", "KlineInterval", KLINE_INTERVALS)
        query.choice("priceType", "KlinePriceType", ("Last", "Index", "Mark"), default="Last")
        now_s = engine_us // 1_000_000
        from_s, to_s = query.second("startTime"), query.second("endTime", default=now_s)
        if _is_external(query):
            security = security_of(self._listing(query))
            return [] if security is None else external_candles(security, interval, from_s, min(to_s, now_s))
        market = self._market(query)
        if market is None:
            return []
        market.tape.roll(now_s)
        return [_kline_row(market.listing, candle) for candle in market.tape.candles(interval, from_s, to_s)]

    @staticmethod
    def _external_ticker(listing: Listing, engine_us: int) -> dict[str, str] | None:
        security = security_of(listing)
        return None if security is None else external_ticker(listing, security, engine_us // 1_000_000)

    def _trades(self, query: Query, _engine_us: int) -> Answer:
        limit = query.integer("limit", 100, minimum=1, maximum=1_000)
        # Only the history knows an offset. The other route passes over it, as over any parameter it does not have.
        offset = query.integer("offset", 0, minimum=0, maximum=10**9) if query.path.endswith("/history") else 0
        market = self._market(query)
        return [] if market is None else [_trade_row(market.listing, trade) for trade in market.tape.trades(limit, offset)]

    def _mark_prices(self, query: Query, engine_us: int) -> Answer:
        kind = query.choice("marketType", "MarketType", _MARKET_TYPES, default="PERP")
        return [
            {
                "fundingRate": stripped(reference.funding, RATE_DECIMALS),
                "indexPrice": stripped(reference.index, INDEX_DECIMALS),
                "markPrice": stripped(reference.mark, market.listing.price_decimals),
                "nextFundingTimestamp": next_funding_ms(engine_us),
                "symbol": market.symbol,
            }
            for market, reference in self._perpetuals(query)
            if kind == "PERP"
        ]

    def _open_interest(self, query: Query, engine_us: int) -> Answer:
        return [
            {
                "openInterest": stripped(reference.open_interest, market.listing.quantity_decimals),
                "symbol": market.symbol,
                "timestamp": engine_us // 1000,
            }
            for market, reference in self._perpetuals(query)
        ]

    def _funding_rates(self, query: Query, engine_us: int) -> Answer:
        limit = query.integer("limit", 100, minimum=1, maximum=10_000)
        offset = query.integer("offset", 0, minimum=0, maximum=10**9)
        market = self._market(query)
        if market is None or market.reference is None:
            return []
        interval_s = FUNDING_INTERVAL_US // 1_000_000
        running_end_s = next_funding_ms(engine_us) // 1000
        rows = [(running_end_s, market.reference.funding)] if offset == 0 else []
        skipped = max(0, offset - 1)
        count = max(0, min(limit - len(rows), _FUNDING_ROWS - skipped))
        rows += market.reference.past_rates(market.seed, running_end_s - interval_s, count, skipped)
        return [
            {
                "fundingRate": stripped(rate, RATE_DECIMALS),
                "intervalEndTimestamp": iso_time(end_s),
                "symbol": market.symbol,
            }
            for end_s, rate in rows
        ]

    def _assets(self, _query: Query, _engine_us: int) -> Answer:
        spot = [listing.base for listing in self._listings.values() if not listing.perpetual]
        stocks = [_asset(security.asset, security.name, []) for security in SECURITIES.values()]
        names = ((symbol, _ASSET_NAMES.get(symbol, symbol)) for symbol in [*spot, "USDC"] if symbol not in SECURITIES)
        return [_asset(symbol, name, [_token(name)]) for symbol, name in names] + stocks

    def _listing(self, query: Query) -> Listing:
        listing = self._listings.get(query.required("symbol"))
        if listing is None:
            raise _invalid(query, "Invalid market symbol")
        return listing

    def _market(self, query: Query) -> SimulatedMarket | None:
        """The market that is asked for, or None when it is listed but Closed."""
        return self._markets.get(self._listing(query).symbol)

    def _perpetuals(self, query: Query) -> list[tuple[SimulatedMarket, Reference]]:
        """The perpetuals that are open, or the one that is asked for."""
        symbol = query.optional("symbol")
        found = [
            (market, market.reference)
            for market in self._markets.values()
            if market.reference is not None and symbol in {None, market.symbol}
        ]
        if symbol is not None and not found:
            raise _invalid(query, "Symbol not found")
        return found


def _asset(symbol: str, name: str, tokens: list[dict[str, object]]) -> dict[str, object]:
    """An asset, with a token for each blockchain. A stock does not have one."""
    return {"coingeckoId": None, "displayName": name, "symbol": symbol, "tokens": tokens}


def _token(name: str) -> dict[str, object]:
    return {
        "blockchain": "Solana",
        "contractAddress": None,
        "depositEnabled": True,
        "displayName": name,
        "maximumWithdrawal": None,
        "minimumDeposit": "0.01",
        "minimumWithdrawal": "0.02",
        "nativeDecimals": 9,
        "withdrawEnabled": True,
        "withdrawalFee": "0.01",
    }


def _unserved(given: RequestReceived, path: str) -> Respond:
    """The answer to a call that is not served here: in words where the exchange has it."""
    method = given.method.upper()
    if f"{method} {path}" in _OF_THE_WEB_SESSION:
        return refuse(given.request_id, ApiError(status=401, code="UNAUTHORIZED", message="Unauthorized", endpoint=""))
    if f"{method} {path}" not in _KNOWN:
        return Respond(given.request_id, 404, TEXT, b"404 not found")
    message = f"The simulated exchange does not do {method} {path} yet; docs/sandbox.md lists what it does"
    return refuse(given.request_id, ApiError(status=501, code="NOT_IMPLEMENTED", message=message, endpoint=""))


def _is_external(query: Query) -> bool:
    source = query.optional("source")
    return source is not None and query.one_of("source", "DataSource", _SOURCES, source) == "External"


def _invalid(query: Query, message: str) -> ApiError:
    return ApiError(status=400, code="INVALID_CLIENT_REQUEST", message=message, endpoint=f"GET {query.path}")


def _ticker_length(query: Query) -> int:
    return DAY_S if query.choice("interval", "TickerInterval", ("1d", "1w"), default="1d") == "1d" else 7 * DAY_S


def _ticker_row(market: SimulatedMarket, engine_us: int, length_s: int) -> dict[str, str] | None:
    now_s = engine_us // 1_000_000
    market.tape.roll(now_s)
    day = market.tape.rolling(now_s, length_s)
    if day.open is None or day.high is None or day.low is None or day.close is None:
        return None
    listing = market.listing
    change = day.close - day.open
    return {
        "firstPrice": stripped(day.open, listing.price_decimals),
        "high": stripped(day.high, listing.price_decimals),
        "lastPrice": stripped(day.close, listing.price_decimals),
        "low": stripped(day.low, listing.price_decimals),
        "priceChange": stripped(change, listing.price_decimals),
        "priceChangePercent": stripped((2 * change * 10**6 + day.open) // (2 * day.open), 6),
        "quoteVolume": stripped(day.paid, listing.price_decimals + listing.quantity_decimals),
        "symbol": market.symbol,
        "trades": str(day.trades),
        "volume": stripped(day.lots, listing.quantity_decimals),
    }


def _kline_row(listing: Listing, candle: TapedCandle) -> dict[str, str | None]:
    def price(ticks: int | None) -> str | None:
        return None if ticks is None else stripped(ticks, listing.price_decimals)

    return {
        "close": price(candle.close),
        "end": iso_time(candle.end_s, " "),
        "high": price(candle.high),
        "low": price(candle.low),
        "open": price(candle.open),
        "quoteVolume": stripped(candle.paid, listing.price_decimals + listing.quantity_decimals),
        "start": iso_time(candle.start_s, " "),
        "trades": str(candle.trades),
        "volume": stripped(candle.lots, listing.quantity_decimals),
    }


def _trade_row(listing: Listing, trade: TapedTrade) -> dict[str, object]:
    return {
        "id": trade.trade_id,
        "isBuyerMaker": trade.buyer_is_maker,
        "price": stripped(trade.price, listing.price_decimals),
        "quantity": stripped(trade.lots, listing.quantity_decimals),
        "quoteQuantity": stripped(trade.price * trade.lots, listing.price_decimals + listing.quantity_decimals),
        "timestamp": trade.engine_us // 1000,
    }

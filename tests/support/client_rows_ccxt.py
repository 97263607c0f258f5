"""What ccxt calls over REST: every method that its `has` affirms, and every route that it describes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from backpack_proto.rest.endpoints.table import ENDPOINTS
from client_driver import Client, equal
from client_rows import PERPETUAL, RESTING, SPOT, Row, gone, listed, same, submitted
from client_scenes import RFQ, quoted, submitted_rfq, wait_for_quote

__all__ = ["CODES", "FUTURE", "SOL", "iso_ms", "order_of", "rows"]

SOL, FUTURE = "SOL/USDC", "SOL/USDC:USDC"
CODES = {SOL: SPOT, FUTURE: PERPETUAL}
NO_INSTRUCTION = "knows no instruction for the route, and signs an empty one"
COST_AS_QUANTITY = "passes the cost on as the quantity of the base asset"
Holds = Callable[[Client, Any, list[Any]], bool]


def rows() -> Iterator[Row]:
    """Every call."""
    yield from _market_data()
    yield from _account()
    yield from _orders()
    yield from _conversions()
    yield from _routes()


def seen(call: str, name: str, asked: Any, shown: Callable[[Any], Any], stated: Callable[[Any], Any], **further: Any) -> Row:
    """Make a row of a call that gives members other names: both are shown in one form."""
    return Row(
        call,
        look=lambda client: client.served.peek(name, asked(client) if callable(asked) else asked),
        holds=lambda _client, returned, truths: equal(shown(returned), stated(truths[-1])),
        **further,
    )


def iso_ms(text: str) -> int:
    """A time of the exchange, which is UTC without a zone, in milliseconds."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000 + moment.microsecond // 1_000


def _book(answer: Any, levels: int) -> list[Any]:
    return [answer["bids"][::-1][:levels], answer["asks"][:levels], answer["lastUpdateId"]]


def _candle(row: Mapping[str, Any]) -> list[Any]:
    return [iso_ms(row["start"]), row["open"], row["high"], row["low"], row["close"], row["volume"]]


def _ticker(row: Mapping[str, Any]) -> list[Any]:
    members = ("firstPrice", "lastPrice", "high", "low", "volume", "quoteVolume", "priceChange")
    return [row[name] for name in members] + [Decimal(row["priceChangePercent"]) * 100]


def _shown_ticker(row: Mapping[str, Any]) -> list[Any]:
    return [row[name] for name in ("open", "last", "high", "low", "baseVolume", "quoteVolume", "change", "percentage")]


def _minute(client: Client) -> int:
    """The first minute of those that are asked for, in milliseconds."""
    start_ms: int = client.notes.setdefault("minute", client.served.unix_us // 60_000_000 * 60_000 - 600_000)
    return start_ms


def _candles(call: str, **further: Any) -> Row:
    return seen(
        call,
        "klines",
        lambda client: {
            "symbol": PERPETUAL,
            "interval": "1m",
            "startTime": _minute(client) // 1_000,
            "endTime": _minute(client) // 1_000 + 300,
        },
        list,
        lambda truth: [_candle(row) for row in truth][:5],
        positional=lambda client: [FUTURE, "1m", _minute(client), 5],
        **further,
    )


def _market_data() -> Iterator[Row]:
    spot, perpetual = {"symbol": SPOT}, {"symbol": PERPETUAL}
    yield Row(
        "fetchMarkets",
        look=lambda client: [client.served.peek("markets"), client.served.peek("securities")],
        holds=_markets,
        note="names, ticks, steps and states; one more market for each security",
    )
    yield seen(
        "fetchCurrencies",
        "assets",
        {},
        lambda found: sorted([row["id"], *(net["fee"] for net in row["networks"].values())] for row in found.values()),
        lambda truth: sorted([row["symbol"], *(net["withdrawalFee"] for net in row["tokens"])] for row in truth),
        note="names, networks and fees",
    )
    yield seen("fetchTicker", "ticker", spot, _shown_ticker, _ticker, positional=[SOL], note="all eight numbers")
    yield seen(
        "fetchTickers",
        "tickers",
        {},
        lambda found: [_shown_ticker(found[SOL]), _shown_ticker(found[FUTURE])],
        lambda truth: [_ticker(row) for row in truth if row["symbol"] in CODES.values()],
        positional=[[SOL, FUTURE]],
        note="all eight numbers of each",
    )
    yield Row(
        "fetchOrderBook",
        positional=[SOL, 20],
        look=lambda client: client.served.peek("depth", {**spot, "limit": 20}),
        holds=_book_holds,
        note="every level, best first, and the update id; beside the book itself, too",
    )
    yield seen(
        "fetchL2OrderBook",
        "depth",
        {**spot, "limit": 50},
        lambda found: [found["bids"], found["asks"], found["nonce"]],
        lambda truth: _book(truth, 50),
        positional=[SOL, 50],
        note="every level, best first, and the update id",
    )
    yield _candles("fetchOHLCV", note="every candle")
    yield _candles("fetchMarkOHLCV", note="every candle")
    yield _candles("fetchIndexOHLCV", note="every candle")
    yield seen(
        "fetchFundingRate",
        "mark_prices",
        perpetual,
        lambda found: [found["markPrice"], found["indexPrice"], found["fundingRate"], found["nextFundingTimestamp"]],
        lambda truth: [truth[0][name] for name in ("markPrice", "indexPrice", "fundingRate", "nextFundingTimestamp")],
        positional=[FUTURE],
        note="marks and rate; the rate of the running interval is called `fundingRate`",
    )
    yield seen(
        "fetchFundingRateHistory",
        "funding_rates",
        {**perpetual, "limit": 5},
        lambda found: [[row["fundingRate"], row["timestamp"]] for row in found],
        lambda truth: [[row["fundingRate"], iso_ms(row["intervalEndTimestamp"])] for row in reversed(truth)],
        positional=[FUTURE, None, 5],
        note="rates and times",
    )
    yield seen(
        "fetchOpenInterest",
        "open_interest",
        perpetual,
        lambda found: [found["openInterestValue"], found["timestamp"], found["openInterestAmount"]],
        lambda truth: [truth[0]["openInterest"], truth[0]["timestamp"], None],
        positional=[FUTURE],
        fault="calls the amount, in the base asset, the value",
    )
    yield Row(
        "fetchOpenInterestHistory",
        positional=[FUTURE],
        fault="says in `has` that it can, and cannot; the exchange has no such call",
        refused="NotSupported",
    )
    yield seen(
        "fetchTrades",
        "trades",
        {**spot, "limit": 10},
        lambda found: [[row["id"], row["price"], row["amount"], row["cost"], row["timestamp"], row["side"]] for row in found],
        lambda truth: [
            [
                row["id"],
                row["price"],
                row["quantity"],
                row["quoteQuantity"],
                row["timestamp"],
                "sell" if row["isBuyerMaker"] else "buy",
            ]
            for row in sorted(truth, key=lambda row: row["timestamp"])
        ],
        positional=[SOL, None, 10],
        note="every trade",
    )
    yield seen("fetchStatus", "status", {}, lambda found: found["status"], lambda truth: truth["status"].lower())
    yield Row(
        "fetchTime",
        look=lambda client: client.served.peek("time"),
        holds=lambda _client, returned, truths: equal(returned, truths[-1][0]),
        fault="takes the first digit of the answer for the time",
    )


def _markets(_client: Client, returned: Any, truths: list[Any]) -> bool:
    markets, securities = truths[-1]
    shown = {row["id"]: [row["precision"]["price"], row["precision"]["amount"], row["active"], row["swap"]] for row in returned}
    stated = {
        row["symbol"]: [
            row["filters"]["price"]["tickSize"],
            row["filters"]["quantity"]["stepSize"],
            row["orderBookState"] == "Open",
            row["marketType"] == "PERP",
        ]
        for row in markets
    }
    stocks = {f"{row['asset']}_USDC_RFQ" for row in securities}
    return (
        shown.keys() - stocks == stated.keys()
        and stocks <= shown.keys()
        and all(equal(shown[name], stated[name]) for name in stated)
    )


def _book_holds(client: Client, returned: Any, truths: list[Any]) -> bool:
    bids, asks, update_id = client.served.read(lambda: client.served.exchange.levels(SPOT))
    own = [[[level.price, level.quantity] for level in side[:20]] for side in (bids, asks)] + [update_id]
    shown = [returned["bids"], returned["asks"], returned["nonce"]]
    return equal(shown, _book(truths[-1], 20)) and equal(shown, own)


def _account() -> Iterator[Row]:
    yield Row(
        "fetchBalance",
        look=lambda client: dict(client.served.exchange.account.balances),
        holds=lambda _client, returned, truths: equal(
            {asset: [returned[asset]["free"], returned[asset]["used"]] for asset in returned["free"]},
            {asset: [held.available, held.locked] for asset, held in truths[-1].items()},
        ),
        note="available and locked of every asset; `free` is not the buying power on cross margin",
    )
    yield Row(
        "fetchPositions",
        look=lambda client: dict(client.served.exchange.account.positions),
        holds=lambda _client, returned, truths: equal(
            [
                [
                    row["info"]["symbol"],
                    row["contracts"],
                    row["entryPrice"],
                    row["markPrice"],
                    row["unrealizedPnl"],
                    row["side"],
                ]
                for row in returned
            ],
            [position_of(held) for held in truths[-1].values()],
        ),
        before=_without_orders,
        note="size, entry, mark, profit and side of every position",
    )
    yield Row(
        "fetchPositions",
        look=lambda client: client.served.peek("positions"),
        before=lambda client: client.served.ask("place_order", {**RESTING, "symbol": PERPETUAL, "price": "82.25"}),
        variant="beside an open order",
        fault="takes `netExposureQuantity` for the size, which counts open orders",
        holds=lambda _client, returned, truths: equal(
            [[row["contracts"] for row in returned], truths[-1][0]["netExposureQuantity"] != truths[-1][0]["netQuantity"]],
            [[row["netExposureQuantity"] for row in truths[-1]], True],
        ),
    )
    yield seen(
        "fetchMyTrades",
        "fill_history",
        {"symbol": PERPETUAL},
        lambda found: [
            [row["id"], row["order"], row["price"], row["amount"], row["fee"]["cost"], row["timestamp"]] for row in found
        ],
        lambda truth: [
            [row["tradeId"], row["orderId"], row["price"], row["quantity"], row["fee"], iso_ms(row["timestamp"])]
            for row in reversed(truth)
        ],
        positional=[FUTURE],
        note="number, order, price, quantity, fee and time of every fill",
    )
    yield seen(
        "fetchFundingHistory",
        "funding_history",
        {},
        lambda found: [[row["amount"], row["rate"], row["timestamp"]] for row in found],
        lambda truth: [[row["quantity"], row["fundingRate"], iso_ms(row["intervalEndTimestamp"])] for row in reversed(truth)],
        note="every payment",
    )
    moved = ("id", "quantity", "symbol", "status")

    def shown(found: Any) -> Any:
        states = {"ok": "confirmed"}
        return [[row["id"], row["amount"], row["currency"], states.get(row["status"], row["status"])] for row in found]

    def stated(truth: Any) -> Any:
        return sorted(([row[name] for name in moved] for row in truth), key=lambda row: int(row[0]))

    for call, name in (("fetchDeposits", "deposits"), ("fetchWithdrawals", "withdrawals")):
        yield seen(
            call,
            name,
            {},
            lambda found: sorted(shown(found), key=lambda row: int(row[0])),
            stated,
            note="number, quantity, asset and state of each",
        )
    yield Row(
        "fetchDeposits",
        positional=[None, None, None, {"until": 1_000}],
        variant="with an end",
        fault="sends `endTime`, the parameter is `to`: later deposits come as well",
        look=lambda client: [client.served.peek("deposits"), client.served.peek("deposits", {"to": 1_000})],
        holds=lambda _client, returned, truths: [len(returned), 0] == [len(truth) for truth in truths[-1]],
    )
    yield seen(
        "fetchWithdrawals",
        "withdrawals",
        {"to": 1_000},
        list,
        list,
        positional=[None, None, None, {"until": 1_000}],
        variant="with an end",
    )
    yield seen(
        "fetchDepositAddress",
        "deposit_address",
        {"blockchain": "Solana"},
        lambda found: found["address"],
        lambda truth: truth["address"],
        positional=["SOL", {"network": "SOL"}],
    )
    yield Row(
        "withdraw",
        positional=["SOL", 1.25, "elsewhere", {"network": "SOL"}],
        holds=lambda client, returned, truths: (
            listed("withdrawals", "id")(client, returned["info"], truths)
            and equal([returned["amount"], returned["currency"]], ["1.25", "SOL"])
        ),
    )


def position_of(held: Any) -> list[Any]:
    """A position of the account as ccxt's names order it."""
    side = "long" if held.net_quantity > 0 else "short"
    return [held.symbol, abs(held.net_quantity), held.entry_price, held.mark_price, held.unrealized_pnl, side]


def _without_orders(client: Client) -> None:
    client.served.ask("cancel_all_orders", {"symbol": PERPETUAL})


def order_of(client: Client, returned: Mapping[str, Any], *, filled: bool = False) -> bool:
    """Whether an order that was returned is one of the account, number by number."""
    account = client.served.exchange.account
    [order] = client.served.read(lambda: [item.shown for item in account.by_id[str(returned["id"])]])
    side = "buy" if order.side.value == "Bid" else "sell"
    shown = [returned["side"], returned["filled"], CODES[returned["symbol"]]]
    stated: list[Any] = [side, order.executed_quantity, order.symbol]
    if not filled:
        shown += [returned["price"], returned["amount"]]
        stated += [order.price, order.quantity]
    return equal(shown, stated)


def _as_held(client: Client, returned: Any, _truths: list[Any]) -> bool:
    """Hold where a resting order is as the account has it."""
    return order_of(client, returned)


def _filled(client: Client, returned: Any, _truths: list[Any]) -> bool:
    return bool(returned["status"] == "closed" and order_of(client, returned, filled=True))


def _bought(quantity: str) -> Holds:
    return lambda client, returned, truths: _filled(client, returned, truths) and equal(returned["filled"], quantity)


def _orders() -> Iterator[Row]:
    limit = [SOL, "limit", "buy", 1.5, 79.25]
    post = {"postOnly": True}
    yield Row("createOrder", positional=[*limit, post], holds=_as_held, keep="order")
    yield Row("fetchOpenOrder", positional=lambda client: [client.notes["order"]["id"], SOL], holds=_as_held)
    yield Row("fetchOrder", positional=lambda client: [client.notes["order"]["id"], SOL], holds=_as_held)
    yield Row(
        "fetchOpenOrders",
        positional=[SOL],
        holds=lambda client, returned, _truths: (
            {row["id"] for row in returned} == _open_ids(client, SPOT) and all(order_of(client, row) for row in returned)
        ),
        note="every open order",
    )
    yield Row(
        "fetchOrders",
        positional=[SOL],
        holds=lambda client, returned, _truths: (
            {row["id"] for row in returned} == _all_ids(client, SPOT)
            and all(order_of(client, row, filled=True) for row in returned)
        ),
        note="every order there ever was",
    )
    yield Row(
        "editOrder",
        positional=lambda client: [client.notes["order"]["id"], SOL, "limit", "buy", 1.25, 79.5, post],
        holds=lambda client, returned, truths: (
            _as_held(client, returned, truths) and client.notes["order"]["id"] not in _open_ids(client, SPOT)
        ),
        keep="order",
        note="it cancels, and places another one",
    )
    yield Row(
        "cancelOrder",
        positional=lambda client: [client.notes["order"]["id"], SOL],
        holds=lambda client, returned, truths: gone(client, returned["info"], truths) and returned["status"] == "canceled",
    )
    yield Row("createLimitOrder", positional=[SOL, "buy", 1.5, 79.25], holds=_as_held)
    yield Row("createLimitBuyOrder", positional=[SOL, 1.75, 79], holds=_as_held)
    yield Row("createLimitSellOrder", positional=[SOL, 1.25, 130.5], holds=_as_held)
    yield Row(
        "createPostOnlyOrder",
        positional=limit,
        holds=lambda client, returned, _t: order_of(client, returned) and returned["postOnly"],
    )
    yield Row(
        "createOrders",
        positional=[
            [
                {"symbol": SOL, "type": "limit", "side": "buy", "amount": 1.5, "price": price, "params": post}
                for price in (78.5, 78.75)
            ]
        ],
        holds=lambda client, returned, _truths: len(returned) == 2 and all(order_of(client, row) for row in returned),
    )
    yield Row("createMarketOrder", positional=[SOL, "buy", 0.5], holds=_bought("0.5"))
    yield Row("createMarketBuyOrder", positional=[SOL, 0.25], holds=_bought("0.25"))
    yield Row("createMarketSellOrder", positional=[SOL, 0.75], holds=_bought("0.75"))
    yield Row("createMarketOrderWithCost", positional=[SOL, "buy", 12], holds=_bought("12"), fault=COST_AS_QUANTITY)
    for call, option in (
        ("createMarketBuyOrderWithCost", "createMarketBuyOrderRequiresPrice"),
        ("createMarketSellOrderWithCost", "createMarketSellOrderRequiresPrice"),
    ):
        missing = f"looks for the option `{option}`, which its Backpack class does not have"
        yield Row(call, positional=[SOL, 12], fault=missing, refused=f"KeyError: '{option}'")
    yield Row(
        "createOrder",
        positional=[SOL, "market", "buy", 0, None, {"cost": "50"}],
        variant="with a cost",
        holds=lambda client, returned, truths: _filled(client, returned, truths) and 0 < returned["cost"] <= 50,
    )
    yield Row(
        "createReduceOnlyOrder",
        positional=[FUTURE, "limit", "sell", 1, 120],
        holds=lambda client, returned, _truths: order_of(client, returned) and returned["reduceOnly"],
    )
    yield Row(
        "createTriggerOrder",
        positional=[FUTURE, "market", "sell", 1, None, 60],
        holds=lambda client, returned, _truths: (
            equal(
                [
                    [row["side"], row["triggerPrice"], row["triggerQuantity"]]
                    for row in client.served.ask("open_orders", {"symbol": PERPETUAL})
                    if row["id"] == returned["id"]
                ],
                [["Ask", "60", "1"]],
            )
            and equal(returned["triggerPrice"], 60)
        ),
    )
    yield Row(
        "createOrderWithTakeProfitAndStopLoss",
        positional=[FUTURE, "limit", "buy", 1, 79, 140, 60],
        holds=lambda client, returned, _truths: (
            order_of(client, returned) and equal([returned["takeProfitPrice"], returned["stopLossPrice"]], [140, 60])
        ),
    )
    yield Row(
        "cancelAllOrders",
        positional=[SOL],
        holds=lambda client, returned, truths: (
            gone(client, [row["info"] for row in returned], truths) and not _open_ids(client, SPOT)
        ),
    )


def _open_ids(client: Client, symbol: str) -> set[str]:
    return {str(number) for number, order in client.served.exchange.account.open_orders.items() if order.symbol == symbol}


def _all_ids(client: Client, symbol: str) -> set[str]:
    return {str(order.order_id) for order in client.served.exchange.account.history if order.symbol == symbol}


def _conversions() -> Iterator[Row]:
    quote = {"symbol": "AAPL.US", "side": "Ask", "quantity": "2"}
    yield seen(
        "fetchConvertQuote",
        "stock_indicative_quote",
        quote,
        lambda found: [found["price"], found["toAmount"], found["fromAmount"]],
        lambda truth: [truth["price"], truth["quoteQuantity"], 2],
        positional=["AAPL.US", "USDC", 2],
        note="price and amounts",
    )
    yield Row(
        "createConvertTrade",
        positional=["4711", "USDC", "AAPL.US", 2_000, {"price": 400}],
        holds=lambda client, returned, _truths: any(
            str(row["rfqId"]) == str(returned["id"])
            and equal([row["symbol"], row["quantity"], row["clientId"]], ["AAPL.US_USDC_RFQ", 5, 4711])
            for row in client.served.ask("rfq_history")
        ),
        note="the request for quote",
    )


GIVEN: Mapping[str, Any] = {
    "borrow_lend_markets_history": {"interval": "1d"},
    "market": {"symbol": SPOT},
    "ticker": {"symbol": SPOT},
    "depth": {"symbol": SPOT},
    "stock_indicative_quote": {"symbol": "AAPL.US", "side": "Bid", "quantity": "3"},
    "klines": lambda client: {"symbol": SPOT, "interval": "1m", "startTime": _minute(client) // 1_000},
    "open_interest": {"symbol": PERPETUAL},
    "funding_rates": {"symbol": PERPETUAL},
    "trades": {"symbol": SPOT},
    "trades_history": {"symbol": SPOT, "offset": 1},
    "max_borrow_quantity": {"symbol": "SOL"},
    "max_order_quantity": {"symbol": SPOT, "side": "Bid", "price": "80.5"},
    "max_withdrawal_quantity": {"symbol": "SOL"},
    "borrow_lend_liquidation_price": {"borrow": b64encode(b'{"quantity":"1","side":"Borrow","symbol":"SOL"}').decode()},
    "deposit_address": {"blockchain": "Solana"},
    "order": lambda client: {"symbol": SPOT, "orderId": client.notes["order"]["id"]},
}
"""What a route needs."""
UNSIGNED = {
    "position_history": {},
    "strategy": {"symbol": SPOT, "strategyId": "1"},
    "open_strategies": {},
    "convert_dust": {"symbol": "USDT"},
    "create_strategy": {"symbol": SPOT, "side": "Bid", "strategyType": "Scheduled", "quantity": "10"},
    "cancel_strategy": {"symbol": SPOT, "strategyId": "1"},
    "cancel_all_strategies": {"symbol": SPOT},
}
"""Routes that it has no instruction for, and what it is asked to send there."""


def _routes() -> Iterator[Row]:
    """The implicit calls: reads first of all, for the orders of the others are there still."""
    yield Row("POST /api/v1/order", positional=[RESTING], holds=submitted, keep="order")
    for name, endpoint in ENDPOINTS.items():
        routes = (endpoint.route, *(route for route in endpoint.former if " " in route))
        for route in routes:
            if name in UNSIGNED:
                yield Row(route, positional=[UNSIGNED[name]], fault=NO_INSTRUCTION, refused="Invalid signature")
            elif endpoint.method == "GET" and name not in NOT_DESCRIBED:
                given = GIVEN.get(name, {})
                yield same(route, name, asked=given, positional=_listed(given))
    yield from _writes()


NOT_DESCRIBED = frozenset({"vaults", "vaults_history", "pending_vault_redeems", "vault_nav"})
"""Reads that it has no route for."""


def _listed(given: Any) -> Any:
    return (lambda client: [given(client)]) if callable(given) else [given]


def _writes() -> Iterator[Row]:
    yield Row(
        "POST /api/v1/order",
        positional=[
            {"symbol": PERPETUAL, "side": "Ask", "orderType": "Market", "triggerPrice": "60", "triggerQuantity": "80%"},
        ],
        variant="with a percentage",
        fault="signs values percent-encoded, and the exchange signs them as they are",
        refused="Invalid signature",
    )
    yield Row("DELETE /api/v1/order", positional=lambda client: [GIVEN["order"](client)], holds=gone)
    yield Row(
        "POST /api/v1/orders",
        positional=[[RESTING, {**RESTING, "price": "80.5"}]],
        holds=lambda client, returned, truths: len(returned) == 2 and all(submitted(client, row, truths) for row in returned),
    )
    yield Row("DELETE /api/v1/orders", positional=[{"symbol": SPOT}], holds=gone)
    yield Row(
        "PATCH /api/v1/account",
        positional=[{"leverageLimit": "7"}],
        holds=lambda client, _returned, _truths: equal(client.served.ask("account")["leverageLimit"], 7),
    )
    yield Row(
        "POST /api/v1/borrowLend",
        positional=[{"quantity": "2.5", "side": "Lend", "symbol": "BTC"}],
        holds=lambda client, _returned, _truths: equal(
            [row["netQuantity"] for row in client.served.ask("borrow_lend_positions") if row["symbol"] == "BTC"], ["2.5"]
        ),
        note="what is lent has grown by it",
    )
    yield Row(
        "POST /wapi/v1/capital/withdrawals",
        positional=[{"address": "elsewhere", "symbol": "SOL", "blockchain": "Solana", "quantity": "2.25"}],
        holds=listed("withdrawals", "id"),
    )
    yield Row("POST /api/v1/rfq", positional=[RFQ], holds=submitted_rfq, keep="rfq")
    yield Row(
        "POST /api/v1/rfq/accept",
        positional=lambda client: [{"rfqId": client.notes["rfq"]["rfqId"], "quoteId": client.notes["quote"]}],
        before=wait_for_quote,
        holds=_ended("Filled"),
        note="the request is filled",
    )
    yield Row("POST /api/v1/rfq", positional=[RFQ], variant="again", holds=submitted_rfq, keep="rfq")
    yield Row(
        "POST /api/v1/rfq/cancel",
        positional=lambda client: [{"rfqId": client.notes["rfq"]["rfqId"]}],
        holds=_ended("Cancelled"),
        note="the request is cancelled",
    )
    yield Row(
        "POST /api/v1/rfq/quote",
        positional=lambda client: [{"rfqId": client.notes["asked"]["rfqId"], "bidPrice": "70.25", "askPrice": "130.5"}],
        holds=quoted,
    )


def _ended(status: str) -> Holds:
    def holds(client: Client, _returned: Any, _truths: list[Any]) -> bool:
        number = str(client.notes["rfq"]["rfqId"])
        return [row["status"] for row in client.served.ask("rfq_history") if str(row["rfqId"]) == number] == [status]

    return holds

"""What ccxt reads over REST by its own methods: market data, and the account."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from client_driver import Client, equal
from client_rows import PERPETUAL, RESTING, SPOT, Row, listed

__all__ = ["CODES", "FUTURE", "SOL", "account", "iso_ms", "market_data", "minute_of", "order_of", "seen"]

SOL, FUTURE = "SOL/USDC", "SOL/USDC:USDC"
CODES = {SOL: SPOT, FUTURE: PERPETUAL}


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


def minute_of(client: Client) -> int:
    """The first minute of those that are asked for, in milliseconds."""
    start_ms: int = client.notes.setdefault("minute", client.served.unix_us // 60_000_000 * 60_000 - 600_000)
    return start_ms


def _candles(call: str, price_type: str) -> Row:
    return seen(
        call,
        "klines",
        lambda client: {
            "symbol": PERPETUAL,
            "interval": "1m",
            "startTime": minute_of(client) // 1_000,
            "endTime": minute_of(client) // 1_000 + 300,
            "priceType": price_type,
        },
        list,
        lambda truth: [_candle(row) for row in truth][:5],
        positional=lambda client: [FUTURE, "1m", minute_of(client), 5],
        note="every candle",
    )


def market_data() -> Iterator[Row]:
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
    yield Row(
        "fetchCurrenciesWs",
        fault="says in `has` that it emulates it, and has no such method",
        refused="AttributeError",
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
    yield _candles("fetchOHLCV", "Last")
    yield _candles("fetchMarkOHLCV", "Mark")
    yield _candles("fetchIndexOHLCV", "Index")
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


def account() -> Iterator[Row]:
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
    """Return whether an order that was returned is one of the account, number by number."""
    account = client.served.exchange.account
    [order] = client.served.read(lambda: [item.shown for item in account.by_id[str(returned["id"])]])
    side = "buy" if order.side.value == "Bid" else "sell"
    shown = [returned["side"], returned["filled"], CODES[returned["symbol"]]]
    stated: list[Any] = [side, order.executed_quantity, order.symbol]
    if not filled:
        shown += [returned["price"], returned["amount"]]
        stated += [order.price, order.quantity]
    return equal(shown, stated)

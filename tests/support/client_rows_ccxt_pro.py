"""What ccxt.pro watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from client_driver import Client, equal
from client_rows import OTHER, PERPETUAL, RESTING, SPOT, Row
from client_rows_ccxt_reads import CODES, FUTURE, SOL, iso_ms, order_of
from client_scenes import trade

__all__ = ["rows"]

CLOSE_TIME = "takes the end of a candle for its time; its REST side takes the start"


def rows() -> Iterator[Row]:
    """Every stream, and the end of every stream."""
    yield from _market_data()
    yield from _account()
    yield from _ends()


def _market_data() -> Iterator[Row]:
    tickers: dict[str, Any] = {"look": lambda client: _peeked(client, "tickers"), "note": "six numbers"}
    yield Row("watchTicker", positional=[SOL], holds=lambda _client, shown, truths: _ticker(shown, truths), **tickers)
    yield Row(
        "watchTickers",
        positional=[[SOL, FUTURE]],
        holds=lambda _client, shown, truths: all(_ticker(row, truths) for row in shown.values()),
        **tickers,
    )
    yield Row("watchBidsAsks", positional=[[SOL]], stir=move, holds=_best, note="best bid and best ask, with their volumes")
    yield Row("watchTrades", positional=[SOL], stir=trade, holds=_trades, note="every trade")
    yield Row("watchTradesForSymbols", positional=[[SOL, FUTURE]], stir=trade, holds=_trades, note="every trade")
    book: dict[str, Any] = {"stir": move, "holds": _book, "note": "every level, at the update id that it names"}
    yield Row("watchOrderBook", positional=[SOL], **book)
    yield Row("watchOrderBookForSymbols", positional=[[SOL, FUTURE]], **book)
    candle: dict[str, Any] = {"stir": trade, "look": _running, "fault": CLOSE_TIME}
    yield Row("watchOHLCV", positional=[SOL, "1m"], holds=lambda _client, shown, truths: _candle(shown[-1], truths), **candle)
    yield Row(
        "watchOHLCVForSymbols",
        positional=[[[SOL, "1m"], [FUTURE, "1m"]]],
        holds=lambda _client, shown, truths: all(_candle(by_length["1m"][-1], truths) for by_length in shown.values()),
        **candle,
    )


def _peeked(client: Client, name: str) -> Mapping[str, Any]:
    return {row["symbol"]: row for row in client.served.peek(name)}


def _ticker(shown: Mapping[str, Any], truths: list[Any]) -> bool:
    members = ("firstPrice", "lastPrice", "high", "low", "volume", "quoteVolume")
    numbers = [shown[name] for name in ("open", "last", "high", "low", "baseVolume", "quoteVolume")]
    return any(equal(numbers, [truth[CODES[shown["symbol"]]][name] for name in members]) for truth in truths)


def move(client: Client) -> None:
    """Let the other account improve the book, and take that back."""
    best = client.served.read(lambda: client.served.exchange.levels(SPOT))
    bid, ask = best[0][0].price, best[1][0].price
    better = bid + Decimal("0.01") if ask - bid > Decimal("0.01") else bid
    order = client.served.ask("place_order", {**RESTING, "price": str(better), "quantity": "3.25"}, OTHER)
    client.served.ask("cancel_order", {"symbol": SPOT, "orderId": order["id"]}, OTHER)


def _levels(client: Client, update_id: int) -> list[Any]:
    sides = client.served.books[SPOT, int(update_id)]
    return [[[level.price, level.quantity] for level in side] for side in sides]


def _best(client: Client, shown: Any, _truths: list[Any]) -> bool:
    row = shown[SOL]
    bids, asks = _levels(client, row["info"]["u"])
    return equal([[row["bid"], row["bidVolume"]], [row["ask"], row["askVolume"]]], [bids[0], asks[0]])


def _book(client: Client, shown: Any, _truths: list[Any]) -> bool:
    return equal([shown["bids"], shown["asks"]], _levels(client, shown["nonce"]))


def _trades(client: Client, shown: Any, _truths: list[Any]) -> bool:
    stated = {
        row["id"]: [row["price"], row["quantity"], row["isBuyerMaker"]] for row in client.served.ask("trades", {"symbol": SPOT})
    }
    return bool(shown) and all(
        equal([row["price"], row["amount"], row["side"] == "sell"], stated[int(row["id"])]) for row in shown
    )


def _running(client: Client) -> list[Any]:
    start_s = client.served.unix_us // 60_000_000 * 60 - 60
    asked = {"interval": "1m", "startTime": start_s}
    rows = [row for symbol in (SPOT, PERPETUAL) for row in client.served.peek("klines", {**asked, "symbol": symbol})]
    return [[iso_ms(row["end"]), *(row[name] for name in ("open", "high", "low", "close", "volume"))] for row in rows]


def _candle(shown: Any, truths: list[Any]) -> bool:
    return any(equal(shown, candle) for truth in truths for candle in truth)


def _account() -> Iterator[Row]:
    yield Row(
        "watchOrders",
        positional=[SOL],
        stir=lambda client: client.served.ask("place_order", RESTING),
        holds=lambda client, shown, _truths: (
            bool(shown) and all(order_of(client, {**row, "filled": row["filled"] or 0}) for row in shown)
        ),
        note="side, price and quantity of every order",
    )
    yield Row(
        "watchOrders",
        positional=[SOL],
        before=_half_filled,
        stir=lambda client: _sell_to(client, "0.5"),
        holds=_last_fill,
        variant="of an order that fills in parts",
        fault="takes the last fill for all that was filled",
    )
    yield Row(
        "watchPositions",
        stir=lambda client: client.served.ask("place_order", {**_MARKET, "symbol": PERPETUAL}),
        look=lambda client: client.served.exchange.account.positions.get(PERPETUAL),
        holds=_position,
        fault="takes the break-even price for the entry price, and `netExposureQuantity`, which counts open orders, for the size",
    )
    yield Row(
        "watchBalance",
        stir=lambda client: client.served.ask("place_order", RESTING),
        look=lambda client: dict(client.served.exchange.account.balances),
        holds=lambda _client, shown, truths: any(
            equal([shown["USDC"]["free"], shown["USDC"]["used"]], [truth["USDC"].available, truth["USDC"].locked])
            for truth in truths
        ),
        note="available and locked",
    )


FILLS = 5
"""How many fills are looked at."""
_MARKET = {"symbol": SPOT, "side": "Bid", "orderType": "Market", "quantity": "0.25"}


def _half_filled(client: Client) -> None:
    best = client.served.read(lambda: client.served.exchange.levels(SPOT))
    price = best[1][0].price - Decimal("0.01")
    client.notes["filling"] = client.served.ask("place_order", {**RESTING, "price": str(price), "quantity": "20"})
    _sell_to(client, "0.75")


def _sell_to(client: Client, quantity: str) -> None:
    taken = {"symbol": SPOT, "side": "Ask", "orderType": "Limit", "timeInForce": "IOC", "quantity": quantity}
    client.served.ask("place_order", {**taken, "price": client.notes["filling"]["price"]}, OTHER)


def _last_fill(client: Client, shown: Any, _truths: list[Any]) -> bool:
    for _ in range(FILLS):
        for row in shown:
            told = row["info"]
            if row["id"] == client.notes["filling"]["id"] and "l" in told and Decimal(told["z"]) > Decimal(told["l"]):
                return equal(row["filled"], told["l"])
        # Only the first fill, or another order: they may have been on their way still.
        shown = client.call("watchOrders", [SOL], {}, look=None, stir=lambda: _sell_to(client, "0.5")).returned
    return False


def _position(_client: Client, shown: Any, truths: list[Any]) -> bool:
    [row] = shown
    held = [truth for truth in truths if truth is not None]
    return any(
        equal(
            [row["entryPrice"], row["info"]["q"], row["info"]["B"]],
            [truth.break_even_price, truth.net_quantity, truth.entry_price],
        )
        and truth.entry_price != truth.break_even_price
        for truth in held
    ) and equal([row["contracts"], row["info"]["Q"] != row["info"]["q"]], [row["info"]["Q"], True])


UNSENT = "gives its socket nothing to send: no UNSUBSCRIBE goes out, and the frames go on"


def _ends() -> Iterator[Row]:
    both: list[Any] = [[SOL, FUTURE]]
    candles: list[Any] = [[[SOL, "1m"], [FUTURE, "1m"]]]
    positional: list[Any]
    for call, positional, stream, later in (
        ("atchTicker", [SOL], f"ticker.{SPOT}", "BTC/USDC"),
        ("atchTickers", [[FUTURE]], f"ticker.{PERPETUAL}", "USDT/USDC"),
        ("atchBidsAsks", [[SOL]], f"bookTicker.{SPOT}", "BTC/USDC:USDC"),
    ):
        yield Row(
            f"unW{call}",
            positional=positional,
            before=_watching(f"w{call}", positional),
            holds=_heard(stream, later),
            fault=UNSENT,
        )
    for call, positional, streams in (
        ("atchTrades", [SOL], [f"trade.{SPOT}"]),
        ("atchTradesForSymbols", both, [f"trade.{SPOT}", f"trade.{PERPETUAL}"]),
        ("atchOrderBook", [SOL], [f"depth.{SPOT}"]),
        ("atchOrderBookForSymbols", both, [f"depth.{SPOT}", f"depth.{PERPETUAL}"]),
        ("atchOHLCV", [SOL, "1m"], [f"kline.1m.{SPOT}"]),
        ("atchOHLCVForSymbols", candles, [f"kline.1m.{SPOT}", f"kline.1m.{PERPETUAL}"]),
        ("atchOrders", [SOL], [f"account.orderUpdate.{SPOT}"]),
        ("atchBalance", [], ["account.balanceUpdate"]),
    ):
        yield Row(
            f"unW{call}",
            positional=positional,
            before=_watching(f"w{call}", positional),
            holds=_silent(streams),
            note="nobody listens any more",
        )
    yield Row(
        "unWatchPositions",
        before=_watching("watchPositions", []),
        holds=_silent(["account.positionUpdate"]),
        fault="unsubscribes, and then fails, for it takes a list for a dictionary",
        refused="AttributeError: .*keys",
    )


def _watching(call: str, positional: list[Any]) -> Callable[[Client], None]:
    def watch(client: Client) -> None:
        client.call(call, positional, {}, look=None, stir=_everything(client))

    return watch


def _everything(client: Client) -> Callable[[], None]:
    def stir() -> None:
        move(client)
        trade(client)
        client.served.ask("place_order", RESTING)
        client.served.ask("place_order", {**_MARKET, "symbol": PERPETUAL})

    return stir


def _silent(streams: list[str]) -> Callable[[Client, Any, list[Any]], bool]:
    return lambda client, _shown, _truths: all(client.served.unheard(stream) for stream in streams)


def _heard(stream: str, later: str) -> Callable[[Client, Any, list[Any]], bool]:
    """Hold where a stream is still sent, once a frame that goes out later has arrived."""

    def holds(client: Client, _shown: Any, _truths: list[Any]) -> bool:
        client.call("watchTickers", [[later]], {}, look=None, stir=None)
        return client.served.listeners(stream) > 0

    return holds

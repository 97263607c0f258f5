"""What backpack-exchange-sdk calls."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from client_driver import Client, equal
from client_rows import PERPETUAL, RESTING, SPOT, Row, gone, listed, same, submitted
from client_scenes import (
    PAGED,
    RFQ,
    STRATEGY,
    be_asked,
    candles,
    dust_is_gone,
    lent,
    make_dust,
    note_lent,
    quoted,
    settings,
    submitted_rfq,
    trade,
    wait_for_quote,
)

__all__ = ["rows"]

LOAN = b64encode(b'{"quantity":"1","side":"Borrow","symbol":"SOL"}').decode()
SIGNS_TRUE = "signs `true` and sends `True`"
SESSION = "belongs to the web session: the exchange documents no instruction for it, so no API key can sign it"
LIMIT = {"orderType": "Limit", "side": "Bid", "symbol": SPOT, "price": "79.25", "quantity": "1.5"}


def rows() -> Iterator[Row]:
    """Every call of the three clients."""
    yield from _public("PublicClient.")
    yield from _account("AuthenticationClient.")
    yield from _orders("AuthenticationClient.")
    yield from _requests("AuthenticationClient.")
    yield from _histories("AuthenticationClient.")
    yield from _socket("WebSocketClient.")


def _public(at: str) -> Iterator[Row]:
    spot, perpetual = {"symbol": SPOT}, {"symbol": PERPETUAL}
    yield same(f"{at}get_assets", "assets")
    yield same(f"{at}get_collateral", "collateral_parameters")
    yield same(f"{at}get_markets", "markets")
    yield same(f"{at}get_market", "market", spot, spot)
    yield same(f"{at}get_ticker", "ticker", spot, spot)
    yield same(f"{at}get_tickers", "tickers")
    yield same(f"{at}get_depth", "depth", spot, spot)
    yield same(f"{at}get_klines", "klines", candles("start_time"), candles("startTime"))
    yield same(f"{at}get_mark_price", "mark_prices", perpetual, perpetual)
    yield same(f"{at}get_open_interest", "open_interest", perpetual, perpetual)
    yield same(f"{at}get_funding_interval_rates", "funding_rates", perpetual, perpetual)
    yield same(f"{at}get_status", "status")
    yield same(f"{at}send_ping", "ping")
    yield same(f"{at}get_system_time", "time")
    yield same(f"{at}get_wallets", "wallets")
    yield same(f"{at}get_recent_trades", "trades", spot, spot)
    yield same(f"{at}get_historical_trades", "trades_history", spot, spot)
    yield same(f"{at}get_borrow_lend_markets", "borrow_lend_markets")
    yield same(f"{at}get_borrow_lend_market_history", "borrow_lend_markets_history", {"interval": "1d"}, {"interval": "1d"})
    yield same(f"{at}get_prediction_markets", "prediction_events")
    yield same(f"{at}get_prediction_tags", "prediction_tags")


def _account(at: str) -> Iterator[Row]:
    sol = {"symbol": "SOL"}
    side = {"symbol": SPOT, "side": "Bid"}
    yield same(f"{at}get_account", "account")
    yield Row(
        f"{at}update_account",
        {"autoLend": True, "leverageLimit": "7"},
        holds=lambda client, _returned, _truths: settings(client, autoLend=True, leverageLimit="7"),
    )
    yield same(f"{at}get_max_borrow_quantity", "max_borrow_quantity", sol, sol)
    yield same(f"{at}get_max_order_quantity", "max_order_quantity", {**side, "price": "80.5"}, {**side, "price": "80.5"})
    yield same(f"{at}get_max_withdrawal_quantity", "max_withdrawal_quantity", sol, sol)
    for call, given in (
        ("get_max_order_quantity", {**side, "reduceOnly": True}),
        ("get_max_withdrawal_quantity", {**sol, "autoBorrow": True}),
        ("get_deposits", {"excludePlatform": True}),
    ):
        yield Row(f"{at}{call}", given, variant="with a flag", fault=SIGNS_TRUE, refused="Invalid signature")
    yield same(f"{at}get_balances", "balances")
    yield same(f"{at}get_collateral", "collateral")
    yield same(f"{at}get_deposits", "deposits", asked=PAGED)
    yield same(f"{at}get_deposit_address", "deposit_address", {"blockchain_name": "Solana"}, {"blockchain": "Solana"})
    yield same(f"{at}get_withdrawals", "withdrawals", asked=PAGED)
    yield Row(
        f"{at}request_withdrawal",
        {"address": "elsewhere", "symbol": "SOL", "blockchain": "Solana", "quantity": "2.25"},
        holds=listed("withdrawals", "id"),
    )
    yield Row(
        f"{at}convert_dust",
        {"symbol": "USDT"},
        before=make_dust,
        holds=dust_is_gone,
        note="the dust is in the history of conversions, and nothing of it left",
    )
    delay = {"withdrawalDelayHours": 24, "twoFactorToken": "000000"}
    yield Row(f"{at}get_withdrawal_delay", fault=SESSION, refused="UNAUTHORIZED")
    yield Row(f"{at}create_withdrawal_delay", delay, fault=SESSION, refused="UNAUTHORIZED")
    yield Row(f"{at}update_withdrawal_delay", delay, fault=SESSION, refused="UNAUTHORIZED")
    yield same(f"{at}get_borrow_lend_positions", "borrow_lend_positions")
    yield Row(
        f"{at}execute_borrow_lend",
        {"quantity": "2.5", "side": "Lend", "symbol": "SOL"},
        holds=lent,
        before=note_lent,
        note="what is lent has grown by it",
    )
    yield same(f"{at}get_estimated_liquidation_price", "borrow_lend_liquidation_price", {"borrow": LOAN}, {"borrow": LOAN})
    yield same(f"{at}get_open_positions", "positions")


def _orders(at: str) -> Iterator[Row]:
    spot = {"symbol": SPOT}
    yield Row(f"{at}execute_order", {**LIMIT, "postOnly": True}, holds=submitted, keep="order")
    yield Row(
        f"{at}execute_order",
        {**LIMIT, "postOnly": True, "timeInForce": "GTC"},
        variant="post-only with a time in force",
        fault="leaves `postOnly` out where there is a time in force: the order may take",
        holds=lambda client, returned, truths: submitted(client, returned, truths) and returned["postOnly"] is not True,
    )
    yield Row(
        f"{at}execute_order",
        {
            "orderType": "Market",
            "side": "Ask",
            "symbol": PERPETUAL,
            "triggerPrice": "60",
            "triggerQuantity": "1",
            "triggerBy": "MarkPrice",
        },
        variant="with a trigger",
        holds=lambda client, returned, _truths: (
            equal(
                [row for row in client.served.ask("open_orders", {"symbol": PERPETUAL}) if row["id"] == returned["id"]],
                [returned],
            )
            and returned["triggerBy"] == "MarkPrice"
        ),
    )
    yield same(
        f"{at}get_users_open_orders",
        "order",
        lambda client: {**spot, "orderId": client.notes["order"]["id"]},
        lambda client: {**spot, "orderId": client.notes["order"]["id"]},
    )
    yield same(f"{at}get_open_orders", "open_orders", spot, spot)
    yield Row(f"{at}cancel_open_order", lambda client: {**spot, "orderId": client.notes["order"]["id"]}, holds=gone)
    yield Row(
        f"{at}execute_batch_orders",
        {"orders": [RESTING, {**RESTING, "price": "80.75", "side": "Bid"}]},
        holds=lambda client, returned, truths: (
            len(returned) == 2 and all(row["operation"] == "Ok" and submitted(client, row, truths) for row in returned)
        ),
    )
    yield Row(f"{at}cancel_open_orders", spot, holds=gone)


def _requests(at: str) -> Iterator[Row]:
    yield Row(f"{at}submit_rfq", RFQ, holds=submitted_rfq, keep="rfq")
    yield Row(f"{at}refresh_rfq", lambda client: {"rfqId": client.notes["rfq"]["rfqId"]}, holds=submitted_rfq)
    yield Row(
        f"{at}accept_quote",
        lambda client: {"rfqId": client.notes["rfq"]["rfqId"], "quoteId": client.notes["quote"]},
        before=wait_for_quote,
        holds=lambda client, _returned, _truths: _history_of(client, "rfq")["status"] == "Filled",
        note="the request is filled",
    )
    yield Row(f"{at}submit_rfq", RFQ, variant="again", holds=submitted_rfq, keep="rfq")
    yield Row(
        f"{at}cancel_rfq",
        lambda client: {"rfqId": client.notes["rfq"]["rfqId"]},
        holds=lambda client, _returned, _truths: _history_of(client, "rfq")["status"] == "Cancelled",
        note="the request is cancelled",
    )
    yield Row(
        f"{at}submit_quote",
        lambda client: {"rfqId": client.notes["asked"]["rfqId"], "bidPrice": "70.25", "askPrice": "130.5"},
        before=be_asked,
        holds=quoted,
    )
    yield Row(f"{at}create_strategy", STRATEGY, holds=listed("open_strategies", "id"), keep="strategy")
    yield same(f"{at}get_strategy", "strategy", made_strategy, made_strategy)
    yield same(f"{at}get_open_strategies", "open_strategies")
    yield Row(
        f"{at}cancel_strategy",
        made_strategy,
        holds=lambda client, returned, _truths: (
            returned["id"] not in {row["id"] for row in client.served.ask("open_strategies")}
        ),
        note="it is open no more",
    )
    yield Row(
        f"{at}cancel_all_strategies",
        {"symbol": SPOT},
        holds=lambda client, returned, _truths: bool(returned) and not client.served.ask("open_strategies"),
        note="none is open any more",
    )


def _histories(at: str) -> Iterator[Row]:
    for call, name in (
        ("get_borrow_history", "borrow_lend_history"),
        ("get_interest_history", "interest_history"),
        ("get_borrow_position_history", "borrow_lend_position_history"),
        ("get_fill_history", "fill_history"),
        ("get_funding_payments", "funding_history"),
        ("get_order_history", "order_history"),
        ("get_settlement_history", "settlement_history"),
        ("get_dust_history", "dust_history"),
        ("get_rfq_history", "rfq_history"),
        ("get_quote_history", "quote_history"),
        ("get_rfq_fill_history", "rfq_fill_history"),
        ("get_quote_fill_history", "quote_fill_history"),
        ("get_strategy_history", "strategy_history"),
        ("get_position_history", "position_history"),
    ):
        yield same(f"{at}{call}", name)


def _socket(at: str) -> Iterator[Row]:
    yield Row(
        f"{at}subscribe",
        positional=[[f"trade.{SPOT}"]],
        stir=trade,
        holds=lambda client, returned, _truths: equal(
            [returned["t"], returned["p"], returned["q"]], _last_trade(client, returned["t"])
        ),
        note="number, price and quantity of a trade",
    )
    yield Row(
        f"{at}subscribe",
        {"is_private": True},
        positional=[["account.orderUpdate"]],
        variant="with a signature",
        stir=lambda client: client.served.ask("place_order", RESTING),
        holds=lambda client, returned, _truths: _same_order(client, returned),
        note="symbol, price and quantity of an order",
    )
    yield Row(
        f"{at}unsubscribe",
        positional=[[f"trade.{SPOT}"]],
        holds=lambda client, _returned, _truths: client.served.unheard(f"trade.{SPOT}"),
        note="nobody listens to the stream any more",
    )
    yield Row(
        f"{at}close",
        holds=lambda client, _returned, _truths: client.served.unheard("account.orderUpdate"),
        note="the connection has ended",
    )


def made_strategy(client: Client) -> Mapping[str, Any]:
    """Name the strategy that was created."""
    return {"symbol": SPOT, "strategyId": client.notes["strategy"]["id"]}


def _history_of(client: Client, note: str) -> Any:
    [row] = [row for row in client.served.ask("rfq_history") if str(row["rfqId"]) == str(client.notes[note]["rfqId"])]
    return row


def _last_trade(client: Client, number: Any) -> list[Any]:
    [row] = [row for row in client.served.ask("trades", {"symbol": SPOT}) if row["id"] == number]
    return [row["id"], row["price"], row["quantity"]]


def _same_order(client: Client, told: Mapping[str, Any]) -> bool:
    order = client.served.read(lambda: client.served.exchange.account.open_orders[int(told["i"])])
    return equal([told["s"], told["p"], told["q"]], [order.symbol, order.price, order.quantity])

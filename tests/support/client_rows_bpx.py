"""What bpx-py calls, its synchronous clients and its asynchronous ones."""

from __future__ import annotations

from collections.abc import Iterator

from client_rows import PERPETUAL, RESTING, SPOT, Row, gone, listed, same, submitted
from client_scenes import PAGED, be_asked, candles, lent, note_lent, quoted, settings

__all__ = ["rows"]

REMOVED = "`/wapi/v1/history/pnl` was removed from the exchange on 2025-08-07"
ORDER = {"symbol": SPOT, "side": "Bid", "order_type": "Limit", "quantity": "1.5", "price": "79.25"}


def rows() -> Iterator[Row]:
    """Every call of the four clients."""
    for prefix in ("", "async "):
        yield from _public(prefix, f"{prefix}Public.")
        yield from _account(prefix, f"{prefix}Account.")


def _public(prefix: str, at: str) -> Iterator[Row]:
    spot = {"symbol": SPOT}
    perpetual = {"symbol": PERPETUAL}
    yield same(f"{at}get_assets", "assets")
    yield same(f"{at}get_collateral", "collateral_parameters")
    yield same(f"{at}get_borrow_lend_markets", "borrow_lend_markets")
    yield same(f"{at}get_borrow_lend_market_history", "borrow_lend_markets_history", {"interval": "1d"}, {"interval": "1d"})
    yield same(f"{at}get_markets", "markets")
    if not prefix:
        yield same(
            f"{at}get_market",
            "markets",
            fault="takes no symbol and asks for all markets; its builder `get_market_url`, which nothing calls, makes "
            "`/api/v1/markets/{symbol}`, and the route is `/api/v1/market?symbol=`",
        )
    yield same(f"{at}get_ticker", "ticker", spot, spot)
    yield same(f"{at}get_tickers", "tickers")
    yield same(f"{at}get_depth", "depth", spot, spot)
    yield same(f"{at}get_klines", "klines", candles("start_time"), candles("startTime"))
    yield same(f"{at}get_open_interest", "open_interest", perpetual, perpetual)
    yield same(f"{at}get_funding_interval_rates", "funding_rates", perpetual, perpetual)
    yield same(
        f"{at}get_funding_interval_rates",
        "funding_rates",
        {**perpetual, "offset": 5},
        perpetual,
        variant="with an offset",
        fault="leaves the offset out of the request, and gets the first page again",
    )
    yield same(f"{at}get_status", "status")
    yield same(f"{at}get_ping", "ping")
    yield same(f"{at}get_time", "time")
    yield same(f"{at}get_recent_trades", "trades", spot, spot)
    yield same(f"{at}get_history_trades", "trades_history", spot, spot)
    yield same(
        f"{at}get_all_mark_prices",
        "mark_prices",
        fault="" if prefix else "is a coroutine function in the synchronous client: what it returns has to be awaited",
    )


def _account(prefix: str, at: str) -> Iterator[Row]:
    spot, sol = {"symbol": SPOT}, {"symbol": "SOL"}
    yield same(f"{at}get_account", "account")
    yield Row(
        f"{at}update_account",
        {"auto_lend": True, "leverage_limit": "7"},
        holds=lambda client, _returned, _truths: settings(client, autoLend=True, leverageLimit="7"),
    )
    yield Row(
        f"{at}update_account",
        {"auto_lend": False, "leverage_limit": "8"},
        variant="with False",
        fault="leaves out what is False: a flag cannot be switched off",
        holds=lambda client, _returned, _truths: settings(client, autoLend=True, leverageLimit="8"),
    )
    yield same(f"{at}get_max_borrow_quantity", "max_borrow_quantity", sol, sol)
    side = {"symbol": SPOT, "side": "Bid"}
    yield same(f"{at}get_max_order_quantity", "max_order_quantity", {**side, "price": "80.5"}, {**side, "price": "80.5"})
    yield Row(
        f"{at}get_max_order_quantity",
        {**side, "reduce_only": True},
        variant="with a flag",
        fault="aiohttp takes no bool in a query" if prefix else "signs `true` and sends `True`",
        refused="TypeError: .*bool" if prefix else "Invalid signature",
    )
    yield same(f"{at}get_max_withdrawal_quantity", "max_withdrawal_quantity", sol, sol)
    yield Row(
        f"{at}get_max_withdrawal_quantity",
        {**sol, "auto_borrow": True},
        variant="with a flag",
        fault="aiohttp takes no bool in a query" if prefix else "signs `true` and sends `True`",
        refused="TypeError: .*bool" if prefix else "Invalid signature",
    )
    yield same(f"{at}get_borrow_lend_positions", "borrow_lend_positions")
    yield Row(
        f"{at}execute_borrow_lend",
        {"quantity": "2.5", "side": "Lend", "symbol": "SOL"},
        holds=lent,
        note="what is lent has grown by it",
        before=note_lent,
    )
    yield same(f"{at}get_balances", "balances")
    yield same(f"{at}get_collateral", "collateral")
    yield same(f"{at}get_deposits", "deposits", asked=PAGED)
    yield same(f"{at}get_deposits", "deposits", {"to": 1_000}, {"to": 1_000}, variant="with an end")
    yield same(f"{at}get_deposit_address", "deposit_address", {"blockchain": "Solana"}, {"blockchain": "Solana"})
    yield same(f"{at}get_withdrawals", "withdrawals", asked=PAGED)
    yield same(f"{at}get_withdrawals", "withdrawals", {"from_": 1_000}, {"from": 1_000}, variant="with a start")
    yield Row(
        f"{at}withdrawal",
        {"address": "elsewhere", "symbol": "SOL", "blockchain": "Solana", "quantity": "2.25"},
        holds=listed("withdrawals", "id"),
    )
    yield same(f"{at}get_open_positions", "positions")
    yield same(f"{at}get_borrow_history", "borrow_lend_history", asked=PAGED)
    yield same(f"{at}get_interest_history", "interest_history", asked=PAGED)
    yield same(f"{at}get_order_history", "order_history", spot, spot)
    yield same(f"{at}get_fill_history", "fill_history", spot, spot)
    yield same(f"{at}get_funding_payments", "funding_history", asked=PAGED)
    yield Row(f"{at}get_profit_and_loss_history", fault=REMOVED, refused="404 not found")
    yield same(f"{at}get_settlements_history", "settlement_history", asked=PAGED)
    yield same(
        f"{at}get_settlements_history",
        "settlement_history",
        {"source": "TradingFees"},
        PAGED,
        variant="with a source",
        fault="leaves the source out of the request",
    )
    yield Row(f"{at}execute_order", {**ORDER, "post_only": True}, holds=submitted, keep="order")
    yield Row(
        f"{at}execute_order",
        {
            "symbol": PERPETUAL,
            "side": "Ask",
            "order_type": "Market",
            "quantity": "1",
            "trigger_price": "60",
            "trigger_quantity": "1",
            "triggered_by": "MarkPrice",
        },
        variant="with a trigger",
        fault="sends `triggeredBy` for `triggerBy`; and always a `quantity`, beside which the sandbox takes no `triggerQuantity`",
        refused="INVALID_ORDER",
    )
    yield same(
        f"{at}get_open_order",
        "order",
        lambda client: {**spot, "order_id": client.notes["order"]["id"]},
        lambda client: {**spot, "orderId": client.notes["order"]["id"]},
    )
    yield same(
        f"{at}get_open_order",
        "order",
        {"symbol": PERPETUAL, "client_id": 77},
        {"symbol": PERPETUAL, "clientId": 77},
        variant="by client id",
    )
    yield Row(
        f"{at}cancel_order",
        {"symbol": PERPETUAL, "client_id": 77},
        variant="by client id",
        fault="sends the client id as text, and the exchange wants a number",
        refused="parse",
    )
    yield same(f"{at}get_open_orders", "open_orders")
    yield Row(f"{at}cancel_order", lambda client: {**spot, "order_id": client.notes["order"]["id"]}, holds=gone)
    yield Row(f"{at}cancel_all_orders", spot, holds=gone, before=lambda client: client.served.ask("place_order", RESTING))
    yield Row(
        f"{at}submit_quote",
        lambda client: {"rfq_id": client.notes["asked"]["rfqId"], "bid_price": "70.25", "ask_price": "130.5"},
        before=be_asked,
        holds=quoted,
    )

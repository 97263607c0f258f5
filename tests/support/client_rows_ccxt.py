"""What ccxt calls over REST: every method that its `has` affirms, and every route that it describes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from backpack_proto.rest.endpoints.table import ENDPOINTS
from client_driver import Client, equal
from client_rows import PERPETUAL, RESTING, SPOT, Row, gone, listed, same, submitted
from client_rows_ccxt_orders import conversions, orders
from client_rows_ccxt_reads import account, market_data, minute_of
from client_scenes import RFQ, be_asked, quoted, submitted_rfq, wait_for_quote

__all__ = ["rows"]

NO_INSTRUCTION = "knows no instruction for the route, and signs an empty one"
Holds = Callable[[Client, Any, list[Any]], bool]


def rows() -> Iterator[Row]:
    """Every call."""
    yield from market_data()
    yield from account()
    yield from orders()
    yield from conversions()
    yield from routes()


GIVEN: Mapping[str, Any] = {
    "borrow_lend_markets_history": {"interval": "1d"},
    "market": {"symbol": SPOT},
    "ticker": {"symbol": SPOT},
    "depth": {"symbol": SPOT},
    "stock_indicative_quote": {"symbol": "AAPL.US", "side": "Bid", "quantity": "3"},
    "klines": lambda client: {"symbol": SPOT, "interval": "1m", "startTime": minute_of(client) // 1_000},
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


def routes() -> Iterator[Row]:
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
        before=be_asked,
        holds=quoted,
    )


def _ended(status: str) -> Holds:
    def holds(client: Client, _returned: Any, _truths: list[Any]) -> bool:
        number = str(client.notes["rfq"]["rfqId"])
        return [row["status"] for row in client.served.ask("rfq_history") if str(row["rfqId"]) == number] == [status]

    return holds

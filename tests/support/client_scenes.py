"""What happens around the calls of foreign clients, and what several of them have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from backpack_proto.exchange.account.accounts import SimulatedFundingPayment
from client_driver import Client, equal
from client_rows import OTHER, PERPETUAL, RESTING, SPOT

__all__ = [
    "PAGED",
    "RFQ",
    "STRATEGY",
    "be_asked",
    "candles",
    "dust_is_gone",
    "lent",
    "make_dust",
    "note_lent",
    "prepare",
    "quoted",
    "settings",
    "submitted_rfq",
    "trade",
    "wait_for_quote",
]

PAGED = {"limit": 100, "offset": 0}
RFQ = {"symbol": "SOL_USDC_RFQ", "side": "Bid", "quantity": "1.25"}
STRATEGY = {
    "symbol": SPOT,
    "side": "Bid",
    "strategyType": "Scheduled",
    "quantity": "10",
    "duration": 86_400_000,
    "interval": 3_600_000,
}
LENT = Decimal("2.5")
"""What the calls that lend something lend."""


def prepare(client: Client) -> None:
    """Give the account a past: fills, positions, orders, a loan, a withdrawal, funding, requests and quotes that were filled."""
    served, ask = client.served, client.served.ask
    ask("place_order", {"symbol": SPOT, "side": "Bid", "orderType": "Market", "quantity": "2"})
    ask("place_order", {"symbol": PERPETUAL, "side": "Bid", "orderType": "Market", "quantity": "3"})
    ask("place_order", {**RESTING, "price": "81.5"})
    ask("place_order", {**RESTING, "symbol": PERPETUAL, "price": "82.25", "clientId": 77})
    ask("cancel_order", {"symbol": SPOT, "orderId": ask("place_order", RESTING)["id"]})
    ask("borrow_lend", {"quantity": "5", "side": "Lend", "symbol": "SOL"})
    ask("withdraw", {"address": "somewhere", "blockchain": "Solana", "quantity": "1.5", "symbol": "SOL"})
    ask("create_strategy", STRATEGY)
    payment = SimulatedFundingPayment(
        symbol=PERPETUAL,
        amount=Decimal("-0.0125"),
        rate=Decimal("0.0000125"),
        interval_end_s=served.unix_us // 3_600_000_000 * 3_600,
    )
    served.read(lambda: served.exchange.account.funding.append(payment))
    client.notes["rfq"] = ask("submit_rfq", {**RFQ, "quantity": "0.5"})
    wait_for_quote(client)
    ask("accept_quote", {"rfqId": client.notes["rfq"]["rfqId"], "quoteId": client.notes["quote"]})
    sold = ask("submit_rfq", {**RFQ, "side": "Ask", "quantity": "0.75"}, OTHER)
    quote = ask("submit_quote", {"rfqId": sold["rfqId"], "bidPrice": "100.25", "askPrice": "130.5"})
    ask("accept_quote", {"rfqId": sold["rfqId"], "quoteId": quote["quoteId"]}, OTHER)
    ask("submit_rfq", {**RFQ, "quantity": "1"})
    for name in (
        "fill_history",
        "funding_history",
        "rfq_fill_history",
        "quote_fill_history",
        "open_rfqs",
        "borrow_lend_history",
    ):
        assert ask(name), name


def be_asked(client: Client) -> None:
    """Let the other account ask for quotes."""
    client.notes["asked"] = client.served.ask("submit_rfq", {**RFQ, "side": "Ask", "quantity": "2"}, OTHER)


def trade(client: Client) -> None:
    """Let the other account trade a little, both ways."""
    for side in ("Bid", "Ask"):
        client.served.ask("place_order", {"symbol": SPOT, "side": side, "orderType": "Market", "quantity": "0.05"}, OTHER)


def wait_for_quote(client: Client) -> None:
    """Wait until somebody quotes the request."""
    for _ in range(1_000):
        for found in client.served.ask("open_rfqs"):
            if found["rfq"]["rfqId"] == client.notes["rfq"]["rfqId"] and found["quotes"]:
                client.notes["quote"] = found["quotes"][0]["quoteId"]
                return
        client.served.pause()
    raise AssertionError("nobody quotes")


def candles(name: str) -> Callable[[Client], Mapping[str, Any]]:
    """Make what is asked for candles, from the same minute each time. `name` is how the start is called."""

    def asked(client: Client) -> Mapping[str, Any]:
        start_s = client.served.unix_us // 60_000_000 * 60 - 600
        return {"symbol": SPOT, "interval": "1m", name: client.notes.setdefault("start_s", start_s)}

    return asked


def settings(client: Client, **expected: Any) -> bool:
    """Return whether the account has these settings."""
    account = client.served.ask("account")
    return equal({name: account[name] for name in expected}, expected)


def _amount_lent(client: Client) -> Decimal:
    rows = client.served.ask("borrow_lend_positions")
    return sum((Decimal(row["netQuantity"]) for row in rows if row["symbol"] == "SOL"), Decimal(0))


def note_lent(client: Client) -> None:
    """Remember what is lent."""
    client.notes["lent"] = _amount_lent(client)


def lent(client: Client, _returned: Any, _truths: list[Any]) -> bool:
    """Hold where more is lent than before, by what the calls lend."""
    return bool(_amount_lent(client) == client.notes["lent"] + LENT)


def submitted_rfq(client: Client, returned: Any, _truths: list[Any]) -> bool:
    """Hold where a request for quote that was returned is open, member by member, and the one that was meant."""
    rows = [row["rfq"] for row in client.served.ask("open_rfqs") if row["rfq"]["rfqId"] == returned["rfqId"]]
    return equal(rows, [returned]) and equal({name: returned[name] for name in RFQ}, RFQ)


def quoted(client: Client, returned: Any, _truths: list[Any]) -> bool:
    """Hold where the quote that was returned is among those of the account."""
    [row] = [row for row in client.served.ask("quote_history") if row["quoteId"] == returned["quoteId"]]
    return equal([row["rfqId"], row["bidPrice"], row["askPrice"]], [client.notes["asked"]["rfqId"], "70.25", "130.5"])


def make_dust(client: Client) -> None:
    """Leave less than one step of an asset."""
    available = client.served.read(lambda: client.served.exchange.account.balances["USDT"].available)
    taken = {"address": "elsewhere", "symbol": "USDT", "blockchain": "Solana", "quantity": str(available - Decimal("0.51"))}
    client.served.ask("withdraw", taken)


def dust_is_gone(client: Client, _returned: Any, _truths: list[Any]) -> bool:
    """Hold where the dust was converted."""
    [row] = client.served.ask("dust_history")
    left = client.served.read(lambda: client.served.exchange.account.balances["USDT"].available)
    return equal([row["symbol"], row["quantity"], left], ["USDT", "0.5", 0])

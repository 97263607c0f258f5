"""Requests for quote on the simulated exchange: quotes, acceptance, settlement, expiry, and both sides of the histories."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from backpack_proto import Page
from backpack_proto.exchange import Fees, Respond, SendFrame, SimulatedAccount
from backpack_proto.exchange.account.rfq_desk import EXPIRY_US, SETTLEMENT_WINDOW_US, SUBMISSION_US
from backpack_proto.exchange.stream.audience import Audience
from backpack_proto.exchange.stream.private_streams import PrivateStreams
from backpack_proto.rest.codec import parse_response
from backpack_proto.rest.endpoints.table import find_endpoint
from backpack_proto.streams.frames import Frame, decode_frame
from exchange_trader import Trader

STOCK = "AAPL.US_USDC_RFQ"
COIN = "SOL_USDC_RFQ"


class Requester(Trader):
    """A trader who asks for quotes. Stocks trade at the time at which the clock of tests begins."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.subscribe("account.rfqUpdate", "account.balanceUpdate")

    def post(self, what: str, **members: Any) -> Any:
        status, answer = self.call("POST", f"/api/v1/rfq{what}", members)
        assert status == 200, answer
        return answer

    def refusal(self, what: str, **members: Any) -> tuple[str, str]:
        status, answer = self.call("POST", f"/api/v1/rfq{what}", members)
        assert status == 400, answer
        return answer["code"], answer["message"]

    def ask(self, symbol: str = STOCK, side: str = "Bid", **members: Any) -> Any:
        return self.post("", symbol=symbol, side=side, **({"quantity": "10"} | members))

    def events(self) -> list[dict[str, Any]]:
        return [data for data in self.told() if data["e"].startswith(("rfq", "quote"))]

    def candidate(self) -> dict[str, Any]:
        """Wait for a quote, and return the last that is the best."""
        self.run(2_000_000)
        return [data for data in self.events() if data["e"] == "rfqCandidate"][-1]


def test_a_stock_is_quoted_bound_and_settled_later() -> None:
    trader = Requester()
    sent_ms = trader.clock.unix_us // 1000
    row = trader.ask(clientId=7)
    assert row == {
        "clientId": 7,
        "createdAt": sent_ms,
        "executionMode": "AwaitAccept",
        "expiryTime": sent_ms + 120_000,
        "price": None,
        "quantity": "10",
        "quoteQuantity": None,
        "rfqId": row["rfqId"],
        "side": "Bid",
        "status": "New",
        "submissionTime": sent_ms + 60_000,
        "symbol": STOCK,
        "systemOrderType": None,
    }
    assert int(row["rfqId"]) > 2**53
    (accepted,) = trader.events()
    assert {name: value for name, value in accepted.items() if name not in "ET"} == {
        "C": "7",
        "R": int(row["rfqId"]),
        "S": "Bid",
        "W": sent_ms + 120_000,
        "X": "New",
        "e": "rfqAccepted",
        "q": "10",
        "s": STOCK,
        "w": sent_ms + 60_000,
    }
    best = trader.candidate()
    (listed,) = trader.get("/api/v1/rfqs", deferredSettlement=True)
    assert listed["rfq"] == row
    assert [quote["status"] for quote in listed["quotes"]] == ["Cancelled", "New"]
    quote = listed["quotes"][1]
    assert quote["quoteId"] == str(best["u"])
    price = Decimal(best["p"])
    assert price == Decimal(quote["askPrice"]) * Decimal("1.0005"), "the fee is in the price"
    trader.post("/accept", rfqId=row["rfqId"], quoteId=quote["quoteId"])
    balances = trader.account.balances
    assert (balances["USDC"].locked, "AAPL.US" in balances) == (10 * price, False)
    bound = trader.events()
    assert [(data["e"], data["X"], Decimal(data["p"])) for data in bound] == [("rfqAcceptedBinding", "New", price)]
    assert trader.refusal("/cancel", rfqId=row["rfqId"])[0] == "INVALID_ORDER", "acceptance is binding"
    assert trader.refusal("/refresh", rfqId=row["rfqId"])[0] == "INVALID_ORDER"
    trader.run(1_000_000)
    (filled,) = trader.events()
    assert (filled["e"], filled["X"], filled["u"]) == ("rfqFilled", "Filled", int(quote["quoteId"]))
    assert Decimal(filled["p"]) <= price
    assert (trader.account.balances["AAPL.US"].available, trader.account.balances["USDC"].locked) == (10, 0)
    assert trader.account.balances["USDC"].available == 1_000_000 - 10 * Decimal(filled["p"])
    (fill,) = trader.get("/wapi/v1/history/rfq/fill", deferredSettlement=True, symbol=STOCK, side="Bid", fillType="User")
    assert (fill["rfqId"], fill["quoteId"], fill["quantity"]) == (row["rfqId"], quote["quoteId"], "10")
    assert fill["fillPrice"] == filled["p"]
    (past,) = trader.get("/wapi/v1/history/rfq", status="Filled")
    assert (past["status"], past["deferredSettlementQuoteId"]) == ("Filled", quote["quoteId"])
    assert past["submissionTime"].startswith("2026-09-02T16:44:50")
    assert trader.get("/api/v1/rfqs") == []
    assert trader.get("/wapi/v1/history/rfq/fill", deferredSettlement=False) == []


def test_stock_that_is_held_is_sold_and_the_fee_comes_out_of_the_proceeds() -> None:
    trader = Requester(deposits={"USDC": Decimal(0), "AAPL.US": Decimal(10)})
    row = trader.ask(side="Ask", quantity="4")
    best = trader.candidate()
    trader.post("/accept", rfqId=row["rfqId"], quoteId=str(best["u"]))
    assert trader.account.balances["AAPL.US"].locked == 4
    trader.run(1_000_000)
    (filled,) = [data for data in trader.events() if data["e"] == "rfqFilled"]
    assert trader.account.balances["USDC"].available == 4 * Decimal(filled["p"]) >= 4 * Decimal(best["p"])
    assert trader.account.balances["AAPL.US"].available == 6


def test_only_the_best_quote_can_be_accepted() -> None:
    trader = Requester()
    row = trader.ask()
    trader.run(500_000)
    first = trader.events()[-1]["u"]
    trader.run(1_500_000)
    second = trader.events()[-1]["u"]
    only_best = ("INVALID_ORDER", "Only the best quote can be accepted")
    assert trader.refusal("/accept", rfqId=row["rfqId"], quoteId=str(first)) == only_best
    assert trader.refusal("/accept", rfqId=row["rfqId"], quoteId="x") == only_best
    trader.post("/accept", rfqId=row["rfqId"], quoteId=str(second))


def test_an_immediate_request_accepts_the_first_quote_that_is_good_enough() -> None:
    trader = Requester()
    trader.ask(executionMode="Immediate", price="1000")
    trader.run(1_500_000)
    assert [data["e"] for data in trader.events()] == ["rfqAccepted", "rfqCandidate", "rfqAcceptedBinding", "rfqFilled"]
    assert trader.account.balances["AAPL.US"].available == 10
    trader.ask(executionMode="Immediate", price="1", clientId=3)
    trader.run(EXPIRY_US)
    assert trader.events()[-1]["X"] == "Expired"
    assert trader.account.balances["AAPL.US"].available == 10


def test_a_request_expires_and_takes_no_quotes_after_its_submission_time() -> None:
    trader = Requester()
    row = trader.ask()
    trader.run(SUBMISSION_US)
    count = len(trader.exchange.rfqs.quotes)
    assert count > 10
    best = trader.events()[-1]
    trader.run(EXPIRY_US - SUBMISSION_US - 1)
    assert len(trader.exchange.rfqs.quotes) == count
    assert trader.get("/api/v1/rfqs", rfqId=row["rfqId"])[0]["rfq"]["status"] == "New"
    trader.run(1)
    assert [(data["e"], data["X"]) for data in trader.events()] == [("rfqCancelled", "Expired")]
    assert trader.refusal("/accept", rfqId=row["rfqId"], quoteId=str(best["u"])) == ("INVALID_ORDER", "RFQ not found")


def test_refreshing_cancels_the_quotes_and_sets_both_times_again() -> None:
    trader = Requester()
    row = trader.ask(clientId=5)
    best = trader.candidate()
    trader.run(50_000_000)
    trader.events()
    renewed = trader.post("/refresh", rfqId=row["rfqId"])
    assert renewed["expiryTime"] - row["expiryTime"] == renewed["submissionTime"] - row["submissionTime"] == 52_000
    assert [data["e"] for data in trader.events()] == ["rfqRefreshed"]
    (listed,) = trader.get("/api/v1/rfqs")
    assert {quote["status"] for quote in listed["quotes"]} == {"Cancelled"}
    assert trader.refusal("/accept", clientId=5, quoteId=str(best["u"]))[0] == "INVALID_ORDER"
    trader.run(EXPIRY_US - 1)
    assert trader.get("/api/v1/rfqs")
    trader.run(1)
    assert trader.get("/api/v1/rfqs") == []


def test_a_request_is_cancelled_by_either_of_its_ids() -> None:
    trader = Requester()
    one, other = trader.ask(), trader.ask(clientId=9)
    assert trader.refusal("", symbol=STOCK, side="Bid", quantity="1", clientId=9)[0] == "INVALID_ORDER"
    assert trader.post("/cancel", rfqId=one["rfqId"])["status"] == "Cancelled"
    assert trader.post("/cancel", clientId=9)["rfqId"] == other["rfqId"]
    assert trader.refusal("/cancel", clientId=9) == ("INVALID_ORDER", "RFQ not found")
    assert trader.refusal("/cancel")[0] == "INVALID_CLIENT_REQUEST"
    assert [data["X"] for data in trader.events()][2:] == ["Cancelled", "Cancelled"]


def test_stock_by_quote_quantity_gets_no_quotes_and_expires() -> None:
    trader = Requester()
    row = trader.post("", symbol=STOCK, side="Bid", quoteQuantity="5000")
    assert (row["quantity"], row["quoteQuantity"]) == (None, "5000")
    trader.run(EXPIRY_US)
    assert [data["e"] for data in trader.events()] == ["rfqAccepted", "rfqCancelled"]


def test_what_is_no_stock_is_quoted_by_the_crowd_and_settles_at_once() -> None:
    trader = Requester()
    trader.post("", symbol=COIN, side="Bid", quoteQuantity="1000")
    best = trader.candidate()
    trader.post("/accept", rfqId=str(best["R"]), quoteId=str(best["u"]))
    assert [data["e"] for data in trader.events()] == ["rfqFilled"]
    bought = trader.account.balances["SOL"].available - 1_000
    assert Decimal(10) < bought < Decimal("10.2")
    assert trader.account.balances["USDC"].available == 1_000_000 - bought * Decimal(best["p"])
    assert trader.get("/wapi/v1/history/rfq", deferredSettlement=True) == []


def test_what_the_broker_does_not_settle_is_cancelled_by_the_system() -> None:
    trader = Requester()
    trader.exchange.rfqs.settles = False
    row = trader.ask()
    trader.post("/accept", rfqId=row["rfqId"], quoteId=str(trader.candidate()["u"]))
    trader.told()
    trader.run(SETTLEMENT_WINDOW_US - 1)
    assert trader.account.balances["USDC"].locked > 0
    trader.run(1)
    assert [(data["e"], data.get("X")) for data in trader.told()] == [("rfqCancelled", "Cancelled"), ("balanceUpdate", None)]
    assert trader.account.balances["USDC"].available == 1_000_000


@pytest.mark.parametrize(
    ("members", "refused"),
    [
        ({"symbol": "NOPE_USDC_RFQ"}, ("INVALID_MARKET", "Invalid market")),
        ({"quantity": "0.001"}, ("INVALID_CLIENT_REQUEST", "Quantity decimal too long")),
        ({"quantity": "6000"}, ("INVALID_QUANTITY", "Invalid quantity")),
        ({"quantity": "0"}, ("INVALID_QUANTITY", "Invalid quantity")),
        ({"quoteQuantity": "1"}, ("INVALID_ORDER", "Invalid order")),
        ({"executionMode": "Immediate"}, ("INVALID_ORDER", "Invalid order")),
        ({"price": "100"}, ("INVALID_ORDER", "Invalid order")),
        ({"executionMode": "Immediate", "price": "0"}, ("INVALID_PRICE", "Invalid price")),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(members: dict[str, str], refused: tuple[str, str]) -> None:
    assert Requester().refusal("", **({"symbol": STOCK, "side": "Bid", "quantity": "1"} | members)) == refused


def test_a_request_cannot_be_paid_for_without_funds() -> None:
    trader = Requester(deposits={"USDC": Decimal(100)})
    row = trader.ask()
    best = trader.candidate()
    assert trader.refusal("/accept", rfqId=row["rfqId"], quoteId=str(best["u"])) == ("INSUFFICIENT_FUNDS", "Insufficient funds")


def test_stocks_are_not_asked_for_while_their_sessions_are_closed() -> None:
    trader = Requester()
    saturday_us = 3 * 86_400_000_000
    trader.clock.advance(saturday_us)
    assert trader.refusal("", symbol=STOCK, side="Bid", quantity="1") == ("TRADING_PAUSED", "Trading is paused")
    trader.post("", symbol=COIN, side="Bid", quantity="1")
    trader.exchange.rfqs.markets.always_open = True
    trader.post("", symbol=STOCK, side="Bid", quantity="1")


class Maker:
    """Another account, which hears of requests and quotes them."""

    def __init__(self, trader: Trader, **deposits: Decimal) -> None:
        self.account = SimulatedAccount(7, deposits, Fees())
        self.audience = Audience()
        self.audience.subscribe(5, "account.rfqUpdate")
        self.trader = trader
        trader.exchange.rfqs.join(self.account, PrivateStreams(self.account, self.audience, Random(1)))


def heard(trader: Trader, connection: int) -> list[dict[str, Any]]:
    frames = [output for output in trader.outputs if isinstance(output, SendFrame) and output.connection == connection]
    trader.outputs = []
    return [json.loads(frame.data)["data"] for frame in frames]


def test_another_account_hears_of_a_request_and_its_quote_can_be_the_best() -> None:
    trader = Requester()
    maker = Maker(trader, USDC=Decimal(0), SOL=Decimal(100))
    row = trader.ask(COIN)
    (active,) = heard(trader, 5)
    assert {name: active[name] for name in ("e", "R", "q", "X", "s")} == {
        "e": "rfqActive",
        "R": int(row["rfqId"]),
        "q": "10",
        "X": "New",
        "s": COIN,
    }
    assert "S" not in active
    assert "C" not in active
    desk = trader.exchange.rfqs
    quote, frames = desk.quote(7, int(row["rfqId"]), 4, 1, 5_000, trader.clock.unix_us, trader.clock.mono_us)
    trader.outputs += frames
    (accepted,) = heard(trader, 5)
    assert (accepted["e"], accepted["u"], accepted["C"]) == ("quoteAccepted", quote.quote_id, "4")
    trader.post("/accept", rfqId=row["rfqId"], quoteId=str(quote.quote_id))
    (filled,) = heard(trader, 5)
    assert (filled["e"], filled["X"], filled["p"]) == ("rfqFilled", "Filled", "50")
    assert maker.account.balances["SOL"].available == 90
    assert maker.account.balances["USDC"].available == 500 - Decimal("0.1")
    assert trader.account.balances["USDC"].available == 1_000_000 - 500 - Decimal("0.25")
    assert trader.get("/wapi/v1/history/quote") == []


def test_a_quote_of_the_wrong_kind_is_refused() -> None:
    trader = Requester()
    row = trader.ask(COIN)
    quote = {"rfqId": row["rfqId"], "bidPrice": "90", "askPrice": "100"}
    assert trader.refusal("/quote", **quote) == ("INVALID_ORDER", "A quote for an own RFQ")
    assert trader.refusal("/quote", **(quote | {"rfqId": "1"})) == ("INVALID_ORDER", "RFQ not found")
    assert trader.refusal("/quote", **(quote | {"bidPrice": "0"})) == ("INVALID_PRICE", "Invalid price")
    status, text = trader.call("POST", "/api/v1/rfq/quote", {"rfqId": "1"})
    assert (status, "are required" in text) == (400, True)


def test_every_answer_and_event_is_one_that_the_client_reads() -> None:
    trader = Requester()
    row = trader.ask(clientId=1)
    trader.run(1_500_000)
    best = trader.exchange.rfqs.rfqs[int(row["rfqId"])].best
    assert best is not None
    trader.post("/accept", rfqId=row["rfqId"], quoteId=str(best.quote_id))
    trader.run(1_000_000)
    for output in trader.outputs:
        if isinstance(output, SendFrame):
            frames = decode_frame(output.data)
            assert all(isinstance(frame, Frame) for frame in (frames if isinstance(frames, tuple) else (frames,)))
    trader.ask()
    trader.run(1_000_000)
    for name in ("open_rfqs", "rfq_history", "rfq_fill_history", "quote_history", "quote_fill_history"):
        endpoint = find_endpoint(name)
        answer = trader.request("GET", endpoint.path)[-1]
        assert isinstance(answer, Respond)
        result = parse_response(endpoint, {}, status=answer.status, body=answer.body)
        rows = result.rows if isinstance(result, Page) else result
        assert isinstance(rows, tuple)
        assert len(rows) == (0 if name.startswith("quote") else 1 + (name == "rfq_history"))

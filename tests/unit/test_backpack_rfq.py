"""The life of a request for quotes on a stock, as a program sees it: asked, quoted, accepted, settled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anyio
import pytest

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import UnknownSymbol
from backpack_proto.inputs import Fact, TextReceived
from backpack_proto.outputs import Action, SendRequest, SendText
from backpack_proto.streams.payloads import RfqAccepted, RfqAcceptedBinding, RfqCandidate, RfqFilled, RfqRefreshed, RfqUpdate
from backpack_runtime.client import BackpackClient
from backpack_runtime.transports.mock import MockTransport, oblige, respond
from transports import MARKETS

pytestmark = pytest.mark.anyio

SYMBOL = "AAPL.US_USDC_RFQ"
RFQ_ID, QUOTE_ID = 113_392_053_149_171_712, 113_392_054_083_780_608
NOW_US = 1_795_012_345_000_000
SECURITIES = b'[{"asset":"AAPL.US","name":"Apple","cusip":"037833100","sessions":[{"name":"REGULAR","minQuantity":"0.01","stepSize":"0.01"}]}]'
RFQ = {
    "rfqId": str(RFQ_ID),
    "symbol": SYMBOL,
    "side": "Bid",
    "status": "New",
    "executionMode": "AwaitAccept",
    "quantity": "2",
    "createdAt": NOW_US // 1000,
    "submissionTime": NOW_US // 1000 + 3_000,
    "expiryTime": NOW_US // 1000 + 30_000,
}


def update(event: str, **members: Any) -> TextReceived:
    data = {"E": NOW_US, "T": NOW_US, "R": RFQ_ID, "X": "New", "e": event, "s": SYMBOL, **members}
    return TextReceived(json.dumps({"data": data, "stream": f"account.rfqUpdate.{SYMBOL}"}).encode())


class Broker:
    """Answers as the exchange does whose broker quotes a stock, and settles later."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.subscribed: list[str] = []

    def __call__(self, action: Action) -> Iterator[Fact]:
        match action:
            case SendText(text):
                self.subscribed += json.loads(text)["params"]
            case SendRequest(request=request):
                target = request.target.partition("?")[0]
                body = json.loads(request.body) if request.body else {}
                if not target.startswith(("/api/v1/markets", "/api/v1/time")):
                    self.calls.append((f"{request.method} {target}", body))
                yield from self.answer(action, target, body)
            case _:
                yield from oblige(action)

    def answer(self, action: SendRequest, target: str, body: dict[str, Any]) -> Iterator[Fact]:
        prices = {"C": 7, "S": "Bid", "q": "2", "p": "242.40", "u": QUOTE_ID}
        times = {"w": RFQ["submissionTime"], "W": RFQ["expiryTime"]}
        match target:
            case "/api/v1/markets":
                yield respond(action, MARKETS)
            case "/api/v1/time":
                yield respond(action, str(NOW_US // 1000).encode())
            case "/api/v1/market":
                yield respond(action, b'{"code":"INVALID_CLIENT_REQUEST","message":"Invalid market symbol"}', status=400)
            case "/api/v1/securities":
                yield respond(action, SECURITIES)
            case "/api/v1/rfq":
                yield respond(action, json.dumps(RFQ | {"clientId": body["clientId"]}).encode())
                yield update("rfqAccepted", C=7, S="Bid", q="2", **times)
                yield update("rfqCandidate", **prices)
            case "/api/v1/rfq/refresh":
                yield respond(action, json.dumps(RFQ).encode())
                yield update("rfqRefreshed", C=7, S="Bid", q="2", **times)
                yield update("rfqCandidate", **prices)
            case "/api/v1/rfq/accept":
                yield respond(action, json.dumps(RFQ).encode())
                yield update("rfqAcceptedBinding", **prices)
                yield update("rfqFilled", **prices | {"p": "242.31", "X": "Filled"})
            case "/api/v1/rfqs":
                quote = {"rfqId": str(RFQ_ID), "quoteId": str(QUOTE_ID), "bidPrice": "242.10", "askPrice": "242.40"}
                quotes = [quote | {"status": "New", "createdAt": NOW_US // 1000}]
                yield respond(action, json.dumps([{"rfq": RFQ, "quotes": quotes}]).encode())
            case "/wapi/v1/history/rfq":
                past = RFQ | {"createdAt": "2026-11-18T14:32:25", "submissionTime": "2026-11-18T14:32:28"}
                past |= {"expiryTime": "2026-11-18T14:32:55", "status": "Expired"}
                yield respond(action, json.dumps([past]).encode())
            case _:
                raise AssertionError(target)


async def the_next(client: BackpackClient, kind: type[RfqUpdate]) -> RfqUpdate:
    with anyio.fail_after(20):
        async for event in client:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"no {kind.__name__}")


def a_client(broker: Broker) -> BackpackClient:
    return BackpackClient(signer=Signer(Credentials(THROWAWAY_SECRET)), transport=MockTransport(broker))


async def test_a_request_on_a_stock_is_quoted_accepted_and_settled_at_a_better_price() -> None:
    broker = Broker()
    async with a_client(broker) as client:
        await client.subscribe(["account.rfqUpdate"], [SYMBOL])
        asked = await client.submit_rfq(SYMBOL, "Bid", quantity="2", client_id=7)
        assert (asked.rfq_id, asked.state) == (str(RFQ_ID), "New")
        assert (asked.submitted_us, asked.expires_us) == (NOW_US + 3_000_000, NOW_US + 30_000_000)
        taken_in = await the_next(client, RfqAccepted)
        assert (taken_in.submitted_us, taken_in.expires_us) == (asked.submitted_us, asked.expires_us)
        best = await the_next(client, RfqCandidate)
        assert best.quote_id == QUOTE_ID
        (listed,) = await client.get_open_rfqs(SYMBOL)
        assert [quote.quote_id for quote in listed.quotes] == [str(best.quote_id)]
        await client.accept_quote(best.quote_id, client_id=7)
        binding = await the_next(client, RfqAcceptedBinding)
        filled = await the_next(client, RfqFilled)
        assert (binding.price, filled.price, filled.state) == (Decimal("242.40"), Decimal("242.31"), "Filled")
        assert client.metrics.dropped_messages == 0
    assert f"account.rfqUpdate.{SYMBOL}" in broker.subscribed
    assert broker.calls == [
        ("GET /api/v1/market", {}),
        ("GET /api/v1/securities", {}),
        ("POST /api/v1/rfq", {"symbol": SYMBOL, "side": "Bid", "quantity": "2", "clientId": 7}),
        ("GET /api/v1/rfqs", {}),
        ("POST /api/v1/rfq/accept", {"quoteId": str(QUOTE_ID), "clientId": 7}),
    ], "the list of securities is read once"


async def test_a_request_is_refreshed_and_found_in_the_past_as_expired() -> None:
    async with a_client(Broker()) as client:
        await client.subscribe(["account.rfqUpdate"], ["AAPL.US-USDC-RFQ"])
        again = await client.refresh_rfq(RFQ_ID)
        assert again.rfq_id == str(RFQ_ID)
        await the_next(client, RfqRefreshed)
        await the_next(client, RfqCandidate)
        assert [(rfq.rfq_id, rfq.state) async for rfq in client.rfq_history(SYMBOL)] == [(str(RFQ_ID), "Expired")]


async def test_a_stock_that_is_no_security_is_refused_before_anything_is_asked() -> None:
    broker = Broker()
    async with a_client(broker) as client:
        with pytest.raises(UnknownSymbol, match=r"'ABCD\.US_USDC_RFQ'"):
            await client.submit_rfq("ABCD.US_USDC_RFQ", "Bid", quantity="1")
        with pytest.raises(UnknownSymbol):
            await client.subscribe(["account.rfqUpdate"], ["ABCD.US_USDC_RFQ"])
    assert "POST /api/v1/rfq" not in dict(broker.calls)
    assert broker.subscribed == []

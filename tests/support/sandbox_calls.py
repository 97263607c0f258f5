"""Every call of the endpoint table, made to the simulated exchange: the parameters that make sense there, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import Exchange, ExchangeOutput, RequestReceived, Respond
from backpack_proto.inputs import TimerFired
from backpack_proto.rest.codec import build_request, parse_response
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.testing.laws import FakeClock

__all__ = ["PARAMETERS", "Caller"]

EXAMPLES = json.loads((Path(__file__).parents[1] / "fixtures" / "backpack" / "rest.json").read_text())
LONGEST_WAIT_US = 1_000_000
RESTING = {"symbol": "SOL_USDC", "side": "Bid", "orderType": "Limit", "price": "80", "quantity": "1", "postOnly": True}
STRATEGY = {
    "symbol": "SOL_USDC",
    "side": "Bid",
    "strategyType": "Scheduled",
    "quantity": "10",
    "duration": 86_400_000,
    "interval": 3_600_000,
}
RFQ = {"symbol": "SOL_USDC_RFQ", "side": "Bid", "quantity": "1"}
OTHER_SECRET = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
MINT = {"vaultId": 1, "symbol": "USDC", "quantity": "10"}


class Caller:
    """Makes calls as the account of a simulated exchange, in virtual time."""

    def __init__(
        self, exchange: Exchange | None = None, clock: FakeClock | None = None, secret: str = THROWAWAY_SECRET
    ) -> None:
        self.clock = FakeClock() if clock is None else clock
        if exchange is None:
            keys = [Credentials(known).api_key for known in (THROWAWAY_SECRET, OTHER_SECRET)]
            exchange = Exchange(seed=1, unix_us=self.clock.unix_us, api_keys=keys)
        self.exchange = exchange
        self.signer = Signer(Credentials(secret))
        self.told: list[ExchangeOutput] = []
        """What the exchange sent besides answers, while calls were made."""
        self.sent_as: str | None = None
        """The API key that requests name, where it is not that of the signature."""
        self._number = 0

    def answer(self, name: str, parameters: Mapping[str, Any]) -> Respond:
        """Make a call, and return the answer as it leaves the exchange."""
        endpoint = ENDPOINTS[name]
        checked = endpoint.check(parameters)
        request = build_request(endpoint, checked, signer=self.signer, unix_us=self.clock.unix_us)
        self._number += 1
        headers = tuple(
            (name, self.sent_as if self.sent_as and name.lower() == "x-api-key" else value) for name, value in request.headers
        )
        given = RequestReceived(self._number, request.method, request.target, headers, request.body)
        outputs = self.exchange.handle(given, self.clock.now)
        until_us = self.clock.mono_us + LONGEST_WAIT_US
        while True:
            answers = [output for output in outputs if isinstance(output, Respond)]
            self.told += [output for output in outputs if not isinstance(output, Respond)]
            if answers:
                (answer,) = answers
                return answer
            deadline = self.exchange.deadline
            assert deadline is not None
            assert deadline <= until_us, f"{name} is not answered"
            outputs = self.exchange.handle(TimerFired(), self.clock.advance_to(deadline))

    def call(self, name: str, parameters: Mapping[str, Any]) -> Any:
        """Make a call, and return its answer as a client reads it."""
        answer = self.answer(name, parameters)
        endpoint = ENDPOINTS[name]
        return parse_response(
            endpoint, endpoint.check(parameters), status=answer.status, body=answer.body, headers=answer.headers
        )

    def parameters(self, name: str) -> Mapping[str, Any]:
        """Return the parameters of a call that this exchange can do. What they speak of is made first."""
        make = PARAMETERS.get(name)
        parameters: Mapping[str, Any] = EXAMPLES[name]["parameters"]
        if callable(make):
            return make(self)
        return parameters if make is None else make


def _order(caller: Caller) -> Mapping[str, Any]:
    return {"symbol": "SOL_USDC", "orderId": caller.call("place_order", RESTING).order_id}


def _strategy(caller: Caller) -> Mapping[str, Any]:
    return {"symbol": "SOL_USDC", "strategyId": caller.call("create_strategy", STRATEGY).strategy_id}


def _minted(caller: Caller) -> Mapping[str, Any]:
    caller.call("mint_vault_tokens", MINT)
    return {"vaultId": 1, "vaultTokenQuantity": "5"}


def _redeeming(caller: Caller) -> Mapping[str, Any]:
    caller.call("redeem_vault_tokens", _minted(caller))
    return {"vaultId": 1}


def _request(caller: Caller) -> Mapping[str, Any]:
    return {"rfqId": caller.call("submit_rfq", RFQ).rfq_id}


def _asked_by_another(caller: Caller) -> Mapping[str, Any]:
    other = Caller(caller.exchange, caller.clock, OTHER_SECRET)
    return {**_request(other), "bidPrice": "90", "askPrice": "110"}


def _quoted(caller: Caller) -> Mapping[str, Any]:
    asked = _request(caller)
    for _ in range(100):
        (found,) = caller.call("open_rfqs", {})
        if found.quotes:
            return {**asked, "quoteId": found.quotes[0].quote_id}
        caller.clock.advance(100_000)
    raise AssertionError("nobody quotes")


def _candles(caller: Caller) -> Mapping[str, Any]:
    return {"symbol": "SOL_USDC", "interval": "1m", "startTime": caller.clock.unix_us // 1_000_000 - 600}


PARAMETERS: Mapping[str, Mapping[str, Any] | Callable[[Caller], Mapping[str, Any]]] = {
    "ticker": {"symbol": "SOL_USDC"},
    "tickers": {},
    "klines": _candles,
    "order": _order,
    "cancel_order": _order,
    "place_order": RESTING,
    "place_orders": {"orders": [RESTING, {**RESTING, "price": "81"}]},
    "cancel_all_orders": {"symbol": "SOL_USDC"},
    # With a symbol, an account without a position there gets a 404.
    "positions": {},
    # With an asset, one of which there is no dust gets a 400.
    "convert_dust": {},
    "borrow_lend": {"quantity": "1", "side": "Lend", "symbol": "SOL"},
    "mint_vault_tokens": MINT,
    "redeem_vault_tokens": _minted,
    "cancel_vault_redeem": _redeeming,
    "pending_vault_redeems": _redeeming,
    "vaults_history": {"interval": "1d", "vaultId": 1},
    "prediction_events": {},
    "create_strategy": STRATEGY,
    "submit_rfq": RFQ,
    "submit_quote": _asked_by_another,
    "accept_quote": _quoted,
    "refresh_rfq": _request,
    "cancel_rfq": _request,
    "strategy": _strategy,
    "cancel_strategy": _strategy,
}
"""Where the parameters of the examples ask for what this exchange does not have."""

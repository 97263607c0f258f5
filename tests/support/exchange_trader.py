"""A client with the keys of the simulated account, in virtual time: it signs, sends, waits for answers, and hears the private streams."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer, json_body, query_string, signed_headers, signing_string
from backpack_proto.exchange import (
    THROWAWAY_SECRET,
    Exchange,
    ExchangeOutput,
    FrameReceived,
    RequestReceived,
    Respond,
    SendFrame,
    SocketOpened,
)
from backpack_proto.exchange.account.command_stream import SPEED_BUMP_US
from backpack_proto.http import Headers
from backpack_proto.inputs import TimerFired
from backpack_proto.testing.laws import FakeClock

__all__ = ["CREDENTIALS", "INSTRUCTIONS", "Trader"]

CREDENTIALS = Credentials(THROWAWAY_SECRET)
STREAMS = ("account.orderUpdate", "account.positionUpdate", "account.balanceUpdate")
INSTRUCTIONS = {
    ("GET", "/api/v1/account"): "accountQuery",
    ("GET", "/api/v1/capital"): "balanceQuery",
    ("GET", "/api/v1/capital/collateral"): "collateralQuery",
    ("GET", "/api/v1/position"): "positionQuery",
    ("GET", "/api/v1/order"): "orderQuery",
    ("POST", "/api/v1/order"): "orderExecute",
    ("DELETE", "/api/v1/order"): "orderCancel",
    ("GET", "/api/v1/orders"): "orderQueryAll",
    ("POST", "/api/v1/orders"): "orderExecute",
    ("DELETE", "/api/v1/orders"): "orderCancelAll",
    ("GET", "/wapi/v1/history/orders"): "orderHistoryQueryAll",
    ("GET", "/wapi/v1/history/fills"): "fillHistoryQueryAll",
    ("GET", "/wapi/v1/history/funding"): "fundingHistoryQueryAll",
    ("GET", "/wapi/v1/capital/deposits"): "depositQueryAll",
    ("GET", "/wapi/v1/history/dust"): "dustHistoryQueryAll",
    ("POST", "/api/v1/rfq"): "rfqSubmit",
    ("POST", "/api/v1/rfq/quote"): "quoteSubmit",
    ("POST", "/api/v1/rfq/accept"): "quoteAccept",
    ("POST", "/api/v1/rfq/refresh"): "rfqRefresh",
    ("POST", "/api/v1/rfq/cancel"): "rfqCancel",
    ("GET", "/api/v1/rfqs"): "rfqQuery",
    ("GET", "/wapi/v1/history/rfq"): "rfqHistoryQueryAll",
    ("GET", "/wapi/v1/history/quote"): "quoteHistoryQueryAll",
    ("GET", "/wapi/v1/history/rfq/fill"): "rfqFillHistoryQueryAll",
    ("GET", "/wapi/v1/history/quote/fill"): "quoteFillHistoryQueryAll",
}
Parameters = Mapping[str, Any]


class Trader:
    """A client with the keys of the account, and the exchange that it trades on."""

    def __init__(self, *, seed: int = 1, speed: float = 0.0, **options: Any) -> None:
        self.clock = FakeClock()
        self.exchange = Exchange(seed=seed, unix_us=self.clock.unix_us, speed=speed, **options)
        self.outputs: list[ExchangeOutput] = self.exchange.handle(SocketOpened(1), self.clock.now)

    @property
    def account(self) -> Any:
        return self.exchange.account

    def send(self, method: str, target: str, body: bytes, headers: Headers | Sequence[tuple[str, str]]) -> list[ExchangeOutput]:
        outputs = self.exchange.handle(RequestReceived(9, method, target, tuple(headers), body), self.clock.now)
        self.outputs += outputs
        return outputs

    def sign(self, text: str | bytes, timestamp: int, window_ms: int = 5_000) -> Headers:
        return signed_headers(CREDENTIALS, text, timestamp=timestamp, window_ms=window_ms)

    def request(self, method: str, path: str, parameters: Parameters | Sequence[Parameters] = ()) -> list[ExchangeOutput]:
        """Send a request signed by the instruction scheme."""
        given = parameters or {}
        stamp = self.clock.unix_us // 1000
        text = signing_string(INSTRUCTIONS[method, path], given, timestamp_ms=stamp, window_ms=5_000)
        body = b"" if method == "GET" else json_body(given)
        query = f"?{query_string(given)}" if method == "GET" and isinstance(given, Mapping) and given else ""
        return self.send(method, path + query, body, self.sign(text, stamp))

    def call(self, method: str, path: str, parameters: Parameters | Sequence[Parameters] = ()) -> tuple[int, Any]:
        """Send a request, and wait for the answer of an order that has to wait for the speed bump."""
        outputs = self.request(method, path, parameters)
        if not any(isinstance(output, Respond) for output in outputs):
            outputs = self.run(SPEED_BUMP_US)
        (answer,) = (output for output in outputs if isinstance(output, Respond))
        return answer.status, json.loads(answer.body) if "json" in answer.content_type else answer.body.decode()

    def get(self, path: str, **parameters: Any) -> Any:
        status, answer = self.call("GET", path, {name.rstrip("_"): value for name, value in parameters.items()})
        assert status == 200
        return answer

    def order(self, symbol: str, side: str, quantity: str | None, price: str | None = None, **more: Any) -> tuple[int, Any]:
        members = {"symbol": symbol, "side": side, "orderType": "Market" if price is None else "Limit"}
        given = {"quantity": quantity, "price": price, **more}
        return self.call("POST", "/api/v1/order", members | {k: v for k, v in given.items() if v is not None})

    def placed(self, symbol: str, side: str, quantity: str | None, price: str | None = None, **more: Any) -> dict[str, Any]:
        status, order = self.order(symbol, side, quantity, price, **more)
        assert status == 200, order
        assert isinstance(order, dict)
        return order

    def refused(self, symbol: str, side: str, quantity: str | None, price: str | None = None, **more: Any) -> tuple[str, str]:
        before = (self.account.balances, self.account.open_orders, len(self.account.history), self.exchange.levels("SOL_USDC"))
        status, error = self.order(symbol, side, quantity, price, **more)
        assert status == 400
        assert before == (
            self.account.balances,
            self.account.open_orders,
            len(self.account.history),
            self.exchange.levels("SOL_USDC"),
        )
        return (error["code"], error["message"]) if isinstance(error, dict) else ("", error)

    def best(self, symbol: str) -> tuple[Decimal, Decimal]:
        bids, asks, _ = self.exchange.levels(symbol)
        return bids[0][0], asks[0][0]

    def subscribe(self, *streams: str) -> list[ExchangeOutput]:
        signature = Signer(CREDENTIALS).subscribe_signature(self.clock.unix_us)
        frame = json.dumps({"method": "SUBSCRIBE", "params": streams or STREAMS, "signature": signature})
        outputs = self.exchange.handle(FrameReceived(1, frame.encode()), self.clock.now)
        self.outputs += outputs
        return outputs

    def run(self, us: int) -> list[ExchangeOutput]:
        end = self.clock.mono_us + us
        outputs: list[ExchangeOutput] = []
        while (deadline := self.exchange.deadline) is not None and deadline <= end:
            outputs += self.exchange.handle(TimerFired(), self.clock.advance_to(deadline))
        self.clock.advance(end - self.clock.mono_us)
        self.outputs += outputs
        return outputs

    def told(self) -> list[dict[str, Any]]:
        """Data of the private frames since the last time."""
        frames = [json.loads(output.data) for output in self.outputs if isinstance(output, SendFrame)]
        self.outputs = []
        return [frame["data"] for frame in frames if frame["stream"].startswith("account.")]

"""The table of accepted and refused orders, and a desk that puts an order to the simulated exchange as anybody may: by a signed request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import signed_headers
from backpack_proto.exchange import THROWAWAY_SECRET, Exchange, ExchangeOutput, RequestReceived, Respond, SocketOpened
from backpack_proto.exchange.market.listings import LISTINGS
from backpack_proto.inputs import TimerFired
from backpack_proto.rest.markets import Market, parse_markets
from backpack_proto.rest.new_order import NewOrder
from backpack_proto.streams.levels import Level
from backpack_proto.testing.laws import FakeClock

__all__ = ["EXPIRED", "MARKETS", "ROWS", "Desk", "known_of", "members_of", "order_of"]

D = Decimal
CENT = D("0.01")
TABLE: dict[str, Any] = json.loads((Path(__file__).parent.parent / "fixtures/backpack/orders.json").read_text())
ROWS: list[dict[str, Any]] = TABLE["orders"]
MARKETS: Mapping[str, Market] = parse_markets(json.dumps(list(TABLE["markets"].values())).encode())
EXPIRED = "expired"
"""An order was taken, and found nothing to trade with."""
MOST_TIMERS = 1_000
"""An answer may take its time, but not that many timers of the exchange."""


def members_of(row: Mapping[str, Any], last_price: Decimal | None = None) -> dict[str, Any]:
    """Return the members of the order of a row, with Python's names.

    A price may be so many times the last price, on the tick on its safe side, and so many ticks beyond that. The last price is the known
    one unless given.
    """
    members = dict(row["order"])
    price = members.get("price")
    if isinstance(price, dict):
        reached = D(row["known"]["last_price"] if last_price is None else last_price) * D(price["times_last"])
        rounding = ROUND_FLOOR if members["side"] == "Bid" else ROUND_CEILING
        members["price"] = str(reached.quantize(CENT, rounding) + price["ticks"] * CENT)
    return members


def order_of(row: Mapping[str, Any]) -> NewOrder:
    """Return the order of a row."""
    return NewOrder(symbol=row["market"], **members_of(row))


def known_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row knows beside the rules of the market, as `check_order` takes it."""
    known = dict(row.get("known", {}))
    return known | {side: [Level(*level) for level in known[side]] for side in ("bids", "asks") if side in known}


class Desk:
    """One account at a simulated exchange of a few markets, in virtual time."""

    def __init__(self, *symbols: str) -> None:
        self.clock = FakeClock()
        listings = [listing for listing in LISTINGS if listing.symbol in symbols]
        self.exchange = Exchange(seed=1, unix_us=self.clock.unix_us, speed=0.0, listings=listings)
        self.exchange.handle(SocketOpened(1), self.clock.now)

    def place(self, symbol: str, order: Mapping[str, Any]) -> str:
        """Place an order given in Python's names. Return why it was refused or has expired, nothing where it was accepted."""
        body = {"symbol": symbol} | {_camel(name): _on_wire(name, value) for name, value in order.items()}
        answer = self._answer(json.dumps(body).encode(), body)
        if answer.status != 200:
            return answer.body.decode()
        placed = json.loads(answer.body)
        return EXPIRED if placed["status"] == "Expired" else ""

    def hold(self, symbol: str, quantity: Decimal) -> None:
        """Open a position."""
        if quantity:
            side = "Bid" if quantity > 0 else "Ask"
            refused = self.place(symbol, {"side": side, "order_type": "Market", "quantity": str(abs(quantity))})
            assert not refused, refused

    def market(self, symbol: str) -> Market:
        """Return a market as the exchange shows it."""
        return parse_markets(b"[%b]" % self._get(f"market?symbol={symbol}"))[symbol]

    def last_price(self, symbol: str) -> Decimal:
        """Return the price of the last trade."""
        (trade,) = json.loads(self._get(f"trades?symbol={symbol}&limit=1"))
        return Decimal(trade["price"])

    def _get(self, target: str) -> bytes:
        return self._respond(RequestReceived(9, "GET", f"/api/v1/{target}", (), b"")).body

    def _answer(self, body: bytes, members: Mapping[str, Any]) -> Respond:
        stamp = self.clock.unix_us // 1000
        pairs = "&".join(f"{name}={_signed(members[name])}" for name in sorted(members))
        text = f"instruction=orderExecute&{pairs}&timestamp={stamp}&window=5000"
        headers = signed_headers(Credentials(THROWAWAY_SECRET), text, timestamp=stamp, window_ms=5_000)
        return self._respond(RequestReceived(9, "POST", "/api/v1/order", headers, body))

    def _respond(self, request: RequestReceived) -> Respond:
        outputs: list[ExchangeOutput] = list(self.exchange.handle(request, self.clock.now))
        for _ in range(MOST_TIMERS):
            answers = [output for output in outputs if isinstance(output, Respond)]
            if answers:
                return answers[-1]
            deadline = self.exchange.deadline
            assert deadline is not None, "no answer will come"
            outputs = list(self.exchange.handle(TimerFired(), self.clock.advance_to(deadline)))
        raise AssertionError("no answer has come")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _on_wire(name: str, value: object) -> object:
    """Return a value as a client sends it: an exact amount is text, anything else is what it is."""
    exact = isinstance(value, Decimal | int) and not isinstance(value, bool) and name != "client_id"
    return str(value) if exact else value


def _signed(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Who trades on the account: the session's own user, who also changes their mind, and a second client that the session knows nothing of."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import THROWAWAY_SECRET
from backpack_proto.http import Argument
from backpack_proto.inputs import Call, Resolve, Withdraw
from backpack_proto.rest.codec import build_request
from backpack_proto.rest.endpoints.table import find_endpoint

if TYPE_CHECKING:
    from .world import World

__all__ = ["Trader"]

SECOND = 1_000_000
USUAL_PAUSE_US = (8 * SECOND, 60 * SECOND)


class Trader:
    """The users of the account."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._signer = Signer(Credentials(THROWAWAY_SECRET))
        self._calls = 0
        self._client_id = 0
        self.acted_us = 0
        """When something was last done, by whomever."""
        self.placed: dict[int, int] = {}
        """The client id of each order that the session was asked to place, by call id."""
        self.withdrawn: dict[int, int] = {}
        """When the caller of an order gave up, by client id."""

    def act(self, rng: Random) -> None:
        """Have the session place an order, or cancel one."""
        symbol = self._symbol(rng)
        if symbol is None:
            return
        self.acted_us = self._world.network.now_us
        orders = list(self._world.exchange.account.orders.values())
        if orders and rng.random() < 0.45:
            order = rng.choice(orders)
            self._call("cancel_order", {"symbol": order.symbol, "orderId": str(order.order_id)})
        elif len(orders) < 30:
            self._place(symbol, rng)

    def call_and_abandon(self, rng: Random) -> None:
        """Call something, and withdraw the call a moment later, which may be too late."""
        symbol = self._symbol(rng)
        if symbol is None or self._world.network.frozen_until_us is not None:
            return
        self.acted_us = self._world.network.now_us
        if self._world.plan.account and rng.random() < 0.7:
            call_id = self._place(symbol, rng)
        else:
            call_id = self._call("ticker", {"symbol": symbol})
        self._world.network.after(rng.randrange(400_000), self._abandon, call_id)

    def _abandon(self, call_id: int) -> None:
        network = self._world.network
        if network.frozen_until_us is not None:
            return
        client_id = self.placed.get(call_id)
        if client_id is not None:
            self.withdrawn[client_id] = network.now_us
        self._world.fired("abandoned_calls")
        network.give(Withdraw(call_id))
        network.after(120 * SECOND, self._resolve, call_id)

    def _resolve(self, call_id: int) -> None:
        network = self._world.network
        if network.frozen_until_us is None and call_id in network.session.unresolved:
            network.give(Resolve(call_id))

    def act_elsewhere(self, rng: Random, name: str) -> None:
        """Have the second client place an order, or cancel all of a market."""
        symbol = self._symbol(rng)
        if symbol is None or not self._world.plan.account:
            return
        self.acted_us = self._world.network.now_us
        cancels = rng.random() < 0.3
        arguments: dict[str, Argument] = {"symbol": symbol} if cancels else self._order(symbol, rng)
        found = find_endpoint("cancel_all_orders" if cancels else "place_order")
        unix_us = self._world.network.true_now.unix_us
        request = build_request(found, found.check(arguments), signer=self._signer, unix_us=unix_us)
        self._world.network.request_elsewhere(request)
        self._world.fired(name)

    def _symbol(self, rng: Random) -> str | None:
        """Return a market that is open and has both sides."""
        symbol = rng.choice(self._world.symbols)
        if symbol not in self._world.exchange.symbols:
            return None
        return symbol if all(self._world.exchange.best(symbol)) else None

    def _place(self, symbol: str, rng: Random) -> int:
        self._client_id += 1
        call_id = self._call("place_order", {**self._order(symbol, rng), "clientId": self._client_id})
        self.placed[call_id] = self._client_id
        return call_id

    def _order(self, symbol: str, rng: Random) -> dict[str, Argument]:
        listing = self._world.listings[symbol]
        bid, ask = self._world.exchange.best(symbol)
        if bid is None or ask is None:
            raise AssertionError(f"{symbol} has a side without orders")
        side = rng.choice(("Bid", "Ask"))
        touch = bid[0] if side == "Bid" else ask[0]
        away = rng.randrange(-1, 6) * (1 if side == "Ask" else -1)
        lots = rng.randrange(1, 400)
        return {
            "symbol": symbol,
            "side": side,
            "orderType": "Limit",
            "price": format(Decimal(touch + away).scaleb(-listing.price_decimals), "f"),
            "quantity": format(Decimal(lots).scaleb(-listing.quantity_decimals), "f"),
            "timeInForce": rng.choice(("GTC", "GTC", "GTC", "IOC")),
        }

    def _call(self, endpoint: str, parameters: dict[str, Argument]) -> int:
        self._calls += 1
        self._world.network.give(Call(call_id=self._calls, endpoint=endpoint, parameters=parameters))
        return self._calls

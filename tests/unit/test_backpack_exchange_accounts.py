"""Several accounts of one simulated exchange: they share the books, and nothing else."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from backpack_proto.auth.keys import Credentials
from backpack_proto.errors import ApiError, LocalProtocolError
from backpack_proto.exchange import (
    LISTINGS,
    THROWAWAY_SECRET,
    Exchange,
    FrameReceived,
    SendFrame,
    SocketOpened,
)
from backpack_proto.testing.laws import FakeClock
from sandbox_calls import Caller

OTHER_SECRET = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
STRANGER_SECRET = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
PRIVATE = ("account.orderUpdate", "account.balanceUpdate", "account.positionUpdate")


class Pair:
    """Two accounts on a still book, each with a connection that listens to its private streams."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.exchange = Exchange(
            seed=1,
            unix_us=self.clock.unix_us,
            speed=0.0,
            api_keys=[Credentials(secret).api_key for secret in (THROWAWAY_SECRET, OTHER_SECRET)],
            listings=[listing for listing in LISTINGS if listing.symbol in {"SOL_USDC", "SOL_USDC_PERP"}],
        )
        self.first = Caller(self.exchange, self.clock, THROWAWAY_SECRET)
        self.second = Caller(self.exchange, self.clock, OTHER_SECRET)
        for connection, caller in ((1, self.first), (2, self.second)):
            self.exchange.handle(SocketOpened(connection), self.clock.now)
            self.subscribe(connection, caller)

    def subscribe(self, connection: int, caller: Caller) -> list[object]:
        signature = caller.signer.subscribe_signature(self.clock.unix_us)
        frame = json.dumps({"method": "SUBSCRIBE", "params": PRIVATE, "signature": signature}).encode()
        return list(self.exchange.handle(FrameReceived(connection, frame), self.clock.now))

    def told(self, *callers: Caller) -> dict[int, set[str]]:
        """The events that each connection was told of."""
        events: dict[int, set[str]] = {1: set(), 2: set()}
        for caller in callers:
            for output in caller.told:
                if isinstance(output, SendFrame):
                    events[output.connection].add(json.loads(output.data)["data"]["e"])
            caller.told.clear()
        return events


def order(symbol: str, side: str, price: str) -> dict[str, object]:
    return {"symbol": symbol, "side": side, "orderType": "Limit", "price": price, "quantity": "2"}


def test_two_accounts_trade_with_each_other_and_each_hears_of_its_own_side() -> None:
    pair = Pair()
    _, asks, _ = pair.exchange.levels("SOL_USDC")
    sold = pair.first.call("place_order", {**order("SOL_USDC", "Ask", str(asks[0].price - Decimal("0.01"))), "postOnly": True})
    assert pair.told(pair.first, pair.second) == {1: {"orderAccepted", "balanceUpdate"}, 2: set()}
    bought = pair.second.call("place_order", order("SOL_USDC", "Bid", str(sold.price)))
    assert bought.state == "Filled"
    assert pair.told(pair.first, pair.second) == {
        1: {"orderFill", "balanceUpdate"},
        2: {"orderAccepted", "orderFill", "balanceUpdate"},
    }
    (made,), (taken,) = pair.first.call("fill_history", {}), pair.second.call("fill_history", {})
    assert (made.trade_id, made.price, made.quantity) == (taken.trade_id, taken.price, taken.quantity)
    assert (made.maker, taken.maker) == (True, False)
    assert pair.first.call("balances", {})["SOL"].available == 998
    assert pair.second.call("balances", {})["SOL"].available > 1001, "less a fee"


def test_positions_of_two_accounts_are_opposite_and_their_own() -> None:
    pair = Pair()
    _, asks, _ = pair.exchange.levels("SOL_USDC_PERP")
    price = str(asks[0].price - Decimal("0.01"))
    pair.first.call("place_order", {**order("SOL_USDC_PERP", "Ask", price), "postOnly": True})
    pair.second.call("place_order", order("SOL_USDC_PERP", "Bid", price))
    (short,), (long,) = pair.first.call("positions", {}), pair.second.call("positions", {})
    assert (short.net_quantity, long.net_quantity) == (-2, 2)
    assert short.position_id != long.position_id
    # Whoever listens now is shown the position of the account that signed.
    pair.exchange.handle(SocketOpened(3), pair.clock.now)
    (greeting,) = pair.subscribe(3, pair.second)
    assert isinstance(greeting, SendFrame)
    assert json.loads(greeting.data)["data"]["q"] == "2.00"


def test_nobody_sees_or_cancels_the_orders_of_another() -> None:
    pair = Pair()
    placed = pair.first.call("place_order", {**order("SOL_USDC", "Bid", "80"), "postOnly": True})
    assert pair.second.call("open_orders", {}) == ()
    with pytest.raises(ApiError):
        pair.second.call("cancel_order", {"symbol": "SOL_USDC", "orderId": placed.order_id})
    assert pair.second.call("cancel_all_orders", {"symbol": "SOL_USDC"}) == ()
    assert len(pair.first.call("open_orders", {})) == 1
    assert len(pair.exchange.accounts) == 2


def test_each_account_has_a_budget_of_its_own() -> None:
    pair = Pair()
    pair.exchange.limits.per_minute = 1
    pair.first.call("balances", {})
    with pytest.raises(ApiError, match="Too many requests"):
        pair.first.call("balances", {})
    pair.second.call("balances", {})


def test_a_key_of_no_account_is_refused() -> None:
    pair = Pair()
    stranger = Caller(pair.exchange, pair.clock, STRANGER_SECRET)
    with pytest.raises(ApiError) as refused:
        stranger.call("balances", {})
    assert refused.value.status == 401
    pair.exchange.handle(SocketOpened(3), pair.clock.now)
    (answer,) = pair.subscribe(3, stranger)
    assert isinstance(answer, SendFrame)
    assert b"Invalid signature" in answer.data


def test_a_signature_of_one_account_with_the_key_of_another_is_refused() -> None:
    pair = Pair()
    forged = Caller(pair.exchange, pair.clock, OTHER_SECRET)
    key = Credentials(THROWAWAY_SECRET).api_key

    forged.sent_as = key
    with pytest.raises(ApiError, match="Invalid signature"):
        forged.call("balances", {})


def test_there_is_an_account_and_no_two_have_one_key() -> None:
    for keys in ([], [Credentials(THROWAWAY_SECRET).api_key] * 2):
        with pytest.raises(LocalProtocolError, match=f"1 to 1000 keys, all different, got {len(keys)}"):
            Exchange(seed=1, unix_us=0, api_keys=keys)

"""What an account of the simulated exchange has beside balances and orders: it moves money once, and says so."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from backpack_proto.errors import ApiError
from backpack_proto.exchange import FrameReceived, SocketOpened
from backpack_proto.streams.frames import Frame, decode_frame
from sandbox_calls import MINT, STRATEGY, Caller

SECOND = 1_000_000


def available(caller: Caller, asset: str) -> Any:
    held = caller.call("balances", {}).get(asset)
    return 0 if held is None else held.available


def refusal(caller: Caller, name: str, parameters: dict[str, Any]) -> str:
    with pytest.raises(ApiError) as refused:
        caller.call(name, parameters)
    return refused.value.code


def test_a_withdrawal_takes_its_amount_and_its_fee_and_is_confirmed_later() -> None:
    caller = Caller()
    asked = {"address": "somewhere", "blockchain": "Solana", "quantity": "12.5", "symbol": "SOL", "clientId": "mine"}
    made = caller.call("withdraw", asked)
    assert (made.quantity, made.fee, made.state, made.client_id) == (Decimal("12.5"), Decimal("0.01"), "pending", "mine")
    assert available(caller, "SOL") == Decimal("987.49")
    assert caller.call("max_withdrawal_quantity", {"symbol": "SOL"}).max_withdrawal_quantity == Decimal("987.48")
    caller.clock.advance(30 * SECOND)
    (listed,) = caller.call("withdrawals", {"clientId": "mine"})
    assert (listed.withdrawal_id, listed.state) == (made.withdrawal_id, "confirmed")
    assert caller.call("withdrawals", {"clientId": "another"}) == ()
    made_ms = caller.clock.unix_us // 1_000 - 30_000
    for times, count in (({"from": made_ms}, 1), ({"to": made_ms}, 1), ({"from": made_ms + 1}, 0), ({"to": made_ms - 1}, 0)):
        assert len(caller.call("withdrawals", times)) == count
        assert len(caller.call("deposits", times)) == 4 * count
    assert refusal(caller, "withdraw", {**asked, "quantity": "987.49"}) == "INSUFFICIENT_FUNDS"
    assert refusal(caller, "withdraw", {**asked, "quantity": "0.01"}) == "INVALID_QUANTITY"
    assert refusal(caller, "withdraw", {**asked, "symbol": "DOGE"}) == "INVALID_SYMBOL"


def test_listeners_are_told_of_balances_that_moved() -> None:
    caller = Caller()
    caller.exchange.handle(SocketOpened(1), caller.clock.now)
    key, signature, timestamp, window = caller.signer.subscribe_signature(caller.clock.unix_us)
    frame = f'{{"method":"SUBSCRIBE","params":["account.balanceUpdate"],"signature":["{key}","{signature}","{timestamp}","{window}"]}}'
    caller.exchange.handle(FrameReceived(1, frame.encode()), caller.clock.now)
    caller.call("borrow_lend", {"quantity": "3", "side": "Lend", "symbol": "SOL"})
    (told,) = caller.told
    decoded = decode_frame(told.data)  # type: ignore[union-attr]
    assert isinstance(decoded, Frame)
    assert (decoded.payload.asset, decoded.payload.available) == ("SOL", 997)  # type: ignore[union-attr]


def test_what_is_lent_can_be_taken_back_and_nothing_be_borrowed() -> None:
    caller = Caller()
    lend = {"quantity": "10", "side": "Lend", "symbol": "SOL"}
    caller.call("borrow_lend", lend)
    (position,) = caller.call("borrow_lend_positions", {})
    assert (position.symbol, position.net_quantity, available(caller, "SOL")) == ("SOL", 10, 990)
    caller.call("borrow_lend", {**lend, "side": "Borrow", "quantity": "4"})
    assert available(caller, "SOL") == 994
    assert refusal(caller, "borrow_lend", {**lend, "side": "Borrow"}) == "BORROW_LIMIT"
    assert refusal(caller, "borrow_lend", {**lend, "quantity": "995"}) == "INSUFFICIENT_FUNDS"
    history = caller.call("borrow_lend_history", {"symbol": "SOL"})
    assert [(row.event_type, row.quantity, row.position_quantity) for row in history] == [
        ("LendRedeem", 4, 6),
        ("Lend", 10, 10),
    ]
    caller.call("borrow_lend", {**lend, "side": "Borrow", "quantity": "6"})
    assert caller.call("borrow_lend_positions", {}) == ()


def test_tokens_of_the_vault_are_redeemed_a_minute_later_or_kept() -> None:
    caller = Caller()
    caller.call("mint_vault_tokens", MINT)
    assert (available(caller, "USDC"), available(caller, "vUSDC")) == (999_990, 10)
    caller.call("redeem_vault_tokens", {"vaultId": 1, "vaultTokenQuantity": "4"})
    caller.call("cancel_vault_redeem", {"vaultId": 1})
    assert available(caller, "vUSDC") == 10
    caller.call("redeem_vault_tokens", {"vaultId": 1})
    (pending,) = caller.call("pending_vault_redeems", {"vaultId": 1})
    assert (pending.vault_token_quantity, pending.state) == (10, "Requested")
    caller.clock.advance(60 * SECOND)
    assert (available(caller, "USDC"), available(caller, "vUSDC")) == (1_000_000, 0)
    assert caller.call("pending_vault_redeems", {"vaultId": 1}) == ()
    assert refusal(caller, "cancel_vault_redeem", {"vaultId": 1}) == "RESOURCE_NOT_FOUND"
    assert refusal(caller, "redeem_vault_tokens", {"vaultId": 1}) == "INSUFFICIENT_FUNDS"
    assert refusal(caller, "mint_vault_tokens", {**MINT, "vaultId": 2}) == "INVALID_CLIENT_REQUEST"


def test_dust_becomes_usdc_and_a_whole_step_is_not_dust() -> None:
    caller = Caller()
    assert refusal(caller, "convert_dust", {"symbol": "SOL"}) == "INVALID_QUANTITY"
    # A step of SOL is 0.01, and the fee of a withdrawal as much.
    caller.call("withdraw", {"address": "x", "blockchain": "Solana", "quantity": "999.985", "symbol": "SOL"})
    assert available(caller, "SOL") == Decimal("0.005")
    before = available(caller, "USDC")
    caller.call("convert_dust", {})
    (row,) = caller.call("dust_history", {})
    assert (row.symbol, row.quantity) == ("SOL", Decimal("0.005"))
    assert available(caller, "USDC") == before + row.usdc_received
    assert available(caller, "SOL") == 0


def test_the_largest_order_can_be_placed_and_no_larger_one() -> None:
    caller = Caller()
    asked = {"symbol": "SOL_USDC", "side": "Bid", "price": "80"}
    most = caller.call("max_order_quantity", asked).max_order_quantity
    order = {**asked, "orderType": "Limit", "postOnly": True}
    assert refusal(caller, "place_order", {**order, "quantity": str(most + Decimal("0.01"))}) == "INSUFFICIENT_FUNDS"
    caller.call("place_order", {**order, "quantity": str(most)})
    assert caller.call("max_order_quantity", {"symbol": "SOL_USDC", "side": "Ask"}).max_order_quantity == 1_000
    assert caller.call("max_order_quantity", asked).max_order_quantity == 0
    assert caller.call("max_order_quantity", {**asked, "symbol": "SOL_USDC_PERP", "reduceOnly": True}).max_order_quantity == 0


def test_the_largest_order_of_a_perpetual_is_what_margin_allows() -> None:
    caller = Caller()
    order = {"symbol": "SOL_USDC_PERP", "side": "Bid", "orderType": "Limit", "price": "80", "postOnly": True}
    caller.call(
        "place_order", {**order, "orderType": "Market", "postOnly": None, "price": None, "side": "Ask", "quantity": "7"}
    )
    # A short position may be turned round, so a bid may be larger than an ask.
    most, least = (
        caller.call("max_order_quantity", {"symbol": "SOL_USDC_PERP", "side": side}).max_order_quantity
        for side in ("Bid", "Ask")
    )
    assert most > least > 0
    assert refusal(caller, "place_order", {**order, "quantity": str(most + Decimal("0.01"))}) == "INSUFFICIENT_MARGIN"
    caller.call("place_order", {**order, "quantity": str(most)})
    assert caller.call("max_order_quantity", {"symbol": "SOL_USDC_PERP", "side": "Bid"}).max_order_quantity == 0


def test_settings_are_kept_and_shown() -> None:
    caller = Caller()
    caller.call("update_account", {"autoLend": True, "leverageLimit": "5"})
    caller.call("update_account", {"autoRepayBorrows": True})
    account = caller.call("account", {})
    assert (account.auto_lend, account.auto_repay_borrows, account.leverage_limit) == (True, True, 5)
    assert refusal(caller, "update_account", {"leverageLimit": "51"}) == "INVALID_RANGE"


def test_a_strategy_is_kept_listed_and_cancelled() -> None:
    caller = Caller()
    made = caller.call("create_strategy", {**STRATEGY, "clientStrategyId": 41})
    assert (made.state, made.executed_quantity) == ("Running", 0)
    assert caller.call("strategy", {"symbol": "SOL_USDC", "clientStrategyId": 41}) == made
    assert refusal(caller, "create_strategy", {**STRATEGY, "clientStrategyId": 41}) == "INVALID_ORDER"
    other = caller.call("create_strategy", {**STRATEGY, "symbol": "BTC_USDC"})
    assert caller.call("open_strategies", {}) == (made, other)
    assert caller.call("open_strategies", {"symbol": "BTC_USDC"}) == (other,)
    cancelled = caller.call("cancel_strategy", {"symbol": "SOL_USDC", "strategyId": made.strategy_id})
    assert cancelled.state == "Cancelled"
    assert [row.strategy_id for row in caller.call("cancel_all_strategies", {"symbol": "BTC_USDC"})] == [other.strategy_id]
    assert caller.call("open_strategies", {}) == ()
    assert [row.state for row in caller.call("strategy_history", {})] == ["Cancelled", "Cancelled"]
    assert refusal(caller, "strategy", {"symbol": "SOL_USDC", "strategyId": made.strategy_id}) == "RESOURCE_NOT_FOUND"
    assert refusal(caller, "create_strategy", {**STRATEGY, "interval": 86_400_001}) == "INVALID_ORDER"

"""The table of endpoints, beside everything that has to keep step with it: a row that was forgotten somewhere fails here.

That every row has an example of a call and of its answer is said beside those examples.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

import backpack_proto
from backpack_proto.auth.keys import THROWAWAY_SECRET, Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.exchange import Exchange, RequestReceived, Respond
from backpack_proto.exchange.account.command_stream import SPEED_BUMP_US
from backpack_proto.inputs import TimerFired
from backpack_proto.rest.codec import build_request
from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.testing.laws import FakeClock
from backpack_runtime.rest_methods import RestMethods

EXAMPLES = json.loads((Path(__file__).parents[1] / "fixtures" / "backpack" / "rest.json").read_text())

# Histories are named by what they list.
METHODS = {"fill_history": "fills"}

BY_CALL_ONLY = """
    account accept_quote assets borrow_lend borrow_lend_apy borrow_lend_history borrow_lend_liquidation_price borrow_lend_markets
    borrow_lend_markets_history borrow_lend_position_history borrow_lend_positions cancel_all_strategies cancel_rfq cancel_strategy
    cancel_vault_redeem collateral collateral_parameters convert_dust create_strategy deposit_address deposits dust_history
    funding_history interest_history market market_sessions max_borrow_quantity max_order_quantity max_withdrawal_quantity
    mint_vault_tokens open_rfqs open_strategies pending_vault_redeems ping position_history prediction_events prediction_tags
    quote_fill_history quote_history redeem_vault_tokens refresh_rfq rfq_fill_history rfq_history securities settlement_history
    status strategy strategy_history submit_quote submit_rfq trades_history update_account vault_nav vaults vaults_history wallets
    withdraw withdrawals
"""
"""The client has no method of their own for these: `client.call(name)` reaches them."""

NOT_SIMULATED = """
    borrow_lend borrow_lend_apy borrow_lend_liquidation_price cancel_all_strategies cancel_strategy
    cancel_vault_redeem convert_dust create_strategy deposit_address max_borrow_quantity max_order_quantity max_withdrawal_quantity
    mint_vault_tokens redeem_vault_tokens strategy vault_nav withdraw
"""
"""The simulated exchange has no answer to these."""


def has_a_method(endpoint: str) -> bool:
    return any(hasattr(RestMethods, name) for name in (f"get_{endpoint}", METHODS.get(endpoint, endpoint)))


def test_every_endpoint_is_a_method_of_the_client_or_known_to_be_reached_by_call_alone() -> None:
    assert {name for name in ENDPOINTS if not has_a_method(name)} == set(BY_CALL_ONLY.split())


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_type_of_an_answer_is_public(name: str) -> None:
    for kind in (ENDPOINTS[name].result, *get_args(ENDPOINTS[name].result)):
        if isinstance(kind, type) and kind.__module__.startswith("backpack_proto."):
            assert getattr(backpack_proto, kind.__name__) is kind
            assert kind.__name__ in backpack_proto.__all__


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_is_simulated_or_known_not_to_be(name: str) -> None:
    clock = FakeClock()
    exchange = Exchange(seed=1, unix_us=clock.unix_us)
    signer = Signer(Credentials(THROWAWAY_SECRET))
    request = build_request(ENDPOINTS[name], EXAMPLES[name]["parameters"], signer=signer, unix_us=clock.unix_us)
    given = RequestReceived(1, request.method, request.target, tuple(request.headers), request.body)
    outputs = exchange.handle(given, clock.now)
    if not outputs:  # orders wait for the speed bump
        clock.advance(SPEED_BUMP_US)
        outputs = exchange.handle(TimerFired(), clock.now)
    (answer,) = (output for output in outputs if isinstance(output, Respond))
    unserved = answer.body in {b"404 not found", b"method not allowed"}
    assert unserved == (name in NOT_SIMULATED.split()), answer

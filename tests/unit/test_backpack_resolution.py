"""What lists of the exchange say about an order whose placing was never answered."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from backpack_proto.account.values import Fill, Order
from backpack_proto.orders.intents import IntentOutcome, OrderIntent
from backpack_proto.orders.resolution import (
    Evidence,
    OrderFound,
    OrderNeverHappened,
    OrderUnresolved,
    Resolution,
    ended,
    judge,
    not_before_ms,
    settled_ms,
)

SIGNED_MS = 1_788_367_430_000
INTENT = OrderIntent(client_id=7, symbol="SOL_USDC", signed_ms=SIGNED_MS, window_ms=5_000, order={"clientId": 7})
ORDER = Order(
    order_id="28",
    client_id=7,
    symbol="SOL_USDC",
    side="Bid",
    state="New",
    created_us=SIGNED_MS * 1_000,
    executed_quantity=Decimal(0),
)
FILL = Fill(
    symbol="SOL_USDC",
    trade_id=1,
    order_id="28",
    client_id=7,
    side="Bid",
    price=Decimal(100),
    quantity=Decimal(1),
    filled_us=SIGNED_MS * 1_000,
)
AFTER = SIGNED_MS + 7_000
"""The window and two seconds."""


@pytest.mark.parametrize(
    ("evidence", "resolution"),
    [
        (Evidence(server_ms=SIGNED_MS, open_orders=(ORDER,)), OrderFound(intent=INTENT, order=ORDER)),
        (Evidence(server_ms=SIGNED_MS, history=(ORDER,)), OrderFound(intent=INTENT, order=ORDER)),
        (Evidence(server_ms=SIGNED_MS, fills=(FILL,)), OrderFound(intent=INTENT, fills=(FILL,))),
        (Evidence(server_ms=AFTER), OrderNeverHappened(intent=INTENT)),
        (
            Evidence(server_ms=AFTER - 1),
            OrderUnresolved(intent=INTENT, reason="it may still be placed for 0.0 s", settled_ms=AFTER),
        ),
        (
            Evidence(server_ms=SIGNED_MS),
            OrderUnresolved(intent=INTENT, reason="it may still be placed for 7.0 s", settled_ms=AFTER),
        ),
    ],
)
def test_an_order_is_found_or_never_happened_or_it_is_too_early_to_say(evidence: Evidence, resolution: Resolution) -> None:
    assert judge(INTENT, evidence) == resolution


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, client_id=8),
        replace(ORDER, client_id=None),
        replace(ORDER, symbol="BTC_USDC"),
        replace(ORDER, created_us=not_before_ms(INTENT) * 1_000 - 1),
    ],
)
def test_another_order_is_not_taken_for_it(other: Order) -> None:
    assert judge(INTENT, Evidence(server_ms=AFTER, open_orders=(other,), history=(other,))) == OrderNeverHappened(intent=INTENT)


def test_fills_of_an_order_that_had_the_id_before_are_not_taken_for_its_own() -> None:
    old = replace(FILL, order_id="3", filled_us=not_before_ms(INTENT) * 1_000 - 1)
    assert judge(INTENT, Evidence(server_ms=AFTER, fills=(old,))) == OrderNeverHappened(intent=INTENT)
    earlier = replace(FILL, order_id="3", filled_us=FILL.filled_us - 1)
    assert judge(
        INTENT,
        Evidence(
            server_ms=AFTER,
            fills=(
                earlier,
                FILL,
            ),
        ),
    ) == OrderFound(intent=INTENT, fills=(FILL,))


def test_an_order_without_a_creation_time_counts_for_listed_now() -> None:
    listed = replace(ORDER, created_us=None)
    assert judge(INTENT, Evidence(server_ms=SIGNED_MS, open_orders=(listed,))) == OrderFound(intent=INTENT, order=listed)


def test_of_two_with_one_id_the_newer_is_it() -> None:
    older = replace(ORDER, order_id="27", created_us=SIGNED_MS * 1_000 - 1)
    assert judge(
        INTENT,
        Evidence(
            server_ms=AFTER,
            history=(
                older,
                ORDER,
            ),
        ),
    ) == OrderFound(intent=INTENT, order=ORDER)


def test_the_outcome_that_is_written_down_names_the_order() -> None:
    assert ended(OrderFound(intent=INTENT, order=ORDER)) == (IntentOutcome.FOUND, "28")
    assert ended(OrderFound(intent=INTENT, fills=(FILL,))) == (IntentOutcome.FOUND, "28")
    assert ended(OrderNeverHappened(intent=INTENT)) == (IntentOutcome.NEVER_HAPPENED, None)


def test_an_order_may_show_up_until_two_seconds_after_its_window() -> None:
    assert settled_ms(INTENT) == AFTER
    assert settled_ms(replace(INTENT, window_ms=60_000)) == SIGNED_MS + 62_000


def test_what_was_signed_by_an_unknown_clock_is_looked_for_further_back_and_never_said_not_to_have_happened() -> None:
    unmeasured = replace(INTENT, clock_error_ms=None)
    early = replace(ORDER, created_us=(SIGNED_MS - 3_600_000) * 1_000)
    assert judge(unmeasured, Evidence(server_ms=AFTER, history=(early,))) == OrderFound(intent=unmeasured, order=early)
    unresolved = judge(unmeasured, Evidence(server_ms=AFTER))
    assert isinstance(unresolved, OrderUnresolved)
    assert "clock was not known" in unresolved.reason
    off = replace(INTENT, clock_error_ms=5_000)
    late = replace(ORDER, created_us=(SIGNED_MS - 64_000) * 1_000)
    assert judge(off, Evidence(server_ms=AFTER, history=(late,))) == OrderFound(intent=off, order=late)
    assert judge(INTENT, Evidence(server_ms=AFTER, history=(late,))) == OrderNeverHappened(intent=INTENT)

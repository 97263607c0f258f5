"""The desk that every order of a client passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backpack_proto.account.values import Order
from backpack_proto.errors import ApiError, LocalProtocolError, NotSent, OutcomeUnknown
from backpack_proto.orders.intents import IntentEnded, IntentOutcome, Intents, OrderIntent
from backpack_proto.outputs import CallAnswered, CallFailed
from backpack_proto.rest.endpoints.table import find_endpoint
from backpack_runtime.orders.desk import OrderDesk
from backpack_runtime.orders.instances import Lease
from backpack_runtime.orders.journal import Journal


def intent(client_id: int) -> OrderIntent:
    return OrderIntent(client_id=client_id, symbol="SOL_USDC", signed_ms=1_788_367_430_000, window_ms=5_000, order={})


def order(client_id: int) -> Order:
    return Order(order_id="28", client_id=client_id, symbol="SOL_USDC", side="Bid", state="New")


@pytest.fixture
def in_doubt() -> set[int]:
    """The calls that were given up, and may have been sent."""
    return set()


@pytest.fixture
def desk(tmp_path: Path, in_doubt: set[int]) -> Iterator[OrderDesk]:
    lease = Lease.take(tmp_path, None)
    desk = OrderDesk(Journal(Intents(0)), lease, in_doubt=lambda: in_doubt, taken=())
    yield desk
    desk.release()


def sent(desk: OrderDesk, call_id: int, client_id: int) -> None:
    desk.begin(call_id, (client_id,))
    desk.journal.write([intent(client_id)])


@pytest.mark.parametrize(
    ("error", "unresolved"),
    [
        (ApiError(status=400, code="INVALID_PRICE", message="", endpoint="POST /api/v1/order"), []),
        (NotSent(endpoint="POST /api/v1/order", reason="no connection"), []),
        (OutcomeUnknown(endpoint="POST /api/v1/order", reason="no answer"), [5]),
    ],
)
def test_only_an_order_in_doubt_has_no_outcome(desk: OrderDesk, error: Exception, unresolved: list[int]) -> None:
    sent(desk, 1, 5)
    assert list(desk.unresolved) == [], "its answer is waited for"
    desk.settle(CallFailed(call_id=1, endpoint="place_order", error=error))  # type: ignore[arg-type]  # each is one
    assert list(desk.unresolved) == unresolved


def test_a_call_that_was_given_up_in_time_was_not_sent(desk: OrderDesk, in_doubt: set[int]) -> None:
    sent(desk, 1, 5)
    in_doubt.add(1)
    desk.give_up(1)
    assert list(desk.unresolved) == [], "the transport has not said yet"
    in_doubt.clear()
    assert list(desk.unresolved) == []
    assert desk.journal.intents.open == {}


def test_an_order_that_was_placed_against_the_word_of_the_lists_is_an_error_in_the_log(
    desk: OrderDesk, caplog: pytest.LogCaptureFixture
) -> None:
    sent(desk, 1, 5)
    desk.end([IntentEnded(client_id=5, outcome=IntentOutcome.NEVER_HAPPENED)])
    assert caplog.text == ""
    desk.settle(CallAnswered(call_id=1, endpoint="place_order", result=order(5)))
    assert "order 28 with client_id 5 was placed, though the exchange's lists did not have it" in caplog.text


def test_the_orders_of_a_client_are_those_that_it_placed_and_those_that_it_took_over(tmp_path: Path) -> None:
    intents = Intents(0, last_id=10)
    intents.take(intent(3))
    desk = OrderDesk(Journal(intents), Lease.take(tmp_path, None), in_doubt=set, taken=())
    assert desk.has_orders
    made = intents.next_id()
    desk.begin(1, (made, 99))
    assert [client_id for client_id in (3, 10, made, made + 1, 99, 100) if desk.is_mine(client_id)] == [3, made, 99]
    assert not desk.is_mine(None)
    desk.release()


def test_an_id_whose_order_waits_to_be_sent_is_not_taken_again(desk: OrderDesk) -> None:
    endpoint = find_endpoint("place_order")
    _, client_ids = desk.with_ids(endpoint, {"clientId": 7})
    desk.begin(1, client_ids)
    assert desk.journal.intents.open == {}, "nothing has left"
    with pytest.raises(LocalProtocolError, match="client_id: 7 is that of an order whose outcome is not known"):
        desk.with_ids(endpoint, {"client_id": 7})

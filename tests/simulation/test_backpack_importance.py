"""Many books, one budget: who leaves first, how many requests it takes, and that it comes to an end."""

from __future__ import annotations

from random import Random
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import NotSent
from backpack_proto.exchange import THROWAWAY_SECRET, Exchange
from backpack_proto.exchange.messages import AbandonRequest, ExchangeInput, ExchangeOutput, RequestReceived, Respond
from backpack_proto.inputs import (
    Arguments,
    Call,
    Fact,
    FollowAccount,
    Open,
    ResponseReceived,
    Subscribe,
    Unsubscribe,
)
from backpack_proto.machine import Now
from backpack_proto.outputs import BookSynced, BookUnavailable, CallFailed, SendRequest
from backpack_proto.rest.pacing import HISTORICAL, RESERVE, STANDARD
from backpack_proto.session import Session
from backpack_proto.testing.simulation import Simulation
from hypothesis_profiles import examples

START = Now(mono_us=77_000_000, unix_us=1_790_000_000_000_000)
SECOND = 1_000_000
MINUTE = 60 * SECOND
REFILL = STANDARD.per_minute - STANDARD.burst
DEPTH = b'{"asks":[["101","1"]],"bids":[["99","1"]],"lastUpdateId":"7","timestamp":1790000000000000}'
ORDER = {"symbol": "SOL_USDC", "order_id": "1"}
NEW_ORDER = {"symbol": "SOL_USDC", "side": "Bid", "order_type": "Limit", "price": "1", "quantity": "1"}


class QuietExchange:
    """Answers every request, and never sends a frame."""

    deadline = None

    def handle(self, given: ExchangeInput, _: Now) -> list[ExchangeOutput]:
        if not isinstance(given, RequestReceived):
            return []
        body = {"/api/v1/depth": DEPTH, "/api/v1/capital": b"{}"}.get(given.target.partition("?")[0], b"[]")
        return [Respond(given.request_id, 200, "application/json", body)]


def quiet(books: int, *, account: bool = False) -> Simulation:
    """A session with so many books of quiet markets that is about to connect."""
    session = Session(Random(1), signer=Signer(Credentials(THROWAWAY_SECRET)))
    simulation = Simulation(session, cast("Exchange", QuietExchange()), START)
    simulation.give(Subscribe(books=tuple(f"depth.M{number}_USDC" for number in range(books))), Open())
    if account:
        simulation.give(FollowAccount())
    return simulation


def synced(simulation: Simulation) -> int:
    return len({event.stream for event in simulation.events if isinstance(event, BookSynced)})


def snapshots(simulation: Simulation) -> int:
    return sum(request.request.target.startswith("/api/v1/depth") for request in simulation.requests)


@pytest.mark.parametrize("books", [20, 100, 400])
def test_a_cancel_and_an_order_overtake_the_snapshots_of_a_reconnect(books: int) -> None:
    simulation = quiet(books, account=True)
    simulation.run(MINUTE)
    simulation.requests.clear()
    simulation.cut()
    assert simulation.run(10 * SECOND, until=lambda: snapshots(simulation) >= STANDARD.burst)
    simulation.requests.clear()
    for number in range(20):
        simulation.give(Call(call_id=number, endpoint="cancel_order", parameters=ORDER))
    cancels = [request.request.method for request in simulation.requests]
    assert cancels == ["DELETE"] * 20, "at once, whatever waits"
    simulation.requests.clear()
    simulation.give(Call(call_id=100, endpoint="place_order", parameters=NEW_ORDER))

    def placed() -> bool:
        return any(request.request.method == "POST" for request in simulation.requests)

    assert simulation.run(100_000, until=placed)


def test_the_ledger_is_read_before_the_books() -> None:
    simulation = quiet(400, account=True)

    def live() -> bool:
        return simulation.session.account.live

    assert simulation.run(2 * SECOND, until=live)
    assert synced(simulation) < 100


def test_fifty_books_cost_a_hundred_requests_at_most_though_the_exchange_asks_for_a_quarter_of_an_hour() -> None:
    simulation = quiet(50)

    def refuse(request: SendRequest, _: ResponseReceived) -> Fact:
        return ResponseReceived(request_id=request.request_id, status=429, body=b"", retry_after_us=900 * SECOND)

    simulation.answer = refuse
    simulation.give(Call(call_id=1_000, endpoint="ping"))
    simulation.run(2_000)
    simulation.answer = None
    refused = snapshots(simulation)
    simulation.requests.clear()
    simulation.run(59 * SECOND)
    assert snapshots(simulation) == 0, "all of them pause"
    # Those that were refused are asked for again, and their markets are looked up.
    assert simulation.session.budget(simulation.now).queued <= 50 + STANDARD.burst
    simulation.run(30 * SECOND, until=lambda: synced(simulation) == 50)
    assert synced(simulation) == 50
    assert refused <= STANDARD.burst
    assert snapshots(simulation) <= 2 * 50, "one, and one more where the stream says nothing"


def test_an_exchange_that_means_its_quarter_of_an_hour_is_tried_once_a_minute() -> None:
    simulation = quiet(50)
    until_us = START.mono_us + 900 * SECOND

    def refuse(request: SendRequest, given: ResponseReceived) -> Fact:
        if simulation.now.mono_us >= until_us:
            return given
        return ResponseReceived(request_id=request.request_id, status=429, body=b"", retry_after_us=900 * SECOND)

    simulation.answer = refuse
    assert simulation.run(970 * SECOND, until=lambda: synced(simulation) == 50)
    assert snapshots(simulation) <= STANDARD.burst + 15 + 2 * 50


@pytest.mark.parametrize("books", [600, 1_000])
def test_many_quiet_books_become_live_in_the_time_that_the_budget_takes(books: int) -> None:
    simulation = quiet(books)
    requests, progress = 0, []
    needed_us = 2 * books * MINUTE // REFILL + 5 * SECOND
    while synced(simulation) < books and simulation.now.mono_us < START.mono_us + needed_us:
        simulation.run(SECOND)
        progress.append((synced(simulation), simulation.session.budget(simulation.now).queued))
        requests = snapshots(simulation)
    assert synced(simulation) == books
    assert not [event for event in simulation.events if isinstance(event, BookUnavailable)]
    assert requests <= 2 * books, "one, and one more where the stream says nothing"
    half = progress[len(progress) // 2 :]
    assert [count for count, _ in half] == sorted(count for count, _ in half)
    assert half[0][0] < half[-1][0], "whoever looks sees it move"
    assert any(queued for _, queued in progress), "and how much is still to come"


def test_the_budget_of_a_minute_is_that_of_the_exchange() -> None:
    assert STANDARD.per_minute + RESERVE.per_minute == 2_000
    assert HISTORICAL.per_minute == 30


class Faulty(QuietExchange):
    """The same exchange, of which a test says how it answers next."""

    def __init__(self) -> None:
        self.status = 200

    def handle(self, given: ExchangeInput, now: Now) -> list[ExchangeOutput]:
        if self.status == 200 or not isinstance(given, RequestReceived):
            return super().handle(given, now)
        if self.status == 0:
            return [AbandonRequest(given.request_id)]
        return [Respond(given.request_id, self.status, "text/plain", b"no")]


class Witnessed:
    """A session of which a witness knows since when each cancel waits, and whether it may."""

    def __init__(self) -> None:
        self.exchange = Faulty()
        session = Session(Random(2), signer=Signer(Credentials(THROWAWAY_SECRET)))
        self.simulation = Simulation(session, cast("Exchange", self.exchange), START)
        self.simulation.give(Open())
        self.calls = 0
        self.waiting: dict[int, int | None] = {}
        """When each cancel in line has to have left, by its order id, or None where it may wait."""

    def cancel(self, count: int) -> None:
        for _ in range(count):
            self.calls += 1
            budget = self.simulation.session.budget(self.simulation.now)
            # 100 ms bring in two tokens for certain.
            held = budget.standard_available + budget.reserve_available + 2
            free = budget.paused_until_us is None and len(self.waiting) < held
            self.waiting[self.calls] = self.simulation.now.mono_us + 100_000 if free else None
            self.call("cancel_order", {"symbol": "SOL_USDC", "order_id": str(self.calls)})
            self.look()

    def call(self, endpoint: str, parameters: Arguments) -> None:
        self.calls += 1
        self.simulation.give(Call(call_id=self.calls, endpoint=endpoint, parameters=parameters))

    def run(self, duration_us: int) -> None:
        end_us = self.simulation.now.mono_us + duration_us
        while self.simulation.now.mono_us < end_us:
            self.simulation.run(min(20_000, end_us - self.simulation.now.mono_us))
            self.look()

    def look(self) -> None:
        """Compare what has left with what had to."""
        for request in self.simulation.requests:
            if request.request.method == "DELETE":
                self.waiting.pop(int(msgspec.json.decode(request.request.body)["orderId"]), None)
        self.simulation.requests.clear()
        for event in self.simulation.events:
            if isinstance(event, CallFailed) and isinstance(event.error, NotSent):
                self.waiting.pop(event.call_id - 1, None)
        self.simulation.events.clear()
        if self.simulation.session.budget(self.simulation.now).paused_until_us is not None:
            self.waiting = dict.fromkeys(self.waiting)
        late = [number for number, due_us in self.waiting.items() if due_us and due_us < self.simulation.now.mono_us]
        assert not late


@examples(60)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("cancel"), st.integers(1, 60)),
            st.tuples(st.just("order"), st.integers(1, 60)),
            st.tuples(st.just("read"), st.integers(1, 200)),
            st.tuples(st.just("books"), st.integers(1, 300)),
            st.tuples(st.just("no books"), st.integers(1, 300)),
            st.tuples(st.just("cut"), st.just(0)),
            st.tuples(st.just("answers"), st.sampled_from([200, 200, 429, 503, 401, 0])),
            st.tuples(st.just("pass"), st.integers(0, 4_000_000)),
        ),
        max_size=25,
    )
)
def test_a_cancel_leaves_within_100_ms_with_any_queue_and_any_fault(steps: list[tuple[str, int]]) -> None:
    """Unless the exchange has asked for a pause, or more cancels wait than the budget holds."""
    witnessed = Witnessed()
    for what, number in steps:
        match what:
            case "cancel":
                witnessed.cancel(number)
            case "order":
                for _ in range(number):
                    witnessed.call("place_order", NEW_ORDER)
            case "read":
                for _ in range(number):
                    witnessed.call("open_orders", {})
            case "books":
                witnessed.simulation.give(Subscribe(books=tuple(f"depth.M{book}_USDC" for book in range(number))))
            case "no books":
                witnessed.simulation.give(Unsubscribe(tuple(f"depth.M{book}_USDC" for book in range(number))))
            case "cut":
                witnessed.simulation.cut()
            case "answers":
                witnessed.exchange.status = number
            case _:
                witnessed.run(number)
    witnessed.run(200_000)

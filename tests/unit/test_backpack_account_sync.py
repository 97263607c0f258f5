"""The synchronising machine as values: its states, its timers and its table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from accounts import SECOND, T_MS, a_balance_update, a_fill, accepted, an_order, of_stream
from backpack_proto.account.ledger import Ledger
from backpack_proto.account.readings import (
    AccountEnded,
    AccountRequested,
    BalancesRead,
    CollateralRead,
    FillsRead,
    FundingRead,
    LoansRead,
    OpenOrdersRead,
    OrderFillsRead,
    OrderRead,
    PastOrdersRead,
    PositionsRead,
    Read,
    ReadAccount,
    ReadFailed,
    Reading,
    ReadingRequested,
    UpdateLost,
)
from backpack_proto.account.rounds import Attempts
from backpack_proto.account.signals import ANSWER_US, Agreed, ReadAgain
from backpack_proto.account.sync import TRANSITIONS, AccountState, Sync, SyncInput
from backpack_proto.account.values import AccountStale, AccountSynced
from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.streams.channels import IN_FORCE_US
from backpack_proto.testing.laws import FakeClock, check_machine

REQUESTED = AccountRequested()
DOWN = AccountEnded("down")


class Driven:
    """The machine, its clock, and what it asks for."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.sync = Sync(Ledger(), Attempts())
        self.asked: ReadAccount | None = None

    def state(self) -> AccountState:
        return self.sync.state

    def give(self, *inputs: SyncInput) -> list[object]:
        found: list[object] = []
        for given in inputs:
            for output in self.sync.handle(given, self.clock.now):
                if isinstance(output, ReadAccount):
                    self.asked = output
                else:
                    found.append(output)
        return found

    def answer(self) -> list[object]:
        assert self.asked is not None
        return self.give(answer_to(self.asked))

    def fire(self) -> list[object]:
        self.clock.advance_to(self.sync.deadline)
        return self.give(TimerFired())

    def settle(self) -> list[object]:
        found: list[object] = []
        while self.state() is not AccountState.LIVE:
            found += self.answer() if self.sync.asked is not None else self.fire()
        return found


def answer_to(asked: ReadAccount) -> Reading:
    kinds: dict[Read, Any] = {
        Read.OPEN_ORDERS: OpenOrdersRead,
        Read.POSITIONS: PositionsRead,
        Read.BALANCES: BalancesRead,
        Read.LOANS: LoansRead,
        Read.FUNDING: FundingRead,
        Read.FILLS: FillsRead,
        Read.PAST_ORDERS: PastOrdersRead,
        Read.ORDER_FILLS: OrderFillsRead,
    }
    single: dict[Read, Reading] = {
        Read.ORDER: OrderRead(asked.attempt, None),
        Read.COLLATERAL: CollateralRead(asked.attempt, None),
    }
    answer: Reading = single[asked.what] if asked.what in single else kinds[asked.what](asked.attempt, ())
    return answer


def test_from_a_subscription_to_a_ledger_that_follows() -> None:
    driven = Driven()
    assert driven.state() is AccountState.IDLE
    assert driven.give(REQUESTED) == [AccountStale(reason="it is being read")]
    states, reads, said = [], [], list[object]()
    while driven.state() is not AccountState.LIVE:
        states.append(driven.state())
        if driven.sync.asked is None:
            driven.fire()
        else:
            reads.append((driven.state().name, driven.sync.asked.what.value))
            said = driven.answer()
    assert said == [AccountSynced(orders=0, fills=0)]
    assert reads == [
        ("SETTLING", "past orders"),
        ("SETTLING", "fills"),
        ("READING", "open orders"),
        ("READING", "positions"),
        ("READING", "collateral"),
        ("READING", "balances"),
        ("READING", "loans"),
        ("READING", "funding payments"),
        ("READING", "fills"),
        ("READING", "past orders"),
    ]
    assert list(dict.fromkeys(states)) == [AccountState.SETTLING, AccountState.READING]


def test_a_subscription_settles_before_anything_is_read() -> None:
    driven = Driven()
    driven.give(REQUESTED)
    start_us = driven.clock.mono_us
    driven.answer()
    driven.answer()
    assert driven.sync.deadline == start_us + IN_FORCE_US


def test_an_answer_is_awaited_from_the_sending_of_its_request_on() -> None:
    driven = Driven()
    driven.give(REQUESTED)
    before = driven.sync.deadline
    assert before is None, "it waits for the request budget"
    driven.clock.advance(77 * SECOND)
    driven.give(ReadingRequested(1))
    assert driven.sync.deadline == driven.clock.mono_us + ANSWER_US
    assert driven.fire() == [AccountStale(reason="no answer in time; read again in 1 s")]
    assert driven.give(ReadFailed(1, "late")) == []


def test_waits_grow_and_end_with_a_round_that_is_complete() -> None:
    driven = Driven()
    driven.give(REQUESTED)
    driven.settle()
    driven.give(DOWN, REQUESTED)
    driven.fire()
    waits = []
    for _ in range(7):
        assert driven.sync.asked is not None
        driven.give(ReadFailed(driven.sync.asked.attempt, "503"))
        assert driven.state() is AccountState.RETRYING
        deadline = driven.sync.deadline
        assert deadline is not None
        waits.append((deadline - driven.clock.mono_us) // SECOND)
        driven.fire()
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    driven.settle()
    driven.give(ReadAgain("why"))
    assert driven.state() is AccountState.READING, "at once"


def test_a_live_ledger_is_as_old_as_the_first_request_of_its_round() -> None:
    driven = Driven()
    driven.give(REQUESTED)
    driven.answer()
    driven.answer()
    driven.fire()
    driven.clock.advance(5 * SECOND)
    assert driven.sync.asked is not None
    driven.give(ReadingRequested(driven.sync.asked.attempt))
    sent_us = driven.clock.mono_us
    while driven.state() is not AccountState.LIVE:
        driven.clock.advance(SECOND)
        assert driven.sync.asked is not None
        driven.give(ReadingRequested(driven.sync.asked.attempt))
        driven.answer()
    assert driven.sync.requested_us == sent_us


def test_repeated_doubts_wait_until_a_check_has_agreed() -> None:
    driven = Driven()
    driven.give(REQUESTED)
    driven.settle()
    states = []
    for _ in range(3):
        driven.give(ReadAgain("it differs"))
        states.append(driven.state())
        driven.settle()
    driven.give(Agreed(), ReadAgain("it differs"))
    assert [*states, driven.state()] == [
        AccountState.READING,
        AccountState.RETRYING,
        AccountState.RETRYING,
        AccountState.READING,
    ]


@pytest.mark.parametrize("given", [accepted(T_MS), of_stream(a_fill(1, T_MS)), UpdateLost("x"), ReadAgain("x"), Agreed()])
def test_without_streams_nothing_can_come_of_them(given: SyncInput) -> None:
    with pytest.raises(LocalProtocolError, match=r"is impossible in AccountState\.IDLE$"):
        Sync(Ledger(), Attempts()).handle(given, Now(1, 1))


def test_what_is_kept_is_put_on_top_of_the_readings() -> None:
    driven = Driven()
    driven.give(REQUESTED)
    driven.answer()
    driven.answer()
    driven.fire()
    assert driven.give(accepted(T_MS), a_balance_update("SOL", 3)) == []
    changed = [type(event).__name__ for event in driven.settle()]
    assert changed == ["OrderChanged", "BalanceChanged", "AccountSynced"]


INPUTS: list[SyncInput] = [
    REQUESTED,
    DOWN,
    accepted(T_MS),
    of_stream(a_fill(1, T_MS)),
    of_stream(a_fill(2, T_MS), executed=7),
    a_balance_update("SOL", 3),
    UpdateLost("x"),
    ReadAgain("y"),
    Agreed(),
    *(ReadFailed(attempt, "503") for attempt in range(1, 9)),
    *(ReadingRequested(attempt) for attempt in range(1, 9)),
    *(answer_to(ReadAccount(attempt=attempt, what=what)) for attempt in range(1, 13) for what in Read),
    OrderRead(9, an_order("77")),
]


@pytest.mark.hypothesis
def test_it_keeps_the_laws_of_machines() -> None:
    check_machine(lambda: Sync(Ledger(), Attempts()), st.sampled_from(INPUTS))


def test_each_state_refuses_something_and_only_a_round_makes_the_ledger_live() -> None:
    given = {kind for _, kind, _ in TRANSITIONS.edges}
    for state in AccountState:
        assert {kind for at, kind, _ in TRANSITIONS.edges if at is state} < given
    into_live = {(at, kind) for at, kind, to in TRANSITIONS.edges if to is AccountState.LIVE and at is not to}
    last = {PastOrdersRead, OrderRead, OrderFillsRead}
    assert into_live == {(AccountState.READING, kind) for kind in last}

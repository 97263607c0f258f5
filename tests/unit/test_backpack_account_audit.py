"""The auditing machine as values: its states, its timers and its table."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from accounts import ONE, SECOND, T_MS, a_balance, a_balance_update, a_fill, accepted, an_order, of_stream
from backpack_proto.account.audit import (
    AUDIT_US,
    CLAIM_US,
    GRACE_US,
    TRANSITIONS,
    Audit,
    AuditInput,
    AuditState,
    StartAudits,
    StopAudits,
)
from backpack_proto.account.ledger import Ledger
from backpack_proto.account.readings import (
    BalancesRead,
    CollateralRead,
    FillsRead,
    FundingRead,
    LoansRead,
    OpenOrdersRead,
    PastOrdersRead,
    PositionsRead,
    Read,
    ReadAccount,
    ReadFailed,
    Reading,
    ReadingRequested,
)
from backpack_proto.account.rounds import ALL, Attempts
from backpack_proto.account.signals import ANSWER_US, Agreed, ReadAgain, UpdatesMute
from backpack_proto.account.subjects import Kind, Subject
from backpack_proto.account.values import AccountConfirmed, AccountDiverged, AccountUnconfirmed, Balance, Order
from backpack_proto.errors import LocalProtocolError, RemoteProtocolError
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.rest.results.account import Collateral
from backpack_proto.testing.laws import FakeClock, check_machine


class Driven:
    """The machine, its clock, and an exchange that lists these rows."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger()
        self.audit = Audit(self.ledger, Attempts())
        self.orders: tuple[Order, ...] = ()
        self.balances: tuple[Balance, ...] = ()
        self.collateral: Collateral | None = None

    def give(self, *inputs: AuditInput) -> list[object]:
        outputs = [output for given in inputs for output in self.audit.handle(given, self.clock.now)]
        return [output for output in outputs if not isinstance(output, ReadAccount)]

    def start(self) -> None:
        self.give(StartAudits(self.clock.mono_us))

    def fire(self) -> list[object]:
        self.clock.advance_to(self.audit.deadline)
        return self.give(TimerFired())

    def answer(self) -> list[object]:
        asked = self.audit.asked
        assert asked is not None
        answers: dict[Read, Reading] = {
            Read.OPEN_ORDERS: OpenOrdersRead(asked.attempt, self.orders),
            Read.POSITIONS: PositionsRead(asked.attempt, ()),
            Read.COLLATERAL: CollateralRead(asked.attempt, self.collateral),
            Read.BALANCES: BalancesRead(asked.attempt, self.balances),
            Read.LOANS: LoansRead(asked.attempt, ()),
            Read.FUNDING: FundingRead(asked.attempt, ()),
            Read.FILLS: FillsRead(asked.attempt, ()),
            Read.PAST_ORDERS: PastOrdersRead(asked.attempt, ()),
        }
        return self.give(answers[asked.what])

    def check(self, *meanwhile: AuditInput) -> list[object]:
        found = self.fire()
        found += self.give(*meanwhile)
        while self.audit.asked is not None:
            found += self.answer()
        return [*found, *self.fire()]


@pytest.fixture
def driven() -> Driven:
    found = Driven()
    found.start()
    return found


def test_a_check_reads_all_waits_for_what_was_on_its_way_and_agrees(driven: Driven) -> None:
    start_us = driven.clock.mono_us
    assert driven.audit.deadline == start_us + AUDIT_US
    driven.fire()
    requested_us = driven.clock.mono_us
    reads = []
    while (asked := driven.audit.asked) is not None:
        reads.append(asked.what)
        driven.clock.advance(SECOND)
        driven.answer()
    assert reads == [*ALL]
    assert driven.audit.deadline == driven.clock.mono_us + GRACE_US
    assert driven.fire() == [Agreed()]
    assert driven.audit.confirmed_us == requested_us
    assert driven.audit.deadline == driven.clock.mono_us + AUDIT_US


def test_a_difference_ends_the_claim_and_has_it_read_again(driven: Driven) -> None:
    driven.balances = (a_balance("SOL", 2),)
    what = "balance of SOL: 0 available, 0 locked, 0 staked here, 2 available, 0 locked, 0 staked by REST"
    assert driven.check(a_balance_update("USDC", 2)) == [
        AccountDiverged(what=what, error=RemoteProtocolError(what)),
        ReadAgain(what),
    ]
    assert driven.audit.state is AuditState.OFF
    assert driven.audit.confirmed_us is None


def test_several_differences_are_one_contradiction(driven: Driven) -> None:
    driven.balances = (a_balance("SOL", 2), a_balance("USDC", 2))
    driven.orders = (an_order("5"),)
    diverged, *_ = driven.check()
    assert isinstance(diverged, AccountDiverged)
    assert diverged.what == "open order 5: executed None here, 0 by REST, and 2 more"


ORDERS, POSITIONS, BALANCES = "account.orderUpdate", "account.positionUpdate", "account.balanceUpdate"


def test_streams_that_have_sent_nothing_of_what_is_wrong_are_mute(driven: Driven) -> None:
    driven.orders = (an_order("5"),)
    diverged, again, mute = driven.check(a_balance_update("SOL", 2))
    assert isinstance(diverged, AccountDiverged)
    assert isinstance(again, ReadAgain)
    assert mute == UpdatesMute(proved=(ORDERS,), streams=(ORDERS, POSITIONS), reason=diverged.what)


def test_a_stream_that_has_spoken_since_the_ledger_is_live_is_not_mute(driven: Driven) -> None:
    driven.orders = (an_order("5"),)
    assert len(driven.check(accepted(T_MS))) == 2
    driven.start()
    assert len(driven.check()) == 3, "what it said before counts no more"


def test_what_has_moved_is_left_out(driven: Driven) -> None:
    driven.balances = (a_balance("SOL", 2),)
    assert driven.check(a_balance_update("SOL", 2)) == [Agreed()]


def test_a_repair_that_did_not_repair_is_escalated_and_not_repeated(driven: Driven) -> None:
    driven.balances = (a_balance("SOL", 2),)
    found = []
    for _ in range(2):
        diverged, again, _ = driven.check()
        assert isinstance(diverged, AccountDiverged)
        assert isinstance(again, ReadAgain)
        found.append((diverged.escalated, again.insisted))
        driven.start()
    subject = Subject(Kind.BALANCE, "SOL")
    assert found == [(False, frozenset()), (True, frozenset({subject}))]
    assert [type(output).__name__ for output in driven.check()] == ["AccountDoubted", "Agreed"]
    assert list(driven.ledger.doubts) == [subject]
    assert driven.check() == [Agreed()]
    driven.balances = ()
    assert [type(output).__name__ for output in driven.check()] == ["AccountDoubted", "Agreed"]
    assert driven.ledger.doubts == {}


def test_a_difference_that_was_mended_in_between_is_a_new_one(driven: Driven) -> None:
    for number in range(3):
        driven.balances = (a_balance("SOL", 2),)
        diverged, *_ = driven.check()
        assert isinstance(diverged, AccountDiverged)
        assert not diverged.escalated, number
        driven.start()
        driven.balances = ()
        driven.check()


@pytest.mark.parametrize("answered", [True, False])
def test_a_check_that_could_not_be_made_is_tried_again_and_the_claim_expires(driven: Driven, *, answered: bool) -> None:
    start_us = driven.clock.mono_us
    found: list[object] = []
    while driven.audit.state is not AuditState.OFF:
        found += driven.fire()
        if (asked := driven.audit.asked) is not None:
            found += driven.give(ReadFailed(asked.attempt, "503") if answered else ReadingRequested(asked.attempt))
    reason = "503" if answered else "no answer in time"
    assert found == [AccountUnconfirmed(reason=reason), ReadAgain("its last proof is 120 s old")]
    assert driven.clock.mono_us == start_us + CLAIM_US


def test_a_check_that_can_be_made_again_says_so(driven: Driven) -> None:
    driven.fire()
    assert driven.audit.asked is not None
    assert driven.give(ReadFailed(driven.audit.asked.attempt, "503")) == [AccountUnconfirmed(reason="503")]
    assert driven.check() == [AccountConfirmed(), Agreed()]
    assert driven.check() == [Agreed()]


def test_a_refusal_of_the_signature_ends_the_claim_at_once(driven: Driven) -> None:
    driven.fire()
    assert driven.audit.asked is not None
    outputs = driven.give(ReadFailed(driven.audit.asked.attempt, "401", refused=True))
    assert outputs == [ReadAgain("401", refused=True)]
    assert (driven.audit.state, driven.audit.deadline) == (AuditState.OFF, None)


def test_an_answer_is_awaited_from_the_sending_of_its_request_on(driven: Driven) -> None:
    driven.fire()
    assert driven.audit.asked is not None
    driven.clock.advance(SECOND)
    driven.give(ReadingRequested(driven.audit.asked.attempt))
    assert driven.audit.deadline == driven.clock.mono_us + ANSWER_US


def test_while_something_is_doubted_checks_come_soon(driven: Driven) -> None:
    driven.ledger.doubts = {Subject(Kind.ORDER, "5"): "why"}
    driven.give(StopAudits())
    driven.start()
    assert driven.audit.deadline == driven.clock.mono_us + SECOND
    driven.check()
    assert driven.ledger.doubts == {}
    assert driven.audit.deadline == driven.clock.mono_us + AUDIT_US


def test_nothing_is_checked_that_is_not_live() -> None:
    with pytest.raises(LocalProtocolError, match=r"^OrderAccepted is impossible in AuditState\.OFF$"):
        Audit(Ledger(), Attempts()).handle(accepted(T_MS), Now(1, 1))


INPUTS: list[AuditInput] = [
    StartAudits(5 * SECOND),
    StopAudits(),
    accepted(T_MS),
    of_stream(a_fill(1, T_MS)),
    a_balance_update("SOL", 3),
    *(ReadFailed(attempt, "503", refused=attempt % 2 == 0) for attempt in range(1, 9)),
    *(ReadingRequested(attempt) for attempt in range(1, 9)),
    *(
        reading
        for attempt in range(1, 13)
        for reading in (
            OpenOrdersRead(attempt, (an_order("5"),)),
            PositionsRead(attempt, ()),
            BalancesRead(attempt, (a_balance("SOL", int(ONE)),)),
            FillsRead(attempt, ()),
            PastOrdersRead(attempt, ()),
        )
    ),
]


@pytest.mark.hypothesis
def test_it_keeps_the_laws_of_machines() -> None:
    check_machine(lambda: Audit(Ledger(), Attempts()), st.sampled_from(INPUTS))


def test_each_state_refuses_something() -> None:
    given = {kind for _, kind, _ in TRANSITIONS.edges}
    for state in AuditState:
        assert {kind for at, kind, _ in TRANSITIONS.edges if at is state} < given

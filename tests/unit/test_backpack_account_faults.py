"""A ledger beside an exchange that errs: it is never wrong, and never old, without saying so."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from accounts import (
    ONE,
    SECOND,
    SYMBOL,
    T_MS,
    ZERO,
    Desk,
    a_balance,
    a_balance_update,
    a_fill,
    a_position,
    accepted,
    an_order,
    cancelled,
    of_stream,
)
from backpack_proto.account.readings import AccountEnded, AccountRequested, Read, ReadFailed, UpdateLost
from backpack_proto.account.sync import KEPT_UPDATES, AccountState
from backpack_proto.account.values import (
    AccountConfirmed,
    AccountDiverged,
    AccountDoubted,
    AccountStale,
    AccountSynced,
    AccountUnconfirmed,
    BalanceChanged,
    Filled,
    OrderChanged,
    Origin,
    Position,
)
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.streams.channels import IN_FORCE_US

DOWN = AccountEnded("down")
BALANCE = a_balance("USDC", 5)


def again(desk: Desk) -> Desk:
    """A connection that is lost, and the next one."""
    return desk.give(DOWN).sync()


# How an order ends.


@pytest.mark.parametrize("word", ["PendingCancel", "Triggered", "Untriggered", ""])
def test_an_unknown_word_is_of_an_open_order(word: str) -> None:
    desk = Desk().sync().give(replace(accepted(T_MS), state=word))
    assert set(desk.ledger.open_orders) == {"77"}
    desk.executed = 0
    again(desk.check()).check()
    assert set(desk.ledger.open_orders) == {"77"}
    assert desk.events(AccountDiverged) == []


@pytest.mark.parametrize("word", ["Filled", "Cancelled", "Expired", "TriggerFailed"])
def test_a_final_word_ends_an_order(word: str) -> None:
    desk = Desk().sync().give(accepted(T_MS), replace(cancelled(T_MS), state=word))
    assert desk.ledger.open_orders == {}


def test_an_order_that_rest_does_not_list_yet_is_open_and_doubted_until_it_is_listed() -> None:
    desk = again(Desk().sync().give(accepted(T_MS)))
    reason = "REST does not list it as open, nor how it ended"
    assert desk.ledger.live
    assert set(desk.ledger.open_orders) == {"77"}
    assert desk.ledger.doubts == {"order 77": reason}
    assert desk.events(AccountDoubted) == [AccountDoubted(doubts=(f"order 77: {reason}",))]
    desk.check()
    assert set(desk.ledger.open_orders) == {"77"}, "nobody has said that it ended"
    desk.executed = 0
    desk.check()
    assert desk.ledger.doubts == {}
    assert desk.events(AccountDoubted)[1:] == [AccountDoubted(doubts=())]
    assert set(desk.ledger.open_orders) == {"77"}
    assert desk.events(AccountDiverged) == []


def test_an_absent_order_is_looked_up_until_history_says_how_it_ended() -> None:
    desk = again(Desk().sync().give(accepted(T_MS)))
    desk.ended = an_order("77")
    desk.check()
    assert desk.ledger.doubts == {"order 77": "REST does not list it as open, history says New"}
    assert set(desk.ledger.open_orders) == {"77"}
    desk.ended = an_order("77", state="Cancelled")
    desk.check()
    assert desk.ledger.open_orders == {}
    assert desk.ledger.doubts == {}
    assert desk.states("77") == [("New", Origin.STREAM), ("Cancelled", Origin.RECONCILIATION)]


def test_a_doubted_order_is_looked_up_soon_and_then_less_often() -> None:
    desk = again(Desk().sync().give(accepted(T_MS)))
    waits = []
    for _ in range(7):
        deadline = desk.ledger.deadline
        assert deadline is not None
        waits.append((deadline - desk.now.mono_us) // SECOND)
        desk.check()
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_an_order_that_the_exchange_goes_on_to_list_as_open_is_open() -> None:
    desk = Desk().sync().give(accepted(T_MS), cancelled(T_MS + 1))
    desk.executed = 0
    desk.check().answer_all()
    assert len(desk.events(AccountDiverged)) == 1
    assert set(desk.ledger.open_orders) == {"77"}
    for _ in range(3):
        desk.check().answer_all()
    assert len(desk.events(AccountDiverged)) == 1, "the repair has mended it"
    assert desk.states("77")[-1] == ("New", Origin.RECONCILIATION)


def test_one_row_that_is_late_does_not_open_an_order_again() -> None:
    desk = Desk().sync().give(accepted(T_MS), cancelled(T_MS + 1), DOWN)
    desk.executed = 0
    desk.sync()
    assert desk.ledger.open_orders == {}
    assert desk.ledger.doubts == {"order 77": "REST lists less than was reported of it"}
    desk.executed = None
    desk.check()
    assert desk.ledger.doubts == {}
    assert [state for state, _ in desk.states("77")] == ["New", "Cancelled"]


def test_a_row_that_is_behind_counts_again_once_the_stream_has_gone_on() -> None:
    one, other = a_fill(1, T_MS + 1), a_fill(2, T_MS + 2)
    desk = Desk().sync().give(accepted(T_MS), of_stream(one), DOWN)
    desk.executed, desk.listed = 0, [one]
    desk.sync().give(of_stream(other, executed=2))
    desk.listed.append(other)
    desk.check()
    assert desk.ledger.open_orders["77"].executed_quantity == 2
    desk.check()
    assert desk.ledger.open_orders["77"].executed_quantity == 0, "it says so twice, and nobody contradicts it"


def test_an_update_that_is_late_does_not_open_an_order_again() -> None:
    desk = Desk().sync().give(accepted(T_MS), cancelled(T_MS + 1), accepted(T_MS))
    assert desk.ledger.open_orders == {}
    assert [state for state, _ in desk.states("77")] == ["New", "Cancelled"]


def test_what_was_executed_stays_executed() -> None:
    desk = Desk().sync().give(accepted(T_MS), of_stream(a_fill(1, T_MS + 1)), of_stream(a_fill(2, T_MS + 2), executed=2), DOWN)
    desk.executed, desk.listed = 1, [a_fill(1, T_MS + 1), a_fill(2, T_MS + 2)]
    desk.sync()
    assert desk.ledger.open_orders["77"].executed_quantity == 2
    # An end that lacks the quantity ends the order all the same.
    desk.executed, desk.ended = None, replace(an_order("77", state="Cancelled"), executed_quantity=None)
    again(desk)
    assert desk.ledger.open_orders == {}
    assert desk.events(OrderChanged)[-1].order.executed_quantity == 2


def test_an_order_that_lived_and_died_while_nobody_listened_is_reported_once_with_its_fills() -> None:
    before = an_order("1", created_ms=T_MS - 5, state="Cancelled")
    desk = Desk(a_fill(1, T_MS))
    desk.past = [before]
    desk.sync().give(DOWN)
    desk.past += [
        an_order("5", created_ms=T_MS + 100, executed=1, state="Filled"),
        an_order("6", created_ms=T_MS + 200, state="Expired"),
    ]
    desk.listed.append(a_fill(2, T_MS + 100, "5"))
    desk.sync()
    for _ in range(3):
        again(desk).check()
    ends = [(event.order.order_id, event.order.state, event.origin) for event in desk.events(OrderChanged)]
    assert ends == [("5", "Filled", Origin.RECONCILIATION), ("6", "Expired", Origin.RECONCILIATION)]
    assert desk.told == [(2, Origin.RECONCILIATION)]
    assert desk.ledger.doubts == {}
    assert desk.events(AccountDiverged) == []


def test_an_order_that_the_streams_swallowed_whole_is_found_by_the_check() -> None:
    desk = Desk().sync()
    desk.past = [an_order("5", created_ms=T_MS, state="Cancelled")]
    desk.check().answer_all()
    assert [event.what for event in desk.events(AccountDiverged)] == ["order 5 was Cancelled, and no stream reported it"]
    assert desk.states("5") == [("Cancelled", Origin.RECONCILIATION)]
    assert desk.ledger.live


def test_past_orders_come_in_pages_back_to_the_last_ones_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backpack_proto.account.rounds.ORDERS_PAGE", 3)
    monkeypatch.setattr("backpack_proto.account.rounds.PAGE", 4)
    desk = Desk()
    desk.past = [an_order(f"{number}", created_ms=T_MS + (number - 50) * 90_000, state="Cancelled") for number in range(50)]
    desk.sync().give(DOWN)
    desk.past += [an_order(f"{number}", created_ms=T_MS + 60_000 + number, state="Cancelled") for number in range(100, 110)]
    desk.give(AccountRequested()).timer()
    offsets = []
    while desk.asked:
        offsets += [desk.asked[0].offset] if desk.asked[0].what is Read.PAST_ORDERS else []
        desk.give(desk.answer(desk.asked.pop(0)))
    assert offsets == [0, 3, 7, 11]
    assert [event.order.order_id for event in desk.events(OrderChanged)] == [f"{number}" for number in range(100, 110)]


# What was filled.


def test_two_fills_under_one_id_with_different_quantities_are_two() -> None:
    desk = Desk().sync()
    desk.executed = 4
    one = a_fill(7, T_MS)
    desk.give(accepted(T_MS), of_stream(one))
    desk.listed = [one, replace(one, quantity=Decimal(3))]
    again(desk).check()
    again(desk).check()
    assert [(event.fill.trade_id, event.fill.quantity) for event in desk.events(Filled)] == [(7, ONE), (7, Decimal(3))]


@pytest.mark.parametrize("twins", [1, 2, 3])
def test_fills_of_the_stream_without_an_id_are_counted(twins: int) -> None:
    desk = Desk().sync().give(accepted(T_MS))
    fill = a_fill(None, T_MS)
    desk.give(*(of_stream(fill, executed=number) for number in range(1, twins + 1)))
    desk.executed, desk.listed = twins, [fill] * twins
    again(desk).check()
    assert desk.told == [(None, Origin.STREAM)] * twins
    assert desk.events(AccountDiverged) == []


@pytest.mark.parametrize("listed_id", [None, 9])
def test_one_source_may_know_the_id_of_a_fill_and_the_other_one_not(listed_id: int | None) -> None:
    desk = Desk().sync().give(accepted(T_MS))
    desk.give(of_stream(a_fill(None if listed_id else 9, T_MS)))
    desk.executed, desk.listed = 1, [a_fill(listed_id, T_MS)]
    again(desk).check()
    assert len(desk.told) == 1
    assert desk.ledger.doubts == {}


def test_a_row_without_an_id_is_no_fill_where_nothing_is_missing() -> None:
    desk = Desk().sync().give(accepted(T_MS), of_stream(a_fill(9, T_MS)))
    # Its time differs by a millisecond, so that only the sum can tell.
    desk.executed, desk.listed = 1, [a_fill(None, T_MS + 1)]
    again(desk).check()
    assert desk.told == [(9, Origin.STREAM)]


def test_executed_is_the_sum_of_the_fills_or_the_order_is_doubted() -> None:
    desk = Desk(a_fill(1, T_MS - 5)).sync().give(accepted(T_MS), DOWN)
    desk.executed = 2
    desk.listed.append(a_fill(2, T_MS + 1))
    desk.sync()
    assert desk.ledger.doubts == {"order 77": "it executed 2, its fills make 1"}
    # It is listed late, and so far back that only the order's own list has it.
    desk.listed.append(a_fill(3, T_MS - 3_600_000))
    desk.ledger._ledger.fills.from_ms = 0
    desk.check()
    assert desk.told == [(2, Origin.RECONCILIATION), (3, Origin.RECONCILIATION)]
    assert desk.ledger.doubts == {}


def test_fills_that_make_more_than_was_executed_are_reported_and_the_order_is_doubted() -> None:
    desk = Desk().sync().give(accepted(T_MS), of_stream(a_fill(1, T_MS)))
    desk.executed, desk.listed = 1, [a_fill(1, T_MS), a_fill(2, T_MS)]
    again(desk).check()
    assert desk.told == [(1, Origin.STREAM), (2, Origin.RECONCILIATION)]
    assert desk.ledger.doubts == {"order 77": "it executed 1, its fills make 2"}


def test_sums_do_not_round() -> None:
    tiny = Decimal("0.0000000000000000000000000001")
    desk = Desk().sync().give(accepted(T_MS))
    for number, quantity in enumerate((Decimal(12345678901234567890), tiny), 1):
        update = replace(of_stream(replace(a_fill(number, T_MS), quantity=quantity)))
        executed = Decimal("12345678901234567890.0000000000000000000000000001") if number == 2 else quantity
        desk.give(replace(update, executed_quantity=executed))
    assert desk.events(AccountDiverged) == []


def test_fills_of_many_pages_are_read_to_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backpack_proto.account.rounds.PAGE", 3)
    desk = Desk(a_fill(0, T_MS)).sync().give(DOWN)
    desk.listed += [a_fill(number, T_MS + number, "9") for number in range(1, 8)]
    desk.sync()
    assert [trade_id for trade_id, _ in desk.told] == list(range(1, 8))


# What cannot be read.


def test_a_frame_that_cannot_be_read_makes_the_ledger_stale_and_read_again_at_once() -> None:
    desk = Desk().sync()
    desk.executed, desk.listed = 1, [a_fill(1, T_MS)]
    desk.give(UpdateLost("malformed payload"))
    assert not desk.ledger.live
    assert desk.said[-1] == AccountStale(reason="a private frame could not be read: malformed payload")
    assert [read.what for read in desk.asked] == [Read.OPEN_ORDERS]
    assert desk.answer_all().ledger.live
    assert desk.told == [(1, Origin.RECONCILIATION)]


def test_frames_that_never_can_be_read_do_not_cost_a_round_each() -> None:
    desk = Desk().sync()
    waits = []
    for _ in range(6):
        desk.give(UpdateLost("unknown event type"))
        desk.asked.clear()
        deadline = desk.ledger.deadline
        assert deadline is not None
        waits.append((deadline - desk.now.mono_us) // SECOND)
        if desk.ledger.state is AccountState.READING:
            desk.give(UpdateLost("once more"))
        desk.sync()
    assert waits[1:] == sorted(waits[1:])
    assert waits[-1] >= 15
    # A check that agrees is the end of it.
    desk.check().give(UpdateLost("unknown event type"))
    assert [read.what for read in desk.asked] == [Read.OPEN_ORDERS]


def test_a_frame_that_is_lost_while_it_is_read_starts_the_round_again() -> None:
    desk = Desk().sync().give(DOWN, AccountRequested()).timer()
    first = desk.asked[-1]
    desk.give(UpdateLost("malformed payload"))
    assert desk.ledger.awaited == desk.asked[-1].attempt != first.attempt
    desk.answer_all()
    assert desk.ledger.live


def test_before_the_streams_are_requested_a_lost_frame_is_of_no_concern() -> None:
    desk = Desk().give(UpdateLost("malformed payload"))
    assert (desk.said, desk.asked) == ([], [])
    desk.give(AccountRequested(), UpdateLost("malformed payload"))
    assert desk.said == [AccountStale(reason="it is being read")]


def test_kept_updates_are_bounded_and_the_round_begins_again() -> None:
    desk = Desk().sync().give(DOWN, AccountRequested()).timer()
    first = desk.asked.pop()
    update = a_balance_update("USDC", 3)
    for _ in range(KEPT_UPDATES + 1):
        desk.ledger.handle(update, desk.now)
    desk.balances = [a_balance("USDC", 4)]
    assert desk.ledger.awaited not in (None, first.attempt)
    assert desk.give(desk.answer(first)).ledger.state is AccountState.READING
    desk.give(DOWN).sync()
    assert desk.ledger.balances["USDC"].available == 4


def test_a_row_that_cannot_be_read_is_not_absent() -> None:
    desk = Desk()
    desk.executed, desk.balances = 0, [BALANCE, a_balance("SOL", 2)]
    desk.positions = [Position(symbol="SOL_USDC_PERP", net_quantity=ONE, entry_price=ONE, break_even_price=ONE)]
    desk.sync()
    known = (desk.ledger.open_orders, desk.ledger.balances, desk.ledger.positions)
    desk.executed, desk.balances, desk.positions = None, [BALANCE], []
    desk.unreadable = {Read.OPEN_ORDERS: ("77",), Read.BALANCES: ("SOL",), Read.POSITIONS: ("SOL_USDC_PERP",)}
    again(desk).check()
    assert (desk.ledger.open_orders, desk.ledger.balances, desk.ledger.positions) == known
    reason = "its row cannot be read"
    assert desk.ledger.doubts == {"balance SOL": reason, "order 77": reason, "position SOL_USDC_PERP": reason}
    assert desk.ledger.live, "for all the rest"
    assert desk.events(AccountDiverged) == []
    desk.unreadable, desk.executed, desk.balances = {}, 0, [BALANCE, a_balance("SOL", 2)]
    desk.positions = list(known[2].values())
    desk.check()
    assert desk.ledger.doubts == {}


def test_where_a_row_does_not_even_say_what_it_is_nothing_is_absent() -> None:
    desk = Desk()
    desk.executed, desk.balances = 0, [BALANCE, a_balance("SOL", 2)]
    desk.sync()
    desk.executed, desk.balances = None, [a_balance("USDC", 9)]
    desk.unreadable = {Read.OPEN_ORDERS: ("",), Read.BALANCES: ("",)}
    again(desk)
    desk.check()
    assert set(desk.ledger.open_orders) == {"77"}
    assert [balance.available for balance in desk.ledger.balances.values()] == [9, 2]
    assert list(desk.ledger.doubts) == ["balance without an id", "order without an id"]
    assert desk.events(AccountDiverged) == []


def test_an_order_with_a_fill_that_cannot_be_read_is_doubted() -> None:
    desk = Desk(a_fill(1, T_MS)).sync()
    desk.unreadable = {Read.FILLS: ("5",)}
    again(desk)
    assert desk.ledger.doubts == {"order 5": "a fill of it cannot be read"}
    desk.unreadable = {}
    desk.check()
    assert desk.ledger.doubts == {"order 5": "a fill of it cannot be read"}, "it has not become readable by growing old"


# What cannot be proved.


def test_a_refused_signature_makes_a_live_ledger_stale_at_once_and_is_tried_again() -> None:
    desk = Desk().sync().timer()
    desk.give(ReadFailed(desk.asked.pop().attempt, "401 Unauthorized", refused=True))
    assert not desk.ledger.live
    assert desk.said[-1] == AccountStale(reason="401 Unauthorized; read again in 1 s")
    for seconds in (2, 4, 8, 16, 30, 30):
        desk.timer()
        desk.give(ReadFailed(desk.asked.pop().attempt, "401 Unauthorized", refused=True))
        assert desk.said[-1] == AccountStale(reason=f"401 Unauthorized; read again in {seconds} s")
    desk.timer().answer_all()
    assert desk.ledger.live


def test_a_check_that_could_not_be_made_is_said_once_and_the_claim_grows_old() -> None:
    desk = Desk().sync()
    confirmed_us = desk.ledger.confirmed_us
    assert confirmed_us is not None
    while desk.ledger.live:
        desk.timer()
        while desk.asked and desk.ledger.live:
            desk.give(ReadFailed(desk.asked.pop().attempt, "503"))
    assert desk.events(AccountUnconfirmed) == [AccountUnconfirmed(reason="503")]
    assert desk.now.mono_us == confirmed_us + 120 * SECOND
    assert desk.said[-1] == AccountStale(reason="its last proof is 120 s old")
    assert desk.ledger.confirmed_us is None
    desk.answer_all()
    assert desk.ledger.live


def test_a_check_that_has_no_answer_could_not_be_made() -> None:
    desk = Desk().sync().timer().timer()
    assert desk.events(AccountUnconfirmed) == [AccountUnconfirmed(reason="no answer in time")]
    assert desk.ledger.live


def test_a_check_that_succeeds_again_says_so_and_renews_the_claim() -> None:
    desk = Desk().sync().timer()
    desk.give(ReadFailed(desk.asked.pop().attempt, "503"))
    desk.timer()
    requested_us = desk.now.mono_us
    desk.answer_all().timer()
    assert desk.said[-1] == AccountConfirmed()
    assert desk.ledger.confirmed_us == requested_us, "it is as old as its request"


def test_the_claim_is_as_old_as_the_sending_of_the_first_request() -> None:
    desk = Desk().give(AccountRequested()).answer_all().timer()
    requested_us = desk.now.mono_us
    desk.now = Now(requested_us + 7 * SECOND, 0)
    desk.answer_all()
    assert desk.ledger.live
    assert desk.ledger.confirmed_us == requested_us


def test_a_contradiction_that_stays_though_it_was_read_again_is_escalated_and_then_doubted() -> None:
    desk = Desk()
    rounds = 0
    while len(desk.events(AccountDiverged)) < 2 or rounds < 12:
        # Each round of the exchange's own readings says something else.
        desk.balances = [a_balance("USDC", rounds)]
        desk.sync()
        desk.timer()
        rounds += 1
        desk.balances = [a_balance("USDC", rounds)]
        desk.answer_all().timer()
    found = [(event.what.partition(":")[0], event.escalated) for event in desk.events(AccountDiverged)]
    assert found == [("balance of USDC", False), ("balance of USDC", True)]
    assert list(desk.ledger.doubts) == ["balance USDC"]
    assert desk.ledger.live
    # It agrees: nothing is doubted any more.
    desk.balances = [*desk.ledger.balances.values()]
    desk.check()
    assert desk.ledger.doubts == {}


def test_a_live_ledger_is_stale_when_its_connection_is_lost() -> None:
    desk = Desk().sync().give(DOWN)
    assert not desk.ledger.live
    assert desk.ledger.state is AccountState.IDLE
    assert desk.said[-1] == AccountStale(reason="down")
    assert desk.ledger.deadline is None
    assert desk.give(DOWN, accepted(T_MS), of_stream(a_fill(1, T_MS))).ledger.open_orders == {}
    assert desk.events(AccountStale)[-1:] == [AccountStale(reason="down")]


def test_nothing_is_read_before_the_subscription_is_in_force() -> None:
    desk = again(Desk().sync()).give(DOWN, AccountRequested())
    assert desk.asked == []
    early = Now(desk.now.mono_us + IN_FORCE_US - 1, 0)
    assert desk.ledger.handle(TimerFired(), early) == []
    desk.timer()
    assert desk.now.mono_us == early.mono_us + 1
    assert [read.what for read in desk.asked] == [Read.OPEN_ORDERS]


def test_what_moves_while_a_check_reads_is_left_out_of_it() -> None:
    desk = Desk()
    desk.balances = [BALANCE]
    desk.sync().timer()
    desk.give(a_balance_update("USDC", 6), a_position(net=ONE, mark=9), accepted(T_MS))
    desk.answer_all().timer()
    assert desk.events(AccountDiverged) == []
    assert desk.events(BalanceChanged)[-1].balance.available == 6
    assert desk.events(AccountSynced) == [AccountSynced(orders=0, fills=0)]


def test_a_position_that_differs_is_found_by_the_check() -> None:
    desk = Desk().sync()
    desk.positions = [Position(symbol=SYMBOL, net_quantity=ONE, entry_price=ONE, break_even_price=ONE)]
    desk.check().answer_all()
    assert [event.what for event in desk.events(AccountDiverged)] == [f"position {SYMBOL}: {ZERO} here, 1 by REST"]
    assert desk.ledger.positions[SYMBOL].net_quantity == 1

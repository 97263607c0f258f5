"""The margin of the ledger: exact as of a reading, estimated since, and read again when the account moves."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from msgspec.structs import replace

from accounts import (
    ONE,
    SECOND,
    SYMBOL,
    T_MS,
    ZERO,
    Desk,
    a_balance_update,
    a_collateral,
    a_loan,
    a_position,
    accepted,
    an_asset,
)
from backpack_proto.account.audit import MARGIN_AFTER_US, MARGIN_EVERY_US
from backpack_proto.account.margin import LiquidationPrice, Margin, MarginChanged
from backpack_proto.account.readings import AccountEnded, AccountRequested, PositionsRead, Read, ReadFailed, ReadingRequested
from backpack_proto.account.values import AccountDoubted, AccountUnconfirmed, Position, PositionChanged
from backpack_proto.errors import LocalProtocolError
from backpack_proto.machine import Now
from backpack_proto.streams.payloads import MarkPrice, PositionAdjusted, PositionClosed
from backpack_runtime.accounts import AccountView

D = Decimal
WALL_US = 1_800_000_000_000_000


def a_row(*, net: str = "2", entry: str = "100", mark: str = "101", pnl: str = "2", realized: str = "5") -> Position:
    """An open position as REST lists it."""
    return Position(
        symbol=SYMBOL,
        position_id="5",
        net_quantity=D(net),
        entry_price=D(entry),
        break_even_price=D(entry),
        mark_price=D(mark),
        unrealized_pnl=D(pnl),
        realized_pnl=D(realized),
        estimated_liquidation_price=D(40),
    )


def a_mark(price: str, symbol: str = SYMBOL) -> MarkPrice:
    return MarkPrice(emitted_us=1, engine_us=1, symbol=symbol, mark_price=D(price))


def an_adjusted(*, net: str, mark: str, pnl: str, realized: str, entry: str = "100") -> PositionAdjusted:
    known = a_position(net=D(net), mark=1)
    return replace(
        known,
        entry_price=D(entry),
        mark_price=D(mark),
        unrealized_pnl=D(pnl),
        realized_pnl=D(realized),
    )


def a_desk() -> Desk:
    """A desk with one position, which has won 2."""
    desk = Desk(wall_us=WALL_US)
    desk.positions = [a_row()]
    desk.collateral = a_collateral(1_002, pnl=2)
    return desk


def margin_of(desk: Desk) -> Margin:
    assert desk.ledger.margin is not None
    return desk.ledger.margin


def figures(desk: Desk) -> tuple[Decimal, Decimal, Decimal]:
    margin = margin_of(desk)
    return margin.unrealized_pnl, margin.net_equity, margin.net_equity_available


def test_nothing_is_known_before_a_reading_tells_it() -> None:
    desk = a_desk().give(AccountRequested())
    view = AccountView(desk.ledger, lambda: desk.now)
    known = (view.margin, view.equity, view.buying_power, view.unrealized_pnl, view.lent, view.borrowed, view.funding)
    assert known == (None,) * 7
    assert view.margin_age_us is None


def test_a_reading_is_the_margin_and_says_as_of_when() -> None:
    desk = a_desk()
    desk.collateral = a_collateral(1_002, pnl=2, assets=(an_asset("USDC", total=70, lent=50), an_asset("BTC", total=1)))
    desk.loans = [a_loan("USDC", 50), a_loan("SOL", -3)]
    desk.sync()
    sent = desk.ledger.margin_sent
    assert sent is not None
    assert desk.collateral is not None
    margin = margin_of(desk)
    assert margin == Margin(
        as_of_us=WALL_US,
        collateral=desk.collateral,
        loans=tuple(desk.loans),
        unrealized_pnl=D(2),
        net_equity=D(1_002),
        net_equity_available=D(902),
        estimated=False,
        moved=False,
    )
    assert desk.events(MarginChanged) == [MarginChanged(margin=margin)]
    view = AccountView(desk.ledger, lambda: Now(sent.mono_us + 3 * SECOND, 0))
    assert (view.equity, view.buying_power, view.unrealized_pnl) == (D(1_002), D(902), D(2))
    assert (view.lent, view.borrowed, view.margin_age_us) == ({"USDC": D(50)}, {"SOL": D(3)}, 3 * SECOND)
    desk.check()
    assert len(desk.events(MarginChanged)) == 1, "the same margin is no news"


def test_profit_follows_mark_prices_and_says_that_it_is_estimated() -> None:
    desk = a_desk().sync()
    desk.give(a_mark("103.5"))
    assert figures(desk) == (D(7), D(1_007), D(907))
    assert margin_of(desk).estimated
    assert not margin_of(desk).moved
    assert margin_of(desk).collateral == desk.collateral, "what REST said stays as it was"
    position = desk.ledger.positions[SYMBOL]
    assert (position.mark_price, position.unrealized_pnl) == (D("103.5"), D(7))
    desk.give(a_mark("103.5", "BTC_USDC_PERP"), a_mark("101"))
    assert figures(desk) == (D(2), D(1_002), D(902))
    assert not margin_of(desk).estimated


def test_profit_is_cut_off_behind_six_decimals_as_the_exchange_does() -> None:
    desk = a_desk()
    desk.positions = [a_row(net="0.0010", entry="4236.36", mark="4236.36", pnl="0", realized="0")]
    desk.collateral = a_collateral(1_000)
    desk.sync().give(a_mark("4235.88650933"))
    assert desk.ledger.positions[SYMBOL].unrealized_pnl == D("-0.000473")


def test_a_profit_that_is_realised_stays_in_the_equity() -> None:
    desk = a_desk().sync()
    desk.give(an_adjusted(net="1", mark="104", pnl="4", realized="9"))  # one of two was closed at 104: 4 more realised
    assert figures(desk) == (D(4), D(1_008), D(908))
    assert margin_of(desk).moved
    desk.give(PositionClosed(**{**msgspec.structs.asdict(a_position(net=ONE, mark=1)), "realized_pnl": D(13)}))
    assert figures(desk) == (ZERO, D(1_008), D(908))


def test_a_position_that_closed_before_the_reading_adds_nothing() -> None:
    desk = a_desk().sync()
    desk.give(PositionClosed(**{**msgspec.structs.asdict(a_position(net=ONE, mark=1)), "realized_pnl": D(13)}))
    desk.positions, desk.collateral = [], a_collateral(1_008)
    desk.now = Now(desk.now.mono_us + 1, WALL_US)
    desk.check()
    assert figures(desk) == (ZERO, D(1_008), D(908))
    assert not margin_of(desk).estimated


def test_the_end_of_a_position_that_comes_behind_the_reading_that_has_it_adds_nothing() -> None:
    desk = a_desk().sync()
    desk.now = Now(desk.now.mono_us + 10 * SECOND, WALL_US)
    desk.give(a_balance_update("USDC", 1_008))
    desk.positions, desk.collateral = [], a_collateral(1_008)
    desk.timer().answer_all()
    assert figures(desk) == (ZERO, D(1_008), D(908)), "REST does not list it any more"
    desk.now = Now(desk.now.mono_us + SECOND, WALL_US)
    desk.give(PositionClosed(**{**msgspec.structs.asdict(a_position(net=ONE, mark=1)), "realized_pnl": D(13)}))
    assert figures(desk) == (ZERO, D(1_008), D(908))


def test_a_position_that_opens_after_the_reading_adds_its_profit() -> None:
    desk = Desk(wall_us=WALL_US).sync()
    desk.now = Now(desk.now.mono_us + SECOND, WALL_US)
    desk.give(an_adjusted(net="1", mark="104", pnl="4", realized="1"))
    assert figures(desk) == (D(4), D(1_005), D(905))


def test_a_position_that_a_stream_tells_of_has_its_own_mark() -> None:
    desk = a_desk().sync().give(a_mark("150"), an_adjusted(net="2", mark="104", pnl="8", realized="5"))
    assert desk.ledger.positions[SYMBOL].mark_price == D(104)
    assert figures(desk) == (D(8), D(1_008), D(908))


def test_available_equity_is_never_below_nothing_and_a_deficit_is_made_up_first() -> None:
    desk = a_desk()
    desk.collateral = a_collateral(98, locked=100, pnl=2)
    desk.sync()
    assert figures(desk)[2] == ZERO
    desk.give(a_mark("101.5"))
    assert figures(desk) == (D(3), D(99), ZERO)
    desk.give(a_mark("103.5"))
    assert figures(desk) == (D(7), D(103), D(3))


def test_what_is_known_of_a_row_that_cannot_be_read_does_not_move_the_margin() -> None:
    desk = a_desk()
    desk.unreadable[Read.POSITIONS] = ("BTC_USDC_PERP",)
    desk.sync().give(a_mark("200"))
    assert figures(desk) == (D(2), D(1_002), D(902))
    assert not margin_of(desk).estimated


def test_an_account_that_moves_has_its_margin_read_again_soon() -> None:
    desk = a_desk().sync()
    desk.now = Now(desk.now.mono_us + 10 * SECOND, WALL_US + 10 * SECOND)
    moved_us = desk.now.mono_us
    desk.give(a_balance_update("SOL", 2))
    assert margin_of(desk).moved
    assert desk.ledger.deadline == moved_us + MARGIN_AFTER_US
    desk.collateral = a_collateral(2_000, pnl=2)
    said = len(desk.said)
    desk.timer()
    assert [read.what for read in desk.asked] == [Read.POSITIONS]
    desk.answer_all()
    assert figures(desk) == (D(2), D(2_000), D(1_900))
    assert (margin_of(desk).moved, margin_of(desk).estimated) == (False, False)
    assert desk.said[said:] == [MarginChanged(margin=margin_of(desk))]
    confirmed_us = desk.ledger.confirmed_us
    assert confirmed_us is not None
    assert confirmed_us < moved_us, "this was no check"


def test_an_account_that_never_rests_has_its_margin_read_every_five_seconds_and_is_checked_all_the_same() -> None:
    desk = a_desk().sync()
    start_us, checked = desk.now.mono_us, 0
    read: list[int] = []
    while not checked:
        desk.give(accepted(T_MS))
        desk.timer()
        checked = sum(asked.what is Read.OPEN_ORDERS for asked in desk.asked)
        read += [desk.now.mono_us for asked in desk.asked if asked.what is Read.POSITIONS]
        desk.answer_all()
    assert [later - earlier for earlier, later in pairwise(read)] == [MARGIN_EVERY_US] * 11
    assert desk.now.mono_us - start_us <= 60 * SECOND


def test_a_reading_of_the_margin_that_fails_costs_no_proof_and_is_tried_again() -> None:
    desk = a_desk().sync()
    desk.now = Now(desk.now.mono_us + 10 * SECOND, WALL_US)
    desk.give(a_balance_update("SOL", 2)).timer()
    desk.give(ReadFailed(desk.asked.pop().attempt, "503"))
    assert desk.ledger.live
    assert desk.events(AccountUnconfirmed) == []
    assert desk.ledger.deadline == desk.now.mono_us + MARGIN_EVERY_US
    desk.timer().answer_all()
    assert not margin_of(desk).moved


def test_a_margin_that_the_exchange_does_not_tell_this_time_stays_what_it_was_and_is_read_again() -> None:
    desk = a_desk().sync()
    desk.now = Now(desk.now.mono_us + 10 * SECOND, WALL_US)
    told, desk.collateral, desk.problems[Read.COLLATERAL] = desk.collateral, None, "503"
    desk.give(a_balance_update("SOL", 2)).timer().answer_all()
    assert margin_of(desk).moved
    assert margin_of(desk).collateral == told
    first_us, desk.collateral = desk.now.mono_us, a_collateral(7)
    desk.timer().answer_all()
    assert desk.now.mono_us - first_us == MARGIN_EVERY_US
    assert not margin_of(desk).moved


def test_what_moves_while_the_margin_is_read_has_it_read_once_more() -> None:
    desk = a_desk().sync()
    desk.now = Now(desk.now.mono_us + 10 * SECOND, WALL_US)
    desk.give(a_balance_update("SOL", 2)).timer()
    positions = desk.asked.pop()
    desk.give(desk.answer(positions), a_balance_update("SOL", 3)).answer_all()
    assert margin_of(desk).moved
    assert desk.ledger.deadline == desk.now.mono_us + MARGIN_EVERY_US


def test_the_liquidation_price_is_that_of_rest_and_a_stream_does_not_take_it_away() -> None:
    desk = a_desk().sync()
    told = LiquidationPrice(symbol=SYMBOL, price=D(40), as_of_us=WALL_US, moved=False)
    assert desk.ledger.liquidation_price(SYMBOL) == told
    desk.give(an_adjusted(net="1", mark="104", pnl="4", realized="9"))
    assert desk.ledger.liquidation_price(SYMBOL) == replace(told, moved=True)
    with pytest.raises(LocalProtocolError, match="no open position in symbol='BTC_USDC_PERP'; positions: SOL_USDC"):
        desk.ledger.liquidation_price("BTC_USDC_PERP")


def test_a_position_without_a_price_of_liquidation_has_none() -> None:
    desk = a_desk()
    desk.positions = [replace(a_row(), estimated_liquidation_price=ZERO)]
    found = desk.sync().ledger.liquidation_price(SYMBOL)
    assert found is not None
    assert found.price is None


def test_the_liquidation_price_of_a_position_that_has_just_opened_is_not_known_yet() -> None:
    desk = Desk(wall_us=WALL_US).sync()
    desk.now = Now(desk.now.mono_us + 10 * SECOND, WALL_US)
    desk.give(an_adjusted(net="1", mark="104", pnl="4", realized="0"))
    assert desk.ledger.liquidation_price(SYMBOL) is None
    desk.positions = [a_row(net="1")]
    desk.timer().answer_all()
    found = desk.ledger.liquidation_price(SYMBOL)
    assert found is not None
    assert (found.price, found.moved) == (D(40), False)


def test_a_check_brings_what_only_rest_tells_of_a_position() -> None:
    desk = a_desk().sync()
    desk.positions = [
        replace(a_row(), break_even_price=D(101), estimated_liquidation_price=D(41), cumulative_funding_payment=D(-2))
    ]
    desk.check()
    assert desk.ledger.positions[SYMBOL] == desk.positions[0]
    assert [event.position.break_even_price for event in desk.events(PositionChanged)] == [D(100), D(101)]


def test_a_ledger_that_does_not_follow_says_that_the_account_may_have_moved() -> None:
    desk = a_desk().sync().give(AccountEnded("down"))
    assert margin_of(desk).moved
    assert margin_of(desk).as_of_us == WALL_US
    found = desk.ledger.liquidation_price(SYMBOL)
    assert found is not None
    assert found.moved


@pytest.mark.parametrize(
    ("what", "doubt"), [(Read.COLLATERAL, "margin"), (Read.LOANS, "loans"), (Read.FUNDING, "funding payments")]
)
def test_a_part_that_the_exchange_does_not_tell_is_doubted_and_the_rest_is_live(what: Read, doubt: str) -> None:
    desk = a_desk()
    desk.problems[what] = "403"
    if what is Read.COLLATERAL:
        desk.collateral = None
    desk.sync()
    assert desk.ledger.live
    assert desk.ledger.doubts == {doubt: "403"}
    assert desk.events(AccountDoubted) == [AccountDoubted(doubts=(f"{doubt}: 403",))]
    assert (desk.ledger.margin is None) is (what is Read.COLLATERAL)
    assert (desk.ledger.funding is None) is (what is Read.FUNDING)
    desk.problems.clear()
    desk.collateral = a_collateral()
    desk.check()
    assert not desk.ledger.doubts
    assert desk.ledger.margin is not None
    assert desk.ledger.funding is not None


def test_where_the_loans_are_not_told_what_is_lent_is_known_and_what_is_borrowed_is_not() -> None:
    desk = a_desk()
    desk.collateral = a_collateral(assets=(an_asset("USDC", total=70, lent=60), an_asset("SOL", total=5)))
    desk.problems[Read.LOANS] = "401"
    margin = margin_of(desk.sync())
    assert (margin.lent, margin.borrowed) == ({"USDC": D(60)}, None)


def test_marks_from_before_the_positions_were_read_count_no_more() -> None:
    desk = a_desk().sync()
    desk.give(a_mark("150"))
    desk.now = Now(desk.now.mono_us + SECOND, WALL_US)
    desk.check()
    assert figures(desk) == (D(2), D(1_002), D(902))
    # One that is heard while the positions are read is newer than they are.
    desk.begin_check()
    desk.give(desk.answer(desk.asked.pop(0)))
    asked = desk.asked.pop(0)
    desk.now = Now(desk.now.mono_us + 1, WALL_US)
    desk.give(ReadingRequested(asked.attempt))
    desk.now = Now(desk.now.mono_us + 1, WALL_US)
    desk.give(a_mark("103.5"), PositionsRead(asked.attempt, (a_row(),))).answer_all().timer()
    assert figures(desk) == (D(7), D(1_007), D(907))


def test_a_margin_survives_json() -> None:
    desk = a_desk()
    desk.loans = [a_loan("USDC", 50)]
    margin = margin_of(desk.sync())
    assert msgspec.json.decode(msgspec.json.encode(margin), type=Margin) == margin
    assert margin.to_dict()["collateral"]["net_equity"] == D(1_002)

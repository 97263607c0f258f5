"""The ledger as values: which fills it reports, from where on it reads them, and which answers it takes."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from msgspec.structs import replace

from accounts import (
    ONE,
    SECOND,
    SYMBOL,
    T_MS,
    TEN_MINUTES_MS,
    ZERO,
    Desk,
    a_balance,
    a_fill,
    a_position,
    accepted,
    an_order,
    of_stream,
)
from backpack_proto.account import audit, fills, signals
from backpack_proto.account.account import Account
from backpack_proto.account.readings import (
    AccountEnded,
    AccountRequested,
    BalancesRead,
    FillsRead,
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
)
from backpack_proto.account.reconciliation import arguments_of
from backpack_proto.account.sync import AccountState
from backpack_proto.account.values import (
    AccountDiverged,
    AccountStale,
    AccountSynced,
    OrderChanged,
    Origin,
    Position,
    PositionChanged,
)
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.streams.channels import IN_FORCE_US


def test_the_newest_fills_are_read_at_once_and_nothing_else_until_the_subscription_is_in_force() -> None:
    desk = Desk(a_fill(1, T_MS))
    orders, beginning = ReadAccount(attempt=1, what=Read.PAST_ORDERS), ReadAccount(attempt=2, what=Read.FILLS)
    assert desk.ledger.handle(AccountRequested(), desk.now) == [AccountStale(reason="it is being read"), orders]
    assert desk.ledger.handle(desk.answer(orders), desk.now) == [beginning]
    assert desk.ledger.handle(desk.answer(beginning), desk.now) == []
    settled = Now(desk.now.mono_us + IN_FORCE_US, 0)
    assert desk.ledger.deadline == settled.mono_us
    assert desk.ledger.handle(TimerFired(), settled) == [ReadAccount(attempt=3, what=Read.OPEN_ORDERS)]


def test_the_beginning_may_take_longer_than_a_subscription() -> None:
    desk = Desk().give(AccountRequested())
    desk.now = Now(desk.now.mono_us + 5 * SECOND, 0)
    desk.answer_all()
    assert desk.ledger.deadline == desk.now.mono_us
    assert desk.timer().asked == [ReadAccount(attempt=3, what=Read.OPEN_ORDERS)]


def test_fills_are_asked_for_with_a_bound_that_the_exchange_gave_or_with_none() -> None:
    read = ReadAccount(attempt=1, what=Read.FILLS, offset=2000)
    assert arguments_of(read) == {"from": None, "limit": 1000, "offset": 2000, "sortDirection": "Desc"}
    read = ReadAccount(attempt=1, what=Read.FILLS, since_ms=T_MS)
    assert arguments_of(read) == {"from": T_MS, "limit": 1000, "offset": 0, "sortDirection": "Desc"}


@pytest.mark.parametrize(
    ("newest_ms", "since_ms"),
    [
        (fills.OVERLAP_MS, 0),
        (fills.OVERLAP_MS + TEN_MINUTES_MS - 1, 0),
        (fills.OVERLAP_MS - 1, -TEN_MINUTES_MS),
    ],
)
def test_fills_are_read_from_a_whole_ten_minutes_on_and_a_minute_early(newest_ms: int, since_ms: int) -> None:
    start_ms = T_MS // TEN_MINUTES_MS * TEN_MINUTES_MS
    assert Desk(a_fill(1, start_ms + newest_ms)).sync().since_ms() == start_ms + since_ms


def test_the_first_fills_of_1970_are_no_trouble() -> None:
    assert Desk(a_fill(1, 5)).sync().since_ms() == 0


@pytest.mark.parametrize("wall_us", [0, T_MS * 1000 + 600 * SECOND, 10**16], ids=["1970", "ten minutes ahead", "2286"])
def test_what_is_filled_behind_the_beginning_is_told_once_whatever_our_clock_says(wall_us: int) -> None:
    desk = Desk(a_fill(1, T_MS), wall_us=wall_us).give(AccountRequested()).answer_all()
    desk.listed += [a_fill(2, T_MS), a_fill(3, T_MS + 10)]
    desk.sync()
    assert desk.told == [(2, Origin.RECONCILIATION), (3, Origin.RECONCILIATION)]
    assert desk.said[-1] == AccountSynced(orders=0, fills=2)
    for number in range(3):
        desk.now = Now(desk.now.mono_us, desk.now.unix_us + (-1) ** number * 600 * SECOND)
        desk.give(AccountEnded("down"))
        desk.listed.append(a_fill(4 + number, T_MS + 1_000 + number))
        desk.sync().check()
    assert [trade_id for trade_id, _ in desk.told] == [2, 3, 4, 5, 6]


def test_fills_that_are_listed_late_are_told_within_the_overlap() -> None:
    desk = Desk(a_fill(5, T_MS)).sync()
    # Behind the newest, in its very millisecond, and almost a minute before it.
    desk.listed += [a_fill(6, T_MS), a_fill(4, T_MS - fills.OVERLAP_MS)]
    desk.give(AccountEnded("down")).sync()
    assert [trade_id for trade_id, _ in desk.told] == [4, 6]


def test_what_is_older_than_the_beginning_is_from_before_even_if_it_was_not_listed() -> None:
    desk = Desk(a_fill(5, T_MS)).sync()
    desk.listed.append(a_fill(3, T_MS - fills.OVERLAP_MS - 1))
    desk.give(AccountEnded("down")).sync().check()
    assert desk.told == []


def test_the_stream_tells_a_fill_at_once_and_rest_does_not_repeat_it() -> None:
    desk = Desk(a_fill(1, T_MS)).give(AccountRequested()).answer_all()
    fill = a_fill(2, T_MS + 5)
    desk.give(of_stream(fill))
    assert desk.told == [(2, Origin.STREAM)]
    desk.listed.append(fill)
    desk.executed = 1
    desk.sync().check()
    assert desk.told == [(2, Origin.STREAM)]
    assert AccountSynced(orders=1, fills=0) in desk.said


def test_what_the_stream_tells_is_never_from_before_though_the_beginning_lists_it() -> None:
    fill = a_fill(2, T_MS + 5)
    desk = Desk(a_fill(1, T_MS), fill).give(AccountRequested()).answer_all()
    desk.give(of_stream(fill))
    assert desk.told == [(2, Origin.STREAM)]
    desk.executed = 1
    desk.sync()
    late = Desk(a_fill(1, T_MS), fill)
    late.executed = 1
    late.sync()
    assert late.told == []
    late.now = Now(late.now.mono_us + audit.GRACE_US, 0)
    late.give(of_stream(fill))
    assert late.told == [(2, Origin.STREAM)]
    assert not [event for event in [*desk.said, *late.said] if isinstance(event, AccountDiverged)]


def test_a_connection_that_is_lost_before_the_beginning_is_known_loses_no_fill() -> None:
    desk = Desk(a_fill(1, T_MS)).give(AccountRequested())
    heard, missed = a_fill(2, T_MS + 5), a_fill(3, T_MS + 90_000)
    desk.give(of_stream(heard), AccountEnded("down"))
    late = desk.asked.pop()
    desk.listed += [heard, missed]
    desk.executed = 2
    desk.give(AccountRequested()).give(desk.answer(late))
    assert desk.ledger.state is AccountState.SETTLING
    desk.sync().check()
    assert desk.told == [(2, Origin.STREAM), (3, Origin.RECONCILIATION)]


def test_what_was_filled_behind_the_first_word_of_the_stream_is_not_from_before() -> None:
    desk = Desk(a_fill(1, T_MS)).give(AccountRequested(), accepted(T_MS + 5), AccountEnded("down"))
    desk.asked.clear()
    # So long ago when the beginning is read at last that it lies before the overlap.
    desk.listed += [a_fill(2, T_MS + 5), a_fill(3, T_MS + 10 * fills.OVERLAP_MS)]
    desk.executed = 2
    desk.sync().check()
    assert [trade_id for trade_id, _ in desk.told] == [2, 3]


@pytest.mark.parametrize("fails", [True, False], ids=["refused", "no answer"])
def test_a_beginning_that_cannot_be_read_is_read_again_and_what_the_stream_tells_meanwhile_is_told(*, fails: bool) -> None:
    desk = Desk(a_fill(1, T_MS)).give(AccountRequested())
    desk.give(desk.answer(desk.asked.pop()))
    first = desk.asked.pop()
    if fails:
        desk.give(ReadFailed(first.attempt, "401"))
    else:
        desk.timer()
    reason = "401" if fails else "no answer in time"
    assert desk.said[-1] == AccountStale(reason=f"{reason}; read again in 1 s")
    fill = a_fill(2, T_MS + 5)
    desk.give(of_stream(fill))
    desk.listed.append(fill)
    desk.executed = 1
    desk.timer()
    assert desk.asked == [ReadAccount(attempt=3, what=Read.FILLS)]
    desk.sync().check()
    assert desk.told == [(2, Origin.STREAM)]


@pytest.mark.parametrize("lost", [False, True], ids=["one connection", "two connections"])
def test_a_beginning_of_many_pages_while_the_account_trades(monkeypatch: pytest.MonkeyPatch, *, lost: bool) -> None:
    monkeypatch.setattr("backpack_proto.account.rounds.PAGE", 3)
    before = [a_fill(number, T_MS + number * 10_000) for number in range(1, 12)]
    desk = Desk(*before).give(AccountRequested())
    desk.give(desk.answer(desk.asked.pop(0)))
    reads: list[tuple[int | None, int]] = []
    for page in range(3):
        read = desk.asked.pop(0)
        reads.append((read.since_ms, read.offset))
        desk.give(desk.answer(read))
        # More than a page has: what the next one lists first is new.
        desk.listed += [a_fill(100 + 4 * page + number, T_MS + 200_000 + 4 * page + number) for number in range(4)]
        if lost and page == 0:
            desk.give(AccountEnded("down"), AccountRequested())
            desk.asked = desk.asked[-1:]
    desk.sync().check()
    assert [trade_id for trade_id, _ in desk.told] == list(range(100, 112))
    assert reads == [(None, 0), (None, 3), (None, 6)]


def test_a_beginning_ends_where_the_overlap_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backpack_proto.account.rounds.PAGE", 2)
    times = [0, 1_000, 1_000, fills.OVERLAP_MS - 1, fills.OVERLAP_MS, fills.OVERLAP_MS + 1, 2 * fills.OVERLAP_MS]
    desk = Desk(*(a_fill(number, T_MS - back_ms) for number, back_ms in enumerate(times)))
    desk.give(AccountRequested())
    offsets = []
    while desk.asked:
        offsets += [desk.asked[0].offset] if desk.asked[0].what is Read.FILLS else []
        desk.give(desk.answer(desk.asked.pop(0)))
    assert offsets == [0, 2, 4]
    desk.sync().check()
    assert desk.told == []


def test_an_account_without_fills_has_no_cursor_until_one_is_listed() -> None:
    desk = Desk().sync()
    assert desk.since_ms() is None
    fill = a_fill(1, T_MS)
    desk.executed = 1
    desk.give(of_stream(fill))
    assert desk.since_ms() is None
    desk.listed.append(fill)
    assert desk.since_ms() is None
    assert desk.since_ms() == T_MS // TEN_MINUTES_MS * TEN_MINUTES_MS
    assert desk.told == [(1, Origin.STREAM)]


def test_a_fill_of_the_stream_does_not_prove_that_those_before_it_came() -> None:
    desk = Desk(a_fill(1, T_MS)).sync()
    swallowed = a_fill(2, T_MS + 1_000, order_id="5")
    fill = a_fill(3, T_MS + 20 * TEN_MINUTES_MS)
    desk.executed = 1
    desk.give(of_stream(fill))
    desk.listed += [swallowed, fill]
    desk.check().answer_all()
    assert desk.told == [(3, Origin.STREAM), (2, Origin.RECONCILIATION)]


def test_only_a_round_that_is_complete_moves_the_cursor() -> None:
    desk = Desk(a_fill(1, T_MS)).sync()
    start_ms = (T_MS - fills.OVERLAP_MS) // TEN_MINUTES_MS * TEN_MINUTES_MS
    later = a_fill(2, T_MS + TEN_MINUTES_MS)
    desk.executed = 1
    desk.give(of_stream(later))
    desk.listed.append(later)
    desk.begin_check()
    desk.give(ReadFailed(desk.asked.pop().attempt, "503"))
    assert desk.since_ms() == start_ms
    assert desk.since_ms() == start_ms + TEN_MINUTES_MS


def test_a_check_does_not_pass_a_fill_that_the_stream_has_yet_to_tell() -> None:
    desk = Desk(a_fill(1, T_MS)).sync()
    start_ms = (T_MS - fills.OVERLAP_MS) // TEN_MINUTES_MS * TEN_MINUTES_MS
    on_its_way, later = a_fill(2, T_MS + 1), a_fill(3, T_MS + 5 * TEN_MINUTES_MS)
    desk.executed = 0
    desk.listed += [on_its_way, later]
    desk.timer()
    desk.give(accepted(T_MS + 1))
    desk.answer_all().timer()
    assert not [event for event in desk.said if isinstance(event, AccountDiverged)]
    assert desk.since_ms() == start_ms


def test_no_fill_that_may_be_listed_again_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backpack_proto.account.fills.REMEMBERED_FILLS", 4)
    desk = Desk().sync()
    for number in range(20):
        desk.listed.append(a_fill(number, T_MS + number * 10_000))
        desk.give(AccountEnded("down")).sync().check()
    assert [trade_id for trade_id, _ in desk.told] == list(range(20))
    burst = [a_fill(100 + number, T_MS + 200_000 + number) for number in range(10)]
    for executed, fill in enumerate(burst, 1):
        desk.give(of_stream(fill, executed=executed))
    desk.executed = 10
    desk.listed += burst
    for _ in range(3):
        desk.give(AccountEnded("down")).sync().check()
    assert [trade_id for trade_id, _ in desk.told] == [*range(20), *range(100, 110)]
    assert len(desk.ledger._ledger.fills) < 20
    desk.listed.append(a_fill(99, T_MS + 200_009 - fills.OVERLAP_MS))
    desk.give(AccountEnded("down")).sync().check()
    assert [trade_id for trade_id, _ in desk.told] == [*range(20), *range(100, 110), 99]


def test_each_row_without_a_trade_id_is_reported_once() -> None:
    desk = Desk(a_fill(None, T_MS, "1")).sync()
    # Two of the same order, two that differ in nothing at all, and one that is like the one from before.
    desk.listed += [a_fill(None, T_MS + 5, "1"), a_fill(None, T_MS + 6, "2"), a_fill(None, T_MS + 7, "2")]
    desk.listed += [a_fill(None, T_MS + 7, "2"), a_fill(None, T_MS, "1")]
    desk.give(AccountEnded("down")).sync().check()
    desk.give(AccountEnded("down")).sync().check()
    assert desk.told == [(None, Origin.RECONCILIATION)] * 5


def test_what_only_rest_knows_of_an_order_is_taken_over_without_an_event() -> None:
    desk = Desk().sync().give(accepted(T_MS))
    from_stream = desk.ledger.open_orders["77"]
    assert from_stream.created_us is None
    desk.executed, desk.created_us = 0, T_MS * 1000
    desk.give(AccountEnded("down")).sync()
    assert desk.ledger.open_orders["77"] == replace(from_stream, created_us=T_MS * 1000)
    desk.give(replace(accepted(T_MS), state="Cancelled"))
    assert desk.ledger.open_orders == {}
    changed = [event for event in desk.said if isinstance(event, OrderChanged)]
    assert [(event.order.state, event.order.created_us, event.origin) for event in changed] == [
        ("New", None, Origin.STREAM),
        ("Cancelled", T_MS * 1000, Origin.STREAM),
    ]


def test_an_order_that_history_lists_without_an_executed_quantity_executed_nothing() -> None:
    desk = Desk().sync()
    desk.executed = 0
    desk.give(AccountEnded("down")).sync()
    desk.executed = None
    desk.ended = replace(desk.order(), state="Cancelled", executed_quantity=None, executed_quote_quantity=None)
    desk.give(AccountEnded("down")).sync()
    last = [event.order for event in desk.said if isinstance(event, OrderChanged)][-1]
    assert (last.state, last.executed_quantity, last.executed_quote_quantity) == ("Cancelled", ZERO, ZERO)


def test_a_position_whose_price_alone_moves_is_followed_without_an_event() -> None:
    desk = Desk().sync()
    for mark in (9, 10, 11):
        desk.give(a_position(net=Decimal("2.0"), mark=mark))
    desk.give(a_position(net=Decimal(2), mark=12))
    assert desk.ledger.positions[SYMBOL].mark_price == 12
    assert str(desk.ledger.positions[SYMBOL].net_quantity) == "2.0", "the digits that were told"
    desk.give(a_position(net=Decimal(3), mark=12))
    changed = [event.position.net_quantity for event in desk.said if isinstance(event, PositionChanged)]
    assert changed == [2, 3]
    # REST lists it no more: of the rest nothing is known.
    desk.give(AccountEnded("down")).sync()
    closed = [event.position for event in desk.said if isinstance(event, PositionChanged)][-1]
    assert closed == Position(symbol=SYMBOL, position_id="5", net_quantity=ZERO, entry_price=ONE, break_even_price=ONE)


def test_a_fill_in_the_millisecond_of_the_first_thing_heard_is_told() -> None:
    """REST lists whole milliseconds, so it seems to be from before what it followed."""
    desk = Desk(a_fill(1, T_MS))
    desk.give(AccountRequested(), replace(accepted(T_MS), engine_us=T_MS * 1000 + 400))
    desk.executed = 1
    assert desk.sync().told == [(1, Origin.RECONCILIATION)]


def test_fills_of_one_millisecond_are_told_by_their_ids_settlements_first() -> None:
    desk = Desk().sync()
    desk.listed += [a_fill(3, T_MS), a_fill(None, T_MS, "8"), a_fill(2, T_MS)]
    desk.give(AccountEnded("down")).sync()
    assert [trade_id for trade_id, _ in desk.told] == [None, 2, 3]


def answers(attempt: int) -> list[Reading]:
    """One to every question."""
    return [
        OpenOrdersRead(attempt, ()),
        PositionsRead(attempt, ()),
        BalancesRead(attempt, ()),
        FillsRead(attempt, ()),
        PastOrdersRead(attempt, ()),
        OrderRead(attempt, None),
        OrderFillsRead(attempt, ()),
    ]


def at_question(what: Read) -> Desk:
    """A ledger at one of its questions."""
    desk = Desk(a_fill(1, T_MS))
    if what is Read.ORDER_FILLS:
        # Born under the ledger's eyes, and a fill is missing when it is read again.
        desk.sync().give(accepted(T_MS + 5))
        desk.listed.append(a_fill(2, T_MS - 10 * fills.OVERLAP_MS))
        desk.executed = 1
        desk.give(AccountEnded("down")).sync().timer()
    else:
        desk.executed = 0
        desk.sync().give(AccountEnded("down"), AccountRequested())
        desk.executed = None
        desk.timer()
    while desk.asked[0].what is not what:
        desk.give(desk.answer(desk.asked.pop(0)))
    return desk


@pytest.mark.parametrize("what", Read)
def test_an_answer_to_another_question_is_ignored(what: Read) -> None:
    desk = at_question(what)
    read = desk.asked[0]
    right = desk.answer(read)
    deadline = desk.ledger.deadline
    for answer in [*answers(read.attempt), *answers(read.attempt - 1), *answers(read.attempt + 1)]:
        if type(answer) is not type(right) or answer.attempt != read.attempt:
            assert desk.ledger.handle(answer, desk.now) == []
            assert desk.ledger.deadline == deadline
    assert desk.ledger.awaited == read.attempt
    desk.ledger.handle(right, desk.now)
    assert desk.ledger.awaited != read.attempt
    assert desk.ledger.handle(right, desk.now) == [], "a question is answered once"


def test_the_end_of_another_order_is_no_answer() -> None:
    desk = at_question(Read.ORDER)
    attempt = desk.asked[0].attempt
    desk.executed = 1
    other = replace(desk.order(), order_id="78", state="Filled")
    assert desk.ledger.handle(OrderRead(attempt, other), desk.now) == []
    assert desk.ledger.state is AccountState.READING
    ended = replace(desk.order(), state="Cancelled")
    outputs = desk.ledger.handle(OrderRead(attempt, ended), desk.now)
    assert outputs[-1] == AccountSynced(orders=0, fills=0)


def test_at_the_beginning_too_an_answer_to_another_question_is_ignored() -> None:
    ledger = Account()
    now = Now(5 * SECOND, 0)
    ledger.handle(AccountRequested(), now)
    ledger.handle(ReadingRequested(1), now)
    for answer in answers(1):
        if not isinstance(answer, PastOrdersRead):
            assert ledger.handle(answer, now) == []
    assert ledger.deadline == now.mono_us + signals.ANSWER_US


def test_mute_streams_are_requested_again_and_the_connection_given_up_less_and_less_often() -> None:
    """An order that nobody reported, again and again, while no stream of the account says a word."""
    desk = Desk().sync()
    steps: list[tuple[int, bool]] = []
    for number in range(40):
        desk.open = [an_order(str(1_000 + number))]
        said = len(desk.events(signals.UpdatesMute))
        while len(desk.events(AccountDiverged)) <= number:
            desk.check()
        steps += [(desk.now.mono_us // SECOND, mute.abandon) for mute in desk.events(signals.UpdatesMute)[said:]]
        desk.give(AccountRequested()).sync()
    moments = [moment for moment, _ in steps]
    assert [abandon for _, abandon in steps] == [False] + [True] * (len(steps) - 1)
    waits = [later - earlier for earlier, later in pairwise(moments)]
    assert waits[1] >= 60
    assert all(later >= 1.4 * earlier for earlier, later in pairwise(waits[1:5])), waits
    desk.give(accepted(T_MS))
    desk.give(AccountRequested()).sync()
    desk.open = [an_order("5")]
    while not desk.events(signals.UpdatesMute)[len(steps) :]:
        desk.check()
    assert desk.events(signals.UpdatesMute)[-1].abandon is False, "it has spoken in between"


def test_a_new_connection_is_not_given_up_before_the_streams_were_requested_again_on_it() -> None:
    desk = Desk().sync()
    for number in range(3):
        desk.open = [an_order(str(1_000 + number))]
        while len(desk.events(signals.UpdatesMute)) <= number:
            desk.check()
        desk.give(AccountEnded("the connection is down"))
        desk.give(AccountRequested()).sync()
    assert [mute.abandon for mute in desk.events(signals.UpdatesMute)] == [False] * 3


def test_a_silent_balance_never_costs_the_connection() -> None:
    desk = Desk().sync()
    for number in range(4):
        desk.balances = [a_balance("SOL", 2 + number)]
        desk.check()
        desk.give(AccountRequested()).sync()
    assert [(mute.proved, mute.abandon) for mute in desk.events(signals.UpdatesMute)] == [(("account.balanceUpdate",), False)]

"""The ledger as a fold: what an update or a round of readings changes, what it contradicts, and what is doubted then."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from accounts import (
    ONE,
    SYMBOL,
    T_MS,
    ZERO,
    a_balance,
    a_balance_update,
    a_fill,
    a_position,
    accepted,
    an_order,
    cancelled,
    of_stream,
)
from backpack_proto.account.fills import GRAIN_MS, OVERLAP_MS, ReportedFills, numbered
from backpack_proto.account.ledger import Ledger, Update, subject_of
from backpack_proto.account.pasts import PastOrders
from backpack_proto.account.readings import ANSWERS, FillsRead, PastOrdersRead, Read, ReadAccount, ReadFailed
from backpack_proto.account.reconciliation import arguments_of, endpoint_of, reading_of
from backpack_proto.account.rounds import ALL, Attempts, Beginning, Round
from backpack_proto.account.subjects import Kind, Subject
from backpack_proto.account.values import (
    AccountDoubted,
    BalanceChanged,
    Fill,
    Filled,
    Order,
    OrderChanged,
    Origin,
    PositionChanged,
)
from backpack_proto.errors import ApiError, BackpackError, PartlyUnreadable, RemoteProtocolError
from hypothesis_profiles import examples

ORDER_77 = Subject(Kind.ORDER, "77")


def a_round(
    *,
    orders: tuple[Order, ...] = (),
    fills: tuple[Fill, ...] = (),
    past: tuple[Order, ...] = (),
    looked_up: dict[str, Order | None] | None = None,
) -> Round:
    read = Round(None, None, audit=False)
    read.orders = {order.order_id: order for order in orders}
    read.fills = numbered(fills)
    read.past_orders = {order.order_id: order for order in past}
    read.looked_up = looked_up or {}
    return read


def begun(*before: Fill) -> Ledger:
    """A ledger whose beginning is known."""
    ledger = Ledger()
    ledger.fills.begin(numbered(before), max((fill.listed_ms for fill in before), default=0), None)
    ledger.orders.past.begin(Beginning(), None)
    return ledger


def names(events: list[object]) -> list[str]:
    return [type(event).__name__ for event in events]


# Updates.


def test_an_update_is_taken_over_and_repeated_changes_nothing() -> None:
    ledger = Ledger()
    updates: list[Update] = [
        accepted(T_MS),
        of_stream(a_fill(1, T_MS)),
        a_position(net=ONE, mark=9),
        a_balance_update("SOL", 3),
    ]
    changed = [event for update in updates for event in ledger.apply(update)]
    assert names([*changed]) == ["OrderChanged", "Filled", "OrderChanged", "PositionChanged", "BalanceChanged"]
    assert [event for update in updates for event in ledger.apply(update)] == []
    assert [subject_of(update) for update in updates] == [
        ORDER_77,
        ORDER_77,
        Subject(Kind.POSITION, SYMBOL),
        Subject(Kind.BALANCE, "SOL"),
    ]


@pytest.mark.parametrize(
    ("update", "said"),
    [
        (of_stream(a_fill(2, T_MS), executed=2), None),
        (of_stream(a_fill(1, T_MS), executed=1), None),
        (of_stream(a_fill(None, T_MS), executed=2), None),
        (of_stream(a_fill(None, T_MS), executed=1), None),
        (of_stream(a_fill(2, T_MS), executed=3), "order 77 executed 3, its fills make 2"),
        (of_stream(a_fill(None, T_MS), executed=3), "order 77 executed 3, its fills make 2"),
        (of_stream(a_fill(2, T_MS), executed=1), "order 77 executed 1, its fills make 2"),
        (cancelled(T_MS, executed=1), None),
        (cancelled(T_MS, executed=2), "order 77 executed 2, its fills make 1"),
        (cancelled(T_MS, executed=0), "order 77 executed 0, its fills make 1"),
        (accepted(T_MS), "order 77 executed 0, its fills make 1"),
        (cancelled(T_MS, "5", executed=1), "order 5 executed 1, its fills make 0"),
        (replace(of_stream(a_fill(2, T_MS), executed=2), fill_price=None), "a fill of order 77 without quantity or price"),
        (a_balance_update("SOL", 1), None),
    ],
)
def test_what_cannot_follow_from_what_is_known_is_a_contradiction(update: Update, said: str | None) -> None:
    ledger = Ledger()
    ledger.apply(accepted(T_MS))
    ledger.apply(of_stream(a_fill(1, T_MS)))
    assert ledger.contradiction(update) == said


def test_after_a_reading_older_updates_may_still_come() -> None:
    ledger = begun()
    ledger.merge(a_round(orders=(an_order("77", executed=3),)), ())
    assert ledger.contradiction(of_stream(a_fill(1, T_MS), executed=2)) is None
    ledger.apply(of_stream(a_fill(1, T_MS), executed=3))
    assert ledger.contradiction(of_stream(a_fill(2, T_MS), executed=2)) is not None


# Fills.


def test_rows_of_a_page_are_numbered_where_they_have_no_id() -> None:
    nameless, named = a_fill(None, T_MS), a_fill(1, T_MS)
    assert list(numbered([nameless, named, nameless])) == [(nameless.profile, 0), named.key, (nameless.profile, 1)]


@examples(200)
@given(
    known=st.lists(st.sampled_from([None, 1, 2]), max_size=5, unique_by=lambda trade_id: trade_id or object()),
    listed=st.lists(st.sampled_from([None, 1, 2, 3]), max_size=5, unique_by=lambda trade_id: trade_id or object()),
)
def test_as_many_rows_are_new_as_are_more_than_was_reported(known: list[int | None], listed: list[int | None]) -> None:
    """All of these fills are equal but for their ids, which one of the sources may not know."""
    fills = ReportedFills()
    for trade_id in known:
        fills.report(a_fill(trade_id, T_MS))
    rows = numbered([a_fill(trade_id, T_MS) for trade_id in listed])
    new = fills.unreported(rows)
    both = {trade_id for trade_id in known if trade_id is not None} & set(listed)
    left_known, left_listed = len(known) - len(both), len(listed) - len(both)
    nameless_known, nameless_listed = known.count(None), listed.count(None)
    named_listed, named_known = left_listed - nameless_listed, left_known - nameless_known
    # Ids that both have are settled. Those without one stand for as many of the rest.
    spare = max(nameless_known - nameless_listed, 0)
    expected = max(named_listed - spare, 0) + max(nameless_listed - nameless_known - named_known, 0)
    assert len(new) == expected
    assert {fill.key for fill in new if fill.trade_id}.isdisjoint(
        {a_fill(trade_id, T_MS).key for trade_id in known if trade_id}
    )


def test_the_cursor_lies_before_the_newest_fill_of_a_round_and_never_goes_back() -> None:
    fills = ReportedFills()
    fills.begin({}, 0, None)
    assert fills.read_from_ms() is None
    for listed_ms in (T_MS, T_MS - 5, T_MS + 7):
        fill = a_fill(listed_ms, listed_ms)
        fills.report(fill)
        fills.move_cursor(numbered([fill]))
    assert fills.since_ms == T_MS + 7 - OVERLAP_MS
    assert fills.read_from_ms() == (T_MS + 7 - OVERLAP_MS) // GRAIN_MS * GRAIN_MS
    fills.move_cursor(numbered([a_fill(1, T_MS + 10), a_fill(2, T_MS + 900_000)]))
    assert fills.since_ms == T_MS + 10 - OVERLAP_MS, "both are to be reported yet"


# Rounds.


def test_a_round_asks_in_order_and_looks_up_at_its_end() -> None:
    ledger = begun()
    ledger.apply(accepted(T_MS))
    read, attempts = ledger.round(audit=True), Attempts()
    asked = read.next(attempts)
    assert asked == ReadAccount(attempt=1, what=Read.OPEN_ORDERS, audit=True)
    order = []
    while asked is not None:
        order.append((asked.what, read.listed))
        answer = reading_of(asked, ())
        assert not isinstance(answer, ReadFailed)
        read.take(asked, answer)
        asked = read.next(attempts)
    assert order == [(what, False) for what in ALL]
    assert read.listed
    read.look_up(ledger.look_ups(read, (), live=False))
    assert read.next(attempts) == ReadAccount(attempt=9, what=Read.ORDER, order_id="77", symbol=SYMBOL, audit=True)
    assert ledger.look_ups(read, {"77"}, live=False) == []
    assert ledger.look_ups(read, (), live=True) == [], "an absence is a contradiction"


def test_an_order_that_history_has_already_is_not_looked_up() -> None:
    ledger = begun()
    ledger.apply(accepted(T_MS))
    assert ledger.look_ups(a_round(past=(an_order("77", state="Cancelled"),)), (), live=False) == []
    assert len(ledger.look_ups(a_round(past=(an_order("77"),)), (), live=False)) == 1


def test_what_a_round_lists_is_merged_fills_first() -> None:
    ledger = begun(a_fill(1, T_MS))
    read = a_round(
        orders=(an_order("5", created_ms=T_MS + 1, executed=1),),
        fills=(a_fill(1, T_MS), a_fill(2, T_MS + 5, "5")),
        past=(an_order("6", created_ms=T_MS + 2, state="Cancelled"), an_order("4", created_ms=T_MS, state="New")),
    )
    read.balances = {"SOL": a_balance("SOL", 3)}
    events, fills = ledger.merge(read, [a_balance_update("SOL", 4)])
    assert names([*events]) == ["Filled", "OrderChanged", "OrderChanged", "BalanceChanged", "BalanceChanged"]
    assert fills == 1
    assert ledger.balances["SOL"].available == 4
    assert ledger.doubts == {}
    assert ledger.merge(read, ())[0] == [BalanceChanged(balance=a_balance("SOL", 3), origin=Origin.RECONCILIATION)]


def test_a_position_that_is_not_listed_any_more_is_closed() -> None:
    ledger = begun()
    ledger.apply(a_position(net=ONE, mark=9))
    (changed,), _ = ledger.merge(a_round(), ())
    assert isinstance(changed, PositionChanged)
    assert (changed.position.net_quantity, changed.origin) == (ZERO, Origin.RECONCILIATION)
    assert ledger.open_positions == {}


def test_an_insisted_row_is_taken_at_once() -> None:
    ledger = begun()
    for update in (accepted(T_MS), of_stream(a_fill(1, T_MS)), cancelled(T_MS, executed=1)):
        ledger.apply(update)
    read = a_round(orders=(an_order("77"),), fills=(a_fill(1, T_MS),))
    (changed,), _ = ledger.merge(read, (), {ORDER_77})
    assert isinstance(changed, OrderChanged)
    assert (changed.order.state, changed.order.executed_quantity) == ("New", ZERO)
    assert ledger.agree(read, ()) == [AccountDoubted(doubts=("order 77: it executed 0, its fills make 1",))]


def test_an_order_that_was_followed_from_its_birth_has_the_fills_that_it_executed() -> None:
    ledger = begun(a_fill(1, T_MS, "9"))
    # Born within the beginning, which lists one of its fills. So one of the two is to be reported.
    row = an_order("9", created_ms=T_MS - 5, executed=2)
    (doubted,) = ledger.merge(a_round(orders=(row,), fills=(a_fill(1, T_MS, "9"),)), ())[0][1:]
    assert doubted == AccountDoubted(doubts=("order 9: it executed 2, its fills make 1",))
    events = ledger.settle(a_round(orders=(row,), fills=(a_fill(1, T_MS, "9"), a_fill(2, T_MS + 1, "9"))), ())
    assert [event.fill.trade_id for event in events if isinstance(event, Filled)] == [2]
    assert ledger.agree(a_round(orders=(row,)), ()) == [AccountDoubted(doubts=())]
    # Born before it: what it had executed is not known.
    assert ledger.merge(a_round(orders=(row, an_order("8", created_ms=1, executed=7))), ())[0][-1] != doubted


def test_past_orders_are_news_once_and_only_those_since_the_beginning() -> None:
    past, beginning = PastOrders(), Beginning()
    beginning.take(PastOrdersRead(1, (an_order("1", created_ms=T_MS), an_order("2", created_ms=T_MS - OVERLAP_MS - 1))))
    past.begin(beginning, None)
    assert past.since_ms == T_MS - OVERLAP_MS
    since = [an_order("3", created_ms=T_MS), an_order("4", created_ms=T_MS + 1)]
    before = [an_order("1", created_ms=T_MS), an_order("5", created_ms=T_MS - OVERLAP_MS - 1), an_order("6")]
    assert all(map(past.is_since, since))
    assert not any(map(past.is_since, before))


def test_what_was_heard_before_the_beginning_was_listed_is_not_from_before() -> None:
    past, beginning = PastOrders(), Beginning()
    beginning.take(PastOrdersRead(1, (an_order("2", created_ms=T_MS + 5), an_order("1", created_ms=T_MS))))
    past.begin(beginning, T_MS + 5)
    assert past.is_since(an_order("2", created_ms=T_MS + 5))
    assert not past.is_since(an_order("1", created_ms=T_MS))


def test_old_orders_that_have_ended_are_forgotten_and_not_reported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backpack_proto.account.pasts.REMEMBERED_ORDERS", 4)
    ledger = begun()
    ended = [an_order(f"{number}", created_ms=T_MS + number * OVERLAP_MS, state="Cancelled") for number in range(12)]
    for number in range(1, 13):
        ledger.merge(a_round(orders=(an_order("99", created_ms=T_MS),), past=tuple(reversed(ended[:number]))), ())
    events, _ = ledger.merge(a_round(orders=(an_order("99"),), past=tuple(reversed(ended))), ())
    assert events == []
    assert set(ledger.orders.open) == {"99"}
    assert "0" not in ledger.orders


def test_the_beginning_reads_past_orders_and_then_fills() -> None:
    beginning, attempts = Beginning(), Attempts()
    assert beginning.next(attempts) == ReadAccount(attempt=1, what=Read.PAST_ORDERS)
    beginning.take(PastOrdersRead(1, ()))
    assert beginning.next(attempts) == ReadAccount(attempt=2, what=Read.FILLS)
    assert not beginning.complete
    beginning.take(FillsRead(2, ()))
    assert beginning.complete


@pytest.mark.parametrize("precision", [3, 28])
def test_the_context_of_the_user_changes_no_sum(precision: int) -> None:
    with localcontext() as context:
        context.prec = precision
        ledger = begun()
        ledger.apply(accepted(T_MS))
        for number in range(1, 4):
            fill = replace(a_fill(number, T_MS), quantity=Decimal("1234.5678"))
            update = replace(of_stream(fill), executed_quantity=Decimal("1234.5678") * 1)
            update = replace(update, executed_quantity=Decimal(["1234.5678", "2469.1356", "3703.7034"][number - 1]))
            assert ledger.contradiction(update) is None
            ledger.apply(update)
        assert list(ledger.orders.unbalanced()) == []


# Requests and answers.


@pytest.mark.parametrize(
    ("what", "endpoint", "arguments"),
    [
        (Read.OPEN_ORDERS, "open_orders", {}),
        (Read.POSITIONS, "positions", {}),
        (Read.BALANCES, "balances", {}),
        (Read.COLLATERAL, "collateral", {}),
        (Read.LOANS, "borrow_lend_positions", {}),
        (Read.FUNDING, "funding_history", {"limit": 1000, "offset": 3, "sortDirection": "Desc"}),
        (Read.PAST_ORDERS, "order_history", {"limit": 1000, "offset": 3, "sortDirection": "Desc"}),
        (Read.ORDER, "order_history", {"orderId": "5", "symbol": SYMBOL}),
        (Read.ORDER_FILLS, "fill_history", {"orderId": "5", "symbol": SYMBOL, "limit": 1000, "sortDirection": "Desc"}),
    ],
)
def test_each_reading_has_its_request(what: Read, endpoint: str, arguments: dict[str, object]) -> None:
    read = ReadAccount(attempt=1, what=what, offset=3, order_id="5", symbol=SYMBOL)
    assert endpoint_of(read) == endpoint
    assert arguments_of(read) == arguments


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (ApiError(status=401, code="", message="no", endpoint="GET /x"), True),
        (ApiError(status=404, code="", message="no", endpoint="GET /x"), True),
        (ApiError(status=503, code="", message="no", endpoint="GET /x", retry_after_us=1), False),
        (ApiError(status=429, code="", message="no", endpoint="GET /x", retry_after_us=1), False),
        (BackpackError("reset"), False),
    ],
)
def test_only_a_final_answer_is_a_refusal(error: BackpackError, *, refused: bool) -> None:
    failed = reading_of(ReadAccount(attempt=3, what=Read.FILLS), error)
    assert failed.attempt == 3
    assert getattr(failed, "refused", None) is refused


@pytest.mark.parametrize("what", [what for what in Read if what not in {Read.ORDER, Read.COLLATERAL}])
def test_a_row_that_cannot_be_read_keeps_its_id(what: Read) -> None:
    error = PartlyUnreadable(endpoint="GET /x", rows=(), errors=(("5", "odd"), ("", "odd")))
    assert getattr(reading_of(ReadAccount(attempt=3, what=what), error), "unreadable", None) == ("5", "")


MARGIN_READS = (Read.COLLATERAL, Read.LOANS, Read.FUNDING)


@pytest.mark.parametrize("what", MARGIN_READS)
@pytest.mark.parametrize(
    "error",
    [
        ApiError(status=403, code="", message="no", endpoint="GET /x"),
        ApiError(status=503, code="", message="no", endpoint="GET /x", retry_after_us=1),
        RemoteProtocolError("no number"),
        BackpackError("reset"),
    ],
)
def test_the_ledger_does_without_a_margin_that_could_not_be_read(what: Read, error: BackpackError) -> None:
    found = reading_of(ReadAccount(attempt=3, what=what), error)
    assert type(found) is ANSWERS[what]
    assert getattr(found, "problem", None) == str(error)


def test_an_order_whose_own_row_cannot_be_read_is_not_known_to_have_ended() -> None:
    error = PartlyUnreadable(endpoint="GET /x", rows=(), errors=(("5", "odd"),))
    found = reading_of(ReadAccount(attempt=3, what=Read.ORDER, order_id="5"), error)
    assert getattr(found, "order", "") is None

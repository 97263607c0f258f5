from __future__ import annotations

from decimal import Decimal

import pytest

from backpack_proto.book.levels import Book
from backpack_proto.book.verification import SnapshotCheck, TopCheck, Verdict
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import BookTicker, Depth

D = Decimal
BID, ASK = Level(99, 2), Level(101, 3)


def ticker(update_id: int, bid: Level | None = BID, ask: Level | None = ASK) -> BookTicker:
    return BookTicker(
        emitted_us=0,
        symbol="X",
        engine_us=0,
        update_id=update_id,
        bid_price=bid.price if bid else None,
        bid_quantity=bid.quantity if bid else None,
        ask_price=ask.price if ask else None,
        ask_quantity=ask.quantity if ask else None,
    )


def book(last: int, bid: Level | None = BID, ask: Level | None = ASK) -> Book:
    return Book("X", bids=[bid] if bid else [], asks=[ask] if ask else [], last=last)


def delta(first: int, last: int, bids: tuple[Level, ...] = (), asks: tuple[Level, ...] = ()) -> Depth:
    return Depth(
        emitted_us=0, symbol="X", engine_us=10 * last, first_update_id=first, last_update_id=last, bids=bids, asks=asks
    )


# Against bookTicker.


def test_a_ticker_behind_its_delta_is_compared_at_once() -> None:
    check = TopCheck()
    assert check.book_changed(book(5)) is Verdict.OPEN
    assert check.ticker_arrived(ticker(5), 5, 0) is Verdict.EQUAL


def test_a_ticker_ahead_of_its_delta_waits_for_it() -> None:
    check = TopCheck()
    assert check.book_changed(book(4)) is Verdict.OPEN
    assert check.ticker_arrived(ticker(5), 4, 0) is Verdict.OPEN
    assert check.book_changed(book(5)) is Verdict.EQUAL
    assert check.book_changed(book(6)) is Verdict.OPEN


def test_a_ticker_is_compared_with_the_top_of_its_own_id() -> None:
    check = TopCheck()
    for last, bid in ((4, Level(97, 1)), (5, Level(98, 1)), (6, Level(99, 1))):
        check.book_changed(book(last, bid))
    assert check.ticker_arrived(ticker(5, Level(98, 1)), 6, 0) is Verdict.EQUAL
    assert check.ticker_arrived(ticker(4, Level("97.0", "1.00")), 6, 0) is Verdict.EQUAL
    assert check.ticker_arrived(ticker(6, Level(98, 1)), 6, 0) == "best bid at 6: 1 at 99 here, 1 at 98 on bookTicker"


@pytest.mark.parametrize(
    ("bid", "ask", "difference"),
    [
        (Level(99, 1), ASK, "best bid at 5: 2 at 99 here, 1 at 99 on bookTicker"),
        (Level("99.5", 2), ASK, "best bid at 5: 2 at 99 here, 2 at 99.5 on bookTicker"),
        (None, ASK, "best bid at 5: 2 at 99 here, none on bookTicker"),
        (BID, Level(101, 4), "best ask at 5: 3 at 101 here, 4 at 101 on bookTicker"),
        (BID, None, "best ask at 5: 3 at 101 here, none on bookTicker"),
        (None, None, "best bid at 5: 2 at 99 here, none on bookTicker"),
    ],
)
@pytest.mark.parametrize("ahead", [True, False])
def test_a_difference_is_told_whichever_came_first(
    bid: Level | None, ask: Level | None, difference: str, *, ahead: bool
) -> None:
    check = TopCheck()
    if ahead:
        check.ticker_arrived(ticker(5, bid, ask), 4, 0)
        assert check.book_changed(book(5)) == difference
    else:
        check.book_changed(book(5))
        assert check.ticker_arrived(ticker(5, bid, ask), 5, 0) == difference


def test_null_stands_for_an_empty_side_and_so_does_a_quantity_of_zero() -> None:
    check = TopCheck()
    check.book_changed(book(5, None, None))
    assert check.ticker_arrived(ticker(5, None, None), 5, 0) is Verdict.EQUAL
    assert check.ticker_arrived(ticker(5, Level(1, 0), Level(99, "0.00")), 5, 0) is Verdict.EQUAL
    assert check.ticker_arrived(ticker(5, BID, None), 5, 0) == "best bid at 5: none here, 2 at 99 on bookTicker"


def test_an_id_inside_an_aggregated_delta_meets_no_state_of_the_book() -> None:
    check = TopCheck()
    check.book_changed(book(4))
    for update_id in (5, 6, 7):
        assert check.ticker_arrived(ticker(update_id, Level(50, 1)), 4, 0) is Verdict.OPEN
    assert check.book_changed(book(7)) == "best bid at 7: 2 at 99 here, 1 at 50 on bookTicker"
    assert check.ticker_arrived(ticker(6, Level(50, 1)), 7, 0) is Verdict.OPEN


def test_an_id_before_the_book_began_is_passed_over() -> None:
    check = TopCheck()
    assert check.ticker_arrived(ticker(3), 0, 0) is Verdict.OPEN
    assert check.restart(book(5)) is Verdict.OPEN
    assert check.ticker_arrived(ticker(3, Level(50, 1)), 5, 0) is Verdict.OPEN
    assert check.unreached is None


def test_what_the_book_held_before_it_was_synced_again_is_forgotten() -> None:
    check = TopCheck()
    check.book_changed(book(5, Level(98, 1)))
    check.keep(ticker(8), 0)
    assert check.restart(book(7)) is Verdict.OPEN
    assert check.ticker_arrived(ticker(5), 7, 0) is Verdict.OPEN
    assert check.book_changed(book(8)) is Verdict.EQUAL


def test_a_ticker_that_waited_for_the_sync_is_compared_with_the_snapshot() -> None:
    check = TopCheck()
    check.keep(ticker(7, Level(98, 1)), 0)
    assert check.restart(book(7)) == "best bid at 7: 2 at 99 here, 1 at 98 on bookTicker"


def test_a_difference_is_not_hidden_by_a_second_ticker() -> None:
    check = TopCheck()
    check.keep(ticker(5, Level(98, 1)), 0)
    check.keep(ticker(5), 0)
    assert check.book_changed(book(5)) == "best bid at 5: 2 at 99 here, 1 at 98 on bookTicker"
    assert check.book_changed(book(6)) is Verdict.OPEN


def test_tickers_out_of_order_are_passed_over() -> None:
    check = TopCheck()
    for update_id in (9, 7, 8, 7):
        check.keep(ticker(update_id), update_id)
    assert check.book_changed(book(8)) is Verdict.OPEN
    assert check.book_changed(book(9)) is Verdict.EQUAL
    assert check.book_changed(book(10)) is Verdict.OPEN
    assert check.unreached is None


def test_tops_and_tickers_are_kept_in_bounds() -> None:
    check = TopCheck()
    for last in range(1, TopCheck.TOPS_KEPT + 2):
        check.book_changed(book(last))
    last = TopCheck.TOPS_KEPT + 1
    assert check.ticker_arrived(ticker(2), last, 0) is Verdict.EQUAL
    assert check.ticker_arrived(ticker(1), last, 0) is Verdict.OPEN
    for update_id in range(last + 1, last + 2 + TopCheck.TICKERS_KEPT):
        check.keep(ticker(update_id), 0)
    assert check.book_changed(book(last + 1)) is Verdict.OPEN
    assert check.book_changed(book(last + 2)) is Verdict.EQUAL


def test_it_knows_the_first_ticker_that_the_book_has_not_reached() -> None:
    check = TopCheck()
    check.book_changed(book(4))
    unreached = [check.unreached]
    for update_id in (5, 6, 7):
        check.ticker_arrived(ticker(update_id), 4, 100 * update_id)
        unreached.append(check.unreached)
    check.book_changed(book(5))
    unreached.append(check.unreached)
    check.reset()
    unreached.append(check.unreached)
    assert unreached == [None, (5, 500), (5, 500), (5, 500), (6, 600), None]


def test_a_busy_ticker_does_not_hide_how_long_the_book_has_stood_still() -> None:
    check = TopCheck()
    check.book_changed(book(4))
    for update_id in range(5, 1_000):
        check.ticker_arrived(ticker(update_id), 4, 100 * update_id)
    assert check.unreached == (5, 500)
    check.book_changed(book(6))
    # It has moved, so it does not stand still. Of what waits for it, the first that is still kept is this one.
    kept = 1_000 - TopCheck.TICKERS_KEPT
    assert check.unreached == (kept, 100 * kept)
    check.book_changed(book(999))
    assert check.unreached is None


# Against a snapshot.


def snapshot_check(last: int, *deltas: Depth) -> SnapshotCheck:
    check = SnapshotCheck(last, 0)
    for one in deltas:
        check.delta_applied(one)
    return check


def test_without_a_snapshot_nothing_is_said() -> None:
    assert snapshot_check(5).compare(book(5)) is Verdict.OPEN


def test_a_snapshot_of_the_same_id_is_compared_at_once() -> None:
    check = snapshot_check(5)
    check.snapshot = book(5)
    assert check.compare(book(5)) is Verdict.EQUAL
    assert check.compare(book(5, Level(99, 1))) == "bid 99: 1 here, 2 there"


def test_a_snapshot_is_rolled_forward_through_the_deltas() -> None:
    check = snapshot_check(5, delta(6, 6, bids=(Level(98, 1),)), delta(7, 7, asks=(Level(101, 0), Level(102, 4))))
    check.snapshot = book(5)
    live = Book("X", bids=[BID, Level(98, 1)], asks=[Level(102, 4)], last=7)
    assert check.compare(live) is Verdict.EQUAL
    assert (check.snapshot.last, check.snapshot.engine_us) == (7, 70)


def test_only_the_deltas_behind_the_snapshot_are_applied() -> None:
    check = snapshot_check(5, delta(6, 6, bids=(Level(98, 1),)), delta(7, 7, bids=(Level(98, 0),)), delta(8, 8))
    check.snapshot = book(7)
    assert check.compare(book(8)) is Verdict.EQUAL


def test_a_delta_that_straddles_the_snapshot_is_applied() -> None:
    check = snapshot_check(5, delta(6, 9, bids=(Level(98, 1), Level(99, 2))))
    check.snapshot = Book("X", bids=[BID, Level(98, 7)], asks=[ASK], last=7)
    assert check.compare(Book("X", bids=[BID, Level(98, 1)], asks=[ASK], last=9)) is Verdict.EQUAL


def test_a_snapshot_that_is_ahead_waits_for_the_book() -> None:
    check = snapshot_check(5)
    check.snapshot = book(7, Level(99, 9))
    assert check.compare(book(5)) is Verdict.OPEN
    check.delta_applied(delta(6, 6))
    assert check.compare(book(6)) is Verdict.OPEN
    check.delta_applied(delta(7, 8, bids=(Level(99, 2),)))
    assert check.compare(book(8)) is Verdict.EQUAL


def test_a_level_that_was_lost_is_found() -> None:
    check = snapshot_check(5, delta(6, 6, bids=(Level(98, 1),)))
    check.snapshot = book(5)
    assert check.compare(book(6)) == "bid 98: 0 here, 1 there"


def test_a_snapshot_from_before_the_check_is_of_no_use() -> None:
    check = snapshot_check(5)
    assert not check.usable(book(4))
    assert check.usable(book(5))
    assert check.usable(book(6))


def test_a_snapshot_whose_levels_are_used_up_proves_nothing() -> None:
    check = snapshot_check(5, delta(6, 6, bids=(Level(99, 0),)))
    check.snapshot = Book("X", bids=[BID], asks=[ASK], last=5, limit=1)
    live = Book("X", bids=[Level(90, 1), Level(89, 1)], asks=[ASK], last=6)
    assert check.compare(live) is Verdict.VOID


def test_a_snapshot_whose_levels_are_used_up_still_shows_what_it_knows() -> None:
    check = snapshot_check(5, delta(6, 6, bids=(Level(99, 0),)))
    check.snapshot = Book("X", bids=[BID], asks=[ASK], last=5, limit=1)
    assert check.compare(Book("X", bids=[BID], asks=[ASK], last=6)) == "bid 99: 2 here, 0 there"


def test_too_many_deltas_for_one_check() -> None:
    kept = SnapshotCheck.DELTAS_KEPT
    assert not snapshot_check(0, *(delta(last, last) for last in range(1, kept + 1))).overfull
    assert snapshot_check(0, *(delta(last, last) for last in range(1, kept + 2))).overfull

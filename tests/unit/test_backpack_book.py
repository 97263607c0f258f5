from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.book.levels import Book, Coverage
from backpack_proto.streams.levels import Level
from levels import by_price

D = Decimal


def levels(**quantities: str) -> tuple[Level, ...]:
    """`p100="1"` is a quantity of 1 at 100."""
    return tuple(Level(price[1:], quantity) for price, quantity in quantities.items())


def book(**arguments: object) -> Book:
    return Book(
        "SOL_USDC",
        bids=levels(p98="1", p99="2"),
        asks=levels(p101="3", p102="4"),
        last=7,
        engine_us=70,
        **arguments,  # type: ignore[arg-type]
    )


# Examples.


def test_a_new_book_is_empty_and_stale() -> None:
    empty = Book("SOL_USDC")
    assert (empty.is_live(0), empty.last, empty.engine_us, empty.symbol) == (False, 0, 0, "SOL_USDC")
    assert (empty.best_bid, empty.best_ask) == (None, None)
    assert (empty.bids(), empty.asks(), empty.bids(1), empty.asks(1)) == ((), (), (), ())
    assert (empty.crossed, empty.exhausted) == (False, False)
    assert empty.coverage == Coverage()
    assert repr(empty) == "<Book SOL_USDC stale at 0: None / None>"


@pytest.mark.parametrize("ascending", [True, False])
def test_a_snapshot_is_read_in_any_order(*, ascending: bool) -> None:
    bids, asks = levels(p97="1", p98="2", p99="3"), levels(p101="4", p102="5")
    snapshot = Book("X", bids=bids if ascending else bids[::-1], asks=asks if ascending else asks[::-1], last=7, engine_us=70)
    assert (snapshot.best_bid, snapshot.best_ask) == (Level(99, 3), Level(101, 4))
    assert snapshot.bids() == levels(p99="3", p98="2", p97="1")
    assert snapshot.asks() == levels(p101="4", p102="5")
    assert (snapshot.bids(2), snapshot.asks(1), snapshot.asks(9)) == (bids[:0:-1], asks[:1], asks)
    assert snapshot.bids(0) == snapshot.asks(0) == ()
    assert (snapshot.last, snapshot.engine_us, snapshot.is_live(0)) == (7, 70, False)


def test_a_snapshot_without_a_limit_is_the_whole_book() -> None:
    assert book().coverage == Coverage()
    assert book().bid_quantity(D(1)) == 0
    assert book(limit=3).coverage == Coverage()


def test_a_side_that_fills_the_limit_goes_on_unseen() -> None:
    snapshot = Book("X", bids=levels(p98="1", p99="2"), asks=levels(p101="3"), limit=2)
    assert snapshot.coverage == Coverage(lowest_bid=D(98), highest_ask=None)
    assert (snapshot.bid_quantity(D(98)), snapshot.bid_quantity(D("98.5")), snapshot.bid_quantity(D("97.99"))) == (
        D(1),
        D(0),
        None,
    )
    assert (snapshot.ask_quantity(D(101)), snapshot.ask_quantity(D(1000))) == Level(3, 0)
    snapshot = Book("X", bids=levels(p99="2"), asks=levels(p102="1", p101="3"), limit=2)
    assert snapshot.coverage == Coverage(lowest_bid=None, highest_ask=D(102))
    assert (snapshot.ask_quantity(D(102)), snapshot.ask_quantity(D("102.01")), snapshot.bid_quantity(D(1))) == (
        D(1),
        None,
        D(0),
    )


def test_trailing_zeros_are_no_part_of_a_price() -> None:
    snapshot = book()
    snapshot.apply([Level("99.00", "5.00")], [Level("101.0", "0.00")], last=8, engine_us=80)
    assert (snapshot.bids(), snapshot.asks()) == (levels(p99="5", p98="1"), levels(p102="4"))
    assert (snapshot.last, snapshot.engine_us) == (8, 80)


def test_nothing_changed_still_moves_on() -> None:
    snapshot = book()
    snapshot.apply((), (), last=8, engine_us=80)
    assert (snapshot.bids(), snapshot.asks(), snapshot.last, snapshot.engine_us) == (book().bids(), book().asks(), 8, 80)


def test_deleting_what_is_not_there_is_normal() -> None:
    snapshot = book()
    snapshot.apply(levels(p100="0", p97="0", p98="1"), levels(p100="0", p103="0"), last=8, engine_us=80)
    assert (snapshot.bids(), snapshot.asks()) == (book().bids(), book().asks())
    assert not snapshot.crossed


def test_of_one_price_twice_in_a_delta_the_last_counts() -> None:
    snapshot = book()
    snapshot.apply([Level(100, 1), Level("100.0", 0)], [Level(101, 0), Level(101, 9)], last=8, engine_us=80)
    assert (snapshot.best_bid, snapshot.best_ask) == (Level(99, 2), Level(101, 9))


def test_the_top_moves_over_the_levels_that_went() -> None:
    snapshot = Book("X", bids=levels(p97="1", p98="1", p99="1"), asks=levels(p101="1", p102="1", p103="1"))
    snapshot.apply(levels(p98="0"), levels(p102="0"), last=2, engine_us=0)
    assert (snapshot.bids(), snapshot.asks()) == (levels(p99="1", p97="1"), levels(p101="1", p103="1"))
    assert (snapshot.bids(2), snapshot.asks(2)) == (snapshot.bids(), snapshot.asks())
    snapshot.apply(levels(p99="0"), levels(p101="0"), last=3, engine_us=0)
    assert (snapshot.best_bid, snapshot.best_ask) == (Level(97, 1), Level(103, 1))
    snapshot.apply(levels(p97="0"), levels(p103="0"), last=4, engine_us=0)
    assert (snapshot.best_bid, snapshot.best_ask) == (None, None)
    snapshot.apply(levels(p98="7"), levels(p102="7"), last=5, engine_us=0)
    assert (snapshot.bids(), snapshot.asks()) == (levels(p98="7"), levels(p102="7"))


def test_a_level_beyond_the_coverage_is_not_kept() -> None:
    snapshot = book(limit=2)
    snapshot.apply(levels(p97="1", p100="5"), levels(p103="1"), last=8, engine_us=80)
    assert (snapshot.bids(), snapshot.asks()) == (levels(p100="5", p99="2", p98="1"), levels(p101="3", p102="4"))
    assert (snapshot.bid_quantity(D(97)), snapshot.ask_quantity(D(103))) == (None, None)


def test_a_side_whose_known_levels_are_used_up() -> None:
    snapshot = book(limit=2)
    snapshot.apply(levels(p99="0", p98="0"), (), last=8, engine_us=80)
    assert (snapshot.exhausted, snapshot.best_bid, snapshot.bids(5)) == (True, None, ())
    snapshot.apply(levels(p97="4"), (), last=9, engine_us=90)
    assert (snapshot.exhausted, snapshot.best_bid) == (True, None)
    snapshot.apply(levels(p98="4"), (), last=10, engine_us=90)
    assert (snapshot.exhausted, snapshot.best_bid) == (False, Level(98, 4))
    snapshot = book(limit=2)
    snapshot.apply((), levels(p101="0", p102="0"), last=8, engine_us=80)
    assert snapshot.exhausted


def test_an_empty_side_that_is_wholly_known_is_not_used_up() -> None:
    snapshot = book(limit=3)
    snapshot.apply(levels(p99="0", p98="0"), levels(p101="0", p102="0"), last=8, engine_us=80)
    assert not snapshot.exhausted


@pytest.mark.parametrize(("bid", "crossed"), [("100.99", False), ("101", True), ("101.00", True), ("102", True)])
def test_a_book_whose_sides_meet_is_crossed(bid: str, *, crossed: bool) -> None:
    snapshot = book()
    snapshot.apply([Level(bid, 1)], (), last=8, engine_us=80)
    assert snapshot.crossed == crossed


def test_whoever_holds_a_book_goes_on_holding_the_right_one() -> None:
    mine, other = Book("X"), book(limit=2)
    mine.confirmed_us = 5
    claims = mine.claims
    mine.show(2)
    mine.take_over(other)
    assert (mine.bids(2), mine.asks(2)) == (levels(p99="2", p98="1"), levels(p101="3", p102="4"))
    assert (mine.symbol, mine.last, mine.engine_us, mine.coverage) == ("SOL_USDC", 7, 70, other.coverage)
    assert (mine.is_live(5), mine.claims) == (False, claims)
    mine.apply(levels(p100="1", p97="1"), levels(p101="0"), last=8, engine_us=80)
    assert (mine.bids(), mine.asks()) == (levels(p100="1", p99="2", p98="1"), levels(p102="4"))


@pytest.mark.parametrize(
    ("bids", "asks", "difference"),
    [
        ({"p98": "1", "p99": "2"}, {"p101": "3", "p102": "4"}, None),
        ({"p99": "2.00", "p98": "1.0"}, {"p102.0": "4", "p101": "3.000"}, None),
        ({"p98": "1", "p99": "5"}, {"p101": "3", "p102": "4"}, "bid 99: 2 here, 5 there"),
        ({"p98": "1"}, {"p101": "3", "p102": "4"}, "bid 99: 2 here, 0 there"),
        ({"p98": "1", "p99": "2", "p97": "7"}, {"p101": "3", "p102": "4"}, "bid 97: 0 here, 7 there"),
        ({"p98": "1", "p99": "2"}, {"p101": "3", "p102": "9"}, "ask 102: 4 here, 9 there"),
        ({"p98": "1", "p99": "2"}, {"p101": "3"}, "ask 102: 4 here, 0 there"),
        ({"p98": "1", "p99": "2"}, {"p101": "3", "p102": "4", "p100": "1"}, "ask 100: 0 here, 1 there"),
    ],
)
def test_two_books_are_compared_level_by_level(bids: dict[str, str], asks: dict[str, str], difference: str | None) -> None:
    assert book().differs_from(Book("SOL_USDC", bids=levels(**bids), asks=levels(**asks), last=7)) == difference


def test_only_what_both_books_know_is_compared() -> None:
    narrow = Book("X", bids=levels(p99="2"), asks=levels(p101="3"), limit=1)
    assert book().differs_from(narrow) is None
    assert narrow.differs_from(book()) is None
    wrong = Book("X", bids=levels(p99="3"), asks=levels(p101="3"), limit=1)
    assert book().differs_from(wrong) == "bid 99: 2 here, 3 there"
    assert wrong.differs_from(book()) == "bid 99: 3 here, 2 there"
    other = Book("X", bids=levels(p99="2", p98="8"), asks=levels(p101="3", p102="8"), limit=2)
    assert narrow.differs_from(other) is None
    assert other.differs_from(book()) == "bid 98: 8 here, 1 there"


# Against a model: a dictionary a side, and nothing clever.


class Model:
    def __init__(self, bids: tuple[Level, ...], asks: tuple[Level, ...], limit: int | None) -> None:
        self.bids, self.asks = by_price(bids), by_price(asks)
        self.lowest = min(self.bids) if limit is not None and len(self.bids) >= limit else None
        self.highest = max(self.asks) if limit is not None and len(self.asks) >= limit else None

    def apply(self, bids: tuple[Level, ...], asks: tuple[Level, ...]) -> None:
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            for price, quantity in changes:
                side[price] = quantity
                if not quantity:
                    del side[price]

    def known_bids(self) -> tuple[Level, ...]:
        return tuple(
            sorted((Level(p, q) for p, q in self.bids.items() if self.lowest is None or p >= self.lowest), reverse=True)
        )

    def known_asks(self) -> tuple[Level, ...]:
        return tuple(sorted(Level(p, q) for p, q in self.asks.items() if self.highest is None or p <= self.highest))

    def check(self, book: Book) -> None:
        bids, asks = self.known_bids(), self.known_asks()
        assert (book.bids(), book.asks()) == (bids, asks)
        for count in (1, 2, 5):
            assert (book.bids(count), book.asks(count)) == (bids[:count], asks[:count])
        assert (book.best_bid, book.best_ask) == (next(iter(bids), None), next(iter(asks), None))
        assert book.crossed == bool(bids and asks and bids[0][0] >= asks[0][0])
        assert book.exhausted == ((not bids and self.lowest is not None) or (not asks and self.highest is not None))
        assert book.sound == (not book.crossed and not book.exhausted)
        for price in PRICES:
            known = self.lowest is None or price >= self.lowest
            assert book.bid_quantity(price) == (self.bids.get(price, 0) if known else None)
            known = self.highest is None or price <= self.highest
            assert book.ask_quantity(price) == (self.asks.get(price, 0) if known else None)


PRICES = [D(number) / 2 for number in range(1, 17)]
QUANTITIES = [D(0), D("0.00"), D("0.5"), D("1.0"), D(2)]


def a_side(quantities: list[Decimal], max_size: int = 12) -> st.SearchStrategy[tuple[Level, ...]]:
    level = st.builds(Level, st.sampled_from(PRICES), st.sampled_from(quantities))
    return st.lists(level, max_size=max_size, unique_by=lambda level: level[0]).map(tuple)


A_SNAPSHOT = st.tuples(a_side(QUANTITIES[2:]), a_side(QUANTITIES[2:]), st.none() | st.integers(1, 8))


@given(A_SNAPSHOT, st.lists(st.tuples(a_side(QUANTITIES, 6), a_side(QUANTITIES, 6)), max_size=12), st.integers(1, 4))
def test_a_book_is_what_a_dictionary_would_be(
    snapshot: tuple[tuple[Level, ...], tuple[Level, ...], int | None],
    deltas: list[tuple[tuple[Level, ...], tuple[Level, ...]]],
    shown: int,
) -> None:
    bids, asks, limit = snapshot
    if limit is not None:
        bids, asks = bids[:limit], asks[:limit]
    model, real = Model(bids, asks, limit), Book("X", bids=bids, asks=asks, limit=limit)
    real.show(shown)
    model.check(real)
    for last, (more_bids, more_asks) in enumerate(deltas, 1):
        real.apply(more_bids, more_asks, last=last, engine_us=10 * last)
        model.apply(more_bids, more_asks)
        assert (real.last, real.engine_us) == (last, 10 * last)
        model.check(real)
        assert (real.bids(shown), real.asks(shown)) == (real.bids()[:shown], real.asks()[:shown])


@given(A_SNAPSHOT, A_SNAPSHOT)
def test_books_differ_where_their_levels_do(
    one: tuple[tuple[Level, ...], tuple[Level, ...], int | None], other: tuple[tuple[Level, ...], tuple[Level, ...], int | None]
) -> None:
    mine, theirs = (Book("X", bids=bids, asks=asks, limit=limit) for bids, asks, limit in (one, other))
    differences = {
        f"{name} {price}"
        for name, here, there in (
            ("bid", mine.bid_quantity, theirs.bid_quantity),
            ("ask", mine.ask_quantity, theirs.ask_quantity),
        )
        for price in PRICES
        if here(price) is not None and there(price) is not None and here(price) != there(price)
    }
    said = mine.differs_from(theirs)
    assert (said is None) == (not differences)
    assert said is None or said.split(":")[0] in differences
    assert (theirs.differs_from(mine) is None) == (said is None)


def test_levels_that_went_leave_nothing_behind() -> None:
    """A market that wanders off leaves no trail: what is kept is a fixed multiple of what is there."""
    real = Book("X", bids=levels(p1="1"), asks=levels(p100000="1"))
    for number in range(2, 20_000):
        real.apply((Level(number, 1), Level(number - 1, 0)), (), last=number, engine_us=0)
        assert len(real.bids()) == 1
    assert real.bids() == (Level(19_999, 1),)
    assert real.asks() == levels(p100000="1")


def test_the_best_level_is_right_where_none_is_to_be_at_hand() -> None:
    shown = book()
    shown.show(0)
    shown.apply(levels(p99="5"), levels(p101="6"), last=8, engine_us=80)
    assert (shown.best_bid, shown.best_ask) == (Level(99, 5), Level(101, 6))
    assert shown.bids(0) == shown.asks(0) == ()

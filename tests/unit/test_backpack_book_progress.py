"""The start of many books is reported: once a second while it lasts, and at its end."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from backpack_proto.book.progress import MANY, REPORT_US, BookReleased, BookStart, BookStartInput, BookWanted
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.outputs import (
    BookConfirmed,
    BookDesynced,
    BooksProgress,
    BookStale,
    BookSynced,
    MarketClosed,
    MarketOpened,
)
from backpack_proto.testing.laws import FakeClock, check_machine
from hypothesis_profiles import examples


def synced(number: int) -> BookSynced:
    return BookSynced(stream=f"depth.{number}", symbol=str(number), last=1, engine_us=1, bids=(), asks=())


def desynced(number: int) -> BookDesynced:
    error = RemoteProtocolError("gap")
    return BookDesynced(stream=f"depth.{number}", symbol=str(number), last=1, reason="gap", diverged=False, error=error)


def stale(number: int) -> BookStale:
    return BookStale(stream=f"depth.{number}", symbol=str(number), last=1, reason="path")


def confirmed(number: int) -> BookConfirmed:
    return BookConfirmed(stream=f"depth.{number}", symbol=str(number), last=1)


class Driven:
    def __init__(self, books: int) -> None:
        self.clock = FakeClock()
        self.progress = BookStart()
        assert self.give(*(BookWanted(f"depth.{number}", str(number)) for number in range(books))) == []

    def give(self, *inputs: BookStartInput) -> list[BooksProgress]:
        return [output for given in inputs for output in self.progress.handle(given, self.clock.now)]


def test_a_start_is_reported_once_a_second_and_at_its_end() -> None:
    driven = Driven(60)
    assert driven.give(*map(synced, range(10))) == [BooksProgress(wanted=60, live=1)]
    driven.clock.advance(REPORT_US)
    assert driven.give(*map(synced, range(10, 59))) == [BooksProgress(wanted=60, live=11)]
    assert driven.give(synced(59)) == [BooksProgress(wanted=60, live=60)]
    assert driven.give(desynced(5), synced(5)) == [], "one book is no start"


def test_a_few_books_report_themselves() -> None:
    assert Driven(MANY - 1).give(*map(synced, range(MANY - 1))) == []


@pytest.mark.parametrize(("lost", "back"), [(desynced, synced), (stale, confirmed)])
def test_a_reconnect_is_a_start_as_well(lost: type[BookDesynced], back: type[BookSynced]) -> None:
    driven = Driven(30)
    driven.give(*map(synced, range(30)))
    assert driven.give(*map(lost, range(30))) == []
    reports = driven.give(*map(back, range(30)))
    assert [report.live for report in reports] == [1, 30]


def test_books_of_closed_markets_are_not_waited_for() -> None:
    driven = Driven(30)
    driven.give(*map(synced, range(28)))
    assert driven.give(MarketClosed(symbol="28")) == []
    assert driven.give(MarketClosed(symbol="29")) == [BooksProgress(wanted=28, live=28)]
    assert driven.give(MarketOpened(symbol="28"), synced(28)) == []


def test_what_is_unsubscribed_is_not_waited_for() -> None:
    driven = Driven(30)
    driven.give(*map(synced, range(29)))
    assert driven.give(BookReleased("depth.29")) == [BooksProgress(wanted=29, live=29)]


NUMBERS = st.integers(0, 40)
INPUTS: st.SearchStrategy[BookStartInput] = st.one_of(
    st.builds(lambda number: BookWanted(f"depth.{number}", str(number)), NUMBERS),
    st.builds(lambda number: BookReleased(f"depth.{number}"), NUMBERS),
    *(st.builds(make, NUMBERS) for make in (synced, desynced, stale, confirmed)),
    st.builds(lambda number: MarketClosed(symbol=str(number)), NUMBERS),
    st.builds(lambda number: MarketOpened(symbol=str(number)), NUMBERS),
)


@pytest.mark.hypothesis
def test_progress_keeps_the_machine_laws() -> None:
    check_machine(BookStart, INPUTS, max_gap_us=2 * REPORT_US, max_examples=examples(100).max_examples)

"""Closed markets are looked at once a minute, and only `Closed` counts."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from backpack_proto.book.openings import (
    LOOK_UP_US,
    MarketsRead,
    MarketUnread,
    MarketWatched,
    Openings,
    OpeningsInput,
    OpeningsOutput,
    ReadMarket,
)
from backpack_proto.book.signals import MarketDoubted
from backpack_proto.inputs import TimerFired
from backpack_proto.outputs import MarketClosed, MarketOpened
from backpack_proto.testing.laws import FakeClock, check_machine
from hypothesis_profiles import examples

SYMBOL = "AAPL.US_USDC_PERP"
WATCHED, DOUBTED = MarketWatched(SYMBOL, watched=True), MarketDoubted(symbol=SYMBOL)
CLOSED, OPEN = MarketsRead({SYMBOL: "Closed"}), MarketsRead({SYMBOL: "Open"})


class Driven:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.openings = Openings()

    def give(self, *inputs: OpeningsInput) -> list[OpeningsOutput]:
        return [output for given in inputs for output in self.openings.handle(given, self.clock.now)]

    def fire(self) -> list[OpeningsOutput]:
        self.clock.advance_to(self.openings.deadline)
        return self.give(TimerFired())


def test_a_market_in_doubt_is_looked_up_but_not_every_time() -> None:
    driven = Driven()
    assert driven.give(WATCHED, DOUBTED, DOUBTED) == [ReadMarket(SYMBOL)]
    driven.clock.advance(LOOK_UP_US - 1)
    assert driven.give(DOUBTED) == []
    driven.clock.advance(1)
    assert driven.give(MarketUnread(SYMBOL), DOUBTED) == [ReadMarket(SYMBOL)]


def test_a_closed_market_is_looked_up_once_a_minute_until_it_opens() -> None:
    driven = Driven()
    assert driven.give(WATCHED, DOUBTED, CLOSED) == [ReadMarket(SYMBOL), MarketClosed(symbol=SYMBOL)]
    assert list(driven.openings.closed) == [SYMBOL]
    for answer in (CLOSED, MarketUnread(SYMBOL), CLOSED):
        before_us = driven.clock.mono_us
        assert driven.fire() == [ReadMarket(SYMBOL)]
        assert driven.clock.mono_us - before_us == LOOK_UP_US
        assert driven.give(answer) == []
    driven.fire()
    assert driven.give(OPEN) == [MarketOpened(symbol=SYMBOL)]
    assert (driven.openings.deadline, list(driven.openings.closed)) == (None, [])


@pytest.mark.parametrize("state", ["Open", "CancelOnly", "LimitOnly", "PostOnly", "PendingNewKind"])
def test_other_states_are_open(state: str) -> None:
    driven = Driven()
    assert driven.give(WATCHED, MarketsRead({SYMBOL: state})) == []
    assert not driven.openings.is_closed(SYMBOL)


def test_a_market_that_was_closed_before_it_was_watched_is_looked_up_at_once() -> None:
    driven = Driven()
    assert driven.give(CLOSED) == []
    assert driven.give(WATCHED) == [MarketClosed(symbol=SYMBOL), ReadMarket(SYMBOL)]
    assert driven.give(MarketWatched(SYMBOL, watched=False)) == []
    assert driven.openings.deadline is None
    assert driven.give(OPEN) == []


def test_nobody_looks_up_a_market_that_is_not_watched() -> None:
    assert Driven().give(DOUBTED) == []


INPUTS: st.SearchStrategy[OpeningsInput] = st.one_of(
    st.builds(MarketWatched, st.sampled_from("AB"), watched=st.booleans()),
    st.builds(MarketDoubted, symbol=st.sampled_from("AB")),
    st.builds(MarketsRead, st.dictionaries(st.sampled_from("AB"), st.sampled_from(["Open", "Closed"]))),
    st.builds(MarketUnread, st.sampled_from("AB")),
)


@pytest.mark.hypothesis
def test_openings_keep_the_machine_laws() -> None:
    check_machine(Openings, INPUTS, max_gap_us=2 * LOOK_UP_US, max_examples=examples(200).max_examples)

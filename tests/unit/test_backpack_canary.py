"""Canaries are chosen from the list of markets, replaced when they fall silent, and take turns to show what is in force."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from backpack_proto.connection.canary import (
    LOOK_UP_US,
    RETRY,
    SILENCE_US,
    Canary,
    CanaryInput,
    CanaryOutput,
    CanaryState,
    MarketsKnown,
    MarketsUnknown,
    ReadMarkets,
    StreamsWanted,
)
from backpack_proto.connection.signals import CanariesChosen, ConnectionLost, DataSeen, Requested, Resubscribe
from backpack_proto.inputs import Connected, TimerFired
from backpack_proto.testing.laws import FakeClock, check_machine
from hypothesis_profiles import examples

SECOND = 1_000_000
MARKETS = ("A_PERP", "B_PERP", "C_PERP", "D_PERP")
MARKS = tuple(f"markPrice.{market}" for market in MARKETS)


class Driven:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.canary = Canary()

    def give(self, *inputs: CanaryInput) -> list[CanaryOutput]:
        return [output for given in inputs for output in self.canary.handle(given, self.clock.now)]

    def fire(self) -> list[CanaryOutput]:
        self.clock.advance_to(self.canary.deadline)
        return self.give(TimerFired())


def watching(markets: tuple[str, ...] = MARKETS) -> Driven:
    driven = Driven()
    driven.give(StreamsWanted(wanted=True), MarketsKnown(markets), Connected())
    assert driven.canary.state is CanaryState.WATCHING
    return driven


def test_three_perpetuals_are_watched_once_anything_is_subscribed() -> None:
    driven = Driven()
    assert driven.give(StreamsWanted(wanted=False)) == []
    assert driven.give(StreamsWanted(wanted=True)) == [ReadMarkets()]
    assert driven.give(MarketsKnown(MARKETS)) == [CanariesChosen(MARKS[:3])]


def test_a_list_that_somebody_else_has_read_is_taken() -> None:
    driven = Driven()
    assert driven.give(MarketsKnown(MARKETS)) == []
    assert driven.give(StreamsWanted(wanted=True)) == [CanariesChosen(MARKS[:3])]


def test_nothing_is_watched_when_nothing_is_subscribed_any_more() -> None:
    driven = watching()
    assert driven.give(StreamsWanted(wanted=False)) == [CanariesChosen(())]
    assert driven.canary.deadline is None


@pytest.mark.parametrize("answer", [MarketsUnknown(), MarketsKnown(())])
def test_a_list_that_cannot_be_had_is_asked_for_again(answer: MarketsUnknown | MarketsKnown) -> None:
    driven = Driven()
    driven.give(StreamsWanted(wanted=True))
    for failures in range(1, 10):
        assert driven.give(answer) == []
        assert driven.canary.deadline == driven.clock.mono_us + RETRY.delay_us(failures)
        assert driven.fire() == [ReadMarkets()]


def test_a_silent_canary_is_replaced_and_the_list_read_again() -> None:
    driven = watching()
    driven.clock.advance(SILENCE_US - SECOND)
    driven.give(DataSeen(MARKS[0]), DataSeen(MARKS[2]))
    assert driven.fire() == [CanariesChosen((MARKS[0], MARKS[2], MARKS[3])), ReadMarkets()]
    assert list(driven.canary.replaced) == ["B_PERP"]
    assert driven.give(MarketsKnown(("A_PERP", "C_PERP", "D_PERP"))) == []
    assert list(driven.canary.replaced) == []


def test_a_canary_without_a_successor_stays_and_the_list_is_read_now_and_then() -> None:
    driven = watching(("A_PERP",))
    outputs = [output for _ in range(12) for output in driven.fire()]
    assert driven.canary.streams == (MARKS[0],)
    assert outputs.count(ReadMarkets()) == 12 * SILENCE_US // LOOK_UP_US
    assert outputs.count(Resubscribe((MARKS[0],))) >= 10, "requested again, for it may not be in force"


def test_of_silent_canaries_only_those_that_stay_are_requested_again() -> None:
    driven = watching()
    assert driven.fire() == [
        CanariesChosen((MARKS[3], MARKS[0], MARKS[1])),
        Resubscribe((MARKS[0], MARKS[1])),
        ReadMarkets(),
    ]


def test_without_a_connection_no_canary_is_silent() -> None:
    driven = watching()
    driven.give(ConnectionLost())
    assert driven.canary.deadline is None
    driven.clock.advance(100 * SECOND)
    driven.give(Connected())
    assert driven.canary.deadline == driven.clock.mono_us + SILENCE_US


def test_the_other_stream_of_a_canary_shows_that_a_request_is_in_force() -> None:
    driven = watching()
    request = Requested(("depth.SOL_USDC",))
    assert driven.give(request) == [CanariesChosen((MARKS[0], "ticker.A_PERP", *MARKS[1:3]))]
    assert driven.give(DataSeen(MARKS[0])) == []
    assert driven.give(DataSeen("ticker.A_PERP")) == [CanariesChosen(("ticker.A_PERP", *MARKS[1:3]))]
    assert driven.give(request) == [CanariesChosen(("ticker.A_PERP", MARKS[0], *MARKS[1:3]))]


def test_requests_that_come_during_a_turn_share_the_next_one() -> None:
    driven = watching()
    driven.give(Requested(("a",)))
    assert driven.give(Requested(("b",)), Requested(("c",))) == []
    assert driven.give(DataSeen("ticker.A_PERP")) == [CanariesChosen(("ticker.A_PERP", MARKS[0], *MARKS[1:3]))]
    assert driven.give(DataSeen(MARKS[0])) == [CanariesChosen(MARKS[:3])]


def test_a_lost_connection_ends_a_turn() -> None:
    driven = watching()
    driven.give(Requested(("a",)))
    assert driven.give(ConnectionLost()) == [CanariesChosen(MARKS[:3])]


INPUTS: st.SearchStrategy[CanaryInput] = st.one_of(
    st.builds(StreamsWanted, st.booleans()),
    st.builds(MarketsKnown, st.lists(st.sampled_from(MARKETS), unique=True).map(tuple)),
    st.just(MarketsUnknown()),
    st.just(Connected()),
    st.just(ConnectionLost()),
    st.just(Requested(("depth.SOL_USDC",))),
    st.builds(DataSeen, st.sampled_from([*MARKS, "ticker.A_PERP", "ticker.B_PERP"])),
)


@pytest.mark.hypothesis
def test_the_canary_keeps_the_machine_laws() -> None:
    check_machine(Canary, INPUTS, max_gap_us=20 * SECOND, max_examples=examples(200).max_examples)

"""The native kernels do exactly what their twins in Python do, to the texts of the errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from struct import pack
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backpack_proto.book import side as pure_side
from backpack_proto.inputs import Fact, TextReceived
from backpack_proto.streams.levels import Level
from backpack_runtime.framing import cutting as pure_cutting
from hypothesis_profiles import examples

WHY = "this environment has no native kernels (docs/kernels.md)"
side: Any = pytest.importorskip("backpack_proto.book._side", reason=WHY)
cutting: Any = pytest.importorskip("backpack_runtime.framing._cutting", reason=WHY)


def level(price: str, quantity: str) -> Level:
    """As the decoder makes it: nobody has judged its texts."""
    return msgspec.convert([price, quantity], Level)


def outcome(call: Callable[..., Any], *arguments: object) -> Any:
    """What a call returns, or the type and the text of its error."""
    try:
        return call(*arguments)
    except (ValueError, TypeError) as error:
        return type(error), str(error)


# One side of a book, and both of them.

PRICES = st.one_of(
    st.sampled_from(["99", "100", "100.0", "100.00", "100.5", "101", "101.01", "0099.50"]),
    st.sampled_from(["0.0000000000000000000000000001", "100.0000000000000000000000000001", "100.0000000000000000000000000002"]),
    st.integers(9_000, 11_000).map(lambda cents: f"{cents // 100}.{cents % 100:02}"),
    st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,28})?", fullmatch=True).filter(lambda text: text.strip("0.") != ""),
)
QUANTITIES = st.sampled_from(["0", "0.00", "00", "1", "2.50", "0.0000000000000000000000000001", "99999999999999999999.9"])
NO_NUMBERS = st.one_of(
    st.sampled_from(["", ".", "1.", ".5", "-1", "+1", "1e3", "1_000", " 1", "1 ", "NaN", "Infinity", "1.2.3"]),
    st.sampled_from(["\x00", "1\x00", "٣", "\ud800", "9" * 21, "0." + "1" * 29, "1" * 60]),
    st.text(max_size=5),
)
LEVELS = st.builds(level, PRICES, QUANTITIES)
ANY_LEVELS = st.one_of(
    LEVELS,
    st.builds(level, NO_NUMBERS, QUANTITIES),
    st.builds(level, PRICES, NO_NUMBERS),
    st.builds(level, st.just("0.0"), QUANTITIES),
)
CHANGES = st.one_of(st.lists(LEVELS, max_size=6), st.lists(LEVELS, max_size=80), st.lists(ANY_LEVELS, max_size=4))


class Twins(RuleBasedStateMachine):
    """Both kinds of book are given the same, and show the same."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: tuple[Any, Any] = (pure_side, side)
        self.books: list[tuple[Any, Any]] = []

    @initialize(bids=CHANGES, asks=CHANGES, limit=st.one_of(st.none(), st.integers(-1, 8)))
    def begin(self, bids: list[Level], asks: list[Level], limit: int | None) -> None:
        def make(kind: Any) -> Any:
            return (
                kind.BookSide(bids, best_is_highest=True, limit=limit),
                kind.BookSide(iter(asks), best_is_highest=False, limit=limit),
            )

        made = [outcome(make, kind) for kind in self.kinds]
        if isinstance(made[0][0], type):
            assert made[0] == made[1]
            made = [(kind.BookSide((), best_is_highest=True), kind.BookSide([], best_is_highest=False)) for kind in self.kinds]
        self.books = made

    @rule(bids=CHANGES, asks=CHANGES)
    def change(self, bids: list[Level], asks: list[Level]) -> None:
        ours, theirs = (
            outcome(kind.change, *book, tuple(bids), tuple(asks)) for kind, book in zip(self.kinds, self.books, strict=True)
        )
        assert ours == theirs

    @rule(count=st.integers(-2, 9))
    def show(self, count: int) -> None:
        for book in self.books:
            for one in book:
                one.show(count)

    @rule(count=st.one_of(st.none(), st.integers(-2, 99)))
    def first(self, count: int | None) -> None:
        for ours, theirs in zip(*self.books, strict=True):
            assert outcome(ours.first, count) == outcome(theirs.first, count)

    @rule(text=st.one_of(PRICES, NO_NUMBERS))
    def find(self, text: str) -> None:
        for ours, theirs in zip(*self.books, strict=True):
            assert outcome(ours.find, text) == outcome(theirs.find, text)

    @invariant()
    def they_are_equal(self) -> None:
        for ours, theirs in zip(*self.books, strict=True) if self.books else ():
            assert texts(ours.top) == texts(theirs.top)
            assert texts(ours.first(None)) == texts(theirs.first(None))
            assert (ours.best is None, ours.edge is None) == (theirs.best is None, theirs.edge is None)
            assert texts(filter(None, (ours.best, ours.edge))) == texts(filter(None, (theirs.best, theirs.edge)))
            assert (len(ours), ours.exhausted) == (len(theirs), theirs.exhausted)
        if self.books:
            assert pure_side.apart(*self.books[0]) == side.apart(*self.books[1])


def texts(levels: Iterable[Level]) -> list[tuple[str, str]]:
    return [(one.price_text, one.quantity_text) for one in levels]


TestTwins = Twins.TestCase
TestTwins.settings = examples(200, steps=30)


def test_whatever_goes_in_and_out_of_a_native_side_is_let_go_of() -> None:
    """Not one reference to a level is lost or left."""
    kept = [level(f"{price}.5", "1") for price in range(100, 140)]
    gone = [level(f"{price}.50", "0") for price in range(100, 140)]
    wrong = level("101", "x")

    def counts() -> list[int]:
        return [sys.getrefcount(one) for one in (*kept, *gone, wrong)]

    before = counts()
    for limit in (None, 7):
        bids = side.BookSide(kept, best_is_highest=True, limit=limit)
        asks = side.BookSide(kept + kept, best_is_highest=False, limit=limit)
        for shown in (1, 5, 100):
            bids.show(shown)
            asks.show(shown)
            side.change(bids, asks, tuple(kept[::3]), tuple(gone))
            side.change(bids, asks, tuple(gone[5:20]), tuple(kept))
            with pytest.raises(ValueError, match="a level needs a quantity"):
                side.change(bids, asks, tuple(kept), (*kept, wrong))
            with pytest.raises(ValueError, match="a level needs a quantity"):
                side.change(bids, asks, (wrong,), tuple(kept))
            assert bids.find("120.5") in {*kept, None}
            assert len(bids.first(3)) == 3
        with pytest.raises(ValueError, match="a level needs a quantity"):
            side.BookSide([*kept, wrong], best_is_highest=True)
        del bids, asks
    assert counts() == before


def test_a_native_side_refuses_invalid_levels() -> None:
    """Whatever it is given, it raises, and the process lives."""
    bids, asks = side.BookSide([], best_is_highest=True), side.BookSide([], best_is_highest=False)
    for given_sides in ((bids, bids), (asks, bids), (bids, None), (pure_side.BookSide([], best_is_highest=True), asks)):
        with pytest.raises(TypeError, match="bids, asks: the two sides of a book"):
            side.change(*given_sides, (), ())
        with pytest.raises(TypeError, match="bids, asks: the two sides of a book"):
            side.apart(*given_sides)
    for bad in ((), (bids,), (bids, asks, ())):
        with pytest.raises(TypeError):
            side.change(*bad)
    for changed in (None, 7, [None], [("1", "2")]):
        with pytest.raises((TypeError, AttributeError)):
            side.change(bids, asks, changed, ())
        with pytest.raises((TypeError, AttributeError)):
            side.change(bids, asks, (), changed)
    with pytest.raises(TypeError, match="best_is_highest"):
        side.BookSide([])
    with pytest.raises(TypeError):
        side.BookSide([], best_is_highest=True, limit="3")
    with pytest.raises(TypeError):
        bids.find(1)
    with pytest.raises((AttributeError, TypeError)):
        bids.best = None
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Other", (side.BookSide,), {})
    assert (bids.top, asks.top, len(bids), len(asks)) == ((), (), 0, 0)


def test_a_level_whose_text_changes_the_book_while_it_is_read_does_no_harm() -> None:
    """An object whose attributes run code of their own: the book is changed behind the back of a change."""
    bids, asks = side.BookSide([level("1", "1")], best_is_highest=True), side.BookSide([], best_is_highest=False)

    class Meddler:
        quantity_text = "3"

        @property
        def price_text(self) -> str:
            side.change(bids, asks, tuple(level(str(price), "1") for price in range(1, 99)), ())
            return "1.0"

    assert not side.change(bids, asks, (Meddler(), level("2", "0")), ())
    assert len(bids) == 97
    assert isinstance(bids.find("1"), Meddler)


# Cutting frames.

PAYLOADS = st.one_of(
    st.binary(max_size=9),
    st.text(max_size=40).map(str.encode),
    st.integers(120, 140).map(lambda size: b"x" * size),
    st.integers(120, 140).map(lambda size: b"\xc3\xa4" * (size // 2)),
    st.sampled_from([b"", b"x" * 65_535, b"x" * 65_536, b"\xff" * 9, b"abcdefg\xff", b"\xed\xa0\x80", b"1234567\xc3"]),
)


def frame(payload: bytes, first: int, length_bytes: int) -> bytes:
    """A frame whose length is written in so many bytes, which may be more than it needs."""
    size = len(payload)
    if length_bytes == 0 and size < 126:
        return pack("!BB", first, size) + payload
    if length_bytes <= 2 and size < 65_536:
        return pack("!BBH", first, 126, size) + payload
    return pack("!BBQ", first, 127, size) + payload


FRAMES = st.builds(frame, PAYLOADS, st.sampled_from([0x81] * 8 + [0x01, 0x82, 0x89, 0xC1]), st.sampled_from([0, 0, 0, 2, 8]))


@given(
    parts=st.lists(st.one_of(FRAMES, FRAMES, st.binary(max_size=4)), max_size=6),
    cut_off=st.integers(0, 12),
    start=st.one_of(st.just(0), st.integers(0, 300)),
    longest=st.sampled_from([-1, 0, 125, 126, 130, 65_535, 2**40]),
    received_us=st.one_of(st.none(), st.integers(0, 2**60)),
)
@example(
    [frame(b"x" * size, 0x81, length_bytes) for size, length_bytes in ((124, 0), (125, 0), (126, 2), (127, 2))], 0, 0, 200, 1
)
@example([frame(b"x" * 125, 0x81, 2)], 0, 0, 200, 1)
@example([frame(b"x" * 126, 0x81, 8)], 0, 0, 200, 1)
@examples(500)
def test_both_cut_the_same_frames(parts: list[bytes], cut_off: int, start: int, longest: int, received_us: int | None) -> None:
    data = b"".join(parts)
    data = data[: len(data) - cut_off] if cut_off else data
    ours: list[Fact] = []
    theirs: list[Fact] = []
    assert pure_cutting.slice_texts(data, start, longest, received_us, ours) == cutting.slice_texts(
        data, start, longest, received_us, theirs
    )
    assert ours == theirs
    assert all(type(fact) is TextReceived and type(fact.data) is bytes for fact in theirs)


def test_native_cutting_refuses_what_is_no_read() -> None:
    facts: list[Fact] = []
    for bad in (
        (),
        (b"", 0, 1, None),
        ("text", 0, 1, None, facts),
        (bytearray(b"\x81\x01x"), 0, 9, None, facts),
        (b"\x81\x01x", "0", 9, None, facts),
        (b"\x81\x01x", 0, None, None, facts),
        (b"\x81\x01x", 0, 9, None, ()),
    ):
        with pytest.raises(TypeError):
            cutting.slice_texts(*bad)
    for pos in (-1, -(2**70), 2**70):
        with pytest.raises((ValueError, OverflowError)):
            cutting.slice_texts(b"\x81\x01x", pos, 9, None, facts)
    assert facts == []


def test_what_native_cutting_makes_is_let_go_of() -> None:
    us = 10**15
    before = sys.getrefcount(us)
    facts: list[Fact] = []
    assert cutting.slice_texts(b"\x81\x01x" * 500 + b"\x81\x01\xff", 0, 9, us, facts) == 1_500
    assert sys.getrefcount(us) == before + 500
    held = sys.getrefcount(facts[0])
    assert held == 2, "by the list, and by the call that asks"
    facts.clear()
    assert sys.getrefcount(us) == before

"""A book whose changes wait is, whenever somebody reads it and however, the book into which each change was put at once."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed.types import OrderBook
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.askers import SNAPSHOT_LIMIT
from backpack_proto.outputs import BookChanged, BookSynced
from backpack_proto.streams.levels import Level
from backpack_proto.streams.payloads import Depth
from backpack_runtime.cryptofeed.native import books
from backpack_runtime.cryptofeed.native.books import BookMirror, StaleBook
from hypothesis_profiles import examples

ENGINE_US = 1_790_000_000_000_000
Levels = tuple[Level, ...]


class Eager:
    """cryptofeed's book as a feed of its own would keep it: each change is put in as it comes."""

    def __init__(self, synced: BookSynced, max_depth: int) -> None:
        bids, asks = ({level.price: level.quantity for level in side} for side in (synced.bids, synced.asks))
        self.book: Any = OrderBook("BACKPACK", "SOL-USDC", bids=bids, asks=asks, max_depth=max_depth)
        self.book.timestamp, self.book.sequence_number = synced.engine_us / 1e6, synced.last
        self.floor = synced.bids[-1].price if len(synced.bids) >= SNAPSHOT_LIMIT else None
        self.ceiling = synced.asks[-1].price if len(synced.asks) >= SNAPSHOT_LIMIT else None

    def change(self, changed: BookChanged, frame: bytes | None) -> None:
        self.book.timestamp, self.book.sequence_number = changed.engine_us / 1e6, changed.last
        self.book.raw = json.loads(frame)["data"] if frame is not None else {}
        bids = [level for level in changed.delta.bids if self.floor is None or level.price >= self.floor]
        asks = [level for level in changed.delta.asks if self.ceiling is None or level.price <= self.ceiling]
        self.book.delta = {"bid": self._put(self.book.book.bids, bids), "ask": self._put(self.book.book.asks, asks)}

    def _put(self, side: Any, levels: list[Level]) -> list[tuple[Decimal, Decimal]]:
        told = []
        for price, quantity in levels:
            if quantity or price in side:
                told.append((price, quantity))
            if quantity:
                side[price] = quantity
            elif price in side:
                del side[price]
        return told


def synced_at(last: int, *, bids: Levels, asks: Levels) -> BookSynced:
    return BookSynced(stream="depth.SOL_USDC", symbol="SOL_USDC", last=last, engine_us=ENGINE_US, bids=bids, asks=asks)


def changed_to(last: int, bids: Levels, asks: Levels) -> BookChanged:
    delta = Depth(
        symbol="SOL_USDC",
        engine_us=ENGINE_US + last,
        emitted_us=ENGINE_US + last,
        first_update_id=last,
        last_update_id=last,
        bids=bids,
        asks=asks,
    )
    return BookChanged(
        stream="depth.SOL_USDC",
        symbol="SOL_USDC",
        first=last,
        last=last,
        engine_us=ENGINE_US + last,
        bids=(),
        asks=(),
        verified=False,
        delta=delta,
    )


def sides(beneath: Any) -> Any:
    return beneath.bids.to_dict(), beneath.asks.to_dict(), beneath.to_dict()


def row(book: Any, **options: Any) -> dict[str, Any]:
    """What backends are given: that of cryptofeed's own book with the update id, which it lacks."""
    return {"sequence_number": book.sequence_number, **book.to_dict(**options)}


def whole_book(book: Any) -> Any:
    """What a callback is given in the place of a change that it has missed."""
    delta, book.delta = book.delta, None
    try:
        return book.delta, row(book)
    finally:
        book.delta = delta


def given_delta(book: Any) -> Any:
    book.delta = None
    return book.delta, row(book)


READS: dict[str, Any] = {
    "nothing": lambda _book: None,
    "times": lambda book: (book.timestamp, book.sequence_number, book.checksum, book.exchange, book.symbol),
    "delta": lambda book: book.delta,
    "raw": lambda book: book.raw,
    "raw twice": lambda book: book.raw is book.raw,
    "book": lambda book: sides(book.book),
    "best": lambda book: [list(side.keys())[:1] for side in (book.book.bids, book.book.asks)],
    "all": row,
    "all as floats": lambda book: row(book, numeric_type=float, none_to="none"),
    "delta alone": lambda book: row(book, delta=True, numeric_type=str),
    "whole": whole_book,
    "given delta": given_delta,
    "copy": lambda book: (copy.copy(book).to_dict(), type(copy.copy(book)), copy.copy(book).delta, copy.copy(book).raw),
}
_levels = st.lists(
    st.builds(Level, st.sampled_from(["9", "9.5", "9.50", "10", "10.00", "10.5", "11", "12", "8"]), st.integers(0, 2)),
    max_size=4,
).map(tuple)


@given(
    st.lists(st.tuples(_levels, _levels, st.booleans(), st.lists(st.sampled_from(sorted(READS)), max_size=2)), max_size=25),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
    st.sampled_from([0, 4096]),
)
@examples(300)
def test_whoever_reads_a_book_finds_every_change_in_it(
    steps: list[tuple[Levels, Levels, bool, list[str]]],
    max_depth: int,
    limited: bool,  # noqa: FBT001
    most_waiting: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "MOST_WAITING", most_waiting)
        if limited:
            patch.setattr(books, "SNAPSHOT_LIMIT", 2)
            patch.setitem(globals(), "SNAPSHOT_LIMIT", 2)
        synced = synced_at(5, bids=(Level("10", 1), Level("9", 2)), asks=(Level("11", 3), Level("12", 4)))
        eager = Eager(synced, max_depth)
        lazy = BookMirror("BACKPACK", "SOL-USDC", synced, max_depth=max_depth)
        assert lazy.complete is not limited
        kept: Any = None
        for last, (bids, asks, framed, reads) in enumerate(steps, 6):
            changed = changed_to(last, bids, asks)
            frame = json.dumps({"data": {"e": "depth", "u": last}}).encode() if framed else None
            eager.change(changed, frame)
            lazy.change(changed, frame)
            for read in reads:
                assert READS[read](lazy) == READS[read](eager.book), read
                if read == "best":
                    kept = lazy.book
            if kept is not None:
                assert sides(kept) == sides(eager.book.book)
        assert lazy == eager.book
        assert eager.book == lazy
        assert READS["all"](lazy) == READS["all"](eager.book)


def test_changes_wait_until_somebody_looks_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[int] = []
    apply = books._apply

    def count(side: Any, levels: Any) -> Any:
        levels = list(levels)
        applied.append(len(levels))
        return apply(side, levels)

    monkeypatch.setattr(books, "_apply", count)
    monkeypatch.setattr(books, "MOST_WAITING", 3)
    lazy: Any = BookMirror("BACKPACK", "SOL-USDC", synced_at(0, bids=(Level(1, 1),), asks=(Level(2, 1),)))
    for last in range(1, 100):
        lazy.change(changed_to(last, (Level(1, last),), ()), None)
    assert not applied
    assert lazy.to_dict()["book"]["bid"] == {Decimal(1): Decimal(99)}
    assert sum(applied) == 2, "the last quantity of the price, and the latest change"
    applied.clear()
    for last in range(100, 106):
        lazy.change(changed_to(last, (Level(last, 1),), ()), None)
    assert sum(applied) == 5


def test_a_row_has_the_update_id_and_the_digits_of_the_exchange() -> None:
    book = BookMirror("BACKPACK", "SOL-USDC", synced_at(5, bids=(Level("0.00000010", "1.50"),), asks=(Level("99.10", "2"),)))
    book.change(changed_to(6, (Level("0.00000010", "0.00000000"),), (Level("99.10", "123456789.123456789012"),)), None)
    delta = book.to_dict(delta=True, numeric_type=str, none_to="None")
    assert delta["sequence_number"] == 6
    assert delta["delta"] == {"bid": [("0.00000010", "0.00000000")], "ask": [("99.10", "123456789.123456789012")]}
    whole = book.to_dict(numeric_type=str)
    assert (whole["sequence_number"], whole["book"]["ask"]) == (6, {"99.10": "123456789.123456789012"})
    exact = book.to_dict(delta=True)
    assert exact["delta"]["ask"] == [(Decimal("99.10"), Decimal("123456789.123456789012"))]


def test_the_row_of_a_stale_book_has_the_form_that_backends_know() -> None:
    book = BookMirror("BACKPACK", "SOL-USDC", synced_at(5, bids=(), asks=()))
    stale = StaleBook(book, "gap", 9.0)
    common = {"exchange": "BACKPACK", "symbol": "SOL-USDC", "timestamp": 9.0, "sequence_number": 5, "stale": "gap"}
    assert stale.to_dict(delta=True) == common | {"delta": {"bid": [], "ask": []}}
    assert stale.to_dict(numeric_type=float, none_to="None") == common | {"book": {"bid": {}, "ask": {}}, "delta": None}
    assert not stale.delta, "so that nobody asks for the whole book behind it"
    assert stale.delta is not None

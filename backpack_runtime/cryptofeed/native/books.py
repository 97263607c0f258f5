"""The order books that callbacks get: cryptofeed's own objects, kept equal to the session's books by events alone.

Theory. Putting a change into cryptofeed's book costs more than all other work on it here, and many callbacks read only the
times or the delta. So changes wait, the latest one by itself and those before it as the last quantity of each price, and are
put in when the book is read. A callback that was given the book beneath, `book.book`, may keep it and read that: from then on each
change is put in as it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from cryptofeed.types import OrderBook

from backpack_proto.askers import SNAPSHOT_LIMIT
from backpack_proto.encoding import plain_digits
from backpack_proto.outputs import BookChanged, BookSynced
from backpack_proto.streams.levels import ASK_RANKS, BID_RANKS, Level
from backpack_proto.streams.payloads import Depth

from .objects import raw_of

__all__ = ["BookMirror", "StaleBook", "as_whole"]

MOST_WAITING: Final = 4096
"""Prices a side that wait before they are put in."""


class BookMirror(OrderBook):
    """One run of one book, from a `BookSynced` to its end. `delta` and `raw` are of the latest change.

    A snapshot reaches SNAPSHOT_LIMIT levels a side. Beyond that a level may be unknown, so levels there are neither kept nor
    delivered (docs/protocol.md 5.2).
    """

    def __init__(self, exchange: str, symbol: str, synced: BookSynced, *, max_depth: int = 0) -> None:
        bids, asks = ({level.price: level.quantity for level in side} for side in (synced.bids, synced.asks))
        super().__init__(exchange, symbol, bids=bids, asks=asks, max_depth=max_depth)
        self.timestamp = synced.engine_us / 1e6
        self.sequence_number = synced.last
        beneath = super().book
        self._bids, self._asks = beneath.bids, beneath.asks
        self._lowest_bid = synced.bids[-1].price if len(synced.bids) >= SNAPSHOT_LIMIT else None
        self._highest_ask = synced.asks[-1].price if len(synced.asks) >= SNAPSHOT_LIMIT else None
        self._latest: Depth | None = None
        """The change that `delta` is to be of."""
        self._bid_changes: dict[int, Level] = {}
        """Of the changes before that, by rank."""
        self._ask_changes: dict[int, Level] = {}
        self._at_once = False
        """True when somebody may have kept the book beneath."""
        self._frame: bytes | None = None
        """Source of `raw`."""

    @property
    def complete(self) -> bool:
        """True when the snapshot had every level there is."""
        return self._lowest_bid is None and self._highest_ask is None

    def change(self, changed: BookChanged, frame: bytes | None) -> None:
        """Take a change. `frame` is the frame that came with it, perhaps that of another one."""
        if (before := self._latest) is not None:
            for level in before.bids:
                self._bid_changes[BID_RANKS[level.price_text]] = level
            for level in before.asks:
                self._ask_changes[ASK_RANKS[level.price_text]] = level
        self._latest = changed.delta
        self._frame = frame
        if frame is None:
            self.raw = {}
        self.timestamp = changed.engine_us / 1e6
        self.sequence_number = changed.last
        if self._at_once or len(self._bid_changes) > MOST_WAITING or len(self._ask_changes) > MOST_WAITING:
            self._catch_up()

    @property
    def book(self) -> Any:
        """The book beneath, as cryptofeed has it."""
        self._catch_up()
        self._at_once = True
        return super().book

    @property
    def delta(self) -> dict[str, list[tuple[Decimal, Decimal]]] | None:
        """Price and quantity of each level that has changed, zero for one that is gone, or None where the whole book is new."""
        self._catch_up()
        return super().delta  # type: ignore[no-any-return]  # cryptofeed has no types

    @delta.setter
    def delta(self, delta: Any) -> None:
        self._catch_up()
        OrderBook.delta.__set__(self, delta)

    @property
    def raw(self) -> Any:
        """The payload of the frame that the latest change came with, or empty for a change that came with another one."""
        if self._frame is not None:
            # A frame that was kept for the snapshot is told with the frame, or the answer, that came last.
            self.raw = raw_of(self._frame) if b"%d" % self.sequence_number in self._frame else {}
        return super().raw

    @raw.setter
    def raw(self, raw: Any) -> None:
        self._frame = None
        OrderBook.raw.__set__(self, raw)

    def to_dict(
        self,
        delta: bool = False,  # noqa: FBT001, FBT002 - cryptofeed's signature
        numeric_type: Any = None,
        none_to: object = False,  # noqa: FBT002 - cryptofeed's signature
    ) -> dict[str, Any]:
        """Return all of it as cryptofeed does, and the update id as `sequence_number`. With `str` decimals are exact and plain."""
        self._catch_up()
        kind = plain_digits if numeric_type is str else numeric_type
        found: dict[str, Any] = super().to_dict(delta=delta, numeric_type=kind, none_to=none_to)
        found["sequence_number"] = self.sequence_number
        return found

    def __eq__(self, other: object) -> bool:
        self._catch_up()
        return super().__eq__(other)  # type: ignore[no-any-return]  # cryptofeed has no types

    def __hash__(self) -> int:
        self._catch_up()
        return hash(repr(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As cryptofeed's own book, which is all that a copy is."""
        self._catch_up()
        self.raw = self.raw
        rebuild, (_, *rest), state = super().__reduce_ex__(protocol)
        return rebuild, (OrderBook, *rest), tuple(part for part in state if part is not vars(self))

    def _catch_up(self) -> None:
        """Put in waiting changes."""
        latest = self._latest
        if latest is None:
            return
        self._latest = None
        if self._bid_changes:
            _apply(self._bids, self._known_bids(self._bid_changes.values()))
            self._bid_changes.clear()
        if self._ask_changes:
            _apply(self._asks, self._known_asks(self._ask_changes.values()))
            self._ask_changes.clear()
        bids = _apply(self._bids, self._known_bids(latest.bids))
        asks = _apply(self._asks, self._known_asks(latest.asks))
        OrderBook.delta.__set__(self, {"bid": bids, "ask": asks})

    def _known_bids(self, levels: Iterable[Level]) -> Iterable[Level]:
        floor = self._lowest_bid
        return levels if floor is None else [level for level in levels if level.price >= floor]

    def _known_asks(self, levels: Iterable[Level]) -> Iterable[Level]:
        ceiling = self._highest_ask
        return levels if ceiling is None else [level for level in levels if level.price <= ceiling]


@contextmanager
def as_whole(book: Any) -> Iterator[None]:
    """Have a book look inside the block as if all of it were new."""
    delta, book.delta = book.delta, None
    try:
        yield
    finally:
        book.delta = delta


class StaleBook:
    """That a book is known no more, as a row for cryptofeed's backends: `stale` says why, and it holds until the next whole book.

    It has the form of a change without levels, or of a book without any, for some backends know no other. `delta` is false and not
    None, so that they do not ask for the whole book behind it.
    """

    delta: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, book: BookMirror, reason: str, found: float) -> None:
        """`found` is when it was found out, seconds since the epoch."""
        self.exchange: str = book.exchange
        self.symbol: str = book.symbol
        self.sequence_number = book.sequence_number
        self.timestamp = found
        self.reason = reason

    def to_dict(
        self,
        delta: bool = False,  # noqa: FBT001, FBT002 - cryptofeed's signature
        numeric_type: Any = None,  # noqa: ARG002 - cryptofeed's signature
        none_to: object = False,  # noqa: ARG002, FBT002 - cryptofeed's signature
    ) -> dict[str, Any]:
        """Return the row. `delta` chooses its form."""
        levels: dict[str, Any] = {"delta": {"bid": [], "ask": []}} if delta else {"book": {"bid": {}, "ask": {}}, "delta": None}
        return {
            "exchange": self.exchange,
            "symbol": self.symbol,
            **levels,
            "timestamp": self.timestamp,
            "sequence_number": self.sequence_number,
            "stale": self.reason,
        }


def _apply(side: Any, levels: Iterable[Level]) -> list[tuple[Decimal, Decimal]]:
    told: list[tuple[Decimal, Decimal]] = []
    for price, quantity in levels:
        if quantity:
            side[price] = quantity
        elif price in side:
            del side[price]
        else:
            continue
        told.append((price, quantity))
    return told

"""The order books that callbacks get: cryptofeed's own objects, kept equal to the session's books by events alone."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from cryptofeed.types import OrderBook

from backpack_proto.askers import SNAPSHOT_LIMIT
from backpack_proto.outputs import BookChanged, BookSynced
from backpack_proto.streams.levels import Level

__all__ = ["BookMirror"]

Delta = dict[str, list[tuple[Decimal, Decimal]]]


class BookMirror:
    """One run of one book, from a `BookSynced` to its end.

    A snapshot reaches SNAPSHOT_LIMIT levels a side; beyond that a level may be unknown, so nothing is kept there and nothing of
    it is told (docs/protocol.md 5.2).
    """

    def __init__(self, exchange: str, symbol: str, synced: BookSynced, *, max_depth: int = 0) -> None:
        bids, asks = ({level.price: level.quantity for level in side} for side in (synced.bids, synced.asks))
        self.book: Any = OrderBook(exchange, symbol, bids=bids, asks=asks, max_depth=max_depth)
        self.last = synced.last
        """The update id at which the book stands."""
        self._bids = self.book.book.bids
        self._asks = self.book.book.asks
        self._lowest_bid = synced.bids[-1].price if len(synced.bids) >= SNAPSHOT_LIMIT else None
        self._highest_ask = synced.asks[-1].price if len(synced.asks) >= SNAPSHOT_LIMIT else None

    @property
    def complete(self) -> bool:
        """Whether the snapshot had every level there is."""
        return self._lowest_bid is None and self._highest_ask is None

    def change(self, changed: BookChanged) -> Delta:
        """Apply a change, and return it in cryptofeed's form: price and quantity of each level, zero deletes."""
        delta = changed.delta
        bids: Iterable[Level] = delta.bids
        asks: Iterable[Level] = delta.asks
        if self._lowest_bid is not None:
            floor = self._lowest_bid
            bids = [level for level in bids if level.price >= floor]
        if self._highest_ask is not None:
            ceiling = self._highest_ask
            asks = [level for level in asks if level.price <= ceiling]
        self.last = changed.last
        return {"bid": _apply(self._bids, bids), "ask": _apply(self._asks, asks)}


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

"""Price levels as plain dictionaries, for tests that keep a book of their own."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from backpack_proto.streams.levels import Level

__all__ = ["by_price"]


def by_price(levels: Iterable[Level]) -> dict[Decimal, Decimal]:
    """The quantities by their prices."""
    return {level.price: level.quantity for level in levels}

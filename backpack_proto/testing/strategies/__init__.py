"""Hypothesis strategies: events, payloads, frames, whole histories of a book, and faults.

    from hypothesis import given
    from backpack_proto.testing.strategies import book_histories

All of them are made from the types, so that a new payload is drawn without a change here. Simple values come first, and a
counterexample shrinks to them. Each prints as the expression that makes it. They need the extra `testing`.
"""

from __future__ import annotations

from backpack_proto.extras import MissingExtra

try:
    import hypothesis as hypothesis
except ImportError as missing:
    raise MissingExtra("backpack_proto.testing.strategies", "testing", missing) from missing

from .events import EVENTS, PAYLOADS, broken_frames, events, frames, payloads
from .faults import fault_schedules
from .histories import book_histories
from .members import levels, prices, quantities, symbols

__all__ = [
    "EVENTS",
    "PAYLOADS",
    "book_histories",
    "broken_frames",
    "events",
    "fault_schedules",
    "frames",
    "levels",
    "payloads",
    "prices",
    "quantities",
    "symbols",
]

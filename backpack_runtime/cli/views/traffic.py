"""Rates and ages of messages: of all markets, and of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from backpack_proto.metrics import StreamMetrics

__all__ = ["Rate", "Traffic", "TrafficMeter"]

RATE_US = 2_000_000


class Traffic(NamedTuple):
    """Messages about one market."""

    rate: float
    """Messages a second."""
    age_us: int
    """Since the last one."""


class Rate:
    """Messages a second, over the last two or so."""

    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque()

    def update(self, count: int, mono_us: int) -> float:
        """Take the counter at this moment, and return the rate."""
        self._counts.append((mono_us, count))
        while len(self._counts) > 2 and mono_us - self._counts[1][0] >= RATE_US:
            self._counts.popleft()
        since_us, before = self._counts[0]
        return (count - before) * 1e6 / (mono_us - since_us) if mono_us > since_us else 0.0


class TrafficMeter:
    """Rates and ages of markets, from the counters of their streams."""

    def __init__(self, symbol_of: Callable[[str], str | None]) -> None:
        """`symbol_of` names the market of a stream, or None when that market is not shown."""
        self._symbol_of = cache(symbol_of)
        self._rates: dict[str, Rate] = {}

    def update(self, streams: Mapping[str, StreamMetrics], mono_us: int) -> dict[str, Traffic]:
        """Take the counters of all streams at this moment, and return the traffic of each market."""
        counts: dict[str, int] = {}
        ages: dict[str, int] = {}
        for stream, found in streams.items():
            symbol = self._symbol_of(stream)
            if symbol is not None:
                counts[symbol] = counts.get(symbol, 0) + found.messages
                ages[symbol] = min(ages.get(symbol, found.age_us), found.age_us)
        return {
            symbol: Traffic(self._rates.setdefault(symbol, Rate()).update(count, mono_us), ages[symbol])
            for symbol, count in counts.items()
        }

"""Counters of the feed beyond the session's own."""

from __future__ import annotations

__all__ = ["Tallies"]


class Tallies:
    """Deliveries, and their times. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self.candle_updates = 0
        self.candles_filled = 0
        """Candles that closed while there was no connection, and were read by REST."""
        self.candle_gaps = 0
        """Number of times that candles could not be filled in."""
        self.order_updates = 0
        self.position_updates = 0
        self.last_message: float | None = None
        self.last_trade: float | None = None
        self.last_ticker: float | None = None
        self.last_snapshot: float | None = None
        self.last_sequence: int | None = None
        self.snapshots: dict[str, float] = {}
        """When each symbol's book was last taken from, or found equal to, a snapshot."""

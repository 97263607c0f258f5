"""Counters and health of the feed, in the names that dashboards for this feed use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from backpack_proto.metrics import Health, MetricsSnapshot

from .native.tallies import Tallies

__all__ = ["BackpackHealthReport", "metrics_of", "report_of"]


@dataclass(frozen=True)
class BackpackHealthReport:
    """Verdict on the feed now, and each reason against it. A reason goes when its cause has passed."""

    healthy: bool
    status: str
    """`healthy`, `degraded` or `down`."""
    reasons: list[str]
    notes: list[str]
    """Facts worth knowing that are not reasons against health, such as a closed market."""
    metrics: dict[str, Any]
    """`BackpackFeed.metrics_snapshot()` of the same moment."""


def metrics_of(counters: MetricsSnapshot, tallies: Tallies, now: float, symbol_of: Callable[[str], str]) -> dict[str, Any]:
    """All counters as a dict. Timestamps and `now` are seconds since the epoch, ages and latencies seconds."""
    return {
        "ws_messages": counters.ws_messages,
        "ws_reconnects": counters.ws_reconnects,
        "ws_errors": counters.ws_errors,
        "auth_failures": counters.auth_failures,
        "dropped_messages": counters.dropped_messages,
        "parser_errors": counters.parser_errors,
        "proxy_failures": counters.proxy_failures,
        "orderbook_resyncs": counters.orderbook_resyncs,
        "book_verifications": counters.book_verifications,
        "book_divergences": counters.book_divergences,
        "books_wanted": counters.books.wanted,
        "books_live": counters.books.live,
        "books_closed": counters.books.closed,
        "candle_updates": tallies.candle_updates,
        "candles_filled": tallies.candles_filled,
        "candle_gaps": tallies.candle_gaps,
        "order_updates": tallies.order_updates,
        "position_updates": tallies.position_updates,
        "last_snapshot_timestamp": tallies.last_snapshot,
        "last_sequence": tallies.last_sequence,
        "last_trade_timestamp": tallies.last_trade,
        "last_ticker_timestamp": tallies.last_ticker,
        "last_message_timestamp": tallies.last_message,
        "symbol_snapshot_age": {
            symbol_of(stream.rpartition("depth.")[2]): max(now - when, 0.0) for stream, when in tallies.snapshots.items()
        },
        "latency_p50_seconds": _seconds(counters.engine_to_receipt_p50_us),
        "latency_p99_seconds": _seconds(counters.engine_to_receipt_p99_us),
        "delivery_p50_seconds": _seconds(counters.receipt_to_delivery_p50_us),
        "delivery_p99_seconds": _seconds(counters.receipt_to_delivery_p99_us),
    }


def report_of(
    health: Health, doubts: Iterable[str], notes: Iterable[str], metrics: dict[str, Any], max_snapshot_age: float | None
) -> BackpackHealthReport:
    """Join the session's health, the feed's own doubts and notes, and books compared with no snapshot for `max_snapshot_age` seconds."""
    reasons = [*health.reasons, *doubts]
    if max_snapshot_age is not None:
        for symbol, age in metrics["symbol_snapshot_age"].items():
            if age > max_snapshot_age:
                reasons.append(f"order book snapshot of {symbol} stale ({age:.0f}s)")
    status = health.status.value if health.reasons or not reasons else "degraded"
    return BackpackHealthReport(
        healthy=not reasons and health.healthy, status=status, reasons=reasons, notes=[*health.notes, *notes], metrics=metrics
    )


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6

"""Checks of streams: the websocket, first data, latency and age of messages, and whether books and tickers agree with REST."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from backpack_proto.errors import NothingTraded
from backpack_proto.histogram import Histogram
from backpack_proto.outputs import BookCheckFailed, BookDesynced, BookVerified
from backpack_proto.streams.payloads import Ticker
from backpack_runtime.transport import system_now

from .findings import Figure, Finding, failed, milliseconds, ok, skipped, warning
from .subject import Subject

__all__ = ["books_against_rest", "first_data", "latency", "message_age", "tickers_against_rest", "websocket"]

OPEN_SECONDS = 12.0
DATA_SECONDS = 10.0
"""No data frame for so long, and the client gives a connection up (docs/concepts.md)."""
LISTEN_SECONDS = 5.0
BOOK_SECONDS = 12.0
"""A book in a quiet market needs two snapshots that are 5 s apart."""
TICKER_SECONDS = 4.0
LATE_US = 2_000_000
STALE_US = 5_000_000
"""Above these health is not well, and books are stale (docs/concepts.md)."""
CACHE_SECONDS = 30
"""The ticker by REST may be so old (docs/protocol.md 1.2)."""


async def websocket(subject: Subject) -> Finding:
    """Wait for the websocket, which the client has been opening since it started."""
    watch = subject.watch
    await watch.until(lambda: watch.up_us is not None, OPEN_SECONDS)
    if watch.up_us is None:
        why = watch.downs[-1] if watch.downs else f"not open within {OPEN_SECONDS:g} s"
        return failed(f"cannot be opened: {why}", attempts=len(watch.downs))
    took_us = watch.up_us - subject.began_us
    text = f"open after {milliseconds(took_us)}, with TCP, TLS and upgrade"
    if watch.downs:
        return warning(
            f"{text}; lost or refused {len(watch.downs)}x, the last time: {watch.downs[-1]}",
            took_us=took_us,
            lost=len(watch.downs),
        )
    return ok(text, took_us=took_us, lost=0)


async def first_data(subject: Subject) -> Finding:
    """Wait for the first message on a stream."""
    watch = subject.watch
    await watch.until(lambda: watch.first_us is not None, DATA_SECONDS)
    if watch.first_us is None:
        return failed(f"the websocket is open, and no stream has sent anything within {DATA_SECONDS:g} s", took_us=None)
    took_us = watch.first_us - (watch.up_us or subject.began_us)
    return ok(f"{milliseconds(max(took_us, 0))} after the websocket was open", took_us=took_us)


async def latency(subject: Subject) -> Finding:
    """Measure the time from the matching engine to receipt, on the exchange's clock."""
    await anyio.sleep(min(LISTEN_SECONDS, subject.left_seconds / 3))
    found = _percentiles(subject, (delay.engine_us for delay in subject.watch.delays))
    if found is None:
        return skipped("no message had a time of the engine")
    p50_us, p99_us, count = found
    error_us = subject.clock.error_us(system_now()) or 0
    return ok(
        f"engine to receipt p50 {milliseconds(p50_us)}, p99 {milliseconds(p99_us)}, +- {milliseconds(error_us)}, of {count} messages",
        p50_us=p50_us,
        p99_us=p99_us,
        error_us=error_us,
        messages=count,
    )


async def message_age(subject: Subject) -> Finding:
    """Measure how old messages are when they arrive, and the longest time without one."""
    watch = subject.watch
    found = _percentiles(subject, (delay.emitted_us for delay in watch.delays))
    if found is None or watch.last_us is None:
        return skipped("no message had a time of the exchange")
    p50_us, p99_us, count = found
    gap_us = max(watch.longest_gap_us, system_now().mono_us - watch.last_us)
    text = f"p50 {milliseconds(p50_us)}, p99 {milliseconds(p99_us)} old on arrival; at most {milliseconds(gap_us)} without a message"
    figures: dict[str, Figure] = {"p50_us": p50_us, "p99_us": p99_us, "longest_gap_us": gap_us, "messages": count}
    if max(p50_us, gap_us) > STALE_US:
        return failed(f"{text}: books are stale above {STALE_US / 1e6:g} s", **figures)
    if p99_us > LATE_US:
        return warning(f"{text}: data are late", **figures)
    return warning(f"{text}: a long pause", **figures) if gap_us > LATE_US else ok(text, **figures)


async def books_against_rest(subject: Subject) -> Finding:
    """Have each book compared with a fresh snapshot of REST."""
    client, watch = subject.client, subject.watch
    open_markets = [
        market.symbol for symbol in subject.symbols if (market := client.markets[symbol]).order_book_state != "Closed"
    ]
    if not open_markets:
        return skipped("all of these markets are closed")
    until = anyio.current_time() + BOOK_SECONDS
    await watch.until(lambda: all(client.book(symbol).live for symbol in open_markets), BOOK_SECONDS)
    stale = [symbol for symbol in open_markets if not client.book(symbol).live]
    if stale:
        return failed(f"not live within {BOOK_SECONDS:g} s: {_listed(stale)}", **_books(open_markets, agreed=0))
    before = len(watch.said(BookVerified))

    def agreed() -> set[str]:
        return {event.symbol for event in watch.said(BookVerified)[before:] if event.against == "snapshot"}

    def wrong() -> list[str]:
        differing = [f"{event.symbol}: {event.reason}" for event in watch.said(BookDesynced) if event.diverged]
        return [*differing, *(f"{event.symbol}: {event.reason}" for event in watch.said(BookCheckFailed))]

    for symbol in open_markets:
        await client.verify(symbol)
    await watch.until(
        lambda: agreed() >= set(open_markets) or bool(wrong()), max(until - anyio.current_time(), BOOK_SECONDS / 2)
    )
    figures = _books(open_markets, agreed=len(agreed()))
    if wrong():
        return failed(f"a book differs from its snapshot, or could not be compared: {_listed(wrong())}", **figures)
    missing = [symbol for symbol in open_markets if symbol not in agreed()]
    if missing:
        return failed(f"no snapshot has confirmed {_listed(missing)}", **figures)
    return ok(f"{len(open_markets)} of {len(open_markets)} books agree with a fresh snapshot, level by level", **figures)


async def tickers_against_rest(subject: Subject) -> Finding:
    """Compare the ticker of the first market with the one that REST has."""
    client, watch = subject.client, subject.watch
    symbol = client.markets[subject.symbols[0]].symbol
    try:
        answer = await client.get_ticker(symbol)
    except NothingTraded as quiet:
        return skipped(str(quiet))

    def of_market() -> list[Ticker]:
        return [ticker for ticker in watch.tickers if ticker.symbol == symbol]

    if not await watch.until(lambda: bool(of_market()), TICKER_SECONDS):
        return warning(f"the stream ticker.{symbol} has sent nothing within {TICKER_SECONDS:g} s", symbol=symbol)
    await watch.until(lambda: any(_same(ticker, answer) for ticker in of_market()), TICKER_SECONDS / 2)
    figures: dict[str, Figure] = {"symbol": symbol, "stream_tickers": len(of_market())}
    if any(_same(ticker, answer) for ticker in of_market()):
        return ok(f"{symbol}: REST says the same as the stream", **figures)
    latest = of_market()[-1]
    if latest.low <= answer.last_price <= latest.high:
        return ok(f"{symbol}: REST is within the stream's day, and may be {CACHE_SECONDS} s older", **figures)
    return warning(
        f"{symbol}: REST says {answer.last_price}, outside the stream's {latest.low} to {latest.high} of the last day",
        **figures,
    )


def _same(one: Ticker, other: Ticker) -> bool:
    return (one.last_price, one.high, one.low, one.trade_count) == (other.last_price, other.high, other.low, other.trade_count)


def _percentiles(subject: Subject, delays_us: Iterable[int | None]) -> tuple[int, int, int] | None:
    """Return p50, p99 and the number of delays, corrected by the offset of the two clocks."""
    offset_us = subject.clock.offset_us or 0
    known = [delay_us + offset_us for delay_us in delays_us if delay_us is not None]
    delays = Histogram()
    delays.record_all(known)
    p50_us, p99_us = delays.percentile(0.5), delays.percentile(0.99)
    return None if p50_us is None or p99_us is None else (p50_us, p99_us, len(known))


def _books(symbols: list[str], *, agreed: int) -> dict[str, Figure]:
    return {"books": len(symbols), "agreed": agreed}


def _listed(parts: list[str]) -> str:
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return ", ".join(parts[:3]) + more

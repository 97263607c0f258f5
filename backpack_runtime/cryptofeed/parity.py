"""Two feeds side by side on the same exchange, and where they differ: the shadow step of a migration.

Trades are compared by their ids, within the time in which both feeds were delivering. Tops of books at equal update ids, for ccxt
skips most of them. Latency is from the exchange's clock to the callback, of events that both delivered, so it holds the difference of the two
clocks, which is the same for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from statistics import quantiles
from typing import Any

from cryptofeed import FeedHandler
from cryptofeed.defines import L2_BOOK, TRADES
from cryptofeed.exceptions import UnsupportedSymbol

from backpack_proto.errors import LocalProtocolError

from .ccxt.feed import CcxtBackpackFeed
from .criteria import Criterion
from .native.feed import BackpackFeed

__all__ = ["FeedRecord", "Parity", "compare", "run_feeds", "watch_both"]

SETTLING_SECONDS = 1.0
"""Time that the first trade of a feed may come after its first book, and time without a measurement of latency."""

Top = tuple[tuple[Decimal, Decimal] | None, tuple[Decimal, Decimal] | None]
"""Best bid and best ask, price and quantity."""


Trade = tuple[float, Decimal, Decimal, str]
"""Time in seconds since the epoch, price, amount, side."""


@dataclass
class FeedRecord:
    """Deliveries of one feed."""

    trades: dict[tuple[str, str], Trade] = field(default_factory=dict)
    """By symbol and id."""
    tops: dict[tuple[str, int], Top] = field(default_factory=dict)
    """By symbol and update id."""
    book_times: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By symbol: when its first and its latest book were made."""
    first_receipts: dict[str, float] = field(default_factory=dict)
    """By symbol: when the first object came."""
    trade_latencies: dict[tuple[str, str], float] = field(default_factory=dict)
    """By symbol and id."""
    book_latencies: dict[tuple[str, int], float] = field(default_factory=dict)
    """By symbol and update id."""

    async def on_trade(self, trade: Any, receipt: float) -> None:
        """Take a trade."""
        self.trades[trade.symbol, trade.id] = (trade.timestamp, trade.price, trade.amount, trade.side)
        if self._has_settled(trade.symbol, receipt):
            self.trade_latencies[trade.symbol, trade.id] = receipt - trade.timestamp

    async def on_book(self, book: Any, receipt: float) -> None:
        """Take a book."""
        if book.sequence_number is not None:
            bids, asks = book.book.bids, book.book.asks
            self.tops[book.symbol, book.sequence_number] = (
                bids.index(0) if len(bids) else None,
                asks.index(0) if len(asks) else None,
            )
        if book.timestamp is not None:
            first, _ = self.book_times.get(book.symbol, (book.timestamp, 0.0))
            self.book_times[book.symbol] = (first, book.timestamp)
            if book.sequence_number is not None and self._has_settled(book.symbol, receipt):
                self.book_latencies.setdefault((book.symbol, book.sequence_number), receipt - book.timestamp)

    def _has_settled(self, symbol: str, receipt: float) -> bool:
        """Return whether the start of a feed, which has snapshots of its own time, is over for a symbol."""
        return receipt - self.first_receipts.setdefault(symbol, receipt) >= SETTLING_SECONDS

    @property
    def callbacks(self) -> dict[str, Callable[[Any, float], Awaitable[None]]]:
        """For a feed."""
        return {TRADES: self.on_trade, L2_BOOK: self.on_book}


@dataclass(frozen=True)
class Parity:
    """Comparison of two records. Latencies are milliseconds, None where there were too few."""

    trades_matched: int
    trades_different: int
    """The same id with another price, amount or side."""
    trades_only_native: int
    trades_only_ccxt: int
    tops_compared: int
    tops_different: int
    native_books: int
    ccxt_books: int
    latencies_ms: Mapping[str, tuple[float, float] | None]
    """Median and 99th percentile, of the trades and the books that both feeds delivered."""
    book_divergences: int = 0
    """Number of times that the native feed itself found a book wrong."""
    of_native: Sequence[Criterion] = ()
    """The criteria of the runbook for the native feed alone."""

    @property
    def criteria(self) -> Sequence[Criterion]:
        """All criteria of the runbook."""
        alone = self.trades_only_native + self.trades_only_ccxt
        # ccxt looks for no gaps: a book that the native feed has compared with the exchange's own word is right.
        tops = self.tops_different == 0 or self.book_divergences == 0
        found = [
            Criterion("trades matched", str(self.trades_matched), "at least 1", self.trades_matched > 0),
            Criterion("trades of one feed alone", str(alone), "0", alone == 0),
            Criterion("trades that differ", str(self.trades_different), "0", self.trades_different == 0),
            Criterion("tops that differ", str(self.tops_different), "0, or book_divergences 0", tops),
        ]
        for kind in ("trades", "books"):
            native, ccxt = (self.latencies_ms[f"{feed} {kind}"] for feed in ("native", "ccxt"))
            for index, name in enumerate(("p50", "p99")):
                mine, theirs = (None if one is None else one[index] for one in (native, ccxt))
                figure, limit = ("-" if one is None else f"{one:.1f} ms" for one in (mine, theirs))
                met = mine is not None and theirs is not None and mine <= theirs
                found.append(Criterion(f"latency of {kind}, {name}", figure, f"at most ccxt's {limit}", met))
        return [*found, *self.of_native]

    @property
    def agree(self) -> bool:
        """Both feeds delivered, and no difference was found."""
        differences = self.trades_different + self.trades_only_native + self.trades_only_ccxt + self.tops_different
        return differences == 0 and self.trades_matched > 0 and self.tops_compared > 0


def compare(native: FeedRecord, ccxt: FeedRecord) -> Parity:
    """Compare the deliveries of two feeds of the same markets."""
    common = {symbol: _common_time(native, ccxt, symbol) for symbol, _ in native.trades.keys() | ccxt.trades.keys()}
    mine, theirs = (_within(record, common) for record in (native, ccxt))
    both = mine.keys() & theirs.keys()
    # ccxt has whole milliseconds, so the times are not compared.
    different = sum(mine[key][1:] != theirs[key][1:] for key in both)
    tops = native.tops.keys() & ccxt.tops.keys()
    return Parity(
        trades_matched=len(both) - different,
        trades_different=different,
        trades_only_native=len(mine.keys() - both),
        trades_only_ccxt=len(theirs.keys() - both),
        tops_compared=len(tops),
        tops_different=sum(native.tops[key] != ccxt.tops[key] for key in tops),
        native_books=len(native.tops),
        ccxt_books=len(ccxt.tops),
        latencies_ms={
            "native trades": _percentiles(native.trade_latencies, ccxt.trade_latencies),
            "ccxt trades": _percentiles(ccxt.trade_latencies, native.trade_latencies),
            "native books": _percentiles(native.book_latencies, ccxt.book_latencies),
            "ccxt books": _percentiles(ccxt.book_latencies, native.book_latencies),
        },
    )


def _within(record: FeedRecord, common: Mapping[str, tuple[float, float]]) -> dict[tuple[str, str], Trade]:
    return {key: trade for key, trade in record.trades.items() if common[key[0]][0] <= trade[0] <= common[key[0]][1]}


def _common_time(native: FeedRecord, ccxt: FeedRecord, symbol: str) -> tuple[float, float]:
    """From the later first trade to the earlier last one. A millisecond less at both ends, for ccxt cuts off the microseconds."""
    times = [[trade[0] for (name, _), trade in record.trades.items() if name == symbol] for record in (native, ccxt)]
    margin = 0.001
    if not all(times):
        # One feed has seen no trade at all. Its books tell when it was there, and trades may have come a little later.
        times = [list(record.book_times.get(symbol, ())) for record in (native, ccxt)]
        margin = SETTLING_SECONDS
    if not all(times):
        return (0.0, float("inf"))
    return (max(min(one) for one in times) + margin, min(max(one) for one in times) - margin)


def _percentiles(latencies: Mapping[Any, float], others: Mapping[Any, float]) -> tuple[float, float] | None:
    """Of events that both feeds delivered: ccxt skips most books while many come at once, when all are late."""
    seconds = [latency for key, latency in latencies.items() if key in others]
    if len(seconds) < 2:
        return None
    cuts = quantiles(seconds, n=100)
    return (cuts[49] * 1e3, cuts[98] * 1e3)


async def watch_both(config: Any, symbols: Sequence[str], seconds: float) -> Parity:
    """Run both feeds for so long, in this process and on the same exchange, and compare their deliveries.

    Raises:
        MissingExtra: ccxt is not installed.
        LocalProtocolError: a symbol is not one of the exchange's, or the configuration is impossible.
        BackpackError: the markets could not be had.
    """
    native, ccxt = FeedRecord(), FeedRecord()
    common: dict[str, Any] = {"symbols": list(symbols), "channels": [TRADES, L2_BOOK]}
    refused: list[Exception] = []
    try:
        feed = BackpackFeed(config, callbacks=native.callbacks, **common)
        await run_feeds([feed, CcxtBackpackFeed(config, callbacks=ccxt.callbacks, snapshot_interval=0, **common)], seconds)
        # The end of the feed is not a reconnect.
        divergences = feed.metrics_snapshot()["book_divergences"]
        return replace(compare(native, ccxt), book_divergences=divergences, of_native=feed.criteria())
    except* (UnsupportedSymbol, ValueError) as group:
        # cryptofeed 2 raises them in the constructor, cryptofeed 3 in a group when it runs the feed.
        refused += _leaves(group)
    raise LocalProtocolError(str(refused[0]))


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def run_feeds(feeds: Sequence[Any], seconds: float) -> None:
    """Run feeds in the running loop for so long, in whichever way this version of cryptofeed runs them."""
    handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True, "filename": "", "level": "WARNING"}})
    for feed in feeds:
        handler.add_feed(feed)
    if hasattr(handler, "run_async"):
        asyncio.get_running_loop().call_later(seconds, handler.request_stop)
        await handler.run_async(install_signal_handlers=False)
        return
    handler.run(start_loop=False, install_signal_handlers=False)
    try:
        await asyncio.sleep(seconds)
    finally:
        await handler.stop_async()

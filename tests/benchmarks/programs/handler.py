"""`message_handler` of a feed of cryptofeed: variant `backpack` for ours, `binance` for cryptofeed's own. No socket, no TLS, no backend."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from time import process_time_ns, time
from typing import Any

from cryptofeed.exchanges import Binance
from cryptofeed.feed import Feed
from cryptofeed.symbols import Symbols

from backpack_runtime.cryptofeed import BackpackFeed
from tests.benchmarks.frames import SYMBOL, Tape, in_binances_words, record
from tests.benchmarks.markets import list_of_markets

from .metering import Options, load_options, report

NAME = "SOL-USDC"
BINANCE_NAME = "SOLUSDC"
CONNECTED_SECONDS = 0.05


class Answers:
    """An HTTP connection to an exchange with one book."""

    def __init__(self, book: dict[str, Any]) -> None:
        self._book = json.dumps(book)

    async def read(self, address: str, **_options: object) -> str:
        """Return the book, or the time."""
        if "/depth" in address:
            return self._book
        return str(_now_us() // 1000) if "/time" in address else "[]"


class Callbacks:
    """A user who counts everything and, if he wants to, looks at the best bid and ask."""

    def __init__(self, *, top: bool) -> None:
        self.count = 0
        self.book: Any = None
        self._top = top

    def all(self) -> dict[str, Any]:
        """Return the callbacks by channel."""
        return {"l2_book": self.take_book, "trades": self.take, "ticker": self.take}

    async def take(self, _found: Any, _receipt: float) -> None:
        """Count."""
        self.count += 1

    async def take_book(self, found: Any, _receipt: float) -> None:
        """Count, and look."""
        self.count += 1
        self.book = found.book
        if self._top:
            _ = self.book.bids.index(0), self.book.asks.index(0)


async def backpack(tape: Tape, callbacks: Callbacks) -> tuple[Any, Any]:
    """Return our feed, with a connection that is subscribed."""
    Symbols.set("BACKPACK", *BackpackFeed._parse_symbol_data(json.loads(list_of_markets(tape.symbols))))
    feed: Any = BackpackFeed(symbols=[NAME], channels=list(callbacks.all()), callbacks=callbacks.all())
    await _resolve_names(feed)
    feed.http_conn = Answers(json.loads(tape.snapshots[SYMBOL].body(_now_us())))
    conn = feed.connect()[0][0]
    await feed.subscribe(conn)
    await asyncio.sleep(CONNECTED_SECONDS)
    return feed, conn


async def binance(tape: Tape, callbacks: Callbacks) -> tuple[Any, Any]:
    """Return cryptofeed's feed, which asks for the snapshot at the first frame."""
    Symbols.set("BINANCE", {NAME: BINANCE_NAME}, {"tick_size": {}, "instrument_type": {NAME: "spot"}})
    feed: Any = Binance(symbols=[NAME], channels=list(callbacks.all()), callbacks=callbacks.all())
    await _resolve_names(feed)
    snapshot = tape.snapshots[SYMBOL]
    feed.http_conn = Answers(json.loads(snapshot.body(0)) | {"lastUpdateId": snapshot.last})
    return feed, None


async def _resolve_names(feed: Any) -> None:
    """Do what cryptofeed 3 does when it runs a feed, and cryptofeed 2 in the constructor."""
    if hasattr(Feed, "_setup"):
        await feed._setup()


def _now_us() -> int:
    return int(time() * 1_000_000)


async def main(options: Options) -> None:
    tape = record(options.frames)
    callbacks = Callbacks(top=options.top)
    feed, conn = await (backpack if options.variant == "backpack" else binance)(tape, callbacks)
    words = tape if options.variant == "backpack" else in_binances_words(tape)
    handle = feed.message_handler
    for message in words.warm[SYMBOL]:
        await handle(message.at(_now_us()).decode(), conn, time())
        await asyncio.sleep(0)
    await asyncio.sleep(CONNECTED_SECONDS)
    callbacks.count = 0
    frames = [message.at(_now_us()).decode() for message in words.measured]
    gc.collect()
    began = process_time_ns()
    for frame in frames:
        await handle(frame, conn, time())
    spent = process_time_ns() - began
    found = callbacks.book.bids.index(0)[0], callbacks.book.asks.index(0)[0]
    assert tuple(map(float, found)) == tuple(map(float, tape.finals[SYMBOL].top)), f"the book is wrong: {found}"
    report(done=True, events=callbacks.count, us_a_frame=spent / 1000 / options.frames)


if __name__ == "__main__":
    logging.disable()
    asyncio.run(main(load_options()))

"""`BackpackClient` in one of its runtimes: variant `asyncio`, `trio` or `aiohttp`. Events are fetched one by one, in batches or by callback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from time import time_ns

import anyio

from backpack_proto import BookChanged, BookSynced, BookTicker, Trade
from backpack_proto.streams.payloads import Event
from backpack_runtime import BackpackClient, Settings

from .kernels import check_kernels
from .metering import END_TRADE, MARK_TRADE, Meter, Options, load_options


class Consumer:
    """A user of the client. What it does with an event is the same for all ways to fetch."""

    def __init__(self, options: Options, client: BackpackClient) -> None:
        self._options = options
        self._client = client
        self._meter = Meter(options)
        self._measuring = False
        self._warm = False
        self._count = 0

    async def iterate(self, events: AsyncIterator[Event]) -> None:
        """Take events one by one. The second loop is `take_all` once more: a call of it would be measured as well."""
        async for event in events:
            if self._take_before(event):
                break
        top, late, count = self._options.top, self._meter.late_us, 0
        async for event in events:
            kind = type(event)
            if kind is BookChanged:
                count += 1
                if top:
                    _ = event.bids[0], event.asks[0]  # type: ignore[attr-defined]  # by its kind
            elif kind is Trade:
                if event.trade_id == END_TRADE:  # type: ignore[attr-defined]  # by its kind
                    self._end(count)
                    return
                count += 1
            elif kind is BookTicker:
                count += 1
            else:
                continue
            if late is not None:
                late.append(time_ns() // 1000 - event.engine_us)  # type: ignore[attr-defined]  # by its kind

    def take_all(self, events: Sequence[Event]) -> None:
        """Take the events of one read."""
        if not self._measuring:
            # The mark comes alone: no read has events of both sides of it.
            for event in events:
                self._measuring |= self._take_before(event)
            return
        top, late, count = self._options.top, self._meter.late_us, self._count
        for event in events:
            kind = type(event)
            if kind is BookChanged:
                count += 1
                if top:
                    _ = event.bids[0], event.asks[0]  # type: ignore[attr-defined]  # by its kind
            elif kind is Trade:
                if event.trade_id == END_TRADE:  # type: ignore[attr-defined]  # by its kind
                    self._end(count)
                    return
                count += 1
            elif kind is BookTicker:
                count += 1
            else:
                continue
            if late is not None:
                late.append(time_ns() // 1000 - event.engine_us)  # type: ignore[attr-defined]  # by its kind
        self._count = count

    def _take_before(self, event: Event) -> bool:
        """Wait for all books and then for the mark. Return whether it has come."""
        if isinstance(event, BookSynced | BookChanged):
            self._warm = self._meter.warm(event.symbol, event.last)
        elif isinstance(event, Trade) and event.trade_id == MARK_TRADE:
            self._meter.mark()
            return True
        if self._warm and not self._meter.ready and all(self._client.book(symbol).live for symbol in self._options.symbols):
            self._meter.report_ready()
        return False

    def _end(self, count: int) -> None:
        self._meter.events = count
        self._meter.end(lambda: {symbol: self._top(symbol) for symbol in self._options.symbols})

    def _top(self, symbol: str) -> tuple[object, object]:
        book = self._client.book(symbol)
        assert book.best_bid is not None
        assert book.best_ask is not None
        return book.best_bid.price, book.best_ask.price


async def main(options: Options) -> None:
    check_kernels(options)
    consumers: list[Consumer] = []
    settings = Settings(
        rest_url=options.url("http"),
        ws_url=options.url("ws"),
        ca_file=options.ca_file,
        runtime="aiohttp" if options.variant == "aiohttp" else "anyio",
        compression=options.compression,
    )
    client = BackpackClient(
        options.symbols,
        channels=["book", "trades", "book_ticker"],
        settings=settings,
        book_levels=options.levels,
        slow_consumer="block",
        on_event=(lambda event: consumers[0].take_all((event,))) if options.fetch == "callback" else None,
    )
    consumers.append(Consumer(options, client))
    async with client:
        if options.fetch == "callback":
            await anyio.sleep_forever()
        elif options.fetch == "batches":
            async for events in client.batches():
                consumers[0].take_all(events)
        else:
            await consumers[0].iterate(aiter(client))
            await anyio.sleep_forever()


if __name__ == "__main__":
    chosen = load_options()
    anyio.run(main, chosen, backend="trio" if chosen.variant == "trio" else "asyncio")

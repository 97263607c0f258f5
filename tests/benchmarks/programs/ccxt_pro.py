"""ccxt.pro's own Backpack class. Its watchers show the newest state and skip others, so its handler of messages counts."""

from __future__ import annotations

import asyncio
from typing import Any

import ccxt.pro

from .metering import END_TRADE, MARK_TRADE, SYMBOL, Meter, Options, load_options, now_us

NAME = "SOL/USDC"


class Exchange(ccxt.pro.backpack):  # type: ignore[misc]  # ccxt has no types
    """The class as it is, but that it counts."""

    meter: Meter
    newest_us = 0
    """Time in the newest frame of the book."""

    def handle_message(self, client: Any, message: Any) -> Any:
        """Handle a message, and count it."""
        result = super().handle_message(client, message)
        data = message["data"]
        self.meter.events += 1
        if data["e"] == "depth":
            self.newest_us = data["T"]
        elif data["e"] == "trade" and data["t"] <= END_TRADE:
            if data["t"] == MARK_TRADE:
                self.meter.mark()
            else:
                self.meter.events -= 1
                self.meter.end(self._tops)
        return result

    def _tops(self) -> dict[str, tuple[str, str]]:
        book = self.orderbooks[NAME]
        book.limit()
        return {SYMBOL: (f"{book['bids'][0][0]:.2f}", f"{book['asks'][0][0]:.2f}")}


async def main(options: Options) -> None:
    exchange = Exchange({"enableRateLimit": False})
    exchange.meter = Meter(options)
    http, ws = options.url("http"), options.url("ws")
    exchange.urls["api"] = {"public": http, "private": http, "ws": {"public": ws, "private": ws}}
    await exchange.load_markets()

    async def watch_book() -> None:
        meter = exchange.meter
        while True:
            book = await exchange.watch_order_book(NAME)
            if options.top:
                _ = book["bids"][0], book["asks"][0]
            if meter.late_us is not None:
                meter.late_us.append(now_us() - exchange.newest_us)
            if not meter.ready and meter.warm(SYMBOL, book["nonce"] or 0):
                meter.report_ready()

    async def watch_trades() -> None:
        while True:
            await exchange.watch_trades(NAME)

    async def watch_best() -> None:
        while True:
            await exchange.watch_bids_asks([NAME])

    await asyncio.gather(watch_book(), watch_trades(), watch_best())


if __name__ == "__main__":
    asyncio.run(main(load_options()))

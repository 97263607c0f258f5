"""A client as one writes it in an hour: websockets, msgspec, and a dict for each side of the book."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

from websockets.asyncio.client import connect

from .metering import END_TRADE, SYMBOL, Meter, Options, load_options, now_us
from .typed import Depth, Trade, decode


async def main(options: Options) -> None:
    meter = Meter(options)
    late, top = meter.late_us, options.top
    async with connect(options.url("ws"), compression=None, max_queue=None) as websocket:
        streams = [f"{kind}.{SYMBOL}" for kind in ("depth", "trade", "bookTicker")]
        await websocket.send(json.dumps({"method": "SUBSCRIBE", "params": streams}))
        snapshot = await asyncio.to_thread(fetch, f"{options.url('http')}/api/v1/depth?symbol={SYMBOL}&limit=1000")
        bids, asks = dict(snapshot["bids"]), dict(snapshot["asks"])
        last = int(snapshot["lastUpdateId"])
        count = 0
        while True:
            found = decode(await websocket.recv(decode=False)).data
            count += 1
            if type(found) is Depth:
                if last + 1 < found.U:
                    raise RuntimeError(f"updates between {last} and {found.U} are missing")
                last = found.u
                for side, levels in ((bids, found.b), (asks, found.a)):
                    for price, quantity in levels:
                        if float(quantity):
                            side[price] = quantity
                        else:
                            side.pop(price, None)
                if top:
                    max(bids, key=float), min(asks, key=float)
                if not meter.ready and meter.warm(found.s, last):
                    meter.report_ready()
            elif type(found) is Trade and found.t <= END_TRADE:
                if found.t == END_TRADE:
                    break
                meter.mark()
                count = 0
                continue
            if late is not None:
                late.append(now_us() - found.T)
        meter.events = count - 1
        meter.end(lambda: {SYMBOL: (max(bids, key=float), min(asks, key=float))})


def fetch(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url) as response:  # noqa: S310 - a server on this machine
        content: dict[str, Any] = json.load(response)
        return content


if __name__ == "__main__":
    asyncio.run(main(load_options()))

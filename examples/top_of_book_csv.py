"""Write the best bid and ask as CSV whenever they change, live books only: `python examples/top_of_book_csv.py > tops.csv`."""

import csv
import sys

import anyio

from backpack_proto import BookChanged
from backpack_runtime import BackpackClient

ROWS = 20


async def main() -> None:
    table = csv.writer(sys.stdout)
    table.writerow(["engine_us", "symbol", "bid", "bid_quantity", "ask", "ask_quantity"])
    last, rows = None, 0
    async with BackpackClient(["SOL_USDC"], channels=["book"], slow_consumer="block", sandbox=True) as client:
        async for event in client:
            if not isinstance(event, BookChanged) or not client.book(event.symbol).live or not (event.bids and event.asks):
                continue
            top = (event.bids[0], event.asks[0])
            if top != last:
                (bid, ask), last = top, top
                table.writerow([event.engine_us, event.symbol, bid.price, bid.quantity, ask.price, ask.quantity])
                rows += 1
            if rows == ROWS:
                return


anyio.run(main)

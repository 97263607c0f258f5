"""Print the best bid and ask of two markets until each has changed five times: `python examples/top_of_book.py`."""

from collections import Counter

import anyio

from backpack_proto import BookChanged, BookDesynced
from backpack_runtime import BackpackClient

CHANGES = 5


async def main() -> None:
    seen: Counter[str] = Counter()
    async with BackpackClient(["SOL_USDC", "BTC_USDC_PERP"], channels=["book"], sandbox=True) as client:
        async for event in client:
            match event:
                case BookChanged(symbol=symbol, verified=verified):
                    book = client.book(symbol)
                    bids, asks = book.bids(1), book.asks(1)
                    if bids and asks:
                        print(symbol, bids[0].price, asks[0].price, "verified" if verified else "live")
                        seen[symbol] += 1
                case BookDesynced(symbol=symbol, reason=reason):
                    print(symbol, "is stale:", reason)
            if len(seen) == 2 and min(seen.values()) >= CHANGES:
                return


anyio.run(main)

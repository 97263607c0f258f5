"""Best bid and ask of every open market, new listings included: `python examples/all_tops.py`."""

import anyio

from backpack_proto import BookTicker
from backpack_runtime import BackpackClient


async def main() -> None:
    tops: dict[str, BookTicker] = {}
    async with BackpackClient("all", channels=["bookTicker"], sandbox=True) as client:
        wanted = sum(market.order_book_state == "Open" for market in client.markets.values())
        async for events in client.batches():
            tops |= {event.symbol: event for event in events if isinstance(event, BookTicker)}
            if len(tops) >= wanted:
                break
    for symbol, top in sorted(tops.items()):
        print(f"{symbol:24} {top.bid_price} / {top.ask_price}")


anyio.run(main)

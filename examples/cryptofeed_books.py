"""Print ten states of a book by cryptofeed (extra `cryptofeed`): `python examples/cryptofeed_books.py`."""

import signal
from typing import Any

from cryptofeed import FeedHandler
from cryptofeed.exchanges.backpack import BackpackConfig, BackpackFeed

STATES = 10
seen = 0


async def on_book(book: Any, receipt_timestamp: float) -> None:
    global seen  # noqa: PLW0603 - cryptofeed's callbacks are functions
    bid, ask = book.book.bids.index(0)[0], book.book.asks.index(0)[0]
    print(f"{receipt_timestamp:.3f}", book.symbol, book.sequence_number, bid, ask)
    seen += 1
    if seen == STATES:
        signal.raise_signal(signal.SIGINT)


feed = BackpackFeed(
    config=BackpackConfig(use_sandbox=True), symbols=["SOL-USDC"], channels=["l2_book"], callbacks={"l2_book": on_book}
)
handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True}})
handler.add_feed(feed)
handler.run()

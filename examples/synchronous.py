"""No event loop: calls, books and events in a plain program."""

from __future__ import annotations

from backpack_proto import BookChanged, NewOrder
from backpack_runtime import BackpackSync

with BackpackSync(["SOL_USDC"], channels=["book"], sandbox=True, follow_account=True) as client:
    for event in client:
        if isinstance(event, BookChanged) and event.verified:
            break
    book = client.book("SOL_USDC")
    print("best bid", book.best_bid, "best ask", book.best_ask, "live" if book.live else "stale")
    order = client.place(NewOrder.limit("SOL_USDC", "Bid", price="1.00", quantity="0.10"))
    print("placed", order.order_id, "and cancelled", client.cancel_order("SOL_USDC", order_id=order.order_id) is not None)

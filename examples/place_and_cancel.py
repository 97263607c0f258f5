"""Place an order that risks one hundredth of the buying power, look at it, and cancel it: `python examples/place_and_cancel.py`."""

from decimal import Decimal

import anyio

from backpack_proto import ApiError, NewOrder, NotSent, OrderDoesNotFit, OutcomeUnknown
from backpack_runtime import BackpackClient

SYMBOL = "SOL_USDC"
RISK = Decimal("0.01")


async def main() -> None:
    async with BackpackClient(sandbox=True, follow_account=True) as client:
        depth = await client.get_depth(SYMBOL, limit=5)
        price = client.markets[SYMBOL].round_price(depth.bids[0].price * Decimal("0.98"), side="Bid")
        while not client.account.live or client.account.buying_power is None:
            await anext(client)
        quantity = client.markets[SYMBOL].round_quantity(client.account.buying_power * RISK / price)
        print("risking", price * quantity, "of", client.account.buying_power)
        try:
            order = await client.place(NewOrder.limit(SYMBOL, "Bid", price=price, quantity=quantity, post_only=True))
        except OrderDoesNotFit as error:
            print("not sent:", error)
        except ApiError as refused:
            print("refused:", refused.code, refused.message)
        except NotSent as error:
            print("the exchange has not seen it:", error)
        except OutcomeUnknown as unknown:
            print("look for the order", unknown.client_id)
        else:
            print("placed", order.order_id, order.state, "at", order.price)
            print("open:", [one.order_id for one in await client.get_open_orders(SYMBOL)])
            await client.cancel_order(SYMBOL, order_id=order.order_id)
            print("open:", await client.get_open_orders(SYMBOL))


anyio.run(main)

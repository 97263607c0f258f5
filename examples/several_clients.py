"""Two accounts of one exchange, a client for each: one makes a market, the other takes it: `python examples/several_clients.py`."""

import anyio

from backpack_proto import Credentials, Filled, NewOrder, Signer
from backpack_runtime import BackpackClient, serve_sandbox

SYMBOL = "SOL_USDC"


async def main() -> None:
    async with serve_sandbox(accounts=2) as sandbox:
        signers = [Signer(Credentials(account.secret)) for account in sandbox.accounts]
        maker = BackpackClient(settings=sandbox.settings, signer=signers[0], follow_account=True, cancel_on_exit="mine")
        taker = BackpackClient(settings=sandbox.settings, signer=signers[1])
        async with maker, taker:
            best_ask = (await maker.get_depth(SYMBOL, limit=5)).asks[0].price
            tick = maker.markets[SYMBOL].tick_size
            offer = await maker.place(NewOrder.limit(SYMBOL, "Ask", price=best_ask - tick, quantity="0.5", post_only=True))
            await taker.place_and_wait(NewOrder.market(SYMBOL, "Bid", quantity="0.5"))
            async for event in maker:
                if isinstance(event, Filled) and event.fill.order_id == offer.order_id:
                    print("sold", event.fill.quantity, "at", event.fill.price, "as the maker:", event.fill.maker)
                    return


anyio.run(main)

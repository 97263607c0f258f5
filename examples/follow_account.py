"""Follow an account of the sandbox while an order is filled: `python examples/follow_account.py`."""

import anyio

from backpack_proto import AccountStale, AccountSynced, BalanceChanged, Filled, NewOrder, OrderChanged
from backpack_runtime import BackpackClient


async def main() -> None:
    async with BackpackClient(sandbox=True, follow_account=True) as client:
        async for event in client:
            match event:
                case AccountSynced(orders=orders):
                    print("synced,", orders, "open orders; SOL:", client.account.balances["SOL"].available)
                    await client.place(NewOrder.market("SOL_USDC", "Bid", quantity="0.50"))
                case AccountStale(reason=reason):
                    print("stale:", reason)
                case Filled(fill=fill, origin=origin):
                    print("bought", fill.quantity, "at", fill.price, "says the", origin)
                case BalanceChanged(balance=balance):
                    print(balance.asset, balance.available)
                case OrderChanged(order=order) if not order.open:
                    print("the order is", order.state)
                    return


anyio.run(main)

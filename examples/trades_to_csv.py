"""Write twenty trades as CSV to standard output: `python examples/trades_to_csv.py > trades.csv`."""

import csv
import sys

import anyio

from backpack_proto import Trade
from backpack_runtime import BackpackClient

TRADES = 20


async def main() -> None:
    table = csv.writer(sys.stdout)
    table.writerow(["engine_us", "symbol", "price", "quantity", "aggressor"])
    left = TRADES
    # An export wants every trade, late rather than never.
    async with BackpackClient(["SOL_USDC", "BTC_USDC"], channels=["trades"], slow_consumer="block", sandbox=True) as client:
        async for event in client:
            if isinstance(event, Trade):
                aggressor = "sell" if event.buyer_is_maker else "buy"
                table.writerow([event.engine_us, event.symbol, event.price, event.quantity, aggressor])
                left -= 1
            if not left:
                return


anyio.run(main)

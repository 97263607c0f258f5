"""Say when somebody is liquidated for more than a threshold, on any market: `python examples/liquidation_alert.py`."""

from decimal import Decimal

import anyio

from backpack_proto import ConnectionDown, Liquidation
from backpack_runtime import BackpackClient

LEAST = Decimal(1)
ALERTS = 1


async def main() -> None:
    alerts = 0
    async with BackpackClient(channels=["liquidations"], sandbox=True) as client:
        async for event in client:
            match event:
                case Liquidation() if event.price * event.quantity >= LEAST:
                    print(f"{event.symbol}: {event.quantity} at {event.price}, {event.price * event.quantity:.2f} in all")
                    alerts += 1
                case ConnectionDown(reason=reason):
                    # The stream has no history: what happens meanwhile is not heard of.
                    print("blind until the connection is back:", reason)
            if alerts >= ALERTS:
                return


anyio.run(main)

"""Funding of all perpetuals, the most expensive for longs first: `python examples/funding.py`."""

from decimal import Decimal

import anyio

from backpack_runtime import BackpackClient

YEAR_MS = 365 * 86_400_000


async def main() -> None:
    async with BackpackClient(sandbox=True, streams=False) as client:
        rows = []
        for price in await client.get_mark_prices():
            market = client.markets[price.symbol]
            if price.funding_rate is not None and market.funding_interval_ms:
                # A rate is of one interval, which is the market's own.
                yearly = price.funding_rate * Decimal(YEAR_MS) / market.funding_interval_ms
                rows.append((yearly, price.symbol, price.funding_rate))
    for yearly, symbol, rate in sorted(rows, reverse=True):
        print(f"{symbol:24} {rate:+.7f} an interval {yearly:+8.2%} a year")


anyio.run(main)

"""Candles: those of the last ten seconds, then each as it closes. Without a hole, whatever happens to the connection."""

from __future__ import annotations

import anyio

from backpack_proto import CandleGap
from backpack_runtime import BackpackClient


async def main() -> None:
    async with BackpackClient(sandbox=True) as client:
        start_s = (await client.get_time()).server_us // 1_000_000 - 10
        count = 0
        async for candle in client.candles("SOL_USDC", "1s", start_s=start_s):
            if isinstance(candle, CandleGap):
                print("missing from", candle.from_us, "to", candle.until_us, candle.reason)
            elif candle.closed:
                print(candle.start_us // 1_000_000, candle.open, candle.high, candle.low, candle.close, candle.volume)
                count += 1
            if count == 12:
                return


anyio.run(main)

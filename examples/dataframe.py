"""A day of candles as a pandas DataFrame, exact decimals in it: `python examples/dataframe.py` (pandas)."""

import anyio
import pandas as pd

from backpack_runtime import BackpackClient

DAY_S = 86_400


async def main() -> None:
    # Calls only: no connection for streams is made.
    async with BackpackClient(sandbox=True, streams=False) as client:
        now_s = (await client.get_time()).server_us // 1_000_000
        candles = await client.get_klines("SOL_USDC", "1h", start_s=now_s - DAY_S)
    frame = pd.DataFrame([candle.to_dict() for candle in candles])
    frame.index = pd.to_datetime(frame["start_us"], unit="us", utc=True)
    print(frame[["open", "high", "low", "close", "volume"]].tail())
    print("traded:", frame["volume"].sum())


anyio.run(main)

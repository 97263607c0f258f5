"""Record the sandbox for some seconds, export it to Parquet, and read it with pandas: `python examples/export_parquet.py` (pandas, extra parquet)."""

from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pandas as pd

from backpack_runtime import BackpackClient, Recorder, export_events, open_recording

SECONDS = 5


async def record(path: Path) -> None:
    client = BackpackClient(["SOL_USDC"], channels=["book", "trades"], sandbox=True)
    async with Recorder(client, path), client:
        await anyio.sleep(SECONDS)


with TemporaryDirectory() as name:
    folder = Path(name)
    anyio.run(record, folder / "session.jsonl")
    with open_recording(folder / "session.jsonl") as recording:
        made = export_events(recording.events(), folder, to="parquet", source="session.jsonl")
    for file in made.files:
        print(f"{file.rows:>6} rows of {file.table}")
    trades = pd.read_parquet(folder / "trades.parquet")
    print(trades[["timestamp", "side", "price", "amount"]].tail())
    print("latency:", (trades["local_timestamp"] - trades["timestamp"]).median())

"""Notebook style: each cell is a task of its own, and one client lives through all of them."""

from __future__ import annotations

import asyncio

from backpack_proto import BookChanged
from backpack_runtime import BackpackClient

client = BackpackClient(["SOL_USDC"], channels=["book"], sandbox=True)


async def first_cell() -> None:
    await client.start()


async def second_cell() -> None:
    async for event in client:
        if isinstance(event, BookChanged) and event.verified:
            print(event.symbol, event.bids[0], event.asks[0])
            return


async def last_cell() -> None:
    await client.aclose()


with asyncio.Runner() as notebook:
    for cell in (first_cell, second_cell, last_cell):
        notebook.run(cell())

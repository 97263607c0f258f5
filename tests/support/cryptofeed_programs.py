"""Programs of cryptofeed in the loop of a test, whichever of its lines is installed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["running"]


@asynccontextmanager
async def running(handler: Any, *, stop_seconds: float = 10.0) -> AsyncIterator[None]:
    """Run a FeedHandler for as long as the block lasts. That it stops in time is a part of every test."""
    if hasattr(handler, "run_async"):
        program = asyncio.create_task(handler.run_async(install_signal_handlers=False))
        try:
            yield
        finally:
            handler.request_stop()
            async with asyncio.timeout(stop_seconds):
                await program
        return
    before = asyncio.all_tasks()
    handler.run(start_loop=False, install_signal_handlers=False)
    try:
        yield
    finally:
        async with asyncio.timeout(stop_seconds):
            await handler.stop_async()
        # Cryptofeed 2 waits neither for its tasks nor for the end of TLS.
        if others := asyncio.all_tasks() - before:
            await asyncio.wait(others, timeout=2)
        await asyncio.sleep(0.1)

"""What integration tests share: programs of cryptofeed, whichever of its lines is installed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

STOP_SECONDS = 5.0


@pytest.fixture
def running() -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Runs a FeedHandler for as long as a block lasts; that it stops in time is a part of every test."""
    return _running


@asynccontextmanager
async def _running(handler: Any) -> AsyncIterator[None]:
    if hasattr(handler, "run_async"):
        program = asyncio.create_task(handler.run_async(install_signal_handlers=False))
        try:
            yield
        finally:
            handler.request_stop()
            async with asyncio.timeout(STOP_SECONDS):
                await program
        return
    handler.run(start_loop=False, install_signal_handlers=False)
    try:
        yield
    finally:
        async with asyncio.timeout(STOP_SECONDS):
            await handler.stop_async()

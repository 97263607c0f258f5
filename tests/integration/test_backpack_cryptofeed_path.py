"""The feed for cryptofeed and an exchange behind a gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed import FeedHandler
from cryptofeed.symbols import Symbols

from backpack_runtime.cryptofeed import BackpackFeed
from backpack_runtime.cryptofeed.markets import loading
from backpack_runtime.sandbox import serve_sandbox
from cryptofeed_programs import running
from gateway import BASE, Gateway

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 20.0


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


async def test_markets_and_snapshots_are_asked_for_below_the_path_of_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(loading, "_origin", [])
    Symbols.data.pop("BACKPACK", None)
    seen = asyncio.Event()

    async def on_book(_book: Any, _receipt: float) -> None:
        seen.set()

    try:
        async with serve_sandbox() as sandbox:
            gateway = Gateway(sandbox, monkeypatch)
            config = {"use_sandbox": True, "sandbox_url": f"{sandbox.rest_url}{BASE}"}
            wanted: dict[str, Any] = {"symbols": ["SOL-USDC"], "channels": ["l2_book"], "callbacks": {"l2_book": on_book}}
            handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True, "filename": "", "level": "WARNING"}})
            # cryptofeed 2 loads the markets in the constructor, and blocks.
            handler.add_feed(await asyncio.to_thread(lambda: BackpackFeed(config, **wanted)))
            async with running(handler), asyncio.timeout(PATIENCE_SECONDS):
                await seen.wait()
    finally:
        Symbols.data.pop("BACKPACK", None)
    asked = {target.partition("?")[0] for target in gateway.targets}
    # The exchange's time tells how late data are.
    assert asked == {f"{BASE}/api/v1/markets", f"{BASE}/api/v1/depth", f"{BASE}/api/v1/time"}

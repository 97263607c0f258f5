"""Nothing is left behind by a feed that was stopped, and Python has nothing to say of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from cryptofeed import FeedHandler

from backpack_runtime.cryptofeed import BackpackFeed, CcxtBackpackFeed
from backpack_runtime.cryptofeed.local_sandbox import LocalSandbox
from cryptofeed_sandbox import HANDLER, own_registries

PATIENCE_SECONDS = 30


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_registries(tmp_path, monkeypatch):
        yield


async def run_and_stop(feed: Any, heard: asyncio.Event, sandbox: LocalSandbox, *, is_away: bool) -> set[asyncio.Task[Any]]:
    """Run a feed until something came, stop it, and return the tasks that are left."""

    async def meanwhile() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await heard.wait()
            if is_away:
                await asyncio.to_thread(sandbox.close)
                while feed.health().healthy:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)

    handler = FeedHandler(config=HANDLER)
    handler.add_feed(feed)
    if hasattr(handler, "run_async"):
        program = asyncio.create_task(handler.run_async(install_signal_handlers=False))
        await meanwhile()
        handler.request_stop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await program
    else:
        handler.run(start_loop=False, install_signal_handlers=False)
        await meanwhile()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await handler.stop_async()
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize(
    ("is_native", "is_away"), [(True, False), (True, True), (False, False)], ids=["native", "exchange away", "ccxt"]
)
def test_a_feed_that_is_watched_by_cryptofeed_leaves_no_task(
    is_native: bool,  # noqa: FBT001
    is_away: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    if not is_native:
        pytest.importorskip("ccxt", reason="ccxt is not installed")
    sandbox = LocalSandbox()
    heard = asyncio.Event()

    async def take(_found: Any, _receipt: float) -> None:
        heard.set()

    chosen: Any = BackpackFeed if is_native else CcxtBackpackFeed
    # The time-out has cryptofeed 2 start a task that sleeps for as long as the interval.
    feed = chosen(
        {"use_sandbox": True, "sandbox_url": sandbox.rest_url},
        symbols=["SOL-USDC"],
        channels=["l2_book"],
        callbacks={"l2_book": take},
        timeout=60,
        timeout_interval=60,
    )
    loop = asyncio.new_event_loop()
    try:
        left = loop.run_until_complete(run_and_stop(feed, heard, sandbox, is_away=is_away))
    finally:
        loop.close()
        sandbox.close()
    assert not {task.get_coro().__qualname__ for task in left}  # type: ignore[union-attr]  # they have one
    assert "destroyed" not in caplog.text

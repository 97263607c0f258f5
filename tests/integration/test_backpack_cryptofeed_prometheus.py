"""The collector on the feed for cryptofeed, under its own FeedHandler: in its life and after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from backpack_runtime.cryptofeed import CcxtBackpackFeed
from backpack_runtime.prometheus import BackpackCollector
from cryptofeed_sandbox import SPOT, Program, Programs, Running, own_registries
from scrapes import Figures, registry_of, scrape

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SOL = "SOL_USDC"
DOWN = 'backpack_health_status{status="down"}'


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_registries(tmp_path, monkeypatch):
        yield


async def test_a_feed_is_scraped_from_another_thread_before_in_and_after_its_life(running: Running) -> None:
    found: dict[str, Figures] = {}
    collectors: list[BackpackCollector] = []

    def before(program: Program) -> None:
        collectors.append(BackpackCollector(program.feed, symbols=[SOL]))
        found["before"] = scrape(registry_of(*collectors))

    async def fail(_trade: Any, _receipt: float) -> None:
        raise KeyError("a bug of the user's")

    async with Programs(running)(symbols=[SPOT], callbacks={"trades": fail}, before=before) as program:
        await program.until(lambda: program.got["l2_book"] and program.live and program.counters["callback_errors"])
        found["in"] = await asyncio.to_thread(scrape, registry_of(*collectors))
        counters = program.counters
    after = found["after"] = scrape(registry_of(*collectors))
    assert [found[when]["backpack_running"] for when in ("before", "in", "after")] == [0, 1, 0]
    assert [found[when][DOWN] for when in ("before", "in", "after")] == [1, 0, 1]
    assert [found[when]["backpack_books_live"] for when in ("before", "in", "after")] == [0, 1, 0]
    inside = found["in"]
    assert inside["backpack_responding"] == 1
    assert inside[f'backpack_symbol_book_live{{symbol="{SOL}"}}'] == 1
    assert inside['backpack_health_status{status="degraded"}'] == 1, "a callback has failed"
    assert 1 <= inside["backpack_feed_callback_errors_total"] <= counters["callback_errors"]
    for stage in ("exchange_to_socket", "socket_to_event", "event_to_consumer"):
        name = f"backpack_{stage}_seconds"
        assert 0 < inside[f"{name}_count"] == inside[f'{name}_bucket{{le="+Inf"}}'] <= after[f"{name}_count"]
        assert inside[f'{name}_bucket{{le="10.0"}}'] == inside[f"{name}_count"]
    suffixes = ("_total", "_bucket", "_count", "_sum")
    counts = {series: value for series, value in inside.items() if series.partition("{")[0].endswith(suffixes)}
    assert all(value <= after[series] for series, value in counts.items())


def test_the_feed_by_ccxt_has_no_session_to_observe() -> None:
    with pytest.raises(ValueError, match=r"^source: a BackpackClient, BackpackSync or BackpackFeed, got type"):
        BackpackCollector(CcxtBackpackFeed)  # that is the point

"""What a scrape says of books and of an account on real sockets: live, closed, resynced, let go of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from backpack_runtime import Recovered
from backpack_runtime.client import BackpackClient
from backpack_runtime.prometheus import BackpackCollector
from scrapes import Figures, registry_of, scrape
from transports import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

SYMBOL = "SOL_USDC"
CLOSED = "HNT_USDC"
"""A market of the sandbox that is always closed."""


@asynccontextmanager
async def consumed(client: BackpackClient) -> AsyncIterator[None]:
    """Somebody fetches the events."""

    async def consume() -> None:
        async for _ in client:
            pass

    with anyio.fail_after(PATIENCE_SECONDS):
        async with client, anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            yield
            tasks.cancel_scope.cancel()


async def until(collector: BackpackCollector, **wanted: float) -> Figures:
    """Scrape in another thread until these metrics have these values."""
    registry = registry_of(collector)
    while True:
        found = await anyio.to_thread.run_sync(scrape, registry)
        if all(found[f"backpack_{name}"] == value for name, value in wanted.items()):
            return found
        await anyio.sleep(0.01)


def of_symbols(found: Figures) -> Figures:
    """The figures of single markets, by the part of their names and the market. Without ages."""
    prefix = "backpack_symbol_book_"
    return {
        series.removeprefix(prefix): value
        for series, value in found.items()
        if series.startswith(prefix) and "age" not in series
    }


async def test_books_and_markets_are_told_as_they_are() -> None:
    client = BackpackClient([SYMBOL, CLOSED], channels=["book"], sandbox=True, follow_account=True)
    everything = BackpackCollector(client, symbols=True)
    named = BackpackCollector(client, symbols=[SYMBOL, "BTC_USDC"])
    async with consumed(client):
        found = await until(everything, books_live=1, books_closed=1, account_live=1)
        assert (found["backpack_books_wanted"], found["backpack_books_fetching"]) == (2, 0)
        assert 0 <= found['backpack_book_age_seconds{which="oldest"}'] < 5
        assert found[f'backpack_symbol_book_age_seconds{{symbol="{SYMBOL}"}}'] < 5
        assert of_symbols(found) == {
            'live{symbol="SOL_USDC"}': 1,
            'live{symbol="HNT_USDC"}': 0,
            'closed{symbol="SOL_USDC"}': 0,
            'closed{symbol="HNT_USDC"}': 1,
            'resyncs_total{symbol="SOL_USDC"}': 0,
            'resyncs_total{symbol="HNT_USDC"}': 0,
        }
        assert of_symbols(scrape(registry_of(named))) == {
            'live{symbol="SOL_USDC"}': 1,
            'live{symbol="BTC_USDC"}': 0,
            'closed{symbol="SOL_USDC"}': 0,
            'resyncs_total{symbol="SOL_USDC"}': 0,
            'resyncs_total{symbol="BTC_USDC"}': 0,
        }
        assert isinstance(await client.resync(SYMBOL), Recovered)
        found = await until(everything, books_live=1, book_resyncs_total=1)
        assert found[f'backpack_symbol_book_resyncs_total{{symbol="{SYMBOL}"}}'] == 1
        assert isinstance(await client.reconnect(), Recovered)
        await until(everything, books_live=1, reconnects_total=1, book_resyncs_total=2, connection_up=1)
        await client.unsubscribe(["book"], [SYMBOL])
        left = await until(everything, books_wanted=1)
        assert of_symbols(left) == {
            'live{symbol="HNT_USDC"}': 0,
            'closed{symbol="HNT_USDC"}': 1,
            'resyncs_total{symbol="HNT_USDC"}': 0,
            'resyncs_total{symbol="SOL_USDC"}': 3,
        }, "a counter stays, and the end of a live book is counted"
        assert 'backpack_book_age_seconds{which="oldest"}' not in left, "there is no open market"
    after = scrape(registry_of(everything))
    assert (after["backpack_account_live"], after["backpack_books_live"], after["backpack_reconnects_total"]) == (0, 0, 1)
    assert after["backpack_exchange_to_socket_seconds_count"] >= found["backpack_exchange_to_socket_seconds_count"] > 0

"""Candles of a client: history and stream over real sockets, through a cut connection."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise

import anyio
import pytest

from backpack_proto.candles import CandleGap
from backpack_proto.errors import ClientClosed, ConfigurationError, LocalProtocolError, UnknownSymbol
from backpack_proto.streams.payloads import Kline
from backpack_runtime.candles import Candles
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 40


async def closed_until(candles: Candles, enough: Callable[[list[Kline]], bool]) -> list[Kline]:
    """The closed candles, which have to be contiguous."""
    found: list[Kline] = []
    async for candle in candles:
        assert isinstance(candle, Kline), candle
        if candle.closed:
            found.append(candle)
            if enough(found):
                return found
    raise AssertionError("the candles ended")


def is_contiguous(found: list[Kline]) -> bool:
    return all(one.end_us == other.start_us for one, other in pairwise(found))


async def now_s(client: BackpackClient) -> int:
    return (await client.get_time()).server_us // 1_000_000


async def test_history_and_stream_are_one(anyio_backend_name: str) -> None:
    assert anyio_backend_name in {"asyncio", "trio"}
    with anyio.fail_after(PATIENCE_SECONDS):
        async with BackpackClient(sandbox=True) as client:
            began_s = await now_s(client)
            async with client.candles("SOL-USDC", "1s", start_s=began_s - 20) as candles:
                found = await closed_until(candles, lambda found: found[-1].start_us // 1_000_000 >= began_s + 3)
            assert found[0].start_us == (began_s - 20) * 1_000_000
            assert is_contiguous(found)
            assert len({candle.start_us for candle in found}) == len(found)


async def test_what_was_missed_in_an_outage_is_fetched_before_the_next_one() -> None:
    async def cut(sandbox: Sandbox, after: anyio.Event) -> None:
        await after.wait()
        sandbox.drop_connections()

    with anyio.fail_after(PATIENCE_SECONDS):
        async with serve_sandbox() as sandbox, BackpackClient(settings=sandbox.settings) as client:
            found: list[Kline] = []
            joined = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cut, sandbox, joined)
                async for candle in client.candles("SOL_USDC", "1s", start_s=await now_s(client) - 10):
                    assert isinstance(candle, Kline), candle
                    if candle.closed:
                        found.append(candle)
                    if len(found) == 12:
                        joined.set()
                    if len(found) == 15:
                        break
            assert is_contiguous(found)


async def test_without_a_start_the_running_candle_comes_first() -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        async with BackpackClient(sandbox=True) as client:
            candle = await anext(client.candles("SOL_USDC", "1d"))
            assert isinstance(candle, Kline)
            assert not candle.closed
            assert candle.end_us - candle.start_us == 86_400_000_000


async def test_an_attempt_that_is_given_up_loses_nothing() -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        async with BackpackClient(sandbox=True) as client:
            candles = client.candles("SOL_USDC", "1s", start_s=await now_s(client) - 5)
            found: list[Kline] = []
            while len(found) < 7:
                with anyio.move_on_after(0.003):
                    candle = await anext(candles)
                    assert not isinstance(candle, CandleGap)
                    if candle.closed:
                        found.append(candle)
            assert is_contiguous(found)


async def test_the_stream_is_subscribed_as_long_as_somebody_has_it() -> None:
    def subscribed(client: BackpackClient) -> bool:
        gc.collect()
        return client._session.shows("kline.1m.SOL_USDC")

    with anyio.fail_after(PATIENCE_SECONDS):
        async with BackpackClient(sandbox=True) as client:
            one, two = client.candles("SOL_USDC", "1m"), client.candles("SOL_USDC", "1m")
            await anext(one)
            await anext(two)
            one.close()
            assert subscribed(client)
            del two
            assert not subscribed(client)
            with pytest.raises(StopAsyncIteration):
                while True:
                    await anext(one)
            await client.subscribe(["klines.1m"], ["SOL_USDC"])
            three = client.candles("SOL_USDC", "1m")
            await anext(three)
            three.close()
            assert subscribed(client), "the user's own stays"


async def test_what_is_wrong_is_said() -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        async with BackpackClient(sandbox=True) as client:
            with pytest.raises(ConfigurationError, match=r"^interval: one of .*, got '1 minute'"):
                client.candles("SOL_USDC", "1 minute")
            with pytest.raises(ConfigurationError, match=r"^start_s: a whole number of seconds"):
                client.candles("SOL_USDC", "1m", start_s=1.5)  # type: ignore[arg-type]  # the point
            with pytest.raises(UnknownSymbol):
                await anext(client.candles("SOL_USDX", "1m"))
            open_candles = client.candles("SOL_USDC", "1m")
            await anext(open_candles)
        with pytest.raises(ClientClosed):
            client.candles("SOL_USDC", "1m")
        assert [candle async for candle in open_candles][-1:] != [None]
        async with BackpackClient(streams=False, sandbox=True) as client:
            with pytest.raises(LocalProtocolError, match="streams=False"):
                await anext(client.candles("SOL_USDC", "1m"))

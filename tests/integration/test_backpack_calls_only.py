"""A client that makes calls only: no websocket is ever dialed, and calls are what they are with one."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.errors import ApiError, ClientClosed, ConfigurationError, LocalProtocolError, UnknownSymbol
from backpack_proto.exchange import Exchange, SocketOpened
from backpack_proto.metrics import Status
from backpack_proto.rest.new_order import NewOrder
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import Sandbox, serve_sandbox

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30


@pytest.fixture(params=["asyncio", "trio", "aiohttp"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "asyncio" if runtime == "aiohttp" else runtime


def count_websockets(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[SocketOpened]:
    opened: list[SocketOpened] = []
    handle = sandbox.exchange.handle

    def counted(given: Any, now: Any) -> Any:
        if isinstance(given, SocketOpened):
            opened.append(given)
        return handle(given, now)

    monkeypatch.setattr(sandbox.exchange, "handle", counted)
    return opened


async def test_calls_need_no_websocket(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        async with serve_sandbox() as sandbox:
            opened = count_websockets(sandbox, monkeypatch)
            settings = replace(sandbox.settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio")
            signer = Signer(Credentials(sandbox.secret))
            async with BackpackClient(streams=False, settings=settings, signer=signer) as client:
                assert client.markets["SOL-USDC"].symbol == "SOL_USDC"
                assert (await client.get_depth("SOL-USDC")).bids
                placed = await client.place(NewOrder.limit("SOL_USDC", "Bid", price="1.00", quantity="0.10"))
                assert [order.order_id for order in await client.get_open_orders()] == [placed.order_id]
                assert [order.order_id async for order in client.order_history()] == [placed.order_id]
                with pytest.raises(UnknownSymbol):
                    await client.get_depth("SOL_USDX")
                with pytest.raises(ApiError):
                    await client.get_order("SOL_USDC", order_id="1")
                assert client.health.status is Status.HEALTHY
                assert client.health.notes == ("there is no connection for streams: calls only", *client.health.notes[1:])
                assert client.metrics.ws_messages == 0
                for refused in (
                    client.subscribe(["trades"], ["SOL_USDC"]),
                    client.unsubscribe(["trades"], ["SOL_USDC"]),
                    client.subscribe_untyped(["stockPrice.NVDA"]),
                ):
                    with pytest.raises(LocalProtocolError, match="streams=False"):
                        await refused
            assert opened == []
            # The plant of this test: with streams one is counted.
            async with BackpackClient(settings=settings) as client:
                async for _ in client:
                    break
            assert len(opened) == 1
    with pytest.raises(ClientClosed):
        await client.get_time()


async def test_the_clock_is_measured_before_anything_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    def ahead(*, unix_us: int, **others: Any) -> Exchange:
        return Exchange(unix_us=unix_us + 20_000_000, **others)

    monkeypatch.setattr("backpack_runtime.sandbox.Exchange", ahead)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with serve_sandbox() as sandbox:
            signer = Signer(Credentials(sandbox.secret))
            async with BackpackClient(streams=False, settings=sandbox.settings, signer=signer) as client:
                assert await client.get_balances()


async def test_the_sandbox_has_an_account_for_calls() -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        async with BackpackClient(streams=False, sandbox=True) as client:
            assert await client.get_balances()
            assert [event async for event in closed(client)][-1:] != [None]


async def closed(client: BackpackClient) -> Any:
    await client.aclose()
    async for event in client:
        yield event


async def test_a_client_without_streams_works_across_cells() -> None:
    client = BackpackClient(streams=False, sandbox=True)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            await tasks.start(client.run)
            assert (await client.get_time()).server_us
            await client.aclose()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"symbols": ["SOL_USDC"]}, "symbols and channels"),
        ({"channels": ["liquidations"]}, "channels"),
        ({"follow_account": True}, "follow_account"),
    ],
)
def test_what_needs_streams_is_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^streams: False means calls only; leave out {named}$"):
        BackpackClient(**given, streams=False, sandbox=True)

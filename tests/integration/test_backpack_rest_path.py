"""An exchange behind a gateway: the path of `rest_url` stands before every path, and signatures do not cover it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Scheme, Signer
from backpack_proto.rest.new_order import NewOrder
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import serve_sandbox
from gateway import BASE, Gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio", "aiohttp"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "asyncio" if runtime == "aiohttp" else runtime


@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("slash", ["", "/"])
async def test_requests_go_below_the_path_of_the_address(
    runtime: str, scheme: Scheme, slash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_sandbox() as sandbox:
        gateway = Gateway(sandbox, monkeypatch)
        settings = replace(
            sandbox.settings,
            rest_url=f"{sandbox.rest_url}{BASE}{slash}",
            runtime="aiohttp" if runtime == "aiohttp" else "anyio",
        )
        signer = Signer(Credentials(sandbox.secret), scheme=scheme)
        async with BackpackClient(settings=settings, signer=signer) as client:
            depth = await client.get_depth("SOL-USDC", limit=5)
            assert len(depth.bids) == 5
            placed = await client.place(NewOrder.market("SOL-USDC", "Bid", quantity="0.50"))
            assert placed.symbol == "SOL_USDC"
    assert gateway.targets
    assert all(target.startswith(f"{BASE}/api/v1/") for target in gateway.targets)

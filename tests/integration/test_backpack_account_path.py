"""Over real sockets: a consumer of the ledger that only looks at events hears that the exchange has fallen silent."""

from __future__ import annotations

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.account.values import AccountConfirmed, AccountStale, AccountSynced
from backpack_proto.auth.keys import Credentials
from backpack_proto.auth.signing import Signer
from backpack_proto.outputs import ConnectionDown
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox import serve_sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.gate]

PATIENCE_SECONDS = 30.0


@pytest.fixture(params=["asyncio", "trio", "aiohttp"])
def runtime(request: pytest.FixtureRequest) -> str:
    """What the client runs on: the anyio runtime on one of its event loops, or aiohttp."""
    return str(request.param)


@pytest.fixture
def anyio_backend(runtime: str) -> str:
    return "asyncio" if runtime == "aiohttp" else runtime


async def test_a_mute_exchange_makes_the_ledger_stale_by_an_event(runtime: str) -> None:
    async with serve_sandbox() as sandbox:
        settings = replace(sandbox.settings, runtime="aiohttp" if runtime == "aiohttp" else "anyio")
        signer = Signer(Credentials(sandbox.secret))
        async with BackpackClient((), signer=signer, follow_account=True, settings=settings) as client:
            live = False
            said: list[Event] = []
            with anyio.fail_after(PATIENCE_SECONDS):
                async for event in client:
                    if isinstance(event, AccountSynced | AccountConfirmed | AccountStale | ConnectionDown):
                        said.append(event)
                        was, live = live, isinstance(event, AccountSynced | AccountConfirmed)
                        if live and not was:
                            assert client.account.live
                            if any(isinstance(one, AccountConfirmed) for one in said):
                                break
                            sandbox.silent = lambda _: True
                        elif was:
                            assert not client.account.live
                            sandbox.silent = lambda _: False
            stale = [one for one in said if isinstance(one, AccountStale)][-1]
            assert "no data have come for" in stale.reason
            assert not any(isinstance(one, ConnectionDown) for one in said), "it was silent for too short a time"
            assert client.health.healthy

"""A proxy that dies under a session: the error names it, the session backs off, and is right again when the proxy is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import pytest

from backpack_proto.metrics import Status
from backpack_proto.outputs import BookChanged, BookSynced, BookVerified, ConnectionDown, ConnectionUp
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.proxy_settings import ProxyRefused
from backpack_runtime.settings import Settings
from proxy_matrix import RUNTIMES, Remote, serve_elsewhere
from proxy_programs import PROGRAMS, RunningProxy, missing, run_proxy

pytestmark = pytest.mark.required

PATIENCE_SECONDS = 60
SYMBOL = "SOL_USDC"
SCHEMES = {"dante": "socks5", "microsocks": "socks5", "squid": "http", "tinyproxy": "http"}


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    with serve_elsewhere(speed=1.0) as remote:
        yield remote


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Iterator[RunningProxy]:
    absent = missing(request.param)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    with run_proxy(PROGRAMS[request.param]) as proxy:
        yield proxy


def a(kind: type[Event]) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind)


async def until(client: BackpackClient, reached: Callable[[Event], bool]) -> Event:
    with anyio.fail_after(PATIENCE_SECONDS):
        async for event in client:
            if reached(event):
                return event
    raise AssertionError("the events ended")


async def session(runtime: str, proxy: RunningProxy, remote: Remote) -> None:
    url = proxy.url(SCHEMES[proxy.program.name])
    client = BackpackClient(
        [SYMBOL],
        channels=["book"],
        settings=Settings(rest_url=remote.rest_url, ws_url=remote.ws_url, ca_file=remote.ca_file, runtime=runtime, proxies=url),
    )
    async with client:
        await until(client, a(BookVerified))

        proxy.kill()
        lost = await until(client, a(ConnectionDown))
        assert isinstance(lost, ConnectionDown)
        assert f"proxy {url}" in lost.reason
        assert lost.retry_us > 0
        assert not client.book(SYMBOL).live
        assert client.health.status is Status.DOWN
        refused = await until(client, a(ConnectionDown))
        assert isinstance(refused, ConnectionDown)
        assert refused.error == ProxyRefused(url, "refused the connection")
        assert refused.retry_us > 0
        assert client.metrics.proxy_failures > 0

        proxy.start()
        await until(client, a(ConnectionUp))
        await until(client, a(BookSynced))
        await until(client, a(BookVerified))
        assert client.metrics.ws_reconnects == 1
        assert client.metrics.book_divergences == 0
        with anyio.fail_after(PATIENCE_SECONDS):
            await up_to_date(client, remote)


async def up_to_date(client: BackpackClient, remote: Remote) -> None:
    """Wait until the client is where the exchange is, and compare the two."""
    while True:
        await until(client, a(BookChanged))
        book = client.book(SYMBOL)
        bids, asks, update_id = remote.levels(SYMBOL)
        if book.last == update_id:
            assert book.live
            assert (book.bids(), book.asks()) == (bids, asks)
            return


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("proxy", list(SCHEMES), indirect=True)
def test_a_killed_proxy_costs_the_connection_and_no_more(proxy: RunningProxy, runtime: str, remote: Remote) -> None:
    name, backend = RUNTIMES[runtime]
    anyio.run(session, name, proxy, remote, backend=backend)

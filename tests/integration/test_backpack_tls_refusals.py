"""No runtime speaks with a server whose TLS is wrong, directly or through a proxy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from backpack_proto.http import HttpRequest
from backpack_proto.inputs import ConnectFailed, Fact, Given, RequestFailed
from backpack_proto.outputs import OpenSocket, SendRequest
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.proxy_settings import Proxies
from backpack_runtime.transports import transport_of
from proxy_matrix import RUNTIMES, TRAFFIC
from proxy_programs import PROGRAMS, RunningProxy, missing, run_proxy
from tls_servers import FAULTS, GOOD, HOST, FaultyServer, serve_faults

pytestmark = pytest.mark.required

PATIENCE_SECONDS = 60
ROUTES = {"direct": None, "http": "tinyproxy", "socks5": "microsocks"}
"""How the exchange is reached, and which program that takes."""

Server = tuple[Path, Mapping[str, FaultyServer]]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve_faults(tmp_path_factory.mktemp("tls")) as served:
        yield served


@pytest.fixture(scope="module")
def running() -> Iterator[Mapping[str, RunningProxy]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(run_proxy(PROGRAMS[name])) for name in ROUTES.values() if name and not missing(name)}


@pytest.fixture
def way(request: pytest.FixtureRequest, running: Mapping[str, RunningProxy]) -> tuple[Proxies, str]:
    """The proxies of a route, and the address that a server sees."""
    program = ROUTES[request.param]
    if program is None:
        return Proxies(), HOST
    if program not in running:
        pytest.skip(f"not installed: {program}")
    return Proxies.of(running[program].url(request.param)), running[program].program.outgoing


async def attempt(runtime: str, addresses: Addresses, traffic: str) -> Fact:
    """The first that is heard of a websocket, or of a request."""
    kind = transport_of(runtime)
    facts: list[Given] = []
    async with kind(addresses) as transport:
        if traffic == "websocket":
            transport.perform(OpenSocket())
        else:
            ping = HttpRequest(method="GET", target="/api/v1/ping")
            transport.perform(SendRequest(request_id=1, request=ping, timeout_us=10_000_000))
        with anyio.fail_after(PATIENCE_SECONDS):
            while not facts:
                facts += await transport.next(None)
    (fact,) = facts
    assert isinstance(fact, Fact)
    return fact


def attempt_in(runtime: str, server: FaultyServer, ca_file: Path, proxies: Proxies, traffic: str) -> Fact:
    name, backend = RUNTIMES[runtime]
    addresses = Addresses(f"https://{HOST}:{server.port}", f"wss://{HOST}:{server.port}", ca_file=ca_file, proxies=proxies)
    return anyio.run(attempt, name, addresses, traffic, backend=backend)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("traffic", TRAFFIC)
@pytest.mark.parametrize("way", ROUTES, indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_with_a_fault_hears_nothing(
    fault: str, way: tuple[Proxies, str], traffic: str, runtime: str, servers: Server
) -> None:
    ca_file, by_fault = servers
    server = by_fault[fault]
    server.peers.clear()
    proxies, peer = way
    fact = attempt_in(runtime, server, ca_file, proxies, traffic)
    if traffic == "websocket":
        assert isinstance(fact, ConnectFailed)
    else:
        assert isinstance(fact, RequestFailed)
        assert not fact.sent, "the exchange cannot have seen anything of the request"
    assert re.search(FAULTS[fault], fact.reason), fact.reason
    assert set(server.peers) == {peer}, "the fault was to be met, and on this way"
    assert server.heard == []


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("traffic", TRAFFIC)
@pytest.mark.parametrize("way", ROUTES, indirect=True)
def test_a_server_without_a_fault_is_spoken_with(way: tuple[Proxies, str], traffic: str, runtime: str, servers: Server) -> None:
    ca_file, by_fault = servers
    server = by_fault[GOOD]
    server.heard.clear()
    server.peers.clear()
    proxies, peer = way
    attempt_in(runtime, server, ca_file, proxies, traffic)
    (heard,) = server.heard
    assert server.peers == [peer]
    assert heard.startswith(b"GET /")

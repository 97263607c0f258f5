"""A websocket that is dropped at an awkward moment: nothing is heard of it any more, and nothing is left of it."""

from __future__ import annotations

import gc
import socket
import warnings

import anyio
import pytest

from backpack_proto.inputs import ConnectFailed, ReadingPaused
from backpack_proto.outputs import DropSocket, OpenSocket
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.transport import Inbox
from backpack_runtime.transports import transport_of
from proxy_matrix import RUNTIMES, serve_elsewhere

PATIENCE_SECONDS = 60
MOMENTS = 40
MOMENT_SECONDS = 0.0003
"""All of them together are about as long as a handshake takes."""


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def fail_then_drop(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Inbox.put
    failed = anyio.Event()

    def put_and_tell(self: Inbox, facts: list[ConnectFailed]) -> None:
        put(self, facts)
        failed.set()

    monkeypatch.setattr(Inbox, "put", put_and_tell)
    kind = transport_of(runtime)
    port = closed_port()
    async with kind(Addresses(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}")) as transport:
        transport.perform(OpenSocket())
        with anyio.fail_after(PATIENCE_SECONDS):
            await failed.wait()
        transport.pause_reading()
        transport.perform(DropSocket())
        assert await transport.next(None) == [ReadingPaused()]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_failure_that_nobody_has_fetched_goes_with_the_socket(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, backend = RUNTIMES[runtime]
    anyio.run(fail_then_drop, name, monkeypatch, backend=backend)


async def open_for_a_moment(runtime: str, addresses: Addresses, moments: int) -> None:
    kind = transport_of(runtime)
    async with kind(addresses) as transport:
        transport.perform(OpenSocket())
        for _ in range(moments):
            await anyio.sleep(MOMENT_SECONDS)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_connection_stays_open_that_was_given_up_half_made(runtime: str) -> None:
    name, backend = RUNTIMES[runtime]
    # What others left is not this one's.
    gc.collect()
    with serve_elsewhere(speed=1.0) as remote, warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", ResourceWarning)
        addresses = Addresses(remote.rest_url, remote.ws_url, ca_file=remote.ca_file)
        for moments in range(MOMENTS):
            anyio.run(open_for_a_moment, name, addresses, moments, backend=backend)
        gc.collect()
        assert [str(warning.message) for warning in left] == []

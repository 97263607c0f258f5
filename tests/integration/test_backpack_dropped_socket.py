"""What waits to be heard of a websocket when it is dropped: the session must not be told of an end that it has decided itself."""

from __future__ import annotations

import socket

import anyio
import pytest

from backpack_proto.inputs import ConnectFailed, ReadingPaused
from backpack_proto.outputs import DropSocket, OpenSocket
from backpack_runtime.addresses import Addresses
from backpack_runtime.transport import Inbox
from backpack_runtime.transports.aiohttp import AiohttpTransport
from backpack_runtime.transports.anyio import AnyioTransport
from proxy_matrix import RUNTIMES

PATIENCE_SECONDS = 15


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
    kind = AiohttpTransport if runtime == "aiohttp" else AnyioTransport
    port = closed_port()
    async with kind(Addresses(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}")) as transport:
        await transport.perform(OpenSocket())
        with anyio.fail_after(PATIENCE_SECONDS):
            await failed.wait()
        transport.pause_reading()
        await transport.perform(DropSocket())
        assert await transport.next(None) == [ReadingPaused()]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_failure_that_nobody_has_fetched_goes_with_the_socket(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, backend = RUNTIMES[runtime]
    anyio.run(fail_then_drop, name, monkeypatch, backend=backend)

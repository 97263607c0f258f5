"""The end of an encrypted connection, on a real socket."""

from __future__ import annotations

import asyncio
import ssl

import anyio
import pytest
import trustme

from backpack_runtime.network.tls import TlsStream

HOST = "127.0.0.1"
PATIENCE_SECONDS = 15
"""Less than asyncio waits for the answer to its closing alert before it closes the connection beneath."""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_closing_alert_is_the_end_though_the_connection_beneath_stays_open() -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(ours)
    authority.issue_cert(HOST).configure_cert(theirs)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"the last")
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0, ssl=theirs)
    with anyio.fail_after(PATIENCE_SECONDS):
        beneath = await anyio.connect_tcp(HOST, server.sockets[0].getsockname()[1])
        stream = await TlsStream.connect(beneath, ours, HOST)
        assert await stream.receive() == b"the last"
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
        await stream.aclose()
    server.close()

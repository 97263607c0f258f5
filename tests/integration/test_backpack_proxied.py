"""Proxies that do what a real one does seldom: answers in pieces, half answers, silence, every refusal that the protocols know."""

from __future__ import annotations

import logging
import socket
import ssl
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteReceiveStream, ByteSendStream, ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from backpack_proto.http import HttpRequest
from backpack_proto.inputs import (
    Connected,
    ConnectFailed,
    Disconnected,
    Given,
    RequestFailed,
    ResponseReceived,
    TextReceived,
)
from backpack_proto.outputs import ConnectionDown, DropSocket, OpenSocket, SendRequest, SendText
from backpack_proto.streams.frames import subscribe_text
from backpack_runtime.client import BackpackClient
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.dialing import ANYIO_STREAMS, dial
from backpack_runtime.network.proxy_settings import (
    Proxies,
    Proxy,
    ProxyAuthFailed,
    ProxyError,
    ProxyRefused,
    ProxyTimeout,
    ProxyUnreachableTarget,
)
from backpack_runtime.network.send_queue import BROKEN
from backpack_runtime.sandbox import serve_sandbox
from backpack_runtime.settings import Settings
from backpack_runtime.transport import Transport
from transports import SOCKETS, Runtime

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60
NOWHERE = ("https://exchange.invalid", "wss://exchange.invalid")
"""A name that nobody can look up."""

Serve = Callable[[ByteStream], Awaitable[None]]


@pytest.fixture(params=SOCKETS)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return SOCKETS[str(request.param)]


@pytest.fixture
def anyio_backend(runtime: Runtime) -> str:
    return runtime.backend


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """A server that does what a test wants with each connection. Gives its port."""

    async def handle(stream: ByteStream) -> None:
        with suppress(*BROKEN):
            async with stream:
                await serve(stream)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield int(listener.extra(SocketAttribute.local_port))
        tasks.cancel_scope.cancel()


async def facts_until(transport: Transport, kind: type[Given]) -> list[Given]:
    facts: list[Given] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while not any(isinstance(fact, kind) for fact in facts):
            facts += await transport.next(None)
    return facts


def ping(number: int = 1, timeout_us: int = 10_000_000) -> SendRequest:
    return SendRequest(request_id=number, request=HttpRequest(method="GET", target="/api/v1/ping"), timeout_us=timeout_us)


async def failures(runtime: Runtime, addresses: Addresses) -> tuple[ConnectFailed, RequestFailed]:
    """What becomes of a websocket and of a request that cannot be."""
    async with runtime.transport(addresses) as transport:
        transport.perform(OpenSocket())
        (connect,) = await facts_until(transport, ConnectFailed)
        transport.perform(ping())
        (request,) = await facts_until(transport, RequestFailed)
    assert isinstance(connect, ConnectFailed)
    assert isinstance(request, RequestFailed)
    return connect, request


async def read(stream: ByteReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive(size - len(data))
    return data


async def read_head(stream: ByteReceiveStream) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += await stream.receive(1)
    return data


async def relay(stream: ByteStream, host: str, port: int) -> None:
    async def copy(source: ByteReceiveStream, target: ByteSendStream) -> None:
        with suppress(*BROKEN):
            while True:
                await target.send(await source.receive())
        tasks.cancel_scope.cancel()

    async with await anyio.connect_tcp(host, port) as beyond, anyio.create_task_group() as tasks:
        tasks.start_soon(copy, stream, beyond)
        tasks.start_soon(copy, beyond, stream)


async def carry_http(stream: ByteStream) -> None:
    """CONNECT, with an answer that comes byte by byte."""
    head = await read_head(stream)
    host, _, port = head.split()[1].decode().rpartition(":")
    for byte in b"HTTP/1.1 100 Wait\r\n\r\nHTTP/1.1 200 OK\r\nVia: test\r\n\r\n":
        await stream.send(bytes([byte]))
    await relay(stream, host, int(port))


async def carry_socks5(stream: ByteStream) -> None:
    """SOCKS5, with answers that come byte by byte."""
    _, methods = await read(stream, 2)
    await read(stream, methods)
    for byte in b"\x05\x00":
        await stream.send(bytes([byte]))
    *_, kind = await read(stream, 4)
    host = socket.inet_ntoa(await read(stream, 4)) if kind == 1 else (await read(stream, (await read(stream, 1))[0])).decode()
    port = int.from_bytes(await read(stream, 2))
    for byte in b"\x05\x00\x00\x03\x09localhost\x00\x00":
        await stream.send(bytes([byte]))
    await relay(stream, host, port)


async def carry_socks4(stream: ByteStream) -> None:
    head = await read(stream, 8)
    while await stream.receive(1) != b"\x00":
        pass
    await stream.send(b"\x00\x5a")
    await stream.send(b"\x00" * 6)
    await relay(stream, socket.inet_ntoa(head[4:]), int.from_bytes(head[2:4]))


CARRIERS = {"http": carry_http, "socks5": carry_socks5, "socks4": carry_socks4}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("scheme", CARRIERS)
async def test_a_session_through_a_proxy_whose_answers_come_in_pieces(runtime: Runtime, scheme: str, *, tls: bool) -> None:
    async with serve_sandbox(tls=tls) as sandbox, listening(CARRIERS[scheme]) as port:
        proxies = Proxies.of(f"{scheme}://127.0.0.1:{port}")
        addresses = Addresses(sandbox.rest_url, sandbox.ws_url, ca_file=sandbox.ca_file, proxies=proxies)
        async with runtime.transport(addresses) as transport:
            transport.perform(OpenSocket())
            await facts_until(transport, Connected)
            transport.perform(SendText(subscribe_text(["depth.SOL_USDC"])))
            await facts_until(transport, TextReceived)
            transport.perform(ping())
            await facts_until(transport, ResponseReceived)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def encrypted(authority: trustme.CA, host: str, serve: Serve) -> Serve:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)

    async def serve_encrypted(stream: ByteStream) -> None:
        await serve(await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False))

    return serve_encrypted


@pytest.mark.parametrize("tls", [False, True])
async def test_a_session_through_a_proxy_over_tls(
    runtime: Runtime, authority: trustme.CA, tmp_path: Path, *, tls: bool
) -> None:
    async with serve_sandbox(tls=tls) as sandbox, listening(encrypted(authority, "127.0.0.1", carry_http)) as port:
        both = tmp_path / "both.pem"
        both.write_bytes(authority.cert_pem.bytes() + (b"" if sandbox.ca_file is None else sandbox.ca_file.read_bytes()))
        proxies = Proxies.of(f"https://127.0.0.1:{port}")
        async with runtime.transport(Addresses(sandbox.rest_url, sandbox.ws_url, ca_file=both, proxies=proxies)) as transport:
            transport.perform(OpenSocket())
            await facts_until(transport, Connected)
            for number in (1, 2):
                transport.perform(ping(number))
                await facts_until(transport, ResponseReceived)
            assert sandbox.connections == 2, "the second request shares the connection of the first"


async def test_a_proxy_over_tls_has_to_be_trusted(runtime: Runtime, authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))

    async def hang_up(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(b"\x16\x03\x03\x00")

    for serve, trusted, words in [
        (encrypted(authority, "127.0.0.1", carry_http), None, "CERTIFICATE_VERIFY_FAILED"),
        (encrypted(authority, "other.example", carry_http), ca_file, "IP address mismatch"),
        (hang_up, ca_file, "during the handshake"),
    ]:
        async with listening(serve) as port:
            url = f"https://127.0.0.1:{port}"
            for fact in await failures(runtime, Addresses(*NOWHERE, ca_file=trusted, proxies=Proxies.of(url))):
                assert isinstance(fact.error, ProxyRefused)
                assert fact.reason.startswith(f"proxy {url} cannot be used, TLS failed: ")
                assert words in fact.reason


GREETED = [(3, b"\x05\x00")]
"""What a SOCKS5 proxy reads (a number of bytes), and what it answers."""
OFFERED_PASSWORD = [(4, b"\x05\x02")]
HEAD = -1
"""An HTTP head."""
SOCKS5_REPLIES = {
    1: "General SOCKS server failure",
    2: "Connection not allowed by ruleset",
    3: "Network unreachable",
    4: "Host unreachable",
    5: "Connection refused by destination host",
    6: "TTL expired",
    7: "Command not supported",
    8: "Address type not supported",
    9: "Invalid reply code",
}
SCRIPTS: list[Any] = [
    (
        "http://",
        [(HEAD, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")],
        ProxyAuthFailed,
        "wants credentials: 407 Proxy",
    ),
    ("http://user:no@", [(HEAD, b"HTTP/1.1 407 No\r\n\r\n")], ProxyAuthFailed, "refused the credentials: 407 No"),
    ("http://", [(HEAD, b"HTTP/1.1 403 Forbidden\r\n\r\n")], ProxyUnreachableTarget, ":443: 403 Forbidden"),
    ("http://", [(HEAD, b"HTTP/1.0 502 Bad Gateway\r\n\r\nmore")], ProxyUnreachableTarget, ":443: 502 Bad Gateway"),
    ("http://", [(HEAD, b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n")], ProxyUnreachableTarget, ":443: 302 Found"),
    ("http://", [(HEAD, b"HTTP/1.1 200 OK\r\n\r\nsurprise")], ProxyRefused, "sent bytes that nobody asked for"),
    ("http://", [(HEAD, b"HTTP/1.1 20")], ProxyRefused, "closed the connection"),
    ("http://", [(HEAD, b"")], ProxyRefused, "closed the connection before it had answered"),
    ("http://", [(HEAD, b"SSH-2.0-proxy\r\n\r\n")], ProxyRefused, "does not speak HTTP"),
    ("http://", [(HEAD, b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000)], ProxyRefused, "does not speak HTTP"),
    *(
        ("socks5://", [*GREETED, (23, bytes([5, code, 0, 1]) + bytes(6))], ProxyUnreachableTarget, words)
        for code, words in SOCKS5_REPLIES.items()
    ),
    ("socks5://", [(3, b"\x05\xff")], ProxyAuthFailed, "wants credentials"),
    ("socks5://", [(3, b"\x05\x02")], ProxyAuthFailed, "wants credentials"),
    ("socks5://user:no@", [(4, b"\x05\xff")], ProxyAuthFailed, "refused the credentials"),
    ("socks5://user:no@", [*OFFERED_PASSWORD, (9, b"\x01\x01")], ProxyAuthFailed, "refused the credentials"),
    ("socks5://user:no@", [*OFFERED_PASSWORD, (9, b"")], ProxyRefused, "broke off"),
    ("socks5://", [(3, b"")], ProxyRefused, "broke off"),
    ("socks5://", [(3, b"\x05")], ProxyRefused, "broke off"),
    ("socks5://", [(3, b"HT")], ProxyRefused, "version"),
    ("socks5://", [*GREETED, (23, b"")], ProxyRefused, "broke off"),
    ("socks5://", [*GREETED, (23, b"\x05\x00\x00\x01\x00")], ProxyRefused, "broke off"),
    ("socks5://", [*GREETED, (23, b"\x05\x00\x00\x03\x02\xff\xff\x00\x00")], ProxyUnreachableTarget, "malformed"),
    ("socks5://", [*GREETED, (23, b"\x05\x00\x00\x07\x00")], ProxyRefused, "address type"),
    ("socks4://", [(26, b"\x00\x5b" + bytes(6))], ProxyUnreachableTarget, "Request rejected or failed"),
    ("socks4://", [(26, b"\x00\x5c" + bytes(6))], ProxyAuthFailed, "refused the user"),
    ("socks4://user@", [(30, b"\x00\x5d" + bytes(6))], ProxyAuthFailed, "refused the user"),
    ("socks4://", [(26, b"\x00\x5a\x00")], ProxyRefused, "broke off"),
    ("socks4://", [(26, b"\x05\x5a" + bytes(6))], ProxyRefused, "broke off"),
]


@pytest.mark.parametrize(("front", "script", "kind", "words"), SCRIPTS)
async def test_what_a_proxy_refuses_is_told_with_its_name(
    runtime: Runtime, front: str, script: list[tuple[int, bytes]], kind: type[ProxyError], words: str
) -> None:
    async def serve(stream: ByteStream) -> None:
        for size, answer in script:
            await (read_head(stream) if size == HEAD else read(stream, size))
            await stream.send(answer)

    async with listening(serve) as port:
        proxies = Proxies.of(f"{front}127.0.0.1:{port}")
        assert proxies.rest is not None
        endpoint = proxies.rest.endpoint
        for fact in await failures(runtime, Addresses(*NOWHERE, proxies=proxies)):
            assert type(fact.error) is kind
            assert fact.proxy == endpoint
            assert fact.reason == str(fact.error)
            assert fact.reason.startswith(f"proxy {endpoint} ")
            assert words in fact.reason
            assert fact.error.__traceback__ is None
            assert fact.error.__context__ is None
            if kind is ProxyUnreachableTarget:
                assert "exchange.invalid:443" in fact.reason
            if isinstance(fact, RequestFailed):
                assert not fact.sent


@pytest.mark.parametrize(
    ("scheme", "script"),
    [("http", []), ("https", []), ("socks4", []), ("socks5", []), ("socks5", GREETED), ("http", [(HEAD, b"HTTP/1.1 2")])],
)
async def test_a_proxy_that_is_silent_costs_its_time_and_no_more(
    runtime: Runtime, scheme: str, script: list[tuple[int, bytes]]
) -> None:
    async def serve(stream: ByteStream) -> None:
        for size, answer in script:
            await (read_head(stream) if size == HEAD else read(stream, size))
            await stream.send(answer)
        await anyio.sleep_forever()

    async with listening(serve) as port:
        proxies = Proxies.of({"url": f"{scheme}://127.0.0.1:{port}", "timeout_seconds": 0.1})
        for fact in await failures(runtime, Addresses(*NOWHERE, proxies=proxies)):
            assert fact.error == ProxyTimeout(f"{scheme}://127.0.0.1:{port}", "did not answer within 0.1 s")


async def test_a_request_that_has_less_time_than_the_proxy_names_it_as_well(runtime: Runtime) -> None:
    async def serve(_: ByteStream) -> None:
        await anyio.sleep_forever()

    async with (
        listening(serve) as port,
        runtime.transport(Addresses(*NOWHERE, proxies=Proxies.of(f"socks5://127.0.0.1:{port}"))) as transport,
    ):
        transport.perform(ping(timeout_us=100_000))
        (fact,) = await facts_until(transport, RequestFailed)
        failure = ProxyTimeout(f"socks5://127.0.0.1:{port}", "did not answer within 0.1 s")
        assert fact == RequestFailed(request_id=1, reason=str(failure), sent=False, proxy=failure.proxy, error=failure)


@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks5"])
async def test_a_proxy_that_is_not_there_refused(runtime: Runtime, scheme: str) -> None:
    async with listening(carry_http) as port:
        pass
    url = f"{scheme}://127.0.0.1:{port}"
    for fact in await failures(runtime, Addresses(*NOWHERE, proxies=Proxies.of(url))):
        assert fact.error == ProxyRefused(url, "refused the connection")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_websocket_that_is_dropped_meanwhile_leaves_the_proxy(runtime: Runtime, scheme: str) -> None:
    come, gone = anyio.Event(), anyio.Event()

    async def serve(stream: ByteStream) -> None:
        await stream.receive()
        come.set()
        try:
            await stream.receive()
        except BROKEN:
            gone.set()

    async with (
        listening(serve) as port,
        runtime.transport(Addresses(*NOWHERE, proxies=Proxies.of(f"{scheme}://127.0.0.1:{port}"))) as transport,
    ):
        with anyio.fail_after(PATIENCE_SECONDS):
            transport.perform(OpenSocket())
            await come.wait()
            transport.perform(DropSocket())
            await gone.wait()
            transport.wake()
            assert await transport.next(None) == []


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that this machine was asked for, of which `exchange.invalid` gets an answer."""
    names: list[str] = []
    really = socket.getaddrinfo

    def getaddrinfo(host: Any, port: int, *rest: Any, **more: Any) -> list[Any]:
        with suppress(socket.gaierror):
            return list(really(host, port, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM))
        name = host.decode() if isinstance(host, bytes) else str(host)
        only_numeric = more.get("flags", rest[3] if len(rest) == 4 else 0) & socket.AI_NUMERICHOST
        if not only_numeric:
            names.append(name)
        if only_numeric or name != "exchange.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


REMOTE = {
    "http": b"CONNECT exchange.invalid:443 HTTP/1.1\r\n",
    "socks5": b"\x05\x01\x00\x03\x10exchange.invalid\x01\xbb",
    "socks4": b"\x04\x01\x01\xbb\x00\x00\x00\x01\x00exchange.invalid\x00",
}
LOCAL = {
    "http": b"CONNECT 192.0.2.7:443 HTTP/1.1\r\n",
    "socks5": b"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb",
    "socks4": b"\x04\x01\x01\xbb\xc0\x00\x02\x07\x00",
}


@pytest.mark.parametrize("remote_dns", [True, False])
@pytest.mark.parametrize("scheme", REMOTE)
async def test_who_looks_up_the_name_of_the_exchange(
    runtime: Runtime, looked_up: list[str], scheme: str, *, remote_dns: bool
) -> None:
    seen = b""

    async def serve(stream: ByteStream) -> None:
        nonlocal seen
        if scheme == "socks5":
            await read(stream, 3)
            await stream.send(b"\x05\x00")
        seen = await read(stream, len(expected))

    expected = (REMOTE if remote_dns else LOCAL)[scheme]
    async with listening(serve) as port:
        await failures(
            runtime, Addresses(*NOWHERE, proxies=Proxies.of({"url": f"{scheme}://127.0.0.1:{port}", "remote_dns": remote_dns}))
        )
    assert seen == expected
    assert looked_up == ([] if remote_dns else ["exchange.invalid"] * 2)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_name_that_cannot_be_looked_up_here_is_told_so(runtime: Runtime, looked_up: list[str], scheme: str) -> None:
    addresses = Addresses(
        "https://unknown.invalid",
        "wss://unknown.invalid",
        proxies=Proxies.of({"url": f"{scheme}://127.0.0.1:1", "remote_dns": False}),
    )
    for fact in await failures(runtime, addresses):
        assert isinstance(fact.error, ProxyUnreachableTarget)
        assert "unknown.invalid cannot be looked up here" in fact.reason
    assert looked_up == ["unknown.invalid"] * 2


@pytest.mark.parametrize("scheme", CARRIERS)
async def test_a_connection_that_breaks_names_the_proxy_that_it_went_through(runtime: Runtime, scheme: str) -> None:
    scopes: list[anyio.CancelScope] = []

    async def serve(stream: ByteStream) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await CARRIERS[scheme](stream)

    async with serve_sandbox() as sandbox, listening(serve) as port:
        proxies = Proxies.of(f"{scheme}://127.0.0.1:{port}")
        async with runtime.transport(Addresses(sandbox.rest_url, sandbox.ws_url, proxies=proxies)) as transport:
            transport.perform(OpenSocket())
            await facts_until(transport, Connected)
            scopes[0].cancel()
            end = (await facts_until(transport, Disconnected))[-1]
            assert isinstance(end, Disconnected)
            assert end.code == 1006
            assert end.reason.endswith(f"(through proxy {scheme}://127.0.0.1:{port})")
            sandbox.mute = True
            transport.perform(ping(timeout_us=200_000))
            failed = (await facts_until(transport, RequestFailed))[-1]
            assert isinstance(failed, RequestFailed)
            assert failed.reason == f"no answer within 0.2 s (through proxy {scheme}://127.0.0.1:{port})"
            assert failed.sent
            assert failed.proxy is None


async def test_rest_and_websocket_take_a_way_each_and_the_log_names_it_once_a_connection(
    runtime: Runtime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="backpack_runtime.network.proxy_settings")
    async with serve_sandbox() as sandbox, listening(carry_http) as http, listening(carry_socks5) as socks:
        proxies = Proxies.of({"http": f"http://user:canary@127.0.0.1:{http}", "websocket": f"socks5h://127.0.0.1:{socks}"})
        async with runtime.transport(Addresses(sandbox.rest_url, sandbox.ws_url, proxies=proxies)) as transport:
            transport.perform(OpenSocket())
            await facts_until(transport, Connected)
            for number in (1, 2):
                transport.perform(ping(number))
                await facts_until(transport, ResponseReceived)
    assert caplog.messages == [
        f"proxy: transport=websocket exchange=backpack scheme=socks5 endpoint=127.0.0.1:{socks}",
        f"proxy: transport=http exchange=backpack scheme=http endpoint=127.0.0.1:{http}",
    ]


@pytest.mark.parametrize(
    ("scheme", "script"),
    [
        ("http", [(HEAD, b"HTTP/1.1 407 No\r\n\r\n")]),
        ("http", [(HEAD, b"HTTP/1.1 20")]),
        ("http", [(HEAD, b"SSH\r\n\r\n")]),
        ("socks5", [*OFFERED_PASSWORD, (13, b"\x01\x01")]),
        ("socks5", [*OFFERED_PASSWORD, (13, b"")]),
        ("socks5", [(4, b"\xff\xff")]),
    ],
)
async def test_no_failure_has_a_password_in_the_locals_of_its_frames(
    runtime: Runtime, scheme: str, script: list[tuple[int, bytes]]
) -> None:
    async def serve(stream: ByteStream) -> None:
        for size, answer in script:
            await (read_head(stream) if size == HEAD else read(stream, size))
            await stream.send(answer)

    told: list[traceback.TracebackException] = []
    async with listening(serve) as port:
        proxy = Proxy.parse(f"{scheme}://user:canary@127.0.0.1:{port}")
        try:
            await dial("exchange.invalid", 443, proxy, 5, streams=ANYIO_STREAMS)
        except ProxyError as error:
            told.append(traceback.TracebackException.from_exception(error, capture_locals=True))
        for fact in await failures(runtime, Addresses(*NOWHERE, proxies=Proxies(proxy, proxy))):
            assert fact.error is not None
            told.append(traceback.TracebackException.from_exception(fact.error, capture_locals=True))
    text = "".join(line for one in told for line in one.format())
    assert len(told) == 3
    assert text.count(f"127.0.0.1:{port}") >= 3
    for needle in ("canary", b64encode(b"user:canary").decode()):
        assert needle not in text


async def test_a_client_raises_the_typed_error_of_its_proxy(runtime: Runtime) -> None:
    async def refuse(stream: ByteStream) -> None:
        await read_head(stream)
        await stream.send(b"HTTP/1.1 407 No\r\n\r\n")

    async with listening(refuse) as port:
        with pytest.raises(ProxyAuthFailed, match=f"proxy http://127.0.0.1:{port} refused the credentials"):
            async with BackpackClient(settings=Settings(runtime=runtime.name, proxies=f"http://user:canary@127.0.0.1:{port}")):
                pass


async def test_a_client_goes_on_trying_and_counts_what_fails_at_the_proxy(runtime: Runtime) -> None:
    refusing = False

    async def serve(stream: ByteStream) -> None:
        if not refusing:
            await carry_http(stream)

    async with serve_sandbox() as sandbox, listening(serve) as port:
        proxies = f"http://127.0.0.1:{port}"
        async with BackpackClient(
            ["SOL_USDC"],
            channels=["trades"],
            settings=Settings(rest_url=sandbox.rest_url, ws_url=sandbox.ws_url, proxies=proxies, runtime=runtime.name),
        ) as client:
            with anyio.fail_after(PATIENCE_SECONDS):
                refusing = True
                sandbox.drop_connections()
                downs = [event async for event in _some(client, ConnectionDown, 2)]
            assert isinstance(downs[1], ConnectionDown)
            assert isinstance(downs[1].error, ProxyRefused)
            assert client.metrics.proxy_failures >= 1
            assert any(f"proxy http://127.0.0.1:{port} " in reason for reason in client.health.reasons)


async def _some(client: BackpackClient, kind: type[ConnectionDown], count: int) -> AsyncIterator[ConnectionDown]:
    async for event in client:
        if isinstance(event, kind):
            yield event
            count -= 1
            if not count:
                return


async def test_the_client_s_own_sandbox_is_proxied_only_when_that_is_said(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = 0

    async def serve(stream: ByteStream) -> None:
        nonlocal used
        used += 1
        await carry_http(stream)

    async with listening(serve) as port:
        monkeypatch.setenv("CRYPTOFEED_PROXY_ENABLED", "true")
        monkeypatch.setenv("CRYPTOFEED_PROXY_DEFAULT__HTTP__URL", f"http://127.0.0.1:{port}")
        async with BackpackClient(sandbox=True, settings=Settings(runtime=runtime.name)):
            assert used == 0
        async with BackpackClient(sandbox=True, settings=Settings(runtime=runtime.name, proxies=f"http://127.0.0.1:{port}")):
            assert used > 0

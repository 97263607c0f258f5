"""Serves the simulated exchange on loopback: REST and websocket on one port, plain or over TLS.

Backpack has no testnet (docs/protocol.md 1.1). This one speaks the same wire, has made-up markets, and can be told to misbehave.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from anyio.abc import ByteStream, Listener, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from backpack_proto.exchange import (
    THROWAWAY_API_KEY,
    THROWAWAY_SECRET,
    AbandonRequest,
    CloseConnection,
    Exchange,
    ExchangeInput,
    FrameReceived,
    PingSocket,
    RequestReceived,
    Respond,
    SendFrame,
    SocketClosed,
    SocketOpened,
    SocketPonged,
)
from backpack_proto.inputs import PongReceived, TimerFired
from backpack_proto.machine import earliest

from .extras import MissingExtra
from .framing import server as wire
from .network.send_queue import BROKEN, Outgoing
from .settings import Settings
from .transport import system_now

__all__ = ["Sandbox", "serve_sandbox"]

READ_BYTES = 64 * 1024
BACKLOG_BYTES = 16 * 1024 * 1024
"""A client that lets so much wait is dropped."""
FLUSH_SECONDS = 5.0
"""How long a client may take to read what it was sent last."""


def _nothing(_: bytes) -> bool:
    return False


class _Client:
    """One TCP connection."""

    def __init__(self, number: int, stream: ByteStream) -> None:
        self.number = number
        self.stream = stream
        self.framing = wire.ServerFraming(compression=True)
        self.upgraded = False
        self.scope = anyio.CancelScope()
        self.outgoing = Outgoing()

    def write(self, data: bytes) -> None:
        """Have bytes sent; a client that does not read is dropped."""
        self.outgoing.write(data)
        if self.outgoing.waiting_bytes > BACKLOG_BYTES:
            self.scope.cancel()


class Sandbox:
    """A running simulated exchange: where it is, whose account it has, and how to make it fail."""

    def __init__(self, exchange: Exchange, *, host: str, port: int, ca_file: Path | None) -> None:
        encrypted = "" if ca_file is None else "s"
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.exchange = exchange
        self.rest_url = f"http{encrypted}://{authority}"
        self.ws_url = f"ws{encrypted}://{authority}"
        self.ca_file = ca_file
        """The certificate of the throwaway authority, to be trusted by clients; None without TLS."""
        self.api_key = THROWAWAY_API_KEY
        self.secret = THROWAWAY_SECRET
        """Of the simulated account, which holds nothing real."""
        self.refusing = False
        """Close each new connection at once, and each request unanswered."""
        self.mute = False
        """Say nothing any more, not even to pings; connections stay open."""
        self.silent: Callable[[bytes], bool] = _nothing
        """Which data frames are not sent, while pings and requests are answered all the same."""
        self.late_us = 0
        """How much later than they were made data frames are sent, in order, microseconds."""
        self._late: deque[tuple[int, int, bytes]] = deque()
        """When which connection is sent what."""
        self._clients: dict[int, _Client] = {}
        self._requests: dict[int, _Client] = {}
        self._last_request = 0
        self.connections = 0
        """How many TCP connections were ever accepted, refused ones included."""
        self._woken = anyio.Event()

    @property
    def settings(self) -> Settings:
        """How a client reaches it."""
        return Settings(rest_url=self.rest_url, ws_url=self.ws_url, ca_file=self.ca_file)

    def drop_connections(self) -> None:
        """Cut every connection without a word, as a killed server does."""
        for client in self._clients.values():
            client.scope.cancel()

    def inject(self, data: bytes, *, raw: bool = False) -> None:
        """Send a text message, or with `raw` any bytes at all, on every websocket."""
        for client in self._clients.values():
            if client.upgraded:
                client.write(data if raw else client.framing.message(data))

    async def run_clock(self) -> None:
        """Let the markets live."""
        while True:
            now = system_now()
            deadline = earliest(self.exchange.deadline, self._late[0][0] if self._late else None)
            with anyio.move_on_after(None if deadline is None else max(deadline - now.mono_us, 0) / 1e6):
                await self._woken.wait()
            self._send_late(system_now().mono_us)
            self._give(TimerFired())
            # Behind its own input, which wakes whoever waits: the deadline is read anew in any case.
            self._woken = anyio.Event()

    def _send_late(self, mono_us: int) -> None:
        while self._late and self._late[0][0] <= mono_us:
            _, connection, data = self._late.popleft()
            receiver = self._clients.get(connection)
            if receiver is not None and not receiver.framing.closed:
                receiver.write(receiver.framing.message(data))

    async def serve(self, stream: ByteStream) -> None:
        """Serve one TCP connection until it ends."""
        self.connections += 1
        client = _Client(self.connections, stream)
        if self.refusing:
            await anyio.aclose_forcefully(stream)
            return
        self._clients[client.number] = client
        try:
            with client.scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(client.outgoing.send_all, stream)
                    await self._read(client)
                    client.outgoing.finish()
                    tasks.cancel_scope.deadline = anyio.current_time() + FLUSH_SECONDS
        finally:
            del self._clients[client.number]
            self._requests = {number: other for number, other in self._requests.items() if other is not client}
            if client.upgraded:
                self._give(SocketClosed(client.number))
            await anyio.aclose_forcefully(stream)

    async def _read(self, client: _Client) -> None:
        while not client.framing.closed:
            try:
                data = await client.stream.receive(READ_BYTES)
            except BROKEN:
                data = b""
            if self.mute and data:
                continue
            for fact in client.framing.receive(data):
                self._take(client, fact)
            client.write(client.framing.to_send())
            if not data:
                return

    def _take(self, client: _Client, fact: wire.ServerFact) -> None:
        match fact:
            case wire.UpgradeRequested():
                client.write(client.framing.accept())
                client.upgraded = True
                self._give(SocketOpened(client.number))
            case wire.MessageReceived(data):
                self._give(FrameReceived(client.number, data))
            case PongReceived(payload):
                self._give(SocketPonged(client.number, payload))
            case wire.HttpRequestReceived():
                self._last_request += 1
                self._requests[self._last_request] = client
                self._give(RequestReceived(self._last_request, fact.method, fact.target, fact.headers, fact.body))
            case wire.PeerClosed():
                pass  # the end of the read loop tells the exchange

    def _give(self, given: ExchangeInput) -> None:
        for output in self.exchange.handle(given, system_now()):
            if self.mute:
                continue
            if isinstance(output, Respond):
                client = self._requests.pop(output.request_id, None)
                if client is None:
                    continue  # it is gone, and did not wait for a delayed answer
                client.write(client.framing.respond(output.status, output.content_type, output.body, output.headers))
                continue
            if isinstance(output, AbandonRequest):
                abandoned = self._requests.pop(output.request_id, None)
                if abandoned is not None:
                    abandoned.scope.cancel()
                continue
            receiver = self._clients.get(output.connection)
            if receiver is None or receiver.framing.closed:
                continue
            match output:
                case SendFrame(data=data) if self.silent(data):
                    pass
                case SendFrame(data=data) if self.late_us or self._late:
                    self._late.append((system_now().mono_us + self.late_us, output.connection, data))
                case SendFrame(data=data):
                    receiver.write(receiver.framing.message(data))
                case PingSocket(payload=payload):
                    receiver.write(receiver.framing.ping(payload))
                case CloseConnection(code=None):
                    receiver.scope.cancel()
                case CloseConnection(code=int(code)):
                    receiver.write(receiver.framing.close(code))
        self._woken.set()


@asynccontextmanager
async def serve_sandbox(
    *, host: str = "127.0.0.1", port: int = 0, tls: bool = False, seed: int = 0, speed: float = 1.0
) -> AsyncGenerator[Sandbox]:
    """Serve a simulated exchange for as long as the block runs; port 0 takes a free one.

    With `tls`, a throwaway certificate authority is made, whose certificate is in `Sandbox.ca_file` as long as the block runs.

    Raises:
        OSError: the address cannot be had.
        MissingExtra: TLS needs trustme, which is not installed.
    """
    exchange = Exchange(seed=seed, unix_us=time.time_ns() // 1000, speed=speed)
    with TemporaryDirectory(prefix="backpack-sandbox-") as folder:
        ca_file = Path(folder) / "ca.pem" if tls else None
        ssl_context = None if ca_file is None else _throwaway_tls(host, ca_file)
        async with _closed_at_the_end(await anyio.create_tcp_listener(local_host=host, local_port=port)) as listener:
            address = listener.extra(SocketAttribute.local_address)
            sandbox = Sandbox(exchange, host=host, port=int(address[1]), ca_file=ca_file)

            async def serve(stream: ByteStream) -> None:
                if ssl_context is None:
                    await sandbox.serve(stream)
                    return
                encrypted: TLSStream | None = None
                try:
                    encrypted = await TLSStream.wrap(
                        stream, server_side=True, ssl_context=ssl_context, standard_compatible=False
                    )
                except BROKEN:
                    return
                finally:
                    # The end of the sandbox may come before that of the handshake.
                    if encrypted is None:
                        await anyio.aclose_forcefully(stream)
                await sandbox.serve(encrypted)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, serve)
                tasks.start_soon(sandbox.run_clock)
                yield sandbox
                tasks.cancel_scope.cancel()


@asynccontextmanager
async def _closed_at_the_end(listener: Listener[SocketStream]) -> AsyncGenerator[Listener[SocketStream]]:
    try:
        yield listener
    finally:
        # A cancellation that came up here would take the place of the error that has ended the block.
        with anyio.CancelScope(shield=True):
            await listener.aclose()


def _throwaway_tls(host: str, ca_file: Path) -> ssl.SSLContext:
    try:
        import trustme  # noqa: PLC0415 - an extra, which need not be installed
    except ImportError as missing:
        raise MissingExtra("a sandbox with TLS", "tls-sandbox", missing) from missing

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host, "localhost").configure_cert(context)
    return context

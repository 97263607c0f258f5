"""Serves the simulated exchange on loopback: REST and websocket on one port, plain or over TLS.

Backpack has no testnet (docs/protocol.md 1.1). This one speaks the same wire, has made-up markets, and can be told to misbehave
(docs/sandbox.md).
"""

from __future__ import annotations

import errno
import hashlib
import logging
import ssl
import time
from base64 import b64encode
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream, TaskGroup
from anyio.streams.stapled import MultiListener
from anyio.streams.tls import TLSStream

from backpack_proto.auth.keys import Credentials
from backpack_proto.errors import ConfigurationError
from backpack_proto.exchange import (
    LISTINGS,
    THROWAWAY_API_KEY,
    THROWAWAY_SECRET,
    AbandonRequest,
    CloseConnection,
    Exchange,
    ExchangeInput,
    FrameReceived,
    PingSocket,
    PlanFaults,
    PlannedFault,
    RefuseConnections,
    RequestReceived,
    Respond,
    SendFrame,
    SocketClosed,
    SocketOpened,
    SocketPonged,
    more_listings,
    parse_faults,
)
from backpack_proto.inputs import PongReceived, TimerFired
from backpack_proto.machine import earliest
from backpack_proto.values import Value

from .extras import MissingExtra
from .framing import server as wire
from .network.send_queue import BROKEN, Outgoing
from .sandbox_control import answer_control, is_control, is_loopback
from .settings import Settings
from .transport import system_now

__all__ = ["Sandbox", "SandboxAccount", "serve_sandbox"]

_log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
BACKLOG_BYTES = 16 * 1024 * 1024
"""A client that lets so much wait is dropped."""
FLUSH_SECONDS = 5.0
"""Time that a client may take to read its last data."""
MOST_ACCOUNTS = 1_000
ACCEPT_PAUSE_SECONDS = 0.1
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why a connection could not be accepted, where waiting helps."""
_ABORTED = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH})
"""Why one could not that ended before it was accepted."""


class SandboxAccount(Value, frozen=True, gc=False, kw_only=True):
    """The keys of one simulated account, which holds no real money: they follow from the seed."""

    api_key: str
    secret: str


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
        self.controls = False
        """True when it has asked for faults. Then it is spared those."""

    @property
    def is_local(self) -> bool:
        """True when it comes from this machine."""
        address = self.stream.extra(SocketAttribute.remote_address, None)
        return isinstance(address, tuple) and is_loopback(str(address[0]))

    def write(self, data: bytes) -> None:
        """Have bytes sent. A client that does not read is dropped."""
        self.outgoing.write(data)
        if self.outgoing.waiting_bytes > BACKLOG_BYTES:
            self.scope.cancel()


class Sandbox:
    """A running simulated exchange: where it is, whose accounts it has, and how to make it fail."""

    def __init__(
        self, exchange: Exchange, *, host: str, port: int, ca_file: Path | None, accounts: Sequence[SandboxAccount] = ()
    ) -> None:
        encrypted = "" if ca_file is None else "s"
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.exchange = exchange
        self.rest_url = f"http{encrypted}://{authority}"
        self.ws_url = f"ws{encrypted}://{authority}"
        self.ca_file = ca_file
        """The certificate of the throwaway authority, to be trusted by clients, or None without TLS."""
        self.api_key = THROWAWAY_API_KEY
        self.secret = THROWAWAY_SECRET
        """Of the first simulated account, which holds no real money."""
        self.accounts = tuple(accounts)
        """The keys of every account, the first one's first."""
        self.refusing = False
        """Close each new connection at once, and each request unanswered."""
        self.mute = False
        """Fall silent, even to pings. Connections stay open."""
        self.silent: Callable[[bytes], bool] = _nothing
        """Which data frames are not sent, while pings and requests are answered all the same."""
        self.late_us = 0
        """Delay of data frames, which are sent in order, microseconds."""
        self._down = False
        """True when a planned fault refuses everybody."""
        self._late: deque[tuple[int, int, bytes]] = deque()
        """Frames for connections, and their times."""
        self._clients: dict[int, _Client] = {}
        self._requests: dict[int, _Client] = {}
        self._last_request = 0
        self.connections = 0
        """Number of TCP connections that were ever accepted, refused ones included."""
        self._woken = anyio.Event()

    @property
    def settings(self) -> Settings:
        """Settings of a client that reach it."""
        return Settings(rest_url=self.rest_url, ws_url=self.ws_url, ca_file=self.ca_file)

    def drop_connections(self) -> None:
        """Cut every connection without a word, as a killed server does."""
        for client in self._clients.values():
            client.scope.cancel()

    def plan_faults(self, faults: str | Sequence[PlannedFault]) -> None:
        """Let faults happen by a plan such as `gap,mute@5-12`, in seconds from now. It takes the place of the one before.

        Raises:
            LocalProtocolError: the plan cannot be read. The text lists the faults that there are.
        """
        self._give(PlanFaults(parse_faults(faults) if isinstance(faults, str) else tuple(faults)))

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
            # Behind its own input, which wakes the waiting task: the deadline is read again in any case.
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
        if self.refusing or self._down:
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
            case wire.HttpRequestReceived() if is_control(fact.target):
                client.controls = True
                planned, answer = answer_control(
                    self.exchange, fact.method, fact.target, fact.body, system_now(), local=client.is_local
                )
                if planned is not None:
                    self.plan_faults(planned)
                    _, answer = answer_control(self.exchange, "GET", fact.target, b"", system_now(), local=True)
                client.write(client.framing.respond(answer.status, answer.content_type, answer.body, answer.headers))
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
            if isinstance(output, RefuseConnections):
                self._down = output.refuse
                for other in self._clients.values() if self._down else ():
                    if not other.controls:
                        other.scope.cancel()
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
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: bool = False,
    seed: int = 0,
    speed: float = 1.0,
    accounts: int = 1,
    markets: int = 0,
    faults: str | Sequence[PlannedFault] = (),
) -> AsyncGenerator[Sandbox]:
    """Serve a simulated exchange for as long as the block runs. Port 0 takes a free one.

    With `tls`, a throwaway certificate authority is made, whose certificate is in `Sandbox.ca_file` as long as the block runs. The keys
    of the `accounts` come from the seed and are in `Sandbox.accounts`. They trade with each other in the same books. `markets` are so
    many more than the standard ones. `faults` is a plan such as `gap,drop@12,mute@20-30`, in seconds from the start
    (docs/sandbox.md).

    Raises:
        ConfigurationError: there are to be no accounts, or too many.
        LocalProtocolError: there are to be too many markets, or the plan of faults cannot be read.
        OSError: the address cannot be had.
        MissingExtra: TLS needs trustme, which is not installed.
    """
    planned = parse_faults(faults) if isinstance(faults, str) else tuple(faults)
    keys = _accounts(accounts, seed)
    exchange = Exchange(
        seed=seed,
        unix_us=time.time_ns() // 1000,
        speed=speed,
        api_keys=[account.api_key for account in keys],
        listings=(*LISTINGS, *more_listings(markets, seed=seed)),
    )
    with TemporaryDirectory(prefix="backpack-sandbox-") as folder:
        ca_file = Path(folder) / "ca.pem" if tls else None
        ssl_context = None if ca_file is None else _throwaway_tls(host, ca_file)
        async with _closed_at_the_end(await anyio.create_tcp_listener(local_host=host, local_port=port)) as listener:
            address = listener.extra(SocketAttribute.local_address)
            sandbox = Sandbox(exchange, host=host, port=int(address[1]), ca_file=ca_file, accounts=keys)

            async def serve(stream: SocketStream) -> None:
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
                for one in listener.listeners:
                    assert isinstance(one, SocketListener)  # noqa: S101 - anyio says only that it is a listener
                    tasks.start_soon(_accept, one, serve, tasks)
                tasks.start_soon(sandbox.run_clock)
                if planned:
                    sandbox.plan_faults(planned)
                yield sandbox
                tasks.cancel_scope.cancel()


async def _accept(
    listener: SocketListener, serve: Callable[[SocketStream], Coroutine[Any, Any, None]], tasks: TaskGroup
) -> None:
    """Take in every connection. Where the process or the system is short of something, wait and go on."""
    short = False
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            if error.errno in _ABORTED:
                continue
            if error.errno not in _SHORTAGES:
                raise
            if not short:
                _log.warning("the sandbox cannot accept connections: %s; those that wait are taken in when others end", error)
            short = True
            await anyio.sleep(ACCEPT_PAUSE_SECONDS)
            continue
        if short:
            _log.warning("the sandbox accepts connections again")
            short = False
        tasks.start_soon(serve, stream)


def _accounts(count: int, seed: int) -> tuple[SandboxAccount, ...]:
    """The keys of so many accounts: the first is the one that every sandbox has, the others come from the seed."""
    if not 1 <= count <= MOST_ACCOUNTS:
        raise ConfigurationError(f"accounts: 1 to {MOST_ACCOUNTS}, got {count}")
    keys = [SandboxAccount(api_key=THROWAWAY_API_KEY, secret=THROWAWAY_SECRET)]
    for number in range(2, count + 1):
        secret = b64encode(hashlib.sha256(f"backpack sandbox {seed} account {number}".encode()).digest()).decode()
        keys.append(SandboxAccount(api_key=Credentials(secret).api_key, secret=secret))
    return tuple(keys)


@asynccontextmanager
async def _closed_at_the_end(listener: MultiListener[SocketStream]) -> AsyncGenerator[MultiListener[SocketStream]]:
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

"""A server on a port, for as long as a block runs."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, closing
from typing import Final, NamedTuple

import anyio
from aiohttp import web

from backpack_proto.errors import BackpackError, ConfigurationError
from backpack_proto.hints import shown
from backpack_runtime.client import BackpackClient
from backpack_runtime.sandbox_control import is_loopback

from .access import LOOPBACK_NAMES
from .app import READERS, make_app

__all__ = ["Listening", "bind", "serve_dashboard", "serve_on"]

SHUTDOWN_SECONDS: Final = 1.0
"""Time for answers that have begun, at the end. Streams are ended before."""


class Listening(NamedTuple):
    """Port of this machine that was taken."""

    socket: socket.socket
    host: str
    """The address itself, not the name that was given."""
    port: int

    @property
    def on_loopback(self) -> bool:
        """True where only this machine reaches it."""
        return is_loopback(self.host)

    def hosts(self, name: str) -> frozenset[str] | None:
        """Return the names that a Host header may say, where it listens by this one. None is any name."""
        return LOOPBACK_NAMES | {name, self.host} if self.on_loopback else None

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://[{self.host}]:{self.port}/" if ":" in self.host else f"http://{self.host}:{self.port}/"


async def bind(host: str, port: int) -> Listening:
    """Take a port of an address of this machine. Port 0 is a free one.

    Raises:
        BackpackError: the address cannot be had, and the text says why.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise BackpackError(f"host: {shown(host)} is not an address of this machine, give one such as 127.0.0.1") from None
    family, _, _, _, address = found[0]
    try:
        taken = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise BackpackError(_why_not(host, port, error)) from None
    own = taken.getsockname()
    return Listening(taken, str(own[0]), int(own[1]))


def _why_not(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port: {port} of {host} is in use by another program, give another one, or 0 for a free one"
        case errno.EACCES:
            return f"port: {port} of {host} is for privileged programs, give one from 1024 on, or 0 for a free one"
        case errno.EADDRNOTAVAIL:
            return f"host: {host} is not an address of this machine, give one such as 127.0.0.1"
        case _:
            return f"host: {host} port {port} cannot be had: {error.strerror or error}"


@asynccontextmanager
async def serve_dashboard(
    client: BackpackClient,
    *,
    symbols: Iterable[str] | None = None,
    channels: Iterable[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str | None = None,
    readers: int = READERS,
) -> AsyncGenerator[str]:
    """Serve a client for as long as the block runs. The block gets the address of the page.

        async with BackpackClient(["SOL_USDC"], sandbox=True) as client, serve_dashboard(client, port=0) as url:
            print(url)
            ...

    Args:
        client: has been entered, on asyncio.
        symbols: the markets that are shown, every market with a book unless given.
        channels: the channels that the client has subscribed, for an error about any other one. All are taken unless given.
        host: the address to listen on. A token is needed everywhere but on loopback.
        port: the port, 0 for a free one.
        token: the secret that a reader has to show, as `Authorization: Bearer`, or once as `?token=` of the page.
        readers: how many streams may be read at once.

    Raises:
        ConfigurationError: an argument cannot be used, or there is no token where one is needed.
        BackpackError: the address cannot be had.
        LocalProtocolError: a symbol does not exist, or its book is not subscribed.
    """
    listening = await bind(host, port)
    with closing(listening.socket):
        if token is None and not listening.on_loopback:
            raise ConfigurationError(
                f"token: {host} can be reached from other machines, so give token=..., or listen on 127.0.0.1"
            )
        app = make_app(client, symbols=symbols, channels=channels, token=token, hosts=listening.hosts(host), readers=readers)
        async with serve_on(listening, app):
            yield listening.url


@asynccontextmanager
async def serve_on(listening: Listening, app: web.Application) -> AsyncGenerator[None]:
    """Serve an application on a port that is had, for as long as the block runs."""
    # A handler ends when its reader goes.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listening.socket).start()
        yield
    finally:
        # After a Ctrl-C as well: readers are ended in order, within a second.
        with anyio.CancelScope(shield=True):
            await runner.cleanup()

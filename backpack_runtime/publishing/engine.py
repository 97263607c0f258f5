"""The way to NATS: a connection that is kept up, and the two streams of JetStream for messages.

`BACKPACK_FEED` has changes of books, whole books, trades and states, each message once. `BACKPACK_LAST` has the latest message of each
subject. Streams that exist are looked at and never changed: how long and where they keep messages is up to the operator of the engine, but
the settings that publishers and consumers rely on have to be as they are here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import anyio

from backpack_proto.errors import ConfigurationError
from backpack_runtime.event_loop import running_library
from backpack_runtime.extras import MissingExtra

from .errors import EngineFailed
from .subjects import FEED_SUBJECTS, LAST_SUBJECTS

try:
    from nats.aio.client import Client
    from nats.errors import Error as NatsError
    from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
    from nats.js.errors import APIError, NotFoundError
except ImportError as missing:
    raise MissingExtra("publishing to NATS", "nats", missing) from missing

__all__ = [
    "DUPLICATE_SECONDS",
    "FEED",
    "LAST",
    "APIError",
    "Engine",
    "EngineFailed",
    "NatsError",
    "NotFoundError",
    "open_engine",
    "shown_url",
]

_log = logging.getLogger("backpack_runtime.publishing")

FEED: Final = "BACKPACK_FEED"
LAST: Final = "BACKPACK_LAST"
DUPLICATE_SECONDS: Final = 120.0
"""The engine remembers the ids of messages for so long."""
KEPT_SECONDS: Final = 86_400.0
KEPT_BYTES: Final = 8 * 1024**3
RECONNECT_SECONDS: Final = 1
CONNECT_SECONDS: Final = 5
REQUEST_SECONDS: Final = 5.0
PING_SECONDS: Final = 5
"""A server that does not answer two of these in a row is gone."""
PENDING_BYTES: Final = 64 * 1024**2
"""Buffer of nats-py without a connection. It never fills, for it is not used then."""
SCHEMES: Final = ("nats", "tls", "ws", "wss")


class Engine:
    """One connection to NATS."""

    def __init__(self, url: str) -> None:
        self.url = url
        """Without user and password."""
        self.connection: Any = None
        self.stream: Any = None
        """JetStream, by nats-py."""
        self.up = anyio.Event()
        """Set while there is a connection."""
        self.reconnected: list[Callable[[], None]] = []
        """Called when there is one again."""
        self.down_since: float | None = None
        """Since when it is gone, on the clock of the event loop."""
        self.leaving = False

    @property
    def is_up(self) -> bool:
        """True while there is a connection."""
        return self.down_since is None and bool(self.connection.is_connected)

    async def wait_up(self) -> None:
        """Wait for a connection.

        Raises:
            EngineFailed: the server refuses for good.
        """
        while not self.is_up:
            if self.connection.is_closed:
                raise EngineFailed(f"NATS at {self.url} has refused the connection: {described(self.connection.last_error)}")
            with anyio.move_on_after(RECONNECT_SECONDS):
                await self.up.wait()

    async def lost(self) -> None:
        """Note that the connection is gone. nats-py makes another one."""
        if self.down_since is None and not self.connection.is_closed:
            self.down_since = anyio.current_time()
            self.up = anyio.Event()
            _log.warning("NATS at %s is gone, and is tried again until it is back", self.url)

    async def found(self) -> None:
        """Note that there is a connection again."""
        since, self.down_since = self.down_since, None
        if since is not None:
            _log.warning("NATS at %s is back after %.1f s", self.url, anyio.current_time() - since)
        self.up.set()
        for tell in self.reconnected:
            tell()

    async def ended(self) -> None:
        """Let tasks that wait for a connection see that the server refuses."""
        if not self.leaving:
            self.down_since = anyio.current_time()
        self.up.set()

    async def check_streams(self, *, create: bool) -> None:
        """Find both streams as they have to be. With `create`, make those that do not exist.

        Raises:
            ConfigurationError: one has other settings, and the text names each of them.
            EngineFailed: one is missing and not to be made, or JetStream cannot be used.
        """
        for wanted in _streams():
            await self._check_stream(wanted, create=create)

    async def _check_stream(self, wanted: StreamConfig, *, create: bool) -> None:
        name = wanted.name
        try:
            try:
                found = await self.stream.stream_info(name)
            except NotFoundError:
                if not create:
                    raise EngineFailed(f"NATS at {self.url} has no stream {name}: nobody has published yet") from None
                found = await self.stream.add_stream(wanted)
        except (NatsError, TimeoutError) as failed:
            raise EngineFailed(f"JetStream of NATS at {self.url} cannot be used: {described(failed)}") from None
        differences = list(_differences(wanted, found.config))
        if differences:
            raise ConfigurationError(
                f"the stream {name} of NATS at {self.url} has other settings: {'; '.join(differences)};"
                f" change them, or remove the stream (nats stream rm {name}) and have it made again"
            )


def shown_url(url: str) -> str:
    """Return a URL without user and password.

    Raises:
        ConfigurationError: it is no URL of a NATS server.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in SCHEMES or not host:
        raise ConfigurationError(
            f"nats: a URL such as nats://127.0.0.1:4222, of {', '.join(SCHEMES)}. The given text is not shown, for it may hold a password"
        )
    authority = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{authority}" + ("" if port is None else f":{port}")


def described(failed: BaseException | None) -> str:
    """Return an error of nats-py in one line."""
    if isinstance(failed, APIError):
        return f"{failed.description} (code {failed.code}, {failed.err_code})"
    return str(failed).removeprefix("nats: ") or type(failed).__name__


@asynccontextmanager
async def open_engine(url: str, *, name: str) -> AsyncGenerator[Engine]:
    """Connect to NATS, and stay connected until the block is left. The server shows `name`.

    Raises:
        ConfigurationError: the URL cannot be used, or this is not asyncio.
        EngineFailed: NATS cannot be reached, or refuses.
    """
    engine = Engine(shown_url(url))
    if running_library() != "asyncio":
        raise ConfigurationError(
            "nats: nats-py runs on asyncio alone; leave out --backend trio, or run by anyio.run(main, backend='asyncio')"
        )
    connecting = True

    async def note(failed: Exception) -> None:
        if connecting:
            # nats-py would try the first connection for ever as well.
            raise failed
        _log.debug("NATS at %s: %s", engine.url, described(failed))

    engine.connection = connection = Client()
    try:
        with anyio.fail_after(2 * CONNECT_SECONDS):
            await connection.connect(
                url,
                name=name,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_SECONDS,
                connect_timeout=CONNECT_SECONDS,
                pending_size=PENDING_BYTES,
                ping_interval=PING_SECONDS,
                disconnected_cb=engine.lost,
                reconnected_cb=engine.found,
                closed_cb=engine.ended,
                error_cb=note,
            )
    except (NatsError, OSError, TimeoutError) as failed:
        # A server that refuses has been connected to.
        engine.leaving, connecting = True, False
        await connection.close()
        raise EngineFailed(f"NATS at {engine.url} cannot be reached: {described(failed)}") from None
    connecting = False
    engine.stream = connection.jetstream(timeout=REQUEST_SECONDS)
    engine.up.set()
    try:
        yield engine
    finally:
        engine.leaving = True
        engine.reconnected.clear()
        with anyio.CancelScope(shield=True), anyio.move_on_after(REQUEST_SECONDS):
            await connection.close()


def _streams() -> tuple[StreamConfig, StreamConfig]:
    feed = StreamConfig(
        name=FEED,
        description="Backpack Exchange: books, trades and states, each message once",
        subjects=[FEED_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_age=KEPT_SECONDS,
        max_bytes=KEPT_BYTES,
        duplicate_window=DUPLICATE_SECONDS,
        allow_direct=True,
    )
    last = StreamConfig(
        name=LAST,
        description="Backpack Exchange: the latest message of each subject",
        subjects=[LAST_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_msgs_per_subject=1,
        duplicate_window=DUPLICATE_SECONDS,
        allow_direct=True,
    )
    return feed, last


def _differences(wanted: StreamConfig, found: StreamConfig) -> list[str]:
    """Return the differences that publishers and consumers cannot live with."""
    differences = []
    if set(found.subjects or ()) != set(wanted.subjects or ()):
        differences.append(
            f"subjects {', '.join(sorted(found.subjects or ()))} instead of {', '.join(sorted(wanted.subjects or ()))}"
        )
    if found.duplicate_window < DUPLICATE_SECONDS:
        differences.append(f"duplicate_window {found.duplicate_window:g} s, less than {DUPLICATE_SECONDS:g} s")
    for member in ("retention", "discard", "max_msgs_per_subject", "allow_direct"):
        theirs, ours = getattr(found, member), getattr(wanted, member)
        if theirs != ours:
            differences.append(f"{member} {theirs} instead of {ours}")
    differences += [f"{member} is set" for member in ("no_ack", "sealed") if getattr(found, member)]
    return differences

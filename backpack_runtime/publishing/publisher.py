"""Publishes the events of a client to NATS JetStream, so that several publishers of one market make one stream (docs/scale-out.md).

Theory. The client has the policy `block`, so events are neither merged nor dropped. Messages that count each go through a `Window`, which
bounds the number without an acknowledgement. While it is full, the client is not read, and the client stops reading the exchange. Of all
other channels the latest message counts (`LatestWriter`). From time to time each book is published whole, so that a consumer that begins need
not read far back, and a report says which books are live here.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from backpack_proto import __version__
from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.outputs import BookSynced
from backpack_proto.published import PublisherEnded, PublisherReport, PublisherStarted
from backpack_proto.streams.channels import Channel
from backpack_proto.streams.names import parse_channel
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.transport import system_now

from .engine import Engine, open_engine
from .errors import tasks_inside
from .latest import LatestWriter
from .messages import Messages
from .window import Window

__all__ = ["DRAIN_SECONDS", "Publisher", "checked_channels", "open_publisher", "publisher_name"]

_log = logging.getLogger("backpack_runtime.publishing")

REPORT_SECONDS: Final = 2.0
SNAPSHOT_SECONDS: Final = 60.0
"""Each book is published whole so often."""
TURN_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 5.0
"""A publisher that is told to end goes on publishing for so long."""
BEHIND_SECONDS: Final = 5.0
"""With messages that have waited for so long no book is called live."""


def publisher_name(given: str | None) -> str:
    """Return the name of this publisher: the given one, or one of machine and process."""
    return given or f"{socket.gethostname()}-{os.getpid()}"


def checked_channels(channels: Iterable[str]) -> tuple[str, ...]:
    """Return channels that can be published.

    Raises:
        ConfigurationError: one is of the account, or is a book that the exchange has aggregated.
        InvalidStream: the exchange has no such channel.
    """
    names = tuple(channels)
    for name in names:
        stream = parse_channel(name)
        if stream.private:
            raise ConfigurationError(f"channels: {name} is about an account, and only market data are published")
        if stream.channel is Channel.DEPTH and stream.window_ms is not None:
            raise ConfigurationError(f"channels: {name} is aggregated; publish book, which has every change")
    return names


class Publisher:
    """One publisher, with its counters and troubles."""

    def __init__(self, engine: Engine, window: Window, latest: LatestWriter, name: str) -> None:
        self.engine = engine
        self.window = window
        self.latest = latest
        self.name = name
        self._messages = Messages(name, run=system_now().unix_us)
        self._taken: deque[Event] = deque()
        """Events that were fetched and are not on their way yet."""
        self._books: dict[str, float] = {}
        """When each book was last published whole."""

    @property
    def troubles(self) -> list[str]:
        """The reasons why messages may be late or incomplete."""
        found = []
        since = self.engine.down_since
        if since is not None:
            found.append(f"NATS at {self.engine.url} has been gone for {anyio.current_time() - since:.0f} s")
        if self.window.refused is not None:
            found.append(f"NATS does not take messages: {self.window.refused}")
        if self.window.oldest_seconds >= BEHIND_SECONDS:
            found.append(f"messages are published {self.window.oldest_seconds:.0f} s late")
        if self.window.oversized:
            found.append(f"{self.window.oversized} messages were larger than NATS takes")
        return found

    async def run(
        self,
        client: BackpackClient,
        *,
        channels: Iterable[str] = (),
        selection: str = "",
        on_report: Callable[[PublisherReport], Awaitable[None]] | None = None,
    ) -> None:
        """Publish the events of a client, which has the policy `block`, until it ends or this is cancelled.

        Raises:
            EngineFailed: NATS has refused the connection for good.
        """
        started = PublisherStarted(publisher=self.name, version=__version__, channels=tuple(channels), selection=selection)
        await self._publish(started)
        async with tasks_inside() as tasks:
            tasks.start_soon(self._report_for_ever, client, on_report)
            tasks.start_soon(self._publish_books_for_ever, client)
            async for events in client.batches():
                self._taken += events
                await self._publish_taken()

    async def drain(self, client: BackpackClient) -> int:
        """Publish all events that the client has by now, and say good-bye. Return how many messages could not be published in time."""
        # It goes on to read, so more comes meanwhile.
        left = client.delivery.waiting
        with anyio.move_on_after(DRAIN_SECONDS, shield=True):
            await self._publish_taken()
            while left:
                await self._publish(await anext(client))
                left -= 1
            await self._publish(PublisherEnded(publisher=self.name))
            await self.window.drain()
        left += len(self._taken) + self.window.waiting
        if left:
            _log.error("%d messages could not be published before the end", left)
        return left

    async def _publish_taken(self) -> None:
        while self._taken:
            # It is taken off afterwards: a cancellation leaves no event out, and one that leaves twice has one id.
            await self._publish(self._taken[0])
            self._taken.popleft()

    async def _publish(self, event: Event) -> None:
        message = self._messages.of(event, system_now().unix_us)
        if message is None:
            return
        if isinstance(event, BookSynced):
            self._books[event.symbol] = anyio.current_time()
        if message.latest:
            self.latest.offer(message)
        else:
            await self.window.publish(message)

    async def _report_for_ever(
        self, client: BackpackClient, on_report: Callable[[PublisherReport], Awaitable[None]] | None
    ) -> None:
        while True:
            troubles = [*client.health.reasons, *self.troubles]
            late = max(self.window.oldest_seconds, client.delivery.behind_us / 1e6) >= BEHIND_SECONDS
            report = PublisherReport(
                publisher=self.name,
                sent_us=system_now().mono_us,
                live=() if late else tuple(sorted(symbol for symbol in self._books if self._is_live(client, symbol))),
                waiting=self.window.waiting + self.latest.waiting,
                troubles=tuple(troubles),
            )
            if on_report is not None:
                await on_report(report)
            if self.engine.is_up:
                # Not while there is no connection: it would be old when it came.
                await self._publish(report)
            await anyio.sleep(REPORT_SECONDS)

    async def _publish_books_for_ever(self, client: BackpackClient) -> None:
        """Publish whole books in turn, a few each second."""
        while True:
            await anyio.sleep(TURN_SECONDS)
            now = anyio.current_time()
            due = [symbol for symbol, at in self._books.items() if now - at >= SNAPSHOT_SECONDS]
            most = 1 + 2 * len(self._books) // int(SNAPSHOT_SECONDS / TURN_SECONDS)
            for symbol in due[:most]:
                self._books[symbol] = now
                if self._is_live(client, symbol):
                    book = client.book(symbol)
                    # It may be ahead of the changes that wait: they are in it, and a consumer that begins drops them.
                    whole = BookSynced(
                        stream=f"{Channel.DEPTH}.{symbol}",
                        symbol=symbol,
                        last=book.last,
                        engine_us=book.engine_us,
                        bids=book.bids(),
                        asks=book.asks(),
                    )
                    await self._publish(whole)

    def _is_live(self, client: BackpackClient, symbol: str) -> bool:
        try:
            return client.book(symbol).live
        except LocalProtocolError:
            return False  # it is subscribed no more


@asynccontextmanager
async def open_publisher(url: str, *, name: str | None = None) -> AsyncGenerator[Publisher]:
    """Connect to NATS, and find or make the streams that are published to. `name` is unlike that of all other publishers.

    Raises:
        ConfigurationError: the URL cannot be used, a stream has other settings, or this is not asyncio.
        EngineFailed: NATS cannot be reached, refuses, or has no JetStream.
    """
    chosen = publisher_name(name)
    async with open_engine(url, name=f"backpack-feed publish {chosen}") as engine:
        await engine.check_streams(create=True)
        async with tasks_inside() as tasks:
            window = Window(engine)
            await tasks.start(window.run)
            yield Publisher(engine, window, LatestWriter(engine, tasks), chosen)

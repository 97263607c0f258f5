"""Streams of server-sent events: the events of the client, and the pictures that the page draws.

Theory. A reader costs a bounded amount of memory: events wait in a queue of the client's own kind, which loses by its policy and says so
(`EventsDropped`), pictures are made when the reader has taken the one before, and the buffers of the
socket are bounded. A reader that stalls for long is let go of.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from aiohttp import web

from backpack_proto.encoding import encode_event
from backpack_proto.errors import BackpackError
from backpack_proto.streams.payloads import Event
from backpack_runtime.client import BackpackClient
from backpack_runtime.delivery import EventStream, SlowConsumer
from backpack_runtime.transport import system_now

from .choice import Choice
from .snapshots import TICK_US, Snapshots

__all__ = ["Readers"]

HEARTBEAT_SECONDS: Final = 5.0
"""A stream without events has a comment so often, so that both sides know of each other."""
STALLED_SECONDS: Final = 30.0
"""A reader that stalls for so long is let go of."""
RETRY_MS: Final = 1_000
"""Time after which a browser asks again."""
BUFFER: Final = 2_000
BUFFER_BYTES: Final = 4_000_000
"""Bounds of the events that wait for one reader."""
CHUNK_BYTES: Final = 65_536


class Readers:
    """All streams that are being read, of which there is a largest number."""

    def __init__(self, limit: int) -> None:
        """`limit` is how many there may be at once."""
        self._limit = limit
        self._open: set[anyio.CancelScope] = set()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._open)

    def close(self) -> None:
        """End all of them."""
        for scope in self._open:
            scope.cancel()

    async def events(self, request: web.Request, client: BackpackClient, choice: Choice) -> web.StreamResponse:
        """Send events as they come, numbered, with comments in a pause."""
        policy = SlowConsumer.CONFLATE
        waiting = client.stream(*choice.kinds, slow_consumer=policy, buffer=BUFFER, buffer_bytes=BUFFER_BYTES)
        # A client that is closed has no events, which is said before the answer has begun.
        async with waiting as events, self._stream(request) as response:
            if request.method != "HEAD":
                begin = f"retry: {RETRY_MS}\n\n"
                if "Last-Event-ID" in request.headers:
                    # The browser has come back by itself, and its events were not kept.
                    begin += 'event: missed\ndata: {"reason":"events since the last id were not kept: read /books again"}\n\n'
                await _send(request, response, begin.encode())
                await self._send_events(request, response, events, choice)
        return response

    async def _send_events(
        self, request: web.Request, response: web.StreamResponse, events: EventStream, choice: Choice
    ) -> None:
        # Ids go on rising when the server is started again.
        run, number, sent_s = f"{system_now().unix_us:x}", 0, time.monotonic()
        while True:
            batch: Sequence[Event] = ()
            with anyio.move_on_after(HEARTBEAT_SECONDS):
                try:
                    # A loop for each fetch: while the reader takes its time no loop runs, so the client's health counts no event as late.
                    batch = await anext(events.batches())
                except StopAsyncIteration:
                    return
            lines = bytearray()
            for event in filter(choice.has, batch):
                number += 1
                lines += f"id: {run}-{number}\ndata: ".encode() + encode_event(event) + b"\n\n"
                if len(lines) >= CHUNK_BYTES:
                    await _send(request, response, bytes(lines))
                    lines.clear()
            if not lines and time.monotonic() - sent_s >= HEARTBEAT_SECONDS:
                lines += b": nothing new\n\n"
            if lines:
                await _send(request, response, bytes(lines))
                sent_s = time.monotonic()

    async def pictures(self, request: web.Request, snapshots: Snapshots, symbol: str, levels: int) -> web.StreamResponse:
        """Send a picture of everything that the page shows, several times a second."""
        async with self._stream(request) as response:
            if request.method != "HEAD":
                after = -1
                while True:
                    picture, after = snapshots.state(symbol, levels, after)
                    await _send(request, response, b"data: %b\n\n" % picture)
                    await anyio.sleep((TICK_US - system_now().mono_us % TICK_US) / 1e6)
        return response

    @asynccontextmanager
    async def _stream(self, request: web.Request) -> AsyncIterator[web.StreamResponse]:
        """Begin a response without an end, and end it when its reader is gone or the server closes.

        Raises:
            HTTPServiceUnavailable: as many readers as there may be are there.
        """
        if request.method != "HEAD" and len(self._open) >= self._limit:
            raise web.HTTPServiceUnavailable(text=f"{self._limit} streams are being read, and more are not allowed")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        with anyio.CancelScope() as scope:
            self._open.add(scope)
            try:
                await response.prepare(request)
                yield response
            except (ConnectionError, TimeoutError, BackpackError):
                # The reader is gone or stalls, or the client has died: an answer that has begun can only be broken off.
                if request.transport is not None:
                    request.transport.abort()
            finally:
                self._open.discard(scope)


async def _send(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send data, and wait until the reader has taken enough of them.

    Raises:
        TimeoutError: it has not for long.
        ConnectionError: it is gone.
    """
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError("the reader is gone")
    async with asyncio.timeout(STALLED_SECONDS):
        await response.write(data)

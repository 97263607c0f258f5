"""Drives a session over a connection that cryptofeed owns.

cryptofeed connects, reads and reconnects. Every frame it reads becomes a fact, and the session's actions go out through the same
connection and through cryptofeed's HTTP connection, so that its counters, recordings and proxies see them. Events are delivered in
the session's order, one batch after the other, across tasks.

A recording that is played back has no clock of its own: there time passes from frame to frame, and answers of REST are waited for,
so that the same recording gives the same events at any speed. No player reports when a connection was opened, only when
its first frame came: it is taken to have been OPENED_US earlier. Requests made at the opening are made before that frame,
for players choose answers by the frames that they have given out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cryptofeed.exceptions import ConnectionClosed as FeedConnectionClosed
from websockets.exceptions import ConnectionClosed, InvalidStatus

from backpack_proto.histogram import Histogram
from backpack_proto.inputs import (
    Close,
    Command,
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    Given,
    Open,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    RequestLeft,
    TextReceived,
    TimerFired,
)
from backpack_proto.machine import Now
from backpack_proto.outputs import (
    ConnectionDown,
    DropSocket,
    Output,
    SendPing,
    SendPong,
    SendRequest,
    SendText,
    WithdrawRequest,
)
from backpack_proto.rest.codec import retry_after_us
from backpack_proto.session import Session
from backpack_proto.streams.payloads import Event
from backpack_runtime.cryptofeed.errors import BackpackWebsocketError, described
from backpack_runtime.cryptofeed.logs import LOG
from backpack_runtime.loop_thread import LoopThread
from backpack_runtime.network.proxy import ProxyError
from backpack_runtime.transport import system_now
from backpack_runtime.transports.aiohttp.proxies import PROGRESS
from backpack_runtime.transports.base import Progress, Withheld

from .answers import read_answer
from .event_queue import Deliver, EventQueue

__all__ = ["CLOSED_BY_FEED", "FRAMES_AT_ONCE", "Droppable", "SessionDriver"]

MOMENT_SECONDS = 0.001
"""Frames that are received within this share one moment: in a burst the clock is read, and the connection found alive, once for many."""
OPENED_US = 100_000
"""Time before its first frame at which a recorded connection is taken to have been opened. A request that is a little too early gets the
answer that was recorded next, the right one, and one that is too late gets the one after it. But much too early, a quiet book
would be taken for one whose stream is not there yet."""
FRAMES_AT_ONCE = 128
"""Number of frames that the session is given before their events are delivered: the end of the feed waits for the rest of those."""
ABNORMAL_CLOSURE = 1006
CLOSED_BY_FEED = "closed by the feed"
"""Why a connection ended that was to end."""

LOST = (ConnectionClosed, FeedConnectionClosed, OSError)
"""Errors of writing to a connection that has ended. Its end is reported by its reader."""


class Droppable(Protocol):
    """A websocket connection that can be dropped at once."""

    def drop(self, error: Exception) -> None:
        """End it, and let its reader raise this."""
        ...


class SessionDriver:
    """One session, one connection after the other."""

    def __init__(self, session: Session, deliver: Deliver, rest_url: str, http: Callable[[], Any]) -> None:
        """`http` gives cryptofeed's HTTP connection of the moment: a player puts its own in the place of the feed's.

        The feed's own asks `PROGRESS` whether a request may leave, immediately before it does.
        """
        self._session = session
        self._rest_url = rest_url
        self._http = http
        self._conn: Any = None
        self._droppable: Droppable | None = None
        self._open = False
        self.plays = False
        """True when a recording is played back."""
        self._played_now: Now | None = None
        """The time in the recording."""
        self._played_us: int | None = None
        """When its latest frame was received, microseconds since the epoch, or None before the first frame of a connection."""
        self._requests: set[asyncio.Task[None]] = set()
        self._progress: dict[int, Progress] = {}
        """Of the requests without an answer."""
        self._pings: set[asyncio.Task[None]] = set()
        self._pongs: set[asyncio.Future[Any]] = set()
        """Those of this connection that have not come. A task that waits for one delivers events when it has, so it must not be cancelled."""
        self._timer: asyncio.Task[None] | None = None
        self._timer_changed = asyncio.Event()
        self._timer_us: int | None = None
        """Time that the timer waits for."""
        self._looks = False
        """True when the session's deadline is looked at in the next turn of the loop."""
        self._moment = Now(0, 0)
        self._moment_began = 0.0
        """When its first frame was received, seconds since the epoch, or 0 when another fact has come since."""
        self._events = EventQueue(deliver, self._command)
        self._reading = True
        """True when the reader waits for a frame, and not for the callbacks of one."""
        self._paused = False
        self._down = ""
        """Why the session gave up the latest connection."""
        self._failure: Exception | None = None
        """Error that the feed raises, which has cryptofeed close the connection."""
        self.begun = False
        """True when the session has begun, which it does once."""
        self.closed = False
        self.loop: LoopThread | None = None
        self.retry_seconds = 0.0
        """Time to wait before the next attempt to connect."""

    @property
    def latency(self) -> Histogram:
        """Time that events take from receipt to the end of their callbacks."""
        return self._events.latency

    @property
    def events(self) -> EventQueue:
        """Events on their way to the callbacks."""
        return self._events

    async def connected(self, conn: Any, droppable: Droppable | None) -> None:
        """A connection is open: request the wanted streams. Without a connection to drop it is a recording that is played back."""
        if self.closed:
            return
        await self.disconnected(1006, "another connection took its place")
        self._conn, self._droppable, self.plays = conn, droppable, droppable is None
        if droppable is not None:
            self._start_timer()
            await self._go_open()
            return
        self._played_now = self._now()
        self._played_us = None
        await self._go_open()
        await self._answered()

    async def frames(self, frames: Sequence[TextReceived], receipt: float) -> None:
        """Text messages were received, at that time in seconds since the epoch."""
        if self._droppable is not None:
            self._reading = False
            try:
                for start in range(0, len(frames), FRAMES_AT_ONCE):
                    # Remains of a connection that was given up, or of a feed that was stopped, are of no interest.
                    if self._droppable is not None:
                        await self._take_frames(frames[start : start + FRAMES_AT_ONCE], receipt)
            except Exception as error:
                self._failure = error
                raise
            finally:
                self._reading = True
                if self._paused:
                    self._paused = False
                    await self._take(ReadingResumed())
        elif self.plays and not self.closed:
            for frame in frames:
                await self._play(receipt)
                await self._take_frames((frame,), receipt)
                await self._answered()

    async def disconnected(self, code: int, reason: str) -> None:
        """The connection has ended. `retry_seconds` says how long to wait."""
        if not self._open:
            return
        if self._failure is not None:
            code, reason = ABNORMAL_CLOSURE, f"an error in the feed: {described(self._failure)}"
        self._let_go()
        # The stopper of the feed does not wait for the callback that is running, which may be the one that stops it.
        await self._take(Disconnected(code, reason), waits=False)

    async def connect_failed(self, error: Exception) -> None:
        """No connection could be made. `retry_seconds` says how long to wait."""
        if self.closed:
            return
        await self._begin()
        if isinstance(error, ProxyError):
            await self._take(ConnectFailed(str(error), proxy=error.proxy, error=error.with_traceback(None)))
        else:
            asked_us = None
            if isinstance(error, InvalidStatus):
                asked_us = retry_after_us(tuple(error.response.headers.raw_items()))
            await self._take(ConnectFailed(f"{type(error).__name__}: {error}", retry_after_us=asked_us))

    async def give(self, given: Given) -> None:
        """Give the session a command."""
        await self._take(given)

    async def aclose(self) -> None:
        """End the session, once all received frames have been delivered: no event is delivered after that."""
        self.closed = True
        self._events.close()
        await self.disconnected(1000, CLOSED_BY_FEED)
        await self._events.finish()
        for task in (self._timer, *self._requests, *self._pings):
            # One of them may have called the callback that stops the feed.
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._timer = None
        self._session.handle(Close(), self._now())

    async def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            self.loop = LoopThread()
            await self._take(Open())

    async def _go_open(self) -> None:
        await self._begin()
        self._open, self._failure = True, None
        await self._take(Connected())

    def _let_go(self) -> None:
        self._open = False
        self._droppable = None
        if not self.plays:
            # A recording goes on in any case.
            self._conn = None
        for pong in self._pongs:
            pong.cancel()

    def _now(self) -> Now:
        return self._played_now or system_now()

    def _now_of_frame(self, receipt: float) -> Now:
        if self._played_now is not None:
            return self._played_now
        if not 0 <= receipt - self._moment_began < MOMENT_SECONDS:
            self._moment, self._moment_began = system_now(), receipt
        return self._moment

    async def _take(self, given: Given, *, waits: bool = True) -> None:
        self._moment_began = 0.0
        for action in self._handle(given, self._now(), time.time()):
            await self._perform(action)
        if self._events:
            await self._events.deliver(waits=waits)

    async def _take_frames(self, frames: Sequence[TextReceived], receipt: float) -> None:
        ends: list[int] = []
        outputs = self._session.handle_all(frames, self._now_of_frame(receipt), ends)
        if self._session.plain:
            # Nothing but events, and no deadline is nearer than before.
            self._events.put_all(outputs, frames, ends, receipt)
        else:
            start = 0
            actions: list[Output] = []
            for frame, end in zip(frames, ends, strict=True):
                actions += self._keep(outputs[start:end], receipt, frame.data)
                start = end
                if any(isinstance(action, DropSocket) for action in actions):
                    # The frames behind it are of no connection.
                    break
            for action in actions:
                await self._perform(action)
        if self._events:
            await self._events.deliver()

    def _handle(self, given: Given, now: Now, receipt: float) -> Sequence[Output]:
        """Give the session one input, keep its events for delivery, and return its actions."""
        return self._keep(self._session.handle_all([given], now), receipt)

    def _keep(self, outputs: Sequence[Output], receipt: float, data: bytes | None = None) -> Sequence[Output]:
        """Keep events for delivery, and return the other outputs."""
        actions: list[Output] = []
        for output in outputs:
            if isinstance(output, Event):
                self._events.put(output, data, receipt)
                if isinstance(output, ConnectionDown):
                    self.retry_seconds, self._down = output.retry_us / 1e6, output.reason
            else:
                actions.append(output)
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_soon(self._look_at_deadline)
        return actions

    async def _command(self, given: Command, receipt: float) -> None:
        for action in self._handle(given, self._now(), receipt):
            await self._perform(action)

    def _look_at_deadline(self) -> None:
        self._looks = False
        if self._session.deadline != self._timer_us:
            self._timer_changed.set()

    async def _perform(self, action: object) -> None:
        conn = self._conn
        match action:
            case SendRequest(request_id=request_id):
                self._progress[request_id] = Progress(action, self._now)
                self._start(self._requests, self._request(action, self._progress[request_id]))
            case WithdrawRequest(request_id):
                progress = self._progress.get(request_id)
                if progress is not None and not progress.withdraw():
                    self._start(self._requests, self._take(RequestLeft(request_id)))
            case DropSocket():
                self._drop(self._down)
            case SendText(text, signed):
                await self._send(conn, text, signed=signed)
            case SendPing(payload):
                self._start(self._pings, self._ping(payload))
            case SendPong(payload):
                await self._pong(payload)
            case _:
                raise TypeError(f"cryptofeed makes the connections, so who asks for {type(action).__name__}?")

    def _drop(self, reason: str) -> None:
        droppable = self._droppable
        self._let_go()
        if droppable is not None:
            droppable.drop(BackpackWebsocketError(reason))

    def _start(self, tasks: set[asyncio.Task[None]], work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Errors of a task are raised by its reader, so that cryptofeed reports it and reconnects as for any error of a feed."""
        error = None if task.cancelled() else task.exception()
        if not isinstance(error, Exception):
            return
        if self._droppable is not None:
            self._failure = error
            self._droppable.drop(error)
        else:
            LOG.error("BACKPACK: a task of the feed failed", exc_info=error)

    async def _send(self, conn: Any, text: str, *, signed: bool) -> None:
        if conn is None:
            # It ended while earlier frames were being sent.
            return
        try:
            if signed and self._droppable is not None and conn.raw_data_callback is not None:
                # Recorders keep frames word for word, and a signature is not for keeping.
                await conn.conn.send(text)
                conn.sent += 1
            else:
                await conn.write(text)
        except LOST as lost:
            LOG.debug("BACKPACK: not sent, the connection has ended: %r", lost)

    async def _ping(self, payload: bytes) -> None:
        """Send a ping, and wait for its answer, which the end of the connection ends."""
        socket = getattr(self._conn, "conn", None)
        if self._droppable is not None and socket is not None:
            try:
                pong = await socket.ping(payload)
                self._pongs.add(pong)
                pong.add_done_callback(self._pongs.discard)
                # Not awaited itself: that it is cancelled is no cancellation of this task.
                await asyncio.wait([pong])
            except LOST as lost:
                LOG.debug("BACKPACK: no pong, the connection has ended: %r", lost)
                return
            if pong.cancelled() or pong.exception() is not None:
                return
        await self._take(PongReceived(payload))

    async def _pong(self, payload: bytes) -> None:
        socket = getattr(self._conn, "conn", None)
        if self._droppable is None or socket is None:
            return
        try:
            await socket.pong(payload)
        except LOST as lost:
            LOG.debug("BACKPACK: not sent, the connection has ended: %r", lost)

    async def _request(self, action: SendRequest, progress: Progress) -> None:
        PROGRESS.set(progress)
        fact: Fact | None = None
        try:
            with progress.scope:
                progress.connect()
                if self.plays:
                    # Frames are not sent to a recording, so this is the only request.
                    progress.leave()
                fact = await read_answer(self._http(), self._rest_url + action.request.target, action, progress)
        except Withheld:
            pass
        finally:
            del self._progress[action.request_id]
        await self._take(fact or progress.failed())

    def _start_timer(self) -> None:
        if self._timer is None or self._timer.done():
            self._timer = asyncio.get_running_loop().create_task(self._run_timer())
            self._timer.add_done_callback(self._ended)

    async def _run_timer(self) -> None:
        while True:
            deadline = self._timer_us = self._session.deadline
            self._timer_changed.clear()
            seconds = None if deadline is None else max(deadline - self._now().mono_us, 0) / 1e6
            try:
                async with asyncio.timeout(seconds):
                    await self._timer_changed.wait()
            except TimeoutError:
                if not self._reading and not self._paused:
                    # Nothing is heard then, and that is no silence of the exchange's.
                    self._paused = True
                    await self._take(ReadingPaused())
                await self._take(TimerFired())

    async def _play(self, receipt: float) -> None:
        """Move a recording's clock on to the next frame, through every deadline that lies before it."""
        if not self._open:
            await self._go_open()
            await self._answered()
        received_us = int(receipt * 1e6)
        now = self._now()
        passed_us = OPENED_US if self._played_us is None else max(received_us - self._played_us, 0)
        self._played_us = received_us
        until_us = now.mono_us + passed_us
        while (deadline := self._session.deadline) is not None and deadline <= until_us:
            self._played_now = Now(deadline, now.unix_us + deadline - now.mono_us)
            await self._take(TimerFired())
            await self._answered()
        self._played_now = Now(until_us, now.unix_us + passed_us)

    async def _answered(self) -> None:
        """Wait for all answers that a recording has."""
        while tasks := {*self._requests, *self._pings}:
            await asyncio.wait(tasks)

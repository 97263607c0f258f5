"""Common parts of the transports on real sockets: one websocket at a time, requests beside it, and the rules for both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from math import inf
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from backpack_proto.errors import BackpackError
from backpack_proto.inputs import (
    ConnectFailed,
    Disconnected,
    Fact,
    Given,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    RequestLeft,
    ResponseReceived,
)
from backpack_proto.machine import Now
from backpack_proto.outputs import (
    Action,
    CloseSocket,
    DropSocket,
    OpenSocket,
    SendPing,
    SendPong,
    SendRequest,
    SendText,
    WithdrawRequest,
)
from backpack_proto.rest.codec import retry_after_us
from backpack_runtime.framing.client import HttpResponse, WebsocketFraming
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.proxy import Proxy, ProxyError, ProxyTimeout
from backpack_runtime.network.turns import Turns
from backpack_runtime.transport import Inbox, system_now

from .websocket import ABNORMAL_CLOSURE, Connecting, Websocket

__all__ = [
    "CANCEL_CONNECTIONS",
    "FRESH_SECONDS",
    "HTTP_CONNECTIONS",
    "Progress",
    "SocketTransport",
    "Withheld",
    "answered",
    "not_sent",
]

HTTP_CONNECTIONS = 8
"""REST requests that are under way at the same time at most, cancels excepted."""
CANCEL_CONNECTIONS = 24
"""Cancels that may be under way besides."""
FRESH_SECONDS = 5.0
"""A connection that was idle for longer carries reads only: should it have been closed, they can be sent again."""


class Withheld(BackpackError):
    """A request may not leave any more."""


class Progress:
    """Progress of a request, and its permission to go on: the one place that decides whether its first byte may leave.

    It waits for its turn as long as it may, then has its timeout to get a connection, and the same again for its answer.
    """

    def __init__(self, action: SendRequest, now: Callable[[], Now]) -> None:
        self.scope = anyio.CancelScope()
        """Around everything that is done for it."""
        self.sent = False
        self.reused = False
        """Its connection is one that had been kept."""
        self.dialing: Proxy | None = None
        """The proxy that is being asked for a connection."""
        self._action = action
        self._now = now
        self._withdrawn = False
        self._limit(None)

    def connect(self) -> None:
        """Its turn has come: it is about to get a connection."""
        self._limit(self._action.timeout_us)

    def leave(self) -> None:
        """Allow the first byte to leave, now. With no wait between this and writing it.

        Raises:
            Withheld: it was withdrawn, or has waited too long.
        """
        if self._withdrawn or (not self.sent and self._late):
            raise Withheld(self._reason)
        if not self.sent:
            # A second try of a read shares the time of the first.
            self.sent = True
            self.scope.deadline = anyio.current_time() + self._action.timeout_us / 1e6

    def withdraw(self) -> bool:
        """Let it not leave any more, or False when it is too late for that."""
        if not self.sent:
            self._withdrawn = True
            self.scope.cancel()
        return not self.sent

    def failed(self) -> RequestFailed:
        """Why it has no answer, after its scope was cancelled or `Withheld` raised."""
        action = self._action
        within = f"within {action.timeout_us / 1e6:g} s"
        if self.sent:
            return RequestFailed(request_id=action.request_id, reason=f"no answer {within}", sent=True)
        if self.dialing is not None and not self._withdrawn and not self._late:
            return not_sent(action.request_id, ProxyTimeout(self.dialing.endpoint, f"did not answer {within}"))
        return RequestFailed(request_id=action.request_id, reason=self._reason, sent=False)

    @property
    def _late(self) -> bool:
        return self._action.not_after_us is not None and self._now().mono_us > self._action.not_after_us

    @property
    def _reason(self) -> str:
        if self._withdrawn:
            return "it was withdrawn"
        return "it has waited too long" if self._late else f"no connection within {self._action.timeout_us / 1e6:g} s"

    def _limit(self, timeout_us: int | None) -> None:
        """Let it wait for so long, and in no case for longer than it may leave."""
        limits = [] if timeout_us is None else [timeout_us]
        if self._action.not_after_us is not None:
            # A microsecond more, so that it is too late when the scope says so.
            limits.append(self._action.not_after_us - self._now().mono_us + 1)
        self.scope.deadline = anyio.current_time() + min(limits) / 1e6 if limits else inf


class SocketTransport(ABC):
    """The contract of `Transport` on sockets. An async context manager, for its tasks live inside it."""

    def __init__(self, addresses: Addresses, *, compression: bool = False) -> None:
        """Nothing is connected yet. `compression` offers permessage-deflate (docs/protocol.md 3.5)."""
        self._addresses = addresses
        self._compression = compression
        self._inbox = Inbox()
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._websocket: Websocket | None = None
        self._paused = False
        self._turns = Turns(HTTP_CONNECTIONS, CANCEL_CONNECTIONS)
        self._requests: dict[int, Progress] = {}
        """Those without an answer."""

    @abstractmethod
    def _connect_websocket(self) -> Connecting:
        """Make the connection of a websocket."""

    @abstractmethod
    async def _request(self, action: SendRequest, progress: Progress) -> Fact:
        """Send a request and return its outcome. Only a GET that a kept connection lost is sent once more.

        Raises:
            Withheld: `progress` did not let it leave.
        """

    @abstractmethod
    async def _close_idle(self) -> None:
        """Close connections kept for the next request."""

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._close_idle)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._drop()
        return bool(await self._stack.__aexit__(exc_type, exc, traceback))

    def now(self) -> Now:
        """This moment on both clocks of the machine."""
        return system_now()

    def listen(self, sink: Callable[[Sequence[Given]], None]) -> None:
        """Give facts to `sink`."""
        self._inbox.listen(sink)

    async def next(self, until: int | None) -> list[Given]:
        """Wait for facts, or for the deadline."""
        return await self._inbox.take(until, self.now())

    def wake(self) -> None:
        """Let `next` return."""
        self._inbox.wake()

    def pause_reading(self) -> None:
        """Stop reading the websocket after the read that is under way."""
        if not self._paused:
            self._paused = True
            if self._websocket is not None:
                self._websocket.pause_reading()
            self._inbox.put_later([ReadingPaused()])

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if self._websocket is not None:
                self._websocket.resume_reading()
            self._inbox.put_later([ReadingResumed()])

    async def aclose(self) -> None:
        """Drop everything at once."""
        self._drop()
        await self._close_idle()

    def perform(self, action: Action) -> None:
        """Begin an action."""
        if self._tasks is None:
            raise RuntimeError("the transport has not been entered")
        match action:
            case OpenSocket():
                self._drop_websocket()
                self._websocket = Websocket(self._report, paused=self._paused)
                self._tasks.start_soon(self._run_websocket, self._websocket)
            case DropSocket():
                self._drop_websocket()
            case SendText() | SendPing() | SendPong() | CloseSocket():
                if self._websocket is not None:
                    self._websocket.send(action)
            case SendRequest(request_id=request_id):
                action = _below(self._addresses.rest.target, action)
                self._requests[request_id] = Progress(action, self.now)
                self._tasks.start_soon(self._run_request, action, self._requests[request_id])
            case WithdrawRequest(request_id):
                progress = self._requests.get(request_id)
                if progress is not None and not progress.withdraw():
                    self._inbox.put_later([RequestLeft(request_id)])
            case _:
                raise TypeError(f"not an action of a transport: {type(action).__name__}")

    def _drop(self) -> None:
        self._drop_websocket()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _drop_websocket(self) -> None:
        if self._websocket is not None:
            self._websocket.scope.cancel()
            self._websocket = None
            self._inbox.forget_websocket()

    async def _run_websocket(self, websocket: Websocket) -> None:
        address = self._addresses.ws
        framing = WebsocketFraming(address.authority, address.target, compression=self._compression)
        await websocket.run(self._connect_websocket(), framing)

    def _report(self, websocket: Websocket, facts: Sequence[Fact]) -> None:
        # Cancellation takes effect at the next wait only, so a dropped websocket may still have something to say.
        if websocket is self._websocket:
            proxy = self._addresses.proxies.websocket
            self._inbox.put(facts if proxy is None else [_through(proxy, fact) for fact in facts])

    async def _run_request(self, action: SendRequest, progress: Progress) -> None:
        fact: Fact | None = None
        try:
            with progress.scope:
                async with self._turns.take(action.importance):
                    progress.connect()
                    fact = await self._request(action, progress)
        except Withheld:
            pass
        finally:
            del self._requests[action.request_id]
        fact = fact or progress.failed()
        proxy = self._addresses.proxies.rest
        self._inbox.put([fact if proxy is None else _through(proxy, fact)])


def _below(path: str, action: SendRequest) -> SendRequest:
    """Put the path of the exchange's address before that of a request.

    A signature covers the exchange's own path only (docs/protocol.md 2.2): the gateway cuts off the prefix again.
    """
    if not path:
        return action
    return replace(action, request=replace(action.request, target=path + action.request.target))


def _through(proxy: Proxy, fact: Fact) -> Fact:
    """Have a connection that broke name the proxy that it went through: either of its two halves may have broken."""
    if (isinstance(fact, ConnectFailed | RequestFailed) and fact.proxy is None) or (
        isinstance(fact, Disconnected) and fact.code == ABNORMAL_CLOSURE
    ):
        return replace(fact, reason=f"{fact.reason} (through proxy {proxy.endpoint})")
    return fact


def not_sent(request_id: int, failure: ProxyError) -> RequestFailed:
    """The fact that a request got no farther than the proxy."""
    return RequestFailed(
        request_id=request_id, reason=str(failure), sent=False, proxy=failure.proxy, error=failure.with_traceback(None)
    )


def answered(request_id: int, response: HttpResponse) -> ResponseReceived:
    """The fact that a whole response is."""
    return ResponseReceived(
        request_id=request_id,
        status=response.status,
        body=response.body,
        retry_after_us=retry_after_us(response.headers),
        headers=response.headers,
    )

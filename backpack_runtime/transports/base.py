"""What the transports on real sockets share: one websocket at a time, requests beside it, and the rules for both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Generic, Self, TypeVar

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from backpack_proto.inputs import (
    ConnectFailed,
    Disconnected,
    Fact,
    Given,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
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
)
from backpack_runtime.framing.client import HttpResponse, Sendable
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.proxy import Proxy, ProxyError, ProxyTimeout
from backpack_runtime.transport import Inbox, system_now

__all__ = [
    "ABNORMAL_CLOSURE",
    "FLUSH_SECONDS",
    "FRESH_SECONDS",
    "HTTP_CONNECTIONS",
    "Progress",
    "Socket",
    "SocketTransport",
    "answered",
    "not_sent",
]

HTTP_CONNECTIONS = 8
"""How many REST requests are under way at the same time."""
FRESH_SECONDS = 5.0
"""A connection that was idle for longer carries reads only: should it have been closed, they can be sent again."""
FLUSH_SECONDS = 1.0
"""How long a last Close frame may take to leave."""
ABNORMAL_CLOSURE = 1006


class Socket(ABC):
    """One websocket, from the attempt to connect to its end."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()

    @abstractmethod
    def send(self, action: Sendable) -> None:
        """Have something sent, without waiting; nothing happens once the websocket is ending.

        Raises:
            LocalProtocolError: there is no websocket yet, text follows a `CloseSocket`, or the action cannot be encoded.
        """


class Progress:
    """How far a request has come, for whoever has to tell what became of it."""

    def __init__(self) -> None:
        self.sent = False
        self.dialing: Proxy | None = None
        """The proxy that is being asked for a connection."""


SocketT = TypeVar("SocketT", bound=Socket)


class SocketTransport(ABC, Generic[SocketT]):
    """The contract of `Transport` on sockets; an async context manager, for its tasks live inside it."""

    def __init__(self, addresses: Addresses, *, compression: bool = False) -> None:
        """Nothing is connected yet; `compression` offers permessage-deflate (docs/protocol.md 3.5)."""
        self._addresses = addresses
        self._compression = compression
        self._inbox = Inbox()
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._socket: SocketT | None = None
        self._readable = anyio.Event()
        self._readable.set()
        self._http_slots = anyio.Semaphore(HTTP_CONNECTIONS)

    @abstractmethod
    def _new_socket(self) -> SocketT:
        """A websocket that has not begun to connect."""

    @abstractmethod
    async def _run_socket(self, socket: SocketT) -> None:
        """Connect, then read while `_readable` is set, and report facts; at last report the end, should no fact have told it."""

    @abstractmethod
    async def _request(self, action: SendRequest, progress: Progress) -> Fact:
        """Send a request and return what became of it; a GET that a kept connection lost is sent once more, nothing else is."""

    @abstractmethod
    async def _close_idle(self) -> None:
        """Close what is kept for the next request."""

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

    async def next(self, until: int | None) -> list[Given]:
        """Wait for facts, or for the deadline."""
        return await self._inbox.take(until, self.now())

    def wake(self) -> None:
        """Let `next` return."""
        self._inbox.wake()

    def pause_reading(self) -> None:
        """Stop reading the websocket after the read that is under way."""
        if self._readable.is_set():
            self._readable = anyio.Event()
            self._inbox.put([ReadingPaused()])

    def resume_reading(self) -> None:
        """Read on."""
        if not self._readable.is_set():
            self._readable.set()
            self._inbox.put([ReadingResumed()])

    async def aclose(self) -> None:
        """Drop everything at once."""
        self._drop()
        await self._close_idle()

    async def perform(self, action: Action) -> None:
        """Begin an action."""
        if self._tasks is None:
            raise RuntimeError("the transport has not been entered")
        match action:
            case OpenSocket():
                self._drop_socket()
                self._socket = self._new_socket()
                self._tasks.start_soon(self._run_socket, self._socket)
            case DropSocket():
                self._drop_socket()
            case SendText() | SendPing() | SendPong() | CloseSocket():
                if self._socket is not None:
                    self._socket.send(action)
            case SendRequest():
                self._tasks.start_soon(self._run_request, action)
            case _:
                raise TypeError(f"not an action of a transport: {type(action).__name__}")

    def _drop(self) -> None:
        self._drop_socket()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.scope.cancel()
            self._socket = None
            self._inbox.forget_websocket()

    def _report(self, socket: SocketT, facts: Iterable[Fact]) -> None:
        # Cancellation takes effect at the next wait only, so a dropped socket may still have something to say.
        if socket is self._socket:
            proxy = self._addresses.proxies.websocket
            self._inbox.put(facts if proxy is None else [_through(proxy, fact) for fact in facts])

    async def _run_request(self, action: SendRequest) -> None:
        progress = Progress()
        fact: Fact | None = None
        with anyio.move_on_after(action.timeout_us / 1e6):
            async with self._http_slots:
                fact = await self._request(action, progress)
        if fact is None:
            within = f"within {action.timeout_us / 1e6:g} s"
            if progress.dialing is not None:
                fact = not_sent(action.request_id, ProxyTimeout(progress.dialing.endpoint, f"did not answer {within}"))
            else:
                fact = RequestFailed(request_id=action.request_id, reason=f"no answer {within}", sent=progress.sent)
        proxy = self._addresses.proxies.rest
        self._inbox.put([fact if proxy is None else _through(proxy, fact)])


def _through(proxy: Proxy, fact: Fact) -> Fact:
    """Have a connection that broke name the proxy that it went through: nobody can tell which of its two halves broke."""
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
        retry_after_us=_retry_after_us(response),
        headers=response.headers,
    )


def _retry_after_us(response: HttpResponse) -> int | None:
    """Retry-After in seconds; none was ever seen from the exchange (docs/protocol.md 1.3), a date is not read."""
    for name, value in response.headers:
        if name == "retry-after" and value.isascii() and value.isdigit():
            return int(value) * 1_000_000
    return None

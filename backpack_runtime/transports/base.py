"""What the transports on real sockets share: one websocket at a time, requests beside it, and the rules for both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from math import inf
from types import TracebackType
from typing import Generic, Self, TypeVar

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
from backpack_runtime.framing.client import HttpResponse, Sendable
from backpack_runtime.network.addresses import Addresses
from backpack_runtime.network.proxy import Proxy, ProxyError, ProxyTimeout
from backpack_runtime.network.send_queue import MOST_UNSENT_BYTES
from backpack_runtime.network.turns import Turns
from backpack_runtime.transport import Inbox, system_now

__all__ = [
    "ABNORMAL_CLOSURE",
    "CANCEL_CONNECTIONS",
    "FLUSH_SECONDS",
    "FRESH_SECONDS",
    "HTTP_CONNECTIONS",
    "REFUSAL_SECONDS",
    "UNREAD",
    "Progress",
    "Socket",
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
FLUSH_SECONDS = 1.0
"""How long a last Close frame may take to leave."""
REFUSAL_SECONDS = 1.0
"""The longest wait for the reason of a refused handshake, its body."""
UNREAD = f"the exchange has not read the last {MOST_UNSENT_BYTES} bytes that were to be sent"
"""Why a connection is given up whose peer does not read."""
ABNORMAL_CLOSURE = 1006


class Socket(ABC):
    """One websocket, from the attempt to connect to its end."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        """Around everything that is done for it."""
        self.reading = anyio.CancelScope()
        """Around its reading, which ends when that is pointless: the reason of a refusal is late, or nothing is read at the other end."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Read no more from now on."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read on."""

    @abstractmethod
    def send(self, action: Sendable) -> None:
        """Have something sent, without waiting; nothing happens once the websocket is ending.

        Raises:
            LocalProtocolError: there is no websocket yet, text follows a `CloseSocket`, or the action cannot be encoded.
        """


class Withheld(BackpackError):
    """A request may not leave any more."""


class Progress:
    """How far a request has come, and whether it may go on: the one place that decides whether its first byte may leave.

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
        """Allow the first byte to leave, now; with no wait between this and writing it.

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
        """Let it not leave any more; False when it is too late for that."""
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
        self._turns = Turns(HTTP_CONNECTIONS, CANCEL_CONNECTIONS)
        self._requests: dict[int, Progress] = {}
        """Those without an answer."""

    @abstractmethod
    def _new_socket(self) -> SocketT:
        """A websocket that has not begun to connect."""

    @abstractmethod
    async def _run_socket(self, socket: SocketT) -> None:
        """Connect, then read while `_readable` is set, and report facts; at last report the end, should no fact have told it."""

    @abstractmethod
    async def _request(self, action: SendRequest, progress: Progress) -> Fact:
        """Send a request and return what became of it; a GET that a kept connection lost is sent once more, nothing else is.

        Raises:
            Withheld: `progress` did not let it leave.
        """

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

    def listen(self, sink: Callable[[Sequence[Given]], None]) -> None:
        """Give what happens to `sink`."""
        self._inbox.listen(sink)

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
            if self._socket is not None:
                self._socket.pause_reading()
            self._inbox.put_later([ReadingPaused()])

    def resume_reading(self) -> None:
        """Read on."""
        if not self._readable.is_set():
            self._readable.set()
            if self._socket is not None:
                self._socket.resume_reading()
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
                self._drop_socket()
                self._socket = self._new_socket()
                self._tasks.start_soon(self._run_socket, self._socket)
            case DropSocket():
                self._drop_socket()
            case SendText() | SendPing() | SendPong() | CloseSocket():
                if self._socket is not None:
                    self._socket.send(action)
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
        self._drop_socket()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.scope.cancel()
            self._socket = None
            self._inbox.forget_websocket()

    def _report(self, socket: SocketT, facts: Sequence[Fact]) -> None:
        # Cancellation takes effect at the next wait only, so a dropped socket may still have something to say.
        if socket is self._socket:
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

    A signature covers the exchange's own path only (docs/protocol.md 2.2): what lies before it is cut off again by the gateway.
    """
    if not path:
        return action
    return replace(action, request=replace(action.request, target=path + action.request.target))


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
        retry_after_us=retry_after_us(response.headers),
        headers=response.headers,
    )

"""A transport without sockets, for tests of programs that are built on this project."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from types import TracebackType
from typing import Self, TypeAlias

from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import (
    BytesReceived,
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    Given,
    PingReceived,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    RequestLeft,
    ResponseReceived,
    TextReceived,
    TimerFired,
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
from backpack_runtime.transport import Inbox, system_now

__all__ = ["MockTransport", "Script", "oblige", "respond"]

Script: TypeAlias = Callable[[Action], Iterable[Fact]]
"""Facts that follow from an action."""


def oblige(action: Action) -> Iterable[Fact]:
    """The script of a peer that opens, closes and answers pings as it is asked to, and has no REST."""
    match action:
        case OpenSocket():
            return [Connected()]
        case CloseSocket(code, reason):
            return [Disconnected(code, reason)]
        case SendPing(payload):
            return [PongReceived(payload)]
        case SendRequest():
            return [RequestFailed(request_id=action.request_id, reason="no answer is scripted", sent=False)]
        case WithdrawRequest(request_id):
            return [RequestLeft(request_id)]
        case _:
            return []


def respond(action: SendRequest, body: bytes, *, status: int = 200) -> ResponseReceived:
    """The answer to a request. `body` is mostly JSON."""
    return ResponseReceived(request_id=action.request_id, status=status, body=body)


class _State(Enum):
    CLOSED = auto()
    CONNECTING = auto()
    OPEN = auto()
    CLOSING = auto()


class MockTransport:
    """Keeps the contract of `Transport` by a script: a test gives the facts, and sees the actions.

    The script is called with each action and gives the facts that follow from it. `feed` makes things happen at any other time.
    `performed` has all actions, in order. A client is tested by giving it one:

        def exchange(action):
            match action:
                case SendRequest(request=HttpRequest(target="/api/v1/markets")):
                    yield respond(action, MARKETS)
                case SendText(text) if "SUBSCRIBE" in text:
                    yield TextReceived(TRADE)
                case _:
                    yield from oblige(action)

        transport = MockTransport(exchange)
        async with BackpackClient(["SOL_USDC"], channels=["trades"], transport=transport) as client:
            transport.feed(Disconnected(1006, "lost"))
            ...
        assert OpenSocket() in transport.performed

    Facts that are impossible on sockets are refused, so that no program is tested against them: text before `Connected`, anything of a websocket
    after its end, a second answer to a request. While reading is paused, data of the websocket wait, as they do in a socket.
    A request that is never answered fails when its time is over, one that may leave no more fails at once. The script decides whether a
    `WithdrawRequest` comes in time: `oblige` says that it does not. The clock is the system's. Runs on asyncio and on trio.
    """

    def __init__(self, script: Script = oblige) -> None:
        """Nothing happens before the first action."""
        self.performed: list[Action] = []
        self._script = script
        self._inbox = Inbox()
        self._state = _State.CLOSED
        self._paused = False
        self._held: list[Fact] = []
        self._requests: dict[int, SendRequest] = {}
        """Those without an answer."""
        self._due_us: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def feed(self, *facts: Fact) -> None:
        """Let something happen.

        Raises:
            LocalProtocolError: it cannot happen now. Those before it have happened.
        """
        for fact in facts:
            match fact:
                case ResponseReceived() | RequestFailed():
                    if self._requests.pop(fact.request_id, None) is None:
                        raise LocalProtocolError(f"no request {fact.request_id} waits for an answer")
                    del self._due_us[fact.request_id]
                    self._inbox.put_later([fact])
                case RequestLeft(request_id):
                    if request_id not in self._requests:
                        raise LocalProtocolError(f"no request {request_id} waits for an answer")
                    self._inbox.put_later([fact])
                case Connected() | ConnectFailed() | Disconnected():
                    self._change_state(fact)
                    self._read(fact)
                case TextReceived() | BytesReceived() | PingReceived() | PongReceived():
                    if self._state not in {_State.OPEN, _State.CLOSING}:
                        raise LocalProtocolError(
                            f"{type(fact).__name__} needs an open websocket: this one is {self._state_name}"
                        )
                    self._read(fact)
                case _:
                    raise LocalProtocolError(f"{type(fact).__name__} is not for a script to tell")

    def now(self) -> Now:
        """This moment on both clocks of the machine."""
        return system_now()

    def perform(self, action: Action) -> None:
        """Note an action, and take the facts that the script returns for it.

        Raises:
            LocalProtocolError: the websocket is not open yet, text follows a `CloseSocket`, or the script gave an impossible fact.
        """
        if self._accept(action):
            self.performed.append(action)
            self.feed(*self._script(action))

    def listen(self, sink: Callable[[Sequence[Given]], None]) -> None:
        """Do no more: a script that answers an action must not be heard while that is performed, so `next` has all facts."""

    async def next(self, until: int | None) -> list[Given]:
        """Wait for facts, or for the deadline."""
        soonest = min(self._due_us.values(), default=None)
        if until is not None and (soonest is None or until <= soonest):
            return await self._inbox.take(until, self.now())
        facts = await self._inbox.take(soonest, self.now())
        if facts and isinstance(facts[-1], TimerFired):
            facts[-1:] = self._time_out()
        return facts

    def wake(self) -> None:
        """Let `next` return."""
        self._inbox.wake()

    def pause_reading(self) -> None:
        """Hold back data of the websocket."""
        if not self._paused:
            self._paused = True
            self._inbox.put_later([ReadingPaused()])

    def resume_reading(self) -> None:
        """Read on, beginning with held data."""
        if self._paused:
            self._paused = False
            self._inbox.put_later([ReadingResumed(), *self._held])
            self._held.clear()

    async def aclose(self) -> None:
        """Forget everything that is under way."""
        self._end()
        self._requests.clear()
        self._due_us.clear()

    @property
    def _state_name(self) -> str:
        return self._state.name.lower()

    def _accept(self, action: Action) -> bool:
        """Take an action's effect on the state. Whether it goes out."""
        match action:
            case OpenSocket():
                self._end()
                self._state = _State.CONNECTING
            case DropSocket():
                self._end()
            case SendRequest(request_id=number):
                now_us = self.now().mono_us
                if action.not_after_us is not None and now_us > action.not_after_us:
                    self._inbox.put_later([RequestFailed(request_id=number, reason="it has waited too long", sent=False)])
                    return False
                self._requests[number] = action
                self._due_us[number] = now_us + action.timeout_us
            case WithdrawRequest(number):
                return number in self._requests
            case SendText() | SendPing() | SendPong() | CloseSocket():
                if self._state is _State.CONNECTING:
                    raise LocalProtocolError(f"{type(action).__name__} before the websocket is open")
                if self._state is _State.CLOSING and isinstance(action, SendText):
                    raise LocalProtocolError("SendText after CloseSocket")
                if self._state is not _State.OPEN:
                    return False
                if isinstance(action, CloseSocket):
                    self._state = _State.CLOSING
            case _:
                raise TypeError(f"not an action of a transport: {type(action).__name__}")
        return True

    def _change_state(self, fact: Connected | ConnectFailed | Disconnected) -> None:
        before = {_State.OPEN, _State.CLOSING} if isinstance(fact, Disconnected) else {_State.CONNECTING}
        if self._state not in before:
            raise LocalProtocolError(f"{type(fact).__name__} cannot follow: the websocket is {self._state_name}")
        self._state = _State.OPEN if isinstance(fact, Connected) else _State.CLOSED

    def _read(self, fact: Fact) -> None:
        if self._paused:
            self._held.append(fact)
        else:
            self._inbox.put_later([fact])

    def _end(self) -> None:
        self._state = _State.CLOSED
        self._held.clear()
        self._inbox.forget_websocket()

    def _time_out(self) -> list[Fact]:
        """The ends of the requests whose time is over."""
        now_us = self.now().mono_us
        late = [self._requests.pop(number) for number, due_us in self._due_us.items() if due_us <= now_us]
        for action in late:
            del self._due_us[action.request_id]
        return [
            RequestFailed(request_id=action.request_id, reason=f"no answer within {action.timeout_us / 1e6:g} s")
            for action in late
        ]

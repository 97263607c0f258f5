"""A check of transports: the contract that the client relies on, tried on real sockets of this machine.

    await check_transport(MyTransport)

runs in the event loop that the transport is for, takes some seconds, and raises `ContractBroken` at the first rule that is not kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import anyio
from anyio import TypedAttributeProvider
from anyio.abc import ByteStream, SocketAttribute

from backpack_proto.http import HttpRequest
from backpack_proto.inputs import (
    Connected,
    ConnectFailed,
    Disconnected,
    Given,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    ResponseReceived,
    TextReceived,
    TimerFired,
)
from backpack_proto.outputs import CloseSocket, DropSocket, OpenSocket, SendPing, SendRequest, SendText, WithdrawRequest
from backpack_proto.streams.frames import subscribe_text

from .network.addresses import Addresses
from .network.send_queue import BROKEN
from .sandbox import serve_sandbox
from .transport import Transport
from .transports import MakeTransport

__all__ = ["CONTRACT", "ContractBroken", "check_transport"]

PATIENCE_SECONDS: Final = 20.0
Rule: TypeAlias = Callable[[MakeTransport], Awaitable[None]]
CONTRACT: Final[dict[str, Rule]] = {}
"""Every rule, in words, and its trial."""
_SUBSCRIBE: Final = SendText(subscribe_text(["depth.SOL_USDC", "ticker.SOL_USDC"]))


class ContractBroken(AssertionError):
    """A transport broke a rule. `rule` is the one in words, and the error names the difference."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class _Unexpected(Exception):
    """The outcome of a trial, where it is wrong."""


async def check_transport(make: MakeTransport) -> None:
    """Check a transport by every rule of `CONTRACT`. `make` is called as `backpack_feed.runtimes` says, with addresses.

    Raises:
        ContractBroken: the first rule that is not kept.
        Exception: any other error of the transport, with the rule as a note.
    """
    for rule, trial in CONTRACT.items():
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                await trial(make)
        except _Unexpected as unexpected:
            raise ContractBroken(rule, str(unexpected)) from None
        except TimeoutError:
            raise ContractBroken(rule, f"nothing more came within {PATIENCE_SECONDS:g} s") from None
        except BaseExceptionGroup as group:
            wrong, others = group.split(_Unexpected)
            if others is None and wrong is not None:
                raise ContractBroken(rule, str(_first_of(wrong))) from None
            group.add_note(f"while this was tried: {rule}")
            raise
        except Exception as error:
            error.add_note(f"while this was tried: {rule}")
            raise


def _first_of(group: BaseExceptionGroup[_Unexpected]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _rule(words: str) -> Callable[[Rule], Rule]:
    def register(trial: Rule) -> Rule:
        CONTRACT[words] = trial
        return trial

    return register


def _expect(condition: object, detail: str) -> None:
    if not condition:
        raise _Unexpected(detail)


def _request(number: int = 1, *, timeout_us: int = 10_000_000, not_after_us: int | None = None) -> SendRequest:
    request = HttpRequest(method="GET", target="/api/v1/ping")
    return SendRequest(request_id=number, request=request, timeout_us=timeout_us, not_after_us=not_after_us)


async def _until(transport: Transport, kind: type[Given]) -> list[Given]:
    facts: list[Given] = []
    while not any(isinstance(fact, kind) for fact in facts):
        facts += await transport.next(None)
    return facts


@asynccontextmanager
async def _to_exchange(make: MakeTransport, *, speed: float = 5.0) -> AsyncGenerator[Transport]:
    async with serve_sandbox(speed=speed) as sandbox, make(Addresses(sandbox.rest_url, sandbox.ws_url)) as transport:
        yield transport


@asynccontextmanager
async def _to_nobody(make: MakeTransport, *, listens: bool) -> AsyncGenerator[Transport]:
    """Return a transport to a silent server, or to a port without one."""

    async def be_silent(stream: ByteStream) -> None:
        async with stream:
            try:
                while True:
                    await stream.receive()
            except BROKEN:
                return

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        if not isinstance(listener, TypedAttributeProvider):
            raise TypeError("a listener without attributes")
        port = int(listener.extra(SocketAttribute.local_port))
        if listens:
            tasks.start_soon(listener.serve, be_silent)
        else:
            await listener.aclose()
        async with make(Addresses(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}")) as transport:
            yield transport
        tasks.cancel_scope.cancel()


@_rule("OpenSocket is answered by Connected, then come messages and pongs, and CloseSocket is answered by one Disconnected")
async def _lives(make: MakeTransport) -> None:
    async with _to_exchange(make) as transport:
        transport.perform(OpenSocket())
        facts = await _until(transport, Connected)
        _expect(facts[0] == Connected(), f"first came {facts[0]!r}")
        transport.perform(SendPing(b"life"))
        facts = await _until(transport, PongReceived)
        _expect(PongReceived(b"life") in facts, f"a ping was answered by {facts}")
        transport.perform(_SUBSCRIBE)
        await _until(transport, TextReceived)
        transport.perform(CloseSocket(1000, "done"))
        facts = await _until(transport, Disconnected)
        ends = [fact for fact in facts if isinstance(fact, Disconnected)]
        _expect(facts[-1:] == ends and ends[0].code == 1000, f"the end was {facts[-3:]}")


@_rule("OpenSocket ends the websocket before, and nothing is heard of that")
async def _opens_again(make: MakeTransport) -> None:
    async with _to_exchange(make) as transport:
        transport.perform(OpenSocket())
        transport.perform(OpenSocket())
        facts = await _until(transport, Connected)
        transport.perform(_request())
        facts += await _until(transport, ResponseReceived)
        kinds = [type(fact).__name__ for fact in facts]
        _expect(kinds == ["Connected", "ResponseReceived"], f"came {kinds}")


@_rule("nothing is heard of a websocket after DropSocket")
async def _drops(make: MakeTransport) -> None:
    async with _to_exchange(make, speed=20.0) as transport:
        transport.perform(OpenSocket())
        await _until(transport, Connected)
        transport.perform(_SUBSCRIBE)
        await _until(transport, TextReceived)
        transport.perform(DropSocket())
        transport.perform(_request())
        kinds = [type(fact).__name__ for fact in await _until(transport, ResponseReceived)]
        _expect(kinds == ["ResponseReceived"], f"came {kinds}")


@_rule("where nobody listens there is one ConnectFailed, and a RequestFailed that says sent=False")
async def _is_refused(make: MakeTransport) -> None:
    async with _to_nobody(make, listens=False) as transport:
        transport.perform(_request())
        (fact,) = await _until(transport, RequestFailed)
        _expect(isinstance(fact, RequestFailed) and not fact.sent, f"came {fact!r}")
        transport.perform(OpenSocket())
        facts = await _until(transport, ConnectFailed)
        _expect(len(facts) == 1, f"came {facts}")


@_rule("a request without an answer fails after its timeout, once, with sent=True")
async def _times_out(make: MakeTransport) -> None:
    async with _to_nobody(make, listens=True) as transport:
        transport.perform(_request(timeout_us=50_000))
        (fact,) = await _until(transport, RequestFailed)
        _expect(isinstance(fact, RequestFailed) and fact.sent, f"came {fact!r}")


@_rule("a request that is withdrawn at once, or whose time has passed, is never sent, and fails with sent=False")
async def _withdraws(make: MakeTransport) -> None:
    async with _to_exchange(make) as transport:
        transport.perform(_request(1))
        transport.perform(WithdrawRequest(1))
        transport.perform(_request(2, not_after_us=transport.now().mono_us - 1))
        facts: list[Given] = []
        while len([fact for fact in facts if isinstance(fact, RequestFailed | ResponseReceived)]) < 2:
            facts += await transport.next(None)
        sent = [fact for fact in facts if not isinstance(fact, RequestFailed) or fact.sent]
        _expect(not sent, f"came {sent}")


@_rule("next gives TimerFired at its deadline and not before, and wake lets it return")
async def _keeps_time(make: MakeTransport) -> None:
    async with _to_exchange(make) as transport:
        until_us = transport.now().mono_us + 20_000
        fired: Sequence[Given] = []
        while not fired:
            fired = await transport.next(until_us)
        _expect(list(fired) == [TimerFired()], f"came {fired}")
        _expect(transport.now().mono_us >= until_us, "it came early")
        transport.wake()
        woken = await transport.next(None)
        _expect(not woken, f"after wake came {woken}")


@_rule("who listens is told where it happens, and next is left with what follows from calls, such as pauses")
async def _tells(make: MakeTransport) -> None:
    heard: list[Given] = []
    connected, told = anyio.Event(), anyio.Event()

    def sink(facts: Sequence[Given]) -> None:
        heard.extend(facts)
        if Connected() in heard:
            connected.set()
        if any(isinstance(fact, TextReceived) for fact in heard):
            told.set()

    async with _to_exchange(make, speed=0.0) as transport:
        transport.listen(sink)
        transport.perform(OpenSocket())
        await connected.wait()
        transport.perform(_SUBSCRIBE)
        await told.wait()
        for call, fact in ((transport.pause_reading, ReadingPaused()), (transport.resume_reading, ReadingResumed())):
            call()
            call()
            _expect(fact not in heard, f"{fact!r} was told from inside the call")
            facts = await _until(transport, type(fact))
            _expect(facts == [fact], f"next gave {facts}")


@_rule("while reading is paused no message comes, and it goes on afterwards")
async def _pauses(make: MakeTransport) -> None:
    async with _to_exchange(make, speed=20.0) as transport:
        transport.perform(OpenSocket())
        await _until(transport, Connected)
        transport.perform(_SUBSCRIBE)
        await _until(transport, TextReceived)
        transport.pause_reading()
        await _until(transport, ReadingPaused)
        read: list[int] = []
        for number in range(1, 7):
            transport.perform(_request(number))
            read.append(sum(isinstance(fact, TextReceived) for fact in await _until(transport, ResponseReceived)))
        # The read that was under way may complete.
        _expect(read[3:] == [0, 0, 0], f"messages came between six requests: {read}")
        transport.resume_reading()
        facts = await _until(transport, ReadingResumed)
        if not any(isinstance(fact, TextReceived) for fact in facts):
            await _until(transport, TextReceived)


@_rule("what is no action is refused with a TypeError")
async def _refuses(make: MakeTransport) -> None:
    async with _to_exchange(make) as transport:
        try:
            transport.perform(TimerFired())  # type: ignore[arg-type]  # that is the point
        except TypeError:
            return
        raise _Unexpected("it was taken")

"""The mock transport: what a script may tell, and a client that is driven by one."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from msgspec.structs import replace

from backpack_proto.errors import LocalProtocolError
from backpack_proto.http import HttpRequest
from backpack_proto.inputs import (
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
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
from backpack_proto.outputs import (
    Action,
    CloseSocket,
    ConnectionDown,
    ConnectionUp,
    DropSocket,
    OpenSocket,
    SendPing,
    SendPong,
    SendRequest,
    SendText,
    WithdrawRequest,
)
from backpack_proto.streams.payloads import Trade
from backpack_runtime.client import BackpackClient
from backpack_runtime.transports.mock import MockTransport, oblige, respond
from transports import MARKETS

pytestmark = pytest.mark.anyio

TRADE = b"""{"data":{"E":1694687692980000,"T":1694687692980000,"a":"4","b":"3","e":"trade","m":true,"p":"18.68","q":"0.12","s":"SOL_USDC",
"t":7},"stream":"trade.SOL_USDC"}"""
REQUEST = SendRequest(request_id=1, request=HttpRequest(method="GET", target="/api/v1/ping"), timeout_us=10_000_000)
SOCKET_FACTS = (TextReceived(b""), PingReceived(b""), PongReceived(b""), Disconnected(1000, ""))


def silent(_action: Action) -> Iterator[Fact]:
    yield from ()


async def test_facts_follow_from_actions_and_from_whoever_feeds_them() -> None:
    transport = MockTransport()
    transport.perform(OpenSocket())
    transport.perform(SendPing(b"life"))
    transport.feed(TextReceived(b"{}"), PingReceived(b"?"))
    assert await transport.next(None) == [Connected(), PongReceived(b"life"), TextReceived(b"{}"), PingReceived(b"?")]
    transport.perform(SendPong(b"?"))
    transport.perform(CloseSocket(1000, "done"))
    assert await transport.next(None) == [Disconnected(1000, "done")]
    assert transport.performed == [OpenSocket(), SendPing(b"life"), SendPong(b"?"), CloseSocket(1000, "done")]


async def test_what_cannot_happen_on_sockets_is_refused() -> None:
    transport = MockTransport(silent)
    for fact in (*SOCKET_FACTS, Connected(), ConnectFailed("")):
        with pytest.raises(LocalProtocolError, match="closed"):
            transport.feed(fact)
    transport.perform(OpenSocket())
    for fact in SOCKET_FACTS:
        with pytest.raises(LocalProtocolError, match="connecting"):
            transport.feed(fact)
    with pytest.raises(LocalProtocolError, match="before the websocket is open"):
        transport.perform(SendText("{}"))
    transport.feed(Connected())
    for fact in (Connected(), ConnectFailed("")):
        with pytest.raises(LocalProtocolError, match="open"):
            transport.feed(fact)
    transport.feed(Disconnected(1006, "lost"))
    for fact in SOCKET_FACTS:
        with pytest.raises(LocalProtocolError, match="closed"):
            transport.feed(fact)
    for own in (ReadingPaused(), ReadingResumed(), TimerFired()):
        with pytest.raises(LocalProtocolError, match="not for a script"):
            transport.feed(own)
    assert await transport.next(None) == [Connected(), Disconnected(1006, "lost")]


async def test_after_a_drop_and_after_an_end_nothing_goes_out() -> None:
    transport = MockTransport()
    transport.perform(OpenSocket())
    transport.perform(DropSocket())
    transport.perform(SendText("late"))
    assert transport.performed == [OpenSocket(), DropSocket()]
    with pytest.raises(LocalProtocolError):
        transport.feed(TextReceived(b""))
    transport.perform(REQUEST)
    assert [type(fact) for fact in await transport.next(None)] == [RequestFailed], (
        "what nobody has fetched goes with the socket"
    )


async def test_text_behind_a_close_is_refused_and_other_frames_vanish() -> None:
    transport = MockTransport(lambda action: [Connected()] if action == OpenSocket() else [])
    for action in (OpenSocket(), CloseSocket(1000, ""), SendPong(b"")):
        transport.perform(action)
    with pytest.raises(LocalProtocolError, match="SendText after CloseSocket"):
        transport.perform(SendText("late"))
    transport.feed(TextReceived(b"one more"), Disconnected(1000, ""))
    assert transport.performed == [OpenSocket(), CloseSocket(1000, "")]


async def test_a_request_is_answered_once() -> None:
    transport = MockTransport(silent)
    with pytest.raises(LocalProtocolError, match="no request 1"):
        transport.feed(respond(REQUEST, b"early"))
    transport.perform(REQUEST)
    answer = respond(REQUEST, b"{}", status=418)
    transport.feed(answer)
    with pytest.raises(LocalProtocolError, match="no request 1"):
        transport.feed(answer)
    assert await transport.next(None) == [ResponseReceived(request_id=1, status=418, body=b"{}")]


async def test_a_request_that_is_not_answered_costs_its_timeout() -> None:
    transport = MockTransport(silent)
    transport.perform(SendRequest(request_id=2, request=REQUEST.request, timeout_us=500_000))
    transport.perform(REQUEST)
    lost = RequestFailed(request_id=2, reason="no answer within 0.5 s", sent=True)
    with anyio.fail_after(60):
        now_us = transport.now().mono_us
        assert await transport.next(now_us + 1_000) == [TimerFired()]
        assert await transport.next(now_us + 5_000_000) == [lost]


async def test_the_default_script_has_no_rest() -> None:
    transport = MockTransport()
    transport.perform(REQUEST)
    assert await transport.next(None) == [RequestFailed(request_id=1, reason="no answer is scripted", sent=False)]


async def test_what_the_websocket_brings_waits_while_reading_is_paused() -> None:
    transport = MockTransport()
    transport.perform(OpenSocket())
    transport.pause_reading()
    transport.pause_reading()
    transport.feed(TextReceived(b"held"))
    transport.perform(REQUEST)
    assert [type(fact) for fact in await transport.next(None)] == [Connected, ReadingPaused, RequestFailed]
    transport.resume_reading()
    transport.resume_reading()
    assert await transport.next(None) == [ReadingResumed(), TextReceived(b"held")]
    transport.pause_reading()
    transport.feed(TextReceived(b"lost"))
    transport.perform(DropSocket())
    transport.resume_reading()
    assert await transport.next(None) == [ReadingPaused(), ReadingResumed()]


def exchange(action: Action) -> Iterator[Fact]:
    match action:
        case SendRequest(request=HttpRequest(target="/api/v1/markets")):
            yield respond(action, MARKETS)
        case SendText(text) if "SUBSCRIBE" in text:
            yield TextReceived(TRADE)
        case _:
            yield from oblige(action)


async def test_a_client_is_driven_by_a_script() -> None:
    transport = MockTransport(exchange)
    seen: list[type] = []
    with anyio.fail_after(60):
        async with BackpackClient(["SOL_USDC"], channels=["trades"], transport=transport) as client:
            async for event in client:
                seen.append(type(event))
                if isinstance(event, Trade) and seen.count(Trade) == 1:
                    assert event.symbol == "SOL_USDC"
                    transport.feed(Disconnected(1006, "lost"))
                elif isinstance(event, Trade):
                    break
    assert [kind for kind in seen if kind in {ConnectionUp, ConnectionDown, Trade}] == [
        ConnectionUp,
        Trade,
        ConnectionDown,
        ConnectionUp,
        Trade,
    ]
    texts = [action for action in transport.performed if isinstance(action, SendText)]
    assert len(texts) == 2, "what was subscribed is subscribed again"
    assert transport.performed.count(OpenSocket()) == 2


async def test_a_transport_of_one_s_own_and_the_sandbox_exclude_each_other() -> None:
    with pytest.raises(LocalProtocolError, match="sandbox"):
        BackpackClient(sandbox=True, transport=MockTransport())


async def test_a_request_has_left_unless_the_script_says_otherwise() -> None:
    transport = MockTransport(lambda action: [] if isinstance(action, SendRequest) else oblige(action))
    transport.perform(REQUEST)
    transport.perform(WithdrawRequest(1))
    assert await transport.next(None) == [RequestLeft(1)]
    transport.feed(respond(REQUEST, b"pong"))
    assert await transport.next(None) == [respond(REQUEST, b"pong")]
    transport.perform(WithdrawRequest(1))
    assert transport.performed == [REQUEST, WithdrawRequest(1)], "nothing is withdrawn that has been answered"
    with pytest.raises(LocalProtocolError, match="no request 1 waits"):
        transport.feed(RequestLeft(1))

    def dialing(action: Action) -> Iterator[Fact]:
        if isinstance(action, WithdrawRequest):
            yield RequestFailed(request_id=action.request_id, reason="it was withdrawn", sent=False)

    transport = MockTransport(dialing)
    transport.perform(REQUEST)
    transport.perform(WithdrawRequest(1))
    assert await transport.next(None) == [RequestFailed(request_id=1, reason="it was withdrawn", sent=False)]


async def test_a_request_whose_time_has_passed_reaches_no_script() -> None:
    transport = MockTransport(silent)
    transport.perform(replace(REQUEST, not_after_us=transport.now().mono_us - 1))
    assert await transport.next(None) == [RequestFailed(request_id=1, reason="it has waited too long", sent=False)]
    assert transport.performed == []

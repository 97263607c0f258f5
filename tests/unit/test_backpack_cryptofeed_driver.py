"""The driver with a scripted session: what becomes of facts and actions, in which order events are delivered, and when no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

import aiohttp
from cryptofeed.exceptions import ConnectionClosed
from msgspec.structs import replace
from multidict import CIMultiDict, CIMultiDictProxy
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from backpack_proto.http import HttpRequest
from backpack_proto.inputs import (
    Close,
    Command,
    Connected,
    ConnectFailed,
    Disconnected,
    Open,
    PongReceived,
    ReadingPaused,
    ReadingResumed,
    RequestFailed,
    RequestLeft,
    ResponseReceived,
    TextReceived,
    TimerFired,
    Unsubscribe,
)
from backpack_proto.machine import Now
from backpack_proto.outputs import (
    ConnectionDown,
    DropSocket,
    OpenSocket,
    SendPing,
    SendPong,
    SendRequest,
    SendText,
    StreamLive,
    WithdrawRequest,
)
from backpack_proto.streams.payloads import Event
from backpack_runtime.cryptofeed import BackpackWebsocketError
from backpack_runtime.cryptofeed.native.driver import FRAMES_AT_ONCE, SessionDriver
from backpack_runtime.transport import system_now
from backpack_runtime.transports.aiohttp.proxies import PROGRESS

pytestmark = pytest.mark.anyio

REQUEST = SendRequest(
    request_id=7, request=HttpRequest(method="GET", target="/api/v1/depth", headers=(("a", "b"),)), timeout_us=50_000
)
DOWN = ConnectionDown(reason="given up", code=1006, retry_us=1_500_000)


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


class Script:
    """A session that answers as it is told, and notes what it is given."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.answer: Callable[[Any], Sequence[Any]] = lambda _given: ()
        self.deadline: int | None = None
        self.moments: list[Now] = []
        self.plain = False

    def handle(self, given: Any, now: Now) -> Sequence[Any]:
        self.given.append(given)
        self.moments.append(now)
        if isinstance(given, TimerFired):
            self.deadline = None
        return self.answer(given)

    def handle_all(self, batch: Sequence[Any], now: Now, ends: list[int] | None = None) -> list[Any]:
        outputs: list[Any] = []
        for given in batch:
            outputs += self.handle(given, now)
            if ends is not None:
                ends.append(len(outputs))
        return outputs


class Socket:
    """The websocket below cryptofeed's connection."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.answered = asyncio.get_running_loop().create_future()
        self.answered.set_result(0.1)

    async def send(self, text: str) -> None:
        self.sent.append(text)

    async def ping(self, payload: bytes) -> Any:
        self.sent.append(payload)
        return self.answered

    async def pong(self, payload: bytes) -> None:
        self.sent.append(b"pong " + payload)


class Conn:
    """cryptofeed's connection. What it writes is recorded."""

    def __init__(self) -> None:
        self.conn = Socket()
        self.written: list[str] = []
        self.sent = 0
        self.raw_data_callback: object = None
        self.fails: Exception | None = None

    async def write(self, text: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.written.append(text)


class Http:
    """cryptofeed's HTTP connection, as the feed has it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answer: Any = "{}"
        self.connected: asyncio.Event | None = None
        """Time that it takes to get a connection."""

    async def read(self, address: str, header: object = None) -> str:
        if self.connected is not None:
            await self.connected.wait()
        progress = PROGRESS.get()
        assert progress is not None
        progress.leave()
        self.asked.append((address, header))
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            await asyncio.sleep(3600)
        return str(self.answer)


class Setting:
    """A driver and all that it speaks with."""

    def __init__(self) -> None:
        self.session = Script()
        self.conn = Conn()
        self.http = Http()
        self.delivered: list[Event] = []
        self.details: list[tuple[bytes | None, float]] = []
        self.delivering: Callable[[Event], Any] | None = None
        self.commands: dict[Event, Sequence[Command]] = {}
        """What the deliveries want done about an event."""
        self.dropped: list[Exception] = []
        session: Any = self.session
        self.driver = SessionDriver(session, self._deliver, "https://rest", lambda: self.http)

    async def _deliver(self, event: Event, data: bytes | None, receipt: float) -> Sequence[Command]:
        if self.delivering is not None:
            await self.delivering(event)
        self.delivered.append(event)
        self.details.append((data, receipt))
        return self.commands.pop(event, ())

    def drop(self, error: Exception) -> None:
        self.dropped.append(error)

    async def connect(self) -> None:
        await self.driver.connected(self.conn, self)
        self.session.given.clear()

    def names(self) -> list[str]:
        return [event.stream for event in self.delivered if isinstance(event, StreamLive)]


@pytest.fixture
async def setting() -> Setting:
    return Setting()


def told(*names: str) -> list[Event]:
    return [StreamLive(stream=name) for name in names]


def words(given: Any) -> list[Event]:
    """What each frame says."""
    return told(*given.data.decode().split()) if isinstance(given, TextReceived) else []


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)


async def test_a_refused_handshake_passes_on_how_long_it_asks_to_wait(setting: Setting) -> None:
    refused = InvalidStatus(Response(429, "Too Many Requests", Headers({"Retry-After": "7"})))
    await setting.driver.connect_failed(refused)
    fact = setting.session.given[-1]
    assert isinstance(fact, ConnectFailed)
    assert fact.retry_after_us == 7_000_000


async def test_a_session_is_opened_once_and_told_of_each_connection(setting: Setting) -> None:
    driver = setting.driver
    await driver.connect_failed(ConnectionRefusedError("nobody"))
    await driver.connected(setting.conn, setting)
    await driver.disconnected(1006, "lost")
    await driver.disconnected(1006, "lost again")
    await driver.connected(setting.conn, setting)
    await driver.aclose()
    assert setting.session.given == [
        Open(),
        ConnectFailed("ConnectionRefusedError: nobody"),
        Connected(),
        Disconnected(1006, "lost"),
        Connected(),
        Disconnected(1000, "closed by the feed"),
        Close(),
    ]


async def test_a_frame_is_a_fact_and_its_events_carry_it(setting: Setting) -> None:
    await setting.connect()
    setting.session.answer = lambda _given: told("a", "b")
    await setting.driver.frames([TextReceived(b"frame")], 12.5)
    assert setting.session.given == [TextReceived(b"frame")]
    assert setting.names() == ["a", "b"]
    assert setting.details == [(b"frame", 12.5)] * 2
    await setting.driver.aclose()


@pytest.mark.parametrize("plain", [True, False])
async def test_the_frames_of_a_read_are_told_apart(setting: Setting, *, plain: bool) -> None:
    await setting.connect()
    setting.session.plain = plain
    setting.session.answer = words
    await setting.driver.frames([TextReceived(data) for data in (b"a", b"", b"b c", b"", b"d")], 12.5)
    assert setting.names() == ["a", "b", "c", "d"]
    assert setting.details == [(b"a", 12.5), (b"b c", 12.5), (b"b c", 12.5), (b"d", 12.5)]
    await setting.driver.aclose()


async def test_behind_the_end_of_a_connection_the_frames_of_a_read_are_nobody_s(setting: Setting) -> None:
    await setting.connect()
    setting.session.answer = lambda given: [DOWN, DropSocket()] if given == TextReceived(b"last") else words(given)
    await setting.driver.frames([TextReceived(data) for data in [b"a", b"last", *[b"late"] * 300]], 12.5)
    assert setting.delivered == [*told("a"), DOWN]
    assert len(setting.dropped) == 1
    assert len(setting.session.given) == FRAMES_AT_ONCE
    await setting.driver.aclose()


async def test_who_stops_the_feed_in_a_callback_has_no_more_than_the_frames_that_were_given(setting: Setting) -> None:
    async def stops(_event: Event) -> None:
        if not setting.delivered:
            await setting.driver.aclose()

    await setting.connect()
    setting.session.answer = lambda given: told("a") if isinstance(given, TextReceived) else ()
    setting.delivering = stops
    await setting.driver.frames([TextReceived(b"")] * 300, 12.5)
    assert len(setting.names()) == FRAMES_AT_ONCE


async def test_plain_frames_have_no_look_at_the_deadline(setting: Setting) -> None:
    await setting.connect()
    await asyncio.sleep(0.01)
    for plain in (True, False):
        setting.session.plain = plain
        setting.session.deadline = time.monotonic_ns() // 1000
        await setting.driver.frames([TextReceived(b"")], 12.5)
        await asyncio.sleep(0.01)
        assert any(isinstance(given, TimerFired) for given in setting.session.given) is not plain
    await setting.driver.aclose()


async def test_events_are_delivered_in_the_session_s_order_whoever_brings_them(setting: Setting) -> None:
    count = 0

    def number(given: Any) -> list[Any]:
        nonlocal count
        outputs: list[Any] = []
        for _ in range(3):
            count += 1
            outputs += told(str(count))
        if isinstance(given, TimerFired):
            setting.session.deadline = time.monotonic_ns() // 1000 + 300
        elif isinstance(given, TextReceived) and count % 2:
            outputs.append(REQUEST)
        return outputs

    async def slowly(event: Event) -> None:
        # Now and then something else may run.
        if isinstance(event, StreamLive) and int(event.stream) % 5 == 0:
            await asyncio.sleep(0.0007)

    await setting.connect()
    setting.session.answer, setting.delivering = number, slowly
    setting.session.deadline = time.monotonic_ns() // 1000
    for _ in range(60):
        await setting.driver.frames([TextReceived(b"")], 0.0)
        await asyncio.sleep(0)
    await until(lambda: len(setting.delivered) == count)
    kinds = {type(given) for given in setting.session.given}
    assert kinds >= {TextReceived, TimerFired, ResponseReceived}
    assert setting.names() == [str(number + 1) for number in range(count)]
    await setting.driver.aclose()


async def test_the_reader_waits_for_the_callbacks(setting: Setting) -> None:
    let = asyncio.Event()

    async def held(_event: Event) -> None:
        await let.wait()

    await setting.connect()
    setting.session.answer, setting.delivering = lambda _given: told("a"), held
    reading = asyncio.create_task(setting.driver.frames([TextReceived(b"")], 0.0))
    await asyncio.sleep(0.01)
    assert not reading.done()
    let.set()
    await reading
    assert setting.names() == ["a"]
    await setting.driver.aclose()


async def test_while_callbacks_hold_up_the_reader_silence_says_nothing(setting: Setting) -> None:
    let = asyncio.Event()

    async def held(_event: Event) -> None:
        await let.wait()

    await setting.connect()

    def answer(given: Any) -> list[Any]:
        if not isinstance(given, TextReceived):
            return []
        setting.session.deadline = time.monotonic_ns() // 1000
        return told("a")

    setting.session.answer, setting.delivering = answer, held
    reading = asyncio.create_task(setting.driver.frames([TextReceived(b"")], 0.0))
    await until(lambda: len(setting.session.given) == 3)
    let.set()
    await reading
    assert setting.session.given == [TextReceived(b""), ReadingPaused(), TimerFired(), ReadingResumed()]
    await setting.driver.aclose()


async def test_a_callback_that_fails_keeps_nothing_from_the_others(setting: Setting) -> None:
    async def fails(event: Event) -> None:
        if event in told("a", "c"):
            raise ZeroDivisionError(str(event))

    await setting.connect()
    setting.session.answer, setting.delivering = lambda _given: told("a", "b", "c", "d"), fails
    with pytest.raises(ZeroDivisionError, match="'a'") as caught:
        await setting.driver.frames([TextReceived(b"")], 0.0)
    assert setting.names() == ["b", "d"]
    assert caught.value.__notes__ == ["1 more of the events that came together failed"]
    setting.session.answer = lambda _given: told("e")
    await setting.driver.frames([TextReceived(b"")], 0.0)
    assert setting.names() == ["b", "d", "e"]
    await setting.driver.aclose()


async def test_what_fails_outside_the_reader_is_the_reader_s_error(setting: Setting) -> None:
    mistake = ZeroDivisionError("a mistake of the user's")

    async def fails(_event: Event) -> None:
        raise mistake

    await setting.connect()
    setting.delivering = fails
    setting.session.answer = lambda given: [REQUEST] if isinstance(given, TextReceived) else told("a")
    await setting.driver.frames([TextReceived(b"")], 0.0)
    await until(lambda: setting.dropped)
    assert setting.dropped == [mistake]
    setting.session.answer = lambda _given: ()
    await setting.driver.aclose()


async def test_a_task_that_fails_without_a_connection_is_logged(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    await setting.connect()
    setting.http.answer = ZeroDivisionError("a mistake")
    setting.session.answer = lambda given: [REQUEST] if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    await setting.driver.disconnected(1006, "lost")
    await until(lambda: "a mistake" in caplog.text)
    assert setting.dropped == []
    await setting.driver.aclose()


async def test_nothing_is_delivered_after_the_end(setting: Setting) -> None:
    await setting.connect()
    setting.http.answer = None
    setting.session.answer = lambda given: [REQUEST] if isinstance(given, TextReceived) else told("late")
    setting.session.deadline = time.monotonic_ns() // 1000 + 20_000
    await setting.driver.frames([TextReceived(b"")], 0.0)
    await asyncio.sleep(0)
    await setting.driver.aclose()
    delivered = len(setting.delivered)
    given = len(setting.session.given)
    await setting.driver.frames([TextReceived(b"more")], 0.0)
    await setting.driver.connected(setting.conn, setting)
    await setting.driver.connect_failed(ConnectionRefusedError("nobody"))
    await setting.driver.disconnected(1006, "lost")
    await asyncio.sleep(0.05)
    assert len(setting.delivered) == delivered
    assert len(setting.session.given) == given
    assert setting.session.given[-1] == Close()


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_signature_passes_no_recorder(setting: Setting, *, recorded: bool) -> None:
    setting.conn.raw_data_callback = object() if recorded else None
    await setting.connect()
    texts = [SendText("public"), SendText("secret", signed=True)]
    setting.session.answer = lambda given: texts if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    assert setting.conn.written == (["public"] if recorded else ["public", "secret"])
    assert setting.conn.conn.sent == (["secret"] if recorded else [])
    assert setting.conn.sent == int(recorded)
    await setting.driver.aclose()


@pytest.mark.parametrize("lost", [ConnectionClosed(), ConnectionResetError("gone")], ids=["cryptofeed's", "the system's"])
async def test_that_the_connection_has_ended_is_for_its_reader_to_say(setting: Setting, lost: Exception) -> None:
    await setting.connect()
    setting.conn.fails = lost
    setting.session.answer = lambda given: [SendText("text"), *told("a")] if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    assert setting.names() == ["a"]
    await setting.driver.aclose()


async def test_what_is_left_to_send_on_a_connection_that_has_ended_is_not_sent(setting: Setting) -> None:
    class Ending(Conn):
        async def write(self, text: str) -> None:
            await super().write(text)
            await setting.driver.disconnected(1006, "lost")

    setting.conn = Ending()
    await setting.connect()
    texts = [SendText("one"), SendText("two", signed=True)]
    setting.session.answer = lambda given: texts if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    assert setting.conn.written == ["one"]
    await setting.driver.aclose()


async def test_pings_go_out_and_their_pongs_come_back(setting: Setting) -> None:
    await setting.connect()
    setting.session.answer = lambda given: [SendPong(b"4"), SendPing(b"5")] if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    await until(lambda: PongReceived(b"5") in setting.session.given)
    assert setting.conn.conn.sent == [b"pong 4", b"5"]
    await setting.driver.aclose()


async def test_what_the_deliveries_want_done_is_done_in_the_order_of_the_events(setting: Setting) -> None:
    await setting.connect()
    first, second = told("first", "second")
    (third,) = told("third")
    setting.commands = {first: (Unsubscribe(("a",)), Unsubscribe(("b",)))}
    setting.session.answer = lambda given: [first, second] if isinstance(given, TextReceived) else [third]
    await setting.driver.frames([TextReceived(b"frame")], 12.5)
    assert setting.session.given == [TextReceived(b"frame"), Unsubscribe(("a",)), Unsubscribe(("b",))]
    assert setting.names() == ["first", "second", "third", "third"]
    # A session that has ended takes no commands.
    setting.commands = {DOWN: (Unsubscribe(("c",)),)}
    setting.session.answer = lambda given: (DOWN,) if isinstance(given, Disconnected) else ()
    await setting.driver.aclose()
    assert setting.session.given[3:] == [Disconnected(1000, "closed by the feed"), Close()]


@pytest.mark.parametrize("where", ["the reader", "a task"])
async def test_an_error_of_the_feed_is_named_as_the_reason_of_the_end(setting: Setting, where: str) -> None:
    await setting.connect()

    async def raises(_event: Event) -> None:
        raise ZeroDivisionError("of the\napplication's")

    setting.delivering = raises
    if where == "the reader":
        setting.session.answer = lambda given: told("a") if isinstance(given, TextReceived) else ()
        with pytest.raises(ZeroDivisionError):
            await setting.driver.frames([TextReceived(b"")], 0.0)
    else:
        setting.session.answer = lambda given: (
            [SendPing(b"5")] if isinstance(given, TextReceived) else told("a") if isinstance(given, PongReceived) else ()
        )
        await setting.driver.frames([TextReceived(b"")], 0.0)
        await until(lambda: setting.dropped)
    setting.delivering = None
    await setting.driver.disconnected(1000, "closed by the feed")
    assert setting.session.given[-1] == Disconnected(1006, "an error in the feed: ZeroDivisionError: of the application's")
    # The next connection ends for a reason of its own.
    await setting.driver.connected(setting.conn, setting)
    await setting.driver.disconnected(1000, "closed by the feed")
    assert setting.session.given[-1] == Disconnected(1000, "closed by the feed")
    await setting.driver.aclose()


async def test_a_callback_is_not_cut_off_when_the_connection_ends(setting: Setting) -> None:
    """It may have been the answer to a ping that brought the events."""
    let, begun, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def held(_event: Event) -> None:
        begun.set()
        await let.wait()
        ended.set()

    await setting.connect()
    setting.delivering = held
    setting.session.answer = lambda given: (
        [SendPing(b"5")] if isinstance(given, TextReceived) else told("a") if isinstance(given, PongReceived) else ()
    )
    await setting.driver.frames([TextReceived(b"")], 0.0)
    await begun.wait()
    await setting.driver.disconnected(1006, "lost")
    let.set()
    async with asyncio.timeout(5):
        await ended.wait()
    await setting.driver.aclose()


@pytest.mark.parametrize("in_a_task", [False, True])
async def test_a_callback_may_stop_the_feed(setting: Setting, *, in_a_task: bool) -> None:
    async def stops(event: Event) -> None:
        if isinstance(event, StreamLive):
            stopping = setting.driver.aclose()
            await (asyncio.create_task(stopping) if in_a_task else stopping)

    await setting.connect()
    setting.delivering = stops
    setting.session.answer = lambda given: told("a") if isinstance(given, TextReceived) else ()
    async with asyncio.timeout(1):
        await setting.driver.frames([TextReceived(b"")], 0.0)
    assert setting.session.given == [TextReceived(b""), Disconnected(1000, "closed by the feed"), Close()]


@pytest.mark.parametrize("brought_by", ["the timer", "a request"])
async def test_a_callback_that_another_task_calls_may_stop_the_feed(setting: Setting, brought_by: str) -> None:
    stopped = asyncio.Event()

    async def stops(event: Event) -> None:
        if isinstance(event, StreamLive):
            await setting.driver.aclose()
            await asyncio.sleep(0)
            stopped.set()

    await setting.connect()
    setting.delivering = stops
    if brought_by == "the timer":
        setting.session.answer = lambda given: told("a") if isinstance(given, TimerFired) else ()
        setting.session.deadline = time.monotonic_ns() // 1000
    else:
        setting.session.answer = lambda given: (
            [REQUEST] if isinstance(given, TextReceived) else told("a") if isinstance(given, ResponseReceived) else ()
        )
    await setting.driver.frames([TextReceived(b"")], 0.0)
    async with asyncio.timeout(5):
        await stopped.wait()
    assert setting.session.given[-1] == Close()


async def test_a_callback_that_never_returns_does_not_keep_the_feed_from_stopping(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("backpack_runtime.cryptofeed.native.event_queue.CLOSING_SECONDS", 0.05)
    begun = asyncio.Event()

    async def hangs(_event: Event) -> None:
        begun.set()
        await asyncio.sleep(3600)

    await setting.connect()
    setting.delivering = hangs
    setting.session.answer = lambda given: told("a", "b") if isinstance(given, TextReceived) else ()
    reading = asyncio.create_task(setting.driver.frames([TextReceived(b"")], 0.0))
    await begun.wait()
    async with asyncio.timeout(5):
        await setting.driver.aclose()
    assert setting.session.given[-1] == Close()
    assert "BACKPACK: stopped while a callback was running; events that are not delivered: 1" in caplog.text
    reading.cancel()
    await asyncio.wait([reading])
    assert setting.delivered == []


async def test_what_was_received_is_delivered_before_the_feed_has_stopped(setting: Setting) -> None:
    async def slowly(_event: Event) -> None:
        await asyncio.sleep(0.02)

    await setting.connect()
    setting.delivering = slowly
    setting.session.answer = lambda given: told("a", "b", "c") if isinstance(given, TextReceived) else ()
    reading = asyncio.create_task(setting.driver.frames([TextReceived(b"")], 0.0))
    await asyncio.sleep(0)
    await setting.driver.aclose()
    assert setting.names() == ["a", "b", "c"]
    await reading


async def test_a_ping_without_a_pong_ends_with_its_connection(setting: Setting) -> None:
    setting.conn.conn.answered = asyncio.get_running_loop().create_future()
    await setting.connect()
    setting.session.answer = lambda given: [SendPing(b"5")] if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    await asyncio.sleep(0)
    await setting.driver.disconnected(1006, "lost")
    await asyncio.sleep(0)
    assert setting.conn.conn.answered.cancelled()
    assert PongReceived(b"5") not in setting.session.given
    await setting.driver.aclose()


async def test_a_connection_that_is_given_up_is_dropped_with_the_reason(setting: Setting) -> None:
    await setting.connect()
    setting.session.answer = lambda given: [DropSocket(), DOWN] if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    (error,) = setting.dropped
    assert isinstance(error, BackpackWebsocketError)
    assert isinstance(error, ConnectionResetError), "as which cryptofeed takes it for a fault of the connection"
    assert str(error) == "given up"
    assert setting.delivered == [DOWN]
    assert setting.driver.retry_seconds == 1.5
    await setting.driver.disconnected(1006, "its reader's word for it")
    assert Disconnected(1006, "its reader's word for it") not in setting.session.given
    await setting.driver.aclose()


def refused(status: int) -> aiohttp.ClientResponseError:
    info: Any = None
    return aiohttp.ClientResponseError(info, (), status=status, message="Service Unavailable")


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        ('{"a":1}', ResponseReceived(request_id=7, status=200, body=b'{"a":1}')),
        (refused(503), ResponseReceived(request_id=7, status=503, body=b"Service Unavailable")),
        (None, RequestFailed(request_id=7, reason="no answer within 0.05 s")),
        (aiohttp.ServerDisconnectedError("gone"), RequestFailed(request_id=7, reason="ServerDisconnectedError: gone")),
        (ConnectionRefusedError("nobody"), RequestFailed(request_id=7, reason="ConnectionRefusedError: nobody")),
    ],
    ids=["answered", "refused", "late", "cut", "unreachable"],
)
async def test_a_request_ends_in_exactly_one_fact(setting: Setting, answer: Any, fact: object) -> None:
    await setting.connect()
    setting.http.answer = answer
    setting.session.answer = lambda given: [REQUEST] if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    await until(lambda: len(setting.session.given) == 2)
    assert setting.session.given[1] == fact
    assert setting.http.asked == [("https://rest/api/v1/depth", {"a": "b"})]
    await setting.driver.aclose()


async def test_a_refusal_says_how_long_to_wait(setting: Setting) -> None:
    await setting.connect()
    setting.http.answer = refused(429)
    setting.session.answer = lambda given: [REQUEST] if isinstance(given, TextReceived) else ()
    for value, wait_us in (("9", 9_000_000), ("9" * 5_000, None)):
        headers = CIMultiDictProxy(CIMultiDict({"Retry-After": value}))
        setting.http.answer.headers = headers
        before = len(setting.session.given)
        await setting.driver.frames([TextReceived(b"")], 0.0)
        await until(lambda: len(setting.session.given) == before + 2)  # noqa: B023 - waited for at once
        fact = setting.session.given[-1]
        assert (fact.status, fact.retry_after_us, fact.headers) == (429, wait_us, (("Retry-After", value),))
    await setting.driver.aclose()


@pytest.mark.parametrize("late", [False, True])
async def test_what_may_not_leave_any_more_is_never_sent(setting: Setting, *, late: bool) -> None:
    await setting.connect()
    setting.http.connected = asyncio.Event()
    mono_us = system_now().mono_us
    action = replace(REQUEST, timeout_us=10_000_000, not_after_us=mono_us + 20_000 if late else None)
    setting.session.answer = lambda given: [action] if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    await asyncio.sleep(0)
    if not late:
        setting.session.answer = lambda given: [WithdrawRequest(7)] if isinstance(given, Unsubscribe) else ()
        await setting.driver.give(Unsubscribe(("depth.SOL_USDC",)))
    await until(lambda: isinstance(setting.session.given[-1], RequestFailed))
    reason = "it has waited too long" if late else "it was withdrawn"
    assert setting.session.given[-1] == RequestFailed(request_id=7, reason=reason, sent=False)
    setting.http.connected.set()
    await asyncio.sleep(0)
    assert setting.http.asked == []
    await setting.driver.aclose()


async def test_what_has_left_cannot_be_withdrawn(setting: Setting) -> None:
    await setting.connect()
    setting.http.answer = None
    setting.session.answer = lambda given: [REQUEST] if isinstance(given, TextReceived) else ()
    await setting.driver.frames([TextReceived(b"")], 0.0)
    await until(lambda: bool(setting.http.asked))
    setting.session.answer = lambda given: [WithdrawRequest(7)] if isinstance(given, Unsubscribe) else ()
    await setting.driver.give(Unsubscribe(("depth.SOL_USDC",)))
    await until(lambda: isinstance(setting.session.given[-1], RequestFailed))
    assert setting.session.given[-2:] == [
        RequestLeft(7),
        RequestFailed(request_id=7, reason="no answer within 0.05 s", sent=True),
    ]
    await setting.driver.aclose()


async def test_nobody_but_cryptofeed_connects(setting: Setting) -> None:
    await setting.connect()
    setting.session.answer = lambda _given: [OpenSocket()]
    with pytest.raises(TypeError, match="OpenSocket"):
        await setting.driver.frames([TextReceived(b"")], 0.0)
    setting.session.answer = lambda _given: ()
    await setting.driver.aclose()


async def test_a_recording_has_the_time_of_its_frames(setting: Setting) -> None:
    fired: list[int] = []

    def answer(given: Any) -> Sequence[Any]:
        if isinstance(given, TimerFired):
            fired.append(setting.session.moments[-1].mono_us)
        return [REQUEST] if isinstance(given, TextReceived) else ()

    await setting.driver.connected(setting.conn, None)
    setting.session.answer = answer
    await setting.driver.frames([TextReceived(b"first")], 1_000.0)
    first = setting.session.moments[-1].unix_us
    setting.session.deadline = setting.session.moments[-1].mono_us + 30_000_000
    wanted = setting.session.deadline
    await setting.driver.frames([TextReceived(b"second")], 1_060.0)
    assert fired == [wanted], "what was due in between has happened, in its own time"
    assert setting.session.moments[-1].unix_us - first == 60_000_000
    assert [type(given) for given in setting.session.given[2:]] == [
        TextReceived,
        ResponseReceived,
        TimerFired,
        TextReceived,
        ResponseReceived,
    ]
    await setting.driver.aclose()

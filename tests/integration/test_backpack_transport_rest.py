"""The contract of every transport for requests: what is sent, how often, and what becomes of it."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import ByteStream

from backpack_proto.http import HttpRequest
from backpack_proto.importance import Importance
from backpack_proto.inputs import Given, RequestFailed, RequestLeft, ResponseReceived, TimerFired
from backpack_proto.outputs import SendRequest, WithdrawRequest
from backpack_runtime.network.send_queue import BROKEN
from backpack_runtime.network.turns import Turns
from backpack_runtime.sandbox import serve_sandbox
from backpack_runtime.transport import Transport
from backpack_runtime.transports.base import CANCEL_CONNECTIONS, HTTP_CONNECTIONS, Progress, Withheld
from transports import PATIENCE_SECONDS, PING, SOCKETS, Runtime, facts_until, read_head, request, to_sandbox, to_server

pytestmark = pytest.mark.anyio

PONG = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong"
POST = HttpRequest(method="POST", target="/api/v1/order", body=b"{}")
CHANGING = [POST, *(HttpRequest(method=method, target="/api/v1/order", body=b"{}") for method in ("DELETE", "PUT", "PATCH"))]


@pytest.fixture(params=SOCKETS)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """A test runs in every runtime that has sockets."""
    return SOCKETS[str(request.param)]


@pytest.fixture
def anyio_backend(runtime: Runtime) -> str:
    return runtime.backend


async def answer_of(transport: Transport, number: int, http: HttpRequest = PING) -> ResponseReceived:
    transport.perform(request(number, http))
    (fact,) = await facts_until(transport, ResponseReceived)
    assert isinstance(fact, ResponseReceived)
    assert fact.request_id == number
    return fact


async def failure_of(transport: Transport, number: int, http: HttpRequest = PING) -> RequestFailed:
    transport.perform(request(number, http))
    (fact,) = await facts_until(transport, RequestFailed)
    assert isinstance(fact, RequestFailed)
    assert fact.request_id == number
    return fact


async def test_requests_share_kept_connections(runtime: Runtime) -> None:
    async with serve_sandbox() as sandbox, to_sandbox(runtime, sandbox) as transport:
        for number in range(1, 4):
            transport.perform(request(number))
            (fact,) = await facts_until(transport, ResponseReceived)
            assert isinstance(fact, ResponseReceived)
            assert (fact.request_id, fact.status, fact.body) == (number, 200, b"pong")
            assert dict(fact.headers)["content-length"] == "4"
        assert sandbox.connections == 1


async def test_a_kept_connection_that_the_server_closed_costs_a_second_try(runtime: Runtime) -> None:
    served: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        """Keep the connection once, and close it under the second request."""
        served.append(await stream.receive())
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong")
        if len(served) == 1:
            served.append(await stream.receive())

    async with to_server(runtime, serve) as transport:
        transport.perform(request(1))
        await facts_until(transport, ResponseReceived)
        transport.perform(request(2))
        (fact,) = await facts_until(transport, ResponseReceived)
        assert isinstance(fact, ResponseReceived)
        assert (fact.request_id, fact.status, fact.body) == (2, 200, b"pong")
        assert len(served) == 3


@pytest.mark.parametrize("http", CHANGING, ids=lambda http: http.method)
async def test_what_changes_something_is_never_sent_twice(runtime: Runtime, http: HttpRequest) -> None:
    served: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        served.append(await stream.receive())
        if len(served) == 1:
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong")
            served.append(await stream.receive())

    async with to_server(runtime, serve) as transport:
        transport.perform(request(1))
        await facts_until(transport, ResponseReceived)
        assert (await failure_of(transport, 2, http)).sent
        assert len(served) == 2


@pytest.mark.parametrize("tls", [False, True])
async def test_what_changes_something_is_not_lost_to_a_connection_that_the_server_has_closed(
    runtime: Runtime, *, tls: bool
) -> None:
    async with serve_sandbox(tls=tls) as sandbox, to_sandbox(runtime, sandbox) as transport:
        transport.perform(request(1, POST))
        await facts_until(transport, ResponseReceived)
        transport.perform(request(2, POST))
        await facts_until(transport, ResponseReceived)
        assert sandbox.connections == 1
        sandbox.drop_connections()
        await anyio.sleep(0.05)
        transport.perform(request(3, POST))
        await facts_until(transport, ResponseReceived)
        assert sandbox.connections == 2


async def test_what_changes_something_takes_no_connection_that_was_idle_for_long(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("anyio", "aiohttp.sessions"):
        monkeypatch.setattr(f"backpack_runtime.transports.{module}.FRESH_SECONDS", 0.0)
    async with serve_sandbox() as sandbox, to_sandbox(runtime, sandbox) as transport:
        for number in (1, 2):
            transport.perform(request(number))
            await facts_until(transport, ResponseReceived)
        before = sandbox.connections
        transport.perform(request(3, HttpRequest(method="POST", target="/api/v1/order", body=b"{}")))
        await facts_until(transport, ResponseReceived)
        assert sandbox.connections == before + 1


@pytest.mark.parametrize("http", [PING, *CHANGING], ids=lambda http: http.method)
async def test_what_a_fresh_connection_lost_is_not_sent_again(runtime: Runtime, http: HttpRequest) -> None:
    served: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        served.append(await read_head(stream))

    async with to_server(runtime, serve) as transport:
        failure = await failure_of(transport, 1, http)
        assert failure.sent
        assert "closed" in failure.reason
        assert len(served) == 1


@pytest.mark.parametrize(
    "http",
    [
        HttpRequest(
            method="GET", target="/api/v1/x?symbol=A%2FB&b=c%20d+e&empty=&q=%c3%a4", headers=(("X-Signature", "a+b/c=="),)
        ),
        HttpRequest(
            method="POST", target="/api/v1/order", headers=(("X-API-Key", "k"), ("X-Window", "5000")), body=b'{"a": "b"}'
        ),
        HttpRequest(method="POST", target="/api/v1/empty"),
        HttpRequest(method="DELETE", target="/api/v1/order?%41=%2B", body=b"{}"),
    ],
    ids=["GET", "POST", "POST without a body", "DELETE"],
)
async def test_a_request_arrives_as_it_was_signed(runtime: Runtime, http: HttpRequest) -> None:
    heads: list[str] = []

    async def serve(stream: ByteStream) -> None:
        while True:
            head, _, body = (await read_head(stream)).partition(b"\r\n\r\n")
            while len(body) < len(http.body):
                body += await stream.receive()
            assert body == http.body
            heads.append(head.decode())
            await stream.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    async with to_server(runtime, serve) as transport:
        for number in (1, 2):
            await answer_of(transport, number, http)
    for head in heads:
        line, *lines = head.split("\r\n")
        assert line == f"{http.method} {http.target} HTTP/1.1"
        headers = {name.lower(): value for name, value in (text.split(": ", 1) for text in lines)}
        assert len(headers) == len(lines), "no header comes twice"
        assert headers.pop("host").startswith("127.0.0.1:")
        expected = {"accept": "application/json", "user-agent": "backpack-feed"}
        expected |= {name.lower(): value for name, value in http.headers}
        if http.body:
            expected["content-type"] = "application/json; charset=utf-8"
        if http.method != "GET":
            expected["content-length"] = str(len(http.body))
        assert headers == expected, "no cookies, no compression, nothing of a library's own"


async def test_redirects_are_answers(runtime: Runtime) -> None:
    heads: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        heads.append(await read_head(stream))
        await stream.send(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 2\r\n\r\ngo")

    async with to_server(runtime, serve) as transport:
        answer = await answer_of(transport, 1, POST)
        assert (answer.status, answer.body, dict(answer.headers)["location"]) == (307, b"go", "/elsewhere")
        assert len(heads) == 1


@pytest.mark.parametrize(
    ("response", "body", "retry_after_us"),
    [
        (b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno", b"no", 7_000_000),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: Sun, 22 Nov 2026 19:00:00 GMT\r\nContent-Length: 0\r\n\r\n", b"", None),
        (b"HTTP/1.1 429 Slow\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", b"abcde", None),
        (b"HTTP/1.1 429 Slow\r\nConnection: close\r\n\r\nuntil the end", b"until the end", None),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Slow\r\nContent-Length: 1\r\n\r\nx", b"x", None),
        (b"HTTP/1.1 429 Slow\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nwhat", b"what", None),
    ],
)
async def test_answers_of_every_form_are_whole(
    runtime: Runtime, response: bytes, body: bytes, retry_after_us: int | None
) -> None:
    async def serve(stream: ByteStream) -> None:
        await read_head(stream)
        for byte in response:
            await stream.send(bytes([byte]))

    async with to_server(runtime, serve) as transport:
        answer = await answer_of(transport, 1)
        assert (answer.status, answer.body, answer.retry_after_us) == (429, body, retry_after_us)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n4\r\npong\r\n0\r\n\r\n",
        b"\x16\x03\x01 garbage\r\n\r\n",
    ],
)
async def test_an_answer_that_is_invalid_is_a_failure_of_something_sent(runtime: Runtime, response: bytes) -> None:
    async def serve(stream: ByteStream) -> None:
        await read_head(stream)
        await stream.send(response)

    async with to_server(runtime, serve) as transport:
        failure = await failure_of(transport, 1)
        assert failure.sent
        assert failure.reason


async def test_more_requests_than_connections_wait_for_their_turn(runtime: Runtime) -> None:
    async with serve_sandbox() as sandbox, to_sandbox(runtime, sandbox) as transport:
        for number in range(1, 31):
            transport.perform(request(number))
        answered: set[int] = set()
        with anyio.fail_after(60):
            while len(answered) < 30:
                answered |= {fact.request_id for fact in await transport.next(None) if isinstance(fact, ResponseReceived)}
        assert sandbox.connections <= 8


# What may not leave any more never does.


class Held:
    """A server that answers no request before it is told to."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.open = anyio.Event()

    async def serve(self, stream: ByteStream) -> None:
        while True:
            self.heads.append(await read_head(stream))
            await self.open.wait()
            await stream.send(PONG)

    async def until(self, count: int) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(self.heads) < count:  # noqa: ASYNC110 - a bounded wait for the other end
                await anyio.sleep(0.001)


async def answers(transport: Transport, count: int) -> set[int]:
    """The requests that are answered until there are so many."""
    seen: set[int] = set()
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(seen) < count:
            seen |= {fact.request_id for fact in await transport.next(None) if isinstance(fact, ResponseReceived)}
    return seen


def withheld(number: int, reason: str) -> RequestFailed:
    return RequestFailed(request_id=number, reason=reason, sent=False)


async def test_a_request_that_waits_for_a_connection_can_be_withdrawn(runtime: Runtime) -> None:
    held = Held()
    async with to_server(runtime, held.serve) as transport:
        for number in range(1, HTTP_CONNECTIONS + 1):
            transport.perform(request(number))
        await held.until(HTTP_CONNECTIONS)
        transport.perform(request(20, POST))
        transport.perform(request(21, POST))
        transport.perform(WithdrawRequest(21))
        transport.perform(WithdrawRequest(21))
        await anyio.lowlevel.checkpoint()
        transport.perform(WithdrawRequest(20))
        failed: list[Given] = []
        while len(failed) < 2:
            failed += await facts_until(transport, RequestFailed)
        assert sorted(failed, key=str) == [withheld(20, "it was withdrawn"), withheld(21, "it was withdrawn")]
        held.open.set()
        assert len(await answers(transport, HTTP_CONNECTIONS)) == HTTP_CONNECTIONS
        await answer_of(transport, 30)
        assert not any(head.startswith(b"POST") for head in held.heads)


async def test_a_request_whose_connection_is_being_made_can_be_withdrawn(runtime: Runtime) -> None:
    hello, ended = anyio.Event(), anyio.Event()
    received = bytearray()

    async def serve(stream: ByteStream) -> None:
        """Say nothing to the handshake of TLS."""
        try:
            while True:
                received.extend(await stream.receive())
                hello.set()
        except BROKEN:
            ended.set()

    async with to_server(runtime, serve, encrypted=True) as transport:
        transport.perform(request(1, POST))
        with anyio.fail_after(PATIENCE_SECONDS):
            await hello.wait()
        transport.perform(WithdrawRequest(1))
        assert await facts_until(transport, RequestFailed) == [withheld(1, "it was withdrawn")]
        with anyio.fail_after(PATIENCE_SECONDS):
            await ended.wait()
        assert received[0] == 0x16, "a handshake, and nothing behind it"


async def test_a_request_that_has_left_cannot_be_withdrawn_and_is_answered(runtime: Runtime) -> None:
    held = Held()
    async with to_server(runtime, held.serve) as transport:
        transport.perform(request(1, POST))
        await held.until(1)
        transport.perform(WithdrawRequest(1))
        assert await facts_until(transport, RequestLeft) == [RequestLeft(1)]
        held.open.set()
        (answer,) = await facts_until(transport, ResponseReceived)
        assert isinstance(answer, ResponseReceived)
        transport.perform(WithdrawRequest(1))
        transport.perform(WithdrawRequest(99))
        # Nothing is said of what has been answered, or never was.
        await answer_of(transport, 2)
        assert len(held.heads) == 2


@pytest.mark.parametrize("kept", [False, True])
async def test_a_request_whose_time_has_passed_is_never_sent(runtime: Runtime, *, kept: bool) -> None:
    held = Held()
    held.open.set()
    async with to_server(runtime, held.serve) as transport:
        if kept:
            await answer_of(transport, 1)
        past = SendRequest(request_id=2, request=POST, timeout_us=10_000_000, not_after_us=transport.now().mono_us - 1)
        transport.perform(past)
        assert await facts_until(transport, RequestFailed) == [withheld(2, "it has waited too long")]
        await answer_of(transport, 3)
        assert not any(head.startswith(b"POST") for head in held.heads)


async def test_a_request_waits_for_a_connection_no_longer_than_it_may(runtime: Runtime) -> None:
    held = Held()
    async with to_server(runtime, held.serve) as transport:
        for number in range(1, HTTP_CONNECTIONS + 1):
            transport.perform(request(number))
        await held.until(HTTP_CONNECTIONS)
        bounded = SendRequest(request_id=20, request=POST, timeout_us=10_000_000, not_after_us=transport.now().mono_us + 50_000)
        transport.perform(bounded)
        assert await facts_until(transport, RequestFailed) == [withheld(20, "it has waited too long")]
        assert transport.now().mono_us > bounded.not_after_us  # type: ignore[operator]  # it has a bound
        held.open.set()
        await answers(transport, HTTP_CONNECTIONS)
        assert len(held.heads) == HTTP_CONNECTIONS


def of(importance: Importance, number: int) -> SendRequest:
    target = f"/{importance.name}"
    return SendRequest(
        request_id=number,
        request=HttpRequest(method="GET", target=target),
        timeout_us=10_000_000,
        importance=importance,
    )


async def test_cancels_find_a_connection_though_reads_hold_all_others(runtime: Runtime) -> None:
    held = Held()
    async with to_server(runtime, held.serve) as transport:
        for number in range(1, 2 * HTTP_CONNECTIONS + 1):
            transport.perform(of(Importance.SNAPSHOT, number))
        await held.until(HTTP_CONNECTIONS)
        for number in range(100, 100 + CANCEL_CONNECTIONS):
            transport.perform(of(Importance.CANCEL, number))
        await held.until(HTTP_CONNECTIONS + CANCEL_CONNECTIONS)
        assert sum(head.startswith(b"GET /CANCEL ") for head in held.heads) == CANCEL_CONNECTIONS
        held.open.set()
        await answers(transport, 2 * HTTP_CONNECTIONS + CANCEL_CONNECTIONS)


async def test_the_most_important_request_gets_the_next_connection(runtime: Runtime) -> None:
    held = Held()
    async with to_server(runtime, held.serve) as transport:
        for number in range(1, HTTP_CONNECTIONS + 1):
            transport.perform(of(Importance.READ, number))
        await held.until(HTTP_CONNECTIONS)
        for number in range(100, 150):
            transport.perform(of(Importance.AUDIT, number))
        transport.perform(of(Importance.ORDER, 200))
        held.open.set()
        await answers(transport, HTTP_CONNECTIONS + 51)
        behind = held.heads[HTTP_CONNECTIONS:]
        place = next(place for place, head in enumerate(behind) if head.startswith(b"GET /ORDER "))
        # Several connections get free in one moment, and the server sees what comes on them in any order.
        assert place < HTTP_CONNECTIONS


async def test_a_turn_that_was_waited_for_in_vain_is_nobodys() -> None:
    turns, log = Turns(1, 1), []

    async def take(importance: Importance, number: int) -> None:
        async with turns.take(importance):
            log.append(number)
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks, turns.take(Importance.READ):
            async with anyio.create_task_group() as given_up:
                given_up.start_soon(take, Importance.ORDER, 1)
                given_up.start_soon(take, Importance.ORDER, 2)
                await anyio.wait_all_tasks_blocked()
                given_up.cancel_scope.cancel()
            for number, importance in enumerate([Importance.AUDIT, Importance.ORDER, Importance.ORDER], start=3):
                tasks.start_soon(take, importance, number)
                await anyio.wait_all_tasks_blocked()
            await take(Importance.CANCEL, 6)
            assert log == [6]
    assert log == [6, 4, 5, 3]


async def test_the_time_for_an_answer_begins_when_the_request_is_sent(runtime: Runtime) -> None:
    held = Held()
    async with to_server(runtime, held.serve) as transport:
        for number in range(1, HTTP_CONNECTIONS + 1):
            transport.perform(request(number))
        await held.until(HTTP_CONNECTIONS)
        transport.perform(request(20, timeout_us=400_000))
        with anyio.fail_after(PATIENCE_SECONDS):
            assert await transport.next(transport.now().mono_us + 500_000) == [TimerFired()]
        held.open.set()
        assert 20 in await answers(transport, HTTP_CONNECTIONS + 1)


@pytest.mark.parametrize("digits", ["9" * 5_000, "1" + "0" * 18, "\u0663".encode().decode("latin-1"), "+7", "1_0", ""])
@pytest.mark.parametrize("name", ["Retry-After", "X-Total", "Content-Length", "X-Request-Id"])
async def test_a_number_in_a_header_ends_no_transport(runtime: Runtime, name: str, digits: str) -> None:
    served = 0

    async def serve(stream: ByteStream) -> None:
        nonlocal served
        while True:
            await read_head(stream)
            served += 1
            odd = f"{name}: {digits}\r\n" if served == 1 else ""
            length = "" if odd and name == "Content-Length" else "Content-Length: 0\r\n"
            await stream.send(f"HTTP/1.1 429 Slow\r\n{odd}{length}\r\n".encode("latin-1"))

    async with to_server(runtime, serve) as transport:
        transport.perform(request(1, POST, timeout_us=300_000))
        with anyio.fail_after(PATIENCE_SECONDS):
            facts: list[Given] = []
            while not facts:
                facts = await transport.next(None)
        (fact,) = facts
        assert isinstance(fact, ResponseReceived | RequestFailed)
        assert isinstance(fact, RequestFailed) or fact.retry_after_us is None
        assert (await answer_of(transport, 2)).status == 429


@pytest.mark.parametrize("kept", [False, True])
async def test_the_last_question_is_asked_when_there_is_a_connection_and_before_the_first_byte(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    connected = anyio.Event()
    received: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        connected.set()
        while True:
            received.append(await stream.receive())
            await stream.send(PONG)

    def refuse(_progress: Progress) -> None:
        raise Withheld

    async with to_server(runtime, serve) as transport:
        if kept:
            await answer_of(transport, 1)
        monkeypatch.setattr(Progress, "leave", refuse)
        assert not (await failure_of(transport, 2, POST)).sent
        with anyio.fail_after(PATIENCE_SECONDS):
            await connected.wait()
        monkeypatch.undo()
        await answer_of(transport, 3)
        assert [data[:4] for data in received] == [b"GET "] * (2 if kept else 1)

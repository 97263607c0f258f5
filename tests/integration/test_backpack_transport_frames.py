"""The contract of every transport where bytes matter: handshakes and frames of servers that do not do what they should."""

from __future__ import annotations

import zlib

import anyio
import pytest
from anyio.abc import ByteStream
from msgspec.structs import replace

from backpack_proto.errors import LocalProtocolError
from backpack_proto.inputs import (
    BytesReceived,
    Connected,
    ConnectFailed,
    Disconnected,
    Given,
    PingReceived,
    ResponseReceived,
    TextReceived,
)
from backpack_proto.outputs import CloseSocket, DropSocket, OpenSocket, SendPing, SendPong, SendText
from backpack_runtime.framing.frames import MAX_MESSAGE_BYTES
from backpack_runtime.network.send_queue import MOST_UNSENT_BYTES
from backpack_runtime.transport import Transport
from backpack_runtime.transports.websocket import UNREAD
from transports import (
    PATIENCE_SECONDS,
    SOCKETS,
    Runtime,
    facts_until,
    frame,
    read_frame,
    read_head,
    request,
    to_server,
    upgrade,
)

pytestmark = pytest.mark.anyio

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
DEFLATE = "permessage-deflate"


@pytest.fixture(params=SOCKETS)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """A test runs in every runtime that has sockets."""
    return SOCKETS[str(request.param)]


@pytest.fixture
def anyio_backend(runtime: Runtime) -> str:
    return runtime.backend


class Ears:
    """All that was heard of a transport, without the times at which it was read, which stand beside it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.batches: list[list[Given]] = []
        self.received_us: list[int | None] = []

    @property
    def facts(self) -> list[Given]:
        return [fact for batch in self.batches for fact in batch]

    async def until(self, kind: type[Given], count: int = 1) -> list[Given]:
        """Everything so far, once there are so many of that kind."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while sum(isinstance(fact, kind) for fact in self.facts) < count:
                batch = await self._transport.next(None)
                self.received_us += [fact.received_us for fact in batch if isinstance(fact, TextReceived)]
                self.batches.append(
                    [replace(fact, received_us=None) if isinstance(fact, TextReceived) else fact for fact in batch]
                )
        return self.facts

    async def texts(self, count: int) -> list[bytes]:
        return [fact.data for fact in await self.until(TextReceived, count) if isinstance(fact, TextReceived)]

    async def end(self) -> Disconnected:
        end = (await self.until(Disconnected))[-1]
        assert isinstance(end, Disconnected)
        return end


async def opened(transport: Transport) -> Ears:
    ears = Ears(transport)
    transport.perform(OpenSocket())
    assert (await ears.until(Connected))[0] == Connected()
    return ears


def deflated(text: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


async def test_a_ping_is_a_fact_and_its_answer_an_action(runtime: Runtime) -> None:
    heard: list[tuple[int, bytes]] = []

    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        await stream.send(frame(PING, b"alive?"))
        while True:
            heard.append(await read_frame(stream))
            await stream.send(frame(TEXT, b"heard"))

    async with to_server(runtime, serve) as transport:
        ears = await opened(transport)
        assert (await ears.until(PingReceived))[-1] == PingReceived(b"alive?")
        transport.perform(SendText("first"))
        await ears.texts(1)
        transport.perform(SendPong(b"alive?"))
        await ears.texts(2)
        assert heard == [(0x80 | TEXT, b"first"), (0x80 | PONG, b"alive?")], "nobody but the core answers a ping"


@pytest.mark.parametrize(
    ("last", "code", "reason", "answer"),
    [
        (frame(CLOSE, b"\x03\xe9going away"), 1001, "going away", b"\x03\xe9"),
        (frame(CLOSE, b"\x0f\xa0"), 4000, "", b"\x0f\xa0"),
        (frame(CLOSE), 1005, "", b""),
        (frame(0x3, b"?"), 1002, None, b"\x03\xea"),
        (frame(TEXT, b"\x80", compressed=True), 1002, None, b"\x03\xea"),
        (frame(CONTINUATION, b"of what?"), 1002, None, b"\x03\xea"),
        (frame(TEXT, b"\xff\xfe"), 1007, None, b"\x03\xef"),
    ],
)
async def test_every_end_has_the_code_of_rfc_6455_and_an_answer(
    runtime: Runtime, last: bytes, code: int, reason: str | None, answer: bytes
) -> None:
    answers: list[tuple[int, bytes]] = []
    answered = anyio.Event()

    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        await stream.send(frame(TEXT, b"before") + last)
        try:
            answers.append(await read_frame(stream))
        finally:
            answered.set()

    async with to_server(runtime, serve) as transport:
        ears = await opened(transport)
        end = await ears.end()
        assert ears.facts == [Connected(), TextReceived(b"before"), end]
        assert end.code == code
        assert reason is None or end.reason == reason
        with anyio.fail_after(PATIENCE_SECONDS):
            await answered.wait()
        ((first, payload),) = answers
        assert (first, payload[:2]) == (0x80 | CLOSE, answer)


async def test_a_message_without_measure_ends_the_websocket(runtime: Runtime) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        await stream.send(b"\x82\x7f" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big"))
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        end = await (await opened(transport)).end()
        assert end.code == 1009


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_of_megabytes_arrives_whole(runtime: Runtime, opcode: int) -> None:
    message = b"0123456789abcdef" * (MAX_MESSAGE_BYTES // 64)

    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        await stream.send(frame(opcode, message) + frame(TEXT, b"end"))
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        assert await (await opened(transport)).texts(2) == [message, b"end"]


async def test_a_lost_connection_has_code_1006(runtime: Runtime) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)

    async with to_server(runtime, serve) as transport:
        end = await (await opened(transport)).end()
        assert end.code == 1006
        assert end.reason


async def test_what_came_along_with_the_answer_to_the_handshake_is_not_lost(runtime: Runtime) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream, along=frame(TEXT, b"early") + frame(CLOSE, b"\x03\xe8"))

    async with to_server(runtime, serve) as transport:
        ears = await opened(transport)
        assert await ears.until(Disconnected) == [Connected(), TextReceived(b"early"), Disconnected(1000, "")]
        assert len(ears.received_us) == 1
        assert ears.received_us[0] is not None


async def test_an_answer_to_the_handshake_in_single_bytes_opens_the_websocket(runtime: Runtime) -> None:
    class Bytewise:
        def __init__(self, stream: ByteStream) -> None:
            self.receive = stream.receive
            self._send = stream.send

        async def send(self, data: bytes) -> None:
            for place in range(len(data)):
                await self._send(data[place : place + 1])
                await anyio.lowlevel.checkpoint()

    async def serve(stream: ByteStream) -> None:
        await upgrade(Bytewise(stream), along=frame(TEXT, b"early"))  # type: ignore[arg-type]  # it sends and receives
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        assert await (await opened(transport)).texts(1) == [b"early"]


async def test_half_a_frame_is_a_sign_of_life(runtime: Runtime) -> None:
    """Of a message that takes longer than a connection may be silent, something has to be heard."""
    whole = frame(TEXT, b"slow")

    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        for part in (whole[:3], whole[3:]):
            await read_frame(stream)
            await stream.send(part)
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        ears = await opened(transport)
        transport.perform(SendText("begin"))
        assert await ears.until(BytesReceived) == [Connected(), BytesReceived(3)]
        transport.perform(SendText("go on"))
        assert await ears.texts(1) == [b"slow"]


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_server_that_speaks_before_it_is_asked_is_no_exchange(runtime: Runtime, *, encrypted: bool) -> None:
    async def serve(stream: ByteStream) -> None:
        await stream.send(b"220 mail.example ready\r\n\r\n")
        await anyio.sleep_forever()

    async with to_server(runtime, serve, encrypted=encrypted) as transport:
        transport.perform(OpenSocket())
        (fact,) = await facts_until(transport, ConnectFailed)
        assert isinstance(fact, ConnectFailed)
        assert "SSL" in fact.reason if encrypted else "handshake" in fact.reason


async def test_bytes_behind_the_answer_that_are_no_frames_end_the_websocket(runtime: Runtime) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream, along=b"garbage\r\n")
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        assert (await (await opened(transport)).end()).code == 1002


async def test_fragments_and_the_pings_between_them_become_one_message(runtime: Runtime) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        await stream.send(frame(TEXT, '{"ä'.encode()[:3], final=False))
        await stream.send(frame(PING, b"between"))
        await stream.send(frame(CONTINUATION, '{"ä'.encode()[3:] + b'":', final=False) + frame(CONTINUATION, b"1}"))
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        before_us = transport.now().unix_us
        ears = await opened(transport)
        facts = await ears.until(TextReceived)
        assert [fact for fact in facts if isinstance(fact, PingReceived | TextReceived)] == [
            PingReceived(b"between"),
            TextReceived('{"ä":1}'.encode()),
        ]
        (received_us,) = ears.received_us
        assert received_us is not None
        assert before_us <= received_us <= transport.now().unix_us


@pytest.mark.parametrize("bytewise", [False, True])
async def test_a_burst_arrives_in_order_and_in_few_batches(runtime: Runtime, *, bytewise: bool) -> None:
    texts = [b'{"number":%d}' % number for number in range(200)]

    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        burst = b"".join(frame(TEXT, text) for text in texts)
        if bytewise:
            for byte in burst[:400]:
                await stream.send(bytes([byte]))
            burst = burst[400:]
        await stream.send(burst)
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        ears = await opened(transport)
        assert await ears.texts(len(texts)) == texts
        assert bytewise or len(ears.batches) < 20


@pytest.mark.parametrize("compression", [False, True])
async def test_compression_is_offered_when_it_is_asked_for(runtime: Runtime, *, compression: bool) -> None:
    heads: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        heads.append(await upgrade(stream, extension=DEFLATE if compression else ""))
        if compression:
            await stream.send(frame(TEXT, deflated(b'{"first":1}'), compressed=True))
            whole = deflated(b'{"second":2}')
            await stream.send(frame(TEXT, whole[:5], compressed=True, final=False) + frame(PING))
            await stream.send(frame(CONTINUATION, whole[5:]))
        await stream.send(frame(TEXT, b'{"third":3}'))
        await anyio.sleep_forever()

    async with to_server(runtime, serve, compression=compression) as transport:
        ears = await opened(transport)
        expected = [b'{"first":1}', b'{"second":2}'] if compression else []
        assert await ears.texts(len(expected) + 1) == [*expected, b'{"third":3}']
    assert (DEFLATE.encode() in heads[0]) is compression


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\xff\xff\xff\xff", 1007), (deflated(b"\0" * (MAX_MESSAGE_BYTES + 10)), 1009), (deflated(b"\xff\xfe"), 1007)],
    ids=["no deflate", "a bomb", "no UTF-8"],
)
async def test_what_does_not_inflate_well_ends_the_websocket(runtime: Runtime, payload: bytes, code: int) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream, extension=DEFLATE)
        await stream.send(frame(TEXT, payload, compressed=True))
        await anyio.sleep_forever()

    async with to_server(runtime, serve, compression=True) as transport:
        end = await (await opened(transport)).end()
        assert end.code == code


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"garbage\r\n\r\n", "handshake failed"),
        (b"\x00\xff\x00\xff" * 50 + b"\r\n\r\n", "handshake failed"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
            "fail",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "status 200: hello"),
        (b"HTTP/1.1 503 Unavailable\r\nContent-Length: 4\r\n\r\nlate", "status 503: late"),
        (b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 10\r\n\r\nnot \r\n you", "status 403: not you"),
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 101 Swit", "closed during the websocket handshake"),
        (b"", "closed during the websocket handshake"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "handshake"),
    ],
)
async def test_an_answer_that_is_no_upgrade_is_refused_once_with_the_reason(
    runtime: Runtime, answer: bytes, words: str
) -> None:
    heads: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        heads.append(await read_head(stream))
        if answer:
            await stream.send(answer)

    async with to_server(runtime, serve) as transport:
        transport.perform(OpenSocket())
        (fact,) = await facts_until(transport, ConnectFailed)
        assert isinstance(fact, ConnectFailed)
        assert words in fact.reason
        assert len(fact.reason) < 400
        assert len(heads) == 1, "neither a redirect nor a failure leads to another try"
        transport.perform(SendPing(b"too late"))


async def refused(runtime: Runtime, answer: bytes, *, then: bytes = b"") -> ConnectFailed:
    """The failure of a handshake that a server answers so, and then goes on to say no more, or the same for ever."""

    async def serve(stream: ByteStream) -> None:
        await read_head(stream)
        await stream.send(answer)
        while then:
            await anyio.sleep(0.02)
            await stream.send(then)
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        transport.perform(OpenSocket())
        (fact,) = await facts_until(transport, ConnectFailed)
        assert isinstance(fact, ConnectFailed)
        return fact


@pytest.mark.parametrize(
    ("body", "then", "words"),
    [
        (b"", b"", "403: (no body)"),
        (b"FFFFFF\r\nnot you", b"", "403: not you"),
        (b"FFFFFF\r\nnot you", b" ", "403: not you"),
        (b"", b"1\r\n \r\n", "403: (no body)"),
    ],
    ids=["silence", "a begun chunk", "drops", "drops in chunks"],
)
async def test_a_refusal_with_an_endless_body_says_its_status(runtime: Runtime, body: bytes, then: bytes, words: str) -> None:
    head = b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
    with anyio.fail_after(PATIENCE_SECONDS / 4):
        fact = await refused(runtime, head + body, then=then)
    assert words in fact.reason


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Unavailable"])
async def test_a_refusal_passes_on_how_long_it_asks_to_wait(runtime: Runtime, status: bytes) -> None:
    answer = b"HTTP/1.1 %b\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n" % status
    fact = await refused(runtime, answer)
    assert fact.retry_after_us == 7_000_000
    assert status[:3].decode() in fact.reason


MASKED = bytes([0x80 | TEXT, 0x80 | 5, 0, 0, 0, 0]) + b"masks"


@pytest.mark.parametrize("before", [b"", b"hello", b"x" * 200, b"y" * 70_000], ids=len)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_a_masked_frame_of_a_server_ends_the_websocket(runtime: Runtime, before: bytes, *, bytewise: bool) -> None:
    first = frame(TEXT, before) if before else b""

    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        await stream.send(first[:-1])
        rest = first[-1:] + MASKED
        for piece in [rest[place : place + 1] for place in range(len(rest))] if bytewise else [rest]:
            await stream.send(piece)
            await anyio.sleep(0.001)
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        ears = await opened(transport)
        assert (await ears.end()).code == 1002
        assert await ears.texts(0) == ([before] if before else [])


@pytest.mark.parametrize("extension", [DEFLATE, "x-unasked", f"{DEFLATE}, x-unasked"])
@pytest.mark.parametrize("compression", [False, True])
async def test_extensions_that_nobody_asked_for_are_refused(runtime: Runtime, extension: str, *, compression: bool) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream, extension=extension)
        await anyio.sleep_forever()

    async with to_server(runtime, serve, compression=compression) as transport:
        transport.perform(OpenSocket())
        if compression and extension == DEFLATE:
            assert await facts_until(transport, Connected) == [Connected()]
            return
        (fact,) = await facts_until(transport, ConnectFailed)
        assert isinstance(fact, ConnectFailed)
        assert fact.reason.startswith("websocket handshake failed: unrecognized extension ")


async def test_of_the_pongs_that_wait_only_the_last_is_sent(runtime: Runtime) -> None:
    heard: list[tuple[int, bytes]] = []

    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        while True:
            heard.append(await read_frame(stream))
            await stream.send(frame(TEXT, b"heard"))

    async with to_server(runtime, serve) as transport:
        ears = await opened(transport)
        for number in range(500):
            transport.perform(SendPong(b"%d" % number))
        transport.perform(SendText("end"))
        for number in range(500, 1_000):
            transport.perform(SendPong(b"%d" % number))
        await ears.texts(2)
        assert sorted(heard) == [(0x80 | TEXT, b"end"), (0x80 | PONG, b"999")]
        transport.perform(SendPong(b"later"))
        await ears.texts(3)
        assert heard[-1] == (0x80 | PONG, b"later")


async def test_a_server_that_floods_us_with_pings_and_does_not_read_costs_nothing(runtime: Runtime) -> None:
    """Every ping is answered, so what cannot be sent would pile up."""

    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        while True:
            await stream.send(frame(PING, b"x" * 125) * 500)

    async with to_server(runtime, serve) as transport:
        await opened(transport)
        pongs = 0
        with anyio.fail_after(PATIENCE_SECONDS):
            while pongs < 100_000:
                for fact in await transport.next(None):
                    assert isinstance(fact, PingReceived), "the connection stays"
                    transport.perform(SendPong(fact.payload))
                    pongs += 1
        assert unsent_bytes(transport) < 200_000


def unsent_bytes(transport: Transport) -> int:
    """All bytes of values that the queue of the websocket holds."""
    # What is kept for a peer that does not read shows nowhere else.
    return int(transport._websocket.outgoing.waiting_bytes)  # type: ignore[attr-defined]


async def test_a_connection_whose_peer_reads_nothing_is_given_up_when_too_much_waits(runtime: Runtime) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        ears = await opened(transport)
        for _ in range(1_000):
            transport.perform(SendText("x" * 65_000))
            assert unsent_bytes(transport) < 2 * MOST_UNSENT_BYTES
            await anyio.lowlevel.checkpoint()
        assert await ears.end() == Disconnected(1006, UNREAD)


async def test_a_socket_dropped_while_it_connects_is_never_heard_of(runtime: Runtime) -> None:
    asked, dropped, refused = anyio.Event(), anyio.Event(), anyio.Event()

    async def serve(stream: ByteStream) -> None:
        head = await read_head(stream)
        if b"pgrade" in head:
            asked.set()
            await dropped.wait()
            try:
                await stream.send(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n")
            finally:
                refused.set()
        else:
            await refused.wait()
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong")

    async with to_server(runtime, serve) as transport:
        with anyio.fail_after(PATIENCE_SECONDS):
            transport.perform(OpenSocket())
            await asked.wait()
        transport.perform(DropSocket())
        dropped.set()
        transport.perform(request(1))
        assert [type(fact) for fact in await facts_until(transport, ResponseReceived)] == [ResponseReceived]


async def test_closing_reads_on_until_the_server_closes(runtime: Runtime) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        first, payload = await read_frame(stream)
        assert (first, payload) == (0x80 | CLOSE, b"\x0f\xa1enough")
        await stream.send(frame(TEXT, b"one more") + frame(PING) + frame(CLOSE, b"\x0f\xa1"))
        with anyio.move_on_after(0.1):
            await read_frame(stream)
            raise AssertionError("a second Close frame, or a pong behind it")

    async with to_server(runtime, serve) as transport:
        ears = await opened(transport)
        transport.perform(CloseSocket(4001, "enough"))
        with pytest.raises(LocalProtocolError, match="SendText after CloseSocket"):
            transport.perform(SendText("late"))
        transport.perform(SendPong(b"late"))
        facts = await ears.until(Disconnected)
        assert [fact for fact in facts if isinstance(fact, TextReceived | Disconnected)] == [
            TextReceived(b"one more"),
            Disconnected(4001, ""),
        ]


async def test_what_cannot_be_a_frame_is_refused(runtime: Runtime) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        await opened(transport)
        for action in (SendPing(b"x" * 126), SendText("\ud800"), CloseSocket(1006, ""), CloseSocket(5000, "")):
            with pytest.raises(LocalProtocolError):
                transport.perform(action)
        transport.perform(SendPing(b"x" * 125))


async def test_a_server_that_does_not_read_keeps_nobody_waiting(runtime: Runtime) -> None:
    async def serve(stream: ByteStream) -> None:
        await upgrade(stream)
        await anyio.sleep_forever()

    async with to_server(runtime, serve) as transport:
        await opened(transport)
        with anyio.fail_after(PATIENCE_SECONDS / 2):
            for _ in range(200):
                transport.perform(SendText("x" * 65_000))
                await anyio.lowlevel.checkpoint()
            transport.perform(DropSocket())
            transport.perform(OpenSocket())
            assert await facts_until(transport, Connected) == [Connected()]

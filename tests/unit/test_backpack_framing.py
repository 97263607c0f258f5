from __future__ import annotations

import base64
import hashlib
import re
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterable

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Pong, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from backpack_proto.errors import LocalProtocolError, RemoteProtocolError
from backpack_proto.http import HttpRequest
from backpack_proto.inputs import (
    BytesReceived,
    Connected,
    ConnectFailed,
    Disconnected,
    Fact,
    PingReceived,
    PongReceived,
    TextReceived,
)
from backpack_proto.outputs import CloseSocket, SendPing, SendPong, SendText
from backpack_runtime.framing.client import HttpFraming, HttpResponse, WebsocketFraming

Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def by_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def by_sevens(data: bytes) -> list[bytes]:
    return [data[i : i + 7] for i in range(0, len(data), 7)]


every_cut = pytest.mark.parametrize("cut", [whole, by_bytes, by_sevens])


def frame(first: int, payload: bytes = b"", *, mask: bool = False) -> bytes:
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, bit | len(payload))
    elif len(payload) <= 0xFFFF:
        head = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(payload))
    return head + (b"\0\0\0\0" if mask else b"") + payload


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(0x88, struct.pack("!H", code) + reason)


def accept_token(request: bytes) -> bytes:
    key = re.search(rb"sec-websocket-key: *(\S+)", request, re.IGNORECASE)
    assert key is not None
    return base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324


def switching(request: bytes, *, extensions: bytes = b"") -> bytes:
    line = b"sec-websocket-extensions: " + extensions + b"\r\n" if extensions else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-accept: " + accept_token(request) + b"\r\n" + line + b"\r\n"
    )


def connected(*, max_message_bytes: int = 1 << 20) -> WebsocketFraming:
    framing = WebsocketFraming("ws.backpack.exchange", max_message_bytes=max_message_bytes)
    assert framing.receive(switching(framing.open())) == [Connected()]
    return framing


def give(framing: WebsocketFraming, pieces: Iterable[bytes]) -> list[Fact]:
    return [fact for piece in pieces for fact in framing.receive(piece) if not isinstance(fact, BytesReceived)]


def sent(data: bytes) -> list[Event]:
    """What a server makes of the bytes of a client."""
    server = WSConnection(ConnectionType.SERVER)
    client = WebsocketFraming("h")
    server.receive_data(client.open())
    list(server.events())
    server.send(AcceptConnection())
    server.receive_data(data)
    return list(server.events())


# The handshake


def test_the_upgrade_request_names_host_target_and_headers() -> None:
    framing = WebsocketFraming("127.0.0.1:8080", "/stream?a=b", headers=[("X-Trace", "7")])
    line, *headers = framing.open().split(b"\r\n")
    assert line == b"GET /stream?a=b HTTP/1.1"
    assert b"Host: 127.0.0.1:8080" in headers
    assert b"X-Trace: 7" in headers
    assert b"User-Agent: backpack-feed" in headers


def test_a_given_user_agent_replaces_ours() -> None:
    request = WebsocketFraming("h", headers=[("user-agent", "mine")]).open()
    assert request.lower().count(b"user-agent") == 1
    assert b"mine" in request


def test_compression_is_offered_only_when_asked_for() -> None:
    assert b"permessage-deflate" not in WebsocketFraming("h").open()
    assert b"permessage-deflate" in WebsocketFraming("h", compression=True).open()


@pytest.mark.parametrize("host", ["a" * 64 + ".exchange", "h\r\nX: y", "\ud800"])
def test_an_impossible_host_is_refused(host: str) -> None:
    with pytest.raises(LocalProtocolError):
        WebsocketFraming(host)


@pytest.mark.parametrize("target", ["/ HTTP/1.1\r\nX: y", "/é", "/a b", ""])
def test_an_impossible_target_is_refused(target: str) -> None:
    with pytest.raises(LocalProtocolError):
        WebsocketFraming("h", target)


def test_an_impossible_header_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        WebsocketFraming("h", headers=[("X", "a\r\nY: b")])


def test_the_upgrade_request_goes_out_once() -> None:
    framing = WebsocketFraming("h")
    framing.open()
    with pytest.raises(LocalProtocolError):
        framing.open()


@every_cut
def test_frames_behind_the_handshake_in_the_same_read_are_not_lost(cut: Cut) -> None:
    framing = WebsocketFraming("h")
    stream = switching(framing.open()) + frame(0x81, b"one") + frame(0x89, b"p") + frame(0x81, b"two")
    assert give(framing, cut(stream)) == [Connected(), TextReceived(b"one"), PingReceived(b"p"), TextReceived(b"two")]


def test_much_can_follow_the_handshake_in_the_same_read() -> None:
    framing = WebsocketFraming("h")
    facts = framing.receive(switching(framing.open()) + frame(0x81, b"x" * 200) * 200)
    assert facts == [Connected(), *[TextReceived(b"x" * 200)] * 200]


@every_cut
def test_a_refused_handshake_tells_status_and_beginning_of_the_body(cut: Cut) -> None:
    framing = WebsocketFraming("h")
    framing.open()
    body = b"Service\r\n Unavailable"
    answer = b"HTTP/1.1 503 Oops\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    assert give(framing, cut(answer)) == [ConnectFailed("websocket handshake was refused with status 503: Service Unavailable")]
    assert framing.closed
    assert framing.receive(b"more") == []
    assert framing.receive(b"") == []
    assert framing.send(SendText("late")) == b""


@every_cut
def test_of_a_long_refusal_only_an_excerpt_is_read(cut: Cut) -> None:
    framing = WebsocketFraming("h")
    framing.open()
    answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 100000\r\n\r\n" + b"x" * 300
    assert give(framing, cut(answer)) == [ConnectFailed("websocket handshake was refused with status 403: " + "x" * 200)]


def test_a_refusal_without_a_body() -> None:
    framing = WebsocketFraming("h")
    framing.open()
    refused = ConnectFailed("websocket handshake was refused with status 100: (no body)")
    assert framing.receive(b"HTTP/1.1 100 Continue\r\n\r\n") == [refused]


@pytest.mark.parametrize(
    ("location", "where"),
    [(b"/", "another path"), (b"wss://h/", "wss://h"), (b"https://elsewhere.example:8443/x", "https://elsewhere.example:8443")],
)
def test_a_redirect_says_where_to(location: bytes, where: str) -> None:
    framing = WebsocketFraming("h")
    framing.open()
    reason = f"websocket handshake was answered with status 301, a redirect to {where}, which is not followed"
    head = b"HTTP/1.1 301 Moved\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"
    assert framing.receive(head) == [ConnectFailed(reason)]


def test_a_refusal_whose_body_ends_with_the_connection() -> None:
    framing = WebsocketFraming("h")
    framing.open()
    assert framing.receive(b"HTTP/1.1 502 Bad Gateway\r\n\r\nupstream") == []
    assert framing.receive(b"") == [ConnectFailed("websocket handshake was refused with status 502: upstream")]


def test_a_refusal_with_a_malformed_body() -> None:
    framing = WebsocketFraming("h")
    framing.open()
    facts = framing.receive(b"HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n")
    assert facts == [ConnectFailed("websocket handshake was refused with status 502: ab")]


def test_a_connection_closed_in_the_handshake() -> None:
    framing = WebsocketFraming("h")
    framing.open()
    assert framing.receive(b"HTTP/1.1 101 Swi") == []
    assert framing.receive(b"") == [ConnectFailed("connection closed during the websocket handshake")]
    assert framing.closed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"sec-websocket-accept: ", b"sec-websocket-accept: x"),
        (b"upgrade: websocket\r\n", b""),
        (b"connection: upgrade\r\n", b""),
        (b"HTTP/1.1", b"SPDY/9"),
        (b"\r\n\r\n", b"\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nsec-websocket-protocol: chat\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nsec-websocket-protocol: \xe9\r\n\r\n"),
    ],
)
@every_cut
def test_a_wrong_handshake(cut: Cut, old: bytes, new: bytes) -> None:
    framing = WebsocketFraming("h")
    answer = switching(framing.open()).replace(old, new)
    [fact] = give(framing, cut(answer + frame(0x81, b"x")))
    assert isinstance(fact, ConnectFailed)
    assert fact.reason.startswith("websocket handshake failed: ")
    assert framing.closed


@pytest.mark.parametrize("parameters", [b"server_max_window_bits=x", b"client_max_window_bits", b"server_max_window_bits=99"])
def test_malformed_parameters_of_the_extension(parameters: bytes) -> None:
    framing = WebsocketFraming("h", compression=True)
    answer = switching(framing.open(), extensions=b"permessage-deflate; " + parameters)
    assert framing.receive(answer) == [ConnectFailed("websocket handshake failed: malformed headers")]


@every_cut
def test_a_head_that_does_not_end(cut: Cut) -> None:
    framing = WebsocketFraming("h")
    framing.open()
    facts = give(framing, cut(b"HTTP/1.1 101 Switching Protocols\r\n" + b"a: b\r\n" * 4000))
    assert facts == [ConnectFailed("answer to the websocket handshake has too long a head")]


@pytest.mark.parametrize("action", [SendText("x"), SendPing(b""), SendPong(b""), CloseSocket(1000, "")])
def test_nothing_is_sent_before_the_handshake_is_done(action: SendText | SendPing | SendPong | CloseSocket) -> None:
    framing = WebsocketFraming("h")
    framing.open()
    with pytest.raises(LocalProtocolError):
        framing.send(action)


# Messages


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4096, 65535, 65536, 70000])
@every_cut
def test_messages_of_every_length(cut: Cut, size: int) -> None:
    text = ("é" * (size // 2) + "x" * (size % 2)).encode()
    stream = frame(0x81, b"a" * size) + frame(0x81, text) + frame(0x82, b"\xff" * size) + frame(0x81, b"end")
    assert give(connected(), cut(stream)) == [
        TextReceived(b"a" * size),
        TextReceived(text),
        TextReceived(b"\xff" * size),
        TextReceived(b"end"),
    ]


@every_cut
def test_fragments_are_joined_and_control_frames_between_them_stay_in_order(cut: Cut) -> None:
    # The character in the middle is cut between two fragments.
    stream = (
        frame(0x01, b"a\xc3") + frame(0x89, b"1") + frame(0x00, b"") + frame(0x00, b"\xa9b") + frame(0x8A, b"2") + frame(0x80, b"c")
        + frame(0x81, b"next") + frame(0x02, b"\xff") + frame(0x80, b"\xfe") + frame(0x01) + frame(0x80)
    )  # fmt: skip
    assert give(connected(), cut(stream)) == [
        PingReceived(b"1"),
        PongReceived(b"2"),
        TextReceived(b"a\xc3\xa9bc"),
        TextReceived(b"next"),
        TextReceived(b"\xff\xfe"),
        TextReceived(b""),
    ]


@every_cut
def test_a_payload_that_looks_like_a_frame_is_a_payload(cut: Cut) -> None:
    inner = frame(0x81, b"injected")
    stream = frame(0x89, inner) + frame(0x82, inner * 20) + frame(0x01, b"") + frame(0x8A, inner) + frame(0x80, b"end")
    facts = give(connected(), cut(stream))
    assert facts == [PingReceived(inner), TextReceived(inner * 20), PongReceived(inner), TextReceived(b"end")]


def test_a_read_that_completes_nothing_still_shows_that_the_connection_is_alive() -> None:
    framing = connected()
    assert framing.receive(b"\x81") == [BytesReceived(1)]
    assert framing.receive(b"\x03ab") == [BytesReceived(3)]
    assert framing.receive(b"c\x01") == [TextReceived(b"abc")]
    assert framing.receive(b"\x01x") == [BytesReceived(2)]
    assert framing.receive(frame(0x00)) == [BytesReceived(2)]


def test_a_message_of_the_greatest_length_is_taken() -> None:
    framing = connected(max_message_bytes=200)
    stream = frame(0x81, b"a" * 200) + frame(0x01, b"a" * 100) + frame(0x80, b"a" * 100)
    assert give(framing, [stream]) == [TextReceived(b"a" * 200)] * 2


@pytest.mark.parametrize(
    "stream",
    [
        frame(0x81, b"a" * 201),
        frame(0x81, b"a" * 70000),
        frame(0x82, b"a" * 201),
        frame(0x01, b"a" * 100) + frame(0x80, b"a" * 101),
        frame(0x01, b"a") + frame(0x00, b"a") * 200,
        frame(0x01, b"a" * 150) + frame(0x80, b"\xff" * 100),
        b"\x81\x7f" + struct.pack("!Q", 1 << 62),
    ],
)
@every_cut
def test_a_message_too_long_ends_the_websocket(cut: Cut, stream: bytes) -> None:
    framing = connected(max_message_bytes=200)
    reason = "message is longer than 200 bytes"
    assert give(framing, cut(stream + frame(0x81, b"after"))) == [Disconnected(1009, reason)]
    assert framing.closed
    assert sent(framing.to_send()) == [CloseConnection(1009, reason)]
    assert framing.to_send() == b""


# Errors of the peer


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(frame(0x81, b"x", mask=True), id="masked"),
        pytest.param(frame(0x81, b"x" * 300, mask=True), id="masked, long"),
        pytest.param(frame(0x89, b"x", mask=True), id="masked ping"),
        pytest.param(frame(0xC1, b"x"), id="rsv1"),
        pytest.param(frame(0xA1, b"x"), id="rsv2"),
        pytest.param(frame(0x91, b"x"), id="rsv3"),
        pytest.param(frame(0xC9, b"x"), id="rsv1 on a ping"),
        pytest.param(frame(0x83, b"x"), id="opcode 3"),
        pytest.param(frame(0x8B, b"x"), id="opcode 11"),
        pytest.param(frame(0x80, b"x"), id="nothing to continue"),
        pytest.param(frame(0x01, b"x") + frame(0x81, b"y"), id="text inside a message"),
        pytest.param(frame(0x01, b"x") + frame(0x82, b"y"), id="binary inside a message"),
        pytest.param(frame(0x09, b"x"), id="fragmented ping"),
        pytest.param(frame(0x89, b"x" * 126), id="long ping"),
        pytest.param(b"\x81\x7e\x00\x05hello", id="16-bit length of 5"),
        pytest.param(b"\x81\x7f" + struct.pack("!Q", 300) + b"x" * 300, id="64-bit length of 300"),
        pytest.param(b"\x81\x7f" + struct.pack("!Q", 1 << 63), id="64-bit length with the top bit"),
        pytest.param(frame(0x88, b"x"), id="close of one byte"),
        pytest.param(close(999), id="close code 999"),
        pytest.param(close(1005), id="close code 1005"),
        pytest.param(close(5000), id="close code 5000"),
    ],
)
@every_cut
def test_a_protocol_error_ends_the_websocket(cut: Cut, stream: bytes) -> None:
    framing = connected()
    facts = give(framing, cut(frame(0x81, b"before") + stream + frame(0x81, b"after")))
    assert facts[0] == TextReceived(b"before")
    [fact] = facts[1:]
    assert isinstance(fact, Disconnected)
    assert fact.code == 1002
    assert fact.reason
    assert framing.closed
    assert sent(framing.to_send()) == [CloseConnection(1002, fact.reason)]
    assert framing.receive(b"x") == []
    assert framing.receive(b"") == []
    assert framing.send(SendPong(b"")) == b""


@pytest.mark.parametrize(
    "stream",
    [
        frame(0x81, b"ok \xff"),
        frame(0x81, b"\xc3"),
        frame(0x81, b"\xed\xa0\x80"),
        frame(0x81, b"a" * 200 + b"\xff"),
        frame(0x81, b"a" * 70000 + b"\xff"),
        frame(0x01, b"a\xc3") + frame(0x80, b"x"),
        frame(0x01, b"a") + frame(0x80, b"\xc3"),
        close(1000, b"\xff"),
    ],
)
@every_cut
def test_invalid_utf8_ends_the_websocket(cut: Cut, stream: bytes) -> None:
    framing = connected()
    facts = give(framing, cut(frame(0x81, b"before") + stream + frame(0x81, b"after")))
    reason = "payload is not valid UTF-8, or not valid deflate data"
    assert facts == [TextReceived(b"before"), Disconnected(1007, reason)]
    assert sent(framing.to_send()) == [CloseConnection(1007, reason)]


@pytest.mark.parametrize("header", [b"\x83\x7e\xff\xff", b"\x81\xfe\x01\x00"])
def test_a_bad_header_is_refused_before_its_payload_comes(header: bytes) -> None:
    [fact] = connected().receive(header)
    assert isinstance(fact, Disconnected)
    assert fact.code == 1002


# The end


@every_cut
def test_the_close_of_the_exchange_is_echoed(cut: Cut) -> None:
    framing = connected()
    assert give(framing, cut(close(1001, b"going away") + frame(0x81, b"after"))) == [Disconnected(1001, "going away")]
    assert framing.closed
    [echo] = sent(framing.to_send())
    assert isinstance(echo, CloseConnection)
    assert echo.code == 1001
    assert framing.receive(b"") == []


def test_a_close_without_a_code() -> None:
    framing = connected()
    assert framing.receive(frame(0x88)) == [Disconnected(1005, "")]
    [echo] = sent(framing.to_send())
    assert isinstance(echo, CloseConnection)
    assert echo.code == 1005


def test_a_connection_lost_without_a_close_frame() -> None:
    framing = connected()
    assert framing.receive(b"\x81\x05he") == [BytesReceived(4)]
    assert framing.receive(b"") == [Disconnected(1006, "connection lost without a Close frame")]
    assert framing.closed
    assert framing.to_send() == b""
    assert framing.receive(b"") == []


def test_our_close_is_answered_by_theirs() -> None:
    framing = connected()
    assert sent(framing.send(CloseSocket(1000, "done"))) == [CloseConnection(1000, "done")]
    assert framing.receive(frame(0x81, b"on its way") + frame(0x89, b"p")) == [TextReceived(b"on its way"), PingReceived(b"p")]
    assert framing.send(SendPong(b"p")) == b""
    assert framing.send(CloseSocket(1000, "again")) == b""
    with pytest.raises(LocalProtocolError):
        framing.send(SendText("late"))
    assert framing.receive(close(1000)) == [Disconnected(1000, "")]
    assert framing.closed
    assert framing.to_send() == b""


def test_an_error_of_the_peer_after_our_close_needs_no_second_close() -> None:
    framing = connected()
    framing.send(CloseSocket(1000, ""))
    [fact] = framing.receive(frame(0x83))
    assert isinstance(fact, Disconnected)
    assert fact.code == 1002
    assert framing.to_send() == b""


# Sending


def test_actions_become_masked_frames() -> None:
    framing = connected()
    data = framing.send(SendText('{"é":1}'))
    assert data[1] & 0x80
    data += framing.send(SendPing(b"ping")) + framing.send(SendPong(b"")) + framing.send(SendText("x" * 70000))
    assert sent(data) == [TextMessage('{"é":1}'), Ping(b"ping"), Pong(b""), TextMessage("x" * 70000)]


@pytest.mark.parametrize(
    "action",
    [
        SendPing(b"x" * 126),
        SendPong(b"x" * 126),
        SendText("\ud800"),
        CloseSocket(1000, "\ud800"),
        CloseSocket(999, ""),
        CloseSocket(1006, ""),
        CloseSocket(5000, ""),
    ],
)
def test_an_impossible_action_is_refused_and_leaves_no_trace(action: SendText | SendPing | SendPong | CloseSocket) -> None:
    framing = connected()
    with pytest.raises(LocalProtocolError):
        framing.send(action)
    assert sent(framing.send(SendText("still open"))) == [TextMessage("still open")]


def test_a_long_close_reason_is_cut_to_what_a_close_frame_holds() -> None:
    assert sent(connected().send(CloseSocket(1000, "é" * 100))) == [CloseConnection(1000, "é" * 61)]


# Compression


def deflating(max_message_bytes: int = 1 << 20) -> tuple[WebsocketFraming, WSConnection]:
    client = WebsocketFraming("h", compression=True, max_message_bytes=max_message_bytes)
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(client.open())
    [request] = server.events()
    assert isinstance(request, Request)
    answer = server.send(AcceptConnection(extensions=[PerMessageDeflate()]))
    # The exchange names no parameters (docs/protocol.md 3.5): 15-bit windows, contexts are kept.
    answer = re.sub(rb"(permessage-deflate)[^\r]*", rb"\1", answer)
    assert client.receive(answer) == [Connected()]
    return client, server


@every_cut
def test_compressed_messages_and_plain_ones_mix(cut: Cut) -> None:
    client, server = deflating()
    texts = ['{"data":{"e":"depth","é":1}}' * count for count in (1, 2, 50, 3000)]
    stream = b"".join(server.send(TextMessage(text)) + frame(0x81, b"plain") for text in texts)
    expected = [fact for text in texts for fact in (TextReceived(text.encode()), TextReceived(b"plain"))]
    assert give(client, cut(stream)) == expected


@every_cut
def test_messages_that_end_their_deflate_stream(cut: Cut) -> None:
    client, _ = deflating()
    hello = frame(0xC1, bytes.fromhex("f348cdc9c9070000"))
    fragments = frame(0x41, bytes.fromhex("f348cd")) + frame(0x80, bytes.fromhex("c9c9070000"))
    assert give(client, cut(hello + hello + fragments + hello)) == [TextReceived(b"Hello")] * 4


@every_cut
def test_control_frames_between_compressed_fragments(cut: Cut) -> None:
    client, server = deflating()
    stream = b"".join(
        server.send(event)
        for event in (
            TextMessage("hello " * 20, message_finished=False),
            Ping(b"1"),
            TextMessage("world " * 20, message_finished=False),
            Pong(b"2"),
            TextMessage("", message_finished=True),
            TextMessage("hello " * 20),
        )
    )
    assert give(client, cut(stream)) == [
        PingReceived(b"1"),
        PongReceived(b"2"),
        TextReceived(b"hello " * 20 + b"world " * 20),
        TextReceived(b"hello " * 20),
    ]


@every_cut
def test_a_message_that_inflates_beyond_the_bound(cut: Cut) -> None:
    client, server = deflating(max_message_bytes=100_000)
    stream = server.send(TextMessage("x" * 100_000)) + server.send(TextMessage("x" * 100_001))
    assert give(client, cut(stream)) == [
        TextReceived(b"x" * 100_000),
        Disconnected(1009, "message is longer than 100000 bytes"),
    ]


def test_what_is_inflated_at_once_is_bounded() -> None:
    client, server = deflating(max_message_bytes=100_000)
    bomb = server.send(TextMessage("\0" * (64 << 20)))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        [fact] = give(client, [bomb])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fact == Disconnected(1009, "message is longer than 100000 bytes")
    assert peak < 20 << 20


@pytest.mark.parametrize("stream", [frame(0xC1, b"\xff\xff\xff"), frame(0xC1, b"\xca\xff\x00\x00"), frame(0x81, b"\xff")])
@every_cut
def test_data_that_does_not_inflate(cut: Cut, stream: bytes) -> None:
    client, _ = deflating()
    [fact] = give(client, cut(stream))
    assert isinstance(fact, Disconnected)
    assert fact.code == 1007


@pytest.mark.parametrize("stream", [frame(0xC9, b"x"), frame(0x41, b"") + frame(0xC0, b""), frame(0xA1, b"")])
def test_reserved_bits_out_of_place_with_compression(stream: bytes) -> None:
    client, _ = deflating()
    [fact] = give(client, [stream])
    assert isinstance(fact, Disconnected)
    assert fact.code == 1002


def test_the_client_sends_plain_text_with_compression_as_well() -> None:
    client, server = deflating()
    data = client.send(SendText("subscribe"))
    assert data[0] == 0x81
    server.receive_data(data)
    assert list(server.events()) == [TextMessage("subscribe")]


def test_the_work_is_linear_in_the_bytes() -> None:
    # Quadratic work on 1 MiB byte by byte would be minutes. The bound leaves room for a busy machine.
    for first in (0x81, 0x82, 0x01):
        framing = connected(max_message_bytes=1 << 21)
        stream = frame(first, b"a" * (1 << 20))
        begin = time.process_time()
        facts = give(framing, by_bytes(stream))
        assert time.process_time() - begin < 30
        assert facts == ([TextReceived(b"a" * (1 << 20))] if first & 0x80 else [])


# HTTP


def get(target: str = "/api/v1/time") -> HttpRequest:
    return HttpRequest(method="GET", target=target)


def give_http(framing: HttpFraming, pieces: Iterable[bytes]) -> list[HttpResponse]:
    return [response for piece in pieces if (response := framing.receive(piece)) is not None]


def test_a_request_without_a_body() -> None:
    request = HttpRequest(method="GET", target="/api/v1/depth?symbol=SOL_USDC", headers=(("X-API-Key", "k"),))
    assert HttpFraming().request(request, "api.backpack.exchange") == (
        b"GET /api/v1/depth?symbol=SOL_USDC HTTP/1.1\r\nHost: api.backpack.exchange\r\nAccept: application/json\r\n"
        b"User-Agent: backpack-feed\r\nX-API-Key: k\r\n\r\n"
    )


def test_a_request_with_a_body() -> None:
    request = HttpRequest(method="DELETE", target="/api/v1/order", body=b'{"orderId":"1"}')
    assert HttpFraming().request(request, "h") == (
        b"DELETE /api/v1/order HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\nUser-Agent: backpack-feed\r\n"
        b'Content-Type: application/json; charset=utf-8\r\nContent-Length: 15\r\n\r\n{"orderId":"1"}'
    )


def test_a_post_without_a_body_says_so() -> None:
    assert b"\r\nContent-Length: 0\r\n" in HttpFraming().request(HttpRequest(method="POST", target="/"), "h")


def test_given_headers_replace_ours() -> None:
    request = HttpRequest(method="POST", target="/", headers=(("content-type", "text/csv"),), body=b"x")
    data = HttpFraming().request(request, "h").lower()
    assert data.count(b"content-type") == 1
    assert b"content-type: text/csv" in data


@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest(method="GET", target="/a b"),
        HttpRequest(method="GET", target="/\r\nX: y"),
        HttpRequest(method="GET", target="/é"),
        HttpRequest(method="G T", target="/"),
        HttpRequest(method="GET", target="/", headers=(("X-Passphrase", "se\r\ncret"),)),
        HttpRequest(method="GET", target="/", headers=(("X-Passphrase", "secr\u00e9t"),)),
        HttpRequest(method="GET", target="/", headers=(("Content-Length", "3"),)),
        HttpRequest(method="GET", target="/", headers=(("host", "other"),)),
        HttpRequest(method="GET", target="/", headers=(("Connection", "close"),)),
        HttpRequest(method="POST", target="/", headers=(("Transfer-Encoding", "chunked"),), body=b"x"),
        HttpRequest(method="GET", target="/", headers=(("Upgrade", "websocket"),)),
    ],
)
def test_an_impossible_request_is_refused_and_leaves_no_trace(request_: HttpRequest) -> None:
    framing = HttpFraming()
    with pytest.raises(LocalProtocolError) as caught:
        framing.request(request_, "h")
    assert "cr" not in str(caught.value)
    assert framing.reusable
    assert framing.request(get(), "h")


@every_cut
def test_responses_on_a_kept_connection(cut: Cut) -> None:
    framing = HttpFraming()
    for body in (b'{"a":1}', b"", b"1"):
        framing.request(get(), "h")
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        headers = (("content-type", "application/json"), ("content-length", str(len(body))))
        assert give_http(framing, cut(answer)) == [HttpResponse(status=200, headers=headers, body=body)]
    assert framing.reusable


@every_cut
def test_chunks_informational_answers_and_redirects(cut: Cut) -> None:
    framing = HttpFraming()
    framing.request(get(), "h")
    answer = (
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 307 Moved\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    headers = (("location", "/x"), ("transfer-encoding", "chunked"))
    assert give_http(framing, cut(answer)) == [HttpResponse(status=307, headers=headers, body=b"abcde")]
    assert framing.reusable


@every_cut
def test_no_body_by_status_or_method(cut: Cut) -> None:
    framing = HttpFraming()
    framing.request(get(), "h")
    assert [r.status for r in give_http(framing, cut(b"HTTP/1.1 204 No Content\r\n\r\n"))] == [204]
    framing.request(HttpRequest(method="HEAD", target="/"), "h")
    [response] = give_http(framing, cut(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"))
    assert response.body == b""
    assert framing.reusable


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
@every_cut
def test_a_body_that_ends_with_the_connection(cut: Cut, head: bytes) -> None:
    framing = HttpFraming()
    framing.request(get(), "h")
    [response] = give_http(framing, [*cut(head + b"body"), b""])
    assert response.body == b"body"
    assert not framing.reusable


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n",
    ],
)
def test_a_connection_that_is_not_kept(answer: bytes) -> None:
    framing = HttpFraming()
    framing.request(get(), "h")
    [response] = give_http(framing, [answer])
    assert response.body == b"x"
    assert not framing.reusable
    assert framing.receive(b"") is None
    with pytest.raises(LocalProtocolError):
        framing.request(get(), "h")


def test_one_request_at_a_time() -> None:
    framing = HttpFraming()
    framing.request(get(), "h")
    with pytest.raises(LocalProtocolError):
        framing.request(get(), "h")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    ],
)
def test_a_truncated_response_is_an_error(answer: bytes) -> None:
    framing = HttpFraming()
    framing.request(get(), "h")
    assert give_http(framing, by_bytes(answer)) == []
    with pytest.raises(RemoteProtocolError, match="connection closed before the response was complete"):
        framing.receive(b"")
    assert not framing.reusable
    assert framing.receive(b"") is None


@pytest.mark.parametrize(
    "answer",
    [
        b"\x15\x03\x03\x00\x02\x02\x50",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 20000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n12345678901",
        b"HTTP/1.1 200 OK\r\n\r\n12345678901",
    ],
)
@every_cut
def test_a_malformed_or_too_long_response_is_an_error(cut: Cut, answer: bytes) -> None:
    framing = HttpFraming(max_body_bytes=10)
    framing.request(get(), "h")
    with pytest.raises(RemoteProtocolError):
        give_http(framing, cut(answer))
    assert not framing.reusable
    assert framing.receive(b"more") is None


def test_bytes_that_answer_nothing_end_the_connection() -> None:
    framing = HttpFraming()
    with pytest.raises(RemoteProtocolError):
        framing.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert not framing.reusable


def test_an_idle_connection_closed_by_the_server_is_not_reusable() -> None:
    framing = HttpFraming()
    assert framing.receive(b"") is None
    assert not framing.reusable


def test_a_connection_is_reusable_between_a_response_and_the_next_request() -> None:
    framing = HttpFraming()
    seen = [framing.reusable]
    framing.request(get(), "h")
    seen.append(framing.reusable)
    framing.receive(b"HTTP/1.1 204 No Content\r\n\r\n")
    seen.append(framing.reusable)
    assert seen == [True, False, True]


def test_a_websocket_is_closed_when_both_close_frames_are_there() -> None:
    framing = connected()
    seen = [framing.closed]
    framing.send(CloseSocket(1000, ""))
    seen.append(framing.closed)
    framing.receive(close(1000))
    seen.append(framing.closed)
    assert seen == [False, False, True]

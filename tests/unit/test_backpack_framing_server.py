from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Pong, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from backpack_proto.errors import LocalProtocolError
from backpack_proto.http import HttpRequest
from backpack_proto.inputs import Connected, Disconnected, PingReceived, PongReceived, TextReceived
from backpack_proto.outputs import CloseSocket, SendPing, SendPong, SendText
from backpack_runtime.framing.client import HttpFraming, HttpResponse, WebsocketFraming
from backpack_runtime.framing.server import (
    HttpRequestReceived,
    MessageReceived,
    PeerClosed,
    ServerFact,
    ServerFraming,
    UpgradeRequested,
)

Cut = Callable[[bytes], list[bytes]]

UPGRADE = (
    b"GET /stream HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TIME = b"GET /api/v1/time HTTP/1.1\r\nHost: h\r\n\r\n"


def whole(data: bytes) -> list[bytes]:
    return [data]


def by_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def by_sevens(data: bytes) -> list[bytes]:
    return [data[i : i + 7] for i in range(0, len(data), 7)]


every_cut = pytest.mark.parametrize("cut", [whole, by_bytes, by_sevens])


def give(framing: ServerFraming, pieces: Iterable[bytes]) -> list[ServerFact]:
    return [fact for piece in pieces for fact in framing.receive(piece)]


def asked(target: str, *, method: str = "GET", body: bytes = b"") -> HttpRequestReceived:
    headers = (("host", "h"), ("content-length", str(len(body)))) if body else (("host", "h"),)
    return HttpRequestReceived(method=method, target=target, headers=headers, body=body)


def websocket(*, compression: bool = False, max_message_bytes: int = 1 << 20) -> tuple[WebsocketFraming, ServerFraming]:
    """A client and a server with an open websocket between them."""
    client = WebsocketFraming("h", "/stream", compression=compression)
    server = ServerFraming(compression=compression, max_message_bytes=max_message_bytes)
    [fact] = server.receive(client.open())
    assert isinstance(fact, UpgradeRequested)
    assert client.receive(server.accept()) == [Connected()]
    return client, server


# HTTP


@every_cut
def test_pipelined_requests_are_facts_at_once_and_answered_in_order(cut: Cut) -> None:
    server = ServerFraming()
    post = b'POST /api/v1/order HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n{"a":1}'
    facts = give(server, cut(TIME + post + TIME))
    assert facts == [asked("/api/v1/time"), asked("/api/v1/order", method="POST", body=b'{"a":1}'), asked("/api/v1/time")]
    assert server.respond(200, "text/plain", b"1") == (
        b"HTTP/1.1 200 \r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n1"
    )
    assert server.respond(202, "", b"", [("X-Y", "z")]) == b"HTTP/1.1 202 \r\nX-Y: z\r\nContent-Length: 0\r\n\r\n"
    assert server.respond(204, "", b"") == b"HTTP/1.1 204 \r\n\r\n"
    assert not server.closed
    assert give(server, cut(TIME)) == [asked("/api/v1/time")]


def test_client_and_server_understand_each_other() -> None:
    client, server = HttpFraming(), ServerFraming()
    for _ in range(3):
        request = HttpRequest(method="POST", target="/x?a=b", headers=(("X-Key", "k"),), body=b"{}")
        [fact] = server.receive(client.request(request, "h"))
        assert isinstance(fact, HttpRequestReceived)
        assert (fact.method, fact.target, fact.body) == ("POST", "/x?a=b", b"{}")
        assert ("x-key", "k") in fact.headers
        response = client.receive(server.respond(400, "text/plain; charset=utf-8", "é".encode()))
        headers = (("content-type", "text/plain; charset=utf-8"), ("content-length", "2"))
        assert response == HttpResponse(status=400, headers=headers, body="é".encode())
        assert client.reusable


def test_a_head_request_gets_no_body() -> None:
    server = ServerFraming()
    server.receive(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (
        server.respond(200, "text/plain", b"body") == b"HTTP/1.1 200 \r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n"
    )


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\nHost: h\r\n\r\n"]
)
@every_cut
def test_a_client_that_wants_no_further_response(cut: Cut, request_: bytes) -> None:
    server = ServerFraming()
    assert len(give(server, cut(request_ + TIME))) == 1
    assert b"connection: close\r\n" in server.respond(200, "", b"").lower()
    assert server.closed
    assert server.receive(TIME) == []
    with pytest.raises(LocalProtocolError):
        server.respond(200, "", b"")


def test_a_server_that_wants_no_further_request() -> None:
    server = ServerFraming()
    server.receive(TIME)
    server.respond(503, "", b"", [("Connection", "close")])
    assert server.closed


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nHost: h\r\na: " + b"b" * 20000, b"431"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n12345678901", b"413"),
        (UPGRADE.replace(b"GET", b"POST"), b"400"),
        (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"), b"400"),
        (UPGRADE.replace(b"Version: 13", b"Version: 8"), b"426"),
        (UPGRADE.replace(b"Sec-WebSocket-Key", b"Key"), b"400"),
        (UPGRADE.replace(b"Connection: Upgrade", b"Connection: x"), b"400"),
        (UPGRADE.replace(b"Connection: Upgrade", b"Connection: \xe9"), b"400"),
        (UPGRADE.replace(b"Host: h", b"Host: \xe9"), b"400"),
        (UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"), b"400"),
    ],
)
@every_cut
def test_a_bad_request_is_answered_and_ends_the_connection(cut: Cut, request_: bytes, status: bytes) -> None:
    server = ServerFraming(max_body_bytes=10)
    assert give(server, cut(request_)) == []
    answer = server.to_send()
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in answer
    assert server.closed
    assert server.receive(TIME) == []
    assert server.to_send() == b""


@every_cut
def test_a_bad_request_is_refused_behind_the_responses_still_due(cut: Cut) -> None:
    server = ServerFraming()
    assert give(server, cut(TIME + TIME + b"nonsense\r\n\r\n" + TIME)) == [asked("/api/v1/time")] * 2
    assert server.to_send() == b""
    assert b"400" not in server.respond(200, "", b"")
    last = server.respond(200, "", b"")
    assert last.index(b"HTTP/1.1 200") < last.index(b"HTTP/1.1 400")
    assert server.closed


def test_a_client_that_leaves_at_rest() -> None:
    server = ServerFraming()
    assert server.receive(b"") == []
    assert server.closed
    server = ServerFraming()
    assert give(server, [TIME[:9], b""]) == []
    assert server.closed


def test_a_client_that_stops_sending_still_gets_its_response() -> None:
    server = ServerFraming()
    assert len(give(server, [TIME, b""])) == 1
    seen = [server.closed]
    assert server.respond(200, "", b"")
    seen.append(server.closed)
    assert seen == [False, True]


def test_an_impossible_response_is_refused_and_leaves_no_trace() -> None:
    server = ServerFraming()
    with pytest.raises(LocalProtocolError):
        server.respond(200, "", b"")
    server.receive(TIME)
    for status, content_type, body in [
        (204, "", b"x"),
        (304, "", b"x"),
        (100, "", b""),
        (200, "a\r\nb: c", b""),
        (200, "\u20ac", b""),
    ]:
        with pytest.raises(LocalProtocolError):
            server.respond(status, content_type, body)
    assert server.respond(200, "", b"ok").endswith(b"ok")


def test_an_upgrade_to_something_else_is_a_request() -> None:
    server = ServerFraming()
    facts = server.receive(b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + TIME)
    assert [type(fact) for fact in facts] == [HttpRequestReceived, HttpRequestReceived]
    assert server.respond(200, "", b"") + server.respond(200, "", b"") == b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n" * 2


def test_many_pipelined_requests_in_one_read() -> None:
    server = ServerFraming()
    count = 5000
    assert len(server.receive(TIME * count)) == count


# Becoming a websocket


@every_cut
def test_the_handshake_of_the_standard(cut: Cut) -> None:
    server = ServerFraming()
    [fact] = give(server, cut(UPGRADE))
    assert isinstance(fact, UpgradeRequested)
    assert fact.target == "/stream"
    assert ("sec-websocket-version", "13") in fact.headers
    answer = server.accept()
    assert answer.startswith(b"HTTP/1.1 101")
    token = base64.b64encode(hashlib.sha1(b"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    assert b"Sec-WebSocket-Accept: " + token + b"\r\n" in answer


@every_cut
def test_a_websocket_behind_requests(cut: Cut) -> None:
    server = ServerFraming()
    facts = give(server, cut(TIME + UPGRADE))
    assert [type(fact) for fact in facts] == [HttpRequestReceived, UpgradeRequested]
    with pytest.raises(LocalProtocolError):
        server.accept()
    server.respond(200, "", b"")
    assert server.accept()


@every_cut
def test_an_upgrade_can_be_refused(cut: Cut) -> None:
    client, server = WebsocketFraming("h"), ServerFraming()
    give(server, cut(client.open()))
    answer = server.respond(404, "text/plain", b"not found")
    assert server.closed
    with pytest.raises(LocalProtocolError):
        server.accept()
    facts = [fact for piece in cut(answer) for fact in client.receive(piece)]
    assert [getattr(fact, "reason", "") for fact in facts] == ["websocket handshake was refused with status 404: not found"]


def test_frames_sent_before_the_handshake_is_done_are_kept() -> None:
    server = ServerFraming()
    frame = b"\x81\x82\0\0\0\0hi"
    assert len(server.receive(UPGRADE + frame)) == 1
    assert server.receive(frame[:4]) == []
    server.accept()
    assert server.receive(frame[4:]) == [MessageReceived(b"hi"), MessageReceived(b"hi")]
    assert server.receive(frame) == [MessageReceived(b"hi")]


@pytest.mark.parametrize("line", [b"Content-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
@every_cut
def test_an_upgrade_request_may_say_that_it_has_no_body(cut: Cut, line: bytes) -> None:
    server = ServerFraming()
    [fact] = give(server, cut(UPGRADE[:-2] + line))
    assert isinstance(fact, UpgradeRequested)
    assert server.accept().startswith(b"HTTP/1.1 101")


def test_nothing_of_a_websocket_before_there_is_one() -> None:
    server = ServerFraming()
    calls: list[Callable[[], bytes]] = [
        server.accept,
        lambda: server.message(b""),
        lambda: server.ping(b""),
        lambda: server.close(1000),
    ]
    for call in calls:
        with pytest.raises(LocalProtocolError):
            call()


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (b"permessage-deflate", b"permessage-deflate"),
        (b"permessage-deflate; client_max_window_bits", b"permessage-deflate; client_max_window_bits=15"),
        (b"permessage-deflate; server_max_window_bits=10", b"permessage-deflate; server_max_window_bits=10"),
        (b"permessage-deflate; server_max_window_bits=8", None),
        (b"permessage-deflate; server_max_window_bits=x", None),
        (b"x-unknown", None),
    ],
)
def test_what_is_accepted_of_an_offer(offer: bytes, answer: bytes | None) -> None:
    server = ServerFraming(compression=True)
    [fact] = server.receive(UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: " + offer + b"\r\n\r\n"))
    assert isinstance(fact, UpgradeRequested)
    lines = server.accept().split(b"\r\n")
    assert [line for line in lines if b"Extensions" in line] == ([b"Sec-WebSocket-Extensions: " + answer] if answer else [])
    assert (server.message(b"{}" * 50)[0] == 0xC1) == (answer is not None)


@pytest.mark.parametrize(("offered", "enabled"), [(True, False), (False, True), (False, False)])
def test_compression_takes_both_sides(offered: bool, enabled: bool) -> None:  # noqa: FBT001
    client, server = WebsocketFraming("h", compression=offered), ServerFraming(compression=enabled)
    server.receive(client.open())
    answer = server.accept()
    assert b"deflate" not in answer
    client.receive(answer)
    assert client.receive(server.message(b"{}" * 50)) == [TextReceived(b"{}" * 50)]


# The websocket


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_messages_reach_the_client(size: int, compression: bool) -> None:  # noqa: FBT001
    client, server = websocket(compression=compression)
    assert client.receive(server.message(b"a" * size) + server.message(b"b" * size)) == [
        TextReceived(b"a" * size),
        TextReceived(b"b" * size),
    ]


@pytest.mark.parametrize("compression", [False, True])
@every_cut
def test_messages_of_the_client(cut: Cut, compression: bool) -> None:  # noqa: FBT001
    client, server = websocket(compression=compression)
    stream = (
        client.send(SendText("é"))
        + client.send(SendPing(b"1"))
        + client.send(SendPong(b"2"))
        + client.send(SendText("x" * 9000))
    )
    assert give(server, cut(stream)) == [MessageReceived("é".encode()), PongReceived(b"2"), MessageReceived(b"x" * 9000)]
    assert client.receive(server.to_send()) == [PongReceived(b"1")]


@every_cut
def test_a_client_that_compresses_and_fragments(cut: Cut) -> None:
    client, server = WSConnection(ConnectionType.CLIENT), ServerFraming(compression=True)
    server.receive(client.send(Request(host="h", target="/", extensions=[PerMessageDeflate()])))
    client.receive_data(server.accept())
    [accepted] = client.events()
    assert isinstance(accepted, AcceptConnection)
    events: list[Event] = [
        TextMessage("hello " * 9, message_finished=False),
        Ping(b"p"),
        TextMessage("world " * 9),
        TextMessage("hello " * 9),
    ]
    stream = b"".join(client.send(event) for event in events)
    assert give(server, cut(stream)) == [MessageReceived(b"hello " * 9 + b"world " * 9), MessageReceived(b"hello " * 9)]
    client.receive_data(server.to_send() + server.message(b"[1]" * 99) + server.close(1001))
    assert list(client.events()) == [Pong(b"p"), TextMessage("[1]" * 99), CloseConnection(1001, "")]


def test_pings_of_the_server_are_answered_by_the_core_of_the_client() -> None:
    client, server = websocket()
    assert client.receive(server.ping(b"60")) == [PingReceived(b"60")]
    assert server.receive(client.send(SendPong(b"60"))) == [PongReceived(b"60")]


@pytest.mark.parametrize("compression", [False, True])
def test_the_server_closes(compression: bool) -> None:  # noqa: FBT001
    client, server = websocket(compression=compression)
    assert client.receive(server.close(1001)) == [Disconnected(1001, "")]
    assert server.message(b"late") == server.ping(b"") == server.close(1000) == b""
    assert server.receive(client.to_send()) == [PeerClosed(1001)]
    assert server.closed
    assert server.message(b"later") == server.ping(b"") == server.close(1000) == b""


def test_the_client_closes() -> None:
    client, server = websocket()
    assert server.receive(client.send(CloseSocket(1000, "done"))) == [PeerClosed(1000)]
    assert client.receive(server.to_send()) == [Disconnected(1000, "")]
    assert server.closed
    assert server.receive(b"") == []


def test_the_client_vanishes() -> None:
    _, server = websocket()
    assert server.receive(b"") == [PeerClosed(1006)]
    assert server.closed


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"\x81\x02hi", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x81\xff\x00\x00\x00\x01\x00\x00\x00\x00\0\0\0\0", 1009),
    ],
)
@every_cut
def test_an_error_of_the_client_ends_the_websocket(cut: Cut, stream: bytes, code: int) -> None:
    client, server = websocket()
    assert give(server, cut(stream)) == [PeerClosed(code)]
    assert server.closed
    [fact] = client.receive(server.to_send())
    assert isinstance(fact, Disconnected)
    assert fact.code == code


def test_the_bound_of_a_message_does_not_count_its_mask() -> None:
    client, server = websocket(max_message_bytes=3)
    assert server.receive(client.send(SendText("abc"))) == [MessageReceived(b"abc")]
    assert server.receive(client.send(SendText("abcd"))) == [PeerClosed(1009)]


def test_impossible_frames_are_refused() -> None:
    client, server = websocket()
    with pytest.raises(LocalProtocolError):
        server.ping(b"x" * 126)
    for code in (999, 1005, 1006, 5000, 70000):
        with pytest.raises(LocalProtocolError):
            server.close(code)
    assert client.receive(server.message(b"still open")) == [TextReceived(b"still open")]

"""Framing against streams that nobody wrote by hand.

Invariants: how the bytes were cut into reads changes no fact (`BytesReceived` aside) and no reply. Wsproto alone sees the same
messages and the same end. Whatever comes in raises nothing but the documented errors. After the end there is nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
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
from backpack_runtime.framing import cutting, frames
from backpack_runtime.framing.client import HttpFraming, HttpResponse, Sendable, WebsocketFraming
from backpack_runtime.framing.server import (
    HttpRequestReceived,
    MessageReceived,
    PeerClosed,
    ServerFact,
    ServerFraming,
    UpgradeRequested,
)
from hypothesis_profiles import examples

MAX_MESSAGE_BYTES = 1000
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

few = examples(150)


@pytest.fixture(params=["installed", pytest.param("python", marks=pytest.mark.gate)], scope="module", autouse=True)
def cutter(request: pytest.FixtureRequest) -> Iterator[None]:
    """What cuts short frames: the native kernel where there is one, and its twin everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(frames, "slice_texts", cutting.slice_texts)
        yield


def frame(first: int, payload: bytes = b"", *, mask: bool = False) -> bytes:
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, bit | len(payload))
    elif len(payload) <= 0xFFFF:
        head = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(payload))
    return head + (b"\0\0\0\0" if mask else b"") + payload


# Payloads that look like frames show whether a payload is ever taken for one.
payloads = st.one_of(
    st.binary(max_size=MAX_MESSAGE_BYTES),
    st.lists(st.sampled_from([frame(0x81, b"in"), frame(0x89), frame(0x88), frame(0x01, b"in"), b"\x81\x7e"])).map(b"".join),
)
control_payloads = payloads.map(lambda payload: payload[:125])

# Streams of a server: each part is its bytes and the facts that it means.

Part = tuple[bytes, list[Fact]]


@st.composite
def message_parts(draw: st.DrawFn) -> Part:
    """One message, perhaps fragmented anywhere, characters included, with control frames between the fragments."""
    binary = draw(st.booleans())
    size = draw(st.sampled_from([0, 1, 3, 125, 126, 200, MAX_MESSAGE_BYTES]))
    payload = draw(payloads)[:size] if binary else draw(st.text(max_size=size)).encode()
    payload = draw(st.sampled_from([payload, (payload + b"x" * size)]))[:MAX_MESSAGE_BYTES]
    if not binary:
        payload = payload.decode(errors="ignore").encode()
    opcode = 2 if binary else 1
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    pieces = [payload[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    data = b""
    facts: list[Fact] = []
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        data += frame((0x80 if last else 0) | (0 if index else opcode), piece)
        if not last and draw(st.booleans()):
            between, control = draw(control_parts)
            data += between
            facts += control
    return data, [*facts, TextReceived(payload)]


control_parts: st.SearchStrategy[Part] = st.one_of(
    control_payloads.map(lambda payload: (frame(0x89, payload), [PingReceived(payload)])),
    control_payloads.map(lambda payload: (frame(0x8A, payload), [PongReceived(payload)])),
)
close_codes = st.sampled_from([1000, 1001, 1002, 1008, 1011, 1012, 3000, 4999])
closing_parts: st.SearchStrategy[Part] = st.tuples(close_codes, st.text(max_size=20)).map(
    lambda given: (frame(0x88, struct.pack("!H", given[0]) + given[1].encode()), [Disconnected(*given)])
)
bad_frames = st.one_of(
    st.binary(max_size=200).map(lambda payload: frame(0x81, payload, mask=True)),
    st.sampled_from([0xC1, 0xA1, 0x91, 0xF1, 0x83, 0x8B, 0x80, 0x00, 0x09, 0x08]).map(lambda first: frame(first, b"xy")),
    st.sampled_from([0x89, 0x8A, 0x88]).map(lambda first: frame(first, b"x" * 126)),
    st.sampled_from([0, 1004, 1005, 1006, 1015, 2999, 5000]).map(lambda code: frame(0x88, struct.pack("!H", code))),
    st.integers(0, 125).map(lambda length: b"\x81\x7e" + struct.pack("!H", length) + b"x" * length),
    st.integers(0, 65535).map(lambda length: b"\x81\x7f" + struct.pack("!Q", length)),
    st.sampled_from(
        [
            frame(0x81, b"a\xff"),
            frame(0x81, b"\xed\xa0\x80" * 60),
            frame(0x01, b"\xe2\x82") + frame(0x89, b"p") + frame(0x80, b"x"),
            frame(0x01, b"x") + frame(0x81, b"y"),
            frame(0x88, b"x"),
            frame(0x88, b"\x03\xe8\xff"),
        ]
    ),
    st.integers(1, 3000).map(lambda extra: frame(0x81, b"x" * (MAX_MESSAGE_BYTES + extra))),
    st.integers(1, 3000).map(lambda extra: frame(0x01, b"x" * MAX_MESSAGE_BYTES) + frame(0x80, b"x" * extra)),
)
good_streams = st.lists(st.one_of(message_parts(), control_parts), max_size=8)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    points = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    pieces = [data[start:stop] for start, stop in zip([0, *points], [*points, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


def by_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def accepted(request: bytes, extensions: bytes = b"") -> bytes:
    key = re.search(rb"sec-websocket-key: *(\S+)", request, re.IGNORECASE)
    assert key is not None
    token = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    line = b"sec-websocket-extensions: " + extensions + b"\r\n" if extensions else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: "
        + token + b"\r\n" + line + b"\r\n"
    )  # fmt: skip


def client_of(
    pieces_of: Callable[[bytes], Iterable[bytes]], stream: bytes, *, compression: bool = False
) -> tuple[list[Fact], bytes]:
    """The facts of a whole connection, handshake included, and the Close frame that the client replied with."""
    framing = WebsocketFraming("h", compression=compression, max_message_bytes=MAX_MESSAGE_BYTES)
    head = accepted(framing.open(), b"permessage-deflate" if compression else b"")
    facts: list[Fact] = []
    reply = b""
    for piece in pieces_of(head + stream):
        facts += framing.receive(piece)
        reply += framing.to_send()
    if not framing.closed:
        facts += framing.receive(b"")
    assert framing.closed
    assert framing.receive(b"x") == framing.receive(b"") == []
    assert framing.to_send() == b""
    return [fact for fact in facts if not isinstance(fact, BytesReceived)], unmasked(reply)


def unmasked(reply: bytes) -> bytes:
    """A Close frame of a client without the mask, which is random."""
    if not reply:
        return b""
    mask, payload = reply[2:6], reply[6:]
    assert len(payload) == reply[1] & 0x7F
    return reply[:1] + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def check_one_end(facts: list[Fact]) -> None:
    ends = [index for index, fact in enumerate(facts) if isinstance(fact, Disconnected | ConnectFailed)]
    assert ends == [len(facts) - 1]


@few
@given(data=st.data(), parts=good_streams, ending=st.one_of(closing_parts, st.just((b"", []))))
def test_a_good_stream_means_the_same_however_it_is_cut(data: st.DataObject, parts: list[Part], ending: Part) -> None:
    stream = b"".join(part for part, _ in parts) + ending[0]
    end = ending[1] or [Disconnected(1006, "connection lost without a Close frame")]
    expected = [Connected(), *(fact for _, facts in parts for fact in facts), *end]
    for pieces_of in (lambda whole: [whole], by_bytes, lambda whole: data.draw(cuts(whole))):
        facts, _ = client_of(pieces_of, stream)
        assert facts == expected


@few
@given(data=st.data(), parts=good_streams, bad=bad_frames, compression=st.booleans(), rest=st.binary(max_size=20))
def test_a_bad_stream_ends_the_same_however_it_is_cut(
    data: st.DataObject,
    parts: list[Part],
    bad: bytes,
    compression: bool,  # noqa: FBT001
    rest: bytes,
) -> None:
    stream = b"".join(part for part, _ in parts) + bad + rest
    whole = client_of(lambda whole: [whole], stream, compression=compression)
    check_one_end(whole[0])
    expected = [Connected(), *(fact for _, facts in parts for fact in facts)]
    assert whole[0][: len(expected)] == expected
    assert whole == client_of(by_bytes, stream, compression=compression)
    assert whole == client_of(lambda whole: data.draw(cuts(whole)), stream, compression=compression)


@few
@given(data=st.data(), parts=good_streams, garbage=st.binary(max_size=300), compression=st.booleans())
def test_garbage_ends_the_same_however_it_is_cut(
    data: st.DataObject,
    parts: list[Part],
    garbage: bytes,
    compression: bool,  # noqa: FBT001
) -> None:
    stream = b"".join(part for part, _ in parts) + garbage
    whole = client_of(lambda whole: [whole], stream, compression=compression)
    check_one_end(whole[0])
    assert whole == client_of(by_bytes, stream, compression=compression)
    assert whole == client_of(lambda whole: data.draw(cuts(whole)), stream, compression=compression)


def wsproto_alone(stream: bytes) -> tuple[list[Fact], int]:
    """What wsproto makes of a stream: messages joined, and the code of the end."""
    connection = Connection(ConnectionType.CLIENT)
    connection.receive_data(stream)
    facts: list[Fact] = []
    parts: list[bytes] = []
    for event in connection.events():
        if isinstance(event, TextMessage | BytesMessage):
            parts.append(event.data.encode() if isinstance(event, TextMessage) else bytes(event.data))
            if event.message_finished:
                facts.append(TextReceived(b"".join(parts)))
                parts = []
        elif isinstance(event, Ping):
            facts.append(PingReceived(bytes(event.payload)))
        elif isinstance(event, Pong):
            facts.append(PongReceived(bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            return facts, int(event.code)
    return facts, 1006


@few
@given(parts=good_streams, bad=st.one_of(bad_frames, st.binary(max_size=100)))
@example(parts=[], bad=frame(0x81, b"\xff" * (MAX_MESSAGE_BYTES + 1)))
def test_wsproto_alone_sees_the_same(parts: list[Part], bad: bytes) -> None:
    stream = b"".join(part for part, _ in parts) + bad
    facts, _ = client_of(lambda whole: [whole], stream)
    end = facts.pop()
    assert isinstance(end, Disconnected)
    expected, code = wsproto_alone(stream)
    assert facts == [Connected(), *expected[: len(facts) - 1]]
    if end.code == 1006:  # wsproto looks into incomplete headers and payloads
        assert code in {1002, 1006, 1007}
    elif end.code != 1009:  # wsproto has no bound
        assert end.code == code
        assert len(facts) == len(expected) + 1


# Compression

server_events: st.SearchStrategy[list[Event]] = st.lists(
    st.one_of(
        st.text(max_size=300).map(lambda text: [TextMessage(text)]),
        st.text(max_size=30).map(
            lambda text: [TextMessage(text * 10, message_finished=False), Ping(b"p"), TextMessage(text * 10)]
        ),
        payloads.map(lambda data: [BytesMessage(data[:900])]),
        control_payloads.map(lambda payload: [Ping(payload)]),
        control_payloads.map(lambda payload: [Pong(payload)]),
    ),
    max_size=8,
).map(lambda lists: [event for events in lists for event in events])


def meaning(events: Iterable[Event]) -> list[Fact]:
    facts: list[Fact] = []
    parts: list[bytes] = []
    for event in events:
        if isinstance(event, TextMessage | BytesMessage):
            parts.append(event.data.encode() if isinstance(event, TextMessage) else bytes(event.data))
            if event.message_finished:
                facts.append(TextReceived(b"".join(parts)))
                parts = []
        elif isinstance(event, Ping):
            facts.append(PingReceived(bytes(event.payload)))
        elif isinstance(event, Pong):
            facts.append(PongReceived(bytes(event.payload)))
    return facts


@few
@given(data=st.data(), events=server_events, plain=st.booleans(), takeover=st.booleans())
def test_a_compressed_stream_means_the_same_however_it_is_cut(
    data: st.DataObject,
    events: list[Event],
    plain: bool,  # noqa: FBT001
    takeover: bool,  # noqa: FBT001
) -> None:
    facts = meaning(events)
    assume(all(not isinstance(fact, TextReceived) or len(fact.data) < MAX_MESSAGE_BYTES - 20 for fact in facts))
    for pieces_of in (lambda whole: [whole], by_bytes, lambda whole: data.draw(cuts(whole))):
        server = WSConnection(ConnectionType.SERVER)
        client = WebsocketFraming("h", compression=not plain, max_message_bytes=MAX_MESSAGE_BYTES)
        server.receive_data(client.open())
        list(server.events())
        stream = server.send(AcceptConnection(extensions=[PerMessageDeflate(server_no_context_takeover=not takeover)]))
        stream += b"".join(map(server.send, events))
        seen = [fact for piece in pieces_of(stream) for fact in client.receive(piece)]
        assert [fact for fact in seen if not isinstance(fact, BytesReceived)] == [Connected(), *facts]


# Our two ends, whatever they say to each other

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200)
actions: st.SearchStrategy[list[Sendable]] = st.lists(
    st.one_of(
        st.builds(SendText, texts),
        st.builds(SendPing, st.binary(max_size=125)),
        st.builds(SendPong, st.binary(max_size=125)),
    ),
    max_size=8,
)


@few
@given(data=st.data(), said=actions, heard=st.lists(texts.map(str.encode), max_size=8), compression=st.booleans())
def test_client_and_server_understand_each_other(
    data: st.DataObject,
    said: list[Sendable],
    heard: list[bytes],
    compression: bool,  # noqa: FBT001
) -> None:
    client, server = WebsocketFraming("h", compression=compression), ServerFraming(compression=compression)
    [request] = [fact for piece in data.draw(cuts(client.open())) for fact in server.receive(piece)]
    assert isinstance(request, UpgradeRequested)
    stream = server.accept() + b"".join(map(server.message, heard))
    facts = [fact for piece in data.draw(cuts(stream)) for fact in client.receive(piece)]
    assert [fact for fact in facts if not isinstance(fact, BytesReceived)] == [Connected(), *map(TextReceived, heard)]
    seen = [fact for piece in data.draw(cuts(b"".join(map(client.send, said)))) for fact in server.receive(piece)]
    expected: list[ServerFact] = []
    pongs: list[Fact] = []
    for action in said:
        if isinstance(action, SendText):
            expected.append(MessageReceived(action.text.encode()))
        elif isinstance(action, SendPong):
            expected.append(PongReceived(action.payload))
        elif isinstance(action, SendPing):
            pongs.append(PongReceived(action.payload))
    assert seen == expected
    replies = server.to_send()
    assert (client.receive(replies) if replies else []) == pongs
    assert server.receive(client.send(CloseSocket(1000, ""))) == [PeerClosed(1000)]
    assert client.receive(server.to_send()) == [Disconnected(1000, "")]


# Garbage

heads = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 403 No\r\n\r\n",
        b"\r\n\r\n",
    ]
)
lines = st.lists(
    st.sampled_from(
        [
            b"connection: upgrade\r\n",
            b"upgrade: websocket\r\n",
            b"sec-websocket-accept: x\r\n",
            b"sec-websocket-extensions: permessage-deflate; server_max_window_bits=\r\n",
            b"transfer-encoding: chunked\r\n",
            b"\r\n",
            b"5\r\n",
            b"\xff: \xff\r\n",
        ]
    ),
    max_size=6,
).map(b"".join)


@few
@given(data=st.data(), head=heads, middle=lines, tail=st.binary(max_size=100))
def test_garbage_in_the_handshake(data: st.DataObject, head: bytes, middle: bytes, tail: bytes) -> None:
    framing = WebsocketFraming("h", compression=True)
    framing.open()
    facts = [fact for piece in [*data.draw(cuts(head + middle + tail)), b""] for fact in framing.receive(piece)]
    assert len(facts) == 1
    assert isinstance(facts[0], ConnectFailed)
    assert framing.closed


@few
@given(data=st.data(), position=st.floats(0, 1), noise=st.binary(min_size=1, max_size=4))
def test_a_damaged_handshake(data: st.DataObject, position: float, noise: bytes) -> None:
    framing = WebsocketFraming("h", compression=True)
    answer = accepted(framing.open(), b"permessage-deflate; server_max_window_bits=15; client_max_window_bits=15")
    at = int(position * len(answer))
    answer = answer[:at] + noise + answer[at + len(noise) :]
    facts = [fact for piece in [*data.draw(cuts(answer)), b""] for fact in framing.receive(piece)]
    facts = [fact for fact in facts if not isinstance(fact, BytesReceived)]
    check_one_end(facts)
    assert isinstance(facts[0], Connected | ConnectFailed)


@few
@given(data=st.data(), head=heads, middle=lines, tail=st.binary(max_size=100))
def test_a_response_is_the_same_or_an_error_however_it_is_cut(
    data: st.DataObject, head: bytes, middle: bytes, tail: bytes
) -> None:
    def outcome(pieces: Iterable[bytes]) -> HttpResponse | None:
        framing = HttpFraming(max_body_bytes=60)
        framing.request(HttpRequest(method="GET", target="/"), "h")
        for piece in pieces:
            try:
                response = framing.receive(piece)
            except RemoteProtocolError:
                assert not framing.reusable
                return None
            if response is not None:
                return response
        raise AssertionError("a closed connection is a response or an error")

    stream = head + middle + tail
    whole = outcome([stream, b""] if stream else [b""])
    assert whole == outcome([*by_bytes(stream), b""]) == outcome([*data.draw(cuts(stream)), b""])


requests = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
                b"POST /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n",
                UPGRADE,
                UPGRADE.replace(b"Connection: Upgrade", b"Connection: Upgrade, close"),
                UPGRADE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n"),
                UPGRADE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate; =;x=\r\n\r\n"),
            ]
        ),
        st.binary(max_size=30),
        st.sampled_from([b"\x81\x82\0\0\0\0hi", b"\x89\x80\0\0\0\0", b"\x88\x80\0\0\0\0"]),
    ),
    max_size=6,
).map(b"".join)


def serve(pieces: Iterable[bytes]) -> tuple[list[ServerFact], bytes]:
    server = ServerFraming(compression=True, max_body_bytes=100)
    facts: list[ServerFact] = []
    sent = b""
    for piece in pieces:
        new = server.receive(piece)
        sent += server.to_send()
        facts += new
        for fact in new:
            if isinstance(fact, HttpRequestReceived) and not server.closed:
                sent += server.respond(200, "text/plain", fact.body)
            elif isinstance(fact, UpgradeRequested) and not server.closed:
                sent += server.accept()
    was_closed = server.closed
    facts += server.receive(b"")
    assert server.closed
    assert was_closed <= server.closed
    assert server.receive(b"x") == []
    return facts, sent


@few
@given(data=st.data(), stream=requests)
def test_the_server_sees_the_same_however_it_is_cut(data: st.DataObject, stream: bytes) -> None:
    facts, sent = serve([stream] if stream else [])
    # Whoever speaks before the handshake is done is heard with the next read: there has to be one.
    assume(not any(isinstance(fact, UpgradeRequested) for fact in facts))
    assert (facts, sent) == serve(by_bytes(stream)) == serve(data.draw(cuts(stream)))


@few
@given(data=st.data(), stream=requests)
def test_the_server_takes_anything(data: st.DataObject, stream: bytes) -> None:
    serve(data.draw(cuts(stream)))


@few
@given(data=st.data(), stream=st.binary(max_size=200))
def test_a_server_of_frames_takes_anything(data: st.DataObject, stream: bytes) -> None:
    server = ServerFraming(max_message_bytes=50)
    server.receive(UPGRADE)
    server.accept()
    facts = [fact for piece in [*data.draw(cuts(stream)), b""] for fact in server.receive(piece)]
    assert [index for index, fact in enumerate(facts) if isinstance(fact, PeerClosed)] == [len(facts) - 1]
    assert server.closed


@few
@given(code=st.integers(-5, 70000), reason=st.text(max_size=200), payload=st.binary(max_size=200), text=st.text(max_size=50))
def test_what_can_be_sent_arrives_and_the_rest_is_refused(code: int, reason: str, payload: bytes, text: str) -> None:
    for action in (SendText(text), SendPing(payload), SendPong(payload), CloseSocket(code, reason)):
        client = WebsocketFraming("h")
        client.receive(accepted(client.open()))
        peer = Connection(ConnectionType.SERVER)
        try:
            peer.receive_data(client.send(action))
        except LocalProtocolError:
            peer.receive_data(client.send(SendText("still open")))
            assert list(peer.events()) == [TextMessage("still open")]
            continue
        [event] = peer.events()
        if isinstance(action, SendText):
            assert event == TextMessage(text)
        elif isinstance(action, SendPing):
            assert event == Ping(payload)
        elif isinstance(action, SendPong):
            assert event == Pong(payload)
        elif peer.state is ConnectionState.REMOTE_CLOSING:
            assert isinstance(event, CloseConnection)
            assert event.code == code
            assert reason.startswith(event.reason or "")

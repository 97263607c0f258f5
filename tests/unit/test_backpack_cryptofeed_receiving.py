"""The connection that cuts frames itself gives what the library's own gives: the same messages, the same end, the same answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode
from websockets.uri import parse_uri

from backpack_proto.inputs import TextReceived
from backpack_runtime.cryptofeed.native import receiving
from backpack_runtime.cryptofeed.native.receiving import ReceivingConnection
from hypothesis_profiles import examples

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """As cryptofeed wants it."""
    return "asyncio"


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return bytes(Frame(opcode, data, fin=fin).serialize(mask=False))


def text(data: str) -> bytes:
    return frame(Opcode.TEXT, data.encode())


FRAMES = {
    "short": text('{"stream":"trade.SOL_USDC"}'),
    "other": text("two"),
    "empty": text(""),
    "middling": text("m" * 200),
    "umlauts": text("größer"),
    "longest short": text("l" * 0xFFFF),
    "long": text("L" * 0x10000),
    "binary": frame(Opcode.BINARY, b"\x00\xff"),
    "fragmented": frame(Opcode.TEXT, b"be", fin=False) + frame(Opcode.PING, b"between") + frame(Opcode.CONT, b"gun"),
    "ping": frame(Opcode.PING, b"you there"),
    "pong": frame(Opcode.PONG, b"nobody asked"),
    "padded length": b"\x81\x7e\x00\x05short",
    "longer length": b"\x81\x7f" + (3).to_bytes(8, "big") + b"way",
    "no UTF-8": b"\x81\x02\xff\xfe",
    "masked": b"\x81\x83abcdxyz",
    "compressed": b"\xc1\x03abc",
    "text within": frame(Opcode.TEXT, b"be", fin=False) + text("no place for this"),
    "end of nothing": frame(Opcode.CONT, b"?"),
    "no opcode": b"\x83\x01x",
    "close": frame(Opcode.CLOSE, Close(1001, "bye").serialize()),
    "bad close": frame(Opcode.CLOSE, b"\x00"),
}


class Wire(asyncio.Transport):
    """A transport that nobody is behind."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Peer:
    """A connection of one kind and its wire."""

    def __init__(self, kind: type[ClientConnection]) -> None:
        protocol = ClientProtocol(parse_uri("ws://exchange/"), max_size=None)
        self.connection = kind(protocol, ping_interval=None, max_queue=1024)
        self.wire = Wire()
        self.connection.connection_made(self.wire)
        self.connection.request = protocol.connect()
        protocol.send_request(self.connection.request)
        self.connection.send_data()
        key = self.connection.request.headers["Sec-WebSocket-Key"]
        accept = base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
        self.head = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + accept
            + b"\r\n\r\n"
        )

    async def read_all(self) -> tuple[list[Any], Any]:
        """Every message, and how it ended."""
        found: list[Any] = []
        try:
            async for message in self.connection:
                found.append(message)  # noqa: PERF401 - those before the end count
        except ConnectionClosed as closed:
            return found, (type(closed), str(closed), repr(closed.__cause__))
        return found, (self.connection.close_code, self.connection.close_reason)

    async def run(self, data: bytes, cuts: Sequence[int], *, eof: bool) -> tuple[list[Any], Any, list[int]]:
        """What is read of these bytes behind the handshake, cut into reads there, until the connection is lost."""
        reading = asyncio.ensure_future(self.read_all())
        stream = self.head + data
        edges = [0, *sorted(cut % len(stream) for cut in cuts), len(stream)]
        for start, stop in pairwise(edges):
            if stop > start and not self.wire.closed:
                self.connection.data_received(stream[start:stop])
                await asyncio.sleep(0)
        if eof:
            self.connection.eof_received()
        self.connection.connection_lost(None if eof else ConnectionResetError("gone"))
        return *(await reading), [len(written) for written in self.wire.written]


@given(
    st.lists(st.sampled_from(sorted(FRAMES)), max_size=12),
    st.lists(st.integers(0, 300), max_size=8) | st.lists(st.integers(0, 150_000), max_size=3),
    st.booleans(),
    st.integers(0, 4),
)
@examples(300)
def test_it_gives_what_the_library_gives(names: list[str], cuts: list[int], eof: bool, missing: int) -> None:  # noqa: FBT001
    data = b"".join(FRAMES[name] for name in names)
    data = data[: len(data) - missing] if missing else data

    async def both() -> tuple[Any, Any]:
        return await Peer(ReceivingConnection).run(data, cuts, eof=eof), await Peer(ClientConnection).run(data, cuts, eof=eof)

    ours, theirs = asyncio.run(both())
    assert ours == theirs


async def test_a_read_is_received_at_once_and_what_the_library_has_keeps_its_place() -> None:
    peer = Peer(ReceivingConnection)
    one, two = FRAMES["short"], FRAMES["other"]
    peer.connection.data_received(peer.head + one + two + FRAMES["binary"] + two + one[:9])
    connection: Any = peer.connection
    texts = await connection.receive()
    assert [type(found) for found in texts] == [TextReceived, TextReceived]
    assert [found.data for found in texts] == [b'{"stream":"trade.SOL_USDC"}', b"two"]
    assert all(found.received_us is not None for found in texts)
    assert await connection.receive() == b"\x00\xff"
    assert [found.data for found in await connection.receive()] == [b"two"]
    waiting = asyncio.ensure_future(connection.receive())
    await asyncio.sleep(0)
    assert not waiting.done()
    connection.data_received(one[9:])
    assert [found.data for found in await waiting] == [b'{"stream":"trade.SOL_USDC"}']


async def test_the_exchange_is_slowed_down_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "MOST_WAITING", 3)
    peer = Peer(ReceivingConnection)
    connection: Any = peer.connection
    reading = [connection.data_received(peer.head + FRAMES["other"] * 3) or peer.wire.reading]
    reading.append(connection.data_received(FRAMES["other"]) or peer.wire.reading)
    assert len(await connection.receive()) == 4
    assert [*reading, peer.wire.reading] == [True, False, True]


async def test_a_refused_handshake_is_the_library_s() -> None:
    peer = Peer(ReceivingConnection)
    peer.connection.data_received(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r")
    peer.connection.data_received(b"\n\x81\x02hi")
    assert peer.connection.response is not None
    assert (peer.connection.response.status_code, peer.connection.response.body) == (429, b"\x81\x02hi")
    assert peer.connection.protocol.handshake_exc is not None


async def test_a_frame_that_was_cut_by_our_own_closing_is_received_whole() -> None:
    peer = Peer(ReceivingConnection)
    peer.connection.data_received(peer.head + FRAMES["short"][:9])
    reading = asyncio.ensure_future(peer.read_all())
    closing = asyncio.ensure_future(peer.connection.close())
    await asyncio.sleep(0)
    peer.connection.data_received(FRAMES["short"][9:] + frame(Opcode.CLOSE, Close(1000, "").serialize()))
    peer.connection.eof_received()
    peer.connection.connection_lost(None)
    await closing
    assert await reading == (['{"stream":"trade.SOL_USDC"}'], (1000, ""))

"""Server of one tape: markets, time and snapshots over HTTP, and the frames over one websocket.

It does as little as possible while a client is measured: one thread for each connection, frames prepared before they are sent,
TLS records as well. Frames carry the time at which they were prepared, or sent, so that a client sees an exchange whose data are fresh.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from time import monotonic, sleep, time_ns
from typing import Self

from .frames import Message, Tape, binances_stream, canary, header
from .markets import list_of_markets
from .wire import Wire, end_of_frame, unmasked

__all__ = ["QUIET_SECONDS", "Pace", "Server", "unix_us"]

HOST = "127.0.0.1"
KINDS = ("depth", "trade", "bookTicker")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
SYNC = b"\x00\x00\xff\xff"  # left out behind every compressed message: RFC 7692 section 7.2.1
WRITE_FRAMES = 256
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
COMPRESSED = 0x40
BEAT_SECONDS = 0.25
MANY = 50
"""Markets from which on the beats come less often."""
WARM_SECONDS = 0.002
QUIET_SECONDS = 0.1
"""Between the mark and the frames that are measured, so that what the mark caused is over."""


def unix_us() -> int:
    """Return the time of day in microseconds."""
    return time_ns() // 1000


class Pace:
    """Speed of the measured frames: so many a second, `burst` of them at once."""

    def __init__(self, per_second: float, burst: int = 1) -> None:
        self.per_second = per_second
        self.burst = burst


class Server:
    """Serves one tape to one client, from threads of its own."""

    def __init__(self, tape: Tape, *, tls: ssl.SSLContext | None = None, compress: bool = False) -> None:
        self._tape = tape
        self._context = tls
        self._compress = compress
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.compressing = False
        """True when the client offered permessage-deflate, and has it."""
        self._deflate = zlib.compressobj(level=1, wbits=-15)
        self._inflate = zlib.decompressobj(wbits=-15)
        self.websockets = 0
        """How many the client has opened. The frames go to the newest one."""
        self._wires: list[Wire] = []
        self._websocket: Wire | None = None
        self._subscribed: set[str] = set()
        self._changed = threading.Condition()
        self._sending = threading.RLock()
        self._beating = True
        self._closed = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._beating = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for wire in self._wires:
            wire.close()
        with self._changed:
            self._changed.notify_all()

    def play(self, pace: Pace | None) -> None:
        """Send the mark, the measured frames and the end. Without a pace as fast as the client reads.

        Raises:
            OSError: the client is gone.
        """
        wire = self._websocket
        if wire is None:
            raise ConnectionError("there is no websocket")
        with self._sending:
            self._beating = False
            self._send_now(wire, [self._tape.mark])
        sleep(QUIET_SECONDS)
        if pace is None:
            # Nothing may come between records of TLS or compressed frames that are prepared in this order.
            with self._sending:
                frames = self._prepared(wire, [*self._tape.measured, self._tape.end])
                for start in range(0, len(frames), WRITE_FRAMES):
                    wire.send(b"".join(frames[start : start + WRITE_FRAMES]))
            return
        began = monotonic()
        messages = self._tape.measured
        for start in range(0, len(messages), pace.burst):
            due = began + start / pace.per_second - monotonic()
            if due > 0:
                sleep(due)
            self._send_now(wire, messages[start : start + pace.burst])
        self._send_now(wire, [self._tape.end])

    def _send_now(self, wire: Wire, messages: Sequence[Message]) -> None:
        with self._sending:
            wire.send(b"".join(self._prepared(wire, messages)))

    def _prepared(self, wire: Wire, messages: Sequence[Message]) -> list[bytes]:
        """Return messages as they go over the socket, emitted now."""
        now = unix_us()
        return wire.sealed(self._framed(message.at(now) for message in messages))

    def _framed(self, contents: Iterable[bytes]) -> Iterator[bytes]:
        for content in contents:
            packed = content
            if self.compressing:
                packed = (self._deflate.compress(content) + self._deflate.flush(zlib.Z_SYNC_FLUSH))[: -len(SYNC)]
            yield header(len(packed), compressed=self.compressing) + packed

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = Wire(sock, self._context)
            self._wires.append(wire)
            self._start(self._serve, wire)

    def _start(self, target: Callable[[Wire], None], wire: Wire) -> None:
        def run() -> None:
            # A client that ends, or a server that is closed: both are how a run is over.
            with suppress(OSError, ValueError):
                target(wire)

        threading.Thread(target=run, daemon=True).start()

    def _serve(self, wire: Wire) -> None:
        wire.shake_hands()
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                data += wire.receive()
            head, _, data = data.partition(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                self._upgrade(wire, head)
                self._read_frames(wire, data)
                return
            body = self._response(head.split(b" ", 2)[1].decode())
            kind = b"Content-Type: application/json; charset=utf-8\r\n"
            answer = b"HTTP/1.1 200 OK\r\n" + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body
            wire.send(b"".join(wire.sealed([answer])))

    def _response(self, target: str) -> bytes:
        path, _, query = target.partition("?")
        if path.endswith("/depth"):
            asked = dict(pair.partition("=")[::2] for pair in query.split("&"))["symbol"]
            symbol = next(symbol for symbol in self._tape.symbols if asked in (symbol, symbol.replace("_", "")))
            body = self._tape.snapshots[symbol].body(unix_us())
            if asked == symbol:
                return body
            return json.dumps(
                json.loads(body) | {"lastUpdateId": self._tape.snapshots[symbol].last}
            ).encode()  # Binance: a number
        if path.endswith("/markets"):
            return list_of_markets(self._tape.symbols)
        return str(unix_us() // 1000).encode() if path.endswith("/time") else b"[]"

    def _upgrade(self, wire: Wire, head: bytes) -> None:
        lines = dict(line.partition(b":")[::2] for line in head.split(b"\r\n"))
        fields = {name.strip().lower(): value.strip() for name, value in lines.items()}
        accepted = base64.b64encode(hashlib.sha1(fields[b"sec-websocket-key"] + GUID, usedforsecurity=False).digest())
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + accepted
        )
        self.compressing = self._compress and b"permessage-deflate" in fields.get(b"sec-websocket-extensions", b"")
        if self.compressing:
            answer += b"\r\nSec-WebSocket-Extensions: permessage-deflate"
        wire.send(*wire.sealed([answer + b"\r\n\r\n"]))
        # Binance has the subscriptions in the address.
        asked = set(head.partition(b"/stream?streams=")[2].partition(b" ")[0].decode().split("/"))
        streams = [(kind, symbol) for kind in KINDS for symbol in self._tape.symbols]
        with self._changed:
            self._subscribed.update(f"{kind}.{symbol}" for kind, symbol in streams if binances_stream(kind, symbol) in asked)
        self._websocket = wire
        self.websockets += 1
        self._start(self._warm, wire)

    def _read_frames(self, wire: Wire, data: bytes) -> None:
        """Take subscriptions, answer pings. Frames of clients are masked."""
        while True:
            while len(data) < 2 or len(data) < (end := end_of_frame(data)):
                data += wire.receive()
            opcode, packed, payload, data = data[0] & 0x0F, data[0] & COMPRESSED, unmasked(data[:end]), data[end:]
            if packed:
                payload = self._inflate.decompress(payload + SYNC)
            if opcode == CLOSE:
                return
            if opcode == PING:
                with self._sending:
                    wire.send(*wire.sealed([bytes((0x80 | PONG, len(payload))) + payload]))
            elif opcode == TEXT:
                with self._changed:
                    self._subscribed.update(json.loads(payload).get("params", []))
                    self._changed.notify_all()

    def _warm(self, wire: Wire) -> None:
        """Bring up each book once its streams are subscribed to, and repeat its best bid and ask until the measured frames begin."""
        waiting = dict(self._tape.warm)
        while waiting:
            with self._changed:
                while not (ready := [symbol for symbol in waiting if self._all_of(symbol)]):
                    if self._closed:
                        return
                    self._changed.wait(BEAT_SECONDS)
            for symbol in ready:
                for message in waiting.pop(symbol):
                    self._send_now(wire, [message])
                    sleep(WARM_SECONDS / len(self._tape.symbols))
        pause = BEAT_SECONDS if len(self._tape.symbols) < MANY else 4 * BEAT_SECONDS
        while not self._closed:
            with self._sending:
                # Clients see by these that the path works, while no frames are measured as well as beside them.
                self._send_now(wire, self._canaries())
                if self._beating:
                    self._send_now(wire, list(self._tape.proofs.values()))
            sleep(pause if self._beating else 1)

    def _canaries(self) -> list[Message]:
        asked = sorted(self._subscribed)
        return [canary(stream) for stream in asked if not stream.startswith(KINDS)]

    def _all_of(self, symbol: str) -> bool:
        return all(f"{kind}.{symbol}" in self._subscribed for kind in KINDS)

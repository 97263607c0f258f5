"""One TCP connection of the server, perhaps inside TLS, and the frames that clients send over it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["Wire", "end_of_frame", "unmasked"]

READ_BYTES = 64 * 1024


class Wire:
    """One TCP connection, perhaps inside TLS. Reads and writes come from two threads."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = None if context is None else context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lock = threading.Lock()

    def shake_hands(self) -> None:
        """Open the TLS connection, if it is one."""
        while self._tls is not None:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send(self._outgoing.read())
                self._incoming.write(self._receive())
            else:
                self.send(self._outgoing.read())
                return

    def receive(self) -> bytes:
        """Wait for bytes of the client."""
        if self._tls is None:
            return self._receive()
        while True:
            with self._lock, suppress(ssl.SSLWantReadError):
                # What came with the end of the handshake is there already.
                return self._tls.read(READ_BYTES)
            data = self._receive()
            with self._lock:
                self._incoming.write(data)

    def sealed(self, pieces: Iterable[bytes]) -> list[bytes]:
        """Return pieces as they go over the socket: inside TLS each is a record of its own."""
        if self._tls is None:
            return list(pieces)
        sealed = []
        with self._lock:
            for piece in pieces:
                self._tls.write(piece)
                sealed.append(self._outgoing.read())
        return sealed

    def send(self, data: bytes) -> None:
        """Send bytes that are sealed."""
        self._sock.sendall(data)

    def close(self) -> None:
        """End the connection, and wake who waits for it."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _receive(self) -> bytes:
        data = self._sock.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError("the client is gone")
        return data


def end_of_frame(data: bytes) -> int:
    """Return where the first frame ends, as far as its header tells."""
    length = data[1] & 0x7F
    if length < 126:
        return 6 + length
    size = 2 if length == 126 else 8
    if len(data) < 2 + size:
        return len(data) + 1
    return 6 + size + int.from_bytes(data[2 : 2 + size], "big")


def unmasked(frame: bytes) -> bytes:
    """Return the content of a masked frame."""
    start = {126: 4, 127: 10}.get(frame[1] & 0x7F, 2)
    mask, content = frame[start : start + 4], frame[start + 4 :]
    pattern = mask * (len(content) // 4 + 1)
    return bytes(one ^ other for one, other in zip(content, pattern, strict=False))

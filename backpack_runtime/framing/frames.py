"""The frames of an open websocket, seen from one side: bytes in, facts out.

Theory of operation. wsproto is the authority on RFC 6455, and slow: it costs more than decoding the JSON and applying it to
a book together. Nearly everything the exchange sends is a short, whole, final, unmasked text frame, so the run of such frames at
the front of a read is sliced here, and inflated if need be (`Deflate`), and all else goes to wsproto: a small frame at once if it is here, of
any other first the header, as soon as it is complete, then the payload in pieces of fixed size. Thus wsproto is at a frame
boundary whenever a run is sliced, a bad header is refused before its payload is waited for, the inflated size of a piece is
bounded, and no fact depends on how the bytes were cut into reads. The bytes of an incomplete unit (a short frame, a header, a
piece) are collected and not looked at again before it is complete, so the work is linear in the bytes however small the reads.

Control frames may come between the fragments of a compressed message, where the deflate extension of wsproto loses its
place. So they have a wsproto connection of their own, without extensions. RFC 6455 does not require state that the two would have to share.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import LOCAL_ONLY_CLOSE_REASONS, CloseReason

from backpack_proto.inputs import Disconnected, Fact, PingReceived, PongReceived, TextReceived

from .cutting import TEXT_FRAME, is_utf8
from .deflate import Deflate

if TYPE_CHECKING:
    from .cutting import slice_texts
else:
    try:
        from ._cutting import slice_texts
    except ModuleNotFoundError:
        from .cutting import slice_texts

__all__ = ["LONGEST_SHORT_FRAME", "MAX_MESSAGE_BYTES", "Frames", "is_close_code", "slice_texts"]

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

COMPRESSED_TEXT_FRAME = 0xC1  # the same with the first reserved bit (RFC 7692 section 6)
CONTROL_BIT = 0x08
MASK_BIT = 0x80
MASKING_KEY_BYTES = 4
COMPRESSED_TEXT = bytes([COMPRESSED_TEXT_FRAME])
LENGTH_BYTES = {126: 2, 127: 8}  # size of the rest of the header, by the 7-bit length
LONGEST_SHORT_FRAME = 0xFFFF
PIECE_BYTES = 4096  # deflate makes at most 1032 bytes of one


class Frames:
    """Both directions of one open websocket, from the first byte behind the handshake on.

    `role` is this side's. Only a client slices short frames, for those of a client are masked. `extensions` are those agreed
    on. A message longer than `max_message_bytes`, compressed or not, ends the websocket with code 1009.
    """

    def __init__(
        self, role: ConnectionType, extensions: Iterable[Extension] = (), max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._control = Connection(role)
        extensions = list(extensions)
        self._messages = Connection(role, extensions)
        self._source = self._messages
        self._key_bytes = MASKING_KEY_BYTES if role is ConnectionType.SERVER else 0  # frames to a client have none
        self._longest_slice = min(max_message_bytes, LONGEST_SHORT_FRAME) if role is ConnectionType.CLIENT else -1
        self._max_message_bytes = max_message_bytes
        inflating = (extension for extension in extensions if isinstance(extension, Deflate))
        self._deflate = next(inflating, None) if role is ConnectionType.CLIENT else None
        self._pending = bytearray()
        self._wanted = 0
        self._left = 0
        self._between_messages = True
        self._parts: list[bytes] = []
        self._size = 0
        self._outgoing = bytearray()
        self.ended = False
        """True when both Close frames are seen, or the peer erred or left. Reading is over."""
        self._received_us: int | None = None

    @property
    def closing(self) -> bool:
        """True when this side has sent its Close frame and waits for the other one."""
        return not self.ended and self._control.state is not ConnectionState.OPEN

    def receive(self, data: bytes, received_us: int | None = None) -> list[Fact]:
        """Take one read, and its time. Return the facts that it completes, the last one ever being `Disconnected`.

        A read of `b""` says that the peer closed the TCP connection. Replies are in `to_send`. It must not be
        called once `ended` is true.
        """
        self._received_us = received_us
        if not data:
            self.ended = True
            return [Disconnected(CloseReason.ABNORMAL_CLOSURE.value, "connection lost without a Close frame")]
        if self._pending:
            self._pending += data
            if len(self._pending) < self._wanted:
                return []
            data = bytes(self._pending)
            self._pending.clear()
        facts: list[Fact] = []
        pos = 0
        while not self.ended:
            if self._between_messages and not self._left:
                pos = slice_texts(data, pos, self._longest_slice, received_us, facts)
                if self._deflate is not None and data[pos : pos + 1] == COMPRESSED_TEXT:
                    begin, pos = pos, self._slice_compressed(self._deflate, data, pos, facts)
                    if pos > begin:
                        continue
                if pos == len(data):
                    # Nearly every read: it has whole messages.
                    break
            wanted = self._next_unit(data, pos)
            if len(data) - pos < wanted:
                self._pending += data[pos:]
                self._wanted = wanted
                break
            self._hand_over(data[pos : pos + wanted], facts)
            pos += wanted
        return facts

    def to_send(self) -> bytes:
        """Take the Close frame that has to go out in reply to the peer."""
        if not self._outgoing:
            return b""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def send(self, event: Event) -> bytes:
        """The bytes of a control frame or of an uncompressed message. None once a Close frame went out or came in.

        Raises:
            ValueError: the payload cannot be put into such a frame, or the code is not for a Close frame.
        """
        if self.ended or self.closing:
            return b""
        if isinstance(event, CloseConnection) and not is_close_code(event.code):
            raise ValueError(f"close code {event.code} cannot be sent (RFC 6455 section 7.4)")
        return self._control.send(event)

    def send_compressed(self, text: str) -> bytes:
        """The bytes of a text message, compressed if that was agreed on. None once a Close frame went out or came in."""
        if self.ended or self.closing:
            return b""
        return self._messages.send(TextMessage(data=text))

    def _slice_compressed(self, deflate: Deflate, data: bytes, pos: int, facts: list[Fact]) -> int:
        """Take the run of small, whole, final, compressed text frames at `pos`. Return where it ends."""
        end = len(data)
        while end - pos >= 2 and data[pos] == COMPRESSED_TEXT_FRAME:
            length = data[pos + 1]
            start = pos + 2
            if length == 126:
                start = pos + 4
                if end < start:
                    break
                length = data[pos + 2] << 8 | data[pos + 3]
                if length < 126:
                    break
            elif length > 126:
                break
            stop = start + length
            if stop > end or length > PIECE_BYTES:
                break
            pos = stop
            try:
                payload = deflate.inflate(data[start:stop], self._max_message_bytes)
            except zlib.error:
                self._fail_to_read(facts)
                break
            if payload is None:
                self._fail_of_length(facts)
                break
            if not payload.isascii() and not is_utf8(payload):
                self._fail_to_read(facts)
                break
            facts.append(TextReceived(payload, self._received_us))
        return pos

    def _next_unit(self, data: bytes, pos: int) -> int:
        """Return the bytes that the next unit takes, as far as they are known."""
        if self._left:
            return min(self._left, PIECE_BYTES)
        have = len(data) - pos
        if have < 2:
            return 2
        header, length = self._measure(data, pos)
        if have < header:
            return header
        if data[pos] == TEXT_FRAME and data[pos + 1] < 127 and length <= self._longest_slice:
            return header + length
        if data[pos] == COMPRESSED_TEXT_FRAME and data[pos + 1] < 127 and length <= PIECE_BYTES and self._deflate is not None:
            return header + length
        # One call of wsproto costs less than two, and it looks at the header first anyway.
        at_once = have >= header + length and length <= PIECE_BYTES and self._size + length <= self._max_message_bytes
        return header + length if at_once else header

    def _measure(self, data: bytes, pos: int) -> tuple[int, int]:
        """Return the size of the header, and of the payload, which is meaningless while the header is incomplete."""
        second = data[pos + 1]
        length = second & ~MASK_BIT
        start = pos + 2
        stop = start + LENGTH_BYTES.get(length, 0)
        if stop > start:
            length = int.from_bytes(data[start:stop], "big")
        return stop - pos + (self._key_bytes if second & MASK_BIT else 0), length

    def _hand_over(self, unit: bytes, facts: list[Fact]) -> None:
        """Give one unit to wsproto and take the facts that it makes of it."""
        if self._left:
            self._left -= len(unit)
        else:
            header, length = self._measure(unit, 0)
            self._left = header + length - len(unit)
            self._source = self._control if unit[0] & CONTROL_BIT else self._messages
        self._source.receive_data(unit)
        for event in self._source.events():
            self._digest(event, facts)
        if not self.ended and self._source is self._messages and self._size + self._left > self._max_message_bytes:
            self._fail_of_length(facts)

    def _digest(self, event: Event, facts: list[Fact]) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            self._join(event, facts)
        elif isinstance(event, Ping):
            facts.append(PingReceived(bytes(event.payload)))
        elif isinstance(event, Pong):
            facts.append(PongReceived(bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            if self._control.state is ConnectionState.REMOTE_CLOSING:
                # RFC 6455 section 5.5.1: the answer to a Close frame is a Close frame with its code.
                self._outgoing += self._control.send(CloseConnection(code=event.code))
            if self._control.state is ConnectionState.CLOSED:
                self.ended = True
                facts.append(Disconnected(int(event.code), event.reason or ""))
            elif event.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA:
                # wsproto's own words tell a position that depends on the size of the pieces.
                self._fail_to_read(facts)
            else:
                self._fail(event.code, event.reason or "", facts)

    def _join(self, event: TextMessage | BytesMessage, facts: list[Fact]) -> None:
        """Add a fragment, or a piece of one, to its message."""
        self._between_messages = event.message_finished
        part = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
        if part:
            self._parts.append(part)
            self._size += len(part)
        if event.message_finished and self._size <= self._max_message_bytes:
            facts.append(TextReceived(b"".join(self._parts), self._received_us))
            self._parts.clear()
            self._size = 0

    def _fail_of_length(self, facts: list[Fact]) -> None:
        self._fail(CloseReason.MESSAGE_TOO_BIG, f"message is longer than {self._max_message_bytes} bytes", facts)

    def _fail_to_read(self, facts: list[Fact]) -> None:
        self._fail(CloseReason.INVALID_FRAME_PAYLOAD_DATA, "payload is not valid UTF-8, or not valid deflate data", facts)

    def _fail(self, code: int, reason: str, facts: list[Fact]) -> None:
        """End the websocket for an error of the peer's (RFC 6455 section 7.1.7)."""
        self._outgoing += self.send(CloseConnection(code=code, reason=reason))
        self.ended = True
        facts.append(Disconnected(int(code), reason))


def is_close_code(code: int) -> bool:
    """Return whether a Close frame may have it (RFC 6455 section 7.4)."""
    return 1000 <= code <= 4999 and code not in LOCAL_ONLY_CLOSE_REASONS

"""permessage-deflate (RFC 7692) of received messages, for wsproto and for code that cuts frames without it.

Theory. Nearly every compressed message is one short frame, and to inflate it by zlib alone costs a fraction of wsproto's work.
But a message may refer to earlier ones, taken by either side. So this extension of wsproto inflates for both, from one
window. Negotiation and sending stay wsproto's.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

if TYPE_CHECKING:
    from wsproto.frame_protocol import FrameDecoder, FrameProtocol

__all__ = ["Deflate"]

TAIL = b"\x00\x00\xff\xff"
"""Bytes that the sender has cut off (RFC 7692 section 7.2.1)."""


class Deflate(PerMessageDeflate):
    """The extension of a client, which a server may accept."""

    def __init__(self) -> None:
        super().__init__()
        self._inflater: Any = None
        """zlib's, with the window, or None before the first message, and after each one where they do not share it."""
        self._compressed: bool | None = None
        """True when the message is compressed that wsproto is being given. None between messages."""

    def inflate(self, payload: bytes, most: int) -> bytes | None:
        """Return one whole message inflated, or None when it is longer than `most`.

        Raises:
            zlib.error: it is not deflate data.
        """
        inflater = self._begin()
        text: bytes = inflater.decompress(payload + TAIL, most + 1)
        self._end()
        return text if len(text) <= most else None

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 - wsproto's signature, as below
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,  # noqa: ARG002
    ) -> CloseReason | RsvBits:
        """Take a header from wsproto."""
        if rsv.rsv1 and (opcode.iscontrol() or opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR
        if self._compressed is None and not opcode.iscontrol():
            self._compressed = rsv.rsv1
        return RsvBits(True, False, False)  # noqa: FBT003 - the three bits are what it is made of

    def frame_inbound_payload_data(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        data: bytes,
    ) -> bytes | CloseReason:
        """Take a part of a payload from wsproto."""
        return self._inflated(data) if self._compressed else data

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002
        fin: bool,  # noqa: FBT001
    ) -> bytes | CloseReason | None:
        """Take the end of a frame from wsproto."""
        if not fin:
            return None
        compressed, self._compressed = self._compressed, None
        if not compressed:
            return None
        rest = self._inflated(TAIL)
        self._end()
        return rest

    def _inflated(self, data: bytes) -> bytes | CloseReason:
        try:
            found: bytes = self._begin().decompress(bytes(data))
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return found

    def _begin(self) -> Any:
        if self._inflater is None:
            self._inflater = zlib.decompressobj(-self.server_max_window_bits)
        return self._inflater

    def _end(self) -> None:
        # A sender may end its deflate stream with a message (RFC 7692 section 7.2.3.4): zlib would return no data for the next one.
        if self.server_no_context_takeover or self._begin().eof:
            self._inflater = None

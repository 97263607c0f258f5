"""The check that aiohttp leaves out: a server does not mask its frames (RFC 6455 section 5.1)."""

from __future__ import annotations

from typing import Any

from backpack_runtime.extras import MissingExtra
from backpack_runtime.framing.frames import LENGTH_BYTES, MASK_BIT

try:
    from aiohttp import WebSocketError, WSCloseCode
    from aiohttp.client_proto import ResponseHandler
except ImportError as missing:
    raise MissingExtra("the aiohttp runtime", "aiohttp", missing) from missing

__all__ = ["StrictHandler", "Unmasked"]

LONGEST_IN_HEADER = 125


class StrictHandler(ResponseHandler):
    """A connection whose websocket ends with code 1002 at the first masked frame."""

    def set_parser(self, parser: Any, payload: Any, *args: Any, **options: Any) -> None:
        """Read frames from here on."""
        super().set_parser(Unmasked(parser, payload), payload, *args, **options)


class Unmasked:
    """A parser of frames that hands all up to the first masked frame to another one, and the error after that."""

    def __init__(self, parser: Any, payload: Any) -> None:
        self._parser = parser
        self._payload = payload
        self._head = b""
        """The beginning of a header that is incomplete."""
        self._left = 0
        """Bytes of a payload that are still to come."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what was read; true says that the other side erred."""
        masked = self._find_masked(data)
        if masked is None:
            ended: tuple[bool, bytes] = self._parser.feed_data(data)
            return ended
        if masked:
            self._parser.feed_data(data[:masked])
        self._payload.set_exception(WebSocketError(WSCloseCode.PROTOCOL_ERROR, "client received unexpected masked frame"))
        return True, b""

    def _find_masked(self, data: bytes) -> int | None:
        """Return where in these bytes a masked frame begins; None if none does."""
        before = len(self._head)
        if before:
            data, self._head = self._head + data, b""
        pos, end = self._left, len(data)
        while end - pos >= 2:
            length = data[pos + 1]
            if length & MASK_BIT:
                return max(pos - before, 0)
            start = pos + 2
            if length > LONGEST_IN_HEADER:
                start += LENGTH_BYTES[length]
                if start > end:
                    break
                length = int.from_bytes(data[pos + 2 : start])
            pos = start + length
        self._left = max(pos - end, 0)
        self._head = data[pos:]
        return None

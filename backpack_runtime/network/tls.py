"""TLS over any byte stream, fast where an exchange writes one record for each message.

The stream of the standard wrappers returns one record per read. Here every record that a read of the socket completed is
decrypted at once, so a burst of small records costs one wake-up.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, NoReturn, Self

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSAttribute

__all__ = ["TlsStream"]

READ_BYTES = 256 * 1024


class TlsStream(ByteStream):
    """The client's side of one TLS connection. One task may read while another one writes."""

    def __init__(self, stream: ByteStream, context: ssl.SSLContext, host: str) -> None:
        self.beneath = stream
        """The connection that carries the records."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._sending = anyio.Lock()
        self.ended = False
        """True when the other side has ended its data."""

    @classmethod
    async def connect(cls, stream: ByteStream, context: ssl.SSLContext, host: str) -> Self:
        """Do the handshake and check the certificate against `host`.

        Raises:
            ssl.SSLError: the handshake failed, or the certificate is not to be trusted.
            OSError, anyio.EndOfStream, anyio.BrokenResourceError: the connection broke.
        """
        self = cls(stream, context, host)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                self._incoming.write(await stream.receive(READ_BYTES))
            except ssl.SSLError:
                # The alert that tells the other side why is worth one try, not an error of its own.
                with anyio.move_on_after(1):
                    await self.flush()
                raise
            else:
                await self.flush()
                return self

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the connection beneath, such as its socket, and what was agreed on in the handshake."""
        return {
            **self.beneath.extra_attributes,
            TLSAttribute.tls_version: self._tls.version,
            TLSAttribute.cipher: self._tls.cipher,
            TLSAttribute.peer_certificate: self._tls.getpeercert,
        }

    async def receive(self, max_bytes: int = READ_BYTES) -> bytes:
        """All that can be decrypted, at least one byte. About `max_bytes` at most.

        Raises:
            anyio.EndOfStream: the other side ended the connection, with or without a closing alert.
            anyio.BrokenResourceError, ssl.SSLError: it broke.
        """
        while True:
            data = self._decrypted(max_bytes)
            await self.flush()
            if data:
                return data
            if self.ended:
                raise anyio.EndOfStream
            try:
                self._incoming.write(await self.beneath.receive(max_bytes))
            except anyio.EndOfStream:
                self._incoming.write_eof()

    def decrypt(self, data: bytes) -> bytes:
        """Take a read of the connection beneath, and return all that can be decrypted: `receive` without the read.

        Raises:
            ssl.SSLError: the data are not TLS.
        """
        self._incoming.write(data)
        return self._decrypted(inf)

    @property
    def unsent(self) -> bool:
        """True when there is something to `flush`: keys change, and handshakes are answered."""
        return self._outgoing.pending > 0

    async def send(self, item: bytes) -> None:
        """Encrypt and send."""
        self._tls.write(item)
        await self.flush()

    async def flush(self) -> None:
        """Send encrypted bytes."""
        if not self.unsent:
            return
        # Records must leave in the order they were made.
        async with self._sending:
            if self.unsent:
                await self.beneath.send(self._outgoing.read())

    async def send_eof(self) -> NoReturn:
        """TLS cannot close one direction alone."""
        raise NotImplementedError("TLS cannot close one direction alone")

    async def aclose(self) -> None:
        """Close the connection beneath."""
        await self.beneath.aclose()

    def _decrypted(self, max_bytes: float) -> bytes:
        """All that can be decrypted now. Whether it is the last is said by `ended`.

        Raises:
            ssl.SSLError: the data are not TLS.
        """
        chunks: list[bytes] = []
        size = 0
        try:
            while size < max_bytes and not self.ended:
                chunk = self._tls.read(READ_BYTES)
                # Nothing is the closing alert, whether or not the other side closes the connection beneath as well.
                self.ended = not chunk
                chunks.append(chunk)
                size += len(chunk)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

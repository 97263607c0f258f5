"""The bytes of a recording, as lines: plain, gzip or zstandard, known by their content. A byte order mark is left out."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final, Protocol

import zstandard

from .errors import RecordingUnreadable

__all__ = ["chunks_of", "lines_of", "plain_chunks"]

_CHUNK: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"
_ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"
_LONGEST_MARK: Final = 4
_BOM: Final = b"\xef\xbb\xbf"
_WITH_GZIP_HEADER: Final = 31


class _Inflater(Protocol):
    @property
    def unused_data(self) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def chunks_of(file: BinaryIO, read: Callable[[int], object] = lambda _: None) -> Iterator[bytes]:
    """Return the content of a file as it comes, so that a pipe is followed. `read` is called with the size of each chunk."""
    read_some: Callable[[int], bytes] = getattr(file, "read1", file.read)
    while chunk := read_some(_CHUNK):
        read(len(chunk))
        yield chunk


def plain_chunks(chunks: Iterable[bytes], torn: Callable[[], object] = lambda: None) -> Iterator[bytes]:
    """Return the content without compression and byte order mark. `torn` is called where compressed data end too early.

    Raises:
        RecordingUnreadable: compressed data are damaged.
    """
    following = iter(chunks)
    start = b""
    for chunk in following:
        start += chunk
        if len(start) >= _LONGEST_MARK:
            break
    if start.startswith(_GZIP):
        plain = _inflated(start, following, lambda: zlib.decompressobj(_WITH_GZIP_HEADER), torn)
    elif start.startswith(_ZSTANDARD):
        plain = _inflated(start, following, lambda: zstandard.ZstdDecompressor().decompressobj(), torn)
    else:
        plain = _and_then(start, following)
    return _without_mark(plain)


def _and_then(start: bytes, following: Iterator[bytes]) -> Iterator[bytes]:
    if start:
        yield start
    yield from following


def _inflated(
    start: bytes, following: Iterator[bytes], make: Callable[[], _Inflater], torn: Callable[[], object]
) -> Iterator[bytes]:
    """Return the content of one or several compressed streams, one behind the other."""
    inflater = make()
    used = False
    for chunk in _and_then(start, following):
        rest = chunk
        while rest:
            if inflater.eof:
                inflater, used = make(), False
            try:
                plain = inflater.decompress(rest)
            except (zlib.error, zstandard.ZstdError) as error:
                raise RecordingUnreadable(f"the compressed data are damaged: {error}") from None
            used = True
            rest = inflater.unused_data if inflater.eof else b""
            if plain:
                yield plain
    if used and not inflater.eof:
        torn()


def _without_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    start: bytes | None = b""
    for chunk in chunks:
        if start is None:
            yield chunk
            continue
        start += chunk
        if len(start) >= len(_BOM) or not _BOM.startswith(start):
            yield start.removeprefix(_BOM)
            start = None
    if start:
        yield start


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Return lines with their ends, which the last one may lack."""
    kept: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        if not others:
            kept.append(first)
            continue
        yield b"".join([*kept, first, b"\n"])
        for line in others[:-1]:
            yield line + b"\n"
        kept = [others[-1]]
    if rest := b"".join(kept):
        yield rest

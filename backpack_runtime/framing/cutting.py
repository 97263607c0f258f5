"""The common frames of a busy connection, cut out of a read.

`_cutting` is the same in C, where there is a compiler to build it (docs/kernels.md): this module is the reference, and runs everywhere.
"""

from __future__ import annotations

from backpack_proto.inputs import Fact, TextReceived

__all__ = ["TEXT_FRAME", "is_utf8", "slice_texts"]

TEXT_FRAME = 0x81  # final, no reserved bit, opcode text (RFC 6455 section 5.2)


def slice_texts(data: bytes, pos: int, longest: int, received_us: int | None, facts: list[Fact]) -> int:
    """Take the run of short, whole, final, unmasked text frames at `pos`, of at most `longest` bytes each. Return where it ends."""
    add = facts.append
    end = len(data)
    while end - pos >= 2 and data[pos] == TEXT_FRAME:
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
        if stop > end or length > longest:
            break
        payload = data[start:stop]
        if not payload.isascii() and not is_utf8(payload):
            break
        add(TextReceived(payload, received_us))
        pos = stop
    return pos


def is_utf8(payload: bytes) -> bool:
    """Return whether it is text, as a text message has to be."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True

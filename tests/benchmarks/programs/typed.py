"""Types of the frames for clients that are none of ours."""

from __future__ import annotations

import msgspec

__all__ = ["BookTicker", "Depth", "Trade", "decode"]

Levels = tuple[tuple[str, str], ...]


class Depth(msgspec.Struct, gc=False, tag_field="e", tag="depth"):
    E: int
    T: int
    U: int
    a: Levels
    b: Levels
    s: str
    u: int


class Trade(msgspec.Struct, gc=False, tag_field="e", tag="trade"):
    E: int
    T: int
    a: str
    b: str
    m: bool
    p: str
    q: str
    s: str
    t: int


class BookTicker(msgspec.Struct, gc=False, tag_field="e", tag="bookTicker"):
    A: str
    B: str
    E: int
    T: int
    a: str
    b: str
    s: str
    u: str


class Message(msgspec.Struct, gc=False):
    data: Depth | Trade | BookTicker
    stream: str


decode = msgspec.json.Decoder(Message).decode

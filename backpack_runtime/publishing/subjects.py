"""Subjects: where the events of a market are published (docs/scale-out.md).

A subject is `backpack.<schema>.<group>.<channel>.<name>`, five tokens. The group is `feed` or `last`, by the stream that holds it. The name is
a symbol, or that of a publisher. NATS parts tokens at dots and gives a meaning to `*`, `>` and blanks, so every byte that is no letter, digit,
`_` or `-` is `=` and two hexadecimal digits: `AAPL.US_USDC_PERP` is `AAPL=2EUS_USDC_PERP`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from backpack_proto.encoding import SCHEMA
from backpack_proto.errors import LocalProtocolError
from backpack_proto.streams.channels import Channel

__all__ = [
    "BOOK",
    "DEPTH",
    "FEED_CHANNELS",
    "FEED_SUBJECTS",
    "LAST_SUBJECTS",
    "PLAN",
    "STATE",
    "TRADE",
    "decode_token",
    "encode_token",
    "name_of",
    "subject_of",
    "subjects_of",
]

DEPTH: Final = Channel.DEPTH.value
TRADE: Final = Channel.TRADE.value
BOOK: Final = "book"
"""Whole books, from which the changes of `depth` go on."""
STATE: Final = "state"
"""Words of publishers about themselves, their connections and their books."""
PLAN: Final = "plan"
"""The plan that gives each process its markets."""

FEED_CHANNELS: Final = (DEPTH, BOOK, TRADE, STATE)
"""Channels whose messages are kept, each once. Of all others the latest one counts."""
FEED_SUBJECTS: Final = f"backpack.{SCHEMA}.feed.*.*"
LAST_SUBJECTS: Final = f"backpack.{SCHEMA}.last.*.*"

_SAFE: Final = re.compile(rb"[A-Za-z0-9_-]")
_ESCAPED: Final = re.compile(rb"=([0-9A-F]{2})")
_PREFIX: Final = f"backpack.{SCHEMA}"


@lru_cache(maxsize=4096)
def encode_token(name: str) -> str:
    """Return a name as one token of a subject.

    Raises:
        LocalProtocolError: the name is empty.
    """
    if not name:
        raise LocalProtocolError("name: a token of a subject cannot be empty")
    data = name.encode()
    return "".join(chr(byte) if _SAFE.match(bytes([byte])) else f"={byte:02X}" for byte in data)


@lru_cache(maxsize=4096)
def decode_token(token: str) -> str:
    """Return the name that a token was made of.

    Raises:
        LocalProtocolError: `encode_token` makes no such token.
    """
    try:
        name = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), token.encode()).decode()
    except UnicodeError:
        name = ""
    if not name or encode_token(name) != token:
        raise LocalProtocolError(f"token: {token!r} is no token of a subject")
    return name


def subject_of(channel: str, name: str = "") -> str:
    """Return the subject of a channel and a name. Without a name it is the pattern of all names."""
    group = "feed" if channel in FEED_CHANNELS else "last"
    return f"{_PREFIX}.{group}.{channel}.{encode_token(name) if name else '*'}"


def subjects_of(name: str) -> tuple[str, str]:
    """Return the patterns of all channels of a name, one of each group. An empty name stands for all names."""
    token = encode_token(name) if name else "*"
    return f"{_PREFIX}.feed.*.{token}", f"{_PREFIX}.last.*.{token}"


def name_of(subject: str) -> tuple[str, str]:
    """Return channel and name of a subject.

    Raises:
        LocalProtocolError: it is no subject of this schema.
    """
    match subject.split("."):
        case [product, schema, "feed" | "last", channel, token] if f"{product}.{schema}" == _PREFIX:
            return channel, decode_token(token)
        case _:
            raise LocalProtocolError(f"subject: {subject!r} is not of schema {SCHEMA}")

"""The lines of a recording: a header, one line for each batch of inputs, and an end (docs/recording.md).

A line is one JSON object. Bytes are text where they are UTF-8, byte for byte. Else the member's name ends in `_base64`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final

import msgspec
from msgspec import Struct

from backpack_proto import inputs as of_sessions
from backpack_proto.errors import BackpackError
from backpack_proto.inputs import Call, Given, ResponseReceived, TextReceived
from backpack_proto.machine import Now
from backpack_runtime.network.proxy import ProxyError

from .redaction import KEPT_HEADERS, redacted_body, redacted_value
from .source import SessionOptions, SignerShape

__all__ = [
    "FORMAT",
    "VERSION",
    "Header",
    "PartHeader",
    "RandomState",
    "Row",
    "decode_input",
    "encode_batch",
    "encode_refused",
    "encode_row",
    "read_row",
]

FORMAT: Final = "backpack-feed recording"
VERSION: Final = 1
_BASE64: Final = "_base64"
_KINDS: Final[Mapping[str, type[Given]]] = {
    name: kind
    for name in of_sessions.__all__
    if isinstance(kind := getattr(of_sessions, name), type) and issubclass(kind, Given) and kind.__subclasses__() == []
}


class RandomState(Struct, frozen=True, array_like=True):
    """The state of a generator of random numbers, as `Random.getstate` has it."""

    version: int
    words: tuple[int, ...]
    gauss: float | None

    @classmethod
    def of(cls, random: Random) -> RandomState:
        """Return the state of a generator."""
        return cls(*random.getstate())

    def random(self) -> Random:
        """Make a generator that goes on from this state."""
        made = Random()  # noqa: S311 - jitter is no secret
        made.setstate((self.version, self.words, self.gauss))
        return made


class Header(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line of a recording: the settings of the session, and information for readers."""

    format: str
    version: int
    product: str
    """The version of this project that recorded."""
    part: int
    """1."""
    started_us: int
    """Wall clock, microseconds since the epoch."""
    python: str
    kernels: str
    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    redacted: tuple[str, ...]
    """The names of members whose text was replaced."""
    session: SessionOptions
    signer: SignerShape | None = None
    random: RandomState


class PartHeader(Struct, frozen=True, kw_only=True):
    """The first line of each later part, with which the parts prove to belong together."""

    format: str
    version: int
    part: int
    batches: int
    """So many are in the parts before."""
    events: int
    digest: str


class Row(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Any other line: a batch, an input that the session refused, or the end."""

    mono_us: int
    unix_us: int
    inputs: list[dict[str, Any]] | None = None
    digest: str | None = None
    """Digest of all events so far. The end has all of it, other lines its beginning."""
    refused: dict[str, Any] | None = None
    """It left no trace in the session, and is not replayed."""
    end: str | None = None
    """Why the recording ends. Only the last line of one that was closed in order has it."""
    batches: int | None = None
    events: int | None = None


class _Text(Struct, frozen=True, tag_field="type", tag="TextReceived", omit_defaults=True, gc=False):
    """A frame, made without a dictionary, for nearly every input is one."""

    data: str
    received_us: int | None = None


class _Batch(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A `Row` that is being written."""

    mono_us: int
    unix_us: int
    inputs: list[_Text | dict[str, Any]]
    digest: str | None = None


_encode = msgspec.json.Encoder().encode
read_row = msgspec.json.Decoder(Row).decode
"""Reads one line, or raises `msgspec.DecodeError`."""


def encode_row(row: Struct) -> bytes:
    """Return a header or a row as a line."""
    return _encode(row) + b"\n"


def encode_batch(batch: Sequence[Given], now: Now, digest: str | None, *, private: bool = False) -> bytes:
    """Return a batch as a line. With `private` it has answers to signed requests, which may hold secrets."""
    given: list[_Text | dict[str, Any]] = []
    for one in batch:
        if type(one) is TextReceived:
            try:
                given.append(_Text(one.data.decode(), one.received_us))
                continue
            except UnicodeDecodeError:
                pass  # such a frame is written as any other bytes are
        given.append(_encode_input(one, private=private))
    return _encode(_Batch(mono_us=now.mono_us, unix_us=now.unix_us, inputs=given, digest=digest)) + b"\n"


def encode_refused(given: Given, error: BackpackError, now: Now) -> bytes:
    """Return a line for a command that was refused, without its members: a secret may stand in the wrong place."""
    refused = {"type": type(given).__name__, "error": type(error).__name__}
    return encode_row(Row(mono_us=now.mono_us, unix_us=now.unix_us, refused=refused))


def _encode_input(given: Given, *, private: bool) -> dict[str, Any]:
    members: dict[str, Any] = {"type": type(given).__name__}
    for name in given.__struct_fields__:
        value = getattr(given, name)
        if value is None:
            continue
        if isinstance(given, Call) and name == "parameters":
            value = redacted_value(value)
        elif isinstance(given, ResponseReceived) and name == "headers":
            value = [(key, text) for key, text in value if key.casefold() in KEPT_HEADERS]
        elif isinstance(value, bytes):
            if private and isinstance(given, ResponseReceived):
                value = redacted_body(value)
            try:
                value = value.decode()
            except UnicodeDecodeError:
                name, value = name + _BASE64, b64encode(value).decode()  # noqa: PLW2901 - the name says the form
        members[name] = value
    return members


def decode_input(members: dict[str, Any]) -> Given:
    """Return the input that was written.

    Raises:
        ValueError: it is not an input.
    """
    kind = _KINDS.get(members.get("type", ""))
    if kind is None:
        raise ValueError(f"not a known input: {members.get('type')!r}")
    if kind is TextReceived and "data" in members:
        # Nearly every one of them.
        return TextReceived(members["data"].encode(), members.get("received_us"))
    values = {name: value for name, value in members.items() if name != "type"}
    for name in [name for name in values if name.endswith(_BASE64)]:
        values[name.removesuffix(_BASE64)] = b64decode(values.pop(name))
    for field in msgspec.structs.fields(kind):
        value = values.get(field.name)
        if field.type is bytes and isinstance(value, str):
            values[field.name] = value.encode()
        elif field.name == "error" and value is not None:
            values["error"] = _decode_error(value)
    try:
        return kind(**{name: _as_tuple(value) for name, value in values.items()})
    except (TypeError, BackpackError) as wrong:
        raise ValueError(f"not a {kind.__name__}: {wrong}") from None


def _as_tuple(value: Any) -> Any:
    """Give lists the form that they had. Members of parameters stay as they are."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _decode_error(members: Any) -> BackpackError:
    is_proxy = isinstance(members, dict) and str(members.get("error", "")).startswith("Proxy")
    kind: type[BackpackError] = ProxyError if is_proxy else BackpackError
    try:
        return msgspec.convert(members, kind)
    except msgspec.ValidationError:
        # Of a transport of somebody else, whose classes are not loaded here.
        return BackpackError(str(members.get("text", "")) if isinstance(members, dict) else "")

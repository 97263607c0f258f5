"""Data of streams that are not in the table of channels: handed on as they came.

The exchange gets new kinds of streams before this project has types for them (docs/concepts.md, "Streams without a type").
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from backpack_proto.decoding import sane
from backpack_proto.errors import RemoteProtocolError
from backpack_proto.text import printable

from .payloads import Event

__all__ = ["UnknownPayload", "emission_of"]

_EARLIEST_US: Final = 10**15
_LATEST_US: Final = 10**16
"""The years 2001 and 2286, in microseconds. A time in another unit lies far outside."""


class UnknownPayload(Event, frozen=True, gc=False, kw_only=True):
    """Data of a stream of a kind that `Channel` does not have, as they came."""

    stream: str
    text: str
    """The whole frame, a JSON object with `stream` and `data`."""
    emitted_us: int | None = None
    """When the exchange's websocket server sent the frame, or None where its data have no `E` in microseconds since the epoch."""
    received_us: int | None = None
    """When this machine read the frame from the socket, by its own clock, in microseconds since the epoch."""

    def data(self) -> Any:
        """Return the `data` of the frame as Python values. A number is an `int`, or a `Decimal` with all its digits.

        Raises:
            RemoteProtocolError: a number is absurd, such as 1e999999.
        """
        try:
            return _decode(self.text).data
        except (ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"{printable(self.stream)}: {printable(str(error))}") from None


class _Frame(Struct, frozen=True, gc=False):
    data: Any = None


class _Stamped(Struct, frozen=True, gc=False):
    emitted_us: int | None = field(name="E", default=None)


class _StampedFrame(Struct, frozen=True, gc=False):
    data: _Stamped


def _exact(digits: str) -> Decimal:
    number = Decimal(digits)
    if not sane(number):
        raise ValueError(f"not a usable number: {digits[:40]}")
    return number


_decode = msgspec.json.Decoder(_Frame, float_hook=_exact).decode
_decode_stamp = msgspec.json.Decoder(_StampedFrame, strict=False).decode


def emission_of(text: bytes) -> int | None:
    """Return when a frame was emitted, if it says so as all streams do that we know: microseconds in `E` of its data."""
    try:
        emitted_us = _decode_stamp(text).data.emitted_us
    except (ValueError, RecursionError):
        return None
    return emitted_us if emitted_us is not None and _EARLIEST_US <= emitted_us < _LATEST_US else None

"""cryptofeed's objects of market data, whose `raw` is decoded when somebody reads it: few do, and it costs more than the object."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cryptofeed.types
import msgspec

__all__ = [
    "Candle",
    "Funding",
    "Index",
    "L1Book",
    "Liquidation",
    "OpenInterest",
    "Raw",
    "RawOnDemand",
    "Ticker",
    "Trade",
    "raw_of",
]

Raw = dict[str, Any]


def raw_of(frame: bytes | None) -> Raw:
    """Return the payload of a frame as plain values; empty for what came with no frame of its own."""
    found = msgspec.json.decode(frame) if frame is not None else None
    payload = found.get("data") if isinstance(found, dict) else None
    return payload if isinstance(payload, dict) else {}


class RawOnDemand:
    """Has the frame that it was read from, where there is one."""

    frame: bytes | None = None

    @cached_property
    def raw(self) -> Any:
        """The payload as it came, or what was given for it."""
        return super().raw if self.frame is None else raw_of(self.frame)  # type: ignore[misc]  # cryptofeed's types have it


class Trade(RawOnDemand, cryptofeed.types.Trade):
    """A trade."""


class Ticker(RawOnDemand, cryptofeed.types.Ticker):
    """Best bid and ask."""


class L1Book(RawOnDemand, cryptofeed.types.L1Book):
    """Best bid and ask with their quantities."""


class Candle(RawOnDemand, cryptofeed.types.Candle):
    """A candle."""


class Funding(RawOnDemand, cryptofeed.types.Funding):
    """Mark price and funding rate."""


class Index(RawOnDemand, cryptofeed.types.Index):
    """An index price."""


class OpenInterest(RawOnDemand, cryptofeed.types.OpenInterest):
    """Open contracts."""


class Liquidation(RawOnDemand, cryptofeed.types.Liquidation):
    """A forced order."""

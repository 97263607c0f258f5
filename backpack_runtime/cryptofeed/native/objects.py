"""cryptofeed's objects of market data, whose `raw` is decoded when somebody reads it: few do, and it costs more than the object."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cryptofeed.types
import msgspec

__all__ = [
    "CandleObject",
    "FundingObject",
    "IndexObject",
    "L1BookObject",
    "LiquidationObject",
    "OpenInterestObject",
    "Raw",
    "RawOnDemand",
    "TickerObject",
    "TradeObject",
    "raw_of",
]

Raw = dict[str, Any]


def raw_of(frame: bytes | None) -> Raw:
    """Return the payload of a frame as plain values, or empty for a change without a frame of its own."""
    found = msgspec.json.decode(frame) if frame is not None else None
    payload = found.get("data") if isinstance(found, dict) else None
    return payload if isinstance(payload, dict) else {}


class RawOnDemand:
    """Has the frame that it was read from, where there is one."""

    frame: bytes | None = None

    @cached_property
    def raw(self) -> Any:
        """The payload as it came, or the value set in its place."""
        return super().raw if self.frame is None else raw_of(self.frame)  # type: ignore[misc]  # cryptofeed's types have it


class TradeObject(RawOnDemand, cryptofeed.types.Trade):
    """A trade."""


class TickerObject(RawOnDemand, cryptofeed.types.Ticker):
    """Best bid and ask."""


class L1BookObject(RawOnDemand, cryptofeed.types.L1Book):
    """Best bid and ask with their quantities."""


class CandleObject(RawOnDemand, cryptofeed.types.Candle):
    """A candle."""


class FundingObject(RawOnDemand, cryptofeed.types.Funding):
    """Mark price and funding rate."""


class IndexObject(RawOnDemand, cryptofeed.types.Index):
    """An index price."""


class OpenInterestObject(RawOnDemand, cryptofeed.types.OpenInterest):
    """Open contracts."""


class LiquidationObject(RawOnDemand, cryptofeed.types.Liquidation):
    """A forced order."""

"""List of markets, as the exchange sends it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

__all__ = ["list_of_markets"]


def list_of_markets(symbols: Iterable[str]) -> bytes:
    """Return the response to `GET /api/v1/markets`."""
    return json.dumps([_market(symbol) for symbol in symbols], separators=(",", ":")).encode()


def _market(symbol: str) -> dict[str, Any]:
    base, _, quote = symbol.partition("_")
    price = {
        "borrowEntryFeeMaxMultiplier": "1.01",
        "borrowEntryFeeMinMultiplier": "0.99",
        "maxImpactMultiplier": "1.01",
        "maxMultiplier": "2",
        "maxPrice": None,
        "meanMarkPriceBand": {"maxMultiplier": "1.03", "minMultiplier": "0.97"},
        "meanPremiumBand": None,
        "minImpactMultiplier": "0.99",
        "minMultiplier": "0.25",
        "minPrice": "0.01",
        "tickSize": "0.01",
    }
    return {
        "baseSymbol": base,
        "createdAt": "2025-01-21T06:34:54.691858",
        "filters": {"price": price, "quantity": {"maxQuantity": None, "minQuantity": "0.001", "stepSize": "0.001"}},
        "fundingInterval": None,
        "fundingRateLowerBound": None,
        "fundingRateUpperBound": None,
        "imfFunction": None,
        "marketType": "SPOT",
        "mmfFunction": None,
        "openInterestLimit": "0",
        "orderBookState": "Open",
        "quoteSymbol": quote,
        "symbol": symbol,
        "visible": True,
    }

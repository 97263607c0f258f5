"""Public REST routes with plain data: right in shape, of one loan market, one prediction and one vault, and the same whenever asked.

Nothing else in the exchange depends on them (docs/sandbox.md says which they are). Only times move: they are those of the engine.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Final

import msgspec

from backpack_proto.errors import ApiError
from backpack_proto.exchange.stream.frames import iso_time, iso_time_ms

from .answers import Answer
from .query import Query

__all__ = ["ADDRESSES", "PLAIN_ROUTES", "VAULT_ASSET", "VAULT_ID", "VAULT_STEP", "VAULT_TOKEN"]

VAULT_ID: Final = 1
VAULT_ASSET: Final = "USDC"
"""Assets of the vault."""
VAULT_TOKEN: Final = "vUSDC"  # noqa: S105 - the name of an asset
VAULT_STEP: Final = "0.01"
ADDRESSES: Final = {
    "Arbitrum": "0x00000000000000000000000000000000005a4d01",
    "Base": "0x00000000000000000000000000000000005a4d02",
    "Bitcoin": "bc1qsandboxsandboxsandboxsandboxsandbox0000",
    "Ethereum": "0x00000000000000000000000000000000005a4d03",
    "Polygon": "0x00000000000000000000000000000000005a4d04",
    "Solana": "5andboxSandboxSandboxSandboxSandboxSandbox11",
}
"""Addresses without keys, by blockchain."""

_RATES: Final = {"USDC": ("1", "0.0612", "0.0455"), "SOL": ("99.12", "0.0431", "0.0304"), "BTC": ("86650", "0.0118", "0.0062")}
"""Price, and yearly rates of borrowing and lending, by asset."""
_FUNCTION: Final = {"type": "sqrt", "base": "0.02", "factor": "0.0001"}
_POOL_ROWS: Final = {"1d": (24, 3_600), "1w": (28, 21_600), "1month": (30, 86_400), "1year": (52, 604_800)}
"""Number of rows of a history, and seconds between them, by its length."""
_TAG: Final = {"slug": "sandbox", "title": "Sandbox"}
_QUESTION: Final = "SANDBOX1D_USDC_PREDICTION"
_decode_borrow = msgspec.json.Decoder(dict[str, str | bool | None]).decode


def _collateral(_query: Query, _us: int) -> Answer:
    identity: dict[str, str] = {"type": "identity"}
    curved = {"type": "inverseSqrt", "base": "0.9", "positiveCurvePenalty": "0.0001"}
    return [
        {
            "haircutFunction": {"kind": identity if asset == "USDC" else curved, "weight": "1" if asset == "USDC" else "0.9"},
            "imfFunction": _FUNCTION,
            "mmfFunction": {**_FUNCTION, "base": "0.0125"},
            "symbol": asset,
        }
        for asset in _RATES
    ]


def _pool(asset: str) -> dict[str, object]:
    _, borrow, lend = _RATES[asset]
    return {
        "borrowInterestRate": borrow,
        "borrowedQuantity": "700000",
        "lendInterestRate": lend,
        "lentQuantity": "1000000",
        "utilization": "0.7",
    }


def _lending_markets(_query: Query, us: int) -> Answer:
    return [
        {
            **_pool(asset),
            "assetMarkPrice": price,
            "fee": "0.1",
            "maxUtilization": "0.95",
            "openBorrowLendLimit": "50000000",
            "optimalUtilization": "0.8",
            "state": "Open",
            "stepSize": "0.01",
            "symbol": asset,
            "throttleUpdateFraction": "0.1",
            "throttleUtilizationBound": "0.98",
            "throttleUtilizationThreshold": "0.85",
            "timestamp": iso_time(us // 1_000_000),
        }
        for asset, (price, _, _) in _RATES.items()
    ]


def _times(query: Query, us: int) -> list[str]:
    count, step_s = _POOL_ROWS[query.choice("interval", "BorrowLendMarketHistoryInterval", _POOL_ROWS)]
    newest_s = us // 1_000_000 // step_s * step_s
    return [iso_time(newest_s - step_s * number) for number in reversed(range(count))]


def _lending_history(query: Query, us: int) -> Answer:
    times = _times(query, us)
    asset = query.optional("symbol")
    return [{**_pool(known), "timestamp": moment} for known in _RATES if asset in {None, known} for moment in times]


def _apy(_query: Query, _us: int) -> Answer:
    return {
        "borrowLend": [{"borrowRate": rates[1], "lendRate": rates[2], "symbol": asset} for asset, rates in _RATES.items()],
        "staking": [{"dilutionFactor": "1", "stakingRate": "0.067", "symbol": "SOL"}],
    }


def _liquidation_price(query: Query, _us: int) -> Answer:
    text = query.required("borrow")
    try:
        asset = _decode_borrow(b64decode(text, validate=True)).get("symbol")
    except (ValueError, RecursionError):
        asset = None
    if not isinstance(asset, str) or asset not in _RATES:
        raise ApiError(
            status=400,
            code="INVALID_CLIENT_REQUEST",
            message="borrow is JSON in base64 with the symbol of an asset that can be borrowed",
            endpoint=f"GET {query.path}",
        )
    return {"liquidationPrice": "0", "markPrice": _RATES[asset][0]}


def _predictions(query: Query, us: int) -> Answer:
    wanted = {"symbol": _QUESTION, "tagSlug": "sandbox", "eventSlug": "sandbox-stays-up", "seriesSlug": "sandbox-daily"}
    asked = {name: query.optional(name) for name in wanted}
    if query.optional("resolved") == "true" or any(asked[name] not in {None, value} for name, value in wanted.items()):
        return []
    start_ms = us // 1_000 // 86_400_000 * 86_400_000
    return [
        {
            "description": "A question with an answer that is known: there is no market on it.",
            "imgUrl": None,
            "predictionMarkets": [
                {
                    "activePrice": "0.97",
                    "groupLabel": None,
                    "imgUrl": None,
                    "marketSymbol": _QUESTION,
                    "noOutcomeLabel": "No",
                    "proposedResolution": None,
                    "proposedResolutionAt": None,
                    "question": "Will the sandbox stay up today?",
                    "quoteVolume": "0",
                    "quoteVolumeLifetime": "0",
                    "resolutionCondition": None,
                    "resolutionDelaySecs": 3_600,
                    "resolutionPrice": None,
                    "resolvedAt": None,
                    "rules": "It stays up until it is stopped.",
                    "yesOutcomeLabel": "Yes",
                }
            ],
            "quoteVolume": "0",
            "resolution": {
                "closePrice": None,
                "endDate": iso_time_ms(start_ms + 86_400_000),
                "outcome": None,
                "resolutionSource": None,
                "resolutionSourceEventIdentifier": None,
                "resolved": False,
                "startDate": iso_time_ms(start_ms),
                "strikePrice": None,
            },
            "resolutionDelaySecs": 3_600,
            "resolved": False,
            "series": [{"recurrence": "daily", "slug": "sandbox-daily", "title": "Daily"}],
            "slug": "sandbox-stays-up",
            "tags": [_TAG],
            "title": "The sandbox stays up",
        }
    ]


def _vaults(_query: Query, _us: int) -> Answer:
    return [
        {
            "id": VAULT_ID,
            "minMintQuantity": "1",
            "minRedeemTokens": "1",
            "mintsEnabled": True,
            "redeemDelayMs": 60_000,
            "redeemsEnabled": True,
            "remainingMintQuantity": None,
            "symbol": VAULT_ASSET,
            "tokenStepSize": VAULT_STEP,
            "vaultToken": VAULT_TOKEN,
        }
    ]


def _vault_history(query: Query, us: int) -> Answer:
    times = _times(query, us)
    if query.optional("vaultId") not in {None, str(VAULT_ID)}:
        return []
    return [
        {"nav": "1", "timestamp": moment, "tokenCirculatingSupply": "1000000", "vaultEquity": "1000000", "vaultId": VAULT_ID}
        for moment in times
    ]


PLAIN_ROUTES: dict[str, Callable[[Query, int], Answer]] = {
    "/api/v1/collateral": _collateral,
    "/api/v1/borrowLend/markets": _lending_markets,
    "/api/v1/borrowLend/markets/history": _lending_history,
    "/api/v1/borrowLend/apy": _apy,
    "/api/v1/borrowLend/position/liquidationPrice": _liquidation_price,
    "/api/v1/prediction": _predictions,
    "/api/v1/prediction/tags": lambda _query, _us: [_TAG],
    "/api/v1/vaults": _vaults,
    "/api/v1/vaults/history": _vault_history,
    "/api/v1/wallets": lambda _query, _us: [
        {"address": address, "blockchain": blockchain} for blockchain, address in ADDRESSES.items()
    ],
}
"""Functions that answer each path."""

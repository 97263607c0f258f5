"""Which markets the simulated exchange lists, and how it writes their numbers.

Prices are whole numbers of ticks and quantities whole numbers of lots everywhere inside the exchange. Every tick and every lot
here is a power of ten, so a number becomes text by placing its decimal point. The websocket pads to that precision in depth,
bookTicker and trade frames. Everything else strips trailing zeros (docs/protocol.md 4 and 5.1). A market may show a coarser grid than
that, a tick size of several ticks and a step size of several lots, and the operator may change it while the exchange runs.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from random import Random

from backpack_proto.errors import LocalProtocolError
from backpack_proto.values import Value

__all__ = ["LISTINGS", "BookState", "Listing", "market_object", "more_listings", "padded", "stripped", "to_decimal"]


class BookState(StrEnum):
    """A state of a book that is neither Open nor Closed, in the exchange's words (docs/protocol.md 6.2)."""

    CANCEL_ONLY = "CancelOnly"
    LIMIT_ONLY = "LimitOnly"
    POST_ONLY = "PostOnly"


class Listing(Value, frozen=True, gc=False, kw_only=True):
    """One market: its names, its precision, and where its price stands when the simulation starts."""

    symbol: str
    base: str
    price_decimals: int
    quantity_decimals: int
    opening_ticks: int
    """Price at the start, in ticks."""
    perpetual: bool = False
    open: bool = True
    """True when the book is Open. Otherwise it is Closed, and the market is still listed."""
    restriction: BookState | None = None
    """Orders that an open book takes, if not all."""
    ticks_per_price: int = 1
    """Prices are multiples of so many ticks: that is the `tickSize` of the market object."""
    lots_per_quantity: int = 1
    """Quantities are multiples of so many lots: that is the `stepSize` of the market object."""
    asset_class: str | None = None
    """`rwaMarketType` of the market object."""
    by_sessions: bool = False
    """True when the book is that of a stock: Closed while a session of its security is open."""
    sleeps: bool = False
    """True when it stands still while it is unused."""
    listed_at: str = "2025-01-21T06:34:54.691858"
    """`createdAt` of the market object: UTC without a zone."""


LISTINGS: tuple[Listing, ...] = (
    Listing(symbol="SOL_USDC", base="SOL", price_decimals=2, quantity_decimals=2, opening_ticks=9_912),
    Listing(symbol="BTC_USDC", base="BTC", price_decimals=1, quantity_decimals=5, opening_ticks=866_500),
    Listing(symbol="USDT_USDC", base="USDT", price_decimals=4, quantity_decimals=0, opening_ticks=9_993),
    Listing(
        symbol="SOL_USDC_PERP",
        base="SOL",
        price_decimals=2,
        quantity_decimals=2,
        opening_ticks=9_908,
        perpetual=True,
        listed_at="2025-01-21T06:34:54.703112",
    ),
    Listing(
        symbol="BTC_USDC_PERP",
        base="BTC",
        price_decimals=1,
        quantity_decimals=5,
        opening_ticks=866_250,
        perpetual=True,
        listed_at="2025-01-21T06:34:54.711940",
    ),
    Listing(
        symbol="kPEPE_USDC_PERP",
        base="kPEPE",
        price_decimals=6,
        quantity_decimals=0,
        opening_ticks=8_412,
        perpetual=True,
        listed_at="2025-05-14T11:02:37.250917",
    ),
    Listing(
        symbol="AAPL.US_USDC_PERP",
        base="AAPL.US",
        price_decimals=2,
        quantity_decimals=2,
        opening_ticks=34_040,
        perpetual=True,
        asset_class="STOCK",
        listed_at="2026-06-18T13:30:00.418226",
    ),
    Listing(
        symbol="HNT_USDC",
        base="HNT",
        price_decimals=3,
        quantity_decimals=1,
        opening_ticks=2_410,
        open=False,
        listed_at="2025-01-21T06:34:54.698407",
    ),
    Listing(
        symbol="MU.US_USDC",
        base="MU.US",
        price_decimals=2,
        quantity_decimals=2,
        opening_ticks=41_250,
        by_sessions=True,
        asset_class="STOCK",
        listed_at="2026-07-08T20:00:00.337180",
    ),
)
"""Every listed market, in the order in which the market list shows them."""


MOST_MARKETS = 1_000
"""Number of markets that can be made up."""


def more_listings(count: int, *, seed: int) -> tuple[Listing, ...]:
    """Make up markets beside the standard ones, spot and perpetual in turn. Their names do not depend on the seed, their prices do.

    They sleep while they are unused, so that hundreds of them cost little.

    Raises:
        LocalProtocolError: the number is above `MOST_MARKETS`, or negative.
    """
    if not 0 <= count <= MOST_MARKETS:
        raise LocalProtocolError(f"markets: 0 to {MOST_MARKETS}, got {count}")
    listings: list[Listing] = []
    for number in range(count):
        base = f"X{number // 2 + 1:03d}"
        rng = Random(f"{seed}:{base}")
        listings.append(
            Listing(
                symbol=f"{base}_USDC_PERP" if number % 2 else f"{base}_USDC",
                base=base,
                price_decimals=rng.randrange(1, 5),
                quantity_decimals=rng.randrange(3),
                opening_ticks=rng.randrange(2_000, 90_000),
                perpetual=bool(number % 2),
                sleeps=True,
            )
        )
    return tuple(listings)


def padded(units: int, decimals: int) -> str:
    """Write a whole number of units of 10^-decimals with exactly that many decimals: (9912, 2) is `99.12`."""
    if decimals == 0:
        return str(units)
    if units < 0:
        return "-" + padded(-units, decimals)
    digits = str(units).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


# From one look at a book to the next, most of its levels stay as they are.
@lru_cache(maxsize=65536)
def stripped(units: int, decimals: int) -> str:
    """Write a whole number of units of 10^-decimals without trailing zeros: (866500, 1) is `86650`."""
    text = padded(units, decimals)
    return text.rstrip("0").rstrip(".") if decimals else text


def to_decimal(units: int, decimals: int) -> Decimal:
    """A whole number of units of 10^-decimals, as an exact Decimal."""
    return Decimal(units).scaleb(-decimals)


def market_object(listing: Listing) -> dict[str, object]:
    """Return the market as `/api/v1/markets` shows it: missing members are an explicit null (docs/protocol.md 6.2)."""
    tick = stripped(listing.ticks_per_price, listing.price_decimals)
    step = stripped(listing.lots_per_quantity, listing.quantity_decimals)
    perpetual = listing.perpetual
    return {
        "baseSymbol": listing.base,
        "createdAt": listing.listed_at,
        "filters": {
            "price": {
                "borrowEntryFeeMaxMultiplier": None if perpetual else "1.01",
                "borrowEntryFeeMinMultiplier": None if perpetual else "0.99",
                "discoveryBoundBand": None,
                "maxImpactMultiplier": "1.01",
                "maxMultiplier": "1.25" if perpetual else "2",
                "maxPrice": None,
                "maxPriceUpdateMultiplier": "1.0025",
                "meanMarkPriceBand": {"maxMultiplier": "1.03", "minMultiplier": "0.97"},
                "meanPremiumBand": {"tolerancePct": "0.05"} if perpetual else None,
                "minImpactMultiplier": "0.99",
                "minMultiplier": "0.75" if perpetual else "0.25",
                "minPrice": tick,
                "minPriceUpdateMultiplier": "0.9975",
                "tickSize": tick,
            },
            "quantity": {"maxQuantity": None, "minQuantity": step, "stepSize": step},
        },
        "fundingInterval": 3_600_000 if perpetual else None,
        "fundingRateLowerBound": "-150" if perpetual else None,
        "fundingRateUpperBound": "150" if perpetual else None,
        "imfFunction": {"type": "sqrt", "base": "0.02", "factor": "0.0001"} if perpetual else None,
        "marketType": "PERP" if perpetual else "SPOT",
        "mmfFunction": {"type": "sqrt", "base": "0.0125", "factor": "0.0000625"} if perpetual else None,
        "openInterestLimit": "40000000" if perpetual else "0",
        "orderBookState": (listing.restriction or "Open") if listing.open else "Closed",
        "positionLimitWeight": None,
        "quoteSymbol": "USDC",
        "rwaMarketType": listing.asset_class,
        "symbol": listing.symbol,
        "visible": True,
    }

"""Typed lists of the exchange besides markets: collateral, lending pools, predictions, securities, vaults (docs/protocol.md 6.1).

Source of the fields: the exchange's OpenAPI text. Times are microseconds since the epoch. Words from open lists are plain strings.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import field

from backpack_proto.account.values import MarginFunction
from backpack_proto.decoding import UnixUs
from backpack_proto.values import Value

__all__ = [
    "ApyRates",
    "BorrowLendApy",
    "BorrowLendMarket",
    "BorrowLendMarketRow",
    "CollateralParameters",
    "Haircut",
    "HaircutFunction",
    "LiquidationEstimate",
    "PredictionEvent",
    "PredictionMarket",
    "PredictionResolution",
    "PredictionSeries",
    "PredictionTag",
    "ResolutionCondition",
    "Security",
    "SecuritySession",
    "StakingApy",
    "StockHoliday",
    "StockIndicativeQuote",
    "StockQuantityFilter",
    "StockSession",
    "Vault",
    "VaultHistoryRow",
    "Wallet",
]


class HaircutFunction(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Growth of the haircut with the quantity. Members depend on the kind: `inverseSqrt` has these two, `identity` neither."""

    kind: str = field(name="type")
    base: Decimal | None = None
    positive_curve_penalty: Decimal | None = None


class Haircut(Value, frozen=True, gc=False, kw_only=True):
    """Part of an asset's value that counts as collateral."""

    weight: Decimal
    function: HaircutFunction = field(name="kind")


class CollateralParameters(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Worth of an asset as collateral."""

    symbol: str
    imf_function: MarginFunction
    """Initial margin."""
    mmf_function: MarginFunction
    """Maintenance margin."""
    haircut: Haircut = field(name="haircutFunction")


class BorrowLendMarket(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The lending pool of one asset. Rates and utilisations are fractions, quantities are in the asset."""

    symbol: str
    state: str
    """`Open`, `Closed`, `RepayOnly`."""
    asset_mark_price: Decimal
    borrow_interest_rate: Decimal
    lend_interest_rate: Decimal
    borrowed_quantity: Decimal
    lent_quantity: Decimal
    utilization: Decimal
    max_utilization: Decimal
    optimal_utilization: Decimal
    open_borrow_lend_limit: Decimal
    throttle_utilization_threshold: Decimal
    throttle_utilization_bound: Decimal
    throttle_update_fraction: Decimal
    fee: Decimal
    """Part of the yield that the exchange keeps."""
    step_size: Decimal
    timestamp_us: UnixUs = field(name="timestamp")


class BorrowLendMarketRow(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A lending pool at one time in the past."""

    borrow_interest_rate: Decimal
    lend_interest_rate: Decimal
    borrowed_quantity: Decimal
    lent_quantity: Decimal
    utilization: Decimal
    timestamp_us: UnixUs = field(name="timestamp")


class BorrowLendApy(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Yearly cost and yield of borrowing and lending an asset."""

    symbol: str
    borrow_rate: Decimal
    lend_rate: Decimal


class StakingApy(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Yearly yield of staking an asset."""

    symbol: str
    dilution_factor: Decimal
    staking_rate: Decimal


class ApyRates(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Yearly rates."""

    borrow_lend: tuple[BorrowLendApy, ...]
    staking: tuple[StakingApy, ...]


class LiquidationEstimate(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Where a position that is thought of would be liquidated."""

    liquidation_price: Decimal
    mark_price: Decimal


class PredictionTag(Value, frozen=True, gc=False, kw_only=True):
    """A subject of predictions."""

    slug: str
    title: str


class PredictionSeries(Value, frozen=True, gc=False, kw_only=True):
    """Events that come again and again."""

    slug: str
    title: str
    recurrence: str | None = None
    """`minutely`, `hourly`, `daily`, ..."""


class PredictionResolution(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Outcome of an event, or the way in which it will be found."""

    resolved: bool
    start_us: UnixUs = field(name="startDate")
    end_us: UnixUs | None = field(name="endDate", default=None)
    strike_price: Decimal | None = None
    close_price: Decimal | None = None
    resolution_source_event_identifier: str | None = None
    resolution_source: str | None = None
    outcome: str | None = None


class ResolutionCondition(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """When a market resolves to yes. Members depend on the kind: `QuantityRange`, `StrikePrice` or `Outcome`."""

    kind: str | None = field(name="type", default=None)
    greater_than_or_equal: Decimal | None = None
    less_than: Decimal | None = None
    condition: str | None = None
    """`above` or `below` the strike price."""
    outcome: str | None = None


class PredictionMarket(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One question of an event, and its market."""

    symbol: str = field(name="marketSymbol")
    question: str
    group_label: str | None = None
    yes_outcome_label: str
    no_outcome_label: str
    rules: str
    active_price: Decimal
    quote_volume: Decimal
    """Of 24 hours."""
    quote_volume_lifetime: Decimal
    resolved_us: UnixUs | None = field(name="resolvedAt", default=None)
    resolution_price: Decimal | None = None
    resolution_condition: ResolutionCondition | None = None
    proposed_resolution: bool | None = None
    """True is yes."""
    proposed_resolution_us: UnixUs | None = field(name="proposedResolutionAt", default=None)
    resolution_delay_s: int = field(name="resolutionDelaySecs")
    image_url: str | None = field(name="imgUrl", default=None)


class PredictionEvent(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Something that will come out one way or another, with the markets on it."""

    slug: str
    title: str
    description: str
    prediction_markets: tuple[PredictionMarket, ...]
    tags: tuple[PredictionTag, ...]
    series: tuple[PredictionSeries, ...]
    quote_volume: Decimal
    """Of 24 hours."""
    resolution: PredictionResolution
    resolved: bool
    resolution_delay_s: int = field(name="resolutionDelaySecs")
    image_url: str | None = field(name="imgUrl", default=None)


class StockSession(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Trading hours of stocks, as a clock on a wall of that timezone shows them."""

    name: str
    description: str | None = None
    start_time: str
    """Such as `09:30:00`."""
    end_time: str
    timezone: str
    """Such as `America/New_York`."""
    start_weekday: int
    """1 is Monday."""
    end_weekday: int
    """The last day on which it opens. Before `start_weekday` where the week ends in between, as in 7 to 4 for Sunday to Thursday."""


class StockHoliday(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A day on which stocks do not trade, or not as long, as a clock on a wall of that timezone shows it."""

    date: str
    """Such as `2026-11-26`."""
    name: str
    start_time: str | None = None
    """From when there is no trading. None, like the end, where the exchange does not say."""
    end_time: str | None = None
    timezone: str | None = None


class StockQuantityFilter(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The quantity rules of a stock at one moment, in shares."""

    min_quantity: Decimal
    max_quantity: Decimal | None = None
    step_size: Decimal


class StockIndicativeQuote(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The price at which a request for quotes for a stock would be quoted now, or the reason why not (docs/protocol.md 6.5)."""

    symbol: str
    side: str
    """Of the one who asks: `Bid` buys the stock."""
    available: bool
    """True when there is a quote."""
    reason: str | None = None
    """Why it is missing, such as `priceUnavailable`."""
    session: str | None = None
    """The session that is open, such as `US_EQUITIES_PRE_MARKET`."""
    price: Decimal | None = None
    """A limit price: the request settles there, or better."""
    estimated_price: Decimal | None = None
    """Where it settles if the quoter hedges at the market of this moment."""
    quote_quantity: Decimal | None = None
    quantity_filter: StockQuantityFilter | None = None
    published_us: UnixUs | None = field(name="publishedAt", default=None)


class SecuritySession(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The quantity rules of a security during one session."""

    name: str
    min_quantity: Decimal
    max_quantity: Decimal | None = None
    step_size: Decimal


class Security(Value, frozen=True, gc=False, kw_only=True):
    """A security that is traded as an asset."""

    asset: str
    name: str
    cusip: str | None = None
    sessions: tuple[SecuritySession, ...]


class Vault(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A vault, and the terms of deposits and redemptions."""

    vault_id: int = field(name="id")
    vault_token: str
    symbol: str
    """Asset that is paid in and out."""
    mints_enabled: bool
    redeems_enabled: bool
    min_mint_quantity: Decimal
    min_redeem_tokens: Decimal
    redeem_delay_ms: int
    token_step_size: Decimal
    remaining_mint_quantity: Decimal | None = None
    """In tokens."""


class VaultHistoryRow(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A vault at one time in the past."""

    vault_id: int
    timestamp_us: UnixUs = field(name="timestamp")
    nav: Decimal | None = None
    """Net asset value of a token."""
    vault_equity: Decimal | None = None
    token_circulating_supply: Decimal | None = None


class Wallet(Value, frozen=True, gc=False, kw_only=True):
    """A wallet of the exchange on a blockchain."""

    blockchain: str
    address: str

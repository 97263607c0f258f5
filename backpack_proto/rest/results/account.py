"""Typed answers of REST calls about an account beside balances and positions: collateral, loans, payments (docs/protocol.md 6.4).

Times are microseconds since the epoch, quantities of an asset are in that asset, words from open lists are plain strings.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import field

from backpack_proto.account.values import MarginFunction
from backpack_proto.decoding import UnixUs
from backpack_proto.values import Value

__all__ = [
    "AccountSettings",
    "BorrowLendMovement",
    "BorrowLendPosition",
    "Collateral",
    "CollateralAsset",
    "Deposit",
    "DepositAddress",
    "DustConversion",
    "FundingPayment",
    "HistoricalBorrowLendPosition",
    "HistoricalPosition",
    "InterestPayment",
    "MaxBorrowQuantity",
    "MaxOrderQuantity",
    "MaxWithdrawalQuantity",
    "Settlement",
    "VaultNav",
    "VaultRedeem",
    "Withdrawal",
]


class AccountSettings(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Settings, fees and limits of the account."""

    auto_borrow_settlements: bool
    auto_lend: bool
    auto_realize_pnl: bool
    auto_repay_borrows: bool
    liquidating: bool
    borrow_limit: Decimal
    position_limit: Decimal
    leverage_limit: Decimal
    spot_maker_fee_basis_points: Decimal = field(name="spotMakerFee")
    """Negative: a rebate."""
    spot_taker_fee_basis_points: Decimal = field(name="spotTakerFee")
    futures_maker_fee_basis_points: Decimal = field(name="futuresMakerFee")
    """Negative: a rebate."""
    futures_taker_fee_basis_points: Decimal = field(name="futuresTakerFee")
    limit_order_count: int = field(name="limitOrders")
    """Number of open ones."""
    trigger_order_count: int = field(name="triggerOrders")


class CollateralAsset(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Value of one asset as collateral."""

    symbol: str
    asset_mark_price: Decimal
    total_quantity: Decimal
    """Before the haircut."""
    balance_notional: Decimal
    collateral_weight: Decimal
    collateral_value: Decimal
    open_order_quantity: Decimal
    lend_quantity: Decimal
    available_quantity: Decimal


class Collateral(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The margin of the account, in USDC."""

    assets_value: Decimal
    borrow_liability: Decimal
    collateral: tuple[CollateralAsset, ...]
    initial_margin_fraction: Decimal = field(name="imf")
    maintenance_margin_fraction: Decimal = field(name="mmf")
    margin_fraction: Decimal | None = None
    """None without exposure."""
    net_equity: Decimal
    net_equity_available: Decimal
    net_equity_locked: Decimal
    net_exposure_futures: Decimal
    unrealized_pnl: Decimal = field(name="pnlUnrealized")
    liabilities_value: Decimal
    unsettled_equity: Decimal


class HistoricalPosition(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A position of the past, or one that is open, in history."""

    position_id: str = field(name="id")
    symbol: str
    state: str
    """`Open` or `Closed`."""
    net_quantity: Decimal
    net_exposure_quantity: Decimal
    net_exposure_notional: Decimal
    net_cost: Decimal
    mark_price: Decimal
    entry_price: Decimal
    closing_price: Decimal | None = None
    realized_pnl: Decimal = field(name="cumulativePnlRealized")
    unrealized_pnl: Decimal
    funding_quantity: Decimal
    interest: Decimal
    fees: Decimal
    liquidated: Decimal
    liquidation_fees: Decimal
    closed_volume: Decimal
    initial_margin_fraction: Decimal = field(name="imf")
    account_leverage: Decimal | None = None
    opened_us: UnixUs | None = field(name="openedAt", default=None)
    closed_us: UnixUs | None = field(name="closedAt", default=None)


class MaxBorrowQuantity(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Amount of an asset that can be borrowed."""

    symbol: str
    max_borrow_quantity: Decimal


class MaxOrderQuantity(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Largest order, on the requested terms."""

    symbol: str
    side: str
    max_order_quantity: Decimal
    price: Decimal | None = None
    reduce_only: bool | None = None
    auto_borrow: bool | None = None
    auto_borrow_repay: bool | None = None
    auto_lend_redeem: bool | None = None


class MaxWithdrawalQuantity(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Amount of an asset that can be withdrawn, on the requested terms."""

    symbol: str
    max_withdrawal_quantity: Decimal
    auto_borrow: bool | None = None
    auto_lend_redeem: bool | None = None


class BorrowLendPosition(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An open loan, given or taken."""

    position_id: str = field(name="id")
    symbol: str
    """An asset."""
    net_quantity: Decimal
    """Signed: negative is borrowed."""
    mark_price: Decimal
    net_exposure_quantity: Decimal
    net_exposure_notional: Decimal
    cumulative_interest: Decimal
    estimated_liquidation_price: Decimal | None = field(name="estLiquidationPrice", default=None)
    initial_margin_fraction: Decimal = field(name="imf")
    maintenance_margin_fraction: Decimal = field(name="mmf")
    imf_function: MarginFunction | None = None
    mmf_function: MarginFunction | None = None


class BorrowLendMovement(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A change of a loan."""

    event_type: str
    """`Borrow`, `BorrowRepay`, `Lend`, `LendRedeem`."""
    position_id: str
    position_quantity: Decimal | None = None
    """After the change."""
    quantity: Decimal
    source: str
    """Who wanted it: `Manual`, `SpotMargin`, `Interest`, ..."""
    symbol: str
    timestamp_us: UnixUs = field(name="timestamp")
    spot_margin_order_id: str | None = None


class HistoricalBorrowLendPosition(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A loan in history."""

    position_id: str
    symbol: str
    side: str
    """`Borrow` or `Lend`."""
    quantity: Decimal
    source: str
    cumulative_interest: Decimal
    average_interest_rate: Decimal = field(name="avgInterestRate")
    created_us: UnixUs = field(name="createdAt")


class InterestPayment(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Interest, paid or received."""

    payment_type: str
    """`Borrow`, `Lend`, `EntryFee`, `UnrealizedPositivePnl`, ..."""
    symbol: str
    """An asset."""
    market_symbol: str
    position_id: str
    quantity: Decimal
    interest_rate: Decimal
    interval: int
    """Length of its interval. The exchange does not document the unit."""
    timestamp_us: UnixUs = field(name="timestamp")


class FundingPayment(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Funding of one interval."""

    symbol: str
    quantity: Decimal
    """Positive: received."""
    funding_rate: Decimal
    """A fraction."""
    interval_end_us: UnixUs = field(name="intervalEndTimestamp")
    subaccount_id: int | None = None
    user_id: int


class DustConversion(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A balance too small to trade that was turned into USDC."""

    conversion_id: int = field(name="id")
    symbol: str
    quantity: Decimal
    usdc_received: Decimal
    timestamp_us: UnixUs = field(name="timestamp")


class Settlement(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """USDC that was settled."""

    quantity: Decimal
    source: str
    """`TradingFees`, `FundingPayment`, `RealizePnl`, ..."""
    timestamp_us: UnixUs = field(name="timestamp")
    position_id: str | None = None
    engine_sequence: int | None = None
    subaccount_id: int | None = None
    user_id: int


class Deposit(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An asset that came in."""

    deposit_id: int = field(name="id")
    symbol: str
    quantity: Decimal
    source: str
    """A blockchain or a payment processor."""
    state: str = field(name="status")
    """`confirmed`, `pending`, ..."""
    created_us: UnixUs = field(name="createdAt")
    to_address: str | None = None
    from_address: str | None = None
    transaction_hash: str | None = None
    fiat_amount: Decimal | None = None
    fiat_currency: str | None = None
    institution_bic: str | None = None
    platform_memo: str | None = None


class DepositAddress(Value, frozen=True, gc=False, kw_only=True):
    """Where to deposit."""

    address: str


class Withdrawal(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """An asset that goes out."""

    withdrawal_id: int = field(name="id")
    client_id: str | None = None
    """Text, unlike those of orders."""
    symbol: str
    quantity: Decimal
    fee: Decimal
    blockchain: str
    state: str = field(name="status")
    """`confirmed`, `pending`, ..."""
    to_address: str
    created_us: UnixUs = field(name="createdAt")
    trigger_us: UnixUs | None = field(name="triggerAt", default=None)
    """When a delayed one is to go out."""
    is_internal: bool
    identifier: str | None = None
    transaction_hash: str | None = None
    subaccount_id: int | None = None
    fiat_fee: Decimal | None = None
    fiat_state: str | None = None
    fiat_symbol: str | None = None
    provider_id: str | None = None
    bank_name: str | None = None
    bank_identifier: str | None = None
    account_identifier: str | None = None


class VaultNav(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Worth of a vault and its tokens, for the vault's own account."""

    nav: Decimal
    twap_nav: Decimal
    mint_nav: Decimal
    redeem_nav: Decimal
    vault_equity: Decimal
    net_equity: Decimal
    token_circulating_supply: Decimal
    last_crank_us: UnixUs | None = field(name="lastCrankTimestamp", default=None)


class VaultRedeem(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Tokens on their way back to a vault."""

    redeem_id: str = field(name="id")
    vault_id: int
    state: str = field(name="status")
    """`Requested`, `Redeemed`, `Cancelled`."""
    vault_token_quantity: Decimal
    vault_token: str | None = None
    symbol: str | None = None
    quantity: Decimal | None = None
    """Amount paid out."""
    nav: Decimal | None = None
    reason: str | None = None
    timestamp_us: UnixUs = field(name="timestamp")

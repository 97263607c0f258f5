"""Risk of an account: exposure, equity, margin, the price of its liquidation, and the funding of its positions.

One pool: all holdings count, spot assets with a haircut, and so does unrealised profit. An order that would raise the margin
beyond the equity is refused. There are no liquidations here. Amounts are units of 10^-`PLACES` USDC unless they say otherwise, and so are
fractions of 1. The formulas, with the names of `/capital/collateral` and `/position`:

* assetsValue = sum of totalQuantity x assetMarkPrice x collateralWeight. The weight of USDC is 1, that of everything else 0.9.
* netEquity = assetsValue - liabilitiesValue + pnlUnrealized + unsettledEquity. There are neither liabilities nor unsettled equity here.
* pnlUnrealized = sum of netQuantity x markPrice - netCost over the positions, each cut off behind six decimals.
* netExposureQuantity = the largest size that a position could reach if all its open orders of one side were filled, without those that
  only reduce. NetExposureNotional = that x markPrice. NetExposureFutures = the sum over all markets, those with orders alone included.
* imf of a market = the largest of base, factor x sqrt(netExposureNotional) and 1 / leverageLimit. Mmf = the larger of its own base and
  factor x sqrt(netExposureNotional). imf and mmf of the account are those of its markets weighted by netExposureNotional. Without any
  exposure they are the bases.
* netEquityLocked = sum of netExposureNotional x imf, and the haircut on assets that open spot orders would buy with USDC.
* netEquityAvailable = netEquity - netEquityLocked, not below 0: the buying power.
* marginFraction = netEquity / netExposureFutures, or null without exposure.
* estLiquidationPrice = the mark at which netEquity would be the sum of |netQuantity| x markPrice x mmf over all positions, if all other
  prices and all fractions stayed: (q x mark + maintenance of the others - netEquity) / (q - |q| x mmf). It is 0 where no price is low enough.
* Funding: -netQuantity x markPrice x rate, rounded down to a whole unit, at the end of each interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal
from math import isqrt
from typing import Final

from msgspec import Struct

from backpack_proto.exchange.market.listings import to_decimal
from backpack_proto.exchange.market.market import RATE_DECIMALS, SimulatedMarket
from backpack_proto.exchange.market.orders import OrderSide
from backpack_proto.exchange.market.stocks import SECURITIES

from .accounts import (
    PLACES,
    SETTLEMENT_ASSET,
    HeldPosition,
    SimulatedAccount,
    SimulatedFundingPayment,
    mark_ticks,
    quote_units,
    to_amount,
    unrealized,
)
from .orders import OrderState

__all__ = [
    "HAIRCUT_PERCENT",
    "LEVERAGE_LIMIT",
    "MarginFigures",
    "asset_price",
    "asset_worth",
    "collateral_percent",
    "collateral_value",
    "covers_haircut",
    "exposure_lots",
    "exposure_of",
    "initial_fraction",
    "liquidation_price",
    "maintenance_fraction",
    "margin_figures",
    "pay_funding",
    "within_margin",
]

_ONE: Final = 10**PLACES
_BASE_IMF: Final = 2 * _ONE // 100
_BASE_MMF: Final = 125 * _ONE // 10_000
_IMF_FACTOR: Final = 1_000
_MMF_FACTOR: Final = 625
"""Of the functions in the market object, whose factors are counted in 10^-7."""
_FACTOR_UNITS: Final = 10**7
_LONG: Final = Context(prec=28)
LEVERAGE_LIMIT: Final = 10
HAIRCUT_PERCENT: Final = 90
"""Part of a spot asset other than USDC that counts."""


class MarginFigures(Struct, frozen=True, gc=False, kw_only=True):
    """The sums behind `/capital/collateral`."""

    assets: int
    """Worth of the holdings, with haircuts."""
    equity: int
    exposure: int
    """Of all perpetuals, in the worst case."""
    pnl: int
    """Unrealised."""
    initial: int
    """Margin that the exposure needs."""
    maintenance: int
    """Margin below which the exposure would be liquidated."""
    haircut: int
    """Cost of open spot orders in collateral."""

    @property
    def locked(self) -> int:
        """Equity that positions and orders need."""
        return self.initial + self.haircut

    @property
    def available(self) -> int:
        """Equity for new orders. Negative where prices have moved."""
        return self.equity - self.locked

    @property
    def imf(self) -> int:
        """Initial margin fraction of the account."""
        return self.initial * _ONE // self.exposure if self.exposure else _BASE_IMF

    @property
    def mmf(self) -> int:
        """Maintenance margin fraction of the account."""
        return self.maintenance * _ONE // self.exposure if self.exposure else _BASE_MMF


def exposure_lots(account: SimulatedAccount, market: SimulatedMarket, extra: int = 0) -> int:
    """The size of a position in the worst case: with all open orders of one side filled. `extra` signed lots more are ordered."""
    held = account.open_positions.get(market.symbol)
    lots = 0 if held is None else held[1].lots
    bids, asks = max(extra, 0), max(-extra, 0)
    for order in account.orders.values():
        if order.symbol != market.symbol or order.state is OrderState.TRIGGER_PENDING or order.request.reduce_only:
            continue
        if order.request.side is OrderSide.BID:
            bids += order.remaining
        else:
            asks += order.remaining
    return max(abs(lots + bids), abs(lots - asks), abs(lots))


def asset_price(asset: str, markets: Mapping[str, SimulatedMarket]) -> tuple[int, int]:
    """Return the price of an asset in USDC, as (ticks, decimals): its last trade, else the mark of its perpetual, else 0."""
    if asset == SETTLEMENT_ASSET:
        return 1, 0
    market = markets.get(f"{asset}_{SETTLEMENT_ASSET}")
    if market is not None:
        return market.tape.last_price or 0, market.listing.price_decimals
    perpetual = markets.get(f"{asset}_{SETTLEMENT_ASSET}_PERP")
    if perpetual is not None:
        return mark_ticks(perpetual), perpetual.listing.price_decimals
    return (SECURITIES[asset].cents, 2) if asset in SECURITIES else (0, 0)


def asset_worth(account: SimulatedAccount, asset: str, markets: Mapping[str, SimulatedMarket]) -> int:
    """Return the holdings of an asset, at market price."""
    ticks, decimals = asset_price(asset, markets)
    return int(account.total(asset) * ticks // 10**decimals)


def collateral_value(account: SimulatedAccount, asset: str, markets: Mapping[str, SimulatedMarket]) -> int:
    """Return the holdings of an asset, at market price and with its haircut."""
    return asset_worth(account, asset, markets) * collateral_percent(asset) // 100


def collateral_percent(asset: str) -> int:
    """Return the part of an asset that counts."""
    return 100 if asset == SETTLEMENT_ASSET else HAIRCUT_PERCENT


def initial_fraction(notional: int) -> int:
    """The initial margin fraction of a market with so much exposure."""
    return max(_BASE_IMF, _rooted(notional, _IMF_FACTOR), _ONE // LEVERAGE_LIMIT)


def maintenance_fraction(notional: int) -> int:
    """The maintenance margin fraction of a market with so much exposure."""
    return max(_BASE_MMF, _rooted(notional, _MMF_FACTOR))


def exposure_of(account: SimulatedAccount, market: SimulatedMarket, extra: int = 0) -> int:
    """The exposure to a market in the worst case, at its mark. `extra` signed lots more are ordered."""
    return quote_units(market.listing, mark_ticks(market) * exposure_lots(account, market, extra))


def margin_figures(account: SimulatedAccount, markets: Mapping[str, SimulatedMarket]) -> MarginFigures:
    """The state of an account's margin."""
    assets = sum(collateral_value(account, asset, markets) for asset in account.balances)
    pnl = sum(unrealized(market, position) for market, position in account.open_positions.values())
    exposed = {order.symbol: None for order in account.orders.values()}
    perpetuals = [markets[symbol] for symbol in exposed if symbol in markets and symbol not in account.open_positions]
    # A position stays where a market has closed.
    perpetuals = [market for market in perpetuals if market.listing.perpetual]
    perpetuals += [market for market, _ in account.open_positions.values()]
    exposures = [exposure_of(account, market) for market in perpetuals]
    spent = sum(
        order.reserved
        for order in account.orders.values()
        if order.request.side is OrderSide.BID and not order.request.listing.perpetual
    )
    return MarginFigures(
        assets=assets,
        equity=assets + pnl,
        exposure=sum(exposures),
        pnl=pnl,
        initial=sum(_part(exposure, initial_fraction(exposure)) for exposure in exposures),
        maintenance=sum(_part(exposure, maintenance_fraction(exposure)) for exposure in exposures),
        haircut=_haircut(spent),
    )


def within_margin(
    account: SimulatedAccount, markets: Mapping[str, SimulatedMarket], market: SimulatedMarket, lots: int
) -> bool:
    """Return whether an order of signed lots is covered. One that leaves the worst case as it is always is."""
    before, after = exposure_of(account, market), exposure_of(account, market, lots)
    more = _part(after, initial_fraction(after)) - _part(before, initial_fraction(before))
    return more <= 0 or more <= margin_figures(account, markets).available


def covers_haircut(account: SimulatedAccount, markets: Mapping[str, SimulatedMarket], spent: int) -> bool:
    """Return whether so much USDC may be spent on an asset that counts for less, beside the positions that there are."""
    figures = margin_figures(account, markets)
    return not figures.exposure or _haircut(spent) <= figures.available


def liquidation_price(account: SimulatedAccount, markets: Mapping[str, SimulatedMarket], market: SimulatedMarket) -> Decimal:
    """The mark at which an account would be liquidated for its position in a market, or 0 where it is never."""
    _, position = account.open_positions[market.symbol]
    others = 0
    for other, held in account.open_positions.values():
        if other is not market:
            fraction = maintenance_fraction(exposure_of(account, other))
            others += _part(abs(quote_units(other.listing, mark_ticks(other) * held.lots)), fraction)
    equity = margin_figures(account, markets).equity
    missing = quote_units(market.listing, mark_ticks(market) * position.lots) + others - equity
    fraction = maintenance_fraction(exposure_of(account, market))
    lots = position.lots * _ONE - abs(position.lots) * fraction
    quantity = to_decimal(lots, market.listing.quantity_decimals + PLACES)
    price = _LONG.divide(to_amount(missing), quantity)
    return max(Decimal(0), price)


def pay_funding(account: SimulatedAccount, market: SimulatedMarket, position: HeldPosition, interval_end_us: int) -> None:
    """Settle the funding of one position for the interval that ended: longs pay a positive rate, shorts receive it."""
    if market.reference is None:
        return
    end_s = interval_end_us // 1_000_000
    ((_, rate),) = market.reference.past_rates(market.seed, end_s, 1, 0)
    # Rounded down to a whole unit: the rate has more decimals than the amounts.
    units = -(quote_units(market.listing, mark_ticks(market) * position.lots) * rate // 10**RATE_DECIMALS)
    position.funding += units
    account.credit(SETTLEMENT_ASSET, units)
    account.funding.append(
        SimulatedFundingPayment(
            symbol=market.symbol, amount=to_amount(units), rate=to_decimal(rate, RATE_DECIMALS), interval_end_s=end_s
        )
    )


def _haircut(spent: int) -> int:
    return spent * (100 - HAIRCUT_PERCENT) // 100


def _part(amount: int, fraction: int) -> int:
    return amount * fraction // _ONE


def _rooted(notional: int, factor: int) -> int:
    return isqrt(notional * _ONE) * factor // _FACTOR_UNITS

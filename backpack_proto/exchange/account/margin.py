"""What an account could lose: exposure, equity, margin, and the funding of its positions.

One pool: everything that is held counts, spot assets with a haircut, and so does unrealised profit. An order that would raise the
exposure beyond what the equity covers at the leverage limit is refused; nobody is ever liquidated here. Amounts are units of
10^-`PLACES` USDC unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from backpack_proto.exchange.market.listings import to_decimal
from backpack_proto.exchange.market.market import RATE_DECIMALS, SimulatedMarket
from backpack_proto.exchange.market.orders import OrderSide

from .accounts import (
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
    "IMF",
    "LEVERAGE_LIMIT",
    "MMF",
    "MarginFigures",
    "asset_price",
    "asset_worth",
    "exposure_lots",
    "margin_figures",
    "pay_funding",
    "within_margin",
]

IMF: Final = "0.02"
MMF: Final = "0.0125"
"""Initial and maintenance margin fraction of every perpetual."""
LEVERAGE_LIMIT: Final = 10
HAIRCUT_PERCENT: Final = 90
"""How much of a spot asset other than USDC counts."""


class MarginFigures(Struct, frozen=True, gc=False, kw_only=True):
    """The sums behind `/capital/collateral`."""

    assets: int
    """What is held, at market price."""
    equity: int
    """With haircuts and unrealised profit."""
    exposure: int
    """Of all perpetuals, in the worst case."""
    pnl: int
    """Unrealised."""

    @property
    def locked(self) -> int:
        """Equity that the exposure needs."""
        return self.exposure // LEVERAGE_LIMIT


def exposure_lots(account: SimulatedAccount, market: SimulatedMarket, extra: int = 0) -> int:
    """The size of a position in the worst case: with all open orders of one side filled; `extra` signed lots more are ordered."""
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
    """What an asset costs in USDC: (ticks, decimals) of its last trade; 0 when nobody trades it."""
    if asset == SETTLEMENT_ASSET:
        return 1, 0
    market = markets.get(f"{asset}_{SETTLEMENT_ASSET}")
    return (0, 0) if market is None else (market.tape.last_price or 0, market.listing.price_decimals)


def asset_worth(account: SimulatedAccount, asset: str, markets: Mapping[str, SimulatedMarket]) -> int:
    """What is held of an asset, at market price."""
    ticks, decimals = asset_price(asset, markets)
    return int(account.total(asset) * ticks // 10**decimals)


def margin_figures(account: SimulatedAccount, markets: Mapping[str, SimulatedMarket]) -> MarginFigures:
    """The state of an account's margin."""
    settled = account.total(SETTLEMENT_ASSET)
    others = sum(asset_worth(account, asset, markets) for asset in account.balances if asset != SETTLEMENT_ASSET)
    pnl = sum(unrealized(market, position) for market, position in account.open_positions.values())
    return MarginFigures(
        assets=settled + others,
        equity=settled + others * HAIRCUT_PERCENT // 100 + pnl,
        exposure=sum(_exposure(account, market) for market in markets.values() if market.listing.perpetual),
        pnl=pnl,
    )


def within_margin(
    account: SimulatedAccount, markets: Mapping[str, SimulatedMarket], market: SimulatedMarket, lots: int
) -> bool:
    """Whether an order of signed lots is covered; one that leaves the worst case as it is always is."""
    more = _exposure(account, market, lots) - _exposure(account, market)
    figures = margin_figures(account, markets)
    return more <= 0 or figures.exposure + more <= figures.equity * LEVERAGE_LIMIT


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


def _exposure(account: SimulatedAccount, market: SimulatedMarket, extra: int = 0) -> int:
    return quote_units(market.listing, mark_ticks(market) * exposure_lots(account, market, extra))

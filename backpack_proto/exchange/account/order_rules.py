"""Rules for placing an order: size, limit, funds (docs/protocol.md 1.4 and 6.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import ROUND_DOWN, Context, Decimal

from backpack_proto.errors import ApiError
from backpack_proto.exchange.market.listings import BookState
from backpack_proto.exchange.market.market import INDEX_DECIMALS, SimulatedMarket
from backpack_proto.exchange.market.orders import OrderSide, OrderTimeInForce, Outcome, Refusal, SelfTrade

from .accounts import SimulatedAccount, base_units, mark_ticks, quote_units
from .margin import covers_haircut, within_margin
from .order_request import refusal
from .orders import OrderRequest

__all__ = ["WOULD_TAKE", "limit_of", "plan_order", "reference_ticks", "time_in_force_of", "why_given_up", "why_not_triggered"]

_SPOT_BAND = (25, 200)
_PERPETUAL_BAND = (75, 125)
"""Lowest ask and highest bid, per cent of the last price: the multipliers of the market object."""
_IMPACT_PERCENT = 1
"""Distance that a market order may go through the book from its best price: the impact multipliers of the market object."""
WOULD_TAKE = "Order would immediately match and take"
_NOT_REDUCED = "Reduce only order would not reduce the position"
_WHY_FAILED = {
    "INSUFFICIENT_FUNDS": "InsufficientFunds",
    "INSUFFICIENT_MARGIN": "InsufficientMargin",
    "INVALID_PRICE": "PriceOutOfBounds",
    "INVALID_QUANTITY": "InvalidQuantity",
}
"""Reasons of the exchange's list for a trigger that is refused when it fires."""
_EXACT = Context(prec=80, rounding=ROUND_DOWN)


def plan_order(
    account: SimulatedAccount,
    markets: Mapping[str, SimulatedMarket],
    market: SimulatedMarket,
    request: OrderRequest,
    triggered_lots: int | None,
) -> tuple[int, int]:
    """The lots of an order, and the units that it locks. `triggered_lots` is the size of one that was triggered.

    Raises:
        ApiError: the order is refused.
    """
    listing, side = market.listing, request.side
    if listing.restriction is BookState.CANCEL_ONLY or (listing.restriction is BookState.LIMIT_ONLY and request.price is None):
        raise refusal("TRADING_PAUSED", "Trading is paused")
    limit = limit_of(market, request)
    lots = request.lots if triggered_lots is None else triggered_lots
    if lots is None:
        lots = _within_quote(market, account.owner, side, request.tick_lots or 0)
    if lots < 1:
        raise refusal("INVALID_QUANTITY", "Invalid quantity")
    if request.price is not None and not _within_band(market, side, request.price):
        raise refusal("INVALID_PRICE", "Price is too far from the last active price")
    if request.reduce_only:
        lots = min(lots, _reducible(account, market, side))
        if lots < 1:
            raise refusal("INVALID_ORDER", _NOT_REDUCED)
    if listing.perpetual:
        if not within_margin(account, markets, market, lots if side is OrderSide.BID else -lots):
            raise refusal("INSUFFICIENT_MARGIN", "Insufficient margin")
        return lots, 0
    if side is OrderSide.ASK:
        asset, reserve = listing.base, base_units(listing, lots)
    elif request.price is not None:
        asset, reserve = "USDC", quote_units(listing, request.price * lots)
    else:
        asset, reserve = "USDC", quote_units(listing, _cost(market, account.owner, side, lots, limit))
    if reserve > account.available(asset):
        raise refusal("INSUFFICIENT_FUNDS", "Insufficient funds")
    if side is OrderSide.BID and not covers_haircut(account, markets, reserve):
        raise refusal("INSUFFICIENT_MARGIN", "Insufficient margin")
    return lots, reserve


def limit_of(market: SimulatedMarket, request: OrderRequest) -> int | None:
    """The worst price in ticks at which an order may trade, or None where there are no offers."""
    best = market.engine.best(request.side.other)
    if request.price is not None or best is None:
        return request.price
    bought, price = request.side is OrderSide.BID, best[0]
    impact = price * (100 + _IMPACT_PERCENT) // 100 if bought else -(-price * (100 - _IMPACT_PERCENT) // 100)
    if request.slippage is None:
        return impact
    step = Decimal(1) if request.slippage_in_ticks else _EXACT.divide(Decimal(price), Decimal(100))
    allowed = int(_EXACT.multiply(request.slippage, step))
    return min(impact, price + allowed) if bought else max(impact, price - allowed)


def time_in_force_of(request: OrderRequest) -> OrderTimeInForce:
    """Return the order for the engine: a market order never rests, not even one whose slippage is limited."""
    if request.price is None and request.time_in_force is not OrderTimeInForce.FOK:
        return OrderTimeInForce.IOC
    return request.time_in_force


def reference_ticks(market: SimulatedMarket, trigger_by: str) -> int:
    """The price that a trigger looks at. Spot markets have only the last one."""
    reference = market.reference
    if reference is not None and trigger_by == "MarkPrice":
        return mark_ticks(market)
    if reference is not None and trigger_by == "IndexPrice":
        return int(reference.index // 10 ** (INDEX_DECIMALS - market.listing.price_decimals))
    return market.tape.last_price or market.listing.opening_ticks


def why_given_up(owner: int, market: SimulatedMarket, request: OrderRequest, outcome: Outcome, limit: int | None) -> str:
    """The reason that the exchange has for an order that ended without being filled. The book is as the order left it.

    `limit` is the worst price that the order could trade at.
    """
    if outcome.refusal is Refusal.CANNOT_FILL:
        return "FillOrKill"
    against = request.side.other
    best = market.engine.best(against)
    in_its_way = best is not None and any(order.owner == owner for order in market.engine.orders_at(against, best[0]))
    if (request.self_trade is SelfTrade.REJECT_BOTH and outcome.removed) or (
        request.self_trade is SelfTrade.REJECT_TAKER
        and in_its_way
        and best is not None
        and (limit is None or (best[0] <= limit if request.side is OrderSide.BID else best[0] >= limit))
    ):
        return "SelfTradePrevention"
    if request.price is not None:
        return "ImmediateOrCancel"
    if best is None:
        return "InsufficientLiquidity"
    return "PriceImpact" if request.slippage is None else "SlippageToleranceExceeded"


def why_not_triggered(error: ApiError) -> str:
    """Return the exchange's reason for a trigger that could not be placed when it fired."""
    if error.message == _NOT_REDUCED:
        return "ReduceOnlyNotReduced"
    if error.message == WOULD_TAKE:
        return "PostOnlyTaker"
    return _WHY_FAILED.get(error.code, "Unknown")


def _within_band(market: SimulatedMarket, side: OrderSide, price: int) -> bool:
    lowest, highest = _PERPETUAL_BAND if market.listing.perpetual else _SPOT_BAND
    last = reference_ticks(market, "LastPrice")
    return price * 100 <= last * highest if side is OrderSide.BID else price * 100 >= last * lowest


def _reducible(account: SimulatedAccount, market: SimulatedMarket, side: OrderSide) -> int:
    """Lots of a position that no other order reduces yet."""
    held = account.open_positions.get(market.symbol)
    lots = 0 if held is None else held[1].lots
    room = lots if side is OrderSide.ASK else -lots
    resting = (o for o in account.orders.values() if o.symbol == market.symbol and o.request.reduce_only)
    return room - sum(order.remaining for order in resting if order.request.side is side)


def _offered(market: SimulatedMarket, owner: int, side: OrderSide) -> Iterator[tuple[int, int]]:
    """Return the offers of others to an order of a side, as (price, lots), best first."""
    engine = market.engine
    for price, lots in engine.levels(side.other):
        own = sum(order.remaining for order in engine.orders_at(side.other, price) if order.owner == owner)
        if lots > own:
            yield price, lots - own


def _cost(market: SimulatedMarket, owner: int, side: OrderSide, lots: int, limit: int | None) -> int:
    """Ticks times lots that a market order pays at most."""
    cost = 0
    for price, offered in _offered(market, owner, side):
        if not lots or (limit is not None and price > limit):
            break
        taken = min(lots, offered)
        lots -= taken
        cost += price * taken
    return cost


def _within_quote(market: SimulatedMarket, owner: int, side: OrderSide, tick_lots: int) -> int:
    """Lots that come closest to a notional value without exceeding it."""
    lots = 0
    for price, offered in _offered(market, owner, side):
        taken = min(tick_lots // price, offered)
        lots += taken
        tick_lots -= taken * price
        if taken < offered:
            break
    return lots

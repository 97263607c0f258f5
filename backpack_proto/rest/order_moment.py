"""The rules of an order that depend on the moment: positions, price bands, the best prices, and how deep a market order reaches.

A band bounds a Bid above and an Ask below: the sources name no sides, and an order far away on its own side is not refused here. Nothing is
held against an order that waits for its trigger, for it counts when that fires (docs/orders.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING

from backpack_proto.decoding import amount

from .grid import EXACT, written
from .new_order import NewOrder
from .order_context import OrderContext
from .violations import Violation

if TYPE_CHECKING:
    from .markets import Market

__all__ = ["check_moment"]


def check_moment(market: Market, order: NewOrder, context: OrderContext) -> Iterator[Violation]:
    """Return the rules that an order breaks at the moment, as far as is known."""
    if order.trigger_price is not None:
        return
    yield from _reducing(market, order, context)
    yield from _bands(market, order, context)
    yield from _crossing(market, order, context)
    yield from _impact(market, order, context)


def _reducing(market: Market, order: NewOrder, context: OrderContext) -> Iterator[Violation]:
    position = context.position
    if order.reduce_only is not True or position is None or market.market_type == "SPOT":
        return
    if position >= 0 if order.side == "Bid" else position <= 0:
        reducing = f"{'a' if order.side == 'Bid' else 'an'} {order.side}"
        held = f"does not reduce a position of {written(position)}" if position else "has no position to reduce"
        yield Violation(parameter="reduce_only", rule="reduce_only", reason=f"True, and {reducing} {held}")


def _bands(market: Market, order: NewOrder, context: OrderContext) -> Iterator[Violation]:
    """Hold a limit price to the bands around prices that move: a Bid to their upper ends, an Ask to their lower ones."""
    price = amount(order.price)
    if price is None or order.order_type != "Limit":
        return
    for rule, bound, described in _bounds(market, bid=order.side == "Bid", context=context):
        grid = market.filters.price.grid
        if order.side == "Bid" and price > bound:
            problem, word, valid = "above", "highest", grid.down(bound)
        elif order.side == "Ask" and price < bound:
            problem, word, valid = "below", "lowest", grid.up(bound)
        else:
            continue
        yield Violation(
            parameter="price",
            rule=rule,
            reason=f"{written(price)} is {problem} {written(bound)}, {described}; the {word} valid price is {written(valid)}",
            valid=(valid,),
        )


def _bounds(market: Market, *, bid: bool, context: OrderContext) -> Iterator[tuple[str, Decimal, str]]:
    """Return the bounds of a limit price on its side that are known: the rule, the bound, and how it comes about."""
    filters = market.filters.price
    mean, discovery, premium = filters.mean_mark_price_band, filters.discovery_bound_band, filters.mean_premium_band
    futures = market.market_type != "SPOT"  # the mean bands are those of futures, though spot rows may carry one
    factors = (
        ("max_multiplier" if bid else "min_multiplier", filters, context.last_price, "the last price"),
        ("mean_mark_price_band", mean if futures else None, context.mark_price, "the mark price"),
        ("discovery_bound_band", discovery, context.oracle_price, "the oracle price"),
    )
    for rule, band, reference, called in factors:
        factor = None if band is None else band.max_multiplier if bid else band.min_multiplier
        if factor is not None and reference is not None:
            yield rule, EXACT.multiply(reference, factor), f"{written(factor)} times {called} {written(reference)}"
    mark, index = context.mark_price, context.index_price
    if premium is not None and futures and mark is not None and index is not None:
        room = EXACT.multiply(index, premium.tolerance_fraction)
        percent = written(EXACT.multiply(premium.tolerance_fraction, Decimal(100)).normalize(EXACT))
        described = f"{percent} % of the index price {written(index)} from the mark price {written(mark)}"
        yield "mean_premium_band", EXACT.add(mark, room) if bid else EXACT.subtract(mark, room), described


def _crossing(market: Market, order: NewOrder, context: OrderContext) -> Iterator[Violation]:
    price, grid = amount(order.price), market.filters.price.grid
    if price is None or order.post_only is not True:
        return
    if order.side == "Bid" and context.best_ask is not None and price >= context.best_ask:
        best, word, other = "best ask", "highest", context.best_ask
        valid = grid.down(EXACT.subtract(other, grid.increment))
    elif order.side == "Ask" and context.best_bid is not None and price <= context.best_bid:
        best, word, other = "best bid", "lowest", context.best_bid
        valid = grid.up(EXACT.add(other, grid.increment))
    else:
        return
    reason = f"{written(price)} would trade with the {best} {written(other)} at once, and post_only=True"
    rested = valid > 0
    end = f"; the {word} valid price is {written(valid)}" if rested else ""
    yield Violation(parameter="price", rule="post_only", reason=reason + end, valid=(valid,) if rested else ())


def _impact(market: Market, order: NewOrder, context: OrderContext) -> Iterator[Violation]:
    """Hold a market order to the depth of the book within the impact multiplier, where the book is known beyond that."""
    bid = order.side == "Bid"
    filters = market.filters.price
    factor = filters.max_impact_multiplier if bid else filters.min_impact_multiplier
    levels, best = (context.asks, context.best_ask) if bid else (context.bids, context.best_bid)
    if order.order_type != "Market" or factor is None or best is None:
        return
    limit = EXACT.multiply(best, factor)
    within = [level for level in levels if (level.price <= limit if bid else level.price >= limit)]
    if len(within) == len(levels):
        return  # nobody knows what lies deeper
    base = reduce(EXACT.add, (level.quantity for level in within), Decimal(0))
    quote = reduce(EXACT.add, (EXACT.multiply(level.price, level.quantity) for level in within), Decimal(0))
    for name, wanted, there in (
        ("quantity", amount(order.quantity), market.filters.quantity.grid.down(base)),
        ("quote_quantity", amount(order.quote_quantity), quote),
    ):
        if wanted is not None and wanted > there:
            yield Violation(
                parameter=name,
                rule="max_impact_multiplier" if bid else "min_impact_multiplier",
                reason=(
                    f"{written(wanted)} is more than the {written(there)} that the book has up to {written(limit)}, "
                    f"{written(factor)} times the best {'ask' if bid else 'bid'} {written(best)}"
                ),
                valid=(there,) if there else (),
            )

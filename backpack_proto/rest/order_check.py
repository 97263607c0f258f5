"""All checks of an order before it is sent: the rules of its market, and those of orders as such.

Theory. A market has rules that an order keeps or breaks at any moment (its grid: tick, step, smallest and largest), a state of its
book, and rules that depend on the moment (`order_moment`): those are judged by the caller's knowledge, and passed over without it.
Each broken rule is a `Violation`. All of them are returned. Where the sources leave open how far a rule goes, the check refuses only orders that
the rule certainly forbids (docs/orders.md). The exchange has no rule about the notional value of an order.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from backpack_proto.decoding import amount
from backpack_proto.errors import LocalProtocolError
from backpack_proto.hints import shown
from backpack_proto.http import Parameter

from .endpoints.orders import ORDER_ENDPOINTS
from .grid import Grid, written
from .new_order import NewOrder
from .order_context import NOTHING_KNOWN, OrderContext
from .order_moment import check_moment
from .violations import Violation

if TYPE_CHECKING:
    from .markets import Market

__all__ = ["check_grid", "check_order", "next_valid"]

_ENDPOINT: Final = next(endpoint for endpoint in ORDER_ENDPOINTS if endpoint.name == "place_order")
_PRICES: Final = (
    "price",
    "trigger_price",
    "take_profit_trigger_price",
    "take_profit_limit_price",
    "stop_loss_trigger_price",
    "stop_loss_limit_price",
)
_QUANTITIES: Final = ("quantity", "trigger_quantity")
_NEEDS: Final = {
    "trigger_by": "trigger_price",
    "take_profit_limit_price": "take_profit_trigger_price",
    "take_profit_trigger_by": "take_profit_trigger_price",
    "stop_loss_limit_price": "stop_loss_trigger_price",
    "stop_loss_trigger_by": "stop_loss_trigger_price",
    "slippage_tolerance": "slippage_tolerance_type",
    "slippage_tolerance_type": "slippage_tolerance",
}
"""Parameters that are meaningless without another one."""


def check_order(market: Market, order: NewOrder, context: OrderContext = NOTHING_KNOWN) -> tuple[Violation, ...]:
    """Return every rule that an order breaks, as far as is known."""
    return (
        *_market(market, order),
        *_shape(order),
        *_together(order),
        *_grid(market, order),
        *_state(market, order),
        *check_moment(market, order, context),
    )


def check_grid(market: Market, order: NewOrder) -> tuple[Violation, ...]:
    """Return the violations of tick, step and the smallest and largest values alone: the rules that do not depend on the moment."""
    return tuple(_grid(market, order))


def next_valid(grid: Grid, value: Decimal, word: str) -> str:
    """Return the end of an error text: the amounts next to a value that are allowed."""
    valid = grid.around(value)
    if not valid:
        return f"no {word} is valid here"
    plural = {"price": "prices", "quantity": "quantities"}[word]
    return f"the next valid {f'{plural} are' if len(valid) > 1 else f'{word} is'} {' and '.join(map(written, valid))}"


def _grid(market: Market, order: NewOrder) -> Iterator[Violation]:
    price, quantity = market.filters.price.grid, market.filters.quantity.grid
    for name in _PRICES:
        yield from _on_grid(name, order, price, "price", ("tick", "tick_size"))
    for name in _QUANTITIES:
        yield from _on_grid(name, order, quantity, "quantity", ("step", "step_size"))


def _on_grid(name: str, order: NewOrder, grid: Grid, word: str, increment: tuple[str, str]) -> Iterator[Violation]:
    value = amount(getattr(order, name))
    if value is None:  # not given, a percentage, or of a wrong shape
        return
    outside = grid.outside(value)
    if outside:
        problem, rule = outside, f"{'max' if grid.maximum is not None and value > grid.maximum else 'min'}_{word}"
    elif not grid.holds(value):
        problem, rule = f"not on the {increment[0]} {written(grid.increment)}", increment[1]
    else:
        return
    reason = f"{written(value)} is {problem}; {next_valid(grid, value, word)}"
    yield Violation(parameter=name, rule=rule, reason=reason, valid=grid.around(value))


def _market(market: Market, order: NewOrder) -> Iterator[Violation]:
    if order.symbol not in (market.symbol, market.common_name):
        yield Violation(
            parameter="symbol", rule="symbol", reason=f"{shown(order.symbol)} is checked against the rules of {market.symbol}"
        )
    if market.market_type == "RFQ":
        yield Violation(
            parameter="symbol", rule="market_type", reason=f"{market.symbol} trades by requests for quote: submit an RFQ"
        )
    if market.market_type == "SPOT" and order.reduce_only is True:
        reason = f"True on {market.symbol}, a spot market, which has no positions"
        yield Violation(parameter="reduce_only", rule="market_type", reason=reason)


def _shape(order: NewOrder) -> Iterator[Violation]:
    """Hold each parameter to the rule of the endpoint that takes it, and all of them to its groups."""
    python_names = {rule.name: rule.python_name for rule in _ENDPOINT.parameters}
    given: dict[str, Parameter] = {}
    for rule in _ENDPOINT.parameters:
        name, value = rule.python_name, getattr(order, rule.python_name)
        if value is None and not rule.required:
            continue
        try:
            given[rule.name] = rule.check(value, name)
        except LocalProtocolError as error:
            given[rule.name] = ""  # it is there, so that no group misses it
            yield Violation(parameter=name, rule="order", reason=str(error).removeprefix(f"{name}: "))
    for group in _ENDPOINT.groups:
        try:
            group.check(given, python_names.__getitem__)
        except LocalProtocolError as error:
            yield Violation(parameter=python_names[group.names[0]], rule="order", reason=f"an order {error}")
    share = order.trigger_quantity
    if isinstance(share, str) and share.endswith("%"):
        percentage = amount(share.removesuffix("%"))
        if percentage is not None and not 0 < percentage <= 100:
            reason = f"{shown(share)} is not above 0% and at most 100%"
            yield Violation(parameter="trigger_quantity", rule="order", reason=reason)


def _together(order: NewOrder) -> Iterator[Violation]:
    """Look for parameters that exclude each other, or are meaningless without another one."""
    market_order = order.order_type == "Market"
    if order.post_only is True and market_order:
        yield Violation(
            parameter="post_only", rule="order", reason="True for a market order, which only takes; use order_type='Limit'"
        )
    if order.post_only is True and order.time_in_force in ("IOC", "FOK"):
        yield Violation(
            parameter="post_only",
            rule="order",
            reason=f"True with time_in_force={order.time_in_force!r}, which never rests; use 'GTC' or leave out one of the two",
        )
    if order.price is not None and market_order:
        yield Violation(
            parameter="price", rule="order", reason=f"{shown(order.price)} for a market order, which has none; leave it out"
        )
    for name in ("quantity", "quote_quantity"):
        if getattr(order, name) is not None and order.trigger_quantity is not None:
            yield Violation(
                parameter=name, rule="order", reason="given beside trigger_quantity, which alone says how much; leave it out"
            )
    for name, needed in _NEEDS.items():
        if getattr(order, name) is not None and getattr(order, needed) is None:
            yield Violation(parameter=name, rule="order", reason=f"says nothing without {needed}; give that too")


def _state(market: Market, order: NewOrder) -> Iterator[Violation]:
    state, waits = market.order_book_state, order.trigger_price is not None
    match state:
        case "Closed" | "CancelOnly":
            refused = ("symbol", "no new orders are taken")
        case "LimitOnly" if order.order_type == "Market" and not waits:
            refused = ("order_type", "'Market' is not taken; use 'Limit'")
        case "PostOnly" if order.post_only is not True and not waits:
            refused = ("post_only", "only orders with post_only=True are taken")
        case _:
            return
    yield Violation(
        parameter=refused[0], rule="order_book_state", reason=f"the book of {market.symbol} is {state}: {refused[1]}"
    )

"""Everything that can be said of an order before it is sent: the rules of its market, and those of orders as such.

Theory. A market has rules that an order keeps or breaks whatever happens (its grid: tick, step, smallest and largest), a state of its
book, and bands around prices that move. The last are judged by what the caller knows at that moment, and passed over where it is not
known. Each broken rule is a `Violation`; all of them are returned. Where the sources leave open how far a rule goes, the check refuses
only what the rule certainly forbids: a band bounds a Bid above and an Ask below, and bands are not held against what waits for a trigger
(docs/orders.md). The exchange has no rule about the notional value of an order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict

from msgspec import Struct

from backpack_proto.decoding import Amount, amount
from backpack_proto.errors import ConfigurationError, LocalProtocolError, OrderDoesNotFit
from backpack_proto.hints import NOT_EXACT, one_of, shown
from backpack_proto.http import Parameter
from backpack_proto.streams.levels import Level
from backpack_proto.values import Value

from .endpoints.orders import ORDER_ENDPOINTS
from .grid import EXACT, Grid, written
from .new_order import NewOrder

if TYPE_CHECKING:
    from .markets import Market

__all__ = ["KnownNow", "OrderContext", "Violation", "check_grid", "check_order", "exact_amount", "misfit", "next_valid"]

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
"""Parameters that say nothing without another one."""


class Violation(Value, frozen=True, gc=False, kw_only=True):
    """One rule that an order breaks."""

    parameter: str
    """Of `NewOrder`, in Python's spelling."""
    rule: str
    """The rule by the Python name of the market's filter or member, such as `tick_size` or `order_book_state`; `order` for rules of all orders."""
    reason: str
    """The value, the rule, and what would be valid."""
    valid: tuple[Decimal, ...] = ()
    """The next valid values, the lower one first, where the rule is about a number."""

    def __str__(self) -> str:
        return f"{self.parameter}: {self.reason}"


class KnownNow(TypedDict, total=False):
    """What a caller knows at the moment, beside the rules of a market; what is left out or None is unknown.

    `bids` and `asks` are levels of the book, best first, such as `client.book(symbol).bids()`: how deep a market order may reach. Their
    best prices are `best_bid` and `best_ask`, unless given: a post-only order must not meet them. `last_price` is that of the last trade,
    for the multipliers; `mark_price` stands for the mean mark price and, with `index_price`, for the mean premium, which are not public;
    `oracle_price` is the latest price outside the exchange, for the discovery bound. `position` is the net quantity held in the market,
    negative where it is short and zero where there is none, for `reduce_only`.
    """

    best_bid: Amount | None
    best_ask: Amount | None
    last_price: Amount | None
    mark_price: Amount | None
    index_price: Amount | None
    oracle_price: Amount | None
    position: Decimal | int | None
    bids: Sequence[Level]
    asks: Sequence[Level]


class OrderContext(Struct, frozen=True, gc=False, kw_only=True):
    """`KnownNow` as exact decimals."""

    best_bid: Decimal | None = None
    best_ask: Decimal | None = None
    last_price: Decimal | None = None
    mark_price: Decimal | None = None
    index_price: Decimal | None = None
    oracle_price: Decimal | None = None
    position: Decimal | None = None
    bids: Sequence[Level] = ()
    asks: Sequence[Level] = ()

    @classmethod
    def of(cls, known: KnownNow) -> OrderContext:
        """Read what a caller knows.

        Raises:
            ConfigurationError: there is no such fact, or its value is no exact number.
        """
        read: dict[str, Any] = {}
        for name, value in known.items():
            if name in ("bids", "asks"):
                read[name] = value
            elif name == "position":
                read[name] = _position(value)
            elif name in cls.__struct_fields__:
                read[name] = None if value is None else exact_amount(name, value)
            else:
                raise ConfigurationError(one_of("check_order takes", name, cls.__struct_fields__))
        for name, levels in (("best_bid", read.get("bids")), ("best_ask", read.get("asks"))):
            if levels and read.get(name) is None:
                read[name] = levels[0].price
        return cls(**read)


def exact_amount(name: str, value: object) -> Decimal:
    """Return an amount as an exact decimal.

    Raises:
        ConfigurationError: it is a float, a bool, or anything else that is no amount.
    """
    exact = amount(value)
    if exact is None:
        raise ConfigurationError(
            f"{name}: a Decimal, an int or text in plain digits, got {shown(value)}{NOT_EXACT if isinstance(value, float) else ''}"
        )
    return exact


def _position(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, Decimal | int | None):
        shape = "the net quantity, a Decimal or an int, negative where it is short"
        raise ConfigurationError(f"position: {shape}, got {shown(value)}")
    return None if value is None else Decimal(value)


NOTHING_KNOWN: Final = OrderContext()


class _Amounts(NamedTuple):
    """The amounts of an order that can be read, by parameter; percentages are not among them."""

    prices: dict[str, Decimal]
    quantities: dict[str, Decimal]

    @classmethod
    def of(cls, order: NewOrder) -> _Amounts:
        def read(names: tuple[str, ...]) -> dict[str, Decimal]:
            found = ((name, amount(getattr(order, name))) for name in names)
            return {name: value for name, value in found if value is not None}

        return cls(read(_PRICES), read(_QUANTITIES))


def misfit(symbol: str, violations: Sequence[Violation]) -> OrderDoesNotFit:
    """Return one error that names all that is wrong."""
    return OrderDoesNotFit(symbol=symbol, violations=tuple((one.parameter, one.reason) for one in violations))


def check_order(market: Market, order: NewOrder, context: OrderContext = NOTHING_KNOWN) -> tuple[Violation, ...]:
    """Return every rule that an order breaks, as far as is known."""
    amounts = _Amounts.of(order)
    return (
        *_symbol(market, order),
        *_shape(order),
        *_together(order),
        *_grid(market, amounts),
        *_state(market, order),
        *_reducing(market, order, context),
        *_bands(market, order, amounts, context),
        *_crossing(market, order, amounts, context),
        *_impact(market, order, amounts, context),
    )


def check_grid(market: Market, order: NewOrder) -> tuple[Violation, ...]:
    """Return the violations of tick, step and the smallest and largest values alone: the rules that nothing but a new rule changes."""
    return tuple(_grid(market, _Amounts.of(order)))


def next_valid(grid: Grid, value: Decimal, word: str) -> str:
    """Return the end of an error text: the amounts next to a value that are allowed."""
    valid = grid.around(value)
    if not valid:
        return f"no {word} is valid here"
    plural = {"price": "prices", "quantity": "quantities"}[word]
    return f"the next valid {f'{plural} are' if len(valid) > 1 else f'{word} is'} {' and '.join(map(written, valid))}"


def _grid(market: Market, amounts: _Amounts) -> Iterator[Violation]:
    price, quantity = market.filters.price.grid, market.filters.quantity.grid
    for name, value in amounts.prices.items():
        yield from _on_grid(name, value, price, "price", ("tick", "tick_size"), ("min_price", "max_price"))
    for name, value in amounts.quantities.items():
        yield from _on_grid(name, value, quantity, "quantity", ("step", "step_size"), ("min_quantity", "max_quantity"))


def _on_grid(
    name: str, value: Decimal, grid: Grid, word: str, increment: tuple[str, str], bounds: tuple[str, str]
) -> Iterator[Violation]:
    outside = grid.outside(value)
    if outside:
        problem, rule = outside, bounds[1] if grid.maximum is not None and value > grid.maximum else bounds[0]
    elif not grid.holds(value):
        problem, rule = f"not on the {increment[0]} {written(grid.increment)}", increment[1]
    else:
        return
    reason = f"{written(value)} is {problem}; {next_valid(grid, value, word)}"
    yield Violation(parameter=name, rule=rule, reason=reason, valid=grid.around(value))


def _symbol(market: Market, order: NewOrder) -> Iterator[Violation]:
    if order.symbol not in (market.symbol, market.common_name):
        yield Violation(
            parameter="symbol", rule="symbol", reason=f"{shown(order.symbol)} is checked against the rules of {market.symbol}"
        )
    if market.market_type == "RFQ":
        yield Violation(
            parameter="symbol", rule="market_type", reason=f"{market.symbol} trades by requests for quote: submit an RFQ"
        )


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
    """Look for parameters that exclude each other, or say nothing without another one."""
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


def _waits(order: NewOrder) -> bool:
    """Return whether an order waits for its trigger outside the book."""
    return order.trigger_price is not None


def _state(market: Market, order: NewOrder) -> Iterator[Violation]:
    state = market.order_book_state
    match state:
        case "Closed" | "CancelOnly":
            refused = ("symbol", "no new orders are taken")
        case "LimitOnly" if order.order_type == "Market" and not _waits(order):
            refused = ("order_type", "'Market' is not taken; use 'Limit'")
        case "PostOnly" if order.post_only is not True and not _waits(order):
            refused = ("post_only", "only orders with post_only=True are taken")
        case _:
            return
    yield Violation(
        parameter=refused[0], rule="order_book_state", reason=f"the book of {market.symbol} is {state}: {refused[1]}"
    )


def _reducing(market: Market, order: NewOrder, context: OrderContext) -> Iterator[Violation]:
    if order.reduce_only is not True:
        return
    position = context.position
    if market.market_type == "SPOT":
        yield Violation(
            parameter="reduce_only",
            rule="market_type",
            reason=f"True on {market.symbol}, a spot market, which has no positions",
        )
    elif position is not None and not _waits(order) and (position >= 0 if order.side == "Bid" else position <= 0):
        reducing = f"{'a' if order.side == 'Bid' else 'an'} {order.side}"
        held = f"does not reduce a position of {written(position)}" if position else "has no position to reduce"
        yield Violation(parameter="reduce_only", rule="reduce_only", reason=f"True, and {reducing} {held}")


def _bands(market: Market, order: NewOrder, amounts: _Amounts, context: OrderContext) -> Iterator[Violation]:
    """Hold a limit price to the bands around prices that move: a Bid to their upper ends, an Ask to their lower ones."""
    price = amounts.prices.get("price")
    if price is None or _waits(order) or order.order_type != "Limit":
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


def _crossing(market: Market, order: NewOrder, amounts: _Amounts, context: OrderContext) -> Iterator[Violation]:
    price, grid = amounts.prices.get("price"), market.filters.price.grid
    if price is None or order.post_only is not True or _waits(order):
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


def _impact(market: Market, order: NewOrder, amounts: _Amounts, context: OrderContext) -> Iterator[Violation]:
    """Hold a market order to what the book has within the impact multiplier, where the book is known beyond that."""
    bid = order.side == "Bid"
    filters = market.filters.price
    factor = filters.max_impact_multiplier if bid else filters.min_impact_multiplier
    levels, best = (context.asks, context.best_ask) if bid else (context.bids, context.best_bid)
    if order.order_type != "Market" or _waits(order) or factor is None or best is None:
        return
    limit = EXACT.multiply(best, factor)
    within = [level for level in levels if (level.price <= limit if bid else level.price >= limit)]
    if len(within) == len(levels):
        return  # nobody knows what lies deeper
    base = reduce(EXACT.add, (level.quantity for level in within), Decimal(0))
    quote = reduce(EXACT.add, (EXACT.multiply(level.price, level.quantity) for level in within), Decimal(0))
    for name, wanted, there in (
        ("quantity", amounts.quantities.get("quantity"), market.filters.quantity.grid.down(base)),
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

"""The exchange's markets, and their names: the exchange's own id and a normalised one.

Everything is taken from `GET /markets`, and not from the form of an id: ids hold dots, digits and lower case, and their grammar
grows (docs/protocol.md sections 6.2 and 7). The normalised name of a market is `BASE-QUOTE` for spot, `BASE-QUOTE-PERP` for
perpetuals and `BASE-QUOTE-<TYPE>` for all others. Where several markets would have the same name, such as dated futures that
differ in their date only, the oldest has it (by `created_us`, then by id, so that a new listing never takes a name away), and the
others go by their id alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, Unpack

from msgspec import Raw, field

from backpack_proto.account.values import MarginFunction
from backpack_proto.decoding import Amount, UnixUs, decode_json
from backpack_proto.errors import ConfigurationError, OrderDoesNotFit, RemoteProtocolError, UnknownSymbol
from backpack_proto.hints import did_you_mean, one_of, shown
from backpack_proto.values import Value

from .grid import Grid, Rounding, written
from .new_order import NewOrder, Side
from .order_check import check_order, next_valid
from .order_context import KnownNow, OrderContext, exact_amount
from .violations import Violation, misfit

__all__ = [
    "Band",
    "Filters",
    "Market",
    "Markets",
    "PremiumBand",
    "PriceFilter",
    "QuantityFilter",
    "parse_markets",
]


class Band(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """Largest distance of a price from another one, as factors."""

    min_multiplier: Decimal
    max_multiplier: Decimal


class PremiumBand(Value, frozen=True, gc=False, kw_only=True):
    """Largest distance of the premium from its mean."""

    tolerance_fraction: Decimal = field(name="tolerancePct")
    """A fraction, in spite of its name on the wire: 0.05 is 5 %."""


class PriceFilter(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The price rules of a market. Multipliers are factors, None where a market has no such rule."""

    tick_size: Decimal
    min_price: Decimal
    max_price: Decimal | None = None
    min_multiplier: Decimal | None = None
    """Of the last active price."""
    max_multiplier: Decimal | None = None
    min_impact_multiplier: Decimal | None = None
    """Of the best bid: how deep a market order to sell may reach."""
    max_impact_multiplier: Decimal | None = None
    """Of the best ask: how deep a market order to buy may reach."""
    mean_mark_price_band: Band | None = None
    mean_premium_band: PremiumBand | None = None
    discovery_bound_band: Band | None = None
    """Of the latest price outside the exchange, for markets with an `rwa_market_type`: how far the book may move from it."""
    borrow_entry_fee_min_multiplier: Decimal | None = None
    borrow_entry_fee_max_multiplier: Decimal | None = None
    min_price_update_multiplier: Decimal | None = None
    """Of the mark or index price before: how far one update may move it."""
    max_price_update_multiplier: Decimal | None = None

    @property
    def grid(self) -> Grid:
        """The prices that the book allows."""
        return Grid(self.tick_size, self.min_price, self.max_price)


class QuantityFilter(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """The quantity rules of a market, in base units."""

    step_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal | None = None

    @property
    def grid(self) -> Grid:
        """The quantities that the book allows."""
        return Grid(self.step_size, self.min_quantity, self.max_quantity)


class Filters(Value, frozen=True, gc=False, kw_only=True):
    """The rules that an order must keep."""

    price: PriceFilter
    quantity: QuantityFilter


class Market(Value, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One market as `/markets` describes it (docs/protocol.md 6.2). Words from open lists are plain strings."""

    symbol: str
    """The exchange's id, case-sensitive."""
    base: str = field(name="baseSymbol")
    quote: str = field(name="quoteSymbol")
    market_type: str
    """`SPOT`, `PERP`, `IPERP`, `DATED`, `PREDICTION`, `RFQ`, ..."""
    order_book_state: str
    """`Open`, `Closed`, `CancelOnly`, `LimitOnly`, `PostOnly`. Closed markets stay listed, and their streams are silent."""
    filters: Filters
    created_us: UnixUs = field(name="createdAt")
    visible: bool = True
    """True where the row does not say. Those of 2025 did not (docs/protocol.md 6.2)."""
    funding_interval_ms: int | None = field(name="fundingInterval", default=None)
    """Perpetuals. Some spot markets carry one too."""
    funding_rate_lower_bound_basis_points: Decimal | None = field(name="fundingRateLowerBound", default=None)
    funding_rate_upper_bound_basis_points: Decimal | None = field(name="fundingRateUpperBound", default=None)
    imf_function: MarginFunction | None = None
    """Initial margin."""
    mmf_function: MarginFunction | None = None
    """Maintenance margin."""
    open_interest_limit: Decimal | None = None
    """Base units. `0` on spot markets."""
    position_limit_weight: Decimal | None = None
    rwa_market_type: str | None = None
    """`STOCK`, `INDEX`, `COMMODITY`, `FX`, ..."""

    @property
    def tick_size(self) -> Decimal:
        """The price increment."""
        return self.filters.price.tick_size

    @property
    def step_size(self) -> Decimal:
        """The quantity increment, base units."""
        return self.filters.quantity.step_size

    @property
    def min_quantity(self) -> Decimal:
        """The smallest quantity of an order, base units."""
        return self.filters.quantity.min_quantity

    @property
    def max_quantity(self) -> Decimal | None:
        """The largest quantity of an order, base units. None: no limit."""
        return self.filters.quantity.max_quantity

    @property
    def common_name(self) -> str:
        """The normalised name, as long as no older market has the same one: `Markets.normalised` knows."""
        parts = [self.base, self.quote]
        return "-".join(parts if self.market_type == "SPOT" else [*parts, self.market_type])

    def round_price(self, price: Amount, *, side: Side, rounding: Rounding | None = None) -> Decimal:
        """Return a price on the tick of the market, in the tick's own number of decimals, never worse than asked.

        A Bid is rounded down and an Ask up, so that you never pay more and never get less than `price`. An explicit `rounding` is `down`,
        `up` or `nearest` instead, and may be worse by less than a tick.

        Raises:
            ConfigurationError: an argument cannot be used: a float is not exact, and a bool is not a price.
            OrderDoesNotFit: the result is zero or outside the smallest and the largest price of the market.
        """
        if side not in ("Bid", "Ask"):
            raise ConfigurationError(one_of("side", side, ("Bid", "Ask"), {"buy": "Bid", "sell": "Ask"}))
        usual: Rounding = "down" if side == "Bid" else "up"
        return self._rounded("price", price, self.filters.price.grid, rounding, usual)

    def round_quantity(self, quantity: Amount, *, rounding: Rounding | None = None) -> Decimal:
        """Return a quantity on the step of the market, in the step's own number of decimals, never more than asked.

        An explicit `rounding` is `up` or `nearest` instead of `down`, and may be more by less than a step.

        Raises:
            ConfigurationError: an argument cannot be used: a float is not exact, and a bool is not a quantity.
            OrderDoesNotFit: the result is zero or outside the smallest and the largest quantity of the market.
        """
        return self._rounded("quantity", quantity, self.filters.quantity.grid, rounding, "down")

    def check_order(self, order: NewOrder, **known: Unpack[KnownNow]) -> tuple[Violation, ...]:
        """Return every rule that an order breaks, as far as is known (docs/orders.md).

        The rules of the market and of orders as such are always checked. Rules that depend on the moment are checked where `known` has the values, by
        the keywords of `KnownNow`: `best_bid`, `best_ask`, `last_price`, `mark_price`, `index_price`, `oracle_price`, `position`, `bids`,
        `asks`. The symbol of the order is the id of this market or its normalised name.

        Raises:
            ConfigurationError: an argument cannot be used.
        """
        if not isinstance(order, NewOrder):
            raise ConfigurationError(f"order: a NewOrder, such as NewOrder.limit(...), got {shown(order)}")
        return check_order(self, order, OrderContext.of(known))

    def checked_order(self, order: NewOrder, **known: Unpack[KnownNow]) -> NewOrder:
        """Return an order that breaks no rule. The arguments are those of `check_order`.

        Raises:
            OrderDoesNotFit: it breaks one or more. The error names all of them, each with the next valid value.
            ConfigurationError: an argument cannot be used.
        """
        violations = self.check_order(order, **known)
        if violations:
            raise misfit(self.symbol, violations)
        return order

    def _rounded(self, name: str, value: Amount, grid: Grid, rounding: Rounding | None, usual: Rounding) -> Decimal:
        exact = exact_amount(name, value)
        match usual if rounding is None else rounding:
            case "down":
                rounded = grid.down(exact)
            case "up":
                rounded = grid.up(exact)
            case "nearest":
                rounded = grid.nearest(exact, from_the_middle_up=usual == "up")
            case _:
                raise ConfigurationError(one_of("rounding", rounding, ("down", "up", "nearest")))
        outside = grid.outside(rounded)
        if outside:
            reason = f"{written(exact)} becomes {written(rounded)}, which is {outside}; {next_valid(grid, exact, name)}"
            raise OrderDoesNotFit(symbol=self.symbol, violations=((name, reason),))
        return rounded


class Markets(Mapping[str, Market]):
    """All markets: a mapping that is read by the exchange's ids and by normalised names.

    `markets["SOL_USDC"]` and `markets["SOL-USDC"]` are the same market, and so are `in` and `get`. Every market is counted once and
    iterated over once, by its id. `unreadable` has the faults of rows of the list that could not be used.
    """

    __slots__ = ("_by_id", "_by_name", "_names", "unreadable")

    def __init__(self, markets: Iterable[Market], unreadable: Iterable[RemoteProtocolError] = ()) -> None:
        self._by_id: Final = {market.symbol: market for market in markets}
        self._names: Final = _names(self._by_id)
        self._by_name: Final = {self._names[symbol]: market for symbol, market in self._by_id.items()}
        self.unreadable: Final = tuple(unreadable)

    def __getitem__(self, symbol: str) -> Market:
        """Return the market with this id or normalised name, spelled exactly so. An id has precedence.

        Raises:
            UnknownSymbol: (a `KeyError`) no market has that name. The text offers the closest ones.
        """
        market = self._by_id.get(symbol) or self._by_name.get(symbol)
        if market is None:
            hint = did_you_mean(symbol, (*self._by_id, *self._by_name))
            raise UnknownSymbol(f"{shown(symbol)} is not a market of the exchange{hint}")
        return market

    def __contains__(self, symbol: object) -> bool:
        """Return whether a market has this id or normalised name."""
        return symbol in self._by_id or symbol in self._by_name

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids, in the order of the exchange's list."""
        return iter(self._by_id)

    def __len__(self) -> int:
        """Return how many markets there are."""
        return len(self._by_id)

    def joined_by(self, markets: Iterable[Market]) -> Markets:
        """Return all of these, those of `markets` in the place of those with the same ids, and behind them the ones that are new."""
        joined = self._by_id | {market.symbol: market for market in markets}
        return Markets(joined.values(), self.unreadable)

    def normalised(self, symbol: str) -> str:
        """Return the normalised name of a market. Its id where that name belongs to another one.

        Raises:
            UnknownSymbol: no market has that id or name.
        """
        return self._names[self[symbol].symbol]

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"Markets({len(self)} markets, {len(self.unreadable)} unreadable)"


def parse_markets(body: bytes) -> Markets:
    """Read the answer of `/markets`. A row that cannot be read is passed over and noted in `Markets.unreadable`.

    Raises:
        RemoteProtocolError: not a JSON array, or an array of which no row can be read.
    """
    rows = decode_json(body, list[Raw], "markets")
    markets: list[Market] = []
    unreadable: list[RemoteProtocolError] = []
    for number, row in enumerate(rows):
        try:
            markets.append(decode_json(row, Market, f"markets[{number}]"))
        except RemoteProtocolError as error:
            unreadable.append(error)
    if unreadable and not markets:
        raise unreadable[0]
    return Markets(markets, unreadable)


def _names(by_id: Mapping[str, Market]) -> dict[str, str]:
    """The normalised name of each id."""
    owners: dict[str, str] = {}
    names = dict.fromkeys(by_id, "")
    for market in sorted(by_id.values(), key=lambda market: (market.created_us, market.symbol)):
        name = market.common_name
        # An id that looks like the normalised name of another market keeps it: ids have precedence.
        taken = owners.setdefault(name, market.symbol) != market.symbol or (name in by_id and name != market.symbol)
        names[market.symbol] = market.symbol if taken else name
    return names

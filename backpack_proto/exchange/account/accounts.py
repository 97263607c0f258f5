"""Holdings of an account of the simulated exchange: balances, perpetual positions, orders and fills.

Theory of operation. Amounts of money are whole numbers of 10^-`PLACES` of an asset, so they are rounded only where this is said.
An order on a spot market locks its largest cost. A fill takes from the locked amount, gives back the savings of a better price, and pays
its fee out of the proceeds: a buyer in the base asset, a seller in the quote asset. Perpetuals do not lock: their realised profit
and their fees move the settlement asset at once, and margin is checked when an order arrives.

With `auto_lend`, USDC that is idle is lent out while a position is open, as accounts on cross margin see it: `available` is about 0
then, while all of it still counts as collateral. A spot order takes back as much as it needs.

A position remembers the cost of its quantity. When part of it is closed, that part of the cost is rounded down to a whole unit and the
rest stays, so cost, realised profit and payments always add up exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Final

from msgspec import Struct

from backpack_proto.decoding import sane
from backpack_proto.errors import LocalProtocolError
from backpack_proto.exchange.market.listings import Listing, stripped, to_decimal
from backpack_proto.exchange.market.market import SimulatedMarket
from backpack_proto.exchange.market.orders import OrderSide
from backpack_proto.values import Value

from .orders import AccountOrder, SimulatedOrder

__all__ = [
    "DEFAULT_DEPOSITS",
    "PLACES",
    "SETTLEMENT_ASSET",
    "Fees",
    "HeldPosition",
    "SimulatedAccount",
    "SimulatedBalance",
    "SimulatedFill",
    "SimulatedFundingPayment",
    "SimulatedPosition",
    "base_units",
    "mark_ticks",
    "quote_units",
    "show_position",
    "to_amount",
    "unrealized",
]

PLACES: Final = 18
"""Decimals of every amount: those of price and quantity together, and six more for the fee."""
SETTLEMENT_ASSET: Final = "USDC"
"""Every market is quoted in it, and perpetuals settle in it."""
DEFAULT_DEPOSITS: Final[Mapping[str, Decimal]] = {
    "USDC": Decimal(1_000_000),
    "SOL": Decimal(1_000),
    "BTC": Decimal(10),
    "USDT": Decimal(100_000),
}

_RATE_UNITS = 10**6
_LONG = Context(prec=28)
"""Averages are shown with up to 28 digits (docs/protocol.md 6.4)."""
_PNL_UNITS = 10 ** (PLACES - 6)


class Fees(Value, frozen=True, gc=False, kw_only=True):
    """Fees of trading, in basis points with at most two decimals. Negative is a rebate."""

    maker_bps: Decimal = Decimal(2)
    taker_bps: Decimal = Decimal(5)

    def of(self, units: int, *, maker: bool) -> int:
        """The fee on an amount, which is a multiple of 10^6 units."""
        return units * int((self.maker_bps if maker else self.taker_bps) * 100) // _RATE_UNITS


class SimulatedBalance(Struct, frozen=True, gc=False):
    """The balance of one asset."""

    available: Decimal
    locked: Decimal
    staked: Decimal = Decimal(0)
    lent: Decimal = Decimal(0)
    """By `auto_lend`. The exchange shows that among the collateral only."""


class SimulatedPosition(Struct, frozen=True, gc=False, kw_only=True):
    """One perpetual position."""

    symbol: str
    position_id: int
    net_quantity: Decimal
    """Negative is short."""
    entry_price: Decimal
    break_even_price: Decimal
    net_cost: Decimal
    realized_pnl: Decimal
    unrealized_pnl: Decimal
    mark_price: Decimal
    funding: Decimal
    """All funding payments together. Negative is paid."""


class SimulatedFill(Struct, frozen=True, gc=False, kw_only=True):
    """One fill of the account."""

    trade_id: int
    order_id: int
    client_id: int | None
    symbol: str
    side: OrderSide
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    maker: bool
    engine_us: int


class SimulatedFundingPayment(Struct, frozen=True, gc=False, kw_only=True):
    """The funding of one position for one interval."""

    symbol: str
    amount: Decimal
    """Negative is paid."""
    rate: Decimal
    interval_end_s: int


class _Balance(Struct, gc=False):
    available: int = 0
    locked: int = 0
    lent: int = 0


class HeldPosition(Struct, gc=False):
    """A perpetual position in the making: lots and units of 10^-`PLACES`, signed."""

    position_id: int
    lots: int = 0
    cost: int = 0
    realized: int = 0
    charges: int = 0
    """Fees."""
    funding: int = 0

    def trade(self, lots: int, paid: int) -> int:
        """Take in a fill of signed lots for which `paid` was spent (negative: received). Returns the profit that it realised."""
        realized = 0
        if self.lots * lots < 0:
            closing = min(abs(lots), abs(self.lots))
            paid_to_close = paid * closing // abs(lots)  # exact: the payment is a multiple of the lots
            released = self.cost * closing // abs(self.lots)
            realized = -paid_to_close - released
            self.cost -= released
            self.lots += closing if lots > 0 else -closing
            lots -= closing if lots > 0 else -closing
            paid -= paid_to_close
        self.lots += lots
        self.cost += paid
        self.realized += realized
        return realized


class SimulatedAccount:
    """One account. Tests compare a client's ledger with the properties that return plain values.

    Raises:
        LocalProtocolError: a deposit is negative or not a usable amount, or a fee is too fine.
    """

    def __init__(self, owner: int, deposits: Mapping[str, Decimal], fees: Fees) -> None:
        for asset, amount in deposits.items():
            if not sane(amount) or not 0 <= amount < 10**15 or not _fits(amount, PLACES):
                raise LocalProtocolError(f"{amount} {asset} cannot be deposited")
        if not all(sane(rate) and abs(rate) < 10_000 and _fits(rate, 2) for rate in (fees.maker_bps, fees.taker_bps)):
            raise LocalProtocolError("fees are basis points with at most two decimals")
        self.auto_lend = False
        """True when idle USDC is lent out while a position is open."""
        self.owner = owner
        """The owner that its orders have in the matching engines."""
        self.fees = fees
        self.deposits = dict(deposits)
        self.orders: dict[tuple[str, int], AccountOrder] = {}
        """Every open order, triggers that wait included, by symbol and id, oldest first."""
        self.history: list[AccountOrder] = []
        """Every order that was ever accepted, oldest first."""
        self.by_id: dict[str, list[AccountOrder]] = {}
        """The same orders by the text of their id. Several only if markets share it."""
        self.fills: list[SimulatedFill] = []
        """Every fill, oldest first."""
        self.funding: list[SimulatedFundingPayment] = []
        """Every funding payment, oldest first."""
        self.open_positions: dict[str, tuple[SimulatedMarket, HeldPosition]] = {}
        self._balances = {asset: _Balance(_units(amount)) for asset, amount in deposits.items()}

    @property
    def balances(self) -> dict[str, SimulatedBalance]:
        """The balance of every asset that was ever held."""
        return {
            asset: SimulatedBalance(to_amount(held.available), to_amount(held.locked), lent=to_amount(held.lent))
            for asset, held in self._balances.items()
        }

    @property
    def positions(self) -> dict[str, SimulatedPosition]:
        """The open positions by symbol, at their marks of this moment."""
        return {symbol: show_position(market, position) for symbol, (market, position) in self.open_positions.items()}

    @property
    def open_orders(self) -> dict[int, SimulatedOrder]:
        """The open orders by id, triggers that wait included."""
        return {order.order_id: order.shown for order in self.orders.values()}

    def enlist(self, order: AccountOrder) -> None:
        """Take in a new open order."""
        self.orders[order.key] = order
        self.history.append(order)
        self.by_id.setdefault(str(order.order_id), []).append(order)

    def available(self, asset: str) -> int:
        """Amount that can be spent, in units, automatic loans included."""
        held = self._balances.get(asset)
        return 0 if held is None else held.available + held.lent

    def total(self, asset: str) -> int:
        """Amount held, locked or not, in units."""
        held = self._balances.get(asset)
        return 0 if held is None else held.available + held.locked + held.lent

    def credit(self, asset: str, units: int) -> None:
        """Add to the available amount. A negative number takes away."""
        held = self._balances.setdefault(asset, _Balance())
        held.available += units
        _take_back(held)

    def lock(self, asset: str, units: int) -> None:
        """Move units from available to locked, or back if the number is negative."""
        if units:
            held = self._balances.setdefault(asset, _Balance())
            held.available -= units
            held.locked += units
            _take_back(held)

    def lend_idle(self) -> None:
        """Lend out idle USDC while a position is open, or take it all back."""
        held = self._balances.get(SETTLEMENT_ASSET)
        if held is None or not (self.auto_lend or held.lent):
            return
        idle = held.available if self.auto_lend and self.open_positions else -held.lent
        if idle > 0 or held.lent:
            held.available -= idle
            held.lent += idle


def _take_back(held: _Balance) -> None:
    """Take back lent USDC, as far as more was spent than was available."""
    missing = min(held.lent, -held.available)
    if missing > 0:
        held.available += missing
        held.lent -= missing


def base_units(listing: Listing, lots: int) -> int:
    """A quantity of a market's base asset in units."""
    return int(lots * 10 ** (PLACES - listing.quantity_decimals))


def quote_units(listing: Listing, tick_lots: int) -> int:
    """Ticks times lots of a market as units of its quote asset."""
    return int(tick_lots * 10 ** (PLACES - listing.quantity_decimals - listing.price_decimals))


def mark_ticks(market: SimulatedMarket) -> int:
    """Mark price of a perpetual."""
    return market.listing.opening_ticks if market.reference is None else market.reference.mark


def unrealized(market: SimulatedMarket, position: HeldPosition) -> int:
    """Proceeds of closing at the mark, in units, cut off behind the six decimals of the wire."""
    units = quote_units(market.listing, mark_ticks(market) * position.lots) - position.cost
    shorter = abs(units) // _PNL_UNITS * _PNL_UNITS
    return -shorter if units < 0 else shorter


def average(units: int, listing: Listing, lots: int) -> Decimal:
    """A price: units of the quote asset per base unit, with up to 28 digits, or 0 for no lots."""
    if not lots:
        return Decimal(0)
    return _LONG.divide(to_amount(units), Decimal(stripped(lots, listing.quantity_decimals)))


def show_position(market: SimulatedMarket, position: HeldPosition) -> SimulatedPosition:
    """A position as a plain value."""
    listing = market.listing
    return SimulatedPosition(
        symbol=market.symbol,
        position_id=position.position_id,
        net_quantity=to_decimal(position.lots, listing.quantity_decimals),
        entry_price=average(position.cost, listing, position.lots),
        break_even_price=average(
            position.cost - position.realized + position.charges - position.funding, listing, position.lots
        ),
        net_cost=to_amount(position.cost),
        realized_pnl=to_amount(position.realized),
        unrealized_pnl=to_amount(unrealized(market, position)),
        mark_price=to_decimal(mark_ticks(market), listing.price_decimals),
        funding=to_amount(position.funding),
    )


def to_amount(units: int) -> Decimal:
    """Units as an exact decimal number without trailing zeros."""
    # By way of text, for arithmetic rounds to the precision of the caller.
    return Decimal(stripped(units, PLACES))


def _units(amount: Decimal) -> int:
    sign, digits, exponent = amount.as_tuple()
    magnitude = int("".join(map(str, digits)) + "0" * (PLACES + int(exponent)))
    return -magnitude if sign else magnitude


def _fits(amount: Decimal, decimals: int) -> bool:
    return -int(amount.as_tuple().exponent) <= decimals

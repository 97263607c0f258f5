"""Requests for quote and quotes, from the moment they were taken. Prices are ticks and quantities lots."""

from __future__ import annotations

from msgspec import Struct

from backpack_proto.exchange.market.listings import stripped
from backpack_proto.exchange.market.orders import OrderSide

from .accounts import PLACES, SETTLEMENT_ASSET, Fees, base_units, quote_units
from .orders import OrderState
from .rfq_market import RfqMarket

__all__ = ["MAKER", "RfqRequest", "SimulatedQuote", "SimulatedRfq", "cost_units", "spent_asset", "taker_price", "taker_units"]

MAKER = 0
"""Who quotes where no account does: the exchange's broker for stocks, the crowd for everything else."""


class RfqRequest(Struct, frozen=True, gc=False, kw_only=True):
    """A request for quote as somebody wants it."""

    market: RfqMarket
    side: OrderSide
    lots: int | None
    tick_lots: int | None
    """Amount to be spent or brought, in place of a quantity: ticks times lots."""
    price: int | None = None
    """The worst price of a quote that is accepted by itself, or None where the user accepts."""
    client_id: int | None = None

    @property
    def immediate(self) -> bool:
        """True when the first quote that is good enough is accepted by itself."""
        return self.price is not None


class SimulatedQuote(Struct, gc=False, kw_only=True):
    """A quote for a request."""

    quote_id: int
    rfq_id: int
    symbol: str
    maker: int
    """Owner of the account that made it, or `MAKER`."""
    client_id: int | None
    bid: int
    ask: int
    created_us: int
    deferred: bool
    state: OrderState = OrderState.NEW

    def price(self, side: OrderSide) -> int:
        """Return the price at which somebody on this side would trade."""
        return self.ask if side is OrderSide.BID else self.bid


class SimulatedRfq(Struct, gc=False, kw_only=True):
    """A request from the moment it was taken."""

    rfq_id: int
    owner: int
    request: RfqRequest
    created_us: int
    submit_by_us: int
    expires_us: int
    state: OrderState = OrderState.NEW
    turn: int = 0
    """Number of times that its times were set. Events scheduled in an earlier turn do not hold any more."""
    quotes: list[SimulatedQuote]
    accepted: SimulatedQuote | None = None
    locked: int = 0
    """Units of the asset that it spends, while its settlement is to come."""
    lots: int = 0
    """Filled part of it."""
    fill_ticks: int = 0
    fee: int = 0
    maker_fee: int = 0
    filled_us: int = 0

    @property
    def open(self) -> bool:
        """True when it can still be filled."""
        return self.state is OrderState.NEW

    @property
    def best(self) -> SimulatedQuote | None:
        """The best of its quotes. The first of several that are as good."""
        side = self.request.side
        standing = [quote for quote in self.quotes if quote.state is OrderState.NEW]
        return min(standing, key=lambda quote: quote.price(side) * (1 if side is OrderSide.BID else -1), default=None)

    def size_at(self, ticks: int) -> int:
        """Return how many lots it is for at a price."""
        if self.request.lots is not None:
            return self.request.lots
        return (self.request.tick_lots or 0) // ticks


def spent_asset(rfq: SimulatedRfq) -> str:
    """Return the asset that the requester gives."""
    return SETTLEMENT_ASSET if rfq.request.side is OrderSide.BID else rfq.request.market.listing.base


def cost_units(rfq: SimulatedRfq, quote: SimulatedQuote, fees: Fees) -> int:
    """Return how much of that asset a quote costs, a fee in the same asset included."""
    ticks = quote.price(rfq.request.side)
    lots = rfq.size_at(ticks)
    if rfq.request.side is OrderSide.ASK:
        return base_units(rfq.request.market.listing, lots)
    return taker_units(rfq, lots, ticks, fees)[0]


def taker_units(rfq: SimulatedRfq, lots: int, ticks: int, fees: Fees) -> tuple[int, int]:
    """Return the payment of or to the requester for so many lots at a price, fee included, and the fee."""
    paid = quote_units(rfq.request.market.listing, lots * ticks)
    fee = fees.of(paid, maker=False)
    return (paid + fee if rfq.request.side is OrderSide.BID else paid - fee), fee


def taker_price(rfq: SimulatedRfq, ticks: int, fees: Fees) -> str:
    """Return a price with the fee of the requester in it."""
    listing = rfq.request.market.listing
    whole = quote_units(listing, 10**listing.quantity_decimals * ticks)
    fee = fees.of(whole, maker=False)
    return stripped(whole + fee if rfq.request.side is OrderSide.BID else whole - fee, PLACES)

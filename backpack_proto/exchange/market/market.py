"""One market of the simulated exchange: its book, its crowd, its tape, and further parts of a perpetual."""

from __future__ import annotations

from functools import cached_property, lru_cache
from random import Random

from backpack_proto.streams.levels import Level

from .activity import FLOWS, OTHER_FLOW, Activity
from .listings import Listing, to_decimal
from .matching import MatchingEngine
from .orders import OrderSide, Outcome
from .tape import Tape, TapedTrade

__all__ = ["FUNDING_INTERVAL_US", "INDEX_DECIMALS", "RATE_DECIMALS", "Reference", "SimulatedMarket"]

FUNDING_INTERVAL_US = 3_600_000_000
"""Perpetuals settle funding every hour (docs/protocol.md 6.2)."""

INDEX_DECIMALS = 8
RATE_DECIMALS = 9
_THIN = 0.4
"""Trades per minute in the made-up day of a market that sleeps: hundreds of them are asked for together, by `/tickers`."""


class Reference:
    """Mark price, index price, funding rate and open interest of a perpetual. They move once a second."""

    def __init__(self, rng: Random, listing: Listing) -> None:
        self._rng = rng
        self._scale = INDEX_DECIMALS - listing.price_decimals
        self.mark = listing.opening_ticks
        """Ticks."""
        self.index = listing.opening_ticks * 10**self._scale
        """Units of 10^-`INDEX_DECIMALS`."""
        self.funding = rng.randrange(2_000, 20_000)
        """Rate of the running interval, units of 10^-`RATE_DECIMALS`."""
        lot = 10**listing.quantity_decimals
        self.open_interest = rng.randrange(40_000_000, 90_000_000) * 10**listing.price_decimals // listing.opening_ticks * lot
        """Lots."""

    def move(self, fair: float, middle: int) -> None:
        """Follow the market: its fair price, and the middle of its book in ticks."""
        rng = self._rng
        self.mark = middle
        self.index = round(fair * 10**self._scale * (1.0 + rng.gauss(0.0, 1e-5)))
        premium = (middle * 10**self._scale - self.index) / self.index
        aim = 12_500 + premium * 1e8
        self.funding = round(self.funding + 0.02 * (aim - self.funding) + rng.gauss(0.0, 40.0))
        self.open_interest = max(1, round(self.open_interest * (1.0 + rng.gauss(0.0, 2e-5))))

    def past_rates(self, seed: str, newest_end_s: int, count: int, offset: int) -> list[tuple[int, int]]:
        """Funding rates of past intervals as (end in seconds, rate), newest first. Each is drawn from its own end."""
        interval_s = FUNDING_INTERVAL_US // 1_000_000
        ends = (newest_end_s - interval_s * number for number in range(offset, offset + count))
        return [(end_s, round(Random(f"{seed}:{end_s}").gauss(12_500, 6_000))) for end_s in ends]


class SimulatedMarket:
    """A market whose book is open: engine, crowd and tape, all drawn from `seed` and the symbol."""

    def __init__(self, listing: Listing, *, seed: int, start_us: int) -> None:
        self.listing = listing
        self.symbol = listing.symbol
        self.seed = f"{seed}:{listing.symbol}"
        flow = FLOWS.get(listing.symbol, OTHER_FLOW)
        ids = Random(f"{self.seed}:ids")
        self._start_us = start_us
        self._opening_ticks = listing.opening_ticks
        self._first_trade_id = ids.randrange(1_000_000, 400_000_000)
        self.engine = MatchingEngine(
            # Above 2^32, as on the exchange, and far from those of the next market.
            update_id=ids.randrange(4_300_000_000, 7_600_000_000),
            next_order_id=ids.randrange(50_000_000_000, 60_000_000_000),
            next_trade_id=self._first_trade_id,
        )
        self.activity = Activity(
            self.engine,
            flow,
            Random(f"{self.seed}:activity"),
            opening_ticks=listing.opening_ticks,
            liquidations=listing.perpetual,
            price_grid=listing.ticks_per_price,
            quantity_grid=listing.lots_per_quantity,
        )
        self.reference = Reference(Random(f"{self.seed}:reference"), listing) if listing.perpetual else None

    @cached_property
    def tape(self) -> Tape:
        """The trades. Made when they are first asked for, since most of a market's time and memory goes into them."""
        flow = FLOWS.get(self.symbol, OTHER_FLOW)
        return Tape(
            Random(f"{self.seed}:tape"),
            start_us=self._start_us,
            closing_ticks=self._opening_ticks,
            wander_ticks=flow.drift * (60 * flow.events) ** 0.5 / 2,
            lots=max(2, flow.lots // 2),
            trades_per_minute=_THIN if self.listing.sleeps else 60 * flow.trades,
            next_trade_id=self._first_trade_id,
        )

    def change(self, listing: Listing) -> Outcome:
        """Go on by other rules. The crowd cancels orders that do not keep them."""
        self.listing = listing
        return self.activity.change_grid(listing.ticks_per_price, listing.lots_per_quantity)

    def best(self) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """Best bid and best ask, each as (ticks, lots), or None for an empty side."""
        return self.engine.best(OrderSide.BID), self.engine.best(OrderSide.ASK)

    def record(self, outcome: Outcome, engine_us: int) -> None:
        """Put the fills of a book event on the tape."""
        for fill in outcome.fills:
            maker_bought = fill.taker_side is OrderSide.ASK
            self.tape.record(TapedTrade(fill.trade_id, fill.price, fill.lots, maker_bought, engine_us))

    def move_reference(self) -> None:
        """Let mark price, index and the rest follow the market. Once a second."""
        bid, ask = self.best()
        if self.reference is not None and bid is not None and ask is not None:
            self.reference.move(self.activity.fair, (bid[0] + ask[0]) // 2)

    def levels(self, side: OrderSide) -> tuple[Level, ...]:
        """Every level of a side, best first."""
        price_decimals, quantity_decimals = self.listing.price_decimals, self.listing.quantity_decimals
        return tuple(_level(price, lots, price_decimals, quantity_decimals) for price, lots in self.engine.levels(side))


# From one look at a book to the next, most of its levels stay as they are.
@lru_cache(maxsize=65536)
def _level(price: int, lots: int, price_decimals: int, quantity_decimals: int) -> Level:
    return Level(to_decimal(price, price_decimals), to_decimal(lots, quantity_decimals))

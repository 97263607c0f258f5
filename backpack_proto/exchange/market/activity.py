"""Synthetic order flow: the crowd that trades on one market, drawn from one random generator.

Theory of operation. A fair price wanders and is pulled back to where it began, so a market never strays far in any length of
time. Around it the crowd adds, shrinks and cancels orders, mostly close to the best prices. When the book lags behind the fair price,
market orders lean to the side that brings it back. How many levels and orders a side has is regulated by the odds of adding
against cancelling, so the book stays of one size for hours. Events come in spells: even, in bursts, and now and then a pause.
The crowd cancels only its own orders. An order of an account that rests near the best price attracts takers, so that it is
filled within seconds on most occasions, in part or in full.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import ceil, floor
from random import Random

from msgspec import Struct

from .matching import MatchingEngine
from .orders import CROWD, OrderSide, OrderTimeInForce, Outcome, RestingOrder

__all__ = ["FLOWS", "LIQUIDATIONS", "OTHER_FLOW", "Activity", "Flow"]

LIQUIDATIONS = 1
"""Owner of forced orders. Its trades are liquidations."""

LONGEST_PAUSE_US = 1_400_000
"""No market is silent for longer, at speed 1."""


class Flow(Struct, frozen=True, gc=False, kw_only=True):
    """The temper of one market's crowd. Rates are per second at speed 1."""

    events: float
    """Book events, on the long average."""
    trades: float
    """Market orders among them."""
    lots: int
    """Typical size of an order."""
    spacing: int
    """Typical distance of two neighbouring levels, in ticks."""
    drift: float
    """Standard deviation of the fair price's step per event, in ticks."""
    levels: int = 400
    """Levels per side that the book holds on to."""


FLOWS: dict[str, Flow] = {
    "SOL_USDC": Flow(events=42, trades=2.0, lots=4_000, spacing=1, drift=0.25),
    "BTC_USDC": Flow(events=48, trades=2.4, lots=22_000, spacing=6, drift=2.4),
    "USDT_USDC": Flow(events=36, trades=1.4, lots=2_600, spacing=1, drift=0.03, levels=320),
    "SOL_USDC_PERP": Flow(events=52, trades=2.8, lots=6_000, spacing=1, drift=0.25),
    "BTC_USDC_PERP": Flow(events=60, trades=3.4, lots=34_000, spacing=5, drift=2.4),
    "kPEPE_USDC_PERP": Flow(events=38, trades=1.6, lots=240_000, spacing=1, drift=0.2),
    "AAPL.US_USDC_PERP": Flow(events=31, trades=1.2, lots=900, spacing=2, drift=0.4, levels=300),
    "MU.US_USDC": Flow(events=24, trades=0.9, lots=700, spacing=2, drift=0.4, levels=300),
}
"""The crowd of every open market."""
OTHER_FLOW = Flow(events=40, trades=1.6, lots=2_000, spacing=1, drift=0.2, levels=40)
"""The crowd of a market that is not among them: thousands of those fit into memory."""

_PASS_BY = 0.002
_SWEEP = 0.06
_LIQUIDATION = 0.006
_NEAR = 0.86
_NEAR_LEVELS = 14.0
"""Average distance in levels of a near order from the best price."""
_DEEP_LEVELS = 260.0
_ATTRACTIVE_LEVELS = 6
"""Largest distance in levels from the best price at which an order is visited."""
_VISIT = 0.4


class Activity:
    """The crowd of one market."""

    def __init__(
        self,
        engine: MatchingEngine,
        flow: Flow,
        rng: Random,
        *,
        opening_ticks: int,
        liquidations: bool,
        price_grid: int = 1,
        quantity_grid: int = 1,
    ) -> None:
        self._engine = engine
        self._price_grid = price_grid
        """Prices are multiples of so many ticks."""
        self._quantity_grid = quantity_grid
        """Quantities are multiples of so many lots."""
        self._flow = flow
        self._rng = rng
        self._liquidations = liquidations
        self._opening = float(opening_ticks)
        self.fair = float(opening_ticks)
        """The price that the crowd believes in, in ticks."""
        self._spell_left = 0
        self._spell_rate = flow.events
        self._taking = flow.trades / flow.events
        for side in OrderSide:
            self._fill(side)

    def change_grid(self, price_grid: int, quantity_grid: int) -> Outcome:
        """Keep to other multiples from now on, and cancel the orders that do not."""
        self._price_grid, self._quantity_grid = price_grid, quantity_grid
        beside = (
            order.order_id
            for order in self._engine.orders.values()
            if order.owner == CROWD and (order.price % price_grid or order.remaining % quantity_grid)
        )
        return self._engine.cancel(*beside)

    def pause_us(self, speed: float) -> int:
        """Return the time until the next event, in microseconds, at least one."""
        rng = self._rng
        if not self._spell_left:
            kind = rng.random()
            if kind < 0.15:
                return max(1, int(rng.uniform(300_000, LONGEST_PAUSE_US) / speed))
            burst = kind < 0.4
            self._spell_rate = self._flow.events * (4.0 if burst else 1.0)
            self._spell_left = rng.randrange(20, 80) if burst else rng.randrange(20, 120)
        self._spell_left -= 1
        return max(1, int(min(rng.expovariate(self._spell_rate) * 1e6, LONGEST_PAUSE_US) / speed))

    def act(self) -> Outcome:
        """Let one event happen to the book."""
        rng = self._rng
        # The pull is weak enough that the price is free for minutes, and strong enough to hold it within a few per cent.
        self.fair += rng.gauss(0.0, self._flow.drift) + (self._opening - self.fair) * 2e-6
        choice = rng.random()
        if choice < _PASS_BY:
            return self._engine.pass_by()
        if choice < _PASS_BY + self._taking:
            return self._take()
        side = OrderSide.BID if rng.random() < 0.5 else OrderSide.ASK
        return self._add(side) if rng.random() < self._appetite(side) else self._withdraw(side)

    def visit(self, order: RestingOrder) -> Outcome | None:
        """Take from an order that rests near the best price, through all before it, or leave it alone this time."""
        rng = self._rng
        prices = self._engine.prices(order.side)
        before = (
            prices[bisect_right(prices, order.price) :]
            if order.side is OrderSide.BID
            else prices[: bisect_left(prices, order.price)]
        )
        if len(before) >= _ATTRACTIVE_LEVELS or rng.random() >= _VISIT:
            return None
        lots = sum(self._engine.lots_at(order.side, price) for price in before)
        for other in self._engine.orders_at(order.side, order.price):
            if other.order_id == order.order_id:
                break
            lots += other.remaining
        lots += order.remaining if rng.random() < 0.5 else rng.randrange(1, order.remaining + 1)
        return self._engine.submit(order.side.other, lots, order.price, time_in_force=OrderTimeInForce.IOC)

    def _appetite(self, side: OrderSide) -> float:
        """The odds of adding: even for a side of the wanted size, less for a fuller one."""
        levels = self._flow.levels
        fullness = len(self._engine.prices(side)) / levels + len(self._engine.orders) / (levels * 2 * 1.9)
        return min(0.95, max(0.05, 0.5 + 2.0 * (1.0 - fullness / 2)))

    def _size(self) -> int:
        rng = self._rng
        lots = 1 + int(rng.expovariate(1.0) * self._flow.lots)
        return self._whole(lots if rng.random() < 0.7 else 1 + lots // 100 * 100)

    def _whole(self, lots: int) -> int:
        """Round a quantity up to one that the market takes."""
        return -(-lots // self._quantity_grid) * self._quantity_grid

    def _take(self) -> Outcome:
        """A market order, leaning towards the fair price. Some of them sweep several levels, a few are forced."""
        rng = self._rng
        engine = self._engine
        bid, ask = engine.best(OrderSide.BID), engine.best(OrderSide.ASK)
        middle = (bid[0] + ask[0]) / 2 if bid and ask else self.fair
        lean = (self.fair - middle) / (6.0 * self._flow.spacing)
        side = OrderSide.BID if rng.random() < 0.5 + 0.45 * max(-1.0, min(1.0, lean)) else OrderSide.ASK
        lots = 1 + int(rng.expovariate(1.0) * self._flow.lots * 0.4)
        if rng.random() < _SWEEP:
            swept = rng.randrange(2, 6)
            prices = engine.prices(side.other)
            reached = prices[:swept] if side is OrderSide.BID else prices[-swept:]
            lots += sum(engine.lots_at(side.other, price) for price in reached[:-1] or reached)
        forced = self._liquidations and rng.random() < _LIQUIDATION
        return engine.submit(
            side, self._whole(lots), None, time_in_force=OrderTimeInForce.IOC, owner=LIQUIDATIONS if forced else CROWD
        )

    def _add(self, side: OrderSide) -> Outcome:
        """A limit order that rests: at the touch or inside the spread, near it, or deep in the book."""
        rng = self._rng
        spacing = self._flow.spacing
        zone = rng.random()
        if zone < 0.12:
            away = 0
        elif zone < _NEAR:
            away = int(rng.expovariate(1.0 / _NEAR_LEVELS) * spacing)
        else:
            away = int((_NEAR_LEVELS + rng.expovariate(1.0 / _DEEP_LEVELS)) * spacing)
        return self._engine.submit(side, self._size(), self._limit(side, away))

    def _limit(self, side: OrderSide, away: int) -> int:
        """A price so many ticks behind the touch that the fair price asks for, never one that would take."""
        opposite = self._engine.best(side.other)
        if side is OrderSide.BID:
            price = floor(self.fair - 0.5 * self._flow.spacing)
            if opposite is not None:
                price = min(price, opposite[0] - 1)
            price = max(1, price - away)
            return max(price - price % self._price_grid, self._price_grid)
        price = ceil(self.fair + 0.5 * self._flow.spacing)
        if opposite is not None:
            price = max(price, opposite[0] + 1)
        price += away
        return price + -price % self._price_grid

    def _withdraw(self, side: OrderSide) -> Outcome:
        """Cancel or shrink one of the crowd's orders, or cancel a few at once."""
        rng = self._rng
        prices = self._engine.prices(side)
        if len(prices) < self._flow.levels // 8:
            return self._add(side)
        if rng.random() < _NEAR:
            depth = min(int(rng.expovariate(1.0 / _NEAR_LEVELS)), len(prices) - 1)
        else:
            depth = rng.randrange(len(prices))
        found: list[int] = []
        wanted = 1 if rng.random() < 0.97 else rng.randrange(2, 5)
        for index in range(depth, min(depth + 2 * wanted, len(prices))):
            price = prices[-1 - index] if side is OrderSide.BID else prices[index]
            order = next((order for order in self._engine.orders_at(side, price) if order.owner == CROWD), None)
            if order is None:
                continue
            if wanted == 1 and order.remaining > 1 and rng.random() < 0.3:
                less = rng.randrange(1, order.remaining)
                less -= less % self._quantity_grid
                if less:
                    return self._engine.reduce(order.order_id, less)
            found.append(order.order_id)
            if len(found) == wanted:
                break
        return self._engine.cancel(*found) if found else self._add(side)

    def _fill(self, side: OrderSide) -> None:
        """Build up one side: dense near the best price, thinner the deeper it gets."""
        rng = self._rng
        away = 0
        for index in range(self._flow.levels):
            for _ in range(1 + int(rng.expovariate(1.0))):
                self._engine.submit(side, self._size(), self._limit(side, away))
            away += 1 + int(rng.expovariate(1.0) * self._flow.spacing * (0.5 + index / 160.0))

"""Trades of one market: the latest trades, candles of every interval, and the rolling day.

Trades make candles of one second and of one minute, which are kept. Every other candle is put together from minutes. The day
before the start is made up from the seed, so that tickers, candles and trades are never empty. Prices are ticks, quantities
lots, and payments are ticks times lots: whole numbers throughout. Candle times are seconds since the epoch, and candles
lie on the UTC calendar: weeks start on Monday, months on their first day.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

from msgspec import Struct

from backpack_proto.streams.channels import KLINE_INTERVALS, KLINE_SECONDS

__all__ = ["DAY_S", "Tape", "TapedCandle", "TapedTrade", "candle_end", "candle_start"]

DAY_S = 86_400
KEPT_TRADES = 2_000
KEPT_MINUTES = 3 * 1_440
KEPT_SECONDS = 3_600

_FIRST_MONDAY_S = 4 * DAY_S


class TapedTrade(Struct, frozen=True, gc=False):
    """One trade."""

    trade_id: int
    price: int
    lots: int
    buyer_is_maker: bool
    engine_us: int


class TapedCandle(Struct, gc=False):
    """Open, high, low and close of one stretch of time, None before the first trade."""

    start_s: int
    end_s: int
    """Start of the next one."""
    open: int | None = None
    high: int | None = None
    low: int | None = None
    close: int | None = None
    lots: int = 0
    paid: int = 0
    trades: int = 0

    def add(self, price: int, lots: int) -> None:
        """Take in one trade."""
        self.merge(price, price, price, price, lots, price * lots, 1)

    def absorb(self, later: TapedCandle) -> None:
        """Take in a candle that follows the contents of this one."""
        if later.open is not None and later.high is not None and later.low is not None and later.close is not None:
            self.merge(later.open, later.high, later.low, later.close, later.lots, later.paid, later.trades)

    def merge(self, opened: int, high: int, low: int, closed: int, lots: int, paid: int, trades: int) -> None:
        """Take in trades that came after those already in this candle."""
        if self.open is None or self.high is None or self.low is None:
            self.open, self.high, self.low = opened, high, low
        else:
            self.high = max(self.high, high)
            self.low = min(self.low, low)
        self.close = closed
        self.lots += lots
        self.paid += paid
        self.trades += trades


def candle_start(interval: str, second: int) -> int:
    """Start of the candle of an interval (one of `KLINE_INTERVALS`) that holds a second."""
    if interval == "1month":
        day = datetime.fromtimestamp(second, UTC)
        return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp())
    length = KLINE_SECONDS[interval]
    shift = _FIRST_MONDAY_S if interval == "1w" else 0
    return second - (second - shift) % length


def candle_end(interval: str, start_s: int) -> int:
    """End of the candle of an interval that starts at a second."""
    if interval == "1month":
        return candle_start(interval, start_s + 31 * DAY_S)
    return start_s + KLINE_SECONDS[interval]


class Tape:
    """The trades of one market. `next_trade_id` is the id that the first live trade will have."""

    def __init__(
        self,
        rng: Random,
        *,
        start_us: int,
        closing_ticks: int,
        wander_ticks: float,
        lots: int,
        trades_per_minute: float,
        next_trade_id: int,
    ) -> None:
        self._trades: deque[TapedTrade] = deque(maxlen=KEPT_TRADES)
        self._minutes: deque[TapedCandle] = deque(maxlen=KEPT_MINUTES)
        self._seconds: deque[TapedCandle] = deque(maxlen=KEPT_SECONDS)
        self._closed: dict[str, list[TapedCandle]] = {}
        self._day: TapedCandle | None = None
        now_s = start_us // 1_000_000
        self._minutes.extend(_made_up_day(rng, now_s, closing_ticks, wander_ticks, lots, trades_per_minute))
        self._trades.extend(_made_up_trades(rng, start_us, closing_ticks, wander_ticks, lots, next_trade_id))
        self.running: dict[str, TapedCandle] = self._begun(now_s)
        """The candle of each interval that is not over yet."""

    @property
    def last_price(self) -> int | None:
        """Ticks of the latest trade."""
        return self._trades[-1].price if self._trades else None

    def record(self, trade: TapedTrade) -> None:
        """Take in a live trade."""
        self.roll(trade.engine_us // 1_000_000)
        self._trades.append(trade)
        for candle in self.running.values():
            candle.add(trade.price, trade.lots)

    def roll(self, now_s: int) -> None:
        """End every candle whose time is over. `take_closed` hands them out."""
        running = self.running
        if running["1s"].end_s > now_s:
            return
        for interval, candle in running.items():
            if candle.end_s > now_s:
                continue
            start_s = candle_start(interval, now_s)
            running[interval] = TapedCandle(start_s, candle_end(interval, start_s))
            self._closed.setdefault(interval, []).append(candle)
            if interval == "1m":
                self._day = None
            if candle.trades and interval in {"1s", "1m"}:
                (self._seconds if interval == "1s" else self._minutes).append(candle)

    def take_closed(self) -> dict[str, list[TapedCandle]]:
        """The candles that ended since this was last asked, by interval."""
        closed, self._closed = self._closed, {}
        return closed

    def trades(self, limit: int, offset: int = 0) -> list[TapedTrade]:
        """The latest trades, newest first, without the newest `offset`."""
        newest_first = list(reversed(self._trades))
        return newest_first[offset : offset + limit]

    def rolling(self, now_s: int, length_s: int = DAY_S) -> TapedCandle:
        """The time up to now as one candle, exact to the minute at its far end. The tape must have rolled to `now_s`."""
        # The part before this minute changes once a minute, and the rolling day is asked for every second.
        closed = self._day if length_s == DAY_S else None
        if closed is None:
            closed = TapedCandle(now_s - length_s, now_s)
            for minute in self._minutes:
                if minute.start_s >= now_s - length_s:
                    closed.absorb(minute)
            if length_s == DAY_S:
                self._day = closed
        rolling = TapedCandle(now_s - length_s, now_s)
        rolling.absorb(closed)
        rolling.absorb(self.running["1m"])
        return rolling

    def candles(self, interval: str, from_s: int, to_s: int) -> list[TapedCandle]:
        """The candles of an interval that start between two seconds, both included, ascending, as far as the tape reaches.

        The last one may still be running. The tape must have rolled.
        """
        source: Sequence[TapedCandle] = [*(self._seconds if interval == "1s" else self._minutes)]
        now = self.running["1s"]
        if from_s > now.start_s:
            return []
        base = now if interval == "1s" else self.running["1m"]
        oldest = now.start_s - KEPT_SECONDS if interval == "1s" else source[0].start_s if source else base.start_s
        start_s = candle_start(interval, max(from_s, oldest))
        if start_s < from_s:
            start_s = candle_end(interval, start_s)
        rows: list[TapedCandle] = []
        index = bisect_left(source, start_s, key=lambda candle: candle.start_s)
        last_s = min(to_s, now.start_s)
        while start_s <= last_s:
            row = TapedCandle(start_s, candle_end(interval, start_s))
            while index < len(source) and source[index].start_s < row.end_s:
                row.absorb(source[index])
                index += 1
            if row.start_s <= base.start_s < row.end_s:
                row.absorb(base)
            rows.append(row)
            start_s = row.end_s
        return rows

    def _begun(self, now_s: int) -> dict[str, TapedCandle]:
        """The candle of each interval that is under way at the start, with its part of the made-up day."""
        begun = {interval: candle_start(interval, now_s) for interval in KLINE_INTERVALS}
        found = {interval: TapedCandle(start_s, candle_end(interval, start_s)) for interval, start_s in begun.items()}
        minutes = list(self._minutes)
        # The later a candle started the less it holds, and the next one holds all of that as well: each minute is taken in once.
        held: TapedCandle | None = None
        for interval in sorted(found, key=lambda interval: begun[interval], reverse=True):
            candle = found[interval]
            if candle.end_s - candle.start_s <= 60:
                continue
            later: list[TapedCandle] = []
            while minutes and minutes[-1].start_s >= candle.start_s:
                later.append(minutes.pop())
            for minute in reversed(later):
                candle.absorb(minute)
            if held is not None:
                candle.absorb(held)
            held = candle
        return found


def _made_up_day(
    rng: Random, start_s: int, closing_ticks: int, wander_ticks: float, lots: int, trades_per_minute: float
) -> list[TapedCandle]:
    """The minutes of the day before the start, walked backwards from the price that the live market opens at."""
    minutes: list[TapedCandle] = []
    closed = closing_ticks
    end_s = start_s - start_s % 60
    for _ in range(DAY_S // 60):
        trades = int(rng.expovariate(1.0 / trades_per_minute))
        if trades:
            opened = max(1, closed - round(rng.gauss(0.0, wander_ticks)))
            reach = int(rng.expovariate(2.0 / wander_ticks))
            high, low = max(opened, closed) + reach, max(1, min(opened, closed) - reach)
            traded = trades * (1 + int(rng.random() * lots))
            minutes.append(
                TapedCandle(end_s - 60, end_s, opened, high, low, closed, traded, traded * ((high + low) // 2), trades)
            )
            closed = opened
        end_s -= 60
    minutes.reverse()
    return minutes


def _made_up_trades(
    rng: Random, start_us: int, closing_ticks: int, wander_ticks: float, lots: int, next_trade_id: int
) -> list[TapedTrade]:
    """The trades just before the start, oldest first."""
    ages = sorted((rng.randrange(1, 180_000_000) for _ in range(200)), reverse=True)
    first_id = next_trade_id - len(ages)
    return [
        TapedTrade(
            first_id + number,
            max(1, closing_ticks + round(rng.gauss(0.0, wander_ticks / 2))),
            1 + int(rng.expovariate(1.0) * lots),
            rng.random() < 0.5,
            start_us - age,
        )
        for number, age in enumerate(ages)
    ]

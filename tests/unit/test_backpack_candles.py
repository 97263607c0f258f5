"""Candles of history and stream: each that closed once and in order, whatever is late, lost or stale."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backpack_proto.candles import (
    ATTEMPTS,
    CACHED_US,
    PAGE,
    CandleClock,
    CandleGap,
    CandleInput,
    CandleJoin,
    CandlesRead,
    CandlesUnread,
    FetchCandles,
)
from backpack_proto.inputs import TimerFired
from backpack_proto.machine import Now
from backpack_proto.streams.payloads import Kline
from backpack_proto.testing.laws import check_machine
from hypothesis_profiles import examples

SECOND = 1_000_000
MINUTE = 60 * SECOND
BEGAN = 1_790_000_040 * SECOND
"""The start of a minute."""
SYMBOL = "SOL_USDC"


def candle(minute: int, *, closed: bool | None = True, trades: int = 60) -> Kline:
    """One candle after some trades. Without any it has no prices."""
    start_us = BEGAN + minute * MINUTE
    price = Decimal(minute + 1000) if trades else None
    return Kline(
        emitted_us=None if closed is None else start_us + trades * SECOND,
        symbol=SYMBOL,
        interval="1m",
        start_us=start_us,
        end_us=start_us + MINUTE,
        closed=closed,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=Decimal(trades),
        trade_count=trades,
    )


class Exchange:
    """Lists candles up to a moment, which may be in the past: a cache is asked."""

    def __init__(self, second: float = 0) -> None:
        self.second = second
        self.stale_s = 0.0
        self.first_minute = -10_000

    @property
    def now(self) -> Now:
        return Now(int(5 * SECOND + self.second * SECOND), 0)

    def rows(self, fetch: FetchCandles) -> tuple[Kline, ...]:
        """As REST lists them: of none it says that it has closed."""
        shown_s = self.second - self.stale_s
        first = max((fetch.start_s * SECOND - BEGAN) // MINUTE, self.first_minute)
        last = min((fetch.end_s * SECOND - BEGAN) // MINUTE, int(shown_s // 60))
        return tuple(
            candle(minute, closed=None, trades=60 if minute < shown_s // 60 else int(shown_s % 60))
            for minute in range(first, last + 1)
        )


class Setting:
    def __init__(self, *, since_minute: int, second: float = 30, answers: bool = True) -> None:
        self.exchange = Exchange(second)
        self.machine = CandleJoin(SYMBOL, "1m", BEGAN + since_minute * MINUTE)
        self.handed: list[Kline] = []
        self.missing: list[CandleGap] = []
        self.asked: list[FetchCandles] = []
        self.waiting: FetchCandles | None = None
        self.answers = answers
        self.give(CandleClock(exchange_us=BEGAN + int(second * SECOND)))

    def give(self, given: CandleInput) -> None:
        for output in self.machine.handle(given, self.exchange.now):
            match output:
                case Kline():
                    self.handed.append(output)
                case CandleGap():
                    self.missing.append(output)
                case FetchCandles():
                    assert self.waiting is None, "one request at a time"
                    self.asked.append(output)
                    self.waiting = output
        if self.answers:
            self.answer()

    def answer(self) -> None:
        while self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            self.give(CandlesRead(self.exchange.rows(waiting)))

    def run_to(self, second: float) -> None:
        """Fire every timer on the way."""
        while (deadline := self.machine.deadline) is not None and deadline <= 5 * SECOND + second * SECOND:
            self.exchange.second = max(self.exchange.second, (deadline - 5 * SECOND) / SECOND)
            self.give(TimerFired())
        self.exchange.second = second

    def seen(self, *frames: Kline) -> None:
        for frame in frames:
            assert frame.emitted_us is not None
            self.run_to(max(self.exchange.second, (frame.emitted_us - BEGAN) / SECOND))
            self.give(frame)

    @property
    def closed(self) -> list[int]:
        return [(row.start_us - BEGAN) // MINUTE for row in self.handed if row.closed]


def test_history_comes_first_and_then_what_runs() -> None:
    setting = Setting(since_minute=-5)
    assert setting.closed == [-5, -4, -3, -2, -1]
    assert [(row.closed, row.trade_count) for row in setting.handed[5:]] == [(False, 30)]
    setting.seen(candle(0, closed=False, trades=40), candle(0), candle(1, closed=False, trades=1))
    assert setting.closed == [-5, -4, -3, -2, -1, 0]
    assert setting.handed[-1] == candle(1, closed=False, trades=1)
    assert (len(setting.asked), setting.missing) == (1, [])


def test_what_is_repeated_and_what_is_past_is_not_handed_on() -> None:
    setting = Setting(since_minute=-1)
    running = candle(0, closed=False, trades=40)
    setting.seen(running, running, candle(-1), candle(0), candle(0), running)
    assert [(row.closed, row.trade_count) for row in setting.handed] == [(True, 60), (False, 30), (False, 40), (True, 60)]


def test_frames_that_come_while_the_history_is_read_wait_for_it() -> None:
    late = Setting(since_minute=-3, answers=False)
    late.seen(candle(0, closed=False, trades=50), candle(0), candle(1, closed=False, trades=5))
    assert late.handed == []
    late.answers = True
    late.answer()
    late.run_to(70)
    assert late.closed == [-3, -2, -1, 0]
    assert late.handed[-1] == candle(1, closed=False, trades=5)


def test_a_history_of_many_pages_is_read_to_its_end() -> None:
    setting = Setting(since_minute=-3 * PAGE - 7)
    assert setting.closed == list(range(-3 * PAGE - 7, 0))
    assert len(setting.asked) == 4
    assert all(fetch.end_s - fetch.start_s <= PAGE * 60 + CACHED_US // SECOND for fetch in setting.asked)


def test_an_outage_is_filled_before_the_next_candle() -> None:
    setting = Setting(since_minute=0)
    setting.seen(candle(0))
    # Nothing comes for minutes, and no timer fires: the loop was blocked.
    setting.exchange.second = 60 * 7 + 10
    setting.give(candle(7, closed=False, trades=10))
    setting.run_to(60 * 7 + 20)
    assert setting.closed == [0, 1, 2, 3, 4, 5, 6]
    assert setting.handed[-1] == candle(7, closed=False, trades=10)
    assert setting.missing == []


def test_a_quiet_market_is_read_without_a_frame() -> None:
    setting = Setting(since_minute=0)
    setting.run_to(60 * 4 + 20)
    assert setting.closed == [0, 1, 2, 3]
    assert len(setting.asked) <= 6


def test_candles_without_trades_have_no_prices() -> None:
    setting = Setting(since_minute=0)
    setting.seen(candle(0, trades=0), candle(1, closed=False, trades=3))
    assert [(row.closed, row.open) for row in setting.handed if row.closed] == [(True, None)]


def test_a_stale_answer_is_asked_for_again_until_it_reaches_the_stream() -> None:
    setting = Setting(since_minute=0)
    setting.seen(candle(0))
    setting.exchange.second, setting.exchange.stale_s = 60 * 4 + 1, 110
    setting.give(candle(4, closed=False, trades=1))
    setting.run_to(60 * 4 + 5)
    assert setting.closed == [0, 1]
    setting.exchange.stale_s = 0
    setting.run_to(60 * 4 + 20)
    assert setting.closed == [0, 1, 2, 3]
    assert setting.missing == []
    assert len({fetch.end_s for fetch in setting.asked}) == len(setting.asked), "each is another one for a cache"


@pytest.mark.parametrize("fails", [True, False])
def test_a_hole_that_cannot_be_filled_is_told_and_the_rest_goes_on(*, fails: bool) -> None:
    setting = Setting(since_minute=0)
    setting.seen(candle(0))
    setting.answers = False
    setting.exchange.second = 60 * 3 + 5
    setting.give(candle(3, closed=False, trades=5))
    for _ in range(ATTEMPTS):
        setting.run_to(setting.exchange.second + 30)
        assert setting.waiting is not None
        setting.waiting = None
        setting.give(CandlesUnread("no answer") if fails else CandlesRead(()))
    assert [(gap.from_us, gap.until_us) for gap in setting.missing] == [(BEGAN + MINUTE, BEGAN + 3 * MINUTE)]
    assert setting.missing[0].reason == ("no answer" if fails else "the exchange does not list them")
    assert setting.handed[-1] == candle(3, closed=False, trades=5)
    setting.seen(candle(3))
    assert setting.closed == [0, 3]


def test_what_is_older_than_the_market_is_told_once() -> None:
    setting = Setting(since_minute=-2 * PAGE, answers=False)
    setting.exchange.first_minute, setting.answers = -20, True
    setting.answer()
    assert setting.closed == list(range(-20, 0))
    assert [(gap.from_us, gap.until_us) for gap in setting.missing] == [(BEGAN - 2 * PAGE * MINUTE, BEGAN - 20 * MINUTE)]


def test_months_are_as_long_as_they_are() -> None:
    january, february, march = 1_767_225_600 * SECOND, 1_769_904_000 * SECOND, 1_772_323_200 * SECOND
    machine = CandleJoin(SYMBOL, "1month", january)
    now = Now(0, 0)
    machine.handle(CandleClock(exchange_us=march + 10 * SECOND), now)
    rows = [
        replace(candle(0, closed=None), interval="1month", start_us=start, end_us=end)
        for start, end in ((january, february), (february, march), (march, march + 31 * 86_400 * SECOND))
    ]
    outputs = machine.handle(CandlesRead(tuple(rows)), now)
    assert [(row.start_us, row.closed) for row in outputs if isinstance(row, Kline)] == [
        (january, True),
        (february, True),
        (march, False),
    ]


frames = st.builds(candle, st.integers(-3, 8), closed=st.booleans(), trades=st.integers(0, 60))
answers = st.builds(
    lambda first, count: CandlesRead(tuple(candle(minute, closed=None) for minute in range(first, first + count))),
    st.integers(-4, 8),
    st.integers(0, 9),
)
inputs = st.one_of(
    frames,
    answers,
    st.just(CandlesUnread("no answer")),
    st.builds(CandleClock, exchange_us=st.integers(BEGAN, BEGAN + 9 * MINUTE)),
)


@pytest.mark.hypothesis
def test_laws() -> None:
    check_machine(lambda: CandleJoin(SYMBOL, "1m", BEGAN), inputs, max_gap_us=3 * MINUTE)


@examples(150)
@given(
    lost=st.sets(st.integers(0, 40)),
    stale=st.lists(st.sampled_from([0.0, 0.0, 20.0, 100.0]), min_size=60, max_size=60),
    slow=st.lists(st.booleans(), min_size=60, max_size=60),
    since=st.integers(-30, 0),
)
def test_every_closed_candle_comes_once_and_in_order_or_is_in_a_hole_that_is_told(
    lost: set[int], stale: list[float], slow: list[bool], since: int
) -> None:
    """Frames are lost, answers are stale and late. Nothing is twice, and nothing is missing without a word."""
    setting = Setting(since_minute=since)
    for step, second in enumerate(range(35, 600, 15)):
        setting.answers = not slow[step % 60]
        setting.exchange.stale_s = stale[step % 60]
        minute, trades = divmod(second, 60)
        if step not in lost:
            frames_now = [candle(minute - 1)] if trades == 5 else []
            if trades:
                frames_now.append(candle(minute, closed=False, trades=trades))
            setting.run_to(second)
            for frame in frames_now:
                setting.give(frame)
    setting.answers, setting.exchange.stale_s = True, 0
    setting.answer()
    setting.run_to(700)
    told = {
        minute for gap in setting.missing for minute in range((gap.from_us - BEGAN) // MINUTE, (gap.until_us - BEGAN) // MINUTE)
    }
    expected = [minute for minute in range(since, 11) if minute not in told]
    assert setting.closed == expected
    assert all(row.trade_count == 60 for row in setting.handed if row.closed), "no unfinished candle was handed on as closed"

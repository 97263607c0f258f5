"""Candles and the rolling day of the simulated exchange."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from backpack_proto.exchange.market.listings import padded, stripped, to_decimal
from backpack_proto.exchange.market.tape import DAY_S, Tape, TapedCandle, TapedTrade, candle_end, candle_start
from backpack_proto.streams.channels import KLINE_INTERVALS

START_S = int(datetime(2026, 9, 2, 16, 43, 50, tzinfo=UTC).timestamp())


def new_tape(start_s: int = START_S) -> Tape:
    return Tape(
        Random(5),
        start_us=start_s * 1_000_000,
        closing_ticks=9_912,
        wander_ticks=6.0,
        lots=2_000,
        trades_per_minute=100.0,
        next_trade_id=1_000,
    )


def trade(second: int, price: int, lots: int, trade_id: int = 1_000) -> TapedTrade:
    return TapedTrade(trade_id, price, lots, buyer_is_maker=True, engine_us=second * 1_000_000)


def utc(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%a %Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        ("1s", "Wed 2026-09-02 16:43:50", "Wed 2026-09-02 16:43:51"),
        ("1m", "Wed 2026-09-02 16:43:00", "Wed 2026-09-02 16:44:00"),
        ("15m", "Wed 2026-09-02 16:30:00", "Wed 2026-09-02 16:45:00"),
        ("6h", "Wed 2026-09-02 12:00:00", "Wed 2026-09-02 18:00:00"),
        ("1d", "Wed 2026-09-02 00:00:00", "Thu 2026-09-03 00:00:00"),
        ("1w", "Mon 2026-08-31 00:00:00", "Mon 2026-09-07 00:00:00"),
        ("1month", "Tue 2026-09-01 00:00:00", "Thu 2026-10-01 00:00:00"),
    ],
)
def test_candles_lie_on_the_calendar(interval: str, start: str, end: str) -> None:
    start_s = candle_start(interval, START_S)
    assert (utc(start_s), utc(candle_end(interval, start_s))) == (start, end)


@pytest.mark.parametrize("interval", KLINE_INTERVALS)
def test_candles_follow_each_other_without_a_hole(interval: str) -> None:
    start_s = candle_start(interval, START_S)
    for _ in range(14):
        end_s = candle_end(interval, start_s)
        assert candle_start(interval, end_s - 1) == start_s
        assert candle_start(interval, end_s) == end_s
        start_s = end_s


def test_a_running_candle_takes_in_trades_and_ends_on_time() -> None:
    tape = new_tape()
    second = candle_end("1m", candle_start("1m", START_S))
    tape.roll(second)
    tape.take_closed()
    for price, lots in ((10, 1), (12, 2), (9, 3), (11, 4)):
        tape.record(trade(second + 1, price, lots))
    candle = tape.running["1m"]
    assert candle == TapedCandle(
        second, second + 60, open=10, high=12, low=9, close=11, lots=10, paid=10 + 24 + 27 + 44, trades=4
    )
    tape.roll(second + 59)
    assert "1m" not in tape.take_closed()
    tape.roll(second + 60)
    assert tape.take_closed()["1m"] == [candle]
    assert tape.running["1m"] == TapedCandle(second + 60, second + 120)


def test_candles_of_every_interval_are_made_of_the_same_minutes() -> None:
    tape = new_tape()
    for number in range(500):
        tape.record(trade(START_S + 7 * number, 9_900 + number % 31, 1 + number % 5))
    now_s = START_S + 7 * 500
    tape.roll(now_s)
    minutes = tape.candles("1m", 0, now_s)
    assert [candle.end_s for candle in minutes[:-1]] == [candle.start_s for candle in minutes[1:]]
    for interval in KLINE_INTERVALS[1:]:
        candles = tape.candles(interval, -DAY_S * 40, now_s)
        assert sum(candle.lots for candle in candles) <= sum(candle.lots for candle in minutes)
        last = candles[-1]
        inside = [candle for candle in minutes if last.start_s <= candle.start_s < last.end_s]
        assert last.trades == sum(candle.trades for candle in inside)
        assert last.high == max(candle.high for candle in inside if candle.high is not None)
        assert last == tape.running[interval]


def test_seconds_without_a_trade_are_candles_without_prices() -> None:
    tape = new_tape()
    tape.record(trade(START_S + 1, 10, 5))
    tape.record(trade(START_S + 3, 11, 5))
    tape.roll(START_S + 4)
    rows = tape.candles("1s", START_S + 1, START_S + 9)
    assert [(row.start_s - START_S, row.close, row.trades) for row in rows] == [
        (1, 10, 1),
        (2, None, 0),
        (3, 11, 1),
        (4, None, 0),
    ]


def test_candles_outside_the_tape_are_not_there() -> None:
    tape = new_tape()
    tape.roll(START_S)
    assert tape.candles("1month", 10**17, 10**17) == []
    assert tape.candles("1m", START_S - 600, START_S - 700) == []
    assert tape.candles("1m", -(10**17), -(10**16)) == []


def test_the_rolling_day_forgets_what_is_older() -> None:
    tape = new_tape()
    made_up = tape.rolling(START_S)
    week = tape.rolling(START_S, 7 * DAY_S)
    assert week.trades >= made_up.trades > 50_000
    second = START_S + 2 * DAY_S
    tape.record(trade(second, 20, 7))
    tape.roll(second)
    assert tape.rolling(second) == TapedCandle(
        second - DAY_S, second, open=20, high=20, low=20, close=20, lots=7, paid=140, trades=1
    )
    assert tape.rolling(second, 7 * DAY_S).trades == week.trades + 1


def test_the_rolling_day_counts_each_minute_once() -> None:
    tape = new_tape()
    trades = tape.rolling(START_S).trades
    for number in range(300):
        tape.record(trade(START_S + number, 9_900, 1))
        # Half of them within the day's first minutes, none of which is a day old yet.
        assert tape.rolling(START_S + number).trades <= trades + number + 1
    assert tape.rolling(START_S + 300).lots >= 300


def test_the_made_up_day_ends_at_the_opening_price_and_its_trades_at_the_next_id() -> None:
    tape = new_tape()
    assert tape.rolling(START_S).close == 9_912
    newest = tape.trades(1)
    assert newest[0].trade_id == 999
    times = [taped.engine_us for taped in tape.trades(1_000)]
    assert times == sorted(times, reverse=True)
    assert times[0] < START_S * 1_000_000


@pytest.mark.parametrize(
    ("units", "decimals", "with_zeros", "without"),
    [
        (9_912, 2, "99.12", "99.12"),
        (866_500, 1, "86650.0", "86650"),
        (0, 5, "0.00000", "0"),
        (7, 3, "0.007", "0.007"),
        (1_200, 0, "1200", "1200"),
        (-29_032, 6, "-0.029032", "-0.029032"),
        (-50, 1, "-5.0", "-5"),
    ],
)
def test_numbers_become_text_exactly(units: int, decimals: int, with_zeros: str, without: str) -> None:
    assert padded(units, decimals) == with_zeros
    assert stripped(units, decimals) == without
    assert format(to_decimal(units, decimals), "f") == with_zeros

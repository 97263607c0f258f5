"""Candles that closed while nobody listened: which are asked for, when, and in which order all of them are handed on."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")

from msgspec.structs import replace

from backpack_proto.errors import RemoteProtocolError
from backpack_proto.inputs import Call, Withdraw
from backpack_proto.outputs import CallAnswered, CallFailed
from backpack_proto.streams.payloads import Kline
from backpack_runtime.cryptofeed.native.candles import ATTEMPTS, MOST_CANDLES, CandleHistory, CandlesMissing

MINUTE = 60_000_000
SECOND = 1_000_000
BEGAN = 1_790_000_040 * SECOND
"""The start of a minute."""
SOL, BTC = "SOL_USDC", "BTC_USDC"


def candle(minute: int, *, closed: bool | None = True, at_us: int | None = None, symbol: str = SOL) -> Kline:
    """The candle of a minute. A closed one is sent as it ends, a running one in its middle."""
    start_us = BEGAN + minute * MINUTE
    sent_us = start_us + (MINUTE if closed else MINUTE // 2) + 100_000
    price = Decimal(minute + 1)
    return Kline(
        emitted_us=sent_us if at_us is None else at_us,
        symbol=symbol,
        interval="1m",
        start_us=start_us,
        end_us=start_us + MINUTE,
        closed=closed,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=price,
        trade_count=1,
    )


def rows(first: int, last: int, symbol: str = SOL) -> tuple[Kline, ...]:
    """As REST lists them: it says of none that it has closed, and the last one is under way."""
    return tuple(replace(candle(minute, symbol=symbol), closed=None, emitted_us=None) for minute in range(first, last + 1))


class Setting:
    """A history that has heard of the exchange in minute 0, and what it handed on."""

    def __init__(self, *symbols: str) -> None:
        self.history = CandleHistory("1m", symbols or (SOL,))
        self.clock(BEGAN + MINUTE // 2)
        self.handed: list[Kline] = []
        self.missing: list[CandlesMissing] = []
        self.withdrawn: list[int] = []
        self.calls: list[Call] = []

    def clock(self, unix_us: int) -> None:
        self.take(self.history.clock(unix_us))

    def seen(self, *candles: Kline) -> None:
        for given in candles:
            self.take(self.history.seen(given))

    def answer(self, result: Sequence[Kline], call: Call | None = None) -> None:
        call_id = (call or self.calls[-1]).call_id
        self.take(self.history.answered(CallAnswered(call_id=call_id, endpoint="klines", result=tuple(result))))

    def fail(self) -> None:
        error = RemoteProtocolError("no answer")
        self.take(self.history.answered(CallFailed(call_id=self.calls[-1].call_id, endpoint="klines", error=error)))

    def lose_connection(self) -> None:
        self.take(self.history.connection_lost())

    def take(self, outputs: Sequence[Any]) -> None:
        for output in outputs:
            match output:
                case Kline():
                    self.handed.append(output)
                case Call():
                    self.calls.append(output)
                case Withdraw(call_id):
                    self.withdrawn.append(call_id)
                case CandlesMissing():
                    self.missing.append(output)

    @property
    def closed(self) -> list[int]:
        """Minutes of the candles of SOL that were handed on as closed, in that order."""
        return self.closed_of(SOL)

    def closed_of(self, symbol: str) -> list[int]:
        return [(given.start_us - BEGAN) // MINUTE for given in self.handed if given.closed and given.symbol == symbol]


def test_without_an_outage_candles_pass_as_they_come() -> None:
    setting = Setting()
    given = [candle(0, closed=False), candle(0), candle(1, closed=False), candle(1)]
    setting.seen(*given)
    assert setting.handed == given
    # A quiet market sends none for a while, which is no outage.
    setting.seen(candle(7))
    assert setting.closed == [0, 1, 7]
    assert setting.calls == []


def test_one_that_is_sent_twice_is_handed_on_once() -> None:
    setting = Setting()
    setting.seen(candle(0), candle(0), candle(1), candle(0))
    assert setting.closed == [0, 1]


def test_those_that_closed_during_an_outage_come_in_order_before_later_ones() -> None:
    setting = Setting()
    setting.seen(candle(0), candle(1))
    setting.lose_connection()
    setting.seen(candle(5, closed=False))
    (call,) = setting.calls
    assert call.endpoint == "klines"
    assert dict(call.parameters) == {
        "symbol": SOL,
        "interval": "1m",
        "startTime": (BEGAN + 2 * MINUTE) // SECOND - 60,
        "endTime": (BEGAN + 5 * MINUTE) // SECOND + 30,
    }
    setting.seen(candle(5), candle(6, closed=False))
    assert setting.closed == [0, 1]
    assert setting.history.waiting == [SOL]
    setting.answer(rows(1, 5))
    assert setting.closed == [0, 1, 2, 3, 4, 5]
    assert setting.handed[-1] == candle(6, closed=False)
    assert setting.handed[2] == replace(candle(2), emitted_us=BEGAN + 3 * MINUTE), "complete at its end"
    assert setting.history.filled == 3
    assert setting.history.waiting == []
    setting.seen(candle(6))
    assert setting.closed == [0, 1, 2, 3, 4, 5, 6]
    assert len(setting.calls) == 1


def test_an_outage_in_which_none_closed_costs_no_request() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    setting.seen(candle(1, closed=False), candle(1))
    setting.lose_connection()
    # The one that was running when the connection ended closes at once.
    setting.seen(candle(2))
    setting.lose_connection()
    setting.lose_connection()
    setting.seen(candle(3, closed=False))
    assert setting.closed == [0, 1, 2]
    assert setting.calls == []


def test_before_the_first_closed_one_the_running_one_is_known() -> None:
    setting = Setting()
    setting.seen(candle(0, closed=False))
    setting.lose_connection()
    setting.seen(candle(0, closed=False, at_us=BEGAN + 50 * SECOND))
    assert setting.calls == []
    setting.lose_connection()
    setting.seen(candle(2, closed=False))
    setting.answer(rows(0, 2))
    assert setting.closed == [0, 1]


def test_an_unfinished_candle_is_never_handed_on_as_closed() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    # Just after the end of minute 3 its last trades may not be in the answer yet.
    first = candle(4, closed=False, at_us=BEGAN + 4 * MINUTE + SECOND)
    setting.seen(first)
    assert setting.calls == []
    setting.clock(BEGAN + 4 * MINUTE + 2 * SECOND)
    setting.answer(rows(0, 4))
    assert setting.closed == [0, 1, 2, 3]


def test_a_repeated_candle_does_not_hide_an_outage() -> None:
    setting = Setting()
    setting.seen(candle(0), candle(1))
    setting.lose_connection()
    setting.seen(candle(1, at_us=BEGAN + 6 * MINUTE))
    assert setting.closed == [0, 1]
    setting.seen(candle(6, closed=False))
    setting.answer(rows(1, 6))
    assert setting.closed == [0, 1, 2, 3, 4, 5]


def test_a_symbol_that_stays_quiet_is_asked_for_once() -> None:
    setting = Setting(SOL, BTC)
    setting.seen(candle(0), candle(0, symbol=BTC))
    setting.lose_connection()
    setting.clock(BEGAN + 3 * MINUTE + 20 * SECOND)
    setting.clock(BEGAN + 3 * MINUTE + 29 * SECOND)
    assert setting.calls == [], "it may be about to speak"
    # Other data show the time.
    setting.clock(BEGAN + 3 * MINUTE + 30 * SECOND)
    assert setting.calls[0].parameters["symbol"] == SOL
    setting.answer(rows(0, 3))
    assert setting.closed == [0, 1, 2]
    assert setting.calls[1].parameters["symbol"] == BTC
    setting.answer([])
    for minute in range(4, 9):
        setting.clock(BEGAN + minute * MINUTE)
    assert len(setting.calls) == 2
    assert setting.missing == []
    # Its first candle still settles whether more have closed meanwhile.
    setting.seen(candle(9, closed=False))
    assert len(setting.calls) == 3
    setting.answer(rows(3, 9))
    assert setting.closed == list(range(9))


def test_a_frame_with_a_time_from_the_future_closes_no_candle() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    setting.clock(BEGAN + MINUTE + 30 * SECOND)
    far = BEGAN + 10**15
    setting.clock(far)
    assert setting.calls[0].parameters["endTime"] == far // SECOND
    setting.answer(rows(0, 1))
    assert setting.closed == [0], "what is listed last is under way"
    assert setting.missing == []
    setting.seen(candle(1, closed=False), candle(3, closed=False))
    setting.seen(candle(3))
    assert setting.closed == [0, 3], "a quiet market, for all that is known"
    # The same at the very beginning.
    history = CandleHistory("1m", [SOL])
    history.clock(far)
    history.seen(candle(0))
    history.connection_lost()
    (call,) = history.seen(candle(3, closed=False))
    assert isinstance(call, Call)
    assert call.parameters["startTime"] == BEGAN // SECOND


def test_when_a_quiet_symbol_cannot_be_asked_for_its_first_candle_has_it_asked_for_again() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    setting.clock(BEGAN + 4 * MINUTE)
    for attempt in range(ATTEMPTS):
        setting.clock(BEGAN + (5 + attempt) * MINUTE)
        setting.fail()
    assert (len(setting.calls), setting.missing) == (ATTEMPTS, [])
    setting.seen(candle(9, closed=False))
    setting.answer(rows(0, 9))
    assert setting.closed == list(range(9))


def test_a_quiet_symbol_is_not_asked_for_before_one_must_have_closed() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    setting.clock(BEGAN + 1 * MINUTE + 30 * SECOND)
    setting.clock(BEGAN + 2 * MINUTE + SECOND)
    assert setting.calls == []
    setting.clock(BEGAN + 2 * MINUTE + 2 * SECOND)
    assert len(setting.calls) == 1


def test_one_request_is_under_way_at_a_time() -> None:
    setting = Setting(SOL, BTC)
    setting.seen(candle(0), candle(0, symbol=BTC))
    setting.lose_connection()
    setting.seen(candle(3, closed=False), candle(3, closed=False, symbol=BTC), candle(3), candle(3, symbol=BTC))
    assert len(setting.calls) == 1
    setting.answer(rows(0, 3))
    assert [call.parameters["symbol"] for call in setting.calls] == [SOL, BTC]
    setting.answer(rows(0, 3, BTC))
    assert setting.closed == setting.closed_of(BTC) == [0, 1, 2, 3]


def test_a_connection_that_is_lost_again_takes_back_the_request() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    setting.seen(candle(3, closed=False), candle(3))
    asked = setting.calls[0]
    setting.lose_connection()
    assert setting.withdrawn == [asked.call_id]
    setting.answer(rows(0, 3), asked)
    assert setting.closed == [0], "nobody waits for it any more"
    setting.seen(candle(6, closed=False))
    setting.answer(rows(0, 6))
    assert setting.closed == [0, 1, 2, 3, 4, 5]


def test_a_frame_that_could_not_be_read_may_have_been_a_closed_candle() -> None:
    setting = Setting(SOL, BTC)
    setting.seen(candle(0), candle(0, symbol=BTC))
    for stream in ("kline.1m.SOL_USDC", None, "kline.5m.SOL_USDC", "trade.SOL_USDC", "kline.1m.ETH_USDC"):
        setting.history.frame_lost(stream)
    setting.seen(candle(1, closed=False), candle(1, closed=False, symbol=BTC))
    assert setting.calls == [], "it was not"
    setting.history.frame_lost("kline.1m.SOL_USDC")
    setting.seen(candle(2, closed=False), candle(2, closed=False, symbol=BTC))
    assert len(setting.calls) == 1
    # While an answer is awaited another frame is lost, and again nobody knows of which candle.
    setting.seen(candle(2))
    setting.history.frame_lost(None)
    setting.answer(rows(0, 2))
    setting.seen(candle(4, closed=False), candle(4, closed=False, symbol=BTC))
    for _ in range(2):
        setting.answer(rows(0, 4, str(setting.calls[-1].parameters["symbol"])))
    assert setting.closed == setting.closed_of(BTC) == [0, 1, 2, 3]


def test_what_fails_is_tried_again_and_then_said_to_be_missing() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    setting.seen(candle(3, closed=False))
    for attempt in range(1, ATTEMPTS):
        setting.fail()
        assert len(setting.calls) == attempt, "a pause comes first"
        setting.clock(BEGAN + 3 * MINUTE + (30 + 15 * attempt) * SECOND)
        assert len(setting.calls) == attempt + 1
    setting.fail()
    assert setting.missing == [
        CandlesMissing(symbol=SOL, from_us=BEGAN + MINUTE, until_us=BEGAN + 3 * MINUTE, reason="no answer")
    ]
    setting.seen(candle(3), candle(4))
    assert setting.closed == [0, 3, 4]
    assert len(setting.calls) == ATTEMPTS


def test_of_a_long_outage_the_latest_are_filled_in_and_the_rest_is_named() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    last = MOST_CANDLES + 500
    setting.seen(candle(last, closed=False))
    (missing,) = setting.missing
    assert (missing.symbol, missing.from_us, missing.until_us) == (SOL, BEGAN + MINUTE, BEGAN + 500 * MINUTE)
    assert "only the latest 1000" in missing.reason
    assert setting.calls[0].parameters["startTime"] == (BEGAN + 499 * MINUTE) // SECOND
    setting.answer(rows(499, last))
    assert setting.closed == [0, *range(500, last)]


def test_what_is_held_is_bounded_and_what_it_loses_is_asked_for() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    setting.seen(candle(2, closed=False))
    count = MOST_CANDLES + 10
    setting.seen(*(candle(minute) for minute in range(2, count)))
    setting.answer(rows(0, 2))
    assert setting.closed == [0, 1]
    setting.answer(rows(1, count))
    assert setting.closed == list(range(count))
    assert setting.missing == []


def test_before_the_exchange_has_said_the_time_nothing_is_known() -> None:
    history = CandleHistory("1m", [SOL])
    history.connection_lost()
    history.frame_lost(None)
    assert history.clock(None) == []
    given = candle(3, at_us=None)
    assert history.seen(given) == [given]
    other = candle(3, symbol="ETH_USDC")
    assert history.seen(other) == [other], "of a symbol that was not asked for"
    assert history.answered(CallAnswered(call_id=5, endpoint="klines", result=())) == []


def test_an_answer_of_another_kind_is_a_mistake_of_ours() -> None:
    setting = Setting()
    setting.seen(candle(0))
    setting.lose_connection()
    setting.seen(candle(3, closed=False))
    with pytest.raises(TypeError, match="not an answer with candles: dict"):
        setting.history.answered(CallAnswered(call_id=setting.calls[0].call_id, endpoint="klines", result={}))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_to_the_connection_each_comes_once_and_in_order(seed: int) -> None:
    """The stream sends each minute's candle as it ends, sometimes twice. Connections end, answers are late or fail, frames are lost."""
    random = Random(seed)
    setting = Setting(SOL, BTC)
    connected, now = True, BEGAN + MINUTE // 2
    answered: set[int] = set()
    for minute in range(80):
        for offset in sorted(random.sample(range(1, 60), 6)):
            now = BEGAN + minute * MINUTE + offset * SECOND
            if random.random() < 0.06 and minute < 70:
                connected = not connected
                if not connected:
                    setting.lose_connection()
            if connected and random.random() < 0.5:
                setting.seen(candle(minute, closed=False, at_us=now, symbol=random.choice([SOL, BTC])))
            elif connected:
                setting.clock(now)
            if setting.calls and setting.calls[-1].call_id not in answered and random.random() < 0.7:
                call = setting.calls[-1]
                answered.add(call.call_id)
                first = (int(str(call.parameters["startTime"])) * SECOND - BEGAN) // MINUTE
                if random.random() < 0.1 and minute < 70:
                    setting.fail()
                else:
                    setting.answer(rows(max(first, 0), minute, str(call.parameters["symbol"])), call)
        for symbol in (SOL, BTC):
            for _ in range(random.choice([1, 1, 1, 2])):
                if connected and random.random() < 0.03 and minute < 70:
                    setting.history.frame_lost(f"kline.1m.{symbol}")
                elif connected:
                    setting.seen(candle(minute, symbol=symbol))
        connected = connected or minute >= 70
    for symbol in (SOL, BTC):
        mine = [given for given in setting.handed if given.symbol == symbol and given.closed]
        minutes = [(given.start_us - BEGAN) // MINUTE for given in mine]
        expected = [
            minute
            for minute in range(80)
            if not any(
                gap.symbol == symbol and gap.from_us < BEGAN + (minute + 1) * MINUTE <= gap.until_us for gap in setting.missing
            )
        ]
        assert minutes == expected
        assert all(given.close == Decimal(minute + 1) for given, minute in zip(mine, minutes, strict=True))

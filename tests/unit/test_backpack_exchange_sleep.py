"""Made-up markets of the simulated exchange, which sleep while nobody looks at them."""

from __future__ import annotations

import pytest

from backpack_proto.errors import LocalProtocolError
from backpack_proto.exchange import LISTINGS, Exchange, FrameReceived, SendFrame, SocketClosed, SocketOpened, more_listings
from backpack_proto.inputs import TimerFired
from backpack_proto.testing.laws import FakeClock
from sandbox_calls import Caller

SECOND = 1_000_000
WATCHED = "X002_USDC_PERP"


class Sleepers:
    """One standard market and twenty that sleep."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        listings = (LISTINGS[0], *more_listings(20, seed=4))
        self.exchange = Exchange(seed=4, unix_us=self.clock.unix_us, listings=listings)
        self.caller = Caller(self.exchange, self.clock)
        self.caller.call("ping", {})

    def run(self, seconds: float) -> list[SendFrame]:
        end_us = self.clock.mono_us + round(seconds * 1e6)
        frames: list[SendFrame] = []
        while self.exchange.deadline is not None and self.exchange.deadline <= end_us:
            outputs = self.exchange.handle(TimerFired(), self.clock.advance_to(self.exchange.deadline))
            frames += [output for output in outputs if isinstance(output, SendFrame)]
        self.clock.advance_to(end_us)
        return frames

    def ids(self) -> dict[str, int]:
        return {symbol: self.exchange.levels(symbol)[2] for symbol in self.exchange.symbols}

    def moving(self, seconds: float = 3) -> set[str]:
        before = self.ids()
        self.run(seconds)
        return {symbol for symbol, update_id in self.ids().items() if update_id != before[symbol]}

    def listen(self, connection: int, stream: str) -> None:
        self.exchange.handle(SocketOpened(connection), self.clock.now)
        frame = f'{{"method":"SUBSCRIBE","params":["{stream}"]}}'.encode()
        self.exchange.handle(FrameReceived(connection, frame), self.clock.now)


def test_made_up_markets_are_spot_and_perpetual_in_turn_and_have_prices_of_the_seed() -> None:
    listings = more_listings(5, seed=1)
    assert [listing.symbol for listing in listings] == [
        "X001_USDC",
        "X001_USDC_PERP",
        "X002_USDC",
        "X002_USDC_PERP",
        "X003_USDC",
    ]
    assert listings == more_listings(1_000, seed=1)[:5]
    assert [one.opening_ticks for one in listings] != [one.opening_ticks for one in more_listings(5, seed=2)]
    for count in (-1, 1_001):
        with pytest.raises(LocalProtocolError, match=f"markets: 0 to 1000, got {count}"):
            more_listings(count, seed=1)


def test_a_market_nobody_looks_at_stands_still_and_one_that_is_listened_to_does_not() -> None:
    sleepers = Sleepers()
    assert sleepers.moving() == {"SOL_USDC"}
    sleepers.listen(1, f"depth.{WATCHED}")
    assert sleepers.moving() == {"SOL_USDC", WATCHED}
    assert any(b'"e":"depth"' in frame.data for frame in sleepers.run(2))
    sleepers.exchange.handle(SocketClosed(1), sleepers.clock.now)
    sleepers.run(62)
    assert sleepers.moving() == {"SOL_USDC"}


def test_a_ticker_stream_wakes_a_market_as_well() -> None:
    sleepers = Sleepers()
    sleepers.listen(1, f"ticker.{WATCHED}")
    assert len([frame for frame in sleepers.run(5) if b'"e":"ticker"' in frame.data]) == 5


def test_a_request_wakes_a_market_for_a_minute() -> None:
    sleepers = Sleepers()
    assert sleepers.caller.call("depth", {"symbol": WATCHED}).bids
    assert WATCHED in sleepers.moving()
    sleepers.run(50)
    assert WATCHED in sleepers.moving()
    sleepers.run(10)
    assert WATCHED not in sleepers.moving()


def test_an_order_keeps_a_market_awake() -> None:
    sleepers = Sleepers()
    bids, _, _ = sleepers.exchange.levels(WATCHED)
    order = {"symbol": WATCHED, "side": "Bid", "orderType": "Limit", "price": str(bids[-1].price), "postOnly": True}
    placed = sleepers.caller.call("place_order", {**order, "quantity": "1"})
    sleepers.run(70)
    assert WATCHED in sleepers.moving()
    sleepers.caller.call("cancel_order", {"symbol": WATCHED, "orderId": placed.order_id})
    sleepers.run(62)
    assert WATCHED not in sleepers.moving()


def test_every_market_has_a_ticker_and_candles_asleep_or_not() -> None:
    sleepers = Sleepers()
    assert len(sleepers.caller.call("tickers", {})) == 21
    now_s = sleepers.clock.unix_us // SECOND
    candles = sleepers.caller.call("klines", {"symbol": WATCHED, "interval": "1h", "startTime": now_s - 86_400})
    assert any(candle.trade_count for candle in candles)

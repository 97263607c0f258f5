"""Stocks of the simulated exchange: sessions, the book that they close, and prices from elsewhere."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from backpack_proto.errors import ApiError, NothingTraded
from backpack_proto.exchange import Exchange, FrameReceived, SendFrame, SocketOpened
from backpack_proto.exchange.market.stocks import SECURITIES, next_bell_us, price_cents, session_at
from backpack_proto.inputs import TimerFired
from backpack_proto.testing.laws import FakeClock
from sandbox_calls import Caller

MU = SECURITIES["MU.US"]
PRE, REGULAR, POST = "US_EQUITIES_PRE_MARKET", "US_EQUITIES_REGULAR", "US_EQUITIES_POST_MARKET"


def at(text: str) -> int:
    """Microseconds of a moment in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("moment", "session"),
    [
        # Summer: New York is four hours behind.
        ("2026-09-02T07:59:59", None),
        ("2026-09-02T08:00:00", PRE),
        ("2026-09-02T13:30:00", REGULAR),
        ("2026-09-02T20:00:00", POST),
        ("2026-09-02T23:59:59", POST),
        ("2026-09-03T00:00:00", None),
        ("2026-09-05T15:00:00", None),  # a Saturday
        ("2026-09-07T15:00:00", None),  # Labor Day
        # Winter: five.
        ("2026-11-25T14:29:59", PRE),
        ("2026-11-25T14:30:00", REGULAR),
        ("2026-11-26T15:00:00", None),  # Thanksgiving
        ("2026-11-27T17:59:59", REGULAR),
        ("2026-11-27T18:00:00", None),  # it ends early on the day after
        # The days of the change, which are Sundays, and the Mondays behind them.
        ("2026-10-30T20:00:00", POST),
        ("2026-11-02T20:59:59", REGULAR),
        ("2027-03-12T14:30:00", REGULAR),
        ("2027-03-15T13:30:00", REGULAR),
    ],
)
def test_sessions_follow_the_clocks_of_new_york(moment: str, session: str | None) -> None:
    assert session_at(MU, at(moment)) == session


@pytest.mark.parametrize(
    ("moment", "bell"),
    [
        ("2026-09-02T12:00:00", "2026-09-03T00:00:00"),
        ("2026-09-03T00:00:00", "2026-09-03T08:00:00"),
        ("2026-09-05T00:00:00", "2026-09-08T08:00:00"),  # a weekend, and Labor Day
        ("2026-11-27T12:00:00", "2026-11-27T18:00:00"),
    ],
)
def test_the_next_bell_is_that_of_the_first_session_or_of_the_last(moment: str, bell: str) -> None:
    assert next_bell_us(MU, at(moment)) == at(bell)


def test_the_book_of_a_stock_closes_and_opens_by_the_sessions() -> None:
    clock = FakeClock(unix_us=at("2026-09-02T23:59:58"))
    exchange = Exchange(seed=1, unix_us=clock.unix_us)
    exchange.handle(SocketOpened(1), clock.now)
    exchange.handle(FrameReceived(1, b'{"method":"SUBSCRIBE","params":["depth.MU.US_USDC"]}'), clock.now)
    assert "MU.US_USDC" not in exchange.symbols

    def depth_frames(us: int) -> int:
        end_us, frames = clock.mono_us + us, 0
        while exchange.deadline is not None and exchange.deadline <= end_us:
            for output in exchange.handle(TimerFired(), clock.advance_to(exchange.deadline)):
                frames += isinstance(output, SendFrame)
        clock.advance(end_us - clock.mono_us)
        return frames

    assert depth_frames(1_900_000) == 0
    assert depth_frames(100_000) == 0
    assert "MU.US_USDC" in exchange.symbols, "the last session is over"
    # A name that existed when it was subscribed is needed, as for any market that was Closed.
    exchange.handle(FrameReceived(1, b'{"method":"SUBSCRIBE","params":["depth.MU.US_USDC"]}'), clock.now)
    assert depth_frames(3_000_000) > 0
    clock.unix_us = at("2026-09-03T08:00:00")
    clock.advance_to(clock.mono_us + 8 * 3_600_000_000)
    exchange.handle(TimerFired(), clock.now)
    assert "MU.US_USDC" not in exchange.symbols
    assert depth_frames(3_000_000) == 0


def test_a_stock_is_quoted_while_a_session_is_open() -> None:
    caller = Caller()
    assert session_at(MU, caller.clock.unix_us) == REGULAR
    asked = {"symbol": "MU.US", "side": "Bid", "quantity": "2"}
    quote = caller.call("stock_indicative_quote", asked)
    assert (quote.available, quote.session, quote.reason) == (True, REGULAR, None)
    assert quote.price > quote.estimated_price, "a buyer's limit is above what it will probably cost"
    assert quote.quote_quantity == 2 * quote.price
    sold = caller.call("stock_indicative_quote", {**asked, "side": "Ask"})
    assert sold.price < sold.estimated_price < quote.estimated_price
    with pytest.raises(ApiError, match="limits of the session"):
        caller.call("stock_indicative_quote", {**asked, "quantity": "1001"})
    with pytest.raises(ApiError, match="Invalid symbol"):
        caller.call("stock_indicative_quote", {**asked, "symbol": "SOL"})


def test_a_stock_is_not_quoted_outside_and_its_limits_are_those_of_the_sessions() -> None:
    caller = Caller()
    caller.clock.advance_to(caller.clock.mono_us + 12 * 3_600_000_000)
    quote = caller.call("stock_indicative_quote", {"symbol": "MU.US", "side": "Bid", "quoteQuantity": "100"})
    assert (quote.available, quote.reason, quote.price, quote.session) == (False, "priceUnavailable", None, None)
    securities = {security.asset: security for security in caller.call("securities", {})}
    assert {"AAPL.US", "MU.US"} <= set(securities)
    names = {session.name for session in caller.call("stock_sessions", {})}
    assert all(session.name in names for security in securities.values() for session in security.sessions)
    regular = next(session for session in securities["AAPL.US"].sessions if session.name == REGULAR)
    assert (regular.min_quantity, regular.max_quantity) == (Decimal("0.01"), Decimal(1000))


def test_figures_from_elsewhere_are_those_of_stocks_and_the_same_whenever_they_are_asked() -> None:
    caller = Caller()
    now_s = caller.clock.unix_us // 1_000_000
    ticker = caller.call("ticker", {"symbol": "MU.US_USDC", "source": "External"})
    assert ticker.last_price == Decimal(price_cents(MU, now_s)) / 100
    assert ticker.low <= ticker.last_price <= ticker.high
    assert {row.symbol for row in caller.call("tickers", {"source": "External"})} == {"MU.US_USDC", "AAPL.US_USDC_PERP"}
    with pytest.raises(NothingTraded):
        caller.call("ticker", {"symbol": "SOL_USDC", "source": "External"})
    asked = {"symbol": "AAPL.US_USDC_PERP", "interval": "1h", "startTime": now_s - 86_400, "source": "External"}
    candles = caller.call("klines", asked)
    assert len(candles) == 24
    assert all(before.close == after.open for before, after in itertools.pairwise(candles))
    caller.clock.advance(60_000_000)
    assert caller.call("klines", asked)[:-1] == candles[:-1]
    assert caller.call("klines", {**asked, "symbol": "SOL_USDC"}) == ()

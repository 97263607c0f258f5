"""Stocks of the simulated exchange: the list, their sessions, and their prices elsewhere (docs/protocol.md 6.5).

While a session of a security is open, it is traded by requests for quotes, and its book, where it has one, is Closed. Outside it is the
other way round. Times are those of New York, whose summer time follows the rule since 2007. Prices elsewhere are made up from the name
and the time alone, so that all requests for one moment have the same answer.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from random import Random

from msgspec import Struct

from backpack_proto.values import Value

__all__ = [
    "HOLIDAYS",
    "SECURITIES",
    "SESSIONS",
    "StockSecurity",
    "TradingSession",
    "next_bell_us",
    "price_cents",
    "session_at",
]

TIMEZONE = "America/New_York"
PRE_MARKET, REGULAR, POST_MARKET = "US_EQUITIES_PRE_MARKET", "US_EQUITIES_REGULAR", "US_EQUITIES_POST_MARKET"
DAY_S = 86_400
LONGEST_BREAK_DAYS = 10


class TradingSession(Struct, frozen=True, gc=False, kw_only=True):
    """Hours in which stocks trade, from Monday to Friday."""

    name: str
    description: str
    start: time
    end: time


class StockSecurity(Value, frozen=True, gc=False, kw_only=True):
    """One stock."""

    asset: str
    name: str
    cusip: str | None
    cents: int
    """The price around which it is made up."""
    max_quantities: dict[str, str]
    """The largest order of each session in which it trades."""
    min_quantity: str = "0.01"
    step_size: str = "0.01"


SESSIONS = (
    TradingSession(name=PRE_MARKET, description="Before the opening bell.", start=time(4), end=time(9, 30)),
    TradingSession(name=REGULAR, description="From bell to bell.", start=time(9, 30), end=time(16)),
    TradingSession(name=POST_MARKET, description="After the closing bell.", start=time(16), end=time(20)),
)
_ALL_DAY = {PRE_MARKET: "250", REGULAR: "1000", POST_MARKET: "250"}
SECURITIES = {
    security.asset: security
    for security in (
        StockSecurity(asset="AAPL.US", name="Apple Inc.", cusip="037833100", cents=34_040, max_quantities=_ALL_DAY),
        StockSecurity(asset="MU.US", name="Micron Technology, Inc.", cusip="595112103", cents=41_250, max_quantities=_ALL_DAY),
        StockSecurity(asset="NVDA.US", name="NVIDIA Corporation", cusip="67066G104", cents=24_180, max_quantities=_ALL_DAY),
        StockSecurity(asset="TSLA.US", name="Tesla, Inc.", cusip="88160R101", cents=43_820, max_quantities=_ALL_DAY),
        # Not every security trades before and after the bells.
        StockSecurity(asset="SPCX.US", name="SPCX", cusip=None, cents=21_560, max_quantities={REGULAR: "400"}),
    )
}
"""The stocks, by their asset."""
HOLIDAYS: dict[date, tuple[str, time | None]] = {
    date(2026, 9, 7): ("Labor Day", None),
    date(2026, 11, 26): ("Thanksgiving Day", None),
    date(2026, 11, 27): ("Day after Thanksgiving", time(13)),
    date(2026, 12, 24): ("Christmas Eve", time(13)),
    date(2026, 12, 25): ("Christmas Day", None),
    date(2027, 1, 1): ("New Year's Day", None),
    date(2027, 1, 18): ("Martin Luther King, Jr. Day", None),
    date(2027, 2, 15): ("Washington's Birthday", None),
    date(2027, 3, 26): ("Good Friday", None),
    date(2027, 5, 31): ("Memorial Day", None),
    date(2027, 6, 18): ("Juneteenth National Independence Day", None),
    date(2027, 7, 5): ("Independence Day", None),
    date(2027, 9, 6): ("Labor Day", None),
    date(2027, 11, 25): ("Thanksgiving Day", None),
    date(2027, 11, 26): ("Day after Thanksgiving", time(13)),
    date(2027, 12, 24): ("Christmas Day", None),
}
"""Days without trading, or with trading until the time that is given."""


def session_at(security: StockSecurity, unix_us: int) -> str | None:
    """Return the session of a security that is open at a time, or None."""
    local = _new_york(unix_us)
    for name, start, end in _hours(local.date()):
        if name in security.max_quantities and start <= local < end:
            return name
    return None


def next_bell_us(security: StockSecurity, unix_us: int) -> int:
    """Return when the security's trading next begins or ends, after a time."""
    open_now = session_at(security, unix_us) is not None
    day = _new_york(unix_us).date()
    for _ in range(LONGEST_BREAK_DAYS):
        for name, start, end in _hours(day):
            for moment in (start, end) if name in security.max_quantities else ():
                moment_us = _unix_us(moment)
                if moment_us > unix_us and (session_at(security, moment_us) is not None) is not open_now:
                    return moment_us
        day += timedelta(days=1)
    return unix_us + LONGEST_BREAK_DAYS * DAY_S * 1_000_000


def price_cents(security: StockSecurity, unix_s: int) -> int:
    """Return the price of a stock elsewhere at a second: it wanders by the hour and trembles by the minute."""
    hour, into = divmod(unix_s, 3_600)
    here, there = _drift(security.asset, hour), _drift(security.asset, hour + 1)
    wander = here + (there - here) * into / 3_600
    tremble = Random(f"{security.asset}:{unix_s // 60}").gauss(0.0, 4e-4)
    return max(1, round(security.cents * (1.0 + wander + tremble)))


@lru_cache(maxsize=4_096)
def _drift(asset: str, hour: int) -> float:
    return Random(f"{asset}:hour:{hour}").gauss(0.0, 6e-3)


def _hours(day: date) -> list[tuple[str, datetime, datetime]]:
    """The sessions of a day as names and local times, without a zone."""
    if day.isoweekday() > 5:
        return []
    closing = time(23, 59)
    if day in HOLIDAYS:
        early = HOLIDAYS[day][1]
        if early is None:
            return []
        closing = early
    return [
        (session.name, datetime.combine(day, session.start), datetime.combine(day, min(session.end, closing)))
        for session in SESSIONS
        if session.start < closing
    ]


def _new_york(unix_us: int) -> datetime:
    """A time as a clock on a wall in New York shows it, without a zone."""
    utc = datetime.fromtimestamp(unix_us // 1_000_000, UTC).replace(tzinfo=None)
    winter = utc - timedelta(hours=5)
    start, end = _summer(winter.year)
    return winter + timedelta(hours=1) if start <= winter < end - timedelta(hours=1) else winter


def _unix_us(local: datetime) -> int:
    start, end = _summer(local.year)
    hours = 4 if start <= local < end else 5
    return int((local + timedelta(hours=hours)).replace(tzinfo=UTC).timestamp()) * 1_000_000


@lru_cache(maxsize=64)
def _summer(year: int) -> tuple[datetime, datetime]:
    """When summer time begins and ends, as clocks show it before they are changed."""
    return _sunday(year, 3, 2), _sunday(year, 11, 1)


def _sunday(year: int, month: int, number: int) -> datetime:
    first = date(year, month, 1)
    day = first + timedelta(days=7 - first.isoweekday() + 7 * (number - 1))
    return datetime.combine(day, time(2))

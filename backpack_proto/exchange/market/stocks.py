"""The tokenised stocks of the simulated exchange: securities, the sessions in which the broker quotes them, and holidays.

Theory of operation. A stock trades by requests for quote while a session of its security is open, by the exchange's clock. Sessions are
times of New York; its summer time is worked out from the rule that the United States have had since 2007, for the core reads no files.
A session of a range of weekdays opens on each of them, and may end on the next day. A holiday closes everything between its two times.

The name of one session is known from the exchange, `US_EQUITIES_PRE_MARKET`; the others are made up in its style.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from backpack_proto.values import Value

from .listings import stripped

__all__ = [
    "HOLIDAYS",
    "ROUND_THE_CLOCK",
    "SECURITIES",
    "SESSIONS",
    "Security",
    "SessionLimits",
    "StockCalendar",
    "StockHoliday",
    "StockSession",
    "holiday_row",
    "security_row",
    "session_row",
]

NEW_YORK: Final = "America/New_York"
_DAY_S: Final = 86_400
_HOUR_S: Final = 3_600


class StockSession(Value, frozen=True, gc=False, kw_only=True):
    """A stretch of the day in which stocks trade; seconds since midnight in New York."""

    name: str
    start_s: int
    end_s: int
    """Not above `start_s` for one that ends on the next day."""
    first_weekday: int
    last_weekday: int
    """1 is Monday; below `first_weekday` the range goes on into the next week."""


class StockHoliday(Value, frozen=True, gc=False, kw_only=True):
    """A day on which stocks do not trade, or not all day; seconds since midnight in New York."""

    name: str
    day: str
    start_s: int = 0
    end_s: int = _DAY_S - 1


class SessionLimits(Value, frozen=True, gc=False, kw_only=True):
    """How much of a security may be asked for in one session, in hundredths of a share."""

    session: str
    minimum: int
    maximum: int
    step: int


class Security(Value, frozen=True, gc=False, kw_only=True):
    """A stock that can be traded as an asset."""

    asset: str
    name: str
    cusip: str
    opening_ticks: int
    """Price in cents, where no market of it is open."""
    limits: tuple[SessionLimits, ...]

    @property
    def symbol(self) -> str:
        """The market of its requests for quote."""
        return f"{self.asset}_USDC_RFQ"


PRE_MARKET: Final = "US_EQUITIES_PRE_MARKET"
REGULAR: Final = "US_EQUITIES_REGULAR_MARKET"
AFTER_MARKET: Final = "US_EQUITIES_AFTER_MARKET"
OVERNIGHT: Final = "US_EQUITIES_OVERNIGHT"

SESSIONS: Final = (
    StockSession(name=PRE_MARKET, start_s=4 * _HOUR_S, end_s=34_200, first_weekday=1, last_weekday=5),
    StockSession(name=REGULAR, start_s=34_200, end_s=16 * _HOUR_S, first_weekday=1, last_weekday=5),
    StockSession(name=AFTER_MARKET, start_s=16 * _HOUR_S, end_s=20 * _HOUR_S, first_weekday=1, last_weekday=5),
    StockSession(name=OVERNIGHT, start_s=20 * _HOUR_S, end_s=4 * _HOUR_S, first_weekday=7, last_weekday=4),
)
ROUND_THE_CLOCK: Final = (StockSession(name=REGULAR, start_s=0, end_s=0, first_weekday=1, last_weekday=7),)
"""Sessions for programs that have to be able to trade stocks whenever they run."""

HOLIDAYS: Final = (
    StockHoliday(name="Thanksgiving Day", day="2026-11-26"),
    StockHoliday(name="Day after Thanksgiving", day="2026-11-27", start_s=13 * _HOUR_S),
    StockHoliday(name="Christmas Eve", day="2026-12-24", start_s=13 * _HOUR_S),
    StockHoliday(name="Christmas Day", day="2026-12-25"),
    StockHoliday(name="New Year's Day", day="2027-01-01"),
)

_LIMITS: Final = (
    SessionLimits(session=PRE_MARKET, minimum=1, maximum=50_000, step=1),
    SessionLimits(session=REGULAR, minimum=1, maximum=500_000, step=1),
    SessionLimits(session=AFTER_MARKET, minimum=1, maximum=50_000, step=1),
    SessionLimits(session=OVERNIGHT, minimum=100, maximum=20_000, step=100),
)

SECURITIES: Final = (
    Security(asset="AAPL.US", name="Apple Inc.", cusip="037833100", opening_ticks=34_040, limits=_LIMITS),
    Security(asset="NVDA.US", name="NVIDIA Corporation", cusip="67066G104", opening_ticks=19_215, limits=_LIMITS),
    Security(asset="MU.US", name="Micron Technology, Inc.", cusip="595112103", opening_ticks=21_870, limits=_LIMITS[:3]),
)


class StockCalendar:
    """The sessions that there are, by the exchange's clock; tests and operators may replace them."""

    def __init__(self, sessions: Iterable[StockSession] = SESSIONS, holidays: Iterable[StockHoliday] = HOLIDAYS) -> None:
        self.sessions = tuple(sessions)
        self.holidays = tuple(holidays)

    def session_at(self, unix_us: int) -> str | None:
        """Return the session that is open at that time, None where all are closed."""
        local = _in_new_york(unix_us // 1_000_000)
        second = local.hour * _HOUR_S + local.minute * 60 + local.second
        day = local.date()
        if any(holiday.day == day.isoformat() and holiday.start_s <= second <= holiday.end_s for holiday in self.holidays):
            return None
        for session in self.sessions:
            if session.start_s < session.end_s:
                if session.start_s <= second < session.end_s and _opens(session, day):
                    return session.name
            elif (second >= session.start_s and _opens(session, day)) or (
                second < session.end_s and _opens(session, day - timedelta(days=1))
            ):
                return session.name
        return None


def security_row(security: Security) -> dict[str, object]:
    """Return a security as `/securities` lists it."""
    return {
        "asset": security.asset,
        "cusip": security.cusip,
        "name": security.name,
        "sessions": [
            {
                "maxQuantity": stripped(limits.maximum, 2),
                "minQuantity": stripped(limits.minimum, 2),
                "name": limits.session,
                "stepSize": stripped(limits.step, 2),
            }
            for limits in security.limits
        ],
    }


def session_row(session: StockSession) -> dict[str, object]:
    """Return a session as `/stockSessions` lists it."""
    return {
        "description": None,
        "endTime": _time(session.end_s),
        "endWeekday": session.last_weekday,
        "name": session.name,
        "startTime": _time(session.start_s),
        "startWeekday": session.first_weekday,
        "timezone": NEW_YORK,
    }


def holiday_row(holiday: StockHoliday) -> dict[str, object]:
    """Return a holiday as `/stockHolidays` lists it."""
    return {
        "date": holiday.day,
        "endTime": _time(holiday.end_s),
        "name": holiday.name,
        "startTime": _time(holiday.start_s),
        "timezone": NEW_YORK,
    }


def _opens(session: StockSession, day: date) -> bool:
    first, last, weekday = session.first_weekday, session.last_weekday, day.isoweekday()
    return first <= weekday <= last if first <= last else weekday >= first or weekday <= last


def _in_new_york(unix_s: int) -> datetime:
    """Return the time in New York: five hours behind UTC, four from the second Sunday of March to the first of November."""
    standard = datetime.fromtimestamp(unix_s - 5 * _HOUR_S, UTC)
    begins = _sunday(standard.year, 3, 8) + timedelta(hours=2)
    ends = _sunday(standard.year, 11, 1) + timedelta(hours=1)
    return standard + timedelta(hours=1) if begins <= standard < ends else standard


def _sunday(year: int, month: int, from_day: int) -> datetime:
    """Return the first Sunday of a month from a day on."""
    first = datetime(year, month, from_day, tzinfo=UTC)
    return first + timedelta(days=(7 - first.isoweekday()) % 7)


def _time(second: int) -> str:
    return f"{second // _HOUR_S:02}:{second // 60 % 60:02}:{second % 60:02}"

"""When stocks trade on the simulated exchange: sessions of New York, in summer and winter, over midnight and on holidays."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backpack_proto.exchange.market.stocks import (
    HOLIDAYS,
    ROUND_THE_CLOCK,
    SECURITIES,
    SESSIONS,
    StockCalendar,
    holiday_row,
    security_row,
    session_row,
)


def open_at(utc: str, calendar: StockCalendar | None = None) -> str | None:
    moment = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    return (calendar or StockCalendar()).session_at(int(moment.timestamp()) * 1_000_000)


@pytest.mark.parametrize(
    ("utc", "session"),
    [
        ("2026-09-02T13:29:59", "US_EQUITIES_PRE_MARKET"),
        ("2026-09-02T13:30:00", "US_EQUITIES_REGULAR_MARKET"),
        ("2026-09-02T19:59:59", "US_EQUITIES_REGULAR_MARKET"),
        ("2026-09-02T20:00:00", "US_EQUITIES_AFTER_MARKET"),
        ("2026-09-03T00:00:00", "US_EQUITIES_OVERNIGHT"),
        ("2026-09-03T07:59:59", "US_EQUITIES_OVERNIGHT"),
        ("2026-09-03T08:00:00", "US_EQUITIES_PRE_MARKET"),
        # Friday evening to Sunday evening.
        ("2026-09-04T23:59:59", "US_EQUITIES_AFTER_MARKET"),
        ("2026-09-05T00:00:00", None),
        ("2026-09-06T23:59:59", None),
        ("2026-09-07T00:00:00", "US_EQUITIES_OVERNIGHT"),
        # Winter time, from the first Sunday of November at two in the morning.
        ("2026-10-30T13:30:00", "US_EQUITIES_REGULAR_MARKET"),
        ("2026-11-02T13:30:00", "US_EQUITIES_PRE_MARKET"),
        ("2026-11-02T14:30:00", "US_EQUITIES_REGULAR_MARKET"),
        ("2027-03-12T14:29:59", "US_EQUITIES_PRE_MARKET"),
        ("2027-03-15T13:30:00", "US_EQUITIES_REGULAR_MARKET"),
        # Thanksgiving, and the short day after it.
        ("2026-11-26T17:00:00", None),
        ("2026-11-27T17:59:59", "US_EQUITIES_REGULAR_MARKET"),
        ("2026-11-27T18:00:00", None),
    ],
)
def test_the_session_that_is_open(utc: str, session: str | None) -> None:
    assert open_at(utc) == session


def test_sessions_round_the_clock_are_open_at_any_time_without_holidays() -> None:
    calendar = StockCalendar(ROUND_THE_CLOCK, ())
    assert {open_at(f"2026-11-{day:02}T{hour:02}:00:00", calendar) for day in range(1, 31) for hour in range(24)} == {
        "US_EQUITIES_REGULAR_MARKET"
    }


def test_rows_have_the_shape_of_the_exchange() -> None:
    assert session_row(SESSIONS[0]) == {
        "description": None,
        "endTime": "09:30:00",
        "endWeekday": 5,
        "name": "US_EQUITIES_PRE_MARKET",
        "startTime": "04:00:00",
        "startWeekday": 1,
        "timezone": "America/New_York",
    }
    assert holiday_row(HOLIDAYS[1]) == {
        "date": "2026-11-27",
        "endTime": "23:59:59",
        "name": "Day after Thanksgiving",
        "startTime": "13:00:00",
        "timezone": "America/New_York",
    }
    row = security_row(SECURITIES[0])
    assert (row["asset"], row["cusip"]) == ("AAPL.US", "037833100")
    assert row["sessions"][0] == {  # type: ignore[index]
        "maxQuantity": "500",
        "minQuantity": "0.01",
        "name": "US_EQUITIES_PRE_MARKET",
        "stepSize": "0.01",
    }

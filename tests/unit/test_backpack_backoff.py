from __future__ import annotations

from random import Random

import pytest

from backpack_proto.account import ledger
from backpack_proto.backoff import Backoff
from backpack_proto.book import sync
from backpack_proto.connection import connection
from backpack_proto.rest import pacing

SECOND = 1_000_000


def test_the_wait_doubles_up_to_the_cap() -> None:
    backoff = Backoff(base_us=1 * SECOND, cap_us=5 * SECOND)
    assert [backoff.delay_us(failures) for failures in (1, 2, 3, 4, 5)] == [
        1 * SECOND,
        2 * SECOND,
        4 * SECOND,
        5 * SECOND,
        5 * SECOND,
    ]


def test_an_outage_of_years_costs_no_time_to_compute() -> None:
    assert Backoff(base_us=1, cap_us=30 * SECOND).delay_us(10**12) == 30 * SECOND


def test_a_jittered_wait_comes_from_the_whole_range_and_is_never_nothing() -> None:
    backoff = Backoff(base_us=3, cap_us=6)
    random = Random(1)
    assert {backoff.jittered_us(1, random) for _ in range(100)} == {1, 2, 3}
    assert {backoff.jittered_us(9, random) for _ in range(300)} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("backoff", "base_us"),
    [
        (connection.BACKOFF, 1 * SECOND),
        (ledger.RETRY, 1 * SECOND),
        (sync.RETRY, 1 * SECOND),
        (sync.TOO_OLD_RETRY, SECOND // 5),
        (pacing.PAUSE, 1 * SECOND),
    ],
)
def test_nothing_waits_longer_than_half_a_minute(backoff: Backoff, base_us: int) -> None:
    assert backoff == Backoff(base_us=base_us, cap_us=30 * SECOND)

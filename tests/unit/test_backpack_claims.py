"""A claim is worked out when it is read, from the time of its newest proof."""

from __future__ import annotations

import pytest

from backpack_proto.claims import AUDIT_US, PATH_BOUND_US, AuditPace, Claims, PathClaim

SECOND = 1_000_000


def test_a_path_without_proof_does_not_hold() -> None:
    claim = PathClaim()
    assert not claim.holds(0)
    assert claim.age_us(0) is None


def test_a_path_holds_until_its_newest_proof_is_too_old() -> None:
    claim = PathClaim()
    claim.proved_us, claim.offset_us = 1_000 * SECOND, -900 * SECOND
    assert claim.age_us(103 * SECOND) == 3 * SECOND
    assert claim.holds(100 * SECOND + PATH_BOUND_US - 1)
    assert not claim.holds(100 * SECOND + PATH_BOUND_US)


def test_a_proof_from_the_future_does_not_count() -> None:
    claim = PathClaim()
    claim.proved_us = 100 * SECOND
    assert claim.holds(100 * SECOND)
    assert not claim.holds(100 * SECOND - 1)


def test_a_path_that_nobody_watches_is_never_doubted() -> None:
    assert PathClaim(bounded=False).holds(10**15)


@pytest.mark.parametrize(
    ("books", "interval_s", "requests_per_minute"),
    [(1, 60, 1), (100, 60, 100), (400, 60, 400), (500, 60, 500), (1000, 120, 500)],
)
def test_many_books_are_audited_less_often(books: int, interval_s: int, requests_per_minute: int) -> None:
    pace = AuditPace()
    pace.books = books
    assert pace.interval_us == interval_s * SECOND
    assert books * AUDIT_US // pace.interval_us == requests_per_minute
    assert pace.bound_us == 2 * interval_s * SECOND - PATH_BOUND_US


def test_without_audits_a_chain_has_no_bound() -> None:
    assert AuditPace(audits=False).bound_us is None
    assert Claims().hold(0, 10**15)


def test_a_book_is_live_while_both_claims_hold() -> None:
    path, pace = PathClaim(), AuditPace()
    claims = Claims(path, pace)
    path.proved_us = 100 * SECOND
    assert claims.hold(0, 104 * SECOND)
    assert not claims.hold(0, 105 * SECOND), "the path"
    path.proved_us = 200 * SECOND
    assert not claims.hold(0, 200 * SECOND), "the chain"
    assert claims.hold(100 * SECOND, 200 * SECOND)

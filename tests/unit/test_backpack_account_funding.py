"""Funding payments in the ledger: each is told once, and none from before."""

from __future__ import annotations

from decimal import Decimal

import pytest

from accounts import Desk, a_payment
from backpack_proto.account.funding import FundingPayments
from backpack_proto.account.margin import FundingPaid
from backpack_proto.account.readings import Read
from backpack_proto.account.values import Origin
from backpack_proto.rest.results.account import FundingPayment

HOUR_US = 3_600_000_000


def told(desk: Desk) -> list[FundingPayment]:
    return [event.payment for event in desk.events(FundingPaid)]


def offsets(desk: Desk) -> list[int]:
    """Where the pages of the next check begin."""
    found = []
    desk.begin_check()
    while desk.asked:
        asked = desk.asked.pop(0)
        found += [asked.offset] if asked.what is Read.FUNDING else []
        desk.give(desk.answer(asked))
    desk.timer()
    return found


def test_payments_from_before_the_ledger_are_known_and_not_told() -> None:
    desk = Desk()
    desk.payments = [a_payment(0), a_payment(1)]
    desk.sync()
    assert desk.ledger.funding == (a_payment(0), a_payment(1))
    assert told(desk) == []


def test_a_payment_is_told_once_by_the_next_reading() -> None:
    desk = Desk()
    desk.payments = [a_payment(0)]
    desk.sync()
    desk.payments += [a_payment(1, "BTC_USDC_PERP", -2), a_payment(1, "SOL_USDC_PERP")]
    desk.check().check()
    assert desk.events(FundingPaid) == [
        FundingPaid(payment=a_payment(1, "BTC_USDC_PERP", -2), origin=Origin.RECONCILIATION),
        FundingPaid(payment=a_payment(1, "SOL_USDC_PERP"), origin=Origin.RECONCILIATION),
    ]
    assert desk.ledger.funding == (a_payment(0), a_payment(1, "BTC_USDC_PERP", -2), a_payment(1, "SOL_USDC_PERP"))


def test_the_first_payment_of_an_account_is_told() -> None:
    desk = Desk().sync()
    assert desk.ledger.funding == ()
    desk.payments = [a_payment(0)]
    assert told(desk.check()) == [a_payment(0)]


def test_a_payment_that_is_listed_behind_a_later_one_is_told() -> None:
    desk = Desk()
    desk.payments = [a_payment(0, "A_USDC_PERP")]
    desk.sync()
    desk.payments.append(a_payment(1, "B_USDC_PERP"))
    desk.check()
    desk.payments.append(a_payment(1, "A_USDC_PERP"))
    assert told(desk.check()) == [a_payment(1, "B_USDC_PERP"), a_payment(1, "A_USDC_PERP")]


def test_pages_are_read_back_to_what_is_known() -> None:
    desk = Desk()
    desk.payments = [a_payment(hour) for hour in range(150)]
    desk.sync()
    assert desk.ledger.funding == tuple(a_payment(hour) for hour in range(50, 150))
    assert offsets(desk) == [0]
    missed = [a_payment(hour) for hour in range(150, 400)]
    desk.payments += missed
    assert offsets(desk) == [0, 100]
    assert told(desk) == missed, "and none of those that were cut off at the beginning"
    assert offsets(desk) == [0]


def test_old_payments_are_forgotten_and_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backpack_proto.account.funding.REMEMBERED_PAYMENTS", 4)
    funding = FundingPayments()
    rows = [a_payment(hour) for hour in range(12)]
    assert funding.take([]) == []
    news = [payment for end in range(1, 13) for payment in funding.take(rows[:end][::-1])]
    assert news == rows
    assert 2 <= len(funding.payments) <= 4
    assert funding.payments[-1] == rows[-1]


def test_a_payment_is_another_one_in_another_market_interval_or_subaccount() -> None:
    funding = FundingPayments()
    funding.take([])
    first = a_payment(0)
    other = FundingPayment(
        symbol=first.symbol,
        quantity=Decimal(9),
        funding_rate=first.funding_rate,
        interval_end_us=first.interval_end_us,
        subaccount_id=2,
        user_id=1,
    )
    rows = [first, a_payment(0, "BTC_USDC_PERP"), a_payment(1), other]
    assert len(funding.take(rows)) == 4
    assert funding.take(rows) == []
    assert funding.since_us == first.interval_end_us

"""Answers of foreign clients are compared by what they say, however they write it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from client_driver import equal


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1.50", Decimal("1.5")),
        (99.14, "99.14"),
        (3, "3"),
        ([["99.14", "2"]], [(Decimal("99.14"), 2.0)]),
        ({"id": "7", "price": None}, {"price": None, "id": 7}),
        ("Ask", "Ask"),
    ],
)
def test_numbers_are_equal_by_value(left: Any, right: Any) -> None:
    assert equal(left, right)
    assert equal(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1.5", "1.51"),
        (99.14, "99.15"),
        ("0.12345678901234567891", "0.12345678901234567892"),
        ([1, 2], [1]),
        ({"id": 1}, {"id": 1, "price": None}),
        (None, 0),
        ("Ask", "Bid"),
        (True, "true"),
    ],
)
def test_what_differs_is_not_equal(left: Any, right: Any) -> None:
    assert not equal(left, right)
    assert not equal(right, left)

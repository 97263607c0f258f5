from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.decoding import DECIMAL_DIGITS, UnixUs, decode_json, sane, unix_us
from backpack_proto.errors import RemoteProtocolError


class Row(msgspec.Struct, frozen=True):
    price: Decimal
    count: int = 0
    more: dict[str, list[Decimal]] | None = None


def test_numbers_may_come_as_strings_and_unknown_members_are_passed_over() -> None:
    assert decode_json(b'{"price":"1.50","count":"7","new":null}', Row, "row") == Row(price=Decimal("1.50"), count=7)


def test_decimals_keep_their_digits() -> None:
    assert str(decode_json(b'"0.1234567890123456789012345678"', Decimal, "number")) == "0.1234567890123456789012345678"


@pytest.mark.parametrize("text", ["NaN", "sNaN", "-NaN123", "Infinity", "-inf", "1e999999999", "1e-999999999", "0e-200"])
@pytest.mark.parametrize("shape", ['{"price":"%s"}', '{"price":"1","more":{"a":["2","%s"]}}'])
def test_numbers_that_are_none_are_refused_however_deep(text: str, shape: str) -> None:
    with pytest.raises(RemoteProtocolError, match="not a usable number"):
        decode_json((shape % text).encode(), Row, "row")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"price":1,}',
        b"[]",
        b'{"price":"one"}',
        b'{"price":"\xff"}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"404 not found",
    ],
)
def test_what_cannot_be_read_is_the_exchanges_error(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^row: "):
        decode_json(body, Row, "row")


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert isinstance(decode_json(body, Row, "row"), Row)


@given(st.decimals())
def test_sane_decimals_are_short_without_an_exponent(value: Decimal) -> None:
    if sane(value):
        assert len(f"{value:f}") <= 2 * DECIMAL_DIGITS + len(value.as_tuple().digits)
    else:
        assert not value.is_finite() or abs(value.adjusted()) >= DECIMAL_DIGITS


@pytest.mark.parametrize(
    ("text", "expected"), [("9e99", True), ("1e100", False), ("1e-99", True), ("9e-100", False), ("0", True)]
)
def test_a_digit_may_stand_ninety_nine_places_from_the_point(text: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert sane(Decimal(text)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01 00:00:00", 0),
        ("2026-09-01 16:52:00", 1788281520000000),
        ("2026-09-01T16:52:00", 1788281520000000),
        ("2026-09-01T17:54:04.094", 1788285244094000),
        ("2025-01-21T06:34:54.691858", 1737441294691858),
        ("2026-09-01T16:52:00Z", 1788281520000000),
    ],
)
def test_times_without_a_zone_are_utc(text: str, expected: int) -> None:
    assert unix_us(text) == expected


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001 - the exchange's are naive
def test_every_time_is_read_exactly(moment: datetime) -> None:
    seconds, microseconds = divmod(unix_us(moment.isoformat()), 1_000_000)
    assert datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None) == moment.replace(microsecond=0)
    assert microseconds == moment.microsecond
    assert unix_us(moment.isoformat(" ")) == unix_us(moment.isoformat())


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01 00:00:00", "1788281520", "0001-01-01T00:00:00+23:59x"])
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="is no time"):
        unix_us(text)


class Stamped(msgspec.Struct, frozen=True, kw_only=True):
    at_us: UnixUs
    then_us: UnixUs | None = None


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"1795012345310", 1_795_012_345_310_000),
        (b'"1795012345310"', 1_795_012_345_310_000),
        (b'"2026-11-18T14:32:25.310"', 1_795_012_345_310_000),
        (b'"2026-11-18 14:32:25.310999"', 1_795_012_345_310_999),
        (b'"2026-11-18T14:32:25.310Z"', 1_795_012_345_310_000),
        (b"0", 0),
    ],
)
def test_a_time_is_microseconds_in_whatever_form_it_comes(wire: bytes, expected: int) -> None:
    stamped = decode_json(b'{"at_us":' + wire + b',"then_us":null}', Stamped, "row")
    assert stamped == Stamped(at_us=expected)
    assert type(stamped.at_us) is int


def test_microseconds_keep_what_a_text_has_of_them() -> None:
    stamped = decode_json(b'{"at_us":"2026-11-18 14:32:25.310999"}', Stamped, "row")
    assert stamped.at_us == 1_795_012_345_310_999


def test_a_value_that_was_encoded_again_is_read_as_it_is() -> None:
    stamped = Stamped(at_us=1, then_us=2)
    assert msgspec.json.decode(msgspec.json.encode(stamped), type=Stamped) == stamped


@pytest.mark.parametrize(
    "wire", [b"true", b"1.5", b"null", b'""', b'"soon"', b"[]", b'"9999999999999999999999"', b'"-5"', b"253402300800000"]
)
def test_what_is_no_time_is_refused(wire: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^row: "):
        decode_json(b'{"at_us":' + wire + b"}", Stamped, "row")

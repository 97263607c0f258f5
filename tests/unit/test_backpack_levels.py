from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto import BookChanged, BookSynced, Depth, DepthSnapshot, Level, LocalProtocolError
from backpack_proto.streams.frames import Drop, Frame, FrameDropped, decode_frame
from backpack_proto.streams.levels import PRICES, REMEMBERED, RESTING

D = Decimal
TEXTS = st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,28})?", fullmatch=True)
PRICE_TEXTS = TEXTS.filter(lambda text: text.strip("0.") != "")
LEVELS = st.builds(Level, PRICE_TEXTS, TEXTS)
# Few enough that equal ones, and equal ones of another spelling, turn up.
NEAR = st.builds(Level, st.sampled_from(["1", "1.0", "1.00", "2", "10"]), st.sampled_from(["0", "0.0", "2", "2.0", "9"]))


def pair(level: Level) -> tuple[Decimal, Decimal]:
    return D(level.price_text), D(level.quantity_text)


def test_a_level_keeps_its_texts_and_gives_exact_decimals() -> None:
    level = Level("150.10", "2.500")
    assert (level.price_text, level.quantity_text) == ("150.10", "2.500")
    assert (str(level.price), str(level.quantity)) == ("150.10", "2.500")
    assert repr(level) == "Level('150.10', '2.500')"
    assert level.to_dict() == {"price": D("150.1"), "quantity": D("2.5")}


def test_a_level_is_a_sequence_of_two_and_no_tuple() -> None:
    level: Any = Level("150.10", "2.5")
    assert isinstance(level, Sequence)
    assert not isinstance(level, tuple)
    price, quantity = level
    assert (price, quantity) == (D("150.1"), D("2.5"))
    assert (len(level), level[0], level[1], level[-1], level[-2]) == (2, price, quantity, quantity, price)
    assert (level[:1], level[::-1], level[:]) == ((price,), (quantity, price), (price, quantity))
    assert (list(reversed(level)), tuple(level)) == ([quantity, price], (price, quantity))
    assert (level.index(quantity), level.count(price), price in level, D(3) in level) == (1, 1, True, False)
    with pytest.raises(IndexError):
        level[2]
    with pytest.raises(ValueError, match="not in tuple"):
        level.index(D(3))
    with pytest.raises(AttributeError):
        Level("1", "2").price_text = "1"  # type: ignore[misc]


def test_a_level_matches_patterns() -> None:
    given: Any = Level("150.10", "2.5")
    match given:
        case (price, quantity):
            assert (price, quantity) == (D("150.1"), D("2.5"))
        case _:
            raise AssertionError("no sequence")
    match given:
        case Level(price, quantity):
            assert (type(price), price, quantity) == (Decimal, D("150.1"), D("2.5"))
        case _:
            raise AssertionError("no level")
    match given:
        case Level(price=price, quantity=quantity):
            assert (price, quantity) == (D("150.1"), D("2.5"))
        case _:
            raise AssertionError("no level by names")


def test_levels_make_a_dictionary() -> None:
    levels: Any = (Level("2", "5.0"), Level("1.0", "3"))
    assert dict(levels) == {D(2): D(5), D(1): D(3)}
    assert dict([levels[0], (D(1), D(3))]) == dict(levels)


def test_a_level_is_equal_to_whatever_has_its_value() -> None:
    level: Any = Level("1.0", "2")
    for same in (Level("1", "2.00"), (D(1), D(2)), (D("1.00"), D("2.0")), (1, 2)):
        assert level == same
        assert same == level
        assert not level != same  # noqa: SIM202 - the operator itself is under test
        assert not same != level  # noqa: SIM202
        assert hash(level) == hash(same)
    for other in (Level("1", "3"), Level("2", "2"), (D(1), D(3)), (D(1),), (D(1), D(2), D(3)), [D(1), D(2)], "12", None, 1):
        assert level != other
        assert other != level
        assert not level == other  # noqa: SIM201
    assert {level: 1}[D(1), D(2)] == 1
    assert {Level("1", "2"), Level("1.0", "2.0"), (D(1), D(2))} == {level}


@given(NEAR | LEVELS, NEAR | LEVELS)
def test_levels_compare_as_their_pairs_do(one: Level, other: Level) -> None:
    mine, theirs = pair(one), pair(other)
    for right in (other, theirs):
        assert (one == right, one != right) == (mine == theirs, mine != theirs)
        assert (one < right, one <= right, one > right, one >= right) == (
            mine < theirs,
            mine <= theirs,
            mine > theirs,
            mine >= theirs,
        )
    assert (mine == other, mine < other, mine >= other) == (mine == theirs, mine < theirs, mine >= theirs)
    assert hash(one) == hash(mine)
    assert sorted([one, other]) == sorted([mine, theirs])


def test_a_level_has_no_order_with_anything_else() -> None:
    level: Any = Level("1", "2")
    for other in ([D(1), D(2)], D(1), "1", None):
        with pytest.raises(TypeError):
            _ = level < other
        with pytest.raises(TypeError):
            _ = level >= other


@given(LEVELS)
def test_a_level_travels(level: Level) -> None:
    texts = [level.price_text, level.quantity_text]
    assert msgspec.json.decode(msgspec.json.encode(level)) == texts
    for again in (
        msgspec.json.decode(msgspec.json.encode(level), type=Level),
        msgspec.msgpack.decode(msgspec.msgpack.encode(level), type=Level),
        pickle.loads(pickle.dumps(level)),  # noqa: S301 - our own bytes
        copy.copy(level),
        copy.deepcopy(level),
        Level(level.price, level.quantity),
        Level(*level),
        eval(repr(level)),  # noqa: S307 - our own text
    ):
        assert type(again) is Level
        assert again == level
    assert [pickle.loads(pickle.dumps(level)).price_text, copy.copy(level).quantity_text] == texts  # noqa: S301


@pytest.mark.parametrize(
    ("price", "quantity", "texts"),
    [
        ("1", "0", ("1", "0")),
        (1, 0, ("1", "0")),
        (D("1E+5"), D("1E-8"), ("100000", "0.00000001")),
        (D("150.10"), 3, ("150.10", "3")),
        ("9" * 20 + "." + "9" * 28, "0." + "0" * 28, ("9" * 20 + "." + "9" * 28, "0." + "0" * 28)),
    ],
)
def test_a_level_is_made_of_texts_decimals_and_integers(price: Any, quantity: Any, texts: tuple[str, str]) -> None:
    level = Level(price, quantity)
    assert (level.price_text, level.quantity_text) == texts
    assert type(level.price_text) is type(level.quantity_text) is str


NO_NUMBERS = [
    "",
    "-1",
    "+1",
    " 1",
    "1 ",
    "1_0",
    "1e5",
    "1E5",
    "NaN",
    "sNaN",
    "Infinity",
    "0x1",
    ".5",
    "1.",
    "1.2.3",
    "\u0661",
    "1,0",
    "9" * 21,
]
NO_NUMBERS += ["0." + "1" * 29]
NO_TYPES: list[Any] = [1.5, True, None, b"1", [], D("NaN"), D("Infinity"), D("1E+999999"), D(-1), -1, 10**30, 1 << 10**5]


@pytest.mark.parametrize(
    "wrong", [*NO_NUMBERS, *NO_TYPES], ids=lambda wrong: repr(wrong)[:20] if not isinstance(wrong, int) else "int"
)
def test_a_level_that_is_invalid_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^price: .* got "):
        Level(wrong, "1")
    with pytest.raises(LocalProtocolError, match=r"^quantity: .* got "):
        Level("1", wrong)


@pytest.mark.parametrize("zero", ["0", "0.00", "000", 0, D(0), D("0E+3")])
def test_a_price_of_zero_is_refused_and_a_quantity_of_zero_is_not(zero: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^price: "):
        Level(zero, "1")
    assert Level("1", zero).quantity == 0


# In frames.


def frame(bids: bytes, asks: bytes = b"[]") -> bytes:
    return b'{"data":{"e":"depth","E":5,"T":4,"s":"X","U":1,"u":2,"b":' + bids + b',"a":' + asks + b'},"stream":"depth.X"}'


def test_a_frame_brings_levels_as_they_were_sent() -> None:
    found = decode_frame(frame(b'[["150.10","2.500"]]', b'[["151","0.00"]]'))
    assert isinstance(found, Frame)
    assert isinstance(found.payload, Depth)
    (bid,), (ask,) = found.payload.bids, found.payload.asks
    assert (type(bid), bid.price_text, bid.quantity_text) == (Level, "150.10", "2.500")
    assert (ask.price_text, ask.quantity_text) == ("151", "0.00")


def test_numbers_in_levels_keep_every_digit() -> None:
    long = b"12345678901234567890.1234567890123456789012345678"
    found = decode_frame(frame(b"[[" + long + b',"2.50"],[150.10,0]]'))
    assert isinstance(found, Frame)
    assert isinstance(found.payload, Depth)
    bids: Any = found.payload.bids
    assert bids == ((D(long.decode()), D("2.5")), (D("150.1"), D(0)))
    assert bids[1].price_text == "150.10"


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("wrong", [*(msgspec.json.encode(text) for text in NO_NUMBERS), b"-1", b"1e5", b"null", b"[]", b"true"])
def test_a_frame_with_a_bad_level_is_malformed(wrong: bytes, place: int) -> None:
    level = [b'"1"', b'"1"']
    level[place] = wrong
    for levels in (b"[[" + b",".join(level) + b"]]", b'[["1","1"],[' + b",".join(level) + b"]]"):
        for data in (frame(levels), frame(b"[]", levels)):
            found = decode_frame(data)
            assert isinstance(found, FrameDropped)
            assert found.reason is Drop.MALFORMED
            assert found.stream == "depth.X"


@pytest.mark.parametrize(
    "levels", [b'[["0","1"]]', b'[["0.000","1"]]', b"[[0,1]]", b'[["1"]]', b'[["1","2","3"]]', b'[{"a":1}]', b"[1]"]
)
def test_a_level_of_another_form_is_malformed(levels: bytes) -> None:
    for data in (frame(levels), frame(b"[]", levels)):
        found = decode_frame(data)
        assert isinstance(found, FrameDropped)
        assert found.reason is Drop.MALFORMED


def test_what_is_remembered_of_texts_is_bounded() -> None:
    for number in range(2 * REMEMBERED):
        assert PRICES[f"{number + 1}.5"] == number + D("1.5")
        assert RESTING[f"{number}.0"] is (number != 0)
    assert len(PRICES) <= REMEMBERED
    assert len(RESTING) <= REMEMBERED
    for memory in (PRICES, RESTING):
        with pytest.raises(ValueError, match="plain digits"):
            memory["1e5"]
        assert "1e5" not in memory


def test_deltas_events_and_snapshots_have_one_type_of_level() -> None:
    for kind in (Depth, BookSynced, BookChanged, DepthSnapshot):
        types = {field.type for field in msgspec.structs.fields(kind) if field.name in {"bids", "asks"}}
        assert types == {tuple[Level, ...]}


# Other libraries.


def test_numpy_takes_levels() -> None:
    numpy = pytest.importorskip("numpy")
    levels = (Level("150.10", "2.5"), Level("150", "1"))
    numbers = numpy.array(levels, dtype=float)
    assert (numbers.shape, numbers.tolist()) == ((2, 2), [[150.1, 2.5], [150.0, 1.0]])
    exact = numpy.array(levels, dtype=object)
    assert exact.tolist() == [[D("150.10"), D("2.5")], [D(150), D(1)]]


def test_pandas_takes_levels() -> None:
    pandas = pytest.importorskip("pandas")
    for levels in ([Level("150.10", "2.5"), Level("150", "1")], (Level("150.10", "2.5"), Level("150", "1"))):
        frame = pandas.DataFrame(levels, columns=["price", "quantity"])
        assert frame.shape == (2, 2)
        assert frame["price"].tolist() == [D("150.10"), D(150)]
        assert frame.astype(float)["quantity"].sum() == 3.5

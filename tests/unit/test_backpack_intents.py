"""Client ids, and the rows of a journal of orders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backpack_proto.errors import ConfigurationError, LocalProtocolError
from backpack_proto.http import Parameter
from backpack_proto.orders.intents import (
    COUNTERS,
    IdReserved,
    IntentEnded,
    IntentOutcome,
    Intents,
    JournalBegan,
    JournalRow,
    OrderIntent,
    encode_rows,
    intents_of,
    read_rows,
)


def intent(client_id: int, *, signed_ms: int = 1_788_367_430_000) -> OrderIntent:
    order: dict[str, Parameter] = {
        "symbol": "SOL_USDC",
        "side": "Bid",
        "price": "98.50",
        "postOnly": True,
        "clientId": client_id,
    }
    return OrderIntent(client_id=client_id, symbol="SOL_USDC", signed_ms=signed_ms, window_ms=5_000, order=order)


def ended(client_id: int) -> IntentEnded:
    return IntentEnded(client_id=client_id, outcome=IntentOutcome.PLACED, order_id="28")


def test_an_id_has_its_instance_in_the_upper_ten_bits_and_counts_in_the_lower_ones() -> None:
    intents = Intents(1023)
    assert intents.next_id() == 1023 * 2**22 + 1
    assert intents.next_id() == 1023 * 2**22 + 2
    assert Intents(1023, last_id=2**32 - 2).next_id() == 2**32 - 1, "the greatest that the exchange takes"


def test_the_count_goes_round_and_passes_over_orders_without_an_outcome_ids_of_the_user_and_zero() -> None:
    intents = Intents(0, last_id=COUNTERS - 2)
    intents.take(intent(1))
    intents.take(IdReserved(client_id=2))
    intents.take(IdReserved(client_id=COUNTERS + 3))  # of another instance
    assert [intents.next_id(taken={4}) for _ in range(3)] == [COUNTERS - 1, 3, 5]


def test_an_id_is_free_again_when_its_order_has_an_outcome() -> None:
    intents = Intents(0)
    intents.take(intent(1))
    assert intents.open == {1: intent(1)}
    intents.take(ended(1))
    assert intents.open == {}
    assert intents.next_id() == 1


def test_what_was_made_since_a_moment_is_told_from_the_rest_also_round_the_end() -> None:
    intents = Intents(2, last_id=3 * COUNTERS - 2)
    first = intents.last_id
    assert not intents.made_since(first, first)
    made = [intents.next_id() for _ in range(3)]
    assert made == [3 * COUNTERS - 1, 2 * COUNTERS, 2 * COUNTERS + 1]
    assert all(intents.made_since(first, client_id) for client_id in made)
    assert not any(intents.made_since(first, other) for other in (first, 2 * COUNTERS + 2, 7, 3 * COUNTERS))


def test_no_id_is_given_twice_when_all_are_taken() -> None:
    class Everything:
        def __contains__(self, _: object) -> bool:
            return True

    with pytest.raises(LocalProtocolError, match="instance 3 has no client id left"):
        Intents(3).next_id(taken=Everything())


@pytest.mark.parametrize("instance", [-1, 1024])
def test_there_are_1024_instances(instance: int) -> None:
    with pytest.raises(ConfigurationError, match=f"instance: a whole number from 0 to 1023, got {instance}"):
        Intents(instance)


def test_an_order_without_a_client_id_has_no_intent() -> None:
    orders: list[dict[str, Parameter]] = [{"symbol": "SOL_USDC", "clientId": 7}, {"symbol": "SOL_USDC"}]
    (only,) = intents_of(orders, unix_us=1_788_367_430_000_999, window_ms=5_000)
    assert (only.client_id, only.signed_ms, only.window_ms) == (7, 1_788_367_430_000, 5_000)
    assert only.order == orders[0]


client_ids = st.integers(0, 5)
rows = st.lists(
    st.one_of(
        st.builds(intent, client_ids),
        st.builds(ended, client_ids),
        st.builds(IdReserved, client_id=client_ids),
        st.builds(JournalBegan, instance=st.just(0), account=st.just("key"), reserved=st.tuples(client_ids)),
    ),
    max_size=12,
)


def folded(rows: list[JournalRow]) -> tuple[object, object]:
    intents = Intents(0)
    for row in rows:
        intents.take(row)
    reserved = {client_id for client_id in range(6) if intents.is_reserved(client_id)}
    return dict(intents.open), reserved


@given(rows)
def test_rows_come_back_as_they_were_written(rows: list[JournalRow]) -> None:
    assert read_rows(encode_rows(rows)) == rows


@given(rows)
def test_a_journal_that_was_cut_at_any_byte_reads_back_as_the_rows_that_were_whole(rows: list[JournalRow]) -> None:
    data = encode_rows(rows)
    for cut in range(len(data) + 1):
        assert read_rows(data[:cut]) == rows[: data[:cut].count(b"\n")]


@given(rows)
def test_the_fewest_rows_say_the_same(rows: list[JournalRow]) -> None:
    intents = Intents(0, last_id=4)
    for row in rows:
        intents.take(row)
    fewest = intents.rows("key")
    assert folded(fewest) == folded(rows)
    assert isinstance(fewest[0], JournalBegan)
    assert fewest[0].last_id == 4


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"row":"nothing"}', b'{"row":"ended","client_id":"x"}', b"\xff"])
def test_a_line_that_cannot_be_read_is_named(line: bytes) -> None:
    with pytest.raises(ConfigurationError, match="journal: line 2 cannot be read"):
        read_rows(encode_rows([intent(1)]) + line + b"\n" + encode_rows([ended(1)]))


def test_a_journal_of_a_later_version_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="format 2; this one reads 1"):
        read_rows(encode_rows([JournalBegan(version=2, instance=0, account="key")]))

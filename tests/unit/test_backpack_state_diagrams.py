"""The documents show the tables that the code runs by."""

from __future__ import annotations

from backpack_proto.book.sync import TRANSITIONS, SyncState
from state_diagrams import DOCUMENT, document


def test_the_document_is_drawn_from_the_tables() -> None:
    assert DOCUMENT.read_text() == document(), "python tests/support/state_diagrams.py writes it"


def test_a_book_becomes_live_out_of_a_held_snapshot_and_in_no_other_way() -> None:
    assert {before for before, _, after in TRANSITIONS.edges if after is SyncState.FOLLOWING} == {
        SyncState.HELD,
        SyncState.FOLLOWING,
    }

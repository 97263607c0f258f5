"""The list of what is supported."""

from __future__ import annotations

from backpack_proto.rest.endpoints.table import ENDPOINTS
from backpack_proto.streams.channels import Channel
from support_table import DOCUMENT, NOT_BY_US, document


def test_the_document_says_what_the_code_has() -> None:
    assert DOCUMENT.read_text() == document(), "run `python tests/support/support_table.py --write`"


def test_it_has_every_stream_and_every_endpoint() -> None:
    text = document()
    assert [channel for channel in Channel if f"`{channel}" not in text] == []
    assert [one.route for one in ENDPOINTS.values() if f"`{one.route}`" not in text] == []
    assert len([channel for channel in Channel if not channel.private]) == 11
    assert all(reason for reason in NOT_BY_US.values())

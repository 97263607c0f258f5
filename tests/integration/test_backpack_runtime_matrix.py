"""The table of features by runtime says what a client does there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy_matrix import Remote
from runtime_matrix import COLUMNS, DOCUMENT, FEED, ROWS, Row, document, exchange, tried

pytest.importorskip("cryptofeed")

pytestmark = pytest.mark.gate


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    """The exchange that all cells are tried against."""
    with exchange() as served:
        yield served


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, str], tuple[str, str]]:
    """What was found, by feature and column."""
    return {}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.feature)
def test_a_feature_is_there_in_a_runtime_or_the_reason_is_said(
    row: Row, remote: Remote, cells: dict[tuple[str, str], tuple[str, str]]
) -> None:
    for column in COLUMNS:
        cells[row.feature, column] = tried(row, column, remote)
        cell, reason = cells[row.feature, column]
        assert (cell == "no") is bool(reason)
        if column != FEED:
            shown = next(
                line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {row.feature} |")
            )
            assert shown.split(" | ")[1 + COLUMNS.index(column)] == cell


def test_the_document_is_what_was_found(remote: Remote, cells: dict[tuple[str, str], tuple[str, str]]) -> None:
    for row in ROWS:
        for column in COLUMNS:
            if (row.feature, column) not in cells:  # by another worker
                cells[row.feature, column] = tried(row, column, remote)
    assert DOCUMENT.read_text(encoding="utf-8") == document(cells), "run `python tests/support/runtime_matrix.py --write`"

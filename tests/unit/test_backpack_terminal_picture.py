"""The picture in docs/terminal.md is what the code of the view draws today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backpack_runtime.cli.views.help import KEYS
from terminal_picture import PICTURE, lines_of, picture, svg

DOCUMENT = Path(__file__).parents[2] / "docs" / "terminal.md"


def test_the_picture_of_the_document_is_up_to_date() -> None:
    """`python tests/support/terminal_picture.py --write` draws it again."""
    drawn = ["".join(line.plain.split()) for line in picture().lines]
    kept = lines_of(PICTURE.read_text(encoding="utf-8"))
    assert [line for line in kept if line] == [line for line in drawn if line]
    assert lines_of(svg()) == kept


def test_the_picture_loads_nothing_from_elsewhere() -> None:
    assert set(re.findall(r"https?://[^\s\"']+", PICTURE.read_text(encoding="utf-8"))) <= {
        "http://www.w3.org/2000/svg",
        "https://www.textualize.io",
    }


@pytest.mark.parametrize("key", [row[0].split()[0] for row in KEYS if row[0][0] not in "↑←"])
def test_the_document_has_every_key(key: str) -> None:
    keys = DOCUMENT.read_text(encoding="utf-8").partition("## Keys")[2].partition("\n## ")[0]
    assert f"| `{key}` |" in keys

"""The documents hang together: navigation, links, blocks of code, and the list for programs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import forge_links
import pytest
from forge_links import anchors, dead_links, documents
from llms_index import DOCUMENT, listing, navigation, pages
from state_svg import drawing, edges

from document_blocks import RUN, Block, blocks, complaint

MOST_UNCHECKED = 12
"""More blocks than these are not marked as ones that cannot be run."""


def test_every_page_is_in_the_navigation_once() -> None:
    listed = Counter(page for names in navigation().values() for page in names)
    assert sorted(set(pages()) - set(listed)) == [], "name it in a toctree of docs/index.md"
    assert [page for page, count in listed.items() if count > 1] == []


def test_the_list_for_programs_has_a_line_for_each_page() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == listing(), "run `python docs/_extensions/llms_index.py`"
    for page in pages():
        assert f"({page}.md): " in listing()


def test_links_between_documents_lead_to_files_and_headings() -> None:
    assert len(documents()) > 20
    assert dead_links(documents()) == []


def test_a_link_without_a_file_or_a_heading_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge_links, "ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# The `way` out, twice\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](gone.md) [b](there.md#the-way-out-twice) [c](there.md#twice-1) [d](there.md#thrice) [e](#here) [f](https://a.example)\n"
        "```\n[in code](nowhere.md)\n```\n",
        encoding="utf-8",
    )
    assert dead_links([page]) == [
        "page.md: no file gone.md",
        "page.md: no heading there.md#thrice",
        "page.md: no heading #here",
    ]
    assert anchors(tmp_path / "there.md") == {"the-way-out-twice", "twice", "twice-1"}


def test_every_block_of_code_is_run_or_can_be_right() -> None:
    wrong = {block.name: complaint(block) for block in blocks() if block.language != RUN and not block.reason}
    assert {name: text for name, text in wrong.items() if text} == {}


def test_few_blocks_are_marked_as_not_run() -> None:
    marked = [block.name for block in blocks() if block.reason]
    assert len(marked) <= MOST_UNCHECKED, marked


@pytest.mark.parametrize(
    ("language", "text", "wrong"),
    [
        ("json", '{"a": }', "Expecting value"),
        ("toml", "a = ", "Invalid value"),
        ("ini", "ExecStart=feed", "no section headers"),
        ("sh", "backpack-feed wach SOL_USDC", "no command 'wach'"),
        ("sh", "BACKPACK_FEED_PURE=1 backpack-feed watch --sandbx  # typo", "watch has no --sandbx"),
        ("sh", "tox run -e lint,nothing", "no environment nothing"),
        ("sh", 'pip install ".[aiohtp]"', "no extra or group aiohtp"),
        ("sh", "python -m tests.nothing", "no module tests.nothing"),
        ("sh", "true && frobnicate --now", "nobody knows"),
        ("ruby", "puts 1", "nobody knows"),
    ],
)
def test_a_block_that_cannot_be_right_is_found(language: str, text: str, wrong: str) -> None:
    assert wrong in complaint(Block(Path(), 1, language, text, ""))


def test_a_diagram_has_a_column_for_each_state_and_a_row_for_each_edge() -> None:
    begin, found = edges(["stateDiagram-v2", "    [*] --> OFF", "    OFF --> ON: Start, Go", "    ON --> OFF: Stop"])
    assert (begin, found) == ("OFF", [("OFF", "ON", "Start, Go"), ("ON", "OFF", "Stop")])
    svg = drawing(begin, found)
    assert svg.count('class="name"') == 2
    assert svg.count('class="edge"') == 2
    assert "Begins in OFF. OFF to ON: Start, Go; ON to OFF: Stop" in svg
    with pytest.raises(ValueError, match="not an edge: 'note right of OFF'"):
        edges(["stateDiagram-v2", "note right of OFF"])

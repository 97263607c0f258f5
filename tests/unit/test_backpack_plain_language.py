"""The counter of turns of phrase, and the rooms of the project that it decides about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.plain_language import LIMITS, OPEN, ROOMS, document_prose, faults, main, over_limit, python_prose, rates

MODULE = '''"""What this is; nothing more."""

LIMIT = 3
"""How many there may be."""


def best() -> int:
    """Return the best.

        what = nothing;  # an example

    None of `what; nothing` counts.
    """
    # What is here; nobody knows.  # noqa: ERA001 - what a directive says is no prose
    raise ValueError("price: what was given is none; start anew")
'''


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    return path


def test_docstrings_comments_and_error_texts_are_prose_and_code_in_them_is_not(module: Path) -> None:
    found = rates(python_prose(module)).found
    assert found == {"what": 4, "nothing": 3, "semicolon": 3}


def test_a_docstring_that_begins_with_a_clause_and_a_phrase_with_a_plainer_form_are_named(module: Path) -> None:
    named = [fault.removeprefix(f"{module}:") for fault in faults(python_prose(module))]
    assert named == [
        "1: a docstring begins with 'What'",
        "4: a docstring begins with 'How'",
        "15: 'anew', plainly 'again'",
    ]


def test_fenced_code_of_a_document_is_no_prose(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("Say what it is.\n\n```python\nwhat = None; nothing = 1\n```\n\nUse `what` twice.\n")
    prose = rates(document_prose(path))
    assert prose.found == {"what": 1, "nothing": 0, "semicolon": 0}


def test_a_room_over_its_limit_is_named_with_its_figures(module: Path) -> None:
    prose = rates(python_prose(module))
    assert over_limit("a room", prose) == [
        f"a room: 'what' 4 times in {prose.words} words, at most 1",
        f"a room: 'nothing' 3 times in {prose.words} words, at most 1",
        f"a room: 'semicolon' 3 times in {prose.words} words, at most 1",
    ]


def test_the_limits_are_twice_those_of_the_libraries_that_were_measured() -> None:
    assert LIMITS == {"what": 3.0, "nothing": 1.0, "semicolon": 5.6}


def test_every_module_of_the_packages_is_in_a_room() -> None:
    root = Path(__file__).parents[2]
    covered = {path for patterns in ROOMS.values() for pattern in patterns for path in root.glob(pattern)}
    modules = {path for package in ("backpack_proto", "backpack_runtime", "tools") for path in (root / package).rglob("*.py")}
    assert modules <= covered
    assert set(ROOMS) >= OPEN


def test_the_rooms_that_have_been_gone_through_stay_plain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out

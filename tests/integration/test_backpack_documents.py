"""What the documents print is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from document_blocks import RUN, blocks

ROOT = Path(__file__).parents[2]
HAS_CRYPTOFEED = find_spec("cryptofeed") is not None
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCKS = [block for block in blocks() if block.language == RUN and not block.reason]
FOR_CRYPTOFEED = [pytest.param(block.text, id=block.name) for block in BLOCKS if "cryptofeed" in block.text]
OTHERS = [pytest.param(block.text, id=block.name) for block in BLOCKS if "cryptofeed" not in block.text]


@pytest.mark.parametrize("block", OTHERS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_example_runs_to_its_end_and_prints_something(block: str, backend: str) -> None:
    program = block.replace("anyio.run(main)", f'anyio.run(main, backend="{backend}")')
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.skipif(not HAS_CRYPTOFEED, reason="cryptofeed is not installed")
@pytest.mark.parametrize("block", FOR_CRYPTOFEED)
def test_every_example_for_cryptofeed_runs_to_its_end_and_prints_something(block: str, tmp_path: Path) -> None:
    """Warnings are let pass: cryptofeed has some of its own."""
    done = subprocess.run(
        [sys.executable, "-c", block],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_program_runs_to_its_end_and_prints_something(path: Path, tmp_path: Path) -> None:
    if "cryptofeed" in path.read_text() and not HAS_CRYPTOFEED:
        pytest.skip("cryptofeed is not installed")
    done = subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_example_program_is_short_and_in_the_readme() -> None:
    assert len(EXAMPLES) >= 5
    assert {path.name: len(path.read_text().splitlines()) for path in EXAMPLES if len(path.read_text().splitlines()) > 40} == {}
    readme = (ROOT / "README.md").read_text()
    assert [path.name for path in EXAMPLES if f"(examples/{path.name})" not in readme] == []


def test_every_cited_section_of_the_protocol_exists() -> None:
    """Comments and docstrings cite docs/protocol.md by number."""
    headings = set(re.findall(r"^#+ (\d+(?:\.\d+)?)", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE))
    cited = {
        (path.name, section)
        for package in ("backpack_proto", "backpack_runtime")
        for path in (ROOT / package).rglob("*.py")
        for section in re.findall(r"docs/protocol\.md (?:section )?(\d+(?:\.\d+)?)", path.read_text())
    }
    assert len(cited) > 20
    assert [(name, section) for name, section in sorted(cited) if section not in headings] == []

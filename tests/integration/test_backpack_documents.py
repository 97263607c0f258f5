"""What the documents print is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_example_runs_to_its_end_and_prints_something(block: str, backend: str) -> None:
    program = block.replace("anyio.run(main)", f'anyio.run(main, backend="{backend}")')
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_links_between_documents_lead_somewhere() -> None:
    missing = [
        f"{path.name}: {target}"
        for path in DOCUMENTS
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert missing == []


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

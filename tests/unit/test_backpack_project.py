"""What the project's own files have to say alike."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_tox_and_pre_commit_take_the_same_ruff() -> None:
    pins = {
        name: set(re.findall(r"ruff==[\d.]+", (ROOT / name).read_text())) for name in ("tox.ini", ".pre-commit-config.yaml")
    }
    assert len(pins["tox.ini"]) == 1
    assert pins["tox.ini"] == pins[".pre-commit-config.yaml"]


def test_the_readme_has_one_test_command_and_continuous_integration_runs_it_first() -> None:
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"^python3 .*\btox run\b.*$", readme, flags=re.MULTILINE)
    assert command == next(line for line in readme.splitlines() if "tox run" in line), "the first line is what .ci/run takes"
    steps = (ROOT / ".ci" / "run").read_text()
    assert "grep -m 1 'tox run' README.md" in steps
    assert steps.index('eval "$command"') < steps.index("tox run --skip-missing")


def test_every_marker_that_leaves_the_default_run_has_a_command_in_continuous_integration_or_of_its_own() -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    (left,) = re.findall(r"-m '([^']+)'\"", settings)
    assert set(re.findall(r"not (\w+)", left)) == {"slow", "gate", "soak"}
    steps, tox = (ROOT / ".ci" / "run").read_text(), (ROOT / "tox.ini").read_text()
    assert '-m "(slow or required or gate) and not soak"' in steps
    assert '-m "not gate and not soak and not hypothesis"' in steps
    for name in ("gate", "soak"):
        assert re.search(rf"^commands = pytest .*-m {name}\b", tox, flags=re.MULTILINE)


def test_contributing_names_files_and_tests_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = set(re.findall(r"(?<![\w/.])((?:backpack_proto|backpack_runtime|tests|docs|\.ci)/[\w./-]*[\w/])", text))
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    pairs = re.findall(r"`(tests/[\w/]+\.py)`: `(test_\w+)`", text)
    assert len(pairs) > 10
    assert [(path, test) for path, test in pairs if f"def {test}(" not in (ROOT / path).read_text()] == []
    alone = set(re.findall(r"`(test_\w+)`", text))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [test for test in sorted(alone) if f"def {test}(" not in tests] == []


def test_contributing_names_at_most_five_places_for_each_recipe() -> None:
    recipes = (ROOT / "CONTRIBUTING.md").read_text().partition("## Recipes")[2].partition("\n## ")[0].split("\n### ")[1:]
    assert len(recipes) == 8
    for recipe in recipes:
        numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", recipe, flags=re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert 1 <= len(numbers) <= 5, recipe.splitlines()[0]


def test_the_document_of_the_protocol_names_modules_that_exist() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text().partition("### 10.1")[2].partition("### 10.2")[0]
    cells = [row.split("|")[2] for row in text.splitlines() if row.startswith("| ")][2:]
    paths = [path for cell in cells for path in re.findall(r"`([\w/.]+)`", cell)]
    assert len(paths) > 20
    assert [path for path in paths if not ((ROOT / "backpack_proto" / path).exists() or (ROOT / path).exists())] == []

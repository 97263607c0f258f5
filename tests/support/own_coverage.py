"""Says which lines of each core module the tests of that module run, and which only other tests run, or none.

    python tests/support/own_coverage.py [--all] [arguments of pytest]

A module's own tests are those named after it: `backpack_proto/book/levels.py` has `test_backpack_book.py` and whatever begins so, and
`backpack_proto/exchange/market/market.py` has `test_backpack_exchange_market.py`. A module without any is listed with the tests of the name
that comes closest (`endpoints_orders`: `test_backpack_endpoints*.py`), or as having none. Only gaps are listed, unless `--all` is given.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from coverage import Coverage

PACKAGE = "backpack_proto"
PREFIX = "test_backpack_"


class Row(NamedTuple):
    """One module."""

    module: str
    tests: tuple[str, ...]
    """Names of the test modules that count as its own, without the prefix."""
    statements: int
    elsewhere: tuple[int, ...]
    """Lines that only other tests run."""
    nowhere: tuple[int, ...]
    """Lines that no test runs."""

    @property
    def share(self) -> float:
        """How much of the module its own tests run."""
        return 1 - (len(self.elsewhere) + len(self.nowhere)) / max(self.statements, 1)


def own_tests(module: Sequence[str], tests: Iterable[str]) -> tuple[str, ...]:
    """The test modules named after a module, which is given by its path in the package. Else those of the closest name."""
    tests = sorted(tests)
    names = ["_".join(module[start:]) for start in range(len(module))]
    for name in names:
        found = [test for test in tests if test == name or test.startswith(f"{name}_")]
        if found:
            return tuple(found)
    words = names[-1].split("_")
    for end in range(len(words) - 1, 0, -1):
        found = [test for test in tests if test.startswith("_".join(words[:end]))]
        if found:
            return tuple(found)
    return ()


def measure(coverage: Coverage) -> list[Row]:
    """One row for each module of the core that was imported."""
    data = coverage.get_data()
    tests = {path.stem.removeprefix(PREFIX) for path in Path("tests").rglob(f"{PREFIX}*.py")}
    rows = []
    for file in sorted(data.measured_files()):
        parts = Path(file).with_suffix("").parts
        module = parts[len(parts) - parts[::-1].index(PACKAGE) :]
        if module[-1] == "__init__":
            continue
        own = own_tests(module, tests)
        _, statements, _, _, _ = coverage.analysis2(file)
        by_own: set[int] = set()
        by_any: set[int] = set()
        for line, contexts in data.contexts_by_lineno(file).items():
            by_any.add(line)
            # What runs while a module is imported has no context.
            if any(not context or Path(context.partition("::")[0]).stem.removeprefix(PREFIX) in own for context in contexts):
                by_own.add(line)
        missed = [line for line in statements if line not in by_own]
        rows.append(
            Row(
                ".".join(module),
                own,
                len(statements),
                tuple(line for line in missed if line in by_any),
                tuple(line for line in missed if line not in by_any),
            )
        )
    return rows


def ranges(lines: Sequence[int]) -> str:
    """Lines as `3, 7-9`. Those that follow each other in the list of the missed count as one range when no number lies between."""
    if not lines:
        return "-"
    starts = [lines[0], *(later for earlier, later in pairwise(lines) if later != earlier + 1)]
    ends = [*(earlier for earlier, later in pairwise(lines) if later != earlier + 1), lines[-1]]
    return ", ".join(str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def main(arguments: list[str]) -> int:
    """Run the tests with coverage and print the table. The status is that of the tests."""
    show_all = "--all" in arguments
    arguments = [argument for argument in arguments if argument != "--all"] or ["tests/unit", "tests/simulation", "tests/fuzz"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "coverage")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "auto",
            f"--cov={PACKAGE}",
            "--cov-context=test",
            "--cov-report=",
        ]
        status = subprocess.run([*command, *arguments], check=False, env={**os.environ, "COVERAGE_FILE": str(file)}).returncode
        coverage = Coverage(data_file=str(file))
        coverage.load()
        rows = measure(coverage)
    print(f"\n{'module':38} {'own':>5}  {'tests':34} lines that only other tests run | that no test runs")
    for row in sorted(rows, key=lambda row: row.share):
        if show_all or row.elsewhere or row.nowhere:
            tests = ", ".join(row.tests) or "none"
            print(f"{row.module:38} {row.share:5.0%}  {tests:34} {ranges(row.elsewhere)} | {ranges(row.nowhere)}")
    gaps = sum(bool(row.elsewhere or row.nowhere) for row in rows)
    print(f"{len(rows)} modules, {gaps} with lines that their own tests do not run")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Trading programs that are killed with -9: fifty here, a thousand by `python -m tests.kills --runs 1000`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.gate
def test_a_trading_program_killed_at_any_point_sends_nothing_twice_and_knows_what_became_of_every_order() -> None:
    program = [sys.executable, "-m", "tests.kills", "--runs", "50", "--at-once", "2"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert done.stdout.startswith("50 programs killed and restarted in ")
    figures = dict(part.split(": ") for part in done.stdout.splitlines()[1].split(", "))
    assert all(int(figures[point]) > 0 for point in ("time", "received", "executed", "written"))
    assert int(figures["OrderFound"]) > 0, "orders that had been placed were found"
    assert int(figures["OrderNeverHappened"]) > 0, "and such that had not were told from them"

"""Recordings whose program is killed with -9: forty here, two hundred by `python -m tests.recording_kills --runs 200`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.gate
def test_a_recording_killed_at_any_point_has_lost_its_last_read_at_most() -> None:
    program = [sys.executable, "-m", "tests.recording_kills", "--runs", "42", "--at-once", "2"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert done.stdout.startswith("42 recordings killed in ")
    figures = {
        name: int(count) for name, _, count in (part.partition(": ") for part in done.stdout.splitlines()[1].split(", "))
    }
    for point in ("time", "half a line", "between two parts", "an empty part", "half a header", "half compressed"):
        assert figures[point] > 0
    assert figures["compressed and not removed"] > 0
    assert figures["torn"] > 0
    assert figures["parts"] > 100

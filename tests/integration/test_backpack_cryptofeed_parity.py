"""`backpack-feed parity` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")
pytest.importorskip("ccxt", reason="ccxt is not installed")


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backpack_runtime.cli.parser", "parity", *arguments],
        env={**os.environ, "XDG_CACHE_HOME": str(folder), "COLUMNS": "100"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_both_feeds_agree_on_the_sandbox(tmp_path: Path) -> None:
    ran = run("SOL-USDC", "BTC-USDC-PERP", "AAPL.US-USDC-PERP", "--sandbox", "--seconds", "6", "--json", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["agree"]
    assert found["trades_matched"] > 0
    assert found["native_books"] > found["ccxt_books"] > 0


def test_the_table_names_both_feeds(tmp_path: Path) -> None:
    ran = run("--sandbox", "--seconds", "2", folder=tmp_path)
    verdict = {0: "native and ccxt agree", 1: "native and ccxt DIFFER"}[ran.returncode]
    assert verdict in ran.stdout, ran.stderr
    assert "tops of books" in ran.stdout


def test_a_market_that_does_not_exist_is_an_error_in_one_line(tmp_path: Path) -> None:
    ran = run("NO-SUCH", "--sandbox", "--seconds", "2", folder=tmp_path)
    assert ran.returncode == 2
    complaint = ran.stderr.splitlines()[-1]
    assert complaint == "backpack-feed: symbols: 'NO-SUCH' is not a market of the exchange"
    assert "Traceback" not in ran.stderr

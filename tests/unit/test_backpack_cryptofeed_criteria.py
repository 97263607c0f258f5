"""The runbook's criteria: their figures, when they are met, and that the runbook has each of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptofeed", reason="cryptofeed is not installed")
pytest.importorskip("ccxt", reason="ccxt is not installed")

from backpack_runtime.cryptofeed.criteria import FeedWatch
from backpack_runtime.cryptofeed.health import BackpackHealthReport
from backpack_runtime.cryptofeed.parity import FeedRecord, compare

LOGGER = "backpack_runtime.cryptofeed"
RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "backpack_migration.md"


class Feed:
    """A health that is as it is told to be, and a clock."""

    def __init__(self) -> None:
        self.healthy = True
        self.now = 0.0
        self.metrics: dict[str, Any] = dict.fromkeys(
            ("auth_failures", "dropped_messages", "book_divergences", "orderbook_resyncs", "ws_reconnects"), 0
        )
        self.metrics |= {"books_wanted": 2, "symbol_snapshot_age": {}}
        self.watch = FeedWatch(self.health, clock=lambda: self.now)

    def health(self) -> BackpackHealthReport:
        return BackpackHealthReport(self.healthy, "", [], [], dict(self.metrics))

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 1
            self.watch.look()

    @property
    def unmet(self) -> dict[str, str]:
        return {criterion.name: criterion.figure for criterion in self.watch.criteria() if not criterion.met}


def test_a_feed_that_was_never_well_meets_nothing_of_its_health(caplog: pytest.LogCaptureFixture) -> None:
    feed = Feed()
    feed.healthy = False
    feed.look(90)
    assert feed.unmet == {"healthy": "never yet"}
    assert "criteria: healthy never yet (at least 99%: NOT MET)" in caplog.text
    feed.healthy = True
    feed.look()
    assert feed.unmet == {}, "what was before the first time is the start"


def test_the_worst_minute_counts() -> None:
    feed = Feed()
    feed.look(60)
    feed.healthy = False
    feed.look()
    feed.healthy = True
    feed.look(119)
    assert feed.unmet == {"healthy": "59 of 60 checks of the worst minute"}


@pytest.mark.parametrize("name", ["auth_failures", "dropped_messages", "book_divergences"])
def test_one_is_too_much(name: str) -> None:
    feed = Feed()
    feed.metrics[name] = 1
    feed.look()
    assert feed.unmet == {name: "1"}


def test_a_few_resyncs_of_each_book_and_a_few_reconnects_are_daily_bread() -> None:
    feed = Feed()
    feed.metrics |= {"orderbook_resyncs": 2, "ws_reconnects": 1}
    feed.look()
    assert feed.unmet == {}
    feed.metrics |= {"orderbook_resyncs": 3, "ws_reconnects": 2}
    feed.look()
    assert feed.unmet == {"orderbook_resyncs": "3", "ws_reconnects": "2"}


def test_the_oldest_comparison_that_ever_was_counts() -> None:
    feed = Feed()
    feed.metrics["symbol_snapshot_age"] = {"SOL-USDC": 3.0, "BTC-USDC": 121.0}
    feed.look()
    feed.metrics["symbol_snapshot_age"] = {"SOL-USDC": 3.0, "BTC-USDC": 1.0}
    feed.look()
    assert feed.unmet == {"symbol_snapshot_age": "121 s"}


def test_the_log_has_all_of_them_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    feed = Feed()
    feed.look(60)
    feed.metrics["auth_failures"] = 1
    feed.look(60)
    (first, second) = [record for record in caplog.records if "criteria" in record.getMessage()]
    assert (first.levelname, second.levelname) == ("INFO", "WARNING")
    assert first.getMessage().startswith(
        "BACKPACK: criteria: healthy 60 of 60 checks of the worst minute (at least 99%: met); auth_failures 0"
    )
    assert "auth_failures 1 (0: NOT MET)" in second.getMessage()


def test_the_runbook_has_a_row_for_every_criterion() -> None:
    feed = Feed()
    rows = [line for line in RUNBOOK.read_text().splitlines() if line.startswith("|")]
    names = [criterion.name for criterion in (*compare(FeedRecord(), FeedRecord()).criteria, *feed.watch.criteria())]
    missing = [name for name in names if not any(f"`{name}`" in row for row in rows)]
    assert not missing

"""The success criteria of the migration's runbook, each with its figure: `parity` prints them, and a feed logs them once a minute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Any

from .health import BackpackHealthReport
from .logs import LOG

__all__ = ["Criterion", "FeedWatch"]

LOOK_SECONDS = 1.0
LOOKS_OF_A_LINE = 60
"""A line of the log for each minute."""
DAY_SECONDS = 86_400.0
HEALTHY_SHARE = 0.99
NONE_ALLOWED = ("auth_failures", "dropped_messages", "book_divergences")
DAILY_RESYNCS = 10
"""Number that each book may have in a day. Of a shorter time its share, at least one."""
DAILY_RECONNECTS = 24
SNAPSHOT_AGE_SECONDS = 120.0


@dataclass(frozen=True)
class Criterion:
    """One measure of the runbook."""

    name: str
    figure: str
    limit: str
    met: bool

    def __str__(self) -> str:
        """Show it on one line."""
        return f"{self.name} {self.figure} ({self.limit}: {'met' if self.met else 'NOT MET'})"


class FeedWatch:
    """Looks at the health of a feed every second, from its first subscription on. `criteria` are of the time until now."""

    def __init__(self, health: Callable[[], BackpackHealthReport], clock: Callable[[], float] = monotonic) -> None:
        self._health = health
        self._clock = clock
        self._began: float | None = None
        self._looks = 0
        self._was_healthy = False
        self._minutes: list[list[int]] = []
        """Of each minute: number of looks, and of those that found all well. The time before the first one does not count."""
        self._oldest = 0.0
        self._metrics: Mapping[str, Any] | None = None
        """Of the last look: effects of the end of the feed are no trouble."""
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look every second, in the running loop. Harmless when it does already."""
        if self._timer is None:
            self._began = self._clock()
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._tick)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Look once."""
        report = self._health()
        self._metrics = report.metrics
        self._looks += 1
        self._oldest = max([self._oldest, *report.metrics["symbol_snapshot_age"].values()])
        self._was_healthy = self._was_healthy or report.healthy
        if self._was_healthy:
            if not self._minutes or self._minutes[-1][0] == LOOKS_OF_A_LINE:
                self._minutes.append([0, 0])
            self._minutes[-1][0] += 1
            self._minutes[-1][1] += report.healthy
        if self._looks % LOOKS_OF_A_LINE == 0:
            self._log()

    def criteria(self) -> Sequence[Criterion]:
        """Return the criteria of the runbook, as they were at most a second ago."""
        metrics = self._health().metrics if self._metrics is None else self._metrics
        looks, healthy = min(self._minutes, key=lambda minute: minute[1] / minute[0], default=(0, 0))
        found = [
            Criterion(
                "healthy",
                f"{healthy} of {looks} checks of the worst minute" if looks else "never yet",
                f"at least {HEALTHY_SHARE:.0%}",
                looks > 0 and healthy >= HEALTHY_SHARE * looks,
            )
        ]
        found += [Criterion(name, str(metrics[name]), "0", metrics[name] == 0) for name in NONE_ALLOWED]
        days = 0.0 if self._began is None else (self._clock() - self._began) / DAY_SECONDS
        resyncs, reconnects = metrics["orderbook_resyncs"], metrics["ws_reconnects"]
        most = max(ceil(DAILY_RESYNCS * days), 1) * metrics["books_wanted"]
        limit = f"at most {most}: {DAILY_RESYNCS} a day for each book"
        found.append(Criterion("orderbook_resyncs", str(resyncs), limit, resyncs <= most))
        most = max(ceil(DAILY_RECONNECTS * days), 1)
        limit = f"at most {most}: {DAILY_RECONNECTS} a day"
        found.append(Criterion("ws_reconnects", str(reconnects), limit, reconnects <= most))
        limit = f"below {SNAPSHOT_AGE_SECONDS:.0f} s"
        return [*found, Criterion("symbol_snapshot_age", f"{self._oldest:.0f} s", limit, self._oldest < SNAPSHOT_AGE_SECONDS)]

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._tick)
        self.look()

    def _log(self) -> None:
        """Tell the log of the time until now."""
        criteria = self.criteria()
        level = logging.INFO if all(criterion.met for criterion in criteria) else logging.WARNING
        LOG.log(level, "BACKPACK: criteria: %s", "; ".join(map(str, criteria)))

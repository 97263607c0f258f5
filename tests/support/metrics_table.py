"""The tables of docs/observability.md: every metric, and every alert.

`python tests/support/metrics_table.py --write` keeps them. A test fails when the document says something else.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

from alert_scenarios import DEPLOY
from backpack_runtime.prometheus.families import METRICS, Metric

__all__ = ["ALERTS", "DOCUMENT", "Alert", "alerts", "document"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "observability.md"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"


class Alert(NamedTuple):
    """An alert of the file."""

    name: str
    expression: str
    after: str
    """Time that it has to last."""
    severity: str
    description: str


def alerts() -> list[Alert]:
    """Return the alerts in their order, read without a library for YAML: the file is written in one way."""
    found = []
    for part in re.split(r"\n      - alert: ", ALERTS.read_text(encoding="utf-8"))[1:]:
        expression = re.search(r"expr: (?:>-\n)?((?:.|\n)*?)\n        (?:for|labels):", part)
        after = re.search(r"\n        for: (\w+)", part)
        severity = re.search(r"severity: (\w+)", part)
        description = re.search(r'description: "(.*)"', part)
        assert expression is not None
        assert severity is not None
        assert description is not None
        name = part.partition("\n")[0]
        text = " ".join(expression[1].split())
        found.append(Alert(name, text, after[1] if after else "0", severity[1], description[1]))
    return found


def _unit(metric: Metric) -> str:
    for unit in ("seconds", "bytes"):
        if metric.name.removesuffix("_total").endswith(f"_{unit}"):
            return unit
    return "—"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "—"
    return f"| `{metric.name}` | {metric.kind.type} | {labels} | {_unit(metric)} | {metric.help} |"


def _alert_row(alert: Alert) -> str:
    expression = alert.expression.replace("|", "\\|")
    return f"| `{alert.name}` | {alert.severity} | `{expression}` | {alert.after} |"


def document() -> str:
    """Return the document with its tables as they should be."""
    text = DOCUMENT.read_text(encoding="utf-8")
    metrics = ["| name | type | labels | unit | meaning |", "|---|---|---|---|---|", *map(_row, METRICS)]
    rows = ["| alert | severity | when | for |", "|---|---|---|---|", *map(_alert_row, alerts())]
    for name, lines in (("metrics", metrics), ("alerts", rows)):
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        assert end, f"the document has no place for the {name}"
        text = "".join([before, begin, *(f"{line}\n" for line in lines), end, after])
    return text


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(document(), encoding="utf-8")
    else:
        print(document(), end="")

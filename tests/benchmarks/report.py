"""Results as a table, as JSON and as a chart."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from .figures import Figures, Summary, summarise
from .runs import Found, Interpreter

__all__ = ["as_json", "draw", "table", "why_no_chart"]

UNITS = {
    "book_kb": "KB a book",
    "import_ms": "ms",
    "modules": "modules",
    "p50_us": "p50 us",
    "p99_9_us": "p99.9 us",
    "p99_us": "p99 us",
    "peak_mb": "peak MB",
    "per_second": "frames/s",
    "start_ms": "start ms",
    "us_a_frame": "us a frame",
    "us_a_signature": "us a signature",
    "us_an_order": "us an order",
}
NAME_WIDTH = 48
WIDTH = 9


def summary(found: Found, case: str, figure: str, base: str | None = None) -> Summary | None:
    """Return what the rounds of a case come to, in one figure, compared with a case of the group: its base unless given."""
    rounds: dict[str, list[Figures | None]] = found.rounds
    return summarise(rounds.get(case, ()), rounds.get(base or found.group.base, ()), figure)


def table(found: Found) -> Iterable[str]:
    """Return the lines that show a group: behind each figure its ratio to each case that the group is compared with."""
    group = found.group
    against = ["x base", *(f"x {name.partition(':')[0]}" for name in group.beside)]
    heads = [UNITS[group.figure], "min", "max", *against]
    for name in group.columns:
        heads += [UNITS[name], *against]
    widths = [max(WIDTH, len(head) + 2) for head in heads]
    yield f"{group.name}: {group.title}; base: {group.base}"
    yield " " * NAME_WIDTH + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
    for case in group.cases:
        main = summary(found, case.name, group.figure)
        if main is None:
            continue
        cells = [f"{value:.2f}" for value in (main.median, main.minimum, main.maximum)]
        cells += _ratios(found, case.name, group.figure)
        for name in group.columns:
            other = summary(found, case.name, name)
            cells += ["" if other is None else f"{other.median:,.0f}", *_ratios(found, case.name, name)]
        failed = "  (failed in a round)" if case.name in found.failed else ""
        yield (
            f"{case.name:{NAME_WIDTH}}"
            + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
            + failed
        )
    for name, reason in found.could_not_run.items():
        yield f"could not run: {name}, because {reason}"
    for name, reason in found.failed.items():
        yield f"failed: {name}: {reason}"


def _ratios(found: Found, case: str, figure: str) -> Iterable[str]:
    for base in found.group.bases:
        one = summary(found, case, figure, base)
        yield "" if one is None or one.ratio is None else f"{one.ratio:.2f}"


def as_json(
    all_found: Sequence[Found], interpreters: Sequence[Interpreter], *, rounds: int, notes: Sequence[str]
) -> dict[str, Any]:
    """Return everything that was measured, each round of it."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "interpreters": [
            {"python": found.python, "versions": found.versions, "native": found.native} for found in interpreters
        ],
        "rounds": rounds,
        "groups": [_group(found) for found in all_found],
        "could_not_run": [
            {"group": found.group.name, "case": name, "reason": reason}
            for found in all_found
            for name, reason in found.could_not_run.items()
        ]
        + [{"group": "", "case": "chart", "reason": note} for note in notes],
        "failed": [
            {"group": found.group.name, "case": name, "reason": reason}
            for found in all_found
            for name, reason in found.failed.items()
        ],
    }


def _group(found: Found) -> dict[str, Any]:
    group = found.group
    cases = []
    for name, rounds in found.rounds.items():
        main = summary(found, name, group.figure)
        figures = sorted({figure for one in rounds if one is not None for figure in one})
        medians = {figure: median([one[figure] for one in rounds if one is not None and figure in one]) for figure in figures}
        shown = None if main is None else main._asdict()
        compared = {
            base: {
                figure: one.ratio
                for figure in (group.figure, *group.columns)
                if (one := summary(found, name, figure, base)) is not None and one.ratio is not None
            }
            for base in group.bases
        }
        cases.append({"name": name, "summary": shown, "ratios": compared, "medians": medians, "rounds": rounds})
    return {"name": group.name, "title": group.title, "bases": [*group.bases], "figure": group.figure, "cases": cases}


def why_no_chart() -> str | None:
    """Return why no chart can be drawn, or None if one can."""
    return None if importlib.util.find_spec("matplotlib") else "matplotlib is not installed"


def draw(all_found: Sequence[Found], path: Path) -> None:
    """Draw one row of bars for each group: medians, with lines from the smallest to the largest round."""
    import matplotlib as mpl  # noqa: PLC0415 - for charts alone

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - behind the choice of the backend

    drawn = [(found, _bars(found)) for found in all_found]
    drawn = [(found, bars) for found, bars in drawn if bars]
    heights = [1 + 0.32 * len(bars) for _, bars in drawn]
    figure, axes = plt.subplots(
        len(drawn), 1, figsize=(10, sum(heights)), squeeze=False, gridspec_kw={"height_ratios": heights}, layout="constrained"
    )
    for (found, bars), axis in zip(drawn, axes[:, 0], strict=True):
        names = [name for name, _ in bars]
        values = [one.median for _, one in bars]
        spans = [[one.median - one.minimum for _, one in bars], [one.maximum - one.median for _, one in bars]]
        colours = ["tab:orange" if name == found.group.base else "tab:blue" for name in names]
        axis.barh(names, values, xerr=spans, color=colours, ecolor="0.3", capsize=2)
        axis.invert_yaxis()
        axis.set_title(found.group.title, loc="left", fontsize=10)
        axis.set_xlabel(UNITS[found.group.figure], fontsize=8)
        axis.tick_params(labelsize=8)
        for at, (_, one) in enumerate(bars):
            shown = f"  {one.median:.3g}" if one.ratio is None else f"  {one.median:.3g} ({one.ratio:.2f} x)"
            axis.text(one.maximum, at, shown, va="center", fontsize=7)
        axis.margins(x=0.15)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _bars(found: Found) -> list[tuple[str, Summary]]:
    bars = [(case.name, summary(found, case.name, found.group.figure)) for case in found.group.cases]
    return [(name, one) for name, one in bars if one is not None]

"""Benchmarks, as ratios of one run: `python -m tests.benchmarks [GROUP ...]`.

Each case is a program in a process of its own. All cases of a group run in every round, in another order each time. `x base` is the
median of the ratios inside the rounds, and so is each other ratio. A case that does not deliver one event for each frame has failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

from .cases import GROUPS, PACED_SECONDS, Case, Group, Sizes, groups
from .figures import Figures
from .report import as_json, draw, table, why_no_chart
from .runs import Runner


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the groups that are asked for. The status is 1 if a case failed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    all_groups = groups(Sizes(options.frames, options.seconds))
    if unknown := [name for name in options.groups if not any(_is_meant(group, [name]) for group in all_groups)]:
        parser.error(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    chosen = [_with(group, options.case) for group in all_groups if _is_meant(group, options.groups)]
    chosen = [group for group in chosen if group.cases]
    runner = Runner(options.python or [sys.executable])
    for interpreter in runner.interpreters:
        libraries = ", ".join(f"{name} {version}" for name, version in interpreter.versions.items())
        print(f"Python {interpreter.python}, {'with' if interpreter.native else 'without'} native kernels: {libraries}")
    print(f"{options.rounds} rounds", flush=True)
    all_found = []
    for group in chosen:
        found = runner.run(group, options.rounds, _Progress(group, options.rounds))
        all_found.append(found)
        print("\n" + "\n".join(table(found)), flush=True)
    notes = []
    if options.png is not None:
        reason = why_no_chart()
        if reason is None:
            draw(all_found, options.png)
        else:
            notes.append(reason)
            print(f"could not run: the chart, because {reason}")
    if options.json is not None:
        content = as_json(all_found, runner.interpreters, rounds=options.rounds, notes=notes)
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(any(found.failed for found in all_found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "groups",
        nargs="*",
        metavar="GROUP",
        help=f"all, unless given: {', '.join(GROUPS)}; `targets` and `paced` are all whose names begin so",
    )
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="TEXT",
        help="only cases whose name has this in it, and those they are compared with",
    )
    parser.add_argument("--rounds", type=_positive, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--frames", type=_positive, default=Sizes.frames, metavar="N", help=f"of a blast (default: {Sizes.frames})"
    )
    parser.add_argument(
        "--seconds", type=float, default=PACED_SECONDS, metavar="S", help=f"of paced frames (default: {PACED_SECONDS})"
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="interpreter of the programs that are measured; several: each case takes the first one that has its libraries",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round of every case")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw a chart; needs matplotlib")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1, got {value}")
    return value


def _is_meant(group: Group, names: Sequence[str]) -> bool:
    return not names or any(group.name == name or group.name.partition("-")[0] == name for name in names)


def _with(group: Group, texts: Sequence[str]) -> Group:
    """Return the group with the cases that are asked for, and those that they are compared with."""
    if not texts:
        return group
    cases = [case for case in group.cases if any(text in case.name for text in texts)]
    bases = [case for case in group.cases if case.name in group.bases and case not in cases]
    return replace(group, cases=(*bases, *cases) if cases else ())


class _Progress:
    """A line on standard error for what is done. On a terminal always the same line."""

    def __init__(self, group: Group, rounds: int) -> None:
        self._group = group
        self._rounds = rounds
        self._began = monotonic()

    def __call__(self, number: int, at: int, case: Case, figures: Figures | None) -> None:
        shown = "failed" if figures is None else f"{figures[self._group.figure]:.2f}"
        spent = monotonic() - self._began
        line = (
            f"{self._group.name}: round {number + 1} of {self._rounds}, "
            f"case {at + 1} of {len(self._group.cases)}, {spent:.0f} s: {case.name} {shown}"
        )
        terminal = sys.stderr.isatty()
        print(f"\r{line:<120.120}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The simulation as a program: python -m tests.simulation --hours 2 --seed 7."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from .run import KINDS, Report, explain, plan_for, run_plan
from .schedule import Plan
from .world import Violation


def main() -> int:
    """Run the seeds that are asked for. The status is 1 if a check failed, or one of a whole sweep was never made."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="of virtual time, for each seed")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--books", type=int, help="how many books are followed; drawn, if not given")
    parser.add_argument("--faults", help=f"kinds of faults, with commas between them: {', '.join(KINDS)}")
    parser.add_argument("--plan", type=Path, help="a file with a plan, to run in place of those of seeds")
    parser.add_argument("--print-plan", action="store_true", help="print each plan before it is run")
    parser.add_argument("--complete", action="store_true", help="fail if a fault never fired or a check was never made")
    arguments = parser.parse_args()
    only = tuple(arguments.faults.split(",")) if arguments.faults else ()
    if unknown := [kind for kind in only if kind not in KINDS]:
        parser.error(f"--faults: no such kind: {', '.join(unknown)}")
    if arguments.plan is not None:
        plans = [Plan.from_json(arguments.plan.read_text())]
    else:
        seeds = range(arguments.seed, arguments.seed + arguments.seeds)
        plans = [plan_for(seed, arguments.hours, books=arguments.books, only=only) for seed in seeds]
    total = Report(faults=Counter(), checked=Counter())
    failed = False
    for plan in plans:
        if arguments.print_plan:
            print(plan.to_json())
        started = time.perf_counter()
        try:
            report = run_plan(plan)
        except Violation as violation:
            failed = True
            print(explain(plan, violation), flush=True)
            continue
        total.add(report)
        took = time.perf_counter() - started
        print(f"seed {plan.seed}: {report.hours:.2f} h in {took:.1f} s, sha256 {report.digest}", flush=True)
    print(total)
    missing = total.missing(only or tuple(KINDS)) if arguments.complete else []
    print("\n".join(missing))
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())

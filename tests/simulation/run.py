"""Runs: one plan, a report of it, a sweep over seeds, and the smallest schedule that still fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from msgspec import Struct

from backpack_proto.session import Session

from .checks import CHECKS
from .faults import FAULTS, FRAME_FAULTS
from .schedule import BUSY_BOOKS, Episode, Plan, draw_plan
from .world import Violation, World

__all__ = ["KINDS", "Report", "explain", "plan_for", "processes", "run_plan", "shrink", "sweep", "sweep_seeds"]

KINDS = {name: (fault.shortest_ms, fault.longest_ms) for name, fault in FAULTS.items()}
BUSY_CHANGES_PER_S = 0.5
SHRINKING_RUNS = 40
ROOT = Path(__file__).parents[2]


class Report(Struct, kw_only=True):
    """Figures of one run, or of several."""

    hours: float = 0.0
    busy_hours: float = 0.0
    """Of these, hours with at least `BUSY_BOOKS` books in which something happened every other second."""
    episodes: int = 0
    data_frames: int = 0
    frame_faults: int = 0
    faults: Counter[str]
    checked: Counter[str]
    digest: str = ""

    def add(self, other: Report) -> None:
        """Take in the figures of one more run."""
        self.hours += other.hours
        self.busy_hours += other.busy_hours
        self.episodes += other.episodes
        self.data_frames += other.data_frames
        self.frame_faults += other.frame_faults
        self.faults.update(other.faults)
        self.checked.update(other.checked)

    def missing(self, kinds: Collection[str] = tuple(KINDS)) -> list[str]:
        """Return the faults that never did harm, and the checks that were never made."""
        never = [f"fault {kind} never fired" for kind in kinds if not self.faults[kind]]
        return never + [f"check {name!r} was never made" for name in CHECKS if not self.checked[name]]

    def __str__(self) -> str:
        lines = [
            f"{self.hours:.2f} h, {self.busy_hours:.2f} h of them with {BUSY_BOOKS} busy books or more",
            f"{self.episodes} episodes, {self.frame_faults} frame faults, {self.data_frames} data frames",
            "faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items())),
            "checks: " + ", ".join(f"{name} {count}" for name, count in sorted(self.checked.items())),
        ]
        if self.digest:
            lines.append(f"sha256 {self.digest}")
        return "\n".join(lines)


def plan_for(seed: int, hours: float, *, books: int | None = None, only: Collection[str] = ()) -> Plan:
    """Return the plan of a seed."""
    return draw_plan(seed, hours, KINDS, books=books, only=only)


def run_plan(plan: Plan, kind: type[Session] = Session) -> Report:
    """Run a plan to its end.

    Raises:
        Violation: a check failed.
    """
    world = World(plan, kind=kind)
    world.run()
    world.finish()
    hours = plan.duration_ms / 3_600_000
    seconds = plan.duration_ms / 1_000
    busy = sum(market.changes >= BUSY_CHANGES_PER_S * seconds for market in map(world.truth.markets.get, plan.books) if market)
    return Report(
        hours=hours,
        busy_hours=hours if busy >= BUSY_BOOKS else 0.0,
        episodes=len(plan.episodes),
        data_frames=world.network.data_frames,
        frame_faults=sum(world.faults[kind_of] for kind_of in FRAME_FAULTS),
        faults=world.faults,
        checked=world.checked,
        digest=world.digest,
    )


def sweep(plans: Iterable[Plan], *, most_runs: int = SHRINKING_RUNS) -> tuple[Report, list[str]]:
    """Run plans one after the other. Return the figures of those that hold, and what is wrong with each of the others."""
    total = Report(faults=Counter(), checked=Counter())
    wrong: list[str] = []
    for plan in plans:
        try:
            total.add(run_plan(plan))
        except Violation as violation:
            wrong.append(explain(plan, violation, most_runs=most_runs))
    return total, wrong


def sweep_seeds(seeds: Iterable[int], hours: float, *, most_runs: int = SHRINKING_RUNS) -> tuple[Report, list[str]]:
    """Do the same for the plans of seeds, on all processors."""
    total = Report(faults=Counter(), checked=Counter())
    wrong: list[str] = []
    with processes() as pool:
        for report, found in pool.map(_sweep_seed, ((seed, hours, most_runs) for seed in seeds)):
            total.add(report)
            wrong += found
    return total, wrong


def processes(*, without: Iterable[str] = ()) -> ProcessPoolExecutor:
    """Return processes, as many as there are processors, that can run plans and do not find some modules."""
    # Spawned, for a process with threads must not be forked. A new process knows this package by its folder only: pytest imports
    # tests without adding their root to the path.
    begin = f"import site, sys; site.addsitedir({str(ROOT)!r}); sys.modules.update(dict.fromkeys({tuple(without)!r}))"
    return ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=exec, initargs=(begin,))


def _sweep_seed(of: tuple[int, float, int]) -> tuple[Report, list[str]]:
    seed, hours, most_runs = of
    return sweep([plan_for(seed, hours)], most_runs=most_runs)


def explain(plan: Plan, violation: Violation, *, most_runs: int = SHRINKING_RUNS) -> str:
    """Return a violation in words, with its seed and the smallest schedule that was found for it."""
    smallest = shrink(plan, violation, most_runs=most_runs)
    enough = f"{len(smallest.episodes)} of {len(plan.episodes)} episodes are enough, for --plan:"
    return f"seed {plan.seed}: VIOLATION: {violation}\n{enough}\n{smallest.to_json()}"


def shrink(plan: Plan, violation: Violation, kind: type[Session] = Session, *, most_runs: int = SHRINKING_RUNS) -> Plan:
    """Return the smallest plan found that fails the same check: cut at the failure, and without each episode that it does not need."""
    runs = 0

    def fails(candidate: Plan) -> bool:
        nonlocal runs
        runs += 1
        try:
            run_plan(candidate, kind)
        except Violation as found:
            return found.check == violation.check
        return False

    smallest = plan
    cut = plan.until(violation.at_ms + 1_000)
    if fails(cut):
        smallest = cut
    chunk = max(len(smallest.episodes) // 2, 1)
    while chunk and runs < most_runs:
        start = 0
        while start < len(smallest.episodes) and runs < most_runs:
            dropped = smallest.episodes[start : start + chunk]
            candidate = _without(smallest, dropped)
            if fails(candidate):
                smallest = candidate
            else:
                start += chunk
        chunk //= 2
    return smallest


def _without(plan: Plan, episodes: tuple[Episode, ...]) -> Plan:
    for episode in episodes:
        plan = plan.without(episode)
    return plan

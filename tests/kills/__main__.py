"""Trading programs killed with -9, as a program: python -m tests.kills --runs 1000."""

from __future__ import annotations

import argparse
import time

import anyio

from .runs import run_seeds


def main() -> None:
    """Run the seeds that are asked for, and print what was seen. What does not hold is raised."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--runs", type=int, default=50, help="how many programs are killed")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--at-once", type=int, default=3, help="how many at the same time")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.runs)
    begun = time.monotonic()

    async def run() -> None:
        seen = await run_seeds(seeds, at_once=arguments.at_once)
        print(
            f"{arguments.runs} programs killed and restarted in {time.monotonic() - begun:.0f} s, nothing sent twice or unresolved"
        )
        print(", ".join(f"{what}: {count}" for what, count in sorted(seen.items())))

    anyio.run(run)


if __name__ == "__main__":
    main()

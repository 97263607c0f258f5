"""Publishers killed with -9, as a program: python -m tests.redundancy --kills 50."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from .runs import run_kills


def main() -> None:
    """Run the kills that are asked for, and print what was seen. What does not hold is raised."""
    parser = argparse.ArgumentParser(prog="python -m tests.redundancy", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how many publishers are killed")
    parser.add_argument("--seed", type=int, default=0, help="decides who is killed when")
    parser.add_argument("--restart-every", type=int, default=5, help="restart the engine at every so manieth kill; 0: never")
    arguments = parser.parse_args()
    begun = time.monotonic()

    async def run() -> None:
        seen = await run_kills(arguments.kills, seed=arguments.seed, restart_every=arguments.restart_every)
        print(
            f"{seen.kills} publishers killed and {seen.restarts} restarts of the engine in {time.monotonic() - begun:.0f} s:"
            f" {len(seen.events)} events and {len(seen.ids)} messages, nothing lost, nothing doubled"
        )

    anyio.run(run)


if __name__ == "__main__":
    main()

"""What goes wrong when: one value, drawn from one seed, that can be printed, replayed and shrunk.

Storms alternate with calms. A storm is a handful of episodes that overlap. A calm lasts at least `CALM_MS`, long enough for everything to
become well again and to be seen so. Each seed draws the kinds of faults that it knows, the markets, and how busy they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from random import Random

import msgspec
from msgspec import Struct
from msgspec.structs import replace

__all__ = ["CALM_MS", "Episode", "Plan", "draw_plan"]

CALM_MS = 300_000
FIRST_STORM_MS = 120_000
STORM_MS = (60_000, 200_000)
EPISODES = (12, 26)
BUSY_SPEED = (0.024, 0.045)
"""Speeds of the simulated markets at which something happens to a book about every second."""
QUIET_SPEEDS = (0.0, 0.0004, 0.002, 0.01)
BUSY_BOOKS = 5
REAL_MARKETS = (
    "BTC_USDC_PERP",
    "SOL_USDC_PERP",
    "SOL_USDC",
    "AAPL.US_USDC_PERP",
    "kPEPE_USDC_PERP",
)
SMALL_MARKETS = tuple(f"S{number}_USDC" for number in range(1, 7))
"""Markets with shallow books."""
DEPTH_FORMS = ("book", "book", "book", "book.200ms", "book.1000ms")


class Episode(Struct, frozen=True, gc=False, kw_only=True):
    """One fault, from when on and for how long. `seed` draws whatever else it needs."""

    kind: str
    start_ms: int
    duration_ms: int
    seed: int


class Plan(Struct, frozen=True, gc=False, kw_only=True):
    """Everything that a run depends on."""

    seed: int
    duration_ms: int
    books: Mapping[str, float]
    """The markets whose books are followed, and the speed of each."""
    channel: str = "book"
    trades: bool = False
    account: bool = True
    episodes: tuple[Episode, ...] = ()

    def to_json(self) -> str:
        """Return the plan as text. `from_json` reads it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan that `to_json` wrote."""
        return msgspec.json.decode(text, type=Plan)

    def without(self, episode: Episode) -> Plan:
        """Return the same without one episode."""
        return replace(self, episodes=tuple(other for other in self.episodes if other is not episode))

    def until(self, end_ms: int) -> Plan:
        """Return the same up to a moment."""
        episodes = tuple(episode for episode in self.episodes if episode.start_ms < end_ms)
        return replace(self, duration_ms=min(self.duration_ms, end_ms), episodes=episodes)


def draw_plan(
    seed: int,
    hours: float,
    kinds: Mapping[str, tuple[int, int]],
    *,
    books: int | None = None,
    only: Collection[str] = (),
) -> Plan:
    """Draw a plan.

    Args:
        seed: draws everything.
        hours: how long the run takes, in virtual time.
        kinds: the kinds of faults, each with the shortest and the longest duration in ms.
        books: how many books are followed. Drawn, if not given, and more than half of the seeds have `BUSY_BOOKS` busy ones.
        only: the kinds to draw from. All, if empty.
    """
    rng = Random(f"{seed}:plan")
    duration_ms = int(hours * 3_600_000)
    known = [kind for kind in kinds if kind in only] if only else [kind for kind in kinds if rng.random() < 0.7]
    # More than half of any seven seeds in a row.
    busy = seed % 2 == 0 or seed % 7 == 3
    count = books or (rng.randrange(BUSY_BOOKS, BUSY_BOOKS + 2) if busy else rng.randrange(1, 5))
    real = rng.sample(REAL_MARKETS, min(count, rng.randrange(1, 3)))
    small = [f"S{number}_USDC" for number in range(1, count - len(real) + 1)]
    speeds = {
        symbol: rng.uniform(*BUSY_SPEED) if busy or rng.random() < 0.3 else rng.choice(QUIET_SPEEDS)
        for symbol in [*real, *small]
    }
    return Plan(
        seed=seed,
        duration_ms=duration_ms,
        books=speeds,
        channel=rng.choice(DEPTH_FORMS),
        trades=rng.random() < 0.4,
        account=rng.random() < 0.7,
        episodes=_draw_episodes(rng, duration_ms, {kind: kinds[kind] for kind in known}),
    )


def _draw_episodes(rng: Random, duration_ms: int, kinds: Mapping[str, tuple[int, int]]) -> tuple[Episode, ...]:
    episodes: list[Episode] = []
    # Frame faults are many and short-lived in life, too.
    names = [kind for kind in kinds for _ in range(3 if kind.startswith("frames_") else 1)]
    storm_ms = rng.randrange(FIRST_STORM_MS // 2, FIRST_STORM_MS)
    # Nothing begins that a calm could not follow.
    while names and storm_ms + CALM_MS + STORM_MS[1] <= duration_ms:
        length_ms = rng.randrange(*STORM_MS)
        end_ms = storm_ms + length_ms
        for _ in range(rng.randrange(*EPISODES)):
            kind = rng.choice(names)
            shortest, longest = kinds[kind]
            wanted_ms = rng.randrange(shortest, longest + 1)
            start_ms = rng.randrange(storm_ms, max(end_ms - wanted_ms, end_ms - length_ms // 2))
            lasting_ms = min(wanted_ms, end_ms - start_ms)
            episodes.append(Episode(kind=kind, start_ms=start_ms, duration_ms=lasting_ms, seed=rng.getrandbits(32)))
        storm_ms = end_ms + CALM_MS + rng.randrange(60_000)
    return tuple(sorted(episodes, key=lambda episode: episode.start_ms))

"""The short way of plain frames is the long way: whatever goes wrong, the same outputs, deadlines, figures and books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from random import Random
from typing import Any

import pytest

from backpack_proto.inputs import Given, TextReceived
from backpack_proto.machine import Now
from backpack_proto.outputs import Output
from backpack_proto.session import Session
from tests.simulation.run import plan_for, run_plan

TEXTS: Counter[str] = Counter()


class Twins(Session):
    """A session that takes the short way where it can, beside one that never does."""

    def __init__(self, random: Random, **options: Any) -> None:
        """Both draw the same."""
        self._long = Session(deepcopy(random), **options)
        super().__init__(random, **options)

    def handle_all(self, batch: Sequence[Given], now: Now, ends: list[int] | None = None) -> list[Output]:
        TEXTS["all"] += sum(type(given) is TextReceived for given in batch)
        long, long_ends = list[Output](), list[int]()
        for given in batch:
            long += self._long.handle(given, now)
            long_ends.append(len(long))
        deadline_us = self.deadline
        short_ends = list[int]() if ends is None else ends
        short = super().handle_all(batch, now, short_ends)
        assert short_ends == long_ends
        if self.plain:
            assert self.deadline is None or (deadline_us is not None and self.deadline >= deadline_us)
        assert list(map(repr, short)) == list(map(repr, long))
        assert self.deadline == self._long.deadline
        assert self.metrics(now) == self._long.metrics(now)
        assert self.health(now) == self._long.health(now)
        return short

    def handle(self, given: Given, now: Now) -> Sequence[Output]:
        TEXTS["long"] += type(given) is TextReceived
        return super().handle(given, now)


# The market of 43 never moves.
@pytest.mark.parametrize("seed", [41, 42, 44, 45])
def test_no_fault_tells_the_two_ways_apart(seed: int) -> None:
    TEXTS.clear()
    run_plan(plan_for(seed, 0.2), Twins)
    assert TEXTS["all"] - TEXTS["long"] > 500

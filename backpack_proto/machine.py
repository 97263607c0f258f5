"""The one shape of every state machine: something is given at a time, outputs are returned.

Time is an argument and a timer is data. A machine never reads a clock: it publishes `deadline`, and its driver gives it
`TimerFired` once that moment has come. Outputs leave by the call that caused them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Generic, NamedTuple, Protocol, TypeVar

from .errors import LocalProtocolError

__all__ = ["Machine", "Now", "Timers", "Transitions", "due", "earliest"]

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)
State = TypeVar("State", bound=Enum)
Key = TypeVar("Key", bound=Hashable)


class Now(NamedTuple):
    """One moment, on two clocks that must never be mixed."""

    mono_us: int
    """Monotonic clock in microseconds, for deadlines only."""

    unix_us: int
    """Wall clock, microseconds since the epoch, for signatures and latency only."""


class Machine(Protocol[In_contra, Out_co]):
    """Interface of every machine of the core, `Session` included."""

    @property
    def deadline(self) -> int | None:
        """When to give `TimerFired`, on `Now.mono_us`. None wants no timer. Reading it has no effect."""
        ...

    def handle(self, given: In_contra, now: Now) -> Sequence[Out_co]:
        """Take one input and return its outputs from it.

        Raises:
            LocalProtocolError: the input is impossible in this state. The state is unchanged.
        """
        ...


def earliest(*deadlines: int | None) -> int | None:
    """The first of some deadlines, or None when no timer is wanted."""
    # A loop, for this is asked at every turn of every pump.
    first: int | None = None
    for deadline in deadlines:
        if deadline is not None and (first is None or deadline < first):
            first = deadline
    return first


def due(deadline: int | None, now: Now) -> bool:
    """Tell whether a deadline has come: the guard of every machine against a `TimerFired` that is early."""
    return deadline is not None and deadline <= now.mono_us


class Transitions(Generic[State]):
    """The allowed steps of a machine as data: (state, type of input, next state) triples."""

    def __init__(self, edges: Iterable[tuple[State, type, State]]) -> None:
        self.edges = frozenset(edges)
        self._accepted = frozenset((state, given) for state, given, _ in self.edges)

    def check(self, state: State, given: object) -> None:
        """Refuse an input that has no edge out of this state.

        Raises:
            LocalProtocolError: naming the state and the input.
        """
        if (state, type(given)) not in self._accepted:
            raise LocalProtocolError(f"{type(given).__name__} is impossible in {type(state).__name__}.{state.name}")

    def step(self, state: State, given: object, to: State) -> State:
        """Return `to` if the table has that edge. A machine that asks for another one has a bug."""
        if (state, type(given), to) not in self.edges:
            raise AssertionError(f"no edge {state.name} --{type(given).__name__}--> {to.name}")
        return to


class Timers(Generic[Key]):
    """Deadlines by name, the timers of one machine or the machines of one session, with the earliest at hand in constant time.

    Hundreds of books share one session, and `deadline` is read on every turn of the pump: no walk over all of them.
    """

    def __init__(self) -> None:
        self._current: dict[Key, tuple[int, int]] = {}
        """Deadline and number of the one entry of the heap that holds for a key."""
        self._heap: list[tuple[int, int, Key]] = []
        self._pushed = 0

    def set(self, key: Key, deadline: int | None) -> None:
        """Record one deadline. None takes it off."""
        current = self._current.get(key)
        if (None if current is None else current[0]) == deadline:
            return
        if deadline is None:
            del self._current[key]
        else:
            self._pushed += 1  # breaks ties in the order of arrival, so keys need no ordering
            self._current[key] = (deadline, self._pushed)
            heappush(self._heap, (deadline, self._pushed, key))
        if len(self._heap) > 64 + 4 * len(self._current):
            self._heap = [entry for entry in self._heap if self._holds(entry)]
            heapify(self._heap)
        # Entries that no longer hold leave from the top at once, so that `earliest` is a pure read.
        while self._heap and not self._holds(self._heap[0]):
            heappop(self._heap)

    @property
    def earliest(self) -> int | None:
        """The first deadline of all, or None."""
        return self._heap[0][0] if self._heap else None

    def get(self, key: Key) -> int | None:
        """Return one deadline, None where it is not set."""
        current = self._current.get(key)
        return None if current is None else current[0]

    def cancel(self, *keys: Key) -> None:
        """Take off some deadlines, whether they are set or not."""
        for key in keys:
            self.set(key, None)

    def clear(self) -> None:
        """Take off all deadlines."""
        self._current.clear()
        self._heap.clear()

    def take(self, mono_us: int) -> list[Key]:
        """Return those whose deadline has come, earliest first, and take them off."""
        taken = self.due(mono_us)
        self.cancel(*taken)
        return taken

    def due(self, mono_us: int) -> list[Key]:
        """Return those whose deadline has come, earliest first. Each stays recorded until `set` again."""
        if not self._heap or self._heap[0][0] > mono_us:
            return []
        # The number decides before the key does, so keys are never compared.
        return [key for _, _, key in sorted(entry for entry in self._heap if entry[0] <= mono_us and self._holds(entry))]

    def _holds(self, entry: tuple[int, int, Key]) -> bool:
        return self._current.get(entry[2]) == entry[:2]
